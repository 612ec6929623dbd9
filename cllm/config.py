"""The shape of a model.

Promises: a `Config` that exists is valid, and its sizes fit into 64-bit indices.
Leaves out: batch shape, threads and dtype (`cllm.plan`), how it is trained (`cllm.training`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from cllm.check import MAX_ELEMENTS, check_size
from cllm.errors import CllmError
from cllm.lattice.parts import PLAIN, Lattice

SIZES = ("vocab_size", "embed_dim", "num_layers", "num_heads", "ff_dim")

MAX_LAYERS = 4096
"""Each layer has a dozen tensors and buffers with names of their own."""


@dataclass(frozen=True)
class Config:
    """Sizes of the network; the letters are the ones used beside every array.

    Raises `CllmError` where a size is no positive integer, `embed_dim` is not divisible by
    `num_heads`, the lattice is none, or the parameters could not be indexed.
    """

    vocab_size: int
    """V, distinct tokens."""
    embed_dim: int
    """D, width of an embedding."""
    num_layers: int
    """L."""
    num_heads: int
    """H; a head is D/H wide."""
    ff_dim: int
    """F, width of the feed-forward layer."""
    lattice: Lattice = field(default=PLAIN, kw_only=True)
    """The parts of the lattice that it has."""

    def __post_init__(self) -> None:
        for name in SIZES:
            check_size(name, getattr(self, name))
        if not isinstance(self.lattice, Lattice):
            raise CllmError(
                f"lattice must be a cllm.lattice.parts.Lattice: got {self.lattice!r:.80}"
            )
        if self.num_layers > MAX_LAYERS:
            raise CllmError(
                f"num_layers must be an integer in 1..{MAX_LAYERS}: got {self.num_layers}"
            )
        if self.embed_dim % self.num_heads:
            raise CllmError(
                f"embed_dim must be divisible by num_heads: {self.embed_dim} is not a multiple of "
                f"{self.num_heads}"
            )
        if self.num_parameters > MAX_ELEMENTS:
            raise CllmError(
                f"the model would have {self.num_parameters} parameters; at most {MAX_ELEMENTS} "
                "can be indexed"
            )

    @property
    def head_dim(self) -> int:
        """D/H."""
        return self.embed_dim // self.num_heads

    @property
    def num_parameters(self) -> int:
        """V·D + L·(3D² + 2DF + F + D + 4D), and 3LH where attention is on the lattice."""
        d, f = self.embed_dim, self.ff_dim
        layer = 3 * d * d + 2 * d * f + f + d + 4 * d
        if self.lattice.attention:
            layer += 3 * self.num_heads
        return self.vocab_size * d + self.num_layers * layer

    @property
    def sizes(self) -> dict[str, int]:
        """By name."""
        return {name: getattr(self, name) for name in SIZES}

    def to_dict(self) -> dict[str, Any]:
        """The sizes by name, and `lattice` where it has a part; as `from_dict` takes them."""
        return self.sizes | ({"lattice": self.lattice.to_dict()} if self.lattice else {})

    @classmethod
    def from_dict(cls, sizes: Any) -> Config:
        """Rebuild from `to_dict`; raises `CllmError` for anything else."""
        if not isinstance(sizes, dict) or {*sizes} - {"lattice"} != {*SIZES}:
            raise CllmError(
                f"a configuration has exactly the sizes {sorted(SIZES)}, and may have a lattice: "
                f"got {sizes!r}"
            )
        lattice = Lattice.from_dict(sizes.get("lattice", {}))
        return cls(**{name: sizes[name] for name in SIZES}, lattice=lattice)
