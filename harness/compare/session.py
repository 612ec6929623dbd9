"""Both sides of a benchmark in one session, in processes that are made anew again and again.

Promises: a round is four processes, two of each side, visited in turn there and back, so that a
drift of the machine falls on all alike; where a side lies in memory is drawn anew for each process
(Mytkowicz et al. 2009, "Producing wrong data without doing anything obviously wrong!"), and so are
the order in which they start and the CPUs that threads of OpenMP are bound to, one each: where
threads may move, a scheduler may put two of them on one. What else runs on a machine only adds to a
time, so in each trip there and back a process counts with its fastest window of half a millisecond
(Chen & Revels 2016, "Robust benchmarking in noisy environments"), against the middle one of the
round, and over the trips with the median: what stays for longer than a trip (another clock, another
process on a core) falls on all, and what comes on few trips alone does not count.
Leaves out: what slows fewer calls than one in each window; when to stop
(`cllm.harness.compare.sequential`).
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cllm.harness.bench.process import Worker, WorkerFailed
from cllm.harness.compare.process import ForkServer, Launch

BUILD_LIMIT = 300.0
"""Seconds to import, build and take the first steps."""

VISIT_LIMIT = 60.0
"""Seconds for a visit beyond those asked for."""

VISIT_SECONDS = 1.5e-3
"""Short: on a busy machine a process is let run for a few milliseconds before it has to wait."""

WINDOW_SECONDS = 5e-4
"""Calls are timed in windows of about this length: a window is undisturbed, or it is not."""

TRIPS = 9
"""There and back; each process is visited twice a trip. Odd, for a median."""

FEWEST_TRIPS = 3
TRIPS_SECONDS = 1.5
"""Of long calls there are fewer trips, so that those of a round take no more, or the fewest."""

BINDING = ("OMP_PROC_BIND", "OMP_PLACES", "GOMP_CPU_AFFINITY", "KMP_AFFINITY")
"""Variables by which a user binds threads."""


class LaunchFailed(Exception):
    """A process crashed, hung, or could not build."""

    def __init__(self, place: int, reason: str) -> None:
        super().__init__(reason)
        self.place = place
        """Among the launches."""


@dataclass(frozen=True)
class Work:
    """What is measured: one benchmark."""

    kind: str
    """step or greedy"""
    sizes: Sequence[int]
    """V, D, L, H, F"""
    threads: int
    workload: Path
    """An .npz file: `parameters` (P,), `tokens` and `targets` (K,B,T)."""
    checked: int
    """Results of first calls that are asked for."""

    def request(self) -> dict[str, Any]:
        """For a worker."""
        return asdict(self) | {"workload": str(self.workload)}


@dataclass(frozen=True)
class Visited:
    """A process, and what was seen of it."""

    results: Sequence[float]
    """Of the first calls."""
    per_call: int
    """Steps or tokens."""
    trips: Sequence[float]
    """Seconds of a call, in the fastest window of each trip."""
    mean: float
    """Seconds of a call, the mean of all visits."""

    @property
    def rate(self) -> float:
        """Steps or tokens per second, in the median over the trips."""
        return self.per_call / statistics.median(self.trips)


def log_speeds(trips: Sequence[Sequence[float]]) -> NDArray[np.float64]:
    """(n,) Logarithms of the speeds of the n processes of a round, against the middle one.

    `trips` (n,TRIPS) are seconds: in each trip against the middle one, then their median.
    """
    logs = -np.log(np.array(trips))
    speeds: NDArray[np.float64] = np.median(logs - np.median(logs, axis=0), axis=1)
    return speeds


def visit_round(
    launches: Sequence[Launch],
    work: Work,
    generator: np.random.Generator,
    server: ForkServer | None = None,
    *,
    trips: int | None = None,
    seconds: float = VISIT_SECONDS,
) -> list[Visited]:
    """Start a process for each launch, visit all in turn, end them.

    Without `server` each has an interpreter of its own; without `trips` there are `TRIPS`, or fewer
    of long calls.

    Raises `LaunchFailed` where a process crashes, hangs or cannot build.
    """
    bound = draw_places(work.threads, generator)
    drawn = generator.permutation(len(launches)).tolist()
    with ExitStack() as stack:
        servers: dict[int, ForkServer] = {}
        workers: dict[int, Worker] = {}
        for place in drawn:
            with launching(place):
                servers[place] = server or stack.enter_context(ForkServer(launches[place], bound))
        for place in drawn:
            with launching(place if server is None else 0):  # what both share is no fault of head
                worker = servers[place].fork(launches[place], bound, generator)
                workers[place] = stack.enter_context(worker)

        def ask(place: int, call: str, limit: float, **arguments: Any) -> dict[str, Any]:
            with launching(place):
                return workers[place].ask(call, limit, **arguments)

        for place in drawn:
            with launching(place):
                workers[place].send("import_candidate", candidate=launches[place].candidate)
        for place in drawn:  # none builds, and warms up, while another one still imports
            with launching(place):
                workers[place].receive(BUILD_LIMIT)
        built = {place: ask(place, "build", BUILD_LIMIT, **work.request()) for place in drawn}
        calls = [each.pop("seconds") for each in built.values()]
        how = {  # the same for all, or what is a little slower would be measured otherwise
            "seconds": seconds,
            "warm_up": max(calls) < seconds,
            "calls": max(1, round(WINDOW_SECONDS / statistics.median(calls))),
        }
        limit = VISIT_LIMIT + seconds + 10 * max(calls)
        if trips is None:
            trips = trips_of(2 * len(launches) * max(seconds, *calls))
        fastest: list[list[float]] = [[] for _ in launches]
        means: list[list[float]] = [[] for _ in launches]
        for _ in range(trips):
            order = generator.permutation(len(launches)).tolist()
            replies: list[list[dict[str, float]]] = [[] for _ in launches]
            for place in [*order, *reversed(order)]:
                replies[place].append(ask(place, "visit", limit, **how))
            for place, both in enumerate(replies):
                fastest[place].append(min(reply["fastest"] for reply in both))
                means[place] += [reply["mean"] for reply in both]
        for worker in workers.values():
            worker.finish()
    return [
        Visited(**built[place], trips=fastest[place], mean=statistics.fmean(means[place]))
        for place in range(len(launches))
    ]


def trips_of(seconds: float) -> int:
    """How many trips of so many seconds a round has: an odd number."""
    fitting = int(TRIPS_SECONDS / seconds)
    return max(FEWEST_TRIPS, min(TRIPS, fitting - (fitting + 1) % 2))


def draw_places(threads: int, generator: np.random.Generator) -> dict[str, str]:
    """What binds each of so many threads of OpenMP to a CPU of its own, neighbours as drawn.

    Nothing where the user binds them or asks for another number, or there are too few CPUs.
    """
    cpus = sorted(os.sched_getaffinity(0))
    asked = os.environ.get("OMP_NUM_THREADS") or str(threads)
    if threads > len(cpus) or asked != str(threads) or any(map(os.environ.get, BINDING)):
        return {}
    chosen = np.roll(cpus, -int(generator.integers(len(cpus))))[:threads]
    return {"OMP_PROC_BIND": "true", "OMP_PLACES": ",".join(f"{{{cpu}}}" for cpu in chosen)}


@contextmanager
def launching(place: int) -> Iterator[None]:
    """A context in which what fails is the launch of that place."""
    try:
        yield
    except WorkerFailed as error:
        raise LaunchFailed(place, str(error)) from error
