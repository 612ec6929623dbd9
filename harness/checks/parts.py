"""What the checks of a trainer's parts share: what they need, and a folder of their own.

A check yields what is wrong, one line a problem; the first one is the evidence of a failure.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from functools import wraps
from pathlib import Path
from typing import Any

from cllm.harness.checks.check import Check, Kind, check
from cllm.harness.differences import first_of
from cllm.harness.trainer.parts import OURS, TrainerParts
from cllm.harness.verdict import Verdict

Problems = Iterator[str]
"""What is wrong, one line each."""

Function = Callable[[Any, Any, int, Path], Problems]
"""Of the candidate's parts, the reference's, a seed and an empty folder."""

LIMIT = 15.0
"""Seconds: an honest candidate takes less than one."""


def check_parts(name: str, *parts: str, held: str) -> Callable[[Function], Check]:
    """Make a generator of problems a check of these parts; `held` is the evidence of a pass."""

    def make(function: Function) -> Check:
        @wraps(function)
        def run(candidate: TrainerParts, reference: TrainerParts | None, seed: int) -> Verdict:
            with tempfile.TemporaryDirectory() as folder:
                problems = function(candidate, reference or OURS, seed, Path(folder).resolve())
                return first_of(problems, held)

        return check(name, *parts, kind=Kind.TRAINER, limit=LIMIT)(run)

    return make
