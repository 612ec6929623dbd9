"""Change points: what they must find, what they must not, and what they say of it."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cllm.errors import CllmError
from cllm.harness.history.changepoints import FEWEST, change_points
from cllm.harness.history.mann_whitney import rates_of
from cllm.harness.history.trial import synthetic_series

SERIES = 200


def noise(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(n)


def indices(values: np.ndarray | list[float]) -> list[int]:
    return [point.index for point in change_points(values)]


@pytest.mark.parametrize(("size", "off"), [(10, 0), (4, 2)])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_step_is_found_where_it_is(size: int, off: int, sign: int) -> None:
    for seed in range(10):
        values = noise(200, seed)
        values[120:] += sign * size
        (point,) = change_points(values)
        assert abs(point.index - 120) <= off
        assert point.before == np.median(values[: point.index])
        assert point.after == np.median(values[point.index :])
        assert 0.0 <= point.p_value < 1e-9
        assert not point.gradual


def test_both_ends_of_a_regression_that_was_mended_are_found() -> None:
    for seed in range(10):
        values = noise(300, seed)
        values[150:165] -= 6
        first, second = change_points(values)
        assert abs(first.index - 150) <= 1
        assert abs(second.index - 165) <= 1
        assert first.after == second.before < min(first.before, second.after) - 4


def test_many_steps_are_found() -> None:
    values = noise(5000) + np.repeat([0, 4, 0, -4, 2, 6, 2, 8, 4, 0], 500)
    assert np.allclose(indices(values), range(500, 5000, 500), atol=3)


@pytest.mark.parametrize("n", [50, 300, 2000])
@pytest.mark.parametrize("at", [0, 1, 25, -2, -1])
@pytest.mark.parametrize("size", [-1e6, 30, math.inf, math.nan])
def test_an_outlier_is_no_change(n: int, at: int, size: float) -> None:
    values = noise(n, 1)
    assert indices(values) == []
    values[at] += size
    assert indices(values) == []


def test_outliers_do_not_hide_a_step() -> None:
    values = noise(200, 3)
    values[100:] += 4
    values[[10, 60, 99, 140, 180]] -= 1e9
    assert np.allclose(indices(values), [100], atol=2)


@pytest.mark.parametrize(
    "name", ["normal", "outliers, 5%", "heavy-tailed, t₂", "skewed, exponential"]
)
def test_noise_alone_gets_change_points_as_seldom_as_it_is_said(name: str) -> None:
    generator = np.random.default_rng(5)
    alarms = 0
    for _ in range(SERIES):
        series = synthetic_series.quiet(generator, synthetic_series.NOISES[name], 100).values
        alarms += bool(change_points(series, significance=0.05))
    # 10 are expected at most: more than 21 of 200 have a probability below 1 in 1,000
    assert alarms <= 21


def test_significance_is_what_a_p_value_has_to_reach() -> None:
    values = noise(60, 2)
    values[30:] += 1.5
    (point,) = change_points(values, significance=0.5)
    assert change_points(values, significance=point.p_value * 1.01)
    assert not change_points(values, significance=point.p_value * 0.99)


def test_a_drift_is_seen_and_said_to_be_gradual() -> None:
    values = noise(1000) + np.linspace(0, 15, 1000)
    points = change_points(values)
    assert len(points) > 2
    assert all(point.gradual and point.after > point.before for point in points)


def test_a_drift_that_ends_in_a_step_back_is_gradual_up_to_there() -> None:
    values = noise(600)
    values[:400] += np.linspace(0, 15, 400)
    *drift, step = change_points(values)
    assert abs(step.index - 400) <= 1
    assert not step.gradual
    assert drift
    assert all(point.gradual for point in drift)


def test_stairs_are_not_gradual() -> None:
    values = noise(300) + np.repeat([0, 5, 10], 100)
    assert [point.gradual for point in change_points(values)] == [False, False]


def test_exact_values_need_no_noise() -> None:
    assert indices([7.0] * 20 + [8.0] * 20) == [20]
    assert indices([7.0] * 200) == []


def test_numbers_that_are_missing_are_passed_over() -> None:
    values = noise(100)
    values[50:] += 10
    holes = np.insert(values, [0, 20, 50, 50, 80, 100], math.nan)
    (point,) = change_points(holes)
    assert holes[point.index] == values[50]
    assert replace(point, index=50) == change_points(values)[0]


@pytest.mark.parametrize("values", [[], [1.0], [math.nan] * 100, [0.0] * 8 + [1.0] * 7])
def test_too_little_is_passed_over(values: list[float]) -> None:
    assert sum(map(math.isfinite, values)) < FEWEST
    assert change_points(values) == []


@pytest.mark.parametrize("significance", [0.0, 1.0, -0.1, math.nan])
def test_a_significance_that_is_none_is_refused(significance: float) -> None:
    with pytest.raises(CllmError, match="significance must lie between 0 and 1: got"):
        change_points([1.0, 2.0], significance=significance)


@pytest.mark.parametrize(
    ("values", "said"), [(["a"], "must be numbers"), ([[1.0]], r"one axis: got shape \(1, 1\)")]
)
def test_what_is_no_series_is_refused(values: list[object], said: str) -> None:
    with pytest.raises(CllmError, match=said):
        change_points(values)  # type: ignore[arg-type]


series = st.lists(
    st.one_of(st.integers(-3, 3).map(float), st.floats(-1e6, 1e6)), min_size=FEWEST, max_size=120
)


@settings(deadline=None)
@given(series, st.integers(0, 100))
def test_points_are_in_order_and_apart_and_the_same_in_other_units(
    values: list[float], cut: int
) -> None:
    values[cut:] = [value + 1e7 for value in values[cut:]]
    points = change_points(values)
    bounds = [0, *(point.index for point in points), len(values)]
    assert all(stop - start >= 4 for start, stop in itertools.pairwise(bounds)) or not points
    for (start, middle, stop), point in zip(
        zip(bounds, bounds[1:], bounds[2:], strict=False), points, strict=True
    ):
        assert point.before == np.median(values[start:middle])
        assert point.after == np.median(values[middle:stop])
        assert 0.0 <= point.p_value <= 0.01
    assert indices(-0.5 * np.asarray(values)) == [point.index for point in points]


@pytest.mark.parametrize(("k", "m"), [(4, 4), (4, 9), (5, 8), (6, 7)])
def test_the_rate_bounds_the_exact_probability_and_is_near_it(k: int, m: int) -> None:
    counts: dict[int, int] = {}
    for chosen in itertools.combinations(range(k + m), k):
        u = sum(chosen) - k * (k - 1) // 2
        counts[u] = counts.get(u, 0) + 1
    orders = math.comb(k + m, k)
    for u in range(k * m // 4 + 1):
        exact = sum(counts.get(fallen, 0) for fallen in range(u + 1)) / orders
        (rate,) = rates_of(np.array([float(u)]), np.array([k]), np.array([m]))
        assert exact <= math.exp(-rate) * (1 + 1e-3)
        assert math.exp(-rate) <= 6 * exact
    (rate,) = rates_of(np.array([0.0]), np.array([k]), np.array([m]))
    assert rate == pytest.approx(math.log(orders), abs=2e-3)
