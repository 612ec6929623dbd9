"""Planted faults, each with the check that must catch it, and controls that are odd but correct.

Most are small subclasses of the reference, which this folder alone of the harness imports.
"""

from cllm.harness.faults import (
    backward,
    batches,
    bounds,
    buffers,
    checkpoint,
    configurations,
    controls,
    data,
    determinism,
    forward,
    generation,
    gradients,
    honesty,
    loss,
    memory,
    pair,
    races,
    refusals,
    schedule,
    training,
    workers,
)
from cllm.harness.faults.catalogue import CONTROLS, FAULTS, Fault

__all__ = [
    "CONTROLS",
    "FAULTS",
    "Fault",
    "backward",
    "batches",
    "bounds",
    "buffers",
    "checkpoint",
    "configurations",
    "controls",
    "data",
    "determinism",
    "forward",
    "generation",
    "gradients",
    "honesty",
    "loss",
    "memory",
    "pair",
    "races",
    "refusals",
    "schedule",
    "training",
    "workers",
]
