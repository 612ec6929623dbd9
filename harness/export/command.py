"""`cllm export`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cllm.cli.output import write
from cllm.cli.progress import say
from cllm.errors import CllmError
from cllm.files import atomic_file
from cllm.harness.export import bencher, github_action_benchmark, openmetrics, spreadsheet
from cllm.harness.history.record import Better, Run

if TYPE_CHECKING:
    from cllm.harness.history.store import History

OF_ONE: dict[str, Callable[[Run], Iterator[str]]] = {
    "bencher": bencher.export,
    "github-action-benchmark": github_action_benchmark.export,
}
OF_MANY: dict[str, Callable[[Iterable[Run]], Iterator[str]]] = {
    "openmetrics": openmetrics.export,
    "csv": spreadsheet.export,
}

LATEST, ALL = "latest", "all"


@click.command()
@click.argument("format", type=click.Choice([*OF_MANY, *OF_ONE]))
@click.option(
    "--history",
    metavar="URL",
    default="reports/history.db",
    show_default=True,
    help="An SQLite file, or the URL of a database.",
)
@click.option(
    "--run",
    metavar="ID",
    default=LATEST,
    show_default=True,
    help="Which run: its id, latest, or for openmetrics and csv all.",
)
@click.option(
    "--better",
    type=click.Choice([str(kind) for kind in Better]),
    help="Results alone of which more is better, or less.  [default: both]",
)
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The file.  [default: standard output]",
)
def export(format: str, history: str, run: str, better: str | None, output: Path | None) -> None:
    """Write results of the history in the format of another tool.

    FORMAT is openmetrics (Prometheus), bencher (Bencher Metric Format), github-action-benchmark
    (which takes one kind a file: give --better), or csv.
    """
    if run == ALL and format in OF_ONE:
        raise click.UsageError(f"--run {ALL}: {format} takes one run")
    from cllm.harness.history.store import open_history

    with open_history(history) as opened:
        if run == ALL:
            parts = OF_MANY[format](_only(found, better) for found in _all(opened))
        else:
            one = _only(_one(opened, run), better)
            if not one.results:
                raise CllmError(
                    f"run {one.id} has no result"
                    + (f" of which {better} is better" if better else "")
                )
            parts = OF_MANY[format]([one]) if format in OF_MANY else OF_ONE[format](one)
        if output is None:
            for part in parts:
                write(part)
            return
        with atomic_file(output) as file:
            for part in parts:
                file.write(part.encode(errors="replace"))
    say(f"Written: {output}")


def _one(history: History, wanted: str) -> Run:
    """The latest, or that of an id. Raises `CllmError` where there is none."""
    return history.run(_newest(history) if wanted == LATEST else wanted)


def _all(history: History) -> Iterator[Run]:
    """In the order of time. Raises `CllmError` where there is none."""
    _newest(history)
    return history.runs()


def _newest(history: History) -> str:
    found = history.infos(limit=1)
    if not found:
        raise CllmError("the history is empty: nothing to export (`cllm history add` fills it)")
    return found[0].id


def _only(run: Run, better: str | None) -> Run:
    """The run with its results of one kind."""
    if better is None:
        return run
    return replace(run, results=tuple(found for found in run.results if found.better == better))
