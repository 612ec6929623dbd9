"""Checks that bad buffers, batches and sizes are refused, and how: before any work.

Promises: one deviation at a time from what is right, all else in order; an exception, and not one
byte of any buffer changed.
Leaves out: which exception it is and what it says.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cllm.check import MAX_SIZE
from cllm.config import Config
from cllm.harness.cases import Case, Setting, draw_case
from cllm.harness.checks.check import check
from cllm.harness.differences import differences, first_of
from cllm.harness.guard.misuse import Attempt, calls_and_misuses
from cllm.harness.verdict import Verdict
from cllm.model import Model
from cllm.plan import MAX_THREADS, Buffer, Operation, Plan, Role

SETTING = Setting(Config(7, 4, 1, 2, 3), 3, 4)

Given = dict[str, Any]
Array = NDArray[Any]


@check("buffers.refused", Operation.EVALUATION)
def buffers(candidate: type[Model], reference: type[Model], seed: int) -> Verdict:
    """Each buffer missing, too small, too large, overlapping or of a wrong kind is refused."""
    plan = _plan(candidate, draw_case(SETTING, seed))
    generator = np.random.default_rng(seed)
    right = plan.allocate()
    for array in right.values():
        array.view(np.uint8)[...] = generator.integers(0, 256, array.view(np.uint8).shape, np.uint8)
    wrong = dict(_wrong_buffers(plan, right))
    candidate(plan, right)  # what is right is taken
    before = {name: array.copy() for name, array in right.items()}

    def problems() -> Iterator[str]:
        for what, changed in wrong.items():
            given = {**right, **changed}
            present = {name: array for name, array in given.items() if array is not None}
            kept = {name: before[name] for name in right.keys() - changed.keys()}
            yield from _unless_refused(what, partial(candidate, plan, present), present, kept)

    evidence = f"{len(wrong)} wrong sets of {len(right)} buffers were refused before any work"
    return first_of(problems(), evidence)


@check("buffers.batches", Operation.EVALUATION)
def batches(candidate: type[Model], reference: type[Model], seed: int) -> Verdict:
    """Ids out of range, wrong shapes and types, calls out of order are refused without a trace.

    The model goes on as one of which nothing wrong was asked.
    """
    case = draw_case(SETTING, seed)
    plan = _plan(candidate, case)
    given = plan.allocate()
    model, other = candidate(plan, given), candidate(plan, plan.allocate())
    stages = list(calls_and_misuses(model, case))

    def problems() -> Iterator[str]:
        for name, run, wrong in stages:
            for what, attempt in wrong.items():
                yield from _unless_refused(f"{name} of {what}", attempt, given)
            got, expected = ({name: np.array(run(one))} for one in (model, other))
            yield from differences(got, expected, "but {} where nothing wrong was asked before")

    count = sum(len(wrong) for _, _, wrong in stages)
    return first_of(problems(), f"{count} wrong calls were refused and left no trace")


@check("buffers.sizes", Operation.EVALUATION)
def sizes(candidate: type[Model], reference: type[Model], seed: int) -> Verdict:
    """Sizes that are none, or whose product overflows, are refused when they are planned."""
    config = SETTING.config

    def plan(rows: Any = 2, time: Any = 3, **options: Any) -> Attempt:
        return lambda: candidate.plan(config, rows, time, **options)

    wrong: dict[str, Attempt] = {
        f"a batch of {rows!r} rows of {time!r} tokens": plan(rows, time)
        for rows, time in (
            *((0, 3), (2, 0), (-1, 3), (2, -1), (True, 3), (2.0, 3), ("2", 3), (2, None)),
            *((MAX_SIZE, MAX_SIZE), (MAX_SIZE + 1, 1), (1, 2**63), (2**32, 2**32)),
        )
    }
    wrong |= {f"{n!r} threads": plan(threads=n) for n in (-1, 1.5, "1", MAX_THREADS + 1)}
    wrong |= {f"dtype {dtype!r}": plan(dtype=dtype) for dtype in ("int8", "float16", "no")}
    wrong |= {f"operations {some!r}": plan(operations=some) for some in ((), ("dreaming",))}
    wrong |= {
        "embed_dim 5 with 2 heads": lambda: Config(7, 5, 1, 2, 3),
        "more parameters than can be indexed": lambda: Config(MAX_SIZE, MAX_SIZE, 1, 1, 3),
    }

    def problems() -> Iterator[str]:
        for what, attempt in wrong.items():
            yield from _unless_refused(what, attempt, {})

    return first_of(problems(), f"{len(wrong)} impossible sizes were refused")


def _plan(candidate: type[Model], case: Case) -> Plan:
    setting = case.setting
    return candidate.plan(
        setting.config, setting.batch_size, setting.seq_len, operations=candidate.parts, threads=2
    )


def _unless_refused(
    what: str,
    attempt: Attempt,
    buffers: Mapping[str, Any],
    known: Mapping[str, Array] | None = None,
) -> Iterator[str]:
    """What is wrong where an attempt is not refused, or writes to buffers before it is.

    `known` are contents that need not be copied again.
    """
    arrays = {n: array for n, array in buffers.items() if isinstance(array, np.ndarray)}
    before = dict(known or {})
    before |= {name: array.copy() for name, array in arrays.items() if name not in before}
    try:
        attempt()
    except Exception:
        yield from differences(arrays, before, f"but {{}} before {what} was refused")
    else:
        yield f"{what} was not refused"


def _wrong_buffers(plan: Plan, right: Given) -> Iterator[tuple[str, Given]]:
    """Words, and the buffers that are other than right: None for one that is missing."""
    yield "a buffer that is not in the plan", {"unplanned": np.zeros(3, np.float32)}
    names = list(plan.buffers)
    for name, following in zip(names, [*names[1:], names[0]], strict=True):
        wanted, second = plan.buffers[name], plan.buffers[following]
        yield f"{name} missing", {name: None}
        for what, array in _wrong_arrays(wanted, right[name]):
            yield f"{name} {what}", {name: array}
        if wanted.role is not Role.PARAMETER or Operation.TRAINING in plan.operations:
            frozen = right[name].copy()
            frozen.flags.writeable = False
            yield f"{name} that may not be written", {name: frozen}
        shared = _aligned(wanted.nbytes + second.nbytes, max(wanted.alignment, second.alignment))
        step = max(second.dtype.itemsize, second.alignment)
        start = (wanted.nbytes - 1) // step * step
        yield (
            f"{name} overlapping {following}",
            {
                name: _array(shared, 0, wanted),
                following: _array(shared, start, second),
            },
        )


def _wrong_arrays(wanted: Buffer, right: Array) -> Iterator[tuple[str, object]]:
    first, *rest = wanted.shape
    size = wanted.dtype.itemsize
    yield "as a list", right.tolist()
    yield "one row short", np.zeros((first - 1, *rest), wanted.dtype)
    yield "one row too long", np.zeros((first + 1, *rest), wanted.dtype)
    yield "with an axis more", right[None].copy()
    for dtype in ("float64", "float32", "int32", "int64", "complex64", wanted.dtype.newbyteorder()):
        if np.dtype(dtype) != wanted.dtype:
            yield f"of {np.dtype(dtype).str}", np.zeros(wanted.shape, dtype)
    for how, index in (
        ("strided", (..., slice(None, None, 2))),
        ("reversed", slice(None, None, -1)),
    ):
        array = np.zeros((*wanted.shape[:-1], 2 * wanted.shape[-1]), wanted.dtype)
        array = array[index] if how == "strided" else right.copy()[index]
        if not array.flags.c_contiguous:
            yield how, array
    if size > 1:
        yield "at an odd address", _array(_aligned(wanted.nbytes + size, 1), 1, wanted)
    if wanted.alignment > size:
        apart = _aligned(wanted.nbytes + size, wanted.alignment)
        yield f"at no multiple of {wanted.alignment} bytes", _array(apart, size, wanted)


def _aligned(nbytes: int, alignment: int) -> NDArray[np.uint8]:
    step = max(64, alignment)
    memory = np.zeros(nbytes + step, np.uint8)
    start = -memory.ctypes.data % step
    return memory[start : start + nbytes]


def _array(memory: NDArray[np.uint8], start: int, wanted: Buffer) -> Array:
    return np.ndarray(wanted.shape, wanted.dtype, buffer=memory.data, offset=start)
