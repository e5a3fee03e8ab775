"""BERT: a Transformer encoder that reads a text in both directions, and the heads that use it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import keras
from keras import layers, ops

from keras_course._backend import keras_private
from keras_course._backend.weights import create_weights
from keras_course.errors import CourseError, check_fractions, check_positive
from keras_course.models.heads import FEATURES, class_logits
from keras_course.models.transformer import TextEmbedding, TransformerBlock
from keras_course.randomness import Dropout, initialize

__all__ = [
    "OutputBias",
    "bert_encoder",
    "masked_word_head",
    "masked_word_model",
    "pooled_encoder",
    "question_answering_model",
    "sentence_encoder",
    "text_classifier",
]

_TOKENS: Final = "token_ids"
_SEGMENTS: Final = "segment_ids"
_MASK: Final = "padding_mask"
_POOLINGS: Final = ("mean", "first")


@keras.saving.register_keras_serializable(package="keras_course")
class OutputBias(layers.Layer):
    """Adds one learned number to each logit.

    Args:
        name: The layer's name.
        **kwargs: Arguments of a Keras layer.

    Example:
        >>> OutputBias()(ops.zeros((2, 3))).shape[-1]
        3
    """

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Adds the numbers, which are 0 at first."""
        self.bias = self.add_weight(name="bias", shape=(input_shape[-1],), initializer="zeros")

    def call(self, logits: Any) -> Any:
        """Returns the sums (batch, ..., logits)."""
        return logits + self.bias


def bert_encoder(
    *,
    vocabulary_size: int = 30_522,
    sequence_length: int | None = None,
    embedding_dim: int = 768,
    num_layers: int = 12,
    num_heads: int = 12,
    intermediate_dim: int = 3072,
    max_positions: int = 512,
    segments: int = 2,
    dropout: float = 0.1,
    activation: str = "gelu",
    epsilon: float = 1e-12,
    seed: int | None = 0,
    name: str = "bert_encoder",
) -> keras.Model:
    """Builds the encoder of BERT; the defaults are the sizes of its base model.

    Args:
        vocabulary_size: Number of tokens.
        sequence_length: Number of tokens of each text; None takes any number, the same within a batch.
        embedding_dim: Size of the vectors.
        num_layers: Number of blocks.
        num_heads: Attention heads of each block; divides ``embedding_dim``.
        intermediate_dim: Units of the first dense layer of each block.
        max_positions: Largest number of tokens.
        segments: Number of segments: 2 tell a question from a paragraph.
        dropout: Fraction of the outputs of each part to drop in training, from 0 up to but not including 1.
        activation: Activation of the first dense layer of each block.
        epsilon: The number that layer normalization adds to the variance.
        seed: Seed of the initial weights and of dropout; None leaves random weights at zero, for values from a file.
        name: Name of the model.

    Returns:
        A model from ``{"token_ids", "segment_ids", "padding_mask"}``, two of int32 and one of bool (batch,
        sequence_length), to hidden states (batch, sequence_length, embedding_dim). The mask is True for tokens and
        False for padding. Its layers are ``embedding``, ``embedding_norm``, ``embedding_dropout``, ``block1``,
        ``block2``, ...

    Raises:
        CourseError: A size is not positive, does not divide or is too large, or ``dropout`` is out of range.

    Example:
        >>> encoder = bert_encoder(vocabulary_size=50, embedding_dim=8, num_layers=1, num_heads=2, intermediate_dim=16)
        >>> encoder.output_shape, sorted(encoder.input)
        ((None, None, 8), ['padding_mask', 'segment_ids', 'token_ids'])

    Source: J. Devlin and others, "BERT: pre-training of deep bidirectional Transformers for language understanding",
    2019.
    """
    check_positive(num_layers=num_layers, num_heads=num_heads, max_positions=max_positions, segments=segments)
    check_fractions(dropout=dropout)
    if sequence_length is not None:
        check_positive(sequence_length=sequence_length)
        if sequence_length > max_positions:
            raise CourseError(f"sequence_length is {sequence_length}; give at most max_positions, {max_positions}")
    with _weights(seed):
        shape = (sequence_length,)
        inputs = {name: keras.Input(shape, dtype="int32", name=name) for name in (_TOKENS, _SEGMENTS)}
        inputs[_MASK] = keras.Input(shape, dtype="bool", name=_MASK)
        parts: list[Any] = [
            TextEmbedding(vocabulary_size, max_positions, embedding_dim, segments=segments, name="embedding"),
            layers.LayerNormalization(epsilon=epsilon, name="embedding_norm"),
        ]
        if dropout:
            parts.append(Dropout(dropout, seed=seed or 0, name="embedding_dropout"))
        for number in range(1, num_layers + 1):
            block = TransformerBlock(
                num_heads,
                intermediate_dim,
                dropout=dropout,
                activation=activation,
                epsilon=epsilon,
                seed=seed or 0,
                name=f"block{number}",
            )
            parts.append(block)
        model = keras.Model(inputs, _hidden_states(parts, **inputs), name=name)
        return model if seed is None else initialize(model, seed=seed)


def masked_word_model(
    encoder: keras.Model,
    *,
    activation: str = "gelu",
    epsilon: float = 1e-12,
    seed: int | None = 0,
    name: str = "masked_word_model",
) -> keras.Model:
    """Builds a model that predicts the word behind each token, above all behind ``[MASK]``.

    Args:
        encoder: A model of ``bert_encoder``, which becomes part of the new model. Its table of tokens is also the last
            layer.
        activation: Activation of the dense layer.
        epsilon: The number that layer normalization adds to the variance.
        seed: Seed of the new weights; None leaves them at zero.
        name: Name of the model.

    Returns:
        A model from the inputs of the encoder to float32 logits (batch, tokens, vocabulary_size). Its layers after the
        encoder are ``transform``, ``transform_norm``, and ``logits_bias``.

    Raises:
        CourseError: The model is no encoder.

    Example:
        >>> encoder = bert_encoder(vocabulary_size=50, embedding_dim=8, num_layers=1, num_heads=2, intermediate_dim=16)
        >>> masked_word_model(encoder).output_shape
        (None, None, 50)

    Source: J. Devlin and others, 2019; see ``bert_encoder``.
    """
    embedding = _parts_of(encoder)[0]
    with _weights(seed):
        transform = layers.Dense(
            embedding.embedding_dim, activation=activation, kernel_initializer=_small_normal(), name="transform"
        )
        norm = layers.LayerNormalization(epsilon=epsilon, name="transform_norm")
        _draw([transform, norm], embedding.embedding_dim, seed)
        logits = embedding(norm(transform(encoder.output)), reverse=True)
        logits = OutputBias(dtype="float32", name="logits_bias")(logits)
        return keras.Model(encoder.input, logits, name=name)


def masked_word_head(model: keras.Model, *, name: str = "masked_word_head") -> keras.Model:
    """Returns the part of a model of ``masked_word_model`` that comes after the encoder; it shares the weights.

    With a frozen encoder, the vectors of hidden words can be computed once, and this part alone be trained on them.

    Args:
        model: A model of ``masked_word_model``, or of ``load_bert`` with this head.
        name: Name of the new model.

    Returns:
        A model from vectors of tokens (batch, embedding_dim) to float32 logits (batch, vocabulary_size).

    Raises:
        CourseError: The model predicts no masked words.

    Example:
        >>> encoder = bert_encoder(vocabulary_size=50, embedding_dim=8, num_layers=1, num_heads=2, intermediate_dim=16)
        >>> masked_word_head(masked_word_model(encoder)).output_shape
        (None, 50)
    """
    found = {layer.name: layer for layer in model.layers}
    embedding = next((layer for layer in model.layers if isinstance(layer, TextEmbedding)), None)
    if embedding is None or not found.keys() >= {"transform", "transform_norm", "logits_bias"}:
        raise CourseError(f"{model.name} predicts no masked words; give a model of masked_word_model")
    vectors = keras.Input((embedding.embedding_dim,), name="vectors")
    x = found["transform_norm"](found["transform"](vectors))
    return keras.Model(vectors, found["logits_bias"](embedding(x, reverse=True)), name=name)


def question_answering_model(
    encoder: keras.Model, *, seed: int | None = 0, name: str = "question_answering_model"
) -> keras.Model:
    """Builds a model that finds the answer to a question in a paragraph: its first and its last token.

    Args:
        encoder: A model of ``bert_encoder``, which becomes part of the new model.
        seed: Seed of the new weights; None leaves them at zero.
        name: Name of the model.

    Returns:
        A model from the inputs of the encoder to float32 logits (batch, tokens, 2): that a token is the first of the
        answer, and that it is the last.

    Raises:
        CourseError: The model is no encoder.

    Example:
        >>> encoder = bert_encoder(vocabulary_size=50, embedding_dim=8, num_layers=1, num_heads=2, intermediate_dim=16)
        >>> question_answering_model(encoder).output_shape
        (None, None, 2)

    Source: P. Rajpurkar and others, "SQuAD: 100,000+ questions for machine comprehension of text", 2016.
    """
    embedding = _parts_of(encoder)[0]
    with _weights(seed):
        logits = layers.Dense(2, kernel_initializer=_small_normal(), dtype="float32", name="logits")
        _draw([logits], embedding.embedding_dim, seed)
        return keras.Model(encoder.input, logits(encoder.output), name=name)


def pooled_encoder(encoder: keras.Model, *, seed: int | None = 0, name: str = "pooled_encoder") -> keras.Model:
    """Builds a model that gives one vector for a text: a dense layer with tanh on that of its first token.

    Args:
        encoder: A model of ``bert_encoder``, which becomes part of the new model.
        seed: Seed of the new weights; None leaves them at zero.
        name: Name of the model.

    Returns:
        A model from the inputs of the encoder to vectors (batch, embedding_dim). The layer after the encoder is
        ``pooler``.

    Raises:
        CourseError: The model is no encoder.

    Example:
        >>> encoder = bert_encoder(vocabulary_size=50, embedding_dim=8, num_layers=1, num_heads=2, intermediate_dim=16)
        >>> pooled_encoder(encoder).output_shape
        (None, 8)

    Source: J. Devlin and others, 2019; see ``bert_encoder``.
    """
    embedding = _parts_of(encoder)[0]
    with _weights(seed):
        pooler = _pooler(embedding.embedding_dim)
        _draw([pooler], embedding.embedding_dim, seed)
        return keras.Model(encoder.input, pooler(encoder.output[:, 0]), name=name)


def sentence_encoder(encoder: keras.Model, *, pad: int = 0, name: str = "sentence_encoder") -> keras.Model:
    """Builds a model that gives one vector of length 1 for a sentence: the mean over its tokens.

    The dot product of two such vectors is the cosine of the angle between them: the similarity of the sentences.

    Args:
        encoder: A model of ``bert_encoder``; the weights are shared with it.
        pad: The number of the token for padding, which does not count.
        name: Name of the model.

    Returns:
        A model from ``token_ids``, int32 (batch, tokens), to float32 vectors (batch, embedding_dim).

    Raises:
        CourseError: The model is no encoder.

    Example:
        >>> encoder = bert_encoder(vocabulary_size=50, embedding_dim=8, num_layers=1, num_heads=2, intermediate_dim=16)
        >>> vectors = sentence_encoder(encoder)(ops.convert_to_tensor([[2, 7, 3], [2, 3, 0]], dtype="int32"))
        >>> ops.convert_to_numpy(ops.sum(vectors * vectors, axis=-1)).round(5).tolist()
        [1.0, 1.0]

    Source: N. Reimers and I. Gurevych, "Sentence-BERT: sentence embeddings using Siamese BERT-networks", 2019.
    """
    tokens, mask, hidden = _from_tokens(encoder, pad)
    vectors = ops.normalize(_mean(hidden, mask), axis=-1, epsilon=1e-12)
    return keras.Model(tokens, vectors, name=name)


def text_classifier(
    encoder: keras.Model,
    *,
    num_classes: int,
    pooling: str = "mean",
    dropout: float = 0.1,
    pad: int = 0,
    seed: int | None = 0,
    name: str = "text_classifier",
) -> keras.Model:
    """Builds a classifier of texts.

    Args:
        encoder: A model of ``bert_encoder``, which becomes part of the new model.
        num_classes: Number of classes.
        pooling: How a text becomes one vector: ``mean`` averages over its tokens; ``first`` is a dense layer with tanh
            on its first token, as BERT was trained.
        dropout: Fraction of this vector to drop in training, from 0 up to but not including 1.
        pad: The number of the token for padding, which does not count.
        seed: Seed of the new weights and of dropout; None leaves the weights at zero.
        name: Name of the model.

    Returns:
        A model from ``token_ids``, int32 (batch, tokens), to float32 logits (batch, num_classes). Its last layers are
        ``features``, which changes nothing and ends the pre-trained part, ``pooler`` (``first`` only), ``dropout`` and
        ``logits``.

    Raises:
        CourseError: The model is no encoder, the pooling is unknown, or a number is out of range.

    Example:
        >>> encoder = bert_encoder(vocabulary_size=50, embedding_dim=8, num_layers=1, num_heads=2, intermediate_dim=16)
        >>> text_classifier(encoder, num_classes=3).output_shape
        (None, 3)

    Source: J. Devlin and others, 2019; see ``bert_encoder``.
    """
    check_positive(num_classes=num_classes)
    check_fractions(dropout=dropout)
    if pooling not in _POOLINGS:
        raise CourseError(f"pooling is {pooling!r}; give one of {', '.join(_POOLINGS)}")
    size = _parts_of(encoder)[0].embedding_dim
    with _weights(seed):
        features = keras.Input((size,))
        x = _pooler(size)(features) if pooling == "first" else features
        head = keras.Model(features, class_logits(x, num_classes, dropout=dropout, seed=seed or 0))
        if seed is not None:
            initialize(head, seed=seed)
        tokens, mask, hidden = _from_tokens(encoder, pad)
        x = layers.Identity(name=FEATURES)(hidden[:, 0] if pooling == "first" else _mean(hidden, mask))
        for layer in head.layers[1:]:
            x = layer(x)
        return keras.Model(tokens, x, name=name)


@contextmanager
def _weights(seed: int | None) -> Iterator[None]:
    """Creates the weights that are built in it once, at its end: with drawn values, or with zeros if there is no seed.

    Keras would draw them, too, as soon as a layer is built.
    """
    if seed is None:
        with keras_private.deferred_variables() as deferred:
            yield
        create_weights(deferred)
    else:
        with keras.StatelessScope():
            yield


def _draw(new: Sequence[Any], size: int, seed: int | None) -> None:
    """Draws the weights of new layers, one after the other, alone: those of the encoder stay."""
    x = start = keras.Input((size,))
    for layer in new:
        x = layer(x)
    if seed is not None:
        initialize(keras.Model(start, x), seed=seed)


def _parts_of(encoder: keras.Model) -> list[Any]:
    """Returns the layers of an encoder in their order; the first is the embedding."""
    parts = [layer for layer in encoder.layers if not isinstance(layer, layers.InputLayer)]
    has_ends = parts and isinstance(parts[0], TextEmbedding) and isinstance(parts[-1], TransformerBlock)
    if not has_ends or not isinstance(encoder.input, dict):
        raise CourseError(f"{encoder.name} is no encoder; give one of bert_encoder, or the model of load_bert()")
    return parts


def _hidden_states(parts: Sequence[Any], *, token_ids: Any, segment_ids: Any, padding_mask: Any) -> Any:
    """Calls the layers of an encoder."""
    x = parts[0](token_ids, segment_ids=segment_ids)
    for layer in parts[1:]:
        x = layer(x, padding_mask=padding_mask) if isinstance(layer, TransformerBlock) else layer(x)
    return x


def _from_tokens(encoder: keras.Model, pad: int) -> tuple[Any, Any, Any]:
    """Returns a new input for tokens, its mask, and the hidden states of a text of one segment."""
    parts = _parts_of(encoder)
    shape = encoder.input[_TOKENS].shape[1:]
    tokens = keras.Input(shape, dtype="int32", name=_TOKENS)
    mask = ops.not_equal(tokens, pad)
    hidden = _hidden_states(parts, token_ids=tokens, segment_ids=ops.zeros_like(tokens), padding_mask=mask)
    return tokens, mask, hidden


def _mean(hidden: Any, mask: Any) -> Any:
    """Returns the float32 means (batch, size) of the vectors of tokens, without padding."""
    weights = ops.expand_dims(ops.cast(mask, "float32"), -1)  # (batch, tokens, 1)
    total = ops.sum(ops.cast(hidden, "float32") * weights, axis=1)
    return total / ops.maximum(ops.sum(weights, axis=1), 1.0)


def _pooler(size: int) -> layers.Dense:
    return layers.Dense(size, activation="tanh", kernel_initializer=_small_normal(), name="pooler")


def _small_normal() -> keras.initializers.Initializer:
    return keras.initializers.RandomNormal(stddev=0.02)
