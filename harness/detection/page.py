"""The detection matrix as a page: one file, without network and without scripts."""

from __future__ import annotations

from typing import Any

import cllm
from cllm.harness import html
from cllm.harness.detection.markdown import COMMAND, headline
from cllm.harness.detection.matrix import Matrix, Row
from cllm.harness.verdict import Status

SIGNS = {"named": "●", "also": "•", "missed": "✗", "alarm": "!", "unsure": "?", "held": ""}
"""In a cell, by what it says; its color says it too."""


def render(matrix: Matrix, created: str) -> str:
    """The page as HTML; `created` is UTC, ISO 8601."""
    return (
        html.environment()
        .get_template("detection.html")
        .render(
            matrix=matrix,
            headline=headline(matrix),
            good=all(row.good for row in matrix.rows),
            groups=groups(matrix),
            cell=cell,
            checks_run=sum(len(row.verdicts) for row in matrix.rows),
            command=COMMAND,
            created=created,
            version=cllm.__version__,
        )
    )


def groups(matrix: Matrix) -> list[tuple[str, list[str], list[Row]]]:
    """By kind of candidate: its name, its checks, its rows; those alike stand together."""
    found = []
    for kind in dict.fromkeys(row.fault.kind for row in matrix.rows):
        rows = [row for row in matrix.rows if row.fault.kind is kind]
        seen = {name for row in rows for name in row.verdicts}
        checks = [name for name in matrix.checks if name in seen]
        order = {name: i for i, name in enumerate(checks)}
        rows.sort(key=lambda row: order[row.fault.caught_by[0]] if row.fault.caught_by else 1000)
        found.append((str(kind), checks, rows))
    return found


def cell(row: Row, check: str) -> dict[str, Any]:
    """Class, sign and tooltip of a cell."""
    verdict = row.verdicts.get(check)
    if verdict is None or verdict.status is Status.NOT_APPLICABLE:
        return {"kind": "none", "sign": "", "text": verdict.evidence if verdict else "not run"}
    named = check in row.fault.caught_by
    match verdict.status:
        case Status.FAIL if row.is_control:
            kind = "alarm"
        case Status.FAIL:
            kind = "named" if named else "also"
        case _ if named:
            kind = "missed"
        case Status.INCONCLUSIVE:
            kind = "unsure"
        case _:
            kind = "held"
    return {"kind": kind, "sign": SIGNS[kind], "text": f"{verdict.status}: {verdict.evidence}"}
