"""Fixtures for pages in a real browser: Chromium, headless, driven by Playwright.

Tests that use them are skipped where there is no Playwright (`pip install -e ".[look]"`) or no
Chromium (Debian's, `apt install chromium`, or Playwright's own, `playwright install chromium`).
"""

import shutil

import pytest

sync_api = pytest.importorskip("playwright.sync_api", reason='needs pip install -e ".[look]"')
PHONE, DESK = dict(width=390, height=844), dict(width=1200, height=900)


@pytest.fixture(scope="module")
def chromium():
    """The browser."""
    with sync_api.sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(
                executable_path=shutil.which("chromium") or shutil.which("chromium-browser"),
                args=["--no-sandbox"],
            )
        except sync_api.Error as error:
            pytest.skip(f"no Chromium: {str(error).splitlines()[0]}")
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def quiet(chromium):
    """quiet(path, selector, viewport) → the file in the browser, once it shows the selector.

    At the end each page must have told nothing on the console and loaded nothing but files.
    """
    told, asked = [], []
    context = chromium.new_context(accept_downloads=True)

    def listen(shown):
        shown.on("console", lambda message: told.append(message.text))
        shown.on("pageerror", lambda error: told.append(str(error)))
        shown.on("request", lambda request: asked.append(request.url))

    context.on("page", listen)  # also those that a page opens

    def open_file(path, selector, viewport=DESK):
        shown = context.new_page()
        shown.set_viewport_size(viewport)
        shown.goto(path.as_uri())
        shown.wait_for_selector(selector)
        return shown

    yield open_file
    context.close()
    assert told == []
    assert asked
    assert all(url.startswith(("file:", "data:", "blob:")) for url in asked), asked
