"""The options that all lessons share, and the one line in which a lesson explains a mistake."""

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
from keras_course.pretrained.names import NAMES

PRECISIONS = ("float32", "tf32", "bfloat16")
"""What ``--precision`` may be: exact, matrix products rounded on the GPU, or half the memory."""

DATA = ("auto", "full", "sample")
"""What ``--data`` may be, besides a path: full if it can be had, else the sample; or one of the two."""

MODELS = ("auto", "new")
"""What ``--model`` may be, besides the folder of a run: the last one if there is one, or one that is trained now."""

_COMMAND_LINE: dict[str, dict[str, Any]] = {
    "backend": {
        "metavar": "NAME",
        "help": f"{', '.join(select.INSTALL)}; else KERAS_BACKEND, keras.json, or what is installed",
    },
    "device": {"metavar": "NAME", "help": "auto, cpu, gpu, or gpu:N for one of several (%(default)s)"},
    "precision": {"metavar": "NAME", "help": f"{', '.join(PRECISIONS)} (%(default)s)"},
    "seed": {"type": int, "metavar": "N", "help": "decides all that is random: same seed, same curve (%(default)s)"},
    "epochs": {"type": int, "metavar": "N", "help": "how often training sees all the data (%(default)s)"},
    "batch_size": {"type": int, "metavar": "N", "help": "examples in one step of training (%(default)s)"},
    "output": {
        "type": Path,
        "metavar": "FOLDER",
        "help": "where the model, the history and the figures go (runs/LESSON)",
    },
    "resume": {"action": "store_true", "help": "go on with the run in --output, or with the last one"},
    "data": {"metavar": "NAME", "help": f"{', '.join(DATA)}, or a path (%(default)s)"},
    "model": {
        "metavar": "NAME",
        "help": "a run; auto for the last one in runs/, new to train one; a pre-trained model (%(default)s)",
    },
    "log_steps": {"action": "store_true", "help": "record the loss of each step, not only of each epoch"},
    "quiet": {"action": "store_true", "help": "print less"},
    "debug": {"action": "store_true", "default": False, "help": "show the traceback of an error"},
}


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a person may choose about a lesson; each field is an option of its command line.

    ``model`` is one only where the lesson has a default for it: most train their own.

    Raises:
        CourseError: If a value makes no sense.

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
            f"--data is {self.data!r}, and there is no such path; give one of {', '.join(DATA)}, or a path",
        )
        _require(
            self.model in ("", *MODELS, *NAMES) or Path(self.model).expanduser().exists(),
            f"--model is {self.model!r}, and there is no such path; give {' or '.join(MODELS)}, the folder of a run, "
            "or the name of a pre-trained model, where the lesson takes one",
        )
        if self.output is not None:
            _require_writable(self.output)
        _require(
            not self.resume or self.output is None or self.output.is_dir(),
            f"--resume goes on with the run in --output {self.output}, which is no folder; give that of an earlier run",
        )


def parse_options(
    description: str, argv: Sequence[str] | None = None, *, epochs: int = 5, batch_size: int = 32, **defaults: Any
) -> Options:
    """Reads the options of a lesson, and chooses backend and device; call it before Keras is imported.

    A script reads its command line, and from then on explains a mistake in one line. In a notebook the
    defaults stand.

    Args:
        description: What ``--help`` says about the lesson.
        argv: The arguments to read in place of the command line.
        epochs: The lesson's own default.
        batch_size: The lesson's own default.
        **defaults: The lesson's own defaults for other fields of ``Options``.

    Returns:
        The options, with the name of the backend that is used.

    Raises:
        CourseError: If an option is unknown or makes no sense, or if the backend or the device is not there.

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
    """Makes the program end with one line and exit code 2 where a person can mend what went wrong.

    That is a ``CourseError``, an ``OSError`` such as a full disk, or Ctrl-C (exit code 130); any other error
    still shows its traceback, and so do these with ``--debug`` or KERAS_COURSE_DEBUG=1.

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
        # Python honours an exit from within the hook; without it the code would always be 1.
        sys.exit(130 if isinstance(error, KeyboardInterrupt) else 2)


def _in_one_line(error: BaseException) -> str:
    if isinstance(error, KeyboardInterrupt):
        return "stopped by Ctrl-C"
    if isinstance(error, OSError) and error.strerror and not isinstance(error, CourseError):
        return printable(f"{error.strerror}: {error.filename}" if error.filename else error.strerror)
    return printable(" ".join(str(error).split()))


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise CourseError(f"{message}; --help shows what there is")


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
    """Says whether the command line belongs to the lesson; in a notebook it belongs to the kernel."""
    return hasattr(sys.modules["__main__"], "__file__") and "ipykernel" not in sys.modules


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise CourseError(message)


def _require_writable(folder: Path) -> None:
    """Checks before the training, not after it, that its results can be stored."""
    nearest = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    _require(
        nearest.is_dir() and os.access(nearest, os.W_OK),
        f"--output is {folder}, but {nearest} is not a folder that can be written to; give another",
    )
