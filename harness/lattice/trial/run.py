"""Training models without the lattice, with each of its parts, and with all."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from multiprocessing import get_context

import numpy as np

from cllm.config import Config
from cllm.harness.benchmark import Progress
from cllm.harness.lattice.trial.texts import VOCAB_SIZE, Text
from cllm.lattice.parts import PARTS, Lattice
from cllm.layout import initialize
from cllm.model import Update
from cllm.registry import find_model
from cllm.training.settings import Settings
from cllm.training.trainer import Trainer

MODEL = "optimized"

PLAIN = "plain"
VARIANTS = (PLAIN, *PARTS, "all")

CONFIG = Config(VOCAB_SIZE, 64, 2, 4, 256)
MEDIUM = Config(2000, 128, 4, 4, 512), 8, 64
"""That of `cllm bench`, with its B and T: the cost of a step is told of it as well."""

SETTINGS = Settings(batch_size=16, seq_len=64, learning_rate=3e-3, warmup=50, validation_batches=0)

ROUNDS = 25
"""Of the measurement of cost."""


@dataclass(frozen=True)
class Run:
    """One model's training."""

    text: str
    variant: str
    seed: int
    steps: int
    loss: float
    """Nats a token of the validation text, at the end."""


@dataclass(frozen=True)
class Cost:
    """A step's time over the plain one's: the median of rounds, and its quartiles."""

    ratio: float
    low: float
    high: float


def config_of(variant: str, config: Config = CONFIG) -> Config:
    """With the parts of a variant."""
    return replace(config, lattice=Lattice.of(["none" if variant == PLAIN else variant]))


def costs(config: Config, batch_size: int, seq_len: int, progress: Progress) -> dict[str, Cost]:
    """Of all variants, measured in turn, on one thread."""
    generator = np.random.default_rng(0)
    tokens, targets = generator.integers(0, config.vocab_size, (2, batch_size, seq_len), np.int32)
    model, models = find_model(MODEL), {}
    for variant in VARIANTS:
        own = config_of(variant, config)
        models[variant] = model.create(own, batch_size, seq_len, initialize(own, generator))
    update = Update(1, 1e-4)
    seconds: dict[str, list[float]] = {variant: [] for variant in VARIANTS}
    for number in range(ROUNDS):
        progress("cost of a step", number, ROUNDS)
        for variant in VARIANTS if number % 2 else VARIANTS[::-1]:
            models[variant].step(tokens, targets, update)
            start = time.perf_counter()
            for _ in range(4):
                models[variant].step(tokens, targets, update)
            seconds[variant].append(time.perf_counter() - start)
    progress("cost of a step", ROUNDS, ROUNDS)
    plain = np.array(seconds[PLAIN])
    found = {}
    for variant, times in seconds.items():
        low, middle, high = np.quantile(np.array(times) / plain, (0.25, 0.5, 0.75)).tolist()
        found[variant] = Cost(middle, low, high)
    return found


def train(text: Text, variant: str, seed: int, steps: int) -> Run:
    """A model from its first parameters to its validation loss, on one thread."""
    settings = replace(SETTINGS, seed=seed)
    window = settings.batch_size * settings.seq_len
    epochs = -(-steps // (len(text.tokens) // window))
    trainer = Trainer(
        find_model(MODEL),
        config_of(variant),
        replace(settings, epochs=epochs),
        text.tokens,
        text.validation,
    )
    trainer.total_steps = steps  # what the schedule ends at
    for _ in range(steps):
        trainer.step()
    measured = trainer.validate()
    assert measured is not None
    return Run(text.name, variant, seed, steps, measured.loss)


def train_all(
    texts: Sequence[Text],
    wanted: Sequence[tuple[str, int]],
    seeds: Sequence[int],
    processes: int,
    progress: Progress,
) -> Iterator[Run]:
    """Each variant wanted for so many steps, on each text, from each seed; as they end."""
    jobs = [(t, v, seed, steps) for t in texts for v, steps in wanted for seed in seeds]
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        futures = [pool.submit(train, *job) for job in jobs]
        for done, future in enumerate(as_completed(futures), 1):
            progress("training", done, len(jobs))
            yield future.result()
