"""`cllm verify`."""

from __future__ import annotations

from pathlib import Path

import click

from cllm.cli.options import cache_option, computing_options, lattice_option
from cllm.cli.progress import say
from cllm.harness.display import Display, table
from cllm.harness.lockstep import LEARNING_STEPS
from cllm.harness.machine import is_busy
from cllm.harness.selection import SUMMARIES
from cllm.harness.verdict import Verdict, exit_status, first_failure
from cllm.harness.verify import OUTPUT, STEPS
from cllm.harness.verify import verify as run
from cllm.lattice.parts import Lattice


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
@lattice_option
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
    lattice: Lattice,
    steps: int,
    seed: int,
    output: Path,
    cache: Path | None,
) -> int:
    """Hold a model against the reference, and write a report.

    Every check is run on random cases; both models are trained side by side on the text of files
    and folders, PATH..., by default the top-level modules of Python's standard library; and their
    steps per second are measured. The two that are trained and measured have the parts of
    --lattice; that each part is right the checks lattice.* always ask.

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
                lattice=lattice,
                steps=steps,
                seed=seed,
                threads=threads,
                cache=cache,
                progress=display.show,
                report=verdicts.append,
            )
    except (KeyboardInterrupt, SystemExit):
        if verdicts:
            click.echo(table(v.row for v in verdicts))
            say(f"Stopped after {len(verdicts)} checks; no report was written.")
        raise
    page = write_report(verification, output)
    click.echo(table(v.row for v in verdicts))
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
