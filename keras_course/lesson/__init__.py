"""What all lessons share: their options, the folder of their run, and errors that are explained in one line.

A lesson imports it before Keras, so that ``parse_options`` can choose the backend; nothing here imports Keras or NumPy
before that.
"""

from typing import TYPE_CHECKING

from keras_course.lesson.options import DATA, MODELS, PRECISIONS, Options, explain_errors, parse_options

if TYPE_CHECKING:
    from keras_course.lesson.run import LessonRun

__all__ = ["DATA", "MODELS", "PRECISIONS", "Options", "explain_errors", "open_run", "parse_options"]


def open_run(lesson: str, options: Options) -> "LessonRun":
    """Opens the run directory of a lesson and sets the precision.

    Args:
        lesson: The lesson's name. The folder is ``runs/<name>``, with a number where that is taken.
        options: The lesson's options. ``output`` names another folder; ``resume`` takes the last run of the lesson.

    Returns:
        The run, whose folder is locked until ``finish`` or ``close``.

    Raises:
        CourseError: The folder cannot be used, holds a run already, or there is no run to resume.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> with open_run("04_mnist_dense", Options(output=Path(tempfile.mkdtemp()))) as run:
        ...     run.figures.name
        'figures'
    """
    from keras_course.lesson.run import LessonRun

    return LessonRun(lesson, options)
