"""Checks of pairs: their faults are caught where they are, and honest functions pass."""

from __future__ import annotations

import numpy as np
import pytest

from cllm.errors import CllmError
from cllm.harness import CHECKS, Pair, Status, isolation
from cllm.harness.checks.check import Kind
from cllm.harness.faults import CONTROLS, FAULTS
from cllm.harness.faults.catalogue import check_fault
from cllm.harness.faults.pair import refusing, softmax
from cllm.harness.pairs.cases import PairCase, drawn_cases, smallest_failing
from cllm.harness.pairs.pair import shape_of
from cllm.harness.verdict import Verdict

NAMES = [name for name, check in CHECKS.items() if check.kind is Kind.PAIR]
CASES = [{"N": 1, "V": 1}, {"N": 3, "V": 7}]


def a_pair(candidate=softmax, **more) -> Pair:
    table = {"writes": {"out": "NV"}, "reads": {"x": "NV"}, "cases": CASES}
    return Pair(softmax, candidate, **table | more)


def verdicts(faults, checks_of) -> dict[tuple[str, str], Verdict]:
    jobs = [(fault.name, check) for fault in faults for check in checks_of(fault)]
    tasks = [isolation.Task(check_fault, (name, check, 0), 60.0) for name, check in jobs]
    return {jobs[number]: verdict for number, verdict, _ in isolation.run(tasks, 2)}


def of_pairs(faults):
    return [fault for fault in faults.values() if fault.kind is Kind.PAIR]


def test_every_fault_is_caught_by_the_checks_that_are_named_for_it() -> None:
    for where, verdict in verdicts(of_pairs(FAULTS), lambda fault: fault.caught_by).items():
        assert verdict.status is Status.FAIL, (where, verdict.evidence)


def test_every_check_has_a_fault() -> None:
    assert {name for fault in of_pairs(FAULTS) for name in fault.caught_by} == set(NAMES)


@pytest.mark.parametrize("fault", of_pairs(CONTROLS), ids=lambda fault: fault.name)
def test_what_is_odd_but_right_passes(fault) -> None:
    for name in NAMES:
        verdict = check_fault(fault.name, name, 0)
        assert verdict.status in {Status.PASS, Status.NOT_APPLICABLE}, (name, verdict.evidence)


@pytest.mark.parametrize(
    ("name", "check", "said"),
    [
        ("PairReadsPastStart", "pair.bounds", "read of x, 4 bytes before its start"),
        ("PairWritesPastEnd", "pair.bounds", "write to out, 4 bytes past its end"),
        ("PairLooksAtNothing", "pair.refuses", "write to out, 4 bytes past its end"),
        ("InputUsedAsScratch", "pair.bounds", "write to x, which may only be read"),
        ("PairRightTenTimes", "pair.repeat", "in call 11"),
        ("StaleWhereMasked", "pair.stale", "where out held zeros instead of NaN"),
        ("NegativeIdsAccepted", "pair.refuses", "the id -1 in tokens was not refused"),
        ("PairIndexWrapsNegative", "pair.indices", "bytes before its start (buffer of 17,448"),
        ("TailOfVectorLost", "pair.values", "smallest failing case: N 1 V 1, "),
        ("SoftmaxExplodes", "pair.values", "large values"),
    ],
)
def test_evidence_says_where(name: str, check: str, said: str) -> None:
    [verdict] = verdicts([FAULTS[name]], lambda fault: [check]).values()
    assert said in verdict.evidence


def test_another_reference() -> None:
    def doubled(out, x):
        softmax(out, x)
        out *= 2

    assert CHECKS["pair.values"](a_pair(), None, 0).status is Status.PASS
    assert CHECKS["pair.values"](a_pair(), doubled, 0).status is Status.FAIL
    assert CHECKS["pair.values"](a_pair(doubled), doubled, 0).status is Status.PASS


def test_a_loose_bound_proves_nothing() -> None:
    assert CHECKS["pair.values"](a_pair(bound=1e-6), None, 0).status is Status.PASS
    verdict = CHECKS["pair.values"](a_pair(bound=0.5), None, 0)
    assert verdict.status is Status.INCONCLUSIVE
    assert "could not be told from 0.9 times" in verdict.evidence
    tight = a_pair(lambda out, x: softmax(out, x * np.float32(1 + 1e-6)), bound=lambda sizes: 1e-9)
    assert CHECKS["pair.values"](tight, None, 0).status is Status.FAIL


def test_float64() -> None:
    pair = a_pair(dtype="float64", bound=1e-14)
    assert pair.draw(CASES[1], np.random.default_rng(0))["x"].dtype == np.float64
    assert CHECKS["pair.values"](pair, None, 0).status is Status.PASS
    with pytest.raises(CllmError, match="float64 needs a bound"):
        a_pair(dtype="float64")


def test_several_results_in_place_and_by_name() -> None:
    pair = Pair(
        lambda x, step: (x + step, x - step),
        lambda x, step: [x + step, x - step],
        reads={"x": "N"}, returns=["more", "less"], scalars={"step": "N"}, cases=[{"N": 3}],
        name="both",
    )  # fmt: skip
    arguments = pair.draw({"N": 3}, np.random.default_rng(0))
    got = pair.run(pair.candidate, arguments)
    assert np.array_equal(got["more"], arguments["x"] + np.float32(3))
    for name in NAMES:
        verdict = CHECKS[name](pair, None, 0)
        assert name == "pair.refuses" or verdict.status is not Status.FAIL, verdict.evidence
    one = Pair("numpy:negative", "numpy:negative", adds={"x": "N"}, cases=[{"N": 2}])
    assert one.name == "negative"


def test_what_is_wrong_with_a_table() -> None:
    with pytest.raises(CllmError, match="x stands in it twice"):
        a_pair(adds={"x": "N"})
    with pytest.raises(CllmError, match=r"gives no size for \['V'\]"):
        a_pair(cases=[{"N": 2}])
    with pytest.raises(CllmError, match="has no cases"):
        a_pair(cases=[])
    with pytest.raises(CllmError, match="has no outputs"):
        Pair(softmax, softmax, reads={"x": "N"}, cases=[{"N": 1}])
    with pytest.raises(CllmError, match="function 'nowhere:f' cannot be loaded"):
        a_pair("nowhere:f").run("nowhere:f", {})


def test_sizes_that_are_drawn_are_valid_and_no_larger() -> None:
    pair = a_pair(cases=[{"N": 20, "V": 9}], valid=lambda sizes: sizes["N"] % 2 == 0)
    drawn = [case.sizes for case in drawn_cases(pair, 3, 8)]
    assert drawn == [case.sizes for case in drawn_cases(pair, 3, 8)]
    assert len({tuple(sizes.items()) for sizes in drawn}) == len(drawn) >= 4
    assert all(2 <= sizes["N"] <= 20 and 1 <= sizes["V"] <= 9 for sizes in drawn)
    assert all(sizes["N"] % 2 == 0 for sizes in drawn)


def test_the_smallest_failing_sizes_are_found() -> None:
    found = smallest_failing(
        a_pair(), PairCase({"N": 50, "V": 60}, 0), lambda c: c.sizes["N"] > 3 and c.sizes["V"] >= 17
    )
    assert found.sizes == {"N": 4, "V": 17}


def test_shapes() -> None:
    assert shape_of("BT3D", {"B": 2, "T": 5, "D": 4}) == (2, 5, 12)
    assert shape_of("12D", {"D": 2}) == (24,)
    assert shape_of("", {}) == ()


def test_what_may_be_refused_may_be_right_instead() -> None:
    def strict_in_shape(out, x):
        if out.shape != x.shape:
            raise ValueError("out must have the shape of x")
        softmax(out, x)

    for candidate in (refusing(softmax), strict_in_shape):
        assert CHECKS["pair.refuses"](a_pair(candidate), None, 0).status is Status.PASS


def test_a_reference_that_writes_nothing_shows_nothing() -> None:
    idle = Pair(
        lambda out, x: None, lambda out, x: None, writes={"out": "NV"}, reads={"x": "NV"},
        cases=CASES, refuses=False, name="idle",
    )  # fmt: skip
    verdict = CHECKS["pair.values"](idle, None, 0)
    assert verdict.status is Status.INCONCLUSIVE
    assert verdict.evidence == "the reference of idle leaves out as it was"
