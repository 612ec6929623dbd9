"""Which parts of the lattice a model has."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from cllm.check import check_number
from cllm.errors import CllmError

TERMS = ("geometric", "symmetry", "prime")
"""Of the lattice loss."""

LOSS_WEIGHTS = (0.01, 0.01, 0.01)

MOST_WEIGHT = 1000.0
"""Weights stay below it: beside a much larger loss the cross entropy would lose its digits."""


@dataclass(frozen=True)
class Lattice:
    """The parts by name; all are off unless asked for.

    Raises `CllmError` for what is neither true nor false, for weights outside [0, 1000), and for
    weights of a loss that is off.
    """

    attention: bool = False
    """Scores are lowered by the distances of tokens, each by a learned weight."""
    symmetry: bool = False
    """Queries and keys are turned by the class of their token."""
    loss: bool = False
    """Embeddings that lie as their tokens do cost less."""
    init: bool = False
    """The embedding starts as features of the tokens' places on the spiral."""
    positions: bool = False
    """Positions are told by the spiral and a clock of twelve hours."""
    loss_weights: tuple[float, float, float] = field(default=LOSS_WEIGHTS, kw_only=True)
    """Of the terms of the loss, in the order of `TERMS`."""

    def __post_init__(self) -> None:
        for name in PARTS:
            if not isinstance(getattr(self, name), bool):
                raise CllmError(
                    f"lattice {name} must be true or false: got {getattr(self, name)!r:.80}"
                )
        weights = self.loss_weights
        if not isinstance(weights, tuple | list) or len(weights) != len(TERMS):
            raise CllmError(
                f"lattice loss_weights must be {len(TERMS)} numbers, of the terms "
                f"{', '.join(TERMS)}: got {weights!r:.80}"
            )
        for term, weight in zip(TERMS, weights, strict=True):
            check_number(f"lattice loss weight {term}", weight, 0.0, MOST_WEIGHT)
        object.__setattr__(self, "loss_weights", tuple(map(float, weights)))
        if not self.loss and self.loss_weights != LOSS_WEIGHTS:
            raise CllmError(f"lattice loss_weights {self.loss_weights} need the lattice's loss")

    def __bool__(self) -> bool:
        return bool(self.parts)

    def __str__(self) -> str:
        return ",".join(self.parts) or "none"

    @property
    def told(self) -> str:
        """The parts in words, with the weights of the loss."""
        weights = ", ".join(f"{t} {w:g}" for t, w in zip(TERMS, self.loss_weights, strict=True))
        return ", ".join(f"loss ({weights})" if part == "loss" else part for part in self.parts)

    @property
    def parts(self) -> tuple[str, ...]:
        """The names of those that are on."""
        return tuple(name for name in PARTS if getattr(self, name))

    @classmethod
    def of(
        cls, names: Iterable[str], loss_weights: tuple[float, float, float] = LOSS_WEIGHTS
    ) -> Lattice:
        """Those named; `all` is every part, `none` no part. Raises `CllmError` for other names."""
        wanted: set[str] = set()
        for name in names:
            if name not in (*PARTS, "all", "none"):
                raise CllmError(f"lattice must be of {', '.join(PARTS)}, all or none: got {name!r}")
            wanted |= {*PARTS} if name == "all" else {name} - {"none"}
        return cls(**dict.fromkeys(wanted, True), loss_weights=loss_weights)

    def to_dict(self) -> dict[str, Any]:
        """The parts that are on, and the loss's weights, as `from_dict` takes them."""
        parts: dict[str, Any] = dict.fromkeys(self.parts, True)
        return parts | ({"loss_weights": [*self.loss_weights]} if self.loss else {})

    @classmethod
    def from_dict(cls, parts: Any) -> Lattice:
        """Rebuild from `to_dict`; raises `CllmError` for anything else."""
        if not isinstance(parts, dict) or not {*parts} <= {*PARTS, "loss_weights"}:
            raise CllmError(f"a lattice has the parts {', '.join(PARTS)}: got {parts!r:.80}")
        return cls(**parts)


PARTS = ("attention", "symmetry", "loss", "init", "positions")

SHARED = frozenset(("init", "positions"))
"""Those that every model has, as they lie in what it is given."""

PLAIN = Lattice()
"""No part."""
