"""Checks of the loss: its value and its course, that it falls, that nothing peeks or mixes rows."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np

from cllm.config import Config
from cllm.harness import activations
from cllm.harness.cases import (
    LARGE,
    MEDIUM,
    SETTINGS,
    Case,
    draw_batches,
    draw_updates,
)
from cllm.harness.checks.check import check
from cllm.harness.judge import compare_cases
from cllm.harness.runner import Arrays, build, calibrate, copy, evaluate, tensors
from cllm.harness.text import markov_text, unigram_entropy
from cllm.harness.tolerance import (
    FORWARD,
    GRADIENTS,
    Comparison,
    compare,
    compare_tensors,
    loss_tolerance,
    tensor_tolerance,
)
from cllm.harness.verdict import Status, Verdict
from cllm.layout import initialize
from cllm.model import IGNORED, Model, Update
from cllm.plan import Operation

TRAJECTORY_STEPS = 64

DRAWN = 8
"""Configurations beside the fixed ones."""

LEARNING_CONFIG = Config(27, 32, 1, 1, 128)
LEARNING_STEPS = 150


@check("loss.value", Operation.EVALUATION)
def value(candidate: type[Model], reference: type[Model], seed: int) -> Verdict:
    """Loss and logits of one batch against float64."""
    return compare_cases(
        partial(compare_forward, candidate, reference),
        (*SETTINGS, *LARGE),
        seed,
        partial(activations.explain, candidate, reference),
        drawn=DRAWN,
    )


def compare_forward(candidate: type[Model], reference: type[Model], case: Case) -> list[Comparison]:
    """Loss and logits of a case."""
    exact, errors = calibrate(partial(evaluate, reference), case, case.setting.neighbors)
    got = evaluate(candidate, case, "float32")
    tolerance = loss_tolerance(exact["loss"], errors["loss"])
    loss = compare("loss", got["loss"], exact.pop("loss"), tolerance)
    return [loss, *compare_tensors(got, exact, errors, FORWARD)]


@check("loss.trajectory", Operation.TRAINING)
def trajectory(candidate: type[Model], reference: type[Model], seed: int) -> Verdict:
    """Losses of 64 steps over the same batches, and how far every parameter then has moved.

    A rounding error feeds the next step, so that the tolerance of a step is calibrated on the
    largest error of the float32 reference up to it.
    """

    def compare_case(case: Case) -> list[Comparison]:
        exact, errors = calibrate(partial(_train, reference), case)
        got = _train(candidate, case, "float32")
        tolerance = loss_tolerance(exact["losses"], np.maximum.accumulate(errors["losses"]))
        losses = compare("losses", got["losses"], exact.pop("losses"), tolerance)
        return [losses, *compare_tensors(got, exact, errors, GRADIENTS)]

    return compare_cases(
        compare_case,
        [MEDIUM],
        seed,
        partial(activations.explain, candidate, reference),
        rounds=1,  # that batches of all kinds are right is what the checks before this one show
    )


def _train(model: type[Model], case: Case, dtype: str) -> Arrays:
    """`losses` (64,), and by tensor the `change of` the parameters from first to last.

    The first quarter goes step by step, the rest in one call.
    """
    setting = case.setting
    generator = np.random.default_rng([case.seed, case.draw])
    updates = draw_updates(generator, case.step, TRAJECTORY_STEPS)
    shape = (setting.batch_size, setting.seq_len)
    tokens, targets = draw_batches(setting.config, generator, TRAJECTORY_STEPS, *shape)
    built = build(model, case, dtype)
    start = tensors(built, "parameters")
    alone = TRAJECTORY_STEPS // 4
    losses = [float(built.step(tokens[i], targets[i], updates[i])) for i in range(alone)]
    rest = built.steps(tokens[alone:], targets[alone:], updates[alone:])
    end = tensors(built, "parameters")
    changes = {f"change of {name}": end[name] - start[name] for name in end}
    return {"losses": np.concatenate([losses, rest])} | changes


@check("loss.learns", Operation.TRAINING)
def learns(candidate: type[Model], reference: type[Model], seed: int) -> Verdict:
    """After 150 steps the loss on new text lies below the unigram entropy of the text.

    The loss is the reference's, at the candidate's parameters, so that a candidate cannot report
    what it has not learned.
    """
    generator = np.random.default_rng(seed)
    shape = (4, 16)
    text = markov_text(generator, LEARNING_CONFIG.vocab_size, 3, (LEARNING_STEPS + 20, *shape))
    tokens, targets = text[..., :-1].copy(), text[..., 1:].copy()
    model = candidate.create(LEARNING_CONFIG, *shape, initialize(LEARNING_CONFIG, generator))
    for step in range(LEARNING_STEPS):
        model.step(tokens[step], targets[step], Update(step + 1, 0.01))
    judging = reference.create(
        LEARNING_CONFIG,
        *shape,
        model.parameters,
        operations=(Operation.EVALUATION,),
        dtype="float64",
    )
    held_out = []
    for batch in range(LEARNING_STEPS, len(tokens)):
        judging.forward(tokens[batch])
        held_out.append(judging.loss(targets[batch]))
    loss, entropy = float(np.mean(held_out)), unigram_entropy(targets.reshape(-1))
    status = Status.PASS if loss < entropy else Status.FAIL
    evidence = (
        f"loss {loss:.3f} on new text after {LEARNING_STEPS} steps, unigram entropy {entropy:.3f}"
    )
    return Verdict(status, evidence, {"loss": loss, "entropy": entropy})


@check("loss.causal", Operation.EVALUATION)
def causal(candidate: type[Model], reference: type[Model], seed: int) -> Verdict:
    """A later token changes no earlier logit, by more than rounding.

    Power: in the reference the same token changes the logits from its own position on. What is
    compared is the change of the logits, 0 in the reference.
    """

    def compare_case(case: Case) -> list[Comparison]:
        exact, errors = calibrate(partial(_with_changed_tokens, reference), case)
        got = _with_changed_tokens(candidate, case, "float32")
        bound = tensor_tolerance(exact["unchanged"], errors["unchanged"], FORWARD)
        comparisons = []
        for time in range(1, case.tokens.shape[1]):
            name = f"token {time}"
            change = got[name] - got["unchanged"]  # (B,T,V)
            earlier = compare(
                f"logits before {name}", change[:, :time], np.zeros_like(change[:, :time]), bound
            )
            later = (exact[name] - exact["unchanged"])[:, time:]  # (B,T-time,V)
            heard = np.abs(later).max((0, 2)) > bound  # (T-time,)
            blind_to = () if heard.all() else ("a token that nothing depends on",)
            comparisons.append(replace(earlier, blind_to=blind_to))
        return comparisons

    return compare_cases(compare_case, [MEDIUM], seed)


def _with_changed_tokens(model: type[Model], case: Case, dtype: str) -> Arrays:
    """Logits (B,T,V): `unchanged`, and `token 1`, ... with that token of every row another."""
    built = build(model, case, dtype, operation=Operation.EVALUATION)
    logits = {"unchanged": copy(built.forward(case.tokens))}
    for time in range(1, case.tokens.shape[1]):
        tokens = case.tokens.copy()
        tokens[:, time] = (tokens[:, time] + 1) % case.setting.config.vocab_size
        logits[f"token {time}"] = copy(built.forward(tokens))
    return logits


@check("loss.rows", Operation.EVALUATION)
def rows(candidate: type[Model], reference: type[Model], seed: int) -> Verdict:
    """A row's logits and loss are those it has alone, whatever stands in the other rows.

    Nor do they depend on what follows in a longer row, or on targets that are not counted.
    """

    def compare_case(case: Case) -> list[Comparison]:
        exact, errors = calibrate(partial(_alone, reference), case)
        got = _among_others(candidate, case)
        comparisons = []
        for name, tensor in exact.items():
            if name.startswith("loss"):
                tolerance = loss_tolerance(tensor, errors[name])
                comparisons.append(compare(name, got[name], tensor, tolerance))
        logits = {name: tensor for name, tensor in exact.items() if name.startswith("logits")}
        return comparisons + compare_tensors(got, logits, errors, FORWARD)

    return compare_cases(compare_case, [MEDIUM], seed)


def _alone(model: type[Model], case: Case, dtype: str) -> Arrays:
    """Logits (T,V) and loss () of each row, in a batch of its own."""
    built = build(model, case, dtype, operation=Operation.EVALUATION)
    results = {}
    for row in range(len(case.tokens)):
        one = slice(row, row + 1)
        results[f"logits of row {row}"] = copy(built.forward(case.tokens[one])[0])
        results[f"loss of row {row}"] = np.array(built.loss(case.targets[one], 1.0))
    return results


def _among_others(model: type[Model], case: Case) -> Arrays:
    """The same of each row in a full batch, the others being padding that changes row by row."""
    setting = case.setting
    built = build(model, case, operation=Operation.EVALUATION)
    generator = np.random.default_rng([case.seed, case.draw])
    results = {}
    count, time = case.tokens.shape
    for row in range(count):
        shape = (setting.batch_size, setting.seq_len)
        tokens = generator.integers(0, setting.config.vocab_size, shape, np.int32)
        targets = np.full(shape, IGNORED, np.int32)
        tokens[row, :time], targets[row, :time] = case.tokens[row], case.targets[row]
        results[f"logits of row {row}"] = copy(built.forward(tokens)[row, :time])
        results[f"loss of row {row}"] = np.array(built.loss(targets, 1.0))
    return results
