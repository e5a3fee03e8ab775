"""Small saved models with cards and random weights.

Keras is imported inside functions, because some tests in this folder run without it.
"""

from functools import cache

import numpy as np
import pytest

from keras_course.cards import ModelCard
from keras_course.preprocessing import PictureFormat
from keras_course.preprocessing.text_format import TextFormat

GRAY = PictureFormat(height=28, width=28, channels=1)
WIDE = PictureFormat(height=20, width=28, channels=3)
CLASS_NAMES = ("ant", "bee", "cat", "dog", "eel")
WORDS = ("to", "be", "or", "not", "that", "is", "the", "question", "whether", "'tis", "nobler", "in", "mind")
VOCABULARY = ("[PAD]", "[UNK]", "[END]", *WORDS)
LENGTH = 8
FEELINGS = ("sad", "merry", "angry")


def words(padding):
    """The format of a small vocabulary of words."""
    return TextFormat(
        unit="words", vocabulary=VOCABULARY, sequence_length=LENGTH, padding=padding, keep_punctuation=False
    )


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


def make_text_model(kind):
    """A net for texts: a recurrent one, a causal Transformer, a classifier, or an encoder of texts of any length."""
    from keras_course.models.bert import bert_encoder, sentence_encoder, text_classifier
    from keras_course.models.recurrent import recurrent_language_model
    from keras_course.models.transformer import causal_language_model

    sizes = {"vocabulary_size": len(VOCABULARY), "sequence_length": LENGTH, "seed": 6}
    if kind in ("lstm", "gru"):
        model = recurrent_language_model(units=6, cell=kind, **sizes)
    elif kind == "causal":
        model = causal_language_model(embedding_dim=16, num_heads=2, intermediate_dim=32, num_layers=1, **sizes)
    else:
        encoder = bert_encoder(
            vocabulary_size=len(VOCABULARY),
            sequence_length=LENGTH if kind == "classifier" else None,
            max_positions=2 * LENGTH,
            embedding_dim=16,
            num_layers=1,
            num_heads=2,
            intermediate_dim=32,
        )
        is_encoder = kind == "sentences"
        model = sentence_encoder(encoder) if is_encoder else text_classifier(encoder, num_classes=len(FEELINGS))
    random = np.random.default_rng(7)  # with the weights of a beginner all answers are nearly equal
    model.set_weights([random.normal(0, 0.7, weight.shape) for weight in model.get_weights()])
    return model


def text_card(kind):
    """The card of a net of ``make_text_model``."""
    if kind == "sentences":
        names = [str(number) for number in range(16)]
        return ModelCard(title="Vectors", class_names=names, text_format=words("right"), outputs="embedding")
    if kind == "classifier":
        return ModelCard(title="How a text feels", class_names=FEELINGS, text_format=words("right"))
    return ModelCard(title=f"The next word ({kind})", text_format=words("right" if kind == "causal" else "left"))


@pytest.fixture(scope="session")
def text_run(tmp_path_factory):
    """Saves a net for texts in a run folder, each once; no test may change them."""
    from keras_course.training import RunDirectory

    @cache
    def text_run(kind):
        folder = tmp_path_factory.mktemp("text_runs") / kind
        with RunDirectory(folder) as run:
            run.save_model(make_text_model(kind), text_card(kind))
        return folder

    return text_run


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
