"""Everything that a model offers, in calls that can be repeated: what watches from outside runs it.

Promises: the calls of a model's parts alone; two models built alike and called alike do the same.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cllm.config import Config
from cllm.decoder import Sampling
from cllm.harness.cases import Setting, draw_batches, draw_case
from cllm.harness.runner import build
from cllm.model import Model, Update
from cllm.plan import Operation

SMALL = Setting(Config(29, 16, 1, 2, 24), 2, 5)
"""Where only the number of calls matters."""

WIDE = Setting(Config(29, 16, 2, 2, 24), 8, 20)
"""Enough work that the optimized model takes a second thread."""

BATCHES = 2
"""That one call of `steps` takes."""

Calls = dict[str, Callable[[], object]]


class Exercise:
    """A model of each kind that a candidate offers, at one point of training."""

    def __init__(
        self, candidate: type[Model], setting: Setting, seed: int, threads: int = 1
    ) -> None:
        self._case = case = draw_case(setting, seed)
        generator = np.random.default_rng(seed)
        shape = (setting.batch_size, setting.seq_len)
        self._batches = draw_batches(setting.config, generator, BATCHES, *shape)
        self._updates = [Update(case.step + i, 1e-3, clip=0.5) for i in range(BATCHES)]
        self._uniforms = generator.random(setting.seq_len + 1)  # the window slides
        self._sampling = Sampling(temperature=0.9, top_k=5, top_p=0.95)
        self.model: Model | None = None
        self.decoder: Model | None = None
        self.calls: Calls = {}
        if Operation.GENERATION in candidate.parts:
            self.decoder = build(candidate, case, threads=threads, operation=Operation.GENERATION)
            self.calls["generation"] = self.generate
        for operation in (Operation.TRAINING, Operation.EVALUATION):
            if operation in candidate.parts:
                self.model = build(candidate, case, threads=threads, operation=operation)
                break
        if Operation.EVALUATION in candidate.parts:
            self.calls = {"forward and loss": self.evaluate} | self.calls
        if Operation.TRAINING in candidate.parts:
            own = {"step": self.step, "steps": self.steps, "backward": self.differentiate}
            self.calls = {**own, **self.calls}

    def run(self) -> None:
        """Each call once."""
        for call in self.calls.values():
            call()

    def evaluate(self) -> float:
        """Forward and loss of one batch."""
        model = self._built(self.model)
        model.forward(self._case.tokens)
        return model.loss(self._case.targets)

    def differentiate(self) -> None:
        """Gradients and an update, call by call."""
        model = self._built(self.model)
        model.zero_gradients()
        self.evaluate()
        model.backward()
        model.update(self._updates[0])

    def step(self) -> float:
        """One whole step."""
        return self._built(self.model).step(self._case.tokens, self._case.targets, self._updates[0])

    def steps(self) -> NDArray[np.float64]:
        """`BATCHES` whole steps in one call."""
        return self._built(self.model).steps(*self._batches, self._updates)

    def generate(self) -> NDArray[np.int32]:
        """Tokens after a context, until the window has slid."""
        decoder = self._built(self.decoder)
        decoder.reset()
        decoder.feed(self._case.tokens[0])
        return decoder.generate(len(self._uniforms), self._sampling, self._uniforms)

    def load(self) -> None:
        """The parameters that the models have, loaded again, and prepared once more."""
        for model in self._models():
            model.load(model.parameters.copy())
            model.prepare()

    def refuse(self) -> None:
        """Arguments that every call must refuse."""
        wrong = np.full_like(self._case.tokens, self._case.setting.config.vocab_size)
        ids, update, two = self._case.tokens, self._updates[0], np.full(2, 1.5)
        for model in self._models():
            offered = model.planned.operations
            refused: list[Callable[[], object]] = [partial(model.load, two)]
            if Operation.EVALUATION in offered:
                refused += [partial(model.forward, wrong), partial(model.loss, wrong)]
            if Operation.TRAINING in offered:
                refused += [
                    model.backward,
                    partial(model.step, wrong, ids, update),
                    partial(model.step, ids, wrong, update),
                    partial(model.steps, wrong[None], ids[None], [update]),
                ]
            if Operation.GENERATION in offered:
                model.reset()
                model.feed(ids[0])
                drawn = partial(model.generate, 2, self._sampling)
                refused += [partial(model.feed, wrong[0]), partial(drawn, two)]
            for call in refused:
                with suppress(ValueError, RuntimeError):
                    call()

    def _models(self) -> list[Model]:
        return [model for model in (self.model, self.decoder) if model is not None]

    def state(self) -> dict[str, NDArray[Any]]:
        """Copies of what training has made of the parameters and moments, and the last logits."""
        found: dict[str, NDArray[Any]] = {}
        if self.model is not None and Operation.TRAINING in self.model.planned.operations:
            found["parameters"] = self.model.parameters.copy()
            found["first_moment"], found["second_moment"] = (m.copy() for m in self.model.moments)
        if self.model is not None:
            found["logits"] = self.model.forward(self._case.tokens).copy()
        if self.decoder is not None:
            found["next tokens"] = self.generate()
            found["next logits"] = self.decoder.feed(self._case.tokens[0]).copy()
        return found

    @staticmethod
    def _built(model: Model | None) -> Model:
        if model is None:
            raise ValueError("the candidate does not offer this part")
        return model
