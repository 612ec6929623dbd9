"""JSON for github-action-benchmark, as its README defines it.

<https://github.com/benchmark-action/github-action-benchmark>

A JSON array of objects with `name`, `unit`, `value`, `range` (± half of what lies between the
quartiles of the samples) and `extra`, for its tools `customBiggerIsBetter` and
`customSmallerIsBetter`: a file is of one of both kinds.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from cllm.errors import CllmError
from cllm.harness.export.names import names, quartiles
from cllm.harness.history.record import Result, Run


def export(run: Run) -> Iterator[str]:
    """The document of one run. Raises `CllmError` where its results are of both kinds."""
    kinds = {str(result.better) for result in run.results}
    if len(kinds) > 1:
        raise CllmError(
            f"run {run.id} has results of which more is better and others of which less is: "
            "github-action-benchmark takes one kind a file, --better higher or --better lower"
        )
    entries = [
        {"name": name, "unit": result.metric, "value": result.value}
        | ({"range": f"± {(found[1] - found[0]) / 2:.3g}"} if (found := quartiles(result)) else {})
        | {"extra": _extra(run, result)}
        for name, result in zip(names(run.results), run.results, strict=True)
    ]
    yield json.dumps(entries, indent=1) + "\n"


def _extra(run: Run, result: Result) -> str:
    lines = [f"{run.machine.get('cpu', 'unknown CPU')}, {run.level}", f"run {run.id}"]
    if result.share is not None:
        lines.append(f"{result.share:.0%} of the machine's peak")
    return "\n".join(lines)
