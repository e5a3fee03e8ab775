"""Opens the page that `keras-course play` writes in a real browser."""

import pytest

from keras_course.play import write_page


@pytest.fixture(scope="session")
def page_file(tmp_path_factory):
    return write_page(tmp_path_factory.mktemp("play") / "play.html")


@pytest.fixture
def open_page(pages, page_file):
    """Opens the page offline; after the test, nothing may have been fetched or written to the console."""
    messages, requests = [], []

    def open_page(link="", **options):
        listeners = (
            ("console", lambda message: messages.append(message.text)),
            ("pageerror", lambda error: messages.append(str(error))),
            ("request", lambda request: requests.append(request.url)),
        )
        options = {"offline": True, "viewport": {"width": 1280, "height": 800}} | options
        page = pages.take(listeners=listeners, **options)
        page.goto(page_file.as_uri() + link)
        return page

    yield open_page
    assert messages == []
    assert {url.partition("#")[0] for url in requests if not url.startswith("data:")} <= {page_file.as_uri()}
