"""The optimized model with extra work in its step: a slowdown whose size is known.

The work is a chain of multiply-adds (`cllm.harness.probe.loops.chain`) on the thread that calls
the step; the environment says how many. With none of them it is the base, so that nothing else
differs.
"""

from __future__ import annotations

import os
from typing import Any

from cllm.harness.probe.loops import chain
from cllm.registry import find_model

VARIABLE = "CLLM_EXTRA_WORK"
"""Multiply-adds a step."""

NAME = f"{__name__}:Slowed"


class Slowed(find_model("optimized")):  # type: ignore[misc]
    """Computes the same, and takes longer."""

    _extra = int(os.environ.get(VARIABLE, "0"))

    def _step(self, *arguments: Any) -> Any:
        chain(self._extra)
        return super()._step(*arguments)
