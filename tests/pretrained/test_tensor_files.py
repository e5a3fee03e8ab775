"""PyTorch files, put together here byte by byte; tests/_backend/test_torch.py reads files that PyTorch has written."""

import io
import os
import pickle
import random
import struct
import zipfile

import numpy as np
import pytest

from keras_course.errors import CourseError
from keras_course.pretrained import tensor_files
from keras_course.pretrained.tensor_files import read_tensors

A = np.arange(6, dtype="float32").reshape(2, 3)
B = np.array([7, -8], "int64")


def text(value):
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def number(value):
    return b"J" + struct.pack("<i", value)


def group(*items):
    return b"(" + b"".join(items) + b"t"


def name(module, attribute):
    return f"c{module}\n{attribute}\n".encode()


ORDERED = name("collections", "OrderedDict") + b")R"


def storage(kind, key, count):
    return group(text("storage"), name("torch", kind), text(key), text("cpu"), number(count), b"N") + b"Q"


def tensor(kept, shape, strides, offset=0):
    sides, steps = (group(*map(number, values)) for values in (shape, strides))
    return (
        name("torch._utils", "_rebuild_tensor_v2") + group(kept, number(offset), sides, steps, b"\x89", ORDERED) + b"R"
    )


def table(**entries):
    return ORDERED + b"(" + b"".join(text(key) + value for key, value in entries.items()) + b"u"


def program(body):
    return b"\x80\x02" + body + b"."


def stream(entries, numbers, *, little=b"\x88"):
    """The form before 1.6."""
    return b"".join(
        [
            program(b"\x8a\x0a" + (0x1950A86A20F9469CFC6C).to_bytes(10, "little")),
            program(b"M\xe9\x03"),
            program(b"}(" + text("little_endian") + little + b"u"),
            program(table(**entries)),
            program(b"](" + b"".join(map(text, numbers)) + b"e"),
            *(struct.pack("<q", values.size) + values.tobytes() for values in numbers.values()),
        ]
    )


def archive(entries, numbers, *, compression=zipfile.ZIP_STORED, order=b"little"):
    """The form since 1.6."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as parts:
        parts.writestr("weights/data.pkl", program(table(**entries)))
        parts.writestr("weights/byteorder", order)
        for key, values in numbers.items():
            parts.writestr(f"weights/data/{key}", values.tobytes())
    return file.getvalue()


ENTRIES = {
    "a": tensor(storage("FloatStorage", "0", 6), (2, 3), (3, 1)),
    "turned": tensor(storage("FloatStorage", "0", 6), (3, 2), (1, 3)),
    "last": tensor(storage("FloatStorage", "0", 6), (2,), (1,), offset=4),
    "b": tensor(storage("LongStorage", "1", 2), (2,), (1,)),
    "one": tensor(storage("LongStorage", "1", 2), (), (), offset=1),
}
NUMBERS = {"0": A, "1": B}


@pytest.mark.parametrize("form", [stream, archive])
def test_tensors_are_read_as_they_are_described(tmp_path, form):
    path = tmp_path / "weights.pth"
    path.write_bytes(form(ENTRIES, NUMBERS))
    tensors = read_tensors(path)
    expected = {"a": A, "turned": A.T, "last": A.ravel()[4:], "b": B, "one": np.int64(-8)}
    assert tensors.keys() == expected.keys()
    for key, value in expected.items():
        np.testing.assert_array_equal(tensors[key], value)
        assert tensors[key].dtype == value.dtype
        assert tensors[key].flags.writeable


def refused(path, content):
    path.write_bytes(content)
    with pytest.raises(CourseError, match=str(path)) as error:
        read_tensors(path)
    assert "\n" not in str(error.value)
    return str(error.value)


def with_entry(value, **entries):
    return stream({"a": value, **entries}, {"0": A})


FLOATS = storage("FloatStorage", "0", 6)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (with_entry(name("os", "system") + group(text("touch ran")) + b"R"), "would call 'os system'"),
        (with_entry(name("builtins", "eval") + group(text("1")) + b"R"), "would call 'builtins eval'"),
        (with_entry(name("os", "system")), "'a' is not a tensor"),
        (with_entry(b"K\x01"), "'a' is not a tensor"),
        (with_entry(name("os", "system") + b")\x81"), "instruction NEWOBJ"),
        (with_entry(b"(" + text("touch ran") + b"ios\nsystem\n"), "instruction INST"),
        (with_entry(name("collections", "OrderedDict") + group(text("x")) + b"R"), "would call"),
        (with_entry(tensor(FLOATS, (2**30, 2**30), (0, 0))), "larger than the file"),
        (with_entry(tensor(FLOATS, (7,), (1,))), "more numbers than the file"),
        (with_entry(tensor(FLOATS, (2,), (1,), offset=5)), "more numbers than the file"),
        (with_entry(tensor(FLOATS, (-1,), (1,))), "invalid"),
        (with_entry(tensor(FLOATS, (2,), (-1,), offset=3)), "invalid"),
        (with_entry(tensor(FLOATS, (2,), (1, 1))), "invalid"),
        (with_entry(tensor(storage("FloatStorage", "0", 7), (2,), (1,))), "not as described"),
        (with_entry(tensor(storage("FloatStorage", "0", -6), (2,), (1,))), "invalid"),
        (with_entry(tensor(storage("ComplexStorage", "0", 6), (2,), (1,))), "numbers of an unknown type"),
        (with_entry(tensor(FLOATS, (6,), (1,)), b=tensor(storage("IntStorage", "0", 6), (6,), (1,))), "in two ways"),
        (stream({"a": tensor(FLOATS, (6,), (1,))}, {}), "is not a file of tensors"),
        (stream(ENTRIES, NUMBERS) + b"more", "data after its end"),
        (stream(ENTRIES, NUMBERS, little=b"\x89"), "big-endian"),
        (archive(ENTRIES, NUMBERS, order=b"big"), "big-endian"),
        (archive(ENTRIES, NUMBERS, compression=zipfile.ZIP_DEFLATED), "compressed"),
        (archive(ENTRIES, {"0": A}), "is not a file of tensors"),
        (archive(ENTRIES, {"0": A[:1], "1": B}), "more numbers than the file"),
        (program(b"K\x01"), "does not begin"),
        (pickle.dumps({"a": 1}), "instruction FRAME"),
        (b"", "is not a file of tensors"),
        (b"PK\x05\x06" + bytes(18), "no data.pkl"),
        (b"\x89HDF\r\n\x1a\n", "is not a file of tensors"),
    ],
)
def test_what_is_no_table_of_tensors_is_refused_and_nothing_runs(tmp_path, monkeypatch, content, reason):
    monkeypatch.chdir(tmp_path)
    assert reason in refused(tmp_path / "weights.pth", content)
    assert [path.name for path in tmp_path.iterdir()] == ["weights.pth"]


@pytest.mark.parametrize("form", [stream, archive])
def test_a_file_that_is_cut_off_anywhere_is_refused(tmp_path, form):
    content = form(ENTRIES, NUMBERS)
    for end in range(len(content)):
        refused(tmp_path / "weights.pth", content[:end])


@pytest.mark.parametrize("form", [stream, archive])
def test_a_damaged_file_is_refused_or_gives_arrays(tmp_path, form):
    content = form(ENTRIES, NUMBERS)
    draw = random.Random(0)
    path = tmp_path / "weights.pth"
    outcomes = set()
    for _ in range(1000):
        damaged = bytearray(content)
        for _ in range(draw.randint(1, 3)):
            damaged[draw.randrange(len(damaged))] = draw.randrange(256)
        path.write_bytes(damaged)
        try:
            assert all(isinstance(value, np.ndarray) for value in read_tensors(path).values())
            outcomes.add("read")
        except CourseError:
            outcomes.add("refused")
    assert outcomes == {"read", "refused"}


def test_a_long_description_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(tensor_files, "LARGEST_PROGRAM", 20)
    assert "too long" in refused(tmp_path / "weights.pth", stream(ENTRIES, NUMBERS))


def test_a_large_file_is_refused_before_it_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(tensor_files, "LARGEST_FILE_BYTES", 100)
    assert "at most 100" in refused(tmp_path / "weights.pth", stream(ENTRIES, NUMBERS))


def test_what_is_not_a_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "none", tmp_path, tmp_path / "pipe"):
        with pytest.raises(CourseError, match=str(path)):
            read_tensors(path)
