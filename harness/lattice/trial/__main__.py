"""`python -m cllm.harness.lattice.trial --output reports/lattice.md`."""

from __future__ import annotations

import os
from pathlib import Path

import click

from cllm.cli.progress import say
from cllm.files import atomic_file
from cllm.harness.display import Display
from cllm.harness.lattice.trial.markdown import PICTURE, Results, render
from cllm.harness.lattice.trial.picture import svg
from cllm.harness.lattice.trial.run import CONFIG, MEDIUM, PLAIN, SETTINGS, costs, train_all
from cllm.harness.lattice.trial.texts import texts
from cllm.harness.machine import fingerprint


@click.command()
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    default="reports/lattice.md",
    show_default=True,
    help="The Markdown to write.",
)
@click.option("--steps", type=click.IntRange(10), default=1000, show_default=True)
@click.option(
    "--seeds", type=click.IntRange(2), default=5, show_default=True, help="From 0 on, of each."
)
def main(output: Path, steps: int, seeds: int) -> None:
    """Train models without the lattice, with each part, with all: as many steps, and as long."""
    try:
        output.parent.mkdir(parents=True, exist_ok=True)  # refused now, not after the work
    except OSError as error:
        raise click.UsageError(f"cannot write {output}: {error}") from error
    machine, read = fingerprint(), texts()
    with Display() as display:
        small = costs(CONFIG, SETTINGS.batch_size, SETTINGS.seq_len, display.show)
        medium = costs(*MEDIUM, display.show)
        wanted = {(variant, steps) for variant in small}
        wanted |= {(v, round(steps / cost.ratio)) for v, cost in small.items() if v != PLAIN}
        runs = [
            *train_all(
                read, sorted(wanted), range(seeds), len(os.sched_getaffinity(0)), display.show
            )
        ]
    results = Results(read, runs, steps, seeds, small, medium, machine)
    for path, content in (
        (output, render(results)),
        (output.with_name(PICTURE), svg(results.differences())),
    ):
        with atomic_file(path) as file:
            file.write(content.encode())
    say(f"Report: {output}")


if __name__ == "__main__":
    main()
