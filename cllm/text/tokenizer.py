"""Tokenizers: text to token ids and back.

Three kinds: a token is a word (`cllm.text.whitespace`), a byte (`cllm.text.byte_level`), or a
sequence of bytes found by byte-pair encoding (`cllm.text.bpe`). Ids 0..3 are the same in all of
them: <PAD>, <UNK>, <BOS>, <EOS>.

Promises: no text makes a special token: a word spelled "<PAD>" is an ordinary word; a vocabulary
depends on the texts that it is trained on, not on their order; a tokenizer comes back from its
JSON with the same ids; text that is encoded in pieces, each cut before a space or newline that
follows a visible character, gives the tokens of the whole.
Leaves out: reading files, and where BOS and EOS go (`cllm.text.corpus`).
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from cllm.errors import CllmError

SPECIALS = ("<PAD>", "<UNK>", "<BOS>", "<EOS>")
PAD, UNK, BOS, EOS = range(len(SPECIALS))

KINDS = ("whitespace", "bytes", "bpe")
MAX_VOCAB_SIZE = 2**24


@dataclass(frozen=True)
class TokenizerSettings:
    """What is asked of a tokenizer that is still to be trained.

    Raises `CllmError` for an unknown kind or a size out of range.
    """

    kind: str
    """One of `KINDS`."""
    vocab_size: int
    """Largest V, specials included. A text may yield fewer tokens; `bytes` always has 260."""
    lowercase: bool = False

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise CllmError(f"tokenizer must be one of {', '.join(KINDS)}: got {self.kind!r:.80}")
        size, least = self.vocab_size, _class(self.kind).min_vocab_size
        if not isinstance(size, int) or not least <= size <= MAX_VOCAB_SIZE:
            raise CllmError(
                f"vocab_size must be an integer in {least}..{MAX_VOCAB_SIZE} for the tokenizer "
                f"{self.kind}: got {size!r:.80}"
            )
        _check_lowercase(self.lowercase)


class IncrementalDecoder(Protocol):
    """Decodes one token at a time: what `feed` and `flush` return adds up to `decode`."""

    def feed(self, token: int) -> str:
        """The text that is certain with this token; raises `CllmError` for an id out of range."""

    def flush(self) -> str:
        """What is left at the end."""


class Tokenizer(ABC):
    """Text to token ids and back; the constructor takes `lowercase` and the `_fields`."""

    kind: ClassVar[str]
    min_vocab_size: ClassVar[int]
    _fields: ClassVar[tuple[str, ...]] = ()
    """The attributes that make the vocabulary, as JSON has them."""

    def __init__(self, *, lowercase: bool) -> None:
        """Lower text (`str.lower`) before it is encoded, or take it as it is."""
        _check_lowercase(lowercase)
        self.lowercase = lowercase

    @classmethod
    @abstractmethod
    def train(cls, texts: Iterable[str], vocab_size: int, lowercase: bool) -> Self:
        """`train_tokenizer` for arguments that are valid and texts that are prepared."""

    @property
    @abstractmethod
    def vocab_size(self) -> int:
        """V, specials included."""

    @abstractmethod
    def stream(self) -> IncrementalDecoder:
        """A decoder for one token at a time."""

    @abstractmethod
    def _encode(self, text: str) -> NDArray[np.int32]:
        """`encode` for a text that is prepared."""

    @abstractmethod
    def _name(self, token: int) -> str:
        """`token` for an id that is in range and no special."""

    def encode(self, text: str) -> NDArray[np.int32]:
        """The ids (n,) of a text, without BOS and EOS.

        Raises `CllmError` for a text with lone surrogates, which is not Unicode.
        """
        return self._encode(_prepare(text, self.lowercase))

    def decode(self, tokens: Iterable[int]) -> str:
        """The text of ids (n,): bytes that are not UTF-8 become U+FFFD, specials become nothing.

        UNK of a whitespace tokenizer alone shows. Raises `CllmError` for an id out of range.
        """
        stream = self.stream()
        return "".join([stream.feed(token) for token in tokens]) + stream.flush()

    def token(self, token: int) -> str:
        """A readable name of one token; raises `CllmError` for an id out of range."""
        self.check(token)
        return SPECIALS[token] if token < len(SPECIALS) else self._name(token)

    def check(self, token: int) -> None:
        """Raise `CllmError` unless `token` is an id, an integer in 0..V-1."""
        if not isinstance(token, int | np.integer) or not 0 <= token < self.vocab_size:
            raise CllmError(
                f"a token id must be an integer in 0..{self.vocab_size - 1}: got {token!r:.80}"
            )

    def to_json(self) -> str:
        """All that makes this tokenizer, as `from_json` takes it."""
        made_of = {name: getattr(self, name) for name in ("kind", "lowercase", *self._fields)}
        return json.dumps(made_of, ensure_ascii=False, separators=(",", ":"))

    @staticmethod
    def from_json(text: str) -> Tokenizer:
        """Rebuild from `to_json`; raises `CllmError` for anything else."""
        try:
            made_of = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise CllmError(f"not a tokenizer: {error}") from error
        kind = made_of.pop("kind", None) if isinstance(made_of, dict) else None
        if kind not in KINDS:
            raise CllmError(f"not a tokenizer: its kind must be one of {KINDS}: got {kind!r:.80}")
        wanted = _class(kind)
        if made_of.keys() != {"lowercase", *wanted._fields}:
            raise CllmError(f"not a tokenizer of the kind {kind}: it has {list(made_of)!r:.80}")
        return wanted(**made_of)


def train_tokenizer(kind: str, texts: Iterable[str], vocab_size: int, lowercase: bool) -> Tokenizer:
    """A tokenizer of at most `vocab_size` tokens, specials included, for these texts.

    Neither their order matters, nor where a text is cut, if it is cut as said above. Raises
    `CllmError` for an unknown kind, a size out of range, and a text with lone surrogates.
    """
    TokenizerSettings(kind, vocab_size, lowercase)
    prepared = (_prepare(text, lowercase) for text in texts)
    return _class(kind).train(prepared, vocab_size, lowercase)


def _class(kind: str) -> type[Tokenizer]:
    # Imported here, because each builds on the class above, and `bpe` on a library of its own.
    if kind == "bpe":
        from cllm.text.bpe import BpeTokenizer

        return BpeTokenizer
    if kind == "bytes":
        from cllm.text.byte_level import BytesTokenizer

        return BytesTokenizer
    from cllm.text.whitespace import WhitespaceTokenizer

    return WhitespaceTokenizer


def _prepare(text: str, lowercase: bool) -> str:
    check_unicode(text)
    return text.lower() if lowercase else text


def check_unicode(text: str) -> None:
    """Raise `CllmError` for a text with lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise CllmError(
            f"a text must be Unicode, without lone surrogates: got {text[error.start]!r} at "
            f"character {error.start}"
        ) from error


def _check_lowercase(lowercase: object) -> None:
    if not isinstance(lowercase, bool):
        raise CllmError(f"lowercase must be true or false: got {lowercase!r:.80}")
