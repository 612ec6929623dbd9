"""`cllm verify`."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any

import click
from tqdm import tqdm

from cllm.cli.options import cache_option, computing_options
from cllm.cli.progress import say
from cllm.harness.lockstep import LEARNING_STEPS
from cllm.harness.machine import is_busy
from cllm.harness.selection import SUMMARIES
from cllm.harness.verdict import Verdict, exit_status, first_failure
from cllm.harness.verify import OUTPUT, STEPS
from cllm.harness.verify import verify as run


class VerifyCommand(click.Command):
    """Its help ends with what each check shows."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Names and summaries."""
        with formatter.section("Checks, in the order of causes"):
            formatter.write_dl(list(SUMMARIES.items()))


@click.command(cls=VerifyCommand)
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
    "--check",
    "checks",
    metavar="NAME",
    multiple=True,
    help="Run this check alone, or a family such as loss; may be given again.  [default: all]",
)
@click.option(
    "--steps",
    type=click.IntRange(1),
    default=STEPS,
    show_default=True,
    help=f"Training steps; whether the models learn is judged from {LEARNING_STEPS} on.",
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
@click.pass_context
def verify(
    ctx: click.Context,
    paths: tuple[Path, ...],
    model: str,
    threads: int,
    reference: str,
    checks: tuple[str, ...],
    steps: int,
    seed: int,
    output: Path,
    cache: Path | None,
) -> int:
    """Hold a model against the reference, and write a report.

    Every check is run on random cases; both models are trained side by side on the text of files
    and folders, PATH..., by default the top-level modules of Python's standard library; and their
    steps per second are measured.

    Exit status: 0 everything held, 1 a check failed, 3 nothing failed but a check is inconclusive.
    """
    from cllm.harness.report import write_report

    output.mkdir(parents=True, exist_ok=True)  # refused now, not after the work
    verdicts: list[Verdict] = []
    try:
        with Display() as display:
            verification = run(
                paths,
                model,
                reference,
                checks=checks,
                steps=steps,
                seed=seed,
                threads=threads,
                cache=cache,
                progress=display.show,
                report=verdicts.append,
            )
    except (KeyboardInterrupt, SystemExit):
        if verdicts:
            click.echo(table(verdicts))
            say(f"Stopped after {len(verdicts)} checks; no report was written.")
        raise
    page = write_report(verification, output)
    click.echo(table(verdicts))
    if start := first_failure(verdicts):
        click.echo(f"\nLook first at {start}")
    benchmark, machine = verification.benchmark, verification.machine
    if benchmark:
        click.echo(
            f"\n{model} takes {benchmark.ratio:.2f} times the steps per second of {reference} "
            f"(95% interval {benchmark.low:.2f} to {benchmark.high:.2f})."
        )
        if is_busy(machine):
            say(
                f"The machine was busy (load average {machine['load_average']} before the start): "
                "measure speed again when it is quiet."
            )
    if ctx.obj and ctx.obj["traceback"]:
        for verdict in verdicts:
            if trace := verdict.details.get("traceback"):
                say(f"\n{verdict.check}\n{trace}")
    say(f"Report: {page}")
    if not checks:
        say("What each check shows: cllm verify --help")
    return exit_status(verdicts)


def table(verdicts: Iterable[Verdict]) -> str:
    """Check, verdict and evidence in columns."""
    rows = [("check", "verdict", "evidence")]
    rows += [(v.check, str(v.status), " ".join(v.evidence.split())) for v in verdicts]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    return "\n".join(f"{c:{widths[0]}}  {v:{widths[1]}}  {evidence}" for c, v, evidence in rows)


class Display:
    """Progress on stderr: a bar for each stage, or a line where stderr is no terminal."""

    def __init__(self) -> None:
        self._stage, self._bar, self._start = "", _bar("", 0), 0.0

    def __enter__(self) -> Display:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end("stopped" if error else "done")

    def show(self, task: str, done: int, total: int) -> None:
        """How much of a task is done; what follows a colon is a detail of the stage before it."""
        stage, _, detail = task.partition(": ")
        if stage != self._stage:
            self._end("done")
            self._stage, self._bar, self._start = stage, _bar(stage, total), time.monotonic()
        self._bar.total = total
        self._bar.set_postfix_str(detail, refresh=False)
        self._bar.update(done - self._bar.n)

    def _end(self, how: str) -> None:
        self._bar.close()
        if self._stage and self._bar.disable:
            say(f"{self._stage}: {how} after {time.monotonic() - self._start:.0f} s")


def _bar(stage: str, total: int) -> tqdm[Any]:
    form = "{desc:<22} {percentage:3.0f}% |{bar:30}| {elapsed}{postfix}"
    return tqdm(desc=stage, total=total, bar_format=form, disable=None if stage else True)
