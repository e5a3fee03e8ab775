"""A hostile client neither blocks the other clients nor prevents the server from stopping."""

import asyncio
import json
import os
import signal
import socket
import threading
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import numpy as np
import psutil
import pytest

from keras_course.cards import ModelCard
from keras_course.deployment import connections, guard
from keras_course.deployment.guard import RequestLimits
from keras_course.deployment.runtimes import Runtime
from keras_course.deployment.service import make_app
from keras_course.preprocessing import PictureFormat

pytestmark = pytest.mark.one_backend

PNG = {"Content-Type": "image/png"}
JPEG = {"Content-Type": "image/jpeg"}
FORM = {"Content-Type": "multipart/form-data; boundary=e"}
SHAPE = (20, 28, 3)
GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


def connect(server, stack, received=None):
    connection = stack.enter_context(socket.socket())
    if received:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, received)
    connection.settimeout(30)
    connection.connect(("127.0.0.1", server.port))
    return connection


def seconds_to_answer(server, *request):
    """Returns the seconds until a successful answer."""
    started = time.perf_counter()
    assert server.ask(*request)[0] == 200
    return time.perf_counter() - started


def memory_of(server):
    return psutil.Process(server.process.pid).memory_info().rss


def wait_until(condition, seconds=30):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return
        time.sleep(0.05)
    pytest.fail(f"it takes more than {seconds} seconds")


# --- Connections -------------------------------------------------------------------------------------------------


def endless_requests(hostile):
    chunked = hostile.CHUNKED
    get = b"GET /health HTTP/1.1\r\nHost: localhost\r\n"
    return {
        "headers after a body": (chunked + b"1\r\nx\r\n0\r\n", b"a:b\r\n"),
        "headers after no body": (get + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"a:b\r\n"),
        "one header after a body": (chunked + b"0\r\nX: ", b"a"),
        "an extension of a chunk": (chunked + b"1;", b"a"),
        "a value of an extension": (chunked + b"1;a=", b"b"),
        "chunks of one byte": (chunked, b"1\r\nx\r\n"),
        "headers": (get, b"X: a\r\n"),
        "one header": (get + b"X: ", b"a"),
        "an address": (b"GET /", b"a"),
        "empty lines": (b"", b"\r\n"),
        "a body that nobody wants": (get + b"Content-Length: 99999999999\r\n\r\n", b"x"),
        "requests of which no answer is read": (b"", GET),
    }


@pytest.mark.parametrize("name", endless_requests(type("", (), {"CHUNKED": b""})))
def test_endless_requests_are_cut_off(onnx_server, hostile, name):
    start, part = endless_requests(hostile)[name]
    before = memory_of(onnx_server)
    sent = 0
    with ExitStack() as stack:
        connection = connect(onnx_server, stack, received=2048)
        block = part * (2**16 // len(part))
        connection.settimeout(15)
        with suppress(OSError):
            connection.sendall(start)
            while sent < 2**26:
                sent += connection.send(block)
        assert sent < 2**24, "more than the buffers of the system hold"
        assert onnx_server.ask("GET", "/health")[0] == 200
    assert memory_of(onnx_server) - before < 2**24


def test_headers_and_addresses_of_usual_length_are_accepted(onnx_server):
    """The requests above must be cut off only because of their length."""
    headers = {f"X-{number}": "a" * 100 for number in range(100)}
    assert onnx_server.ask("GET", "/health", headers=headers)[0] == 200
    assert onnx_server.ask("GET", "/health?" + "a" * 8000)[0] == 200
    assert onnx_server.send_raw(b"\r\nGET /health HTTP/1.1\r\nHost: localhost\r\n\r\n").startswith(b"HTTP/1.1 200")
    for number in (connections.MOST_HEADERS + 1, 1000):
        headers = b"".join(b"X-%d: a\r\n" % one for one in range(number))
        answer = onnx_server.send_raw(b"GET /health HTTP/1.1\r\nHost: localhost\r\n" + headers + b"\r\n")
        assert answer.startswith(b"HTTP/1.1 431")
    answer = onnx_server.send_raw(b"GET /health?" + b"a" * 9000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 431")


@pytest.mark.parametrize("size", [100, 1000, 10_000])
def test_a_chunked_body_is_accepted(onnx_server, hostile, size):
    body = hostile.photo(300)
    chunks = [body[start : start + size] for start in range(0, len(body), size)]
    content = b"".join(b"%x\r\n%b\r\n" % (len(one), one) for one in chunks) + b"0\r\nX-Sum: a\r\n\r\n"
    with ExitStack() as stack:
        connection = connect(onnx_server, stack)
        connection.sendall(hostile.CHUNKED + content)
        assert connection.recv(100).startswith(b"HTTP/1.1 200")


def test_pipelined_requests_are_answered_in_order(onnx_server, hostile):
    pictures = [hostile.photo(20, seed) for seed in range(5)]
    asked = [hostile.request(picture, b"predict?top=5") for picture in pictures]
    asked.insert(2, b"GET /nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n")
    expected = [onnx_server.ask("POST", "/predict?top=5", picture, PNG) for picture in pictures]
    expected.insert(2, (404, {"error": "Not Found"}))
    for pieces in (1, 7, 1000):
        content = b"".join(asked)
        with ExitStack() as stack:
            connection = connect(onnx_server, stack)
            step = -(-len(content) // pieces)
            for start in range(0, len(content), step):
                connection.sendall(content[start : start + step])
            answers = stack.enter_context(connection.makefile("rb"))
            for status, answer in expected:
                assert int(answers.readline().split()[1]) == status
                headers = dict(line.strip().lower().split(b": ") for line in iter(answers.readline, b"\r\n"))
                found = json.loads(answers.read(int(headers[b"content-length"])))
                assert found.get("predictions") == answer.get("predictions")


def test_too_many_pipelined_requests_are_refused(onnx_server, hostile):
    """With the body of a request, the requests behind it are read as well."""
    tiny = hostile.request(b"x", kind=b"a/b")
    answer = onnx_server.send_raw(tiny * 1000)
    assert answer.count(b"HTTP/1.1 415") < 100
    assert onnx_server.ask("GET", "/health")[0] == 200


def test_connections_of_clients_that_do_not_read_are_closed(start_server, onnx_file):
    server = start_server(onnx_file, "--requests", 1, "--seconds", 2)
    with ExitStack() as stack:
        for _ in range(connections.FEWEST_CONNECTIONS + 10):
            connection = connect(server, stack, received=2048)
            connection.sendall(GET * 400)
        assert max(seconds_to_answer(server, "GET", "/metadata") for _ in range(5)) < 2, "a new client is served"

        def are_open():
            of_server = psutil.Process(server.process.pid).net_connections("tcp")
            return sum(one.status == psutil.CONN_ESTABLISHED for one in of_server)

        wait_until(lambda: are_open() <= 1)  # each was closed, although no byte was read
    server.check()


def test_connections_of_slow_senders_are_closed_for_new_clients(start_server, onnx_file, hostile):
    server = start_server(onnx_file, "--requests", 1)
    head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\nContent-Length: 50000\r\n\r\n"
    with ExitStack() as stack:
        slow = [connect(server, stack) for _ in range(connections.FEWEST_CONNECTIONS)]
        for connection in slow:
            connection.sendall(head + b"x")
        time.sleep(1.2)  # each client may take a second
        new = [connect(server, stack) for _ in range(3)]
        for connection in slow[:3]:
            assert connection.recv(100).startswith(b"HTTP/1.1 503"), "the oldest connections are closed"
        for connection in new:
            connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert connection.recv(100).startswith(b"HTTP/1.1 200")
        assert server.ask("POST", "/predict", hostile.photo(20), PNG)[0] == 200
    server.check()


def test_the_oldest_of_too_many_waiting_bodies_is_refused():
    async def work(app):
        given_up = []
        tasks = []
        for number in range(5):
            tasks.append(asyncio.create_task(ask_app(app, [bytes(300_000), asyncio.Event()])))
            await asyncio.sleep(0.02)
            given_up = [(one.result()[0], other) for other, one in enumerate(tasks) if one.done()]
            assert given_up == [(503, other) for other in range(number - 2)], "a megabyte is allowed"
        assert (await tasks[0])[1]["error"] == "the service has too much to read at once; retry later"
        status, _ = await ask_app(app, [bytes(3000)], kind=b"a/b")
        assert status == 415, "other requests are answered"
        for task in tasks:
            task.cancel()

    asyncio.run(work(make_application(waiting_bytes=10**6)))


@pytest.mark.parametrize("is_closing", [True, False])
def test_a_connection_that_closes_during_its_answer_is_not_an_error(is_closing):
    """uvloop raises an error for a write after the connection has closed, until the server is told."""
    aborted = []

    async def send(message):
        raise RuntimeError("unable to perform operation on <TCPTransport>; the handler is closed")

    async def receive():
        return {"type": "http.request", "body": SMALL, "more_body": False}

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/predict",
        "query_string": b"",
        "headers": [(b"content-type", b"image/bmp")],
        guard.IS_CLOSING: lambda: is_closing,
        guard.ABORT: lambda: aborted.append(True),
    }
    answer = make_application()(scope, receive, send)
    if is_closing:
        asyncio.run(answer)
        assert aborted
    else:
        with pytest.raises(RuntimeError, match="the handler is closed"):
            asyncio.run(answer)


def make_application(run=None, **limits):
    card = ModelCard(
        title="x", class_names=("a", "b"), picture_format=PictureFormat(height=2, width=2, channels=1), data="x"
    )
    run = run or (lambda pictures: np.zeros((len(pictures), 2), "float32"))
    return make_app(Runtime(Path("model.onnx"), "onnx", "Nothing 1.0", card, run), limits=RequestLimits(**limits))


async def ask_app(app, parts, kind=b"image/png", path="/predict"):
    """Sends a body in parts, waits for events among them, and returns the status and the answer."""
    sent, parts = [], list(parts)

    async def receive():
        part = parts.pop(0) if parts else b""
        if isinstance(part, asyncio.Event):
            await part.wait()
            part = b""
        return {"type": "http.request", "body": part, "more_body": bool(parts)}

    async def send(message):
        sent.append(message)

    headers = [(b"content-type", kind), (b"host", b"localhost")]
    scope = {"type": "http", "method": "POST", "path": path, "query_string": b"", "headers": headers}
    await app(scope, receive, send)
    return sent[0]["status"], json.loads(b"".join(message.get("body", b"") for message in sent))


# --- Pictures ----------------------------------------------------------------------------------------------------


def test_jpegs_with_many_scans_are_refused_at_once(onnx_server, hostile):
    for bomb in (hostile.jpeg_of_scans(5000, 20_000), hostile.jpeg_of_scans(16, 400)):
        status, answer = onnx_server.ask("POST", "/predict", bomb, JPEG)
        assert status == 422
        assert "scans; save it again, not as progressive" in answer["error"]


def test_slow_pictures_do_not_delay_other_clients(start_server, onnx_file, hostile):
    server = start_server(onnx_file, "--seconds", 3)
    photo, slow = hostile.photo(), hostile.png_of_profiles(4000)
    alone = np.median([seconds_to_answer(server, "POST", "/predict", photo, PNG) for _ in range(10)])
    answers = []

    def send_slow():
        answers.append(server.ask("POST", "/predict", slow, PNG))

    threads = [threading.Thread(target=send_slow) for _ in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(0.5)
    meanwhile = [seconds_to_answer(server, "POST", "/predict", photo, PNG) for _ in range(10)]
    assert not answers, "the slow pictures are still being decoded"
    for thread in threads:
        thread.join()
    assert np.median(meanwhile) < max(5 * alone, 0.5)
    assert {status for status, _ in answers} <= {422, 503}
    assert seconds_to_answer(server, "POST", "/predict", photo, PNG) < 5
    server.check()


def test_a_form_of_large_pictures_does_not_delay_other_clients(onnx_server, hostile):
    """It is canceled after the time limit, and pictures of others are decoded meanwhile."""
    photo, form = hostile.photo(), hostile.form_of((11 * hostile.large_pictures())[:32])
    answers = []
    thread = threading.Thread(target=lambda: answers.append(onnx_server.ask("POST", "/predict", form, FORM)))
    thread.start()
    time.sleep(0.5)
    meanwhile = [seconds_to_answer(onnx_server, "POST", "/predict", photo, PNG) for _ in range(10)]
    assert not answers
    assert np.median(meanwhile) < 0.5
    thread.join()
    assert answers[0][0] == 503


def test_small_pictures_that_decode_slowly_are_decoded_in_a_separate_process(hostile):
    """The process of the service decodes only pictures whose decoding time is bounded."""
    from keras_course.deployment import decoders

    app = make_application()
    asked = []

    async def prepare(self, content, name, client):
        asked.append(content)
        return np.zeros((2, 2, 1), "uint8")

    small = [hostile.photo(4, seed) for seed in range(3)]
    hostile_ones = [hostile.png_of_profiles(1), hostile.jpeg_of_scans(16, 200), hostile.photo(200)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decoders.Decoders, "prepare", prepare)
        for content in (*small, *hostile_ones):
            assert asyncio.run(ask_app(app, [content]))[0] == 200
    assert asked == hostile_ones


# --- Explanations and large batches ------------------------------------------------------------------------------


def slow_model(seconds):
    """Returns a model that takes these seconds for each picture."""

    def run(pictures):
        time.sleep(seconds * len(pictures))
        return np.zeros((len(pictures), 2), "float32")

    return run


def test_predictions_run_between_the_parts_of_explanations():
    """Sixteen explanations take more than a second; a prediction waits for only some milliseconds of that."""

    async def work(app):
        explain = [asyncio.create_task(ask_app(app, [SMALL], path="/explain")) for _ in range(16)]
        await asyncio.sleep(0.05)
        status, answer = await ask_app(app, [SMALL], path="/explain")
        assert (status, answer["error"]) == (503, "16 pictures wait to be explained; retry later")
        waits = []
        for _ in range(20):
            started = time.perf_counter()
            assert (await ask_app(app, [SMALL]))[0] == 200
            waits.append(time.perf_counter() - started)
        assert not all(one.done() for one in explain)
        assert [status for status, _ in await asyncio.gather(*explain)] == [200] * 16
        return np.median(waits)

    assert asyncio.run(work(make_application(slow_model(0.0005), seconds=60))) < 0.1


def test_predictions_run_between_the_parts_of_a_large_batch(hostile):
    async def work(app):
        body = hostile.batch(1024, (2, 2, 1))
        large = [asyncio.create_task(ask_app(app, [body], kind=b"application/x-npy")) for _ in range(2)]
        await asyncio.sleep(0.3)
        waits = []
        for _ in range(20):
            started = time.perf_counter()
            assert (await ask_app(app, [SMALL]))[0] == 200
            waits.append(time.perf_counter() - started)
        assert not any(one.done() for one in large)
        for status, answer in await asyncio.gather(*large):
            assert (status, len(answer["predictions"])) == (200, 1024)
        return np.median(waits)

    assert asyncio.run(work(make_application(slow_model(0.001), seconds=60))) < 0.1


SMALL = b"BM\x46\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0\2\0\0\0\2\0\0\0\1\0\x18\0\0\0\0\0\x10\0\0\0" + bytes(16) + bytes(16)
"""A bitmap of 2 × 2 pixels."""


# --- The end -----------------------------------------------------------------------------------------------------


def test_the_server_stops_in_time_whatever_its_clients_do(start_server, onnx_file, hostile):
    server = start_server(onnx_file, "--seconds", 2)
    process = psutil.Process(server.process.pid)
    wait_until(lambda: len(process.children()) >= 2)
    decoders = process.children()
    with ExitStack() as stack:
        for start in (
            GET * 400,
            hostile.CHUNKED + b"5\r\nhello\r\n",
            hostile.request(hostile.png_of_profiles(4000)),
            hostile.request(hostile.form_of(32 * [hostile.large_pictures()[0]]), kind=FORM["Content-Type"].encode()),
            hostile.request(hostile.photo(20), b"explain"),
            b"GET /heal",
        ):
            for _ in range(3):
                connect(server, stack, received=2048).sendall(start)
        time.sleep(0.5)
        started = time.perf_counter()
        server.process.terminate()
        server.process.wait(30)
        print(f"ended after {time.perf_counter() - started:.1f} s")
        assert time.perf_counter() - started < 8
    assert server.process.returncode == -signal.SIGTERM
    assert server.errors() == ""
    wait_until(lambda: not any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in decoders))


def test_decoders_end_when_the_server_is_killed(start_server, onnx_file, hostile):
    server = start_server(onnx_file)
    process = psutil.Process(server.process.pid)
    wait_until(lambda: len(process.children()) >= 2)
    decoders = process.children()
    with ExitStack() as stack:
        connect(server, stack).sendall(hostile.request(hostile.png_of_profiles(4000)))
        wait_until(lambda: any(one.cpu_times().user > 0.5 for one in decoders))
        os.kill(server.process.pid, signal.SIGKILL)
        server.process.wait(10)
    wait_until(lambda: not any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in decoders))
