"""The checks as a whole: the table, what they run on, and what they say."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from cllm.config import Config
from cllm.errors import CllmError
from cllm.harness import CHECKS, Status, Verdict, exit_status
from cllm.harness.cases import DRAWS, MEDIUM, SETTINGS, Case, Setting, draw_case, draw_cases
from cllm.harness.checks.check import Kind, check
from cllm.harness.checks.generation import slide
from cllm.harness.runner import build, calibrate
from cllm.harness.selection import SUMMARIES, select
from cllm.harness.text import BLOCK, markov_text, unigram_entropy
from cllm.harness.verdict import first_failure
from cllm.layout import tensor_views
from cllm.model import Model
from cllm.reference import Model as Reference
from cllm.reference import gelu


def test_table() -> None:
    for name, entry in CHECKS.items():
        assert entry.name == name
        family, _, what = name.partition(".")
        assert family
        assert what
        assert entry.summary


def test_selection() -> None:
    models = [name for name, check in CHECKS.items() if check.kind is Kind.MODEL]
    everything = [*models, "lockstep.agrees", "lockstep.learns", "benchmark"]
    known = list(SUMMARIES)
    assert select(known, ()) == everything
    assert select(known, ["benchmark", "loss.causal"]) == ["loss.causal", "benchmark"]
    of_loss = [name for name in everything if name.startswith("loss.")]
    assert select(known, ["loss", "loss.value"]) == of_loss
    assert select(known, ["loss"], ["loss.value"]) == [n for n in of_loss if n != "loss.value"]
    with pytest.raises(CllmError, match=r"'los'; there are the families .*loss, .* loss.value, "):
        select(known, ["loss", "los"])


def test_checks_stand_in_the_order_of_causes() -> None:
    order = list(SUMMARIES)
    for cause, *effects in (
        ["loss.value", "loss.rows", "loss.extremes", "gradients.reference", "loss.trajectory"],
        ["loss.value", "gradients.reference", "loss.trajectory", "lockstep.agrees"],
        ["gradients.reference", "gradients.extremes", "training.step", "training.steps"],
        ["generation.cache", "generation.sampling", "generation.chunks"],
        ["gradients.reference", "training.moments", "gradients.moves", "loss.trajectory"],
        ["training.update", "training.moments", "loss.learns"],
    ):
        assert all(order.index(cause) < order.index(effect) for effect in effects)


def test_a_failure_leads_to_its_cause() -> None:
    start = {"start": {"where": "starts at x"}}
    verdicts = [
        Verdict(Status.PASS, "fine", check="loss.value"),
        Verdict(Status.INCONCLUSIVE, "blind", check="loss.causal"),
        Verdict(Status.FAIL, "x: got 1", start, "gradients.reference"),
        Verdict(Status.FAIL, "raised", check="lockstep.agrees"),
    ]
    assert first_failure(verdicts) == "gradients.reference: starts at x"
    assert first_failure(verdicts[3:]) == "lockstep.agrees: raised"
    assert first_failure(verdicts[:2]) is None


@pytest.mark.parametrize(
    "name", ["loss.value", "determinism.repeat", "training.update", "loss.causal"]
)
def test_evidence_is_in_plain_words(name: str) -> None:
    class Drifts(Reference):
        drawn = 0.0

        def _loss(self, *arguments: Any) -> Any:
            Drifts.drawn += 1e-3
            return super()._loss(*arguments) + Drifts.drawn

    for model in (Reference, Drifts):
        evidence = CHECKS[name](model, Reference, 0).evidence
        assert not re.search(r"np\.|float|\w=|\bway\b|\b1 \w+s\b", evidence), evidence


@pytest.mark.parametrize("name", ["loss.value", "gradients.reference", "training.update"])
def test_same_seed_same_verdict(name: str) -> None:
    first, second = (CHECKS[name](Reference, Reference, 5) for _ in range(2))
    assert first == second
    json.dumps(first.details, allow_nan=False)
    assert "\n" not in first.evidence


# -- cases -----------------------------------------------------------------------------------


def test_cases_are_drawn_by_the_seed() -> None:
    def bytes_of(seed: int) -> list[bytes]:
        return [case.parameters.tobytes() for cases in draw_cases(SETTINGS, seed) for case in cases]

    assert bytes_of(1) == bytes_of(1)
    assert not set(bytes_of(1)) & set(bytes_of(2))
    assert len(bytes_of(1)) == DRAWS * len(SETTINGS)


@pytest.mark.parametrize("setting", SETTINGS)
def test_cases_are_far_from_an_initialization(setting: Setting) -> None:
    for draw in range(4):
        case = draw_case(setting, 0, draw)
        for values in (case.parameters, case.first_moment, case.second_moment):
            assert (values == values.astype(np.float32)).all()
        assert case.first_moment.all()
        assert (case.second_moment > 0).all()
        assert case.step >= 100
        assert (case.targets >= 0).any()
        rows, time = case.tokens.shape
        assert 1 <= rows <= setting.batch_size
        assert 1 <= time <= setting.seq_len
        for name, view in tensor_views(setting.config, case.parameters).items():
            if name.endswith("gain"):
                assert (np.abs(view - 1) <= 0.3).all()
            elif view.ndim == 1:
                assert (np.abs(view) <= 0.3).all()
                assert view.all()


def test_cases_vary() -> None:
    cases = [draw_case(SETTINGS[-1], 0, draw) for draw in range(DRAWS)]
    assert {case.divisor is None for case in cases} == {True, False}
    planned = SETTINGS[-1].batch_size, SETTINGS[-1].seq_len
    assert {case.tokens.shape == planned for case in cases} == {True, False}
    assert any((case.targets < 0).any() for case in cases)


def test_attention_is_far_from_uniform() -> None:
    case = draw_case(SETTINGS[-1], 0)
    model = build(Reference, case, "float64")
    model.forward(case.tokens)
    a, config = model.activations(), case.setting.config
    b, t = case.tokens.shape
    q, k, _ = (
        third.reshape(b, t, config.num_heads, -1).swapaxes(1, 2)
        for third in np.split(a["layer0.qkv"], 3, -1)
    )
    last = q[:, :, -1:] @ k.swapaxes(-1, -2) / np.sqrt(config.head_dim)  # (B,H,1,T)
    probs = np.exp(last - last.max(-1, keepdims=True))
    probs /= probs.sum(-1, keepdims=True)
    entropy = -(probs * np.log(probs)).sum(-1)
    assert entropy.mean() < 0.8 * np.log(t)
    assert probs.max(-1).mean() < 0.95  # nor is it one-hot


def test_neighbors_are_near_and_elsewhere() -> None:
    case = draw_case(MEDIUM, 0)
    for near in case.neighbors():
        apart = np.abs(near.parameters / case.parameters - 1)
        assert 0 < apart.mean() < 2.0**-19
        assert near.tokens is case.tokens


def test_calibration_takes_the_largest_error_nearby() -> None:
    case = draw_case(MEDIUM, 0)
    near = case.neighbors()
    errors = iter([1.0, 3.0, 2.0, 0.5])

    def run(at: Case, dtype: str) -> dict[str, Any]:
        if dtype == "float64":
            return {"x": np.array([10.0 if at is case else 20.0])}
        return {"x": np.array([(10.0 if at is case else 20.0) + next(errors)])}

    assert len(near) == 3
    exact, error = calibrate(run, case)
    assert exact["x"] == 10.0
    assert error["x"] == 3.0


# -- verdicts --------------------------------------------------------------------------------


class GeluOfTheLastLayerOff(Reference):
    """Wrong first at ff of layer 1: what is before it agrees."""

    def _forward(self, batch_size: int, seq_len: int) -> None:
        super()._forward(batch_size, seq_len)
        last = self.config.num_layers - 1
        a, p = self.activations(), self.tensors()
        gelu.gelu_forward(a[f"layer{last}.ff_act"], 1.01 * a[f"layer{last}.ff_in"])
        ff = a[f"layer{last}.ff_act"] @ p[f"layer{last}.ff_out_weight"]
        a[f"layer{last}.ff"][...] = ff + p[f"layer{last}.ff_out_bias"]
        a[f"layer{last}.x_out"][...] = a[f"layer{last}.x_mid"] + a[f"layer{last}.ff"]
        a["logits"][...] = a[f"layer{last}.x_out"] @ p["embedding"].T


@pytest.mark.parametrize("name", ["loss.value", "gradients.reference"])
def test_failure_says_where_the_candidate_leaves_the_reference(name: str) -> None:
    verdict = CHECKS[name](GeluOfTheLastLayerOff, Reference, 0)
    assert verdict.status is Status.FAIL
    _, _, where = verdict.evidence.partition("first leaves the reference at ")
    assert re.match(r"layer \d, feed-forward: layer\d\.ff \[", where)
    assert re.search(
        r"leaves the reference at layer \d, feed-forward$", first_failure([verdict]) or ""
    )
    for word in ("got", "expected", "tolerance"):
        assert word in where


def test_candidate_that_raises_fails_with_a_traceback() -> None:
    class Raises(Reference):
        def _forward(self, batch_size: int, seq_len: int) -> None:
            raise ZeroDivisionError("no rows for this thread")

    verdict = CHECKS["loss.value"](Raises, Reference, 0)
    assert verdict.status is Status.FAIL
    line = Raises._forward.__code__.co_firstlineno + 1
    said, _, where = verdict.evidence.partition(", raised at ")
    assert said == "ZeroDivisionError: no rows for this thread"
    where, _, smallest = where.partition("; smallest failing configuration: ")
    assert where.endswith(f"test_checks.py:{line} in _forward")
    assert smallest == "V 1 D 4 L 1 H 1 F 1 B 1 T 1"
    assert "_forward" in verdict.details["traceback"]


def test_what_raises_in_the_harness_alone_is_located_too() -> None:
    class ReturnsNothing(Reference):
        def forward(self, tokens: Any) -> Any:
            return None

    verdict = CHECKS["determinism.repeat"](ReturnsNothing, Reference, 0)
    assert re.search(r"raised at \S*determinism.py:\d+ in _run$", verdict.evidence)


def test_candidate_without_float32_is_not_applicable() -> None:
    class Wide(Reference):
        dtypes = ("float64",)

    verdict = CHECKS["loss.value"](Wide, Reference, 0)
    assert verdict.status is Status.NOT_APPLICABLE
    assert verdict.evidence == "Wide computes in float64 only"


def test_reference_without_float64_is_refused() -> None:
    class Narrow(Reference):
        dtypes = ("float32",)

    with pytest.raises(CllmError, match="a reference computes in float32 and float64: Narrow"):
        CHECKS["loss.value"](Reference, Narrow, 0)


def test_reference_without_complex_numbers_has_no_complex_step() -> None:
    class Real(Reference):
        dtypes = ("float32", "float64")

    verdict = CHECKS["gradients.complex_step"](Reference, Real, 0)
    assert verdict.status is Status.NOT_APPLICABLE


def test_reference_that_is_not_finite_is_inconclusive() -> None:
    class Overflows(Reference):
        def _loss(self, *arguments: Any) -> Any:
            return np.inf

    verdict = CHECKS["loss.value"](Reference, Overflows, 0)
    assert verdict.status is Status.INCONCLUSIVE
    assert "the reference's own loss is not finite" in verdict.evidence


def test_check_gives_its_name() -> None:
    @check("family.property")
    def holds(candidate: type[Model], reference: type[Model], seed: int) -> Verdict:
        """What it shows.

        And more.
        """
        return Verdict(Status.PASS, "fine")

    assert holds(Reference, Reference, 0) == Verdict(Status.PASS, "fine", check="family.property")
    assert holds.summary == "What it shows."


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [
        ("pass pass", 0),
        ("pass,not applicable", 0),
        ("pass fail inconclusive", 1),
        ("pass inconclusive", 3),
        ("not applicable", 3),
        ("", 3),
    ],
)
def test_exit_status(statuses: str, expected: int) -> None:
    words = statuses.split(",") if "applicable" in statuses else statuses.split()
    assert exit_status(Verdict(Status(word), "") for word in words) == expected


# -- text and windows ------------------------------------------------------------------------


def test_unigram_entropy() -> None:
    assert unigram_entropy(np.array([0, 1, 2, 3], np.uint8)) == pytest.approx(np.log(4))
    assert unigram_entropy(np.array([5, 5, 5])) == 0.0
    assert unigram_entropy(np.array([0, 0, 0, 7])) == pytest.approx(
        -(0.75 * np.log(0.75) + 0.25 * np.log(0.25))
    )
    long = np.repeat(np.arange(4, dtype=np.uint16), BLOCK // 2)
    assert unigram_entropy(long) == pytest.approx(np.log(4))


def test_markov_text_has_few_successors() -> None:
    text = markov_text(np.random.default_rng(0), 9, 2, (40, 3, 12))
    assert text.shape == (40, 3, 13)
    pairs = {tuple(pair) for row in text.reshape(-1, 13) for pair in pairwise(row)}
    assert len(pairs) <= 2 * 9


@pytest.mark.parametrize(
    ("window", "expected"),
    [
        (1, [[0], [1], [2], [3], [4], [5]]),
        (3, [[0], [0, 1], [0, 1, 2], [2, 3], [2, 3, 4], [4, 5]]),
        (4, [[0], [0, 1], [0, 1, 2], [0, 1, 2, 3], [2, 3, 4], [2, 3, 4, 5]]),
    ],
)
def test_window_slides_by_half(window: int, expected: list[list[int]]) -> None:
    found = slide(np.arange(6, dtype=np.int32), window)
    assert [context.tolist() for context in found] == expected


def test_settings_have_both_ends() -> None:
    configs = [setting.config for setting in SETTINGS]
    assert any(setting.batch_size == setting.seq_len == 1 for setting in SETTINGS)
    assert any(config.head_dim == 1 for config in configs)
    assert any(config.embed_dim % 2 for config in configs)
    assert Config(381, 64, 2, 4, 128) in configs
