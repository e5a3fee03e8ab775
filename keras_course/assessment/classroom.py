"""Grades a folder of submissions into a table and a page."""

import csv
import io
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

from keras_course._backend import select
from keras_course.assessment.exam import Exam
from keras_course.assessment.grader import Cancellation, GradingLimits, grade
from keras_course.assessment.grades import VERDICTS, Grade, sign, write_result
from keras_course.deployment.formats import find_model_file, format_of
from keras_course.documents import Html, document, element, image, number_table, section
from keras_course.errors import CourseError, check_positive, reason_of
from keras_course.files import replacing
from keras_course.foreign_text import as_cell, printable

__all__ = ["Submission", "find_other_files", "find_submissions", "grade_all"]

_LARGEST_CLASSROOM: Final = 10_000
_NAMES_SHOWN: Final = 10
_COLUMNS: Final = (
    *("submission", "verdict", "accuracy", "reason", "same_as", "model", "format", "runtime", "photos", "seconds"),
    *("model_sha256", "data_sha256", "graded_at"),
)


class Submission(NamedTuple):
    """The submission of one learner."""

    name: str  # of the file or folder, usually that of the learner
    model: Path | None  # None if it cannot be identified
    reason: str = ""  # why it cannot be identified


def find_submissions(folder: str | Path) -> list[Submission]:
    """Returns the submissions in a folder, sorted by name: models that are not hidden, and folders with one in each."""
    entries = _entries(folder)
    found = [one._replace(name=printable(one.name)) for entry in entries if (one := _submission(entry)) is not None]
    if not found:
        raise CourseError(f"{folder} has no models; give a folder with one of each learner")
    if len(found) > _LARGEST_CLASSROOM:
        raise CourseError(f"{folder} has {len(found):,} submissions; at most {_LARGEST_CLASSROOM:,} are graded at once")
    twice = {name for name, count in Counter(submission.name for submission in found).items() if count > 1}
    # ann.keras and ann.onnx are two submissions of one name
    return [one._replace(name=printable(one.model.name)) if one.name in twice and one.model else one for one in found]


def find_other_files(folder: str | Path) -> list[str]:
    """Returns the names of files among the submissions that are no models; a learner may have meant one as a model."""
    return [printable(entry.name) for entry in _entries(folder) if _submission(entry) is None]


def grade_all(
    submissions: Sequence[Submission],
    exam: Exam,
    folder: str | Path,
    *,
    key: bytes | None = None,
    limits: GradingLimits | None = None,
    backend: str = "",
    jobs: int = 1,
    figures: bool = True,
    progress: Callable[[Submission, Grade], None] | None = None,
) -> list[Grade]:
    """Grades all submissions, and writes ``grades.csv``, ``grades.html`` and a folder for each submission.

    ``jobs`` models are graded at the same time, and ``progress`` is called with each submission and its grade. Raises a
    ``CourseError`` if the exam has no photos or there is no backend; earlier results are kept.
    """
    check_positive(jobs=jobs)
    exam.open()  # an error of the exam ends the whole grading
    if any(one.model is not None and _is_keras(one.model) for one in submissions):
        select.choose_for_second_process(backend)
    folder = Path(folder)
    names = _folder_names(submissions)
    cancellation = Cancellation()

    def one(number: int) -> Grade:
        submission, place = submissions[number], folder / names[number]
        facts: dict[str, Any] = {"learner": submission.name, "verdict": "not graded", "exam": exam.to_dict()}
        if submission.model is None:
            result = Grade(model="", reason=submission.reason, **facts)
        else:
            settings: dict[str, Any] = {"limits": limits, "backend": backend, "figures": place if figures else None}
            try:
                result = grade(submission.model, exam, learner=submission.name, cancellation=cancellation, **settings)
            except Exception as error:  # a failure of one submission must not end the others
                reason = f"it could not be graded: {printable(reason_of(error))}"
                result = Grade(model="", reason=reason, **facts)
        write_result(sign(result, key), place / "result.json")
        if progress is not None:
            progress(submission, result)
        return result

    with ThreadPoolExecutor(jobs) as pool:
        running = [pool.submit(one, number) for number in range(len(submissions))]
        try:
            grades = [future.result() for future in running]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            cancellation.cancel()
            raise
    rows = _rows(submissions, grades)
    with replacing(folder / "grades.csv") as file:
        file.write(_csv(rows).encode("utf-8-sig"))  # the signature tells a spreadsheet the encoding
    with replacing(folder / "grades.html") as file:
        file.write(_page(exam, rows, grades, [folder / name for name in names]).encode())
    return grades


def _entries(folder: str | Path) -> list[Path]:
    """Returns the entries of the folder that are not hidden, sorted by name."""
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise CourseError(f"{folder} is no folder; give one with a model of each learner")
    try:
        return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        raise CourseError(f"{folder} cannot be read: {reason_of(error)}") from None


def _submission(entry: Path) -> Submission | None:
    """Returns the submission that a file or folder is, None for a file that is no model."""
    if entry.is_symlink() or not (entry.is_dir() or entry.is_file()):
        return Submission(entry.name, None, "it is a link or no file")
    if entry.is_file():
        return Submission(entry.stem, entry) if _is_model(entry) else None
    if _is_model(entry) or (entry / "model.keras").is_file():
        return Submission(entry.name, entry)
    try:
        models = [path for path in sorted(entry.iterdir()) if not path.is_symlink() and _is_model(path)]
    except OSError as error:
        return Submission(entry.name, None, f"its folder cannot be read: {reason_of(error)}")
    if len(models) == 1:
        return Submission(entry.name, models[0])
    return Submission(entry.name, None, f"its folder has {len(models) or 'no'} models; there has to be one")


def _is_model(path: Path) -> bool:
    with suppress(CourseError, OSError):
        return bool(format_of(path))
    return False


def _folder_names(submissions: Sequence[Submission]) -> list[str]:
    """Returns a folder name for each submission; special characters of the learner's file name are replaced."""
    kept = ["".join(sign if sign.isalnum() or sign in "-_" else "_" for sign in one.name)[:60] for one in submissions]
    width = len(str(len(kept)))
    return [f"{number:0{width}}_{name}" for number, name in enumerate(kept, start=1)]


def _rows(submissions: Sequence[Submission], grades: Sequence[Grade]) -> list[dict[str, str]]:
    """Returns a row of the table for each submission."""
    by_model: dict[str, list[str]] = {}
    for submission, result in zip(submissions, grades, strict=True):
        by_model.setdefault(result.model_sha256, []).append(submission.name)
    rows = []
    for submission, result in zip(submissions, grades, strict=True):
        same = by_model[result.model_sha256] if result.model_sha256 else []
        facts = {
            "submission": submission.name,
            "accuracy": "" if result.accuracy is None else f"{result.accuracy:.4f}",
            "same_as": _others(same, submission.name),
        }
        others = (name for name in _COLUMNS if name not in facts)
        rows.append(facts | {name: str(getattr(result, name)) for name in others})
    return rows


def _others(names: Sequence[str], own: str) -> str:
    """Returns the names of some others with the same file."""
    shown = [name for name in names[: _NAMES_SHOWN + 1] if name != own][:_NAMES_SHOWN]
    more = len(names) - 1 - len(shown)
    return ", ".join(shown) + (f" and {more:,} more" if more else "")


def _is_keras(path: Path) -> bool:
    with suppress(CourseError, OSError):
        return find_model_file(path).is_keras
    return False


def _csv(rows: Sequence[dict[str, str]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, _COLUMNS, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: as_cell(row[name]) for name in _COLUMNS})
    return text.getvalue()


def _page(exam: Exam, rows: Sequence[dict[str, str]], grades: Sequence[Grade], folders: Sequence[Path]) -> str:
    counts = Counter(result.verdict for result in grades)
    summary = ", ".join(f"{counts[verdict]} {verdict}" for verdict in VERDICTS)
    table = number_table(
        ["submission", "verdict", "accuracy", "same file as"],
        [[row["submission"], row["verdict"], _percent(row["accuracy"]), row["same_as"]] for row in rows],
        "Grades",
    )
    details = [
        _details(row["submission"], result, folder) for row, result, folder in zip(rows, grades, folders, strict=True)
    ]
    asked = f"To pass, {exam.pass_mark:.0%} of the answers have to be right, and {exam.least_recall:.0%} of each class."
    body = [element("h1", "Grades"), element("p", f"{summary}. {asked}", class_="summary"), table, *details]
    return document("Grades", body)


def _details(name: str, result: Grade, folder: Path) -> Html:
    parts = [element("p", f"{result.verdict}: {result.reason}.")]
    if result.runtime:
        parts.append(element("p", f"{result.model}, {result.format}, {result.runtime}, {result.seconds:.1f} s"))
    for file, caption in (("confusion_matrix", "Confusion matrix"), ("most_wrong", "The worst mistakes")):
        if (folder / f"{file}.png").is_file():
            caption = f"{caption}, {name}"
            figure = image(folder / f"{file}.png", caption)
            parts.append(element("figure", figure, element("figcaption", caption)))
    return section(name, *parts)


def _percent(share: str) -> str:
    return f"{100 * float(share):.2f} %" if share else "–"
