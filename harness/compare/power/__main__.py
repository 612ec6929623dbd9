"""`python -m cllm.harness.compare.power`: record, replay, compare live, write the report."""

from __future__ import annotations

import json
import shlex
import sys
import tempfile
from pathlib import Path

import click

from cllm.cli.progress import say
from cllm.files import atomic_file
from cllm.harness.compare.power import live, markdown
from cllm.harness.compare.power.record import COPY, TURNS, Recording, record
from cllm.harness.compare.power.replay import replay
from cllm.harness.display import Display
from cllm.harness.machine import fingerprint

THREADS = (1, 2)
BUDGET = 120.0
MINIMUM_EFFECT = 0.02


@click.command()
@click.option("--hours", type=click.FloatRange(0.0, min_open=True), default=1.0, show_default=True)
@click.option("--equal", type=click.IntRange(1), default=1000, show_default=True)
@click.option("--slowed", type=click.IntRange(1), default=300, show_default=True)
@click.option("--live", "lives", type=click.IntRange(0), default=30, show_default=True)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("reports/regression-power.md"),
    show_default=True,
    help="The report; what was recorded is written beside it, as .json.",
)
@click.option("--recorded", is_flag=True, help="Replay what was recorded before.")
def main(
    hours: float, equal: int, slowed: int, lives: int, seed: int, output: Path, recorded: bool
) -> None:
    """Show how often a comparison is right: on equal builds, and on slowdowns of known sizes."""
    kept = output.with_suffix(".json")
    share = min(TURNS.values()) / sum(TURNS.values()) / len(THREADS)
    if not recorded and 3600 * hours * share <= BUDGET:
        least = BUDGET / share / 3600
        reason = f"{hours:g}, must be over {least:.2f}: each build has its share"
        raise click.BadParameter(reason, param_hint="--hours")
    with Display() as display, tempfile.TemporaryDirectory() as scratch:
        if recorded:
            recordings = [Recording.from_dict(each) for each in json.loads(kept.read_text())]
        else:
            seconds = 3600 * hours
            recordings = record(THREADS, seconds, Path(scratch), seed, display.show)
            with atomic_file(kept) as file:
                file.write(json.dumps([each.to_dict() for each in recordings]).encode())
        trials = {}
        for recording in recordings:
            for build in TURNS:
                count = (equal if build == COPY else slowed) // len(recordings)
                display.show(f"replaying: {build}, {recording.threads} threads", 0, count)
                trials[recording.threads, build] = [
                    *replay(
                        recording,
                        build,
                        count,
                        budget=BUDGET,
                        minimum_effect=MINIMUM_EFFECT,
                        seed=seed,
                    )
                ]
        extra = {recording.threads: recording.work for recording in recordings}
        cases = [
            (count, slowdown, extra[count][f"{slowdown:g}"] if slowdown else 0)
            for place in range(lives)
            for slowdown in (0.0, markdown.FOUND)
            for count in (THREADS[place % len(THREADS)],)
        ]
        found = live.run(
            cases,
            Path(scratch),
            budget=BUDGET,
            minimum_effect=MINIMUM_EFFECT,
            seed=seed,
            progress=display.show,
        )
    words = [word for word in sys.argv[1:] if word != "--recorded"]  # which would not repeat it
    command = ["python", "-m", "cllm.harness.compare.power", *words]
    results = markdown.Results(
        recordings, trials, found, BUDGET, MINIMUM_EFFECT, fingerprint(), shlex.join(command)
    )
    with atomic_file(output) as file:
        file.write(markdown.render(results).encode())
    for line in markdown.bars(results):
        click.echo(line)
    say(f"Report: {output}")


if __name__ == "__main__":
    main()
