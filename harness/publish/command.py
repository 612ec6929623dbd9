"""`cllm report`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from cllm.cli.progress import say
from cllm.files import atomic_file
from cllm.harness.publish import comparison, junit, page, performance, summary, verification
from cllm.harness.publish.source import (
    comparison_of,
    kind_of,
    performance_of,
    read,
    verification_of,
)
from cllm.harness.publish.words import printable

OUTPUT = Path("reports/report")


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=OUTPUT,
    show_default=True,
    help="Folder for index.html, report.json, summary.md and junit.xml.",
)
def report(file: Path, output: Path) -> int:
    """Write what was measured as a page, for machines, and for a pull request.

    FILE is comparison.json of `cllm compare`, performance.json of `cllm bench` or report.json of
    `cllm verify`.

    Exit status: that of the comparison: 0 nothing is slower, 1 something is slower, 3 nothing is
    but something is inconclusive. Of a run 0, or 1 where a model failed; that of a verification.
    """
    found = report_of(file)
    texts = {
        "index.html": page.render(found).encode(errors="replace"),
        "report.json": (json.dumps(found, indent=1, allow_nan=False) + "\n").encode(),
        "summary.md": summary.render(found).encode(errors="replace"),
        "junit.xml": junit.render(found),
    }
    output.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        with atomic_file(output / name) as opened:
            opened.write(text)
    click.echo(printable(found["headline"]))
    say(f"Report: {output / 'index.html'}")
    status: int = found["exit_status"]
    return status


def report_of(file: Path) -> dict[str, Any]:
    """What `report.json` holds. Raises `CllmError` for a file that cannot be reported."""
    document = read(file)
    match kind_of(document, file):
        case "comparison":
            return comparison.report_of(comparison_of(document, file))
        case "performance":
            return performance.report_of(performance_of(document, file))
        case _:
            return verification.report_of(verification_of(document, file))
