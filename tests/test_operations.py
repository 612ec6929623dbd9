"""Every operation of the optimized model against the reference's, from the table of pairs."""

from __future__ import annotations

import numpy as np
import pytest

from cllm.errors import CllmError
from cllm.harness import CHECKS, Status
from cllm.harness.checks.check import Kind
from cllm.harness.pairs.pair import Pair, copy, find_function, shape_of, takes_threads
from cllm.harness.pairs.table import CASES, PAIRS

NAMES = [name for name, check in CHECKS.items() if check.kind is Kind.PAIR]
each_pair = pytest.mark.parametrize(
    "pair", PAIRS, ids=[f"{i}-{pair.name}" for i, pair in enumerate(PAIRS)]
)


@each_pair
def test_every_check_of_a_pair_holds(pair: Pair) -> None:
    for name in NAMES:
        verdict = CHECKS[name](pair, None, 0)
        good = {Status.PASS, Status.NOT_APPLICABLE}
        assert verdict.status in good, (name, verdict.evidence, verdict.details.get("traceback"))
        if verdict.status is Status.NOT_APPLICABLE:
            expected = {
                "pair.bounds": not pair.axes,
                "pair.refuses": not pair.axes,
                "pair.stale": not pair.writes,
                "pair.threads": pair.name in {"sample", "clip_scale"},
                "pair.indices": not pair.name.startswith("embedding"),
            }
            assert expected.get(name), (name, verdict.evidence)


@each_pair
def test_arrays_of_another_shape_or_none_are_refused_by_name(pair: Pair) -> None:
    sizes = CASES[1]
    drawn = pair.draw(sizes, np.random.default_rng(1))
    for name, axes in pair.axes.items():
        dtype = pair.dtype_of(name)
        for bad in (
            np.zeros((*shape_of(axes, sizes), 2), dtype),
            drawn[name].tolist(),
            None if name not in {"bias", "dbias"} else np.zeros((), dtype),
        ):
            given = {key: copy(value) for key, value in drawn.items()} | {name: bad}
            with pytest.raises(CllmError):
                pair.call(pair.candidate, given)


@each_pair
def test_what_does_not_fit_is_an_error_of_this_package(pair: Pair) -> None:
    """The checks take any exception for a refusal, and right results too; ours are strict."""
    drawn = pair.draw(CASES[1], np.random.default_rng(1))
    for name in pair.axes:
        array = drawn[name]
        strided = np.repeat(array[..., None], 2, -1)[..., 0]
        other = np.float32 if array.dtype == np.float64 else np.float64
        for bad in (array.astype(other), strided, array.astype(np.uint16)):
            with pytest.raises(CllmError, match=name):
                pair.call(pair.candidate, {**drawn, name: bad})
    for name in (*pair.writes, *pair.adds):
        frozen = drawn[name].copy()
        frozen.flags.writeable = False
        with pytest.raises(CllmError, match=name):
            pair.call(pair.candidate, {**drawn, name: frozen})
        for other in pair.reads:
            if drawn[other].shape == drawn[name].shape and pair.in_place.get(name) != other:
                with pytest.raises(CllmError, match="overlap"):
                    pair.call(pair.candidate, {**drawn, name: drawn[other]})


@pytest.mark.parametrize("bad", [-1, 11, 2**31 - 1, -(2**31)])
def test_ids_out_of_range_are_refused(bad: int) -> None:
    for pair in PAIRS:
        for name in pair.ids:
            _, lowest, stop = pair.ids[name]
            if lowest <= bad < (stop if isinstance(stop, int) else CASES[1][stop]):
                continue
            arguments = pair.draw(CASES[1], np.random.default_rng(1))
            arguments[name].flat[-1] = bad
            with pytest.raises(CllmError, match=f"{name} must lie in"):
                pair.run(pair.candidate, arguments)


def test_zero_and_negative_threads_of_an_operation() -> None:
    pair = next(pair for pair in PAIRS if pair.name == "gelu_forward")
    arguments = pair.draw(CASES[1], np.random.default_rng(1))
    assert takes_threads(pair)
    assert callable(find_function(pair.candidate))
    pair.run(pair.candidate, arguments, threads=0)
    for threads in (-1, 10**6):
        with pytest.raises(CllmError, match="threads"):
            pair.run(pair.candidate, arguments, threads=threads)
