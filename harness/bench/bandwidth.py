"""Bytes that a generated token needs, and model bandwidth utilization.

Each token is multiplied with every weight once, so that generation from one prompt is bound by
reading them, and its measure is the share of the bandwidth at which they could be read (MBU:
Agarwal et al. 2023, "LLM Inference Performance Engineering: Best Practices"). The bandwidth is that
of reading an array of as many bytes with as many threads, measured in each block: whatever caches
hold the weights hold the array.
Leaves out: what is written, which is little, and scratch.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cllm.harness import probe
from cllm.harness.cases import Setting
from cllm.harness.probe.loops import read_rate

ITEM_BYTES = 4
"""Of a weight and of what the cache keeps: competitors compute in float32."""

LEAST_FLOATS = 128
"""A thread of the probe reads at least so many."""

FORMULA = (
    "MBU = 4 · (P + L·D·(T+2)) · tokens a second "
    "/ measured read bandwidth from an array of that size with the threads used"
)


def token_bytes(setting: Setting) -> int:
    """Bytes read for one of T-1 tokens, on average: all P parameters, and the cache so far.

    The token at position t attends to t+1 keys and values of D floats in each of L layers; the mean
    over t = 1..T-1 is (T+2)/2 of both.
    """
    config = setting.config
    cache = config.num_layers * config.embed_dim * (setting.seq_len + 2)
    return ITEM_BYTES * (config.num_parameters + cache)


def read_array(setting: Setting, threads: int) -> NDArray[np.float32]:
    """Floats that are as many bytes as a token needs; more only where the probe needs them."""
    return np.ones(max(token_bytes(setting) // ITEM_BYTES, LEAST_FLOATS * threads), np.float32)


def read_bandwidth(threads: int, floats: NDArray[np.float32]) -> float:
    """Bytes/s at which so many threads together read the floats again and again."""
    rate: float = read_rate(probe.level(), threads, probe.READ_SECONDS, floats)
    return rate


def utilization(setting: Setting, tokens_per_second: float, bandwidth: float) -> float:
    """MBU: the share of `bandwidth` (bytes/s of the threads used) that the tokens amount to."""
    return token_bytes(setting) * tokens_per_second / bandwidth
