"""The order of operations: forward, backward and one token of the decoder.

Promises: this is the network of the specification, and the only one; training, evaluation and
generation all call it. Names of activations are those of `cllm.model.ACTIVATIONS`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cllm.config import Config
from cllm.reference.attention import attention_backward, attention_decode, attention_forward
from cllm.reference.embedding import embedding_backward, embedding_forward
from cllm.reference.gelu import gelu_backward, gelu_forward
from cllm.reference.lattice_attention import (
    lattice_attention_backward,
    lattice_attention_decode,
    lattice_attention_forward,
)
from cllm.reference.layernorm import layernorm_backward, layernorm_forward
from cllm.reference.linear import linear_backward, linear_forward
from cllm.reference.residual import residual_forward
from cllm.reference.symmetry import symmetry_backward, symmetry_forward
from cllm.reference.unembedding import unembedding_backward, unembedding_forward

Arrays = dict[str, NDArray[Any]]


def forward(p: Arrays, a: Arrays, config: Config) -> None:
    """From `tokens` to `logits`: parameters p by tensor name, buffers a by name."""
    embedding_forward(a["x0"], a["tokens"], p["embedding"], a["positions"])
    x = a["x0"]  # (B,T,D)
    for layer in range(config.num_layers):
        w, c = _of_layer(p, layer), _of_layer(a, layer)
        layernorm_forward(c["ln1"], c["ln1_mean"], c["ln1_rstd"], x, w["ln1_gain"], w["ln1_shift"])
        linear_forward(c["qkv"], c["ln1"], w["qkv_weight"], None)
        if config.lattice.symmetry:
            symmetry_forward(c["qkv"], a["tokens"], config.num_heads)
        if config.lattice.attention:
            lattice_attention_forward(
                c["attn"], c["attn_lse"], c["qkv"],
                a["tokens"], w["lattice_weight"], config.vocab_size,
            )  # fmt: skip
        else:
            attention_forward(c["attn"], c["attn_lse"], c["qkv"], config.num_heads)
        residual_forward(c["x_mid"], x, c["attn"])

        x = c["x_mid"]
        layernorm_forward(c["ln2"], c["ln2_mean"], c["ln2_rstd"], x, w["ln2_gain"], w["ln2_shift"])
        linear_forward(c["ff_in"], c["ln2"], w["ff_in_weight"], w["ff_in_bias"])
        gelu_forward(c["ff_act"], c["ff_in"])
        linear_forward(c["ff"], c["ff_act"], w["ff_out_weight"], w["ff_out_bias"])
        residual_forward(c["x_out"], x, c["ff"])
        x = c["x_out"]
    unembedding_forward(a["logits"], x, p["embedding"])


def backward(p: Arrays, g: Arrays, a: Arrays, dlogits: NDArray[Any], config: Config) -> None:
    """Add to the gradients g by tensor name; dlogits (B,T,V)."""
    inputs = [a["x0"]] + [a[f"layer{layer}.x_out"] for layer in range(config.num_layers)]
    dx = np.empty_like(a["x0"])  # (B,T,D), the gradient of the residual stream
    unembedding_backward(dx, g["embedding"], dlogits, inputs[-1], p["embedding"])
    for layer in reversed(range(config.num_layers)):
        w, d, c = _of_layer(p, layer), _of_layer(g, layer), _of_layer(a, layer)
        # x_out = x_mid + ff: dx is the gradient of both
        dact = np.empty_like(c["ff_act"])  # (B,T,F)
        dff_in = np.empty_like(c["ff_in"])  # (B,T,F)
        dln = np.empty_like(dx)  # (B,T,D)
        linear_backward(
            dact, d["ff_out_weight"], d["ff_out_bias"], dx, c["ff_act"], w["ff_out_weight"]
        )
        gelu_backward(dff_in, dact, c["ff_in"])
        linear_backward(
            dln, d["ff_in_weight"], d["ff_in_bias"], dff_in, c["ln2"], w["ff_in_weight"]
        )
        layernorm_backward(
            dx, d["ln2_gain"], d["ln2_shift"],
            dln, c["x_mid"], c["ln2_mean"], c["ln2_rstd"], w["ln2_gain"],
        )  # fmt: skip

        # x_mid = x + attn: dx is the gradient of both
        dqkv = np.empty_like(c["qkv"])  # (B,T,3D)
        if config.lattice.attention:
            lattice_attention_backward(
                dqkv, d["lattice_weight"], dx, c["qkv"], c["attn"], c["attn_lse"],
                a["tokens"], w["lattice_weight"], config.vocab_size,
            )  # fmt: skip
        else:
            attention_backward(dqkv, dx, c["qkv"], c["attn"], c["attn_lse"], config.num_heads)
        if config.lattice.symmetry:
            symmetry_backward(dqkv, a["tokens"], config.num_heads)
        linear_backward(dln, d["qkv_weight"], None, dqkv, c["ln1"], w["qkv_weight"])
        layernorm_backward(
            dx, d["ln1_gain"], d["ln1_shift"],
            dln, inputs[layer], c["ln1_mean"], c["ln1_rstd"], w["ln1_gain"],
        )  # fmt: skip
    embedding_backward(g["embedding"], dx, a["tokens"])


def decode(p: Arrays, a: Arrays, position: int, config: Config) -> None:
    """From the token at `position` of `window` and the cache to `next_logits` (V,).

    `forward` for one row of one token, with attention over the cache.
    """
    token = a["window"][None, position : position + 1]  # (1,1)
    embedding = p["embedding"]  # (V,D)
    heads = config.num_heads
    x = np.empty((1, 1, embedding.shape[1]), embedding.dtype)  # (1,1,D)
    embedding_forward(x, token, embedding, a["positions"][position:])
    normed, branch = np.empty_like(x), np.empty_like(x)  # (1,1,D)
    mean, rstd = np.empty_like(x[..., 0]), np.empty_like(x[..., 0])  # (1,1)
    qkv = np.empty((1, 1, 3 * x.shape[-1]), x.dtype)  # (1,1,3D)
    for layer in range(config.num_layers):
        w, c = _of_layer(p, layer), _of_layer(a, layer)
        layernorm_forward(normed, mean, rstd, x, w["ln1_gain"], w["ln1_shift"])
        linear_forward(qkv, normed, w["qkv_weight"], None)
        if config.lattice.symmetry:
            symmetry_forward(qkv, token, heads)
        if config.lattice.attention:
            lattice_attention_decode(
                branch[0, 0], c["keys"], c["values"], qkv[0, 0],
                position, a["window"], w["lattice_weight"], config.vocab_size,
            )  # fmt: skip
        else:
            attention_decode(branch[0, 0], c["keys"], c["values"], qkv[0, 0], position, heads)
        residual_forward(x, x, branch)

        hidden = np.empty((1, 1, w["ff_in_bias"].shape[0]), x.dtype)  # (1,1,F)
        layernorm_forward(normed, mean, rstd, x, w["ln2_gain"], w["ln2_shift"])
        linear_forward(hidden, normed, w["ff_in_weight"], w["ff_in_bias"])
        gelu_forward(hidden, hidden)
        linear_forward(branch, hidden, w["ff_out_weight"], w["ff_out_bias"])
        residual_forward(x, x, branch)
    unembedding_forward(a["next_logits"][None, None], x, embedding)


def _of_layer(arrays: Arrays, layer: int) -> Arrays:
    """The arrays of one layer, without the prefix."""
    prefix = f"layer{layer}."
    return {
        name.removeprefix(prefix): array
        for name, array in arrays.items()
        if name.startswith(prefix)
    }
