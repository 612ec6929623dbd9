"""Debian's chromium, and a visit to a dashboard."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from playwright.sync_api import Browser, Page, Playwright

CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def launch(playwright: Playwright) -> Browser:
    """Without a window, and without what it would do of its own."""
    return playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)


@contextmanager
def opened(browser: Browser, address: str, width: int, scheme: str) -> Iterator[Page]:
    """A page of a file: nothing was asked for elsewhere, and nothing complained."""
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    found, problems = context.new_page(), []
    found.on("console", lambda said: problems.append(f"{said.type}: {said.text}"))
    found.on("pageerror", lambda error: problems.append(str(error)))
    found.on("dialog", lambda dialog: problems.append(dialog.message))

    def guard(route: Any) -> None:
        if not route.request.url.startswith(("file://", "data:")):
            problems.append(f"request of {route.request.url}")
        route.continue_()

    context.route("**/*", guard)
    found.goto(address)
    yield found
    context.close()
    assert problems == [], problems


@dataclass
class Visit:
    """A page, and what went wrong on it."""

    page: Page
    address: str
    problems: list[str] = field(default_factory=list)

    def go(self, state: str = "") -> Page:
        """To a state of the dashboard, on a page of its own."""
        self.page.goto("about:blank")
        self.page.goto(self.address + state)
        return self.page
