"""`cllm dashboard`."""

from __future__ import annotations

from pathlib import Path

import click

from cllm.cli.progress import say
from cllm.harness.display import Display
from cllm.harness.history.command import history_option

FOLDER = Path("reports/dashboard")


@click.group()
def dashboard() -> None:
    """Look at the history of results: a static site, its pages and charts without network."""


@dashboard.command()
@history_option
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=FOLDER,
    show_default=True,
    help="Folder of the site; an earlier one in it is replaced.",
)
def build(where: str, output: Path) -> None:
    """Write the site over a history.

    It shows each benchmark with its last figures, its changes of level and the commits around
    them, and what got worse. The folder can be opened from the disk or published as it is.
    """
    from cllm.harness.dashboard.site import build as build_site
    from cllm.harness.history.store import open_history

    with open_history(where) as opened, Display() as display:
        headline = build_site(opened, output, display.show)
    click.echo(f"{headline}.")
    say(f"Dashboard: {output / 'index.html'}")


@dashboard.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path), default=FOLDER)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8000,
    show_default=True,
    help="On this machine; 0 is any that is free.",
)
def serve(folder: Path, port: int) -> None:
    """Serve the site in FOLDER, by default reports/dashboard, until Ctrl-C.

    For this machine alone: http://127.0.0.1 with the port.
    """
    from cllm.harness.dashboard.server import serve as serve_site

    serve_site(folder, port, lambda address: say(f"{address} (Ctrl-C ends it)"))
