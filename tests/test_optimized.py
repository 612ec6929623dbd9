"""What the optimized model promises beyond the reference: threads, levels, forks, exact sums."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from cllm import Config, Model, Sampling, Update
from cllm.harness.cases import Case, Setting, draw_batches, draw_case, draw_parameters
from cllm.harness.pairs.table import PAIRS
from cllm.harness.runner import calibrate, differentiate, evaluate
from cllm.harness.tolerance import (
    FORWARD,
    GRADIENTS,
    UNIT,
    compare,
    compare_tensors,
    loss_tolerance,
)
from cllm.lattice.parts import PLAIN, Lattice
from cllm.optimized import Model as Optimized
from cllm.optimized.kernels import available, exp
from cllm.optimized.region import is_trial
from cllm.reference import Model as Reference
from cllm.reference.sampling import sample as reference_sample

BUSY = Setting(Config(500, 48, 2, 3, 96), 8, 40)
"""Enough work that the model uses several threads."""


def trained(threads: int, setting: Setting = BUSY, seed: int = 0) -> Model:
    """A model after three steps, one of them on a smaller batch."""
    generator = np.random.default_rng(seed)
    rows, time = setting.batch_size, setting.seq_len
    parameters = draw_parameters(setting.config, generator)
    model = Optimized.create(setting.config, rows, time, parameters, threads=threads)
    for step, smaller in enumerate((0, 1, 0), start=1):
        tokens, targets = draw_batches(
            setting.config, generator, 1, max(1, rows - smaller), max(1, time - smaller)
        )
        model.step(tokens[0], targets[0], Update(step, 1e-2, weight_decay=0.1, clip=0.5))
    return model


@pytest.mark.parametrize("threads", [2, 3, 8, 64])
def test_same_bytes_for_every_number_of_threads(threads: int) -> None:
    alone, together = trained(1), trained(threads)
    for name in ("parameters", "first_moment", "second_moment", "gradients"):
        for tensor, view in alone.tensors(name).items():
            assert view.tobytes() == together.tensors(name)[tensor].tobytes(), (name, tensor)


@settings(max_examples=30, deadline=None)
@given(
    heads=st.integers(1, 5), width=st.integers(1, 20), v=st.integers(2, 300),
    layers=st.integers(1, 3), f=st.integers(4, 70), rows=st.integers(1, 4),
    time=st.integers(1, 40), seed=st.integers(0, 2**32),
    lattice=st.sampled_from([PLAIN, Lattice.of(["all"])]),
)  # fmt: skip
def test_agrees_with_the_reference_on_drawn_configurations(
    heads: int,
    width: int,
    v: int,
    layers: int,
    f: int,
    rows: int,
    time: int,
    seed: int,
    lattice: Lattice,
) -> None:
    """From four elements a tensor on: the error of a single one says little about another's."""
    config = Config(v, heads * width, layers, heads, f, lattice=lattice)
    assume(config.embed_dim >= 4)
    assert_agrees(draw_case(Setting(config, rows, time), seed))


@pytest.mark.parametrize("width", [1, 2, 3])
@pytest.mark.parametrize("seed", range(5))
def test_agrees_with_the_reference_at_widths_below_four(width: int, seed: int) -> None:
    """A norm of so few elements multiplies rounding by up to 1/sqrt(1e-5) = 316."""
    case = draw_case(Setting(Config(7, width, 1, width, 3), 2, 5), seed)
    exact = differentiate(Reference, case, "float64")
    got = differentiate(Optimized, case, "float32")
    largest = max(np.abs(tensor).max() for tensor in exact.values())
    for name, tensor in exact.items():
        assert np.abs(got[name] - tensor).max() <= 316 * 32 * UNIT * largest, name


def assert_agrees(case: Case) -> None:
    """Loss and logits by the forward tolerance, gradients by theirs."""
    exact, errors = calibrate(partial(evaluate, Reference), case)
    got = evaluate(Optimized, case, "float32")
    tolerance = loss_tolerance(exact.pop("loss"), errors.pop("loss"))
    loss = compare("loss", got.pop("loss"), evaluate(Reference, case, "float64")["loss"], tolerance)
    comparisons = [loss, *compare_tensors(got, exact, errors, FORWARD)]
    exact, errors = calibrate(partial(differentiate, Reference), case)
    got = differentiate(Optimized, case, "float32")
    comparisons += compare_tensors(got, exact, errors, GRADIENTS)
    for comparison in comparisons:
        assert comparison.passed, f"{case}: {comparison}"


def test_losses_of_many_steps_do_not_depend_on_the_threads() -> None:
    """More threads than cores: some fall behind, and the others are a step ahead of them."""
    config = Config(381, 64, 2, 4, 128)
    generator = np.random.default_rng(0)
    parameters = draw_parameters(config, generator)
    tokens, targets = draw_batches(config, generator, 200, 8, 16)
    updates = [Update(step, 1e-3) for step in range(1, 201)]
    alone, together = (
        Optimized.create(config, 8, 16, parameters, threads=threads).steps(tokens, targets, updates)
        for threads in (1, 4)
    )
    assert np.array_equal(alone, together)


LEVEL_SCRIPT = """
from cllm.harness.cases import SETTINGS, draw_case
from test_optimized import Optimized, assert_agrees
for seed, setting in enumerate(SETTINGS):
    assert_agrees(draw_case(setting, seed))
print(Optimized.isa)
"""


def run_at_level(level: str) -> str:
    here = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "CLLM_ISA": level, "PYTHONPATH": here.strip(os.pathsep)}
    return subprocess.run(
        [sys.executable, "-P", "-c", LEVEL_SCRIPT],
        env=environment, capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip


@pytest.mark.parametrize("level", available())
def test_every_level_is_chosen_by_name_and_right(level: str) -> None:
    assert run_at_level(level) == level


def test_an_unknown_level_is_an_import_error_that_names_the_choices() -> None:
    with pytest.raises(subprocess.CalledProcessError) as caught:
        run_at_level("mmx")
    assert (
        f"CLLM_ISA must be one of {available()} on this machine: got 'mmx'" in caught.value.stderr
    )


def test_the_first_calls_do_not_decide_for_long_how_many_threads_work() -> None:
    """The first call of a team makes its threads: it was slow, and 128 calls went alone. Later on a
    single trial found the team's caches cold."""
    teams = [call for call in range(1, 600) if is_trial(call, True)]
    later = [start + place for start in (16, 32, 64, 128, 260, 516) for place in range(4)]
    assert teams == [*range(2, 12), *later]


def test_few_calls_of_a_team_go_alone() -> None:
    """A dozen steps of a large model, ten of them trials, seemed to gain nothing by two threads.
    And where the first three went alone, no check of threads saw a team's step."""
    alone = [call for call in range(1, 600) if is_trial(call, False)]
    assert alone == [*range(4, 8), *range(260, 264), *range(516, 520)]


def test_a_fork_after_a_parallel_region_still_works() -> None:
    expected = trained(2).parameters.copy()
    child = os.fork()
    if child == 0:  # pragma: no cover - measured in the parent
        os._exit(0 if np.array_equal(trained(2).parameters, expected) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert np.array_equal(trained(2).parameters, expected)


@settings(deadline=None)
@given(
    seed=st.integers(0, 2**32),
    v=st.integers(1, 40),
    temperature=st.sampled_from([0.0, 0.3, 1.0, 2.5]),
    top_k=st.none() | st.integers(1, 50),
    top_p=st.floats(0.01, 1.0),
    ties=st.booleans(),
)
def test_sampling_takes_the_same_token_as_the_reference(
    seed: int, v: int, temperature: float, top_k: int | None, top_p: float, ties: bool
) -> None:
    from cllm.optimized.sampling import sample

    generator = np.random.default_rng(seed)
    logits = generator.normal(0, 3, v).astype(np.float32)
    if ties:
        logits = np.round(logits)
    for uniform in generator.random(20):
        drawn = sample(logits, temperature, top_k, top_p, uniform)
        # The sums are ordered differently: at an edge, the token on either side is right.
        near = {
            reference_sample(logits, temperature, top_k, p, u)
            for p in (max(top_p - 1e-12, 1e-12), top_p, min(top_p + 1e-12, 1.0))
            for u in (max(uniform - 1e-12, 0.0), uniform, min(uniform + 1e-12, 1 - 1e-12))
        }
        assert drawn in near


def test_the_exponential_is_within_two_units_over_its_whole_range() -> None:
    x = np.r_[np.linspace(-87.3, 88.3, 1_000_003), -0.0, 1e-30].astype(np.float32)
    got = np.empty_like(x)
    exp(got, x)
    exact = np.exp(x.astype(np.float64))
    assert (np.abs(got - exact) <= 2 * np.spacing(exact.astype(np.float32))).all()
    beyond = np.array([-np.inf, -3e38, -100.0, -88.0, 88.4, 3e38, np.inf, np.nan], np.float32)
    got = np.empty_like(beyond)
    exp(got, beyond)
    assert got.tolist()[:-1] == [0.0] * 4 + [np.inf] * 3
    assert np.isnan(got[-1])


@pytest.mark.parametrize("threads", [1, 2])
def test_denormals_count_as_zero_inside_alone(threads: int) -> None:
    """In every worker, and the caller's floating-point state is what it was."""
    generator = np.random.default_rng(0)
    parameters = draw_parameters(BUSY.config, generator)
    model = Optimized.create(BUSY.config, 8, 40, parameters, threads=threads)
    model.moments[0][...] = 1e-40
    tokens, _ = draw_batches(BUSY.config, generator, 1, 8, 40)
    model.step(tokens[0], np.full((8, 40), -1, np.int32), Update(1, 0.0))  # gradients of 0
    assert not model.moments[0].any()
    assert np.float32(1e-20) * np.float32(1e-20) > 0.0


def test_gelu_over_its_whole_range() -> None:
    """Its exponential must neither stop early, overflow nor turn negative."""
    pair = next(pair for pair in PAIRS if pair.name == "gelu_forward")
    x = np.r_[np.linspace(-12, 12, 200_001), -3e38, -1e10, -300.0, 0.0, 300.0, 1e10].astype("f4")
    out = pair.run(pair.candidate, {"out": x[None, None], "x": x[None, None]})["out"]
    wide = x.astype(np.float64)
    with np.errstate(over="ignore"):
        exact = wide / (1 + np.exp(-2 * np.sqrt(2 / np.pi) * (wide + 0.044715 * wide**3)))
    assert (np.abs(out[0, 0] - exact) <= 2**-22 * np.abs(wide)).all()


def test_nan_in_the_parameters_shows_in_the_loss() -> None:
    config = BUSY.config
    parameters = draw_parameters(config, np.random.default_rng(0))
    for name in ("embedding", "layer1.qkv_weight", "layer0.ff_in_bias", "layer1.ln2_shift"):
        model = Optimized.create(config, 1, 8, parameters)
        model.tensors()[name].reshape(-1)[-1] = np.nan
        model.prepare()
        tokens = np.full((1, 8), config.vocab_size - 1, np.int32)
        model.forward(tokens)
        assert np.isnan(model.loss(tokens)), name


def test_generation_is_the_reference_s() -> None:
    config = Config(60, 24, 2, 3, 40)
    parameters = draw_parameters(config, np.random.default_rng(4))
    uniforms = np.random.default_rng(5).random(64)
    drawn = []
    for cls in (Optimized, Reference):
        model = cls.create(config, 1, 16, parameters, operations=["generation"])
        model.feed(np.array([1, 2, 3], np.int32))
        drawn.append(model.generate(64, Sampling(0.8, 20, 0.95), uniforms))
    assert np.array_equal(*drawn)


def test_importing_leaves_the_environment_as_it_was() -> None:
    code = (
        "import os; before = dict(os.environ); import cllm.optimized; print(os.environ == before)"
    )
    for policy in ({}, {"OMP_WAIT_POLICY": "active"}):
        environment = {k: v for k, v in os.environ.items() if k != "OMP_WAIT_POLICY"} | policy
        done = subprocess.run(
            [sys.executable, "-P", "-c", code],
            env=environment, capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert done.stdout == "True\n"
