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
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from cllm.config import Config
from cllm.decoder import Sampling
from cllm.harness.cases import Case, Setting, draw_batches, draw_updates
from cllm.harness.checks.check import check
from cllm.harness.exercise import SMALL, WIDE, Exercise
from cllm.harness.judge import compare_cases
from cllm.harness.runner import Arrays, build, calibrate, copy, tensors
from cllm.harness.tolerance import GRADIENTS, Comparison, compare, compare_tensors, loss_tolerance
from cllm.harness.verdict import Status, Verdict
from cllm.model import Model
from cllm.plan import Operation

LIMIT = 20.0
"""Seconds after which a step is taken to hang."""

MANY = 8
"""More threads than the settings have rows."""

FEW_ROWS = (
    Setting(Config(7, 4, 1, 1, 3), 1, 1),
    Setting(Config(29, 12, 2, 2, 17), 2, 3),
    Setting(Config(500, 128, 1, 4, 1500), 2, 1),
)
"""The last has work for three threads of the optimized model, on two rows."""

STEPS = 3

CHILD_SECONDS = 8.0
"""How long a child may take to train on; it takes milliseconds."""


@check("threads.counts", Operation.TRAINING, limit=LIMIT)
def counts(candidate: type[Model], reference: type[Model], seed: int) -> Verdict:
    """Step, steps and generation are right at 1 thread and with more threads than rows."""

    def compare_case(case: Case) -> list[Comparison]:
        if case.draw and case.setting is FEW_ROWS[-1]:
            return []  # too large to be drawn more than once
        exact, errors = calibrate(partial(_train, reference, 1), case, 1)
        tolerance = loss_tolerance(exact["losses"], np.maximum.accumulate(errors["losses"]))
        changes = {name: tensor for name, tensor in exact.items() if name != "losses"}
        comparisons = []
        for threads in (1, MANY):
            got = _train(candidate, threads, case, "float32")
            how = f", {threads} thread{'s' * (threads > 1)}"
            found = [compare("losses", got["losses"], exact["losses"], tolerance)]
            found += compare_tensors(got, changes, errors, GRADIENTS)
            comparisons += [_renamed(comparison, how) for comparison in found]
        return comparisons

    return compare_cases(compare_case, FEW_ROWS, seed)


def _renamed(comparison: Comparison, how: str) -> Comparison:
    from dataclasses import replace

    return replace(comparison, tensor=comparison.tensor + how)


def _train(model: type[Model], threads: int, case: Case, dtype: str) -> Arrays:
    """`losses` of a step and of two in one call, `change of` parameters, `next logits`."""
    setting = case.setting
    generator = np.random.default_rng([case.seed, case.draw])
    updates = draw_updates(generator, case.step, STEPS)
    batches = draw_batches(setting.config, generator, STEPS, *case.tokens.shape)
    tokens, targets = batches
    built = build(model, case, dtype, threads=threads)
    start = tensors(built, "parameters")
    first = float(built.step(tokens[0], targets[0], updates[0]))
    rest = built.steps(tokens[1:], targets[1:], updates[1:])
    end = tensors(built, "parameters")
    found = {f"change of {name}": end[name] - start[name] for name in end}
    if Operation.GENERATION in model.parts:
        decoder = build(model, case, dtype, threads=threads, operation=Operation.GENERATION)
        decoder.feed(case.tokens[0])
        decoder.generate(1, Sampling(temperature=0.0), np.zeros(1))
        found["next logits"] = copy(decoder.feed(case.tokens[0]))
    return {"losses": np.array([first, *rest])} | found


@check("threads.state", Operation.EVALUATION, limit=LIMIT)
def state(candidate: type[Model], reference: type[Model], seed: int) -> Verdict:
    """The caller's floating-point state, random generators, signals and settings are left alone."""
    _state()  # what looking itself changes is changed now
    before, threads = _state(), threading.active_count()
    exercise = Exercise(candidate, WIDE, seed, 2)
    for what, call in ({"creation": lambda: None} | exercise.calls).items():
        call()
        for name, value in _state().items():
            if value != before[name]:
                evidence = f"{name} was {_short(before[name])}, and is {_short(value)} after {what}"
                return Verdict(Status.FAIL, evidence)
    more = threading.active_count() - threads
    calls = ", ".join(exercise.calls)
    evidence = f"{len(before)} settings as before after creation, {calls}; {more} Python threads more"
    return Verdict(Status.PASS, evidence)


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 60 else text[:60] + "..."


def _state() -> dict[str, Any]:
    """What a computation has no business to change, by name."""
    handlers = {s.name: signal.getsignal(s) for s in signal.Signals}
    masks = [line for line in Path("/proc/self/status").read_text().splitlines() if line[:3] == "Sig"]
    return {
        "floating-point arithmetic (rounding, denormals)": _arithmetic(),
        "np.geterr()": np.geterr(),
        "np.get_printoptions()": np.get_printoptions(),
        "the state of np.random": _digest(np.random.get_state()),
        "the state of random": _digest(random.getstate()),
        "signal handlers": handlers,
        "signals caught, ignored and blocked": [line for line in masks if "SigQ" not in line],
        "the locale": locale.setlocale(locale.LC_ALL),
        "the working directory": str(Path.cwd()),
        "os.environ": dict(os.environ),
        "sys.gettrace()": sys.gettrace(),
        "sys.getprofile()": sys.getprofile(),
        "sys.getrecursionlimit()": sys.getrecursionlimit(),
        "sys.getswitchinterval()": sys.getswitchinterval(),
        "the filters of warnings": list(warnings.filters),
        "the processors of this thread": os.sched_getaffinity(0),
        "gc.isenabled()": gc.isenabled(),
        "gc.get_threshold()": gc.get_threshold(),
        "the priority": os.getpriority(os.PRIO_PROCESS, 0),
        "sys.stdout": id(sys.stdout),
        "sys.stderr": id(sys.stderr),
    }


def _arithmetic() -> tuple[str, ...]:
    """Results that every rounding direction, flush to zero or denormals as zero would change."""
    small, tiny, one = np.float64(2.5e-308), np.array([1e-310]), np.float64(1.0)
    down = np.float64(1e-20)
    results = (small / 4, (tiny * one)[0], one + down, one - down, -one - down, one / 3)
    single = np.float32(1e-39) * np.float32(1.0)
    return tuple(float(result).hex() for result in (*results, single))


def _digest(value: object) -> str:
    return hashlib.sha256(pickle.dumps(value)).hexdigest()[:16]


@check("threads.callers", Operation.EVALUATION, limit=LIMIT)
def callers(candidate: type[Model], reference: type[Model], seed: int) -> Verdict:
    """Two Python threads that train two models at once get the bytes that each gets alone."""
    seeds = (seed, seed + 1000)
    alone = [_repeat(Exercise(candidate, SMALL, s, 2)) for s in seeds]
    together: list[dict[str, bytes] | Exception | None] = [None, None]
    exercises = [Exercise(candidate, SMALL, s, 2) for s in seeds]
    start = threading.Barrier(2)

    def work(i: int) -> None:
        try:
            start.wait()
            together[i] = _repeat(exercises[i])
        except Exception as error:
            together[i] = error

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        threads = [threading.Thread(target=work, args=(i,)) for i in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    for expected, got in zip(alone, together, strict=True):
        if isinstance(got, Exception):
            raise got
        assert got is not None
        for name, value in expected.items():
            if got[name] != value:
                evidence = f"{name} of a model differ where another thread trains another at once"
                return Verdict(Status.FAIL, evidence)
    names = ", ".join(alone[0])
    return Verdict(Status.PASS, f"two models trained at once gave the same bytes as alone: {names}")


def _repeat(exercise: Exercise, rounds: int = 8) -> dict[str, bytes]:
    for _ in range(rounds):
        exercise.run()
    return {name: value.tobytes() for name, value in exercise.state().items()}


@check("threads.fork", Operation.EVALUATION, limit=LIMIT)
def fork(candidate: type[Model], reference: type[Model], seed: int) -> Verdict:
    """A process forked after work with two threads works on, to its parent's bytes, and ends."""
    exercise = Exercise(candidate, WIDE, seed, 2)
    exercise.run()
    theirs = _in_child(lambda: _repeat(exercise, 2))
    ours = _repeat(exercise, 2)
    if isinstance(theirs, str):
        return Verdict(Status.FAIL, theirs)
    for name, value in ours.items():
        if theirs[name] != value:
            return Verdict(Status.FAIL, f"{name} differ between a forked child and its parent")
    evidence = f"a forked child came to the same bytes as its parent: {', '.join(ours)}"
    return Verdict(Status.PASS, evidence)


def _in_child(function: Callable[[], dict[str, bytes]]) -> dict[str, bytes] | str:
    """What the function gives in a forked child, or what became of it."""
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
        if not select.select([pipe], [], [], CHILD_SECONDS)[0]:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return f"a forked child hung: it had not trained on within {CHILD_SECONDS:g} s"
        sent = pipe.read()
    _, status = os.waitpid(child, 0)
    if status:
        how = os.waitstatus_to_exitcode(status)
        return f"a forked child ended with exit status {how}"
    found: dict[str, bytes] = pickle.loads(sent)
    return found
