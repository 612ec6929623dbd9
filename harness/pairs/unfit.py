"""Arguments of a function each with one array that does not fit.

Promises: what an attempt changes is in its name; too small arrays end at an unreadable page, so
that a function that does not look at them ends the process.
Leaves out: which outcome is right (`cllm.harness.checks.pair_memory`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cllm.harness.guard import Arena, Side
from cllm.harness.pairs.cases import PairCase
from cllm.harness.pairs.pair import Arguments, Pair
from cllm.plan import Buffer, Role

Array = NDArray[Any]


@dataclass(frozen=True)
class Attempt:
    """One thing that is wrong with the arguments."""

    what: str
    spoil: Callable[[Arguments], None]
    """Changes the arguments."""
    fatal: bool
    """Whether it must be refused; else it may be refused, or the result must be right."""

    def __str__(self) -> str:
        return self.what


def attempts(pair: Pair, case: PairCase, arguments: Arguments) -> Iterator[Attempt]:
    """All that can be wrong; `arguments` are right ones of the case."""
    for name, axes in pair.axes.items():
        yield from _too_small(pair, name, axes, arguments[name])
        kind = arguments[name].dtype.kind
        for other in ("int64", "int16") if kind in "iu" else ("float64",):
            what = f"{name} of {other}"
            yield Attempt(what, partial(_replace, name, partial(_as, dtype=other)), False)
        yield Attempt(f"non-contiguous {name}", partial(_replace, name, non_contiguous), False)
        yield Attempt(f"misaligned {name}", partial(_replace, name, misaligned), False)
    for name in (*pair.writes, *pair.adds):
        yield Attempt(f"read-only {name}", partial(_replace, name, read_only), True)
        for other in pair.axes:
            same = arguments[other].shape == arguments[name].shape
            if other != name and same and pair.in_place.get(name) != other:
                what = f"{name} in the memory of {other}"
                yield Attempt(what, partial(_overlap, name, other), other in pair.outputs)
    for name in pair.ids:
        low, stop = pair.limits(name, case.sizes)
        for value in sorted({low - 1, stop, -(2**31), 2**31 - 1}):
            yield Attempt(f"the id {value} in {name}", partial(_last, name, value), True)


def _too_small(pair: Pair, name: str, axes: str, array: Array) -> Iterator[Attempt]:
    """One element less along each axis whose size another argument tells as well."""
    named = Counter("".join(pair.axes.values()))
    named.update(str(value) for value in pair.scalars.values())
    letters = [letter for letter in axes if letter.isalpha()]
    for axis, letter in enumerate(letters):
        if named[letter] > 1 and array.shape[axis] > 1:
            smaller = partial(_replace, name, partial(too_small, name=name, axis=axis))
            yield Attempt(f"{name} with {array.shape[axis] - 1} along axis {axis}", smaller, True)


def too_small(array: Array, name: str, axis: int) -> Array:
    """The array without its last element along an axis, at the end of its pages."""
    smaller = np.delete(array, -1, axis)
    arena = Arena([Buffer(name, smaller.shape, smaller.dtype, Role.SCRATCH)], Side.END)
    placed = arena.buffers[name]
    placed[...] = smaller
    return placed


def non_contiguous(array: Array) -> Array:
    """The same elements, every second one of a larger array."""
    wide = np.zeros((*array.shape, 2), array.dtype)
    wide[..., 0] = array
    return wide[..., 0]


def misaligned(array: Array) -> Array:
    """The same elements, one byte beside where they should lie."""
    memory = np.empty(array.nbytes + 1, np.uint8)
    shifted = memory[1:].view(array.dtype).reshape(array.shape)
    shifted[...] = array
    return shifted


def read_only(array: Array) -> Array:
    """The same elements, which may not be written."""
    frozen = array.copy()
    frozen.flags.writeable = False
    return frozen


def _as(array: Array, dtype: str) -> Array:
    return array.astype(dtype)


def _replace(name: str, make: Callable[[Array], Array], given: Arguments) -> None:
    given[name] = make(given[name])


def _overlap(name: str, other: str, given: Arguments) -> None:
    given[name] = given[other]


def _last(name: str, value: int, given: Arguments) -> None:
    given[name].reshape(-1)[-1] = value
