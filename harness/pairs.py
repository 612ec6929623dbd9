"""The operations that both models have, as data: what each takes, writes and adds to.

Promises: every public function of `cllm.reference` stands here, with the shape of each argument
in the letters of the equations; arguments can be drawn for any sizes. Tests hold the optimized
function against the reference's from this table alone.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

Sizes = Mapping[str, int]


@dataclass(frozen=True)
class Pair:
    """A function of `cllm.reference` and its namesake in `cllm.optimized`.

    Shapes are strings of the letters B T D H F V K M, with 3 before a letter for three times it.
    """

    module: str
    function: str
    writes: Mapping[str, str] = field(default_factory=dict)
    """Outputs that are overwritten."""
    adds: Mapping[str, str] = field(default_factory=dict)
    """Outputs that are added to."""
    reads: Mapping[str, str] = field(default_factory=dict)
    """Float inputs, drawn from a normal distribution."""
    ids: Mapping[str, str] = field(default_factory=dict)
    """Integer inputs in 0..V-1; `targets` has a few -1 among them."""
    scalars: Mapping[str, Any] = field(default_factory=dict)
    """Numbers; a letter stands for its size."""
    after: str = ""
    """The forward function that computes those `reads` which are its outputs."""
    returns: str = ""
    """What the return value is called, where there is one."""

    def find(self, room: str) -> Callable[..., Any]:
        """The function in `reference` or `optimized`."""
        found: Callable[..., Any] = getattr(
            importlib.import_module(f"cllm.{room}.{self.module}"), self.function
        )
        return found

    def draw(self, sizes: Sizes, generator: np.random.Generator) -> dict[str, Any]:
        """Arguments by name, in float64: outputs of random content, inputs of unit scale."""
        arguments: dict[str, Any] = {}
        for name, axes in {**self.writes, **self.adds, **self.reads}.items():
            values = generator.standard_normal(shape_of(axes, sizes))
            arguments[name] = np.abs(values) if name == "second_moment" else values
        for name, axes in self.ids.items():
            drawn = generator.integers(0, sizes["V"], shape_of(axes, sizes), np.int32)
            if name == "targets":
                drawn[generator.random(drawn.shape) < 0.2] = -1
            arguments[name] = drawn
        for name, value in self.scalars.items():
            arguments[name] = sizes[value] if isinstance(value, str) else value
        if self.after:
            self._compute_reads(arguments, sizes)
        return arguments

    def run(self, room: str, arguments: Mapping[str, Any], dtype: DTypeLike, **more: Any) -> Any:
        """Call on copies of the arguments in `dtype`; the outputs by name."""
        given = {
            name: value.astype(dtype)
            if isinstance(value, np.ndarray) and value.dtype.kind == "f"
            else value
            for name, value in arguments.items()
        }
        returned = self.find(room)(**given, **more)
        outputs: dict[str, NDArray[Any]] = {
            name: given[name] for name in (*self.writes, *self.adds) if given[name] is not None
        }
        return {**outputs, self.returns: np.asarray(returned)} if self.returns else outputs

    def _compute_reads(self, arguments: dict[str, Any], sizes: Sizes) -> None:
        """Make the reads that are outputs of `after` what it computes from the others."""
        forward = next(pair for pair in PAIRS if pair.function == self.after)
        shapes = {**forward.writes, **forward.reads}
        given = {
            name: arguments[name] if name in arguments else np.zeros(shape_of(shapes[name], sizes))
            for name in inspect.signature(forward.find("reference")).parameters
        }
        forward.find("reference")(**given)
        arguments |= {name: given[name] for name in forward.writes if name in self.reads}


def shape_of(axes: str, sizes: Sizes) -> tuple[int, ...]:
    """The shape that axes such as "BT3D" have for these sizes."""
    shape, times = [], 1
    for letter in axes:
        if letter.isdigit():
            times = int(letter)
        else:
            shape.append(times * sizes[letter])
            times = 1
    return tuple(shape)


_ADAM = {
    "step": 3, "learning_rate": 1e-2, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8,
    "weight_decay": 0.1, "scale": 0.7,
}  # fmt: skip

PAIRS = (
    Pair("embedding", "embedding_forward",
         writes={"out": "BTD"}, reads={"weight": "VD", "positions": "TD"}, ids={"tokens": "BT"}),
    Pair("embedding", "embedding_backward",
         adds={"dweight": "VD"}, reads={"dout": "BTD"}, ids={"tokens": "BT"}),
    Pair("layernorm", "layernorm_forward",
         writes={"out": "BTD", "mean": "BT", "rstd": "BT"},
         reads={"x": "BTD", "gain": "D", "shift": "D"}),
    Pair("layernorm", "layernorm_backward",
         adds={"dx": "BTD", "dgain": "D", "dshift": "D"},
         reads={"dout": "BTD", "x": "BTD", "mean": "BT", "rstd": "BT", "gain": "D"},
         after="layernorm_forward"),
    Pair("linear", "linear_forward",
         writes={"out": "BTM"}, reads={"x": "BTK", "weight": "KM", "bias": "M"}),
    Pair("linear", "linear_forward",
         writes={"out": "BTM"}, reads={"x": "BTK", "weight": "KM"}, scalars={"bias": None}),
    Pair("linear", "linear_backward",
         writes={"dx": "BTK"}, adds={"dweight": "KM", "dbias": "M"},
         reads={"dout": "BTM", "x": "BTK", "weight": "KM"}),
    Pair("linear", "linear_backward",
         writes={"dx": "BTK"}, adds={"dweight": "KM"},
         reads={"dout": "BTM", "x": "BTK", "weight": "KM"}, scalars={"dbias": None}),
    Pair("attention", "attention_forward",
         writes={"out": "BTD", "lse": "BHT"}, reads={"qkv": "BT3D"}, scalars={"num_heads": "H"}),
    Pair("attention", "attention_backward",
         writes={"dqkv": "BT3D"},
         reads={"dout": "BTD", "qkv": "BT3D", "out": "BTD", "lse": "BHT"},
         scalars={"num_heads": "H"}, after="attention_forward"),
    Pair("attention", "attention_decode",
         writes={"out": "D"}, adds={"keys": "TD", "values": "TD"}, reads={"qkv": "3D"},
         scalars={"num_heads": "H", "position": "P"}),
    Pair("residual", "residual_forward",
         writes={"out": "BTD"}, reads={"x": "BTD", "branch": "BTD"}),
    Pair("gelu", "gelu_forward", writes={"out": "BTF"}, reads={"x": "BTF"}),
    Pair("gelu", "gelu_backward", writes={"dx": "BTF"}, reads={"dout": "BTF", "x": "BTF"}),
    Pair("unembedding", "unembedding_forward",
         writes={"logits": "BTV"}, reads={"x": "BTD", "weight": "VD"}),
    Pair("unembedding", "unembedding_backward",
         writes={"dx": "BTD"}, adds={"dweight": "VD"},
         reads={"dlogits": "BTV", "x": "BTD", "weight": "VD"}),
    Pair("cross_entropy", "cross_entropy_forward",
         writes={"losses": "BT"}, reads={"logits": "BTV"}, ids={"targets": "BT"}),
    Pair("cross_entropy", "cross_entropy_backward",
         writes={"dlogits": "BTV"}, reads={"logits": "BTV"}, ids={"targets": "BT"},
         scalars={"divisor": 2.5}),
    Pair("adam", "adam_update",
         adds={"parameters": "V", "first_moment": "V", "second_moment": "V"},
         reads={"gradients": "V"}, scalars=_ADAM),
    Pair("adam", "global_norm", reads={"gradients": "V"}, returns="norm"),
    Pair("adam", "clip_scale", scalars={"norm": 2.5, "clip": 0.7}, returns="scale"),
    Pair("adam", "clip_scale", scalars={"norm": 2.5, "clip": None}, returns="scale"),
    Pair("sampling", "sample", reads={"logits": "V"}, returns="token",
         scalars={"temperature": 0.8, "top_k": None, "top_p": 0.9, "uniform": 0.37}),
    Pair("sampling", "sample", reads={"logits": "V"}, returns="token",
         scalars={"temperature": 1.3, "top_k": 3, "top_p": 1.0, "uniform": 0.73}),
)  # fmt: skip
