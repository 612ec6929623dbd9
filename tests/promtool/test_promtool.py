"""The exported OpenMetrics, given to the real `promtool` (Debian's package `prometheus`)."""

from __future__ import annotations

import re
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cllm.harness.export import openmetrics
from cllm.harness.history.record import Better, Commit, Result, Run

NOW = datetime(2026, 3, 1, tzinfo=UTC)
EVIL = 'a "name" \\ with\na line feed, {braces}, # and ½'

RESULTS = (
    Result(EVIL, "optimized", "steps/s", 2500.5, 2, share=0.51),
    Result("small greedy", "optimized", "tokens/s", 1e5, 2),
    Result("import", "cllm.optimized", "s", 0.08, better=Better.LOWER),
    Result("memory", "optimized", "bytes", 123456.0, better=Better.LOWER),
    Result("step", "optimized", "instructions", 1e9, better=Better.LOWER),
)


def made(days: int) -> Run:
    commit = Commit("0123abc", NOW, EVIL, EVIL)
    machine = {"cpu": EVIL, "architecture": "x86_64", "cores": 2, "usable_cores": 2}
    return Run(f"run {days}", NOW + timedelta(days=days), "bench", machine, "avx2", RESULTS, commit)


def promtool(*arguments: str, text: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["promtool", *arguments], input=text, capture_output=True, text=True, timeout=60
    )


def test_metrics_are_found_good() -> None:
    """`check metrics` reads them as Prometheus does, and judges names, units and help texts."""
    found = promtool("check", "metrics", text="".join(openmetrics.export([made(0)])))
    assert (found.returncode, found.stdout, found.stderr) == (0, "", "")


@pytest.mark.parametrize("wrong", ["no_value{} \n", "cllm_seconds{benchmark=x} 1\n"])
def test_what_is_wrong_is_found(wrong: str) -> None:
    text = "".join(openmetrics.export([made(0)]))
    assert promtool("check", "metrics", text=wrong + text).returncode == 1


def test_runs_become_blocks_with_every_sample(tmp_path: Path) -> None:
    """The import is Prometheus's own reader of OpenMetrics."""
    source, data = tmp_path / "runs.txt", tmp_path / "data"
    (data / "wal").mkdir(parents=True)  # without one nothing is dumped
    source.write_text("".join(openmetrics.export([made(days) for days in (0, 1, 40)])))
    made_blocks = promtool("tsdb", "create-blocks-from", "openmetrics", str(source), str(data))
    assert made_blocks.returncode == 0, made_blocks.stderr
    dumped = promtool("tsdb", "dump", str(data))
    assert dumped.returncode == 0, dumped.stderr
    steps = [line for line in dumped.stdout.splitlines() if "cllm_steps_per_second" in line]
    found = [re.fullmatch(r"\{.*\} (\S+) (\d+)", line) for line in steps]
    times = [int((NOW + timedelta(days=days)).timestamp() * 1000) for days in (0, 1, 40)]
    assert [(float(m[1]), int(m[2])) for m in found if m] == [(2500.5, time) for time in times]
    lines = [line for line in dumped.stdout.splitlines() if line]
    assert len(lines) == 3 * (len(RESULTS) + 2)  # and the share and the time of each run
