"""Results that should be the same bytes, and the first place where they are not.

Promises: what is found is one line of evidence: result, index, got, expected.
Leaves out: tolerances (`cllm.harness.tolerance`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cllm.harness.guard import OutOfBounds
from cllm.harness.verdict import Status, Verdict

Results = Mapping[str, NDArray[Any]]


def differences(got: Results, wanted: Results, where: str) -> Iterator[str]:
    """Each result that differs, at its first byte that does; `where` takes the expected value."""
    for name, expected in wanted.items():
        found = got[name]
        if found.shape != expected.shape:
            yield f"{name} has the shape {found.shape}, {where.format(expected.shape)}"
        elif not _same(found, expected):
            one, other = (np.frombuffer(array.tobytes(), np.uint8) for array in (found, expected))
            i = int((one != other).argmax()) // found.itemsize
            index = [int(axis) for axis in np.unravel_index(i, found.shape)]
            values = [f"{array.reshape(-1)[i]:.9g}" for array in (found, expected)]
            yield f"{name} {index} is {values[0]}, {where.format(values[1])}"


def _same(one: NDArray[Any], other: NDArray[Any]) -> bool:
    """Whether two arrays of one shape hold the same bytes."""
    plain = one.dtype == other.dtype and not one.dtype.hasobject
    if plain and one.flags.c_contiguous and other.flags.c_contiguous:
        return bool((one.reshape(-1).view(np.uint8) == other.reshape(-1).view(np.uint8)).all())
    return one.tobytes() == other.tobytes()


def not_finite(results: Results) -> Iterator[str]:
    """Each result that is not finite, at its first element that is not."""
    for name, array in results.items():
        if not np.isfinite(array).all():
            index = np.argwhere(~np.isfinite(np.atleast_1d(array)))[0].tolist()
            yield f"{name} {index} is {np.atleast_1d(array)[tuple(index)]}"


def first_of(problems: Iterator[str], evidence: str) -> Verdict:
    """A failure with the first problem, a guard's included; a pass with the evidence."""
    try:
        problem = next(problems, None)
    except OutOfBounds as error:
        problem = str(error)
    return Verdict(Status.FAIL, problem) if problem else Verdict(Status.PASS, evidence)
