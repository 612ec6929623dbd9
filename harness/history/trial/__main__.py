"""`python -m cllm.harness.history.trial --output reports/changepoints.md`."""

from __future__ import annotations

from pathlib import Path

import click

from cllm.cli.progress import say
from cllm.files import atomic_file
from cllm.harness.display import Display
from cllm.harness.history.trial.markdown import render
from cllm.harness.history.trial.rivals import installed
from cllm.harness.history.trial.run import run


@click.command()
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    default="reports/changepoints.md",
    show_default=True,
    help="The Markdown to write.",
)
@click.option("--series", type=click.IntRange(1), default=100, show_default=True, help="A case.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
def main(output: Path, series: int, seed: int) -> None:
    """Find change points in series whose changes are known, with every method installed."""
    methods = installed()
    say(f"Methods: {', '.join(method.name for method in methods)}")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)  # refused now, not after the work
    except OSError as error:
        raise click.UsageError(f"cannot write {output}: {error}") from error
    with Display() as display:
        trial = run(methods, series, seed, display.show)
    with atomic_file(output) as file:
        file.write(render(trial).encode())
    say(f"Report: {output}")


if __name__ == "__main__":
    main()
