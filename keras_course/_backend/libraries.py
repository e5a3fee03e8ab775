"""Functions that NumPy and ``keras.ops`` spell differently."""

from types import ModuleType
from typing import Any

import numpy as np


def cast(x: Any, dtype: Any, xp: ModuleType) -> Any:
    """Converts an array or a tensor to another data type.

    Args:
        x: An array if ``xp`` is ``numpy``, else a tensor.
        dtype: The data type.
        xp: ``numpy`` or ``keras.ops``.

    Returns:
        The converted array or tensor.

    Example:
        >>> cast(np.array([True, False]), "float32", np).tolist()
        [1.0, 0.0]
    """
    return x.astype(dtype) if xp is np else xp.cast(x, dtype)
