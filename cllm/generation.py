"""Text from a model.

Promises: the same model, prompt, sampling and seed give the same text, however it is streamed;
nothing comes after the end of the text (<EOS>).
Leaves out: how a token is drawn (`cllm.Sampling`), and how the window slides (`Model.feed`).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from cllm.check import check_size
from cllm.decoder import Sampling
from cllm.model import Model
from cllm.text.tokenizer import BOS, EOS

CHUNK = 8
"""Tokens drawn in one call; only how smoothly the text streams depends on it."""


def generate_tokens(
    model: Model, prompt: NDArray[np.int32], count: int, sampling: Sampling, seed: int
) -> Iterator[int]:
    """Up to `count` token ids that follow the beginning of a text and the prompt (n,) int32.

    Ends before <EOS>. The i-th token is decided by the i-th number of
    `numpy.random.default_rng(seed)`. Raises `CllmError` at once for a count out of range.
    """
    check_size("count", count)
    return _generate(model, prompt, count, sampling, np.random.default_rng(seed))


def _generate(
    model: Model,
    prompt: NDArray[np.int32],
    count: int,
    sampling: Sampling,
    generator: np.random.Generator,
) -> Iterator[int]:
    model.reset()
    model.feed(np.concatenate([[BOS], prompt]).astype(np.int32))
    for start in range(0, count, CHUNK):
        uniforms = generator.random(min(CHUNK, count - start))
        for token in model.generate(len(uniforms), sampling, uniforms).tolist():
            if token == EOS:
                return
            yield token
