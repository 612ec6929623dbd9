"""The detection matrix: what counts as caught, and how it is written down."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import cllm
from cllm.errors import CllmError
from cllm.harness import CHECKS, Status, Verdict
from cllm.harness.checks.check import Kind
from cllm.harness.conformance.command import check as command
from cllm.harness.detection import markdown, page
from cllm.harness.detection.command import of_any_machine
from cllm.harness.detection.matrix import COMPUTED, Matrix, Row, checks_of, select
from cllm.harness.faults import CONTROLS, FAULTS, Fault
from cllm.harness.trainer.parts import TrainerParts

PASS, FAIL, UNSURE = Status.PASS, Status.FAIL, Status.INCONCLUSIVE


def row(statuses: dict[str, Status], *caught_by: str) -> Row:
    fault = Fault("Some|Fault", "what is *wrong*", Kind.MODEL, None, caught_by)
    verdicts = {name: Verdict(status, f"said\nby {name}") for name, status in statuses.items()}
    return Row(fault, verdicts)


def test_only_the_check_named_for_it_catches_a_fault() -> None:
    names = "loss.value", "loss.causal"
    assert row({"loss.value": FAIL, "loss.causal": PASS}, "loss.value").good
    assert not row({"loss.value": FAIL, "loss.causal": PASS}, "loss.causal").good
    assert not row({"loss.value": FAIL, "loss.causal": PASS}, *names).good
    assert not row({"loss.value": UNSURE}, "loss.value").good
    assert not row({}, "loss.value").good


def test_any_failure_of_a_control_is_a_false_alarm() -> None:
    assert row({"loss.value": PASS, "loss.causal": UNSURE}).good
    alarm = row({"loss.value": PASS, "loss.causal": FAIL})
    assert not alarm.good
    assert alarm.word == "FALSE ALARM"
    assert alarm.evidence == "said by loss.causal"


@pytest.fixture
def matrix() -> Matrix:
    return Matrix(
        [
            row({"loss.value": FAIL, "loss.causal": FAIL}, "loss.value"),
            row({"loss.value": PASS, "loss.causal": UNSURE}, "loss.causal"),
            row({"loss.value": PASS, "loss.causal": FAIL}),
        ],
        seed=3,
        seconds=90.0,
    )


def test_what_is_written_tells_the_truth(matrix: Matrix) -> None:
    headline = (
        "1 of 2 faults caught by the check named for them, 1 false alarm on 1 odd but correct "
        "control"
    )
    assert markdown.headline(matrix) == headline
    assert matrix.unproven == ["loss.causal"]
    text = markdown.render(matrix)
    assert f"**{headline}.**" in text
    assert "No fault of this run proves `loss.causal`." in text
    assert r"| Some\|Fault | what is \*wrong\* | MISSED | said by loss.causal | none |" in text
    assert r"| caught | said by loss.value | loss.causal |" in text
    assert "| FALSE ALARM | loss.causal |" in text
    html = page.render(matrix, "2000-01-01T00:00:00+00:00")
    assert headline in html
    kinds = [[page.cell(r, name)["kind"] for name in matrix.checks] for r in matrix.rows]
    assert kinds == [["named", "also"], ["held", "missed"], ["held", "alarm"]]


def test_what_is_published_tells_no_folder_of_this_machine() -> None:
    said = f"raised at {cllm.__file__}:3 in f, called at {np.__file__}:5 in g"
    matrix = Matrix([row({"loss.value": FAIL}, "loss.value")], seed=0, seconds=1.0)
    matrix.rows[0] = replace(matrix.rows[0], verdicts={"loss.value": Verdict(FAIL, said)})
    [published] = of_any_machine(matrix).rows
    assert published.evidence == (
        "raised at cllm/__init__.py:3 in f, called at numpy/__init__.py:5 in g"
    )
    assert matrix.rows[0].evidence == said


def test_faults_are_selected_by_name_pattern_and_check() -> None:
    everything = [*FAULTS.values(), *CONTROLS.values()]
    assert select([], []) == everything
    assert select(["controls"], []) == list(CONTROLS.values())
    named = select(["loss.value"], [])
    assert named
    assert all(fault.caught_by[0] == "loss.value" for fault in named)
    assert select(["Loss*"], ["LossIsNaN"]) == [
        fault for fault in everything if fault.name.startswith("Loss") and fault.name != "LossIsNaN"
    ]
    with pytest.raises(CllmError, match="called 'Nothing'"):
        select([], ["Nothing"])


def test_checks_that_a_fault_cannot_reach_are_not_run() -> None:
    def checks(kind: Kind, candidate: object, *named: str, hangs: bool = False) -> list[str]:
        return checks_of(Fault("name", "story", kind, candidate, named, hangs))

    models = [name for name, check in CHECKS.items() if check.kind is Kind.MODEL]
    assert checks(Kind.MODEL, None) == models  # a control
    assert checks(Kind.MODEL, None, "loss.value", hangs=True) == ["loss.value"]
    on_a_fault = checks(Kind.MODEL, None, "honesty.replay")
    assert {name.partition(".")[0] for name in on_a_fault} == {*COMPUTED, "honesty"}
    assert checks(Kind.TRAINER, TrainerParts()) == []
    reached = checks(Kind.TRAINER, TrainerParts(learning_rate=lambda *_, **__: 0.1))
    assert "training.schedule" in reached
    assert "data.files" not in reached


def test_the_command_plants_and_writes(tmp_path: Path) -> None:
    arguments = ["--faults", "--only", "LossIsNaN", "--only", "FewNames", "--output", str(tmp_path)]
    result = CliRunner().invoke(command, arguments, standalone_mode=False)
    assert result.exception is None, result.exception
    assert result.return_value == 0
    assert result.stdout.splitlines()[0].split() == ["fault", "verdict", "evidence"]
    assert "1 of 1 faults caught by the check named for them, no false alarms on 1" in result.stdout
    document = json.loads((tmp_path / "detection.json").read_text())
    assert [row["verdict"] for row in document["rows"]] == ["caught", "no alarm"]
    assert document["machine"]["cpu"]
    assert (tmp_path / "detection.md").read_text().startswith("# What the harness catches")
    assert "LossIsNaN" in (tmp_path / "detection.html").read_text()


def test_a_check_that_applied_to_nothing_is_told_apart() -> None:
    idle = Matrix([row({"races.threads": Status.NOT_APPLICABLE})], seed=0, seconds=1.0)
    assert (idle.unproven, idle.idle) == ([], ["races.threads"])
    assert "could be checked (races: `tox -e sanitizers`): `races.threads`." in markdown.render(
        idle
    )
