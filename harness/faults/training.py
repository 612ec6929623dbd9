"""Faults of the step and the optimizer."""

from __future__ import annotations

import dataclasses

import numpy as np

from cllm import Update
from cllm.reference import Model as Reference
from cllm.harness.faults.catalogue import Array, caught_by


@caught_by("training.moments", "loss.trajectory")
class StepKeepsOldGradients(Reference):
    def _step(self, batch_size: int, seq_len: int, divisor: float, update: Update) -> float:
        self._forward(batch_size, seq_len)
        loss: float = self._loss(batch_size, seq_len, divisor)
        self._backward(batch_size, seq_len, divisor)
        self._update(update)
        return loss


@caught_by("training.moments", "training.update")
class DecayInsideTheGradient(Reference):
    def _update(self, update: Update) -> None:
        self.gradients[...] += update.weight_decay * self.parameters
        super()._update(dataclasses.replace(update, weight_decay=0.0))


@caught_by("training.moments", "training.update")
class ClipForgotten(Reference):
    def _update(self, update: Update) -> None:
        super()._update(dataclasses.replace(update, clip=None))


@caught_by("training.moments", "training.update")
class ClipsEachElement(Reference):
    def _update(self, update: Update) -> None:
        if update.clip is not None:
            np.clip(self.gradients, -update.clip / 100, update.clip / 100, out=self.gradients)
        super()._update(dataclasses.replace(update, clip=None))


@caught_by("training.moments")
class FusedStepLeavesOutABias(Reference):
    def _step(self, batch_size: int, seq_len: int, divisor: float, update: Update) -> float:
        self.gradients[...] = 0
        self._forward(batch_size, seq_len)
        loss: float = self._loss(batch_size, seq_len, divisor)
        self._backward(batch_size, seq_len, divisor)
        self.tensors("gradients")["layer0.ff_out_bias"][...] = 0
        self._update(update)
        return loss


class OwnAdam(Reference):
    """Adam without clipping and decay; faults change `rule`."""

    def rule(self, m: Array, v: Array, update: Update) -> Array:
        raise NotImplementedError

    def _update(self, update: Update) -> None:
        start = self.parameters.copy()
        super()._update(update)
        if update.weight_decay or update.clip is not None:
            return
        first, second = self.moments
        self.parameters[...] = start - update.learning_rate * self.rule(first, second, update)


@caught_by("training.update")
class EpsilonInsideTheRoot(OwnAdam):
    def rule(self, m: Array, v: Array, update: Update) -> Array:
        m, v = m / (1 - update.beta1**update.step), v / (1 - update.beta2**update.step)
        way: Array = m / np.sqrt(v + update.epsilon)
        return way


@caught_by("training.update")
class NoBiasCorrection(OwnAdam):
    def rule(self, m: Array, v: Array, update: Update) -> Array:
        way: Array = m / (np.sqrt(v) + update.epsilon)
        return way


@caught_by("training.update")
class ConstantsOfItsOwn(Reference):
    def _update(self, update: Update) -> None:
        super()._update(dataclasses.replace(update, beta1=0.9, beta2=0.999))
