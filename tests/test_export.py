"""The history in other tools' formats, read back by readers of their own."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from cllm.errors import CllmError
from cllm.harness.export import bencher, github_action_benchmark, names, openmetrics, spreadsheet
from cllm.harness.export.command import export
from cllm.harness.history.record import Better, Commit, Result, Run, digest, machine_digest
from cllm.harness.history.store import open_history

NOW = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
MACHINE = {"cpu": 'A "CPU"', "architecture": "x86_64", "cores": 2, "usable_cores": 2}

STEP = Result(
    "small step", "optimized", "steps/s", 2500.0, 2, samples=(2400.0, 2500.0, 2600.0, 2700.0),
    share=0.5, configuration={"vocab_size": 381},
)  # fmt: skip
IMPORT = Result("import", "cllm.optimized", "s", 0.08, better=Better.LOWER)


def made(*results: Result, id: str = "one", later: int = 0, commit: Commit | None = None) -> Run:
    return Run(id, NOW + timedelta(seconds=later), "bench", MACHINE, "avx2", results, commit)


COMMIT = Commit("0123abc", NOW, 'Faster, "much"\nreally', "main", dirty=True)

words = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
numbers = st.floats(allow_nan=False, allow_infinity=False)
results = st.builds(
    Result, words, words, words, numbers, st.integers(1, 64), st.sampled_from(Better),
    st.lists(numbers, max_size=5).map(tuple), st.none() | st.floats(0, 1),
    st.dictionaries(words, st.integers()),
)  # fmt: skip
runs = st.builds(
    made, st.just(STEP), results, results, id=words, later=st.integers(0, 10**6),
    commit=st.none() | st.builds(replace, st.just(COMMIT), subject=words, branch=words),
)  # fmt: skip


def families(text: str) -> dict[str, Any]:
    return {family.name: family for family in text_string_to_metric_families(text)}


def written(parts: Sequence[str] | Any) -> str:
    return "".join(parts)


def test_openmetrics_of_one_run_has_units_and_labels_and_no_times() -> None:
    text = written(openmetrics.export([made(STEP, IMPORT, commit=COMMIT)]))
    assert text.endswith("# EOF\n")
    found = families(text)
    assert {name: family.unit for name, family in found.items()} == {
        "cllm_steps_per_second": "steps_per_second",
        "cllm_seconds": "seconds",
        "cllm_peak_ratio": "ratio",
        "cllm_run_timestamp_seconds": "seconds",
    }
    assert {family.type for family in found.values()} == {"gauge"}
    assert all(family.documentation for family in found.values())
    (sample,) = found["cllm_steps_per_second"].samples
    assert (sample.value, sample.timestamp) == (2500.0, None)
    assert sample.labels == {
        "benchmark": "small step",
        "candidate": "optimized",
        "metric": "steps/s",
        "threads": "2",
        "machine": machine_digest(MACHINE),
        "level": "avx2",
        "configuration": digest({"vocab_size": 381}),
    }
    assert [sample.value for sample in found["cllm_peak_ratio"].samples] == [0.5]
    (sample,) = found["cllm_run_timestamp_seconds"].samples
    assert sample.value == NOW.timestamp()
    assert sample.labels["cpu"] == 'A "CPU"'
    assert sample.labels["commit"] == "0123abc"


def test_openmetrics_of_several_runs_has_times_in_order() -> None:
    late, early = made(STEP, id="late", later=60), made(replace(STEP, value=1.0), id="early")
    again = made(replace(STEP, value=3.0), id="again", later=60)
    (family,) = (
        family
        for family in families(written(openmetrics.export([late, early, again]))).values()
        if family.name == "cllm_steps_per_second"
    )
    found = [(float(sample.timestamp), sample.value) for sample in family.samples]
    later = NOW.timestamp() + 60
    assert found == [(NOW.timestamp(), 1.0), (later, 2500.0), (later, 3.0)]


@given(st.lists(runs, min_size=1, max_size=3))
def test_openmetrics_is_read_back_whatever_names_are(found: list[Run]) -> None:
    read = families(written(openmetrics.export(found)))
    samples = [
        (sample.labels["benchmark"], sample.labels["metric"], sample.value)
        for family in read.values()
        for sample in family.samples
        if "benchmark" in sample.labels and family.name != "cllm_peak_ratio"
    ]
    wanted = [result for run in found for result in run.results]
    assert sorted(samples) == sorted((r.benchmark, r.metric, r.value) for r in wanted)


def test_openmetrics_of_nothing_is_only_its_end() -> None:
    assert written(openmetrics.export([])) == "# EOF\n"


def test_bencher_has_value_and_quartiles_by_measure() -> None:
    found = json.loads(written(bencher.export(made(STEP, IMPORT))))
    assert found == {
        "small step, optimized, 2 threads (steps/s)": {
            "steps-per-second": {"value": 2500.0, "lower_value": 2475.0, "upper_value": 2625.0}
        },
        "import, cllm.optimized, 1 thread (s)": {"seconds": {"value": 0.08}},
    }


@pytest.mark.parametrize(
    ("metric", "slug"),
    [
        ("steps/s", "steps-per-second"), ("tokens/s", "tokens-per-second"), ("s", "seconds"),
        ("bytes", "bytes"), ("instructions", "instructions"), ("GB/s", "gb-per-second"),
        ("%", "value"), ("a" * 80, "a" * 64),
    ],
)  # fmt: skip
def test_measures_of_bencher_are_slugs(metric: str, slug: str) -> None:
    assert bencher.measure(metric) == slug


@given(runs)
def test_bencher_loses_no_result(run: Run) -> None:
    found = json.loads(written(bencher.export(run)))
    values = [metric["value"] for of in found.values() for metric in of.values()]
    assert sorted(values) == sorted(result.value for result in run.results)


def test_results_of_one_series_or_of_long_names_are_told_apart() -> None:
    again = replace(STEP, value=2400.0)
    long = [replace(STEP, benchmark="x" * 3000 + end) for end in "ab"]
    found = json.loads(written(bencher.export(made(STEP, again, *long))))
    title = "small step, optimized, 2 threads (steps/s)"
    assert [*found][:2] == [title, f"{title} (2)"]
    assert len(found) == 4
    assert max(map(len, found)) <= bencher.LONGEST_NAME
    told = json.loads(written(github_action_benchmark.export(made(STEP, again))))
    assert [entry["name"] for entry in told] == [title, f"{title} (2)"]
    sides = [made(STEP, id="base"), made(again, id="head")]
    samples = families(written(openmetrics.export(sides)))["cllm_steps_per_second"].samples
    assert [(s.value, s.labels.get("repeat")) for s in samples] == [(2500.0, None), (2400.0, "2")]


def test_github_action_benchmark_is_an_array_of_one_kind() -> None:
    found = json.loads(written(github_action_benchmark.export(made(STEP))))
    assert found == [
        {
            "name": "small step, optimized, 2 threads (steps/s)",
            "unit": "steps/s",
            "value": 2500.0,
            "range": "± 75",
            "extra": 'A "CPU", avx2\nrun one\n50% of the machine\'s peak',
        }
    ]
    with pytest.raises(CllmError, match="takes one kind a file, --better higher or"):
        written(github_action_benchmark.export(made(STEP, IMPORT)))


def test_names_stay_from_run_to_run_and_tell_sizes_apart() -> None:
    other = replace(STEP, configuration={"vocab_size": 5})
    both = names.names([STEP, other])
    title = "small step, optimized, 2 threads (steps/s)"
    assert both == [f"{title} {digest({'vocab_size': v})}" for v in (381, 5)]
    assert names.names([STEP, IMPORT]) == [title, *names.names([IMPORT])]


@given(st.lists(st.floats(-1e300, 1e300), min_size=2, max_size=9))
def test_quartiles_hold_the_median(samples: list[float]) -> None:
    found = names.quartiles(replace(STEP, samples=tuple(samples)))
    assert found is not None
    low, high = found
    assert low <= median(samples) <= high


@given(st.lists(runs, max_size=3))
def test_csv_is_read_back_whatever_names_are(found: list[Run]) -> None:
    rows = list(csv.DictReader(io.StringIO(written(spreadsheet.export(found)), newline="")))
    wanted = [(run, result) for run in found for result in run.results]
    assert len(rows) == len(wanted)
    for row, (run, result) in zip(rows, wanted, strict=True):
        assert (row["run"], row["benchmark"], row["candidate"], row["metric"]) == (
            run.id, result.benchmark, result.candidate, result.metric,
        )  # fmt: skip
        assert float(row["value"]) == result.value
        assert (float(row["share"]) if row["share"] else None) == result.share
        assert tuple(json.loads(row["samples"])) == result.samples
        assert json.loads(row["sizes"]) == result.configuration
        assert datetime.fromisoformat(row["created"]) == run.created
        assert row["subject"] == (run.commit.subject if run.commit else "")
        assert row["better"] == result.better
        assert row["configuration"] == digest(result.configuration)


@pytest.fixture
def history(tmp_path: Path) -> Path:
    path = tmp_path / "history.db"
    with open_history(path, create=True) as opened:
        opened.add(made(IMPORT, id="first", commit=COMMIT))
        opened.add(made(STEP, IMPORT, id="second", later=60))
    return path


def invoke(history: Path, *arguments: str) -> str:
    result = CliRunner().invoke(
        export, [*arguments, "--history", str(history)], catch_exceptions=False
    )
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_command_takes_the_latest_run_another_or_all(history: Path) -> None:
    for options, ids in (
        ([], {"second"}), (["--run", "first"], {"first"}), (["--run", "all"], {"first", "second"}),
    ):  # fmt: skip
        text = CliRunner().invoke(export, ["csv", "--history", str(history), *options]).stdout_bytes
        rows = csv.DictReader(io.StringIO(text.decode(), newline=""))
        assert {row["run"] for row in rows} == ids
    assert set(families(invoke(history, "openmetrics"))) >= {"cllm_steps_per_second"}
    assert len(json.loads(invoke(history, "bencher"))) == 2


def test_the_command_keeps_one_kind(history: Path) -> None:
    for better, unit in (("higher", "steps/s"), ("lower", "s")):
        found = json.loads(invoke(history, "github-action-benchmark", "--better", better))
        assert [entry["unit"] for entry in found] == [unit]


def test_the_command_writes_a_file_whole(history: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.csv"
    assert invoke(history, "csv", "--output", str(output)) == ""
    assert output.read_bytes().count(b"\r\n") == 3
    before = output.read_bytes()
    with pytest.raises(CllmError, match="takes one kind a file"):
        invoke(history, "github-action-benchmark", "--output", str(output))
    assert output.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["history.db", "out.csv"]


def test_what_is_not_there_is_said(history: Path, tmp_path: Path) -> None:
    with pytest.raises(CllmError, match="there is no history"):
        invoke(tmp_path / "nothing.db", "csv")
    with pytest.raises(CllmError, match="no run 'third'"):
        invoke(history, "csv", "--run", "third")
    with pytest.raises(CllmError, match="run first has no result of which higher is better"):
        invoke(history, "csv", "--run", "first", "--better", "higher")
    empty = tmp_path / "empty.db"
    open_history(empty, create=True).close()
    for run in ("latest", "all"):
        with pytest.raises(CllmError, match="the history is empty"):
            invoke(empty, "csv", "--run", run)
    wrong = CliRunner().invoke(export, ["bencher", "--run", "all", "--history", str(history)])
    assert wrong.exit_code == 2
    assert "bencher takes one run" in wrong.output
