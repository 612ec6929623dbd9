"""A run as a JSON object, one a line in a file of many.

Promises: `from_dict` gives the run that `to_dict` was given.
Leaves out: other formats (`cllm.harness.history.sources`, `cllm.harness.history.pytest_benchmark`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any

from cllm.errors import CllmError
from cllm.harness.commit import to_dict as commit_to_dict
from cllm.harness.history.record import Better, Commit, Result, Run

VERSION = 1
KIND = "run"


def to_dict(run: Run) -> dict[str, Any]:
    """Numbers, strings, lists and mappings alone, if so are those of the run."""
    return {
        "version": VERSION,
        "kind": KIND,
        "id": run.id,
        "created": run.created.isoformat(),
        "source": run.source,
        "machine": dict(run.machine),
        "level": run.level,
        "commit": commit_to_dict(run.commit),
        "results": [asdict(result) for result in run.results],
    }


def from_dict(document: Mapping[str, Any]) -> Run:
    """The run of a document.

    Raises `CllmError` for another version, `KeyError`, `TypeError` or `ValueError` where something
    is missing or of another type.
    """
    if (version := document.get("version")) != VERSION:
        raise CllmError(f"a run of version {version!r}: must be {VERSION}")
    return Run(
        id=document["id"],
        created=time_of(document["created"]),
        source=document["source"],
        machine=document["machine"],
        level=document["level"],
        results=tuple(_result(each) for each in document["results"]),
        commit=commit_from_dict(document["commit"]),
    )


def time_of(text: str) -> datetime:
    """A time as ISO 8601 writes it. Raises `CllmError` where it is none."""
    try:
        return datetime.fromisoformat(text)
    except (TypeError, ValueError) as error:
        raise CllmError(f"time {text!r}: must be ISO 8601, 2025-03-01T12:00:00+00:00") from error


def commit_from_dict(document: Mapping[str, Any] | None) -> Commit | None:
    """What `cllm.harness.commit.to_dict` was given."""
    if document is None:
        return None
    return Commit(**{**document, "time": time_of(document["time"])})


def _result(document: Mapping[str, Any]) -> Result:
    return Result(
        **{**document, "better": Better(document["better"]), "samples": tuple(document["samples"])}
    )
