"""The grader: its counts against counts by hand, and which models it accepts."""

import errno
import os
import shutil
import stat

import keras
import numpy as np
import pytest
from PIL import Image

from keras_course.assessment import grader
from keras_course.assessment.exam import Exam, check_data
from keras_course.assessment.grader import GradingLimits, check_model, grade
from keras_course.assessment.grades import Mistake, sign
from keras_course.cards import card_by_shapes
from keras_course.deployment.export import export_model
from keras_course.errors import CourseError

NAN = float("nan")


@pytest.fixture(scope="module")
def run(tools, tmp_path_factory):
    """A run whose model classifies red as green."""
    model = tools.color_model([[0.0, 1.0, 0.5], [0.0, 0.5, 0.0], [1.0, 0.0, 0.0]])
    return tools.save_run(tmp_path_factory.mktemp("runs") / "red_as_green", model)


@pytest.fixture(scope="module")
def result(run, photos, tmp_path_factory):
    """The grade of that run, and the folder of its figures."""
    figures = tmp_path_factory.mktemp("figures")
    return grade(run, Exam(folder=photos), figures=figures), figures


def test_grade_of_a_model_that_confuses_red_with_green(result, photos):
    graded, _ = result
    assert (graded.verdict, graded.passed) == ("failed", False)
    assert graded.accuracy == pytest.approx(24 / 36)
    assert graded.recalls == (1.0, 1.0, 0.0)
    assert graded.confusion_matrix == [[12, 0, 0], [0, 12, 0], [0, 12, 0]]
    assert graded.class_names == ("blue", "green", "red")
    assert (graded.photos, graded.skipped, graded.unanswered) == (36, 0, 0)
    assert graded.class_order == "as in its card"
    assert graded.reason == "66.67% of the answers are right; 92.00% are needed"


def test_mistakes_are_sorted_by_confidence(result, photos):
    graded, _ = result
    assert len(graded.mistakes) == 12
    assert {(mistake.label, mistake.answer) for mistake in graded.mistakes} == {("red", "green")}
    # the same computation in NumPy
    sure = {}
    for path in (photos / "red").iterdir():
        pixels = np.asarray(Image.open(path).resize((16, 12), Image.Resampling.BICUBIC), "float64")
        red, green, blue = pixels.mean(axis=(0, 1))
        logits = np.array([blue, red + green / 2, red / 2])
        sure[f"red/{path.name}"] = 1 / np.exp(logits - logits[1]).sum()
    probabilities = [mistake.probability for mistake in graded.mistakes]
    assert {mistake.photo for mistake in graded.mistakes} == set(sure)
    assert all(abs(sure[mistake.photo] - mistake.probability) < 0.01 for mistake in graded.mistakes)
    assert probabilities == sorted(probabilities, reverse=True)


def test_confusion_and_mistakes_are_drawn(result):
    _, figures = result
    for name in ("confusion_matrix.png", "most_wrong.png"):
        with Image.open(figures / name) as picture:
            assert min(picture.size) > 200


def test_classes_in_another_order_on_the_card_are_matched(tools, photos, tmp_path):
    names = ("red", "blue", "green")
    assert grade(tools.save_correct_model(tmp_path / "a.onnx", names), Exam(folder=photos)).accuracy == 1.0


@pytest.mark.one_backend
def test_classes_of_a_model_without_a_card_are_alphabetical(tools, photos, tmp_path):
    path = tools.save_without_card(tmp_path / "bare.keras", tools.correct_model())
    graded = grade(path, Exam(folder=photos))
    assert (graded.accuracy, graded.class_order) == (1.0, "alphabetical")
    assert graded.picture_format["resize"] == "stretch"


@pytest.mark.one_backend
def test_an_export_has_the_grade_of_its_model(run, photos, result):
    exported = export_model(run, format="onnx", trust=True).path
    graded = grade(exported, Exam(folder=photos))
    assert (graded.format, graded.confusion_matrix) == ("onnx", result[0].confusion_matrix)
    assert graded.runtime.startswith("ONNX Runtime")


@pytest.mark.one_backend
def test_a_model_for_gray_pictures_gets_gray_pictures(photos, tmp_path, tools):
    net = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(3)])
    graded = grade(tools.save_without_card(tmp_path / "gray.keras", net), Exam(folder=photos))
    assert graded.picture_format["channels"] == 1
    assert graded.verdict == "failed"


def test_classes_can_be_merged(tools, photos, tmp_path):
    names = ("cold", "warm")
    model = tools.save_color_model(tmp_path / "a.onnx", [[0.0, 1.0], [0.6, 0.0], [0.6, 0.0]], class_names=names)
    exam = Exam(folder=photos, classes={"red": "warm", "*": "cold"})
    graded = grade(model, exam)
    assert (graded.accuracy, graded.class_names, graded.photos) == (1.0, names, 36)
    assert graded.confusion_matrix == [[24, 0], [0, 12]]


@pytest.mark.parametrize(("parts", "count"), [(("valid",), 36), (("test",), 6), (("valid", "test"), 42)])
def test_exam_uses_only_the_requested_parts(tools, photos, tmp_path, parts, count):
    shutil.copytree(photos, tmp_path / "all" / "valid")
    tools.photos(tmp_path / "all" / "train", dict.fromkeys(tools.COLORS, 5))
    tools.photos(tmp_path / "all" / "test", dict.fromkeys(tools.COLORS, 2))
    found = Exam(folder=tmp_path / "all", parts=parts).open()
    assert len(found.names) == count
    assert {name.partition("/")[0] for name in found.names} == set(parts)


def test_parts_have_several_names_and_training_photos_are_optional(tools, photos, tmp_path):
    shutil.copytree(photos, tmp_path / "a" / "Validation")
    tools.photos(tmp_path / "a" / "training", dict.fromkeys(tools.COLORS, 2))
    shutil.copytree(photos, tmp_path / "b" / "valid")
    for folder in ("a", "b"):
        assert len(Exam(folder=tmp_path / folder).open().names) == 36
    with pytest.raises(CourseError, match="has no part test, but train, valid"):
        Exam(folder=tmp_path / "a", parts=["test"]).open()


def test_a_class_can_have_the_name_valid(tools, tmp_path):
    tools.photos(tmp_path / "coupons", {"blue": 3, "red": 3})
    (tmp_path / "coupons" / "blue").rename(tmp_path / "coupons" / "valid")
    assert Exam(folder=tmp_path / "coupons").open().class_names == ("red", "valid")


def test_parts_must_have_the_same_classes(tools, tmp_path):
    tools.photos(tmp_path / "valid", dict.fromkeys(tools.COLORS, 2))
    tools.photos(tmp_path / "test", {"blue": 2, "red": 2})
    with pytest.raises(CourseError, match="different classes in valid and test: test lacks"):
        Exam(folder=tmp_path, parts=("valid", "test")).open()


def test_unreadable_photos_are_skipped_and_counted(tools, photos, tmp_path, capfd):
    folder = tmp_path / "photos"
    shutil.copytree(photos, folder)
    (folder / "red" / "broken.jpg").write_bytes(b"\xff\xd8\xff no picture")
    graded = grade(tools.save_correct_model(tmp_path / "a.onnx"), Exam(folder=folder))
    assert (graded.photos, graded.skipped) == (36, 1)


def test_the_fingerprint_depends_on_photos_and_classes_but_not_on_file_names(tools, photos, tmp_path):
    same, other = tmp_path / "same", tmp_path / "other"
    shutil.copytree(photos, same)
    (same / "red" / "red_00.png").rename(same / "red" / "renamed.png")
    shutil.copytree(photos, other)
    (other / "red" / "red_00.png").rename(other / "blue" / "red_00.png")

    def fingerprint(folder):
        files = Exam(folder=folder).open()
        return files.sha256({row: sha256 for batch in files.read(tools.SIZE) for row, _, sha256 in batch})

    prints = [fingerprint(folder) for folder in (photos, same, other)]
    assert prints[0] == prints[1] != prints[2]


def test_a_result_is_checked_against_model_and_photos(run, result, photos, tools, tmp_path):
    content = sign(result[0], None)
    check_model(content, run)
    check_data(content, photos)
    with pytest.raises(CourseError, match="another one"):
        check_model(content, tools.save_correct_model(tmp_path / "a.onnx"))
    with pytest.raises(CourseError, match="the photos or their classes are different"):
        check_data(content, tools.photos(tmp_path / "photos", dict.fromkeys(tools.COLORS, 3)))


def evaluated(logits, labels, **settings):
    photos = grader._Shown(np.array(labels, "int32"), tuple(f"{row}.png" for row in range(len(labels))), ("a", "b"))
    return grader._evaluate(np.array(logits, "float32"), photos, Exam(folder=".", **settings))


def test_counts_equal_those_by_hand():
    found = evaluated([[2, 1], [0, 3], [5, 5], [NAN, 1], [1, 0]], [0, 1, 0, 1, 1])
    assert found["accuracy"] == pytest.approx(2 / 5)
    assert found["recalls"] == pytest.approx((1 / 2, 1 / 3))
    assert found["confusion_matrix"] == [[1, 0], [1, 1]]
    assert found["unanswered"] == 2
    (mistake,) = found["mistakes"]
    assert mistake == Mistake("4.png", "b", "a", pytest.approx(1 / (1 + np.exp(-1))))


@pytest.mark.parametrize(
    ("right", "pass_mark", "verdict"), [(23, 0.92, "passed"), (22, 0.92, "failed"), (25, 1.0, "passed")]
)
def test_accuracy_equal_to_the_pass_mark_passes(right, pass_mark, verdict):
    labels = [0] * 13 + [1] * 12
    logits = [[1, 0] if (label == 0) == (row < right) else [0, 1] for row, label in enumerate(labels)]
    assert evaluated(logits, labels, pass_mark=pass_mark)["verdict"] == verdict


@pytest.mark.parametrize("logits", [[[float("inf"), 0.0]], [[0.0, float("-inf")]]])
def test_infinite_logits_count_as_unanswered(logits):
    assert evaluated(logits * 2, [0, 1])["unanswered"] == 2


@pytest.mark.parametrize(
    ("takes", "gives", "words"),
    [
        ((None, 8, 8, 5), (None, 3), "takes \\(8, 8, 5\\)"),
        ((None, None, None, 3), (None, 3), "takes \\(any, any, 3\\)"),
        (None, (None, 3), "something else than one array"),
        ((None, 8, 8, 3), (None, 4, 3), "gives \\(4, 3\\)"),
        ((None, 8, 8, 3), None, "gives something else"),
    ],
)
def test_card_by_shapes_refuses_what_is_no_picture_classifier(takes, gives, words):
    with pytest.raises(CourseError, match=words):
        card_by_shapes(takes, gives)


def test_a_missing_model_is_an_error_of_the_caller(photos):
    with pytest.raises(CourseError, match=r"there is no no_such\.keras"):
        grade("no_such.keras", Exam(folder=photos))
    with pytest.raises(CourseError, match="there is no efficientnet_lite0"):
        grade("efficientnet_lite0", Exam(folder=photos))


@pytest.mark.one_backend
@pytest.mark.parametrize(
    "change",
    [
        lambda run: (run / "model.keras").write_bytes((run / "model.keras").read_bytes()[:-500]),
        lambda run: (run / "model.keras").write_bytes(b""),
        lambda run: (run / "model.keras").unlink(),
        lambda run: ((run / "model.keras").unlink(), (run / "model.keras").mkdir()),
    ],
    ids=["truncated", "empty", "gone", "a folder"],
)
def test_a_damaged_model_is_not_graded(tools, photos, tmp_path, change):
    run = tools.save_run(tmp_path / "run", tools.correct_model())
    change(run)
    graded = grade(run, Exam(folder=photos))
    assert graded.verdict == "not graded"
    assert str(tmp_path) not in graded.reason


@pytest.mark.parametrize(
    "settings", [{"seconds": 0}, {"seconds": float("nan")}, {"memory": 0}, {"threads": 0}, {"memory": 1.5}]
)
def test_limits_must_be_positive(settings):
    with pytest.raises(CourseError, match=next(iter(settings))):
        GradingLimits(**settings)


@pytest.mark.parametrize(
    "settings", [{"pass_mark": 92}, {"least_recall": -1}, {"parts": ()}, {"parts": ("train",)}, {"pass_mark": NAN}]
)
def test_invalid_exam_settings_are_refused(settings):
    with pytest.raises(CourseError, match=next(iter(settings))):
        Exam(folder=".", **settings)


def test_grading_leaves_no_temporary_files(tools, photos, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    grade(tools.save_correct_model(tmp_path / "a.onnx"), Exam(folder=photos))
    assert not list((tmp_path / "temporary").iterdir())
    assert stat.S_ISDIR((tmp_path / "temporary").stat().st_mode)


# --- What is not graded ----------------------------------------------------------------------------------------


@pytest.mark.one_backend
def test_a_canceled_grading_gives_no_grade(tools, photos, tmp_path):
    cancellation = grader.Cancellation()
    cancellation.cancel()
    graded = grade(tools.save_correct_model(tmp_path / "a.onnx"), Exam(folder=photos), cancellation=cancellation)
    assert (graded.verdict, graded.reason, graded.accuracy) == ("not graded", "the grading was canceled", None)


@pytest.mark.one_backend
def test_a_model_or_an_exam_that_is_too_large_is_not_graded(tools, photos, tmp_path, monkeypatch):
    model = tools.save_correct_model(tmp_path / "a.onnx")
    with monkeypatch.context() as smaller:
        smaller.setattr(grader, "_LARGEST_EXAM", 10_000)
        # 36 photos of 12 × 16 pixels of 3 bytes
        expected = "it takes 16 × 12 pixels, with which the 36 photos have 20,736 bytes; at most 10,000 are prepared"
        assert grade(model, Exam(folder=photos)).reason == expected
    monkeypatch.setattr(grader, "LARGEST_MODEL_BYTES", 100)
    assert grade(model, Exam(folder=photos)).reason == "it has more than 100 bytes"


@pytest.mark.one_backend
def test_a_model_that_cannot_be_read_is_not_graded(tools, photos, tmp_path, monkeypatch):
    model = tools.save_correct_model(tmp_path / "a.onnx")

    def fail(*_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(shutil, "copyfileobj", fail)
    assert grade(model, Exam(folder=photos)).reason == "it cannot be read: Input/output error"


@pytest.mark.one_backend
def test_a_model_without_finite_answers_fails_without_figures(tools, photos, tmp_path):
    model = tools.save_color_model(tmp_path / "a.onnx", [[NAN] * 3] * 3)
    graded = grade(model, Exam(folder=photos), figures=tmp_path / "figures")
    assert (graded.verdict, graded.accuracy, graded.unanswered, graded.mistakes) == ("failed", 0.0, 36, ())
    assert not (tmp_path / "figures").exists()


@pytest.mark.one_backend
def test_an_exam_with_a_class_of_unreadable_photos_is_refused(tools, photos, tmp_path):
    shutil.copytree(photos, tmp_path / "photos")
    for photo in (tmp_path / "photos" / "green").iterdir():
        photo.write_bytes(photo.read_bytes()[:100])
    with pytest.raises(
        CourseError, match="class 'green' of the exam has no photo that can be read; add some, or leave"
    ):
        grade(tools.save_correct_model(tmp_path / "a.onnx"), Exam(folder=tmp_path / "photos"))
