"""Results, on standard output."""

from __future__ import annotations

import click


def write(text: str) -> None:
    """Print at once; raises an `OSError` that names standard output where it cannot be written."""
    try:
        click.echo(text, nl=False)
    except OSError as error:
        raise OSError(error.errno, error.strerror, "standard output") from error
