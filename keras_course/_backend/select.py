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
"""The backends in the order in which an installed one is taken, and what brings each."""

QUIET_START = {"TF_CPP_MIN_LOG_LEVEL": "3", "GRPC_VERBOSITY": "ERROR"}
"""What keeps the frameworks from talking while they start, unless the user has set it otherwise."""


class Choice(NamedTuple):
    """A backend and, in words, why it was taken."""

    backend: str
    reason: str


# What `use` has written into KERAS_BACKEND, so that `choose` does not take it for the user's own wish.
_in_use: Choice | None = None


def choose(requested: str | None = None) -> Choice:
    """Says which backend to use: the requested one, else KERAS_BACKEND, else keras.json, else what is installed.

    Args:
        requested: The value of ``--backend``, if there is one.

    Returns:
        The name of the backend and where the choice came from.

    Raises:
        CourseError: If the backend that was asked for is unknown, not installed, or not the one that Keras
            already runs on; or if no backend is installed.

    Example:
        >>> choose().backend in INSTALL
        True
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
    """Chooses a backend as ``choose`` does and makes Keras start on it.

    Args:
        requested: The value of ``--backend``, if there is one.

    Returns:
        The name of the backend and where the choice came from.

    Raises:
        CourseError: As ``choose``.

    Example:
        >>> use().backend == os.environ.get("KERAS_BACKEND", choose().backend)
        True
    """
    global _in_use
    for variable, value in QUIET_START.items():
        os.environ.setdefault(variable, value)
    choice = choose(requested)
    if "keras" not in sys.modules:
        os.environ["KERAS_BACKEND"] = choice.backend
        _in_use = choice
    return choice


def apply_device(device: str) -> None:
    """Hides from the framework, before it is imported, the devices that it shall not use.

    Args:
        device: ``auto``, ``cpu``, ``gpu``, or ``gpu:N`` for the GPU that ``nvidia-smi`` lists under that number.

    Raises:
        CourseError: If the text is none of these.

    Example:
        >>> apply_device("tpu")
        Traceback (most recent call last):
        ...
        keras_course.errors.CourseError: --device is 'tpu'; give auto, cpu, gpu, or gpu:N such as gpu:0
    """
    number = re.fullmatch(r"gpu:([0-9]+)", device)
    if device == "cpu":
        os.environ |= {"CUDA_VISIBLE_DEVICES": "-1", "JAX_PLATFORMS": "cpu"}
    elif number:
        # CUDA counts the fastest GPU first unless it is told to count as nvidia-smi does.
        os.environ |= {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": number[1]}
    elif device not in ("auto", "gpu"):
        raise CourseError(f"--device is {device!r}; give auto, cpu, gpu, or gpu:N such as gpu:0")


def import_keras() -> None:
    """Imports Keras with its backend, and keeps what they say while they start to itself.

    TensorFlow's libraries write to the process's standard error before they have read how much they are to say.

    Raises:
        CourseError: If the framework is installed but cannot be imported.

    Example:
        >>> import_keras()
        >>> "keras" in sys.modules
        True
    """
    try:
        with without_chatter():
            import_module("keras")
    except Exception as error:
        raise CourseError(f"Keras does not start on {os.environ['KERAS_BACKEND']}: {error}") from error


@contextmanager
def without_chatter() -> Iterator[None]:
    """Throws away what the process writes to its standard error; an exception says what is wrong.

    Libraries in C++ write there themselves, and not all can be told to be quiet.

    Example:
        >>> with without_chatter():
        ...     _ = os.write(2, b"INFO: this is nothing to the person")
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
    """Says which backend another process is to use, whatever Keras runs on in this one.

    Args:
        requested: The value of ``--backend``, empty for the backend of this process.

    Returns:
        The name of the backend.

    Raises:
        CourseError: If it is unknown or not installed.

    Example:
        >>> choose_for_second_process() == choose().backend
        True
    """
    if not requested:
        return choose().backend
    if requested not in INSTALL:
        raise _unknown(requested, "--backend")
    return _installed_or_error(requested, "--backend")


def second_process(backend: str, *arguments: str) -> dict[str, Any]:
    """Says how to start Python once more, on another backend, so that it finds what this process finds.

    Args:
        backend: The backend on which Keras is to run there.
        *arguments: What follows ``python``.

    Returns:
        The arguments ``args`` and ``env`` of ``subprocess.run``.

    Example:
        >>> second_process("jax", "-c", "pass")["env"]["KERAS_BACKEND"]
        'jax'
    """
    environment = {**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    # -P keeps a stray file in the current folder out of it
    return {"args": [sys.executable, "-P", *arguments], "env": environment}


def processors() -> int:
    """Counts the processors that this process may use, which in a container are fewer than the machine has.

    Returns:
        Their number, at least 1.

    Example:
        >>> 1 <= processors() <= os.cpu_count()
        True
    """
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory_bytes() -> int | None:
    """Returns the memory of this machine in bytes, None if the system does not say (Windows)."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError):
        return None


def is_installed(name: str) -> bool:
    """Says whether a package can be found, without importing it.

    Args:
        name: The name under which it is imported.

    Returns:
        True if there is a package of that name; a mere folder of that name is none.

    Example:
        >>> is_installed("numpy"), is_installed("no_such_package")
        (True, False)
    """
    spec = find_spec(name)
    return spec is not None and spec.origin is not None


def require(*packages: str, what: str, install: str) -> None:
    """Checks that packages are installed.

    Args:
        *packages: The import names of the packages.
        what: What needs them, for the message.
        install: The command that installs them.

    Raises:
        MissingPackageError: One is not installed.

    Example:
        >>> require("numpy", what="this", install="pip install numpy")
    """
    for package in packages:
        if not is_installed(package):
            raise MissingPackageError(what, package, install)


def version_of(name: str) -> str:
    """Asks a module for its version; the package that brings it may go by another name, such as tensorflow-cpu.

    Args:
        name: The name under which it is imported.

    Returns:
        Its version, or ``unknown``: a version is never worth an error.

    Example:
        >>> version_of("keras_course"), version_of("no_such_module")
        ('0.1.0', 'unknown')
    """
    try:
        return str(import_module(name).__version__)
    except Exception:  # a module can raise nearly anything
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
    # Keras writes keras.json by itself, often in another environment: what it names is a hint, not an order.
    reason = f"the first that is installed of {', '.join(INSTALL)}"
    return Choice(installed[0], f"{reason}; {note}, which is not installed here" if named else reason + note)


def _read_keras_json() -> tuple[str, str]:
    """Reads the backend that keras.json names, and what to say about it; both empty if it names none."""
    path = Path(os.environ.get("KERAS_HOME") or "~/.keras").expanduser() / "keras.json"
    try:
        name = str(json.loads(path.read_text("utf-8")).get("backend", ""))
    except FileNotFoundError:
        return "", ""
    except (OSError, ValueError, AttributeError) as error:
        return "", f"; {path} is ignored, it cannot be read ({type(error).__name__})"
    return name, f"{path} names {name}" if name else ""
