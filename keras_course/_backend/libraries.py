"""What NumPy and ``keras.ops`` call by different names."""

from types import ModuleType
from typing import Any

import numpy as np


def cast(x: Any, dtype: Any, xp: ModuleType) -> Any:
    """Turns an array, or a tensor, into one of another type.

    Args:
        x: An array where ``xp`` is ``numpy``, else a tensor.
        dtype: The type.
        xp: ``numpy`` or ``keras.ops``.

    Returns:
        The same values, as near as the type can hold them.

    Example:
        >>> cast(np.array([True, False]), "float32", np).tolist()
        [1.0, 0.0]
    """
    return x.astype(dtype) if xp is np else xp.cast(x, dtype)
