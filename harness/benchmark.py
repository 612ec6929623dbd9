"""Steps per second of two models, side by side.

Promises: both are measured in one run, in blocks of four visits that alternate ABBA and BAAB, so
that a drift of the machine falls on both alike; over rotating batches, never a constant one.
Leaves out: a verdict about the difference, and other machines.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cllm.model import Model, Update

BLOCKS = 20
VISIT_SECONDS = 0.1
WARM_UP_SECONDS = 0.05
"""Untimed at each visit: idle threads of the other model's BLAS or OpenMP spin that long."""

RESAMPLES = 10_000
LEARNING_RATE = 1e-4

Progress = Callable[[str, int, int], None]
"""Called with a task (`stage` or `stage: detail`), how much of the stage is done, of how much."""


@dataclass(frozen=True)
class Benchmark:
    """Rates of a candidate and of the reference, block by block."""

    candidate: list[float]
    """Steps per second."""
    reference: list[float]
    """Steps per second."""
    ratio: float
    """Median over blocks of candidate over reference."""
    low: float
    """End of the ratio's bootstrap interval of 95%."""
    high: float
    tokens_per_step: int


def measure(
    candidate: Model,
    reference: Model,
    tokens: NDArray[np.int32],
    targets: NDArray[np.int32],
    *,
    seed: int,
    progress: Progress,
) -> Benchmark:
    """Steps per second of two models over the same batches (K,B,T)."""
    models = {"candidate": candidate, "reference": reference}
    visits = {name: _Visit(model, tokens, targets) for name, model in models.items()}
    rates: dict[str, list[float]] = {name: [] for name in visits}
    for block in range(BLOCKS):
        progress("measuring speed", block, BLOCKS)
        first, second = sorted(visits, reverse=block % 2 == 1)
        seconds = dict.fromkeys(visits, 0.0)
        for name in (first, second, second, first):
            seconds[name] += visits[name].run()
        for name, visit in visits.items():
            rates[name].append(2 * visit.steps / seconds[name])
    progress("measuring speed", BLOCKS, BLOCKS)
    ratio, low, high = median_ratio(rates["candidate"], rates["reference"], seed)
    return Benchmark(**rates, ratio=ratio, low=low, high=high, tokens_per_step=tokens[0].size)


class _Visit:
    """A model, its batches, and how many steps make up one visit."""

    def __init__(self, model: Model, tokens: NDArray[np.int32], targets: NDArray[np.int32]) -> None:
        self._model, self._tokens, self._targets = model, tokens, targets
        self._taken = 0
        self.steps = 1
        while (seconds := self._time(self.steps)) < WARM_UP_SECONDS:
            self.steps *= 2
        self.steps = max(1, round(self.steps * VISIT_SECONDS / seconds))

    def run(self) -> float:
        """Seconds that the steps of one visit take."""
        start = time.perf_counter()
        while time.perf_counter() - start < WARM_UP_SECONDS:
            self._time(1)
        return self._time(self.steps)

    def _time(self, steps: int) -> float:
        start = time.perf_counter()
        for _ in range(steps):
            batch = self._taken % len(self._tokens)
            self._taken += 1
            update = Update(self._taken, LEARNING_RATE)
            self._model.step(self._tokens[batch], self._targets[batch], update)
        return time.perf_counter() - start


def median_ratio(
    candidate: ArrayLike, reference: ArrayLike, seed: int
) -> tuple[float, float, float]:
    """The median over blocks of candidate/reference, and its bootstrap interval of 95%.

    The percentile bootstrap (Efron 1979) of the median of the logarithm of the ratio.
    """
    ratios = np.log(candidate) - np.log(reference)  # (blocks,)
    generator = np.random.default_rng(seed)
    drawn = generator.choice(ratios, (RESAMPLES, len(ratios)))
    low, high = np.quantile(np.median(drawn, axis=1), (0.025, 0.975))
    return tuple(np.exp([np.median(ratios), low, high]).tolist())
