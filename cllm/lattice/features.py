"""Places on the lattice as vectors: where the embedding starts, and what tells positions apart.

Both are Fourier features (Rahimi & Recht 2007, "Random features for large-scale kernel machines"):
pairs sin(f u·c), cos(f u·c) of a place c, along directions u and with frequencies f in equal ratios
from coarse to fine, so that near places have like vectors. A pair has length 1 everywhere, so no
vector is zero.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from cllm.lattice.spiral import TURN, root_mean_square_distance, spiral
from cllm.lattice.symmetry import ORDER

Array = NDArray[np.float64]

FINEST = 1.0
"""Frequency that tells neighbours on the spiral apart: they lie about 1.8 from each other."""

WIDEST = 64.0
"""Radius of the spiral, that of position 4096, over which the coarsest frequency turns once."""

DIGITS = 4
"""Of the clock, which counts in twelves: its hands turn once in 12 to 12^4 positions."""


def lattice_embedding(vocab_size: int, embed_dim: int, generator: np.random.Generator) -> Array:
    """E (V,D) of features of `spiral`, along random directions; each row has the norm D^(-1/4).

    That is the norm that the standard initialisation has on average. The frequencies go from one
    over the root mean square distance of the tokens up to `FINEST`. An odd D ends on a constant.
    """
    places = spiral(vocab_size)  # (V,3)
    directions = generator.standard_normal((embed_dim // 2, 3))
    directions /= np.sqrt(np.square(directions).sum(-1, keepdims=True))
    coarsest = min(FINEST, 1.0 / max(1.0, root_mean_square_distance(places)))
    angles = _ratios(coarsest, FINEST, embed_dim // 2) * (places @ directions.T)  # (V,D/2)
    features = np.full((vocab_size, embed_dim), embed_dim**-0.75)
    paired = features[:, : embed_dim // 2 * 2]
    paired[:, 0::2] *= math.sqrt(2.0) * np.sin(angles)
    paired[:, 1::2] *= math.sqrt(2.0) * np.cos(angles)
    return features


def lattice_positions(length: int, embed_dim: int) -> Array:
    """P (length, D), of which no row depends on the length.

    Pairs sin, cos in turn of a hand of the clock, of the angle 2 pi t / 12^s, and of a feature of
    the place sqrt(t) (cos h, sin h), h = 2 pi t / phi², along a direction at a golden angle of its
    own. An odd D ends on a sine.
    """
    t = np.arange(length)  # (T,)
    pairs = -(-embed_dim // 2)
    hands, waves = -(-pairs // 2), pairs // 2
    digits = np.linspace(1.0, DIGITS, hands)
    angles = np.empty((length, pairs))
    angles[:, 0::2] = 2.0 * math.pi * np.mod(t[:, None] / ORDER**digits, 1.0)
    turned = 2.0 * math.pi * np.mod(t * TURN, 1.0)[:, None]  # (T,1)
    along = 2.0 * math.pi * np.arange(waves) * TURN
    frequencies = _ratios(math.pi / WIDEST, FINEST, waves)
    angles[:, 1::2] = frequencies * np.sqrt(t)[:, None] * np.cos(turned - along)
    features = np.stack([np.sin(angles), np.cos(angles)], -1)  # (T,pairs,2)
    return features.reshape(length, 2 * pairs)[:, :embed_dim]


def _ratios(coarse: float, fine: float, count: int) -> Array:
    """So many frequencies in equal ratios."""
    return np.geomspace(coarse, fine, count) if count else np.zeros(0)
