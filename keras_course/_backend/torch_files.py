"""PyTorch's files of weights, read without PyTorch and without running what is in them.

Such a file is a pickle, a small program that builds objects and may call any function of Python, followed by plain
numbers. Here the program is not run but read, one instruction at a time: the dozen instructions that a table of tensors
takes are understood, the names of what it would call are compared with four, and everything else ends the reading.
Both forms are read: that of PyTorch before 1.6, and the zip archives since then.
"""

import io
import math
import pickletools
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple

import numpy as np

from keras_course.errors import CourseError, reason_of

LARGEST_FILE_BYTES: Final = 2**30
LARGEST_PROGRAM: Final = 2_000_000
"""Instructions; a table of a thousand tensors has some fifty thousand."""

_MAGIC_NUMBER: Final = 0x1950A86A20F9469CFC6C
_PROTOCOL: Final = 1001
_TYPES: Final = {
    "torch FloatStorage": "<f4",
    "torch DoubleStorage": "<f8",
    "torch HalfStorage": "<f2",
    "torch LongStorage": "<i8",
    "torch IntStorage": "<i4",
    "torch ByteStorage": "<u1",
    "torch BoolStorage": "|b1",
}


class _Name(NamedTuple):
    """What a program would have imported; it is only a name here."""

    text: str


class _Storage(NamedTuple):
    """A run of numbers somewhere behind the program."""

    dtype: np.dtype
    key: str
    length: int


class _Tensor(NamedTuple):
    """Which numbers of a storage make a tensor."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


_MARK: Final = object()


def read_tensors(path: str | Path) -> dict[str, np.ndarray]:
    """Reads a table of tensors, a ``state_dict``, trusting nothing.

    Args:
        path: The file, usually ``.pth`` or ``.pt``.

    Returns:
        The tensors by their names, each an array of its own.

    Raises:
        CourseError: There is no such file, it is damaged or too large, or it holds anything but tensors.

    Source: https://docs.python.org/3/library/pickletools.html and the layout that ``torch.save`` writes.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        if not path.is_file():
            raise CourseError(f"{path} is no file")
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
    except Exception as error:  # what is damaged can be wrong in any way
        reason = reason_of(error)
        raise CourseError(f"{path} is no file of tensors: {reason}") from None


Numbers = Callable[[_Storage], np.ndarray]


def _read_stream(content: bytes) -> tuple[Any, Numbers]:
    """Reads the older form: five programs, and then the numbers of one storage after the other."""
    file = io.BytesIO(content)
    if _run(file) != _MAGIC_NUMBER or _run(file) != _PROTOCOL:
        raise CourseError("it does not begin as such a file does")
    machine = _run(file)
    if not isinstance(machine, dict) or machine.get("little_endian") is not True:
        raise CourseError("its bytes are in the order of another kind of machine")
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
        raise CourseError("it goes on behind its end")
    return table, lambda storage: numbers[storage.key]


def _read_archive(content: bytes) -> tuple[Any, Numbers]:
    """Reads the form since 1.6: an archive with the program as ``data.pkl``, and a file for each storage."""
    archive = zipfile.ZipFile(io.BytesIO(content))
    for info in archive.infolist():
        if info.compress_type != zipfile.ZIP_STORED:  # so that nothing is larger than the archive
            raise CourseError(f"its {info.filename} is compressed, which such files are not")
    program = next((name for name in archive.namelist() if name.endswith("/data.pkl")), None)
    if program is None:
        raise CourseError("it has no data.pkl; an archive of another kind")
    folder = program.removesuffix("data.pkl")
    order = f"{folder}byteorder"  # since 2.1; before, it was always the same
    if order in archive.namelist() and archive.read(order) != b"little":
        raise CourseError("its bytes are in the order of another kind of machine")

    def numbers_of(storage: _Storage) -> np.ndarray:
        return np.frombuffer(archive.read(f"{folder}data/{storage.key}"), storage.dtype)

    return _run(io.BytesIO(archive.read(program))), numbers_of


def _entries(table: Any) -> dict[str, _Tensor]:
    if not isinstance(table, dict):
        raise CourseError("it holds no table of tensors")
    for name, value in table.items():
        if not isinstance(name, str) or not isinstance(value, _Tensor):
            raise CourseError(f"its entry {name!r:.60} is no tensor")
    return table


def _tensors(table: Any, numbers_of: Numbers, size: int) -> dict[str, np.ndarray]:
    tensors: dict[str, np.ndarray] = {}
    total = 0
    for name, (storage, offset, shape, strides) in _entries(table).items():
        if len(shape) != len(strides) or min((offset, *shape, *strides), default=0) < 0:
            raise CourseError(f"its tensor {name} has a shape that makes no sense")
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
    """Reads one program and gives what it builds out of numbers, texts, lists, tables and tensors."""
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    for instruction, argument in _instructions(file):
        if instruction == "STOP":
            return stack.pop()
        if instruction in ("BINPUT", "LONG_BINPUT"):
            memo[argument] = stack[-1]
        elif instruction in ("BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif instruction in ("BININT", "BININT1", "BININT2", "LONG1", "BINUNICODE"):
            stack.append(argument)
        elif instruction in _CONSTANTS:
            stack.append(_CONSTANTS[instruction]())
        elif instruction == "GLOBAL":
            stack.append(_Name(argument))
        elif instruction == "TUPLE":
            stack.append(tuple(_since_mark(stack)))
        elif instruction in _TUPLES:
            count = _TUPLES[instruction]
            stack[-count:] = [tuple(stack[-count:])]
        elif instruction in ("SETITEM", "SETITEMS"):
            items = _since_mark(stack) if instruction == "SETITEMS" else _last_two(stack)
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
            stack.pop()  # attributes of the table, such as the versions of layers
        elif instruction != "PROTO":
            raise CourseError(f"it has the instruction {instruction}, which a table of tensors has no use for")
    raise CourseError("it ends too early")


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


def _instructions(file: BinaryIO) -> Iterator[tuple[str, Any]]:
    for number, (instruction, argument, _) in enumerate(pickletools.genops(file)):
        if number > LARGEST_PROGRAM:
            raise CourseError("its description is too long")
        yield instruction.name, argument


def _since_mark(stack: list[Any]) -> list[Any]:
    place = next(place for place in reversed(range(len(stack))) if stack[place] is _MARK)
    items = stack[place + 1 :]
    del stack[place:]
    return items


def _last_two(stack: list[Any]) -> list[Any]:
    value = stack.pop()
    return [stack.pop(), value]


def _storage(description: Any) -> _Storage:
    kind, name, key, _, count, *_ = description
    if kind != "storage" or not isinstance(name, _Name) or name.text not in _TYPES:
        raise CourseError(f"it has numbers of the kind {name!r:.60}")
    if type(count) is not int or not 0 <= count <= LARGEST_FILE_BYTES or not isinstance(key, str):
        raise CourseError("it has a storage that makes no sense")
    return _Storage(np.dtype(_TYPES[name.text]), key, count)


def _called(name: Any, arguments: Any) -> Any:
    """Gives what the only two functions that a table of tensors needs would have given."""
    text = name.text if isinstance(name, _Name) else repr(name)
    if text == "collections OrderedDict" and arguments == ():
        return {}
    if text == "torch._utils _rebuild_tensor_v2":
        storage, offset, shape, strides, *_ = arguments
        whole = isinstance(shape, tuple) and isinstance(strides, tuple) and isinstance(storage, _Storage)
        if whole and all(type(value) is int for value in (offset, *shape, *strides)):
            return _Tensor(storage, offset, shape, strides)
        raise CourseError("it has a tensor that makes no sense")
    raise CourseError(f"it would call {text!r:.80}, and nothing is called here")
