"""A run of `cllm bench` as a report: how fast, beside whom, of what the machine can do.

`report.json` holds

- `version`: 1, raised whenever a key changes its meaning; `kind`: `performance`;
- `status`: `fail` where a model crashed or computed something else, else `pass`; `exit_status`;
  `headline`: the same in words; `start`: where to look first when something failed, else null;
- `created`: UTC, ISO 8601, null where unknown;
- `models`, `missing_peers`, `missing_figures` (`figure` and `reason`), `peer_versions`, `settings`,
  `machine`, `level`, `commit` (null where unknown) and the `seconds` it took;
- `benchmarks`: one a contest and competitor: `title`, `benchmark`, `who`, `is_peer`, `threads`,
  `unit`, `status`, `reason`, `rate`, `rates` by block, `share` of what the machine can do: of
  its multiply-adds in training (MFU), of the bandwidth at which it reads the weights in generation
  (MBU; null where it was not measured); `versus` the best peer (ratio, low and high end of 95%)
  or null, `build_seconds`;
- `rooflines`: see `cllm.harness.publish.roofline`;
- `tables`: `title`, `note`, `head` and `rows` in words: operations, memory, import.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from statistics import median
from typing import Any

from cllm.config import Config
from cllm.harness.bench.figures import number, share
from cllm.harness.bench.flops import matmul_parameters, step_flops
from cllm.harness.bench.markdown import command as bench_command
from cllm.harness.bench.task import Kind
from cllm.harness.cases import Setting
from cllm.harness.compare.comparison import EXIT_GOOD, EXIT_WORSE
from cllm.harness.publish.charts import COLORS
from cllm.harness.publish.roofline import GENERATION, Point, intensity, rooflines
from cllm.harness.publish.words import short
from cllm.harness.words import plural, threads_of
from cllm.plan import format_bytes

Report = dict[str, Any]
Row = dict[str, Any]

VERSION = 1

MOST_TILES = 4

BAD = ("refused", "failed")


def report_of(document: Mapping[str, Any]) -> Report:
    """What `report.json` holds, of a `performance.json` that was checked."""
    models = document["settings"]["models"]
    rows = [row for contest in document["contests"] for row in _rows(contest)]
    bad = [row for row in rows if row["status"] in BAD and row["library"] in models]
    return {
        "version": VERSION,
        "kind": "performance",
        "status": "fail" if bad else "pass",
        "exit_status": EXIT_WORSE if bad else EXIT_GOOD,
        "headline": headline(models, rows, len(bad)),
        "start": f"{bad[0]['title']}: {bad[0]['status']}: {bad[0]['reason']}" if bad else None,
        "created": document.get("created"),
        "models": models,
        "missing_peers": document["missing_peers"],
        "missing_figures": document.get("missing_figures", []),
        "peer_versions": document.get("peer_versions", {}),
        "settings": document["settings"],
        "machine": document["machine"],
        "level": document["probe"]["level"],
        "commit": document.get("commit"),
        "seconds": document["seconds"],
        "benchmarks": rows,
        "rooflines": rooflines(_points(document["contests"], models), document["probe"]),
        "tables": list(_tables(document)),
    }


def _rows(contest: Row) -> Iterator[Row]:
    benchmark = short(f"{contest['configuration']} {contest['kind']}")
    for entry in contest["entries"]:
        who = short(entry["name"])
        yield {
            "title": f"{benchmark}, {who}",
            "benchmark": benchmark,
            "who": who,
            "library": entry["library"],
            "is_peer": entry["is_peer"],
            "threads": entry["threads"],
            "unit": Kind(contest["kind"]).unit,
            "status": entry["status"],
            "reason": entry["reason"],
            "rate": entry["rate"],
            "rates": [rate for rate in entry["rates"] if rate is not None],
            "share": entry["mfu"] or entry.get("mbu"),
            "versus": entry["versus"].get(contest["best_peer"]),
            "build_seconds": entry["build_seconds"],
        }


def headline(models: list[str], rows: list[Row], bad: int) -> str:
    """One sentence."""
    who = short(" and ".join(models))
    if bad:
        return f"{plural(bad, 'measurement')} of {who} failed"
    ratios = [row["versus"][0] for row in fastest(rows, models)]
    if not ratios:
        return f"{who}: {plural(len({row['benchmark'] for row in rows}), 'benchmark')}"
    if len(ratios) == 1:
        return f"{who}: {ratios[0]:.2f} times the best peer"
    return f"{who}: {min(ratios):.2f} to {max(ratios):.2f} times the best peer"


def fastest(rows: list[Row], models: list[str]) -> list[Row]:
    """Of each model and benchmark the row of the fastest number of threads, beside a peer."""
    found: dict[tuple[str, str], Row] = {}
    for row in rows:
        key = row["benchmark"], row["library"]
        if row["versus"] and row["library"] in models and row["rate"]:
            best = found.get(key)
            if best is None or row["rate"] > best["rate"]:
                found[key] = row
    return list(found.values())


def palette(report: Report) -> dict[str, str]:
    """A color for each library, the models first."""
    libraries = dict.fromkeys(
        [*report["models"], *(row["library"] for row in report["benchmarks"])]
    )
    return {name: COLORS[place % len(COLORS)] for place, name in enumerate(libraries)}


def groups(report: Report) -> list[list[Row]]:
    """Rows by benchmark, without what was only tried."""
    found: dict[str, list[Row]] = {}
    for row in report["benchmarks"]:
        if row["status"] != "tried":
            found.setdefault(row["benchmark"], []).append(row)
    return list(found.values())


def tiles(report: Report) -> list[tuple[str, str, str]]:
    """Title, figure and explanation of what matters most."""
    rows, models = report["benchmarks"], report["models"]
    own = [row for row in rows if row["library"] in models and row["rate"]]
    beside = fastest(rows, models)
    found = []
    for title, choose in (("Least ahead of a peer", min), ("Most ahead of a peer", max)):
        if beside:
            row = choose(beside, key=lambda row: row["versus"][0])
            ratio, low, high = row["versus"]
            text = f"95% interval {low:.2f} to {high:.2f}, in {row['title']}"
            found.append((title, f"{ratio:.2f}×", text))
    if measured := [row for row in own if row["share"]]:
        best = max(measured, key=lambda row: row["share"])
        text = f"of what the machine can do, in {best['title']}"
        found.append(("Nearest to the peak", share(best["share"]), text))
    for row in own[: MOST_TILES - len(found)]:
        found.append((row["title"], f"{number(row['rate'])} {row['unit']}", "median over blocks"))
    return found


def command(report: Report) -> str:
    """What repeats the measurement."""
    return bench_command({"settings": {"file": None, **report["settings"]}})


def steady(report: Report) -> list[Row]:
    """For the chart of rates: the models' rates by block, as a ratio to their median."""
    return [
        {
            "title": row["benchmark"],
            "who": row["who"],
            "rates": [rate / median(row["rates"]) for rate in row["rates"]],
        }
        for row in report["benchmarks"]
        if row["rates"] and row["library"] in report["models"]
    ]


def _points(contests: list[Row], models: list[str]) -> Iterator[Point]:
    """The raced entries, the models' first; the best of a library with so many threads."""
    found: dict[tuple[str, str, int], Point] = {}
    for contest in contests:
        config = Config.from_dict(contest["sizes"])
        is_training = Kind(contest["kind"]).is_training
        setting = Setting(config, contest["batch_size"], contest["seq_len"])
        flops = step_flops(setting) if is_training else 2 * matmul_parameters(config)
        sizes = contest["sizes"] | {"batch_size": setting.batch_size, "seq_len": setting.seq_len}
        at = intensity(sizes, is_training, flops)
        name = short(f"{contest['configuration']} {contest['kind']}")
        for entry in contest["entries"]:
            if entry["status"] != "raced" or not entry["rate"] or at is None:
                continue
            speed, threads, library = entry["rate"] * flops, entry["threads"], entry["library"]
            key = name, library, threads
            if key not in found or found[key].speed < speed:
                label = short(contest["configuration"]) if is_training else GENERATION
                found[key] = Point(name, label, library, threads, at, speed)
    yield from sorted(found.values(), key=lambda point: point.who not in models)


def _tables(document: Mapping[str, Any]) -> Iterator[Row]:
    operations = document["operations"]
    yield {
        "title": "Single operations",
        "note": f"On one thread at the sizes of {operations['configuration']}.",
        "head": ["operation", "optimized, µs", "reference, µs", "reference / optimized"],
        "rows": [
            [
                " without ".join([row["function"], *row["without"]]),
                number(row["optimized_seconds"] * 1e6),
                number(row["reference_seconds"] * 1e6),
                number(row["ratio"]),
            ]
            for row in operations["rows"]
        ],
    }
    yield {
        "title": "Memory of a training step",
        "note": "What is planned, and by how much the process grew.",
        "head": ["model", "parameters", "plan", "measured"],
        "rows": [
            [f"{row['model']}, {row['configuration']}, {threads_of(row['threads'])}"]
            + [
                format_bytes(row[name])
                for name in ("parameter_bytes", "planned_bytes", "grown_bytes")
            ]
            for row in document["memory"]
        ],
    }
    yield {
        "title": "Import",
        "note": "Milliseconds in a new process.",
        "head": ["module", "import, ms", "NumPy alone, ms"],
        "rows": [
            [row["module"], *(f"{1e3 * row[name]:.0f}" for name in ("seconds", "numpy_seconds"))]
            for row in document["imports"]
        ],
    }
