"""Bencher Metric Format, as <https://bencher.dev/docs/reference/bencher-metric-format> defines it.

A JSON object: by benchmark and by measure `value`, and `lower_value` and `upper_value`, which are
here the quartiles of the samples. `bencher run --adapter json` reads it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from cllm.harness.export.names import names, quartiles, unit
from cllm.harness.history.record import Run
from cllm.harness.publish.words import unique

LONGEST_NAME, LONGEST_MEASURE = 1024, 64
"""Characters that Bencher takes."""


def export(run: Run) -> Iterator[str]:
    """The document of one run."""
    document: dict[str, dict[str, dict[str, float]]] = {}
    cut = unique([_cut(name) for name in names(run.results)])
    for name, result in zip(cut, run.results, strict=True):
        metric = {"value": result.value}
        if found := quartiles(result):
            metric |= {"lower_value": found[0], "upper_value": found[1]}
        document[name] = {measure(result.metric): metric}
    yield json.dumps(document, indent=1) + "\n"


def _cut(name: str) -> str:
    """With room for a number behind it."""
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 10]}…"


def measure(metric: str) -> str:
    """Its slug: `steps-per-second`."""
    slug = re.sub(r"[^a-z0-9]+", "-", unit(metric).lower()).strip("-")
    return slug[:LONGEST_MEASURE].strip("-") or "value"
