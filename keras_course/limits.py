"""Limits that a process sets on itself before it reads an untrusted file.

A process that decodes pictures or opens untrusted models does nothing else. It calls ``confine`` first, and its parent
kills it when it takes too long. ``confine`` describes what each system offers.
"""

import os
import signal
import sys
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from keras_course.errors import CourseError, check_positive

__all__ = ["confine", "landlock_version", "limit_further_cpu", "restrict_files"]

_SET_SIGNAL_OF_PARENT: Final = 1  # PR_SET_PDEATHSIG of <linux/prctl.h>
_SET_NO_NEW_PRIVILEGES: Final = 38  # PR_SET_NO_NEW_PRIVS
_CREATE_RULESET: Final = 444  # the system call landlock_create_ruleset


def confine(
    *,
    parent: int | None = None,
    memory_bytes: int | None = None,
    cpu_seconds: int | None = None,
    file_bytes: int | None = None,
    open_files: int | None = None,
) -> frozenset[str]:
    """Limits this process permanently, lets the system kill it when its parent ends, and returns the limits that hold.

    A limit that is lower already stays. The process writes no core file and gains no privileges by starting programs.
    Its children inherit the limits, each for itself, but do not end with the parent. The systems differ:

    - Linux offers all limits. It kills the process when the *thread* that started it ends, even if the parent goes on:
      start it from a thread that lives long enough.
    - macOS and the BSDs cannot tie a process to its parent, and macOS ignores the memory limit. A child should end
      there when its standard input does.
    - Windows offers no limits; only the parent can kill the process.

    Args:
        parent: The process id of the parent. If it has ended before this call, so does this process, with exit code 1.
        memory_bytes: The largest private memory, including 8 MiB for the stack of each thread, but without mapped files
            and shared memory. Beyond it, Python raises a ``MemoryError``; a library may end the process.
        cpu_seconds: The computing time of all threads since the start of the process, after which the system kills it.
        file_bytes: The largest size of each file that it writes, perhaps its standard output; 0 allows none.
        open_files: The largest number of open files and pipes.
    """
    given = {"parent": parent, "memory_bytes": memory_bytes, "cpu_seconds": cpu_seconds, "open_files": open_files}
    check_positive(**{name: value for name, value in given.items() if value is not None})
    if file_bytes:
        check_positive(file_bytes=file_bytes)
    holds = set()
    if parent is not None and _control(_SET_SIGNAL_OF_PARENT, signal.SIGKILL):
        holds.add("parent")
    if parent is not None and os.getppid() != parent:  # it ended before prctl was called
        os._exit(1)
    if _control(_SET_NO_NEW_PRIVILEGES, 1):
        holds.add("privileges")
    wanted = {
        # runtimes reserve terabytes of address space that they do not use; Linux can limit memory without it
        "memory": ("DATA" if sys.platform == "linux" else "AS", memory_bytes),
        "cpu": ("CPU", cpu_seconds),
        "file size": ("FSIZE", file_bytes),
        "open files": ("NOFILE", open_files),
        "core files": ("CORE", 0),
    }
    for what, (name, value) in wanted.items():
        if value is not None and _limit(name, value) and (what, sys.platform) != ("memory", "darwin"):
            holds.add(what)
    return frozenset(holds)


def restrict_files(readable: Iterable[str], writable: Iterable[str]) -> bool:
    """Restricts this process permanently to some files, if the kernel has Landlock; returns whether that holds.

    It needs Linux 5.13 or newer and the package ``landlock`` of the extra ``sandbox``. Missing paths are ignored. Open
    files stay open. Python and its packages stay readable, because many are imported late.

    Source: https://docs.kernel.org/userspace-api/landlock.html
    """
    if landlock_version() == 0:
        return False
    try:
        landlock: Any = import_module("landlock")
        rules, access = landlock.Ruleset(), landlock.FSAccess
        everything = access.all()
        reading = access.READ_FILE | access.READ_DIR | access.EXECUTE
        program = (*sys.path, sys.prefix, sys.base_prefix, "/usr", "/lib", "/lib64")
        for paths, rights in (((*program, *readable), reading), (writable, everything)):
            for path in filter(os.path.exists, paths):
                rules.allow(path, rules=rights if Path(path).is_dir() else rights & access.all_file())
        rules.apply()
    except (ImportError, OSError, AttributeError):
        return False
    return True


def landlock_version() -> int:
    """Returns the version of Landlock in the kernel, 0 without Landlock."""
    if sys.platform != "linux":
        return 0
    import ctypes

    library: Any = ctypes.CDLL(None)
    return max(0, int(library.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), 1)))


def limit_further_cpu(seconds: float) -> None:
    """Lets the system kill this process after some further seconds of computing, by all threads together.

    Each call starts a new count, so that a long-lived process has a limit for each task. It does nothing on Windows,
    which has no such timer.
    """
    if not seconds > 0:
        raise CourseError(f"seconds is {seconds}; give a number above 0")
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_PROF, seconds)


def _limit(name: str, value: int) -> bool:
    """Sets a soft and a hard limit, and returns True if that worked."""
    try:
        import resource

        kind = getattr(resource, f"RLIMIT_{name}")
        _, most = resource.getrlimit(kind)
        lower = value if most == resource.RLIM_INFINITY else min(value, most)
        resource.setrlimit(kind, (lower, lower))
    except (ImportError, AttributeError, ValueError, OSError):
        return False
    return True


def _control(option: int, value: int) -> bool:
    """Calls ``prctl`` of Linux, and returns True if that worked."""
    if sys.platform != "linux":
        return False
    import ctypes

    library: Any = ctypes.CDLL(None)
    return library.prctl(option, ctypes.c_ulong(value), 0, 0, 0) == 0
