"""Reads PyTorch's weight files (``.pth``, ``.pt``) without PyTorch and without running any code in them.

Such a file is a pickle followed by plain numbers. A pickle is a small program that builds objects and may call any
Python function. This reader does not run the program: it interprets the few instructions that a table of tensors
needs, compares the names that the program would call with a short list, and stops at everything else.

It reads both formats: the stream that PyTorch wrote before version 1.6, and the zip archive since then.

Source: https://docs.python.org/3/library/pickletools.html and the layout that ``torch.save`` writes.
"""

import io
import math
import pickletools
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple

import numpy as np

from keras_course.errors import CourseError, reason_of

LARGEST_FILE_BYTES: Final = 2**30
LARGEST_PROGRAM: Final = 2_000_000
"""The largest number of instructions; a table of a thousand tensors has about fifty thousand."""

_MAGIC_NUMBER: Final = 0x1950A86A20F9469CFC6C
_PROTOCOL: Final = 1001
_NOT_LITTLE_ENDIAN: Final = "it was written on a big-endian machine"
_TYPES: Final = {
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "HalfStorage": "<f2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ByteStorage": "<u1",
    "BoolStorage": "|b1",
}
"""Data types by the class that the program names, without its module: the class is never imported."""


class _Name(NamedTuple):
    """The name of a function or class that the program would import."""

    module: str
    attribute: str


class _Storage(NamedTuple):
    """A block of numbers that follows the program."""

    dtype: np.dtype
    key: str
    length: int


class _Tensor(NamedTuple):
    """A tensor as a view of a storage."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


_MARK: Final = object()


def read_tensors(path: str | Path) -> dict[str, np.ndarray]:
    """Reads a ``state_dict``, the tensors by name, from a file that is not trusted.

    Raises a ``CourseError`` if it is missing, damaged or too large, or holds anything but tensors.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        if not path.is_file():
            raise CourseError(f"{path} is not a file")
        if size > LARGEST_FILE_BYTES:
            raise CourseError(f"{path} has {size:,} bytes; at most {LARGEST_FILE_BYTES:,} are read")
        content = path.read_bytes()
    except OSError as error:
        raise CourseError(f"{path} cannot be read: {reason_of(error)}") from None
    try:
        table, numbers_of = (_read_archive if content[:2] == b"PK" else _read_stream)(content)
        return _tensors(table, numbers_of, size)
    except CourseError as error:
        raise CourseError(f"{path} is not read: {error}") from None
    except Exception as error:  # a damaged file can raise almost anything
        raise CourseError(f"{path} is not a file of tensors: {reason_of(error)}") from None


Numbers = Callable[[_Storage], np.ndarray]
"""Returns the numbers of a storage."""


def _read_stream(content: bytes) -> tuple[Any, Numbers]:
    """Reads the stream format: five programs, then the numbers of each storage."""
    file = io.BytesIO(content)
    if _run(file) != _MAGIC_NUMBER or _run(file) != _PROTOCOL:
        raise CourseError("it does not begin with the marks of this format")
    machine = _run(file)
    if not isinstance(machine, dict) or machine.get("little_endian") is not True:
        raise CourseError(_NOT_LITTLE_ENDIAN)
    table = _run(file)
    found = {}
    for storage in {tensor.storage for tensor in _entries(table).values()}:
        if storage.key in found:
            raise CourseError(f"its storage {storage.key} is described in two ways")
        found[storage.key] = storage
    numbers = {}
    for key in _run(file):
        count = int.from_bytes(file.read(8), "little", signed=True)
        if key not in found or count != found[key].length:
            raise CourseError(f"its storage {key} is not as described")
        data = file.read(count * found[key].dtype.itemsize)
        numbers[key] = np.frombuffer(data, found[key].dtype, count)
    if file.read(1):
        raise CourseError("it has data after its end")
    return table, lambda storage: numbers[storage.key]


def _read_archive(content: bytes) -> tuple[Any, Numbers]:
    """Reads the zip format: the program is ``data.pkl``, and each storage is a file."""
    archive = zipfile.ZipFile(io.BytesIO(content))
    for info in archive.infolist():
        if info.compress_type != zipfile.ZIP_STORED:  # otherwise a small archive could expand to any size
            raise CourseError(f"its {info.filename} is compressed, which this format does not allow")
    program = next((name for name in archive.namelist() if name.endswith("/data.pkl")), None)
    if program is None:
        raise CourseError("it has no data.pkl: it is another kind of archive")
    folder = program.removesuffix("data.pkl")
    order = f"{folder}byteorder"  # written since version 2.1; earlier files are little-endian
    if order in archive.namelist() and archive.read(order) != b"little":
        raise CourseError(_NOT_LITTLE_ENDIAN)

    def numbers_of(storage: _Storage) -> np.ndarray:
        return np.frombuffer(archive.read(f"{folder}data/{storage.key}"), storage.dtype)

    return _run(io.BytesIO(archive.read(program))), numbers_of


def _entries(table: Any) -> dict[str, _Tensor]:
    if not isinstance(table, dict):
        raise CourseError("it does not hold a table of tensors")
    for name, value in table.items():
        if not isinstance(name, str) or not isinstance(value, _Tensor):
            raise CourseError(f"its entry {name!r:.60} is not a tensor")
    return table


def _tensors(table: Any, numbers_of: Numbers, size: int) -> dict[str, np.ndarray]:
    tensors: dict[str, np.ndarray] = {}
    total = 0
    for name, (storage, offset, shape, strides) in _entries(table).items():
        if len(shape) != len(strides) or min((offset, *shape, *strides), default=0) < 0:
            raise CourseError(f"its tensor {name} has an invalid shape")
        numbers = numbers_of(storage)
        last = offset + sum((side - 1) * stride for side, stride in zip(shape, strides, strict=True))
        if math.prod(shape) and (len(numbers) != storage.length or last >= storage.length):
            raise CourseError(f"its tensor {name} has more numbers than the file")
        total += math.prod(shape) * storage.dtype.itemsize
        if total > size:  # a few numbers, repeated over and over
            raise CourseError("its tensors are larger than the file")
        steps = tuple(stride * storage.dtype.itemsize for stride in strides)
        view = np.lib.stride_tricks.as_strided(numbers[offset:] if math.prod(shape) else numbers[:0], shape, steps)
        tensors[name] = np.array(view)
    return tensors


def _run(file: BinaryIO) -> Any:
    """Interprets one program; returns the object that it builds from numbers, texts, lists, tables and tensors."""
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    argument: Any
    for number, (opcode, argument, _) in enumerate(pickletools.genops(file)):
        instruction = opcode.name
        if number > LARGEST_PROGRAM:
            raise CourseError("its description is too long")
        if instruction in ("BINPUT", "LONG_BINPUT"):
            memo[argument] = stack[-1]
        elif instruction in ("BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif instruction in ("BININT", "BININT1", "BININT2", "LONG1", "BINUNICODE"):
            stack.append(argument)
        elif instruction in _CONSTANTS:
            stack.append(_CONSTANTS[instruction]())
        elif instruction == "GLOBAL":
            stack.append(_Name(*argument.split(" ", 1)))
        elif instruction == "TUPLE":
            stack.append(tuple(_since_mark(stack)))
        elif instruction in _TUPLES:
            count = _TUPLES[instruction]
            stack[-count:] = [tuple(stack[-count:])]
        elif instruction in ("SETITEM", "SETITEMS"):
            items = _since_mark(stack) if instruction == "SETITEMS" else [stack.pop(-2), stack.pop()]
            stack[-1].update(zip(items[::2], items[1::2], strict=True))
        elif instruction in ("APPEND", "APPENDS"):
            items = _since_mark(stack) if instruction == "APPENDS" else [stack.pop()]
            stack[-1].extend(items)
        elif instruction == "BINPERSID":
            stack.append(_storage(stack.pop()))
        elif instruction == "REDUCE":
            arguments = stack.pop()
            stack.append(_called(stack.pop(), arguments))
        elif instruction == "BUILD":
            stack.pop()  # attributes of the table, such as the versions of layers, are ignored
        elif instruction not in ("PROTO", "STOP"):
            raise CourseError(f"it has the instruction {instruction}, which a table of tensors does not need")
    return stack.pop()  # genops raises a ValueError if there is no STOP at the end


_CONSTANTS: Final[dict[str, Callable[[], Any]]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "MARK": lambda: _MARK,
}
_TUPLES: Final = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


def _since_mark(stack: list[Any]) -> list[Any]:
    place = next(place for place in reversed(range(len(stack))) if stack[place] is _MARK)
    items = stack[place + 1 :]
    del stack[place:]
    return items


def _storage(description: Any) -> _Storage:
    kind, name, key, _, count, *_ = description
    if kind != "storage" or not isinstance(name, _Name) or name.attribute not in _TYPES:
        raise CourseError(f"it has numbers of an unknown type, {name!r:.60}")
    if type(count) is not int or not 0 <= count <= LARGEST_FILE_BYTES or not isinstance(key, str):
        raise CourseError("it has an invalid storage")
    return _Storage(np.dtype(_TYPES[name.attribute]), key, count)


def _called(name: Any, arguments: Any) -> Any:
    """Returns the result of one of the two functions that a table of tensors needs; refuses all others."""
    if name == ("collections", "OrderedDict") and arguments == ():
        return {}
    if isinstance(name, _Name) and name.attribute == "_rebuild_tensor_v2":
        storage, offset, shape, strides, *_ = arguments
        whole = isinstance(shape, tuple) and isinstance(strides, tuple) and isinstance(storage, _Storage)
        if whole and all(type(value) is int for value in (offset, *shape, *strides)):
            return _Tensor(storage, offset, shape, strides)
        raise CourseError("it has an invalid tensor")
    text = " ".join(name) if isinstance(name, _Name) else repr(name)
    raise CourseError(f"it would call {text!r:.80}; no code in such a file is run")
