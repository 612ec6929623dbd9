"""Comparisons as a user makes them, while a load comes and goes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cllm.harness.benchmark import Progress
from cllm.harness.compare.comparison import Entry
from cllm.harness.compare.power.load import Load
from cllm.harness.compare.power.record import BASE, COPY, benchmark, launches
from cllm.harness.compare.process import sharing
from cllm.harness.compare.run import measure, prepare_work, rounds


@dataclass(frozen=True)
class Live:
    """One comparison."""

    threads: int
    slowdown: float
    entry: Entry


def run(
    cases: Sequence[tuple[int, float, int]],
    folder: Path,
    *,
    budget: float,
    minimum_effect: float,
    seed: int,
    progress: Progress,
) -> list[Live]:
    """One comparison for each of (threads, slowdown, multiply-adds)."""
    found, generator = [], np.random.default_rng(seed)
    with Load(seed) as load:
        for place, (threads, slowdown, extra) in enumerate(cases):
            progress(f"live: {slowdown:.0%}, {threads} threads, {load.state}", place, len(cases))
            what = benchmark(threads)
            work = prepare_work(what, seed, folder / f"{threads}.npz")
            sides = sharing(launches(folder, 0)[BASE], launches(folder, extra)[COPY])
            with rounds(*sides, work, generator) as visit:
                entry = measure(
                    what,
                    visit,
                    budget=budget,
                    minimum_effect=minimum_effect,
                    seed=seed,
                    progress=lambda what, done, total: None,
                )
            found.append(Live(threads, slowdown, entry))
    progress("live: done", len(cases), len(cases))
    return found
