"""Checks of the threads: right at any number, the caller's state untouched, fork and callers."""

from __future__ import annotations

import gc
import hashlib
import locale
import os
import pickle
import random
import select
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from cllm.config import Config
from cllm.decoder import Sampling
from cllm.harness.cases import Case, Setting, draw_batches, draw_updates
from cllm.harness.checks.check import check
from cllm.harness.differences import Results, differences, first_of
from cllm.harness.exercise import SMALL, WIDE, Exercise
from cllm.harness.judge import compare_cases
from cllm.harness.runner import Arrays, build, calibrate, copy, tensors
from cllm.harness.tolerance import GRADIENTS, Comparison, compare, compare_tensors, loss_tolerance
from cllm.harness.verdict import Status, Verdict
from cllm.model import Model
from cllm.plan import Operation

LIMIT = 8.0
"""Seconds after which a step is taken to hang; each check takes less than one."""

MANY = 8
"""More threads than the settings have rows."""

FEW_ROWS = (
    Setting(Config(13, 8, 1, 2, 12), 1, 1),
    Setting(Config(29, 12, 2, 2, 17), 2, 3),
)

MUCH_WORK = Setting(Config(30, 160, 1, 4, 1500), 2, 1)
"""On two rows, work for which a model that weighs its threads takes three."""

STEPS = 3

TOGETHER_SECONDS = 0.06
"""Two models work beside each other for so long at least: a chance to meet in each call."""

LEAST_ROUNDS = 8

SWITCH_SECONDS = 1e-6
"""How often Python may change threads meanwhile."""

OF_THE_LIBRARY = 0b11 << 31
"""Signals 32 and 33, which the C library takes for itself when a thread starts."""

CHILD_SECONDS = 3.0
"""How much longer than its parent a child may take to train on; both take milliseconds."""


@check("threads.counts", Operation.TRAINING, limit=LIMIT)
def counts(candidate: type[Model], reference: type[Model], seed: int) -> Verdict:
    """Step, steps and generation are right at 1 thread and with more threads than rows."""

    def compare_case(case: Case) -> list[Comparison]:
        if case.setting is MUCH_WORK and case.draw:
            return []  # once is enough for what takes so long
        parts = candidate.parts & reference.parts
        exact, errors = calibrate(partial(_train, reference, parts, 1), case)
        tolerance = loss_tolerance(exact["losses"], np.maximum.accumulate(errors["losses"]))
        changes = {name: tensor for name, tensor in exact.items() if name != "losses"}
        comparisons = []
        for threads in (1, MANY):
            got = _train(candidate, parts, threads, case, "float32")
            found = [compare("losses", got["losses"], exact["losses"], tolerance)]
            found += compare_tensors(got, changes, errors, GRADIENTS)
            how = f"{threads} thread{'s' * (threads > 1)}"
            comparisons += [replace(one, tensor=f"{one.tensor}, {how}") for one in found]
        return comparisons

    return compare_cases(compare_case, (*FEW_ROWS, MUCH_WORK), seed)


def _train(
    model: type[Model], parts: frozenset[Operation], threads: int, case: Case, dtype: str
) -> Arrays:
    """`losses` of a step and of two in one call, `change of` parameters, `next logits`."""
    generator = np.random.default_rng([case.seed, case.draw])
    updates = draw_updates(generator, case.step, STEPS)
    tokens, targets = draw_batches(case.setting.config, generator, STEPS, *case.tokens.shape)
    built = build(model, case, dtype, threads=threads)
    start = tensors(built, "parameters")
    first = built.step(tokens[0], targets[0], updates[0])
    rest = built.steps(tokens[1:], targets[1:], updates[1:])
    end = tensors(built, "parameters")
    found = {f"change of {name}": end[name] - start[name] for name in end}
    if Operation.GENERATION in parts:
        decoder = build(model, case, dtype, threads=threads, operation=Operation.GENERATION)
        found["next logits"] = copy(decoder.feed(case.tokens[0]))
        decoder.generate(1, Sampling(temperature=0.0), np.zeros(1))  # need only end
    return {"losses": np.array([first, *rest])} | found


@check("threads.state", Operation.EVALUATION, limit=LIMIT)
def state(candidate: type[Model], reference: type[Model], seed: int) -> Verdict:
    """The caller's floating-point state, random generators, signals and settings are left alone."""
    _settings()  # what looking itself changes is changed now
    before, threads = _settings(), threading.active_count()
    exercise = Exercise(candidate, WIDE, seed, 2)
    for what, call in ({"creation": lambda: None} | exercise.calls).items():
        call()
        after = _settings()
        for name in before | after:
            was, found = (settings.get(name, "nothing") for settings in (before, after))
            if found != was:
                return Verdict(Status.FAIL, f"after {what} {name} is {found}, and was {was}")
    more = threading.active_count() - threads
    calls = ", ".join(exercise.calls)
    evidence = (
        f"{len(before)} settings of the process are as before after creation, {calls}; "
        f"{more} Python threads more"
    )
    return Verdict(Status.PASS, evidence)


def _settings() -> dict[str, str]:
    """What a computation has no business to change, item by item."""
    status = Path("/proc/self/status").read_text().splitlines()
    settings: dict[str, Any] = _arithmetic()
    settings |= {f"np.geterr()[{key!r}]": value for key, value in np.geterr().items()}
    settings |= {
        f"np.get_printoptions()[{key!r}]": value for key, value in np.get_printoptions().items()
    }
    settings |= {f"the handler of {s.name}": signal.getsignal(s) for s in signal.Signals}
    settings |= {
        f"{line[:6]} of /proc/self/status": f"{int(line[7:], 16) & ~OF_THE_LIBRARY:x}"
        for line in status
        if line.startswith(("SigBlk", "SigIgn", "SigCgt"))
    }
    settings |= {f"os.environ[{key!r}]": value for key, value in os.environ.items()}
    settings |= {f"warnings.filters[{i}]": value for i, value in enumerate(warnings.filters)}
    settings |= {
        "the state of np.random (its digest)": _digest(np.random.get_state()),
        "the state of random (its digest)": _digest(random.getstate()),
        "the locale": locale.setlocale(locale.LC_ALL),
        "the working directory": Path.cwd(),
        "sys.gettrace()": sys.gettrace(),
        "sys.getprofile()": sys.getprofile(),
        "sys.getrecursionlimit()": sys.getrecursionlimit(),
        "sys.getswitchinterval()": sys.getswitchinterval(),
        "os.sched_getaffinity(0)": sorted(os.sched_getaffinity(0)),
        "the priority": os.getpriority(os.PRIO_PROCESS, 0),
        "gc.isenabled()": gc.isenabled(),
        "gc.get_threshold()": gc.get_threshold(),
        "sys.stdout": sys.stdout,
        "sys.stderr": sys.stderr,
    }
    return {name: str(value) for name, value in settings.items()}


def _arithmetic() -> dict[str, Any]:
    """What another rounding, denormals flushed or denormals taken for zero would change."""
    small, tiny, one = np.float64(2.5e-308), np.float64(1e-310), np.float64(1.0)
    down, single = np.float64(1e-20), np.float32(1e-39)
    with np.errstate(all="ignore"):
        results = {
            "2.5e-308 / 4": small / 4,
            "1e-310 · 1": tiny * one,
            "1e-39 · 1 in float32": single * np.float32(1.0),
            "1 + 1e-20": one + down,
            "1 - 1e-20": one - down,
            "-1 - 1e-20": -one - down,
        }
    return {name: float(result).hex() for name, result in results.items()}


def _digest(value: object) -> str:
    return hashlib.sha256(pickle.dumps(value)).hexdigest()[:16]


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
