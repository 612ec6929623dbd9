"""Checks of the decoder: its logits are those of the training forward, its tokens their sample's.

`generation.sampling` states its false-alarm rate; every other check is exact or calibrated.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from cllm.config import Config
from cllm.decoder import Sampling
from cllm.harness.cases import Case, Setting, draw_case
from cllm.harness.checks.check import check
from cllm.harness.distribution import distribution, first_unlike, unlike_counts
from cllm.harness.judge import compare_cases
from cllm.harness.runner import Arrays, build, calibrate, copy
from cllm.harness.tolerance import (
    FORWARD,
    Comparison,
    compare,
    compare_tensors,
    tensor_tolerance,
)
from cllm.harness.verdict import Inconclusive, Status, Verdict
from cllm.layout import tensor_views
from cllm.model import Model
from cllm.plan import Operation

WINDOWS = (
    Setting(Config(7, 4, 1, 1, 3), 1, 1),
    Setting(Config(13, 10, 2, 5, 7), 1, 5),
    Setting(Config(29, 16, 3, 2, 24), 1, 8),
)
"""A window of one token, of an odd and of an even number; each is fed until it slid twice."""

DRAWN = 4
"""Configurations beside these."""

ONE_TOKEN = Setting(Config(8, 6, 1, 2, 5), 8, 1)
"""A window of one token: each token drawn is the whole context of the next. A row for each token,
so that one forward gives the logits after all."""

MANY_TOKENS = Setting(Config(120, 6, 1, 2, 5), 120, 1)
"""The same with more tokens than are sorted by hand."""

DRAWS = 500
"""Tokens drawn for each way of sampling."""

TIED_DRAWS = 60
"""The same where all tokens are equally probable."""

SAMPLINGS = (
    Sampling(0.0),
    Sampling(1.0),
    Sampling(0.4),
    Sampling(1.7, top_k=3),
    Sampling(1.0, top_p=0.7),
    Sampling(1.3, top_k=5, top_p=0.45),
    Sampling(1.0, top_k=100),
)
"""Greedy, at several temperatures, and from what top-k, top-p and both leave."""

EDGES = (
    Sampling(0.0),
    Sampling(1.0, top_k=2),
    Sampling(1.0, top_k=40),
    Sampling(0.1),
    Sampling(0.1, top_k=40),
    Sampling(0.7, top_k=119, top_p=0.9),
)
"""Of many tokens: few of them kept, top-k beyond a short list, and a low temperature."""

EDGE_DRAWS = 80
"""Tokens drawn for each of these, a quarter by 0 and a quarter by the largest number below 1."""

COLDEST = Sampling(1e-40)
"""Of so low a temperature that nothing but the most probable token is left."""


@check("generation.cache", Operation.GENERATION)
def cache(candidate: type[Model], reference: type[Model], seed: int) -> Verdict:
    """The logits after each token fed are those of the reference's forward of the context.

    Fed one by one and, after a reset, all at once. A full window keeps its last floor(T/2) tokens.
    """
    return compare_cases(
        partial(compare_contexts, candidate, reference), WINDOWS, seed, drawn=DRAWN
    )


def compare_contexts(
    candidate: type[Model], reference: type[Model], case: Case
) -> list[Comparison]:
    """Logits after each token of a text that slides the window twice."""
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


def _forward(
    reference: type[Model], contexts: list[NDArray[np.int32]], case: Case, dtype: str
) -> Arrays:
    """`logits` (n,V) of what follows each of n contexts; one forward for all that only grow."""
    model = build(reference, case, dtype, operation=Operation.EVALUATION)
    logits: list[NDArray[np.float64]] = []
    first = 0
    for i, context in enumerate(contexts):
        if i + 1 < len(contexts) and len(contexts[i + 1]) > len(context):
            continue
        of_all = copy(model.forward(context[None])[0])  # (T',V)
        logits.extend(of_all[len(contexts[first]) - 1 :])
        first = i + 1
    return {"logits": np.array(logits)}


def slide(text: NDArray[np.int32], window: int) -> Iterator[NDArray[np.int32]]:
    """The context after each token of a text, for a window of so many tokens."""
    context = text[:0]
    for token in text:
        if len(context) == window:
            context = context[window - window // 2 :]
        context = np.append(context, token)
        yield context


@check("generation.sampling", Operation.GENERATION)
def sampling(candidate: type[Model], reference: type[Model], seed: int) -> Verdict:
    """Each token drawn is the one its number falls on, and their frequencies are the exact ones.

    By rising id, of what temperature, top-k and top-p leave of the probabilities in float64;
    numbers within rounding of a boundary are left out. In a network of many tokens a quarter of the
    numbers is 0 and a quarter the largest below 1. The frequencies are tested by chi-squared,
    with a false alarm in 10⁹ tests at most. At temperature 0 the most probable is drawn; in a
    second network all tokens are equally probable, so that ties go by rising id. A temperature of
    1e-40 draws what 0 does.
    """
    case, exact, tolerance = _one_token_contexts(reference, ONE_TOKEN, SAMPLINGS, seed)
    many = _one_token_contexts(reference, MANY_TOKENS, EDGES, seed)
    drawn = 0
    ties = replace(case, parameters=case.parameters.copy())
    tensor_views(case.setting.config, ties.parameters)["embedding"][...] = 0.0
    for of, logits, error, samplings, count in (
        (case, exact, tolerance, SAMPLINGS, DRAWS),
        (ties, np.zeros_like(exact), 0.0, SAMPLINGS, TIED_DRAWS),
        (*many, EDGES, EDGE_DRAWS),
    ):
        for way, chosen in enumerate(samplings):
            model = build(candidate, of, operation=Operation.GENERATION)
            uniforms = np.random.default_rng([seed, way]).random(count)
            if samplings is EDGES:
                uniforms[::4], uniforms[1::4] = 0.0, np.nextafter(1.0, 0.0)
            start = int(of.tokens[0, 0])
            model.feed(np.array([start], np.int32))
            tokens = model.generate(count, chosen, uniforms)
            contexts = np.concatenate([[start], tokens[:-1]])
            drawn += count
            which = _describe(chosen) + (", all logits equal" if of is ties else "")
            if tokens.min() < 0 or tokens.max() >= logits.shape[1]:
                evidence = f"token {tokens.max()} was drawn of {logits.shape[1]} ({which})"
                return Verdict(Status.FAIL, evidence)
            probs = np.array([distribution(row, chosen, error) for row in logits])
            if where := first_unlike(tokens, probs[contexts], uniforms, chosen, error):
                return Verdict(Status.FAIL, f"{where} ({which}; {of})")
            if samplings is not EDGES and (where := unlike_counts(tokens, contexts, probs)):
                return Verdict(Status.FAIL, f"{where} ({which}; {of})")
    if where := _unlike_greedy(candidate, *many[:2], seed):
        return Verdict(Status.FAIL, where)
    evidence = (
        f"{drawn:,} tokens are those that their numbers fall on, as often as they are probable, "
        f"in {len(SAMPLINGS) + len(EDGES)} ways of sampling"
    )
    return Verdict(Status.PASS, evidence)


def _unlike_greedy(
    candidate: type[Model], case: Case, logits: NDArray[np.float64], seed: int
) -> str:
    """The first token drawn at the lowest temperature that is not the most probable; else empty."""
    model = build(candidate, case, operation=Operation.GENERATION)
    context = int(case.tokens[0, 0])
    model.feed(np.array([context], np.int32))
    uniforms = np.random.default_rng(seed).uniform(0.01, 0.99, EDGE_DRAWS)
    for i, token in enumerate(model.generate(EDGE_DRAWS, COLDEST, uniforms).tolist()):
        if token != (expected := int(logits[context].argmax())):
            return (
                f"draw {i}: got token {token}, expected {expected} ({_describe(COLDEST)}; {case})"
            )
        context = token
    return ""


def _one_token_contexts(
    reference: type[Model], setting: Setting, samplings: tuple[Sampling, ...], seed: int
) -> tuple[Case, NDArray[np.float64], float]:
    """A case, its logits (V,V) after each token as the only context, and their tolerance.

    Drawn until no two logits of a context are closer than rounding, nor a sum of probabilities
    close to a `top_p`, so that what is kept is beyond doubt.
    """
    for draw in range(0, 40, 2):  # odd draws are of smaller batches
        case = draw_case(setting, seed, draw)
        if (
            setting is MANY_TOKENS
        ):  # closer logits: several tokens are probable also when it is cold
            tensor_views(setting.config, case.parameters)["embedding"][...] *= 0.125
        exact, errors = calibrate(partial(_after_each, reference), case)
        logits = exact["logits"]
        tolerance = tensor_tolerance(logits, errors["logits"], FORWARD)
        try:
            for chosen in samplings:
                for row in logits:
                    distribution(row, chosen, tolerance)
        except Inconclusive:
            continue
        return case, logits, tolerance
    raise Inconclusive("no case was drawn in which it is beyond doubt which tokens are kept")


def _after_each(reference: type[Model], case: Case, dtype: str) -> Arrays:
    """`logits` (V,V) after each token as the only context, each in a row of its own."""
    model = build(reference, case, dtype, operation=Operation.EVALUATION)
    tokens = np.arange(case.setting.config.vocab_size, dtype=np.int32)
    return {"logits": copy(model.forward(tokens[:, None])[:, 0])}


def _describe(sampling: Sampling) -> str:
    """Like "temperature 1.3, top 5, top_p 0.45"."""
    parts = [f"temperature {sampling.temperature:g}"]
    if sampling.top_k is not None:
        parts.append(f"top_k {sampling.top_k}")
    if sampling.top_p != 1.0:
        parts.append(f"top_p {sampling.top_p:g}")
    return ", ".join(parts)


CHUNKS = (1, 2, 5, 3, 1, 8)
"""Lengths of the calls that draw the tokens of one."""


@check("generation.chunks", Operation.GENERATION)
def chunks(candidate: type[Model], reference: type[Model], seed: int) -> Verdict:
    """The same numbers draw the same tokens in one call and in chunks, beyond a full window."""
    count = sum(CHUNKS)
    chosen = Sampling(0.9, top_k=9, top_p=0.95)
    for setting in WINDOWS:
        case = draw_case(setting, seed)
        uniforms = np.random.default_rng(seed).random(count)
        at_once, in_chunks = (
            build(candidate, case, operation=Operation.GENERATION) for _ in range(2)
        )
        for model in (at_once, in_chunks):
            model.feed(case.tokens[0, :1])
        expected = at_once.generate(count, chosen, uniforms)
        ends = np.cumsum(CHUNKS)[:-1]
        got = np.concatenate(
            [in_chunks.generate(len(u), chosen, u) for u in np.split(uniforms, ends)]
        )
        for what, one, other in (
            ("token", expected, got),
            ("context", at_once.context, in_chunks.context),
        ):
            if one.shape != other.shape:
                evidence = f"{what}s of shape {one.shape} in one call, {other.shape} in chunks"
                return Verdict(Status.FAIL, f"{evidence} ({case})")
            if (one != other).any():
                i = int((one != other).argmax())
                evidence = f"{what} {i} is {one[i]} in one call and {other[i]} in chunks ({case})"
                return Verdict(Status.FAIL, evidence)
    evidence = (
        f"the same {count} tokens in one call and in {len(CHUNKS)}, for {len(WINDOWS)} windows"
    )
    return Verdict(Status.PASS, evidence)
