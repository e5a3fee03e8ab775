"""A real browser on the page that `keras-course play` writes."""

import pytest

from keras_course.play import write_page


@pytest.fixture(scope="session")
def page_file(tmp_path_factory):
    return write_page(tmp_path_factory.mktemp("play") / "play.html")


@pytest.fixture
def open_page(pages, page_file):
    """Opens the page from its file, offline; in the end nothing may have been fetched and nothing complained of."""
    complaints, requests = [], []

    def open_page(link="", **options):
        listeners = (
            ("console", lambda message: complaints.append(message.text)),
            ("pageerror", lambda error: complaints.append(str(error))),
            ("request", lambda request: requests.append(request.url)),
        )
        options = {"offline": True, "viewport": {"width": 1280, "height": 800}} | options
        page = pages.take(listeners=listeners, **options)
        page.goto(page_file.as_uri() + link)
        return page

    yield open_page
    assert complaints == []
    assert {url.partition("#")[0] for url in requests if not url.startswith("data:")} <= {page_file.as_uri()}
