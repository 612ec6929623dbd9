"""Everything that a verification can check, by name, and what each shows.

The checks of `cllm.harness.checks`, then what takes a text: training side by side, and speed.
"""

from __future__ import annotations

from collections.abc import Iterable

from cllm.errors import CllmError
from cllm.harness.checks import CHECKS

AGREES, LEARNS, BENCHMARK = "lockstep.agrees", "lockstep.learns", "benchmark"

SUMMARIES: dict[str, str] = {name: check.summary for name, check in CHECKS.items()} | {
    AGREES: "Trained on the same text from the same start, both have the same loss at every step.",
    LEARNS: "In that training the loss falls below the unigram entropy of the text.",
    BENCHMARK: "Steps per second of both can be measured; nothing fails by how many they are.",
}
"""By name, in the order in which they are judged."""

TAKE_TEXT = {AGREES, LEARNS, BENCHMARK}


def select(names: Iterable[str]) -> list[str]:
    """The checks of these names or families (what stands before the dot); without any, all.

    Raises `CllmError` for a name that nothing has.
    """
    families = dict.fromkeys(name.partition(".")[0] for name in SUMMARIES)
    wanted = set(names)
    if unknown := sorted(wanted - families.keys() - SUMMARIES.keys()):
        raise CllmError(
            f"no check is called {unknown[0]!r}; there are the families {', '.join(families)} "
            f"and the checks {', '.join(SUMMARIES)}"
        )
    return [
        name
        for name in SUMMARIES
        if not wanted or name in wanted or name.partition(".")[0] in wanted
    ]
