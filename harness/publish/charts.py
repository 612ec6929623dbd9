"""The charts of speeds, as Vega-Lite specifications.

Promises: as in `cllm.harness.charts`: declarative, their colors those of the page, dark or light;
each says in words what it shows. What a color says, a shape says too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

import altair as alt

from cllm.harness.charts import Spec, inline, specification
from cllm.harness.publish.words import change

Row = Mapping[str, Any]

OUTCOMES = {
    "failed": ("var(--fail)", "cross"),
    "slower": ("var(--fail)", "triangle-down"),
    "inconclusive": ("var(--unsure)", "diamond"),
    "faster": ("var(--pass)", "triangle-up"),
    "same": ("var(--muted)", "circle"),
}
"""In the order of urgency: color and shape."""

SIDES = {
    "head": "var(--candidate)",
    "head again": "var(--candidate)",
    "base": "var(--reference)",
    "base again": "var(--reference)",
}

COLORS = ("var(--candidate)", "var(--reference)", "var(--pass)", "var(--ink)", "var(--muted)")

ROW = 30
"""Height of a row in pixels; a chart has at least three."""

COLUMNS = alt.expr("width < 360 ? 2 : 4")
"""Of a legend, by the width of the plot in pixels."""

STEPS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
MULTIPLES = [digit * 10.0**power for power in range(-4, 5) for digit in (1, 2, 5)]
TICKS = 9
"""About so many."""

WIDE = 3.0
"""Factor between the ends of an axis from which on it is logarithmic."""


def ratio_axis(ratios: Sequence[float], field: str, title: str) -> alt.X:
    """An axis for ratios that 1 is always on: in percent, or in multiples where they lie apart."""
    low, high = min(1.0, *ratios), max(1.0, *ratios)
    if high / low > WIDE:
        domain = [low / 1.1, high * 1.25]
        ticks = [tick for tick in MULTIPLES if domain[0] <= tick <= domain[1]]
        scale = alt.Scale(type="log", domain=domain, nice=False)
        return alt.X(
            field, title=title, scale=scale, axis=_axis(ticks, "format(datum.value, '~g') + '×'")
        )
    room = max(0.002, 0.04 * (high - low))
    domain = [low - room, high + room]
    step = next((s for s in STEPS if (domain[1] - domain[0]) / s <= TICKS), STEPS[-1])
    first, last = math.ceil((domain[0] - 1) / step), math.floor((domain[1] - 1) / step)
    ticks = [1 + step * place for place in range(first, last + 1)]
    digits = 0 if step >= 0.01 else 1
    label = f"datum.value == 1 ? '0' : format(datum.value - 1, '+.{digits}%')"
    return alt.X(
        field, title=title, scale=alt.Scale(domain=domain, nice=False), axis=_axis(ticks, label)
    )


def _axis(ticks: Sequence[float], label: str) -> alt.Axis:
    return alt.Axis(values=list(ticks), labelExpr=label, labelOverlap=True)


def height(rows: int) -> int:
    """Of a chart with so many rows."""
    return ROW * max(3, rows)


def ratio_chart(rows: Sequence[Row], minimum: float | None) -> Spec:
    """Every benchmark's change of speed with its interval, over its noise.

    Thick is the interval of 95%, thin the one that decided, a pale bar its noise;
    the band in the middle is the minimum effect. What was not measured has no marks.
    """
    order = [row["title"] for row in rows]
    found = [
        {
            "title": row["title"],
            "outcome": row["outcome"],
            **{name: row["ratio"][name] for name in ("ratio", "low", "high")},
            "said": change(row["ratio"]["ratio"]),
            "first": (row["decision"] or row["ratio"])["low"],
            "last": (row["decision"] or row["ratio"])["high"],
        }
        for row in rows
        if row["ratio"]
    ]
    noise = [{"title": row["title"], **row["noise"]} for row in rows if row["noise"]]
    seen = [row[name] for row in [*found, *noise] for name in ("low", "high")]
    seen += [row[end] for row in found for end in ("first", "last") if 1 / WIDE < row[end] < WIDE]
    band = [1 - minimum, 1 + minimum] if minimum else [1.0]
    x = ratio_axis([*seen, *band], "low:Q", "speed of head against base")
    # Room above the first row: its figure would stand in the legend.
    places = alt.Scale(domain=order, paddingOuter=0.35)
    y = alt.Y("title:N", title=None, scale=places, axis=_names())
    outcomes = [name for name in OUTCOMES if any(row["outcome"] == name for row in rows)]
    color = alt.Color(
        "outcome:N",
        title=None,
        scale=alt.Scale(domain=outcomes, range=[OUTCOMES[name][0] for name in outcomes]),
        legend=alt.Legend(symbolSize=110, symbolStrokeWidth=0, columns=COLUMNS),
    )
    shape = alt.Shape(
        "outcome:N",
        title=None,
        scale=alt.Scale(domain=outcomes, range=[OUTCOMES[name][1] for name in outcomes]),
    )
    absent = [{"title": row["title"], "said": "no figure"} for row in rows if not row["ratio"]]
    tooltip = [
        alt.Tooltip("title:N", title="benchmark"),
        alt.Tooltip("outcome:N", title="verdict"),
        alt.Tooltip("said:N", title="change"),
    ]
    chart = inline(found).encode(y=y)
    layers = alt.layer(
        inline([{"low": band[0], "high": band[-1]}]).mark_rect(
            color="var(--line)", opacity=0.55
        ).encode(x=x, x2="high:Q"),
        inline([{"low": 1.0}]).mark_rule(style="bound").encode(x=x),
        inline(noise).mark_bar(height=14, color="var(--muted)", opacity=0.28, clip=True).encode(
            y=y, x=x, x2="high:Q"
        ),
        chart.mark_rule(clip=True, strokeWidth=1.25).encode(
            x=alt.X("first:Q"), x2="last:Q", color=color
        ),
        chart.mark_rule(clip=True, strokeWidth=4).encode(x=x, x2="high:Q", color=color),
        chart.mark_point(filled=True, size=130, opacity=1, stroke="var(--paper)").encode(
            x="ratio:Q", fill=color, shape=shape, tooltip=tooltip
        ),
        chart.mark_text(style="halo", dy=-13).encode(x="ratio:Q", text="said:N"),
        chart.mark_text(dy=-13).encode(x="ratio:Q", text="said:N"),
        inline(absent).mark_text(align="left", dx=5, color="var(--unsure)").encode(
            y=y, x=alt.datum(1.0), text="said:N"
        ),
    )  # fmt: skip
    said = "; ".join(f"{row['title']} {row['outcome']} {row['said']}" for row in found[:12])
    more = f"; and {len(found) - 12} more" if len(found) > 12 else ""
    return specification(
        layers,
        f"Speed of head against base in {len(rows)} benchmarks, with intervals of 95% and the "
        f"noise of a side against itself: {said or 'nothing could be measured'}{more}.",
        height=height(len(rows)),
    )


def rate_chart(rows: Sequence[Row], colors: Mapping[str, str], title: str) -> Spec:
    """Every rate as a tick, their median as a bar: `title`, `who`, and `rates` as ratios.

    Those of one title lie in one row, beside each other by `who`.
    """
    order = list(dict.fromkeys(row["title"] for row in rows))
    who = [name for name in colors if any(row["who"] == name for row in rows)]
    ticks = [
        {"title": row["title"], "who": row["who"], "rate": rate}
        for row in rows
        for rate in row["rates"]
    ]
    medians = [
        {"title": row["title"], "who": row["who"], "rate": median(row["rates"])}
        for row in rows
        if row["rates"]
    ]
    x = ratio_axis([tick["rate"] for tick in ticks], "rate:Q", title)
    y = alt.Y("title:N", title=None, scale=alt.Scale(domain=order, padding=0.25), axis=_names())
    offset = alt.YOffset("who:N", scale=alt.Scale(domain=who))
    color = alt.Color(
        "who:N",
        title=None,
        scale=alt.Scale(domain=who, range=[colors[name] for name in who]),
        legend=alt.Legend(symbolType="square", symbolSize=90, symbolStrokeWidth=0, columns=COLUMNS),
    )
    thickness = max(4, round(0.8 * ROW / len(who)))
    layers = alt.layer(
        inline([{"rate": 1.0}]).mark_rule(style="bound").encode(x=x),
        inline(ticks).mark_tick(thickness=1.25, size=thickness, opacity=0.6).encode(
            x=x, y=y, yOffset=offset, color=color
        ),
        inline(medians).mark_point(
            shape="diamond", filled=True, size=90, opacity=1, stroke="var(--paper)"
        ).encode(x="rate:Q", y=y, yOffset=offset, fill=color),
    )  # fmt: skip
    spread = max(
        (max(row["rates"]) / min(row["rates"]) for row in rows if row["rates"]), default=1.0
    )
    return specification(
        layers,
        f"Every rate that was measured, by benchmark and by {', '.join(who)}: {len(ticks)} rates "
        f"in {len(order)} rows; the widest row reaches over a factor of {spread:.2f}.",
        height=round(1.3 * height(len(order))),
    )


def versus_chart(rows: Sequence[Row], colors: Mapping[str, str]) -> Spec:
    """How many times the best peer, on a logarithmic axis, with the interval of 95%."""
    order = list(dict.fromkeys(row["benchmark"] for row in rows))
    who = [name for name in colors if any(row["library"] == name for row in rows)]
    found = [
        {"title": row["benchmark"], "who": row["library"], "said": f"{row['versus'][0]:.2f}×"}
        | dict(zip(("ratio", "low", "high"), row["versus"], strict=True))
        for row in rows
    ]
    ends = [row[name] for row in found for name in ("low", "high")]
    x = ratio_axis([*ends, 2.0, 0.5], "low:Q", "times the best peer")
    y = alt.Y("title:N", title=None, scale=alt.Scale(domain=order), axis=_names())
    offset = alt.YOffset("who:N", scale=alt.Scale(domain=who))
    color = alt.Color(
        "who:N",
        title=None,
        scale=alt.Scale(domain=who, range=[colors[name] for name in who]),
        legend=alt.Legend(symbolType="circle", symbolSize=90, symbolStrokeWidth=0, columns=COLUMNS),
    )
    chart = inline(found).encode(y=y, yOffset=offset)
    layers = alt.layer(
        inline([{"low": 1.0}]).mark_rule(style="bound").encode(x=x),
        chart.mark_rule(strokeWidth=4, opacity=0.6).encode(x=x, x2="high:Q", color=color),
        chart.mark_circle(size=80, opacity=1).encode(x="ratio:Q", fill=color),
        chart.mark_text(align="left", dx=8, dy=-7).encode(x="ratio:Q", text="said:N"),
    )
    said = "; ".join(f"{row['title']} of {row['who']} {row['said']}" for row in found[:12])
    return specification(
        layers, f"Speed as a multiple of the best peer’s: {said}.", height=height(len(found))
    )


def _names() -> alt.Axis:
    return alt.Axis(grid=True, labelLimit=190)
