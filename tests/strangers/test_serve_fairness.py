"""Waiting times of other clients with and without one hostile client.

This takes minutes and is marked slow; `test_serve_clients.py` tests the effects of each kind of client, too.
"""

import http.client
import socket
import threading
import time

import numpy as np
import psutil
import pytest

pytestmark = [pytest.mark.one_backend, pytest.mark.slow]

PNG = {"Content-Type": "image/png"}
SECONDS = 8
MOST_SLOWDOWN = 5
"""The largest ratio of waiting times with and without the hostile client."""
FEWEST_MILLISECONDS = 10
"""Shorter times depend on the machine, which server, clients and tests share."""
FEWEST_ANSWERS = 200
KINDS = (
    "jpegs_of_many_scans",
    "pictures_that_take_long",
    "large_pictures_at_once",
    "forms_of_large_pictures",
    "pictures_of_clients_that_leave",
    "explanations",
    "large_batches",
    "clients_that_do_not_read",
    "clients_that_do_not_send",
    "clients_that_send_slowly",
    "heads_that_come_slowly",
    "endless_requests",
    "nonsense",
)


def measure(server, pictures, seconds=SECONDS):
    """Returns the milliseconds of each answer, by picture, for clients that repeat requests; all must succeed."""
    waits = {name: [] for name in pictures}
    wrong = []

    def ask(name):
        connection = None
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if connection is None:
                connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
                connection.connect()
                connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            started = time.perf_counter()
            connection.request("POST", "/predict?top=1", pictures[name], PNG)
            answer = connection.getresponse()
            answer.read()
            waits[name].append(1000 * (time.perf_counter() - started))
            if answer.status != 200:
                wrong.append((name, answer.status))
            time.sleep(0.005)  # the measuring client must not keep the server busy
        connection.close()

    def ask_and_record_errors(name):
        try:
            ask(name)
        except Exception as error:
            wrong.append((name, repr(error)))

    threads = [threading.Thread(target=ask_and_record_errors, args=(name,)) for name in pictures]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    return waits


def p99(milliseconds):
    assert len(milliseconds) >= FEWEST_ANSWERS
    return float(np.quantile(milliseconds, 0.99))


def test_every_kind_of_hostile_client_is_tested(hostile):
    assert set(KINDS) == set(hostile.KINDS)


@pytest.fixture(scope="module")
def server(start_server, onnx_file, hostile):
    server = start_server(onnx_file)
    measure(server, {"small": hostile.photo(20), "photo": hostile.photo(300)}, seconds=2)
    yield server
    server.check()


@pytest.mark.parametrize("kind", KINDS)
def test_a_hostile_client_delays_others_at_most_fivefold(server, hostile, attack, kind):
    """One client sends small pictures; the other one sends larger ones, which are decoded in separate processes."""
    pictures = {"small": hostile.photo(20), "photo": hostile.photo(300)}
    process = psutil.Process(server.process.pid)
    alone = measure(server, pictures)
    before = process.memory_info().rss
    with attack(kind, server, SECONDS + 3):
        time.sleep(2)
        meanwhile = measure(server, pictures)
        more = process.memory_info().rss - before
    for name in pictures:
        print(
            f"{kind}, {name}: 99 % alone {p99(alone[name]):.1f} ms of {len(alone[name])},"
            f" meanwhile {p99(meanwhile[name]):.1f} ms of {len(meanwhile[name])}"
        )
    print(f"{more / 2**20:.0f} MiB more")
    for name in pictures:
        assert p99(meanwhile[name]) <= MOST_SLOWDOWN * max(p99(alone[name]), FEWEST_MILLISECONDS)
    assert more < 2**28
