"""Checks of the step and of the optimizer: what the moments hold, and where the parameters go."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np

from cllm.harness.cases import GRADIENT_SCALE, MEDIUM, Case
from cllm.harness.checks.check import check
from cllm.harness.judge import compare_cases
from cllm.harness.runner import Arrays, build, calibrate, differentiate, tensors
from cllm.harness.tolerance import GRADIENTS, Comparison, compare_tensors
from cllm.harness.verdict import Verdict
from cllm.model import Model, Update
from cllm.plan import Operation

LEARNING_RATE = 0.01

VARIANTS: dict[str, dict[str, float]] = {
    "without decay and clipping": {},
    "with decay": {"weight_decay": 0.5},
    "with clipping": {"clip": 0.1},
    "with decay and clipping": {"weight_decay": 0.5, "clip": 0.1},
    "with a clip that never acts": {"clip": 1e3},
}
"""Options of an update."""

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
