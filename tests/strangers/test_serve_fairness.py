"""How long others wait while one hostile client is at work, compared with how long they wait without it.

It takes minutes and is marked slow; what each kind of client does to others is tested in `test_serve_clients.py`, too.
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
MOST = 5
"""Times as long as without the hostile client."""
FEWEST_MILLISECONDS = 10
"""What is shorter is not measured, but the machine that server, clients and tests share."""
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
    """Milliseconds that answers take, for each picture to a client that asks again and again; each is a good answer."""
    waited = {name: [] for name in pictures}
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
            waited[name].append(1000 * (time.perf_counter() - started))
            if answer.status != 200:
                wrong.append((name, answer.status))
            time.sleep(0.005)  # a client that measures must not be what keeps the server busy
        connection.close()

    def guarded(name):
        try:
            ask(name)
        except Exception as error:
            wrong.append((name, repr(error)))

    threads = [threading.Thread(target=guarded, args=(name,)) for name in pictures]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    return waited


def late(milliseconds):
    assert len(milliseconds) >= FEWEST_ANSWERS
    return float(np.quantile(milliseconds, 0.99))


def test_every_kind_of_hostile_client_is_measured(hostile):
    assert set(KINDS) == set(hostile.KINDS)


@pytest.fixture(scope="module")
def server(start_server, onnx_file, hostile):
    server = start_server(onnx_file)
    measure(server, {"small": hostile.photo(20), "photo": hostile.photo(300)}, seconds=2)
    yield server
    server.check()


@pytest.mark.parametrize("kind", KINDS)
def test_others_wait_no_more_than_five_times_as_long(server, hostile, attack, kind):
    """One of them sends small pictures, and the other larger ones, which are decoded by a process of their own."""
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
            f"{kind}, {name}: 99 % alone {late(alone[name]):.1f} ms of {len(alone[name])},"
            f" meanwhile {late(meanwhile[name]):.1f} ms of {len(meanwhile[name])}"
        )
    print(f"{more / 2**20:.0f} MiB more")
    for name in pictures:
        assert late(meanwhile[name]) <= MOST * max(late(alone[name]), FEWEST_MILLISECONDS)
    assert more < 2**28
