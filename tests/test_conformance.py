"""Candidates by name, expectations, and `cllm check` from the command line."""

from __future__ import annotations

import json
import re
from pathlib import Path
from xml.etree import ElementTree

import click
import pytest
from click.testing import CliRunner, Result

from cllm.errors import CllmError
from cllm.harness import Status, Verdict
from cllm.harness.checks import CHECKS
from cllm.harness.checks.check import Kind
from cllm.harness.conformance.candidate import find, find_one
from cllm.harness.conformance.command import check as command
from cllm.harness.conformance.outcome import Outcome, parse_expectations, status_of
from cllm.harness.conformance.output import columns, write_junit
from cllm.harness.conformance.run import plan, run
from cllm.harness.pairs.table import PAIRS
from cllm.reference import Model as Reference

MINE = """
import ctypes
from cllm.harness import Pair, TrainerParts
from cllm.reference import Model

class LossOff(Model):
    def _loss(self, *arguments):
        return 1.001 * super()._loss(*arguments)

class Crashes(Model):
    def _backward(self, *arguments):
        ctypes.string_at(0)

def double(out, x):
    out[...] = 2 * x

def a_pair(name):
    return Pair(name=name, reference=double, candidate=double, writes={"out": "N"},
                reads={"x": "N"}, cases=[{"N": 3}])

PAIR = a_pair("one")
MANY = [PAIR, a_pair("two")]
NESTED = [PAIR, [LossOff]]
parts = TrainerParts()
_hidden = PAIR
numbers = [3]
number = 3
"""


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A file with candidates, in the current folder."""
    (tmp_path / "mine.py").write_text(MINE)
    monkeypatch.chdir(tmp_path)
    return "mine.py"


# -- names ------------------------------------------------------------------------------------


def test_names_of_our_own() -> None:
    assert find_one("reference").value is Reference
    assert find_one("optimized").kind is Kind.MODEL
    assert find_one("trainer").kind is Kind.TRAINER
    operations = find("operations")
    assert [candidate.value for candidate in operations] == list(PAIRS)
    assert find_one("operations[3]").value is PAIRS[3]
    assert operations[3].name == "operations[3]"
    assert operations[3].label == PAIRS[3].name


def test_a_file_alone_means_all_that_it_defines(mine: str) -> None:
    names = [candidate.name for candidate in find(mine)]
    assert names == [
        "mine.py:LossOff", "mine.py:Crashes", "mine.py:PAIR", "mine.py:MANY[1]", "mine.py:parts",
    ]  # fmt: skip
    assert [candidate.name for candidate in find("mine.py:NESTED")] == [
        "mine.py:NESTED[0]", "mine.py:NESTED[1][0]",
    ]  # fmt: skip
    for candidate in find(mine):
        assert find_one(candidate.name).value is candidate.value


def test_a_file_is_run_once(mine: str, tmp_path: Path) -> None:
    one, other = find_one("mine.py:LossOff"), find_one(str(tmp_path / "mine.py") + ":LossOff")
    assert one.value is other.value


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("nothing", "cannot be loaded: No module named 'nothing'; there are "),
        ("mine.py:Nothing", "cannot be loaded: .*has no attribute 'Nothing'"),
        ("mine.py:number", "is no model, pair or trainer's parts: 3"),
        ("mine.py:MANY[7]", "cannot be loaded: IndexError"),
        ("mine.py:MANY", r"means 2 candidates: mine.py:MANY\[0\], mine.py:MANY\[1\]"),
        ("nowhere.py:Model", "cannot be loaded: .*No such file or directory: '.*nowhere.py'"),
        ("mine.py:", "is no module:attribute or path/to/file.py:attribute"),
        ("a:b:c", "is no module:attribute"),
        ("cllm:Model", "is abstract: it does not define _buffers, _forward, _loss"),
        ("cllm.errors", "names no candidate: no model, pair or trainer's parts are defined there"),
    ],
)
def test_other_names_are_refused(name: str, why: str, mine: str) -> None:
    with pytest.raises(CllmError, match=f"candidate '{re.escape(name)}' {why}"):
        find_one(name)


# -- outcomes ----------------------------------------------------------------------------------


def outcome(status: Status, expected: str | None = None) -> Outcome:
    verdict = Verdict(status, "why", check="loss.value")
    return Outcome("mine:Model", "Model", verdict, 7, None, expected)


def test_exit_status() -> None:
    good, bad = outcome(Status.PASS), outcome(Status.FAIL)
    unsure, other = outcome(Status.INCONCLUSIVE), outcome(Status.NOT_APPLICABLE)
    known, surprise = outcome(Status.FAIL, "known"), outcome(Status.PASS, "known")
    assert status_of([good, other, known]) == status_of([known]) == 0
    assert status_of([good, bad]) == status_of([good, surprise]) == status_of([unsure, bad]) == 1
    assert status_of([good, unsure]) == status_of([known, unsure]) == status_of([other]) == 3
    assert status_of([]) == 3
    assert known.status == "expected failure"
    assert surprise.status == "unexpected pass"
    assert known.evidence == "why (expected to fail: known)"
    assert bad.command == "cllm check mine:Model --only loss.value --seed 7"


def test_expectations() -> None:
    assert parse_expectations(["a.b=slow = so"], ["a.b"]) == {"a.b": "slow = so"}
    refused = {"a.b": "NAME=REASON: got 'a.b'", "a.b= ": "NAME=REASON", "c=d": "called 'c'"}
    for bad, why in refused.items():
        with pytest.raises(CllmError, match=why):
            parse_expectations([bad], ["a.b"])


def test_junit(tmp_path: Path) -> None:
    statuses = (Status.PASS, Status.FAIL, Status.INCONCLUSIVE, Status.NOT_APPLICABLE)
    outcomes = [outcome(status) for status in statuses] + [outcome(Status.FAIL, "known")]
    weird = Verdict(Status.FAIL, "NUL \0 and <tags> & more", check="loss.causal")
    write_junit([*outcomes, Outcome("b", "b", weird, 0)], tmp_path / "junit.xml")
    root = ElementTree.parse(tmp_path / "junit.xml").getroot()
    found = [
        [child.tag for child in case if child.tag != "system-out"] for case in root.iter("testcase")
    ]
    assert found == [[], ["failure"], ["error"], ["skipped"], ["skipped"], ["failure"]]
    assert {name: root.get(name) for name in ("tests", "failures", "errors", "skipped")} == {
        "tests": "6", "failures": "2", "errors": "1", "skipped": "2",
    }  # fmt: skip
    assert [suite.get("name") for suite in root] == ["mine:Model", "b"]


def test_of_many_candidates_only_what_did_not_hold_is_told() -> None:
    outcomes = [
        Outcome(f"a[{i}]", f"op{i}", Verdict(status, "why", check=check), 0)
        for i in range(4)
        for check, status in (
            ("b.c", Status.PASS),
            ("b.d", Status.FAIL if i == 2 else Status.PASS),
        )
    ]
    assert columns(outcomes).splitlines() == [
        "a[0] (op0): 2 pass",
        "a[1] (op1): 2 pass",
        "a[2] (op2): 1 pass, 1 fail",
        "a[3] (op3): 2 pass",
        "",
        "a[2] (op2)",
        "check  verdict  evidence",
        "b.d    fail     why",
        "",
        "To repeat:",
        "  cllm check 'a[2]' --only b.d --seed 0",
    ]


# -- running -----------------------------------------------------------------------------------


def test_only_checks_of_its_kind_are_planned(mine: str) -> None:
    kinds = {job.candidate.kind: job.check.kind for job in plan(find(mine))}
    assert kinds == {kind: kind for kind in Kind}
    names = [job.check.name for job in plan([find_one("reference")], ["loss"], ["loss.learns"])]
    assert names == [n for n in CHECKS if n.startswith("loss.") and n != "loss.learns"]
    with pytest.raises(CllmError, match="no check is called 'speedy'"):
        plan([], ["speedy"])


def test_a_crash_is_one_outcome_among_others(mine: str) -> None:
    jobs = plan([find_one("mine.py:Crashes")], ["loss.value", "gradients.reference"])
    seen: list[Outcome] = []
    outcomes = run(jobs, seed=3, processes=2, report=seen.append)
    assert sorted(map(id, seen)) == sorted(map(id, outcomes))
    assert [o.verdict.check for o in outcomes] == ["loss.value", "gradients.reference"]
    assert [o.verdict.status for o in outcomes] == [Status.PASS, Status.FAIL]
    assert "crashed by SIGSEGV, called at " in outcomes[1].evidence
    assert "mine.py:12 in _backward" in outcomes[1].evidence
    assert all(o.seconds > 0 for o in outcomes)


def test_references(mine: str) -> None:
    model = plan([find_one("reference")], ["loss.value"])
    [outcome] = run(model, reference="mine.py:LossOff")
    assert outcome.verdict.status is Status.FAIL
    assert outcome.command.endswith("--reference mine.py:LossOff --seed 0")
    with pytest.raises(CllmError, match="a model is held against a model: 'trainer' is a trainer"):
        run(model, reference="trainer")
    pair = plan([find_one("mine.py:PAIR")])
    with pytest.raises(CllmError, match="the reference of a pair is a function"):
        run(pair, reference="mine.py:number")


# -- the command -------------------------------------------------------------------------------


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(command, arguments, standalone_mode=False)


def test_command_says_what_failed_and_how_to_repeat_it(mine: str, tmp_path: Path) -> None:
    names = ["--only", "loss.value", "--only", "loss.causal", "--seed", "5"]
    result = invoke("mine.py:LossOff", *names, "--junit", str(tmp_path / "junit.xml"))
    assert result.exception is None, result.exception
    assert result.return_value == 1
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["check", "verdict", "evidence"]
    assert lines[1].startswith("loss.value   fail     loss: got ")
    assert lines[2].startswith("loss.causal  pass     ")
    assert lines[-1] == "  cllm check mine.py:LossOff --only loss.value --seed 5"
    assert "checking: done after " in result.stderr
    assert "<failure" in (tmp_path / "junit.xml").read_text()


def test_command_expects_failures(mine: str) -> None:
    known = ["mine.py:LossOff", "--only", "loss.value", "--expect-fail"]
    result = invoke(*known, "loss.value=rounds twice")
    assert result.return_value == 0
    assert "expected failure" in result.stdout
    assert "(expected to fail: rounds twice)" in result.stdout
    known[0] = "reference"
    result = invoke(*known, "loss.value=was wrong")
    assert result.return_value == 1
    assert "unexpected pass" in result.stdout


def test_command_prints_json(mine: str) -> None:
    result = invoke("mine.py:LossOff", "reference", "--only", "loss.value", "--json")
    document = json.loads(result.stdout)
    assert document["status"] == "fail"
    assert [(o["candidate"], o["status"]) for o in document["outcomes"]] == [
        ("mine.py:LossOff", "fail"), ("reference", "pass"),
    ]  # fmt: skip
    assert document["outcomes"][0]["details"]["tensors"]


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        (["--only", "x"], CllmError, "no check is called 'x'"),
        (["reference", "--only", "pair"], CllmError, "no check is left to run"),
        (["--expect-fail", "x"], CllmError, "NAME=REASON"),
        (["--junit", "no/where.xml"], CllmError, "there is no folder no"),
        (["--output", "x"], click.UsageError, "--output goes with --faults"),
        (["reference", "--faults"], click.UsageError, "--faults takes no candidates"),
        (["--faults", "--only", "NoFault"], CllmError, "no fault or control is called 'NoFault'"),
    ],
)
def test_command_refuses(arguments: list[str], error: type, said: str, mine: str) -> None:
    result = invoke(*arguments)
    assert isinstance(result.exception, error)
    assert said in str(getattr(result.exception, "message", result.exception))
    assert not Path("x").exists()


def test_help_says_what_each_check_shows() -> None:
    text = "".join(CliRunner().invoke(command, ["--help"]).stdout.split())
    for name, known in CHECKS.items():
        assert name + known.summary.replace(" ", "") in text


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("import os; os._exit(0)", "cannot be imported: crashed with exit status 0"),
        ("import ctypes; ctypes.string_at(0)", "cannot be imported: crashed by SIGSEGV"),
        ("raise SystemExit(0)", "cannot be loaded: SystemExit: 0"),
        ("number = 1", "no model, pair or trainer's parts are defined there"),
    ],
)
def test_what_an_import_does_is_done_elsewhere(
    source: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "hostile.py").write_text(source)
    monkeypatch.chdir(tmp_path)
    for arguments in (["hostile.py"], ["optimized", "--reference", "hostile.py"]):
        result = invoke(*arguments)
        assert isinstance(result.exception, CllmError)
        assert said in str(result.exception)


def test_what_is_printed_does_not_reach_the_document(mine: str) -> None:
    Path("prints.py").write_text(
        "from cllm.reference import Model\n"
        "print('imported')\n"
        "class Prints(Model):\n"
        "    def _update(self, update):\n"
        "        print('updated')\n"
        "        super()._update(update)\n"
    )
    result = invoke("prints.py", "--only", "training.update", "--json")
    assert json.loads(result.stdout)["status"] == "pass"
