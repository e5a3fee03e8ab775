"""The recurrent language model, against formulas and NumPy."""

import keras
import numpy as np
import pytest

from keras_course._backend import keras_private
from keras_course.allow_list import check_can_be_opened
from keras_course.deployment.model_files import load_keras_model
from keras_course.errors import CourseError
from keras_course.models import parameter_table, recurrent_language_model
from keras_course.randomness import stream_key, uniform
from keras_course.training import fit, predict_logits

TINY = {"vocabulary_size": 11, "sequence_length": 5, "embedding_dim": 3, "units": 4}
CELLS = ("lstm", "gru")


def tokens(count, *, vocabulary_size=11, sequence_length=5):
    """Sentences of different lengths, padded on the left."""
    draw = np.random.default_rng(0)
    found = draw.integers(1, vocabulary_size, (count, sequence_length))
    padded = np.arange(sequence_length) < draw.integers(0, sequence_length, (count, 1))
    return np.where(padded, 0, found).astype("int32")


def labels(count, vocabulary_size=11):
    return (np.arange(count) % vocabulary_size).astype("int32")


def weights_of(model):
    return {weight.path: keras.ops.convert_to_numpy(weight).astype("float64") for weight in model.weights}


def with_other_weights(model):
    """Weights of the order of 1, so that no gate is near the middle of its range; the biases, too."""
    draw = np.random.default_rng(1)
    for weight in model.trainable_weights:
        weight.assign(draw.normal(0, 0.7, weight.shape))
    return model


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def lstm(x, w):
    """The last state of an LSTM; Keras keeps its gates in the order input, forget, candidate, output."""
    h = c = np.zeros((len(x), 4))
    for time in range(x.shape[1]):
        z = x[:, time] @ w["kernel"] + h @ w["recurrent_kernel"] + w["bias"]
        at_input, forget, candidate, output = np.split(z, 4, axis=1)
        c = sigmoid(forget) * c + sigmoid(at_input) * np.tanh(candidate)
        h = sigmoid(output) * np.tanh(c)
    return h


def gru(x, w):
    """The last state of a GRU whose reset gate comes after the product, with the gates update, reset, candidate."""
    h = np.zeros((len(x), 4))
    for time in range(x.shape[1]):
        of_x = np.split(x[:, time] @ w["kernel"] + w["bias"][0], 3, axis=1)
        of_h = np.split(h @ w["recurrent_kernel"] + w["bias"][1], 3, axis=1)
        update, reset = sigmoid(of_x[0] + of_h[0]), sigmoid(of_x[1] + of_h[1])
        h = update * h + (1 - update) * np.tanh(of_x[2] + reset * of_h[2])
    return h


def logits_of(model, cell, x):
    w = weights_of(model)
    inside = {name: w[f"{cell}/{cell}_cell/{name}"] for name in ("kernel", "recurrent_kernel", "bias")}
    last = {"lstm": lstm, "gru": gru}[cell](w["embedding/embeddings"][x], inside)
    return last @ w["logits/kernel"] + w["logits/bias"]


def parameters(cell, vocabulary_size, embedding_dim, units):
    gates, biases = {"lstm": (4, 1), "gru": (3, 2)}[cell]
    of_cell = gates * ((embedding_dim + units) * units + biases * units)
    return vocabulary_size * embedding_dim + of_cell + (units + 1) * vocabulary_size


def test_the_net_of_the_course_has_1_348_983_parameters():
    model = recurrent_language_model(vocabulary_size=11_753, sequence_length=28)
    assert parameters("lstm", 11_753, 10, 100) == 1_348_983
    assert parameter_table(model)[-1].trainable == 1_348_983
    assert model.count_params() == 1_348_983 + 1  # the counter of dropout
    assert (model.input_shape, model.output_shape) == ((None, 28), (None, 11_753))


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize(("vocabulary_size", "embedding_dim", "units"), [(1, 1, 1), (30, 2, 5)])
def test_any_size(cell, vocabulary_size, embedding_dim, units):
    sizes = {"vocabulary_size": vocabulary_size, "embedding_dim": embedding_dim, "units": units}
    model = recurrent_language_model(**sizes, sequence_length=3, cell=cell, dropout=0.0)
    assert model.count_params() == parameters(cell, vocabulary_size, embedding_dim, units)


@pytest.mark.parametrize("cell", CELLS)
def test_the_names_of_the_layers_are_those_that_weights_and_lessons_depend_on(cell):
    names = [layer.name for layer in recurrent_language_model(cell=cell, **TINY).layers]
    assert names == ["tokens", "embedding", cell, "dropout", "logits"]
    names = [layer.name for layer in recurrent_language_model(cell=cell, dropout=0.0, **TINY).layers]
    assert names == ["tokens", "embedding", cell, "logits"]
    assert recurrent_language_model(**TINY).name == "recurrent_language_model"
    assert recurrent_language_model(name="mine", **TINY).name == "mine"


@pytest.mark.parametrize("cell", CELLS)
def test_the_logits_are_those_of_numpy(cell):
    model = with_other_weights(recurrent_language_model(cell=cell, **TINY))
    x = tokens(8)
    assert (x[:, 0] == 0).any()
    assert (x != 0).all(axis=1).any()
    expected = logits_of(model, cell, x)
    assert expected.std() > 0.1
    np.testing.assert_allclose(predict_logits(model, x), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("cell", CELLS)
def test_there_is_no_mask(cell):
    """Padding is a token with a vector of its own, which changes the outputs of short sentences only."""
    model = with_other_weights(recurrent_language_model(cell=cell, **TINY))
    assert not any(keras_private.has_mask(layer.output) for layer in model.layers)
    x = tokens(8)
    before = predict_logits(model, x)
    table = model.get_layer("embedding").embeddings
    changed = keras.ops.convert_to_numpy(table).copy()
    changed[0] += 1
    table.assign(changed)
    differs = np.abs(predict_logits(model, x) - before).max(axis=1) > 1e-4
    np.testing.assert_array_equal(differs, (x == 0).any(axis=1))


def test_dropout_is_only_for_training():
    x = tokens(8)
    plain, dropping = recurrent_language_model(dropout=0.0, **TINY), recurrent_language_model(dropout=0.5, **TINY)
    np.testing.assert_array_equal(predict_logits(dropping, x), predict_logits(plain, x))
    assert not np.allclose(keras.ops.convert_to_numpy(dropping(x, training=True)), predict_logits(plain, x))


@pytest.mark.parametrize("cell", CELLS)
def test_the_initial_weights_are_draws_of_their_name(cell):
    model = recurrent_language_model(cell=cell, seed=5, **TINY)
    w, gates = weights_of(model), {"lstm": 4, "gru": 3}[cell]
    assert list(w) == [
        "embedding/embeddings",
        *(f"{cell}/{cell}_cell/{name}" for name in ("kernel", "recurrent_kernel", "bias")),
        "dropout/step",
        "logits/kernel",
        "logits/bias",
    ]

    def draws(path):
        return 2 * uniform(stream_key(5, path), w[path].shape).astype("float64") - 1

    np.testing.assert_allclose(w["embedding/embeddings"], 0.05 * draws("embedding/embeddings"), atol=1e-7)
    for path, sides in {f"{cell}/{cell}_cell/kernel": 3 + 4 * gates, "logits/kernel": 4 + 11}.items():
        np.testing.assert_allclose(w[path], np.sqrt(6 / sides) * draws(path), rtol=1e-5, atol=1e-7)
    recurrent = w[f"{cell}/{cell}_cell/recurrent_kernel"]
    np.testing.assert_allclose(recurrent @ recurrent.T, np.eye(4), atol=1e-6)
    bias = w[f"{cell}/{cell}_cell/bias"]
    forget = np.repeat([0.0, 1.0, 0.0, 0.0], 4)  # an LSTM remembers at first
    np.testing.assert_array_equal(bias, forget if cell == "lstm" else np.zeros((2, 12)))
    assert not w["logits/bias"].any()


def test_the_seed_decides_the_weights():
    first, again, other = (recurrent_language_model(seed=seed, **TINY).get_weights() for seed in (1, 1, 2))
    assert all(np.array_equal(one, same) for one, same in zip(first, again, strict=True))
    assert not np.isclose(first[0], other[0]).any()


@pytest.mark.parametrize("cell", CELLS)
def test_every_weight_gets_a_gradient(cell):
    model = recurrent_language_model(cell=cell, **TINY)
    before = [keras.ops.convert_to_numpy(weight).copy() for weight in model.trainable_variables]
    data = (tokens(32), labels(32))
    history = fit(model, data, optimizer=keras.optimizers.SGD(1.0), epochs=1, batch_size=32, progress=False)
    assert history.way == "compiled", history.reason
    assert len(before) == 6
    for weight, old in zip(model.trainable_variables, before, strict=True):
        changed = keras.ops.convert_to_numpy(weight) != old
        assert changed.any(axis=tuple(range(1, old.ndim))).all(), weight.path  # each token, each unit


@pytest.mark.parametrize("cell", CELLS)
def test_a_step_of_training_is_that_of_numpy(cell):
    """The gradient of the loss, by central differences of the formulas above."""
    model = with_other_weights(recurrent_language_model(cell=cell, dropout=0.0, **TINY))
    x, y = tokens(6), labels(6)
    paths = [weight.path for weight in model.trainable_variables]
    start = weights_of(model)

    def loss(w):
        inside = {name: w[f"{cell}/{cell}_cell/{name}"] for name in ("kernel", "recurrent_kernel", "bias")}
        last = {"lstm": lstm, "gru": gru}[cell](w["embedding/embeddings"][x], inside)
        logits = last @ w["logits/kernel"] + w["logits/bias"]
        return np.mean(np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(6), y])

    fit(model, (x, y), optimizer=keras.optimizers.SGD(1.0), epochs=1, batch_size=6, progress=False)
    after, small = weights_of(model), 1e-5
    for path in paths:
        expected = np.zeros_like(start[path])
        for place in np.ndindex(expected.shape):
            shift = np.zeros_like(expected)
            shift[place] = small
            expected[place] = (
                loss(start | {path: start[path] + shift}) - loss(start | {path: start[path] - shift})
            ) / (2 * small)
        np.testing.assert_allclose(start[path] - after[path], expected, atol=2e-6, err_msg=path)


def test_it_learns_a_sentence_by_heart():
    sentence = np.array([1, 4, 2, 9, 3, 7], "int32")
    x = np.array([[0] * (5 - length) + sentence[:length].tolist() for length in range(1, 6)], "int32")
    model = recurrent_language_model(dropout=0.0, **TINY)
    data = (np.tile(x, (40, 1)), np.tile(sentence[1:], 40))
    fit(model, data, optimizer=keras.optimizers.Adam(0.03), epochs=4, batch_size=10, progress=False)
    assert predict_logits(model, x).argmax(axis=1).tolist() == sentence[1:].tolist()


@pytest.mark.parametrize("cell", CELLS)
def test_it_is_saved_and_opened(cell, tmp_path):
    model = with_other_weights(recurrent_language_model(cell=cell, **TINY))
    check_can_be_opened(model)
    model.save(tmp_path / "model.keras")
    opened = load_keras_model(tmp_path / "model.keras")
    np.testing.assert_allclose(predict_logits(opened, tokens(8)), predict_logits(model, tokens(8)), atol=1e-6)


def test_a_large_vocabulary_can_be_opened():
    check_can_be_opened(recurrent_language_model(vocabulary_size=30_000, sequence_length=64))


@pytest.fixture
def half_precision():
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    yield
    keras.config.set_dtype_policy(policy)


@pytest.mark.parametrize("cell", CELLS)
def test_in_half_precision_weights_and_logits_stay_float32(half_precision, cell):
    model = recurrent_language_model(cell=cell, **TINY)
    assert keras.backend.standardize_dtype(model.get_layer(cell).compute_dtype) == "bfloat16"
    assert {weight.dtype for weight in model.get_weights()} == {np.dtype("float32"), np.dtype("int32")}
    data = (tokens(64), tokens(64)[:, -1])  # the last word again
    history = fit(model, data, optimizer=keras.optimizers.Adam(0.03), epochs=4, batch_size=16, progress=False)
    assert history["loss"][-1] < history["loss"][0] - 0.1
    logits = predict_logits(model, tokens(8))
    assert logits.dtype == np.float32
    assert not (logits.view("uint32") & 0xFFFF == 0).all(), "the logits have been through bfloat16"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"vocabulary_size": 0}, "vocabulary_size is 0; give"),
        ({"sequence_length": -1}, "sequence_length is -1; give"),
        ({"sequence_length": None}, "sequence_length is None; give"),
        ({"embedding_dim": 2.5}, "embedding_dim is 2.5; give"),
        ({"units": 0}, "units is 0; give"),
        ({"cell": "rnn"}, "cell is 'rnn'; give one of lstm, gru"),
        ({"cell": None}, "cell is None; give one of lstm, gru"),
        ({"dropout": 1.0}, "dropout is 1.0; give"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(CourseError, match=message):
        recurrent_language_model(**TINY | arguments)
