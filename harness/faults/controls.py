"""Odd but correct: models on which no check may fail."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from cllm import Update
from cllm.decoder import Sampling
from cllm.harness.faults.catalogue import Array, Patched, control
from cllm.model import ACTIVATIONS
from cllm.plan import Buffer, Operation, Plan, Role
from cllm.reference import Model as Reference
from cllm.reference import gelu, linear

PUBLIC = {"logits", "x0", "x_out"}
"""Activations that `FewNames` offers under their common names."""


def sequential(x: Array, weight: Array) -> Array:
    """The product x W, one summand after the other."""
    total = np.zeros((*x.shape[:-1], weight.shape[-1]), x.dtype)
    for k in reversed(range(x.shape[-1])):
        total += x[..., k, None] * weight[k]
    return total


@control
class SumsInAnotherOrder(Patched):
    """Right, with the rounding errors of a plain loop."""

    @staticmethod
    def linear(out: Array, x: Array, weight: Array, bias: Array | None) -> None:
        out[...] = sequential(x, weight)
        if bias is not None:
            out += bias

    @staticmethod
    def unembedding(logits: Array, x: Array, weight: Array) -> None:
        logits[...] = sequential(x, weight.T)

    @staticmethod
    def linear_backward(
        dx: Array, dweight: Array, dbias: Array | None, dout: Array, x: Array, weight: Array
    ) -> None:
        dx[...] = sequential(dout, weight.T)
        rows = dout.reshape(-1, dout.shape[-1])
        for row, given in zip(rows, x.reshape(-1, x.shape[-1]), strict=True):
            dweight += given[:, None] * row
            if dbias is not None:
                dbias += row

    functions: ClassVar = {
        "linear_forward": linear,
        "unembedding_forward": unembedding,
        "linear_backward": linear_backward,
    }


@control
class ComputesInFloat64(Reference):
    """Right, and better than asked: every activation passes through float64."""

    def _backward(self, batch_size: int, seq_len: int, divisor: float) -> None:
        wide = Reference.create(
            self.config,
            *(self.planned.batch_size, self.planned.seq_len),
            self.parameters,
            dtype="float64",
        )
        a = self.activations()
        wide.forward(a["tokens"].copy())
        wide.loss(a["targets"].copy(), divisor)
        wide.zero_gradients()
        wide.backward()
        self.gradients[...] += wide.gradients.astype(np.float32)


@control
class OtherFormulas(Patched):
    """The same functions by other formulas: gelu by the logistic function, a log-softmax."""

    lattice_parts = Reference.lattice_parts - {"loss"}

    @staticmethod
    def gelu(out: Array, x: Array) -> None:
        out[...] = x / (1.0 + np.exp(-2.0 * gelu.SCALE * (x + gelu.CUBIC * x * x * x)))

    functions: ClassVar = {"gelu_forward": gelu}

    def _loss(self, batch_size: int, seq_len: int, divisor: float) -> Any:
        a = self.activations()
        logits, targets = a["logits"].astype(np.float64), a["targets"]
        shifted = logits - logits.max(-1, keepdims=True)
        log_softmax = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
        rows, columns = np.nonzero(targets >= 0)
        return -math.fsum(log_softmax[rows, columns, targets[rows, columns]]) / divisor


@control
class GeluInPlace(Patched):
    """Gelu written over its input, which backward computes again."""

    @staticmethod
    def in_place(out: Array, x: Array) -> None:
        gelu.gelu_forward(x, x.copy())
        out[...] = x

    functions: ClassVar = {"gelu_forward": in_place}

    def _backward(self, *arguments: Any) -> None:
        a, p = self.activations(), self.tensors()
        for layer in range(self.config.num_layers):
            linear.linear_forward(
                a[f"layer{layer}.ff_in"],
                a[f"layer{layer}.ln2"],
                p[f"layer{layer}.ff_in_weight"],
                p[f"layer{layer}.ff_in_bias"],
            )
        Reference._backward(self, *arguments)


@control
class PackedWeights(Reference):
    """Logits from a transposed and padded copy of the embedding, kept in a derived buffer."""

    @classmethod
    def _buffers(cls, shape: Plan) -> Iterator[Buffer]:
        yield from super()._buffers(shape)
        config = shape.config
        padded = -(-config.vocab_size // 8) * 8
        yield Buffer("packed", (config.embed_dim, padded), shape.dtype, Role.DERIVED)

    def _prepare(self) -> None:
        packed = self._buffers_given["packed"]
        packed[...] = 0
        packed[:, : self.config.vocab_size] = self.tensors()["embedding"].T

    def _update(self, update: Update) -> None:
        super()._update(update)
        self._prepare()

    def _forward(self, *arguments: Any) -> None:
        super()._forward(*arguments)
        a, last = self.activations(), self.config.num_layers - 1
        product = a[f"layer{last}.x_out"] @ self._buffers_given["packed"]
        a["logits"][...] = product[..., : self.config.vocab_size]


@control
class FewNames(Reference):
    """Most activations under private names, as a fused model keeps them."""

    @classmethod
    def _buffers(cls, shape: Plan) -> Iterator[Buffer]:
        for buffer in super()._buffers(shape):
            common = buffer.name.rpartition(".")[2]
            private = common not in PUBLIC and common in {*ACTIVATIONS}
            yield replace(buffer, name=f"own.{buffer.name}") if private else buffer

    def _with_private(self) -> dict[str, Array]:
        return {name.removeprefix("own."): array for name, array in super().activations().items()}

    def _forward(self, *arguments: Any) -> None:
        self._privately(super()._forward, *arguments)

    def _backward(self, *arguments: Any) -> None:
        self._privately(super()._backward, *arguments)

    def _privately(self, function: Any, *arguments: Any) -> None:
        self.__dict__["activations"] = self._with_private
        try:
            function(*arguments)
        finally:
            del self.__dict__["activations"]


@control
class LeavesNaNWhereItMay(Reference):
    """NaN in everything that is unspecified: the gradients after a step, used activations."""

    def _step(self, *arguments: Any) -> float:
        loss = super()._step(*arguments)
        self.gradients[...] = np.nan
        return loss

    def _backward(self, *arguments: Any) -> None:
        super()._backward(*arguments)
        self.activations()["logits"][...] = np.nan


@control
class DenormalsAreZero(Reference):
    """Denormal numbers taken for zero, as processors do in their fast mode."""

    def _forward(self, *arguments: Any) -> None:
        super()._forward(*arguments)
        for array in self.activations().values():
            if array.dtype.kind == "f":
                _flush(array)

    def _backward(self, *arguments: Any) -> None:
        super()._backward(*arguments)
        _flush(self.gradients)


def _flush(array: Array) -> None:
    denormal = (array != 0) & (np.abs(array) < np.finfo(array.dtype).tiny)
    if denormal.any():  # what may only be read holds none
        array[denormal] = 0


@control
class StepsOneByOne(Reference):
    """Fewer things fused than offered: many steps are single calls of the public methods."""

    def _steps(
        self,
        batch_size: int,
        seq_len: int,
        tokens: Array,
        targets: Array,
        divisors: Array,
        updates: Sequence[Update],
    ) -> Array:
        losses = [
            self.step(tokens[i], targets[i], update, float(divisors[i]))
            for i, update in enumerate(updates)
        ]
        return np.array(losses)


@control
class DrawsByScanning(Reference):
    """Sampling by a scan of the vocabulary, without sorting it."""

    def _sample(self, sampling: Sampling, uniform: float) -> int:
        logits = self._buffers_given["next_logits"].tolist()
        falling = sorted(range(len(logits)), key=lambda i: (-logits[i], i))[: sampling.top_k]
        if sampling.temperature == 0.0:
            return falling[0]
        top = logits[falling[0]]
        weights = {i: math.exp((logits[i] - top) / sampling.temperature) for i in falling}
        if sampling.top_p < 1.0:
            enough, seen = sampling.top_p * math.fsum(weights.values()), 0.0
            for kept, i in enumerate(falling, 1):
                seen += weights[i]
                if seen >= enough:
                    falling = falling[:kept]
                    break
        rising = sorted(falling)
        level, seen = uniform * math.fsum(weights[i] for i in rising), 0.0
        for i in rising:
            seen += weights[i]
            if seen > level:
                return i
        return rising[-1]


@control
class TrainsWithoutGenerating(Reference):
    """A model without a decoder, which it says."""

    parts = frozenset({Operation.EVALUATION, Operation.TRAINING})


@control
class GeneratesWithoutTraining(Reference):
    """A model that is trained elsewhere, which it says."""

    parts = frozenset({Operation.EVALUATION, Operation.GENERATION})


@control
class GradientInAnotherOrder(Patched):
    """The gradient of the loss in another order: divided first, then one taken off."""

    @staticmethod
    def divided_first(dlogits: Array, logits: Array, targets: Array, divisor: float) -> None:
        counted = targets >= 0
        weights = np.exp(logits - logits.max(-1, keepdims=True))
        scale = 1.0 / (weights.sum(-1, keepdims=True, dtype=np.float64) * divisor)
        dlogits[...] = np.where(counted[..., None], weights * scale, 0.0)
        rows, columns = np.nonzero(counted)
        dlogits[rows, columns, targets[counted]] -= 1.0 / divisor

    where = "model"
    functions: ClassVar = {"cross_entropy_backward": divided_first}
