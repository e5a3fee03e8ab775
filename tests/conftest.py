"""What tests share: the data that does not ship with the package, and what happens where it is not there."""

import os
from pathlib import Path

import pytest

import keras_course  # noqa: F401 - chooses the backend, before a test imports Keras


def pytest_addoption(parser):
    parser.addoption(
        "--require-data", action="store_true", help="fail, instead of skipping, where a test's data is not there"
    )


def pytest_collection_modifyitems(items):
    """Lessons first: of two processes the second takes its work from the end, and would run half of a lesson again."""
    items.sort(key=lambda item: item.path.name != "test_examples.py")


def _do_without(request, reason):
    """Ends a test whose data is missing: skipped, or failed with ``--require-data``."""
    end = pytest.fail if request.config.getoption("--require-data") else pytest.skip
    end(reason)


@pytest.fixture(scope="session")
def full_mnist(request):
    """All 60,000 + 10,000 digits, from the cache, from KERAS_COURSE_DATA or downloaded: the path for ``--data``."""
    from keras_course.datasets import mnist
    from keras_course.errors import CourseError

    try:
        return mnist.locate("full")
    except CourseError as error:
        return _do_without(request, str(error))


@pytest.fixture(scope="session")
def course_data(request):
    """The folder with the data sets that are prepared by hand, named by KERAS_COURSE_DATA."""
    folder = os.environ.get("KERAS_COURSE_DATA")
    if not folder or not Path(folder).is_dir():
        return _do_without(request, f"KERAS_COURSE_DATA is {folder!r}; let it name the folder of prepared data sets")
    return Path(folder)
