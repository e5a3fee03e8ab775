"""How fast ``keras-course serve`` answers, beside bare ONNX Runtime and LitServe, in one run.

    python benchmarks/serving.py                       # a small convolutional net
    python benchmarks/serving.py runs/07_asl_augmentation/exports/model.onnx --rounds 5
    python benchmarks/serving.py --litserve /path/to/another/venv/bin/python

Four tables:

- **batches**: requests with 256 prepared pictures each, beside calls of ONNX Runtime with the same batches in a process
  of its own: how much of its throughput is left when the pictures come over HTTP;
- **single pictures**: requests with one PNG each, from 1, 8 and 32 clients at once: requests a second, and how long
  half of them and 99 of 100 take;
- **the same at LitServe**, with the same model, the same preparation of pictures and its own batching, where it is
  installed: ``pip install litserve onnxruntime keras-course``, in an environment of its own if need be;
- **cold start**: from the start of the command to its first answer.

The contestants take turns; what is printed are medians of the rounds. Client and server share the machine.
"""

import argparse
import http.client
import io
import json
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from PIL import Image

from keras_course._backend import select
from keras_course.errors import CourseError, check_positive
from keras_course.lesson import explain_errors

BATCH, BATCHES = 256, 24
CLIENTS, REQUESTS = (1, 8, 32), 600

LITSERVE = """
import sys
import numpy as np
import litserve
from keras_course.deployment.predict import predictions_of
from keras_course.deployment.runtimes import open_model
from keras_course.preprocessing import prepare

class Classifier(litserve.LitAPI):
    def setup(self, device):
        self.runtime = open_model(sys.argv[1])

    def decode_request(self, request):
        return prepare(request["picture"].file.read(), self.runtime.card.pictures)

    def batch(self, inputs):
        return np.stack(inputs)

    def predict(self, pictures):
        return self.runtime.logits(pictures)

    def unbatch(self, logits):
        return list(logits)

    def encode_response(self, logits):
        (answers,) = predictions_of(logits[None], self.runtime.card.class_names)
        return {"predictions": [{"answers": [vars(answer) for answer in answers]}]}

if __name__ == "__main__":
    api = Classifier(max_batch_size=32, batch_timeout=0.002)
    litserve.LitServer(api, accelerator="cpu").run(
        host="127.0.0.1", port=int(sys.argv[2]), generate_client_file=False, log_level="error"
    )
"""


def small_net(folder: Path) -> Path:
    """Exports the course's convolutional net with weights as they are drawn."""
    from keras_course.cards import ModelCard
    from keras_course.datasets import asl
    from keras_course.deployment.export import export_model
    from keras_course.models import cnn_classifier
    from keras_course.training import RunDirectory

    card = ModelCard(title="The course's net", class_names=asl.CLASS_NAMES, pictures=asl.PICTURES)
    with RunDirectory(folder / "run") as run:
        run.save_model(cnn_classifier(), card)
    return export_model(run.path, format="onnx").path


@contextmanager
def serving(command: list[str], port: int | None = None) -> Iterator[int]:
    """Runs a server until the block ends; one that does not say its port is asked until it answers."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            if port is None:
                found = re.search(r":(\d+) ", process.stdout.readline() if process.stdout else "")
                if found is None:
                    raise CourseError("keras-course serve has not started")
                port = int(found[1])
            else:
                wait_for(port, process)
            yield port
        finally:
            process.terminate()


def wait_for(port: int, process: "subprocess.Popen[str]") -> None:
    """Waits until a server answers, for a minute."""
    for _ in range(600):
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/health")
            if connection.getresponse().status == 200:
                return
        except OSError:
            pass
        if process.poll() is not None:
            break
        time.sleep(0.1)
    raise CourseError("the server has not started")


def bare(model: Path, batches: list[np.ndarray]) -> float:
    """Pictures a second of ONNX Runtime alone, in this process."""
    import onnxruntime

    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    session.run(None, {name: batches[0].astype("float32")})
    started = time.perf_counter()
    for batch in batches:
        session.run(None, {name: batch.astype("float32")})
    return sum(map(len, batches)) / (time.perf_counter() - started)


def batches_by_http(port: int, bodies: list[bytes], pictures: int) -> float:
    """Pictures a second when the batches come over HTTP, two requests at a time."""

    def ask(some: list[bytes]) -> list[float]:
        return client(port, "/predict?top=1", "application/x-npy", some)

    started = time.perf_counter()
    together(ask, [bodies[0::2], bodies[1::2]])
    return pictures / (time.perf_counter() - started)


def client(port: int, path: str, kind: str, bodies: list[bytes]) -> list[float]:
    """Sends bodies one after the other and returns how long each answer took."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    seconds = []
    for body in bodies:
        started = time.perf_counter()
        connection.request("POST", path, body, {"Content-Type": kind})
        response = connection.getresponse()
        answer = json.loads(response.read())
        seconds.append(time.perf_counter() - started)
        if response.status != 200:
            raise CourseError(f"the server answers {response.status}: {answer}")
    connection.close()
    return seconds


def together(run: Callable[[Any], list[float]], shares: list[Any]) -> list[float]:
    """Runs clients in threads and returns all their times."""
    found: list[float] = []
    errors: list[Exception] = []

    def work(share: Any) -> None:
        try:
            found.extend(run(share))
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(share,)) for share in shares]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return found


def singles(port: int, clients: int, file: bytes) -> tuple[float, float, float]:
    """Requests a second, and the milliseconds of half and of 99 of 100 of them; LitServe needs files in a form."""
    body = b'--e\r\nContent-Disposition: form-data; name="picture"; filename="a.png"\r\n\r\n' + file + b"\r\n--e--\r\n"
    kind = "multipart/form-data; boundary=e"
    client(port, "/predict", kind, [body] * 20)
    started = time.perf_counter()
    share = [body] * (REQUESTS // clients)
    seconds = sorted(together(lambda some: client(port, "/predict", kind, some), [share] * clients))
    rate = len(seconds) / (time.perf_counter() - started)
    return rate, *(1000 * seconds[int(part * len(seconds))] for part in (0.5, 0.99))


def cold_start(command: list[str], file: bytes) -> float:
    """Seconds from the start of the command to the first answer."""
    started = time.perf_counter()
    with serving(command) as port:
        client(port, "/predict", "image/png", [file])
        return time.perf_counter() - started


def main() -> None:
    """Prints the tables."""
    explain_errors()
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model", type=Path, nargs="?", help="an ONNX file of keras-course export")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--litserve", default=sys.executable, metavar="PYTHON", help="a Python that has litserve")
    options = parser.parse_args()
    check_positive(rounds=options.rounds)
    with tempfile.TemporaryDirectory() as folder:
        if options.model is None:
            select.use()
            select.import_keras()
        model = options.model or small_net(Path(folder))
        script = Path(folder) / "with_litserve.py"
        script.write_text(LITSERVE)
        found = subprocess.run([options.litserve, "-c", "import litserve"], capture_output=True, check=False)
        measure(model, options.rounds, [options.litserve, str(script)] if found.returncode == 0 else None)


def measure(model: Path, rounds: int, litserve: list[str] | None) -> None:
    """Measures one model."""
    from keras_course.deployment.runtimes import open_model
    from keras_course.deployment.serve import bind

    shape = open_model(model).card.pictures.shape
    random = np.random.default_rng(0)
    batches = [random.integers(0, 256, (BATCH, *shape), dtype="uint8") for _ in range(BATCHES)]
    bodies = []
    for batch in batches:
        file = io.BytesIO()
        np.save(file, batch)
        bodies.append(file.getvalue())
    picture = io.BytesIO()
    Image.fromarray(random.integers(0, 256, (64, 64, 3), dtype="uint8")).save(picture, "PNG")
    ours = [sys.executable, "-m", "keras_course", "serve", str(model), "--port", "0"]

    alone, served, rates = [], [], {}
    for _ in range(rounds):
        alone.append(bare(model, batches))
        with serving(ours) as port:
            batches_by_http(port, bodies[:2], 2 * BATCH)
            served.append(batches_by_http(port, bodies, BATCH * BATCHES))
            for clients in CLIENTS:
                rates.setdefault(("keras-course serve", clients), []).append(singles(port, clients, picture.getvalue()))
        if litserve:
            with bind(port=0) as free:
                port = free.getsockname()[1]
            with serving([*litserve, str(model), str(port)], port):
                for clients in CLIENTS:
                    rates.setdefault(("LitServe", clients), []).append(singles(port, clients, picture.getvalue()))

    print(f"batches of {BATCH} pictures of {' × '.join(map(str, shape))}, pictures a second")
    print(f"  ONNX Runtime alone  {median(alone):>9,.0f}")
    shares = [over / by_itself for over, by_itself in zip(served, alone, strict=True)]
    print(f"  keras-course serve  {median(served):>9,.0f}   {median(shares):.2f} of it")
    print(f"\n{'single pictures':<20} {'clients':>8} {'a second':>9} {'p50 ms':>8} {'p99 ms':>8}")
    for (name, clients), measured in rates.items():
        rate, half, most = (median(values) for values in zip(*measured, strict=True))
        print(f"{name:<20} {clients:>8} {rate:>9,.0f} {half:>8.2f} {most:>8.2f}")
    if not litserve:
        print("LitServe is not installed; pip install litserve, or give --litserve the Python of another environment")
    seconds = median(cold_start(ours, picture.getvalue()) for _ in range(5))
    print(f"\ncold start, to the first answer: {seconds:.2f} s")


if __name__ == "__main__":
    main()
