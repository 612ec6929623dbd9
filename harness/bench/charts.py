"""The picture of the report: everybody relative to the best peer."""

from __future__ import annotations

from typing import Any

import altair as alt
import vl_convert

Rows = list[dict[str, Any]]

COLORS = ("#0b7285", "#e8590c", "#7048e8", "#868e96", "#2b8a3e")
WIDTH, ROW = 560, 34


def points(result: dict[str, Any]) -> Rows:
    """Every library's fastest entry as a multiple of the best peer, for contests with a peer."""
    rows = []
    for contest in result["contests"]:
        raced = [e for e in contest["entries"] if e["status"] == "raced" and e["rate"]]
        best = next((e["rate"] for e in raced if e["name"] == contest["best_peer"]), None)
        if best is None:
            continue
        for library in dict.fromkeys(e["library"] for e in raced):
            rate = max(e["rate"] for e in raced if e["library"] == library)
            work = f"{contest['configuration']}, {contest['kind']}"
            rows.append({"work": work, "library": library, "ratio": rate / best})
    return rows


def svg(result: dict[str, Any]) -> str | None:
    """The picture; None where there is no peer."""
    rows = points(result)
    if not rows:
        return None
    works = list(dict.fromkeys(row["work"] for row in rows))
    libraries = list(dict.fromkeys(row["library"] for row in rows))
    y = alt.Y("work:N", sort=works, title=None, axis=alt.Axis(grid=True, labelLimit=200))
    x = alt.X(
        "ratio:Q",
        scale=alt.Scale(type="log"),
        title="times the best peer (logarithmic)",
        axis=alt.Axis(format="~g", tickCount=8),
    )
    color = alt.Color(
        "library:N", scale=alt.Scale(domain=libraries, range=list(COLORS)), title=None
    )
    chart = alt.Chart(alt.InlineData(values=rows))
    ours = set(result["settings"]["models"])
    labels = alt.Chart(
        alt.InlineData(values=[row for row in rows if row["library"] in ours])
    ).mark_text(align="left", dx=9, fontWeight="bold")
    rule = alt.Chart(alt.InlineData(values=[{"ratio": 1}])).mark_rule(strokeDash=[4, 4])
    layers = alt.layer(
        rule.encode(x=x),
        chart.mark_point(filled=True, size=110, opacity=0.9).encode(
            x=x, y=y, color=color, shape=alt.Shape("library:N", scale=alt.Scale(domain=libraries))
        ),
        labels.encode(x=x, y=y, color=color, text=alt.Text("ratio:Q", format=".2~f")),
    ).properties(width=WIDTH, height=ROW * len(works), background="white", padding=12)
    found: str = vl_convert.vegalite_to_svg(layers.to_dict())
    return found
