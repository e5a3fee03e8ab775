"""The numbers of the page in a real browser, against NumPy, the course's random generator and ``compare``."""

import numpy as np
import pytest

from keras_course import randomness
from keras_course.datasets import lines
from keras_course.models import line_loss
from keras_course.surfaces import SURFACES
from keras_course.training import compare
from keras_course.update_rules import UPDATE_RULES

STARTS = lines.STARTS | {name: surface.start for name, surface in SURFACES.items()}
RATES = {"two_points": 0.05, "ten_points": 0.004, "long_valley": 0.03, "curved_valley": 0.003, "several_minima": 0.008}


@pytest.fixture(scope="module")
def page(all_pages, page_file):
    page = all_pages.take(viewport={"width": 1280, "height": 800})
    page.goto(page_file.as_uri())
    return page


def descend(page, **settings):
    return page.evaluate("settings => keras_course.descend(settings)", settings)


# --- the expected numbers, by NumPy --------------------------------------------------------------------------------


def loss_and_gradient(name, point, rows=None):
    """Returns a loss and its gradient: of a line by matrices, of a formula by a complex step."""
    if name in SURFACES:
        loss, tiny = SURFACES[name].loss, 1e-30
        p, q = point
        slopes = [loss(p + 1j * tiny, q).imag / tiny, loss(p, q + 1j * tiny).imag / tiny]
        return loss(p, q), np.array(slopes)
    x, y = (values.astype("float64") for values in lines.load_data(name))
    rows = np.arange(len(x)) if rows is None else rows
    matrix = np.stack([x[rows], np.ones(len(rows))], axis=1)
    errors = matrix @ point - y[rows]
    return errors @ errors / len(rows), 2 * matrix.T @ errors / len(rows)


class SGD:
    def step(self, g, t):
        return g


class Momentum:
    velocity = 0.0

    def step(self, g, t):
        self.velocity = 0.9 * self.velocity + g
        return self.velocity


class Adagrad:
    total = 0.1

    def step(self, g, t):
        self.total = self.total + g**2
        return g / np.sqrt(self.total + 1e-7)


class RMSprop:
    average = 0.0

    def step(self, g, t):
        self.average = 0.9 * self.average + 0.1 * g**2
        return g / np.sqrt(self.average + 1e-7)


class Adam:
    first = second = 0.0

    def step(self, g, t):
        self.first = 0.9 * self.first + (1 - 0.9) * g
        self.second = 0.999 * self.second + (1 - 0.999) * g**2
        rate = np.sqrt(1 - 0.999**t) / (1 - 0.9**t)
        return rate * self.first / (np.sqrt(self.second) + 1e-7)


OPTIMIZERS = {"sgd": SGD, "momentum": Momentum, "adagrad": Adagrad, "rmsprop": RMSprop, "adam": Adam}


def batches_of(count, batch_size, steps, seed):
    """Returns the rows of each step, in the order of the course's generator."""
    batches, epoch = [], 0
    while len(batches) < steps:
        order = randomness.permutation(randomness.stream_key(seed, "shuffle"), count, step=epoch)
        batches += [order[first : first + batch_size].tolist() for first in range(0, count, batch_size)]
        epoch += 1
    return batches[:steps]


def path_of(name, optimizer, rate, batches):
    rule, point = OPTIMIZERS[optimizer](), np.array(STARTS[name])
    path = [point]
    for t, rows in enumerate(batches, start=1):
        point = point - rate * rule.step(loss_and_gradient(name, point, rows)[1], t)
        path.append(point)
    return np.array(path)


# --- the page against NumPy ----------------------------------------------------------------------------------------


def test_every_optimizer_of_the_course_is_tested():
    assert set(OPTIMIZERS) == set(UPDATE_RULES)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("name", STARTS)
def test_the_path_equals_numpy(page, name, optimizer):
    found = descend(page, surface=name, optimizer=optimizer, rate=RATES[name], steps=200)
    expected = path_of(name, optimizer, RATES[name], [None] * 200)
    np.testing.assert_allclose(found["path"], expected, rtol=1e-9, atol=1e-12)
    losses, gradients = zip(*(loss_and_gradient(name, point) for point in expected), strict=True)
    np.testing.assert_allclose(found["losses"], losses, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(found["gradients"], gradients, rtol=1e-9, atol=1e-10)
    assert found["diverged"] is None
    assert found["batches"] == [None] * 200


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize(("name", "batch_size"), [("two_points", 1), ("ten_points", 1), ("ten_points", 4)])
def test_the_path_with_mini_batches_equals_numpy(page, name, batch_size, optimizer):
    settings = {"surface": name, "optimizer": optimizer, "rate": RATES[name], "batch": batch_size}
    found = descend(page, **settings, steps=95, seed=7)
    batches = batches_of(len(lines.load_data(name)[0]), batch_size, 95, seed=7)
    assert found["batches"] == batches
    expected = path_of(name, optimizer, RATES[name], batches)
    np.testing.assert_allclose(found["path"], expected, rtol=1e-9, atol=1e-12)
    batch_losses = [loss_and_gradient(name, *seen)[0] for seen in zip(expected[:-1], batches, strict=True)]
    np.testing.assert_allclose(found["batch_losses"], batch_losses, rtol=1e-9, atol=1e-12)
    losses = [loss_and_gradient(name, point)[0] for point in expected]
    np.testing.assert_allclose(found["losses"], losses, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("seed", [0, 1, 2**31, 2**32 - 1, 2**32 + 5, 2**53 - 1])
def test_the_order_of_samples_equals_the_course(page, seed):
    key = randomness.stream_key(seed, "shuffle")
    for size in (1, 2, 9, 10, 1001):
        for epoch in (0, 1, 250):
            order = page.evaluate("choice => keras_course.permutation(...choice)", [seed, size, epoch])
            assert order == randomness.permutation(key, size, step=epoch).tolist()


@pytest.mark.parametrize("name", SURFACES)
def test_second_derivatives_equal_differences_of_gradients(page, name):
    p, q = STARTS[name]
    width = 1e-4
    gradients = [
        loss_and_gradient(name, point)[1] for point in ((p + width, q), (p - width, q), (p, q + width), (p, q - width))
    ]
    right, left, above, below = gradients
    (pp, pq), (_, qq) = (right - left) / (2 * width), (above - below) / (2 * width)
    found = page.evaluate("([name, point]) => keras_course.surfaces[name].hessian(...point)", [name, [p, q]])
    np.testing.assert_allclose(found, [pp, pq, qq], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "optimizer", "rate"),
    [
        ("two_points", "sgd", 2),
        ("two_points", "sgd", 0.3),
        ("ten_points", "momentum", 0.1),
        ("curved_valley", "sgd", 1),
        ("long_valley", "sgd", 0.11),
        ("several_minima", "rmsprop", 100),
        ("two_points", "sgd", 1e308),
        ("several_minima", "sgd", 1e300),
    ],
)
def test_a_diverging_run_ends_at_the_step_where_it_diverges(page, name, optimizer, rate):
    rule, point = OPTIMIZERS[optimizer](), np.array(STARTS[name])
    losses = [loss_and_gradient(name, point)[0]]
    with np.errstate(over="ignore", invalid="ignore"):
        while losses[-1] <= 1e6 * losses[0]:
            point = point - rate * rule.step(loss_and_gradient(name, point)[1], len(losses))
            losses.append(loss_and_gradient(name, point)[0])
    found = descend(page, surface=name, optimizer=optimizer, rate=rate, steps=600)
    assert losses[0] >= 1
    assert found["diverged"] == len(losses) - 1
    assert len(found["path"]) == len(found["losses"]) == len(losses)
    np.testing.assert_allclose(found["losses"][:-1], losses[:-1], rtol=1e-9)


# --- the page against the course's own descent, in float32 ---------------------------------------------------------


@pytest.mark.parametrize("name", SURFACES)
def test_the_path_on_a_formula_equals_compare(page, name):
    family = compare(
        SURFACES[name].loss, start=STARTS[name], optimizer=list(OPTIMIZERS), learning_rate=RATES[name], epochs=60
    )
    for optimizer, run in zip(OPTIMIZERS, family.values(), strict=True):
        found = descend(page, surface=name, optimizer=optimizer, rate=RATES[name], steps=60)
        np.testing.assert_allclose(found["path"], run.path, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(found["losses"], run.epoch_losses, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("name", "batch_size"), [("two_points", None), ("two_points", 1), ("ten_points", 3)])
def test_the_path_on_a_line_equals_compare(page, name, batch_size):
    x, y = lines.load_data(name)
    count = len(x)
    epochs, batch = 15, batch_size or count
    family = compare(
        line_loss,
        (x, y),
        start=STARTS[name],
        optimizer=list(OPTIMIZERS),
        learning_rate=RATES[name],
        batch_size=batch_size,
        epochs=epochs,
        seed=3,
        paths=True,
    )
    steps = epochs * -(-count // batch)
    for optimizer, run in zip(OPTIMIZERS, family.values(), strict=True):
        found = descend(page, surface=name, optimizer=optimizer, rate=RATES[name], batch=batch, steps=steps, seed=3)
        np.testing.assert_allclose(found["path"], run.path, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(found["batch_losses"], run.losses, rtol=1e-3, atol=1e-3)
