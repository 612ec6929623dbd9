"""The learning-rate schedules: their formulas, and what holds for all of them."""

import math
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cllm import CllmError
from cllm.training.schedule import SCHEDULES, learning_rate

PEAK = 0.5


def rates(schedule: str, total_steps: int, warmup: int) -> list[float]:
    return [
        learning_rate(schedule, step, total_steps, peak=PEAK, warmup=warmup)
        for step in range(1, total_steps + 1)
    ]


def test_warm_up_starts_at_step_1_and_reaches_the_peak() -> None:
    assert rates("constant", 6, 4) == [0.125, 0.25, 0.375, 0.5, 0.5, 0.5]


def test_linear_falls_by_equal_parts_to_zero_just_after_the_end() -> None:
    assert rates("linear", 4, 0) == [0.5, 0.375, 0.25, 0.125]
    assert rates("linear", 5, 2) == [0.25, 0.5, 0.375, 0.25, 0.125]


def test_cosine_is_half_a_period() -> None:
    expected = [PEAK * (1 + math.cos(math.pi * p / 4)) / 2 for p in range(4)]
    assert rates("cosine", 4, 0) == pytest.approx(expected, rel=1e-15)
    assert rates("cosine", 5, 2)[1:] == pytest.approx(expected, rel=1e-15)


def test_step_drops_after_one_half_and_three_quarters() -> None:
    assert rates("step", 8, 0) == [0.5] * 4 + [0.05] * 2 + [0.005] * 2
    assert rates("step", 8, 5) == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.05, 0.005, 0.005])


@given(st.sampled_from(SCHEDULES), st.integers(1, 60), st.integers(0, 80))
def test_rises_in_the_warm_up_falls_after_it_and_every_step_moves(
    schedule: str, total_steps: int, warmup: int
) -> None:
    found = rates(schedule, total_steps, warmup)
    assert all(0 < rate <= PEAK for rate in found)
    assert found[:warmup] == sorted(found[:warmup])
    assert found[warmup:] == sorted(found[warmup:], reverse=True)
    if max(warmup, 1) <= total_steps and schedule != "step":
        assert max(found) == PEAK


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_largest_peak_does_not_overflow(schedule: str) -> None:
    for step in range(1, 10):
        rate = learning_rate(schedule, step, 9, peak=sys.float_info.max, warmup=3)
        assert math.isfinite(rate)


@pytest.mark.parametrize(
    ("schedule", "step", "warmup", "said"),
    [
        ("exponential", 1, 0, "constant, linear, cosine, step: got 'exponential'"),
        ("cosine", 0, 0, "step must be in 1..10: got 0"),
        ("cosine", 11, 0, "step must be in 1..10: got 11"),
        ("cosine", 1, -1, "warmup must be at least 0 steps: got -1"),
    ],
)
def test_refuses(schedule: str, step: int, warmup: int, said: str) -> None:
    with pytest.raises(CllmError, match=said):
        learning_rate(schedule, step, 10, peak=PEAK, warmup=warmup)
