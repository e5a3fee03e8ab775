"""Small saved models with cards, whose weights are drawn and not trained, and servers that answer by them.

Keras is imported where it is needed: some tests beside this file run where it is not.
"""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from keras_course.cards import ModelCard
from keras_course.preprocessing import PictureFormat

ROOT = Path(__file__).parents[2]
GREY = PictureFormat(height=28, width=28, channels=1)
WIDE = PictureFormat(height=20, width=28, channels=3)
CLASS_NAMES = ("ant", "bee", "cat", "dog", "eel")


def make_model(kind):
    """A dense net for grey pictures, or a convolutional one for wide coloured ones; its running means are not 0."""
    import keras

    from keras_course.models import cnn_classifier, dense_classifier

    if kind == "dense":
        return dense_classifier(input_shape=GREY.shape, hidden=(16,), num_classes=len(CLASS_NAMES), seed=3)
    model = cnn_classifier(
        input_shape=WIDE.shape, filters=(4, 8), dense=16, dropout=0.2, num_classes=len(CLASS_NAMES), seed=4
    )
    random = np.random.default_rng(5)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([random.uniform(0.5, 1.5, weight.shape) for weight in layer.get_weights()])
    return model


@pytest.fixture(scope="session")
def make_run(tmp_path_factory):
    """Saves a model in a run folder; each call gives a fresh one."""
    from keras_course.training import RunDirectory

    def make_run(kind="dense", card=None):
        pictures = GREY if kind == "dense" else WIDE
        card = card or ModelCard(title=f"A {kind} net", class_names=CLASS_NAMES, pictures=pictures, data="nothing")
        folder = tmp_path_factory.mktemp("runs") / "run"
        with RunDirectory(folder) as run:
            run.save_model(make_model(kind), card)
        return folder

    return make_run


@pytest.fixture(scope="session")
def dense_run(make_run):
    """A run that no test may change."""
    return make_run("dense")


@pytest.fixture(scope="session")
def cnn_run(make_run):
    """A run that no test may change."""
    return make_run("cnn")


class Server:
    """`keras-course serve` in a process of its own, on a free port of this machine."""

    def __init__(self, model, *options):
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "keras_course", "serve", str(model), "--port", "0", *map(str, options)]
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - it is closed with the server
        self.process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=self._errors, text=True, start_new_session=True
        )
        self.announced = self.process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:(\d+)", self.announced)
        assert found, self.errors()
        self.url, self.port = found[0], int(found[1])

    def errors(self):
        """What it has written to its error output so far."""
        self._errors.seek(0)
        return self._errors.read()

    def check(self):
        """Makes sure that it still runs and has had nothing to say on its error output."""
        assert self.process.poll() is None, "it has ended before it was told to"
        assert self.errors() == ""

    def stop(self):
        """Ends it as Ctrl-C does, and returns the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        return self.process.wait(timeout=60)

    def close(self):
        """Ends it, if it has not ended yet, and lets go of what it has written."""
        self.stop()
        self.process.stdout.close()
        self._errors.close()

    def ask(self, method, path, body=None, headers=()):
        """Sends one request and returns the status and what came back as JSON."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body, dict(headers))
            response = connection.getresponse()
            return response.status, json.loads(response.read())
        finally:
            connection.close()

    def speak(self, *parts):
        """Sends bytes as they are, and returns what comes back; nothing if the connection is just closed."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=30) as connection:
            try:
                for part in parts:
                    connection.sendall(part)
                with suppress(OSError):  # the server may have been quicker
                    connection.shutdown(socket.SHUT_WR)
                return connection.makefile("rb").read()
            except (ConnectionResetError, BrokenPipeError):
                return b""


@pytest.fixture(scope="session")
def start_server():
    """Starts servers, and ends those that are left."""
    servers = []

    def start(model, *options):
        servers.append(Server(model, *options))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture(scope="session")
def onnx_file(cnn_run):
    """The convolutional net as ONNX."""
    from keras_course.deployment.export import export_model

    return export_model(cnn_run, format="onnx", trust=True).path


@pytest.fixture(scope="session", params=["keras", pytest.param("onnx", marks=pytest.mark.one_backend)])
def server(request, start_server, cnn_run):
    """The convolutional net, answered by Keras and by ONNX Runtime."""
    server = start_server(cnn_run if request.param == "keras" else request.getfixturevalue("onnx_file"))
    yield server
    server.check()


@pytest.fixture(scope="session")
def onnx_server(start_server, onnx_file):
    """The same net for tests to which it is one what answers; a request may take two seconds."""
    server = start_server(onnx_file, "--seconds", 2)
    yield server
    server.check()
