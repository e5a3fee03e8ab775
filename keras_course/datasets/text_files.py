"""Reads the lines of text files and the rows of tables that are not trusted, with memory for one line at a time."""

import csv
import itertools
from collections.abc import Generator
from contextlib import closing
from pathlib import Path
from typing import IO, Final

from keras_course.errors import CourseError, reason_of
from keras_course.foreign_text import printable

LARGEST_LINE_BYTES: Final = 2**20

_DELIMITERS: Final = {".csv": ",", ".tsv": "\t"}
TABLE_ENDINGS: Final = tuple(_DELIMITERS)


def lines(file: IO[bytes], path: Path) -> Generator[str, None, None]:
    """Yields the lines of a file in UTF-8 with their ends.

    Raises a CourseError for a line that is too long, is no UTF-8 or has a NUL byte. ``path`` is for messages.
    """
    for number in itertools.count(1):
        line = file.readline(LARGEST_LINE_BYTES + 1)
        if not line:
            return
        try:
            text = _decoded(line)
        except CourseError as error:
            raise CourseError(f"{shown(path)}, line {number:,}, {error}") from None
        yield text.removeprefix("\ufeff") if number == 1 else text


def _decoded(line: bytes) -> str:
    if len(line) > LARGEST_LINE_BYTES:
        raise CourseError(f"has more than {LARGEST_LINE_BYTES:,} bytes; put each sentence into a line")
    if b"\0" in line:
        raise CourseError("has a NUL byte, as binary files and UTF-16 have; save it as text in UTF-8")
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        byte = line[error.start]
        raise CourseError(f"is no UTF-8: byte 0x{byte:02x} at {error.start}; save it as UTF-8") from None


def table_rows(file: IO[bytes], path: Path) -> Generator[tuple[int, list[str]], None, None]:
    """Yields the rows of a CSV or TSV file (its ending says which) and the number of their last lines; no empty ones.

    A field may have several lines, and at most ``csv.field_size_limit()`` characters.
    """
    with closing(lines(file, path)) as found:
        rows = csv.reader(found, delimiter=_DELIMITERS[path.suffix.lower()], strict=True)
        try:
            for row in rows:
                if row or rows.line_num == 1:
                    yield rows.line_num, row
        except csv.Error as error:
            raise CourseError(
                f"{shown(path)}, line {rows.line_num:,}, cannot be read as CSV: {reason_of(error)}; save it again"
            ) from error


def shown(path: Path) -> str:
    """Returns a path as it may be printed."""
    return printable(str(path))
