"""Planted faults, each with the check that must catch it, and controls that are odd but correct.

Most are small subclasses of the reference, which this folder alone of the harness imports.
"""

from cllm.harness.faults import determinism, generation, gradients, loss, training
from cllm.harness.faults.catalogue import CONTROLS, FAULTS, Fault

__all__ = [
    "CONTROLS",
    "FAULTS",
    "Fault",
    "determinism",
    "generation",
    "gradients",
    "loss",
    "training",
]
