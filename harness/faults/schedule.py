"""Faults of the learning rate's schedule."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from cllm.harness.faults.catalogue import plant_parts
from cllm.training.schedule import learning_rate


def _falling_warmup(
    schedule: str, step: int, total_steps: int, *, peak: float, warmup: int
) -> float:
    if step <= warmup:
        return peak * (warmup + 1 - step) / warmup
    return learning_rate(schedule, step, total_steps, peak=peak, warmup=warmup)


def _from_zero(schedule: str, step: int, total_steps: int, *, peak: float, warmup: int) -> float:
    rate = learning_rate(schedule, step, total_steps, peak=peak, warmup=warmup)
    return peak * (step - 1) / warmup if step <= warmup else rate


def _after_warmup(schedule: str, step: int, total_steps: int, *, peak: float, warmup: int) -> float:
    if step > warmup and schedule == "cosine":
        warmup = 0
    return learning_rate(schedule, step, total_steps, peak=peak, warmup=warmup)


def _ends_at_zero(schedule: str, step: int, total_steps: int, *, peak: float, warmup: int) -> float:
    if schedule == "linear" and step > warmup:
        return peak * (total_steps - step) / max(1, total_steps - max(warmup, 1))
    return learning_rate(schedule, step, total_steps, peak=peak, warmup=warmup)


def _whole_wave(schedule: str, step: int, total_steps: int, *, peak: float, warmup: int) -> float:
    if schedule == "cosine" and step > warmup:
        start = max(warmup, 1)
        return peak * (1 + math.cos(2 * math.pi * (step - start) / (total_steps + 1 - start))) / 2
    return learning_rate(schedule, step, total_steps, peak=peak, warmup=warmup)


def _above_peak(schedule: str, step: int, total_steps: int, *, peak: float, warmup: int) -> float:
    """Warm-up without its end."""
    rate = learning_rate(schedule, step, total_steps, peak=peak, warmup=warmup)
    return peak * step / warmup if warmup and step == warmup + 1 else rate


class _Counting:
    """A schedule that counts its calls instead of the steps."""

    def __init__(self) -> None:
        self._run: Any = None
        self._calls = 0

    def __call__(self, schedule: str, step: int, total: int, *, peak: float, warmup: int) -> float:
        run = schedule, total, warmup
        self._calls = self._calls + 1 if run == self._run else 1
        self._run = run
        return learning_rate(schedule, min(self._calls, total), total, peak=peak, warmup=warmup)


for _name, _story, _rate in (
    ("WarmupFalls", "Warm-up that decreases", _falling_warmup),
    ("WarmupFromZero", "Warm-up from step 0: the first step does not move", _from_zero),
    ("WarmupForgottenInDecay", "A cosine that does not know of the warm-up before", _after_warmup),
    ("LastStepIsZero", "A linear schedule whose last step does not move", _ends_at_zero),
    ("CosineRisesAgain", "A cosine over the whole wave, which rises again", _whole_wave),
    ("AboveThePeak", "A warm-up that goes on one step above the peak", _above_peak),
    ("CountsItsCalls", "A schedule that counts its calls instead of the steps", _Counting()),
):
    plant_parts(_name, _story, "training.schedule", learning_rate=_rate)


def _float32(schedule: str, step: int, total_steps: int, *, peak: float, warmup: int) -> float:
    """Computed in float32."""
    one, top = np.float32(1), np.float32(peak)
    if step <= warmup:
        return float(top * np.float32(step) / np.float32(warmup))
    start = np.float32(max(warmup, 1))
    progress = (np.float32(step) - start) / (np.float32(total_steps) + one - start)
    if schedule == "linear":
        return float(top * (one - progress))
    if schedule == "cosine":
        return float(top * (one + np.cos(np.float32(math.pi) * progress)) / np.float32(2))
    return float(np.float32(learning_rate(schedule, step, total_steps, peak=peak, warmup=warmup)))


plant_parts("ScheduleInFloat32", "Odd: a schedule in float32", learning_rate=_float32)
