"""Faults of single operations of the backward pass."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from cllm.harness.faults.catalogue import Array, Patched, caught_by
from cllm.reference import attention, cross_entropy, layernorm


class OwnLossGradient(Patched):
    """A gradient of the loss that faults change."""

    where = "model"


@caught_by("gradients.reference", "gradients.complex_step")
class GradientOfSquares(OwnLossGradient):
    """Cross-entropy loss with a squared-error gradient."""

    @staticmethod
    def squares(dlogits: Array, logits: Array, targets: Array, divisor: float) -> None:
        probs = np.exp(logits - logits.max(-1, keepdims=True))
        probs /= probs.sum(-1, keepdims=True)
        cross_entropy.cross_entropy_backward(dlogits, logits, targets, divisor)
        # d/dlogits of sum((probs - onehot)²) / 2
        dlogits[...] = probs * (dlogits - (dlogits * probs).sum(-1, keepdims=True))

    functions: ClassVar = {"cross_entropy_backward": squares}


@caught_by("gradients.reference", "gradients.extremes")
class IgnoredTargetsPush(OwnLossGradient):
    """Targets that are not counted still push their logits down."""

    @staticmethod
    def push(dlogits: Array, logits: Array, targets: Array, divisor: float) -> None:
        probs = np.exp(logits - logits.max(-1, keepdims=True))
        probs /= probs.sum(-1, keepdims=True)
        ignored = targets[..., None] < 0
        cross_entropy.cross_entropy_backward(dlogits, logits, targets, divisor)
        dlogits[...] = np.where(ignored, probs / divisor, dlogits)

    functions: ClassVar = {"cross_entropy_backward": push}


@caught_by("gradients.extremes")
class GradientOverflows(OwnLossGradient):
    """The gradient of the softmax without taking off the largest logit: infinity by infinity."""

    @staticmethod
    def overflow(dlogits: Array, logits: Array, targets: Array, divisor: float) -> None:
        overflown = np.isinf(np.exp(logits))
        cross_entropy.cross_entropy_backward(dlogits, logits, targets, divisor)
        dlogits[overflown] = np.nan

    functions: ClassVar = {"cross_entropy_backward": overflow}


@caught_by("gradients.reference")
class AttentionOfOneToken(Patched):
    """Attention backward run for sequence length 1: no gradient between tokens."""

    @staticmethod
    def alone(dqkv: Array, dout: Array, qkv: Array, out: Array, lse: Array, num_heads: int) -> None:
        dqkv[...] = 0
        dqkv[..., 2 * dqkv.shape[-1] // 3 :] = dout

    functions: ClassVar = {"attention_backward": alone}


@caught_by("gradients.reference", "gradients.complex_step")
class NormTakesItsMeansForConstant(Patched):
    """LayerNorm backward as if mean and variance did not depend on the input."""

    @staticmethod
    def constant(
        dx: Array, dgain: Array, dshift: Array, dout: Array, x: Array, mean: Array, rstd: Array,
        gain: Array,
    ) -> None:  # fmt: skip
        layernorm.layernorm_backward(dx.copy(), dgain, dshift, dout, x, mean, rstd, gain)
        dx += rstd[..., None] * dout * gain

    functions: ClassVar = {"layernorm_backward": constant}


@caught_by("gradients.reference")
class ValuesOfAnotherTranspose(Patched):
    """The values' gradient summed over keys where it must be over queries."""

    @staticmethod
    def transposed(
        dqkv: Array, dout: Array, qkv: Array, out: Array, lse: Array, num_heads: int
    ) -> None:
        attention.attention_backward(dqkv, dout, qkv, out, lse, num_heads)
        q, k, _ = attention._split(qkv, num_heads)
        probs = np.exp(attention._masked_scores(q, k) - lse[..., None])
        dheads = attention._split_one(dout, num_heads)
        attention._split(dqkv, num_heads)[2][...] = probs @ dheads

    functions: ClassVar = {"attention_backward": transposed}


@caught_by("gradients.reference")
class LastLayerAloneLearns(Patched):
    """The gradient does not flow along the residual stream past the last layer."""

    @staticmethod
    def cut(dx: Array, *rest: Array) -> None:
        before = dx.copy()
        layernorm.layernorm_backward(dx, *rest)
        dx -= before

    functions: ClassVar = {"layernorm_backward": cut}
