"""Small saved models with cards and random weights.

Keras is imported inside functions, because some tests in this folder run without it.
"""

import numpy as np
import pytest

from keras_course.cards import ModelCard
from keras_course.preprocessing import PictureFormat

GRAY = PictureFormat(height=28, width=28, channels=1)
WIDE = PictureFormat(height=20, width=28, channels=3)
CLASS_NAMES = ("ant", "bee", "cat", "dog", "eel")


def make_model(kind):
    """Returns a dense network for gray pictures, or a convolutional one with random normalization for colored ones."""
    import keras

    from keras_course.models import cnn_classifier, dense_classifier

    if kind == "dense":
        return dense_classifier(input_shape=GRAY.shape, hidden=(16,), num_classes=len(CLASS_NAMES), seed=3)
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
    """Returns a function that saves a model in a new run folder."""
    from keras_course.training import RunDirectory

    def make_run(kind="dense", card=None):
        pictures = GRAY if kind == "dense" else WIDE
        card = card or ModelCard(
            title=f"A {kind} net", class_names=CLASS_NAMES, picture_format=pictures, data="nothing"
        )
        folder = tmp_path_factory.mktemp("runs") / "run"
        with RunDirectory(folder) as run:
            run.save_model(make_model(kind), card)
        return folder

    return make_run


@pytest.fixture(scope="session")
def dense_run(make_run):
    """A run that tests must not change."""
    return make_run("dense")


@pytest.fixture(scope="session")
def cnn_run(make_run):
    """A run that tests must not change."""
    return make_run("cnn")


@pytest.fixture(scope="session")
def onnx_file(cnn_run):
    """The convolutional network as an ONNX file."""
    from keras_course.deployment.export import export_model

    return export_model(cnn_run, format="onnx", trust=True).path


@pytest.fixture(scope="session", params=["keras", pytest.param("onnx", marks=pytest.mark.one_backend)])
def server(request, start_server, cnn_run):
    """A server of the convolutional network, with Keras and with ONNX Runtime."""
    server = start_server(cnn_run if request.param == "keras" else request.getfixturevalue("onnx_file"))
    yield server
    server.check()
