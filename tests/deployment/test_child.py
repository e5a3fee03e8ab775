"""The process of a model, started as `isolation` starts it: answers, heat, errors, exports, and a normal end."""

import os
import shutil
from contextlib import contextmanager
from pathlib import Path

import keras
import numpy as np
import psutil
import pytest

from keras_course.cards import read_card
from keras_course.deployment.formats import ModelFile, find_model_file
from keras_course.deployment.isolation import LimitedProcess, ModelProcess, ProcessLimits
from keras_course.deployment.model_files import load_keras_model
from keras_course.deployment.runtimes import open_here
from keras_course.errors import CourseError
from keras_course.explain import grad_cam
from keras_course.training import predict_logits

BACKEND = keras.backend.backend()
LIMITS = ProcessLimits(memory=6 * 2**30, seconds=120)


@pytest.fixture
def ended(monkeypatch):
    """Returns a context manager that ends a process by closing its input, and checks that it ends without an error.

    A process that is killed loses what coverage measured. A model's process may write into its own folder only, from
    which the measurement is moved to the others.
    """
    measured = os.environ.get("COVERAGE_FILE")
    if measured:
        monkeypatch.setenv("COVERAGE_FILE", "data")  # in the current folder of the process

    @contextmanager
    def ended(process):
        with process:
            folder = Path(psutil.Process(process.pid).cwd())
            yield process
            process._process.stdin.close()
            assert process._process.wait(60) == 0
            for file in folder.glob("data.*") if measured else ():
                shutil.move(file, Path(measured).parent / file.name.replace("data", Path(measured).name, 1))

    return ended


def pictures(card, count):
    return np.random.default_rng(count).integers(0, 256, (count, *card.picture_format.shape), dtype="uint8")


def test_a_keras_model_answers_explains_itself_and_reports_errors(cnn_run, ended):
    model, card = load_keras_model(cnn_run / "model.keras"), read_card(cnn_run / "model.keras")
    with ended(ModelProcess(find_model_file(cnn_run), LIMITS, backend=BACKEND, device="cpu")) as process:
        found, facts = process.introduce()
        assert found == card
        assert facts["runtime"].startswith(f"Keras {keras.__version__} on {BACKEND}")
        assert facts["compiled"]
        x = pictures(card, 3)
        np.testing.assert_allclose(process.outputs(x, 5), predict_logits(model, x), atol=1e-5)
        np.testing.assert_allclose(process.heat(x[0], 2), grad_cam(model, x[0], label=2), atol=1e-4)
        with pytest.raises(CourseError, match=r"pictures have the shape \(1, 9, 9, 3\); give \(n, 20, 28, 3\)"):
            process.outputs(np.zeros((1, 9, 9, 3), "uint8"), 5)
        floats = x.astype("float32") + np.float32(0.25)
        np.testing.assert_allclose(process.outputs(floats, 5), predict_logits(model, floats), atol=1e-5)


def test_a_model_without_convolution_has_no_heat(dense_run):
    """This costs no process: the model's process calls the same function."""
    runtime = open_here(find_model_file(dense_run))
    assert runtime.heat(pictures(runtime.card, 1)[0], 0) is None


@pytest.mark.one_backend
def test_an_onnx_file_answers_without_keras_and_has_no_heat(cnn_run, onnx_file, ended):
    model, card = load_keras_model(cnn_run / "model.keras"), read_card(cnn_run / "model.keras")
    x = pictures(card, 4)
    with ended(ModelProcess(find_model_file(onnx_file), ProcessLimits(threads=1))) as process:
        found, facts = process.introduce()
        assert (found, facts["compiled"]) == (card, False)
        assert facts["runtime"].startswith("ONNX Runtime ")
        np.testing.assert_allclose(process.outputs(x, 5), predict_logits(model, x), atol=1e-5)
        assert process.heat(x[0], 1) is None


@pytest.mark.one_backend
def test_a_damaged_model_is_one_error_message_and_a_normal_end(onnx_file, tmp_path, ended):
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes(onnx_file.read_bytes()[:-1000])
    with (
        ended(ModelProcess(ModelFile(damaged, "onnx"), ProcessLimits())) as process,
        pytest.raises(CourseError, match=r"damaged\.onnx is not opened: it is damaged"),
    ):
        process.introduce()


@pytest.mark.one_backend
def test_pictures_beyond_the_memory_limit_are_one_error_message_and_a_normal_end(onnx_file, ended):
    request = {"ask": "outputs", "shape": [2**34], "dtype": "|u1"}  # 16 GiB, of which none is sent
    with ended(ModelProcess(find_model_file(onnx_file), ProcessLimits(threads=1))) as process:
        process.introduce()
        with pytest.raises(CourseError, match=r"model\.onnx takes more memory than it may"):
            process._ask(request, np.zeros(0, "uint8"), 20, None)


@pytest.mark.one_backend
def test_the_export_task_writes_the_file_and_describes_it(dense_run, tmp_path, ended):
    output = tmp_path / "written.onnx"
    settings = {"format": "onnx", "output": str(output), "quantize": ""}
    path = dense_run / "model.keras"
    with ended(LimitedProcess("export", path, LIMITS, backend=BACKEND, device="cpu", **settings)) as process:
        done = process.receive()
    assert done["path"] == str(output)
    assert (done["format"], done["written_by"], done["size"]) == ("onnx", BACKEND, output.stat().st_size)
    assert 0 <= done["difference"] < 1e-5


@pytest.mark.one_backend
def test_a_model_without_a_card_gets_numbers_as_class_names_and_its_own_kind_of_output(tmp_path):
    for activation, outputs in ((None, "logits"), ("softmax", "softmax")):
        inputs = keras.Input((8, 6, 3))
        scores = keras.layers.Dense(4, activation=activation)(keras.layers.Flatten()(inputs))
        path = tmp_path / f"{outputs}.keras"
        keras.Model(inputs, scores).save(path)
        card = open_here(find_model_file(path), needs_card=False).card
        assert card.class_names == ("0", "1", "2", "3")
        assert (card.picture_format.shape, card.outputs) == ((8, 6, 3), outputs)
        with pytest.raises(CourseError, match="card"):
            open_here(find_model_file(path))
