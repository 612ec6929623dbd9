"""What pytest does with `parametrize_with_checks`: a run of pytest in a folder of its own."""

from __future__ import annotations

import pytest

pytest_plugins = ["pytester"]

THREE_LINES = """
from cllm.harness import parametrize_with_checks

@parametrize_with_checks(["mine:LossOff"])
def test_conformance(candidate, check): check(candidate)
"""

MINE = """
from cllm.reference import Model

class LossOff(Model):
    def _loss(self, *arguments):
        return 1.001 * super()._loss(*arguments)
"""


@pytest.fixture
def project(pytester: pytest.Pytester) -> pytest.Pytester:
    """A folder with a model whose loss is off, and nothing but the three lines to test it."""
    pytester.makepyfile(mine=MINE, test_mine=THREE_LINES)
    pytester.makeini("[pytest]\naddopts = --strict-markers -p no:cacheprovider\npythonpath = .")
    return pytester


def run(project: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    return project.runpytest_subprocess(*arguments)


def test_three_lines_are_a_test_for_each_check(project: pytest.Pytester) -> None:
    result = run(project, "--cllm-only", "loss.value", "--cllm-only", "loss.causal", "-rf")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*loss: got *, expected *, error *, tolerance *"])
    result.stdout.fnmatch_lines(["cllm check mine:LossOff --only loss.value --seed 0"])
    result.stdout.fnmatch_lines(["FAILED test_mine.py::test_conformance?LossOff-loss.value*"])


def test_every_check_of_the_kind_is_collected(project: pytest.Pytester) -> None:
    from cllm.harness import CHECKS

    result = run(project, "--collect-only", "-q", "-m", "cllm")
    collected = [line for line in result.outlines if "::" in line]
    models = [name for name, check in CHECKS.items() if check.kind == "model"]
    assert collected == [f"test_mine.py::test_conformance[LossOff-{name}]" for name in models]


def test_settings_of_the_configuration_file(project: pytest.Pytester) -> None:
    project.makeini(
        "[pytest]\naddopts = --strict-markers -p no:cacheprovider\npythonpath = .\ncllm_seed = 4\n"
        "cllm_only = loss\ncllm_skip = loss.causal loss.learns loss.trajectory loss.rows\n"
        "cllm_expect_fail =\n  loss.value=the loss is off\n  loss.extremes=the same\n"
    )
    result = run(project, "-rx", "-k", "value")
    result.assert_outcomes(xfailed=1)
    result.stdout.fnmatch_lines(["*the loss is off*"])
    result = run(project, "--runxfail", "-k", "value")
    result.stdout.fnmatch_lines(["*--only loss.value --seed 4"])
    result = run(project, "--runxfail", "-k", "value", "--cllm-seed", "6")
    result.stdout.fnmatch_lines(["*--only loss.value --seed 6"])


def test_classes_pairs_and_expectations_of_the_decorator(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        test_mine="""
        import ctypes
        import pytest
        from cllm.harness import Pair, parametrize_with_checks
        from cllm.reference import Model

        class Crashes(Model):
            def _forward(self, *arguments):
                ctypes.string_at(0)

        class Evaluates(Model):
            parts = frozenset({"evaluation"})

        def double(out, x):
            out[...] = 2 * x

        def treble(out, x):
            out[...] = 3 * x

        def a_pair(candidate):
            return Pair(reference=double, candidate=candidate, writes={"out": "N"},
                        reads={"x": "N"}, cases=[{"N": 3}])

        class TestGroup:
            @parametrize_with_checks(
                [Crashes, Evaluates, [a_pair(double), a_pair(treble)]],
                only=["loss.value", "gradients.reference", "pair.values"],
                expect_fail={"gradients.reference": "it crashes"},
            )
            def test_conformance(self, candidate, check):
                check(candidate)
        """
    )
    result = run(pytester, "-rfsx", "-p", "no:cacheprovider")
    result.assert_outcomes(passed=2, failed=2, xfailed=1, skipped=1)
    result.stdout.fnmatch_lines(["crashed by SIGSEGV*test_mine.py:8 in _forward"])
    result.stdout.fnmatch_lines(["*Evaluates does not offer training*"])
    result.stdout.fnmatch_lines(["FAILED *?treble-pair.values*"])
    command = "cllm check 'test_mine.py:TestGroup.test_conformance.conformance.candidates?2??1?'*"
    result.stdout.fnmatch_lines([command])


def test_what_cannot_be_meant_is_an_error_at_collection(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        test_mine="""
        from cllm.harness import parametrize_with_checks

        @parametrize_with_checks(["no_such_module:Model"])
        def test_conformance(candidate, check): check(candidate)
        """
    )
    result = run(pytester, "-p", "no:cacheprovider")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*candidate 'no_such_module:Model' cannot be loaded*"])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--cllm-seed", "-3"], "--cllm-seed must be an integer of 0 or more: got '-3'"),
        (["-o", "cllm_seed=xx"], "cllm_seed must be an integer of 0 or more: got 'xx'"),
        (["--cllm-only", "nope"], "no check is called 'nope'"),
        (["-o", "cllm_expect_fail=x"], "an expected failure is NAME=REASON: got 'x'"),
    ],
)
def test_wrong_settings_are_said_without_a_stack(
    pytester: pytest.Pytester, options: list[str], said: str
) -> None:
    pytester.makepyfile(
        test_mine="""
        from cllm.harness import parametrize_with_checks

        @parametrize_with_checks("reference", only="loss.value")
        def test_conformance(candidate, check): check(candidate)
        """
    )
    result = run(pytester, "-p", "no:cacheprovider", *options)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([f"{said}*"])
    result.stdout.no_fnmatch_line("*Error*")


def test_other_tests_pay_nothing(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        test_other="""
        import sys

        def test_nothing_of_the_harness_is_imported():
            assert "cllm.harness.conformance.plugin" in sys.modules
            assert not {"cllm.harness.checks", "numpy"} & sys.modules.keys()
        """
    )
    run(pytester, "-p", "no:cacheprovider").assert_outcomes(passed=1)
