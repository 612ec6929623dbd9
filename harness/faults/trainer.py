"""Faults of the steps that a trainer takes: accumulation, epochs, resuming."""

from __future__ import annotations

from typing import Any

import numpy as np

from cllm.harness.faults.catalogue import Array, plant_parts
from cllm.model import Update
from cllm.training.trainer import Batch, Trainer


class DividesByBatches(Trainer):
    """Accumulation that divides by the number of batches, not of targets."""

    def _train(self, batches: list[Batch], update: Update, counted: int) -> float:
        self.model.zero_gradients()
        loss = 0.0
        for tokens, targets in batches:
            self.model.forward(tokens)
            own = int((targets >= 0).sum())
            loss += self.model.loss(targets, own * len(batches))
            self.model.backward()
        self.model.update(update)
        return loss


class KeepsLastBatch(Trainer):
    """Gradients zeroed before each batch of a step: the last one alone is kept."""

    def _train(self, batches: list[Batch], update: Update, counted: int) -> float:
        loss = 0.0
        for tokens, targets in batches:
            self.model.zero_gradients()
            self.model.forward(tokens)
            loss += self.model.loss(targets, counted)
            self.model.backward()
        self.model.update(update)
        return loss


class NeverZeroes(Trainer):
    """Gradients never zeroed: each step has those of all before."""

    def _train(self, batches: list[Batch], update: Update, counted: int) -> float:
        loss = 0.0
        for tokens, targets in batches:
            self.model.forward(tokens)
            loss += self.model.loss(targets, counted)
            self.model.backward()
        self.model.update(update)
        return loss


class StepsForEachBatch(Trainer):
    """An update after each batch of an accumulated step."""

    def _train(self, batches: list[Batch], update: Update, counted: int) -> float:
        return sum(self.model.step(*batch, update, counted) for batch in batches)


class LossOfLastBatch(Trainer):
    """The loss of a step is that of its last batch."""

    def _train(self, batches: list[Batch], update: Update, counted: int) -> float:
        super()._train(batches, update, counted)
        self.model.forward(batches[-1][0])
        return self.model.loss(batches[-1][1])


class NeverFinished(Trainer):
    """Training that never ends: the last epoch starts over."""

    def _start_epoch(self, epoch: int, generator: np.random.Generator | None = None) -> None:
        super()._start_epoch(min(epoch, self.settings.epochs - 1), generator)


class RateOfTheStepBefore(Trainer):
    """The learning rate of the step before."""

    @property
    def learning_rate(self) -> float:
        self._step = max(0, self._step - 1)
        try:
            return super().learning_rate
        finally:
            self._step += self._batch > 0 or self._epoch > 0


class EpochsAlike(Trainer):
    """Each epoch in the order of the first."""

    def _start_epoch(self, epoch: int, generator: np.random.Generator | None = None) -> None:
        super()._start_epoch(epoch, np.random.default_rng([self.settings.seed, 0]))


class ResumesAnEpochAnew(Trainer):
    """A resume that goes on with another order than the epoch had."""

    def restore(self, position: Any, parameters: Array, moments: Any) -> None:
        super().restore(position, parameters, moments)
        self._order = self._batches.order(np.random.default_rng(position.step))


class MomentsStartOver(Trainer):
    """A resume with moments of zero."""

    def restore(self, position: Any, parameters: Array, moments: Any) -> None:
        super().restore(position, parameters, [np.zeros_like(moment) for moment in moments])


class DropsLastStep(Trainer):
    """The last step of an epoch dropped where it has fewer batches."""

    def step(self) -> Any:
        done = super().step()
        if 0 < len(self._batches) - self._batch < self.settings.accumulate:
            self._start_epoch(self._epoch + 1)
        return done


_TRAINERS: dict[type[Trainer], tuple[str, ...]] = {
    DividesByBatches: ("training.accumulation",),
    KeepsLastBatch: ("training.accumulation",),
    NeverZeroes: ("training.accumulation",),
    StepsForEachBatch: ("training.accumulation",),
    LossOfLastBatch: ("training.accumulation",),
    NeverFinished: ("training.epochs",),
    RateOfTheStepBefore: ("training.epochs",),
    EpochsAlike: ("training.epochs",),
    DropsLastStep: ("training.epochs",),
    ResumesAnEpochAnew: ("training.resumed",),
    MomentsStartOver: ("training.resumed",),
}
for _trainer, _checks in _TRAINERS.items():
    plant_parts(_trainer.__name__, str(_trainer.__doc__).rstrip("."), *_checks, trainer=_trainer)


class AlwaysAccumulates(Trainer):
    """One batch too goes by forward, loss and backward."""

    def _train(self, batches: list[Batch], update: Update, counted: int) -> float:
        empty = np.zeros((1, 1), np.int32), np.full((1, 1), -1, np.int32)
        return super()._train([*batches, empty], update, counted)


plant_parts(
    "AlwaysAccumulates", "Odd: an empty batch more in every step", trainer=AlwaysAccumulates
)
