"""Exports in formats that this backend cannot write: a second process writes them on another backend.

This needs all backends in one environment: `tox -e export`.
"""

import keras
import numpy as np
import pytest

from keras_course._backend import select
from keras_course.cards import ModelCard, read_card
from keras_course.deployment import export, formats
from keras_course.deployment.export import export_model
from keras_course.deployment.model_files import load_keras_model
from keras_course.deployment.runtimes import open_model
from keras_course.errors import CourseError
from keras_course.models import dense_classifier
from keras_course.preprocessing import PictureFormat
from keras_course.training import RunDirectory, predict_logits

BACKEND = keras.backend.backend()
OTHERS = sorted(set(select.INSTALL) - {BACKEND})
MISSING = [name for name in select.INSTALL if not select.is_installed(name)]

pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"{', '.join(MISSING)} is not installed; tox -e export has all")

# The formats that this backend cannot write, and a backend that can.
WRITERS = {kind: next(iter(known.writers)) for kind, known in formats.FORMATS.items() if BACKEND not in known.writers}


@pytest.mark.parametrize("kind", WRITERS)
def test_another_backend_writes_the_format(make_run, kind):
    run = make_run("cnn")
    written = export_model(run, format=kind, trust=True)
    assert written.written_by == WRITERS[kind] != BACKEND
    assert 0 < written.difference < 1e-4
    assert [path.name for path in (run / "exports").iterdir()] == [formats.FORMATS[kind].file_name]
    if kind == "litert":  # the other runtimes are frameworks, which conflict with this one in one process
        runtime = open_model(written.path, trust=True)
        x = np.random.default_rng(0).integers(0, 256, (3, *runtime.card.picture_format.shape), dtype="uint8")
        expected = predict_logits(load_keras_model(run / "model.keras"), x)
        np.testing.assert_allclose(runtime.logits(x), expected, atol=1e-4)
        assert runtime.card == read_card(run / "model.keras")


def test_another_backend_writes_if_a_package_is_missing(make_run, monkeypatch):
    packages, _ = formats.FORMATS["onnx"].writers[BACKEND]
    is_installed = select.is_installed
    monkeypatch.setattr(select, "is_installed", lambda name: name != packages[-1] and is_installed(name))
    assert export_model(make_run("dense"), format="onnx", trust=True).written_by in OTHERS


def test_another_backend_writes_a_bfloat16_model_in_float32(tmp_path):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = dense_classifier(input_shape=(6, 5, 1), hidden=(8,), num_classes=3, seed=1)
    finally:
        keras.config.set_dtype_policy("float32")
    with RunDirectory(tmp_path / "run") as run:
        card = ModelCard(
            title="A net",
            class_names=tuple("abc"),
            picture_format=PictureFormat(height=6, width=5, channels=1),
            data="nothing",
        )
        run.save_model(model, card)
    (kind, *_) = WRITERS
    assert export_model(tmp_path / "run", format=kind, trust=True).difference < 1e-5


def test_wrong_logits_of_the_other_process_are_refused(make_run, monkeypatch):
    run = make_run("dense")
    (kind, *_) = WRITERS
    open_keras = export.open_keras
    monkeypatch.setattr(export, "open_keras", lambda model: ("Keras", lambda x: open_keras(model)[1](x) + 0.01))
    with pytest.raises(CourseError, match=r"gives other answers than Keras: logits differ by 0.01"):
        export_model(run, format=kind, trust=True)
    assert not any((run / "exports").iterdir())


def test_a_process_beyond_the_time_limit_is_ended(make_run, monkeypatch):
    monkeypatch.setattr(export, "SECONDS", 0.01)
    (kind, *_) = WRITERS
    with pytest.raises(CourseError, match=r"took more than 0.01 seconds"):
        export_model(make_run("dense"), format=kind, trust=True)


def test_a_failing_process_is_explained(make_run, monkeypatch):
    monkeypatch.setattr(export, "__name__", "keras_course.no_such_module")
    (kind, *_) = WRITERS
    with pytest.raises(CourseError, match=rf"cannot be written on {WRITERS[kind]}: .*no_such_module"):
        export_model(make_run("dense"), format=kind, trust=True)
