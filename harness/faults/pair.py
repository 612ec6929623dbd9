"""Faults of single functions: a softmax, a matrix product, an embedding and an exponential.

Promises: each is right but for what its story says.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np

from cllm.harness.checks.check import Kind
from cllm.harness.faults.catalogue import Array, plant
from cllm.harness.pairs.pair import Pair


def softmax(out: Array, x: Array) -> None:
    """Of each row of x (N,V)."""
    probs = np.exp(x - x.max(-1, keepdims=True))
    out[...] = probs / probs.sum(-1, keepdims=True)


def masked(out: Array, x: Array, mask: Array) -> None:
    """The x (N,V) that have a mask, which is 0 or 1; 0 elsewhere."""
    out[...] = np.where(mask, x, x.dtype.type(0))


def gather(out: Array, weight: Array, tokens: Array) -> None:
    """The rows of weight (V,D) that tokens (N,) name."""
    if tokens.min() < 0 or tokens.max() >= len(weight):
        raise ValueError(f"tokens must lie in 0..{len(weight) - 1}")
    out[...] = weight[tokens]


def sums(x: Array) -> Array:
    """Of each row of x (N,V)."""
    return np.asarray(x.sum(-1, dtype=x.dtype))


CASES = ({"N": 1, "V": 1}, {"N": 3, "V": 7}, {"N": 17, "V": 100})
ROWS = ({"N": 1, "V": 2, "D": 1}, {"N": 9, "V": 5, "D": 7})


def refusing(function: Callable[..., None]) -> Callable[..., None]:
    """The function behind a look at out and x."""

    def refuse(out: Array, x: Array, **more: Any) -> None:
        for name, array in (("out", out), ("x", x)):
            if array.dtype != np.float32 or not (array.flags.c_contiguous and array.flags.aligned):
                raise TypeError(f"{name} must be float32 and contiguous")
        if out.shape != x.shape or not out.flags.writeable or np.shares_memory(out, x):
            raise ValueError("out must be writable, and x of its shape in other memory")
        function(out, x, **more)

    return refuse


def plant_softmax(name: str, story: str, function: Callable[..., Any], *checks: str) -> None:
    """A softmax that looks at its arrays, and has something wrong with it or nothing."""
    pair = Pair(
        softmax, refusing(function), writes={"out": "NV"}, reads={"x": "NV"}, cases=CASES, name=name
    )
    plant(name, story, pair, *checks, kind=Kind.PAIR)


def plant_raw(name: str, story: str, function: Callable[..., Any], *checks: str) -> None:
    """A softmax that looks at nothing, and need not."""
    pair = Pair(
        softmax, function, writes={"out": "NV"}, reads={"x": "NV"}, cases=CASES, name=name,
        refuses=False,
    )  # fmt: skip
    plant(name, story, pair, *checks, kind=Kind.PAIR)


def plant_sums(name: str, story: str, function: Callable[..., Any], *checks: str) -> None:
    """A function of x (N,V) that returns the sums of its rows."""
    pair = Pair(sums, function, reads={"x": "NV"}, returns="sums", cases=CASES, name=name)
    plant(name, story, pair, *checks, kind=Kind.PAIR)


# -- wrong numbers -----------------------------------------------------------------------------


def _softmax_by(exp: Callable[[Array], Array], out: Array, x: Array) -> None:
    weights = exp(x - x.max(-1, keepdims=True))
    out[...] = weights / weights.sum(-1, keepdims=True)


def _short_series(x: Array) -> Array:
    total = term = np.ones_like(x)
    for n in range(1, 8):
        term = term * x / np.float32(n)
        total = total + term
    return total


def _exploding(x: Array) -> Array:
    exponent = np.rint(x * np.float32(np.log2(np.e))).astype(np.int64) + 127
    bits = (exponent & 0xFF).astype(np.uint32) << 23  # wraps below 2^-127
    rest = x - (exponent - 127).astype(np.float32) * np.float32(np.log(2))
    return np.asarray(bits.view(np.float32) * np.exp(rest))


def _nan_as_wildcard(out: Array, x: Array) -> None:
    softmax(out, x)
    out.reshape(-1)[out.size // 2] = np.nan


def _no_shift(out: Array, x: Array) -> None:
    weights = np.exp(x)
    out[...] = weights / weights.sum(-1, keepdims=True)


def _tail_lost(out: Array, x: Array) -> None:
    softmax(out, x)
    out[:, x.shape[1] // 4 * 4 :] = 0.25


plant_softmax(
    "SoftmaxOfAShortSeries", "an exp() whose series stops early, so that softmax goes negative",
    lambda out, x: _softmax_by(_short_series, out, x), "pair.values",
)  # fmt: skip
plant_softmax(
    "SoftmaxExplodes", "an exp() that explodes for large negatives: its exponent wraps",
    lambda out, x: _softmax_by(_exploding, out, x), "pair.values",
)  # fmt: skip
plant_softmax(
    "PairNanAsWildcard",
    "NaN instead of a result that is not known",
    _nan_as_wildcard,
    "pair.values",
)
plant_softmax(
    "SoftmaxWithoutShift", "a softmax that does not subtract the maximum", _no_shift, "pair.values"
)
plant_softmax(
    "TailOfVectorLost", "a row's end that fills no vector is not computed", _tail_lost,
    "pair.values",
)  # fmt: skip

# -- memory ------------------------------------------------------------------------------------


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

# -- results of other calls --------------------------------------------------------------------


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

# -- sizes -------------------------------------------------------------------------------------


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

# -- odd, but correct --------------------------------------------------------------------------


def _from_the_end(x: Array) -> Array:
    total = np.zeros(len(x), np.float32)
    for column in reversed(range(x.shape[1])):
        total += x[:, column]
    return total


def _in_place(x: Array) -> None:
    x -= x.max(-1, keepdims=True)
    np.exp(x, out=x)
    x /= x.sum(-1, keepdims=True)


def _returning(x: Array) -> Array:
    out = np.empty_like(x)
    softmax(out, x)
    return out


plant_softmax("RefusesWhatItCannotRead", "takes contiguous float32 alone", softmax)
plant_raw(
    "PairFlushesDenormals",
    "takes what is denormal for zero",
    lambda out, x: softmax(out, np.where(np.abs(x) < 2.0**-126, np.float32(0), x)),
)
plant_sums("PairReturnsFloat64", "returns float64", lambda x: x.sum(-1, dtype=np.float64))
plant_sums("PairSumsFromTheEnd", "sums in another order", _from_the_end)
plant_sums("PairReturnsStrided", "returns an array that is not contiguous",
           lambda x: np.stack([sums(x), sums(x)], axis=1)[:, 0])  # fmt: skip
plant(
    "SoftmaxInPlace",
    "changes its argument, as it declares",
    Pair(_in_place, _in_place, adds={"x": "NV"}, cases=CASES, name="SoftmaxInPlace"),
    kind=Kind.PAIR,
)
plant(
    "ReferenceReturns",
    "writes what the reference returns",
    Pair(_returning, refusing(softmax), writes={"out": "NV"}, reads={"x": "NV"}, cases=CASES,
         name="ReferenceReturns"),
    kind=Kind.PAIR,
)  # fmt: skip
