"""Grades a learner's model, which is open in a separate process."""

import math
import os
import secrets
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar
from weakref import WeakSet

import numpy as np
import numpy.typing as npt

from keras_course import evaluation, plots
from keras_course.assessment import MOST_MEBIBYTES, MOST_SECONDS
from keras_course.assessment import exam as exams
from keras_course.assessment.exam import Exam, Files
from keras_course.assessment.grades import Grade, Mistake
from keras_course.cards import NO_CARD, ModelCard, without_folders
from keras_course.datasets import photo_folder
from keras_course.deployment.formats import ModelFile, find_model_file
from keras_course.deployment.isolation import ModelProcess, ProcessLimits
from keras_course.deployment.locate import LARGEST_MODEL_BYTES, files_of, find_model, open_file, size_of
from keras_course.deployment.runtimes import Runtime
from keras_course.errors import CourseError, reason_of
from keras_course.files import folder_beside, sha256_of
from keras_course.foreign_text import printable

__all__ = ["Cancellation", "GradingLimits", "check_model", "fingerprint", "grade"]

Logits = npt.NDArray[np.float32]
T = TypeVar("T")

_LARGEST_EXAM: Final = 2**32
"""The largest size of all prepared photos; a card could ask for pictures of any size."""
_MISTAKES: Final = 16
_LARGEST_SHOWN: Final = 256  # pixels of a side of a mistake
_LONGEST_NAME: Final = 60


@dataclass(frozen=True, kw_only=True)
class GradingLimits(ProcessLimits):
    """The limits of a grading; ``seconds`` is the time from the start of the model's process to its last answer."""

    seconds: float = MOST_SECONDS
    memory: int = MOST_MEBIBYTES * 2**20


class Cancellation:
    """Lets another thread cancel a grading."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._processes: WeakSet[ModelProcess] = WeakSet()

    def cancel(self) -> None:
        """Cancels the grading."""
        self._event.set()
        for process in list(self._processes):
            process.cancel()

    def add(self, process: ModelProcess) -> None:
        """Adds a process to end when the grading is canceled."""
        self._processes.add(process)
        self.check()

    def check(self) -> None:
        """Raises an error if the grading has been canceled."""
        if self._event.is_set():
            raise _Rejected("the grading was canceled")


class _Rejected(Exception):
    """The model cannot be examined; the text says why."""


def grade(
    model: str | Path,
    exam: Exam,
    *,
    limits: GradingLimits | None = None,
    backend: str = "",
    figures: str | Path | None = None,
    learner: str = "",
    cancellation: Cancellation | None = None,
) -> Grade:
    """Grades one model.

    Args:
        model: The file of a model, the folder of a run, or an export in a safe format.
        exam: The exam.
        limits: The limits of the model.
        backend: The backend on which Keras opens a ``.keras`` file; by default an installed one.
        figures: A folder for figures of the confusion matrix and the worst mistakes.
        learner: The name of the learner, which becomes a part of the result.
        cancellation: Lets another thread cancel the grading.

    Returns:
        The grade. A model that cannot be examined has not passed, and the grade says why.

    Raises:
        CourseError: There is no such model, no backend can open it, or the exam has no photos.

    Example:
        >>> grade("no_such.keras", Exam(folder="photos"))
        Traceback (most recent call last):
        ...
        keras_course.errors.CourseError: there is no no_such.keras; give a run folder or the file of a model
    """
    started = time.perf_counter()
    if not os.path.lexists(model):
        raise CourseError(f"there is no {model}; give a run folder or the file of a model")
    limits, cancellation = limits or GradingLimits(), cancellation or Cancellation()
    files = exam.open()
    facts: dict[str, Any] = {"model": printable(Path(model).name), "learner": printable(learner)}
    facts["exam"] = exam.to_dict()
    with folder_beside(Path(tempfile.gettempdir()) / "keras-course-exam") as folder:
        try:
            copy = _copy(Path(model), folder)
            facts |= {"model_sha256": fingerprint(copy.path), "model_bytes": size_of(copy.path)}
            with ModelProcess(copy, limits, backend=backend, device="cpu", needs_card=False) as process:
                cancellation.add(process)
                examinee = _Examinee(process, copy.path, limits.seconds)
                card = examinee.introduce(facts)
                _check_card(card, files)
                logits, hashes = examinee.answer(files, cancellation, limits.threads)
        except _Rejected as rejected:
            return Grade(verdict="not graded", reason=str(rejected), seconds=_since(started), **facts)
    rows = sorted(hashes)
    logits = logits[rows][:, _output_indices(card, files.class_names)]
    shown = _Shown(files.labels[rows], tuple(files.names[row] for row in rows), files.class_names)
    result = _evaluate(logits, shown, exam)
    facts |= {
        "class_names": files.class_names,
        "class_order": "alphabetical" if card.title == NO_CARD else "as in its card",
        "picture_format": card.required_picture_format().to_dict(),
        "photos": len(rows),
        "skipped": files.skipped + len(files.names) - len(rows),
        "data_sha256": files.sha256(hashes),
    }
    if figures is not None:
        _draw(logits, shown, result["confusion_matrix"], [files.paths[row] for row in rows], card, Path(figures))
    return Grade(seconds=_since(started), **facts, **result)


def fingerprint(model: Path) -> str:
    """Returns the SHA-256 of the file of a model; for a folder, a hash of its files and their names."""
    if model.is_file():
        return sha256_of(model)
    return exams.fingerprint([sha256_of(file), file.relative_to(model).as_posix()] for file in files_of(model))


def check_model(result: Mapping[str, Any], model: str | Path) -> None:
    """Raises a ``CourseError`` if a result does not belong to a model."""
    if fingerprint(find_model(model)) != result.get("model_sha256"):
        raise CourseError(f"the result is not that of {model}: the model is another one")


def _copy(model: Path, folder: Path) -> ModelFile:
    """Copies the model into a private folder, where others cannot change it; links are not copied."""
    try:
        file = find_model_file(model)
        found = file.path
        if found.is_symlink():
            raise _Rejected("it is a link; hand in the file itself")
        if size_of(found) > LARGEST_MODEL_BYTES:
            raise _Rejected(f"it has more than {LARGEST_MODEL_BYTES:,} bytes")
        copy = folder / f"model{found.suffix}"
        for part in files_of(found):
            target = copy / part.relative_to(found) if found.is_dir() else copy
            target.parent.mkdir(parents=True, exist_ok=True)
            with open_file(part) as source, target.open("wb") as written:
                shutil.copyfileobj(source, written)
    except CourseError as error:
        raise _Rejected(without_folders(str(error), model)) from None
    except OSError as error:
        raise _Rejected(f"it cannot be read: {reason_of(error)}") from None
    return ModelFile(copy, file.format)


def _since(started: float) -> float:
    return round(time.perf_counter() - started, 3)


# --- The process -----------------------------------------------------------------------------------------------


class _Examinee:
    """A model that is examined; only its own time counts, not that of the grader."""

    def __init__(self, process: ModelProcess, model: Path, seconds: float) -> None:
        self._process, self._model, self._left = process, model, seconds

    def introduce(self, facts: dict[str, Any]) -> ModelCard:
        """Returns the model's card, and adds its format and its runtime to the facts."""
        try:
            card, about = self._timed(self._process.introduce)
        except CourseError as error:
            raise self._rejected(error) from None
        kind, name = self._process.format, about["runtime"]
        facts |= {"format": kind, "runtime": name}
        self._runtime = Runtime(self._model, kind, name, card, self._run)
        return card

    def answer(self, files: Files, cancellation: Cancellation, workers: int | None) -> tuple[Logits, dict[int, str]]:
        """Returns the logits, and the SHA-256 of the file of each readable photo by its index.

        The photos are sent in random order, so that their order tells nothing about their classes.
        """
        card = self._runtime.card
        logits = np.full((len(files.names), len(card.class_names)), np.nan, "float32")
        hashes: dict[int, str] = {}
        order = secrets.SystemRandom().sample(range(len(files.names)), len(files.names))  # no seed could reproduce it
        for batch in files.read(card.required_picture_format(), order, workers=workers):
            cancellation.check()
            rows = [row for row, _, _ in batch]
            try:
                logits[rows] = self._runtime.logits(np.stack([pixels for _, pixels, _ in batch]))
            except CourseError as error:
                raise self._rejected(error) from None
            hashes |= {row: sha256 for row, _, sha256 in batch}
        return logits, hashes

    def _run(self, pictures: np.ndarray) -> Logits:
        return self._timed(partial(self._process.outputs, pictures, self._runtime.card.numbers))

    def _timed(self, ask: Callable[..., T]) -> T:
        started = time.monotonic()
        try:
            return ask(seconds=self._left)
        finally:
            self._left -= time.monotonic() - started

    def _rejected(self, error: CourseError) -> _Rejected:
        words = str(error)
        if words.startswith(f"{self._model} "):
            words = "it" + words.removeprefix(str(self._model))
        return _Rejected(without_folders(words, self._model))


# --- The exam --------------------------------------------------------------------------------------------------


class _Shown(NamedTuple):
    """The labels and names of the photos that were sent to a model."""

    labels: npt.NDArray[np.int32]
    names: tuple[str, ...]
    class_names: tuple[str, ...]


def _check_card(card: ModelCard, files: Files) -> None:
    """Checks that the classes of a model are those of the exam, and that its pictures are not too large."""
    if card.picture_format is None:
        raise _Rejected("it takes texts, and the exam has photos")
    asked, known = files.class_names, tuple(card.class_names)
    if len(known) != len(asked):
        raise _Rejected(
            f"it gives {len(known)} number{'s' if len(known) > 1 else ''} for a picture, and the exam has {len(asked)} "
            f"classes ({_listed(asked)}); it has to give one number for each"
        )
    if card.title != NO_CARD and set(known) != set(asked):
        raise _Rejected(f"it tells {_listed(known)} apart, and the exam asks for {_listed(asked)}")
    claim = len(files.names) * math.prod(card.shape)
    if claim > _LARGEST_EXAM:
        raise _Rejected(
            f"it takes {card.picture_format.width} × {card.picture_format.height} pixels, with which the "
            f"{len(files.names):,} photos have {claim:,} bytes; at most {_LARGEST_EXAM:,} are prepared"
        )


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(printable(name)[:_LONGEST_NAME] for name in names[:8])
    return shown + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def _output_indices(card: ModelCard, class_names: tuple[str, ...]) -> list[int]:
    """Returns the index of each class in the model's output; without a card, classes are in alphabetical order."""
    names = tuple(card.class_names)
    return list(range(len(names))) if card.title == NO_CARD else [names.index(name) for name in class_names]


def _evaluate(logits: Logits, photos: _Shown, exam: Exam) -> dict[str, Any]:
    """Computes the metrics and the verdict."""
    is_answer = _answered(logits)
    answers = logits.argmax(axis=1)
    is_right = is_answer & (answers == photos.labels)
    classes = len(photos.class_names)
    totals = np.bincount(photos.labels, minlength=classes)
    recalls = np.bincount(photos.labels[is_right], minlength=classes) / totals
    accuracy = float(is_right.mean())
    verdict, reason = _judge(accuracy, recalls, photos.class_names, exam)
    matrix = np.zeros((classes, classes), int)
    if is_answer.any():
        matrix = evaluation.confusion_matrix(photos.labels[is_answer], answers[is_answer], num_classes=classes)
    return {
        "verdict": verdict,
        "reason": reason,
        "accuracy": accuracy,
        "recalls": tuple(map(float, recalls)),
        "confusion_matrix": matrix.tolist(),
        "unanswered": int((~is_answer).sum()),
        "mistakes": tuple(
            Mistake(
                printable(photos.names[row]),
                photos.class_names[photos.labels[row]],
                photos.class_names[answers[row]],
                float(evaluation.softmax(logits[row : row + 1]).max()),
            )
            for row in _mistakes(logits, photos)
        ),
    }


def _answered(logits: Logits) -> npt.NDArray[np.bool_]:
    """Returns True for each row with an answer: one class has the largest logit, and all are finite."""
    is_largest = logits == logits.max(axis=1, keepdims=True)
    return np.isfinite(logits).all(axis=1) & (is_largest.sum(axis=1) == 1)


def _judge(accuracy: float, recalls: np.ndarray, class_names: tuple[str, ...], exam: Exam) -> tuple[str, str]:
    if accuracy < exam.pass_mark:
        return "failed", f"{accuracy:.2%} of the answers are right; {exam.pass_mark:.2%} are needed"
    worst = int(recalls.argmin())
    if recalls[worst] < exam.least_recall:
        return "failed", (
            f"{accuracy:.2%} of the answers are right, but only {recalls[worst]:.2%} of {class_names[worst]}; "
            f"{exam.least_recall:.0%} of each class are needed"
        )
    return "passed", f"{accuracy:.2%} of the answers are right; {exam.pass_mark:.2%} are needed"


def _mistakes(logits: Logits, photos: _Shown) -> npt.NDArray[np.intp]:
    """Returns the rows of the mistakes with the highest probability."""
    rows = np.flatnonzero(_answered(logits))
    return rows[evaluation.most_wrong(logits[rows], photos.labels[rows], count=_MISTAKES)] if len(rows) else rows


def _draw(
    logits: Logits, photos: _Shown, matrix: list[list[int]], paths: Sequence[Path], card: ModelCard, folder: Path
) -> None:
    """Draws the confusion matrix and the worst mistakes, whose photos are read again."""
    rows = np.flatnonzero(_answered(logits))
    if not len(rows):
        return
    plots.save(plots.confusion_matrix(matrix, photos.class_names), folder / "confusion_matrix.png")
    worst = _mistakes(logits, photos)
    places = worst if len(worst) else rows[:1]  # the figure says that there is no mistake
    picture_format = card.required_picture_format()
    factor = max(1.0, max(picture_format.height, picture_format.width) / _LARGEST_SHOWN)
    height, width = (max(1, round(side / factor)) for side in (picture_format.height, picture_format.width))
    decoded = [
        photo_folder.decode(paths[row], replace(picture_format, height=height, width=width))[0] for row in places
    ]
    shown = [(row, pixels) for row, pixels in zip(places, decoded, strict=True) if pixels is not None]
    if shown:
        kept = [row for row, _ in shown]
        images = np.stack([pixels for _, pixels in shown])
        figure = plots.most_wrong(images, photos.labels[kept], logits[kept], photos.class_names, count=_MISTAKES)
        plots.save(figure, folder / "most_wrong.png")
