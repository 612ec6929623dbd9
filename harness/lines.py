"""Whose line of Python it is: of a stack that one is named which the candidate's author needs.

Promises: a candidate's line comes before the interface's, and that before all others.
"""

from __future__ import annotations

import sysconfig
from functools import cache
from pathlib import Path

import numpy as np

import cllm

_HARNESS = Path(__file__).parent
_INTERFACE = Path(cllm.__file__).parent
_NUMPY = Path(np.__file__).parent
_STANDARD = Path(sysconfig.get_path("stdlib"))


@cache
def strangeness(file: str) -> int:
    """How far a line of this source file is from the candidate: its author looks at the least.

    0 is a candidate's own, and so is a planted fault, the reference and the optimized model; 1 the
    interface's, every model's base; 2 the harness's, NumPy's or Python's.
    """
    path = Path(file)
    standard = _STANDARD in path.parents and "site-packages" not in path.parts
    harness = _HARNESS in path.parents and _HARNESS / "faults" not in path.parents
    if standard or harness or _NUMPY in path.parents:
        return 2
    return 1 if path.parent == _INTERFACE else 0
