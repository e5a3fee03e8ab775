"""Random requests: none causes a server error or a memory leak.

Each test run sends 1000 of them to a service for pictures and to one for texts; the slow tests send 20,000.
"""

import json
import random
import socket
import threading
from collections import Counter
from contextlib import suppress

import hypothesis
import psutil
import pytest
from PIL import Image

from keras_course.deployment.guard import RequestLimits
from keras_course.deployment.openapi import openapi, text_openapi

pytestmark = pytest.mark.one_backend

SHAPE = (20, 28, 3)
MOST_MEMORY = 2**26
GOOD = frozenset({"", "200", "400", "403", "404", "405", "408", "413", "415", "421", "422", "431"})
"""The allowed statuses: no server error, and no 503, which is for many requests at once."""
METHODS = (b"GET", b"POST", b"HEAD", b"PUT", b"OPTIONS", b"DELETE", b"PATCH", b"TRACE", b"GET\0", b"get", b"")
PATHS = (b"/predict", b"/explain", b"/metadata", b"/health", b"/openapi.json", b"/docs", b"/", b"/nowhere")
QUERIES = (b"top=1", b"top=5", b"logits=true", b"logits=1&top=2", b"top=0", b"top=", b"a=b", b"%", b"top=1&top=2")
KINDS = (
    *(b"image/png", b"image/jpeg", b"application/octet-stream", b"application/x-npy"),
    *(b"application/json", b"text/plain", b"", b"a;b=c"),
)
HEADERS = (
    *(b"Accept: application/x-npy", b"Accept: */*", b"Expect: 100-continue", b"Upgrade: websocket", b"Cookie: a=b"),
    *(b"Origin: http://localhost", b"Sec-Fetch-Site: none", b"Content-Encoding: gzip", b"Connection: upgrade, close"),
    *(b"Range: bytes=0-5", b"X: \xff\xfe", b"Transfer-Encoding: gzip", b"Content-Length: 3", b"Host: evil.example"),
    *(b"If-None-Match: *", b"TE: trailers", b"Forwarded: for=evil", b"Content-Type: image/webp"),
)
BOUNDARY = b"multipart/form-data; boundary=e"


class Fuzz:
    """Makes random requests from valid parts that are damaged at random."""

    def __init__(self, seed, hostile):
        self.random = random.Random(seed)
        self.bodies = self.good_bodies(hostile)

    def good_bodies(self, hostile):
        """Bodies with their types, of which most are answered."""
        picture = Image.effect_noise((40, 31), 60).convert("RGB")
        pictures = [hostile.file_of(picture, kind) for kind in ("PNG", "JPEG", "WEBP", "BMP")]
        pictures += [hostile.photo(90), hostile.jpeg_of_scans(64, 60), hostile.png_of_profiles(3)]
        return [
            *((picture, b"image/png") for picture in pictures),
            (hostile.batch(1, SHAPE), b"application/x-npy"),
            (hostile.batch(40, SHAPE), b"application/x-npy"),
            (hostile.form_of(pictures[:3]), BOUNDARY),
            (b"", b"image/png"),
        ]

    def damaged(self, content):
        """Changes, removes, repeats or adds some bytes, or none."""
        content = bytearray(content)
        for _ in range(self.random.choice((0, 0, 1, 1, 3, 20))):
            place = self.random.randrange(len(content) + 1)
            end = place + self.random.randrange(1, 30)
            change = self.random.randrange(4)
            if change == 0:
                content[place:end] = b""
            elif change == 1:
                content[place:place] = content[place:end]
            elif change == 2:
                content[place:place] = self.random.randbytes(end - place)
            elif place < len(content):
                content[place] ^= 1 << self.random.randrange(8)
        return bytes(content)

    def request(self):
        body, kind = self.random.choice(self.bodies)
        choose = self.random.choice
        is_post = self.random.random() < 0.7
        method = b"POST" if is_post else choose(METHODS)
        path = choose(PATHS[:2] if is_post and self.random.random() < 0.9 else PATHS)
        if self.random.random() < 0.3:
            path += b"?" + choose(QUERIES)
        kind = choose(KINDS) if self.random.random() < 0.2 else kind
        if self.random.random() < 0.7:
            body = self.damaged(body)
        head = [method + b" " + path + b" HTTP/1.1", b"Host: localhost", b"Content-Type: " + kind, b"Connection: close"]
        head += self.random.sample(HEADERS, choose((0, 0, 0, 1, 2)))
        if self.random.random() < 0.15:
            head.append(b"Transfer-Encoding: chunked")
            size = choose((50, 1000, 10**6))
            parts = [body[start : start + size] for start in range(0, len(body), size)]
            body = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
        else:
            head.append(b"Content-Length: %d" % len(body))
        start = b"\r\n".join(head) + b"\r\n\r\n"
        if self.random.random() < 0.1:
            start = self.damaged(start)
        return start + body


class TextFuzz(Fuzz):
    """Makes requests for a service for texts."""

    def good_bodies(self, hostile):
        texts = ("to be", "or not, to be", "quid", "\u624b\U0001f600 be", "to " * 7)
        objects = [{"texts": [text]} for text in texts] + [{"texts": list(texts) * 20}]
        encoded = [json.dumps(one, ensure_ascii=place % 2 == 0).encode() for place, one in enumerate(objects)]
        return [
            *((content, b"application/json") for content in encoded),
            *((text.encode(), b"text/plain; charset=utf-8") for text in texts),
            (b'{"texts": ["\\ud800"]}', b"application/json"),
            (b"[" * 5000, b"application/json"),
            (b"", b"text/plain"),
        ]


def send(server, content):
    """Sends a request and returns the status; empty if the server still waits for more."""
    answer = b""
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        with suppress(ConnectionError):  # the server may close the connection early
            connection.sendall(content)
        connection.settimeout(0.5)
        with suppress(ConnectionError, TimeoutError):
            while part := connection.recv(2**16):
                answer += part
    return answer.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n")[9:12].decode("latin-1")


def memory_of(server):
    process = psutil.Process(server.process.pid)
    return sum(one.memory_info().rss for one in (process, *process.children(recursive=True)))


def fuzz(server, make, count, threads=4):
    seen = Counter()
    wrong = []

    def work(number):
        source = make(number)
        for _ in range(count // threads):
            content = source.request()
            status = send(server, content)
            seen[status] += 1
            if status not in GOOD:
                wrong.append((status, content[:1000]))

    source = make(-1)
    for _ in range(100):  # warm-up
        send(server, source.request())
    before = memory_of(server)
    running = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    more = memory_of(server) - before
    print(f"{sum(seen.values()):,} requests: {dict(seen.most_common())}; {more / 2**20:.0f} MiB more")
    assert not wrong
    assert sum(seen.values()) == count
    assert seen["200"] > count / 10, "too few requests pass the first check"
    assert seen["422"] > count / 20
    assert more < MOST_MEMORY
    server.check()


SERVERS = pytest.mark.parametrize(("name", "kind"), [("onnx_server", Fuzz), ("text_server", TextFuzz)])


@SERVERS
def test_1000_random_requests_cause_no_server_error(request, hostile, name, kind):
    fuzz(request.getfixturevalue(name), lambda seed: kind(seed, hostile), 1000)


@pytest.mark.slow
@SERVERS
def test_20000_random_requests_cause_no_server_error(request, hostile, name, kind):
    fuzz(request.getfixturevalue(name), lambda seed: kind(seed, hostile), 20_000)


PATHS_OF = {
    "onnx_server": ("/predict", "/explain", "/metadata", "/health", "/openapi.json"),
    "text_server": ("/predict", "/metadata"),
}


@pytest.mark.parametrize("examples", [30, pytest.param(1000, marks=pytest.mark.slow)])
@pytest.mark.parametrize(("name", "path"), [(name, path) for name, paths in PATHS_OF.items() for path in paths])
def test_answers_match_the_openapi_description_in_schemathesis(request, name, path, examples):
    import schemathesis
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi import checks

    server = request.getfixturevalue(name)
    description = openapi(RequestLimits(), 5) if name == "onnx_server" else text_openapi(RequestLimits(), 5, 5)
    schema = schemathesis.openapi.from_dict(description)
    wanted = [not_a_server_error, checks.status_code_conformance, checks.content_type_conformance]
    wanted.append(checks.response_schema_conformance)
    (operation,) = (found.ok() for found in schema.get_all_operations() if found.ok().path == path)
    for mode in schemathesis.GenerationMode if operation.method == "post" else [schemathesis.GenerationMode.POSITIVE]:

        @hypothesis.settings(
            max_examples=examples,
            deadline=None,
            database=None,
            derandomize=True,
            suppress_health_check=list(hypothesis.HealthCheck),
        )
        @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
        def check(case):
            answer = case.call(base_url=f"http://127.0.0.1:{server.port}")
            case.validate_response(answer, checks=wanted)

        check()
    server.check()
