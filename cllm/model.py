"""The interface that every implementation offers.

Promises: a subclass sees only token ids in 0..V-1, shapes that its plan allows, and calls in an
order that makes sense. A subclass gives the underscored methods.
Leaves out: the network (`cllm.reference`, `cllm.optimized`), training and text.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cllm.check import MAX_SIZE, check_number, check_size
from cllm.decoder import Decoder
from cllm.errors import CllmError
from cllm.lattice.parts import TERMS
from cllm.plan import Operation

IGNORED = -1
"""A target that is not counted."""

ACTIVATIONS = ("x0", "ln1", "qkv", "attn", "x_mid", "ln2", "ff", "x_out", "logits")
"""Common names, compared after `forward`; all but the first and last as `layer0.ln1`."""


@dataclass(frozen=True)
class Update:
    """One step of Adam (Kingma & Ba 2014) with decoupled weight decay (Loshchilov & Hutter 2017).

    Raises `CllmError` for values outside their range.
    """

    step: int
    """Counts from 1; the moments are bias-corrected by it."""
    learning_rate: float
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    """Added outside the square root."""
    weight_decay: float = 0.0
    """Every parameter loses learning_rate · weight_decay of itself."""
    clip: float | None = None
    """Largest global norm of the gradients; larger ones are scaled down to it. None: off."""

    def __post_init__(self) -> None:
        # A training loop makes one each step: what is plainly right passes in one test. What is
        # not is refused by its name, or is right in another type.
        if (
            type(self.step) is int
            and 1 <= self.step <= MAX_SIZE
            and type(self.learning_rate) is float
            and 0.0 <= self.learning_rate < math.inf
            and type(self.beta1) is float
            and 0.0 <= self.beta1 < 1.0
            and type(self.beta2) is float
            and 0.0 <= self.beta2 < 1.0
            and type(self.epsilon) is float
            and 0.0 < self.epsilon < math.inf
            and type(self.weight_decay) is float
            and 0.0 <= self.weight_decay < math.inf
            and (self.clip is None or (type(self.clip) is float and 0.0 < self.clip < math.inf))
        ):
            return
        check_size("step", self.step)
        check_number("learning_rate", self.learning_rate, 0.0, math.inf)
        check_number("beta1", self.beta1, 0.0, 1.0)
        check_number("beta2", self.beta2, 0.0, 1.0)
        check_number("epsilon", self.epsilon, 0.0, math.inf, open_below=True)
        check_number("weight_decay", self.weight_decay, 0.0, math.inf)
        if self.clip is not None:
            check_number("clip", self.clip, 0.0, math.inf, open_below=True)


def update_rows(updates: Sequence[Update]) -> NDArray[np.float64]:
    """The numbers of k updates (k,7) in the order of their fields; clip is infinite where off."""
    rows = [
        (
            update.step,
            update.learning_rate,
            update.beta1,
            update.beta2,
            update.epsilon,
            update.weight_decay,
            math.inf if update.clip is None else update.clip,
        )
        for update in updates
    ]
    return np.array(rows, np.float64)


class Model(Decoder):
    """The Crystalline Lattice Language Model over buffers that are handed in.

    The order of calls is forward, loss, backward, update; `step` is all of it in one. Every
    method raises `CllmError` for input out of range and `RuntimeError` for a call out of order.
    """

    def forward(self, tokens: NDArray[np.int32]) -> NDArray[Any]:
        """Logits (B',T',V) of tokens (B',T') int32; a view that the next call overwrites."""
        self._require(Operation.EVALUATION)
        tokens = self._check_batch("tokens", tokens, 0)
        self._shape = tokens.shape
        self.activations()["tokens"][...] = tokens
        self._done = "nothing"
        self._forward(*self._shape)
        self._done = "forward"
        return self.activations()["logits"]

    def loss(self, targets: NDArray[np.int32], divisor: float | None = None) -> float:
        """Sum over counted targets (B',T') int32 of -log softmax(logits)[target] / divisor.

        After `forward` of the same batch. A target of -1 is not counted; `divisor` defaults to
        the number of counted targets. None counted: 0. (A complex number in complex128.) Where the
        lattice has a loss, each counted target brings `lattice_loss` along.
        """
        self._require(Operation.EVALUATION, after="forward")
        targets = self._check_batch("targets", targets, IGNORED, self._shape)
        if divisor is None:
            divisor = max(1, int(np.count_nonzero(targets >= 0)))
        self._divisor = _check_divisor(divisor)
        self.activations()["targets"][...] = targets
        loss: float = self._loss(*self._shape, self._divisor)
        self._done = "loss"
        return loss

    @property
    def lattice_terms(self) -> dict[str, Any]:
        """The terms of the lattice loss by name, as the last `loss` or step found them.

        Empty where the lattice has no loss. (Complex numbers in complex128.)
        """
        if not self.config.lattice.loss:
            return {}
        self._require_planned(Operation.EVALUATION)
        _, *terms = self._buffers_given["lattice_terms"].tolist()
        return dict(zip(TERMS, terms, strict=True))

    @property
    def lattice_loss(self) -> Any:
        """The weighted sum of `lattice_terms`; 0 where the lattice has no loss."""
        terms = self.lattice_terms
        weights = dict(zip(TERMS, self.config.lattice.loss_weights, strict=True))
        return sum((weights[name] * term for name, term in terms.items()), 0.0)

    def backward(self) -> None:
        """Add the gradient of the last `loss` to the gradients; consumes the activations."""
        self._require(Operation.TRAINING, after="loss")
        self._done = "nothing"
        self._backward(*self._shape, self._divisor)

    def zero_gradients(self) -> None:
        """Set all gradients to zero."""
        self._require(Operation.TRAINING)
        self.gradients.fill(0)

    def update(self, update: Update) -> None:
        """Move the parameters by the gradients; the derived buffers follow."""
        self._require(Operation.TRAINING)
        _check_update("update", update)
        self._done = "nothing"
        self._context_length = 0
        self._update(update)

    def step(
        self,
        tokens: NDArray[np.int32],
        targets: NDArray[np.int32],
        update: Update,
        divisor: float | None = None,
    ) -> float:
        """One whole training step; returns the loss before it.

        What the gradients held before is ignored; what they hold afterwards is unspecified.
        """
        self._require(Operation.TRAINING)
        _check_update("update", update)
        if divisor is not None:
            _check_divisor(divisor)
        counted = self._take(tokens, targets)
        self._done = "nothing"
        self._context_length = 0
        return self._step(*self._shape, max(1, counted) if divisor is None else divisor, update)

    def steps(
        self, tokens: NDArray[np.int32], targets: NDArray[np.int32], updates: Sequence[Update]
    ) -> NDArray[np.float64]:
        """k whole steps over tokens and targets (k,B',T') int32; returns their losses (k,) float64.

        The batches are copied; where one is bad, or an update, all are refused before the first.
        """
        self._require(Operation.TRAINING)
        axes = ("k", "B", "T")
        tokens = self._check_batch("tokens", tokens, 0, axes=axes)
        targets = self._check_batch("targets", targets, IGNORED, tokens.shape[1:], axes)
        if not len(tokens) == len(targets) == len(updates):
            raise CllmError(
                "steps needs as many batches of tokens and targets as updates: "
                f"got {len(tokens)}, {len(targets)} and {len(updates)}"
            )
        for i, update in enumerate(updates):
            if not isinstance(update, Update):  # the name is made only where it is needed
                _check_update(f"updates[{i}]", update)
        if len(updates) == 0:
            return np.empty(0)
        counted = np.count_nonzero(targets >= 0, axis=(1, 2))
        self._shape = tokens.shape[1:]
        self._done = "nothing"
        self._context_length = 0
        return self._steps(*self._shape, tokens, targets, np.maximum(counted, 1.0), updates)

    def _take(self, tokens: NDArray[np.int32], targets: NDArray[np.int32]) -> int:
        """Check tokens and targets (B',T'), then copy both; returns how many targets count.

        An implementation may do it faster, and leave to this what it does not take.
        """
        tokens = self._check_batch("tokens", tokens, 0)
        targets = self._check_batch("targets", targets, IGNORED, tokens.shape)
        self._shape = tokens.shape
        views = self.activations()
        views["tokens"][...] = tokens
        views["targets"][...] = targets
        return int(np.count_nonzero(targets >= 0))

    def _check_batch(
        self,
        name: str,
        ids: NDArray[np.int32],
        lowest: int,
        shape: tuple[int, ...] | None = None,
        axes: tuple[str, ...] = ("B", "T"),
    ) -> NDArray[np.int32]:
        """A C-contiguous copy of the ids: what was checked is used, whoever writes to theirs."""
        if not isinstance(ids, np.ndarray) or ids.ndim != len(axes):
            raise CllmError(f"{name} must be an array ({','.join(axes)})")
        of_one = name if len(axes) == 2 else f"a batch of {name}"
        found, most = ids.shape[-2:], (self._plan.batch_size, self._plan.seq_len)
        if not (1 <= found[0] <= most[0] and 1 <= found[1] <= most[1]):
            raise CllmError(f"{of_one} must have a shape in (1,1)..{most}: got {found}")
        if shape is not None and found != shape:
            raise CllmError(f"{of_one} must have shape {shape}: got {found}")
        ids = np.array(ids, order="C")
        self._check_ids(name, ids, lowest)
        return ids

    # -- what an implementation gives: the parts that it has ---------------------------------

    @abstractmethod
    def _forward(self, batch_size: int, seq_len: int) -> None:
        """From `tokens` to `logits`."""

    @abstractmethod
    def _loss(self, batch_size: int, seq_len: int, divisor: float) -> Any:
        """From `logits` and `targets` to the loss.

        Where the lattice has one, `lattice_terms` (4,) get the mean of |E_i|² and the three terms.
        """

    def _backward(self, batch_size: int, seq_len: int, divisor: float) -> None:
        """Add to `gradients`."""
        raise NotImplementedError

    def _update(self, update: Update) -> None:
        """From `gradients` and the moments to `parameters`."""
        raise NotImplementedError

    def _step(self, batch_size: int, seq_len: int, divisor: float, update: Update) -> float:
        """All of it; an implementation may fuse it."""
        self.gradients.fill(0)
        self._forward(batch_size, seq_len)
        loss: float = self._loss(batch_size, seq_len, divisor)
        self._backward(batch_size, seq_len, divisor)
        self._update(update)
        return loss

    def _steps(
        self,
        batch_size: int,
        seq_len: int,
        tokens: NDArray[np.int32],
        targets: NDArray[np.int32],
        divisors: NDArray[np.float64],
        updates: Sequence[Update],
    ) -> NDArray[np.float64]:
        """Step after step, k >= 1 of them; an implementation may take them in one go.

        tokens and targets (k,B',T') and divisors (k,) are C-contiguous and lie in no buffer.
        """
        views = self.activations()
        losses = np.empty(len(updates))
        for i, update in enumerate(updates):
            views["tokens"][...] = tokens[i]
            views["targets"][...] = targets[i]
            losses[i] = self._step(batch_size, seq_len, float(divisors[i]), update)
        return losses


def _check_update(name: str, update: object) -> None:
    if not isinstance(update, Update):
        raise CllmError(f"{name} must be a cllm.Update: got {type(update).__name__}")


def _check_divisor(divisor: float) -> float:
    return check_number("divisor", divisor, 0.0, math.inf, open_below=True)
