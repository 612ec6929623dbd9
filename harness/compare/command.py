"""`cllm compare`."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import click

from cllm.cli.options import FiniteRange
from cllm.cli.progress import say
from cllm.files import atomic_file
from cllm.harness.bench.options import (
    chosen_configurations,
    configuration_options,
    thread_counts,
    threads_option,
)
from cllm.harness.compare.comparison import ELSEWHERE, Comparison, Entry
from cllm.harness.display import Display

KINDS = ("step", "greedy")


@click.command()
@click.argument("base")
@click.argument("head")
@click.option(
    "--candidate",
    default="optimized",
    show_default=True,
    help="What is measured on a side that is no candidate itself.",
)
@configuration_options("small")
@click.option(
    "--kind",
    "kinds",
    type=click.Choice(KINDS),
    multiple=True,
    default=("step",),
    show_default=True,
    help="Training steps or generation; may be given again.",
)
@threads_option
@click.option(
    "--budget",
    type=FiniteRange(0.0, min_open=True),
    default=120.0,
    show_default=True,
    help="Seconds for each benchmark; fewer are used where the answer is clear.",
)
@click.option(
    "--minimum-effect",
    type=FiniteRange(0.0, 1.0, min_open=True, max_open=True),
    default=0.02,
    show_default=True,
    help="The smallest difference that matters, as a share of the speed.",
)
@click.option(
    "--instructions/--no-instructions",
    default=True,
    show_default=True,
    help="Count the instructions of a step as well, where valgrind is installed.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the whole document.")
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for comparison.json, which `cllm report` shows.",
)
@click.option(
    "--seed",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Decides parameters, batches and the order of visits.",
)
@click.pass_context
def compare(
    ctx: click.Context,
    base: str,
    head: str,
    candidate: str,
    configurations: tuple[str, ...],
    file: Path | None,
    kinds: tuple[str, ...],
    threads: tuple[int, ...],
    budget: float,
    minimum_effect: float,
    instructions: bool,
    as_json: bool,
    output: Path | None,
    seed: int,
) -> None:
    """Say whether HEAD is slower than BASE, and how sure that is.

    Each is a git revision, a folder of sources, a wheel, a virtual environment, or a candidate
    (module:Class). Both are measured in one session, in turn, in processes that are made anew
    again and again. The exit status is 0, 1 where something is slower or HEAD fails, 3 where
    something could not be decided.
    """
    from cllm.harness.bench.task import Kind
    from cllm.harness.compare import run
    from cllm.harness.compare.builds import prepare

    chosen = chosen_configurations(configurations, file, ("small",))
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)  # refused now, not after the work
    benchmarks = [
        run.Benchmark(configuration, Kind(kind), count)
        for configuration in chosen
        for kind in dict.fromkeys(kinds)
        for count in thread_counts(threads)
    ]
    with tempfile.TemporaryDirectory() as scratch, Display() as display:
        display.show(f"building: {base}", 0, 2)
        before = prepare(base, candidate, Path(), Path(scratch))
        display.show(f"building: {head}", 1, 2)
        after = prepare(head, candidate, Path(), Path(scratch))
        display.show("building: done", 2, 2)
        comparison = run.compare(
            before,
            after,
            benchmarks,
            budget=budget,
            minimum_effect=minimum_effect,
            instructions=instructions,
            seed=seed,
            progress=display.show,
            file=file,
        )
    document = json.dumps(comparison.to_dict(), indent=1)
    click.echo(document if as_json else overview(comparison))
    if output is not None:
        with atomic_file(output / "comparison.json") as written:
            written.write(document.encode() + b"\n")
        say(f"`cllm report {output / 'comparison.json'}` shows it as a page")
    ctx.exit(comparison.exit_status)


def overview(comparison: Comparison) -> str:
    """What the terminal shows: a line for each benchmark, and what it all comes to."""
    head = (
        "benchmark",
        "verdict",
        "head / base",
        "noise",
        "seen from",
        "instructions",
        "what was seen",
    )
    rows = [head, *(_row(entry) for entry in comparison.entries)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head) - 1)]
    lines = [
        "  ".join([*(f"{c:{w}}" for c, w in zip(row, widths, strict=False)), row[-1]])
        for row in rows
    ]
    sides = f"{comparison.head.name} against {comparison.base.name}"
    return "\n".join([*lines, "", f"{sides}: {comparison.outcome}."])


def _row(entry: Entry) -> tuple[str, ...]:
    if entry.ratio is None or entry.noise is None or entry.detectable is None:
        return entry.name, str(entry.outcome), "–", "–", "–", "–", entry.reason
    noise = max(entry.noise.high - 1, 1 - entry.noise.low)
    found = f"{entry.ratio.ratio:.3f} ({entry.ratio.low:.3f} to {entry.ratio.high:.3f})"
    seen = (f"±{100 * noise:.1f}%", f"{100 * entry.detectable:.1f}%", _instructions(entry))
    said = f"{entry.seconds:.0f} s; {entry.reason}"
    if entry.instructions_reason not in ("", ELSEWHERE):
        said += f"; instructions not counted: {entry.instructions_reason}"
    return entry.name, str(entry.outcome), found, *seen, said


def _instructions(entry: Entry) -> str:
    counted = entry.instructions
    return f"{counted.verdict} ({counted.ratio - 1:+.2%})" if counted else "–"
