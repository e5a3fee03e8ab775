"""Downloads from hostile servers, and into a cache that others can write to; all servers are on this machine."""

import gzip
import hashlib
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from keras_course.datasets import arrays, fruit, mnist
from keras_course.datasets.download import Patience, fetch
from keras_course.errors import CourseError

ROOT = Path(__file__).parents[2]
DATA = np.random.default_rng(0).bytes(300_000)
SHA256 = hashlib.sha256(DATA).hexdigest()
LARGEST = 2**20

Answer = Callable[[socket.socket, bytes], None]


class Server:
    """Reads the head of a request and passes the connection to a function."""

    def __init__(self, answer: Answer) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._answer = answer
        self.heads: list[bytes] = []
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}/f"
        threading.Thread(target=self._listen, daemon=True).start()

    def close(self) -> None:
        self._socket.close()

    def _listen(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        connection.settimeout(5)
        with connection:
            try:
                request = b""
                while b"\r\n\r\n" not in request:
                    if not (piece := connection.recv(4096)):
                        return
                    request += piece
                self.heads.append(request)
                self._answer(connection, request)
            except OSError:  # the client has closed the connection
                pass


@pytest.fixture
def serve() -> Iterator[Callable[[Answer], Server]]:
    servers = []

    def start(answer: Answer) -> Server:
        servers.append(Server(answer))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture(autouse=True)
def default_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.delenv("KERAS_COURSE_DATA", raising=False)
    monkeypatch.setenv("KERAS_COURSE_CACHE", str(tmp_path / "cache"))


def head(status: str = "200 OK", **headers: object) -> bytes:
    lines = [f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items()]
    return f"HTTP/1.1 {status}\r\n{''.join(lines)}\r\n".encode()


def sends(*parts: bytes) -> Answer:
    return lambda connection, _: connection.sendall(b"".join(parts))


def good(connection: socket.socket, request: bytes) -> None:
    begin = int(request.partition(b"Range: bytes=")[2].partition(b"-")[0] or 0)
    status = "206 Partial Content" if begin else "200 OK"
    rest = DATA[begin:]
    connection.sendall(head(status, Content_Length=len(rest), Content_Range=f"bytes {begin}-/{len(DATA)}") + rest)


def endless_answer(begin: bytes, piece: bytes, pause: float = 0.0) -> Answer:
    def answer(connection: socket.socket, _: bytes) -> None:
        connection.sendall(begin)
        while True:
            connection.sendall(piece)
            time.sleep(pause)

    return answer


def bomb(megabytes: int) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    return b"".join([*(packer.compress(bytes(2**20)) for _ in range(megabytes)), packer.flush()])


BOMB = bomb(200)
TWICE = gzip.compress(BOMB)
MEBIBYTE = bytes(2**20)
SERVERS: dict[str, tuple[Answer, str]] = {
    "without an end": (endless_answer(head(), MEBIBYTE), "more than 1,048,576 bytes"),
    "chunks without an end": (
        endless_answer(head(Transfer_Encoding="chunked"), b"100000\r\n" + MEBIBYTE + b"\r\n"),
        "more than 1,048,576 bytes",
    ),
    "gzip bomb": (
        sends(head(Content_Encoding="gzip", Content_Length=len(BOMB)), BOMB),
        "more than 1,048,576 bytes",
    ),
    "gzip in gzip": (
        sends(head(Content_Encoding="gzip, gzip", Content_Length=len(TWICE)), TWICE),
        "more than 1,048,576 bytes",
    ),
    "fifty encodings": (
        sends(head(Content_Encoding=", ".join(["gzip"] * 50), Content_Length=4), b"abcd"),
        "cannot be unpacked",
    ),
    "too short": (sends(head(Content_Length=len(DATA) + 5000), DATA), "the connection was cut"),
    "too long": (sends(head(Content_Length=len(DATA) - 5000), DATA), "wrong content"),
    "other content": (sends(head(Content_Length=len(DATA)), DATA[::-1]), "wrong content"),
    "redirected to a file": (sends(head("302 Found", Location="file:///etc/hostname")), "not https"),
    "redirected to ftp": (sends(head("302 Found", Location="ftp://127.0.0.1/x")), "not https"),
    "redirected to data": (sends(head("302 Found", Location="data:,x")), "not https"),
    "redirected to another machine": (sends(head("302 Found", Location="http://example.invalid/x")), "not https"),
    "redirected to any machine": (sends(head("302 Found", Location="http://0.0.0.0:1/x")), "not https"),
    "redirected to a number": (sends(head("302 Found", Location="http://2130706433:1/x")), "not https"),
    "redirected to a lookalike": (
        sends(head("302 Found", Location="http://localhost.evil.invalid/x")),
        "not https",
    ),
    "redirected past a backslash": (
        sends(head("302 Found", Location="http://127.0.0.1\\@example.invalid/")),
        "not https",
    ),
    "redirected to nowhere": (sends(head("302 Found", Location="http://[::1/")), "an invalid address"),
    "redirected in circles": (
        sends(head("302 Found", Location="/f", Content_Length=0, Connection="close")),
        "redirects in circles",
    ),
    "headers without an end": (endless_answer(b"HTTP/1.1 200 OK\r\n", b"X: " + b"a" * 1000 + b"\r\n"), "no connection"),
    "a header without an end": (endless_answer(b"HTTP/1.1 200 OK\r\nX: ", b"a" * 60_000), "no connection"),
    "never beginning": (endless_answer(b"", b"HTTP/1.1 100 Continue\r\n\r\n", 0.01), "no answer in time"),
    "a letter at a time": (endless_answer(b"", b"H", 0.05), "no answer in time"),
    "a range that was not asked for": (
        sends(head("206 Partial Content", Content_Range="bytes 5-9/10", Content_Length=5), b"abcde"),
        "another range",
    ),
    **{
        f"status {status[:3]}": (sends(head(status, Content_Length=0)), f"HTTP status {status[:3]}")
        for status in ("204 No Content", "304 Not Modified", "416 Range Not Satisfiable", "999 x")
    },
    "noise": (sends(DATA), "no connection"),
    "a chunk too large": (
        sends(head(Transfer_Encoding="chunked"), b"FFFFFFFFFFFFFFFFF\r\n"),
        "the connection was cut",
    ),
}


@pytest.mark.parametrize("name", SERVERS)
def test_a_hostile_server_costs_little_time_and_memory_and_leaves_no_file(
    serve: Callable, tmp_path: Path, name: str
) -> None:
    answer, reason = SERVERS[name]
    server = serve(answer)
    patience = Patience(1.0, 0.4, 0.4) if reason == "no answer in time" else Patience(5.0, 4.0, 4.0)
    started = time.monotonic()
    tracemalloc.start()
    try:
        with pytest.raises(CourseError, match=reason) as error:
            fetch("f.bin", [server.url], SHA256, tmp_path, patience=patience, largest=LARGEST)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert "\n" not in str(error.value)
    assert time.monotonic() - started < 6
    assert peak < 40 * 2**20
    assert {path.name for path in tmp_path.iterdir()} <= {"f.bin.lock", "f.bin.part"}
    assert all(path.stat().st_size <= LARGEST for path in tmp_path.iterdir())
    if name.startswith("redirected"):
        assert not any(b"uthorization" in request or b"ookie" in request for request in server.heads)


# --- A cache that others can write to ----------------------------------------------------------------------------


def make_link_or_pipe(path: Path, kind: str, victim: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "hard link":
        path.hardlink_to(victim)
    else:
        path.symlink_to(victim if kind == "symlink" else victim.with_name("made"))


KINDS = ("symlink", "hard link", "dangling", "pipe", "device")


@pytest.mark.parametrize("known_hash", [SHA256, ""], ids=["hash", "no hash"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["f.bin", "f.bin.part", "f.bin.lock", "f.bin.broken"])
def test_a_download_does_not_write_through_links_in_the_cache(
    serve: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, kind: str, known_hash: str
) -> None:
    folder, victim = tmp_path / "cache", tmp_path / "victim"
    victim.write_bytes(b"precious\n" * 1000)
    make_link_or_pipe(folder / name, kind, victim)
    if name == "f.bin.broken":
        (folder / "f.bin").write_bytes(b"damaged")
    if not known_hash:  # without a hash, a file is used only if its owner is trusted
        owners = victim.stat().st_uid, folder.stat().st_uid
        monkeypatch.setattr(os, "geteuid", lambda: max(owners) + 1)
        real = Path.stat
        monkeypatch.setattr(Path, "stat", lambda path, **how: as_own_folder(real(path, **how)))
        monkeypatch.setattr(Path, "lstat", lambda path: as_foreign_file(real(path, follow_symlinks=False)))
    found = fetch("f.bin", [serve(good).url], known_hash, folder, patience=Patience(2.0, 1.0, 1.0), largest=LARGEST)
    monkeypatch.undo()
    assert found.read_bytes() == DATA
    assert victim.read_bytes() == b"precious\n" * 1000
    assert not victim.with_name("made").exists()
    assert stat.S_ISREG(found.lstat().st_mode)
    assert {path.name for path in folder.iterdir()} <= {"f.bin", "f.bin.lock", "f.bin.broken"}


def as_own_folder(status: os.stat_result) -> os.stat_result:
    """Returns the status of a folder with the current user as its owner."""
    return os.stat_result((*status[:4], os.geteuid(), *status[5:])) if stat.S_ISDIR(status.st_mode) else status


def as_foreign_file(status: os.stat_result) -> os.stat_result:
    """Returns the status of a file with another owner."""
    return os.stat_result((*status[:4], os.geteuid() + 1, *status[5:]))


def few_digits() -> mnist.Digits:
    random = np.random.default_rng(0)
    pictures = random.integers(0, 256, (20, 28, 28, 1), dtype=np.uint8)
    labels = np.arange(20, dtype=np.int32) % 10
    return (pictures, labels), (pictures[:10], labels[:10])


def load_digits(cache: Path, serve: Callable, monkeypatch: pytest.MonkeyPatch) -> bytes:
    arrays.save(cache.with_name("mnist.npz"), few_digits())
    archive = cache.with_name("mnist.npz").read_bytes()
    monkeypatch.setattr(mnist, "FULL_SHA256", arrays.content_sha256(few_digits()))
    monkeypatch.setattr(mnist, "KERAS_SHA256", hashlib.sha256(archive).hexdigest())
    monkeypatch.setattr(mnist, "KERAS_URLS", (serve(sends(head(Content_Length=len(archive)), archive)).url,))
    (pictures, _), _ = mnist.load_data("full", cache=cache)
    return pictures.tobytes()


def draw_fruit(cache: Path, serve: Callable, monkeypatch: pytest.MonkeyPatch) -> bytes:
    monkeypatch.setattr(fruit, "_DRAWN", {"train": 1, "valid": 1})
    monkeypatch.setattr(fruit, "CLASS_NAMES", ("freshapples",))
    return b"".join(path.read_bytes() for path in sorted(fruit.locate("sample", cache=cache).rglob("*.jpg")))


@pytest.mark.parametrize("kind", ["symlink", "hard link", "dangling"])
@pytest.mark.parametrize("load", [load_digits, draw_fruit])
def test_cached_files_are_not_written_through_links(
    serve: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, load: Callable, kind: str
) -> None:
    """Somebody has put links in place of all files of the cache before they exist."""
    expected = load(tmp_path / "cache", serve, monkeypatch)
    files = [path.relative_to(tmp_path / "cache") for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert files
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    shared = tmp_path / "shared"
    for file in files:
        if load is not draw_fruit or kind == "dangling":  # an existing picture is not drawn again
            make_link_or_pipe(shared / file, kind, victim)
    assert load(shared, serve, monkeypatch) == expected
    assert victim.read_bytes() == b"precious"
    assert not victim.with_name("made").exists()


# --- Kills -------------------------------------------------------------------------------------------------------

KILLED_PROGRAM = """
import json, os, signal, sys, threading, time
from keras_course.datasets.download import fetch


def kill_after(seconds):
    time.sleep(seconds)
    os.kill(os.getpid(), signal.SIGKILL)


for line in sys.stdin:
    url, sha256, folder, seconds = json.loads(line)
    if (child := os.fork()) == 0:
        if seconds is not None:
            threading.Thread(target=kill_after, args=(seconds,), daemon=True).start()
        fetch("f.bin", [url], sha256, folder)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


def test_a_download_that_is_killed_repeatedly_ends_with_the_right_file(serve: Callable, tmp_path: Path) -> None:
    """It is killed at 20 random times; the server is slow and then fast."""
    is_slow = True

    def slow_answer(connection: socket.socket, request: bytes) -> None:
        begin = int(request.partition(b"Range: bytes=")[2].partition(b"-")[0] or 0)
        connection.sendall(head("206 x" if begin else "200 OK", Content_Range=f"bytes {begin}-/{len(DATA)}"))
        for place in range(begin, len(DATA), 8192):
            connection.sendall(DATA[place : place + 8192])
            time.sleep(0.01 * is_slow)

    server, folder = serve(slow_answer), tmp_path / "cache"
    (tmp_path / "temporary").mkdir()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path / "temporary")}
    command = [sys.executable, "-c", KILLED_PROGRAM]
    with subprocess.Popen(
        command, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:

        def run(seconds: float | None) -> int:
            process.stdin.write(json.dumps([server.url, SHA256, str(folder), seconds]) + "\n")
            process.stdin.flush()
            return int(process.stdout.readline())

        codes = [run(seconds) for seconds in np.random.default_rng(0).uniform(0, 0.06, 20)]
        is_slow = False
        assert codes.count(-signal.SIGKILL) >= 10, "too few downloads were killed"
        assert run(None) == 0
    assert (folder / "f.bin").read_bytes() == DATA
    assert {path.name for path in folder.iterdir()} == {"f.bin", "f.bin.lock"}
    assert not list((tmp_path / "temporary").iterdir())
    starts = [int(request.partition(b"bytes=")[2].partition(b"-")[0] or 0) for request in server.heads]
    assert starts == sorted(starts), "a download did not continue where it stopped"
