"""Faults of the step and the optimizer."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any
from unittest import mock

import numpy as np

from cllm import Update
from cllm.harness.faults.catalogue import Array, caught_by
from cllm.reference import Model as Reference


@caught_by("training.moments", "loss.trajectory")
class StepKeepsOldGradients(Reference):
    """A step that adds to the gradients of the step before."""

    def _step(self, batch_size: int, seq_len: int, divisor: float, update: Update) -> float:
        self._forward(batch_size, seq_len)
        loss: float = self._loss(batch_size, seq_len, divisor)
        self._backward(batch_size, seq_len, divisor)
        self._update(update)
        return loss


class OwnStep(Reference):
    """A fused step, of which faults change what comes before the update."""

    def between(self) -> None:
        raise NotImplementedError

    def _step(self, batch_size: int, seq_len: int, divisor: float, update: Update) -> float:
        self.gradients[...] = 0
        self._forward(batch_size, seq_len)
        loss: float = self._loss(batch_size, seq_len, divisor)
        self._backward(batch_size, seq_len, divisor)
        self.between()
        self._update(update)
        return loss


@caught_by("training.moments")
class FusedStepLeavesOutABias(OwnStep):
    """A fused step that leaves out the gradient of one bias."""

    def between(self) -> None:
        self.tensors("gradients")["layer0.ff_out_bias"][...] = 0


@caught_by("training.moments", "training.step")
class ReadsGradientsTooEarly(Reference):
    """The optimizer reading gradients before they are finished: the embedding's lack one side."""

    def _step(self, *arguments: Any) -> float:
        with mock.patch("cllm.reference.network.embedding_backward"):
            return super()._step(*arguments)


@caught_by("training.step")
class LossAfterTheStep(Reference):
    """A step that returns the loss after it, not the one before."""

    def _step(self, batch_size: int, seq_len: int, divisor: float, update: Update) -> float:
        super()._step(batch_size, seq_len, divisor, update)
        self._forward(batch_size, seq_len)
        loss: float = self._loss(batch_size, seq_len, divisor)
        return loss


@caught_by("training.step")
class StepIgnoresTheDivisor(Reference):
    """A step that divides by its own count of targets, whatever divisor is given."""

    def _step(self, batch_size: int, seq_len: int, divisor: float, update: Update) -> float:
        counted = max(1.0, float((self.activations()["targets"] >= 0).sum()))
        return super()._step(batch_size, seq_len, counted, update)


class OwnSteps(Reference):
    """Many steps in one call, in which faults change the batches."""

    def batch(self, i: int, count: int) -> int:
        raise NotImplementedError

    def _steps(
        self,
        batch_size: int,
        seq_len: int,
        tokens: Array,
        targets: Array,
        divisors: Array,
        updates: Sequence[Update],
    ) -> Array:
        order = [self.batch(i, len(tokens)) for i in range(len(tokens))]
        return super()._steps(
            batch_size, seq_len, tokens[order], targets[order], divisors[order], updates
        )


@caught_by("training.steps", "loss.trajectory")
class StepsOnTheFirstBatch(OwnSteps):
    """Many steps in one call, all on the first batch."""

    def batch(self, i: int, count: int) -> int:
        return 0


@caught_by("training.steps")
class LastStepTwice(OwnSteps):
    """Many steps in one call, the last two on the same batch: off by one."""

    def batch(self, i: int, count: int) -> int:
        return min(i + 1, count - 1) if i else 0


@caught_by("training.steps")
class LossesOfTheLastStep(Reference):
    """Many steps in one call that give the last loss as that of each."""

    def _steps(self, *arguments: Any) -> Array:
        losses = super()._steps(*arguments)
        losses[...] = losses[-1]
        return losses


@caught_by("training.resume")
class MasterWeightsInSecret(Reference):
    """Weights kept in float64 on the side, of which a checkpoint knows nothing."""

    def _update(self, update: Update) -> None:
        start = self.parameters.copy()
        super()._update(update)
        moved = self.parameters.astype(np.float64) - start
        master = getattr(self, "master", start.astype(np.float64))
        lost = master.astype(np.float32) != start  # somebody has written to the parameters
        master[lost] = start[lost]
        self.master = master + moved + 1e-9 * start
        self.parameters[...] = self.master


@caught_by("training.resume", "training.update")
class CountsItsOwnSteps(Reference):
    """A bias correction by its own count of steps, which a resume begins again."""

    def _update(self, update: Update) -> None:
        self.taken = getattr(self, "taken", 0) + 1
        super()._update(dataclasses.replace(update, step=self.taken))


@caught_by("training.update", "loss.learns", "training.moments")
class SignOfTheStepFlipped(Reference):
    """Ascent by a flipped sign in the optimizer."""

    def _update(self, update: Update) -> None:
        self.gradients[...] *= -1
        super()._update(update)


@caught_by("training.moments", "training.update")
class DecayInsideTheGradient(Reference):
    """Weight decay coupled: added to the gradient, as before AdamW."""

    def _update(self, update: Update) -> None:
        self.gradients[...] += update.weight_decay * self.parameters
        super()._update(dataclasses.replace(update, weight_decay=0.0))


@caught_by("training.update")
class DecayWithoutItsRate(Reference):
    """Weight decay that is not scaled by the learning rate."""

    def _update(self, update: Update) -> None:
        decay = update.weight_decay / (update.learning_rate or 1.0)
        super()._update(dataclasses.replace(update, weight_decay=decay))


@caught_by("training.moments", "training.update")
class ClipForgotten(Reference):
    """Clipping that is never done."""

    def _update(self, update: Update) -> None:
        super()._update(dataclasses.replace(update, clip=None))


@caught_by("training.moments", "training.update")
class ClipsEachElement(Reference):
    """Clipping element by element."""

    def _update(self, update: Update) -> None:
        if update.clip is not None:
            np.clip(self.gradients, -update.clip / 100, update.clip / 100, out=self.gradients)
        super()._update(dataclasses.replace(update, clip=None))


@caught_by("training.update", "training.moments")
class ClipsEachTensor(Reference):
    """Clipping by the norm of each tensor, not by the global one."""

    def _update(self, update: Update) -> None:
        if update.clip is not None:
            for tensor in self.tensors("gradients").values():
                tensor *= min(1.0, update.clip / math.sqrt(float((tensor**2).sum())))
        super()._update(dataclasses.replace(update, clip=None))


@caught_by("training.update")
class ClipsAlways(Reference):
    """Gradients scaled to the largest norm allowed, also where theirs is smaller."""

    def _update(self, update: Update) -> None:
        if update.clip is not None:
            self.gradients[...] *= update.clip / math.sqrt(float((self.gradients**2).sum()))
        super()._update(dataclasses.replace(update, clip=None))


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
    """Epsilon inside the square root."""

    def rule(self, m: Array, v: Array, update: Update) -> Array:
        m, v = m / (1 - update.beta1**update.step), v / (1 - update.beta2**update.step)
        way: Array = m / np.sqrt(v + update.epsilon)
        return way


@caught_by("training.update")
class NoBiasCorrection(OwnAdam):
    """Moments without their bias correction."""

    def rule(self, m: Array, v: Array, update: Update) -> Array:
        way: Array = m / (np.sqrt(v) + update.epsilon)
        return way


@caught_by("training.update")
class StepsFromZero(OwnAdam):
    """A bias correction that counts steps from 0."""

    def rule(self, m: Array, v: Array, update: Update) -> Array:
        before = max(update.step - 1, 1)
        m, v = m / (1 - update.beta1**before), v / (1 - update.beta2**before)
        way: Array = m / (np.sqrt(v) + update.epsilon)
        return way


@caught_by("training.update")
class ConstantsOfItsOwn(Reference):
    """The usual betas, whichever are asked for."""

    def _update(self, update: Update) -> None:
        super()._update(dataclasses.replace(update, beta1=0.9, beta2=0.999))


@caught_by("training.update")
class MomentsOfHalfPrecision(Reference):
    """Second moments kept in sixteen bits."""

    def _update(self, update: Update) -> None:
        super()._update(update)
        second = self.moments[1]
        second[...] = (second.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)
