"""`cllm history`: what is printed, what is written, exit statuses, and what is refused."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click import UsageError
from click.testing import CliRunner, Result

from cllm.errors import CllmError
from cllm.harness.history import document, record
from cllm.harness.history.command import history
from cllm.harness.history.record import Better, Commit, Run
from cllm.harness.history.store import open_history

NOON = datetime(2025, 3, 1, 12, tzinfo=UTC)
MACHINE = {"cpu": "Fast 9000", "architecture": "x86_64", "cores": 8, "usable_cores": 8}

STEP, MENDED = 40, 60
"""Runs at which the speed falls by a fifth and comes back."""

Invoke = Callable[..., Result]


def made(number: int, speed: float = 100.0) -> Run:
    """One a day."""
    time = NOON + timedelta(days=number)
    wiggle = 1 + 0.001 * (number * 7 % 5)
    return Run(
        f"run-{number:02}",
        time,
        "bench",
        MACHINE,
        "avx2",
        (
            record.Result("small step", "optimized", "steps/s", speed * wiggle, share=0.5),
            record.Result("import", "reference", "s", 0.25 * wiggle, better=Better.LOWER),
        ),
        Commit(f"{number:02}c0ffee00", time - timedelta(hours=1), f"Change {number}", "main"),
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A history of 80 days."""
    path = tmp_path / "history.db"
    with open_history(path, create=True) as opened:
        opened.add_many(made(n, 80.0 if STEP <= n < MENDED else 100.0) for n in range(80))
    return path


@pytest.fixture
def run(path: Path) -> Invoke:
    def invoke(command: str, *arguments: str, where: Path = path) -> Result:
        return CliRunner().invoke(
            history,
            [command, *arguments, "--history", str(where)],
            catch_exceptions=False,
            standalone_mode=False,
        )

    return invoke


def test_files_are_added_once(run: Invoke, tmp_path: Path) -> None:
    new = tmp_path / "new" / "history.db"
    files = []
    for n in range(3):
        files.append(tmp_path / f"{n}.json")
        files[-1].write_text(json.dumps(document.to_dict(made(n // 2))))
    assert run("add", *map(str, files), where=new).stdout == "Runs added: 2; already there: 1.\n"
    files[2].write_text(json.dumps(document.to_dict(made(5))))
    assert run("add", str(files[2]), where=new).stdout == "Runs added: 1.\n"
    with open_history(new) as opened:
        assert list(opened.runs()) == [made(0), made(1), made(5)]


def test_nothing_is_added_where_a_file_is_bad(run: Invoke, path: Path, tmp_path: Path) -> None:
    good, bad = tmp_path / "good.json", tmp_path / "bad.json"
    good.write_text(json.dumps(document.to_dict(made(90))))
    bad.write_text("{}")
    with pytest.raises(CllmError, match=f"^{bad}: no results"):
        run("add", str(good), str(bad))
    with open_history(path) as opened:
        assert len(opened.infos()) == 80


def test_runs_are_listed(run: Invoke) -> None:
    result = run("list", "--limit", "2", "--until", "2025-03-04")
    assert result.stdout.splitlines() == [
        "when              run     source  commit      machine    level  results",
        "2025-03-03 12:00  run-02  bench   02c0ffee00  Fast 9000  avx2         2",
        "2025-03-02 12:00  run-01  bench   01c0ffee00  Fast 9000  avx2         2",
    ]
    assert "There are more than these 2 runs: --limit shows more." in result.stderr
    (found,) = json.loads(run("list", "--json", "--commit", "07c0").stdout)["runs"]
    assert found["id"] == "run-07"
    assert found["created"] == "2025-03-08T12:00:00+00:00"
    assert found["commit"]["subject"] == "Change 7"


def test_results_are_found(run: Invoke) -> None:
    result = run("find", "--benchmark", "small*", "--commit", "02c0")
    digest = made(0).machine_digest
    head, line = (re.split(r"\s{2,}", line) for line in result.stdout.splitlines())
    assert dict(zip(head, line, strict=True)) == {
        "when": "2025-03-03 12:00",
        "commit": "02c0ffee00",
        "benchmark": "small step",
        "candidate": "optimized",
        "threads": "1",
        "value": "100.4",
        "unit": "steps/s",
        "share": "50%",
        "machine": digest,
    }
    found = json.loads(
        run("find", "--machine", "Fast*", "--candidate", "reference", "--since", "2025-05-18 13:00",
            "--json").stdout
    )  # fmt: skip
    assert found["version"] == 1
    (one,) = found["results"]
    wanted = made(79).results[1]
    assert (one["run"], one["benchmark"], one["value"]) == ("run-79", "import", wanted.value)
    assert (one["better"], one["machine"], one["level"]) == ("lower", digest, "avx2")
    result = run("find", "--benchmark", "import", "--candidate", "optimized")
    assert len(result.stdout.splitlines()) == 1
    assert "No results fit all of this." in result.stderr


def test_changes_are_found_with_their_commits(run: Invoke) -> None:
    result = run("changes")
    assert result.return_value == 0
    lines = [line.split() for line in result.stdout.splitlines()]
    assert [line[2] for line in lines[1:]] == ["better", "mended"]
    assert "39c0ffee00..40c0ffee00 Change 40" in result.stdout.splitlines()[2]
    assert "-20.0%" in lines[2]
    assert "2 changes in 2 series." in result.stderr
    told = json.loads(run("changes", "--json").stdout)
    assert told["reason"] is None
    better, mended = told["changes"]
    assert (mended["verdict"], mended["first"]["commit"]) == ("mended", "40c0ffee00")
    assert (mended["last"]["run"], mended["first"]["subject"]) == ("run-39", "Change 40")
    assert mended["after"] / mended["before"] == pytest.approx(0.8)
    assert better["first"]["created"] == made(MENDED).created.isoformat()
    assert run("changes", "--candidate", "reference").stdout == ""


def test_too_few_results_are_inconclusive(run: Invoke, tmp_path: Path) -> None:
    few = tmp_path / "few.db"
    with open_history(few, create=True) as opened:
        opened.add_many(made(n) for n in range(3))
    result = run("changes", where=few)
    assert result.return_value == 3
    reason = "Too few results to tell: the longest series has 3, 16 are needed."
    assert reason in result.stderr
    result = run("changes", "--json", where=few)
    assert result.return_value == 3
    assert json.loads(result.stdout) == {"version": 1, "reason": reason, "changes": []}


def test_an_export_is_the_same_history(run: Invoke, path: Path, tmp_path: Path) -> None:
    lines, copy = tmp_path / "all.jsonl", tmp_path / "copy.db"
    assert run("export", "--output", str(lines)).stdout == ""
    assert run("add", str(lines), where=copy).stdout == "Runs added: 80.\n"
    with open_history(path) as ours, open_history(copy) as theirs:
        assert list(theirs.runs()) == list(ours.runs())
    assert run("export").stdout == lines.read_text()
    one = json.loads(run("export", "--run", "run-07").stdout)
    assert document.from_dict(one) == made(7)


def test_an_export_for_pytest_benchmark(run: Invoke, tmp_path: Path) -> None:
    file = tmp_path / "one.json"
    run("export", "--run", "run-07", "--format", "pytest-benchmark", "--output", str(file))
    found = json.loads(file.read_text())
    assert [each["name"] for each in found["benchmarks"]] == [
        "small step[optimized-1]",
        "import[reference-1]",
    ]
    assert found["commit_info"]["id"] == "07c0ffee00"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("find", "--benchmark", "step"), "no benchmark 'step' in the history, which has small"),
        (("changes", "--machine", "x"), r"no machine 'x' in the history, which has \w+ \(Fast"),
        (("list", "--commit", "ff"), "no commit 'ff' in the history"),
        (("export", "--run", "run-99"), "no run 'run-99' in the history, which has run-"),
    ],
)
def test_unknown_names_are_refused(run: Invoke, arguments: tuple[str, ...], message: str) -> None:
    with pytest.raises(CllmError, match=message):
        run(*arguments)


@pytest.mark.parametrize("command", ["list", "find", "changes", "export"])
def test_without_a_history(run: Invoke, tmp_path: Path, command: str) -> None:
    missing, empty = tmp_path / "missing.db", tmp_path / "empty.db"
    with pytest.raises(CllmError, match=f"there is no history {missing}; `cllm history add`"):
        run(command, where=missing)
    assert not missing.exists()
    open_history(empty, create=True).close()
    with pytest.raises(CllmError, match=f"history {empty} has no runs yet: `cllm history add`"):
        run(command, where=empty)


def test_an_export_names_one_run_or_filters(run: Invoke) -> None:
    for arguments, message in (
        (("--format", "pytest-benchmark"), "writes one run: name it by --run"),
        (("--run", "a", "--commit", "b"), "leave out --commit, --since and --until"),
    ):
        with pytest.raises(UsageError, match=message):
            run("export", *arguments)


def test_what_a_terminal_would_obey_is_not_printed(run: Invoke, path: Path) -> None:
    name = "\x1b[31m\n\a\u202e" + "x" * 3000
    commit = Commit("a1", NOON, "\x1b]0;title\a")
    days = [
        replace(
            made(100 + day), id=f"odd {day}\x1b", source="\x1b", level="\r", commit=commit,
            machine={"cpu": "\x1b[2J"},
            results=(record.Result(name, name, "\x1b/s", 9.0 if day < 20 else 5.0),),
        )
        for day in range(40)
    ]  # fmt: skip
    with open_history(path, create=True) as opened:
        opened.add_many(days)
    for arguments in (("list",), ("find",), ("changes",)):
        lines = run(*arguments, where=path).stdout.split("\n")
        assert any("\ufffd" in line for line in lines)
        assert all(line.isprintable() and len(line) < 600 for line in lines)
    with pytest.raises(CllmError) as caught:
        run("find", "--benchmark", name + "y")
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 1000


def test_a_number_of_digits(run: Invoke, path: Path) -> None:
    fast: Any = replace(made(99), id="fast", results=(replace(made(0).results[0], value=12345.6),))
    with open_history(path, create=True) as opened:
        opened.add(fast)
    assert "  12,346  steps/s" in run("find", "--limit", "1").stdout
