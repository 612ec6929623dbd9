"""The dashboard in a real browser, from the disk and from its server."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from chromium import Visit
from made import HOSTILE, MANY, sha
from playwright.sync_api import Page, expect

from cllm.harness.dashboard.thinning import thin

SERIES = 10 + MANY
VIEWS = ("benchmarks", "regressions", "series")
Visits = Callable[..., Visit]


def index(site: Path) -> dict[str, Any]:
    text = (site / "data" / "index.js").read_text()
    found: dict[str, Any] = json.loads(text.removeprefix("dashboard = ").rstrip(";\n"))
    return found


def identity(site: Path, benchmark: str) -> str:
    found: str = next(e["id"] for e in index(site)["series"] if e["benchmark"] == benchmark)
    return found


def state(site: Path, view: str) -> str:
    return {
        "benchmarks": "",
        "regressions": "#view=regressions",
        "series": f"#series={identity(site, 'import')}",
    }[view]


def loaded(page: Page, view: str) -> None:
    """Wait until everything of a view is there."""
    if view == "series":
        expect(page.locator("#chart canvas")).to_be_visible()
        expect(page.locator("#series details")).to_be_attached()
    else:
        expect(page.locator(f"#{view} li").first).to_be_visible()


def names(page: Page) -> set[str]:
    return {text.split("\n")[0] for text in page.locator(".card .name").all_inner_texts()}


def contrast(page: Page, text: str, ground: str) -> float:
    """Of two colors of the page by their names (WCAG 2.2, relative luminance)."""
    found: float = page.evaluate(
        """([text, ground]) => {
          const luminance = (name) => {
            const probe = document.body.appendChild(document.createElement("i"));
            probe.style.color = `var(--${name})`;
            const parts = getComputedStyle(probe).color.match(/\\d+/g).map((part) => part / 255);
            probe.remove();
            const linear = (c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
            const [red, green, blue] = parts.map(linear);
            return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
          };
          const [one, other] = [luminance(text), luminance(ground)].sort((a, b) => b - a);
          return (one + 0.05) / (other + 0.05);
        }""",
        [text, ground],
    )
    return found


@pytest.mark.parametrize("view", VIEWS)
def test_a_view_opens_without_network_or_complaint(visit: Visit, site: Path, view: str) -> None:
    loaded(visit.go(state(site, view)), view)
    title = {"series": "import · Speed over time"}.get(view, "Speed over time")
    assert visit.page.title() == title


def test_the_guard_sees_requests_and_complaints(visit: Visit) -> None:
    page = visit.go()
    page.evaluate("fetch('https://example.org/').catch(() => console.error('refused'))")
    page.wait_for_function("performance.getEntriesByType('resource').length > 0")
    expect(page.locator(".card").first).to_be_visible()
    page.evaluate("console.warn('seen')")
    assert "request of https://example.org/" in visit.problems
    assert "warning: seen" in visit.problems
    visit.problems.clear()


def test_a_card_says_what_became_of_its_series(visit: Visit) -> None:
    page = visit.go("#machine=&benchmark=small+step&threads=2")
    card = page.locator(".card").first
    expect(card).to_contain_text("small step")
    expect(card).to_contain_text("regressed")
    expect(card).to_contain_text("optimized · 2 threads")
    expect(card).to_contain_text("steps/s")
    expect(card).to_contain_text("−10.")
    expect(card).to_contain_text("worse since 2024-07")


def test_filters_choose_and_stay_in_the_address(visit: Visit) -> None:
    page = visit.go()
    loaded(page, "benchmarks")
    page.get_by_label("Benchmark", exact=True).select_option("small step")
    expect(page.locator(".card")).to_have_count(6)
    page.get_by_label("Threads").select_option("2")
    expect(page.locator(".card")).to_have_count(2)
    page.get_by_label("Machine").select_option(label="Notebook 5, 4 cores")
    expect(page.locator(".card")).to_have_count(1)
    expect(page.locator("#found")).to_have_text(f"1 of {SERIES}")
    page.reload()
    expect(page.locator(".card")).to_have_count(1)
    expect(page.get_by_label("Threads")).to_have_value("2")
    page.go_back()
    expect(page.locator(".card")).to_have_count(2)
    page.go_forward()
    expect(page.locator(".card")).to_have_count(1)
    page.get_by_role("link", name="Clear").click()
    expect(page.locator("#found")).to_have_text(f"{SERIES} of {SERIES}")
    expect(page.get_by_label("Threads")).to_have_value("")


def test_filters_by_candidate_and_status(visit: Visit) -> None:
    page = visit.go("#candidate=reference")
    expect(page.locator(".card")).to_have_count(2)
    page = visit.go("#status=improved")
    expect(page.locator(".card")).to_have_count(2)
    assert names(page) == {"import"}


def test_a_search_takes_all_its_words_anywhere(visit: Visit) -> None:
    page = visit.go()
    loaded(page, "benchmarks")
    search = page.get_by_label("Search")
    search.fill("NOTEBOOK step optimized")
    expect(page.locator(".card")).to_have_count(2)
    search.fill(sha(40)[:12])  # a commit that changed something
    assert "small step" in names(page)
    search.fill("nothing of this name")
    expect(page.get_by_text("No benchmark fits these filters.")).to_be_visible()
    page.reload()
    expect(search).to_have_value("nothing of this name")


def test_a_filter_of_an_old_link_is_said_to_be_unknown(visit: Visit) -> None:
    page = visit.go("#candidate=gone")
    expect(page.get_by_text("No benchmark fits these filters.")).to_be_visible()
    expect(page.get_by_label("Candidate")).to_contain_text("gone (not in this history)")


def test_more_cards_come_when_asked_for(visit: Visit) -> None:
    page = visit.go()
    expect(page.locator(".card")).to_have_count(60)
    page.get_by_role("button", name=f"Show more ({SERIES - 60} left)").press("Enter")
    expect(page.locator(".card")).to_have_count(SERIES)
    expect(page.locator(".card").nth(60)).to_be_focused()


def test_regressions_are_told_newest_first_with_their_commits(visit: Visit) -> None:
    page = visit.go("#view=regressions&candidate=optimized")
    items = page.locator("#regressions li")
    expect(items).to_have_count(6)
    dates = page.locator("#regressions time").all_inner_texts()
    assert dates == sorted(dates, reverse=True)
    mended = items.filter(has_text="import").first
    expect(mended).to_contain_text("✓ mended 2024-1")
    expect(mended).to_contain_text("ms → 30")
    standing = items.filter(has_text="small step").filter(has_text="Notebook").first
    expect(standing).to_contain_text("✗ stands")
    expect(standing).to_contain_text(f"after {sha(39)[:12]}")
    expect(standing).to_contain_text(f"by {sha(41)[:12]} Change 41")
    page.get_by_label("Status").select_option("regressed")
    expect(items).to_have_count(4)


def test_back_and_forward_between_views(visit: Visit, site: Path) -> None:
    page = visit.go("#threads=1")
    page.get_by_role("tab", name="Regressions").click()
    loaded(page, "regressions")
    page.locator("#regressions a.name", has_text="import").first.click()
    loaded(page, "series")
    address = page.url
    assert "threads=1" in address
    page.get_by_role("link", name="90 days").click()
    expect(page.get_by_role("link", name="90 days")).to_have_attribute("aria-current", "true")
    page.go_back()
    assert page.url == address
    page.go_back()
    loaded(page, "regressions")
    expect(page.get_by_label("Threads")).to_have_value("1")
    page.go_forward()
    loaded(page, "series")
    page.get_by_role("link", name="← Regressions").click()
    loaded(page, "regressions")
    expect(page.get_by_label("Threads")).to_have_value("1")


def test_a_link_to_a_series_and_range_opens_it(visit: Visit, site: Path) -> None:
    page = visit.go(f"#series={identity(site, 'import')}&range=90")
    loaded(page, "series")
    expect(page.get_by_role("heading", name="import")).to_be_visible()
    expect(page.get_by_role("link", name="90 days")).to_have_attribute("aria-current", "true")
    expect(page.locator("#filters")).to_be_hidden()
    times = page.evaluate("drawn.view.data('points').map(({ time }) => time)")
    assert times
    assert max(times) - min(times) <= 90 * 86_400_000


def test_a_series_shows_levels_and_changes(visit: Visit, site: Path) -> None:
    page = visit.go(state(site, "series"))
    loaded(page, "series")
    levels = page.evaluate("drawn.view.data('levels').map(({ level }) => Math.round(level / 10))")
    assert levels == [20, 30, 20]  # tens of milliseconds
    marks = page.evaluate("drawn.view.data('changes').map(({ mark }) => mark)")
    assert marks == ["1 ✗", "2 ✓"]
    items = page.locator("#series ol li")
    expect(items).to_have_count(2)
    expect(items.last).to_contain_text("✗ +50.")
    expect(items.last).to_contain_text("p < 0.001")
    expect(page.get_by_text("ms, lower is better")).to_be_visible()
    page.get_by_text("Latest results").click()
    expect(page.locator("#series tbody tr")).to_have_count(30)


def test_a_point_tells_its_details(visit: Visit, site: Path) -> None:
    page = visit.go(state(site, "series"))
    loaded(page, "series")
    box = page.locator("#chart canvas").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    tooltip = page.locator("#vg-tooltip-element.visible")
    lines = re.compile(r"^[23]\d\d(\.\d)? ms\n2024-\d\d-\d\d 00:00 UTC\n[0-9a-f]{12} Change")
    expect(tooltip).to_contain_text(lines)
    expect(tooltip).to_contain_text(HOSTILE.strip())
    assert page.evaluate("window.harmed") is None


def test_hostile_names_are_text(visit: Visit, site: Path) -> None:
    page = visit.go(f"#series={identity(site, HOSTILE)}")
    loaded(page, "series")
    assert page.locator("#series-title").text_content() == HOSTILE
    page.get_by_role("link", name="← Benchmarks").click()
    page.get_by_label("Candidate").select_option(HOSTILE)
    expect(page.locator(".card")).to_have_count(2)
    assert page.locator(".card .name").first.text_content() == f"{HOSTILE}✗ regressed"
    assert page.evaluate("window.harmed") is None
    assert page.locator("img").count() == 0


@pytest.mark.parametrize("name", ["nothing", "../index", "__proto__", "vega"])
def test_no_file_is_loaded_for_an_unknown_series(visit: Visit, name: str) -> None:
    requests: list[str] = []
    visit.page.on("request", lambda request: requests.append(request.url))
    page = visit.go(f"#series={name}")
    expect(page.get_by_role("heading", name="No such series")).to_be_visible()
    assert not [url for url in requests if name in url.partition("#")[0].partition("data/")[2]]
    assert not [url for url in requests if url.endswith("vega.js")]


def test_a_file_that_is_gone_is_named(visit: Visit, site: Path) -> None:
    id = identity(site, "many 03")
    visit.page.route(f"**/data/{id}.js", lambda route: route.abort())
    page = visit.go(f"#series={id}")
    expect(page.get_by_text(f"data/{id}.js cannot be read")).to_be_visible()
    assert [problem for problem in visit.problems if "ERR_FAILED" not in problem] == []
    visit.problems.clear()


def test_a_single_result_is_drawn(visit: Visit, site: Path) -> None:
    page = visit.go(f"#series={identity(site, 'many 03')}")
    loaded(page, "series")
    assert page.evaluate("drawn.view.data('points').length") == 1
    expect(page.locator("#series")).to_contain_text("too few results to tell")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colors_of_a_scheme_can_be_read(visits: Visits, site: Path, scheme: str) -> None:
    visit = visits(scheme=scheme)
    page = visit.go(state(site, "series"))
    loaded(page, "series")
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, ground[4:-1].split(","))) > 382) == (scheme == "light")
    for text in ("ink", "muted", "candidate", "pass", "fail"):
        for behind in ("paper", "card"):
            assert contrast(page, text, behind) >= 4.5, (text, behind)


def test_the_chart_follows_a_change_of_scheme(visit: Visit, site: Path) -> None:
    page = visit.go(state(site, "series"))
    loaded(page, "series")
    before = page.evaluate("document.querySelector('#chart canvas').toDataURL()")
    page.emulate_media(color_scheme="dark")
    page.wait_for_function(
        "(before) => document.querySelector('#chart canvas')?.toDataURL() !== before", arg=before
    )


@pytest.mark.parametrize("width", [390, 320])
@pytest.mark.parametrize("view", VIEWS)
def test_a_narrow_screen_needs_no_scrolling_aside(
    visits: Visits, site: Path, view: str, width: int
) -> None:
    visit = visits(width)
    for address in (state(site, view), f"#series={identity(site, HOSTILE)}"):
        page = visit.go(address)
        loaded(page, "series" if "series=" in address else view)
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def tab_to(page: Page, selector: str) -> None:
    """Press Tab until the focus is there."""
    for _ in range(30):
        page.keyboard.press("Tab")
        if page.evaluate("(selector) => document.activeElement.matches(selector)", selector):
            outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
            assert outline != "none", "the focus cannot be seen"
            return
    raise AssertionError(f"{selector} cannot be reached")


def test_the_keyboard_alone_opens_a_series_and_comes_back(visit: Visit) -> None:
    page = visit.go()
    loaded(page, "benchmarks")
    tab_to(page, ".card")
    card = page.evaluate("document.activeElement.dataset.id")
    page.keyboard.press("Enter")
    loaded(page, "series")
    expect(page.locator("#series-title")).to_be_focused()
    tab_to(page, ".ranges a:last-child")
    page.keyboard.press("Enter")
    expect(page.locator(".ranges a:last-child")).to_be_focused()
    page.go_back()
    page.go_back()
    expect(page.locator(f'.card[data-id="{card}"]')).to_be_focused()


def test_the_keyboard_alone_filters(visit: Visit) -> None:
    page = visit.go()
    loaded(page, "benchmarks")
    tab_to(page, "select[name=candidate]")
    page.keyboard.type("ref")
    expect(page.locator(".card")).to_have_count(2)
    tab_to(page, "input[name=q]")
    page.keyboard.type("notebook")
    expect(page.locator(".card")).to_have_count(1)
    assert "q=notebook" in page.url


def test_arrows_move_between_tabs(visit: Visit) -> None:
    page = visit.go()
    loaded(page, "benchmarks")
    tab_to(page, "[role=tab]")
    benchmarks, regressions = page.get_by_role("tab").all()
    expect(benchmarks).to_have_attribute("aria-selected", "true")
    for key, tab in (("ArrowRight", regressions), ("ArrowRight", benchmarks), ("End", regressions)):
        page.keyboard.press(key)
        expect(tab).to_be_focused()
        expect(tab).to_have_attribute("aria-selected", "true")
        expect(page.get_by_role("tabpanel", name=tab.inner_text())).to_be_visible()
        expect(page.locator("[role=tab][tabindex='0']")).to_have_count(1)


@pytest.mark.parametrize("view", VIEWS)
def test_every_graphic_has_a_text(visit: Visit, site: Path, view: str) -> None:
    page = visit.go(state(site, view))
    loaded(page, view)
    found = page.evaluate(
        """() => [...document.querySelectorAll("svg, canvas, img, [role=img]")]
          .filter((one) => one.checkVisibility() && !one.parentElement.closest("[role=img]"))
          .map((one) => one.getAttribute("role") === "img" && one.getAttribute("aria-label"))"""
    )
    assert all(found)
    assert bool(found) == (view != "regressions")
    if view == "series":
        assert "2024-07" in found[0]
        assert "worse" in found[0]


@pytest.mark.parametrize("view", VIEWS)
def test_a_status_is_a_word(visit: Visit, site: Path, view: str) -> None:
    page = visit.go(state(site, view))
    loaded(page, view)
    marked = page.locator(".status, b.worse, b.better, .changes b").all_inner_texts()
    assert marked
    words = (
        "regressed",
        "improved",
        "steady",
        "too few results",
        "worse",
        "better",
        "stands",
        "mended",
    )
    assert all(any(word in text for word in words) for text in marked)


def test_points_are_thinned_as_in_python(visit: Visit) -> None:
    page = visit.go()
    generator = random.Random(0)
    for count in (1, 7, 64, 65, 1000):
        values = [generator.choice([generator.random(), 0.5]) for _ in range(count)]
        assert page.evaluate("([v, n]) => thin(v, n)", [values, 32]) == thin(values, 32)
