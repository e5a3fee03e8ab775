"""Lesson 10 as a plain Keras script: python transfer_learning.py PHOTOS EPOCHS MODEL.keras BACKBONE.keras."""

import sys
from pathlib import Path

import keras
import numpy as np
from PIL import Image

folder, epochs = Path(sys.argv[1]), int(sys.argv[2])
backbone = keras.saving.load_model(sys.argv[4], compile=False)
size = backbone.input_shape[1:3]


def load(part):
    """Returns photos of the backbone's size, and the numbers of their classes."""
    photos, labels = [], []
    for number, name in enumerate(sorted(path.name for path in (folder / part).iterdir())):
        for path in sorted((folder / part / name).glob("*.jpg")):
            photos.append(np.asarray(Image.open(path).convert("RGB").resize(size), "float32"))
            labels.append(number)
    return np.stack(photos), np.array(labels)


def compile_and_fit(model, x, y, rate, epochs):
    """Trains with class weights, and prints the accuracy on the held-out photos."""
    counts = np.bincount(y_train)
    model.compile(
        optimizer=keras.optimizers.Adam(rate),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    weights = {number: len(y_train) / len(counts) / count for number, count in enumerate(counts)}
    model.fit(x, y, batch_size=16, epochs=epochs, class_weight=weights, verbose=2)


keras.utils.set_random_seed(0)
(x_train, y_train), (x_valid, y_valid) = load("train"), load("valid")
classes = int(y_train.max()) + 1
augment = keras.Sequential(
    [keras.layers.RandomFlip("horizontal"), keras.layers.RandomRotation(0.05), keras.layers.RandomZoom(0.2)]
)


def features(photos):
    """Returns the mean of each feature map of the frozen backbone."""
    return backbone.predict(photos, verbose=0).mean(axis=(1, 2))


# the heads, on features that are computed once
trained = features(x_train)
head = keras.Sequential([keras.Input(trained.shape[1:]), keras.layers.Dense(classes)])
compile_and_fit(head, trained, y_train, 0.001, 12 * epochs)
views = np.concatenate([features(keras.ops.convert_to_numpy(augment(x_train, training=True))) for _ in range(3)])
deeper = keras.Sequential(
    [
        keras.Input(trained.shape[1:]),
        keras.layers.Dense(128, activation="relu"),
        keras.layers.Dropout(0.5),
        keras.layers.Dense(classes),
    ]
)
compile_and_fit(deeper, views, np.tile(y_train, 3), 0.001, 12 * epochs)

# fine-tuning of the last layers, then of all
inputs = keras.Input(backbone.input_shape[1:])
maps = backbone(augment(inputs), training=False)
model = keras.Model(inputs, head(keras.layers.GlobalAveragePooling2D()(maps)))
for layer in backbone.layers[:-20]:
    layer.trainable = False
compile_and_fit(model, x_train, y_train, 0.0003, epochs)
for layer in backbone.layers:  # TensorFlow would ignore True for the backbone, which is True already
    layer.trainable = True
compile_and_fit(model, x_train, y_train, 0.0003, epochs)
print("accuracy", np.mean(model.predict(x_valid, verbose=0).argmax(axis=-1) == y_valid))
model.save(sys.argv[3])
