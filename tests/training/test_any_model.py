"""``fit`` with any models, data and settings: the numbers equal those of Keras' trainer, or an error comes first."""

import threading
import warnings
from functools import partial

import keras
import numpy as np
import pytest
from keras import layers, ops
from keras.src.backend import nn

from keras_course import randomness
from keras_course.augmentation import Augmentation, Flip, MixUp, Noise
from keras_course.errors import CourseError
from keras_course.randomness import initialize
from keras_course.training import RunDirectory, evaluate, fit, predict_logits
from keras_course.training.steps import as_numbers

BATCH, SAMPLES, FEATURES, CLASSES = 8, 30, 6, 3  # the last batch has 6 samples
RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(SAMPLES, FEATURES)).astype("float32")
Y = RANDOM.integers(0, CLASSES, SAMPLES).astype("int32")
WEIGHTS = RANDOM.uniform(0.2, 3, SAMPLES).astype("float32")


def net(*hidden, units=CLASSES, activation=None, shape=(FEATURES,), dtype=None, seed=1):
    inputs = x = keras.Input(shape, dtype=dtype)
    for layer in hidden:
        x = layer(x)
    outputs = layers.Dense(units, activation=activation, name="outputs")(x)
    return initialize(keras.Model(inputs, outputs), seed=seed)


def train(model, data=(X, Y), valid=None, **settings):
    chosen = {"optimizer": keras.optimizers.SGD(0.2), "batch_size": BATCH, "epochs": 2, "progress": False}
    return fit(model, data, valid, **chosen | settings)


def train_with_keras(model, data=(X, Y), valid=None, *, epochs=2, optimizer=None, **settings):
    """Trains with Keras' own ``fit`` on the same batches, and returns the history."""
    samples = len(keras.tree.flatten(data)[0])
    model.compile(optimizer or keras.optimizers.SGD(0.2), **settings)
    history = {}
    for epoch in range(epochs):
        order = randomness.permutation(randomness.stream_key(0, "shuffle"), samples, step=epoch)
        x, y, weights, *_ = *keras.tree.map_structure(partial(np.take, indices=order, axis=0), data), None, None
        found = model.fit(
            x, y, sample_weight=weights, validation_data=valid, batch_size=BATCH, shuffle=False,
            verbose=0,
        )  # fmt: skip
        for name, values in found.history.items():
            history.setdefault(name, []).extend(values)
    return history


def assert_equal_histories(ours, theirs, tolerance=2e-5):
    for name, column in theirs.items():
        np.testing.assert_allclose(ours[name], column, atol=tolerance, rtol=tolerance, err_msg=name)


def assert_equal_weights(ours, theirs, tolerance=2e-5):
    for weight, expected in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(weight, expected, atol=tolerance, rtol=tolerance)


LOGITS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

# --- Losses, metrics, optimizers -------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_the_loss_of_a_model_with_probabilities_is_exact(activation):
    y = Y if activation == "softmax" else np.eye(CLASSES, dtype="float32")[Y]
    name = "sparse_categorical_crossentropy" if activation == "softmax" else "binary_crossentropy"
    ours, theirs = net(activation=activation), net(activation=activation)
    history = train(ours, (X, y), (X, y), loss=name)
    assert_equal_histories(history, train_with_keras(theirs, (X, y), (X, y), loss=name))
    assert_equal_weights(ours, theirs)
    probabilities = ours.predict(X, verbose=0)
    if activation == "softmax":
        expected = -np.log(probabilities[np.arange(SAMPLES), Y]).mean()
    else:
        expected = -(y * np.log(probabilities) + (1 - y) * np.log(1 - probabilities)).mean()
    assert evaluate(ours, (X, y), loss=name)["loss"] == pytest.approx(expected, abs=1e-5)


def test_a_loss_from_logits_on_probabilities_is_refused():
    with pytest.raises(CourseError, match="takes logits, and the model ends with softmax; give from_logits=False"):
        train(net(activation="softmax"), loss=LOGITS)


@pytest.mark.parametrize("kind", ["sequence", "pixels"])
def test_accuracy_is_a_fraction_for_labels_with_several_axes(kind):
    shape = (5, FEATURES) if kind == "sequence" else (4, 4, FEATURES)
    x = RANDOM.normal(size=(SAMPLES, *shape)).astype("float32")
    y = RANDOM.integers(0, CLASSES, (SAMPLES, *shape[:-1])).astype("int32")
    ours, theirs = net(shape=shape), net(shape=shape)
    history = train(ours, (x, y), (x, y))
    assert_equal_histories(history, train_with_keras(theirs, (x, y), (x, y), loss=LOGITS, metrics=["accuracy"]))
    assert 0 < history["accuracy"][0] < 1


def test_binary_accuracy_uses_0_for_logits_and_one_half_for_probabilities():
    y = (X[:, :1] + X[:, 1:2] > 0.3).astype("float32")
    model = net(units=1)
    logits = predict_logits(model, X)
    history = train(model, (X, y), (X, y), loss="binary_crossentropy", optimizer=keras.optimizers.SGD(0.0))
    right = ((logits > 0) == (y > 0.5)).mean()
    assert 0.1 < right < 0.9
    assert history["accuracy"] == history["val_accuracy"] == pytest.approx([right] * 2)
    history = train(net(units=1, activation="sigmoid"), (X, y), loss="binary_crossentropy", epochs=1,
                    optimizer=keras.optimizers.SGD(0.0))  # fmt: skip
    assert history["accuracy"] == pytest.approx([right])


def test_a_regression_has_no_accuracy():
    assert list(train(net(units=1), (X, X[:, 0]), loss="mse")) == ["epoch", "loss", "seconds"]


def test_metrics_of_keras_cover_the_whole_epoch():
    y = (X[:, :1] > 0).astype("float32")

    def metrics():
        return [keras.metrics.AUC(from_logits=True, name="auc"), keras.metrics.Precision(thresholds=0.0, name="p")]

    ours, theirs = net(units=1), net(units=1)
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    expected = train_with_keras(theirs, (X, y), (X, y), loss=loss, metrics=metrics())
    assert_equal_histories(train(ours, (X, y), (X, y), loss=loss, metrics=metrics()), expected)
    named = train(net(units=1), (X, y), loss=loss, metrics={"area": keras.metrics.AUC(from_logits=True)})
    assert named["area"] == pytest.approx(expected["auc"], abs=1e-5)


def test_training_and_validation_metrics_agree_on_equal_data_at_learning_rate_0():
    def batch_accuracy(labels, logits):
        return ops.mean(ops.cast(ops.argmax(logits, -1) == ops.cast(labels, "int32"), "float32"))

    metrics = {"mean": batch_accuracy, "k": "sparse_categorical_accuracy"}
    order = randomness.permutation(randomness.stream_key(0, "shuffle"), 24, step=0)
    data = X[order], Y[order]
    history = train(net(), (X[:24], Y[:24]), data, metrics=metrics, epochs=1, optimizer=keras.optimizers.SGD(0.0))
    for name in ("loss", "mean", "k"):
        assert history[name] == pytest.approx(history[f"val_{name}"], abs=1e-6)


def test_masks_reach_loss_metrics_and_validation():
    tokens = RANDOM.integers(1, 9, (SAMPLES, 5)).astype("int32")
    tokens[np.arange(SAMPLES)[:, None] % 4 + 1 <= np.arange(5)] = 0
    tags = RANDOM.integers(0, CLASSES, (SAMPLES, 5)).astype("int32")

    def make():
        return net(layers.Embedding(9, 4, mask_zero=True, name="words"), shape=(5,), dtype="int32")

    ours, theirs = make(), make()
    history = train(ours, (tokens, tags), (tokens, tags))
    expected = train_with_keras(theirs, (tokens, tags), (tokens, tags), loss=LOGITS, metrics=["accuracy"])
    expected.pop("accuracy")  # on JAX, Keras' fit ignores the mask in metrics; its evaluate does not
    assert_equal_histories(history, expected)
    still = train(make(), (tokens, tags), epochs=1, optimizer=keras.optimizers.SGD(0.0))
    right = (make().predict(tokens, verbose=0).argmax(axis=-1) == tags)[tokens > 0]
    assert still["accuracy"] == pytest.approx([right.mean()])
    with pytest.raises(CourseError, match="train has tokens from 1 to 9; the layer 'words' has 9"):
        train(make(), (np.where(tokens == 0, 9, tokens), tags))


def test_penalties_are_in_the_validation_loss():
    def make():
        regularizer = keras.regularizers.L2(0.3)
        return net(layers.Dense(4, kernel_regularizer=regularizer, name="a"), layers.ActivityRegularization(l2=0.1))

    ours, theirs = make(), make()
    history = train(ours, valid=(X, Y))
    assert_equal_histories(history, train_with_keras(theirs, valid=(X, Y), loss=LOGITS, metrics=["accuracy"]))
    assert_equal_weights(ours, theirs)


OPTIMIZERS = {
    "EMA": lambda: keras.optimizers.SGD(0.2, use_ema=True, ema_momentum=0.8),
    "EMA that overwrites": lambda: keras.optimizers.SGD(0.2, use_ema=True, ema_momentum=0.8, ema_overwrite_frequency=3),
    "loss scale": lambda: keras.optimizers.SGD(0.2, loss_scale_factor=1024.0),
    "dynamic loss scale": lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.2), initial_scale=64.0),
    "accumulation": lambda: keras.optimizers.SGD(0.2, gradient_accumulation_steps=3),
    "nadam": lambda: keras.optimizers.Nadam(0.02),
    "global clipping": lambda: keras.optimizers.Adam(0.02, global_clipnorm=0.1),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_features_of_optimizers_work_as_in_keras(name):
    ours, theirs = net(), net()
    history = train(ours, optimizer=OPTIMIZERS[name](), metrics={})
    expected = train_on_batches(theirs, OPTIMIZERS[name]())
    np.testing.assert_allclose(history["loss"], expected, atol=2e-5)
    assert_equal_weights(ours, theirs)


def train_on_batches(model, optimizer, epochs=2):
    """Trains with Keras' ``train_on_batch``, sets averaged weights at the end, and returns the losses of the epochs."""
    model.compile(optimizer, LOGITS)
    losses = []
    for epoch in range(epochs):
        order = randomness.permutation(randomness.stream_key(0, "shuffle"), SAMPLES, step=epoch)
        batches = np.split(order, range(BATCH, SAMPLES, BATCH))
        found = [float(model.train_on_batch(X[rows], Y[rows])) for rows in batches]
        losses.append(np.average(found, weights=[len(rows) for rows in batches]))
    optimizer.finalize_variable_values(model.trainable_variables)
    return losses


class HalfStep(keras.optimizers.SGD):
    """A user-defined update in a subclass of an optimizer of Keras."""

    def update_step(self, gradient, variable, learning_rate):
        super().update_step(gradient * 0.5, variable, learning_rate)


class Slower(keras.optimizers.schedules.LearningRateSchedule):
    def __call__(self, step):
        return 0.2 / (1.0 + ops.cast(step, "float32"))

    def get_config(self):
        return {}


@pytest.mark.parametrize("make", [lambda: HalfStep(0.2), lambda: keras.optimizers.SGD(Slower())])
def test_user_defined_optimizers_and_schedules_are_used(make):
    ours, theirs = net(), net()
    train(ours, optimizer=make())
    train_on_batches(theirs, make())
    assert_equal_weights(ours, theirs)


def test_gradients_of_a_repeated_token_are_added():
    """Compared with NumPy, because Keras on TensorFlow squares the gradients of a token before it adds them."""
    tokens, y = RANDOM.integers(0, 4, (BATCH, 5)), Y[:BATCH]
    model = keras.Sequential([keras.Input((5,)), layers.Embedding(4, 2), layers.Flatten(), layers.Dense(CLASSES)])
    embeddings, kernel, bias = initialize(model, seed=1).get_weights()
    vectors = embeddings[tokens].reshape(BATCH, -1)
    odds = np.exp(vectors @ kernel + bias)
    of_logits = (odds / odds.sum(axis=1, keepdims=True) - np.eye(CLASSES)[y]) / BATCH
    of_embeddings = np.zeros((4, 2))
    np.add.at(of_embeddings, tokens.ravel(), (of_logits @ kernel.T).reshape(-1, 2))
    # the first step of Adam, with epsilon scaled by the square root of 1 - beta_2
    expected = embeddings - 0.01 * of_embeddings / (np.abs(of_embeddings) + 0.01)
    settings = {"optimizer": keras.optimizers.Adam(0.01, epsilon=0.01 * 0.001**0.5), "loss": LOGITS, "epochs": 1}
    train(model, (tokens, y), **settings)
    np.testing.assert_allclose(model.get_weights()[0], expected, atol=1e-6)


def test_an_optimizer_of_another_model_is_refused():
    optimizer = keras.optimizers.Adam()
    model = net(layers.Dense(4, name="hidden"))
    train(model, optimizer=optimizer)
    assert train(model, optimizer=optimizer)["epoch"] == [1, 2], "the same optimizer can train the same weights again"
    for other in (net(layers.Dense(4, name="hidden")), net()):
        with pytest.raises(CourseError, match=r"optimizer was built for other weights.*make a new optimizer"):
            train(other, optimizer=optimizer)
    model.get_layer("hidden").trainable = False
    with pytest.raises(CourseError, match="optimizer was built for other weights"):
        train(model, optimizer=optimizer)


# --- Fixed batch size ------------------------------------------------------------------------------------------


def model_of_batch_size(size=BATCH):
    return initialize(
        keras.Sequential([keras.Input(batch_shape=(size, FEATURES)), layers.Dense(CLASSES, name="outputs")]), seed=1
    )


def test_a_model_with_a_fixed_batch_size_trains_and_predicts():
    whole, labels = X[: 3 * BATCH], Y[: 3 * BATCH]
    fixed, free = model_of_batch_size(), model_of_batch_size(None)
    free.set_weights(fixed.get_weights())
    history, expected = (train(model, (whole, labels), (whole[:BATCH], labels[:BATCH])) for model in (fixed, free))
    for name in ("loss", "val_loss", "val_accuracy"):
        assert history[name] == pytest.approx(expected[name], abs=1e-6)
    for count in (3, BATCH, 2 * BATCH + 1):
        np.testing.assert_allclose(predict_logits(fixed, X[:count]), predict_logits(free, X[:count]), atol=1e-6)
    measured, right = (evaluate(model, (whole, labels), batch_size=BATCH) for model in (fixed, free))
    assert measured == pytest.approx(right, abs=1e-6)


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda model: train(model), "train has 30 samples; the model takes batches of 8, so leave 6 of them out"),
        (lambda model: train(model, batch_size=6), "batch_size is 6; the model takes batches of 8 and no others"),
        (lambda model: train(model, (X[:24], Y[:24]), (X[:9], Y[:9])), "valid has 9 samples"),
        (lambda model: evaluate(model, (X, Y), batch_size=6), "batch_size is 6"),
        (lambda model: predict_logits(model, X, batch_size=6), "batch_size is 6"),
    ],
)
def test_batches_of_another_size_are_refused(use, message):
    with pytest.raises(CourseError, match=message):
        use(model_of_batch_size())


def test_a_stateful_layer_is_refused_for_predictions():
    model = keras.Sequential([keras.Input(batch_shape=(2, 4, 3)), layers.GRU(2, stateful=True, name="memory")])
    with pytest.raises(CourseError, match="the layer 'memory' is stateful"):
        predict_logits(model, np.zeros((2, 4, 3), "float32"))


# --- Random layers ---------------------------------------------------------------------------------------------

RANDOM_LAYERS = {
    "dropout": ((FEATURES,), lambda: layers.Dropout(0.5, seed=7)),
    "noise": ((FEATURES,), lambda: layers.GaussianNoise(1.0, seed=7)),
    "recurrent dropout": ((4, 3), lambda: layers.SimpleRNN(3, dropout=0.5, recurrent_dropout=0.3, seed=7, name="r")),
    "flip": ((4, 4, 1), lambda: layers.RandomFlip(seed=7)),
}


@pytest.mark.parametrize("name", RANDOM_LAYERS)
def test_random_layers_of_keras_train_and_resume(tmp_path, name):
    shape, make = RANDOM_LAYERS[name]
    x = RANDOM.normal(size=(SAMPLES, *shape)).astype("float32")

    def build():
        flat = [] if len(shape) < 3 else [layers.Flatten()]
        return net(make(), *flat, shape=shape)

    whole = build()
    expected = train(whole, (x, Y), epochs=3)["loss"]
    first, second = train(build(), (x, Y), optimizer=keras.optimizers.SGD(0.0))["loss"]
    assert first != pytest.approx(second, abs=1e-4), "each epoch has other random numbers"
    with RunDirectory(tmp_path) as run:
        train(build(), (x, Y), epochs=1, run=run)
    resumed = build()
    with RunDirectory(tmp_path, resume=True) as run:
        history = train(resumed, (x, Y), epochs=3, run=run)
    assert history["loss"] == pytest.approx(expected, abs=1e-6)
    assert_equal_weights(resumed, whole, 1e-6)


@pytest.mark.parametrize("reduce", ["full", "rand_like"])
def test_random_numbers_beside_a_constant_differ_in_each_step(reduce):
    class Noise(layers.Layer):
        def __init__(self):
            super().__init__()
            self.generator = keras.random.SeedGenerator(3)

        def call(self, x, training=False):
            shape = (ops.shape(x)[0], 1)
            constant = ops.full(shape, 0.5) if reduce == "full" else ops.zeros(shape) + 0.5
            return x + constant * keras.random.normal(shape, seed=self.generator)

    inputs = keras.Input((FEATURES,))
    model = initialize(keras.Model(inputs, layers.Dense(CLASSES)(Noise()(inputs))), seed=1)
    x = np.ones((48, FEATURES), "float32")
    losses = train(model, (x, np.zeros(48, "int32")), epochs=3, optimizer=keras.optimizers.SGD(0.0))["loss"]
    assert len({round(loss, 5) for loss in losses}) == 3


def test_user_defined_layers_are_called_as_often_as_in_keras():
    """On PyTorch, Keras calls a layer in each step; elsewhere it traces the layer, as the compiled loop does."""

    class Counting(layers.Layer):
        calls = 0

        def call(self, x):
            type(self).calls += 1
            return x * 1.0

    inputs = keras.Input((FEATURES,))
    model = initialize(keras.Model(inputs, layers.Dense(CLASSES)(Counting()(inputs))), seed=1)
    Counting.calls = 0
    history = train(model, epochs=2)
    if keras.backend.backend() == "torch":
        assert history.way == "keras"
        assert "Counting" in history.reason
        assert Counting.calls >= 8
    else:
        assert history.way == "compiled"


# --- Data ------------------------------------------------------------------------------------------------------


class Frame:
    """A minimal data frame, so that the tests do not need pandas."""

    def __init__(self, values):
        self._values = values
        self.shape = values.shape

    def __len__(self):
        return len(self._values)

    def to_numpy(self):
        return self._values


class Sequence(keras.utils.PyDataset):
    def __init__(self):
        super().__init__()
        order = randomness.permutation(randomness.stream_key(0, "shuffle"), SAMPLES, step=0)
        self.batches = [(X[rows], Y[rows]) for rows in np.split(order, range(BATCH, SAMPLES, BATCH))]

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, index):
        return self.batches[index]


def collection_of_the_framework():
    """Returns the batches of ``Sequence`` in a data set of the framework, or, on JAX, of Keras."""
    order = randomness.permutation(randomness.stream_key(0, "shuffle"), SAMPLES, step=0)
    x, y = X[order], Y[order]
    if keras.backend.backend() == "torch":
        import torch

        pairs = torch.utils.data.TensorDataset(torch.from_numpy(x), torch.from_numpy(y))
        return torch.utils.data.DataLoader(pairs, batch_size=BATCH)
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.data.Dataset.from_tensor_slices((x, y)).batch(BATCH)
    return Sequence()


DATA = {
    "a collection of the framework": collection_of_the_framework,
    "lists": lambda: (X.tolist(), Y.tolist()),
    "a list of both": lambda: [X, Y],
    "data frames": lambda: (Frame(X.astype("float64")), Frame(Y)),
    "tensors": lambda: (ops.convert_to_tensor(X), ops.convert_to_tensor(Y)),
    "big-endian": lambda: (X.astype(">f4"), Y.astype(">i8")),
    "float64": lambda: (X.astype("float64"), Y.astype("int64")),
    "a PyDataset": Sequence,
    "a list of batches": lambda: Sequence().batches,
}


@pytest.fixture(scope="module")
def plain_history():
    model = net()
    return train(model, epochs=1, metrics={}), model.get_weights()


@pytest.mark.parametrize("name", DATA)
def test_all_kinds_of_data_give_the_same_training(plain_history, name):
    expected, weights = plain_history
    model = net()
    history = train(model, DATA[name](), epochs=1, metrics={})
    assert history["loss"] == pytest.approx(expected["loss"], abs=1e-6)
    for weight, right in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_allclose(weight, right, atol=1e-6)


def test_a_memory_mapped_file_is_not_read_at_once(tmp_path, plain_history):
    class Watched(np.memmap):
        largest = 0

        def __array_finalize__(self, parent):
            super().__array_finalize__(parent)

        def __getitem__(self, rows):
            found = np.asarray(super().__getitem__(rows))
            Watched.largest = max(Watched.largest, len(found) if found.ndim > 1 else 1)
            return found

    np.save(tmp_path / "x.npy", X)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r").view(Watched)
    history = train(net(), (mapped, Y), epochs=1, metrics={})
    assert history["loss"] == pytest.approx(plain_history[0]["loss"], abs=1e-6)


BAD_DATA = {
    "a generator": (lambda: (pair for pair in [(X, Y)]), "can be iterated only once"),
    "texts": (lambda: (np.array([["a"] * FEATURES] * SAMPLES), Y), "holds <U1 and not numbers"),
    "objects": (lambda: (X.astype(object), Y), "holds object and not numbers"),
    "ragged lists": (lambda: ([[1.0], [1.0, 2.0]], [0, 1]), "rows of equal length"),
    "four parts": (lambda: (X, Y, WEIGHTS, Y), "train has 4 parts"),
    "a number": (lambda: 3, "train is a int"),
    "no labels": (lambda: X, "train has no labels"),
    "weights of another length": (lambda: (X, Y, WEIGHTS[1:]), "30 samples and 29 weights"),
    "no batches": (lambda: [], "train has"),
    "no batches at once": (lambda: NoBatches(), "train has no batches"),
    "numbers alone": (lambda: (3, 4), "train's x is one number"),
    "two inputs": (lambda: ([X, X], Y), "train has 2 arrays of samples; the model takes 1: "),
    "an unknown input": (lambda: ({"left": X}, Y), "there is no input 'left'"),
    "a broken batch": (lambda: [(X[:2], Y[:2]), (X[:2] + np.inf, Y[:2])], "that is inf"),
}


class NoBatches(keras.utils.PyDataset):
    def __len__(self):
        return 0

    def __getitem__(self, index):
        raise IndexError


@pytest.mark.parametrize("name", BAD_DATA)
def test_error_names_the_bad_data(name):
    make, message = BAD_DATA[name]
    with pytest.raises(CourseError, match=message):
        train(net(), make())


BAD_SETTINGS = {
    "metrics": ({"metrics": ["acuracy"]}, "metrics has 'acuracy'"),
    "optimizer": ({"optimizer": "adamm"}, "optimizer is 'adamm'"),
    "a function as optimizer": ({"optimizer": print}, "optimizer is"),
    "callbacks": ({"callbacks": [print]}, "callbacks has a builtin_function"),
    "both weights": ({"sample_weight": WEIGHTS, "class_weight": {0: 2.0}}, "give one of them"),
    "class weight": ({"class_weight": {7: 2.0}}, "class_weight has a class 7"),
    "class weight by name": ({"class_weight": "even"}, "class_weight is 'even'"),
    "validation split": ({"validation_split": 1.5}, "validation_split is 1.5"),
    "validation twice": ({"validation_split": 0.5, "valid": (X, Y)}, "validation_split and valid are given"),
    "all to validate": ({"validation_split": 0.99}, "leaves one part of 30 samples empty"),
    "batches to split": ({"data": [(X, Y)], "validation_split": 0.5}, "validation_split needs arrays"),
    "batches to weigh": ({"data": [(X, Y)], "class_weight": {0: 2.0}}, "class_weight needs train to be"),
    "labels of two outputs": ({"data": (X, [Y, Y]), "class_weight": {0: 2.0}}, "class_weight needs one output"),
    "labels of pixels": ({"data": (X, np.zeros((30, 2, 2))), "class_weight": {0: 2.0}}, "one class for each sample"),
    "class weights as a list": ({"class_weight": [1.0, 2.0, 3.0]}, "class_weight is a list"),
    "a negative class weight": ({"class_weight": {0: -1.0}}, "class_weight of class 0 is -1.0"),
    "a layer as optimizer": ({"optimizer": layers.Dense(1)}, "optimizer is"),
    "no optimizer": ({"optimizer": None}, "optimizer is a NoneType; give an optimizer of Keras or its name"),
    "a number as loss": ({"loss": 3}, "loss is a int"),
    "a number as metric": ({"metrics": [3]}, "metrics has a int"),
    "weights of mixed samples": (
        {"sample_weight": WEIGHTS, "augmentation": Augmentation([MixUp(0.5)], num_classes=CLASSES)},
        "only pictures",
    ),
}


@pytest.mark.parametrize("name", BAD_SETTINGS)
def test_error_names_the_bad_setting(name):
    settings, message = BAD_SETTINGS[name]
    with pytest.raises(CourseError, match=message):
        train(net(), **settings)


def test_fit_refuses_what_is_no_model():
    with pytest.raises(CourseError, match="model is a Dense"):
        fit(layers.Dense(3), (X, Y))


PICTURES = RANDOM.uniform(0, 255, (SAMPLES, 4, 4, 1)).astype("float32")


def picture_net(kind=keras.Model):
    model = net(layers.Rescaling(1 / 255), layers.Flatten(), shape=(4, 4, 1))
    return kind(model.inputs, model.outputs)


class Stepping(keras.Model):
    def train_step(self, *arguments):
        return super().train_step(*arguments)


def test_sample_weights_of_mixed_pictures_are_refused():
    augmentation = Augmentation([MixUp(0.5)], num_classes=CLASSES)
    with pytest.raises(CourseError, match="augmentation mixes samples, whose weights would be wrong"):
        train(picture_net(), (PICTURES, Y, WEIGHTS), augmentation=augmentation)


def test_train_step_of_a_model_gets_augmented_pictures():
    ours, theirs = picture_net(Stepping), picture_net()
    augmentation = Augmentation([Flip(horizontal=True), Noise(0.1)])
    settings = {"augmentation": augmentation, "loss": LOGITS}
    by_keras, compiled = (train(model, (PICTURES, Y), **settings) for model in (ours, theirs))
    assert (by_keras.way, compiled.way) == ("keras", "compiled")
    assert by_keras.reason == "Stepping has a train_step of its own"
    assert by_keras["loss"] == pytest.approx(compiled["loss"], abs=1e-5)
    assert_equal_weights(ours, theirs)


@pytest.mark.parametrize("eagerly", [False, True])
def test_augmented_pictures_without_labels(eagerly):
    """The model learns to give the pictures' mean; flips do not change it."""

    class Mean(keras.Model):
        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
            return ops.mean((y_pred - ops.mean(x, axis=(1, 2))) ** 2)

    histories = []
    for augmentation in (None, Augmentation([Flip(horizontal=True)])):
        mean = net(layers.Rescaling(1 / 255), layers.GlobalAveragePooling2D(), units=1, shape=(4, 4, 1))
        model = Mean(mean.inputs, mean.outputs)
        model.compile(run_eagerly=eagerly)
        settings = {"optimizer": keras.optimizers.SGD(1e-6), "augmentation": augmentation}
        histories.append(train(model, PICTURES, **settings))
    assert histories[1]["loss"] == pytest.approx(histories[0]["loss"], rel=1e-5)
    assert histories[0]["loss"][1] < histories[0]["loss"][0]
    assert not eagerly or (histories[0].way, histories[0].reason) == (
        "keras",
        "the model was compiled with run_eagerly=True",
    )


def test_a_metric_can_be_a_class_or_a_single_name():
    by_class = train(net(), metrics=[keras.metrics.SparseCategoricalAccuracy], epochs=1)
    by_name = train(net(), metrics="accuracy", epochs=1)
    assert by_class["sparse_categorical_accuracy"] == by_name["accuracy"]


def test_unsigned_integers_are_accepted():
    for kind in ("uint16", "uint32"):
        numbers = np.abs(100 * X).astype(kind)
        same = train(net(layers.Rescaling(0.01)), (numbers, Y))["loss"]
        assert train(net(layers.Rescaling(0.01)), (numbers.astype("float32"), Y))["loss"] == same


# --- Weights, several inputs and outputs, user-defined models --------------------------------------------------


def test_sample_weights():
    ours, theirs = net(), net()
    valid = X[:9], Y[:9], WEIGHTS[9:18]
    history = train(ours, (X, Y, WEIGHTS), valid, weighted_metrics={"weighted": "accuracy"})
    expected = train_with_keras(theirs, (X, Y, WEIGHTS), valid, loss=LOGITS, weighted_metrics=["accuracy"])
    renamed = {name.replace("accuracy", "weighted"): column for name, column in expected.items()}
    assert_equal_histories(history, renamed)
    assert_equal_weights(ours, theirs)
    again = net()
    assert train(again, sample_weight=WEIGHTS)["loss"] == history["loss"]


@pytest.mark.parametrize("weights", ["balanced", {0: 1.0, 2: 4.0}])
def test_class_weights(weights):
    counts = np.bincount(Y)
    by_class = SAMPLES / (CLASSES * counts) if weights == "balanced" else np.array([1.0, 1.0, 4.0])
    ours, theirs = net(), net()
    history = train(ours, class_weight=weights, metrics={})
    expected = train(theirs, (X, Y, by_class.astype("float32")[Y]), metrics={})
    assert history["loss"] == pytest.approx(expected["loss"], abs=1e-6)


def test_validation_split_takes_the_last_samples():
    history = train(net(), validation_split=0.3)
    expected = train(net(), (X[:21], Y[:21]), (X[21:], Y[21:]))
    for name in ("loss", "val_loss"):
        assert history[name] == expected[name]
    weighted = train(net(), sample_weight=WEIGHTS, validation_split=0.3)
    expected = train(net(), (X[:21], Y[:21], WEIGHTS[:21]), (X[21:], Y[21:], WEIGHTS[21:]))
    for name in ("loss", "val_loss"):
        assert weighted[name] == expected[name]


def two_input_model():
    left, right = keras.Input((FEATURES,), name="left"), keras.Input((2,), name="right")
    x = layers.Concatenate()([layers.Dense(4, name="hidden")(left), right])
    outputs = {"kind": layers.Dense(CLASSES, name="kind")(x), "size": layers.Dense(1, name="size")(x)}
    return initialize(keras.Model({"left": left, "right": right}, outputs), seed=1)


def test_several_inputs_and_outputs_with_losses_metrics_and_weights():
    # full batches only: Keras on TensorFlow weights the loss of a smaller last batch like a full one
    x = {"left": X[:24], "right": X[:24, :2] * 2}
    y = {"kind": Y[:24], "size": X[:24, :1] - 1}
    settings = {
        "loss": {"kind": LOGITS, "size": "mse"},
        "loss_weights": {"kind": 1.0, "size": 0.3},
        "metrics": {"kind": ["accuracy"], "size": ["mae"]},
    }
    ours, theirs = two_input_model(), two_input_model()
    history = train(ours, (x, y), (x, y), **settings)
    assert_equal_histories(history, train_with_keras(theirs, (x, y), (x, y), **settings))
    assert_equal_weights(ours, theirs)
    with pytest.raises(CourseError, match="the input 'right' is missing"):
        train(two_input_model(), ({"left": X[:24]}, y), **settings)


class FailingMetric(keras.Metric):
    def update_state(self, y_true, y_pred, sample_weight=None):
        raise RuntimeError("needs a fourth class")

    def result(self):
        return 0.0


@keras.saving.register_keras_serializable("any_model")
class Reconstruction(layers.Layer):
    """Adds the reconstruction error as a loss, as autoencoders do."""

    def call(self, x, reconstruction):
        self.add_loss(ops.mean(ops.square(x - reconstruction)))
        return reconstruction


def test_a_loss_added_by_a_layer_needs_no_labels():
    def make():
        x = keras.Input((FEATURES,))
        return initialize(keras.Model(x, Reconstruction()(x, layers.Dense(FEATURES, name="decoder")(x))), seed=1)

    ours, same, theirs = make(), make(), make()
    history = train(ours, X[:24], X[24:])
    train(same, (X[:24],))
    expected = train_with_keras(theirs, (X[:24],), X[24:])
    for name in ("loss", "val_loss"):
        assert history[name] == pytest.approx(expected[name], abs=1e-5)
    assert_equal_weights(ours, theirs)
    assert_equal_weights(same, theirs)
    with pytest.raises(CourseError, match="train has no labels"):
        train(net(), X)


def test_a_metric_that_does_not_match_the_outputs_is_refused():
    with pytest.raises(CourseError, match="do not fit together") as caught:
        train(net(), metrics=[keras.metrics.SparseTopKCategoricalAccuracy(k=CLASSES + 9), FailingMetric()])
    assert "needs a fourth class" in str(caught.value) or "out of range" in str(caught.value)


class WithoutTraining(keras.Model):
    """A model whose ``call`` has no ``training``, and that sets ``built`` before its layers are built."""

    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(3)

    def build(self, shape):
        self.built = True

    def call(self, x):
        return self.dense(x)


def test_a_model_whose_call_has_no_training_argument_predicts():
    model = WithoutTraining()
    model.build((None, FEATURES))
    np.testing.assert_allclose(predict_logits(model, X), keras.ops.convert_to_numpy(model(X)), atol=1e-6)


def test_predict_logits_builds_an_unbuilt_model():
    model = keras.Sequential([layers.Dense(3)])
    np.testing.assert_allclose(predict_logits(model, X), keras.ops.convert_to_numpy(model(X)), atol=1e-6)


@pytest.mark.parametrize("given", ["dictionary", "list", "lists of numbers"])
def test_several_inputs_give_several_outputs(given):
    model = two_input_model()
    x = {"left": X[:5], "right": X[:5, :2] * 2}
    expected = {name: keras.ops.convert_to_numpy(output) for name, output in model(x, training=False).items()}
    forms = {"dictionary": x, "list": list(x.values()), "lists of numbers": {key: x[key].tolist() for key in x}}
    if given == "list":
        model = keras.Model(list(model.inputs), list(model.outputs))
        expected = [expected["kind"], expected["size"]]
    outputs = predict_logits(model, forms[given], batch_size=2)
    keras.tree.assert_same_structure(outputs, expected)
    for output, right in zip(keras.tree.flatten(outputs), keras.tree.flatten(expected), strict=True):
        np.testing.assert_allclose(output, right, atol=1e-6)
    with pytest.raises(CourseError, match="only one input of pictures"):
        predict_logits(model, forms[given], augmentation=Augmentation([Flip()]))
    with pytest.raises(CourseError, match="x has 5 samples and 3 rows in another input"):
        predict_logits(two_input_model(), {"left": X[:5], "right": X[:3, :2]})


def test_a_loss_that_ignores_a_class():
    y = np.where(np.arange(SAMPLES) % 4 == 0, -1, Y)

    def loss():
        return keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=-1)

    ours, theirs = net(), net()
    history = train(ours, (X, y), (X, y), loss=loss(), metrics={})
    assert_equal_histories(history, train_with_keras(theirs, (X, y), (X, y), loss=loss()))


def huber_of_the_difference(labels, outputs):
    return ops.mean(ops.log(ops.cosh(outputs - labels)), axis=-1)


def test_a_function_can_be_the_loss():
    ours, theirs = net(), net()
    y = X[:, :CLASSES]
    history = train(ours, (X, y), (X, y), loss=huber_of_the_difference)
    assert_equal_histories(history, train_with_keras(theirs, (X, y), (X, y), loss=huber_of_the_difference))
    assert history.way == "compiled", history.reason


class Own(keras.Model):
    """A model that is not built and computes its own loss."""

    def __init__(self):
        super().__init__()
        self.hidden, self.out = layers.Dense(4, activation="tanh"), layers.Dense(FEATURES)

    def call(self, x):
        return self.out(self.hidden(x))

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        return ops.mean((y_pred - x) ** 2) + 0.1 * ops.mean(ops.abs(y_pred))


class OwnStep(Own):
    """A model with its own training step as well."""

    def train_step(self, *arguments):
        return super().train_step(*arguments)


@pytest.mark.parametrize("kind", [Own, OwnStep])
def test_a_model_that_computes_its_own_loss(kind):
    def make():
        model = kind()
        model(X[:1])
        values = np.random.default_rng(3)
        model.set_weights([values.normal(size=weight.shape) * 0.3 for weight in model.get_weights()])
        return model

    ours, theirs = make(), make()
    history = train(ours, X, epochs=2)
    theirs.compile(keras.optimizers.SGD(0.2))
    losses = []
    for epoch in range(2):
        order = randomness.permutation(randomness.stream_key(0, "shuffle"), SAMPLES, step=epoch)
        losses += theirs.fit(X[order], batch_size=BATCH, shuffle=False, verbose=0).history["loss"]
    np.testing.assert_allclose(history["loss"], losses, atol=2e-5)
    assert_equal_weights(ours, theirs)
    assert (history.way, kind is OwnStep) != ("compiled", True)
    assert train(kind(), X, epochs=1)["loss"][0] > 0, "an unbuilt model is built on the first batch"


def test_a_model_with_its_own_compile_is_refused():
    class WithCompile(keras.Model):
        def compile(self, *arguments, **settings):
            super().compile(*arguments, **settings)

    model = net()
    with pytest.raises(CourseError, match="WithCompile has a compile of its own, whose optimizers and losses are not"):
        train(WithCompile(model.inputs, model.outputs))


def test_a_penalty_alone_needs_no_labels():
    model = net(layers.Dense(4, kernel_regularizer=keras.regularizers.L2(0.01), name="h"))
    kernel = model.get_layer("h").get_weights()[0].astype("float64")
    history = train(model, X, epochs=1, optimizer=keras.optimizers.SGD(0.0))
    assert history["loss"][0] == pytest.approx(0.01 * (kernel**2).sum(), rel=1e-5)


def test_one_loss_by_name_for_an_output_of_probabilities_and_one_of_logits():
    inputs = keras.Input((FEATURES,))
    scores = layers.Dense(CLASSES, name="scores")(inputs)
    model = initialize(keras.Model(inputs, [layers.Softmax()(scores), scores]), seed=1)
    kernel, bias = model.get_weights()
    logits = X.astype("float64") @ kernel + bias
    loss = np.mean(np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(SAMPLES), Y])
    found = evaluate(model, (X, [Y, Y]), loss="sparse_categorical_crossentropy", metrics={})
    assert found["loss"] == pytest.approx(2 * loss, rel=1e-5)


@pytest.mark.parametrize("kind", ["subclass", "layer of the user"])
def test_a_model_whose_layers_are_not_known_is_evaluated_batch_by_batch(kind):
    class Plain(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(2)

        def call(self, x):
            return self.dense(x)

    model = Plain() if kind == "subclass" else net(Doubled(), units=2)
    factor = 1 if kind == "subclass" else 2
    model(X)
    kernel, bias = model.get_weights()
    expected = np.mean((factor * X.astype("float64") @ kernel + bias - X[:, :2]) ** 2)
    found = evaluate(model, (X, X[:, :2]), loss="mse", metrics={})
    assert found["loss"] == pytest.approx(expected, rel=1e-5)


def test_logs_in_groups_and_arrays_become_single_numbers():
    logs = {"loss": 0.5, "parts": {"one": np.float32(0.25), "two": np.array([1, 2])}}
    assert as_numbers(logs) == {"loss": 0.5, "one": 0.25, "two_0": 1.0, "two_1": 2.0}


class Ending:
    """A collection without a length that has no batches after some epochs."""

    def __init__(self, epochs):
        self._left = epochs

    def __iter__(self):
        self._left -= 1
        return iter([(X[:8], Y[:8]), (X[8:16], Y[8:16])] if self._left >= 0 else [])


def test_a_collection_that_can_be_iterated_only_some_times_is_refused_when_it_ends():
    expected = train(net(), [(X[:8], Y[:8]), (X[8:16], Y[8:16])], epochs=2)
    assert train(net(), Ending(9), epochs=2)["loss"] == expected["loss"]
    with pytest.raises(CourseError, match="has no batches in this epoch; give a collection that can be iterated again"):
        train(net(), Ending(2), epochs=9)


class FailsOnce(layers.Layer):
    """A layer that fails at one call."""

    def __init__(self, call):
        super().__init__()
        self._failing, self._calls = call, 0

    def call(self, x):
        self._calls += 1
        if self._calls == self._failing:
            raise RuntimeError("no memory left")
        return x


def test_a_model_can_be_used_after_a_step_of_keras_has_failed():
    for failing in range(4, 9):
        model = net(FailsOnce(failing))
        model.compile(run_eagerly=True)
        with pytest.raises((RuntimeError, CourseError), match="no memory left"):
            train(model)
        assert all(np.isfinite(weight).all() for weight in model.get_weights())
        history = train(model, epochs=3)
        assert history["loss"][2] < history["loss"][0]


def test_mixed_float16_trains_with_a_scaled_loss():
    histories = []
    for policy in ("mixed_float16", "float32"):
        keras.config.set_dtype_policy(policy)
        try:
            histories.append(train(net(layers.Dense(4, name="h")), optimizer=keras.optimizers.SGD(0.1)))
        finally:
            keras.config.set_dtype_policy("float32")
    assert histories[0]["loss"] == pytest.approx(histories[1]["loss"], abs=5e-3)
    assert histories[0]["loss"][1] < histories[0]["loss"][0]


# --- Callbacks and runs ----------------------------------------------------------------------------------------


def test_a_callback_stops_within_an_epoch():
    seen = []

    class Stop(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            seen.append(batch)
            self.model.stop_training = batch == 1

    history = train(net(), callbacks=[Stop()])
    assert seen == [0, 1]
    assert history["epoch"] == [1]


def test_validation_hooks_and_learning_rate_are_as_in_keras():
    seen = []

    class Watch(keras.callbacks.Callback):
        def on_test_begin(self, logs=None):
            seen.append("begin")

        def on_test_batch_end(self, batch, logs=None):
            seen.append(round(float(logs["loss"]), 4))

        def on_test_end(self, logs=None):
            seen.append(round(float(logs["loss"]), 4))

    scheduler = keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate / 2)
    history = train(net(), valid=(X, Y), epochs=1, callbacks=[Watch(), scheduler])
    assert seen[0] == "begin"
    assert len(seen) == 1 + 4 + 1
    assert seen[-1] == seen[-2] == round(history["val_loss"][0], 4)
    assert history["learning_rate"] == pytest.approx([0.1])


def test_backup_and_restore_continues_in_the_interrupted_epoch(tmp_path):
    epochs = []

    class Die(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            epochs.append(epoch)
            if epochs == [0, 1, 2]:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(net(), epochs=3, callbacks=[keras.callbacks.BackupAndRestore(tmp_path), Die()])
    train(net(), epochs=3, callbacks=[keras.callbacks.BackupAndRestore(tmp_path), Die()])
    assert epochs == [0, 1, 2, 2]


def test_a_run_stopped_by_a_callback_is_not_continued(tmp_path):
    def stop():
        return [keras.callbacks.EarlyStopping("val_loss", patience=1, min_delta=10)]

    with RunDirectory(tmp_path) as run:
        ended = train(net(), valid=(X, Y), epochs=8, run=run, callbacks=stop())["epoch"]
    assert len(ended) < 8
    with RunDirectory(tmp_path, resume=True) as run:
        assert train(net(), valid=(X, Y), epochs=8, run=run, callbacks=stop())["epoch"] == ended


def test_a_second_fit_in_the_same_run_is_refused(tmp_path):
    with RunDirectory(tmp_path) as run:
        model = net()
        train(model, epochs=3, run=run)
        before = (tmp_path / "history.csv").read_text()
        with pytest.raises(CourseError, match="holds the history of an earlier fit"):
            train(model, epochs=1, run=run)
    assert (tmp_path / "history.csv").read_text() == before


CHANGES = {
    "activation": (
        lambda: net(layers.Dense(4, "tanh", name="h")),
        lambda: net(layers.Dense(4, "relu", name="h")),
        "act",
    ),
    "rate": (lambda: net(randomness.Dropout(0.1)), lambda: net(randomness.Dropout(0.8)), "Dropout.*'s rate 0.1"),
    "trainable": (lambda: net(layers.Dense(4, name="h")), lambda: frozen(net(layers.Dense(4, name="h"))), "trainable"),
}


def frozen(model):
    model.get_layer("h").trainable = False
    return model


@pytest.mark.parametrize("name", CHANGES)
def test_resuming_with_other_layer_settings_is_refused(tmp_path, name):
    before, after, message = CHANGES[name]
    with RunDirectory(tmp_path) as run:
        train(before(), epochs=1, run=run)
    with (
        RunDirectory(tmp_path, resume=True) as run,
        pytest.raises(CourseError, match=f"the run to resume has.*{message}"),
    ):
        train(after(), epochs=2, run=run)


class Doubled(layers.Layer):
    """A layer without a get_config."""

    def call(self, x):
        return 2 * x

    def get_config(self):
        raise NotImplementedError("get_config")


class Absolute(keras.Loss):
    """A loss without a get_config."""

    def call(self, y_true, y_pred):
        return ops.mean(ops.abs(y_true - y_pred), axis=-1)

    def get_config(self):
        raise NotImplementedError


def test_a_layer_without_settings_trains_and_is_refused_in_a_run(tmp_path):
    expected = train(net(), (2 * X, Y))
    assert train(net(Doubled()), (X, Y))["loss"] == pytest.approx(expected["loss"], rel=1e-5)
    with pytest.raises(
        CourseError, match="the model cannot be opened again once it is saved: get_config; or keep only"
    ):
        train(net(Doubled()), run=tmp_path)


def test_a_run_with_a_loss_without_settings_can_be_resumed(tmp_path):
    data = X, X[:, :CLASSES]
    whole = train(net(), data, epochs=3, loss=Absolute(name="absolute"))
    for epochs in (2, 3):
        with RunDirectory(tmp_path, resume=epochs == 3) as run:
            history = train(net(), data, epochs=epochs, run=run, loss=Absolute(name="absolute"))
    assert history["loss"] == whole["loss"]


@pytest.mark.parametrize("change", [{"class_weight": {1: 9.0}}, {"loss_weights": 3.0}])
def test_resuming_with_other_sample_or_loss_weights_is_refused(tmp_path, change):
    with RunDirectory(tmp_path) as run:
        train(net(), epochs=1, run=run)
    with RunDirectory(tmp_path, resume=True) as run, pytest.raises(CourseError, match="the run to resume has"):
        train(net(), epochs=2, run=run, **change)


def test_bfloat16_weights_resume(tmp_path):
    def make():
        return net(layers.Dense(4, dtype="bfloat16", name="h"))

    whole = make()
    expected = train(whole, epochs=2)["loss"]
    with RunDirectory(tmp_path) as run:
        train(make(), epochs=1, run=run)
    with RunDirectory(tmp_path, resume=True) as run:
        assert train(make(), epochs=2, run=run)["loss"] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("beta_2", [0.9, 0.999])
def test_bfloat16_weights_are_updated_as_in_keras(beta_2):
    """In bfloat16, 0.999 is 1, so Adam changes nothing; a kernel that computes in float32 would change the weights."""
    ours, theirs = (
        keras.Sequential([keras.Input((FEATURES,)), layers.Dense(CLASSES, dtype="bfloat16")]) for _ in range(2)
    )
    ours.set_weights([RANDOM.normal(size=weight.shape) for weight in ours.weights])
    theirs.set_weights(ours.get_weights())
    before = ours.get_weights()
    train(ours, optimizer=keras.optimizers.Adam(0.01, beta_2=beta_2), loss=LOGITS, epochs=4)
    train_with_keras(theirs, optimizer=keras.optimizers.Adam(0.01, beta_2=beta_2), loss=LOGITS, epochs=4)
    for weight, right, start in zip(ours.get_weights(), theirs.get_weights(), before, strict=True):
        weight, right, start = (array.astype("float32") for array in (weight, right, start))
        assert (np.abs(right - start).max() > 0.02) == (beta_2 == 0.9)
        np.testing.assert_allclose(weight, right, atol=2**-8)


def test_run_can_be_a_path(tmp_path):
    train(net(), epochs=1, run=str(tmp_path / "run"))
    assert (tmp_path / "run" / "history.csv").exists()


def test_training_works_with_warnings_as_errors():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = net(layers.Dense(4, name="unused"))
        assert train(model, valid=(X, Y))["epoch"] == [1, 2]


# --- Threads ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["fit", "predict"])
def test_parallel_threads_train_and_predict_and_restore_keras(what):
    pictures = RANDOM.normal(size=(16, 6, 6, 2)).astype("float32")

    def make():
        inputs = keras.Input((6, 6, 2))
        x = layers.DepthwiseConv2D(3, name="d")(layers.Conv2D(3, 3, name="c")(inputs))
        return initialize(keras.Model(inputs, layers.Dense(CLASSES, name="o")(layers.Flatten()(x))), seed=1)

    models, results = [make() for _ in range(3)], {}

    def work(number):
        try:
            if what == "fit":
                results[number] = train(models[number], (pictures, Y[:16]), epochs=1)["loss"][0]
            else:
                results[number] = float(predict_logits(models[number], pictures).sum())
        except Exception as error:
            results[number] = error

    before = nn.conv, nn.depthwise_conv
    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (nn.conv, nn.depthwise_conv) == before
    assert all(isinstance(result, float) for result in results.values()), results
    assert list(results.values()) == pytest.approx([results[0]] * 3, abs=1e-6)


def test_the_run_records_how_it_was_trained(tmp_path):
    with RunDirectory(tmp_path) as run:
        history = train(net(), epochs=1, run=run)
    assert run.training == {"way": "compiled", "reason": None}
    assert history.way == "compiled"
