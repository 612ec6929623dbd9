"""Configuration, parameter counts and layout."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cllm import CllmError, Config
from cllm.lattice.parts import PARTS, Lattice
from cllm.layout import initialize, tensor_shapes, tensor_views
from cllm.positions import sinusoidal_positions

SMALL = Config(381, 64, 2, 4, 128)


@pytest.mark.parametrize(
    ("config", "count"), [(SMALL, 82_624), (Config(27, 32, 1, 1, 128), 12_416)]
)
def test_parameter_counts(config: Config, count: int) -> None:
    assert config.num_parameters == count
    assert sum(math.prod(shape) for shape in tensor_shapes(config).values()) == count


@pytest.mark.parametrize("name", SMALL.to_dict())
@pytest.mark.parametrize("bad", [0, -1, 2**31, 2.0, "8", None, True])
def test_sizes_out_of_range_are_refused_by_name(name: str, bad: object) -> None:
    with pytest.raises(CllmError, match=rf"{name} must be an integer in 1\.\.2147483647: got "):
        Config.from_dict({**SMALL.to_dict(), name: bad})


def test_absurdly_many_layers_are_refused_at_once() -> None:
    with pytest.raises(
        CllmError, match=r"num_layers must be an integer in 1\.\.4096: got 2000000000"
    ):
        Config(1, 1, 2_000_000_000, 1, 1)


def test_width_must_be_divisible_by_heads() -> None:
    with pytest.raises(CllmError, match=r"embed_dim must be divisible by num_heads: 64 .* 3"):
        Config(381, 64, 2, 3, 128)


def test_sizes_whose_product_overflows_are_refused() -> None:
    big = 2**31 - 1
    with pytest.raises(CllmError, match="parameters; at most"):
        Config(big, big, 4096, 1, big)


@pytest.mark.parametrize("sizes", [None, [], {}, {"vocab_size": 3}, {**SMALL.to_dict(), "x": 1}])
def test_foreign_dictionaries_are_refused(sizes: object) -> None:
    with pytest.raises(CllmError, match="exactly the sizes"):
        Config.from_dict(sizes)


def test_a_lattice_is_part_of_the_configuration() -> None:
    config = Config(381, 64, 2, 4, 128, lattice=Lattice(positions=True))
    assert config.to_dict() == {**SMALL.to_dict(), "lattice": {"positions": True}}
    assert Config.from_dict(config.to_dict()) == config != SMALL
    assert Config.from_dict({**SMALL.to_dict(), "lattice": {}}) == SMALL
    assert config.sizes == SMALL.to_dict()
    assert config.num_parameters == SMALL.num_parameters
    weighted = replace(SMALL, lattice=Lattice(loss=True, loss_weights=(0.5, 0, 2)))
    assert Config.from_dict(json.loads(json.dumps(weighted.to_dict()))) == weighted
    attending = replace(SMALL, lattice=Lattice(attention=True))
    assert attending.num_parameters == SMALL.num_parameters + 2 * 4 * 3
    for wrong in (
        1, ["init"], {"init": 1}, {"spin": True}, {"loss_weights": [1, 1, 1]},
        {"loss": True, "loss_weights": 1}, {"loss": True, "loss_weights": [1, 1]},
        {"loss": True, "loss_weights": [1, 1, -1]}, {"loss": True, "loss_weights": [1, 1, "1"]},
    ):  # fmt: skip
        with pytest.raises(CllmError, match="lattice"):
            Config.from_dict({**SMALL.to_dict(), "lattice": wrong})


def test_parts_of_a_lattice_have_names() -> None:
    assert Lattice.of([*PARTS]) == Lattice.of(["all"]) == Lattice(*[True] * 5)
    assert not Lattice.of(["none"])
    assert str(Lattice.of(["init"])) == "init"
    assert str(Lattice()) == "none"
    with pytest.raises(
        CllmError,
        match="must be of attention, symmetry, loss, init, positions, all or none: got 'int'",
    ):
        Lattice.of(["int"])


sizes = st.integers(1, 9)


@given(v=sizes, width=sizes, heads=st.integers(1, 4), layers=st.integers(1, 3), f=sizes)
def test_tensors_tile_the_vector_in_order(
    v: int, width: int, heads: int, layers: int, f: int
) -> None:
    config = Config(v, width * heads, layers, heads, f)
    vector = np.arange(config.num_parameters, dtype=np.float64)
    views = tensor_views(config, vector)
    assert np.array_equal(np.concatenate([view.ravel() for view in views.values()]), vector)
    names = [name.partition(".")[2] for name in views if name.startswith("layer0.")]
    assert names == [
        "qkv_weight", "ff_in_weight", "ff_in_bias", "ff_out_weight", "ff_out_bias",
        "ln1_gain", "ln1_shift", "ln2_gain", "ln2_shift",
    ]  # fmt: skip
    assert all(np.shares_memory(view, vector) for view in views.values())


def test_views_refuse_a_vector_of_another_length() -> None:
    with pytest.raises(ValueError, match=r"\(82624,\): got \(64,\)"):
        tensor_views(SMALL, np.zeros(64))


def test_initialization_has_the_stated_scales() -> None:
    views = tensor_views(SMALL, initialize(SMALL, np.random.default_rng(0)))
    assert views["embedding"].std() == pytest.approx(64**-0.75, rel=0.03)
    assert views["layer1.qkv_weight"].std() == pytest.approx(0.02, rel=0.03)
    assert views["layer1.ff_in_weight"].std() == pytest.approx(0.02, rel=0.03)
    assert views["layer1.ff_out_weight"].std() == pytest.approx(0.02 / 2, rel=0.03)
    for name, view in views.items():
        if name.endswith("gain"):
            assert (view == 1).all()
        elif view.ndim == 1:
            assert (view == 0).all()


def test_initialization_follows_the_seed() -> None:
    first, same, other = (initialize(SMALL, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(first, same)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("width", [1, 2, 7, 8])
def test_positions(width: int) -> None:
    table = sinusoidal_positions(5, width)
    for t in range(5):
        for d in range(width):
            angle = t / 10000 ** ((d - d % 2) / width)
            wanted = math.cos(angle) if d % 2 else math.sin(angle)
            assert table[t, d] == pytest.approx(wanted, abs=1e-15)
