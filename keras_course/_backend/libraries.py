"""Functions that NumPy and ``keras.ops`` spell differently."""

from types import ModuleType
from typing import Any

import numpy as np


def cast(x: Any, dtype: Any, xp: ModuleType) -> Any:
    """Converts an array if ``xp`` is ``numpy``, or a tensor if it is ``keras.ops``, to another data type."""
    return x.astype(dtype) if xp is np else xp.cast(x, dtype)
