"""Fixtures of all tests, and the selection of tests: data that is not in the package, servers, browsers."""

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

# These tests need no backend. tox runs them only once, in an environment without a backend.
WITHOUT_BACKEND = (
    "pretrained/test_bert_checkpoint.py",
    "pretrained/test_tensor_files.py",
    "assessment/test_grades.py",
    "datasets",
    "deployment/test_answers.py",
    "deployment/test_decode_process.py",
    "deployment/test_decoders.py",
    "deployment/test_locate.py",
    "deployment/test_micro_batches.py",
    "deployment/test_occlusion.py",
    "deployment/test_texts.py",
    "deployment/test_onnx_files.py",
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
# So do all tests of these files but those marked `needs_backend`.
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
    """Ignores files and folders that are not selected; None leaves the decision to other hooks."""
    needs_none = _is_in(WITHOUT_BACKEND, collection_path)
    places = [Path(__file__).parent / place for place in WITHOUT_BACKEND + MOSTLY_WITHOUT_BACKEND]
    of_interest = any(place.is_relative_to(collection_path) for place in places) or needs_none
    wanted = config.getoption("--without-backend")
    ignored = {"too": False, "not": needs_none, "only": not of_interest}[wanted]
    return True if ignored else None


def pytest_configure():
    """Gives each test process its own cores: on shared ones, threads wait for each other."""
    names = WITHOUT_BACKEND + MOSTLY_WITHOUT_BACKEND
    if missing := [name for name in names if not (Path(__file__).parent / name).exists()]:
        raise pytest.UsageError(f"WITHOUT_BACKEND names {', '.join(missing)}, which tests/ does not have")
    count, name = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 1)), os.environ.get("PYTEST_XDIST_WORKER", "gw0")
    if count > 1 and hasattr(os, "sched_setaffinity"):
        cores, number = sorted(os.sched_getaffinity(0)), int(name.removeprefix("gw"))
        os.sched_setaffinity(0, cores[number % len(cores) :: count])


def pytest_collection_modifyitems(items, config):
    """Selects tests; those that take minutes go first: a lesson split between two processes would run twice."""
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
    """Skips a test whose data is missing; with ``--require-data``, it fails."""
    end = pytest.fail if request.config.getoption("--require-data") else pytest.skip
    end(reason)


@pytest.fixture(scope="session")
def full_mnist(request):
    """The path, for ``--data``, of all 70,000 digits, from the cache or KERAS_COURSE_DATA, or downloaded."""
    from keras_course.datasets import mnist
    from keras_course.errors import CourseError

    try:
        return mnist.locate("full")
    except CourseError as error:
        return _do_without(request, str(error))


@pytest.fixture(scope="session")
def course_data(request):
    """The folder of prepared data sets, from KERAS_COURSE_DATA."""
    folder = os.environ.get("KERAS_COURSE_DATA")
    if not folder or not Path(folder).is_dir():
        return _do_without(request, f"KERAS_COURSE_DATA is {folder!r}; let it name the folder of prepared data sets")
    return Path(folder)


@pytest.fixture(scope="session")
def record_accuracies():
    """A function that stores accuracies by seed, which tests/parity/test_accuracies.py compares."""

    def record(name, accuracies):
        if folder := os.environ.get("KERAS_COURSE_ACCURACIES"):
            import keras

            Path(folder).mkdir(parents=True, exist_ok=True)
            file = Path(folder) / f"{keras.backend.backend()}.json"
            recorded = json.loads(file.read_text()) if file.exists() else {}
            file.write_text(json.dumps({**recorded, name: accuracies}))

    return record


class Server:
    """`keras-course serve` in a separate process, on a free port of localhost."""

    def __init__(self, model, *options):
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "keras_course", "serve", str(model), "--port", "0", *map(str, options)]
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed with the server
        self.process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=self._errors, text=True, start_new_session=True
        )
        self.announced = self.process.stdout.readline()
        found = re.search(r"http://[0-9.]+:(\d+)", self.announced)
        assert found, self.errors()
        self.url, self.port = found[0], int(found[1])

    def errors(self):
        """Returns its error output so far."""
        self._errors.seek(0)
        return self._errors.read()

    def check(self):
        """Checks that it still runs and that its error output is empty."""
        assert self.process.poll() is None, "the server has ended too early"
        assert self.errors() == ""

    def stop(self):
        """Stops it as Ctrl-C does, and returns the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        return self.process.wait(timeout=60)

    def close(self):
        """Stops it if it still runs, and closes its output files."""
        self.stop()
        self.process.stdout.close()
        self._errors.close()

    def ask(self, method, path, body=None, headers=()):
        """Sends one request, and returns the status and the JSON of the answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body, dict(headers))
            response = connection.getresponse()
            return response.status, json.loads(response.read())
        finally:
            connection.close()

    def send_raw(self, *parts):
        """Sends bytes and returns the answer, which is empty if the connection was closed."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=30) as connection:
            try:
                for part in parts:
                    connection.sendall(part)
                with suppress(OSError):  # the server may have answered before the end
                    connection.shutdown(socket.SHUT_WR)
                return connection.makefile("rb").read()
            except (ConnectionResetError, BrokenPipeError):
                return b""


@pytest.fixture(scope="session")
def start_server():
    """Returns a function that starts servers; they are stopped at the end."""
    servers = []

    def start(model, *options):
        servers.append(Server(model, *options))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture
def small_disk():
    """Returns a context manager in which files cannot exceed a number of bytes, as on a full disk."""
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
    """Pages of a browser that tests share, because a new browser takes a second to start."""

    def __init__(self, browser):
        self._browser = browser
        self._free, self._taken = {}, []

    def take(self, *, viewport, listeners=(), **options):
        """Returns an empty page with these settings; listeners are pairs of an event and a function."""
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
        """Clears the pages that were taken, for the next test."""
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
    """Pages of a real browser, which are cleared after each test."""
    yield all_pages
    all_pages.give_back()


@pytest.fixture(scope="module")
def all_pages():
    """Pages of Debian's chromium, driven by playwright, with a camera that shows a test pattern.

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
