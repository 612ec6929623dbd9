"""The chart of a series, as a Vega-Lite specification.

Promises: the same for every series: the page hands in the data (`points`, `levels`, `changes`) and
the domains of the scales, and gives the colors.
"""

from __future__ import annotations

from typing import Any

import altair as alt

Spec = dict[str, Any]

HEIGHT = 320


def series_chart() -> Spec:
    """Results as dots over time, a line for each level, a numbered rule for each change.

    Data: points {time, value, details}; levels {start, end, level}; changes
    {time, mark, worse}; times in milliseconds since 1970.
    """
    axis = alt.Axis(tickCount=8, grid=False)
    utc = alt.Scale(type="utc")
    time = alt.X("time:T", title=None, scale=utc, axis=axis)
    scale = alt.Scale(zero=False, nice=False)
    value = alt.Y("value:Q", title=None, scale=scale, axis=alt.Axis(tickCount=6))
    points, levels, changes = (
        alt.Chart(alt.NamedData(name)) for name in ("points", "levels", "changes")
    )
    results = points.encode(x=time, y=value)
    pointed = alt.selection_point(
        name="pointed", nearest=True, on="pointerover", clear="pointerout", empty=False
    )
    # What is pointed at is the cell around a point: the point is its datum's.
    details: Any = alt.value(alt.ExprRef("(datum.datum || datum).details"))
    rules = changes.encode(x=time)
    layers = [
        *(
            layer
            for style, sign in (("worse", ""), ("better", "!"))
            for layer in _rule(rules.transform_filter(f"{sign}datum.worse"), style)
        ),
        results.mark_point(style="result", filled=True),
        levels.mark_rule(style="level").encode(
            x=alt.X("start:T", scale=utc), x2="end:T", y="level:Q"
        ),
        results.mark_point(style="pointed", filled=True)
        .encode(opacity=alt.condition(pointed, alt.value(1), alt.value(0)), tooltip=details)
        .add_params(pointed),
    ]
    chart = alt.layer(*layers).properties(width="container", height=HEIGHT)
    spec: Spec = chart.to_dict()
    del spec["config"]  # the page's own
    return spec


def _rule(changes: alt.Chart, style: str) -> list[alt.Chart]:
    """A line at each change, and its number above the plot."""
    return [
        changes.mark_rule(style=style),
        changes.mark_text(style=f"{style}-mark", baseline="bottom").encode(
            y=alt.value(-4), text="mark:N"
        ),
    ]
