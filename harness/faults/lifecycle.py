"""Faults of one model's state: copies that fall behind, memory shared, arrays misread."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from cllm.harness.faults.catalogue import Array, caught_by
from cllm.layout import tensor_views
from cllm.plan import Buffer, Operation, Plan
from cllm.reference import Model as Reference
from cllm.reference.network import decode, forward


@caught_by("loss.prepared")
class CopiesOnLoad(Reference):
    """Private weights made when parameters are loaded, not when they are prepared."""

    mine: Array | None = None

    def load(self, parameters: Array) -> None:
        """Copy the parameters in."""
        super().load(parameters)
        self.mine = self.parameters.copy()

    def _update(self, *arguments: Any) -> None:
        super()._update(*arguments)
        self.mine = self.parameters.copy()

    def _forward(self, *arguments: Any) -> None:
        weights = tensor_views(self.config, self.parameters if self.mine is None else self.mine)
        forward(weights, self.activations(), self.config)


@caught_by("generation.together")
class DecodesWithOldWeights(Reference):
    """Decoding with an embedding that an update does not reach."""

    def _prepare(self) -> None:
        self.embedding = self.tensors()["embedding"].copy()

    def _decode(self, position: int) -> None:
        weights = {**self.tensors(), "embedding": self.embedding}
        decode(weights, dict(self._buffers_given), position, self.config)


@caught_by("generation.together")
class ForwardTakesTheCache(Reference):
    """Forward takes the decoder's cache for scratch."""

    def _forward(self, *arguments: Any) -> None:
        super()._forward(*arguments)
        if Operation.GENERATION in self.planned.operations:
            self._buffers_given["layer0.keys"][...] = 0


@caught_by("generation.together")
class DecodesOrEvaluates(Reference):
    """Evaluation and generation cannot be planned together without training."""

    @classmethod
    def _buffers(cls, shape: Plan) -> Iterator[Buffer]:
        if shape.operations == {Operation.EVALUATION, Operation.GENERATION}:
            raise KeyError("dx")
        yield from super()._buffers(shape)


@caught_by("generation.together")
class HandsOutItsWindow(Reference):
    """The context is a view of the window, and changes with what is fed later."""

    @property
    def context(self) -> Array:
        """The window itself."""
        return self._buffers_given["window"][: self._context_length]


@caught_by("generation.not_finite")
class DecodesOnWithoutNumbers(Reference):
    """No error where the next logits are not finite."""

    def _finite_logits(self) -> Array:
        return self._buffers_given["next_logits"]


@caught_by("loss.not_finite")
class HidesNaN(Reference):
    """Logits that are no numbers become 0, and the loss looks right."""

    def _forward(self, *arguments: Any) -> None:
        super()._forward(*arguments)
        logits = self.activations()["logits"]
        if not np.isfinite(logits).all():
            logits[...] = np.nan_to_num(logits)


@caught_by("loss.strides")
class IgnoresStrides(Reference):
    """A batch is copied in the order in which it lies in memory, whatever its strides."""

    def _take(self, tokens: Array, targets: Array) -> int:
        counted = super()._take(tokens, targets)
        views = self.activations()
        for name, ids in (("tokens", tokens), ("targets", targets)):
            views[name].reshape(-1)[...] = ids.ravel("K")
        return counted
