"""The report: `index.html` for people and `report.json` for machines.

`report.json` holds

- `version`: 1, raised whenever a key changes its meaning; `created`: UTC, ISO 8601;
- `status`: `pass`, `fail` or `inconclusive`;
- `settings`: what was run, enough to repeat it; `machine`: where (`cllm.harness.machine`);
- `start`: where to look first when something failed, else null;
- `verdicts`: one a check: `check`, `summary`, `status`, `evidence` and `details`;
- `tensors`: the worst gradient error of each tensor: `share` of its `tolerance`, `error`, `index`,
  `got`, `expected` and the `case`;
- `curves`: by step `candidate`, `reference` and `tolerance` of the loss in nats, and the text's
  unigram `entropy`; null where there was no training to its end;
- `benchmark`: by block steps per second of `candidate` and `reference`, the median `ratio` and the
  ends `low` and `high` of its interval of 95%; null where there is none.

A number that is not finite is null. Promises: both files are whole or as they were; the page needs
no network.
Leaves out: how the page looks (`cllm.harness.page`).
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cllm.files import atomic_file
from cllm.harness.page import render
from cllm.harness.selection import SUMMARIES
from cllm.harness.verdict import EXIT_FAILED, EXIT_HELD, exit_status, first_failure
from cllm.harness.verify import Verification

VERSION = 1

_STATUS = {EXIT_HELD: "pass", EXIT_FAILED: "fail"}


def write_report(verification: Verification, output: Path) -> Path:
    """Write `index.html` and `report.json` to the folder; returns the page's path."""
    output.mkdir(parents=True, exist_ok=True)
    report = document(verification)
    page = output / "index.html"
    for path, text in (
        (output / "report.json", json.dumps(report, indent=1, allow_nan=False) + "\n"),
        (page, render(report)),
    ):
        with atomic_file(path) as file:
            file.write(text.encode())
    return page


def document(verification: Verification) -> dict[str, Any]:
    """What `report.json` holds."""
    verdicts = [
        {
            "check": verdict.check,
            "summary": SUMMARIES.get(verdict.check, ""),
            "status": str(verdict.status),
            "evidence": verdict.evidence,
            "details": dict(verdict.details),
        }
        for verdict in verification.verdicts
    ]
    lockstep, benchmark = verification.lockstep, verification.benchmark
    report = {
        "version": VERSION,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "status": _STATUS.get(exit_status(verification.verdicts), "inconclusive"),
        "settings": verification.settings,
        "machine": verification.machine,
        "start": first_failure(verification.verdicts),
        "verdicts": verdicts,
        "tensors": [
            row
            for verdict in verification.verdicts
            if verdict.check == "gradients.reference"
            for row in verdict.details.get("tensors", [])
        ],
        "curves": lockstep and lockstep.to_dict(),
        "benchmark": benchmark and asdict(benchmark),
    }
    cleaned: dict[str, Any] = finite(report)
    return cleaned


def finite(value: Any) -> Any:
    """The same with None in place of numbers that JSON does not have."""
    if isinstance(value, dict):
        return {key: finite(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
