"""Chooses the backend and the device by environment variables, before Keras is imported; imports no framework."""

import json
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from keras_course.errors import CourseError, MissingPackageError

INSTALL = {name: f'pip install "keras-course[{name}]"' for name in ("jax", "torch", "tensorflow")}
"""The backends, in the order in which an installed one is chosen, and the command that installs each."""

QUIET_START = {"TF_CPP_MIN_LOG_LEVEL": "3", "GRPC_VERBOSITY": "ERROR"}
"""Environment variables that silence the frameworks at start, unless the user has set them."""


class Choice(NamedTuple):
    """A backend and the reason, in words, why it was chosen."""

    backend: str
    reason: str


# The choice that `use` has written into KERAS_BACKEND; `choose` must not take it for a setting of the user.
_in_use: Choice | None = None


def choose(requested: str | None = None) -> Choice:
    """Returns the backend to use: the requested one, else KERAS_BACKEND, else keras.json, else an installed one.

    A ``CourseError`` says that it is unknown, not installed, or not the one that Keras already runs on.
    """
    if requested and requested not in INSTALL:
        raise _unknown(requested, "--backend")
    if keras := sys.modules.get("keras"):
        return _of_imported_keras(keras.backend.backend(), requested)
    if requested:
        return Choice(_installed_or_error(requested, "--backend"), "--backend")
    wish = os.environ.get("KERAS_BACKEND")
    if _in_use and wish == _in_use.backend:
        return _in_use
    if wish:
        return Choice(_installed_or_error(wish, "KERAS_BACKEND"), "KERAS_BACKEND")
    return _from_keras_json_or_installed()


def use(requested: str | None = None) -> Choice:
    """Chooses a backend by ``choose``, and makes Keras start on it."""
    global _in_use
    for variable, value in QUIET_START.items():
        os.environ.setdefault(variable, value)
    choice = choose(requested)
    if "keras" not in sys.modules:
        os.environ["KERAS_BACKEND"] = choice.backend
        _in_use = choice
    return choice


def apply_device(device: str) -> None:
    """Hides devices from a framework that is imported later; ``nvidia-smi`` lists the GPU of ``gpu:N`` as number N."""
    number = re.fullmatch(r"gpu:([0-9]+)", device)
    if device == "cpu":
        os.environ |= {"CUDA_VISIBLE_DEVICES": "-1", "JAX_PLATFORMS": "cpu"}
    elif number:
        # by default CUDA numbers the fastest GPU first; this makes it number as nvidia-smi does
        os.environ |= {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": number[1]}
    elif device not in ("auto", "gpu"):
        raise CourseError(f"--device is {device!r}; give auto, cpu, gpu, or gpu:N such as gpu:0")


def import_keras() -> None:
    """Imports Keras with its backend, and discards what they write to standard error while they start.

    TensorFlow's libraries write to it before they read the settings that silence them.
    """
    try:
        with without_chatter():
            import_module("keras")
    except Exception as error:
        raise CourseError(f"Keras does not start on {os.environ['KERAS_BACKEND']}: {error}") from error


@contextmanager
def without_chatter() -> Iterator[None]:
    """Discards what the process writes to standard error; errors are raised as exceptions.

    Libraries in C++ write to the file descriptor, and not all of them can be silenced by a setting.
    """
    standard_error = os.dup(2)
    with tempfile.TemporaryFile() as chatter:
        os.dup2(chatter.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(standard_error, 2)
            os.close(standard_error)


def choose_for_second_process(requested: str = "") -> str:
    """Returns the backend for a second process: the requested one, or that of this process."""
    return _installed_or_error(requested, "--backend") if requested else choose().backend


def second_process(backend: str, *arguments: str) -> dict[str, Any]:
    """Returns the arguments of ``subprocess.run`` for Python on another backend, with the same import path."""
    environment = {**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    # -P: a file in the current folder must not hide a module
    return {"args": [sys.executable, "-P", *arguments], "env": environment}


def processors() -> int:
    """Returns the number of processors that this process may use; in a container there may be more in the machine."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory_bytes() -> int | None:
    """Returns the memory of this machine in bytes, None if the system does not say (Windows)."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError):
        return None


def is_installed(name: str) -> bool:
    """Returns whether a package can be imported under a name, without importing it; a folder without code cannot."""
    spec = find_spec(name)
    return spec is not None and spec.origin is not None


def require(*packages: str, what: str, install: str) -> None:
    """Raises a ``MissingPackageError`` if one of the packages (import names) that ``what`` needs is not installed."""
    for package in packages:
        if not is_installed(package):
            raise MissingPackageError(what, package, install)


def version_of(name: str) -> str:
    """Returns the version of a module, whose package may have another name; ``unknown`` if it does not tell it."""
    try:
        return str(import_module(name).__version__)
    except Exception:  # importing a module can raise almost anything
        return "unknown"


def _of_imported_keras(running: str, requested: str | None) -> Choice:
    if requested not in (None, "", running):
        raise CourseError(
            f"--backend is {requested!r}, but Keras already runs on {running}; choose before Keras is imported"
        )
    return _in_use if _in_use and _in_use.backend == running else Choice(running, "Keras was imported on it")


def _unknown(name: str, source: str) -> CourseError:
    return CourseError(f"{source} is {name!r}; give one of {', '.join(INSTALL)}")


def _installed_or_error(name: str, source: str) -> str:
    if name not in INSTALL:
        raise _unknown(name, source)
    if not is_installed(name):
        raise CourseError(f"{source} is {name!r}, which is not installed; run: {INSTALL[name]}")
    return name


def _from_keras_json_or_installed() -> Choice:
    named, note = _read_keras_json()
    installed = [name for name in INSTALL if is_installed(name)]
    if not installed:
        raise CourseError(f"no backend is installed; run one of: {', '.join(INSTALL.values())}")
    if named in installed:
        return Choice(named, note)
    # Keras itself writes keras.json, often in another environment, so a backend that is not installed is no error
    reason = f"the first that is installed of {', '.join(INSTALL)}"
    return Choice(installed[0], f"{reason}; {note}, which is not installed here" if named else reason + note)


def _read_keras_json() -> tuple[str, str]:
    """Returns the backend that keras.json names and a note for the reason; both are empty if it names none."""
    path = Path(os.environ.get("KERAS_HOME") or "~/.keras").expanduser() / "keras.json"
    try:
        name = str(json.loads(path.read_text("utf-8")).get("backend", ""))
    except FileNotFoundError:
        return "", ""
    except (OSError, ValueError, AttributeError) as error:
        return "", f"; {path} is ignored, it cannot be read ({type(error).__name__})"
    return name, f"{path} names {name}" if name else ""
