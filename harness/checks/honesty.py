"""Checks that a candidate does the work that it is asked for, and nothing to the one who asks."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from cllm.harness.cases import MEDIUM, Case, draw_batches, draw_case, draw_parameters
from cllm.harness.checks.check import check
from cllm.harness.honesty.clocks import wrong_clocks
from cllm.harness.honesty.seal import Seal, name_some
from cllm.harness.honesty.unobserved import settle
from cllm.harness.judge import compare_cases
from cllm.harness.runner import Arrays, build, calibrate, copy, first_difference
from cllm.harness.tolerance import (
    FORWARD,
    Comparison,
    compare,
    compare_tensors,
    loss_tolerance,
)
from cllm.harness.verdict import Status, Verdict
from cllm.model import Model, Update
from cllm.plan import Operation

LEARNING_RATE = 0.01

IN_A_ROW = 3
"""Batches of one shape one after the other, each unlike the last: no period of replays fits."""

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
