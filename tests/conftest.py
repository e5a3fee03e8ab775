"""What tests share: the data that does not ship with the package, and what happens where it is not there."""

import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

import keras_course  # noqa: F401 - chooses the backend, before a test imports Keras

ROOT = Path(__file__).parents[1]
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
BROWSER_OPTIONS = (
    *("--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--mute-audio"),
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
)

# What these test needs no backend. tox runs them once, where there is none, and not again where there is one.
WITHOUT_BACKEND = (
    "pretrained/test_tensor_files.py",
    "assessment/test_grades.py",
    "datasets",
    "deployment/test_answers.py",
    "deployment/test_decoders.py",
    "deployment/test_micro_batches.py",
    "deployment/test_occlusion.py",
    "deployment/test_texts.py",
    "play/test_write_page.py",
    "plots",
    "preprocessing",
    "randomness/test_generator.py",
    "test_arguments.py",
    "strangers/test_downloads.py",
    "test_cards.py",
    "test_errors.py",
    "test_evaluation.py",
    "test_files.py",
    "test_foreign_text.py",
    "test_limits.py",
    "test_plots.py",
    "test_report.py",
    "test_rooms.py",
)
# The same holds here for all tests but those that are marked `needs_backend`.
MOSTLY_WITHOUT_BACKEND = ("test_cli.py", "test_readme.py", "test_select.py")


def pytest_addoption(parser):
    parser.addoption(
        "--require-data", action="store_true", help="fail, instead of skipping, where a test's data is not there"
    )
    parser.addoption(
        "--without-backend",
        choices=("too", "only", "not"),
        default="too",
        help="whether to run the tests of what needs no backend",
    )


def _is_in(places, path):
    return any(path.is_relative_to(Path(__file__).parent / place) for place in places)


def pytest_ignore_collect(collection_path, config):
    """Chooses among files and folders; None leaves one to the others who may have a say."""
    needs_none = _is_in(WITHOUT_BACKEND, collection_path)
    places = [Path(__file__).parent / place for place in WITHOUT_BACKEND + MOSTLY_WITHOUT_BACKEND]
    of_interest = any(place.is_relative_to(collection_path) for place in places) or needs_none
    wanted = config.getoption("--without-backend")
    ignored = {"too": False, "not": needs_none, "only": not of_interest}[wanted]
    return True if ignored else None


def pytest_configure():
    """Gives each of several test processes cores of its own: one that shares them waits for threads that wait, too."""
    names = WITHOUT_BACKEND + MOSTLY_WITHOUT_BACKEND
    if missing := [name for name in names if not (Path(__file__).parent / name).exists()]:
        raise pytest.UsageError(f"WITHOUT_BACKEND names {', '.join(missing)}, which tests/ does not have")
    count, name = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 1)), os.environ.get("PYTEST_XDIST_WORKER", "gw0")
    if count > 1 and hasattr(os, "sched_setaffinity"):
        cores, number = sorted(os.sched_getaffinity(0)), int(name.removeprefix("gw"))
        os.sched_setaffinity(0, cores[number % len(cores) :: count])


def pytest_collection_modifyitems(items, config):
    """Chooses among tests. What takes minutes goes first; of two processes the second would run half a lesson again."""
    wanted = config.getoption("--without-backend")

    def is_wanted(item):
        needs_backend = item.get_closest_marker("needs_backend") is not None
        if wanted == "only":
            return not needs_backend
        return wanted == "too" or needs_backend or not _is_in(MOSTLY_WITHOUT_BACKEND, item.path)

    config.hook.pytest_deselected(items=[item for item in items if not is_wanted(item)])
    items[:] = filter(is_wanted, items)
    items.sort(key=lambda item: item.path.name not in ("test_examples.py", "test_record.py"))


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


@pytest.fixture(scope="session")
def record_accuracies():
    """A function that keeps the accuracies of some seeds, which tests/parity/test_accuracies.py then compares."""

    def record(name, accuracies):
        if folder := os.environ.get("KERAS_COURSE_ACCURACIES"):
            import keras

            Path(folder).mkdir(parents=True, exist_ok=True)
            file = Path(folder) / f"{keras.backend.backend()}.json"
            recorded = json.loads(file.read_text()) if file.exists() else {}
            file.write_text(json.dumps({**recorded, name: accuracies}))

    return record


class Server:
    """`keras-course serve` in a process of its own, on a free port of this machine."""

    def __init__(self, model, *options):
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "keras_course", "serve", str(model), "--port", "0", *map(str, options)]
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - it is closed with the server
        self.process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=self._errors, text=True, start_new_session=True
        )
        self.announced = self.process.stdout.readline()
        found = re.search(r"http://[0-9.]+:(\d+)", self.announced)
        assert found, self.errors()
        self.url, self.port = found[0], int(found[1])

    def errors(self):
        """What it has written to its error output so far."""
        self._errors.seek(0)
        return self._errors.read()

    def check(self):
        """Makes sure that it still runs and has had nothing to say on its error output."""
        assert self.process.poll() is None, "it has ended before it was told to"
        assert self.errors() == ""

    def stop(self):
        """Ends it as Ctrl-C does, and returns the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        return self.process.wait(timeout=60)

    def close(self):
        """Ends it, if it has not ended yet, and lets go of what it has written."""
        self.stop()
        self.process.stdout.close()
        self._errors.close()

    def ask(self, method, path, body=None, headers=()):
        """Sends one request and returns the status and what came back as JSON."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body, dict(headers))
            response = connection.getresponse()
            return response.status, json.loads(response.read())
        finally:
            connection.close()

    def speak(self, *parts):
        """Sends bytes as they are, and returns what comes back; nothing if the connection is just closed."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=30) as connection:
            try:
                for part in parts:
                    connection.sendall(part)
                with suppress(OSError):  # the server may have been quicker
                    connection.shutdown(socket.SHUT_WR)
                return connection.makefile("rb").read()
            except (ConnectionResetError, BrokenPipeError):
                return b""


@pytest.fixture(scope="session")
def start_server():
    """Starts servers, and ends those that are left."""
    servers = []

    def start(model, *options):
        servers.append(Server(model, *options))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture
def small_disk():
    """A function: in its block, no file can grow beyond a number of bytes, as on a disk that is full."""
    resource = pytest.importorskip("resource", reason="Windows has no limits for files")

    @contextmanager
    def limit(largest):
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    return limit


class Pages:
    """Pages of a browser for one test after the other: the process of a new one starts for a second."""

    def __init__(self, browser):
        self._browser = browser
        self._free, self._taken = {}, []

    def take(self, *, viewport, listeners=(), **options):
        """An empty page on a screen of that size; the listeners are pairs of an event and a function."""
        key = repr(sorted(options.items()))
        if not (free := self._free.setdefault(key, [])):
            context = self._browser.new_context(**options)
            context.set_default_timeout(60_000)
            free.append(context.new_page())
        page = free.pop()
        page.set_viewport_size(viewport)
        for event, listener in listeners:
            page.on(event, listener)
        self._taken.append((key, page, listeners))
        return page

    def give_back(self):
        """Empties the pages that were taken."""
        for key, page, listeners in self._taken:
            page.unroute_all()
            page.mouse.move(0, 0)
            page.goto("about:blank")
            for event, listener in listeners:
                page.remove_listener(event, listener)
            self._free[key].append(page)
        self._taken.clear()


@pytest.fixture
def pages(all_pages):
    """Pages of a real browser, which are empty again after the test."""
    yield all_pages
    all_pages.give_back()


@pytest.fixture(scope="module")
def all_pages():
    """Pages of a real browser, Debian's chromium driven by playwright; it has a camera that shows a test card.

    Where there is none, the tests that need it are skipped; KERAS_COURSE_REQUIRE_BROWSER=1 makes them fail instead. It
    ends with each file of tests, as playwright keeps an event loop running meanwhile.
    """
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        sync_playwright = None
    if path is None or sync_playwright is None:
        end = pytest.fail if os.environ.get("KERAS_COURSE_REQUIRE_BROWSER") == "1" else pytest.skip
        end('needs a browser: apt-get install chromium; pip install -e ".[browser]"')
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=BROWSER_OPTIONS)
        yield Pages(browser)
        browser.close()
