"""Checks untrusted ONNX files before a runtime reads them.

A tensor in an ONNX file may be stored in another file, which the runtime then reads: any file below the current folder,
for a model in memory. A model with such a tensor is refused. The check parses the file as Protocol Buffers itself, so
that running a model does not need the package ``onnx``.

Source: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto and https://protobuf.dev/programming-guides/encoding/
"""

from collections.abc import Iterator, Mapping
from typing import Final

from keras_course.errors import CourseError

__all__ = ["check_own_tensors"]

_DEEPEST: Final = 100  # nested messages; runtimes allow no more

# The fields in which messages may hold a tensor, by their numbers in onnx.proto, and the kind of message there.
_FIELDS: Final[Mapping[str, Mapping[int, str]]] = {
    "Model": {7: "Graph", 20: "Training", 25: "Function"},
    "Training": {1: "Graph", 2: "Graph"},
    "Graph": {1: "Node", 5: "Tensor", 15: "SparseTensor"},
    "Function": {7: "Node", 11: "Attribute"},
    "Node": {5: "Attribute"},
    "Attribute": {5: "Tensor", 6: "Graph", 10: "Tensor", 11: "Graph", 22: "SparseTensor", 23: "SparseTensor"},
    "SparseTensor": {1: "Tensor", 2: "Tensor"},
}
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14
_NUMBER, _EIGHT_BYTES, _BYTES, _FOUR_BYTES = 0, 1, 2, 5


def check_own_tensors(content: bytes) -> None:
    """Raises a ``CourseError`` if a tensor of a model is not in its own file, or the file is damaged."""
    open_messages: list[tuple[str, int, int, int]] = [("Model", 0, len(content), 0)]
    while open_messages:
        kind, start, end, depth = open_messages.pop()
        if depth > _DEEPEST:
            raise CourseError("it is nested too deeply")
        for number, wire, first, last in _fields(content, start, end):
            if kind == "Tensor":
                if number == _EXTERNAL_DATA or (number == _DATA_LOCATION and (wire != _NUMBER or first)):
                    raise CourseError("it has a tensor in another file, which is not read; save the model in one file")
            elif inner := _FIELDS[kind].get(number):
                if wire != _BYTES:
                    raise CourseError("it is damaged")
                open_messages.append((inner, first, last, depth + 1))


def _fields(content: bytes, place: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Yields number and wire type of each field, with its start and end; a number has its value and 0 instead."""
    while place < end:
        tag, place = _number(content, place, end)
        number, wire = tag >> 3, tag & 7
        if wire == _NUMBER:
            value, place = _number(content, place, end)
            yield number, wire, value, 0
            continue
        length = {_EIGHT_BYTES: 8, _FOUR_BYTES: 4}.get(wire, -1)
        if wire == _BYTES:
            length, place = _number(content, place, end)
        if length < 0 or place + length > end:
            raise CourseError("it is damaged")
        yield number, wire, place, place + length
        place += length


def _number(content: bytes, place: int, end: int) -> tuple[int, int]:
    """Reads a varint (seven bits a byte), and returns it with the position after it."""
    value = 0
    for shift in range(0, 70, 7):
        if place >= end:
            break
        byte = content[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
    raise CourseError("it is damaged")
