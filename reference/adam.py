"""Adam (Kingma & Ba 2014, algorithm 1) with decoupled weight decay (Loshchilov & Hutter 2017)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def global_norm(gradients: Array) -> float:
    """The Euclidean norm of gradients (P,), summed in float64."""
    wide = gradients.astype(np.float64)
    return math.sqrt(float(wide @ wide))


def clip_scale(norm: float, clip: float | None) -> float:
    """What gradients of this norm are multiplied by so that their norm is at most `clip`."""
    return 1.0 if clip is None or norm <= clip else clip / norm


def adam_update(
    parameters: Array,
    first_moment: Array,
    second_moment: Array,
    gradients: Array,
    step: int,
    learning_rate: float,
    beta1: float,
    beta2: float,
    epsilon: float,
    weight_decay: float,
    scale: float,
) -> None:
    """Move parameters (P,) and both moments (P,) by `scale` times the gradients (P,).

    `step` counts from 1; epsilon stands outside the square root.
    """
    g = gradients * gradients.dtype.type(scale)
    first_moment[...] = beta1 * first_moment + (1.0 - beta1) * g
    second_moment[...] = beta2 * second_moment + (1.0 - beta2) * g * g
    m = first_moment / (1.0 - beta1**step)
    v = second_moment / (1.0 - beta2**step)
    parameters *= 1.0 - learning_rate * weight_decay
    parameters -= learning_rate * m / (np.sqrt(v) + epsilon)
