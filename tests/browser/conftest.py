"""A dashboard over a made-up history, and a browser that reaches nothing else."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from chromium import Visit, launch
from made import runs
from playwright.sync_api import Browser, BrowserContext, Playwright, Route, sync_playwright

from cllm.harness.dashboard.site import build
from cllm.harness.history.store import open_history


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dashboard")
    with open_history(folder / "history.db", create=True) as history:
        history.add_many(runs())
        build(history, folder / "site", lambda task, done, total: None)
    return folder / "site"


@pytest.fixture(scope="session")
def served(site: Path) -> Iterator[str]:
    command = [sys.executable, "-m", "cllm", "dashboard", "serve", str(site), "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        try:
            yield server.stderr.readline().split()[0]
        finally:
            server.terminate()


@pytest.fixture(scope="session", params=["file", "http"])
def address(request: pytest.FixtureRequest, site: Path) -> str:
    """The dashboard from the disk, and from its server."""
    if request.param == "file":
        return (site / "index.html").as_uri()
    found: str = request.getfixturevalue("served")
    return found


@pytest.fixture(scope="session")
def playwright() -> Iterator[Playwright]:
    with sync_playwright() as started:
        yield started


@pytest.fixture(scope="session")
def browser(playwright: Playwright) -> Iterator[Browser]:
    browser = launch(playwright)
    yield browser
    browser.close()


@pytest.fixture
def visits(browser: Browser, address: str) -> Iterator[Callable[..., Visit]]:
    """Opens a page; afterwards there must have been no request elsewhere and no complaint."""
    opened: list[tuple[BrowserContext, Visit]] = []

    def visit(width: int = 1200, scheme: str = "light") -> Visit:
        context = browser.new_context(
            viewport={"width": width, "height": 900},
            color_scheme="dark" if scheme == "dark" else "light",
        )
        context.set_default_timeout(10_000)  # milliseconds
        found = Visit(context.new_page(), address)

        def guard(route: Route) -> None:
            url = route.request.url
            if url.startswith(("file://", "http://127.0.0.1")):
                route.continue_()
            else:
                found.problems.append(f"request of {url}")
                route.abort()

        context.route("**/*", guard)
        found.page.on("console", lambda said: found.problems.append(f"{said.type}: {said.text}"))
        found.page.on("pageerror", lambda error: found.problems.append(str(error)))
        opened.append((context, found))
        return found

    yield visit
    for context, found in opened:
        context.close()
        assert found.problems == []


@pytest.fixture
def visit(visits: Callable[..., Visit]) -> Visit:
    return visits()
