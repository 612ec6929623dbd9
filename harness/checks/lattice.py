"""Checks of the lattice: each part that both models have, by itself and all together.

A part is held to what the plain network is held to elsewhere, and the initial embedding by
`training.initialization`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial

from cllm.config import Config
from cllm.harness import activations
from cllm.harness.cases import Case, Setting
from cllm.harness.checks.check import check
from cllm.harness.checks.generation import compare_contexts
from cllm.harness.checks.gradients import hold_derivatives
from cllm.harness.checks.loss import compare_forward
from cllm.harness.judge import compare_cases
from cllm.harness.tolerance import Comparison
from cllm.harness.verdict import Verdict
from cllm.lattice.parts import Lattice
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

Compare = Callable[[type[Model], type[Model], Case], list[Comparison]]


@check("lattice.value", Operation.EVALUATION)
def value(candidate: type[Model], reference: type[Model], seed: int) -> Verdict:
    """Loss and logits against float64."""
    return _hold(compare_forward, candidate, reference, SHAPES, seed)


@check("lattice.gradients", Operation.TRAINING)
def derivatives(candidate: type[Model], reference: type[Model], seed: int) -> Verdict:
    """Every tensor against the derivative of the reference's loss by the complex step."""
    return hold_derivatives(candidate, reference, _settings(candidate, reference, TINY), seed)


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
        replace(shape, config=replace(shape.config, lattice=Lattice.of(chosen)))
        for chosen in [*([part] for part in parts), parts]
        for shape in shapes
    ]
