"""Runs, kept in any database that SQLAlchemy speaks to.

Promises: a run is kept whole or not at all, and comes back equal; the same run added twice, by
whomever, is kept once; many processes may add at once. All errors are `CllmError`.
Leaves out: the tables (`schema`), the connection (`database`), the files that runs come in
(`sources`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from types import TracebackType

from cllm.errors import CllmError
from cllm.harness.history.database import Database, LostRace  # first: says what is not installed
from cllm.harness.history.filters import among_runs, among_series
from cllm.harness.history.insertion import Key, batches, insert
from cllm.harness.history.record import Run, Series
from cllm.harness.history.selection import (
    Found,
    Point,
    RunInfo,
    SeriesInfo,
    select_heads,
    select_infos,
    select_numbers,
    select_points,
    select_results,
    select_runs,
    select_series,
    with_results_of,
)

DEFAULT = Path("reports/history.db")

AT_ONCE = 200
"""Runs that are read in one statement."""

RACES = 100
"""That a batch may lose against other writers; each was won by one that made its rows."""


def open_history(where: str | Path = DEFAULT, *, create: bool = False) -> History:
    """A history in an SQLite file, or in the database of an SQLAlchemy URL (with `://`).

    Without `create` an SQLite file is not written to. Raises `CllmError` where there is none, or
    one of an older version, and `create` does not make it; for what is no history, for a history
    of a newer version, and where the database cannot be reached.
    """
    return History(Database(where, create=create))


class History:
    """What was measured. Use it in a `with` block, or close it."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._numbers: dict[Key, int] = {}

    def __enter__(self) -> History:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the connections."""
        self._database.engine.dispose()

    def add(self, run: Run) -> bool:
        """Keep a run; False where it already is there."""
        return self.add_many([run]) == 1

    def add_many(self, runs: Iterable[Run], progress: Callable[[int], None] | None = None) -> int:
        """Keep runs, batch by batch: how many were not there yet.

        `progress` is called with the number of runs seen so far. After an error what was kept
        stays, and adding all of them again goes on from there.
        """
        added = seen = 0
        for batch in batches(runs):
            added += self._add(batch)
            seen += len(batch)
            if progress is not None:
                progress(seen)
        return added

    def _add(self, batch: Sequence[Run]) -> int:
        for _ in range(RACES):
            try:
                with self._database.writing() as connection:
                    added, numbers = insert(connection, batch, self._numbers)
            except LostRace:  # another process made the same row, which can be seen now
                continue
            self._numbers = numbers
            return added
        raise CllmError(f"history {self._database.where}: other writers were faster {RACES} times")

    def run(self, id: str) -> Run:
        """The run of this id. Raises `CllmError` where there is none."""
        with self._database.reading() as connection:
            numbers = select_numbers(connection, among_runs(connection, id=id))
            return next(select_runs(connection, numbers))

    def runs(
        self,
        *,
        commit: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> Iterator[Run]:
        """Whole runs in the order of time; `find` says what the filters mean."""
        with self._database.reading() as connection:
            conditions = among_runs(connection, commit=commit, since=since, until=until)
            numbers = select_numbers(connection, conditions)
            for start in range(0, len(numbers), AT_ONCE):
                yield from select_runs(connection, numbers[start : start + AT_ONCE])

    def infos(
        self,
        *,
        commit: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int | None = None,
    ) -> list[RunInfo]:
        """Runs without their results, the newest first; `find` says what the filters mean."""
        with self._database.reading() as connection:
            conditions = among_runs(connection, commit=commit, since=since, until=until)
            return select_infos(connection, conditions, limit)

    def series(
        self,
        *,
        benchmark: str | None = None,
        candidate: str | None = None,
        machine: str | None = None,
    ) -> list[SeriesInfo]:
        """Every series in alphabetical order; `find` says what the filters mean."""
        with self._database.reading() as connection:
            conditions = among_series(connection, benchmark, candidate, machine)
            return select_series(connection, conditions)

    def points(self, series: Series) -> list[Point]:
        """The results of a series in the order of time."""
        with self._database.reading() as connection:
            heads = select_heads(connection, with_results_of(series))
            return select_points(connection, series, heads)

    def all_points(
        self,
        *,
        benchmark: str | None = None,
        candidate: str | None = None,
        machine: str | None = None,
    ) -> Iterator[tuple[SeriesInfo, list[Point]]]:
        """Every series with its points; for many, faster than to ask for each."""
        with self._database.reading() as connection:
            heads = select_heads(connection)
            conditions = among_series(connection, benchmark, candidate, machine)
            for info in select_series(connection, conditions):
                yield info, select_points(connection, info.series, heads)

    def find(
        self,
        *,
        benchmark: str | None = None,
        candidate: str | None = None,
        machine: str | None = None,
        commit: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int | None = None,
    ) -> list[Found]:
        """Results, the newest first.

        `benchmark` and `candidate` are names or shell patterns (`small *`), `machine` is the
        beginning of its digest or a pattern of its CPU's name, `commit` the beginning of a hash;
        `until` is excluded. Raises `CllmError` for a name that the history does not have.
        """
        with self._database.reading() as connection:
            among = among_series(connection, benchmark, candidate, machine)
            of = among_runs(connection, commit=commit, since=since, until=until)
            return select_results(connection, among, of, limit)
