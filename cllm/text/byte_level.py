"""Tokens that are bytes of UTF-8, and the tokenizer in which each is one byte.

Promises: `decode(encode(text)) == text` for every text (lowered, where that is asked for).
Leaves out: tokens of several bytes (`cllm.text.bpe`).
"""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Sequence
from typing import Self

import numpy as np
from numpy.typing import NDArray

from cllm.text.tokenizer import SPECIALS, IncrementalDecoder, Tokenizer

FIRST_BYTE = len(SPECIALS)
"""Id of byte 0; byte b is FIRST_BYTE + b."""

BYTES = (b"",) * len(SPECIALS) + tuple(bytes([b]) for b in range(256))
"""What the first 260 tokens stand for; the specials stand for nothing."""


class ByteLevelTokenizer(Tokenizer):
    """A tokenizer whose tokens each stand for some bytes."""

    min_vocab_size = len(BYTES)
    _bytes: Sequence[bytes]
    """(V,) the bytes of each token."""

    @property
    def vocab_size(self) -> int:
        """V, specials included."""
        return len(self._bytes)

    def stream(self) -> IncrementalDecoder:
        """A decoder that holds back the bytes of an unfinished character."""
        return _ByteStream(self, self._bytes)

    def _name(self, token: int) -> str:
        text = self._bytes[token].decode("utf-8", "backslashreplace")
        return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


class BytesTokenizer(ByteLevelTokenizer):
    """A token is one byte: V is 260."""

    kind = "bytes"
    _bytes = BYTES

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int, lowercase: bool) -> Self:
        """Nothing to learn: the texts are not read."""
        return cls(lowercase=lowercase)

    def _encode(self, text: str) -> NDArray[np.int32]:
        return np.frombuffer(text.encode(), np.uint8).astype(np.int32) + FIRST_BYTE


class _ByteStream:
    def __init__(self, tokenizer: Tokenizer, table: Sequence[bytes]) -> None:
        self._tokenizer = tokenizer
        self._table = table
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, token: int) -> str:
        self._tokenizer.check(token)
        return self._decoder.decode(self._table[token])

    def flush(self) -> str:
        return self._decoder.decode(b"", final=True)
