"""The chart of the spiral, as a Vega-Lite specification.

Promises: as in `cllm.harness.charts`: declarative, and it says in words what it shows. The colors
of classes and factors are its own, equally far from light paper and from dark.
"""

from __future__ import annotations

import csv
import io
import math
from typing import Any

import altair as alt

from cllm.harness.charts import Spec, inline, specification
from cllm.harness.lattice.drawing import Drawing
from cllm.harness.lattice.vocabulary import Vocabulary
from cllm.lattice.symmetry import ORDER

MOST_TOKENS = 60_000
"""The first so many are drawn: a page with more would open slowly."""

HUES = (
    "#e6797b", "#e0834b", "#ca9423", "#a4a530", "#6eb35f", "#17b991",
    "#00b7bf", "#19ade2", "#6b9ef2", "#9e8eec", "#c381d2", "#dc79aa",
)  # fmt: skip
"""Of the classes: a circle in OKLCH, equally light, 30 degrees from one to the next."""

STRUCTURE = {
    "1": "#9aa0a6", "prime": "#e8611a", "2 factors": "#88cdc8", "3": "#5ab3c8", "4": "#4494c8",
    "5": "#4972c0", "6 or more": "#5546af",
}  # fmt: skip
"""By the number of prime factors of n, as often as each divides it."""

COLUMNS = {
    "token": "string", "id": "number", "x": "number", "y": "number",
    "n": "string", "p": "number", "factors": "number",
}  # fmt: skip
"""Of the tokens' data, with their types; `factors` is a place in `STRUCTURE`."""

BY_CLASS, BY_STRUCTURE = f"datum.id % {ORDER}", f"{ORDER} + datum.factors"
"""A token's color among `HUES` and `STRUCTURE`, which lie on one scale."""


def drawn(vocabulary: Vocabulary) -> int:
    """How many tokens are drawn."""
    return min(len(vocabulary), MOST_TOKENS)


def structure(vocabulary: Vocabulary) -> list[str]:
    """The names in `STRUCTURE` that there are."""
    most = min(int(vocabulary.factors.max()), len(STRUCTURE) - 1)
    return list(STRUCTURE)[: most + 1]


def tokens_data(vocabulary: Vocabulary) -> alt.InlineData:
    """The tokens as one text, which is a third of what a JSON object for each would be."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    most = len(STRUCTURE) - 1
    for id in range(drawn(vocabulary)):
        x, y, _ = vocabulary.places[id]
        n = "" if vocabulary.factors[id] < 2 else vocabulary.factorizations[id]
        row = (f"{x:.2f}", f"{y:.2f}", n, vocabulary.primes[id], min(vocabulary.factors[id], most))
        writer.writerow((vocabulary.names[id], id, *row))
    form = alt.CsvDataFormat(type="csv", parse=COLUMNS)
    return alt.InlineData(values=text.getvalue(), format=form)


def dots(
    vocabulary: Vocabulary, shade: str, legend: alt.Legend | None, side: str = "width"
) -> alt.Chart:
    """Each token in its place, in the color of the expression `shade`.

    `side` is the expression of the chart's side in pixels.
    """
    radius = math.sqrt(len(vocabulary)) + 0.5
    scale = alt.Scale(domain=[-radius, radius], nice=False, zero=False)
    colors = alt.Scale(
        domain=list(range(ORDER + len(STRUCTURE))), range=[*HUES, *STRUCTURE.values()]
    )
    number = "format(datum.id + 1, '') + (datum.n ? ' = ' + datum.n : datum.id ? ', a prime' : '')"
    tooltip = [
        alt.Tooltip("token:N", title="token"),
        alt.Tooltip("id:Q", title="id", format=""),
        alt.Tooltip("number:N", title="n"),
        alt.Tooltip("class:Q", title="class"),
        alt.Tooltip("p:Q", title="prime", format=""),
    ]
    chart: alt.Chart = (
        alt.Chart(tokens_data(vocabulary))
        .transform_calculate(**{"number": number, "class": f"datum.id % {ORDER}", "shade": shade})
        .mark_circle(size=_size(vocabulary, 0.42, 400, side), opacity=1)
        .encode(
            x=alt.X("x:Q", scale=scale, axis=None),
            y=alt.Y("y:Q", scale=scale, axis=None),
            color=alt.Color("shade:N", scale=colors, legend=legend, title=None),
            tooltip=tooltip,
        )
    )
    return chart


def _size(vocabulary: Vocabulary, share: float, most: int, side: str = "width") -> Any:
    """Of a mark in square pixels, as the tokens lie closer the more there are.

    With the share 0.42 neighbours, which lie 1.8 apart, nearly touch.
    """
    return alt.expr(f"clamp({share} * pow({side}, 2) / {len(vocabulary)}, 2, {most})")


def spiral_chart(drawing: Drawing) -> Spec:
    """All tokens, colored as the page's field `#coloring` says, and the one of `#chosen` marked.

    It is bound to its neighbours in the embedding by lines; those on the lattice are rings.
    """
    vocabulary = drawing.vocabulary
    marks, links = [], []
    for token in drawing.shown:
        x, y, _ = vocabulary.places[token].round(2).tolist()
        marks.append({"of": str(token), "token": vocabulary.names[token], "x": x, "y": y})
        for kind, others in drawing.beside(token).items():
            for other in others:
                to_x, to_y, _ = vocabulary.places[other["id"]].round(2).tolist()
                ends = {"x": x, "y": y, "to_x": to_x, "to_y": to_y}
                links.append({"of": str(token), "kind": kind, **ends})
    coloring = alt.param(name="coloring", value="class", bind=alt.BindDirect(element="#coloring"))
    chosen = alt.param(
        name="chosen", value=str(drawing.shown[0]), bind=alt.BindDirect(element="#chosen")
    )
    shade = f"coloring === 'class' ? {BY_CLASS} : {BY_STRUCTURE}"
    mark = inline(marks).transform_filter("datum.of === chosen").encode(x="x:Q", y="y:Q")
    link = inline(links).transform_filter("datum.of === chosen")
    layers = alt.layer(
        dots(vocabulary, shade, None),
        link.transform_filter("datum.kind === 'embedding'")
        .mark_rule(style="link")
        .encode(x="x:Q", y="y:Q", x2="to_x:Q", y2="to_y:Q"),
        link.transform_filter("datum.kind === 'embedding'")
        .mark_square(style="end")
        .encode(x="to_x:Q", y="to_y:Q"),
        link.transform_filter("datum.kind === 'lattice'")
        .mark_point(style="ring", fill="transparent", size=_size(vocabulary, 0.25, 150))
        .encode(x="to_x:Q", y="to_y:Q"),
        mark.mark_circle(style="chosen", size=_size(vocabulary, 0.25, 110)),
        mark.mark_text(style="halo", **NAME).encode(text="token:N"),
        mark.mark_text(**NAME).encode(text="token:N"),
    ).add_params(coloring, chosen)
    count = drawn(vocabulary)
    primes = int((vocabulary.factors[:count] == 1).sum())
    found = specification(
        layers,
        f"{count:,} tokens on the golden-angle spiral, colored by their symmetry class or by the "
        f"prime factors of n = id + 1, of which {primes:,} are prime; the lines lead from a chosen "
        "token to its neighbours in the embedding.",
        height=1,
    )
    # A canvas bears so many tokens; the page keeps it square.
    return found | {"height": "container", "usermeta": {"embedOptions": {"renderer": "canvas"}}}


NAME: dict[str, Any] = {"dy": -16, "fontSize": 14, "fontWeight": 600}
"""How a chosen token's name is written."""
