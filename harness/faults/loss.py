"""Faults of the loss and the forward pass."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, ClassVar

import numpy as np

from cllm import Update
from cllm.reference import Model as Reference
from cllm.reference import embedding
from cllm.reference.network import forward
from cllm.harness.faults.catalogue import Array, Patched, caught_by


@caught_by("loss.value", "loss.trajectory")
class LossSlightlyTooLarge(Reference):
    def _loss(self, *arguments: Any) -> Any:
        return super()._loss(*arguments) * (1 + 1e-5)


@caught_by("loss.value")
class LossIgnoresTheDivisor(Reference):
    def _loss(self, batch_size: int, seq_len: int, divisor: float) -> Any:
        return super()._loss(batch_size, seq_len, batch_size * seq_len)


@caught_by("loss.value", "loss.trajectory")
class LossIsNaN(Reference):
    def _loss(self, *arguments: Any) -> Any:
        return math.nan


@caught_by("loss.value")
class NoPositions(Patched):
    @staticmethod
    def embed(out: Array, tokens: Array, weight: Array, positions: Array) -> None:
        embedding.embedding_forward(out, tokens, weight, 0 * positions)

    functions: ClassVar = {"embedding_forward": embed}


@caught_by("loss.value")
class GeluByTheSigmoid(Patched):
    @staticmethod
    def sigmoid_gelu(out: Array, x: Array) -> None:
        out[...] = x / (1 + np.exp(-1.702 * x))

    functions: ClassVar = {"gelu_forward": sigmoid_gelu}


@caught_by("loss.value")
class OneHead(Reference):
    def _forward(self, *arguments: Any) -> None:
        forward(self.tensors(), self.activations(), self.config.num_layers, 1)


@caught_by("loss.trajectory")
class WrongAfterTwentySteps(Reference):
    def _update(self, update: Update) -> None:
        self.taken = getattr(self, "taken", 0) + 1
        faster = 1.01 if self.taken > 20 else 1.0
        super()._update(dataclasses.replace(update, learning_rate=faster * update.learning_rate))


@caught_by("loss.learns", "loss.value")
class SaysThatItLearns(Reference):
    def _update(self, update: Update) -> None:
        self.said = 0.99 * getattr(self, "said", 3.0)

    def _loss(self, *arguments: Any) -> Any:
        return getattr(self, "said", 3.0)


@caught_by("loss.causal", "loss.value")
class NoCausalMask(Patched):
    @staticmethod
    def scores(q: Array, k: Array) -> Array:
        unmasked: Array = (q @ k.swapaxes(-1, -2)) / math.sqrt(q.shape[-1])
        return unmasked

    where = "attention"
    functions: ClassVar = {"_masked_scores": scores}


@caught_by("loss.causal")
class PeeksALittle(Patched):
    @staticmethod
    def embed(out: Array, tokens: Array, weight: Array, positions: Array) -> None:
        embedding.embedding_forward(out, tokens, weight, positions)
        out[:, :-1] += 1e-4 * weight[tokens[:, 1:]]

    functions: ClassVar = {"embedding_forward": embed}


@caught_by("loss.value", "loss.causal", "gradients.reference")
class LogitsAreNaN(Reference):
    def _forward(self, *arguments: Any) -> None:
        super()._forward(*arguments)
        self.activations()["logits"][...] = math.nan
