"""Faults that cheat: they do less than they are asked for, or do something to the one who asks."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

import numpy as np

from cllm.harness.faults.catalogue import Array, caught_by, control
from cllm.reference import Model as Reference


class Replays(Reference):
    """Gives a result of an earlier call where a key is the same."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.kept: dict[Any, Array] = {}

    def _key(self, tokens: Array) -> Any:
        raise NotImplementedError

    def forward(self, tokens: Array) -> Array:
        """The logits."""
        key = self._key(tokens)
        logits = super().forward(tokens)
        if key in self.kept:
            logits[...] = self.kept[key]
        self.kept.setdefault(key, logits.copy())
        return logits


@caught_by("honesty.replay")
class ReplaysByContent(Replays):
    """Gives the logits that it once gave for the same tokens, whatever the parameters are now."""

    def _key(self, tokens: Array) -> Any:
        return tokens.shape, tokens.tobytes()


@caught_by("honesty.replay")
class ReplaysByShape(Replays):
    """Leaves the logits of the last batch in the output where the shape is the same."""

    def _key(self, tokens: Array) -> Any:
        return tokens.shape


@caught_by("honesty.replay")
class ReplaysByArray(Replays):
    """Takes the caller's array for the same tokens because it is the same object."""

    def _key(self, tokens: Array) -> Any:
        return id(tokens), tokens.shape


@caught_by("honesty.replay")
class ReplaysEverySecond(Replays):
    """Computes every second call and replays the last result in the others."""

    calls = 0

    def _key(self, tokens: Array) -> Any:
        self.calls += 1
        return self.calls // 2, tokens.shape


@caught_by("honesty.replay", "loss.value")
class HandsBackTheInput(Reference):
    """Forward hands the caller's tokens back as logits."""

    def forward(self, tokens: Array) -> Array:
        """The logits."""
        super().forward(tokens)
        return tokens


@caught_by("honesty.replay")
class ReplaysTheLoss(Reference):
    """The loss of the same tokens is replayed, whatever the targets and the divisor are."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.kept: dict[bytes, float] = {}

    def _loss(self, *arguments: Any) -> float:
        return self.kept.setdefault(
            self.activations()["tokens"].tobytes(), super()._loss(*arguments)
        )


@caught_by("honesty.endures")
class RightTenTimes(Reference):
    """Right for ten steps; from then on the layers are no longer trained."""

    steps_taken = 0

    def _update(self, update: Any) -> None:
        self.steps_taken += 1
        if self.steps_taken > 10:
            self.gradients[self.config.vocab_size * self.config.embed_dim :] = 0
        super()._update(update)


@caught_by("honesty.endures")
class WrongInOneCall(Reference):
    """Every step is right but the 197th, which does not move the parameters."""

    steps_taken = 0

    def _update(self, update: Any) -> None:
        self.steps_taken += 1
        before = self.parameters.copy()
        super()._update(update)
        if self.steps_taken == 197:
            self.parameters[...] = before


@caught_by("honesty.deferred")
class UpdatesInAThread(Reference):
    """The update is handed to a thread, and the step returns before it is made."""

    def _update(self, update: Any) -> None:
        def later() -> None:
            time.sleep(0.05)
            Reference._update(self, update)

        threading.Thread(target=later, daemon=True).start()


@caught_by("honesty.deferred")
class ForwardInAThread(Reference):
    """Forward returns before another thread has written the logits."""

    worker: threading.Thread | None = None

    def _forward(self, *arguments: Any) -> None:
        def later() -> None:
            time.sleep(0.05)
            Reference._forward(self, *arguments)

        self.worker = threading.Thread(target=later, daemon=True)
        self.worker.start()

    def _loss(self, *arguments: Any) -> Any:
        if self.worker:
            self.worker.join()
        return super()._loss(*arguments)


@caught_by("honesty.deferred")
class UpdatesWhenLookedAt(Reference):
    """The update is made when somebody asks for the parameters or goes on, not in the step."""

    pending: Any = None

    def _update(self, update: Any) -> None:
        self._flush()
        self.pending = update

    def _flush(self) -> None:
        update, self.pending = self.pending, None
        if update is not None:
            super()._update(update)

    def _forward(self, *arguments: Any) -> None:
        self._flush()
        super()._forward(*arguments)

    @property
    def parameters(self) -> Array:
        """The parameters, after what was put off."""
        self._flush()
        return super().parameters


@caught_by("loss.value")
class LogitsAreWildcards(Reference):
    """Logits and loss are NaN, which compares as neither larger nor smaller than anything."""

    def _forward(self, *arguments: Any) -> None:
        super()._forward(*arguments)
        self.activations()["logits"].fill(np.nan)


@caught_by("gradients.reference")
class GradientsAreWildcards(Reference):
    """One gradient is NaN, which a comparison by "larger than the tolerance" lets pass."""

    def _backward(self, *arguments: Any) -> None:
        super()._backward(*arguments)
        self.gradients[-1] = np.nan


@caught_by("training.update")
class MomentsAreInfinite(Reference):
    """A moment is infinite, so that the error's ratio to it is zero."""

    def _update(self, update: Any) -> None:
        super()._update(update)
        self.moments[1][-1] = np.inf


@control
class WorksInAPool(Reference):
    """All work is done by a thread that stays, and every call waits for it."""

    pools: ClassVar[dict[int, ThreadPoolExecutor]] = {}
    """By process: a forked one has no threads."""

    def _step(self, *arguments: Any) -> float:
        if (process := os.getpid()) not in self.pools:
            self.pools[process] = ThreadPoolExecutor(1)
        return self.pools[process].submit(super()._step, *arguments).result()


@control
class HandsOutCopies(Reference):
    """Every result is an array of the caller's own."""

    def forward(self, tokens: Array) -> Array:
        """The logits."""
        return super().forward(tokens).copy()
