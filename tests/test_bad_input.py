"""User errors with a real lesson: one helpful line, exit code 2, and no lost files."""

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from keras_course._backend.select import INSTALL
from keras_course.datasets import mnist
from keras_course.training import RunDirectory

ROOT = Path(__file__).parents[1]
LESSON = "04_mnist_dense"
# The only messages of frameworks that cannot be suppressed and are ignored.
IGNORED = re.compile(r"[IWEF]\d{4} \d\d:\d\d|WARNING: All log messages before absl::InitializeLog")


def run_lesson(*arguments):
    """Runs the lesson through the command line; returns exit code, output, and the lines of the error output."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "keras_course", "run", LESSON, *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200, check=False)
    return (
        done.returncode,
        done.stdout,
        [line for line in done.stderr.splitlines() if not IGNORED.match(line)],
    )


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def assert_one_line(result, *parts):
    code, output, errors = result
    assert code == 2, errors
    assert "Traceback" not in output
    assert len(errors) == 1, errors
    assert errors[0].startswith("error: ")
    for part in parts:
        assert part in errors[0]


ABSENT = [name for name in INSTALL if find_spec(name) is None]


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--backend", "theano"], ["--backend is 'theano'", "jax, torch, tensorflow"]),
        *((["--backend", name], [f"'{name}', which is not installed", INSTALL[name]]) for name in ABSENT),
        (["--batch-size", "0"], ["--batch-size is 0; give"]),
        (["--epochs", "0"], ["--epochs is 0; give"]),
        (["--seed", "-1"], ["--seed is -1; give"]),
        (["--data", "no/such/digits.npz"], ["--data is 'no/such/digits.npz'", "which does not exist"]),
        (["--learning-rate", "1"], ["--learning-rate", "--help"]),
    ],
)
def test_a_wrong_option_is_explained_in_one_line(tmp_path, monkeypatch, arguments, parts):
    monkeypatch.chdir(tmp_path)
    assert_one_line(run_lesson(*arguments), *parts)
    assert not contents(tmp_path)


def test_a_file_as_output_folder_is_refused(tmp_path):
    (tmp_path / "thesis.txt").write_text("three years of work")
    assert_one_line(run_lesson("--output", tmp_path / "thesis.txt"), "thesis.txt", "not a folder")
    assert contents(tmp_path) == {Path("thesis.txt"): b"three years of work"}


# --- Errors after Keras has started ----------------------------------------------------------------------------


def digits(**changes):
    random = np.random.default_rng(0)
    arrays = {
        "x_train": random.integers(0, 256, (40, 28, 28), dtype=np.uint8),
        "y_train": np.arange(40, dtype=np.uint8) % 10,
        "x_test": random.integers(0, 256, (20, 28, 28), dtype=np.uint8),
        "y_test": np.arange(20, dtype=np.uint8) % 10,
    }
    return arrays | changes


def broken_archive(folder):
    (folder / "digits.npz").write_bytes(mnist.SAMPLE_FILE.read_bytes()[:5000])
    return ["--data", folder / "digits.npz"]


def wrong_labels(folder):
    np.savez(folder / "digits.npz", **digits(y_test=np.arange(20, dtype=np.uint8)))
    return ["--data", folder / "digits.npz"]


def finished_run(folder):
    (folder / "run").mkdir()
    (folder / "run" / "model.keras").write_bytes(b"the work of a night")
    return ["--data", "sample", "--output", folder / "run"]


def broken_checkpoint(folder):
    (folder / "run").mkdir()
    (folder / "run" / "checkpoint.npz").write_bytes(b"half a checkpo")
    (folder / "run" / "notes.txt").write_bytes(b"mine")
    return ["--data", "sample", "--output", folder / "run", "--resume", "--epochs", "1", "--quiet"]


def busy_folder(folder):
    OPEN_RUNS.append(RunDirectory(folder / "run"))
    OPEN_RUNS[-1].write_history({"epoch": [1]})
    return ["--data", "sample", "--output", folder / "run"]


OPEN_RUNS: list[RunDirectory] = []  # kept open by this process while the lessons run
SITUATIONS = {
    broken_archive: ["digits.npz does not hold MNIST digits"],
    wrong_labels: ["digits.npz", "labels from 0 to 19"],
    finished_run: ["holds a run already; add --resume"],
    broken_checkpoint: ["checkpoint.npz is not a checkpoint that can be read"],
    busy_folder: ["is in use by another run"],
}


@pytest.mark.parametrize(
    "situation",
    # one of them on each backend, which may write more than one line; the others do not depend on the backend
    [wrong_labels, *(pytest.param(each, marks=pytest.mark.one_backend) for each in SITUATIONS if each != wrong_labels)],
    ids=lambda situation: situation.__name__,
)
def test_errors_after_the_start_are_explained_in_one_line(tmp_path, situation):
    arguments = situation(tmp_path)
    before = contents(tmp_path)
    result = run_lesson("--output", tmp_path / "new", *arguments)
    while OPEN_RUNS:
        OPEN_RUNS.pop().close()
    assert_one_line(result, *SITUATIONS[situation])
    after = {path: content for path, content in contents(tmp_path).items() if path.name != ".lock"}
    for path in before.keys() & after.keys():
        assert after[path] == before[path], path
    assert before.keys() - {Path("run/.lock")} <= after.keys(), "a file is missing"
    assert [path for path in after.keys() - before.keys() if "figures" not in path.parts] == []
