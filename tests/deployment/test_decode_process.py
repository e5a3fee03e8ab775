"""The program that decodes untrusted pictures: which pictures it calls slow, and what it answers."""

import io
import json
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from keras_course.deployment import decode_process
from keras_course.deployment.decode_process import ANSWER, ERROR, IS_SLOW, LONGEST_ERROR, PIXELS, REQUEST, is_slow
from keras_course.preprocessing import PictureFormat, images, prepare

ROOT = Path(__file__).parents[2]
COLOR = PictureFormat(height=20, width=30, channels=3)
MOST_PIXELS = 25_000_000


def file_of(image, kind="PNG", **settings):
    file = io.BytesIO()
    image.save(file, kind, **settings)
    return file.getvalue()


def chunk(name, content=b""):
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype="uint8"))
PNG, JPEG, BMP = (file_of(NOISE, kind) for kind in ("PNG", "JPEG", "BMP"))


def with_pixels_in(count):
    """Returns a PNG file of 6000 × 1 pixels whose pixels are in so many chunks."""
    flat = zlib.compress(bytes(6001), 0)
    parts = [flat[start : start + 1] for start in range(count - 1)] + [flat[count - 1 :]]
    head = struct.pack(">IIBBBBB", 6000, 1, 8, 0, 0, 0, 0)
    return PNG[:8] + chunk(b"IHDR", head) + b"".join(chunk(b"IDAT", part) for part in parts) + chunk(b"IEND")


@pytest.mark.parametrize(
    ("count", "slow"),
    [(1, False), (decode_process.FEW_PIXEL_CHUNKS, False), (decode_process.FEW_PIXEL_CHUNKS + 1, True)],
)
def test_a_png_in_thousands_of_chunks_of_pixels_is_slow(count, slow):
    content = with_pixels_in(count)
    assert Image.open(io.BytesIO(content)).size == (6000, 1)
    assert is_slow(content) == slow


@pytest.mark.parametrize(("count", "slow"), [(0, False), (190, False), (300, True)])
def test_a_png_with_hundreds_of_chunks_of_text_is_slow(count, slow):
    content = PNG[:33] + count * chunk(b"tEXt", b"title\0a picture") + PNG[33:]
    assert is_slow(content) == slow


@pytest.mark.parametrize(("count", "slow"), [(0, False), (100, False), (300, True)])
def test_a_jpeg_with_hundreds_of_comments_is_slow(count, slow):
    content = JPEG[:2] + count * b"\xff\xfe\x00\x03a" + JPEG[2:]
    assert Image.open(io.BytesIO(content)).size == (50, 40)
    assert is_slow(content) == slow


@pytest.mark.parametrize(("count", "slow"), [(0, False), (150, False), (250, True)])
def test_a_jpeg_with_hundreds_of_bytes_between_segments_is_slow(count, slow):
    assert is_slow(JPEG[:2] + bytes(count) + JPEG[2:]) == slow


def test_a_jpeg_without_pixels_is_not_slow():
    assert not is_slow(b"\xff\xd8\xff\xfe\x00\x02")


def test_a_jpeg_is_slow_if_all_its_scans_together_have_many_pixels():
    progressive = file_of(Image.new("L", (4000, 3000)), "JPEG", progressive=True)
    scans = progressive.count(b"\xff\xda")
    assert scans > 1
    assert not is_slow(progressive), f"{scans} scans of 12 million pixels"
    assert is_slow(progressive + 20 * b"\xff\xda\x00\x02")


@pytest.mark.parametrize(("size", "slow"), [((3600, 3600), False), ((3700, 3600), True)])
def test_a_picture_with_more_pixels_than_a_phone_takes_is_slow(size, slow):
    assert is_slow(file_of(Image.new("1", size))) == slow


@pytest.mark.parametrize(("compression", "slow"), [(0, False), (3, False), (1, True), (2, True), (4, True)])
def test_a_compressed_bmp_is_slow(compression, slow):
    """The kinds are 0 for none, 1 and 2 for run lengths, 3 for bit fields, 4 for JPEG."""
    assert is_slow(BMP[:30] + struct.pack("<I", compression) + BMP[34:]) == slow


def test_pixels_equal_preprocessing():
    kind, answer = decode_process._decode(JPEG, "x", COLOR, MOST_PIXELS, False)
    assert kind == PIXELS
    np.testing.assert_array_equal(np.frombuffer(answer, "uint8").reshape(20, 30, 3), prepare(JPEG, COLOR))


def test_a_slow_picture_is_decoded_only_where_that_is_wanted():
    content = with_pixels_in(decode_process.FEW_PIXEL_CHUNKS + 1)
    assert decode_process._decode(content, "x", COLOR, MOST_PIXELS, False) == (IS_SLOW, b"")
    assert decode_process._decode(content, "x", COLOR, MOST_PIXELS, True) == (PIXELS, bytes(20 * 30 * 3))


@pytest.mark.parametrize(
    ("content", "pixels", "message"),
    [
        (PNG[:-3000], 2000, "cat.png cannot be read as a picture"),
        (b"no picture", 2000, "cat.png cannot be read as a picture: it is none of JPEG, PNG, WEBP, BMP"),
        (PNG, 1999, "cat.png has 50 × 40 pixels; give a picture of at most 1,999 pixels"),
    ],
)
def test_a_picture_that_cannot_be_decoded_is_explained(content, pixels, message):
    kind, answer = decode_process._decode(content, "cat.png", COLOR, pixels, True)
    assert kind == ERROR
    assert message in answer.decode()


def test_an_error_is_cut_to_the_length_that_the_parent_reads():
    name = "ä" * LONGEST_ERROR
    kind, answer = decode_process._decode(b"", name, COLOR, MOST_PIXELS, True)
    assert (kind, len(answer)) == (ERROR, LONGEST_ERROR)


def test_too_little_memory_is_explained(monkeypatch):
    def prepare(*arguments, **settings):
        raise MemoryError

    monkeypatch.setattr(images, "prepare", prepare)
    expected = b"cat.png takes too much memory to decode; give a smaller picture"
    assert decode_process._decode(PNG, "cat.png", COLOR, MOST_PIXELS, True) == (ERROR, expected)


# The limits, which test_decoders.py tests, also keep coverage from saving what it measured. Here they are recorded.
PROGRAM = """
import sys
from keras_course.deployment import decode_process

def recorded(name):
    return lambda *arguments, **settings: print(name, *arguments, settings, file=sys.stderr, flush=True)

for name in ("confine", "restrict_files", "limit_further_cpu"):
    setattr(decode_process, name, recorded(name))
decode_process.main()
print("a library prints")
"""


def test_the_program_limits_itself_decodes_one_picture_after_the_other_and_ends_with_its_input():
    settings = {"parent": os.getpid(), "picture_format": COLOR.to_dict(), "pixels": MOST_PIXELS}
    settings |= {"memory_bytes": 2**29, "nice": 1}
    requests = [(5.0, False, "holiday.jpg", JPEG), (0.5, False, "bad.png", b"x"), (2.0, True, "again.png", PNG)]
    message = b""
    for seconds, decode_slow, name, content in requests:
        message += REQUEST.pack(seconds, decode_slow, len(name), len(content)) + name.encode() + content
    command = [sys.executable, "-P", "-c", PROGRAM, json.dumps(settings)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, input=message, capture_output=True, env=environment, timeout=60)

    assert done.returncode == 0, done.stderr
    answers, place = [], 0
    while place < len(done.stdout):
        kind, count = ANSWER.unpack_from(done.stdout, place)
        place += ANSWER.size
        answers.append((kind, done.stdout[place : place + count]))
        place += count
    assert [kind for kind, _ in answers] == [PIXELS, ERROR, PIXELS], "what a library prints is not among them"
    assert answers[0][1] == prepare(JPEG, COLOR).tobytes()
    assert answers[1][1].startswith(b"bad.png cannot be read as a picture")
    assert answers[2][1] == prepare(PNG, COLOR).tobytes()
    limits = {"parent": os.getpid(), "memory_bytes": 2**29, "file_bytes": 0, "open_files": 64}
    assert done.stderr.decode().splitlines() == [
        f"confine {limits}",
        "restrict_files () () {}",
        *(f"limit_further_cpu {seconds} {{}}" for seconds in (5.0, 0.5, 2.0)),
    ]
