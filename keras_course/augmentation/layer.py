"""The layer ``Augmentation``: draws the numbers of its transforms and applies them to batches of pictures."""

import math
from collections.abc import Iterable, Sequence
from functools import cached_property, partial
from itertools import accumulate
from types import ModuleType
from typing import Any

import keras
import numpy as np

from keras_course import _backend, randomness
from keras_course._backend import resampling
from keras_course._backend.libraries import cast
from keras_course.arguments import check_names, number, rising, shown, whole_number
from keras_course.augmentation import other_libraries
from keras_course.augmentation.geometry import FILLS, IDENTITY, compose, places, resample
from keras_course.augmentation.transforms import (
    TRANSFORMS,
    Color,
    Contrast,
    CutMix,
    Erasing,
    Geometry,
    Light,
    MixUp,
    Noise,
    Transform,
    over_pixels,
)
from keras_course.errors import CourseError

_GRAY_WEIGHTS = (0.2989, 0.587, 0.114)
"""Weights of red, green and blue in the gray value: ITU-R BT.601, as torchvision rounds it."""

_NO_LABELS = (
    "labels are missing; MixUp and CutMix change them, so they cannot be part of a model or of a prediction; "
    "give labels, or leave out MixUp and CutMix"
)
_OF_LAYERS = ("activity_regularizer", "autocast", "dtype", "trainable")
"""Further arguments of a Keras layer."""


@keras.saving.register_keras_serializable(package="keras_course")
class Augmentation(keras.layers.Layer):
    """Changes each training picture at random; at inference it is the identity.

    It can be the first layer of a model. ``apply`` does the same to a batch of pictures and labels. As an argument of
    ``fit`` it is applied to the training data only and does not become part of the model.

    Geometry is applied first, then color, light, noise, erasing and mixing. The order of the list matters within
    geometry and within color.

    Args:
        transforms: The transforms.
        fill: Pixels outside of a picture, one of ``FILLS``.
        fill_value: Value of these pixels for "constant", within the value range.
        value_range: The least and the greatest value of a pixel.
        num_classes: Number of classes; needed to mix class numbers.
        seed: Random seed.
        name: The layer's name. Two layers of the same name and seed have the same draws.
        **kwargs: Arguments of a Keras layer: ``dtype``, ``trainable``.

    Raises:
        CourseError: An argument is invalid or unknown.

    Example:
        >>> from keras_course.augmentation import Brightness, Rotation, Shift, Zoom
        >>> augment = Augmentation([Rotation(15), Shift(0.1, 0.1), Zoom(0.9, 1.1), Brightness(0.2)], seed=0)
        >>> pictures = np.full((2, 28, 28, 1), 128, "uint8")
        >>> changed = augment.apply(pictures, step=0, xp=np)
        >>> changed.shape, changed.dtype
        ((2, 28, 28, 1), dtype('uint8'))
    """

    def __init__(
        self,
        transforms: Sequence[Transform],
        *,
        fill: str = "constant",
        fill_value: float = 0.0,
        value_range: tuple[float, float] = (0.0, 255.0),
        num_classes: int | None = None,
        seed: int = 0,
        name: str = "augmentation",
        **kwargs: Any,
    ) -> None:
        check_names(
            kwargs, ("fill", "fill_value", "value_range", "num_classes", "seed", "name", *_OF_LAYERS), "Augmentation"
        )
        super().__init__(name=name, **kwargs)
        kinds = tuple(TRANSFORMS.values())
        if isinstance(transforms, Transform | type | str) or not isinstance(transforms, Iterable):
            raise CourseError(f"transforms is {shown(transforms)}; give a list of transforms, such as [Rotation(15)]")
        transforms = tuple(transforms)
        if unknown := [transform for transform in transforms if not isinstance(transform, kinds)]:
            raise CourseError(f"transforms has {shown(unknown[0])}; give some of {', '.join(TRANSFORMS)}")
        if not (isinstance(fill, str) and fill in FILLS):
            raise CourseError(f"fill is {shown(fill)}; give one of {', '.join(FILLS)}")
        low, high = rising("value_range", value_range, -math.inf, math.inf, "two rising numbers")
        if low == high:
            raise CourseError(f"value_range is {shown(value_range)}; give two rising numbers")
        if num_classes is not None:
            num_classes = whole_number("num_classes", num_classes, 1, "a whole number from 1 up")
        # a value outside of the range, such as 300, becomes another byte on each backend
        values = {f"value of {one}": one.value for one in transforms if isinstance(one, Erasing)}
        if fill == "constant" and any(isinstance(one, Geometry) for one in transforms):
            values["fill_value"] = fill_value
        for what, value in values.items():
            number(what, value, low, high, f"a number within value_range, {(low, high)}")
        self.transforms = transforms
        self.fill, self.value_range = fill, (float(low), float(high))
        self.fill_value = float(number("fill_value", fill_value, -math.inf, math.inf, "a number"))
        self._key = randomness.stream_key(seed, name, "augmentation")
        self._noise_key = randomness.stream_key(seed, name, "noise")
        self.num_classes, self.seed = num_classes, int(seed)

    like_image_data_generator = classmethod(other_libraries.like_image_data_generator)
    like_torchvision = classmethod(other_libraries.like_torchvision)

    @property
    def mixes(self) -> bool:
        """Whether a transform mixes pictures and their labels with each other."""
        return any(isinstance(transform, MixUp) for transform in self.transforms)

    def check(self, images: Any, labels: Any = None, *, outputs: int | None = None, name: str = "images") -> None:
        """Checks that pictures and labels can be changed, before anything is computed.

        Args:
            images: Pictures (n, height, width, channels), an array.
            labels: Labels (n, ...), an array, or the labels of several outputs; checked only if they will be mixed.
            outputs: Number of outputs of the model for each picture, if it is known.
            name: Name of the data in an error message.

        Raises:
            CourseError: They cannot be changed.

        Example:
            >>> augment = Augmentation([MixUp()], num_classes=3)
            >>> augment.check(np.zeros((2, 4, 4, 1)), np.array([0, 1]), outputs=4, name="train")
            Traceback (most recent call last):
            ...
            keras_course.errors.CourseError: num_classes is 3 and the model gives 4 outputs; give num_classes=4
        """
        self._check_kind(_type_name(images, np))
        if not self.mixes:
            return
        if labels is None:
            raise CourseError(f"{name} has no labels; MixUp and CutMix change them: give labels, or leave them out")
        if not isinstance(labels, np.ndarray):
            raise CourseError(f"{name} has labels of several outputs; MixUp and CutMix change one, so leave them out")
        if not self._are_class_numbers(labels.shape):
            return
        classes = self._known_classes(outputs)
        if outputs == 1:
            raise CourseError(
                f"num_classes is {classes} and the model gives one output; leave num_classes out and give labels "
                f"of shape ({len(labels)}, 1), which are mixed as probabilities"
            )
        if outputs is not None and classes != outputs:
            raise CourseError(
                f"num_classes is {classes} and the model gives {outputs} outputs; give num_classes={outputs}"
            )
        lowest, highest = (labels.min(), labels.max()) if labels.size else (0, 0)
        if lowest < 0 or highest >= classes or not (labels == np.round(labels)).all():
            raise CourseError(
                f"{name} has labels from {lowest} to {highest} ({labels.dtype}) and num_classes is {classes}; "
                f"give whole numbers from 0 to {classes - 1}, or probabilities (n, classes)"
            )

    def _check_kind(self, kind: str) -> None:
        low, high = self.value_range
        if kind == "uint8" and not 0 <= low < high <= 255:
            raise CourseError(f"value_range is {self.value_range} and images are uint8; give a range from 0 to 255")

    def _are_class_numbers(self, shape: Sequence[int | None]) -> bool:
        """Returns True for the shape of class numbers and False for that of probabilities; rejects other shapes."""
        if len(shape) == 1 or (len(shape) == 2 and shape[1] == 1 and (self.num_classes or 1) > 1):
            return True
        if len(shape) != 2 or (self.num_classes is not None and shape[1] != self.num_classes):
            classes = "classes" if self.num_classes is None else self.num_classes
            raise CourseError(
                f"labels have the shape {tuple(shape)}; MixUp and CutMix change class numbers (n,), or probabilities "
                f"(n, {classes})"
            )
        return False

    def _known_classes(self, outputs: int | None = None) -> int:
        if self.num_classes is None:
            remedy = "it" if outputs in (None, 1) else f"num_classes={outputs}"
            raise CourseError(f"num_classes is missing; give {remedy} where class numbers are mixed")
        return self.num_classes

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Adds the counter of training steps."""
        if self.mixes:
            raise CourseError(_NO_LABELS)
        self.step = self.add_weight(
            name="step", shape=(), dtype="int32", initializer="zeros", trainable=False, aggregation="only_first_replica"
        )

    def call(self, images: Any, training: bool = False) -> Any:
        """Changes pictures (batch, height, width, channels) in training."""
        self._check_kind(_type_name(images, keras.ops))
        if not training or not self.transforms:
            return images
        rows = keras.ops.shape(images)[0]
        changed = self.apply(images, step=self.step.value, first_row=_backend.replica() * rows)
        self.step.assign(self.step.value + 1)
        return changed

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Returns the shape of the pictures."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments as they are saved."""
        return {
            **super().get_config(),
            "transforms": [transform.describe() for transform in self.transforms],
            "fill": self.fill,
            "fill_value": self.fill_value,
            "value_range": self.value_range,
            "num_classes": self.num_classes,
            "seed": self.seed,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Augmentation":
        """Makes the layer from the result of ``get_config``."""
        transforms = []
        for transform in config["transforms"]:
            arguments = dict(transform)
            kind = TRANSFORMS.get(arguments.pop("kind", None))
            if kind is None:
                raise CourseError(f"transforms has {transform!r}; its kind is none of {', '.join(TRANSFORMS)}")
            transforms.append(kind.from_description(arguments))
        return cls(**{**config, "transforms": transforms})

    def apply(
        self, images: Any, labels: Any = None, *, step: Any, first_row: Any = 0, xp: ModuleType = keras.ops
    ) -> Any:
        """Changes a batch of pictures, and its labels if they are given.

        Args:
            images: Pictures (batch, height, width, channels), uint8 or float32 within the value range.
            labels: Class numbers (batch,), or probabilities (batch, classes).
            step: The number of the batch; each step has its own draws.
            first_row: The number of the first picture, for a part of a batch.
            xp: ``keras.ops``, or ``numpy`` for a pipeline on the host.

        Returns:
            Pictures of the same shape and type; with labels, the pair. Mixed labels are probabilities, float32.

        Raises:
            CourseError: Labels to be mixed are missing, the number of classes is unknown, or images are uint8 and the
                value range is not within 0 to 255.

        Example:
            >>> from keras_course.augmentation import Flip
            >>> mirror = Augmentation([Flip(horizontal=True)])
            >>> row = np.arange(4, dtype="uint8").reshape(1, 1, 4, 1)
            >>> sorted({tuple(mirror.apply(row, step=step, xp=np).ravel().tolist()) for step in range(20)})
            [(0, 1, 2, 3), (3, 2, 1, 0)]
        """
        if self.mixes and labels is None:
            raise CourseError(_NO_LABELS)
        if xp is np and labels is not None:
            self.check(images, np.asarray(labels), name="images")
        change = self._run_on_host if xp is np else self._run_on_device
        pixels, (numbers, *_) = change(images, step, first_row)
        if self.mixes:
            pixels, labels = self._mix(pixels, labels, numbers, xp)
            pixels = _restore_type(_type_name(images, xp), pixels, xp)
        return pixels if labels is None else (pixels, labels)

    @cached_property
    def _run_on_host(self) -> resampling.Run:
        return resampling.by_pictures_on_the_host(partial(self._draw, axis=resampling.axis), self._change)

    @cached_property
    def _run_on_device(self) -> resampling.Run:
        return _backend.by_pictures(partial(self._draw, axis=_backend.axis), self._change)

    def _draw(
        self, shape: Any, step: Any, first_row: Any, xp: ModuleType, axis: resampling.Axis = resampling.axis
    ) -> tuple[Any, ...]:
        """Draws the numbers of all transforms, (batch, numbers), and computes the source places of all pixels."""
        batch, height, width, _ = shape
        columns = max(1, sum(transform.draws for transform in self.transforms))
        numbers = randomness.uniform(self._key, (batch, columns), step=step, first_row=first_row, xp=xp)
        back = IDENTITY
        for transform, u in self._numbers_of(numbers, Geometry):
            back = compose(back, transform.map(u, height, width, xp))
        if back is IDENTITY:
            return (numbers,)
        return numbers, *places(back, xp.zeros_like(numbers[:, 0]), height, width, axis, xp)

    def _numbers_of(self, numbers: Any, kinds: type | tuple[type, ...] = Transform) -> list[tuple[Any, list[Any]]]:
        """Returns the transforms of some kinds, each with its numbers."""
        ends = list(accumulate(transform.draws for transform in self.transforms))
        return [
            (transform, [numbers[:, column] for column in range(end - transform.draws, end)])
            for transform, end in zip(self.transforms, ends, strict=True)
            if isinstance(transform, kinds)
        ]

    def _change(self, images: Any, drawn: Any, first_row: Any, step: Any, xp: ModuleType) -> Any:
        """Applies all transforms but the mixing ones; pictures that will be mixed stay float32."""
        shape = images.shape if xp is np else keras.ops.shape(images)
        _, height, width, _ = shape
        numbers, *places = drawn
        kind = _type_name(images, xp)
        self._check_kind(kind)
        pixels = cast(images, "float32", xp)
        if places:
            columns, rows = places
            pixels = resample(pixels, columns, rows, self.fill, self.fill_value, xp)
        pixels = self._recolor(pixels, numbers, height, width, xp)
        pixels = self._add_noise_and_erase(pixels, numbers, step, first_row, shape, xp)
        return pixels if self.mixes else _restore_type(kind, pixels, xp)

    def _recolor(self, pixels: Any, numbers: Any, height: int, width: int, xp: ModuleType) -> Any:
        """Composes all changes of color and light, and applies them in one pass."""
        gain, offset = 1.0, 0.0
        changes = [(transform.line(u, xp), transform) for transform, u in self._numbers_of(numbers, Color)]
        # the weight of each of the two means: that of all channels, and that of the gray picture
        shares: dict[bool, Any] = {one.gray: 0.0 for _, one in changes if isinstance(one, Contrast)}
        lights = [transform.plane(u, height, width, xp) for transform, u in self._numbers_of(numbers, Light)]
        if not changes and not lights:
            return pixels
        for (next_gain, next_share, next_offset), transform in changes:
            of_gray = isinstance(transform, Contrast) and transform.gray
            # the mean of the pixels so far is gain·(the mean of the picture) + the sum of share·mean + offset
            for gray, share in shares.items():
                seen = gain + share if gray == of_gray else share
                shares[gray] = next_gain * share + next_share * seen
            offset = (next_gain + next_share) * offset + next_offset
            gain = next_gain * gain
        for gray, share in shares.items():
            offset = offset + share * _mean(pixels, gray, xp)
        gain, offset = over_pixels(gain), over_pixels(offset)
        low, high = self.value_range
        for plane in lights:  # light multiplies the distance from black
            gain, offset = plane * gain, low + plane * (offset - low)
        return xp.clip(pixels * gain + offset, low, high)

    def _add_noise_and_erase(
        self, pixels: Any, numbers: Any, step: Any, first_row: Any, shape: tuple[Any, ...], xp: ModuleType
    ) -> Any:
        """Adds noise and erases rectangles."""
        batch, height, width, channels = shape
        low, high = self.value_range
        for transform, u in self._numbers_of(numbers, (Noise, Erasing)):
            if isinstance(transform, Noise):
                noise = randomness.normal(
                    self._noise_key, (batch, height * width * channels), step=step, first_row=first_row, xp=xp
                )
                noise = xp.reshape(noise, (-1, height, width, channels))
                pixels = xp.clip(pixels + np.float32(transform.deviation * (high - low)) * noise, low, high)
            else:
                inside = _inside(transform.box(u, xp), height, width, xp)
                pixels = xp.where(inside, np.float32(transform.value), pixels)
        return pixels

    def _mix(self, pixels: Any, labels: Any, numbers: Any, xp: ModuleType) -> tuple[Any, Any]:
        """Mixes pictures and labels with those of the next row."""
        _, height, width, _ = pixels.shape if xp is np else keras.ops.shape(pixels)
        for transform, u in self._numbers_of(numbers, MixUp):
            labels = self.probabilities(labels, xp=xp)
            neighbors, share = _rolled(pixels, xp), transform.share(u, xp)
            if isinstance(transform, CutMix):
                half = xp.sqrt(share) / 2
                box = half + (1 - 2 * half) * u[1], half + (1 - 2 * half) * u[2], half, half
                inside = _inside(box, height, width, xp)
                pixels = xp.where(inside, neighbors, pixels)
                mask = cast(inside, "float32", xp)
                share = xp.mean(mask, axis=(1, 2, 3))  # the share of whole pixels
            else:
                pixels = pixels + over_pixels(share) * (neighbors - pixels)
            labels = labels + xp.expand_dims(share, 1) * (_rolled(labels, xp) - labels)
        return pixels, labels

    def probabilities(self, labels: Any, *, xp: ModuleType = np) -> Any:
        """Converts labels to probabilities, which can be mixed.

        Args:
            labels: Class numbers (n,) or (n, 1), or probabilities (n, classes).
            xp: ``keras.ops``, or ``numpy``.

        Returns:
            Probabilities (n, classes), float32.

        Raises:
            CourseError: They are neither, or the number of classes is unknown.

        Example:
            >>> Augmentation([MixUp()], num_classes=3).probabilities(np.array([2])).tolist()
            [[0.0, 0.0, 1.0]]
        """
        if not self._are_class_numbers(labels.shape):
            return cast(labels, "float32", xp)
        classes = xp.arange(self._known_classes(), dtype="int32")
        labels = cast(xp.reshape(labels, (-1,)), "int32", xp)
        is_right = xp.expand_dims(labels, 1) == classes
        return xp.where(is_right, np.float32(1.0), np.float32(0.0))


def check_augmentation(augmentation: Any, *, mixing: bool = True) -> None:
    """Checks that an argument is an augmentation, or None.

    Args:
        augmentation: The argument.
        mixing: Whether it may mix pictures with each other.

    Raises:
        CourseError: It is something else, or it mixes pictures although there are no labels to mix.

    Example:
        >>> check_augmentation(["rotation"])
        Traceback (most recent call last):
        ...
        keras_course.errors.CourseError: augmentation is a list; give Augmentation([...])
    """
    if augmentation is not None and not isinstance(augmentation, Augmentation):
        raise CourseError(f"augmentation is a {type(augmentation).__name__}; give Augmentation([...])")
    if not mixing and augmentation is not None and augmentation.mixes:
        raise CourseError(_NO_LABELS)


def _mean(pixels: Any, gray: bool, xp: ModuleType) -> Any:
    """Computes the mean of each picture, (batch,): over all channels, or of the gray picture."""
    if not gray or pixels.shape[-1] != 3:
        return xp.mean(pixels, axis=(1, 2, 3))
    weights = np.asarray(_GRAY_WEIGHTS, "float32")
    weights = weights if xp is np else xp.convert_to_tensor(weights)
    return xp.sum(xp.mean(pixels, axis=(1, 2)) * weights, axis=-1)


def _type_name(images: Any, xp: ModuleType) -> str:
    return str(images.dtype) if xp is np else keras.backend.standardize_dtype(images.dtype)


def _restore_type(kind: str, pixels: Any, xp: ModuleType) -> Any:
    """Converts float32 pixels to the type of the input."""
    if kind == "uint8":  # via int16, since PyTorch converts float32 to uint8 slowly, one by one
        pixels = cast(xp.round(pixels), "int16", xp)
    return cast(pixels, kind, xp)


def _inside(box: tuple[Any, Any, Any, Any], height: int, width: int, xp: ModuleType) -> Any:
    """Tells which pixels have their center in a rectangle of fractions: booleans (batch, height, width, 1)."""
    x, y, across, down = (values[:, None, None] for values in box)
    columns = ((np.arange(width) + 0.5) / width).astype("float32")
    rows = ((np.arange(height) + 0.5) / height).astype("float32")[:, None]
    if xp is not np:
        columns, rows = xp.convert_to_tensor(columns), xp.convert_to_tensor(rows)
    inside = xp.logical_and(xp.abs(columns - x) < across, xp.abs(rows - y) < down)
    return xp.expand_dims(inside, -1)


def _rolled(array: Any, xp: ModuleType) -> Any:
    """Replaces each row by the next one, and the last by the first."""
    return xp.concatenate([array[1:], array[:1]], axis=0)
