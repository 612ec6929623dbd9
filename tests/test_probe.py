"""The probe of the machine: every loop runs at every level, and what cannot be is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cllm.harness import probe
from cllm.harness.probe.loops import chain, fma_rate, hand_over_seconds, read_rate, widest_level

MOMENT = 1e-4


def runs_here(level: str) -> bool:
    try:
        return bool(widest_level(level) == level)
    except ValueError:
        return False


LEVELS = [level for level in ("avx512", "avx2", "baseline") if runs_here(level)]


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_every_level_gives_rates(level: str, threads: int) -> None:
    assert 1e6 < fma_rate(level, threads, MOMENT) < 1e15
    assert 1e6 < read_rate(level, threads, MOMENT, np.ones(4096, np.float32)) < 1e15


def test_the_widest_level_is_the_first_that_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CLLM_ISA", raising=False)
    assert probe.level() == LEVELS[0]
    monkeypatch.setenv("CLLM_ISA", "baseline")
    assert probe.level() == "baseline"


def test_the_undisturbed_peak_is_that_of_the_fastest_moment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rates = iter([1.0, 3.0, 2.0] + [0.5] * 100)
    monkeypatch.setattr(probe, "fma_rate", lambda level, threads, seconds: next(rates))
    assert probe.undisturbed_peak(2) == 3.0


def test_an_unknown_level_is_refused() -> None:
    with pytest.raises(ValueError, match="'avx9' does not run here"):
        fma_rate("avx9", 1, MOMENT)


@pytest.mark.parametrize("threads", [0, 1025])
def test_threads_that_cannot_be_had_are_an_error(threads: int) -> None:
    with pytest.raises(OSError, match=f"{threads} threads cannot be had"):
        fma_rate("baseline", threads, MOMENT)


def test_too_few_floats_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 256 floats are needed: got 255"):
        read_rate("baseline", 2, MOMENT, np.ones(255, np.float32))


def test_a_core_that_is_not_there_is_an_error() -> None:
    with pytest.raises(OSError, match="cannot be tied to the cores 0 and 1023"):
        hand_over_seconds(0, 1023, 10)


def test_one_core_hands_nothing_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0})
    assert probe.hand_over() is None


def test_a_line_takes_time_from_core_to_core() -> None:
    found = probe.hand_over()
    assert found is None or 0.0 < found < 1.0


def test_caches_are_read_from_the_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    caches = [("Data", 1, "32K"), ("Instruction", 1, "64K"), ("Unified", 2, "1024K")]
    for i, (kind, level, size) in enumerate(caches):
        folder = tmp_path / f"index{i}"
        folder.mkdir()
        for name, text in (("type", kind), ("level", level), ("size", size)):
            (folder / name).write_text(f"{text}\n")
    monkeypatch.setattr(probe, "CACHES", tmp_path)
    assert probe.cache_bytes() == {1: 32 * 1024, 2: 1024 * 1024}
    assert [*probe.read_bandwidths(2)] == ["L2", "memory"]


def test_without_known_caches_the_memory_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe, "CACHES", tmp_path)
    monkeypatch.setattr(probe, "LARGEST_ARRAY", 1 << 16)
    assert [*probe.read_bandwidths(1)] == ["memory"]


def test_a_chain_is_as_long_as_it_is_asked_for() -> None:
    """Each link is x/2 + 1, from 1 on."""
    assert [chain(count) for count in range(4)] == [1.0, 1.5, 1.75, 1.875]
    assert chain(1000) == 2.0
