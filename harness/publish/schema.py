"""What a file has to hold before it is believed: JSON Schema (draft 2020-12).

Promises: the schema of a dataclass is made from its annotations, so that the two cannot part.
"""

from __future__ import annotations

import enum
import types
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, Union, get_args, get_origin, get_type_hints

from cllm.config import SIZES
from cllm.harness.bench.task import Kind

Schema = dict[str, Any]

_SIMPLE = {str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null"}


def schema_of(kind: Any) -> Schema:
    """The schema of a dataclass, or of an annotation in one; a field without a default is required.

    Raises `TypeError` for an annotation that JSON has nothing for.
    """
    if kind is Any:
        return {}
    if kind in _SIMPLE:
        return {"type": _SIMPLE[kind]}
    if isinstance(kind, type) and issubclass(kind, enum.StrEnum):
        return {"enum": [str(member) for member in kind]}
    if is_dataclass(kind):
        hints = get_type_hints(kind)
        required = [
            field.name
            for field in fields(kind)
            if field.default is MISSING and field.default_factory is MISSING
        ]
        properties = {field.name: schema_of(hints[field.name]) for field in fields(kind)}
        return {"type": "object", "required": required, "properties": properties}
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return {"anyOf": [schema_of(argument) for argument in arguments]}
    if origin is Sequence:
        return {"type": "array", "items": schema_of(arguments[0])}
    if origin is Mapping:
        return {"type": "object", "additionalProperties": schema_of(arguments[1])}
    raise TypeError(f"no JSON for {kind!r}")


def mapping(items: Schema) -> Schema:
    """By any names."""
    return {"type": "object", "additionalProperties": items}


def record(**properties: Schema) -> Schema:
    """An object; all of these are required."""
    return {"type": "object", "required": [*properties], "properties": properties}


def list_of(items: Schema) -> Schema:
    """Of any length."""
    return {"type": "array", "items": items}


def also(found: Schema, **properties: Schema) -> Schema:
    """With properties that may be missing: earlier versions did not have them."""
    return {**found, "properties": found["properties"] | properties}


def optional(schema: Schema) -> Schema:
    """Or null."""
    return {**schema, "type": [schema["type"], "null"]}


TEXT: Schema = {"type": "string"}
NUMBER: Schema = {"type": "number"}
COUNT: Schema = {"type": "integer", "minimum": 1}
POSITIVE: Schema = {"type": "number", "exclusiveMinimum": 0}

PROBE = record(level=TEXT, fma=mapping(POSITIVE), read=mapping(mapping(POSITIVE)))
"""FLOP/s by threads, bytes/s by threads and by what is read from."""

_ENTRY = also(
    record(
        name=TEXT,
        library=TEXT,
        threads=COUNT,
        is_peer={"type": "boolean"},
        status={"enum": ["raced", "tried", "refused", "failed"]},
        reason=TEXT,
        build_seconds=optional(POSITIVE),
        rates=list_of(optional(POSITIVE)),
        rate=optional(POSITIVE),
        mfu=optional(POSITIVE),
        versus=mapping({"type": "array", "items": POSITIVE, "minItems": 3, "maxItems": 3}),
    ),
    mbu=optional(POSITIVE),
)

_CONTEST = record(
    configuration=TEXT,
    kind={"enum": [str(kind) for kind in Kind]},
    sizes=record(**dict.fromkeys(SIZES, COUNT)),
    batch_size=COUNT,
    seq_len=COUNT,
    best_peer=optional(TEXT),
    entries={"type": "array", "items": _ENTRY, "minItems": 1},
)

_OPERATION = record(
    function=TEXT,
    without=list_of(TEXT),
    optimized_seconds=POSITIVE,
    reference_seconds=POSITIVE,
    ratio=POSITIVE,
)

_MEMORY = record(
    model=TEXT,
    configuration=TEXT,
    threads=COUNT,
    parameter_bytes=COUNT,
    planned_bytes=COUNT,
    grown_bytes={"type": "integer"},
)

COMMIT = record(sha=TEXT, time=TEXT, subject=TEXT, branch=TEXT, dirty={"type": "boolean"})

_IMPORT = record(model=TEXT, module=TEXT, seconds=NUMBER, numpy_seconds=NUMBER)

PERFORMANCE = also(
    record(
        machine={"type": "object"},
        settings=also(
            record(
                models=list_of(TEXT),
                configurations=list_of(TEXT),
                threads=list_of(COUNT),
                peers={"type": "boolean"},
                seconds=NUMBER,
                seed={"type": "integer"},
            ),
            file=optional(TEXT),
        ),
        missing_peers=list_of(TEXT),
        probe=PROBE,
        contests={"type": "array", "items": _CONTEST, "minItems": 1},
        operations=record(configuration=TEXT, rows=list_of(_OPERATION)),
        memory=list_of(_MEMORY),
        imports=list_of(_IMPORT),
        seconds=NUMBER,
    ),
    created=TEXT,
    commit=optional(COMMIT),
    missing_figures=list_of(record(figure=TEXT, reason=TEXT)),
    peer_versions=mapping(TEXT),
)
"""What is shown of `performance.json` (`cllm.harness.bench.run`)."""

VERIFICATION = record(
    version={"const": 1},
    created=TEXT,
    status={"enum": ["pass", "fail", "inconclusive"]},
    settings={"type": "object", "properties": {"candidate": TEXT}},
    machine={"type": "object"},
    verdicts={
        "type": "array",
        "minItems": 1,
        "items": record(
            check=TEXT,
            summary=TEXT,
            status={"enum": ["pass", "fail", "not applicable", "inconclusive"]},
            evidence=TEXT,
            details={"type": "object"},
        ),
    },
)
"""What is shown of the `report.json` of `cllm verify` (`cllm.harness.report`)."""
