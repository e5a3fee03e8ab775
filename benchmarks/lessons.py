"""Times whole lessons beside plain Keras scripts of the same networks, in one run.

    KERAS_BACKEND=torch python benchmarks/lessons.py
    python benchmarks/lessons.py --backend jax --lessons 04 --epochs 2 --rounds 3

Lessons 04, 06 and 10 and the scripts in ``benchmarks/plain`` run in separate processes, in turns, on the same sample of
the data. The scripts train the same networks for as many epochs as the lessons, print an accuracy and save
the model; the lessons also draw figures, write checkpoints and a report, and compute what their sections show.

Columns: the seconds of the script and of the lesson from start to end, the difference, the seconds that the lesson
spends in training, and the rest (imports, data, figures, report). The seconds are medians of the rounds. The goal is a
difference below two seconds. On two cores, the script of lesson 10 takes minutes on JAX, mostly to compile.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from keras_course._backend import select
from keras_course.errors import CourseError, check_positive
from keras_course.lesson import explain_errors

HERE = Path(__file__).parent
LESSONS = {
    "04": ("04_mnist_dense", "mnist_dense"),
    "06": ("06_asl_cnn", "asl_cnn"),
    "10": ("10_transfer_learning", "transfer_learning"),
}


def prepare(number: str, folder: Path) -> tuple[list[str], list[str]]:
    """Stores the data of a lesson, and returns the data arguments of the script and of the lesson."""
    from keras_course.datasets import arrays, asl, doggy_door, mnist

    if number == "10":
        from keras_course.pretrained import load_backbone

        backbone = folder / "backbone.keras"
        _with_layers_of_keras(load_backbone("efficientnet_lite0")).save(backbone)
        photos = doggy_door.locate("sample")
        return [str(photos), str(backbone)], [str(photos)]
    dataset = mnist if number == "04" else asl
    file = folder / dataset.FILE_NAME
    arrays.save(file, dataset.load_data("sample"))
    return [str(file)], [str(file)]


def _with_layers_of_keras(model: Any) -> Any:
    """Returns a copy of a model with Keras' dropout, because a plain script cannot open the course's."""
    import keras

    config = json.loads(model.to_json())
    for layer in config["config"]["layers"]:
        if layer["registered_name"] == "keras_course>Dropout":
            layer.update(module="keras.layers", registered_name=None)
    copy = keras.models.model_from_json(json.dumps(config))
    for layer in model.layers:
        if not type(layer).__name__.endswith("Dropout"):
            copy.get_layer(layer.name).set_weights(layer.get_weights())
    return copy


def timed(command: Sequence[str], environment: dict[str, str]) -> float:
    """Runs a process and returns its seconds."""
    started = time.perf_counter()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - started
    if done.returncode:
        raise CourseError(f"{command[1]} failed: {done.stderr.strip().splitlines()[-1]}")
    return seconds


def main() -> None:
    """Reads the command line and prints the table."""
    parser = argparse.ArgumentParser(description="Times whole lessons beside plain Keras scripts.")
    parser.add_argument("--backend", help="torch, tensorflow or jax; by default the one that the course selects")
    parser.add_argument("--lessons", nargs="+", choices=LESSONS, default=list(LESSONS), help="their numbers")
    parser.add_argument("--epochs", type=int, default=2, help="training epochs (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds (%(default)s)")
    options = parser.parse_args()
    check_positive(epochs=options.epochs, rounds=options.rounds)
    backend = select.use(options.backend or "").backend
    environment = {**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": str(HERE.parent)}
    print(f"{backend}, {options.epochs} epochs, {options.rounds} rounds; seconds")
    print(f"{'lesson':22}{'script':>9}{'lesson':>9}{'difference':>12}{'training':>10}{'rest':>8}")
    for number in options.lessons:
        lesson, script = LESSONS[number]
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            (data, *more), lesson_data = prepare(number, folder)
            rows = []
            for turn in range(options.rounds):
                saved, run = folder / f"{turn}.keras", folder / f"run-{turn}"
                plain = [str(HERE / "plain" / f"{script}.py"), data, str(options.epochs), str(saved), *more]
                course = [str(HERE.parent / "examples" / f"{lesson}.py"), "--data", *lesson_data, "--output", str(run)]
                course += ["--epochs", str(options.epochs)]
                seconds = [timed([sys.executable, *command], environment) for command in (plain, course)]
                training = sum(
                    json.loads(path.read_text())["seconds"] if path.suffix == ".json" else _seconds(path)
                    for path in (run / "metrics.json", *run.glob("*/history.csv"))
                )
                rows.append((*seconds, seconds[1] - seconds[0], training, seconds[1] - training))
            middle = [median(column) for column in zip(*rows, strict=True)]
        print(f"{lesson:22}{middle[0]:>9.1f}{middle[1]:>9.1f}{middle[2]:>12.1f}{middle[3]:>10.1f}{middle[4]:>8.1f}")


def _seconds(history: Path) -> float:
    """Returns the seconds in the history of a run inside the run of the lesson."""
    return sum(float(row.rpartition(",")[2]) for row in history.read_text().splitlines()[1:])


if __name__ == "__main__":
    explain_errors()
    main()
