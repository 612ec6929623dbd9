"""Refusing bad input, before any work.

Promises: every function returns what it was given, or raises a `CllmError` of one line that names
the thing, its value and what is allowed.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from cllm.errors import CllmError

MAX_SIZE = 2**31 - 1
"""Largest single size: token ids are int32."""

MAX_ELEMENTS = 2**59
"""Largest number of elements of one buffer: 16 bytes each still index below 2**63."""

NUMBER = (int, float)
LARGEST_NUMBER = sys.float_info.max


def check_size(name: str, value: object) -> int:
    """Return `value` if it is an integer in 1..MAX_SIZE, else raise `CllmError`."""
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MAX_SIZE:
        raise CllmError(f"{name} must be an integer in 1..{MAX_SIZE}: got {value!r}")
    return value


def check_number(
    name: str, value: float, low: float, high: float, *, open_below: bool = False
) -> float:
    """Return `value` if low <= value < high (low < value where `open_below`), else `CllmError`."""
    # No comparison holds for NaN, and infinity is no number here, nor an integer beyond any float.
    inside = isinstance(value, NUMBER) and low <= value <= LARGEST_NUMBER and value < high
    if not inside or (open_below and value == low):
        interval = f"{'(' if open_below else '['}{low:g}, {high:g})"
        raise CllmError(f"{name} must be a number in {interval}: got {value!r}")
    return value


def check_array(
    name: str,
    array: object,
    shape: tuple[int, ...],
    dtype: DTypeLike,
    writable: bool = False,
) -> NDArray[Any]:
    """Return `array` if it is C-contiguous, aligned and of this shape and dtype.

    Raises `CllmError` naming the array, what it is and what is allowed.
    """
    wanted = np.dtype(dtype)
    if not isinstance(array, np.ndarray):
        raise CllmError(f"{name} must be a NumPy array: got {type(array).__name__}")
    if array.dtype != wanted:
        raise CllmError(f"{name} must be {wanted}: got {array.dtype}")
    if array.shape != shape:
        raise CllmError(f"{name} must have shape {shape}: got {array.shape}")
    if not array.flags.c_contiguous:
        raise CllmError(f"{name} must be C-contiguous: got strides {array.strides}")
    if not array.flags.aligned:
        raise CllmError(f"{name} must be aligned to its elements of {wanted.itemsize} bytes")
    if writable and not array.flags.writeable:
        raise CllmError(f"{name} must be writable")
    return array


def check_disjoint(arrays: Mapping[str, NDArray[Any]]) -> None:
    """Raise `CllmError` if two of the (contiguous) arrays share a byte."""
    spans = sorted(
        (array.ctypes.data, array.ctypes.data + array.nbytes, name)
        for name, array in arrays.items()
        if array.nbytes
    )
    for (_, stop, name), (start, _, other) in itertools.pairwise(spans):
        if start < stop:
            raise CllmError(f"{name} and {other} overlap by {stop - start} bytes")
