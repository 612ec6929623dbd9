"""What leaks, allocates or stays behind is caught and named; what only looks like it passes."""

from __future__ import annotations

import ctypes
import subprocess
from pathlib import Path
from typing import Any

import pytest

from cllm.harness import CHECKS, Status, isolation
from cllm.harness.conformance.run import run_check
from cllm.harness.faults import CONTROLS, FAULTS
from cllm.harness.faults.catalogue import check_fault
from cllm.harness.verdict import Verdict
from cllm.reference import Model as Reference

isolation.preload("cllm.harness.faults")

OWN = [name for name in CHECKS if name.startswith("memory.")]

SOURCE = """\
#include <stdlib.h>
void *volatile kept;
void lose(size_t size)
{
    kept = malloc(size);
}
"""


def run(fault: str) -> Verdict:
    [check] = (FAULTS | CONTROLS)[fault].caught_by
    return isolation.isolate(check_fault, fault, check, 1, limit=CHECKS[check].limit)


@pytest.mark.parametrize("model", ["reference", "optimized"])
@pytest.mark.parametrize("check", OWN)
def test_honest_model_passes(model: str, check: str) -> None:
    verdict = isolation.isolate(run_check, model, check, None, 1, limit=60.0)
    claims = check != "memory.steady" or model == "optimized"
    assert verdict.status is (Status.PASS if claims else Status.NOT_APPLICABLE), verdict.evidence


@pytest.mark.parametrize("check", OWN)
def test_control_passes(check: str) -> None:
    verdict = isolation.isolate(check_fault, "KeepsThreeBlocks", check, 1, limit=60.0)
    assert verdict.status in (Status.PASS, Status.NOT_APPLICABLE), verdict.evidence


@pytest.mark.parametrize(
    ("fault", "evidence"),
    [
        ("LeaksABlockEachStep", ("each step leaks 64 bytes, ", "faults/memory.py:", "in _update")),
        ("LeaksUnseen", ("each step leaks ", "seen in the count of the C heap alone")),
        ("CachesByStep", ("each step leaks ", "faults/memory.py:", "in _forward")),
        ("LeaksPerToken", ("each round of ", "generation leaks ", "in _decode")),
        ("KeepsWhatItRefuses", ("each round of loads, refusals, ", " leaks ")),
        ("KeepsWhatItLoads", ("each round of loads, refusals, ", " leaks ")),
        ("LeaksAnObjectEachEpoch", ("each round of models leaks ", "plan.py:", "in allocate")),
        ("AllocatesInTheStep", ("1 allocations in a step ", "faults/memory.py:", "in _step")),
        ("LeavesAFileOpen", ("4 models left 4 file descriptors behind: ", "(/dev/null)")),
        ("LeavesAThread", ("4 models left 4 threads behind: ", "Thread-")),
        ("LeavesAProcess", ("4 models left 4 processes behind: process ",)),
        ("LeavesATemporaryFile", ("4 models left 4 temporary files behind: /",)),
        ("LeavesSharedMemory", ("4 models left 4 shared memory segments behind: psm_",)),
    ],
)
def test_evidence_names_the_place(fault: str, evidence: tuple[str, ...]) -> None:
    verdict = run(fault)
    assert verdict.status is Status.FAIL
    assert all(part in verdict.evidence for part in evidence), verdict.evidence


def test_shared_memory_is_gone_with_the_process() -> None:
    segments = run("LeavesSharedMemory").details["shared memory segments"]
    assert len(segments) == 4
    assert not any(Path("/dev/shm", name).exists() for name in segments)


def test_a_line_of_compiled_code_is_named(tmp_path: Path) -> None:
    source, library = tmp_path / "lose.c", tmp_path / "lose.so"
    source.write_text(SOURCE)
    command = ["cc", "-g", "-O2", "-fPIC", "-shared", str(source), "-o", str(library)]
    subprocess.run(command, check=True)
    lose = ctypes.CDLL(str(library)).lose
    lose.argtypes = [ctypes.c_size_t]

    class LosesABlock(Reference):
        def _update(self, *arguments: Any) -> None:
            super()._update(*arguments)
            lose(64)

    verdict = CHECKS["memory.leaks"](LosesABlock, Reference, 0)
    assert verdict.status is Status.FAIL
    assert verdict.evidence.startswith("each step leaks 64 bytes, allocated at "), verdict.evidence
    assert f"{source.resolve()}:5 in lose" in verdict.evidence
