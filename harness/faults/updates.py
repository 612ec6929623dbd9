"""Faults of updates: options that outlive theirs, steps left out, numbers of unusual size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from cllm import Update
from cllm.harness.faults.catalogue import Array, caught_by
from cllm.reference import Model as Reference


@caught_by("training.update", "training.step")
class KeepsTheFirstOptions(Reference):
    """Betas, epsilon, decay and clip of the first update serve for all that follow."""

    def _update(self, update: Update) -> None:
        first = self.__dict__.setdefault("first", update)
        again = replace(first, step=update.step, learning_rate=update.learning_rate)
        super()._update(again)


@caught_by("training.step", "training.moments")
class StepKeepsTheFirstOptions(Reference):
    """A fused step with the options of its first update; single updates have their own."""

    def _step(self, batch_size: int, seq_len: int, divisor: float, update: Update) -> float:
        first = self.__dict__.setdefault("first", update)
        again = replace(first, step=update.step, learning_rate=update.learning_rate)
        return super()._step(batch_size, seq_len, divisor, again)


class OwnUpdates(Reference):
    """Many steps in one call, in which faults change the updates."""

    def updates(self, updates: Sequence[Update]) -> list[Update]:
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
        changed = self.updates(updates)
        return super()._steps(batch_size, seq_len, tokens, targets, divisors, changed)


@caught_by("training.steps")
class StepsWithTheFirstOptions(OwnUpdates):
    """Many steps in one call, all with the first one's betas, epsilon, decay and clip."""

    def updates(self, updates: Sequence[Update]) -> list[Update]:
        first = updates[0]
        return [replace(first, step=u.step, learning_rate=u.learning_rate) for u in updates]


@caught_by("training.steps")
class StepsCountedOn(OwnUpdates):
    """Many steps in one call, numbered on from the first, whatever numbers are given."""

    def updates(self, updates: Sequence[Update]) -> list[Update]:
        return [replace(update, step=updates[0].step + i) for i, update in enumerate(updates)]


@caught_by("training.update")
class CorrectionFromATable(Reference):
    """A bias correction from a table of 4096 steps, the last of which serves for all later ones."""

    def _update(self, update: Update) -> None:
        super()._update(replace(update, step=min(update.step, 4096)))


@caught_by("training.update")
class CorrectionFromALargeTable(Reference):
    """A bias correction from a table of 100,000 steps, which only slow betas outlast."""

    def _update(self, update: Update) -> None:
        super()._update(replace(update, step=min(update.step, 100_000)))


@caught_by("training.step", "training.steps")
class NothingToLearnIsNoStep(Reference):
    """A step of a batch without targets does nothing: neither weights nor moments decay."""

    def _step(self, *arguments: Any) -> float:
        if (self.activations()["targets"] < 0).all():
            return 0.0
        return super()._step(*arguments)

    def _steps(self, *arguments: Any) -> Array:
        return np.array([Reference._step(self, *one) for one in self._each(*arguments)])

    def _each(
        self,
        batch_size: int,
        seq_len: int,
        tokens: Array,
        targets: Array,
        divisors: Array,
        updates: Sequence[Update],
    ) -> Any:
        views = self.activations()
        for i, update in enumerate(updates):
            views["tokens"][...], views["targets"][...] = tokens[i], targets[i]
            yield batch_size, seq_len, float(divisors[i]), update


@caught_by("training.step")
class NothingToLearnIsNaN(Reference):
    """A fused step that divides by its own count of targets, 0 by 0."""

    def _step(self, *arguments: Any) -> float:
        loss = super()._step(*arguments)
        if (self.activations()["targets"] < 0).all():
            self.parameters[...] = loss = math.nan
        return loss


@caught_by("training.step")
class NoGradientNoScale(Reference):
    """Clipping that divides by the norm, also where it is zero."""

    def _update(self, update: Update) -> None:
        if update.clip is not None:
            norm = math.sqrt(float((self.gradients.astype(np.float64) ** 2).sum()))
            self.gradients[...] *= np.float32(min(1.0, update.clip / norm))
        super()._update(replace(update, clip=None))


@caught_by("training.update")
class NoRateNoUpdate(Reference):
    """At learning rate 0 the moments are left as they are."""

    def _update(self, update: Update) -> None:
        if update.learning_rate:
            super()._update(update)


@caught_by("training.update")
class NormOfFloat32(Reference):
    """The global norm summed in float32, where large gradients overflow."""

    def _update(self, update: Update) -> None:
        if update.clip is not None:
            with np.errstate(over="ignore"):
                norm = np.sqrt((self.gradients * self.gradients).sum(dtype=np.float32))
            if norm > update.clip:
                self.gradients[...] *= np.float32(update.clip) / norm
        super()._update(replace(update, clip=None))


@caught_by("training.update")
class ClipsWithAnEpsilon(Reference):
    """Clipping by clip / (norm + 1e-6), as PyTorch does: too much where gradients are tiny."""

    def _update(self, update: Update) -> None:
        if update.clip is not None:
            norm = math.sqrt(float((self.gradients.astype(np.float64) ** 2).sum()))
            self.gradients[...] *= np.float32(min(1.0, update.clip / (norm + 1e-6)))
        super()._update(replace(update, clip=None))


@caught_by("training.update")
class EpsilonHasAFloor(Reference):
    """An epsilon below 1e-8 taken for 1e-8."""

    def _update(self, update: Update) -> None:
        super()._update(replace(update, epsilon=max(update.epsilon, 1e-8)))
