"""Faults of batches."""

from __future__ import annotations

import time

import numpy as np

from cllm.harness.faults.catalogue import Array, plant_parts
from cllm.text.batches import Batches


class LastBatchDropped(Batches):
    """A last batch of fewer rows dropped."""

    def __len__(self) -> int:
        return max(1, self.num_windows // self.batch_size)


class LastWindowDropped(Batches):
    """A last window that is not full dropped."""

    def __init__(self, tokens: Array, batch_size: int, seq_len: int) -> None:
        super().__init__(tokens, batch_size, seq_len)
        self.num_windows = max(1, (len(tokens) - 1) // seq_len)


class WindowsOverlap(Batches):
    """Windows that overlap by one: tokens taken twice."""

    def __init__(self, tokens: Array, batch_size: int, seq_len: int) -> None:
        starts = range(0, len(tokens) - 1, max(1, seq_len - 1))
        parts = [np.resize(tokens[start : start + seq_len], seq_len) for start in starts]
        super().__init__(np.append(np.concatenate(parts), tokens[-1]), batch_size, seq_len)


class SameOrderEveryEpoch(Batches):
    """Every epoch in the order of the first."""

    def order(self, generator: np.random.Generator | None = None) -> Array:
        return super().order(generator and np.random.default_rng(0))


class NeverShuffled(Batches):
    """Windows in the order of the text, each epoch alike."""

    def order(self, generator: np.random.Generator | None = None) -> Array:
        return super().order()


class DrawnWithReplacement(Batches):
    """Windows drawn with replacement: some twice an epoch, some never."""

    def order(self, generator: np.random.Generator | None = None) -> Array:
        order = super().order()
        return order if generator is None else generator.choice(order, len(order))


class OrderOfTheClock(Batches):
    """An order that no seed decides."""

    def order(self, generator: np.random.Generator | None = None) -> Array:
        return super().order(generator and np.random.default_rng(time.perf_counter_ns()))


class EpochNeverEnds(Batches):
    """An epoch that never ends: the search for the next full window starts over."""

    def batch(self, order: Array, i: int) -> tuple[Array, Array]:
        while (window := int(order[i])) == self.num_windows - 1 and i == len(self) - 1:
            order = np.append(order[:-1], window)
        return super().batch(order, i)


class Scrambled(Batches):
    """Input and target scrambled: rows of the targets in another order."""

    def batch(self, order: Array, i: int) -> tuple[Array, Array]:
        tokens, targets = super().batch(order, i)
        return tokens, np.ascontiguousarray(targets[::-1])


class TargetIsInput(Batches):
    """The target is the input itself, not the token after it."""

    def batch(self, order: Array, i: int) -> tuple[Array, Array]:
        tokens, targets = super().batch(order, i)
        return tokens, np.where(targets >= 0, tokens, targets)


class TargetTwoFurther(Batches):
    """The target is two tokens further on."""

    def batch(self, order: Array, i: int) -> tuple[Array, Array]:
        tokens, targets = super().batch(order, i)
        moved = np.where(targets >= 0, np.roll(targets, -1, 1), targets)
        return tokens, moved


class PaddingIsCounted(Batches):
    """Padding counted as a target: <PAD> instead of -1."""

    def batch(self, order: Array, i: int) -> tuple[Array, Array]:
        tokens, targets = super().batch(order, i)
        return tokens, np.maximum(targets, 0)


class BatchesOfSixteenBits(Batches):
    """Batches made in sixteen bits, which wrap for V > 65,536."""

    def batch(self, order: Array, i: int) -> tuple[Array, Array]:
        tokens, targets = super().batch(order, i)
        return tokens.astype(np.uint16).astype(np.int32), targets


class WritesToTheStream(Batches):
    """Marks in the stream itself what was taken."""

    def batch(self, order: Array, i: int) -> tuple[Array, Array]:
        made = super().batch(order, i)
        self._tokens[0] = 0
        return made


_BATCHES: dict[type[Batches], tuple[str, ...]] = {
    LastBatchDropped: ("data.epoch",),
    LastWindowDropped: ("data.epoch",),
    WindowsOverlap: ("data.epoch",),
    SameOrderEveryEpoch: ("data.epoch",),
    NeverShuffled: ("data.epoch",),
    DrawnWithReplacement: ("data.epoch",),
    OrderOfTheClock: ("data.epoch",),
    Scrambled: ("data.targets",),
    TargetIsInput: ("data.targets",),
    TargetTwoFurther: ("data.targets",),
    PaddingIsCounted: ("data.targets", "data.epoch"),
    BatchesOfSixteenBits: ("data.targets",),
    WritesToTheStream: ("data.targets",),
}
for _batches, _checks in _BATCHES.items():
    plant_parts(_batches.__name__, str(_batches.__doc__).rstrip("."), *_checks, batches=_batches)
plant_parts(
    "EpochNeverEnds", str(EpochNeverEnds.__doc__).rstrip("."),
    "data.epoch", batches=EpochNeverEnds, hangs=True,
)  # fmt: skip


class TakesAnything(Batches):
    """A text of one token, or of none, taken for a text."""

    def __init__(self, tokens: Array, batch_size: int, seq_len: int) -> None:
        short = len(tokens) < 2
        super().__init__(np.zeros(2, np.int32) if short else tokens, batch_size, min(seq_len, 2))


plant_parts(
    "TakesAnything", str(TakesAnything.__doc__).rstrip("."), "data.short", batches=TakesAnything
)


# -- odd, but correct --------------------------------------------------------------------------


class SortedBatches(Batches):
    """Rows of a batch in the order of the text."""

    def batch(self, order: Array, i: int) -> tuple[Array, Array]:
        at = slice(i * self.batch_size, (i + 1) * self.batch_size)
        sorted_order = order.copy()
        sorted_order[at] = np.sort(order[at])
        return super().batch(sorted_order, i)


plant_parts("SortedBatches", "Odd: rows of a batch in the order of the text", batches=SortedBatches)
