"""Comma-separated values after RFC 4180: a line for each result, with what is known of its run.

Sizes and samples are JSON in their columns. What a run does not have is empty.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator

from cllm.harness.history.record import Run, digest, machine_digest

COLUMNS = (
    "run", "created", "source", "commit", "commit_time", "branch", "subject", "dirty", "machine",
    "cpu", "level", "benchmark", "candidate", "threads", "metric", "better", "value", "share",
    "configuration", "sizes", "samples",
)  # fmt: skip


def export(runs: Iterable[Run]) -> Iterator[str]:
    """The head and the lines, run after run."""
    yield _line(COLUMNS)
    for run in runs:
        commit = run.commit
        about = (run.id, run.created.isoformat(), run.source)
        revision: tuple[object, ...] = ("",) * 5
        if commit:
            time = commit.time.isoformat()
            revision = (commit.sha, time, commit.branch, commit.subject, commit.dirty)
        machine = (machine_digest(run.machine), run.machine.get("cpu", ""), run.level)
        for result in run.results:
            yield _line(
                (
                    *about,
                    *revision,
                    *machine,
                    result.benchmark,
                    result.candidate,
                    result.threads,
                    result.metric,
                    result.better,
                    result.value,
                    "" if result.share is None else result.share,
                    digest(result.configuration),
                    json.dumps(dict(result.configuration), sort_keys=True),
                    json.dumps(result.samples),
                )
            )


def _line(cells: Iterable[object]) -> str:
    written = io.StringIO(newline="")
    csv.writer(written).writerow(cells)
    return written.getvalue()
