"""The picture: the spiral in both colorings, the weights, and neighbours, on light paper."""

from __future__ import annotations

import json
from typing import Any

import altair as alt
import vl_convert

from cllm.harness.charts import inline
from cllm.harness.lattice import spiral
from cllm.harness.lattice.drawing import Drawing
from cllm.harness.lattice.weights import START, cells_height, deepest, weight_cells
from cllm.lattice.distances import DISTANCES
from cllm.lattice.symmetry import ORDER

SIDE = 560
"""Width of a spiral in pixels."""

GAP = 48
PANEL = 324
"""Width of the weights of a distance."""

ROW = 24
"""Height of a token's row of neighbours."""

APART = alt.Resolve(scale=alt.ScaleResolveMap(color="independent"))
"""Each panel has its own colors, or its own legend at least."""

INK, MUTED, PAPER, LINE = "#1d1f24", "#5d6169", "#fcfbf9", "#e4e1db"
LOW, HIGH, ACCENT = "#0b66b0", "#e07b1f", "#0f7355"

CONFIG: dict[str, Any] = {
    "background": PAPER,
    "padding": 32,
    "font": "Inter, Liberation Sans, Arial, DejaVu Sans, sans-serif",
    "view": {"stroke": None},
    "range": {"diverging": [LOW, LINE, HIGH]},
    "axis": {
        "domain": False, "ticks": False, "labelPadding": 6, "labelColor": MUTED,
        "labelFontSize": 12, "titleColor": MUTED, "titleFontSize": 12, "titleFontWeight": 500,
    },
    "axisBand": {"grid": False},
    "legend": {"labelColor": INK, "labelFontSize": 12, "labelOffset": 8},
    "title": {
        "anchor": "start", "frame": "group", "color": INK, "fontSize": 16, "fontWeight": 600,
        "offset": 10,
        "subtitleColor": MUTED, "subtitleFontSize": 12.5, "subtitlePadding": 4,
    },
    "text": {"color": INK, "fontSize": 12},
    "style": {
        "on-candidate": {"color": PAPER}, "on-reference": {"color": INK},
        "both": {"color": ACCENT, "fontWeight": "bold"},
    },
}  # fmt: skip
"""Light, as the page is."""


def png(drawing: Drawing) -> bytes:
    """The picture as PNG."""
    parts = [_spirals(drawing), _weights(drawing), _neighbours(drawing)]
    title = alt.Title(
        f"{len(drawing.vocabulary):,} tokens on the lattice",
        subtitle=drawing.headline,
        fontSize=24,
        offset=26,
    )
    whole = alt.vconcat(*filter(None, parts), spacing=40, title=title)
    spec = whole.to_dict() | {"config": CONFIG}
    found: bytes = vl_convert.vegalite_to_png(spec, scale=1.5)
    return found


def _spirals(drawing: Drawing) -> alt.HConcatChart:
    vocabulary = drawing.vocabulary
    names = spiral.structure(vocabulary)
    colorings = (
        ("By symmetry class", "id mod 12", spiral.BY_CLASS, list(range(ORDER)), "datum.label"),
        (
            "By prime structure",
            "the number of prime factors of n = id + 1, each as often as it divides n",
            spiral.BY_STRUCTURE,
            [ORDER + place for place in range(len(names))],
            f"{json.dumps(names)}[datum.value - {ORDER}]",
        ),
    )
    spirals = []
    for title, subtitle, shade, values, label in colorings:
        legend = alt.Legend(
            orient="bottom", values=values, labelExpr=label, columns=ORDER,
            symbolType="circle", symbolSize=110, symbolStrokeWidth=0, columnPadding=14,
        )  # fmt: skip
        chart = spiral.dots(vocabulary, shade, legend, str(SIDE))
        heading = alt.Title(title, subtitle=subtitle)
        spirals.append(chart.properties(width=SIDE, height=SIDE, title=heading))
    return alt.HConcatChart(hconcat=spirals, spacing=GAP, resolve=APART)


def _weights(drawing: Drawing) -> alt.HConcatChart | None:
    """One panel for each distance; the legend says values, not powers of two."""
    weights = drawing.weights
    if weights is None:
        return None
    far = deepest(weights)
    value = f"format({START!r} * pow(2, datum.value), '.3g')"
    panels = []
    for distance in DISTANCES:
        last = distance == DISTANCES[-1]
        legend = alt.Legend(
            values=[-far, 0, far],
            labelExpr=f"datum.value ? {value} : {value} + ' start'",
            gradientLength=max(60, cells_height(weights)),
        )
        cells = weight_cells(weights, distance, legend if last else None)
        heading = alt.Title(f"Weight of the {distance} distance")
        panels.append(
            cells.properties(
                width=PANEL,
                height=cells_height(weights),
                title=heading,
            )
        )
    return alt.HConcatChart(hconcat=panels, spacing=GAP, resolve=APART)


def _neighbours(drawing: Drawing) -> alt.HConcatChart:
    """The nearest of each shown token, by rank; those in both in another color."""
    found: dict[str, list[dict[str, Any]]] = {"lattice": [], "embedding": []}
    for token in drawing.shown:
        for kind, others in drawing.beside(token).items():
            found[kind] += [
                {"token": str(token), "rank": rank, **other} for rank, other in enumerate(others, 1)
            ]
    order = [str(token) for token in drawing.shown]
    names = {str(token): drawing.vocabulary.names[token] for token in drawing.shown}
    panels = []
    for kind, title in (
        ("lattice", "Nearest on the lattice"),
        ("embedding", "Nearest in the embedding"),
    ):
        axis = alt.Axis(
            labelExpr=f"{json.dumps(names)}[datum.value]",
            labelColor=INK,
            labelFontWeight=600,
            labelLimit=110,
        )
        chart = inline(found[kind]).encode(
            x=alt.X("rank:O", axis=alt.Axis(orient="top", labelAngle=0), title=None),
            y=alt.Y("token:N", sort=order, title=None, axis=axis if kind == "lattice" else None),
            text="name:N",
        )
        panels.append(
            alt.layer(
                chart.transform_filter("datum.both").mark_text(style="both", limit=SIDE / 8 - 6),
                chart.transform_filter("!datum.both").mark_text(limit=SIDE / 8 - 6),
            ).properties(
                width=SIDE,
                height=ROW * len(order),
                title=alt.Title(title, subtitle="green: in both"),
            )
        )
    return alt.hconcat(*panels, spacing=GAP)
