"""A process that decodes pictures of strangers and does nothing else; ``decoders`` starts it, feeds it and kills it.

Its standard input brings pictures, one after the other, and its standard output takes the pixels away. What a damaged
or hostile file does to a decoder it does to this process alone: its memory and its computing for each picture are
limited, it can write no file, and it ends with its parent. Its answers are plain bytes whose length is known; nothing
in them is evaluated.
"""

import io
import json
import os
import signal
import struct
import sys
from contextlib import suppress
from typing import IO, Any, Final

from keras_course.errors import CourseError
from keras_course.limits import confine, limit_further_cpu

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
_OPEN_FILES: Final = 64


def takes_long(content: bytes) -> bool:
    """Says from the head of a picture, without decoding it, whether it takes more than some tenths of a second.

    Args:
        content: The bytes of a file.

    Returns:
        True if it is large. What cannot be read takes no time.

    Example:
        >>> takes_long(b"no picture")
        False
    """
    from PIL import Image

    from keras_course.preprocessing.images import PICTURE_FORMATS

    with suppress(Exception), Image.open(io.BytesIO(content), formats=PICTURE_FORMATS) as image:
        pixels = image.width * image.height
        return pixels > FEW_PIXELS or pixels * content.count(b"\xff\xda") > 10 * FEW_PIXELS
    return False


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

    picture_format, pixels = PictureFormat(**settings["pictures"]), settings["pixels"]
    while head := questions.read(QUESTION.size):
        seconds, may_take_long, name_bytes, picture_bytes = QUESTION.unpack(head)
        limit_further_cpu(seconds)
        name = questions.read(name_bytes).decode("utf-8", "replace")
        kind, answer = _decode(questions.read(picture_bytes), name, picture_format, pixels, may_take_long)
        _say(answers, kind, answer)


def _decode(content: bytes, name: str, picture_format: Any, pixels: int, may_take_long: bool) -> tuple[int, bytes]:
    from keras_course.preprocessing import prepare

    if not may_take_long and takes_long(content):
        return TAKES_LONG, b""
    try:
        return PIXELS, prepare(content, picture_format, name=name, largest_pixels=pixels).tobytes()
    except CourseError as error:
        return ERROR, str(error).encode("utf-8", "replace")[:LONGEST_ERROR]
    except MemoryError:
        return ERROR, f"{name} takes too much memory to decode; give a smaller picture".encode()


def _say(answers: IO[bytes], kind: int, answer: bytes) -> None:
    answers.write(ANSWER.pack(kind, len(answer)))
    answers.write(answer)
    answers.flush()
