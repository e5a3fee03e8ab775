"""Computes how probable a language model finds given sentences."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from keras_course import _backend
from keras_course.errors import check_positive
from keras_course.generation.words import is_causal
from keras_course.preprocessing.text import prefixes, sequences
from keras_course.preprocessing.text_format import TextFormat

if TYPE_CHECKING:
    import keras

__all__ = ["log_probabilities"]


def log_probabilities(
    model: "keras.Model", format: TextFormat, sentences: Sequence[str], *, batch_size: int = 64
) -> npt.NDArray[np.float64]:
    """Computes the logarithm of the probability of each token of some sentences, given those before it.

    ``evaluation.perplexity`` and ``evaluation.bits_per_character`` take the result.

    Args:
        model: A recurrent or a causal language model; see ``write``.
        format: The text format of the model, in words or characters.
        sentences: The sentences. A causal model sees the first ``sequence_length`` tokens of each.
        batch_size: Inputs in a batch.

    Returns:
        Natural logarithms, float64 (tokens,), sentence after sentence, with ``[END]`` as the last token of each.

    Raises:
        CourseError: The model is no language model or does not fit the format, or there are no tokens.

    Example:
        >>> from keras_course.models import recurrent_language_model
        >>> from keras_course.preprocessing.text import word_format
        >>> format = word_format(["to be or not to be"])
        >>> model = recurrent_language_model(vocabulary_size=7, sequence_length=format.sequence_length)
        >>> log_probabilities(model, format, ["to be"]).shape
        (3,)
    """
    check_positive(batch_size=batch_size)
    if is_causal(model, format):
        x, y, weights = sequences(sentences, format, cut=True)
    else:
        x, y = prefixes(sentences, format)
        weights = np.ones(y.shape, "float32")
    forward = _backend.forward(model, frozen=True)
    found = []
    for start in range(0, len(x), batch_size):
        rows = x[start : start + batch_size]
        filled = np.concatenate([rows, np.zeros((batch_size - len(rows), x.shape[1]), x.dtype)])  # one compiled shape
        logits = np.asarray(forward(filled))[: len(rows)].astype("float64")
        targets = y[start : start + batch_size]
        largest = logits.max(axis=-1, keepdims=True)
        totals = np.log(np.exp(logits - largest).sum(axis=-1)) + largest[..., 0]
        chosen = np.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
        found.append((chosen - totals)[weights[start : start + batch_size] > 0])
    return np.concatenate(found)
