"""A process that decodes pictures of strangers and does nothing else; ``decoders`` starts it, feeds it and kills it.

Its standard input brings pictures, one after the other, and its standard output takes the pixels away. What a damaged
or hostile file does to a decoder it does to this process alone: its memory and its computing for each picture are
limited, it can write no file, and read none but the program's own where the kernel has Landlock, and it ends with its
parent. Its answers are plain bytes whose length is known; nothing in them is evaluated.
"""

import io
import json
import os
import re
import signal
import struct
import sys
from contextlib import suppress
from typing import IO, Any, Final

from keras_course.errors import CourseError
from keras_course.limits import confine, limit_further_cpu, restrict_files

QUESTION: Final = struct.Struct("<dBHQ")
"""Seconds of computing, whether a picture that takes long is decoded, bytes of its name, bytes of the picture."""
ANSWER: Final = struct.Struct("<BQ")
"""One of the kinds below, and how many bytes follow."""
PIXELS: Final = 0
ERROR: Final = 1
TAKES_LONG: Final = 2
LONGEST_NAME: Final = 1000
LONGEST_ERROR: Final = 4000

FEW_PIXELS: Final = 13_000_000
"""A phone's camera. What has more takes long, as does a JPEG whose scans together have ten times as many."""
FEW_PARTS: Final = 200
"""Segments of a JPEG before its pixels, or chunks of a PNG besides them; each can be made to take milliseconds."""
FEW_PIXEL_CHUNKS: Final = 5000
_OPEN_FILES: Final = 64
_JPEG_START: Final = b"\xff\xd8"
_JPEG_SCAN: Final = b"\xff\xda"
_JPEG_MARKER: Final = re.compile(rb"\xff[^\x00\xff]", re.DOTALL)
_PLAIN_BMP: Final = (0, 3)
"""Not compressed; what is takes Pillow a step of Python for every few pixels."""


def takes_long(content: bytes) -> bool:
    r"""Says from the head of a picture, without decoding it, whether it may take more than some tenths of a second.

    Args:
        content: The bytes of a file.

    Returns:
        True if it is large, or of so many parts that it is no usual picture. What cannot be read takes no time.

    Example:
        >>> takes_long(b"no picture"), takes_long(b"\xff\xd8" + 300 * b"\xff\xfe\x00\x02")
        (False, True)
    """
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
            if marker.start() - place > FEW_PARTS:  # what is between segments is skipped in steps of Python, too
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
    """Answers until the input ends; the settings are JSON in the first argument."""
    settings = json.loads(sys.argv[1])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which finishes what is under way
    confine(parent=settings["parent"], memory_bytes=settings["memory_bytes"], file_bytes=0, open_files=_OPEN_FILES)
    if hasattr(os, "nice"):
        os.nice(settings["nice"])
    questions, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what a library prints must not get between the answers

    from keras_course.preprocessing import PictureFormat

    restrict_files((), ())
    picture_format, pixels = PictureFormat(**settings["picture_format"]), settings["pixels"]
    while head := questions.read(QUESTION.size):
        seconds, may_take_long, name_bytes, picture_bytes = QUESTION.unpack(head)
        limit_further_cpu(seconds)
        name = questions.read(name_bytes).decode("utf-8", "replace")
        kind, answer = _decode(questions.read(picture_bytes), name, picture_format, pixels, may_take_long)
        _say(answers, kind, answer)


def _decode(content: bytes, name: str, picture_format: Any, pixels: int, may_take_long: bool) -> tuple[int, bytes]:
    from keras_course.preprocessing.images import WEB_FORMATS, prepare

    if not may_take_long and takes_long(content):
        return TAKES_LONG, b""
    try:
        found = prepare(content, picture_format, name=name, largest_pixels=pixels, formats=WEB_FORMATS)
        return PIXELS, found.tobytes()
    except CourseError as error:
        return ERROR, str(error).encode("utf-8", "replace")[:LONGEST_ERROR]
    except MemoryError:
        return ERROR, f"{name} takes too much memory to decode; give a smaller picture".encode()


def _say(answers: IO[bytes], kind: int, answer: bytes) -> None:
    answers.write(ANSWER.pack(kind, len(answer)))
    answers.write(answer)
    answers.flush()
