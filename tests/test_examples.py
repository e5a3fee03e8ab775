"""Every lesson, run as a person runs it: what it leaves behind, how it goes on, and how it is written."""

import csv
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

from keras_course import evaluation
from keras_course.datasets import mnist
from keras_course.training import predict_logits

ROOT = Path(__file__).parents[1]
LESSONS = {path.stem: path for path in sorted((ROOT / "examples").glob("[0-9][0-9]_*.py"))}
SECTIONS = ["Data", "Look at it", "Model", "Train", "Evaluate", "What to try next"]
EPOCHS = 1


def run_lesson(name, *arguments):
    """Runs a lesson and returns what it prints; it must end well and have nothing to complain about."""
    command = [sys.executable, str(LESSONS[name]), *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "KERAS_BACKEND": keras.backend.backend()}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module", params=LESSONS)
def lesson(request, tmp_path_factory):
    """The name of a lesson, the folder that it has filled, and what it has printed."""
    folder = tmp_path_factory.mktemp(request.param) / "run"
    options = ("--data", "sample", "--epochs", EPOCHS, "--log-steps", "--seed", 3, "--output", folder)
    return request.param, folder, run_lesson(request.param, *options)


def read_csv(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_files_of_a_lesson(lesson):
    _, folder, _ = lesson
    files = {path.name for path in folder.iterdir()}
    assert files == {
        "checkpoint.npz",
        "figures",
        "history.csv",
        "metrics.json",
        "model.keras",
        "report.html",
        "steps.csv",
    }


def test_the_history_of_a_lesson(lesson):
    _, folder, printed = lesson
    rows = read_csv(folder / "history.csv")
    assert list(rows[0]) == ["epoch", "loss", "accuracy", "val_loss", "val_accuracy", "seconds"]
    assert [row["epoch"] for row in rows] == [str(epoch + 1) for epoch in range(EPOCHS)]
    for row in rows:
        assert f"val_accuracy {float(row['val_accuracy']):.4f}" in printed
        assert 0 < float(row["loss"]) < 10
        assert 0.5 < float(row["accuracy"]) < 1, "it has not learned, or it was told the answers"


def test_the_steps_of_a_lesson(lesson):
    _, folder, _ = lesson
    rows = read_csv(folder / "steps.csv")
    assert list(rows[0]) == ["step", "loss"]
    metrics = json.loads((folder / "metrics.json").read_text())
    steps = EPOCHS * -(-metrics["samples"] // metrics["batch_size"])
    assert [int(row["step"]) for row in rows] == list(range(1, steps + 1))
    losses = np.array([float(row["loss"]) for row in rows])
    assert losses[:20].mean() > 1.5 * losses[-20:].mean()


def test_the_metrics_of_a_lesson(lesson):
    _, folder, _ = lesson
    metrics = json.loads((folder / "metrics.json").read_text())
    for name in ("accuracy", "loss", "parameters", "seconds", "steps_per_second", "device", "versions"):
        assert metrics[name], name
    assert metrics["seed"] == 3
    assert metrics["backend"] == keras.backend.backend()
    assert metrics["precision"] == "float32"
    assert {"python", "keras", "numpy", "keras-course", keras.backend.backend()} == set(metrics["versions"])
    last = read_csv(folder / "history.csv")[-1]
    assert metrics["accuracy"] == pytest.approx(float(last["val_accuracy"]), abs=1e-6)
    assert metrics["loss"] == pytest.approx(float(last["val_loss"]), abs=1e-5)


def test_the_saved_model_of_a_lesson_is_as_good_as_its_metrics_say(lesson):
    name, folder, printed = lesson
    if "mnist" not in name:
        pytest.skip("knows only where digits come from")
    model = keras.saving.load_model(folder / "model.keras", compile=False, safe_mode=True)
    _, (x_valid, y_valid) = mnist.load_data("sample")
    logits = predict_logits(model, x_valid)
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["accuracy"] == evaluation.accuracy(logits, y_valid)
    assert metrics["loss"] == pytest.approx(evaluation.cross_entropy(logits, y_valid), abs=1e-6)
    assert metrics["parameters"] == sum(weight.size for weight in model.get_weights())
    assert f"accuracy {metrics['accuracy']:.2%}" in printed


def test_the_figures_of_a_lesson_are_pictures_of_something(lesson):
    _, folder, _ = lesson
    figures = list((folder / "figures").iterdir())
    assert {"curves.png"} < {figure.name for figure in figures}
    for figure in figures:
        with Image.open(figure) as picture:
            picture.load()
            assert picture.format == "PNG"
            assert min(picture.size) >= 100
            assert len(picture.convert("L").getcolors()) > 10, f"{figure.name} is empty"


def test_the_report_of_a_lesson_shows_all_figures_and_asks_the_network_for_nothing(lesson):
    _, folder, _ = lesson
    page = (folder / "report.html").read_text(encoding="utf-8")
    sources = re.findall(r'src="([^"]*)"', page)
    assert len(sources) == len(list((folder / "figures").iterdir()))
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert not re.search(r"<script|@import|url\(|https?://", page)
    metrics = json.loads((folder / "metrics.json").read_text())
    assert f"{100 * metrics['accuracy']:.2f} %" in page
    assert str(metrics["seed"]) in page


def test_a_finished_lesson_is_not_trained_again(lesson):
    name, folder, _ = lesson
    unchanged = ("history.csv", "steps.csv", "checkpoint.npz", "figures/curves.png", "figures/confusion_matrix.png")
    before = {path: (folder / path).read_bytes() for path in unchanged if (folder / path).exists()}
    weights = keras.saving.load_model(folder / "model.keras", compile=False).get_weights()
    metrics = json.loads((folder / "metrics.json").read_text())
    options = ("--data", "sample", "--epochs", EPOCHS, "--log-steps", "--seed", 3, "--output", folder, "--resume")
    printed = run_lesson(name, *options, "--quiet")
    assert "epoch" not in printed
    assert {path: (folder / path).read_bytes() for path in before} == before
    again = keras.saving.load_model(folder / "model.keras", compile=False).get_weights()
    for weight, expected in zip(again, weights, strict=True):
        np.testing.assert_array_equal(weight, expected)
    metrics_again = json.loads((folder / "metrics.json").read_text())
    assert {**metrics_again, "command": ""} == {**metrics, "command": ""}


# --- How lessons are written -----------------------------------------------------------------------------------


def markdown_cells(name):
    """The text of each markdown cell, without the comment signs."""
    cells = re.split(r"^# %%", LESSONS[name].read_text(encoding="utf-8"), flags=re.MULTILINE)
    prose = [cell.removeprefix(" [markdown]") for cell in cells if cell.startswith(" [markdown]")]
    return [re.sub(r"^# ?", "", cell, flags=re.MULTILINE) for cell in prose]


@pytest.mark.parametrize("name", LESSONS)
def test_a_lesson_has_its_sections_in_their_order(name):
    text = "\n".join(markdown_cells(name))
    assert re.findall(r"^# (\d+) · \S.*$", text, flags=re.MULTILINE) == [name[:2]]
    headings = re.findall(r"^## (\d+)\. (.*)$", text, flags=re.MULTILINE)
    assert headings == [(str(number), title) for number, title in enumerate(SECTIONS, start=1)]
    for fact in ("needs", "data", "time"):
        assert re.search(rf"^- {fact}: \S", text, flags=re.MULTILINE)
    assert f"keras-course run {name}" in text


# A result changes with the machine, the version and the seed; it belongs into the report and into the README's table.
RESULT = re.compile(
    r"\d+\.\d+ ?%"  # 98.12 %
    r"|(accuracy|loss|error)[^.?]{0,30}\b\d*[.]?\d+"  # an accuracy of 0.98
    r"|\d+ (seconds|ms|steps a second)"
)


@pytest.mark.parametrize("name", LESSONS)
def test_no_number_in_the_prose_of_a_lesson_is_a_measured_result(name):
    text = "\n".join(markdown_cells(name))
    assert not [match[0] for match in RESULT.finditer(text)]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("It reads 98.1 % of them", True),
        ("an accuracy of 0.98", True),
        ("the loss falls to 1", True),
        ("takes 30 seconds", True),
        ("How few units still read 97 % of the digits?", False),
        ("784 numbers, and a step size of 0.001", False),
    ],
)
def test_the_search_for_results_finds_what_it_should(text, found):
    assert bool(RESULT.search(text)) == found


# --- The accuracy that is claimed ------------------------------------------------------------------------------


@pytest.mark.slow
def test_mnist_with_a_dense_network_is_as_accurate_as_claimed(full_mnist, tmp_path):
    accuracies = []
    for seed in range(3):
        folder = tmp_path / str(seed)
        run_lesson("04_mnist_dense", "--data", full_mnist, "--seed", seed, "--output", folder, "--quiet")
        metrics = json.loads((folder / "metrics.json").read_text())
        assert (metrics["epochs"], metrics["samples"], metrics["parameters"]) == (5, 60_000, 669_706)
        accuracies.append(metrics["accuracy"])
    assert np.mean(accuracies) >= 0.978, accuracies
    if recordings := os.environ.get("KERAS_COURSE_ACCURACIES"):  # tests/parity/test_accuracies.py compares the backends
        Path(recordings).mkdir(parents=True, exist_ok=True)
        record = Path(recordings) / f"{keras.backend.backend()}.json"
        record.write_text(json.dumps({"04_mnist_dense": accuracies}))
