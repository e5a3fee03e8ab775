"""Recurrent networks: a language model with an LSTM or a GRU."""

import keras
from keras import layers

from keras_course.errors import CourseError, check_fractions, check_positive
from keras_course.models.heads import class_logits
from keras_course.randomness import initialize

__all__ = ["recurrent_language_model"]

_CELLS = {"lstm": layers.LSTM, "gru": layers.GRU}


def recurrent_language_model(
    *,
    vocabulary_size: int,
    sequence_length: int,
    embedding_dim: int = 10,
    units: int = 100,
    cell: str = "lstm",
    dropout: float = 0.1,
    seed: int = 0,
    name: str = "recurrent_language_model",
) -> keras.Model:
    """Builds a recurrent network that predicts the token after a sequence.

    Shorter sequences are padded on the left, and there is no mask: padding is a token like any other, whose vector is
    learned. With a mask, Keras would use slower loops on PyTorch and JAX.

    Args:
        vocabulary_size: Number of tokens.
        sequence_length: Number of positions.
        embedding_dim: Size of the vectors of the tokens.
        units: Size of the state.
        cell: ``"lstm"`` or ``"gru"``.
        dropout: Fraction of the last state to drop in training, from 0 up to but not including 1.
        seed: Seed of the initial weights and of dropout; one seed gives the same numbers on every backend.
        name: Name of the model.

    Returns:
        A model from tokens, int32 (batch, sequence_length), to float32 logits of the next token (batch,
        vocabulary_size). Its layers are ``tokens``, ``embedding``, ``lstm`` or ``gru``, ``dropout`` and ``logits``.

    Raises:
        CourseError: A size is not positive, ``cell`` is unknown, or ``dropout`` is out of range.

    Example:
        >>> from keras_course.models import parameter_table
        >>> model = recurrent_language_model(vocabulary_size=11_753, sequence_length=28)  # the course's net
        >>> f"{parameter_table(model)[-1].trainable:,}"
        '1,348,983'

    Source: NVIDIA Deep Learning Institute, "Fundamentals of Deep Learning", part 6; S. Hochreiter and J. Schmidhuber,
    "Long short-term memory", 1997; K. Cho and others, "Learning phrase representations using RNN encoder-decoder",
    2014 (GRU).
    """
    check_positive(
        vocabulary_size=vocabulary_size, sequence_length=sequence_length, embedding_dim=embedding_dim, units=units
    )
    check_fractions(dropout=dropout)
    if cell not in _CELLS:
        raise CourseError(f"cell is {cell!r}; give one of {', '.join(_CELLS)}")
    with keras.StatelessScope():  # the weights are drawn by `initialize` only, not also by Keras
        tokens = keras.Input((sequence_length,), dtype="int32", name="tokens")
        x = layers.Embedding(vocabulary_size, embedding_dim, name="embedding")(tokens)
        x = _CELLS[cell](units, name=cell, seed=0)(x)  # the seed is for dropout inside the cell, which has none
        logits = class_logits(x, vocabulary_size, dropout=dropout, seed=seed)
        return initialize(keras.Model(tokens, logits, name=name), seed=seed)
