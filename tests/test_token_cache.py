"""The cache of token streams: what was written, whole and checked, or nothing."""

import os
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cllm import CllmError
from cllm.text.byte_level import BytesTokenizer
from cllm.text.token_cache import TokenCache
from cllm.text.whitespace import WhitespaceTokenizer

BYTES = BytesTokenizer(lowercase=False)
KEY = "0123abcd"


def parts(*ids: list[int]) -> list[NDArray[np.int32]]:
    return [np.array(part, np.int32) for part in ids]


@pytest.fixture
def cache(tmp_path: Path) -> TokenCache:
    cache = TokenCache(tmp_path / "deep" / "cache")
    cache.prepare()
    return cache


@pytest.mark.parametrize(
    ("vocab_size", "dtype"),
    [(255, "u1"), (256, "u1"), (257, "u2"), (65536, "u2"), (65537, "u4")],
)
def test_a_stream_comes_back_in_the_smallest_dtype(
    cache: TokenCache, vocab_size: int, dtype: str
) -> None:
    tokenizer = WhitespaceTokenizer([f"w{i}" for i in range(vocab_size - 4)], False)
    ids = [2, vocab_size - 1, 7, 3]
    for stream in (cache.store(KEY, tokenizer, parts(ids[:3], [], ids[3:])), cache.load(KEY)):
        assert stream is not None
        assert stream.tokens.tolist() == ids
        assert stream.tokens.dtype == np.dtype(dtype)
        assert stream.distinct == 4
        assert stream.tokenizer.to_json() == tokenizer.to_json()


def test_a_stream_is_mapped_and_read_only(cache: TokenCache) -> None:
    for stream in (cache.store(KEY, BYTES, parts([2, 9, 9, 3])), cache.load(KEY)):
        assert stream is not None
        assert isinstance(stream.tokens, np.memmap)
        assert not stream.tokens.flags.writeable
        assert stream.distinct == 3


def test_an_entry_is_an_ordinary_npy_file_of_any_length(cache: TokenCache) -> None:
    for length in (1, 9, 10, 99_999, 100_000):
        cache.store(KEY, BYTES, (np.full(1, i % 260, np.int32) for i in range(length)))
        whole = np.load(cache.folder / f"{KEY}.npy")
        np.testing.assert_array_equal(whole, np.arange(length) % 260)
        assert whole.shape == (length,)


def test_what_is_not_there_is_none(cache: TokenCache, tmp_path: Path) -> None:
    assert cache.load(KEY) is None
    assert TokenCache(tmp_path / "missing").load(KEY) is None
    cache.store(KEY, BYTES, parts([5, 6]))
    assert cache.load(KEY + "0") is None
    for name in (f"{KEY}.npy", f".{KEY}.json"):
        cache.store(KEY, BYTES, parts([5, 6]))
        (cache.folder / name).unlink()
        assert cache.load(KEY) is None


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.data(),
    st.sampled_from([f"{KEY}.npy", f".{KEY}.json"]),
    st.sampled_from(["cut", "flip", "grow"]),
)
def test_any_damage_makes_it_none(
    cache: TokenCache, data: st.DataObject, name: str, how: str
) -> None:
    cache.store(KEY, BYTES, parts([2, 100, 101, 3]))
    path = cache.folder / name
    content = bytearray(path.read_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    if how == "cut":
        del content[at:]
    elif how == "flip":
        content[at] ^= data.draw(st.integers(1, 255))
    else:
        content += b"\0"
    path.write_bytes(content)
    assert cache.load(KEY) is None


@pytest.mark.parametrize(
    "other",
    [
        np.array([2, 100, 300, 3], np.uint16),  # an id beyond the vocabulary
        np.array([[2, 100], [101, 3]], np.uint16),
        np.array([2, 100, 101, 3], np.int64),
        np.array([2.0]),
    ],
)
def test_another_array_in_its_place_is_not_believed(cache: TokenCache, other: NDArray[Any]) -> None:
    cache.store(KEY, BYTES, parts([2, 100, 101, 3]))
    np.save(cache.folder / f"{KEY}.npy", other)
    assert cache.load(KEY) is None


def test_parts_that_fail_leave_nothing_and_an_old_entry_as_it_was(cache: TokenCache) -> None:
    def failing() -> Iterator[NDArray[np.int32]]:
        yield from parts([7, 8])
        raise CllmError("no more")

    with pytest.raises(CllmError, match=r"^no more$"):
        cache.store(KEY, BYTES, failing())
    assert list(cache.folder.iterdir()) == []
    cache.store(KEY, BYTES, parts([5, 6]))
    with pytest.raises(CllmError, match=r"^no more$"):
        cache.store(KEY, BYTES, failing())
    stream = cache.load(KEY)
    assert stream is not None
    assert stream.tokens.tolist() == [5, 6]


def test_two_may_write_the_same_entry_at_once_and_others_go_on_reading(cache: TokenCache) -> None:
    ids = [2, 50, 51, 3]
    reading = cache.store(KEY, BYTES, parts(ids))

    def interrupted() -> Iterator[NDArray[np.int32]]:
        yield from parts(ids[:2])
        cache.store(KEY, BYTES, parts(ids))
        yield from parts(ids[2:])

    stored, loaded = cache.store(KEY, BYTES, interrupted()), cache.load(KEY)
    assert loaded is not None
    for stream in (reading, stored, loaded):
        assert stream.tokens.tolist() == ids
    assert {p.name for p in cache.folder.iterdir()} == {f".{KEY}.json", f"{KEY}.npy"}


def test_what_a_kill_left_is_removed_while_nobody_writes(cache: TokenCache) -> None:
    left, other = (cache.folder / name for name in (".0123456789abcdef.tmp", ".mine.tmp"))
    for path in (left, other):
        path.touch()

    def interrupted() -> Iterator[NDArray[np.int32]]:
        yield from parts([2, 50])
        cache.prepare()
        assert left.exists()
        yield from parts([51, 3])

    assert cache.store(KEY, BYTES, interrupted()).tokens.tolist() == [2, 50, 51, 3]
    cache.prepare()
    assert not left.exists()
    assert other.exists()


def test_unknown_tokens_are_counted(cache: TokenCache) -> None:
    for stream in (cache.store(KEY, BYTES, parts([2, 1, 9], [1, 1, 3])), cache.load(KEY)):
        assert stream is not None
        assert stream.unknown == 3


def test_a_folder_that_cannot_be_made_or_written_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(CllmError, match=r"file/cache cannot be written: .*; choose .* --cache"):
        TokenCache(tmp_path / "file" / "cache").prepare()
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(CllmError, match=r"Permission denied; choose another folder with --cache"):
        TokenCache(tmp_path).prepare()


def test_a_full_disk_is_one_clear_line_and_leaves_nothing(cache: TokenCache) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        with pytest.raises(
            CllmError, match=r"cannot be written: File too large; choose .* --cache"
        ):
            cache.store(KEY, BYTES, (np.zeros(1000, np.int32) for _ in range(100)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(cache.folder.iterdir()) == []
