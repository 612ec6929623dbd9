"""How long the pages of a dashboard take to open in a real browser.

    python tests/browser/opening.py [reports/dashboard]

Each page is opened from the disk in a browser without a cache; the time runs from the start of the
navigation until what is on the page has been painted.
"""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path

from chromium import launch
from playwright.sync_api import sync_playwright

TIMES = 5

WATCH = """
const watch = () => {
  if (!document.querySelector(SELECTOR)) requestAnimationFrame(watch);
  else requestAnimationFrame(() => setTimeout(() => { window.opened = performance.now(); }));
};
watch();
"""
"""A frame after the one in which it was found, it has been painted."""


def main(folder: Path) -> None:
    """Print a row for each page: its median and longest time in seconds."""
    index = (folder / "data" / "index.js").read_text().removeprefix("dashboard = ")
    series = json.loads(index.rstrip(";\n"))["series"]
    longest = max(series, key=lambda entry: (entry["count"], len(entry["changes"])))
    pages = {
        "benchmarks": ("", "#benchmarks .card"),
        "benchmarks, searched": ("#q=step+2+threads", "#benchmarks .card"),
        "regressions": ("#view=regressions", "#regressions li"),
        f"a series of {longest['count']:,}": (f"#series={longest['id']}", "#chart canvas"),
    }
    print("| page | median, s | longest, s |\n| --- | --- | --- |")
    with sync_playwright() as playwright:
        for name, (state, selector) in pages.items():
            times = []
            for _ in range(TIMES):
                browser = launch(playwright)
                page = browser.new_page()
                page.add_init_script(WATCH.replace("SELECTOR", json.dumps(selector)))
                page.goto((folder.resolve() / "index.html").as_uri() + state)
                opened = page.wait_for_function("window.opened")
                times.append(opened.json_value() / 1000)
                browser.close()
            print(f"| {name} | {statistics.median(times):.2f} | {max(times):.2f} |")


if __name__ == "__main__":
    main(Path(*sys.argv[1:] or ["reports/dashboard"]))
