"""The example of `docs/pairs.md` does what it says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

DOCUMENT = Path(__file__).parents[1] / "docs" / "pairs.md"
BLOCK = re.compile(r"^```(?P<language>\w+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"(?:# |/\* )(?P<name>\w+\.\w+)")


def blocks(language: str) -> list[str]:
    found = BLOCK.finditer(DOCUMENT.read_text())
    return [block["text"] for block in found if block["language"] == language]


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """A command of the document, with the tools of this Python."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        command, cwd=folder, env={**os.environ, "PATH": path}, capture_output=True, text=True
    )


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files of the document, compiled."""
    folder = tmp_path_factory.mktemp("example")
    for text in (*blocks("python"), *blocks("c"), *blocks("cython")):
        named = FILE.match(text)
        assert named, text
        (folder / named["name"]).write_text(text)
    for commands in blocks("sh"):
        found = run(folder, "sh", "-ec", commands)
        assert found.returncode == 0, found.stdout + found.stderr
    return folder


def check(folder: Path, only: str = "") -> str:
    """What pytest says in the folder, of the tests with `only` in their names."""
    found = run(
        folder, sys.executable, "-m", "pytest", "-q", "-rA", "-p", "no:cacheprovider",
        "-W", "error", "-k", only, "test_softmax.py",
    )  # fmt: skip
    return found.stdout + found.stderr


def test_the_example_passes(example: Path) -> None:
    said = check(example)
    assert re.search(r"\d+ passed", said), said
    assert "failed" not in said
    assert "error" not in said
    for name in ("softmax_cython", "softmax_c"):
        for test in ("pair.values", "pair.bounds", "pair.repeat"):
            assert re.search(rf"PASSED .*{name}-{test}", said), said


@pytest.mark.parametrize(
    ("right", "wrong", "failing", "number"),
    [
        ("for (ptrdiff_t v = 0; v < V; v++)\n            out[v] /=", None, "pair.bounds", 0),
        ("expf(x[v] - top)", "expf(x[v])", "pair.values", 1),
    ],
    ids=["off by one", "no shift"],
)
def test_the_failures_are_as_they_are_quoted(
    example: Path, tmp_path: Path, right: str, wrong: str | None, failing: str, number: int
) -> None:
    for file in example.iterdir():
        if file.is_file() and not file.name.startswith("libsoftmax"):
            (tmp_path / file.name).write_bytes(file.read_bytes())
    source = tmp_path / "softmax.c"
    text = source.read_text()
    assert text.count(right) == 1
    source.write_text(text.replace(right, wrong or right.replace("v < V", "v <= V")))
    compile_it = blocks("sh")[0].splitlines()[0]
    assert run(tmp_path, "sh", "-ec", compile_it).returncode == 0
    said = check(tmp_path, f"softmax_c-{failing}").replace(f"{tmp_path.resolve()}/", "")
    quoted = blocks("text")[number].strip()
    assert without_tolerance(quoted) in without_tolerance(said), said


def without_tolerance(text: str) -> str:
    """It is calibrated, and depends on how this machine computes exp."""
    return re.sub(r"tolerance [\d.e-]+", "tolerance", text)
