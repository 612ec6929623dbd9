"""A model's whole life in guarded buffers.

Promises: what the model touches besides its buffers and the arrays that it is given ends the
process; the caller's arrays are read-only throughout.
Leaves out: which calls there are (`cllm.harness.guard.life`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager

import numpy as np
from numpy.typing import NDArray

from cllm.harness.cases import Case
from cllm.harness.guard import Arena, OutOfBounds, Side
from cllm.harness.guard.life import Arrays, Call, Results, calls, draw_inputs, input_buffers
from cllm.model import Model
from cllm.plan import Operation, Plan

Around = Callable[[Arena, Plan, Call], AbstractContextManager[None]]
"""What is done with the buffers before and after a call."""


class Lent(dict[str, NDArray[np.generic]]):
    """Inputs of a case that are unreadable as soon as the call is over."""

    def __init__(self, case: Case) -> None:
        self._inputs = draw_inputs(case)
        self._entries = dict(zip(self._inputs, input_buffers(self._inputs), strict=True))

    def __missing__(self, name: str) -> NDArray[np.generic]:
        entry = self._entries[name]
        array = Arena([entry], Side.START).buffers[entry.name]
        array[...] = self._inputs[name]
        return array


def plan_of(
    candidate: type[Model],
    case: Case,
    threads: int,
    dtype: str = "float32",
    operations: Iterable[Operation] = (),
) -> Plan:
    """For some operations, or everything that the candidate offers."""
    return candidate.plan(
        case.setting.config,
        case.setting.batch_size,
        case.setting.seq_len,
        operations=operations or candidate.parts,
        threads=threads,
        dtype=dtype,
    )


@contextmanager
def as_is(arena: Arena, plan: Plan, call: Call) -> Iterator[None]:
    """Leave the buffers as they are."""
    yield


def live(
    candidate: type[Model],
    case: Case,
    side: Side | None,
    around: Around = as_is,
    *,
    threads: int = 1,
    earlier: tuple[Case, ...] = (),
    results: Results | None = None,
) -> Results:
    """The results of a whole life in buffers guarded at a side, or ordinary ones.

    `earlier` are cases that the same model has lived through before; `results` is filled as they
    come, in case that they end early. Raises `OutOfBounds` for a
    write that no page could catch.
    """
    plan = plan_of(candidate, case, threads)
    if side is None:
        return run(candidate(plan, plan.allocate()), case, draw_inputs(case))
    with Arena(plan.buffers.values(), side) as arena:
        model = candidate(plan, dict(arena.buffers))
        for one in earlier:
            _run_guarded(model, one, arena, side, around)
        return _run_guarded(model, case, arena, side, around, results)


def _run_guarded(
    model: Model,
    case: Case,
    arena: Arena,
    side: Side,
    around: Around,
    results: Results | None = None,
) -> Results:
    results = {} if results is None else results
    given = draw_inputs(case)
    entries = input_buffers(given)
    with Arena(entries, side) as callers:
        for entry, name in zip(entries, given, strict=True):
            callers.buffers[entry.name][...] = given[name]
            given[name] = callers.buffers[entry.name]
        with callers.read_only(*callers.buffers):
            for call in calls(model, case, given):
                with around(arena, model.planned, call):
                    results |= call.run()
                _verify(call, arena, callers)
    return results


def run(model: Model, case: Case, given: Arrays) -> Results:
    """The results of a whole life."""
    results: Results = {}
    for call in calls(model, case, given):
        results |= call.run()
    return results


def _verify(call: Call, *arenas: Arena) -> None:
    try:
        for arena in arenas:
            arena.verify()
    except OutOfBounds as error:
        raise OutOfBounds(f"{error}, found after {call.name}") from None
