"""Asks a learner's model in a process of its own, and counts what it has right."""

import hashlib
import json
import queue
import secrets
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import psutil

from keras_course import evaluation, plots
from keras_course._backend import formats, select
from keras_course.assessment import MOST_MEBIBYTES, MOST_SECONDS
from keras_course.assessment.exam import Exam, Photos
from keras_course.assessment.examinee import LOGITS, NO_CARD, PICTURES
from keras_course.assessment.grades import Grade, Mistake
from keras_course.cards import ModelCard, without_folders
from keras_course.deployment.model_files import find_model
from keras_course.errors import CourseError, check_positive
from keras_course.files import sha256_of
from keras_course.foreign_text import printable

__all__ = ["Limits", "grade"]

Logits = npt.NDArray[np.float32]

_LONGEST_LINE: Final = 2**23
_LARGEST_MODEL: Final = 2**31
_LOOK: Final = 0.05  # seconds between two looks at the process
_MISTAKES: Final = 16
_START: Final = "from keras_course.assessment.examinee import start; start()"


@dataclass(frozen=True, kw_only=True)
class Limits:
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
    threads: int | None = None

    def __post_init__(self) -> None:
        if not self.seconds > 0:
            raise CourseError(f"seconds is {self.seconds}; give how many a model may take")
        check_positive(memory=self.memory, threads=1 if self.threads is None else self.threads)


class _Rejected(Exception):
    """It is due to the model that it cannot be examined."""


def grade(
    model: str | Path,
    exam: Exam,
    *,
    limits: Limits | None = None,
    backend: str = "",
    figures: str | Path | None = None,
) -> Grade:
    """Grades one model.

    Args:
        model: The file of a model, the folder of a run, or an export. Only formats are opened in which a stranger's
            model cannot run code.
        exam: The exam.
        limits: What the model may take.
        backend: On which Keras opens a ``.keras`` file; without it, on one that is installed.
        figures: A folder in which the confusion matrix and the worst mistakes are drawn.

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
    if not Path(model).exists():
        raise CourseError(f"there is no {model}; give a run folder or the file of a model")
    facts: dict[str, Any] = {"model": printable(Path(model).name), "exam": exam.to_dict()}
    with tempfile.TemporaryDirectory(prefix="exam-") as folder:
        try:
            copy = _copy(Path(model), Path(folder))
            facts |= {"model_sha256": fingerprint(copy), "model_bytes": _size(copy)}
            with _Examinee(copy, Path(folder), limits or Limits(), backend) as examinee:
                card = examinee.introduce(facts)
                photos = _held(exam, card)
                facts |= _about(photos, card)
                logits = examinee.answer(photos.pictures, len(card.class_names))
        except _Rejected as rejected:
            return Grade(verdict="not graded", reason=str(rejected), seconds=_since(started), **facts)
    logits = logits[:, _places(card, photos.class_names)]
    result = _count(logits, photos, exam)
    if figures is not None:
        _draw(logits, photos, result["confusion_matrix"], Path(figures))
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
    lines = sorted(f"{sha256_of(file)} {file.relative_to(model).as_posix()}" for file in formats.files_of(model))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


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


def _copy(model: Path, folder: Path) -> Path:
    """Takes the model away from where it could still be changed."""
    try:
        found = find_model(model)
        formats.format_of(found)
        if _size(found) > _LARGEST_MODEL:
            raise _Rejected(f"it has more than {_LARGEST_MODEL:,} bytes")
        copy = folder / f"model{found.suffix}"
        if found.is_dir():
            shutil.copytree(found, copy, symlinks=True)
        else:
            shutil.copyfile(found, copy)
    except CourseError as error:
        raise _Rejected(without_folders(str(error), model)) from None
    except OSError as error:
        raise _Rejected(f"it cannot be read: {error.strerror}") from None
    return copy


def _size(model: Path) -> int:
    return sum(file.stat().st_size for file in formats.files_of(model))


def _since(started: float) -> float:
    return round(time.perf_counter() - started, 3)


# --- The process -----------------------------------------------------------------------------------------------


class _Examinee:
    """The process of a model; it ends with the block, whatever it does."""

    def __init__(self, model: Path, folder: Path, limits: Limits, backend: str) -> None:
        self._model, self._folder, self._limits = model, folder, limits
        name = select.choose_for_second_process(backend) if formats.format_of(model) == "keras" else ""
        process = select.second_process(name, "-c", _START, str(model), str(folder), str(limits.threads or 0))
        # where the data of the course are is nothing to a model
        process["env"] = {key: value for key, value in process["env"].items() if not key.startswith("KERAS_COURSE_")}
        if limits.threads is not None:
            process["env"] |= {"OMP_NUM_THREADS": str(limits.threads)}
        self._command = process

    def __enter__(self) -> "_Examinee":
        self._errors = (self._folder / "errors.txt").open("wb")
        self._left = self._limits.seconds
        self._process = subprocess.Popen(
            **self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            cwd=self._folder,
            start_new_session=True,
        )
        self._lines: queue.Queue[bytes] = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(psutil.Error):
            for process in [*psutil.Process(self._process.pid).children(recursive=True), self._process]:
                with suppress(psutil.Error):
                    process.kill()
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            with suppress(OSError):  # what could not be sent any more
                assert stream is not None
                stream.close()
        self._errors.close()

    def introduce(self, facts: dict[str, Any]) -> ModelCard:
        """Hears what the model is; what opened it goes to the facts."""
        said = self._hear()
        try:
            facts |= {"format": str(said["format"]), "runtime": str(said["runtime"])}
            return ModelCard.from_json(said["card"])
        except (KeyError, TypeError, CourseError):
            raise _Rejected("it does not say what it takes") from None

    def answer(self, pictures: npt.NDArray[np.uint8], classes: int) -> Logits:
        """Shows the pictures in an order drawn by chance, so that their place says nothing about them."""
        order = np.array(_shuffled(len(pictures)))
        np.save(self._folder / PICTURES, pictures[order])
        assert self._process.stdin is not None
        with suppress(OSError):  # it has ended; what it said last is heard below
            self._process.stdin.write(b"\n")
            self._process.stdin.flush()
        self._hear()
        try:
            answers = np.load(self._folder / LOGITS, mmap_mode="r", allow_pickle=False)
            if answers.shape != (len(pictures), classes) or answers.dtype != np.float32:
                raise ValueError(f"it gives {answers.dtype} {answers.shape}")
        except (OSError, ValueError, EOFError) as error:
            raise _Rejected(f"its answers cannot be read: {error}") from None
        logits = np.empty(answers.shape, "float32")
        logits[order] = answers
        return logits

    def _listen(self) -> None:
        assert self._process.stdout is not None
        with suppress(OSError, ValueError):  # closed meanwhile
            while line := self._process.stdout.readline(_LONGEST_LINE):
                self._lines.put(line)
        self._lines.put(b"")

    def _hear(self) -> dict[str, Any]:
        """Waits for the next line, as long as the limits are kept."""
        started = time.monotonic()
        while True:
            with suppress(queue.Empty):
                line = self._lines.get(timeout=_LOOK)
                self._left -= time.monotonic() - started  # what the grader does meanwhile is not the model's time
                break
            if time.monotonic() - started > self._left:
                raise _Rejected(f"it took more than {self._limits.seconds:g} seconds")
            if self._filled() > self._limits.memory:
                raise _Rejected(f"it took more than {self._limits.memory / 2**20:,.0f} MiB of memory")
        if not line:
            raise _Rejected(f"it ended the process that opened it (exit code {self._process.wait()})")
        try:
            said = json.loads(line)
            error = said.get("error")
        except (ValueError, AttributeError, RecursionError):
            raise _Rejected("it does not answer as a model does") from None
        if error is not None:
            raise _Rejected(without_folders(str(error), self._model))
        return dict(said)

    def _filled(self) -> int:
        """Counts the bytes of memory that the process and those it has started fill."""
        total = 0
        with suppress(psutil.Error):
            process = psutil.Process(self._process.pid)
            for one in [process, *process.children(recursive=True)]:
                with suppress(psutil.Error):
                    total += one.memory_info().rss
        return total


def _shuffled(count: int) -> list[int]:
    """An order that nobody can foresee; one from a seed could be undone."""
    order = list(range(count))
    secrets.SystemRandom().shuffle(order)
    return order


# --- The exam --------------------------------------------------------------------------------------------------


def _held(exam: Exam, card: ModelCard) -> Photos:
    """Prepares the photos as the model takes them, if it knows the classes that are asked for."""
    photos = exam.photos(card.pictures)
    asked, known = photos.class_names, tuple(card.class_names)
    if len(known) != len(asked):
        raise _Rejected(
            f"it gives {len(known)} number{'s' if len(known) > 1 else ''} for a picture, and the exam has {len(asked)} "
            f"classes ({_listed(asked)}); it has to give one number for each"
        )
    if card.title != NO_CARD and set(known) != set(asked):
        raise _Rejected(f"it tells {_listed(known)} apart, and the exam asks for {_listed(asked)}")
    return photos


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def _places(card: ModelCard, class_names: tuple[str, ...]) -> list[int]:
    """Where in the answers of a model the classes are; one without a card has them in the order of their names."""
    names = tuple(card.class_names)
    return list(range(len(names))) if card.title == NO_CARD else [names.index(name) for name in class_names]


def _about(photos: Photos, card: ModelCard) -> dict[str, Any]:
    return {
        "class_names": photos.class_names,
        "class_order": "alphabetical" if card.title == NO_CARD else "as its card has it",
        "pictures": card.pictures.to_dict(),
        "photos": len(photos.names),
        "skipped": photos.skipped,
        "data_sha256": photos.sha256,
    }


def _count(logits: Logits, photos: Photos, exam: Exam) -> dict[str, Any]:
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


def _mistakes(logits: Logits, is_answer: npt.NDArray[np.bool_], photos: Photos) -> tuple[Mistake, ...]:
    """Names the mistakes of which the model is surest."""
    rows = np.flatnonzero(is_answer)
    if not len(rows):
        return ()
    worst = rows[evaluation.most_wrong(logits[rows], photos.labels[rows], count=_MISTAKES)]
    return tuple(
        Mistake(
            photos.names[row],
            photos.class_names[photos.labels[row]],
            photos.class_names[logits[row].argmax()],
            float(evaluation.softmax(logits[row : row + 1]).max()),
        )
        for row in worst
    )


def _draw(logits: Logits, photos: Photos, matrix: list[list[int]], folder: Path) -> None:
    rows = _answered(logits)
    if not rows.any():
        return
    plots.save(plots.confusion_matrix(matrix, photos.class_names), folder / "confusion_matrix.png")
    figure = plots.most_wrong(
        photos.pictures[rows], photos.labels[rows], logits[rows], photos.class_names, count=_MISTAKES
    )
    plots.save(figure, folder / "most_wrong.png")
