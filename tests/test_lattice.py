"""The claims that the lattice is built on; sympy knows the primes and the factors."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cllm import CllmError, Config, Model, Update
from cllm.lattice.distances import distances_of
from cllm.lattice.features import lattice_embedding, lattice_positions
from cllm.lattice.parts import PARTS, Lattice
from cllm.lattice.primes import (
    factorize,
    first_primes,
    mean_prime_distance,
    prime_distance,
    primes_below,
)
from cllm.lattice.relations import NEIGHBOURS, relation_lengths, relations_of
from cllm.lattice.spiral import geometric_distance, root_mean_square_distance, spiral
from cllm.lattice.symmetry import (
    COSINES,
    ORDER,
    SINES,
    mean_symmetry_distance,
    symmetry_class,
    symmetry_distance,
    turn,
)
from cllm.lattice.tables import table_length, tables_of
from cllm.layout import LATTICE_START, initialize, tensor_views
from cllm.optimized import Model as Optimized
from cllm.reference import Model as Reference

ids = st.integers(0, 2**31 - 1)
turns = st.integers(-(2**31), 2**31 - 1)
widths = st.integers(1, 9)

SPIRAL = spiral(3000)


def vector(width: int, dtype: str = "float64") -> NDArray[Any]:
    generator = np.random.default_rng(width)
    drawn = generator.standard_normal((3, width))
    return (drawn + 1j * generator.standard_normal((3, width)) if dtype == "c" else drawn).astype(
        "complex128" if dtype == "c" else dtype
    )


# -- primes ----------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [0, 1, 2, 3, 4, 74, 4489, 4490, 5000])
def test_primes_are_all_and_only_the_primes(limit: int) -> None:
    """73 was missing from a table that had 67² in it."""
    assert primes_below(limit).tolist() == [*sympy.primerange(limit)]


@pytest.mark.parametrize("count", [1, 2, 5, 6, 7, 1000, 10_000])
def test_first_primes(count: int) -> None:
    found = first_primes(count)
    assert len(found) == count
    assert found[-1] == sympy.prime(count)
    assert (np.diff(found) > 0).all()


@pytest.mark.parametrize("vocab_size", [1, 2, 3, 12, 500])
def test_factors_are_those_of_every_number(vocab_size: int) -> None:
    factors = factorize(vocab_size)
    assert factors.start.tolist()[0] == 0
    assert factors.start.tolist()[-1] == len(factors.prime) == len(factors.exponent)
    for n in range(1, vocab_size + 1):
        own = slice(factors.start[n - 1], factors.start[n])
        found = dict(zip(factors.prime[own].tolist(), factors.exponent[own].tolist(), strict=True))
        assert found == sympy.factorint(n)
        assert [*found] == sorted(found)


# -- distances -------------------------------------------------------------------------------


@settings(deadline=None)
@given(ids, ids)
def test_prime_distance_is_the_difference_of_the_valuations(i: int, j: int) -> None:
    n, m = sympy.factorint(i + 1), sympy.factorint(j + 1)
    exact = math.fsum(abs(n.get(p, 0) - m.get(p, 0)) * math.log(p) for p in {*n, *m})
    found = prime_distance(np.array(i, np.int32), np.array(j, np.int32))
    assert found == pytest.approx(exact, rel=1e-12)
    quotient = sympy.Rational(sympy.lcm(i + 1, j + 1), sympy.gcd(i + 1, j + 1))
    assert found == pytest.approx(float(sympy.log(quotient)), rel=1e-12)


@settings(deadline=None)
@given(ids, ids, ids)
def test_prime_distance_is_a_metric(i: int, j: int, k: int) -> None:
    a, b, c = (np.array(number) for number in (i, j, k))
    assert prime_distance(a, a) == 0.0
    assert (prime_distance(a, b) > 0.0) == (i != j)
    assert prime_distance(a, b) == prime_distance(b, a)
    through = prime_distance(a, c) + prime_distance(c, b)
    assert prime_distance(a, b) <= through * (1 + 1e-12)


@settings(deadline=None)
@given(*[st.integers(0, len(SPIRAL) - 1)] * 3)
def test_geometric_distance_is_a_metric(i: int, j: int, k: int) -> None:
    a, b, c = SPIRAL[[i, j, k]]
    assert geometric_distance(a, a) == 0.0
    assert (geometric_distance(a, b) > 0.0) == (i != j)
    assert geometric_distance(a, b) == geometric_distance(b, a)
    through = geometric_distance(a, c) + geometric_distance(c, b)
    assert geometric_distance(a, b) <= through * (1 + 1e-12)


@settings(deadline=None)
@given(ids, ids, ids)
def test_symmetry_distance_is_a_pseudometric_on_ids_and_a_metric_on_classes(
    i: int, j: int, k: int
) -> None:
    a, b, c = (np.array(number, np.int32) for number in (i, j, k))
    assert symmetry_distance(a, a) == 0
    assert 0 <= symmetry_distance(a, b) <= ORDER // 2
    assert (symmetry_distance(a, b) == 0) == (symmetry_class(a) == symmetry_class(b))
    assert symmetry_distance(a, b) == symmetry_distance(b, a)
    assert symmetry_distance(a, b) <= symmetry_distance(a, c) + symmetry_distance(c, b)


def test_symmetry_classes_are_all_reached() -> None:
    """Those of the primes are four alone, from 5 on."""
    assert len({*symmetry_class(np.arange(ORDER)).tolist()}) == ORDER
    assert len({*symmetry_class(first_primes(1000)[2:]).tolist()}) == 4


@pytest.mark.parametrize("vocab_size", [1, 2, 3, 11, 12, 13, 24, 30, 257])
def test_means_are_those_over_all_pairs(vocab_size: int) -> None:
    i, j = np.nonzero(~np.eye(vocab_size, dtype=bool))
    places = spiral(vocab_size)

    def mean(distance: NDArray[Any]) -> float:
        return float(distance.mean()) if vocab_size > 1 else 0.0

    squares = np.square(geometric_distance(places[i], places[j]))
    found = root_mean_square_distance(places), mean_prime_distance(vocab_size)
    assert found[0] ** 2 == pytest.approx(mean(squares), rel=1e-12)
    assert found[1] == pytest.approx(mean(prime_distance(i, j)), rel=1e-12)
    assert mean_symmetry_distance(vocab_size) == pytest.approx(mean(symmetry_distance(i, j)))


def test_means_of_a_large_vocabulary_do_not_overflow() -> None:
    assert mean_symmetry_distance(2**31 - 1) == pytest.approx(3.0)
    assert 0.0 < mean_prime_distance(200_000) < 2 * math.log(200_000)


@pytest.mark.parametrize("vocab_size", [1, 2, 50, 700])
def test_distances_of_attention_have_a_mean_of_one(vocab_size: int) -> None:
    i, j = np.nonzero(~np.eye(vocab_size, dtype=bool))
    found = distances_of(vocab_size).between(i, j)
    if vocab_size > 1:
        assert np.sqrt(np.square(found[0]).mean()) == pytest.approx(1.0)
        assert found[1:].mean(1) == pytest.approx([1.0, 1.0])
    assert (distances_of(vocab_size).between(j, j) == 0.0).all()


@pytest.mark.parametrize("vocab_size", [1, 2, 3, 4490, 70_000])
def test_tables_give_the_distances(vocab_size: int) -> None:
    """Divisibility by multiplication, for all listed prime powers and numbers of each kind."""
    tables, distances = tables_of(vocab_size), distances_of(vocab_size)
    some = [0, 1, 2, 66, 72, 4488, 2**15 - 1, 2**16 - 1, 65_520, vocab_size - 1]
    drawn = np.random.default_rng(0).integers(0, vocab_size, 30)
    chosen = np.append(drawn, [i for i in some if i < vocab_size])
    i, j = (side.ravel() for side in np.meshgrid(chosen, chosen))
    common = np.minimum(tables.tokens[i, 4], tables.tokens[j, 4]).astype(np.float64)
    for pair, (one, other) in enumerate(zip(i.tolist(), j.tolist(), strict=True)):
        own = slice(tables.starts[one], tables.starts[one + 1])
        inverse, bound = (table[own].view(np.uint32) for table in (tables.inverses, tables.bounds))
        divides = np.uint32(other + 1) * inverse <= bound
        power = np.uint32(2**32 - 1) // np.where(bound, bound, 1)
        assert (divides == ((other + 1) % power == 0)).all()
        common[pair] += tables.logs[own][divides].sum()
    found = tables.tokens[i, 3] + tables.tokens[j, 3] - 2.0 * common
    np.testing.assert_allclose(found, distances.between(i, j)[1], rtol=0, atol=1e-6)
    np.testing.assert_allclose(tables.tokens[:, :3], distances.places, rtol=0, atol=1e-6)
    way = np.abs(tables.tokens[i, 5] - tables.tokens[j, 5])
    found = np.minimum(way, tables.turn - way)
    np.testing.assert_allclose(found, distances.between(i, j)[2], rtol=0, atol=1e-6)


# -- what the loss compares -------------------------------------------------------------------


@pytest.mark.parametrize("vocab_size", [1, 2, 3, 4, 12, 300, 4490])
def test_lengths_are_known_before_the_tables(vocab_size: int) -> None:
    relations, tables = relations_of(vocab_size), tables_of(vocab_size)
    assert table_length(vocab_size) == len(tables.logs) == len(tables.inverses)
    assert relation_lengths(vocab_size) == (
        relations.neighbours.shape[1], len(relations.composites), len(relations.primes)
    )  # fmt: skip


@pytest.mark.parametrize("vocab_size", [1, 2, 5, 9, 300])
def test_relations(vocab_size: int) -> None:
    relations = relations_of(vocab_size)
    places = spiral(vocab_size)
    count = min(NEIGHBOURS, vocab_size - 1)
    assert relations.neighbours.shape == relations.nearness.shape == (vocab_size, count)
    apart = geometric_distance(places[:, None], places)
    np.fill_diagonal(apart, np.inf)
    nearest = np.sort(apart, axis=1)[:, :count]
    chosen = np.take_along_axis(apart, relations.neighbours.astype(np.int64), 1)
    np.testing.assert_allclose(chosen, nearest)
    if count:
        expected = np.exp(-np.square(chosen) / np.square(chosen).mean())
        np.testing.assert_allclose(relations.nearness, expected)
    composite = [n for n in range(4, vocab_size + 1) if not sympy.isprime(n)]
    assert (relations.composites + 1).tolist() == composite
    for row, n in enumerate(composite):
        own = slice(relations.starts[row], relations.starts[row + 1])
        primes = (relations.primes[own] + 1).tolist()
        assert dict(zip(primes, relations.exponents[own].tolist(), strict=True)) == sympy.factorint(
            n
        )


# -- spiral ----------------------------------------------------------------------------------


def test_a_place_on_the_spiral() -> None:
    golden = (1 + math.sqrt(5)) / 2
    for i in (0, 1, 2, 1000, 2999):
        angle = 2 * math.pi * i / golden**2
        flat = math.sqrt(i) * math.cos(angle), math.sqrt(i) * math.sin(angle)
        height = math.log(sympy.prime(i + 1) + 1)
        np.testing.assert_allclose(SPIRAL[i], (*flat, height), rtol=0, atol=1e-9)


def test_seeds_of_the_spiral_keep_apart() -> None:
    flat = SPIRAL[:1000, :2]
    apart = geometric_distance(flat[:, None], flat) + 10 * np.eye(1000)
    assert apart.min() > 0.9


# -- the group -------------------------------------------------------------------------------


@settings(deadline=None)
@given(turns, turns, widths)
def test_turns_are_an_action_of_the_group(g: int, h: int, width: int) -> None:
    x = vector(width)
    one, other = np.full(3, g), np.full(3, h)
    twice, once = turn(turn(x, other), one), turn(x, one + other)
    np.testing.assert_allclose(twice, once, rtol=0, atol=1e-14)
    np.testing.assert_array_equal(turn(x, np.full(3, ORDER * g)), x)
    np.testing.assert_allclose(turn(turn(x, one), -one), x, rtol=0, atol=1e-14)


@settings(deadline=None)
@given(turns, widths)
def test_turns_are_orthogonal_and_linear(g: int, width: int) -> None:
    matrix = turn(np.eye(width), np.full(width, g))
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(width), rtol=0, atol=1e-15)
    x = vector(width, "c")
    np.testing.assert_allclose(turn(x, np.full(3, g)), x @ matrix, rtol=0, atol=1e-14)


@settings(deadline=None)
@given(st.integers(0, 11), st.integers(0, 11), turns, widths)
def test_a_common_turn_changes_no_score(g: int, h: int, common: int, width: int) -> None:
    q, k, _ = vector(width)
    score = turn(q, np.array(g)) @ turn(k, np.array(h))
    turned = turn(q, np.array(g + common)) @ turn(k, np.array(h + common))
    assert turned == pytest.approx(score, abs=1e-13)


def test_constants_of_the_turns_are_exact_where_they_can_be() -> None:
    angles = 2 * math.pi * np.arange(ORDER) / ORDER
    np.testing.assert_allclose(COSINES, np.cos(angles), rtol=0, atol=1e-15)
    np.testing.assert_allclose(SINES, np.sin(angles), rtol=0, atol=1e-15)
    assert {*COSINES[[0, 2, 3, 4, 6, 8, 9, 10]]} == {1.0, 0.5, 0.0, -0.5, -1.0}
    assert {*SINES[[0, 1, 3, 5, 6, 7, 9, 11]]} == {0.0, 0.5, 1.0, -0.5, -1.0}


def test_an_odd_last_coordinate_stays() -> None:
    x = vector(5, "float32")
    found = turn(x, np.array([1, 6, -1]))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found[:, 4], x[:, 4])
    np.testing.assert_array_equal(found[1, :4], -x[1, :4])


# -- features --------------------------------------------------------------------------------


@pytest.mark.parametrize("embed_dim", [1, 2, 3, 8, 65])
@pytest.mark.parametrize("vocab_size", [1, 2, 500])
def test_a_lattice_embedding_has_the_norm_of_the_standard_one(
    vocab_size: int, embed_dim: int
) -> None:
    found = lattice_embedding(vocab_size, embed_dim, np.random.default_rng(0))
    assert found.shape == (vocab_size, embed_dim)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), embed_dim**-0.25)
    again, other = (
        lattice_embedding(vocab_size, embed_dim, np.random.default_rng(s)) for s in (0, 1)
    )
    np.testing.assert_array_equal(found, again)
    assert embed_dim == 1 or (found != other).any()


def test_near_tokens_start_alike_and_far_ones_do_not() -> None:
    found = lattice_embedding(1000, 64, np.random.default_rng(0)) * 64**0.25
    likeness = found @ found.T
    apart = geometric_distance(SPIRAL[:1000, None], SPIRAL[:1000])
    near, far = likeness[(apart > 0) & (apart < 2.5)], likeness[apart > 20]
    assert near.mean() > 0.6 > 0.2 > abs(far.mean())
    assert likeness[apart > 0].max() < 0.999


@pytest.mark.parametrize("embed_dim", [1, 2, 3, 8, 65])
def test_lattice_positions(embed_dim: int) -> None:
    found = lattice_positions(40, embed_dim)
    assert found.shape == (40, embed_dim)
    np.testing.assert_array_equal(lattice_positions(7, embed_dim), found[:7])
    pairs = found[:, : embed_dim // 2 * 2].reshape(40, -1, 2)
    np.testing.assert_allclose(np.square(pairs).sum(-1), 1.0)
    hour = 2 * math.pi * np.arange(40) / ORDER  # the first hand is that of the hours
    np.testing.assert_allclose(found[:, 0], np.sin(hour), rtol=0, atol=1e-12)


def test_no_two_positions_are_alike() -> None:
    found = lattice_positions(2000, 64)
    likeness = found @ found.T / 32 - 2 * np.eye(2000)
    assert likeness.max() < 0.99


# -- models ----------------------------------------------------------------------------------

ALL = Lattice.of(["all"])
CONFIG = Config(30, 12, 2, 4, 8, lattice=ALL)
"""Heads of an odd width."""


@pytest.mark.parametrize("part", PARTS)
def test_each_part_makes_another_model(part: str) -> None:
    plain = replace(CONFIG, lattice=Lattice())
    start = initialize(plain, np.random.default_rng(0))
    config = replace(plain, lattice=Lattice.of([part]))
    other = initialize(config, np.random.default_rng(0))
    tokens = np.arange(36, dtype=np.int32).reshape(3, 12) % 30
    found = []
    for kind, c, p in (
        (Reference, plain, start),
        (Reference, config, other),
        (Optimized, config, other),
    ):
        model = kind.create(c, 3, 12, p)
        logits = model.forward(tokens).copy()
        found.append(np.append(logits, model.loss(tokens)))
    assert np.abs(found[0] - found[1]).max() > 1e-4
    np.testing.assert_allclose(found[1], found[2], rtol=0, atol=1e-5)


def terms_of(embedding: NDArray[Any], config: Config) -> dict[str, float]:
    parameters = np.zeros(config.num_parameters)
    tensor_views(config, parameters)["embedding"][...] = embedding
    model = Reference.create(config, 1, 1, parameters, operations=["evaluation"], dtype="float64")
    model.forward(np.zeros((1, 1), np.int32))
    model.loss(np.zeros((1, 1), np.int32))
    return model.lattice_terms


def test_terms_of_the_loss_are_what_they_are_called() -> None:
    """Written out pair by pair, orbit by orbit, composite by composite."""
    config = Config(30, 10, 1, 2, 1, lattice=Lattice(loss=True))
    embedding = np.random.default_rng(0).standard_normal((30, 10))
    found, size = terms_of(embedding, config), np.square(embedding).sum(1).mean()
    relations = relations_of(30)
    geometric = [
        relations.nearness[i, k] * np.square(embedding[i] - embedding[j]).sum()
        for i in range(30)
        for k, j in enumerate(relations.neighbours[i])
    ]
    assert found["geometric"] == pytest.approx(np.mean(geometric) / size)
    symmetry = []
    for i in range(24):
        following = i - 11 if i % 12 == 11 else i + 1
        turned = turn(embedding[i].reshape(2, 5), np.ones(2, int)).reshape(-1)
        symmetry.append(np.square(turned - embedding[following]).sum())
    assert found["symmetry"] == pytest.approx(np.mean(symmetry) / size)
    prime = []
    for n in range(4, 31):
        if not sympy.isprime(n):
            factors = sympy.factorint(n).items()
            product = sum(exponent * embedding[p - 1] for p, exponent in factors)
            prime.append(np.square(embedding[n - 1] - product).sum())
    assert found["prime"] == pytest.approx(np.mean(prime) / size)


def test_an_embedding_that_is_a_lattice_costs_nothing() -> None:
    config = Config(40, 6, 1, 1, 1, lattice=Lattice(loss=True))
    generator = np.random.default_rng(0)
    start = generator.standard_normal((4, 6))
    turned = np.stack([turn(start, np.full(4, g)) for g in range(12)], 1)  # (4,12,6)
    orbits = turned.reshape(48, 6)[:36]
    assert terms_of(np.append(orbits, start, 0), config)["symmetry"] == pytest.approx(0, abs=1e-15)
    logs = generator.standard_normal((40, 6))
    sums = np.zeros((40, 6))
    for n in range(2, 41):
        sums[n - 1] = sum(v * logs[p - 1] for p, v in sympy.factorint(n).items())
    assert terms_of(sums, config)["prime"] == pytest.approx(0, abs=1e-15)
    alike = terms_of(np.ones((40, 6)), config)
    assert alike["geometric"] == 0.0


@pytest.mark.parametrize("scale", [1e-3, 7.0])
def test_the_loss_does_not_depend_on_the_scale(scale: float) -> None:
    config = Config(40, 6, 1, 1, 1, lattice=Lattice(loss=True))
    embedding = np.random.default_rng(0).standard_normal((40, 6))
    assert terms_of(scale * embedding, config) == pytest.approx(terms_of(embedding, config))
    assert {*terms_of(0 * embedding, config).values()} == {0.0}


@pytest.mark.parametrize("kind", [Reference, Optimized])
def test_micro_batches_add_up_to_one_batch(kind: type[Model]) -> None:
    """Each brings its share of the lattice's loss, by the targets that it counts."""
    config = replace(CONFIG, lattice=Lattice.of(["all"], (0.5, 0.3, 0.2)))
    generator = np.random.default_rng(0)
    start = initialize(config, generator)
    tokens, targets = generator.integers(0, 30, (2, 4, 6), np.int32)
    targets[0, :4] = -1
    model = kind.create(config, 4, 6, start)
    model.forward(tokens)
    whole = model.loss(targets)
    model.backward()
    gradients = model.gradients.copy()
    model.zero_gradients()
    parts = 0.0
    for rows in (slice(0, 1), slice(1, 4)):
        model.forward(tokens[rows])
        parts += model.loss(targets[rows], 20)
        model.backward()
    assert parts == pytest.approx(whole, rel=1e-6)
    np.testing.assert_allclose(model.gradients, gradients, rtol=0, atol=1e-6)
    assert whole > model.lattice_loss > 0.0


@pytest.mark.parametrize("kind", [Reference, Optimized])
def test_weights_of_distances_start_low_and_learn(kind: type[Model]) -> None:
    generator = np.random.default_rng(0)
    start = initialize(CONFIG, generator)
    assert {*tensor_views(CONFIG, start)["layer1.lattice_weight"].flat} == {LATTICE_START}
    tokens, targets = generator.integers(0, 30, (2, 3, 12), np.int32)
    model = kind.create(CONFIG, 3, 12, start)
    model.step(tokens, targets, Update(1, 1e-2))
    moved = tensor_views(CONFIG, model.parameters)["layer0.lattice_weight"] - LATTICE_START
    assert (np.abs(moved) > 0.005).all()


def test_what_is_off_costs_no_memory() -> None:
    plain = replace(CONFIG, lattice=Lattice(init=True, positions=True, symmetry=True))
    for kind in (Reference, Optimized):
        names = {*kind.plan(plain, 2, 3, operations=["training", "generation"]).buffers}
        assert not [name for name in names if "lattice" in name]


def test_memory_grows_with_the_vocabulary_and_the_batch_alone() -> None:
    def extra(vocab_size: int, seq_len: int) -> int:
        sizes = [
            Optimized.plan(
                Config(vocab_size, 8, 1, 1, 4, lattice=lattice), 2, seq_len, threads=1
            ).nbytes
            for lattice in (ALL, Lattice())
        ]
        return sizes[0] - sizes[1]

    assert extra(4000, 64) < 2.2 * extra(2000, 64)
    assert extra(500, 2048) < 2.2 * extra(500, 1024)


def test_training_gives_the_same_bytes_for_every_number_of_threads() -> None:
    config = Config(500, 52, 2, 4, 96, lattice=ALL)
    generator = np.random.default_rng(0)
    start = initialize(config, generator)
    tokens, targets = generator.integers(0, 500, (2, 8, 40), np.int32)
    bytes_of = set()
    for threads in (1, 2, 3):
        model = Optimized.create(config, 8, 40, start, threads=threads)
        for step in range(1, 4):
            model.step(tokens, targets, Update(step, 1e-2))
        bytes_of.add(model.parameters.tobytes())
    assert len(bytes_of) == 1


@pytest.mark.parametrize("kind", [Reference, Optimized])
def test_generation_is_the_training_forward(kind: type[Model]) -> None:
    operations = ("evaluation", "generation")
    start = initialize(CONFIG, np.random.default_rng(0))
    model = kind.create(CONFIG, 1, 12, start, operations=operations)
    tokens = np.arange(11, dtype=np.int32)[None]
    expected = model.forward(tokens)[0, -1].copy()
    model.reset()
    found = model.feed(tokens[0])
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_a_model_without_a_part_refuses_it() -> None:
    class Plain(Reference):
        lattice_parts = Reference.lattice_parts - {"symmetry"}

    with pytest.raises(CllmError, match="Plain has no lattice symmetry"):
        Plain.plan(CONFIG, 1, 1)


def test_the_example_of_the_documentation_runs() -> None:
    document = (Path(__file__).parents[1] / "docs" / "lattice.md").read_text()
    (example,) = re.findall(r"^```python\n(.*?)^```$", document, re.MULTILINE | re.DOTALL)
    exec(example, {})
