"""Checks of more than one caller: Python threads beside each other, and a forked process."""

from __future__ import annotations

import os
import pickle
import select
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from cllm.harness.checks.check import check
from cllm.harness.checks.threads import LIMIT
from cllm.harness.differences import Results, differences, first_of
from cllm.harness.exercise import SMALL, WIDE, Exercise
from cllm.harness.verdict import Status, Verdict
from cllm.model import Model
from cllm.plan import Operation

TOGETHER_SECONDS = 0.06
"""Two models work beside each other for so long at least: a chance to meet in each call."""

LEAST_ROUNDS = 8

SWITCH_SECONDS = 1e-6
"""How often Python may change threads meanwhile."""

CHILD_SECONDS = 3.0
"""How much longer than its parent a child may take to train on; both take milliseconds."""


@check("threads.callers", Operation.EVALUATION, limit=LIMIT)
def callers(candidate: type[Model], reference: type[Model], seed: int) -> Verdict:
    """Two Python threads that train two models at once get the bytes that each gets alone."""
    seeds = (seed, seed + 1000)
    first, *exercises = (Exercise(candidate, SMALL, s) for s in (seed, *seeds))
    started = time.perf_counter()
    first.run()
    seconds = time.perf_counter() - started
    rounds = max(LEAST_ROUNDS, int(TOGETHER_SECONDS / max(seconds, 1e-5)))
    alone = [_repeat(Exercise(candidate, SMALL, s), rounds) for s in seeds]
    start = threading.Barrier(2)

    def work(exercise: Exercise) -> Results:
        start.wait()
        return _repeat(exercise, rounds)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_SECONDS)
    try:
        with ThreadPoolExecutor(2) as pool:
            together = list(pool.map(work, exercises))
    finally:
        sys.setswitchinterval(interval)

    def problems() -> Iterator[str]:
        for got, expected in zip(together, alone, strict=True):
            yield from differences(got, expected, "beside another thread, and {} alone")

    names = ", ".join(alone[0])
    evidence = f"two models used at once gave in {rounds} rounds the bytes of each alone: {names}"
    return first_of(problems(), evidence)


def _repeat(exercise: Exercise, rounds: int) -> Results:
    """What the calls gave in each of so many rounds, and what they have left behind."""
    given: dict[str, list[object]] = {name: [] for name in exercise.calls}
    for _ in range(rounds):
        for name, call in exercise.calls.items():
            given[name].append(call())
    returned = {
        f"what {name} returned": np.array(values)
        for name, values in given.items()
        if values[0] is not None
    }
    return returned | exercise.state()


@check("threads.fork", Operation.EVALUATION, limit=2 * LIMIT)
def fork(candidate: type[Model], reference: type[Model], seed: int) -> Verdict:
    """A process forked after work with two threads works on, to its parent's bytes, and ends."""
    exercise = Exercise(candidate, WIDE, seed, 2)
    start = time.monotonic()
    exercise.run()
    patience = CHILD_SECONDS + 4 * (time.monotonic() - start)
    theirs = _in_child(lambda: _repeat(exercise, 2), patience)
    if isinstance(theirs, str):
        return Verdict(Status.FAIL, theirs)
    ours = _repeat(exercise, 2)
    evidence = f"a forked child came to the same bytes as its parent: {', '.join(ours)}"
    return first_of(differences(theirs, ours, "in a forked child, and {} in its parent"), evidence)


def _in_child(function: Callable[[], Results], patience: float) -> Results | str:
    """What the function gives in a forked child within so many seconds, or what became of it."""
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # a fork beside threads is the point
        child = os.fork()
    if child == 0:
        status = 1
        try:
            with os.fdopen(writer, "wb") as pipe:
                pickle.dump(function(), pipe)
            status = 0
        except BaseException as error:
            os.write(2, f"in the child: {type(error).__name__}: {error}\n".encode())
        finally:
            os._exit(status)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        if not select.select([pipe], [], [], patience)[0]:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return f"a forked child hung: it had not trained on within {patience:.2g} s"
        sent = pipe.read()
    _, status = os.waitpid(child, 0)
    if status:
        how = os.waitstatus_to_exitcode(status)
        return f"a forked child ended with exit status {how}"
    found: Results = pickle.loads(sent)
    return found
