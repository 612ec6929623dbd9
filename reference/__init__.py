"""The reference model: pure NumPy, written to be read. It is the specification."""

from cllm.reference.model import Model

__all__ = ["Model"]
