"""Reads weights in the format of safetensors, which holds numbers only, from files that are not trusted.

A checkpoint is ``model.safetensors``, or several such files and ``model.safetensors.index.json``, which says in which
of them each tensor is. The library ``safetensors`` checks the header of each file; this module checks the rest.
"""

import json
import math
import re
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import numpy as np

from keras_course.errors import CourseError, MissingPackageError, reason_of
from keras_course.foreign_text import printable

LARGEST_FILE_BYTES: Final = 2**32
LARGEST_HEADER_BYTES: Final = 2**24
LARGEST_TEXT_BYTES: Final = 2**25
MOST_FILES: Final = 100
INSTALL: Final = 'pip install "keras-course[text]"'

_WEIGHTS: Final = "model.safetensors"
_INDEX: Final = "model.safetensors.index.json"
_OTHER_FORMATS: Final = ("pytorch_model.bin", "pytorch_model.bin.index.json", "tf_model.h5", "flax_model.msgpack")
_TYPES: Final = ("F64", "F32", "F16", "BF16", "I64", "I32")
"""Types of numbers that are read; those of quantized weights are not."""


def read_json(path: Path, *, largest: int = LARGEST_TEXT_BYTES) -> dict[str, Any]:
    """Reads a file that holds one JSON object, and is not trusted. Raises a ``CourseError`` if it does not."""
    try:
        with path.open("rb") as file:
            content = file.read(largest + 1)
        if len(content) > largest:
            raise CourseError(f"{path} has more than {largest:,} bytes")
        found = json.loads(content)
    except OSError as error:
        raise CourseError(f"{path} cannot be read: {reason_of(error)}") from None
    except CourseError:
        raise
    except (ValueError, RecursionError) as error:
        raise CourseError(f"{path} is not JSON: {reason_of(error)}") from None
    if not isinstance(found, dict):
        raise CourseError(f"{path} holds a {type(found).__name__}; it should hold an object in braces")
    return found


class Tensors:
    """The tensors of a checkpoint: their shapes at once, their numbers one tensor at a time.

    Args:
        folder: The folder with ``model.safetensors``, or with its parts and their index.

    Raises:
        CourseError: There are no such files, they are damaged, or they do not fit together.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._open = ExitStack()
        self._file_of: dict[str, Any] = {}
        self._path_of: dict[str, Path] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        self._types: dict[str, str] = {}
        try:
            for path, names in _files_of(folder).items():
                self._add(path, names)
        except BaseException:
            self._open.close()
            raise

    def __enter__(self) -> "Tensors":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._open.close()

    def _add(self, path: Path, expected: set[str] | None) -> None:
        """Opens a file and notes what it holds; by the index, that has to be the expected names."""
        try:
            import safetensors
        except ModuleNotFoundError:
            raise MissingPackageError(str(path), "safetensors", INSTALL) from None

        try:
            if not path.is_file():
                raise CourseError(f"there is no {path}, which {_INDEX} names")
            if (size := path.stat().st_size) > LARGEST_FILE_BYTES:
                raise CourseError(f"{path} has {size:,} bytes; at most {LARGEST_FILE_BYTES:,} are read")
            _check_header(path)
            file = self._open.enter_context(safetensors.safe_open(path, framework="np"))
            parts = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 - it is no dictionary
            found = {name: (part.get_dtype(), tuple(part.get_shape())) for name, part in parts.items()}
        except CourseError:
            raise
        except OSError as error:
            raise CourseError(f"{path} cannot be read: {reason_of(error)}") from None
        except Exception as error:  # the library has an exception of its own
            raise CourseError(f"{path} is not a file of safetensors: {_plain(error)}") from None
        if expected is not None and expected != found.keys():
            name = min(expected ^ found.keys())
            where = f"{_INDEX} names it" if name in expected else f"{_INDEX} does not name it"
            has = "has no" if name in expected else "has a"
            raise CourseError(f"{path} {has} tensor {shown(name)}, and {where}")
        for name, (kind, shape) in found.items():
            if name in self.shapes:
                raise CourseError(f"{path} has the tensor {shown(name)}, which another file has, too")
            if kind not in _TYPES:
                raise CourseError(f"{path} has the tensor {shown(name)} in {kind}; give one of {', '.join(_TYPES)}")
            self.shapes[name], self._types[name] = shape, kind
            self._file_of[name], self._path_of[name] = file, path

    def read(self, name: str) -> np.ndarray:
        """Reads one tensor as float32."""
        try:
            if self._types[name] == "BF16":
                return self._read_bfloat16(name)
            return np.asarray(self._file_of[name].get_tensor(name), "float32")
        except Exception as error:  # the file may have changed since it was opened
            raise CourseError(f"{self._path_of[name]} cannot be read: {_plain(error)}") from None

    def _read_bfloat16(self, name: str) -> np.ndarray:
        """Reads a type that NumPy does not have: the upper half of float32. The library has checked the header."""
        path, shape = self._path_of[name], self.shapes[name]
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            start, _ = json.loads(file.read(length))[name]["data_offsets"]
            file.seek(8 + length + start)
            halves = np.fromfile(file, "<u2", math.prod(shape)).reshape(shape)
        return (halves.astype("uint32") << 16).view("float32")


def _check_header(path: Path) -> None:
    """Checks the length of the header, which the library would accept up to 100 MB."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
    if length > LARGEST_HEADER_BYTES:
        raise CourseError(f"{path} has a header of {length:,} bytes; at most {LARGEST_HEADER_BYTES:,} are read")


def _files_of(folder: Path) -> Mapping[Path, set[str] | None]:
    """Returns the files of a checkpoint, each with the names of its tensors if an index says so."""
    if (folder / _WEIGHTS).is_file():
        return {folder / _WEIGHTS: None}
    if (folder / _INDEX).is_file():
        return _read_index(folder)
    if not folder.is_dir():
        raise CourseError(f"{folder} is not a folder; give one with config.json and {_WEIGHTS}")
    for name in _OTHER_FORMATS:
        if (folder / name).exists():
            raise CourseError(
                f"{folder} has its weights in {name}, and only {_WEIGHTS} is read; load the folder with the library "
                "transformers, where you trust it, and write it again by save_pretrained()"
            )
    raise CourseError(f"{folder} has no {_WEIGHTS}; give the folder of a checkpoint of Hugging Face")


def _read_index(folder: Path) -> dict[Path, set[str] | None]:
    path = folder / _INDEX
    places = read_json(path).get("weight_map")
    if not isinstance(places, dict) or not places:
        raise CourseError(f"{path} has no weight_map, which names the file of each tensor")
    files: dict[Path, set[str] | None] = {}
    for name, file in places.items():
        # only files beside the index, none of another folder
        if not isinstance(file, str) or not re.fullmatch(r"[\w-][\w.-]*\.safetensors", file, re.ASCII):
            raise CourseError(f"{path} names the file {shown(file)}; it has to be one beside it, *.safetensors")
        names = files.setdefault(folder / file, set())
        assert names is not None
        names.add(name)
        if len(files) > MOST_FILES:
            raise CourseError(f"{path} names more than {MOST_FILES} files")
    return files


def shown(name: Any) -> str:
    """Returns a name from a file so that it can be printed in an error message."""
    text = printable(str(name))
    return text if len(text) <= 80 else f"{text[:77]}..."


def _plain(error: Exception) -> str:
    return printable(reason_of(error))
