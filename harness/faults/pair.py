"""Faults of single functions: a softmax, a matrix product, an embedding and an exponential.

Promises: each is right but for what its story says.
"""

from __future__ import annotations

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
