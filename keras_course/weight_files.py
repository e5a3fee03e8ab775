"""Checks untrusted files of weights in HDF5 before Keras reads them."""

from pathlib import Path
from typing import Any

from keras_course.errors import CourseError, reason_of


def check_weights(file: Any, size: int) -> int:
    """Checks that all weights in an HDF5 file of ``size`` bytes are uncompressed numbers; returns how many there are.

    No weight may be in another file or place, or appear twice. ``file`` is a path, or an open binary file.
    """
    import h5py

    total = count = 0
    with h5py.File(file, "r") as weights:
        groups, seen = [weights], {_address(weights)}
        while groups:
            group = groups.pop()
            for name in group:
                if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                    raise CourseError(f"its weights {name!r} are in another place")
                item = group[name]
                if _address(item) in seen:
                    raise CourseError(f"its weights {name!r} are in two places")  # this also ends circles
                seen.add(_address(item))
                if isinstance(item, h5py.Group):
                    groups.append(item)
                    continue
                if item.external or item.is_virtual:
                    raise CourseError(f"its weights {name!r} are in another file")
                if item.chunks is not None:  # compressed data can be larger than it claims
                    raise CourseError(f"its weights {name!r} are compressed, which Keras does not do")
                if item.dtype.kind not in "fiub" and not _is_bfloat16(item):
                    raise CourseError(f"its weights {name!r} are no numbers but {item.dtype}")
                total, count = total + item.nbytes, count + item.size
        if total > size:
            raise CourseError(f"its weights claim {total:,} bytes, and the file has {size:,}")
    return count


def check_weights_file(path: Path, *, largest: int = 2**31) -> None:
    """Checks a file of weights by ``check_weights``, and that it has at most ``largest`` bytes."""
    size = path.stat().st_size
    if size > largest:
        raise CourseError(f"{path} has {size:,} bytes; at most {largest:,} are read")
    try:
        check_weights(path, size)
    except CourseError as error:
        raise CourseError(f"{path} is not opened: {error}") from None
    except Exception as error:  # a damaged file can make HDF5 raise nearly anything
        raise CourseError(f"{path} is no file of weights: {reason_of(error)}") from None


def _address(item: Any) -> int:
    import h5py

    return h5py.h5o.get_info(item.id).addr


def _is_bfloat16(item: Any) -> bool:
    """Returns True for bfloat16, which Keras writes as a two-byte type that HDF5 has no name for."""
    return item.dtype.kind == "V" and item.dtype.itemsize == 2 and item.dtype.names is None
