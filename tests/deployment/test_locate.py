"""Finding the file of a model, and opening it without following links."""

import os

import pytest

from keras_course.deployment.locate import find_model, open_file, read_file
from keras_course.errors import CourseError


@pytest.mark.parametrize("name", ["a" * 5000, "~nobody_of_this_name/model.keras", "no_such_run"])
def test_a_name_that_cannot_be_a_path_is_a_missing_model(name):
    with pytest.raises(CourseError, match=f"there is no {name}; give a run folder or the file of a model"):
        find_model(name)


def test_only_a_file_with_one_name_is_read(tmp_path):
    file = tmp_path / "model.onnx"
    file.write_bytes(b"content")
    assert read_file(file) == b"content"
    (tmp_path / "link.onnx").symlink_to(file)
    with pytest.raises(CourseError, match=r"link\.onnx cannot be read"):
        open_file(tmp_path / "link.onnx")
    os.link(file, tmp_path / "second.onnx")
    with pytest.raises(CourseError, match=r"model\.onnx is a link, or not a regular file; copy the file itself"):
        open_file(file)
