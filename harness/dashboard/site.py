"""The folder of the site: a page, its scripts, and one file of data for each series.

    index.html     the page, the same for every history but for its headline
    vega.js        what draws the charts
    data/index.js  what the lists show of every series
    data/<id>.js   every point of one series, loaded when it is opened

Promises: it works from a file:// address and without network (data are scripts, since a page of a
file may not fetch); each file is whole; files of series that are gone are removed.
Leaves out: where changes are, and how they are judged (`changepoints`, `shifts`).
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cllm
from cllm.errors import CllmError
from cllm.files import atomic_file
from cllm.harness import html
from cllm.harness.charts import javascript
from cllm.harness.dashboard.charts import series_chart
from cllm.harness.dashboard.series import REGRESSED, TOO_FEW, document, entry
from cllm.harness.history.changepoints import FEWEST, change_points
from cllm.harness.history.shifts import judge

if TYPE_CHECKING:
    from cllm.harness.history.store import History

FILTERS = {
    "machine": "Machine",
    "benchmark": "Benchmark",
    "candidate": "Candidate",
    "threads": "Threads",
    "status": "Status",
}
SCRIPTS = (
    "theme.js",
    "format.js",
    "elements.js",
    "state.js",
    "lists.js",
    "chart.js",
    "series.js",
    "dashboard.js",
)

Entry = dict[str, Any]
Progress = Callable[[str, int, int], None]


def build(history: History, output: Path, progress: Progress) -> str:
    """Write the site over a history to the folder; returns its headline.

    Raises `CllmError` where the history has no results, or the folder holds another page.
    """
    total = len(history.series())
    if not total:
        raise CllmError("the history has no results yet: `cllm history add FILE` brings some in")
    data = output / "data"
    if (output / "index.html").exists() and not (data / "index.js").exists():
        raise CllmError(f"{output} holds another page, no dashboard: name another folder")
    data.mkdir(parents=True, exist_ok=True)
    entries, known = [], {}
    for done, (info, points) in enumerate(history.all_points()):
        progress("Series", done, total)
        known[info.series.machine] = info.machine
        shifts = judge(change_points([point.value for point in points]), info.better)
        made = entry(
            info.series,
            points,
            shifts,
            better=info.better,
            configuration=info.configuration,
        )
        _write(data / f"{made['id']}.js", f"documents[{_json(made['id'])}]", document(points))
        entries.append(made)
    progress("Series", total, total)
    entries.sort(key=_order)
    index = {
        "machines": machines(known),
        "series": entries,
    }
    with atomic_file(output / "vega.js") as file:
        file.write(f"(() => {{{javascript()}}})();\n".encode())  # its names stay its own
    _write(data / "index.js", "dashboard", index)
    with atomic_file(output / "index.html") as file:
        file.write(page(entries).encode())
    _remove_others(data, {made["id"] for made in entries})
    return headline(entries)


def page(entries: Sequence[Entry]) -> str:
    """The page, with a headline and without figures."""
    template = html.environment("cllm.harness.dashboard").get_template("dashboard.html")
    return template.render(
        headline=headline(entries),
        lead=lead(entries),
        seal=seal(entries),
        filters=FILTERS,
        scripts=SCRIPTS,
        chart=series_chart(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        version=cllm.__version__,
    )


def headline(entries: Sequence[Entry]) -> str:
    """One sentence."""
    counts = Counter(made["status"] for made in entries)
    if worse := counts[REGRESSED]:
        are, was = ("is", "it was") if worse == 1 else ("are", "they were")
        return f"{worse} of {counts.total():,} series {are} worse than {was}"
    few, total = counts[TOO_FEW], counts.total()
    if few == total:
        return f"Too few results to tell what got worse: a series needs {FEWEST}"
    if few:
        have = "has" if few == 1 else "have"
        return (
            f"None of {total - few:,} series is worse than it was; {few:,} {have} too few results"
        )
    return "No series is worse than it was"


def seal(entries: Sequence[Entry]) -> str:
    """What stands beside the headline: fail, pass, or nothing where no series can be judged."""
    found = {made["status"] for made in entries}
    if REGRESSED in found:
        return "fail"
    return "" if found == {TOO_FEW} else "pass"


def lead(entries: Sequence[Entry]) -> str:
    """What the headline is about."""
    results = sum(made["count"] for made in entries)
    places = len({made["machine"] for made in entries})
    first, last = (
        datetime.fromtimestamp(time, UTC).date()
        for time in (min(made["first"] for made in entries), max(made["last"] for made in entries))
    )
    return (
        f"{results:,} result{'' if results == 1 else 's'} on "
        f"{places} machine{'' if places == 1 else 's'}, measured from {first} to {last}."
    )


def machines(known: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Name and facts of each machine by its digest, which tells those of one name apart."""
    names = {
        digest: f"{fields.get('cpu') or 'unknown CPU'}, {fields.get('usable_cores') or '?'} cores"
        for digest, fields in known.items()
    }
    counts = Counter(names.values())
    return {
        digest: {
            "name": name if counts[name] == 1 else f"{name} ({digest})",
            "facts": {
                "Architecture": known[digest].get("architecture") or "unknown",
                "Cores": "{usable_cores} usable of {cores}".format_map(known[digest]),
            },
        }
        for digest, name in names.items()
    }


def _order(made: Entry) -> tuple[Any, ...]:
    return tuple(made[name] for name in ("benchmark", "candidate", "threads", "machine", "id"))


def _write(path: Path, name: str, value: Any) -> None:
    """A script that sets a name to a value, in ASCII."""
    with atomic_file(path) as file:
        file.write(f"{name} = {_json(value)};\n".encode())


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


def _remove_others(data: Path, kept: set[str]) -> None:
    """Files of series that an earlier build has left."""
    for path in data.glob("*.js"):
        if re.fullmatch(r"[0-9a-f]+", path.stem) and path.stem not in kept:
            path.unlink()
