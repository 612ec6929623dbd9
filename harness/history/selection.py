"""Runs, results and series out of the tables.

Promises: runs and commits as they went in.
Leaves out: transactions (`cllm.harness.history.store`), what filters mean (`filters`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, Select, func, select

from cllm.harness.history.record import Better, Commit, Result, Run, Series
from cllm.harness.history.schema import machines, results, runs, series

FEW, MANY = 4, 512
"""Runs that are looked into first, and at most, for results that are wanted."""

Conditions = Sequence[ColumnElement[bool]]


@dataclass(frozen=True)
class SeriesInfo:
    """A series, and what is known of it without its points."""

    series: Series
    better: Better
    configuration: Mapping[str, Any]
    machine: Mapping[str, Any]
    """What its digest was made of."""
    count: int
    """Of results."""


class Point(NamedTuple):
    """One result of a series."""

    run: str
    created: datetime
    commit: Commit | None
    value: float
    share: float | None


class Head(NamedTuple):
    """What a run and its points have in common."""

    run: str
    created: datetime
    commit: Commit | None


@dataclass(frozen=True)
class RunInfo:
    """A run without its results."""

    id: str
    created: datetime
    source: str
    machine: Mapping[str, Any]
    level: str
    commit: Commit | None
    count: int
    """Of results."""


class Found(NamedTuple):
    """A result, and the run that it is of."""

    run: str
    created: datetime
    commit: Commit | None
    series: Series
    result: Result


COMMIT = (runs.c.sha, runs.c.committed, runs.c.subject, runs.c.branch, runs.c.dirty)
RUN = (runs.c.number, runs.c.id, runs.c.created, runs.c.source, runs.c.level, *COMMIT)
SERIES = tuple(series.c[name] for name in Series._fields)
NEWEST = (runs.c.created.desc(), runs.c.number.desc())


def select_results(
    connection: Connection, among: Conditions, of: Conditions, limit: int | None
) -> list[Found]:
    """Results of series and of runs, the newest first.

    Run by run from the newest on, until there are enough: whatever a database thinks of the
    filters, at most every result is read once.
    """
    numbers = select_numbers(connection, of)[::-1]
    found: list[Found] = []
    start, size = 0, FEW
    while start < len(numbers) and (limit is None or len(found) < limit):
        part = numbers[start : start + size]
        results_of = _results(connection, part, among)
        heads = select_heads(connection, runs.c.number.in_(part))
        found += [
            Found(*heads[number], *each) for number in part for each in results_of.get(number, ())
        ]
        start, size = start + size, min(2 * size, MANY)
    return found[:limit]


def select_series(connection: Connection, conditions: Conditions) -> list[SeriesInfo]:
    """In alphabetical order."""
    counts = (
        select(results.c.series, func.count().label("count"))
        .group_by(results.c.series)
        .subquery("counts")
    )
    query = (
        select(*SERIES, series.c.higher, series.c.sizes, machines.c.fields, counts.c.count)
        .select_from(series.join(machines).join(counts, counts.c.series == series.c.number))
        .where(*conditions)
        .order_by(*SERIES)
    )
    return [
        SeriesInfo(_series(row), _better(row), row.sizes, row.fields, row[-1])
        for row in connection.execute(query)
    ]


def select_heads(connection: Connection, *conditions: ColumnElement[bool]) -> dict[int, Head]:
    """Runs by their numbers."""
    query = select(runs.c.number, runs.c.id, runs.c.created, *COMMIT).where(*conditions)
    return {
        row.number: Head(row.id, row.created, _commit(row)) for row in connection.execute(query)
    }


def with_results_of(wanted: Series) -> ColumnElement[bool]:
    """A condition of runs."""
    those = select(results.c.run).where(results.c.series.in_(_numbers(wanted)))
    return runs.c.number.in_(those)


def select_points(connection: Connection, wanted: Series, heads: Mapping[int, Head]) -> list[Point]:
    """In the order of time; `heads` are those of all its runs."""
    query = (
        select(results.c.run, results.c.value, results.c.share)
        .where(results.c.series.in_(_numbers(wanted)))
        .order_by(results.c.run, results.c.place)
    )
    found = [Point(*heads[run], value, share) for run, value, share in connection.execute(query)]
    return sorted(found, key=lambda point: point.created)


def _numbers(wanted: Series) -> Select[tuple[int]]:
    is_it = (column == value for column, value in zip(SERIES, wanted, strict=True))
    return select(series.c.number).where(*is_it)


def select_infos(
    connection: Connection, conditions: Conditions, limit: int | None
) -> list[RunInfo]:
    """The newest first."""
    count = select(func.count()).where(results.c.run == runs.c.number).scalar_subquery()
    query = select(*RUN, runs.c.machine, count).where(*conditions).order_by(*NEWEST).limit(limit)
    return [
        RunInfo(row.id, row.created, row.source, row.machine, row.level, _commit(row), row[-1])
        for row in connection.execute(query)
    ]


def select_numbers(connection: Connection, conditions: Conditions) -> list[int]:
    """Of runs, in the order of time."""
    query = select(runs.c.number).where(*conditions).order_by(runs.c.created, runs.c.number)
    return list(connection.scalars(query))


def select_runs(connection: Connection, numbers: Sequence[int]) -> Iterator[Run]:
    """Runs with their results, in the order of time."""
    results_of = _results(connection, numbers)
    query = (
        select(*RUN, runs.c.machine)
        .where(runs.c.number.in_(numbers))
        .order_by(runs.c.created, runs.c.number)
    )
    for row in connection.execute(query):
        own = tuple(result for _, result in results_of.get(row.number, ()))
        yield Run(row.id, row.created, row.source, row.machine, row.level, own, _commit(row))


def _results(
    connection: Connection, numbers: Sequence[int], among: Conditions = ()
) -> dict[int, list[tuple[Series, Result]]]:
    """The results of runs, in their order."""
    query = select(results).where(results.c.run.in_(numbers))
    if among:  # + 0: by the runs, not by the index of the series
        query = query.where((results.c.series + 0).in_(select(series.c.number).where(*among)))
    rows = connection.execute(query.order_by(results.c.run, results.c.place)).all()
    those = select(series).where(series.c.number.in_({row.series for row in rows}))
    known = {row.number: (_series(row), row) for row in connection.execute(those)}
    found: dict[int, list[tuple[Series, Result]]] = {}
    for row in rows:
        own, about = known[row.series]
        result = Result(
            own.benchmark,
            own.candidate,
            own.metric,
            row.value,
            own.threads,
            _better(about),
            row.samples,
            row.share,
            about.sizes,
        )
        found.setdefault(row.run, []).append((own, result))
    return found


def _series(row: Any) -> Series:
    return Series(*(getattr(row, name) for name in Series._fields))


def _better(row: Any) -> Better:
    return Better.HIGHER if row.higher else Better.LOWER


def _commit(row: Any) -> Commit | None:
    if row.sha is None:
        return None
    return Commit(row.sha, row.committed, row.subject, row.branch, row.dirty)
