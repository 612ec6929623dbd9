"""The texts that models are trained on: source code, and English."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cllm.errors import CllmError
from cllm.harness.verify import default_paths
from cllm.text.corpus import load_corpus
from cllm.text.tokenizer import TokenizerSettings

LICENSES = Path("/usr/share/common-licenses")
"""Of the package base-files, which every Debian machine has."""

CODE_BYTES = 1_000_000

VOCAB_SIZE = 512
VALIDATION = 0.1
"""The share at the end of a text."""


@dataclass(frozen=True, eq=False)
class Text:
    """A text in tokens."""

    name: str
    told: str
    """What it is, and where it is from."""
    nbytes: int
    tokens: NDArray[Any]
    validation: NDArray[Any]


def texts() -> list[Text]:
    """All of them, by byte-pair encoding. Raises `CllmError` where a source is not there."""
    sources: list[tuple[str, str, Callable[[], str]]] = [
        ("source code", "top-level modules of Python's standard library", _code),
        ("English", f"{LICENSES} of Debian's base-files, each paragraph once", _english),
    ]
    return [_text(name, told, read()) for name, told, read in sources]


def _text(name: str, told: str, content: str) -> Text:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "text.txt"
        path.write_text(content)
        settings = TokenizerSettings("bpe", VOCAB_SIZE)
        corpus = load_corpus([path], tokenizer=settings, cache=Path(folder) / "cache")
        tokens, validation = (np.array(part) for part in corpus.split(VALIDATION))
    return Text(name, told, corpus.text_bytes, tokens, validation)


def _code() -> str:
    content = ""
    for path in default_paths():
        if len(content) < CODE_BYTES:
            content += path.read_text(encoding="utf-8", errors="replace")
    return content[:CODE_BYTES]


def _english() -> str:
    """Licences of one kind share paragraphs, which would be trained on and validated on."""
    files = sorted(path for path in LICENSES.glob("*") if not path.is_symlink())
    if not files:
        raise CllmError(f"{LICENSES} is not there: the English text is Debian's base-files")
    return "\n\n".join(_distinct(path.read_text(errors="replace") for path in files))


def _distinct(contents: Iterator[str]) -> Iterator[str]:
    seen = set()
    for content in contents:
        for paragraph in content.split("\n\n"):
            words = " ".join(paragraph.lower().split())
            if len(words) > 40 and words not in seen:
                seen.add(words)
                yield paragraph.strip("\n")
