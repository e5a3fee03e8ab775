"""Untrusted names in a terminal and in a spreadsheet."""

import csv
import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_course.foreign_text import as_cell, printable

# Characters that start a formula in a spreadsheet, with their full-width forms.
SIGNS = "=+-@\uff1d\uff0b\uff0d\uff20\u2212"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cat.jpg", "cat.jpg"),
        ("Käse 猫.jpg", "Käse 猫.jpg"),
        ("a\x1b[2Jb", "a\\x1b[2Jb"),
        ("passed\nfailed", "passed\\nfailed"),
        ("a\rb\tc\x00d", "a\\rb\\tc\\x00d"),
        ("gpj.\u202etac", "gpj.\\u202etac"),
        ("a\u2028b\u200bc\ufeff", "a\\u2028b\\u200bc\\ufeff"),
        ("\udcff", "\\udcff"),
        ("\x9b31m", "\\x9b31m"),
    ],
)
def test_unprintable_characters_are_escaped(text, expected):
    assert printable(text) == expected


@given(st.text(max_size=30))
def test_printable_returns_one_line_without_control_characters(text):
    shown = printable(text)
    assert shown.isprintable()
    assert len(shown.splitlines()) <= 1
    shown.encode("utf-8")


@given(st.text(alphabet=st.sampled_from([*SIGNS, *",;|:\t \"'a1\r\n"]), max_size=12))
def test_no_cell_starts_a_formula_with_any_separator(text):
    cell = as_cell(text)
    for separator in ",;|:\t":
        file = io.StringIO()
        csv.writer(file).writerow([cell, "next"])
        for found in next(csv.reader(io.StringIO(file.getvalue()), delimiter=separator)):
            assert not re.match(rf"\s*[{re.escape(SIGNS)}]", found), (separator, found)


@pytest.mark.parametrize("name", ["ann-lee", "1+1", "a@b.org", "3rd = best"])
def test_signs_within_a_word_are_unchanged(name):
    assert as_cell(name) == name
