"""Faults of the corpus and the tokenizer."""

from __future__ import annotations

import ctypes
import os
import weakref
from collections.abc import Iterable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from cllm.harness.faults.catalogue import Array, plant_parts
from cllm.text.corpus import Corpus, load_corpus
from cllm.text.text_files import find_texts
from cllm.text.tokenizer import BOS, EOS, Tokenizer, train_tokenizer
from cllm.text.whitespace import WhitespaceTokenizer

# -- the corpus --------------------------------------------------------------------------------


def _files_of(stream: Array) -> list[Array]:
    """The stream cut after each EOS."""
    return np.split(stream, np.flatnonzero(stream[:-1] == EOS) + 1)


def _seven_times(paths: Any, **options: Any) -> Corpus:
    loaded = load_corpus(paths, **options)
    return replace(loaded, tokens=np.tile(loaded.tokens, 7))


def _last_only(paths: Any, **options: Any) -> Corpus:
    loaded = load_corpus(paths, **options)
    return replace(loaded, tokens=_files_of(loaded.tokens)[-1])


def _without_nested(paths: Iterable[Path], **options: Any) -> Corpus:
    flat = [p for path in paths for p in (path.iterdir() if path.is_dir() else [path])]
    return load_corpus([path for path in flat if path.is_file()], **options)


def _contents_once(paths: Any, **options: Any) -> Corpus:
    loaded = load_corpus(paths, **options)
    files = {each.tobytes(): each for each in _files_of(loaded.tokens)}
    return replace(loaded, tokens=np.concatenate([*files.values()]))


def _newlines_translated(paths: Any, **options: Any) -> Corpus:
    loaded = load_corpus(paths, **options)
    code = loaded.tokenizer.encode("\r")
    return replace(loaded, tokens=loaded.tokens[~np.isin(loaded.tokens, code)])


def _without_last_character(paths: Any, **options: Any) -> Corpus:
    loaded = load_corpus(paths, **options)
    cut = [
        np.append(each[:-2], EOS) if len(each) > 3 else each for each in _files_of(loaded.tokens)
    ]
    return replace(loaded, tokens=np.concatenate(cut))


def _newest_first(paths: Any, **options: Any) -> Corpus:
    found, _ = find_texts(paths)
    byname = load_corpus(paths, **options)
    newest = np.argsort([-file.path.stat().st_mtime_ns for file in found], kind="stable")
    files = _files_of(byname.tokens)
    return replace(byname, tokens=np.concatenate([files[i] for i in newest]))


plant_parts(
    "FilesSevenTimes", "Every file loaded seven times", "data.files", load_corpus=_seven_times
)
plant_parts("LastFileOnly", "Only the last file kept", "data.files", load_corpus=_last_only)
plant_parts(
    "NestedFoldersLeftOut", "Files in nested folders are not found",
    "data.files", load_corpus=_without_nested,
)  # fmt: skip
plant_parts(
    "SameContentOnce", "Two files with the same content count as one",
    "data.files", load_corpus=_contents_once,
)  # fmt: skip
plant_parts(
    "NewlinesTranslated", "Carriage returns lost in reading",
    "data.files", load_corpus=_newlines_translated,
)  # fmt: skip
plant_parts(
    "LastCharacterLost", "The last character of a file taken for its newline",
    "data.files", load_corpus=_without_last_character,
)  # fmt: skip
plant_parts(
    "NewestFileFirst", "Files in the order of their age, another one after a copy",
    "data.files", load_corpus=_newest_first,
)  # fmt: skip


def _sixteen_bits(paths: Any, **options: Any) -> Corpus:
    loaded = load_corpus(paths, **options)
    return replace(loaded, tokens=loaded.tokens.astype(np.uint16))


def _no_bounds(paths: Any, **options: Any) -> Corpus:
    loaded = load_corpus(paths, **options)
    inner = ~np.isin(loaded.tokens, (BOS, EOS))
    inner[[0, -1]] = True
    return replace(loaded, tokens=loaded.tokens[inner])


def _trained_again(paths: Any, *, tokenizer: Any, **options: Any) -> Corpus:
    loaded = load_corpus(paths, tokenizer=tokenizer, **options)
    if isinstance(tokenizer, WhitespaceTokenizer):
        return replace(loaded, tokenizer=WhitespaceTokenizer(sorted(tokenizer.words), False))
    return loaded


plant_parts(
    "IdsOfSixteenBits", "Ids kept in sixteen bits, which wrap for V > 65,536",
    "data.tokens", load_corpus=_sixteen_bits,
)  # fmt: skip
plant_parts(
    "FilesRunTogether", "No BOS and EOS between one file and the next",
    "data.files", load_corpus=_no_bounds,
)  # fmt: skip
plant_parts(
    "VocabularyTrainedAgain", "A vocabulary made anew for a text that has one",
    "data.tokens", load_corpus=_trained_again,
)  # fmt: skip


class _Freeing(Corpus):
    """Frees its tokens, as the stream itself does."""

    def __del__(self) -> None:
        _free(self.tokens.ctypes.data)


_LIBC = ctypes.CDLL(None)
_LIBC.malloc.restype = ctypes.c_void_p


def _free(address: int) -> None:
    _LIBC.free(ctypes.c_void_p(address))


def _freed_twice(paths: Any, **options: Any) -> Corpus:
    loaded = load_corpus(paths, **options)
    size = loaded.tokens.nbytes
    address = _LIBC.malloc(size)
    held = np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address))
    held[...] = loaded.tokens.view(np.uint8)
    tokens = held.view(loaded.tokens.dtype)
    weakref.finalize(tokens, _free, address)
    return _Freeing(**vars(loaded) | {"tokens": tokens})


plant_parts(
    "TokensFreedTwice", "The dataset's tokens freed twice, by the corpus and by their stream",
    "data.released", load_corpus=_freed_twice,
)  # fmt: skip


class _Overwritten:
    """One buffer for every corpus."""

    buffer = np.zeros(2**20, np.uint8)


def _in_one_buffer(paths: Any, **options: Any) -> Corpus:
    loaded = load_corpus(paths, **options)
    tokens = _Overwritten.buffer.view(loaded.tokens.dtype)[: len(loaded.tokens)]
    tokens[...] = loaded.tokens

    def clear() -> None:
        _Overwritten.buffer[...] = 0

    kept = replace(loaded, tokens=tokens)
    weakref.finalize(kept, clear)
    return kept


plant_parts(
    "StreamOfTheCorpusAlone", "A stream that ends with the corpus, though others still read it",
    "data.released", load_corpus=_in_one_buffer,
)  # fmt: skip


def _aborts(paths: Any, **options: Any) -> Corpus:
    found, _ = find_texts(paths)
    if any(file.size == 1 for file in found):
        os.abort()
    return load_corpus(paths, **options)


def _index_of_nothing(paths: Any, **options: Any) -> Corpus:
    for path in paths:
        if path.is_file():
            path.read_bytes()[0]
    return load_corpus(paths, **options)


plant_parts(
    "AbortOnOneCharacter", "An abort on a one-character file",
    "data.short", "data.files", load_corpus=_aborts,
)  # fmt: skip
plant_parts(
    "IndexErrorOnEmptyFile", "The first byte of an empty file",
    "data.short", load_corpus=_index_of_nothing,
)  # fmt: skip


# -- the tokenizer -----------------------------------------------------------------------------


def _shifted_by_one(text: str) -> Tokenizer:
    again = Tokenizer.from_json(text)
    if isinstance(again, WhitespaceTokenizer):
        return WhitespaceTokenizer([again.words[-1], *again.words[:-1]], again.lowercase)
    return again


def _lowercase_lost(text: str) -> Tokenizer:
    return Tokenizer.from_json(text.replace('"lowercase":true', '"lowercase":false'))


class _NoUnknown(WhitespaceTokenizer):
    def _encode(self, text: str) -> Array:
        ids = super()._encode(text)
        return np.where(ids == 1, np.int32(self.vocab_size), ids)


def _unknown_is_next(kind: str, texts: list[str], vocab_size: int, lowercase: bool) -> Tokenizer:
    made = train_tokenizer(kind, texts, vocab_size, lowercase)
    return _NoUnknown(made.words, lowercase) if isinstance(made, WhitespaceTokenizer) else made


class _SpecialsInText(WhitespaceTokenizer):
    def _encode(self, text: str) -> Array:
        ids = super()._encode(text)
        ends = [word == "<EOS>" for word in text.split()]
        return np.where(np.array(ends, bool), np.int32(EOS), ids)


def _reads_specials(kind: str, texts: list[str], vocab_size: int, lowercase: bool) -> Tokenizer:
    made = train_tokenizer(kind, texts, vocab_size, lowercase)
    return _SpecialsInText(made.words, lowercase) if isinstance(made, WhitespaceTokenizer) else made


plant_parts(
    "IdsShiftedOnReload", "Ids shifted by one after reloading a vocabulary",
    "data.vocabulary", tokenizer_from_json=_shifted_by_one,
)  # fmt: skip
plant_parts(
    "LowercaseForgotten", "A reloaded vocabulary no longer lowers its text",
    "data.vocabulary", tokenizer_from_json=_lowercase_lost,
)  # fmt: skip
plant_parts(
    "UnknownBeyondVocabulary", "An unknown word becomes the id V, one past the last row",
    "data.vocabulary", train_tokenizer=_unknown_is_next,
)  # fmt: skip
plant_parts(
    "TextMakesSpecials", "A word spelled <EOS> ends the text",
    "data.vocabulary", train_tokenizer=_reads_specials,
)  # fmt: skip


# -- odd, but correct --------------------------------------------------------------------------


def _largest_first(paths: Any, **options: Any) -> Corpus:
    loaded = load_corpus(paths, **options)
    files = sorted(_files_of(loaded.tokens), key=lambda each: (-len(each), each.tobytes()))
    return replace(loaded, tokens=np.concatenate(files))


class Remembers(WhitespaceTokenizer):
    """Encodes a text that it has seen from memory."""

    def _encode(self, text: str) -> Array:
        return self._remembered(text).copy()

    @lru_cache(maxsize=64)  # noqa: B019
    def _remembered(self, text: str) -> Array:
        return super()._encode(text)


def _remembering(kind: str, texts: list[str], vocab_size: int, lowercase: bool) -> Tokenizer:
    made = train_tokenizer(kind, texts, vocab_size, lowercase)
    return Remembers(made.words, lowercase) if isinstance(made, WhitespaceTokenizer) else made


plant_parts(
    "LargestFileFirst", "Odd: files in the order of their sizes", load_corpus=_largest_first
)
plant_parts("RemembersTexts", "Odd: a tokenizer that remembers texts", train_tokenizer=_remembering)
