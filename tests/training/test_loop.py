"""The compiled loop alone, against NumPy: any losses, and one or more optimizers."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_course import _backend

STEPS = 6
RANDOM = np.random.default_rng(0)
NOISE = RANDOM.normal(size=(STEPS, 4, 2)).astype("float32")
REAL = RANDOM.normal(1.5, 0.5, size=(STEPS, 4)).astype("float32")
START = {"generator": np.array([0.3, -0.2], "float32"), "discriminator": np.array([0.5, 0.1], "float32")}


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def train_gan_in_numpy():
    """Trains a generator w·z by SGD and a discriminator a·x + b by SGD with momentum, in float64."""
    w, (a, b) = START["generator"].astype("float64"), START["discriminator"].astype("float64")
    velocity = np.zeros(2)
    rows = []
    for z, real in zip(NOISE.astype("float64"), REAL.astype("float64"), strict=True):
        fake = z @ w
        real_score, fake_score = a * real + b, a * fake + b
        discriminator_loss = np.log1p(np.exp(-real_score)).mean() + np.log1p(np.exp(fake_score)).mean()
        of_real, of_fake = -sigmoid(-real_score), sigmoid(fake_score)
        gradient = np.array([(of_real * real + of_fake * fake).mean(), (of_real + of_fake).mean()])
        velocity = 0.9 * velocity - 0.1 * gradient
        a, b = a + velocity[0], b + velocity[1]
        score = a * fake + b  # of the updated discriminator
        generator_loss = np.log1p(np.exp(-score)).mean()
        w = w - 0.2 * ((-sigmoid(-score) * a)[:, None] * z).mean(axis=0)
        rows.append([discriminator_loss, np.mean(real_score > 0), generator_loss])
    return np.array(rows), w, np.array([a, b])


def gan_loop():
    generator = keras.Variable(START["generator"], name="generator")
    discriminator = keras.Variable(START["discriminator"], name="discriminator")
    steps = keras.Variable(0, dtype="int32", trainable=False, name="steps")

    def score(x):
        return discriminator[0] * x + discriminator[1]

    def fake(batch):
        return ops.matmul(batch["noise"], generator)

    def discriminator_loss(batch):
        real = score(batch["real"])
        steps.assign(steps + 1)
        loss = ops.mean(ops.softplus(-real)) + ops.mean(ops.softplus(score(fake(batch))))
        return loss, {"right": ops.mean(ops.cast(real > 0, "float32"))}

    def generator_loss(batch):
        return ops.mean(ops.softplus(-score(fake(batch))))

    optimizers = keras.optimizers.SGD(0.1, momentum=0.9), keras.optimizers.SGD(0.2)
    for optimizer, variable in zip(optimizers, (discriminator, generator), strict=True):
        optimizer.build([variable])
    updates = [
        _backend.Update(discriminator_loss, optimizers[0], [discriminator], logs={"right": ()}),
        _backend.Update(generator_loss, optimizers[1], [generator]),
    ]
    return _backend.training_loop(updates, [steps]), generator, discriminator, steps


@pytest.mark.parametrize("group", [1, 4, STEPS])
def test_two_optimizers_train_a_gan_as_in_numpy(group):
    expected, w, discriminated = train_gan_in_numpy()
    loop, generator, discriminator, steps = gan_loop()
    loop.load()
    rows = []
    for start in range(0, STEPS, group):
        count = min(group, STEPS - start)
        places = np.resize(np.arange(start, start + count), group)  # all groups have one shape
        batches = {"noise": NOISE[places], "real": REAL[places]}
        rows.append(np.asarray(loop.run(batches, count))[:count])
    loop.sync()
    np.testing.assert_allclose(np.concatenate(rows), expected, atol=1e-6)
    np.testing.assert_allclose(ops.convert_to_numpy(generator), w, atol=1e-6)
    np.testing.assert_allclose(ops.convert_to_numpy(discriminator), discriminated, atol=1e-6)
    assert int(ops.convert_to_numpy(steps)) == STEPS


def test_running_0_steps_compiles_and_changes_nothing():
    loop, generator, discriminator, steps = gan_loop()
    loop.load()
    loop.run({"noise": NOISE, "real": REAL}, 0)
    loop.sync()
    np.testing.assert_array_equal(ops.convert_to_numpy(generator), START["generator"])
    np.testing.assert_array_equal(ops.convert_to_numpy(discriminator), START["discriminator"])
    assert int(ops.convert_to_numpy(steps)) == 0


def test_a_loss_without_an_optimizer_is_only_evaluated():
    total = keras.Variable([0.0, 0.0], trainable=False)

    def loss(batch):
        total.assign(total + ops.sum(batch, axis=0))
        return ops.sum(batch)

    loop = _backend.training_loop([_backend.Update(loss)], [total])
    loop.load()
    rows = np.asarray(loop.run(NOISE, STEPS))
    loop.sync()
    np.testing.assert_allclose(rows[:, 0], NOISE.sum(axis=(1, 2)), atol=1e-5)
    np.testing.assert_allclose(ops.convert_to_numpy(total), NOISE.sum(axis=(0, 1)), atol=1e-5)


def test_logs_of_any_shape_are_flattened_into_columns():
    def loss(batch):
        return ops.sum(batch["x"]), {"double": batch["x"] * 2, "step": ops.cast(batch["step"], "int32")}

    loop = _backend.training_loop([_backend.Update(loss, logs={"double": (4, 2), "step": ()})])
    loop.load()
    for count in (2, STEPS):  # each shape of batches has its own compiled program
        rows = np.asarray(loop.run({"x": NOISE[:count], "step": np.arange(count, dtype="int32")}, count))
        np.testing.assert_allclose(rows[:, 0], NOISE[:count].sum(axis=(1, 2)), atol=1e-5)
        np.testing.assert_array_equal(rows[:, 1:-1].reshape(count, 4, 2), 2 * NOISE[:count])
        np.testing.assert_array_equal(rows[:, -1], np.arange(count))


def test_an_unused_variable_has_a_gradient_of_zero():
    used, unused = keras.Variable([1.0]), keras.Variable([2.0])
    optimizer = keras.optimizers.SGD(0.5)
    optimizer.build([used, unused])
    loop = _backend.training_loop([_backend.Update(lambda batch: ops.sum(used * batch), optimizer, [used, unused])])
    loop.load()
    loop.run(np.ones((2, 1), "float32"), 2)
    loop.sync()
    assert [float(ops.convert_to_numpy(variable)[0]) for variable in (used, unused)] == [0.0, 2.0]
