"""Faults of one model's state are caught and named; honest models pass."""

from __future__ import annotations

from typing import Any

import pytest

from cllm.harness import CHECKS, Status
from cllm.harness.checks.lifecycle import LARGE
from cllm.harness.faults import CONTROLS, FAULTS
from cllm.reference import Model as Reference
from cllm.registry import find_model

NAMES = (
    "loss.strides",
    "loss.prepared",
    "loss.not_finite",
    "generation.not_finite",
    "generation.together",
)

EVIDENCE = {
    "CopiesOnLoad": "logits [",
    "DecodesWithOldWeights": "logits after step [",
    "ForwardTakesTheCache": "logits after forward [",
    "DecodesOrEvaluates": "KeyError: 'dx'",
    "HandsOutItsWindow": "context kept by the caller [",
    "DecodesOnWithoutNumbers": "feed raised no FloatingPointError with NaN in embedding",
    "HidesNaN": "with NaN in embedding",
    "IgnoresStrides": "transposed tokens and targets give other results than their copies",
}


@pytest.mark.parametrize("fault", EVIDENCE)
def test_fault_is_caught(fault: str) -> None:
    verdict = CHECKS[FAULTS[fault].caught_by[0]](FAULTS[fault].candidate, Reference, 2)
    assert verdict.status is Status.FAIL, verdict.evidence
    assert EVIDENCE[fault] in verdict.evidence


def test_every_fault_is_here() -> None:
    ours = {
        fault.name
        for fault in FAULTS.values()
        if fault.candidate.__module__.endswith("faults.lifecycle")
    }
    assert ours == {*EVIDENCE}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("model", ["reference", "optimized"])
def test_honest_model_passes(model: str, name: str) -> None:
    verdict = CHECKS[name](find_model(model), Reference, 1)
    assert verdict.status is Status.PASS, verdict.evidence


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("control", ["TrainsWithoutGenerating", "GeneratesWithoutTraining"])
def test_less_may_be_offered(control: str, name: str) -> None:
    verdict = CHECKS[name](CONTROLS[control].candidate, Reference, 1)
    generates = control == "GeneratesWithoutTraining" or not name.startswith("generation.")
    assert verdict.status is (Status.PASS if generates else Status.NOT_APPLICABLE)


class RaisesInFeedAlone(Reference):
    drawing = False

    def _generate(self, *arguments: Any) -> Any:
        self.drawing = True
        return super()._generate(*arguments)

    def _finite_logits(self) -> Any:
        return None if self.drawing else super()._finite_logits()


def test_a_silent_generate_is_caught() -> None:
    verdict = CHECKS["generation.not_finite"](RaisesInFeedAlone, Reference, 0)
    assert verdict.status is Status.FAIL
    assert "generate raised no FloatingPointError after token" in verdict.evidence
    assert f"of {LARGE:g}" in verdict.evidence
