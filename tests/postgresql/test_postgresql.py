"""The history on a real PostgreSQL server: as on SQLite, with many writers at once."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from sqlalchemy import create_engine, inspect, text

from cllm.errors import CllmError
from cllm.harness.history import schema
from cllm.harness.history.record import Better, Commit, Result, Run
from cllm.harness.history.store import open_history
from cllm.harness.history.synthetic_runs import synthetic_runs

WRITERS = 6

WRITER = """
import sys
from cllm.harness.history.synthetic_runs import synthetic_runs
from cllm.harness.history.store import open_history

where, own = sys.argv[1], int(sys.argv[2])
common = list(synthetic_runs(2_000, 99))
sys.stdin.readline()  # all begin at once
with open_history(where, create=True) as history:
    for run in [*common[:: 1 if own % 2 else -1], *synthetic_runs(2_000, own)]:
        history.add(run)
    history.add_many(synthetic_runs(2_000, 98))
"""

RUN = Run(
    "one",
    datetime(2025, 3, 1, 12, 30, 1, 234567, timezone(timedelta(hours=5, minutes=30))),
    "bench",
    {"cpu": "Fast 9000", "cores": 8, "load_average": float("inf"), "versions": ["\0", "\ud800"]},
    "avx2",
    (
        Result("small 'step' ö", "mine", "steps/s", 0.1 + 0.2, 2, samples=(5e-324, -0.0, 1.7e308)),
        Result("import", "r%s", "s", 0.25, 1, Better.LOWER, share=1 / 3, configuration={"V": 3}),
        Result("import", "r%s", "s", 0.26, 1, Better.LOWER, configuration={"V": 3}),
    ),
    Commit("a1b2c3", datetime(1999, 12, 31, tzinfo=UTC), "Ünicode\t", "main", True),
)  # fmt: skip


def address(url: str) -> str:
    return url.replace("postgresql://", "postgresql+psycopg://")


def test_a_run_comes_back_equal_and_once(url: str) -> None:
    with open_history(url, create=True) as history:
        assert history.add(RUN)
        assert not history.add(RUN)
    with open_history(url) as history:
        assert history.run("one") == RUN
        assert list(history.runs()) == [RUN]
        assert [found.result for found in history.find(benchmark="*'step'*")] == [RUN.results[0]]
        assert len(history.find(commit="a1", machine="Fast*", since=RUN.created, limit=2)) == 2
        assert [info.count for info in history.series()] == [2, 1]
        assert [point.value for point in history.points(RUN.series(RUN.results[1]))] == [0.25, 0.26]
        with pytest.raises(CllmError, match="no candidate 'x'"):
            history.find(candidate="x")
        with pytest.raises(CllmError, match="must be Unicode without NUL"):
            history.add(replace(RUN, id="two", source="\0"))
        assert len(history.infos()) == 1


def test_writers_at_once_lose_nothing(url: str) -> None:
    writers = [
        subprocess.Popen(
            [sys.executable, "-P", "-c", WRITER, url, str(own)],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for own in range(WRITERS)
    ]
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write(b"\n")
        writer.stdin.flush()
    said = [writer.communicate()[1].decode() for writer in writers]
    assert said == [""] * WRITERS
    wanted = [run for own in (*range(WRITERS), 98, 99) for run in synthetic_runs(2_000, own)]
    with open_history(url) as history:
        assert {run.id: run for run in history.runs()} == {run.id: run for run in wanted}
        series = {run.series(result) for run in wanted for result in run.results}
        assert {info.series for info in history.series()} == series
        assert sum(info.count for info in history.series()) == 2_000 * (WRITERS + 2)


def test_an_older_version_becomes_this_one(url: str) -> None:
    open_history(url, create=True).close()
    engine = create_engine(address(url))
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE results DROP COLUMN share"))
        connection.execute(text("UPDATE cllm_history SET version = 1"))
    with pytest.raises(CllmError, match="is a history of version 1: `cllm history add`"):
        open_history(url)
    with open_history(url, create=True) as history:
        history.add(RUN)
        assert history.run("one") == RUN
    (column,) = (c for c in inspect(engine).get_columns("results") if c["name"] == "share")
    engine.dispose()
    assert str(column["type"]) == "DOUBLE PRECISION"


def test_what_is_no_history_is_refused(
    url: str, new_database: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(CllmError, match="is empty: `cllm history add`"):
        open_history(url)
    open_history(url, create=True).close()
    monkeypatch.setattr(schema, "VERSION", 1)
    with pytest.raises(CllmError, match="is a history of version 2, made by a newer cllm"):
        open_history(url)
    monkeypatch.undo()
    other = new_database()
    engine = create_engine(address(other))
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE letters (id TEXT)"))
    engine.dispose()
    for create in (False, True):
        with pytest.raises(CllmError, match=r"holds other tables \(letters\), no history"):
            open_history(other, create=create)


def test_a_server_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CllmError, match=r"postgresql\+psycopg://me:\*\*\*@/db.*: connection") as it:
        open_history(f"postgresql://me:secret@/db?host={tmp_path}")
    assert "\n" not in str(it.value)
    assert "secret" not in str(it.value)
