"""Training on augmented pictures: errors before compiling, and all forms of labels."""

import sys

import keras
import numpy as np
import pytest

from keras_course import augmentation, randomness
from keras_course.errors import CourseError
from keras_course.training import extract_features, fit, predict_logits

fit_module = sys.modules[fit.__module__]  # the module; keras_course.training.fit is the function

PICTURES = np.random.default_rng(3).integers(0, 256, (6, 4, 4, 1)).astype("float32")
CLASSES = np.arange(6) % 3
MIXED = augmentation.Augmentation([augmentation.MixUp(0.5)], num_classes=3)
UNKNOWN = augmentation.Augmentation([augmentation.CutMix(0.5)])


def picture_model(outputs=3, kind=keras.Model):
    inputs = keras.Input((4, 4, 1))
    return kind(inputs, keras.layers.Dense(outputs)(keras.layers.Flatten()(inputs)))


class Subclassed(keras.Model):
    def __init__(self, outputs=3):
        super().__init__()
        self.flat, self.dense = keras.layers.Flatten(), keras.layers.Dense(outputs)

    def call(self, x):
        return self.dense(self.flat(x))


def squared(labels, outputs):
    """A user-defined loss that accepts any labels of the shape of the outputs."""
    return keras.ops.mean(keras.ops.square(labels - outputs), axis=-1)


class SparseSubclass(keras.losses.SparseCategoricalCrossentropy):
    pass


def mixing(classes):
    return augmentation.Augmentation([augmentation.MixUp(0.5)], num_classes=classes)


REFUSED = {
    "more classes": ({"augmentation": mixing(4)}, "num_classes is 4 and the model gives 3 outputs; give num_classes=3"),
    "fewer classes": (
        {"augmentation": mixing(2)},
        "num_classes is 2 and the model gives 3 outputs; give num_classes=3",
    ),
    "fewer classes than outputs": (
        {"augmentation": mixing(2), "labels": CLASSES % 2},
        "num_classes is 2 and the model gives 3 outputs; give num_classes=3",
    ),
    "no number of classes": (
        {"augmentation": UNKNOWN},
        "num_classes is missing; give num_classes=3 where class numbers are mixed",
    ),
    "columns of class numbers": (
        {"augmentation": mixing(4), "labels": CLASSES[:, None]},
        "num_classes is 4 and the model gives 3 outputs",
    ),
    "a column without a number of classes": (
        {"augmentation": UNKNOWN, "labels": CLASSES[:, None]},
        "num_classes is missing; give num_classes=3 where class numbers are mixed",
    ),
    "a column of a subclassed model": (
        {"augmentation": UNKNOWN, "labels": CLASSES[:, None], "model": Subclassed()},
        "num_classes is missing; give it",
    ),
    "a later label": (
        {"labels": np.array([0, 1, 2, 0, 1, 3]), "batch_size": 2, "loss": squared, "metrics": []},
        "train has labels from 0 to 3 .* num_classes is 3; give whole numbers from 0 to 2",
    ),
    "half a class": ({"labels": CLASSES + 0.5, "loss": squared}, r"labels from 0.5 to 2.5 \(float64|32\)"),
    "other probabilities": (
        {"augmentation": mixing(4), "labels": np.eye(3, dtype="float32")[CLASSES], "loss": "categorical_crossentropy"},
        r"labels have the shape \(6, 3\); MixUp and CutMix change class numbers \(n,\), or probabilities \(n, 4\)",
    ),
    "labels of pixels": ({"labels": np.zeros((6, 4, 4), int), "loss": squared}, r"labels have the shape \(6, 4, 4\)"),
    "one output": (
        {"model": picture_model(1), "labels": CLASSES % 2, "augmentation": mixing(2), "loss": "binary_crossentropy"},
        r"num_classes is 2 and the model gives one output; leave num_classes out and give labels of shape \(6, 1\)",
    ),
    "no labels": (
        {"labels": None},
        "train has no labels; MixUp and CutMix change them: give labels, or leave them out",
    ),
    "two outputs": ({"labels": [CLASSES, CLASSES]}, "train has labels of several outputs; MixUp and CutMix change one"),
    "a subclassed model": (
        {"model": Subclassed(5)},
        "model, data, loss and metrics do not fit together",
    ),
    "a metric of class numbers": (
        {"metrics": ["sparse_categorical_accuracy"]},
        "metrics has sparse_categorical_accuracy, which takes class numbers, and MixUp .*; give 'accuracy'",
    ),
    "a function of class numbers": (
        {"loss": keras.losses.sparse_categorical_crossentropy},
        "loss has sparse_categorical_crossentropy, which takes class numbers",
    ),
    "a loss of class numbers": (
        {"loss": SparseSubclass(from_logits=True)},
        "loss has sparse_categorical_crossentropy",
    ),
    "a layer": (
        {"augmentation": keras.layers.RandomFlip()},
        r"augmentation is a RandomFlip; give Augmentation\(\[...\]\)",
    ),
    "a list": ({"augmentation": [augmentation.MixUp()]}, "augmentation is a list"),
    "a range that bytes do not have": (
        {"x": PICTURES.astype("uint8"), "augmentation": augmentation.Augmentation([], value_range=(-1, 1))},
        r"value_range is \(-1.0, 1.0\) and images are uint8; give a range from 0 to 255",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_an_unsuitable_augmentation_is_refused_before_compiling(monkeypatch, name):
    def fail(*_arguments):
        raise AssertionError("the step is compiled")

    monkeypatch.setattr(fit_module, "choose_steps", fail)
    settings, message = REFUSED[name]
    settings = {"model": None, "x": PICTURES, "labels": CLASSES, "augmentation": MIXED, **settings}
    model, x, labels = (settings.pop(one) for one in ("model", "x", "labels"))
    with pytest.raises(CourseError, match=message) as caught:
        fit(model or picture_model(), (x, labels), progress=False, **settings)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("labels", ["numbers", "column", "probabilities"])
def test_all_forms_of_labels_are_mixed_alike(labels):
    """A column of class numbers must not be used as probabilities."""
    y = {"numbers": CLASSES, "column": CLASSES[:, None], "probabilities": np.eye(3, dtype="float32")[CLASSES]}
    loss = "categorical_crossentropy" if labels == "probabilities" else "sparse_categorical_crossentropy"
    model = picture_model()
    model.set_weights([np.full_like(weight, 0.001) * np.arange(weight.shape[-1]) for weight in model.get_weights()])
    settings = {"loss": loss, "epochs": 1, "optimizer": keras.optimizers.SGD(0.0), "progress": False}
    found = fit(model, (PICTURES, y[labels]), (PICTURES, y[labels]), augmentation=MIXED, **settings)
    order = randomness.permutation(randomness.stream_key(0, "shuffle"), 6, step=0)
    pictures, targets = MIXED.apply(PICTURES[order], CLASSES[order], step=0, xp=np)
    kernel, bias = model.get_weights()

    def cross_entropy(pictures, targets):
        logits = pictures.reshape(6, -1) @ kernel + bias
        return -np.mean((targets * (logits - np.log(np.exp(logits).sum(axis=1, keepdims=True)))).sum(axis=1))

    assert found.way == "compiled"
    assert found["loss"][0] == pytest.approx(cross_entropy(pictures, targets), rel=1e-4)
    assert found["val_loss"][0] == pytest.approx(cross_entropy(PICTURES, np.eye(3)[CLASSES]), rel=1e-4)


def test_a_column_of_probabilities_is_mixed_for_one_output():
    model = picture_model(1)
    labels = (CLASSES % 2).astype("float32")[:, None]
    augment = augmentation.Augmentation([augmentation.MixUp(0.5)])
    history = fit(model, (PICTURES, labels), loss="binary_crossentropy", augmentation=augment, epochs=1, progress=False)
    assert np.isfinite(history["loss"][0])


def test_an_augmentation_that_mixes_samples_is_refused_in_a_model():
    with pytest.raises(CourseError, match="labels are missing; MixUp and CutMix change them, so they cannot be part"):
        augmentation.Augmentation([augmentation.MixUp()], num_classes=3)(keras.Input((4, 4, 1)))


@pytest.mark.parametrize("what", ["predict_logits", "extract_features"])
def test_unsuitable_pictures_are_refused_before_a_model_runs(monkeypatch, tmp_path, what):
    monkeypatch.setattr(fit_module._backend, "forward", None, raising=False)
    pictures = PICTURES.astype("uint8")
    run = {
        "predict_logits": lambda augment: predict_logits(picture_model(), pictures, augmentation=augment),
        "extract_features": lambda augment: extract_features(
            picture_model(), pictures, augmentation=augment, cache=tmp_path
        ),
    }[what]
    for augment, message in (
        (MIXED, "leave out MixUp and CutMix"),
        (augmentation.Augmentation([], value_range=(-1, 1)), "value_range is .* and .* uint8"),
        ([augmentation.Rotation(5)], "augmentation is a list"),
    ):
        with pytest.raises(CourseError, match=message):
            run(augment)
