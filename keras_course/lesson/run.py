"""The run of a lesson: its folder, its figures with captions, and the end that all lessons share."""

import shlex
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import keras
from matplotlib.figure import Figure

from keras_course import _backend, plots
from keras_course.cards import ModelCard
from keras_course.errors import CourseError
from keras_course.lesson.options import Options
from keras_course.report import write_report
from keras_course.training.run_directory import FolderTakenError, RunDirectory, latest_folder, new_folder

_Drawn = TypeVar("_Drawn", Figure, plots.Animation)


class LessonRun(RunDirectory):
    """The run directory of a lesson. It collects figures with their captions; ``finish`` saves the results."""

    def __init__(self, lesson: str, options: Options) -> None:
        _backend.configure(options.precision)
        self.options = options
        self._captions: dict[str, str] = {}
        find = latest_folder if options.resume else new_folder
        try:
            super().__init__(options.output or find("runs", lesson), resume=options.resume)
        except FolderTakenError as error:
            resume = "add --resume, " if error.can_resume else ""
            raise CourseError(
                f"{error.reason}; {resume}give another --output, or none: "
                f"the lesson then takes {new_folder('runs', lesson)}"
            ) from None

    def add_figure(self, name: str, figure: _Drawn, caption: str) -> _Drawn:
        """Saves a figure in ``figures/``; the report shows the figures in the order in which they are added.

        Args:
            name: The name of the file without its ending.
            figure: A figure, saved as PNG, or an animation, saved as GIF with its last frame beside it as PNG.
            caption: The text below the figure in the report; a screen reader reads it, too.

        Returns:
            The figure; a notebook shows it where it is the last value of a cell.
        """
        if isinstance(figure, plots.Animation):
            plots.save_animation(figure, self.figures / f"{name}.gif")
        else:
            plots.save(figure, self.figures / f"{name}.png")
        self._captions[name] = caption
        return figure

    def record(
        self,
        model: keras.Model,
        history: Mapping[str, list[float]] | None = None,
        *,
        metrics: Mapping[str, Any],
        samples: int | None = None,
        card: ModelCard | None = None,
    ) -> dict[str, Any]:
        """Saves the results before the end of the lesson; ``finish`` does it where a lesson needs them only then.

        Args:
            model: The trained model.
            history: The columns that ``fit`` returned, if the model was trained.
            metrics: What was measured, for example ``accuracy`` and ``loss``; see ``report`` for the names it knows.
            samples: The number of samples in an epoch.
            card: The model's card; what was measured is added to it.

        Returns:
            The content of ``metrics.json``.

        Raises:
            CourseError: See ``save_model``.
        """
        settings = {**asdict(self.options), "command": shlex.join(["python", *sys.argv])}
        return self.save_results(model, history or {}, settings, metrics=metrics, samples=samples, card=card)

    def finish(
        self,
        model: keras.Model | None = None,
        history: Mapping[str, list[float]] | None = None,
        *,
        title: str,
        metrics: Mapping[str, Any] | None = None,
        samples: int | None = None,
        card: ModelCard | None = None,
        captions: Mapping[str, str] | None = None,
    ) -> Path:
        """Saves model, metrics and report, prints where the report is, and closes the run.

        Args:
            model: The trained model. Without it, the results have been saved already, see ``record``.
            history: The columns that ``fit`` returned; without it, the report says nothing about training.
            title: The heading of the report.
            metrics: What was measured, for example ``accuracy`` and ``loss``; see ``report`` for the names it knows.
            samples: The number of samples in an epoch.
            card: The model's card; what was measured is added to it.
            captions: Captions of figures in ``figures/`` that were not added by ``add_figure``.

        Returns:
            The path of the report.

        Raises:
            CourseError: See ``save_model`` and ``write_report``.

        Example:
            >>> import tempfile
            >>> run = LessonRun("04_mnist_dense", Options(output=Path(tempfile.mkdtemp())))
            >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
            >>> run.finish(model, {"epoch": [1], "loss": [0.5]}, title="A line", metrics={"loss": 0.5}).name
            the report is .../report.html
            'report.html'
        """
        if model is not None:
            self.record(model, history, metrics=metrics or {}, samples=samples, card=card)
        if history and not (self.path / "checkpoint.npz").exists():  # with a checkpoint, `fit` has written it
            self.write_history(history)
        page = write_report(
            self.path, title=title, captions={**self._captions, **(captions or {})}, trained=history is not None
        )
        self.close()
        print(f"the report is {page}")
        return page
