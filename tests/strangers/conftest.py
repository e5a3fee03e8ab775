"""What attacks are made with: the exam and the models of the tests of the grader, and processes of their own."""

import subprocess
import sys
import time

import psutil
import pytest

from tests.assessment.conftest import cache, made, photos, run_command  # noqa: F401 - fixtures

WAIT = 20.0


@pytest.fixture
def start():
    """Starts a program of Python, which is killed when the test is over."""
    running = []

    def run(program, *arguments):
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        process = subprocess.Popen([sys.executable, "-c", program, *map(str, arguments)], text=True, **pipes)
        running.append(process)
        return process

    yield run
    for process in running:
        process.kill()
        process.communicate()


@pytest.fixture(scope="session")
def has_ended():
    """Waits for the end of a process; whether it came."""

    def wait(pid):
        deadline = time.monotonic() + WAIT
        while time.monotonic() < deadline:
            try:
                if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                    return True
            except psutil.NoSuchProcess:
                return True
            time.sleep(0.02)
        return False

    return wait
