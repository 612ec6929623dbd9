"""Runs as a history may hold them after two years, made up.

Promises: the same for the same seed: commits measured on several machines, with noise, outliers,
steps that were mended or not, and drifts. Only the candidate `optimized` ever changes.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any

import numpy as np

from cllm.harness.bench.configurations import CONFIGURATIONS
from cllm.harness.history.record import Better, Commit, Result, Run

BEGIN = datetime(2024, 1, 1, tzinfo=UTC)
SPAN = timedelta(days=730)

BLOCKS = 11
"""Samples of a result."""

NOISE = 0.01
"""Standard deviation of a result's median, relative; that of a sample is three times as large."""

OUTLIER_SHARE = 0.004
OUTLIER = 0.7
"""What is left of the speed when something else had the machine."""

CANDIDATES = ("optimized", "reference", "PyTorch torch.compile", "JAX jit")
KINDS = ("step", "steps", "greedy", "sampled")

MACHINES: tuple[dict[str, Any], ...] = tuple(
    {"cpu": cpu, "architecture": "x86_64", "cores": cores, "usable_cores": cores}
    for cpu, cores in (("Fast 9000", 16), ("Server 64", 64), ("Notebook 5", 8), ("Cloud vCPU", 2))
)
"""What a speed is multiplied with falls from one to the next."""


@dataclass(frozen=True)
class Work:
    """One benchmark of one candidate, and what became of it over the years."""

    benchmark: str
    candidate: str
    metric: str
    threads: int
    configuration: dict[str, Any]
    rate: float
    steps: tuple[tuple[float, float], ...]
    """From this share of the time on, the rate is multiplied with this."""
    drift: float
    """Relative, over the whole time."""

    def level(self, share: float) -> float:
        """The rate without noise, when `share` of the time is over."""
        factor = math.prod(change for start, change in self.steps if share >= start)
        return self.rate * factor * (1 + self.drift * share)


def draw_works(generator: np.random.Generator) -> list[Work]:
    """All work of a run: every configuration, kind, candidate and two numbers of threads."""
    works = []
    for configuration, kind, candidate, threads in product(
        CONFIGURATIONS.values(), KINDS, CANDIDATES, (1, 2)
    ):
        setting = configuration.setting
        sizes = setting.config.sizes | {
            "batch_size": setting.batch_size,
            "seq_len": setting.seq_len,
        }
        steps: tuple[tuple[float, float], ...] = ()
        drift = 0.0
        if candidate == "optimized":
            when = generator.uniform(0.1, 0.7)
            change = generator.choice([0.8, 0.9, 0.95, 1.1, 1.3])
            fate = generator.choice(["steady", "step", "mended", "drift"])
            if fate in ("step", "mended"):
                steps = ((when, change),)
            if fate == "mended":
                steps += ((when + 0.15, 1 / change),)
            if fate == "drift":
                drift = generator.uniform(-0.2, -0.08)
        metric = "steps/s" if kind.startswith("step") else "tokens/s"
        rate = 3e8 / setting.config.num_parameters * generator.uniform(0.2, 2.0)
        works.append(
            Work(
                f"{configuration.name} {kind}",
                candidate,
                metric,
                threads,
                sizes,
                rate * threads**0.9,
                steps,
                drift,
            )
        )
    return works


def synthetic_runs(count: int, seed: int) -> Iterator[Run]:
    """Runs with `count` results together, in the order of time; the last may be cut short."""
    generator = np.random.default_rng(seed)
    works = draw_works(generator)
    total = math.ceil(count / len(works))
    for number in range(total):
        share = number / total
        place = number % len(MACHINES)
        created = BEGIN + SPAN * share
        kept = works[: count - number * len(works)]
        yield Run(
            id=f"synthetic-{seed}-{number:06}",
            created=created,
            source="bench",
            machine={**MACHINES[place], "load_average": round(generator.exponential(0.2), 2)},
            level="avx512" if place < 2 else "avx2",
            results=tuple(_results(kept, share, 1 / (1 + place), generator)),
            commit=_commit(seed, number // len(MACHINES), created),
        )


def _results(
    works: list[Work], share: float, speed: float, generator: np.random.Generator
) -> Iterator[Result]:
    common = NOISE * generator.standard_normal(len(works))
    noise = 3 * NOISE * generator.standard_normal((len(works), BLOCKS))
    outliers = np.where(generator.random(len(works)) < OUTLIER_SHARE, OUTLIER, 1.0)
    levels = np.array([work.level(share) for work in works]) * speed * outliers
    samples = levels[:, None] * np.exp(common[:, None] + noise)
    medians = np.median(samples, axis=1)
    for work, value, blocks in zip(works, medians.tolist(), samples.tolist(), strict=True):
        yield Result(
            work.benchmark,
            work.candidate,
            work.metric,
            value,
            work.threads,
            Better.HIGHER,
            tuple(blocks),
            None,
            work.configuration,
        )


def _commit(seed: int, number: int, created: datetime) -> Commit:
    """Each is measured on every machine."""
    sha = hashlib.sha1(f"{seed} {number}".encode(), usedforsecurity=False).hexdigest()
    return Commit(sha, created - timedelta(hours=1), f"Change {number:,}", "main")
