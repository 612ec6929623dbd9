"""The database of a history: older ones become newer, others are refused untouched."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from cllm.errors import CllmError
from cllm.harness.history import database, document, schema
from cllm.harness.history.record import Better, Commit, Result, Run
from cllm.harness.history.store import open_history

VERSION_1 = """
CREATE TABLE cllm_history (version INTEGER NOT NULL);
CREATE TABLE machines (
    digest VARCHAR(12) NOT NULL PRIMARY KEY, fields TEXT NOT NULL
);
CREATE TABLE series (
    number INTEGER NOT NULL PRIMARY KEY,
    "key" VARCHAR(64) NOT NULL UNIQUE,
    benchmark TEXT NOT NULL,
    candidate TEXT NOT NULL,
    metric TEXT NOT NULL,
    threads INTEGER NOT NULL,
    machine VARCHAR(12) NOT NULL REFERENCES machines (digest),
    level TEXT NOT NULL,
    configuration VARCHAR(12) NOT NULL,
    sizes TEXT NOT NULL,
    higher BOOLEAN NOT NULL
);
CREATE TABLE runs (
    number INTEGER NOT NULL PRIMARY KEY,
    id VARCHAR(200) NOT NULL UNIQUE,
    created BIGINT NOT NULL,
    source TEXT NOT NULL,
    machine TEXT NOT NULL,
    level TEXT NOT NULL,
    sha TEXT,
    committed BIGINT,
    subject TEXT,
    branch TEXT,
    dirty BOOLEAN
);
CREATE INDEX ix_runs_created ON runs (created);
CREATE TABLE results (
    run INTEGER NOT NULL REFERENCES runs (number),
    place INTEGER NOT NULL,
    series INTEGER NOT NULL REFERENCES series (number),
    value DOUBLE NOT NULL,
    samples BLOB NOT NULL,
    PRIMARY KEY (run, place)
) WITHOUT ROWID;
CREATE INDEX results_of_series ON results (series, run);
INSERT INTO cllm_history VALUES (1);
INSERT INTO machines VALUES ('{digest}', '{{"cpu": "Fast 9000"}}');
INSERT INTO series VALUES
    (1, 'k', 'small step', 'optimized', 'steps/s', 2, '{digest}', '', '44136fa355b3', '{{}}', 1);
INSERT INTO runs VALUES
    (1, 'old', 1735732800000000, 'bench', '{{"cpu": "Fast 9000"}}', '', 'a1', 0, 'S', '', 0);
INSERT INTO results VALUES (1, 0, 1, 5.5, X'0000000000001640');
"""
"""Before shares were kept."""

OLD = Run(
    "old",
    datetime(2025, 1, 1, 12, tzinfo=UTC),
    "bench",
    {"cpu": "Fast 9000"},
    "",
    (Result("small step", "optimized", "steps/s", 5.5, 2, Better.HIGHER, (5.5,)),),
    Commit("a1", schema.EPOCH, "S"),
)
NEW = Run(
    "new", OLD.created, "bench", OLD.machine, "avx2", (Result("b", "c", "s", 1.0, share=0.5),)
)

OPENER = """
import sys
from cllm.harness.history.store import open_history

sys.stdin.readline()
open_history(sys.argv[1], create=True).close()
"""


@pytest.fixture
def old(tmp_path: Path) -> Path:
    path = tmp_path / "old.db"
    with sqlite3.connect(path) as connection:
        connection.executescript(VERSION_1.format(digest=OLD.machine_digest))
    connection.close()
    return path


def ask(path: Path, question: str) -> list[Any]:
    connection = sqlite3.connect(path)
    try:
        return connection.execute(question).fetchall()
    finally:
        connection.close()


def structure(path: Path) -> dict[str, Any]:
    tables = [name for (name,) in ask(path, "SELECT name FROM sqlite_master ORDER BY name")]
    return {name: ask(path, f"SELECT * FROM pragma_table_info('{name}')") for name in tables}


def test_an_older_version_becomes_this_one(old: Path, tmp_path: Path) -> None:
    before = old.read_bytes()
    refused(old, f"^{old} is a history of version 1: `cllm history add` brings it to version 2$")
    assert old.read_bytes() == before
    with open_history(old, create=True) as history:
        assert list(history.runs()) == [OLD]
        assert history.add(NEW)
    with open_history(old) as history:
        assert list(history.runs()) == [OLD, NEW]
    assert ask(old, "SELECT version FROM cllm_history") == [(schema.VERSION,)]
    new = tmp_path / "new.db"
    with open_history(new, create=True) as history:
        history.add(NEW)
    found, wanted = structure(old), structure(new)
    assert found.keys() == wanted.keys()
    for name, columns in wanted.items():
        assert {(c[1], c[3], c[5]) for c in found[name]} == {(c[1], c[3], c[5]) for c in columns}


def test_a_migration_is_done_whole_or_not(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = structure(old)
    steps = {1: [*schema.MIGRATIONS[1], "ALTER TABLE absent ADD COLUMN x INTEGER"]}
    monkeypatch.setattr(schema, "MIGRATIONS", steps)
    with pytest.raises(CllmError, match=f"^history {old}: no such table: absent$"):
        open_history(old, create=True)
    assert structure(old) == before
    assert ask(old, "SELECT version FROM cllm_history") == [(1,)]
    monkeypatch.undo()
    with open_history(old, create=True) as history:
        assert list(history.runs()) == [OLD]


@pytest.mark.parametrize("start", ["old", "new"])
def test_many_open_it_first_at_once(old: Path, tmp_path: Path, start: str) -> None:
    path = tmp_path / f"{start}.db"
    openers = [
        subprocess.Popen(
            [sys.executable, "-P", "-c", OPENER, str(path)],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for _ in range(6)
    ]
    for opener in openers:
        assert opener.stdin is not None
        opener.stdin.write(b"\n")
        opener.stdin.flush()
    assert [opener.communicate()[1].decode() for opener in openers] == [""] * 6
    assert ask(path, "SELECT version FROM cllm_history") == [(schema.VERSION,)]
    assert ask(path, "PRAGMA journal_mode") == [("wal" if start == "new" else "delete",)]


def refused(where: Path | str, message: str, *, create: bool = False) -> None:
    with pytest.raises(CllmError, match=message) as caught:
        open_history(where, create=create)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("create", [False, True])
def test_what_is_no_history_is_refused_untouched(old: Path, tmp_path: Path, create: bool) -> None:
    with sqlite3.connect(old) as connection:
        connection.execute("UPDATE cllm_history SET version = 3")
    connection.close()
    text = tmp_path / "text.db"
    text.write_text("a letter, not a database\n" * 100)
    other = tmp_path / "other.db"
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE runs (id TEXT)")
    connection.close()
    cut = tmp_path / "cut.db"
    cut.write_bytes(b"SQLite format 3\0" + bytes(range(84)))
    before = {path: path.read_bytes() for path in (old, text, other, cut)}
    refused(old, "is a history of version 3, made by a newer cllm; .* up to 2", create=create)
    refused(text, "is no SQLite database", create=create)
    refused(other, r"holds other tables \(runs\), no history", create=create)
    refused(cut, f"^history {cut}: ", create=create)
    refused(tmp_path, "is a folder", create=create)
    assert {path: path.read_bytes() for path in before} == before


def test_nothing_is_made_where_nothing_is(tmp_path: Path) -> None:
    path = tmp_path / "none" / "history.db"
    refused(path, f"there is no history {path}; `cllm history add` makes one")
    assert not path.parent.exists()
    empty = tmp_path / "empty.db"
    empty.touch()
    refused(empty, "is empty: `cllm history add` makes a history of it")
    with open_history(empty, create=True) as history:
        assert history.add(NEW)


def test_a_corrupt_file_is_said(tmp_path: Path) -> None:
    path = tmp_path / "history.db"
    with open_history(path, create=True) as history:
        for n in range(300):
            history.add(Run(f"{n}", OLD.created, "s" * 200, {}, "", OLD.results))
    whole = path.read_bytes()
    path.write_bytes(whole[: 4096 * 6] + b"\xa5" * (len(whole) - 4096 * 6))
    message = r"is corrupt; `sqlite3 FILE .recover` may save"
    with pytest.raises(CllmError, match=message), open_history(path) as history:
        list(history.runs())


def test_a_writer_that_never_ends_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "PATIENCE", 0.01)
    path = tmp_path / "history.db"
    with open_history(path, create=True) as history:
        writer = sqlite3.connect(path, isolation_level=None)
        writer.execute("BEGIN IMMEDIATE")
        with pytest.raises(CllmError, match="another process has been writing"):
            history.add(NEW)
        assert list(history.runs()) == []
        writer.execute("ROLLBACK")
        writer.close()
        assert history.add(NEW)


def test_what_is_only_read_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "a name? with #%41.db"
    with open_history(path, create=True) as history:
        history.add(NEW)
    before = path.read_bytes(), path.stat().st_mtime_ns
    with open_history(path) as history:
        assert list(history.runs()) == [NEW]
        with pytest.raises(CllmError, match=r"db: cannot be written$"):
            history.add(OLD)
    assert [*tmp_path.iterdir()] == [path]
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before
    with open_history(path, create=True) as writer, open_history(path) as reader:
        assert writer.add(OLD)
        assert len(reader.infos()) == 2


@pytest.fixture
def nobodys() -> Iterator[Path]:
    """A folder that the user of the test cannot write to, even if started as root."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "folder"
        folder.mkdir()
        with open_history(folder / "history.db", create=True) as history:
            history.add(NEW)
        folder.chmod(0o555)
        Path(name).chmod(0o755)
        users = os.getresuid()
        if users[1] == 0:
            os.setresuid(65534, 65534, 0)
        try:
            yield folder
        finally:
            os.setresuid(*users)
            folder.chmod(0o755)


def test_a_folder_that_cannot_be_written_is_read(nobodys: Path) -> None:
    path = nobodys / "history.db"
    with open_history(path) as history:
        assert list(history.runs()) == [NEW]
    assert [*nobodys.iterdir()] == [path]


def test_a_url_that_leads_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    refused("nothing://host/db", "history nothing://host/db needs a driver: .*nothing")
    refused("", "^history '': must be a file, or the URL of a database$", create=True)
    refused("://", "history '://' is neither a path nor a URL of a database")
    monkeypatch.setitem(sys.modules, "psycopg", None)  # as if it were not installed
    refused("postgresql://me:secret@host/db", r":\*\*\*@host/db needs .*'cllm\[postgresql\]'$")


def test_missing_sqlalchemy_is_one_line(tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    file.write_text(json.dumps(document.to_dict(NEW)))
    code = (
        "import sys; sys.modules['sqlalchemy'] = None\n"
        "from click.testing import CliRunner\n"
        "from cllm.harness.history.command import history\n"
        f"for words in (['add', {str(file)!r}], ['list'], ['find'], ['changes'], ['export']):\n"
        "    print(CliRunner().invoke(history, words).exception)\n"
    )
    run = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, cwd=tmp_path
    )
    assert run.stdout == "the history needs SQLAlchemy: pip install 'cllm[speed]'\n" * 5
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]
