"""A corpus: text files as one stream of token ids, kept in a cache.

The stream is, file by file in the order of their paths, BOS, the tokens of the file, EOS.

Promises: the stream depends on the files' content and the tokenizer alone; it is written to disk as
it is made and mapped into memory, so that a text may be larger than the memory; a damaged entry of
the cache is made anew, never believed; two processes may make the same entry at once.
Leaves out: cutting the stream into batches (`cllm.text.batches`), and removing entries: the cache
is a folder that may be deleted at any time.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cllm.errors import CllmError
from cllm.text.text_files import TextFile, find_texts, read_pieces
from cllm.text.token_cache import TokenCache
from cllm.text.tokenizer import BOS, EOS, Tokenizer, TokenizerSettings, train_tokenizer

CACHE_VERSION = 2
"""Raised whenever the same text and settings give another stream, or an entry another form."""

BPE_SAMPLE = 2**23
"""Bytes of text that byte-pair encoding learns from: of a larger corpus it is shown about as many,
in pieces spread evenly over all files. Whitespace vocabularies count every word."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Corpus:
    """A text as token ids."""

    tokens: NDArray[Any]
    """(n,) the stream in the smallest unsigned dtype that holds V; mapped from disk, read-only."""
    tokenizer: Tokenizer
    key: str
    """SHA-256 of the text and of the tokenizer, or of the settings that it was trained by."""
    files: int
    """How many files the text comes from."""
    skipped: dict[str, int]
    """How many others were not read, by reason (`cllm.text.text_files.find_texts`)."""
    text_bytes: int
    """Size of the text."""
    distinct: int
    """How many different ids are in the stream, BOS and EOS among them."""
    unknown: int
    """How many of the tokens are UNK."""

    def split(self, fraction: float) -> tuple[NDArray[Any], NDArray[Any]]:
        """The stream without its last part, and that part for validation: `fraction` of the tokens.

        A fraction of 0 leaves it empty. Raises `CllmError` for a fraction outside [0, 1), and
        where a part that is wanted would have fewer than 2 tokens.
        """
        if not 0 <= fraction < 1:
            raise CllmError(f"validation_fraction must be in [0, 1): got {fraction!r}")
        at = len(self.tokens) - int(len(self.tokens) * fraction)
        training, validation = self.tokens[:at], self.tokens[at:]
        if fraction and min(len(training), len(validation)) < 2:
            raise CllmError(
                f"validation_fraction {fraction:g} leaves {len(training)} tokens for training and "
                f"{len(validation)} for validation: each needs at least 2"
            )
        return training, validation


def default_cache() -> Path:
    """$XDG_CACHE_HOME/cllm, or ~/.cache/cllm; raises `CllmError` where there is no home."""
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    # A relative path is invalid, and to be ignored (XDG Base Directory Specification).
    if base.is_absolute():
        return base / "cllm"
    try:
        return Path.home() / ".cache" / "cllm"
    except RuntimeError as error:
        raise CllmError(f"no folder for the cache: {error}; choose one with --cache") from error


def load_corpus(
    paths: Sequence[Path],
    *,
    tokenizer: Tokenizer | TokenizerSettings,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> Corpus:
    """The text of files and folders in tokens, of a tokenizer given or trained on this text.

    `cache` is `default_cache()` unless given. `progress(done, total)` is told how many bytes of
    the work on a new text are done; a text is read once to train a tokenizer, and once more.

    Raises `CllmError` for a path that is not there, where nothing can be read, for a text of fewer
    than 2 tokens (BOS and EOS not counted), and where the cache cannot be written.
    """
    files, skipped = find_texts(paths)
    names = ", ".join(map(str, paths))
    if not files:
        why = ", ".join(f"{count} {reason}" for reason, count in sorted(skipped.items()))
        raise CllmError(f"no text to read in {names or 'no path'}; skipped: {why or 'nothing'}")
    text_bytes = sum(file.size for file in files)
    key = _key(files, tokenizer)
    entries = TokenCache(cache or default_cache())
    stream = entries.load(key)
    if stream is None:
        entries.prepare()
        trains = isinstance(tokenizer, TokenizerSettings) and tokenizer.kind != "bytes"
        read = _reader(text_bytes * (2 if trains else 1), progress)
        if isinstance(tokenizer, TokenizerSettings):
            texts = (piece for file in files for piece in read(file))
            tokenizer = _train(tokenizer, texts, text_bytes)
        stream = entries.store(key, tokenizer, _tokenize(files, read, tokenizer, names))
    return Corpus(
        stream.tokens,
        stream.tokenizer,
        key,
        len(files),
        dict(skipped),
        text_bytes,
        stream.distinct,
        stream.unknown,
    )


def _key(files: Iterable[TextFile], tokenizer: Tokenizer | TokenizerSettings) -> str:
    how = (
        tokenizer.to_json()
        if isinstance(tokenizer, Tokenizer)
        else json.dumps(asdict(tokenizer), sort_keys=True)
    )
    digest = hashlib.sha256(f"{CACHE_VERSION} {len(how)} {how}".encode())
    for file in files:
        digest.update(file.digest)
    return digest.hexdigest()


def _reader(total: int, progress: Progress | None) -> Callable[[TextFile], Iterator[str]]:
    """A function that reads a file in pieces, and tells of all that it has read so far."""
    done = 0

    def on_read(size: int) -> None:
        nonlocal done
        done += size
        if progress:
            progress(done, total)

    return lambda file: read_pieces(file, on_read)


def _train(settings: TokenizerSettings, texts: Iterable[str], text_bytes: int) -> Tokenizer:
    if settings.kind == "bpe":
        texts = _sample(texts, text_bytes, BPE_SAMPLE)
    return train_tokenizer(settings.kind, texts, settings.vocab_size, settings.lowercase)


def _sample(texts: Iterable[str], total: int, limit: int) -> Iterator[str]:
    """About `limit` of `total` bytes: a text is taken where no more than this share was before."""
    seen = taken = 0
    for text in texts:
        size = len(text.encode())
        if taken * total <= seen * limit:
            taken += size
            yield text
        seen += size


def _tokenize(
    files: Iterable[TextFile],
    read: Callable[[TextFile], Iterator[str]],
    tokenizer: Tokenizer,
    names: str,
) -> Iterator[NDArray[np.int32]]:
    count = 0
    for file in files:
        yield np.array([BOS], np.int32)
        for piece in read(file):
            tokens = tokenizer.encode(piece)
            count += len(tokens)
            yield tokens
        yield np.array([EOS], np.int32)
    if count < 2:
        raise CllmError(f"the text in {names} has {count} tokens: at least 2 are needed")
