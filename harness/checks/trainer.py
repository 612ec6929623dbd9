"""Checks of the steps that a trainer takes: accumulation, epochs, resuming.

The model is the reference, which notes each batch and each gradient that it is asked for.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cllm.config import Config
from cllm.harness.cases import MEDIUM, draw_case
from cllm.harness.checks.checkpoint import draw_checkpoint, unlike
from cllm.harness.checks.parts import Problems, check_parts
from cllm.harness.checks.schedule import PRECISION, rate_of
from cllm.harness.runner import first_difference, state
from cllm.harness.tolerance import GRADIENTS, compare, compare_tensors, loss_tolerance
from cllm.harness.trainer.parts import TrainerParts
from cllm.harness.trainer.recorder import Taken, gradient, recorder
from cllm.harness.verdict import Inconclusive
from cllm.layout import tensor_views
from cllm.text.batches import Batches
from cllm.training.settings import Settings

TOKENS = 68
"""Of the text: 9 windows of 8 tokens, the last one of 3; batches of 2 and the last of 1."""


@check_parts("training.accumulation", "trainer", held="each step had the large batch's gradient")
def accumulation(
    candidate: TrainerParts, reference: TrainerParts, seed: int, folder: Path
) -> Problems:
    """An accumulated step has the gradient and the loss of its batches as one large batch.

    Every step of an epoch, whose last one has fewer batches, and its last batch fewer targets.
    """
    for accumulate in (1, 3, 4):
        trainer, seen = _start(candidate, _settings(seed, accumulate=accumulate), seed)
        case = draw_case(MEDIUM, seed)
        trainer.restore(trainer.position, case.parameters, trainer.model.moments)
        for number in range(1, 1 + trainer.steps_per_epoch):
            done = trainer.step()
            taken = seen.pop()
            where = f"step {number} of {accumulate} batches"
            if len(seen) or not taken.batches:
                yield f"{where}: updated {1 + len(seen)} times"
                return
            counted = sum(int((targets >= 0).sum()) for _, targets in taken.batches)
            exact, rounded = (
                gradient(MEDIUM.config, taken.parameters, taken.batches, counted, dtype)
                for dtype in ("float64", "float32")
            )
            errors = {name: np.abs(rounded[1][name] - tensor) for name, tensor in exact[1].items()}
            tolerance = loss_tolerance(exact[0], abs(rounded[0] - exact[0]))
            got = tensor_views(MEDIUM.config, taken.gradients.astype(np.float64))
            for comparison in (
                compare("loss", done.loss, exact[0], tolerance),
                *compare_tensors(got, exact[1], errors, GRADIENTS),
            ):
                if not comparison.passed:
                    yield f"{comparison} ({where})"
                if comparison.blind_to and number == 1:
                    blind = ", ".join(comparison.blind_to)
                    raise Inconclusive(f"{comparison.tensor} could not be told from {blind}")


@check_parts("training.epochs", "trainer", "learning_rate", held="each step as its epoch says")
def epochs(candidate: TrainerParts, reference: TrainerParts, seed: int, folder: Path) -> Problems:
    """Training ends after its epochs; each has every target once, in an order of its own.

    Steps count from 1, with the rate, decay and clipping of the settings; the fresh parameters
    are those of the seed.
    """
    settings = _settings(seed, accumulate=2)
    trainer, seen = _start(candidate, settings, seed)
    text = _text(seed)
    total = settings.epochs * math.ceil(len(Batches(text, 2, 8)) / 2)
    for step in range(1, total + 1):
        if trainer.finished:
            yield f"training ended after {step - 1} of {total} steps"
            return
        done = trainer.step()
        update = seen[-1].update
        wanted = rate_of(
            settings.schedule, step, total, peak=settings.learning_rate, warmup=settings.warmup
        )
        if update.step != step or done.step != step:
            yield f"step {step} was counted as {update.step}"
        if abs(update.learning_rate - wanted) > PRECISION * settings.learning_rate:
            yield f"step {step} had the rate {update.learning_rate:.9g}, expected {wanted:.9g}"
        if update.weight_decay != settings.weight_decay or update.clip != settings.clip:
            yield f"step {step} had decay {update.weight_decay} and clip {update.clip}"
        if done.epoch != 1 + (step - 1) * settings.epochs // total:
            yield f"step {step} was said to be in epoch {done.epoch}"
    if not trainer.finished:
        yield f"training did not end after {total} steps, {settings.epochs} epochs"
    a_epoch = total // settings.epochs
    pairs = np.array(sorted(zip(text[:-1].tolist(), text[1:].tolist(), strict=True)))
    orders = []
    for number in range(settings.epochs):
        taken = seen[number * a_epoch : (number + 1) * a_epoch]
        batches = [batch for each in taken for batch in each.batches]
        found = [(tokens[t >= 0], t[t >= 0]) for tokens, t in batches]
        got = np.concatenate([np.stack(pair, 1) for pair in found])
        if sorted(got.tolist()) != pairs.tolist():
            yield f"epoch {number + 1} had {len(got)} targets instead of the text's {len(pairs)}"
        orders.append(got.tobytes())
    if len({*orders}) != len(orders):
        yield "two epochs had the same order"


@check_parts("training.resumed", "trainer", "save_checkpoint", "load_checkpoint",
             held="the same bytes as a run that was never stopped")  # fmt: skip
def resumed(candidate: TrainerParts, reference: TrainerParts, seed: int, folder: Path) -> Problems:
    """Stopped after any step, saved, loaded and restored, training ends with the same bytes.

    Within an epoch, at its end, and after the last step; with decay, clipping and warm-up.
    """
    assert candidate.save_checkpoint
    assert candidate.load_checkpoint
    settings = _settings(seed, accumulate=2, epochs=2)
    kept = []
    path = folder / "a.cllm"
    blank = draw_checkpoint(seed, 0, "bytes")
    vocabulary = replace(MEDIUM.config, vocab_size=blank.tokenizer.vocab_size)
    whole, _ = _start(candidate, settings, seed, vocabulary)
    while not whole.finished and whole.position.step < whole.total_steps:
        whole.step()
        states = state(whole.model)
        kept.append(
            (
                whole.position,
                states["parameters"],
                (states["first_moment"], states["second_moment"]),
            )
        )
    wanted = state(whole.model)
    for position, parameters, moments in kept:
        saved = replace(
            blank,
            config=vocabulary,
            settings=settings,
            position=position,
            parameters=parameters,
            moments=moments,
        )
        candidate.save_checkpoint(saved, path)
        loaded = candidate.load_checkpoint(path)
        where = f"stopped after step {position.step} of {whole.total_steps}"
        for problem in unlike(loaded, saved):
            yield f"{where}, {problem}"
        again, _ = _start(candidate, settings, seed, vocabulary)
        again.restore(loaded.position, loaded.parameters, loaded.moments)
        while not again.finished and again.position.step < whole.total_steps:
            again.step()
        if difference := first_difference(wanted, state(again.model)):
            yield f"{where}: {difference}"


def _settings(seed: int, *, accumulate: int, epochs: int = 3) -> Settings:
    return Settings(
        batch_size=2,
        seq_len=8,
        epochs=epochs,
        learning_rate=0.01,
        weight_decay=0.1,
        clip=0.5,
        schedule="cosine",
        warmup=2,
        accumulate=accumulate,
        seed=seed,
    )


def _text(seed: int) -> NDArray[np.int32]:
    generator = np.random.default_rng([seed, 12])
    return generator.integers(0, MEDIUM.config.vocab_size, TOKENS, np.int32)


def _start(
    candidate: TrainerParts, settings: Settings, seed: int, config: Config = MEDIUM.config
) -> tuple[Any, list[Taken]]:
    """A trainer of the recording reference at its first step, and what is going to be recorded."""
    assert candidate.trainer
    model, taken = recorder()
    return candidate.trainer(model, config, settings, _text(seed)), taken
