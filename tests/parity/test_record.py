"""Lets this backend record what the environment without one compares then; beside the other tests, as it takes a while.

KERAS_COURSE_RECORDINGS names the folder; tox does.
"""

import os
import subprocess
import sys
from pathlib import Path

import keras


def test_everything_is_recorded(tmp_path):
    folder = Path(os.environ.get("KERAS_COURSE_RECORDINGS", tmp_path))
    recording = folder / f"{keras.backend.backend()}.npz"
    recording.unlink(missing_ok=True)
    command = [sys.executable, str(Path(__file__).with_name("record.py")), str(folder)]
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}  # as users compile
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=1200, check=False)
    assert done.returncode == 0, done.stderr
    assert recording.exists()
