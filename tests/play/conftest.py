"""A real browser, Debian's chromium driven by playwright, on the page that `keras-course play` writes.

Where there is none, the tests that need it are skipped; KERAS_COURSE_REQUIRE_BROWSER=1 makes them fail instead.
"""

import os
import shutil

import pytest

from keras_course.play import write_page

_NAMES = ("chromium", "chromium-browser", "google-chrome")
_OPTIONS = ("--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--mute-audio")


@pytest.fixture(scope="session")
def page_file(tmp_path_factory):
    return write_page(tmp_path_factory.mktemp("play") / "play.html")


@pytest.fixture(scope="module")
def browser():
    """Chromium; it ends with each file of tests, as playwright keeps an event loop running meanwhile."""
    path = next(filter(None, map(shutil.which, _NAMES)), None)
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        sync_playwright = None
    if path is None or sync_playwright is None:
        end = pytest.fail if os.environ.get("KERAS_COURSE_REQUIRE_BROWSER") == "1" else pytest.skip
        end('needs a browser: apt-get install chromium; pip install -e ".[browser]"')
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=_OPTIONS)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser, page_file):
    """Opens the page from its file, offline; in the end nothing may have been fetched and nothing complained of."""
    contexts, complaints, requests = [], [], []

    def open_page(link="", **options):
        context = browser.new_context(offline=True, **{"viewport": {"width": 1280, "height": 800}} | options)
        context.set_default_timeout(20_000)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(page_file.as_uri() + link)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []
    assert {url.partition("#")[0] for url in requests if not url.startswith("data:")} <= {page_file.as_uri()}
