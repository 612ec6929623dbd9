"""What is drawn of a model: gathered once for the page and the picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cllm.harness.lattice.neighbours import Neighbours, Progress, neighbours_of, unit
from cllm.harness.lattice.tokens import find_token, frequent_words, names_of
from cllm.harness.lattice.vocabulary import Vocabulary, vocabulary_of
from cllm.lattice.spiral import geometric_distance
from cllm.layout import tensor_views
from cllm.training.checkpoint import Checkpoint

LEAST = 1e-30
"""A weight that is less, or rounds to zero, is drawn as this much."""


def figure(number: float) -> str:
    """With two digits that say something."""
    return f"{number:.2f}" if number >= 0.1 or number == 0 else f"{number:.2g}"


@dataclass(frozen=True, eq=False)
class Drawing:
    """A model's vocabulary on the lattice."""

    path: Path
    checkpoint: Checkpoint
    texts: tuple[str, ...]
    """What tokens were asked for."""
    vocabulary: Vocabulary
    neighbours: Neighbours
    shown: list[int]
    """Ids of the tokens whose neighbours are shown."""
    weights: NDArray[np.float64] | None
    """softplus(w) (L,H,3), in the order of `DISTANCES`, `LEAST` or more; None without attention."""

    @property
    def headline(self) -> str:
        """How far the embedding lies as the lattice does."""
        found = self.neighbours
        count = found.lattice.shape[1]
        return (
            f"Of the {count} nearest tokens on the lattice {figure(found.overlap)} are among the "
            f"{count} nearest in the embedding, on average over all {len(self.vocabulary):,} "
            f"tokens; chance would give {figure(found.chance)}."
            + (" The embedding started on the lattice." * self.checkpoint.config.lattice.init)
        )

    def beside(self, token: int) -> dict[str, list[dict[str, Any]]]:
        """The neighbours of a token, `lattice` by distance and `embedding` by cosine.

        Of each its id, its name, the figure, and whether it is in both.
        """
        rows = unit(tensor_views(self.checkpoint.config, self.checkpoint.parameters)["embedding"])
        places = self.vocabulary.places
        found: dict[str, list[dict[str, Any]]] = {}
        for kind in ("lattice", "embedding"):
            ids = getattr(self.neighbours, kind)[token]
            other = self.neighbours.embedding if kind == "lattice" else self.neighbours.lattice
            figures = (
                geometric_distance(places[ids], places[token])
                if kind == "lattice"
                else rows[ids] @ rows[token]
            )
            found[kind] = [
                {
                    "id": id,
                    "name": self.vocabulary.names[id],
                    "figure": figure,
                    "both": id in other[token],
                }
                for id, figure in zip(ids.tolist(), figures.tolist(), strict=True)
            ]
        return found


def drawing_of(
    path: Path, checkpoint: Checkpoint, texts: Sequence[str], progress: Progress
) -> Drawing:
    """Of a checkpoint. Raises `CllmError` for a text that is no token, before any work."""
    names = names_of(checkpoint.tokenizer)
    asked = [find_token(checkpoint.tokenizer, names, text) for text in texts]
    tensors = tensor_views(checkpoint.config, checkpoint.parameters)
    return Drawing(
        path,
        checkpoint,
        tuple(texts),
        vocabulary_of(names),
        neighbours_of(tensors["embedding"], progress),
        list(dict.fromkeys(asked)) or frequent_words(names),
        _weights(checkpoint),
    )


def _weights(checkpoint: Checkpoint) -> NDArray[np.float64] | None:
    """softplus(w) of every layer."""
    if not checkpoint.config.lattice.attention:
        return None
    tensors = tensor_views(checkpoint.config, checkpoint.parameters)
    layers = range(checkpoint.config.num_layers)
    learned = np.stack([tensors[f"layer{layer}.lattice_weight"] for layer in layers])
    return np.maximum(np.logaddexp(0.0, learned.astype(np.float64)), LEAST)
