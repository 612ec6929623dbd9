"""The page of a report, made from what `report.json` holds.

Promises: one file without network; dark and light; it says nothing that `report.json` does not.
"""

from __future__ import annotations

from typing import Any

import cllm
from cllm.harness import html
from cllm.harness import page as verification
from cllm.harness.bench.figures import number, share
from cllm.harness.charts import Spec, javascript
from cllm.harness.compare.instructions import BLIND
from cllm.harness.machine import is_busy
from cllm.harness.publish import charts, comparison, performance, roofline, words
from cllm.harness.words import duration, plural, threads_of

Report = dict[str, Any]

MARKS = {
    "slower": "▼", "inconclusive": "?", "faster": "▲", "same": "=", "pass": "✓", "fail": "✗",
    "raced": "✓", "tried": "–", "refused": "✗", "failed": "✗",
}  # fmt: skip
"""Beside the word and the color: each says it alone."""

CLASSES = {
    "failed": "fail", "slower": "fail", "faster": "pass", "same": "pass",
    "pass": "pass", "fail": "fail",
}  # fmt: skip
"""Of the seal."""


def render(report: Report) -> str:
    """The page as HTML."""
    if report["kind"] == "verification":
        return verification.render(report)
    environment = html.environment("cllm.harness.publish")
    environment.globals |= {
        "change": words.change,
        "duration": duration,
        "effect": words.effect,
        "facts": words.facts,
        "groups": performance.groups,
        "interval": words.interval,
        "machine_facts": words.machine_facts,
        "number": number,
        "plural": plural,
        "revision": words.revision,
        "share": share,
        "side": comparison.side,
        "threads_of": threads_of,
    }
    specs = specifications(report)
    maker = comparison if report["kind"] == "comparison" else performance
    return environment.get_template(f"{report['kind']}.html").render(
        report=report,
        specs=specs,
        tiles=maker.tiles(report),
        command=maker.command,
        marks=MARKS,
        seal=CLASSES.get(report["status"], "unsure"),
        busy=busy(report),
        blind=BLIND,
        version=cllm.__version__,
        vega=javascript(),
    )


def busy(report: Report) -> bool:
    """Whether so much else ran that a measured speed says little; False where it is not known."""
    try:
        return is_busy(report["machine"])
    except (KeyError, TypeError):
        return False


def specifications(report: Report) -> dict[str, Spec]:
    """The charts by the id of their place on the page."""
    kind = report["kind"]
    found = _of_comparison(report) if kind == "comparison" else _of_performance(report)
    colors = charts.SIDES if kind == "comparison" else performance.palette(report)
    for roof in report["rooflines"]:
        found[f"chart-roofline-{roof['threads']}"] = roofline.chart(roof, colors)
    return found


def _of_comparison(report: Report) -> dict[str, Spec]:
    rows, found = report["benchmarks"], {}
    if any(row["ratio"] for row in rows):
        found["chart-ratios"] = charts.ratio_chart(rows, report["minimum_effect"])
    if relative := comparison.relative(rows):
        title = "against the base’s median"
        found["chart-rates"] = charts.rate_chart(relative, charts.SIDES, title)
    return found


def _of_performance(report: Report) -> dict[str, Spec]:
    rows, found = report["benchmarks"], {}
    if beside := performance.fastest(rows, report["models"]):
        found["chart-versus"] = charts.versus_chart(beside, performance.palette(report))
    if steady := performance.steady(report):
        who = list(dict.fromkeys(row["who"] for row in steady))
        colors = {name: charts.COLORS[place % len(charts.COLORS)] for place, name in enumerate(who)}
        title = "against the median of the row"
        found["chart-rates"] = charts.rate_chart(steady, colors, title)
    return found
