"""How long it takes to keep a large history, and to ask it.

    python -m cllm.harness.history.scale --output reports/history-scale.md

Promises: one command; figures as they are measured, with the machine they were measured on.
"""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import click

from cllm.files import atomic_file
from cllm.harness.bench.figures import table
from cllm.harness.display import Display
from cllm.harness.history import document
from cllm.harness.history.changes import find_changes
from cllm.harness.history.record import Result, Run
from cllm.harness.history.sources import add_files
from cllm.harness.history.store import History, open_history
from cllm.harness.history.synthetic_runs import BEGIN, synthetic_runs
from cllm.harness.machine import fingerprint

AT_ONCE = 500
"""Runs that are made before the clock runs; making them is not what is measured."""

REPEATS = 5

FILE_SHARE = 0.2
"""Of the results, added from a file as well."""

GONE = "vanished step"

COMMAND = "from cllm.harness.history.command import history; history()"


@dataclass(frozen=True)
class Question:
    """What is asked, and the seconds of each time, each with a connection of its own."""

    words: str
    found: int
    seconds: list[float]


def fill(path: Path, results: int, seed: int, progress: Callable[[int], None]) -> float:
    """Make a history; the seconds that adding took."""
    seconds, added = 0.0, 0
    runs = synthetic_runs(results, seed)
    with open_history(path, create=True) as history:
        history.add(gone())
        while made := list(islice(runs, AT_ONCE)):
            start = time.perf_counter()
            history.add_many(made)
            seconds += time.perf_counter() - start
            added += sum(len(run.results) for run in made)
            progress(added)
    return seconds


def gone() -> Run:
    """A benchmark that was measured once, before all others: what takes longest to find."""
    result = Result(GONE, "optimized", "steps/s", 1.0)
    return Run(GONE, BEGIN - timedelta(days=1), "bench", {}, "avx2", (result,))


def fill_from_file(folder: Path, results: int, seed: int) -> float:
    """Seconds to read a file of JSON lines and to add what it holds."""
    lines = folder / "runs.jsonl"
    with lines.open("w") as file:
        for run in synthetic_runs(results, seed):
            file.write(json.dumps(document.to_dict(run)) + "\n")
    start = time.perf_counter()
    add_files(folder / "from-file.db", [lines], lambda task, done, total: None)
    return time.perf_counter() - start


def ask(path: Path) -> Iterator[Question]:
    """Questions as `cllm history` and the dashboard put them."""
    with open_history(path) as history:
        runs = history.infos()
        known = history.series()
    newest, oldest, middle = runs[0], runs[-2], runs[len(runs) // 2]
    assert middle.commit is not None
    sha = middle.commit.sha[:10]
    one = known[0].series
    questions: dict[str, Callable[[History], list[Any]]] = {
        "the newest 50 results": lambda h: h.find(limit=50),
        "the newest 50 of one benchmark": lambda h: h.find(benchmark="small step", limit=50),
        "the newest 50 of a pattern and a candidate": lambda h: h.find(
            benchmark="* step", candidate="optimized", limit=50
        ),
        "a benchmark that vanished two years ago": lambda h: h.find(benchmark=GONE, limit=50),
        "the newest 50 of one machine": lambda h: h.find(machine=one.machine, limit=50),
        "everything of one commit": lambda h: h.find(commit=sha),
        "the oldest day": lambda h: h.find(
            since=oldest.created, until=oldest.created.replace(hour=23)
        ),
        "one benchmark of one candidate on one machine, all of it": lambda h: h.find(
            benchmark=one.benchmark, candidate=one.candidate, machine=one.machine
        ),
        "the newest 50 runs": lambda h: h.infos(limit=50),
        "one whole run": lambda h: [h.run(newest.id)],
        "all series, with their counts": lambda h: h.series(),
        "the points of one series": lambda h: h.points(one),
    }
    for words, question in questions.items():
        found, seconds = 0, []
        for _ in range(REPEATS):
            start = time.perf_counter()
            with open_history(path) as history:
                found = len(question(history))
            seconds.append(time.perf_counter() - start)
        yield Question(words, found, seconds)


def ask_command(path: Path) -> Question:
    """The whole command, from the start of Python to its end."""
    words = ["find", "--benchmark", "small step", "--limit", "50"]
    command = [sys.executable, "-P", "-c", COMMAND, *words, "--history", str(path)]
    seconds, found = [], ""
    for _ in range(REPEATS):
        start = time.perf_counter()
        found = subprocess.run(command, capture_output=True, check=True, text=True).stdout
        seconds.append(time.perf_counter() - start)
    said = "`cllm history find --benchmark 'small step'`, from start to end"
    return Question(said, len(found.splitlines()) - 1, seconds)


def look_for_changes(path: Path) -> Question:
    """Every change of every series."""
    start = time.perf_counter()
    with open_history(path) as history:
        found = find_changes(history.all_points(), lambda _: None)
    return Question("the change points of all series", len(found), [time.perf_counter() - start])


@click.command()
@click.option("--results", type=click.IntRange(1), default=1_000_000, show_default=True)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option(
    "--history",
    "kept",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Keep the history in this new file.",
)
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("reports/history-scale.md"),
    show_default=True,
)
def main(results: int, seed: int, kept: Path | None, output: Path) -> None:
    """Make a history of so many results, ask it, and write down how long that takes."""
    if kept is not None and kept.exists():
        raise click.UsageError(f"--history {kept} is there already")
    output.parent.mkdir(parents=True, exist_ok=True)
    machine = fingerprint()
    with tempfile.TemporaryDirectory() as scratch, Display() as display:
        path = kept or Path(scratch) / "history.db"
        seconds = fill(path, results, seed, lambda done: display.show("Adding", done, results))
        display.show("Adding from a file", 0, 1)
        part = round(FILE_SHARE * results)
        from_file = part / fill_from_file(Path(scratch), part, seed)
        display.show("Asking", 0, 1)
        questions = [*ask(path), ask_command(path), look_for_changes(path)]
        size = path.stat().st_size
    text = render(machine, results, seed, results / seconds, part, from_file, size, questions)
    with atomic_file(output) as file:
        file.write(text.encode())
    click.echo(text)


def render(
    machine: dict[str, Any],
    results: int,
    seed: int,
    rate: float,
    part: int,
    from_file: float,
    size: int,
    questions: Sequence[Question],
) -> str:
    """The document."""
    facts = (
        ("results added a second", f"{rate:,.0f}"),
        (f"the same from a file of JSON lines, read and checked ({part:,} results)",
         f"{from_file:,.0f}"),
        ("bytes of the SQLite file for each result, with its 11 samples", f"{size / results:.0f}"),
    )  # fmt: skip
    asked = (
        (q.words, f"{q.found:,}", f"{median(q.seconds):.3f}", f"{max(q.seconds):.3f}")
        for q in questions
    )
    command = f"python -m cllm.harness.history.scale --results {results} --seed {seed}"
    parts = (
        "# A history of years",
        f"{results:,} results of two years, made up: runs of 160 results on four machines in turn, "
        "640 series with noise, outliers, steps and drifts. In an SQLite file on "
        f"{machine['cpu']}, {machine['usable_cores']} cores, {machine['python']}, SQLite "
        f"{sqlite3.sqlite_version}, load {machine['load_average']} before the start. Repeat it: "
        f"`{command}`.",
        table(("", ""), facts),
        f"Seconds from opening the history to the answer, of {REPEATS} times:",
        table(("asked for", "found", "median", "longest"), asked),
    )
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    main()
