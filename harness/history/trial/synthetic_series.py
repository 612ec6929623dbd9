"""Series whose changes are known, to try change points on.

Promises: all lie around `LEVEL` and fluctuate by about 1; the same generator draws the same series.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Noise = Callable[[np.random.Generator, int], Floats]

LEVEL = 100.0

MARGIN = 10
"""Points between two changes, and between a change and an end, at least."""


class Drawn(NamedTuple):
    """A series and what is known of it."""

    values: Floats
    """(n,)"""
    changes: tuple[int, ...]
    """The first points of new levels."""


def normal(generator: np.random.Generator, n: int) -> Floats:
    """Of standard deviation 1."""
    return generator.standard_normal(n)


def heavy_tailed(generator: np.random.Generator, n: int) -> Floats:
    """Student's t with 2 degrees of freedom, which has no variance; in the middle as wide."""
    return generator.standard_t(2, n) * (0.6745 / 0.8165)  # upper quartiles of the two


def with_outliers(generator: np.random.Generator, n: int) -> Floats:
    """Normal, and one point in twenty 5 to 20 lower, as where something else held it up."""
    held_up = generator.random(n) < 0.05
    return generator.standard_normal(n) - held_up * generator.uniform(5, 20, n)


def skewed(generator: np.random.Generator, n: int) -> Floats:
    """Exponential, downwards: there is a best value, and many ways to miss it."""
    return 1.0 - generator.exponential(1.0, n)


def remembering(generator: np.random.Generator, n: int) -> Floats:
    """Each value takes half of the one before it (AR(1)); standard deviation 1."""
    shocks = generator.standard_normal(n) * np.sqrt(0.75)
    values = np.empty(n)
    last = generator.standard_normal()
    for i, shock in enumerate(shocks):
        last = values[i] = 0.5 * last + shock
    return values


NOISES: dict[str, Noise] = {
    "normal": normal,
    "outliers, 5%": with_outliers,
    "heavy-tailed, t₂": heavy_tailed,
    "skewed, exponential": skewed,
    "remembering, AR(1) 0.5": remembering,
}


def quiet(generator: np.random.Generator, noise: Noise, n: int) -> Drawn:
    """Nothing changes."""
    return Drawn(LEVEL + noise(generator, n), ())


def step(generator: np.random.Generator, noise: Noise, n: int, size: float) -> Drawn:
    """One step of that size, up or down, somewhere."""
    at = int(generator.integers(MARGIN, n - MARGIN + 1))
    return _stepped(generator, noise, n, (at,), (size * generator.choice((-1.0, 1.0)),))


def mended(generator: np.random.Generator, noise: Noise, n: int, size: float, length: int) -> Drawn:
    """A step down that is taken back after `length` points."""
    at = int(generator.integers(MARGIN, n - MARGIN - length + 1))
    return _stepped(generator, noise, n, (at, at + length), (-size, size))


def several(generator: np.random.Generator, noise: Noise, n: int, size: float, count: int) -> Drawn:
    """So many steps of that size, each up or down."""
    slack = n - MARGIN * (count + 1)
    places = np.sort(generator.integers(0, slack + 1, count)) + MARGIN * np.arange(1, count + 1)
    sizes = size * generator.choice((-1.0, 1.0), count)
    return _stepped(generator, noise, n, tuple(places.tolist()), tuple(sizes.tolist()))


def drift(generator: np.random.Generator, noise: Noise, n: int, size: float) -> Drawn:
    """Lower by `size` at its end than at its start, evenly; no point of it is a change."""
    return Drawn(LEVEL + noise(generator, n) - np.linspace(0.0, size, n), ())


def _stepped(
    generator: np.random.Generator,
    noise: Noise,
    n: int,
    places: tuple[int, ...],
    sizes: tuple[float, ...],
) -> Drawn:
    values = LEVEL + noise(generator, n)
    for place, size in zip(places, sizes, strict=True):
        values[place:] += size
    return Drawn(values, places)
