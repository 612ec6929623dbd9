"""Cheating is caught, named, and leaves the process that judges whole."""

from __future__ import annotations

import os
import sys
import threading
import time

import numpy as np
import pytest

from cllm.harness import CHECKS, Status, Verdict, tolerance
from cllm.harness.faults import CONTROLS, FAULTS
from cllm.harness.honesty.clocks import wrong_clocks
from cllm.harness.honesty.seal import Seal, name_some
from cllm.harness.honesty.unobserved import settle, unobserved
from cllm.harness.isolation import isolate
from cllm.reference import Model as Reference
from cllm.registry import find_model

NAMES = [name for name in CHECKS if name.startswith("honesty.")]
CHEATS = [
    (fault.name, check)
    for fault in FAULTS.values()
    if fault.candidate.__module__.endswith(("faults.honesty", "faults.tampering"))
    for check in fault.caught_by
]
EVIDENCE = {
    "RightTenTimes": "wrong in call 11 of one model",
    "WrongInOneCall": "wrong in call 197 of one model",
    "UpdatesInAThread": "update returned before its work was done: parameters [0]",
    "ForwardInAThread": "forward returned before its work was done: logits",
    "UpdatesWhenLookedAt": "left its work to whoever looks: parameters",
    "SlowsTheClock": "tampered with time.perf_counter",
    "RewritesCode": "tampered with the code of cllm.harness.tolerance.compare",
    "ShadowsABuiltin": "tampered with cllm.harness.tolerance.max",
    "EverythingIsFinite": "tampered with numpy.isfinite",
    "ChangesTheMedian": "tampered with statistics.median",
    "AnswersForTheCheck": "tampered with multiprocessing.connection.Connection.send",
    "HandsBackTheInput": "forward handed its input back",
}


@pytest.mark.parametrize(("name", "check"), CHEATS)
def test_cheat_is_caught(name: str, check: str) -> None:
    verdict = CHECKS[check](FAULTS[name].candidate, Reference, 1)
    assert verdict.status is Status.FAIL, verdict.evidence
    if check.startswith("honesty."):
        assert EVIDENCE.get(name, "") in verdict.evidence
    assert Seal().mend() == []
    assert wrong_clocks() == []


@pytest.mark.parametrize("check", NAMES)
@pytest.mark.parametrize(
    "model",
    [
        Reference,
        find_model("optimized"),
        CONTROLS["WorksInAPool"].candidate,
        CONTROLS["HandsOutCopies"].candidate,
    ],
)
def test_honest_model_passes(model: type[Reference], check: str) -> None:
    verdict = CHECKS[check](model, Reference, 1)
    assert verdict.status is Status.PASS, verdict.evidence


def loosen() -> Verdict:
    """Pass by other tolerances."""
    tolerance.compare_tensors = lambda *_: []
    return Verdict(Status.PASS, "all is well")


def hold() -> Verdict:
    """Pass by nothing."""
    return Verdict(Status.PASS, "all is well")


def test_a_verdict_by_tampered_tolerances_fails_in_its_process() -> None:
    verdict = isolate(loosen, limit=20.0)
    assert verdict.status is Status.FAIL
    assert "tampered with cllm.harness.tolerance.compare_tensors" in verdict.evidence
    assert "the check had said pass" in verdict.evidence
    assert isolate(hold, limit=20.0).status is Status.PASS


def test_a_seal_names_and_mends() -> None:
    real_abs, real_pass, real_check = np.abs, Status.PASS, CHECKS["loss.value"]
    seal = Seal()
    np.abs = lambda x: 0 * x  # type: ignore[assignment,misc]
    type.__setattr__(Status, "PASS", "fail")
    CHECKS["loss.value"] = CHECKS["loss.rows"]
    broken = seal.mend()
    named = {
        "numpy.abs",
        "cllm.harness.verdict.Status.PASS",
        "cllm.harness.checks.CHECKS.loss.value",
    }
    assert named <= set(broken)
    assert np.abs is real_abs
    assert Status.PASS is real_pass
    assert CHECKS["loss.value"] is real_check
    assert seal.mend() == []


def test_names_are_said_once() -> None:
    assert name_some(["a", "b", "a"]) == "a, b"
    assert name_some(list("abcde")) == "a, b, c and 2 more"


@pytest.mark.parametrize("clock", ["time", "perf_counter_ns", "process_time"])
def test_a_shifted_clock_is_named(monkeypatch: pytest.MonkeyPatch, clock: str) -> None:
    real = getattr(time, clock)
    assert wrong_clocks() == []
    monkeypatch.setattr(time, clock, lambda: real() - (1_000_000 if "ns" in clock else 1e-3))
    assert wrong_clocks() == [f"time.{clock}"]


def test_nothing_tells_of_a_test(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLLM_TELLING", "1")

    script = """
        import os, sys
        names, frame = [], sys._getframe()
        while frame is not None:
            names.append(frame.f_globals.get("__name__", ""))
            frame = frame.f_back
        environment, modules, arguments = dict(os.environ), set(sys.modules), list(sys.argv)
    """
    seen = unobserved(script, {"given": 1})
    assert set(seen["names"]) == {"__main__", "threading"}
    assert seen["given"] == 1
    assert not {"PYTEST_CURRENT_TEST", "CLLM_TELLING"} & set(seen["environment"])
    assert not {"pytest", "cllm.harness", "cllm.harness.checks.honesty"} & seen["modules"]
    assert seen["arguments"] == ["train.py"]
    assert os.environ["CLLM_TELLING"] == "1"
    assert "pytest" in sys.modules


def test_what_is_raised_unobserved_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        unobserved("1 // 0", {})
    assert "cllm.harness" in sys.modules


def test_settle_waits_for_new_threads() -> None:
    before, go = threading.enumerate(), threading.Event()
    done: list[int] = []
    worker = threading.Thread(target=lambda: (go.wait(), done.append(1)))
    worker.start()
    go.set()
    settle(before)
    assert done == [1]
