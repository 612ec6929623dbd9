"""The roofline (Williams, Waterman & Patterson 2009): how fast a benchmark could be here at all.

No more than min(peak, bandwidth · intensity) FLOP/s can be reached, with the peak of multiply-adds
and the bandwidths that the probe measured in the same run. The intensity, FLOPs by bytes moved, is
counted and not measured:

- a training step passes ten times over vectors as long as the parameters: it reads them forward and
  backward and writes the gradient; the update reads parameters, gradient and both moments and
  writes all but the gradient. 40 bytes a parameter in float32, from whatever level holds them.
- a generated token reads each parameter once, and the keys and values before it
  (`cllm.harness.bench.bandwidth`): somewhat more than 4 bytes a parameter.

Activations are not counted, which move the more the larger the batch is: the true point lies to the
left of the one drawn. What stays in registers or a nearer cache between two passes moves it to the
right.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import altair as alt

from cllm.config import SIZES, Config
from cllm.errors import CllmError
from cllm.harness.bench.bandwidth import token_bytes
from cllm.harness.cases import Setting
from cllm.harness.charts import Rows, Spec, inline, specification
from cllm.harness.publish.charts import COLUMNS, Row
from cllm.harness.words import threads_of

PASSES, ITEM_BYTES = 10, 4

ROOM = 2.0
"""Factor that the axes reach beyond the outermost points."""

GENERATION = "generation"
"""The label of all points of generation, which have one intensity."""

APART = 2.2
"""Factor between intensities from which on labels do not get into each other's way."""

FEW = 3
"""Powers of ten on an axis."""


@dataclass(frozen=True)
class Point:
    """A benchmark by its intensity and its speed."""

    name: str
    """`small step`"""
    label: str
    """Short, for the picture."""
    who: str
    """Whose color it has."""
    threads: int
    intensity: float
    """FLOP/byte"""
    speed: float
    """FLOP/s"""


def intensity(sizes: Mapping[str, int], is_training: bool, flops: float) -> float | None:
    """FLOP/byte of one step or one token; None where the sizes are not those of a model."""
    try:
        config = Config.from_dict({name: sizes[name] for name in SIZES})
        setting = Setting(config, sizes["batch_size"], sizes["seq_len"])
    except (KeyError, CllmError):
        return None
    nbytes = PASSES * ITEM_BYTES * config.num_parameters if is_training else token_bytes(setting)
    return flops / nbytes or None


def rooflines(points: Iterable[Point], probe: Mapping[str, Any]) -> list[dict[str, Any]]:
    """By number of threads: `peak` FLOP/s, `bandwidths` in bytes/s, and the `points`.

    Empty where the probe's figures or the points for a number of threads are missing.
    """
    points = list(points)
    found = []
    for threads in sorted({point.threads for point in points}):
        peak = probe.get("fma", {}).get(str(threads))
        bandwidths = probe.get("read", {}).get(str(threads))
        if peak and bandwidths:
            own = [asdict(point) for point in points if point.threads == threads]
            roof = {"threads": threads, "peak": peak, "bandwidths": dict(bandwidths)}
            found.append({**roof, "points": own})
    return found


def chart(roofline: Mapping[str, Any], colors: Mapping[str, str]) -> Spec:
    """Both axes logarithmic; `colors` by who is measured."""
    points, peak, bandwidths = (roofline[name] for name in ("points", "peak", "bandwidths"))
    at = [point["intensity"] for point in points]
    ridges = [peak / bandwidth for bandwidth in bandwidths.values()]
    left, right = min(*at, *ridges) / ROOM, max(*at, *ridges) * ROOM
    middle = math.sqrt(left * right)
    slowest = min(bandwidths.values()) * left
    speeds = [point["speed"] for point in points]
    bottom, top = min(slowest, *speeds) / ROOM, max(peak, *speeds) * ROOM
    names = [f"{place}, {bandwidth / 1e9:,.0f} GB/s" for place, bandwidth in bandwidths.items()]
    slopes = [
        {"roof": name, "x": x, "y": bandwidth * x}
        for name, bandwidth in zip(names, bandwidths.values(), strict=True)
        for x in (left, peak / bandwidth)
    ]
    x = alt.X(
        "x:Q",
        title="FLOP by byte, counted",
        scale=alt.Scale(type="log", domain=[left, right], nice=False),
        axis=_axis(left, right, "~g"),
    )
    y = alt.Y(
        "y:Q",
        title="FLOP/s",
        scale=alt.Scale(type="log", domain=[bottom, top], nice=False),
        axis=_axis(bottom, top, "~s"),
    )
    dash = alt.StrokeDash(
        "roof:N",
        title=None,
        scale=alt.Scale(domain=names, range=[[1, 0], [6, 3], [2, 3]]),
        legend=alt.Legend(columns=alt.expr("width < 360 ? 1 : 3"), symbolSize=300),
    )
    who = list(dict.fromkeys(point["who"] for point in points))
    color = alt.Color(
        "who:N",
        title=None,
        scale=alt.Scale(domain=who, range=[colors[name] for name in who]),
        legend=alt.Legend(symbolType="circle", symbolSize=70, symbolStrokeWidth=0, columns=COLUMNS),
    )
    rows = [{**point, "x": point["intensity"], "y": point["speed"]} for point in points]
    tooltip = [
        alt.Tooltip("who:N", title="of"),
        alt.Tooltip("name:N", title="benchmark"),
        alt.Tooltip("x:Q", title="FLOP by byte", format=".3~g"),
        alt.Tooltip("y:Q", title="FLOP/s", format=".3~s"),
    ]
    roof = [{"x": min(ridges), "y": peak, "end": right}]
    ceiling = f"{peak / 1e9:,.0f} GFLOP/s"
    layers = alt.layer(
        inline(slopes).mark_line(clip=True, strokeWidth=1.25, color="var(--muted)").encode(
            x=x, y=y, strokeDash=dash
        ),
        inline(roof).mark_rule(strokeWidth=1.5, color="var(--ink)").encode(
            x="x:Q", x2="end:Q", y="y:Q"
        ),
        inline(rows).mark_circle(size=64, opacity=0.9).encode(
            x="x:Q", y="y:Q", fill=color, tooltip=tooltip
        ),
        *(
            inline(labels(points, middle, is_left))
            .mark_text(align="left" if is_left else "right", dx=-7 if is_left else 7, dy=15)
            .encode(x="x:Q", y="y:Q", text="label:N")
            for is_left in (True, False)
        ),
    )  # fmt: skip
    nearest = max(points, key=lambda point: point["speed"])
    found = specification(
        layers,
        f"Roofline with {threads_of(roofline['threads'])}: {len(points)} points under a peak of "
        f"{ceiling} and bandwidths of {'; '.join(names)}. The fastest, {nearest['name']} of "
        f"{nearest['who']}, reaches {nearest['speed'] / peak:.0%} of the peak.",
        height=250,
    )
    beneath = {"top": {"direction": "vertical", "anchor": "start", "margin": 4}}
    return {**found, "config": {"legend": {"layout": beneath}}}


def labels(points: Iterable[Row], middle: float, is_left: bool) -> Rows:
    """Names beneath the slowest points on one side of the `middle`; neighbors share one."""
    groups: list[list[Row]] = []
    for point in sorted(points, key=lambda point: point["intensity"]):
        if (point["intensity"] < middle) != is_left:
            continue
        if groups and point["intensity"] < APART * groups[-1][0]["intensity"]:
            groups[-1].append(point)
        else:
            groups.append([point])
    return [
        {
            "label": ", ".join(dict.fromkeys(point["label"] for point in group)),
            "x": group[0 if is_left else -1]["intensity"],
            "y": min(point["speed"] for point in group),
        }
        for group in groups
    ]


def _axis(low: float, high: float, form: str) -> alt.Axis:
    """A tick at each power of ten, or at 1, 2, 5 where there are few of them."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    digits = (1, 2, 5) if len(powers) <= FEW else (1,)
    ticks = [digit * 10.0**power for power in powers for digit in digits]
    return alt.Axis(values=[tick for tick in ticks if low <= tick <= high], format=form)
