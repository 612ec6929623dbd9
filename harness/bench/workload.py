"""What every competitor is given: a configuration at given parameters, its batches, its prompt.

Promises: the same seed gives the same workload in every process, so that it need not be sent.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cllm.harness.cases import Setting, draw_parameters
from cllm.layout import tensor_views

LEARNING_RATE = 1e-3

TOKENS = 32_768
"""In all batches together: too many to be learned by heart, which would end in denormals."""

FEWEST_BATCHES = 16

EMBEDDING_SHARE = 0.25
"""Of the size that embeddings are drawn with: larger ones make each token predict itself."""


@dataclass(frozen=True, eq=False)
class Workload:
    """Parameters far from an initialization, and random batches that all targets count in."""

    setting: Setting
    parameters: NDArray[np.float64]
    """(P,), each a float32."""
    tokens: NDArray[np.int32]
    """(K,B,T); step i takes batch i mod K."""
    targets: NDArray[np.int32]
    """(K,B,T)"""
    calls_at_once: int
    """Steps that one call takes where a competitor is asked for many, k."""

    @property
    def prompt(self) -> NDArray[np.int32]:
        """The one token (1,) that generation starts from."""
        return self.tokens[0, 0, :1]

    @property
    def new_tokens(self) -> int:
        """Tokens to generate: the window ends full and never slides."""
        return self.setting.seq_len - 1


def draw_workload(setting: Setting, seed: int, calls_at_once: int = 1) -> Workload:
    """The workload of a seed."""
    generator = np.random.default_rng(seed)
    parameters = draw_parameters(setting.config, generator)
    tensor_views(setting.config, parameters)["embedding"][...] *= EMBEDDING_SHARE
    batch = setting.batch_size * setting.seq_len
    count = max(FEWEST_BATCHES, TOKENS // batch)
    count += -count % calls_at_once  # whole groups of k
    shape = (count, setting.batch_size, setting.seq_len)
    tokens, targets = generator.integers(0, setting.config.vocab_size, (2, *shape), np.int32)
    return Workload(setting, parameters, tokens, targets, calls_at_once)
