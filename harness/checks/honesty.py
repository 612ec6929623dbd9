"""Checks that a candidate does the work that it is asked for, and nothing to the one who asks."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from cllm.config import Config
from cllm.harness.cases import MEDIUM, Case, Setting, draw_batches, draw_case, draw_parameters
from cllm.harness.checks.check import check
from cllm.harness.honesty.clocks import wrong_clocks
from cllm.harness.honesty.seal import Seal, name_some
from cllm.harness.honesty.unobserved import settle, unobserved
from cllm.harness.judge import compare_cases
from cllm.harness.runner import Arrays, build, calibrate, copy, first_difference, tensors
from cllm.harness.tolerance import (
    FORWARD,
    GRADIENTS,
    Comparison,
    compare,
    compare_tensors,
    loss_tolerance,
)
from cllm.harness.verdict import Status, Verdict
from cllm.layout import tensor_views
from cllm.model import Model, Update
from cllm.plan import Operation

LEARNING_RATE = 0.01

IN_A_ROW = 3
"""Batches of one shape one after the other, each unlike the last: no period of replays fits."""

CALLS = 240
"""Training steps of one model that are all held against the reference."""

POINTS = 4
"""Points of training that they start from, in random order."""

WAYS = ("by step", "by single calls", "in one call")
"""Of taking one step."""

ENDURING = Setting(Config(13, 8, 1, 2, 12), 2, 4)
"""Small, yet with enough elements in each tensor that the largest error is no matter of luck."""

RUN = 5
"""Rounds of calls in which a candidate may tamper."""


@check("honesty.replay", Operation.EVALUATION)
def replay(candidate: type[Model], reference: type[Model], seed: int) -> Verdict:
    """Each result is computed anew: not replayed by array, content, shape or count, nor aliased.

    The caller's array keeps its identity and shape and gets other tokens; the same tokens come
    with other parameters, the same batch with other targets and divisors, smaller ones between;
    and the caller writes to the array before the loss is asked for.
    """

    def compare_case(case: Case) -> list[Comparison]:
        exact, errors = calibrate(partial(_asked_again, reference), case)
        got = _asked_again(candidate, case, "float32")
        losses = {name: exact.pop(name) for name in list(exact) if name.startswith("loss")}
        return [
            *(
                compare(name, got[name], loss, loss_tolerance(loss, errors[name]))
                for name, loss in losses.items()
            ),
            *compare_tensors(got, exact, errors, FORWARD),
        ]

    return compare_cases(compare_case, [MEDIUM], seed)


def _asked_again(model: type[Model], case: Case, dtype: str) -> Arrays:
    """Results of calls that look alike and differ."""
    generator = np.random.default_rng([case.seed, case.draw, 2])
    built = build(model, case, dtype, operation=Operation.EVALUATION)
    rows, width = case.tokens.shape
    tokens, targets = draw_batches(case.setting.config, generator, 3, rows, width)
    more = draw_batches(case.setting.config, generator, IN_A_ROW, rows, width)
    asked, wanted = case.tokens.copy(), case.targets.copy()
    results: Arrays = {}

    def ask(what: str, divisor: float | None = None) -> None:
        logits = built.forward(asked)
        if np.shares_memory(logits, asked):
            raise AssertionError(f"forward handed its input back ({what})")
        results[f"logits, {what}"] = copy(logits)
        kept = asked.copy()
        asked[...] = asked[::-1, ::-1]  # the caller's array is the caller's
        results[f"loss, {what}"] = np.array(float(built.loss(wanted, divisor)))
        asked[...] = kept

    ask("at first")
    asked[...], wanted[...] = tokens[0], targets[0]
    ask("other tokens in the same array")
    wanted[...] = targets[1]
    ask("the same tokens and other targets", 3.0)
    built.load(draw_parameters(case.setting.config, generator))
    ask("the same batch and other parameters", 5.0)
    built.forward(asked[:1, :1])
    asked[...], wanted[...] = tokens[2], targets[2]
    ask("after a smaller batch")
    for call, (others, their_targets) in enumerate(zip(*more, strict=True), 1):
        asked[...], wanted[...] = others, their_targets
        ask(f"other batch {call} of {IN_A_ROW}")
    return results


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


@check("honesty.deferred", Operation.TRAINING)
def deferred(candidate: type[Model], reference: type[Model], seed: int) -> Verdict:
    """What a call has returned from is done: nothing changes once all other threads are idle.

    Read from the buffers at once, and again when threads started since have ended or sleep. A
    native thread that sleeps before it works is seen by the checks that compare what is read.
    """
    case = draw_case(MEDIUM, seed)
    model = build(candidate, case, threads=2)
    parameters, gradients, moments = model.parameters, model.gradients, model.moments
    tokens, targets = case.tokens, case.targets
    before = threading.enumerate()
    update = Update(case.step, LEARNING_RATE)
    seen: dict[str, NDArray[np.generic]] = {}

    def read() -> dict[str, NDArray[np.generic]]:
        state = {
            "parameters": parameters.copy(),
            "first moment": moments[0].copy(),
            "second moment": moments[1].copy(),
        }
        return state | {name: array.copy() for name, array in seen.items()}

    def forward() -> None:
        seen["logits"] = model.forward(tokens)

    def backward() -> None:
        model.zero_gradients()
        forward()
        model.loss(targets)
        model.backward()
        seen["gradients"] = gradients

    def whole_step() -> None:
        seen.clear()
        model.step(tokens, targets, update)

    def whole_steps() -> None:
        model.steps(tokens[None].repeat(3, 0), targets[None].repeat(3, 0), [update] * 3)

    calls: dict[str, Callable[[], None]] = {
        "forward": forward,
        "backward": backward,
        "update": lambda: model.update(update),
        "step": whole_step,
        "steps": whole_steps,
    }
    for name, call in calls.items():
        call()
        at_once = read()
        settle(before)
        if where := first_difference(at_once, read()):
            evidence = f"{name} returned before its work was done: {where}, at once and later"
            return Verdict(Status.FAIL, f"{evidence} ({case})")
        model.parameters, model.moments  # noqa: B018  what is put off until somebody looks
        if where := first_difference(at_once, read()):
            evidence = f"{name} left its work to whoever looks: {where}, before and after"
            return Verdict(Status.FAIL, f"{evidence} ({case})")
    evidence = f"nothing changed after {', '.join(calls)} had returned"
    return Verdict(Status.PASS, evidence)


@check("honesty.tampering", Operation.EVALUATION)
def tampering(candidate: type[Model], reference: type[Model], seed: int) -> Verdict:
    """After work of every kind, clocks tell the kernel's time and what verdicts rest on is whole.

    That is the functions of Python, NumPy, the reference and the harness, with its tolerances.
    `cllm check` looks after every other check as well, from before the candidate is imported.
    """
    seal = Seal()
    try:
        _work(candidate, seed)
    finally:
        clocks = wrong_clocks()
        broken = seal.mend()
    if broken or clocks:
        return Verdict(Status.FAIL, f"tampered with {name_some([*broken, *clocks])}")
    return Verdict(Status.PASS, "clocks tell the kernel's time, and no function was replaced")


def _work(candidate: type[Model], seed: int) -> None:
    """Every kind of call."""
    case = draw_case(MEDIUM, seed)
    training = Operation.TRAINING in candidate.parts
    operation = Operation.TRAINING if training else Operation.EVALUATION
    model = build(candidate, case, operation=operation)
    for _ in range(RUN):
        model.forward(case.tokens)
        model.loss(case.targets)
        if training:
            model.backward()
            model.update(Update(case.step, LEARNING_RATE))
            model.step(case.tokens, case.targets, Update(case.step, LEARNING_RATE))


@check("honesty.detects", Operation.TRAINING)
def detects(candidate: type[Model], reference: type[Model], seed: int) -> Verdict:
    """Building, loss and a step are right where nothing tells of a test.

    Not the stack, the environment, the modules loaded or the arguments: a script's lines run on a
    thread of their own.
    """

    def compare_case(case: Case) -> list[Comparison]:
        exact, errors = calibrate(partial(_one_step, reference), case)
        return _compared(_by_script(candidate, case), exact, errors)

    return compare_cases(compare_case, [MEDIUM], seed)


SCRIPT = """
    model = Model.create(
        setting.config, setting.batch_size, setting.seq_len, case.parameters,
        operations=("training",), threads=1, dtype="float32",
    )
    before = model.parameters.copy()
    first, second = model.moments
    first[...], second[...] = case.first_moment, case.second_moment
    loss = model.step(case.tokens, case.targets, update, case.divisor)
"""


def _by_script(candidate: type[Model], case: Case) -> Arrays:
    """`_one_step`, called by a script."""
    names = {"Model": candidate, "case": case, "setting": case.setting, "update": _update_of(case)}
    left = unobserved(SCRIPT, names)
    return _effects(left["model"], left["loss"], left["before"])
