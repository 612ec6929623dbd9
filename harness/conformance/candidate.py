"""Finding a candidate by what it is called.

Promises: a name means the same candidate in every process; or an error that says what is wrong
with the name. Names are

- `optimized`, `reference` and other entry points of `cllm.models`;
- `operations`, the single operations of the optimized model, and `trainer`, the parts of ours;
- `module:attribute` and `path/to/file.py:attribute`, where the attribute is a subclass of
  `cllm.Model`, a `Pair`, a `TrainerParts`, or a list of such, of which `[i]` is one;
- `module` or `path/to/file.py` alone: all candidates that are defined there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from cllm.errors import CllmError
from cllm.harness.checks.check import Kind, require_reference
from cllm.harness.pairs.pair import Pair
from cllm.harness.trainer.parts import TrainerParts
from cllm.model import Model
from cllm.registry import installed, resolve, undefined

BUILT_IN = {
    "operations": "cllm.harness.pairs.table:PAIRS",
    "trainer": "cllm.harness.trainer.parts:OURS",
}


@dataclass(frozen=True)
class Candidate:
    """What is under test, and the name by which any process finds it."""

    name: str
    """For `find`."""
    kind: Kind
    value: Any
    """None where another process has found it."""
    label: str
    """A short name for people: what the candidate calls itself."""
    seconds: float = 0.0
    """What it took to import, where another process has."""


def find(name: str) -> list[Candidate]:
    """The candidates of this name, at least one; raises `CllmError` for any other name."""
    value = look_up(name)
    if not isinstance(value, ModuleType):
        return named(name, value)
    found = list(_defined_in(value, name))
    if not found:
        what = "no model, pair or trainer's parts are defined there"
        raise _refused(name, f"names no candidate: {what}")
    return found


def find_one(name: str) -> Candidate:
    """The one candidate of this name; raises `CllmError` where it means several."""
    found = find(name)
    if len(found) != 1:
        names = ", ".join(candidate.name for candidate in found)
        raise _refused(name, f"means {len(found)} candidates: {names}")
    return found[0]


def look_up(name: str) -> Any:
    """What is called so, whatever it is; raises `CllmError` where nothing is."""
    known = installed() | BUILT_IN
    bare = name.partition("[")[0]
    try:
        return resolve(known.get(bare, bare) + name[len(bare) :], here=bare not in known)
    except LookupError as error:
        hint = "" if ":" in name or name.endswith(".py") else f"; there are {', '.join(known)}"
        raise _refused(name, f"{error}{hint}") from error


def named(name: str, value: Any) -> list[Candidate]:
    """The candidate that is called so, or those of a list; raises `CllmError` for anything else."""
    if isinstance(value, list | tuple) and value:
        return [one for i, member in enumerate(value) for one in named(f"{name}[{i}]", member)]
    kind = kind_of(value)
    if kind is None:
        raise _refused(name, f"is no model, pair or trainer's parts: {value!r:.80}")
    if kind is Kind.MODEL and (missing := undefined(value)):
        raise _refused(name, f"is abstract: it does not define {missing}")
    label = str(getattr(value, "name", "") or getattr(value, "__name__", kind))
    return [Candidate(name, kind, value, label)]


def find_reference(name: str | None, kind: Kind) -> Any:
    """What candidates of this kind are held against; raises `CllmError` where it does not fit.

    A model against a model, by default `reference`; the parts of a trainer against others, and a
    pair's candidate against a function: None, by default, leaves both to the check.
    """
    if kind is Kind.PAIR:
        found = None if name is None else look_up(name)
        if not (found is None or callable(found)):
            raise CllmError(f"the reference of a pair is a function: {name!r} is {found!r:.80}")
        return found
    if name is None and kind is not Kind.MODEL:
        return None
    reference = find_one(name or "reference")
    if reference.kind is not kind:
        raise CllmError(f"a {kind} is held against a {kind}: {name!r} is a {reference.kind}")
    if kind is Kind.MODEL:
        require_reference(reference.value)
    return reference.value


def kind_of(value: Any) -> Kind | None:
    """What kind of candidate a value is; None for anything else."""
    if isinstance(value, type) and issubclass(value, Model):
        return Kind.MODEL
    if isinstance(value, Pair):
        return Kind.PAIR
    return Kind.TRAINER if isinstance(value, TrainerParts) else None


def _defined_in(module: ModuleType, name: str) -> Iterator[Candidate]:
    """All candidates among the names of a module, each once; no models that it has imported."""
    seen: set[int] = set()
    for attribute, value in vars(module).items():
        members = value if isinstance(value, list | tuple) else [value]
        if attribute.startswith("_") or not all(_is_own(member, module) for member in members):
            continue
        for candidate in named(f"{name}:{attribute}", value) if members else ():
            if id(candidate.value) not in seen:
                seen.add(id(candidate.value))
                yield candidate


def _is_own(value: Any, module: ModuleType) -> bool:
    kind = kind_of(value)
    if kind is Kind.MODEL:
        return value.__module__ == module.__name__ and not undefined(value)
    return kind is not None


def _refused(name: str, why: object) -> CllmError:
    return CllmError(f"candidate {name!r} {why}")
