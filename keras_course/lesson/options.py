"""The command-line options of all lessons, and error messages of one line."""

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn

from keras_course._backend import select
from keras_course.errors import CourseError
from keras_course.foreign_text import printable
from keras_course.pretrained.names import BERT_NAMES, NAMES

PRECISIONS = ("float32", "tf32", "bfloat16")
"""Values of ``--precision``: exact; matrix products rounded on the GPU; half the memory."""

DATA = ("auto", "full", "sample")
"""Values of ``--data`` besides a path. ``auto`` takes the full data set if it is available, else the sample."""

MODELS = ("auto", "new")
"""Values of ``--model`` besides the folder of a run: ``auto`` takes the latest run, ``new`` trains a model."""

_COMMAND_LINE: dict[str, dict[str, Any]] = {
    "backend": {
        "metavar": "NAME",
        "help": f"{', '.join(select.INSTALL)}; by default KERAS_BACKEND, keras.json, or what is installed",
    },
    "device": {"metavar": "NAME", "help": "auto, cpu, gpu, or gpu:N for one of several (%(default)s)"},
    "precision": {"metavar": "NAME", "help": f"{', '.join(PRECISIONS)} (%(default)s)"},
    "seed": {"type": int, "metavar": "N", "help": "random seed: the same seed gives the same curve (%(default)s)"},
    "epochs": {"type": int, "metavar": "N", "help": "training epochs (%(default)s)"},
    "batch_size": {"type": int, "metavar": "N", "help": "mini-batch size (%(default)s)"},
    "output": {
        "type": Path,
        "metavar": "FOLDER",
        "help": "output folder for model, history, figures and report (runs/LESSON)",
    },
    "resume": {"action": "store_true", "help": "resume the run in --output, or the latest one, from its checkpoint"},
    "data": {"metavar": "NAME", "help": f"{', '.join(DATA)}, or a path (%(default)s)"},
    "model": {
        "metavar": "NAME",
        "help": "folder of a run, auto (the latest), new (train one), or a pre-trained model (%(default)s)",
    },
    "log_steps": {"action": "store_true", "help": "record the loss of each step in steps.csv"},
    "quiet": {"action": "store_true", "help": "print less"},
    "debug": {"action": "store_true", "default": False, "help": "show the traceback of an error"},
}


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options of a lesson; each field is a command-line option.

    ``--model`` exists only in lessons that have a default for it; the others train a new model.

    Raises:
        CourseError: A value is not allowed.

    Example:
        >>> Options(epochs=3).batch_size
        32
    """

    backend: str = ""
    device: str = "auto"
    precision: str = "float32"
    seed: int = 0
    epochs: int = 5
    batch_size: int = 32
    output: Path | None = None
    resume: bool = False
    data: str = "auto"
    model: str = ""
    log_steps: bool = False
    quiet: bool = False

    def __post_init__(self) -> None:
        _require(
            self.precision in PRECISIONS, f"--precision is {self.precision!r}; give one of {', '.join(PRECISIONS)}"
        )
        _require(self.epochs >= 1, f"--epochs is {self.epochs}; give a whole number from 1 up")
        _require(self.batch_size >= 1, f"--batch-size is {self.batch_size}; give a whole number from 1 up")
        _require(0 <= self.seed < 2**63, f"--seed is {self.seed}; give a whole number from 0 to 2**63 - 1")
        _require(
            self.data in DATA or Path(self.data).expanduser().exists(),
            f"--data is {self.data!r}, which does not exist; give one of {', '.join(DATA)}, or a path",
        )
        _require(
            self.model in ("", *MODELS, *NAMES, *BERT_NAMES) or Path(self.model).expanduser().exists(),
            f"--model is {self.model!r}, which does not exist; give {' or '.join(MODELS)}, the folder of a run, "
            "or the name of a pre-trained model, if the lesson takes one",
        )
        if self.output is not None:
            _require_writable(self.output)
        _require(
            not self.resume or self.output is None or self.output.is_dir(),
            f"--resume needs an earlier run, but --output is {self.output}, which is not a folder; give that of a run",
        )


def parse_options(
    description: str, argv: Sequence[str] | None = None, *, epochs: int = 5, batch_size: int = 32, **defaults: Any
) -> Options:
    """Reads the options of a lesson, and selects the backend and the device; call it before Keras is imported.

    In a script it reads the command line, and from then on errors are printed in one line. In a notebook it returns
    the defaults.

    Args:
        description: The description for ``--help``.
        argv: The arguments to read instead of the command line.
        epochs: The default of ``--epochs``.
        batch_size: The default of ``--batch-size``.
        **defaults: The defaults of other fields of ``Options``.

    Returns:
        The options; ``backend`` is the name of the backend in use.

    Raises:
        CourseError: An option is unknown, a value is not allowed, or the backend or the device is not available.

    Example:
        >>> parse_options("Handwritten digits.", ["--seed", "7"], epochs=3)
        Options(backend='...', device='auto', precision='float32', seed=7, epochs=3, batch_size=32, ...)
    """
    if argv is None and _is_script():
        explain_errors()
        argv = sys.argv[1:]
    parser = _parser(description, Options(epochs=epochs, batch_size=batch_size, **defaults))
    values = vars(parser.parse_args(argv or []))
    values.pop("debug")
    options = Options(**values)
    select.apply_device(options.device)
    backend = select.use(options.backend).backend
    select.import_keras()
    if options.device.startswith("gpu"):
        from keras_course import _backend

        _backend.check_device(options.device)
    return replace(options, backend=backend)


def explain_errors() -> None:
    """Sets an exception hook that prints errors of the user in one line and ends with exit code 2.

    These are ``CourseError``, ``OSError`` (for example a full disk) and Ctrl-C (exit code 130). Other errors show their
    traceback; with ``--debug`` or KERAS_COURSE_DEBUG=1 all errors do.

    Example:
        >>> hook = sys.excepthook
        >>> explain_errors()
        >>> sys.excepthook is hook
        False
        >>> sys.excepthook = hook
    """
    sys.excepthook = _explain


def _explain(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    explained = isinstance(error, (CourseError, OSError, KeyboardInterrupt))
    if not explained or "--debug" in sys.argv or os.environ.get("KERAS_COURSE_DEBUG", "0") != "0":
        sys.__excepthook__(kind, error, traceback)
    else:
        print("error:", _in_one_line(error), file=sys.stderr)
    if explained:
        # Without an exit in the hook, Python's exit code would always be 1.
        sys.exit(130 if isinstance(error, KeyboardInterrupt) else 2)


def _in_one_line(error: BaseException) -> str:
    if isinstance(error, KeyboardInterrupt):
        return "stopped by Ctrl-C"
    if isinstance(error, OSError) and error.strerror and not isinstance(error, CourseError):
        return printable(f"{error.strerror}: {error.filename}" if error.filename else error.strerror)
    return printable(" ".join(str(error).split()))


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise CourseError(f"{message}; --help lists the options")


def _parser(description: str, defaults: Options) -> argparse.ArgumentParser:
    parser = _Parser(
        description=description,
        usage="%(prog)s [options]",
        allow_abbrev=False,
        formatter_class=lambda prog: argparse.HelpFormatter(prog, max_help_position=25),
    )
    for name, settings in _COMMAND_LINE.items():
        if name == "model" and not defaults.model:
            continue
        parser.add_argument(f"--{name.replace('_', '-')}", **settings)
    parser.set_defaults(**asdict(defaults))
    return parser


def _is_script() -> bool:
    """Returns whether the command line is the lesson's; in a notebook it is the kernel's."""
    return hasattr(sys.modules["__main__"], "__file__") and "ipykernel" not in sys.modules


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise CourseError(message)


def _require_writable(folder: Path) -> None:
    """Raises a CourseError if the results could not be written there."""
    nearest = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    _require(nearest.is_dir(), f"--output is {folder}, but {nearest} is not a folder; give another")
    _require(os.access(nearest, os.W_OK), f"--output is {folder}, but {nearest} cannot be written to; give another")
