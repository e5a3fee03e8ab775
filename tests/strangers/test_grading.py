"""Submissions of strangers: none costs the class, and no grade depends on what others can write."""

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
def exam_of_six(made, tmp_path):
    return Exam(folder=made.photos(tmp_path / "six", dict.fromkeys(made.COLORS, 2)))


def rows_of(folder):
    text = (folder / "grades.csv").read_text(encoding="utf-8-sig")
    return {row["submission"]: row for row in csv.DictReader(text.splitlines())}


def test_one_submission_never_costs_the_class(made, exam_of_six, tmp_path, monkeypatch):
    """Whatever the grading of one raises is its own grade; the table is written."""
    folder = tmp_path / "class"
    made.save_solver(folder / "ann.onnx")
    made.save_solver(folder / "bob.onnx")
    (folder / "cy").mkdir()
    (folder / "cy" / "model.keras").symlink_to(tmp_path / "nowhere.keras")
    made.save_solver(folder / "dee" / "net.onnx")
    (folder / "dee" / "more").symlink_to("/nowhere")
    made.save_onnx(
        folder / "eve.onnx",
        [],
        card=ModelCard(
            title="large", class_names=made.COLORS, picture_format=PictureFormat(height=4096, width=4096, channels=3)
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


def test_what_is_wrong_with_the_exam_is_said_before_anything_is_graded(made, tmp_path):
    with pytest.raises(CourseError, match="there is no folder"):
        grade_all([Submission("ann", tmp_path / "a.onnx")], Exam(folder=tmp_path / "nowhere"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_thousand_equal_files_make_no_table_without_end():
    names = [f"learner {number}" for number in range(2000)]
    result = Grade(model="a.onnx", verdict="failed", reason="", exam={}, model_sha256="00")
    rows = classroom._rows([Submission(name, None) for name in names], [result] * 2000)
    assert max(len(row["same_as"]) for row in rows) < 300
    assert rows[5]["same_as"].endswith("and 1,989 more")
    assert "learner 5," not in rows[5]["same_as"]


def test_the_names_of_others_forge_no_line_and_no_formula(made, exam_of_six, tmp_path):
    folder = tmp_path / "class"
    made.save_solver(folder / f"{EVIL}.onnx")
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


def test_the_class_names_of_a_model_move_no_cursor(made, exam_of_six, tmp_path):
    names = ("blue", "gre\u202een", "red")
    result = grade(made.save_solver(tmp_path / "a.onnx", class_names=names), exam_of_six)
    assert "it tells blue, gre\\u202een, red apart" in result.reason


NEVER_ENDS = """
import sys
from keras_course.deployment import isolation
isolation._START = "import time; time.sleep(600)"
from keras_course.cli import main
main()
"""


@pytest.mark.skipif(os.name == "nt", reason="Ctrl-C is sent in another way there")
def test_ctrl_c_ends_a_class_at_once(made, photos, tmp_path):
    for number in range(4):
        made.save_solver(tmp_path / "class" / f"{number}.onnx")
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
    assert seconds < 20, "two are asked for, and 0.3 were measured; whoever waits for the models waits for minutes"


# --- What others can write -------------------------------------------------------------------------------------


def test_no_cache_has_a_say_in_a_grade(made, photos, tmp_path, monkeypatch):
    """Somebody who could write to the folder of decoded photos had a model passed that had learned nothing."""
    monkeypatch.setenv("KERAS_COURSE_CACHE", str(tmp_path / "cache"))
    result = grade(made.save_solver(tmp_path / "a.onnx"), Exam(folder=photos))
    exam.check_data(result.to_dict(), photos)
    assert result.passed
    assert not (tmp_path / "cache").exists()


def test_the_memory_of_the_grader_does_not_grow_with_the_exam(made, tmp_path, monkeypatch):
    """Each photo has 3 MB as the model takes it; a batch of the grader holds one."""
    monkeypatch.setattr(exam, "_BATCH_BYTES", 2**22)
    large = PictureFormat(height=1024, width=1024, channels=3)
    peaks = []
    for count in (2, 2, 8):  # the first time modules are imported
        folder = made.photos(tmp_path / f"photos {len(peaks)}", dict.fromkeys(made.COLORS, count))
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
def test_other_models_have_other_fingerprints(tmp_path, one, other):
    prints = []
    for number, files in enumerate((one, other)):
        for name, content in files.items():
            path = tmp_path / str(number) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        prints.append(fingerprint(tmp_path / str(number)))
    assert prints[0] != prints[1]


def test_a_name_with_a_line_break_is_not_two_lines(tmp_path):
    """Two models had one fingerprint, of which one passed: a name repeated the line of another file."""
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


def test_a_result_is_of_one_learner(made, photos, tmp_path, run_command):
    new_key(tmp_path / "key")
    model = made.save_solver(tmp_path / "a.onnx")
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


def test_fields_of_strange_types_end_in_one_line(made, photos, tmp_path, run_command):
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


def test_wrong_numbers_of_a_model_are_no_answers(made, exam_of_six, tmp_path):
    model = made.save_answering(tmp_path / "a.onnx", np.full((3, 3), np.nan))
    result = grade(model, exam_of_six)
    assert (result.verdict, result.unanswered) == ("failed", 6)
