"""What the checks of numbers say: where, and the smallest configuration that fails."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from cllm.harness import CHECKS, Status
from cllm.harness.cases import MEDIUM, Case, Setting, draw_case
from cllm.harness.checks import extremes
from cllm.harness.faults import FAULTS
from cllm.harness.judge import compare_cases
from cllm.harness.runner import build
from cllm.harness.tolerance import Comparison, compare
from cllm.harness.verdict import Inconclusive, Verdict
from cllm.plan import Operation
from cllm.reference import Model as Reference

SMALLEST = "smallest failing configuration: "


def verdict_of(fault: str, check: str) -> Verdict:
    return CHECKS[check](FAULTS[fault].candidate, Reference, 0)


@pytest.mark.parametrize(
    ("fault", "check", "size"),
    [
        ("HeadStrideWrong", "loss.value", r"H 2 "),
        ("ScaleOfTheWholeWidth", "loss.value", r"H 2 "),
        ("OddWidthLosesItsLast", "loss.value", r"D 5 .* F 1 |D 4 .* F 1 "),
        ("TailOfAVectorLeftOut", "loss.value", r"T 9$"),
        ("SecondRowOfTheFirst", "loss.value", r"B 2 "),
        ("IdsOfOneByte", "loss.value", r"V 2(5[7-9]|[6-9]\d) |V 3\d\d "),
        ("DeepLayersShareWeights", "loss.value", r"L 3 "),
        ("RowsOfAnOddBatchLost", "gradients.reference", r"B (1 T 3|3 T 1)$"),
        ("HeadsWiderThanATile", "loss.value", r"D 6\d L 1 H 1 F 1 B 1 T 1$"),
        ("RowsLongerThanATile", "loss.value", r"T 6[5-9]$"),
        ("IdsOfTwoBytes", "loss.value", r"V (6[5-9]|70)\d\d\d D"),
        ("FourLayersAtMost", "gradients.reference", r"L 5 "),
        ("CacheOfSixteen", "generation.cache", r"T (17|18|19)$"),
        ("MoreThreadsThanRows", "determinism.threads", r"B 1 "),
    ],
)
def test_the_size_that_matters_is_named(fault: str, check: str, size: str) -> None:
    verdict = verdict_of(fault, check)
    assert verdict.status is Status.FAIL
    smallest = verdict.details["smallest"]
    assert verdict.evidence.endswith(SMALLEST + smallest)
    assert re.search(size, smallest), smallest


@pytest.mark.parametrize(
    ("fault", "check", "evidence"),
    [
        ("CountsIgnoredTargets", "loss.rows", r"loss of row \d: got \S+, expected \S+, error"),
        ("AttentionExpExplodes", "loss.extremes", r"one-hot attention: got nan"),
        ("EpsilonOfAnotherSize", "loss.extremes", r"hardly any variance \[\d, 0, \d+\]: got"),
        ("GradientOverflows", "gradients.extremes", r"not finite, logits beyond ±80: got \d+"),
        ("SmallGradientsVanish", "gradients.extremes", r"a vast divisor \[.*\]: got 0, expected"),
        ("ZeroingLeavesTheEmbedding", "gradients.accumulate", r"gradients after zero_gradients:"),
        ("LossAfterTheStep", "training.step", r"^loss, with other options: got"),
        ("LossesOfTheLastStep", "training.steps", r"^losses \[0\] is \S+ and \S+, step by step"),
        ("MasterWeightsInSecret", "training.resume", r"^parameters \[\d+\] is .* a resume"),
        ("FirstIdsForTopK", "generation.sampling", r"^draw \d+: got token .* top_k 3"),
        ("TiesByFallingId", "generation.sampling", r"got token 7, expected 0.*all logits equal"),
        (
            "ZeroDrawsTheFirstId",
            "generation.sampling",
            r"^draw \d+: got token 0, .* top_k \d+; V 120",
        ),
        ("TemperatureOfFloat32", "generation.sampling", r"^draw 0: got token 119, .*1e-40; V 120"),
        ("KeepsTheFirstOptions", "training.update", r", vast gradients \[.*\]: got inf"),
        ("NothingToLearnIsNaN", "training.step", r"^loss, without targets: got nan, expected 0"),
        ("NoRateNoUpdate", "training.update", r"^first moment of \S+, learning rate 0 \["),
        ("DivisorOfAtLeastOne", "loss.value", r"^loss: got"),
        ("TwelveThreadsAtMost", "threads.counts", r"^losses, 24 threads \[\d\]"),
        ("LastTokenNotFed", "generation.chunks", r"is \d+ in one call and \d+ in chunks"),
        ("AddsInAnyOrder", "determinism.repeat", r"^\w+ \[\d+\] is .*, in a second run"),
    ],
)
def test_evidence_says_where(fault: str, check: str, evidence: str) -> None:
    verdict = verdict_of(fault, check)
    assert verdict.status is Status.FAIL
    assert re.search(evidence, verdict.evidence), verdict.evidence


def test_right_frequencies_of_the_wrong_tokens_fail() -> None:
    """Only the rule of which number falls on which token is broken."""
    verdict = verdict_of("DrawsByFallingProbability", "generation.sampling")
    assert "chi-squared" not in verdict.evidence
    assert verdict.evidence.startswith("draw ")


# -- drawn configurations --------------------------------------------------------------------


def of_case(case: Case, wrong: bool) -> list[Comparison]:
    expected = case.parameters[:2]
    return [compare("x", expected + (1.0 if wrong else 0.0), expected, 1e-6)]


def test_a_configuration_that_nobody_chose_fails() -> None:
    def wrong_beyond_thirty(case: Case) -> list[Comparison]:
        return of_case(case, case.setting.config.vocab_size > 30)

    assert compare_cases(wrong_beyond_thirty, [MEDIUM], 0).status is Status.PASS
    verdict = compare_cases(wrong_beyond_thirty, [MEDIUM], 0, drawn=8)
    assert verdict.status is Status.FAIL
    assert verdict.details["smallest"] == "V 31 D 4 L 1 H 1 F 1 B 1 T 1"


def test_a_configuration_without_power_neither_fails_nor_hides() -> None:
    def blind_elsewhere(case: Case) -> list[Comparison]:
        name = "x" if case.setting == MEDIUM else "y"
        return [Comparison(name, 0.0, 1.0, (), 0.0, 0.0, () if name == "x" else ("zeros",))]

    assert compare_cases(blind_elsewhere, [MEDIUM], 0, drawn=4).status is Status.PASS
    assert compare_cases(blind_elsewhere, [Setting(MEDIUM.config, 1, 1)], 0).status is (
        Status.INCONCLUSIVE
    )


def test_what_raises_in_one_configuration_is_named_with_it() -> None:
    def raises(case: Case) -> list[Comparison]:
        if case.setting.seq_len > 3:
            raise ZeroDivisionError("no row is left")
        return of_case(case, False)

    verdict = compare_cases(raises, [MEDIUM], 0, drawn=2)
    assert verdict.status is Status.FAIL
    assert "no row is left" in verdict.evidence
    assert verdict.details["smallest"].endswith("B 1 T 4")
    assert "traceback" in verdict.details


def test_what_cannot_be_judged_is_no_failure() -> None:
    def cannot(case: Case) -> list[Comparison]:
        raise Inconclusive("the reference's own x is not finite")

    with pytest.raises(Inconclusive):
        compare_cases(cannot, [MEDIUM], 0, drawn=2)


# -- extremes --------------------------------------------------------------------------------


def forward_of(situation: str, seed: int) -> dict[str, Any]:
    case = extremes.SITUATIONS[situation](draw_case(extremes.SMALL, seed))
    model = build(Reference, case, "float64", operation=Operation.EVALUATION)
    model.forward(case.tokens)
    return {name: np.array(array) for name, array in model.activations().items()}


@pytest.mark.parametrize("seed", range(3))
def test_situations_are_what_they_are_called(seed: int) -> None:
    assert np.abs(forward_of("logits beyond ±80", seed)["logits"]).max() > 89  # exp: infinity
    logits = forward_of("equal logits", seed)["logits"]
    assert np.ptp(logits, axis=-1).max() < 1e-9
    x = forward_of("hardly any variance", seed)["x0"]
    assert x.var(-1).max() < 1e-3
    assert np.abs(x - 0.5).max() < 0.2
    assert len(np.unique(forward_of("one token repeated", seed)["tokens"])) == 1
    case = extremes.SITUATIONS["one target"](draw_case(extremes.SMALL, seed))
    assert (case.targets >= 0).sum() == 1
    denormal = extremes.SITUATIONS["denormal weights"](draw_case(extremes.SMALL, seed))
    tiny = np.abs(denormal.parameters.astype(np.float32))
    assert ((tiny > 0) & (tiny < np.finfo(np.float32).tiny)).sum() > 50


@pytest.mark.parametrize("seed", range(3))
def test_one_hot_attention_takes_one_value(seed: int) -> None:
    a = forward_of("one-hot attention", seed)
    values = np.split(a["layer0.qkv"], 3, -1)[2]  # (B,T,D)
    heads = values.reshape(*values.shape[:2], extremes.SMALL.config.num_heads, -1)
    attended = a["layer0.attn"].reshape(heads.shape)
    apart = np.abs(attended[:, -1, None] - heads).max(-1).min(1)  # (B,H): from the nearest value
    assert np.median(apart) < 1e-9
