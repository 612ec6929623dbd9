"""Checks of training around the model: schedule, initialization, accumulation, epochs, resuming.

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
from cllm.harness.runner import first_difference, state
from cllm.harness.tolerance import GRADIENTS, UNIT, compare, compare_tensors, loss_tolerance
from cllm.harness.trainer.parts import OURS, TrainerParts
from cllm.harness.trainer.recorder import Taken, gradient, recorder
from cllm.harness.verdict import Inconclusive
from cllm.layout import tensor_views
from cllm.text.batches import Batches
from cllm.training.schedule import SCHEDULES
from cllm.training.settings import Settings

RUNS = ((1, 0), (1, 1), (2, 0), (2, 1), (7, 0), (7, 3), (7, 7), (7, 20), (40, 1), (40, 10))
"""Steps and warm-up."""

PRECISION = 32 * UNIT
"""Of a rate as a share of the peak: float32 is good enough for a schedule."""

SIZES = Config(160, 48, 2, 3, 64)
"""Each matrix has thousands of elements."""

DEVIATIONS = 6.5
"""Standard errors that a mean or a standard deviation may be off."""

DISTANCE = 3.2
"""Largest Kolmogorov-Smirnov statistic, times the square root of the number of elements."""

TOKENS = 68
"""Of the text: 9 windows of 8 tokens, the last one of 3; batches of 2 and the last of 1."""


@check_parts("training.schedule", "learning_rate", held="every rate of every schedule as defined")
def schedule(candidate: TrainerParts, reference: TrainerParts, seed: int, folder: Path) -> Problems:
    """Constant, linear, cosine and step with their warm-up: exact values, step by step.

    The warm-up rises from step 1 in a straight line, no rate is above the peak or negative, none
    rises after the warm-up, and the same step gives the same rate in any order. Rates are held to
    2^-19 of the peak against the closed formulas, or against the reference's where one is given.
    """
    peak = float(np.random.default_rng([seed, 9]).uniform(1e-4, 1.0))
    drawn = np.random.default_rng([seed, 10]).integers((2, 0), (60, 30), (3, 2)).tolist()
    assert candidate.learning_rate
    assert reference.learning_rate
    formula = _rate if reference is OURS else reference.learning_rate
    for name in SCHEDULES:
        for total, warmup in (*RUNS, *drawn):
            where = f"{name}, {total} steps, warm-up {warmup}"

            def rate(step: int, *, of: Any = candidate.learning_rate) -> float:
                return float(of(name, step, total, peak=peak, warmup=warmup))  # noqa: B023

            rates = [rate(step) for step in range(1, total + 1)]
            for step, got in enumerate(rates, 1):
                before = rates[step - 2] if step > 1 else 0.0
                if step <= warmup and not got > before:
                    yield f"no warm-up from {before:.9g} to {got:.9g} at step {step} ({where})"
                wanted = rate(step, of=formula)
                tolerance = PRECISION * peak
                if not abs(got - wanted) <= tolerance:
                    yield (
                        f"step {step}: got {got:.9g}, expected {wanted:.9g}, "
                        f"tolerance {tolerance:.2g} ({where})"
                    )
                if not 0.0 <= got <= peak * (1 + PRECISION):
                    yield f"step {step}: {got:.9g} is not in 0..{peak:.9g} ({where})"
                if step > warmup + 1 and got > before + tolerance:
                    yield f"step {step}: {got:.9g} is more than {before:.9g} before ({where})"
            for step in range(total, 0, -1):
                if rate(step) != rates[step - 1]:
                    yield f"step {step} has another rate when it is asked for again ({where})"


def _rate(schedule: str, step: int, total: int, *, peak: float, warmup: int) -> float:
    """The closed formulas."""
    if step <= warmup:
        return peak * step / warmup
    left = (total + 1 - step) / (total + 1 - max(warmup, 1))
    if schedule == "linear":
        return peak * left
    if schedule == "cosine":
        return peak * math.sin(math.pi / 2 * left) ** 2
    if schedule == "step":
        return peak * (1.0 if step <= total / 2 else 0.1 if step <= total * 0.75 else 0.01)
    return peak


@check_parts("training.initialization", "initialize", held="each tensor distributed as defined")
def initialization(
    candidate: TrainerParts, reference: TrainerParts, seed: int, folder: Path
) -> Problems:
    """Fresh parameters: E normal with D^(-3/4), matrices 0.02, W2 over sqrt(2L), gains 1, others 0.

    A gradient flows into every tensor; the same seed gives the same bytes, another one others. An
    honest candidate fails for less than one seed in a million: mean and standard deviation may be
    6.5 standard errors off, sqrt(n) times the distance from the normal distribution is below 3.2.
    """
    assert candidate.initialize
    vector = np.array(candidate.initialize(SIZES, np.random.default_rng(seed)))
    if vector.shape != (SIZES.num_parameters,) or not np.isfinite(vector).all():
        yield f"the parameters must be finite ({SIZES.num_parameters},): got {vector.shape}"
        return
    yield from _no_flow(vector, seed)
    views = tensor_views(SIZES, vector)
    for name, view in views.items():
        if name.endswith("weight") or name == "embedding":
            yield from _not_normal(name, view.reshape(-1).astype(np.float64))
            continue
        value = 1.0 if name.endswith("gain") else 0.0
        for i in np.flatnonzero(view != value)[:1]:
            yield f"{name} [{i}] is {view[i]:.9g} instead of {value:g}"
    again = np.array(candidate.initialize(SIZES, np.random.default_rng(seed)))
    if again.tobytes() != vector.tobytes():
        yield "the same seed gave other bytes"
    other = tensor_views(
        SIZES, np.array(candidate.initialize(SIZES, np.random.default_rng(seed + 1)))
    )
    for name, view in views.items():
        if view.ndim > 1 and (view == other[name]).any():
            yield f"{name} shares numbers with that of another seed"
        in_other_layer = name.replace("layer0", "layer1")
        if in_other_layer != name and view.ndim > 1 and (view == views[in_other_layer]).all():
            yield f"{name} is the same in both layers"


def _no_flow(vector: NDArray[Any], seed: int) -> Problems:
    """Tensors whose gradient is all zeros at these parameters."""
    generator = np.random.default_rng([seed, 11])
    tokens, targets = generator.integers(0, SIZES.vocab_size, (2, 2, 12), np.int32)
    found = gradient(SIZES, vector, [(tokens, targets)], 24.0, "float64")[1]
    for name, tensor in found.items():
        if not tensor.any():
            yield f"no gradient flows into {name} at the fresh parameters: it stays as it is"


def _not_normal(name: str, values: NDArray[np.float64]) -> Problems:
    """How far a tensor is from the normal distribution that it should be drawn from."""
    deviation = 0.02
    if name == "embedding":
        deviation = SIZES.embed_dim**-0.75
    elif name.endswith("ff_out_weight"):
        deviation /= math.sqrt(2 * SIZES.num_layers)
    n = values.size
    for what, got, wanted, error in (
        ("standard deviation", values.std(), deviation, deviation / math.sqrt(2 * n)),
        ("mean", values.mean(), 0.0, deviation / math.sqrt(n)),
    ):
        if abs(got - wanted) > DEVIATIONS * error:
            tolerance = DEVIATIONS * error
            yield f"{name}: {what} {got:.4g}, expected {wanted:.4g}, tolerance {tolerance:.2g}"
    ranked = np.sort(values / (deviation * math.sqrt(2)))
    below = 0.5 * (1 + np.array([math.erf(value) for value in ranked]))
    steps = np.arange(n + 1) / n
    distance = math.sqrt(n) * max((steps[1:] - below).max(), (below - steps[:-1]).max())
    if distance > DISTANCE:
        yield f"{name} is not normal: Kolmogorov-Smirnov {distance:.2f}, at most {DISTANCE}"


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
        wanted = _rate(
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
