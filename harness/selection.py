"""What can be checked, by name and family, and what each check of a verification shows.

A verification runs a model's checks of `cllm.harness.checks`, then what takes a text: training side
by side, and speed.
"""

from __future__ import annotations

from collections.abc import Iterable

from cllm.errors import CllmError
from cllm.harness.checks import CHECKS
from cllm.harness.checks.check import Kind

AGREES, LEARNS, BENCHMARK = "lockstep.agrees", "lockstep.learns", "benchmark"

SUMMARIES: dict[str, str] = {
    name: check.summary for name, check in CHECKS.items() if check.kind is Kind.MODEL
} | {
    AGREES: "Trained on the same text from the same start, both have the same loss at every step.",
    LEARNS: "In that training the loss falls below the unigram entropy of the text.",
    BENCHMARK: "Steps per second of both can be measured; nothing fails by how many they are.",
}
"""By name, in the order in which they are judged."""

TAKE_TEXT = {AGREES, LEARNS, BENCHMARK}


def select(known: Iterable[str], only: Iterable[str], skip: Iterable[str] = ()) -> list[str]:
    """Those of these names or families (what stands before the dot); without any, all.

    Raises `CllmError` for a name that is neither.
    """
    names = list(known)
    families = dict.fromkeys(name.partition(".")[0] for name in names)
    wanted, unwanted = set(only), set(skip)
    if unknown := sorted((wanted | unwanted) - families.keys() - {*names}):
        raise CllmError(
            f"no check is called {unknown[0]!r}; there are the families {', '.join(families)} "
            f"and the checks {', '.join(names)}"
        )

    def among(name: str, chosen: set[str]) -> bool:
        return name in chosen or name.partition(".")[0] in chosen

    return [
        name for name in names if (not wanted or among(name, wanted)) and not among(name, unwanted)
    ]
