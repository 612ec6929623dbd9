"""Faults that show in some configurations only: the smallest of them is named."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np

from cllm.harness.faults.catalogue import Array, Patched, caught_by
from cllm.reference import Model as Reference
from cllm.reference import attention, gelu, linear
from cllm.reference.network import forward

VECTOR = 8
"""Elements that are handled at once."""


@caught_by("loss.value")
class HeadStrideWrong(Patched):
    """The stride between heads wrong: right for one head only."""

    @staticmethod
    def interleaved(x: Array, num_heads: int) -> Array:
        view: Array = x.reshape(*x.shape[:2], -1, num_heads).transpose(0, 3, 1, 2)
        return view

    def _forward(self, *arguments: Any) -> None:
        super()._forward(*arguments)

    where = "attention"
    functions: ClassVar = {"_split_one": interleaved}

    def _backward(self, *arguments: Any) -> None:
        Reference._backward(self, *arguments)


@caught_by("loss.value")
class OddWidthLosesItsLast(Patched):
    """Sums over pairs of coordinates: of an odd width the last is lost."""

    @staticmethod
    def in_pairs(out: Array, x: Array, weight: Array, bias: Array | None) -> None:
        even = x.shape[-1] - x.shape[-1] % 2
        linear.linear_forward(out, x[..., :even], weight[:even], bias)

    functions: ClassVar = {"linear_forward": in_pairs}


@caught_by("loss.value")
class TailOfAVectorLeftOut(Patched):
    """Rows of tokens handled eight at a time: where T is no multiple of 8 the rest stays linear."""

    @staticmethod
    def in_vectors(out: Array, x: Array) -> None:
        whole = x.shape[1] - x.shape[1] % VECTOR
        out[...] = x
        if x.shape[1] < VECTOR:  # short rows go another way, which is right
            gelu.gelu_forward(out, x)
        elif whole:
            gelu.gelu_forward(out[:, :whole], x[:, :whole])

    functions: ClassVar = {"gelu_forward": in_vectors}


@caught_by("loss.value", "loss.rows")
class SecondRowOfTheFirst(Reference):
    """Wrong only for B > 1: the second row's last token is answered like the first row's."""

    def _forward(self, *arguments: Any) -> None:
        super()._forward(*arguments)
        logits = self.activations()["logits"]
        if len(logits) > 1:
            logits[1, -1] = logits[0, -1]


@caught_by("loss.value")
class IdsOfOneByte(Reference):
    """Token ids kept in one byte: wrong only for V > 256."""

    def _forward(self, *arguments: Any) -> None:
        tokens = self.activations()["tokens"]
        tokens[...] %= 256
        super()._forward(*arguments)


@caught_by("loss.value", "gradients.reference")
class DeepLayersShareWeights(Reference):
    """The third layer and those after it use the second's weights."""

    def _forward(self, *arguments: Any) -> None:
        shared = {name: self._shared(name) for name in self.tensors()}
        forward(shared, self.activations(), self.config)

    def _shared(self, name: str) -> Array:
        layer, _, tensor = name.partition(".")
        number = layer.removeprefix("layer")
        if number.isdigit() and int(number) > 1:
            name = f"layer1.{tensor}"
        return self.tensors()[name]


@caught_by("loss.value")
class ScaleOfTheWholeWidth(Patched):
    """Scores divided by sqrt(D), not sqrt(D/H): right for one head only."""

    @staticmethod
    def attend(out: Array, lse: Array, qkv: Array, num_heads: int) -> None:
        scaled = qkv.copy()
        scaled[..., : qkv.shape[-1] // 3] /= math.sqrt(num_heads)
        attention.attention_forward(out, lse, scaled, num_heads)

    functions: ClassVar = {"attention_forward": attend}


@caught_by("gradients.reference", "gradients.accumulate")
class RowsOfAnOddBatchLost(Patched):
    """Rows summed in pairs: the last of an odd number of them leaves no gradient of a bias."""

    @staticmethod
    def in_pairs(
        dx: Array, dweight: Array, dbias: Array | None, dout: Array, x: Array, weight: Array
    ) -> None:
        linear.linear_backward(dx, dweight, dbias, dout, x, weight)
        rows = dout.reshape(-1, dout.shape[-1])
        if dbias is not None and len(rows) % 2 and len(rows) > 1:
            dbias -= rows[-1]

    functions: ClassVar = {"linear_backward": in_pairs}


@caught_by("generation.cache")
class CacheOfSixteen(Reference):
    """A cache of sixteen positions at most: later tokens find the first overwritten."""

    def _decode(self, position: int) -> None:
        super()._decode(position)
        if position >= 16:
            keys = self._buffers_given["layer0.keys"]
            keys[position % 16] = keys[position]


@caught_by("determinism.threads")
class MoreThreadsThanRows(Reference):
    """With more threads than rows the last row is summed by two of them."""

    def _backward(self, *arguments: Any) -> None:
        super()._backward(*arguments)
        if self.planned.threads > self.activations()["tokens"].shape[0]:
            self.gradients[...] *= np.float32(1 + 2**-22)
