"""Files written whole or not at all.

Promises: whatever happens while a file is written (an error, a full disk, a kill, a power cut),
its path holds either the old content or the whole new one; an error leaves nothing else behind.
Leaves out: keeping two writers of one path apart; the last one wins. A killed process may leave
its hidden temporary file (`.*.tmp`).
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Iterator
from io import BufferedRandom
from pathlib import Path


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[BufferedRandom]:
    """Open a new file for reading and writing; it becomes `path` when the block ends well.

    Written is a temporary file in the same folder, which is synced, renamed, and the folder synced.
    A symbolic link is followed: what it points to is replaced, not the link.

    Raises `OSError`, naming `path`, where it cannot be written, or is something else than a
    regular file; `path` is then as it was. So it is for any exception raised in the block.
    """
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    temporary = target.parent / f".{secrets.token_hex(8)}.tmp"
    try:
        with temporary.open("x+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
        _sync_folder(target.parent)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        # A failed write names no file, a failed open the temporary one: say what was wanted.
        if isinstance(error, OSError) and error.filename in (None, str(temporary)):
            raise OSError(error.errno, error.strerror or str(error), str(path)) from error
        raise


def _sync_folder(folder: Path) -> None:
    """Make a rename in the folder last (fsync(2): it is not the file's but the folder's)."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
