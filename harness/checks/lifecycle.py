"""Checks of one model through its life: written to, decoding between batches, out of numbers.

Promises: all that the interface says of a model's state is held against the reference or, where
the same calls have to give the same bytes, against the same calls of another model.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cllm.config import Config
from cllm.decoder import Sampling
from cllm.harness.cases import MEDIUM, Case, Setting, draw_case
from cllm.harness.checks.check import check
from cllm.harness.judge import compare_cases
from cllm.harness.runner import (
    Arrays,
    build,
    calibrate,
    copy,
    differentiate,
    evaluate,
    first_difference,
    tensors,
)
from cllm.harness.tolerance import (
    FORWARD,
    GRADIENTS,
    Comparison,
    compare,
    compare_tensors,
)
from cllm.harness.verdict import Status, Verdict
from cllm.layout import tensor_views
from cllm.model import Model, Update
from cllm.plan import Operation

ODD = Setting(Config(13, 10, 2, 5, 7), 2, 5)
"""A window of an odd number of tokens."""

WAYS = ("step", "steps", "update")
"""The calls that move the parameters."""

DECODING = frozenset({Operation.EVALUATION, Operation.GENERATION})

LARGE = 1e30
"""The square of it is no float32."""

Array = NDArray[Any]


@check("loss.prepared", Operation.EVALUATION)
def prepared(candidate: type[Model], reference: type[Model], seed: int) -> Verdict:
    """Parameters written from outside count from the next `prepare`, in all that a model does."""

    def compare_case(case: Case) -> list[Comparison]:
        exact, errors = calibrate(partial(evaluate, reference), case)
        others = replace(case, parameters=-case.parameters)
        model = _create(candidate, others, candidate.parts)
        model.forward(case.tokens)
        model.parameters[...] = case.parameters
        model.prepare()
        got = {"logits": copy(model.forward(case.tokens))}
        comparisons = compare_tensors(got, {"logits": exact["logits"]}, errors, FORWARD)
        if Operation.GENERATION in candidate.parts:
            for token in np.split(case.tokens[0], case.tokens.shape[1]):
                last = copy(model.feed(token))
            of_last = {"logits of decoding": exact["logits"][0, -1]}
            bounds = {"logits of decoding": errors["logits"][0]}
            comparisons += compare_tensors({"logits of decoding": last}, of_last, bounds, FORWARD)
        return comparisons

    return compare_cases(compare_case, [MEDIUM, ODD], seed)


@check("loss.strides", Operation.EVALUATION)
def strides(candidate: type[Model], reference: type[Model], seed: int) -> Verdict:
    """Tokens and targets are read by index, however they lie in memory: the same bytes follow."""
    case = draw_case(MEDIUM, seed)
    vocabulary = MEDIUM.config.vocab_size
    sizes = 2, 2 * MEDIUM.batch_size, 2 * MEDIUM.seq_len
    text = np.random.default_rng([seed, 1]).integers(0, vocabulary, sizes, np.int32)
    for how, tokens, targets in _laid_out(text):
        found = [
            _results(candidate, case, *arrays)
            for arrays in ((tokens, targets), (tokens.copy("C"), targets.copy("C")))
        ]
        if where := first_difference(*found):
            evidence = f"{how} tokens and targets give other results than their copies: {where}"
            return Verdict(Status.FAIL, evidence)
    return Verdict(Status.PASS, "the same bytes for slices, reversed, transposed and odd addresses")


def _laid_out(text: NDArray[np.int32]) -> Iterator[tuple[str, Array, Array]]:
    """Tokens and targets (k,B,T) that are no arrays in C order; of a text (k,2B,2T)."""
    rows, time = MEDIUM.batch_size, MEDIUM.seq_len
    yield "sliced", text[:, :rows, :time], text[:, :rows, 1 : time + 1]
    yield "reversed", text[::-1, :rows, time - 1 :: -1], text[:, rows - 1 :: -1, :time]
    columns = text[:, :time, :rows].transpose(0, 2, 1)
    yield "transposed", columns, columns[:, :, ::-1]
    yield "every second of the", text[:, ::2, ::2], text[:, 1::2, 1::2]
    yield (
        "repeated",
        np.broadcast_to(text[:, :1, :time], (len(text), rows, time)),
        text[:, :rows, :time],
    )
    odd = np.empty(text.nbytes + 1, np.uint8)[1:].view(np.int32).reshape(text.shape)
    odd[...] = text
    yield "unaligned", odd[:, :rows, :time], odd[:, :rows, 1 : time + 1]


def _results(candidate: type[Model], case: Case, tokens: Array, targets: Array) -> dict[str, Array]:
    """What a new model makes of the batches (k,B,T) in all of its calls."""
    model = _create(candidate, case, candidate.parts)
    found = {"logits": model.forward(tokens[0]).copy()}
    found["loss"] = np.array(model.loss(targets[0]))
    if Operation.TRAINING in candidate.parts:
        updates = [Update(case.step + i, 0.01) for i in range(len(tokens))]
        found["loss of step"] = np.array(model.step(tokens[1], targets[1], updates[0]))
        found["losses of steps"] = model.steps(tokens, targets, updates).copy()
        found["parameters"] = model.parameters.copy()
    if Operation.GENERATION in candidate.parts:
        found["next logits"] = model.feed(tokens[0, 0]).copy()
    return found


@check("loss.not_finite", Operation.EVALUATION)
def not_finite(candidate: type[Model], reference: type[Model], seed: int) -> Verdict:
    """A parameter that is no number shows in the loss, of `loss` and of `step`.

    One NaN in each tensor in turn, wherever the reference's loss is no number then.
    """
    case = draw_case(MEDIUM, seed)
    shown = 0
    for name, broken in _broken(case):
        if not np.isnan(evaluate(reference, broken, "float32")["loss"]):
            continue
        model = _create(candidate, broken, candidate.parts)
        model.forward(case.tokens)
        losses = {"loss": float(model.loss(case.targets))}
        if Operation.TRAINING in candidate.parts:
            losses["loss of step"] = model.step(case.tokens, case.targets, Update(1, 0.01))
        for what, loss in losses.items():
            if not np.isnan(loss):
                return Verdict(Status.FAIL, f"the {what} is {loss:.9g} with NaN in {name}")
        shown += 1
    if not shown:
        return Verdict(Status.INCONCLUSIVE, "the reference's loss shows no NaN")
    return Verdict(Status.PASS, f"the loss is NaN with NaN in each of {shown} tensors")


def _broken(case: Case) -> Iterator[tuple[str, Case]]:
    """By tensor, the case with one NaN in it, of the embedding in a row that the tokens take."""
    generator = np.random.default_rng([case.seed, 1])
    for name in tensor_views(case.setting.config, case.parameters):
        parameters = case.parameters.copy()
        tensor = tensor_views(case.setting.config, parameters)[name]
        row = int(case.tokens[0, 0]) if name == "embedding" else None
        index = [int(generator.integers(size)) for size in tensor.shape]
        tensor[tuple(index if row is None else [row, *index[1:]])] = np.nan
        yield name, replace(case, parameters=parameters)


@check("generation.not_finite", Operation.GENERATION)
def raises(candidate: type[Model], reference: type[Model], seed: int) -> Verdict:
    """`feed` and `generate` raise `FloatingPointError` where logits are not finite.

    In `generate` it is the token drawn whose embedding is so large that the next logits overflow.
    """
    case = draw_case(MEDIUM, seed)
    for name, broken in _broken(case):
        if not _raises(reference, broken, case.tokens[0]):
            continue
        if not _raises(candidate, broken, case.tokens[0]):
            return Verdict(Status.FAIL, f"feed raised no FloatingPointError with NaN in {name}")
    largest = int(np.setdiff1d(np.arange(MEDIUM.config.vocab_size), case.tokens[0])[0])
    for sign in (1, -1):
        parameters = case.parameters.copy()
        tensor_views(MEDIUM.config, parameters)["embedding"][largest] = sign * LARGE
        broken = replace(case, parameters=parameters)
        if _raises(reference, broken, case.tokens[0], 1):
            if _raises(candidate, broken, case.tokens[0], 1):
                return Verdict(Status.PASS, "feed and generate raise FloatingPointError")
            evidence = f"generate raised no FloatingPointError after token {largest} of {LARGE:g}"
            return Verdict(Status.FAIL, evidence)
    return Verdict(Status.INCONCLUSIVE, "the reference's logits did not overflow")


def _raises(model: type[Model], case: Case, tokens: NDArray[np.int32], count: int = 0) -> bool:
    """Whether `feed` raises, or with a count only the greedy `generate` of so many after it."""
    decoder = build(model, case, operation=Operation.GENERATION)
    if count:
        decoder.feed(tokens)
    try:
        if count:
            decoder.generate(count, Sampling(0.0), np.zeros(count))
        else:
            decoder.feed(tokens)
    except FloatingPointError:
        return True
    return False


@check("generation.together", Operation.GENERATION, Operation.EVALUATION)
def together(candidate: type[Model], reference: type[Model], seed: int) -> Verdict:
    """A model that decodes between batches, passes and updates is right in both.

    Planned for all that it offers, and for decoding with evaluation alone. The context that was
    handed out stays as it was.
    """

    def compare_case(case: Case) -> list[Comparison]:
        case = replace(case, divisor=None)
        text = np.resize(case.tokens, case.setting.seq_len - 1)
        exact, errors = calibrate(partial(_together, reference, text), case)
        comparisons = []
        for operations in {
            frozenset({Operation.EVALUATION, Operation.GENERATION}),
            candidate.parts,
        }:
            model = _create(candidate, case, operations)
            got = {"logits after forward": _interrupted(model, case, text)}
            if Operation.TRAINING in operations:
                got |= _differentiated(model, case, text)
                got |= {f"logits after {way}": _moved(model, case, way, text) for way in WAYS}
            wanted = {name: exact[name] for name in got}
            comparisons += compare_tensors(got, wanted, errors, GRADIENTS)
        comparisons.append(_context(model, text))
        return comparisons

    return compare_cases(compare_case, [MEDIUM, ODD], seed)


def _together(reference: type[Model], text: NDArray[np.int32], case: Case, dtype: str) -> Arrays:
    """Gradients by tensor, and the logits (V,) after the text before a step and after it."""
    found = differentiate(reference, case, dtype)
    model = build(reference, case, dtype)
    found["logits after forward"] = copy(model.forward(text[None])[0, -1])
    model.step(case.tokens, case.targets, _update(case))
    after = copy(model.forward(text[None])[0, -1])
    return found | {f"logits after {way}": after for way in WAYS}


def _update(case: Case) -> Update:
    return Update(case.step, 0.01, weight_decay=0.1)


def _interrupted(model: Model, case: Case, text: NDArray[np.int32]) -> Array:
    """The logits after the text, with a pass between two of its tokens."""
    model.reset()
    model.feed(text[:-1])
    model.forward(case.tokens)
    model.loss(case.targets)
    return copy(model.feed(text[-1:]))


def _differentiated(model: Model, case: Case, text: NDArray[np.int32]) -> Arrays:
    """Gradients by tensor, with tokens fed between the calls that lead to them."""
    model.zero_gradients()
    model.forward(case.tokens)
    model.feed(text[:1])
    model.loss(case.targets)
    model.feed(text[:1])
    model.backward()
    return tensors(model, "gradients")


def _moved(model: Model, case: Case, way: str, text: NDArray[np.int32]) -> Array:
    """The logits after the text, after one step from the case's state."""
    model.load(case.parameters)
    for moment, start in zip(model.moments, (case.first_moment, case.second_moment), strict=True):
        moment[...] = start
    model.feed(text)
    if way == "step":
        model.step(case.tokens, case.targets, _update(case))
    elif way == "steps":
        model.steps(case.tokens[None], case.targets[None], [_update(case)])
    else:
        model.zero_gradients()
        model.forward(case.tokens)
        model.loss(case.targets)
        model.backward()
        model.update(_update(case))
    return copy(model.feed(text))


def _context(model: Model, text: NDArray[np.int32]) -> Comparison:
    """The context that was handed out, once more tokens have been fed and the window has slid."""
    model.reset()
    model.feed(text)
    context = model.context
    model.feed((text[::-1] + 1) % model.config.vocab_size)
    return compare("context kept by the caller", context, text, 0.0)


def _create(candidate: type[Model], case: Case, operations: frozenset[Operation]) -> Model:
    s = case.setting
    return candidate.create(
        s.config, s.batch_size, s.seq_len, case.parameters, operations=operations
    )
