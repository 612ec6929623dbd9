"""The most frequent words of texts that may be larger than the memory.

Promises: the exact result of counting every word of at most `MAX_WORD` characters, in bounded
memory: counts that grow too large are sorted and written to a temporary file, and the files are
merged (external merge sort: Knuth, The Art of Computer Programming, volume 3, section 5.4).
Leaves out: longer words, which are no words: they come from files without spaces.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from operator import itemgetter
from typing import IO

WORDS_IN_MEMORY = 2**19
"""Distinct words that are counted in memory, about 100 MB of them."""

MAX_WORD = 256
"""Characters of the longest word that is counted."""

MAX_FILES = 64
"""Temporary files open at once."""

Counts = Iterable[tuple[str, int]]


def most_frequent(texts: Iterable[str], limit: int) -> list[str]:
    """At most `limit` words, most frequent first, equally frequent ones by code points.

    Raises `OSError`, naming the folder, where a temporary file cannot be written.
    """
    counts: Counter[str] = Counter()
    files: list[IO[str]] = []
    try:
        for text in texts:
            counts.update(word for word in text.split() if len(word) <= MAX_WORD)
            if len(counts) > WORDS_IN_MEMORY:
                files.append(_write(sorted(counts.items())))
                counts.clear()
            if len(files) == MAX_FILES:
                merged = _write(_merge(map(_read, files)))
                _close(files)
                files = [merged]
        total = _merge([*map(_read, files), sorted(counts.items())])
        top = heapq.nsmallest(limit, total, key=lambda entry: (-entry[1], entry[0]))
    finally:
        _close(files)
    return [word for word, _ in top]


def _merge(sorted_counts: Iterable[Counts]) -> Iterator[tuple[str, int]]:
    """Add up the counts of each word; all are sorted by word, and so is the result."""
    for word, entries in itertools.groupby(heapq.merge(*sorted_counts), key=itemgetter(0)):
        yield word, sum(count for _, count in entries)


def _write(counts: Counts) -> IO[str]:
    file = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115
    try:
        file.writelines(f"{word}\t{count}\n" for word, count in counts)
        file.seek(0)
    except OSError as error:
        with contextlib.suppress(OSError):  # it writes once more
            file.close()
        raise OSError(error.errno, error.strerror, tempfile.gettempdir()) from error
    return file


def _read(file: IO[str]) -> Iterator[tuple[str, int]]:
    for line in file:
        word, count = line.split()
        yield word, int(count)


def _close(files: Iterable[IO[str]]) -> None:
    for file in files:
        file.close()
