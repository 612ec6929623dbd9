"""What the terminal shows at the end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cllm.harness.bench.figures import number, ratio, share
from cllm.harness.display import table

HEAD = ("work", "competitor", "a second", "over the blocks", "of peak", "times the best peer")


def overview(result: dict[str, Any]) -> str:
    """Each work and competitor that was raced or cannot be, in columns.

    `of peak` is MFU where steps are counted, and MBU where tokens are. Then the figures that could
    not be had.
    """
    rows = []
    for contest in result["contests"]:
        for entry in contest["entries"]:
            if entry["status"] == "tried":
                continue
            what = f"{contest['configuration']} {contest['kind']}"
            against = ratio(entry["versus"].get(contest["best_peer"]))
            found = number(entry["rate"]) if entry["status"] == "raced" else entry["reason"]
            peak = share(entry["mfu"] or entry["mbu"])
            rows.append((what, entry["name"], found, _range(entry["rates"]), peak, against))
    missing = [f"no {row['figure']}: {row['reason']}" for row in result["missing_figures"]]
    return "\n".join([table(rows, HEAD), *missing])


def _range(rates: Sequence[float | None]) -> str:
    """Lowest and highest."""
    found = [rate for rate in rates if rate is not None]
    return f"{number(min(found))} to {number(max(found))}" if found else "–"
