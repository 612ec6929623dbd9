"""Faults of the forward pass, whatever the configuration."""

from __future__ import annotations

from typing import Any, ClassVar
from unittest import mock

import numpy as np

from cllm.harness.faults.catalogue import Array, Patched, caught_by
from cllm.reference import attention, cross_entropy, embedding, layernorm


class OwnExponential(Patched):
    """Attention with an exponential of its own."""

    @staticmethod
    def exp(x: Array) -> Array:
        raise NotImplementedError

    @classmethod
    def attend(cls, out: Array, lse: Array, qkv: Array, num_heads: int) -> None:
        q, k, v = attention._split(qkv, num_heads)
        scores = attention._masked_scores(q, k)
        top = scores.max(-1)
        visible = np.isfinite(scores)
        falls = np.where(visible, scores - top[..., None], 0.0).astype(qkv.dtype)
        weights = np.where(visible, cls.exp(falls), 0.0).astype(qkv.dtype)
        total = weights.sum(-1)
        lse[...] = np.log(total) + top
        out[...] = attention._join((weights / total[..., None]) @ v)

    def patched(self) -> Any:
        return mock.patch("cllm.reference.network.attention_forward", self.attend)


@caught_by("loss.value", "gradients.extremes")
class AttentionGoesNegative(OwnExponential):
    """An exp() whose series stops early, so that softmax goes negative."""

    @staticmethod
    def exp(x: Array) -> Array:
        series: Array = 1 + x + x**2 / 2 + x**3 / 6
        return series


@caught_by("loss.extremes")
class AttentionExpExplodes(OwnExponential):
    """An exp() that explodes for large negatives: its range reduction overflows."""

    @staticmethod
    def exp(x: Array) -> Array:
        return np.exp(np.where(x < -80.0, -x, x))


@caught_by("loss.extremes")
class CrossEntropyOverflows(Patched):
    """Cross entropy without taking off the largest logit: exp overflows."""

    @staticmethod
    def losses(losses: Array, logits: Array, targets: Array) -> None:
        cross_entropy.cross_entropy_forward(losses, logits, targets)
        lse = np.log(np.exp(logits).sum(-1))
        losses[np.isinf(lse) & (targets >= 0)] = np.inf

    where = "model"
    functions: ClassVar = {"cross_entropy_forward": losses}

    def _loss(self, *arguments: Any) -> Any:
        with self.patched():
            return super()._loss(*arguments)


@caught_by("loss.extremes")
class EpsilonOfAnotherSize(Patched):
    """A layer norm that adds 1e-6 to the variance, not 1e-5."""

    where = "layernorm"
    functions: ClassVar = {"EPSILON": 1e-6}


@caught_by("loss.extremes")
class VarianceByDifference(Patched):
    """The variance as the difference of two large numbers: mean of squares, square of mean."""

    @staticmethod
    def norm(out: Array, mean: Array, rstd: Array, x: Array, gain: Array, shift: Array) -> None:
        mean[...] = x.mean(-1)
        variance = (x * x).mean(-1) - mean * mean
        rstd[...] = 1.0 / np.sqrt(variance + layernorm.EPSILON)
        out[...] = gain * ((x - mean[..., None]) * rstd[..., None]) + shift

    functions: ClassVar = {"layernorm_forward": norm}


@caught_by("loss.value")
class AttentionIsTheIdentity(Patched):
    """Attention replaced by the identity: each token gets its own value."""

    @staticmethod
    def attend(out: Array, lse: Array, qkv: Array, num_heads: int) -> None:
        attention.attention_forward(out, lse, qkv, num_heads)
        out[...] = np.split(qkv, 3, -1)[2]

    functions: ClassVar = {"attention_forward": attend}


@caught_by("loss.value")
class NoPositions(Patched):
    """Embeddings without their positions."""

    @staticmethod
    def embed(out: Array, tokens: Array, weight: Array, positions: Array) -> None:
        embedding.embedding_forward(out, tokens, weight, 0 * positions)

    functions: ClassVar = {"embedding_forward": embed}


@caught_by("loss.value")
class GeluByTheSigmoid(Patched):
    """The sigmoid approximation of gelu in the place of its tanh form."""

    @staticmethod
    def sigmoid_gelu(out: Array, x: Array) -> None:
        out[...] = x / (1 + np.exp(-1.702 * x))

    functions: ClassVar = {"gelu_forward": sigmoid_gelu}


@caught_by("loss.value")
class OneHead(Patched):
    """All heads computed as one."""

    @staticmethod
    def attend(out: Array, lse: Array, qkv: Array, num_heads: int) -> None:
        attention.attention_forward(out, lse[:, :1], qkv, 1)

    functions: ClassVar = {"attention_forward": attend}


@caught_by("loss.value")
class VarianceUnbiased(Patched):
    """Layer norm divided by D - 1, as statisticians do."""

    @staticmethod
    def norm(out: Array, mean: Array, rstd: Array, x: Array, gain: Array, shift: Array) -> None:
        layernorm.layernorm_forward(out, mean, rstd, x, gain, shift)
        width = x.shape[-1]
        variance = (1 / rstd**2 - layernorm.EPSILON) * width / (width - 1)
        rstd[...] = 1 / np.sqrt(variance + layernorm.EPSILON)
        out[...] = gain * ((x - mean[..., None]) * rstd[..., None]) + shift

    functions: ClassVar = {"layernorm_forward": norm}


@caught_by("loss.value")
class ResidualForgotten(Patched):
    """What comes out of attention replaces the residual stream instead of joining it."""

    @staticmethod
    def branch_alone(out: Array, x: Array, branch: Array) -> None:
        out[...] = branch

    functions: ClassVar = {"residual_forward": branch_alone}


@caught_by("loss.value", "gradients.reference")
class HalfPrecisionInside(Patched):
    """Scores rounded to half precision on their way to the softmax."""

    exact = staticmethod(attention._masked_scores)

    @classmethod
    def scores(cls, q: Array, k: Array, bias: Array | float) -> Array:
        rounded: Array = cls.exact(q, k, bias).astype(np.float16).astype(q.dtype)
        return rounded

    def patched(self) -> Any:
        return mock.patch("cllm.reference.attention._masked_scores", self.scores)
