"""The optimized model: Cython and OpenMP, the mirror of `cllm.reference`, file by file."""

import os

# GNU's OpenMP reads this once, when it is loaded. Left alone, its threads spin between regions,
# and on a busy machine keep the core from the thread that they wait for: a step then takes a
# hundred times as long. The environment is left as it was.
_policy = os.environ.get("OMP_WAIT_POLICY")
os.environ["OMP_WAIT_POLICY"] = _policy or "passive"
try:
    from cllm.optimized.model import Model
finally:
    if _policy is None:
        del os.environ["OMP_WAIT_POLICY"]
    else:
        os.environ["OMP_WAIT_POLICY"] = _policy

__all__ = ["Model"]
