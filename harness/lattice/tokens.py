"""The tokens of a vocabulary by their names: how each is shown, and which one a text means."""

from __future__ import annotations

from collections.abc import Sequence

from cllm.errors import CllmError
from cllm.text.tokenizer import SPECIALS, UNK, Tokenizer

FIRST_SHOWN = 6
"""Tokens whose neighbours are shown where none is asked for."""

SPACE = "␣"
"""Stands for a space, which could not be seen."""


def names_of(tokenizer: Tokenizer) -> list[str]:
    """(V,) printable, with spaces that can be seen."""
    names = (tokenizer.token(token) for token in range(tokenizer.vocab_size))
    return [
        "".join(c if c.isprintable() else ascii(c)[1:-1] for c in name).replace(" ", SPACE)
        for name in names
    ]


def find_token(tokenizer: Tokenizer, names: Sequence[str], text: str) -> int:
    """The id of the token that a text is encoded as, or that has this name.

    Raises `CllmError` where there is none.
    """
    if (token := _encoded(tokenizer, text)) is not None:
        return token
    if text in names:
        return names.index(text)
    spaced = _encoded(tokenizer, f" {text}")
    hint = "" if spaced is None else f"; {f' {text}'!r}, with a space before it, is one"
    raise CllmError(f"--token {text!r:.80} is not a single token of this vocabulary{hint}")


def _encoded(tokenizer: Tokenizer, text: str) -> int | None:
    """The one token of a text; None where there are several, or the one is unknown."""
    found = tokenizer.encode(text)
    return int(found[0]) if len(found) == 1 and found[0] != UNK else None


def frequent_words(names: Sequence[str]) -> list[int]:
    """The lowest ids that are words of three letters or more, where there are so many.

    A tokenizer that learns its tokens finds the most frequent first. Pieces of words, then letters,
    then signs and bytes stand in where words are missing, specials last.
    """

    def rank(token: int) -> int:
        word = names[token].removeprefix(SPACE)
        if token < len(SPECIALS):
            return 4
        if not word.isalpha():
            return 3
        return 2 if len(word) < 3 else 1 if word == names[token] else 0

    return sorted(range(len(names)), key=lambda token: (rank(token), token))[:FIRST_SHOWN]
