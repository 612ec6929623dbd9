"""The harness is tested itself: each fault is caught by the check named for it, honest models pass.

The detection matrix (`cllm check --faults`) runs every check on every fault and control; here it is
the one that counts.
"""

from __future__ import annotations

import pytest

from cllm.harness import CHECKS, Status, isolation
from cllm.harness.checks.check import Kind
from cllm.harness.faults import CONTROLS, FAULTS, Fault
from cllm.harness.faults.catalogue import check_fault
from cllm.harness.faults.gradients import TiedEmbeddingHalfDone
from cllm.plan import Operation
from cllm.reference import Model as Reference
from cllm.registry import find_model

isolation.preload("cllm.harness.faults")

ELSEWHERE = {"races.threads": "tests/sanitizers/checks.py, under the thread sanitizer"}
"""Checks whose faults need another build, and where they are shown to be caught."""


@pytest.mark.parametrize("fault", FAULTS.values(), ids=lambda fault: fault.name)
def test_fault_is_caught(fault: Fault) -> None:
    name = fault.caught_by[0]
    verdict = isolation.isolate(check_fault, fault.name, name, 0, limit=CHECKS[name].limit)
    assert verdict.status is Status.FAIL, verdict.evidence
    assert "\n" not in verdict.evidence


def test_every_check_has_a_fault() -> None:
    named = {name for fault in FAULTS.values() for name in fault.caught_by}
    assert named | ELSEWHERE.keys() == CHECKS.keys()
    assert not named & ELSEWHERE.keys()


@pytest.mark.parametrize("fault", [*FAULTS.values(), *CONTROLS.values()], ids=lambda f: f.name)
def test_fault_tells_its_story(fault: Fault) -> None:
    assert fault.story
    assert "\n" not in fault.story
    if isinstance(fault.candidate, type):
        assert fault.candidate.__doc__ not in [base.__doc__ for base in fault.candidate.__mro__[1:]]


def test_a_wrong_reference_is_caught() -> None:
    """The complex step needs no backward pass, so it tells who of the two is wrong."""
    verdict = CHECKS["gradients.complex_step"](Reference, TiedEmbeddingHalfDone, 0)
    assert verdict.status is Status.FAIL
    assert "reference's embedding" in verdict.evidence


FAMILIES = ("loss", "gradients", "training", "generation", "determinism")
NUMBERS = [
    name
    for name, check in CHECKS.items()
    if check.kind is Kind.MODEL and name.partition(".")[0] in FAMILIES
]
"""Checks of numbers, which leave this process as it was."""

HONEST = [(find_model(model), name) for model in ("reference", "optimized") for name in NUMBERS]
ODD = {
    "SumsInAnotherOrder": (
        "loss.value",
        "loss.trajectory",
        "gradients.reference",
        "generation.cache",
    ),
    "ComputesInFloat64": ("gradients.reference", "gradients.accumulate", "gradients.complex_step"),
    "OtherFormulas": ("loss.extremes",),
    "GradientInAnotherOrder": ("gradients.extremes", "gradients.accumulate"),
    "GeluInPlace": ("gradients.accumulate",),
    "PackedWeights": ("training.resume", "determinism.repeat"),
    "FewNames": ("gradients.accumulate",),
    "LeavesNaNWhereItMay": ("training.steps", "determinism.repeat"),
    "DenormalsAreZero": ("gradients.extremes",),
    "StepsOneByOne": ("training.steps",),
    "DrawsByScanning": ("generation.sampling", "generation.chunks"),
    "TrainsWithoutGenerating": ("gradients.accumulate",),
    "GeneratesWithoutTraining": ("generation.chunks",),
}
"""What is odd about a control shows in these; the detection matrix runs every check on it."""
HONEST += [(CONTROLS[control].candidate, name) for control, names in ODD.items() for name in names]


@pytest.mark.parametrize(
    ("model", "name"),
    HONEST,
    ids=[f"{m.__module__}.{m.__name__}-{n}" for m, n in HONEST],
)
def test_honest_candidate_passes(model: type[Reference], name: str) -> None:
    verdict = CHECKS[name](model, Reference, 0)
    assert verdict.status is Status.PASS, (verdict.evidence, verdict.details.get("traceback"))
    assert verdict.check == name


class EvaluatesOnly(Reference):
    parts = frozenset({Operation.EVALUATION})


@pytest.mark.parametrize("name", NUMBERS)
def test_missing_part_is_not_applicable(name: str) -> None:
    verdict = CHECKS[name](EvaluatesOnly, Reference, 0)
    applies = CHECKS[name].needs == {Operation.EVALUATION}
    assert verdict.status is (Status.PASS if applies else Status.NOT_APPLICABLE)
    assert applies or "EvaluatesOnly does not offer" in verdict.evidence
