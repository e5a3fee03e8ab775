"""Times ``keras_course.augmentation`` beside its alternatives, in one run.

    KERAS_BACKEND=torch python benchmarks/augmentation.py
    python benchmarks/augmentation.py --backend jax --rounds 7

Two tables. The first is for single batches: flip, rotation, zoom and shift of 128 gray pictures of 28×28 pixels, and of
32 color pictures of 224×224, from uint8 to uint8 or float32. It compares:

- ``Augmentation`` of this package as a layer, on the backend, as Keras compiles it by default;
- ``Augmentation.apply`` in NumPy, for pipelines on the host;
- Keras' own layers (``RandomFlip``, ``RandomRotation``, ``RandomZoom``, ``RandomTranslation``), compiled likewise;
- Kornia, on PyTorch, and Albumentations, on the host, if they are installed (``pip install kornia albumentations``).
  Both do rotation, zoom and shift as one affine transform.

The second is for training the course's convolutional network: ``fit`` of this package without and with augmentation,
and Keras' ``fit`` without augmentation, and with Keras' layers at the start of the model.

The candidates take turns; milliseconds and ratios are medians over the rounds. It takes three to five minutes for each
backend on two idle cores.
"""

import argparse
import time
from collections.abc import Callable
from statistics import median
from typing import Any

from keras_course._backend import select
from keras_course.errors import CourseError, check_positive
from keras_course.lesson import explain_errors

SHAPES = ((128, 28, 28, 1), (32, 224, 224, 3))
BATCH_SIZES = (32, 128)
STEPS, EPOCHS = 20, 3
DEGREES, ZOOM, SHIFT = 20, 0.1, 0.1

Contestants = dict[str, Callable[[], Any]]


def ours() -> Any:
    """Returns the augmentation of this package."""
    from keras_course.augmentation import Augmentation, Flip, Rotation, Shift, Zoom

    geometry = [Flip(horizontal=True), Rotation(DEGREES), Zoom(1 - ZOOM, 1 + ZOOM), Shift(SHIFT, SHIFT)]
    return Augmentation(geometry, fill="nearest")


def of_keras() -> Any:
    """Returns Keras' layers for the same augmentation."""
    from keras import layers

    return [
        layers.RandomFlip("horizontal", seed=0),
        layers.RandomRotation(DEGREES / 360, fill_mode="nearest", seed=1),
        layers.RandomZoom(ZOOM, fill_mode="nearest", seed=2),
        layers.RandomTranslation(SHIFT, SHIFT, fill_mode="nearest", seed=3),
    ]


def batch_contestants(backend: str, pictures: Any) -> Contestants:
    """Returns functions that augment one batch, by name."""
    import keras
    import numpy as np

    class InTraining(keras.Model):
        """Layers in training mode, which ``predict_on_batch`` compiles as Keras does by default."""

        def __init__(self, layers: list[Any]) -> None:
            super().__init__()
            self.steps = layers

        def call(self, x: Any) -> Any:
            for layer in self.steps:
                x = layer(x, training=True)
            return x

    augmentation = ours()
    fused, separate = InTraining([ours()]), InTraining(of_keras())
    found: Contestants = {
        "Augmentation": lambda: fused.predict_on_batch(pictures),
        "Augmentation, NumPy": lambda: augmentation.apply(pictures, step=0, xp=np),
        "Keras' layers": lambda: separate.predict_on_batch(pictures),
    }
    if backend == "torch":
        found |= with_kornia(pictures)
    return found | with_albumentations(pictures)


def with_kornia(pictures: Any) -> Contestants:
    """Returns a function that uses Kornia on whole batches, which must be floats from 0 to 1, channels first."""
    try:
        import kornia.augmentation
        import torch
    except ImportError:
        return {}
    change = kornia.augmentation.AugmentationSequential(
        kornia.augmentation.RandomHorizontalFlip(),
        kornia.augmentation.RandomAffine(
            DEGREES, translate=(SHIFT, SHIFT), scale=(1 - ZOOM, 1 + ZOOM), padding_mode="border", p=1.0
        ),
        data_keys=["input"],
    )
    device = "cuda" if torch.cuda.is_available() else "cpu"

    @torch.no_grad()
    def run() -> Any:
        x = torch.from_numpy(pictures).to(device).permute(0, 3, 1, 2).float() / 255
        changed = (change(x) * 255).round().to(torch.uint8)
        return changed.permute(0, 2, 3, 1).cpu().numpy()

    return {"Kornia": run}


def with_albumentations(pictures: Any) -> Contestants:
    """Returns a function that uses Albumentations, picture by picture."""
    try:
        import albumentations
        import cv2
        import numpy as np
    except ImportError:
        return {}
    change = albumentations.Compose(
        [
            albumentations.HorizontalFlip(p=0.5),
            albumentations.Affine(
                rotate=(-DEGREES, DEGREES),
                scale=(1 - ZOOM, 1 + ZOOM),
                translate_percent=(-SHIFT, SHIFT),
                border_mode=cv2.BORDER_REPLICATE,
                p=1.0,
            ),
        ]
    )
    return {"Albumentations": lambda: np.stack([change(image=picture)["image"] for picture in pictures])}


def training_contestants(batch_size: int) -> Contestants:
    """Returns functions that train for some epochs and return the seconds of a step in the fastest of the last ones."""
    import keras
    import numpy as np

    from keras_course.models import cnn_classifier
    from keras_course.training import fit

    random = np.random.default_rng(0)
    x = random.integers(0, 256, (STEPS * batch_size, 28, 28, 1), dtype="uint8")
    y = random.integers(0, 24, len(x)).astype("int32")

    def with_fit(augmentation: Any) -> float:
        settings = {"epochs": EPOCHS, "batch_size": batch_size, "progress": False}
        return min(fit(cnn_classifier(), (x, y), augmentation=augmentation, **settings)["seconds"][1:]) / STEPS

    def with_keras(layers: list[Any]) -> float:
        seconds: list[float] = []

        class Clock(keras.callbacks.Callback):
            def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
                self.started = time.perf_counter()

            def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
                seconds.append(time.perf_counter() - self.started)

        model = keras.Sequential([keras.Input((28, 28, 1)), *layers, cnn_classifier()])
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(optimizer="adam", loss=loss, metrics=["accuracy"])
        model.fit(x, y, epochs=EPOCHS, batch_size=batch_size, verbose=0, callbacks=[Clock()])
        return min(seconds[1:]) / STEPS

    return {
        "fit": lambda: with_fit(None),
        "fit, augmentation": lambda: with_fit(ours()),
        "Keras' fit": lambda: with_keras([]),
        "Keras' fit, Keras' layers": lambda: with_keras(of_keras()),
    }


def table(heading: str, seconds: dict[str, list[float]], reference: str) -> None:
    """Prints milliseconds and their ratios."""
    print(f"\n{heading:<44} {'ms':>9} {'times ' + reference:>24}")
    for name, measured in seconds.items():
        ratio = median(other / first for first, other in zip(seconds[reference], measured, strict=True))
        print(f"{name:<44} {1000 * median(measured):>9.2f} {ratio:>24.2f}")


def main() -> None:
    """Prints the tables."""
    explain_errors()
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--backend", default="")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    check_positive(rounds=options.rounds)
    backend = select.use(options.backend).backend
    import numpy as np

    print(f"{backend}, {options.rounds} rounds")
    for shape in SHAPES:
        pictures = np.random.default_rng(0).integers(0, 256, shape, dtype="uint8")
        contestants = batch_contestants(backend, pictures)
        seconds: dict[str, list[float]] = {name: [] for name in contestants}
        for run in contestants.values():  # the first call compiles
            if run().shape != shape:
                raise CourseError("a contestant gives pictures of another shape: it has not done the same work")
        for _ in range(options.rounds):
            for name, run in contestants.items():
                laps = []
                for _ in range(3):
                    started = time.perf_counter()
                    run()
                    laps.append(time.perf_counter() - started)
                seconds[name].append(min(laps))
        table(f"a batch of {' × '.join(map(str, shape))}", seconds, "Augmentation")
    for batch_size in BATCH_SIZES:
        contestants = training_contestants(batch_size)
        seconds = {name: [] for name in contestants}
        for _ in range(options.rounds):
            for name, run in contestants.items():
                seconds[name].append(run())
        table(f"a training step of {batch_size} pictures", seconds, "fit")


if __name__ == "__main__":
    main()
