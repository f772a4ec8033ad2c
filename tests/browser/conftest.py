"""Debian's Chromium, without a window, on a network that the tests look at. A page that has an error fails its test."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, ConsoleMessage, Page, async_playwright, expect

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
DESK = {"width": 1280, "height": 900}
PHONE = {"width": 375, "height": 812}
PATIENCE = 20_000
"""Milliseconds that a page gets to show what it should."""
expect.set_options(timeout=PATIENCE)


@pytest.fixture(scope="session")
def chromium() -> Path:
    if not CHROMIUM.exists():
        pytest.fail(f"the page is tested in {CHROMIUM}, which is missing: as root, python tools/install.py browser", pytrace=False)
    return CHROMIUM


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser(chromium: Path) -> AsyncGenerator[Browser]:
    async with async_playwright() as playwright:
        # with an empty folder for the user's data, which is gone afterwards
        opened = await playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        yield opened
        await opened.close()


class Viewer:
    """Opens pages, each as a new visitor, and keeps what goes wrong on them."""

    def __init__(self, browser: Browser) -> None:
        self._browser, self.errors = browser, list[str]()

    @asynccontextmanager
    async def looking(self, url: str, **context) -> AsyncGenerator[Page]:
        opened = await self._browser.new_context(**{"viewport": DESK, "locale": "en-GB"} | context)
        opened.set_default_timeout(PATIENCE)
        try:
            page = await opened.new_page()
            page.on("pageerror", lambda error: self.errors.append(str(error)))
            page.on("console", self._heard)
            page.on("dialog", lambda dialog: self.errors.append(f"dialog: {dialog.message}"))
            await page.goto(url)
            yield page
        finally:
            await opened.close()

    def _heard(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self.errors.append(message.text)


@pytest_asyncio.fixture(loop_scope="module")
async def viewer(browser: Browser) -> AsyncGenerator[Viewer]:
    """A viewer whose pages must be without errors and warnings; what a test expects of them it takes out of ``errors``."""
    one = Viewer(browser)
    yield one
    assert one.errors == []


async def sideways(page: Page) -> int:
    """By how many pixels what is on the page is wider than the page."""
    return await page.evaluate(
        "Math.max(...[document.documentElement, ...document.querySelectorAll('dialog[open]')].map(e => e.scrollWidth)) - innerWidth"
    )
