"""Finding an implementation by name.

Promises: `reference`, `optimized` and anybody's own, by entry point or by `module:Class`, as a
subclass of `cllm.Model`; or an error that says what is wrong with the name.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from importlib.metadata import entry_points
from pathlib import Path

from cllm.errors import CllmError
from cllm.model import Model

GROUP = "cllm.models"
"""Entry-point group: `[project.entry-points."cllm.models"] mine = "mypackage:MyModel"`."""


def find_model(name: str) -> type[Model]:
    """The class behind an entry point of `cllm.models` or behind `module:Class`.

    The module may lie in the current folder, which is searched last. Raises `CllmError`, whatever
    goes wrong while it is imported.
    """
    installed = {entry.name: entry.value for entry in entry_points(group=GROUP)}
    module_name, colon, class_name = installed.get(name, name).partition(":")
    if not colon or not module_name or not class_name:
        raise CllmError(f"model must be one of {sorted(installed)} or module:Class: got {name!r}")
    here = str(Path.cwd())
    if name not in installed and here not in sys.path:
        sys.path.append(here)
    try:
        found = getattr(importlib.import_module(module_name), class_name)
    except (Exception, SystemExit) as error:
        expected = isinstance(error, ImportError | AttributeError)
        why = error if expected else f"{type(error).__name__}: {error}"
        raise CllmError(f"model {name!r} cannot be loaded: {why}") from error
    if not (isinstance(found, type) and issubclass(found, Model)):
        raise CllmError(f"model {name!r} is not a subclass of cllm.Model: {found!r}")
    if inspect.isabstract(found):
        missing = ", ".join(sorted(found.__abstractmethods__))
        raise CllmError(f"model {name!r} is abstract: it does not define {missing}")
    return found
