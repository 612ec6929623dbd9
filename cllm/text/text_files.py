"""Text files: which there are, which of them are text, and their text in pieces.

Promises: each file once, whatever links and repeated paths lead to it, in an order that depends on
the paths alone; what is not read is counted by reason; a file of any size is read in bounded
memory. Leaves out: other encodings than UTF-8, and ignore files such as `.gitignore`.
"""

from __future__ import annotations

import codecs
import hashlib
import re
import stat
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from cllm.errors import CllmError

SKIPPED_SUFFIXES = {
    "image": ".avif .bmp .gif .heic .ico .jpeg .jpg .png .psd .tif .tiff .webp",
    "audio": ".aac .aiff .flac .m4a .mid .midi .mp3 .ogg .opus .wav .wma",
    "video": ".avi .flv .m4v .mkv .mov .mp4 .mpeg .mpg .webm .wmv",
    "archive": ".7z .bz2 .deb .gz .iso .jar .lz4 .rar .rpm .tar .tgz .whl .xz .zip .zst",
    "document": ".doc .docx .epub .odp .ods .odt .pdf .ppt .pptx .ps .xls .xlsx",
    "compiled": ".a .bin .class .dll .dylib .exe .lib .mo .o .obj .pyc .pyd .pyo .so .wasm",
    "font": ".eot .otf .ttc .ttf .woff .woff2",
    "database": ".db .dbf .mdb .sqlite .sqlite3",
    "data": ".arrow .cllm .feather .gguf .h5 .hdf5 .npy .npz .onnx .parquet .pickle .pkl .pt .pth"
    " .safetensors",
}
"""Files in folders that are not tried, by what they hold; a file that is named itself always is."""

SKIPPED_FOLDERS = frozenset({"__pycache__", "node_modules"})
"""Folders that are not entered, beside hidden ones (`.git`, `.venv`, ...), unless named."""

BLOCK = 2**18
"""Bytes read at once."""

UNCUT = 2**18
"""Characters without a place to cut, after which a text is cut all the same."""

_KIND = {suffix: kind for kind, suffixes in SKIPPED_SUFFIXES.items() for suffix in suffixes.split()}


@dataclass(frozen=True)
class TextFile:
    """A file that is text, and what its content was when it was found."""

    path: Path
    size: int
    """Bytes."""
    digest: bytes
    """SHA-256 of the content."""


def find_texts(paths: Iterable[Path]) -> tuple[list[TextFile], Counter[str]]:
    """The texts in files and folders, in the order of their paths, and why others were skipped.

    The reasons are the kinds of `SKIPPED_SUFFIXES`, "folder" (of `SKIPPED_FOLDERS`), "hidden",
    "special" (pipes, sockets, devices), "unreadable", "empty", "binary" (has a NUL byte) and
    "not UTF-8". Raises `CllmError` for a path that is not there.
    """
    found, skipped = _find_files(paths)
    texts = []
    for path in found:
        text = _inspect(path)
        if isinstance(text, str):
            skipped[text] += 1
        else:
            texts.append(text)
    return texts, skipped


def read_pieces(file: TextFile, on_read: Callable[[int], None]) -> Iterator[str]:
    """The text of a file, cut into pieces; `on_read` is told the size of each block of bytes.

    Raises `CllmError` where the file cannot be read or is not what it was when it was found.
    """
    digest = hashlib.sha256()

    def blocks() -> Iterator[str]:
        decoder = _decoder()
        for block in _blocks(file.path):
            digest.update(block)
            on_read(len(block))
            yield decoder.decode(block)

    try:
        yield from cut(blocks())
    except (OSError, UnicodeDecodeError) as error:
        raise CllmError(f"{file.path}: could be read at first, and now not: {error}") from error
    if digest.digest() != file.digest:
        raise CllmError(f"{file.path}: was changed while it was being read")


def cut(blocks: Iterable[str]) -> Iterator[str]:
    """The blocks' text in pieces that end before a space or newline after a visible character.

    No token of any tokenizer lies across such a place, and no letter's lower case depends on what
    is beyond it. Text without one (a file that is one long line without spaces) is cut after
    `UNCUT` characters, and a token may then be cut too.
    """
    rest = ""
    for block in blocks:
        # Not before there is more: a small file is one piece.
        while place := _place(rest):
            yield rest[:place]
            rest = rest[place:]
        rest += block
    if rest:
        yield rest


def _place(text: str) -> int:
    """The last place to cut, 0 if there is none."""
    backwards = re.search(r"[ \n]\S", text[::-1])
    if backwards:
        return len(text) - backwards.start() - 1
    return UNCUT if len(text) >= UNCUT else 0


def _find_files(paths: Iterable[Path]) -> tuple[list[Path], Counter[str]]:
    named = []
    for path in paths:
        try:
            named.append((not stat.S_ISDIR(path.stat().st_mode), path))
        except OSError as error:
            raise CllmError(f"{path}: {error.strerror}") from error
    files: list[Path] = []
    skipped: Counter[str] = Counter()
    seen: set[tuple[int, int]] = set()
    # Taken from the end. Named files come first: they are tried even where a folder skips them.
    stack = [(path, True) for _, path in sorted(named)]
    while stack:
        path, is_named = stack.pop()
        try:
            info = path.stat()
            is_folder = stat.S_ISDIR(info.st_mode)
            identity = info.st_dev, info.st_ino
            if identity in seen:
                continue
            if not is_named and (reason := _skip(path, is_folder)):
                skipped[reason] += 1
                continue
            seen.add(identity)
            if is_folder:
                stack += [(inside, False) for inside in sorted(path.iterdir(), reverse=True)]
            else:
                files.append(path)
        except OSError:
            skipped["unreadable"] += 1
    return sorted(files), skipped


def _skip(path: Path, is_folder: bool) -> str | None:
    """Why a file or folder is not tried, judged by its name."""
    if path.name.startswith("."):
        return "hidden"
    if is_folder:
        return "folder" if path.name in SKIPPED_FOLDERS else None
    return _KIND.get(path.suffix.lower())


def _inspect(path: Path) -> TextFile | str:
    """The file, or why it is skipped."""
    digest, size, decoder = hashlib.sha256(), 0, _decoder()
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return "special"
        for block in _blocks(path):
            if b"\0" in block:
                return "binary"
            decoder.decode(block)
            digest.update(block)
            size += len(block)
        decoder.decode(b"", final=True)
    except OSError:
        return "unreadable"
    except UnicodeDecodeError:
        return "not UTF-8"
    return TextFile(path, size, digest.digest()) if size else "empty"


def _blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            yield block


def _decoder() -> codecs.IncrementalDecoder:
    return codecs.getincrementaldecoder("utf-8")()
