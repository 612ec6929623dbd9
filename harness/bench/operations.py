"""Single operations: every pair of the table, optimized against the reference, on one thread.

Promises: the arguments are those of the checks (`cllm.harness.pairs.table`), at the sizes of a
configuration; both are timed in turn, and the ratio is taken round by round; no two have the same
name. One thread is also that of NumPy's BLAS, in a worker that is told so.
Leaves out: more threads, and what operations cost one after another
(`cllm.harness.bench.contest`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np

from cllm.harness.cases import Setting
from cllm.harness.pairs.pair import Function, Pair, Sizes, copy, find_function
from cllm.harness.pairs.table import PAIRS

CASE = ("temperature", "top_k", "top_p")
"""Scalars that choose what an operation does: they are part of its name."""

ROUNDS = 7
ROUND_SECONDS = 0.01


def sizes_of(setting: Setting) -> dict[str, int]:
    """The letters of the table: a linear layer is the feed-forward's first, K = D and M = F."""
    config = setting.config
    return {
        "B": setting.batch_size,
        "T": setting.seq_len,
        "V": config.vocab_size,
        "D": config.embed_dim,
        "H": config.num_heads,
        "F": config.ff_dim,
        "K": config.embed_dim,
        "M": config.ff_dim,
        "P": setting.seq_len - 1,
    }


def name_of(pair: Pair) -> str:
    """The function and its case; with what it is `without`, no two of the table are alike."""
    case = {name: pair.scalars.get(name) for name in CASE}
    named = (f"{name}={value:g}" for name, value in case.items() if value is not None)
    return " ".join([pair.name, *named])


def measure_operations(setting: Setting, seed: int) -> list[dict[str, Any]]:
    """Seconds of one call of both functions and their ratio, for every pair."""
    generator = np.random.default_rng(seed)
    sizes = sizes_of(setting)
    return [_measure(pair, sizes, generator) for pair in PAIRS]


def _measure(pair: Pair, sizes: Sizes, generator: np.random.Generator) -> dict[str, Any]:
    """Each function on arguments of its own: some are written or added to."""
    drawn = pair.draw(sizes, generator)
    functions = {"optimized": pair.candidate, "reference": pair.reference}
    calls = {
        room: _caller(function, {name: copy(value) for name, value in pair.select(drawn).items()})
        for room, function in functions.items()
    }
    counts = {room: max(1, round(ROUND_SECONDS / call(1))) for room, call in calls.items()}
    seconds: dict[str, list[float]] = {room: [] for room in calls}
    for _ in range(ROUNDS):
        for room, call in calls.items():
            seconds[room].append(call(counts[room]) / counts[room])
    ratios = [r / o for o, r in zip(seconds["optimized"], seconds["reference"], strict=True)]
    return {
        "function": name_of(pair),
        "without": [name for name, value in pair.scalars.items() if value is None],
        **{f"{room}_seconds": median(found) for room, found in seconds.items()},
        "ratio": median(ratios),
    }


def _caller(named: Function | str, arguments: dict[str, Any]) -> Callable[[int], float]:
    """Seconds of so many calls."""
    function = find_function(named)

    def call(count: int) -> float:
        start = time.perf_counter()
        for _ in range(count):
            function(**arguments)
        return time.perf_counter() - start

    return call
