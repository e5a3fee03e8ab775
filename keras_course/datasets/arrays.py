"""Collections of small gray pictures: the places of their files, writing and reading.

A file is an ``.npz`` in the form of Keras' ``mnist.npz``: pictures ``x_train`` and ``x_test``, labels ``y_train`` and
``y_test``. It may come from anywhere, so its headers are checked before it is read.
"""

import hashlib
import math
import os
import zipfile
from pathlib import Path
from typing import Any, Final

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
    "content_sha256",
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
    """Returns the cache folder for downloaded or prepared files, whether it exists or not.

    Args:
        cache: The folder; by default ``KERAS_COURSE_CACHE`` or the user's cache folder.

    Returns:
        The path.

    Example:
        >>> cache_folder("my_cache").as_posix()
        'my_cache'
    """
    folder = cache or os.environ.get("KERAS_COURSE_CACHE") or platformdirs.user_cache_dir("keras_course")
    return Path(folder).expanduser()


def places(file_name: str, cache: str | Path | None = None) -> list[Path]:
    """Returns the possible paths of a data file: in the read-only folder ``KERAS_COURSE_DATA`` and in the cache.

    Args:
        file_name: The name of the file.
        cache: The cache folder; by default ``KERAS_COURSE_CACHE`` or the user's cache folder.

    Returns:
        One or two paths, in the order of the search; the last one is in the cache.

    Example:
        >>> places("mnist.npz", "my_cache")[-1].as_posix()
        'my_cache/mnist.npz'
    """
    data_folder = os.environ.get("KERAS_COURSE_DATA")
    folders = [Path(data_folder).expanduser()] if data_folder else []
    return [folder / file_name for folder in (*folders, cache_folder(cache))]


def content_sha256(parts: Parts) -> str:
    """Computes the SHA-256 of pictures and labels: of the bytes of all four arrays in their order, as uint8.

    Args:
        parts: Pictures and labels.

    Returns:
        64 hexadecimal digits, which do not depend on the file format.

    Example:
        >>> part = np.zeros((1, 28, 28, 1), "uint8"), np.array([7], "int32")
        >>> content_sha256((part, part)) == hashlib.sha256((bytes(28 * 28) + bytes([7])) * 2).hexdigest()
        True
    """
    sha256 = hashlib.sha256()
    for array in (*parts[0], *parts[1]):
        sha256.update(np.ascontiguousarray(array, dtype=np.uint8).data)
    return sha256.hexdigest()


def save(path: str | Path, parts: Parts) -> None:
    """Writes pictures and labels as a compressed ``.npz`` with the keys and types of Keras' ``mnist.npz``.

    The same content gives the same bytes. The file is written under a temporary name and then renamed.

    Args:
        path: The file; its folder is created if needed.
        parts: Pictures and labels; the labels are below 256.

    Raises:
        DiskError: The file cannot be written.

    Example:
        >>> import tempfile
        >>> part = np.zeros((3, 28, 28, 1), "uint8"), np.array([2, 0, 1], "int32")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save(Path(folder, "new", "three.npz"), (part, part))
        ...     with np.load(Path(folder, "new", "three.npz")) as file:
        ...         print(file["x_train"].shape, file["y_test"])
        (3, 28, 28) [2 0 1]
    """
    path = Path(path)
    keys = ("x_train", "y_train", "x_test", "y_test")
    contents: tuple[np.ndarray, ...] = (*parts[0], *parts[1])
    arrays: dict[str, Any] = {
        key: array.reshape(array.shape[:3]).astype(np.uint8) for key, array in zip(keys, contents, strict=True)
    }
    with replacing(path) as file:
        np.savez_compressed(file, **arrays)


def read_npz(archive: zipfile.ZipFile, *, num_classes: int) -> Parts:
    """Reads pictures and labels from an ``.npz``, and checks all sizes before memory is allocated.

    ``numpy.load`` would allocate whatever a header claims. Nothing is unpickled.

    Args:
        archive: The ``.npz``, opened as a zip archive, with ``x_train``, ``y_train``, ``x_valid`` (or ``x_test``) and
            ``y_valid`` (or ``y_test``): uint8 ``(n, 28, 28)`` or ``(n, 28, 28, 1)``, and whole numbers ``(n,)``, in any
            order of bytes and axes.
        num_classes: Number of classes; labels are below it.

    Returns:
        Pictures and labels that can be written to.

    Raises:
        ValueError: An array is missing or has another shape or type. The caller adds the path.
        zipfile.BadZipFile: The archive is damaged.

    Example:
        >>> import tempfile
        >>> part = np.zeros((3, 28, 28), "uint8"), np.array([2, 0, 1])
        >>> with tempfile.TemporaryFile() as file:
        ...     np.savez(file, x_train=part[0], y_train=part[1], x_valid=part[0], y_valid=part[1])
        ...     (x_train, y_train), _ = read_npz(zipfile.ZipFile(file), num_classes=3)
        >>> x_train.shape, y_train
        ((3, 28, 28, 1), array([2, 0, 1], dtype=int32))
    """
    x_train, y_train = _read_member(archive, "x_train"), _read_member(archive, "y_train")
    x_valid, y_valid = _read_member(archive, "x_valid", "x_test"), _read_member(archive, "y_valid", "y_test")
    return (
        checked_part(x_train, y_train, "train", num_classes=num_classes),
        checked_part(x_valid, y_valid, "valid", num_classes=num_classes),
    )


def check_claim(name: str, shape: tuple[int, ...], dtype: np.dtype) -> None:
    """Checks the shape and type in a header before the data are read.

    Args:
        name: Name of the array; it begins with x for pictures and with y for labels.
        shape: Shape in the header.
        dtype: Type in the header.

    Raises:
        ValueError: They are not those of pictures of 28 by 28 bytes or of labels, or there are none or too many.

    Example:
        >>> check_claim("y_train", (10, 2), np.dtype("int64"))
        Traceback (most recent call last):
        ...
        ValueError: y_train is int64 (10, 2); wanted is whole numbers (n,) with n up to 500,000
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
    """Checks that pictures and labels match, and converts them to the shapes and types of all data sets.

    Args:
        pictures: uint8 ``(n, 28, 28)`` or ``(n, 28, 28, 1)``.
        labels: Whole numbers ``(n,)``, n at least 1.
        name: Name of the part in an error message.
        num_classes: Number of classes; labels are below it.

    Returns:
        Pictures ``(n, 28, 28, 1)`` and int32 labels ``(n,)``. Both are copies, since an array made from bytes cannot be
        written to.

    Raises:
        ValueError: The numbers of pictures and labels differ, or a label is out of range.

    Example:
        >>> checked_part(np.zeros((1, 28, 28), "uint8"), np.array([10]), "valid", num_classes=10)
        Traceback (most recent call last):
        ...
        ValueError: valid has labels from 10 to 10; wanted is 0 to 9
    """
    if len(pictures) != len(labels):
        raise ValueError(f"{name} has {len(pictures):,} pictures and {len(labels):,} labels")
    if labels.min() < 0 or labels.max() >= num_classes:
        raise ValueError(f"{name} has labels from {labels.min()} to {labels.max()}; wanted is 0 to {num_classes - 1}")
    return np.array(pictures, order="C").reshape(-1, *INPUT_SHAPE), labels.astype(np.int32)


def _read_member(archive: zipfile.ZipFile, *keys: str) -> np.ndarray:
    """Reads the array with the first of these keys."""
    name = next((f"{key}.npy" for key in keys if f"{key}.npy" in archive.namelist()), None)
    if name is None:
        raise ValueError(f"it has no {' or '.join(keys)}")
    info = archive.getinfo(name)
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{name} is compressed in a way that numpy does not use")
    with archive.open(info) as member:
        if np.lib.format.read_magic(member) != (1, 0):
            raise ValueError(f"{name} is not in version 1.0 of numpy's format")
        shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(member)
        check_claim(name, shape, dtype)
        size = math.prod(shape) * dtype.itemsize
        if info.file_size != member.tell() + size:
            raise ValueError(f"{name} claims the shape {shape}, which is not what the file holds")
        return np.frombuffer(member.read(size), dtype).reshape(shape, order="F" if is_fortran else "C")
