"""What the terminal shows at the end."""

from __future__ import annotations

from typing import Any

from cllm.harness.bench.figures import number, ratio, share


def overview(result: dict[str, Any]) -> str:
    """Each work and competitor that was raced or cannot be, in columns.

    `of peak` is MFU where steps are counted, and MBU where tokens are. Then the figures that could
    not be had.
    """
    rows = [("work", "competitor", "a second", "of peak", "times the best peer")]
    for contest in result["contests"]:
        for entry in contest["entries"]:
            if entry["status"] == "tried":
                continue
            what = f"{contest['configuration']} {contest['kind']}"
            against = ratio(entry["versus"].get(contest["best_peer"]))
            found = number(entry["rate"]) if entry["status"] == "raced" else entry["reason"]
            rows.append((what, entry["name"], found, share(entry["mfu"] or entry["mbu"]), against))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = [
        "  ".join([*(f"{cell:{w}}" for cell, w in zip(row, widths, strict=False)), row[4]])
        for row in rows
    ]
    missing = [f"no {row['figure']}: {row['reason']}" for row in result["missing_figures"]]
    return "\n".join([*lines, *missing])
