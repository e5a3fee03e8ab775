"""Names and paths of a folder's files; test_photo_folder.py reads whole folders."""

from functools import partial

import pytest

from keras_course.datasets import folders


@pytest.mark.parametrize(("names", "expected"), [("", ""), ("cab", "a, b, c"), ("gfedcba", "a, b, c, d, e and 2 more")])
def test_the_first_five_names_are_shown(names, expected):
    assert folders.names_of(names) == expected


def test_paths_are_joined_and_sorted_folder_by_folder():
    paths = [folders.join("a-b", "1"), folders.join("a", "2"), folders.join("", "a")]
    assert sorted(paths, key=folders.in_order) == ["a", "a/2", "a-b/1"]


def test_a_file_that_cannot_be_opened_is_skipped_with_the_reason(tmp_path):
    missing = tmp_path / "photo"  # it was removed after the folder was listed
    assert folders.reason_against("photo", 9, partial(missing.open, "rb")) == "No such file or directory"
