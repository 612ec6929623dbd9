"""Drawn configurations, and the smallest that fails."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from cllm.config import Config
from cllm.harness.cases import SETTINGS, Setting
from cllm.harness.configurations import (
    SIZES,
    TRIES,
    draw_settings,
    smallest_failing,
    without_search,
)

REAL = SETTINGS[-1]
ODD = Setting(Config(30, 15, 3, 3, 9), 4, 9)


def test_the_same_seed_draws_the_same_settings() -> None:
    assert draw_settings(3, 8) == draw_settings(3, 8)
    assert draw_settings(3, 8) != draw_settings(4, 8)


@pytest.mark.parametrize("count", [1, 8, 20])
def test_settings_are_distinct_and_within_the_sizes(count: int) -> None:
    drawn = draw_settings(0, count)
    assert len(set(drawn)) == len(drawn) == count
    for setting in drawn:
        config = setting.config
        assert config.embed_dim >= 4
        for size, most in zip(
            (config.vocab_size, config.num_layers, config.num_heads, config.head_dim, config.ff_dim,
             setting.batch_size, setting.seq_len),
            SIZES,
            strict=True,
        ):  # fmt: skip
            assert 1 <= size <= most


def test_settings_vary() -> None:
    drawn = [setting for seed in range(5) for setting in draw_settings(seed, 8)]
    assert len({setting.seq_len for setting in drawn}) > 10
    assert {setting.config.embed_dim % 2 for setting in drawn} == {0, 1}
    assert any(setting.config.vocab_size > 256 for setting in drawn)
    assert any(setting.config.num_heads > 1 for setting in drawn)


def test_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    draw_settings(0, 20)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("start", "fails", "expected"),
    [
        (REAL, lambda s: True, "V 1 D 4 L 1 H 1 F 1 B 1 T 1"),
        (REAL, lambda s: s.config.vocab_size > 256, "V 257 D 4 L 1 H 1 F 1 B 1 T 1"),
        (REAL, lambda s: s.config.num_heads > 1, "V 1 D 4 L 1 H 2 F 1 B 1 T 1"),
        (REAL, lambda s: s.config.embed_dim == 64, "V 1 D 64 L 1 H 4 F 1 B 1 T 1"),
        (REAL, lambda s: s.seq_len % 8 == 0, "V 1 D 4 L 1 H 1 F 1 B 1 T 8"),
        (REAL, lambda s: s.batch_size > 1 < s.config.num_layers, "V 1 D 4 L 2 H 1 F 1 B 2 T 1"),
        (ODD, lambda s: s.config.embed_dim % 2, "V 1 D 5 L 1 H 1 F 1 B 1 T 1"),
        (ODD, lambda s: s == ODD, str(ODD)),
    ],
)
def test_the_smallest_that_fails(
    start: Setting, fails: Callable[[Setting], bool], expected: str
) -> None:
    tried: list[Setting] = []

    def once(setting: Setting) -> bool:
        tried.append(setting)
        return bool(fails(setting))

    assert str(smallest_failing(start, once)) == expected
    assert len(tried) == len(set(tried)) <= TRIES
    assert start not in tried


def test_a_start_narrower_than_any_other_is_kept_where_wider_ones_pass() -> None:
    narrow = Setting(Config(3, 2, 1, 1, 1), 1, 1)
    assert smallest_failing(narrow, lambda setting: setting == narrow) == narrow
    wider = smallest_failing(narrow, lambda setting: True)
    assert wider is not None
    assert wider.config.embed_dim == 4


def test_without_search_nothing_is_tried() -> None:
    with without_search():
        assert smallest_failing(REAL, lambda setting: pytest.fail("tried")) is None
    assert str(smallest_failing(REAL, lambda setting: True)) == "V 1 D 4 L 1 H 1 F 1 B 1 T 1"


def test_the_search_ends() -> None:
    large = Setting(Config(10**6, 10**6, 10**3, 10, 10**6), 10**6, 10**6)
    tried: list[Setting] = []

    def fails(setting: Setting) -> bool:
        tried.append(setting)
        return setting.seq_len % 7 == setting.batch_size % 5 == 0

    smallest_failing(large, fails)
    assert len(tried) <= TRIES
