"""The optimized model: Cython and OpenMP, the mirror of `cllm.reference`, file by file."""

from cllm.optimized.model import Model

__all__ = ["Model"]
