"""The exam of a model: photos whose classes only the grader knows, and the conditions to pass."""

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

__all__ = ["Exam", "Files", "check_data", "fingerprint"]

LEAST_RECALL: Final = 0.5
PARTS: Final = ("valid", "test")
BATCH_SIZE: Final = 32
_BATCH_BYTES: Final = 2**26


class Files(NamedTuple):
    """The files of an exam."""

    paths: tuple[Path, ...]  # n files
    labels: npt.NDArray[np.int32]  # (n,), indices into class_names
    names: tuple[str, ...]  # of the files, relative to the folder
    class_names: tuple[str, ...]  # sorted
    skipped: int  # the number of further files that are no photos

    def read(
        self, picture_format: PictureFormat, order: Sequence[int] | None = None, *, workers: int | None = None
    ) -> Iterator[list[tuple[int, npt.NDArray[np.uint8], str]]]:
        """Yields batches of decoded photos, so that they do not fill the memory: index, pixels and SHA-256 of each.

        Photos that cannot be read are left out. Raises a ``CourseError`` at the end if a class has no readable photo.
        """
        rows = range(len(self.paths)) if order is None else order
        size = max(1, min(BATCH_SIZE, _BATCH_BYTES // math.prod(picture_format.shape)))
        seen: set[int] = set()
        with ThreadPoolExecutor(min(workers or select.processors(), size)) as pool:
            for start in range(0, len(rows), size):
                some = rows[start : start + size]
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
        """Returns a hash of the photos and their classes, given the SHA-256 of each file by its index."""
        return fingerprint([hashes[row], self.class_names[self.labels[row]]] for row in hashes)


@dataclass(frozen=True, kw_only=True)
class Exam:
    """The photos of an exam, and the conditions to pass it.

    Args:
        folder: A folder with a folder of photos for each class, or with such folders in ``valid`` or ``test``.
        classes: The folders to use and their classes, see ``photo_folder.load_data``; None for all, by their names.
        parts: The parts to use, if the folder has parts such as ``train`` and ``valid``; else the whole folder is used.
        pass_mark: The accuracy needed to pass.
        least_recall: The recall needed for each class. Without it, a model that always gives the most frequent class
            could pass.

    Raises:
        CourseError: A number or a part is invalid.

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
        """Returns the files of the photos in the order of their names, without opening them.

        Raises:
            CourseError: Fewer than two classes have photos, or there is no such part.
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

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields that a grade records."""
        classes = self.classes
        return {
            "folder": Path(self.folder).name,
            "classes": dict(classes) if isinstance(classes, Mapping) else classes and list(classes),
            "parts": list(self.parts),
            "pass_mark": self.pass_mark,
            "least_recall": self.least_recall,
        }


def check_data(result: Mapping[str, Any], folder: str | Path) -> None:
    """Raises a ``CourseError`` if a result does not come from the photos in a folder."""
    try:
        exam = Exam(folder=folder, classes=result["exam"]["classes"], parts=result["exam"]["parts"])
        # older results call it pictures
        picture_format = PictureFormat(**result.get("picture_format", result.get("pictures")))
    except (KeyError, TypeError) as error:
        raise CourseError(f"the result does not say how its photos were chosen: {error}") from None
    files = exam.open()
    hashes = {row: sha256 for batch in files.read(picture_format) for row, _, sha256 in batch}
    if files.sha256(hashes) != result.get("data_sha256"):
        raise CourseError(
            f"the result is not that of the photos in {folder}: the photos or their classes are different"
        )


def fingerprint(rows: Iterable[Sequence[str]]) -> str:
    """Returns a hash (64 hexadecimal digits) of rows of words, independent of the order of the rows."""
    # escaped, so that a line break in a name does not begin another row
    lines = sorted(" ".join(word.replace("\\", "\\\\").replace("\n", "\\n") for word in row) for row in rows)
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()
