"""Where each tensor lies in the one vector of parameters.

Promises: one order for parameters, gradients and both Adam moments (E; then layer by layer Wqkv,
W1, b1, W2, b2, LN1 gain and shift, LN2 gain and shift, and the weights of the lattice's distances
where its attention is on), no padding, no overlap, no gap.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cllm.config import Config
from cllm.lattice.features import lattice_embedding

LAYER_TENSORS = (
    ("qkv_weight", "D", "3D"),
    ("ff_in_weight", "D", "F"),
    ("ff_in_bias", "F"),
    ("ff_out_weight", "F", "D"),
    ("ff_out_bias", "D"),
    ("ln1_gain", "D"),
    ("ln1_shift", "D"),
    ("ln2_gain", "D"),
    ("ln2_shift", "D"),
)
"""Name and shape of the tensors of one layer, in their order."""

LATTICE_TENSORS = (("lattice_weight", "H", "3"),)
"""Those that each layer has at its end where attention is on the lattice."""

LATTICE_START = -4.0
"""The weights' first value: softplus(-4) = 0.018, so that attention starts nearly plain."""


def layer_tensors(config: Config) -> tuple[tuple[str, ...], ...]:
    """Name and axes of each tensor of a layer, in their order."""
    return LAYER_TENSORS + (LATTICE_TENSORS if config.lattice.attention else ())


def tensor_shapes(config: Config) -> dict[str, tuple[int, ...]]:
    """Shape of every parameter tensor by name (`embedding`, `layer0.qkv_weight`, ...), in order."""
    d, f = config.embed_dim, config.ff_dim
    sizes = {"D": d, "3D": 3 * d, "F": f, "H": config.num_heads, "3": 3}
    shapes: dict[str, tuple[int, ...]] = {"embedding": (config.vocab_size, d)}
    for layer in range(config.num_layers):
        for name, *axes in layer_tensors(config):
            shapes[f"layer{layer}.{name}"] = tuple(sizes[axis] for axis in axes)
    return shapes


def tensor_views(config: Config, vector: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """Views of a vector (P,) by tensor name; writing to a view writes to the vector."""
    if vector.shape != (config.num_parameters,):
        raise ValueError(
            f"the vector must have shape ({config.num_parameters},): got {vector.shape}"
        )
    views: dict[str, NDArray[Any]] = {}
    start = 0
    for name, shape in tensor_shapes(config).items():
        stop = start + math.prod(shape)
        views[name] = vector[start:stop].reshape(shape)
        start = stop
    return views


def initialize(config: Config, generator: np.random.Generator) -> NDArray[np.float64]:
    """Fresh parameters (P,) float64.

    E is normal with standard deviation D^(-3/4): the logit of a token for itself is then about 1
    and the first loss about ln V; or `lattice_embedding`, of the same norm, where the lattice has
    `init`. The matrices have 0.02, those that write into the residual stream 0.02/sqrt(2L) (Radford
    et al. 2019), gains 1, shifts and biases 0, weights of the lattice's distances `LATTICE_START`.
    """
    parameters = np.zeros(config.num_parameters)
    for name, view in tensor_views(config, parameters).items():
        if name == "embedding" and config.lattice.init:
            view[...] = lattice_embedding(config.vocab_size, config.embed_dim, generator)
        elif name == "embedding":
            view[...] = generator.normal(0.0, config.embed_dim**-0.75, view.shape)
        elif name.endswith("lattice_weight"):
            view[...] = LATTICE_START
        elif name.endswith("ff_out_weight"):
            view[...] = generator.normal(0.0, 0.02 / math.sqrt(2 * config.num_layers), view.shape)
        elif name.endswith("weight"):
            view[...] = generator.normal(0.0, 0.02, view.shape)
        elif name.endswith("gain"):
            view[...] = 1.0
    return parameters
