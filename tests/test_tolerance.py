"""Calibrated tolerances: the formula, what never passes, and the proof of power."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cllm.config import Config
from cllm.harness.cases import Setting, draw_case
from cllm.harness.judge import ROUNDS, CaseResult, judge
from cllm.harness.tolerance import (
    GRADIENTS,
    UNIT,
    Comparison,
    alterations,
    compare,
    compare_tensors,
    loss_tolerance,
    tensor_tolerance,
)
from cllm.harness.verdict import Inconclusive, Status

tensors = hnp.arrays(
    np.float64,
    hnp.array_shapes(max_dims=3, max_side=5),
    elements=st.floats(-1e3, 1e3, allow_subnormal=False),
)


def test_formula() -> None:
    exact = np.array([[1.0, -4.0], [2.0, 0.5]])
    errors = np.array([[0.0, 1e-6], [-3e-6, 0.0]])
    assert tensor_tolerance(exact, errors, 2.0) == 2 * 3e-6 + 32 * 2.0**-24 * 4
    assert tensor_tolerance(exact, errors, 3.0) == 3 * 3e-6 + 32 * 2.0**-24 * 4


def test_formula_of_the_loss() -> None:
    assert loss_tolerance(5.0, 1e-6) == 2e-6 + 8 * 2.0**-24 * 5
    assert loss_tolerance(0.1, -1e-6) == 2e-6 + 8 * 2.0**-24
    several = loss_tolerance(np.array([5.0, 0.1]), np.array([1e-6, 0.0]))
    assert several.tolist() == [2e-6 + 8 * 2.0**-24 * 5, 8 * 2.0**-24]


@given(tensors, st.integers(2, 4))
def test_tolerance_does_not_grow_with_size(exact: np.ndarray, times: int) -> None:
    errors = 1e-6 * exact
    larger = tensor_tolerance(np.tile(exact, times), np.tile(errors, times), GRADIENTS)
    assert larger == tensor_tolerance(exact, errors, GRADIENTS)


def test_tiny_tensors_are_compared_on_the_scale_of_the_largest() -> None:
    noise = np.array([1e-9, -1e-9])
    exact = {"large": np.array([2.0, 1.0]), "tiny": np.array([1e-12, 0.0])}
    none = {name: np.zeros(2) for name in exact}
    large, tiny = compare_tensors(
        {"large": exact["large"], "tiny": exact["tiny"] + noise}, exact, none, GRADIENTS
    )
    assert large.passed
    assert tiny.passed
    assert tiny.tolerance == 1e-7 * 2.0
    assert "zeros" in tiny.blind_to  # so that it proves nothing
    alone = compare("tiny", noise, np.zeros(2), tensor_tolerance(np.zeros(2), np.zeros(2), 3.0))
    assert not alone.passed


@given(tensors, st.floats(0.01, 0.99), st.data())
def test_an_error_passes_up_to_the_tolerance(
    exact: np.ndarray, share: float, data: st.DataObject
) -> None:
    index = tuple(data.draw(st.integers(0, side - 1)) for side in exact.shape)
    tolerance = tensor_tolerance(exact, np.full(exact.shape, 1e-3), GRADIENTS)
    inside, outside = exact.copy(), exact.copy()
    inside[index] += share * tolerance
    outside[index] -= (1 + share) * tolerance
    assert compare("x", inside, exact, tolerance).passed
    found = compare("x", outside, exact, tolerance)
    assert not found.passed
    assert found.index == index
    assert found.expected == exact[index]
    assert found.share == pytest.approx(1 + share)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@given(exact=tensors)
def test_what_is_not_finite_never_passes(value: float, exact: np.ndarray) -> None:
    got = exact.copy()
    got.reshape(-1)[-1] = value
    found = compare("x", got, exact, 1e30)
    assert not found.passed
    assert found.index == np.unravel_index(exact.size - 1, exact.shape)
    assert not compare("loss", value, 1.0, 1e30).passed


def test_a_wrong_shape_never_passes() -> None:
    found = compare("x", np.zeros((2, 3)), np.zeros((3, 2)), 1.0)
    assert not found.passed
    assert "shape (2, 3) instead of (3, 2)" in str(found)


def test_a_reference_that_is_not_finite_judges_nothing() -> None:
    with pytest.raises(Inconclusive, match="x is not finite"):
        compare("x", np.zeros(2), np.array([0.0, math.nan]), 1.0)
    with pytest.raises(Inconclusive, match="x is not finite"):
        compare("x", np.zeros(2), np.zeros(2), math.inf)


def test_evidence_names_tensor_index_got_expected_and_tolerance() -> None:
    text = str(compare("layer0.ln1_gain", [1.0, 2.5], [1.0, 2.0], 0.25))
    assert text == "layer0.ln1_gain [1]: got 2.5, expected 2, error 0.5, tolerance 0.25"


def test_alterations() -> None:
    exact = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    found = {name: altered.tolist() for name, altered in alterations(exact)}
    assert found == {
        "zeros": [[0, 0, 0], [0, 0, 0]],
        "0.9 times": (0.9 * exact).tolist(),
        "a shift by one row": [[4, 5, 6], [1, 2, 3]],
        "the transpose": [[1, 4, 2], [5, 3, 6]],
    }
    assert [name for name, _ in alterations(np.ones((2, 2)))] == ["zeros", "0.9 times"]
    assert [name for name, _ in alterations(np.array(3.0))] == ["zeros", "0.9 times"]


@pytest.mark.parametrize(
    ("exact", "blind_to"),
    [
        ([[1.0, 2.0], [3.0, 4.0]], ()),
        ([[5.0, 5.0], [5.0, 5.0]], ()),
        ([[0.0, 0.0], [0.0, 0.0]], ("zeros", "0.9 times")),
        ([[1.0, 1.05], [1.1, 1.0]], ("0.9 times", "a shift by one row", "the transpose")),
    ],
)
def test_power(exact: list[list[float]], blind_to: tuple[str, ...]) -> None:
    assert compare("x", exact, exact, 0.2).blind_to == blind_to


def test_queries_do_not_hide_behind_values() -> None:
    """One tolerance for Wqkv, so the queries' small gradients must be tested with power apart."""
    exact = np.concatenate([np.full((4, 4), size) for size in (1e-6, 1e-6, 100.0)], axis=1)
    exact *= np.arange(1, 5)[:, None]
    named = {"layer0.qkv_weight": exact}
    found = compare_tensors(named, named, {"layer0.qkv_weight": 0 * exact}, GRADIENTS)
    assert [comparison.tensor.rpartition(".")[2] for comparison in found] == [
        "query", "key", "value",
    ]  # fmt: skip
    assert len({comparison.tolerance for comparison in found}) == 1
    assert [bool(comparison.blind_to) for comparison in found] == [True, True, False]


# -- from comparisons to a verdict -----------------------------------------------------------

CASE = draw_case(Setting(Config(3, 2, 1, 1, 1), 1, 1), 0)


def trial(*comparisons: Comparison) -> list[CaseResult]:
    return [CaseResult(CASE, list(comparisons))]


def good(name: str, *blind_to: str) -> Comparison:
    return Comparison(name, 0.25, 1.0, (), 0.0, 0.0, blind_to)


def test_pass_needs_power_for_every_tensor_once() -> None:
    rounds = [trial(good("a"), good("b", "zeros"))] * ROUNDS
    assert judge([*rounds, trial(good("a", "zeros"), good("b"))]).status is Status.PASS
    verdict = judge(rounds)
    assert verdict.status is Status.INCONCLUSIVE
    assert "b could not be told from zeros" in verdict.evidence


def test_cases_are_drawn_until_there_is_power_and_no_longer() -> None:
    taken = 0

    def rounds() -> Iterator[list[CaseResult]]:
        nonlocal taken
        for taken in range(1, 20):
            yield trial(good("a", *["zeros"] * (taken < 5)))

    assert judge(rounds()).status is Status.PASS
    assert taken == 5


def test_one_failure_fails_even_without_power() -> None:
    bad = Comparison("b", 2.0, 1.0, (3,), 2.0, 0.0, ("zeros",))
    verdict = judge([trial(good("a"), good("b")), trial(bad)], lambda case: "because of this")
    assert verdict.status is Status.FAIL
    assert verdict.evidence.startswith("b [3]: got 2, expected 0, error 2, tolerance 1")
    assert verdict.evidence.endswith("because of this")
    assert [row["share"] for row in verdict.details["tensors"]] == [0.25, 2.0]


def bad(name: str, error: float) -> Comparison:
    return Comparison(name, error, 1.0, (), error, 0.0)


@pytest.mark.parametrize(
    ("tensors", "start"),
    [
        ("embedding layer0.ln1_gain layer1.qkv_weight.key layer1.ff_in_bias", "layer1.ff_in_bias"),
        ("layer2.ln1_gain layer10.ln1_gain", "layer10.ln1_gain"),
        ("layer0.qkv_weight.query layer0.qkv_weight.key", "layer0.qkv_weight.key"),
        ("embedding losses", "losses"),
        ("second moment of embedding, plain", "second moment of embedding, plain"),
    ],
)
def test_failure_names_first_what_backward_reaches_first(tensors: str, start: str) -> None:
    names = [tensors] if "," in tensors else tensors.split()
    failures = [bad(name, 2.0 + i) for i, name in enumerate(names)]
    verdict = judge([trial(good("layer99.ff_out_bias"), *failures)])
    assert verdict.evidence.startswith(f"{start}: got")
    assert f"{len(names)} of {len(names) + 1} results beyond" in verdict.evidence
    assert verdict.details["start"] == {"tensor": start, "where": f"starts at {start}"}


def test_nothing_compared_is_inconclusive() -> None:
    assert judge([]).status is Status.INCONCLUSIVE
    assert judge([[], trial()]).status is Status.INCONCLUSIVE


def test_unit_is_half_an_ulp() -> None:
    assert np.finfo(np.float32).eps / 2 == UNIT
