"""The whole verification: text, lock-step, checks, benchmark, command and exit status."""

from __future__ import annotations

import importlib
import json
import sysconfig
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import numpy as np
import pytest
from click.testing import CliRunner

from cllm.errors import CllmError
from cllm.harness import Status, Verdict, isolation
from cllm.harness.benchmark import measure, median_ratio
from cllm.harness.command import verify as command
from cllm.harness.display import table
from cllm.harness.lockstep import Lockstep
from cllm.harness.machine import fingerprint, is_busy
from cllm.harness.selection import SUMMARIES
from cllm.harness.verify import (
    BATCH_SIZE,
    SEQ_LEN,
    Verification,
    default_paths,
    draw_batches,
    verify,
)
from cllm.model import Update

QUICK = ("loss.value", "loss.causal", "lockstep", "benchmark")


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of real text."""
    folder = tmp_path_factory.mktemp("text")
    for name in ("heapq", "bisect"):
        source = importlib.import_module(name).__file__
        assert source
        (folder / f"{name}.py").write_text(Path(source).read_text())
    return folder


@pytest.fixture(autouse=True)
def measured_shortly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cllm.harness.benchmark.VISIT_SECONDS", 0.004)
    monkeypatch.setattr("cllm.harness.benchmark.WARM_UP_SECONDS", 0.002)
    monkeypatch.setattr("cllm.harness.benchmark.BLOCKS", 4)


def run(text: Path, candidate: str = "reference", **options: Any) -> Verification:
    options = {"steps": 6, "cache": text.parent / "cache", "checks": QUICK} | options
    return verify([text], candidate, **options)


def no_check(task: str, done: int, total: int) -> None:
    """Progress of what ends before the first check."""
    assert not task.startswith("checking")


MINE = """
from cllm.reference import Model

class Drifts(Model):
    def _update(self, update):
        super()._update(update)
        self.parameters[0] += 1e-3

class Raises(Model):
    def _update(self, update):
        raise ZeroDivisionError("no rows")

class Narrow(Model):
    dtypes = ("float32",)

class LossOff(Model):
    def _loss(self, *arguments):
        return 1.001 * super()._loss(*arguments)
"""


@pytest.fixture(scope="module")
def mine(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The path of a file with models, as other processes find them."""
    path = tmp_path_factory.mktemp("models") / "mine.py"
    path.write_text(MINE)
    return str(path)


def test_both_models_hold(text: Path) -> None:
    """Every check, on text of one's own; six steps are too few to have learned anything."""
    told: list[tuple[str, int, int]] = []
    reported: list[Verdict] = []
    found = run(
        text,
        "optimized",
        checks=(),
        progress=lambda *told_now: told.append(told_now),
        report=reported.append,
    )
    assert sorted(v.check for v in reported) == sorted(v.check for v in found.verdicts)
    assert [v.check for v in found.verdicts] == list(SUMMARIES)
    verdicts = {verdict.check: verdict for verdict in found.verdicts}
    learns = verdicts.pop("lockstep.learns")
    assert learns.status is Status.NOT_APPLICABLE
    assert learns.evidence == "needs 200 steps of training; there were 6"
    statuses = {verdict.status for verdict in verdicts.values()}
    assert statuses <= {Status.PASS, Status.NOT_APPLICABLE}, found.verdicts
    assert found.lockstep is not None
    assert found.lockstep.candidate[0] == pytest.approx(np.log(381), rel=0.1)
    assert found.benchmark is not None
    assert len(found.benchmark.candidate) == len(found.benchmark.reference) == 4
    assert found.settings["config"]["vocab_size"] == 381
    assert found.settings["parameters"] == 82_624
    assert found.settings["isa"] in {"avx512", "avx2", "baseline"}
    stages = list(dict.fromkeys(task.partition(":")[0] for task, _, _ in told))
    assert stages == ["reading text", "checking", "training side by side", "measuring speed"]
    assert all(0 <= done <= total for _, done, total in told)


def test_a_seed_repeats_it(text: Path) -> None:
    first, again, other = (run(text, seed=seed) for seed in (1, 1, 2))
    assert first.lockstep is not None
    assert again.lockstep is not None
    assert other.lockstep is not None
    assert first.lockstep.to_dict() == again.lockstep.to_dict()
    assert first.verdicts[:-1] == again.verdicts[:-1]  # the last is a speed
    assert first.settings == again.settings
    assert other.lockstep.to_dict() != first.lockstep.to_dict()


def test_a_candidate_that_drifts_fails(text: Path, mine: str) -> None:
    found = run(text, f"{mine}:Drifts")
    failed = {verdict.check for verdict in found.verdicts if verdict.status is Status.FAIL}
    assert failed == {"lockstep.agrees"}


def test_a_candidate_that_raises_is_reported(text: Path, mine: str) -> None:
    found = run(text, f"{mine}:Raises")
    assert found.lockstep is None
    assert found.benchmark is None
    verdicts = {verdict.check: verdict for verdict in found.verdicts}
    for name in ("lockstep.agrees", "benchmark"):
        assert verdicts[name].status is Status.FAIL
        where = "mine.py:11 in _update"
        assert verdicts[name].evidence.startswith("ZeroDivisionError: no rows, raised at ")
        assert verdicts[name].evidence.endswith(where)
        assert "_update" in verdicts[name].details["traceback"]
    assert verdicts["lockstep.learns"].status is Status.INCONCLUSIVE
    assert "could not be judged" in verdicts["lockstep.learns"].evidence
    assert len(found.verdicts) == len(run(text).verdicts)  # as many as when all is well


def test_a_selection_runs_nothing_else(text: Path) -> None:
    told: list[str] = []
    found = run(text, checks=["loss.causal"], progress=lambda task, *_: told.append(task))
    assert [verdict.check for verdict in found.verdicts] == ["loss.causal"]
    assert told == ["checking", "checking: loss.causal"]
    assert found.lockstep is found.benchmark is found.settings["text"] is None
    found = run(text, checks=["lockstep.learns"])
    assert [verdict.check for verdict in found.verdicts] == ["lockstep.learns"]
    assert found.lockstep is not None
    assert found.benchmark is None


def test_bad_input(text: Path, tmp_path: Path, mine: str) -> None:
    short = tmp_path / "short.txt"
    short.write_text("a b c")
    with pytest.raises(CllmError, match="needs 65"):
        verify([short], "reference", cache=tmp_path, progress=no_check)
    with pytest.raises(CllmError, match="no check is called 'speedy'"):
        run(text, checks=["speedy"])
    with pytest.raises(CllmError, match="steps must be"):
        run(text, steps=0)
    with pytest.raises(CllmError, match="candidate 'nowhere:Model' cannot be loaded"):
        run(text, "nowhere:Model")
    with pytest.raises(CllmError, match="a reference computes in float32 and float64"):
        run(text, reference=f"{mine}:Narrow")
    with pytest.raises(CllmError, match="what is verified is a model"):
        run(text, "trainer")


def test_default_text_is_the_standard_library_alone() -> None:
    paths = default_paths()
    assert Path(sysconfig.get_path("stdlib")) / "os.py" in paths
    assert not any("site-packages" in path.parts or "test" in path.parts for path in paths)


def test_batches_are_whole_and_rotate() -> None:
    stream = np.arange(3 * BATCH_SIZE * SEQ_LEN + 5, dtype=np.uint16)
    tokens, targets = draw_batches(stream, 6, seed=0)
    assert tokens.shape == targets.shape == (6, BATCH_SIZE, SEQ_LEN)
    counted = targets >= 0
    assert (targets[counted] == tokens[counted] + 1).all()
    assert len({batch.tobytes() for batch in tokens}) == 6
    for epoch in (tokens[:3], tokens[3:]):  # no window twice
        assert len(np.unique(epoch[:, :, 0])) == 3 * BATCH_SIZE
    assert draw_batches(stream, 6, seed=1)[0].tobytes() != tokens.tobytes()


# -- lock-step -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("candidate", "reference", "agrees", "learns"),
    [
        ([3.0, 1.0], [3.0, 1.0], Status.PASS, Status.PASS),
        ([3.0, 1.3], [3.0, 1.0], Status.FAIL, Status.PASS),
        ([3.0, 2.5], [3.0, 1.0], Status.FAIL, Status.FAIL),
        ([3.0, 2.5], [3.0, 2.5], Status.PASS, Status.INCONCLUSIVE),
        ([3.0, np.nan], [3.0, 1.0], Status.FAIL, Status.FAIL),
    ],
)
def test_lockstep_verdicts(
    candidate: list[float], reference: list[float], agrees: Status, learns: Status
) -> None:
    curves = (np.repeat(losses, [180, 20]) for losses in (candidate, reference))
    course = Lockstep(*curves, np.full(200, 0.1), 2.0)
    found = {verdict.check: verdict.status for verdict in course.verdicts()}
    assert found == {"lockstep.agrees": agrees, "lockstep.learns": learns}


def test_lockstep_says_which_difference_is_meant() -> None:
    reference = np.full(200, 3.0)
    tolerance = np.linspace(0.1, 1.0, 200)
    candidate = reference.copy()
    candidate[[4, 150]] += 0.05, 0.2
    agrees, _ = Lockstep(candidate, reference, tolerance, 4.0).verdicts()
    assert agrees.evidence == (
        "largest difference in loss 0.2, at step 151 of 200; "
        "the closest to its tolerance, 0.42× of it, at step 5"
    )
    candidate[[9, 199]] += 0.5, 1.5
    agrees, _ = Lockstep(candidate, reference, tolerance, 4.0).verdicts()
    assert agrees.evidence.startswith("beyond the tolerance from step 10 on: got 3.5, expected 3,")
    assert agrees.evidence.endswith("largest difference in loss 1.5, at step 200")


def test_a_reference_that_is_not_finite_is_inconclusive() -> None:
    course = Lockstep(np.ones(200), np.full(200, np.nan), np.full(200, 0.1), 2.0)
    assert next(course.verdicts()).status is Status.INCONCLUSIVE


# -- benchmark -------------------------------------------------------------------------------


class Recorder:
    """Counts instead of training; each step takes one tick of a clock of our own."""

    def __init__(self, name: str, log: list[tuple[str, bytes, int]], ticks: float) -> None:
        self.name, self.log, self.ticks = name, log, ticks

    def step(self, tokens: np.ndarray, targets: np.ndarray, update: Update) -> None:
        self.log.append((self.name, tokens.tobytes(), update.step))
        Recorder.now += self.ticks

    now = 0.0


def test_models_take_turns_over_rotating_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "cllm.harness.benchmark.time", SimpleNamespace(perf_counter=lambda: Recorder.now)
    )
    monkeypatch.setattr("cllm.harness.benchmark.VISIT_SECONDS", 0.1)
    log: list[tuple[str, bytes, int]] = []
    models: list[Any] = [Recorder("candidate", log, 0.01), Recorder("reference", log, 0.04)]
    tokens = np.arange(5 * 2 * 3, dtype=np.int32).reshape(5, 2, 3)
    found = measure(*models, tokens, tokens, seed=0, progress=lambda *_: None)
    assert found.candidate == pytest.approx([100.0] * 4)
    assert found.reference == pytest.approx([25.0] * 4)
    assert (found.ratio, found.low, found.high) == pytest.approx((4.0, 4.0, 4.0))
    assert found.tokens_per_step == 6
    runs = [(name, len(list(steps))) for name, steps in groupby(who for who, _, _ in log)]
    visit = {"candidate": 10, "reference": 3}
    # Both are sized up first; then ABBA and BAAB, where neighbors of one name run together.
    turns = "".join(name[0] * round(count / visit[name]) for name, count in runs[2:])
    assert turns == 2 * ("crrc" + "rccr")
    for name in ("candidate", "reference"):
        seen = [(batch, step) for who, batch, step in log if who == name]
        assert [step for _, step in seen] == list(range(1, len(seen) + 1))
        assert [batch for batch, _ in seen] == [tokens[i % 5].tobytes() for i in range(len(seen))]


def test_ratio_is_the_median_and_inside_its_interval() -> None:
    candidate = [200.0, 210.0, 190.0, 800.0, 205.0]
    ratio, low, high = median_ratio(candidate, [100.0] * 5, seed=0)
    assert ratio == pytest.approx(2.05)
    assert 1.9 - 1e-9 <= low < ratio < high <= 8.0 + 1e-9
    assert median_ratio(candidate, [100.0] * 5, seed=0) == (ratio, low, high)
    assert median_ratio([100.0] * 5, candidate, seed=0)[0] == pytest.approx(1 / 2.05)


def test_fingerprint_is_json() -> None:
    found = fingerprint()
    assert json.loads(json.dumps(found)) == found
    assert 1 <= found["usable_cores"] <= found["cores"]
    assert found["numpy"] == np.__version__
    assert found["cpu"]
    assert found["load_average"] >= 0
    assert is_busy(found | {"usable_cores": 2, "load_average": 1.0})
    assert not is_busy(found | {"usable_cores": 4, "load_average": 1.0})


# -- command ---------------------------------------------------------------------------------


def test_command_prints_a_table_and_writes_the_report(
    text: Path, tmp_path: Path, mine: str
) -> None:
    output = tmp_path / "new" / "folder"
    arguments = [str(text), "--steps", "4", "--output", str(output), "--seed", "3"]
    arguments += ["--cache", str(tmp_path / "cache"), "--threads", "1"]
    arguments += [word for name in QUICK for word in ("--check", name)]
    runner = CliRunner()
    for model, status in (("reference", 0), (f"{mine}:LossOff", 1)):
        result = runner.invoke(command, [*arguments, "--model", model], standalone_mode=False)
        assert result.exception is None, result.exception
        assert result.return_value == status
        assert result.stdout.startswith("check ")
        assert "loss.causal      pass  " in result.stdout
        assert f"{model} takes " in result.stdout
        assert f"Report: {output / 'index.html'}" in result.stderr
        report = json.loads((output / "report.json").read_text())
        assert report["settings"]["candidate"] == model
        assert report["settings"]["seed"] == 3
        assert ("Look first at loss.value: starts at loss" in result.stdout) == (status == 1)
        stages = [line for line in result.stderr.splitlines() if ": done after " in line]
        assert [line.partition(":")[0] for line in stages][-3:] == [
            "checking", "training side by side", "measuring speed",
        ]  # fmt: skip
    assert "loss.value       fail" in result.stdout


@pytest.mark.parametrize("asked", [False, True])
def test_command_prints_tracebacks_where_asked(asked: bool, tmp_path: Path, mine: str) -> None:
    arguments = ["--model", f"{mine}:Raises", "--check", "training.update"]
    arguments += ["--output", str(tmp_path)]
    result = CliRunner().invoke(command, arguments, standalone_mode=False, obj={"traceback": asked})
    assert result.return_value == 1
    assert "in _update" in result.stdout
    assert ("Traceback (most recent call last)" in result.stderr) is asked
    assert "Traceback (most recent call last)" in (tmp_path / "index.html").read_text()


def test_command_prints_the_verdicts_so_far_when_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = isolation.run

    def interrupted(
        tasks: Iterable[isolation.Task], jobs: int = 1
    ) -> Iterator[tuple[int, Verdict, float]]:
        given = list(tasks)
        if len(given) == 1:  # the reference is looked at
            yield from run(given)
            return
        yield 0, Verdict(Status.PASS, "fine"), 0.1
        raise KeyboardInterrupt

    monkeypatch.setattr("cllm.harness.isolation.run", interrupted)
    arguments = ["--output", str(tmp_path)]
    arguments += ["--check", "loss.value", "--check", "gradients.reference"]
    result = CliRunner().invoke(command, arguments, standalone_mode=False)
    assert isinstance(result.exception, click.Abort)
    assert "loss.value  pass " in result.stdout
    assert "gradients" not in result.stdout
    assert "checking: stopped after " in result.stderr
    assert not list(tmp_path.iterdir())


def test_help_says_what_each_check_shows() -> None:
    text = "".join(CliRunner().invoke(command, ["--help"]).stdout.split())
    for name, summary in SUMMARIES.items():
        assert name + summary.replace(" ", "") in text


def test_command_refuses_an_output_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = CliRunner().invoke(command, ["--output", str(tmp_path / "file")])
    assert result.exit_code == 2
    assert "is a file" in result.stderr


def test_table_is_aligned_and_whole() -> None:
    verdicts = [
        Verdict(Status.PASS, "fine", check="a.b"),
        Verdict(Status.NOT_APPLICABLE, "two\nlines", check="long.name"),
    ]
    assert table(verdict.row for verdict in verdicts).splitlines() == [
        "check      verdict         evidence",
        "a.b        pass            fine",
        "long.name  not applicable  two lines",
    ]
