"""Planted faults: small subclasses of the reference, each with the checks that must catch it."""

from faults import determinism, generation, gradients, loss, training
from faults.catalogue import FAULTS

__all__ = ["FAULTS", "determinism", "generation", "gradients", "loss", "training"]
