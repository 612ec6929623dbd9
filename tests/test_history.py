"""The history: what goes in comes back, once, whoever writes at the same time."""

from __future__ import annotations

import contextlib
import dataclasses
import resource
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, select

from cllm.errors import CllmError
from cllm.harness.history import store
from cllm.harness.history.record import Better, Commit, Result, Run, Series
from cllm.harness.history.schema import runs
from cllm.harness.history.store import History, open_history
from cllm.harness.history.synthetic_runs import synthetic_runs

NOON = datetime(2025, 3, 1, 12, tzinfo=UTC)
MACHINE = {"cpu": "Fast 9000", "architecture": "x86_64", "cores": 8, "usable_cores": 8}

WRITER = """
import sys
from cllm.harness.history.synthetic_runs import synthetic_runs
from cllm.harness.history.schema import runs
from cllm.harness.history.store import open_history

where, own = sys.argv[1], int(sys.argv[2])
sys.stdin.readline()  # all begin at once
with open_history(where, create=True) as history:
    for run in [*synthetic_runs(1_000, own), *synthetic_runs(1_000, 99)]:
        history.add(run)
"""

texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
names = texts.filter(bool)
numbers = st.floats(allow_nan=False, allow_infinity=False)
times = st.datetimes(
    datetime(1971, 1, 1),
    datetime(2100, 1, 1),
    timezones=st.sampled_from([UTC, timezone(timedelta(hours=-7, minutes=30))]),
)
documents = st.dictionaries(
    texts,
    st.recursive(
        st.none() | st.booleans() | st.integers() | numbers | texts,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
        max_leaves=5,
    ),
    max_size=4,
)
measured = st.builds(
    Result,
    benchmark=names,
    candidate=names,
    metric=names,
    value=numbers,
    threads=st.integers(1, 1024),
    better=st.sampled_from(Better),
    samples=st.lists(numbers, max_size=12).map(tuple),
    share=st.none() | numbers,
    configuration=documents,
)
commits = st.builds(Commit, sha=names, time=times, subject=texts, branch=texts, dirty=st.booleans())
whole_runs = st.builds(
    Run,
    id=st.text("abc-", min_size=1),
    created=times,
    source=texts,
    machine=documents,
    level=texts,
    results=st.lists(measured, max_size=5).map(tuple),
    commit=st.none() | commits,
)


def made(
    id: str = "one", *, hours: int = 0, sha: str = "a1b2c3", value: float = 100.0, **changed: Any
) -> Run:
    """A run of two results."""
    commit = Commit(sha, NOON + timedelta(hours=hours - 1), "A change", "main")
    results = (
        Result("small step", "optimized", "steps/s", value, samples=(value,), share=0.5),
        Result("import", "reference", "s", 0.25, better=Better.LOWER, configuration={"V": 3}),
    )
    run = Run(id, NOON + timedelta(hours=hours), "bench", MACHINE, "avx2", results, commit)
    return dataclasses.replace(run, **changed)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "new" / "history.db"


@pytest.fixture
def history(path: Path) -> Iterator[History]:
    with open_history(path, create=True) as opened:
        yield opened


@settings(deadline=None, max_examples=50)
@given(st.lists(whole_runs, max_size=4, unique_by=lambda run: run.id))
def test_runs_come_back_equal(given: list[Run]) -> None:
    with open_history("sqlite://", create=True) as history:
        assert history.add_many(given) == len(given)
        found = list(history.runs())
        assert found == sorted(found, key=lambda run: run.created)
        assert {run.id: run for run in found} == {run.id: run for run in given}
        assert [history.run(run.id) for run in given] == given
        assert sum(info.count for info in history.series()) == sum(len(r.results) for r in given)


@settings(deadline=None, max_examples=50)
@given(st.lists(whole_runs, min_size=1, max_size=4, unique_by=lambda run: run.id))
def test_points_are_the_results_of_one_series(given: list[Run]) -> None:
    wanted: dict[Series, list[tuple[str, float]]] = {}
    for run in sorted(given, key=lambda run: (run.created, run.id)):
        for result in run.results:
            wanted.setdefault(run.series(result), []).append((run.id, result.value))
    with open_history("sqlite://", create=True) as history:
        history.add_many(given)
        every = list(history.all_points())
        for info, points in every:
            assert points == history.points(info.series)
            assert [(point.run, point.value) for point in points] == wanted[info.series]
        assert {info.series for info, _ in every} == wanted.keys()


def test_a_run_is_kept_once(history: History) -> None:
    assert history.add(made())
    assert not history.add(made(value=7.0))
    assert history.add_many([made(), made("two"), made("two", value=7.0)]) == 1
    assert list(history.runs()) == [made(), made("two")]


def test_progress_counts_runs(history: History, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cllm.harness.history.insertion.BATCH", 9)  # a run and its results are 3
    seen: list[int] = []
    assert history.add_many((made(str(n)) for n in range(7)), seen.append) == 7
    assert seen == [3, 6, 7]


def test_filters(history: History) -> None:
    other = MACHINE | {"cpu": "Notebook 5", "load_average": 3.0}
    history.add_many(
        [made("a"), made("b", hours=1, sha="b1"), made("c", hours=2, sha="a1ff", machine=other)]
    )
    of_notebook = made(machine=other).machine_digest

    def ids(**wanted: Any) -> list[str]:
        return [found.run + found.result.benchmark[0] for found in history.find(**wanted)]

    assert ids() == ["cs", "ci", "bs", "bi", "as", "ai"]
    assert ids(limit=3) == ["cs", "ci", "bs"]
    assert ids(benchmark="small step") == ["cs", "bs", "as"]
    assert ids(benchmark="im*", limit=2) == ["ci", "bi"]
    assert ids(candidate="optimized", commit="a1") == ["cs", "as"]
    assert ids(candidate="optimized", benchmark="import") == []
    assert ids(machine="Fast*", candidate="reference") == ["bi", "ai"]
    assert ids(machine=of_notebook[:8]) == ["cs", "ci"]
    assert ids(since=NOON + timedelta(hours=1), until=NOON + timedelta(hours=2)) == ["bs", "bi"]
    found = history.find(machine="Notebook 5", benchmark="import")[0]
    run = made("c", hours=2, sha="a1ff", machine=other)
    assert (found.created, found.commit, found.result) == (run.created, run.commit, run.results[1])
    assert found.series == run.series(run.results[1])
    assert [info.id for info in history.infos(limit=2)] == ["c", "b"]
    assert [info.count for info in history.infos(commit="b1")] == [2]
    assert [run.id for run in history.runs(since=NOON + timedelta(hours=1))] == ["b", "c"]
    known = history.series(machine="Fast*")
    assert [(info.series.benchmark, info.count) for info in known] == [
        ("import", 2),
        ("small step", 2),
    ]
    assert known[0].better is Better.LOWER
    assert known[0].configuration == {"V": 3}
    assert known[0].machine == MACHINE


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"benchmark": "small stop"}, "no benchmark 'small stop' in the history, which has small"),
        ({"candidate": "x*"}, "no candidate 'x\\*' in the history, which has optimized, reference"),
        ({"machine": "Slow"}, r"no machine 'Slow' in the history, which has \w{12} \(Fast 9000\)"),
        ({"commit": "ff"}, "no commit 'ff' in the history, which has a1b2c3"),
        ({"commit": "%"}, "no commit '%'"),
    ],
)
def test_unknown_names_are_said(history: History, wanted: dict[str, str], message: str) -> None:
    history.add(made())
    with pytest.raises(CllmError, match=message):
        history.find(**wanted)  # type: ignore[arg-type]


def test_an_empty_history_has_no_names(history: History) -> None:
    assert list(history.runs()) == history.find() == history.series() == []
    with pytest.raises(CllmError, match="no run 'one' in the history, which is empty"):
        history.run("one")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"id": ""}, "run id '': must have 1 to 200 characters"),
        ({"id": "x" * 201}, "must have 1 to 200 characters"),
        ({"created": datetime(2025, 1, 1)}, "run 'one': time .* must have a time zone"),
        ({"commit": Commit("a", datetime(2025, 1, 1))}, "run 'one': time .* must have a time zone"),
        ({"source": "\ud800"}, r"run 'one': text '\\ud800' must be Unicode without NUL"),
        ({"level": "a\0"}, r"text 'a\\x00' must be Unicode without NUL"),
    ],
)
def test_what_cannot_be_kept_is_refused(
    history: History, changed: dict[str, Any], message: str
) -> None:
    history.add(made("before"))
    with pytest.raises(CllmError, match=message):
        history.add(made(**changed))
    assert list(history.runs()) == [made("before")]


def test_it_is_one_small_file(path: Path) -> None:
    with open_history(path, create=True) as history:
        history.add_many(synthetic_runs(5_000, 0))
    assert [file.name for file in path.parent.iterdir()] == ["history.db"]
    assert path.stat().st_size < 200 * 5_000  # with 11 samples each, of 8 bytes


def test_writers_at_once_lose_nothing(path: Path) -> None:
    count = 4
    writers = [
        subprocess.Popen(
            [sys.executable, "-P", "-c", WRITER, str(path), str(own)],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for own in range(count)
    ]
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write(b"\n")
        writer.stdin.flush()
    said = [writer.communicate()[1].decode() for writer in writers]
    assert said == [""] * count
    wanted = [run for own in (*range(count), 99) for run in synthetic_runs(1_000, own)]
    with open_history(path) as history:
        found = {run.id: run for run in history.runs()}
    assert found == {run.id: run for run in wanted}


def test_a_lost_race_is_run_again(history: History, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite's writers take turns; elsewhere another may make the same rows meanwhile."""
    insert, races = store.insert, iter(range(3))

    def lose(connection: Connection, *arguments: Any) -> Any:
        done = insert(connection, *arguments)
        if next(races, None) is not None:
            row = dict(connection.execute(select(runs)).one()._mapping)
            connection.execute(runs.insert(), {**row, "number": 7})  # its id is not unique
        return done

    monkeypatch.setattr(store, "insert", lose)
    assert history.add(made())
    assert list(history.runs()) == [made()]


def test_a_reader_sees_one_state_while_another_writes(path: Path, history: History) -> None:
    history.add_many(made(f"{n:03}", hours=n) for n in range(300))
    reader = history.runs()
    seen = [next(reader)]
    with open_history(path, create=True) as other:
        other.add(made("later", hours=999))
    assert len([*seen, *reader]) == 300
    assert len(list(history.runs())) == 301


def test_a_full_disk_loses_nothing(path: Path) -> None:
    with open_history(path, create=True) as history:
        history.add(made())
        size = path.stat().st_size
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 2**16, hard))
        try:
            with pytest.raises(CllmError, match=f"^history {path}: .*(full|disk)"):
                history.add_many(synthetic_runs(5_000, 0))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert list(history.runs()) == [made()]
        assert history.add_many(synthetic_runs(5_000, 0)) == 32
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
