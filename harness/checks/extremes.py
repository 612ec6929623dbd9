"""Checks at the ends of what a network may be given, forward and backward.

Each situation is a case with something in it changed; tolerances are calibrated there, at the
case and near it, as everywhere else.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from cllm.config import Config
from cllm.harness.cases import Case, Setting
from cllm.harness.checks.check import check
from cllm.harness.judge import Compare, compare_cases
from cllm.harness.runner import calibrate, differentiate, evaluate
from cllm.harness.tolerance import (
    FORWARD,
    GRADIENTS,
    Comparison,
    compare,
    compare_tensors,
    loss_tolerance,
)
from cllm.harness.verdict import Verdict
from cllm.layout import tensor_views
from cllm.model import IGNORED, Model
from cllm.plan import Operation

SMALL = Setting(Config(11, 16, 1, 2, 6), 4, 5)
"""One layer: a second would make large what rounding has done in the first. Many targets: where
most gradients vanish some do not."""

NEAR = 6
"""Neighbors at which float32 is measured: at an extreme one rounding can cost much or nothing."""

DENORMAL = 1e-40
"""Below the smallest normal float32, 1.2e-38."""

VAST = 1e30
"""A divisor that leaves gradients far below 1, and still normal float32."""

Tensors = dict[str, NDArray[np.float64]]


def situation(alter: Callable[[Case, Tensors], Case | None]) -> Callable[[Case], Case]:
    """Make of a function that writes to a case's tensors one that gives another case."""

    def altered(case: Case) -> Case:
        parameters = case.parameters.copy()
        given = alter(case, tensor_views(case.setting.config, parameters)) or case
        return replace(given, parameters=parameters.astype(np.float32).astype(np.float64))

    return altered


@situation
def large_logits(case: Case, tensors: Tensors) -> None:
    """Embeddings so long that the logits pass ±80: exp of them alone leaves float32."""
    tensors["embedding"] *= 5.0


@situation
def one_hot_attention(case: Case, tensors: Tensors) -> None:
    """Scores of hundreds: softmax is one-hot, its other probabilities vanish."""
    for name in tensors:
        if name.endswith("qkv_weight"):
            third = tensors[name].shape[1] // 3
            tensors[name][:, : 2 * third] *= 7.0


@situation
def equal_scores(case: Case, tensors: Tensors) -> None:
    """Keys of zero: every query sees all tokens alike."""
    for name in tensors:
        if name.endswith("qkv_weight"):
            third = tensors[name].shape[1] // 3
            tensors[name][:, third : 2 * third] = 0.0


@situation
def equal_logits(case: Case, tensors: Tensors) -> None:
    """One embedding for all tokens: every token is as likely as any other."""
    tensors["embedding"][...] = tensors["embedding"][0]


@situation
def little_variance(case: Case, tensors: Tensors) -> Case:
    """A first layer norm of rows that hardly vary: what is added to the variance counts.

    One token, whose position is (0, 1, 0, 1, ...): all of its coordinates are about 1/2.
    """
    embedding = tensors["embedding"]
    level = np.where(np.arange(embedding.shape[1]) % 2, -0.5, 0.5) / math.sqrt(embedding.shape[1])
    embedding[...] = level + 0.02 * embedding
    return replace(case, tokens=case.tokens[:, :1], targets=np.maximum(case.targets[:, :1], 0))


@situation
def denormal_weights(case: Case, tensors: Tensors) -> None:
    """A feed-forward whose second matrix is denormal."""
    for name in tensors:
        if name.endswith("ff_out_weight"):
            tensors[name][...] *= DENORMAL


@situation
def one_token_repeated(case: Case, tensors: Tensors) -> Case:
    """Nothing but one token: its row of the embedding's gradient gathers all."""
    return replace(case, tokens=np.full_like(case.tokens, case.tokens[0, 0]))


@situation
def one_target(case: Case, tensors: Tensors) -> Case:
    """All targets but the last are not counted."""
    targets = np.full_like(case.targets, IGNORED)
    targets[-1, -1] = case.targets[-1, -1]
    return replace(case, targets=targets)


@situation
def vast_divisor(case: Case, tensors: Tensors) -> Case:
    """Gradients of 1e-30, which are still numbers."""
    return replace(case, divisor=VAST)


SITUATIONS: dict[str, Callable[[Case], Case]] = {
    "logits beyond ±80": large_logits,
    "one-hot attention": one_hot_attention,
    "equal scores": equal_scores,
    "equal logits": equal_logits,
    "hardly any variance": little_variance,
    "denormal weights": denormal_weights,
    "one token repeated": one_token_repeated,
    "one target": one_target,
    "a vast divisor": vast_divisor,
}
"""What is changed, by what it is called in the evidence."""


@check("loss.extremes", Operation.EVALUATION)
def loss(candidate: type[Model], reference: type[Model], seed: int) -> Verdict:
    """Loss and logits where numbers get large, small or equal, and few targets count."""

    def compare_one(case: Case) -> list[Comparison]:
        exact, errors = calibrate(partial(evaluate, reference), case, NEAR)
        got = evaluate(candidate, case, "float32")
        divisor = case.divisor or 1.0  # so that a small loss is compared as tightly as any
        total, error = divisor * exact.pop("loss"), divisor * errors["loss"]
        found = compare("loss", divisor * got["loss"], total, loss_tolerance(total, error))
        return [found, *compare_tensors(got, exact, errors, FORWARD)]

    return compare_cases(partial(_compare_all, compare_one), [SMALL], seed, rounds=1)


@check("gradients.extremes", Operation.TRAINING)
def gradients(candidate: type[Model], reference: type[Model], seed: int) -> Verdict:
    """Every tensor's gradient where numbers get large, small or equal, and few targets count.

    What vanishes there is differences of rounding errors, and only asked to be finite. Power is
    asked of the embedding's gradient.
    """

    def compare_one(case: Case) -> list[Comparison]:
        exact, errors = calibrate(partial(differentiate, reference), case, NEAR)
        got = differentiate(candidate, case, "float32")
        infinite = sum(float((~np.isfinite(tensor)).sum()) for tensor in got.values())
        comparisons = [compare("numbers that are not finite", infinite, 0.0, 0.0)]
        comparisons += [
            found
            for found in compare_tensors(got, exact, errors, GRADIENTS)
            if "zeros" not in found.blind_to
        ]
        return [
            found if found.tensor == "embedding" else replace(found, blind_to=())
            for found in comparisons
        ]

    return compare_cases(partial(_compare_all, compare_one), [SMALL], seed, rounds=1)


def _compare_all(compare_one: Compare, case: Case) -> list[Comparison]:
    """The comparisons in every situation, which their names say."""
    return [
        replace(found, tensor=f"{found.tensor}, {situation}")
        for situation, altered in SITUATIONS.items()
        for found in compare_one(altered(case))
    ]
