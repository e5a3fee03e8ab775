"""Makes ``checkpoint.npz`` and ``checkpoint.json``: a run that stopped after two of four epochs, and how it went on.

Run it with KERAS_BACKEND=torch; ``test_run_directory.py`` goes on from the checkpoint on whatever backend is there.
"""

import json
import shutil
import tempfile
from pathlib import Path

import keras
import numpy as np

from keras_course.models import dense_classifier
from keras_course.training import RunDirectory, fit, predict_logits

HERE = Path(__file__).parent
DIGITS = 4


def train(run: RunDirectory | None, *, epochs: int) -> tuple[keras.Model, dict[str, list[float]]]:
    """Trains a small net on noise, with everything that has a state: dropout, Adam, a schedule, early stopping."""
    random = np.random.default_rng(0)
    x, x_valid = (random.integers(0, 256, (n, 4, 4, 1), dtype=np.uint8) for n in (52, 20))
    y, y_valid = (random.integers(0, 3, n, dtype=np.int32) for n in (52, 20))
    model = dense_classifier(input_shape=(4, 4, 1), hidden=(12,), num_classes=3, dropout=0.25, seed=7)
    optimizer = keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(0.02, decay_steps=28))
    settings = {"epochs": epochs, "batch_size": 8, "seed": 7, "early_stopping": 4, "progress": False}
    return model, fit(model, (x, y), (x_valid, y_valid), optimizer=optimizer, run=run, **settings)


def main() -> None:
    """Writes the two files."""
    with tempfile.TemporaryDirectory() as folder:
        with RunDirectory(folder) as run:
            train(run, epochs=2)
        shutil.copy(Path(folder, "checkpoint.npz"), HERE / "checkpoint.npz")
    model, history = train(None, epochs=4)
    logits = predict_logits(model, np.arange(DIGITS * 16).reshape(DIGITS, 4, 4, 1).astype("uint8"))
    history.pop("seconds")
    expected = {"backend": keras.backend.backend(), "history": history, "logits": logits.tolist()}
    (HERE / "checkpoint.json").write_text(json.dumps(expected, indent=1) + "\n")


if __name__ == "__main__":
    main()
