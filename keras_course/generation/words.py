"""Writes text with a language model: greedily, by sampling, or by beam search.

The model computes the logits of the next word; everything after that is computed on the host in NumPy, with random
numbers of the course's generator. So one seed writes the same words on every backend.
"""

from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np

from keras_course import _backend
from keras_course.arguments import is_number, number, shown, whole_number
from keras_course.errors import CourseError
from keras_course.models.transformer import cached_language_model
from keras_course.preprocessing.text import decode, split
from keras_course.preprocessing.text_format import TextFormat
from keras_course.randomness import Key, stream_key, uniform

if TYPE_CHECKING:
    import keras

__all__ = ["Step", "Writer", "write"]

_STRATEGIES: Final = ("sample", "greedy", "beam")
_SHOWN: Final = 5
"""The number of most probable words in a step."""
_SURE: Final = 1e-6
"""The logits of two backends differ by about so much; a nucleus must not."""
_CONTEXT: Final = 64
"""So many words before a word decide how it is joined to them."""


@dataclass(frozen=True)
class Step:
    """One word that a model has written.

    Args:
        token: The number of the word in the vocabulary.
        word: The word as the vocabulary has it; ``[END]`` at the end of a sentence.
        text: What to append to the text so far: the word with a space before it where one belongs; empty at the end.
        probability: The probability of the word in the distribution from which it was taken.
        alternatives: The most probable words of this distribution with their probabilities, the largest first.
    """

    token: int
    word: str
    text: str
    probability: float
    alternatives: tuple[tuple[str, float], ...]


class Writer:
    """Writes texts with a language model, whose step is compiled once.

    Args:
        model: A language model: from tokens (batch, sequence_length) to logits of the next token (batch, vocabulary),
            such as ``recurrent_language_model``, or one of ``causal_language_model``. The weights are those at the
            first call of ``write``; make a new ``Writer`` after further training.
        format: The text format of the model, in words or characters.

    Raises:
        CourseError: The model is no language model, or has another vocabulary or length than the format.

    Example:
        >>> from keras_course.models import recurrent_language_model
        >>> words = ("[PAD]", "[UNK]", "[END]", "to", "be", "or", "not")
        >>> format = TextFormat(unit="words", vocabulary=words, sequence_length=4, padding="left")
        >>> writer = Writer(recurrent_language_model(vocabulary_size=7, sequence_length=4), format)
        >>> len([step.text for step in writer.write("to be", strategy="greedy", length=3)])
        3
    """

    def __init__(self, model: "keras.Model", format: TextFormat) -> None:
        self._format = format
        self._banned = [format.pad, format.unknown]
        self._end = format.end
        self._net: _Net = (_Cached if is_causal(model, format) else _Whole)(model, format)

    def write(
        self,
        prompt: str = "",
        *,
        strategy: str = "sample",
        length: int = 20,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        beams: int = 4,
        length_penalty: float = 1.0,
        seed: int = 0,
    ) -> Iterator[Step]:
        """Writes the words after a prompt; the arguments and the result are those of the function ``write``."""
        _check_strategy(strategy, temperature=temperature, top_k=top_k, top_p=top_p)
        count = whole_number("length", length, 1, "a whole number from 1 up")
        start = [self._end, *_tokens(prompt, self._format)]
        each = copy(self)
        each._net = copy(self._net)  # texts that are written at the same time have states of their own
        if strategy == "beam":
            width = whole_number("beams", beams, 1, "a whole number from 1 up")
            penalty = number("length_penalty", length_penalty, 0, 10, "a number from 0 to 10")
            return each._beam(start, count, width, penalty)
        settings: dict[str, Any] = {}
        if strategy == "sample":
            settings["temperature"] = _temperature(temperature)
            if top_k is not None:
                settings["top_k"] = whole_number("top_k", top_k, 1, "a whole number from 1 up, or None")
            if top_p is not None:
                settings["top_p"] = _share(top_p)
        return each._words(start, count, stream_key(seed, "words") if strategy == "sample" else None, settings)

    def _words(self, tokens: list[int], length: int, key: Key | None, settings: dict[str, Any]) -> Iterator[Step]:
        """Yields one word after the other; the most probable ones without a key."""
        logits = self._net.begin(tokens, 1)
        for place in range(length):
            probabilities = distribution(self._allowed(logits)[0], **settings)
            token = int(probabilities.argmax()) if key is None else _draw(probabilities, key, place)
            yield self._step(tokens, token, probabilities)
            tokens = [*tokens, token]
            if token == self._end:
                return
            if place + 1 < length:
                logits = self._net.extend([0], [token])

    def _beam(self, start: list[int], length: int, beams: int, penalty: float) -> Iterator[Step]:
        """Yields the words of the best text that is found, once it is found."""
        active: list[tuple[float, list[int]]] = [(0.0, [])]
        best, found = -np.inf, [self._end]
        logits = self._net.begin(start, beams)
        for place in range(1, length + 1):
            totals = (
                np.array([total for total, _ in active])[:, None] + _log_softmax(self._allowed(logits))[: len(active)]
            )
            rows, tokens = np.unravel_index(_largest(totals.ravel(), beams), totals.shape)
            kept: list[tuple[int, int]] = []
            for row, token in zip(rows.tolist(), tokens.tolist(), strict=True):
                total, path = float(totals[row, token]), [*active[row][1], token]
                if not np.isfinite(total):
                    continue
                if token != self._end and place < length:
                    kept.append((row, token))
                elif total / place**penalty > best:
                    best, found = total / place**penalty, path
            active = [(float(totals[row, token]), [*active[row][1], token]) for row, token in kept]
            # later words can only lower a total
            if not active or best >= max(total for total, _ in active) / length**penalty:
                break
            rest = [kept[0]] * (beams - len(kept))
            logits = self._net.extend(*map(list, zip(*kept, *rest, strict=True)))
        yield from self._retraced(start, found)

    def _retraced(self, start: list[int], path: list[int]) -> Iterator[Step]:
        """Yields the steps of a text that is known."""
        tokens, logits = start, self._net.begin(start, 1)
        for token in path:
            yield self._step(tokens, token, distribution(self._allowed(logits)[0]))
            tokens = [*tokens, token]
            if len(tokens) < len(start) + len(path):
                logits = self._net.extend([0], [token])

    def _allowed(self, logits: np.ndarray) -> np.ndarray:
        """Returns logits in which padding and unknown words are impossible."""
        if np.isnan(logits).any():
            raise CourseError("the model computes logits that are no numbers; train it with a smaller learning rate")
        logits = logits.astype("float64")
        logits[:, self._banned] = -np.inf
        return logits

    def _step(self, before: Sequence[int], token: int, probabilities: np.ndarray) -> Step:
        words = self._format.vocabulary
        most = [(words[place], float(probabilities[place])) for place in _largest(probabilities, _SHOWN)]
        alternatives = tuple((word, probability) for word, probability in most if probability)
        text = _joined(before, token, self._format)
        return Step(token, words[token], text, float(probabilities[token]), alternatives)


def write(
    model: "keras.Model",
    format: TextFormat,
    prompt: str = "",
    *,
    strategy: str = "sample",
    length: int = 20,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    beams: int = 4,
    length_penalty: float = 1.0,
    seed: int = 0,
) -> Iterator[Step]:
    """Writes text with a language model, one word after the other.

    It ends at the end of a sentence or after ``length`` words. Padding and ``[UNK]`` are never written. A text may be
    longer than the model: a recurrent net sees the last words. A Transformer, whose positions are counted from the
    first word that it sees, forgets the older half of them as often as it is full.

    Args:
        model: A language model; see ``Writer``, which writes several texts without compiling again.
        format: The text format of the model, in words or characters.
        prompt: The beginning of the text.
        strategy: ``"sample"`` draws each word from its probabilities, ``"greedy"`` takes the most probable word, and
            ``"beam"`` searches the text with the largest score.
        length: Largest number of words to write, with the end of the sentence.
        temperature: Divides the logits of ``"sample"``: below 1 probable words become more probable, above 1 less.
        top_k: The number of most probable words from which ``"sample"`` draws; None for all.
        top_p: Nucleus sampling: draws from the most probable words that together have this probability. If there is
            also ``top_k``, the probabilities are those among its words. None for all words.
        beams: Number of texts that ``"beam"`` continues at the same time.
        length_penalty: The score of ``"beam"`` is the logarithm of the text's probability, divided by its number of
            words to this power: 0 prefers short texts, 1 compares means.
        seed: Seed of ``"sample"``; one seed writes the same words on every backend.

    Yields:
        A ``Step`` for each word.

    Raises:
        CourseError: An argument is invalid, the prompt has an unknown word, or the model is no language model.

    Example:
        >>> from keras_course.models import recurrent_language_model
        >>> words = ("[PAD]", "[UNK]", "[END]", "to", "be", "or", "not")
        >>> format = TextFormat(unit="words", vocabulary=words, sequence_length=4, padding="left")
        >>> model = recurrent_language_model(vocabulary_size=7, sequence_length=4)
        >>> steps = list(write(model, format, "to be", length=3, seed=4))
        >>> [round(step.probability, 1) for step in steps]
        [0.2, 0.2, 0.2]

    Source: A. Holtzman and others, "The curious case of neural text degeneration", 2020 (nucleus); A. Fan and others,
    "Hierarchical neural story generation", 2018 (top-k); I. Sutskever and others, "Sequence to sequence learning with
    neural networks", 2014 (beam search).
    """
    return Writer(model, format).write(
        prompt,
        strategy=strategy,
        length=length,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        beams=beams,
        length_penalty=length_penalty,
        seed=seed,
    )


def distribution(
    logits: np.ndarray, temperature: float = 1.0, top_k: int | None = None, top_p: float | None = None
) -> np.ndarray:
    """Returns the probabilities (vocabulary,) of logits, float64; 0 for words that are left out."""
    scaled = logits / temperature
    probabilities = np.exp(scaled - scaled.max())
    probabilities /= probabilities.sum()
    if top_k is None and top_p is None:
        return probabilities
    kept = len(probabilities) if top_k is None else top_k
    if top_p is not None:
        sums = np.cumsum(np.sort(probabilities)[::-1][:kept])
        kept = int((sums < top_p * sums[-1] - _SURE).sum()) + 1
    found = np.zeros_like(probabilities)
    places = _largest(probabilities, kept)
    found[places] = probabilities[places]
    return found / found.sum()


class _Net(Protocol):
    """Computes the logits of the next words of several texts of the same length."""

    def begin(self, tokens: list[int], count: int) -> np.ndarray:
        """Starts ``count`` equal texts; returns logits (count, vocabulary)."""
        ...

    def extend(self, parents: list[int], tokens: list[int]) -> np.ndarray:
        """Replaces each text by that of a parent with one more token; returns logits (texts, vocabulary)."""
        ...


class _Whole:
    """Calls a model that predicts the token after its last position, on the last tokens of each text."""

    def __init__(self, model: "keras.Model", format: TextFormat) -> None:
        self._format = format
        self._run = _backend.forward(model, frozen=True)
        self._texts: list[list[int]] = []

    def begin(self, tokens: list[int], count: int) -> np.ndarray:
        self._texts = [tokens] * count
        return self._logits()

    def extend(self, parents: list[int], tokens: list[int]) -> np.ndarray:
        self._texts = [[*self._texts[parent], token] for parent, token in zip(parents, tokens, strict=True)]
        return self._logits()

    def _logits(self) -> np.ndarray:
        size = self._format.sequence_length
        inputs = np.full((len(self._texts), size), self._format.pad, "int32")
        for row, text in zip(inputs, self._texts, strict=True):
            row[size - min(size, len(text)) :] = text[-size:]
        return np.asarray(self._run(inputs))


class _Cached:
    """Calls a causal Transformer on one token at a time, with the keys and values of those before it.

    When all positions are taken, it starts again with the last half of the tokens.
    """

    def __init__(self, model: "keras.Model", format: TextFormat) -> None:
        cached = cached_language_model(model)
        self._run = _backend.forward(cached, frozen=True)
        self._shapes = [tuple(part.shape[1:]) for part in cached.inputs[2:]]
        self._size = format.sequence_length
        self._texts: list[list[int]] = []
        self._cache: list[np.ndarray] = []

    def begin(self, tokens: list[int], count: int) -> np.ndarray:
        dropped = self._size - self._size // 2
        first = dropped * -(-max(0, len(tokens) - self._size) // dropped)
        self._texts = [[]] * count
        self._cache = [np.zeros((count, *shape), "float32") for shape in self._shapes]
        for token in tokens[first:]:
            logits = self._step([token] * count)
        return logits

    def extend(self, parents: list[int], tokens: list[int]) -> np.ndarray:
        self._texts = [self._texts[parent] for parent in parents]
        if len(self._texts[0]) < self._size:
            self._cache = [part[parents] for part in self._cache]
            return self._step(tokens)
        kept = [text[self._size - self._size // 2 :] for text in self._texts]
        self._texts = [[] for _ in kept]
        for column in zip(*kept, strict=True):
            self._step(list(column))
        return self._step(tokens)

    def _step(self, tokens: list[int]) -> np.ndarray:
        position = len(self._texts[0])
        inputs = [np.array(tokens, "int32")[:, None], np.full((len(tokens), 1), position, "int32"), *self._cache]
        logits, *self._cache = self._run(inputs)
        self._texts = [[*text, token] for text, token in zip(self._texts, tokens, strict=True)]
        return np.asarray(logits)[:, 0]


def is_causal(model: "keras.Model", format: TextFormat) -> bool:
    """Returns whether a language model predicts the token after each position, and not only after the last.

    Raises a CourseError if it is no language model, or does not fit the format.
    """
    outputs = list(model.outputs or [])
    if len(outputs) != 1 or len(model.inputs) != 1 or len(model.inputs[0].shape) != 2:
        raise CourseError(f"{model.name} is no language model; give a model from tokens to logits of the next token")
    shape = outputs[0].shape
    if len(shape) not in (2, 3) or shape[-1] != len(format.vocabulary):
        raise CourseError(
            f"{model.name} has outputs {tuple(shape)}, and the format {len(format.vocabulary)} tokens; give the format "
            "with which the model was trained"
        )
    length = model.inputs[0].shape[1]
    if length not in (None, format.sequence_length):
        raise CourseError(
            f"{model.name} takes {length} tokens, and the format has {format.sequence_length}; give the format with "
            "which the model was trained"
        )
    if len(shape) == 2 and format.padding != "left":
        raise CourseError(f"format.padding is {format.padding!r}; give 'left' for {model.name}")
    return len(shape) == 3


def _tokens(prompt: str, format: TextFormat) -> list[int]:
    """Returns the numbers of the words of a prompt."""
    if not isinstance(prompt, str):
        raise CourseError(f"prompt is {shown(prompt)}; give a text")
    words = split(prompt, format)
    if unknown := [word for word in dict.fromkeys(words) if word not in format.numbers]:
        raise CourseError(f"prompt has words that the model does not know: {shown(unknown)}; leave them out")
    return [format.numbers[word] for word in words]


def _check_strategy(strategy: str, **settings: Any) -> None:
    """Checks the name of a strategy, and that no setting of another one is given."""
    if strategy not in _STRATEGIES:
        raise CourseError(f"strategy is {shown(strategy)}; give one of {', '.join(_STRATEGIES)}")
    for name, value in settings.items():
        if strategy != "sample" and value not in (None, 1):
            raise CourseError(f"{name} is {shown(value)}; leave it out, or give strategy 'sample'")


def _temperature(value: Any) -> float:
    if not is_number(value) or not 0.01 <= value <= 100:
        raise CourseError(f"temperature is {shown(value)}; give a number from 0.01 to 100, or strategy 'greedy'")
    return float(value)


def _share(value: Any) -> float:
    if not is_number(value) or not 0 < value <= 1:
        raise CourseError(f"top_p is {shown(value)}; give a number above 0, up to 1, or None")
    return float(value)


def _largest(values: np.ndarray, count: int) -> np.ndarray:
    """Returns the places of the largest values, the largest first; of equal ones, those that come first.

    Sorting a whole vocabulary would take longer than the step of a small model.
    """
    places = np.arange(len(values))
    if count < len(values):
        least = np.partition(values, -count)[-count]
        above = np.flatnonzero(values > least)
        places = np.sort(np.concatenate([above, np.flatnonzero(values == least)[: count - len(above)]]))
    return places[np.argsort(-values[places], kind="stable")]


def _draw(probabilities: np.ndarray, key: Key, place: int) -> int:
    """Draws a token; the words of a text have draws 0, 1, 2, ... of the stream."""
    sums = np.cumsum(probabilities)
    return int(np.searchsorted(sums, uniform(key, (1,), step=place)[0] * sums[-1], side="right"))


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    scaled = logits - logits.max(axis=1, keepdims=True)
    return scaled - np.log(np.exp(scaled).sum(axis=1, keepdims=True))


def _joined(before: Sequence[int], token: int, format: TextFormat) -> str:
    """Returns what a token adds to the text of the tokens before it."""
    context = [number for number in before[-_CONTEXT:] if number != format.end]
    return decode([*context, token], format)[len(decode(context, format)) :] if token != format.end else ""
