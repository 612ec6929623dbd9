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
from cllm.tokenizer import BOS, EOS

CHUNK = 8
"""Tokens drawn in one call; only how smoothly the text streams depends on it."""


def generate_tokens(
    model: Model, prompt: NDArray[np.int32], count: int, sampling: Sampling, seed: int
) -> Iterator[int]:
    """Up to `count` token ids that follow the beginning of a text and the prompt (n,) int32.

    Ends before <EOS>. The i-th token is decided by the i-th number of
    `numpy.random.default_rng(seed)`.
    """
    check_size("count", count)
    uniforms = np.random.default_rng(seed).random(count)
    model.reset()
    model.feed(np.concatenate([[BOS], prompt]).astype(np.int32))
    for start in range(0, count, CHUNK):
        part = uniforms[start : start + CHUNK]
        for token in model.generate(len(part), sampling, part).tolist():
            if token == EOS:
                return
            yield token
