"""Checks of batches: the windows of a stream of tokens.

Sizes and orders are drawn by the seed; the edges come first, the smallest first of all. The id of
a token is its place in the stream. Leaves out: what is made of the batches
(`cllm.harness.checks.trainer`).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cllm.harness.checks.parts import Problems, check_parts
from cllm.harness.trainer.parts import TrainerParts
from cllm.text.batches import epoch_generator

BATCH_SHAPES = ((2, 1, 1), (3, 1, 1), (5, 2, 4), (5, 3, 5), (9, 2, 4), (10, 2, 3), (58, 3, 4))
"""Tokens n, B and T: one window, whole windows, one token more, last batches of fewer rows."""


@check_parts("data.epoch", "batches", held="every token once an epoch, in an order of its own")
def epoch(candidate: TrainerParts, reference: TrainerParts, seed: int, folder: Path) -> Problems:
    """In an epoch every token but the first is a target once, every one but the last an input.

    The last window and the last batch included; and an epoch ends. Each epoch has an order of its
    own, the same for the same seed.
    """
    generator = np.random.default_rng([seed, 5])
    drawn = [
        (int(n), int(b), int(t)) for n, b, t in generator.integers((8, 1, 1), (90, 5, 8), (6, 3))
    ]
    assert candidate.batches
    for n, batch_size, seq_len in (*BATCH_SHAPES, *drawn):
        batches = candidate.batches(np.arange(n), batch_size, seq_len)
        shape = f"{n} tokens, B {batch_size} T {seq_len}"
        for number in (None, 0):
            of_epoch = None if number is None else epoch_generator(seed, number)
            order = batches.order(of_epoch)
            seen = [batches.batch(order, i) for i in range(len(batches))]
            counted = [targets >= 0 for _, targets in seen]
            for what, side, least in (("an input", 0, 0), ("a target", 1, 1)):
                ids = np.concatenate([b[side][c] for b, c in zip(seen, counted, strict=True)])
                times = np.bincount(ids, minlength=n)[least : n - 1 + least]
                if (times != 1).any():
                    i = int((times != 1).argmax())
                    yield f"token {i + least} is {what} {times[i]} times in an epoch ({shape})"
            if n > 2 and (ids == 0).any():
                yield f"token 0 is a target ({shape})"
    batches = candidate.batches(np.arange(301), 2, 3)
    orders = [
        np.concatenate([batches.batch(order, i)[0].reshape(-1) for i in range(len(batches))])
        for order in (batches.order(epoch_generator(seed, number)) for number in (0, 1, 0))
    ]
    if not np.array_equal(orders[0], orders[2]):
        yield "the same seed and epoch gave another order"
    if np.array_equal(orders[0], orders[1]):
        yield "two epochs have the same order"
    if np.array_equal(orders[0][:300], np.arange(300)):
        yield "an epoch has the order of the text: it is not shuffled"


@check_parts(
    "data.targets", "batches", held="each target was the token after its input, every dtype"
)
def targets(candidate: TrainerParts, reference: TrainerParts, seed: int, folder: Path) -> Problems:
    """A target is the token that follows its input, inputs follow each other, the rest is -1.

    Whatever integers the stream has, ids beyond sixteen bits too; the stream may be read-only.
    """
    generator = np.random.default_rng([seed, 6])
    assert candidate.batches
    for n, batch_size, seq_len in BATCH_SHAPES:
        for dtype, first in (
            ("u1", 0),
            ("<u2", 2**15),
            ("<u4", 2**16 + 5),
            ("i4", 3),
            ("i8", 2**24),
        ):
            stream = np.arange(first, first + n).astype(dtype)
            before = stream.copy()
            stream.flags.writeable = False
            batches = candidate.batches(stream, batch_size, seq_len)
            order = batches.order(generator)
            where = f"{n} tokens {np.dtype(dtype)}, B {batch_size} T {seq_len}"
            for i in range(len(batches)):
                inputs, wanted = batches.batch(order, i)
                for name, array in (("inputs", inputs), ("targets", wanted)):
                    if array.dtype != np.int32 or not array.flags.c_contiguous:
                        yield f"{name} are {array.dtype}, and must be contiguous int32 ({where})"
                    if array.shape[1:] != (seq_len,) or not 1 <= len(array) <= batch_size:
                        yield f"{name} have the shape {array.shape} ({where})"
                yield from _aligned(inputs, wanted, f"batch {i}; {where}")
            if not np.array_equal(stream, before):
                yield f"the stream was written to ({where})"


def _aligned(inputs: NDArray[np.int32], targets: NDArray[np.int32], where: str) -> Problems:
    """Rows of a stream in which each id is its place."""
    counted = targets >= 0
    for index in np.argwhere(counted & (targets != inputs + 1))[:1].tolist():
        got, at = targets[tuple(index)], inputs[tuple(index)]
        yield f"target {index} is {got}: after its input {at} comes {at + 1} ({where})"
    follows = counted[:, 1:] & (inputs[:, 1:] != inputs[:, :-1] + 1)
    for row, column in np.argwhere(follows)[:1].tolist():
        pair = inputs[row, column : column + 2].tolist()
        yield f"input {[row, column + 1]} is {pair[1]}, after {pair[0]} ({where})"
    if (targets[~counted] != -1).any() or (counted[:, 1:] & ~counted[:, :-1]).any():
        yield f"what is not counted must be -1, at the end of a row: {targets.tolist()!r:.80}"
    if (inputs < 0).any():
        yield f"an input of {inputs.min()} is no id ({where})"
