"""Batches: every token once an epoch, targets shifted by one, an order that the seed decides."""

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cllm import CllmError
from cllm.text.batches import Batches, epoch_generator


@st.composite
def cases(draw: st.DrawFn) -> tuple[Batches, int]:
    """Batches of the stream 5, 6, ..., so that every token says where it is; and its length."""
    length = draw(st.integers(2, 60))
    stream = np.arange(5, 5 + length, dtype=draw(st.sampled_from([np.uint8, np.uint16, np.int64])))
    batch_size, seq_len = draw(st.integers(1, 9)), draw(st.integers(1, length))
    return Batches(stream, batch_size, seq_len), length


@settings(deadline=None)
@given(cases(), st.integers(0, 2**32), st.integers(0, 100), st.booleans())
def test_every_token_is_a_target_once_and_follows_its_input(
    case: tuple[Batches, int], seed: int, epoch: int, shuffled: bool
) -> None:
    batches, length = case
    order = batches.order(epoch_generator(seed, epoch) if shuffled else None)
    inputs, targets = [], []
    for i in range(len(batches)):
        x, y = batches.batch(order, i)
        counted = y >= 0
        assert x.shape == y.shape
        np.testing.assert_array_equal(y[counted], x[counted] + 1)
        assert (y[~counted] == -1).all()
        assert (x[~counted] == 0).all()
        inputs += x[counted].tolist()
        targets += y[counted].tolist()
    assert sorted(inputs) == list(range(5, 5 + length - 1))
    assert sorted(targets) == list(range(6, 5 + length))


@settings(deadline=None)
@given(cases())
def test_batches_are_full_but_for_the_last_and_what_the_models_take(
    case: tuple[Batches, int],
) -> None:
    batches, length = case
    order = batches.order()
    rows = []
    for i in range(len(batches)):
        for array in batches.batch(order, i):
            assert array.dtype == np.int32
            assert array.flags.c_contiguous
            assert array.flags.owndata
            assert array.shape[1] == batches.seq_len
        rows.append(len(array))
    assert rows[:-1] == [batches.batch_size] * (len(batches) - 1)
    assert 1 <= rows[-1] <= batches.batch_size
    assert sum(rows) == batches.num_windows == -(-(length - 1) // batches.seq_len)


def test_a_window_is_one_stretch_of_the_text_and_the_last_is_filled_up() -> None:
    batches = Batches(np.arange(10, 18, dtype=np.uint8), 2, 3)
    order = np.array([2, 0, 1])
    tokens, targets = batches.batch(order, 0)
    np.testing.assert_array_equal(tokens, [[16, 0, 0], [10, 11, 12]])
    np.testing.assert_array_equal(targets, [[17, -1, -1], [11, 12, 13]])
    tokens, targets = batches.batch(order, 1)
    np.testing.assert_array_equal(tokens, [[13, 14, 15]])
    np.testing.assert_array_equal(targets, [[14, 15, 16]])


def test_a_window_may_be_as_long_as_the_text() -> None:
    tokens, targets = Batches(np.array([7, 8], np.uint16), 4, 2).batch(np.array([0]), 0)
    np.testing.assert_array_equal(tokens, [[7, 0]])
    np.testing.assert_array_equal(targets, [[8, -1]])


def test_without_a_generator_the_order_is_that_of_the_text() -> None:
    batches = Batches(np.arange(100), 2, 3)
    np.testing.assert_array_equal(batches.order(), np.arange(33))


def test_the_order_is_decided_by_seed_and_epoch_and_differs_between_them() -> None:
    batches = Batches(np.arange(1001), 4, 1)
    orders = {}
    for seed in range(4):
        for epoch in range(4):
            order = batches.order(epoch_generator(seed, epoch))
            np.testing.assert_array_equal(order, batches.order(epoch_generator(seed, epoch)))
            np.testing.assert_array_equal(np.sort(order), np.arange(1000))
            orders[seed, epoch] = order.tobytes()
    # Not [0, 1] and [1, 0] either: seed and epoch are not added up.
    assert len(set(orders.values())) == 16


def test_the_order_of_an_epoch_is_the_same_in_every_version() -> None:
    order = Batches(np.arange(9), 1, 1).order(epoch_generator(3, 1))
    expected = np.arange(8)
    np.random.default_rng([3, 1]).shuffle(expected)
    np.testing.assert_array_equal(order, expected)


def test_every_window_is_as_likely_in_every_place() -> None:
    batches = Batches(np.arange(7), 1, 1)
    counts = np.zeros((6, 6), int)
    for epoch in range(6000):
        counts[np.arange(6), batches.order(epoch_generator(0, epoch))] += 1
    # 36 binomial counts of mean 1000: six standard deviations is 173.
    assert np.abs(counts - 1000).max() < 173


def test_an_order_takes_four_bytes_a_window() -> None:
    assert Batches(np.arange(1000), 1, 1).order(epoch_generator(0, 0)).nbytes == 4 * 999


def test_a_mapped_stream_is_neither_copied_nor_read_beforehand(tmp_path: Path) -> None:
    path = tmp_path / "tokens.npy"
    np.save(path, np.arange(1000, dtype=np.uint16))
    stream = np.load(path, mmap_mode="r+")
    batches = Batches(stream, 1, 10)
    stream[20] = 7
    assert batches.batch(np.array([2]), 0)[0][0, 0] == 7


@pytest.mark.parametrize("i", [-1, 4])
def test_a_batch_that_is_not_there_is_refused(i: int) -> None:
    batches = Batches(np.arange(8), 2, 1)
    assert len(batches) == 4
    with pytest.raises(IndexError, match=rf"batch must be in 0\.\.3: got {i}"):
        batches.batch(batches.order(), i)


@pytest.mark.parametrize(
    ("tokens", "batch_size", "seq_len", "said"),
    [
        (np.arange(57), 1, 128, "sequence length 128 is longer than the text's 57 tokens"),
        (np.arange(57), 0, 8, "batch_size must be an integer in 1"),
        (np.arange(57), -3, 8, "batch_size .* got -3"),
        (np.arange(57), 4, 0, "seq_len must be an integer in 1"),
        (np.arange(57), 4, 2.0, "seq_len .* got 2.0"),
        (np.arange(1), 1, 1, "at least 2 tokens: this one has 1"),
        (np.arange(0), 1, 1, "at least 2 tokens: this one has 0"),
        (np.arange(4).reshape(2, 2), 1, 1, r"\(n,\): got int64 of shape \(2, 2\)"),
        (np.arange(4.0), 1, 1, "got float64"),
    ],
)
def test_bad_input_is_refused(tokens: np.ndarray, batch_size: int, seq_len: int, said: str) -> None:
    with pytest.raises(CllmError, match=said):
        Batches(tokens, batch_size, seq_len)


def test_an_absurd_batch_size_takes_no_more_than_the_text() -> None:
    batches = Batches(np.arange(10), 2**31 - 1, 2)
    assert len(batches) == 1
    assert batches.batch(batches.order(), 0)[0].shape == (5, 2)


def test_little_of_a_mapped_stream_stays_mapped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading all of a large file must not leave all of it in this process's memory."""
    monkeypatch.setattr("cllm.text.batches.RESIDENT", 2**22)
    path = tmp_path / "tokens.npy"
    np.save(path, np.arange(2**24, dtype=np.uint16) % 1000)  # 32 MiB
    batches = Batches(np.load(path, mmap_mode="r"), 8, 256)
    order = batches.order()
    for i in range(len(batches)):
        tokens, _ = batches.batch(order, i)
        assert tokens[0, 0] == order[i * 8] * 256 % 2**16 % 1000
    mapping = Path("/proc/self/smaps").read_text().split(str(path))[1]
    (resident,) = re.findall(r"^Rss: +(\d+) kB", mapping, re.MULTILINE)[:1]
    assert int(resident) * 1024 <= 2**23
