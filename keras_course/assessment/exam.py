"""What a model is examined with: photos whose classes the grader alone knows, and what it takes to pass."""

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import repeat
from numbers import Real
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from keras_course._backend import select
from keras_course.assessment import PASS_MARK
from keras_course.datasets import photo_folder
from keras_course.errors import CourseError
from keras_course.foreign_text import printable
from keras_course.preprocessing import PictureFormat

__all__ = ["Exam", "Files", "Photos", "fingerprint"]

LEAST_RECALL: Final = 0.5
PARTS: Final = ("valid", "test")
BATCH_SIZE: Final = 32
_BATCH_BYTES: Final = 2**26


class Photos(NamedTuple):
    """Photos of an exam, prepared for one model.

    Args:
        pictures: uint8 (n, height, width, channels).
        labels: int32 (n,), places in ``class_names``.
        names: The n files, below the folder.
        class_names: What the labels mean, sorted.
        skipped: How many files could not be read.
        sha256: Of the files and their classes: that of another exam is another one.
    """

    pictures: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int32]
    names: tuple[str, ...]
    class_names: tuple[str, ...]
    skipped: int
    sha256: str


class Files(NamedTuple):
    """The files of an exam.

    Args:
        paths: The n files.
        labels: int32 (n,), places in ``class_names``.
        names: Their names, below the folder.
        class_names: What the labels mean, sorted.
        skipped: How many further files are no photos.
    """

    paths: tuple[Path, ...]
    labels: npt.NDArray[np.int32]
    names: tuple[str, ...]
    class_names: tuple[str, ...]
    skipped: int

    def read(
        self, picture_format: PictureFormat, order: Sequence[int] | None = None, *, workers: int | None = None
    ) -> Iterator[list[tuple[int, npt.NDArray[np.uint8], str]]]:
        """Decodes the photos, a batch at a time, so that they never fill the memory.

        Args:
            picture_format: What the model takes.
            order: In which order; without it, that of their names.
            workers: Threads that decode; without it, as many as there are cores for this process.

        Yields:
            For each photo that can be read its place, its pixels, and the SHA-256 of its file.

        Raises:
            CourseError: At the end, where a class has no photo that can be read.
        """
        places = range(len(self.paths)) if order is None else order
        size = max(1, min(BATCH_SIZE, _BATCH_BYTES // math.prod(picture_format.shape)))
        seen: set[int] = set()
        with ThreadPoolExecutor(min(workers or select.processors(), size)) as pool:
            for start in range(0, len(places), size):
                some = places[start : start + size]
                decoded = pool.map(photo_folder.decode, [self.paths[row] for row in some], repeat(picture_format))
                batch = [
                    (row, pixels, sha256)
                    for row, (pixels, sha256, _) in zip(some, decoded, strict=True)
                    if pixels is not None
                ]
                seen.update(int(self.labels[row]) for row, _, _ in batch)
                if batch:
                    yield batch
        if lacking := set(range(len(self.class_names))) - seen:
            name = printable(self.class_names[min(lacking)])
            raise CourseError(f"class {name!r} of the exam has no photo that can be read; add some, or leave it out")

    def sha256(self, hashes: Mapping[int, str]) -> str:
        """Gives one name to the photos and what they show, whatever the files are called.

        Args:
            hashes: The SHA-256 of the file of each photo that can be read, by its place.

        Returns:
            64 hexadecimal digits.
        """
        return fingerprint([hashes[row], self.class_names[self.labels[row]]] for row in hashes)


@dataclass(frozen=True, kw_only=True)
class Exam:
    """An exam.

    Args:
        folder: A folder with a folder of photos for each class, or with such folders in ``valid`` or ``test``.
        classes: Which folders are which classes, as for ``photo_folder.load_data``; None for all, by their names.
        parts: Of a folder that has parts, such as ``train`` and ``valid``, those to examine with; a folder without
            parts is taken as a whole.
        pass_mark: The share of right answers from which an exam is passed.
        least_recall: The share of each class that has to be right, too. Whoever always gives the same answer is right
            often where one class has most of the photos, and still has not passed.

    Raises:
        CourseError: A number or a part makes no sense.

    Example:
        >>> Exam(folder="photos", pass_mark=92)
        Traceback (most recent call last):
        ...
        keras_course.errors.CourseError: pass_mark is 92; give a share from 0 to 1
    """

    folder: str | Path
    classes: Sequence[str] | Mapping[str, str] | None = None
    parts: Sequence[str] = ("valid",)
    pass_mark: float = PASS_MARK
    least_recall: float = LEAST_RECALL

    def __post_init__(self) -> None:
        for name in ("pass_mark", "least_recall"):
            share = getattr(self, name)
            if not isinstance(share, Real) or not 0 <= float(share) <= 1:
                raise CourseError(f"{name} is {share!r}; give a share from 0 to 1")
        if not self.parts or not set(self.parts) <= set(PARTS):
            raise CourseError(f"parts is {self.parts!r}; give some of {', '.join(PARTS)}")

    def open(self) -> "Files":
        """Finds the photos, and opens none of them.

        Returns:
            The files, in the order of their names.

        Raises:
            CourseError: There are not at least two classes with photos, or no such part.
        """
        whole = Path(self.folder).expanduser()
        found, class_names, skipped = photo_folder.find_photos(whole, classes=self.classes, parts=self.parts)
        rows = sorted((path.relative_to(whole).as_posix(), class_name, path) for path, class_name in found)
        return Files(
            tuple(path for _, _, path in rows),
            np.array([class_names.index(class_name) for _, class_name, _ in rows], "int32"),
            tuple(name for name, _, _ in rows),
            class_names,
            len(skipped),
        )

    def photos(self, picture_format: PictureFormat) -> Photos:
        """Reads the photos. They are decoded anew each time: what is kept of them could be changed by others.

        Args:
            picture_format: What the model takes.

        Returns:
            The photos, in the order of their names.

        Raises:
            CourseError: There are not at least two classes with photos that can be read, or no such part.
        """
        files = self.open()
        rows = {row: (pixels, sha256) for batch in files.read(picture_format) for row, pixels, sha256 in batch}
        found = sorted(rows)
        hashes = {row: sha256 for row, (_, sha256) in rows.items()}
        return Photos(
            np.stack([rows[row][0] for row in found]),
            files.labels[found],
            tuple(files.names[row] for row in found),
            files.class_names,
            files.skipped + len(files.names) - len(found),
            files.sha256(hashes),
        )

    def to_dict(self) -> dict[str, Any]:
        """Says what a grade records of it."""
        classes = self.classes
        return {
            "folder": Path(self.folder).name,
            "classes": dict(classes) if isinstance(classes, Mapping) else classes and list(classes),
            "parts": list(self.parts),
            "pass_mark": self.pass_mark,
            "least_recall": self.least_recall,
        }


def check_data(result: Mapping[str, Any], folder: str | Path) -> None:
    """Makes sure that a result comes from the photos in a folder.

    Args:
        result: The fields of a result.
        folder: The folder of the exam.

    Raises:
        CourseError: They are other photos, or other classes of them; or the result is that of no exam that was held.
    """
    try:
        exam = Exam(folder=folder, classes=result["exam"]["classes"], parts=result["exam"]["parts"])
        # older results call it pictures
        picture_format = PictureFormat(**result.get("picture_format", result.get("pictures")))
    except (KeyError, TypeError) as error:
        raise CourseError(f"the result does not say how its photos were chosen: {error}") from None
    if exam.photos(picture_format).sha256 != result.get("data_sha256"):
        raise CourseError(f"the result is not that of the photos in {folder}: they are others, or of other classes")


def fingerprint(rows: Iterable[Sequence[str]]) -> str:
    r"""Gives one name to lines of words, in whatever order; other lines have another one.

    Args:
        rows: The words of each line.

    Returns:
        64 hexadecimal digits.

    Example:
        >>> fingerprint([["a", "b"], ["c", "d"]]) == fingerprint([["c", "d"], ["a", "b"]])
        True
        >>> fingerprint([["a", "b\nc d"]]) == fingerprint([["a", "b"], ["c", "d"]])
        False
    """
    # no name can be taken for the end of a line
    lines = sorted(" ".join(word.replace("\\", "\\\\").replace("\n", "\\n") for word in row) for row in rows)
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()
