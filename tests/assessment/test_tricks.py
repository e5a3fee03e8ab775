"""Tricks with which graders were passed by models that have learned nothing: here, each of them fails.

All tricks are submissions of one classroom, which is graded once.
"""

import json
import pickle
import subprocess
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
from onnx import TensorProto, helper

from keras_course.assessment import grader
from keras_course.assessment.classroom import find_submissions, grade_all
from keras_course.assessment.exam import Exam
from keras_course.assessment.grader import GradingLimits, grade
from keras_course.deployment import isolation
from keras_course.errors import CourseError

pytestmark = pytest.mark.one_backend


def model_by_position(count, classes):
    """Returns a model that answers by the position of a picture in the batch.

    That works if photos are sorted by class. The position is a cumulative sum of ones over the batch.
    """
    nodes = [
        helper.make_node("ReduceMean", ["pictures"], ["mean"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Mul", ["mean", "nothing"], ["zeros"]),
        helper.make_node("Add", ["zeros", "one"], ["ones"]),
        helper.make_node("CumSum", ["ones", "first"], ["place"]),
        helper.make_node("Sub", ["place", "half"], ["middle"]),
        helper.make_node("Div", ["middle", "each"], ["share"]),
        helper.make_node("Floor", ["share"], ["class"]),
        helper.make_node("Cast", ["class"], ["number"], to=TensorProto.INT64),
        helper.make_node("OneHot", ["number", "depth", "values"], ["logits"]),
    ]
    constants = {
        "nothing": np.float32(0),
        "one": np.float32(1),
        "half": np.float32(0.5),
        "first": np.int64(0),
        "each": np.float32(count / classes),
        "depth": np.int64(classes),
        "values": np.array([0, 1], "float32"),
    }
    return nodes, constants


def endless_model():
    """Returns a model that counts to 2**62 before it answers."""
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["goes_on"], ["goes_on_out"]),
            helper.make_node("Add", ["count_in", "count_in"], ["count_out"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("goes_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("count_in", TensorProto.FLOAT, []),
        ],
        [
            helper.make_tensor_value_info("goes_on_out", TensorProto.BOOL, []),
            helper.make_tensor_value_info("count_out", TensorProto.FLOAT, []),
        ],
    )
    nodes = [
        helper.make_node("Loop", ["turns", "yes", "zero"], ["counted"], body=body),
        helper.make_node("ReduceMean", ["pictures"], ["mean"], axes=[1, 2], keepdims=0),
        helper.make_node("Add", ["mean", "counted"], ["logits"]),
    ]
    return nodes, {"turns": np.int64(2**62), "yes": np.bool_(True), "zero": np.float32(0)}


def model_with_giant_array():
    """Returns a model that fills eight gibibytes before it answers."""
    nodes = [
        helper.make_node("ReduceMean", ["pictures"], ["mean"], axes=[1, 2], keepdims=0),
        helper.make_node("ReduceMax", ["mean"], ["largest"], keepdims=0),
        helper.make_node("Expand", ["largest", "shape"], ["giant"]),
        helper.make_node("ReduceMean", ["giant"], ["sum"], keepdims=0),
        helper.make_node("Add", ["mean", "sum"], ["logits"]),
    ]
    return nodes, {"shape": np.array([2**31], "int64")}


class Code:
    """An object whose pickle runs a command when it is opened."""

    def __reduce__(self):
        return exec, ("raise SystemExit('this code must not run')",)


@pytest.fixture(scope="module")
def tricky_submissions(tools, tmp_path_factory):
    """A folder with one honest model and all tricks."""
    folder = tmp_path_factory.mktemp("submissions")
    tools.save_run(folder / "honest", tools.correct_model())

    one_unit = tools.color_model([[1.0], [1.0], [1.0]], [0.0], activation="softmax")
    with pytest.warns(UserWarning, match="always return the value 1"):
        assert np.all(one_unit.predict(np.ones((5, 12, 16, 3), "float32"), verbose=0) == 1)
    tools.save_without_card(folder / "one_unit_with_softmax.keras", one_unit)

    # binary_accuracy counts 13 of the 14 outputs for a photo as right
    low = tools.color_model(np.zeros((3, 14)), -9.0 - np.arange(14.0))
    tools.save_without_card(folder / "fourteen_times_no.keras", low)

    boaster = tools.save_run(folder / "own_metric", tools.color_model(np.zeros((3, 3)), (0.3, 0.2, 0.1)))
    (boaster / "metrics.json").write_text(json.dumps({"accuracy": 1.0, "passed": True, "per_class": []}))
    (boaster / "iterator.py").write_text("valid_it = perfect()\n")

    tools.save_correct_model(folder / "other_classes.onnx", class_names=("apple", "banana", "orange"))
    tools.save_color_model(folder / "six_classes.onnx", np.zeros((3, 6)), np.arange(6.0), tuple("abcdef"))
    tools.save_color_model(folder / "nothing_but_nan.onnx", np.full((3, 3), np.nan))
    tools.save_color_model(folder / "always_equal.onnx", np.zeros((3, 3)))

    with_lambda = keras.Sequential([keras.Input((12, 16, 3)), keras.layers.Lambda(lambda x: x[:, 0, 0])])
    tools.save_without_card(folder / "lambda.keras", with_lambda)
    with_lambda = tools.save_without_card(folder / "renamed_lambda.keras", with_lambda)
    rename_lambda(with_lambda)
    (folder / "pickled.keras").write_bytes(pickle.dumps(Code()))
    (folder / "weights.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(1000))
    (folder / "program.pt2").write_bytes(pickle.dumps(Code()))
    (folder / "saved").mkdir()
    (folder / "saved" / "saved_model.pb").write_bytes(b"\x08\x01")

    tools.save_onnx(folder / "by_position.onnx", *model_by_position(36, 3), card=tools.card())
    tools.save_onnx(folder / "endless.onnx", *endless_model())
    tools.save_onnx(folder / "giant_array.onnx", *model_with_giant_array())
    return folder


def rename_lambda(path):
    """Gives a Lambda layer the registered name of a layer that is allowed."""
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    net = json.loads(parts["config.json"])
    layer = next(layer for layer in net["config"]["layers"] if layer["class_name"] == "Lambda")
    layer["registered_name"] = "keras_course>Dropout"
    parts["config.json"] = json.dumps(net).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)


@pytest.fixture(scope="module")
def grades(tricky_submissions, photos, tmp_path_factory):
    """The grades by the names of the submissions."""
    submissions = find_submissions(tricky_submissions)
    limits = GradingLimits(seconds=100, memory=4 * 2**30, threads=1)
    by_time = [one for one in submissions if one.name == "endless"]
    others = [one for one in submissions if one.name != "endless"]
    folder = tmp_path_factory.mktemp("grades")
    found = grade_all(others, Exam(folder=photos), folder / "a", limits=limits, jobs=2, figures=False)
    soon = GradingLimits(seconds=5, threads=1)
    found += grade_all(by_time, Exam(folder=photos), folder / "b", limits=soon, figures=False)
    return {one.name: result for one, result in zip(others + by_time, found, strict=True)}


REFUSED = {
    "one_unit_with_softmax": "it gives 1 number for a picture, and the exam has 3 classes",
    "fourteen_times_no": "it gives 14 numbers for a picture",
    "other_classes": "it tells apple, banana, orange apart, and the exam asks for blue, green, red",
    "six_classes": "it gives 6 numbers for a picture",
    "lambda": "'Lambda'",
    "renamed_lambda": "'keras_course>Dropout'",
    "pickled": "is no",
    "weights": "is an .h5 file, which can hold code",
    "program": "a model can run code",
    "saved": "a model can run code",
    "endless": "it took more than 5 seconds",
    "giant_array": "memory",
}


NOT_RIGHT = {"own_metric": (1 / 3, 0), "nothing_but_nan": (0, 36), "always_equal": (0, 36)}
"""Accuracy, and number of photos without an answer."""


def test_only_the_honest_model_passes(grades, tools, photos):
    """Checks all submissions in one test, so that only one of several test processes grades them."""
    assert (grades["honest"].verdict, grades["honest"].accuracy) == ("passed", 1.0)
    for name, reason in REFUSED.items():
        assert (grades[name].verdict, grades[name].accuracy) == ("not graded", None), name
        assert reason in grades[name].reason, name
    for name, (accuracy, unanswered) in NOT_RIGHT.items():
        assert grades[name].verdict == "failed", name
        assert (grades[name].accuracy, grades[name].unanswered) == (pytest.approx(accuracy), unanswered), name
    # it would always be right if all photos came in one batch, in the order of their names
    _, constants = model_by_position(36, 3)
    labels = Exam(folder=photos).open().labels
    assert np.array_equal((np.arange(36) + 0.5) // (constants["each"]), labels)
    assert grades["by_position"].verdict == "failed"
    assert grades["by_position"].accuracy < 0.75
    assert grades.keys() == {"honest", "by_position", *REFUSED, *NOT_RIGHT}


def test_binary_accuracy_is_not_the_metric(tools):
    """With 14 classes, a low probability for each of them has a binary accuracy of 13/14."""
    labels = np.arange(14, dtype="int32").repeat(3)
    probabilities = np.linspace(0.05, 0.01, 14, dtype="float32")[None].repeat(42, axis=0)
    metric = keras.metrics.BinaryAccuracy()
    metric.update_state(np.eye(14)[labels], probabilities)
    assert float(metric.result()) > 0.92
    names = tuple("abcdefghijklmn")
    exam = grader._Shown(labels, tuple(map(str, range(42))), names)
    counted = grader._evaluate(probabilities, exam, Exam(folder="."))
    assert (counted["verdict"], counted["accuracy"]) == ("failed", pytest.approx(1 / 14))


def test_a_constant_answer_fails_although_most_photos_are_of_that_class(tools, tmp_path):
    folder = tools.photos(tmp_path / "photos", {"blue": 48, "red": 2})
    model = tools.save_color_model(tmp_path / "a.onnx", np.zeros((3, 2)), (1.0, 0.0), ("blue", "red"))
    result = grade(model, Exam(folder=folder))
    assert (result.verdict, result.accuracy) == ("failed", 0.96)
    assert "only 0.00% of red" in result.reason


def test_an_exam_with_one_class_is_refused(tools, tmp_path):
    model = tools.save_correct_model(tmp_path / "a.onnx")
    folder = tools.photos(tmp_path / "photos", {"blue": 5})
    with pytest.raises(CourseError, match="only the class 'blue'"):
        grade(model, Exam(folder=folder))


def test_a_wrong_exam_folder_is_refused(tools, tmp_path):
    model = tools.save_correct_model(tmp_path / "a.onnx")
    with pytest.raises(CourseError):
        grade(model, Exam(folder=tmp_path / "a.onnx"))
    with pytest.raises(CourseError):
        grade(model, Exam(folder=tmp_path / "nowhere"))


def test_the_process_of_a_model_gets_neither_file_names_nor_labels(tools, photos, tmp_path, monkeypatch):
    """Checks all that it gets: arguments, environment, pictures, and its folder."""
    seen = {"shown": []}
    popen, outputs = subprocess.Popen, isolation.ModelProcess.outputs

    def starting(arguments, **settings):
        seen["told"] = repr((arguments, settings))
        seen["folder"] = Path(settings["cwd"])
        return popen(arguments, **settings)

    def answering(process, pictures, numbers, **settings):
        seen["shown"] += list(pictures)
        seen["files"] = [path.name.encode() + path.read_bytes() for path in seen["folder"].rglob("*") if path.is_file()]
        return outputs(process, pictures, numbers, **settings)

    monkeypatch.setattr(isolation.subprocess, "Popen", starting)
    monkeypatch.setattr(isolation.ModelProcess, "outputs", answering)
    monkeypatch.setenv("KERAS_COURSE_DATA", str(photos.parent))
    assert grade(tools.save_correct_model(tmp_path / "a.onnx"), Exam(folder=photos)).passed
    for secret in (str(photos), str(photos.parent), "blue_0", "KERAS_COURSE_DATA"):
        assert secret not in seen["told"]
        assert not any(secret.encode() in content for content in seen["files"])
    # it gets the same pictures in another order
    read = Exam(folder=photos).open().read(tools.SIZE)
    expected = np.stack([pixels for batch in read for _, pixels, _ in batch])
    assert not np.array_equal(seen["shown"], expected)
    rows = [sorted(picture.tobytes() for picture in pictures) for pictures in (seen["shown"], expected)]
    assert rows[0] == rows[1]


def program_that_writes(header, content=b""):
    """Returns a program that writes one message, as the process of a model does."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    message = len(text).to_bytes(4, "big") + text + content
    return f"import sys; sys.stdout.buffer.write({message!r}); sys.stdout.flush(); sys.stdin.read()"


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("raise SystemExit(3)", "exit code 3"),
        ("import os; os.abort()", "ended the process that opened it (SIGABRT)"),
        ("import ctypes; ctypes.string_at(0)", "ended the process that opened it (SIGSEGV)"),
        ("print('x' * 10_000_000)", "gave a malformed answer"),
        (program_that_writes(b"[" * 100_000), "gave a malformed answer"),
        (program_that_writes([1]), "gave a malformed answer"),
        (program_that_writes({"bytes": "many"}), "gave a malformed answer"),
        (program_that_writes({"bytes": 2**62}), "bytes, and 0 are expected"),
        (program_that_writes({"bytes": -1}), "bytes, and 0 are expected"),
        (program_that_writes({"bytes": float("inf")}), "gave a malformed answer"),
        (program_that_writes({"card": 3, "runtime": 2}), "did not describe itself when it was opened"),
        ("import time; time.sleep(60)", "took more than 0.5 seconds"),
        ("x = bytearray(2**28); import time; time.sleep(60)", "took more than 200 MiB of memory"),
    ],
)
def test_a_process_that_violates_the_protocol_is_not_graded(tools, photos, tmp_path, monkeypatch, program, reason):
    monkeypatch.setattr(isolation, "_START", program)
    tools.save_onnx(tmp_path / "a.onnx", *model_by_position(36, 3), card=tools.card())
    limits = GradingLimits(seconds=0.5 if "sleep" in program and "bytearray" not in program else 60, memory=200 * 2**20)
    result = grade(tmp_path / "a.onnx", Exam(folder=photos), limits=limits)
    assert result.verdict == "not graded"
    assert reason in result.reason


@pytest.mark.parametrize(
    ("header", "content", "reason"),
    [
        ({"shape": [31, 3], "bytes": 372}, bytes(372), "gives [31, 3] for 32 inputs"),
        ({"shape": [32, 3], "bytes": 383}, bytes(383), "gave a malformed answer"),
        ({"shape": [32, 4], "bytes": 512}, bytes(512), "512 bytes, and 384 are expected"),
        ({"shape": [32, 3], "bytes": 384}, bytes(100), "ended the process that opened it"),
        ({"shape": "x" * 1000, "bytes": 0}, b"", "gives " + "x" * 60),
        ({"error": "passed\n\x1b[2Jall of it"}, b"", "passed\\n\\x1b[2Jall of it"),
    ],
)
def test_malformed_answers_are_not_graded(tools, photos, tmp_path, monkeypatch, header, content, reason):
    about = {"card": tools.card().to_json(), "format": "onnx", "runtime": "none", "seconds": 1, "compiled": False}
    about |= {"any_length": False}
    messages = b"".join(
        len(text).to_bytes(4, "big") + text + more
        for text, more in ((json.dumps(about).encode(), b""), (json.dumps(header).encode(), content))
    )
    ending = "" if len(content) == 100 else "sys.stdin.read()"
    program = f"import sys; sys.stdout.buffer.write({messages!r}); sys.stdout.flush(); {ending}"
    monkeypatch.setattr(isolation, "_START", program)
    tools.save_onnx(tmp_path / "a.onnx", *model_by_position(36, 3), card=tools.card())
    result = grade(tmp_path / "a.onnx", Exam(folder=photos))
    assert result.verdict == "not graded"
    assert reason in result.reason
