"""Checks and opens ``.keras`` files, which are not trusted.

A ``.keras`` file is a zip archive with a description of the layers and their weights. It could request much memory, run
code, or read other files. It is therefore checked before Keras opens it in safe mode: it may hold only layers of Keras
and of this course, nothing pickled, no code, and no more weights than its size allows.
"""

import io
import json
import math
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from keras_course._backend.weights import create_weights, rebuild
from keras_course.allow_list import check_description, check_outputs, register_layers
from keras_course.cards import FILE_NAME
from keras_course.errors import CourseError, reason_of
from keras_course.weight_files import check_weights

if TYPE_CHECKING:
    import keras

__all__ = ["load_keras_model"]

LARGEST_CONFIG_BYTES: Final = 2**24
LARGEST_ARRAYS_BYTES: Final = 2**27
"""The largest description with arrays, if it is not compressed: the file is then as large."""
LARGEST_WEIGHTS_BYTES: Final = 2**31
LARGEST_EXPANSION: Final = 100
"""The largest compression ratio of the weights: Keras does not compress them, and they do not compress well."""

_CONFIG, _METADATA, _WEIGHTS = "config.json", "metadata.json", "model.weights.h5"
_PARTS: Final = (_CONFIG, _METADATA, _WEIGHTS, FILE_NAME)
_PACKED: Final = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


def load_keras_model(path: str | Path) -> "keras.Model":
    """Opens an untrusted ``.keras`` file.

    Args:
        path: The file.

    Returns:
        The model, not compiled.

    Raises:
        CourseError: The file is damaged, too large, or holds something other than layers and weights.
    """
    path = Path(path)
    register_layers()
    config, weights = _check_archive(path)
    try:
        model, deferred = rebuild({**config, "compile_config": None})
        _check_weights(deferred, weights)
        create_weights(deferred)
        if model.built:  # an unbuilt model has no weights
            check_outputs(model)
            with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(path) as archive:
                model.load_weights(archive.extract(_WEIGHTS, folder))
        return model
    except CourseError as error:
        raise CourseError(f"{path} is not opened: {error}") from None
    except Exception as error:  # a damaged file can make Keras raise nearly anything
        raise CourseError(f"{path} cannot be opened as a Keras model: {reason_of(error)}") from error


def _check_archive(path: Path) -> tuple[dict[str, Any], int]:
    """Checks a ``.keras`` file without Keras, and returns its description and the number of its weights."""
    if path.suffix == ".h5":
        raise CourseError(f"{path} is an .h5 file, which can hold code; give a .keras file")
    try:
        if path.exists() and not path.is_file():
            raise CourseError("it is not a file")
        with zipfile.ZipFile(path) as archive:
            sizes = {info.filename: info.file_size for info in archive.infolist()}
            if len(sizes) < len(archive.infolist()):
                raise CourseError("it has a part twice")
            if unknown := [name for name in sizes if name not in _PARTS]:
                raise CourseError(f"it has a part {unknown[0]!r}, which models of this course do not have")
            for name, largest in ((_CONFIG, LARGEST_CONFIG_BYTES), (_WEIGHTS, LARGEST_WEIGHTS_BYTES)):
                if name == _CONFIG and name in sizes and archive.getinfo(name).compress_type == zipfile.ZIP_STORED:
                    largest = LARGEST_ARRAYS_BYTES
                if name not in sizes:
                    raise CourseError(f"it has no {name}")
                if sizes[name] > largest:
                    raise CourseError(f"its {name} claims {sizes[name]:,} bytes, more than the {largest:,} allowed")
            if packed := next((info for info in archive.infolist() if info.compress_type not in _PACKED), None):
                # Python decompresses other methods without a limit on their size
                raise CourseError(f"its {packed.filename} is compressed in a way that Keras does not use")
            stored = archive.getinfo(_WEIGHTS).compress_size
            if sizes[_WEIGHTS] > LARGEST_EXPANSION * stored + LARGEST_CONFIG_BYTES:
                raise CourseError(f"its {_WEIGHTS} claims {sizes[_WEIGHTS]:,} bytes, of which it has {stored:,}")
            with archive.open(_CONFIG) as file:
                config = json.loads(file.read(LARGEST_ARRAYS_BYTES))
            check_description(config)
            weights = io.BytesIO(archive.read(_WEIGHTS))  # HDF5 seeks back and forth, which is slow in an archive
            return config, check_weights(weights, sizes[_WEIGHTS])
    except CourseError as error:
        raise CourseError(f"{path} is not opened: {error}") from None
    except FileNotFoundError:
        raise CourseError(f"there is no {path}; give a run folder or the file of a model") from None
    except RecursionError:
        raise CourseError(f"{path} is no Keras model: its config.json is nested too deeply") from None
    except Exception as error:  # a damaged archive can make a decoder raise nearly anything
        raise CourseError(f"{path} is no Keras model: {reason_of(error)}") from None


def _check_weights(deferred: "list[keras.Variable]", weights: int) -> None:
    """Checks that a model has no more weights than the file: a short description could fill any memory."""
    count = sum(math.prod(variable.shape) for variable in deferred)
    # weights that two layers share are counted twice
    if count > 2 * weights + 1000:
        raise CourseError(f"its layers ask for {count:,} weights, and it has {weights:,}")
