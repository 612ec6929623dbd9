"""Checks of a model's own threads: right at any number of them, the caller's state untouched."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np

from cllm.config import Config
from cllm.decoder import Sampling
from cllm.harness.cases import Case, Setting, draw_batches, draw_updates
from cllm.harness.checks.check import check
from cllm.harness.exercise import WIDE, Exercise
from cllm.harness.judge import compare_cases
from cllm.harness.runner import Arrays, build, calibrate, copy, tensors
from cllm.harness.surroundings import surroundings
from cllm.harness.tolerance import GRADIENTS, Comparison, compare, compare_tensors, loss_tolerance
from cllm.harness.verdict import Status, Verdict
from cllm.harness.words import threads_of
from cllm.model import Model
from cllm.plan import Operation

LIMIT = 8.0
"""Seconds after which a step is taken to hang; each check takes less than one."""

MANY = 8
"""More threads than the settings have rows."""

CROWD = 24
"""More threads than a table of a usual size has room for."""

FEW_ROWS = (
    Setting(Config(13, 8, 1, 2, 12), 1, 1),
    Setting(Config(29, 12, 2, 2, 17), 2, 3),
)

MUCH_WORK = Setting(Config(30, 160, 1, 4, 1500), 2, 1)
"""On two rows, work for which a model that weighs its threads takes three."""

STEPS = 3


@check("threads.counts", Operation.TRAINING, limit=LIMIT)
def counts(candidate: type[Model], reference: type[Model], seed: int) -> Verdict:
    """Step, steps and generation are right at 1 thread and with more threads than rows."""

    def compare_case(case: Case) -> list[Comparison]:
        if case.setting is MUCH_WORK and case.draw:
            return []  # once is enough for what takes so long
        parts = candidate.parts & reference.parts
        exact, errors = calibrate(partial(_train, reference, parts, 1), case)
        tolerance = loss_tolerance(exact["losses"], np.maximum.accumulate(errors["losses"]))
        changes = {name: tensor for name, tensor in exact.items() if name != "losses"}
        comparisons = []
        for threads in (1, MANY) if case.setting is MUCH_WORK else (1, MANY, CROWD):
            got = _train(candidate, parts, threads, case, "float32")
            found = [compare("losses", got["losses"], exact["losses"], tolerance)]
            found += compare_tensors(got, changes, errors, GRADIENTS)
            how = threads_of(threads)
            comparisons += [replace(one, tensor=f"{one.tensor}, {how}") for one in found]
        return comparisons

    return compare_cases(compare_case, (*FEW_ROWS, MUCH_WORK), seed)


def _train(
    model: type[Model], parts: frozenset[Operation], threads: int, case: Case, dtype: str
) -> Arrays:
    """`losses` of a step and of two in one call, `change of` parameters, `next logits`."""
    generator = np.random.default_rng([case.seed, case.draw])
    updates = draw_updates(generator, case.step, STEPS)
    tokens, targets = draw_batches(case.setting.config, generator, STEPS, *case.tokens.shape)
    built = build(model, case, dtype, threads=threads)
    start = tensors(built, "parameters")
    first = built.step(tokens[0], targets[0], updates[0])
    rest = built.steps(tokens[1:], targets[1:], updates[1:])
    end = tensors(built, "parameters")
    found = {f"change of {name}": end[name] - start[name] for name in end}
    if Operation.GENERATION in parts:
        decoder = build(model, case, dtype, threads=threads, operation=Operation.GENERATION)
        found["next logits"] = copy(decoder.feed(case.tokens[0]))
        decoder.generate(1, Sampling(temperature=0.0), np.zeros(1))  # need only end
    return {"losses": np.array([first, *rest])} | found


@check("threads.state", Operation.EVALUATION, limit=LIMIT)
def state(candidate: type[Model], reference: type[Model], seed: int) -> Verdict:
    """The caller's floating-point state, random generators, signals and settings are left alone."""
    surroundings()  # what looking itself changes is changed now
    before = surroundings()
    exercise = Exercise(candidate, WIDE, seed, 2)
    for what, call in ({"creation": lambda: None} | exercise.calls).items():
        call()
        after = surroundings()
        for name in before | after:
            was, found = (seen.get(name, "nothing") for seen in (before, after))
            if found != was:
                return Verdict(Status.FAIL, f"after {what} {name} is {found}, and was {was}")
    calls = ", ".join(exercise.calls)
    evidence = f"{len(before)} items of the process's state are left alone by creation, {calls}"
    return Verdict(Status.PASS, evidence)
