"""Methods that find change points: ours, and published ones to hold it against.

Leaves out: ruptures and Apache Otava themselves; those that are not installed are left out.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cllm.harness.history.changepoints import SIGNIFICANCE, change_points

Floats = NDArray[np.float64]


class Method(NamedTuple):
    """One way to find change points."""

    name: str
    settings: str
    needs: str
    """The module; empty for our own."""
    find: Callable[[Floats], list[int]]
    """From a series (n,) to the first points of new levels."""


def installed() -> list[Method]:
    """Ours, then those that are here."""
    return [m for m in METHODS if not m.needs or importlib.util.find_spec(m.needs)]


def _ours(series: Floats) -> list[int]:
    return [point.index for point in change_points(series)]


def _pelt(series: Floats) -> list[int]:
    import ruptures

    # The linear kernel's cost is that of `Pelt(model="l2")`, in C.
    return _rupture(ruptures.KernelCPD(kernel="linear", min_size=2), series)


def _binary(series: Floats) -> list[int]:
    import ruptures

    return _rupture(ruptures.Binseg(model="l2", min_size=2, jump=1), series)


def _rupture(method: Any, series: Floats) -> list[int]:
    """The penalty is the Bayesian information criterion's (Yao 1988); noise by its differences."""
    deviation = float(np.median(np.abs(np.diff(series)))) / (0.6745 * math.sqrt(2))
    penalty = 2 * deviation**2 * math.log(len(series))
    ends = method.fit(series).predict(pen=penalty)
    return [int(end) for end in ends[:-1]]


def _otava(series: Floats) -> list[int]:
    from otava.analysis import compute_change_points

    points, _ = compute_change_points(series.tolist())
    return [int(point.index) for point in points]


METHODS = (
    Method("CLLM", f"significance {SIGNIFICANCE:g} a series", "", _ours),
    Method(
        "Otava",
        "Apache Otava, once Hunter: E-divisive means with a t-test; its own window of 50 points, "
        "p < 0.001, any magnitude",
        "otava",
        _otava,
    ),
    Method(
        "PELT",
        "ruptures, least squares, penalty 2 σ² ln n, σ by the median of the absolute differences",
        "ruptures",
        _pelt,
    ),
    Method("BinSeg", "ruptures, binary segmentation with the same", "ruptures", _binary),
)
