"""Finding an implementation by name.

Promises: `reference`, `optimized` and anybody's own, by entry point, by `module:Class` or by
`path/to/file.py:Class`, as a subclass of `cllm.Model`; or an error that says what is wrong with
the name.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import re
import sys
import traceback
from operator import attrgetter
from pathlib import Path
from types import ModuleType
from typing import Any

from cllm.errors import CllmError
from cllm.model import Model

GROUP = "cllm.models"
"""Entry-point group: `[project.entry-points."cllm.models"] mine = "mypackage:MyModel"`."""

OURS = {"reference": "cllm.reference:Model", "optimized": "cllm.optimized:Model"}

_LOCATION = re.compile(r"(?P<where>[^:]+)(:(?P<attribute>\w+(\.\w+)*)(?P<indices>(\[\d+\])*))?")


def find_model(name: str) -> type[Model]:
    """The class behind an entry point of `cllm.models`, `module:Class` or `file.py:Class`.

    The module may lie in the current folder, which is searched last. Raises `CllmError`, whatever
    goes wrong while it is imported.
    """
    known = OURS if name in OURS or ":" in name else installed()
    location = known.get(name, name)
    if not all(location.partition(":")):
        raise CllmError(f"model must be one of {sorted(known)} or module:Class: got {name!r}")
    try:
        found = resolve(location, here=name not in known)
    except LookupError as error:
        raise CllmError(f"model {name!r} {error}") from error
    if not (isinstance(found, type) and issubclass(found, Model)):
        raise CllmError(f"model {name!r} is not a subclass of cllm.Model: {found!r}")
    if missing := undefined(found):
        raise CllmError(f"model {name!r} is abstract: it does not define {missing}")
    return found


def installed() -> dict[str, str]:
    """Locations of our models and of those that packages name, by name."""
    from importlib.metadata import entry_points  # slower to import than either model

    return {entry.name: entry.value for entry in entry_points(group=GROUP)} | OURS


def undefined(model: type[Model]) -> str:
    """The methods that an abstract model does not define; empty for one that is whole."""
    return ", ".join(sorted(model.__abstractmethods__)) if inspect.isabstract(model) else ""


def resolve(location: str, *, here: bool = True) -> Any:
    """What lies at `module:attribute` or `path/to/file.py:attribute`; without attribute the module.

    An attribute may be dotted, and end in indices such as [0]. Modules are searched for in the
    current folder as well, last, where `here` allows it.

    Raises `LookupError`, whose text goes on after a name, whatever goes wrong.
    """
    parsed = _LOCATION.fullmatch(location)
    if not parsed:
        raise LookupError("is no module:attribute or path/to/file.py:attribute")
    try:
        found: Any = _import(parsed["where"], here)
        if parsed["attribute"]:
            found = attrgetter(parsed["attribute"])(found)
        for index in re.findall(r"\d+", parsed["indices"] or ""):
            found = found[int(index)]
    except (Exception, SystemExit) as error:
        expected = isinstance(error, ImportError | AttributeError | OSError)
        why = error if expected else f"{type(error).__name__}: {error}"
        raise LookupError(f"cannot be loaded: {why}{_origin(error)}") from error
    return found


def _origin(error: BaseException) -> str:
    """Where the user's own code raised it; empty where it was not raised there."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if frame.filename not in (__file__, importlib.__file__)]
    own = [frame for frame in own if not frame.filename.startswith("<frozen ")]
    return f", raised at {own[-1].filename}:{own[-1].lineno}" if own else ""


def _import(where: str, here: bool) -> ModuleType:
    path = Path(where)
    if where.endswith(".py"):
        return _import_file(path.resolve(strict=True))
    if path.is_file() or "/" in where or not where.strip("."):
        what = "a folder" if path.is_dir() else "no Python source file (.py)"
        raise ImportError(f"{where} is {what}")
    folder = str(Path.cwd())
    if here and folder not in sys.path:
        sys.path.append(folder)
    return importlib.import_module(where)


def _import_file(path: Path) -> ModuleType:
    """A source file as a module of its own; one that is imported already is not run again."""
    for module in list(sys.modules.values()):
        if getattr(module, "__file__", None) == str(path):
            return module
    spec = importlib.util.spec_from_file_location(str(path), path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python source file")
    module = importlib.util.module_from_spec(spec)
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))  # what lies beside it can be imported
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[spec.name]
        raise
    return module
