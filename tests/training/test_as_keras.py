"""``fit`` against Keras' own ``fit`` and ``evaluate``, for all layers, losses, metrics, optimizers and callbacks.

Both start from the same weights and see the same batches in the same order; losses, metrics, validation and weights
after eight steps must agree. Independent rows of a table share a model, because compiling takes most of the time; if
one fails, each of them is tested alone, and the message names those that fail.
"""

import inspect
import re
from functools import partial

import keras
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from keras import layers, ops

from keras_course import randomness
from keras_course.errors import CourseError, DivergenceError
from keras_course.training import RunDirectory, fit

from . import tables
from .tables import CALLBACKS, DRAWN, LAYERS, LOSSES, METRICS, OPTIMIZERS, SCHEDULES, TARGETS, Row

SAMPLES, BATCH, EPOCHS = 16, 4, 2  # eight steps
VALID = 8
SMOOTH, ROUGH = 1e-5, 1e-4
"""The largest differences of losses: for SGD, and for optimizers that divide by small numbers, such as Adam."""


# Keras on JAX requests 64 bits in some metrics and layers, which causes a warning
pytestmark = pytest.mark.filterwarnings("ignore:(?s).*Explicitly requested dtype int64:UserWarning")


# --- Both trainers ---------------------------------------------------------------------------------------------


def take(data, rows):
    """Returns rows of an array, or of each array in a list or dictionary."""
    return keras.tree.map_structure(lambda array: array[rows], data)


def order(epoch, count=SAMPLES):
    return randomness.permutation(randomness.stream_key(0, "shuffle"), count, step=epoch)


def start(model):
    """Sets weights that are equal on each backend, and neither small nor symmetric."""
    draw = np.random.default_rng(1)
    for variable in model.trainable_variables:
        variable.assign(draw.uniform(-0.6, 0.6, variable.shape))
    return model


def compiled(model, optimizer, loss, **settings):
    jit = "auto" if keras.backend.backend() == "jax" else False
    model.compile(optimizer, loss, jit_compile=jit, run_eagerly=keras.backend.backend() == "tensorflow", **settings)
    return model


def as_tuples(data):
    """Converts lists to tuples, because Keras on TensorFlow accepts no lists from a generator."""
    return tuple(map(as_tuples, data)) if isinstance(data, list | tuple) else data


def train_by_keras(model, train, valid, *, epochs=EPOCHS, callbacks=(), order=order):
    """Trains a compiled model with Keras' ``fit`` on batches in our order, and returns its history."""
    count = len(keras.tree.flatten(train)[0])

    def batches():
        for epoch in range(epochs):
            for rows in np.split(order(epoch, count), range(BATCH, count, BATCH)):
                yield as_tuples(take(train, rows))

    settings = {"steps_per_epoch": -(-count // BATCH), "epochs": epochs, "callbacks": list(callbacks)}
    settings |= {"validation_data": valid, "validation_batch_size": BATCH, "shuffle": False, "verbose": 0}
    return model.fit(batches(), **settings).history


def train_by_fit(model, train, valid, **settings):
    settings = {"epochs": EPOCHS, "batch_size": BATCH, "progress": False} | settings
    return fit(model, train, valid, **settings)


def differences(history, expected, tolerance):
    """Returns the columns that differ, each with the found and the expected values."""
    wrong = {}
    for name, column in expected.items():
        if name not in history:
            wrong[name] = f"is missing; the columns are {', '.join(history)}"
        elif not np.allclose(history[name], column, rtol=tolerance, atol=tolerance, equal_nan=True):
            wrong[name] = f"{np.array(history[name])}, Keras has {np.array(column)}"
    return wrong


def different_weights(model, reference, tolerance):
    """Returns the weights that differ, each with the largest difference."""
    wrong = {}
    for ours, theirs in zip(model.weights, reference.weights, strict=True):
        if ours.path.endswith(tables.WITHOUT_GRADIENT):
            continue
        values, right = (ops.convert_to_numpy(variable).astype("float64") for variable in (ours, theirs))
        if not np.allclose(values, right, rtol=tolerance, atol=tolerance, equal_nan=True):
            wrong[ours.path] = f"is off by {np.abs(values - right).max():.2g}"
    return wrong


def assert_same(wrong):
    if wrong:
        raise AssertionError("\n".join(f"{name}: {what}" for name, what in wrong.items()))


def sgd():
    return keras.optimizers.SGD(0.05)


def trained_by_keras(label):
    """Returns whether, according to the table, Keras' own trainer takes the steps of a row."""
    return keras.backend.backend() in tables.BY_KERAS.get(label, ())


def assert_way(history, labels):
    """Checks that the compiled loop trains all rows except those for which the table says otherwise."""
    expected = "keras" if any(map(trained_by_keras, labels)) else "compiled"
    assert history.way == expected, f"{labels}: trained by {history.way}, since {history.reason}"


def compare_both(
    model,
    reference,
    train,
    valid,
    *,
    labels,
    ours,
    theirs,
    weighted=None,
    optimizer=sgd,
    tolerance=SMOOTH,
    apart=False,
):
    """Trains with both trainers and compares; ``labels`` are the tested rows.

    With ``apart``, Keras validates only at the end: on PyTorch, its history of a metric that returns a variable has the
    value after the validation instead of that after the epoch.
    """
    reference.set_weights(model.get_weights())
    trained = train_by_fit(model, train, valid, optimizer=optimizer(), **ours)
    assert_way(trained, labels)
    history = dict(trained)
    compiled(reference, optimizer(), **theirs)
    # On JAX, Keras does so before the first step; elsewhere after it, when SpectralNormalization has changed the kernel
    # that ScheduleFreeAdamW copies.
    reference.optimizer.build(reference.trainable_variables)
    expected = train_by_keras(reference, weighted or train, None if apart else valid)
    if apart:
        measured = reference.evaluate(*valid, batch_size=BATCH, verbose=0, return_dict=True)
        history = history | {f"val_{name}": history[f"val_{name}"][-1] for name in measured}
        expected |= {f"val_{name}": value for name, value in measured.items()}
    assert_same(differences(history, expected, tolerance) | different_weights(model, reference, 10 * tolerance))
    return history


def check_each(check, labels):
    """Checks several rows together; if that fails, checks each of them alone and names those that fail."""
    try:
        check(labels)
        return
    except Exception as error:
        if len(labels) == 1:
            raise AssertionError(f"{labels[0]}: {error}") from error
        together = error
    failures = []
    for label in labels:
        try:
            check([label])
        except Exception as error:
            failures.append(f"{label}: {type(error).__name__}: {error}")
    raise AssertionError("\n".join(failures) or "only all of them together fail") from together


# --- The tables have every class of Keras ----------------------------------------------------------------------


def classes_of(module):
    """Returns the set of names of each class of a module."""
    named = {}
    for name, value in vars(module).items():
        if inspect.isclass(value):
            named.setdefault(value, set()).add(name)
    return list(named.values())


@pytest.mark.parametrize(
    ("module", "table", "others"),
    [
        (keras.layers, [*LAYERS.values(), *DRAWN.values()], tables.NOT_LAYERS),
        (keras.losses, [LOSSES], ()),
        (keras.metrics, METRICS.values(), tables.NOT_METRICS),
        (keras.optimizers, [OPTIMIZERS], tables.NOT_OPTIMIZERS),
        (keras.optimizers.schedules, [SCHEDULES], ()),
        (keras.callbacks, [CALLBACKS], tables.NOT_CALLBACKS),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_each_class_is_in_a_table(module, table, others):
    known = {label.split()[0] for rows in table for label in rows} | set(others)
    missing = [sorted(names) for names in classes_of(module) if not names & known]
    assert not missing, f"not in the table: {missing}; give each a row in tables.py"
    gone = known - {name for names in classes_of(module) for name in names}
    assert not gone, f"{module.__name__} has no {sorted(gone)} any more"


# --- Distribution over backends --------------------------------------------------------------------------------


def distribute(labels, always=()):
    """Selects all rows on PyTorch, which compiles fastest, and half of them elsewhere; the others are marked slow."""
    place = {"torch": slice(None), "tensorflow": slice(0, None, 2), "jax": slice(1, None, 2)}
    labels = list(labels)
    mine = [*labels[place[keras.backend.backend()]], *always]
    return [pytest.param(label, marks=() if label in mine else pytest.mark.slow) for label in labels]


# --- Layers ----------------------------------------------------------------------------------------------------


def make_of(row):
    return row.make if isinstance(row, Row) else row


def runs(row):
    return not isinstance(row, Row) or row.runs()


def net(kind, rows, **settings):
    """Returns a model with one branch and one output for each row.

    Each branch has a dense layer before and after the tested one; the first one shows if the gradient is right.
    """
    inputs = keras.Input(tables.SHAPES[kind], dtype="int32" if kind == "tokens" else "float32")
    outputs = {}
    for label, make in rows.items():
        name, x = label.replace(" ", "_"), inputs
        if kind in tables.WITH_GRADIENT:
            has_bias = not label.startswith("BatchNormalization")  # which cancels a bias
            x = layers.Dense(tables.SHAPES[kind][-1], use_bias=has_bias, name=f"{name}_stem")(x)
        flat = layers.Flatten()(make(x, **settings))
        # for any number of features, a step changes the output by about the learning rate
        outputs[name] = layers.Dense(1, name=name)(layers.Rescaling((flat.shape[-1] or 1) ** -0.5)(flat))
    return start(keras.Model(inputs, one_or_all(outputs)))


def one_or_all(values):
    """Returns a dictionary, or its only value."""
    return values if len(values) > 1 else next(iter(values.values()))


def data_for(kind, outputs, count):
    draw = np.random.default_rng(2)
    return tables.samples(kind, count, seed=count), one_or_all(
        {name: draw.normal(size=(count, 1)).astype("float32") for name in outputs}
    )


def slow_sgd():
    return keras.optimizers.SGD(0.005)


def check_layers(
    kind,
    rows,
    labels,
    optimizer=slow_sgd,
    loss=keras.losses.MeanSquaredError,
    tolerance=SMOOTH,
    also=(),
    validates=True,
    **settings,
):
    chosen = {label: make_of(rows[label]) for label in labels}
    model, reference = (net(kind, chosen, **settings) for _ in range(2))
    train, valid = (data_for(kind, model.output_names, count) for count in (SAMPLES, VALID))
    # the losses and weights of each output name its row
    ours, theirs = ({"loss": one_or_all({name: loss() for name in model.output_names})} for _ in "ab")
    return compare_both(
        model,
        reference,
        train,
        valid if validates else None,
        labels=[*labels, *also],
        ours=ours | {"metrics": {}},
        theirs=theirs,
        optimizer=optimizer,
        tolerance=tolerance,
    )


def groups(table, size=20, without=()):
    """Returns test parameters: a kind, and those of its rows that share a model, compiled or trained by Keras.

    Each backend tests a third of the rows, and those that only it has; the others are marked slow.
    """
    backend = keras.backend.backend()
    place = ("torch", "tensorflow", "jax").index(backend)
    found = []
    for kind, rows in table.items():
        chosen = {False: {}, True: {}}  # by whether they are slow, and by whether Keras trains them
        for number, (label, row) in enumerate(rows.items()):
            if runs(row) and label not in without:
                is_slow = number % 3 != place and getattr(row, "only", "") != backend
                chosen[is_slow].setdefault(trained_by_keras(label), []).append(label)
        for is_slow, by_way in chosen.items():
            for by_keras, labels in by_way.items():
                for first in range(0, len(labels), size):
                    name = f"{kind}{', by Keras' * by_keras}{', slow' * is_slow} {first // size + 1}"
                    marks = pytest.mark.slow if is_slow else ()
                    found.append(pytest.param(kind, labels[first : first + size], id=name, marks=marks))
    return found


@pytest.mark.parametrize(("kind", "labels"), groups(LAYERS, size=10))
def test_layers(kind, labels):
    check_each(partial(check_layers, kind, LAYERS[kind]), labels)


@pytest.mark.filterwarnings("ignore:(?s).*Tensor.T is deprecated:UserWarning")  # in Keras' RandAugment
@pytest.mark.parametrize(("kind", "labels"), groups(DRAWN, size=10, without=tables.DRAWS_REGARDLESS))
def test_random_layers_without_their_random_numbers(kind, labels):
    check_each(partial(check_layers, kind, DRAWN[kind], on=0), labels)


@pytest.mark.parametrize("label", tables.REFUSED)
def test_unsupported_models_are_refused_before_any_computation(label):
    build, message, _ = tables.REFUSED[label]
    model = build()
    before = model.get_weights()
    with pytest.raises(CourseError, match=f"^{re.escape(message)}"):
        train_by_fit(model, data_for("sequence", ["out"], SAMPLES), None, loss="mse", metrics={})
    for weight, expected in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, expected)


# --- Losses ----------------------------------------------------------------------------------------------------


def output_layer(x, target, name):
    """Returns the output of a dense layer with the ending of a target."""
    ending = target.ending
    x = layers.Dense(target.units, ending if ending not in ("unit", "frames") else None, name=name)(x)
    if ending == "unit":
        x = layers.UnitNormalization(name=f"{name}_unit")(x)
    if ending == "frames":
        x = layers.Reshape((4, 3), name=f"{name}_frames")(x)
    return x


def small_net(targets):
    """Returns a model with one hidden layer, and an output for each name in a dictionary of kinds of labels."""
    inputs = keras.Input(tables.SHAPES["vector"], name="x")
    # orthogonal weights are column-major on PyTorch
    x = layers.Dense(5, "tanh", kernel_initializer="orthogonal", name="hidden")(inputs)
    outputs = {name: output_layer(x, TARGETS[target], name) for name, target in targets.items()}
    return start(keras.Model(inputs, one_or_all(outputs)))


def labeled(targets, count):
    draw = np.random.default_rng(count)
    labels = {name: TARGETS[target].draw(draw, count) for name, target in targets.items()}
    return tables.samples("vector", count), one_or_all(labels)


def check_losses(labels, also=(), weight=1.0, **settings):
    names = {label: label.replace(" ", "_") for label in labels}
    targets = {names[label]: LOSSES[label][0] for label in labels}
    made = [{names[label]: LOSSES[label][1]() for label in labels} for _ in range(2)]
    if len(labels) == 1:
        made = [next(iter(losses.values())) for losses in made]
    data = labeled(targets, SAMPLES), labeled(targets, VALID)
    weights = {"loss_weights": dict.fromkeys(targets, weight)} if len(labels) > 1 else {}
    compare_both(
        small_net(targets),
        small_net(targets),
        *data,
        labels=[*labels, *also],
        ours={"loss": made[0], "metrics": {}, **weights},
        theirs={"loss": made[1], **weights},
        **settings,
    )


COMPILED_LOSSES = [label for label in LOSSES if not trained_by_keras(label)]
OTHER_LOSSES = [label for label in LOSSES if trained_by_keras(label)]


@pytest.mark.parametrize("half", distribute([0, 1]))
def test_losses(half):
    check_each(check_losses, COMPILED_LOSSES[half::2])


@pytest.mark.parametrize("label", OTHER_LOSSES)
def test_loss_alone(label):
    check_losses([label])


# --- Metrics ---------------------------------------------------------------------------------------------------

LOSS_OF = {
    "probability": keras.losses.BinaryCrossentropy,
    "one hot, softmax": keras.losses.CategoricalCrossentropy,
    "classes, softmax": keras.losses.SparseCategoricalCrossentropy,
}


def check_metrics(target, labels):
    made = [[METRICS[target][label](name=label) for label in labels] for _ in range(2)]
    loss = LOSS_OF.get(target, keras.losses.MeanSquaredError)
    targets = {"out": target}
    data = labeled(targets, SAMPLES), labeled(targets, VALID)
    ours, theirs = ({"loss": loss(), "metrics": metrics} for metrics in made)
    compare_both(small_net(targets), small_net(targets), *data, labels=labels, ours=ours, theirs=theirs, apart=True)


@pytest.mark.parametrize(("target", "labels"), groups(METRICS))
def test_metrics(target, labels):
    check_each(partial(check_metrics, target), labels)


# --- Optimizers ------------------------------------------------------------------------------------------------


def check_optimizer(label, make):
    targets = {"out": "real"}
    loss = {"loss": keras.losses.MeanSquaredError()}
    data = labeled(targets, SAMPLES), labeled(targets, VALID)
    compare_both(
        *(small_net(targets) for _ in range(2)),
        *data,
        labels=[label],
        ours=loss | {"metrics": {}},
        theirs=loss,
        optimizer=make,
        tolerance=ROUGH,
    )


@pytest.mark.parametrize("label", distribute(OPTIMIZERS))
def test_optimizer(label):
    check_optimizer(label, make_of(OPTIMIZERS[label]))


@pytest.mark.parametrize("label", distribute(SCHEDULES))
def test_schedule(label):
    optimizer, schedule = SCHEDULES[label]
    check_optimizer(label, lambda: getattr(keras.optimizers, optimizer)(schedule()))


# --- Callbacks -------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:Could not reach RemoteMonitor:UserWarning")
@pytest.mark.parametrize(
    "label", distribute((label for label, row in CALLBACKS.items() if row.runs()), always=["TensorBoard"])
)
def test_callback(label, tmp_path):
    row = CALLBACKS[label]
    targets = {"out": "real"}
    data = labeled(targets, SAMPLES), labeled(targets, VALID)
    loss = keras.losses.MeanSquaredError()
    folders = [tmp_path / "ours", tmp_path / "keras"]
    made = []
    for folder in folders:
        folder.mkdir()
        made.append(row.make(folder))
    model, reference = small_net(targets), small_net(targets)
    make = make_of(OPTIMIZERS[row.optimizer])
    history = train_by_fit(model, *data, optimizer=make(), loss=loss, metrics={}, callbacks=made[:1], epochs=row.epochs)
    expected = train_by_keras(compiled(reference, make(), loss), *data, epochs=row.epochs, callbacks=made[1:])
    assert_way(history, [label])
    assert history["epoch"] == list(range(1, len(expected["loss"]) + 1))
    assert_same(differences(history, expected, ROUGH) | different_weights(model, reference, ROUGH))
    np.testing.assert_allclose(*(row.leaves(made[i], folders[i]) for i in range(2)), rtol=ROUGH, atol=ROUGH)


# --- Whole models ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("label", distribute(tables.CASES))
def test_case(label):
    case = tables.CASES[label]
    model, reference = start(case.build()), start(case.build())
    train, valid = ((case.x(count), case.y(count)) for count in (SAMPLES, VALID))
    ours, theirs = (
        {"loss": case.loss(), "metrics": case.metrics(), **(case.settings() if case.settings else {})} for _ in range(2)
    )
    weights = None
    if case.class_weight:
        ours["class_weight"] = case.class_weight
        weights = np.array([case.class_weight[label] for label in train[1]], "float32")
    if case.weights:
        ours["sample_weight"] = weights = case.weights(SAMPLES)
    compare_both(
        model,
        reference,
        train,
        valid,
        labels=[label],
        ours=ours,
        theirs=theirs,
        weighted=weights is not None and (*train, weights),
    )


# --- Random layers ---------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:(?s).*Tensor.T is deprecated:UserWarning")  # in Keras' RandAugment
@pytest.mark.parametrize(("kind", "labels"), groups(DRAWN, size=10, without=tables.DRAWS_FROM_ELSEWHERE))
def test_random_layers(kind, labels, tmp_path):
    """A resumed run has the random numbers of an uninterrupted one, and each epoch has other ones."""
    chosen = {label: make_of(DRAWN[kind][label]) for label in labels}
    models = [net(kind, chosen, on=1) for _ in range(2)]
    train = data_for(kind, models[0].output_names, BATCH)  # one step in each epoch, with the same samples

    def run(model, epochs, **settings):
        loss = one_or_all({name: keras.losses.MeanSquaredError() for name in model.output_names})
        settings |= {"optimizer": keras.optimizers.SGD(0.0), "metrics": {}, "epochs": epochs}
        return train_by_fit(model, train, None, loss=loss, **settings)

    uninterrupted = run(models[0], 3)
    with RunDirectory(tmp_path) as directory:
        run(models[1], 1, run=directory)
    with RunDirectory(tmp_path, resume=True) as directory:
        resumed = run(net(kind, chosen, on=1), 3, run=directory)
    assert_same(
        differences(resumed, {name: uninterrupted[name] for name in uninterrupted if name != "seconds"}, SMOOTH)
    )
    columns = {name: uninterrupted[f"{name}_loss" if len(labels) > 1 else "loss"] for name in models[0].output_names}
    assert_same(
        {
            name: f"has the same random numbers in each epoch: {column}"
            for name, column in columns.items()
            if len(set(column)) == 1
        }
    )


# except on JAX, a compiled program draws other numbers than the eager reference
DRAWN_AS_BY_KERAS = {
    kind: {label: row for label, row in rows.items() if keras.backend.backend() == "jax" or trained_by_keras(label)}
    for kind, rows in DRAWN.items()
}


@pytest.mark.filterwarnings("ignore:(?s).*Tensor.T is deprecated:UserWarning")  # in Keras' RandAugment
@pytest.mark.parametrize(("kind", "labels"), groups(DRAWN_AS_BY_KERAS, size=10, without=tables.DRAWS_FROM_ELSEWHERE))
def test_random_layers_equal_keras(kind, labels):
    # without validation, in which some layers draw numbers and do not use them
    check_each(partial(check_layers, kind, DRAWN[kind], on=1, validates=False), labels)


# --- Combinations ----------------------------------------------------------------------------------------------

FLOATS = [(kind, label) for kind in tables.WITH_GRADIENT for label, row in LAYERS[kind].items() if runs(row)]
QUIET = ["Callback", "History", "LearningRateScheduler", "ProgbarLogger", "ReduceLROnPlateau", "TerminateOnNaN"]
"""Callbacks that write no files."""


def as_sequence(x, y):
    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return len(x) // BATCH

        def __getitem__(self, index):
            rows = np.arange(index * BATCH, (index + 1) * BATCH)
            return take((x, y), rows)

    return Batches()


DATA = {
    "arrays": (lambda x, y: (x, y), order),
    "arrays of float64": (lambda x, y: (x.astype("float64"), y), order),
    "arrays of big-endian numbers": (lambda x, y: (x.astype(">f4"), y), order),
    "PyDataset": (as_sequence, lambda epoch, count: np.arange(count)),
}
"""Kinds of training data, and the order of samples in an epoch."""


@settings(derandomize=True, deadline=None, max_examples=5, database=None, suppress_health_check=list(HealthCheck))
@given(
    layer=st.sampled_from(FLOATS),
    loss=st.sampled_from(list(LOSSES)),
    optimizer=st.sampled_from([label for label in OPTIMIZERS if label != "MultiOptimizer"]),
    callback=st.sampled_from(QUIET),
    data=st.sampled_from(list(DATA)),
    metric=st.randoms(use_true_random=False),
)
def test_combination(layer, loss, optimizer, callback, data, metric):
    kind, label = layer
    target, make_loss = LOSSES[loss]
    # metrics that return a variable are compared in test_metrics; see ``compare_both``
    fitting = sorted(name for name in METRICS.get(target, {}) if not name.endswith(("Negatives", "Positives")))
    measured = metric.sample(fitting, min(2, len(fitting)))

    def build():
        x = keras.Input(tables.SHAPES[kind])
        hidden = layers.Dense(3, "tanh")(layers.Flatten()(make_of(LAYERS[kind][label])(x)))
        return start(keras.Model(x, output_layer(hidden, TARGETS[target], "out")))

    model, reference = build(), build()
    reference.set_weights(model.get_weights())
    (x, y), valid = (
        (tables.samples(kind, count), TARGETS[target].draw(np.random.default_rng(count), count))
        for count in (SAMPLES, VALID)
    )
    metrics = [[METRICS[target][name](name=name) for name in measured] for _ in range(2)]
    callbacks = [CALLBACKS[callback].make(None) for _ in range(2)]
    give, rows = DATA[data]
    make = make_of(OPTIMIZERS[optimizer])
    compiled(reference, make(), make_loss(), metrics=metrics[1])
    expected = train_by_keras(reference, (x, y), valid, callbacks=callbacks[1:], order=rows)
    settings = {"optimizer": make(), "loss": make_loss(), "metrics": metrics[0], "callbacks": callbacks[:1]}
    if not np.isfinite(expected["loss"]).all():  # Keras continues without an error
        with pytest.raises(DivergenceError):
            train_by_fit(model, give(x, y), valid, **settings)
        return
    history = train_by_fit(model, give(x, y), valid, **settings)
    assert_same(differences(history, expected, ROUGH))


EXCLUDED = tables.TOKENS_THAT_REPEAT if keras.backend.backend() == "tensorflow" else ()


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize(("kind", "labels"), groups(LAYERS, without=EXCLUDED))
def test_all_layers_with_all_optimizers(kind, labels, optimizer):
    settings = {"optimizer": make_of(OPTIMIZERS[optimizer]), "tolerance": ROUGH, "also": [optimizer]}
    # under a loss with small gradients, no optimizer diverges
    check_each(partial(check_layers, kind, LAYERS[kind], loss=keras.losses.Huber, **settings), labels)


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("labels", [COMPILED_LOSSES, *[[label] for label in OTHER_LOSSES]])
def test_all_losses_with_all_optimizers(labels, optimizer):
    settings = {"optimizer": make_of(OPTIMIZERS[optimizer]), "tolerance": ROUGH, "also": [optimizer]}
    # they share a layer, which should be updated by their mean and not their sum
    check_each(partial(check_losses, weight=1 / len(labels), **settings), labels)
