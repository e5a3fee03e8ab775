"""Checks the types of `user_program.py` where the package is installed: `tox -e types` runs it, as it has mypy.

Its name keeps it out of the environments that have none.
"""

import subprocess
import sys
from pathlib import Path


def test_a_program_that_uses_the_package_has_its_types(tmp_path):
    """Outside the repository, since mypy takes what it finds in the current folder for the user's own code."""
    program = Path(__file__).with_name("user_program.py")
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", str(program)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
