"""Checks of the decoder: its cached logits are those of the training forward."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
from numpy.typing import NDArray

from cllm.config import Config
from cllm.harness.cases import Case, Setting
from cllm.harness.checks.check import check
from cllm.harness.judge import compare_cases
from cllm.harness.runner import Arrays, build, calibrate, copy
from cllm.harness.tolerance import FORWARD, Comparison, compare, compare_tensors
from cllm.harness.verdict import Verdict
from cllm.model import Model
from cllm.plan import Operation

WINDOWS = (
    Setting(Config(7, 4, 1, 1, 3), 1, 1),
    Setting(Config(13, 10, 2, 5, 7), 1, 5),
    Setting(Config(29, 16, 3, 2, 24), 1, 8),
)
"""A window of one token, of an odd and of an even number; each is fed until it slid twice."""


@check("generation.cache", Operation.GENERATION)
def cache(candidate: type[Model], reference: type[Model], seed: int) -> Verdict:
    """The logits after each token fed are those of the reference's forward of the context.

    Fed one by one and, after a reset, all at once. A full window keeps its last floor(T/2) tokens.
    """

    def compare_case(case: Case) -> list[Comparison]:
        generator = np.random.default_rng([case.seed, case.draw])
        count = 3 * case.setting.seq_len + 1  # not a whole number of slides
        text = generator.integers(0, case.setting.config.vocab_size, count, np.int32)
        contexts = list(slide(text, case.setting.seq_len))
        exact, errors = calibrate(partial(_forward, reference, contexts), case)
        model = build(candidate, case, operation=Operation.GENERATION)
        comparisons = []
        feeds = {"logits one by one": np.split(text, count), "logits at once": [text]}
        for how, pieces in feeds.items():
            model.reset()
            fed = np.cumsum([len(piece) for piece in pieces]) - 1
            got = {how: np.array([copy(model.feed(piece)) for piece in pieces])}
            wanted, bounds = ({how: logits["logits"][fed]} for logits in (exact, errors))
            comparisons += compare_tensors(got, wanted, bounds, FORWARD)
            comparisons.append(compare(f"context after {how}", model.context, contexts[-1], 0.0))
        return comparisons

    return compare_cases(compare_case, WINDOWS, seed)


def _forward(
    reference: type[Model], contexts: list[NDArray[np.int32]], case: Case, dtype: str
) -> Arrays:
    """`logits` (n,V) of what follows each of n contexts."""
    model = build(reference, case, dtype, operation=Operation.EVALUATION)
    last = [copy(model.forward(context[None])[0, -1]) for context in contexts]
    return {"logits": np.array(last)}


def slide(text: NDArray[np.int32], window: int) -> Iterator[NDArray[np.int32]]:
    """The context after each token of a text, for a window of so many tokens."""
    context = text[:0]
    for token in text:
        if len(context) == window:
            context = context[window - window // 2 :]
        context = np.append(context, token)
        yield context
