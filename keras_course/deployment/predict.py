"""Classifies pictures, for ``keras-course predict``."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from keras_course.datasets.folders import list_pictures, report
from keras_course.deployment.answers import most_probable
from keras_course.deployment.runtimes import Runtime
from keras_course.errors import CourseError, check_positive
from keras_course.preprocessing.images import PICTURE_ENDINGS, Source, prepare

__all__ = ["Answer", "Prediction", "find_pictures", "predict", "predictions_of"]

LARGEST_COUNT: Final = 1_000_000


class Answer(NamedTuple):
    """A class and its probability."""

    class_name: str
    probability: float


@dataclass(frozen=True)
class Prediction:
    """The prediction for one picture.

    Args:
        name: The name of the picture.
        answers: The most probable classes, sorted by probability; empty if the picture cannot be read.
        error: Why the picture cannot be read, else empty.
    """

    name: str
    answers: tuple[Answer, ...] = ()
    error: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Returns the prediction for JSON output."""
        if self.error:
            return {"picture": self.name, "error": self.error}
        answers = [{"class": answer.class_name, "probability": answer.probability} for answer in self.answers]
        return {"picture": self.name, "answers": answers}


def predictions_of(logits: np.ndarray, class_names: Sequence[str], *, top: int = 3) -> list[tuple[Answer, ...]]:
    """Returns the most probable classes for logits.

    Args:
        logits: float32 (n, classes).
        class_names: The names of the classes.
        top: The number of classes to return.

    Returns:
        The answers for each row, sorted by probability; equal ones by class.

    Raises:
        CourseError: ``top`` is not positive, or a logit is not finite.

    Example:
        >>> predictions_of(np.array([[0.0, 1.0, -9.0]], "float32"), "abc", top=1)
        [(Answer(class_name='b', probability=0.731...),)]
    """
    numbers, probabilities = most_probable(logits, top=top)
    return [
        tuple(Answer(class_names[number], share) for number, share in zip(row, shares, strict=True))
        for row, shares in zip(numbers.tolist(), probabilities.tolist(), strict=True)
    ]


def find_pictures(paths: Iterable[str | os.PathLike[str]]) -> list[Path]:
    """Lists pictures: the given files, and those in the given folders and their subfolders, sorted by name.

    Other files in the folders are named in one line on stderr.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        if _is(path, Path.is_dir):
            listing = list_pictures(path)
            report(path, listing.skipped)
            if not listing.files:
                endings = ", ".join(PICTURE_ENDINGS[:7])
                raise CourseError(f"{path} holds no pictures; give a folder with files that end in {endings}")
            found += [path / file.name for file in listing.files]
        elif _is(path, Path.exists):
            found.append(path)
        else:
            raise CourseError(f"there is no picture {path}; give the path of one")
        if len(found) > LARGEST_COUNT:
            raise CourseError(f"there are more than {LARGEST_COUNT:,} pictures; give fewer at a time")
    return found


def _is(path: Path, question: Callable[[Path], bool]) -> bool:
    try:
        return question(path)
    except OSError:  # a name that is too long
        return False


def predict(
    runtime: Runtime, pictures: Sequence[Source], *, top: int = 3, batch_size: int = 32, names: Sequence[str] = ()
) -> Iterator[Prediction]:
    """Classifies pictures in batches; a picture that cannot be read gets an error instead of answers.

    Args:
        runtime: The model.
        pictures: Pictures in any form that ``preprocessing.read_picture`` takes.
        top: The number of classes for each picture.
        batch_size: The number of pictures in a batch.
        names: The names of the pictures; by default their paths or numbers.

    Yields:
        The prediction for each picture, in their order.

    Raises:
        CourseError: A number is not positive, or the number of names is not that of the pictures.
    """
    check_positive(top=top, batch_size=batch_size)
    if names and len(names) != len(pictures):
        raise CourseError(f"names has {len(names)} entries; give one for each of the {len(pictures)} pictures")
    for start in range(0, len(pictures), batch_size):
        some = range(start, min(start + batch_size, len(pictures)))
        called = {number: names[number] if names else _name(pictures[number], number) for number in some}
        ready: dict[int, np.ndarray] = {}
        errors: dict[int, str] = {}
        for number in some:
            try:
                ready[number] = prepare(pictures[number], runtime.card.picture_format, name=called[number])
            except CourseError as error:
                errors[number] = str(error)
        answers: dict[int, tuple[Answer, ...]] = {}
        if ready:
            logits = runtime.logits(np.stack(list(ready.values())))
            answers = dict(zip(ready, predictions_of(logits, runtime.card.class_names, top=top), strict=True))
        for number in some:
            yield Prediction(called[number], answers.get(number, ()), errors.get(number, ""))


def _name(picture: Source, number: int) -> str:
    return str(picture) if isinstance(picture, (str, os.PathLike)) else f"picture {number + 1}"
