"""The service for its clients: a real server, real requests, and answers compared with the model."""

import asyncio
import http.client
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from keras_course._backend import select
from keras_course.cards import read_card
from keras_course.deployment import connections
from keras_course.deployment import serve as serving
from keras_course.deployment.guard import RequestLimits
from keras_course.deployment.model_files import load_keras_model
from keras_course.deployment.predict import predictions_of
from keras_course.deployment.runtimes import Runtime
from keras_course.deployment.service import make_app
from keras_course.errors import CourseError, MissingPackageError
from keras_course.preprocessing import prepare
from keras_course.training import predict_logits

PNG = {"Content-Type": "image/png"}
NPY = {"Content-Type": "application/x-npy"}


def photo(seed=0, size=(40, 31), kind="PNG"):
    """Returns the content of a file with a picture of random blocks."""
    blocks = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), dtype="uint8")
    file = io.BytesIO()
    Image.fromarray(blocks).resize(size, Image.Resampling.NEAREST).save(file, kind)
    return file.getvalue()


def head_of(content):
    lines = ["POST /predict HTTP/1.1", "Host: localhost", "Content-Type: image/png", f"Content-Length: {len(content)}"]
    return "\r\n".join([*lines, "", ""]).encode()


def npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


@pytest.fixture(scope="session")
def model(cnn_run):
    return load_keras_model(cnn_run / "model.keras")


@pytest.fixture(scope="session")
def card(cnn_run):
    return read_card(cnn_run / "model.keras")


def expected_answer(model, card, content):
    """Returns Keras' logits for a file, and the classes with their probabilities, the most probable first."""
    logits = predict_logits(model, prepare(content, card.picture_format)[None])[0].astype("float64")
    shares = np.exp(logits - logits.max())
    shares /= shares.sum()
    return logits, sorted(zip(card.class_names, shares, strict=True), key=lambda pair: -pair[1])


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP"])
def test_a_picture_gets_the_answers_of_the_model(server, model, card, kind):
    content = photo(seed=3, kind=kind)
    status, answer = server.ask(
        "POST", "/predict?top=4&logits=true", content, {"Content-Type": f"image/{kind.lower()}"}
    )
    assert status == 200
    (prediction,) = answer["predictions"]
    logits, expected = expected_answer(model, card, content)
    np.testing.assert_allclose(prediction["logits"], logits, atol=1e-4)
    assert [found["class"] for found in prediction["answers"]] == [name for name, _ in expected[:4]]
    found = [found["probability"] for found in prediction["answers"]]
    np.testing.assert_allclose(found, [share for _, share in expected[:4]], atol=1e-4)
    assert answer["milliseconds"] > 0


def test_by_default_the_answer_has_three_classes_and_no_logits(server):
    _, answer = server.ask("POST", "/predict", photo(), {"Content-Type": "application/octet-stream"})
    (prediction,) = answer["predictions"]
    assert set(prediction) == {"picture", "answers"}
    assert len(prediction["answers"]) == 3


def test_a_form_can_have_several_pictures(server, model, card):
    contents = [photo(seed, kind=kind) for seed, kind in enumerate(["PNG", "JPEG", "PNG"])]
    parts = b"".join(
        b'--edge\r\nContent-Disposition: form-data; name="picture"; filename="%d.bin"\r\n\r\n%b\r\n' % (number, content)
        for number, content in enumerate(contents)
    )
    headers = {"Content-Type": "multipart/form-data; boundary=edge"}
    status, answer = server.ask("POST", "/predict?logits=1", parts + b"--edge--\r\n", headers)
    assert status == 200
    assert [prediction["picture"] for prediction in answer["predictions"]] == ["0.bin", "1.bin", "2.bin"]
    for prediction, content in zip(answer["predictions"], contents, strict=True):
        np.testing.assert_allclose(prediction["logits"], expected_answer(model, card, content)[0], atol=1e-4)


def test_a_prepared_batch_is_used_unchanged(server, model, card):
    batch = np.random.default_rng(1).integers(0, 256, (70, *card.picture_format.shape), dtype="uint8")
    status, answer = server.ask("POST", "/predict?top=1&logits=true", npy(batch), NPY)
    assert status == 200
    expected = predict_logits(model, batch)
    np.testing.assert_allclose([row["logits"] for row in answer["predictions"]], expected, atol=1e-4)
    names = [row["answers"][0]["class"] for row in answer["predictions"]]
    assert names == [card.class_names[number] for number in expected.argmax(axis=1)]


def test_logits_can_be_requested_as_npy(server, model, card):
    batch = np.random.default_rng(2).integers(0, 256, (40, *card.picture_format.shape), dtype="uint8")
    for body, kind, expected in (
        (npy(batch), NPY, batch),
        (photo(7), PNG, prepare(photo(7), card.picture_format)[None]),
    ):
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        connection.request("POST", "/predict", body, {**kind, "Accept": "application/x-npy"})
        response = connection.getresponse()
        assert (response.status, response.headers["Content-Type"]) == (200, "application/x-npy")
        logits = np.load(io.BytesIO(response.read()), allow_pickle=False)
        connection.close()
        assert logits.dtype == np.float32
        np.testing.assert_allclose(logits, predict_logits(model, expected), atol=1e-4)


def test_explain_returns_a_heat_map(server, model, card):
    content = photo(seed=5)
    status, answer = server.ask("POST", "/explain", content, PNG)
    assert status == 200
    assert answer["class"] == expected_answer(model, card, content)[1][0][0]
    heat = np.array(answer["heat"])
    assert heat.shape == card.picture_format.shape[:2]
    assert heat.min() >= 0
    assert heat.max() <= 1
    assert answer["method"] == ("Grad-CAM" if "Keras" in server.announced else "occlusion")


def test_metadata_equals_the_card_of_the_model(server, card):
    status, answer = server.ask("GET", "/metadata")
    assert status == 200
    assert answer["class_names"] == list(card.class_names)
    assert answer["pictures"] == card.picture_format.to_dict()
    assert answer["title"] == card.title
    assert answer["runtime"] in server.announced


def test_health_and_every_described_path_exist(server):
    assert server.ask("GET", "/health")[1]["status"] == "ok"
    status, document = server.ask("GET", "/openapi.json")
    assert status == 200
    assert document["openapi"].startswith("3.1")
    for path, operations in document["paths"].items():
        for method in operations:
            status, _ = server.ask(method.upper(), path, photo() if method == "post" else None, PNG)
            assert status == 200, f"{method} {path} is described and does not exist"
    body = document["paths"]["/predict"]["post"]["requestBody"]["content"]
    assert {"image/png", "multipart/form-data", "application/x-npy"} < set(body)


def test_answers_have_every_described_property(server):
    """The description is written by hand, so each required property is checked."""
    document = server.ask("GET", "/openapi.json")[1]

    def check(schema, value):
        kinds = {"object": dict, "array": list, "string": str, "number": (int, float)}
        assert isinstance(value, kinds[schema["type"]])
        for name in schema.get("required", ()):
            check(schema["properties"][name], value[name])
        for item in value if schema["type"] == "array" else ():
            check(schema.get("items", {"type": "number"}), item)

    for path in ("/predict", "/explain"):
        good = document["paths"][path]["post"]["responses"]["200"]["content"]["application/json"]["schema"]
        check(good, server.ask("POST", path, photo(), PNG)[1])
    error = document["paths"]["/predict"]["post"]["responses"]["422"]["content"]["application/json"]["schema"]
    check(error, server.ask("POST", "/predict", b"no picture", PNG)[1])


# --- Many requests ---------------------------------------------------------------------------------------------


def test_each_of_2000_parallel_requests_gets_its_own_answer(server, model, card):
    distinct, clients, rounds = 100, 16, 125
    files = [photo(seed, size=(28, 20)) for seed in range(distinct)]
    expected = predict_logits(model, np.stack([prepare(file, card.picture_format) for file in files]))
    assert len(np.unique(expected.round(3), axis=0)) == distinct, "the expected answers must differ"

    def client(number):
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        measured = []
        for turn in range(rounds):
            which = (number * 37 + turn * 11) % distinct
            started = time.perf_counter()
            connection.request("POST", "/predict?logits=true", files[which], PNG)
            response = connection.getresponse()
            answer = json.loads(response.read())
            measured.append(time.perf_counter() - started)
            assert response.status == 200, answer
            np.testing.assert_allclose(answer["predictions"][0]["logits"], expected[which], atol=1e-4)
        connection.close()
        return measured

    started = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        seconds = sorted(second for measured in pool.map(client, range(clients)) for second in measured)
    assert len(seconds) == clients * rounds == 2000
    p50, p99 = (1000 * seconds[int(share * len(seconds))] for share in (0.5, 0.99))
    rate = len(seconds) / (time.perf_counter() - started)
    print(f"{len(seconds):,} requests of {clients} clients: p50 {p50:.1f} ms, p99 {p99:.1f} ms, {rate:.0f} a second")
    assert server.ask("GET", "/health")[1] == {"status": "ok", "requests": 0}


@pytest.mark.one_backend
def test_clients_that_do_not_send_do_not_block_others(start_server, onnx_file):
    server = start_server(onnx_file, "--requests", 1, "--seconds", 2)
    content = photo()
    with ExitStack() as stack:
        slow = [stack.enter_context(socket.create_connection(("127.0.0.1", server.port))) for _ in range(5)]
        for connection in slow:
            connection.sendall(head_of(content) + content[:10])
        assert server.ask("POST", "/predict", content, PNG)[0] == 200
        slow[0].sendall(content[10:])
        assert slow[0].recv(100).startswith(b"HTTP/1.1 200")
        # the others never send the rest
        slow[1].settimeout(20)
        assert slow[1].recv(100).startswith(b"HTTP/1.1 408")
    assert server.ask("GET", "/health")[1]["requests"] == 0
    assert server.stop() == 0


def test_requests_beyond_the_limit_are_told_to_retry_later(card):
    """Two are in progress; the next one is refused after its head, and so is one that started before."""
    go_on = threading.Event()

    def run(pictures):
        assert go_on.wait(20)
        return np.zeros((len(pictures), len(card.class_names)))

    async def main():
        app = make_app(Runtime(Path("model.onnx"), "onnx", "Nothing 1.0", card, run), limits=RequestLimits(requests=2))
        early = asyncio.create_task(ask_app(app, photo(), wait_for=(sent := asyncio.Event())))
        await asyncio.sleep(0.05)
        taken = [asyncio.create_task(ask_app(app, photo())) for _ in range(2)]
        await asyncio.sleep(0.2)
        refused = [await ask_app(app, photo())]
        sent.set()
        refused.append(await early)
        go_on.set()
        assert [(await one)[0] for one in taken] == [200, 200]
        assert (await ask_app(app, photo()))[0] == 200
        return refused

    for status, answer in asyncio.run(main()):
        assert (status, answer["error"]) == (503, "2 requests are under way; retry later")


@pytest.mark.one_backend
@pytest.mark.parametrize(("told", "code"), [(signal.SIGINT, 0), (signal.SIGTERM, -signal.SIGTERM)])
def test_requests_in_progress_are_finished_before_the_server_stops(start_server, onnx_file, told, code):
    server = start_server(onnx_file)
    content = photo()
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=30)
    connection.sendall(head_of(content) + content[:10])
    time.sleep(0.2)
    threading.Timer(0.5, connection.sendall, [content[10:]]).start()
    server.process.send_signal(told)
    assert connection.recv(100).startswith(b"HTTP/1.1 200")
    connection.close()
    assert server.process.wait(30) == code
    assert server.errors() == ""


# --- A model that fails ------------------------------------------------------------------------------------------


async def ask_app(app, content, kind="image/png", path="/predict", query="", wait_for=None):
    """Sends a request to an application, and returns the status and the JSON of the answer."""
    sent, body = [], [content, b""]

    async def receive():
        if wait_for is not None and len(body) == 1:
            await wait_for.wait()
        return {"type": "http.request", "body": body.pop(0), "more_body": bool(body)}

    async def send(message):
        sent.append(message)

    headers = [(b"content-type", kind.encode()), (b"host", b"localhost")]
    scope = {"type": "http", "method": "POST", "path": path, "query_string": query.encode(), "headers": headers}
    with suppress(OSError, CourseError):  # the server would log it
        await app(scope, receive, send)
    return sent[0]["status"], json.loads(b"".join(message.get("body", b"") for message in sent))


def ask_in_process(card, run, content=None, kind="image/png", path="/predict", query="", **limits):
    """Sends a request to an application with the model ``run``, and returns the status and the JSON of the answer."""
    app = make_app(Runtime(Path("model.onnx"), "onnx", "Nothing 1.0", card, run), limits=RequestLimits(**limits))
    return asyncio.run(ask_app(app, photo() if content is None else content, kind, path, query))


def test_an_error_of_the_model_does_not_end_the_service(card):
    def run(pictures):
        raise OSError("/secret/path")

    assert ask_in_process(card, run) == (500, {"error": "the model could not answer; the service goes on"})


def test_a_model_beyond_the_time_limit_is_answered_as_busy(card):
    def run(pictures):
        time.sleep(1.5)
        return np.zeros((len(pictures), len(card.class_names)))

    status, answer = ask_in_process(card, run, seconds=1)
    assert (status, answer["error"]) == (503, "the service is too busy to answer within 1 seconds; retry later")


# --- The log ---------------------------------------------------------------------------------------------------

LINE = re.compile(
    r"(?P<time>\S+) (?P<method>\S+) (?P<path>\".*\") (?P<status>\d+|-) (?P<took>[\d.]+) ms (?P<pictures>\d+) pictures"
)


@pytest.fixture(scope="module")
def logging_server(start_server, onnx_file):
    return start_server(onnx_file, "--log", "--seconds", 2)


@pytest.fixture
def logged(logging_server):
    """Returns a function that waits for this number of new lines in the log, and returns their fields."""
    before = len(logging_server.errors())

    def logged(count):
        for _ in range(500):
            lines = logging_server.errors()[before:].splitlines()
            if len(lines) >= count:
                break
            time.sleep(0.01)
        found = [LINE.fullmatch(line) for line in lines]
        assert None not in found, lines
        return [line.groupdict() for line in found]

    return logged


def test_each_request_is_logged_as_one_line(logging_server, logged, card):
    started = datetime.now().astimezone()
    batch = npy(np.zeros((7, *card.picture_format.shape), "uint8"))
    asked = [
        ("POST", "/predict?top=2", photo(), PNG),
        ("POST", "/explain", photo(), PNG),
        ("POST", "/predict", batch, NPY),
        ("POST", "/predict", b"no picture", PNG),
        ("GET", "/health", None, {}),
        ("GET", "/nowhere", None, {}),
        ("GET", "/health", None, {"Host": "evil.example"}),
    ]
    answers = [logging_server.ask(*request)[0] for request in asked]
    lines = logged(len(asked))
    assert [int(line["status"]) for line in lines] == answers == [200, 200, 200, 422, 200, 404, 421]
    assert [(line["method"], json.loads(line["path"])) for line in lines] == [
        (method, path.partition("?")[0]) for method, path, _, _ in asked
    ]
    assert [int(line["pictures"]) for line in lines] == [1, 1, 7, 0, 0, 0, 0]
    assert all(0 <= float(line["took"]) < 20_000 for line in lines)
    times = [datetime.fromisoformat(line["time"]) for line in lines]
    assert times == sorted(times)
    assert started.replace(microsecond=0) <= times[0] <= datetime.now().astimezone()


def test_control_characters_of_clients_are_escaped_in_the_log(logging_server, logged):
    paths = ["/%1b[2J%0d%0a2026-01-01%20GET%20%22/%22", "/%c2%9b31m%e2%80%ae%7f", "/" + "a" * 3000]
    for path in paths:
        assert logging_server.ask("GET", path)[0] == 404
    lines = logged(len(paths))
    assert len(lines) == len(paths)
    assert json.loads(lines[0]["path"]) == '/\x1b[2J\r\n2026-01-01 GET "/"'
    assert json.loads(lines[1]["path"]) == "/\x9b31m\u202e\x7f"
    assert json.loads(lines[2]["path"]) == "/" + "a" * 199
    assert all(" " <= letter <= "~" for line in lines for letter in "".join(line.values()))


def test_malformed_and_unanswered_requests_are_logged(logging_server, logged):
    assert logging_server.send_raw(b"no HTTP\r\n\r\n").startswith(b"HTTP/1.1 400")
    logging_server.send_raw(b"GET / HTTP/1.1\r\nX: " + b"a" * 100_000)
    first, second = logged(2)
    assert (first["method"], first["path"], first["status"]) == ("-", '""', "400")
    assert second["status"] == "431"
    with socket.create_connection(("127.0.0.1", logging_server.port)) as connection:
        connection.sendall(head_of(photo()) + photo()[:10])
    *_, last = logged(3)
    assert (last["method"], last["path"], last["pictures"]) == ("POST", '"/predict"', "0")


def test_neither_pictures_nor_their_names_are_logged(logging_server, logged):
    content = photo()
    part = b'--edge\r\nContent-Disposition: form-data; name="picture"; filename="secret.png"\r\n\r\n' + content
    headers = {"Content-Type": "multipart/form-data; boundary=edge"}
    assert logging_server.ask("POST", "/predict", part + b"\r\n--edge--\r\n", headers)[0] == 200
    assert logging_server.ask("POST", "/predict", b"secret", PNG)[0] == 422
    assert [line["pictures"] for line in logged(2)] == ["1", "0"]
    assert "secret" not in logging_server.errors()


def test_nothing_is_logged_by_default(server):
    server.ask("POST", "/predict", photo(), PNG)
    server.send_raw(b"no HTTP\r\n\r\n")
    assert server.errors() == ""


# --- Answers in JSON -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("logits", [False, True])
def test_an_answer_equals_predictions_of_to_six_decimals(card, logits):
    scores = np.random.default_rng(0).normal(0, 5, (300, len(card.class_names))).astype("float32")
    scores[0] = [100, -100, 0, 0, 1e-9]  # probabilities of 1 and of 0
    batch = np.zeros((300, *card.picture_format.shape), "uint8")
    batch[:, 0, 0, 0], batch[:, 0, 0, 1] = np.divmod(np.arange(300), 256)
    query = "top=4&logits=true" if logits else "top=4"

    def run(pictures):
        return scores[pictures[:, 0, 0, 0].astype(int) * 256 + pictures[:, 0, 0, 1]]

    status, answer = ask_in_process(card, run, npy(batch), "application/x-npy", query=query)
    assert status == 200
    assert [row["picture"] for row in answer["predictions"]] == [str(number) for number in range(1, 301)]
    assert set(answer["predictions"][0]) == {"picture", "answers"} | ({"logits"} if logits else set())
    for row, expected, exact in zip(
        answer["predictions"], predictions_of(scores, card.class_names, top=4), scores.tolist(), strict=True
    ):
        assert [found["class"] for found in row["answers"]] == [name for name, _ in expected]
        assert [found["probability"] for found in row["answers"]] == [round(share, 6) for _, share in expected]
        if logits:
            np.testing.assert_allclose(row["logits"], exact, rtol=0, atol=5.1e-7)


def test_names_with_special_characters_are_returned_unchanged(card):
    names = ('"', "\\", "</script>", "ß 手", "{}")
    odd = replace(card, class_names=names)
    files = ['a "quoted" one.png', "näme, 手.png", "{braces}.png", "%s.png"]
    parts = b"".join(
        b'--edge\r\nContent-Disposition: form-data; name="picture"; filename="%b"\r\n\r\n%b\r\n'
        % (name.replace('"', '\\"').encode(), photo())
        for name in files
    )
    kind = "multipart/form-data; boundary=edge"
    status, answer = ask_in_process(
        odd, lambda x: np.arange(5.0) * np.ones((len(x), 1)), parts + b"--edge--\r\n", kind, query="top=5"
    )
    assert status == 200
    assert [row["picture"] for row in answer["predictions"]] == files
    assert [found["class"] for found in answer["predictions"][0]["answers"]] == list(names[::-1])


# --- Addresses and names ---------------------------------------------------------------------------------------


def test_by_default_only_localhost_is_served(server):
    with pytest.raises(OSError, match="refused"), socket.create_connection(("127.0.0.2", server.port), timeout=5):
        pass


def test_requests_with_a_foreign_host_name_are_refused(server):
    for host in (
        "evil.example",
        "evil.example:80",
        "127.0.0.1.evil.example",
        "127.0.0.1@evil.example",
        "",
        "localhost:x",
    ):
        status, answer = server.ask("POST", "/predict", photo(), {**PNG, "Host": host})
        assert status == 421, host
        assert "answers to 127.0.0.1" in answer["error"]
    for host in ("localhost", f"localhost:{server.port}", "127.0.0.1:9", "[::1]:8000"):
        assert server.ask("GET", "/health", headers={"Host": host})[0] == 200


def test_cross_site_requests_are_refused(server):
    """A browser lets any page send a form to any address, and states its origin."""
    for origin, expected in (("cross-site", 403), ("same-origin", 200), ("none", 200)):
        assert server.ask("POST", "/predict", photo(), {**PNG, "Sec-Fetch-Site": origin})[0] == expected
    assert server.ask("GET", "/health", headers={"Sec-Fetch-Site": "cross-site"})[0] == 200, "a link is allowed"


def test_answers_are_sent_without_delay_on_every_event_loop():
    """Without TCP_NODELAY, Python's event loop waits 40 ms for the acknowledgement of each client."""

    async def connected():
        answer = asyncio.get_running_loop().create_future()

        class Protocol(asyncio.Protocol):
            def connection_made(self, transport):
                option = transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
                answer.set_result(option)
                transport.close()

        with serving.bind(port=0) as taken:
            server = await asyncio.get_running_loop().create_server(Protocol, sock=taken)
            with socket.create_connection(taken.getsockname()):
                option = await asyncio.wait_for(answer, 20)
            server.close()
            return option

    assert asyncio.run(connected()) != 0


def test_a_port_in_use_is_explained():
    with serving.bind(port=0) as taken:
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(
            CourseError, match=rf"--host 127.0.0.1 --port {port} cannot be used: Address already in use"
        ):
            serving.bind(port=port)
    with pytest.raises(CourseError, match="--port is 70000; give a number from 0 to 65535"):
        serving.bind(port=70_000)
    with pytest.raises(CourseError, match=r"--host 203\.0\.113\.7 --port 0 cannot be used"):
        serving.bind("203.0.113.7", 0)


def test_a_missing_package_is_named(monkeypatch):
    is_installed = select.is_installed
    monkeypatch.setattr(select, "is_installed", lambda name: name != "uvicorn" and is_installed(name))
    with pytest.raises(MissingPackageError, match=r"needs uvicorn, .*run: pip install \"keras-course\[serve\]\""):
        serving.check_installed()


@pytest.mark.one_backend
def test_open_shows_the_page_in_the_browser(start_server, onnx_file, tmp_path, monkeypatch):
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > {tmp_path / "address"}\n')
    browser.chmod(0o755)
    monkeypatch.setenv("BROWSER", str(browser))
    server = start_server(onnx_file, "--open")
    for _ in range(500):
        if (tmp_path / "address").exists() and (tmp_path / "address").read_text():
            break
        time.sleep(0.01)
    assert (tmp_path / "address").read_text().strip().rstrip("/") == server.url
    assert server.stop() == 0


@pytest.mark.one_backend
@pytest.mark.parametrize(
    ("soft", "hard", "allowed", "raised"),
    [
        (2000, 4000, 1000, 2000),  # enough
        (100, 4000, 1000, 1000 + connections.OTHER_FILES),
        (100, 500, 500 - connections.OTHER_FILES, 500),
        (20, 20, 1, 20),
    ],
)
def test_the_number_of_connections_is_what_the_system_allows(soft, hard, allowed, raised):
    code = f"""
import resource
from keras_course.deployment.connections import _connections_allowed
resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))
print(_connections_allowed(1000), resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=60)
    assert (done.stdout, done.stderr) == (f"{allowed} {raised}\n", "")
