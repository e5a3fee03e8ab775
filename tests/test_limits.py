"""Limits that a process sets for itself, tested from another process."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from keras_course.errors import CourseError
from keras_course.limits import confine, landlock_version, limit_further_cpu, restrict_files

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="other systems have fewer limits, see `confine`")


def run(code, **settings):
    """Runs code in a separate process after importing the two functions."""
    code = f"import os, sys, threading\nfrom keras_course.limits import confine, limit_further_cpu\n{code}"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-P", "-c", code]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60, **settings)


def test_confine_returns_the_limits_in_force():
    done = run(
        "print(sorted(confine(parent=os.getppid(), memory_bytes=2**30, cpu_seconds=9, file_bytes=0, open_files=9)))"
    )
    every = ["core files", "cpu", "file size", "memory", "open files", "parent", "privileges"]
    assert done.stdout.strip() == str(every)
    assert run("print(sorted(confine()))").stdout.strip() == "['core files', 'privileges']"


@pytest.mark.parametrize(
    ("limits", "within", "beyond", "error"),
    [
        ("memory_bytes=2**28", "bytes(2**27)", "bytes(2**29)", "MemoryError"),
        (
            "memory_bytes=2**28",
            "[bytearray(2**20) for _ in range(99)]",
            "[bytearray(2**20) for _ in range(999)]",
            "Mem",
        ),
        ("file_bytes=1000", "write(1000)", "write(1001)", "File too large"),
        ("file_bytes=0", "write(0)", "write(1)", "File too large"),
        (
            "open_files=20",
            "[os.open('/', 0) for _ in range(10)]",
            "[os.open('/', 0) for _ in range(20)]",
            "Too many open",
        ),
    ],
)
def test_exceeding_a_limit_is_an_error(tmp_path, limits, within, beyond, error):
    write = f"""
def write(count):
    with open({str(tmp_path / "file")!r}, "wb", buffering=0) as file:
        assert file.write(bytes(count)) == count, file.write(b"the rest")
"""
    done = run(f"{write}\nconfine({limits})\n{within}\nprint('within', flush=True)\n{beyond}\nprint('beyond')")
    assert done.stdout == "within\n"
    assert error in done.stderr


@pytest.mark.parametrize("limit", ["confine(cpu_seconds=1)", "limit_further_cpu(0.5)"])
def test_a_process_beyond_its_cpu_limit_is_killed(limit):
    started = time.perf_counter()
    done = run(f"{limit}\nsum(iter(int, 1))")
    assert done.returncode in (-signal.SIGKILL, -signal.SIGPROF)
    assert time.perf_counter() - started < 30


def test_limit_further_cpu_starts_again_for_each_task():
    work = """
import time
for _ in range(3):
    limit_further_cpu(1)
    end = time.process_time() + 0.6
    while time.process_time() < end:
        pass
"""
    assert run(work).returncode == 0
    assert run(f"confine(cpu_seconds=1)\n{work}").returncode == -signal.SIGKILL, "a permanent limit is not raised"


def test_a_limit_cannot_be_raised():
    code = "import resource\nconfine(memory_bytes=2**28, open_files=30)\nconfine(memory_bytes=2**32, open_files=99)\n"
    done = run(code + "print(resource.getrlimit(resource.RLIMIT_DATA), resource.getrlimit(resource.RLIMIT_NOFILE))")
    assert done.stdout.strip() == f"{(2**28, 2**28)} (30, 30)"


def test_a_confined_process_ends_with_its_parent():
    """Also if the parent is killed and does not read the output of the child."""
    child = (
        "import os, sys, time; from keras_course.limits import confine; confine(parent=int(sys.argv[1]));"
        "print(os.getpid(), flush=True); time.sleep(60)"
    )
    command = f"[sys.executable, '-P', '-c', {child!r}, str(os.getpid())]"
    parent = f"import os, subprocess, sys, time; subprocess.Popen({command}); time.sleep(60)"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, "-P", "-c", parent], stdout=subprocess.PIPE, text=True, env=environment)
    pid = int(process.stdout.readline())
    assert psutil.pid_exists(pid)
    process.kill()
    process.wait()
    process.stdout.close()
    for _ in range(500):
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return
        time.sleep(0.01)
    pytest.fail("the process still runs")


def test_a_process_whose_parent_has_ended_ends_at_once():
    done = run("confine(parent=os.getpid())\nprint('lives')")  # a process is never its own parent
    assert (done.returncode, done.stdout) == (1, "")


@pytest.mark.parametrize("name", ["parent", "memory_bytes", "cpu_seconds", "file_bytes", "open_files"])
def test_an_invalid_limit_is_explained(name):
    with pytest.raises(CourseError, match=f"{name} is -1; give a whole number from 1 up"):
        confine(**{name: -1})
    with pytest.raises(CourseError, match="seconds is 0; give a number above 0"):
        limit_further_cpu(0)


EVERY = "parent=os.getppid(), memory_bytes=2**40, cpu_seconds=99, file_bytes=2**40, open_files=99"


@pytest.mark.parametrize(
    ("system", "limits"),
    [("darwin", ["core files", "cpu", "file size", "open files"]), ("win32", [])],
)
def test_other_systems_have_fewer_limits(system, limits):
    """On macOS there is no prctl, and the limit of memory has no effect; on Windows there is no module `resource`."""
    as_there = f"sys.platform = {system!r}\n"
    if system == "win32":
        as_there += "sys.modules['resource'] = None\n"
    done = run(f"{as_there}print(sorted(confine({EVERY})))")
    assert (done.stdout.strip(), done.stderr) == (str(limits), "")


def test_files_are_restricted_only_on_linux(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert landlock_version() == 0
    assert not restrict_files([str(tmp_path)], [])
    (tmp_path / "file").write_text("written")
    assert (tmp_path / "file").read_text() == "written"


def test_without_its_package_files_are_not_restricted():
    code = "sys.modules['landlock'] = None\nfrom keras_course.limits import restrict_files\n"
    done = run(code + f"print(restrict_files([], []), open({str(ROOT / 'README.md')!r}).readline())")
    assert done.stdout.startswith("False #")


def test_a_task_within_its_cpu_limit_ends_normally():
    done = run("limit_further_cpu(30)\nprint(sum(range(10)))")
    assert (done.returncode, done.stdout) == (0, "45\n")
