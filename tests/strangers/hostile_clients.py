"""`python tests/strangers/hostile_clients.py KIND PORT SECONDS` attacks a server on this machine.

It ends after these seconds and prints what it has done as a line of JSON. It runs with low priority, because measured
clients share the machine with it, which they would not do with a real attacker.
"""

import io
import json
import os
import random
import socket
import struct
import sys
import threading
import time
import zlib
from collections import Counter
from contextlib import suppress
from functools import cache

import numpy as np
from PIL import Image

HEAD = b"POST /%b HTTP/1.1\r\nHost: localhost\r\nContent-Type: %b\r\n"
CHUNKED = HEAD % (b"predict", b"image/png") + b"Transfer-Encoding: chunked\r\n\r\n"


# --- Requests ----------------------------------------------------------------------------------------------------


def file_of(image, kind="PNG", **settings):
    file = io.BytesIO()
    image.save(file, kind, **settings)
    return file.getvalue()


def photo(side=100, seed=0, kind="PNG"):
    """Returns a picture that is so large that it is decoded in a separate process."""
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype="uint8")
    return file_of(Image.fromarray(pixels), kind)


def request(body, path=b"predict", kind=b"image/png"):
    return HEAD % (path, kind) + b"Content-Length: %d\r\n\r\n" % len(body) + body


def jpeg_of_scans(side, scans):
    """Returns a progressive JPEG whose last scan is repeated."""
    picture = file_of(Image.new("L", (side, side), 128), "JPEG", progressive=True, quality=50)
    start = picture.rindex(b"\xff\xda")
    return picture[:-2] + (scans - picture.count(b"\xff\xda")) * picture[start:-2] + picture[-2:]


def chunk(name, content):
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png_of_profiles(count):
    """Returns a small picture with color profiles, each of which unpacks to a megabyte."""
    small = photo(28)
    profile = chunk(b"iCCP", b"x\0\0" + zlib.compress(bytes(2**20 - 10), 9))
    return small[:33] + count * profile + small[33:]


def bmp_of_runs(side):
    """Returns a bitmap of runs of one pixel, each of which Pillow unpacks in Python."""
    rows = side * (side * b"\x01\x03" + b"\0\0") + b"\0\1"
    head = struct.pack("<IiiHHIIiiII", 40, side, side, 1, 8, 1, len(rows), 0, 0, 256, 0)
    start = 14 + len(head) + 1024
    return b"BM" + struct.pack("<IHHI", start + len(rows), 0, 0, start) + head + bytes(1024) + rows


def form_of(pictures):
    part = b'--e\r\nContent-Disposition: form-data; name="picture"; filename="a.png"\r\n\r\n%b\r\n'
    return b"".join(part % picture for picture in pictures) + b"--e--\r\n"


def batch(rows, shape):
    file = io.BytesIO()
    np.save(file, np.zeros((rows, *shape), "uint8"))
    return file.getvalue()


@cache
def large_pictures():
    """Returns small files with pictures of 25 million pixels."""
    flat = Image.new("RGB", (5000, 5000), (90, 120, 30))
    lossless = {"lossless": True, "method": 0, "quality": 0}
    return [file_of(flat), file_of(flat, "WEBP", **lossless), file_of(flat, "JPEG", progressive=True)]


# --- Connections -------------------------------------------------------------------------------------------------


class Attack:
    """The common part of all hostile clients."""

    def __init__(self, port, seconds):
        self.port, self.end = port, time.monotonic() + seconds
        self.seen = Counter()

    def is_over(self):
        return time.monotonic() > self.end

    def connect(self, **settings):
        return socket.create_connection(("127.0.0.1", self.port), timeout=5, **settings)

    def in_threads(self, count, work, *arguments):
        threads = [threading.Thread(target=work, args=(number, *arguments), daemon=True) for number in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(max(0.0, self.end + 5 - time.monotonic()))

    def repeat_requests(self, number, requests, pause=0.0):
        """Sends complete requests and reads the answers, as fast as possible."""
        turn = number
        while not self.is_over():
            with suppress(OSError), self.connect() as connection:
                connection.settimeout(30)
                while not self.is_over():
                    turn += 1
                    connection.sendall(requests[turn % len(requests)])
                    answer = connection.recv(2**16)
                    if not answer:
                        break
                    if answer.startswith(b"HTTP/1.1 "):  # otherwise it is the rest of a late answer
                        self.seen[answer[9:12].decode()] += 1
                    connection.settimeout(0.01)
                    with suppress(TimeoutError):
                        while connection.recv(2**16):
                            pass
                    connection.settimeout(30)
                    time.sleep(pause)

    def send_endless_request(self, number, kinds, most=2**24):
        """Sends one request without an end until the server cuts it off, and then the next kind."""
        while not self.is_over():
            sent, number = 0, number + 1
            start, block = kinds[number % len(kinds)]
            with suppress(OSError), self.connect() as connection:
                connection.sendall(start)
                while sent < most and not self.is_over():
                    sent += connection.send(block)
                self.seen["never cut off"] += sent >= most
            self.seen["connections"] += 1
            self.seen["most"] = max(self.seen["most"], sent)
            time.sleep(0.02)

    def hold_connections(self, count, start, more=b""):
        """Holds many connections and sends little or nothing; closed ones are opened again."""
        connections = []
        while not self.is_over():
            with suppress(OSError):
                while len(connections) < count and not self.is_over():
                    connection = socket.socket()
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
                    connection.settimeout(5)
                    connections.append(connection)
                    connection.connect(("127.0.0.1", self.port))
                    connection.sendall(start)
                    connection.settimeout(0.001)
                    self.seen["connections"] += 1
            for connection in connections[:]:
                try:
                    if more:
                        connection.sendall(more)
                    else:
                        connection.send(b"")
                        if b"\n" not in start:
                            is_open = connection.recv(1) != b""
                            self.seen["closed"] += not is_open
                except TimeoutError:
                    continue
                except OSError:
                    connections.remove(connection)
                    connection.close()
            time.sleep(0.2)
        for connection in connections:
            connection.close()


KINDS = {}


def kind(function):
    KINDS[function.__name__] = function
    return function


@kind
def jpegs_of_many_scans(attack):
    bombs = [request(jpeg_of_scans(5000, 20_000)), request(jpeg_of_scans(5000, 40)), request(jpeg_of_scans(64, 500))]
    attack.in_threads(4, attack.repeat_requests, bombs)


@kind
def pictures_that_take_long(attack):
    slow = [
        png_of_profiles(2000),
        bmp_of_runs(2000),
        photo(28)[:33] + 500_000 * chunk(b"abCd", b"") + photo(28)[33:],
        file_of(Image.new("L", (9, 9)), "JPEG").replace(b"\xff\xd8", b"\xff\xd8" + 2**22 * b"\xff", 1),
    ]
    attack.in_threads(4, attack.repeat_requests, [request(body) for body in slow])


@kind
def large_pictures_at_once(attack):
    attack.in_threads(4, attack.repeat_requests, [request(body) for body in large_pictures()])


@kind
def forms_of_large_pictures(attack):
    form = form_of([picture for _ in range(32) for picture in large_pictures()][:32])
    attack.in_threads(2, attack.repeat_requests, [request(form, kind=b"multipart/form-data; boundary=e")])


@kind
def pictures_of_clients_that_leave(attack):
    def leave(number):
        body = request(photo(300, number))
        while not attack.is_over():
            with suppress(OSError), attack.connect() as connection:
                connection.sendall(body)
                attack.seen["connections"] += 1
            time.sleep(0.02)

    attack.in_threads(4, leave)


@kind
def explanations(attack):
    attack.in_threads(16, attack.repeat_requests, [request(photo(16), b"explain")])


@kind
def large_batches(attack):
    body = batch(1024, attack.shape)
    attack.in_threads(4, attack.repeat_requests, [request(body, b"predict?top=1", b"application/x-npy")])


@kind
def clients_that_do_not_read(attack):
    attack.hold_connections(300, 400 * b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")


@kind
def clients_that_do_not_send(attack):
    attack.hold_connections(600, b"")


@kind
def clients_that_send_slowly(attack):
    attack.hold_connections(300, HEAD % (b"predict", b"image/png") + b"Content-Length: 5000000\r\n\r\n", b"x")


@kind
def heads_that_come_slowly(attack):
    attack.hold_connections(300, HEAD % (b"predict", b"image/png"), b"X: a\r\n")


@kind
def endless_requests(attack):
    kinds = [
        (CHUNKED + b"1\r\nx\r\n0\r\n", b"a:b\r\n" * 12_000),
        (CHUNKED + b"0\r\nX: ", b"a" * 60_000),
        (CHUNKED + b"1;", b"a" * 60_000),
        (CHUNKED, b"1\r\nx\r\n" * 10_000),
        (b"GET /health HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999999999999\r\n\r\n", b"x" * 60_000),
        (b"GET /health HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", b"a:b\r\n" * 12_000),
        (b"", b"\r\n" * 30_000),
        (b"GET /", b"a" * 60_000),
        (b"GET /health HTTP/1.1\r\n", b"X: a\r\n" * 10_000),
    ]

    attack.in_threads(3, attack.send_endless_request, kinds)


@kind
def nonsense(attack):
    def send(number):
        numbers = random.Random(number)
        while not attack.is_over():
            with suppress(OSError), attack.connect() as connection:
                connection.sendall(numbers.choice((b"", b"GET / HTTP/1.1\r\n", CHUNKED)) + numbers.randbytes(5000))
                connection.recv(1000)
            attack.seen["connections"] += 1
            time.sleep(0.01)

    attack.in_threads(4, send)


def main():
    name, port, seconds, *shape = sys.argv[1:]
    os.nice(19)
    attack = Attack(int(port), float(seconds))
    attack.shape = tuple(map(int, shape)) or (20, 28, 3)
    print("begins", flush=True)
    KINDS[name](attack)
    print(json.dumps(dict(attack.seen)), flush=True)


if __name__ == "__main__":
    main()
