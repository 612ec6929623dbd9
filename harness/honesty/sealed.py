"""The seal of a process that judges, taken when this is imported: before any candidate is.

The fork server imports it once, so that its children need not take their own.
"""

from __future__ import annotations

from dataclasses import replace

from cllm.harness.honesty.seal import Seal, name_some
from cllm.harness.verdict import Status, Verdict

_SEAL = Seal()


def confirm(verdict: Verdict) -> Verdict:
    """The verdict, or a failure where what it rests on was tampered with."""
    if broken := _SEAL.mend():
        evidence = f"tampered with {name_some(broken)}; the check had said {verdict.status}"
        return replace(verdict, status=Status.FAIL, evidence=evidence)
    return verdict
