"""Uses the public API as a user would; mypy checks it, and nothing runs it.

Where a call is wrong on purpose, mypy must complain: without ``py.typed`` it would not, and then reports the ``ignore``
as unused.
"""

from pathlib import Path
from typing import assert_type

import numpy as np

from keras_course.augmentation import Augmentation, Flip, Rotation, Zoom
from keras_course.cards import ModelCard, read_card
from keras_course.datasets import mnist, photo_folder
from keras_course.deployment.export import export_model
from keras_course.deployment.predict import Answer, predict
from keras_course.deployment.runtimes import open_model
from keras_course.errors import CourseError
from keras_course.evaluation import accuracy, confusion_matrix
from keras_course.models import cnn_classifier, dense_classifier, line_loss
from keras_course.plots import save, training_curves
from keras_course.preprocessing import PictureFormat, prepare, read_picture
from keras_course.pretrained import load_pretrained, transfer_classifier
from keras_course.randomness import initialize, stream_key, uniform
from keras_course.training import (
    RunDirectory,
    compare,
    evaluate,
    fine_tune,
    fit,
    gradient_descent,
    predict_logits,
    solve_head,
    train_head,
)


def train(folder: Path) -> float:
    """Trains a network on digits, and saves it with its card."""
    (x_train, y_train), valid = mnist.load_data("sample")
    model = initialize(dense_classifier(hidden=(64,), num_classes=10, seed=0), seed=1)
    augment = Augmentation([Flip(horizontal=True), Rotation(15), Zoom(0.8, 1.2)], fill="nearest", seed=0)
    with RunDirectory(folder) as run:
        history = fit(model, (x_train, y_train), valid, epochs=2, augmentation=augment, run=run, progress=False)
        run.save_model(model, mnist.card("Digits", "sample"))
    save(training_curves(history), folder / "curves.png")
    assert_type(history.way, str)
    measured = evaluate(model, valid)
    assert_type(measured, dict[str, float])
    logits = predict_logits(model, valid[0], augmentation=augment, variants=4)
    print(confusion_matrix(logits, valid[1], 10), accuracy(logits, valid[1]))
    return measured["accuracy"]


def use(folder: Path) -> list[Answer]:
    """Opens a saved model, and answers pictures."""
    try:
        runtime = open_model(folder, trust=False)
    except CourseError as error:
        print(error)
        return []
    card: ModelCard = runtime.card
    assert_type(card.picture_format, PictureFormat | None)
    assert_type(card.required_picture_format(), PictureFormat)
    assert_type(read_card(folder / "model.keras"), ModelCard | None)
    pixels = prepare(read_picture(folder / "digit.png"), card.required_picture_format())
    exported = export_model(folder, format="onnx")
    print(pixels.shape, exported.size, exported.difference)
    return [prediction.answers[0] for prediction in predict(runtime, [folder / "digit.png"], top=1)]


def transfer(folder: Path) -> None:
    """Learns classes from a folder of photos."""
    network, card = load_pretrained("efficientnet_lite0")
    print(network, card.class_names)
    photos = photo_folder.load_data(folder, picture_format=card.required_picture_format())
    model = transfer_classifier(backbone="efficientnet_lite0", num_classes=len(photos.class_names))
    solve_head(model, *photos.parts)
    train_head(model, *photos.parts, epochs=20, seed=0)
    fine_tune(model, *photos.parts, epochs=3, learning_rate=0.0003)


def descend() -> None:
    """Compares optimizers on a function of two parameters."""

    def loss(m: float, b: float) -> float:
        return float(line_loss(m, b, x=[1, 2], y=[3, 5]))

    print(gradient_descent(loss, (-1, 5), learning_rate=0.1, steps=1).path)
    family = compare(loss, start=(-1, 5), optimizer=["sgd", "adam"], learning_rate=[0.1, 2.0], epochs=100)
    print([name for name, run in family.items() if run.diverged])
    print(uniform(stream_key(0, "example"), (3,), xp=np))


def make_mistakes() -> None:
    """Does what mypy must report."""
    PictureFormat(height="28", width=28, channels=1)  # type: ignore[arg-type]
    Rotation("15 degrees")  # type: ignore[arg-type]
    dense_classifier(hidden=64)  # type: ignore[arg-type]
    cnn_classifier(classes=10)  # type: ignore[call-arg]
    mnist.load_data(picture_format=28)  # type: ignore[call-arg]
    fit(dense_classifier(), (np.zeros(1), np.zeros(1)), epochs="5")  # type: ignore[arg-type]
