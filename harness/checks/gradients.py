"""Checks of the gradients.

Against the reference, against derivatives that nobody wrote by hand, that they add up, and that
they reach every parameter.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import partial

import numpy as np

from cllm.harness import activations
from cllm.harness.cases import LARGE, MEDIUM, SETTINGS, TINY, Case, Setting, draw_case
from cllm.harness.checks.check import check
from cllm.harness.judge import compare_cases
from cllm.harness.runner import Arrays, build, calibrate, differentiate, tensors
from cllm.harness.tolerance import GRADIENTS, Comparison, compare, compare_tensors
from cllm.harness.verdict import Status, Verdict
from cllm.layout import initialize, tensor_views
from cllm.model import IGNORED, Model, Update
from cllm.plan import Operation

COMPLEX_STEP = 1e-30
"""Too small to be squared: the derivative is exact to rounding (Squire & Trapp 1998)."""

COMPLEX_TOLERANCE = 1e-12
"""Of the largest gradient of all tensors, for the reference's own gradients in float64."""

LEARNING_RATE = 1e-3

MICRO_BATCHES = (slice(0, 1), slice(1, 3), slice(3, None))
"""Rows of a batch: one, two and the rest."""

DRAWN = 8
"""Configurations beside the fixed ones."""


@check("gradients.reference", Operation.TRAINING)
def against_reference(candidate: type[Model], reference: type[Model], seed: int) -> Verdict:
    """Every tensor against the reference's gradient in float64."""

    def compare_case(case: Case) -> list[Comparison]:
        exact, errors = calibrate(partial(differentiate, reference), case, case.setting.neighbors)
        got = differentiate(candidate, case, "float32")
        return compare_tensors(got, exact, errors, GRADIENTS)

    return compare_cases(
        compare_case,
        (*SETTINGS, *LARGE),
        seed,
        partial(activations.explain, candidate, reference),
        drawn=DRAWN,
    )


@check("gradients.complex_step", Operation.TRAINING)
def complex_step(candidate: type[Model], reference: type[Model], seed: int) -> Verdict:
    """Every tensor against the derivative of the reference's loss by the complex step.

    No backward pass stands behind that derivative, so a mistake in the reference's own is seen.
    """
    return hold_derivatives(candidate, reference, TINY, seed)


def hold_derivatives(
    candidate: type[Model], reference: type[Model], settings: Iterable[Setting], seed: int
) -> Verdict:
    """The verdict over cases of these settings, small enough for a forward pass a parameter."""
    if "complex128" not in reference.dtypes:
        return Verdict(
            Status.NOT_APPLICABLE, f"{reference.__name__} does not compute in complex128"
        )
    return compare_cases(
        partial(_compare_derivatives, candidate, reference),
        settings,
        seed,
        partial(activations.explain, candidate, reference),
    )


def _compare_derivatives(
    candidate: type[Model], reference: type[Model], case: Case
) -> list[Comparison]:
    """Gradients of a case, and the reference's own, against the complex step."""
    own, errors = calibrate(partial(differentiate, reference), case)
    exact = _complex_step(reference, case)
    got = differentiate(candidate, case, "float32")
    tolerance = COMPLEX_TOLERANCE * max(float(np.abs(t).max()) for t in exact.values())
    return [
        *(compare(f"reference's {n}", own[n], exact[n], tolerance) for n in exact),
        *compare_tensors(got, exact, errors, GRADIENTS),
    ]


def _complex_step(reference: type[Model], case: Case) -> Arrays:
    """Im f(x + ih) / h for each parameter x."""
    model = build(reference, case, "complex128", operation=Operation.EVALUATION)
    derivatives = np.empty(case.setting.config.num_parameters)
    for i in range(len(derivatives)):
        model.parameters[i] += 1j * COMPLEX_STEP
        model.prepare()
        model.forward(case.tokens)
        loss: complex = model.loss(case.targets, case.divisor)
        derivatives[i] = loss.imag / COMPLEX_STEP
        model.parameters[i] = case.parameters[i]
    return tensor_views(case.setting.config, derivatives)


@check("gradients.accumulate", Operation.TRAINING)
def accumulate(candidate: type[Model], reference: type[Model], seed: int) -> Verdict:
    """Backward adds to what was there, also in unequal micro-batches; only zeroing removes it.

    A batch without targets adds nothing.
    """

    def compare_case(case: Case) -> list[Comparison]:
        exact, errors = calibrate(partial(_accumulated, reference), case)
        got = _accumulated(candidate, case, "float32")
        left = compare("gradients after zero_gradients", _zeroed(candidate, case), 0.0, 0.0)
        return [*compare_tensors(got, exact, errors, GRADIENTS), replace(left, blind_to=())]

    return compare_cases(compare_case, [MEDIUM], seed)


def _accumulated(model: type[Model], case: Case, dtype: str) -> Arrays:
    """Gradients begun at the first moment, after each micro-batch and a batch without targets."""
    built = build(model, case, dtype)
    built.gradients[...] = case.first_moment
    counted = max(1, int((case.targets >= 0).sum()))
    for micro in MICRO_BATCHES:
        if len(case.tokens[micro]):
            built.forward(case.tokens[micro])
            built.loss(case.targets[micro], counted)
            built.backward()
    built.forward(case.tokens)
    built.loss(np.full_like(case.targets, IGNORED))
    built.backward()
    return tensors(built, "gradients")


def _zeroed(model: type[Model], case: Case) -> float:
    """The largest gradient after `zero_gradients`, of gradients that were not zero."""
    built = build(model, case)
    built.gradients[...] = case.first_moment
    built.zero_gradients()
    return float(np.abs(built.gradients).max())


@check("gradients.moves", Operation.TRAINING)
def moves(candidate: type[Model], reference: type[Model], seed: int) -> Verdict:
    """One step from the standard initialization moves every parameter that the reference moves.

    From zero moments Adam moves a parameter by about the learning rate, whatever the size of its
    gradient: what moved by half of that in the reference must have moved.
    """
    case = draw_case(MEDIUM, seed)
    start = initialize(MEDIUM.config, np.random.default_rng(seed))
    start = start.astype(np.float32).astype(np.float64)
    update = Update(1, LEARNING_RATE)
    moved = []
    for model, dtype in ((reference, "float64"), (candidate, "float32")):
        built = model.create(MEDIUM.config, MEDIUM.batch_size, MEDIUM.seq_len, start, dtype=dtype)
        built.step(case.tokens, case.targets, update)
        moved.append(np.abs(built.parameters.astype(np.float64) - start))
    expected, got = (tensor_views(MEDIUM.config, vector) for vector in moved)
    still = {}
    for name in expected:
        wanted = expected[name] > 0.5 * LEARNING_RATE
        if not wanted.any():
            return Verdict(Status.INCONCLUSIVE, f"{name} hardly moves in the reference either")
        if missing := int((wanted & ~(got[name] > 0)).sum()):
            still[name] = missing
    if still:
        name, count = next(iter(still.items()))
        tensors_still = "one tensor" if len(still) == 1 else f"{len(still)} tensors"
        evidence = (
            f"{name}: {count} of {expected[name].size} parameters did not move; "
            f"such parameters are in {tensors_still}"
        )
        return Verdict(Status.FAIL, evidence, {"still": still})
    return Verdict(
        Status.PASS, f"every parameter that has a gradient moved, in all {len(expected)} tensors"
    )
