"""Limits that a process sets on itself before it touches a file that may come from anybody.

A process that decodes pictures or opens the models of strangers is started for that alone, calls ``confine`` first, and
is killed by its parent when it takes too long. ``confine`` says which system offers what.
"""

import os
import signal
import sys
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from keras_course.errors import CourseError, check_positive

__all__ = ["confine", "keep_to", "landlock_version", "limit_further_cpu"]

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
    """Limits this process, for good, and lets the system kill it when its parent ends.

    It never raises a limit that is lower already, writes no core file from then on, and gains no privileges by starting
    programs. Processes that this one starts inherit the limits, each for itself, but do not end with the parent.

    What each system offers differs; the result says what holds:

    - Linux offers everything.
    - macOS and the BSDs cannot tie a process to its parent, and macOS ignores the limit on memory. A child should there
      end when its standard input does.
    - Windows offers none of it; only the parent, by killing the process, limits it.

    Linux kills the process when the *thread* ends that has started it, not only when the whole parent does: start it
    from a thread that lives as long as it should.

    Args:
        parent: The process id of the parent, ``os.getpid()`` there. If it has ended before this call, so does this
            process, with exit code 1. None leaves the process as independent as it is.
        memory_bytes: Memory that this process may reserve for itself, the 8 MiB for the stack of each thread included,
            but not files that it maps or memory that it shares. More is a ``MemoryError`` in Python, and in a library
            whatever it does then.
        cpu_seconds: Seconds of computing, of all threads together and from the start of the process; the system then
            kills it. Waiting does not count.
        file_bytes: Of each file that it writes; 0 allows none. A pipe is no file, but standard output may lead to one.
        open_files: How many files and pipes may be open at once.

    Returns:
        What holds: ``parent``, ``memory``, ``cpu``, ``file size``, ``open files``, ``core files`` and ``privileges``.

    Raises:
        CourseError: A number is not positive.

    Example:
        >>> import subprocess, sys
        >>> code = "from keras_course.limits import confine; confine(memory_bytes=2**30); bytes(2**31)"
        >>> "MemoryError" in subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stderr
        True
    """
    given = {"parent": parent, "memory_bytes": memory_bytes, "cpu_seconds": cpu_seconds, "open_files": open_files}
    check_positive(**{name: value for name, value in given.items() if value is not None})
    if file_bytes:
        check_positive(file_bytes=file_bytes)
    holds = set()
    if parent is not None and _control(_SET_SIGNAL_OF_PARENT, signal.SIGKILL):
        holds.add("parent")
    if parent is not None and os.getppid() != parent:  # it ended before the system was told to watch it
        os._exit(1)
    if _control(_SET_NO_NEW_PRIVILEGES, 1):
        holds.add("privileges")
    wanted = {
        # address space that is only reserved, as runtimes do by the terabyte, is not memory; Linux can tell them apart
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


def keep_to(readable: Iterable[str], writable: Iterable[str]) -> bool:
    """Keeps this process, for good, from all files but some, where the kernel has Landlock (Linux 5.13 and newer).

    It needs the package ``landlock``, of the extra ``sandbox``. Files that are open already stay open. Python and what
    is installed for it can always be read: much of it is imported late.

    Args:
        readable: Files and folders that may be read as well, with all that is in them; those that are not there are
            left out.
        writable: The same for those that may be written to.

    Returns:
        Whether it holds.

    Example:
        >>> keep_to([], []) if sys.platform != "linux" else False
        False

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
    """Asks the kernel for Landlock.

    Returns:
        Its version, 0 where there is none.

    Example:
        >>> landlock_version() >= 0
        True
    """
    if sys.platform != "linux":
        return 0
    import ctypes

    library: Any = ctypes.CDLL(None)
    return max(0, int(library.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), 1)))


def limit_further_cpu(seconds: float) -> None:
    """Gives this process so many seconds of computing from now on, after which the system kills it.

    Each call starts anew, so that a process that is kept has a limit for each piece of its work. Windows has no such
    timer; nothing happens there.

    Args:
        seconds: Of all threads together; waiting does not count.

    Raises:
        CourseError: It is not positive.

    Example:
        >>> import signal, subprocess, sys
        >>> code = "from keras_course.limits import limit_further_cpu as limit; limit(0.1); sum(iter(int, 1))"
        >>> subprocess.run([sys.executable, "-c", code]).returncode == -signal.SIGPROF
        True
    """
    if not seconds > 0:
        raise CourseError(f"seconds is {seconds}; give a number above 0")
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_PROF, seconds)


def _limit(name: str, value: int) -> bool:
    """Sets the soft and the hard limit of that name, and says whether it could."""
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
    """Calls Linux' ``prctl``, and says whether it did what it was asked to."""
    if sys.platform != "linux":
        return False
    import ctypes

    library: Any = ctypes.CDLL(None)
    return library.prctl(option, ctypes.c_ulong(value), 0, 0, 0) == 0
