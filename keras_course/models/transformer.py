"""Transformers: one block for encoders such as BERT and for causal language models."""

from typing import Any

import keras
from keras import layers, ops

from keras_course.errors import CourseError, check_fractions, check_positive
from keras_course.randomness import Dropout, initialize

__all__ = ["TextEmbedding", "TransformerBlock", "cached_language_model", "causal_language_model"]

_STANDARD_DEVIATION = 0.02
"""Of the initial weights of all tables and dense layers, as in BERT and GPT-2."""
_MASKED = -1e9
"""The score of a token that must not be attended to; its probability is 0 in float32."""


@keras.saving.register_keras_serializable(package="keras_course")
class TextEmbedding(layers.Layer):
    """Adds up a learned vector for each token, for its position and, if there are any, for its segment.

    Args:
        vocabulary_size: Number of tokens.
        sequence_length: Largest number of positions.
        embedding_dim: Size of the vectors.
        segments: Number of segments, such as 2 for a question and a paragraph; 0 for none.
        name: The layer's name.
        **kwargs: Arguments of a Keras layer.

    Raises:
        CourseError: A size is not positive.

    Example:
        >>> embed = TextEmbedding(vocabulary_size=10, sequence_length=4, embedding_dim=3)
        >>> hidden = embed(ops.convert_to_tensor([[1, 2, 0]], dtype="int32"))
        >>> tuple(hidden.shape), tuple(embed(hidden, reverse=True).shape)
        ((1, 3, 3), (1, 3, 10))

    Source: O. Press and L. Wolf, "Using the output embedding to improve language models", 2017 (``reverse``).
    """

    def __init__(
        self, vocabulary_size: int, sequence_length: int, embedding_dim: int, *, segments: int = 0, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        check_positive(vocabulary_size=vocabulary_size, sequence_length=sequence_length, embedding_dim=embedding_dim)
        check_positive(**({"segments": segments} if segments else {}))
        self.vocabulary_size, self.sequence_length, self.embedding_dim = vocabulary_size, sequence_length, embedding_dim
        self.segments = segments
        self.tokens_initializer = self.positions_initializer = self.segments_initializer = _small_normal()

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Adds the tables."""
        sizes = {"tokens": self.vocabulary_size, "positions": self.sequence_length, "segments": self.segments}
        self.tables = {
            # without autocast the logits of a model of 16 bits come from weights of 32 bits
            name: self.add_weight(
                name=name, shape=(size, self.embedding_dim), initializer=_small_normal(), autocast=False
            )
            for name, size in sizes.items()
            if size
        }

    def call(self, inputs: Any, segment_ids: Any = None, positions: Any = None, reverse: bool = False) -> Any:
        """Returns the vectors (batch, tokens, embedding_dim) of integer tokens; in reverse, the logits of vectors.

        Args:
            inputs: Tokens, integers (batch, tokens); in reverse vectors (batch, ..., embedding_dim).
            segment_ids: The segment of each token, integers (batch, tokens).
            positions: The position of each token, integers (batch, tokens); by default 0, 1, 2, ...
            reverse: Whether to return float32 logits over the vocabulary: the products with the table of tokens.
        """
        if reverse:
            table = ops.cast(self.tables["tokens"], "float32")
            return ops.matmul(ops.cast(inputs, "float32"), ops.transpose(table))
        tokens = ops.cast(inputs, "int32")
        if positions is None and isinstance(tokens.shape[1], int) and tokens.shape[1] > self.sequence_length:
            raise CourseError(f"a text has {tokens.shape[1]} tokens; cut it to {self.sequence_length}, the positions")
        x = ops.take(self.tables["tokens"], tokens, axis=0)
        if positions is None:
            x = x + ops.convert_to_tensor(self.tables["positions"])[: ops.shape(tokens)[1]]
        else:
            x = x + ops.take(self.tables["positions"], ops.cast(positions, "int32"), axis=0)
        if segment_ids is not None:
            x = x + ops.take(self.tables["segments"], ops.cast(segment_ids, "int32"), axis=0)
        return ops.cast(x, self.compute_dtype)

    def compute_output_spec(
        self, inputs: Any, segment_ids: Any = None, positions: Any = None, reverse: bool = False
    ) -> keras.KerasTensor:
        """Returns shape and data type of the output; Keras would try a length that there may be no positions for."""
        if reverse:
            return keras.KerasTensor((*inputs.shape[:-1], self.vocabulary_size), "float32")
        return keras.KerasTensor((*inputs.shape, self.embedding_dim), self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments as they are saved."""
        names = ("vocabulary_size", "sequence_length", "embedding_dim", "segments")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


@keras.saving.register_keras_serializable(package="keras_course")
class TransformerBlock(layers.Layer):
    """Multi-head self-attention, then two dense layers for each token; both are added to their inputs and normalized.

    Args:
        num_heads: Number of attention heads; divides the size of the vectors.
        intermediate_dim: Units of the first of the two dense layers.
        causal: Whether a token attends only to itself and to tokens before it, as in a language model.
        norm_first: Whether the inputs are normalized (GPT-2) or the sums (BERT).
        dropout: Fraction of the attention probabilities, and of the outputs of both parts, to drop in training.
        activation: Activation of the first dense layer.
        epsilon: The number that layer normalization adds to the variance.
        seed: Seed of dropout.
        name: The layer's name. Two blocks with the same seed and name have the same masks.
        **kwargs: Arguments of a Keras layer.

    Raises:
        CourseError: A size is not positive, or the dropout is out of range.

    Example:
        >>> block = TransformerBlock(num_heads=2, intermediate_dim=8, causal=True, name="block1")
        >>> x = ops.ones((1, 3, 4))
        >>> tuple(block(x).shape), ops.convert_to_numpy(block.attention(x))[0, 0].round(2).tolist()
        ((1, 3, 4), [[1.0, 0.0, 0.0], [0.5, 0.5, 0.0], [0.33..., 0.33..., 0.33...]])

    Source: A. Vaswani and others, "Attention is all you need", 2017.
    """

    def __init__(
        self,
        num_heads: int,
        intermediate_dim: int,
        *,
        causal: bool = False,
        norm_first: bool = False,
        dropout: float = 0.0,
        activation: str = "gelu",
        epsilon: float = 1e-5,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_positive(num_heads=num_heads, intermediate_dim=intermediate_dim)
        check_fractions(dropout=dropout)
        self.num_heads, self.intermediate_dim = num_heads, intermediate_dim
        self.causal, self.norm_first = causal, norm_first
        self.dropout, self.activation, self.epsilon, self.seed = dropout, activation, epsilon, seed
        self.supports_masking = True

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Adds the layers of the block."""
        width = input_shape[-1]
        if width is None or width % self.num_heads:
            raise CourseError(f"num_heads is {self.num_heads}; give a divisor of the size of the vectors, {width}")
        for name in ("query", "key", "value", "attention_output"):
            setattr(self, name, self._dense(width, name, width))
        self.intermediate = self._dense(self.intermediate_dim, "intermediate", width, activation=self.activation)
        self.output_dense = self._dense(width, "output_dense", self.intermediate_dim)
        for name in ("attention_norm", "output_norm"):
            layer = layers.LayerNormalization(epsilon=self.epsilon, name=name, dtype=self.dtype_policy)
            layer.build((None, None, width))
            setattr(self, name, layer)
        for name in ("probabilities_dropout", "attention_dropout", "output_dropout"):
            layer = Dropout(self.dropout, seed=self.seed, name=f"{self.name}_{name}", dtype=self.dtype_policy)
            if self.dropout:
                layer.build((None,))
            setattr(self, name, layer)

    def call(self, x: Any, padding_mask: Any = None, training: bool = False) -> Any:
        """Returns the new vectors of the tokens, (batch, tokens, size).

        Args:
            x: The vectors of the tokens (batch, tokens, size).
            padding_mask: True or 1 for tokens, False or 0 for padding, (batch, tokens).
            training: Whether dropout is active.
        """
        query, key, value = self._project(self.attention_norm(x) if self.norm_first else x)
        allowed = self._allowed(ops.shape(x)[1], padding_mask)
        attended = self._attend(query, key, value, allowed, training)
        return self._finish(x, attended, training)

    def attention(self, x: Any, padding_mask: Any = None) -> Any:
        """Returns the attention probabilities (batch, heads, tokens, tokens): rows attend to columns."""
        query, key, _ = self._project(self.attention_norm(x) if self.norm_first else x)
        return self._probabilities(query, key, self._allowed(ops.shape(x)[1], padding_mask))

    def step(self, x: Any, position: Any, keys: Any, values: Any) -> tuple[Any, Any, Any]:
        """Returns the new vector of one token, and the keys and values with those of the token in their place.

        Args:
            x: The vector of the token (batch, 1, size).
            position: Its position, integer (batch, 1).
            keys: The keys of the tokens before it (batch, positions, heads, size / heads); others are ignored.
            values: Their values, in the same shape.
        """
        query, key, value = self._project(self.attention_norm(x) if self.norm_first else x)
        places = ops.arange(keys.shape[1], dtype="int32")[None, :]  # (1, positions)
        is_here = ops.equal(places, position)[:, :, None, None]
        keys, values = ops.where(is_here, key, keys), ops.where(is_here, value, values)
        allowed = ops.less_equal(places, position)[:, None, None, :]
        return self._finish(x, self._attend(query, keys, values, allowed, False), False), keys, values

    def _dense(self, units: int, name: str, inputs: int, activation: str | None = None) -> layers.Dense:
        layer = layers.Dense(
            units, activation=activation, kernel_initializer=_small_normal(), name=name, dtype=self.dtype_policy
        )
        layer.build((None, None, inputs))
        return layer

    def _project(self, x: Any) -> list[Any]:
        """Returns queries, keys and values, (batch, tokens, heads, size / heads)."""
        shape = (-1, ops.shape(x)[1], self.num_heads, x.shape[-1] // self.num_heads)
        return [ops.reshape(layer(x), shape) for layer in (self.query, self.key, self.value)]

    def _allowed(self, count: Any, padding_mask: Any) -> Any:
        """Returns which tokens a token may attend to, booleans that broadcast to (batch, heads, tokens, tokens)."""
        allowed = None
        if self.causal:
            places = ops.arange(0, count, dtype="int32")  # jax2onnx needs the start
            allowed = (places[:, None] >= places[None, :])[None, None]
        if padding_mask is not None:
            is_token = ops.cast(padding_mask, "bool")[:, None, None, :]
            allowed = is_token if allowed is None else ops.logical_and(allowed, is_token)
        return allowed

    def _probabilities(self, query: Any, key: Any, allowed: Any) -> Any:
        scores = ops.einsum("bqhd,bkhd->bhqk", query, key) * (query.shape[-1] ** -0.5)
        scores = ops.cast(scores, "float32")
        if key.shape[1] == 1:  # a softmax over one token is 1, and Keras warns of it
            return ops.ones_like(scores)
        return ops.softmax(scores if allowed is None else ops.where(allowed, scores, _MASKED))

    def _attend(self, query: Any, key: Any, value: Any, allowed: Any, training: bool) -> Any:
        probabilities = ops.cast(self._probabilities(query, key, allowed), value.dtype)
        probabilities = self.probabilities_dropout(probabilities, training=training)
        mixed = ops.einsum("bhqk,bkhd->bqhd", probabilities, value)
        width = mixed.shape[-1] * self.num_heads
        return self.attention_output(ops.reshape(mixed, (-1, ops.shape(mixed)[1], width)))

    def _finish(self, x: Any, attended: Any, training: bool) -> Any:
        """Adds the attended vectors, then the dense layers."""
        x = x + self.attention_dropout(attended, training=training)
        if not self.norm_first:
            x = self.attention_norm(x)
        inner = self.output_dense(self.intermediate(self.output_norm(x) if self.norm_first else x))
        x = x + self.output_dropout(inner, training=training)
        return x if self.norm_first else self.output_norm(x)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments as they are saved."""
        names = ("num_heads", "intermediate_dim", "causal", "norm_first", "dropout", "activation", "epsilon", "seed")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


def causal_language_model(
    *,
    vocabulary_size: int,
    sequence_length: int,
    embedding_dim: int = 64,
    num_layers: int = 2,
    num_heads: int = 4,
    intermediate_dim: int = 256,
    dropout: float = 0.1,
    seed: int = 0,
    name: str = "causal_language_model",
) -> keras.Model:
    """Builds a Transformer that predicts each next token of a sequence from the tokens before it.

    Args:
        vocabulary_size: Number of tokens.
        sequence_length: Number of positions.
        embedding_dim: Size of the vectors; the table of tokens is also the last layer.
        num_layers: Number of blocks.
        num_heads: Attention heads of each block; divides ``embedding_dim``.
        intermediate_dim: Units of the first dense layer of each block.
        dropout: Fraction of the outputs of each part to drop in training, from 0 up to but not including 1.
        seed: Seed of the initial weights and of dropout; one seed gives the same numbers on every backend.
        name: Name of the model.

    Returns:
        A model from tokens, int32 (batch, sequence_length), to float32 logits (batch, sequence_length,
        vocabulary_size); those of a position predict the token after it. Its layers are ``tokens``, ``embedding``,
        ``dropout``, ``block1``, ``block2``, ... and ``norm``.

    Raises:
        CourseError: A size is not positive, does not divide, or ``dropout`` is out of range.

    Example:
        >>> model = causal_language_model(vocabulary_size=100, sequence_length=8, embedding_dim=16, num_heads=2)
        >>> model.output_shape
        (None, 8, 100)

    Source: A. Radford and others, "Language models are unsupervised multitask learners", 2019 (GPT-2).
    """
    check_positive(num_layers=num_layers)
    check_fractions(dropout=dropout)
    with keras.StatelessScope():  # the weights are drawn by `initialize` only, not also by Keras
        tokens = keras.Input((sequence_length,), dtype="int32", name="tokens")
        embedding = TextEmbedding(vocabulary_size, sequence_length, embedding_dim, name="embedding")
        x = embedding(tokens)
        if dropout:
            x = Dropout(dropout, seed=seed, name="dropout")(x)
        for number in range(1, num_layers + 1):
            block = TransformerBlock(
                num_heads,
                intermediate_dim,
                causal=True,
                norm_first=True,
                dropout=dropout,
                seed=seed,
                name=f"block{number}",
            )
            x = block(x)
        x = layers.LayerNormalization(epsilon=1e-5, name="norm")(x)
        logits = embedding(x, reverse=True)
        return initialize(keras.Model(tokens, logits, name=name), seed=seed)


def cached_language_model(model: keras.Model) -> keras.Model:
    """Returns a causal language model that takes one token at a time, and keys and values of those before it.

    Args:
        model: A model of ``causal_language_model``; the weights are shared with it.

    Returns:
        A model from a list of tokens (batch, 1), their position (batch, 1), and keys and values of each block (batch,
        sequence_length, num_heads, embedding_dim / num_heads) to a list of logits (batch, 1, vocabulary_size) and the
        new keys and values.

    Raises:
        CourseError: The model is no causal language model.

    Example:
        >>> model = causal_language_model(vocabulary_size=9, sequence_length=4, embedding_dim=4, num_heads=2)
        >>> [tuple(part.shape) for part in cached_language_model(model).inputs][:3]
        [(None, 1), (None, 1), (None, 4, 2, 2)]
    """
    blocks = [layer for layer in model.layers if isinstance(layer, TransformerBlock)]
    embedding = next((layer for layer in model.layers if isinstance(layer, TextEmbedding)), None)
    if embedding is None or not blocks or not all(block.causal for block in blocks):
        raise CourseError(f"{model.name} is no causal language model; give one of causal_language_model")
    token = keras.Input((1,), dtype="int32", name="token")
    position = keras.Input((1,), dtype="int32", name="position")
    inputs: list[Any] = [token, position]
    outputs: list[Any] = []
    x = embedding(token, positions=position)
    for block in blocks:
        shape = (embedding.sequence_length, block.num_heads, embedding.embedding_dim // block.num_heads)
        cache = [keras.Input(shape, name=f"{block.name}_{kind}", dtype=x.dtype) for kind in ("keys", "values")]
        x, *new = _CachedStep(block)(x, position, *cache)
        inputs, outputs = [*inputs, *cache], [*outputs, *new]
    logits = embedding(model.get_layer("norm")(x), reverse=True)
    return keras.Model(inputs, [logits, *outputs], name=f"{model.name}_cached")


class _CachedStep(layers.Layer):
    """Calls ``step`` of a block; a graph of Keras cannot call one layer with one output and with three."""

    def __init__(self, block: TransformerBlock) -> None:
        super().__init__(name=f"{block.name}_step")
        self.block = block

    def call(self, x: Any, position: Any, keys: Any, values: Any) -> tuple[Any, Any, Any]:
        return self.block.step(x, position, keys, values)


def _small_normal() -> keras.initializers.Initializer:
    return keras.initializers.RandomNormal(stddev=_STANDARD_DEVIATION)
