"""Grading a folder of submissions: which files count as one, and the table and the page of grades."""

import csv
import errno
import json
import os
import re
import shutil
from pathlib import Path

import pytest
import typer

from keras_course.assessment import classroom
from keras_course.assessment.classroom import Submission, find_other_files, find_submissions, grade_all
from keras_course.assessment.exam import Exam
from keras_course.assessment.grader import GradingLimits
from keras_course.assessment.grades import verify
from keras_course.cli import app
from keras_course.errors import CourseError

pytestmark = pytest.mark.one_backend

KEY = bytes(range(32))
FORMULA = "=cmd('calc')!A1"
SCRIPT = "<script>alert(1)"


@pytest.fixture(scope="module")
def submissions(tools, tmp_path_factory):
    folder = tmp_path_factory.mktemp("class") / "submissions"
    tools.save_run(folder / "ann", tools.correct_model())
    shutil.copytree(folder / "ann", folder / SCRIPT)
    tools.save_color_model(folder / f"{FORMULA}.onnx", [[0.0, 0.0, 1.0]] * 3)
    (folder / "empty").mkdir()
    (folder / "two").mkdir()
    for name in ("a.keras", "b.keras"):
        shutil.copy(folder / "ann" / "model.keras", folder / "two" / name)
    (folder / "link.keras").symlink_to(folder / "ann" / "model.keras")
    (folder / "readme.txt").write_text("no model")
    (folder / ".hidden.keras").write_bytes(b"")
    return folder


@pytest.fixture(scope="module")
def graded(submissions, photos, tmp_path_factory):
    folder = tmp_path_factory.mktemp("graded")
    seen = []
    found = find_submissions(submissions)
    grades = grade_all(
        found,
        Exam(folder=photos),
        folder,
        key=KEY,
        jobs=2,
        limits=GradingLimits(threads=1),
        progress=lambda one, result: seen.append((one.name, result.verdict)),
    )
    return folder, found, grades, seen


def test_a_submission_is_a_model_or_a_folder_with_one(submissions):
    found = find_submissions(submissions)
    assert [one.name for one in found] == sorted([FORMULA, SCRIPT, "ann", "empty", "link.keras", "two"])
    reasons = {one.name: one.reason for one in found if one.model is None}
    assert reasons == {
        "empty": "its folder has no models; there has to be one",
        "two": "its folder has 2 models; there has to be one",
        "link.keras": "it is a link or no file",
    }
    assert find_other_files(submissions) == ["readme.txt"]


def test_models_with_the_same_stem_keep_their_suffix(tmp_path):
    for name in ("ann.keras", "ann.onnx", "bob.keras"):
        (tmp_path / name).write_bytes(b"x")
    assert [one.name for one in find_submissions(tmp_path)] == ["ann.keras", "ann.onnx", "bob"]


def test_control_characters_in_a_name_are_escaped(tmp_path):
    (tmp_path / "ann\x1b[2J\n.keras").write_bytes(b"x")
    assert [one.name for one in find_submissions(tmp_path)] == ["ann\\x1b[2J\\n"]


def test_a_missing_or_empty_folder_is_refused(tmp_path):
    with pytest.raises(CourseError, match="is no folder"):
        find_submissions(tmp_path / "nowhere")
    with pytest.raises(CourseError, match="has no models"):
        find_submissions(tmp_path)


def test_every_submission_has_a_verdict(graded):
    _, found, grades, seen = graded
    verdicts = {one.name: result.verdict for one, result in zip(found, grades, strict=True)}
    assert verdicts == {
        "ann": "passed",
        SCRIPT: "passed",
        FORMULA: "failed",
        "empty": "not graded",
        "two": "not graded",
        "link.keras": "not graded",
    }
    assert dict(seen) == verdicts


def test_the_table_is_valid_csv_without_formulas(graded):
    folder, found, _, _ = graded
    text = (folder / "grades.csv").read_text(encoding="utf-8-sig")
    rows = {row["submission"]: row for row in csv.DictReader(text.splitlines())}
    assert len(rows) == len(found)
    assert rows["ann"]["accuracy"] == "1.0000"
    assert rows["ann"]["same_as"] == SCRIPT
    assert rows[f"'{FORMULA}"]["verdict"] == "failed"
    assert rows[f"'{FORMULA}"]["same_as"] == ""
    assert not any(cell.startswith(("=", "+", "-", "@")) for row in rows.values() for cell in row.values())


def test_the_page_has_the_same_numbers_and_no_script(graded):
    folder, *_ = graded
    page = (folder / "grades.html").read_text(encoding="utf-8")
    assert "2 passed, 1 failed, 3 not graded" in page
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert page.count("data:image/png;base64") == 6
    assert "default-src 'none'" in page


def test_each_submission_has_a_signed_result(graded):
    folder, found, grades, _ = graded
    files = sorted(folder.glob("*/result.json"))
    assert len(files) == len(found)
    assert all(len(file.parent.parts) == len(folder.parts) + 1 for file in files)
    for file, result in zip(files, grades, strict=True):
        assert verify(file.read_bytes(), KEY)["verdict"] == result.verdict


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root can read every folder")
def test_a_folder_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "closed").mkdir(mode=0)
    (one,) = find_submissions(tmp_path)
    assert "cannot be read" in one.reason


def test_a_missing_exam_folder_is_an_error_and_writes_no_table(submissions, tmp_path):
    with pytest.raises(CourseError):
        grade_all(
            [Submission("ann", submissions / "ann")], Exam(folder=tmp_path / "nowhere"), tmp_path / "out", figures=False
        )
    assert not (tmp_path / "out" / "grades.csv").exists()


def test_assess_and_verify_on_the_command_line(submissions, photos, tmp_path, run_command):
    key = tmp_path / "teacher.key"
    assert run_command("new-key", key).returncode == 0
    out = tmp_path / "out"
    ended = run_command("assess", submissions / "ann", "--data", photos, "--key", key, "--output", out)
    assert ended.returncode == 0, ended.stderr
    for words in ("ann: passed", "100.00% of the answers are right", "blue", "12"):
        assert words in ended.stdout
    assert {path.name for path in out.iterdir()} == {"result.json", "confusion_matrix.png", "most_wrong.png"}

    checked = run_command("verify", out / "result.json", "--key", key, "--model", submissions / "ann", "--data", photos)
    assert checked.returncode == 0, checked.stderr
    assert "signed and unchanged" in checked.stdout

    changed = json.loads((out / "result.json").read_text())
    changed["accuracy"] = 0.5
    (tmp_path / "changed.json").write_text(json.dumps(changed))
    refused = run_command("verify", tmp_path / "changed.json", "--key", key)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "does not fit" in refused.stderr


def command(*arguments):
    """Runs a command in this process and returns its exit code, or raises the error that the command line prints."""
    return typer.main.get_command(app).main(list(map(str, arguments)), standalone_mode=False)


def test_assess_returns_1_for_a_failed_model(tools, photos, tmp_path, capsys):
    model = tools.save_color_model(tmp_path / "a.onnx", [[0.0, 0.0, 1.0]] * 3)
    assert command("assess", model, "--data", photos, "--json") == 1
    said = json.loads(capsys.readouterr().out)
    assert (said["verdict"], said["signature"]) == ("failed", None)


def test_the_classroom_command_grades_a_folder(tools, photos, tmp_path, capsys):
    tools.save_correct_model(tmp_path / "class" / "ann.onnx")
    (tmp_path / "class" / "bob.py").write_text("model = None")
    command("classroom", tmp_path / "class", "--data", photos, "--output", tmp_path / "out")
    said = capsys.readouterr().out
    assert "ann: passed" in said
    assert "1 of 1 passed" in said
    assert "bob.py: ignored, it is not a model" in said
    assert Path(tmp_path / "out" / "grades.html").is_file()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--data", "no_such_folder"], "no_such_folder"),
        (["--data", ".", "--pass-mark", "92"], "pass_mark is 92"),
        (["--data", ".", "--part", "train"], "parts is"),
        (["--data", ".", "--key", "no_such.key"], r"no_such\.key cannot be read"),
    ],
)
def test_assess_explains_wrong_options(tools, tmp_path, options, words):
    with pytest.raises(CourseError, match=words):
        command("assess", tools.save_correct_model(tmp_path / "a.onnx"), *options)


def test_assess_shows_the_worst_mistakes_of_a_model(tools, photos, tmp_path, capsys):
    """It gives every photo the answer of its red channel, so that all blue and green photos are mistakes."""
    model = tools.save_color_model(tmp_path / "a.onnx", [[0.0, 0.0, 1.0]] * 3)
    assert command("assess", model, "--data", photos) == 1
    said = capsys.readouterr().out
    assert "a.onnx: failed" in said
    assert "33.33% of the answers are right" in said
    mistakes = said[said.index("worst mistakes") :]
    assert len(re.findall(r"(blue|green)_\d\d\.png +\1 +red 100.0%", mistakes)) == 8


def test_assess_says_only_the_reason_for_a_model_that_is_not_graded(photos, tmp_path, capsys):
    (tmp_path / "a.onnx").write_bytes(b"no model")
    assert command("assess", tmp_path / "a.onnx", "--data", photos) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "a.onnx: not graded"
    assert "it is damaged" in lines[1]
    assert len(lines) == 2


def test_too_many_submissions_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(classroom, "_LARGEST_CLASSROOM", 2)
    for name in "abc":
        (tmp_path / f"{name}.onnx").touch()
    with pytest.raises(CourseError, match="has 3 submissions; at most 2 are graded at once"):
        find_submissions(tmp_path)


def test_folders_that_cannot_be_listed_are_named(tmp_path, monkeypatch):
    (tmp_path / "ann").mkdir()
    (tmp_path / "bob.onnx").touch()
    native, denied = Path.iterdir, {tmp_path / "ann"}

    def iterdir(folder):
        if folder in denied:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return native(folder)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    ann, bob = find_submissions(tmp_path)
    assert (ann.model, ann.reason) == (None, "its folder cannot be read: Permission denied")
    assert bob.model == tmp_path / "bob.onnx"
    denied.add(tmp_path)
    with pytest.raises(CourseError, match=f"{tmp_path} cannot be read: Permission denied"):
        find_submissions(tmp_path)


def test_a_submission_that_is_removed_meanwhile_is_not_graded(photos, tmp_path):
    (result,) = grade_all([Submission("ann", tmp_path / "gone.keras")], Exam(folder=photos), tmp_path / "out")
    assert result.verdict == "not graded"
    assert "there is no" in result.reason
    rows = list(csv.DictReader((tmp_path / "out" / "grades.csv").read_text("utf-8-sig").splitlines()))
    assert [(row["submission"], row["verdict"], row["accuracy"]) for row in rows] == [("ann", "not graded", "")]
