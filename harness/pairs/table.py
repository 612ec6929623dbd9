"""The operations that both models have, as data: what each takes, writes and adds to.

Promises: every public function of `cllm.reference` stands here, with the shape of each argument
in the letters of the equations (K and M are the two sides of a linear layer, P is a position).
Tests and benchmarks hold the optimized function against the reference's from this table alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from cllm.harness.pairs.pair import Arguments, Pair, Sizes

CASES = (
    {"B": 1, "T": 1, "D": 4, "H": 1, "F": 1, "V": 2, "K": 1, "M": 1, "P": 0},
    {"B": 2, "T": 5, "D": 6, "H": 3, "F": 9, "V": 11, "K": 7, "M": 5, "P": 3},
    {"B": 3, "T": 17, "D": 15, "H": 15, "F": 31, "V": 65, "K": 33, "M": 100, "P": 16},
    {"B": 2, "T": 33, "D": 64, "H": 2, "F": 128, "V": 381, "K": 300, "M": 49, "P": 20},
    {"B": 1, "T": 40, "D": 130, "H": 1, "F": 257, "V": 2_003, "K": 513, "M": 3, "P": 39},
)

COMPOSITES = {"V": 90, "D": 6, "H": 2}
"""64 composites and one: a block of the sum and the first of another."""

DEEP = {"B": 2, "T": 280, "D": 132, "H": 1, "F": 1, "V": 135, "K": 130, "M": 131, "P": 0}
"""More tokens than a product takes at once, and sides wide enough to be gathered."""

LONG = {"B": 1, "T": 135, "D": 6, "H": 2, "F": 1, "V": 2, "K": 1, "M": 1, "P": 134}
"""More queries than attention takes at once."""

VECTORS = ({"V": 1}, {"V": 65}, {"V": 1_000}, {"V": 10_007})
"""Of parameters, gradients and logits."""

ANY_ID = 2**31 - 1
"""Behind the last id of the largest vocabulary."""

LARGE = {"B": 1, "T": 6, "D": 130, "V": 2**25 + 3}
"""An embedding of 4.4e9 elements: indices pass 2^31, 2^32 and, in bytes, 2^34."""


def of_both(module: str, function: str, **more: Any) -> Pair:
    """A function of `cllm.reference` and its namesake in `cllm.optimized`."""
    reference, candidate = (
        f"cllm.{room}.{module}:{function}" for room in ("reference", "optimized")
    )
    return Pair(reference, candidate, **{"cases": CASES, **more})


def _whole_heads(sizes: Sizes) -> bool:
    return sizes["D"] % sizes["H"] == 0


def _wide_rows(sizes: Sizes) -> bool:
    """Narrower rows leave nothing but rounding of some gradients."""
    return sizes["D"] >= 4


def _squares(arguments: Arguments, generator: np.random.Generator) -> None:
    """The second moment is a mean of squares."""
    arguments["second_moment"] = np.abs(arguments["second_moment"])


def _beside_a_boundary(arguments: Arguments, generator: np.random.Generator) -> None:
    """The number falls just before or behind where the share of some token ends."""
    logits = arguments["logits"].astype(np.float64) / arguments["temperature"]
    shares = np.cumsum(np.exp(logits - logits.max()))
    inner = shares[shares < shares[-1]] / shares[-1]
    if len(inner):
        boundary = generator.choice(inner)
        arguments["uniform"] = float(boundary + generator.choice((-1.0, 1.0)) * 1e-10 * boundary)


_ADAM = {
    "step": 3, "learning_rate": 1e-2, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8,
    "weight_decay": 0.1, "scale": 0.7,
}  # fmt: skip

_LAYERNORM = of_both("layernorm", "layernorm_forward",
         writes={"out": "BTD", "mean": "BT", "rstd": "BT"},
         reads={"x": "BTD", "gain": "D", "shift": "D"}, valid=_wide_rows)  # fmt: skip
_ATTENTION = of_both("attention", "attention_forward",
         writes={"out": "BTD", "lse": "BHT"}, reads={"qkv": "BT3D"}, scalars={"num_heads": "H"},
         valid=_whole_heads, cases=(*CASES, LONG))  # fmt: skip
_LATTICE_ATTENTION = of_both("lattice_attention", "lattice_attention_forward",
         writes={"out": "BTD", "lse": "BHT"}, reads={"qkv": "BT3D", "weight": "H3"},
         ids={"tokens": ("BT", 0, "V")}, scalars={"vocab_size": "V"}, valid=_whole_heads,
         cases=(*CASES, LONG))  # fmt: skip
_LATTICE_LOSS = of_both("lattice_loss", "lattice_loss_forward",
         writes={"terms": "4"}, reads={"embedding": "VD"}, scalars={"num_heads": "H"},
         dtypes={"terms": "float64"}, valid=_whole_heads, cases=(*CASES, COMPOSITES))  # fmt: skip

PAIRS = (
    of_both("embedding", "embedding_forward",
         writes={"out": "BTD"}, reads={"weight": "VD", "positions": "TD"},
         ids={"tokens": ("BT", 0, "V")}, large=LARGE),
    of_both("embedding", "embedding_backward",
         adds={"dweight": "VD"}, reads={"dout": "BTD"}, ids={"tokens": ("BT", 0, "V")},
         large=LARGE),
    _LAYERNORM,
    of_both("layernorm", "layernorm_backward",
         adds={"dx": "BTD", "dgain": "D", "dshift": "D"},
         reads={"dout": "BTD", "x": "BTD", "mean": "BT", "rstd": "BT", "gain": "D"},
         after=_LAYERNORM, valid=_wide_rows),
    of_both("linear", "linear_forward",
         writes={"out": "BTM"}, reads={"x": "BTK", "weight": "KM", "bias": "M"}),
    of_both("linear", "linear_forward",
         writes={"out": "BTM"}, reads={"x": "BTK", "weight": "KM"}, scalars={"bias": None}),
    of_both("linear", "linear_backward",
         writes={"dx": "BTK"}, adds={"dweight": "KM", "dbias": "M"},
         reads={"dout": "BTM", "x": "BTK", "weight": "KM"}, cases=(*CASES, DEEP)),
    of_both("linear", "linear_backward",
         writes={"dx": "BTK"}, adds={"dweight": "KM"},
         reads={"dout": "BTM", "x": "BTK", "weight": "KM"}, scalars={"dbias": None}),
    _ATTENTION,
    of_both("attention", "attention_backward",
         writes={"dqkv": "BT3D"},
         reads={"dout": "BTD", "qkv": "BT3D", "out": "BTD", "lse": "BHT"},
         scalars={"num_heads": "H"}, after=_ATTENTION, valid=_whole_heads, cases=(*CASES, LONG)),
    of_both("attention", "attention_decode",
         writes={"out": "D"}, adds={"keys": "TD", "values": "TD"}, reads={"qkv": "3D"},
         scalars={"num_heads": "H", "position": "P"}, cases=(*CASES, LONG),
         valid=lambda sizes: _whole_heads(sizes) and sizes["P"] < sizes["T"]),
    _LATTICE_ATTENTION,
    of_both("lattice_attention", "lattice_attention_backward",
         writes={"dqkv": "BT3D"}, adds={"dweight": "H3"},
         reads={"dout": "BTD", "qkv": "BT3D", "out": "BTD", "lse": "BHT", "weight": "H3"},
         ids={"tokens": ("BT", 0, "V")}, scalars={"vocab_size": "V"}, after=_LATTICE_ATTENTION,
         valid=_whole_heads, cases=(*CASES, LONG)),
    of_both("lattice_attention", "lattice_attention_decode",
         writes={"out": "D"}, adds={"keys": "TD", "values": "TD"},
         reads={"qkv": "3D", "weight": "H3"}, ids={"window": ("T", 0, "V")},
         scalars={"vocab_size": "V", "position": "P"}, cases=(*CASES, LONG),
         valid=lambda sizes: _whole_heads(sizes) and sizes["P"] < sizes["T"]),
    _LATTICE_LOSS,
    of_both("lattice_loss", "lattice_loss_backward",
         adds={"dembedding": "VD"}, reads={"terms": "4", "embedding": "VD"},
         scalars={"weights": (0.3, 0.2, 0.1), "num_heads": "H", "part": 0.7},
         dtypes={"terms": "float64"}, after=_LATTICE_LOSS, valid=_whole_heads),
    of_both("symmetry", "symmetry_forward",
         adds={"qkv": "BT3D"}, ids={"tokens": ("BT", 0, ANY_ID)}, scalars={"num_heads": "H"},
         valid=_whole_heads),
    of_both("symmetry", "symmetry_backward",
         adds={"dqkv": "BT3D"}, ids={"tokens": ("BT", 0, ANY_ID)}, scalars={"num_heads": "H"},
         valid=_whole_heads),
    of_both("residual", "residual_forward",
         writes={"out": "BTD"}, reads={"x": "BTD", "branch": "BTD"}),
    of_both("gelu", "gelu_forward", writes={"out": "BTF"}, reads={"x": "BTF"}),
    of_both("gelu", "gelu_backward", writes={"dx": "BTF"}, reads={"dout": "BTF", "x": "BTF"}),
    of_both("unembedding", "unembedding_forward",
         writes={"logits": "BTV"}, reads={"x": "BTD", "weight": "VD"}),
    of_both("unembedding", "unembedding_backward",
         writes={"dx": "BTD"}, adds={"dweight": "VD"},
         reads={"dlogits": "BTV", "x": "BTD", "weight": "VD"}, cases=(*CASES, DEEP)),
    of_both("cross_entropy", "cross_entropy_forward",
         writes={"losses": "BT"}, reads={"logits": "BTV"}, ids={"targets": ("BT", -1, "V")}),
    of_both("cross_entropy", "cross_entropy_backward",
         writes={"dlogits": "BTV"}, reads={"logits": "BTV"}, ids={"targets": ("BT", -1, "V")},
         scalars={"divisor": 2.5}, in_place={"dlogits": "logits"}),
    of_both("adam", "adam_update",
         adds={"parameters": "V", "first_moment": "V", "second_moment": "V"},
         reads={"gradients": "V"}, scalars=_ADAM, adjust=_squares,
         cases=VECTORS),
    of_both("adam", "global_norm", reads={"gradients": "V"}, returns="norm", cases=VECTORS),
    of_both("adam", "clip_scale", scalars={"norm": 2.5, "clip": 0.7}, returns="scale"),
    of_both("adam", "clip_scale", scalars={"norm": 2.5, "clip": None}, returns="scale"),
    of_both("sampling", "sample", reads={"logits": "V"}, returns="token",
         scalars={"temperature": 0.8, "top_k": None, "top_p": 0.9, "uniform": 0.37}),
    of_both("sampling", "sample", reads={"logits": "V"}, returns="token",
         scalars={"temperature": 1.3, "top_k": 3, "top_p": 1.0, "uniform": 0.73}),
    of_both("sampling", "sample", reads={"logits": "V"}, returns="token",
         scalars={"temperature": 1.3, "top_k": 1, "top_p": 1.0, "uniform": 0.99}),
    of_both("sampling", "sample", reads={"logits": "V"}, returns="token", cases=VECTORS,
         scalars={"temperature": 1.3, "top_k": 20_000, "top_p": 1.0, "uniform": 0.5}),
    of_both("sampling", "sample", reads={"logits": "V"}, returns="token", cases=VECTORS,
         scalars={"temperature": 1.3, "top_k": None, "top_p": 1.0, "uniform": 0.5},
         adjust=_beside_a_boundary, bound=0.0),
)  # fmt: skip
