"""Hostile submissions: none stops the grading of the others, and no grade depends on files that others can write."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
import tracemalloc

import numpy as np
import pytest

from keras_course.assessment import classroom, exam, grader
from keras_course.assessment.classroom import Submission, find_submissions, grade_all
from keras_course.assessment.exam import Exam
from keras_course.assessment.grader import fingerprint, grade
from keras_course.assessment.grades import Grade, new_key, read_key, sign, verify
from keras_course.cards import ModelCard
from keras_course.errors import CourseError
from keras_course.preprocessing import PictureFormat

pytestmark = pytest.mark.one_backend

EVIL = "ann\x1b[2J\npassed;=1+1"


@pytest.fixture
def exam_of_six(tools, tmp_path):
    return Exam(folder=tools.photos(tmp_path / "six", dict.fromkeys(tools.COLORS, 2)))


def rows_of(folder):
    text = (folder / "grades.csv").read_text(encoding="utf-8-sig")
    return {row["submission"]: row for row in csv.DictReader(text.splitlines())}


def test_a_failing_submission_does_not_stop_the_others(tools, exam_of_six, tmp_path, monkeypatch):
    """An error while grading one submission is its verdict, and the table is written."""
    folder = tmp_path / "class"
    tools.save_correct_model(folder / "ann.onnx")
    tools.save_correct_model(folder / "bob.onnx")
    (folder / "cy").mkdir()
    (folder / "cy" / "model.keras").symlink_to(tmp_path / "nowhere.keras")
    tools.save_correct_model(folder / "dee" / "net.onnx")
    (folder / "dee" / "more").symlink_to("/nowhere")
    tools.save_onnx(
        folder / "eve.onnx",
        [],
        card=ModelCard(
            title="large", class_names=tools.COLORS, picture_format=PictureFormat(height=4096, width=4096, channels=3)
        ),
    )
    grading = grader.grade

    def failing(model, *arguments, **settings):
        if model.name == "bob.onnx":
            raise RuntimeError("the grader itself \x1b[31m fails")
        return grading(model, *arguments, **settings)

    monkeypatch.setattr(classroom, "grade", failing)
    grade_all(find_submissions(folder), exam_of_six, tmp_path / "out", jobs=2)
    rows = rows_of(tmp_path / "out")
    assert rows["ann"]["verdict"] == "passed"
    assert rows["dee"]["verdict"] == "passed"
    for name, reason in (("bob", "the grader itself \\x1b[31m fails"), ("cy", ""), ("eve", "")):
        assert rows[name]["verdict"] == "not graded"
        assert reason in rows[name]["reason"]
    assert (tmp_path / "out" / "grades.html").exists()


def test_an_error_of_the_exam_is_raised_before_grading(tools, tmp_path):
    with pytest.raises(CourseError, match="there is no folder"):
        grade_all([Submission("ann", tmp_path / "a.onnx")], Exam(folder=tmp_path / "nowhere"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_list_of_equal_files_is_shortened():
    names = [f"learner {number}" for number in range(2000)]
    result = Grade(model="a.onnx", verdict="failed", reason="", exam={}, model_sha256="00")
    rows = classroom._rows([Submission(name, None) for name in names], [result] * 2000)
    assert max(len(row["same_as"]) for row in rows) < 300
    assert rows[5]["same_as"].endswith("and 1,989 more")
    assert "learner 5," not in rows[5]["same_as"]


def test_control_characters_and_formulas_in_names_are_escaped(tools, exam_of_six, tmp_path):
    folder = tmp_path / "class"
    tools.save_correct_model(folder / f"{EVIL}.onnx")
    grades = grade_all(find_submissions(folder), exam_of_six, tmp_path / "out")
    for file in ("grades.csv", "grades.html"):
        text = (tmp_path / "out" / file).read_text(encoding="utf-8-sig")
        assert "\x1b" not in text
    table = (tmp_path / "out" / "grades.csv").read_text(encoding="utf-8-sig")
    assert not re.search(r"(^|[;,\t])\s*=1\+1", table, re.MULTILINE)
    assert len((tmp_path / "out" / "grades.csv").read_text().splitlines()) == 2
    assert grades[0].learner == "ann\\x1b[2J\\npassed;=1+1"
    (result,) = (tmp_path / "out").glob("*/result.json")
    assert json.loads(result.read_bytes())["learner"] == grades[0].learner


def test_control_characters_in_class_names_are_escaped(tools, exam_of_six, tmp_path):
    names = ("blue", "gre\u202een", "red")
    result = grade(tools.save_correct_model(tmp_path / "a.onnx", class_names=names), exam_of_six)
    assert "it tells blue, gre\\u202een, red apart" in result.reason


NEVER_ENDS = """
import sys
from keras_course.deployment import isolation
isolation._START = "import time; time.sleep(600)"
from keras_course.cli import main
main()
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for processes")
def test_ctrl_c_ends_the_grading_of_a_class_at_once(tools, photos, tmp_path):
    for number in range(4):
        tools.save_correct_model(tmp_path / "class" / f"{number}.onnx")
    command = [sys.executable, "-c", NEVER_ENDS, "classroom", tmp_path / "class", "--data", photos, "--output"]
    grading = subprocess.Popen([*map(str, command), str(tmp_path / "out"), "--jobs", "2"], stderr=subprocess.PIPE)
    time.sleep(4)
    assert grading.poll() is None
    started = time.monotonic()
    grading.send_signal(signal.SIGINT)
    _, error = grading.communicate(timeout=60)
    seconds = time.monotonic() - started
    assert grading.returncode == 130, error
    assert b"Traceback" not in error
    assert seconds < 20, "0.3 seconds were measured; waiting for the models would take minutes"


# --- Files that others can write -------------------------------------------------------------------------------


def test_grading_does_not_use_the_cache(tools, photos, tmp_path, monkeypatch):
    """With a cache of decoded photos, others could replace photos so that any model passes."""
    monkeypatch.setenv("KERAS_COURSE_CACHE", str(tmp_path / "cache"))
    result = grade(tools.save_correct_model(tmp_path / "a.onnx"), Exam(folder=photos))
    exam.check_data(result.to_dict(), photos)
    assert result.passed
    assert not (tmp_path / "cache").exists()


def test_the_memory_of_the_grader_does_not_grow_with_the_exam(tools, tmp_path, monkeypatch):
    """Each decoded photo has 3 MB; a batch of the grader holds one."""
    monkeypatch.setattr(exam, "_BATCH_BYTES", 2**22)
    large = PictureFormat(height=1024, width=1024, channels=3)
    peaks = []
    for count in (2, 2, 8):  # the first call imports modules
        folder = tools.photos(tmp_path / f"photos {len(peaks)}", dict.fromkeys(tools.COLORS, count))
        files = Exam(folder=folder).open()
        tracemalloc.start()
        try:
            assert sum(len(batch) for batch in files.read(large, workers=1)) == 3 * count
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    assert peaks[2] < 1.2 * peaks[1]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": b"1", "b": b"2"}, {"a": b"1", "c": b"2"}),
        ({"a": b"1", "b": b"2"}, {"a": b"2", "b": b"1"}),
        ({"a": b"1", "b/c": b"2"}, {"a": b"1", "b": b"2"}),
        ({"a\\nb": b"1"}, {"a\nb": b"1"}),
    ],
)
def test_different_models_have_different_fingerprints(tmp_path, one, other):
    prints = []
    for number, files in enumerate((one, other)):
        for name, content in files.items():
            path = tmp_path / str(number) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        prints.append(fingerprint(tmp_path / str(number)))
    assert prints[0] != prints[1]


def test_a_line_break_in_a_name_changes_the_fingerprint(tmp_path):
    """Otherwise a file name that contains the line of another file would give the same fingerprint."""
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "a").write_bytes(b"1")
    (tmp_path / "one" / "b").write_bytes(b"2")
    line = fingerprint_line(tmp_path / "one" / "b", "b")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / f"a\n{line}".replace("/", "_")).write_bytes(b"1")
    assert fingerprint(tmp_path / "one") != fingerprint(tmp_path / "other")


def fingerprint_line(path, name):
    import hashlib

    return f"{hashlib.sha256(path.read_bytes()).hexdigest()} {name}"


def test_verify_checks_the_learner(tools, photos, tmp_path, run_command):
    new_key(tmp_path / "key")
    model = tools.save_correct_model(tmp_path / "a.onnx")
    signed = sign(grade(model, Exam(folder=photos), learner="ann"), read_key(tmp_path / "key"))
    (tmp_path / "result.json").write_text(json.dumps(signed))
    arguments = ("verify", tmp_path / "result.json", "--key", tmp_path / "key", "--learner")
    done = run_command(*arguments, "ann")
    assert done.returncode == 0
    assert done.stdout.startswith("signed and unchanged: a.onnx of ann: passed, ")
    done = run_command(*arguments, "bob")
    assert done.returncode == 2
    assert "is not the result of 'bob', but of 'ann'" in done.stderr
    with pytest.raises(CourseError, match="the signature does not fit"):
        verify(json.dumps(signed | {"learner": "bob"}), read_key(tmp_path / "key"))


def test_fields_of_wrong_types_end_in_a_one_line_error(tools, photos, tmp_path, run_command):
    new_key(tmp_path / "key")
    key = read_key(tmp_path / "key")
    for number, wrong in enumerate(([1], {"a": 1}, None, 7, "x\x1b[2J\ny", 1e300)):
        content = sign(Grade(model="a", verdict="passed", reason="", exam={}), key)
        content = {name: wrong for name in content if name != "signature"}
        from keras_course.assessment.grades import _signature

        path = tmp_path / f"{number}.json"
        path.write_text(json.dumps(content | {"signature": _signature(content, key)}))
        done = run_command("verify", path, "--key", tmp_path / "key", "--data", photos)
        assert done.returncode == 2, done
        assert done.stderr.count("\n") == 1
        assert "Traceback" not in done.stderr
        assert "\x1b" not in done.stdout + done.stderr


def test_nan_logits_count_as_unanswered(tools, exam_of_six, tmp_path):
    model = tools.save_color_model(tmp_path / "a.onnx", np.full((3, 3), np.nan))
    result = grade(model, exam_of_six)
    assert (result.verdict, result.unanswered) == ("failed", 6)
