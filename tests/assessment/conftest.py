"""An exam that a person could pass: single colors with noise. And a net that passes it, built by hand.

Keras and ONNX are imported where they are needed: the tests of grades run where neither is.
"""

import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from keras_course.cards import ModelCard
from keras_course.preprocessing import PictureFormat

COLORS = ("blue", "green", "red")
CHANNEL = {"red": 0, "green": 1, "blue": 2}
SIZE = PictureFormat(height=12, width=16, channels=3)


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    """Decoded photos are kept apart from those of the person who runs the tests."""
    monkeypatch.setenv("KERAS_COURSE_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


def write_photos(folder, counts):
    """Writes photos of colors; no two are equal."""
    random = np.random.default_rng(0)
    for name, count in counts.items():
        (folder / name).mkdir(parents=True)
        for number in range(count):
            pixels = random.integers(0, 60, (30, 40, 3))
            pixels[..., CHANNEL[name]] += 120
            Image.fromarray(pixels.astype("uint8")).save(folder / name / f"{name}_{number:02}.png")
    return folder


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """Twelve photos of each of three colors."""
    return write_photos(tmp_path_factory.mktemp("exam") / "colors", dict.fromkeys(COLORS, 12))


def answering(kernel, bias=None, activation=None, shape=SIZE.shape):
    """A net whose answers are sums of the mean red, green and blue."""
    import keras

    kernel = np.array(kernel, "float32")
    bias = np.zeros(kernel.shape[1]) if bias is None else bias
    mean = keras.layers.GlobalAveragePooling2D()
    net = keras.Sequential(
        [keras.Input(shape), mean, keras.layers.Dense(len(bias), activation=activation, name="answers")]
    )
    net.get_layer("answers").set_weights([kernel, np.array(bias, "float32")])
    return net


def solver(colors=COLORS):
    """The net that is always right: it answers with the mean of each color."""
    return answering(one_for_each(colors))


def one_for_each(colors):
    """The kernel that hands each color's mean on to the answer of its name."""
    return [[float(CHANNEL[name] == channel) for name in colors] for channel in range(3)]


def card(class_names=COLORS):
    return ModelCard(title="Colors", class_names=class_names, picture_format=SIZE)


def save_run(folder, model, class_names=COLORS):
    from keras_course.training import RunDirectory

    with RunDirectory(folder) as run:
        run.save_model(model, card(class_names))
    return folder


def save_bare(path, model):
    path.parent.mkdir(parents=True, exist_ok=True)
    model.save(path)
    return path


def save_onnx(path, nodes, constants=None, *, card=None, classes=3):
    """Writes an ONNX model from ``pictures`` (n, 12, 16, 3) to ``logits`` (n, classes)."""
    import onnx
    from onnx import TensorProto, helper

    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = [onnx.numpy_helper.from_array(np.asarray(value), name) for name, value in (constants or {}).items()]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("pictures", TensorProto.FLOAT, ["n", 12, 16, 3])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", classes])],
        tensors,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    if card is not None:
        helper.set_model_props(model, {"card.json": card.to_json()})
    path.write_bytes(model.SerializeToString())
    return path


def save_answering(path, kernel, bias=0.0, class_names=COLORS):
    """Writes what ``answering`` builds as ONNX by hand, which opens in a tenth of the time that a backend takes."""
    from onnx import helper

    nodes = [
        helper.make_node("ReduceMean", ["pictures"], ["mean"], axes=[1, 2], keepdims=0),
        helper.make_node("MatMul", ["mean", "kernel"], ["product"]),
        helper.make_node("Add", ["product", "bias"], ["logits"]),
    ]
    kernel, bias = np.array(kernel, "float32"), np.array(bias, "float32")
    constants = {"kernel": kernel, "bias": bias}
    return save_onnx(path, nodes, constants, card=card(class_names), classes=kernel.shape[1])


def save_solver(path, colors=COLORS, class_names=None):
    """Writes what ``solver`` builds as ONNX."""
    return save_answering(path, one_for_each(colors), class_names=class_names or colors)


@pytest.fixture(scope="session")
def made():
    """What tests build exams and submissions with."""
    return SimpleNamespace(
        answering=answering,
        card=card,
        photos=write_photos,
        save_answering=save_answering,
        save_bare=save_bare,
        save_onnx=save_onnx,
        save_run=save_run,
        save_solver=save_solver,
        solver=solver,
        COLORS=COLORS,
        SIZE=SIZE,
    )


@pytest.fixture(scope="session")
def run_command():
    """Runs ``keras-course`` with some arguments, in a process of its own."""

    def run(*arguments):
        command = [sys.executable, "-m", "keras_course", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)

    return run
