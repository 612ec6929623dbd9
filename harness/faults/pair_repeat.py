"""Faults of single functions whose result depends on other calls, or on the threads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from cllm.harness.faults.catalogue import Array
from cllm.harness.faults.pair import (
    plant_raw,
    plant_sums,
    softmax,
    sums,
)


def _cached_by(key: Callable[[Array], Any]) -> Callable[[Array], Array]:
    seen: dict[Any, Array] = {}

    def cached(x: Array) -> Array:
        return seen.setdefault(key(x), sums(x)).copy()

    return cached


def _right_ten_times() -> Callable[[Array], Array]:
    calls: dict[int, int] = {}

    def wear_out(x: Array) -> Array:
        calls[x.size] = calls.get(x.size, 0) + 1
        return sums(x) * np.float32(1.0 if calls[x.size] <= 10 else 1.5)

    return wear_out


plant_sums(
    "PairCachedByShape", "a result that is cached by shape", _cached_by(np.shape), "pair.repeat"
)
plant_sums(
    "PairCachedById", "a result that is cached by the array's id()", _cached_by(id), "pair.repeat"
)
plant_sums("PairRightTenTimes", "right ten times, then wrong", _right_ten_times(), "pair.repeat")


def _losing_rows(out: Array, x: Array, *, threads: int = 1) -> None:
    share = max(1, len(x) // threads)
    out[...] = 0
    for thread in range(threads):
        rows = slice(thread * share, (thread + 1) * share)
        if len(x[rows]):
            softmax(out[rows], x[rows])


def _summing_by_threads(out: Array, x: Array, *, threads: int = 1) -> None:
    weights = np.exp(x - x.max(-1, keepdims=True))
    total = np.zeros((len(x), 1), x.dtype)
    for part in np.array_split(weights, threads, axis=1):
        total += part.sum(-1, keepdims=True)
    out[...] = weights / total


plant_raw(
    "ThreadsLoseRows", "rows that no thread takes where they cannot be shared out evenly",
    _losing_rows, "pair.threads",
)  # fmt: skip
plant_raw(
    "SumsByThreads", "sums whose order depends on the number of threads", _summing_by_threads,
    "pair.threads",
)  # fmt: skip
