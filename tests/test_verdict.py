"""What a verdict says, and how it comes from comparisons: each boundary, each word of evidence."""

from __future__ import annotations

import ctypes
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import cllm.harness
from cllm.config import Config
from cllm.errors import CllmError
from cllm.harness.cases import DRAWS, Case, Setting, draw_case
from cllm.harness.checks.check import TIME_LIMIT, Check, Kind, attempt, check, require_reference
from cllm.harness.judge import (
    REACHED,
    ROUNDS,
    CaseResult,
    backward_order,
    compare_cases,
    judge,
    name_smallest,
)
from cllm.harness.lines import strangeness
from cllm.harness.tolerance import (
    FORWARD,
    GRADIENTS,
    SMALLEST_SHARE,
    Comparison,
    alterations,
    compare,
    compare_tensors,
    loss_tolerance,
    tensor_tolerance,
)
from cllm.harness.verdict import (
    Inconclusive,
    Status,
    Verdict,
    exit_status,
    first_failure,
    from_exception,
)
from cllm.plan import Operation
from cllm.reference import Model as Reference

SETTING = Setting(Config(3, 2, 1, 1, 1), 1, 2)
CASE = draw_case(SETTING, 0)


def result(*comparisons: Comparison, case: Case = CASE) -> CaseResult:
    return CaseResult(case, list(comparisons))


def of(name: str, error: float, *blind_to: str) -> Comparison:
    return Comparison(name, error, 1.0, (), error, 0.0, blind_to)


# -- verdicts --------------------------------------------------------------------------------


def test_constants() -> None:
    """They stand in the promise that is made to users: none moves by mistake."""
    assert (FORWARD, GRADIENTS, SMALLEST_SHARE) == (2.0, 3.0, 1e-7)
    assert (ROUNDS, TIME_LIMIT) == (3, 60.0)
    assert [str(status) for status in Status] == [
        "pass", "fail", "not applicable", "inconclusive",
    ]  # fmt: skip


def test_row_is_three_texts_of_one_line() -> None:
    verdict = Verdict(Status.FAIL, "got\n  2,\texpected 1 ", check="loss.value")
    assert verdict.row == ("loss.value", "fail", "got 2, expected 1")


def test_first_failure() -> None:
    passed, failed = Verdict(Status.PASS, "fine"), Verdict(Status.FAIL, "off", check="a.b")
    unsure = Verdict(Status.INCONCLUSIVE, "?")
    start = Verdict(Status.FAIL, "x", {"start": {"where": "layer 1"}}, "c.d")
    assert first_failure([passed, unsure]) is None
    assert first_failure([]) is None
    assert first_failure([passed, failed, start]) == "a.b: off"
    assert first_failure([unsure, start, failed]) == "c.d: layer 1"


def test_exit_status_of_each_status_alone() -> None:
    statuses = {status: exit_status([Verdict(status, "")]) for status in Status}
    assert statuses == {
        Status.PASS: 0, Status.FAIL: 1, Status.NOT_APPLICABLE: 3, Status.INCONCLUSIVE: 3,
    }  # fmt: skip
    assert exit_status([]) == 3
    mixed = [Verdict(status, "") for status in Status]
    assert exit_status(mixed) == 1
    assert exit_status([v for v in mixed if v.status is not Status.FAIL]) == 3
    held = [Verdict(Status.PASS, ""), Verdict(Status.NOT_APPLICABLE, "")]
    assert exit_status(held) == 0


def test_a_candidates_line_comes_before_the_interfaces_and_that_before_the_rest() -> None:
    room = Path(cllm.__file__).parent
    harness = Path(cllm.harness.__file__).parent
    for path in (harness / "faults" / "loss.py", room / "reference" / "model.py", "<string>"):
        assert strangeness(str(path)) == 0
    assert strangeness(pytest.__file__) == 0  # whatever else is installed
    assert strangeness(str(room / "planned.py")) == 1
    for path in (harness / "judge.py", harness / "checks" / "loss.py"):
        assert strangeness(str(path)) == 2
    for library in (json, np, ctypes):
        assert strangeness(library.__file__) == 2


def test_an_exception_is_located_where_it_was_raised(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def inner() -> None:
        raise ValueError("two\nlines")

    with pytest.raises(ValueError, match="two") as caught:
        inner()
    line = inner.__code__.co_firstlineno + 1
    monkeypatch.chdir(tmp_path)
    verdict = from_exception(caught.value, "x.y")
    assert verdict.status is Status.FAIL
    assert verdict.check == "x.y"
    said = f"ValueError: two lines, raised at {Path(__file__)}:{line} in inner"
    assert verdict.evidence == said
    assert verdict.details["traceback"].endswith("ValueError: two\nlines\n")
    monkeypatch.chdir(Path(__file__).parent)
    assert (
        f"raised at {Path(__file__).name}:{line} in inner" in from_exception(caught.value).evidence
    )


def test_an_exception_of_the_harness_alone_is_located_too() -> None:
    with pytest.raises(CllmError) as caught:
        require_reference(type("Narrow", (Reference,), {"dtypes": frozenset({"float32"})}))
    own = caught.value.with_traceback(caught.value.__traceback__.tb_next)  # type: ignore[union-attr]
    assert "checks/check.py:" in from_exception(own).evidence


# -- comparisons -----------------------------------------------------------------------------


def test_a_comparison_passes_at_its_tolerance_and_not_beyond() -> None:
    assert of("a", 1.0).passed
    assert of("a", 1.0).share == 1.0
    assert not of("a", 1.0 + 1e-9).passed
    assert of("a", 3.0).share == 3.0


def test_a_tolerance_of_zero_lets_nothing_but_equality_pass() -> None:
    exact, off = compare("x", [1.0], [1.0], 0.0), compare("x", [1.5], [1.0], 0.0)
    assert exact.passed
    assert exact.share == 0.0
    assert not off.passed
    assert off.share == math.inf


def test_the_worst_element_is_the_one_furthest_beyond_its_own_tolerance() -> None:
    found = compare("x", [[1.0, 13.0], [2.0, 5.0]], [[0.0, 10.0], [0.0, 5.0]], [[1.0, 4.0]])
    assert (found.index, found.got, found.expected) == ((1, 0), 2.0, 0.0)
    assert (found.error, found.tolerance) == (2.0, 1.0)
    scalar = compare("loss", 3.0, 1.0, 0.5)
    assert (scalar.index, scalar.error) == ((), 2.0)
    assert str(scalar) == "loss: got 3, expected 1, error 2, tolerance 0.5"


def test_a_wrong_shape_is_infinitely_wrong() -> None:
    found = compare("x", np.zeros(3), np.zeros((1, 3)), 1.0)
    assert (found.error, found.tolerance, found.index) == (math.inf, 0.0, ())
    assert math.isnan(found.got)
    assert math.isnan(found.expected)
    assert found.share == math.inf


def test_an_error_of_either_sign_counts() -> None:
    for got in (0.4, 1.6):
        assert not compare("x", [got], [1.0], 0.5).passed
    assert tensor_tolerance(np.array([-2.0]), np.array([-1.0]), 1.0) == 1.0 + 32 * 2.0**-24 * 2.0
    assert tensor_tolerance(np.zeros((0, 2)), np.zeros((0, 2)), 3.0) == 0.0
    assert float(loss_tolerance(-9.0, 0.0)) == 8 * 2.0**-24 * 9.0


def test_the_scale_of_the_largest_gradient_is_for_noise_alone() -> None:
    none = np.zeros(1)
    just_above = tensor_tolerance(np.array([1e-7]), none, 3.0, 1.0)
    assert just_above == 32 * 2.0**-24 * 1e-7
    assert tensor_tolerance(np.array([0.9e-7]), none, 3.0, 1.0) == 1e-7
    large_errors = tensor_tolerance(np.array([0.9e-7]), np.array([1.0]), 3.0, 1.0)
    assert large_errors == pytest.approx(3.0)


def test_each_tensor_has_its_own_tolerance_by_its_own_errors() -> None:
    exact = {"a": np.array([1.0, -8.0]), "b": np.array([2.0])}
    errors = {"a": np.array([1e-3, 0.0]), "b": np.array([0.0])}
    found = {c.tensor: c for c in compare_tensors(exact, exact, errors, 2.0)}
    assert found["a"].tolerance == 2e-3 + 32 * 2.0**-24 * 8.0
    assert found["b"].tolerance == 32 * 2.0**-24 * 2.0
    assert compare_tensors({}, {}, {}, 2.0) == []


def test_thirds_of_the_projection_are_compared_at_their_own_places() -> None:
    exact = np.arange(1.0, 13.0).reshape(2, 6)
    for part, column in (("query", 1), ("key", 2), ("value", 5)):
        got = exact.copy()
        got[1, column] += 1.0
        named = {"layer0.qkv_weight": exact}
        errors = {"layer0.qkv_weight": np.zeros((2, 6))}
        found = compare_tensors({"layer0.qkv_weight": got}, named, errors, 3.0)
        assert [c.tensor for c in found if not c.passed] == [f"layer0.qkv_weight.{part}"]
        assert [c.index for c in found if not c.passed] == [(1, column % 2)]


def test_alterations_of_a_vector_and_of_more_axes() -> None:
    vector = dict(alterations(np.array([1.0, 2.0, 4.0])))
    assert list(vector) == ["zeros", "0.9 times", "a shift by one row"]
    assert vector["a shift by one row"].tolist() == [4.0, 1.0, 2.0]
    cube = np.arange(8.0).reshape(2, 2, 2)
    altered = dict(alterations(cube))
    assert altered["a shift by one row"].tolist() == [[[6, 7], [0, 1]], [[2, 3], [4, 5]]]
    assert altered["the transpose"].tolist() == [[[0, 2], [4, 6]], [[1, 3], [5, 7]]]
    assert all(array.shape == cube.shape for array in altered.values())
    uneven = dict(alterations(np.arange(6.0).reshape(1, 2, 3)))
    assert uneven["a shift by one row"].tolist() == [[[3, 4, 5], [0, 1, 2]]]
    assert uneven["the transpose"].tolist() == [[[0, 3, 1], [4, 2, 5]]]


def test_an_alteration_at_the_tolerance_is_one_that_passes() -> None:
    """0.9 times 10 is off by 1: a tolerance of 1 is blind to it, a smaller one is not."""
    assert "0.9 times" in compare("x", [10.0], [10.0], 1.0 + 1e-12).blind_to
    assert "0.9 times" not in compare("x", [10.0], [10.0], 1.0 - 1e-12).blind_to
    assert compare("x", [1.0], [1.0], 1.0).blind_to[0] == "zeros"


def test_an_element_without_an_error_is_never_the_worst() -> None:
    assert compare("x", [1.0, 3.0], [1.0, 2.0], [0.0, 0.5]).index == (1,)
    assert compare("x", [1.0, 2.1], [1.0, 2.0], [0.5, 0.5]).index == (1,)


# -- from comparisons to a verdict -----------------------------------------------------------


def test_a_pass_says_how_much_was_compared_and_how_close_it_was() -> None:
    few = judge([[result(of("a", 0.25), of("b", 0.5))]] * ROUNDS)
    assert few.evidence == (
        "a and b within the tolerance in 3 random cases; the closest to it is b, 0.5× the tolerance"
    )
    many = judge([[result(of("a", 0.25), of("b", 0.5), of("c", 0.0))]] * ROUNDS)
    assert many.evidence.startswith("all 3 results within the tolerance in 3 random cases")
    one = judge([[result(of("a", 0.25))]])
    assert one.evidence.startswith("a within the tolerance in 1 random case;")
    assert one.status is Status.PASS


def test_the_worst_of_all_cases_is_what_is_told() -> None:
    other = draw_case(SETTING, 7)
    rounds = [[result(of("a", 0.5))], [result(of("a", 0.75), case=other)], [result(of("a", 0.1))]]
    verdict = judge(rounds)
    assert "0.75× the tolerance" in verdict.evidence
    [row] = verdict.details["tensors"]
    assert row == {
        "tensor": "a", "share": 0.75, "error": 0.75, "tolerance": 1.0, "index": [], "got": 0.75,
        "expected": 0.0, "case": str(other),
    }  # fmt: skip
    assert verdict.details["cases"] == 3


def test_rounds_end_with_the_first_failure() -> None:
    taken = []

    def rounds() -> Iterator[list[CaseResult]]:
        for error in (0.5, 2.0, 3.0):
            taken.append(error)
            yield [result(of("a", error))]

    verdict = judge(rounds(), lambda case: "")
    assert taken == [0.5, 2.0]
    assert verdict.status is Status.FAIL
    assert verdict.evidence.endswith(f"(1 of 1 result beyond the tolerance; {CASE})")


def test_an_explanation_says_where_it_starts() -> None:
    failing = [[result(of("a", 2.0))]]
    verdict = judge(failing, lambda case: "leaves at ln1: too large")
    assert verdict.evidence.endswith("; leaves at ln1: too large")
    assert verdict.details["start"] == {"tensor": "a", "where": "leaves at ln1"}


def test_backward_reaches_later_layers_and_the_feed_forward_first() -> None:
    names = [f"layer{layer}.{part}_weight" for layer in (11, 2, 0) for part in REACHED]
    order = ["losses", *names, "embedding"]
    backwards = order[::-1]
    assert sorted(backwards, key=backward_order) == order
    assert backward_order("layer3.ln2_gain") == (1, -3, 2)


def test_of_equals_the_one_furthest_off_is_told() -> None:
    near, far = of("layer0.qkv_weight.key", 2.0), of("layer0.qkv_weight.value", 9.0)
    for order in ((near, far), (far, near)):
        assert judge([[result(*order)]]).evidence.startswith("layer0.qkv_weight.value")


def test_rounds_are_as_many_as_asked_for() -> None:
    for rounds in (1, 2, 5):
        verdict = compare_cases(lambda case: [of("a", 0.5)], [SETTING], 0, rounds=rounds)
        assert verdict.details["cases"] == rounds


def test_compare_cases_takes_three_rounds_and_the_drawn_settings() -> None:
    seen: list[Case] = []

    def compare_one(case: Case) -> list[Comparison]:
        seen.append(case)
        return [of("a", 0.5)]

    assert compare_cases(compare_one, [SETTING, SETTING], 3).status is Status.PASS
    assert [(case.seed, case.draw) for case in seen] == [(3, 0)] * 2 + [(3, 1)] * 2 + [(3, 2)] * 2
    seen.clear()
    verdict = compare_cases(compare_one, [SETTING], 3, drawn=4)
    assert verdict.details["cases"] == 3 + 4
    assert [case.draw for case in seen[3:]] == [0, 1, 2, 0]


def test_without_power_all_draws_are_taken_and_the_verdict_is_open() -> None:
    verdict = compare_cases(lambda case: [of("a", 0.5, "zeros")], [SETTING], 0)
    assert verdict.status is Status.INCONCLUSIVE
    assert verdict.evidence == f"a could not be told from zeros in {DRAWS} cases"


def test_a_failure_names_the_smallest_configuration_that_fails_as_well() -> None:
    wide = Setting(Config(9, 8, 2, 2, 3), 2, 5)
    verdict = compare_cases(
        lambda case: [of("a", 2.0 if case.setting.config.embed_dim >= 4 else 0.5)],
        [wide],
        0,
        drawn=1,
    )
    assert verdict.status is Status.FAIL
    smallest = verdict.details["smallest"]
    assert verdict.evidence.endswith(f"; smallest failing configuration: {smallest}")
    assert smallest == "V 1 D 4 L 1 H 1 F 1 B 1 T 1"


def test_what_a_candidate_raises_while_it_is_made_smaller_is_a_failure_too() -> None:
    def raises(case: Case) -> list[Comparison]:
        raise ZeroDivisionError(f"V is {case.setting.config.vocab_size}")

    verdict = compare_cases(raises, [SETTING], 0, drawn=1)
    assert verdict.status is Status.FAIL
    assert verdict.evidence.startswith("ZeroDivisionError: V is 3, raised at ")
    assert "smallest failing configuration: V 1 D" in verdict.evidence


def test_what_cannot_be_judged_is_no_failure_of_a_smaller_configuration() -> None:
    def judged(case: Case) -> list[Comparison]:
        if case.setting != SETTING:
            raise Inconclusive("too small")
        return [of("a", 2.0)]

    found = compare_cases(judged, [SETTING], 0, drawn=1)
    assert found.details["smallest"] == str(SETTING)
    assert "smallest" not in compare_cases(judged, [SETTING], 0).details
    with pytest.raises(Inconclusive, match="no reference"):
        compare_cases(
            lambda case: (_ for _ in ()).throw(Inconclusive("no reference")), [SETTING], 0
        )


def test_name_smallest_keeps_what_was_said() -> None:
    verdict = name_smallest(Verdict(Status.FAIL, "off", {"cases": 2}, "x.y"), SETTING)
    assert verdict.evidence == f"off; smallest failing configuration: {SETTING}"
    assert verdict.details == {"cases": 2, "smallest": str(SETTING)}
    assert (verdict.status, verdict.check) == (Status.FAIL, "x.y")
    assert name_smallest(verdict, None) is verdict


# -- checks ----------------------------------------------------------------------------------


def a_check(function: Callable[..., Verdict], *needs: Operation, kind: Kind = Kind.MODEL) -> Check:
    return check("some.property", *needs, kind=kind)(function)


def passes(candidate: object, reference: object, seed: int) -> Verdict:
    """It passes.

    And says more below.
    """
    return Verdict(Status.PASS, f"seed {seed}")


def test_a_check_has_a_name_a_summary_and_a_limit() -> None:
    made = a_check(passes)
    assert (made.name, made.summary, made.limit) == ("some.property", "It passes.", TIME_LIMIT)
    assert check("slow.one", limit=5.0)(passes).limit == 5.0
    assert made.kind is Kind.MODEL
    assert made(Reference, Reference, 4) == Verdict(Status.PASS, "seed 4", check="some.property")


def test_a_check_of_a_pair_asks_for_no_reference() -> None:
    assert a_check(passes, kind=Kind.PAIR)(None, None, 1).status is Status.PASS


def test_missing_parts_are_named() -> None:
    class EvaluatesOnly(Reference):
        parts = frozenset({Operation.EVALUATION})

    made = a_check(passes, Operation.TRAINING, Operation.GENERATION, Operation.EVALUATION)
    verdict = made(EvaluatesOnly, Reference, 0)
    assert verdict.status is Status.NOT_APPLICABLE
    assert verdict.evidence == "EvaluatesOnly does not offer generation, training"
    assert verdict.check == "some.property"
    assert a_check(passes, Operation.EVALUATION)(EvaluatesOnly, Reference, 0).status is Status.PASS


def test_attempt_gives_a_verdict_whatever_happens() -> None:
    def unsure() -> Verdict:
        raise Inconclusive("cannot say")

    def raises() -> Verdict:
        raise KeyError("x")

    def overflows() -> Verdict:
        return Verdict(Status.PASS, str(np.float32(3e38) * np.float32(10)))

    assert attempt(unsure) == Verdict(Status.INCONCLUSIVE, "cannot say")
    assert attempt(raises).status is Status.FAIL
    assert attempt(overflows).evidence == "inf"  # and no warning
    with pytest.raises(KeyboardInterrupt):
        attempt(interrupted)


def interrupted() -> Verdict:
    raise KeyboardInterrupt


def test_a_reference_needs_both_precisions() -> None:
    class Single(Reference):
        dtypes = ("float32",)

    class Double(Reference):
        dtypes = ("float64",)

    require_reference(Reference)
    for lacking in (Single, Double):
        with pytest.raises(CllmError, match=r"float32 and float64: \w+ in float"):
            require_reference(lacking)
    verdict = a_check(passes)(Double, Reference, 0)
    assert verdict.status is Status.NOT_APPLICABLE
    assert verdict.evidence == "Double computes in float64 only"


def test_replacing_keeps_a_verdict_comparable() -> None:
    verdict = Verdict(Status.PASS, "fine")
    assert replace(verdict, check="a.b").row == ("a.b", "pass", "fine")
