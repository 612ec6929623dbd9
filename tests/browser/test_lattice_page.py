"""The page of a model's lattice in a real browser, from the disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chromium import opened
from click.testing import CliRunner
from playwright.sync_api import Browser, Page, expect

from cllm import Config
from cllm.harness.lattice.command import lattice
from cllm.lattice.parts import Lattice
from cllm.layout import initialize
from cllm.text.batches import epoch_generator
from cllm.text.tokenizer import TokenizerSettings
from cllm.text.whitespace import WhitespaceTokenizer
from cllm.training.checkpoint import Checkpoint, Position
from cllm.training.settings import RunSettings, Settings

EVIL = "</script><script>document.title='hacked'</script><img/src=x/onerror=alert(1)>"
LONG = "a-very-long-word-" * 8
CHARTS = 4

SCREENS = [(1280, "light"), (1280, "dark"), (390, "light"), (320, "dark")]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Of a model of 300 tokens, some of them hostile."""
    folder: Path = tmp_path_factory.mktemp("lattice")
    words = [EVIL, LONG, "the", "and", *(f"word{i}" for i in range(292))]
    config = Config(300, 8, 2, 2, 4, lattice=Lattice(attention=True))
    parameters = initialize(config, np.random.default_rng(0)).astype(np.float32)
    Checkpoint(
        config=config,
        tokenizer=WhitespaceTokenizer(words, lowercase=False),
        tokenizer_settings=TokenizerSettings("whitespace", 300),
        settings=Settings(),
        run_settings=RunSettings(),
        corpus_key="",
        position=Position(1, 0, 0, dict(epoch_generator(0, 0).bit_generator.state)),
        parameters=parameters,
        moments=(0 * parameters, 0 * parameters),
        validation_loss=None,
        best_validation_loss=None,
        isa="numpy",
    ).save(folder / "a.cllm")
    arguments = ["show", str(folder / "a.cllm"), "--output", str(folder)]
    arguments += [word for text in ("the", "and", EVIL, LONG) for word in ("--token", text)]
    CliRunner().invoke(lattice, arguments, catch_exceptions=False)
    return (folder / "index.html").as_uri()


@pytest.fixture(params=SCREENS, ids=str)
def page(request: pytest.FixtureRequest, browser: Browser, address: str) -> Any:
    """The page when all is drawn; nothing was asked for elsewhere, nothing complained."""
    with opened(browser, address, *request.param) as found:
        found.wait_for_function(f"typeof drawn !== 'undefined' && drawn.length === {CHARTS}")
        yield found


def painted(page: Page) -> str:
    """The spiral's pixels, when what was changed has been drawn."""
    page.evaluate("drawn[0].view.runAsync().then(() => null)")
    found: str = page.evaluate("document.querySelector('#chart-spiral canvas').toDataURL()")
    return found


def test_nothing_reaches_beyond_the_page(page: Page) -> None:
    beyond = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert page.evaluate(beyond) == 0


def test_the_spiral_is_a_circle(page: Page) -> None:
    box = page.locator("#chart-spiral canvas").bounding_box()
    assert box is not None
    assert box["width"] > 250
    assert box["width"] == pytest.approx(box["height"], abs=2)


def test_tokens_are_only_text(page: Page) -> None:
    assert page.title() == "300 tokens on the lattice"
    assert page.locator("img").count() == 0
    assert EVIL in page.locator(".near code").all_inner_texts()


def test_every_chart_has_words(page: Page) -> None:
    assert page.locator(".chart").count() == CHARTS
    for chart in page.locator(".chart").all():
        assert len(chart.get_attribute("aria-label") or "") > 40


def test_the_colors_can_be_changed_and_the_legend_goes_with_them(page: Page) -> None:
    classes, structure = page.locator(".classes"), page.locator(".structure")
    expect(classes).to_be_visible()
    expect(structure).to_be_hidden()
    assert page.get_by_role("combobox", name="Colored by").count() == 1
    before = painted(page)
    page.locator("#coloring").select_option("prime structure")
    assert painted(page) != before
    expect(classes).to_be_hidden()
    expect(structure).to_contain_text("prime")
    page.locator("#coloring").select_option("symmetry class")
    assert painted(page) == before


def test_another_token_can_be_chosen_and_none(page: Page) -> None:
    pictures = [painted(page)]
    for choice in ("and", EVIL, "none"):
        page.locator("#chosen").select_option(choice)
        pictures.append(painted(page))
    assert len(set(pictures)) == len(pictures)


def test_the_charts_follow_the_scheme(page: Page) -> None:
    before = page.locator("#chart-prime svg").inner_html()
    dark = page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
    page.emulate_media(color_scheme="light" if dark else "dark")
    page.wait_for_function(
        "before => document.querySelector('#chart-prime svg')?.innerHTML !== before", arg=before
    )
    assert page.locator("#coloring option").count() == 2


def test_a_token_tells_its_numbers(page: Page) -> None:
    page.locator("#chosen").select_option("none")
    painted(page)
    canvas = page.locator("#chart-spiral canvas")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)  # id 0
    tooltip = page.locator("#vg-tooltip-element.visible")
    expect(tooltip).to_contain_text("<PAD>")
    expect(tooltip).to_contain_text("class")


def test_the_keyboard_reaches_the_controls(page: Page) -> None:
    reached = set()
    for _ in range(6):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.id || document.activeElement.tagName"))
    assert {"coloring", "chosen", "SUMMARY"} <= reached
