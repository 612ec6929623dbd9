"""Two models trained side by side on the same batches.

Promises: the candidate's loss is held, step by step, against the reference's in float64; the
tolerance is calibrated on the reference in float32, from the same start and from two very close
to it, because a rounding error in one step is carried into all that follow.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cllm.config import Config
from cllm.harness.benchmark import Progress
from cllm.harness.selection import AGREES, LEARNS
from cllm.harness.tolerance import compare, loss_tolerance
from cllm.harness.verdict import Inconclusive, Status, Verdict
from cllm.layout import initialize
from cllm.model import Model, Update
from cllm.training.schedule import learning_rate

NEIGHBORS = 2
NEARNESS = 2.0**-20
"""By how much of itself a parameter of a neighbor differs."""

PEAK_LEARNING_RATE = 2e-3
CLIP = 1.0

LEARNING_STEPS = 200
"""Fewer are too few for the reference to get below the unigram entropy."""

Losses = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Lockstep:
    """The course of both losses, each array (steps,)."""

    candidate: Losses
    reference: Losses
    """In float64."""
    tolerance: Losses
    entropy: float
    """Unigram entropy of the text in nats: the least loss of a model that ignores the context."""

    def to_dict(self) -> dict[str, Any]:
        """By step `candidate`, `reference` and `tolerance`; and `entropy`."""
        return {
            "candidate": self.candidate.tolist(),
            "reference": self.reference.tolist(),
            "tolerance": self.tolerance.tolist(),
            "entropy": self.entropy,
        }

    def verdicts(self) -> Iterator[Verdict]:
        """Whether they agree, and whether they learned."""
        yield self._agrees()
        yield self._learns()

    def _agrees(self) -> Verdict:
        try:
            worst = compare("loss", self.candidate, self.reference, self.tolerance)
        except Inconclusive as error:
            return Verdict(Status.INCONCLUSIVE, str(error), check=AGREES)
        apart = np.where(
            np.isfinite(self.candidate), np.abs(self.candidate - self.reference), np.inf
        )
        largest = int(apart.argmax())
        evidence = f"largest difference in loss {apart[largest]:.2g}, at step {largest + 1}"
        details: dict[str, Any] = {"share": worst.share}
        if worst.passed:
            evidence += (
                f" of {len(apart)}; the closest to its tolerance, {worst.share:.2g}× of it, "
                f"at step {worst.index[0] + 1}"
            )
            return Verdict(Status.PASS, evidence, details, AGREES)
        first = int((apart > self.tolerance).argmax())
        where = f"beyond the tolerance from step {first + 1} on"
        evidence = (
            f"{where}: got {self.candidate[first]:.9g}, expected {self.reference[first]:.9g}, "
            f"error {apart[first]:.2g}, tolerance {self.tolerance[first]:.2g}; {evidence}"
        )
        return Verdict(Status.FAIL, evidence, details | {"start": {"where": where}}, AGREES)

    def _learns(self) -> Verdict:
        steps = len(self.reference)
        if steps < LEARNING_STEPS:
            evidence = f"needs {LEARNING_STEPS} steps of training; there were {steps}"
            return Verdict(Status.NOT_APPLICABLE, evidence, check=LEARNS)
        last = steps // 10
        candidate, reference = (
            float(losses[-last:].mean()) for losses in (self.candidate, self.reference)
        )
        evidence = (
            f"mean loss of the last {last} of {steps} steps {candidate:.3f}, "
            f"unigram entropy {self.entropy:.3f}"
        )
        status = Status.PASS if candidate < self.entropy else Status.FAIL
        if status is Status.FAIL and reference >= self.entropy:
            status = Status.INCONCLUSIVE
            evidence += "; the reference has not learned either, more steps are needed"
        return Verdict(status, evidence, {"loss": candidate}, LEARNS)


def train(
    candidate: type[Model],
    reference: type[Model],
    config: Config,
    tokens: NDArray[np.int32],
    targets: NDArray[np.int32],
    entropy: float,
    *,
    seed: int,
    threads: int,
    progress: Progress,
) -> Lockstep:
    """Train from the same start over the batches (steps,B,T), one step each.

    `entropy` is the unigram entropy of the text in nats.
    """
    steps, rows, time = tokens.shape
    generator = np.random.default_rng(seed)
    start = initialize(config, generator)
    near = start * (1 + NEARNESS * generator.normal(0.0, 1.0, (NEIGHBORS, *start.shape)))
    runs = [
        (reference, parameters.astype(np.float32), dtype, 1)
        for parameters in (start, *near)
        for dtype in ("float64", "float32")
    ]
    runs.append((candidate, start.astype(np.float32), "float32", threads))
    losses = np.empty((len(runs), steps))
    # One after the other: idle threads of one model's BLAS or OpenMP spin, and slow the next down.
    for done, (kind, parameters, dtype, count) in enumerate(runs):
        model = kind.create(config, rows, time, parameters, threads=count, dtype=dtype)
        for step in range(steps):
            progress("training side by side", done * steps + step, losses.size)
            rate = learning_rate(
                "cosine", step + 1, steps, peak=PEAK_LEARNING_RATE, warmup=steps // 6
            )
            update = Update(step + 1, rate, clip=CLIP)
            losses[done, step] = model.step(tokens[step], targets[step], update)
    progress("training side by side", losses.size, losses.size)
    exact, rounded = losses[0:-1:2], losses[1:-1:2]
    errors = np.maximum.accumulate(np.abs(rounded - exact).max(0))
    return Lockstep(losses[-1], exact[0], loss_tolerance(exact[0], errors), entropy)
