"""The charts of the weights of the distances, as Vega-Lite specifications.

Promises: as in `cllm.harness.charts`: declarative, without colors of their own, and each says in
words what it shows.
"""

from __future__ import annotations

import math
from typing import Any

import altair as alt
import numpy as np
from numpy.typing import NDArray

from cllm.harness.charts import Spec, inline, specification
from cllm.lattice.distances import DISTANCES
from cllm.layout import LATTICE_START

MOST_CELLS = 64
"""Layers, and heads, whose weights are drawn; of more, so many in equal steps."""

START = math.log1p(math.exp(LATTICE_START))
"""softplus(-4), from where the weights are learned."""

LEAST_CHANGE = 0.1
"""Powers of two by which a weight has changed where the color is deepest, at least."""

DEEP = 0.65
"""Share of the deepest color from which on it is called deep."""


def weight_rows(weights: NDArray[np.float64]) -> list[dict[str, Any]]:
    """Layer, head, distance and weight of the cells that are drawn, from weights (L,H,3)."""
    layers, heads = (evenly(count) for count in weights.shape[:2])
    return [
        {"layer": layer, "head": head, "distance": distance, "weight": float(weight)}
        for layer in layers
        for head in heads
        for distance, weight in zip(DISTANCES, weights[layer, head], strict=True)
    ]


def evenly(count: int) -> list[int]:
    """At most `MOST_CELLS` of the numbers below `count`, in equal steps."""
    chosen: list[int] = (
        np.linspace(0, count - 1, min(count, MOST_CELLS)).round().astype(int).tolist()
    )
    return chosen


def deepest(weights: NDArray[np.float64]) -> float:
    """Powers of two between the start and the color that is deepest."""
    return max(LEAST_CHANGE, float(np.abs(np.log2(weights / START)).max()))


def ends(weights: NDArray[np.float64]) -> tuple[float, float]:
    """The weights whose colors are deepest."""
    factor = 2.0 ** deepest(weights)
    return START / factor, START * factor


def weight_cells(
    weights: NDArray[np.float64], distance: str, legend: alt.Legend | None
) -> alt.LayerChart:
    """A cell for each layer and head, colored by how far the weight has gone from the start."""
    rows = [
        {name: row[name] for name in ("layer", "head", "weight")}
        for row in weight_rows(weights)
        if row["distance"] == distance
    ]
    far = deepest(weights)
    chart = inline(rows).transform_calculate(change=f"log(datum.weight / {START!r}) / LN2")
    cells = chart.encode(
        x=alt.X("head:O", title="head", axis=alt.Axis(labelAngle=0, labelOverlap=True)),
        y=alt.Y("layer:O", title="layer", axis=alt.Axis(labelOverlap=True)),
    )
    color = alt.Color(
        "change:Q",
        title=None,
        legend=legend,
        scale=alt.Scale(domain=[-far, 0, far], range="diverging", interpolate="rgb"),
    )
    tooltip = [
        alt.Tooltip("layer:O"),
        alt.Tooltip("head:O"),
        alt.Tooltip("weight:Q", format=".4~g"),
    ]
    marks: list[alt.Chart] = [cells.mark_rect(cornerRadius=2).encode(color=color, tooltip=tooltip)]
    if weights.shape[1] <= 8:  # there is room
        text = alt.Text("weight:Q", format=".3g")
        # On a deep color the ink of the page could not be read.
        for style, where in (
            ("on-candidate", f"datum.change < {-DEEP * far!r}"),
            ("on-reference", f"datum.change > {DEEP * far!r}"),
            ("text", f"abs(datum.change) <= {DEEP * far!r}"),
        ):
            marks.append(cells.transform_filter(where).mark_text(style=style).encode(text=text))
    return alt.LayerChart(layer=marks)


def cells_height(weights: NDArray[np.float64]) -> int:
    """Of a chart of weights, in pixels."""
    rows = min(len(weights), MOST_CELLS)
    return max(60, rows * (26 if rows <= 12 else 14))


def weight_charts(weights: NDArray[np.float64]) -> dict[str, Spec]:
    """One for each distance, by its name."""
    found = {}
    for place, distance in enumerate(DISTANCES):
        of = weights[..., place]
        layer, head = np.unravel_index(of.argmax(), of.shape)
        found[distance] = specification(
            weight_cells(weights, distance, None),
            f"Weights of the {distance} distance in {of.shape[0]} layers of {of.shape[1]} heads: "
            f"from {of.min():.3g} to {of.max():.3g}, the largest in head {head} of layer {layer}; "
            f"they started at {START:.3f}.",
            height=cells_height(weights),
        )
    return found
