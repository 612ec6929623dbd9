"""What files of runs have to hold, as JSON Schema, to say what is wrong with one that is not read.

Leaves out: files of `cllm bench` and `cllm compare` (`cllm.harness.publish.schema`).
"""

from __future__ import annotations

from cllm.harness.history.record import Better
from cllm.harness.publish.schema import (
    COMMIT,
    COUNT,
    NUMBER,
    POSITIVE,
    TEXT,
    Schema,
    also,
    list_of,
    optional,
    record,
)

_OBJECT: Schema = {"type": "object"}

_SIDE: Schema = {"properties": {"commit": optional(COMMIT)}}

SIDES: Schema = {
    "properties": {
        "base": _SIDE,
        "head": _SIDE,
        "settings": {"properties": {"candidate": TEXT}},
    }
}
"""What the history wants of a comparison beside what a report does."""

RUN = also(
    record(
        id=TEXT,
        created=TEXT,
        source=TEXT,
        machine=_OBJECT,
        level=TEXT,
        results=list_of(
            record(
                benchmark=TEXT,
                candidate=TEXT,
                metric=TEXT,
                value=NUMBER,
                threads=COUNT,
                better={"enum": [str(kind) for kind in Better]},
                samples=list_of(NUMBER),
                share=optional(POSITIVE),
                configuration=_OBJECT,
            )
        ),
    ),
    commit=optional(COMMIT),
)
"""A line of `cllm history export`."""

_EXTRA: Schema = {
    "type": "object",
    "properties": {
        "benchmark": TEXT,
        "candidate": TEXT,
        "metric": TEXT,
        "per_call": POSITIVE,
        "threads": COUNT,
        "level": TEXT,
        "configuration": _OBJECT,
        "machine": _OBJECT,
        "commit": optional(COMMIT),
    },
}

PYTEST_BENCHMARK = record(
    datetime=TEXT,
    machine_info=_OBJECT,
    commit_info=_OBJECT,
    benchmarks={
        "type": "array",
        "minItems": 1,
        "items": record(
            fullname=TEXT,
            extra_info=_EXTRA,
            stats={
                "type": "object",
                "properties": {"data": list_of(POSITIVE), "median": POSITIVE},
                "anyOf": [{"required": ["median"]}, {"required": ["data"]}],
            },
        ),
    },
)
"""What is read of the JSON of pytest-benchmark."""
