"""The large history that is made up, and what is measured on it."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from click import UsageError
from click.testing import CliRunner

from cllm.harness.history import scale
from cllm.harness.history.store import open_history
from cllm.harness.history.synthetic_runs import SPAN, synthetic_runs


def test_the_same_runs_for_the_same_seed() -> None:
    runs = list(synthetic_runs(6_500, 1))
    assert runs == list(synthetic_runs(6_500, 1))
    assert runs[0].results != next(synthetic_runs(6_500, 2)).results
    assert sum(len(run.results) for run in runs) == 6_500
    assert all(first.created < second.created for first, second in pairwise(runs))
    assert runs[-1].created - runs[0].created < SPAN
    counts = Counter(run.series(result) for run in runs for result in run.results)
    assert len(counts) == 640
    assert len({run.machine_digest for run in runs}) == 4
    assert {run.commit.sha for run in runs[:4] if run.commit} == {runs[0].commit.sha}  # type: ignore[union-attr]


def test_the_report_says_what_was_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scale, "REPEATS", 1)
    kept, output = tmp_path / "kept.db", tmp_path / "new" / "scale.md"
    options = ["--results", "1000", "--seed", "3", "--history", str(kept), "--output", str(output)]
    done = CliRunner().invoke(scale.main, options, catch_exceptions=False)
    assert done.exit_code == 0
    text = output.read_text()
    assert text in done.stdout
    assert "`python -m cllm.harness.history.scale --results 1000 --seed 3`" in text
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    found = {row[0]: row[1] for row in rows if len(row) == 4}
    assert found["the newest 50 results"] == "50"
    assert found["a benchmark that vanished two years ago"] == "1"
    assert found["one whole run"] == "1"
    assert found["all series, with their counts"] == "641"
    with open_history(kept) as history:
        assert sum(info.count for info in history.series()) == 1001
    with pytest.raises(UsageError, match="is there already"):
        CliRunner().invoke(scale.main, options, catch_exceptions=False, standalone_mode=False)
