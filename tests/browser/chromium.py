"""Debian's chromium, and a visit to a dashboard."""

from __future__ import annotations

from dataclasses import dataclass, field

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
