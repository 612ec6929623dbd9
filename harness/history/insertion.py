"""Runs into the tables.

Promises: everything of a run goes in, in the caller's transaction; rows that other writers may
want as well are made in one order everywhere, so that two of them never wait for each other.
Leaves out: what happens when another writer was first (`cllm.harness.history.store`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Table, select

from cllm.errors import CllmError
from cllm.harness.history.record import MACHINE_FIELDS, Better, Result, Run, Series
from cllm.harness.history.schema import MAX_ID, machines, results, runs, series
from cllm.harness.publish.words import LONGEST, short

BATCH = 20_000
"""Results of a transaction, but for a run that has more."""

Key = tuple[Series, Better]


def batches(given: Iterable[Run]) -> Iterator[list[Run]]:
    """Runs, checked, for one transaction at a time. Raises `CllmError` as `validate`."""
    batch: list[Run] = []
    size = 0
    for run in given:
        validate(run)
        batch.append(run)
        size += 1 + len(run.results)
        if size >= BATCH:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def validate(run: Run) -> None:
    """Raises `CllmError` for an id of no or many characters, odd text, and times without a zone."""
    if not 0 < len(run.id) <= MAX_ID:
        raise CllmError(f"run id {short(run.id)!r}: must have 1 to {MAX_ID} characters")
    times, texts = [run.created], {run.id, run.source, run.level}
    if run.commit is not None:
        times.append(run.commit.time)
        texts |= {run.commit.sha, run.commit.subject, run.commit.branch}
    for result in run.results:
        texts |= {result.benchmark, result.candidate, result.metric}
    for time in times:
        if time.utcoffset() is None:
            raise CllmError(f"run {short(run.id)!r}: time {time} must have a time zone")
    for text in texts:
        if "\0" in text or any("\ud800" <= letter <= "\udfff" for letter in text):
            raise CllmError(
                f"run {short(run.id)!r}: text {text[:LONGEST]!r} must be Unicode without NUL"
            )


def insert(
    connection: Connection, batch: Sequence[Run], known: Mapping[Key, int]
) -> tuple[int, dict[Key, int]]:
    """Add the runs that are not there yet: how many, and the numbers of their series.

    `known` are numbers of series that are there for certain.
    """
    by_id = {run.id: run for run in reversed(batch)}
    there = set(connection.scalars(select(runs.c.id).where(runs.c.id.in_(by_id))))
    fresh = [by_id[id] for id in sorted(by_id.keys() - there)]
    keys = [[(run.series(result), result.better) for result in run.results] for run in fresh]
    wanted: dict[Key, tuple[Run, Result]] = {}
    for run, own in zip(fresh, keys, strict=True):
        wanted |= {
            key: (run, result)
            for key, result in zip(own, run.results, strict=True)
            if key not in known
        }
    numbers = {**known, **_series(connection, wanted)}
    rows: list[dict[str, Any]] = []
    for run, own in zip(fresh, keys, strict=True):
        number = _insert_one(connection, runs, _run(run))
        rows += [
            {
                "run": number,
                "place": place,
                "series": numbers[key],
                "value": result.value,
                "samples": result.samples,
                "share": result.share,
            }
            for place, (key, result) in enumerate(zip(own, run.results, strict=True))
        ]
    if rows:
        connection.execute(results.insert(), rows)
    return len(fresh), numbers


def _series(connection: Connection, wanted: Mapping[Key, tuple[Run, Result]]) -> dict[Key, int]:
    """The number of each, made where there is none."""
    if not wanted:
        return {}
    _machines(connection, {own.machine: run for (own, _), (run, _) in wanted.items()})
    keys = {_digest(key): key for key in wanted}
    there = connection.execute(select(series.c.key, series.c.number).where(series.c.key.in_(keys)))
    numbers = {keys[digest]: number for digest, number in there}
    for digest, (own, better) in sorted(keys.items()):
        if (own, better) not in numbers:
            result = wanted[own, better][1]
            row = {
                **own._asdict(),
                "key": digest,
                "sizes": result.configuration,
                "higher": better is Better.HIGHER,
            }
            numbers[own, better] = _insert_one(connection, series, row)
    return numbers


def _machines(connection: Connection, wanted: Mapping[str, Run]) -> None:
    there = connection.scalars(select(machines.c.digest).where(machines.c.digest.in_(wanted)))
    for digest in sorted(wanted.keys() - set(there)):
        fields = {name: wanted[digest].machine.get(name) for name in MACHINE_FIELDS}
        connection.execute(machines.insert(), {"digest": digest, "fields": fields})


def _insert_one(connection: Connection, table: Table, row: Mapping[str, Any]) -> int:
    """The number that it got."""
    key = connection.execute(table.insert(), row).inserted_primary_key
    assert key is not None  # of one row it is known
    return int(key[0])


def _digest(key: Key) -> str:
    own, better = key
    return hashlib.sha256(json.dumps([*own, better]).encode()).hexdigest()


def _run(run: Run) -> dict[str, Any]:
    row = {name: getattr(run, name) for name in ("id", "created", "source", "machine", "level")}
    commit = run.commit
    if commit is None:
        return row
    return row | {
        "sha": commit.sha,
        "committed": commit.time,
        "subject": commit.subject,
        "branch": commit.branch,
        "dirty": commit.dirty,
    }
