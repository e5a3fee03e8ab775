"""The folder that a training run leaves behind, and goes on from."""

import csv
import io
import json
import os
import platform
import re
import shlex
import statistics
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import keras
import numpy as np

from keras_course import _backend
from keras_course._backend.activations import output_activations
from keras_course._backend.select import version_of
from keras_course._backend.weights import without_training
from keras_course.allow_list import check_can_be_opened
from keras_course.cards import ModelCard, put_card, shapes_of
from keras_course.errors import CourseError, DiskError, reason_of
from keras_course.files import Lock, open_to_append, remove_left_behind, replacing, replacing_by_name
from keras_course.lesson import Options

Columns = dict[str, list[float]]
_PARTS = ("model", "optimizer", "best", "random")
_FILES = (
    *("checkpoint.npz", "history.csv", "steps.csv", "metrics.json"),
    *("model.keras", "model.weights.h5", "report.html"),
)

_ON_THE_CARD = ("samples", "parameters", "epochs", "batch_size", "seed", "backend", "precision", "versions")


@dataclass
class Checkpoint:
    """All that the next epoch depends on.

    Args:
        settings: What the run was started with (seed, batch size, ...); a run goes on only with the same.
        history: The columns of ``history.csv`` so far.
        model: The weights of the model, in its order.
        optimizer: The variables of the optimizer, in its order.
        best: The weights of the best epoch, where early stopping keeps them.
        random: The states of the random generators of Keras' layers.
        stopped: Whether a callback has ended the run.
        steps: How many steps the run has taken.
        training: How they were taken, see ``RunDirectory.training``.
        version: Of the form of the file; the first one says nothing of layers, and has no states of generators.
    """

    settings: dict[str, Any]
    history: Columns
    model: list[np.ndarray]
    optimizer: list[np.ndarray]
    best: list[np.ndarray] = field(default_factory=list)
    random: list[np.ndarray] = field(default_factory=list)
    stopped: bool = False
    steps: int = 0
    training: dict[str, Any] = field(default_factory=dict)
    version: int = 2


class RunDirectory:
    """A folder with ``model.keras``, ``history.csv``, ``steps.csv``, ``metrics.json``, ``figures``, ``checkpoint.npz``.

    Every file is written beside and renamed: a process that is killed leaves the file of before. A lock keeps a second
    process out while the first one writes.

    Args:
        path: The folder; it is made if needed.
        resume: Whether to go on with the run in that folder. Without it, the folder must not hold a run yet.

    Raises:
        CourseError: The folder holds a run already, is in use by another process, or cannot be written.

    Example:
        >>> import tempfile
        >>> with RunDirectory(tempfile.mkdtemp()) as run:
        ...     run.write_json("metrics.json", {"accuracy": 0.98})
        ...     sorted(path.name for path in run.path.glob("*.json"))
        ['metrics.json']
    """

    def __init__(self, path: str | Path, *, resume: bool = False) -> None:
        self.path = Path(path)
        self.resume = resume
        self.training: dict[str, Any] = {}
        """How the steps were taken, which ``fit`` notes here: in the compiled loop or by Keras' trainer, and why."""
        self._lock = Lock(self.path / ".lock")
        try:
            is_free = self._lock.acquire()
        except OSError as error:
            raise CourseError(f"output folder {self.path} cannot be used: {reason_of(error)}; choose another") from None
        if not is_free:
            raise CourseError(f"output folder {self.path} is in use by another run; choose another --output")
        if resume:
            self._tidy_up()
        elif self._checkpoint.exists() or (self.path / "model.keras").exists():
            self.close()
            raise CourseError(f"output folder {self.path} holds a run already; add --resume or choose another --output")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Lets other processes in."""
        if self._lock.is_held:
            with suppress(OSError):
                (self.path / ".lock").unlink()  # while it is ours: afterwards it may be another's
            self._lock.release()

    def inside(self, name: str) -> "RunDirectory":
        """Opens a run within this one, for a model that the lesson's is compared with; it resumes where this one does.

        Args:
            name: The name of its folder.

        Returns:
            The folder, locked.

        Raises:
            CourseError: It cannot be used.

        Example:
            >>> import tempfile
            >>> with RunDirectory(tempfile.mkdtemp()) as run, run.inside("without_dropout") as other:
            ...     other.path.relative_to(run.path).name
            'without_dropout'
        """
        return RunDirectory(self.path / name, resume=self.resume)

    @property
    def figures(self) -> Path:
        """The folder of the pictures."""
        return self.path / "figures"

    @property
    def _checkpoint(self) -> Path:
        return self.path / "checkpoint.npz"

    def _tidy_up(self) -> None:
        """Removes what a process that was killed while it wrote a file has left beside it."""
        for name in _FILES:
            remove_left_behind(self.path, name)
        for name in ("*.png", "*.gif"):
            remove_left_behind(self.figures, name)

    def save_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Writes the state after an epoch, and the history as CSV beside it.

        Args:
            checkpoint: The state.

        Raises:
            DiskError: The disk is full, or the file cannot be written; the last checkpoint stays.
        """
        arrays = {
            f"{part}/{number:05}": array for part in _PARTS for number, array in enumerate(getattr(checkpoint, part))
        }
        names = ("settings", "history", "stopped", "steps", "training", "version")
        header = json.dumps({name: getattr(checkpoint, name) for name in names})
        with replacing(self._checkpoint) as file:
            np.savez(file, header=np.array(header), **arrays)
        self.write_history(checkpoint.history)

    def load_checkpoint(self) -> Checkpoint | None:
        """Reads the state after the last whole epoch.

        Returns:
            The state, or None where the run has not finished an epoch yet.

        Raises:
            CourseError: The file is not one that ``save_checkpoint`` wrote.
        """
        if not self._checkpoint.exists():
            return None
        try:
            with self._checkpoint.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                header = json.loads(str(arrays["header"]))
                parts: dict[str, list[np.ndarray]] = {name: [] for name in _PARTS}
                for name in sorted(set(arrays.files) - {"header"}):
                    parts[name.partition("/")[0]].append(arrays[name])
            about: dict[str, Any] = {"version": 1, **header, **parts}
            return _checked(Checkpoint(**about))
        except Exception as error:
            raise CourseError(
                f"{self._checkpoint} is not a checkpoint that can be read ({reason_of(error)}); "
                "start again in another --output"
            ) from None

    def write_history(self, history: Mapping[str, Sequence[float]]) -> None:
        """Writes ``history.csv``: a row an epoch.

        Args:
            history: Columns of equal length.
        """
        with replacing(self.path / "history.csv") as file:
            file.write(_csv([list(history), *zip(*history.values(), strict=True)]).encode())

    def start_steps(self, last_step: int) -> None:
        """Makes ``steps.csv`` ready to be continued after a step; later rows, of an epoch cut short, are dropped.

        Args:
            last_step: The last step to keep, 0 for none.

        Raises:
            CourseError: The file is damaged; it stays as it is.
        """
        path = self.path / "steps.csv"
        kept = _steps_until(last_step, path) if last_step and path.exists() else []
        with replacing(path) as file:
            file.write(_csv([["step", "loss"], *kept]).encode())

    def append_steps(self, first_step: int, losses: Iterable[float]) -> None:
        """Adds the losses of single batches to ``steps.csv``.

        Args:
            first_step: The number of the first of them, counted from 1.
            losses: The loss of each batch.

        Raises:
            DiskError: The disk is full; what is there until the last checkpoint is whole.
        """
        rows = [(step, f"{loss:.9g}") for step, loss in enumerate(losses, start=first_step)]
        path = self.path / "steps.csv"
        try:
            with open_to_append(path) as file:
                file.write(_csv(rows).encode())
                file.flush()
                os.fsync(file.fileno())  # before the checkpoint, which says how many rows there are
        except OSError as error:
            raise DiskError(path, error) from error

    def save_model(self, model: keras.Model, card: ModelCard | None = None) -> None:
        """Writes ``model.keras``, without optimizer or compile settings, so that it opens on every backend.

        Arrays that weights started from, as in ``Constant(array)``, are left out, too: the file has what was learned.

        Args:
            model: The model.
            card: What it says about itself; without one it cannot be put to work by ``keras-course predict``.

        Raises:
            CourseError: The file could not be opened again, and only the weights are kept, in ``model.weights.h5``; or
                the card belongs to another model, and the model is saved without it.
        """
        try:
            check_can_be_opened(model)
        except CourseError as error:
            raise CourseError(f"{error}{self._keep_weights(model)}") from error
        mistake: CourseError | None = None
        with replacing_by_name(self.path / "model.keras") as beside:
            with without_training(model):
                model.save(beside)
            if card is not None:
                try:
                    shapes = shapes_of(model)
                    card = replace(card, outputs=output_activations(model)[0] or "logits")
                    card.check_model("the model", *shapes)
                    put_card(beside, card)
                except CourseError as error:  # raised when the model is safe
                    mistake = error
        if mistake is not None:
            raise CourseError(f"{mistake} (it is saved without one, in {self.path / 'model.keras'})") from mistake

    def _keep_weights(self, model: keras.Model) -> str:
        """Saves what has been learned by a model that no file describes; returns where, in words."""
        path = self.path / "model.weights.h5"
        try:
            with replacing_by_name(path) as beside:
                model.save_weights(beside)
        except Exception:  # the reason why there is no model is told in any case
            return ""
        return f" (they are in {path})"

    def save_results(
        self,
        model: keras.Model,
        history: Columns,
        options: Options,
        *,
        samples: int,
        card: ModelCard | None = None,
        **facts: Any,
    ) -> dict[str, Any]:
        """Writes ``model.keras`` and ``metrics.json``.

        What only describes the run, such as the name of the device, is left out where it cannot be found out.

        Args:
            model: The trained model.
            history: The columns that ``fit`` returned.
            options: What the lesson was started with.
            samples: How many samples an epoch went through.
            card: What the model says about itself, but for ``metrics`` and ``training``, which are added here.
            **facts: What was measured, for example ``accuracy`` and ``loss``.

        Returns:
            What ``metrics.json`` holds.

        Raises:
            CourseError: As for ``save_model``; ``metrics.json`` is written in any case.
        """
        seconds = history.get("seconds", [])
        metrics = {
            **facts,
            **({"training": self.training} if self.training else {}),
            **_found_out(
                parameters=model.count_params,
                seconds=lambda: round(sum(seconds), 3),
                # validation included
                steps_per_second=lambda: round(
                    -(-samples // options.batch_size) / max(0.001, statistics.median(seconds)), 1
                ),
                seed=lambda: options.seed,
                epochs=lambda: len(history["epoch"]),
                batch_size=lambda: options.batch_size,
                backend=keras.backend.backend,
                device=_backend.device_in_use,
                precision=lambda: options.precision,
                data=lambda: options.data,
                samples=lambda: samples,
                command=lambda: shlex.join(["python", *sys.argv]),
                versions=_versions,
            ),
        }
        try:
            self.save_model(model, None if card is None else _with_results(card, metrics))
        finally:
            self.write_json("metrics.json", metrics)
        return metrics

    def write_json(self, name: str, content: Any) -> None:
        """Writes a JSON file.

        Args:
            name: Its name in the folder.
            content: What ``json`` can write, and NumPy's numbers and arrays; of all else, what it is in words.
        """
        with replacing(self.path / name) as file:
            file.write(json.dumps(content, indent=2, default=_plain).encode() + b"\n")


def open_run(lesson: str, options: Options) -> RunDirectory:
    """Opens the run directory of a lesson, and sets the precision that was asked for.

    Args:
        lesson: The lesson's name; the folder is ``runs/<name>``, numbered where that is taken.
        options: What the lesson was started with; ``output`` names another folder, ``resume`` the last one.

    Returns:
        The folder, locked.

    Raises:
        CourseError: The folder cannot be used, or there is no run to resume.
    """
    _backend.configure(options.precision)
    find = latest_folder if options.resume else new_folder
    path = options.output or find("runs", lesson)
    return RunDirectory(path, resume=options.resume)


def new_folder(parent: str | Path, name: str) -> Path:
    """Names a folder for a new run: ``name``, or ``name-2``, ``name-3``, ... where that is taken.

    Args:
        parent: The folder of all runs.
        name: The name of the lesson.

    Returns:
        A path at which nothing is yet.

    Example:
        >>> new_folder("runs", "no_such_lesson").name
        'no_such_lesson'
    """
    number, path = 1, Path(parent) / name
    while path.exists():
        number += 1
        path = Path(parent) / f"{name}-{number}"
    return path


def latest_folder(parent: str | Path, name: str) -> Path:
    """Finds the run of a lesson that was written to last.

    Args:
        parent: The folder of all runs.
        name: The name of the lesson.

    Returns:
        The folder of that run.

    Raises:
        CourseError: There is none.
    """
    numbered = re.compile(rf"{re.escape(name)}(-\d+)?")
    runs = [path for path in Path(parent).glob(f"{name}*") if numbered.fullmatch(path.name)]
    if not runs:
        raise CourseError(f"there is no run of {name} in {parent} to resume; leave out --resume or name it by --output")

    def written(path: Path) -> float:
        history = path / "history.csv"
        return history.stat().st_mtime if history.exists() else 0.0

    return max(runs, key=written)


def find_run(model: str, lessons: Sequence[str], parent: str | Path = "runs") -> Path | None:
    """Finds the run whose model a lesson is to take.

    Args:
        model: ``auto`` for the last one of the lessons, ``new`` for none, or the folder of a run.
        lessons: Names of lessons, the preferred one first.
        parent: The folder of all runs.

    Returns:
        The folder of the run, or None where a model is to be trained.

    Raises:
        CourseError: The folder is named and holds no model.

    Example:
        >>> find_run("auto", ["no_such_lesson"]) is None
        True
    """
    if model == "new":
        return None
    if model != "auto":
        folder = Path(model).expanduser()
        if not ((folder / "model.keras").is_file() and (folder / "history.csv").is_file()):
            raise CourseError(
                f"--model is {model!r}, which holds no model.keras and history.csv; give the folder of a run"
            )
        return folder
    for lesson in lessons:
        with suppress(CourseError):
            folder = latest_folder(parent, lesson)
            if (folder / "model.keras").is_file():
                return folder
    return None


def _versions() -> dict[str, str]:
    """The versions of what a result depends on; modules are asked, for a package may go by several names."""
    packages = ("keras", keras.backend.backend(), "numpy")
    return {
        "python": platform.python_version(),
        "keras-course": version_of("keras_course"),
        **{name: version_of(name) for name in packages},
    }


def _found_out(**facts: Callable[[], Any]) -> dict[str, Any]:
    """Asks for what only describes a run, which must never cost its result: what fails is left out."""
    found = {}
    for name, ask in facts.items():
        with suppress(Exception):
            found[name] = ask()
    return found


def _with_results(card: ModelCard, metrics: Mapping[str, Any]) -> ModelCard:
    """Adds to a card what was measured and how the model was made, as far as a card can say it."""
    card = replace(card, metrics={}, training={})
    for name in ("accuracy", "loss", *_ON_THE_CARD):
        if name in metrics:
            with suppress(CourseError):  # a loss that is not a number, for example
                if name in _ON_THE_CARD:
                    card = replace(card, training={**card.training, name: metrics[name]})
                else:
                    card = replace(card, metrics={**card.metrics, name: metrics[name]})
    return card


def _checked(checkpoint: Checkpoint) -> Checkpoint:
    """Refuses what ``save_checkpoint`` does not write: numbers and weights are used as they are."""
    kinds = {"settings": dict, "history": dict, "training": dict, "stopped": bool, "steps": int, "version": int}
    for name, kind in kinds.items():
        if type(getattr(checkpoint, name)) is not kind:
            raise ValueError(f"its {name} is no {kind.__name__}")
    history = checkpoint.history
    lengths = {len(column) if isinstance(column, list) else -1 for column in history.values()}
    if "epoch" not in history or len(lengths) > 1 or -1 in lengths or checkpoint.steps < 0:
        raise ValueError("its history is no table")
    for name in {"epoch", "loss", "val_loss", "seconds"} & set(history):
        if not all(type(cell) in (int, float) for cell in history[name]):
            raise ValueError(f"its {name} is not a number in each epoch")
    if any(array.dtype.kind not in "fiub" for part in _PARTS for array in getattr(checkpoint, part)):
        raise ValueError("it holds what is no number")
    return checkpoint


def _steps_until(last_step: int, path: Path) -> list[tuple[int, str]]:
    """Reads the rows of ``steps.csv`` up to a step; a row behind it may have been cut off by the end of a process."""
    kept: list[tuple[int, str]] = []
    lines = path.read_bytes().decode("utf-8", "backslashreplace").split("\n")
    for number, line in enumerate(lines[:-1], start=1):  # behind the last end of a line is nothing, or half a row
        step, _, loss = line.rstrip("\r").partition(",")
        try:
            if number == 1:
                is_right = (step, loss) == ("step", "loss")
            else:
                is_right = int(step) > (kept[-1][0] if kept else 0) and float(loss) is not None
        except ValueError:
            is_right = False
        if not is_right:
            wanted = "step,loss" if number == 1 else "the number of a step and its loss"
            raise CourseError(
                f"{path} is damaged: line {number} is {line[:40]!r}, wanted is {wanted}; mend it, or rename the file "
                "to go on without the losses of earlier steps"
            )
        if number > 1:
            if int(step) > last_step:
                break
            kept.append((int(step), loss))
            if int(step) == last_step:
                break
    return kept


def _plain(value: Any) -> Any:
    """What JSON can hold of a value that it does not know."""
    return value.tolist() if hasattr(value, "tolist") else str(value)


def _csv(rows: Iterable[Iterable[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
