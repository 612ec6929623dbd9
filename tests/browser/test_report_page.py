"""Reports in a real browser, from the disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from chromium import opened
from click.testing import CliRunner
from playwright.sync_api import Browser, Page

from cllm.harness.compare.comparison import Comparison, Entry, Interval, Outcome, Side
from cllm.harness.machine import fingerprint
from cllm.harness.publish.command import report

EVIL = "</script><script>document.title='hacked'</script><img src=x onerror=alert(1)>"

SIZES = {
    "vocab_size": 381, "embed_dim": 64, "num_layers": 2, "num_heads": 4, "ff_dim": 128,
    "batch_size": 4, "seq_len": 16,
}  # fmt: skip
PROBE = {"level": "avx2", "fma": {"2": 2e11}, "read": {"2": {"L2": 2e11, "memory": 4e10}}}

CHARTS = 3


def entry(name: str, outcome: Outcome, ratio: float) -> Entry:
    interval = Interval(ratio, 0.99 * ratio, 1.01 * ratio)
    return Entry(
        name, "small", "step", 2, "steps/s", outcome, EVIL, SIZES, ratio=interval, noise=interval,
        decision=interval, detectable=0.01, base=(2500.0, 2400.0), head=(2500.0 * ratio,),
        peaks=(2e11,), flops=30_000_000,
    )  # fmt: skip


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A report with every outcome, a side that failed, and forty more rows."""
    ratios = {"slower": 0.9, "faster": 1.3, "same": 1.0, "inconclusive": 0.99}
    entries = [entry(f"{word} step", Outcome(word), ratio) for word, ratio in ratios.items()]
    entries += [Entry(EVIL, "small", "step", 1, "steps/s", Outcome.INCONCLUSIVE, "crashed")]
    entries += [entry(f"row {i}", Outcome.SAME, 1.0 + i / 1e4) for i in range(40)]
    side = Side(EVIL, "revision", "1", {"sha": EVIL, "subject": EVIL, "dirty": True})
    comparison = Comparison(
        created="2026-11-20T12:00:00+00:00",
        base=side,
        head=side,
        entries=entries,
        machine=fingerprint(),
        level="avx2",
        probe=PROBE,
        settings={"minimum_effect": 0.02, EVIL: EVIL},
        seconds=9.0,
    )
    folder: Path = tmp_path_factory.mktemp("report")
    source = folder / "comparison.json"
    source.write_text(json.dumps(comparison.to_dict() | {"probe": PROBE}))
    CliRunner().invoke(report, [str(source), "--output", str(folder)], catch_exceptions=False)
    return (folder / "index.html").as_uri()


@pytest.fixture(params=[(1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")], ids=str)
def page(request: pytest.FixtureRequest, browser: Browser, address: str) -> Any:
    """The page when all is drawn; nothing was asked for elsewhere, nothing complained."""
    with opened(browser, address, *request.param) as found:
        found.wait_for_function(
            "count => document.querySelectorAll('.chart svg').length === count", arg=CHARTS
        )
        yield found


def test_nothing_reaches_beyond_the_page(page: Page) -> None:
    beyond = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert page.evaluate(beyond) == 0


def test_names_are_only_text(page: Page) -> None:
    assert page.title() != "hacked"
    assert page.locator("img").count() == 0


def test_every_chart_has_words_and_colors_of_the_page(page: Page) -> None:
    for chart in page.locator(".chart").all():
        assert len(chart.get_attribute("aria-label") or "") > 40
    ink = "getComputedStyle(document.body).color"
    marks = page.locator("#chart-ratios svg text").last
    assert marks.count() == 1
    assert page.evaluate(ink) in ("rgb(29, 31, 36)", "rgb(233, 231, 226)")
    painted = page.locator("#chart-ratios svg path").evaluate_all(
        "paths => paths.map(path => getComputedStyle(path).fill)"
    )
    slower = page.evaluate(
        "(() => { const place = document.body.appendChild(document.createElement('i'));"
        " place.style.color = 'var(--fail)'; return getComputedStyle(place).color; })()"
    )
    assert slower in painted


def test_the_charts_follow_the_scheme(page: Page) -> None:
    before = page.locator("#chart-rates svg").inner_html()
    scheme = page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
    page.emulate_media(color_scheme="light" if scheme else "dark")
    page.wait_for_function(
        "before => document.querySelector('#chart-rates svg')?.innerHTML !== before", arg=before
    )


def test_the_keyboard_reaches_what_scrolls_and_what_folds(page: Page) -> None:
    reached = []
    for _ in range(8):
        page.keyboard.press("Tab")
        at = "document.activeElement"
        reached.append(page.evaluate(f"{at}.tagName + {at}.className"))
    assert "DIVscroll" in reached
    assert "SUMMARY" in reached
    page.locator("summary").first.focus()
    page.keyboard.press("Enter")
    assert page.locator("details").first.get_attribute("open") is not None
