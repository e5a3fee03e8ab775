"""Files of weights in HDF5, which may come from anybody: looked through before Keras reads them."""

from pathlib import Path
from typing import Any

from keras_course.errors import CourseError, reason_of


def check_weights(file: Any, size: int) -> int:
    """Makes sure that weights are plain numbers in the file itself.

    Args:
        file: A path, or an open binary file.
        size: How many bytes it has.

    Returns:
        How many numbers it holds.

    Raises:
        CourseError: Something is in another file or place, is there twice, is compressed, or is no number.
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
                    raise CourseError(f"its weights {name!r} are in two places")  # and a circle would have no end
                seen.add(_address(item))
                if isinstance(item, h5py.Group):
                    groups.append(item)
                    continue
                if item.external or item.is_virtual:
                    raise CourseError(f"its weights {name!r} are in another file")
                if item.chunks is not None:  # what is compressed can be larger than it claims
                    raise CourseError(f"its weights {name!r} are compressed, which Keras does not do")
                if item.dtype.kind not in "fiub" and not _is_bfloat16(item):
                    raise CourseError(f"its weights {name!r} are no numbers but {item.dtype}")
                total, count = total + item.nbytes, count + item.size
        if total > size:
            raise CourseError(f"its weights claim {total:,} bytes, and the file has {size:,}")
    return count


def check_weights_file(path: Path, *, largest: int = 2**31) -> None:
    """Makes sure of the same for a file on the disk.

    Args:
        path: The file.
        largest: How many bytes it may have.

    Raises:
        CourseError: As ``check_weights``, or it is too large or damaged.
    """
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
    """Says whether weights are two bytes that HDF5 has no name for, as Keras writes this kind of number."""
    return item.dtype.kind == "V" and item.dtype.itemsize == 2 and item.dtype.names is None
