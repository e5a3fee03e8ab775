"""An exam of photos in single colors with noise, and a network with hand-made weights that passes it.

Keras and ONNX are imported inside functions, because the tests of grades run without them.
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
    """Uses a separate cache of decoded photos, not the one of the user."""
    monkeypatch.setenv("KERAS_COURSE_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


def write_photos(folder, counts):
    """Writes different photos of each color and returns the folder."""
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


def color_model(kernel, bias=None, activation=None, shape=SIZE.shape):
    """Returns a network whose answers are weighted sums of the mean red, green and blue."""
    import keras

    kernel = np.array(kernel, "float32")
    bias = np.zeros(kernel.shape[1]) if bias is None else bias
    mean = keras.layers.GlobalAveragePooling2D()
    net = keras.Sequential(
        [keras.Input(shape), mean, keras.layers.Dense(len(bias), activation=activation, name="answers")]
    )
    net.get_layer("answers").set_weights([kernel, np.array(bias, "float32")])
    return net


def correct_model(colors=COLORS):
    """Returns a network that is always right: its answer for each class is the mean of that color."""
    return color_model(one_color_each(colors))


def one_color_each(colors):
    """Returns the kernel that gives the mean of each color as the answer of that class."""
    return [[float(CHANNEL[name] == channel) for name in colors] for channel in range(3)]


def card(class_names=COLORS):
    return ModelCard(title="Colors", class_names=class_names, picture_format=SIZE)


def save_run(folder, model, class_names=COLORS):
    from keras_course.training import RunDirectory

    with RunDirectory(folder) as run:
        run.save_model(model, card(class_names))
    return folder


def save_without_card(path, model):
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


def save_color_model(path, kernel, bias=0.0, class_names=COLORS):
    """Writes the network of ``color_model`` as ONNX, without Keras, which opens ten times as fast."""
    from onnx import helper

    nodes = [
        helper.make_node("ReduceMean", ["pictures"], ["mean"], axes=[1, 2], keepdims=0),
        helper.make_node("MatMul", ["mean", "kernel"], ["product"]),
        helper.make_node("Add", ["product", "bias"], ["logits"]),
    ]
    kernel, bias = np.array(kernel, "float32"), np.array(bias, "float32")
    constants = {"kernel": kernel, "bias": bias}
    return save_onnx(path, nodes, constants, card=card(class_names), classes=kernel.shape[1])


def save_correct_model(path, colors=COLORS, class_names=None):
    """Writes the network of ``correct_model`` as ONNX."""
    return save_color_model(path, one_color_each(colors), class_names=class_names or colors)


@pytest.fixture(scope="session")
def tools():
    """Functions that build exams and submissions."""
    return SimpleNamespace(
        color_model=color_model,
        card=card,
        photos=write_photos,
        save_color_model=save_color_model,
        save_without_card=save_without_card,
        save_onnx=save_onnx,
        save_run=save_run,
        save_correct_model=save_correct_model,
        correct_model=correct_model,
        COLORS=COLORS,
        SIZE=SIZE,
    )


@pytest.fixture(scope="session")
def run_command():
    """Returns a function that runs ``keras-course`` in a separate process."""

    def run(*arguments):
        command = [sys.executable, "-m", "keras_course", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)

    return run
