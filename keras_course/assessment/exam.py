"""What a model is examined with: photos whose classes the grader alone knows, and what it takes to pass."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from operator import itemgetter
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from keras_course.assessment import PASS_MARK
from keras_course.datasets import photo_folder
from keras_course.datasets.folders import list_pictures
from keras_course.datasets.layouts import Tree, read_layout
from keras_course.errors import CourseError
from keras_course.preprocessing import PictureFormat

__all__ = ["Exam", "Photos"]

LEAST_RECALL: Final = 0.5
PARTS: Final = ("valid", "test")


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

    def photos(self, pictures: PictureFormat) -> Photos:
        """Reads the photos.

        Args:
            pictures: What the model takes.

        Returns:
            The photos, in the order of their names.

        Raises:
            CourseError: There are not at least two classes with photos that can be read, or no such part.
        """
        whole = Path(self.folder).expanduser()
        rows: list[tuple[str, str, photo_folder.PhotoPart, int]] = []  # name, class, and where it is
        classes: set[tuple[str, ...]] = set()
        skipped = 0
        for folder in self._folders(whole):
            found = photo_folder.load_data(folder, pictures=pictures, classes=self.classes)
            classes.add(found.class_names)
            skipped += len(found.skipped)
            for part in (found.train, found.valid):  # which are no parts here, where nothing is trained
                names = [path.relative_to(whole).as_posix() for path in part.paths]
                rows += [(name, found.class_names[part.labels[row]], part, row) for row, name in enumerate(names)]
        if len(classes) > 1:
            raise CourseError(f"{whole} has other classes in {self.parts[0]} than in {self.parts[1]}; give one of them")
        class_names = classes.pop()
        rows.sort(key=itemgetter(0))
        return Photos(
            np.stack([part.pictures[row] for _, _, part, row in rows]),
            np.array([class_names.index(class_name) for _, class_name, _, _ in rows], "int32"),
            tuple(name for name, _, _, _ in rows),
            class_names,
            skipped,
            _fingerprint(f"{part.hashes[row]} {class_name}" for _, class_name, part, row in rows),
        )

    def _folders(self, whole: Path) -> list[Path]:
        """Finds the folders whose folders are the classes: those of the parts that are asked for, or the whole."""
        layout = read_layout(whole, Tree(list_pictures(whole)), names_are_classes=self.classes is not None)
        if not layout.parts:
            return [whole]
        if missing := [part for part in self.parts if part not in layout.parts]:
            why = ", whose photos are in no class folders" if missing[0] in layout.unlabelled else ""
            raise CourseError(
                f"{whole} has no part {missing[0]}{why}, but {', '.join(sorted(layout.parts))}; ask for one that it "
                "has, or give the folder of one"
            )
        return [whole / layout.parts[part] for part in self.parts]

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
        pictures = PictureFormat(**result["pictures"])
    except (KeyError, TypeError) as error:
        raise CourseError(f"the result does not say how its photos were chosen: {error}") from None
    if exam.photos(pictures).sha256 != result.get("data_sha256"):
        raise CourseError(f"the result is not that of the photos in {folder}: they are others, or of other classes")


def _fingerprint(photos: Iterable[str]) -> str:
    """One name for all photos and what they show, whatever the files are called."""
    return hashlib.sha256("\n".join(sorted(photos)).encode()).hexdigest()
