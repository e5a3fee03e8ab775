"""Results: what is signed cannot be changed, and keys are not handed around by accident."""

import hashlib
import hmac
import json
import os
import stat

import pytest

from keras_course.assessment.grades import Grade, Mistake, new_key, read_key, sign, verify, write_result
from keras_course.errors import CourseError

KEY = bytes(range(32))
GRADE = Grade(
    model="ähm.keras",
    verdict="failed",
    reason="50.00% of the answers are right, and 92.00% have to be",
    exam={"folder": "fruit", "classes": None, "parts": ["valid"], "pass_mark": 0.92},
    class_names=("fresh", "rotten"),
    accuracy=0.1 + 0.2,
    recalls=(1.0, 1 / 3),
    confusion_matrix=[[3, 0], [2, 1]],
    mistakes=(Mistake("rotten/1.jpg", "rotten", "fresh", 0.9),),
)


def result():
    return sign(GRADE, KEY)


def test_the_signature_is_an_hmac_of_all_other_fields():
    signed = result()
    content = {name: value for name, value in signed.items() if name != "signature"}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    expected = hmac.digest(KEY, b"keras-course result, version 1\n" + text.encode(), hashlib.sha256)
    assert signed["signature"] == expected.hex()


def test_what_is_signed_is_verified_however_it_is_written(tmp_path):
    write_result(result(), tmp_path / "result.json")
    for text in (
        (tmp_path / "result.json").read_bytes(),
        json.dumps(result()),
        json.dumps(result(), indent=7, sort_keys=True, ensure_ascii=False),
    ):
        content = verify(text, KEY)
        assert content["accuracy"] == 0.1 + 0.2
        assert content["mistakes"] == [
            {"photo": "rotten/1.jpg", "label": "rotten", "answer": "fresh", "probability": 0.9}
        ]
        assert content["model"] == "ähm.keras"


def changed(**fields):
    return json.dumps({**result(), **fields})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (changed(verdict="passed"), "does not fit"),
        (changed(accuracy=1.0), "does not fit"),
        (changed(more="than was signed"), "does not fit"),
        (changed(signature="00" * 32), "does not fit"),
        (changed(signature=""), "does not fit"),
        (changed(signature="ä\ud800"), "does not fit"),
        (changed(signature=3), "does not fit"),
        (changed(signature=result()["signature"].upper()), "does not fit"),
        (changed(signature=None), "not signed"),
        (json.dumps({name: value for name, value in result().items() if name != "accuracy"}), "does not fit"),
        (json.dumps({name: value for name, value in result().items() if name != "signature"}), "no result"),
        (json.dumps(result())[:-1] + ', "verdict": "passed"}', "a field twice"),
        (changed(accuracy=float("nan")), "no number"),
        ("", "no result"),
        ("[1]", "no result"),
        ("3", "no result"),
        ("[" * 100_000, "no result"),
        (b"\xff\xfe{", "no result"),
        ("x" * (2**24 + 1), "at most"),
    ],
    ids="",
)
def test_what_was_changed_is_refused(text, words):
    with pytest.raises(CourseError, match=words):
        verify(text, KEY)


def test_another_key_does_not_fit():
    with pytest.raises(CourseError, match="another key"):
        verify(json.dumps(result()), bytes(32))


def test_a_key_is_new_each_time_and_for_its_owner(tmp_path):
    for name in ("a.key", "b.key"):
        new_key(tmp_path / name)
    keys = [read_key(tmp_path / name) for name in ("a.key", "b.key")]
    assert keys[0] != keys[1]
    assert [len(key) for key in keys] == [32, 32]
    if os.name == "posix":
        assert stat.S_IMODE((tmp_path / "a.key").stat().st_mode) == 0o600


def test_a_key_is_not_replaced(tmp_path):
    new_key(tmp_path / "a.key")
    before = (tmp_path / "a.key").read_bytes()
    with pytest.raises(CourseError, match="is there already"):
        new_key(tmp_path / "a.key")
    assert (tmp_path / "a.key").read_bytes() == before
    with pytest.raises(CourseError, match="cannot be written"):
        new_key(tmp_path / "no" / "such" / "folder.key")


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_a_key_that_others_can_read_is_named(tmp_path, capsys):
    new_key(tmp_path / "a.key")
    read_key(tmp_path / "a.key")
    assert capsys.readouterr().err == ""
    (tmp_path / "a.key").chmod(0o644)
    read_key(tmp_path / "a.key")
    assert "chmod 600" in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"", b"\xff" * 32, b"00" * 31, b"00" * 33, b"00" * 1000, b"no key at all"])
def test_what_is_no_key(tmp_path, content):
    (tmp_path / "a.key").write_bytes(content)
    with pytest.raises(CourseError, match="holds no key"):
        read_key(tmp_path / "a.key")


def test_a_folder_is_no_key(tmp_path):
    with pytest.raises(CourseError, match=r"cannot be read|is not a file"):
        read_key(tmp_path)
