"""Faults of the loss, of what is said about it, and of what may be seen when it is computed."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, ClassVar

import numpy as np

from cllm import Update
from cllm.harness.faults.catalogue import Array, Patched, caught_by
from cllm.reference import Model as Reference
from cllm.reference import cross_entropy, embedding, layernorm


@caught_by("loss.value", "loss.trajectory")
class LossSlightlyTooLarge(Reference):
    """A loss that is too large by one part in 100,000."""

    def _loss(self, *arguments: Any) -> Any:
        return super()._loss(*arguments) * (1 + 1e-5)


@caught_by("loss.value")
class LossIgnoresTheDivisor(Reference):
    """A loss divided by all targets, counted or not, whatever divisor is given."""

    def _loss(self, batch_size: int, seq_len: int, divisor: float) -> Any:
        return super()._loss(batch_size, seq_len, batch_size * seq_len)


@caught_by("loss.value")
class LossIgnoresTheParameters(Reference):
    """A loss that ignores the parameters: always that of equally probable tokens."""

    def _loss(self, batch_size: int, seq_len: int, divisor: float) -> Any:
        counted = int((self.activations()["targets"] >= 0).sum())
        return counted * math.log(self.config.vocab_size) / divisor


@caught_by("loss.value", "loss.trajectory")
class LossIsNaN(Reference):
    """A loss that is NaN, which compares as neither too large nor too small."""

    def _loss(self, *arguments: Any) -> Any:
        return math.nan


@caught_by("loss.value", "loss.rows")
class CountsIgnoredTargets(Patched):
    """Targets of -1 counted as the last token, as NumPy indexes."""

    @staticmethod
    def losses(losses: Array, logits: Array, targets: Array) -> None:
        cross_entropy.cross_entropy_forward(losses, logits, targets % logits.shape[-1])

    where = "model"
    functions: ClassVar = {"cross_entropy_forward": losses}

    def _loss(self, *arguments: Any) -> Any:
        with self.patched():
            return super()._loss(*arguments)


@caught_by("loss.trajectory")
class WrongAfterTwentySteps(Reference):
    """Right for twenty steps, then a learning rate that is one hundredth too large."""

    def _update(self, update: Update) -> None:
        self.taken = getattr(self, "taken", 0) + 1
        faster = 1.01 if self.taken > 20 else 1.0
        super()._update(dataclasses.replace(update, learning_rate=faster * update.learning_rate))


@caught_by("loss.trajectory")
class WrongAfterFiftySteps(Reference):
    """Right for fifty steps, then the embedding no longer moves."""

    def _update(self, update: Update) -> None:
        self.taken = getattr(self, "taken", 0) + 1
        before = self.tensors()["embedding"].copy()
        super()._update(update)
        if self.taken > 50:
            self.tensors()["embedding"][...] = before


@caught_by("loss.learns", "loss.value")
class SaysThatItLearns(Reference):
    """A loss that falls step by step, of parameters that never move."""

    def _update(self, update: Update) -> None:
        self.said = 0.99 * getattr(self, "said", 3.0)

    def _loss(self, *arguments: Any) -> Any:
        return getattr(self, "said", 3.0)


@caught_by("loss.learns", "training.update", "training.step")
class WeightsTurnNaN(Reference):
    """Weights that turn NaN while the printed loss looks well."""

    def _update(self, update: Update) -> None:
        super()._update(update)
        self.parameters[-1] = math.nan

    def _loss(self, *arguments: Any) -> Any:
        loss = super()._loss(*arguments)
        return loss if math.isfinite(loss) else 1.0


@caught_by("loss.causal", "loss.value")
class NoCausalMask(Patched):
    """A missing causal mask: a query sees the tokens after its own."""

    @staticmethod
    def scores(q: Array, k: Array, bias: Array | float) -> Array:
        unmasked: Array = (q @ k.swapaxes(-1, -2)) / math.sqrt(q.shape[-1])
        return unmasked

    where = "attention"
    functions: ClassVar = {"_masked_scores": scores}


@caught_by("loss.causal")
class PeeksALittle(Patched):
    """One ten-thousandth of the next token in each embedding."""

    @staticmethod
    def embed(out: Array, tokens: Array, weight: Array, positions: Array) -> None:
        embedding.embedding_forward(out, tokens, weight, positions)
        out[:, :-1] += 1e-4 * weight[tokens[:, 1:]]

    functions: ClassVar = {"embedding_forward": embed}


@caught_by("loss.rows", "loss.value")
class NormOverTheBatch(Patched):
    """Layer norm with the variance of the whole batch in the place of each token's own."""

    @staticmethod
    def norm(out: Array, mean: Array, rstd: Array, x: Array, gain: Array, shift: Array) -> None:
        layernorm.layernorm_forward(out, mean, rstd, x, gain, shift)
        rstd[...] = 1.0 / np.sqrt((1.0 / rstd**2).mean())
        out[...] = gain * ((x - mean[..., None]) * rstd[..., None]) + shift

    functions: ClassVar = {"layernorm_forward": norm}


@caught_by("loss.rows", "loss.value")
class ReadsOnIntoTheRowBefore(Reference):
    """The first token of a row continues the row before: what it leaves behind is added."""

    def _forward(self, *arguments: Any) -> None:
        super()._forward(*arguments)
        logits = self.activations()["logits"]
        logits[1:, 0] += 1e-3 * logits[:-1, -1]


@caught_by("loss.value", "loss.causal", "gradients.reference")
class LogitsAreNaN(Reference):
    """Logits that are NaN."""

    def _forward(self, *arguments: Any) -> None:
        super()._forward(*arguments)
        self.activations()["logits"][...] = math.nan
