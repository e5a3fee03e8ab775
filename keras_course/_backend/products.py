"""Convolution as one matrix product and max pooling as a few comparisons, which XLA compiles well on a CPU.

On a CPU, XLA computes the gradient of a convolution naively inside a loop, where the training steps are (88 ms instead
of 1.4 ms for one of the course's), and the gradient of max pooling slowly everywhere. The functions here consist of
matrix products and elementwise operations, which are fast on any processor.

Where several pixels of a window are the largest, the gradient goes to the first of them, as in the pooling of each
framework.
"""

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import product
from math import prod
from threading import get_ident
from typing import Any, TypeAlias

from keras import ops
from keras.backend import backend

from keras_course._backend import keras_private
from keras_course._backend.loops import PATCHING

Sides: TypeAlias = int | Sequence[int]
"""A number of pixels for all spatial dimensions, or one for each."""

_LARGEST_PATCHES = 2**28
"""Bytes that the windows of a batch may take together; above, each position in the window is a product by itself."""


@contextmanager
def convolutions_replaced(*, wanted: bool, names: Sequence[str] = ()) -> Iterator[None]:
    """Lets Keras' layers use the functions of this module, all or those of some names, while a program is traced.

    Convolutions with channels first or in groups stay those of the framework.
    """
    if not wanted:
        yield
        return
    with PATCHING:
        thread = get_ident()
        replacements = {
            name: partial(_ours_or_native, name, keras_private.backend_operation(name), thread)
            for name in names or _OURS
        }
        with keras_private.backend_operations_replaced(replacements):
            yield


def conv(inputs: Any, kernel: Any, strides: Sides = 1, padding: str = "valid", dilation_rate: Sides = 1) -> Any:
    """Convolves inputs (batch, height, width, channels), or with one or three dimensions in place of two.

    The kernel is (kernel height, kernel width, channels, filters), the result (batch, height', width', filters).
    """
    kernel = ops.convert_to_tensor(kernel)
    *size, channels, filters = kernel.shape
    places = list(_windows(inputs, size, strides, padding, dilation_rate, fill=0.0))
    *outer, _ = places[0].shape
    if prod(outer) * len(places) * channels * 4 > _LARGEST_PATCHES:
        kernel = ops.reshape(kernel, (len(places), channels, filters))
        products = [_rows(place) @ kernel[number] for number, place in enumerate(places)]
        return ops.reshape(sum(products[1:], start=products[0]), (*outer, filters))
    patches = ops.concatenate(places, axis=-1) if len(places) > 1 else places[0]
    return ops.reshape(_rows(patches) @ ops.reshape(kernel, (-1, filters)), (*outer, filters))


def max_pool(inputs: Any, pool_size: Sides, strides: Sides | None = None, padding: str = "valid") -> Any:
    """Takes the largest value of each window of inputs (batch, height, width, channels); see `conv`."""
    size = _for_each(pool_size, len(inputs.shape) - 2)
    first, *others = _windows(inputs, size, strides or size, padding, 1, fill=float("-inf"))
    for other in others:
        first = ops.where(other > first, other, first)
    return first


def depthwise_conv(
    inputs: Any, kernel: Any, strides: Sides = 1, padding: str = "valid", dilation_rate: Sides = 1
) -> Any:
    """Convolves each channel separately by a kernel (kernel height, kernel width, channels, filters of a channel).

    The filters of a channel are side by side in the result (batch, height', width', channels · filters of a channel).
    """
    kernel = ops.convert_to_tensor(kernel)
    *size, channels, multiplier = kernel.shape
    if multiplier == 1 and set(_for_each(dilation_rate, len(size))) == {1} and backend() != "torch":
        return _depthwise(inputs, kernel, _for_each(strides, len(size)), padding)
    kernel = ops.reshape(kernel, (-1, channels, multiplier))
    places = _windows(inputs, size, strides, padding, dilation_rate, fill=0.0)
    total = sum(ops.expand_dims(place, -1) * kernel[number] for number, place in enumerate(places))
    return ops.reshape(total, (*total.shape[:-2], channels * multiplier))


def _depthwise(inputs: Any, kernel: Any, strides: Sequence[int], padding: str) -> Any:
    """Convolves each channel separately with one filter, with a gradient that is written by hand.

    The gradient that a compiler derives writes each product to the whole picture and takes three times as long.
    """
    *size, channels, _ = kernel.shape

    @ops.custom_gradient
    def convolved(inputs: Any, kernel: Any) -> Any:
        flat = ops.reshape(kernel, (-1, channels))
        places = _windows(inputs, size, strides, padding, 1, fill=0.0)
        outputs = sum(place * flat[number] for number, place in enumerate(places))

        def gradients(*upstream: Any, **_: Any) -> tuple[Any, Any]:
            (gradient,) = upstream
            of_inputs = _gradient_of_inputs(gradient, kernel, strides, padding, inputs.shape)
            return of_inputs, _gradient_of_kernel(gradient, inputs, kernel.shape, strides, padding)

        return outputs, gradients

    return convolved(inputs, kernel)


def _gradient_of_kernel(gradient: Any, inputs: Any, shape: Sequence[int], strides: Sequence[int], padding: str) -> Any:
    """Computes the gradient of the kernel: for each position in the window, a sum over all windows.

    The positions are computed in a loop. XLA would fuse them into one kernel that takes three times as long.
    """
    *size, channels, _ = shape
    reach = [(count - 1) * stride + 1 for count, stride in zip(gradient.shape[1:-1], strides, strict=True)]
    edges = []
    for window, far, width in zip(size, reach, inputs.shape[1:-1], strict=True):
        missing = max(0, far - 1 + window - width) if padding == "same" else 0
        edges.append((missing // 2, missing - missing // 2))
    padded = ops.pad(inputs, [(0, 0), *edges, (0, 0)])
    steps = (slice(None), *(slice(None, None, stride) for stride in strides))
    batch = ops.shape(inputs)[0]

    def add(number: Any, sums: Any) -> Any:
        start: list[Any] = []
        rest = number
        for window in reversed(size):
            start.insert(0, rest % window)
            rest = rest // window
        place = ops.slice(padded, ops.stack([0 * number, *start, 0 * number]), (batch, *reach, channels))
        total = ops.sum(place[steps] * gradient, axis=tuple(range(len(size) + 1)))
        return ops.slice_update(sums, ops.stack([number, 0 * number]), total[None])

    sums = ops.fori_loop(0, prod(size), add, ops.zeros((prod(size), channels), gradient.dtype))
    return ops.reshape(sums, shape)


def _gradient_of_inputs(gradient: Any, kernel: Any, strides: Sequence[int], padding: str, shape: Sequence[int]) -> Any:
    """Computes the gradient of the inputs: the spread output gradients, convolved with the flipped kernel."""
    size, pixels = kernel.shape[:-2], shape[1:-1]
    edges, kept, behind, between = [], [], [], []
    for window, stride, count, width in zip(size, strides, gradient.shape[1:-1], pixels, strict=True):
        needed = (count - 1) * stride + window
        before = max(0, needed - width) // 2 if padding == "same" else 0
        between.append(slice(0, (count - 1) * stride + 1))
        edges.append((window - 1, window - 1))
        kept.append(slice(before, min(needed, before + width)))
        behind.append((0, max(0, width - needed)))
    spread = ops.pad(_spread(gradient, strides)[(slice(None), *between)], [(0, 0), *edges, (0, 0)])
    flipped = ops.reshape(ops.flip(kernel, tuple(range(len(size)))), (-1, kernel.shape[-2]))
    places = _windows(spread, size, 1, "valid", 1, fill=0.0)
    whole = sum(place * flipped[number] for number, place in enumerate(places))
    return ops.pad(whole[(slice(None), *kept)], [(0, 0), *behind, (0, 0)])


def _spread(tensor: Any, strides: Sequence[int]) -> Any:
    """Inserts zeros between the pixels and after the last one."""
    for axis, stride in enumerate(strides, start=1):
        tensor = ops.expand_dims(tensor, axis + 1)
        edges = [(0, stride - 1) if number == axis + 1 else (0, 0) for number in range(tensor.ndim)]
        shape = (-1, *tensor.shape[1:axis], tensor.shape[axis] * stride, *tensor.shape[axis + 2 :])
        tensor = ops.reshape(ops.pad(tensor, edges), shape)
    return tensor


def conv_transpose(inputs: Any, kernel: Any, strides: Sides = 1, padding: str = "valid") -> Any:
    """Computes a transposed convolution, which enlarges inputs (batch, height, width, channels) by the strides.

    The kernel is (kernel height, kernel width, filters, channels).
    """
    kernel = ops.convert_to_tensor(kernel)
    size, pixels = kernel.shape[:-2], inputs.shape[1:-1]
    strides = _for_each(strides, len(size))
    edges, wanted = [], []
    for window, stride, count in zip(size, strides, pixels, strict=True):
        before = max(0, window - stride) // 2 if padding == "same" else 0
        wanted.append(count * stride if padding == "same" else count * stride + max(0, window - stride))
        edges.append((window - 1 - before, max(0, wanted[-1] - count * stride + before)))
    spread = ops.pad(_spread(inputs, strides), [(0, 0), *edges, (0, 0)])
    flipped = ops.swapaxes(ops.flip(kernel, tuple(range(len(size)))), -1, -2)
    return conv(spread, flipped)[(slice(None), *map(slice, wanted))]


def separable_conv(
    inputs: Any,
    depthwise_kernel: Any,
    pointwise_kernel: Any,
    strides: Sides = 1,
    padding: str = "valid",
    dilation_rate: Sides = 1,
) -> Any:
    """Convolves each channel separately, then mixes the channels of each pixel; see `depthwise_conv` and `conv`."""
    return conv(depthwise_conv(inputs, depthwise_kernel, strides, padding, dilation_rate), pointwise_kernel)


_OURS = {ours.__name__: ours for ours in (conv, conv_transpose, depthwise_conv, max_pool, separable_conv)}


def _ours_or_native(name: str, native: Callable[..., Any], thread: int, *arguments: Any, **settings: Any) -> Any:
    """Calls the function of this module if it supports the arguments, else the native one.

    Threads other than the one that traces always get the native one.
    """
    if get_ident() != thread:
        return native(*arguments, **settings)
    ours = _OURS[name]
    given = inspect.signature(native).bind(*arguments, **settings).arguments
    known = inspect.signature(ours).parameters
    unsupported = {name: value for name, value in given.items() if name not in known}
    in_groups = name == "conv" and given["inputs"].shape[-1] != given["kernel"].shape[-2]
    if in_groups or not all(_has_default_value(name, value) for name, value in unsupported.items()):
        return native(*arguments, **settings)
    return ours(**{name: value for name, value in given.items() if name in known})


def _has_default_value(name: str, value: Any) -> bool:
    """Returns whether an argument that the functions here do not support has its default value."""
    if name == "dilation_rate":
        return value is None or set(_for_each(value, 1)) == {1}
    return value is None or (name == "data_format" and value == "channels_last")


def _windows(
    inputs: Any, size: Sequence[int], strides: Sides, padding: str, dilation_rate: Sides, *, fill: float
) -> Iterator[Any]:
    """Yields, for each position in the window, its pixel in every window: (batch, height', width', channels)."""
    strides, dilation = _for_each(strides, len(size)), _for_each(dilation_rate, len(size))
    reach = [(window - 1) * apart + 1 for window, apart in zip(size, dilation, strict=True)]
    pixels = list(inputs.shape[1:-1])
    if padding == "same":
        counts = [-(-width // stride) for width, stride in zip(pixels, strides, strict=True)]
    else:
        counts = [(width - far) // stride + 1 for width, far, stride in zip(pixels, reach, strides, strict=True)]
    needed = [(count - 1) * stride + far for count, stride, far in zip(counts, strides, reach, strict=True)]
    missing = [max(0, need - width) for need, width in zip(needed, pixels, strict=True)]
    if any(missing):
        edges = [(lack // 2, lack - lack // 2) for lack in missing]
        inputs = ops.pad(inputs, [(0, 0), *edges, (0, 0)], constant_values=fill)
    if list(size) == list(strides) and set(dilation) == {1}:  # windows side by side need no strided reads
        whole = inputs[(slice(None), *(slice(need) for need in needed))]
        split = [length for pair in zip(counts, size, strict=True) for length in pair]
        blocks = ops.reshape(whole, (-1, *split, inputs.shape[-1]))
        for place in product(*map(range, size)):
            yield blocks[(slice(None), *(index for number in place for index in (slice(None), number)))]
        return
    for place in product(*map(range, size)):
        first = [number * apart for number, apart in zip(place, dilation, strict=True)]
        spans = zip(first, counts, strides, strict=True)
        yield inputs[(slice(None), *(slice(at, at + (count - 1) * stride + 1, stride) for at, count, stride in spans))]


def _rows(tensor: Any) -> Any:
    return ops.reshape(tensor, (-1, tensor.shape[-1]))


def _for_each(number: Sides, dimensions: int) -> list[int]:
    return [number] * dimensions if isinstance(number, int) else list(number)
