"""Checks that the same input gives the same bytes, again and for every number of threads."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cllm.config import Config
from cllm.decoder import Sampling
from cllm.harness.cases import (
    BUSY,
    SETTINGS,
    Case,
    Setting,
    draw_batches,
    draw_case,
    draw_updates,
    on_lattice,
)
from cllm.harness.checks.check import check
from cllm.harness.configurations import draw_settings, smallest_failing
from cllm.harness.judge import name_smallest
from cllm.harness.runner import build, first_difference, state
from cllm.harness.verdict import Status, Verdict
from cllm.model import Model
from cllm.plan import Operation

STEPS = 2
THREADS = (2, 3)
"""Held against one; more than some settings have rows."""

WORK = (*SETTINGS, BUSY)

LARGE = Setting(Config(501, 96, 2, 3, 512), 1, 8)
"""So many parameters that several threads are worth while for a single token."""

TOKENS = 20

DRAWN = 4
"""Configurations beside the fixed ones."""


@check("determinism.repeat", Operation.TRAINING)
def repeat(candidate: type[Model], reference: type[Model], seed: int) -> Verdict:
    """Two models built alike give the same bytes."""
    return _same(candidate, seed, [("a second run", 1)])


@check("determinism.threads", Operation.TRAINING)
def threads(candidate: type[Model], reference: type[Model], seed: int) -> Verdict:
    """Any number of threads gives the bytes of one."""
    others = [(f"a run with {count} threads", count) for count in THREADS]
    verdict = _same(candidate, seed, others)
    if verdict.status is Status.PASS and Operation.GENERATION in candidate.parts:
        case = draw_case(LARGE, seed)
        first = _generate(candidate, case, 1)
        for how, count in others:
            if where := first_difference(first, _generate(candidate, case, count)):
                return Verdict(Status.FAIL, f"{where}, in {how} of generation ({LARGE})")
    return verdict


def _generate(candidate: type[Model], case: Case, threads: int) -> dict[str, NDArray[np.generic]]:
    """Logits of a prompt, tokens after it, and the logits after those; the window slides."""
    model = build(candidate, case, threads=threads, operation=Operation.GENERATION)
    prompt = model.feed(case.tokens[0]).copy()
    uniforms = np.random.default_rng(case.seed).random(TOKENS)
    tokens = model.generate(TOKENS, Sampling(), uniforms)
    return {
        "logits of a prompt": prompt,
        "tokens": tokens,
        "logits at the end": model.feed(tokens[-1:]).copy(),
    }


def _same(candidate: type[Model], seed: int, others: list[tuple[str, int]]) -> Verdict:
    """Hold other runs against one with a single thread."""
    values = 0

    def difference(setting: Setting) -> str:
        """Where another run leaves the first; empty where none does."""
        nonlocal values
        first = _run(candidate, setting, seed, 1)
        values += sum(array.size for array in first.values())
        for how, count in others:
            other = _run(candidate, setting, seed, count)
            if where := first_difference(first, other):
                return f"{where}, in {how}"
        return ""

    work = [*WORK, on_lattice(BUSY, candidate.lattice_parts), *draw_settings(seed, DRAWN)]
    for setting in work:
        if where := difference(setting):
            smallest = smallest_failing(setting, lambda smaller: bool(difference(smaller)))
            return name_smallest(Verdict(Status.FAIL, f"{where} ({setting})"), smallest)
    runs = " and ".join(how for how, _ in others)
    evidence = f"{runs} gave the same bytes, {values:,} numbers in {len(work)} configurations"
    return Verdict(Status.PASS, evidence)


def _run(
    candidate: type[Model], setting: Setting, seed: int, threads: int
) -> dict[str, NDArray[np.generic]]:
    """Everything a model leaves after one backward and some steps, copied."""
    case = draw_case(setting, seed)
    generator = np.random.default_rng(seed)
    shape = (setting.batch_size, setting.seq_len)
    tokens, targets = draw_batches(setting.config, generator, STEPS, *shape)
    model = build(candidate, case, threads=threads)
    model.zero_gradients()
    logits = model.forward(case.tokens).copy()
    loss = model.loss(case.targets)
    model.backward()
    gradients = model.gradients.copy()
    losses = model.steps(tokens, targets, draw_updates(generator, case.step, STEPS))
    return {
        "logits": logits,
        "loss": np.array(loss),
        "gradients": gradients,
        "losses": np.array(losses),
        **state(model),
    }
