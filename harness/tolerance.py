"""Tolerances that calibrate themselves, and the proof that they are tight enough to see a fault.

Promises: an error is held against what float32 itself costs on the same case, as measured on the
float32 reference; nothing grows with the size of a tensor; NaN never passes. Each comparison
lists the altered results (zeros, 0.9 times, transposed, shifted by a row) that it would have let
pass: where there are any, passing proves nothing.
Leaves out: which cases are drawn (`cllm.harness.cases`) and the verdict (`cllm.harness.judge`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cllm.harness.verdict import Inconclusive

UNIT = 2.0**-24
"""Unit roundoff of float32."""

FORWARD = 2.0
"""How many times the float32 reference's own error forward results may be off."""
GRADIENTS = 3.0
"""The same for gradients, and for what is computed from them."""

SMALLEST_SHARE = 1e-7
"""Below this share of the largest gradient a tensor is rounding noise, compared on that scale."""

Tensors = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Comparison:
    """One tensor held against the float64 reference, at its worst element."""

    tensor: str
    error: float
    """|got - expected|; infinite for NaN and for a wrong shape."""
    tolerance: float
    index: tuple[int, ...]
    got: float
    expected: float
    blind_to: tuple[str, ...] = ()
    """Alterations of the result that this tolerance would have let pass."""

    @property
    def share(self) -> float:
        """Error as a share of the tolerance; 1 is the most that passes."""
        return 0.0 if self.error == 0 else _ratio(self.error, self.tolerance)

    @property
    def passed(self) -> bool:
        """Within the tolerance."""
        return self.error <= self.tolerance

    def __str__(self) -> str:
        at = f" {list(self.index)}" if self.index else ""
        return (
            f"{self.tensor}{at}: got {self.got:.9g}, expected {self.expected:.9g}, "
            f"error {self.error:.2g}, tolerance {self.tolerance:.2g}"
        )


def compare_tensors(
    got: Tensors, exact: Tensors, errors: Tensors, factor: float
) -> list[Comparison]:
    """Every tensor of `exact` (float64 reference); `errors` are the float32 reference's own.

    Wqkv has one tolerance and is compared in its thirds, so that none hides behind the largest.
    """
    largest = max((_largest(tensor) for tensor in exact.values()), default=0.0)
    comparisons = []
    for name, tensor in exact.items():
        tolerance = tensor_tolerance(tensor, errors[name], factor, largest)
        for part, select in _parts(name, tensor):
            comparisons.append(compare(part, got[name][select], tensor[select], tolerance))
    return comparisons


def tensor_tolerance(
    exact: NDArray[Any], errors: NDArray[Any], factor: float, largest: float = 0.0
) -> float:
    """`factor` max|errors| + 32 · 2^-24 · max|exact|; errors are the float32 reference's own.

    A tensor whose largest element is below 1e-7 of `largest` gets at least that as tolerance.
    """
    magnitude = _largest(exact)
    tolerance = factor * _largest(errors) + 32 * UNIT * magnitude
    if magnitude < SMALLEST_SHARE * largest:
        tolerance = max(tolerance, SMALLEST_SHARE * largest)
    return tolerance


def loss_tolerance(exact: ArrayLike, errors: ArrayLike) -> NDArray[np.float64]:
    """2 |errors| + 8 · 2^-24 · max(1, |exact|); errors are the float32 reference's own."""
    floor = 8 * UNIT * np.maximum(1.0, np.abs(exact))
    return np.asarray(FORWARD * np.abs(errors) + floor)


def compare(tensor: str, got: ArrayLike, exact: ArrayLike, tolerance: ArrayLike) -> Comparison:
    """Hold `got` against `exact` of the same shape; `tolerance` for all or one an element.

    Raises `Inconclusive` where the reference itself is not finite.
    """
    found, wanted = np.asarray(got, np.float64), np.asarray(exact, np.float64)
    bounds = np.broadcast_to(np.asarray(tolerance, np.float64), wanted.shape)
    if not (np.isfinite(wanted).all() and np.isfinite(bounds).all()):
        raise Inconclusive(f"the reference's own {tensor} is not finite")
    if found.shape != wanted.shape:
        return Comparison(
            f"{tensor} has shape {found.shape} instead of {wanted.shape}",
            math.inf, 0.0, (), math.nan, math.nan,
        )  # fmt: skip
    with np.errstate(invalid="ignore", divide="ignore"):
        errors = np.where(np.isfinite(found), np.abs(found - wanted), math.inf)
        excess = np.where(errors > 0, errors / bounds, 0.0)
    worst = np.unravel_index(int(excess.argmax()), wanted.shape)
    return Comparison(
        tensor,
        float(errors[worst]),
        float(bounds[worst]),
        tuple(int(axis) for axis in worst),
        float(found[worst]),
        float(wanted[worst]),
        tuple(
            name
            for name, altered in alterations(wanted)
            if not (np.abs(altered - wanted) > bounds).any()
        ),
    )


def alterations(exact: NDArray[np.float64]) -> Iterator[tuple[str, NDArray[np.float64]]]:
    """Results that look plausible and are wrong; none that happens to be equal by symmetry."""
    yield "zeros", np.zeros_like(exact)
    yield "0.9 times", 0.9 * exact
    if exact.ndim == 0:
        return
    rows = exact.reshape(-1, exact.shape[-1]) if exact.ndim > 1 else exact
    moved = [("a shift by one row", np.roll(rows, 1, 0))]
    if exact.ndim > 1:
        moved.append(("the transpose", rows.T))
    for name, altered in moved:
        altered = altered.reshape(exact.shape)
        if not np.array_equal(altered, exact):
            yield name, altered


def _parts(name: str, tensor: NDArray[Any]) -> list[tuple[str, Any]]:
    """Names and indices of what is compared apart."""
    if not name.endswith("qkv_weight"):
        return [(name, ...)]
    third = tensor.shape[-1] // 3
    return [
        (f"{name}.{part}", (..., slice(i * third, (i + 1) * third)))
        for i, part in enumerate(("query", "key", "value"))
    ]


def _largest(tensor: NDArray[Any]) -> float:
    return float(np.abs(tensor).max(initial=0.0))


def _ratio(error: float, tolerance: float) -> float:
    return error / tolerance if tolerance > 0 else math.inf
