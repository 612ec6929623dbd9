"""Checks of the step and of the optimizer: what the moments hold, and where the parameters go."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from cllm.check import MAX_SIZE
from cllm.harness.cases import GRADIENT_SCALE, MEDIUM, Case, draw_batches, draw_case
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
from cllm.model import IGNORED, Model, Update
from cllm.plan import Operation

Ids = NDArray[np.int32]

LEARNING_RATE = 0.01

DRAWN = 3
"""Configurations beside the fixed one."""

CONSTANTS: dict[str, float] = {"beta1": 0.8, "beta2": 0.95, "epsilon": 1e-3}
"""Unlike the defaults, and an epsilon large enough that it matters where it stands."""

VARIANTS: dict[str, dict[str, float]] = {
    "without decay and clipping": {},
    "with decay": {"weight_decay": 0.5},
    "with clipping": {"clip": 0.1},
    "with decay and clipping": {"weight_decay": 0.5, "clip": 0.1},
    "with a clip that never acts": {"clip": 1e3},
    "other betas and epsilon": CONSTANTS,
}
"""Options of an update. One model takes them one after the other: none may outlive its update."""

EDGES: dict[str, tuple[Update, float, float]] = {
    "first step": (Update(1, LEARNING_RATE), 1.0, 0.0),
    "step 10,000": (Update(10_000, LEARNING_RATE), 1.0, 1.0),
    "step 1,000,000": (Update(1_000_000, LEARNING_RATE, beta2=1.0 - 1e-6), 1.0, 1.0),
    "the last step": (Update(MAX_SIZE, LEARNING_RATE), 1.0, 1.0),
    "learning rate 0": (Update(1000, 0.0, weight_decay=0.5), 1.0, 1.0),
    "vast gradients": (Update(1000, LEARNING_RATE, clip=0.1), 1e22, 1.0),
    "tiny gradients": (Update(1000, LEARNING_RATE, epsilon=1e-14, clip=1e-8), 1e-10, 1e-10),
    "tiny clip": (Update(1000, LEARNING_RATE, epsilon=1e-14, clip=1e-11), 1e-10, 1e-10),
}
"""Updates at the ends of what may be asked for, and factors of gradients and of first moments.

Squares of the vast gradients are beyond float32, the norm of the tiny ones is below 1e-8; what is
asked of them is well within it.
"""

STEPS = 6
"""Of runs that must end on the same bytes, two of them before a resume."""


@check("training.moments", Operation.TRAINING)
def moments(candidate: type[Model], reference: type[Model], seed: int) -> Verdict:
    """One step from zero moments leaves backward's gradient in them, whatever gradients held.

    m/(1-beta1) is the gradient and v/(1-beta2) its square, clipped where clipping is on, with
    decay or without. The gradient is the reference's, so that a fused step is held to it too.
    """
    return compare_cases(partial(compare_first_step, candidate, reference), [MEDIUM], seed)


def compare_first_step(
    candidate: type[Model], reference: type[Model], case: Case
) -> list[Comparison]:
    """The moments after a first step of a case, by the options of its update."""
    exact, errors = calibrate(partial(_expected, reference), case)
    return _compare_variants(_stepped(candidate, case), exact, errors)


def _expected(reference: type[Model], case: Case, dtype: str) -> Arrays:
    """Gradients, clipped, as the first moment has them, and their squares as the second."""
    gradients = differentiate(reference, case, dtype)
    norm = float(np.sqrt(sum((tensor**2).sum() for tensor in gradients.values())))
    expected = {}
    for variant, options in VARIANTS.items():
        scale = min(1.0, options.get("clip", norm) / norm)
        for name, tensor in gradients.items():
            expected[f"{variant}: first moment of {name}"] = scale * tensor
            expected[f"{variant}: second moment of {name}"] = (scale * tensor) ** 2
    return expected


def _stepped(model: type[Model], case: Case) -> Arrays:
    """Both moments after a first step, without their bias."""
    built = build(model, case)
    found = {}
    for variant, options in VARIANTS.items():
        _begin(built, case, 0.0)
        built.gradients[...] = case.first_moment  # to be ignored
        update = Update(1, LEARNING_RATE, **options)
        built.step(case.tokens, case.targets, update, case.divisor)
        for name, tensor in tensors(built, "first_moment").items():
            found[f"{variant}: first moment of {name}"] = tensor / (1 - update.beta1)
        for name, tensor in tensors(built, "second_moment").items():
            found[f"{variant}: second moment of {name}"] = tensor / (1 - update.beta2)
    return found


def _compare_variants(got: Arrays, exact: Arrays, errors: Arrays) -> list[Comparison]:
    """All that is called "variant: what of tensor", each variant and kind on its own scale."""
    groups: dict[tuple[str, str], Arrays] = {}
    for name, tensor in exact.items():
        variant, _, what = name.partition(": ")
        groups.setdefault((variant, what.partition(" of ")[0]), {})[name] = tensor
    comparisons = []
    for (variant, _), group in groups.items():
        for found in compare_tensors(got, group, errors, GRADIENTS):
            still = not any(tensor.any() for tensor in group.values())
            called = f"{found.tensor.partition(': ')[2]}, {variant}"
            blind_to = () if still else found.blind_to  # that nothing moves is all there is to see
            comparisons.append(replace(found, tensor=called, blind_to=blind_to))
    return comparisons


@check("training.update", Operation.TRAINING)
def update(candidate: type[Model], reference: type[Model], seed: int) -> Verdict:
    """The change of every parameter and both moments in one update from random gradients.

    From the moments of a later step, with decay and clipping off and on and with constants unlike
    the defaults; from zero moments at the first step; at the largest steps, at learning rate 0 and
    with vast and tiny gradients. One model takes all of them in turn.
    """

    def compare_case(case: Case) -> list[Comparison]:
        exact, errors = calibrate(partial(_updated, reference), case)
        return _compare_variants(_updated(candidate, case, "float32"), exact, errors)

    return compare_cases(compare_case, [MEDIUM], seed)


def _updated(model: type[Model], case: Case, dtype: str) -> Arrays:
    """By variant and tensor the change of the parameters, and the moments after."""
    generator = np.random.default_rng([case.seed, case.draw])
    shape = case.parameters.shape
    sizes = GRADIENT_SCALE * np.exp(generator.normal(0.0, 1.0, shape))
    gradients = sizes * generator.choice((-1.0, 1.0), shape)
    built = build(model, case, dtype)
    results = {}
    later = {
        name: (Update(case.step, LEARNING_RATE, **o), 1.0, 1.0) for name, o in VARIANTS.items()
    }
    for variant, (update, vast, old) in (later | EDGES).items():
        start = _begin(built, case, old)
        built.gradients[...] = (vast * gradients).astype(np.float32)
        built.update(update)
        for name, tensor in _moved(built, start).items():
            results[f"{variant}: {name}"] = tensor
    return results


@check("training.step", Operation.TRAINING)
def step(candidate: type[Model], reference: type[Model], seed: int) -> Verdict:
    """One step is forward, loss, backward and update: loss, moments and change of the parameters.

    From the moments of a later step, with decay and clipping; then of the same model from the same
    start with other options; then of a batch no target of which is counted, with a loss of 0. The
    single calls are the reference's, so that a fused step is held to them too.
    """

    def compare_case(case: Case) -> list[Comparison]:
        exact, errors = calibrate(partial(_by_single_calls, reference), case)
        got = _by_step(candidate, case)
        comparisons = []
        for name in [name for name in exact if name.endswith(": loss")]:
            loss = exact.pop(name)
            found = compare(name, got[name], loss, loss_tolerance(loss, errors[name]))
            tensor = f"loss, {name.partition(': ')[0]}"
            blind_to = found.blind_to if loss else ()
            comparisons.append(replace(found, tensor=tensor, blind_to=blind_to))
        return comparisons + _compare_variants(got, exact, errors)

    return compare_cases(compare_case, [MEDIUM], seed, drawn=DRAWN)


def _by_single_calls(model: type[Model], case: Case, dtype: str) -> Arrays:
    built = build(model, case, dtype)

    def step(targets: Ids, update: Update, divisor: float | None) -> float:
        built.zero_gradients()
        built.forward(case.tokens)
        loss = built.loss(targets, divisor)
        built.backward()
        built.update(update)
        return float(loss)

    return _stages(built, case, step)


def _by_step(model: type[Model], case: Case) -> Arrays:
    built = build(model, case)
    return _stages(built, case, partial(built.step, case.tokens))


def _stages(built: Model, case: Case, step: Callable[[Ids, Update, float | None], float]) -> Arrays:
    """What each step of one model does from the same start, and its loss."""
    one = Update(case.step, LEARNING_RATE, weight_decay=0.5, clip=0.1)
    other = Update(case.step + 5, 2 * LEARNING_RATE, weight_decay=0.1, **CONSTANTS)
    nothing = np.full_like(case.targets, IGNORED)
    stages = {
        "with decay and clipping": (case.targets, one, case.divisor),
        "with other options": (case.targets, other, case.divisor),
        "without targets": (nothing, one, None),
    }
    results = {}
    for stage, (targets, update, divisor) in stages.items():
        start = _begin(built, case)
        results[f"{stage}: loss"] = np.array(step(targets, update, divisor))
        results |= {f"{stage}: {name}": tensor for name, tensor in _moved(built, start).items()}
    return results


def _begin(model: Model, case: Case, old: float = 1.0) -> Arrays:
    """The parameters by tensor, loaded again; first moments `old` times the case's."""
    model.load(case.parameters)
    first, second = model.moments
    first[...] = (old * case.first_moment).astype(np.float32)
    second[...] = (old**2 * case.second_moment).astype(np.float32)
    return tensors(model, "parameters")


def _moved(model: Model, start: Arrays) -> Arrays:
    """By tensor what an update from `start` has done."""
    results = {}
    for name, end in tensors(model, "parameters").items():
        results[f"change of {name}"] = end - start[name]
    for moment in ("first_moment", "second_moment"):
        for name, tensor in tensors(model, moment).items():
            results[f"{moment.replace('_', ' ')} of {name}"] = tensor
    return results


@check("training.steps", Operation.TRAINING)
def steps(candidate: type[Model], reference: type[Model], seed: int) -> Verdict:
    """`steps` leaves the same bytes as as many calls of `step`, and gives the same losses.

    With options that change from step to step, numbers of steps that are left out, and a batch no
    target of which is counted.
    """
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
    targets[STEPS // 2] = IGNORED
    rates = generator.uniform(0.002, 0.01, STEPS).tolist()
    options = list(VARIANTS.values())
    updates = [
        Update(case.step + 3 * i, rates[i], **options[i % len(options)]) for i in range(STEPS)
    ]
    return case, tokens, targets, updates
