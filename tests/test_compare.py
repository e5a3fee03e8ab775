"""``compare``: each run equals the same run alone, in `fit` or in NumPy."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_course import randomness
from keras_course.datasets import lines
from keras_course.errors import CourseError
from keras_course.models import dense_classifier, dense_regressor, line_loss
from keras_course.training import compare, fit
from keras_course.training.descent import DIVERGED_ABOVE

X, Y = lines.load_data("ten_points")
START = (-2.0, 40.0)


def descend_in_numpy(rate, batch_size, epochs, seed=0):
    """Returns the path and the batch losses of plain gradient descent on the ten points, in float64."""
    x, y = X.astype("float64"), Y.astype("float64")
    m, b = START
    path, losses = [START], []
    for epoch in range(epochs):
        order = randomness.permutation(randomness.stream_key(seed, "shuffle"), len(x), step=epoch)
        for first in range(0, len(x), batch_size):
            batch = order[first : first + batch_size]
            wrong = m * x[batch] + b - y[batch]
            losses.append(np.mean(wrong**2))
            m, b = m - rate * 2 * np.mean(x[batch] * wrong), b - rate * 2 * np.mean(wrong)
            path.append((m, b))
    return np.array(path), np.array(losses)


def losses_of(path):
    return np.mean((path[:, :1] * X + path[:, 1:] - Y) ** 2, axis=1)


@pytest.mark.parametrize("seed", [0, 5])
def test_runs_with_several_batch_sizes_equal_numpy(seed):
    family = compare(
        line_loss, (X, Y), start=START, learning_rate=0.005, batch_size=[1, 4, None], epochs=30, seed=seed, paths=True
    )
    assert list(family) == ["batch size 1", "batch size 4", "full batch"]
    for run, size in zip(family.values(), (1, 4, 10), strict=True):
        path, losses = descend_in_numpy(0.005, size, 30, seed)
        steps_an_epoch = -(-10 // size)
        assert len(run.losses) == 30 * steps_an_epoch
        np.testing.assert_allclose(run.path, path, rtol=1e-4, atol=1e-3)
        np.testing.assert_allclose(run.losses, losses, rtol=1e-3, atol=1e-2)
        np.testing.assert_allclose(run.epoch_losses, losses_of(path)[::steps_an_epoch], rtol=1e-4)
        np.testing.assert_allclose([p.item() for p in run.parameters], path[-1], rtol=1e-4)
    assert family["batch size 4"].batch_size == 4
    assert family["full batch"].batch_size is None


def test_run_names_contain_only_what_differs():
    def names(**varied):
        return list(compare(line_loss, (X, Y), start=START, epochs=1, **varied))

    assert names(learning_rate=0.001) == ["SGD"]
    assert names(learning_rate=[0.001, 0.01]) == ["learning rate 0.001", "learning rate 0.01"]
    assert names(optimizer=["sgd", "adam"], batch_size=[5, None]) == [
        "SGD, batch size 5",
        "SGD, full batch",
        "Adam, batch size 5",
        "Adam, full batch",
    ]


def test_each_run_has_its_own_settings():
    family = compare(
        line_loss,
        (X, Y),
        start=START,
        optimizer=["momentum", "adam"],
        learning_rate=[0.001, 0.002],
        batch_size=[5, 10],
        epochs=2,
    )
    settings = [(run.optimizer, run.learning_rate, run.batch_size) for run in family.values()]
    assert settings == [(o, r, s) for o in ("momentum", "Adam") for r in (0.001, 0.002) for s in (5, 10)]
    for name, run in family.items():
        alone = compare(
            line_loss,
            (X, Y),
            start=START,
            optimizer=run.optimizer.lower(),
            learning_rate=run.learning_rate,
            batch_size=run.batch_size,
            epochs=2,
        )
        np.testing.assert_allclose(run.losses, next(iter(alone.values())).losses, rtol=1e-5, err_msg=name)


@pytest.fixture(scope="module")
def points():
    draws = np.random.default_rng(0)
    x = draws.uniform(-1, 1, (50, 3)).astype("float32")
    return x, np.sin(3 * x.sum(axis=1, keepdims=True)).astype("float32")


def regressor():
    return dense_regressor(input_size=3, hidden=(8,), seed=2)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("vectorized", [True, False])
def test_a_model_in_compare_trains_as_in_fit(points, optimizer, vectorized):
    """The two programs share only the order of samples: `fit` uses Keras' optimizer on one model."""
    model, valid = regressor(), (points[0][:7], points[1][:7])
    before = model.get_weights()
    rates = [0.01, 0.05]
    family = compare(
        model,
        points,
        valid,
        optimizer=optimizer,
        learning_rate=rates,
        batch_size=[16, 50],
        epochs=4,
        seed=3,
        vectorized=vectorized,
    )
    for found, expected in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(found, expected)
    for run in family.values():
        alone = regressor()
        keras_optimizer = {"sgd": keras.optimizers.SGD, "adam": keras.optimizers.Adam}[optimizer](run.learning_rate)
        history = fit(
            alone,
            points,
            valid,
            optimizer=keras_optimizer,
            loss="mean_squared_error",
            metrics={},
            epochs=4,
            batch_size=run.batch_size,
            seed=3,
            progress=False,
        )
        np.testing.assert_allclose(run.val_losses[1:], history["val_loss"], rtol=2e-4)
        sizes = [16, 16, 16, 2] if run.batch_size == 16 else [50]
        means = [np.average(epoch, weights=sizes) for epoch in run.losses.reshape(4, -1)]
        np.testing.assert_allclose(means, history["loss"], rtol=2e-4)
        for found, expected in zip(run.parameters, alone.get_weights(), strict=True):
            np.testing.assert_allclose(found, expected, atol=2e-4)


def test_epoch_losses_are_over_all_samples(points):
    family = compare(regressor(), points, learning_rate=0.05, batch_size=16, epochs=2)
    (run,) = family.values()
    model = regressor()
    for epochs in (0, 1, 2):
        if epochs:
            model = regressor()
            model.set_weights(
                next(
                    iter(compare(regressor(), points, learning_rate=0.05, batch_size=16, epochs=epochs).values())
                ).parameters
            )
        outputs = keras.ops.convert_to_numpy(model(points[0]))
        assert run.epoch_losses[epochs] == pytest.approx(np.mean((outputs - points[1]) ** 2), rel=1e-4)


def test_epoch_losses_over_several_chunks_of_samples():
    draws = np.random.default_rng(1)
    x = draws.normal(size=2500).astype("float32")
    y = 3 * x + draws.normal(size=2500).astype("float32")
    family = compare(line_loss, (x, y), start=(0.0, 0.0), learning_rate=0.1, batch_size=[100, None], epochs=1)
    assert family["full batch"].epoch_losses[0] == pytest.approx(np.mean(y.astype("float64") ** 2), rel=1e-5)
    assert len(family["batch size 100"].losses) == 25


def test_a_classifier_with_dropout_on_integer_pictures():
    draws = np.random.default_rng(0)
    x = draws.integers(0, 256, (40, 4, 4, 1)).astype("uint8")
    y = draws.integers(0, 3, 40)
    model = dense_classifier(input_shape=(4, 4, 1), hidden=(16,), num_classes=3, dropout=0.3, seed=1)
    family = compare(
        model,
        (x, y),
        loss="sparse_categorical_crossentropy",
        optimizer="adam",
        learning_rate=[0.001, 0.01],
        batch_size=8,
        epochs=3,
    )
    for run in family.values():
        alone = dense_classifier(input_shape=(4, 4, 1), hidden=(16,), num_classes=3, dropout=0.3, seed=1)
        optimizer = keras.optimizers.Adam(run.learning_rate)
        history = fit(alone, (x, y), optimizer=optimizer, epochs=3, batch_size=8, progress=False)
        np.testing.assert_allclose(run.losses.reshape(3, 5).mean(axis=1), history["loss"], rtol=1e-3)


def convolutional():
    with keras.StatelessScope():
        pictures = keras.Input((8, 8, 1))
        x = layers.Conv2D(4, 3, padding="same", name="convolution")(pictures)
        x = layers.BatchNormalization(name="normalisation")(x)
        x = layers.ReLU(name="relu")(x)
        x = layers.MaxPooling2D(name="pool")(x)
        x = layers.Flatten(name="flatten")(x)
        return randomness.initialize(keras.Model(pictures, layers.Dense(3, name="logits")(x)), seed=0)


def recurrent():
    with keras.StatelessScope():
        tokens = keras.Input((16,), dtype="int32")
        x = layers.Embedding(256, 8, name="embedding")(tokens)
        x = layers.LSTM(8, name="lstm")(x)
        return randomness.initialize(keras.Model(tokens, layers.Dense(3, name="logits")(x)), seed=0)


@pytest.mark.parametrize("build", [convolutional, recurrent])
def test_layers_that_some_backends_cannot_vectorize(build):
    draws = np.random.default_rng(0)
    x = draws.integers(0, 256, (48, 64)).astype("int32")
    x = x.reshape(-1, 8, 8, 1).astype("float32") / 255 if build is convolutional else x[:, :16]
    y = draws.integers(0, 3, 48).astype("int32")
    loss = "sparse_categorical_crossentropy"
    family = compare(build(), (x, y), loss=loss, learning_rate=[0.01, 0.1], batch_size=16, epochs=2)
    for run in family.values():
        alone, optimizer = build(), keras.optimizers.SGD(run.learning_rate)
        history = fit(alone, (x, y), (x, y), optimizer=optimizer, loss=loss, epochs=2, batch_size=16, progress=False)
        np.testing.assert_allclose(run.epoch_losses[1:], history["val_loss"], rtol=1e-4)


def test_an_error_in_the_loss_function_is_raised_unchanged():
    def loss(m, x, y):
        raise KeyError("no such column")

    with pytest.raises(KeyError, match="no such column"):
        compare(loss, (X, Y), start=[1.0], learning_rate=[0.1, 0.2], epochs=1)


def test_a_diverging_run_does_not_stop_the_others():
    family = compare(line_loss, (X, Y), start=START, learning_rate=[0.01, 1.0], batch_size=5, epochs=20, paths=True)
    good, bad = family.values()
    assert good.diverged is None
    assert len(good.epoch_losses) == 21
    assert "learning_rate 1 is too large here, try 0.1" in bad.diverged
    path, losses = descend_in_numpy(1.0, 5, 20)
    last = int(np.argmax(losses > DIVERGED_ABOVE * 475.5))
    np.testing.assert_allclose(bad.losses, losses[: last + 1], rtol=1e-3)
    np.testing.assert_allclose(bad.path, path[: last + 1], rtol=1e-3)
    np.testing.assert_allclose(bad.epoch_losses, losses_of(path)[::2][: 1 + last // 2], rtol=1e-3)
    assert f"in {last} steps" in bad.diverged
    assert all(np.isfinite(array).all() for array in bad.parameters)


def test_all_runs_can_diverge():
    family = compare(line_loss, (X, Y), start=START, learning_rate=[1.0, 10.0], epochs=10**6)
    assert all(run.diverged for run in family.values())


def test_lists_of_integers_are_accepted_as_data():
    family = compare(line_loss, ([1, 2], [3, 5]), start=(-1, 5), learning_rate=0.1, epochs=1, paths=True)
    np.testing.assert_allclose(family["SGD"].path, [(-1, 5), (-0.7, 5.1)], rtol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"learning_rate": [0.1, -1]}, "learning_rate is -1; give a finite number above 0"),
        ({"learning_rate": []}, "give at least one, and none twice"),
        ({"learning_rate": [0.1, 0.1]}, "give at least one, and none twice"),
        ({"batch_size": [4, 0]}, "batch_size is 0; give a whole number from 1 up"),
        ({"epochs": 0}, "epochs is 0"),
        ({"optimizer": ["sgd", "lion"]}, "optimizer is 'lion'"),
        ({"start": None}, "start is left out"),
        ({"start": (np.nan, 1)}, "start is .*finite ones only"),
        ({"data": (X, Y[:5])}, "data has 10 samples and 5 labels; give one label a sample"),
        ({"data": (X, np.where(Y > 50, np.nan, Y))}, "data has a label that is nan, number 8"),
        ({"valid": (X[:3], Y[:2])}, "valid has 3 samples and 2 labels"),
        ({"data": None}, "without data, give a function of the parameters, its start"),
    ],
)
def test_bad_input_is_explained(arguments, message):
    given = {"data": (X, Y), "start": START, "valid": None, "batch_size": [2, 5], **arguments}
    data, valid = given.pop("data"), given.pop("valid")
    with pytest.raises(CourseError, match=message):
        compare(line_loss, data, valid, **given)


def test_labels_that_would_be_broadcast_are_refused(points):
    x, y = points
    with pytest.raises(CourseError, match=r"labels of shape \(50, 2\); the model gives \(1,\) a sample"):
        compare(regressor(), (x, np.repeat(y, 2, axis=1)))
    with pytest.raises(CourseError, match="data has a sample that is nan, number 4"):
        compare(regressor(), (np.where(x == x[4, 1], np.nan, x), y))


def test_labels_of_shape_n_fit_one_output(points):
    x, y = points
    runs = [compare(regressor(), (x, labels), epochs=2)["SGD"] for labels in (y, y[:, 0])]
    np.testing.assert_array_equal(runs[0].epoch_losses, runs[1].epoch_losses)


def test_divergence_in_the_last_step_is_reported():
    """With two batches of one point each, the batch losses stay small and the loss after the epoch does not."""
    family = compare(
        lambda m, x, y: ops.mean((m * x - y) ** 2),
        ([1.0, 1e4], [1.0, 1.0]),
        start=[1.0],
        batch_size=1,
        learning_rate=1.0,
        epochs=1,
        seed=1,
    )
    (run,) = family.values()
    assert "training diverged" in run.diverged
    assert "in 2 steps" in run.diverged
