"""Times the training of a head on stored features of a frozen backbone beside Keras' `fit` through the backbone.

    KERAS_BACKEND=torch python benchmarks/transfer.py [FOLDER] [--epochs 20] [--fine-tuning]

FOLDER has a folder of photos for each class; the default is the fruit of the course's data, or the sample. Both ways
use the same decoded photos, backbone, initial head and optimizer. It prints the seconds from decoded photos to a
trained head, with an empty and with a filled cache, the accuracy on the validation photos, and the ratios. If Keras'
`fit` takes hours, `--measured 2` trains for two epochs only and extrapolates; then there is no accuracy.
`--fine-tuning` adds one epoch of training all layers, in photos per second.
"""

import argparse
import tempfile
import time

import keras_course  # noqa: F401 - chooses the backend, before Keras is imported

# isort: split

import keras
import numpy as np

from keras_course import evaluation
from keras_course.datasets import doggy_door, photo_folder
from keras_course.pretrained import load_backbone, record_of, transfer_classifier, unfreeze
from keras_course.training import fine_tune, predict_logits, train_head

BATCH_SIZE = 64


def optimizer(steps):
    """Returns the optimizer of ``train_head``."""
    adam = keras.optimizers.AdamW(keras.optimizers.schedules.CosineDecay(0.003, decay_steps=steps), weight_decay=0.01)
    adam.exclude_from_weight_decay(var_names=["bias"])
    return adam


def usual_classifier(name, num_classes):
    """Returns a classifier as in Keras' guides: frozen backbone, pooling, and a dense layer."""
    backbone = load_backbone(name)
    backbone.trainable = False
    inputs = keras.Input(backbone.input_shape[1:])
    x = keras.layers.GlobalAveragePooling2D()(backbone(inputs, training=False))
    outputs = keras.layers.Dense(num_classes, name="logits")(keras.layers.Dropout(0.2)(x))
    return keras.Model(inputs, outputs)


def accuracy(model, valid):
    """Returns the accuracy, in the same way for both."""
    return evaluation.accuracy(predict_logits(model, valid[0]), valid[1])


def through_the_backbone(name, train, valid, classes, epochs, measured):
    """Returns seconds and accuracy of Keras' `fit`, after one epoch that compiles."""
    model = usual_classifier(name, classes)
    ours = transfer_classifier(backbone=name, num_classes=classes)
    steps = -(-len(train[0]) // BATCH_SIZE)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer(epochs * steps), loss, metrics=["accuracy"])
    settings = {"batch_size": BATCH_SIZE, "validation_data": valid, "verbose": 0}
    model.fit(*train, epochs=1, **settings)
    model.get_layer("logits").set_weights(ours.get_layer("logits").get_weights())
    model.compile(optimizer(epochs * steps), loss, metrics=["accuracy"])
    started = time.perf_counter()
    model.fit(*train, epochs=measured, **settings)
    seconds = (time.perf_counter() - started) * epochs / measured
    return seconds, accuracy(model, valid) if measured == epochs else float("nan")


def on_features(name, train, valid, classes, epochs, cache):
    """Returns seconds and accuracy of ``train_head``, with compilation."""
    model = transfer_classifier(backbone=name, num_classes=classes)
    started = time.perf_counter()
    train_head(model, train, valid, epochs=epochs, batch_size=BATCH_SIZE, cache=cache, progress=False)
    return time.perf_counter() - started, accuracy(model, valid)


def fine_tuning(name, train, classes):
    """Returns photos per second while all layers are trained, by Keras' `fit` and by ours, each in its second epoch."""
    model = usual_classifier(name, classes)
    model.trainable = True
    model.compile(keras.optimizers.AdamW(1e-4), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(*train, batch_size=16, epochs=1, verbose=0)
    started = time.perf_counter()
    model.fit(*train, batch_size=16, epochs=1, verbose=0)
    usual = time.perf_counter() - started
    ours = transfer_classifier(backbone=name, num_classes=classes)
    unfreeze(ours)
    seconds = fine_tune(ours, train, epochs=2, batch_size=16, progress=False)["seconds"][-1]
    return len(train[0]) / usual, len(train[0]) / seconds


def main():
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", nargs="?", default="auto")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--measured", type=int, help="how many of them Keras' fit really does")
    parser.add_argument("--model", default="efficientnet_lite0")
    parser.add_argument("--photos", type=int, help="take no more than so many to train on")
    parser.add_argument("--fine-tuning", action="store_true")
    options = parser.parse_args()
    pictures = record_of(options.model).picture_format
    photos = photo_folder.load_data(doggy_door.locate(options.folder), picture_format=pictures, valid_parts=None)
    train, valid = photos.parts
    classes = len(photos.class_names)
    if options.photos:
        some = np.linspace(0, len(train[0]) - 1, options.photos).astype(int)
        train = train[0][some], train[1][some]
    print(f"{keras.backend.backend()}, {options.model}: {len(train[0])} + {len(valid[0])} photos, {classes} classes")
    print(f"{'':28}{'seconds':>10}{'accuracy':>10}{'times as fast':>15}", flush=True)
    measured = options.measured or options.epochs
    usual = through_the_backbone(options.model, train, valid, classes, options.epochs, measured)
    ways = {"Keras' fit": usual}
    with tempfile.TemporaryDirectory() as cache:
        for name in ("ours, nothing kept yet", "ours, photos seen before"):
            ways[name] = on_features(options.model, train, valid, classes, options.epochs, cache)
    for name, (seconds, right) in ways.items():
        print(f"{name:28}{seconds:>10.1f}{right:>10.2%}{usual[0] / seconds:>15.1f}")
    if options.fine_tuning:
        theirs, ours = fine_tuning(options.model, train, classes)
        print(
            f"fine-tuning everything, photos a second: Keras' fit {theirs:.1f}, ours {ours:.1f} ({ours / theirs:.2f})"
        )


if __name__ == "__main__":
    main()
