"""Options that several commands share, or that come from a dataclass of settings."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import click

from cllm.check import MAX_SIZE
from cllm.errors import CllmError
from cllm.lattice.parts import LOSS_WEIGHTS, PARTS, TERMS, Lattice
from cllm.training.settings import Range, RunSettings

Command = TypeVar("Command", bound=Callable[..., Any])

paths_argument = click.argument(
    "paths",
    metavar="PATH...",
    nargs=-1,
    required=True,
    type=click.Path(exists=True, path_type=Path),
)
model_argument = click.argument(
    "checkpoint", metavar="MODEL", type=click.Path(exists=True, path_type=Path)
)


json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object instead of lines."
)
cache_option = click.option(
    "--cache",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder that keeps texts as tokens; may be deleted.  "
    "[default: $XDG_CACHE_HOME/cllm or ~/.cache/cllm]",
)


class FiniteRange(click.FloatRange):
    """A range of numbers; NaN and infinity, which lie in every open one of click's, are refused."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """The number."""
        found: float = super().convert(value, param, ctx)
        if not math.isfinite(found):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return found


def _lattice(ctx: click.Context, option: click.Parameter, value: str) -> Lattice:
    """The parts, with commas between their names."""
    try:
        return Lattice.of(value.split(","))
    except CllmError as error:
        raise click.BadParameter(f"{error}.") from None


lattice_option = click.option(
    "--lattice",
    callback=_lattice,
    metavar="PART,...",
    default="none",
    show_default=True,
    help=f"Parts of the lattice that the model has: {', '.join(PARTS)}, or all.",
)


def _weights(ctx: click.Context, option: click.Parameter, value: str) -> tuple[float, ...]:
    """Numbers with commas between them."""
    try:
        weights = tuple(map(float, value.split(",")))
    except ValueError:
        raise click.BadParameter(f"{value!r} is no list of numbers.") from None
    try:
        return Lattice(loss=True, loss_weights=weights).loss_weights  # type: ignore[arg-type]
    except CllmError as error:
        raise click.BadParameter(f"{error}.") from None


lattice_weights_option = click.option(
    "--lattice-weights",
    callback=_weights,
    metavar="NUMBER,...",
    default=",".join(map(str, LOSS_WEIGHTS)),
    show_default=True,
    help=f"Weights of the terms of the lattice's loss: {', '.join(TERMS)}.",
)


def size_option(name: str, default: int, help: str) -> Callable[[Command], Command]:
    """An option for a positive integer."""
    return click.option(
        _flag(name), type=click.IntRange(min=1), default=default, show_default=True, help=help
    )


def settings_options(kind: type, only: tuple[str, ...] = ()) -> Callable[[Command], Command]:
    """One option for each field of a dataclass of `cllm.training.settings`, or for those named."""

    def decorate(command: Command) -> Command:
        for setting in reversed(fields(kind)):
            if only and setting.name not in only:
                continue
            limits: Range = setting.metadata["range"]
            command = click.option(
                _flag(setting.name),
                type=_type(type(setting.default), limits),
                default=setting.default,
                show_default=True,
                help=limits.help,
            )(command)
        return command

    return decorate


computing_options = settings_options(RunSettings, only=("model", "threads"))
"""--model and --threads."""


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _type(kind: type, limits: Range) -> Any:
    """The type of an option; `Settings` itself refuses what is beyond the largest sizes."""
    if kind is str:
        return click.Choice(limits.choices) if limits.choices else str
    if kind is int:
        return click.IntRange(
            int(limits.low), None if limits.high == MAX_SIZE else int(limits.high)
        )
    if limits.high == math.inf:
        return click.FloatRange(limits.low, min_open=limits.open_low)
    return click.FloatRange(limits.low, limits.high, limits.open_low, limits.open_high)
