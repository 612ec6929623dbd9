"""Rounds of equal and of slowed builds, recorded while a load comes and goes.

Promises: every round is taken as a live comparison takes it, of base with another build; rounds of
one build follow one another for a while, then comes the next. Two builds are the same code at
another place. The slowdowns are set at the start, from the time of a step and of the extra work,
and measured again from all that was recorded.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

import cllm
from cllm.harness.bench.configurations import CONFIGURATIONS
from cllm.harness.bench.task import Kind
from cllm.harness.benchmark import Progress
from cllm.harness.compare.power.load import Load
from cllm.harness.compare.power.slowed import NAME, VARIABLE
from cllm.harness.compare.process import Launch, sharing
from cllm.harness.compare.run import RENEWED, Benchmark, prepare_work, rounds
from cllm.harness.compare.session import Work
from cllm.harness.probe.loops import chain

SLOWDOWNS = (0.01, 0.02, 0.03, 0.05, 0.10)
BASE, COPY = "base", "copy"

IN_A_ROW = RENEWED
"""Rounds of one build before the next one's turn."""
TURNS: Mapping[str, int] = {
    COPY: 3,
    **{f"{slowdown:g}": 2 if slowdown in (0.03, 0.10) else 1 for slowdown in SLOWDOWNS},
}
"""How often each build has its turn; more often where more is claimed."""

CALIBRATION_ROUNDS = 5
SLOWER_PACE = 0.75
"""Quantile of the times of a step that is called its time: with two threads it has two paces, as
the model leaves the second one out where that does not help. So a slowdown is no smaller than it
is called."""

CHAIN = 20_000
"""Multiply-adds that are timed to know what one takes."""


@dataclass(frozen=True)
class Moment:
    """One recorded round."""

    start: float
    """Seconds since the start of the recording."""
    seconds: float
    load: str
    build: str
    """What base was held against."""
    trips: Sequence[Sequence[float]]
    """Of base, the build, base and the build: seconds of a step in the fastest window a trip."""
    mean: Sequence[float]
    """The same in the mean of all visits."""


@dataclass(frozen=True)
class Recording:
    """All rounds with so many threads."""

    threads: int
    work: Mapping[str, int]
    """By build, the multiply-adds that were added to a step."""
    moments: Sequence[Moment]

    def of(self, build: str) -> list[Moment]:
        """The rounds of base and one build."""
        return [moment for moment in self.moments if moment.build == build]

    def to_dict(self) -> dict[str, Any]:
        """Numbers, strings and lists alone."""
        return asdict(self)

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Recording:
        """The inverse."""
        moments = [Moment(**moment) for moment in document["moments"]]
        return cls(document["threads"], document["work"], moments)


def benchmark(threads: int) -> Benchmark:
    """The small configuration."""
    return Benchmark(CONFIGURATIONS["small"], Kind.STEP, threads)


def launches(folder: Path, work: int) -> dict[str, Launch]:
    """Base, and its copy at another place with so much extra work."""
    here = Path(cllm.__file__).parent
    there = folder / "another" / "place"
    if not there.exists():
        shutil.copytree(here, there / "cllm", symlinks=False)
    return {
        BASE: Launch(NAME, sys.executable, {VARIABLE: "0", "PYTHONPATH": str(here.parent)}),
        COPY: Launch(NAME, sys.executable, {VARIABLE: str(work), "PYTHONPATH": str(there)}),
    }


def calibrate(work: Work, folder: Path, seed: int) -> dict[float, int]:
    """By slowdown the multiply-adds that make it, from steps in undisturbed windows, and chains."""
    generator, seconds, chains = np.random.default_rng(seed), [], []
    base = launches(folder, 0)[BASE]
    with rounds(*sharing(base, base), work, generator) as visit:
        for _ in range(CALIBRATION_ROUNDS):
            seconds += [trip for process in visit().processes for trip in process.trips]
            for _ in range(200):
                start = time.perf_counter()
                chain(CHAIN)
                chains.append((time.perf_counter() - start) / CHAIN)
    step, one = float(np.quantile(seconds, SLOWER_PACE)), min(chains)
    return {slowdown: round(slowdown * step / one) for slowdown in SLOWDOWNS}


def added(extra: Mapping[float, int]) -> dict[str, int]:
    """By build the multiply-adds of a step more than in base."""
    return {COPY: 0} | {f"{slowdown:g}": work for slowdown, work in extra.items()}


def record(
    threads: Sequence[int], seconds: float, folder: Path, seed: int, progress: Progress
) -> list[Recording]:
    """Rounds of `seconds` in all, of each number of threads in turn."""
    works = {
        count: prepare_work(benchmark(count), seed, folder / f"{count}.npz") for count in threads
    }
    progress("calibrating", 0, 1)
    extra = {count: calibrate(work, folder, seed) for count, work in works.items()}
    moments: dict[int, list[Moment]] = {count: [] for count in threads}
    generator = np.random.default_rng(seed)
    base = launches(folder, 0)[BASE]
    sides = {
        (count, build): sharing(base, launches(folder, work)[COPY])
        for count in threads
        for build, work in added(extra[count]).items()
    }
    turns = [
        (count, build) for count in threads for build, often in TURNS.items() for _ in range(often)
    ]
    start = time.monotonic()
    with Load(seed) as load:
        while time.monotonic() - start < seconds:
            for place in generator.permutation(len(turns)).tolist():
                count, build = turns[place]
                with rounds(*sides[count, build], works[count], generator) as visit:
                    for _ in range(IN_A_ROW):
                        if (passed := time.monotonic() - start) >= seconds:
                            break
                        progress(f"recording: {load.state}", round(passed), round(seconds))
                        state, seen = load.state, visit().processes
                        trips, mean = zip(*((each.trips, each.mean) for each in seen), strict=True)
                        took = time.monotonic() - start - passed
                        moments[count].append(Moment(passed, took, state, build, trips, mean))
    progress("recording: done", round(seconds), round(seconds))
    return [Recording(count, {BASE: 0, **added(extra[count])}, moments[count]) for count in threads]
