"""What a BERT is used for: vectors of sentences and of tokens, hidden words, and answers to questions.

Texts of similar length are computed together, without the padding to the length of the format. Where each shape needs a
program of its own, they are padded to one of about 20 lengths.
"""

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from keras_course import _backend
from keras_course.errors import CourseError, check_positive
from keras_course.preprocessing.text import checked_tokens, encode, encode_pairs
from keras_course.preprocessing.text_format import SPECIAL_PIECES
from keras_course.pretrained.bert import Bert

__all__ = ["Answer", "embed", "fill_mask", "find_answer", "token_vectors"]

_STEPS: Final = {32: 4, 64: 8, 128: 16}
"""Where each length is compiled, a sentence of up to 32 tokens is padded to a multiple of 4, and so on; else of 32."""


class Answer(NamedTuple):
    """The answer to a question.

    Args:
        text: The part of the paragraph that answers.
        start: Its first character in the paragraph.
        end: The character after its last.
        probability: Of all parts of the paragraph that could answer, how probable this one is, from 0 to 1.
    """

    text: str
    start: int
    end: int
    probability: float


def embed(bert: Bert, sentences: Sequence[str], *, batch_size: int = 32, cut: bool = False) -> np.ndarray:
    """Computes the vectors of sentences; the dot product of two of them is the similarity of the sentences.

    Args:
        bert: A model of ``load_bert`` with ``head=None`` or ``head="sentence"``. Its weights may be read at the first
            call only: after training its model, take ``dataclasses.replace(bert)``.
        sentences: The sentences.
        batch_size: Number of sentences that are computed together.
        cut: Whether to cut a sentence that is too long; otherwise it is an error.

    Returns:
        A float32 array (sentences, embedding_dim); the length of each row is 1.

    Raises:
        CourseError: A sentence is empty, unknown or too long, or the model has another head.

    Example:
        >>> from keras_course.pretrained import load_bert
        >>> embed(load_bert(), ["A cat sits on the mat.", "A kitten rests on a rug."]).shape
        (2, 384)

    Source: N. Reimers and I. Gurevych, "Sentence-BERT: sentence embeddings using Siamese BERT-networks", 2019.
    """
    check_positive(batch_size=batch_size)
    size = bert.config.embedding_dim
    if bert.class_names or bert.model.output.shape[-1] != size:
        raise CourseError(f"{bert.model.name} gives no vectors of sentences; load it with head='sentence'")
    tokens = encode(sentences, bert.format, cut=cut)
    found = np.empty((len(tokens), size), "float32")
    for rows, batch in _batches(tokens, bert.format.pad, batch_size):
        found[rows] = bert.vectors_of(batch)[: len(rows)]
    return found


def token_vectors(bert: Bert, tokens: npt.ArrayLike, places: npt.ArrayLike, *, batch_size: int = 32) -> np.ndarray:
    """Computes the vector of one token of each text, such as that of a hidden word.

    Args:
        bert: A model of ``load_bert`` with ``head=None``. Its weights may be read at the first call only; see
            ``embed``.
        tokens: Encoded texts, integers (n, tokens), of one segment.
        places: The place of a token in each text, integers (n,).
        batch_size: Number of texts that are computed together.

    Returns:
        The hidden states of these tokens, float32 (n, embedding_dim).

    Raises:
        CourseError: The model has a head, or tokens and places do not fit.

    Example:
        >>> from keras_course.pretrained import load_bert
        >>> bert = load_bert()
        >>> tokens = encode(["A cat sits on the mat."], bert.format)
        >>> token_vectors(bert, tokens, [2]).shape
        (1, 384)
    """
    check_positive(batch_size=batch_size)
    if not isinstance(bert.model.input, dict) or bert.model.output.shape[-1] != bert.config.embedding_dim:
        raise CourseError(f"{bert.model.name} gives no vectors of tokens; load it with head=None")
    numbers, columns = checked_tokens(tokens, bert.format), np.asarray(places)
    lengths = (numbers != bert.format.pad).sum(axis=1)
    fits = columns.shape == lengths.shape and np.issubdtype(columns.dtype, np.integer)
    if not fits or ((columns < 0) | (columns >= lengths)).any():
        raise CourseError(f"places are {columns.dtype} {columns.shape}; give the place of a token in each text")
    found = np.empty((len(numbers), bert.config.embedding_dim), "float32")
    for rows, batch in _batches(numbers, bert.format.pad, batch_size):
        hidden = bert.outputs_of(_inputs(batch, np.zeros_like(batch), bert.format.pad))
        found[rows] = hidden[np.arange(len(rows)), columns[rows]]
    return found


def fill_mask(bert: Bert, text: str, *, count: int = 5) -> list[tuple[str, float]]:
    """Predicts the word behind ``[MASK]`` in a text.

    Args:
        bert: A model of ``load_bert`` with ``head="masked_word"``, or with a model of ``masked_word_model`` in its
            place. Its weights may be read at the first call only; see ``embed``.
        text: A text in which ``[MASK]`` occurs once.
        count: Number of words.

    Returns:
        The most probable words or pieces of words, with their probabilities. Special tokens are left out.

    Raises:
        CourseError: The model predicts no masked words; the text is too long, or does not have one ``[MASK]``.

    Example:
        >>> from keras_course.pretrained import load_bert
        >>> fill_mask(load_bert(), "Paris is the [MASK] of France.")
        Traceback (most recent call last):
        ...
        keras_course.errors.CourseError: bert_encoder predicts no masked words; load it with head='masked_word'
    """
    check_positive(count=count)
    if bert.model.output.shape[-1] != bert.config.vocabulary_size:
        raise CourseError(f"{bert.model.name} predicts no masked words; load it with head='masked_word'")
    tokens = encode([text], bert.format)
    places = np.flatnonzero(tokens[0] == bert.format.mask)
    if len(places) != 1:
        raise CourseError(f"the text has {len(places)} [MASK]; write it once, for the word to predict")
    ((_, batch),) = _batches(tokens, bert.format.pad, 1)
    logits = bert.outputs_of(_inputs(batch, np.zeros_like(batch), bert.format.pad))[0, places[0]]
    probabilities = _softmax(logits)
    special = [bert.format.numbers[token] for token in SPECIAL_PIECES if token in bert.format.numbers]
    order = [number for number in np.argsort(-probabilities, kind="stable").tolist() if number not in special]
    return [(bert.format.vocabulary[number], float(probabilities[number])) for number in order[:count]]


def find_answer(bert: Bert, question: str, paragraph: str, *, longest: int = 30) -> Answer:
    """Finds the answer to a question in a paragraph.

    Args:
        bert: A model of ``load_bert`` with ``head="question_answering"``. Its weights may be read at the first call
            only; see ``embed``.
        question: The question.
        paragraph: The paragraph that has the answer.
        longest: Largest number of tokens of an answer.

    Returns:
        The part of the paragraph whose first and last token have the largest sum of logits.

    Raises:
        CourseError: The model answers no questions, or the texts are empty, unknown or too long.

    Example:
        >>> from keras_course.pretrained import load_bert
        >>> find_answer(load_bert(), "Who wrote it?", "The play was written by Shakespeare.")
        Traceback (most recent call last):
        ...
        keras_course.errors.CourseError: bert_encoder answers no questions; load it with head='question_answering'

    Source: P. Rajpurkar and others, "SQuAD: 100,000+ questions for machine comprehension of text", 2016.
    """
    check_positive(longest=longest)
    shape = bert.model.output.shape
    if not isinstance(bert.model.input, dict) or len(shape) != 3 or shape[-1] != 2:
        raise CourseError(f"{bert.model.name} answers no questions; load it with head='question_answering'")
    pair = encode_pairs([question], [paragraph], bert.format)
    ((_, batch),) = _batches(pair.tokens, bert.format.pad, 1)
    segment_ids = np.repeat(pair.segment_ids[:, : batch.shape[1]], len(batch), axis=0)
    logits = bert.outputs_of(_inputs(batch, segment_ids, bert.format.pad))
    places = np.flatnonzero(pair.offsets[0, :, 0] >= 0)
    first, last = logits[0, places].T.astype("float64")
    sums = first[:, None] + last  # (first token, last token)
    length = np.arange(len(places)) - np.arange(len(places))[:, None]
    probabilities = _softmax(np.where((length >= 0) & (length < longest), sums, -np.inf).ravel())
    best = int(probabilities.argmax())
    start, end = (int(pair.offsets[0, places[place], side]) for side, place in enumerate(divmod(best, len(places))))
    return Answer(paragraph[start:end], start, end, float(probabilities[best]))


def _inputs(tokens: np.ndarray, segment_ids: np.ndarray, pad: int) -> dict[str, np.ndarray]:
    """Returns the inputs of an encoder."""
    return {"token_ids": tokens, "segment_ids": segment_ids, "padding_mask": tokens != pad}


def _softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits.astype("float64") - logits.max())
    return np.asarray(powers / powers.sum())


def _batches(tokens: np.ndarray, pad: int, batch_size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields the numbers of texts of similar length, and a batch of them, which may have further rows at its end."""
    lengths = (tokens != pad).sum(axis=1)
    order = np.argsort(-lengths, kind="stable")
    for start in range(0, len(tokens), batch_size):
        rows = order[start : start + batch_size]
        batch = tokens[rows, : _padded(int(lengths[rows[0]]))]
        # Less than one batch becomes a power of two, from 2 up: a single row would be compiled by itself. The last of
        # several batches has the size of the others.
        wanted = batch_size if start else min(batch_size, max(2, 1 << (len(rows) - 1).bit_length()))
        missing = np.repeat(batch[-1:], wanted - len(rows), axis=0)
        yield rows, np.concatenate([batch, missing])


def _padded(length: int) -> int:
    """Returns the number of tokens to which a sentence is padded."""
    if not _backend.compiles_each_shape():
        return length
    step = next((step for longest, step in _STEPS.items() if length <= longest), 32)
    return -(-length // step) * step
