"""Settings that nobody chose: drawn by hypothesis; and the smallest setting that fails.

Promises: the same seed draws the same settings, whatever else is imported, and nothing is written
to disk. A setting that fails is made smaller, size by size, until none can be.
Leaves out: the edges, which are always run beside them (`cllm.harness.cases.SETTINGS`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import hypothesis
from hypothesis import strategies as st

from cllm.config import Config
from cllm.harness.cases import Setting

LEAST_WIDTH = 4
"""D; below, a layer norm leaves nothing but rounding of some gradients."""

SIZES = (512, 2, 4, 16, 64, 4, 32)
"""The largest V, L, H, D/H, F, B and T: beyond 256 ids and both sides of a vector's width."""

TRIES = 60
"""Smaller settings that are tried; each costs less than the case that has failed."""

_SEARCHES: ContextVar[bool] = ContextVar("_SEARCHES", default=True)

OPTIONS = hypothesis.settings(
    database=None,
    deadline=None,
    phases=[hypothesis.Phase.generate],
    suppress_health_check=list(hypothesis.HealthCheck),
)


def draw_settings(seed: int, count: int) -> list[Setting]:
    """`count` distinct settings, of all sizes up to `SIZES`."""
    drawn: dict[Setting, None] = {}

    @hypothesis.seed(seed)
    @hypothesis.settings(OPTIONS, max_examples=3 * count + 1)
    @hypothesis.given(st.tuples(*map(_sizes_to, SIZES)))
    def collect(sizes: tuple[int, ...]) -> None:
        drawn[_setting(sizes)] = None

    collect()
    return list(drawn)[:count]


def _sizes_to(largest: int) -> st.SearchStrategy[int]:
    """Sizes 1..largest, a power of two.

    Of bits: among the values of `st.integers` hypothesis mixes constants of the modules that
    happen to be imported, and keeps them in a folder.
    """
    bits = (largest - 1).bit_length()
    return st.tuples(*[st.booleans()] * bits).map(
        lambda drawn: 1 + sum(bit << place for place, bit in enumerate(drawn))
    )


@contextmanager
def without_search() -> Iterator[None]:
    """A context in which nothing smaller is searched: that it fails is all that is asked."""
    token = _SEARCHES.set(False)
    try:
        yield
    finally:
        _SEARCHES.reset(token)


def smallest_failing(setting: Setting, fails: Callable[[Setting], bool]) -> Setting | None:
    """A setting for which `fails`, as it does for the one given, and no size of which can shrink.

    Each size is halved towards 1 (D in whole heads, and at least `LEAST_WIDTH`), V first, as long
    as that fails as well. Where `TRIES` do not suffice it is the smallest that was found; None in
    `without_search`.
    """
    if not _SEARCHES.get():
        return None
    config = setting.config
    sizes = [
        config.vocab_size, config.num_layers, config.num_heads, config.head_dim, config.ff_dim,
        setting.batch_size, setting.seq_len,
    ]  # fmt: skip
    known = {setting: True}

    def fails_with(tried: list[int]) -> bool:
        smaller = _setting(tried)
        if smaller not in known:
            known[smaller] = len(known) <= TRIES and fails(smaller)
        return known[smaller]

    if fails_with([1] * len(sizes)):
        return _setting([1] * len(sizes))
    before: list[int] = []
    while sizes != before:
        before = list(sizes)
        for i in range(len(sizes)):
            passing = 0
            while passing + 1 < sizes[i]:
                tried = sizes.copy()
                tried[i] = 1 if passing == 0 else (passing + sizes[i]) // 2
                if fails_with(tried):
                    sizes = tried
                else:
                    passing = tried[i]
    return _setting(sizes) if fails_with(sizes) else setting  # one narrower than any tried


def _setting(sizes: tuple[int, ...] | list[int]) -> Setting:
    """Of V, L, H, D/H, F, B and T; narrow heads are widened to `LEAST_WIDTH` in all."""
    vocab_size, num_layers, num_heads, head_dim, ff_dim, batch_size, seq_len = sizes
    embed_dim = num_heads * max(head_dim, -(-LEAST_WIDTH // num_heads))
    config = Config(vocab_size, embed_dim, num_layers, num_heads, ff_dim)
    return Setting(config, batch_size, seq_len)
