"""Check of the learning rate's schedule."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from cllm.harness.checks.parts import Problems, check_parts
from cllm.harness.tolerance import UNIT
from cllm.harness.trainer.parts import OURS, TrainerParts
from cllm.training.schedule import SCHEDULES

RUNS = ((1, 0), (1, 1), (2, 0), (2, 1), (7, 0), (7, 3), (7, 7), (7, 20), (40, 1), (40, 10))
"""Steps and warm-up."""

PRECISION = 32 * UNIT
"""Of a rate as a share of the peak: float32 is good enough for a schedule."""


@check_parts("training.schedule", "learning_rate", held="every rate of every schedule as defined")
def schedule(candidate: TrainerParts, reference: TrainerParts, seed: int, folder: Path) -> Problems:
    """Constant, linear, cosine and step with their warm-up: exact values, step by step.

    The warm-up rises from step 1 in a straight line, no rate is above the peak or negative, none
    rises after the warm-up, and the same step gives the same rate in any order. Rates are held to
    2^-19 of the peak against the closed formulas, or against the reference's where one is given.
    """
    peak = float(np.random.default_rng([seed, 9]).uniform(1e-4, 1.0))
    drawn = np.random.default_rng([seed, 10]).integers((2, 0), (60, 30), (3, 2)).tolist()
    assert candidate.learning_rate
    assert reference.learning_rate
    formula = rate_of if reference is OURS else reference.learning_rate
    for name in SCHEDULES:
        for total, warmup in (*RUNS, *drawn):
            where = f"{name}, {total} steps, warm-up {warmup}"

            def rate(step: int, *, of: Any = candidate.learning_rate) -> float:
                return float(of(name, step, total, peak=peak, warmup=warmup))  # noqa: B023

            rates = [rate(step) for step in range(1, total + 1)]
            for step, got in enumerate(rates, 1):
                before = rates[step - 2] if step > 1 else 0.0
                if step <= warmup and not got > before:
                    yield f"no warm-up from {before:.9g} to {got:.9g} at step {step} ({where})"
                wanted = rate(step, of=formula)
                tolerance = PRECISION * peak
                if not abs(got - wanted) <= tolerance:
                    yield (
                        f"step {step}: got {got:.9g}, expected {wanted:.9g}, "
                        f"tolerance {tolerance:.2g} ({where})"
                    )
                if not 0.0 <= got <= peak * (1 + PRECISION):
                    yield f"step {step}: {got:.9g} is not in 0..{peak:.9g} ({where})"
                if step > warmup + 1 and got > before + tolerance:
                    yield f"step {step}: {got:.9g} is more than {before:.9g} before ({where})"
            for step in range(total, 0, -1):
                if rate(step) != rates[step - 1]:
                    yield f"step {step} has another rate when it is asked for again ({where})"


def rate_of(schedule: str, step: int, total: int, *, peak: float, warmup: int) -> float:
    """The closed formulas."""
    if step <= warmup:
        return peak * step / warmup
    left = (total + 1 - step) / (total + 1 - max(warmup, 1))
    if schedule == "linear":
        return peak * left
    if schedule == "cosine":
        return peak * math.sin(math.pi / 2 * left) ** 2
    if schedule == "step":
        return peak * (1.0 if step <= total / 2 else 0.1 if step <= total * 0.75 else 0.01)
    return peak
