"""What commands that measure speed are told: which sizes, and with how many threads."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from cllm.harness.bench.configurations import CONFIGURATIONS, Configuration, read_configurations

Command = TypeVar("Command", bound=Callable[..., Any])


def configuration_options(default: str) -> Callable[[Command], Command]:
    """--configuration and --configurations; `default` says what is measured without both."""

    def add(command: Command) -> Command:
        command = click.option(
            "--configurations",
            "file",
            metavar="FILE",
            type=click.Path(dir_okay=False, path_type=Path),
            help="Measure sizes of one's own: a TOML file with a table for each.",
        )(command)
        return click.option(
            "--configuration",
            "configurations",
            type=click.Choice(list(CONFIGURATIONS)),
            multiple=True,
            help="Sizes to measure; may be given again.  "
            f"[default: {default}, or those of --configurations]",
        )(command)

    return add


threads_option = click.option(
    "--threads",
    type=click.IntRange(1, 1024),
    multiple=True,
    help="Threads of the models; may be given again.  [default: 1 and every usable core]",
)


def chosen_configurations(
    names: Sequence[str], file: Path | None, default: Iterable[str]
) -> list[Configuration]:
    """Those named, each once, and those of the file; the default where there are neither.

    Raises `CllmError` for a file that does not hold configurations.
    """
    own = () if file is None else read_configurations(file)
    chosen = names or (() if own else default)
    return [*(CONFIGURATIONS[name] for name in dict.fromkeys(chosen)), *own]


def thread_counts(given: Sequence[int] | None) -> list[int]:
    """In order, each once: those given, or 1 and every usable core."""
    return sorted(set(given or (1, len(os.sched_getaffinity(0)))))
