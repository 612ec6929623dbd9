"""Conformance checks as pytest's tests.

    from cllm.harness import parametrize_with_checks

    @parametrize_with_checks(["mypackage:MyModel"])
    def test_conformance(candidate, check): check(candidate)

Promises: a test for each check that applies to each candidate; a check runs in a process of its
own, so that a crash fails one test. What does not apply is skipped with the reason; what is
inconclusive fails.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from cllm.errors import CllmError
from cllm.harness.checks import CHECKS
from cllm.harness.conformance.candidate import Candidate, find, named
from cllm.harness.conformance.run import Job, plan, run
from cllm.harness.selection import select
from cllm.harness.verdict import Status

ATTRIBUTE = "conformance"
"""Of a test function: what it was decorated with."""

Test = TypeVar("Test", bound=Callable[..., Any])


@dataclass(frozen=True)
class Conformance:
    """What a test function was decorated with."""

    candidates: Sequence[Any]
    reference: str | None
    only: Sequence[str]
    skip: Sequence[str]
    expect_fail: dict[str, str]
    seed: int | None

    def jobs(self, test: Callable[..., Any]) -> list[Job]:
        """Every check of every candidate, as far as they apply; `test` is the function."""
        found = [
            candidate
            for i, given in enumerate(self.candidates)
            for candidate in _find(test, i, given)
        ]
        return plan(found, self.only, self.skip)


@dataclass(frozen=True)
class BoundCheck:
    """A check as a test calls it."""

    name: str
    reference: str | None
    seed: int

    def __call__(self, candidate: Candidate) -> None:
        """Run it; ends the test as failed or skipped unless it held."""
        import pytest

        [outcome] = run(
            [Job(candidate, CHECKS[self.name])], reference=self.reference, seed=self.seed
        )
        verdict = outcome.verdict
        if verdict.status is Status.NOT_APPLICABLE:
            pytest.skip(verdict.evidence)
        if verdict.status is not Status.PASS:
            word = "" if verdict.status is Status.FAIL else f"{verdict.status}: "
            pytest.fail(f"{word}{verdict.evidence}\n{outcome.command}", pytrace=False)

    def __str__(self) -> str:
        return self.name


def parametrize_with_checks(
    candidates: Any,
    *,
    reference: str | None = None,
    only: str | Iterable[str] = (),
    skip: str | Iterable[str] = (),
    expect_fail: Mapping[str, str] | None = None,
    seed: int | None = None,
) -> Callable[[Test], Test]:
    """Make a test function of `candidate` and `check` one test for each check that applies.

    A candidate is a subclass of `cllm.Model`, a `Pair`, a `TrainerParts`, a list of them, or a
    name as `cllm check` takes it; one is given, or a list. `only` and `skip` are checks or
    families, `expect_fail` reasons by check why it may fail. `seed` decides the cases, by default
    `--cllm-seed` or 0.

    Raises `CllmError` for names that no check has and for what is no candidate.
    """
    given = Conformance(
        list(candidates) if isinstance(candidates, list | tuple) else [candidates],
        reference,
        [only] if isinstance(only, str) else list(only),
        [skip] if isinstance(skip, str) else list(skip),
        dict(expect_fail or {}),
        seed,
    )
    select(CHECKS, given.only, given.skip)
    if unknown := sorted(set(given.expect_fail) - set(CHECKS)):
        raise CllmError(f"no check is called {unknown[0]!r}, which is expected to fail")

    def decorate(test: Test) -> Test:
        setattr(test, ATTRIBUTE, given)
        return test

    return decorate


def _find(test: Callable[..., Any], number: int, given: Any) -> list[Candidate]:
    """A candidate by name, or as it was given: found through the test function then."""
    if isinstance(given, str):
        return find(given)
    path = Path(test.__code__.co_filename)
    if path.is_relative_to(Path.cwd()):
        path = path.relative_to(Path.cwd())
    return named(f"{path}:{test.__qualname__}.{ATTRIBUTE}.candidates[{number}]", given)
