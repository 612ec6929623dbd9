"""Token streams kept on disk, and mapped into memory.

An entry is two files named by its key: `KEY.npy`, the stream, and `.KEY.json`, its tokenizer with
the digests of both. Neither is taken for text where the cache lies in a folder of texts.

Promises: an entry is whole (`cllm.files`) and what was written, checked by one reading of it, or it
is none; two processes may write the same entry at once; what a killed one left is removed by the
next that prepares the folder while nobody writes.
Leaves out: when an entry is out of date (the key must say so), and removing entries: the folder may
be deleted at any time.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from cllm.errors import CllmError
from cllm.files import atomic_file
from cllm.text.tokenizer import UNK, Tokenizer


@dataclass(frozen=True)
class TokenStream:
    """The tokens of a text."""

    tokens: NDArray[Any]
    """(n,) ids in the smallest unsigned dtype that holds V, read-only."""
    tokenizer: Tokenizer
    distinct: int
    """How many different ids there are."""
    unknown: int
    """How many of the tokens are UNK."""


class TokenCache:
    """A folder of token streams."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def load(self, key: str) -> TokenStream | None:
        """The stream of an entry; None where there is none, or it is damaged."""
        try:
            digest, _, text = self._record(key).read_bytes().partition(b"\n")
            if hashlib.sha256(text).hexdigest().encode() != digest:
                return None
            record = json.loads(text)
            with self._tokens(key).open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != record["tokens"]:
                    return None
            tokens = self._map(key)
        except OSError:
            return None
        tokenizer = Tokenizer.from_json(record["tokenizer"])
        return TokenStream(tokens, tokenizer, record["distinct"], record["unknown"])

    def prepare(self) -> None:
        """Make the folder, and remove what killed writers left in it, while nobody writes.

        Raises `CllmError` where it cannot be made or written.
        """
        with self._writing():
            self.folder.mkdir(parents=True, exist_ok=True)
            if not os.access(self.folder, os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        with self._writing(), self._lock(fcntl.LOCK_EX | fcntl.LOCK_NB) as alone:
            for left_by_a_kill in self.folder.glob(f".{'[0-9a-f]' * 16}.tmp") if alone else ():
                left_by_a_kill.unlink(missing_ok=True)

    def store(
        self, key: str, tokenizer: Tokenizer, parts: Iterable[NDArray[np.int32]]
    ) -> TokenStream:
        """Write an entry, part by part as they come, each (m,) ids.

        Raises `CllmError` where it cannot be written. What `parts` raises leaves no entry either.
        """
        dtype = np.min_scalar_type(tokenizer.vocab_size - 1).newbyteorder("<")
        present, length, unknown = np.zeros(tokenizer.vocab_size, bool), 0, 0
        with self._writing(), self._lock(fcntl.LOCK_SH), atomic_file(self._tokens(key)) as file:
            # NumPy leaves room in the header for any length: it is written over at the end.
            _write_header(file, dtype, 0)
            for part in parts:
                present[part] = True
                length += len(part)
                unknown += int(np.count_nonzero(part == UNK))
                file.write(part.astype(dtype).data)
            file.seek(0)
            _write_header(file, dtype, length)
            file.seek(0)
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        distinct = int(np.count_nonzero(present))
        record = {
            "tokens": digest,
            "distinct": distinct,
            "unknown": unknown,
            "tokenizer": tokenizer.to_json(),
        }
        text = json.dumps(record).encode()
        with self._writing(), self._lock(fcntl.LOCK_SH), atomic_file(self._record(key)) as file:
            file.write(hashlib.sha256(text).hexdigest().encode() + b"\n" + text)
        return TokenStream(self._map(key), tokenizer, distinct, unknown)

    def _tokens(self, key: str) -> Path:
        return self.folder / f"{key}.npy"

    def _record(self, key: str) -> Path:
        return self.folder / f".{key}.json"

    def _map(self, key: str) -> NDArray[Any]:
        tokens: NDArray[Any] = np.load(self._tokens(key), mmap_mode="r", allow_pickle=False)
        return tokens

    @contextlib.contextmanager
    def _lock(self, how: int) -> Iterator[bool]:
        """Lock the folder; false where another holds it, or its file system cannot lock it."""
        descriptor = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            try:
                fcntl.flock(descriptor, how)
                locked = True
            except OSError:
                locked = False
            yield locked
        finally:
            os.close(descriptor)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise CllmError(
                f"the cache {self.folder} cannot be written: {error.strerror or error}; choose "
                "another folder with --cache"
            ) from error


def _write_header(file: BinaryIO, dtype: np.dtype[Any], length: int) -> None:
    header = {"descr": dtype.str, "fortran_order": False, "shape": (length,)}
    np.lib.format.write_array_header_1_0(file, header)
