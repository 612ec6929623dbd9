"""The checks of a trainer's parts catch their faults, say where, and let odd ones pass."""

import pytest

from cllm.harness import CHECKS, Status
from cllm.harness.checks.check import Kind
from cllm.harness.faults import CONTROLS, FAULTS, Fault
from cllm.harness.faults.catalogue import check_fault
from cllm.harness.isolation import isolate
from cllm.harness.trainer.parts import OURS

NAMES = [name for name, check in CHECKS.items() if check.kind is Kind.TRAINER]
MINE = [fault for fault in FAULTS.values() if fault.kind is Kind.TRAINER]
CRASHING = {"TokensFreedTwice", "AbortOnOneCharacter", "ReadPastTheEnd"}
ODD = {
    "LargestFileFirst": ("data.files", "data.tokens", "data.released"),
    "RemembersTexts": ("data.vocabulary",),
    "SortedBatches": ("data.epoch", "data.targets", "data.short"),
    "SavesTwice": ("checkpoint.roundtrip", "checkpoint.atomic", "training.resumed"),
    "ScheduleInFloat32": ("training.schedule",),
    "DrawnBackwards": ("training.initialization",),
    "AlwaysAccumulates": ("training.accumulation", "training.epochs", "training.resumed"),
}


@pytest.mark.parametrize(
    ("fault", "check"),
    [
        pytest.param(fault, check, id=f"{fault.name}-{check}")
        for fault in MINE
        for check in fault.caught_by
    ],
)
def test_fault_is_caught(fault: Fault, check: str) -> None:
    if fault.hangs or fault.name in CRASHING:
        limit = 3 if fault.hangs else CHECKS[check].limit
        verdict = isolate(check_fault, fault.name, check, 0, limit=limit)
    else:
        verdict = CHECKS[check](fault.candidate, None, 0)
    assert verdict.status is Status.FAIL, verdict.evidence


def test_every_check_of_a_trainer_has_a_fault() -> None:
    assert {check for fault in MINE for check in fault.caught_by} == {*NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_our_own_parts_pass(name: str) -> None:
    verdict = CHECKS[name](OURS, None, 1)
    assert verdict.status is Status.PASS, (verdict.evidence, verdict.details.get("traceback"))


@pytest.mark.parametrize(
    ("odd", "name"), [(odd, name) for odd, names in ODD.items() for name in names]
)
def test_odd_parts_pass(odd: str, name: str) -> None:
    verdict = CHECKS[name](CONTROLS[odd].candidate, None, 0)
    assert verdict.status is Status.PASS, (verdict.evidence, verdict.details.get("traceback"))


@pytest.mark.parametrize(
    ("fault", "check", "evidence"),
    [
        ("FilesSevenTimes", "data.files", "a.txt (1 bytes) is in the stream 7 times instead of 1"),
        ("IdsShiftedOnReload", "data.vocabulary", "token 4 is"),
        ("LastBatchDropped", "data.epoch", "is an input 0 times in an epoch (10 tokens, B 2 T 3)"),
        ("HeadCountReset", "checkpoint.roundtrip", "num_heads is 8 instead of"),
        ("StepCounterLost", "checkpoint.roundtrip", "step is 0 instead of"),
        ("LayerNormsNotSaved", "checkpoint.roundtrip", "layer0.ln1_gain [0] of the parameters"),
        ("WarmupFalls", "training.schedule", "tolerance"),
        ("ZeroWeights", "training.initialization", "no gradient flows into layer0.qkv_weight"),
        ("OutputForTwoLayers", "training.initialization", "layer0.ff_out_weight: standard dev"),
        ("EmbeddingForOneWidth", "training.initialization", "embedding: standard deviation"),
        ("ZeroRowsOnTheLattice", "training.initialization", "row 0 has the norm 0 instead of 0.42"),
        ("DrawnOffTheLattice", "training.initialization", "embedding row 0 has the norm"),
    ],
)
def test_the_evidence_says_where(fault: str, check: str, evidence: str) -> None:
    assert evidence in CHECKS[check](FAULTS[fault].candidate, None, 0).evidence


def test_a_double_free_is_a_crash_that_names_the_line() -> None:
    verdict = isolate(check_fault, "TokensFreedTwice", "data.released", 0, limit=15)
    assert "crashed by SIGABRT" in verdict.evidence
    assert "faults/data.py" in verdict.evidence
