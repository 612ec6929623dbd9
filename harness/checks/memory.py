"""Checks of memory: no leak, nothing allocated in a steady step, nothing left behind."""

from __future__ import annotations

import gc
import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

from cllm.harness.checks.check import check
from cllm.harness.exercise import SMALL, WIDE, Exercise
from cllm.harness.leaks import count_allocations, find_leaks
from cllm.harness.verdict import Status, Verdict
from cllm.model import Model
from cllm.plan import Operation

THREADS = 2
WARM_UP = 3
"""Calls, and models, before anything is counted: caches and pools fill."""

ROUNDS = 4
"""n of `find_leaks`: a leak on every fourth call is still found."""

MODELS = 2
"""n of `find_leaks` for whole models."""

STEADY_STEPS = 16
"""In one window of `count_allocations`."""


@check("memory.leaks", Operation.EVALUATION)
def leaks(candidate: type[Model], reference: type[Model], seed: int) -> Verdict:
    """No memory grows with the steps, passes and tokens: 0 bytes.

    memray traces n, 2n and 4n of each call after a warm-up; what grows with their number is a
    leak, whatever else Python keeps. The count of the C heap and private resident memory confirm.
    """
    exercise = Exercise(candidate, SMALL, seed, THREADS)
    for _ in range(WARM_UP):
        exercise.run()
    calls = dict(exercise.calls)
    works = {}
    if step := calls.pop("step", None):
        works["step"] = step
    works["round of " + ", ".join(calls)] = lambda: [call() for call in calls.values()]
    for name, work in works.items():
        growth = find_leaks(work, ROUNDS)
        if growth.leaks:
            return _leak(f"each {name}", growth.leaks, growth.heap, growth.resident)
    evidence = f"0 bytes after {ROUNDS}, {2 * ROUNDS} and {4 * ROUNDS} times each a "
    return Verdict(Status.PASS, evidence + " and a ".join(works))


@check("memory.models", Operation.EVALUATION)
def models(candidate: type[Model], reference: type[Model], seed: int) -> Verdict:
    """Creating, using and dropping models leaves no memory behind."""

    def work() -> None:
        Exercise(candidate, SMALL, seed, THREADS).run()

    for _ in range(WARM_UP):
        work()
    growth = find_leaks(work, MODELS)
    if growth.leaks:
        return _leak("each model", growth.leaks, growth.heap, growth.resident)
    evidence = f"0 bytes a model after {MODELS}, {2 * MODELS} and {4 * MODELS} models"
    return Verdict(Status.PASS, evidence)


def _leak(what: str, found: list, heap: float | None, resident: float) -> Verdict:  # type: ignore[type-arg]
    more = f", and {len(found) - 1} places more" if len(found) > 1 else ""
    seen = "" if heap is None else f"the C heap grows by {heap:.4g} bytes, "
    evidence = f"{what} leaks {found[0]}{more} ({seen}private memory by {resident:.4g})"
    details = {"leaks": [vars(leak) for leak in found]}
    return Verdict(Status.FAIL, evidence, details)


@check("memory.steady", Operation.TRAINING)
def steady(candidate: type[Model], reference: type[Model], seed: int) -> Verdict:
    """A step asks no allocator for memory, for candidates with `allocates_in_step` False.

    Not even for what it frees at once. Python objects of up to 512 bytes, as a call and its float
    result need, come from memory that the interpreter has and are not counted.
    """
    if candidate.allocates_in_step:
        evidence = f"{candidate.__name__} does not claim it (allocates_in_step)"
        return Verdict(Status.NOT_APPLICABLE, evidence)
    for setting, threads in ((SMALL, 1), (WIDE, 1), (WIDE, THREADS)):
        exercise = Exercise(candidate, setting, seed, threads)
        for _ in range(WARM_UP):
            exercise.step()
        number, places = count_allocations(exercise.step, STEADY_STEPS)
        if number:
            evidence = (
                f"{number / STEADY_STEPS:.3g} allocations a step with {threads} of threads planned "
                f"({setting}), asked for at {places[0]}"
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

        def use() -> dict[str, set[str]]:
            Exercise(candidate, WIDE, seed, THREADS).run()
            gc.collect()
            return _possessions(folder, shared)

        for _ in range(WARM_UP):
            before = use()
        for _ in range(MODELS):
            after = use()
    for what, names in after.items():
        more = sorted(names - before[what])
        if len(names) >= len(before[what]) + MODELS:
            evidence = f"{MODELS} models left {len(more)} {what}: {', '.join(more[:3])}"
            return Verdict(Status.FAIL, evidence, {what: more})
    kept = ", ".join(f"{len(names)} {what}" for what, names in after.items())
    return Verdict(Status.PASS, f"{MODELS} models more added nothing to {kept}")


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
    python = {thread.native_id: thread.name for thread in threading.enumerate()}
    return {
        "file descriptors": {f"{number} ({target})" for number, target in files.items()},
        "threads": {f"{task.name} ({python.get(int(task.name), 'not of Python')})" for task in tasks},
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
    with tempfile.TemporaryDirectory() as folder:
        with mock.patch.dict(os.environ, TMPDIR=folder), mock.patch("tempfile.tempdir", folder):
            yield Path(folder)


@contextmanager
def _shared_memory_seen() -> Iterator[set[str]]:
    """The names of shared memory that Python is asked for: others' lie in the same folder."""
    import _posixshmem

    names: set[str] = set()
    opening = _posixshmem.shm_open

    def seen(path: str, *arguments: int, **options: int) -> int:
        names.add(path.lstrip("/"))
        return opening(path, *arguments, **options)

    with mock.patch("_posixshmem.shm_open", seen):
        yield names
