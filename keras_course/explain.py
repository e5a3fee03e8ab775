"""Looking into a convolutional network: what a kernel does to a picture, what a layer sees, where an answer is from.

``convolve`` and ``pool`` are the formulas in NumPy, for one picture; the others look into a Keras model of any kind,
also into the models that it is made of.
"""

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


# What people made by hand before networks learnt to. Those that detect something add up to 0, the others to 1.
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

    That is what convolutional layers compute, without their bias. (In mathematics it is called cross-correlation; a
    convolution would turn the kernel upside down first.)

    Args:
        image: A grey picture (height, width), or one with channels (height, width, inputs), on any scale.
        kernel: For a grey picture (rows, columns); for one with channels (rows, columns, inputs, filters), as the
            weights of a Keras layer.
        stride: Pixels from one place of the kernel to the next.
        padding: ``valid`` keeps the kernel within the picture; ``same`` puts zeros around it, so that at stride 1 the
            result is as large as the picture. With n pixels, a kernel of k and a stride of s, the result has
            ⌊(n - k) / s⌋ + 1 pixels for ``valid`` and ⌈n / s⌉ for ``same``.

    Returns:
        float64 (rows, columns), or (rows, columns, filters).

    Raises:
        CourseError: Picture and kernel do not fit, or ``stride`` or ``padding`` is none of these.

    Example:
        >>> convolve([[0, 0, 9, 9], [0, 0, 9, 9]], [[-1, 1]]).tolist()  # where it becomes brighter
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
    """Takes the largest, or the average, of each window of a picture.

    Args:
        image: A picture (height, width), or maps (height, width, filters), each of which is pooled alone.
        size: Height and width of the windows in pixels.
        stride: Pixels from one window to the next; ``size`` when left out, so that the windows touch.
        padding: ``valid`` keeps the windows within the picture, ``same`` lets them reach over its edge, where there is
            nothing: it is neither the largest nor does it count for the average.
        kind: ``max`` or ``average``.

    Returns:
        float64 of as many axes as the picture.

    Raises:
        CourseError: The picture is smaller than a window, or an argument is none of these.

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
    """Reads the kernels that a convolutional layer has.

    Args:
        model: A built model.
        layer: The layer's name, also of one in a model within the model.

    Returns:
        A copy of the weights, (rows, columns, inputs, filters).

    Raises:
        CourseError: There is no such layer, or it is no convolution over pictures.

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
    """Computes what a layer makes of one picture: one map for each of its filters.

    Args:
        model: A built model.
        image: One picture (height, width, channels), as the model takes them.
        layer: The layer's name, also of one in a model within the model.

    Returns:
        The layer's output, (rows, columns, filters).

    Raises:
        CourseError: The picture does not fit the model, or there is no such layer, or its output is no map.

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
    """Finds where in a picture the reasons for an answer are: gradient-weighted class activation mapping.

    Each map of a layer is weighted by how much the logit of the class would grow with it, on average over its places;
    where the sum of the weighted maps is above 0, the picture speaks for the class.

    Args:
        model: A built model that returns logits.
        image: One picture (height, width, channels), as the model takes them.
        label: The class to find reasons for; the model's answer when left out.
        layer: The name of the layer whose maps to weight; when left out, the last convolution, with the normalisation
            and the activation that follow it.

    Returns:
        The heat of each pixel of the picture, (height, width), from 0 to 1: interpolated between the places of the
        layer, and divided by the largest. It is 0 everywhere where nothing speaks for the class.

    Raises:
        CourseError: The picture does not fit the model, or there is no such class or layer, or no convolution.

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

    # the gradient for a change of the maps, at no change, is that for the maps themselves
    _, (gradient,) = _backend.value_and_grad(logit)([keras.ops.zeros(maps.shape, "float32")])
    weights = _float32(gradient)[0].mean(axis=(0, 1), dtype="float64")
    heat = np.maximum(maps[0].astype("float64") @ weights, 0)
    heat = _interpolated(heat, batch.shape[1:3])
    return heat / (heat.max() or 1.0)


def _windows(
    picture: FloatArray, size: tuple[int, ...], *, stride: int, padding: str, fill: float
) -> npt.NDArray[np.float64]:
    """Cuts the windows out of a picture (height, width, channels): (rows, columns, channels, *size)."""
    check_positive(stride=stride)
    if padding not in _PADDINGS:
        raise CourseError(f"padding is {padding!r}; give one of {', '.join(_PADDINGS)}")
    if padding == "same":
        edges = []
        for pixels, window in zip(picture.shape, size, strict=False):
            missing = max((math.ceil(pixels / stride) - 1) * stride + window - pixels, 0)
            edges.append((missing // 2, missing - missing // 2))  # an odd one goes to the right and below
        picture = np.pad(picture, [*edges, (0, 0)], constant_values=fill)
    if picture.shape[0] < size[0] or picture.shape[1] < size[1]:
        raise CourseError(
            f"image has {picture.shape[0]} × {picture.shape[1]} pixels, fewer than the {size[0]} × {size[1]} of a "
            "window; give a larger one, or padding='same'"
        )
    return np.lib.stride_tricks.sliding_window_view(picture, size, axis=(0, 1))[::stride, ::stride]


def _batch_of(model: keras.Model, image: npt.ArrayLike) -> npt.NDArray[np.float32]:
    if getattr(model, "input_shape", None) is None:
        raise CourseError(f"model {model.name!r} does not say what it takes; build it from a keras.Input")
    batch = np.asarray(image, "float32")[None]
    check_samples(model, batch, "image")
    return batch


def _float32(tensor: Any) -> npt.NDArray[np.float32]:
    return np.asarray(keras.ops.convert_to_numpy(keras.ops.cast(tensor, "float32")))


def _layers(outer: keras.layers.Layer) -> Iterator[keras.layers.Layer]:
    """All layers that are no models, in the order of the model; Keras' own list goes backwards through inner models."""
    for layer in keras_private.all_layers(outer, include_self=False, recursive=False):
        if not isinstance(layer, keras.Model | keras.layers.InputLayer):
            yield layer
        yield from _layers(layer)


def _layer(model: keras.Model, name: str) -> keras.layers.Layer:
    for layer in _layers(model):
        if layer.name == name:
            return layer
    raise CourseError(f"layer is {name!r}; give one of {_names(_layers(model))}")


def _is_convolution(layer: keras.layers.Layer) -> bool:
    return getattr(layer, "kernel_size", None) is not None and len(getattr(layer, "kernel", np.empty(0)).shape) == 4


def _convolutions(model: keras.Model) -> list[keras.layers.Layer]:
    found = [layer for layer in _layers(model) if _is_convolution(layer)]
    if not found:
        raise CourseError(f"model {model.name!r} has no convolution over pictures; give one that has")
    return found


def _last_maps(model: keras.Model) -> keras.layers.Layer:
    """The last convolution, or the last of the layers that normalise and activate what comes out of it."""
    everything = list(_layers(model))
    convolutions = _convolutions(model)
    # some nets end with convolutions over the one place that is left after pooling
    over_places = [layer for layer in convolutions if _places(layer) != 1]
    here = everything.index((over_places or convolutions)[-1])
    while here + 1 < len(everything) and isinstance(everything[here + 1], _AFTER_A_CONVOLUTION):
        here += 1
    return everything[here]


def _places(layer: keras.layers.Layer) -> int | None:
    """How many places the maps of a layer have; None if that depends on the picture."""
    sides = layer.output.shape[1:3]
    return None if None in sides else sides[0] * sides[1]


def _names(layers: Iterable[keras.layers.Layer]) -> str:
    return ", ".join(layer.name for layer in layers)


@contextmanager
def _watching(layer: keras.layers.Layer, change: Callable[[Any], Any] = lambda output: output) -> Iterator[list[Any]]:
    """While it lasts, keeps what a layer gives, and changes it first; wherever in a model the layer is."""
    seen: list[Any] = []
    call = layer.call

    def watched(*args: Any, **kwargs: Any) -> Any:
        seen.append(change(call(*args, **kwargs)))
        return seen[-1]

    layer.call = watched
    try:
        yield seen
    finally:
        del layer.call


def _the_maps(seen: list[Any], layer: str) -> Any:
    if len(seen) != 1:
        raise CourseError(f"layer {layer!r} runs {len(seen)} times in the model; give one that runs once")
    if len(seen[0].shape) != 4:
        raise CourseError(f"layer {layer!r} gives shape {tuple(seen[0].shape[1:])}, no maps; give a convolution")
    return seen[0]


def _interpolated(heat: FloatArray, size: tuple[int, ...]) -> FloatArray:
    """Enlarges a map bilinearly; the edges of the outer pixels are the edges of the picture."""
    for axis, pixels in enumerate(size):
        places = (np.arange(pixels) + 0.5) * heat.shape[axis] / pixels - 0.5
        heat = np.apply_along_axis(lambda line, at: np.interp(at, np.arange(len(line)), line), axis, heat, places)
    return heat
