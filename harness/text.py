"""Text whose statistics are known."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

BLOCK = 2**20


def unigram_entropy(tokens: NDArray[Any]) -> float:
    """-sum p ln p in nats, p the share of each id among tokens (n,).

    The least loss of a model that ignores the context: below it, something was learned from it.
    """
    counts = np.zeros(0, np.int64)
    for start in range(0, len(tokens), BLOCK):  # a text may be larger than the memory
        block = np.bincount(tokens[start : start + BLOCK], minlength=len(counts))
        block[: len(counts)] += counts
        counts = block
    p = counts[counts > 0] / len(tokens)
    return float(-(p * np.log(p)).sum())


def markov_text(
    generator: np.random.Generator, vocab_size: int, choices: int, shape: tuple[int, int, int]
) -> NDArray[np.int32]:
    """Tokens (K,B,T+1) for a shape (K,B,T): rows of one chain with `choices` equal successors.

    Its entropy given the token before is ln(choices) at most.
    """
    successors = generator.integers(0, vocab_size, (vocab_size, choices), np.int32)
    batches, rows, time = shape
    text = np.empty((batches, rows, time + 1), np.int32)
    text[..., 0] = generator.integers(0, vocab_size, (batches, rows))
    for t in range(time):
        text[..., t + 1] = successors[text[..., t], generator.integers(0, choices, (batches, rows))]
    return text
