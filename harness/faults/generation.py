"""Faults of the decoder."""

from __future__ import annotations

from typing import Any, ClassVar

from cllm.reference import Model as Reference
from cllm.reference import embedding
from cllm.harness.faults.catalogue import Array, Patched, caught_by


@caught_by("generation.cache")
class CacheOverwritten(Reference):
    def _decode(self, position: int) -> None:
        super()._decode(position)
        self._buffers_given["layer0.values"][position] = 0


@caught_by("generation.cache")
class PositionsOfTheNextToken(Patched):
    @staticmethod
    def embed(out: Array, tokens: Array, weight: Array, positions: Array) -> None:
        ahead = positions[1:] if len(positions) > 1 else positions
        embedding.embedding_forward(out, tokens, weight, ahead)

    functions: ClassVar = {"embedding_forward": embed}

    def _forward(self, *arguments: Any) -> None:
        Reference._forward(self, *arguments)


@caught_by("generation.cache")
class WindowSlidesByOne(Reference):
    def _append(self, token: int) -> None:
        window = self._buffers_given["window"]
        if self._context_length == len(window):
            kept = len(window) - 1
            window[:kept] = window[1:].copy()
            for position in range(kept):
                self._decode(position)
            self._context_length = kept
        super()._append(token)


@caught_by("generation.cache")
class SlidesWithoutRecomputing(Reference):
    def _append(self, token: int) -> None:
        window = self._buffers_given["window"]
        if self._context_length == len(window):
            kept = len(window) // 2
            window[:kept] = window[len(window) - kept :].copy()
            self._context_length = kept
        super()._append(token)


@caught_by("generation.cache")
class ResetForgotten(Reference):
    def reset(self) -> None:
        return
