"""What a file has to hold before it is believed: JSON Schema (draft 2020-12).

Promises: the schema of a dataclass is made from its annotations, so that the two cannot part.
"""

from __future__ import annotations

import enum
import types
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, Union, get_args, get_origin, get_type_hints

from cllm.config import Config
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


def _mapping(items: Schema) -> Schema:
    return {"type": "object", "additionalProperties": items}


def _record(**properties: Schema) -> Schema:
    """All of them are required."""
    return {"type": "object", "required": [*properties], "properties": properties}


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def _also(record: Schema, **properties: Schema) -> Schema:
    """With properties that may be missing: earlier versions did not have them."""
    return {**record, "properties": record["properties"] | properties}


def _optional(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


_TEXT: Schema = {"type": "string"}
_NUMBER: Schema = {"type": "number"}
_COUNT: Schema = {"type": "integer", "minimum": 1}
_POSITIVE: Schema = {"type": "number", "exclusiveMinimum": 0}

PROBE = _record(level=_TEXT, fma=_mapping(_POSITIVE), read=_mapping(_mapping(_POSITIVE)))
"""FLOP/s by threads, bytes/s by threads and by what is read from."""

_ENTRY = _also(
    _record(
        name=_TEXT,
        library=_TEXT,
        threads=_COUNT,
        is_peer={"type": "boolean"},
        status={"enum": ["raced", "tried", "refused", "failed"]},
        reason=_TEXT,
        build_seconds=_optional(_POSITIVE),
        rates=_list(_optional(_POSITIVE)),
        rate=_optional(_POSITIVE),
        mfu=_optional(_POSITIVE),
        versus=_mapping({"type": "array", "items": _POSITIVE, "minItems": 3, "maxItems": 3}),
    ),
    mbu=_optional(_POSITIVE),
)

_CONTEST = _record(
    configuration=_TEXT,
    kind={"enum": [str(kind) for kind in Kind]},
    sizes=_record(**dict.fromkeys(Config.__dataclass_fields__, _COUNT)),
    batch_size=_COUNT,
    seq_len=_COUNT,
    best_peer=_optional(_TEXT),
    entries={"type": "array", "items": _ENTRY, "minItems": 1},
)

_OPERATION = _record(
    function=_TEXT,
    without=_list(_TEXT),
    optimized_seconds=_POSITIVE,
    reference_seconds=_POSITIVE,
    ratio=_POSITIVE,
)

_MEMORY = _record(
    model=_TEXT,
    configuration=_TEXT,
    threads=_COUNT,
    parameter_bytes=_COUNT,
    planned_bytes=_COUNT,
    grown_bytes={"type": "integer"},
)

_COMMIT = _record(sha=_TEXT, time=_TEXT, subject=_TEXT, branch=_TEXT, dirty={"type": "boolean"})

_IMPORT = _record(module=_TEXT, seconds=_NUMBER, numpy_seconds=_NUMBER)

PERFORMANCE = _also(
    _record(
        machine={"type": "object"},
        settings=_also(
            _record(
                models=_list(_TEXT),
                configurations=_list(_TEXT),
                threads=_list(_COUNT),
                peers={"type": "boolean"},
                seconds=_NUMBER,
                seed={"type": "integer"},
            ),
            file=_optional(_TEXT),
        ),
        missing_peers=_list(_TEXT),
        probe=PROBE,
        contests={"type": "array", "items": _CONTEST, "minItems": 1},
        operations=_record(configuration=_TEXT, rows=_list(_OPERATION)),
        memory=_list(_MEMORY),
        imports=_list(_IMPORT),
        seconds=_NUMBER,
    ),
    created=_TEXT,
    commit=_optional(_COMMIT),
    peer_versions=_mapping(_TEXT),
)
"""What is shown of `performance.json` (`cllm.harness.bench.run`)."""

VERIFICATION = _record(
    version={"const": 1},
    created=_TEXT,
    status={"enum": ["pass", "fail", "inconclusive"]},
    settings={"type": "object"},
    machine={"type": "object"},
    verdicts={
        "type": "array",
        "minItems": 1,
        "items": _record(
            check=_TEXT,
            summary=_TEXT,
            status={"enum": ["pass", "fail", "not applicable", "inconclusive"]},
            evidence=_TEXT,
            details={"type": "object"},
        ),
    },
)
"""What is shown of the `report.json` of `cllm verify` (`cllm.harness.report`)."""
