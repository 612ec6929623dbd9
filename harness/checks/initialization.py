"""Check of fresh parameters."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cllm.config import Config
from cllm.harness.cases import describe
from cllm.harness.checks.parts import Problems, check_parts
from cllm.harness.trainer.parts import TrainerParts
from cllm.harness.trainer.recorder import gradient
from cllm.lattice.parts import Lattice
from cllm.layout import tensor_views

CONFIGS = (
    Config(160, 48, 2, 3, 64),
    Config(90, 32, 3, 2, 80),
    Config(70, 32, 2, 2, 64, lattice=Lattice(init=True)),
)
"""Each matrix has thousands of elements; a scale that is right for one alone is not for both. On
the lattice the embedding is no matter of chance."""

ROUNDING = 1e-5
"""Of the norm of an embedding, relative; it may have been float32."""

CHANCE = 1e-3
"""The share of numbers that may be equal by chance, in float32."""

DEVIATIONS = 6.5
"""Standard errors that a mean or a standard deviation may be off."""

DISTANCE = 3.2
"""Largest Kolmogorov-Smirnov statistic, times the square root of the number of elements."""


@check_parts("training.initialization", "initialize", held="each tensor distributed as defined")
def initialization(
    candidate: TrainerParts, reference: TrainerParts, seed: int, folder: Path
) -> Problems:
    """Fresh parameters: E normal with D^(-3/4), matrices 0.02, W2 over sqrt(2L), gains 1, others 0.

    In two networks, and in a third that the lattice initialises: there every row of E has the norm
    D^(-1/4). A gradient flows into every tensor; the same seed gives the same bytes, another
    one others. An honest candidate fails for less than one seed in a million: mean and standard
    deviation may be 6.5 standard errors off, sqrt(n) times the distance from the normal
    distribution is below 3.2.
    """
    for config in CONFIGS:
        yield from _problems(candidate, config, seed)


def _problems(candidate: TrainerParts, config: Config, seed: int) -> Problems:
    """What is wrong with the parameters of one network."""
    assert candidate.initialize
    vector = np.array(candidate.initialize(config, np.random.default_rng(seed)))
    if vector.shape != (config.num_parameters,) or not np.isfinite(vector).all():
        yield f"the parameters must be finite ({config.num_parameters},): got {vector.shape}"
        return
    yield from _no_flow(config, vector, seed)
    views = tensor_views(config, vector)
    for name, view in views.items():
        if name == "embedding" and config.lattice.init:
            yield from _not_of_one_norm(config, view.astype(np.float64))
            continue
        if name.endswith("weight") or name == "embedding":
            yield from _not_normal(config, name, view.reshape(-1).astype(np.float64))
            continue
        value = 1.0 if name.endswith("gain") else 0.0
        for i in np.flatnonzero(view != value)[:1]:
            yield f"{name} [{i}] is {view[i]:.9g} instead of {value:g} ({describe(config)})"
    again = np.array(candidate.initialize(config, np.random.default_rng(seed)))
    if again.tobytes() != vector.tobytes():
        yield "the same seed gave other bytes"
    other = tensor_views(
        config, np.array(candidate.initialize(config, np.random.default_rng(seed + 1)))
    )
    for name, view in views.items():
        if view.ndim > 1 and (view == other[name]).mean() > CHANCE:
            yield f"{name} shares numbers with that of another seed"
        in_first_layer = re.sub(r"^layer\d+", "layer0", name)
        if in_first_layer != name and view.ndim > 1 and (view == views[in_first_layer]).all():
            yield f"{name} is the same as {in_first_layer}"


def _no_flow(config: Config, vector: NDArray[Any], seed: int) -> Problems:
    """Tensors whose gradient is all zeros at these parameters."""
    generator = np.random.default_rng([seed, 11])
    tokens, targets = generator.integers(0, config.vocab_size, (2, 2, 12), np.int32)
    found = gradient(config, vector, [(tokens, targets)], 24.0, "float64")[1]
    for name, tensor in found.items():
        if not tensor.any():
            yield f"no gradient flows into {name} at the fresh parameters: it stays as it is"


def _not_of_one_norm(config: Config, embedding: NDArray[np.float64]) -> Problems:
    """The first row whose norm is not D^(-1/4)."""
    norms, wanted = np.sqrt(np.square(embedding).sum(-1)), config.embed_dim**-0.25
    for i in np.flatnonzero(np.abs(norms - wanted) > ROUNDING * wanted)[:1]:
        yield f"embedding row {i} has the norm {norms[i]:.4g} instead of {wanted:.4g}"


def _not_normal(config: Config, name: str, values: NDArray[np.float64]) -> Problems:
    """How far a tensor is from the normal distribution that it should be drawn from."""
    deviation = 0.02
    if name == "embedding":
        deviation = config.embed_dim**-0.75
    elif name.endswith("ff_out_weight"):
        deviation /= math.sqrt(2 * config.num_layers)
    n = values.size
    for what, got, wanted, error in (
        ("standard deviation", values.std(), deviation, deviation / math.sqrt(2 * n)),
        ("mean", values.mean(), 0.0, deviation / math.sqrt(n)),
    ):
        if abs(got - wanted) > DEVIATIONS * error:
            expected = f"expected {wanted:.4g}, tolerance {DEVIATIONS * error:.2g}"
            yield f"{name}: {what} {got:.4g}, {expected} ({describe(config)})"
    ranked = np.sort(values / (deviation * math.sqrt(2)))
    below = 0.5 * (1 + np.array([math.erf(value) for value in ranked]))
    steps = np.arange(n + 1) / n
    distance = math.sqrt(n) * max((steps[1:] - below).max(), (below - steps[:-1]).max())
    if distance > DISTANCE:
        yield f"{name} is not normal: Kolmogorov-Smirnov {distance:.2f}, at most {DISTANCE}"
