"""The models that are named, found in a worker.

Promises: a name that means nothing is refused before anything is measured, and so is a module
whose import crashes; the process that measures imports no model.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cllm.errors import CllmError
from cllm.harness.bench.process import Worker, WorkerFailed
from cllm.registry import find_model

LIMIT = 120.0
"""Seconds to import a model."""


@dataclass(frozen=True)
class Found:
    """A model, and where it is from."""

    name: str
    """For `find_model`."""
    module: str
    """That defines it, or the source file by which it is named."""
    file: Path | None
    """The source of the module, where it has one."""


def find_models(names: Iterable[str]) -> list[Found]:
    """The models of these names, each once; a source file alone means all that it defines.

    Raises `CllmError` where there is none of a name, or it cannot be imported.
    """
    found: dict[str, Found] = {}
    for name in names:
        with Worker.start({}) as worker:
            try:
                reply = worker.ask("models", LIMIT, name=name)
            except WorkerFailed as error:
                raise CllmError(f"model {name!r} cannot be loaded: {error}") from error
        if "refused" in reply:
            raise CllmError(reply["refused"])
        for each, module, file in reply["models"]:
            found[each] = Found(each, module, Path(file) if file else None)
    return list(found.values())


def describe(name: str) -> dict[str, Any]:
    """What `find_models` asks for: `models`, or why the name is `refused` (in a worker)."""
    try:
        names = _defined_in(name) if name.endswith(".py") else [name]
        models: list[tuple[str, str, str | None]] = []
        for each in names:
            where, file = each.partition(":")[0], source_of(each)
            module = where if where.endswith(".py") else find_model(each).__module__
            models.append((each, module, str(file) if file else None))
    except CllmError as error:
        return {"refused": str(error)}
    return {"models": models}


def _defined_in(file: str) -> list[str]:
    """Names of the models of a source file."""
    # Here, for it imports every check.
    from cllm.harness.checks.check import Kind
    from cllm.harness.conformance.candidate import find

    if not Path(file).is_file():
        raise CllmError(f"model {file!r}: there is no such file")
    names = [candidate.name for candidate in find(file) if candidate.kind is Kind.MODEL]
    if not names:
        raise CllmError(f"model {file!r}: no subclass of cllm.Model is defined there")
    return names


def source_of(name: str) -> Path | None:
    """The file that defines a model; None where none does. Raises `CllmError` as `find_model`."""
    file = getattr(sys.modules.get(find_model(name).__module__), "__file__", None)
    return Path(file) if file else None
