"""Faults of the lattice's parts."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from cllm.harness.faults.catalogue import Array, Patched, caught_by
from cllm.lattice.parts import PLAIN
from cllm.lattice.primes import first_primes
from cllm.lattice.symmetry import ORDER
from cllm.positions import sinusoidal_positions
from cllm.reference import Model as Reference
from cllm.reference import symmetry
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
