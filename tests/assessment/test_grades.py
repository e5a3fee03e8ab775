"""Signed results and keys: a changed result is refused, and keys stay private."""

import functools
import hashlib
import hmac
import itertools
import json
import operator
import os
import re
import stat
import sys

import numpy as np
import pytest

from keras_course import cli
from keras_course.assessment.grades import Grade, Mistake, new_key, read_key, sign, verify, write_result
from keras_course.errors import CourseError

KEY = bytes(range(32))
GRADE = Grade(
    model="ähm.keras",
    verdict="failed",
    reason="50.00% of the answers are right; 92.00% are needed",
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


def test_a_signed_result_is_verified_in_any_json_layout(tmp_path):
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
        (json.dumps(result()).replace("0.92", "1e999"), "no result"),
        (json.dumps(result()).replace("0.92", "[" * 500 + "]" * 500), "does not fit"),
        (json.dumps(result()).replace("0.92", "[" * 5000 + "]" * 5000), "no result"),
        (json.dumps(result()).replace("0.92", "9" * 5000), "no result"),
        ("", "no result"),
        ("[1]", "no result"),
        ("3", "no result"),
        ("[" * 100_000, "no result"),
        (b"\xff\xfe{", "no result"),
        ("x" * (2**24 + 1), "it has more than"),
    ],
    ids="",
)
def test_a_changed_result_is_refused(text, words):
    with pytest.raises(CourseError, match=words):
        verify(text, KEY)


ODD = (
    *(None, True, 0, -1, 2.5, -1e308, 10**400, "", "9" * 5000, "\ud800", "\x1b[2J\n", [], [[]], {}, {"": {}}),
    *(["valid", 3], [["valid"]], "valid", {"cat": 5}, {"*": ["x"]}, ["cat"]),
)


def paths_of_fields(content, path=()):
    for name in content if isinstance(content, dict) else range(len(content)):
        yield (*path, name)
        if isinstance(content[name], dict | list):
            yield from paths_of_fields(content[name], (*path, name))


def signed_text(content):
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    signature = hmac.digest(KEY, b"keras-course result, version 1\n" + text.encode(), hashlib.sha256).hex()
    return json.dumps({**content, "signature": signature})


def test_odd_fields_are_refused_unless_they_are_signed():
    """A field can be missing or have any value: unsigned, or signed by another version of the course."""
    sound = json.loads(json.dumps(result()))
    paths = list(paths_of_fields(sound))
    assert len(paths) > 30
    for path, odd in itertools.product(paths, (*ODD, "missing")):
        content = json.loads(json.dumps(sound))
        inside = functools.reduce(operator.getitem, path[:-1], content)
        if odd == "missing":
            del inside[path[-1]]
        else:
            inside[path[-1]] = odd
        if content != sound:
            with pytest.raises(CourseError, match=r"does not fit|no result|not signed"):
                verify(json.dumps(content), KEY)
        content.pop("signature", None)
        if path[0] in ("model", "verdict", "reason", "graded_at") and not isinstance(content.get(path[0]), str):
            with pytest.raises(CourseError, match=f"it has no text '{path[0]}'"):
                verify(signed_text(content), KEY)
        else:
            assert verify(signed_text(content), KEY) == content


def test_changed_bytes_end_in_a_one_line_error():
    sound = json.dumps(result()).encode()
    random = np.random.default_rng(0)
    pieces = (b"1e999", b"-", b"[", b"{", b"null", b"NaN", b"-Infinity", b"\xff", b'"', b"\\u0000", b"9" * 4400)
    refused = 0
    for _ in range(2000):
        text = bytearray(sound)
        for _ in range(random.integers(1, 4)):
            begin = int(random.integers(len(text)))
            text[begin : begin + int(random.integers(20))] = pieces[random.integers(len(pieces))]
        try:
            verify(bytes(text), KEY)  # without a blank, it is still the signed content
        except CourseError as error:
            refused += "\n" not in str(error)
    assert refused > 1990


def test_verify_names_the_file_in_its_error(tmp_path, capsys, monkeypatch):
    new_key(tmp_path / "a.key")
    (tmp_path / "odd.json").write_text('{"signature": "00", "accuracy": 1e999}')
    os.mkfifo(tmp_path / "pipe")
    for name, reason in (
        ("odd.json", ": this is no result of keras-course assess: "),
        ("pipe", " is not a file; give the result.json of keras-course assess"),
        ("none.json", " cannot be read: No such file or directory"),
    ):
        arguments = ["keras-course", "verify", str(tmp_path / name), "--key", str(tmp_path / "a.key")]
        monkeypatch.setattr(sys, "argv", arguments)
        with pytest.raises(CourseError, match=re.escape(f"{tmp_path / name}{reason}")):
            cli.main()


def test_another_key_is_refused():
    with pytest.raises(CourseError, match="another key"):
        verify(json.dumps(result()), bytes(32))


def test_new_keys_differ_and_only_the_owner_can_read_them(tmp_path):
    for name in ("a.key", "b.key"):
        new_key(tmp_path / name)
    keys = [read_key(tmp_path / name) for name in ("a.key", "b.key")]
    assert keys[0] != keys[1]
    assert [len(key) for key in keys] == [32, 32]
    if os.name == "posix":
        assert stat.S_IMODE((tmp_path / "a.key").stat().st_mode) == 0o600


def test_new_key_refuses_an_existing_file(tmp_path):
    new_key(tmp_path / "a.key")
    before = (tmp_path / "a.key").read_bytes()
    with pytest.raises(CourseError, match="is there already"):
        new_key(tmp_path / "a.key")
    assert (tmp_path / "a.key").read_bytes() == before
    with pytest.raises(CourseError, match="cannot be written"):
        new_key(tmp_path / "no" / "such" / "folder.key")


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX permissions")
def test_a_key_that_others_can_read_causes_a_warning(tmp_path, capsys):
    new_key(tmp_path / "a.key")
    read_key(tmp_path / "a.key")
    assert capsys.readouterr().err == ""
    (tmp_path / "a.key").chmod(0o644)
    read_key(tmp_path / "a.key")
    assert "chmod 600" in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"", b"\xff" * 32, b"00" * 31, b"00" * 33, b"00" * 1000, b"no key at all"])
def test_a_file_without_a_key_is_refused(tmp_path, content):
    (tmp_path / "a.key").write_bytes(content)
    with pytest.raises(CourseError, match="holds no key"):
        read_key(tmp_path / "a.key")


def test_a_missing_key_says_how_to_make_one(tmp_path):
    with pytest.raises(CourseError, match="cannot be read: No such file or directory; make one with keras-course new-"):
        read_key(tmp_path / "no_such.key")


def test_a_folder_as_key_is_refused(tmp_path):
    with pytest.raises(CourseError, match=r"cannot be read|is not a file"):
        read_key(tmp_path)


def test_a_pipe_as_key_is_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "a.key")
    with pytest.raises(CourseError, match="is not a file"):
        read_key(tmp_path / "a.key")


def test_a_full_disk_leaves_no_partial_key(tmp_path, small_disk):
    with small_disk(10), pytest.raises(CourseError, match=r"cannot write .*a\.key \(File too large\)"):
        new_key(tmp_path / "a.key")
    new_key(tmp_path / "a.key")
    assert len(read_key(tmp_path / "a.key")) == 32
