"""Faults of the backward pass."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np

from cllm import Update
from cllm.reference import Model as Reference
from cllm.reference import attention, gelu, layernorm
from cllm.harness.faults.catalogue import Array, Patched, caught_by


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
    def spoil(self, gradients: dict[str, Array]) -> None:
        self.gradients[...] *= -1


@caught_by("gradients.reference", "gradients.complex_step", "gradients.accumulate")
class OneBiasOff(WrongGradient):
    def spoil(self, gradients: dict[str, Array]) -> None:
        gradients["layer0.ff_in_bias"][-1] *= 1.001


@caught_by("gradients.reference", "gradients.complex_step")
class GradientIsNaN(WrongGradient):
    def spoil(self, gradients: dict[str, Array]) -> None:
        gradients["layer0.ln1_shift"][0] = np.nan


@caught_by("gradients.reference")
class QueriesForgotten(WrongGradient):
    def spoil(self, gradients: dict[str, Array]) -> None:
        weight = gradients["layer0.qkv_weight"]
        weight[:, : len(weight)] = 0


@caught_by("gradients.reference")
class LastRowsNotSummed(WrongGradient):
    def spoil(self, gradients: dict[str, Array]) -> None:
        gradients["layer0.ff_out_weight"][-1] = 0


@caught_by("gradients.reference", "gradients.complex_step")
class TiedEmbeddingHalfDone(Patched):
    @staticmethod
    def nothing(dweight: Array, dout: Array, tokens: Array) -> None:
        return

    functions: ClassVar = {"embedding_backward": nothing}


@caught_by("gradients.reference")
class RepeatedTokensCountOnce(Patched):
    @staticmethod
    def assign(dweight: Array, dout: Array, tokens: Array) -> None:
        dweight[tokens] += math.sqrt(dweight.shape[1]) * dout

    functions: ClassVar = {"embedding_backward": assign}


@caught_by("gradients.reference", "gradients.complex_step")
class NormOfTheWrongInput(Patched):
    @staticmethod
    def from_output(
        dx: Array, dgain: Array, dshift: Array, dout: Array, x: Array, *rest: Array
    ) -> None:
        layernorm.layernorm_backward(dx, dgain, dshift, dout, x + dx, *rest)

    functions: ClassVar = {"layernorm_backward": from_output}


@caught_by("gradients.reference", "gradients.complex_step")
class AttentionWithoutItsScale(Patched):
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
    @staticmethod
    def slope(dx: Array, dout: Array, x: Array) -> None:
        gelu.gelu_backward(dx, dout, x)
        dx += 1e-3 * dout

    functions: ClassVar = {"gelu_backward": slope}


@caught_by("gradients.accumulate")
class KeepsTheLastMicroBatch(Reference):
    def _backward(self, *arguments: Any) -> None:
        self.gradients[...] = 0
        super()._backward(*arguments)


@caught_by("gradients.accumulate")
class DividesByNothing(Reference):
    def _backward(self, *arguments: Any) -> None:
        super()._backward(*arguments)
        counted = (self.activations()["targets"] >= 0).sum()
        self.gradients[...] *= counted / np.maximum(counted, 0.0)


@caught_by("gradients.moves", "training.update")
class OptimizerSkipsTheLayers(Reference):
    def _update(self, update: Update) -> None:
        start = self.parameters.copy()
        super()._update(update)
        layers = self.tensors()["embedding"].size
        self.parameters[layers:] = start[layers:]


@caught_by("gradients.moves")
class OneParameterStandsStill(Reference):
    def _update(self, update: Update) -> None:
        last = self.parameters[-1].copy()
        super()._update(update)
        self.parameters[-1] = last


@caught_by("gradients.reference")
class BackwardRaises(Patched):
    @staticmethod
    def fail(*arguments: Any) -> None:
        raise ZeroDivisionError("no rows for this thread")

    functions: ClassVar = {"linear_backward": fail}
