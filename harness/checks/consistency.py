"""Checks that a step is right whenever it is taken, and wherever."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cllm.config import Config
from cllm.decoder import Sampling
from cllm.harness.cases import MEDIUM, Case, Setting, draw_case
from cllm.harness.checks.check import check
from cllm.harness.honesty.unobserved import unobserved
from cllm.harness.judge import compare_cases
from cllm.harness.runner import Arrays, build, calibrate, copy, tensors
from cllm.harness.tolerance import (
    FORWARD,
    GRADIENTS,
    Comparison,
    compare,
    compare_tensors,
    loss_tolerance,
    tensor_tolerance,
)
from cllm.harness.verdict import Status, Verdict
from cllm.layout import tensor_views
from cllm.model import Model, Update
from cllm.plan import Operation

LEARNING_RATE = 0.01

CALLS = 240
"""Training steps of one model that are all held against the reference."""

POINTS = 4
"""Points of training that they start from, in random order."""

WAYS = ("by step", "by single calls", "in one call")
"""Of taking one step."""

ENDURING = Setting(Config(13, 8, 1, 2, 12), 2, 4)
"""Small, yet with enough elements in each tensor that the largest error is no matter of luck."""


@check("honesty.endures", Operation.TRAINING)
def endures(candidate: type[Model], reference: type[Model], seed: int) -> Verdict:
    """One model is right in each of 240 steps, in random order, half of them timed.

    By `step`, by single calls and by `steps`, as chance has it: a model that is wrong in a single
    one of the 240 is caught, or in one of the 70 or so of one way.
    """
    cases = [draw_case(ENDURING, seed, 6 * point) for point in range(POINTS)]
    known = [calibrate(partial(_one_step, reference), case) for case in cases]
    bounds = [_bounds(*one) for one in known]
    model = build(candidate, cases[0])
    generator = np.random.default_rng(seed)
    for call in range(1, CALLS + 1):
        point = int(generator.integers(POINTS))
        timed = call % 2 == 0
        start = time.perf_counter() if timed else 0.0
        got = _step(model, cases[point], WAYS[int(generator.integers(len(WAYS)))])
        if timed and time.perf_counter() < start:
            return Verdict(Status.FAIL, f"time ran backwards during call {call}")
        expected, bound = bounds[point]
        found = np.concatenate([array.reshape(-1) for array in got.values()])
        if not (np.abs(found - expected) <= bound).all():
            comparisons = _compared(got, *known[point])
            worst = next(one for one in comparisons if not one.passed)
            evidence = f"wrong in call {call} of one model: {worst} ({cases[point]})"
            return Verdict(Status.FAIL, evidence)
    first = _compared(_one_step(candidate, cases[0], "float32"), *known[0])
    if blind := [one for one in first if one.blind_to and "embedding" in one.tensor]:
        evidence = f"{blind[0].tensor} could not be told from {', '.join(blind[0].blind_to)}"
        return Verdict(Status.INCONCLUSIVE, evidence)
    return Verdict(Status.PASS, f"right in each of {CALLS} steps of one model, half of them timed")


def _one_step(model: type[Model], case: Case, dtype: str) -> Arrays:
    return _step(build(model, case, dtype), case)


def _step(model: Model, case: Case, way: str = WAYS[0]) -> Arrays:
    """Loss, moments and the change of the parameters in a step from the case's state."""
    model.load(case.parameters)
    for moment, start in zip(model.moments, (case.first_moment, case.second_moment), strict=True):
        moment[...] = start
    update = _update_of(case)
    before = model.parameters.copy()
    if way == "in one call":
        loss = float(model.steps(case.tokens[None], case.targets[None], [update])[0])
    elif way == "by single calls":
        model.zero_gradients()
        model.forward(case.tokens)
        loss = float(model.loss(case.targets, case.divisor))
        model.backward()
        model.update(update)
    else:
        loss = float(model.step(case.tokens, case.targets, update, case.divisor))
    return _effects(model, loss, before)


def _update_of(case: Case) -> Update:
    return Update(case.step, LEARNING_RATE, weight_decay=0.1)


def _effects(model: Model, loss: float, before: NDArray[np.generic]) -> Arrays:
    """`loss`, and by tensor the change from `before` (P,) and the moments."""
    results = {"loss": np.array(float(loss))}
    starts = tensor_views(model.config, before)
    for name, after in tensors(model, "parameters").items():
        results[f"change of {name}"] = after - starts[name].astype(np.float64)
    for moment in ("first_moment", "second_moment"):
        for name, tensor in tensors(model, moment).items():
            results[f"{moment.replace('_', ' ')} of {name}"] = tensor
    return results


def _compared(got: Arrays, exact: Arrays, errors: Arrays) -> list[Comparison]:
    rest = {name: tensor for name, tensor in exact.items() if name != "loss"}
    tolerance = loss_tolerance(exact["loss"], errors["loss"])
    loss = compare("loss", got["loss"], exact["loss"], tolerance)
    return [loss, *compare_tensors(got, rest, errors, GRADIENTS)]


def _bounds(exact: Arrays, errors: Arrays) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """All expected values in one vector, and the tolerance of each."""
    of = {one.tensor: one.tolerance for one in _compared(exact, exact, errors)}
    flat, bounds = [], []
    for name, tensor in exact.items():
        # the thirds of Wqkv have one tolerance
        tolerance = of[name] if name in of else of[f"{name}.query"]
        flat.append(tensor.reshape(-1))
        bounds.append(np.full(tensor.size, tolerance))
    return np.concatenate(flat), np.concatenate(bounds)


@check("honesty.detects", Operation.TRAINING)
def detects(candidate: type[Model], reference: type[Model], seed: int) -> Verdict:
    """A step in each way, and decoding, are right where nothing tells of a test.

    Not the stack, the environment, the modules loaded or the arguments: a script's lines run on a
    thread of their own.
    """

    def compare_case(case: Case) -> list[Comparison]:
        case = replace(case, divisor=None)  # `steps` takes none
        exact, errors = calibrate(partial(_one_step, reference), case)
        comparisons = []
        for way in WAYS:
            left = _by_script(SCRIPTS[way], candidate, case)
            for one in _compared(
                _effects(left["model"], left["loss"], left["before"]), exact, errors
            ):
                comparisons.append(replace(one, tensor=f"{one.tensor} {way}"))
        if Operation.GENERATION in candidate.parts:
            comparisons += _decoded(_by_script(DECODING, candidate, case), reference, case)
        return comparisons

    return compare_cases(compare_case, [MEDIUM], seed)


START = """
    model = Model.create(
        setting.config, setting.batch_size, setting.seq_len, case.parameters,
        operations=("training",), threads=1, dtype="float32",
    )
    before = model.parameters.copy()
    first, second = model.moments
    first[...], second[...] = case.first_moment, case.second_moment
"""

SCRIPTS = {
    "by step": f"""{START}
    loss = model.step(case.tokens, case.targets, update)
""",
    "by single calls": f"""{START}
    model.zero_gradients()
    model.forward(case.tokens)
    loss = model.loss(case.targets)
    model.backward()
    model.update(update)
""",
    "in one call": f"""{START}
    loss = model.steps(case.tokens[None], case.targets[None], [update])[0]
""",
}
"""By the name of the way."""

DECODING = """
    model = Model.create(
        setting.config, 1, setting.seq_len, case.parameters,
        operations=("generation",), threads=1, dtype="float32",
    )
    start = case.tokens[0, :1]
    model.feed(start)
    drawn = model.generate(len(uniforms), sampling, uniforms)
    logits = model.feed(start)
"""


def _by_script(script: str, candidate: type[Model], case: Case) -> dict[str, Any]:
    """The names that the script leaves."""
    names = {
        "Model": candidate,
        "case": case,
        "setting": case.setting,
        "update": _update_of(case),
        "sampling": Sampling(0.0),
        "uniforms": np.zeros(case.setting.seq_len - 2),
    }
    return unobserved(script, names)


def _decoded(left: dict[str, Any], reference: type[Model], case: Case) -> list[Comparison]:
    """The last logits, and that the tokens drawn were the most probable."""
    start, drawn = left["start"], left["drawn"]
    context = np.concatenate([start, drawn, start])
    exact, errors = calibrate(partial(_logits, reference, context), case)
    last = {"logits of decoding": exact["logits"][-1]}
    bounds = {"logits of decoding": errors["logits"][-1]}
    comparisons = compare_tensors({"logits of decoding": left["logits"]}, last, bounds, FORWARD)
    of_drawn = exact["logits"][np.arange(len(drawn)), drawn]
    tolerance = 2 * tensor_tolerance(exact["logits"], errors["logits"], FORWARD)
    best = exact["logits"][: len(drawn)].max(-1)
    return [*comparisons, compare("logits of the tokens drawn", of_drawn, best, tolerance)]


def _logits(reference: type[Model], context: NDArray[np.int32], case: Case, dtype: str) -> Arrays:
    model = build(reference, case, dtype, operation=Operation.EVALUATION)
    return {"logits": copy(model.forward(context[None])[0])}
