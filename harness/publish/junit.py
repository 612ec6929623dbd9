"""A report as JUnit XML, which CI systems show: a case for each benchmark.

A benchmark that is slower, or that head fails, is a failure. One that is inconclusive is an error,
as in `cllm check`: a skipped case would look as if nothing had been wanted of it. Of a run, a model
that crashed or computed something else is a failure, and a peer that did is skipped: it is not
under test.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import junitparser

from cllm.harness.publish.words import change, interval, printable

Report = dict[str, Any]


def render(report: Report) -> bytes:
    """The document, UTF-8."""
    suite = junitparser.TestSuite(f"cllm {report['kind']}")
    if report["kind"] == "comparison":
        suite.name = printable(f"{report['head']['name']} against {report['base']['name']}")
    cases = {"comparison": _compared, "performance": _raced, "verification": _verified}[
        report["kind"]
    ]
    suite.add_testcases(list(cases(report)))
    document = junitparser.JUnitXml("cllm report")
    document.add_testsuite(suite)
    document.update_statistics()  # type: ignore[no-untyped-call]
    written = io.BytesIO()
    document.write(written)
    return written.getvalue()


def _compared(report: Report) -> Iterator[junitparser.TestCase]:
    for row in report["benchmarks"]:
        said = printable(row["reason"])
        if row["ratio"]:
            figures = f"{change(row['ratio']['ratio'])}, 95% interval {interval(row['ratio'])}"
            said = f"{figures}: {said}"
        case = _case(row["title"], row["configuration"], row["seconds"], said)
        if row["outcome"] in ("slower", "failed"):
            case.result = [junitparser.Failure(said, row["outcome"])]
        elif row["outcome"] == "inconclusive":
            case.result = [junitparser.Error(said, "inconclusive")]
        yield case


def _raced(report: Report) -> Iterator[junitparser.TestCase]:
    for row in report["benchmarks"]:
        if row["status"] == "tried":
            continue
        said = f"{row['rate']:.6g} {row['unit']}" if row["rate"] else printable(row["reason"])
        case = _case(row["title"], row["benchmark"], None, said)
        if row["status"] != "raced":
            is_own = row["library"] in report["models"]
            kind = junitparser.Failure if is_own else junitparser.Skipped
            case.result = [kind(said, row["status"])]
        yield case


def _verified(report: Report) -> Iterator[junitparser.TestCase]:
    for row in report["verdicts"]:
        said = printable(row["evidence"])
        case = _case(row["check"], report["settings"]["candidate"], None, said)
        if row["status"] == "fail":
            case.result = [junitparser.Failure(said, "fail")]
        elif row["status"] == "inconclusive":
            case.result = [junitparser.Error(said, "inconclusive")]
        elif row["status"] == "not applicable":
            case.result = [junitparser.Skipped(said)]
        yield case


def _case(name: str, group: str, seconds: float | None, said: str) -> junitparser.TestCase:
    case = junitparser.TestCase(printable(name), printable(group), seconds)
    case.system_out = said
    return case
