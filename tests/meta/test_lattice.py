"""Faults of the lattice's parts are caught; honest models pass, with the parts that they have."""

from __future__ import annotations

import re

import pytest

from cllm.harness import CHECKS, Status
from cllm.harness.faults import FAULTS
from cllm.lattice.parts import SHARED
from cllm.reference import Model as Reference
from cllm.registry import find_model

NAMES = (
    "lattice.value",
    "lattice.distances",
    "lattice.gradients",
    "lattice.training",
    "lattice.generation",
)

FAULTY = [
    fault.name for fault in FAULTS.values() if fault.candidate.__module__.endswith("faults.lattice")
]


@pytest.mark.parametrize("fault", FAULTY)
def test_fault_is_caught_by_all_that_are_named_for_it(fault: str) -> None:
    for name in FAULTS[fault].caught_by:
        verdict = CHECKS[name](FAULTS[fault].candidate, Reference, 2)
        assert verdict.status is Status.FAIL, verdict.evidence
        assert re.search(r" lattice (attention|symmetry|loss|positions)", verdict.evidence)


def test_every_check_has_a_fault() -> None:
    assert {FAULTS[fault].caught_by[0] for fault in FAULTY} == {*NAMES}


@pytest.mark.parametrize("name", [*NAMES, "determinism.threads"])
@pytest.mark.parametrize("model", ["reference", "optimized"])
def test_honest_model_passes(model: str, name: str) -> None:
    verdict = CHECKS[name](find_model(model), Reference, 1)
    assert verdict.status is Status.PASS, verdict.evidence


class Plain(Reference):
    lattice_parts = SHARED


@pytest.mark.parametrize("name", NAMES)
def test_who_lacks_a_part_is_not_asked_for_it(name: str) -> None:
    verdict = CHECKS[name](Plain, Reference, 1)
    without = Status.NOT_APPLICABLE if name == "lattice.distances" else Status.PASS
    assert verdict.status is without, verdict.evidence
