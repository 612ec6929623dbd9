"""Which results are wanted, by names and times.

Promises: a name that the history does not have is told from one that only has no result.
"""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Sequence
from datetime import datetime
from typing import NoReturn

from sqlalchemy import ColumnElement, Connection, select

from cllm.errors import CllmError
from cllm.harness.history.schema import machines, runs, series
from cllm.harness.publish.words import short

SHOWN = 5
"""Names that an error quotes."""


def among_series(
    connection: Connection, benchmark: str | None, candidate: str | None, machine: str | None
) -> list[ColumnElement[bool]]:
    """Names may be shell patterns; a machine is the beginning of its digest, or its CPU.

    Raises `CllmError` for what the history does not have.
    """
    found: list[ColumnElement[bool]] = []
    for column, pattern in ((series.c.benchmark, benchmark), (series.c.candidate, candidate)):
        if pattern is not None:
            names = connection.scalars(select(column).distinct()).all()
            matching = [name for name in names if fnmatch.fnmatchcase(name, pattern)]
            found.append(column.in_(matching or _unknown(column.name, pattern, names)))
    if machine is not None:
        there = {row.digest: str(row.fields["cpu"]) for row in connection.execute(select(machines))}
        digests = [
            digest
            for digest, cpu in there.items()
            if digest.startswith(machine) or fnmatch.fnmatchcase(cpu, machine)
        ]
        names = [f"{digest} ({cpu})" for digest, cpu in there.items()]
        found.append(series.c.machine.in_(digests or _unknown("machine", machine, names)))
    return found


def among_runs(
    connection: Connection,
    *,
    id: str | None = None,
    commit: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> list[ColumnElement[bool]]:
    """A commit is the beginning of its hash; `until` is excluded. Raises as `among_series`."""
    found: list[ColumnElement[bool]] = []
    for what, column, name, condition in (
        ("run", runs.c.id, id, runs.c.id == id),
        ("commit", runs.c.sha, commit, runs.c.sha.startswith(commit or "", autoescape=True)),
    ):
        if name is None:
            continue
        if connection.scalar(select(runs.c.number).where(condition).limit(1)) is None:
            there = select(column).where(column.is_not(None)).distinct().limit(SHOWN + 1)
            _unknown(what, name, connection.scalars(there).all())
        found.append(condition)
    if since is not None:
        found.append(runs.c.created >= since)
    if until is not None:
        found.append(runs.c.created < until)
    return found


def _unknown(what: str, name: str, names: Sequence[str]) -> NoReturn:
    if not names:
        raise CllmError(f"no {what} {name!r} in the history, which is empty")
    near = [
        *difflib.get_close_matches(name, names, SHOWN),
        *(n for n in sorted(names) if name in n),
    ]
    near = list(dict.fromkeys(near or sorted(names)))[:SHOWN]
    more = ", ..." if len(names) > len(near) else ""
    known = ", ".join(map(short, near))
    raise CllmError(f"no {what} {short(name)!r} in the history, which has {known}{more}")
