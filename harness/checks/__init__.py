"""The table of checks, one file for each family.

A check is called as `check(candidate, reference, seed)` and gives a `Verdict`. They stand in the
order of causes: where one fails, those after it may fail for no other reason.
"""

from __future__ import annotations

from cllm.harness.checks import determinism, generation, gradients, loss, training
from cllm.harness.checks.check import Check

CHECKS: dict[str, Check] = {
    check.name: check
    for check in (
        loss.value,
        loss.causal,
        gradients.against_reference,
        gradients.complex_step,
        gradients.accumulate,
        training.update,
        training.moments,
        gradients.moves,
        loss.trajectory,
        loss.learns,
        determinism.repeat,
        determinism.threads,
        generation.cache,
    )
}
"""Every check by dotted name, in the order in which they run."""

__all__ = ["CHECKS", "Check"]
