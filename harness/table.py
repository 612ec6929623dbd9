"""The table of checks."""

from __future__ import annotations

from cllm.harness import determinism, generation, gradients, loss, training
from cllm.harness.checks import Check

CHECKS: dict[str, Check] = {
    check.name: check
    for check in (
        loss.value,
        loss.trajectory,
        loss.learns,
        loss.causal,
        gradients.against_reference,
        gradients.complex_step,
        gradients.accumulate,
        gradients.moves,
        training.moments,
        training.update,
        generation.cache,
        determinism.repeat,
        determinism.threads,
    )
}
"""Every check by dotted name, in the order in which they run."""
