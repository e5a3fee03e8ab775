"""Hostile requests: each one is refused with an explanation, and the service continues."""

import io
import json
import os
import pickle
import socket
import struct
import tempfile
import time
import zlib
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

pytestmark = pytest.mark.one_backend

PNG = {"Content-Type": "image/png"}
NPY = {"Content-Type": "application/x-npy"}


def file_of(image, kind="PNG", **settings):
    file = io.BytesIO()
    image.save(file, kind, **settings)
    return file.getvalue()


SMALL = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype="uint8"))
GOOD = file_of(SMALL)
JPEG = file_of(SMALL, "JPEG")


def chunk(name, content):
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png_with_header(width, height, content=b""):
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(content)) + chunk(b"IEND", b"")


def text_bomb():
    """Returns a PNG with a text chunk of some kB that unpacks to 200 MB."""
    return GOOD[:33] + chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"a" * 200_000_000, 9)) + GOOD[33:]


def npy_with_header(header, content=b""):
    text = repr(header).encode() if isinstance(header, dict) else header
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + content


MARKER = Path(tempfile.gettempdir()) / f"keras_course_was_here_{os.getpid()}"


class Evil:
    def __reduce__(self):
        return os.system, (f"touch {MARKER}",)


HEADER = {"descr": "|u1", "fortran_order": False, "shape": (2, 20, 28, 3)}
BODY = bytes(2 * 20 * 28 * 3)

HOSTILE = {
    "nothing at all": (b"", PNG, 400),
    "a text": (b"hello", PNG, 422),
    "a page": (b"<html><script>alert(1)</script></html>", PNG, 422),
    "a drawing with a program": (b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>", PNG, 422),
    "a GIF": (file_of(SMALL, "GIF"), PNG, 422),
    "a TIFF": (file_of(SMALL, "TIFF"), PNG, 422),
    "PostScript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(r) file\n", PNG, 422),
    "half a PNG": (GOOD[: len(GOOD) // 2], PNG, 422),
    "half a JPEG": (JPEG[: len(JPEG) // 2], {"Content-Type": "image/jpeg"}, 422),
    "a beginning alone": (GOOD[:8], PNG, 422),
    "noise after a beginning": (GOOD[:40] + bytes(range(256)) * 20, PNG, 422),
    "a bomb of pixels": (png_with_header(50_000, 50_000, bytes(1000)), PNG, 422),
    "a bomb of pixels in a line": (png_with_header(2**31 - 1, 1), PNG, 422),
    "a real picture of 64 megapixels": (file_of(Image.new("1", (8000, 8000))), PNG, 422),
    "too many bytes": (b"\x89PNG" + bytes(9 * 2**20), PNG, 413),
    "an unknown kind": (GOOD, {"Content-Type": "application/x-tar"}, 415),
    "no kind": (GOOD, {"Content-Type": ""}, 415),
    "JSON": (b'{"picture": "/etc/passwd"}', {"Content-Type": "application/json"}, 415),
    "a form without an edge": (GOOD, {"Content-Type": "multipart/form-data"}, 400),
    "a form that ends early": (
        b'--e\r\nContent-Disposition: form-data; name="picture"; filename="a.png"\r\n\r\n' + GOOD[:20],
        {"Content-Type": "multipart/form-data; boundary=e"},
        400,
    ),
    "a form with a text": (
        b'--e\r\nContent-Disposition: form-data; name="picture"\r\n\r\n/etc/passwd\r\n--e--\r\n',
        {"Content-Type": "multipart/form-data; boundary=e"},
        400,
    ),
    "a form with another field": (
        b'--e\r\nContent-Disposition: form-data; name="other"; filename="a.png"\r\n\r\nx\r\n--e--\r\n',
        {"Content-Type": "multipart/form-data; boundary=e"},
        400,
    ),
    "a form with too many files": (
        b'--e\r\nContent-Disposition: form-data; name="picture"; filename="a.png"\r\n\r\nx\r\n' * 40 + b"--e--\r\n",
        {"Content-Type": "multipart/form-data; boundary=e"},
        400,
    ),
    "a pickle": (pickle.dumps(Evil()), NPY, 422),
    "an array of objects": (
        npy_with_header({**HEADER, "descr": "|O", "shape": (1, 20, 28, 3)}, pickle.dumps([Evil()])),
        NPY,
        422,
    ),
    "an array of terabytes": (npy_with_header({**HEADER, "shape": (2**40, 20, 28, 3)}), NPY, 422),
    "an array of a negative size": (npy_with_header({**HEADER, "shape": (-2, 20, 28, 3)}, BODY), NPY, 422),
    "an array of no pictures": (npy_with_header({**HEADER, "shape": (0, 20, 28, 3)}), NPY, 422),
    "an array in another shape": (npy_with_header({**HEADER, "shape": (2, 28, 20, 3)}, BODY), NPY, 422),
    "an array of floats": (npy_with_header({**HEADER, "descr": "<f4"}, BODY * 4), NPY, 422),
    "an array by columns": (npy_with_header({**HEADER, "fortran_order": True}, BODY), NPY, 422),
    "an array with less than it claims": (npy_with_header(HEADER, BODY[:-1]), NPY, 422),
    "an array with more than it claims": (npy_with_header(HEADER, BODY + b"x"), NPY, 422),
    "an array with a program in its header": (npy_with_header(b"__import__('os').system('true')"), NPY, 422),
    "an array with a deep header": (npy_with_header(b"(" * 5000), NPY, 422),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_bodies_are_refused_with_an_explanation(onnx_server, name):
    body, headers, expected = HOSTILE[name]
    for path in ("/predict", "/explain"):
        started = time.perf_counter()
        status, answer = onnx_server.ask("POST", path, body, headers)
        assert (status, set(answer)) == (expected, {"error"})
        assert len(answer["error"]) > 10
        assert "Traceback" not in answer["error"]
        assert time.perf_counter() - started < 5
    assert onnx_server.ask("POST", "/predict", GOOD, PNG)[0] == 200
    assert not MARKER.exists()


def test_valid_bodies_of_these_kinds_are_answered(onnx_server):
    """The bodies above must be refused only because of their errors."""
    for body, headers in ((GOOD, PNG), (JPEG, PNG), (npy_with_header(HEADER, BODY), NPY)):
        assert onnx_server.ask("POST", "/predict", body, headers)[0] == 200
    info = PngImagePlugin.PngInfo()
    info.add_text("Comment", "a" * 1000, zip=True)
    assert onnx_server.ask("POST", "/predict", file_of(SMALL, pnginfo=info), PNG)[0] == 200
    # the pixels are read without the bomb in the metadata
    assert onnx_server.ask("POST", "/predict", text_bomb(), PNG)[0] == 200


@pytest.mark.parametrize(
    "query", ["top=0", "top=-1", "top=6", "top=x", "top=1e3", "top=", "top=٣", f"top={'9' * 5000}"]
)
def test_a_wrong_number_is_explained(onnx_server, query):
    status, answer = onnx_server.ask(
        "POST", f"/predict?{query.encode('ascii', 'xmlcharrefreplace').decode()}", GOOD, PNG
    )
    assert status == 400
    assert "give a whole number from 1 to 5" in answer["error"]


@pytest.mark.parametrize(
    "path", ["/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/predict/..", "/page.js", "//health"]
)
def test_unknown_paths_are_not_found(onnx_server, path):
    assert onnx_server.ask("GET", path)[0] == 404


@pytest.mark.parametrize(("method", "path"), [("GET", "/predict"), ("DELETE", "/metadata"), ("POST", "/health")])
def test_a_wrong_method_is_refused(onnx_server, method, path):
    assert onnx_server.ask(method, path)[0] == 405


# --- Malformed HTTP --------------------------------------------------------------------------------------------


HEAD = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n"


@pytest.mark.parametrize(
    ("name", "parts"),
    {
        "huge headers": (HEAD, b"X-Filler: " + b"a" * 100_000 + b"\r\n\r\n"),
        "many headers": (HEAD, b"".join(b"X-%d: a\r\n" % number for number in range(20_000)), b"\r\n"),
        "a huge first line": (b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",),
        "no HTTP": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(50) + b"\r\n\r\n",),
        "a length that is no number": (HEAD, b"Content-Length: many\r\n\r\n"),
        "a negative length": (HEAD, b"Content-Length: -5\r\n\r\n"),
        "a huge length": (HEAD, b"Content-Length: 99999999999\r\n\r\n"),
        "two lengths": (HEAD, b"Content-Length: 5\r\nContent-Length: 50\r\n\r\nhello"),
        "a broken chunk": (HEAD, b"Transfer-Encoding: chunked\r\n\r\nZZZ\r\n"),
        "a length and chunks": (HEAD, b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        "a path that is no text": (b"GET /\xff\xe9 HTTP/1.1\r\nHost: localhost\r\n\r\n",),
        "two hosts": (b"GET /health HTTP/1.1\r\nHost: evil.example\r\nHost: localhost\r\n\r\n",),
        "no host": (b"GET /health HTTP/1.1\r\n\r\n",),
    }.items(),
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_malformed_requests_are_refused(onnx_server, name, parts):
    answer = onnx_server.send_raw(*parts)
    line, _, body = answer.partition(b"\r\n")
    assert answer == b"" or line.split()[1][:1] == b"4", line
    assert answer == b"" or set(json.loads(body.rpartition(b"\r\n\r\n")[2])) == {"error"}
    assert onnx_server.ask("POST", "/predict", GOOD, PNG)[0] == 200


def test_endless_chunks_are_cut_off_at_the_size_limit(onnx_server):
    block = b"10000\r\n" + bytes(0x10000) + b"\r\n"
    line = onnx_server.send_raw(HEAD, b"Transfer-Encoding: chunked\r\n\r\n", *[block] * 200)
    assert line == b"" or line.startswith(b"HTTP/1.1 413")
    assert onnx_server.ask("POST", "/predict", GOOD, PNG)[0] == 200


def test_a_client_that_disconnects_early_frees_its_place(onnx_server):
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", onnx_server.port), timeout=30) as connection:
            connection.sendall(HEAD + b"Content-Length: 5000\r\n\r\n" + GOOD[:50])
    for _ in range(500):
        health = onnx_server.ask("GET", "/health")[1]
        if health["requests"] == 0:
            break
        time.sleep(0.01)
    assert health == {"status": "ok", "requests": 0}
    assert onnx_server.ask("POST", "/predict", GOOD, PNG)[0] == 200


def test_a_client_that_never_ends_its_headers_is_disconnected(onnx_server):
    started = time.perf_counter()
    with socket.create_connection(("127.0.0.1", onnx_server.port), timeout=60) as connection:
        connection.sendall(b"POST /predict HTTP/1.1\r\nHost: localhost\r\n")
        answer = b""
        for _ in range(60):
            connection.settimeout(0.5)
            try:
                answer = connection.recv(100)
                break
            except TimeoutError:
                connection.sendall(b"X: a\r\n")  # it continues slowly
    assert answer.startswith(b"HTTP/1.1 408")
    assert 1.5 < time.perf_counter() - started < 15


def test_a_body_that_continues_after_its_answer_is_cut_off(onnx_server):
    started = time.perf_counter()
    with socket.create_connection(("127.0.0.1", onnx_server.port), timeout=30) as connection:
        connection.sendall(HEAD.replace(b"image/png", b"a/b") + b"Content-Length: 100000\r\n\r\n")
        assert connection.recv(1000).startswith(b"HTTP/1.1 415")
        connection.settimeout(0.2)
        is_open = True
        for _ in range(80):
            try:
                connection.sendall(b"x")  # it continues slowly
                is_open = connection.recv(1000) != b""
            except TimeoutError:
                continue
            except OSError:
                is_open = False
            if not is_open:
                break
    assert not is_open
    assert time.perf_counter() - started < 12


def test_the_oldest_idle_connections_are_closed_when_there_are_too_many(start_server, onnx_file):
    server = start_server(onnx_file, "--requests", 1)
    with ExitStack() as stack:
        connections = [
            stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=30)) for _ in range(80)
        ]
        for connection in connections[:16]:
            assert stack.enter_context(connection.makefile("rb")).read().startswith(b"HTTP/1.1 503")
        assert server.ask("POST", "/predict", GOOD, PNG)[0] == 200, "a new client is answered"
        connections[-1].sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert connections[-1].recv(100).startswith(b"HTTP/1.1 200")
    server.check()
