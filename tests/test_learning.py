"""It learns: the acceptance tests of both models, on tasks that only a working network solves."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from cllm import Config, Model, Update
from cllm.layout import initialize
from cllm.registry import find_model

each_model = pytest.mark.parametrize("name", ["reference", "optimized"])


@each_model
def test_small_configuration_beats_the_unigram_entropy(name: str) -> None:
    """The text's words are the training set; its order is what there is to learn."""
    config = Config(381, 64, 2, 4, 128)
    generator = np.random.default_rng(0)
    phrases = generator.integers(0, 381, (60, 8), np.int32)
    stream = phrases[generator.integers(0, 60, 1200)].reshape(-1)
    counts = np.array([*Counter(stream.tolist()).values()]) / stream.size
    entropy = -(counts * np.log(counts)).sum()
    model = find_model(name).create(config, 4, 16, initialize(config, generator))
    losses = []
    for step in range(1, 401):
        starts = generator.integers(0, stream.size - 17, 4)
        windows = np.stack([stream[start : start + 17] for start in starts])
        losses.append(model.step(windows[:, :-1], windows[:, 1:], Update(step, 3e-3)))
    assert losses[0] == pytest.approx(np.log(381), rel=0.1)
    assert np.mean(losses[-50:]) < entropy - 0.5


def copy_loss(model: Model, windows: np.ndarray) -> float:
    """Mean loss over the second half, which repeats the first."""
    targets = windows[:, 1:].copy()
    targets[:, : windows.shape[1] // 2 - 1] = -1
    model.forward(windows[:, :-1])
    return model.loss(targets)


@each_model
def test_copying_needs_and_has_attention(name: str) -> None:
    config = Config(12, 32, 2, 4, 64)
    half = 6
    generator = np.random.default_rng(1)

    def draw(rows: int) -> np.ndarray:
        first = generator.integers(0, 12, (rows, half), np.int32)
        return np.concatenate([first, first], 1)

    model = find_model(name).create(config, 16, 2 * half - 1, initialize(config, generator))
    for step in range(1, 2001):
        windows = draw(16)
        targets = windows[:, 1:].copy()
        targets[:, : half - 1] = -1
        model.step(windows[:, :-1], targets, Update(step, 3e-3))
    assert copy_loss(model, draw(16)) < 0.1
