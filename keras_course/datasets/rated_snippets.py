"""Short texts with a rating of their sentiment: those of VADER's authors, or those of your CSV file.

Twenty people have rated each sentence of movie reviews, product reviews, newspaper editorials and tweets from -4 to 4.
The sentences are in the source archive of the Python package ``vaderSentiment``, which the package index has; nothing
of it is run or installed.

Origin: C. J. Hutto and E. Gilbert, "VADER: a parsimonious rule-based model for sentiment analysis of social media
text", 2014; https://pypi.org/project/vaderSentiment.
License: MIT, as the package says. The sentences themselves are their authors'; this project contains none of them.
"""

import html
import io
import re
import tarfile
import zlib
from collections.abc import Generator
from contextlib import closing
from pathlib import Path
from typing import IO, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from keras_course import randomness
from keras_course.arguments import is_number
from keras_course.datasets import arrays
from keras_course.datasets.download import fetch
from keras_course.datasets.folders import names_of
from keras_course.datasets.text_files import TABLE_ENDINGS, lines, shown, table_rows
from keras_course.errors import CourseError, check_positive, reason_of
from keras_course.files import sha256_of
from keras_course.foreign_text import printable

__all__ = ["KINDS", "Snippets", "balanced", "describe", "load_data", "locate"]

KINDS: Final = {
    "movies": "movieReviewSnippets_GroundTruth.txt",
    "products": "amazonReviewSnippets_GroundTruth.txt",
    "editorials": "nytEditorialSnippets_GroundTruth.txt",
    "tweets": "tweets_GroundTruth.txt",
}
"""The kinds of texts, and their files in the archive."""

FILE_NAME: Final = "vaderSentiment-3.3.2.tar.gz"
SHA256: Final = "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9"
SOURCES: Final = (
    "https://files.pythonhosted.org/packages/77/8c/"
    f"4a48c10a50f750ae565e341e697d74a38075a3e43ff0df6f1ab72e186902/{FILE_NAME}",
)
_INNER: Final = "additional_resources/hutto_ICWSM_2014.tar.gz"
_LARGEST_ARCHIVE_BYTES: Final = 2**24
_LARGEST_UNPACKED_BYTES: Final = 2**26
LARGEST_COUNT: Final = 200_000


class Snippets(NamedTuple):
    """Texts with their ratings.

    Args:
        texts: The texts, each in one line.
        ratings: float32 ``(n,)``: above 0 if a text is positive, below 0 if it is negative.
        groups: int64 ``(n,)``: the review or article that a text comes from; equal texts have the same number, too.
    """

    texts: list[str]
    ratings: npt.NDArray[np.float32]
    groups: npt.NDArray[np.int64]


def load_data(
    source: str | Path = "auto", *, kind: str = "movies", least: float = 0.0, cache: str | Path | None = None
) -> Snippets:
    """Loads texts with their ratings.

    Args:
        source: One of

            - ``"auto"``, ``"full"`` or ``"sample"``: the archive in ``KERAS_COURSE_DATA`` or the cache; else it is
              downloaded, 2.4 MB;
            - a path: such an archive, or a ``.csv`` or ``.tsv`` file in UTF-8 with the columns ``text`` and ``rating``,
              and ``group`` if several texts come from one.
        kind: Which texts of the archive: ``movies``, ``products``, ``editorials`` or ``tweets``.
        least: Texts with ratings nearer to 0 are left out, and so are those with 0.
        cache: The cache folder; by default ``KERAS_COURSE_CACHE`` or the user's cache folder.

    Returns:
        Texts, ratings and groups, in the order of the file.

    Raises:
        CourseError: There is no such file, kind or column; the download fails; a rating is no number; a line is too
            long, is no UTF-8 or has a NUL byte; or no text is left.

    Example:
        >>> load_data("reviews.txt")
        Traceback (most recent call last):
        ...
        keras_course.errors.CourseError: reviews.txt is no .csv, .tsv or .tar.gz file; give one

    Source: https://pypi.org/project/vaderSentiment
    """
    if kind not in KINDS:
        raise CourseError(f"kind is {kind!r}; give one of {', '.join(KINDS)}")
    if not is_number(least) or not 0 <= least < np.inf:
        raise CourseError(f"least is {least!r}; give a number from 0 up")
    path = locate(source, cache=cache)
    texts, ratings, groups = list[str](), list[float](), list[str]()
    try:
        with path.open("rb") as file:
            rows = _table(file, path) if path.suffix.lower() in TABLE_ENDINGS else _archive(file, path, KINDS[kind])
            with closing(rows):
                for text, rating, group in rows:
                    if text and rating and abs(rating) >= least:
                        texts.append(text)
                        ratings.append(rating)
                        groups.append(group)
                    if len(texts) > LARGEST_COUNT:
                        raise CourseError(f"{shown(path)} has more than {LARGEST_COUNT:,} texts; give fewer")
    except (OSError, EOFError, tarfile.TarError, zlib.error) as error:
        raise CourseError(f"{shown(path)} cannot be read: {reason_of(error)}") from error
    if not texts:
        raise CourseError(f"{shown(path)} has no texts with ratings from {least} up, or from -{least} down")
    return Snippets(texts, np.array(ratings, "float32"), _group_numbers(texts, groups))


def locate(source: str | Path = "auto", *, cache: str | Path | None = None) -> Path:
    """Returns the path of the file that ``load_data`` reads, after downloading it if it is not there.

    Args:
        source: ``"auto"``, ``"full"``, ``"sample"`` or a path, see ``load_data``.
        cache: The cache folder; by default ``KERAS_COURSE_CACHE`` or the user's cache folder.

    Returns:
        The file.

    Raises:
        CourseError: There is no such file, or the download fails.

    Example:
        >>> locate("no_such_file.csv")
        Traceback (most recent call last):
        ...
        keras_course.errors.CourseError: there is no file no_such_file.csv; give the path of one
    """
    if source in ("auto", "full", "sample"):
        found = next((path for path in arrays.places(FILE_NAME, cache) if path.is_file()), None)
        if found is not None and sha256_of(found) == SHA256:
            return found
        try:
            return fetch(FILE_NAME, SOURCES, SHA256, arrays.cache_folder(cache), largest=_LARGEST_ARCHIVE_BYTES)
        except CourseError as error:
            raise CourseError(f"{error}; give a table of texts and ratings by its path instead") from error
    path = Path(source).expanduser()
    if path.suffix.lower() not in TABLE_ENDINGS and not path.name.lower().endswith(".tar.gz"):
        raise CourseError(f"{shown(path)} is no .csv, .tsv or .tar.gz file; give one")
    if not path.is_file():  # opening a pipe would block
        raise CourseError(f"there is no file {shown(path)}; give the path of one")
    return path


def describe(path: str | Path, kind: str = "movies") -> str:
    """Describes in a few words the texts that ``locate`` found.

    Args:
        path: The result of ``locate``.
        kind: The kind of the texts of an archive.

    Returns:
        A description, or the name of a table.

    Example:
        >>> describe("my/reviews.csv")
        'reviews.csv'
    """
    name = Path(path).name
    return f"rated sentences of VADER's authors ({kind})" if name.endswith(".tar.gz") else name


def balanced(snippets: Snippets, *, per_class: int, seed: int = 0) -> Snippets:
    """Draws as many positive as negative texts.

    Args:
        snippets: Texts with ratings.
        per_class: Largest number of texts of each class; fewer if there are not so many.
        seed: Random seed.

    Returns:
        Some of the texts, in their order.

    Raises:
        CourseError: One of the classes has no texts, or the number is not positive.

    Example:
        >>> snippets = Snippets(["good", "bad", "great"], np.array([2, -2, 3], "float32"), np.array([0, 1, 2]))
        >>> balanced(snippets, per_class=5).texts
        ['good', 'bad']
    """
    check_positive(per_class=per_class)
    classes = [np.flatnonzero(snippets.ratings < 0), np.flatnonzero(snippets.ratings > 0)]
    count = min(per_class, *map(len, classes))
    if not count:
        raise CourseError("all texts are positive, or all are negative; give some of both")
    keys = [randomness.stream_key(seed, "rated_snippets", name) for name in ("negative", "positive")]
    drawn = [
        places[randomness.permutation(key, len(places))[:count]] for places, key in zip(classes, keys, strict=True)
    ]
    kept = np.sort(np.concatenate(drawn))
    return Snippets([snippets.texts[place] for place in kept], snippets.ratings[kept], snippets.groups[kept])


def _table(file: IO[bytes], path: Path) -> Generator[tuple[str, float, str], None, None]:
    """Yields the text, the rating and the group of each row of a table."""
    with closing(table_rows(file, path)) as rows:
        header = [name.strip().lower() for name in next(rows, (1, []))[1]]
        for name in ("text", "rating"):
            if name not in header:
                there = names_of(header) if any(header) else "no columns"
                raise CourseError(f"{shown(path)} has no column {name!r}; it has {there}")
        places = [header.index(name) if name in header else None for name in ("text", "rating", "group")]
        for number, row in rows:
            text, rating, group = ("" if place is None or place >= len(row) else row[place] for place in places)
            yield " ".join(text.split()), _rating(rating, path, number), group


def _archive(file: IO[bytes], path: Path, name: str) -> Generator[tuple[str, float, str], None, None]:
    """Yields the text, the rating and the group of each line of a file in the archive within VADER's archive."""
    with (
        tarfile.open(fileobj=file, mode="r:gz") as outer,
        _member(outer, path, _INNER) as packed,
        tarfile.open(fileobj=packed, mode="r:gz") as inner,
        _member(inner, path, name) as content,
        closing(lines(content, path)) as found,
    ):
        for number, line in enumerate(found, start=1):
            parts = line.rstrip("\r\n").split("\t", 2)
            if len(parts) == 3:
                place, rating, text = parts
                yield " ".join(html.unescape(text).split()), _rating(rating, path, number), place.partition("_")[0]


def _member(archive: tarfile.TarFile, path: Path, name: str) -> IO[bytes]:
    """Returns the content of a file in an archive, with limits on what is unpacked to find it."""
    unpacked = 0
    for member in archive:
        unpacked += member.size
        if unpacked > _LARGEST_UNPACKED_BYTES:
            break
        if member.isfile() and f"/{member.name}".endswith(f"/{name}"):
            content = archive.extractfile(member)
            assert content is not None
            return io.BytesIO(content.read())
    raise CourseError(f"{shown(path)} has no {name}; give the source archive of vaderSentiment 3.3.2")


def _rating(value: str, path: Path, line: int) -> float:
    try:
        rating = float(value)
        if abs(rating) < np.inf:
            return rating
    except ValueError:
        pass
    raise CourseError(f"{shown(path)}, line {line:,}, has the rating {printable(value)!r:.40}; give a finite number")


def _group_numbers(texts: list[str], groups: list[str]) -> npt.NDArray[np.int64]:
    """Numbers the groups; texts that are equal but for case and marks, and texts without a group, join by their words.

    Two groups that share a text become one.
    """
    parent: dict[tuple[str, str], tuple[str, str]] = {}

    def root(name: tuple[str, str]) -> tuple[str, str]:
        while parent.setdefault(name, name) != name:
            parent[name] = name = parent[parent[name]]
        return name

    names = [("text", " ".join(re.findall(r"\w+", text.casefold())) or text) for text in texts]
    for name, group in zip(names, groups, strict=True):
        if group:
            parent[root(name)] = root(("group", group))
    numbers: dict[tuple[str, str], int] = {}
    return np.array([numbers.setdefault(root(name), len(numbers)) for name in names], "int64")
