"""Checks of the lattice: each part that both models have, by itself and all together.

A part is held to what the plain network is held to elsewhere, and the initial embedding by
`training.initialization`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial

import numpy as np

from cllm.config import Config
from cllm.harness import activations
from cllm.harness.cases import Case, Setting, on_lattice
from cllm.harness.checks.check import check
from cllm.harness.checks.generation import compare_contexts
from cllm.harness.checks.gradients import hold_derivatives
from cllm.harness.checks.loss import compare_forward
from cllm.harness.checks.training import compare_first_step
from cllm.harness.judge import compare_cases
from cllm.harness.runner import Arrays, build, calibrate
from cllm.harness.tolerance import FORWARD, Comparison, compare_tensors
from cllm.harness.verdict import Status, Verdict
from cllm.model import Model
from cllm.plan import Operation

SHAPES = (
    Setting(Config(31, 20, 2, 4, 9), 3, 14),
    Setting(Config(50, 8, 1, 1, 5), 1, 40),
)
"""More ids than classes; heads of an odd and of an even width."""

WINDOWS = (Setting(Config(31, 20, 2, 4, 9), 1, 7),)
"""Fed until it slid twice."""

TINY = (Setting(Config(14, 6, 1, 2, 3), 2, 13),)
"""Small enough for one forward pass a parameter; an id of each class, and one more."""

NUMBERS = (
    *range(1, 14), 64, 67, 72, 73, 74, 144, 146, 2 * 67, 67**2, 2 * 67**2, 4095, 4096, 4097,
    5 * 7 * 11 * 13, 2 * 3 * 5 * 7 * 11 * 13, 2**15, 2**16, 3**10, 5**6, 46_341, 65_521, 65_536,
    69_997, 69_999, 70_000,
)  # fmt: skip
"""Those that tell prime tables from each other, and whose least common multiples leave 32 bits."""

FAR = Setting(Config(max(NUMBERS), 4, 1, 1, 4), 1, len(NUMBERS))

Compare = Callable[[type[Model], type[Model], Case], list[Comparison]]


@check("lattice.value", Operation.EVALUATION)
def value(candidate: type[Model], reference: type[Model], seed: int) -> Verdict:
    """Loss, the terms of the lattice's loss, and logits against float64."""

    def compare_all(candidate: type[Model], reference: type[Model], case: Case) -> list[Comparison]:
        found = compare_forward(candidate, reference, case)
        if case.setting.config.lattice.loss:
            exact, errors = calibrate(partial(_terms, reference), case)
            found += compare_tensors(_terms(candidate, case, "float32"), exact, errors, FORWARD)
        return found

    return _hold(compare_all, candidate, reference, SHAPES, seed)


def _terms(model: type[Model], case: Case, dtype: str) -> Arrays:
    """`terms` (3,) of the lattice's loss."""
    built = build(model, case, dtype, operation=Operation.EVALUATION)
    built.forward(case.tokens)
    built.loss(case.targets)
    return {"terms": np.array([*built.lattice_terms.values()])}


@check("lattice.distances", Operation.EVALUATION)
def distances(candidate: type[Model], reference: type[Model], seed: int) -> Verdict:
    """Loss and logits where attention meets ids far apart: primes, their powers and products."""
    if "attention" not in candidate.lattice_parts & reference.lattice_parts:
        return Verdict(Status.NOT_APPLICABLE, "attention on the lattice is not there")

    def compare_case(case: Case) -> list[Comparison]:
        order = np.random.default_rng([case.seed, case.draw]).permutation(len(NUMBERS))
        tokens = np.array(NUMBERS, np.int32)[None, order] - 1
        targets = np.roll(tokens, 1, axis=1)
        return compare_forward(candidate, reference, replace(case, tokens=tokens, targets=targets))

    return compare_cases(compare_case, [on_lattice(FAR, ["attention"])], seed)


@check("lattice.gradients", Operation.TRAINING)
def derivatives(candidate: type[Model], reference: type[Model], seed: int) -> Verdict:
    """Every tensor against the derivative of the reference's loss by the complex step."""
    return hold_derivatives(candidate, reference, _settings(candidate, reference, TINY), seed)


@check("lattice.training", Operation.TRAINING)
def training(candidate: type[Model], reference: type[Model], seed: int) -> Verdict:
    """One whole step leaves backward's gradient in the moments, as `training.moments` asks."""
    return _hold(compare_first_step, candidate, reference, SHAPES[:1], seed)


@check("lattice.generation", Operation.GENERATION)
def contexts(candidate: type[Model], reference: type[Model], seed: int) -> Verdict:
    """The logits after each token fed are those of the reference's forward of the context."""
    return _hold(compare_contexts, candidate, reference, WINDOWS, seed)


def _hold(
    compare: Compare,
    candidate: type[Model],
    reference: type[Model],
    shapes: Iterable[Setting],
    seed: int,
) -> Verdict:
    return compare_cases(
        partial(compare, candidate, reference),
        _settings(candidate, reference, shapes),
        seed,
        partial(activations.explain, candidate, reference),
    )


def _settings(
    candidate: type[Model], reference: type[Model], shapes: Iterable[Setting]
) -> list[Setting]:
    """Each shape with every part that both networks compute with, and with all of them."""
    parts = sorted((candidate.lattice_parts & reference.lattice_parts) - {"init"})
    return [
        on_lattice(shape, chosen)
        for chosen in [*([part] for part in parts), parts]
        for shape in shapes
    ]
