"""Checks of memory: no leak, nothing allocated in a steady step, nothing left behind."""

from __future__ import annotations

import gc
import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from unittest import mock

from cllm.harness.cases import Setting, on_lattice
from cllm.harness.checks.check import check
from cllm.harness.exercise import SMALL, WIDE, Exercise
from cllm.harness.memory.allocations import Work, count_allocations
from cllm.harness.memory.leaks import INTERVALS, Growth, find_leaks
from cllm.harness.verdict import Status, Verdict
from cllm.harness.words import plural
from cllm.model import Model
from cllm.plan import Operation

THREADS = 2
WARM_UP = 3
"""Calls, and models, before anything is counted: caches and pools fill."""

ROUNDS = 4
"""n of `find_leaks`: a leak on every fourth call is still found."""

MODELS = 2
"""The same for whole models."""

STEADY_STEPS = 16
"""In one window of `count_allocations`."""


@check("memory.leaks", Operation.EVALUATION)
def leaks(candidate: type[Model], reference: type[Model], seed: int) -> Verdict:
    """No memory grows with steps, passes, tokens, loads or refused calls: 0 bytes.

    memray traces n, 2n and 4n of each call after a warm-up; what grows with their number is a
    leak, whatever else Python keeps. The count of the C heap sees what memray does not.
    """
    exercise = Exercise(candidate, _setting(candidate), seed, THREADS)
    calls = {"loads": exercise.load, "refusals": exercise.refuse, **exercise.calls}
    for _ in range(WARM_UP):
        for call in calls.values():
            call()
    works: dict[str, tuple[Work, int]] = {}
    if step := calls.pop("step", None):
        works["step"] = step, 40
    others = list(calls.values())
    works["round of " + ", ".join(calls)] = lambda: [call() for call in others], 4
    for name, (work, repeats) in works.items():
        growth = find_leaks(work, ROUNDS, repeats)
        if growth.leaks:
            return _leak(f"each {name}", growth)
    told = " and ".join(f"{7 * ROUNDS + INTERVALS * n}" for _, n in works.values())
    return Verdict(Status.PASS, f"0 bytes grow over {told} times a " + " and a ".join(works))


@check("memory.models", Operation.EVALUATION)
def models(candidate: type[Model], reference: type[Model], seed: int) -> Verdict:
    """Creating, using and dropping models leaves no memory behind."""

    def work() -> None:
        Exercise(candidate, SMALL, seed, THREADS).run()

    for _ in range(WARM_UP):
        work()
    growth = find_leaks(work, MODELS, MODELS)
    if growth.leaks:
        return _leak("each round of models", growth)
    evidence = f"0 bytes grow over {(7 + INTERVALS) * MODELS} rounds of models made and dropped"
    return Verdict(Status.PASS, evidence)


def _setting(candidate: type[Model]) -> Setting:
    """Large enough for threads where there are any."""
    return WIDE if candidate.parallel else SMALL


def _leak(what: str, growth: Growth) -> Verdict:
    leaks = growth.leaks
    others = len(leaks) - 1
    more = f", and {plural(others, 'place')} more" if others else ""
    resident = f" ({growth.resident})" if growth.resident else ""
    evidence = f"{what} leaks {leaks[0]}{more}{resident}"
    return Verdict(Status.FAIL, evidence, {"leaks": [vars(leak) for leak in leaks]})


@check("memory.steady", Operation.TRAINING)
def steady(candidate: type[Model], reference: type[Model], seed: int) -> Verdict:
    """A step asks no allocator for memory, for candidates with `allocates_in_step` False.

    Not even for what it frees at once. Python objects of up to 512 bytes, as a call and its float
    result need, come from memory that the interpreter has and are not counted.
    """
    if candidate.allocates_in_step:
        evidence = f"{candidate.__name__} does not claim it (allocates_in_step)"
        return Verdict(Status.NOT_APPLICABLE, evidence)
    on_it = on_lattice(WIDE, candidate.lattice_parts)
    for setting, threads in ((SMALL, 1), (WIDE, 1), (WIDE, THREADS), (on_it, THREADS)):
        exercise = Exercise(candidate, setting, seed, threads)
        for _ in range(WARM_UP):
            exercise.step()
        number, places = count_allocations(exercise.step, STEADY_STEPS)
        if number:
            evidence = (
                f"{number / STEADY_STEPS:.3g} allocations in a step with {threads} "
                f"threads planned ({setting}), asked for at {places[0]}"
            )
            return Verdict(Status.FAIL, evidence, {"places": places})
    evidence = f"no allocation in {STEADY_STEPS} steps with 1 and with {THREADS} threads planned"
    return Verdict(Status.PASS, evidence)


@check("memory.left", Operation.EVALUATION)
def left(candidate: type[Model], reference: type[Model], seed: int) -> Verdict:
    """Models used and dropped leave no file, thread, process or shared memory behind.

    What the first models leave, and later ones do not add to, is a pool or a cache.
    """
    with _folder_of_its_own() as folder, _shared_memory_seen() as shared:

        def use() -> tuple[int, dict[str, set[str]]]:
            exercise = Exercise(candidate, _setting(candidate), seed, THREADS)
            exercise.run()
            made = sum(model is not None for model in (exercise.model, exercise.decoder))
            del exercise
            gc.collect()
            return made, _possessions(folder, shared)

        for _ in range(WARM_UP):
            _, before = use()
        number = 0
        for _ in range(MODELS):
            made, after = use()
            number += made
    for what, names in after.items():
        if len(names) >= len(before[what]) + MODELS:
            more = sorted(names - before[what])
            grown = len(names) - len(before[what])
            evidence = f"{number} models left {grown} {what} behind: {', '.join(more[:3])}"
            return Verdict(Status.FAIL, evidence, {what: more})
    kept = ", ".join(f"{len(names)} {what}" for what, names in after.items())
    return Verdict(Status.PASS, f"{number} models more added nothing to {kept}")


def _possessions(folder: Path, shared: set[str]) -> dict[str, set[str]]:
    """What this process has, by kind."""
    pid = os.getpid()
    files = {}
    for entry in Path("/proc/self/fd").iterdir():
        try:
            files[entry.name] = str(entry.readlink())
        except FileNotFoundError:
            continue  # the descriptor with which the folder is read
    tasks = list(Path("/proc/self/task").iterdir())
    python = {str(thread.native_id): thread.name for thread in threading.enumerate()}
    return {
        "file descriptors": {f"{number} ({target})" for number, target in files.items()},
        "threads": {f"{task.name} ({python.get(task.name, 'not of Python')})" for task in tasks},
        "processes": {f"process {child}" for child in _children(pid)},
        "temporary files": {str(path) for path in folder.rglob("*")},
        "shared memory segments": {name for name in shared if Path("/dev/shm", name).exists()},
    }


def _children(pid: int) -> Iterator[int]:
    """The processes that this one has started, ended ones that it has not waited for included."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                after_name = (entry / "stat").read_text().rpartition(")")[2]
            except (FileNotFoundError, ProcessLookupError):
                continue  # it has ended
            if int(after_name.split()[1]) == pid:
                yield int(entry.name)


@contextmanager
def _folder_of_its_own() -> Iterator[Path]:
    """An empty folder for temporary files."""
    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch.dict(os.environ, TMPDIR=folder),
        mock.patch("tempfile.tempdir", folder),
    ):
        yield Path(folder)


@contextmanager
def _shared_memory_seen() -> Iterator[set[str]]:
    """The names of shared memory that Python is asked for: others' lie in the same folder."""
    names: set[str] = set()
    opening = import_module("_posixshmem").shm_open

    def seen(path: str, *arguments: int, **options: int) -> int:
        names.add(path.lstrip("/"))
        return int(opening(path, *arguments, **options))

    with mock.patch("_posixshmem.shm_open", seen):
        yield names
