"""`cllm check`."""

from __future__ import annotations

import os
from pathlib import Path

import click

from cllm.cli.options import json_option
from cllm.cli.progress import say
from cllm.errors import CllmError
from cllm.harness.checks import CHECKS
from cllm.harness.conformance.discovery import discover
from cllm.harness.conformance.outcome import Outcome, parse_expectations, status_of
from cllm.harness.conformance.output import columns, to_json, write_junit
from cllm.harness.conformance.run import plan
from cllm.harness.conformance.run import run as run_jobs
from cllm.harness.detection.command import check_faults
from cllm.harness.display import Display


class CheckCommand(click.Command):
    """Its help ends with what each check shows."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Names and summaries by the kind of candidate."""
        for kind in dict.fromkeys(check.kind for check in CHECKS.values()):
            with formatter.section(f"Checks of a {kind}, in the order of causes"):
                formatter.write_dl(
                    [(name, check.summary) for name, check in CHECKS.items() if check.kind is kind]
                )


@click.command(cls=CheckCommand)
@click.argument("candidates", metavar="[CANDIDATE]...", nargs=-1)
@click.option(
    "--reference",
    metavar="NAME",
    help="What candidates are held against, named like them; for a pair, a function.  "
    "[default: the reference model; a pair's own; our parts of a trainer]",
)
@click.option(
    "--only", metavar="NAME", multiple=True, help="Run this check or family alone; repeatable."
)
@click.option(
    "--skip", metavar="NAME", multiple=True, help="Leave this check or family out; repeatable."
)
@click.option(
    "--expect-fail",
    metavar="NAME=REASON",
    multiple=True,
    help="This check may fail, for this reason; that it passes is reported. Repeatable.",
)
@click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True, help="Decides the cases."
)
@click.option(
    "--jobs",
    type=click.IntRange(1),
    default=len(os.sched_getaffinity(0)),
    show_default="every core",
    help="Checks that run at once, each in a process of its own.",
)
@json_option
@click.option(
    "--junit",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write JUnit XML to this file as well.",
)
@click.option(
    "--faults",
    is_flag=True,
    help="Check the harness instead: run the catalogue of planted faults and print what caught "
    "each. --only and --skip then name faults or checks.",
)
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    help="With --faults: folder for detection.md, and the same as a page and as JSON.",
)
def check(
    candidates: tuple[str, ...],
    reference: str | None,
    only: tuple[str, ...],
    skip: tuple[str, ...],
    expect_fail: tuple[str, ...],
    seed: int,
    jobs: int,
    as_json: bool,
    junit: Path | None,
    faults: bool,
    output: Path | None,
) -> int:
    """Run every check that applies to CANDIDATE..., by default optimized.

    A candidate is `optimized`, `reference` or another entry point of `cllm.models`; `operations`,
    the single kernels of the optimized model; `trainer`, the parts of a trainer that are no model;
    module:attribute or path/to/file.py:attribute, which is a subclass of cllm.Model, a Pair, a
    TrainerParts or a list of them; or a module or file alone, for all that it defines.

    Exit status: 0 everything held, 1 a check failed or one that was expected to fail passed,
    3 nothing failed but a check is inconclusive.
    """
    if faults:
        if candidates or reference or expect_fail or junit:
            raise click.UsageError("--faults takes no candidates, references or expectations")
        return check_faults(only, skip, seed=seed, processes=jobs, as_json=as_json, output=output)
    if output is not None:
        raise click.UsageError("--output goes with --faults")
    if junit is not None and not junit.resolve().parent.is_dir():
        raise CllmError(f"--junit {junit}: there is no folder {junit.parent}")
    if junit is not None and junit.is_dir():
        raise CllmError(f"--junit {junit} is a folder")
    expected = parse_expectations(expect_fail, CHECKS)
    found = [candidate for name in candidates or ("optimized",) for candidate in discover(name)]
    planned = plan(found, only, skip)
    if not planned:
        raise CllmError("no check is left to run: --only and --skip leave none for a candidate")
    outcomes: list[Outcome] = []
    try:
        with Display() as display:
            outcomes = run_jobs(
                planned,
                reference=reference,
                seed=seed,
                expected=expected,
                processes=jobs,
                progress=display.show,
                report=outcomes.append,
            )
    except (KeyboardInterrupt, SystemExit):
        if outcomes:
            click.echo(columns(outcomes))
            say(f"Stopped after {len(outcomes)} of {len(planned)} checks.")
        raise
    click.echo(to_json(outcomes) if as_json else columns(outcomes))
    if junit is not None:
        write_junit(outcomes, junit)
    return status_of(outcomes)
