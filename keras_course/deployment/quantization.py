"""Writes ONNX models with weights of 8 bits (dynamic quantization), and measures what that changes.

The weights of matrix products, embeddings and LSTM layers become integers of 8 bits, with a scale for each unit. The
inputs of these layers are converted when the model runs, with one scale for each batch, so that no example data is
needed. Convolutions stay as they are, since without example data they would become slower.

Source: https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html
"""

from importlib import import_module
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from keras_course._backend import quiet
from keras_course._backend.select import require
from keras_course.errors import CourseError

__all__ = ["INT8", "SMALLEST_COSINE", "OutputChange", "check_quantize", "measure_change", "write_int8"]

INT8: Final = "int8"
SMALLEST_COSINE: Final = 0.95
"""The smallest cosine between the outputs of a model and those of its quantized version for which it is written."""

_OPERATIONS: Final = ("MatMul", "Gemm", "Gather", "LSTM", "Attention")
"""The operations of ONNX whose weights are quantized; ONNX Runtime has no GRU of 8 bits."""


class OutputChange(NamedTuple):
    """How far the outputs of a quantized model are from those before.

    Args:
        difference: The largest difference of an output.
        cosine: The smallest cosine between the outputs for one input, before and after.
        agreement: The share of inputs with the same largest output.
    """

    difference: float
    cosine: float
    agreement: float


def check_quantize(quantize: str, format: str) -> None:
    """Checks that models can be quantized in this way in a format; an empty text stands for no quantization."""
    if quantize and quantize != INT8:
        raise CourseError(f"quantize is {quantize!r:.40}; give {INT8}, or leave it out")
    if quantize and format != "onnx":
        raise CourseError(f"quantize is {quantize!r}, and the format is {format!r}; only onnx can be quantized")
    if quantize:
        require("onnx", "onnxruntime", what=f"quantize={INT8!r}", install="pip install onnx onnxruntime")


def write_int8(source: Path, target: Path) -> None:
    """Writes an ONNX model with weights of 8 bits."""
    quantization: Any = import_module("onnxruntime.quantization")
    with quiet("root"):  # it recommends further steps
        quantization.quantize_dynamic(
            source,
            target,
            op_types_to_quantize=list(_OPERATIONS),
            per_channel=True,
            # with signed weights, sums of products overflow on processors without VNNI unless a bit is left out
            weight_type=quantization.QuantType.QUInt8,
            extra_options={"EnableSubgraph": True},
        )


def measure_change(before: npt.ArrayLike, after: npt.ArrayLike) -> OutputChange:
    """Compares the outputs (n, numbers) of a model and of its quantized version.

    Args:
        before: The outputs of the model.
        after: The outputs of the quantized one for the same inputs.

    Returns:
        The largest difference, the smallest cosine of a row, and the share of rows with the same largest number.

    Example:
        >>> change = measure_change([[3.0, 4.0], [1.0, 0.0]], [[3.0, 4.0], [0.5, 0.0]])
        >>> change.difference, round(change.cosine, 6), change.agreement
        (0.5, 1.0, 1.0)
    """
    left, right = np.asarray(before, "float64"), np.asarray(after, "float64")
    lengths = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    cosines = np.divide((left * right).sum(axis=1), lengths, out=np.ones(len(left)), where=lengths > 0)
    is_same = left.argmax(axis=1) == right.argmax(axis=1)
    return OutputChange(float(np.abs(left - right).max()), float(cosines.min()), float(is_same.mean()))
