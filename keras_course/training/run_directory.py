"""The folder of a training run: its results, and the checkpoint from which it resumes."""

import csv
import io
import json
import os
import platform
import re
import statistics
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

Columns = dict[str, list[float]]
_PARTS = ("model", "optimizer", "best", "random")
_FILES = (
    *("checkpoint.npz", "history.csv", "steps.csv", "metrics.json"),
    *("model.keras", "model.weights.h5", "report.html"),
)

_ON_THE_CARD = ("samples", "parameters", "epochs", "batch_size", "seed", "backend", "precision", "versions")


class FolderTakenError(CourseError):
    """The folder of a run is in use, or holds a run already; ``can_resume`` says if ``resume=True`` would open it."""

    def __init__(self, reason: str, *, can_resume: bool = False) -> None:
        super().__init__(f"{reason}; {'resume it or ' if can_resume else ''}choose another folder")
        self.reason = reason
        self.can_resume = can_resume


@dataclass
class Checkpoint:
    """The state of a training after an epoch; the next epoch depends on nothing else."""

    settings: dict[str, Any]  # seed, batch size, ...; the run is resumed only with the same ones
    history: Columns
    model: list[np.ndarray]  # in the order of model.weights
    optimizer: list[np.ndarray]  # in the order of optimizer.variables
    best: list[np.ndarray] = field(default_factory=list)  # the weights of the best epoch, for early stopping
    random: list[np.ndarray] = field(default_factory=list)  # the states of the random generators of Keras' layers
    stopped: bool = False  # by a callback
    steps: int = 0
    training: dict[str, Any] = field(default_factory=dict)  # see RunDirectory.training
    version: int = 2  # of the file format; version 1 has neither layer names nor states of generators


class RunDirectory:
    """A folder with ``model.keras``, ``history.csv``, ``steps.csv``, ``metrics.json``, ``figures``, ``checkpoint.npz``.

    Each file is written under a temporary name and then renamed, so a process that is killed leaves the previous
    version. A lock keeps a second process out.

    Args:
        path: The folder; it is created if needed.
        resume: Whether to resume the run in the folder. Without it, the folder must not hold a run yet.

    Raises:
        FolderTakenError: The folder holds a run already, or another process uses it.
        CourseError: The folder cannot be written.

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
        self.figures = self.path / "figures"
        """The folder of the figures."""
        self.training: dict[str, Any] = {}
        """How ``fit`` computed the steps: in the compiled loop or by Keras' trainer, and why."""
        self._checkpoint = self.path / "checkpoint.npz"
        self._lock = Lock(self.path / ".lock")
        try:
            is_free = self._lock.acquire()
        except OSError as error:
            raise CourseError(f"output folder {self.path} cannot be used: {reason_of(error)}; choose another") from None
        if not is_free:
            raise FolderTakenError(f"output folder {self.path} is in use by another run")
        if resume:  # another process may have been killed while writing
            for name in _FILES:
                remove_left_behind(self.path, name)
            for name in ("*.png", "*.gif"):
                remove_left_behind(self.figures, name)
        elif self._checkpoint.exists() or (self.path / "model.keras").exists():
            self.close()
            raise FolderTakenError(f"output folder {self.path} holds a run already", can_resume=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Releases the lock, so that other processes can open the folder."""
        if self._lock.is_held:
            with suppress(OSError):
                (self.path / ".lock").unlink()  # before the lock is released: then it may be another process's file
            self._lock.release()

    def inside(self, name: str) -> "RunDirectory":
        """Opens a run in a folder inside this one, for a second model that is compared with the first.

        It is resumed if this run is resumed.

        Raises:
            CourseError: It cannot be used.

        Example:
            >>> import tempfile
            >>> with RunDirectory(tempfile.mkdtemp()) as run, run.inside("without_dropout") as other:
            ...     other.path.relative_to(run.path).name
            'without_dropout'
        """
        return RunDirectory(self.path / name, resume=self.resume)

    def save_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Writes ``checkpoint.npz`` and ``history.csv``.

        Raises:
            DiskError: The disk is full, or the file cannot be written; the previous checkpoint stays.
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
        """Reads the state after the last complete epoch from ``checkpoint.npz``; None if no epoch is complete.

        Raises:
            CourseError: The file was not written by ``save_checkpoint``.
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
                "start again in another folder"
            ) from None

    def write_history(self, history: Mapping[str, Sequence[float]]) -> None:
        """Writes ``history.csv``, one row for each epoch, from columns of equal length."""
        with replacing(self.path / "history.csv") as file:
            file.write(_csv([list(history), *zip(*history.values(), strict=True)]).encode())

    def start_steps(self, last_step: int) -> None:
        """Prepares ``steps.csv`` to be continued after a step, 0 for none; removes later rows, of an interrupted epoch.

        Raises:
            CourseError: The file is damaged; it is not changed.
        """
        path = self.path / "steps.csv"
        kept = _steps_until(last_step, path) if last_step and path.exists() else []
        with replacing(path) as file:
            file.write(_csv([["step", "loss"], *kept]).encode())

    def append_steps(self, first_step: int, losses: Iterable[float]) -> None:
        """Appends the loss of each step to ``steps.csv``; steps are counted from 1.

        Raises:
            DiskError: The disk is full; the rows up to the last checkpoint are complete.
        """
        rows = [(step, f"{loss:.9g}") for step, loss in enumerate(losses, start=first_step)]
        path = self.path / "steps.csv"
        try:
            with open_to_append(path) as file:
                file.write(_csv(rows).encode())
                file.flush()
                os.fsync(file.fileno())  # before the checkpoint, which records the number of steps
        except OSError as error:
            raise DiskError(path, error) from error

    def save_model(self, model: keras.Model, card: ModelCard | None = None) -> None:
        """Writes ``model.keras`` without optimizer and compile settings, so that it opens on every backend.

        Arrays of initializers, as in ``Constant(array)``, are not written either.

        Args:
            model: The model.
            card: The model's card. ``keras-course predict`` needs one.

        Raises:
            CourseError: The model could not be loaded from its file, and only its weights were saved, in
                ``model.weights.h5``; or the card does not fit the model, and the model was saved without it.
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
                    card = card.with_activation(output_activations(model)[0])
                    card.check_model("the model", *shapes)
                    put_card(beside, card)
                except CourseError as error:  # raised after the model is saved
                    mistake = error
        if mistake is not None:
            raise CourseError(
                f"{mistake} (the model is saved without a card, in {self.path / 'model.keras'})"
            ) from mistake

    def _keep_weights(self, model: keras.Model) -> str:
        """Saves only the weights of a model that cannot be saved whole; returns a text that says where."""
        path = self.path / "model.weights.h5"
        try:
            with replacing_by_name(path) as beside:
                model.save_weights(beside)
        except Exception:  # the caller's error says why there is no model
            return ""
        return f" (its weights are in {path})"

    def save_results(
        self,
        model: keras.Model,
        history: Mapping[str, list[float]],
        settings: Mapping[str, Any],
        *,
        metrics: Mapping[str, Any],
        samples: int | None = None,
        card: ModelCard | None = None,
    ) -> dict[str, Any]:
        """Writes ``model.keras`` and ``metrics.json``.

        Facts that only describe the run, such as the name of the device, are left out if they cannot be determined.

        Args:
            model: The trained model.
            history: The columns that ``fit`` returned, or nothing if the model was not trained in this run.
            settings: The settings of the run; of these, ``seed``, ``batch_size``, ``precision``, ``data`` and
                ``command`` are recorded.
            metrics: What was measured, for example ``accuracy`` and ``loss``.
            samples: The number of samples in an epoch.
            card: The model's card. If the model was trained, ``metrics`` and ``training`` of the card are set here.

        Returns:
            The content of ``metrics.json``.

        Raises:
            CourseError: See ``save_model``; ``metrics.json`` is written in any case.

        Example:
            >>> import tempfile
            >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
            >>> history = {"epoch": [1], "loss": [0.5], "seconds": [0.1]}
            >>> with RunDirectory(tempfile.mkdtemp()) as run:
            ...     results = run.save_results(model, history, {"seed": 7}, metrics={"loss": 0.5}, samples=64)
            >>> results["loss"], results["seed"], results["parameters"]
            (0.5, 7, 3)
        """
        facts = {
            "parameters": model.count_params,
            "seconds": lambda: round(sum(history["seconds"]), 3),
            # validation included
            "steps_per_second": lambda: round(
                -(-(samples or 0) // settings["batch_size"]) / max(0.001, statistics.median(history["seconds"])), 1
            ),
            "seed": lambda: settings["seed"],
            "epochs": lambda: len(history["epoch"]),
            "batch_size": lambda: settings["batch_size"],
            "backend": keras.backend.backend,
            "device": _backend.device_in_use,
            "precision": lambda: settings["precision"],
            "data": lambda: settings["data"],
            "samples": lambda: samples,
            "command": lambda: settings["command"],
            "versions": _versions,
        }
        unknown = set() if samples else {"samples", "steps_per_second"}
        if not history:
            unknown |= {"batch_size", "samples"}
        training = {"training": self.training} if self.training else {}
        known = _determined({name: fact for name, fact in facts.items() if name not in unknown})
        results = {**metrics, **training, **known}
        if card is not None and history:
            card = _with_results(card, results)
        try:
            self.save_model(model, card)
        finally:
            self.write_json("metrics.json", results)
        return results

    def write_json(self, name: str, content: Any) -> None:
        """Writes a JSON file into the folder.

        Besides what ``json`` can write, NumPy numbers and arrays are allowed; anything else is written as
        ``str(value)``.
        """
        with replacing(self.path / name) as file:
            file.write(json.dumps(content, indent=2, default=_plain).encode() + b"\n")


def new_folder(parent: str | Path, name: str) -> Path:
    """Returns the folder for a new run in ``parent``: ``name``, or ``name-2``, ``name-3``, ... where that exists."""
    number, path = 1, Path(parent) / name
    while path.exists():
        number += 1
        path = Path(parent) / f"{name}-{number}"
    return path


def latest_folder(parent: str | Path, name: str) -> Path:
    """Returns the latest run of a lesson, by the time of its last epoch; raises a CourseError if there is none."""
    numbered = re.compile(rf"{re.escape(name)}(-\d+)?")
    runs = [path for path in Path(parent).glob(f"{name}*") if numbered.fullmatch(path.name)]
    if not runs:
        raise CourseError(f"there is no run of {name} in {parent} to resume; leave out --resume or name it by --output")

    def written(path: Path) -> float:
        history = path / "history.csv"
        return history.stat().st_mtime if history.exists() else 0.0

    return max(runs, key=written)


def find_run(model: str, lessons: Sequence[str], parent: str | Path = "runs") -> Path | None:
    """Finds the run whose model a lesson uses.

    Args:
        model: ``auto`` for the latest run of one of the lessons, ``new`` for none, or the folder of a run.
        lessons: Names of lessons, the preferred one first.
        parent: The folder of all runs.

    Returns:
        The folder of the run, or None if the lesson has to train a model.

    Raises:
        CourseError: ``model`` is a folder without a model.

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
    """Returns the versions that a result depends on, read from the modules: a package can have several names."""
    packages = {name: version_of(name) for name in ("keras", keras.backend.backend(), "numpy")}
    return {"python": platform.python_version(), "keras-course": version_of("keras_course"), **packages}


def _determined(facts: Mapping[str, Callable[[], Any]]) -> dict[str, Any]:
    """Calls each function and leaves out those that fail: a description must never cost the results."""
    found = {}
    for name, function in facts.items():
        with suppress(Exception):
            found[name] = function()
    return found


def _with_results(card: ModelCard, metrics: Mapping[str, Any]) -> ModelCard:
    """Adds to a card the metrics and the facts of the training that a card can hold."""
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
    """Raises a ValueError for anything that ``save_checkpoint`` does not write; no later check is made."""
    kinds = {"settings": dict, "history": dict, "training": dict, "stopped": bool, "steps": int, "version": int}
    for name, kind in kinds.items():
        if type(getattr(checkpoint, name)) is not kind:
            raise ValueError(f"its {name} is not of type {kind.__name__}")
    history = checkpoint.history
    lengths = {len(column) if isinstance(column, list) else -1 for column in history.values()}
    if "epoch" not in history or len(lengths) > 1 or -1 in lengths or checkpoint.steps < 0:
        raise ValueError("its history is not a table")
    for name in {"epoch", "loss", "val_loss", "seconds"} & set(history):
        if not all(type(cell) in (int, float) for cell in history[name]):
            raise ValueError(f"its {name} is not a number in each epoch")
    if any(array.dtype.kind not in "fiub" for part in _PARTS for array in getattr(checkpoint, part)):
        raise ValueError("it holds an array that is not numeric")
    return checkpoint


def _steps_until(last_step: int, path: Path) -> list[tuple[int, str]]:
    """Reads the rows of ``steps.csv`` up to a step; a later row may be incomplete, if a process was killed."""
    kept: list[tuple[int, str]] = []
    lines = path.read_bytes().decode("utf-8", "backslashreplace").split("\n")
    for number, line in enumerate(lines[:-1], start=1):  # the last part is empty or an incomplete row
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
                f"{path} is damaged: line {number} is {line[:40]!r}, expected {wanted}; repair it, or rename the file "
                "to resume without the losses of earlier steps"
            )
        if number > 1 and int(step) <= last_step:
            kept.append((int(step), loss))
        if number > 1 and int(step) >= last_step:
            break
    return kept


def _plain(value: Any) -> Any:
    """Converts a value that ``json`` does not know."""
    return value.tolist() if hasattr(value, "tolist") else str(value)


def _csv(rows: Iterable[Iterable[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
