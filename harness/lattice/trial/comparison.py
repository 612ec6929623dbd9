"""What a part does to the loss: differences from the plain model, seed by seed, with intervals."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from cllm.harness.lattice.trial.run import PLAIN, Run

LEVEL = 0.95
"""Of the intervals that are shown, each by itself."""


@dataclass(frozen=True)
class Difference:
    """A variant's validation loss less the plain model's, in nats a token: the mean over seeds."""

    text: str
    variant: str
    steps: int
    mean: float
    low: float
    high: float
    """Ends of the interval of `LEVEL` by Student's t over the seeds' differences."""
    verdict: str
    """helps, harms, or not certain: by an interval that pays for the number of differences."""


def losses(runs: Sequence[Run], text: str, variant: str, steps: int) -> list[float]:
    """By seed, in order."""
    own = [run for run in runs if (run.text, run.variant, run.steps) == (text, variant, steps)]
    return [run.loss for run in sorted(own, key=lambda run: run.seed)]


def differences(
    runs: Sequence[Run], texts: Sequence[str], wanted: Mapping[str, int], steps: int
) -> Iterator[Difference]:
    """Of each variant trained for the steps wanted, on each text, from the plain one's `steps`."""
    count = len(texts) * (len(wanted) - (PLAIN in wanted))
    for variant, own in wanted.items():
        if variant == PLAIN:
            continue
        for text in texts:
            plain = np.array(losses(runs, text, PLAIN, steps))
            apart = np.array(losses(runs, text, variant, own)) - plain
            low, high = _interval(apart, LEVEL)
            strict = _interval(apart, 1.0 - (1.0 - LEVEL) / count)
            verdict = "helps" if strict[1] < 0 else "harms" if strict[0] > 0 else "not certain"
            yield Difference(text, variant, own, float(apart.mean()), low, high, verdict)


def _interval(values: np.ndarray, level: float) -> tuple[float, float]:
    """Of the mean of values (n,), n > 1."""
    error = values.std(ddof=1) / np.sqrt(len(values))
    reach = float(stats.t.ppf((1.0 + level) / 2.0, len(values) - 1) * error)
    return float(values.mean()) - reach, float(values.mean()) + reach
