"""Faults of the backward pass."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np

from cllm import Update
from cllm.harness.faults.catalogue import Array, Patched, caught_by
from cllm.reference import Model as Reference
from cllm.reference import attention, gelu, layernorm


class WrongGradient(Reference):
    """A gradient that `spoil` has changed."""

    def spoil(self, gradients: dict[str, Array]) -> None:
        raise NotImplementedError

    def _backward(self, *arguments: Any) -> None:
        before = self.gradients.copy()
        self.gradients[...] = 0
        super()._backward(*arguments)
        self.spoil(self.tensors("gradients"))
        self.gradients[...] += before


@caught_by("gradients.reference", "gradients.complex_step", "training.moments", "loss.trajectory")
class UphillGradient(WrongGradient):
    """Ascent by a flipped sign of every gradient."""

    def spoil(self, gradients: dict[str, Array]) -> None:
        self.gradients[...] *= -1


@caught_by("gradients.reference", "gradients.complex_step", "gradients.accumulate")
class OneBiasOff(WrongGradient):
    """One bias of a feed-forward whose gradient is off by a thousandth."""

    def spoil(self, gradients: dict[str, Array]) -> None:
        gradients["layer0.ff_in_bias"][-1] *= 1.001


@caught_by("gradients.reference", "gradients.complex_step")
class GradientIsNaN(WrongGradient):
    """One gradient that is NaN."""

    def spoil(self, gradients: dict[str, Array]) -> None:
        gradients["layer0.ln1_shift"][0] = np.nan


@caught_by("gradients.reference")
class QueriesForgotten(WrongGradient):
    """The queries' third of an attention's weights without gradient."""

    def spoil(self, gradients: dict[str, Array]) -> None:
        weight = gradients["layer0.qkv_weight"]
        weight[:, : len(weight)] = 0


@caught_by("gradients.reference")
class LastRowsNotSummed(WrongGradient):
    """A matrix whose last row of gradients is left out, as by a loop that ends early."""

    def spoil(self, gradients: dict[str, Array]) -> None:
        gradients["layer0.ff_out_weight"][-1] = 0


@caught_by("gradients.reference", "gradients.complex_step")
class TiedEmbeddingHalfDone(Patched):
    """The input side of the tied embedding's gradient missing."""

    @staticmethod
    def nothing(dweight: Array, dout: Array, tokens: Array) -> None:
        return

    functions: ClassVar = {"embedding_backward": nothing}


@caught_by("gradients.reference")
class RepeatedTokensCountOnce(Patched):
    """A token that occurs twice adds its gradient once, as NumPy assigns."""

    @staticmethod
    def assign(dweight: Array, dout: Array, tokens: Array) -> None:
        dweight[tokens] += math.sqrt(dweight.shape[1]) * dout

    functions: ClassVar = {"embedding_backward": assign}


@caught_by("gradients.reference", "gradients.complex_step")
class NormOfTheWrongInput(Patched):
    """LayerNorm backward from the wrong input."""

    @staticmethod
    def from_output(
        dx: Array, dgain: Array, dshift: Array, dout: Array, x: Array, *rest: Array
    ) -> None:
        layernorm.layernorm_backward(dx, dgain, dshift, dout, x + dx, *rest)

    functions: ClassVar = {"layernorm_backward": from_output}


@caught_by("gradients.reference", "gradients.complex_step")
class AttentionWithoutItsScale(Patched):
    """Attention backward without the factor 1/sqrt(D/H)."""

    @staticmethod
    def unscaled(
        dqkv: Array, dout: Array, qkv: Array, out: Array, lse: Array, num_heads: int
    ) -> None:
        attention.attention_backward(dqkv, dout, qkv, out, lse, num_heads)
        head_dim = qkv.shape[-1] // (3 * num_heads)
        dqkv[..., : 2 * dqkv.shape[-1] // 3] *= math.sqrt(head_dim)

    functions: ClassVar = {"attention_backward": unscaled}


@caught_by("gradients.reference", "gradients.complex_step")
class GeluSlopeOfTheSigmoid(Patched):
    """A gelu whose slope is off by a thousandth."""

    @staticmethod
    def slope(dx: Array, dout: Array, x: Array) -> None:
        gelu.gelu_backward(dx, dout, x)
        dx += 1e-3 * dout

    functions: ClassVar = {"gelu_backward": slope}


@caught_by("gradients.accumulate")
class KeepsTheLastMicroBatch(Reference):
    """Accumulation that keeps only the last micro-batch."""

    def _backward(self, *arguments: Any) -> None:
        self.gradients[...] = 0
        super()._backward(*arguments)


@caught_by("gradients.accumulate")
class DividesByNothing(Reference):
    """NaN where a micro-batch has no counted target: 0 divided by 0."""

    def _backward(self, *arguments: Any) -> None:
        super()._backward(*arguments)
        counted = (self.activations()["targets"] >= 0).sum()
        self.gradients[...] *= np.float64(counted) / counted


@caught_by("gradients.moves", "training.update")
class OptimizerSkipsTheLayers(Reference):
    """An optimizer that skips the layers: only the embedding moves."""

    def _update(self, update: Update) -> None:
        start = self.parameters.copy()
        super()._update(update)
        layers = self.tensors()["embedding"].size
        self.parameters[layers:] = start[layers:]


@caught_by("gradients.moves")
class OneParameterStandsStill(Reference):
    """An optimizer that leaves out the last parameter."""

    def _update(self, update: Update) -> None:
        last = self.parameters[-1].copy()
        super()._update(update)
        self.parameters[-1] = last


@caught_by("gradients.reference")
class BackwardRaises(Patched):
    """Division by zero in backward."""

    @staticmethod
    def fail(*arguments: Any) -> None:
        raise ZeroDivisionError("no rows for this thread")

    functions: ClassVar = {"linear_backward": fail}


@caught_by("gradients.extremes")
class SmallGradientsVanish(WrongGradient):
    """Gradients below 1e-20 taken for zero."""

    def spoil(self, gradients: dict[str, Array]) -> None:
        self.gradients[np.abs(self.gradients) < 1e-20] = 0


@caught_by("gradients.accumulate")
class ZeroingLeavesTheEmbedding(Reference):
    """Zeroing the gradients leaves those of the embedding."""

    def zero_gradients(self) -> None:
        kept = self.tensors("gradients")["embedding"].copy()
        super().zero_gradients()
        self.tensors("gradients")["embedding"][...] = kept


@caught_by("gradients.accumulate")
class MeanOfMicroBatches(Reference):
    """Each micro-batch divided by its own targets, not by those of the whole batch."""

    def _backward(self, batch_size: int, seq_len: int, divisor: float) -> None:
        counted = int((self.activations()["targets"] >= 0).sum())
        super()._backward(batch_size, seq_len, max(1, counted))


@caught_by("gradients.complex_step", "gradients.reference")
class GradientsOfSixteenBits(WrongGradient):
    """Gradients rounded to sixteen bits on their way, which no loss shows."""

    def spoil(self, gradients: dict[str, Array]) -> None:
        bits = self.gradients.view(np.uint32)
        bits &= np.uint32(0xFFFF0000)
