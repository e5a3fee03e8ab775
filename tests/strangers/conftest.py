"""Fixtures for attacks: exam and models of the grader's tests, servers of a small model, hostile clients, processes."""

import importlib.util
import json
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
import pytest

from keras_course.cards import ModelCard
from keras_course.preprocessing import PictureFormat
from keras_course.preprocessing.text_format import TextFormat
from tests.assessment.conftest import cache, photos, run_command, tools  # noqa: F401 - fixtures

WAIT = 20.0
WIDE = PictureFormat(height=20, width=28, channels=3)
CLASS_NAMES = ("ant", "bee", "cat", "dog", "eel")
WORDS = TextFormat(
    unit="words", vocabulary=("[PAD]", "[UNK]", "[END]", "to", "be", "or", "not"), sequence_length=8, padding="right"
)
HOSTILE = Path(__file__).with_name("hostile_clients.py")


@pytest.fixture(scope="session")
def onnx_file(tmp_path_factory):
    """An ONNX file: a linear model of the mean color of a picture."""
    import onnx
    from onnx import TensorProto, helper

    kernel = np.random.default_rng(0).normal(0, 0.05, (3, len(CLASS_NAMES))).astype("float32")
    graph = helper.make_graph(
        [
            helper.make_node("ReduceMean", ["pictures"], ["mean"], axes=[1, 2], keepdims=0),
            helper.make_node("MatMul", ["mean", "kernel"], ["logits"]),
        ],
        "colors",
        [helper.make_tensor_value_info("pictures", TensorProto.FLOAT, ["n", *WIDE.shape])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", len(CLASS_NAMES)])],
        [onnx.numpy_helper.from_array(kernel, "kernel")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    card = ModelCard(title="Colors", class_names=CLASS_NAMES, picture_format=WIDE, data="nothing")
    helper.set_model_props(model, {"card.json": card.to_json()})
    path = tmp_path_factory.mktemp("models") / "colors.onnx"
    path.write_bytes(model.SerializeToString())
    return path


@pytest.fixture(scope="session")
def text_onnx_file(tmp_path_factory):
    """A linear model of the mean vector of a text's words, as ONNX."""
    import onnx
    from onnx import TensorProto, helper

    random = np.random.default_rng(1)
    table = random.normal(0, 1, (len(WORDS.vocabulary), 4)).astype("float32")
    kernel = random.normal(0, 1, (4, len(CLASS_NAMES))).astype("float32")
    graph = helper.make_graph(
        [
            helper.make_node("Gather", ["table", "tokens"], ["vectors"]),
            helper.make_node("ReduceMean", ["vectors"], ["mean"], axes=[1], keepdims=0),
            helper.make_node("MatMul", ["mean", "kernel"], ["logits"]),
        ],
        "texts",
        [helper.make_tensor_value_info("tokens", TensorProto.INT32, ["n", WORDS.sequence_length])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", len(CLASS_NAMES)])],
        [onnx.numpy_helper.from_array(table, "table"), onnx.numpy_helper.from_array(kernel, "kernel")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    card = ModelCard(title="Texts", class_names=CLASS_NAMES, text_format=WORDS, data="nothing")
    helper.set_model_props(model, {"card.json": card.to_json()})
    path = tmp_path_factory.mktemp("models") / "texts.onnx"
    path.write_bytes(model.SerializeToString())
    return path


@pytest.fixture(scope="session")
def text_server(start_server, text_onnx_file):
    """A server for texts."""
    server = start_server(text_onnx_file)
    yield server
    server.check()


@pytest.fixture(scope="session")
def onnx_server(start_server, onnx_file):
    """A server with a time limit of two seconds for each request."""
    server = start_server(onnx_file, "--seconds", 2)
    yield server
    server.check()


@pytest.fixture(scope="session")
def hostile():
    """The module hostile_clients.py, which is also a program."""
    spec = importlib.util.spec_from_file_location("hostile_clients", HOSTILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def attack():
    """Returns a context manager that runs one kind of hostile client in a separate process."""

    @contextmanager
    def attack(kind, server, seconds):
        command = [sys.executable, str(HOSTILE), kind, str(server.port), str(seconds), *map(str, WIDE.shape)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout.readline() == "begins\n"
            try:
                yield
                seen = process.stdout.readline()
                assert seen, f"{kind} did not end"
                print(kind, seen)
                assert json.loads(seen).get("never cut off", 0) == 0
            finally:
                process.kill()

    return attack


@pytest.fixture
def start():
    """Returns a function that starts a Python program, which is killed after the test."""
    running = []

    def run(program, *arguments):
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        process = subprocess.Popen([sys.executable, "-c", program, *map(str, arguments)], text=True, **pipes)
        running.append(process)
        return process

    yield run
    for process in running:
        process.kill()
        process.communicate()


@pytest.fixture(scope="session")
def has_ended():
    """Returns a function that waits for the end of a process, and returns whether it ended."""

    def wait(pid):
        deadline = time.monotonic() + WAIT
        while time.monotonic() < deadline:
            try:
                if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                    return True
            except psutil.NoSuchProcess:
                return True
            time.sleep(0.02)
        return False

    return wait
