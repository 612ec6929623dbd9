"""CLLM: train and run a small transformer in two implementations held against each other.

`cllm.reference.Model` is the specification in NumPy, `cllm.optimized.Model` the fast one in
Cython and OpenMP; both are a `cllm.Model`. Importing this package imports nothing else: what it
exports is imported when it is first asked for, and needs NumPy alone.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cllm.config import Config
    from cllm.decoder import Sampling
    from cllm.errors import CllmError
    from cllm.model import Model, Update
    from cllm.plan import Buffer, Operation, Plan, Role

__all__ = [
    "Buffer",
    "CllmError",
    "Config",
    "Model",
    "Operation",
    "Plan",
    "Role",
    "Sampling",
    "Update",
]
__version__ = "0.1.0"

_HOMES = {
    "Config": "config",
    "CllmError": "errors",
    "Model": "model",
    "Sampling": "decoder",
    "Update": "model",
}  # the others live in cllm.plan


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'cllm' has no attribute {name!r}")
    return getattr(import_module(f"cllm.{_HOMES.get(name, 'plan')}"), name)
