"""What the optimized model takes at once is what the interface takes, and taken alike."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import event, example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cllm import CllmError, Config, Model
from cllm.model import Model as Interface
from cllm.optimized import Model as Optimized
from cllm.optimized.batch import Batch

CONFIG = Config(5, 4, 1, 2, 3)
ROWS, TIME = 3, 4


class Own(np.ndarray):
    """An array of a class of its own."""


def build() -> Model:
    return Optimized.create(CONFIG, ROWS, TIME, np.zeros(CONFIG.num_parameters))


def laid_out(ids: NDArray[Any], layout: str) -> Any:
    """The same ids, lying in memory in another way."""
    if layout == "Fortran":
        return np.asfortranarray(ids)
    if layout == "reversed":
        return ids[..., ::-1].copy()[..., ::-1]
    if layout == "every other":
        wide = np.full((*ids.shape, 2), 99, ids.dtype)
        wide[..., 0] = ids
        return wide[..., 0]
    if layout == "one row, repeated":
        return np.broadcast_to(ids[:1], ids.shape)
    if layout == "read-only":
        ids.flags.writeable = False
    if layout == "unaligned":
        raw = np.zeros(ids.nbytes + 1, np.uint8)[1:].view(ids.dtype).reshape(ids.shape)
        raw[...] = ids
        return raw
    if layout == "packed":
        records = np.full(ids.shape, 1, [("byte", "i1"), ("id", ids.dtype)])
        records["id"] = ids
        return records["id"]
    if layout == "own class":
        return ids.view(Own)
    if layout == "masked":
        return np.ma.masked_greater(ids, 1)
    if layout == "list":
        return ids.tolist()
    if layout == "memoryview":
        return memoryview(ids)
    if layout == "own dtype":
        return ids.view(np.dtype(ids.dtype, metadata={"made": "elsewhere"}))
    return ids


PLAIN = ["C", "Fortran", "reversed", "every other", "one row, repeated", "read-only"]
LAYOUTS = ["unaligned", "packed", "own class", "masked", "list", "memoryview", "own dtype"]
DTYPES = [">i4", "u4", "i8", "i2", "?", "f4"]


FLAWS = ["id", "dtype", "layout", "shape", "both shapes"]


@st.composite
def batches(draw: st.DrawFn) -> tuple[Any, Any, bool]:
    """Tokens, targets, and whether the fast way must take them."""
    shape = draw(st.tuples(st.integers(1, ROWS), st.integers(1, TIME)))
    flaws = draw(st.lists(st.tuples(st.sampled_from(FLAWS), st.integers(0, 1)), max_size=2))
    if any(flaw == "both shapes" for flaw, _ in flaws):
        shape = draw(st.sampled_from([(0, 1), (1, 0), (ROWS + 1, 1), (1, TIME + 1)]))
    pair = []
    for i, lowest in enumerate((0, -1)):
        own = {flaw for flaw, which in flaws if which == i}
        axes: tuple[int, ...] = shape
        if "shape" in own:
            axes = draw(st.lists(st.integers(0, 4), max_size=3).map(tuple))
        size = int(np.prod(axes))
        drawn = draw(st.lists(st.integers(lowest, 4), min_size=size, max_size=size))
        if "id" in own and size:
            bad = draw(st.sampled_from([lowest - 1, 5, -(2**31), 2**31 - 1]))
            drawn[draw(st.integers(0, size - 1))] = bad
        ids = np.array(drawn, np.int32).reshape(axes)
        if "dtype" in own:
            ids = ids.astype(draw(st.sampled_from(DTYPES)))
        layouts = LAYOUTS if "layout" in own else PLAIN
        pair.append(laid_out(ids, draw(st.sampled_from(layouts)) if ids.ndim == 2 else "C"))
    return pair[0], pair[1], not flaws


def outcome(model: Model, take: Any, tokens: Any, targets: Any) -> tuple[Any, ...]:
    """What came of taking a batch: the count or the refusal, and all that it may have changed."""
    try:
        result = take(tokens, targets)
    except CllmError as error:
        result = str(error)
    buffers = model._buffers_given
    return result, model._shape, buffers["tokens"].tolist(), buffers["targets"].tolist()


# read at a stride of whole ids, these records would give other ids, all of them in range
RECORDS = laid_out(np.zeros((2, 2), np.int32), "packed")


@settings(max_examples=400, deadline=None)
@given(batch=batches())
@example(batch=(RECORDS, RECORDS, False))
def test_takes_and_refuses_what_the_interface_does(batch: tuple[Any, Any, bool]) -> None:
    tokens, targets, plain = batch
    fast, slow = build(), build()
    for model in (fast, slow):
        model._buffers_given["tokens"][...] = 3
        model._buffers_given["targets"][...] = 2
    untouched = outcome(slow, lambda *_: None, None, None)[1:]
    expected = outcome(slow, super(Optimized, slow)._take, tokens, targets)
    assert outcome(fast, fast._take, tokens, targets) == expected
    refused = isinstance(expected[0], str)
    event("refused" if refused else "taken")
    if refused:
        assert expected[1:] == untouched

    tried = build()
    buffers = tried._buffers_given
    at_once = Batch(buffers["tokens"], buffers["targets"], CONFIG.vocab_size).take(tokens, targets)
    assert at_once in (-1, expected[0])
    assert not (plain and at_once == -1)
    if at_once == -1:
        assert not buffers["tokens"].any()
        assert not buffers["targets"].any()


CUTS = [np.s_[:, :-1], np.s_[:, 1:], np.s_[:, 2::-1], np.s_[1:, 1:]]


@settings(deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    names=st.tuples(*[st.sampled_from(["tokens", "targets"])] * 2),
    cuts=st.tuples(*[st.sampled_from(CUTS)] * 2),
)
def test_a_batch_out_of_the_model_s_own_buffers_is_taken_whole(
    seed: int, names: tuple[str, str], cuts: tuple[Any, Any]
) -> None:
    model = build()
    buffers = model._buffers_given
    for name in ("tokens", "targets"):
        buffers[name][...] = np.random.default_rng(seed).integers(0, 5, (ROWS, TIME))
    tokens, targets = (buffers[name][cut] for name, cut in zip(names, cuts, strict=True))
    if tokens.shape != targets.shape:
        return
    expected = tokens.copy(), targets.copy()
    model._take(tokens, targets)
    views = model.activations()
    assert np.array_equal(views["tokens"], expected[0])
    assert np.array_equal(views["targets"], expected[1])


def test_a_batch_beside_the_buffers_is_taken_and_one_that_touches_them_is_not() -> None:
    """One arena: tokens (2,3), then targets (2,3), with room before, between and after."""
    arena = np.zeros(40, np.int32)
    batch = Batch(arena[10:16].reshape(2, 3), arena[20:26].reshape(2, 3), 5)
    other = np.ones((1, 4), np.int32)[:, :3]
    for start in range(37):
        taken = batch.take(arena[start : start + 3][None], other) == 3
        touches = any(low - 3 < start < high for low, high in ((10, 16), (20, 26)))
        assert taken is not touches, start
        backwards = arena[start : start + 3][::-1][None]
        assert (batch.take(other, backwards) == 3) is not touches, start


def test_the_interface_takes_what_is_left_to_it() -> None:
    model = build()
    with pytest.raises(CllmError, match="tokens must be int32: got int64"):
        model._take(np.zeros((1, 1), np.int64), np.zeros((1, 1), np.int32))
    assert Optimized._take is not Interface._take
