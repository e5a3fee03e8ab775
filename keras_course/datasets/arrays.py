"""Collections of small gray pictures: the places of their files, writing and reading.

A file is an ``.npz`` in the form of Keras' ``mnist.npz``: pictures ``x_train`` and ``x_test``, labels ``y_train`` and
``y_test``. It may come from anywhere, so its headers are checked before it is read.
"""

import hashlib
import math
import os
import zipfile
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
import numpy.typing as npt
import platformdirs

from keras_course.files import replacing

__all__ = [
    "INPUT_SHAPE",
    "LARGEST_COUNT",
    "Parts",
    "cache_folder",
    "check_claim",
    "checked_part",
    "checked_parts",
    "content_sha256",
    "open_member",
    "places",
    "read_npz",
    "save",
]

Part = tuple[npt.NDArray[np.uint8], npt.NDArray[np.int32]]
Parts = tuple[Part, Part]
"""``(x_train, y_train), (x_valid, y_valid)``: uint8 pictures ``(n, 28, 28, 1)`` and int32 labels ``(n,)``."""

INPUT_SHAPE: Final = (28, 28, 1)
LARGEST_COUNT: Final = 500_000
"""A file that claims more pictures is rejected before memory is allocated."""


def cache_folder(cache: str | Path | None = None) -> Path:
    """Returns the cache folder: the argument, ``KERAS_COURSE_CACHE`` or the user's cache folder; it may not exist."""
    folder = cache or os.environ.get("KERAS_COURSE_CACHE") or platformdirs.user_cache_dir("keras_course")
    return Path(folder).expanduser()


def places(file_name: str, cache: str | Path | None = None) -> list[Path]:
    """Returns the possible paths of a data file: in the read-only folder ``KERAS_COURSE_DATA`` and in the cache."""
    data_folder = os.environ.get("KERAS_COURSE_DATA")
    folders = [Path(data_folder).expanduser()] if data_folder else []
    return [folder / file_name for folder in (*folders, cache_folder(cache))]


def content_sha256(parts: Parts) -> str:
    """Computes the SHA-256 of all four arrays in their order, as uint8; it does not depend on the file format."""
    sha256 = hashlib.sha256()
    for array in (*parts[0], *parts[1]):
        sha256.update(np.ascontiguousarray(array, dtype=np.uint8).data)
    return sha256.hexdigest()


def save(path: str | Path, parts: Parts) -> None:
    """Writes pictures and labels (below 256) as a compressed ``.npz`` with the keys and types of Keras' ``mnist.npz``.

    The same content gives the same bytes. The folder of the file is created if needed.
    """
    keys = ("x_train", "y_train", "x_test", "y_test")
    contents: tuple[np.ndarray, ...] = (*parts[0], *parts[1])
    arrays: dict[str, Any] = {
        key: array.reshape(array.shape[:3]).astype(np.uint8) for key, array in zip(keys, contents, strict=True)
    }
    with replacing(path) as file:
        np.savez_compressed(file, **arrays)


def read_npz(archive: zipfile.ZipFile, *, num_classes: int) -> Parts:
    """Reads pictures and labels from an ``.npz``, and checks all sizes before memory is allocated.

    ``numpy.load`` would allocate whatever a header claims. Nothing is unpickled. The arrays are ``x_train``,
    ``y_train``, ``x_valid`` (or ``x_test``) and ``y_valid`` (or ``y_test``), in any order of bytes and axes: uint8
    ``(n, 28, 28)`` or ``(n, 28, 28, 1)``, and whole numbers ``(n,)``. A ValueError says what is wrong, without the
    path.
    """
    keys = ("x_train",), ("y_train",), ("x_valid", "x_test"), ("y_valid", "y_test")
    return checked_parts(*(_read_member(archive, *names) for names in keys), num_classes=num_classes)


def check_claim(name: str, shape: tuple[int, ...], dtype: np.dtype) -> None:
    """Checks the shape and type in the header of an array, whose name begins with x for pictures and y for labels.

    Raises a ValueError if they are wrong, or if there are no examples or too many.
    """
    if name.startswith("x"):
        is_right = dtype == np.uint8 and shape[1:] in (INPUT_SHAPE[:2], INPUT_SHAPE)
        wanted = "uint8 (n, 28, 28)"
    else:
        is_right = dtype.kind in "iu" and len(shape) == 1
        wanted = "whole numbers (n,)"
    if not (is_right and 1 <= shape[0] <= LARGEST_COUNT):
        raise ValueError(f"{name} is {dtype} {shape}; wanted is {wanted} with n up to {LARGEST_COUNT:,}")


def checked_part(pictures: np.ndarray, labels: np.ndarray, name: str, *, num_classes: int) -> Part:
    """Checks that pictures and labels match, and copies them to the shapes and types of all data sets.

    A copy, since an array made from bytes cannot be written to. Raises a ValueError that names the part.
    """
    if len(pictures) != len(labels):
        raise ValueError(f"{name} has {len(pictures):,} pictures and {len(labels):,} labels")
    if labels.min() < 0 or labels.max() >= num_classes:
        raise ValueError(f"{name} has labels from {labels.min()} to {labels.max()}; wanted is 0 to {num_classes - 1}")
    return np.array(pictures, order="C").reshape(-1, *INPUT_SHAPE), labels.astype(np.int32)


def checked_parts(
    x_train: np.ndarray, y_train: np.ndarray, x_valid: np.ndarray, y_valid: np.ndarray, *, num_classes: int
) -> Parts:
    """Checks and converts both parts, see ``checked_part``."""
    train = checked_part(x_train, y_train, "train", num_classes=num_classes)
    return train, checked_part(x_valid, y_valid, "valid", num_classes=num_classes)


def open_member(archive: zipfile.ZipFile, name: str) -> IO[bytes]:
    """Opens a file of a zip archive, unless it is compressed in a way that numpy and most programs do not use."""
    if archive.getinfo(name).compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{name} is compressed in a way that is not read here")
    return archive.open(name)


def _read_member(archive: zipfile.ZipFile, *keys: str) -> np.ndarray:
    """Reads the array with the first of these keys."""
    name = next((f"{key}.npy" for key in keys if f"{key}.npy" in archive.namelist()), None)
    if name is None:
        raise ValueError(f"it has no {' or '.join(keys)}")
    with open_member(archive, name) as member:
        if np.lib.format.read_magic(member) != (1, 0):
            raise ValueError(f"{name} is not in version 1.0 of numpy's format")
        shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(member)
        check_claim(name, shape, dtype)
        size = math.prod(shape) * dtype.itemsize
        if archive.getinfo(name).file_size != member.tell() + size:
            raise ValueError(f"{name} claims the shape {shape}, which is not what the file holds")
        return np.frombuffer(member.read(size), dtype).reshape(shape, order="F" if is_fortran else "C")
