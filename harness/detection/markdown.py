"""The detection matrix in Markdown, for `reports/detection.md`."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable

from cllm.harness.detection.matrix import Matrix, Row

COMMAND = "cllm check --faults --output reports"

EVIDENCE = 240
"""Characters of what a check said; all of it stands in the JSON."""


def render(matrix: Matrix) -> str:
    """The document."""
    return "\n\n".join([*_opening(matrix), *_faults(matrix), *_controls(matrix)]) + "\n"


def headline(matrix: Matrix) -> str:
    """One sentence."""
    caught = sum(row.good for row in matrix.faults)
    alarms = sum(not row.good for row in matrix.controls)
    return (
        f"{caught} of {len(matrix.faults)} faults caught by the check named for them, "
        f"{alarms or 'no'} false alarm{'' if alarms == 1 else 's'} on "
        f"{len(matrix.controls)} odd but correct control{'' if len(matrix.controls) == 1 else 's'}"
    )


def _opening(matrix: Matrix) -> Iterable[str]:
    yield "# What the harness catches"
    yield (
        f"**{headline(matrix)}.** {sum(len(row.verdicts) for row in matrix.rows):,} checks in "
        f"{matrix.seconds / 60:.1f} minutes, each in a process of its own, with seed {matrix.seed}"
        f"{_where(matrix)}. Repeat it: `{COMMAND}`."
    )
    yield (
        "A fault is a candidate with one planted defect. It counts as caught only if the check "
        "that is named for it fails on it; which others fail as well is told beside it. On a model "
        "with a fault every check of loss and gradients is run, and the family of the check that "
        "is named for it; on a control, which is odd and correct, every check: none may fail."
    )
    for what, names in (
        ("No fault of this run proves", matrix.unproven),
        ("On no candidate of this run could be checked (races: `tox -e sanitizers`):", matrix.idle),
    ):
        if names:
            yield f"{what} {', '.join(f'`{name}`' for name in names)}."


def _where(matrix: Matrix) -> str:
    machine = matrix.machine
    return f", on {machine['usable_cores']} cores of {machine['cpu']}" if machine else ""


def _faults(matrix: Matrix) -> Iterable[str]:
    yield "## Faults"
    by_check: dict[str, list[Row]] = {}
    for name in matrix.checks:
        named = [row for row in matrix.faults if row.fault.caught_by[0] == name]
        if named:
            by_check[name] = named
    for name, rows in by_check.items():
        yield f"### {name}"
        yield _table(
            ("fault", "what is wrong", "verdict", "what the check said", "caught by others too"),
            ((r.fault.name, r.fault.story, r.word, _short(r.evidence), _others(r)) for r in rows),
        )


def _controls(matrix: Matrix) -> Iterable[str]:
    if matrix.controls:
        yield "## Controls"
        yield _table(
            ("control", "what is odd", "verdict", "checks that failed"),
            ((r.fault.name, r.fault.story, r.word, ", ".join(r.caught)) for r in matrix.controls),
        )


def _others(row: Row) -> str:
    return ", ".join(name for name in row.caught if name != row.fault.caught_by[0]) or "none"


def _short(text: str) -> str:
    return textwrap.shorten(text, EVIDENCE, placeholder=" …")


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def _cell(text: str) -> str:
    """A cell that neither ends early nor becomes markup."""
    for character in "\\|*_<>`[]":
        text = text.replace(character, f"\\{character}")
    return text or " "
