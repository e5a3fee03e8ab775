"""Times ``keras-course serve`` beside ONNX Runtime alone and beside LitServe, in one run.

    python benchmarks/serving.py
    python benchmarks/serving.py --model runs/04_mnist_dense/exports/model.onnx --litserve /tmp/lit/bin/python

Without ``--model`` there are two models, exported as ONNX first: the course's dense and convolutional networks for
28×28 gray pixels, with random weights. It compares, each in a separate process:

- ``serve`` of this package, as the command line starts it;
- LitServe, if it is installed, in this environment or in the one of the Python that ``--litserve`` names (it needs
  litserve, onnxruntime, numpy and pillow). It uses the same model, the same decoder, raw bodies instead of JSON, and
  micro-batches of up to 32 that wait for one millisecond (``serving_litserve.py``);
- ONNX Runtime alone, called in a loop without a network, with its default settings.

Three tables. The first is for single PNG files, with the latency for clients; "alone" decodes and predicts one after
the other in one thread. The second is for prepared batches (.npy in; classes as JSON, or logits as .npy, out); "of
bare" is the throughput relative to ONNX Runtime alone with the same batches. The third is for a cold start: from the
command to the first answer.

Clients send the next request when they have an answer. They run in one thread of this process and use a part of the
machine, which ONNX Runtime alone has for itself. The candidates take turns; numbers are medians over the rounds, and
latencies are percentiles (50 and 99 %) over all rounds. It takes five minutes on two idle cores; the load at the start
is printed.
"""

import argparse
import http.client
import io
import os
import re
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from PIL import Image

from keras_course._backend import select
from keras_course.errors import CourseError, check_positive
from keras_course.lesson import explain_errors

ROOT = Path(__file__).resolve().parents[1]
CLIENTS = (1, 8, 32)
BATCHES = ((32, 4), (256, 4))
"""Batch sizes, and the number of clients that send such batches."""
COLD_STARTS = 5
STARTING_SECONDS = 120
FILES = 64
"""The number of different pictures, so that answers cannot be cached."""

Measured = dict[tuple[Any, ...], list["Load"]]


@dataclass
class Load:
    """The measurements of one contestant in one turn."""

    pictures: int
    seconds: float
    waited: list[float] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Pictures per second."""
        return self.pictures / self.seconds


# --- The models ------------------------------------------------------------------------------------------------


def write_models(folder: Path, backend: str) -> dict[str, Path]:
    """Writes the two networks of the course as ONNX."""
    select.use(backend)
    select.import_keras()
    from keras_course.cards import ModelCard
    from keras_course.deployment.export import export_model
    from keras_course.models import cnn_classifier, dense_classifier
    from keras_course.preprocessing import PictureFormat
    from keras_course.training import RunDirectory

    digits = PictureFormat(height=28, width=28, channels=1)
    models = {
        "dense": dense_classifier(input_shape=digits.shape, hidden=(512, 512), num_classes=10),
        "convolutional": cnn_classifier(input_shape=digits.shape, num_classes=10),
    }
    written = {}
    for name, model in models.items():
        with RunDirectory(folder / name) as run:
            run.save_model(model, ModelCard(title=name, class_names=tuple("0123456789"), picture_format=digits))
        written[name] = export_model(folder / name, format="onnx").path
    return written


def shape_of(model: Path) -> tuple[int, ...]:
    """Returns the shape of pictures on the card of a model."""
    from keras_course.deployment.runtimes import open_model

    return open_model(model).card.picture_format.shape


# --- ONNX Runtime alone ----------------------------------------------------------------------------------------


def run_alone(pipe: Connection, model: Path, files: Sequence[bytes]) -> None:
    """Runs the model in a separate process without pauses: gets a batch size and seconds, and reports its speed."""
    import onnxruntime

    from keras_course.deployment.runtimes import open_model
    from keras_course.preprocessing import prepare

    card = open_model(model).card
    session = onnxruntime.InferenceSession(model)
    name = session.get_inputs()[0].name
    random = np.random.default_rng(0)

    def of_files(number: int) -> None:
        picture = prepare(files[number % len(files)], card.picture_format)
        session.run(None, {name: picture[None].astype("float32")})

    def of_batch(batch: np.ndarray, number: int) -> None:
        session.run(None, {name: batch.astype("float32")})

    while (task := pipe.recv()) is not None:
        size, seconds = task
        batch = random.integers(0, 256, (size, *card.picture_format.shape), dtype="uint8")
        step: Callable[[int], None] = partial(of_batch, batch) if size else of_files
        for number in range(3):
            step(number)
        count, started = 0, time.perf_counter()
        while time.perf_counter() - started < seconds:
            step(count)
            count += 1
        pipe.send(Load(count * max(size, 1), time.perf_counter() - started))


@contextmanager
def alone(model: Path, files: Sequence[bytes]) -> Iterator[Callable[[int, float], Load]]:
    """Yields a function that measures ONNX Runtime alone, for a batch size (0 for files) and some seconds."""
    processes = get_context("spawn")
    here, there = processes.Pipe()
    process = processes.Process(target=run_alone, args=(there, model, files), daemon=True)
    process.start()

    def ask(size: int, seconds: float) -> Load:
        here.send((size, seconds))
        return here.recv()

    yield ask
    here.send(None)
    process.join()


# --- Servers ---------------------------------------------------------------------------------------------------


def free_port() -> int:
    """Returns a free port."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


@contextmanager
def server(command: Sequence[str], port: int) -> Iterator[None]:
    """Starts a server in a separate process, and yields when it answers."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(command, env=environment, stdout=quiet, stderr=quiet, start_new_session=True)
    try:
        wait_for(port, process)
        yield
    finally:
        process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(20)
        # otherwise the workers of LitServe would still run and slow down the next contestant
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    """Requests the health until it is good; LitServe returns 503 until its worker is ready."""
    end = time.perf_counter() + STARTING_SECONDS
    while time.perf_counter() < end and process.poll() is None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        try:
            connection.request("GET", "/health")
            if connection.getresponse().status == 200:
                return
        except OSError:
            pass
        finally:
            connection.close()
        time.sleep(0.005)
    raise CourseError(f"{' '.join(map(str, process.args))} does not start")  # type: ignore[arg-type]


def commands(model: Path, litserve: str) -> dict[str, Callable[[int], list[str]]]:
    """Returns the command that starts each server on a port."""
    found: dict[str, Callable[[int], list[str]]] = {
        "serve": lambda port: [sys.executable, "-m", "keras_course", "serve", str(model), "--port", str(port)]
    }
    if litserve:
        script = str(Path(__file__).with_name("serving_litserve.py"))
        found["LitServe"] = lambda port: [litserve, script, str(model), str(port)]
    return found


# --- Clients ---------------------------------------------------------------------------------------------------


def request(path: str, body: bytes, kind: str, accept: str = "application/json") -> bytes:
    """Returns the bytes of a request."""
    head = [
        f"POST {path} HTTP/1.1",
        "Host: 127.0.0.1",
        f"Content-Type: {kind}",
        f"Accept: {accept}",
        f"Content-Length: {len(body)}",
    ]
    return "\r\n".join([*head, "", ""]).encode() + body


_LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)


def load(port: int, requests: Sequence[bytes], *, clients: int, seconds: float, pictures: int = 1) -> Load:
    """Runs clients, each of which sends a request as soon as it has the previous answer.

    It implements only the HTTP that these servers need, because `http.client` would need more CPU than they do.
    """
    selector = selectors.DefaultSelector()
    received: dict[socket.socket, bytearray] = {}
    asked: dict[socket.socket, float] = {}
    waited: list[float] = []
    turn = 0

    def ask(connection: socket.socket) -> None:
        nonlocal turn
        turn += 1
        received[connection] = bytearray()
        asked[connection] = time.perf_counter()
        connection.sendall(requests[turn % len(requests)])

    started = time.perf_counter()
    for _ in range(clients):
        connection = socket.create_connection(("127.0.0.1", port), timeout=60)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        selector.register(connection, selectors.EVENT_READ)
        ask(connection)
    under_way, ended = clients, started
    while under_way:
        for key, _ in selector.select(timeout=60):
            connection = key.fileobj  # type: ignore[assignment]
            answer = received[connection]
            answer += connection.recv(2**18)
            if not is_whole(answer):
                continue
            ended = time.perf_counter()
            waited.append(ended - asked[connection])
            if ended - started < seconds:
                ask(connection)
            else:
                under_way -= 1
                selector.unregister(connection)
                connection.close()
    return Load(len(waited) * pictures, ended - started, waited)


def is_whole(answer: bytearray) -> bool:
    """Returns whether an answer is complete."""
    if not answer:
        raise CourseError("a server has closed a connection without an answer")
    end = answer.find(b"\r\n\r\n")
    if end < 0:
        return False
    if not answer.startswith(b"HTTP/1.1 200"):
        raise CourseError(f"a server answers {bytes(answer[:300])!r}")
    length = _LENGTH.search(answer, 0, end)
    if length is None:
        raise CourseError("a server does not say how long its answer is")
    return len(answer) >= end + 4 + int(length[1])


def picture_files(shape: tuple[int, ...]) -> list[bytes]:
    """Returns different PNG files of the size that the model takes."""
    random = np.random.default_rng(0)
    files = []
    for _ in range(FILES):
        small = random.integers(0, 256, (7, 7, shape[2]), dtype="uint8")
        image = Image.fromarray(small[:, :, 0] if shape[2] == 1 else small)
        file = io.BytesIO()
        image.resize((shape[1], shape[0]), Image.Resampling.BICUBIC).save(file, "PNG")
        files.append(file.getvalue())
    return files


def batch_requests(shape: tuple[int, ...], size: int, accept: str) -> list[bytes]:
    """Returns requests with prepared batches."""
    random = np.random.default_rng(1)
    found = []
    for _ in range(4):
        file = io.BytesIO()
        np.save(file, random.integers(0, 256, (size, *shape), dtype="uint8"))
        found.append(request("/predict?top=1", file.getvalue(), "application/x-npy", accept))
    return found


# --- The tables ------------------------------------------------------------------------------------------------


def measure(model: Path, servers: dict[str, Callable[[int], list[str]]], rounds: int, seconds: float) -> None:
    """Prints the tables of one model."""
    shape = shape_of(model)
    files = picture_files(shape)
    single = [request("/predict?top=1", file, "image/png") for file in files]
    kinds = ("application/json", "application/x-npy")
    batches = {(size, kind): batch_requests(shape, size, kind) for size, _ in BATCHES for kind in kinds}
    measured: Measured = defaultdict(list)
    with ExitStack() as stack:
        bare = stack.enter_context(alone(model, files))
        ports = {name: free_port() for name in servers}
        for name, command in servers.items():
            stack.enter_context(server(command(ports[name]), ports[name]))
        for port in ports.values():  # warm-up
            load(port, single, clients=8, seconds=1)
        for _ in range(rounds):
            measured["alone", 1].append(bare(0, seconds))
            for clients in CLIENTS:
                for name, port in ports.items():
                    measured[name, clients].append(load(port, single, clients=clients, seconds=seconds))
            for size, clients in BATCHES:
                measured["alone", "batch", size].append(bare(size, seconds))
                for name, port in ports.items():
                    for kind in kinds:
                        done = load(port, batches[size, kind], clients=clients, seconds=seconds, pictures=size)
                        measured[name, "batch", size, kind].append(done)
    print_single(measured, list(servers))
    print_batches(measured, list(servers), kinds)


def print_single(measured: Measured, servers: Sequence[str]) -> None:
    """Prints the table of single pictures."""
    print(f"\n{'single pictures, PNG':<24} {'clients':>8} {'a second':>10} {'50 %':>9} {'99 %':>9}")
    print(f"{'alone, decoding':<24} {'-':>8} {rate(measured['alone', 1]):>10,.0f} {'-':>9} {'-':>9}")
    for clients in CLIENTS:
        for name in servers:
            row = measured[name, clients]
            middle, late = (f"{1000 * waited(row, share):.2f} ms" for share in (0.5, 0.99))
            print(f"{name:<24} {clients:>8} {rate(row):>10,.0f} {middle:>9} {late:>9}")


def print_batches(measured: Measured, servers: Sequence[str], kinds: Sequence[str]) -> None:
    """Prints the table of prepared batches."""
    print(
        f"\n{'prepared batches':<24} {'pictures':>8} {'clients':>8} {'a second':>10} {'of bare':>8}"
        f" {'50 %':>9} {'99 %':>9}"
    )
    for size, clients in BATCHES:
        bare = measured["alone", "batch", size]
        print(f"{'alone':<24} {size:>8} {'-':>8} {rate(bare):>10,.0f} {1:>8.2f} {'-':>9} {'-':>9}")
        for name in servers:
            for kind in kinds:
                row = measured[name, "batch", size, kind]
                share = median(mine.rate / other.rate for mine, other in zip(row, bare, strict=True))
                middle, late = (f"{1000 * waited(row, part):.1f} ms" for part in (0.5, 0.99))
                called = f"{name}, {'JSON' if 'json' in kind else 'logits'}"
                print(f"{called:<24} {size:>8} {clients:>8} {rate(row):>10,.0f} {share:>8.2f} {middle:>9} {late:>9}")


def rate(row: Sequence[Load]) -> float:
    """Returns pictures per second, as the median over the rounds."""
    return median(one.rate for one in row)


def waited(row: Sequence[Load], share: float) -> float:
    """Returns the seconds in which this share of the requests was answered."""
    return float(np.quantile([second for one in row for second in one.waited], share))


def cold_starts(model: Path, servers: dict[str, Callable[[int], list[str]]]) -> None:
    """Prints the table of cold starts."""
    shape = shape_of(model)
    ask = request("/predict?top=1", picture_files(shape)[0], "image/png")
    print(f"\n{'cold start':<24} {'seconds':>10} {'slowest':>10}")
    for name, command in servers.items():
        seconds = []
        for _ in range(COLD_STARTS):
            port = free_port()
            started = time.perf_counter()
            with server(command(port), port):
                load(port, [ask], clients=1, seconds=0)
                seconds.append(time.perf_counter() - started)
        print(f"{name:<24} {median(seconds):>10.2f} {max(seconds):>10.2f}")


def find_litserve(python: str) -> str:
    """Returns the Python that has LitServe, or an empty string."""
    if python:
        return python
    return sys.executable if select.is_installed("litserve") else ""


def main() -> None:
    """Prints the tables."""
    explain_errors()
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", type=Path, action="append", default=[], help="an .onnx file with a card")
    parser.add_argument("--backend", default="", help="which writes the models where none is given")
    parser.add_argument("--litserve", default="", metavar="PYTHON", help="the Python of an environment that has it")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0)
    options = parser.parse_args()
    check_positive(rounds=options.rounds)
    litserve = find_litserve(options.litserve)
    busy = ", ".join(f"{number:.1f}" for number in os.getloadavg())
    print(f"{select.processors()} processors, load {busy}; {options.rounds} rounds of {options.seconds} s")
    if not litserve:
        print("LitServe is left out; pip install litserve, or give --litserve PYTHON")
    with tempfile.TemporaryDirectory() as folder:
        models = {str(path): path for path in options.model}
        if not models:
            # in a separate process, because Keras and its backend would slow down the clients
            with get_context("spawn").Pool(1) as pool:
                models = pool.apply(write_models, (Path(folder), options.backend))
        for name, path in models.items():
            print(f"\n{name}, {path.stat().st_size:,} bytes")
            measure(path, commands(path, litserve), options.rounds, options.seconds)
        cold_starts(path, commands(path, litserve))


if __name__ == "__main__":
    main()
