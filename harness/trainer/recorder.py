"""The reference model, noting what a trainer asks of it.

Promises: of each update the batches since the last one, the gradient and the parameters before it,
as copies. It computes what the reference computes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cllm.config import Config
from cllm.harness.runner import Arrays, tensors
from cllm.model import Model, Update
from cllm.registry import find_model

Batch = tuple[NDArray[np.int32], NDArray[np.int32]]


@dataclass(frozen=True)
class Taken:
    """One update."""

    update: Update
    batches: list[Batch]
    """Tokens and targets (B',T') of every loss since the update before."""
    parameters: NDArray[np.float32]
    """(P,) before."""
    gradients: NDArray[np.float32]
    """(P,)."""


def recorder() -> tuple[type[Model], list[Taken]]:
    """A model class, and the list that it notes its updates in."""
    reference: Any = find_model("reference")
    taken: list[Taken] = []
    batches: list[Batch] = []

    class Recorder(reference):  # type: ignore[misc]
        def _loss(self, *arguments: Any) -> Any:
            views, (rows, time) = self.activations(), arguments[:2]
            batch = (views[name][:rows, :time].copy() for name in ("tokens", "targets"))
            batches.append(tuple(batch))
            return super()._loss(*arguments)

        def _update(self, update: Update) -> None:
            vectors = self.parameters.copy(), self.gradients.copy()
            taken.append(Taken(update, list(batches), *vectors))
            batches.clear()
            super()._update(update)

    return Recorder, taken


def gradient(
    config: Config,
    parameters: NDArray[Any],
    batches: Iterable[Batch],
    divisor: float,
    dtype: str,
) -> tuple[float, Arrays]:
    """Loss and gradients by tensor of batches that are one large batch, by the reference."""
    given = list(batches)
    rows = [row for tokens, _ in given for row in tokens]
    tokens = np.zeros((len(rows), max(map(len, rows))), np.int32)
    targets = np.full(tokens.shape, -1, np.int32)
    wanted = [row for _, targets in given for row in targets]
    for i, (row, of_row) in enumerate(zip(rows, wanted, strict=True)):
        tokens[i, : len(row)], targets[i, : len(row)] = row, of_row
    model = find_model("reference").create(config, *tokens.shape, parameters, dtype=dtype)
    model.zero_gradients()
    model.forward(tokens)
    loss = model.loss(targets, divisor)
    model.backward()
    return float(loss), tensors(model, "gradients")
