"""The check of ONNX files, which are messages of protocol buffers: a tag for each field, then its length or number."""

import pytest

from keras_course.deployment.onnx_files import check_own_tensors
from keras_course.errors import CourseError

# field 7 of a model is its graph, field 5 of a graph a tensor, field 14 of a tensor where its numbers are
OWN, OUTSIDE = b"\x70\x00", b"\x70\x01"


def message(field, content):
    return bytes([field << 3 | 2, len(content)]) + content


def test_a_tensor_in_the_file_itself_is_accepted():
    assert check_own_tensors(message(7, message(5, OWN))) is None


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (message(7, message(5, OUTSIDE)), "it has a tensor in another file, which is not read"),
        (message(7, message(5, OWN))[:1], "it is damaged"),
        (b"\x38\x01", "it is damaged"),  # a number in the place of the graph
        (message(7, b"\x28\x01"), "it is damaged"),  # a number in the place of a tensor
    ],
)
def test_a_tensor_in_another_file_and_damage_are_refused(content, reason):
    with pytest.raises(CourseError, match=reason):
        check_own_tensors(content)
