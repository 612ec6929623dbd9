"""Faults of threads and of speed are caught, in processes of their own; honest models pass."""

from __future__ import annotations

import subprocess
import sys

import pytest

from cllm.harness import CHECKS, Status
from cllm.harness.faults import CONTROLS, FAULTS
from cllm.harness.faults.catalogue import check_fault
from cllm.harness.isolation import isolate
from cllm.harness.surroundings import surroundings
from cllm.plan import Operation
from cllm.reference import Model as Reference
from cllm.registry import find_model

NAMES = ("threads.counts", "threads.state", "threads.callers", "threads.fork", "speed.denormals")

EVIDENCE = {
    "DividesByTheOtherThreads": "ZeroDivisionError",
    "RowsWithoutAThread": ", 8 threads",
    "LeavesDenormalsFlushed": "after step 2**-1022 / 4 is 0x0.0p+0",
    "LeavesRoundingUp": "after step 1 + 1e-20 is 0x1.0000000000001p+0",
    "ReseedsNumPy": "after creation the state of np.random",
    "DrawsFromRandom": "after generation the state of random",
    "SilencesNumPy": "after step np.geterr()['divide'] is warn, and was ignore",
    "TakesTheInterrupt": "after creation the handler of SIGINT is 1",
    "HangsAfterFork": "a forked child hung",
    "SharesItsActivations": "beside another thread",
    "SharesItsContext": "what generation returned",
    "SlowOnDenormalActivations": "times as long with denormal weights",
    "SlowOnDenormalGradients": "step takes",
    "SlowManySteps": "steps takes",
    "SlowGeneration": "generate takes",
    "SlowOnDenormalMoments": "times as long with denormal gradients and moments",
}


@pytest.mark.parametrize("fault", EVIDENCE)
def test_fault_is_caught(fault: str) -> None:
    verdict = isolate(check_fault, fault, FAULTS[fault].caught_by[0], 0, limit=20.0)
    assert verdict.status is Status.FAIL
    assert EVIDENCE[fault] in verdict.evidence


def test_who_ignores_interrupts_finds_it_all_the_same() -> None:
    """As a shell makes what it runs in the background."""
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN);"
        "from cllm.harness.faults.catalogue import check_fault;"
        "from cllm.harness.isolation import isolate;"
        "print(isolate(check_fault, 'TakesTheInterrupt', 'threads.state', 0, limit=60.0).status)"
    )
    run = [sys.executable, "-P", "-c", code]
    assert subprocess.run(run, capture_output=True, text=True, check=True).stdout == "fail\n"


def test_every_fault_is_here() -> None:
    ours = {
        fault.name
        for fault in FAULTS.values()
        if fault.candidate.__module__.endswith(("faults.threads", "faults.speed"))
    }
    assert ours == {*EVIDENCE, "StepNeverEnds", "StepWaitsForever"}
    assert all(FAULTS[name].hangs for name in ours - {*EVIDENCE})


@pytest.mark.parametrize("fault", ["StepNeverEnds", "StepWaitsForever"])
def test_a_hanging_step_is_ended_and_named(fault: str) -> None:
    verdict = isolate(check_fault, fault, "threads.counts", 0, limit=15.0)
    assert verdict.status is Status.FAIL
    assert "hung: no verdict within 15 s" in verdict.evidence
    assert "faults/threads.py" in verdict.evidence


HONEST = [(find_model(model), name) for model in ("reference", "optimized") for name in NAMES]
HONEST += [
    (CONTROLS["SumsInAnotherOrder"].candidate, "threads.callers"),
    (CONTROLS["WorksInAPool"].candidate, "threads.fork"),
    (CONTROLS["DenormalsAreZero"].candidate, "speed.denormals"),
    (CONTROLS["TrainsWithoutGenerating"].candidate, "threads.counts"),
    (CONTROLS["GeneratesWithoutTraining"].candidate, "speed.denormals"),
    (CONTROLS["GeneratesWithoutTraining"].candidate, "threads.callers"),
]


@pytest.mark.parametrize(("model", "name"), HONEST)
def test_honest_model_passes(model: type[Reference], name: str) -> None:
    verdict = CHECKS[name](model, Reference, 0)
    assert verdict.status is Status.PASS, verdict.evidence


class EvaluatesOnly(Reference):
    parts = frozenset({Operation.EVALUATION})


@pytest.mark.parametrize("name", NAMES)
def test_less_is_needed_than_training(name: str) -> None:
    verdict = CHECKS[name](EvaluatesOnly, Reference, 0)
    training = name == "threads.counts"
    assert verdict.status is (Status.NOT_APPLICABLE if training else Status.PASS), verdict.evidence


def test_looking_around_changes_nothing() -> None:
    surroundings()
    assert surroundings() == surroundings()


def test_a_reference_that_flushes_denormals_shows_nothing() -> None:
    flushes = CONTROLS["DenormalsAreZero"].candidate
    verdict = CHECKS["speed.denormals"](Reference, flushes, 0)
    assert verdict.status is Status.INCONCLUSIVE
    assert "did not become denormal" in verdict.evidence
