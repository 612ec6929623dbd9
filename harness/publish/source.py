"""The file that a report is made from, read and checked.

Promises: what comes out has everything that is shown, of the right type and a possible value;
anything else is one `CllmError` that names the file, the place in it and what is allowed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NoReturn

import jinja2
import jsonschema

from cllm.errors import CllmError
from cllm.harness import page
from cllm.harness.compare.comparison import VERSION, Comparison, Entry, Outcome
from cllm.harness.publish.schema import PERFORMANCE, PROBE, VERIFICATION, Schema, schema_of
from cllm.harness.publish.words import short

Document = dict[str, Any]

KINDS = (
    "comparison.json of cllm compare, performance.json of cllm bench, report.json of cllm verify"
)

LARGEST = 1e50
"""Of all numbers, and the inverse of the smallest."""

LONGEST = 60
"""Characters of a wrong value that are quoted."""


def read(path: Path) -> Document:
    """The JSON object of a file. Raises `CllmError` where there is none, `OSError` for no file."""
    return parse(path.read_bytes(), path)


def parse(content: bytes, where: object, kinds: str = KINDS, *, bounded: bool = True) -> Document:
    """A JSON object of numbers that can be reckoned with. Raises `CllmError` where it is none.

    `where` it stands, and what `kinds` it may be, is for the error. Not `bounded`, the size of its
    numbers is not looked at, which takes as long as all the rest.
    """
    number = _number if bounded else None
    try:
        document = json.loads(content, parse_constant=_refuse, parse_float=number, parse_int=number)
    except (ValueError, RecursionError) as error:
        raise CllmError(f"{where}: not JSON: {error}") from error
    if not isinstance(document, dict):
        raise CllmError(f"{where}: must hold {kinds}: it is no JSON object")
    return document


def kind_of(document: Document, path: Path) -> str:
    """`comparison`, `performance` or `verification`; its content is not looked at yet."""
    if document.get("kind") == "comparison":
        return "comparison"
    if "contests" in document and "probe" in document:
        return "performance"
    if "verdicts" in document:
        return "verification"
    raise CllmError(f"{path}: must be {KINDS}: it is something else")


def comparison_of(document: Document, path: object) -> Comparison:
    """A comparison with at least one benchmark and possible figures."""
    if document.get("version") != VERSION:
        raise CllmError(
            f"{path}: a comparison of version {document.get('version')!r}, must be {VERSION}"
        )
    require(schema_of(Comparison), document, path)
    require({"properties": {"probe": PROBE}}, document, path)
    try:
        comparison = Comparison.from_dict(document)
    except (KeyError, TypeError) as error:  # a key that is missing or that nobody knows
        raise CllmError(f"{path}: not a comparison of version {VERSION}: {error}") from error
    if not comparison.entries:
        raise CllmError(f"{path}: a comparison without a benchmark, must have one or more")
    for entry in comparison.entries:
        if wrong := _wrong(entry):
            raise CllmError(f"{path}: {short(entry.name)!r}: {wrong}")
    return comparison


def performance_of(document: Document, path: object) -> Document:
    """A measurement with at least one contest."""
    require(PERFORMANCE, document, path)
    return document


def verification_of(document: Document, path: Path) -> Document:
    """A verification with at least one verdict."""
    require(VERIFICATION, document, path)
    try:
        page.render(document)
    except (KeyError, TypeError, ValueError, jinja2.UndefinedError) as error:
        raise CllmError(f"{path}: not a verification of version 1: {error}") from error
    return document


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number of JSON")


def _number(text: str) -> float:
    """An int where it is one; products and ratios of such numbers are finite."""
    found = float(text)
    if found and not 1 / LARGEST < abs(found) < LARGEST:
        raise ValueError(f"{text:.20} is no number between {1 / LARGEST:g} and {LARGEST:g}")
    return int(text) if text.lstrip("-").isdigit() else found


def require(schema: Schema, document: Document, path: object) -> None:
    """Raise a `CllmError` about the most telling of all mistakes."""
    errors = jsonschema.Draft202012Validator(schema).iter_errors(document)
    found = jsonschema.exceptions.best_match(errors)
    if found is None:
        return
    place = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in found.path)
    value = json.dumps(found.instance)
    quoted = value if len(value) <= LONGEST else f"{value[:LONGEST]}…"
    match found.validator:
        case "type":
            allowed = f"must be {_a(found.validator_value)}"
        case "enum":
            allowed = f"must be one of {found.validator_value}"
        case "const":
            allowed = f"must be {found.validator_value}"
        case _:
            allowed = found.message
    raise CllmError(f"{path}: {place.lstrip('.') or 'the file'} is {quoted}: {allowed}")


def _a(kinds: str | list[str]) -> str:
    """A kind of JSON, or several."""
    first, *others = [kinds] if isinstance(kinds, str) else kinds
    return " or ".join([f"{'an' if first[0] in 'aio' else 'a'} {first}", *others])


def _wrong(entry: Entry) -> str:
    """What cannot be: no positive rates, negative work, an interval without its ratio."""
    for name in ("base", "base_again", "head", "head_again", "peaks"):
        if any(rate <= 0 for rate in getattr(entry, name)):
            return f"a rate in {name} is not positive"
    if entry.flops < 0:
        return f"{entry.flops} flops, must be 0 or more"
    for name in ("ratio", "decision", "noise"):
        interval = getattr(entry, name)
        if interval and not (0 < interval.low <= interval.high and interval.ratio > 0):
            return (
                f"{name} is {interval.ratio:g} ({interval.low:g} to {interval.high:g}), "
                "must be positive and in order"
            )
    without = (Outcome.INCONCLUSIVE, Outcome.FAILED)
    if entry.outcome not in without and entry.ratio is None:
        return f"{entry.outcome} without a ratio"
    return "" if entry.threads >= 1 else "threads must be 1 or more"
