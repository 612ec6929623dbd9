"""The whole life of a model, call by call.

Promises: every call that the model's plan allows, with batches as large as planned and smaller;
of each call, what it may write to and whose old contents mean nothing to it. Results are copies.
Leaves out: where the buffers lie (`cllm.harness.guard`) and what is made of the results.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cllm.decoder import Sampling
from cllm.harness.cases import Case, draw_batches, draw_updates
from cllm.model import Model, Update
from cllm.plan import Buffer, Operation, Role

STEPS = 2
FED = 2
"""Tokens of the prompt."""

SAMPLING = Sampling(temperature=0.9, top_k=5, top_p=0.95)

WORK = frozenset({Role.ACTIVATION, Role.SCRATCH})
SUMS = WORK | {Role.GRADIENT}
ALL = frozenset(Role)

Results = dict[str, NDArray[Any]]
Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Call:
    """One call of a model."""

    name: str
    run: Callable[[], Results]
    """Its results by name."""
    writes: frozenset[Role] = WORK
    """The buffers that it may write to."""
    fresh: frozenset[Role] = frozenset({Role.SCRATCH})
    """The buffers whose old contents mean nothing to it."""


def draw_inputs(case: Case) -> dict[str, NDArray[Any]]:
    """What the caller of a whole life hands in, by name; the model may only read it."""
    generator = np.random.default_rng([case.seed, case.draw, 2])
    config, (rows, time) = case.setting.config, case.tokens.shape
    tokens, targets = draw_batches(config, generator, STEPS, rows, time)
    return {
        "parameters": case.parameters,
        "tokens": case.tokens,
        "targets": case.targets,
        "batches of tokens": tokens,
        "batches of targets": targets,
        "prompt": generator.integers(0, config.vocab_size, FED, np.int32),
        "uniforms": generator.random(case.setting.seq_len + 1),  # the window slides
    }


def input_buffers(inputs: Arrays) -> list[Buffer]:
    """Entries for a guard that hold the inputs, named as the caller's."""
    return [
        Buffer(f"the caller's {name}", array.shape, array.dtype, Role.SCRATCH)
        for name, array in inputs.items()
    ]


def calls(model: Model, case: Case, given: Arrays) -> Iterator[Call]:
    """From `load` to the last token; `given` are the inputs, looked up in the moment of use."""
    operations = model.planned.operations
    yield Call("load", lambda: _load(model, case, given), ALL, ALL)
    if Operation.EVALUATION in operations:
        yield from _batch(model, given, case.tokens.shape, case.divisor, "")
    if Operation.TRAINING in operations:
        yield from _training(model, case, given)
    if Operation.GENERATION in operations:
        yield from _generation(model, given)


def _load(model: Model, case: Case, given: Arrays) -> Results:
    model.load(given["parameters"])
    if Operation.TRAINING in model.planned.operations:
        first, second = model.moments
        first[...], second[...] = case.first_moment, case.second_moment
        model.gradients[...] = 0
    return {}


def _batch(
    model: Model, given: Arrays, shape: tuple[int, ...], divisor: float | None, which: str
) -> Iterator[Call]:
    """forward, loss and, where it is planned, backward of the first rows and tokens."""

    def forward() -> Results:
        return {f"logits{which}": model.forward(_cut(given["tokens"], shape)).copy()}

    def loss() -> Results:
        return {f"loss{which}": np.array(model.loss(_cut(given["targets"], shape), divisor))}

    def backward() -> Results:
        model.backward()
        return {f"gradients{which}": model.gradients.copy()}

    yield Call(f"forward{which}", forward, WORK, WORK)
    yield Call(f"loss{which}", loss)
    if Operation.TRAINING in model.planned.operations:
        yield Call(f"backward{which}", backward, SUMS)


def _training(model: Model, case: Case, given: Arrays) -> Iterator[Call]:
    shape = case.tokens.shape
    smaller = tuple((axis + 1) // 2 for axis in shape)
    generator = np.random.default_rng([case.seed, case.draw, 3])
    first, second, third, *more = draw_updates(generator, case.step, 3 + STEPS)
    less = " of a smaller batch"

    def update() -> Results:
        model.update(first)
        return _state(model, "update")

    def step(update: Update, shape: tuple[int, ...], which: str) -> Results:
        tokens, targets = (_cut(given[name], shape) for name in ("tokens", "targets"))
        loss = model.step(tokens, targets, update)
        return {f"loss of the step{which}": np.array(loss), **_state(model, f"step{which}")}

    def steps() -> Results:
        updates = [replace(update, clip=None) for update in more]
        losses = model.steps(given["batches of tokens"], given["batches of targets"], updates)
        return {"losses of the steps": np.array(losses), **_state(model, "steps")}

    yield Call("update", update, ALL, WORK)
    yield Call("zero_gradients", lambda: _nothing(model.zero_gradients), SUMS, SUMS)
    yield from _batch(model, given, smaller, 7.0, less)
    yield Call("step", lambda: step(second, shape, ""), ALL, SUMS)
    yield Call(f"step{less}", lambda: step(third, smaller, less), ALL, SUMS)
    yield Call("steps", steps, ALL, SUMS)


def _generation(model: Model, given: Arrays) -> Iterator[Call]:
    def generate() -> Results:
        drawn = model.generate(len(given["uniforms"]), SAMPLING, given["uniforms"]).copy()
        return {"tokens drawn": drawn, "context": model.context}

    yield Call("reset", lambda: _nothing(model.reset), WORK, SUMS)
    yield Call("feed", lambda: {"next logits": model.feed(given["prompt"]).copy()})
    yield Call("generate", generate)
    yield Call("feed after it", lambda: {"last logits": model.feed(given["prompt"][:1]).copy()})


def _cut(ids: NDArray[np.int32], shape: tuple[int, ...]) -> NDArray[np.int32]:
    """The first rows and tokens; where they are fewer, not contiguous."""
    rows, time = shape
    return ids[:rows, :time]


def _nothing(call: Callable[[], None]) -> Results:
    call()
    return {}


def _state(model: Model, which: str) -> Results:
    """All that one step leaves to the next."""
    first, second = model.moments
    vectors = {"parameters": model.parameters, "first moment": first, "second moment": second}
    return {f"{name} after {which}": vector.copy() for name, vector in vectors.items()}
