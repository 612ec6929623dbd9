"""Checks of memory: every buffer in guarded pages, through the whole life of a model.

A candidate that leaves its buffers, or writes to what it may only read, ends the process of the
check; `cllm.harness.guard` has said then which buffer it was, and how far from it.
Leaves out: buffers and batches that must be refused (`cllm.harness.checks.refusals`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from itertools import islice

import numpy as np

from cllm.config import Config
from cllm.harness.cases import Case, Setting, draw_case, on_lattice
from cllm.harness.checks.check import check
from cllm.harness.differences import differences, first_of, not_finite
from cllm.harness.guard import Arena, OutOfBounds, Side
from cllm.harness.guard.guarded import Around, live, plan_of, run
from cllm.harness.guard.life import ALL, Call, Results, calls, draw_inputs
from cllm.harness.runner import Arrays, calibrate, copy
from cllm.harness.tolerance import GRADIENTS, compare, tensor_tolerance
from cllm.harness.verdict import Verdict
from cllm.model import Model
from cllm.plan import Operation, Plan, Role

REAL = Setting(Config(381, 64, 2, 4, 128), 2, 16)
"""Real use."""

SMALL = (
    Setting(Config(7, 4, 1, 1, 3), 1, 1),
    Setting(Config(11, 6, 2, 3, 9), 1, 33),
    Setting(Config(19, 20, 1, 2, 70), 1, 70),
    Setting(Config(29, 12, 3, 2, 17), 5, 7),
)
"""One token; narrow heads; a row longer than a tile; widths that are no multiple of a vector's. The
last one is taken on the lattice as well."""


@check("buffers.bounds", Operation.EVALUATION)
def bounds(candidate: type[Model], reference: type[Model], seed: int) -> Verdict:
    """Nothing beside a buffer is read or written, at either end, and the results stay the same.

    With one thread and with two, each buffer and each array of the caller lies flush against an
    unreadable page. Another alignment may round differently: results that are not the bytes that
    ordinary buffers give are held to twice the tolerance of gradients. That such a candidate draws
    another token for it has a probability of some 1e-5.
    """

    def problems() -> Iterator[str]:
        for setting in (REAL, *SMALL, on_lattice(SMALL[-1], candidate.lattice_parts)):
            case = draw_case(setting, seed)
            runs = []
            beside: list[OutOfBounds] = []
            for side in Side:
                for threads in (1, 2) if setting is REAL else (1,):
                    got: Results = {}
                    try:
                        live(candidate, case, side, threads=threads, results=got)
                    except OutOfBounds as error:
                        beside.append(error)  # the other side's page says at which line
                    except Exception:
                        yield from not_finite(got)
                        raise
                    runs.append((side, got))
            if beside:
                raise beside[0]
            ordinary = live(candidate, case, None)
            for side, got in runs:
                where = f"guarded at the {side} of each buffer ({case})"
                yield from _beyond_rounding(reference, candidate.parts, case, got, ordinary, where)

    evidence = (
        f"whole lives in {2 + len(SMALL)} configurations stayed within their buffers, guarded at "
        "both ends, with 1 and 2 threads"
    )
    return first_of(problems(), evidence)


@check("buffers.inputs", Operation.EVALUATION)
def inputs(candidate: type[Model], reference: type[Model], seed: int) -> Verdict:
    """Nothing is written to what a call may only read: its pages are write-protected.

    Parameters, derived buffers and moments but in a step or update, gradients in forward, loss and
    generation, the caller's own arrays always. A plan without training takes parameters in an
    array that may not be written either.
    """

    def protect(arena: Arena, plan: Plan, call: Call) -> AbstractContextManager[None]:
        return arena.read_only(*_of_roles(plan, ALL - call.writes))

    def problems() -> Iterator[str]:
        for setting in (REAL, SMALL[-1], on_lattice(SMALL[-1], candidate.lattice_parts)):
            case = draw_case(setting, seed)
            yield from not_finite(live(candidate, case, Side.END, protect))
        for operation in candidate.parts - {Operation.TRAINING}:
            _run_frozen(candidate, case, operation)

    return first_of(problems(), "every call wrote to its own buffers alone, in 3 configurations")


@check("buffers.unwritten", Operation.EVALUATION)
def unwritten(candidate: type[Model], reference: type[Model], seed: int) -> Verdict:
    """Nothing is read before it is written: what no call has left for the next is poisoned.

    With signalling NaN, integers with their lowest value; the results must be the bytes that zeroed
    buffers give.
    """

    @contextmanager
    def poison(arena: Arena, plan: Plan, call: Call) -> Iterator[None]:
        if names := _of_roles(plan, call.fresh):
            arena.poison(*names)
        yield

    def problems() -> Iterator[str]:
        for setting in (REAL, *SMALL[1:], on_lattice(SMALL[-1], candidate.lattice_parts)):
            case = draw_case(setting, seed)
            clean = live(candidate, case, Side.END)
            where = f"where zeroed buffers give {{}}: something was read that nobody wrote ({case})"
            yield from _against(clean, where, candidate, case, poison)

    return first_of(problems(), "poisoned and zeroed buffers gave the same bytes in every call")


@check("buffers.stale", Operation.EVALUATION)
def stale(candidate: type[Model], reference: type[Model], seed: int) -> Verdict:
    """What earlier calls have left changes nothing: a used model gives the bytes of a fresh one.

    Of a model that has lived through other batches, over buffers full of plausible numbers where no
    call has left something for the next.
    """
    generator = np.random.default_rng(seed)

    @contextmanager
    def leave(arena: Arena, plan: Plan, call: Call) -> Iterator[None]:
        for name in _of_roles(plan, call.fresh):
            array = arena.buffers[name]
            if array.dtype.kind == "i":
                array[...] = generator.integers(0, plan.config.vocab_size, array.shape)
            else:
                array[...] = generator.normal(0.0, 3.0, array.shape)
        yield

    def problems() -> Iterator[str]:
        for setting in (REAL, SMALL[-1], on_lattice(SMALL[-1], candidate.lattice_parts)):
            case = draw_case(setting, seed)
            fresh = live(candidate, case, Side.END)
            earlier = (draw_case(setting, seed + 1), draw_case(setting, seed, 1))
            where = f"where a fresh model gives {{}}: something of earlier calls is left ({case})"
            yield from _against(fresh, where, candidate, case, leave, earlier)

    return first_of(problems(), "used models gave the bytes of fresh ones, in 3 configurations")


def _against(
    expected: Results,
    where: str,
    candidate: type[Model],
    case: Case,
    around: Around,
    earlier: tuple[Case, ...] = (),
) -> Iterator[str]:
    """What differs in another life, as far as it comes; then what has ended it."""
    got: Results = {}
    failure = None
    try:
        live(candidate, case, Side.END, around, earlier=earlier, results=got)
    except Exception as error:
        failure = error
    yield from differences(got, {name: expected[name] for name in got}, where)
    if failure:
        raise failure


def _run_frozen(candidate: type[Model], case: Case, operation: Operation) -> None:
    """All but `load` over parameters that nobody may write to."""
    plan = plan_of(candidate, case, 1, operations=(operation,))
    with Arena(plan.buffers.values(), Side.END) as arena:
        arena.buffers["parameters"][...] = case.parameters
        frozen = arena.buffers["parameters"].view()
        frozen.flags.writeable = False
        with arena.read_only("parameters"):
            model = candidate(plan, {**arena.buffers, "parameters": frozen})
            model.prepare()
            for call in islice(calls(model, case, draw_inputs(case)), 1, None):
                call.run()


def _of_roles(plan: Plan, roles: frozenset[Role]) -> list[str]:
    return [name for name, buffer in plan.buffers.items() if buffer.role in roles]


def _beyond_rounding(
    reference: type[Model],
    parts: frozenset[Operation],
    case: Case,
    got: Results,
    wanted: Results,
    where: str,
) -> Iterator[str]:
    """Results that are not finite, or further apart than the reference's rounding explains."""
    yield from not_finite(got)
    if all(array.tobytes() == wanted[name].tobytes() for name, array in got.items()):
        return
    _, errors = calibrate(partial(_of_reference, reference, parts & reference.parts), case)
    for name, expected in wanted.items():
        tolerance = 0.0
        if expected.dtype.kind == "f":
            error = errors.get(name, np.zeros(()))  # of a part that the reference lacks
            tolerance = 2 * tensor_tolerance(expected, error, GRADIENTS)
        comparison = compare(name, got[name], expected, tolerance)
        if not comparison.passed:
            yield f"{comparison}, {where}"


def _of_reference(
    reference: type[Model], parts: frozenset[Operation], case: Case, dtype: str
) -> Arrays:
    """A whole life of the reference."""
    plan = plan_of(reference, case, 1, dtype, parts)
    results = run(reference(plan, plan.allocate()), case, draw_inputs(case))
    return {name: copy(array) for name, array in results.items()}
