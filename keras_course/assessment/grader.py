"""Asks a learner's model in a process of its own, and counts what it has right."""

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
from keras_course.deployment import isolation
from keras_course.deployment.formats import ModelFile, find_model_file
from keras_course.deployment.isolation import ModelProcess
from keras_course.deployment.locate import LARGEST_MODEL_BYTES, files_of, find_model, open_file
from keras_course.deployment.runtimes import Runtime
from keras_course.errors import CourseError, reason_of
from keras_course.files import folder_beside, sha256_of
from keras_course.foreign_text import printable

__all__ = ["Limits", "Stop", "check_model", "fingerprint", "grade"]

Logits = npt.NDArray[np.float32]
T = TypeVar("T")

_LARGEST_EXAM: Final = 2**32
"""Bytes of all photos as a model takes them; a card can ask for more pixels than anybody can wait for."""
_MISTAKES: Final = 16
_LARGEST_SHOWN: Final = 256  # pixels of a side of a mistake
_LONGEST_NAME: Final = 60


@dataclass(frozen=True, kw_only=True)
class Limits(isolation.Limits):
    """What a model may take.

    Args:
        seconds: From the start of its process to its last answer.
        memory: Bytes that its process may fill.
        threads: How many it may compute with; None leaves it to what opens the model.

    Raises:
        CourseError: A number is not positive.
    """

    seconds: float = MOST_SECONDS
    memory: int = MOST_MEBIBYTES * 2**20


class Stop:
    """A signal by which another thread ends a grading at once."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._processes: WeakSet[ModelProcess] = WeakSet()

    def set(self) -> None:
        """Ends it."""
        self._event.set()
        for process in list(self._processes):
            process.cancel()

    def watch(self, process: ModelProcess) -> None:
        """Ends this process, too, when the grading is to be ended."""
        self._processes.add(process)
        self.check()

    def check(self) -> None:
        """Raises an error where the grading is to be ended."""
        if self._event.is_set():
            raise _Rejected("the grading was ended")


class _Rejected(Exception):
    """It is due to the model that it cannot be examined."""


def grade(
    model: str | Path,
    exam: Exam,
    *,
    limits: Limits | None = None,
    backend: str = "",
    figures: str | Path | None = None,
    learner: str = "",
    stop: Stop | None = None,
) -> Grade:
    """Grades one model.

    Args:
        model: The file of a model, the folder of a run, or an export. Only formats are opened in which a stranger's
            model cannot run code.
        exam: The exam.
        limits: What the model may take.
        backend: On which Keras opens a ``.keras`` file; without it, on one that is installed.
        figures: A folder in which the confusion matrix and the worst mistakes are drawn.
        learner: Whose model it is; the result says so, and is nobody else's.
        stop: Lets another thread end it.

    Returns:
        The grade. A model that cannot be examined has not passed, and the grade says why.

    Raises:
        CourseError: There is no such model, no backend that could open it, or the exam cannot be held.

    Example:
        >>> grade("no_such.keras", Exam(folder="photos"))
        Traceback (most recent call last):
        ...
        keras_course.errors.CourseError: there is no no_such.keras; give a run folder or the file of a model
    """
    started = time.perf_counter()
    if not os.path.lexists(model):
        raise CourseError(f"there is no {model}; give a run folder or the file of a model")
    limits, stop = limits or Limits(), stop or Stop()
    files = exam.open()
    facts: dict[str, Any] = {"model": printable(Path(model).name), "learner": printable(learner)}
    facts["exam"] = exam.to_dict()
    with folder_beside(Path(tempfile.gettempdir()) / "keras-course-exam") as folder:
        try:
            copy = _copy(Path(model), folder)
            facts |= {"model_sha256": fingerprint(copy.path), "model_bytes": _size(copy.path)}
            with ModelProcess(copy, limits, backend=backend, device="cpu", needs_card=False) as process:
                stop.watch(process)
                examinee = _Examinee(process, copy.path, limits.seconds)
                card = examinee.introduce(facts)
                _check_card(card, files)
                logits, hashes = examinee.answer(files, stop, limits.threads)
        except _Rejected as rejected:
            return Grade(verdict="not graded", reason=str(rejected), seconds=_since(started), **facts)
    rows = sorted(hashes)
    logits = logits[rows][:, _places(card, files.class_names)]
    seen = _Seen(files.labels[rows], tuple(files.names[row] for row in rows), files.class_names)
    result = _count(logits, seen, exam)
    facts |= {
        "class_names": files.class_names,
        "class_order": "alphabetical" if card.title == NO_CARD else "as its card has it",
        "picture_format": card.picture_format.to_dict(),
        "photos": len(rows),
        "skipped": files.skipped + len(files.names) - len(rows),
        "data_sha256": files.sha256(hashes),
    }
    if figures is not None:
        _draw(logits, seen, result["confusion_matrix"], [files.paths[row] for row in rows], card, Path(figures))
    return Grade(seconds=_since(started), **facts, **result)


def fingerprint(model: Path) -> str:
    """Gives a name to the content of a model.

    Args:
        model: A file, or the folder that some exports are.

    Returns:
        The SHA-256 of the file; of a folder, that of its files and their names.
    """
    if model.is_file():
        return sha256_of(model)
    return exams.fingerprint([sha256_of(file), file.relative_to(model).as_posix()] for file in files_of(model))


def check_model(result: Mapping[str, Any], model: str | Path) -> None:
    """Makes sure that a result is that of a model.

    Args:
        result: The fields of a result.
        model: The file of the model, or the folder of a run.

    Raises:
        CourseError: It is another model, or there is none.
    """
    if fingerprint(find_model(model)) != result.get("model_sha256"):
        raise CourseError(f"the result is not that of {model}: the model is another one")


def _copy(model: Path, folder: Path) -> ModelFile:
    """Takes the model away from where it could still be changed; what is not its own is not copied."""
    try:
        file = find_model_file(model)
        found = file.path
        if found.is_symlink():
            raise _Rejected("it is a link; hand in the file itself")
        files = files_of(found)
        if sum(file.stat().st_size for file in files) > LARGEST_MODEL_BYTES:
            raise _Rejected(f"it has more than {LARGEST_MODEL_BYTES:,} bytes")
        copy = folder / f"model{found.suffix}"
        for part in files:
            target = copy / part.relative_to(found) if found.is_dir() else copy
            target.parent.mkdir(parents=True, exist_ok=True)
            with open_file(part) as source, target.open("wb") as written:
                shutil.copyfileobj(source, written)
    except CourseError as error:
        raise _Rejected(without_folders(str(error), model)) from None
    except OSError as error:
        raise _Rejected(f"it cannot be read: {reason_of(error)}") from None
    return ModelFile(copy, file.format)


def _size(model: Path) -> int:
    return sum(file.stat().st_size for file in files_of(model))


def _since(started: float) -> float:
    return round(time.perf_counter() - started, 3)


# --- The process -----------------------------------------------------------------------------------------------


class _Examinee:
    """A model that is examined; the time that it takes is counted, and not that of the grader."""

    def __init__(self, process: ModelProcess, model: Path, seconds: float) -> None:
        self._process, self._model, self._left = process, model, seconds

    def introduce(self, facts: dict[str, Any]) -> ModelCard:
        """Hears what the model is; what opened it goes to the facts."""
        try:
            card, about = self._timed(self._process.introduce)
        except CourseError as error:
            raise self._rejected(error) from None
        kind, name = self._process.format, about["runtime"]
        facts |= {"format": kind, "runtime": name}
        self._runtime = Runtime(self._model, kind, name, card, self._run)
        return card

    def answer(self, files: Files, stop: Stop, workers: int | None) -> tuple[Logits, dict[int, str]]:
        """Shows the photos in an order drawn by chance, so that their place says nothing about them.

        Returns the logits, and the SHA-256 of the file of each photo that could be read, by its place.
        """
        card = self._runtime.card
        logits = np.full((len(files.names), len(card.class_names)), np.nan, "float32")
        hashes: dict[int, str] = {}
        for batch in files.read(card.picture_format, _shuffled(len(files.names)), workers=workers):
            stop.check()
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


def _shuffled(count: int) -> list[int]:
    """An order that nobody can foresee; one from a seed could be undone."""
    order = list(range(count))
    secrets.SystemRandom().shuffle(order)
    return order


# --- The exam --------------------------------------------------------------------------------------------------


class _Seen(NamedTuple):
    """The photos that a model was shown: what they are of, and what they are called."""

    labels: npt.NDArray[np.int32]
    names: tuple[str, ...]
    class_names: tuple[str, ...]


def _check_card(card: ModelCard, files: Files) -> None:
    """Makes sure that a model knows the classes that are asked for, and asks for no more pixels than there can be."""
    asked, known = files.class_names, tuple(card.class_names)
    if len(known) != len(asked):
        raise _Rejected(
            f"it gives {len(known)} number{'s' if len(known) > 1 else ''} for a picture, and the exam has {len(asked)} "
            f"classes ({_listed(asked)}); it has to give one number for each"
        )
    if card.title != NO_CARD and set(known) != set(asked):
        raise _Rejected(f"it tells {_listed(known)} apart, and the exam asks for {_listed(asked)}")
    claim = len(files.names) * math.prod(card.picture_format.shape)
    if claim > _LARGEST_EXAM:
        raise _Rejected(
            f"it takes {card.picture_format.width} × {card.picture_format.height} pixels, with which the "
            f"{len(files.names):,} photos have {claim:,} bytes; at most {_LARGEST_EXAM:,} are prepared"
        )


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(printable(name)[:_LONGEST_NAME] for name in names[:8])
    return shown + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def _places(card: ModelCard, class_names: tuple[str, ...]) -> list[int]:
    """Where in the answers of a model the classes are; one without a card has them in the order of their names."""
    names = tuple(card.class_names)
    return list(range(len(names))) if card.title == NO_CARD else [names.index(name) for name in class_names]


def _count(logits: Logits, photos: _Seen, exam: Exam) -> dict[str, Any]:
    """Counts what is right."""
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
        "mistakes": _mistakes(logits, is_answer, photos),
    }


def _answered(logits: Logits) -> npt.NDArray[np.bool_]:
    """Where no class has more than all others, or a number is none, there is no answer."""
    is_largest = logits == logits.max(axis=1, keepdims=True)
    return np.isfinite(logits).all(axis=1) & (is_largest.sum(axis=1) == 1)


def _judge(accuracy: float, recalls: np.ndarray, class_names: tuple[str, ...], exam: Exam) -> tuple[str, str]:
    if accuracy < exam.pass_mark:
        return "failed", f"{accuracy:.2%} of the answers are right, and {exam.pass_mark:.2%} have to be"
    worst = int(recalls.argmin())
    if recalls[worst] < exam.least_recall:
        return "failed", (
            f"{accuracy:.2%} of the answers are right, but of {class_names[worst]} only {recalls[worst]:.2%}, and "
            f"{exam.least_recall:.0%} of each class have to be"
        )
    return "passed", f"{accuracy:.2%} of the answers are right; {exam.pass_mark:.2%} are enough"


def _mistakes(logits: Logits, is_answer: npt.NDArray[np.bool_], photos: _Seen) -> tuple[Mistake, ...]:
    """Names the mistakes of which the model is surest."""
    rows = np.flatnonzero(is_answer)
    if not len(rows):
        return ()
    worst = rows[evaluation.most_wrong(logits[rows], photos.labels[rows], count=_MISTAKES)]
    return tuple(
        Mistake(
            printable(photos.names[row]),
            photos.class_names[photos.labels[row]],
            photos.class_names[logits[row].argmax()],
            float(evaluation.softmax(logits[row : row + 1]).max()),
        )
        for row in worst
    )


def _draw(
    logits: Logits, photos: _Seen, matrix: list[list[int]], paths: Sequence[Path], card: ModelCard, folder: Path
) -> None:
    """Draws the confusion matrix, and the mistakes, whose photos are read once more."""
    rows = np.flatnonzero(_answered(logits))
    if not len(rows):
        return
    plots.save(plots.confusion_matrix(matrix, photos.class_names), folder / "confusion_matrix.png")
    worst = rows[evaluation.most_wrong(logits[rows], photos.labels[rows], count=_MISTAKES)]
    places = worst if len(worst) else rows[:1]  # without a mistake, the figure says so
    picture_format = card.picture_format
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
