"""Sampling once more: which tokens are kept, on which a number falls, and how often."""

from __future__ import annotations

import math

import numpy as np
import pytest

from cllm import Sampling
from cllm.harness.distribution import (
    FALSE_ALARM,
    chi_squared_limit,
    distribution,
    first_unlike,
    unlike_counts,
)
from cllm.harness.verdict import Inconclusive
from cllm.reference.sampling import sample

LOGITS = np.log(np.array([0.1, 0.4, 0.2, 0.3]))


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        (Sampling(1.0), [0.1, 0.4, 0.2, 0.3]),
        (Sampling(0.0), [0, 1, 0, 0]),
        (Sampling(0.0, top_k=3), [0, 1, 0, 0]),
        (Sampling(1.0, top_k=2), [0, 4 / 7, 0, 3 / 7]),
        (Sampling(1.0, top_k=9), [0.1, 0.4, 0.2, 0.3]),
        (Sampling(1.0, top_p=0.65), [0, 4 / 7, 0, 3 / 7]),
        (Sampling(1.0, top_p=0.75), [0, 4 / 9, 2 / 9, 3 / 9]),
        (Sampling(1.0, top_k=2, top_p=0.5), [0, 1, 0, 0]),
        (Sampling(0.5, top_k=2), [0, 16 / 25, 0, 9 / 25]),
    ],
)
def test_distribution(sampling: Sampling, expected: list[float]) -> None:
    assert distribution(LOGITS, sampling, 1e-7) == pytest.approx(expected)


def test_ties_are_kept_by_rising_id() -> None:
    equal = np.zeros(5)
    assert distribution(equal, Sampling(0.0), 0.0).tolist() == [1, 0, 0, 0, 0]
    assert distribution(equal, Sampling(1.0, top_k=2), 0.0).tolist() == [0.5, 0.5, 0, 0, 0]


@pytest.mark.parametrize("sampling", [Sampling(0.0), Sampling(1.0, top_k=1)])
def test_what_rounding_decides_is_not_judged(sampling: Sampling) -> None:
    with pytest.raises(Inconclusive, match="within rounding of each other"):
        distribution(np.array([1.0, 1.0 + 1e-9]), sampling, 1e-8)
    with pytest.raises(Inconclusive, match="top_p"):
        distribution(LOGITS, Sampling(1.0, top_p=0.4), 1e-8)


@pytest.mark.parametrize(
    "sampling", [Sampling(1.0), Sampling(0.6, top_k=3), Sampling(2.0, 4, 0.83)]
)
def test_the_reference_draws_what_its_numbers_fall_on(sampling: Sampling) -> None:
    uniforms = np.random.default_rng(0).random(400)
    options = sampling.temperature, sampling.top_k, sampling.top_p
    tokens = np.array([sample(LOGITS, *options, u) for u in uniforms.tolist()], np.int32)
    probs = np.tile(distribution(LOGITS, sampling, 1e-9), (400, 1))
    assert first_unlike(tokens, probs, uniforms, sampling, 1e-9) == ""
    tokens[7] = (tokens[7] + 1) % 4
    assert first_unlike(tokens, probs, uniforms, sampling, 1e-9).startswith("draw 7: got token")


def test_numbers_at_a_boundary_are_left_out() -> None:
    probs, sampling = np.array([[0.25, 0.0, 0.75]]), Sampling(1.0)
    for uniform, tolerant in ((0.25, True), (0.25 + 1e-9, True), (0.26, False), (0.9999999, False)):
        wrong = first_unlike(np.array([0], np.int32), probs, np.array([uniform]), sampling, 1e-7)
        assert (wrong == "") is tolerant


def test_chi_squared_limit_bounds_the_exact_tail() -> None:
    """With two degrees of freedom the tail is exp(-x/2)."""
    assert math.exp(-chi_squared_limit(2) / 2) < FALSE_ALARM
    assert chi_squared_limit(2) < 3 * -2 * math.log(FALSE_ALARM) / 2


def test_frequencies() -> None:
    generator = np.random.default_rng(0)
    probs = np.array([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]])
    contexts = generator.integers(0, 2, 4000).astype(np.int32)
    right = np.array([generator.choice(3, p=probs[c]) for c in contexts], np.int32)
    assert unlike_counts(right, contexts, probs) == ""
    swapped = unlike_counts(right, 1 - contexts, probs)
    assert "chi-squared" in swapped
    assert "was drawn" in swapped
    uniform = generator.integers(0, 3, 4000).astype(np.int32)
    assert "chi-squared" in unlike_counts(uniform, contexts, probs)


def test_what_has_no_probability_is_never_drawn() -> None:
    drawn, contexts = np.array([0, 2], np.int32), np.zeros(2, np.int32)
    assert "token 2 was drawn 1 times" in unlike_counts(drawn, contexts, np.array([[0.5, 0.5, 0]]))


def test_rare_tokens_are_counted_together() -> None:
    """A thousand tokens, each expected once, of which one is drawn a thousand times."""
    probs = np.full((1, 1001), 0.5 / 1000)
    probs[0, 0] = 0.5
    drawn = np.concatenate([np.zeros(1000), np.arange(1, 1001)]).astype(np.int32)
    assert unlike_counts(drawn, np.zeros(2000, np.int32), probs) == ""
    assert unlike_counts(drawn[:1000], np.zeros(1000, np.int32), probs) != ""
