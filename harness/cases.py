"""What the checks run on: settings as data, and random cases drawn from them.

Promises: parameters far from any initialization (so that attention is far from uniform and no
gradient vanishes by symmetry), the Adam state of a later step, targets of which some are not
counted, batches smaller than planned; every number a float32, so that all precisions start from
the same ones. The same seed draws the same cases.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cllm.config import Config
from cllm.lattice.parts import Lattice
from cllm.layout import tensor_views
from cllm.model import IGNORED, Update

DRAWS = 8
"""How often cases are redrawn until each tensor has been tested with power."""

NEIGHBORS = 3
"""Points near a case at which the error of float32 is measured as well."""

LARGEST_MEASURED = 100_000
"""The most parameters of settings whose cases have neighbors."""

GRADIENT_SCALE = 0.02
"""Typical size of a gradient of these cases; the moments are drawn around it."""


@dataclass(frozen=True)
class Setting:
    """A configuration and the batch shape that is planned for it."""

    config: Config
    batch_size: int
    """B."""
    seq_len: int
    """T."""

    @property
    def neighbors(self) -> int:
        """Points near a case at which the error of float32 is measured: none where it takes long.

        The many elements of a large result are as good a sample of it.
        """
        return NEIGHBORS if self.config.num_parameters <= LARGEST_MEASURED else 0

    @property
    def work(self) -> int:
        """About how many multiplications a forward pass takes."""
        return self.batch_size * self.seq_len * self.config.num_parameters

    def __str__(self) -> str:
        return f"{describe(self.config)} B {self.batch_size} T {self.seq_len}"


def on_lattice(setting: Setting, parts: Iterable[str]) -> Setting:
    """The same with these parts of the lattice."""
    return replace(setting, config=replace(setting.config, lattice=Lattice.of(parts)))


def describe(config: Config) -> str:
    """The sizes of a network by their letters, and its lattice where it has one."""
    sizes = (
        f"V {config.vocab_size} D {config.embed_dim} L {config.num_layers} "
        f"H {config.num_heads} F {config.ff_dim}"
    )
    return f"{sizes} lattice {config.lattice}" if config.lattice else sizes


SETTINGS = (
    Setting(Config(7, 4, 1, 1, 3), 1, 1),
    Setting(Config(5, 5, 1, 5, 1), 2, 3),
    Setting(Config(11, 6, 2, 3, 9), 1, 33),
    Setting(Config(29, 12, 3, 2, 17), 5, 7),
    Setting(Config(381, 64, 2, 4, 128), 4, 16),
)
"""Both ends: one token, heads one wide, odd widths, one feed-forward unit; and real use."""

LARGE = (
    Setting(Config(300, 66, 5, 1, 70), 8, 70),
    Setting(Config(70_000, 4, 1, 1, 4), 1, 3),
)
"""Beyond buffers, tiles and integers of a usual size: heads wider than 64, more than 4 layers,
more than 64 tokens a row, 256 a batch and 65,536 in the vocabulary. Drawn once."""

TINY = (
    Setting(Config(7, 4, 1, 1, 3), 1, 1),
    Setting(Config(5, 4, 2, 2, 3), 2, 3),
    Setting(Config(6, 5, 1, 5, 4), 1, 5),
)
"""Small enough for one forward pass a parameter."""

BUSY = Setting(Config(500, 48, 2, 3, 96), 8, 40)
"""Enough work that several threads get some."""

MEDIUM = Setting(Config(29, 16, 2, 2, 24), 4, 8)
"""For checks over many steps."""


@dataclass(frozen=True, eq=False)
class Case:
    """One batch at one point of training."""

    setting: Setting
    parameters: NDArray[np.float64]
    """(P,)"""
    first_moment: NDArray[np.float64]
    """(P,)"""
    second_moment: NDArray[np.float64]
    """(P,)"""
    step: int
    """The update that comes next, counted from 1."""
    tokens: NDArray[np.int32]
    """(B',T') with B' <= B, T' <= T."""
    targets: NDArray[np.int32]
    """(B',T'), -1 where not counted."""
    divisor: float | None
    """None, or one below 1, which no count is."""
    seed: int
    draw: int

    def neighbors(self, count: int = NEIGHBORS) -> list[Case]:
        """The same with parameters moved by some 2^-20 of themselves.

        What one rounding costs is a matter of luck; what it costs here and nearby is not.
        """
        generator = np.random.default_rng([self.seed, self.draw, 1])
        sizes = (count, *self.parameters.shape)
        moved = self.parameters * (1 + 2.0**-20 * generator.normal(0.0, 1.0, sizes))
        return [replace(self, parameters=parameters) for parameters in _float32(moved)]

    def __str__(self) -> str:
        s = self.setting
        rows, time = self.tokens.shape
        return (
            f"{describe(s.config)} B {rows} of {s.batch_size} T {time} of {s.seq_len}, "
            f"seed {self.seed} draw {self.draw}"
        )


def draw_cases(settings: Iterable[Setting], seed: int) -> Iterator[list[Case]]:
    """`DRAWS` rounds, each with one case of every setting; the large ones in the first alone."""
    chosen = list(settings)
    for draw in range(DRAWS):
        yield [draw_case(each, seed, draw) for each in chosen if draw == 0 or each not in LARGE]


def draw_case(setting: Setting, seed: int, draw: int = 0) -> Case:
    """One case; draw 0 fills the planned batch, later ones may be smaller."""
    generator = np.random.default_rng([seed, draw])
    parameters = draw_parameters(setting.config, generator)
    first = generator.normal(0.0, GRADIENT_SCALE, parameters.shape)
    second = (GRADIENT_SCALE * np.exp(generator.normal(0.0, 0.5, parameters.shape))) ** 2
    rows, time = setting.batch_size, setting.seq_len
    if draw % 2:
        rows, time = (int(generator.integers(1, most + 1)) for most in (rows, time))
    tokens, targets = draw_batches(setting.config, generator, 1, rows, time)
    if setting in LARGE:  # the last id is read, and asked for
        tokens[0, 0, 0] = targets[0, -1, -1] = setting.config.vocab_size - 1
    return Case(
        setting,
        parameters,
        _float32(first),
        _float32(second),
        int(generator.integers(100, 2000)),
        tokens[0],
        targets[0],
        float(_float32(np.exp(generator.uniform(-3.0, 0.0, ())))) if draw % 3 == 2 else None,
        seed,
        draw,
    )


def draw_parameters(config: Config, generator: np.random.Generator) -> NDArray[np.float64]:
    """Parameters (P,): gains 1 ± 0.3, biases and shifts ± 0.3, embeddings and matrices normal.

    A matrix (M,N) has the standard deviation 1/sqrt(M), Wqkv 1.5/sqrt(M): scores of several
    units, softmax far from uniform, logits of several units.
    """
    parameters = np.empty(config.num_parameters)
    for name, view in tensor_views(config, parameters).items():
        if name.endswith("gain"):
            view[...] = generator.uniform(0.7, 1.3, view.shape)
        elif view.ndim == 1:
            view[...] = generator.uniform(-0.3, 0.3, view.shape)
        elif name == "embedding":
            view[...] = generator.normal(0.0, 1.0 / math.sqrt(view.shape[1]), view.shape)
        else:
            scale = 1.5 if name.endswith("qkv_weight") else 1.0
            view[...] = generator.normal(0.0, scale / math.sqrt(view.shape[0]), view.shape)
    return _float32(parameters)


def draw_batches(
    config: Config, generator: np.random.Generator, count: int, rows: int, time: int
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Tokens and targets (count,B,T); about one target in five is not counted, never all."""
    shape = (count, rows, time)
    tokens = generator.integers(0, config.vocab_size, shape, np.int32)
    targets = generator.integers(0, config.vocab_size, shape, np.int32)
    targets[generator.random(shape) < 0.2] = IGNORED
    targets[:, -1, -1] = generator.integers(0, config.vocab_size, count)
    return tokens, targets


def draw_updates(generator: np.random.Generator, first_step: int, count: int) -> list[Update]:
    """Updates of `count` steps, with weight decay and with clipping that sometimes acts."""
    rates = generator.uniform(0.002, 0.01, count).tolist()
    return [
        Update(first_step + i, rate, weight_decay=0.1, clip=0.5) for i, rate in enumerate(rates)
    ]


def _float32(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The nearest float32, as float64."""
    return np.asarray(values).astype(np.float32).astype(np.float64)
