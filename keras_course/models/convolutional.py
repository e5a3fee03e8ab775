"""Convolutional networks: small kernels that detect a pattern anywhere in a picture."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import layers

from keras_course.errors import CourseError, check_fractions, check_positive
from keras_course.models.heads import class_logits
from keras_course.randomness import Dropout, initialize

_PADDINGS = ("valid", "same")


def cnn_classifier(
    *,
    input_shape: tuple[int, int, int] = (28, 28, 1),
    filters: Sequence[int] = (25, 50, 75),
    convolutions: int = 1,
    kernel_size: int = 3,
    dense: int = 512,
    num_classes: int = 24,
    dropout: Sequence[float] | float = (0.0, 0.2, 0.0),
    dense_dropout: float = 0.3,
    pool_padding: str = "valid",
    batch_normalization: bool = True,
    momentum: float = 0.9,
    scale: float = 1 / 255,
    seed: int = 0,
    name: str = "cnn_classifier",
) -> keras.Model:
    """Builds a convolutional classifier that takes raw pixels and returns logits.

    A block consists of convolution, batch normalization and ReLU, once or several times, then dropout if its rate is
    not 0, and max pooling, which halves the picture. The normalization comes before the ReLU: normalized after it, the
    zeros of the ReLU would be ties in max pooling, which each backend breaks differently.

    The defaults are the course's network: 28 → 14 → 7 → 3 pixels, 404,099 trainable parameters for 24 classes. The
    older edition of the course has ``filters=(75, 50, 25), pool_padding="same"``: 28 → 14 → 7 → 4, with 263,749
    trainable parameters and 300 others, the moving mean and variance of 150 filters. Keras counted 264,049 for the
    original; ``count_params()`` returns 264,051 here, since each of the two dropout layers counts its steps.

    Args:
        input_shape: Shape of one picture: height, width, channels.
        filters: Number of filters of each block.
        convolutions: Convolutions in each block. Two with kernels of size 3 have a receptive field of 5×5 pixels.
        kernel_size: Height and width of a kernel in pixels. The convolutions keep the size of the picture.
        dense: Units of the dense layer between the blocks and the logits.
        num_classes: Number of classes.
        dropout: Fraction of each block's outputs to drop in training, from 0 up to but not including 1; one number is
            for all blocks.
        dense_dropout: Fraction of the outputs of the dense layer to drop in training.
        pool_padding: ``valid`` ignores a last odd row or column in pooling, ``same`` keeps it.
        batch_normalization: Whether the blocks have batch normalization. The layers keep the British spelling
            ``normalisation`` in their names, since saved weights depend on it.
        momentum: Fraction of the moving mean and variance that each training step keeps.
        scale: Factor of the pixels; 1/255 maps 0..255 to 0..1.
        seed: Seed of the initial weights and of dropout; one seed gives the same numbers on every backend.
        name: Name of the model.

    Returns:
        A model from pictures (batch, *input_shape) in 0..255 to float32 logits (batch, num_classes). Its layers are
        ``pixels``, ``block1_conv``, ``block1_normalisation``, ``block1_relu``, ``block1_dropout``,
        ``block1_pool``, ``block2_conv``, ..., ``flatten``, ``dense``, ``dense_dropout`` and ``logits``. The
        second convolution of a block and what follows it are ``block1_conv2``, ``block1_normalisation2``,
        ``block1_relu2``.

    Raises:
        CourseError: A size is not positive, a fraction is out of range, or the picture is too small for the blocks.

    Example:
        >>> from keras_course.models import parameter_table
        >>> total = parameter_table(cnn_classifier())[-1]
        >>> f"{total.trainable:,}"
        '404,099'

    Source: NVIDIA Deep Learning Institute, "Fundamentals of Deep Learning", part 3; Simonyan and Zisserman, "Very deep
    convolutional networks for large-scale image recognition", 2015, for several convolutions a block; Ioffe and
    Szegedy, "Batch normalization: accelerating deep network training by reducing internal covariate shift", 2015.
    """
    if len(input_shape) != 3:
        raise CourseError(f"input_shape is {input_shape!r}; give height, width and channels")
    check_positive(
        **{f"input_shape[{i}]": size for i, size in enumerate(input_shape)},
        **{f"filters[{i}]": count for i, count in enumerate(filters)},
        convolutions=convolutions,
        kernel_size=kernel_size,
        dense=dense,
        num_classes=num_classes,
    )
    if pool_padding not in _PADDINGS:
        raise CourseError(f"pool_padding is {pool_padding!r}; give one of {', '.join(_PADDINGS)}")
    check_fractions(momentum=momentum)
    if pool_padding == "valid" and min(input_shape[:2]) < 2 ** len(filters):
        raise CourseError(
            f"input_shape is {input_shape}, which is too small for {len(filters)} blocks; give pictures of "
            f"{2 ** len(filters)} × {2 ** len(filters)} or more, fewer filters, or pool_padding='same'"
        )
    rates = _one_for_each_block(dropout, len(filters))
    check_fractions(**{f"dropout[{i}]": rate for i, rate in enumerate(rates)}, dense_dropout=dense_dropout)
    with keras.StatelessScope():  # the weights are drawn by `initialize` only, not also by Keras
        inputs = keras.Input(input_shape, name="pictures")
        x = layers.Rescaling(scale, name="pixels")(inputs)
        for number, (count, rate) in enumerate(zip(filters, rates, strict=True), start=1):
            block = f"block{number}"
            for turn in ("", *range(2, convolutions + 1)):
                x = layers.Conv2D(count, kernel_size, padding="same", name=f"{block}_conv{turn}")(x)
                if batch_normalization:
                    x = layers.BatchNormalization(momentum=momentum, name=f"{block}_normalisation{turn}")(x)
                x = layers.ReLU(name=f"{block}_relu{turn}")(x)
            x = _dropped(x, rate, seed=seed, name=f"{block}_dropout")
            x = layers.MaxPooling2D(2, padding=pool_padding, name=f"{block}_pool")(x)
        x = layers.Flatten(name="flatten")(x)
        x = layers.Dense(dense, activation="relu", name="dense")(x)
        x = _dropped(x, dense_dropout, seed=seed, name="dense_dropout")
        logits = class_logits(x, num_classes)
        return initialize(keras.Model(inputs, logits, name=name), seed=seed)


def _one_for_each_block(dropout: Sequence[float] | float, blocks: int) -> Sequence[float]:
    if not isinstance(dropout, Sequence):
        return [dropout] * blocks
    if len(dropout) != blocks:
        raise CourseError(f"dropout has {len(dropout)} entries and filters {blocks}; give one for each, or one number")
    return dropout


def _dropped(x: Any, rate: float, *, seed: int, name: str) -> Any:
    return Dropout(rate, seed=seed, name=name)(x) if rate else x
