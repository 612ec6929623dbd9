"""The generating half of the interface: a decoder with a key/value cache.

Promises: its logits are those of the training forward over `context`; the same uniforms draw the
same tokens, in one call or in chunks.
Leaves out: text (`cllm.generation`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cllm.check import check_array, check_number, check_size
from cllm.errors import CllmError
from cllm.plan import Operation
from cllm.planned import Planned


@dataclass(frozen=True)
class Sampling:
    """How the next token is drawn from the logits; raises `CllmError` for values out of range.

    By falling logit, equal ones by rising id, the `top_k` first are kept, of these the fewest
    whose probability reaches `top_p` (Holtzman et al. 2019); one of them is drawn, by rising id.
    """

    temperature: float = 1.0
    """Divides the logits; 0 takes the most probable token."""
    top_k: int | None = None
    top_p: float = 1.0

    def __post_init__(self) -> None:
        check_number("temperature", self.temperature, 0.0, math.inf)
        if self.top_k is not None:
            check_size("top_k", self.top_k)
        if self.top_p != 1.0:
            check_number("top_p", self.top_p, 0.0, 1.0, open_below=True)


class Decoder(Planned):
    """Generation, one token after another, over a window of T tokens."""

    def reset(self) -> None:
        """Forget the context of the decoder."""
        self._require(Operation.GENERATION)
        self._context_length = 0

    @property
    def context(self) -> NDArray[np.int32]:
        """The tokens (n,) that the next logits depend on, n <= T."""
        return self._buffers_given["window"][: self._context_length].copy()

    def feed(self, tokens: NDArray[np.int32]) -> NDArray[Any]:
        """Append tokens (n,) int32, n >= 1, to the context; the logits (V,) of what comes next.

        A full window slides: its last floor(T/2) tokens are fed again from position 0, so that
        the logits are always those of `forward` of `context`. Raises `FloatingPointError` where
        they are not finite.
        """
        self._require(Operation.GENERATION)
        if not isinstance(tokens, np.ndarray) or tokens.ndim != 1 or len(tokens) < 1:
            raise CllmError("tokens to feed must be an array (n,) of at least one token")
        tokens = np.asarray(tokens)
        self._check_ids("tokens", tokens, 0)
        for token in tokens.tolist():
            self._append(token)
        return self._finite_logits()

    def generate(
        self, count: int, sampling: Sampling, uniforms: NDArray[np.float64]
    ) -> NDArray[np.int32]:
        """Draw `count` tokens (n,) int32, each fed back; `uniforms` (n,) in [0,1) decide them.

        After a `feed`. The last token drawn is fed as well.
        """
        self._require(Operation.GENERATION)
        if self._context_length == 0:
            raise RuntimeError("generate needs a context: feed at least one token first")
        check_size("count", count)
        uniforms = np.asarray(check_array("uniforms", uniforms, (count,), np.float64))
        if np.count_nonzero((uniforms >= 0) & (uniforms < 1)) != count:  # faster than all()
            raise CllmError("uniforms must lie in [0, 1)")
        drawn = self._generate(count, sampling, uniforms)
        self._finite_logits()
        return drawn

    def _finite_logits(self) -> NDArray[Any]:
        """The logits (V,) of the next token, unless the network has left the range of numbers."""
        logits = self._buffers_given["next_logits"]
        if np.count_nonzero(np.isfinite(logits)) != logits.size:  # faster than all()
            self._context_length = 0
            raise FloatingPointError("the logits of the next token are not finite")
        return logits

    def _append(self, token: int) -> None:
        window = self._buffers_given["window"]
        if self._context_length == len(window):
            kept = len(window) // 2
            window[:kept] = window[len(window) - kept :].copy()
            for position in range(kept):
                self._decode(position)
            self._context_length = kept
        window[self._context_length] = token
        self._decode(self._context_length)
        self._context_length += 1

    def _generate(
        self, count: int, sampling: Sampling, uniforms: NDArray[np.float64]
    ) -> NDArray[np.int32]:
        drawn = np.empty(count, np.int32)
        for i, uniform in enumerate(uniforms.tolist()):
            drawn[i] = self._sample(sampling, uniform)
            self._append(int(drawn[i]))
        return drawn

    def _decode(self, position: int) -> None:
        """From the token at `position` of `window` and the cache to `next_logits`."""
        raise NotImplementedError

    def _sample(self, sampling: Sampling, uniform: float) -> int:
        """A token from `next_logits`."""
        raise NotImplementedError
