"""The page of a report, made from what `report.json` holds.

Promises: one file without network; dark and light; it says nothing that `report.json` does not.
"""

from __future__ import annotations

import re
import shlex
from collections import Counter
from statistics import median
from typing import Any

from cllm.harness import charts, html
from cllm.harness.machine import is_busy
from cllm.plan import format_bytes

Report = dict[str, Any]

MARKS = {"pass": "✓", "fail": "✗", "not applicable": "–", "inconclusive": "?"}
"""Beside the word and the color: each says it alone."""

SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def render(report: Report) -> str:
    """The page as HTML."""
    environment = html.environment()
    environment.filters["bytes"] = format_bytes
    environment.filters["number"] = lambda value: "not finite" if value is None else f"{value:.3g}"
    environment.filters["share"] = charts.share_text
    return environment.get_template("index.html").render(
        report=report,
        names=names(report),
        headline=headline(report),
        tiles=tiles(report),
        marks=MARKS,
        command=command(report),
        specs=specifications(report),
        layers=layers(report),
        on_lattice=on_lattice(report),
        busy=is_busy(report["machine"]),
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


def tiles(report: Report) -> list[tuple[str, str, str]]:
    """Title, figure and explanation of what matters most."""
    curves, benchmark, tensors = report["curves"], report["benchmark"], report["tensors"]
    found = []
    if curves:
        last = max(1, len(curves["candidate"]) // 10)
        ends = [loss for loss in curves["candidate"][-last:] if loss is not None]
        loss = f"{sum(ends) / len(ends):.2f}" if ends else "not finite"
        nats = f"nats a token; unigram entropy {curves['entropy']:.2f}"
        found.append(("Loss at the end", loss, nats))
        apart = charts.differences(curves)
        finite = [difference for difference in apart if difference is not None]
        largest = power_of_ten(max(finite)) if len(finite) == len(apart) else "not finite"
        steps = f"over {len(apart)} steps on the same batches"
        found.append(("Largest difference in loss", largest, steps))
    if tensors:
        found.append(gradient_tile(report))
    if benchmark:
        interval = f"95% interval {benchmark['low']:.2f} to {benchmark['high']:.2f}"
        if is_busy(report["machine"]):
            interval += "; the machine was busy"
        speed = f"{benchmark['ratio']:.2f}×"
        found.append(("Steps per second", speed, f"the reference’s; {interval}"))
    return found


def gradient_tile(report: Report) -> tuple[str, str, str]:
    """The tensor where a mistake shows first in backward, or the one nearest to its tolerance."""
    verdicts = {verdict["check"]: verdict for verdict in report["verdicts"]}
    tensors = {row["tensor"]: row for row in report["tensors"]}
    beyond = sum(charts.share(row) > 1 for row in tensors.values())
    if start := verdicts["gradients.reference"]["details"].get("start"):
        first = tensors[start["tensor"]]
        text = (
            f"{charts.share_text(first['share'])} its tolerance; "
            f"{beyond} of {len(tensors)} tensors are beyond theirs"
        )
        if verdicts.get("loss.value", {"status": ""})["status"] == "fail":
            text += ", after a forward pass that is wrong already"
        return "Gradients go wrong first in", first["tensor"], text
    worst = max(tensors.values(), key=charts.share)
    said = charts.share_text(worst["share"])
    text = "in " if worst["share"] is None else "its tolerance, in "
    return "Worst gradient error", said, text + worst["tensor"]


def layers(report: Report) -> int:
    """Of the deepest network whose gradients were compared."""
    numbers = re.findall(r"layer(\d+)", " ".join(row["tensor"] for row in report["tensors"]))
    return 1 + max(map(int, numbers), default=0)


def power_of_ten(number: float) -> str:
    """7.4e-07 as people write it."""
    digits, _, power = f"{number:.1e}".partition("e")
    return f"{digits} · 10{str(int(power)).translate(SUPERSCRIPTS)}"


def on_lattice(report: Report) -> bool:
    """Whether the models that were trained and measured had parts of the lattice."""
    return str(report["settings"].get("lattice", "none")) != "none"


def command(report: Report) -> str:
    """What repeats the verification."""
    settings = report["settings"]
    words = ["cllm", "verify", *settings["paths"], "--model", settings["candidate"]]
    for name in settings["checks"]:
        words += ["--check", name]
    if on_lattice(report):
        words += ["--lattice", settings["lattice"]]
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
