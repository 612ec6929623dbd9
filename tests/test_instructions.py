"""The second witness without valgrind: what is said of two counts, and where there is none.

What it counts is tested in tests/valgrind.
"""

from __future__ import annotations

import platform
import sys
from pathlib import Path

import pytest

from cllm.harness.bench.configurations import CONFIGURATIONS
from cllm.harness.compare.instructions import NotCounted, count_instructions, witness


@pytest.mark.parametrize(
    ("head", "verdict"),
    [
        (1_000_000, "same"),
        (1_001_000, "same"),
        (1_001_001, "more"),
        (999_000, "same"),
        (998_999, "fewer"),
    ],
)
def test_the_gate_is_a_thousandth(head: int, verdict: str) -> None:
    found = witness(1_000_000, head)
    assert (found.base, found.head, found.verdict) == (1_000_000, head, verdict)
    assert found.ratio == head / 1_000_000


def count(limit: float = 60.0) -> int:
    return count_instructions(
        Path(sys.executable), "optimized", CONFIGURATIONS["tiny"], seed=0, steps=2, limit=limit
    )


@pytest.fixture
def pretender(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program that is called valgrind, to be written by the test."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    program = tmp_path / "valgrind"
    program.touch()
    program.chmod(0o755)
    return program


def test_a_missing_valgrind_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NotCounted, match=r"^valgrind is not installed$"):
        count()


def test_another_processor_is_said(pretender: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    with pytest.raises(NotCounted, match="on x86_64 alone: this is aarch64"):
        count()


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (
            "echo ==1== Callgrind >&2; echo 'no such model' >&2; echo ==1== >&2; exit 3",
            "the worker ended with exit status 3: no such model",
        ),
        ("kill -SEGV $$", "the worker ended by SIGSEGV"),
        ("exec /bin/sleep 60", "took longer than 5 s"),
        ("exit 0", "callgrind counted 0 of 2 steps"),
    ],
)
def test_a_count_that_fails_says_why(pretender: Path, script: str, said: str) -> None:
    pretender.write_text(f"#!/bin/sh\n{script}\n")
    with pytest.raises(NotCounted) as caught:
        count(limit=5.0)
    assert str(caught.value) == said


DUMPS = """\
version: 1
cmd: python3 worker.py
part: 1
positions: line
events: Ir
ob=/lib/libpython3.11.so.1.0
fn=eval
5 1000
cob=/lib/kernels.so
cfn=step
calls=1 7
5 70
ob=/lib/kernels.so
fl=step.c
fn=step
7 20
+1 30
fi=inline.h
* 3
-4 4
cfn=inner
calls=2 0
* 500
totals: 1057
part: 2
ob=/usr/bin/python3
5 1000
ob=/lib/python3.11/site-packages/kernels.so
7 {second}
totals: 1055
part: 3
totals: 0
"""


def written(pretender: Path, dumps: str) -> None:
    (pretender.parent / "dumps").write_text(dumps)
    pretender.write_text(
        "#!/bin/sh\nfor a; do case $a in --callgrind-out-file=*)"
        f' /bin/cat {pretender.parent}/dumps > "${{a#*=}}";; esac; done\n'
    )


@pytest.mark.parametrize(("second", "median"), [(55, 55), (60, 57)])
def test_the_median_step_outside_of_the_interpreter_counts(
    pretender: Path, second: int, median: int
) -> None:
    written(pretender, DUMPS.format(second=second))
    assert count() == median  # the lower one, of two


@pytest.mark.parametrize("dumps", [DUMPS.partition("part: 2")[0], DUMPS.format(second=0)])
def test_a_step_without_a_count_is_said(pretender: Path, dumps: str) -> None:
    written(pretender, dumps)
    with pytest.raises(NotCounted, match=r"^callgrind counted 1 of 2 steps$"):
        count()


def test_the_environment_is_empty_but_for_what_has_to_be_said(
    pretender: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLLM_ISA", "avx512")
    pretender.write_text(f"#!/bin/sh\n/usr/bin/env > {tmp_path}/environment; exit 1\n")
    with pytest.raises(NotCounted):
        count()
    lines = (tmp_path / "environment").read_text().splitlines()
    names = {line.partition("=")[0] for line in lines} - {"PWD", "SHLVL", "_", "OLDPWD"}
    assert names == {
        "PYTHONHASHSEED",
        "OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "MKL_NUM_THREADS",
    }
    assert "PYTHONHASHSEED=0" in lines
