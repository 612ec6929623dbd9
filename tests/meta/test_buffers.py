"""Each buffer's both ends, reads and writes: whoever is off by one is caught, and named."""

from __future__ import annotations

import itertools
import os
from typing import Any

import numpy as np
import pytest

from cllm.config import Config
from cllm.harness import isolation
from cllm.harness.cases import Case, Setting, draw_case
from cllm.harness.checks import CHECKS
from cllm.harness.faults import CONTROLS, FAULTS
from cllm.harness.faults.bounds import touching
from cllm.harness.faults.catalogue import check_fault
from cllm.harness.guard import Side
from cllm.harness.guard.guarded import live
from cllm.harness.verdict import Status, Verdict
from cllm.plan import Operation, Role
from cllm.reference import Model as Reference
from cllm.registry import find_model

OWN = [name for name in CHECKS if name.startswith("buffers.") or name == "threads.workers"]
LIMIT = 60.0
SETTING = Setting(Config(7, 6, 1, 2, 3), 2, 3)


def called_in(operations: frozenset[Operation], role: Role) -> str:
    """A method that every plan with such a buffer runs."""
    if role in (Role.GRADIENT, Role.OPTIMIZER_STATE):
        return "_update"
    return "_forward" if Operation.EVALUATION in operations else "_append"


def trespasses(model: str) -> list[tuple[str, ...]]:
    """Every buffer of a model, at both ends, read and written, and what a guard must say of it."""
    kind = find_model(model)
    setting = SETTING
    plan = kind.plan(setting.config, setting.batch_size, setting.seq_len, operations=kind.parts)
    found: list[tuple[str, ...]] = []
    for name, buffer in plan.buffers.items():
        during = called_in(plan.operations, buffer.role)
        for end, access in itertools.product(("end", "start"), ("reads", "writes")):
            line = "out of bounds: {} {}, {} bytes {} (buffer of {:,} bytes)".format(
                "read of" if access == "reads" else "write to",
                name,
                buffer.dtype.itemsize,
                "past its end" if end == "end" else "before its start",
                buffer.nbytes,
            )
            found.append((line, name, end, access, during))
    return found


def trespass(candidate: Any, case: Case, end: str) -> str:
    """The first line that a guard says of a candidate, in a process forked from this one."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.dup2(writer, 2)
            live(candidate, case, Side(end))
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader, errors="replace") as pipe:  # noqa: PTH123
        said = pipe.read()
    os.waitpid(child, 0)
    return said.partition("\n")[0]


def trespass_everywhere(model: str) -> Verdict:
    kind, case = find_model(model), draw_case(SETTING, 0)
    missed = [
        f"{said!r} instead of {line!r}"
        for line, name, end, access, during in trespasses(model)
        if (said := trespass(touching(kind, name, end, access, during), case, end)) != line
    ]
    return Verdict(Status.FAIL if missed else Status.PASS, "; ".join(missed))


@pytest.mark.parametrize("model", ["reference", "optimized"])
def test_off_by_one_is_caught_at_every_end(model: str) -> None:
    verdict = isolation.isolate(trespass_everywhere, model, limit=LIMIT)
    assert verdict.status is Status.PASS, verdict.evidence
    assert len(trespasses(model)) > 100


def evidence(fault: str) -> str:
    """Of the check named for a planted fault, in a process of its own."""
    check = FAULTS[fault].caught_by[0]
    verdict = isolation.isolate(check_fault, fault, check, 0, limit=LIMIT)
    assert verdict.status is Status.FAIL, verdict
    return verdict.evidence


EVIDENCE = {
    "ZeroesAllOfAnEmbedding": "write to embedding_gradients, 232,960 bytes past its end",
    "HalfABufferOfMoments": "write to packed_moments, ",
    "OverrunsInAThread": "write to logits, 4 bytes past its end",
    "FillsAWholeVector": "write to aligned, 12 bytes past its end (buffer of 20 bytes), found",
    "RoundsAddressesDown": "logits [0, 0, 0] is nan",
    "TidiesTheParameters": "write to parameters, which may only be read, at byte ",
    "LossStartsTheGradients": "write to gradients, which may only be read, at byte ",
    "MasksTheTargets": "write to the caller's targets, which may only be read, at byte ",
    "AddsToWhatIsThere": "logits [0, 0, 0] is nan, where zeroed buffers give ",
    "ReadsAnOldIndex": "IndexError: index -2147483648 ",
    "LastTokenNotWritten": "logits of a smaller batch [0, 7, 0] is nan, where zeroed ",
    "KeepsTheLargestLoss": "loss [] is ",
    "HandsOutEarlierLogits": "logits [0, 0, 0] is ",
    "FreesItsParameters": "read of parameters, 8 bytes before its start",
    "FreesTheTokens": "read of the caller's tokens, 8 bytes before its start",
    "HoldsOnlyAddresses": "write to parameters, which has been released, at byte ",
    "ReadsTheTokensLater": "read of the caller's tokens, which has been released, at byte 0",
    "TakesAnySize": "positions one row short was not refused",
    "TakesOverlaps": "parameters overlapping positions was not refused",
    "ZeroesBeforeItLooks": "parameters [0",
    "TakesAnyId": "tokens [0, 0] is 7, but 0 before forward of tokens with 7 at [0, 0] was",
    "ChecksAsItGoes": "parameters [0] is ",
    "AnyOrder": "step of what is used up was not refused",
    "WrapsItsSizes": "a batch of 2147483647 rows of 2147483647 tokens was not refused",
    "FourOfTwelveWorkers": "forward: 4 of 12 planned threads wrote to the buffers",
    "OneDoesAllTheWork": "forward: 1 of 2 planned threads wrote to the buffers",
    "BackwardAlone": "backward: 1 of 2 planned threads wrote to the buffers",
}
"""What the evidence of each fault opens with, but for the generated ones."""


@pytest.mark.parametrize("fault", EVIDENCE)
def test_evidence_says_where(fault: str) -> None:
    found = FAULTS[fault]
    if EVIDENCE[fault].startswith(("read", "write")):
        said = evidence(fault)
    else:  # it goes on living
        said = CHECKS[found.caught_by[0]](found.candidate, Reference, 0).evidence
    assert said.startswith(EVIDENCE[fault])


def test_an_overrun_names_the_line_that_made_the_call() -> None:
    said = evidence("WritesPastLogits")
    assert said.startswith("write to logits, 4 bytes past its end")
    assert ", called at " in said
    assert "bounds.py:" in said


def test_every_such_fault_is_among_these() -> None:
    """The off by one are generated; of the others none is left without its evidence."""
    planted = {
        name
        for name, fault in FAULTS.items()
        if fault.caught_by[0] in OWN and not name.startswith(("Reads", "Writes"))
    }
    assert planted == set(EVIDENCE) - {"ReadsAnOldIndex", "ReadsTheTokensLater"}


@pytest.mark.parametrize(
    ("control", "check"),
    [
        ("DemandsAlignment", "buffers.bounds"),
        ("DemandsAlignment", "buffers.refused"),
        ("RoundsByAlignment", "buffers.bounds"),
        ("RoundsByAlignment", "buffers.stale"),
        ("RowsInThreads", "threads.workers"),
    ],
)
def test_odd_but_correct_models_pass(control: str, check: str) -> None:
    verdict = CHECKS[check](CONTROLS[control].candidate, Reference, 0)
    assert verdict.status is Status.PASS, verdict


def test_a_serial_model_need_not_use_threads() -> None:
    verdict = CHECKS["threads.workers"](Reference, Reference, 0)
    assert verdict.status is Status.NOT_APPLICABLE


def of_one_part(part: str, check: str) -> Verdict:
    kind: Any = type("Partly", (Reference,), {"parts": frozenset({Operation(part)})})
    return CHECKS[check](kind, Reference, 0)


@pytest.mark.parametrize("check", [name for name in OWN if name != "threads.workers"])
def test_models_that_only_evaluate_are_checked(check: str) -> None:
    verdict = of_one_part("evaluation", check)
    assert verdict.status is Status.PASS, verdict


def test_rounding_is_told_from_a_mistake() -> None:
    """Where the bytes differ, the tolerance of the case decides."""

    class OffByAThousandth(Reference):
        def _forward(self, *arguments: Any) -> None:
            super()._forward(*arguments)
            logits = self.activations()["logits"]
            if logits.ctypes.data % 64 and logits.dtype == np.float32:
                logits *= np.float32(1.001)

    verdict = CHECKS["buffers.bounds"](OffByAThousandth, Reference, 0)
    assert verdict.status is Status.FAIL
    assert verdict.evidence.startswith("logits [")
    assert "guarded at the end of each buffer" in verdict.evidence
