"""A seal on what verdicts rest on: functions, classes and constants, as they were before.

Promises: what was replaced since the seal was taken is named, and put back: a name in a module or
a class, the code or the defaults of a function, an entry of a table. Sealed are Python's built-in
functions, clocks, statistics and pipes, NumPy's functions, and all of the harness and the
reference, as far as they were imported by then. What is added to a class, in the way of what it
inherits, is removed.
Leaves out: what C code writes into memory; candidates and planted faults.
"""

from __future__ import annotations

import builtins
import math
import multiprocessing.connection
import multiprocessing.reduction
import pickle
import statistics
import sys
import time
from collections.abc import Iterator, MutableMapping
from types import FunctionType, ModuleType
from typing import Any

_PYTHON = (
    *(builtins, math, statistics, time),
    *(multiprocessing.connection, multiprocessing.reduction, pickle),
)
"""What figures are made with, and what carries a verdict to the process that asked for it."""

_ABSENT = object()
_IMMUTABLE_TYPE = 1 << 8
"""Flag of types whose attributes Python code cannot set (CPython's Py_TPFLAGS_IMMUTABLETYPE)."""

_CODE = ("__code__", "__defaults__", "__kwdefaults__")

Scope = tuple[str, Any, MutableMapping[str, Any]]
"""Name, owner (a module, a class or a table) and what it maps names to."""


class Seal:
    """Taken when made."""

    def __init__(self) -> None:
        self._scopes: list[tuple[Scope, dict[str, Any], bool]] = []
        self._functions: dict[int, tuple[FunctionType, tuple[Any, ...]]] = {}
        for module in list(sys.modules.values()):
            if isinstance(module, ModuleType) and _sealed(module):
                self._take(module)

    def mend(self) -> list[str]:
        """Names of what was replaced, all put back."""
        broken = []
        for (name, owner, now), before, whole in self._scopes:
            for key, value in before.items():
                if now.get(key, _ABSENT) is not value:
                    broken.append(f"{name}.{key}")
                    _put(owner, key, value)
            for key in [key for key in now if key not in before] if whole else ():
                if not (isinstance(now[key], ModuleType) or _is_dunder(key) or key in _BOOKKEEPING):
                    broken.append(f"{name}.{key}")
                    _remove(owner, key)
        for function, code in self._functions.values():
            if any(now is not was for now, was in zip(_code(function), code, strict=True)):
                broken.append(f"the code of {function.__module__}.{function.__qualname__}")
                for attribute, was in zip(_CODE, code, strict=True):
                    setattr(function, attribute, was)
        return broken

    def _take(self, module: ModuleType) -> None:
        """Modules of ours with all they hold, others with what can be called."""
        own = _of(module, "cllm")
        kept = {
            key: value
            for key, value in vars(module).items()
            if not _is_dunder(key) and (own or callable(value))
        }
        importing = getattr(module.__spec__, "_initializing", False)  # more names will follow
        self._scopes.append(((module.__name__, module, vars(module)), kept, own and not importing))
        for key, value in kept.items():
            name = f"{module.__name__}.{key}"
            if isinstance(value, type) and value.__module__ == module.__name__:
                self._take_class(name, value)
            elif own and isinstance(value, dict):
                self._scopes.append(((name, value, value), dict(value), False))
            self._take_code(value)

    def _take_class(self, name: str, owner: type) -> None:
        if owner.__flags__ & _IMMUTABLE_TYPE:
            return
        own = {key: value for key, value in vars(owner).items() if key not in _BOOKKEEPING}
        whole = not _of(sys.modules[owner.__module__], "numpy")
        self._scopes.append(((name, owner, vars(owner)), own, whole))  # type: ignore[arg-type]
        for value in own.values():
            self._take_code(value)

    def _take_code(self, value: Any) -> None:
        for function in _functions(value):
            self._functions[id(function)] = function, _code(function)


def name_some(names: list[str]) -> str:
    """The first three of the names, each once, and how many more there are."""
    each = list(dict.fromkeys(names))
    more = f" and {len(each) - 3} more" if len(each) > 3 else ""
    return ", ".join(each[:3]) + more


_BOOKKEEPING = ("__annotations__", "__abstractmethods__", "_abc_impl", "__weakref__", "__dict__")


def _sealed(module: ModuleType) -> bool:
    if _of(module, "cllm"):
        return not (_of(module, "cllm.optimized") or _of(module, "cllm.harness.faults"))
    return module in _PYTHON or _of(module, "numpy")


def _of(module: ModuleType, package: str) -> bool:
    return module.__name__ == package or module.__name__.startswith(f"{package}.")


def _is_dunder(name: object) -> bool:
    return isinstance(name, str) and name.startswith("__") and name.endswith("__")


def _functions(value: Any) -> Iterator[FunctionType]:
    """The functions behind a value: itself, or those of a method, a property or a check."""
    inner = [value]
    if isinstance(value, (classmethod, staticmethod, property)) or _is_check(value):
        inner = [getattr(value, name, None) for name in ("__func__", "fget", "function")]
    for found in inner:
        if isinstance(found, FunctionType):
            yield found
            wrapped = getattr(found, "__wrapped__", None)
            if isinstance(wrapped, FunctionType):
                yield wrapped


def _is_check(value: Any) -> bool:
    return type(value).__module__ == "cllm.harness.checks.check"


def _code(function: FunctionType) -> tuple[Any, ...]:
    return tuple(getattr(function, attribute) for attribute in _CODE)


def _put(owner: Any, key: Any, value: Any) -> None:
    if isinstance(owner, dict):
        owner[key] = value
    elif isinstance(owner, type):
        type.__setattr__(owner, key, value)
    else:
        vars(owner)[key] = value


def _remove(owner: Any, key: Any) -> None:
    if isinstance(owner, type):
        type.__delattr__(owner, key)
    else:
        vars(owner).pop(key, None)
