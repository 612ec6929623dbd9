"""A tokenizer whose tokens are words, what `str.split` gives.

Promises: the vocabulary is the most frequent words, equally frequent ones in the order of their
text. Leaves out: the whitespace itself (`decode` puts one space between words), and words of more
than `cllm.text.word_counts.MAX_WORD` characters, which are unknown.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Self

import numpy as np
from numpy.typing import NDArray

from cllm.errors import CllmError
from cllm.text.tokenizer import (
    BOS,
    EOS,
    MAX_VOCAB_SIZE,
    PAD,
    SPECIALS,
    UNK,
    IncrementalDecoder,
    Tokenizer,
    check_unicode,
)
from cllm.text.word_counts import most_frequent


class WhitespaceTokenizer(Tokenizer):
    """Word i of the vocabulary has id 4 + i; a word that is not in it becomes UNK."""

    kind = "whitespace"
    min_vocab_size = len(SPECIALS) + 1
    _fields = ("words",)

    def __init__(self, words: Sequence[str], lowercase: bool) -> None:
        """Raises `CllmError` unless the words are a list, distinct, and each one word."""
        super().__init__(lowercase=lowercase)
        if not isinstance(words, list | tuple) or len(SPECIALS) + len(words) > MAX_VOCAB_SIZE:
            raise CllmError(
                f"words must be a list of at most {MAX_VOCAB_SIZE - len(SPECIALS)}: "
                f"got {words!r:.80}"
            )
        for word in words:
            if not isinstance(word, str) or word.split() != [word]:
                raise CllmError(f"a word must be a text without whitespace: got {word!r:.80}")
            check_unicode(word)
        self.words: tuple[str, ...] = tuple(words)
        self._ids = {word: len(SPECIALS) + i for i, word in enumerate(words)}
        if repeated := len(words) - len(self._ids):
            raise CllmError(f"words must be distinct: {repeated} of {len(words)} are repeated")

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int, lowercase: bool) -> Self:
        """The most frequent words of texts that are prepared."""
        return cls(most_frequent(texts, vocab_size - len(SPECIALS)), lowercase)

    @property
    def vocab_size(self) -> int:
        """V, specials included."""
        return len(SPECIALS) + len(self.words)

    def stream(self) -> IncrementalDecoder:
        """A decoder for one token at a time."""
        return _WordStream(self)

    def _encode(self, text: str) -> NDArray[np.int32]:
        ids = self._ids
        return np.array([ids.get(word, UNK) for word in text.split()], np.int32)

    def _name(self, token: int) -> str:
        return self.words[token - len(SPECIALS)]


class _WordStream:
    def __init__(self, tokenizer: WhitespaceTokenizer) -> None:
        self._tokenizer = tokenizer
        self._space = ""

    def feed(self, token: int) -> str:
        word = self._tokenizer.token(token)
        if token in (PAD, BOS, EOS):
            return ""
        text, self._space = self._space + word, " "
        return text

    def flush(self) -> str:
        return ""
