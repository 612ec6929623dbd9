"""How well a model predicts a text.

Promises: every token given is a target once, in order; the loss is summed in float64.
Leaves out: reading the text (`cllm.text.corpus`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from cllm.model import Model
from cllm.text.batches import Batches
from cllm.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class Evaluation:
    """The loss over a text."""

    loss: float
    """Nats per token."""
    tokens: int
    """Targets counted."""

    @property
    def perplexity(self) -> float:
        """exp(loss); beyond float64 its largest number."""
        return math.exp(min(self.loss, 709.0))

    def bits_per_byte(self, text_bytes: int) -> float:
        """Bits that the model needs for a byte of the text: loss · tokens / (ln 2 · bytes).

        Means something only where the tokens hold the whole text: see `lost`.
        """
        return self.loss * self.tokens / (math.log(2.0) * text_bytes)


def lost(tokenizer: Tokenizer) -> str:
    """What of a text is not in its tokens, and so not predicted; empty where nothing is lost."""
    words = ["unknown words", "the whitespace"] if tokenizer.kind == "whitespace" else []
    return " and ".join([*words, *(["capitals"] if tokenizer.lowercase else [])])


def evaluate(model: Model, batches: Batches, chosen: Iterable[int] | None = None) -> Evaluation:
    """The loss over the batches chosen (all of them by default), windows in the text's order.

    The lattice's loss is no part of it. Raises `FloatingPointError` where it is not finite.
    """
    order = batches.order()
    losses, counted = [], 0
    for i in range(len(batches)) if chosen is None else chosen:
        tokens, targets = batches.batch(order, i)
        with np.errstate(all="ignore"):  # the loss tells
            model.forward(tokens)
            count = int(np.count_nonzero(targets >= 0))
            loss = model.loss(targets, 1.0)
            losses.append(loss - count * model.lattice_loss)
        counted += count
    loss = sum(losses) / counted
    if not math.isfinite(loss):
        raise FloatingPointError(f"the loss over the text is {loss}: the model has diverged")
    return Evaluation(loss, counted)
