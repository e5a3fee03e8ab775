"""Downloads, against a small server on this computer that can be slow, wrong, cut off or silent."""

import errno
import hashlib
import io
import re
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import certifi
import numpy as np
import pytest
import requests
from filelock import FileLock

from keras_course.datasets import mnist
from keras_course.datasets.download import Patience, fetch, locked
from keras_course.errors import CourseError

CONTENT = np.random.default_rng(0).bytes(300_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Handler(BaseHTTPRequestHandler):
    site: "Site"

    def do_GET(self) -> None:
        self.site.requests.append((self.path, self.headers.get("Range")))
        self.site.answers.get(self.path, missing)(self)

    def do_CONNECT(self) -> None:
        self.begin(407)

    def begin(self, status: int, **headers: object) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


Answer = Callable[[Handler], None]


def offset(byte_range: str | None) -> int:
    return int((byte_range or "bytes=0-").removeprefix("bytes=").removesuffix("-"))


class Site(ThreadingHTTPServer):
    """A server with one answer per path, which remembers what it was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        handler = type("SiteHandler", (Handler,), {"site": self})
        super().__init__(("127.0.0.1", 0), handler)
        self.requests: list[tuple[str, str | None]] = []
        self.answers: dict[str, Answer] = {}
        self.is_over = threading.Event()

    def add(self, path: str, answer: Answer) -> str:
        self.answers[path] = answer
        return f"http://127.0.0.1:{self.server_port}{path}"

    def handle_error(self, *_: object) -> None:
        """A client that goes away is what many of these tests are about."""


def missing(handler: Handler) -> None:
    handler.begin(404)


def whole(content: bytes = CONTENT, cut_after: int | None = None, pause: float = 0.0) -> Answer:
    """Serve the content from where the client wants it; ``cut_after`` ends each connection after so many bytes."""

    def answer(handler: Handler) -> None:
        start = offset(handler.headers.get("Range"))
        if start >= len(content):
            handler.begin(416)
            return
        rest = content[start:]
        time.sleep(pause)
        handler.begin(206 if start else 200, Content_Length=len(rest), Content_Range=f"bytes {start}-/{len(content)}")
        handler.wfile.write(rest[:cut_after])

    return answer


def without_ranges(content: bytes = CONTENT) -> Answer:
    def answer(handler: Handler) -> None:
        handler.begin(200, Content_Length=len(content))
        handler.wfile.write(content)

    return answer


def hang(handler: Handler) -> None:
    handler.site.is_over.wait(20)


def hang_after(count: int) -> Answer:
    def answer(handler: Handler) -> None:
        handler.begin(200, Content_Length=len(CONTENT))
        handler.wfile.write(CONTENT[:count])
        handler.site.is_over.wait(20)

    return answer


def trickle(handler: Handler) -> None:
    """Send 10 kB a second: never silent, and of no use."""
    handler.begin(200, Content_Length=len(CONTENT))
    for start in range(0, len(CONTENT), 500):
        handler.wfile.write(CONTENT[start : start + 500])
        if handler.site.is_over.wait(0.05):
            return


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def site() -> Iterator[Site]:
    with Site() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.is_over.set()
        server.shutdown()
        thread.join()


MD5 = hashlib.md5(CONTENT).hexdigest()


@pytest.mark.parametrize("known_hash", [f"md5:{MD5}", f"sha256:{SHA256}", ""])
def test_other_hashes_and_none(site: Site, tmp_path: Path, known_hash: str) -> None:
    url = site.add("/digits.bin", whole())
    for _ in range(2):
        assert fetch("digits.bin", [url], known_hash, tmp_path).read_bytes() == CONTENT
    assert len(site.requests) == 1


def test_a_wrong_md5_is_wrong_content(site: Site, tmp_path: Path) -> None:
    url = site.add("/digits.bin", whole(CONTENT[:-1] + b"?"))
    with pytest.raises(CourseError, match="wrong content"):
        fetch("digits.bin", [url], f"md5:{MD5}", tmp_path)
    assert not (tmp_path / "digits.bin").exists()


def test_without_a_hash_a_connection_that_is_cut_is_no_whole_file(site: Site, tmp_path: Path) -> None:
    url = site.add("/digits.bin", whole(cut_after=1000))
    with pytest.raises(CourseError, match="the connection was cut"):
        fetch("digits.bin", [url], "", tmp_path, patience=short_patience())
    assert not (tmp_path / "digits.bin").exists()


def short_patience() -> Patience:
    return Patience(total=2.0, first_byte=0.35, block=0.35)


def get(folder: Path, *urls: str, patience: Patience | None = None, largest: int = 2**30) -> Path:
    return fetch("digits.bin", urls, SHA256, folder, patience=patience, largest=largest)


def names(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()} - {"digits.bin.lock"} if folder.exists() else set()


def test_the_file_arrives_without_a_word(site: Site, tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    path = get(tmp_path / "new" / "folder", site.add("/digits", whole()))
    assert path == tmp_path / "new" / "folder" / "digits.bin"
    assert path.read_bytes() == CONTENT
    assert names(path.parent) == {"digits.bin"}
    assert capfd.readouterr() == ("", "")


def test_a_file_that_is_there_is_not_asked_for(site: Site, tmp_path: Path) -> None:
    (tmp_path / "digits.bin").write_bytes(CONTENT)
    assert get(tmp_path, site.add("/digits", whole())).read_bytes() == CONTENT
    assert site.requests == []


def test_a_damaged_file_is_set_aside_and_replaced(site: Site, tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    (tmp_path / "digits.bin").write_bytes(b"damaged")
    assert get(tmp_path, site.add("/digits", whole())).read_bytes() == CONTENT
    assert (tmp_path / "digits.bin.broken").read_bytes() == b"damaged"
    assert len(capfd.readouterr().err.splitlines()) == 1


def test_after_a_cut_the_rest_is_asked_for(site: Site, tmp_path: Path) -> None:
    assert get(tmp_path, site.add("/digits", whole(cut_after=200_000))).read_bytes() == CONTENT
    (_, first), (_, second) = site.requests
    assert first is None
    assert 190_000 < offset(second) <= 200_000


def test_a_source_that_falls_silent_is_taken_up_again(site: Site, tmp_path: Path) -> None:
    urls = site.add("/silent", hang_after(200_000)), site.add("/good", whole())
    assert get(tmp_path, *urls, patience=short_patience()).read_bytes() == CONTENT
    assert site.requests[-1][0] == "/good"
    assert site.requests[-1][1] is not None


def test_the_part_of_an_earlier_process_is_continued(site: Site, tmp_path: Path) -> None:
    (tmp_path / "digits.bin.part").write_bytes(CONTENT[:100_000])
    assert get(tmp_path, site.add("/digits", whole())).read_bytes() == CONTENT
    assert site.requests == [("/digits", "bytes=100000-")]


def test_what_one_source_began_the_next_one_ends(site: Site, tmp_path: Path) -> None:
    urls = site.add("/short", whole(cut_after=20_000)), site.add("/digits", whole())
    assert get(tmp_path, *urls).read_bytes() == CONTENT
    (_, first), (path, second) = site.requests
    assert (first, path) == (None, "/digits")
    assert 10_000 < offset(second) <= 20_000


@pytest.mark.parametrize("part", [b"of another file", CONTENT + b"and more"], ids=["other", "too long"])
def test_a_wrong_part_is_dropped_and_the_source_asked_again(site: Site, tmp_path: Path, part: bytes) -> None:
    (tmp_path / "digits.bin.part").write_bytes(part)
    assert get(tmp_path, site.add("/digits", whole())).read_bytes() == CONTENT
    assert site.requests == [("/digits", f"bytes={len(part)}-"), ("/digits", None)]


def test_a_complete_part_is_taken_when_the_server_has_nothing_more(site: Site, tmp_path: Path) -> None:
    (tmp_path / "digits.bin.part").write_bytes(CONTENT)
    assert get(tmp_path, site.add("/digits", whole())).read_bytes() == CONTENT
    assert site.requests == [("/digits", f"bytes={len(CONTENT)}-")]


def test_a_server_without_ranges_starts_again(site: Site, tmp_path: Path) -> None:
    (tmp_path / "digits.bin.part").write_bytes(CONTENT[:100_000])
    assert get(tmp_path, site.add("/digits", without_ranges())).read_bytes() == CONTENT
    assert len(site.requests) == 1


def test_another_range_than_asked_for_is_refused(site: Site, tmp_path: Path) -> None:
    def wrong_range(handler: Handler) -> None:
        handler.begin(206, Content_Length=5, Content_Range="bytes 0-4/300000")
        handler.wfile.write(CONTENT[:5])

    (tmp_path / "digits.bin.part").write_bytes(CONTENT[:100_000])
    urls = site.add("/wrong", wrong_range), site.add("/good", whole())
    assert get(tmp_path, *urls).read_bytes() == CONTENT
    assert site.requests == [("/wrong", "bytes=100000-"), ("/good", "bytes=100000-")]


@pytest.mark.parametrize("bad", [missing, without_ranges(b"wrong")], ids=["missing", "wrong content"])
def test_a_bad_source_is_followed_by_the_next(site: Site, tmp_path: Path, bad: Answer) -> None:
    urls = site.add("/bad", bad), site.add("/good", whole())
    assert get(tmp_path, *urls).read_bytes() == CONTENT
    assert [path for path, _ in site.requests] == ["/bad", "/good"]


def test_nothing_stays_of_wrong_content(site: Site, tmp_path: Path) -> None:
    with pytest.raises(CourseError, match=r"digits\.bin could not be downloaded \(127\.0\.0\.1: wrong content\)"):
        get(tmp_path, site.add("/digits", whole(CONTENT[::-1], cut_after=200_000)))
    assert names(tmp_path) == set()


def test_a_server_that_always_cuts_too_early_ends(site: Site, tmp_path: Path) -> None:
    with pytest.raises(CourseError, match="the connection was cut"):
        get(tmp_path, site.add("/digits", whole(cut_after=10_000)))
    assert len(site.requests) == 1
    assert names(tmp_path) == {"digits.bin.part"}


@pytest.mark.parametrize("bad", [hang, trickle, hang_after(1000)], ids=["silent", "trickle", "stalled"])
def test_a_slow_source_is_given_up(site: Site, tmp_path: Path, bad: Answer) -> None:
    start = time.monotonic()
    urls = site.add("/bad", bad), site.add("/good", whole())
    assert get(tmp_path, *urls, patience=short_patience()).read_bytes() == CONTENT
    assert time.monotonic() - start < 2.0


@pytest.mark.parametrize("bad", [hang, trickle], ids=["silent", "trickle"])
def test_patience_is_shared_by_all_sources(site: Site, tmp_path: Path, bad: Answer) -> None:
    urls = [site.add(f"/{number}", bad) for number in range(10)]
    start = time.monotonic()
    with pytest.raises(CourseError, match="no answer in time"):
        get(tmp_path, *urls, patience=Patience(total=0.5, first_byte=0.3, block=5.0))
    assert time.monotonic() - start < 1.0


def test_data_do_not_make_up_for_what_others_kept_us_waiting(site: Site, tmp_path: Path) -> None:
    urls = [site.add("/silent", hang), site.add("/stalled", hang_after(100_000))] * 8
    start = time.monotonic()
    with pytest.raises(CourseError, match="no answer in time"):
        get(tmp_path, *urls, patience=Patience(total=0.5, first_byte=0.2, block=0.2))
    assert time.monotonic() - start < 1.2


def test_a_line_that_delivers_may_take_longer_than_the_patience(site: Site, tmp_path: Path) -> None:
    def steady(handler: Handler) -> None:
        handler.begin(200, Content_Length=len(CONTENT))
        for start in range(0, len(CONTENT), 50_000):
            handler.wfile.write(CONTENT[start : start + 50_000])
            time.sleep(0.15)

    start = time.monotonic()
    assert get(tmp_path, site.add("/steady", steady), patience=Patience(0.6, 0.6, 0.6)).read_bytes() == CONTENT
    assert time.monotonic() - start > 0.65


def test_a_name_lookup_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    is_over = threading.Event()

    def hanging_lookup(*_: object, **__: object) -> None:
        is_over.wait(20)
        raise socket.gaierror("no such name")

    monkeypatch.setattr(socket, "getaddrinfo", hanging_lookup)
    start = time.monotonic()
    with pytest.raises(CourseError, match=r"mirror\.invalid: no answer in time"):
        get(tmp_path, "https://mirror.invalid/digits", patience=short_patience())
    assert time.monotonic() - start < 1.5
    is_over.set()


def test_nobody_listens(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(CourseError, match=r"127\.0\.0\.1: no connection"):
        get(tmp_path, f"http://127.0.0.1:{port}/digits")


def test_a_source_cannot_fill_the_disk(site: Site, tmp_path: Path) -> None:
    with pytest.raises(CourseError, match="more than 100,000 bytes"):
        get(tmp_path, site.add("/digits", whole()), largest=100_000)
    assert (tmp_path / "digits.bin.part").stat().st_size == 0


def test_only_https_is_spoken_to_other_computers(site: Site, tmp_path: Path) -> None:
    with pytest.raises(CourseError, match=r"http://mirror\.invalid/digits is not https"):
        get(tmp_path, "http://mirror.invalid/digits")
    away = site.add("/away", lambda handler: handler.begin(302, Location="http://mirror.invalid/digits"))
    with pytest.raises(CourseError, match="an address that is not https"):
        get(tmp_path, away)


def test_a_proxy_from_the_environment_is_used(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site.add("http://127.0.0.1:9/digits", whole())  # what a proxy sees as the path
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{site.server_port}")
    assert get(tmp_path, "http://127.0.0.1:9/digits").read_bytes() == CONTENT


# --- What the settings of a computer keep from working -----------------------------------------------------------

ELSEWHERE = "https://mirror.invalid/digits"
PROXY_VARIABLES = ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")


def assert_fails(folder: Path, reason: str, *urls: str) -> None:
    with pytest.raises(CourseError, match=reason) as error:
        get(folder, *(urls or (ELSEWHERE, "https://second.invalid/digits")), patience=short_patience())
    assert "\n" not in str(error.value)
    assert "secret" not in str(error.value)
    assert names(folder) == set()


@pytest.mark.parametrize("variable", PROXY_VARIABLES)
@pytest.mark.parametrize("kind", ["socks5", "socks5h", "socks4"])
def test_a_socks_proxy_needs_a_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, kind: str
) -> None:
    def missing_package(*_: object, **__: object) -> None:  # what `requests` does where PySocks is not installed
        raise requests.exceptions.InvalidSchema("Missing dependencies for SOCKS support.")

    monkeypatch.setattr(requests.adapters, "SOCKSProxyManager", missing_package)
    monkeypatch.setenv(variable, f"{kind}://user:secret@127.0.0.1:9")
    assert_fails(tmp_path, f"^{variable} names a SOCKS proxy, which needs PySocks.*; run: pip install PySocks$")


@pytest.mark.parametrize("variable", PROXY_VARIABLES)
@pytest.mark.parametrize(
    "proxy",
    [
        *("http://u:secret@ss:w@:x", "http://", "ftp://127.0.0.1:1", "http://127.0.0.1:99999", "http://[::1"),
        *("http://a..b:80", "http:// b"),
    ],
)
def test_what_is_no_address_of_a_proxy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, proxy: str
) -> None:
    monkeypatch.setenv(variable, proxy)
    assert_fails(tmp_path, f"^{variable} is not the address of a proxy; give one such as http://")


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@pytest.mark.parametrize("variable", PROXY_VARIABLES)
@pytest.mark.parametrize("begin", ["http://user:secret@", "https://", ""])
def test_a_proxy_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, begin: str) -> None:
    place = f"127.0.0.1:{closed_port()}"
    monkeypatch.setenv(variable, f"{begin}{place}")
    assert_fails(tmp_path, f"mirror.invalid: the proxy {place}, which {variable} names, cannot be reached")


def test_a_proxy_that_refuses(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", f"http://user:secret@127.0.0.1:{site.server_port}")
    assert_fails(tmp_path, "mirror.invalid: the proxy that HTTPS_PROXY names refuses, HTTP status 407")


@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_a_file_of_certificates_that_is_missing_or_none(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    file, url = tmp_path / "ca.pem", f"https://127.0.0.1:{site.server_port}/digits"
    monkeypatch.setenv(variable, str(file))
    assert_fails(tmp_path / "cache", f"^there is no {file}, which {variable} names; give", url)
    file.write_text("no certificate")
    assert_fails(tmp_path / "cache", f"^{file}, which {variable} names, holds no certificates; give", url)

    def deny(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(ssl.SSLContext, "load_verify_locations", deny)
    assert_fails(
        tmp_path / "cache", f"^{file}, which {variable} names, cannot be read \\(Permission denied\\); give", url
    )


def test_a_folder_of_certificates_is_searched(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, url = tmp_path / "certificates", f"https://127.0.0.1:{site.server_port}/digits"
    folder.mkdir()
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(folder))
    assert_fails(tmp_path / "cache", r"\(127.0.0.1: the secure connection failed\)", url)


def test_a_certificate_that_is_not_known(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As behind a proxy that looks into connections; `requests` does not read the file that SSL_CERT_FILE names."""

    def refuse(*_: object, **__: object) -> None:
        raise ssl.SSLCertVerificationError(1, "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed")

    monkeypatch.setattr(ssl.SSLContext, "wrap_socket", refuse)
    file, url = tmp_path / "ca.pem", f"https://127.0.0.1:{site.server_port}/digits"
    unknown = "the server's certificate is unknown"
    assert_fails(tmp_path / "cache", f"127.0.0.1: {unknown}, set REQUESTS_CA_BUNDLE to that of your organization", url)
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    assert_fails(tmp_path / "cache", f"^there is no {file}, which SSL_CERT_FILE names; give", url)
    file.write_bytes(Path(certifi.where()).read_bytes())
    assert_fails(tmp_path / "cache", f"^{unknown}; if it is in {file}, set REQUESTS_CA_BUNDLE to that file", url)


def test_such_a_problem_is_told_once(mirror: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://")
    with pytest.raises(CourseError) as error:
        mnist.load_data("full")
    assert str(error.value).count("http_proxy is not the address of a proxy") == 1


# --- Disks and locks ---------------------------------------------------------------------------------------------


def test_no_space_left_is_said_in_one_line(site: Site, tmp_path: Path, small_disk: Callable) -> None:
    url = site.add("/digits", whole())
    with small_disk(100_000), pytest.raises(CourseError) as error:
        get(tmp_path, url)
    assert str(error.value) == (
        f"cannot write {tmp_path / 'digits.bin'} (File too large); free some space and start again, received data "
        "are kept; KERAS_COURSE_CACHE may name another folder"
    )
    assert names(tmp_path) == {"digits.bin.part"}
    part = (tmp_path / "digits.bin.part").read_bytes()
    assert part
    assert CONTENT.startswith(part)
    assert get(tmp_path, url).read_bytes() == CONTENT
    assert site.requests[-1] == ("/digits", f"bytes={len(part)}-")


def test_a_folder_that_cannot_be_made_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(CourseError, match=r"cannot write .*folder \(.*\); KERAS_COURSE_CACHE may name another folder"):
        get(tmp_path / "file" / "folder", "https://mirror.invalid/digits")


PROCESS = """
import sys
from pathlib import Path
from keras_course.datasets.download import fetch
url, sha256, folder, sign = sys.argv[1:]
Path(sign).touch()
print(fetch("digits.bin", [url], sha256, folder))
"""


def test_of_two_processes_one_downloads(site: Site, tmp_path: Path) -> None:
    signs = [tmp_path / "first", tmp_path / "second"]

    def when_both_are_there(handler: Handler) -> None:
        while not all(sign.exists() for sign in signs) and not handler.site.is_over.wait(0.01):
            pass
        whole(pause=0.3)(handler)

    url = site.add("/digits", when_both_are_there)
    command = [sys.executable, "-c", PROCESS, url, SHA256, str(tmp_path / "cache")]
    processes = [
        subprocess.Popen([*command, str(sign)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for sign in signs
    ]
    outputs = [process.communicate(timeout=30) for process in processes]
    assert outputs == [(f"{tmp_path / 'cache' / 'digits.bin'}\n", "")] * 2
    assert (tmp_path / "cache" / "digits.bin").read_bytes() == CONTENT
    assert len(site.requests) == 1


def test_a_file_that_is_there_needs_no_lock(tmp_path: Path) -> None:
    """As in the cache of a teacher, in which nobody else can write."""
    (tmp_path / "digits.bin").write_bytes(CONTENT)
    (tmp_path / "digits.bin.lock" / "nothing").mkdir(parents=True)
    assert get(tmp_path, ELSEWHERE) == tmp_path / "digits.bin"


def test_a_lock_that_cannot_be_had_is_named(site: Site, tmp_path: Path) -> None:
    (tmp_path / "digits.bin.lock" / "nothing").mkdir(parents=True)
    with pytest.raises(CourseError, match=r"cannot write .*digits\.bin\.lock \(.*\); KERAS_COURSE_CACHE may name"):
        get(tmp_path, site.add("/digits", whole()))


@pytest.mark.parametrize("name", ["digits.bin.part", "digits.bin.broken"])
def test_a_folder_in_the_way_is_named_and_stays(site: Site, tmp_path: Path, name: str) -> None:
    (tmp_path / name / "mine").mkdir(parents=True)
    (tmp_path / "digits.bin").write_bytes(b"damaged")
    if name.endswith("part"):
        (tmp_path / "digits.bin").unlink()
    with pytest.raises(CourseError, match=re.escape(name)):
        get(tmp_path, site.add("/digits", whole()))
    assert (tmp_path / name / "mine").is_dir()
    assert name.endswith("part") or (tmp_path / "digits.bin").read_bytes() == b"damaged"


def test_a_lock_that_nobody_gives_back_is_not_waited_for_forever(tmp_path: Path) -> None:
    with FileLock(tmp_path / "digits.bin.lock"), pytest.raises(CourseError, match="another process holds"):
        get(tmp_path, "https://mirror.invalid/digits", patience=Patience(total=0.2))


def test_a_lock_is_waited_for_while_the_other_one_gets_data(tmp_path: Path) -> None:
    lock = FileLock(tmp_path / "digits.lock", thread_local=False)
    lock.acquire()
    is_released = threading.Event()

    def other_process() -> None:
        for _ in range(14):  # two seconds in all, twice the patience below
            with (tmp_path / "digits.bin.part").open("ab") as part:  # as a download grows, never shorter in between
                part.write(bytes(100_000))
            time.sleep(0.15)
        is_released.set()
        lock.release()

    thread = threading.Thread(target=other_process)
    thread.start()
    with locked(tmp_path / "digits.lock", Patience(total=1.0)):
        assert is_released.is_set()
    thread.join()


@pytest.mark.parametrize("is_terminal", [True, False])
def test_the_bar_is_only_for_a_terminal(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_terminal: bool
) -> None:
    stderr = io.StringIO()
    stderr.isatty = lambda: is_terminal
    monkeypatch.setattr(sys, "stderr", stderr)
    monkeypatch.setenv("TERM", "xterm")
    get(tmp_path, site.add("/digits", whole()))
    assert ("digits.bin" in stderr.getvalue()) == is_terminal


# What mnist.load_data makes of it, with a few digits in place of all of them.


def few_digits(seed: int = 0) -> mnist.Digits:
    random = np.random.default_rng(seed)

    def pair(count: int) -> tuple[np.ndarray, np.ndarray]:
        pictures = random.integers(0, 256, (count, 28, 28, 1), dtype=np.uint8)
        return pictures, random.integers(0, 10, count).astype(np.int32)

    return pair(30), pair(10)


def npz_bytes(digits: mnist.Digits) -> bytes:
    (x_train, y_train), (x_valid, y_valid) = digits
    file = io.BytesIO()
    np.savez(file, x_train=x_train, y_train=y_train, x_test=x_valid, y_test=y_valid)
    return file.getvalue()


def idx_bytes(array: np.ndarray) -> bytes:
    values = array.squeeze().astype(np.uint8)
    header = [0x0800 + values.ndim, *values.shape]
    return np.array(header, dtype=">u4").tobytes() + values.tobytes()


@pytest.fixture
def mirror(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """Serve a few digits as Keras' archive and as LeCun's files, and make the module take them for all of MNIST."""
    digits = few_digits()
    arrays = [*digits[0], *digits[1]]
    monkeypatch.delenv("KERAS_COURSE_DATA", raising=False)
    monkeypatch.setenv("KERAS_COURSE_CACHE", str(tmp_path / "cache"))
    sha256 = hashlib.sha256(b"".join(array.astype(np.uint8).tobytes() for array in arrays)).hexdigest()
    monkeypatch.setattr(mnist, "FULL_SHA256", sha256)
    archive = npz_bytes(digits)
    monkeypatch.setattr(mnist, "KERAS_URLS", (site.add("/keras.npz", whole(archive)),))
    monkeypatch.setattr(mnist, "KERAS_SHA256", hashlib.sha256(archive).hexdigest())
    stems = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
    files = {stem: idx_bytes(array) for stem, array in zip(stems, arrays, strict=True)}
    urls = [site.add(f"/second/{name}", whole(content)) for name, content in files.items()]
    base = urls[0].removesuffix(f"second/{stems[0]}")
    monkeypatch.setattr(mnist, "IDX_MIRRORS", (f"{base}first/", f"{base}second/"))
    monkeypatch.setattr(mnist, "IDX_SHA256", {name: hashlib.sha256(file).hexdigest() for name, file in files.items()})
    return site


def assert_few_digits(found: mnist.Digits) -> None:
    for (x, y), (expected_x, expected_y) in zip(found, few_digits(), strict=True):
        np.testing.assert_array_equal(x, expected_x)
        np.testing.assert_array_equal(y, expected_y)


@pytest.mark.parametrize("source", ["auto", "full"])
def test_all_digits_are_downloaded_once(mirror: Site, tmp_path: Path, source: str) -> None:
    assert_few_digits(mnist.load_data(source))
    assert_few_digits(mnist.load_data(source))
    assert mnist.locate(source) == tmp_path / "cache" / "mnist.npz"
    assert mirror.requests == [("/keras.npz", None)]
    assert {file.name for file in (tmp_path / "cache").iterdir()} == {"mnist.npz", "mnist.lock"}


def test_the_idx_files_stand_in_for_the_archive(mirror: Site, tmp_path: Path) -> None:
    mirror.answers["/keras.npz"] = missing
    assert_few_digits(mnist.load_data("full", cache=tmp_path / "other"))
    assert (tmp_path / "other" / "mnist.npz").is_file()
    assert [path for path, _ in mirror.requests[1:3]] == [
        "/first/train-images-idx3-ubyte",
        "/second/train-images-idx3-ubyte",
    ]


def test_an_archive_with_other_digits_is_not_used(mirror: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = npz_bytes(few_digits(seed=1))
    mirror.answers["/keras.npz"] = whole(archive)
    monkeypatch.setattr(mnist, "KERAS_SHA256", hashlib.sha256(archive).hexdigest())
    assert_few_digits(mnist.load_data("full"))


@pytest.mark.parametrize("content", [b"damaged", npz_bytes(few_digits(seed=1))], ids=["damaged", "other digits"])
def test_a_damaged_cache_is_set_aside(
    mirror: Site, tmp_path: Path, capfd: pytest.CaptureFixture, content: bytes
) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "mnist.npz").write_bytes(content)
    assert_few_digits(mnist.load_data())
    assert (tmp_path / "cache" / "mnist.npz.broken").read_bytes() == content
    assert len(capfd.readouterr().err.splitlines()) == 1


def test_what_another_process_got_meanwhile_is_taken(
    mirror: Site, tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    (tmp_path / "cache").mkdir()
    found = []
    with FileLock(tmp_path / "cache" / "mnist.lock"):
        thread = threading.Thread(target=lambda: found.append(mnist.load_data("full")))
        thread.start()
        time.sleep(0.3)  # it has seen that the cache is empty, and waits for us
        (tmp_path / "cache" / "mnist.npz").write_bytes(npz_bytes(few_digits()))
    thread.join()
    assert_few_digits(found[0])
    assert mirror.requests == []
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("bad", [hang, trickle], ids=["silent", "trickle"])
def test_auto_gives_the_sample_within_five_seconds(
    mirror: Site, capfd: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch, bad: Answer
) -> None:
    if bad is trickle:  # once with the true patience is enough
        monkeypatch.setattr(mnist, "AUTO_PATIENCE", {"total": 0.4, "first_byte": 0.2, "block": 0.2})
    mirror.answers = dict.fromkeys(
        ["/keras.npz", *(f"/{a}/{b}" for a in ("first", "second") for b in mnist.IDX_SHA256)], bad
    )
    start = time.monotonic()
    (x_train, _), _ = mnist.load_data("auto")
    assert time.monotonic() - start < 5.0
    assert x_train.shape == (10_000, 28, 28, 1)
    out, err = capfd.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert "sample of 10,000 + 2,000 digits" in err


def test_full_names_the_remedies(mirror: Site) -> None:
    mirror.answers.clear()
    with pytest.raises(CourseError, match=r"HTTP status 404.*prepare_mnist\.py --npm.*sample") as error:
        mnist.load_data("full")
    assert "\n" not in str(error.value)


def test_auto_gives_the_sample_when_the_cache_cannot_be_written(
    mirror: Site, tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    assert mnist.locate("auto") == mnist.SAMPLE_FILE
    assert "(cannot write" in capfd.readouterr().err
    assert mirror.requests == []
