"""The README's Python examples run as they stand."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from cllm.harness import CHECKS
from cllm.reference import Model


def examples() -> list[dict[str, Any]]:
    readme = (Path(__file__).parents[1] / "README.md").read_text()
    found = []
    for example in re.findall(r"```python\n(.*?)```", readme, re.DOTALL):
        names: dict[str, Any] = {}
        exec(example, names)
        found.append(names)
    return found


def test_the_python_examples_hold() -> None:
    training, conformance, own_model = examples()
    assert np.isclose(training["loss"], np.log(381), rtol=0.1)
    assert conformance["test_conformance"].conformance.jobs(conformance["test_conformance"])
    verdict = CHECKS["training.update"](own_model["MyModel"], Model, 0)
    assert verdict.status == "pass", verdict.evidence
