"""`cllm bench`."""

from __future__ import annotations

import json
import os
from pathlib import Path

import click

import cllm.harness.peers as registered
from cllm.cli.progress import say
from cllm.files import atomic_file
from cllm.harness.bench.configurations import CONFIGURATIONS
from cllm.harness.display import Display

OUTPUT = Path("reports/performance.md")


@click.command()
@click.argument("models", metavar="[MODEL]...", nargs=-1)
@click.option("--peers", is_flag=True, help="Measure PyTorch and JAX as well, where installed.")
@click.option(
    "--configuration",
    "configurations",
    type=click.Choice(list(CONFIGURATIONS)),
    multiple=True,
    help="Sizes to measure; may be given again.  [default: all]",
)
@click.option(
    "--threads",
    type=click.IntRange(1, 1024),
    multiple=True,
    help="Threads of the models; may be given again.  [default: 1 and every usable core]",
)
@click.option(
    "--seconds",
    type=click.FloatRange(0.0, min_open=True),
    default=0.2,
    show_default=True,
    help="Length of one visit; longer ones take more time and are less noisy.",
)
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    default=OUTPUT,
    show_default=True,
    help="The report; a .json and, with peers, an .svg are written beside it.",
)
@click.option(
    "--seed",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Decides parameters and batches.",
)
def bench(
    models: tuple[str, ...],
    peers: bool,
    configurations: tuple[str, ...],
    threads: tuple[int, ...],
    seconds: float,
    output: Path,
    seed: int,
) -> None:
    """Measure models against the reference, the machine, and other libraries.

    MODEL is a name such as optimized, the default, or module:Class. Measured are training steps
    and generated tokens per second, as a share of what the machine can do at that moment, memory
    and import time; each competitor is first checked to compute the same.
    """
    from cllm.harness.bench.charts import svg
    from cllm.harness.bench.markdown import render
    from cllm.harness.bench.overview import overview
    from cllm.harness.bench.run import measure

    output.parent.mkdir(parents=True, exist_ok=True)  # refused now, not after the work
    if peers and (missing := [p.library for p in registered.PEERS if not p.is_installed()]):
        say(f"Not installed, not measured: {', '.join(missing)} (pip install '{registered.EXTRA}')")
    chosen = configurations or tuple(CONFIGURATIONS)
    with Display() as display:
        result = measure(
            models or ("optimized",),
            [CONFIGURATIONS[name] for name in chosen],
            threads or (1, len(os.sched_getaffinity(0))),
            peers=peers,
            seconds=seconds,
            seed=seed,
            progress=display.show,
        )
    picture = svg(result)
    if picture is not None:
        _write(output.with_suffix(".svg"), picture)
    _write(output.with_suffix(".json"), json.dumps(result, indent=1) + "\n")
    _write(output, render(result, output.with_suffix(".svg").name if picture else None))
    click.echo(overview(result))
    say(f"Report: {output}")


def _write(path: Path, text: str) -> None:
    """Whole or not at all."""
    with atomic_file(path) as file:
        file.write(text.encode())
