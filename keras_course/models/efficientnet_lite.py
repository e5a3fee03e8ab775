"""EfficientNet-Lite: five sizes of a network for photos that runs on a phone.

It is EfficientNet without the operations that are slow on small devices: ReLU6 replaces swish, and there is no
squeeze-and-excitation. The larger sizes have more and wider blocks; stem and head are the same in all sizes.
"""

import math
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import keras
from keras import layers

from keras_course.errors import CourseError, check_fractions, check_positive
from keras_course.models.heads import class_logits
from keras_course.randomness import Dropout, initialize

NUM_IMAGENET_CLASSES: Final = 1000

_STEM_FILTERS: Final = 32
_HEAD_FILTERS: Final = 1280
_MULTIPLE: Final = 8
"""The number of filters is a multiple of it."""


class Size(NamedTuple):
    """One size: factors for filters and blocks, side of a picture in pixels, dropout before the logits."""

    width: float
    depth: float
    pixels: int
    dropout: float


class Stage(NamedTuple):
    """A sequence of equal blocks: their number, kernel size, stride of the first one, expansion, output filters."""

    blocks: int
    kernel_size: int
    strides: int
    expansion: int
    filters: int


SIZES: Final = {
    "lite0": Size(1.0, 1.0, 224, 0.2),
    "lite1": Size(1.0, 1.1, 240, 0.2),
    "lite2": Size(1.1, 1.2, 260, 0.3),
    "lite3": Size(1.2, 1.4, 280, 0.3),
    "lite4": Size(1.4, 1.8, 300, 0.3),
}

STAGES: Final = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)


def efficientnet_lite(
    size: str = "lite0",
    *,
    input_shape: tuple[int, int, int] | None = None,
    num_classes: int = NUM_IMAGENET_CLASSES,
    dropout: float | None = None,
    stochastic_depth: float = 0.2,
    momentum: float = 0.99,
    scale: float = 1 / 128,
    offset: float = -127 / 128,
    seed: int = 0,
    name: str | None = None,
) -> keras.Model:
    """Builds an EfficientNet-Lite that takes raw pixels and returns logits.

    A block is an inverted residual: a 1×1 convolution expands the channels, a depthwise convolution follows, and
    another 1×1 convolution reduces the channels; if the shapes are equal, the input is added. The weights for ImageNet
    come from ``pretrained.load_pretrained("efficientnet_lite0")``.

    Args:
        size: ``lite0`` to ``lite4``.
        input_shape: Shape of one picture: height, width, channels. The default is that of the size, 224 to 300 pixels
            and three channels.
        num_classes: Number of classes.
        dropout: Fraction of the features to drop in training before the logits; the default of the sizes is 0.2 or 0.3.
        stochastic_depth: Fraction of the pictures for which the last residual block is skipped in training; the
            fraction grows linearly from the first block to the last.
        momentum: Fraction of the moving mean and variance that each training step keeps.
        scale: Factor of the pixels.
        offset: Number that is added to the scaled pixels: the defaults map 0..255 to -0.99..1.
        seed: Seed of the initial weights and of dropout.
        name: Name of the model; the default is ``efficientnet_`` and the size.

    Returns:
        A model from pictures (batch, *input_shape) in 0..255 to float32 logits (batch, num_classes). The output of the
        layer ``pool`` is the features (batch, 1280), that of ``head_relu`` the last feature maps.

    Raises:
        CourseError: The size is unknown, a number is not positive, or a fraction is out of range.

    Example:
        >>> model = efficientnet_lite(input_shape=(32, 32, 3), num_classes=10)
        >>> model.output_shape, model.get_layer("pool").output.shape
        ((None, 10), (None, 1280))

    Source: M. Tan and Q. Le, "EfficientNet: rethinking model scaling for convolutional neural networks", 2019;
    https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite; G. Huang and others, "Deep networks
    with stochastic depth", 2016.
    """
    if size not in SIZES:
        raise CourseError(f"size is {size!r}; give one of {', '.join(SIZES)}")
    factors = SIZES[size]
    shape = input_shape or (factors.pixels, factors.pixels, 3)
    dropout = factors.dropout if dropout is None else dropout
    if len(shape) != 3:
        raise CourseError(f"input_shape is {shape!r}; give height, width and channels")
    check_positive(num_classes=num_classes, **{f"input_shape[{i}]": side for i, side in enumerate(shape)})
    check_fractions(dropout=dropout, stochastic_depth=stochastic_depth, momentum=momentum)
    stages = scaled_stages(factors)
    count = sum(stage.blocks for stage in stages)
    with keras.StatelessScope():  # the weights are drawn by `initialize` only, not also by Keras
        inputs = keras.Input(shape, name="pictures")
        x = layers.Rescaling(scale, offset=offset, name="pixels")(inputs)
        x = _convolution(x, _STEM_FILTERS, 3, 2, name="stem", momentum=momentum)
        number = 0
        for place, stage in enumerate(stages, start=1):
            for turn in range(stage.blocks):
                x = _block(
                    x,
                    stage if turn == 0 else stage._replace(strides=1),
                    rate=stochastic_depth * number / count,
                    momentum=momentum,
                    seed=seed,
                    name=f"block{place}{chr(ord('a') + turn)}",
                )
                number += 1
        x = _convolution(x, _HEAD_FILTERS, 1, 1, name="head", momentum=momentum)
        x = layers.GlobalAveragePooling2D(name="pool")(x)
        logits = class_logits(x, num_classes, dropout=dropout, seed=seed)
        return initialize(keras.Model(inputs, logits, name=name or f"efficientnet_{size}"), seed=seed)


def scaled_stages(size: Size) -> Sequence[Stage]:
    """Returns the stages of one size; the first and the last stage keep their one block."""
    return [
        stage._replace(
            blocks=stage.blocks if place in (0, len(STAGES) - 1) else math.ceil(stage.blocks * size.depth),
            filters=_rounded(stage.filters * size.width),
        )
        for place, stage in enumerate(STAGES)
    ]


def _rounded(filters: float) -> int:
    """Rounds to a multiple of eight that is at most a tenth smaller."""
    rounded = max(_MULTIPLE, int(filters + _MULTIPLE / 2) // _MULTIPLE * _MULTIPLE)
    return rounded + _MULTIPLE if rounded < 0.9 * filters else rounded


def _block(x: Any, stage: Stage, *, rate: float, momentum: float, seed: int, name: str) -> Any:
    inputs = x
    if stage.expansion > 1:
        x = _convolution(x, x.shape[-1] * stage.expansion, 1, 1, name=f"{name}_expand", momentum=momentum)
    x = layers.DepthwiseConv2D(
        stage.kernel_size,
        stage.strides,
        padding="same",
        use_bias=False,
        depthwise_initializer=_spread(),
        name=f"{name}_depthwise_conv",
    )(x)
    x = _normalized(x, name=f"{name}_depthwise", momentum=momentum)
    x = _convolution(x, stage.filters, 1, 1, name=f"{name}_project", momentum=momentum, is_linear=True)
    if inputs.shape != x.shape:
        return x
    if rate:
        x = Dropout(rate, noise_shape=(None, 1, 1, 1), seed=seed, name=f"{name}_drop")(x)
    return layers.Add(name=f"{name}_add")([x, inputs])


def _convolution(
    x: Any, filters: int, kernel_size: int, strides: int, *, name: str, momentum: float, is_linear: bool = False
) -> Any:
    x = layers.Conv2D(
        filters, kernel_size, strides, padding="same", use_bias=False, kernel_initializer=_spread(), name=f"{name}_conv"
    )(x)
    return _normalized(x, name=name, momentum=momentum, is_linear=is_linear)


def _normalized(x: Any, *, name: str, momentum: float, is_linear: bool = False) -> Any:
    x = layers.BatchNormalization(momentum=momentum, epsilon=1e-3, name=f"{name}_normalisation")(x)
    return x if is_linear else layers.ReLU(6.0, name=f"{name}_relu")(x)


def _spread() -> keras.initializers.Initializer:
    return keras.initializers.VarianceScaling(2.0, mode="fan_out", distribution="untruncated_normal")
