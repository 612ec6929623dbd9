"""What callgrind counts, with the real one: the same again, and more where there is more."""

from __future__ import annotations

import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from cllm.harness.bench.configurations import CONFIGURATIONS
from cllm.harness.compare.instructions import NotCounted, count_instructions, witness

TINY = CONFIGURATIONS["tiny"]

ONE_BRANCH = 16
"""Instructions: the optimized model looks at a clock, and goes one way or the other."""

MORE = """
import numpy as np
from cllm.optimized import Model

class Same(Model):
    pass

class Extra(Model):
    def _step(self, batch_size, seq_len, divisor, update):
        loss = super()._step(batch_size, seq_len, divisor, update)
        np.negative(self.gradients, out=self.gradients)
        return loss

class Fails(Model):
    def _step(self, batch_size, seq_len, divisor, update):
        raise RuntimeError("out of luck")

class Stops(Model):
    def _step(self, batch_size, seq_len, divisor, update):
        import os
        os.abort()
"""


def count(candidate: str, python: Path = Path(sys.executable)) -> int:
    return count_instructions(python, candidate, TINY, seed=0, steps=5)


@pytest.fixture
def models(tmp_path: Path) -> str:
    file = tmp_path / "models.py"
    file.write_text(MORE)
    return str(file)


def test_the_same_build_takes_the_same_instructions() -> None:
    first = count("reference")
    assert first > 100_000
    assert count("reference") == first


def test_another_folder_takes_the_same_instructions(tmp_path: Path) -> None:
    folder = tmp_path / "an environment with a name of another length"
    venv.create(folder, symlinks=True)
    site = folder / "lib" / f"python{sysconfig.get_python_version()}" / "site-packages"
    (site / "installed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    here, there = count("optimized"), count("optimized", python=folder / "bin" / "python")
    assert abs(there - here) <= ONE_BRANCH


def test_a_pass_over_the_gradients_is_seen(models: str) -> None:
    base, head = (count(f"{models}:{name}") for name in ("Same", "Extra"))
    parameters = TINY.setting.config.num_parameters
    # in vectors of 8 floats: between 2 and 16 instructions for each
    assert 2 * parameters / 8 < head - base < 16 * parameters / 8
    assert witness(base, head).verdict == "more"


@pytest.mark.parametrize(
    ("candidate", "said"),
    [
        ("Fails", "with exit status 1: RuntimeError: out of luck"),
        ("Stops", "by SIGABRT"),
        ("Missing", "has no attribute 'Missing'"),
    ],
)
def test_a_candidate_that_fails_is_said(models: str, candidate: str, said: str) -> None:
    with pytest.raises(NotCounted, match=said):
        count(f"{models}:{candidate}")
