"""The host names that the service accepts, and cross-site requests."""

import asyncio
import json
import socket
from pathlib import Path

import numpy as np
import pytest

from keras_course.cards import ModelCard
from keras_course.deployment import serve as serving
from keras_course.deployment.runtimes import Runtime
from keras_course.deployment.service import make_app
from keras_course.errors import CourseError
from keras_course.preprocessing import PictureFormat

pytestmark = pytest.mark.one_backend

CARD = ModelCard(
    title="x", class_names=("a", "b"), picture_format=PictureFormat(height=2, width=2, channels=1), data="x"
)
RUNTIME = Runtime(Path("x.onnx"), "onnx", "Nothing 1.0", CARD, lambda pictures: np.zeros((len(pictures), 2), "float32"))
BATCH = (b"content-type", b"application/x-npy")
ADDRESS = "192.0.2.7"
BODY = (
    b"\x93NUMPY\x01\x00\x76\x00"
    + repr({"descr": "|u1", "fortran_order": False, "shape": (1, 2, 2, 1)}).encode().ljust(0x76)
    + bytes(4)
)


def ask(headers, *, method="POST", to=ADDRESS, hosts=("localhost", "box", "model.example.com"), origins=()):
    """Returns the status and the error of one request to an address of this machine."""
    sent = []

    async def receive():
        return {"type": "http.request", "body": BODY if method == "POST" else b"", "more_body": False}

    async def send(message):
        sent.append(message)

    scope = {
        "type": "http",
        "method": method,
        "path": "/predict" if method == "POST" else "/health",
        "query_string": b"",
        "server": (to, 8000),
        "headers": [BATCH, *((name.encode(), value.encode()) for name, value in headers)],
    }
    asyncio.run(make_app(RUNTIME, hosts=hosts, origins=origins)(scope, receive, send))
    answer = json.loads(b"".join(message.get("body", b"") for message in sent))
    return sent[0]["status"], answer.get("error", "")


@pytest.mark.parametrize(
    "host",
    ["localhost", "LocalHost:80", "box:8000", "Model.Example.com", "model.example.com:443", ADDRESS, f"{ADDRESS}:8000"],
)
def test_requests_to_own_names_and_addresses_are_answered(host):
    for method in ("GET", "POST"):
        assert ask([("host", host)], method=method)[0] == 200


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("host", "")],
        [("host", "evil.example")],
        [("host", "localhost.evil.example")],
        [("host", "evil.example:8000")],
        [("host", "localhost"), ("host", "evil.example")],
        [("host", "localhost, evil.example")],
        [("host", "http://localhost")],
        [("host", "user@localhost")],
        [("host", "192.0.2.8")],
        [("host", "3221225991")],  # the address of this machine as one number
        [("host", "0xc0000207")],
        [("host", "192.0.2.7.evil.example")],
        [("host", "[::ffff:192.0.2.8]")],
    ],
)
def test_other_names_are_refused_with_a_hint_at_the_option(headers):
    for method in ("GET", "POST"):
        status, error = ask(headers, method=method)
        assert status == 421
        assert "this service answers to localhost and box and model.example.com; --allowed-host adds a name" in error


@pytest.mark.parametrize(
    ("host", "to", "expected"),
    [
        ("[2001:db8::7]:8000", "2001:db8::7", 200),
        ("[2001:DB8:0::7]", "2001:db8::7", 200),
        ("[2001:db8::8]", "2001:db8::7", 421),
        ("192.0.2.7", "::ffff:192.0.2.7", 200),
        ("[::ffff:192.0.2.7]", "192.0.2.7", 200),
        ("[fe80::1]", "fe80::1%eth0", 200),
    ],
)
def test_addresses_are_compared_in_any_notation(host, to, expected):
    assert ask([("host", host)], to=to)[0] == expected


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, 200),  # a program
        ({"origin": "http://localhost:8000"}, 200),
        ({"origin": "http://LOCALHOST:8000", "sec-fetch-site": "same-origin"}, 200),
        ({"origin": "https://localhost:8000"}, 200),  # a proxy that adds TLS
        ({"origin": "null", "sec-fetch-site": "same-origin"}, 200),
        ({"sec-fetch-site": "none"}, 200),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "http://evil.example", "sec-fetch-site": "same-origin"}, 403),
        ({"origin": "http://localhost:8000", "sec-fetch-site": "cross-site"}, 403),
        ({"origin": "http://localhost:3000", "sec-fetch-site": "same-site"}, 403),  # another program on this machine
        ({"origin": "http://localhost"}, 403),
        ({"origin": "http://localhost:8000.evil.example"}, 403),
        ({"origin": "http://evil.example?localhost:8000"}, 403),
        ({"origin": "null"}, 403),  # a local file, or a page that hides its origin
        ({"origin": ""}, 403),
        ({"origin": "localhost:8000"}, 403),
        ({"origin": "https://model.example.com"}, 403),
    ],
)
def test_cross_site_pictures_are_refused(headers, expected):
    status, error = ask([("host", "localhost:8000"), *headers.items()])
    assert status == expected
    assert ("cross-site request refused" in error) == (expected == 403)
    assert ask([("host", "localhost:8000"), *headers.items()], method="GET")[0] == 200, "a link is allowed"


def test_an_allowed_name_is_accepted_behind_a_proxy():
    """The proxy can use another host name for the service, while the browser sends that of the proxy."""
    allowed = ["model.example.com"]
    for host in ("localhost:8000", "model.example.com"):
        for origin in ("https://model.example.com", "http://model.example.com:8080"):
            assert ask([("host", host), ("origin", origin)], origins=allowed)[0] == 200
        assert ask([("host", host), ("origin", "https://other.example.com")], origins=allowed)[0] == 403
    assert ask([("host", "model.example.com:443"), ("origin", "https://model.example.com")])[0] == 200


def test_names_of_this_machine_and_allowed_hosts_are_answered_on_all_addresses(start_server, onnx_file):
    server = start_server(onnx_file, "--host", "0.0.0.0", "--allowed-host", "Model.example.com")
    for host in ("127.0.0.1", f"localhost:{server.port}", socket.gethostname(), "model.example.com"):
        assert server.ask("GET", "/health", headers={"Host": host})[0] == 200
    for host in ("evil.example", "0.0.0.0", "127.0.0.2"):
        status, answer = server.ask("GET", "/health", headers={"Host": host})
        assert status == 421
        assert "--allowed-host" in answer["error"]
    with socket.create_connection(("127.0.0.2", server.port), timeout=30) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: 127.0.0.2\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 200"), "another address of this machine as host"
    assert server.stop() == 0


def test_an_invalid_host_name_is_explained():
    assert serving.check_hosts(["Model.example.com", "192.0.2.7", "[2001:db8::7]", "my_box"]) == [
        "model.example.com",
        "192.0.2.7",
        "[2001:db8::7]",
        "my_box",
    ]
    for name in ("", "*", "http://a.example", "a.example:80", "a.example/", "a b", "a\nb", ".a", "a.", "ä.example"):
        with pytest.raises(CourseError, match=r"--allowed-host is .*; give a name such as model\.example"):
            serving.check_hosts([name])
