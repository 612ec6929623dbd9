"""What pytest loads: options, settings, the marker, and the tests of `parametrize_with_checks`.

Options and settings begin with `cllm`: `--cllm-seed`, `--cllm-only`, `--cllm-skip`, and in a
configuration file `cllm_seed`, `cllm_only`, `cllm_skip` and `cllm_expect_fail`. Every test that
is made carries the marker `cllm`.
Leaves out: what a test does (`cllm.harness.conformance.parametrize`), which is imported only where
there is one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from cllm.harness.conformance.parametrize import Conformance


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options and settings."""
    group = parser.getgroup("cllm", "conformance checks of cllm")
    group.addoption("--cllm-seed", metavar="N", help="decides the cases of the checks")
    group.addoption(
        "--cllm-only", action="append", metavar="NAME", help="run this check or family alone"
    )
    group.addoption(
        "--cllm-skip", action="append", metavar="NAME", help="leave this check or family out"
    )
    parser.addini("cllm_seed", "decides the cases of the checks", default="0")
    parser.addini("cllm_only", "checks or families to run, by default all", type="args")
    parser.addini("cllm_skip", "checks or families to leave out", type="args")
    parser.addini(
        "cllm_expect_fail", "checks that may fail, a line each: NAME=REASON", type="linelist"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker."""
    config.addinivalue_line("markers", "cllm: a conformance check of cllm")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test for each check that applies to each candidate."""
    given = getattr(metafunc.function, "conformance", None)
    if given is None:
        return
    from cllm.errors import CllmError
    from cllm.harness.conformance.parametrize import Conformance

    if isinstance(given, Conformance):
        try:
            metafunc.parametrize(("candidate", "check"), _parameters(metafunc, given))
        except CllmError as error:
            raise pytest.Collector.CollectError(str(error)) from None


def _parameters(metafunc: pytest.Metafunc, given: Conformance) -> list[Any]:
    """Raises `CllmError` for settings and names that cannot be meant."""
    from cllm.harness.checks import CHECKS
    from cllm.harness.conformance.outcome import parse_expectations
    from cllm.harness.conformance.parametrize import BoundCheck
    from cllm.harness.selection import select

    config = metafunc.config
    expected = parse_expectations(config.getini("cllm_expect_fail"), CHECKS) | given.expect_fail
    chosen = select(CHECKS, *(_names(config, name) for name in ("cllm_only", "cllm_skip")))
    seed = _seed("cllm_seed", config.getini("cllm_seed")) if given.seed is None else given.seed
    if (option := config.getoption("--cllm-seed")) is not None:
        seed = _seed("--cllm-seed", option)
    return [
        pytest.param(
            job.candidate,
            BoundCheck(job.check.name, given.reference, seed),
            id=f"{job.candidate.label}-{job.check.name}",
            marks=[pytest.mark.cllm, *_expectation(expected.get(job.check.name))],
        )
        for job in given.jobs(metafunc.function)
        if job.check.name in chosen
    ]


def _seed(name: str, text: str) -> int:
    from cllm.errors import CllmError

    if not text.isdecimal():
        raise CllmError(f"{name} must be an integer of 0 or more: got {text!r}")
    return int(text)


def _names(config: pytest.Config, setting: str) -> list[str]:
    """Of the command line, or else of the configuration file."""
    option = config.getoption(f"--{setting.replace('_', '-')}")
    return list(option or config.getini(setting))


def _expectation(reason: str | None) -> list[pytest.MarkDecorator]:
    return [] if reason is None else [pytest.mark.xfail(reason=reason, strict=True)]
