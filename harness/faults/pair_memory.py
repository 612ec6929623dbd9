"""Faults of single functions in what they touch: bounds, aliases, sizes, indices."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np

from cllm.harness.checks.check import Kind
from cllm.harness.faults.catalogue import Array, plant
from cllm.harness.faults.pair import (
    CASES,
    ROWS,
    gather,
    masked,
    plant_raw,
    plant_softmax,
    plant_sums,
    refusing,
    softmax,
)
from cllm.harness.pairs.pair import Pair


def _beside(offset: int, write: bool) -> Callable[..., None]:
    """A softmax that also touches an element beside out, or x if it reads."""

    def touch(out: Array, x: Array) -> None:
        softmax(out, x)
        array = out if write else x
        at = array.ctypes.data + array.itemsize * (
            offset if offset < 0 else array.size - 1 + offset
        )
        element = ctypes.c_float.from_address(at)
        if write:
            element.value = 0.5
        else:
            out[0, 0] += np.float32(0.0) * np.float32(np.isnan(element.value))

    return touch


for _end, _offset in (("Start", -1), ("End", 1)):
    for _verb, _write in (("Reads", False), ("Writes", True)):
        plant_raw(
            f"Pair{_verb}Past{_end}",
            f"{_verb.lower()} one element {'before the start' if _offset < 0 else 'past the end'}",
            _beside(_offset, _write),
            "pair.bounds",
        )


def _scratch_in_input(out: Array, x: Array) -> None:
    kept = x.copy()
    x -= x.max(-1, keepdims=True)
    softmax(out, kept)


plant_softmax(
    "InputUsedAsScratch", "an input that is written to", _scratch_in_input,
    "pair.aliasing", "pair.bounds",
)  # fmt: skip


def _returns_its_input(x: Array) -> Array:
    x[:, 0] = x.sum(-1)
    return x[:, 0]


_result = np.empty(100, np.float32)


def _one_buffer(x: Array) -> Array:
    out = _result[: len(x)]
    out[...] = x.sum(-1)
    return out


plant_sums(
    "InputHandedBack", "an input that is handed back as output", _returns_its_input, "pair.aliasing"
)
plant_sums(
    "OneBufferForAllResults", "results that the next call overwrites", _one_buffer, "pair.aliasing"
)


def _stale_where_masked(out: Array, x: Array, mask: Array) -> None:
    np.copyto(out, x, where=mask != 0)


plant(
    "StaleWhereMasked",
    "an output that keeps what it held where the mask is zero",
    Pair(
        masked, _stale_where_masked, writes={"out": "NV"}, reads={"x": "NV"},
        ids={"mask": ("NV", 0, 2)}, cases=CASES, refuses=False, name="StaleWhereMasked",
    ),
    "pair.stale", "pair.values",
    kind=Kind.PAIR,
)  # fmt: skip


def _copy_of(out: Array, x: Array) -> None:
    ctypes.memmove(out.ctypes.data, np.ascontiguousarray(x).ctypes.data, x.nbytes)


def _unlooked(out: Array, x: Array) -> None:
    result = np.empty(x.shape, np.float32)
    softmax(result, x.astype(np.float32))
    _copy_of(out, result)


def _too_late(out: Array, x: Array) -> None:
    rows = min(len(out), len(x))
    columns = min(out.shape[1], x.shape[1])
    if out.flags.writeable:
        out[:rows, :columns] = 0
    refusing(softmax)(out, x)


plant(
    "PairLooksAtNothing",
    "an output that is too small is written past its end",
    Pair(softmax, _unlooked, writes={"out": "NV"}, reads={"x": "NV"}, cases=CASES,
         name="PairLooksAtNothing"),
    "pair.refuses",
    kind=Kind.PAIR,
)  # fmt: skip
plant(
    "RefusedTooLate",
    "arrays that do not fit are refused after the output was cleared",
    Pair(softmax, _too_late, writes={"out": "NV"}, reads={"x": "NV"}, cases=CASES,
         name="RefusedTooLate"),
    "pair.refuses",
    kind=Kind.PAIR,
)  # fmt: skip


def _negative_ids(out: Array, weight: Array, tokens: Array) -> None:
    out[...] = weight[tokens]


def _wrapping(dtype: str) -> Callable[..., None]:
    """Finds its elements by indices of this type."""

    def find(out: Array, weight: Array, tokens: Array) -> None:
        width = weight.shape[1]
        starts = (tokens.astype(np.int64) * width).astype(dtype)
        for row, start in zip(out, starts.tolist(), strict=True):
            ctypes.memmove(row.ctypes.data, weight.ctypes.data + 4 * start, 4 * width)

    return find


def plant_gather(name: str, story: str, function: Callable[..., Any], *checks: str) -> None:
    """An embedding, tried with a large one too."""
    pair = Pair(
        gather, function, writes={"out": "ND"}, reads={"weight": "VD"},
        ids={"tokens": ("N", 0, "V")}, cases=ROWS, name=name,
        large={"N": 8, "V": 2**25 + 3, "D": 130},
        refuses=name == "NegativeIdsAccepted",
    )  # fmt: skip
    plant(name, story, pair, *checks, kind=Kind.PAIR)


plant_gather(
    "NegativeIdsAccepted", "ids below zero that count from the end", _negative_ids, "pair.refuses"
)
plant_gather(
    "PairIndexWrapsNegative", "32-bit index arithmetic that wraps beyond 2^31", _wrapping("i4"),
    "pair.indices",
)  # fmt: skip
plant_gather(
    "PairIndexWraps", "unsigned 32-bit index arithmetic that wraps beyond 2^32", _wrapping("u4"),
    "pair.indices",
)  # fmt: skip
