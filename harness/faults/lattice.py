"""Faults of the lattice's parts."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar

import numpy as np

from cllm.harness.faults.catalogue import Array, Patched, caught_by
from cllm.lattice.distances import Distances, distances_of
from cllm.lattice.parts import PLAIN
from cllm.lattice.primes import first_primes
from cllm.lattice.relations import Relations, relations_of
from cllm.lattice.symmetry import ORDER
from cllm.positions import sinusoidal_positions
from cllm.reference import Model as Reference
from cllm.reference import lattice_attention, lattice_loss, symmetry
from cllm.reference.network import decode, forward


@caught_by("lattice.value", "lattice.generation")
class TurnsByThePrime(Patched):
    """The class of a token is that of its prime, p mod 12, which reaches four classes only."""

    @staticmethod
    def turned(qkv: Array, tokens: Array, num_heads: int) -> None:
        primes = first_primes(int(tokens.max()) + 1)[tokens]
        symmetry.symmetry_forward(qkv, primes, num_heads)

    @staticmethod
    def turned_back(dqkv: Array, tokens: Array, num_heads: int) -> None:
        primes = first_primes(int(tokens.max()) + 1)[tokens]
        symmetry.symmetry_backward(dqkv, primes, num_heads)

    functions: ClassVar = {"symmetry_forward": turned, "symmetry_backward": turned_back}


@caught_by("lattice.value", "lattice.generation")
class TurnsByNoTwelfth(Patched):
    """A rotation that is no group action: twelve turns by an eleventh are not the identity."""

    @staticmethod
    def turned(qkv: Array, tokens: Array, num_heads: int) -> None:
        for x in np.split(qkv, 3, axis=-1)[:2]:
            heads = x.reshape(*tokens.shape, num_heads, -1)  # (B,T,H,D/H)
            angle = 2.0 * math.pi * (tokens % ORDER)[..., None, None] / (ORDER - 1)
            pairs = heads[..., : heads.shape[-1] // 2 * 2]
            even, odd = pairs[..., 0::2].copy(), pairs[..., 1::2].copy()
            pairs[..., 0::2] = np.cos(angle) * even - np.sin(angle) * odd
            pairs[..., 1::2] = np.sin(angle) * even + np.cos(angle) * odd
            x[...] = heads.reshape(x.shape)

    functions: ClassVar = {"symmetry_forward": turned}


@caught_by("lattice.value", "lattice.generation")
class TurnsTheQueriesAlone(Patched):
    """Queries are turned and keys are not: a common turn changes every score."""

    @staticmethod
    def turned(qkv: Array, tokens: Array, num_heads: int) -> None:
        keys = np.split(qkv, 3, axis=-1)[1]
        before = keys.copy()
        symmetry.symmetry_forward(qkv, tokens, num_heads)
        keys[...] = before

    functions: ClassVar = {"symmetry_forward": turned}


@caught_by("lattice.gradients")
class NeverTurnsBack(Patched):
    """The gradient of the turned queries and keys is taken for that of those before the turn."""

    @staticmethod
    def left(dqkv: Array, tokens: Array, num_heads: int) -> None:
        return

    functions: ClassVar = {"symmetry_backward": left}


@caught_by("lattice.gradients")
class TurnsTwice(Patched):
    """The gradient is turned once more, not back."""

    functions: ClassVar = {"symmetry_backward": symmetry.symmetry_forward}


@caught_by("lattice.generation")
class DecodesWithoutTheLattice(Reference):
    """Training turns, generation does not: two networks."""

    def _decode(self, position: int) -> None:
        plain = replace(self.config, lattice=PLAIN)
        decode(self.tensors(), dict(self._buffers_given), position, plain)


@caught_by("lattice.value")
class ForgetsTheLattice(Reference):
    """A network that has none of the parts that it was planned with."""

    def _forward(self, *arguments: Any) -> None:
        forward(self.tensors(), self.activations(), replace(self.config, lattice=PLAIN))


@caught_by("lattice.value", "lattice.generation")
class CountsPositionsPlainly(Reference):
    """Sinusoidal positions where those of the lattice were asked for."""

    def _prepare(self) -> None:
        positions = self._buffers_given["positions"]
        positions[...] = sinusoidal_positions(*positions.shape)


class OtherDistances(Patched):
    """The reference with distances of its own in attention."""

    where = "lattice_attention"

    def __init_subclass__(cls) -> None:
        cls.functions = {"distances_of": lambda size: _Others(distances_of(size), cls.between)}

    @staticmethod
    def between(distances: Distances, i: Array, j: Array) -> Array:
        """(3,...), as `Distances.between`."""
        raise NotImplementedError


class _Others:
    def __init__(self, own: Distances, between: Callable[[Distances, Array, Array], Array]) -> None:
        self.between = partial(between, own)


@caught_by("lattice.distances", "lattice.value", "lattice.generation")
class BreaksTheTriangle(OtherDistances):
    """The square of the geometric distance, which is longer than the way around."""

    @staticmethod
    def between(distances: Distances, i: Array, j: Array) -> Array:
        found = distances.between(i, j)
        found[0] **= 2
        return found


@caught_by("lattice.distances")
class OverflowsTheMultiple(OtherDistances):
    """The least common multiple in 32 bits, where it does not fit."""

    @staticmethod
    def between(distances: Distances, i: Array, j: Array) -> Array:
        n, m = np.add(i, 1, dtype=np.int64), np.add(j, 1, dtype=np.int64)
        multiple = np.lcm(n, m).astype(np.uint32)
        found = distances.between(i, j)
        found[1] = np.log(multiple / np.gcd(n, m)) / distances.prime_mean
        return found


@caught_by("lattice.distances")
class LacksAPrime(OtherDistances):
    """A table of primes without 73."""

    @staticmethod
    def between(distances: Distances, i: Array, j: Array) -> Array:
        found = distances.between(i, j)
        found[1] -= _apart(i, j, 73) / distances.prime_mean
        return found


@caught_by("lattice.distances")
class TakesASquareForAPrime(OtherDistances):
    """A table of primes with 67² in it."""

    @staticmethod
    def between(distances: Distances, i: Array, j: Array) -> Array:
        found = distances.between(i, j)
        found[1] += _apart(i, j, 67**2) / distances.prime_mean
        return found


def _apart(i: Array, j: Array, divisor: int) -> Array:
    """What a divisor, taken for a prime, adds to the prime distance."""
    apart: Array = np.abs(_exponents(i, divisor) - _exponents(j, divisor)) * math.log(divisor)
    return apart


def _exponents(ids: Array, divisor: int) -> Array:
    """How often a divisor below 2^16 divides n = id + 1 <= 70,000; twice at most."""
    n = np.add(ids, 1, dtype=np.int64)
    exponents: Array = (n % divisor == 0).astype(np.int64) + (n % divisor**2 == 0)
    return exponents


@caught_by("lattice.gradients")
class NeverReachesTheWeights(Patched):
    """The weights of the distances get no gradient."""

    @staticmethod
    def gradient(dqkv: Array, dweight: Array, *arguments: Any) -> None:
        lattice_attention.lattice_attention_backward(dqkv, dweight.copy(), *arguments)

    functions: ClassVar = {"lattice_attention_backward": gradient}


@caught_by("lattice.gradients")
class ForgetsTheSoftplus(Patched):
    """The gradient of the weights is that of their softplus."""

    @staticmethod
    def gradient(dqkv: Array, dweight: Array, *arguments: Any) -> None:
        weight = arguments[-2]
        own = np.zeros_like(dweight)
        lattice_attention.lattice_attention_backward(dqkv, own, *arguments)
        dweight += own * (1.0 + np.exp(-weight))

    functions: ClassVar = {"lattice_attention_backward": gradient}


class OtherLoss(Patched):
    """The reference with a function of the lattice's loss replaced."""

    where = "model"

    def _loss(self, *arguments: Any) -> Any:
        with self.patched():
            return super()._loss(*arguments)


@caught_by("lattice.gradients")
class ForgetsTheScale(OtherLoss):
    """The mean of |E_i|² is taken for a constant, so that a smaller E costs less."""

    @staticmethod
    def gradient(dembedding: Array, terms: Array, embedding: Array, *arguments: Any) -> None:
        lattice_loss.lattice_loss_backward(dembedding, terms, embedding, *arguments)
        weights, _, part = arguments
        total = sum(weight * term for weight, term in zip(weights, terms[1:], strict=True))
        dembedding += 2.0 * part * total / (len(embedding) * terms[0]) * embedding

    functions: ClassVar = {"lattice_loss_backward": gradient}


@caught_by("lattice.gradients")
class LossOfEachMicroBatch(OtherLoss):
    """The whole gradient of the lattice's loss in each micro-batch, whatever it counts."""

    @staticmethod
    def gradient(
        dembedding: Array, terms: Array, embedding: Array, weights: Any, num_heads: int, part: float
    ) -> None:
        lattice_loss.lattice_loss_backward(dembedding, terms, embedding, weights, num_heads, 1.0)

    functions: ClassVar = {"lattice_loss_backward": gradient}


@caught_by("lattice.training")
class StepForgetsTheLoss(OtherLoss):
    """A fused step without the gradient of the lattice's loss, which backward has."""

    functions: ClassVar = {"lattice_loss_backward": lambda *_: None}

    def _backward(self, *arguments: Any) -> None:
        Reference._backward(self, *arguments)

    def _step(self, *arguments: Any) -> float:
        with self.patched():
            return super()._step(*arguments)


@caught_by("lattice.value")
class OrbitsThatDoNotClose(OtherLoss):
    """The last token of an orbit is held against the first of the next one."""

    @staticmethod
    def measured(terms: Array, embedding: Array, num_heads: int) -> None:
        lattice_loss.lattice_loss_forward(terms, embedding, num_heads)
        unturned, _ = lattice_loss._differences(embedding, num_heads, relations_of(len(embedding)))
        wrong = unturned.copy()
        heads = embedding.reshape(len(embedding), num_heads, -1)
        for orbit, differences in enumerate(wrong):
            first, behind = orbit * ORDER, min((orbit + 1) * ORDER, len(embedding) - 1)
            differences[-1] += heads[first] - heads[behind]
        if len(wrong):
            terms[2] *= np.square(wrong).sum() / np.square(unturned).sum()

    functions: ClassVar = {"lattice_loss_forward": measured}


@caught_by("lattice.value", "lattice.gradients")
class CompositesOfDifferentPrimes(OtherLoss):
    """A prime counts once in a composite, however often it divides it."""

    @staticmethod
    def relations(vocab_size: int) -> Relations:
        found = relations_of(vocab_size)
        return replace(found, exponents=np.ones_like(found.exponents))

    where = "lattice_loss"
    functions: ClassVar = {"relations_of": relations}
