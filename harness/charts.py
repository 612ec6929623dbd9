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


@functools.cache
def javascript() -> str:
    """Vega, Vega-Lite and vegaEmbed in one script, of the version that the charts are for."""
    version = ".".join(alt.SCHEMA_VERSION.lstrip("v").split(".")[:2])
    snippet = "window.vegaEmbed = vegaEmbed;"
    bundle: str = vl_convert.javascript_bundle(snippet, vl_version=version)
    return bundle.replace("</script", "<\\/script")


def loss_chart(losses: Mapping[str, Numbers], entropy: float) -> Spec:
    """Loss by step of two models, smoothed over the single batches; the entropy as a line.

    The second is drawn broad and pale, so that the first is seen to lie on it.
    """
    names = list(losses)
    rows = [
        {"step": step, "thin": thin, "broad": broad}
        for step, (thin, broad) in enumerate(zip(*losses.values(), strict=True), 1)
    ]
    title = "loss (nats a token)"
    chart = _lines(rows).transform_window(
        smooth_thin="mean(thin)",
        smooth_broad="mean(broad)",
        frame=[-SMOOTHING // 2, SMOOTHING // 2],
    )
    scale = alt.Scale(zero=False)
    color = alt.Color("model:N", scale=alt.Scale(domain=names), title=None)
    thin, broad = (
        chart.transform_calculate(model=json.dumps(name)).encode(color=color) for name in names
    )
    line = _chart([{"entropy": entropy, "text": "unigram entropy"}]).encode(y="entropy:Q")
    layers = alt.layer(
        thin.mark_line(strokeWidth=0.75, opacity=0.3).encode(
            y=alt.Y("thin:Q", title=title, scale=scale)
        ),
        broad.mark_line(strokeWidth=8, opacity=0.6).encode(y="smooth_broad:Q"),
        thin.mark_line(strokeWidth=1.75).encode(y="smooth_thin:Q"),
        line.mark_rule(style="bound"),
        *(
            line.mark_text(style=style, align="right", dx=-2, dy=-9).encode(
                text="text:N", x=alt.value("width")
            )
            for style in ("halo", "bound-text")
        ),
    )
    return _spec(
        layers,
        f"Loss of {' and '.join(names)} over {len(rows)} training steps on the same batches, "
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
    most = max([*tolerance, *(row["difference"] or 0.0 for row in rows)])
    low, high = math.floor(math.log10(SMALLEST_DIFFERENCE)), math.ceil(math.log10(most))
    every = 1 + (high - low) // 6
    powers = [10.0**power for power in range(low, high + every, every)]
    y = alt.Y(
        "difference:Q",
        title="|difference|",
        scale=alt.Scale(type="log", domain=[powers[0], powers[-1]]),
        axis=alt.Axis(format=".0e", values=powers),
    )
    chart = _lines(rows)
    last = chart.transform_filter(f"datum.step == {len(rows)}")
    layers = alt.layer(
        chart.mark_point(filled=True, size=9, opacity=0.8).encode(y=y),
        chart.mark_line(style="bound").encode(y="tolerance:Q"),
        last.mark_text(style="bound-text", align="right", dx=-2, dy=-11).encode(
            y="tolerance:Q", x=alt.value("width"), text=alt.value("tolerance")
        ),
    )
    return _spec(
        layers,
        "Difference of the losses at each of the steps, on a logarithmic scale, and the tolerance "
        f"for it, which is never below {min(tolerance):.1e}.",
        height=130,
    )


def _lines(rows: Rows) -> alt.Chart:
    """A chart by step."""
    axis = alt.Axis(tickCount=8)
    x = alt.X("step:Q", title="step", axis=axis, scale=alt.Scale(nice=False, domainMin=0))
    return _chart(rows).encode(x=x)


def share(row: Mapping[str, Any]) -> float:
    """A tensor's worst error as a share of its tolerance, cut off at `LARGEST_SHARE`."""
    found: float | None = row["share"]
    return LARGEST_SHARE if found is None else min(found, LARGEST_SHARE)


def share_text(found: float | None) -> str:
    """A share in words: percent, or how many times the tolerance."""
    if found is None:
        return "not finite"
    return f"{found:.0%}" if found < 10 else f"{found:,.0f}×"


def gradient_chart(tensors: Rows) -> Spec:
    """Worst error of each tensor's gradient as a share of its tolerance, with a line at 1."""
    rows = [
        {"tensor": row["tensor"], "share": share(row), "text": share_text(row["share"])}
        for row in tensors
    ]
    # Linear as long as everything is near the tolerance; a wrong gradient is off by powers of ten.
    largest = max(row["share"] for row in rows)
    if largest <= 1:
        scale = alt.Scale(domain=[0, 1.08])
        axis = alt.Axis(format="%", tickCount=6)
    else:
        # Room for the figure beside the longest bar.
        scale = alt.Scale(type="symlog", constant=0.01, domain=[0, 200 * largest])
        powers = [10.0**power for power in range(2, math.ceil(math.log10(largest)) + 1, 2)]
        axis = alt.Axis(values=[0, 1, *powers], labelExpr="format(datum.value, ',') + '×'")
    x = alt.X("share:Q", title="share of the tolerance", scale=scale, axis=axis)
    bars = _chart(rows).encode(x=x, y=alt.Y("tensor:N", title=None, sort=None))
    limit = _chart([{"limit": 1}]).encode(x="limit:Q")
    layers = alt.layer(
        bars.mark_bar(cornerRadiusEnd=2, style="within"),
        bars.transform_filter("datum.share > 1").mark_bar(cornerRadiusEnd=2, style="beyond"),
        bars.mark_text(align="left", dx=4).encode(text="text:N"),
        limit.mark_rule(style="bound"),
    )
    beyond = sum(row["share"] > 1 for row in rows)
    worst = share_text(max(tensors, key=share)["share"])
    return _spec(
        layers,
        f"Worst gradient error of {len(rows)} tensors as a share of its tolerance: "
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
    bar = _chart(bars).encode(y=y)
    tick = _chart(blocks).encode(y=y)
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
    return _spec(layers, said, height=36 * len(names))


def _chart(rows: Rows) -> alt.Chart:
    return alt.Chart(alt.InlineData(values=rows))


def _spec(chart: Any, description: str, *, height: int) -> Spec:
    """As wide as the page lets it be."""
    sized = chart.properties(width="container", height=height, description=description)
    spec: Spec = sized.to_dict()
    del spec["config"]  # the page's own
    return spec
