"""The experiment on change points: what is drawn, what counts as found, what is written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from cllm.harness.history.trial import __main__ as command
from cllm.harness.history.trial import rivals, run, synthetic_series
from cllm.harness.history.trial.run import NEAR, Case, Tally, matches, wilson
from cllm.harness.history.trial.synthetic_series import LEVEL, MARGIN, NOISES, normal


@pytest.mark.parametrize(
    ("changes", "found", "count"),
    [
        ((50,), [50 + NEAR], 1),
        ((50,), [50 + NEAR + 1], 0),
        ((50,), [48, 50, 52], 1),
        ((50, 54), [52], 1),
        ((50, 54), [49, 55], 2),
        ((), [10], 0),
        ((10,), [], 0),
    ],
)
def test_each_change_is_matched_by_one_that_is_near(
    changes: tuple[int, ...], found: list[int], count: int
) -> None:
    assert matches(changes, found) == count


def test_wilsons_interval() -> None:
    # Brown, Cai & DasGupta (2001) and any table: 0 of 10, 5 of 10
    assert wilson(0, 10) == pytest.approx((0.0, 0.0, 0.2775), abs=1e-4)
    assert wilson(5, 10) == pytest.approx((0.5, 0.2366, 0.7634), abs=1e-4)
    assert wilson(10, 10)[2] == 1.0


@pytest.mark.parametrize("name", NOISES)
def test_noise_lies_around_nothing_and_is_about_one_wide(name: str) -> None:
    values = NOISES[name](np.random.default_rng(0), 20_000)
    lower, middle, upper = np.quantile(values, (0.25, 0.5, 0.75))
    assert abs(middle) < 0.35
    assert 1.0 < upper - lower < 1.6  # 1.35 for a normal one


def test_neighbors_remember_by_half() -> None:
    values = synthetic_series.remembering(np.random.default_rng(0), 20_000)
    assert np.corrcoef(values[1:], values[:-1])[0, 1] == pytest.approx(0.5, abs=0.03)


def test_steps_are_where_they_are_said_to_be() -> None:
    def still(generator: np.random.Generator, n: int) -> np.ndarray:
        return np.zeros(n)

    generator = np.random.default_rng(0)
    for drawn in (
        synthetic_series.step(generator, still, 50, 3.0),
        synthetic_series.mended(generator, still, 50, 3.0, 20),
        synthetic_series.several(generator, still, 200, 3.0, 5),
    ):
        places = np.flatnonzero(np.diff(drawn.values)) + 1
        assert tuple(places) == drawn.changes
        assert np.diff([0, *places, len(drawn.values)]).min() >= MARGIN
        assert np.allclose(np.abs(np.diff(drawn.values)[places - 1]), 3.0)
    drifting = synthetic_series.drift(generator, still, 50, 3.0)
    assert drifting.changes == ()
    assert drifting.values[0] - drifting.values[-1] == pytest.approx(3.0)
    assert drifting.values[0] == LEVEL


def test_tallies_add_up() -> None:
    tally = Tally()
    generator = np.random.default_rng(0)
    drawn = synthetic_series.step(generator, normal, 50, 3.0)
    tally.add(drawn, [drawn.changes[0], 5], 0.5)
    tally.add(synthetic_series.quiet(generator, normal, 50), [], 0.25)
    assert tally + Tally() == Tally(2, 100, 1, 2, 1, 1, 0.75)


def test_the_command_writes_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "installed", lambda: [rivals.METHODS[0]])
    output = tmp_path / "reports" / "changepoints.md"
    result = CliRunner().invoke(command.main, ["--series", "1", "--output", str(output)])
    assert result.exit_code == 0, result.output
    text = output.read_text()
    for group in run.GROUPS:
        for case in group:
            assert f"| {case.name} |" in text
    assert "trial --series 1 --seed 0" in text
    rows = [line for line in text.splitlines() if line.startswith("| 10 σ; 200 points |")]
    assert rows[0].endswith("| 100.0 (20.7 to 100.0) |")


def test_a_place_that_cannot_be_written_is_refused_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = CliRunner().invoke(
        command.main, ["--output", str(tmp_path / "file" / "changepoints.md")]
    )
    assert result.exit_code == 2
    assert "Error: cannot write" in result.output


def test_the_same_seed_draws_the_same_series(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[float]] = []

    def find(series: np.ndarray) -> list[int]:
        seen.append(series.tolist())
        return []

    case = Case("one", lambda generator: synthetic_series.quiet(generator, normal, 20))
    monkeypatch.setattr(run, "GROUPS", ((case,),))
    monkeypatch.setattr(run, "TIMED", [])
    methods = [rivals.Method(name, "", "", find) for name in ("a", "b")]
    run.run(methods, series=2, seed=1)
    run.run(methods, series=2, seed=1)
    run.run(methods, series=2, seed=2)
    assert seen[0] == seen[1] == seen[4]
    assert seen[2] == seen[3] == seen[6]
    assert len({tuple(series) for series in seen}) == 4
