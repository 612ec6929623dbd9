"""Calls of a model that are right, one after the other, and beside each the wrong ones.

Promises: a wrong call differs from the right one in one thing, which its name says.
Leaves out: wrong buffers and sizes (`cllm.harness.checks.refusals`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cllm.check import MAX_SIZE
from cllm.decoder import Sampling
from cllm.harness.cases import Case, draw_batches, draw_updates
from cllm.model import Model
from cllm.plan import Operation

Attempt = Callable[[], object]
Stage = tuple[str, Callable[[Model], object], dict[str, Attempt]]
"""A right call by name, and the wrong ones that are tried before it, in words."""


def calls_and_misuses(model: Model, case: Case) -> Iterator[Stage]:
    """From `load` to `generate`; the case fills the planned batch."""
    operations = model.planned.operations
    tokens, targets = case.tokens, case.targets
    yield "load", lambda one: one.load(case.parameters), dict(_too_early(model, case))
    bad = {f"tokens {what}": ids for what, ids in _wrong_ids(tokens, case, 0)}
    attempts: dict[str, Attempt] = {what: partial(model.forward, ids) for what, ids in bad.items()}
    attempts["targets alone"] = lambda: model.loss(targets)
    yield "forward", lambda one: one.forward(tokens), attempts

    bad_targets = {f"targets {what}": ids for what, ids in _wrong_ids(targets, case, -1)}
    bad_targets["targets of another shape"] = targets[:, 1:]
    attempts = {what: partial(model.loss, ids) for what, ids in bad_targets.items()}
    divisors: tuple[Any, ...] = (0.0, -1.0, math.nan, math.inf, "1", 10**400)
    attempts |= {
        f"the divisor {some!r:.9}": partial(model.loss, targets, some) for some in divisors
    }
    if Operation.TRAINING in operations:
        attempts["what was not computed"] = model.backward
    yield "loss", lambda one: one.loss(targets), attempts
    if Operation.TRAINING in operations:
        yield from _training_stages(model, case, bad, bad_targets)
    if Operation.GENERATION in operations:
        yield from _generation_stages(model, case)


def _too_early(model: Model, case: Case) -> Iterator[tuple[str, Attempt]]:
    """Calls of a model without parameters, and parameters that it cannot take."""
    [update] = draw_updates(np.random.default_rng(case.seed), case.step, 1)
    yield "an unprepared model", partial(model.forward, case.tokens)
    if Operation.TRAINING in model.planned.operations:
        step = partial(model.step, case.tokens, case.targets, update)
        yield "an unprepared model, in a step,", step
    if Operation.GENERATION in model.planned.operations:
        yield "an unprepared model, in generation,", partial(model.feed, case.tokens[0])
    load: Any = model.load
    yield "too few parameters", partial(load, case.parameters[1:])
    yield "complex parameters", partial(load, case.parameters + 1j)
    yield "a list of parameters", partial(load, case.parameters.tolist())


def _training_stages(
    model: Model, case: Case, bad: dict[str, Any], bad_targets: dict[str, Any]
) -> Iterator[Stage]:
    tokens, targets = case.tokens, case.targets
    generator = np.random.default_rng(case.seed)
    update, *updates = draw_updates(generator, case.step, 3)
    many = draw_batches(case.setting.config, generator, 2, *tokens.shape)
    step: Any = model.step
    steps: Any = model.steps
    yield "backward", lambda one: one.backward(), {}
    attempts: dict[str, Attempt] = {"what is used up": model.backward}
    attempts |= {what: partial(step, ids, targets, update) for what, ids in bad.items()}
    attempts |= {what: partial(step, tokens, ids, update) for what, ids in bad_targets.items()}
    attempts |= {
        f"{what}, and targets alike": partial(step, ids, bad_targets[f"targets {alike}"], update)
        for what, ids in bad.items()
        if f"targets {(alike := what.removeprefix('tokens '))}" in bad_targets
    }
    attempts["no update"] = partial(step, tokens, targets, None)
    attempts["the divisor 0"] = partial(step, tokens, targets, update, 0.0)
    yield "step", lambda one: one.step(tokens, targets, update), attempts

    attempts = {
        "too few updates": partial(steps, *many, updates[:1]),
        "a batch more": partial(steps, np.concatenate([many[0], many[0]]), many[1], updates),
        "batches without k": partial(steps, tokens, targets, updates),
        "no second update": partial(steps, *many, [updates[0], None]),
    }
    for which, name, lowest in ((0, "tokens", 0), (1, "targets", -1)):
        for wrong in (case.setting.config.vocab_size, lowest - 1):
            batches = [array.copy() for array in many]
            batches[which][1, -1, -1] = wrong
            attempts[f"{name} with {wrong} in batch 1"] = partial(steps, *batches, updates)
    yield "steps", lambda one: one.steps(*many, updates), attempts


def _generation_stages(model: Model, case: Case) -> Iterator[Stage]:
    prompt, uniforms = case.tokens[0], np.array([0.3, 0.6])
    vocab_size, sampling = case.setting.config.vocab_size, Sampling()
    generate: Any = model.generate
    attempts: dict[str, Attempt] = {
        "nothing, and generate": partial(generate, 2, sampling, uniforms)
    }
    wrong: tuple[Any, ...] = (
        *(np.array([0, ids], np.int32) for ids in (-1, vocab_size, -(2**31), MAX_SIZE)),
        *(prompt[:0], prompt[None], prompt.astype(np.int64), prompt.astype(float), prompt.tolist()),
    )
    attempts |= {f"{ids!r}": partial(model.feed, ids) for ids in wrong}
    yield "feed", lambda one: one.feed(prompt), attempts
    attempts = {
        f"{count!r} tokens": partial(generate, count, sampling, uniforms)
        for count in (0, -1, 1, 3, 2.0)
    }
    attempts |= {
        f"the uniform number {value}": partial(generate, 2, sampling, np.array([0.5, value]))
        for value in (1.0, -0.1, math.nan, math.inf)
    }
    yield "generate", lambda one: one.generate(2, sampling, uniforms), attempts


def _wrong_ids(right: NDArray[np.int32], case: Case, lowest: int) -> Iterator[tuple[str, Any]]:
    """Ids (B,T) each with one thing wrong; `right` fill the planned batch."""
    rows, time = right.shape
    for value in (case.setting.config.vocab_size, lowest - 1, -(2**31), MAX_SIZE):
        for index in ((0, 0), (-1, -1)):
            ids = right.copy()
            ids[index] = value
            yield f"with {value} at {list(index)}", ids
    for dtype in ("int64", "int16", "uint32", "float32", ">i4"):
        yield f"of {dtype}", right.astype(dtype)
    yield "as a list", right.tolist()
    yield "in one row without axis", right[0]
    yield "with an axis more", right[None]
    for shape in ((rows + 1, time), (rows, time + 1), (0, time), (rows, 0)):
        yield f"of shape {shape}", np.zeros(shape, np.int32)
