"""The revision that a figure belongs to, as git tells it.

Promises: whatever the folder is, a `Commit` or None, never an exception; nothing in the repository
is written. Files that git does not know do not make a revision dirty: reports lie there.
"""

from __future__ import annotations

import os
import subprocess
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from cllm.harness.history.record import Commit

LIMIT = 10.0
"""Seconds for one question; a repository on a network may never answer."""

OPTIONS = ("-c", "log.showSignature=false", "-c", "core.fsmonitor=false")
"""What would add lines of its own, or start a program of the repository."""

ELSEWHERE = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_OBJECT_DIRECTORY")
"""Set in a hook, where they would lead to the repository of the hook."""


def current_commit(folder: Path) -> Commit | None:
    """The commit that is checked out in the repository around `folder`.

    None outside a repository, before its first commit, or without git. `branch` is empty where
    HEAD is detached.
    """
    commit = commit_at(folder, "HEAD")
    if commit is None:
        return None
    changed = _told(folder, "status", "--porcelain", "--untracked-files=no")
    branch = _told(folder, "symbolic-ref", "--quiet", "--short", "HEAD")
    return replace(commit, branch=branch or "", dirty=bool(changed))


def commit_at(folder: Path, revision: str) -> Commit | None:
    """The commit of a revision of the repository around `folder`; None where there is none."""
    form = ("--encoding=UTF-8", "--format=%H%x00%cI%x00%s")
    shown = _told(folder, "log", "-1", *form, "--end-of-options", revision, "--")
    if shown is None or shown.count("\0") != 2:
        return None
    sha, time, subject = shown.split("\0")
    return Commit(sha, datetime.fromisoformat(time), subject)


def commit_of(source: Path | None) -> Commit | None:
    """The commit of a source file where git keeps it, else that of the working directory.

    So a candidate that is installed is measured at the revision of the folder in which one works.
    """
    if source is not None and _told(source.parent, "ls-files", "--error-unmatch", source.name):
        return current_commit(source.parent)
    return current_commit(Path())


def to_dict(commit: Commit | None) -> dict[str, Any] | None:
    """As JSON keeps it: sha, time (ISO 8601), subject, branch, dirty."""
    return None if commit is None else asdict(commit) | {"time": commit.time.isoformat()}


def git(folder: Path, *words: str, limit: float = LIMIT) -> subprocess.CompletedProcess[bytes]:
    """Run git on the repository around `folder`, which it leaves as it is.

    Raises `OSError` where there is no git or no folder, `TimeoutExpired` after `limit` seconds.
    """
    kept = {name: value for name, value in os.environ.items() if name not in ELSEWHERE}
    return subprocess.run(
        ["git", *OPTIONS, *words],
        cwd=folder,
        env={**kept, "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=limit,
    )


def _told(folder: Path, *words: str) -> str | None:
    """What git prints, without the line's end; None where it fails or is not there."""
    try:
        done = git(folder, *words)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode(errors="replace").rstrip("\n") if done.returncode == 0 else None
