"""Explains convolutional networks: kernels, feature maps, and the places in a picture that support a prediction.

``convolve`` and ``pool`` are the formulas in NumPy, for one picture. The other functions take any Keras model, also one
with models inside.
"""

import functools
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from keras_course import _backend
from keras_course._backend import keras_private
from keras_course.errors import CourseError, check_positive
from keras_course.training.inputs import check_samples

FloatArray = npt.NDArray[np.float64]

_PADDINGS = ("valid", "same")
_AVERAGE, _MAXIMUM = "average", "max"
_AFTER_A_CONVOLUTION = (keras.layers.BatchNormalization, keras.layers.Activation, keras.layers.ReLU)


def _kernel(rows: list[list[float]], divisor: float = 1.0) -> FloatArray:
    kernel = np.array(rows, "float64") / divisor
    kernel.flags.writeable = False
    return kernel


# Well-known kernels, made by hand. The weights of detectors sum to 0, those of filters to 1.
KERNELS = MappingProxyType(
    {
        "blur": _kernel([[1, 2, 1], [2, 4, 2], [1, 2, 1]], 16),
        "sharpen": _kernel([[0, -1, 0], [-1, 5, -1], [0, -1, 0]]),
        "vertical edges": _kernel([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]),
        "horizontal edges": _kernel([[-1, -2, -1], [0, 0, 0], [1, 2, 1]]),
        "outline": _kernel([[-1, -1, -1], [-1, 8, -1], [-1, -1, -1]]),
    }
)


def convolve(image: npt.ArrayLike, kernel: npt.ArrayLike, *, stride: int = 1, padding: str = "valid") -> FloatArray:
    """Slides a kernel over a picture: out[i, j] = Σ kernel[a, b] · image[stride·i + a, stride·j + b].

    This is what a convolutional layer computes, without the bias. (In mathematics it is called cross-correlation; a
    convolution flips the kernel first.)

    Args:
        image: A gray picture, shape ``(height, width)``, or one with channels, shape ``(height, width, inputs)``.
        kernel: The weights, shape ``(rows, columns)`` for a gray picture, or ``(rows, columns, inputs, filters)``, as
            in a Keras layer.
        stride: The distance between two positions of the kernel in pixels.
        padding: ``valid`` keeps the kernel within the picture; ``same`` adds zeros around it, so that with stride 1 the
            result is as large as the picture. With n pixels, a kernel of k and a stride of s, the result has
            ⌊(n - k) / s⌋ + 1 pixels for ``valid`` and ⌈n / s⌉ for ``same``.

    Returns:
        The result, float64, shape ``(rows, columns)`` or ``(rows, columns, filters)``.

    Raises:
        CourseError: The shapes do not match, or ``stride`` or ``padding`` has another value.

    Example:
        >>> convolve([[0, 0, 9, 9], [0, 0, 9, 9]], [[-1, 1]]).tolist()  # finds where it becomes brighter
        [[0.0, 9.0, 0.0], [0.0, 9.0, 0.0]]

    Source: V. Dumoulin and F. Visin, "A guide to convolution arithmetic for deep learning", 2016.
    """
    picture, weights = np.asarray(image, "float64"), np.asarray(kernel, "float64")
    if (picture.ndim, weights.ndim) == (2, 2):
        return convolve(picture[..., None], weights[..., None, None], stride=stride, padding=padding)[..., 0]
    if (picture.ndim, weights.ndim) != (3, 4) or picture.shape[2] != weights.shape[2]:
        raise CourseError(
            f"image has shape {picture.shape} and kernel {weights.shape}; give (height, width) and (rows, columns), "
            "or (height, width, inputs) and (rows, columns, inputs, filters)"
        )
    windows = _windows(picture, weights.shape[:2], stride=stride, padding=padding, fill=0.0)
    return np.einsum("ijcab,abcf->ijf", windows, weights, optimize=True)


def pool(
    image: npt.ArrayLike, *, size: int = 2, stride: int | None = None, padding: str = "valid", kind: str = "max"
) -> FloatArray:
    """Computes the maximum or the average of each window of a picture.

    Args:
        image: A picture, shape ``(height, width)``, or maps, shape ``(height, width, filters)``, pooled separately.
        size: The height and the width of the windows in pixels.
        stride: The distance between two windows in pixels; by default ``size``.
        padding: ``valid`` keeps the windows within the picture; with ``same`` they can extend beyond its edge, and only
            pixels of the picture count.
        kind: ``max`` or ``average``.

    Returns:
        The result, float64, with as many axes as ``image``.

    Raises:
        CourseError: The picture is smaller than a window, or an argument has another value.

    Example:
        >>> pool([[1, 2, 5, 0], [3, 4, 0, 0]]).tolist()
        [[4.0, 5.0]]
    """
    picture = np.asarray(image, "float64")
    if picture.ndim == 2:
        return pool(picture[..., None], size=size, stride=stride, padding=padding, kind=kind)[..., 0]
    if picture.ndim != 3:
        raise CourseError(f"image has shape {picture.shape}; give (height, width) or (height, width, filters)")
    if kind not in (_MAXIMUM, _AVERAGE):
        raise CourseError(f"kind is {kind!r}; give {_MAXIMUM} or {_AVERAGE}")
    check_positive(size=size)
    steps = size if stride is None else stride
    fill = -np.inf if kind == _MAXIMUM else np.nan
    windows = _windows(picture, (size, size), stride=steps, padding=padding, fill=fill)
    return windows.max(axis=(3, 4)) if kind == _MAXIMUM else np.nanmean(windows, axis=(3, 4))


def kernels(model: keras.Model, layer: str) -> npt.NDArray[np.float32]:
    """Returns the kernels of a convolutional layer.

    Args:
        model: A built model.
        layer: The name of the layer; it can be in a model inside the model.

    Returns:
        A copy of the weights, shape ``(rows, columns, inputs, filters)``.

    Raises:
        CourseError: There is no such layer, or it is not a two-dimensional convolution.

    Example:
        >>> from keras_course.models import cnn_classifier
        >>> kernels(cnn_classifier(), "block1_conv").shape
        (3, 3, 1, 25)
    """
    found = _layer(model, layer)
    if not _is_convolution(found):
        raise CourseError(f"layer {layer!r} has no kernels over pictures; give one of {_names(_convolutions(model))}")
    return _float32(found.kernel).copy()


def feature_maps(model: keras.Model, image: npt.ArrayLike, layer: str) -> npt.NDArray[np.float32]:
    """Computes the output of a layer for one picture: one map for each filter.

    Args:
        model: A built model.
        image: A picture as the model takes it, shape ``(height, width, channels)``.
        layer: The name of the layer; it can be in a model inside the model.

    Returns:
        The layer's output, shape ``(rows, columns, filters)``.

    Raises:
        CourseError: The picture does not fit the model, there is no such layer, or its output is not a map.

    Example:
        >>> from keras_course.models import cnn_classifier
        >>> feature_maps(cnn_classifier(), np.zeros((28, 28, 1)), "block2_pool").shape
        (7, 7, 50)
    """
    batch = _batch_of(model, image)
    with _watching(_layer(model, layer)) as seen:
        model(keras.ops.convert_to_tensor(batch), training=False)
    return _float32(_the_maps(seen, layer))[0].copy()


def grad_cam(
    model: keras.Model, image: npt.ArrayLike, *, label: int | None = None, layer: str | None = None
) -> FloatArray:
    """Computes a heat map of the places that support a prediction: gradient-weighted class activation mapping.

    Each feature map of a layer is weighted by the mean gradient of the class's logit with respect to the map. Places
    where the weighted sum is positive support the class.

    Args:
        model: A built model that returns logits.
        image: A picture as the model takes it, shape ``(height, width, channels)``.
        label: The number of the class; by default, the predicted class.
        layer: The name of the layer whose maps are weighted; by default, the last convolution with the normalization
            and the activation that follow it.

    Returns:
        The heat of each pixel, shape ``(height, width)``, from 0 to 1: interpolated from the size of the maps and
        divided by the maximum. It is 0 everywhere if no place supports the class.

    Raises:
        CourseError: The picture does not fit the model, or there is no such class, layer or convolution.

    Example:
        >>> from keras_course.models import cnn_classifier
        >>> heat = grad_cam(cnn_classifier(), np.arange(784.0).reshape(28, 28, 1) / 4)
        >>> heat.shape, float(heat.max())
        ((28, 28), 1.0)

    Source: R. Selvaraju et al., "Grad-CAM: visual explanations from deep networks via gradient-based localization",
    2017.
    """
    batch = keras.ops.convert_to_tensor(_batch_of(model, image))
    chosen = _last_maps(model) if layer is None else _layer(model, layer)
    with _watching(chosen) as seen:
        logits = _float32(model(batch, training=False))
    maps = _float32(_the_maps(seen, chosen.name))
    if logits.ndim != 2:
        raise CourseError(f"model {model.name!r} gives shape {logits.shape[1:]} a picture; give one that gives logits")
    number = int(logits[0].argmax()) if label is None else label
    if not 0 <= number < logits.shape[1]:
        raise CourseError(f"label is {label}; give a class number from 0 to {logits.shape[1] - 1}")

    def logit(change: list[Any]) -> tuple[Any, list[Any]]:
        with _watching(chosen, lambda output: output + keras.ops.cast(change[0], output.dtype)):
            return keras.ops.cast(model(batch, training=False), "float32")[0, number], []

    # the gradient with respect to a change of the maps, at 0, is the gradient with respect to the maps
    _, (gradient,) = _backend.value_and_grad(logit)([keras.ops.zeros(maps.shape, "float32")])
    weights = _float32(gradient)[0].mean(axis=(0, 1), dtype="float64")
    heat = np.maximum(maps[0].astype("float64") @ weights, 0)
    heat = _interpolated(heat, batch.shape[1:3])
    return heat / (heat.max() or 1.0)


def _windows(
    picture: FloatArray, size: tuple[int, ...], *, stride: int, padding: str, fill: float
) -> npt.NDArray[np.float64]:
    """Returns the windows of a picture (height, width, channels), shape (rows, columns, channels, *size)."""
    check_positive(stride=stride)
    if padding not in _PADDINGS:
        raise CourseError(f"padding is {padding!r}; give one of {', '.join(_PADDINGS)}")
    if padding == "same":
        edges = []
        for pixels, window in zip(picture.shape, size, strict=False):
            missing = max((math.ceil(pixels / stride) - 1) * stride + window - pixels, 0)
            edges.append((missing // 2, missing - missing // 2))  # an odd pixel is added at the right or the bottom
        picture = np.pad(picture, [*edges, (0, 0)], constant_values=fill)
    if picture.shape[0] < size[0] or picture.shape[1] < size[1]:
        raise CourseError(
            f"image has {picture.shape[0]} × {picture.shape[1]} pixels, fewer than the {size[0]} × {size[1]} of a "
            "window; give a larger one, or padding='same'"
        )
    return np.lib.stride_tricks.sliding_window_view(picture, size, axis=(0, 1))[::stride, ::stride]


def _batch_of(model: keras.Model, image: npt.ArrayLike) -> npt.NDArray[np.float32]:
    if getattr(model, "input_shape", None) is None:
        raise CourseError(f"model {model.name!r} has no input shape; build it from a keras.Input")
    batch = np.asarray(image, "float32")[None]
    check_samples(model, batch, "image")
    return batch


def _float32(tensor: Any) -> npt.NDArray[np.float32]:
    return np.asarray(keras.ops.convert_to_numpy(keras.ops.cast(tensor, "float32")))


def layers_of(outer: keras.layers.Layer) -> Iterator[keras.layers.Layer]:
    """Yields all layers that are not models, in the order of the model; Keras' list reverses inner models.

    Args:
        outer: A built model or layer.

    Yields:
        The layers, also those inside models and layers; a layer that two models share comes twice.

    Example:
        >>> from keras_course.models import dense_classifier
        >>> [layer.name for layer in layers_of(dense_classifier(hidden=(8,)))]
        ['pixels', 'flatten', 'hidden1', 'logits']
    """
    for layer in keras_private.all_layers(outer, include_self=False, recursive=False):
        if not isinstance(layer, keras.Model | keras.layers.InputLayer):
            yield layer
        yield from layers_of(layer)


def _layer(model: keras.Model, name: str) -> keras.layers.Layer:
    for layer in layers_of(model):
        if layer.name == name:
            return layer
    raise CourseError(f"layer is {name!r}; give one of {_names(layers_of(model))}")


def _is_convolution(layer: keras.layers.Layer) -> bool:
    return getattr(layer, "kernel_size", None) is not None and len(getattr(layer, "kernel", np.empty(0)).shape) == 4


def _convolutions(model: keras.Model) -> list[keras.layers.Layer]:
    found = [layer for layer in layers_of(model) if _is_convolution(layer)]
    if not found:
        raise CourseError(f"model {model.name!r} has no convolution over pictures; give a model with one")
    return found


def _last_maps(model: keras.Model) -> keras.layers.Layer:
    """Returns the last convolution, or the last normalization or activation directly after it."""
    everything = list(layers_of(model))
    convolutions = _convolutions(model)
    # some networks end with convolutions over a single place, after pooling
    over_places = [layer for layer in convolutions if _places(layer) != 1]
    here = everything.index((over_places or convolutions)[-1])
    while here + 1 < len(everything) and isinstance(everything[here + 1], _AFTER_A_CONVOLUTION):
        here += 1
    return everything[here]


def _places(layer: keras.layers.Layer) -> int | None:
    """Returns the number of places of a layer's maps, or None if it depends on the picture."""
    sides = layer.output.shape[1:3]
    return None if None in sides else sides[0] * sides[1]


def _names(layers: Iterable[keras.layers.Layer]) -> str:
    return ", ".join(layer.name for layer in layers)


@contextmanager
def calls_replaced(layer: keras.layers.Layer, replacement: Callable[..., Any]) -> Iterator[None]:
    """Replaces the computation of a layer within the context.

    Args:
        layer: A built layer.
        replacement: Is called with the layer's own ``call`` and then its arguments; returns the output.

    Example:
        >>> double = keras.layers.Rescaling(2.0)
        >>> with calls_replaced(double, lambda call, x: call(x) + 1):
        ...     changed = float(double(np.ones(1))[0])
        >>> changed, float(double(np.ones(1))[0])
        (3.0, 2.0)
    """
    call = layer.call
    layer.call = functools.partial(replacement, call)
    try:
        yield
    finally:
        del layer.call


@contextmanager
def _watching(layer: keras.layers.Layer, change: Callable[[Any], Any] = lambda output: output) -> Iterator[list[Any]]:
    """Records the outputs of a layer within the context, after applying a change to them."""
    seen: list[Any] = []

    def watched(call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        seen.append(change(call(*args, **kwargs)))
        return seen[-1]

    with calls_replaced(layer, watched):
        yield seen


def _the_maps(seen: list[Any], layer: str) -> Any:
    if len(seen) != 1:
        raise CourseError(f"layer {layer!r} runs {len(seen)} times in the model; give one that runs once")
    if len(seen[0].shape) != 4:
        raise CourseError(
            f"layer {layer!r} gives shape {tuple(seen[0].shape[1:])}, which is not a map; give a convolution"
        )
    return seen[0]


def _interpolated(heat: FloatArray, size: tuple[int, ...]) -> FloatArray:
    """Enlarges a map bilinearly; the edges of its outer pixels are the edges of the picture."""
    for axis, pixels in enumerate(size):
        places = (np.arange(pixels) + 0.5) * heat.shape[axis] / pixels - 0.5
        heat = np.apply_along_axis(lambda line, at: np.interp(at, np.arange(len(line)), line), axis, heat, places)
    return heat
