"""Explains models of text: what each attention head looks at, and what each token contributes to a prediction.

Both functions take one sentence as the model takes it, without the axis of the batch.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any, NamedTuple

import keras
import numpy as np
import numpy.typing as npt

from keras_course import _backend
from keras_course.errors import CourseError, check_positive
from keras_course.explain import calls_replaced, layers_of
from keras_course.models.transformer import TextEmbedding, TransformerBlock
from keras_course.training.inputs import check_samples

__all__ = ["Contributions", "attention_maps", "integrated_gradients"]

FloatArray = npt.NDArray[np.float64]

_TOKENS_TOGETHER = 1024
"""Sentences on the path from the baseline are computed in batches of about so many tokens."""


class Contributions(NamedTuple):
    """What each token of a sentence contributes to a logit.

    Args:
        values: The contribution of each token, float64 (tokens,).
        logit: The logit of the sentence.
        baseline_logit: The logit of the baseline.

    Example:
        >>> found = Contributions(np.array([0.5, 1.25]), logit=2.0, baseline_logit=0.0)
        >>> found.missing
        0.25
    """

    values: FloatArray
    logit: float
    baseline_logit: float

    @property
    def missing(self) -> float:
        """The difference of the two logits minus the sum of the contributions; it is 0 for an exact integral."""
        return self.logit - self.baseline_logit - float(self.values.sum())


def attention_maps(model: keras.Model, tokens: Any) -> dict[str, npt.NDArray[np.float32]]:
    """Computes the attention probabilities of each head of each Transformer block for one sentence.

    Args:
        model: A built model with layers of the class ``TransformerBlock``; they can be in models inside the model.
        tokens: The numbers of the tokens, integers (tokens,); a dictionary or list of such arrays for a model with
            several inputs.

    Returns:
        For the name of each block, in the order of computation, probabilities float32 (heads, tokens, tokens): those
        in row i are the shares of all tokens in the new vector of token i; their sum is 1. If a name occurs again, or
        a block runs again, a number is added to the name.

    Raises:
        CourseError: The model has no Transformer block, or the tokens do not fit it.

    Example:
        >>> from keras_course.models.transformer import causal_language_model
        >>> model = causal_language_model(vocabulary_size=9, sequence_length=3, embedding_dim=4, num_heads=2)
        >>> maps = attention_maps(model, [2, 5, 7])
        >>> {name: probabilities.shape for name, probabilities in maps.items()}
        {'block1': (2, 3, 3), 'block2': (2, 3, 3)}
        >>> maps["block1"][0, 0].tolist()  # the first token of a causal model sees only itself
        [1.0, 0.0, 0.0]
    """
    blocks = _layers_of_class(model, TransformerBlock)
    if not blocks:
        raise CourseError(f"model {model.name!r} has no TransformerBlock; give a model with one")
    batch = _batch_of(model, tokens)
    found: dict[str, npt.NDArray[np.float32]] = {}

    def watched(block: TransformerBlock) -> Callable[..., Any]:
        def call(original: Callable[..., Any], x: Any, padding_mask: Any = None, **settings: Any) -> Any:
            name, number = block.name, 1
            while name in found:
                number += 1
                name = f"{block.name}_{number}"
            found[name] = _float32(block.attention(x, padding_mask))[0].copy()
            return original(x, padding_mask, **settings)

        return call

    with ExitStack() as stack:
        for embedding in _layers_of_class(model, keras.layers.Embedding, TextEmbedding):
            stack.enter_context(calls_replaced(embedding, _checked_call(embedding)))
        for block in blocks:
            stack.enter_context(calls_replaced(block, watched(block)))
        model(_tensors(batch), **_backend.mode(model, training=False))
    return found


def integrated_gradients(
    model: keras.Model,
    tokens: Any,
    *,
    label: int | Sequence[int] | None = None,
    baseline: npt.ArrayLike = 0,
    steps: int = 64,
    layer: str | None = None,
) -> Contributions:
    """Computes what each token contributes to a logit: integrated gradients over the embeddings.

    The vectors of the tokens move in a straight line from those of a baseline, such as a sentence of padding, to those
    of the sentence. The gradient of the logit is averaged over this path, and multiplied by the difference of the
    vectors. The sum of the contributions is the difference of the two logits (completeness). Positions, segments and
    the mask of the padding stay those of the sentence.

    Args:
        model: A built model with one output, logits. It embeds its tokens by one layer ``keras.layers.Embedding`` or
            ``TextEmbedding``, which can be in a model inside the model.
        tokens: The numbers of the tokens, integers (tokens,); a dictionary or list of such arrays for a model with
            several inputs.
        label: The number of the class, or the place of the logit in the output for one sentence, such as (position,
            token) for a language model with logits for each position; by default, the predicted class.
        baseline: The number of the token of the baseline, such as the one for padding or for a mask, or a number for
            each place, integers (tokens,). A token that is also in the baseline contributes 0.
        steps: The number of places on the path at which the gradient is computed: the nodes of Gauss-Legendre
            quadrature. If ``missing`` of the result is not small beside the difference of the logits, give more.
        layer: The name of the embedding, if the model has several.

    Returns:
        The contributions, positive for tokens that raise the logit, and both logits.

    Raises:
        CourseError: The model has no embedding, or several and ``layer`` is not given; the tokens do not fit it; or
            there is no such label.

    Example:
        >>> embedding = keras.layers.Embedding(4, 1, name="embedding")
        >>> model = keras.Sequential([keras.Input((3,), dtype="int32"), embedding, keras.layers.Flatten()])
        >>> embedding.set_weights([np.array([[0.0], [1.0], [2.0], [3.0]])])
        >>> integrated_gradients(model, [1, 3, 0], label=1).values.round(3).tolist()
        [0.0, 3.0, 0.0]

    Source: M. Sundararajan, A. Taly and Q. Yan, "Axiomatic attribution for deep networks", 2017.
    """
    check_positive(steps=steps)
    embedding = _the_embedding(model, layer)
    batch = _batch_of(model, tokens)
    start, end, logits = _ends_and_logits(model, embedding, batch, baseline)
    place = _place_of(logits, label)

    def logits_at(points: Any, sentences: Any) -> Any:
        def moved(call: Callable[..., Any], inputs: Any, *args: Any, **settings: Any) -> Any:
            if settings.get("reverse"):  # the table is also the last layer
                return call(inputs, *args, **settings)
            return keras.ops.cast(points, embedding.compute_dtype)

        with calls_replaced(embedding, moved):
            output = model(sentences, **_backend.mode(model, training=False))
        return keras.ops.cast(output, "float32")[(slice(None), *place)]

    def total(points: list[Any], sentences: Any) -> tuple[Any, list[Any]]:
        return keras.ops.sum(logits_at(points[0], sentences)), []

    difference = end - start
    size = min(steps, max(1, _TOKENS_TOGETHER // len(start)))
    repeated = _tensors(keras.tree.map_structure(lambda array: np.repeat(array, size, axis=0), batch))
    mean = np.zeros_like(difference)
    for parts, weights in _path(steps, size):
        points = (start + parts[:, None, None] * difference).astype("float32")
        _, (gradient,) = _backend.value_and_grad(total)([keras.ops.convert_to_tensor(points)], repeated)
        mean += np.einsum("s,std->td", weights, _float32(gradient), dtype="float64")
    baseline_logit = _float32(logits_at(keras.ops.convert_to_tensor(start[None]), _tensors(batch)))[0]
    return Contributions((difference * mean).sum(axis=-1), float(logits[place]), float(baseline_logit))


def _ends_and_logits(
    model: keras.Model, embedding: Any, batch: Any, baseline: npt.ArrayLike
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Returns the vectors (tokens, size) of the baseline and of the sentence, and the output for the sentence."""
    ends: list[FloatArray] = []

    def recorded(call: Callable[..., Any], inputs: Any, *args: Any, **settings: Any) -> Any:
        if settings.get("reverse"):
            return call(inputs, *args, **settings)
        if ends:
            raise CourseError(f"layer {embedding.name!r} runs several times in the model; give one where it runs once")
        _check_range(embedding, inputs, "tokens")
        other = keras.ops.convert_to_tensor(_baseline_like(inputs, baseline))
        _check_range(embedding, other, "baseline")
        output = call(inputs, *args, **settings)
        ends.extend(_float32(end)[0].astype("float64") for end in (call(other, *args, **settings), output))
        return output

    with calls_replaced(embedding, recorded):
        output = model(_tensors(batch), **_backend.mode(model, training=False))
    if not ends:
        raise CourseError(f"layer {embedding.name!r} does not run in the model; give the name of another embedding")
    if not hasattr(output, "shape"):
        raise CourseError(f"model {model.name!r} has several outputs; give one that has only the logits")
    return ends[0], ends[1], _float32(output)[0].astype("float64")


def _path(steps: int, size: int) -> list[tuple[FloatArray, FloatArray]]:
    """Returns places from 0 to 1 and their weights in batches of one size, filled up with weights of 0."""
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    count = -(-steps // size)
    filled = np.zeros((2, count * size))
    filled[:, :steps] = (nodes + 1) / 2, weights / 2
    return list(zip(*filled.reshape(2, count, size), strict=True))


def _layers_of_class(model: keras.Model, *classes: type) -> list[Any]:
    """Returns the layers of some classes, each once."""
    return list({id(layer): layer for layer in layers_of(model) if isinstance(layer, classes)}.values())


def _the_embedding(model: keras.Model, name: str | None) -> Any:
    found = _layers_of_class(model, keras.layers.Embedding, TextEmbedding)
    if not found:
        raise CourseError(f"model {model.name!r} has no embedding of tokens; give a model with one")
    chosen = [layer for layer in found if name in (None, layer.name)]
    if len(chosen) != 1:
        raise CourseError(f"layer is {name!r}; give one of {', '.join(layer.name for layer in found)}")
    return chosen[0]


def _batch_of(model: keras.Model, tokens: Any) -> Any:
    """Returns a batch of one sentence, arrays in the structure that was given."""
    batch: Any
    if isinstance(tokens, dict):
        batch = {name: _row_of(numbers) for name, numbers in tokens.items()}
    elif isinstance(tokens, list | tuple) and len(tokens) > 1 and np.ndim(tokens[0]):
        batch = [_row_of(numbers) for numbers in tokens]
    else:
        batch = _row_of(tokens)
    check_samples(model, batch, "tokens")
    return batch


def _row_of(numbers: npt.ArrayLike) -> npt.NDArray[Any]:
    array = np.asarray(numbers)
    if array.ndim != 1 or not len(array) or not (np.issubdtype(array.dtype, np.integer) or array.dtype == bool):
        raise CourseError(
            f"tokens are {array.dtype} of shape {array.shape}; give the numbers of one sentence, integers (tokens,)"
        )
    return array[None]


def _baseline_like(inputs: Any, baseline: npt.ArrayLike) -> npt.NDArray[Any]:
    numbers = np.asarray(baseline)
    shape = tuple(inputs.shape)
    if not np.issubdtype(numbers.dtype, np.integer) or numbers.shape not in ((), shape[1:]):
        raise CourseError(
            f"baseline is {numbers.dtype} of shape {numbers.shape}; give the number of a token, or integers {shape[1:]}"
        )
    return np.broadcast_to(numbers, shape).astype(keras.backend.standardize_dtype(inputs.dtype))


def _checked_call(embedding: Any) -> Callable[..., Any]:
    def call(original: Callable[..., Any], inputs: Any, *args: Any, **settings: Any) -> Any:
        if not settings.get("reverse"):
            _check_range(embedding, inputs, "tokens")
        return original(inputs, *args, **settings)

    return call


def _check_range(embedding: Any, tokens: Any, name: str) -> None:
    """Checks that every token has an embedding; the backends handle missing ones in different ways."""
    count = embedding.vocabulary_size if isinstance(embedding, TextEmbedding) else embedding.input_dim
    numbers = keras.ops.convert_to_numpy(tokens)
    if numbers.min() < 0 or numbers.max() >= count:
        raise CourseError(
            f"{name} has tokens from {numbers.min()} to {numbers.max()}; the layer {embedding.name!r} has {count}, "
            f"so give whole numbers from 0 to {count - 1}"
        )


def _place_of(logits: FloatArray, label: int | Sequence[int] | None) -> tuple[int, ...]:
    """Returns the index of a logit in the output for one sentence."""
    if label is None and logits.ndim == 1:
        return (int(logits.argmax()),)
    place = tuple(np.atleast_1d(np.asarray(label))) if label is not None else ()
    is_whole = all(isinstance(number, np.integer) for number in place)
    if (
        len(place) != logits.ndim
        or not is_whole
        or not all(0 <= i < n for i, n in zip(place, logits.shape, strict=True))
    ):
        last = logits.shape[0] - 1 if logits.ndim == 1 else tuple(size - 1 for size in logits.shape)
        what = "a class number" if logits.ndim == 1 else "the place of a logit"
        raise CourseError(f"label is {label!r}; give {what}, at most {last}")
    return tuple(map(int, place))


def _tensors(batch: Any) -> Any:
    return keras.tree.map_structure(keras.ops.convert_to_tensor, batch)


def _float32(tensor: Any) -> npt.NDArray[np.float32]:
    return np.asarray(keras.ops.convert_to_numpy(keras.ops.cast(tensor, "float32")))
