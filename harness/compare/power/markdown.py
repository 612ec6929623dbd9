"""`regression-power.md`: how often a comparison is right."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, median
from typing import Any

import numpy as np
from scipy import stats

from cllm.harness.bench.figures import table
from cllm.harness.compare.comparison import Outcome
from cllm.harness.compare.power.live import Live
from cllm.harness.compare.power.record import COPY, IN_A_ROW, TURNS, Recording
from cllm.harness.compare.power.replay import LEVEL, Trial
from cllm.harness.compare.sequential import ALPHA, rejected_at, shift_interval
from cllm.harness.compare.session import log_speeds
from cllm.harness.words import threads_of

FOUND = 0.03
"""The slowdown that must be found in `SHARE` of all comparisons."""
SHARE = 0.95
AT_ONCE = 0.10
"""The slowdown that must always be found within `AT_ONCE_SECONDS`."""
AT_ONCE_SECONDS = 10.0


@dataclass(frozen=True)
class Results:
    """Everything that the report tells."""

    recordings: Sequence[Recording]
    trials: Mapping[tuple[int, str], Sequence[Trial]]
    """By threads and build."""
    live: Sequence[Live]
    budget: float
    minimum_effect: float
    machine: Mapping[str, Any]
    command: str


def render(results: Results) -> str:
    """The report."""
    return "\n\n".join(["# How often `cllm compare` is right", *_parts(results)]) + "\n"


def _parts(results: Results) -> Iterator[str]:
    machine, hours = results.machine, _hours(results.recordings)
    yield "\n".join(f"- {line}" for line in bars(results))
    yield (
        f"Written by `{results.command}` on {machine['usable_cores']} cores of {machine['cpu']}. "
        "Extra work of a known size, a chain of multiply-adds, was planted into the optimized "
        "model's step on the small configuration. For "
        f"{hours:.2f} hours rounds were recorded as a comparison takes them, {IN_A_ROW} of one "
        "build and then of another, while a load came and went. Comparisons replay the whole "
        "stopping rule on the rounds of a build, one after the other from starts drawn at random, "
        f"with {results.budget:.0f} s and a minimum effect of {results.minimum_effect:.0%}; they "
        "overlap: the last column says how many would fit side by side into what was recorded. The "
        "intervals, of 95% (Clopper and Pearson), take them all for independent. Equal builds are "
        "two copies of the same code at different places."
    )
    yield "## What was planted, and what ran meanwhile"
    yield _truth(results.recordings)
    yield _loads(results.recordings)
    yield "## Replayed comparisons"
    yield _replayed(results)
    yield "## Others on the same samples"
    yield (
        "What two other rules say of the samples on which `cllm compare` decided: "
        "pytest-benchmark's `--benchmark-compare-fail` with the mean and with the minimum, at a "
        f"limit of {results.minimum_effect:.0%}, and Welch's t-test of the processes' means at "
        f"{LEVEL:.0%}. They get as many samples as the comparison took; of themselves they would "
        "take one process of each build, one after the other."
    )
    yield _rivals(results)
    if results.live:
        yield "## Live comparisons"
        yield _live(results.live)


def bars(results: Results) -> Iterator[str]:
    """What was aimed at, and whether it was reached."""
    equal = _all(results, COPY)
    wrong = sum(t.outcome in (Outcome.SLOWER, Outcome.FASTER) for t in equal)
    yield _bar(
        wrong <= ALPHA * len(equal),
        f"equal builds called different: {_share(wrong, len(equal))}, at most {ALPHA:.0%}",
    )
    planted = _all(results, f"{FOUND:g}")
    found = sum(t.outcome is Outcome.SLOWER for t in planted)
    yield _bar(
        found >= SHARE * len(planted) and _longest(planted) <= results.budget,
        f"{FOUND:.0%} found: {_share(found, len(planted))}, at least {SHARE:.0%}; the longest "
        f"comparison took {_longest(planted):.0f} s, at most {results.budget:.0f}",
    )
    large = _all(results, f"{AT_ONCE:g}")
    soon = sum(t.outcome is Outcome.SLOWER and t.seconds <= AT_ONCE_SECONDS for t in large)
    yield _bar(
        soon == len(large),
        f"{AT_ONCE:.0%} found within {AT_ONCE_SECONDS:.0f} s: {_share(soon, len(large))}, always",
    )


def _bar(reached: bool, text: str) -> str:
    return f"{'✓' if reached else '**✗ not reached:**'} {text}"


def _truth(recordings: Sequence[Recording]) -> str:
    rows = []
    for build in TURNS:
        row = [_named(build)]
        for recording in recordings:
            speeds = np.array([log_speeds(moment.trips) for moment in recording.of(build)])
            rejected = rejected_at(len(speeds), 0.05)
            center, low, high = np.expm1(shift_interval(speeds[:, 1::2], speeds[:, ::2], rejected))
            row.append(f"{recording.work[build]:,}")
            row.append(f"{center:+.2%} ({low:+.2%} to {high:+.2%})")
        rows.append(row)
    head = ["build"]
    for recording in recordings:
        head += [f"multiply-adds, {threads_of(recording.threads)}", "time of a step, measured"]
    return table(head, rows)


def _loads(recordings: Sequence[Recording]) -> str:
    moments = [moment for recording in recordings for moment in recording.moments]
    counts = Counter(moment.load for moment in moments)
    said = ", ".join(f"{name} {count / len(moments):.0%}" for name, count in counts.most_common())
    return f"{len(moments)} rounds; at their start the machine was: {said}."


def _replayed(results: Results) -> str:
    rows = []
    recorded = {
        (recording.threads, build): sum(moment.seconds for moment in recording.of(build))
        for recording in results.recordings
        for build in TURNS
    }
    for (threads, build), trials in results.trials.items():
        counts = Counter(trial.outcome for trial in trials)
        seconds = sorted(trial.seconds for trial in trials)
        rows.append(
            [f"{_named(build)}, {threads_of(threads)}", str(len(trials))]
            + [str(counts[outcome]) for outcome in Outcome]
            + [_share(counts[Outcome.SLOWER], len(trials), counted=False)]
            + [f"{median(seconds):.0f}", f"{seconds[int(0.95 * len(seconds))]:.0f}"]
            + [f"{seconds[-1]:.0f}", f"{recorded[threads, build] / mean(seconds):.0f}"]
        )
    head = ["build", "comparisons", *map(str, Outcome), "called slower", "median, s"]
    return table([*head, "95 of 100 within, s", "longest, s", "side by side"], rows)


def _rivals(results: Results) -> str:
    rows = []
    for (threads, build), trials in results.trials.items():
        rows.append(
            [f"{_named(build)}, {threads_of(threads)}"]
            + [
                f"{sum(said) / len(trials):.1%}"
                for said in (
                    [t.outcome in (Outcome.SLOWER, Outcome.FASTER) for t in trials],
                    [t.mean_rule for t in trials],
                    [t.fastest_rule for t in trials],
                    [t.t_test for t in trials],
                )
            ]
        )
    head = ["build", "`cllm compare`: different", "mean: slower", "minimum: slower"]
    return table([*head, "t-test: different"], rows)


def _live(live: Sequence[Live]) -> str:
    rows = []
    for slowdown, threads in dict.fromkeys((one.slowdown, one.threads) for one in live):
        entries = [o.entry for o in live if (o.slowdown, o.threads) == (slowdown, threads)]
        counts = Counter(entry.outcome for entry in entries)
        seconds = [entry.seconds for entry in entries]
        build = f"{slowdown:g}" if slowdown else COPY
        rows.append(
            [f"{_named(build)}, {threads_of(threads)}", str(len(entries))]
            + [str(counts[outcome]) for outcome in Outcome]
            + [f"{median(seconds):.0f}", f"{max(seconds):.0f}"]
        )
    head = ["build", "comparisons", *map(str, Outcome), "median, s", "longest, s"]
    return table(head, rows)


def _named(build: str) -> str:
    return "equal" if build == COPY else f"{float(build):.0%} slower"


def _all(results: Results, build: str) -> list[Trial]:
    return [t for (_, name), trials in results.trials.items() if name == build for t in trials]


def _longest(trials: Iterable[Trial]) -> float:
    return max(trial.seconds for trial in trials)


def _share(count: int, total: int, *, counted: bool = True) -> str:
    """A share and its interval of 95% (Clopper & Pearson 1934)."""
    interval = stats.binomtest(count, total).proportion_ci()
    said = f"{count / total:.1%} ({interval.low:.1%} to {interval.high:.1%})"
    return f"{count} of {total}, {said}" if counted else said


def _hours(recordings: Sequence[Recording]) -> float:
    return sum(moment.seconds for r in recordings for moment in r.moments) / 3600
