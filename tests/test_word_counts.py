"""Words are counted exactly, however few fit into the memory."""

import resource
import tempfile
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cllm.text import word_counts
from cllm.text.word_counts import most_frequent

# Few words, so that they repeat; some hold what separates lines elsewhere, or sort beyond it.
words = st.sampled_from(["a", "b", "ab", "a\x00", "é", "\ufffd", "😀", "<PAD>", "0", '"'])
texts = st.lists(st.lists(words).map(" ".join))


@settings(deadline=None)
@given(texts, st.integers(0, 12), st.integers(1, 4), st.integers(2, 3))
def test_it_is_a_counter(
    given_texts: list[str], limit: int, words_in_memory: int, max_files: int
) -> None:
    counts = Counter(word for text in given_texts for word in text.split())
    wanted = sorted(counts, key=lambda word: (-counts[word], word))[:limit]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(word_counts, "WORDS_IN_MEMORY", words_in_memory)
        patch.setattr(word_counts, "MAX_FILES", max_files)
        assert most_frequent(given_texts, limit) == wanted


def test_few_words_are_in_memory_and_few_files_open(monkeypatch: pytest.MonkeyPatch) -> None:
    open_files: list[int] = []
    write, close = word_counts._write, word_counts._close

    def counting_write(counts: word_counts.Counts) -> object:
        file = write(counts)
        open_files.append(open_files[-1] + 1 if open_files else 1)
        return file

    def counting_close(files: list[Any]) -> None:
        open_files.append(open_files[-1] - len(files))
        close(files)

    def given_texts() -> Iterator[str]:
        for i in range(1000):
            yield f"word{i} word{i % 7}"

    monkeypatch.setattr(word_counts, "WORDS_IN_MEMORY", 10)
    monkeypatch.setattr(word_counts, "MAX_FILES", 5)
    monkeypatch.setattr(word_counts, "_write", counting_write)
    monkeypatch.setattr(word_counts, "_close", counting_close)
    wanted = [f"word{i}" for i in range(7)]
    assert most_frequent(given_texts(), 7) == wanted
    assert 5 <= max(open_files) <= 6
    assert open_files[-1] == 0


def test_a_full_disk_names_the_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(word_counts, "WORDS_IN_MEMORY", 10)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large") as caught:
            most_frequent([" ".join(f"word{i}" for i in range(1000))], 7)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert caught.value.filename == tempfile.gettempdir()


def test_a_file_without_spaces_is_no_word() -> None:
    longest = "x" * word_counts.MAX_WORD
    assert most_frequent([f"{longest}y {longest} {longest}y"], 9) == [longest]
