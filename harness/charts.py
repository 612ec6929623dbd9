"""The charts of a report, as Vega-Lite specifications.

Promises: declarative, without colors of their own: the page gives them, dark or light. Each says
in words what it shows.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import vl_convert

Spec = dict[str, Any]
Rows = list[dict[str, Any]]
Numbers = Sequence[float | None]
"""None where a number is not finite: a gap in the chart."""

SMOOTHING = 20
"""Steps over which the loss curves are averaged."""

SMALLEST_DIFFERENCE = 1e-9
"""Smaller differences are drawn here: a logarithmic axis has no zero."""

LARGEST_SHARE = 1e6
"""Larger shares of a tolerance are drawn here."""

SMALLEST_SHARE = 0.01
"""Smaller shares are drawn here where the axis is logarithmic."""

ROOM = 0.28
"""Part of the gradients' axis that is left to the label of the longest bar."""


@functools.cache
def javascript() -> str:
    """Vega, Vega-Lite and vegaEmbed in one script, of the version that the charts are for."""
    version = ".".join(alt.SCHEMA_VERSION.lstrip("v").split(".")[:2])
    snippet = "window.vegaEmbed = vegaEmbed;"
    bundle: str = vl_convert.javascript_bundle(snippet, vl_version=version)
    return bundle.replace("</script", "<\\/script")


def loss_chart(losses: Mapping[str, Numbers], entropy: float) -> Spec:
    """Loss by step of two models, smoothed over the single batches; the entropy as a line.

    The second is dashed and on top of the first, so that both are seen where they agree.
    """
    first, second = losses
    bound = f"unigram entropy {entropy:.2f}"
    rows = [
        {"step": step, "first": one, "second": other}
        for step, (one, other) in enumerate(zip(*losses.values(), strict=True), 1)
    ]
    chart = _lines(rows).transform_window(
        smooth_first="mean(first)",
        smooth_second="mean(second)",
        frame=[-SMOOTHING // 2, SMOOTHING // 2],
    )
    names = [first, second, bound]
    color = alt.Color("line:N", scale=alt.Scale(domain=names), title=None)
    dashes = alt.Scale(domain=names, range=[[1, 0], [6, 6], [2, 3]])

    def line(data: alt.Chart, name: str) -> alt.Chart:
        dash = alt.StrokeDash("line:N", scale=dashes, title=None)
        return data.transform_calculate(line=json.dumps(name)).encode(color=color, strokeDash=dash)

    y = alt.Y("first:Q", title="loss (nats a token)", scale=alt.Scale(zero=False))
    layers = alt.layer(
        chart.transform_calculate(line=json.dumps(first))
        .mark_line(strokeWidth=0.75, opacity=0.3)
        .encode(y=y, color=color),
        line(inline([{"entropy": entropy}]), bound)
        .mark_rule(strokeWidth=1.5)
        .encode(y="entropy:Q"),
        line(chart, first).mark_line(strokeWidth=2.5).encode(y="smooth_first:Q"),
        line(chart, second).mark_line(strokeWidth=2.5).encode(y="smooth_second:Q"),
    )
    return specification(
        layers,
        f"Loss of {first} and {second} over {len(rows)} training steps on the same batches, "
        f"with the unigram entropy of the text, {entropy:.2f} nats, as a line.",
        height=230,
    )


def differences(curves: Mapping[str, Any]) -> list[float | None]:
    """|candidate - reference| by step; None where one is not finite."""
    pairs = zip(curves["candidate"], curves["reference"], strict=True)
    return [None if None in pair else abs(pair[0] - pair[1]) for pair in pairs]


def difference_chart(difference: Numbers, tolerance: Sequence[float]) -> Spec:
    """|difference| of the losses by step under the calibrated tolerance."""
    rows = [
        {
            "step": step,
            "difference": None if apart is None else max(apart, SMALLEST_DIFFERENCE),
            "tolerance": bound,
        }
        for step, (apart, bound) in enumerate(zip(difference, tolerance, strict=True), 1)
    ]
    drawn = [row["difference"] for row in rows if row["difference"] is not None]
    powers = _powers(min([*drawn, *tolerance]), max([*drawn, *tolerance]), most=7)
    y = alt.Y(
        "difference:Q",
        title="|difference|",
        scale=alt.Scale(type="log", domain=[powers[0], powers[-1]]),
        axis=alt.Axis(format=".0e", values=powers),
    )
    chart = _lines(rows)
    layers = alt.layer(
        chart.mark_point(filled=True, size=9, opacity=0.8).encode(y=y),
        chart.mark_line(style="bound").encode(y="tolerance:Q"),
    )
    return specification(
        layers,
        "Difference of the losses at each of the steps, on a logarithmic scale, and the tolerance "
        f"for it, which is never below {min(tolerance):.1e}.",
        height=130,
    )


def _powers(low: float, high: float, most: int) -> list[float]:
    """At most so many powers of ten around low and high, in equal steps that meet 1."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    stride = max(1, math.ceil((last - first) / (most - 2)))
    exponents = range(stride * math.floor(first / stride), stride + last, stride)
    return [10.0**exponent for exponent in exponents]


def _lines(rows: Rows) -> alt.Chart:
    """A chart by step."""
    axis = alt.Axis(tickCount=8)
    x = alt.X("step:Q", title="step", axis=axis, scale=alt.Scale(nice=False, domainMin=0))
    return inline(rows).encode(x=x)


def share(row: Mapping[str, Any]) -> float:
    """A tensor's worst error as a share of its tolerance, cut off at `LARGEST_SHARE`."""
    found: float | None = row["share"]
    return LARGEST_SHARE if found is None else min(found, LARGEST_SHARE)


def share_text(found: float | None) -> str:
    """A share in words: how many times the tolerance."""
    if found is None:
        return "not finite"
    if found >= LARGEST_SHARE:
        return f"over {LARGEST_SHARE:,.0f}×"
    return f"{found:.2f}×" if found < 10 else f"{found:,.0f}×"


def gradient_chart(tensors: Rows) -> Spec:
    """Worst error of each tensor's gradient as a multiple of its tolerance, with a line at 1."""
    rows = [
        {
            "tensor": row["tensor"],
            "share": share(row),
            "drawn": max(share(row), SMALLEST_SHARE),
            "text": share_text(row["share"]),
        }
        for row in tensors
    ]
    # Linear as long as everything is near the tolerance; a wrong gradient is off by powers of ten.
    largest = max(row["share"] for row in rows)
    if largest <= 1:
        origin, ticks = 0.0, [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
        scale = alt.Scale(domain=[origin, 1 / (1 - ROOM)], nice=False)
    else:
        ticks = _powers(SMALLEST_SHARE, largest, most=7)
        origin = ticks[0]
        top = origin * (ticks[-1] / origin) ** (1 / (1 - ROOM))
        scale = alt.Scale(type="log", domain=[origin, top], nice=False)
    axis = alt.Axis(values=ticks, labelExpr="format(datum.value, ',') + '×'", labelOverlap=False)
    x = alt.X("drawn:Q", title="multiples of the tolerance", scale=scale, axis=axis, stack=None)
    bars = inline(rows).encode(x=x, y=alt.Y("tensor:N", title=None, sort=None))
    from_origin = bars.encode(x2=alt.datum(origin))
    # Beside a bar that ends before it, a figure would stand on the line at 1.
    labels = bars.transform_filter("datum.share > 1") if largest > 1 else bars
    limit = inline([{"limit": 1}]).encode(x="limit:Q")
    layers = alt.layer(
        from_origin.mark_bar(cornerRadiusEnd=2, style="within"),
        from_origin.transform_filter("datum.share > 1").mark_bar(cornerRadiusEnd=2, style="beyond"),
        limit.mark_rule(style="bound"),
        labels.mark_text(style="halo", align="left", dx=4).encode(text="text:N"),
        labels.mark_text(align="left", dx=4).encode(text="text:N"),
    )
    beyond = sum(row["share"] > 1 for row in rows)
    worst = share_text(max(tensors, key=share)["share"])
    return specification(
        layers,
        f"Worst gradient error of {len(rows)} tensors as a multiple of its tolerance: "
        f"{beyond} beyond it, the largest {worst}.",
        height=17 * len(rows),
    )


def speed_chart(rates: Mapping[str, Sequence[float]], medians: Mapping[str, float]) -> Spec:
    """Median steps per second of each model as a bar, every block as a tick."""
    names = list(rates)
    blocks = [{"model": name, "rate": rate} for name in names for rate in rates[name]]
    bars = [{"model": name, "median": medians[name], "most": max(rates[name])} for name in names]
    y = alt.Y("model:N", title=None, sort=names)
    color = alt.Color("model:N", scale=alt.Scale(domain=names), legend=None)
    title = "training steps per second"
    most = max(max(values) for values in rates.values())
    scale = alt.Scale(domain=[0, 1.15 * most], nice=False)  # room for the figure
    bar = inline(bars).encode(y=y)
    tick = inline(blocks).encode(y=y)
    layers = alt.layer(
        bar.mark_bar(cornerRadiusEnd=2, height=20).encode(
            x=alt.X("median:Q", title=title, scale=scale, axis=alt.Axis(tickCount=5)), color=color
        ),
        tick.mark_tick(style="block", size=20).encode(x="rate:Q"),
        bar.mark_text(align="left", dx=8).encode(
            x="most:Q", text=alt.Text("median:Q", format=",.0f")
        ),
    )
    said = " and ".join(f"{name} {median:,.0f}" for name, median in medians.items())
    said = f"Training steps per second, median over blocks: {said}."
    return specification(layers, said, height=36 * len(names))


def inline(rows: Rows) -> alt.Chart:
    """A chart over data that it brings along."""
    return alt.Chart(alt.InlineData(values=rows))


def specification(chart: Any, description: str, *, height: int) -> Spec:
    """As wide as the page lets it be; its colors are the page's own."""
    sized = chart.properties(width="container", height=height, description=description)
    found: Spec = sized.to_dict()
    del found["config"]
    return found
