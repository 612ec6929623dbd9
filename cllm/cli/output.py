"""Results, on standard output."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import TextIO

import click


def write(text: str) -> None:
    """Print at once; raises an `OSError` that names standard output where it cannot be written."""
    try:
        click.echo(text, nl=False)
    except OSError as error:
        discard(sys.stdout)
        raise OSError(error.errno, error.strerror, "standard output") from error


def discard(stream: TextIO | None) -> None:
    """Let a broken stream lead nowhere: Python's last flush of it would set the exit status."""
    if stream is None:
        return
    # Some streams have no descriptor, or were closed.
    with contextlib.suppress(OSError, ValueError), Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), stream.fileno())
