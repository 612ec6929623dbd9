"""Faults beyond a size that is enough for most configurations: a tile, a table, an integer."""

from __future__ import annotations

from typing import Any

import numpy as np

from cllm.harness.faults.catalogue import caught_by
from cllm.reference import Model as Reference

TILE = 64
"""Tokens and elements of a head that are handled at once."""


@caught_by("loss.value", "gradients.reference")
class HeadsWiderThanATile(Reference):
    """Heads of 64 and wider: logits that are one hundredth too large."""

    def _forward(self, *arguments: Any) -> None:
        super()._forward(*arguments)
        if self.config.head_dim >= TILE:
            self.activations()["logits"][...] *= 1.01


@caught_by("loss.value", "gradients.reference")
class RowsLongerThanATile(Reference):
    """Rows of more than 64 tokens: of all but the last 64 the first is read in their place."""

    def _forward(self, batch_size: int, seq_len: int) -> None:
        tokens = self.activations()["tokens"]
        given = tokens.copy()
        if seq_len > TILE:
            tokens[:, : seq_len - TILE] = tokens[:, :1]
        super()._forward(batch_size, seq_len)
        tokens[...] = given


@caught_by("loss.value", "gradients.reference")
class IdsOfTwoBytes(Reference):
    """Tokens kept in sixteen bits, beyond which ids wrap around."""

    def _forward(self, *arguments: Any) -> None:
        tokens = self.activations()["tokens"]
        tokens[...] = tokens.astype(np.uint16)
        super()._forward(*arguments)


@caught_by("gradients.reference")
class FourLayersAtMost(Reference):
    """A table of four layers: the fifth gets no gradient."""

    def _backward(self, *arguments: Any) -> None:
        super()._backward(*arguments)
        if self.config.num_layers > 4:
            self.tensors("gradients")["layer4.ff_in_weight"][...] = 0


@caught_by("gradients.reference")
class TokensOfOneByte(Reference):
    """Tokens of a batch counted in eight bits: more than 256 leave one bias without gradient."""

    def _backward(self, batch_size: int, seq_len: int, divisor: float) -> None:
        super()._backward(batch_size, seq_len, divisor)
        if batch_size * seq_len > 256:
            self.tensors("gradients")["layer0.ff_in_bias"][...] = 0


@caught_by("loss.value", "gradients.reference")
class DivisorOfAtLeastOne(Reference):
    """A divisor below 1 taken for 1, as the count of targets is."""

    def _loss(self, batch_size: int, seq_len: int, divisor: float) -> Any:
        return super()._loss(batch_size, seq_len, max(1.0, divisor))

    def _backward(self, batch_size: int, seq_len: int, divisor: float) -> None:
        super()._backward(batch_size, seq_len, max(1.0, divisor))


@caught_by("threads.counts")
class TwelveThreadsAtMost(Reference):
    """A table of twelve threads: with more the last gradients are lost."""

    def _backward(self, *arguments: Any) -> None:
        super()._backward(*arguments)
        if self.planned.threads > 12:
            self.gradients[-8:] = 0
