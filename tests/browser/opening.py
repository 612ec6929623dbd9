"""How long the pages of a dashboard over a large history take to open in a real browser.

    python tests/browser/opening.py --output reports/dashboard-opening.md

Each page is opened from the disk in a browser without a cache; the time runs from the start of the
navigation until what is on the page has been painted.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import click
from chromium import launch
from playwright.sync_api import sync_playwright

from cllm.files import atomic_file
from cllm.harness.bench.figures import table
from cllm.harness.dashboard.site import build
from cllm.harness.display import Display
from cllm.harness.history.scale import fill
from cllm.harness.history.store import open_history
from cllm.harness.machine import fingerprint

TIMES = 5

WATCH = """
const watch = () => {
  if (!document.querySelector(SELECTOR)) requestAnimationFrame(watch);
  else requestAnimationFrame(() => setTimeout(() => { window.opened = performance.now(); }));
};
watch();
"""
"""A frame after the one in which it was found, it has been painted."""


@dataclass(frozen=True)
class Opened:
    """A page, and the seconds of each time."""

    name: str
    seconds: list[float]


def pages_of(folder: Path) -> dict[str, tuple[str, str]]:
    """By name the state in the address, and what is on the page when it is open."""
    index = (folder / "data" / "index.js").read_text().removeprefix("dashboard = ")
    series = json.loads(index.rstrip(";\n"))["series"]
    longest = max(series, key=lambda entry: (entry["count"], len(entry["changes"])))
    return {
        "benchmarks": ("", "#benchmarks .card"),
        "benchmarks, searched": ("#q=step+2+threads", "#benchmarks .card"),
        "regressions": ("#view=regressions", "#regressions li"),
        f"a series of {longest['count']:,}": (f"#series={longest['id']}", "#chart canvas"),
    }


def open_all(folder: Path, pages: Mapping[str, tuple[str, str]]) -> Iterator[Opened]:
    """Every page, `TIMES` times, each in a new browser."""
    with sync_playwright() as playwright:
        for name, (state, selector) in pages.items():
            seconds = []
            for _ in range(TIMES):
                browser = launch(playwright)
                page = browser.new_page()
                page.add_init_script(WATCH.replace("SELECTOR", json.dumps(selector)))
                page.goto((folder.resolve() / "index.html").as_uri() + state)
                seconds.append(page.wait_for_function("window.opened").json_value() / 1000)
                browser.close()
            yield Opened(name, seconds)


@click.command()
@click.option("--results", type=click.IntRange(1), default=1_000_000, show_default=True)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("reports/dashboard-opening.md"),
    show_default=True,
)
def main(results: int, seed: int, output: Path) -> None:
    """Make a history of so many results and its dashboard, open the pages, and write it down."""
    machine = fingerprint()
    with tempfile.TemporaryDirectory() as scratch, Display() as display:
        path, site = Path(scratch) / "history.db", Path(scratch) / "dashboard"
        fill(path, results, seed, lambda done: display.show("Adding", done, results))
        start = time.perf_counter()
        with open_history(path) as history:
            build(history, site, display.show)
        took = time.perf_counter() - start
        found, pages = [], pages_of(site)
        for opened in open_all(site, pages):
            found.append(opened)
            display.show("Opening", len(found), len(pages))
        size = sum(file.stat().st_size for file in site.rglob("*") if file.is_file())
    command = f"python tests/browser/opening.py --results {results} --seed {seed}"
    rows = [
        (each.name, f"{statistics.median(each.seconds):.2f}", f"{max(each.seconds):.2f}")
        for each in found
    ]
    parts = (
        "# A dashboard of years",
        f"The dashboard over {results:,} results of two years, made up; built in {took:.0f} s, "
        f"{size / 1e6:.0f} MB of files. Pages are opened from the disk in Debian's chromium, each "
        f"{TIMES} times in a new browser: seconds from the start of the navigation until the page "
        f"is painted, on {machine['cpu']}, {machine['usable_cores']} cores, load "
        f"{machine['load_average']} before the start. Repeat it: `{command}`.",
        table(("page", "median, s", "longest, s"), rows),
    )
    with atomic_file(output) as file:
        file.write(("\n\n".join(parts) + "\n").encode())
    click.echo(f"Report: {output}")


if __name__ == "__main__":
    main()
