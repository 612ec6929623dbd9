"""OpenMetrics 1.0 text, as <https://prometheus.io/docs/specs/om/open_metrics_spec> defines it.

A gauge for each metric, its unit at the end of its name (`cllm_steps_per_second`), with the labels
of its series (`benchmark`, `candidate`, `metric`, `threads`, `machine`, `level`, `configuration`);
beside it `cllm_peak_ratio`, the share of the machine's own peak, and for each run
`cllm_run_timestamp_seconds` with its commit and CPU.

One run is what a scrape would find and has no timestamps, which is what textfile collectors and
gateways want. Several runs have them, in whole seconds, for `promtool tsdb create-blocks-from
openmetrics`. Of results of one series in one second, as both sides of a comparison may be, all but
the first have one label more, `repeat`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from cllm.harness.export.names import unit
from cllm.harness.history.record import Result, Run

Labels = tuple[tuple[str, str], ...]
Samples = dict[Labels, dict[int, float]]
"""By series and by time in seconds."""

RATIO = "cllm_peak_ratio"
TIME = "cllm_run_timestamp_seconds"

HELP = {
    RATIO: "Share of the machine's own peak, measured in the same run.",
    TIME: "When a run was measured.",
}
UNITS = {RATIO: "ratio", TIME: "seconds"}


def export(runs: Iterable[Run]) -> Iterator[str]:
    """The exposition, family by family; of several runs all samples are held in memory."""
    families: dict[str, Samples] = {}
    helps, units, count = dict(HELP), dict(UNITS), 0
    for count, run in enumerate(runs, 1):  # noqa: B007  (used below)
        time = int(run.created.timestamp())
        _keep(families, TIME, _run_labels(run), time, run.created.timestamp())
        for result in run.results:
            labels = _labels(run, result)
            suffix = re.sub(r"[^a-zA-Z0-9_]", "_", unit(result.metric))
            name = f"cllm_{suffix}"
            helps[name], units[name] = "Results of the benchmarks, a median each.", suffix
            labels = _free(families.get(name, {}), labels, time)
            _keep(families, name, labels, time, result.value)
            if result.share is not None:
                _keep(families, RATIO, labels, time, result.share)
    for name in sorted(families):
        yield f"# TYPE {name} gauge\n# UNIT {name} {units[name]}\n# HELP {name} {helps[name]}\n"
        for labels, samples in families[name].items():
            written = ",".join(f'{label}="{escape(value)}"' for label, value in labels)
            for time in sorted(samples):
                when = f" {time}" if count > 1 else ""
                yield f"{name}{{{written}}} {samples[time]!r}{when}\n"
    yield "# EOF\n"


def _free(samples: Samples, labels: Labels, time: int) -> Labels:
    """The labels, or with a number where a sample of this time has them."""
    found, number = labels, 1
    while time in samples.get(found, {}):
        number += 1
        found = _sorted({**dict(labels), "repeat": str(number)})
    return found


def _keep(families: dict[str, Samples], name: str, labels: Labels, time: int, value: float) -> None:
    families.setdefault(name, {}).setdefault(labels, {})[time] = float(value)


def _labels(run: Run, result: Result) -> Labels:
    series = run.series(result)._asdict()
    return _sorted({name: str(value) for name, value in series.items()})


def _run_labels(run: Run) -> Labels:
    labels = {
        "source": run.source,
        "level": run.level,
        "cpu": str(run.machine.get("cpu", "")),
        "run": run.id,
    }
    if run.commit:
        labels |= {"commit": run.commit.sha, "branch": run.commit.branch}
    return _sorted(labels)


def _sorted(labels: Mapping[str, str]) -> Labels:
    return tuple(sorted(labels.items()))


def escape(value: str) -> str:
    """Of a label: backslash, quotation mark and line feed."""
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
