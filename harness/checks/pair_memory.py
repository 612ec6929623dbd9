"""Checks of single functions: what they touch, and what they refuse.

Promises: arrays lie in guarded pages (`cllm.harness.guard`), so that whoever leaves one ends the
process of the check, which knows then by how many bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cllm.harness.checks.check import Kind, check
from cllm.harness.differences import first_of
from cllm.harness.guard import Arena, Side
from cllm.harness.pairs.cases import (
    MEDIUM,
    Expected,
    PairCase,
    drawn_cases,
    expect,
    given_cases,
    small_cases,
)
from cllm.harness.pairs.pair import Arguments, Function, Pair, copy
from cllm.harness.pairs.sparse import draw_sparse
from cllm.harness.pairs.unfit import attempts
from cllm.harness.tolerance import Comparison
from cllm.harness.verdict import Status, Verdict
from cllm.plan import Buffer, Role

DRAWN = 6


@check("pair.bounds", kind=Kind.PAIR)
def bounds(pair: Pair, reference: Function | None, seed: int) -> Verdict:
    """Nothing beside an array is read or written, at either end, and nothing to an input.

    Each array lies flush against an unreadable page; what outputs held is signalling NaN.
    """
    pair = pair.against(reference)
    if not pair.axes:
        return _not_applicable(pair, "takes no arrays")
    cases = small_cases(pair, given_cases(pair, seed), MEDIUM) + drawn_cases(pair, seed, DRAWN)

    def problems() -> Iterator[str]:
        for case in cases:
            arguments = case.arguments(pair)
            expected = expect(pair, case, arguments)
            for side in Side:
                with Arena(_buffers(pair, arguments), side) as arena:
                    given = _placed(pair, arguments, arena)
                    if pair.writes:
                        arena.poison(*pair.writes)
                    with arena.read_only(*pair.reads, *pair.ids):
                        got = pair.call(pair.candidate, given)
                    arena.verify()
                    for wrong in _beyond(expected, got):
                        yield f"{wrong}, guarded at the {side} of each array ({case})"

    return first_of(problems(), f"{len(cases)} cases stayed within their arrays, at both ends")


@check("pair.indices", kind=Kind.PAIR)
def indices(pair: Pair, reference: Function | None, seed: int) -> Verdict:
    """Rows beyond 2^31 and 2^32 elements are found: no index wraps.

    In arrays of the pair's large sizes, of which only the rows exist that ids name.
    """
    pair = pair.against(reference)
    if pair.large is None:
        return _not_applicable(pair, "declares no large sizes")
    try:
        sparse = draw_sparse(pair, pair.large, seed)
    except OSError as error:
        return _not_applicable(pair, f"could not be given its large sizes here: {error}")
    case = PairCase(pair.large, seed)

    def problems() -> Iterator[str]:
        expected = expect(pair, case, sparse.compact)
        got = sparse.gather(pair.call(pair.candidate, sparse.given))
        sparse.arena.verify()
        for wrong in _beyond(expected, got):
            yield f"{wrong} (the rows of {sparse.rows.tolist()}, {case})"

    elements = max(array.size for array in sparse.arena.buffers.values())
    return first_of(problems(), f"right in an array of {elements:,} elements")


@check("pair.refuses", kind=Kind.PAIR)
def refuses(pair: Pair, reference: Function | None, seed: int) -> Verdict:
    """Arrays that do not fit are refused before anything is written.

    Too small ones, read-only outputs and ids out of range are; of another dtype, non-contiguous,
    misaligned or overlapping ones are, or the result is right.
    """
    pair = pair.against(reference)
    if not pair.refuses:
        return _not_applicable(pair, "does not promise to look at its arrays")
    if not pair.axes:
        return _not_applicable(pair, "takes no arrays")
    case = max(given_cases(pair, seed), key=_fewest_of_one)
    arguments = case.arguments(pair)
    expected = expect(pair, case, arguments)
    tried = list(attempts(pair, case, arguments))

    def problems() -> Iterator[str]:
        for attempt in tried:
            given = {name: copy(value) for name, value in arguments.items()}
            attempt.spoil(given)
            before = {n: np.array(v) for n, v in given.items() if isinstance(v, np.ndarray)}
            try:
                got = pair.call(pair.candidate, given)
            except Exception:
                for name, content in before.items():
                    if given[name].tobytes() != content.tobytes():
                        yield f"{attempt} was refused after {name} had been written ({case})"
                continue
            if attempt.fatal:
                yield f"{attempt} was not refused ({case})"
            for wrong in _beyond(expected, got):
                yield f"{attempt} was not refused, and {wrong} ({case})"

    return first_of(problems(), f"{len(tried)} arrays that do not fit were refused or mastered")


def _fewest_of_one(case: PairCase) -> tuple[int, int]:
    """Prefers cases in which no size is 1, the smaller ones."""
    sizes = list(case.sizes.values())
    return -sum(size == 1 for size in sizes), -sum(sizes)


def _buffers(pair: Pair, arguments: Arguments) -> list[Buffer]:
    return [
        Buffer(name, arguments[name].shape, arguments[name].dtype, Role.SCRATCH, pair.alignment)
        for name in pair.axes
    ]


def _placed(pair: Pair, arguments: Arguments, arena: Arena) -> Arguments:
    """The arguments with their arrays in the arena."""
    for name, array in arena.buffers.items():
        array[...] = arguments[name]
    return {**arguments, **arena.buffers}


def _beyond(expected: Expected | None, got: dict[str, NDArray[Any]]) -> Iterator[Comparison]:
    found = expected.hold(got) if expected else ()
    return (comparison for comparison in found if not comparison.passed)


def _not_applicable(pair: Pair, why: str) -> Verdict:
    return Verdict(Status.NOT_APPLICABLE, f"{pair.name} {why}")
