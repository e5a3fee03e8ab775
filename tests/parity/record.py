"""Records what must be the same on every backend: `python tests/parity/record.py FOLDER` writes FOLDER/<backend>.npz.

`test_compare.py` compares the recordings in an environment that has no backend at all.
"""

import shutil
import sys
import tempfile
from pathlib import Path

import keras
import numpy as np
from keras import layers, ops

from keras_course import randomness
from keras_course.augmentation import (
    FILLS,
    Augmentation,
    Brightness,
    Contrast,
    Crop,
    CutMix,
    Erasing,
    Flip,
    Light,
    MixUp,
    Noise,
    Rotation,
    Shear,
    Shift,
    Zoom,
)
from keras_course.datasets import doggy_door, lines, mnist, noisy_line, noisy_points, photo_folder
from keras_course.errors import CourseError
from keras_course.generation import Writer
from keras_course.models import (
    causal_language_model,
    cnn_classifier,
    dense_classifier,
    dense_regressor,
    line_loss,
    recurrent_language_model,
)
from keras_course.preprocessing import PictureFormat
from keras_course.preprocessing.text_format import TextFormat
from keras_course.pretrained import load_backbone, load_pretrained, transfer_classifier
from keras_course.surfaces import SURFACES
from keras_course.training import RunDirectory, compare, fit, predict_logits, solve_head, train_head
from keras_course.update_rules import UPDATE_RULES

KEY = randomness.stream_key(0, "parity")
STEPS = 200
WORDS = 40
"""The size of the vocabulary of language models."""
POSITIONS = 12


class Draws(layers.Layer):
    """Everything that the generator draws, inside whatever program calls the layer."""

    def call(self, x):
        step = ops.cast(x[0, 0], "int32")
        draws = {
            "bits": randomness.random_bits(KEY, (8, 63), step=step, xp=ops),
            "uniform": randomness.uniform(KEY, (8, 63), step=step, xp=ops),
            "integers": randomness.integers(KEY, (8, 63), 1000, step=step, xp=ops),
            "mask": randomness.keep_mask(KEY, (8, 63), 0.3, step=step, xp=ops),
            "permutation": ops.expand_dims(randomness.permutation(KEY, 5000, step=step, xp=ops), 0),
            "normal": randomness.normal(KEY, (8, 63), step=step, xp=ops),
        }
        return {name: ops.cast(draw, "int32" if name == "mask" else draw.dtype) for name, draw in draws.items()}


def draws():
    """What the generator draws in a compiled program."""
    inputs = keras.Input((1,))
    model = keras.Model(inputs, Draws()(inputs))
    model.compile(jit_compile="auto")
    return model.predict(np.full((1, 1), 3.0, "float32"), verbose=0)


def weights():
    """The initial weights of the course's net, and of one with every kind of layer that has random weights."""
    for number, array in enumerate(dense_classifier(seed=7).get_weights()):
        yield f"dense_{number}", array
    tokens = keras.Input((6,), dtype="int32")
    x = layers.Embedding(20, 8, name="embedding")(tokens)
    x = layers.Conv1D(8, 3, kernel_initializer="he_normal", name="convolution")(x)
    x = layers.LSTM(8, name="lstm")(x)
    x = layers.Dense(3, kernel_initializer="lecun_normal", name="logits")(x)
    for number, array in enumerate(randomness.initialize(keras.Model(tokens, x), seed=7).get_weights()):
        yield f"zoo_{number}", array


def curve(model, optimizer, *, data=None, batch_size=32, steps=STEPS, augmentation=None):
    """The loss of each of the first steps, on MNIST's sample unless there are other data.

    Callbacks see the mean since the start of the epoch.
    """
    x, y = data or mnist.load_data("sample")[0]
    count = steps * batch_size
    with tempfile.TemporaryDirectory() as folder, RunDirectory(Path(folder) / "run") as directory:
        fit(
            model,
            (x[:count], y[:count]),
            optimizer=optimizer,
            epochs=1,
            batch_size=batch_size,
            augmentation=augmentation,
            run=directory,
            log_steps=True,
            progress=False,
        )
        return np.loadtxt(directory.path / "steps.csv", delimiter=",", skiprows=1)[:, 1]


def curves():
    """The same seed under different optimizers and activations, with and without dropout."""
    yield "relu_adam", curve(dense_classifier(), keras.optimizers.Adam(0.001))
    yield "relu_adam_8", curve(dense_classifier(), keras.optimizers.Adam(0.001), batch_size=8)
    yield "relu_sgd", curve(dense_classifier(), keras.optimizers.SGD(0.1))
    yield "tanh_adam", curve(dense_classifier(activation="tanh"), keras.optimizers.Adam(0.001))
    yield "tanh_dropout", curve(dense_classifier(activation="tanh", dropout=0.2), keras.optimizers.Adam(0.001))


def convolutional_curves():
    """The course's convolutional net on augmented digits, and a smooth one."""
    augment = Augmentation([Rotation(15), Zoom(0.8, 1.2), Shift(0.1, 0.1), Noise(0.05)], fill="nearest", seed=1)
    settings = {"steps": 60, "augmentation": augment}
    yield "sgd", curve(cnn_classifier(num_classes=10), keras.optimizers.SGD(3e-4), **settings)
    yield "adam", curve(cnn_classifier(num_classes=10), keras.optimizers.Adam(1e-3), **settings)
    yield "smooth_adam", curve(smooth_convolutional_net(), keras.optimizers.Adam(1e-3), **settings)


def sentences(count):
    """Texts (count, positions + 1) in which three words can follow a word; its numbers are the same on each backend."""
    noise = randomness.integers(randomness.stream_key(0, "sentences"), (count, POSITIONS + 1), 3)
    tokens = noise.copy()
    for place in range(1, POSITIONS + 1):
        tokens[:, place] = (tokens[:, place - 1] * 7 + noise[:, place]) % (WORDS - 3)
    return tokens + 3


def language_models():
    """Losses of language models with dropout, and what they write after their training."""
    steps = 60
    texts = sentences(steps * 32)
    x, last, following = texts[:, :-1].copy(), texts[:, -1], texts[:, 1:].copy()
    for row, text in enumerate(x):  # texts of different lengths, padded on the left
        text[: row % (POSITIONS - 1)] = 0
    sizes = {"vocabulary_size": WORDS, "sequence_length": POSITIONS, "dropout": 0.2, "seed": 3}
    small = {"embedding_dim": 32, "num_heads": 4, "intermediate_dim": 64}
    models = {
        "lstm": (recurrent_language_model(units=32, **sizes), (x, last), "left"),
        "transformer": (causal_language_model(**small, **sizes), (texts[:, :-1], following), "right"),
    }
    vocabulary = ("[PAD]", "[UNK]", "[END]", *(f"word{number}" for number in range(3, WORDS)))
    for name, (model, data, padding) in models.items():
        yield f"curves/{name}", curve(model, keras.optimizers.Adam(0.02), data=data, steps=steps)
        format = TextFormat(unit="words", vocabulary=vocabulary, sequence_length=POSITIONS, padding=padding)
        writer = Writer(model, format)
        for label, settings in {
            "greedy": {"strategy": "greedy"},
            "beam": {"strategy": "beam"},
            "sample": {"seed": 1},
            "nucleus": {"seed": 2, "top_p": 0.9, "temperature": 1.5},
            "top_k": {"seed": 3, "top_k": 20},
        }.items():
            steps_written = writer.write("word9 word30", length=30, **settings)
            yield f"words/{name} {label}", np.array([step.token for step in steps_written], "int32")


def smooth_convolutional_net():
    """The course's net with tanh for ReLU and means for maxima, in which no last bit decides anything."""
    pictures = keras.Input((28, 28, 1))
    x = layers.Rescaling(1 / 255)(pictures)
    for filters in (25, 50, 75):
        x = layers.Conv2D(filters, 3, padding="same")(x)
        x = layers.Activation("tanh")(layers.BatchNormalization(momentum=0.9)(x))
        x = layers.AveragePooling2D(2)(x)
    x = layers.Dense(512, activation="tanh")(layers.Flatten()(x))
    x = randomness.Dropout(0.3, seed=0)(x)
    return randomness.initialize(keras.Model(pictures, layers.Dense(10)(x)), seed=0)


def descents():
    """Families of runs: on the surfaces, on the course's lines, and of a net; with the data that the generator drew."""
    for name, surface in SURFACES.items():
        family = compare(
            surface.loss, start=surface.start, optimizer=list(UPDATE_RULES), learning_rate=[0.002, 0.01], epochs=60
        )
        for label, each in family.items():
            yield f"paths/{name}, {label}", each.path
    for name in lines.STARTS:
        family = compare(
            line_loss,
            lines.load_data(name),
            start=lines.STARTS[name],
            learning_rate=0.01,
            batch_size=[1, None],
            epochs=50,
        )
        for label, each in family.items():
            yield f"families/{name}, {label}", each.losses
    data, valid = noisy_points.load_data(count=100)
    model = dense_regressor(hidden=(16, 16), seed=1)
    family = compare(model, data, valid, optimizer=["sgd", "adam"], learning_rate=0.01, batch_size=[8, None], epochs=20)
    for label, each in family.items():
        yield f"families/net, {label}", each.losses
        yield f"families/net validation, {label}", each.val_losses
    yield "data/noisy_line", np.stack(noisy_line.load_data())
    yield "data/noisy_points", np.stack(data)


def augmented():
    """Digits after all that an augmentation can do, with each of its fills; as float32 and as uint8."""
    (x, y), _ = mnist.load_data("sample")
    transforms = [
        *(Rotation(20), Shift(0.1, 0.1), Zoom(0.8, 1.2), Shear(10), Flip(horizontal=True), Crop()),
        *(Brightness(0.2), Contrast(0.3), Light(0.5), Noise(0.05), Erasing(0.5), MixUp(0.5), CutMix(1.0)),
    ]
    for fill in FILLS:
        augment = Augmentation(transforms, fill=fill, fill_value=20, num_classes=10, seed=2)
        for kind in ("float32", "uint8"):
            pictures, labels = augment.apply(ops.convert_to_tensor(x[:64].astype(kind)), y[:64], step=4)
            yield f"{kind}/{fill}", ops.convert_to_numpy(pictures)
            yield f"labels/{kind}/{fill}", ops.convert_to_numpy(labels)


def transfer():
    """What a pre-trained network says of some photos, and heads on its features: one that is trained, one solved."""
    shape = (96, 96, 3)
    pictures = PictureFormat(height=96, width=96, channels=3)
    with tempfile.TemporaryDirectory() as cache:
        photos = photo_folder.load_data(doggy_door.locate("sample", cache=cache), picture_format=pictures)
        yield (
            "logits",
            predict_logits(load_pretrained("efficientnet_lite0", input_shape=shape).model, photos.valid.pictures),
        )
        backbone = load_backbone("efficientnet_lite0", input_shape=shape)
        model = transfer_classifier(backbone=backbone, num_classes=2)
        history = train_head(model, *photos.parts, epochs=20, batch_size=16, cache=cache, progress=False)
        yield "head", np.array([history["loss"], history["val_loss"]])
        solved = solve_head(model, *photos.parts, cache=cache)
        yield "solved", np.array([solved[f"{part}loss"] for part in ("", "val_", "fold_")])


def run(folder, *, epochs, resume=False):
    """A run of the course's net on a part of the sample: its losses and its accuracy."""
    (x, y), valid = mnist.load_data("sample")
    with RunDirectory(folder, resume=resume) as directory:
        model = dense_classifier(hidden=(64,), dropout=0.1)
        history = fit(model, (x[:2000], y[:2000]), valid, epochs=epochs, run=directory, progress=False)
    return np.array([history["loss"], history["accuracy"], history["val_loss"], history["val_accuracy"]])


def main(folder):
    """Records everything, and resumes the runs that other backends have left here."""
    backend = keras.backend.backend()
    folder.mkdir(parents=True, exist_ok=True)
    recorded = {f"draws/{name}": array for name, array in draws().items()}
    recorded |= {f"weights/{name}": array for name, array in weights()}
    recorded |= {f"curves/{name}": array for name, array in curves()}
    recorded |= {f"convolutional/{name}": array for name, array in convolutional_curves()}
    recorded |= {f"language/{name}": array for name, array in language_models()}
    recorded |= {f"descents/{name}": array for name, array in descents()}
    recorded |= {f"augmented/{name}": array for name, array in augmented()}
    recorded |= {f"transfer/{name}": array for name, array in transfer()}
    recorded["logits"] = predict_logits(dense_classifier(), mnist.load_data("sample")[1][0][:100])
    shutil.rmtree(folder / f"run_{backend}", ignore_errors=True)
    run(folder / f"run_{backend}", epochs=1)
    for other in sorted(folder.glob("run_*")):
        copy = folder / f"resumed_{backend}"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(other, copy)
        try:
            recorded[f"resumed/{other.name.removeprefix('run_')}"] = run(copy, epochs=3, resume=True)
        except CourseError as error:
            print(f"{other.name} is left from an earlier version and not compared: {error}")
        shutil.rmtree(copy)
    np.savez(folder / f"{backend}.npz", **recorded)
    print(f"recorded {len(recorded)} arrays on {backend}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
