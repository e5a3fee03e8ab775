"""What a BERT is used for: vectors of tokens, hidden words and answers, against the model called alone."""

from dataclasses import replace

import keras
import numpy as np
import pytest

from keras_course import evaluation
from keras_course.errors import CourseError
from keras_course.models import masked_word_head, masked_word_model
from keras_course.preprocessing.text import encode, encode_pairs, mask_words
from keras_course.pretrained import fill_mask, find_answer, load_bert, token_vectors
from tests.pretrained.checkpoints import write_checkpoint

WORDS = [*"abcdefghijklm", "##b", "##c", "red", "blue", "green", ".", "?"]
TEXTS = ["a b c d e", "red.", "a blue green red b c d e f g h i", "m", "green blue"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    heads = ("masked_word", "question_answering")
    return write_checkpoint(tmp_path_factory.mktemp("bert") / "small", WORDS, heads=heads, seed=1)


@pytest.fixture(scope="module")
def bert(folder):
    return load_bert(folder)


@pytest.fixture(scope="module")
def guesser(folder):
    return load_bert(folder, head="masked_word")


@pytest.fixture(scope="module")
def squad(folder):
    return load_bert(folder, head="question_answering")


def alone(model, tokens, segment_ids=None):
    """Returns what a model computes for one text without padding."""
    row = np.asarray(tokens, "int32")[None]
    segments = np.zeros_like(row) if segment_ids is None else np.asarray(segment_ids, "int32")[None]
    inputs = {"token_ids": row, "segment_ids": segments, "padding_mask": np.ones_like(row, bool)}
    return keras.ops.convert_to_numpy(model(inputs, training=False))[0]


def without_padding(row):
    return row[row != 0]


class TestTokenVectors:
    def test_each_is_that_of_the_text_alone(self, bert):
        tokens, places = encode(TEXTS, bert.format), np.array([3, 1, 9, 0, 2])
        found = token_vectors(bert, tokens, places, batch_size=2)
        expected = [alone(bert.model, without_padding(row))[place] for row, place in zip(tokens, places, strict=True)]
        np.testing.assert_allclose(found, expected, atol=1e-5)
        assert np.std(expected) > 0.1

    def test_the_head_on_them_is_the_model(self, bert, guesser):
        masked = mask_words(encode(TEXTS, bert.format), bert.format)
        hidden = token_vectors(bert, masked.tokens, masked.places)
        found = keras.ops.convert_to_numpy(masked_word_head(guesser.model)(hidden))
        whole = [alone(guesser.model, without_padding(row)) for row in masked.tokens]
        np.testing.assert_allclose(
            found, [logits[place] for logits, place in zip(whole, masked.places, strict=True)], atol=1e-4
        )

    @pytest.mark.one_backend
    @pytest.mark.parametrize(
        ("tokens", "places", "message"),
        [
            ([2, 5, 3], [0], r"tokens are int64 \(3,\)"),
            ([[2.0, 5.0, 3.0]], [0], "tokens are float64"),
            ([[2, 10**6, 3]], [1], "tokens are from 2 to 1000000; give numbers from 0 to"),
            ([[2, 5, 3]], [0, 1], r"places are int64 \(2,\)"),
            ([[2, 5, 3]], [3], "places are"),
            ([[2, 5, 3]], [-1], "places are"),
            ([[2, 5, 3]], [1.0], "places are float64"),
        ],
    )
    def test_bad_arguments(self, bert, tokens, places, message):
        with pytest.raises(CourseError, match=message):
            token_vectors(bert, tokens, places)

    @pytest.mark.one_backend
    def test_a_model_with_a_head_is_refused(self, guesser):
        with pytest.raises(CourseError, match="gives no vectors of tokens; load it with head=None"):
            token_vectors(guesser, [[2, 5, 3]], [1])


class TestFillMask:
    def test_the_words_and_their_probabilities(self, guesser):
        text = "a b [MASK] red."
        tokens = without_padding(encode([text], guesser.format)[0])
        probabilities = evaluation.softmax(alone(guesser.model, tokens)[3:4])[0]
        found = fill_mask(guesser, text, count=100)
        assert [word for word, _ in found] == [
            guesser.format.vocabulary[number] for number in np.argsort(-probabilities) if number >= 5
        ]
        expected = np.sort(probabilities[5:])[::-1]
        np.testing.assert_allclose([probability for _, probability in found], expected, rtol=1e-4)

    @pytest.mark.one_backend
    def test_a_new_head_on_an_encoder(self, bert):
        with_head = replace(bert, model=masked_word_model(bert.model, seed=3))
        assert len(fill_mask(with_head, "a [MASK]", count=3)) == 3

    @pytest.mark.one_backend
    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("a b", r"the text has 0 \[MASK\]"),
            ("[MASK] a [MASK]", r"the text has 2 \[MASK\]"),
            ("", "has no word pieces"),
        ],
    )
    def test_bad_texts(self, guesser, text, message):
        with pytest.raises(CourseError, match=message):
            fill_mask(guesser, text)

    @pytest.mark.one_backend
    def test_bad_arguments(self, guesser, bert):
        with pytest.raises(CourseError, match="count is 0"):
            fill_mask(guesser, "a [MASK]", count=0)
        with pytest.raises(CourseError, match="predicts no masked words"):
            fill_mask(bert, "a [MASK]")
        with pytest.raises(CourseError, match="predicts no masked words; give a model of masked_word_model"):
            masked_word_head(bert.model)


class TestFindAnswer:
    QUESTION, PARAGRAPH = "a red b?", "Red  is  BLUE. a green cab, d e f."

    def test_it_is_the_best_of_all_parts_of_the_paragraph(self, squad):
        pair = encode_pairs([self.QUESTION], [self.PARAGRAPH], squad.format)
        tokens = without_padding(pair.tokens[0])
        first, last = alone(squad.model, tokens, pair.segment_ids[0, : len(tokens)]).T.astype("float64")
        places = [place for place in range(len(tokens)) if pair.offsets[0, place, 0] >= 0]
        for longest in (1, 3, 30):
            sums = {(i, j): first[i] + last[j] for i in places for j in places if i <= j < i + longest}
            best = max(sums, key=sums.get)
            found = find_answer(squad, self.QUESTION, self.PARAGRAPH, longest=longest)
            start, end = int(pair.offsets[0, best[0], 0]), int(pair.offsets[0, best[1], 1])
            assert (found.start, found.end) == (start, end)
            assert found.text == self.PARAGRAPH[start:end]
            total = sum(np.exp(value - sums[best]) for value in sums.values())
            assert found.probability == pytest.approx(1 / total, rel=1e-4)

    @pytest.mark.one_backend
    def test_bad_arguments(self, squad, bert, guesser):
        for other in (bert, guesser):
            with pytest.raises(CourseError, match="answers no questions; load it with head='question_answering'"):
                find_answer(other, self.QUESTION, self.PARAGRAPH)
        with pytest.raises(CourseError, match="longest is 0"):
            find_answer(squad, self.QUESTION, self.PARAGRAPH, longest=0)
        with pytest.raises(CourseError, match="shorten them"):
            find_answer(squad, self.QUESTION, "a " * 100)
        with pytest.raises(CourseError, match=r"questions\[0\]"):
            find_answer(squad, "", self.PARAGRAPH)


@pytest.mark.one_backend
def test_the_heads_of_a_checkpoint_are_named(bert, tmp_path):
    assert set(bert.heads) == {"sentence", "masked_word", "question_answering"}
    other = write_checkpoint(tmp_path / "other", WORDS, heads=("pooled", "classifier"))
    assert set(load_bert(other).heads) == {"sentence", "pooled", "classifier"}
    assert load_bert(write_checkpoint(tmp_path / "plain", WORDS)).heads == ("sentence",)
