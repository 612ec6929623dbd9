"""Faults of fresh parameters."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from cllm.config import Config
from cllm.harness.faults.catalogue import Array, plant_parts
from cllm.lattice.parts import PLAIN
from cllm.layout import initialize, tensor_views


def _zeros(config: Config, generator: np.random.Generator) -> Array:
    parameters = initialize(config, generator)
    for view in tensor_views(config, parameters).values():
        if view.ndim > 1:
            view[...] = 0.0
    return parameters


def _zero_gains(config: Config, generator: np.random.Generator) -> Array:
    parameters = initialize(config, generator)
    for name, view in tensor_views(config, parameters).items():
        if name.endswith("gain"):
            view[...] = 0.0
    return parameters


def _plain_output(config: Config, generator: np.random.Generator) -> Array:
    parameters = initialize(config, generator)
    for name, view in tensor_views(config, parameters).items():
        if name.endswith("ff_out_weight"):
            view *= math.sqrt(2 * config.num_layers)
    return parameters


def _wide_embedding(config: Config, generator: np.random.Generator) -> Array:
    parameters = initialize(config, generator)
    tensor_views(config, parameters)["embedding"][...] *= config.embed_dim**0.25
    return parameters


def _uniform(config: Config, generator: np.random.Generator) -> Array:
    parameters = initialize(config, generator)
    for view in tensor_views(config, parameters).values():
        if view.ndim > 1:
            width = math.sqrt(3) * view.std()
            view[...] = generator.uniform(-width, width, view.shape)
    return parameters


def _same_layers(config: Config, generator: np.random.Generator) -> Array:
    parameters = initialize(config, generator)
    views = tensor_views(config, parameters)
    for name, view in views.items():
        if name.startswith("layer"):
            view[...] = views[f"layer0.{name.partition('.')[2]}"]
    return parameters


def _unseeded(config: Config, generator: np.random.Generator) -> Array:
    return initialize(config, np.random.default_rng())


def _one_seed(config: Config, generator: np.random.Generator) -> Array:
    return initialize(config, np.random.default_rng(0))


def _two_layers(config: Config, generator: np.random.Generator) -> Array:
    parameters = initialize(config, generator)
    for name, view in tensor_views(config, parameters).items():
        if name.endswith("ff_out_weight"):
            view *= math.sqrt(2 * config.num_layers) / 2
    return parameters


def _one_width(config: Config, generator: np.random.Generator) -> Array:
    parameters = initialize(config, generator)
    tensor_views(config, parameters)["embedding"][...] *= (config.embed_dim / 48) ** 0.75
    return parameters


def _zero_rows(config: Config, generator: np.random.Generator) -> Array:
    parameters = initialize(config, generator)
    if config.lattice.init:
        tensor_views(config, parameters)["embedding"][::6] = 0.0
    return parameters


def _no_lattice(config: Config, generator: np.random.Generator) -> Array:
    return initialize(replace(config, lattice=PLAIN), generator)


for _name, _story, _initialize in (
    ("ZeroWeights", "Zero-initialised weights through which no gradient flows", _zeros),
    ("ZeroGains", "LayerNorm gains of zero: nothing behind them learns", _zero_gains),
    ("OutputNotScaled", "W2 without its 1/sqrt(2L)", _plain_output),
    ("EmbeddingTooWide", "Embeddings of standard deviation D^(-1/2)", _wide_embedding),
    ("OutputForTwoLayers", "W2 scaled as for two layers, whatever L is", _two_layers),
    ("EmbeddingForOneWidth", "Embeddings of 48^(-3/4), whatever D is", _one_width),
    ("UniformWeights", "Uniform weights of the right standard deviation", _uniform),
    ("LayersAlike", "Every layer a copy of the first", _same_layers),
    (
        "ZeroRowsOnTheLattice",
        "On the lattice a sixth of the tokens starts at zero",
        _zero_rows,
    ),
    (
        "DrawnOffTheLattice",
        "The standard initialisation where the lattice has one",
        _no_lattice,
    ),
    ("NoSeed", "Weights that no seed decides", _unseeded),
    ("OneSeedForAll", "The same weights for every seed", _one_seed),
):
    plant_parts(_name, _story, "training.initialization", initialize=_initialize)


def _backwards(config: Config, generator: np.random.Generator) -> Array:
    parameters = np.zeros(config.num_parameters)
    fresh = tensor_views(config, initialize(config, generator))
    for name, view in tensor_views(config, parameters).items():
        view[...] = fresh[name][::-1]
    return parameters


plant_parts("DrawnBackwards", "Odd: weights drawn in another order", initialize=_backwards)
