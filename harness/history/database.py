"""The connection to a history's database, and what is said when it fails.

Promises: a file that is only read is not written to, and need not be writable; transactions that
read see one state; those that write wait for each other, up to `PATIENCE`; whatever the database
raises becomes a `CllmError` of one line that names the history, and what was there before is still
there.
Leaves out: what is read and written (`cllm.harness.history.store`).
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from cllm.errors import CllmError

try:
    from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
    from sqlalchemy.exc import (
        ArgumentError,
        DatabaseError,
        IntegrityError,
        NoSuchModuleError,
        SQLAlchemyError,
    )
except ModuleNotFoundError as error:
    raise CllmError("the history needs SQLAlchemy: pip install 'cllm[speed]'") from error

from cllm.harness.history import schema

PATIENCE = 60.0
"""Seconds to wait for another writer of an SQLite file."""

DRIVERS = {"postgresql": "postgresql+psycopg"}
"""Of a URL that names none, where `cllm` has an extra for one."""

REASONS = {
    "file is not a database": "is no SQLite database",
    "malformed": "is corrupt; `sqlite3 FILE .recover` may save what can still be read",
    "disk is full": "the disk is full; what was there before still is",
    "readonly database": "cannot be written",
    "database is locked": f"another process has been writing for more than {PATIENCE:.0f} s",
}
"""What SQLite says, and what that means."""


class LostRace(Exception):
    """Another process wrote a row that this transaction wanted to write."""


class Database:
    """A database whose tables are of this version. Raises `CllmError` where it cannot be that.

    With `create` it may be written: what is older, empty or not there is made so.
    """

    def __init__(self, where: str | Path, *, create: bool) -> None:
        url = _url(where)
        self.where = url.database or "memory" if _is_sqlite(url) else repr(url)
        self.engine = self._open(url, create)
        try:
            self._prepare(create)
        except BaseException:
            self.engine.dispose()
            raise

    @contextlib.contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that reads."""
        # SQLite's transactions see one state anyway.
        engine = self.engine
        if engine.dialect.name == "postgresql":
            engine = engine.execution_options(isolation_level="REPEATABLE READ")
        with self._told(), engine.connect() as connection:
            yield connection

    @contextlib.contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that writes: all that is done in it stays, or nothing."""
        with self._told(), self.engine.execution_options(writing=True).begin() as connection:
            yield connection

    def _open(self, url: URL, create: bool) -> Engine:
        if _is_sqlite(url) and url.database:
            path = Path(url.database)
            if path.is_dir():
                raise CllmError(f"history {path} is a folder")
            if create:
                path.parent.mkdir(parents=True, exist_ok=True)
            elif not path.exists():
                raise CllmError(f"there is no history {path}; `cllm history add` makes one")
        try:
            engine = create_engine(url, **_options(url, create))
        except (ModuleNotFoundError, NoSuchModuleError) as error:
            needed = "pip install 'cllm[postgresql]'" if "psycopg" in url.drivername else error
            raise CllmError(f"history {self.where} needs a driver: {needed}") from error
        if _is_sqlite(url):
            event.listen(engine, "connect", _connected)
            event.listen(engine, "begin", _begun)
        return engine

    def _prepare(self, create: bool) -> None:
        """Look first: a database that is no history is not to be touched."""
        with self.reading() as connection:
            found = schema.version_of(connection, self.where)
        if found is None and not create:
            raise CllmError(f"{self.where} is empty: `cllm history add` makes a history of it")
        if found == schema.VERSION:
            return
        if not create:
            raise CllmError(
                f"{self.where} is a history of version {found}: `cllm history add` brings it to "
                f"version {schema.VERSION}"
            )
        try:
            if found is None and self.engine.dialect.name == "sqlite":
                self._log_ahead()
            with self.engine.execution_options(writing=True).begin() as connection:
                schema.prepare(connection, self.where)
        except DatabaseError as error:
            with self.reading() as connection:  # another process may have done it meanwhile
                if schema.version_of(connection, self.where) != schema.VERSION:
                    raise self._explained(error) from error

    def _log_ahead(self) -> None:
        """SQLite's write-ahead log: readers and a writer do not wait for each other.

        Where another process is just making the same file, it is the one to ask for that.
        """
        raw = self.engine.raw_connection()
        try:
            with contextlib.suppress(sqlite3.OperationalError):
                raw.cursor().execute("PRAGMA journal_mode = WAL")
        finally:
            raw.close()

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except IntegrityError as error:
            raise LostRace from error
        except SQLAlchemyError as error:
            raise self._explained(error) from error

    def _explained(self, error: SQLAlchemyError) -> CllmError:
        said = " ".join(str(getattr(error, "orig", None) or error).split())
        means = next((means for words, means in REASONS.items() if words in said), said)
        return CllmError(f"history {self.where}: {means}")


def _url(where: str | Path) -> URL:
    """A path is an SQLite file."""
    if not str(where):
        raise CllmError("history '': must be a file, or the URL of a database")
    if "://" not in str(where):
        return URL.create("sqlite", database=str(where))
    try:
        url = make_url(str(where))
    except (ArgumentError, ValueError) as error:
        raise CllmError(f"history {where!r} is neither a path nor a URL of a database") from error
    return url.set(drivername=DRIVERS.get(url.drivername, url.drivername))


def _is_sqlite(url: URL) -> bool:
    return url.get_backend_name() == "sqlite"


def _options(url: URL, create: bool) -> dict[str, Any]:
    if not _is_sqlite(url):
        return {}
    if create or not url.database:
        return {"connect_args": {"timeout": PATIENCE}}
    return {"creator": partial(_reader, Path(url.database).absolute())}


def _reader(path: Path) -> sqlite3.Connection:
    """A connection that writes nothing.

    A log beside the file tells readers what a writer is doing. Where it may be made, SQLite removes
    it in the end, which it does not in its own mode for reading (`ro`); where it can't, and there
    is no writer, the file can't change either (`immutable`).
    """
    if os.access(path, os.W_OK) and os.access(path.parent, os.W_OK):
        mode = "mode=rw"
    elif os.access(path.parent, os.W_OK) or path.with_name(f"{path.name}-wal").exists():
        mode = "mode=ro"
    else:
        mode = "mode=ro&immutable=1"
    uri = f"{path.as_uri()}?{mode}"
    connection = sqlite3.connect(uri, timeout=PATIENCE, check_same_thread=False, uri=True)
    connection.execute("PRAGMA query_only = ON")
    return connection


def _connected(connection: Any, _: Any) -> None:
    connection.isolation_level = None  # Python's sqlite3 begins no transactions: `_begun` does


def _begun(connection: Connection) -> None:
    """A writer takes its turn at once, not at its first write, where it could no longer wait."""
    writing = connection.get_execution_options().get("writing", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")
