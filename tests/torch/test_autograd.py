"""The reference against PyTorch: its gradients in float64 against autograd of the same network.

Not part of the plain test run: PyTorch is needed, and has a tox environment of its own.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy, gelu, layer_norm, scaled_dot_product_attention

from cllm import Config, Update
from cllm.harness.cases import draw_batches, draw_parameters
from cllm.positions import sinusoidal_positions
from cllm.reference import Model

Tensors = dict[str, torch.Tensor]


def network(p: Tensors, config: Config, tokens: torch.Tensor) -> torch.Tensor:
    """Logits by PyTorch's own operations."""
    batch, time = tokens.shape
    d, heads = config.embed_dim, config.num_heads
    x = math.sqrt(d) * p["embedding"][tokens] + torch.from_numpy(sinusoidal_positions(time, d))
    for layer in range(config.num_layers):
        w = {
            name.partition(".")[2]: t for name, t in p.items() if name.startswith(f"layer{layer}.")
        }
        a = layer_norm(x, (d,), w["ln1_gain"], w["ln1_shift"], 1e-5)
        q, k, v = (
            third.view(batch, time, heads, d // heads).transpose(1, 2)
            for third in (a @ w["qkv_weight"]).split(d, -1)
        )
        attended = scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + attended.transpose(1, 2).reshape(batch, time, d)
        b = layer_norm(x, (d,), w["ln2_gain"], w["ln2_shift"], 1e-5)
        hidden = gelu(b @ w["ff_in_weight"] + w["ff_in_bias"], approximate="tanh")
        x = x + hidden @ w["ff_out_weight"] + w["ff_out_bias"]
    return x @ p["embedding"].T


def leaves(model: Model) -> Tensors:
    return {name: torch.tensor(view, requires_grad=True) for name, view in model.tensors().items()}


def assert_equals_autograd(config: Config, batch: int, time: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    parameters = draw_parameters(config, generator)
    tokens, targets = (ids[0] for ids in draw_batches(config, generator, 1, batch, time))
    model = Model.create(config, batch, time, parameters, dtype=np.float64)
    model.forward(tokens)
    loss = model.loss(targets)
    model.backward()
    p = leaves(model)
    wanted = cross_entropy(
        network(p, config, torch.tensor(tokens, dtype=torch.long)).flatten(0, 1),
        torch.tensor(targets, dtype=torch.long).flatten(),
        ignore_index=-1,
    )
    wanted.backward()
    assert loss == pytest.approx(wanted.item(), rel=1e-12)
    gradients = {name: tensor.grad.numpy() for name, tensor in p.items()}
    largest_of_all = max(np.abs(gradient).max() for gradient in gradients.values())
    for name, view in model.tensors("gradients").items():
        scale = np.abs(gradients[name]).max() if config.embed_dim >= 4 else largest_of_all
        assert np.abs(view - gradients[name]).max() <= 1e-10 * scale, name


@settings(max_examples=50, deadline=None)
@given(
    heads=st.integers(1, 4), width=st.integers(1, 9), v=st.integers(2, 40),
    layers=st.integers(1, 3), f=st.integers(1, 20), batch=st.integers(1, 4),
    time=st.integers(1, 20), seed=st.integers(0, 2**32),
)  # fmt: skip
def test_gradients_equal_autograd(
    heads: int, width: int, v: int, layers: int, f: int, batch: int, time: int, seed: int
) -> None:
    assert_equals_autograd(Config(v, heads * width, layers, heads, f), batch, time, seed)


def test_gradients_equal_autograd_at_the_small_configuration() -> None:
    assert_equals_autograd(Config(381, 64, 2, 4, 128), 4, 16, seed=0)


@pytest.mark.parametrize(("decay", "clip"), [(0.0, None), (0.1, None), (0.1, 0.5)])
def test_updates_equal_torch_adamw(decay: float, clip: float | None) -> None:
    config = Config(11, 8, 2, 2, 12)
    generator = np.random.default_rng(3)
    model = Model.create(config, 2, 5, draw_parameters(config, generator), dtype=np.float64)
    p = leaves(model)
    optimizer = torch.optim.AdamW(p.values(), lr=0.01, weight_decay=decay)
    tokens, targets = draw_batches(config, generator, 10, 2, 5)
    for step, (batch, goal) in enumerate(zip(tokens, targets, strict=True), start=1):
        model.step(batch, goal, Update(step, 0.01, weight_decay=decay, clip=clip))
        optimizer.zero_grad()
        cross_entropy(
            network(p, config, torch.tensor(batch, dtype=torch.long)).flatten(0, 1),
            torch.tensor(goal, dtype=torch.long).flatten(),
            ignore_index=-1,
        ).backward()
        if clip is not None:
            torch.nn.utils.clip_grad_norm_(p.values(), clip)
        optimizer.step()
    # PyTorch divides by norm + 1e-6 where clipping acts: the only difference that is allowed.
    rel = 1e-5 if clip else 1e-9
    for name, view in model.tensors().items():
        assert view == pytest.approx(p[name].detach().numpy(), rel=rel, abs=rel), name
