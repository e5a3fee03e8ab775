"""The folder of a run: its files, resuming, and robustness against kills, full disks and other processes."""

import dataclasses
import errno
import importlib.metadata
import importlib.util
import io
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
from matplotlib.figure import Figure

from keras_course import _backend, plots
from keras_course.cards import ModelCard, read_card
from keras_course.errors import CourseError
from keras_course.files import replacing
from keras_course.models import dense_classifier
from keras_course.preprocessing import PictureFormat
from keras_course.training import RunDirectory, fit, predict_logits, run_directory
from keras_course.training.fine_tuning import WeightedCrossEntropy
from keras_course.training.run_directory import Checkpoint, find_run, latest_folder, new_folder

ROOT = Path(__file__).parents[1]
DATA = Path(__file__).parent / "data"
RANDOM = np.random.default_rng(0)
X, X_VALID = (RANDOM.integers(0, 256, (n, 3, 3, 1), dtype=np.uint8) for n in (24, 10))
SETTINGS = {"seed": 0, "batch_size": 8, "precision": "float32", "data": "sample", "command": "python lesson.py"}
Y, Y_VALID = (RANDOM.integers(0, 4, n, dtype=np.int32) for n in (24, 10))


def tiny(**arguments):
    return dense_classifier(**{"input_shape": (3, 3, 1), "hidden": (5,), "num_classes": 4} | arguments)


def train(run, *, model=None, data=(X, Y), valid=(X_VALID, Y_VALID), **arguments):
    model = model or tiny()
    settings = {"batch_size": 8, "epochs": 2, "seed": 0, "progress": False} | arguments
    return fit(model, data, valid, run=run, **settings)


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


def arrays_of(path):
    with np.load(path, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of two epochs that tests must not change."""
    folder = tmp_path_factory.mktemp("finished")
    with RunDirectory(folder) as run:
        model = tiny()
        history = train(run, model=model, log_steps=True)
        run.save_results(model, history, SETTINGS, samples=len(X), metrics={"accuracy": 0.5})
    return folder


@pytest.fixture
def folder(finished, tmp_path):
    """A copy of the finished run."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


# --- Files in the folder ---------------------------------------------------------------------------------------


def test_a_run_has_exactly_its_files(folder):
    names = {str(path) for path in contents(folder)}
    assert names == {"checkpoint.npz", "history.csv", "metrics.json", "model.keras", "steps.csv"}


def test_history_has_a_row_for_each_epoch(folder):
    lines = (folder / "history.csv").read_text().splitlines()
    assert lines[0] == "epoch,loss,accuracy,val_loss,val_accuracy,seconds"
    assert [line.split(",")[0] for line in lines[1:]] == ["1", "2"]
    history = RunDirectory(folder, resume=True).load_checkpoint().history
    for name, cells in zip(
        lines[0].split(","), zip(*(line.split(",") for line in lines[1:]), strict=True), strict=True
    ):
        assert [float(cell) for cell in cells] == history[name]


def test_steps_has_a_row_for_each_batch(folder):
    lines = (folder / "steps.csv").read_text().splitlines()
    assert lines[0] == "step,loss"
    assert [line.split(",")[0] for line in lines[1:]] == list("123456")
    by_epoch = np.array([float(line.split(",")[1]) for line in lines[1:]]).reshape(2, 3).mean(axis=1)
    history = np.loadtxt(folder / "history.csv", delimiter=",", skiprows=1)
    np.testing.assert_allclose(by_epoch, history[:, 1], rtol=1e-7)


def test_metrics_contain_results_and_settings(folder):
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["accuracy"] == 0.5
    assert metrics["parameters"] == 9 * 5 + 5 + 5 * 4 + 4
    seconds = np.loadtxt(folder / "history.csv", delimiter=",", skiprows=1)[:, -1]
    assert metrics["seconds"] == pytest.approx(seconds.sum(), abs=1e-3)
    assert metrics["steps_per_second"] == pytest.approx(3 / np.median(seconds), abs=0.1)
    assert metrics["backend"] == keras.backend.backend()
    assert metrics["versions"]["keras"] == keras.__version__
    assert metrics["versions"]["numpy"] == np.__version__
    assert (metrics["seed"], metrics["epochs"], metrics["batch_size"], metrics["samples"]) == (0, 2, 8, 24)


def test_an_epoch_of_0_seconds_gives_a_finite_speed(tmp_path):
    history = {"epoch": [1], "loss": [0.5], "seconds": [0.0]}
    with RunDirectory(tmp_path) as run:
        metrics = run.save_results(tiny(), history, SETTINGS, samples=64, metrics={})
    assert np.isfinite(metrics["steps_per_second"])


@pytest.mark.parametrize("compiled", [False, True])
def test_the_saved_model_opens_in_safe_mode_and_has_no_optimizer(tmp_path, compiled):
    model = tiny(dropout=0.5)
    if compiled:
        model.compile("adam", "mse")
    with RunDirectory(tmp_path) as run:
        train(run, model=model, epochs=1)
        run.save_model(model)
    assert model.compiled == compiled
    with zipfile.ZipFile(tmp_path / "model.keras") as archive:
        config = archive.read("config.json").decode()
        weights = archive.read("model.weights.h5")
    for word in ("adam", "optimizer", "torch", "tensorflow", "jax", "jit_compile"):
        assert word not in config.lower(), word
    assert b"optimizer" not in weights
    opened = keras.saving.load_model(tmp_path / "model.keras", compile=False, safe_mode=True)
    np.testing.assert_array_equal(predict_logits(opened, X_VALID), predict_logits(model, X_VALID))


CARD = ModelCard(
    title="Four classes", class_names=list("abcd"), picture_format=PictureFormat(height=3, width=3, channels=1)
)


def test_the_saved_model_has_its_card_with_metrics(tmp_path):
    model = tiny()
    with RunDirectory(tmp_path) as run:
        history = train(run, model=model, epochs=2)
        measured = {"accuracy": 0.5, "loss": 1.25, "other": 7}
        metrics = run.save_results(model, history, SETTINGS, samples=len(X), card=CARD, metrics=measured)
    card = read_card(tmp_path / "model.keras")
    assert (card.title, card.class_names, card.picture_format) == (CARD.title, CARD.class_names, CARD.picture_format)
    assert card.metrics == {"accuracy": 0.5, "loss": 1.25}
    expected = {"samples": 24, "epochs": 2, "batch_size": 8, "seed": 0, "backend": keras.backend.backend()}
    assert expected.items() <= card.training.items()
    # 9 * 5 + 5 weights, and 5 * 4 + 4
    assert card.training["parameters"] == metrics["parameters"] == 74
    assert card.training["versions"]["keras"] == keras.__version__
    opened = keras.saving.load_model(tmp_path / "model.keras", compile=False, safe_mode=True)
    np.testing.assert_array_equal(predict_logits(opened, X_VALID), predict_logits(model, X_VALID))


def test_saving_a_model_again_replaces_its_card(tmp_path):
    with RunDirectory(tmp_path) as run:
        run.save_model(tiny(), CARD)
        assert read_card(tmp_path / "model.keras") == CARD
        run.save_model(tiny(), CARD)
        with zipfile.ZipFile(tmp_path / "model.keras") as archive:
            assert archive.namelist().count("card.json") == 1
        run.save_model(tiny())
        assert read_card(tmp_path / "model.keras") is None


def test_a_checkpoint_contains_only_arrays_and_json(folder):
    arrays = arrays_of(folder / "checkpoint.npz")  # does not need pickle
    assert {array.dtype.kind for array in arrays.values()} <= set("fiuU")
    header = json.loads(str(arrays["header"]))
    assert list(header) == ["settings", "history", "stopped", "steps", "training", "version"]
    assert not re.search("torch|tensorflow|jax", str(header), re.IGNORECASE)


def test_a_saved_checkpoint_is_loaded_unchanged(tmp_path):
    numbers = [np.arange(n, dtype="float32") for n in range(12)]  # more than ten arrays, because 10 must come after 2
    checkpoint = Checkpoint({"seed": 1}, {"epoch": [1], "loss": [0.1 + 0.2]}, numbers, [np.array(7)], numbers[:3])
    with RunDirectory(tmp_path) as run:
        assert run.load_checkpoint() is None
        run.save_checkpoint(checkpoint)
        loaded = run.load_checkpoint()
    assert (loaded.settings, loaded.history) == (checkpoint.settings, checkpoint.history)
    for part in ("model", "optimizer", "best"):
        saved = getattr(checkpoint, part)
        assert [array.tolist() for array in getattr(loaded, part)] == [array.tolist() for array in saved]


def test_start_steps_drops_later_steps(tmp_path):
    (tmp_path / "steps.csv").write_text("step,loss\n1,0.5\n2,0.25\n3,0.125\n4,0.0")
    with RunDirectory(tmp_path, resume=True) as run:
        run.start_steps(2)
        run.append_steps(3, [1 / 3])
        assert (tmp_path / "steps.csv").read_text() == "step,loss\n1,0.5\n2,0.25\n3,0.333333333\n"
        run.start_steps(0)
        assert (tmp_path / "steps.csv").read_text() == "step,loss\n"


# --- Which folder ----------------------------------------------------------------------------------------------


def test_a_new_run_gets_a_new_folder(tmp_path):
    assert new_folder(tmp_path, "lesson") == tmp_path / "lesson"
    for name in ("lesson", "lesson-2"):
        (tmp_path / name).mkdir()
    assert new_folder(tmp_path, "lesson") == tmp_path / "lesson-3"


def test_the_latest_run_of_the_lesson_is_found(tmp_path):
    for age, name in enumerate(("lesson-2", "lesson", "lesson-10", "lesson_two", "lesson-old")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "history.csv").touch()
        os.utime(tmp_path / name / "history.csv", (age, age))
    assert latest_folder(tmp_path, "lesson") == tmp_path / "lesson-10"
    (tmp_path / "lesson-11").mkdir()  # a run that was killed in its first epoch
    assert latest_folder(tmp_path, "lesson") == tmp_path / "lesson-10"
    with pytest.raises(CourseError, match="no run of other"):
        latest_folder(tmp_path, "other")


def test_a_folder_in_use_is_refused_until_it_is_closed(folder):
    before = contents(folder)
    with RunDirectory(folder, resume=True):
        for resume in (True, False):
            with pytest.raises(CourseError, match=f"{re.escape(str(folder))} is in use"):
                RunDirectory(folder, resume=resume)
    assert contents(folder) == before, "a file, such as the lock, is left"
    RunDirectory(folder, resume=True).close()


def test_closing_twice_does_not_release_the_lock_of_another(tmp_path):
    first = RunDirectory(tmp_path)
    first.close()
    second = RunDirectory(tmp_path)
    first.close()
    with pytest.raises(CourseError, match="in use"):
        RunDirectory(tmp_path)
    second.close()


@pytest.mark.parametrize("name", ["checkpoint.npz", "model.keras"])
def test_a_folder_with_a_run_is_refused_and_unchanged(folder, name):
    for path in list(contents(folder)):
        if str(path) != name:
            (folder / path).unlink()
    before = contents(folder)
    with pytest.raises(CourseError, match="holds a run already; resume it or choose another"):
        RunDirectory(folder)
    assert contents(folder) == before


def test_a_file_as_folder_is_refused(tmp_path):
    (tmp_path / "file").write_text("mine")
    for path in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(CourseError, match=f"{re.escape(str(path))} cannot be used"):
            RunDirectory(path)
    assert (tmp_path / "file").read_text() == "mine"


# --- Resuming --------------------------------------------------------------------------------------------------


def test_a_finished_run_is_not_trained_again(folder):
    before = contents(folder)
    model = tiny(seed=1)
    with RunDirectory(folder, resume=True) as run:
        history = train(run, model=model, log_steps=True)
    assert contents(folder) == before
    assert history == run.load_checkpoint().history
    expected = keras.saving.load_model(folder / "model.keras", compile=False)
    np.testing.assert_array_equal(predict_logits(model, X), predict_logits(expected, X))


def test_a_nested_run_is_resumed_with_its_outer_run(tmp_path):
    with RunDirectory(tmp_path) as run:
        train(run)
        with run.inside("other") as other:
            train(other, model=tiny(seed=1), epochs=1)
    begun = contents(tmp_path)
    assert Path("other", "checkpoint.npz") in begun
    with RunDirectory(tmp_path, resume=True) as run:
        train(run)
        with run.inside("other") as other:
            history = train(other, model=tiny(seed=1), epochs=2)
    around = [path for path in begun if path.parts[0] != "other"]
    assert all((tmp_path / path).read_bytes() == begun[path] for path in around)
    assert history == train(None, model=tiny(seed=1), epochs=2) | {"seconds": history["seconds"]}


def test_an_optimizer_with_a_numbered_name_is_the_same(tmp_path):
    """If a notebook builds everything twice, Keras names the second optimizer adam_1."""
    for epochs, resume in ((1, False), (2, True)):
        with RunDirectory(tmp_path, resume=resume) as run:
            train(run, model=tiny(name=f"net{epochs}"), optimizer=keras.optimizers.Adam(0.01), epochs=epochs)
    assert run.load_checkpoint().history["epoch"] == [1, 2]


X_OTHER = X.copy()
X_OTHER[5, 1, 1, 0] ^= 1
OTHER_RUNS = {
    "seed": {"seed": 1},
    "batch_size": {"batch_size": 12},
    "data": {"data": (X_OTHER, Y)},
    "validation data": {"valid": None},
    "validation": {"valid": (X_VALID, (Y_VALID + 1) % 4)},
    "optimizer ": {"optimizer": "sgd"},
    "optimizer's learning_rate": {"optimizer": keras.optimizers.Adam(0.1)},
    "optimizer's clipnorm": {"optimizer": keras.optimizers.Adam(clipnorm=1.0)},
    "loss": {"loss": WeightedCrossEntropy([1.0, 1.0, 1.0, 1.0])},
    "loss's settings": {"loss": keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=9)},
    "metrics": {"metrics": {}},
    "model": {"model": lambda: tiny(hidden=(6,))},
    r"layer \d+ \(Dense\)'s units": {"model": lambda: tiny(hidden=(5, 2))},
}


@pytest.mark.parametrize("name", OTHER_RUNS)
def test_resuming_with_other_settings_is_refused(folder, name):
    settings = dict(OTHER_RUNS[name])
    model = settings.pop("model", tiny)()
    if name.startswith("layer"):
        assert model.count_params() == tiny().count_params(), "the models must differ only in their layers"
    before = contents(folder)
    with RunDirectory(folder, resume=True) as run, pytest.raises(CourseError, match=f"the run to resume has {name}"):
        train(run, model=model, epochs=3, **settings)
    assert contents(folder) == before


def first_half(content):
    return content[: len(content) // 2]


def without_optimizer(content):
    return content.replace(b"optimizer/00001", b"optimizes/00001")


def with_first_weights(weights):
    def damage(content):
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            parts = {name: arrays[name] for name in arrays.files}
        file = io.BytesIO()
        np.savez(file, **{**parts, "model/00000": weights})
        return file.getvalue()

    return damage


@pytest.mark.parametrize(
    "damage",
    [first_half, without_optimizer, with_first_weights(np.array(["a", "b"])), lambda _: b"", lambda _: b"no archive"],
)
def test_a_damaged_checkpoint_is_refused(folder, damage):
    path = folder / "checkpoint.npz"
    path.write_bytes(damage(path.read_bytes()))
    before = contents(folder)
    message = f"{re.escape(str(path))} is not a checkpoint that can be read"
    with RunDirectory(folder, resume=True) as run, pytest.raises(CourseError, match=message):
        train(run, epochs=3)
    assert contents(folder) == before


def with_header(**changes):
    def damage(content):
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            parts = {name: arrays[name] for name in arrays.files}
        header = {**json.loads(str(parts["header"])), **changes}
        parts["header"] = np.array(json.dumps(header))
        file = io.BytesIO()
        np.savez(file, **parts)
        return file.getvalue()

    return damage


HISTORY_OF_TWO = {"epoch": [1, 2], "loss": [0.5, 0.25], "seconds": [0.1, 0.1]}


@pytest.mark.parametrize(
    "changes",
    [
        *({name: wrong} for name in ("settings", "history", "training") for wrong in (None, 3, "text", [1], True)),
        *({name: wrong} for name in ("steps", "version") for wrong in (None, "3", 2.5, [1], True, {})),
        *({"stopped": wrong} for wrong in (None, 0, "no", [])),
        *(
            {"history": HISTORY_OF_TWO | {"loss": wrong}}
            for wrong in (None, 1.0, [1.0], ["a", "b"], [None, 1], [[], {}])
        ),
        *({"history": HISTORY_OF_TWO | {name: [1, "2"]}} for name in ("epoch", "val_loss", "seconds")),
        {"history": {"loss": [0.5, 0.25]}},
        {"steps": -1},
        {"more": 1},
    ],
    ids=str,
)
def test_a_checkpoint_with_an_invalid_header_is_refused(folder, changes):
    path = folder / "checkpoint.npz"
    path.write_bytes(with_header(**changes)(path.read_bytes()))
    with RunDirectory(folder, resume=True) as run, pytest.raises(CourseError, match="is not a checkpoint") as error:
        run.load_checkpoint()
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_changed_bytes_in_a_checkpoint_end_in_a_one_line_error(folder):
    path = folder / "checkpoint.npz"
    sound = path.read_bytes()
    random = np.random.default_rng(0)
    messages = []
    with RunDirectory(folder, resume=True) as run:
        for _ in range(150):
            content = bytearray(sound)
            # half of the changes are in the table of contents at the end
            begin = len(sound) - 900 if random.random() < 0.5 else 0
            for place in random.integers(begin, len(sound), 3):
                content[place] = random.integers(256)
            path.write_bytes(content[: len(sound) if random.random() < 0.8 else int(random.integers(len(sound)))])
            try:
                run.load_checkpoint()
            except CourseError as error:
                messages.append(str(error))
    assert len(messages) > 75
    assert not any("\n" in message or str(path) not in message for message in messages)


@pytest.mark.parametrize(
    ("damage", "line"),
    [
        (lambda text: text.replace("2,", "two,", 1), 3),
        (lambda text: text.replace("\n2,", "\n1,", 1), 3),
        (lambda text: text.replace("\n3,", "\n-3,", 1), 4),
        (lambda text: text.replace("\n2,", "\n2;", 1), 3),
        (lambda text: text.replace("\n4,", "\n4,x", 1), 5),
        (lambda text: text.replace("\n3,", "\n\0\0\0", 1), 4),
        (lambda text: text.replace("\n3,", "\n\n3,", 1), 4),
        (lambda text: "\xff" + text, 1),
        (lambda text: "step;loss\n" + text, 1),
        (lambda text: text.replace("\n6,", "\n" + "9" * 5000 + ",", 1).replace("\n5,", "\n" + "9" * 5000 + ",", 1), 6),
    ],
    ids=range(10),
)
def test_a_damaged_steps_file_is_refused_before_training(folder, monkeypatch, damage, line):
    path = folder / "steps.csv"
    path.write_bytes(damage(path.read_text()).encode("latin-1"))
    before = contents(folder)
    monkeypatch.setattr(sys.modules[fit.__module__], "choose_steps", None)  # fails if training starts
    with RunDirectory(folder, resume=True) as run, pytest.raises(CourseError) as error:
        train(run, epochs=3, log_steps=True)
    assert str(error.value).startswith(f"{path} is damaged: line {line} is ")
    assert str(error.value).endswith("repair it, or rename the file to resume without the losses of earlier steps")
    assert "\n" not in str(error.value)
    assert contents(folder) == before


def test_a_run_can_be_resumed_without_its_steps_file(folder, tmp_path):
    model = tiny()
    with RunDirectory(tmp_path / "unbroken") as run:
        history = train(run, model=model, epochs=3, log_steps=True)
    (folder / "steps.csv").rename(folder / "old_steps.csv")
    other = tiny(seed=1)
    with RunDirectory(folder, resume=True) as run:
        resumed = train(run, model=other, epochs=3, log_steps=True)
    assert resumed | {"seconds": 0} == history | {"seconds": 0}
    for weight, expected in zip(other.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(weight, expected)
    lines, expected = ((path / "steps.csv").read_text().splitlines() for path in (folder, tmp_path / "unbroken"))
    assert lines == ["step,loss", *expected[7:]]


@pytest.mark.parametrize("end", ["7", "7,", "7,0.", "7,0.1\n8,0.2\n", "\0\0", "7,0.5\nx,y\n"])
def test_rows_after_the_last_checkpoint_can_be_incomplete(folder, end):
    rows = (folder / "steps.csv").read_text()
    with (folder / "steps.csv").open("a") as file:
        file.write(end)
    with RunDirectory(folder, resume=True) as run:
        run.start_steps(6)
    assert (folder / "steps.csv").read_text() == rows


def test_a_checkpoint_with_a_pickle_is_not_opened(folder):
    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(folder / "exploded"),)

    np.savez(folder / "checkpoint.npz", header=np.array([Bomb()], dtype=object))
    with RunDirectory(folder, resume=True) as run, pytest.raises(CourseError, match="not a checkpoint"):
        run.load_checkpoint()
    assert not (folder / "exploded").exists()


@pytest.fixture(scope="module")
def checkpoint_module():
    """The module ``make_checkpoint.py``, which trains a small network."""
    spec = importlib.util.spec_from_file_location("make_checkpoint", DATA / "make_checkpoint.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_run_of_another_backend_can_be_resumed(checkpoint_module, tmp_path):
    expected = json.loads((DATA / "checkpoint.json").read_text())
    shutil.copy(DATA / "checkpoint.npz", tmp_path)
    with RunDirectory(tmp_path, resume=True) as run:
        model, history = checkpoint_module.train(run, epochs=4)
    assert history.pop("epoch") == expected["history"].pop("epoch") == [1, 2, 3, 4]
    for name, column in expected["history"].items():
        np.testing.assert_allclose(history[name], column, atol=1e-4, err_msg=name)
    logits = predict_logits(model, np.arange(64).reshape(4, 4, 4, 1).astype("uint8"))
    np.testing.assert_allclose(logits, expected["logits"], atol=1e-4)


# --- Kills -----------------------------------------------------------------------------------------------------

# Trains with everything that has a state, and dies by SIGKILL, as in a power failure, at a named moment or some seconds
# later. Each training runs in a forked process, in which Keras is already imported.
KILLED_PROGRAM = """
import json, os, signal, sys, tempfile, threading, time
from pathlib import Path

import keras
import numpy as np

from keras_course.models import dense_classifier
from keras_course.training import RunDirectory, fit, run_directory

fit_module = sys.modules[fit.__module__]


def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)


def at_call(number, do, original):
    calls = iter(range(1, 1000))
    return lambda *args, **kwargs: (do if next(calls) == number else original)(*args, **kwargs)


def half(file, **arrays):
    file.write(b"half a checkpoint")
    file.flush()
    die()


def half_a_model(model, path):
    Path(path).write_bytes(b"half a model")
    tempfile.mkdtemp()  # as Keras does
    die()


def die_later(seconds, original):
    def start(*args):
        nonlocal seconds
        if seconds is not None:
            threading.Thread(target=lambda pause: (time.sleep(pause), die()), args=(seconds,)).start()
            seconds = None
        return original(*args)

    return start


moments = {
    "in an epoch": (fit_module._Totals, "add", die),
    "between steps and checkpoint": (RunDirectory, "save_checkpoint", die),
    "in a checkpoint": (np, "savez", half),
    "between checkpoint and history": (RunDirectory, "write_history", die),
    "in the model": (keras.Model, "save", half_a_model),
}


def train(folder, moment="", count=1, seconds=None):
    if moment:
        owner, name, do = moments[moment]
        original = getattr(owner, name)
        setattr(owner, name, at_call(count, do, original) if seconds is None else die_later(seconds, original))
    random = np.random.default_rng(0)
    x, x_valid = (random.integers(0, 256, (n, 4, 4, 1), dtype=np.uint8) for n in (52, 20))
    y, y_valid = (random.integers(0, 3, n, dtype=np.int32) for n in (52, 20))
    for pictures, labels in ((x, y), (x_valid, y_valid)):
        pictures[:, 0] = 60 * labels.reshape(-1, 1, 1)  # learnable, and then the network over-fits
    model = dense_classifier(input_shape=(4, 4, 1), hidden=(12,), num_classes=3, dropout=0.25, seed=7)
    optimizer = keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(0.05, decay_steps=200))
    with RunDirectory(folder, resume=os.path.exists(folder)) as run:
        settings = {"epochs": 40, "batch_size": 8, "early_stopping": 4, "log_steps": True, "progress": False}
        fit(model, (x, y), (x_valid, y_valid), optimizer=optimizer, run=run, **settings)
        run.save_model(model)
        np.savez(os.path.join(folder, "weights.npz"), *model.get_weights())


def compute(folder, seconds=None):
    # no training, so that many kills are fast; each epoch depends on the previous one
    if seconds is not None:
        die_later(seconds, int)()
    with RunDirectory(folder, resume=os.path.exists(folder)) as run:
        checkpoint = run.load_checkpoint()
        history = checkpoint.history if checkpoint else {"epoch": [], "loss": [], "seconds": []}
        weights = checkpoint.model[0] if checkpoint else np.arange(2000.0)
        run.write_history(history)  # as `fit` does
        run.start_steps(3 * len(history["epoch"]))
        for epoch in range(len(history["epoch"]), 30):
            weights = np.sin(1.1 * weights + epoch)
            run.append_steps(3 * epoch + 1, weights[:3])
            for name, value in (("epoch", epoch + 1), ("loss", weights.mean()), ("seconds", 0.0)):
                history[name].append(value)
            run.save_checkpoint(run_directory.Checkpoint({}, history, [weights], []))
        run.write_json("metrics.json", {"loss": history["loss"][-1]})
        with run_directory.replacing_by_name(run.path / "model.keras") as beside, beside.open("wb") as file:
            np.save(file, weights)
        np.savez(os.path.join(folder, "weights.npz"), weights)


for line in sys.stdin:
    if (child := os.fork()) == 0:
        code = 1
        try:
            how = json.loads(line)
            {"train": train, "compute": compute}[how.pop("do")](**how)
            code = 0
        finally:
            os._exit(code)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.fixture(scope="module")
def run_and_kill(tmp_path_factory):
    """A function that runs the program above and returns its exit code."""
    folder = tmp_path_factory.mktemp("mortal")
    (folder / "temporary").mkdir()
    programs = {
        "JAX_COMPILATION_CACHE_DIR": str(folder / "programs"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    environment = {**programs, **os.environ, "TMPDIR": str(folder / "temporary"), "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "-c", KILLED_PROGRAM]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment
    ) as process:

        def start(folder, do="train", **how):
            process.stdin.write(json.dumps({"do": do, "folder": str(folder), **how}) + "\n")
            process.stdin.flush()
            return int(process.stdout.readline())

        yield start
        process.stdin.close()
    # a kill while Keras writes leaves a folder of Keras there
    left = [path for path in (folder / "temporary").iterdir() if path.name.startswith(".")]
    assert not left, "a killed process has left a file"


@pytest.fixture(scope="module")
def uninterrupted(run_and_kill, tmp_path_factory):
    """The folder of an uninterrupted training."""
    folder = tmp_path_factory.mktemp("never_killed") / "whole"
    assert run_and_kill(folder) == 0
    return folder


def assert_same_run(folder, expected):
    """Checks that two runs have the same files with the same content, except for the measured seconds."""
    weights = arrays_of(expected / "weights.npz")
    assert arrays_of(folder / "weights.npz").keys() == weights.keys()
    for name, weight in arrays_of(folder / "weights.npz").items():
        np.testing.assert_array_equal(weight, weights[name])
    histories = [(path / "history.csv").read_text().splitlines() for path in (folder, expected)]
    for line, expected_line in zip(*histories, strict=True):
        assert line.rpartition(",")[0] == expected_line.rpartition(",")[0]
    assert (folder / "steps.csv").read_bytes() == (expected / "steps.csv").read_bytes()
    assert set(contents(folder)) == set(contents(expected)), "a killed process has left a file"
    assert not [path for path in folder.iterdir() if path.is_dir()]


@pytest.mark.one_backend
def test_a_run_killed_at_every_stage_equals_an_uninterrupted_run(tmp_path, run_and_kill, uninterrupted):
    killed = tmp_path / "killed"
    history = np.loadtxt(uninterrupted / "history.csv", delimiter=",", skiprows=1)
    assert 7 < len(history) < 40, "early stopping must occur"

    for moment, count, epochs_after in (
        ("in an epoch", 2, 0),
        ("between steps and checkpoint", 2, 1),
        ("in a checkpoint", 2, 2),
        ("between checkpoint and history", 3, 4),  # the first call is at the start of a resumed run
    ):
        assert run_and_kill(killed, moment=moment, count=count) == -signal.SIGKILL
        with RunDirectory(killed, resume=True) as run:
            checkpoint = run.load_checkpoint()
        assert (len(checkpoint.history["epoch"]) if checkpoint else 0) == epochs_after, moment
    assert run_and_kill(killed, moment="in the model") == -signal.SIGKILL
    assert run_and_kill(killed) == 0
    assert_same_run(killed, uninterrupted)


@pytest.mark.one_backend
def test_files_of_a_run_killed_at_random_times_equal_an_uninterrupted_run(tmp_path, run_and_kill):
    uninterrupted, killed = tmp_path / "whole", tmp_path / "killed"
    assert run_and_kill(tmp_path / "first", "compute") == 0
    started = time.monotonic()
    assert run_and_kill(uninterrupted, "compute") == 0
    pauses = np.random.default_rng(0).uniform(0, (time.monotonic() - started) / 8, 60)
    codes = [run_and_kill(killed, "compute", seconds=pause) for pause in pauses]
    assert codes.count(-signal.SIGKILL) >= 20, "too few processes were killed"
    assert run_and_kill(killed, "compute") == 0
    assert_same_run(killed, uninterrupted)
    assert (killed / "model.keras").read_bytes() == (uninterrupted / "model.keras").read_bytes()


@pytest.mark.one_backend
@pytest.mark.parametrize("kills", [4, pytest.param(20, marks=pytest.mark.slow)])
def test_a_run_killed_at_random_times_equals_an_uninterrupted_run(tmp_path, run_and_kill, uninterrupted, kills):
    """It is killed at random times, and its steps file is damaged in between."""
    killed = tmp_path / "killed"
    epoch = np.median(np.loadtxt(uninterrupted / "history.csv", delimiter=",", skiprows=1)[:, -1])
    begins = ("in an epoch", "between steps and checkpoint") * (kills // 2)
    pauses = np.random.default_rng(0).uniform(0, 1.5 * epoch, kills)
    codes = [run_and_kill(killed, moment="between steps and checkpoint", count=3)]
    codes += [run_and_kill(killed, moment=begin, seconds=pause) for begin, pause in zip(begins, pauses, strict=True)]
    assert codes.count(-signal.SIGKILL) > kills // 2, "too few processes were killed"
    table = (killed / "steps.csv").read_bytes()
    (killed / "steps.csv").write_bytes(table.replace(b"\n1,", b"\n1;"))
    assert run_and_kill(killed) == 1
    (killed / "steps.csv").write_bytes(table)
    assert run_and_kill(killed) == 0
    assert_same_run(killed, uninterrupted)


def test_the_history_of_a_run_killed_after_its_last_checkpoint_is_completed(folder):
    lines = (folder / "history.csv").read_text().splitlines(keepends=True)
    (folder / "history.csv").write_text("".join(lines[:2]))
    with RunDirectory(folder, resume=True) as run:
        train(run)
    assert (folder / "history.csv").read_text() == "".join(lines)


KILLED_WHILE_WRITING = """
import os, signal, sys
from pathlib import Path
from keras_course.files import replacing, replacing_by_name
folder = Path(sys.argv[1])
names = ("checkpoint.npz", "history.csv", "metrics.json", "report.html", "figures/curves.png", "[1]*.txt")
begun = [replacing(folder / name) for name in names]
for one in begun:
    file = one.__enter__()
    file.write(b"half")
    file.flush()
begun += [replacing_by_name(folder / name) for name in ("model.keras", "model.weights.h5")]
for one in begun[-2:]:
    one.__enter__().write_bytes(b"half")
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_only_temporary_files_of_killed_runs_are_removed(folder):
    before = contents(folder)
    subprocess.run([sys.executable, "-c", KILLED_WHILE_WRITING, str(folder)], cwd=ROOT, check=False)
    assert len(contents(folder)) == len(before) + 8
    kept = [".notes.part", "notes.part", "model.keras.part", ".my.notes.part", ".model.keras.part"]
    for name in kept:
        (folder / name).write_text("mine")
    with replacing(folder / "history.csv") as file:  # of a running process
        RunDirectory(folder, resume=True).close()
        file.write(before[Path("history.csv")])
    left = [path for path in contents(folder) if path not in before and str(path) not in kept]
    assert [path.name[:10] for path in left] == [".[1]*.txt."], "only the file that does not belong to a run"
    assert [name for name in kept if (folder / name).exists()] == kept
    with replacing(folder / "[1]*.txt") as file:
        file.write(b"whole")
    assert {str(path) for path in contents(folder)} == {*map(str, before), *kept, "[1]*.txt"}
    assert not [path for path in folder.rglob("*") if path.is_dir() and path.name != "figures"]


# --- A full disk -----------------------------------------------------------------------------------------------


def no_space(*_, **__):
    raise OSError(errno.ENOSPC, "No space left on device")


def write_half_a_model(model, path):
    Path(path).write_bytes(b"half a model")
    no_space()


@pytest.mark.parametrize(
    ("owner", "name", "write", "file"),
    [
        (
            os,
            "fsync",
            lambda run: run.save_checkpoint(Checkpoint({}, {"epoch": [9]}, [np.zeros(9)], [])),
            "checkpoint.npz",
        ),
        (
            np,
            "savez",
            lambda run: run.save_checkpoint(Checkpoint({}, {"epoch": [9]}, [np.zeros(9)], [])),
            "checkpoint.npz",
        ),
        (os, "fsync", lambda run: run.write_history({"epoch": [9]}), "history.csv"),
        (os, "fsync", lambda run: run.write_json("metrics.json", {"accuracy": 1}), "metrics.json"),
        (os, "fsync", lambda run: run.start_steps(3), "steps.csv"),
        (keras.Model, "save", lambda run: run.save_model(tiny()), "model.keras"),
    ],
)
def test_a_full_disk_leaves_the_old_files(folder, monkeypatch, owner, name, write, file):
    before = contents(folder)
    monkeypatch.setattr(owner, name, write_half_a_model if name == "save" else no_space)
    with RunDirectory(folder, resume=True) as run, pytest.raises(CourseError) as error:
        write(run)
    words = f"cannot write {folder / file} (No space left on device); free some space, then start again"
    assert str(error.value) == words
    assert contents(folder) == before


@pytest.mark.parametrize(
    ("write", "file", "largest"),
    [
        *(
            (
                lambda run: run.save_checkpoint(Checkpoint({}, {"epoch": [9]}, [np.zeros(999)], [])),
                "checkpoint.npz",
                size,
            )
            for size in (0, 100, 8000)
        ),
        *((lambda run: run.save_model(tiny(), CARD), "model.keras", size) for size in (0, 1000, 8000, 20_000)),
        (lambda run: run.write_json("metrics.json", {"accuracy": [1] * 1000}), "metrics.json", 500),
        (lambda run: plots.save(Figure(), run.figures / "empty.png"), "figures/empty.png", 100),
    ],
)
def test_a_disk_that_fills_up_leaves_the_old_files(folder, tmp_path, monkeypatch, small_disk, write, file, largest):
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    before = contents(folder)
    with RunDirectory(folder, resume=True) as run, small_disk(largest), pytest.raises(CourseError) as error:
        write(run)
    assert str(error.value) == f"cannot write {folder / file} (File too large); free some space, then start again"
    assert contents(folder) == before
    # Keras leaves an empty folder
    assert not [path for path in (tmp_path / "temporary").rglob("*") if path.is_file()]


def test_a_run_after_a_full_disk_equals_an_uninterrupted_run(tmp_path, small_disk, monkeypatch):
    def on_small_disk(method, largest):
        """Limits only the files of the run, because a backend can write compiled programs."""

        def limited(run, *arguments, **settings):
            with small_disk(largest):
                return method(run, *arguments, **settings)

        return limited

    def run_all(folder, model):
        with RunDirectory(folder, resume=True) as run:
            return train(run, model=model, epochs=30, log_steps=True)

    expected = tiny()
    history = run_all(tmp_path / "unbroken", expected)
    size = (tmp_path / "unbroken" / "checkpoint.npz").stat().st_size
    files = []
    for largest in (30, 400, size - 1500, size - 500, size - 50):
        with monkeypatch.context() as context:
            for name in ("save_checkpoint", "start_steps", "append_steps"):
                context.setattr(RunDirectory, name, on_small_disk(getattr(RunDirectory, name), largest))
            with pytest.raises(CourseError, match="cannot write") as error:
                run_all(tmp_path / "run", tiny())
        files.append(Path(error.value.filename).name)
    assert {"steps.csv", "checkpoint.npz"} <= set(files)
    model = tiny()
    assert run_all(tmp_path / "run", model) | {"seconds": 0} == history | {"seconds": 0}
    for weight, other in zip(model.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_array_equal(weight, other)
    assert set(contents(tmp_path / "run")) == set(contents(tmp_path / "unbroken"))
    assert (tmp_path / "run" / "steps.csv").read_text() == (tmp_path / "unbroken" / "steps.csv").read_text()


# --- Links -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["symlink", "hard link", "dangling"])
@pytest.mark.parametrize("name", ["checkpoint.npz", "history.csv", "steps.csv", "metrics.json", "model.keras", ".lock"])
def test_links_are_replaced_and_not_followed(folder, tmp_path, name, kind):
    """In a shared folder, somebody could put a link to another file in place of a file of the run."""
    victim = tmp_path / "victim"
    victim.write_text("precious")
    begun = {path: (folder / path).read_bytes() for path in contents(folder)}
    (folder / name).unlink(missing_ok=True)
    if kind == "hard link":
        (folder / name).hardlink_to(victim)
    else:
        (folder / name).symlink_to(victim if kind == "symlink" else tmp_path / "made")
    with RunDirectory(folder, resume=True) as run:
        run.start_steps(0)
        if name == "steps.csv":  # put there again
            (folder / name).unlink()
            (folder / name).symlink_to(victim if kind == "symlink" else tmp_path / "made")
        run.append_steps(1, [0.5])
        run.save_checkpoint(Checkpoint({}, {"epoch": [1]}, [np.zeros(1)], []))
        run.write_json("metrics.json", {})
        run.save_model(tiny())
    assert victim.read_text() == "precious"
    assert not (tmp_path / "made").exists()
    assert set(contents(folder)) == set(begun)
    assert not any(path.is_symlink() for path in folder.iterdir())


def test_a_checkpoint_with_weights_of_other_shapes_is_refused(folder):
    path = folder / "checkpoint.npz"
    path.write_bytes(with_first_weights(np.zeros((2, 2), "float32"))(path.read_bytes()))
    model = tiny()
    before = model.get_weights()
    with (
        RunDirectory(folder, resume=True) as run,
        pytest.raises(CourseError, match="the run to resume has weights of other shapes; start a new run in another"),
    ):
        train(run, model=model, epochs=3)
    for weight, expected in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, expected)


# --- Missing descriptions do not prevent saving ----------------------------------------------------------------


def test_a_model_that_was_not_trained_keeps_its_card(tmp_path):
    card = dataclasses.replace(CARD, metrics={"accuracy": 0.75}, training={"epochs": 300})
    with RunDirectory(tmp_path) as run:
        metrics = run.save_results(tiny(), {}, SETTINGS, card=card, metrics={"right": 5})
    assert read_card(tmp_path / "model.keras").metrics == {"accuracy": 0.75}
    assert read_card(tmp_path / "model.keras").training == {"epochs": 300}
    assert not {"epochs", "seconds", "steps_per_second", "batch_size", "samples"} & set(metrics)
    assert {"right": 5, "seed": 0, "parameters": 74}.items() <= metrics.items()


HISTORY = {"epoch": [1], "loss": [0.5], "seconds": [0.1]}


def test_a_package_without_metadata_is_no_error(tmp_path, monkeypatch):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    with RunDirectory(tmp_path) as run:
        metrics = run.save_results(tiny(), HISTORY, SETTINGS, samples=8, card=CARD, metrics={})
    assert metrics["versions"]["keras"] == keras.__version__
    assert read_card(tmp_path / "model.keras").training["versions"]["numpy"] == np.__version__


@pytest.mark.parametrize("name", ["device_in_use", "_versions", "median"])
def test_unknown_versions_and_devices_are_left_out(tmp_path, monkeypatch, name):
    def fails(*_):
        raise RuntimeError("nobody knows")

    owner = {"device_in_use": _backend, "_versions": run_directory, "median": statistics}[name]
    monkeypatch.setattr(owner, name, fails)
    with RunDirectory(tmp_path) as run:
        measured = {"accuracy": np.float32(0.5)}
        metrics = run.save_results(tiny(), HISTORY, SETTINGS, samples=8, card=CARD, metrics=measured)
    missing = {"device_in_use": "device", "_versions": "versions", "median": "steps_per_second"}[name]
    assert missing not in metrics
    assert json.loads((tmp_path / "metrics.json").read_text())["accuracy"] == 0.5
    assert read_card(tmp_path / "model.keras").metrics == {"accuracy": 0.5}


def test_metrics_that_a_card_cannot_hold_are_left_out(tmp_path):
    with RunDirectory(tmp_path) as run:
        measured = {"loss": float("nan"), "per_class": np.ones(2)}
        run.save_results(tiny(), HISTORY, SETTINGS, samples=8, card=CARD, metrics=measured)
    assert read_card(tmp_path / "model.keras").metrics == {}
    assert json.loads((tmp_path / "metrics.json").read_text())["per_class"] == [1, 1]


def test_a_wrong_card_does_not_prevent_saving_the_model(tmp_path):
    with (
        RunDirectory(tmp_path) as run,
        pytest.raises(CourseError, match=r"8 numbers .* \(the model is saved without a card"),
    ):
        run.save_results(tiny(num_classes=8), HISTORY, SETTINGS, samples=8, card=CARD, metrics={})
    assert read_card(tmp_path / "model.keras") is None
    assert (tmp_path / "metrics.json").exists()


def test_the_weights_of_a_model_without_a_config_are_saved(tmp_path):
    inputs = keras.Input((3,))
    model = keras.Model(inputs, keras.layers.Lambda(lambda x: x)(keras.layers.Dense(2)(inputs)))
    with (
        RunDirectory(tmp_path) as run,
        pytest.raises(CourseError, match=r"'Lambda' .*\(its weights are in .*weights\.h5\)"),
    ):
        run.save_model(model)
    assert not (tmp_path / "model.keras").exists()
    before = model.get_weights()
    model.set_weights([0 * array for array in before])
    model.load_weights(tmp_path / "model.weights.h5")
    np.testing.assert_array_equal(model.get_weights()[0], before[0])


def test_a_model_of_several_inputs_is_saved_without_a_card(tmp_path):
    one, two = keras.Input((3,)), keras.Input((3,))
    model = keras.Model([one, two], keras.layers.Add()([one, two]))
    with RunDirectory(tmp_path) as run:
        run.save_model(model)
        with pytest.raises(CourseError, match="the model has 2 inputs, and a card is for models that take one picture"):
            run.save_model(model, CARD)


def test_a_model_that_cannot_be_saved_at_all_is_explained(tmp_path):
    class Closed(keras.layers.Layer):
        def build(self, _):
            self.add_weight(shape=(2,))

        def call(self, x):
            return x

        def save_own_variables(self, store):
            raise ValueError("these weights are secret")

    inputs = keras.Input((3,))
    model = keras.Model(inputs, keras.layers.Lambda(lambda x: x)(Closed()(inputs)))
    with RunDirectory(tmp_path) as run:
        with pytest.raises(CourseError, match="Lambda") as caught:
            run.save_model(model)
        assert "its weights are in" not in str(caught.value)
    assert not list(tmp_path.glob("*model*"))


# --- The run of another lesson ---------------------------------------------------------------------------------


def test_the_run_whose_model_a_lesson_uses_is_found(folder, tmp_path):
    runs = tmp_path / "runs"
    for name in ("05_dense", "06_cnn"):
        shutil.copytree(folder, runs / name)
    (runs / "06_cnn" / "model.keras").unlink()  # it has not ended
    assert find_run("new", ["05_dense"], runs) is None
    assert find_run("auto", ["04_missing", "06_cnn"], runs) is None
    assert find_run("auto", ["06_cnn", "05_dense"], runs) == runs / "05_dense"
    assert find_run(str(folder), ["05_dense"], runs) == folder
    (folder / "history.csv").unlink()
    for name in (folder, tmp_path / "nowhere"):
        with pytest.raises(
            CourseError, match=rf"--model is '{name}', which holds no model\.keras and history\.csv; give"
        ):
            find_run(str(name), ["05_dense"], runs)
