"""The dashboard: what it says of a series, and the folder that it writes."""

from __future__ import annotations

import errno
import json
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cllm.cli import main
from cllm.harness.dashboard.series import HEIGHT, document, entry, sparkline, status
from cllm.harness.dashboard.site import build
from cllm.harness.dashboard.thinning import thin
from cllm.harness.history.changepoints import FEWEST, ChangePoint
from cllm.harness.history.record import Better, Commit, Result, Run, Series
from cllm.harness.history.shifts import MENDED, judge
from cllm.harness.history.store import open_history

START = datetime(2024, 1, 1, tzinfo=UTC)
MACHINE = {"cpu": "Fast 9000", "architecture": "x86_64", "cores": 16, "usable_cores": 8}
HOSTILE = "</script><img src=x onerror=alert(1)>"
SERIES = Series("small step", "optimized", "steps/s", 2, "0" * 12, "avx2", "1" * 12)

values = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=300)
STEADY = (Result("small step", "optimized", "steps/s", 100.0),)

levels = st.lists(st.floats(0.5, 2.0), min_size=2, max_size=6, unique=True)


class Point(NamedTuple):
    created: datetime
    value: float
    commit: Commit | None = None


def changes(*levels: float) -> list[ChangePoint]:
    """From each level to the next, ten points apart."""
    return [
        ChangePoint(10 * i, *pair, p_value=0.001, gradual=False)
        for i, pair in enumerate(pairwise(levels), 1)
    ]


def runs(count: int, *names: str) -> Iterator[Run]:
    """A quarter less speed from the middle on."""
    for number in range(count):
        time = START + timedelta(days=number)
        value = (100.0 if number < count / 2 else 75.0) + number % 7 / 10
        results = tuple(Result(name, "optimized", "steps/s", value) for name in names)
        commit = Commit(f"{number:02x}" * 20, time, f"Change {number}")
        yield Run(f"run {number}", time, "bench", MACHINE, "avx2", results, commit)


def built(folder: Path, *names: str, count: int = 40) -> Path:
    with open_history(folder / "history.db", create=True) as history:
        history.add_many(runs(count, *names))
        build(history, folder / "site", lambda task, done, total: None)
    return folder / "site"


def data(path: Path, name: str) -> Any:
    """What a file of data sets the name to."""
    text = path.read_text(encoding="ascii")
    assert text.startswith(f"{name} = ")
    return json.loads(text.removeprefix(f"{name} = ").removesuffix(";\n"))


def ids(site: Path) -> dict[str, str]:
    entries = data(site / "data" / "index.js", "dashboard")["series"]
    return {made["benchmark"]: made["id"] for made in entries}


def test_a_loss_stands_until_its_level_is_nearly_back() -> None:
    first, second, third = judge(changes(100, 90, 80, 98), Better.HIGHER)
    assert (first.worse, first.mended) == (True, 30)
    assert (second.worse, second.mended) == (True, 30)
    assert (third.worse, third.mended, third.stands) == (False, None, False)


def test_a_small_gain_does_not_mend_a_loss() -> None:
    (loss, gain) = judge(changes(100, 80, 80 + 20 * MENDED - 0.1), Better.HIGHER)
    assert loss.stands
    assert not gain.worse
    assert status([loss, gain], FEWEST) == "regressed"
    assert not judge(changes(100, 80, 80 + 20 * MENDED + 0.1), Better.HIGHER)[0].stands


def test_what_is_lost_again_is_another_loss() -> None:
    found = judge(changes(100, 80, 100, 80), Better.HIGHER)
    assert [shift.mended for shift in found] == [20, None, None]
    assert [shift.stands for shift in found] == [False, False, True]


@given(levels)
def test_lower_is_the_mirror_of_higher(levels: list[float]) -> None:
    higher = judge(changes(*levels), Better.HIGHER)
    lower = judge(changes(*(-level for level in levels)), Better.LOWER)
    assert [(s.worse, s.mended) for s in higher] == [(s.worse, s.mended) for s in lower]


@given(levels)
def test_every_change_is_for_one_side(levels: list[float]) -> None:
    higher, lower = (judge(changes(*levels), better) for better in Better)
    assert [s.worse for s in higher] == [not s.worse for s in lower]
    assert not higher[-1].mended  # nothing came after it


@pytest.mark.parametrize(
    ("levels", "expected"),
    [((100, 110), "improved"), ((100, 80, 100), "improved"), ((100, 80), "regressed")],
)
def test_status(levels: tuple[float, ...], expected: str) -> None:
    assert status(judge(changes(*levels), Better.HIGHER), 40) == expected
    assert status([], FEWEST) == "steady"
    assert status([], FEWEST - 1) == "too few results"


@given(values, st.integers(1, 40))
def test_thinning_keeps_ends_and_extremes(values: list[float], stretches: int) -> None:
    kept = thin(values, stretches)
    assert kept == sorted(set(kept))
    assert {0, len(values) - 1} <= set(kept)
    chosen = [values[index] for index in kept]
    assert (min(chosen), max(chosen)) == (min(values), max(values))
    assert len(kept) <= 2 * stretches + 2


def test_thinning_keeps_the_extremes_of_each_stretch() -> None:
    values = [0.0] * 1000
    values[310], values[690] = 5.0, -3.0
    values[520] = 9.0
    assert {310, 520, 690} <= set(thin(values, 10))


@given(values)
def test_a_sparkline_is_within_its_height(values: list[float]) -> None:
    drawn = sparkline(values)
    assert min(drawn) == 0
    assert max(drawn) == (HEIGHT if max(values) > min(values) else 0)
    assert drawn[0] == HEIGHT or values[0] < max(values) or max(values) == min(values)


def test_an_entry_tells_level_change_and_commits() -> None:
    before, after = (Commit(sha * 40, START, f"to {sha}") for sha in "ab")
    points = [
        Point(START + timedelta(days=n), 100.0 - 20 * (n >= 10), after if n >= 10 else before)
        for n in range(20)
    ]
    shifts = judge(changes(100, 80), Better.HIGHER)
    made = entry(SERIES, points, shifts, better=Better.HIGHER, configuration={"embed_dim": 64})
    assert json.loads(json.dumps(made)) == made
    assert (made["value"], made["current"], made["low"], made["high"]) == (80, 80, 80, 100)
    assert (made["count"], made["status"], made["sizes"]) == (20, "regressed", {"embed_dim": "64"})
    (change,) = made["changes"]
    assert change["at"] == 10
    assert change["time"] == int((START + timedelta(days=10)).timestamp())
    assert change["from"] == {"sha": "a" * 12, "subject": "to a", "dirty": False}
    assert change["to"] == {"sha": "b" * 12, "subject": "to b", "dirty": False}
    assert change["mended"] is None


def test_a_series_without_change_has_its_median_as_level() -> None:
    points = [Point(START, value) for value in (1.0, 9.0, 2.0)]
    made = entry(SERIES, points, [], better=Better.LOWER, configuration={})
    assert (made["current"], made["value"], made["status"]) == (2.0, 2.0, "too few results")


def test_a_document_has_every_point_and_each_commit_once() -> None:
    one, other = Commit("a" * 40, START), Commit("b" * 40, START)
    given = [None, one, other, one]
    made = document([Point(START, float(n), commit) for n, commit in enumerate(given)])
    assert made["values"] == [0.0, 1.0, 2.0, 3.0]
    assert made["places"] == [-1, 0, 1, 0]
    assert [commit["sha"][0] for commit in made["commits"]] == ["a", "b"]
    assert made["times"] == [int(START.timestamp())] * 4


def test_the_index_and_each_series_stand_in_files(tmp_path: Path) -> None:
    site = built(tmp_path, "small step", "tiny step")
    index = data(site / "data" / "index.js", "dashboard")
    assert [made["benchmark"] for made in index["series"]] == ["small step", "tiny step"]
    assert {path.name for path in site.iterdir()} == {"index.html", "vega.js", "data"}
    files = {path.stem for path in (site / "data").iterdir()}
    assert files == {"index"} | {made["id"] for made in index["series"]}
    for made in index["series"]:
        (change,) = made["changes"]
        assert change["worse"]
        assert change["at"] == 20
        assert index["machines"][made["machine"]]["name"] == "Fast 9000, 8 cores"
        found = data(site / "data" / f"{made['id']}.js", f'documents["{made["id"]}"]')
        assert len(found["values"]) == made["count"] == 40
    page = (site / "index.html").read_text()
    assert "2 of 2 series are worse than they were" in page
    assert "80 results on 1 machine, measured from 2024-01-01 to 2024-02-09." in page


def sealed(site: Path) -> list[str]:
    """The mark beside the headline, and the headline."""
    text = (site / "index.html").read_text()
    (found,) = re.findall(r'<h1.*aria-hidden="true">(.)</span>(.*)</h1>', text)
    return list(found)


def test_the_headline_claims_what_is_known(tmp_path: Path) -> None:
    few = built(tmp_path, "small step", count=FEWEST - 1)
    assert sealed(few) == ["?", f"Too few results to tell what got worse: a series needs {FEWEST}"]
    assert not re.search(r'<h1 class="pass"', (few / "index.html").read_text())
    steady = [replace(run, results=STEADY) for run in runs(FEWEST)]
    (tmp_path / "some").mkdir()
    with open_history(tmp_path / "some" / "history.db", create=True) as history:
        history.add_many(steady)
    some = built(tmp_path / "some", "tiny step", count=0)
    assert sealed(some) == ["✓", "No series is worse than it was"]
    (tmp_path / "both").mkdir()
    with open_history(tmp_path / "both" / "history.db", create=True) as history:
        history.add_many(steady)
        history.add(replace(steady[0], id="x", results=(Result("new", "c", "s", 1.0),)))
    both = built(tmp_path / "both", "tiny step", count=0)
    said = "None of 1 series is worse than it was; 1 has too few results"
    assert sealed(both) == ["✓", said]


def test_a_page_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    page = (built(tmp_path, "small step") / "index.html").read_text()
    assert re.findall(r'(?:src|href)="([^"]*)"', page) == [
        "data:,", "#status=regressed", "#", "#view=regressions", "#", "data/index.js",
    ]  # fmt: skip
    assert "@import" not in page
    assert "url(" not in page


def test_hostile_names_end_no_script(tmp_path: Path) -> None:
    site = built(tmp_path, HOSTILE)
    assert HOSTILE not in (site / "index.html").read_text()
    (made,) = data(site / "data" / "index.js", "dashboard")["series"]
    assert made["benchmark"] == HOSTILE
    assert re.fullmatch("[0-9a-f]{12}", made["id"])


def test_building_again_keeps_links_and_removes_what_is_gone(tmp_path: Path) -> None:
    site = built(tmp_path, "small step", "tiny step")
    before = ids(site)
    (site / "data" / "notes.txt").write_text("mine")
    (tmp_path / "history.db").unlink()
    built(tmp_path, "small step", "large step")
    after = ids(site)
    assert after["small step"] == before["small step"]
    assert not (site / "data" / f"{before['tiny step']}.js").exists()
    assert (site / "data" / f"{after['large step']}.js").exists()
    assert (site / "data" / "notes.txt").read_text() == "mine"


def test_a_build_that_fails_leaves_the_page_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = built(tmp_path, "small step", "tiny step")
    before = {path: path.read_bytes() for path in sorted(site.rglob("*.*"))}

    def full(points: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("cllm.harness.dashboard.site.document", full)
    with pytest.raises(OSError, match="No space left"):
        built(tmp_path, "large step")
    assert {path: path.read_bytes() for path in sorted(site.rglob("*.*"))} == before


class Shell:
    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys

    def __call__(self, *arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in ("dashboard", *arguments)])
        assert isinstance(ended.value.code, int)
        out, err = self.capsys.readouterr()
        return ended.value.code, out, err


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(capsys)


def test_build_says_the_headline_and_where_it_is(run: Shell, tmp_path: Path) -> None:
    with open_history(tmp_path / "history.db", create=True) as history:
        history.add_many(runs(40, "small step"))
    site = tmp_path / "here" / "site"
    status, out, err = run("build", "--history", tmp_path / "history.db", "--output", site)
    assert (status, out) == (0, "1 of 1 series is worse than it was.\n")
    assert str(site / "index.html") in err
    assert (site / "index.html").is_file()


def test_build_of_no_history_is_refused(run: Shell, tmp_path: Path) -> None:
    status, _, err = run("build", "--history", tmp_path / "none.db", "--output", tmp_path / "site")
    assert status == 2
    assert "none.db" in err
    assert not (tmp_path / "site").exists()


def test_build_of_an_empty_history_is_refused(run: Shell, tmp_path: Path) -> None:
    open_history(tmp_path / "history.db", create=True).close()
    site = tmp_path / "site"
    status, _, err = run("build", "--history", tmp_path / "history.db", "--output", site)
    assert status == 2
    assert "no results" in err
    assert not site.exists()


def test_another_page_is_not_replaced(run: Shell, tmp_path: Path) -> None:
    with open_history(tmp_path / "history.db", create=True) as history:
        history.add_many(runs(2, "small step"))
    (tmp_path / "index.html").write_text("a report")
    status, _, err = run("build", "--history", tmp_path / "history.db", "--output", tmp_path)
    assert status == 2
    assert "holds another page" in err
    assert (tmp_path / "index.html").read_text() == "a report"
    assert not (tmp_path / "data").exists()


def test_serve_without_a_dashboard_is_refused(run: Shell, tmp_path: Path) -> None:
    status, _, err = run("serve", tmp_path)
    assert status == 2
    assert "cllm dashboard build" in err


def test_serve_on_a_port_that_is_taken_is_refused(run: Shell, tmp_path: Path) -> None:
    site = built(tmp_path, "small step", count=2)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        status, _, err = run("serve", site, "--port", port)
    assert status == 2
    assert f"port {port}" in err


@pytest.mark.parametrize(("number", "expected"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_serve_gives_the_site_until_it_is_stopped(
    tmp_path: Path, number: signal.Signals, expected: int
) -> None:
    site = built(tmp_path, "small step", count=2)
    command = [sys.executable, "-m", "cllm", "dashboard", "serve", str(site), "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        address = server.stderr.readline().split()[0]
        assert address.startswith("http://127.0.0.1:")
        with urllib.request.urlopen(f"{address}data/index.js") as answer:
            assert answer.read() == (site / "data" / "index.js").read_bytes()
            assert answer.headers["Cache-Control"] == "no-cache"
        server.send_signal(number)
        rest = server.stderr.read()
    assert server.returncode == expected
    assert "Traceback" not in rest
