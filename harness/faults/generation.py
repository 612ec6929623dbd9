"""Faults of the decoder and of what it draws."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import numpy as np

from cllm.decoder import Sampling
from cllm.harness.faults.catalogue import Array, Patched, caught_by
from cllm.reference import Model as Reference
from cllm.reference import embedding
from cllm.reference.sampling import sample


@caught_by("generation.cache")
class CacheOverwritten(Reference):
    """A key/value cache overwritten by zeros."""

    def _decode(self, position: int) -> None:
        super()._decode(position)
        self._buffers_given["layer0.values"][position] = 0


@caught_by("generation.cache")
class PositionsOfTheNextToken(Patched):
    """A decoder that gives each token the position of the next."""

    @staticmethod
    def embed(out: Array, tokens: Array, weight: Array, positions: Array) -> None:
        ahead = positions[1:] if len(positions) > 1 else positions
        embedding.embedding_forward(out, tokens, weight, ahead)

    functions: ClassVar = {"embedding_forward": embed}

    def _forward(self, *arguments: Any) -> None:
        Reference._forward(self, *arguments)


@caught_by("generation.cache")
class WindowSlidesByOne(Reference):
    """A full window that slides by one token, not by half."""

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
    """A window that slides without computing its cache again: keys of other positions."""

    def _append(self, token: int) -> None:
        window = self._buffers_given["window"]
        if self._context_length == len(window):
            kept = len(window) // 2
            window[:kept] = window[len(window) - kept :].copy()
            self._context_length = kept
        super()._append(token)


@caught_by("generation.cache")
class ResetForgotten(Reference):
    """A reset that forgets nothing."""

    def reset(self) -> None:
        return


@caught_by("generation.cache", "generation.sampling")
class RandomLogits(Reference):
    """Random logits: the decoder answers without having read."""

    noise = np.random.default_rng(0)

    def _decode(self, position: int) -> None:
        super()._decode(position)
        logits = self._buffers_given["next_logits"]
        logits[...] = self.noise.normal(size=logits.shape)


@caught_by("generation.cache")
class TwoNetworks(Patched):
    """Training and inference as two different networks: the decoder has another gelu."""

    @staticmethod
    def relu(out: Array, x: Array) -> None:
        np.maximum(x, 0, out=out)

    functions: ClassVar = {"gelu_forward": relu}

    def _forward(self, *arguments: Any) -> None:
        Reference._forward(self, *arguments)

    def _backward(self, *arguments: Any) -> None:
        Reference._backward(self, *arguments)


class OwnSampling(Reference):
    """A way of sampling that faults change."""

    def _sample(self, sampling: Sampling, uniform: float) -> int:
        logits = self._buffers_given["next_logits"].astype(np.float64)
        return self.draw(logits, sampling, uniform)

    def draw(self, logits: Array, sampling: Sampling, uniform: float) -> int:
        return sample(logits, sampling.temperature, sampling.top_k, sampling.top_p, uniform)


@caught_by("generation.sampling")
class FirstIdsForTopK(OwnSampling):
    """Top-k that takes the first k ids."""

    def draw(self, logits: Array, sampling: Sampling, uniform: float) -> int:
        if sampling.top_k is not None:
            logits = np.where(np.arange(len(logits)) < sampling.top_k, logits, -np.inf)
        return super().draw(logits, sampling, uniform)


@caught_by("generation.sampling")
class TiesByFallingId(OwnSampling):
    """Of equal logits the last id is taken for the largest."""

    def draw(self, logits: Array, sampling: Sampling, uniform: float) -> int:
        if sampling.temperature == 0:
            return int(np.flatnonzero(logits == logits.max())[-1])
        return super().draw(logits, sampling, uniform)


@caught_by("generation.sampling")
class TemperatureMultiplies(OwnSampling):
    """A temperature that multiplies the logits, where it should divide them."""

    def draw(self, logits: Array, sampling: Sampling, uniform: float) -> int:
        factor = sampling.temperature**2
        return super().draw(logits * factor if factor else logits, sampling, uniform)


@caught_by("generation.sampling")
class TopPStopsOneShort(OwnSampling):
    """Top-p that leaves out the token with which the probability is reached."""

    def draw(self, logits: Array, sampling: Sampling, uniform: float) -> int:
        if sampling.top_p < 1:
            order = np.argsort(-logits, kind="stable")[: sampling.top_k]
            weights = np.exp((logits[order] - logits[order[0]]) / sampling.temperature)
            kept = max(1, int((weights.cumsum() < sampling.top_p * weights.sum()).sum()))
            logits = np.where(np.isin(np.arange(len(logits)), order[:kept]), logits, -np.inf)
        return super().draw(logits, dataclasses.replace(sampling, top_p=1.0), uniform)


@caught_by("generation.sampling")
class DrawsByFallingProbability(OwnSampling):
    """The right frequencies, of tokens by falling probability and not by rising id."""

    def draw(self, logits: Array, sampling: Sampling, uniform: float) -> int:
        order = np.argsort(-logits, kind="stable")
        return int(order[super().draw(logits[order], sampling, uniform)])


@caught_by("generation.sampling")
class NumbersOfItsOwn(OwnSampling):
    """Random numbers of its own in the place of those that are handed in."""

    own = np.random.default_rng(1)

    def draw(self, logits: Array, sampling: Sampling, uniform: float) -> int:
        return super().draw(logits, sampling, self.own.random())


@caught_by("generation.sampling")
class RareTokensNeverDrawn(OwnSampling):
    """Numbers that never come near 1: the last ids are drawn too rarely."""

    def draw(self, logits: Array, sampling: Sampling, uniform: float) -> int:
        return super().draw(logits, sampling, 0.95 * uniform)


@caught_by("generation.sampling")
class TwentyKeptAtMost(OwnSampling):
    """Top-k by a list of twenty, whichever k is asked for."""

    def draw(self, logits: Array, sampling: Sampling, uniform: float) -> int:
        if sampling.top_k is not None:
            sampling = dataclasses.replace(sampling, top_k=min(sampling.top_k, 20))
        return super().draw(logits, sampling, uniform)


@caught_by("generation.sampling")
class ZeroDrawsTheFirstId(OwnSampling):
    """A number of exactly 0 draws id 0, also where that is not kept."""

    def draw(self, logits: Array, sampling: Sampling, uniform: float) -> int:
        drawn = super().draw(logits, sampling, uniform)
        return drawn if uniform > 0 or sampling.temperature == 0 else 0


@caught_by("generation.sampling")
class NearlyOneDrawsTheLastId(OwnSampling):
    """The largest number below 1 draws the last id, also where that is not kept."""

    def draw(self, logits: Array, sampling: Sampling, uniform: float) -> int:
        drawn = super().draw(logits, sampling, uniform)
        return drawn if np.float32(uniform) < 1 or sampling.temperature == 0 else len(logits) - 1


@caught_by("generation.sampling")
class ColdIsGreedy(OwnSampling):
    """Temperatures below 0.2 taken for 0."""

    def draw(self, logits: Array, sampling: Sampling, uniform: float) -> int:
        if sampling.temperature < 0.2:
            sampling = dataclasses.replace(sampling, temperature=0.0)
        return super().draw(logits, sampling, uniform)


@caught_by("generation.sampling")
class TemperatureOfFloat32(OwnSampling):
    """Logits divided by the temperature in float32: below 1e-38 they are no numbers."""

    def draw(self, logits: Array, sampling: Sampling, uniform: float) -> int:
        if 0.0 < sampling.temperature < float(np.finfo(np.float32).tiny):
            return len(logits) - 1
        return super().draw(logits, sampling, uniform)


@caught_by("generation.chunks")
class LastTokenNotFed(Reference):
    """The last token of a call is not fed back, so that the next call does not know it."""

    def _generate(self, count: int, sampling: Sampling, uniforms: Array) -> Array:
        drawn = super()._generate(count, sampling, uniforms)
        self._context_length = max(1, self._context_length - 1)
        return drawn


@caught_by("generation.chunks")
class EachCallStartsAfresh(Reference):
    """Each call begins with the token that the call before has seen last."""

    def _generate(self, count: int, sampling: Sampling, uniforms: Array) -> Array:
        window = self._buffers_given["window"]
        first = window[self._context_length - 1]
        self._context_length = 0
        self._append(int(first))
        return super()._generate(count, sampling, uniforms)
