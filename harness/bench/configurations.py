"""The named configurations, and what is aimed at on each; and those of one's own, from a file.

Promises: a file is taken whole or refused, in one line with the file, the table, the key, its value
and what is allowed.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cllm.check import check_size
from cllm.config import SIZES as CONFIG_SIZES
from cllm.config import Config
from cllm.errors import CllmError
from cllm.harness.bench.task import Kind
from cllm.harness.cases import Setting

OPTIMIZED = "optimized"
"""The model whose aims these are."""


@dataclass(frozen=True)
class Configuration:
    """Sizes that are measured, under a name."""

    name: str
    setting: Setting
    calls_at_once: int
    """k, the steps that one call of `steps` takes; 1 where that is not measured."""
    generates: bool
    """Whether generation is measured."""
    aim: float | None = None
    """Times the steps per second of the best peer."""
    mfu_aim: float | None = None
    """Share of the measured peak, with every usable thread (tiny: with one)."""
    generation_aim: float | None = None
    """Times the tokens per second of the best peer."""

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The kinds of work that are measured."""
        steps = (Kind.STEPS,) if self.calls_at_once > 1 else ()
        return (Kind.STEP, *steps, *((Kind.GREEDY, Kind.SAMPLED) if self.generates else ()))

    def sizes(self, kind: Kind) -> dict[str, int]:
        """All sizes that decide how long a kind of work takes, by name."""
        setting = self.setting
        sizes = setting.config.sizes
        sizes |= {"batch_size": setting.batch_size, "seq_len": setting.seq_len}
        return sizes | ({"calls_at_once": self.calls_at_once} if kind is Kind.STEPS else {})


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

SIZES = (*CONFIG_SIZES, "batch_size", "seq_len")
OPTIONAL = ("steps_at_once", "generates")
NAME = re.compile(r"[\w-]+", re.ASCII)


def read_configurations(path: Path) -> tuple[Configuration, ...]:
    """The configurations of a TOML file, a table for each.

    A table has the sizes of `cllm.Config`, `batch_size` and `seq_len`; `steps_at_once` (1: only
    single steps are measured) and `generates` (false) may be left out.

    Raises `CllmError` where the file holds something else, or a name that is taken; `OSError`
    where it cannot be read.
    """
    try:
        tables = tomllib.loads(path.read_bytes().decode())
    except ValueError as error:
        raise CllmError(f"{path} is no TOML: {error}") from error
    if not tables:
        raise CllmError(f"{path} has no table: one is expected for each configuration")
    return tuple(_read(f"{path}: [{name}]", name, table) for name, table in tables.items())


def _read(where: str, name: str, table: Any) -> Configuration:
    if not isinstance(table, Mapping):
        raise CllmError(f"{where} must be a table of sizes: got {table!r}")
    if not NAME.fullmatch(name) or name in CONFIGURATIONS:
        raise CllmError(
            f"{where} must have a name of letters, digits, _ and -, other than "
            f"{', '.join(CONFIGURATIONS)}"
        )
    keys = (*SIZES, *OPTIONAL)
    if unknown := [key for key in table if key not in keys]:
        raise CllmError(f"{where} must have no key but {', '.join(keys)}: got {unknown[0]}")
    if missing := [key for key in SIZES if key not in table]:
        raise CllmError(f"{where} must have {', '.join(SIZES)}: {missing[0]} is missing")
    generates = table.get("generates", False)
    if not isinstance(generates, bool):
        raise CllmError(f"{where} generates must be true or false: got {generates!r}")
    try:
        *sizes, batch_size, seq_len = (check_size(key, table[key]) for key in SIZES)
        setting = Setting(Config(*sizes), batch_size, seq_len)
        at_once = check_size("steps_at_once", table.get("steps_at_once", 1))
    except CllmError as error:
        raise CllmError(f"{where} {error}") from error
    if generates and seq_len < 2:
        raise CllmError(f"{where} seq_len must be 2 or more to generate: got {seq_len}")
    return Configuration(name, setting, at_once, generates)
