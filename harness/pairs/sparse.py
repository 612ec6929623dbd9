"""Arrays of which only the rows exist that ids name.

Promises: of an array whose first axis is as long as the range of the ids (an embedding, say), the
rows that are named hold random numbers and the others zeros that cost no memory; the same problem
with these rows alone is given beside it, for a reference that would touch everything.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cllm.harness.guard import Arena, Side
from cllm.harness.pairs.pair import Arguments, Arrays, Pair, Sizes, shape_of
from cllm.plan import Buffer, Role

POWERS = (31, 32)
"""Where 32-bit indices of elements wrap, signed and unsigned; in bytes they do before."""


@dataclass(frozen=True)
class Sparse:
    """One problem twice: with large arrays, and with the rows that count."""

    arena: Arena
    given: Arguments
    compact: Arguments
    rows: NDArray[np.int64]
    """Of the large arrays, ascending."""
    tall: tuple[str, ...]
    """The large arrays by name."""

    def gather(self, outputs: Arrays) -> Arrays:
        """The outputs with the rows that count."""
        return {n: array[self.rows] if n in self.tall else array for n, array in outputs.items()}


def draw_sparse(pair: Pair, sizes: Sizes, seed: int) -> Sparse:
    """Ids on both sides of where indices wrap; raises `OSError` where memory cannot be had."""
    generator = np.random.default_rng(seed)
    limit = next(stop for _, _, stop in pair.ids.values() if isinstance(stop, str))
    tall = tuple(
        name for name, axes in pair.axes.items() if axes.startswith(limit) and len(axes) > 1
    )
    width = max(np.prod(shape_of(pair.axes[name][1:], sizes)) for name in tall)
    wanted = {0, sizes[limit] - 1} | {
        row for power in POWERS for row in (2**power // int(width) - 1, 2**power // int(width) + 1)
    }
    rows = np.array(sorted(row for row in wanted if row < sizes[limit]))
    compact = pair.draw({**sizes, limit: len(rows)}, generator)
    for name in pair.ids:
        ids = np.arange(compact[name].size, dtype=compact[name].dtype) % len(rows)
        compact[name][...] = generator.permutation(ids).reshape(compact[name].shape)
    entries = [
        Buffer(name, shape_of(axes, sizes), pair.dtype_of(name), Role.SCRATCH)
        for name, axes in pair.axes.items()
    ]
    arena = Arena(entries, Side.END)
    given: dict[str, Any] = {**compact, **arena.buffers}
    for name, array in arena.buffers.items():
        if name in tall:
            array[rows] = compact[name]
        else:
            array[...] = rows[compact[name]] if name in pair.ids else compact[name]
    return Sparse(arena, given, compact, rows, tall)
