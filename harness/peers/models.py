"""A model of `cllm.registry` as a competitor: ours, the reference, anybody's."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cllm.decoder import Sampling
from cllm.harness.bench.task import Kind, Task
from cllm.harness.bench.workload import LEARNING_RATE, Workload
from cllm.model import Model, Update
from cllm.plan import Operation
from cllm.registry import find_model


def build(kind: Kind, workload: Workload, name: str, threads: int, dtype: str = "float32") -> Task:
    """The task of the model of that name."""
    setting = workload.setting
    operation = Operation.TRAINING if kind.is_training else Operation.GENERATION
    model = find_model(name).create(
        setting.config,
        setting.batch_size,
        setting.seq_len,
        workload.parameters,
        operations=(operation,),
        threads=threads,
        dtype=dtype,
    )
    if kind is Kind.STEP:
        return Steps(model, workload, 1)
    if kind is Kind.STEPS:
        return Steps(model, workload, workload.calls_at_once)
    return Generation(model, workload, 0.0 if kind is Kind.GREEDY else 1.0)


class Steps(Task):
    """One or many steps a call over rotating batches."""

    def __init__(self, model: Model, workload: Workload, per_call: int) -> None:
        self.per_call = per_call
        self._model = model
        groups = [
            ids.reshape(-1, per_call, *ids.shape[1:]) for ids in (workload.tokens, workload.targets)
        ]
        self._batches = [*zip(*groups, strict=True)]
        if per_call == 1:
            self._batches = [(tokens[0], targets[0]) for tokens, targets in self._batches]
        self._taken = 0

    def call(self) -> Any:
        """The step or steps."""
        tokens, targets = self._batches[self._taken // self.per_call % len(self._batches)]
        first = self._taken + 1
        self._taken += self.per_call
        if self.per_call == 1:
            return self._model.step(tokens, targets, Update(first, LEARNING_RATE))
        updates = [Update(step, LEARNING_RATE) for step in range(first, first + self.per_call)]
        return self._model.steps(tokens, targets, updates)

    def values(self, output: Any) -> NDArray[np.float64]:
        """The losses (per_call,)."""
        return np.atleast_1d(np.asarray(output, np.float64))


class Generation(Task):
    """n tokens in one call."""

    def __init__(self, model: Model, workload: Workload, temperature: float) -> None:
        self.per_call = workload.new_tokens
        self._model, self._prompt = model, workload.prompt
        self._sampling = Sampling(temperature)
        self._uniforms = np.random.default_rng(0).random(self.per_call)

    def begin(self) -> None:
        """Feed the prompt."""
        self._model.reset()
        self._model.feed(self._prompt)

    def call(self) -> Any:
        """The tokens."""
        return self._model.generate(self.per_call, self._sampling, self._uniforms)

    def values(self, output: Any) -> NDArray[np.float64]:
        """The tokens (n,)."""
        return np.asarray(output, np.float64)

    def evidence(self, output: Any) -> NDArray[np.float64]:
        """The tokens (n,), then the logits (V,) of what follows."""
        return np.concatenate([output, self._model.activations()["next_logits"]])
