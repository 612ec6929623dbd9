"""The benchmark of the optimized model as tests.

    pytest --pyargs cllm.harness.bench.suite --benchmark-only -k "small and step"

Promises: what `cllm bench` measures, by pytest-benchmark. A suite for a model of one's own is as
short: `cllm.harness.bench.parametrize`.
"""

from __future__ import annotations

from typing import Any

from cllm.harness.bench.parametrize import Work, parametrize_with_benchmarks


@parametrize_with_benchmarks(["optimized"])
def test_speed(benchmark: Any, work: Work) -> None:
    """One configuration, kind of work and number of threads."""
    work(benchmark)
