"""Which parts of the lattice a model has."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any

from cllm.errors import CllmError


@dataclass(frozen=True)
class Lattice:
    """The parts by name; all are off unless asked for.

    Raises `CllmError` for what is neither true nor false.
    """

    symmetry: bool = False
    """Queries and keys are turned by the class of their token."""
    init: bool = False
    """The embedding starts as features of the tokens' places on the spiral."""
    positions: bool = False
    """Positions are told by the spiral and a clock of twelve hours."""

    def __post_init__(self) -> None:
        for name in PARTS:
            if not isinstance(getattr(self, name), bool):
                raise CllmError(
                    f"lattice {name} must be true or false: got {getattr(self, name)!r:.80}"
                )

    def __bool__(self) -> bool:
        return any(getattr(self, name) for name in PARTS)

    def __str__(self) -> str:
        return ",".join(self.to_dict()) or "none"

    @classmethod
    def of(cls, names: Iterable[str]) -> Lattice:
        """Those named; `all` is every part, `none` no part. Raises `CllmError` for other names."""
        wanted: set[str] = set()
        for name in names:
            if name not in (*PARTS, "all", "none"):
                raise CllmError(f"lattice must be of {', '.join(PARTS)}, all or none: got {name!r}")
            wanted |= {*PARTS} if name == "all" else {name} - {"none"}
        return cls(**dict.fromkeys(wanted, True))

    def to_dict(self) -> dict[str, bool]:
        """The parts that are on, as `from_dict` takes them."""
        return {name: True for name in PARTS if getattr(self, name)}

    @classmethod
    def from_dict(cls, parts: Any) -> Lattice:
        """Rebuild from `to_dict`; raises `CllmError` for anything else."""
        if not isinstance(parts, dict) or not {*parts} <= {*PARTS}:
            raise CllmError(f"a lattice has the parts {', '.join(PARTS)}: got {parts!r:.80}")
        return cls(**parts)


PARTS = tuple(field.name for field in fields(Lattice))

SHARED = frozenset(("init", "positions"))
"""Those that every model has, as they lie in what it is given."""

PLAIN = Lattice()
"""No part."""
