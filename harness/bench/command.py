"""`cllm bench`."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from pathlib import Path

import click

import cllm.harness.peers as registered
from cllm.cli.options import FiniteRange
from cllm.cli.progress import say
from cllm.files import atomic_file
from cllm.harness.bench.configurations import CONFIGURATIONS
from cllm.harness.bench.options import (
    chosen_configurations,
    configuration_options,
    thread_counts,
    threads_option,
)
from cllm.harness.display import Display
from cllm.registry import installed

OUTPUT = Path("reports/performance.md")
HISTORY = "reports/history.db"
BESIDE = (".json", ".svg")


def _history(ctx: click.Context, option: click.Parameter, value: str | None) -> str | None:
    """Refuse a model that stands where the URL would."""
    if value in installed() or (value and ":" in value and "://" not in value):
        raise click.BadParameter(f"{value} is a model: name it before --history")
    return value


def _report(ctx: click.Context, option: click.Parameter, value: Path) -> Path:
    """Refuse the names of what is written beside the report."""
    if value.suffix in BESIDE:
        raise click.BadParameter(f"{value} is where {value.suffix} is written beside the report")
    return value


@click.command()
@click.argument("models", metavar="[MODEL]...", nargs=-1)
@click.option("--peers", is_flag=True, help="Measure PyTorch and JAX as well, where installed.")
@configuration_options("all")
@threads_option
@click.option(
    "--seconds",
    type=FiniteRange(0.0, min_open=True),
    default=0.2,
    show_default=True,
    help="Length of one visit; longer ones take more time and are less noisy.",
)
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    default=OUTPUT,
    callback=_report,
    show_default=True,
    help="The report; a .json and, with peers, an .svg are written beside it.",
)
@click.option(
    "--history",
    metavar="[URL]",
    is_flag=False,
    flag_value=HISTORY,
    callback=_history,
    help=f"Remember the run, in an SQLite file or the database of a URL.  [alone: {HISTORY}]",
)
@click.option(
    "--seed",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Decides parameters and batches.",
)
@click.pass_context
def bench(
    ctx: click.Context,
    models: tuple[str, ...],
    peers: bool,
    configurations: tuple[str, ...],
    file: Path | None,
    threads: tuple[int, ...],
    seconds: float,
    output: Path,
    history: str | None,
    seed: int,
) -> None:
    """Measure models against the reference, the machine, and other libraries.

    MODEL is a name such as optimized, the default, module:Class, path/to/file.py:Class, or a file
    alone for all that it defines. Measured are training steps and generated tokens per second, as
    a share of what the machine can do at that moment, memory and import time; each competitor is
    first checked to compute the same. Exit status: 0, or 1 where a model failed or computes
    something else.
    """
    from cllm.harness.bench.charts import svg
    from cllm.harness.bench.markdown import render
    from cllm.harness.bench.overview import overview
    from cllm.harness.bench.run import has_failed, measure

    chosen = chosen_configurations(configurations, file, CONFIGURATIONS)
    # refused now, not after the work
    output.parent.mkdir(parents=True, exist_ok=True)
    for path in (output, *map(output.with_suffix, BESIDE)):
        _require_writable(path)
    if history is not None:
        remember([], history)
    if peers and (missing := [p.library for p in registered.PEERS if not p.is_installed()]):
        say(f"Not installed, not measured: {', '.join(missing)} (pip install '{registered.EXTRA}')")
    with Display() as display:
        result = measure(
            models or ("optimized",),
            chosen,
            thread_counts(threads),
            peers=peers,
            seconds=seconds,
            seed=seed,
            progress=display.show,
            file=file,
        )
    picture = svg(result)
    if picture is not None:
        _write(output.with_suffix(".svg"), picture)
    _write(output.with_suffix(".json"), json.dumps(result, indent=1) + "\n")
    _write(output, render(result, output.with_suffix(".svg").name if picture else None))
    click.echo(overview(result))
    say(f"Report: {output}")
    if history is not None:
        remember([output.with_suffix(".json")], history)
        say(f"History: {history}")
    ctx.exit(int(has_failed(result)))


def remember(files: Sequence[Path], history: str) -> None:
    """Add what was measured to a history, which is made where there is none.

    Raises `CllmError` where it cannot be had.
    """
    from cllm.harness.history.sources import read_runs
    from cllm.harness.history.store import open_history

    with open_history(history, create=True) as opened:
        opened.add_many(run for file in files for run in read_runs(file))


class _Enough(Exception):
    """Nothing is to be written."""


def _require_writable(path: Path) -> None:
    """Raise `OSError` where a file cannot be written; whatever is there stays as it is."""
    with contextlib.suppress(_Enough), atomic_file(path):
        raise _Enough


def _write(path: Path, text: str) -> None:
    """Whole or not at all."""
    with atomic_file(path) as file:
        file.write(text.encode())
