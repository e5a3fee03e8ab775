"""What the formats of the frameworks have in common."""

from keras_course._backend.model_formats import shape_of


def test_a_side_of_any_length_is_none():
    assert (shape_of(("batch", 28, -1)), shape_of(())) == ((None, 28, None), None)
