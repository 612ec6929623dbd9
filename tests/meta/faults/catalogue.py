"""What a fault is: a faulty model, and who must catch it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar
from unittest import mock

import numpy as np

from cllm.reference import Model as Reference

Array = np.ndarray[Any, Any]

FAULTS: list[tuple[type[Reference], tuple[str, ...]]] = []
"""The faulty model, and the checks that must fail on it."""


def caught_by(*checks: str) -> Callable[[type[Reference]], type[Reference]]:
    """Enter a faulty model into the catalogue."""

    def enter(model: type[Reference]) -> type[Reference]:
        FAULTS.append((model, checks))
        return model

    return enter


class Patched(Reference):
    """The reference with some of its functions replaced, in this model alone."""

    where: ClassVar[str] = "network"
    functions: ClassVar[dict[str, Any]] = {}

    def patched(self) -> Any:
        return mock.patch.multiple(f"cllm.reference.{self.where}", **self.functions)

    def _forward(self, *arguments: Any) -> None:
        with self.patched():
            super()._forward(*arguments)

    def _backward(self, *arguments: Any) -> None:
        with self.patched():
            super()._backward(*arguments)

    def _decode(self, *arguments: Any) -> None:
        with self.patched():
            super()._decode(*arguments)
