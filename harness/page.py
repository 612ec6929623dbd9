"""The page of a report, made from what `report.json` holds.

Promises: one file without network; dark and light; it says nothing that `report.json` does not.
"""

from __future__ import annotations

import shlex
from collections import Counter
from statistics import median
from typing import Any

import jinja2

from cllm.harness import charts
from cllm.plan import format_bytes

Report = dict[str, Any]

MARKS = {"pass": "✓", "fail": "✗", "not applicable": "–", "inconclusive": "?"}
"""Beside the word and the color: each says it alone."""

CAUSES = ("loss.value", "loss.causal", "gradients", "training", "generation", "determinism")
"""Checks and families from cause to effect: what fails first makes those after it fail."""

SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def render(report: Report) -> str:
    """The page as HTML."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("cllm.harness"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["bytes"] = format_bytes
    environment.filters["number"] = lambda value: "not finite" if value is None else f"{value:.3g}"
    environment.filters["share"] = charts.share_text
    return environment.get_template("index.html").render(
        report=report,
        names=names(report),
        headline=headline(report),
        origin=origin(report),
        tiles=tiles(report),
        marks=MARKS,
        command=command(report),
        specs=specifications(report),
        vega=charts.javascript(),
    )


def names(report: Report) -> dict[str, str]:
    """What the candidate and the reference are called."""
    settings = report["settings"]
    found = {role: str(settings[role]) for role in ("candidate", "reference")}
    if found["candidate"] == found["reference"]:
        return {role: f"{name} ({role})" for role, name in found.items()}
    return found


def headline(report: Report) -> str:
    """One sentence."""
    counts = Counter(verdict["status"] for verdict in report["verdicts"])
    total = len(report["verdicts"])
    if counts["fail"]:
        return f"{counts['fail']} of {total} checks failed"
    if report["status"] == "inconclusive":
        unsure = counts["inconclusive"]
        are = "is" if unsure == 1 else "are"
        return f"Nothing failed, but {unsure} of {total} checks {are} inconclusive"
    if missing := counts["not applicable"]:
        do = "does" if missing == 1 else "do"
        return f"{counts['pass']} checks hold, {missing} {do} not apply"
    return f"All {total} checks hold"


def origin(report: Report) -> Report | None:
    """The failed check whose evidence is nearest to the fault; None where nothing failed."""
    failed = [verdict for verdict in report["verdicts"] if verdict["status"] == "fail"]

    def rank(verdict: Report) -> int:
        causes = (i for i, cause in enumerate(CAUSES) if verdict["check"].startswith(cause))
        return next(causes, len(CAUSES))

    return min(failed, key=rank, default=None)


def tiles(report: Report) -> list[tuple[str, str, str]]:
    """Title, figure and explanation of what matters most."""
    curves, benchmark, tensors = report["curves"], report["benchmark"], report["tensors"]
    found = []
    if curves:
        last = max(1, len(curves["candidate"]) // 10)
        ends = [loss for loss in curves["candidate"][-last:] if loss is not None]
        loss = f"{sum(ends) / len(ends):.2f}" if ends else "not finite"
        found.append(
            (
                "Loss at the end",
                loss,
                f"nats a token; unigram entropy {curves['entropy']:.2f}",
            )
        )
        apart = charts.differences(curves)
        finite = [difference for difference in apart if difference is not None]
        found.append(
            (
                "Largest difference in loss",
                power_of_ten(max(finite)) if len(finite) == len(apart) else "not finite",
                f"over {len(apart)} steps on the same batches",
            )
        )
    if tensors:
        worst = max(tensors, key=charts.share)
        found.append(
            (
                "Worst gradient error",
                charts.share_text(worst["share"]),
                ("in " if worst["share"] is None else "of its tolerance, in ") + worst["tensor"],
            )
        )
    if benchmark:
        found.append(
            (
                "Steps per second",
                f"{benchmark['ratio']:.2f}×",
                f"the reference’s; 95% interval {benchmark['low']:.2f} to {benchmark['high']:.2f}",
            )
        )
    return found


def power_of_ten(number: float) -> str:
    """7.4e-07 as people write it."""
    digits, _, power = f"{number:.1e}".partition("e")
    return f"{digits} · 10{str(int(power)).translate(SUPERSCRIPTS)}"


def command(report: Report) -> str:
    """What repeats the verification."""
    settings = report["settings"]
    words = ["cllm", "verify", *settings["paths"], "--model", settings["candidate"]]
    for option in ("reference", "steps", "seed", "threads"):
        words += [f"--{option}", str(settings[option])]
    return shlex.join(words)


def specifications(report: Report) -> dict[str, charts.Spec]:
    """The charts by the id of their place on the page."""
    called, curves, benchmark = names(report), report["curves"], report["benchmark"]
    found = {}
    if curves:
        losses = {name: curves[role] for role, name in called.items()}
        found["chart-loss"] = charts.loss_chart(losses, curves["entropy"])
        found["chart-difference"] = charts.difference_chart(
            charts.differences(curves), curves["tolerance"]
        )
    if report["tensors"]:
        found["chart-gradients"] = charts.gradient_chart(report["tensors"])
    if benchmark:
        rates = {name: benchmark[role] for role, name in called.items()}
        medians = {name: median(values) for name, values in rates.items()}
        found["chart-speed"] = charts.speed_chart(rates, medians)
    return found
