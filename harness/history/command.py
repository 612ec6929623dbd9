"""`cllm history`."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from cllm.cli.options import json_option
from cllm.cli.progress import say
from cllm.errors import CllmError
from cllm.files import atomic_file
from cllm.harness.display import Display

if TYPE_CHECKING:
    from cllm.harness.history.store import History

Command = TypeVar("Command", bound=Callable[..., Any])

EXIT_GOOD, EXIT_INCONCLUSIVE = 0, 3

LIMIT = 50

FORMATS = ("lines", "pytest-benchmark")

history_option = click.option(
    "--history",
    "where",
    metavar="URL",
    default="reports/history.db",
    show_default=True,
    help="An SQLite file, or an SQLAlchemy URL (postgresql://...).",
)
limit_option = click.option(
    "--limit", type=click.IntRange(1), default=LIMIT, show_default=True, help="The newest so many."
)


def series_options(command: Command) -> Command:
    """--benchmark, --candidate and --machine."""
    for name, help in (
        ("machine", "The beginning of its digest, or its CPU; * and ? stand for anything."),
        ("candidate", "Such as optimized; * and ? stand for anything."),
        ("benchmark", "Such as 'small step'; * and ? stand for anything."),
    ):
        command = click.option(f"--{name}", metavar="NAME", help=help)(command)
    return command


def run_options(command: Command) -> Command:
    """--commit, --since and --until."""
    time = click.DateTime(["%Y-%m-%d", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M:%S"])
    for name, help in (("until", "Measured before this time."), ("since", "Measured since then.")):
        command = click.option(
            f"--{name}", type=time, metavar="TIME", callback=_utc, help=f"{help} In UTC."
        )(command)
    return click.option("--commit", metavar="SHA", help="The beginning of a hash.")(command)


def _utc(ctx: click.Context, option: click.Parameter, value: datetime | None) -> datetime | None:
    return None if value is None else value.replace(tzinfo=UTC)


@click.group()
def history() -> None:
    """Keep what was measured, and find it again: every run, in a database.

    A history is an SQLite file, or any database by its SQLAlchemy URL. Figures of one benchmark,
    candidate, number of threads, machine, instruction set and configuration are one series.
    """


@history.command()
@click.argument(
    "files",
    metavar="FILE...",
    nargs=-1,
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
)
@history_option
def add(files: tuple[Path, ...], where: str) -> None:
    """Keep the runs of FILE...

    A file is the performance.json of `cllm bench`, the comparison.json of `cllm compare`, JSON of
    pytest-benchmark, or what `cllm history export` wrote. A run that is there already is kept once.
    """
    from cllm.harness.history.sources import add_files

    with Display() as display:
        added, count = add_files(where, files, display.show)
    known = f"; already there: {count - added:,}" if added < count else ""
    click.echo(f"Runs added: {added:,}{known}.")


@history.command("list")
@history_option
@run_options
@limit_option
@json_option
def list_(where: str, limit: int, as_json: bool, **filters: Any) -> None:
    """List runs, the newest first."""
    with _opened(where) as opened:
        infos = opened.infos(**filters, limit=limit + 1)
    from cllm.harness.history import show

    _say_more(len(infos), limit, "runs")
    infos = infos[:limit]
    click.echo(show.to_json("runs", infos) if as_json else show.runs_table(infos))


@history.command()
@history_option
@series_options
@run_options
@limit_option
@json_option
def find(where: str, limit: int, as_json: bool, **filters: Any) -> None:
    """Find results, the newest first.

    The share is that of the machine's peak, measured in the same run.
    """
    with _opened(where) as opened:
        found = opened.find(**filters, limit=limit + 1)
    from cllm.harness.history import show

    _say_more(len(found), limit, "results")
    found = found[:limit]
    click.echo(show.to_json("results", found) if as_json else show.results_table(found))


@history.command()
@history_option
@series_options
@json_option
def changes(where: str, as_json: bool, **filters: Any) -> int:
    """Find where series changed, and between which commits.

    Each change is worse, mended (worse, but made up for later) or better. Exit status: 0, or 3
    where no series is long enough to tell, which --json says by its `reason`, else null.
    """
    with _opened(where) as opened, Display() as display:
        from cllm.harness.history import show
        from cllm.harness.history.changepoints import FEWEST
        from cllm.harness.history.changes import find_changes

        known = opened.series(**filters)
        found = find_changes(
            opened.all_points(**filters),
            lambda done: display.show("Looking for changes", done, len(known)),
        )
    longest = max((info.count for info in known), default=0)
    reason = None
    if longest < FEWEST:
        reason = f"Too few results to tell: the longest series has {longest}, {FEWEST} are needed."
        say(reason)
    say(f"{len(found):,} change{'' if len(found) == 1 else 's'} in {len(known):,} series.")
    if as_json:
        click.echo(show.to_json("changes", found, reason=reason))
    elif found:
        click.echo(show.changes_table(found))
    return EXIT_INCONCLUSIVE if reason else EXIT_GOOD


@history.command()
@history_option
@click.option("--run", metavar="ID", help="This run alone.")
@run_options
@click.option(
    "--format",
    "form",
    type=click.Choice(FORMATS),
    default=FORMATS[0],
    show_default=True,
    help="lines: JSON, a run on each line; pytest-benchmark: its JSON, of one --run.",
)
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The file to write.  [default: print]",
)
def export(where: str, run: str | None, form: str, output: Path | None, **filters: Any) -> None:
    """Write runs with everything that is known of them, for another history or tool."""
    from cllm.harness.history import document, pytest_benchmark

    if run is None and form != FORMATS[0]:
        raise click.UsageError(f"--format {form} writes one run: name it by --run")
    if run is not None and any(value is not None for value in filters.values()):
        raise click.UsageError("--run names one run: leave out --commit, --since and --until")
    with _opened(where) as opened:
        runs = opened.runs(**filters) if run is None else iter([opened.run(run)])
        if form == FORMATS[0]:
            texts = (json.dumps(document.to_dict(each)) for each in runs)
        else:
            texts = (json.dumps(pytest_benchmark.write(each), indent=1) for each in runs)
        if output is None:
            for text in texts:
                click.echo(text)
            return
        with atomic_file(output) as file:
            file.writelines(f"{text}\n".encode() for text in texts)
    say(f"Written: {output}")


def _opened(where: str) -> History:
    """A history that has runs.

    The first to import what is not in a plain installation, of which it says so.
    """
    from cllm.harness.history.store import open_history

    opened = open_history(where)
    if not opened.infos(limit=1):
        opened.close()
        raise CllmError(f"history {where} has no runs yet: `cllm history add` brings some")
    return opened


def _say_more(count: int, limit: int, what: str) -> None:
    if count == 0:
        say(f"No {what} fit all of this.")
    if count > limit:
        say(f"There are more than these {limit:,} {what}: --limit shows more.")
