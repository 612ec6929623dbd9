"""Running a model on a case: the one place where checks touch a candidate's buffers.

Promises: results are copies, in float64 where they are compared within a tolerance, so that
nothing a model does later changes what was seen.
"""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cllm.harness.cases import NEIGHBORS, Case
from cllm.model import Model
from cllm.plan import Operation

Arrays = dict[str, NDArray[np.float64]]

Calibrations = dict[bytes, tuple[Arrays, Arrays]]
"""What `calibrate` gave, by what it was asked."""

_KNOWN: ContextVar[Calibrations | None] = ContextVar("_KNOWN", default=None)


def build(
    model: type[Model],
    case: Case,
    dtype: str = "float32",
    *,
    threads: int = 1,
    operation: Operation = Operation.TRAINING,
) -> Model:
    """A model at the point of training that the case describes."""
    built = model.create(
        case.setting.config,
        case.setting.batch_size,
        case.setting.seq_len,
        case.parameters,
        operations=(operation,),
        threads=threads,
        dtype=dtype,
    )
    if operation is Operation.TRAINING:
        for moment, start in zip(
            built.moments, (case.first_moment, case.second_moment), strict=True
        ):
            moment[...] = start
    return built


def calibrate(
    run: Callable[[Case, str], Arrays], case: Case, neighbors: int = NEIGHBORS
) -> tuple[Arrays, Arrays]:
    """What `run(case, dtype)` gives in float64, and the error of float32 by element.

    The error is the largest of those at the case and at its neighbors.
    """
    known = _KNOWN.get()
    if known is None:
        return _calibrate(run, case, neighbors)
    asked = hashlib.sha256(pickle.dumps((run, case, neighbors))).digest()
    if asked not in known:
        known[asked] = _calibrate(run, case, neighbors)
    exact, errors = known[asked]
    return dict(exact), dict(errors)


@contextmanager
def remembering(known: Calibrations) -> Iterator[None]:
    """A context in which no calibration that is known is made again, and new ones are noted."""
    before = _KNOWN.set(known)
    try:
        yield
    finally:
        _KNOWN.reset(before)


def _calibrate(
    run: Callable[[Case, str], Arrays], case: Case, neighbors: int
) -> tuple[Arrays, Arrays]:
    exact = run(case, "float64")
    errors = _errors(run(case, "float32"), exact)
    for near in case.neighbors(neighbors):
        for name, error in _errors(run(near, "float32"), run(near, "float64")).items():
            errors[name] = np.maximum(errors[name], error)
    return exact, errors


def _errors(rounded: Arrays, exact: Arrays) -> Arrays:
    return {name: np.abs(rounded[name] - tensor) for name, tensor in exact.items()}


def evaluate(model: type[Model], case: Case, dtype: str) -> Arrays:
    """`loss` () and `logits` (B',T',V), planned for evaluation alone."""
    built = build(model, case, dtype, operation=Operation.EVALUATION)
    logits = copy(built.forward(case.tokens))
    return {"loss": np.array(float(built.loss(case.targets, case.divisor))), "logits": logits}


def differentiate(model: type[Model], case: Case, dtype: str) -> Arrays:
    """Gradients by tensor of one forward, loss and backward."""
    built = build(model, case, dtype)
    built.zero_gradients()
    built.forward(case.tokens)
    built.loss(case.targets, case.divisor)
    built.backward()
    return tensors(built, "gradients")


def tensors(model: Model, name: str) -> Arrays:
    """Copies of a vector's tensors."""
    return {tensor: copy(view) for tensor, view in model.tensors(name).items()}


def copy(values: NDArray[Any]) -> NDArray[np.float64]:
    """A float64 copy."""
    return np.array(values, np.float64)


def state(model: Model) -> dict[str, NDArray[Any]]:
    """Copies of what training goes on from: the parameters and both moments (P,)."""
    first, second = model.moments
    named = {"parameters": model.parameters, "first_moment": first, "second_moment": second}
    return {name: vector.copy() for name, vector in named.items()}


def first_difference(one: Mapping[str, NDArray[Any]], other: Mapping[str, NDArray[Any]]) -> str:
    """Where two sets of arrays of the same shapes differ in a byte; empty where they do not."""
    for name, array in one.items():
        if array.tobytes() == other[name].tobytes():
            continue
        different = array.reshape(-1).view(np.uint8) != other[name].reshape(-1).view(np.uint8)
        i = int(different.argmax()) // array.itemsize
        index = [int(axis) for axis in np.unravel_index(i, array.shape)]
        values = array.reshape(-1)[i], other[name].reshape(-1)[i]
        return "{} {} is {:.9g} and {:.9g}".format(name, index, *values)
    return ""
