"""`reports/changepoints.md`: what `cllm.harness.history.trial` found, in tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from cllm.harness.bench.figures import table
from cllm.harness.history.trial.run import (
    DRIFTS,
    MENDED,
    NEAR,
    OTHER_NOISES,
    QUIET,
    SEVERAL,
    STEPS,
    TIMED,
    Case,
    Tally,
    Trial,
    wilson,
)
from cllm.harness.words import duration

Cell = Callable[[Tally], str]


def render(trial: Trial) -> str:
    """The document."""
    return "\n\n".join([*_opening(trial), *_noise(trial), *_steps(trial), *_rest(trial)]) + "\n"


def _opening(trial: Trial) -> Iterator[str]:
    command = "python -m cllm.harness.history.trial"
    command += f" --series {trial.series} --seed {trial.seed} --output reports/changepoints.md"
    yield "# Change points"
    yield (
        f"Synthetic series with known changes, {trial.series} of each kind, the same for every "
        f"method; a change that is found counts if it lies within {NEAR} points of one that is "
        "there. Recall is the share of the changes that were found, precision the share of what "
        "was found that was there; the intervals (95%) are Wilson's. σ is the standard deviation "
        "of normal noise. "
        f"{duration(trial.seconds)}; repeat it: `{command}`."
    )
    yield "\n".join(f"- **{method.name}**: {method.settings}" for method in trial.methods)
    independent = [case for case in QUIET if not case.name.startswith("remembering")]
    stepped = [*STEPS, *MENDED, *SEVERAL, *OTHER_NOISES]
    rows = []
    for method in trial.methods:
        still, moved = (
            sum((trial.tallies[case.name][method.name] for case in cases), Tally())
            for cases in (independent, stepped)
        )
        rows.append(
            (
                method.name,
                _interval(still.found, still.points, 1000, 2),
                _interval(still.with_any, still.series),
                _interval(moved.matched, moved.changes),
                _interval(moved.matched, moved.found),
            )
        )
    yield (
        "All in all: false alarms where the points are independent and nothing changes; recall and "
        "precision over all series with steps, in percent."
    )
    yield table(
        ("", "alarms in 1,000 points", "series with alarms, %", "recall", "precision"), rows
    )
    yield (
        "Who calls more finds more: CLLM misses steps of 1 σ in short series, and regressions of "
        "ten points, more often than PELT. Least squares takes an outlier for two changes; that is "
        "what these settings of ruptures are, not all that it offers."
    )


def _noise(trial: Trial) -> Iterator[str]:
    yield "## No change at all"
    yield "False alarms for each 1,000 points:"
    yield _table(trial, QUIET, "noise", lambda t: _interval(t.found, t.points, 1000, 2))
    yield "Share of the series that got any, in percent:"
    yield _table(trial, QUIET, "noise", lambda t: _interval(t.with_any, t.series))
    yield (
        "Noise that remembers wanders, and each turn that lasts is a change to a method that takes "
        "the points for independent; all of these do."
    )


def _steps(trial: Trial) -> Iterator[str]:
    for title, cases in (
        ("One step in normal noise", STEPS),
        ("A regression that was mended: down and up again, in 200 points", MENDED),
        ("Several steps, up and down", SEVERAL),
        ("One step in other noise, 200 points", OTHER_NOISES),
    ):
        yield f"## {title}"
        yield "Recall in percent:"
        yield _table(trial, cases, "", lambda t: _interval(t.matched, t.changes))
        yield "Precision in percent:"
        yield _table(trial, cases, "", lambda t: _interval(t.matched, t.found))


def _rest(trial: Trial) -> Iterator[str]:
    yield "## Slow drift"
    yield (
        "No point of a drift is its change: it is seen if anything is found at all. Share of the "
        "series in which it is, in percent:"
    )
    yield _table(trial, DRIFTS, "drift", lambda t: _interval(t.with_any, t.series))
    yield "Changes that a drift is told as:"
    yield _table(trial, DRIFTS, "drift", lambda t: f"{t.found / t.series:.1f}")
    yield (
        "CLLM also says of each change whether it is gradual: a line fits better than the levels. "
        "Share of the changes that it says so of, in percent:"
    )
    yield table(
        ("", "gradual"),
        [(case.name, _interval(*trial.gradual[case.name])) for case in (*DRIFTS, *STEPS)],
    )
    yield "## Time"
    yield "Milliseconds for one series with a step of 5 σ about every 100 points:"
    yield _table(trial, TIMED, "", lambda t: f"{1000 * t.seconds / t.series:,.1f}")


def _table(trial: Trial, cases: Sequence[Case], head: str, cell: Cell) -> str:
    names = [method.name for method in trial.methods]
    return table(
        (head, *names),
        [(c.name, *(cell(trial.tallies[c.name][name]) for name in names)) for c in cases],
    )


def _interval(successes: int, trials: int, unit: float = 100, digits: int = 1) -> str:
    """A share and its interval, times the unit; a dash where nothing was tried."""
    if not trials:
        return "–"
    share, low, high = (f"{unit * value:.{digits}f}" for value in wilson(successes, trials))
    return f"{share} ({low} to {high})"
