"""`cllm verify`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any

import click
from tqdm import tqdm

from cllm.cli.options import cache_option, computing_options
from cllm.cli.progress import say
from cllm.harness.verdict import Verdict, exit_status
from cllm.harness.verify import OUTPUT, STEPS
from cllm.harness.verify import verify as run


@click.command
@click.argument(
    "paths", metavar="[PATH]...", nargs=-1, type=click.Path(exists=True, path_type=Path)
)
@computing_options
@click.option(
    "--reference",
    default="reference",
    show_default=True,
    help="What the model is held against: reference or module:Class.",
)
@click.option(
    "--steps", type=click.IntRange(1), default=STEPS, show_default=True, help="Training steps."
)
@click.option(
    "--seed",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Decides the cases of the checks, the first parameters and the batches.",
)
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=OUTPUT,
    show_default=True,
    help="Folder for index.html and report.json; made where it is missing.",
)
@cache_option
def verify(
    paths: tuple[Path, ...],
    model: str,
    threads: int,
    reference: str,
    steps: int,
    seed: int,
    output: Path,
    cache: Path | None,
) -> int:
    """Hold a model against the reference, and write a report.

    Both are trained side by side on the text of files and folders, PATH..., by default the
    top-level modules of Python's standard library. Their losses and gradients are compared, every
    check is run, and steps per second are measured.

    Exit status: 0 everything held, 1 a check failed, 3 nothing failed but a check is inconclusive.
    """
    from cllm.harness.report import write_report

    output.mkdir(parents=True, exist_ok=True)  # refused now, not after the work
    with Display() as display:
        verification = run(
            paths,
            model,
            reference,
            steps=steps,
            seed=seed,
            threads=threads,
            cache=cache,
            progress=display.show,
        )
        page = write_report(verification, output)
    click.echo(table(verification.verdicts))
    if click.get_current_context().find_root().params.get("traceback"):
        for verdict in verification.verdicts:
            if "traceback" in verdict.details:
                click.echo(f"\n{verdict.check}\n{verdict.details['traceback']}", err=True)
    benchmark = verification.benchmark
    if benchmark:
        click.echo(
            f"\n{model} takes {benchmark.ratio:.2f} times the steps per second of {reference} "
            f"(95% interval {benchmark.low:.2f} to {benchmark.high:.2f})."
        )
    say(f"Report: {page}")
    return exit_status(verification.verdicts)


def table(verdicts: Iterable[Verdict]) -> str:
    """Check, verdict and evidence in columns."""
    rows = [("check", "verdict", "evidence")]
    rows += [(v.check, str(v.status), " ".join(v.evidence.split())) for v in verdicts]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    return "\n".join(f"{c:{widths[0]}}  {v:{widths[1]}}  {evidence}" for c, v, evidence in rows)


class Display:
    """Progress bars on stderr, one a stage; none where stderr is no terminal."""

    def __init__(self) -> None:
        self._stage, self._bar = "", _bar("", 0)

    def __enter__(self) -> Display:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.close()

    def show(self, task: str, done: int, total: int) -> None:
        """How much of a task is done; what follows a colon is a detail of the stage before it."""
        stage, _, detail = task.partition(": ")
        if stage != self._stage:
            self._bar.close()
            self._stage, self._bar = stage, _bar(stage, total)
        self._bar.total = total
        self._bar.set_postfix_str(detail, refresh=False)
        self._bar.update(done - self._bar.n)


def _bar(stage: str, total: int) -> tqdm[Any]:
    form = "{desc:<22} {percentage:3.0f}% |{bar:30}| {elapsed}{postfix}"
    return tqdm(desc=stage, total=total, bar_format=form, disable=None if stage else True)
