"""The learning rate of each step.

Promises: a pure function of the step, so that a resumed run sees the rates of one never stopped.
Leaves out: the optimizer (`cllm.Update`).
"""

from __future__ import annotations

import math

from cllm.errors import CllmError

SCHEDULES = ("constant", "linear", "cosine", "step")


def learning_rate(schedule: str, step: int, total_steps: int, *, peak: float, warmup: int) -> float:
    """The learning rate of `step`, which counts from 1 to `total_steps`.

    The warm-up is a straight line (Goyal et al. 2017, section 2.2), the same for every schedule
    and never cut short: with s the step, n all steps and w the warm-up,

        s <= w:     peak · s / w

    Then, with p = (s - max(w,1)) / (n + 1 - max(w,1)):

        constant:   peak
        linear:     peak · (1 - p)
        cosine:     peak · (1 + cos(pi p)) / 2                      (Loshchilov & Hutter 2016)
        step:       peak while s <= n/2, a tenth of it while s <= 3n/4, then a hundredth
                    (He et al. 2015, section 4.2)

    Linear and cosine would be 0 at step n + 1, so that the last step still moves.

    Raises `CllmError` for an unknown schedule, a step outside 1..total_steps, or a negative
    warm-up.
    """
    if schedule not in SCHEDULES:
        raise CllmError(f"schedule must be one of {', '.join(SCHEDULES)}: got {schedule!r}")
    if not 1 <= step <= total_steps:
        raise CllmError(f"step must be in 1..{total_steps}: got {step}")
    if warmup < 0:
        raise CllmError(f"warmup must be at least 0 steps: got {warmup}")
    if step <= warmup:
        return peak * (step / warmup)  # in this order nothing overflows, here and below
    start = max(warmup, 1)
    progress = (step - start) / (total_steps + 1 - start)
    if schedule == "linear":
        return peak * (1 - progress)
    if schedule == "cosine":
        return peak * ((1 + math.cos(math.pi * progress)) / 2)
    if schedule == "step" and 4 * step > 3 * total_steps:
        return peak / 100
    if schedule == "step" and 2 * step > total_steps:
        return peak / 10
    return peak
