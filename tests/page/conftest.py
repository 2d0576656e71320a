"""The page in a browser: Debian's Chromium, driven by Playwright. Where there is none these tests are skipped and say so."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request, sync_playwright

from tests.end_to_end.platform import Platform, running

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = (
    "--no-sandbox",  # which root cannot have
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
LONGEST_MS = 10_000
FAILED_TO_LOAD = "Failed to load resource: "
"""The console says so of every answer above 399, and when a network interface comes or goes; the page shows what matters."""


@pytest.fixture(
    scope="module"
)  # not longer: Playwright's loop runs in this thread meanwhile, and tests with a loop of their own cannot
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("there is no chromium: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield browser
        browser.close()


@pytest.fixture(scope="package")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    if CHROMIUM is None:
        pytest.skip("there is no chromium: apt-get install chromium")
    with running(tmp_path_factory.mktemp("platform")) as platform:
        yield platform


class Tab:
    """A page in a browser with nothing of other tests in it, and what it did: addresses asked for, those that the login was
    sent to, and complaints."""

    def __init__(self, context: BrowserContext) -> None:
        context.set_default_timeout(LONGEST_MS)
        self.page: Page = context.new_page()
        self.asked: list[str] = []
        self.with_login: list[str] = []
        self.complaints: list[str] = []
        self.page.on("request", self._asked)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", self._said)

    def _asked(self, request: Request) -> None:
        self.asked.append(request.url)
        if "authorization" in request.headers:
            self.with_login.append(request.url)

    def _said(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not message.text.startswith(FAILED_TO_LOAD):
            self.complaints.append(message.text)


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    yield context
    context.close()


@pytest.fixture
def tab(context: BrowserContext) -> Tab:
    return Tab(context)


def link_of(platform: Platform) -> str:
    """Return an address that `faas dashboard` would open, without the time that the command takes to start."""
    token = platform.request("POST", "/api/v1/session?link=true").json()["token"]
    return f"{platform.url}/ui/#session={token}"


def login_of(data: Path) -> tuple[str, str]:
    """Return the user and the password that the platform made in its data folder."""
    user, password = ((data / f"basic-auth-{part}").read_text().strip() for part in ("user", "password"))
    return user, password
