"""The program of the process that decodes untrusted pictures; ``decoders`` starts it and kills it.

It reads pictures from its standard input and writes pixels to its standard output. A damaged or hostile file can harm
only this process: its memory, and its computing time for each picture, are limited; it can write no file, and, if the
kernel has Landlock, read no file but the program's own; and it ends with its parent. Its answers are bytes of known
length; nothing in them is evaluated.
"""

import io
import json
import os
import re
import signal
import struct
import sys
from contextlib import suppress
from typing import Any, Final

from keras_course.errors import CourseError
from keras_course.limits import confine, limit_further_cpu, restrict_files

REQUEST: Final = struct.Struct("<dBHQ")
"""Seconds of computing, whether a slow picture is decoded, bytes of the name, bytes of the picture."""
ANSWER: Final = struct.Struct("<BQ")
"""One of the kinds below, and the number of bytes that follow."""
PIXELS: Final = 0
ERROR: Final = 1
IS_SLOW: Final = 2
LONGEST_NAME: Final = 1000
LONGEST_ERROR: Final = 4000

FEW_PIXELS: Final = 13_000_000
"""The pixels of a phone's camera. A picture with more is slow, as is a JPEG whose scans have ten times as many."""
FEW_PARTS: Final = 200
"""The number of segments of a JPEG before its pixels, or of other chunks of a PNG; each can take milliseconds."""
FEW_PIXEL_CHUNKS: Final = 5000
_OPEN_FILES: Final = 64
_JPEG_START: Final = b"\xff\xd8"
_JPEG_SCAN: Final = b"\xff\xda"
_JPEG_MARKER: Final = re.compile(rb"\xff[^\x00\xff]", re.DOTALL)
_PLAIN_BMP: Final = (0, 3)
"""Uncompressed kinds of BMP; for the others, Pillow takes a step of Python for every few pixels."""


def is_slow(content: bytes) -> bool:
    """Returns True if decoding a picture may take more than some tenths of a second, as its head suggests."""
    from PIL import Image

    from keras_course.preprocessing.images import WEB_FORMATS

    if _has_many_parts(content):
        return True
    with suppress(Exception), Image.open(io.BytesIO(content), formats=WEB_FORMATS) as image:
        pixels = image.width * image.height
        scans = content.count(_JPEG_SCAN) if content.startswith(_JPEG_START) else 1
        return pixels > FEW_PIXELS or pixels * scans > 10 * FEW_PIXELS
    return False


def _has_many_parts(content: bytes) -> bool:
    if content.startswith(_JPEG_START):
        place = 2
        for _ in range(FEW_PARTS):
            marker = _JPEG_MARKER.search(content, place)
            if marker is None or marker[0] == _JPEG_SCAN:
                return False
            if marker.start() - place > FEW_PARTS:  # Python also skips the bytes between segments one by one
                return True
            place = marker.end() + int.from_bytes(content[marker.end() : marker.end() + 2], "big")
        return True
    if content.startswith(b"\x89PNG"):
        place, pixels, others = 8, 0, 0
        while place < len(content) and pixels <= FEW_PIXEL_CHUNKS and others <= FEW_PARTS:
            is_pixels = content[place + 4 : place + 8] == b"IDAT"
            pixels, others = pixels + is_pixels, others + (not is_pixels)
            place += 12 + int.from_bytes(content[place : place + 4], "big")
        return place < len(content)
    return content.startswith(b"BM") and int.from_bytes(content[30:34], "little") not in _PLAIN_BMP


def main() -> None:
    """Decodes pictures until the input ends; the settings are JSON in the first argument."""
    settings = json.loads(sys.argv[1])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which finishes its requests
    confine(parent=settings["parent"], memory_bytes=settings["memory_bytes"], file_bytes=0, open_files=_OPEN_FILES)
    if hasattr(os, "nice"):
        os.nice(settings["nice"])
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what a library prints must not get into the answers

    from keras_course.preprocessing import PictureFormat

    restrict_files((), ())
    picture_format, pixels = PictureFormat(**settings["picture_format"]), settings["pixels"]
    while head := requests.read(REQUEST.size):
        seconds, decode_slow, name_bytes, picture_bytes = REQUEST.unpack(head)
        limit_further_cpu(seconds)
        name = requests.read(name_bytes).decode("utf-8", "replace")
        kind, answer = _decode(requests.read(picture_bytes), name, picture_format, pixels, decode_slow)
        answers.writelines((ANSWER.pack(kind, len(answer)), answer))
        answers.flush()


def _decode(content: bytes, name: str, picture_format: Any, pixels: int, decode_slow: bool) -> tuple[int, bytes]:
    from keras_course.preprocessing.images import WEB_FORMATS, prepare

    if not decode_slow and is_slow(content):
        return IS_SLOW, b""
    try:
        found = prepare(content, picture_format, name=name, largest_pixels=pixels, formats=WEB_FORMATS)
        return PIXELS, found.tobytes()
    except CourseError as error:
        return ERROR, str(error).encode("utf-8", "replace")[:LONGEST_ERROR]
    except MemoryError:
        return ERROR, f"{name} takes too much memory to decode; give a smaller picture".encode()
