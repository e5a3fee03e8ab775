"""Examines a machine for ``keras-course doctor``: its backends, devices and data, and the protection from models."""

import json
import os
import platform
import subprocess
from importlib.metadata import packages_distributions
from importlib.metadata import version as distribution_version
from typing import Any, Final

import keras_course
from keras_course._backend import select
from keras_course.errors import CourseError
from keras_course.lesson import PRECISIONS

__all__ = ["examine", "facts", "framework_rows"]

_PROBE_SECONDS: Final = 120
"""The time for the import of a framework; from a slow disk it takes a minute."""

# Frameworks that are imported into one process compete for the GPU, so each gets its own.
_PROBE: Final = """
import importlib, json, os, sys
try:
    version = importlib.import_module(sys.argv[1]).__version__
    from keras_course import _backend
    answer = {"works": True, "version": version, "devices": _backend.describe_devices()}
except Exception as error:
    answer = {"works": False, "error": f"{type(error).__name__}: {error}".splitlines()[0]}
print("\\n" + json.dumps(answer))
"""

# A process cannot remove its own limits, so another one tries which of them hold.
_CONFINE: Final = """
import json, os
from keras_course.limits import confine
print(json.dumps(sorted(confine(parent=os.getppid(), memory_bytes=2**40, file_bytes=2**40))))
"""


def examine() -> dict[str, Any]:
    """Returns a report on this machine, as JSON can hold it."""
    frameworks = _examine_frameworks()
    try:
        name, reason = select.choose()
        backend = {"name": name, "reason": reason, "works": frameworks[name]["works"]}
    except CourseError as error:
        backend = {"name": None, "reason": str(error), "works": False}
    kinds = {device["kind"] for device in frameworks.get(backend["name"], {}).get("devices", [])}
    memory = select.memory_bytes()
    return {
        "versions": {
            "keras_course": keras_course.__version__,
            "keras": _version("keras"),
            "python": platform.python_version(),
        },
        "frameworks": frameworks,
        "backend": backend,
        "precisions": [name for name in PRECISIONS if name != "tf32" or "gpu" in kinds] if kinds else [],
        "machine": {"system": platform.platform(), "cpus": select.processors(), "memory_bytes": memory},
        "data": _examine_data(),
        "protection": _examine_protection(),
    }


def _examine_protection() -> dict[str, Any]:
    """Returns what can limit the process of an untrusted model on this machine."""
    from keras_course.limits import landlock_version

    process = select.second_process("", "-c", _CONFINE)
    try:
        done = subprocess.run(**process, capture_output=True, text=True, timeout=_PROBE_SECONDS, check=False)
        holds = json.loads(done.stdout)
    except (subprocess.TimeoutExpired, ValueError):
        holds = []
    return {"limits": holds, "landlock": landlock_version(), "landlock_package": select.is_installed("landlock")}


def _examine_frameworks() -> dict[str, dict[str, Any]]:
    probes = {name: _start_probe(name) for name in select.INSTALL if select.is_installed(name)}
    return {
        name: {"version": _version(name), **_answer(probes[name])}
        if name in probes
        else {"version": None, "works": False, "error": "not installed", "install": install}
        for name, install in select.INSTALL.items()
    }


def _start_probe(name: str) -> "subprocess.Popen[str]":
    process = select.second_process(name, "-c", _PROBE, name)
    return subprocess.Popen(**process, text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)


def _answer(probe: "subprocess.Popen[str]") -> dict[str, Any]:
    try:
        output, _ = probe.communicate(timeout=_PROBE_SECONDS)
    except subprocess.TimeoutExpired:
        probe.kill()
        probe.communicate()
        return {"works": False, "error": f"no answer in {_PROBE_SECONDS} seconds"}
    try:
        return dict(json.loads(output.splitlines()[-1]))
    except (IndexError, ValueError):
        return {"works": False, "error": f"its import ends Python with exit code {probe.returncode}"}


def _examine_data() -> dict[str, Any]:
    from keras_course.datasets import arrays, mnist

    def found(name: str) -> str | None:
        return next((str(file) for file in arrays.places(name) if file.exists()), None)

    return {
        "KERAS_COURSE_DATA": os.environ.get("KERAS_COURSE_DATA"),
        "cache": str(arrays.cache_folder()),
        "mnist": found(mnist.FILE_NAME),
        "hand_signs": found("sign_mnist.npz"),  # asl.FILE_NAME, but importing asl needs Keras, which may be missing
        "mnist_sample": mnist.SAMPLE_FILE.exists(),
    }


def _version(package: str) -> str | None:
    # the distribution may have another name than the package, such as tensorflow-cpu
    try:
        return distribution_version(packages_distributions()[package][0])
    except (KeyError, IndexError, OSError, ValueError):  # it was installed without metadata
        return None


def framework_rows(report: dict[str, Any]) -> list[tuple[str, str, bool, str]]:
    """Returns for each backend its name, its version, True if it works, and its devices or how to install it."""
    rows = []
    for name, found in report["frameworks"].items():
        devices = "\n".join(map(_device, found.get("devices", ())))
        rows.append((name, found["version"] or "-", found["works"], devices or found.get("install") or found["error"]))
    return rows


def facts(report: dict[str, Any]) -> list[tuple[str, str]]:
    """Returns the rest of a report in words: a name and a sentence for each row."""
    versions, machine, data, backend = report["versions"], report["machine"], report["data"], report["backend"]
    working = [name for name, framework in report["frameworks"].items() if framework["works"]]
    remedy = f"; --backend {working[0]} works" if working and not backend["works"] else ""
    return [
        ("in use", f"{backend['name'] or 'none'}: {backend['reason']}{remedy}"),
        ("precision", ", ".join(report["precisions"]) or "-"),
        ("keras-course", f"{versions['keras_course']}, Keras {versions['keras']}, Python {versions['python']}"),
        ("machine", f"{machine['cpus']} CPUs, {_gibibytes(machine['memory_bytes'])} memory, {machine['system']}"),
        ("MNIST", data["mnist"] or f"not here yet; a lesson that needs it downloads it to {data['cache']}"),
        ("hand signs", data["hand_signs"] or "none; lessons draw hands, unless data_scripts/prepare_asl.py is run"),
        ("sample", "10,000 + 2,000 digits in the package" if data["mnist_sample"] else "missing: install again"),
        ("untrusted models", _protection_in_words(report["protection"])),
        ("shared data", data["KERAS_COURSE_DATA"] or "none; KERAS_COURSE_DATA may name a folder"),
    ]


def _protection_in_words(protection: dict[str, Any]) -> str:
    limits = ", ".join(protection["limits"]) or "none: only the parent process limits it"
    if not protection["landlock"]:
        files = "no Landlock on this system to protect other files"
    elif protection["landlock_package"]:
        files = f"Landlock {protection['landlock']} protects other files"
    else:
        files = 'Landlock can protect other files: pip install "keras-course[sandbox]"'
    return f"opened in a separate process, with limits of the system ({limits}); {files}"


def _device(device: dict[str, Any]) -> str:
    name, kind, memory = device["name"], device["kind"], device["memory_bytes"]
    parts = (kind, name if name.lower() != kind else None, _gibibytes(memory) if memory else None)
    return ", ".join(filter(None, parts))


def _gibibytes(count: int | None) -> str:
    return f"{count / 2**30:.1f} GiB" if count else "unknown"
