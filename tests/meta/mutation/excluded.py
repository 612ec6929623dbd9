"""What is no mistake by rule: changes that make the model slower or faster and nothing else.

Each rule names functions or statements, and says why no result depends on them.
"""

from __future__ import annotations

import re

from mutation.mutants import Mutant

EXCLUDED_FILES = {
    "arguments.pyx": "no nogil code: it checks arguments",
    "kernels.pyx": "chooses the level, of which the build has one",
    "kernels/kernels.h": "declares, computes nothing but the sizes of scratch",
}

FUNCTIONS = {
    "gemm_fetch": "fetches ahead",
    "gemm_ahead": "says what is fetched ahead",
    "vec_stream": "stores the same past the caches",
    "vec_fence": "orders stores past the caches among threads that a barrier orders too",
    "flush_denormals": "speed on denormal numbers; that the caller's state comes back is a check",
}
"""Functions that are there for speed alone."""

STATEMENTS = {
    r"__builtin_prefetch|gemm_fetch|gemm_ahead|^next |\bstep\b.*a_col": "fetches ahead",
    r"a_col == 1 \? (a \+ \(mr|LINE / 2)": "says what is fetched ahead",
    r"SPINS|\bspins\b|ia32_pause": "how a thread waits at a barrier",
    r"^adam\.shared = ": "whether parameters are stored past the caches",
}
"""Statements that are there for speed alone, by what matches their text."""


def reason(mutant: Mutant) -> str:
    """Why this change is no mistake; empty where it may be one."""
    if mutant.function in FUNCTIONS:
        return FUNCTIONS[mutant.function]
    for pattern, why in STATEMENTS.items():
        if re.search(pattern, mutant.statement):
            return why
    if mutant.original in {"1", "16"} and re.search(
        rf"share\([^()]*, {mutant.original}, thread", mutant.statement
    ):
        return "the grain of a share: who computes a row, not what"
    return ""
