"""The picture of the report: everybody relative to the best peer, and what is aimed at."""

from __future__ import annotations

from typing import Any

import altair as alt
import vl_convert

from cllm.harness.bench.configurations import CONFIGURATIONS, OPTIMIZED
from cllm.harness.bench.task import Kind

Rows = list[dict[str, Any]]

COLORS = ("#0b7285", "#868e96", "#7048e8", "#e8590c", "#2b8a3e")
TICKS = [step * 10.0**power for power in range(-4, 3) for step in (1, 2, 5)]
WIDTH, ROW = 560, 34


def points(result: dict[str, Any]) -> Rows:
    """Every library's fastest entry as a multiple of the best peer, for contests with a peer.

    For a model the median of the blocks' ratios, as in the tables.
    """
    rows = []
    for contest in result["contests"]:
        best = contest["best_peer"]
        raced = {e["name"]: e for e in contest["entries"] if e["status"] == "raced" and e["rate"]}
        if best not in raced:
            continue
        for library in dict.fromkeys(entry["library"] for entry in raced.values()):
            entry = max(
                (entry for entry in raced.values() if entry["library"] == library),
                key=lambda entry: entry["rate"],
            )
            ratio = entry["rate"] / raced[best]["rate"]
            if best in entry["versus"]:
                ratio = entry["versus"][best][0]
            rows.append({"work": _work(contest), "library": library, "ratio": ratio})
    return rows


def aims(result: dict[str, Any]) -> Rows:
    """The aims of the contests with a peer, if the optimized model was measured."""
    if OPTIMIZED not in result["settings"]["models"]:
        return []
    rows = []
    for contest in result["contests"]:
        configuration = CONFIGURATIONS.get(contest["configuration"])
        if configuration is None or contest["best_peer"] is None:
            continue
        is_training = Kind(contest["kind"]).is_training
        aim = configuration.aim if is_training else configuration.generation_aim
        if aim is not None:
            rows.append({"work": _work(contest), "ratio": aim})
    return rows


def _work(contest: dict[str, Any]) -> str:
    return f"{contest['configuration']}, {contest['kind']}"


def svg(result: dict[str, Any]) -> str | None:
    """The picture; None where there is no peer."""
    rows = points(result)
    if not rows:
        return None
    works = list(dict.fromkeys(row["work"] for row in rows))
    libraries = list(dict.fromkeys(row["library"] for row in rows))
    aimed = aims(result)
    seen = [row["ratio"] for row in (*rows, *aimed)]
    domain = [0.8 * min(seen), 1.25 * max(seen)]
    ticks = [tick for tick in TICKS if domain[0] <= tick <= domain[1]]
    x = alt.X(
        "ratio:Q",
        scale=alt.Scale(type="log", domain=domain, nice=False),
        title="times the best peer (logarithmic)" + ("; | what is aimed at" if aimed else ""),
        axis=alt.Axis(format="~g", values=ticks),
    )
    y = alt.Y("work:N", sort=works, title=None, axis=alt.Axis(grid=True, labelLimit=200))
    names = alt.Scale(domain=libraries)
    color = alt.Color(
        "library:N",
        scale=alt.Scale(domain=libraries, range=list(COLORS)),
        title=None,
        legend=alt.Legend(orient="top"),
    )
    # One column of figures beside the plot: those of the first model.
    mine = [row for row in rows if row["library"] == result["settings"]["models"][0]]
    figure = alt.Text("label:N")
    layers = alt.layer(
        _chart([{"ratio": 1}]).mark_rule(strokeDash=[4, 4]).encode(x=x),
        _chart(aimed).mark_tick(thickness=2, size=20, color="black").encode(x=x, y=y),
        _chart(rows)
        .mark_point(filled=True, size=110, opacity=0.9)
        .encode(x=x, y=y, color=color, shape=alt.Shape("library:N", scale=names)),
        _chart([{**row, "label": f"{row['ratio']:.2f}×"} for row in mine])
        .mark_text(align="left", fontWeight="bold")
        .encode(x=alt.value(WIDTH + 8), y=y, color=color, text=figure),
    ).properties(width=WIDTH, height=ROW * len(works), background="white", padding=12)
    found: str = vl_convert.vegalite_to_svg(layers.to_dict())
    return found


def _chart(rows: Rows) -> alt.Chart:
    return alt.Chart(alt.InlineData(values=rows))
