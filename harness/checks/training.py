"""Checks of the step and of the optimizer: what the moments hold, and where the parameters go."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from cllm.harness.cases import GRADIENT_SCALE, MEDIUM, Case, draw_batches, draw_case, draw_updates
from cllm.harness.checks.check import check
from cllm.harness.judge import compare_cases
from cllm.harness.runner import (
    Arrays,
    build,
    calibrate,
    differentiate,
    first_difference,
    state,
    tensors,
)
from cllm.harness.tolerance import GRADIENTS, Comparison, compare, compare_tensors, loss_tolerance
from cllm.harness.verdict import Status, Verdict
from cllm.model import Model, Update
from cllm.plan import Operation

Ids = NDArray[np.int32]

LEARNING_RATE = 0.01

DRAWN = 3
"""Configurations beside the fixed one."""

VARIANTS: dict[str, dict[str, float]] = {
    "without decay and clipping": {},
    "with decay": {"weight_decay": 0.5},
    "with clipping": {"clip": 0.1},
    "with decay and clipping": {"weight_decay": 0.5, "clip": 0.1},
    "with a clip that never acts": {"clip": 1e3},
}
"""Options of an update."""

STEPS = 6
"""Of runs that must end on the same bytes, two of them before a resume."""

CONSTANTS: dict[str, float] = {"beta1": 0.8, "beta2": 0.95, "epsilon": 1e-3}
"""Unlike the defaults, and an epsilon large enough that it matters where it stands."""


@check("training.moments", Operation.TRAINING)
def moments(candidate: type[Model], reference: type[Model], seed: int) -> Verdict:
    """One step from zero moments leaves backward's gradient in them, whatever gradients held.

    m/(1-beta1) is the gradient and v/(1-beta2) its square, clipped where clipping is on, with
    decay or without. The gradient is the reference's, so that a fused step is held to it too.
    """

    def compare_case(case: Case) -> list[Comparison]:
        comparisons = []
        for variant, options in VARIANTS.items():
            run = partial(_expected, reference, options.get("clip"))
            exact, errors = calibrate(run, case)
            got = _stepped(candidate, case, options)
            comparisons += [
                replace(comparison, tensor=f"{comparison.tensor}, {variant}")
                for comparison in compare_tensors(got, exact, errors, GRADIENTS)
            ]
        return comparisons

    return compare_cases(compare_case, [MEDIUM], seed)


def _expected(reference: type[Model], clip: float | None, case: Case, dtype: str) -> Arrays:
    """Gradients, clipped, as the first moment has them, and their squares as the second."""
    gradients = differentiate(reference, case, dtype)
    norm = float(np.sqrt(sum((tensor**2).sum() for tensor in gradients.values())))
    scale = 1.0 if clip is None else min(1.0, clip / norm)
    return {f"first moment of {name}": scale * tensor for name, tensor in gradients.items()} | {
        f"second moment of {name}": (scale * tensor) ** 2 for name, tensor in gradients.items()
    }


def _stepped(model: type[Model], case: Case, options: dict[str, float]) -> Arrays:
    """Both moments after a first step, without their bias."""
    built = build(model, case)
    built.gradients[...] = case.first_moment  # to be ignored
    for moment in built.moments:
        moment[...] = 0.0
    update = Update(1, LEARNING_RATE, **options)
    built.step(case.tokens, case.targets, update, case.divisor)
    first, second = tensors(built, "first_moment"), tensors(built, "second_moment")
    return {
        f"first moment of {name}": tensor / (1 - update.beta1) for name, tensor in first.items()
    } | {f"second moment of {name}": tensor / (1 - update.beta2) for name, tensor in second.items()}


@check("training.update", Operation.TRAINING)
def update(candidate: type[Model], reference: type[Model], seed: int) -> Verdict:
    """The change of every parameter and both moments in one update from random gradients.

    From the moments of a later step, with decay and clipping off and on and with constants unlike
    the defaults; and from zero moments at the first step.
    """

    def compare_case(case: Case) -> list[Comparison]:
        later = {name: Update(case.step, LEARNING_RATE, **o) for name, o in VARIANTS.items()}
        later["other betas and epsilon"] = Update(case.step, LEARNING_RATE, **CONSTANTS)
        comparisons = []
        for name, options in (later | {"first step": Update(1, LEARNING_RATE)}).items():
            exact, errors = calibrate(partial(_updated, reference, options), case)
            got = _updated(candidate, options, case, "float32")
            comparisons += [
                replace(comparison, tensor=f"{comparison.tensor}, {name}")
                for comparison in compare_tensors(got, exact, errors, GRADIENTS)
            ]
        return comparisons

    return compare_cases(compare_case, [MEDIUM], seed)


def _updated(model: type[Model], update: Update, case: Case, dtype: str) -> Arrays:
    """By tensor the change of the parameters, and the moments after."""
    generator = np.random.default_rng([case.seed, case.draw])
    shape = case.parameters.shape
    sizes = GRADIENT_SCALE * np.exp(generator.normal(0.0, 1.0, shape))
    built = build(model, case, dtype)
    built.gradients[...] = (sizes * generator.choice((-1.0, 1.0), shape)).astype(np.float32)
    if update.step == 1:
        for moment in built.moments:
            moment[...] = 0.0
    start = tensors(built, "parameters")
    built.update(update)
    end = tensors(built, "parameters")
    first, second = tensors(built, "first_moment"), tensors(built, "second_moment")
    changes = {f"change of {name}": end[name] - start[name] for name in end}
    changes |= {f"first moment of {name}": tensor for name, tensor in first.items()}
    return changes | {f"second moment of {name}": tensor for name, tensor in second.items()}


@check("training.step", Operation.TRAINING)
def step(candidate: type[Model], reference: type[Model], seed: int) -> Verdict:
    """One step is forward, loss, backward and update: loss, moments and change of the parameters.

    From the moments of a later step, with decay and clipping. The single calls are the
    reference's, so that a fused step is held to them too.
    """

    def compare_case(case: Case) -> list[Comparison]:
        exact, errors = calibrate(partial(_by_single_calls, reference), case)
        got = _by_step(candidate, case)
        loss = exact.pop("loss")
        tolerance = loss_tolerance(loss, errors["loss"])
        return [
            compare("loss", got["loss"], loss, tolerance),
            *compare_tensors(got, exact, errors, GRADIENTS),
        ]

    return compare_cases(compare_case, [MEDIUM], seed, drawn=DRAWN)


def _by_single_calls(model: type[Model], case: Case, dtype: str) -> Arrays:
    built = build(model, case, dtype)
    start = tensors(built, "parameters")
    built.zero_gradients()
    built.forward(case.tokens)
    loss = built.loss(case.targets, case.divisor)
    built.backward()
    built.update(_update_of(case))
    return _moved(built, start, loss)


def _by_step(model: type[Model], case: Case) -> Arrays:
    built = build(model, case)
    start = tensors(built, "parameters")
    loss = built.step(case.tokens, case.targets, _update_of(case), case.divisor)
    return _moved(built, start, loss)


def _update_of(case: Case) -> Update:
    return Update(case.step, LEARNING_RATE, weight_decay=0.5, clip=0.1)


def _moved(model: Model, start: Arrays, loss: float) -> Arrays:
    """`loss`, and by tensor what a step from `start` has done."""
    results = {"loss": np.array(loss)}
    for name, end in tensors(model, "parameters").items():
        results[f"change of {name}"] = end - start[name]
    for moment in ("first_moment", "second_moment"):
        for name, tensor in tensors(model, moment).items():
            results[f"{moment.replace('_', ' ')} of {name}"] = tensor
    return results


@check("training.steps", Operation.TRAINING)
def steps(candidate: type[Model], reference: type[Model], seed: int) -> Verdict:
    """`steps` leaves the same bytes as as many calls of `step`, and gives the same losses."""
    case, tokens, targets, updates = _run_of(seed)
    by_step, at_once = build(candidate, case), build(candidate, case)
    losses = [by_step.step(*one) for one in zip(tokens, targets, updates, strict=True)]
    expected = {"losses": np.array(losses, np.float64)} | state(by_step)
    got = {"losses": np.array(at_once.steps(tokens, targets, updates))} | state(at_once)
    if where := first_difference(expected, got):
        return Verdict(Status.FAIL, f"{where}, step by step and in one call ({case})")
    return Verdict(Status.PASS, f"the same bytes after {STEPS} steps one by one and in one call")


@check("training.resume", Operation.TRAINING)
def resume(candidate: type[Model], reference: type[Model], seed: int) -> Verdict:
    """Parameters and moments are all that training goes on from: a new model with them goes on.

    It ends on the same bytes as the one that never stopped.
    """
    case, tokens, targets, updates = _run_of(seed)
    before = STEPS // 3
    first, second = build(candidate, case), build(candidate, case)
    for i in range(before):
        first.step(tokens[i], targets[i], updates[i])
    for moment, kept in zip(second.moments, first.moments, strict=True):
        moment[...] = kept
    second.load(first.parameters)
    for model in (first, second):
        for i in range(before, STEPS):
            model.step(tokens[i], targets[i], updates[i])
    if where := first_difference(state(first), state(second)):
        return Verdict(Status.FAIL, f"{where}, without and with a resume ({case})")
    evidence = f"the same bytes after {STEPS} steps, resumed after {before} of them or not"
    return Verdict(Status.PASS, evidence)


def _run_of(seed: int) -> tuple[Case, Ids, Ids, list[Update]]:
    """A start, and batches (k,B,T) and updates of some steps from there."""
    case = draw_case(MEDIUM, seed)
    generator = np.random.default_rng(seed)
    shape = (MEDIUM.batch_size, MEDIUM.seq_len)
    tokens, targets = draw_batches(MEDIUM.config, generator, STEPS, *shape)
    return case, tokens, targets, draw_updates(generator, case.step, STEPS)
