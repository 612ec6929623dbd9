"""The experiment behind `reports/regression-power.md`: replays, rivals, report, load, slowdown."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from cllm.harness.compare.comparison import Entry, Interval, Outcome
from cllm.harness.compare.power import load, markdown
from cllm.harness.compare.power.live import Live
from cllm.harness.compare.power.load import STATES, Load
from cllm.harness.compare.power.record import (
    BASE,
    CALIBRATION_ROUNDS,
    COPY,
    IN_A_ROW,
    SLOWDOWNS,
    TURNS,
    Moment,
    Recording,
    record,
)
from cllm.harness.compare.power.replay import replay
from cllm.harness.compare.power.slowed import NAME, VARIABLE
from cllm.harness.compare.process import Launch
from cllm.harness.compare.session import TRIPS, Visited, Work

BUILDS = [BASE, COPY, *(f"{slowdown:g}" for slowdown in SLOWDOWNS)]


def recorded(rounds: int, noise: float = 0.004, disturbed: float = 0.005) -> Recording:
    """Made-up rounds: noise, and now and then a process that something else has slowed."""
    generator, moments = np.random.default_rng(5), []
    for place in range(rounds):
        for build in BUILDS[1:]:
            slowdown = 0.0 if build == COPY else float(build)
            wobble = noise * generator.standard_normal(4)
            wobble += generator.exponential(0.3, 4) * (generator.random(4) < disturbed)
            seconds = 4e-4 * np.array([1, 1 + slowdown] * 2) * np.exp(wobble)
            trips = [[second] * TRIPS for second in seconds.tolist()]
            mean = (seconds * np.exp(generator.exponential(0.2, 4))).tolist()
            moments.append(Moment(float(place), 1.0, "quiet", build, trips, mean))
    return Recording(1, dict.fromkeys(BUILDS, 0), moments)


RECORDING = recorded(200)


def trials(build: str, count: int = 40) -> list[Outcome]:
    found = replay(RECORDING, build, count, budget=60.0, minimum_effect=0.02, seed=0)
    return [trial.outcome for trial in found]


@pytest.mark.parametrize(
    ("build", "outcome"), [(COPY, Outcome.SAME), ("0.03", Outcome.SLOWER), ("0.1", Outcome.SLOWER)]
)
def test_replays_find_what_was_planted(build: str, outcome: Outcome) -> None:
    assert set(trials(build)) == {outcome}


def test_a_replay_takes_one_round_after_the_other_by_the_clock_of_the_recording() -> None:
    moments = [replace(moment, seconds=3.5) for moment in RECORDING.moments]
    slow = replace(RECORDING, moments=moments)
    (trial,) = replay(slow, "0.1", 1, budget=60.0, minimum_effect=0.02, seed=0)
    assert 5 <= trial.rounds <= 7
    assert trial.seconds == 3.5 * trial.rounds


def test_a_recording_shorter_than_a_comparison_is_refused() -> None:
    for count, seconds in ((20, 20), (0, 0)):
        short = replace(RECORDING, moments=RECORDING.of(COPY)[:count])
        said = f"recorded are {seconds} s of comparisons, must be over 60"
        with pytest.raises(ValueError, match=said):
            next(replay(short, COPY, 1, budget=60, minimum_effect=0.02, seed=0))


def test_the_rules_of_others() -> None:
    generator = np.random.default_rng(0)

    def moment(head: float) -> Moment:
        base = (4e-4 * np.exp(0.001 * generator.standard_normal(2))).tolist()
        seconds = [base[0], head * base[0], base[1], head * base[1]]
        trips = [[second] * TRIPS for second in seconds]
        return Moment(0, 1.0, "quiet", "x", trips, seconds)

    for head, said in ((1.0, (False, False, False)), (1.1, (True, True, True))):
        made = Recording(1, dict.fromkeys(BUILDS, 0), [moment(head) for _ in range(100)])
        (trial,) = replay(made, "x", 1, budget=30, minimum_effect=0.02, seed=0)
        assert (trial.mean_rule, trial.fastest_rule, trial.t_test) == said


def test_a_recording_is_kept_whole() -> None:
    again = Recording.from_dict(RECORDING.to_dict())
    assert again == replace(RECORDING, moments=list(RECORDING.moments))


def results(builds: list[str]) -> markdown.Results:
    entry = Entry(
        "a", "small", "step", 1, "steps/s", Outcome.SAME, "why", ratio=Interval(1, 0.99, 1.01),
        seconds=7.0,
    )  # fmt: skip
    return markdown.Results(
        [RECORDING],
        {
            (1, build): [*replay(RECORDING, build, 20, budget=60.0, minimum_effect=0.02, seed=0)]
            for build in builds
        },
        [Live(1, 0.0, entry), Live(1, 0.03, replace(entry, outcome=Outcome.SLOWER))],
        60.0,
        0.02,
        {"cpu": "a processor", "usable_cores": 2},
        "python -m cllm.harness.compare.power",
    )


def test_the_report_says_what_was_reached() -> None:
    text = markdown.render(results(BUILDS[1:]))
    for said in (
        "✓ equal builds called different: 0 of 20, 0.0% (0.0% to 16.8%), at most 1%",
        "✓ 3% found: 20 of 20, 100.0% (83.2% to 100.0%), at least 95%",
        "✓ 10% found within 10 s: 20 of 20",
        "| equal, 1 thread | 20 | 0 | 0 | 20 | 0 | 0 |",
        "| 3% slower, 1 thread | 1 | 0 | 1 | 0 | 0 | 0 | 7 | 7 |",
        "1200 rounds; at their start the machine was: quiet 100%.",
    ):
        assert said in text


def test_the_report_says_what_was_not_reached() -> None:
    found = results(BUILDS[1:])
    wrong = {
        (1, COPY): [replace(t, outcome=Outcome.FASTER) for t in found.trials[1, COPY]],
        (1, "0.03"): [replace(t, outcome=Outcome.SAME) for t in found.trials[1, "0.03"]],
        (1, "0.1"): [replace(t, seconds=10.5) for t in found.trials[1, "0.1"]],
    }
    lines = [*markdown.bars(replace(found, trials=wrong))]
    assert len(lines) == 3
    assert all(line.startswith("**✗ not reached:** ") for line in lines)


def test_the_slowed_model_computes_the_same() -> None:
    code = f"from cllm.registry import find_model; print(find_model({NAME!r})._extra)"
    run = [sys.executable, "-P", "-c", code]
    done = subprocess.run(
        run, env={**os.environ, VARIABLE: "123"}, capture_output=True, text=True, check=True
    )
    assert done.stdout == "123\n"


def test_load_comes_and_goes_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []
    popen = subprocess.Popen

    def start(command: list[str]) -> subprocess.Popen[bytes]:
        started.append(popen([*command[:2], "import signal; signal.pause()"]))
        return started[-1]

    monkeypatch.setattr(load.subprocess, "Popen", start)
    monkeypatch.setattr(load, "MEAN_SECONDS", 0.01)
    with Load(0) as running:
        while len(started) < 5:
            assert running.state in STATES
    assert all(process.returncode is not None for process in started)


def test_a_recording_of_real_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = itertools.count()  # of the recording alone: the processes need real seconds
    clock = SimpleNamespace(monotonic=lambda: next(ticks), perf_counter=time.perf_counter)
    monkeypatch.setattr("cllm.harness.compare.power.record.time", clock)
    monkeypatch.setattr(load, "STATES", {"quiet": (), "nothing": ()})
    (found,) = record([1], 3, tmp_path, 0, lambda what, done, total: None)
    assert list(found.work) == BUILDS
    assert found.work[BASE] == found.work[COPY] == 0 < found.work["0.01"] < found.work["0.1"]
    (moment,) = found.moments
    assert moment.build in BUILDS[1:]
    assert found.of(moment.build) == [moment]
    assert len(moment.trips) == 4
    for trips, mean in zip(moment.trips, moment.mean, strict=True):
        assert len(trips) == TRIPS
        assert 0 < min(trips) <= mean


def test_a_recording_gives_each_build_its_turns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, taken = itertools.count(), []

    def visit(
        sides: list[Launch], work: Work, generator: np.random.Generator, server: None
    ) -> list[Visited]:
        taken.append([side.environment[VARIABLE] for side in sides])
        return [Visited((), 1, [1.0] * TRIPS, 1.0)] * len(sides)

    monkeypatch.setattr(load, "STATES", {"quiet": (), "nothing": ()})
    monkeypatch.setattr(
        "cllm.harness.compare.power.record.sharing", lambda base, head: (base, head)
    )
    monkeypatch.setattr("cllm.harness.compare.run.visit_round", visit)
    monkeypatch.setattr("cllm.harness.compare.power.record.time.monotonic", lambda: next(clock))
    turns = sum(TURNS.values())
    (found,) = record([1], 3 * IN_A_ROW * turns, tmp_path, 0, lambda what, done, total: None)
    rounds = [moment.build for moment in found.moments]
    assert set(rounds) == set(TURNS)
    assert taken[CALIBRATION_ROUNDS:] == [
        ["0", str(found.work[build])] * 2 for build in rounds
    ]  # what was started is what is written down
    for place in range(0, len(rounds) - IN_A_ROW, IN_A_ROW):
        assert len(set(rounds[place : place + IN_A_ROW])) == 1
