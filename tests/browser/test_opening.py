"""The figures of how long a dashboard takes to open."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).with_name("opening.py")


def test_each_page_is_opened_and_timed(tmp_path: Path) -> None:
    output = tmp_path / "opening.md"
    words = [SCRIPT, "--results", "64000", "--output", output]
    # as a user does; with this one Python does not look beside the script for what it imports
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONSAFEPATH"}
    done = subprocess.run(
        [sys.executable, *map(str, words)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    text = output.read_text()
    assert "The dashboard over 64,000 results" in text
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    assert [row[0] for row in rows[2:]] == [
        "benchmarks", "benchmarks, searched", "regressions", "a series of 100",
    ]  # fmt: skip
    assert all(0 < float(median) <= float(longest) for _, median, longest in rows[2:])
