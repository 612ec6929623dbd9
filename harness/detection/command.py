"""`cllm check --faults`: the catalogue of planted faults against the harness."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import numpy as np

import cllm
from cllm.cli.progress import say
from cllm.files import atomic_file
from cllm.harness.detection import markdown, page
from cllm.harness.detection.matrix import Matrix, Row, run, select
from cllm.harness.display import Display, table
from cllm.harness.machine import fingerprint
from cllm.harness.verdict import EXIT_FAILED, EXIT_HELD, Verdict

VERSION = 1


def check_faults(
    only: Iterable[str],
    skip: Iterable[str],
    *,
    seed: int,
    processes: int,
    as_json: bool,
    output: Path | None,
) -> int:
    """Print the matrix, write it to the folder `output` where there is one; the exit status."""
    chosen = select(only, skip)
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)  # refused now, not after the work
    machine = fingerprint()
    with Display() as display:
        matrix = run(chosen, seed=seed, processes=processes, progress=display.show)
    matrix = replace(of_any_machine(matrix), machine=machine)
    document = json.dumps(to_dict(matrix), indent=1)
    click.echo(document if as_json else _columns(matrix.rows) + f"\n\n{markdown.headline(matrix)}.")
    if output is not None:
        created = datetime.now(UTC).isoformat(timespec="seconds")
        for name, text in (
            ("detection.md", markdown.render(matrix)),
            ("detection.html", page.render(matrix, created)),
            ("detection.json", document + "\n"),
        ):
            with atomic_file(output / name) as file:
                file.write(text.encode())
        say(f"Report: {output / 'detection.html'}")
    return EXIT_HELD if all(row.good for row in matrix.rows) else EXIT_FAILED


def of_any_machine(matrix: Matrix) -> Matrix:
    """Without the folders that packages are installed in: it is published."""
    folders = {f"{Path(package.__path__[0]).parent}/" for package in (cllm, np)}

    def stripped(verdict: Verdict) -> Verdict:
        for folder in folders:
            verdict = replace(verdict, evidence=verdict.evidence.replace(folder, ""))
        return verdict

    rows = [
        Row(row.fault, {name: stripped(verdict) for name, verdict in row.verdicts.items()})
        for row in matrix.rows
    ]
    return replace(matrix, rows=rows)


def _columns(rows: Iterable[Row]) -> str:
    """Fault, verdict, the check named for it, and what it said."""
    lines = []
    for row in rows:
        named = row.fault.caught_by[0] if row.fault.caught_by else "control"
        others = len(row.caught) - (named in row.caught)
        also = f" (and {others} more)" if others and not row.is_control else ""
        lines.append((row.fault.name, row.word, f"{named}{also}: {row.evidence or 'all held'}"))
    return table(lines, ("fault", "verdict", "evidence"))


def to_dict(matrix: Matrix) -> dict[str, Any]:
    """What `detection.json` holds."""
    return {
        "version": VERSION,
        "seed": matrix.seed,
        "seconds": round(matrix.seconds, 1),
        "machine": dict(matrix.machine),
        "rows": [
            {
                "name": row.fault.name,
                "story": row.fault.story,
                "kind": str(row.fault.kind),
                "caught_by": list(row.fault.caught_by),
                "verdict": row.word.lower(),
                "checks": {
                    name: {"status": str(verdict.status), "evidence": verdict.evidence}
                    for name, verdict in row.verdicts.items()
                },
            }
            for row in matrix.rows
        ],
    }
