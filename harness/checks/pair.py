"""Checks of single functions: a pair's candidate against its reference.

Leaves out: what happens beside the arrays, and arrays that do not fit
(`cllm.harness.checks.pair_memory`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from cllm.harness.checks.check import Kind, check
from cllm.harness.differences import differences, first_of
from cllm.harness.judge import CaseResult, judge
from cllm.harness.pairs.cases import (
    MEDIUM,
    SITUATIONS,
    PairCase,
    drawn_cases,
    expect,
    given_cases,
    small_cases,
    smallest_failing,
)
from cllm.harness.pairs.pair import Arguments, Arrays, Function, Pair, copy, takes_threads
from cllm.harness.tolerance import Comparison
from cllm.harness.verdict import Inconclusive, Status, Verdict, from_exception

ROUNDS, MOST_ROUNDS = 2, 12
"""Rounds over the cases: those always taken, and those until each output was told from others."""

DRAWN = 10
"""Sizes that nobody chose."""

SMALL = 2**14
"""Elements of cases that are tried in every situation."""

CALLS = 36
"""Of one case: whoever is right ten times only is seen."""

COUNTS = (2, 3, 7)
"""Threads beside one."""


@check("pair.values", kind=Kind.PAIR)
def values(pair: Pair, reference: Function | None, seed: int) -> Verdict:
    """Every output within the tolerance, for given and drawn sizes, random and extreme inputs.

    Values up to ±100 (`Pair.largest`), equal ones, one-hot rows, zeros and denormals, wherever the
    reference is finite. What is below the smallest normal number may count as zero.
    """
    pair = pair.against(reference)
    failed: list[PairCase] = []
    current: PairCase | None = None

    def result(case: PairCase) -> CaseResult:
        nonlocal current
        current = case
        found = _compare(pair, case)
        if not all(comparison.passed for comparison in found):
            failed.append(case)
        return CaseResult(cast("Any", case), found)

    try:
        verdict = judge(
            ([result(case) for case in cases] for cases in _rounds(pair, seed)), rounds=ROUNDS
        )
    except Inconclusive:
        raise
    except Exception as error:
        verdict, failed = from_exception(error), [current] if current else []
    if not failed:
        return verdict
    least = min(failed, key=lambda case: pair.elements(case.sizes))
    smallest = smallest_failing(pair, least, lambda case: _fails(pair, case))
    evidence = f"{verdict.evidence}; smallest failing case: {smallest}"
    return replace(
        verdict, evidence=evidence, details={**verdict.details, "smallest": str(smallest)}
    )


@check("pair.aliasing", kind=Kind.PAIR)
def aliasing(pair: Pair, reference: Function | None, seed: int) -> Verdict:
    """Inputs are left as they are, and results share no memory with them or with each other.

    Nor does a later call change what an earlier one has returned.
    """
    pair = pair.against(reference)
    inputs = {*pair.reads, *pair.ids}

    def problems() -> Iterator[str]:
        for case in given_cases(pair, seed):
            kept: list[tuple[Arrays, Arrays]] = []
            for draw in range(3):
                given = {n: copy(v) for n, v in replace(case, draw=draw).arguments(pair).items()}
                before = {name: given[name].copy() for name in inputs}
                got = pair.call(pair.candidate, given)
                where = f"but was {{}} before the call ({case})"
                yield from differences({name: given[name] for name in inputs}, before, where)
                returned = {name: a for name, a in got.items() if a is not given.get(name)}
                others = [(name, given[name]) for name in pair.axes]
                others += [
                    (f"{n} of an earlier call", a) for old, _ in kept for n, a in old.items()
                ]
                others += returned.items()
                for name, array in returned.items():
                    for other, memory in others:
                        if other != name and np.shares_memory(array, memory):
                            yield f"{name} is returned in the memory of {other} ({case})"
                kept.append((returned, {name: array.copy() for name, array in returned.items()}))
            for returned, then in kept:
                yield from differences(returned, then, f"but was {{}} before later calls ({case})")

    return first_of(problems(), "inputs kept their bytes, and every result has memory of its own")


@check("pair.stale", kind=Kind.PAIR)
def stale(pair: Pair, reference: Function | None, seed: int) -> Verdict:
    """What outputs held before the call changes nothing: they are written in full.

    Zeros, NaN, large numbers and the results of another call.
    """
    pair = pair.against(reference)
    if not pair.writes:
        return Verdict(Status.NOT_APPLICABLE, f"{pair.name} writes into no array that it is given")

    def held(array: NDArray[Any], other: NDArray[Any]) -> dict[str, NDArray[Any]]:
        floats = array.dtype.kind == "f"
        extreme = np.nan if floats else np.iinfo(array.dtype).min
        large = 1e30 if floats else np.iinfo(array.dtype).max
        return {
            "NaN" if floats else "the lowest number": np.full_like(array, extreme),
            "large numbers": np.full_like(array, large),
            "another result": other,
        }

    def problems() -> Iterator[str]:
        for case in _in_situations(pair, given_cases(pair, seed)):
            arguments = case.arguments(pair)
            zeros = {name: np.zeros_like(arguments[name]) for name in pair.writes}
            clean = _copies(pair.run(pair.candidate, arguments | zeros))
            other = pair.run(pair.candidate, replace(case, draw=1, situation="").arguments(pair))
            for name in pair.writes:
                for what, content in held(arguments[name], other[name]).items():
                    got = pair.run(pair.candidate, arguments | zeros | {name: content})
                    where = f"but {{}} where {name} held zeros instead of {what} ({case})"
                    yield from differences(got, clean, where)

    names = " and ".join(pair.writes)
    return first_of(problems(), f"what {names} held before made no difference to any byte")


@check("pair.repeat", kind=Kind.PAIR)
def repeat(pair: Pair, reference: Function | None, seed: int) -> Verdict:
    """The same bytes every time, among calls with other arguments, and each time the right ones.

    In new arrays, and in the same ones with other contents.
    """
    pair = pair.against(reference)

    def problems() -> Iterator[str]:
        for case in small_cases(pair, given_cases(pair, seed), MEDIUM):
            draws = [replace(case, draw=draw) for draw in range(3)]
            inputs = [draw.arguments(pair) for draw in draws]
            kept = {name: copy(value) for name, value in inputs[0].items()}
            first: dict[int, Arrays] = {}
            for number in range(CALLS):
                which = (0, 0, 1, 2, 1, 0, 2)[number % 7]
                new = {name: copy(value) for name, value in inputs[which].items()}
                if number % 2:
                    for name in pair.axes:
                        kept[name][...] = new[name]
                    kept = new | {name: kept[name] for name in pair.axes}
                got = _copies(pair.call(pair.candidate, kept if number % 2 else new))
                if which not in first:
                    first[which] = got
                    expected = expect(pair, draws[which], inputs[which])
                    for comparison in expected.hold(got) if expected else ():
                        if not comparison.passed:
                            yield f"{comparison} in call {number + 1} ({draws[which]})"
                where = f"but was {{}} before, in call {number + 1} ({draws[which]})"
                yield from differences(got, first[which], where)

    return first_of(
        problems(), f"{CALLS} calls of each case gave the same bytes for the same input"
    )


@check("pair.threads", kind=Kind.PAIR)
def threads(pair: Pair, reference: Function | None, seed: int) -> Verdict:
    """The same bytes with one thread and with several, few rows and many."""
    pair = pair.against(reference)
    if not takes_threads(pair):
        return Verdict(Status.NOT_APPLICABLE, f"{pair.name} has no argument {pair.threads}")

    def problems() -> Iterator[str]:
        for case in (*given_cases(pair, seed), *drawn_cases(pair, seed, 4)):
            arguments = case.arguments(pair)
            alone = _with_threads(pair, arguments, 1)
            for count in COUNTS:
                got = _with_threads(pair, arguments, count)
                where = f"with {count} threads, but {{}} with one ({case})"
                yield from differences(got, alone, where)

    counts = ", ".join(map(str, COUNTS))
    return first_of(problems(), f"the same bytes with 1 thread and with {counts}")


def _rounds(pair: Pair, seed: int) -> Iterator[list[PairCase]]:
    """The given cases; in the first round in every situation, in the second other sizes too."""
    for draw in range(MOST_ROUNDS):
        cases = given_cases(pair, seed, draw)
        if draw == 0:
            cases = _in_situations(pair, cases)
        elif draw == 1:
            cases = small_cases(pair, cases, MEDIUM) + drawn_cases(pair, seed, DRAWN)
        yield cases


def _in_situations(pair: Pair, cases: list[PairCase]) -> list[PairCase]:
    """The cases, and the smaller of them in every situation."""
    small = small_cases(pair, cases, SMALL)
    situations = [name for name in SITUATIONS if name]
    return cases + [replace(case, situation=name) for name in situations for case in small]


def _compare(pair: Pair, case: PairCase) -> list[Comparison]:
    """Every output; also where an output is given the array of an input."""
    arguments = case.arguments(pair)
    expected = expect(pair, case, arguments)
    if expected is None:
        return []
    found = expected.hold(pair.run(pair.candidate, arguments))
    for output, name in pair.in_place.items():
        given = {n: copy(value) for n, value in arguments.items()}
        given[output] = given[name]
        found += expected.hold(pair.call(pair.candidate, given), f", {output} in place of {name}")
    return found


def _fails(pair: Pair, case: PairCase) -> bool:
    try:
        return not all(comparison.passed for comparison in _compare(pair, case))
    except Exception:  # what a candidate raises is a failure too
        return True


def _with_threads(pair: Pair, arguments: Arguments, count: int) -> Arrays:
    more: dict[str, Any] = {pair.threads: count}
    return _copies(pair.run(pair.candidate, arguments, **more))


def _copies(results: Arrays) -> Arrays:
    return {name: array.copy() for name, array in results.items()}
