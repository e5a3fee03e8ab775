"""The files of this folder each test one backend; the others are not there to be tested."""

from pathlib import Path

import keras

_OWN = f"test_{keras.backend.backend()}.py"
collect_ignore = [path.name for path in Path(__file__).parent.glob("test_*.py") if path.name != _OWN]
