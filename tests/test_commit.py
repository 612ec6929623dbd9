"""The revision of a figure: what git says, in ordinary and in odd repositories."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from cllm.harness.commit import commit_at, commit_of, current_commit, to_dict

SUBJECT = "The step is 3% faster, größer \x1b"


def git(folder: Path, *words: str) -> str:
    identity = ["-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    time = {"GIT_COMMITTER_DATE": "2026-03-01T12:00:00+02:00"}
    done = subprocess.run(
        ["git", *identity, *words],
        cwd=folder,
        env={**os.environ, **time},
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.strip()


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No repository around the test, no settings of a user, not even those of a hook."""
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    for name in ("GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM"):
        monkeypatch.setenv(name, os.devnull)
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """One commit on a branch, with a file in a folder."""
    folder = tmp_path / "repository"
    (folder / "kernels").mkdir(parents=True)
    (folder / "kernels" / "softmax.py").write_text("1\n")
    git(folder, "init", "-q", "-b", "main")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", f"{SUBJECT}\n\nA body.")
    return folder


def test_a_commit_is_described(repository: Path) -> None:
    commit = current_commit(repository / "kernels")
    assert commit is not None
    assert commit.sha == git(repository, "rev-parse", "HEAD")
    assert commit.time == datetime.fromisoformat("2026-03-01T12:00:00+02:00")
    assert commit.time.utcoffset() == timedelta(hours=2)
    assert (commit.subject, commit.branch, commit.dirty) == (SUBJECT, "main", False)
    kept = to_dict(commit)
    assert kept == json.loads(json.dumps(kept))
    assert kept is not None
    assert kept["time"] == "2026-03-01T12:00:00+02:00"
    assert to_dict(None) is None


def test_changed_sources_are_dirty_and_reports_are_not(repository: Path) -> None:
    (repository / "report.md").write_text("new\n")
    assert not current_commit(repository).dirty  # type: ignore[union-attr]
    (repository / "kernels" / "softmax.py").write_text("2\n")
    assert current_commit(repository).dirty  # type: ignore[union-attr]
    git(repository, "add", ".")
    assert current_commit(repository).dirty  # type: ignore[union-attr]


def test_a_detached_head_has_no_branch(repository: Path) -> None:
    git(repository, "checkout", "-q", "--detach")
    commit = current_commit(repository)
    assert commit is not None
    assert commit.branch == ""


def test_an_earlier_commit(repository: Path) -> None:
    first = current_commit(repository)
    git(repository, "commit", "-q", "--allow-empty", "-m", "Later")
    assert first is not None
    assert commit_at(repository, "HEAD~1") == replace(first, branch="")
    for nothing in ("HEAD~2", "kernels", "--all", ""):
        assert commit_at(repository, nothing) is None


def test_nothing_is_written_to_the_repository(repository: Path) -> None:
    index = repository / ".git" / "index"
    (repository / "kernels" / "softmax.py").touch()  # status would refresh the index
    before = index.stat()
    assert current_commit(repository) is not None
    assert index.stat().st_mtime_ns == before.st_mtime_ns
    assert index.stat().st_ino == before.st_ino


def test_where_there_is_no_commit(tmp_path: Path, repository: Path) -> None:
    assert current_commit(tmp_path) is None
    assert current_commit(tmp_path / "missing") is None
    assert current_commit(repository / "kernels" / "softmax.py") is None
    empty = tmp_path / "empty"
    empty.mkdir()
    git(empty, "init", "-q")
    assert current_commit(empty) is None
    (repository / ".git" / "HEAD").write_text("nonsense\n")
    assert current_commit(repository) is None


def test_a_bare_repository_is_no_failure(tmp_path: Path, repository: Path) -> None:
    git(tmp_path, "clone", "-q", "--bare", str(repository), "bare")
    commit = current_commit(tmp_path / "bare")
    assert commit is not None
    assert commit.sha == git(repository, "rev-parse", "HEAD")
    assert not commit.dirty


def test_without_git(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(repository))
    assert current_commit(repository) is None


def test_a_hook_does_not_lead_astray(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = current_commit(repository)
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    assert current_commit(repository) == wanted


def test_a_subject_in_no_encoding(repository: Path) -> None:
    message = repository / "message"
    message.write_bytes(b"pass\xe9 \xff\n")
    git(repository, "commit", "-q", "--allow-empty", "--cleanup=verbatim", "-F", str(message))
    commit = current_commit(repository)
    assert commit is not None
    assert commit.subject.startswith("pass")


def test_the_commit_of_a_candidate(
    tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    git(other, "init", "-q", "-b", "work")
    git(other, "commit", "-q", "--allow-empty", "-m", "Where one works")
    monkeypatch.chdir(other)
    found = commit_of(repository / "kernels" / "softmax.py")
    assert found is not None
    assert found.branch == "main"
    ignored = repository / "site-packages" / "softmax.py"  # of an environment in a checkout
    ignored.parent.mkdir()
    ignored.write_text("1\n")
    for source in (ignored, tmp_path / "installed.py", None):
        found = commit_of(source)
        assert found is not None
        assert found.branch == "work"
