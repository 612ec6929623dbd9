"""The page of a model's lattice.

Promises: one file without network; dark and light; what a chart shows is said in words too.
"""

from __future__ import annotations

import shlex

import numpy as np

import cllm
from cllm.harness import html
from cllm.harness.charts import Spec, javascript
from cllm.harness.lattice import spiral, weights
from cllm.harness.lattice.drawing import Drawing, figure
from cllm.lattice.distances import DISTANCES


def render(drawing: Drawing) -> str:
    """The page as HTML."""
    learned = drawing.weights
    return (
        html.environment()
        .get_template("lattice.html")
        .render(
            drawing=drawing,
            config=drawing.checkpoint.config,
            vocabulary=drawing.vocabulary,
            tiles=tiles(drawing),
            specs=specifications(drawing),
            hues=spiral.HUES,
            structure={
                name: spiral.STRUCTURE[name] for name in spiral.structure(drawing.vocabulary)
            },
            drawn=spiral.drawn(drawing.vocabulary),
            distances=DISTANCES,
            start=weights.START,
            ends=[] if learned is None else weights.ends(learned),
            cells=weights.MOST_CELLS,
            rows=[] if learned is None else weights.weight_rows(learned),
            command=command(drawing),
            version=cllm.__version__,
            vega=javascript(),
        )
    )


def tiles(drawing: Drawing) -> list[tuple[str, str, str]]:
    """Title, figure and explanation of what matters most."""
    vocabulary, found = drawing.vocabulary, drawing.neighbours
    size, count = len(vocabulary), found.lattice.shape[1]
    primes = int((vocabulary.factors == 1).sum())
    tiles = [
        (
            "Neighbours in both",
            f"{figure(found.overlap)} of {count}",
            "of the lattice and of the embedding, on average; chance would give "
            f"{figure(found.chance)}",
        ),
        ("Primes", f"{primes:,}", f"of the {size:,} numbers n = id + 1"),
    ]
    if (learned := drawing.weights) is not None:
        layer, head, distance = np.unravel_index(learned.argmax(), learned.shape)
        tiles.append(
            (
                "Largest weight",
                f"{learned.max():.3g}",
                f"of the {DISTANCES[distance]} distance, in head {head} of layer {layer}; all "
                f"started at {weights.START:.3f}",
            )
        )
    return tiles


def specifications(drawing: Drawing) -> dict[str, Spec]:
    """The charts by the id of their place on the page."""
    found = {"chart-spiral": spiral.spiral_chart(drawing)}
    if drawing.weights is not None:
        for distance, spec in weights.weight_charts(drawing.weights).items():
            found[f"chart-{distance}"] = spec
    return found


def command(drawing: Drawing) -> str:
    """What draws it again."""
    words = ["cllm", "lattice", "show", str(drawing.path)]
    for text in drawing.texts:
        words += ["--token", text]
    return shlex.join(words)
