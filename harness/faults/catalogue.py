"""What a fault is: a faulty candidate, and the check that must catch it.

Promises: every fault and control is found by its name in another process. A control is odd but
correct: no check may fail on it.
"""

from __future__ import annotations

import inspect
import pickle
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, TypeVar
from unittest import mock

import numpy as np

from cllm.harness.checks import CHECKS
from cllm.harness.checks.check import Kind
from cllm.harness.configurations import without_search
from cllm.harness.runner import Calibrations, remembering
from cllm.harness.trainer.parts import TrainerParts
from cllm.harness.verdict import Verdict
from cllm.model import Model
from cllm.reference import Model as Reference

Array = np.ndarray[Any, Any]
AnyModel = TypeVar("AnyModel", bound=type[Model])


@dataclass(frozen=True)
class Fault:
    """A candidate, and what must be said of it."""

    name: str
    story: str
    """One line: what is wrong with it."""
    kind: Kind
    candidate: Any
    caught_by: tuple[str, ...]
    """The check that is named for it, then others that must fail too. Empty for a control."""
    hangs: bool = False
    """Whether other checks would only wait for their time limits, and are left out."""


FAULTS: dict[str, Fault] = {}
CONTROLS: dict[str, Fault] = {}


def caught_by(*checks: str, hangs: bool = False) -> Callable[[AnyModel], AnyModel]:
    """Enter a faulty model into the catalogue; its docstring is the story."""

    def enter(model: AnyModel) -> AnyModel:
        plant(model.__name__, _story(model), model, *checks, hangs=hangs)
        return model

    return enter


def control(model: AnyModel) -> AnyModel:
    """Enter an odd but correct model; its docstring says what is odd."""
    plant(model.__name__, _story(model), model)
    return model


def plant(
    name: str,
    story: str,
    candidate: Any,
    *checks: str,
    kind: Kind = Kind.MODEL,
    hangs: bool = False,
) -> Any:
    """Enter any candidate, as a fault of the checks or, without any, as a control."""
    entered = FAULTS if checks else CONTROLS
    if name in FAULTS or name in CONTROLS:
        raise ValueError(f"two faults are called {name}")
    entered[name] = Fault(name, story, kind, candidate, checks, hangs)
    return candidate


def plant_parts(name: str, story: str, *checks: str, hangs: bool = False, **parts: Any) -> None:
    """Enter parts of a trainer; what is not given is ours."""
    candidate = TrainerParts(**parts, name=name)
    plant(name, story, candidate, *checks, kind=Kind.TRAINER, hangs=hangs)


def check_fault(name: str, check: str, seed: int, known: Path | None = None) -> Verdict:
    """What a check says of the fault or control of this name, in whatever process.

    The smallest failing configuration is searched by the checks that are named for it alone.
    `known` is a file of `note_calibrations`.
    """
    import_module("cllm.harness.faults")  # all of them are entered
    fault = (FAULTS | CONTROLS)[name]
    reference = Reference if fault.kind is Kind.MODEL else None
    with ExitStack() as stack:
        if check not in fault.caught_by:
            stack.enter_context(without_search())
        if known is not None:
            stack.enter_context(remembering(pickle.loads(known.read_bytes())))
        return CHECKS[check](fault.candidate, reference, seed)


def note_calibrations(check: str, seed: int, known: Path) -> Verdict:
    """What a check says of the reference itself; its calibrations, for others, in a new file."""
    calibrations: Calibrations = {}
    with remembering(calibrations):
        verdict = CHECKS[check](Reference, Reference, seed)
    known.write_bytes(pickle.dumps(calibrations))
    return verdict


def _story(model: type) -> str:
    return (inspect.getdoc(model) or "").partition("\n")[0].rstrip(".")


_PATCHING = threading.RLock()


class Patched(Reference):
    """The reference with some of its functions replaced, in this model alone."""

    where: ClassVar[str] = "network"
    functions: ClassVar[dict[str, Any]] = {}

    @contextmanager
    def patched(self) -> Iterator[None]:
        """A context in which the functions are replaced; one thread at a time is in it."""
        with _PATCHING, mock.patch.multiple(f"cllm.reference.{self.where}", **self.functions):
            yield

    def _forward(self, *arguments: Any) -> None:
        with self.patched():
            super()._forward(*arguments)

    def _backward(self, *arguments: Any) -> None:
        with self.patched():
            super()._backward(*arguments)

    def _decode(self, *arguments: Any) -> None:
        with self.patched():
            super()._decode(*arguments)
