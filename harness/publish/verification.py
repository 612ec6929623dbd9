"""A verification as a report: what `cllm verify` wrote, for a pull request and for CI too.

`report.json` is as `cllm.harness.report` says, with `kind`: `verification`, `headline` and
`exit_status` beside it; its page is the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cllm.harness import page
from cllm.harness.verdict import EXIT_FAILED, EXIT_HELD, EXIT_INCONCLUSIVE

EXITS = {"pass": EXIT_HELD, "fail": EXIT_FAILED, "inconclusive": EXIT_INCONCLUSIVE}


def report_of(document: Mapping[str, Any]) -> dict[str, Any]:
    """The document and its verdict."""
    report = dict(document)
    kept = {"kind": "verification", "headline": page.headline(report)}
    return {**report, **kept, "exit_status": EXITS[report["status"]]}
