"""The named configurations, and what is aimed at on each."""

from __future__ import annotations

from dataclasses import dataclass

from cllm.config import Config
from cllm.harness.cases import Setting


@dataclass(frozen=True)
class Configuration:
    """Sizes that are measured, under a name."""

    name: str
    setting: Setting
    calls_at_once: int
    """k, the steps that one call of `steps` takes; 1 where that is not measured."""
    generates: bool
    """Whether generation is measured."""
    aim: float
    """Times the steps per second of the best peer."""
    mfu_aim: float
    """Share of the measured peak, with every usable thread (tiny: with one)."""
    generation_aim: float | None = None
    """Times the tokens per second of the best peer."""


CONFIGURATIONS = {
    c.name: c
    for c in (
        Configuration("tiny", Setting(Config(27, 32, 1, 1, 128), 2, 8), 64, False, 3.5, 0.50),
        Configuration("small", Setting(Config(381, 64, 2, 4, 128), 4, 16), 32, True, 3.0, 0.63, 25),
        Configuration(
            "medium", Setting(Config(2000, 128, 4, 4, 512), 8, 64), 8, True, 1.75, 0.82, 9
        ),
        Configuration(
            "large", Setting(Config(4000, 256, 6, 8, 1024), 8, 128), 2, True, 1.4, 0.85, 8
        ),
        Configuration(
            "gpt2-ish", Setting(Config(10000, 512, 8, 8, 2048), 4, 256), 1, False, 1.3, 0.85
        ),
    )
}
