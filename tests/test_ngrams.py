"""Interpolated Kneser-Ney smoothing, against NLTK and against numbers worked out by hand."""

import itertools
import math
import time

import numpy as np
import pytest

from keras_course.datasets import sentences
from keras_course.errors import CourseError
from keras_course.models import KneserNey
from keras_course.preprocessing import text, word_format

# What counts tokens needs no backend; importing the models does.
pytestmark = pytest.mark.one_backend

START = "<s>"


@pytest.fixture(scope="module")
def corpus():
    """700 random sentences of 12 letters, of which the first ones are more frequent, and 100 held-out ones."""
    draws = np.random.default_rng(0)
    words = np.array(list("abcdefghijkl"))
    shares = 1 / np.arange(1, 13)
    found = [draws.choice(words, size=draws.integers(0, 7), p=shares / shares.sum()).tolist() for _ in range(800)]
    return found[:700], found[700:]


def of_nltk(train, order, discount):
    """NLTK's model of the same n-grams: those that end in a start are never predicted, and are left out."""
    lm = pytest.importorskip("nltk.lm", reason="needs nltk: pip install -e '.[test]'")
    everygrams = [
        [
            padded[first:last]
            for padded in [(START,) * (order - 1) + tuple(sentence) + ("[END]",)]
            for first, last in itertools.combinations(range(len(padded) + 1), 2)
            if last - first <= order and padded[last - 1] != START
        ]
        for sentence in train
    ]
    model = lm.KneserNeyInterpolated(order, discount=discount)
    model.fit(everygrams, sorted({START, "[END]"}.union(*train)))
    return model


@pytest.mark.parametrize(("order", "discount"), [(2, 0.75), (3, 0.75), (3, 0.1), (4, 0.9)])
class TestAgainstNltk:
    def test_probabilities_after_seen_and_unseen_contexts(self, corpus, order, discount):
        train, _ = corpus
        theirs, ours = of_nltk(train[:80], order, discount), KneserNey(order, discount).fit(train[:80])
        assert len(ours.vocabulary) == 13
        for context in ([], ["a"], ["k"], ["a", "a"], ["l", "k"], ["l", "k", "l"], ["a", "b", "a", "b"]):
            padded = [START] * (order - 1) + context
            expected = [theirs.score(token, padded[1 - order :]) for token in ours.vocabulary]
            np.testing.assert_allclose(ours.probabilities(context), expected, rtol=1e-12, atol=1e-15)

    def test_perplexity_of_held_out_sentences(self, corpus, order, discount):
        train, valid = corpus
        theirs, ours = of_nltk(train[:80], order, discount), KneserNey(order, discount).fit(train[:80])
        surprises = []
        for sentence in valid[:10]:
            padded = [START] * (order - 1) + sentence + ["[END]"]
            for place in range(order - 1, len(padded)):
                surprises.append(-theirs.logscore(padded[place], padded[place + 1 - order : place]) * math.log(2))
        np.testing.assert_allclose(-ours.log_probabilities(valid[:10]), surprises, rtol=1e-12)
        assert ours.perplexity(valid[:10]) == pytest.approx(math.exp(np.mean(surprises)), rel=1e-12)


class TestByHand:
    """ "San Francisco" three times: frequent, but after one word only, so it is improbable after another one."""

    TRAIN = (*[["san", "francisco"]] * 3, ["my", "glasses"], ["old", "glasses"])

    def test_a_frequent_word_after_one_other_is_improbable_elsewhere(self):
        model = KneserNey(order=2, discount=0.5).fit(self.TRAIN)
        # different pairs: (start, san), (start, my), (start, old), (san, francisco), (my, glasses), (old, glasses),
        # (francisco, end), (glasses, end)
        shortest = {"francisco": 1 / 8, "glasses": 2 / 8, "[END]": 2 / 8, "san": 1 / 8, "my": 1 / 8, "old": 1 / 8}
        after_my = {token: 0.5 * share for token, share in shortest.items()}  # discount * 1 word / count 1
        after_my["glasses"] += 0.5
        found = dict(zip(model.vocabulary, model.probabilities(["my"]), strict=True))
        assert found == pytest.approx(after_my, rel=1e-14)
        assert found["glasses"] > 9 * found["francisco"]

    def test_an_unseen_context_has_the_shortest_one(self):
        model = KneserNey(order=3, discount=0.5, vocabulary=["[END]", "a", "b", "[UNK]"]).fit([["a"], ["a", "b"]])
        # different pairs: (start, a), (a, end), (a, b), (b, end); discounted, and an even quarter of what is left
        shortest = np.array([1.5, 0.5, 0.5, 0]) / 4 + 0.5 * 3 / 4 / 4
        np.testing.assert_allclose(model.probabilities(["b", "x"]), shortest, rtol=1e-14)

    def test_perplexity(self):
        model = KneserNey(order=2, discount=0.75).fit([["a", "b"]])
        # each token: (1 - 0.75) / 1 + 0.75 * 1 / 3
        assert model.perplexity([["a", "b"]]) == pytest.approx(2.0, rel=1e-14)
        np.testing.assert_allclose(model.log_probabilities([["a"], []]), np.log([0.5, 0.25, 0.25]), rtol=1e-14)


class TestProbabilities:
    @pytest.mark.parametrize("order", [2, 3, 5])
    @pytest.mark.parametrize("is_open", [True, False])
    def test_they_add_up_to_one(self, corpus, order, is_open):
        train, valid = corpus
        vocabulary = None if is_open else ["[PAD]", "[UNK]", "[END]", *"abcdefghijklmnop"]
        model = KneserNey(order, vocabulary=vocabulary).fit(train)
        for sentence in [[], *valid[:30]]:
            found = model.probabilities(sentence)
            assert found.sum() == pytest.approx(1, rel=1e-12)
            assert (found > 0).all()

    def test_one_token_has_the_same_probability_alone_and_in_the_table(self, corpus):
        train, valid = corpus
        model = KneserNey(3, vocabulary=["[END]", "[UNK]", *"abcdefgh"]).fit(train)
        number = {token: place for place, token in enumerate(model.vocabulary)}
        found = iter(model.log_probabilities(valid[:20]))
        for sentence in valid[:20]:
            for place, token in enumerate([*sentence, "[END]"]):
                expected = model.probabilities(sentence[:place])[number.get(token, number["[UNK]"])]
                assert next(found) == pytest.approx(math.log(expected), rel=1e-12)

    def test_unknown_words_are_those_of_the_vocabulary_in_training_and_after(self):
        model = KneserNey(2, vocabulary=["[END]", "[UNK]", "a"]).fit([["a", "x"], ["a", "y"]])
        same = KneserNey(2, vocabulary=["[END]", "[UNK]", "a"]).fit([["a", "[UNK]"], ["a", "[UNK]"]])
        assert model.perplexity([["z"]]) == same.perplexity([["[UNK]"]])

    def test_a_second_fit_forgets_the_first(self):
        model = KneserNey(2).fit([["a", "b"], ["c"]])
        assert model.fit([["x"]]).vocabulary == ("[END]", "x")
        np.testing.assert_array_equal(model.probabilities([]), KneserNey(2).fit([["x"]]).probabilities([]))

    def test_sentences_may_be_a_generator(self):
        model = KneserNey(2).fit(["a"] for _ in range(3))
        np.testing.assert_array_equal(model.probabilities([]), KneserNey(2).fit([["a"]] * 3).probabilities([]))


class TestOnTheSample:
    def test_it_is_fast_and_better_than_a_shorter_context(self):
        train, valid = sentences.split(sentences.load_data())
        format = word_format(train, min_count=2)
        counted, asked = ([text.split(sentence, format) for sentence in part] for part in (train, valid))
        start = time.process_time()
        three = KneserNey(3, vocabulary=format.vocabulary).fit(counted).perplexity(asked)
        assert time.process_time() - start < 20  # one second on one core
        two = KneserNey(2, vocabulary=format.vocabulary).fit(counted).perplexity(asked)
        assert 100 < three < two < 200


class TestBadInput:
    @pytest.mark.parametrize("order", [1, 11, 2.5, True, "3"])
    def test_order(self, order):
        with pytest.raises(CourseError, match=r"order is .*; give a whole number from 2 to 10"):
            KneserNey(order)

    @pytest.mark.parametrize("discount", [0, 1, -0.5, float("nan"), "0.5", None])
    def test_discount(self, discount):
        with pytest.raises(CourseError, match=r"discount is .*; give a number above 0 and below 1"):
            KneserNey(discount=discount)

    @pytest.mark.parametrize(
        ("vocabulary", "message"), [(["[END]", "a", "a"], "has a token twice"), (["a"], r"lacks \[END\]")]
    )
    def test_vocabulary(self, vocabulary, message):
        with pytest.raises(CourseError, match=message):
            KneserNey(vocabulary=vocabulary)

    def test_no_sentences(self):
        with pytest.raises(CourseError, match="there are no sentences"):
            KneserNey().fit([])
        with pytest.raises(CourseError, match="there are no sentences"):
            KneserNey().fit([["a"]]).perplexity([])

    def test_a_sentence_that_is_not_split(self):
        with pytest.raises(CourseError, match=r"sentences\[1\] is the text 'to be'; split it into tokens first"):
            KneserNey().fit([["to"], "to be"])
        with pytest.raises(CourseError, match=r"sentences\[0\] is the text 'to be'"):
            KneserNey().fit([["to"]]).perplexity(["to be"])

    def test_tokens_that_are_numbers(self):
        with pytest.raises(CourseError, match=r"sentences\[1\] has the token 3; give tokens that are texts"):
            KneserNey().fit([["a"], ["a", 3]])

    def test_nothing_counted_yet(self):
        for ask in (KneserNey().probabilities, KneserNey().perplexity, KneserNey().log_probabilities):
            with pytest.raises(CourseError, match="call fit first"):
                ask([["a"]])

    def test_an_unknown_word_without_a_token_that_replaces_it(self):
        with pytest.raises(CourseError, match=r"'b' is not in the vocabulary, which has no \[UNK\] to replace it"):
            KneserNey().fit([["a"]]).perplexity([["a", "b"]])
        with pytest.raises(CourseError, match="'b' is not in the vocabulary"):
            KneserNey(vocabulary=["[END]", "a"]).fit([["b"]])
