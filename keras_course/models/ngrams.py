"""Language models that count: n-grams with interpolated Kneser-Ney smoothing, in plain Python and NumPy."""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from keras_course.arguments import is_number, shown
from keras_course.errors import CourseError

__all__ = ["KneserNey"]

FloatArray = npt.NDArray[np.float64]

_START: Final = -1
"""The number of the token before a sentence; it is never predicted."""
_LARGEST_ORDER: Final = 10

Context = tuple[int, ...]


class KneserNey:
    """A language model of n-grams with interpolated Kneser-Ney smoothing.

    The probability of a token w after the n - 1 tokens c before it is

        P(w | c) = max(N(c w) - d, 0) / N(c) + d * T(c) / N(c) * P(w | c without its first token)

    N(c w) is how often w follows c, N(c) the sum over all w, T(c) the number of different w, and d the discount. In the
    shorter contexts N(c w) is instead the number of different tokens that stand before c w: "Francisco" is frequent,
    but follows little else than "San". With a vocabulary, the shortest context mixes in its even distribution by the
    same rule, so that each of its tokens has a probability above 0.

    Args:
        order: The n of the longest n-grams: 3 for a token and the two before it.
        discount: The part of each count that is given to other tokens, above 0 and below 1.
        vocabulary: All tokens that may occur. Others are replaced by ``unknown``, which must be one of them. By
            default it is made of the training sentences.
        end: The token that ends a sentence.
        unknown: The token that replaces unknown ones.

    Raises:
        CourseError: An argument is out of range, or the vocabulary has a token twice or lacks ``end``.

    Example:
        >>> model = KneserNey(order=2).fit([["to", "be"], ["to", "see"]])
        >>> model.vocabulary
        ('[END]', 'be', 'see', 'to')
        >>> model.probabilities(["to"]).round(3).tolist()
        [0.3, 0.275, 0.275, 0.15]

    Source: R. Kneser and H. Ney, "Improved backing-off for m-gram language modeling", 1995; S. F. Chen and
    J. Goodman, "An empirical study of smoothing techniques for language modeling", 1999.
    """

    def __init__(
        self,
        order: int = 3,
        discount: float = 0.75,
        *,
        vocabulary: Sequence[str] | None = None,
        end: str = "[END]",
        unknown: str = "[UNK]",
    ) -> None:
        if isinstance(order, bool) or not isinstance(order, int) or not 2 <= order <= _LARGEST_ORDER:
            raise CourseError(f"order is {shown(order)}; give a whole number from 2 to {_LARGEST_ORDER}")
        if not is_number(discount) or not 0 < discount < 1:
            raise CourseError(f"discount is {shown(discount)}; give a number above 0 and below 1")
        self.order, self.discount = order, float(discount)
        self.end, self.unknown = end, unknown
        self._is_open = vocabulary is None
        self._set_vocabulary([end] if vocabulary is None else vocabulary)
        self._levels: list[_Level] = []

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """The tokens, in the order of the probabilities."""
        return self._vocabulary

    def fit(self, sentences: Iterable[Sequence[str]]) -> "KneserNey":
        """Counts the n-grams of some sentences; what was counted before is forgotten.

        Args:
            sentences: The tokens of each sentence, without ``end``.

        Returns:
            The model itself.

        Raises:
            CourseError: There are no sentences, a sentence is a text, or a token is not in the vocabulary.

        Example:
            >>> round(KneserNey(order=2).fit([["a", "b"], ["a", "c"]]).perplexity([["a", "b"]]), 3)
            2.114
        """
        found = list(sentences)
        if not found:
            raise CourseError("there are no sentences; give at least one to count")
        if self._is_open:
            words = {token for sentence in _checked(found) for token in sentence} - {self.end}
            self._set_vocabulary([self.end, *sorted(words)])
        ngrams: defaultdict[Context, int] = defaultdict(int)
        for numbers in self._numbers(found):
            for place in range(self.order - 1, len(numbers)):
                ngrams[tuple(numbers[place + 1 - self.order : place + 1])] += 1
        self._levels = [_Level(ngrams)]
        while len(self._levels) < self.order:
            shorter: defaultdict[Context, int] = defaultdict(int)
            for ngram in ngrams:  # each different one counts once for what it ends with
                shorter[ngram[1:]] += 1
            ngrams = shorter
            self._levels.append(_Level(ngrams))
        return self

    def probabilities(self, context: Sequence[str]) -> FloatArray:
        """Returns the probability of each token after the beginning of a sentence.

        Args:
            context: The tokens of the sentence so far; none for the first token.

        Returns:
            float64 ``(vocabulary,)``, with the sum 1.

        Raises:
            CourseError: The model has not counted anything yet, or a token is not in the vocabulary.

        Example:
            >>> float(KneserNey(order=2).fit([["a", "b"]]).probabilities(["a"]).sum())
            1.0
        """
        levels = self._fitted()
        (numbers,) = self._numbers([context])
        size = len(self._vocabulary)
        found = np.zeros(size) if self._is_open else np.full(size, 1 / size)
        for level, part in zip(reversed(levels), self._contexts(numbers[:-1]), strict=True):
            if (total := level.totals.get(part)) is None:
                continue
            words = level.words[part]
            discount = self._discount_of(part)
            found *= discount * len(words) / total
            found[words] += [(level.counts[(*part, word)] - discount) / total for word in words]
        return found

    def log_probabilities(self, sentences: Sequence[Sequence[str]]) -> FloatArray:
        """Returns the logarithm of the probability of each token, including the ends, given those before it.

        Args:
            sentences: The tokens of each sentence, without ``end``.

        Returns:
            float64 ``(n,)`` in nats, sentence after sentence, each with one number more than it has tokens.

        Raises:
            CourseError: The model has not counted anything yet, there are no sentences, or a token is not in the
                vocabulary.

        Example:
            >>> KneserNey(order=2).fit([["a", "b"]]).log_probabilities([["a"], []]).shape
            (3,)
        """
        levels = self._fitted()
        if not len(sentences):
            raise CourseError("there are no sentences; give at least one")
        found = [
            math.log(self._probability(levels, tuple(numbers[place + 1 - self.order : place]), numbers[place]))
            for numbers in self._numbers(sentences)
            for place in range(self.order - 1, len(numbers))
        ]
        return np.array(found)

    def perplexity(self, sentences: Sequence[Sequence[str]]) -> float:
        """Computes the perplexity: the exponential of the mean surprise, over all tokens including the ends.

        Args:
            sentences: The tokens of each sentence, without ``end``.

        Returns:
            A number from 1 up; a model that guesses evenly among k tokens has k.

        Raises:
            CourseError: The model has not counted anything yet, there are no sentences, or a token is not in the
                vocabulary.

        Example:
            >>> round(KneserNey(order=2).fit([["a", "b"]]).perplexity([["a", "b"]]), 3)
            2.0
        """
        return math.exp(-float(self.log_probabilities(sentences).mean()))

    def _set_vocabulary(self, vocabulary: Sequence[str]) -> None:
        self._vocabulary = tuple(vocabulary)
        self._number_of = {token: number for number, token in enumerate(self._vocabulary)}
        if len(self._number_of) < len(self._vocabulary):
            raise CourseError("vocabulary has a token twice; give each once")
        if self.end not in self._number_of:
            raise CourseError(f"vocabulary lacks {self.end}, the end of a sentence; add it, or name another end")

    def _fitted(self) -> list["_Level"]:
        if not self._levels:
            raise CourseError("the model has not counted anything yet; call fit first")
        return self._levels

    def _numbers(self, sentences: Sequence[Sequence[str]]) -> Iterable[list[int]]:
        """Yields the numbers of each sentence, after as many starts as the longest context has, and with its end."""
        start, end = [_START] * (self.order - 1), self._number_of[self.end]
        unknown = self._number_of.get(self.unknown)
        for sentence in _checked(sentences):
            numbers = [self._number_of.get(token, unknown) for token in sentence]
            if None in numbers:
                token = sentence[numbers.index(None)]
                raise CourseError(
                    f"{shown(token)} is not in the vocabulary, which has no {self.unknown} to replace it; "
                    f"give a vocabulary with {self.unknown}"
                )
            yield [*start, *(number for number in numbers if number is not None), end]

    def _contexts(self, numbers: Sequence[int]) -> list[Context]:
        """Returns the last tokens, from none to one fewer than the order."""
        return [tuple(numbers[len(numbers) - length :]) for length in range(self.order)]

    def _discount_of(self, context: Context) -> float:
        """Returns the discount; the shortest context has none without a vocabulary, as nothing is mixed in there."""
        return 0.0 if self._is_open and not context else self.discount

    def _probability(self, levels: list["_Level"], context: Context, word: int) -> float:
        """Computes the probability of one token, from the longest context to the shortest."""
        found, share = 0.0, 1.0
        for level in levels:
            if (total := level.totals.get(context)) is not None:
                discount = self._discount_of(context)
                if count := level.counts.get((*context, word)):
                    found += share * (count - discount) / total
                share *= discount * len(level.words[context]) / total
            context = context[1:]
        return found if self._is_open else found + share / len(self._vocabulary)


class _Level:
    """The n-grams of one length: how often each occurs, and for each context the sum and the tokens after it."""

    def __init__(self, ngrams: defaultdict[Context, int]) -> None:
        self.counts = dict(ngrams)
        totals: defaultdict[Context, int] = defaultdict(int)
        words: defaultdict[Context, list[int]] = defaultdict(list)
        for ngram, count in ngrams.items():
            totals[ngram[:-1]] += count
            words[ngram[:-1]].append(ngram[-1])
        self.totals, self.words = dict(totals), dict(words)


def _checked(sentences: Iterable[Sequence[str]]) -> Iterable[Sequence[str]]:
    """Yields the sentences, unless one is a text that is not split yet, or has a token that is no text."""
    for number, sentence in enumerate(sentences):
        if isinstance(sentence, str):
            raise CourseError(f"sentences[{number}] is the text {shown(sentence)}; split it into tokens first")
        for token in sentence:
            if not isinstance(token, str):
                raise CourseError(f"sentences[{number}] has the token {shown(token)}; give tokens that are texts")
        yield sentence
