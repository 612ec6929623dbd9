"""Gaussian error linear unit in its tanh form (Hendrycks & Gimpel 2016, section 2)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

SCALE = math.sqrt(2.0 / math.pi)
CUBIC = 0.044715


def gelu_forward(out: Array, x: Array) -> None:
    """Out = x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x³))), any shape."""
    out[...] = 0.5 * x * (1.0 + np.tanh(SCALE * (x + CUBIC * x * x * x)))


def gelu_backward(dx: Array, dout: Array, x: Array) -> None:
    """Write dx."""
    # out = 0.5 * x * (1 + t), t = tanh(u), u = SCALE * (x + CUBIC * x³)
    t = np.tanh(SCALE * (x + CUBIC * x * x * x))
    du = SCALE * (1.0 + 3.0 * CUBIC * x * x)
    dx[...] = dout * (0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * du)
