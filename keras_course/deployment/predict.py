"""Classifies pictures, for ``keras-course predict``."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from keras_course.datasets.folders import list_pictures, report
from keras_course.deployment.answers import Answer, Prediction, predictions_of
from keras_course.deployment.runtimes import Runtime
from keras_course.errors import CourseError, check_positive
from keras_course.preprocessing.images import PICTURE_ENDINGS, Source, prepare

__all__ = ["Answer", "Prediction", "find_pictures", "predict", "predictions_of"]

LARGEST_COUNT: Final = 1_000_000


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
        CourseError: A number is not positive, the number of names is not that of the pictures, or the model takes
            texts: ``texts.predict_texts`` is for those.
    """
    check_positive(top=top, batch_size=batch_size)
    picture_format = runtime.card.required_picture_format()
    if names and len(names) != len(pictures):
        raise CourseError(f"names has {len(names)} entries; give one for each of the {len(pictures)} pictures")
    for start in range(0, len(pictures), batch_size):
        some = range(start, min(start + batch_size, len(pictures)))
        called = {number: names[number] if names else _name(pictures[number], number) for number in some}
        ready: dict[int, np.ndarray] = {}
        errors: dict[int, str] = {}
        for number in some:
            try:
                ready[number] = prepare(pictures[number], picture_format, name=called[number])
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
