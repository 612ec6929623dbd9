"""Every operation of the optimized model against the reference's, from the table of pairs."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

from cllm.errors import CllmError
from cllm.harness.pairs import PAIRS, Pair, shape_of
from cllm.harness.tolerance import FORWARD, GRADIENTS, compare_tensors

SIZES = [
    {"B": 1, "T": 1, "D": 4, "H": 1, "F": 1, "V": 2, "K": 1, "M": 1, "P": 0},
    {"B": 2, "T": 5, "D": 6, "H": 3, "F": 9, "V": 11, "K": 7, "M": 5, "P": 3},
    {"B": 3, "T": 17, "D": 15, "H": 15, "F": 31, "V": 65, "K": 33, "M": 100, "P": 16},
    {"B": 2, "T": 33, "D": 64, "H": 2, "F": 128, "V": 381, "K": 300, "M": 49, "P": 20},
    {"B": 1, "T": 40, "D": 130, "H": 1, "F": 257, "V": 10_007, "K": 513, "M": 3, "P": 39},
]
each_pair = pytest.mark.parametrize(
    "pair", PAIRS, ids=[f"{i}-{pair.function}" for i, pair in enumerate(PAIRS)]
)


@each_pair
@pytest.mark.parametrize("sizes", SIZES, ids=lambda sizes: f"D{sizes['D']}")
def test_optimized_agrees_with_reference(pair: Pair, sizes: dict[str, int]) -> None:
    arguments = pair.draw(sizes, np.random.default_rng([sizes["D"], sizes["V"]]))
    rounded = {
        name: value.astype(np.float32) if getattr(value, "dtype", None) == np.float64 else value
        for name, value in arguments.items()
    }
    exact = pair.run("reference", rounded, np.float64)
    single = pair.run("reference", rounded, np.float32)
    got = pair.run("optimized", rounded, np.float32)
    errors = {name: np.abs(single[name] - exact[name]) for name in exact}
    factor = GRADIENTS if "backward" in pair.function else FORWARD
    for comparison in compare_tensors(got, exact, errors, factor):
        assert comparison.passed, str(comparison)


@each_pair
@pytest.mark.parametrize("sizes", SIZES, ids=lambda sizes: f"D{sizes['D']}")
def test_same_bytes_for_every_number_of_threads(pair: Pair, sizes: dict[str, int]) -> None:
    if "threads" not in inspect.signature(pair.find("optimized")).parameters:
        assert pair.function in {"sample", "clip_scale"}
        return
    arguments = pair.draw(sizes, np.random.default_rng(sizes["D"]))
    alone = pair.run("optimized", arguments, np.float32, threads=1)
    for threads in (2, 3, 7):
        together = pair.run("optimized", arguments, np.float32, threads=threads)
        for name in alone:
            assert alone[name].tobytes() == together[name].tobytes(), (name, threads)


@each_pair
def test_bad_arrays_are_refused_by_name_before_any_write(pair: Pair) -> None:
    sizes = SIZES[1]
    optimized = pair.find("optimized")
    arrays = {**pair.writes, **pair.adds, **pair.reads, **pair.ids}
    drawn = pair.draw(sizes, np.random.default_rng(1))
    for name, axes in arrays.items():
        shape = shape_of(axes, sizes)
        integer = name in pair.ids
        for bad in (
            np.zeros(shape, np.float64),
            np.zeros((*shape[:-1], shape[-1] * 2), np.int32 if integer else np.float32)[..., ::2],
            np.zeros(shape, np.uint32 if integer else np.int32),
            np.zeros((*shape, 2), np.int32 if integer else np.float32),
            None if name not in {"bias", "dbias"} else np.zeros((), np.float32),
        ):
            given = {
                key: value.astype(np.float32)
                if isinstance(value, np.ndarray) and value.dtype == np.float64
                else value
                for key, value in drawn.items()
            }
            before = {key: np.array(value) for key, value in given.items() if key != name}
            given[name] = bad
            with pytest.raises(CllmError):
                optimized(**given)
            for key, value in before.items():
                assert np.array_equal(value, np.array(given[key]), equal_nan=value.dtype != object)


@each_pair
def test_read_only_and_overlapping_outputs_are_refused(pair: Pair) -> None:
    drawn = {
        key: value.astype(np.float32)
        if isinstance(value, np.ndarray) and value.dtype == np.float64
        else value
        for key, value in pair.draw(SIZES[1], np.random.default_rng(1)).items()
    }
    for name in (*pair.writes, *pair.adds):
        frozen = drawn[name].copy()
        frozen.flags.writeable = False
        with pytest.raises(CllmError, match=name):
            pair.find("optimized")(**{**drawn, name: frozen})
        for other in pair.reads:
            if drawn[other].shape == drawn[name].shape and (name, other) != ("dlogits", "logits"):
                with pytest.raises(CllmError, match="overlap"):
                    pair.find("optimized")(**{**drawn, name: drawn[other]})


@pytest.mark.parametrize("bad", [-1, 11, 2**31 - 1, -(2**31)])
def test_ids_out_of_range_are_refused(bad: int) -> None:
    for pair in PAIRS:
        for name in pair.ids:
            if (name, bad) == ("targets", -1):
                continue
            arguments = pair.draw(SIZES[1], np.random.default_rng(1))
            arguments[name][-1, -1] = bad
            with pytest.raises(CllmError, match=f"{name} must lie in"):
                pair.run("optimized", arguments, np.float32)


def test_zero_and_negative_threads_of_an_operation() -> None:
    pair = next(pair for pair in PAIRS if pair.function == "gelu_forward")
    arguments = pair.draw(SIZES[1], np.random.default_rng(1))
    pair.run("optimized", arguments, np.float32, threads=0)
    for threads in (-1, 10**6):
        with pytest.raises(CllmError, match="threads"):
            pair.run("optimized", arguments, np.float32, threads=threads)
