"""The table of checks, one file for each family.

A check is called as `check(candidate, reference, seed)` and gives a `Verdict`. They stand in the
order of causes: where one fails, those after it may fail for no other reason.
"""

from __future__ import annotations

from cllm.harness.checks import (
    batches,
    buffers,
    checkpoint,
    data,
    determinism,
    extremes,
    freed,
    generation,
    gradients,
    honesty,
    loss,
    memory,
    pair,
    pairmemory,
    races,
    refusals,
    schedule,
    training,
    vocabulary,
    workers,
)
from cllm.harness.checks.check import Check

CHECKS: dict[str, Check] = {
    check.name: check
    for check in (
        refusals.sizes,
        refusals.buffers,
        refusals.batches,
        buffers.bounds,
        buffers.inputs,
        buffers.unwritten,
        buffers.stale,
        freed.freed,
        loss.value,
        loss.causal,
        loss.rows,
        extremes.loss,
        gradients.against_reference,
        gradients.complex_step,
        gradients.accumulate,
        extremes.gradients,
        training.update,
        training.moments,
        training.step,
        training.steps,
        training.resume,
        gradients.moves,
        loss.trajectory,
        loss.learns,
        determinism.repeat,
        determinism.threads,
        workers.workers,
        races.threads,
        generation.cache,
        generation.sampling,
        generation.chunks,
        memory.leaks,
        memory.models,
        memory.steady,
        memory.left,
        honesty.replay,
        honesty.endures,
        honesty.deferred,
        honesty.tampering,
        honesty.detects,
        pair.values,
        pairmemory.bounds,
        pair.aliasing,
        pair.stale,
        pair.repeat,
        pair.threads,
        pairmemory.refuses,
        pairmemory.indices,
        data.files,
        data.tokens,
        data.released,
        vocabulary.vocabulary,
        batches.epoch,
        batches.targets,
        data.short,
        checkpoint.roundtrip,
        checkpoint.hostile,
        checkpoint.atomic,
        schedule.schedule,
        schedule.initialization,
        schedule.accumulation,
        schedule.epochs,
        schedule.resumed,
    )
}
"""Every check by dotted name, in the order in which they run."""

__all__ = ["CHECKS", "Check"]
