"""The most probable classes, of few and of many."""

import numpy as np
import pytest

from keras_course.deployment.answers import Answer, Prediction, most_probable


@pytest.mark.parametrize("classes", [5, 4095, 4096, 30_000])
@pytest.mark.parametrize("top", [1, 3, 500])
def test_most_probable_equals_a_stable_full_sort(classes, top):
    random = np.random.default_rng(classes + top)
    for logits in (
        random.normal(0, 3, (4, classes)).astype("float32"),
        random.integers(0, 3, (4, classes)).astype("float32"),  # most are equal
        np.zeros((1, classes), "float32"),
    ):
        numbers, probabilities = most_probable(logits, top=top)
        expected = np.lexsort((np.broadcast_to(np.arange(classes), logits.shape), -logits), axis=1)[:, :top]
        np.testing.assert_array_equal(numbers, expected)
        shares = np.exp(logits.astype("float64"))
        shares /= shares.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(probabilities, np.take_along_axis(shares, expected, axis=1))


def test_a_prediction_in_json_has_its_kind_and_its_note():
    answers = (Answer("be", 0.5),)
    in_json = [{"class": "be", "probability": 0.5}]
    assert Prediction("a.png", answers).to_dict() == {"picture": "a.png", "answers": in_json}
    assert Prediction("to", answers, kind="text").to_dict() == {"text": "to", "answers": in_json}
    noted = Prediction("to", answers, note="it was cut", kind="text")
    assert noted.to_dict() == {"text": "to", "answers": in_json, "note": "it was cut"}
    assert Prediction("to", error="no", kind="text").to_dict() == {"text": "to", "error": "no"}
