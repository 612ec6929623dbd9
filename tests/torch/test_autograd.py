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
from torch.nn.functional import (
    cross_entropy,
    gelu,
    layer_norm,
    scaled_dot_product_attention,
    softplus,
)

from cllm import Config, Update
from cllm.harness.cases import draw_batches, draw_parameters
from cllm.lattice.features import lattice_positions
from cllm.lattice.parts import LOSS_WEIGHTS, Lattice
from cllm.positions import sinusoidal_positions
from cllm.reference import Model

Tensors = dict[str, torch.Tensor]


def network(p: Tensors, config: Config, tokens: torch.Tensor) -> torch.Tensor:
    """Logits by PyTorch's own operations."""
    batch, time = tokens.shape
    d, heads = config.embed_dim, config.num_heads
    positions = lattice_positions if config.lattice.positions else sinusoidal_positions
    x = math.sqrt(d) * p["embedding"][tokens] + torch.from_numpy(positions(time, d))
    later = torch.full((time, time), -math.inf, dtype=torch.float64).triu(1)
    for layer in range(config.num_layers):
        w = {
            name.partition(".")[2]: t for name, t in p.items() if name.startswith(f"layer{layer}.")
        }
        a = layer_norm(x, (d,), w["ln1_gain"], w["ln1_shift"], 1e-5)
        q, k, v = (
            third.view(batch, time, heads, d // heads).transpose(1, 2)
            for third in (a @ w["qkv_weight"]).split(d, -1)
        )
        if config.lattice.symmetry:
            q, k = (turned(each, tokens[:, None]) for each in (q, k))
        bias = later
        if config.lattice.attention:
            weights = softplus(w["lattice_weight"])  # (H,3)
            apart = distances(config.vocab_size)[:, tokens[:, :, None], tokens[:, None, :]]
            bias = later - torch.einsum("hd,dbij->bhij", weights, apart)
        attended = scaled_dot_product_attention(q, k, v, attn_mask=bias)
        x = x + attended.transpose(1, 2).reshape(batch, time, d)
        b = layer_norm(x, (d,), w["ln2_gain"], w["ln2_shift"], 1e-5)
        hidden = gelu(b @ w["ff_in_weight"] + w["ff_in_bias"], approximate="tanh")
        x = x + hidden @ w["ff_out_weight"] + w["ff_out_bias"]
    return x @ p["embedding"].T


def turned(x: torch.Tensor, g: torch.Tensor | int) -> torch.Tensor:
    """Pairs of coordinates as complex numbers, times exp(2 pi i g / 12)."""
    width = x.shape[-1] // 2 * 2
    if width == 0:
        return x
    pairs = torch.view_as_complex(x[..., :width].reshape(*x.shape[:-1], -1, 2).contiguous())
    angle = torch.as_tensor(g, dtype=torch.float64)[..., None] * (2 * math.pi / 12)
    around = torch.view_as_real(pairs * torch.polar(torch.ones_like(angle), angle)).flatten(-2)
    return torch.cat([around, x[..., width:]], -1)


def places(vocab_size: int) -> np.ndarray:
    """The spiral, of primes that are found by division."""
    primes = [n for n in range(2, 1000) if all(n % p for p in range(2, math.isqrt(n) + 1))]
    golden = (1 + math.sqrt(5)) / 2
    return np.array(
        [
            (
                math.sqrt(i) * math.cos(2 * math.pi * i / golden**2),
                math.sqrt(i) * math.sin(2 * math.pi * i / golden**2),
                math.log(primes[i] + 1),
            )
            for i in range(vocab_size)
        ]
    )


def distances(vocab_size: int) -> torch.Tensor:
    """(3,V,V), each over its mean, pair by pair."""
    place, found = places(vocab_size), np.zeros((3, vocab_size, vocab_size))
    for i in range(vocab_size):
        for j in range(vocab_size):
            n, m, way = i + 1, j + 1, (i - j) % 12
            found[0, i, j] = math.dist(place[i], place[j])
            found[1, i, j] = math.log(math.lcm(n, m) / math.gcd(n, m))
            found[2, i, j] = min(way, 12 - way)
    pairs = max(1, vocab_size * (vocab_size - 1))
    found[0] /= math.sqrt((found[0] ** 2).sum() / pairs) or 1.0
    found[1:] /= (found[1:].sum((1, 2)) / pairs).reshape(2, 1, 1) if vocab_size > 1 else 1.0
    return torch.from_numpy(found)


def lattice_loss(e: torch.Tensor, config: Config) -> torch.Tensor:
    """The weighted sum of the terms, pair by pair."""
    size = e.square().sum(1).mean()
    vocab_size, place = len(e), places(len(e))
    apart = np.array([[math.dist(a, b) for b in place] for a in place])
    near = np.argsort(apart + np.diag([np.inf] * vocab_size), 1)[:, : min(8, vocab_size - 1)]
    squares = np.take_along_axis(apart, near, 1) ** 2
    nearness = torch.from_numpy(np.exp(-squares / squares.mean()))
    total = config.lattice.loss_weights[0] * (
        (nearness * (e[:, None] - e[near]).square().sum(-1)).mean() / size
    )
    heads = e.view(vocab_size, config.num_heads, -1)
    orbit = [
        (turned(heads[i], 1) - heads[i - 11 if i % 12 == 11 else i + 1]).square().sum()
        for i in range(vocab_size // 12 * 12)
    ]
    if orbit:
        total = total + config.lattice.loss_weights[1] * torch.stack(orbit).mean() / size
    rests = []
    for n in range(2, vocab_size + 1):
        rest, product, divisor = n, torch.zeros_like(e[0]), 2
        while rest > 1:
            if rest % divisor:
                divisor += 1
            else:
                rest //= divisor
                product = product + e[divisor - 1]
        if divisor != n:
            rests.append((e[n - 1] - product).square().sum())
    if rests:
        total = total + config.lattice.loss_weights[2] * torch.stack(rests).mean() / size
    return total


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
    if config.lattice.loss:
        wanted = wanted + lattice_loss(p["embedding"], config)
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


@settings(max_examples=30, deadline=None)
@given(
    heads=st.integers(1, 4), width=st.integers(1, 9), v=st.integers(2, 40),
    layers=st.integers(1, 2), batch=st.integers(1, 3), time=st.integers(1, 20),
    part=st.sampled_from(["attention", "symmetry", "loss", "positions", "all"]),
    seed=st.integers(0, 2**32),
)  # fmt: skip
def test_gradients_on_the_lattice_equal_autograd(
    heads: int, width: int, v: int, layers: int, batch: int, time: int, part: str, seed: int
) -> None:
    weights = (0.5, 0.3, 0.2) if part in ("loss", "all") else LOSS_WEIGHTS
    config = Config(v, heads * width, layers, heads, 5, lattice=Lattice.of([part], weights))
    assert_equals_autograd(config, batch, time, seed)


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
