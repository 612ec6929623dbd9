"""CLLM: train and run a small transformer in two implementations held against each other.

`cllm.reference.Model` is the specification in NumPy, `cllm.optimized.Model` the fast one in
Cython and OpenMP; both are a `cllm.Model`. Importing this package imports NumPy alone.
"""

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
