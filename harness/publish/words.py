"""Figures in words, the same on the page and in Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cllm.plan import format_bytes

LONGEST = 120
"""Characters of a name that are shown."""

MINUS = "\N{MINUS SIGN}"

MACHINE = {
    "cpu": "CPU",
    "architecture": "Architecture",
    "usable_cores": "Cores",
    "load_average": "Load before",
    "memory_bytes": "Memory",
    "system": "System",
    "python": "Python",
    "numpy": "NumPy",
    "blas": "BLAS",
    "compiler": "Compiler",
    "cllm": "CLLM",
    "thread_variables": "Environment",
}


def change(ratio: float) -> str:
    """A ratio of speeds as what became of them: +3.1%, −0.04%, 2.50×."""
    if _is_far(ratio):
        return f"{ratio:.2f}×"
    percent = 100 * (ratio - 1)
    digits = 1 if abs(percent) >= 0.95 else 2
    text = f"{percent:+.{digits}f}%"
    return text.replace("-", MINUS) if float(f"{percent:.{digits}f}") else "0%"


def interval(found: Mapping[str, Any] | None) -> str:
    """Both ends of an interval of a ratio, in one unit."""
    if found is None:
        return "–"
    ends = found["low"], found["high"]
    if any(map(_is_far, ends)):
        return "{:.2f}× to {:.2f}×".format(*ends)
    return " to ".join(map(change, ends))


def _is_far(ratio: float) -> bool:
    """Whether per cent would be hard to read."""
    return not 0.5 < ratio < 2.0


def effect(share: float | None) -> str:
    """An effect of either sign: 0.8%."""
    return "–" if share is None else f"{100 * share:.{1 if share >= 0.01 else 2}f}%"


def revision(commit: Mapping[str, Any]) -> str:
    """A commit: its hash, its subject, and whether the sources were changed after it."""
    text = str(commit.get("sha", ""))[:12]
    if subject := commit.get("subject"):
        text += f" “{subject}”"
    return text + (", changed after it" if commit.get("dirty") else "")


def facts(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Names and values for people; what is empty is left out."""
    return [(name.replace("_", " "), _fact(value)) for name, value in values.items() if _has(value)]


def machine_facts(machine: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What is known of the machine, in the order of its importance."""
    found = {name: machine[name] for name in MACHINE if name in machine}
    if isinstance(memory := found.get("memory_bytes"), int):
        found["memory_bytes"] = format_bytes(memory)
    if "cores" in machine and "usable_cores" in found:
        found["usable_cores"] = f"{machine['usable_cores']} usable of {machine['cores']}"
    return [(MACHINE[name], _fact(value)) for name, value in found.items() if _has(value)]


def _has(value: Any) -> bool:
    return value is not None and value not in ("", [], {}, ())


def _fact(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name}={_fact(inner)}" for name, inner in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(_fact, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def printable(text: str) -> str:
    """Without characters that XML does not allow or that a terminal obeys."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def short(text: str) -> str:
    """Printable, and with an ellipsis instead of what is beyond `LONGEST`."""
    return printable(text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…")


def unique(names: Sequence[str]) -> list[str]:
    """The same with a number behind a name that was there before."""
    found: dict[str, None] = {}
    for name in names:
        other, number = name, 1
        while other in found:
            number += 1
            other = f"{name} ({number})"
        found[other] = None
    return [*found]
