"""Training, one step at a time.

Promises: the same settings, text and model give the same bytes, stopped and restored or not; the
gradient of an accumulated step is that of one large batch; a loss that is not finite ends it.
Leaves out: files, logs and signals (`cllm.training.run`), and the schedules' formulas
(`cllm.training.schedule`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cllm.config import Config
from cllm.errors import CllmError
from cllm.layout import initialize
from cllm.model import Model, Update
from cllm.plan import Operation
from cllm.text.batches import Batches, epoch_generator
from cllm.training.checkpoint import Position
from cllm.training.evaluation import Evaluation, evaluate
from cllm.training.schedule import learning_rate
from cllm.training.settings import Settings

Batch = tuple[NDArray[np.int32], NDArray[np.int32]]


@dataclass(frozen=True)
class Step:
    """What one step did."""

    step: int
    """Counts from 1."""
    epoch: int
    """Counts from 1."""
    loss: float
    """Nats per token of the step's batches, before the update."""
    learning_rate: float
    tokens: int
    """Targets counted."""
    lattice_terms: Mapping[str, float]
    """The terms of the lattice loss, where there is one: trained on too, but no part of `loss`."""


class Trainer:
    """A model, its text, and where training stands in it.

    Step s of an epoch takes the next `accumulate` batches; the last step of an epoch takes those
    that are left, and its last batch may have fewer rows. The parameters start as
    `cllm.layout.initialize` draws them by the seed.
    """

    def __init__(
        self,
        model_class: type[Model],
        config: Config,
        settings: Settings,
        tokens: NDArray[Any],
        validation: NDArray[Any] | None = None,
        *,
        threads: int = 1,
    ) -> None:
        """Train on tokens (n,), validate on validation (m,), where there are any.

        Raises `CllmError` for a text shorter than a window, and a model that cannot be planned.
        """
        self.settings = settings
        shape = settings.batch_size, settings.seq_len
        self._batches = Batches(tokens, *shape)
        self._validation: Batches | None = None
        if validation is not None and len(validation):
            # A held-out part shorter than a window is one short window.
            seq_len = min(settings.seq_len, len(validation))
            self._validation = Batches(validation, settings.batch_size, seq_len)
        plan = model_class.plan(config, *shape, operations=[Operation.TRAINING], threads=threads)
        self.model = model_class(plan, plan.allocate())
        self.model.load(initialize(config, np.random.default_rng(settings.seed)))
        self.steps_per_epoch = math.ceil(len(self._batches) / settings.accumulate)
        self.total_steps = settings.epochs * self.steps_per_epoch
        self._step = 0
        self._start_epoch(0)

    @property
    def finished(self) -> bool:
        """Whether all epochs are done."""
        return self._epoch >= self.settings.epochs

    @property
    def position(self) -> Position:
        """Where training stands; with the model's parameters and moments all that it depends on."""
        return Position(self._step, self._epoch, self._batch, self._generator_state)

    def restore(
        self, position: Position, parameters: NDArray[Any], moments: Sequence[NDArray[Any]]
    ) -> None:
        """Go on from there, with parameters (P,) and both moments (P,).

        Raises `CllmError` for a position that this text and these settings do not lead to.
        """
        group = self.settings.accumulate
        step = position.epoch * self.steps_per_epoch + position.batch // group
        if (
            position.step != step
            or position.batch >= len(self._batches)
            or position.batch % group != 0
        ):
            raise CllmError(
                f"step {position.step} cannot be at batch {position.batch} of epoch "
                f"{position.epoch + 1}: an epoch has {len(self._batches)} batches, a step {group}"
            )
        for moment, given in zip(self.model.moments, moments, strict=True):
            moment[...] = given
        self.model.load(parameters)
        self._step = position.step
        self._start_epoch(position.epoch, position.generator())
        self._batch = position.batch

    def step(self) -> Step:
        """Train on the next batches.

        Raises `FloatingPointError` where the loss is not finite; training cannot go on then.
        """
        if self.finished:
            raise RuntimeError(f"all {self.settings.epochs} epochs are done")
        stop = min(self._batch + self.settings.accumulate, len(self._batches))
        batches = [self._batches.batch(self._order, i) for i in range(self._batch, stop)]
        counted = sum(int(np.count_nonzero(targets >= 0)) for _, targets in batches)
        update = Update(
            step=self._step + 1,
            learning_rate=self.learning_rate,
            weight_decay=self.settings.weight_decay,
            clip=self.settings.clip or None,
        )
        # The loss tells whether a number left its range; NumPy need not say it too.
        with np.errstate(all="ignore"):
            loss = self._train(batches, update, counted)
        if not math.isfinite(loss):
            raise FloatingPointError(
                f"the loss at step {update.step} is {loss}: training diverged; try a lower "
                f"learning rate than {self.settings.learning_rate:g}, a longer warm-up, or clipping"
            )
        done = Step(
            update.step,
            self._epoch + 1,
            loss - self.model.lattice_loss,
            update.learning_rate,
            counted,
            self.model.lattice_terms,
        )
        self._step += 1
        self._batch = stop
        if self._batch == len(self._batches):
            self._start_epoch(self._epoch + 1)
        return done

    @property
    def learning_rate(self) -> float:
        """The learning rate of the next step."""
        settings = self.settings
        return learning_rate(
            settings.schedule,
            self._step + 1,
            self.total_steps,
            peak=settings.learning_rate,
            warmup=settings.warmup,
        )

    def validate(self) -> Evaluation | None:
        """The loss over the validation text with the parameters as they are; None without one.

        Takes `validation_batches` batches spread evenly over the text, the same each time.
        """
        if self._validation is None:
            return None
        count = len(self._validation)
        wanted = min(self.settings.validation_batches or count, count)
        return evaluate(self.model, self._validation, [i * count // wanted for i in range(wanted)])

    def _train(self, batches: list[Batch], update: Update, counted: int) -> float:
        if len(batches) == 1:
            return self.model.step(*batches[0], update, counted)
        self.model.zero_gradients()
        loss = 0.0
        for tokens, targets in batches:
            self.model.forward(tokens)
            loss += self.model.loss(targets, counted)
            self.model.backward()
        self.model.update(update)
        return loss

    def _start_epoch(self, epoch: int, generator: np.random.Generator | None = None) -> None:
        generator = generator or epoch_generator(self.settings.seed, epoch)
        self._epoch, self._batch = epoch, 0
        self._generator_state = dict(generator.bit_generator.state)
        self._order = self._batches.order(generator)
