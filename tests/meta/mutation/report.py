"""What a campaign found, for people.

Promises: every mutant of the sample that survived is named, with the reason why no check can see
it, from `equivalent.toml`, or with the words that nobody has explained it.
"""

from __future__ import annotations

import tomllib
from collections import Counter
from pathlib import Path

from mutation.campaign import Campaign
from mutation.mutants import Mutant

EQUIVALENT = Path(__file__).parent / "equivalent.toml"
UNEXPLAINED = "**not explained**"


def explanations() -> dict[str, str]:
    """Reasons why mutants make no difference, by key."""
    groups = tomllib.loads(EQUIVALENT.read_text())["group"]
    return {key: group["reason"] for group in groups for key in group["mutants"]}


def unexplained(campaign: Campaign) -> list[Mutant]:
    """The survivors that no list names."""
    known = explanations()
    return [mutant for mutant in campaign.survivors if mutant.key not in known]


def summary(campaign: Campaign) -> str:
    """How many were killed, on one line."""
    count, left = len(campaign.mutants), len(campaign.survivors)
    killed = count - left
    new = len(unexplained(campaign))
    return (
        f"{killed} of {count} mutants killed ({killed / count:.1%}), "
        f"{left} survived, {new} of them not explained"
    )


def markdown(
    campaign: Campaign, generated: list[Mutant], excluded: list[tuple[Mutant, str]], seed: int
) -> str:
    """The report."""
    known = explanations()
    tried, left = Counter(m.file for m in campaign.mutants), Counter()
    left.update(mutant.file for mutant in campaign.survivors)
    killers = Counter(
        str(campaign.outcomes[mutant.number]["killer"]).partition(" ")[0]
        for mutant in campaign.mutants
    )
    hows = Counter(
        str(campaign.outcomes[mutant.number]["how"]).partition(":")[0]
        for mutant in campaign.mutants
    )
    lines = [
        "# Mutation testing",
        "",
        "Small mistakes, one at a time, in the sources of the optimized model: another operator,",
        "a bound or an index off by one, a term left out, another constant, a condition turned",
        "round, a statement left out. All are compiled into one build (AVX2, array bounds checked",
        "by the compiler), which chooses one at run time; the harness's checks are held against",
        "each until the first that fails. `tox -e mutation` repeats it.",
        "",
        "## The kernels",
        "",
        f"{summary(campaign)}: a sample of the {len(generated)} that can be made, seed {seed}.",
        f"By a failing check {hows['fail']}, a crash {hows['crash']}, a hang {hows['hang']}.",
        "",
        "| file | mutants | tried | survived |",
        "|---|---:|---:|---:|",
    ]
    everywhere = Counter(mutant.file for mutant in generated)
    lines += [f"| {f} | {n} | {tried[f]} | {left[f]} |" for f, n in sorted(everywhere.items())]
    lines += ["", "Which check was the first to see them:", "", "| check | mutants |", "|---|---:|"]
    lines += [f"| {name} | {n} |" for name, n in killers.most_common() if name]
    lines += ["", "### What survived, and why", ""]
    reasons: dict[str, list[Mutant]] = {}
    for mutant in sorted(campaign.survivors, key=lambda mutant: (mutant.file, mutant.line)):
        reasons.setdefault(known.get(mutant.key, UNEXPLAINED), []).append(mutant)
    for why, mutants in reasons.items():
        lines += [f"- {why}"]
        lines += [f"  - `{m.file}:{m.line}` `{m.function}`: `{m.change}`" for m in mutants]
    lines += ["", "### What is left out by rule", ""]
    rules = Counter(why for _, why in excluded)
    lines += [f"- {why}: {n} mutants" for why, n in rules.most_common()]
    if campaign.unfit:
        lines += ["", "### Checks that do not pass without a mutant", ""]
        lines += [f"- {name}: {why}" for name, why in campaign.unfit.items()]
    return "\n".join([*lines, ""])
