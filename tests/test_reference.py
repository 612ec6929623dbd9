"""The specification: its hand-written gradients against the complex step, and its equations."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cllm import Config, Sampling, Update
from cllm.harness.cases import draw_batches, draw_parameters
from cllm.lattice.parts import Lattice
from cllm.reference import Model
from cllm.reference.attention import attention_forward
from cllm.reference.gelu import gelu_forward
from cllm.reference.sampling import sample

COMPLEX_STEP = 1e-30

ALL = Lattice.of(["all"])


@st.composite
def shapes(draw: st.DrawFn) -> tuple[Config, int, int, int]:
    """Configurations with T 1, B 1, H = D and odd widths among them; and a seed."""
    heads = draw(st.integers(1, 4))
    width = draw(st.integers(1, 3))
    config = Config(
        draw(st.integers(2, 7)), heads * width, draw(st.integers(1, 2)), heads,
        draw(st.integers(1, 5)),
    )  # fmt: skip
    return config, draw(st.integers(1, 3)), draw(st.integers(1, 4)), draw(st.integers(0, 2**32))


def complex_step_gradient(
    config: Config,
    parameters: NDArray[np.float64],
    tokens: NDArray[np.int32],
    targets: NDArray[np.int32],
    divisor: float | None,
) -> NDArray[np.float64]:
    """Im loss(p + ih) / h for every parameter (Squire & Trapp 1998): no subtraction, so exact."""
    model = Model.create(
        config, *tokens.shape, parameters, operations=["evaluation"], dtype=np.complex128
    )
    gradient = np.empty(len(parameters))
    for i, value in enumerate(parameters):
        model.parameters[i] = complex(value, COMPLEX_STEP)
        model.forward(tokens)
        gradient[i] = np.imag(model.loss(targets, divisor)) / COMPLEX_STEP
        model.parameters[i] = value
    return gradient


def draw_batch(config: Config, batch: int, time: int, seed: int) -> tuple[NDArray[Any], ...]:
    """Parameters, tokens and targets."""
    generator = np.random.default_rng(seed)
    parameters = draw_parameters(config, generator)
    return parameters, *(ids[0] for ids in draw_batches(config, generator, 1, batch, time))


def has_power(config: Config, batch: int, time: int, seed: int) -> bool:
    """Whether each tensor's gradient is well above the rounding of what it is the difference of.

    A prediction that is nearly certain, for one, has the gradient p - 1 of a p near 1.
    """
    parameters, tokens, targets = draw_batch(config, batch, time, seed)
    model = Model.create(config, batch, time, parameters, dtype=np.float64)
    model.forward(tokens)
    model.loss(targets)
    model.backward()
    sizes = [np.abs(view).max() for view in model.tensors("gradients").values()]
    # Below a width of 4 all are held to the largest.
    return bool((min(sizes) if config.embed_dim >= 4 else max(sizes)) > 1e-3)


def assert_gradients_are_exact(
    config: Config, batch: int, time: int, seed: int, divisor: float | None = None
) -> None:
    parameters, tokens, targets = draw_batch(config, batch, time, seed)
    model = Model.create(config, batch, time, parameters, dtype=np.float64)
    model.forward(tokens)
    model.loss(targets, divisor)
    model.backward()
    exact = complex_step_gradient(config, parameters, tokens, targets, divisor)
    largest_of_all = np.abs(exact).max()
    vector = model.gradients.copy()
    model.gradients[...] = exact
    wanted = {name: view.copy() for name, view in model.tensors("gradients").items()}
    model.gradients[...] = vector
    for name, view in model.tensors("gradients").items():
        # Below a width of 4 a layer norm leaves some gradients that are zero but for rounding.
        scale = np.abs(wanted[name]).max() if config.embed_dim >= 4 else largest_of_all
        assert np.abs(view - wanted[name]).max() <= 1e-12 * scale, name


@settings(max_examples=40, deadline=None)
@given(shape=shapes(), divisor=st.none() | st.floats(0.5, 100))
def test_gradients_equal_the_complex_step(
    shape: tuple[Config, int, int, int], divisor: float | None
) -> None:
    assume(has_power(*shape))
    assert_gradients_are_exact(*shape, divisor)


@pytest.mark.parametrize(
    ("config", "batch", "time"),
    [
        (Config(7, 8, 2, 2, 5), 2, 4),
        (Config(5, 7, 1, 7, 3), 1, 5),  # H = D, odd
        (Config(5, 9, 2, 3, 1), 3, 1),  # T 1
        (Config(3, 5, 1, 1, 7), 1, 1),
        (Config(2, 1, 1, 1, 1), 1, 2),  # D 1: everything behind a norm is its shift
        (Config(30, 8, 2, 2, 5, lattice=ALL), 2, 4),
        (Config(25, 10, 2, 2, 4, lattice=ALL), 2, 3),  # an odd D/H
        (Config(13, 7, 1, 7, 3, lattice=ALL), 1, 5),
    ],
    ids=str,
)
def test_gradients_equal_the_complex_step_at_the_edges(
    config: Config, batch: int, time: int
) -> None:
    assert_gradients_are_exact(config, batch, time, seed=1)


def test_the_gradient_test_bites(monkeypatch: pytest.MonkeyPatch) -> None:
    from cllm.reference import network

    original = network.gelu_backward

    def off_by_a_millionth(dx: NDArray[np.float64], *arguments: NDArray[np.float64]) -> None:
        original(dx, *arguments)
        dx *= 1 + 1e-9

    monkeypatch.setattr(network, "gelu_backward", off_by_a_millionth)
    with pytest.raises(AssertionError, match="assert "):
        assert_gradients_are_exact(Config(7, 8, 2, 2, 5), 2, 4, seed=1)


def test_forward_follows_the_equations_written_out() -> None:
    """Section 3 of the design once more, element by element and without any of our functions."""
    d, heads, t = 4, 2, 3
    config = Config(5, d, 1, heads, 3)
    model = Model.create(
        config, 1, t, draw_parameters(config, np.random.default_rng(2)), dtype=np.float64
    )
    p = {name.removeprefix("layer0."): view for name, view in model.tensors().items()}
    tokens = np.array([[4, 0, 4]], np.int32)

    def norm(row: list[float], name: str) -> list[float]:
        mean = sum(row) / d
        deviation = math.sqrt(sum((x - mean) ** 2 for x in row) / d + 1e-5)
        gain, shift = p[f"{name}_gain"], p[f"{name}_shift"]
        return [gain[i] * (x - mean) / deviation + shift[i] for i, x in enumerate(row)]

    def times(row: list[float], weight: NDArray[np.float64]) -> list[float]:
        return [sum(x * weight[i, j] for i, x in enumerate(row)) for j in range(weight.shape[1])]

    x = []
    for position, token in enumerate(tokens[0]):
        angles = [position, position, position / 100, position / 100]
        waves = [math.sin(angles[0]), math.cos(angles[1]), math.sin(angles[2]), math.cos(angles[3])]
        x.append([2.0 * p["embedding"][token, i] + waves[i] for i in range(d)])
    qkv = [times(norm(row, "ln1"), p["qkv_weight"]) for row in x]
    for query in range(t):
        for head in range(heads):
            at = [head * 2, head * 2 + 1]
            scores = [
                sum(qkv[query][i] * qkv[key][d + i] for i in at) / math.sqrt(2)
                for key in range(query + 1)
            ]
            weights = [math.exp(score) for score in scores]
            for i in at:
                x[query][i] += sum(
                    weight * qkv[key][2 * d + i] for key, weight in enumerate(weights)
                ) / sum(weights)
    logits = []
    for row in x:
        active = []
        for j, value in enumerate(times(norm(row, "ln2"), p["ff_in_weight"])):
            h = value + p["ff_in_bias"][j]
            active.append(h / 2 * (1 + math.tanh(math.sqrt(2 / math.pi) * (h + 0.044715 * h**3))))
        out = [
            row[i] + value + p["ff_out_bias"][i]
            for i, value in enumerate(times(active, p["ff_out_weight"]))
        ]
        logits.append(times(out, p["embedding"].T))
    assert model.forward(tokens)[0] == pytest.approx(np.array(logits), rel=1e-13, abs=1e-13)
    targets = np.array([[0, -1, 3]], np.int32)
    expected = [
        math.log(sum(math.exp(z) for z in row)) - row[target]
        for row, target in zip(logits, targets[0], strict=True)
        if target >= 0
    ]
    assert model.loss(targets) == pytest.approx(sum(expected) / 2, rel=1e-13)
    model.forward(tokens)
    assert model.loss(targets, 5.0) == pytest.approx(sum(expected) / 5, rel=1e-13)


def test_attention_survives_extreme_scores() -> None:
    qkv = np.zeros((1, 3, 6), np.float32)
    qkv[0, :, 0:2] = 80.0
    qkv[0, :, 2:4] = [[80.0, 80.0], [-80.0, -80.0], [0.0, 0.0]]
    qkv[0, :, 4:6] = [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]
    out, lse = np.empty((1, 3, 2), np.float32), np.empty((1, 1, 3), np.float32)
    attention_forward(out, lse, qkv, 1)
    assert np.array_equal(out, np.full((1, 3, 2), [1.0, 2.0], np.float32))


def test_gelu_at_the_ends() -> None:
    x = np.array([-100.0, -1.0, 0.0, 1.0, 100.0])
    out = np.empty_like(x)
    gelu_forward(out, x)
    assert out == pytest.approx([0.0, -0.158808, 0.0, 0.841192, 100.0], abs=1e-6)


def test_adam_by_hand() -> None:
    config = Config(2, 1, 1, 1, 1)
    model = Model.create(config, 1, 1, np.ones(config.num_parameters), dtype=np.float64)
    m = v = 0.0
    p = 1.0
    for step, g in enumerate((0.5, -2.0, 0.25), start=1):
        model.gradients[...] = g
        model.update(Update(step, 0.1, weight_decay=0.01))
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        p -= 0.1 * 0.01 * p
        p -= 0.1 * (m / (1 - 0.9**step)) / (math.sqrt(v / (1 - 0.999**step)) + 1e-8)
        assert model.parameters == pytest.approx(np.full(config.num_parameters, p), rel=1e-14)


def test_clipping_scales_to_the_norm_and_only_down() -> None:
    config = Config(2, 2, 1, 1, 1)
    for clip, factor in ((1.0, 1 / 5), (100.0, 1.0)):
        model = Model.create(config, 1, 1, np.ones(config.num_parameters), dtype=np.float64)
        model.gradients[:2] = 3.0, 4.0
        model.update(Update(1, 0.1, clip=clip))
        first, second = model.moments
        assert first[:2] == pytest.approx(np.array([0.3, 0.4]) * factor, rel=1e-14)
        assert second[:2] == pytest.approx(np.array([0.009, 0.016]) * factor**2, rel=1e-12)


LOGITS = np.log(np.array([0.1, 0.4, 0.2, 0.3]))


@pytest.mark.parametrize(
    ("sampling", "ends"),
    [
        (Sampling(), {0: 0.1, 1: 0.5, 2: 0.7, 3: 1.0}),
        (Sampling(top_k=2), {1: 4 / 7, 3: 1.0}),
        (Sampling(top_p=0.7), {1: 4 / 7, 3: 1.0}),
        (Sampling(top_p=0.71), {1: 4 / 9, 2: 6 / 9, 3: 1.0}),
        (Sampling(top_k=3, top_p=0.5), {1: 4 / 7, 3: 1.0}),
        (Sampling(temperature=0.5), {0: 1 / 30, 1: 17 / 30, 2: 21 / 30, 3: 1.0}),
        (Sampling(temperature=0.0), {1: 1.0}),
        (Sampling(top_k=1), {1: 1.0}),
        (Sampling(top_k=99), {0: 0.1, 1: 0.5, 2: 0.7, 3: 1.0}),
    ],
    ids=str,
)
def test_sampling_by_hand(sampling: Sampling, ends: dict[int, float]) -> None:
    """Each token owns the interval of uniforms that ends at its cumulative probability."""
    start = 0.0
    for token, end in ends.items():
        for uniform in (start + 1e-9, (start + end) / 2, end - 1e-9):
            drawn = sample(LOGITS, sampling.temperature, sampling.top_k, sampling.top_p, uniform)
            assert drawn == token
        start = end


def test_equal_logits_are_taken_by_id() -> None:
    assert [sample(np.zeros(4), 1.0, None, 1.0, u) for u in (0.1, 0.3, 0.6, 0.9)] == [0, 1, 2, 3]
    assert sample(np.zeros(4), 0.0, None, 1.0, 0.9) == 0
