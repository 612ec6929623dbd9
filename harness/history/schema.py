"""The tables of a history, and how those of an older version become newer.

    cllm_history  the version of these tables
    machines      one row for each machine, by the digest of what makes it another one
    series        one row for each series: its benchmark, candidate, sizes and so on
    runs          one row for each run, with the whole fingerprint of its machine and its commit
    results       one row for each figure, by its run and its place in it

Promises: the same tables in every database; times, figures and documents come back as they went
in; `prepare` leaves the tables at `VERSION` or as they were.
Leaves out: transactions, and everything about runs (`cllm.harness.history.store`).
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Dialect,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    inspect,
    select,
    text,
)

from cllm.errors import CllmError
from cllm.harness.history.record import DIGITS

VERSION = 2

MIGRATIONS: Mapping[int, Sequence[str]] = {
    1: ["ALTER TABLE results ADD COLUMN share DOUBLE PRECISION"],
}
"""What makes the next version of each older one."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)

KEY_DIGITS = 64
MAX_ID = 200
"""Characters of the id of a run."""


class Moment(TypeDecorator[datetime]):
    """A time with its zone, as microseconds since 1970 in UTC; it comes back in UTC."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:
        """To the database."""
        return None if value is None else (value - EPOCH) // MICROSECOND

    def process_result_value(self, value: int | None, dialect: Dialect) -> datetime | None:
        """From the database."""
        return None if value is None else EPOCH + value * MICROSECOND


class Document(TypeDecorator[Mapping[str, Any]]):
    """A mapping, as JSON in ASCII."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Mapping[str, Any] | None, dialect: Dialect) -> str | None:
        """To the database."""
        return json.dumps(value, sort_keys=True, default=str)

    def process_result_value(self, value: str | None, dialect: Dialect) -> dict[str, Any] | None:
        """From the database."""
        found: dict[str, Any] | None = None if value is None else json.loads(value)
        return found


class Numbers(TypeDecorator[tuple[float, ...]]):
    """Any number of float64, little-endian, one after another."""

    impl = LargeBinary
    cache_ok = True

    def process_bind_param(self, value: tuple[float, ...] | None, dialect: Dialect) -> bytes | None:
        """To the database."""
        return None if value is None else struct.pack(f"<{len(value)}d", *value)

    def process_result_value(
        self, value: bytes | None, dialect: Dialect
    ) -> tuple[float, ...] | None:
        """From the database."""
        return None if value is None else struct.unpack(f"<{len(value) // 8}d", value)


metadata = MetaData()

version = Table("cllm_history", metadata, Column("version", Integer, nullable=False))

machines = Table(
    "machines",
    metadata,
    Column("digest", String(DIGITS), primary_key=True),
    Column("fields", Document, nullable=False),
)

series = Table(
    "series",
    metadata,
    Column("number", Integer, primary_key=True),
    # Of all that follows; text of any length cannot be unique in every database.
    Column("key", String(KEY_DIGITS), nullable=False, unique=True),
    Column("benchmark", Text, nullable=False),
    Column("candidate", Text, nullable=False),
    Column("metric", Text, nullable=False),
    Column("threads", Integer, nullable=False),
    Column("machine", ForeignKey("machines.digest"), nullable=False),
    Column("level", Text, nullable=False),
    Column("configuration", String(DIGITS), nullable=False),
    Column("sizes", Document, nullable=False),
    Column("higher", Boolean, nullable=False),
)

runs = Table(
    "runs",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("id", String(MAX_ID), nullable=False, unique=True),
    Column("created", Moment, nullable=False, index=True),
    Column("source", Text, nullable=False),
    Column("machine", Document, nullable=False),
    Column("level", Text, nullable=False),
    Column("sha", Text),
    Column("committed", Moment),
    Column("subject", Text),
    Column("branch", Text),
    Column("dirty", Boolean),
)

results = Table(
    "results",
    metadata,
    Column("run", ForeignKey("runs.number"), primary_key=True, autoincrement=False),
    Column("place", Integer, primary_key=True, autoincrement=False),
    Column("series", ForeignKey("series.number"), nullable=False),
    Column("value", Double, nullable=False),
    Column("samples", Numbers, nullable=False),
    Column("share", Double),
    Index("results_of_series", "series", "run"),
    sqlite_with_rowid=False,
)


def version_of(connection: Connection, where: str) -> int | None:
    """The version of the tables; None of an empty database.

    Raises `CllmError` where the database is somebody else's or of a newer version.
    """
    names = inspect(connection).get_table_names()
    if not names:
        return None
    found = connection.scalar(select(version)) if version.name in names else None
    if found is None:
        raise CllmError(f"{where} holds other tables ({', '.join(sorted(names)[:3])}), no history")
    if found > VERSION:
        raise CllmError(
            f"{where} is a history of version {found}, made by a newer cllm; "
            f"this one knows versions up to {VERSION}"
        )
    return int(found)


def prepare(connection: Connection, where: str) -> None:
    """Make the tables, or bring those of an older version to `VERSION`, in this transaction.

    Raises `CllmError` as `version_of`.
    """
    found = version_of(connection, where)
    if found is None:
        metadata.create_all(connection)
        connection.execute(version.insert().values(version=VERSION))
        return
    for older in range(found, VERSION):
        for statement in MIGRATIONS[older]:
            connection.execute(text(statement))
    connection.execute(version.update().values(version=VERSION))
