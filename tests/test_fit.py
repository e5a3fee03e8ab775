"""``fit``, against NumPy, Keras' own ``fit``, and formulas."""

import re
import sys

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_course import augmentation, randomness
from keras_course.errors import CourseError, DivergenceError
from keras_course.models import dense_classifier
from keras_course.randomness import initialize
from keras_course.training import RunDirectory, evaluate, fit, inputs, predict_logits

fit_module = sys.modules[fit.__module__]  # the module; keras_course.training.fit is the function

SAMPLES, BATCH, CLASSES = 48, 8, 4
STEPS = SAMPLES // BATCH
UNEVEN = 50  # this number of samples leaves a last batch of 2
SHAPE = (3, 3, 1)
RANDOM = np.random.default_rng(0)
X_ALL = RANDOM.integers(0, 256, (UNEVEN, *SHAPE), dtype=np.uint8)
Y_ALL = RANDOM.integers(0, CLASSES, UNEVEN, dtype=np.int32)
X, Y = X_ALL[:SAMPLES], Y_ALL[:SAMPLES]
X_VALID = RANDOM.integers(0, 256, (21, *SHAPE), dtype=np.uint8)
Y_VALID = RANDOM.integers(0, CLASSES, 21, dtype=np.int32)


def order(epoch, samples=SAMPLES):
    return randomness.permutation(randomness.stream_key(0, "shuffle"), samples, step=epoch)


def batches(epoch, samples=SAMPLES):
    """Returns the row numbers of each batch of an epoch."""
    return np.split(order(epoch, samples), range(BATCH, samples, BATCH))


def tiny(**arguments):
    return dense_classifier(**{"input_shape": SHAPE, "hidden": (7,), "num_classes": CLASSES, "seed": 3} | arguments)


def train(model, data=(X, Y), valid=None, **arguments):
    return fit(model, data, valid, **{"batch_size": BATCH, "epochs": 2, "progress": False} | arguments)


def read_steps(folder):
    """Checks the step numbers of ``steps.csv``, and returns its losses."""
    table = np.loadtxt(folder / "steps.csv", delimiter=",", skiprows=1, ndmin=2)
    np.testing.assert_array_equal(table[:, 0], np.arange(1, len(table) + 1))
    return table[:, 1]


def without_seconds(history):
    return {name: column for name, column in history.items() if name != "seconds"}


# --- NumPy -----------------------------------------------------------------------------------------------------


def softmax(logits):
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def cross_entropies(logits, labels):
    return -np.log(softmax(logits)[np.arange(len(labels)), labels])


class NumpyNet:
    """pixels / 255 -> dense -> ReLU -> dense -> cross entropy, with its derivatives, in float64."""

    def __init__(self, model):
        self.weights = [weight.astype("float64") for weight in model.get_weights()]

    def logits(self, x):
        kernel1, bias1, kernel2, bias2 = self.weights
        self.inputs = x.reshape(len(x), -1) / 255.0
        self.hidden = np.maximum(self.inputs @ kernel1 + bias1, 0)
        return self.hidden @ kernel2 + bias2

    def gradients(self, x, labels):
        error = softmax(self.logits(x))
        error[np.arange(len(labels)), labels] -= 1
        error /= len(labels)
        hidden_error = error @ self.weights[2].T * (self.hidden > 0)
        return [self.inputs.T @ hidden_error, hidden_error.sum(0), self.hidden.T @ error, error.sum(0)]


class NumpySgd:
    def __init__(self, rate):
        self.rate = rate

    def update(self, weights, gradients):
        for weight, gradient in zip(weights, gradients, strict=True):
            weight -= self.rate * gradient


class NumpyAdam:
    """Adam by Kingma & Ba 2015, with epsilon outside the corrected root, as Keras documents."""

    def __init__(self, rate, beta1=0.9, beta2=0.999, epsilon=1e-7):
        self.rate, self.beta1, self.beta2, self.epsilon, self.steps = rate, beta1, beta2, epsilon, 0

    def update(self, weights, gradients):
        if not self.steps:
            self.first, self.second = [0.0] * len(weights), [0.0] * len(weights)
        self.steps += 1
        rate = self.rate * np.sqrt(1 - self.beta2**self.steps) / (1 - self.beta1**self.steps)
        for i, gradient in enumerate(gradients):
            self.first[i] = self.beta1 * self.first[i] + (1 - self.beta1) * gradient
            self.second[i] = self.beta2 * self.second[i] + (1 - self.beta2) * gradient**2
            weights[i] -= rate * self.first[i] / (np.sqrt(self.second[i]) + self.epsilon)


OPTIMIZERS = {
    "sgd": (lambda: keras.optimizers.SGD(0.5), lambda: NumpySgd(0.5)),
    "adam": (lambda: keras.optimizers.Adam(0.01), lambda: NumpyAdam(0.01)),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_losses_and_weights_equal_numpy(tmp_path, name):
    make, make_numpy = OPTIMIZERS[name]
    model = tiny()
    reference, optimizer = NumpyNet(model), make_numpy()
    losses, right = [], []  # by batch and by sample
    for epoch in range(3):
        for rows in batches(epoch, UNEVEN):
            x, y = X_ALL[rows], Y_ALL[rows]
            logits = reference.logits(x)
            losses.append(cross_entropies(logits, y))
            right.append(logits.argmax(axis=1) == y)
            optimizer.update(reference.weights, reference.gradients(x, y))
    with RunDirectory(tmp_path / "run") as run:
        data, valid = (X_ALL, Y_ALL), (X_VALID, Y_VALID)
        history = train(model, data, valid, optimizer=make(), epochs=3, run=run, log_steps=True)

    np.testing.assert_allclose(read_steps(run.path), [batch.mean() for batch in losses], atol=1e-5)
    for weight, expected in zip(model.get_weights(), reference.weights, strict=True):
        np.testing.assert_allclose(weight, expected, atol=1e-5)
    assert list(history) == ["epoch", "loss", "accuracy", "val_loss", "val_accuracy", "seconds"]
    assert history["epoch"] == [1, 2, 3]
    by_epoch = [np.concatenate(losses[first : first + 7]) for first in (0, 7, 14)]
    np.testing.assert_allclose(history["loss"], [epoch.mean() for epoch in by_epoch], atol=1e-5)
    np.testing.assert_allclose(history["accuracy"], np.concatenate(right).reshape(3, UNEVEN).mean(axis=1), atol=1e-7)
    logits = reference.logits(X_VALID)
    assert history["val_loss"][-1] == pytest.approx(cross_entropies(logits, Y_VALID).mean(), abs=1e-5)
    assert history["val_accuracy"][-1] == pytest.approx((logits.argmax(axis=1) == Y_VALID).mean(), abs=1e-7)
    np.testing.assert_allclose(predict_logits(model, X_VALID), logits, atol=1e-5)


# --- Keras' own fit --------------------------------------------------------------------------------------------


def keras_fit(model, x, y, *, optimizer, epochs=3):
    """Trains with ``Model.fit`` on the batches of ``fit``, and returns the mean loss of each epoch."""
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    losses = []
    for epoch in range(epochs):
        rows = order(epoch, len(x))
        history = model.fit(x[rows], y[rows], batch_size=BATCH, shuffle=False, verbose=0)
        losses += history.history["loss"]
    return losses


def assert_trains_as_in_keras(make_model, x, y, *, make_optimizer):
    ours, theirs = make_model(), make_model()
    losses = keras_fit(theirs, x, y, optimizer=make_optimizer())
    history = train(ours, (x, y), optimizer=make_optimizer(), epochs=3, metrics={})
    np.testing.assert_allclose(history["loss"], losses, atol=1e-5, rtol=1e-5)
    for weight, expected in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(weight, expected, atol=1e-4, rtol=1e-4)
    assert losses[0] - losses[-1] > 1e-3, "the loss must decrease"


KERAS_OPTIMIZERS = {
    "adam with a schedule": lambda: keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(0.03, 15)),
    "adam that warms up": lambda: keras.optimizers.Adam(
        keras.optimizers.schedules.CosineDecay(0.001, 15, warmup_target=0.03, warmup_steps=6)
    ),
    "sgd with a polynomial schedule in cycles": lambda: keras.optimizers.SGD(
        keras.optimizers.schedules.PolynomialDecay(0.1, 5, cycle=True)
    ),
    "adam with clipped norms": lambda: keras.optimizers.Adam(0.03, clipnorm=0.02),
    "amsgrad": lambda: keras.optimizers.Adam(0.03, amsgrad=True),
    "adamw": lambda: keras.optimizers.AdamW(0.03, weight_decay=0.3),
    "momentum": lambda: keras.optimizers.SGD(0.3, momentum=0.9),
    "nesterov": lambda: keras.optimizers.SGD(0.3, momentum=0.9, nesterov=True, clipvalue=0.05),
    "rmsprop": lambda: keras.optimizers.RMSprop(0.03, momentum=0.5, centered=True),
    "adagrad": lambda: keras.optimizers.Adagrad(0.1),
}


@pytest.mark.parametrize("name", KERAS_OPTIMIZERS)
def test_optimizers_train_as_in_keras_fit(name):
    assert_trains_as_in_keras(tiny, X, Y, make_optimizer=KERAS_OPTIMIZERS[name])


def normalized():
    inputs = keras.Input(SHAPE)
    x = layers.Flatten()(layers.Rescaling(1 / 255)(inputs))
    x = layers.BatchNormalization(momentum=0.8, name="normalize")(layers.Dense(6, name="hidden")(x))
    return initialize(keras.Model(inputs, layers.Dense(CLASSES, name="logits")(layers.Activation("relu")(x))), seed=1)


def regularized():
    inputs = keras.Input(SHAPE)
    x = layers.Flatten()(layers.Rescaling(1 / 255)(inputs))
    x = layers.Dense(6, activation="tanh", kernel_regularizer=keras.regularizers.L2(0.1), name="hidden")(x)
    x = layers.ActivityRegularization(l1=0.01)(x)
    return initialize(keras.Model(inputs, layers.Dense(CLASSES, name="logits")(x)), seed=1)


def with_dropout():
    return tiny(hidden=(16, 16), dropout=0.4)


@pytest.mark.parametrize("make_model", [normalized, regularized, with_dropout])
def test_layers_with_state_or_penalty_train_as_in_keras_fit(make_model):
    assert_trains_as_in_keras(make_model, X_ALL, Y_ALL, make_optimizer=lambda: keras.optimizers.SGD(0.3))


def test_dropout_counts_all_steps_of_a_call():
    model = with_dropout()
    train(model, epochs=2)
    assert [int(layer.step) for layer in model.layers if "dropout" in layer.name] == [2 * STEPS] * 2


def test_a_repeated_token_has_the_sum_of_its_gradients():
    """An embedding equals a dense layer on one-hot vectors, which Keras' fit trains without sparse gradients."""
    words, length = 5, 6
    tokens = np.random.default_rng(2).integers(0, words, (SAMPLES, length), dtype=np.int32)

    def net(shape, dtype, first):
        inputs = keras.Input(shape, dtype=dtype)
        x = layers.GlobalAveragePooling1D()(first(inputs))
        return keras.Model(inputs, layers.Dense(CLASSES, name="logits")(x))

    embedding = initialize(net((length,), "int32", layers.Embedding(words, 3, name="words")), seed=5)
    twin = net((length, words), "float32", layers.Dense(3, use_bias=False, name="words"))
    twin.set_weights(embedding.get_weights())
    one_hot = np.eye(words, dtype="float32")[tokens]
    losses = keras_fit(twin, one_hot, Y, optimizer=keras.optimizers.Adam(0.05))
    history = train(embedding, (tokens, Y), optimizer=keras.optimizers.Adam(0.05), epochs=3)
    np.testing.assert_allclose(history["loss"], losses, atol=1e-5)
    np.testing.assert_allclose(embedding.get_weights()[0], twin.get_weights()[0], atol=1e-4)


# --- Steps in one call -----------------------------------------------------------------------------------------


def run_with_dropout():
    model = with_dropout()
    return without_seconds(train(model, (X_ALL, Y_ALL), (X_VALID, Y_VALID))), model.get_weights()


@pytest.fixture(scope="module")
def expected_run():
    return run_with_dropout()


@pytest.mark.parametrize(("steps", "seconds"), [(1, 0.25), (4, 0.0)])
def test_the_number_of_steps_in_a_call_changes_no_bit(monkeypatch, expected_run, steps, seconds):
    expected_history, expected_weights = expected_run
    monkeypatch.setattr(inputs, "_STEPS_A_CALL", steps)
    monkeypatch.setattr(inputs, "_SECONDS_A_CALL", seconds)
    history, weights = run_with_dropout()
    assert history == expected_history
    for weight, expected in zip(weights, expected_weights, strict=True):
        np.testing.assert_array_equal(weight, expected)


def test_the_epoch_mean_does_not_depend_on_the_grouping_of_steps():
    losses = np.random.default_rng(0).lognormal(sigma=8, size=100)

    def mean(size):
        totals = fit_module._Totals()
        for first in range(0, 100, size):
            totals.add(losses[first : first + size], 3)
        return totals.mean()

    assert mean(1) == mean(7) == mean(100)
    assert mean(100) == pytest.approx(losses.mean(), rel=1e-12)


@pytest.mark.parametrize("samples", [1, 8])
def test_fewer_samples_than_a_batch_take_one_step(samples, tmp_path):
    model = tiny()
    reference = NumpyNet(model)
    expected = cross_entropies(reference.logits(X[:samples]), Y[:samples]).mean()
    with RunDirectory(tmp_path) as run:
        history = train(model, (X[:samples], Y[:samples]), epochs=1, run=run, log_steps=True)
    assert history["loss"] == pytest.approx([expected], abs=1e-5)
    assert len(read_steps(tmp_path)) == 1


# --- Losses and metrics ----------------------------------------------------------------------------------------


def frozen():
    """Returns an optimizer that changes nothing, so that metrics in training are those of the initial weights."""
    return keras.optimizers.SGD(0.0)


def test_custom_metrics_are_means_over_the_samples():
    def top2(labels, logits):
        return ops.cast(ops.in_top_k(labels, logits, 2), "float32")

    def largest(labels, logits):
        return ops.max(logits, axis=-1)

    model = tiny()
    metrics = {"top2": top2, "largest": largest}
    history = train(model, valid=(X_VALID, Y_VALID), metrics=metrics, optimizer=frozen(), epochs=1)
    assert list(history) == [
        *("epoch", "loss", "top2", "largest", "val_loss", "val_top2", "val_largest"),
        "seconds",
    ]
    for prefix, x, y in (("", X, Y), ("val_", X_VALID, Y_VALID)):
        logits = NumpyNet(model).logits(x)
        rank = (logits > logits[np.arange(len(y)), y][:, None]).sum(axis=1)
        assert history[f"{prefix}top2"] == pytest.approx([(rank < 2).mean()], abs=1e-7)
        assert history[f"{prefix}largest"] == pytest.approx([logits.max(axis=1).mean()], abs=1e-5)


def linear(units=1, **arguments):
    return initialize(
        keras.Sequential([keras.Input((3,)), layers.Dense(units, name="line", **arguments)], name="linear"), seed=2
    )


def test_regression_without_metrics():
    x = np.random.default_rng(0).normal(size=(20, 3)).astype("float32")
    y = np.random.default_rng(1).normal(size=(20, 1)).astype("float32")
    model = linear()
    kernel, bias = (weight.astype("float64") for weight in model.get_weights())
    error = x @ kernel + bias - y
    optimizer = keras.optimizers.SGD(0.1)
    history = train(model, (x, y), loss="mean_squared_error", metrics={}, optimizer=optimizer, batch_size=20, epochs=1)
    assert list(history) == ["epoch", "loss", "seconds"]
    assert history["loss"] == pytest.approx([(error**2).mean()], rel=1e-5)
    np.testing.assert_allclose(model.get_weights()[0], kernel - 0.1 * 2 * x.T @ error / 20, atol=1e-6)
    np.testing.assert_allclose(model.get_weights()[1], bias - 0.1 * 2 * error.mean(axis=0), atol=1e-6)


CLASS_NUMBERS = RANDOM.integers(0, 3, 20, dtype=np.int32)
ONE_HOT = np.eye(3, dtype="float32")[CLASS_NUMBERS]
LOSSES = {
    "sparse_categorical_crossentropy": (CLASS_NUMBERS, lambda z: cross_entropies(z, CLASS_NUMBERS)),
    "categorical_crossentropy": (ONE_HOT, lambda z: cross_entropies(z, CLASS_NUMBERS)),
    "binary_crossentropy": (ONE_HOT, lambda z: np.log1p(np.exp(z)) - ONE_HOT * z),
    "MeanSquaredError": (ONE_HOT, lambda z: (z - ONE_HOT) ** 2),
}


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_by_name_takes_logits(name):
    labels, expected = LOSSES[name]
    model = linear(units=3)
    x = np.random.default_rng(4).normal(size=(20, 3)).astype("float32")
    kernel, bias = model.get_weights()
    value = expected((x @ kernel + bias).astype("float64")).mean()
    assert evaluate(model, (x, labels), loss=name, metrics={}) == pytest.approx({"loss": value}, abs=1e-5)
    history = train(model, (x, labels), loss=name, metrics={}, optimizer=frozen(), epochs=1)
    assert history["loss"] == pytest.approx([value], abs=1e-5)


@pytest.mark.parametrize("loss", ["cross_entropy", "loss", ""])
def test_an_unknown_loss_is_named(loss):
    with pytest.raises(CourseError, match=f"loss is '{loss}'"):
        train(tiny(), loss=loss)


@pytest.mark.parametrize(("samples", "batch_size"), [(1, 256), (5, 4), (8, 4), (21, 4), (5, 5)])
def test_predict_logits_with_any_last_batch(samples, batch_size):
    model = tiny()
    logits = predict_logits(model, X[:samples], batch_size=batch_size)
    assert (logits.shape, logits.dtype) == ((samples, CLASSES), np.float32)
    np.testing.assert_allclose(logits, NumpyNet(model).logits(X[:samples]), atol=1e-5)


def test_evaluate_is_in_inference_mode():
    model = with_dropout()
    logits = predict_logits(model, X)
    measured = evaluate(model, (X, Y))
    assert list(measured) == ["loss", "accuracy"]
    assert measured["loss"] == pytest.approx(cross_entropies(logits.astype("float64"), Y).mean(), abs=1e-5)
    assert measured["accuracy"] == pytest.approx((logits.argmax(axis=1) == Y).mean(), abs=1e-7)


# --- One weight, by the formula --------------------------------------------------------------------------------
# A model w * x with x = 1 and the target 1: the loss is (w - 1)**2, and a step of SGD maps w to w + 2 rate (1 - w).

ONE = np.ones((1, 1), "float32")


def one_weight(**arguments):
    line = layers.Dense(1, use_bias=False, kernel_initializer="zeros", name="line", **arguments)
    return keras.Sequential([keras.Input((1,)), line], name="one_weight")


def train_one_weight(model, *, rate=0.05, target=0.5, **arguments):
    settings = {"optimizer": keras.optimizers.SGD(rate), "loss": "mean_squared_error", "metrics": {}, "epochs": 20}
    return train(model, (ONE, ONE), (ONE, target * ONE), **settings | arguments)


def value(model):
    return float(model.get_weights()[0].item())


def test_training_one_weight_equals_the_formula():
    model = one_weight()
    history = train_one_weight(model, epochs=4)
    weights = 1 - 0.9 ** np.arange(5)
    assert value(model) == pytest.approx(weights[4], rel=1e-6)
    assert history["loss"] == pytest.approx(((weights[:4] - 1) ** 2).tolist(), rel=1e-5)
    assert history["val_loss"] == pytest.approx(((weights[1:] - 0.5) ** 2).tolist(), rel=1e-4)


# w after epoch n is 1 - 0.9**n: the nearest to 0.5 is 0.5217 after epoch 7, so a patience of 2 ends with epoch 9.


def test_early_stopping_returns_to_the_best_weights():
    model = one_weight()
    history = train_one_weight(model, early_stopping=2)
    assert history["epoch"] == list(range(1, 10))
    assert value(model) == pytest.approx(1 - 0.9**7, rel=1e-6)


@pytest.mark.parametrize("cut", [3, 8, 9])
def test_early_stopping_continues_after_a_resume(tmp_path, cut):
    with RunDirectory(tmp_path) as run:
        train_one_weight(one_weight(), early_stopping=2, run=run, epochs=cut)
    model = one_weight()
    with RunDirectory(tmp_path, resume=True) as run:
        history = train_one_weight(model, early_stopping=2, run=run)
    assert history["epoch"] == list(range(1, 10))
    assert value(model) == pytest.approx(1 - 0.9**7, rel=1e-6)


def test_early_stopping_takes_the_first_of_equal_epochs():
    model = one_weight()
    history = train_one_weight(model, optimizer=frozen(), early_stopping=3)
    assert history["epoch"] == [1, 2, 3, 4]


def test_early_stopping_returns_the_best_weights_after_all_epochs():
    model = one_weight()
    history = train_one_weight(model, early_stopping=5, epochs=8)
    assert history["epoch"][-1] == 8
    assert value(model) == pytest.approx(1 - 0.9**7, rel=1e-6)


# --- Callbacks -------------------------------------------------------------------------------------------------


def test_learning_rate_schedulers_are_used():
    rates = [0.1, 0.2, 0.05]
    model = one_weight()
    scheduler = keras.callbacks.LearningRateScheduler(lambda epoch: rates[epoch])
    train_one_weight(model, epochs=3, callbacks=[scheduler])
    assert value(model) == pytest.approx(1 - np.prod([1 - 2 * rate for rate in rates]), rel=1e-6)


def test_reduce_on_plateau_is_used_and_resumed(tmp_path):
    # With patience 1 the rate 0.5 is cut to 0.05 after each epoch whose validation loss, w**2, is not smaller. From 0,
    # w goes to 1 in the first epoch (loss 1 is the best so far) and stays there, so the second cuts.
    def plateau():
        return keras.callbacks.ReduceLROnPlateau(patience=1, factor=0.1, min_delta=0)

    def weights_of(model):
        return keras.callbacks.LambdaCallback(
            on_epoch_end=lambda epoch, logs: model.set_weights([np.full((1, 1), 0.0)]) if epoch == 1 else None
        )

    whole = one_weight()
    history = train_one_weight(whole, rate=0.5, target=0, epochs=3, callbacks=[plateau(), weights_of(whole)])
    assert history["val_loss"][:2] == pytest.approx([1, 1])
    assert value(whole) == pytest.approx(2 * 0.05, rel=1e-6)

    with RunDirectory(tmp_path) as run:
        first = one_weight()
        train_one_weight(first, rate=0.5, target=0, epochs=2, run=run, callbacks=[plateau(), weights_of(first)])
    resumed = one_weight()
    with RunDirectory(tmp_path, resume=True) as run:
        train_one_weight(resumed, rate=0.5, target=0, epochs=3, run=run)
    assert value(resumed) == value(whole)


def test_batch_callbacks_see_the_weights_of_their_batch_and_the_means_of_the_epoch_so_far():
    model = tiny()
    reference, optimizer = NumpyNet(model), NumpySgd(0.5)
    seen, epochs = [], []
    callback = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: seen.append((batch, logs, model.get_weights())),
        on_epoch_end=lambda epoch, logs: epochs.append((epoch, logs)),
    )
    history = train(model, valid=(X_VALID, Y_VALID), optimizer=keras.optimizers.SGD(0.5), callbacks=[callback])
    assert [batch for batch, _, _ in seen] == [*range(STEPS), *range(STEPS)]
    losses, right = [], []
    for (batch, logs, weights), rows in zip(seen, [*batches(0), *batches(1)], strict=True):
        if batch == 0:
            losses, right = [], []
        logits = reference.logits(X[rows])
        losses += cross_entropies(logits, Y[rows]).tolist()
        right += (logits.argmax(axis=1) == Y[rows]).tolist()
        assert logs == pytest.approx({"loss": np.mean(losses), "accuracy": np.mean(right)}, abs=1e-5)
        optimizer.update(reference.weights, reference.gradients(X[rows], Y[rows]))
        for weight, expected_weight in zip(weights, reference.weights, strict=True):
            np.testing.assert_allclose(weight, expected_weight, atol=1e-5)
    columns = ("loss", "accuracy", "val_loss", "val_accuracy")
    assert epochs == [(epoch, {name: history[name][epoch] for name in columns}) for epoch in range(2)]


@pytest.mark.parametrize("steps", [1, 64])
def test_training_continues_from_weights_set_by_a_callback(monkeypatch, steps):
    monkeypatch.setattr(inputs, "_STEPS_A_CALL", steps)
    model = one_weight()
    start = [np.full((1, 1), 3.0, "float32")]
    callbacks = {
        "batch": keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: model.set_weights(start)),
        "epoch": keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: model.set_weights(start)),
    }
    train_one_weight(model, epochs=2, callbacks=[callbacks["batch"]])
    assert value(model) == 3
    train_one_weight(model, epochs=2, callbacks=[callbacks["epoch"]])
    assert value(model) == pytest.approx(3 + 0.1 * (1 - 3), rel=1e-6)


def test_callbacks_do_not_change_the_numbers():
    plain, watched = tiny(), tiny()
    expected = without_seconds(train(plain, valid=(X_VALID, Y_VALID)))
    history = train(watched, valid=(X_VALID, Y_VALID), callbacks=[keras.callbacks.Callback()])
    assert without_seconds(history) == expected
    for weight, expected_weight in zip(watched.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_array_equal(weight, expected_weight)


def test_keras_own_early_stopping_stops():
    model = one_weight()
    stopping = keras.callbacks.EarlyStopping(patience=2, restore_best_weights=True)
    history = train_one_weight(model, callbacks=[stopping])
    assert history["epoch"] == list(range(1, 10))
    assert value(model) == pytest.approx(1 - 0.9**7, rel=1e-6)
    assert train_one_weight(model, epochs=2)["epoch"] == [1, 2], "a stopped training is not continued"


def test_a_model_checkpoint_can_be_opened(tmp_path):
    model = tiny()
    checkpoint = keras.callbacks.ModelCheckpoint(tmp_path / "epoch{epoch}.keras")
    train(model, callbacks=[checkpoint])
    opened = keras.saving.load_model(tmp_path / "epoch2.keras")
    np.testing.assert_array_equal(predict_logits(opened, X_VALID), predict_logits(model, X_VALID))
    earlier = keras.saving.load_model(tmp_path / "epoch1.keras")
    assert not np.array_equal(predict_logits(earlier, X_VALID), predict_logits(model, X_VALID))


def test_a_compiled_model_keeps_its_optimizer():
    model = tiny()
    model.compile("adagrad", "mse")
    optimizer = model.optimizer
    train(model, epochs=1)
    assert model.optimizer is optimizer
    assert not hasattr(tiny(), "optimizer") or tiny().optimizer is None


# --- Interruptions ---------------------------------------------------------------------------------------------


def assert_usable(model):
    assert all(np.isfinite(weight).all() for weight in model.get_weights())
    assert np.isfinite(evaluate(model, (X, Y))["loss"])


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_error_in_a_callback_keeps_the_weights_of_that_step(monkeypatch, error):
    monkeypatch.setattr(inputs, "_STEPS_A_CALL", 1)

    def interrupt(batch, logs):
        if batch == 3:
            raise error

    model = tiny()
    reference, optimizer = NumpyNet(model), NumpySgd(0.5)
    for rows in batches(0)[:4]:
        optimizer.update(reference.weights, reference.gradients(X[rows], Y[rows]))
    callback = keras.callbacks.LambdaCallback(on_train_batch_end=interrupt)
    with pytest.raises(error):
        train(model, optimizer=keras.optimizers.SGD(0.5), callbacks=[callback])
    for weight, expected in zip(model.get_weights(), reference.weights, strict=True):
        np.testing.assert_allclose(weight, expected, atol=1e-5)
    assert_usable(model)


@pytest.mark.parametrize("group", [1, 3])
def test_an_interruption_between_two_calls_leaves_a_usable_model(monkeypatch, group):
    monkeypatch.setattr(inputs, "_STEPS_A_CALL", 2)
    calls = []

    def add(totals, losses, size):
        calls.append(losses)
        if len(calls) == group:
            raise KeyboardInterrupt
        totals.losses += losses.tolist()

    monkeypatch.setattr(fit_module._Totals, "add", add)
    model = tiny()
    before = model.get_weights()
    with pytest.raises(KeyboardInterrupt):
        train(model)
    assert not np.array_equal(model.get_weights()[0], before[0])
    assert_usable(model)


def test_a_failing_call_keeps_the_previous_weights():
    def broken(labels, logits):
        raise RuntimeError("no room for this metric")

    model = tiny()
    before = model.get_weights()
    with pytest.raises(CourseError, match="no room for this metric") as caught:
        train(model, metrics={"broken": broken})
    assert isinstance(caught.value.__cause__, RuntimeError), "the error of the metric must be the cause"
    for weight, expected in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, expected)
    assert_usable(model)


# --- Divergence ------------------------------------------------------------------------------------------------


def optimizer_exploding_after(step):
    """Returns SGD whose given step is so large that the weights overflow."""
    return keras.optimizers.SGD(keras.optimizers.schedules.PiecewiseConstantDecay([step - 2], [1e-4, 3e38]))


def test_a_much_too_large_learning_rate_is_an_error_with_the_step():
    with pytest.raises(CourseError, match=r"loss of step 2 \(epoch 1\).*learning_rate"):
        train(tiny(), optimizer=keras.optimizers.SGD(1e38))


# An epoch has six steps. The step after the explosion is the first one with a loss that is not finite.
@pytest.mark.parametrize(
    ("explosion", "valid", "message"),
    [
        (8, (X_VALID, Y_VALID), r"loss of step 9 \(epoch 2\)"),
        (12, (X_VALID, Y_VALID), r"state after step 12 \(epoch 2\)"),
        (12, None, r"state after step 12 \(epoch 2\)"),
    ],
)
def test_divergence_names_step_and_epoch_and_keeps_the_last_checkpoint(tmp_path, explosion, valid, message):
    with RunDirectory(tmp_path) as run, pytest.raises(DivergenceError, match=message) as caught:
        train(tiny(scale=1.0), valid=valid, optimizer=optimizer_exploding_after(explosion), run=run, epochs=4)
    checkpoint = run.load_checkpoint()
    assert checkpoint.history["epoch"] == [1]
    assert caught.value.found == checkpoint.history
    expected = tiny(scale=1.0)
    train(expected, epochs=1, optimizer=optimizer_exploding_after(explosion))
    for weight, expected_weight in zip(checkpoint.model, expected.get_weights(), strict=True):
        np.testing.assert_array_equal(weight, expected_weight)


def test_samples_and_labels_that_are_not_finite_are_refused():
    x = X.astype("float32")
    x[17, 1, 0, 0] = np.nan
    with pytest.raises(CourseError, match="train has a sample that is nan, number 17"):
        train(tiny(), (x, Y))
    x_valid = X_VALID.astype("float32")
    x_valid[3] = -np.inf
    with pytest.raises(CourseError, match="valid has a sample that is -inf, number 3"):
        train(tiny(), valid=(x_valid, Y_VALID))
    y = np.where(np.arange(len(X)) == 5, np.nan, 1.0)[:, None]
    with pytest.raises(CourseError, match="train has a label that is nan, number 5"):
        train(dense_classifier(input_shape=(3, 3, 1), num_classes=1), (X, y), loss="mean_squared_error")


def test_labels_that_would_be_broadcast_against_the_outputs_are_refused():
    model = dense_classifier(input_shape=(3, 3, 1), num_classes=2)
    with pytest.raises(CourseError, match=r"labels of shape \(48,\); the model gives \(2,\) a sample"):
        train(model, (X, Y.astype("float32")), loss="mean_squared_error")


@pytest.mark.parametrize(
    ("x", "y"), [(X[..., 0], Y), (X, Y[:, None]), (X, Y.astype("float32")), (X.tolist(), Y.tolist())]
)
def test_equivalent_forms_of_data_give_the_same_training(x, y):
    expected = without_seconds(train(tiny()))
    history = without_seconds(train(tiny(), (x, y)))
    assert list(history) == list(expected)
    for name, column in history.items():
        assert column == pytest.approx(expected[name], rel=1e-6)


def test_labels_of_shape_n_fit_one_output():
    x = np.random.default_rng(0).normal(size=(20, 3)).astype("float32")
    y = x.sum(axis=1)
    columns = [without_seconds(train(linear(), (x, labels), loss="mse")) for labels in (y, y[:, None])]
    assert columns[0] == columns[1]
    assert columns[0]["loss"][1] < columns[0]["loss"][0]


# --- Bad input -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"epochs": 0}, "epochs is 0"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"batch_size": 2.5}, "batch_size is 2.5"),
        ({"seed": -1}, "seed is -1"),
        ({"early_stopping": 0, "valid": (X_VALID, Y_VALID)}, "early_stopping is 0"),
        ({"early_stopping": 2}, "early_stopping needs validation data"),
        ({"data": (X, Y[:-1])}, "train has 48 samples and 47 labels"),
        ({"data": (X[:0], Y[:0])}, "train has no samples"),
        ({"data": (X[:, 1:], Y)}, r"train has samples of shape \(2, 3, 1\); the model takes \(3, 3, 1\)"),
        ({"data": (X[..., 0, 0], Y)}, r"train has samples of shape \(3,\)"),
        ({"data": (X, Y + 1)}, r"train has labels from \d to 4 .* the model has 4 classes"),
        ({"data": (X, Y - 1)}, "train has labels from -1"),
        ({"data": (X, Y + 0.5)}, "labels from 0.5 to 3.5 .*give whole numbers"),
        ({"data": (X, np.stack([Y, Y], axis=1))}, r"train has labels of shape \(48, 2\)"),
        ({"valid": (X_VALID, Y_VALID[:1])}, "valid has 21 samples and 1 labels"),
    ],
)
def test_error_names_the_bad_argument(arguments, message):
    with pytest.raises(CourseError, match=message):
        train(tiny(), **arguments)


def test_only_pictures_are_augmented():
    flat = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    with pytest.raises(CourseError, match=r"train has samples of shape \(4,\); only pictures"):
        fit(flat, (np.zeros((2, 4), "float32"), np.zeros(2, int)), augmentation=augmentation.Augmentation([]))


@pytest.mark.parametrize(
    ("data", "message"),
    [((X, Y[:-1]), "48 samples and 47 labels"), ((X, Y + 1), "labels from"), ((X[:, 1:], Y), "samples of shape")],
)
def test_evaluate_names_bad_data(data, message):
    with pytest.raises(CourseError, match=message):
        evaluate(tiny(), data)


@pytest.mark.parametrize(
    ("shape", "largest"), [((28, 28, 1), 256), ((1280,), 256), ((224, 224, 3), 32), ((3000, 3000, 3), 1)]
)
def test_fewer_large_samples_run_together(monkeypatch, shape, largest):
    seen = []

    def forward(model):
        return lambda batch: seen.append(batch.shape) or batch.reshape(len(batch), -1)[:, :2]

    monkeypatch.setattr(fit_module._backend, "forward", forward, raising=False)
    count = min(2 * largest + 1, 300)
    x = np.broadcast_to(np.uint8(1), (count, *shape))
    model = keras.Sequential([keras.Input(shape), keras.layers.Flatten()])
    assert predict_logits(model, x).shape == (count, 2)
    assert set(seen) == {(largest, *shape)}


@pytest.mark.parametrize("batch_size", [3, None])
def test_logits_with_variants_are_the_mean_over_augmented_pictures(batch_size):
    random = np.random.default_rng(0)
    pictures = random.integers(0, 256, (8, 6, 5, 3), dtype="uint8")
    model = keras.Sequential([keras.Input((6, 5, 3)), keras.layers.Flatten(), keras.layers.Dense(4)])
    model.set_weights([random.normal(0, 1e-3, weight.shape) for weight in model.get_weights()])
    kernel, bias = model.get_weights()
    transforms = [augmentation.Rotation(40), augmentation.Contrast(0.5), augmentation.Noise(0.05)]
    augment = augmentation.Augmentation(transforms, seed=3)
    shown = [augment.apply(pictures, step=step, xp=np).reshape(8, -1) for step in range(5)]
    expected = np.mean([changed @ kernel.astype("float64") + bias for changed in shown], axis=0)
    logits = predict_logits(model, pictures, batch_size=batch_size, augmentation=augment, variants=5)
    assert logits.dtype == np.float32
    np.testing.assert_allclose(logits, expected, atol=1e-5)
    once = predict_logits(model, pictures)
    assert np.abs(once - logits).max() > 0.02, "the pictures must be changed"
    np.testing.assert_array_equal(
        predict_logits(model, pictures, augmentation=augmentation.Augmentation([]), variants=2), once
    )


def test_predict_logits_names_bad_arguments():
    with pytest.raises(CourseError, match="batch_size is 0"):
        predict_logits(tiny(), X, batch_size=0)
    with pytest.raises(CourseError, match="x has no samples"):
        predict_logits(tiny(), X[:0])
    mixing = augmentation.Augmentation([augmentation.MixUp()], num_classes=2)
    pictures = np.zeros((2, 4, 4, 1), "uint8")
    model = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Flatten()])
    with pytest.raises(CourseError, match="variants is 0"):
        predict_logits(model, pictures, augmentation=augmentation.Augmentation([]), variants=0)
    with pytest.raises(CourseError, match="leave out MixUp and CutMix"):
        predict_logits(model, pictures, augmentation=mixing)
    flat = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    with pytest.raises(CourseError, match=r"x has samples of shape \(4,\); only pictures"):
        predict_logits(flat, np.zeros((2, 4), "float32"), augmentation=augmentation.Augmentation([]))


# --- Progress --------------------------------------------------------------------------------------------------


def test_progress_is_one_line_for_each_epoch(capsys):
    history = train(tiny(), valid=(X_VALID, Y_VALID), epochs=2, progress=True)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert lines[1].startswith("epoch 2/2")
    for name in ("loss", "accuracy", "val_loss", "val_accuracy"):
        assert f"{name} {history[name][1]:.4f}" in lines[1]
    train(tiny(), epochs=1)
    assert capsys.readouterr() == ("", "")


def test_on_a_terminal_a_bar_counts_the_steps_of_each_epoch(capsys, monkeypatch):
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("COLUMNS", "120")
    history = train(tiny(), epochs=2, progress=True)
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", capsys.readouterr().out)
    steps = -(-SAMPLES // BATCH)
    for epoch in (1, 2):
        assert re.search(rf"epoch {epoch}/2 .*{steps}/{steps} steps loss {history['loss'][epoch - 1]:.4f}", shown)
