"""Races between a candidate's threads, where the thread sanitizer watches."""

from __future__ import annotations

import ctypes
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

import cllm
from cllm.config import Config
from cllm.decoder import Sampling
from cllm.harness.cases import (
    BUSY,
    SETTINGS,
    Setting,
    draw_batches,
    draw_case,
    on_lattice,
)
from cllm.harness.checks.check import check
from cllm.harness.guard import life
from cllm.harness.runner import build
from cllm.harness.sanitizers import ENTRIES, THREAD, loaded, mapped, reports, stacks
from cllm.harness.verdict import Inconclusive, Status, Verdict
from cllm.model import Model, Update
from cllm.plan import Operation

WORK = (SETTINGS[-1], BUSY, Setting(Config(4000, 96, 2, 3, 40), 1, 6))
"""As many rows as threads, more, and fewer; the last is large enough for teams at one token. All
but the first are taken on the lattice as well."""

THREADS = (2, 3, 7)

RUN_IT = "python -m cllm.harness.sanitizers thread cllm check ..."


@check("races.threads", limit=300.0)
def threads(candidate: type[Model], reference: type[Model], seed: int) -> Verdict:
    """No two threads touch the same memory unordered, as the thread sanitizer sees it.

    Training, generation and all other calls, with fewer and with more threads than rows. Without
    the sanitizer, or where it cannot see, nothing is checked.
    """
    if not loaded(THREAD):
        return _not_checked(f"the thread sanitizer is not loaded: {RUN_IT}")
    with reports() as reported:
        _race()
        if not reported():
            raise Inconclusive("the sanitizer did not report a race that was made for it")
    runs, report = 0, ""
    with reports() as reported:
        for _ in work(candidate, seed):
            runs += 1
            if report := reported():
                break
    if blind := _blind(candidate):
        return _not_checked(blind)
    if report:
        seen = " and ".join(stacks(report)) or "in code without debug information (-g)"
        return Verdict(Status.FAIL, f"a race: {seen}", {"report": report})
    names = ", ".join(path.name.partition(".")[0] for path in objects(candidate))
    evidence = f"no race in {runs} runs of 2 to {max(THREADS)} threads through {names}"
    return Verdict(Status.PASS, evidence)


def _not_checked(why: str) -> Verdict:
    return Verdict(Status.NOT_APPLICABLE, f"not checked: {why}")


def work(candidate: type[Model], seed: int) -> Iterator[None]:
    """Whole lives, and what a model may do otherwise in its first call."""
    for setting in (*WORK, *(on_lattice(each, candidate.lattice_parts) for each in WORK[1:])):
        case = draw_case(setting, seed)
        for count in THREADS:
            for operation in sorted(candidate.parts):
                model = build(candidate, case, threads=count, operation=operation)
                given = life.draw_inputs(case)
                for call in life.calls(model, case, given):
                    call.run()
                yield
            if Operation.TRAINING in candidate.parts:
                for clip in (None, 0.1):
                    _train(candidate, setting, seed, count, clip)
                    yield
            if Operation.GENERATION in candidate.parts:
                _generate(candidate, setting, seed, count)
                yield


def _train(
    candidate: type[Model], setting: Setting, seed: int, threads: int, clip: float | None
) -> None:
    """Several steps in one call."""
    model = build(candidate, draw_case(setting, seed), threads=threads)
    generator = np.random.default_rng(seed)
    shape = setting.batch_size, setting.seq_len
    tokens, targets = draw_batches(setting.config, generator, 3, *shape)
    model.steps(tokens, targets, [Update(step, 0.01, clip=clip) for step in (1, 2, 3)])


def _generate(candidate: type[Model], setting: Setting, seed: int, threads: int) -> None:
    """Until the window has slid."""
    case = draw_case(setting, seed)
    model = build(candidate, case, threads=threads, operation=Operation.GENERATION)
    model.feed(case.tokens[0, :2])
    uniforms = np.random.default_rng(seed).random(setting.seq_len + 2)
    model.generate(len(uniforms), Sampling(), uniforms)


def _race() -> None:
    """Two threads that tell the sanitizer of writes to one place, without any order.

    They are no threads of Python's, whose lock would order them most of the time.
    """
    library, place = ctypes.CDLL(None), ctypes.c_int()
    workers = [ctypes.c_void_p() for _ in range(2)]
    for worker in workers:
        library.pthread_create(
            ctypes.byref(worker), None, library.__tsan_write4, ctypes.byref(place)
        )
    for worker in workers:
        library.pthread_join(worker, None)


def _blind(candidate: type[Model]) -> str:
    """Why the sanitizer cannot see what this candidate's threads do; empty where it can."""
    compiled = objects(candidate)
    if not compiled:
        return f"{candidate.__name__} has no compiled code beside it"
    everywhere = mapped()
    for path in compiled:
        content = path.read_bytes()
        if ENTRIES[THREAD] not in content:
            return f"{path.name} was built without -fsanitize=thread"
        if b"libgomp.so" in content:
            return (
                f"{path.name} runs on gcc's OpenMP, which gives false alarms: "
                "build it with clang and LLVM's libomp"
            )
        uses_llvm = b"libomp.so" in content or b"libiomp5.so" in content
        if uses_llvm and not any(other.name == "libarcher.so" for other in everywhere):
            return f"LLVM's OpenMP needs its tool Archer to be understood: {RUN_IT}"
    return ""


def objects(candidate: type[Model]) -> list[Path]:
    """The shared objects that lie with a candidate's module; if none do, with its package."""
    folders = [Path(inspect.getfile(candidate)).resolve().parent]
    package = sys.modules[candidate.__module__.partition(".")[0]]
    if package.__file__ and package is not cllm:  # ours holds more than one candidate
        folders.append(Path(package.__file__).resolve().parent)
    for folder in folders:
        if found := [path for path in mapped() if folder in path.resolve().parents]:
            return found
    return []
