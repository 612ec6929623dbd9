"""The neighbours of tokens, on the lattice and in the trained embedding, and how many are both's.

Promises: exact, over all tokens; no V×V matrix is kept, only a band of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cllm.lattice.relations import relations_of

BAND = 2**23
"""Cosines that are held at a time."""

BLOCKS = 1024
"""Into so many parts a row is cut to find out from where on a cosine may be among the largest."""

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, eq=False)
class Neighbours:
    """Of V tokens, the K = min(8, V - 1) nearest others of each, the nearest first."""

    lattice: NDArray[np.int32]
    """(V,K), by the distance on the spiral."""
    embedding: NDArray[np.int32]
    """(V,K), by the cosine of their embeddings."""

    @property
    def shared(self) -> NDArray[np.bool_]:
        """(V,K), which of `lattice` are in `embedding` too."""
        found: NDArray[np.bool_] = (self.lattice[:, :, None] == self.embedding[:, None]).any(2)
        return found

    @property
    def overlap(self) -> float:
        """How many neighbours of a token are in both, on average."""
        return float(self.shared.sum(1).mean())

    @property
    def chance(self) -> float:
        """What the overlap would be if the embedding knew nothing of the lattice: K²/(V - 1)."""
        size, count = self.lattice.shape
        return float(count * count / max(1, size - 1))


def neighbours_of(embedding: NDArray[np.float32], progress: Progress) -> Neighbours:
    """Those of an embedding (V,D)."""
    lattice = relations_of(len(embedding)).neighbours
    return Neighbours(lattice, nearest(embedding, lattice.shape[1], progress))


def unit(embedding: NDArray[np.float32]) -> NDArray[np.float32]:
    """The rows (V,D) at length 1; zero stays zero."""
    lengths = np.sqrt(np.square(embedding).sum(1, keepdims=True))
    return (embedding / np.where(lengths > 0, lengths, 1)).astype(np.float32, copy=False)


def nearest(embedding: NDArray[np.float32], count: int, progress: Progress) -> NDArray[np.int32]:
    """(V,count), the others with the largest cosine, the lower id first where it is equal."""
    rows = unit(embedding)
    size = len(rows)
    found = np.empty((size, count), np.int32)
    if count == 0:
        return found
    step = max(1, BAND // size)
    for start in range(0, size, step):
        band = rows[start : start + step] @ rows.T
        band[np.arange(len(band)), np.arange(start, start + len(band))] = -np.inf  # itself
        found[start : start + step] = _largest(band, count)
        progress("nearest in embedding", start + len(band), size)
    return found


def _largest(values: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """(R,count), the places of the largest of each row (R,V), of which there are more."""
    size = values.shape[1]
    blocks = min(size, BLOCKS)
    width = size // blocks
    # The largest of each block are themselves values: as many as wanted are at least this large.
    peaks = values[:, : blocks * width].reshape(-1, blocks, width).max(2)
    bound = np.partition(peaks, blocks - count, axis=1)[:, blocks - count]
    row, column = np.nonzero(values >= bound[:, None])
    order = np.lexsort((column, -values[row, column], row))
    first = np.searchsorted(row, np.arange(len(values)))
    chosen: NDArray[np.int64] = column[order][first[:, None] + np.arange(count)]
    return chosen
