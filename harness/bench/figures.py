"""Figures in words and tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from cllm.plan import format_bytes


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; all columns but the first are set to the right."""
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def number(value: float | None) -> str:
    """Three significant digits or all before the point: 0.512, 4.07, 34.8, 3,446."""
    if value is None:
        return "–"
    digits = 3 if value < 1 else 2 if value < 10 else 1 if value < 100 else 0
    return f"{value:,.{digits}f}"


def ratio(found: Sequence[float] | None) -> str:
    """A ratio with its interval."""
    if found is None:
        return "–"
    return "{:.2f} ({:.2f} to {:.2f})".format(*found)


def share(value: float | None) -> str:
    """A share in percent."""
    return "–" if value is None else f"{100 * value:.0f}%"


def spread(values: Sequence[float | None], unit: float) -> str:
    """Median, lowest and highest."""
    found = sorted(value * unit for value in values if value is not None)
    if not found:
        return "–"
    return f"{found[len(found) // 2]:.0f} ({found[0]:.0f} to {found[-1]:.0f})"


def in_vectors(nbytes: int, vector: int) -> str:
    """Bytes, and as multiples of the parameter vector."""
    return f"{format_bytes(nbytes)} ({nbytes / vector:.2f})"


def cell(text: str) -> str:
    """Text that cannot break a table."""
    return text.replace("|", "\\|").replace("\n", " ")
