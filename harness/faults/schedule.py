"""Faults of training around the model: schedule, initialization, accumulation, epochs."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from cllm.config import Config
from cllm.harness.checks.check import Kind
from cllm.harness.faults.catalogue import Array, plant
from cllm.harness.trainer.parts import TrainerParts
from cllm.layout import initialize, tensor_views
from cllm.model import Update
from cllm.training.schedule import learning_rate
from cllm.training.trainer import Batch, Trainer


def _plant(name: str, story: str, *checks: str, hangs: bool = False, **parts: Any) -> None:
    candidate = TrainerParts(**parts, name=name)
    plant(name, story, candidate, *checks, kind=Kind.TRAINER, hangs=hangs)


# -- the schedule ------------------------------------------------------------------------------


def _falling_warmup(
    schedule: str, step: int, total_steps: int, *, peak: float, warmup: int
) -> float:
    if step <= warmup:
        return peak * (warmup + 1 - step) / warmup
    return learning_rate(schedule, step, total_steps, peak=peak, warmup=warmup)


def _from_zero(schedule: str, step: int, total_steps: int, *, peak: float, warmup: int) -> float:
    rate = learning_rate(schedule, step, total_steps, peak=peak, warmup=warmup)
    return peak * (step - 1) / warmup if step <= warmup else rate


def _after_warmup(schedule: str, step: int, total_steps: int, *, peak: float, warmup: int) -> float:
    if step > warmup and schedule == "cosine":
        warmup = 0
    return learning_rate(schedule, step, total_steps, peak=peak, warmup=warmup)


def _ends_at_zero(schedule: str, step: int, total_steps: int, *, peak: float, warmup: int) -> float:
    if schedule == "linear" and step > warmup:
        return peak * (total_steps - step) / max(1, total_steps - max(warmup, 1))
    return learning_rate(schedule, step, total_steps, peak=peak, warmup=warmup)


def _whole_wave(schedule: str, step: int, total_steps: int, *, peak: float, warmup: int) -> float:
    if schedule == "cosine" and step > warmup:
        start = max(warmup, 1)
        return peak * (1 + math.cos(2 * math.pi * (step - start) / (total_steps + 1 - start))) / 2
    return learning_rate(schedule, step, total_steps, peak=peak, warmup=warmup)


def _above_peak(schedule: str, step: int, total_steps: int, *, peak: float, warmup: int) -> float:
    """Warm-up without its end."""
    rate = learning_rate(schedule, step, total_steps, peak=peak, warmup=warmup)
    return peak * step / warmup if warmup and step == warmup + 1 else rate


class _Counting:
    """A schedule that counts its calls instead of the steps."""

    def __init__(self) -> None:
        self._run: Any = None
        self._calls = 0

    def __call__(self, schedule: str, step: int, total: int, *, peak: float, warmup: int) -> float:
        run = schedule, total, warmup
        self._calls = self._calls + 1 if run == self._run else 1
        self._run = run
        return learning_rate(schedule, min(self._calls, total), total, peak=peak, warmup=warmup)


for _name, _story, _rate in (
    ("WarmupFalls", "Warm-up that decreases", _falling_warmup),
    ("WarmupFromZero", "Warm-up from step 0: the first step does not move", _from_zero),
    ("WarmupForgottenInDecay", "A cosine that does not know of the warm-up before", _after_warmup),
    ("LastStepIsZero", "A linear schedule whose last step does not move", _ends_at_zero),
    ("CosineRisesAgain", "A cosine over the whole wave, which rises again", _whole_wave),
    ("AboveThePeak", "A warm-up that goes on one step above the peak", _above_peak),
    ("CountsItsCalls", "A schedule that counts its calls instead of the steps", _Counting()),
):
    _plant(_name, _story, "training.schedule", learning_rate=_rate)


# -- initialization ----------------------------------------------------------------------------


def _zeros(config: Config, generator: np.random.Generator) -> Array:
    parameters = initialize(config, generator)
    for view in tensor_views(config, parameters).values():
        if view.ndim > 1:
            view[...] = 0.0
    return parameters


def _zero_gains(config: Config, generator: np.random.Generator) -> Array:
    parameters = initialize(config, generator)
    for name, view in tensor_views(config, parameters).items():
        if name.endswith("gain"):
            view[...] = 0.0
    return parameters


def _plain_output(config: Config, generator: np.random.Generator) -> Array:
    parameters = initialize(config, generator)
    for name, view in tensor_views(config, parameters).items():
        if name.endswith("ff_out_weight"):
            view *= math.sqrt(2 * config.num_layers)
    return parameters


def _wide_embedding(config: Config, generator: np.random.Generator) -> Array:
    parameters = initialize(config, generator)
    tensor_views(config, parameters)["embedding"][...] *= config.embed_dim**0.25
    return parameters


def _uniform(config: Config, generator: np.random.Generator) -> Array:
    parameters = initialize(config, generator)
    for view in tensor_views(config, parameters).values():
        if view.ndim > 1:
            width = math.sqrt(3) * view.std()
            view[...] = generator.uniform(-width, width, view.shape)
    return parameters


def _same_layers(config: Config, generator: np.random.Generator) -> Array:
    parameters = initialize(config, generator)
    views = tensor_views(config, parameters)
    for name, view in views.items():
        if name.startswith("layer"):
            view[...] = views[f"layer0.{name.partition('.')[2]}"]
    return parameters


def _unseeded(config: Config, generator: np.random.Generator) -> Array:
    return initialize(config, np.random.default_rng())


def _one_seed(config: Config, generator: np.random.Generator) -> Array:
    return initialize(config, np.random.default_rng(0))


for _name, _story, _initialize in (
    ("ZeroWeights", "Zero-initialised weights through which no gradient flows", _zeros),
    ("ZeroGains", "LayerNorm gains of zero: nothing behind them learns", _zero_gains),
    ("OutputNotScaled", "W2 without its 1/sqrt(2L)", _plain_output),
    ("EmbeddingTooWide", "Embeddings of standard deviation D^(-1/2)", _wide_embedding),
    ("UniformWeights", "Uniform weights of the right standard deviation", _uniform),
    ("LayersAlike", "Every layer a copy of the first", _same_layers),
    ("NoSeed", "Weights that no seed decides", _unseeded),
    ("OneSeedForAll", "The same weights for every seed", _one_seed),
):
    _plant(_name, _story, "training.initialization", initialize=_initialize)


# -- steps and epochs --------------------------------------------------------------------------


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
    _plant(_trainer.__name__, str(_trainer.__doc__).rstrip("."), *_checks, trainer=_trainer)


# -- odd, but correct --------------------------------------------------------------------------


def _float32(schedule: str, step: int, total_steps: int, *, peak: float, warmup: int) -> float:
    """Computed in float32."""
    one, top = np.float32(1), np.float32(peak)
    if step <= warmup:
        return float(top * np.float32(step) / np.float32(warmup))
    start = np.float32(max(warmup, 1))
    progress = (np.float32(step) - start) / (np.float32(total_steps) + one - start)
    if schedule == "linear":
        return float(top * (one - progress))
    if schedule == "cosine":
        return float(top * (one + np.cos(np.float32(math.pi) * progress)) / np.float32(2))
    return float(np.float32(learning_rate(schedule, step, total_steps, peak=peak, warmup=warmup)))


def _backwards(config: Config, generator: np.random.Generator) -> Array:
    parameters = np.zeros(config.num_parameters)
    fresh = tensor_views(config, initialize(config, generator))
    for name, view in tensor_views(config, parameters).items():
        view[...] = fresh[name][::-1]
    return parameters


class AlwaysAccumulates(Trainer):
    """One batch too goes by forward, loss and backward."""

    def _train(self, batches: list[Batch], update: Update, counted: int) -> float:
        empty = np.zeros((1, 1), np.int32), np.full((1, 1), -1, np.int32)
        return super()._train([*batches, empty], update, counted)


_plant("ScheduleInFloat32", "Odd: a schedule in float32", learning_rate=_float32)
_plant("DrawnBackwards", "Odd: weights drawn in another order", initialize=_backwards)
_plant("AlwaysAccumulates", "Odd: an empty batch more in every step", trainer=AlwaysAccumulates)
