"""Counts the parameters of any model, with the arithmetic of each number."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import keras

from keras_course._backend import keras_private
from keras_course.errors import CourseError

# a recurrent layer keeps the weights of all its gates in one array
_GATES = {keras.layers.LSTM: 4, keras.layers.GRU: 3}
_COLUMNS = ("layer", "kind", "output", "arithmetic", "parameters", "trainable")


@dataclass(frozen=True)
class ParameterRow:
    """The parameters of one layer.

    Args:
        layer: The path of the layer: the names of the models that contain it, and its name: ``"encoder/hidden1"``.
        kind: The class, such as ``"Dense"``.
        output_shape: Shape of the outputs, with None for a size that is not fixed, such as that of the batch; None if
            there is no shape: for the total, or for a layer inside a layer that is not a model.
        arithmetic: The number of parameters as a sum of products: ``"7 × 5 + 5"``; empty without parameters.
        parameters: The number of parameters.
        trainable: The number of trainable parameters.
    """

    layer: str
    kind: str
    output_shape: tuple[int | None, ...] | None
    arithmetic: str
    parameters: int
    trainable: int


def parameter_table(model: keras.Model) -> list[ParameterRow]:
    """Counts the parameters of each layer; a dense layer of M units on N inputs has N × M weights and M biases.

    Models within the model are opened. A layer that is used more than once is counted once.

    Args:
        model: Any built Keras model.

    Returns:
        A row for each layer in the order of the model, then the total, which is ``model.count_params()``.

    Raises:
        CourseError: The model is not built.

    Example:
        >>> model = keras.Sequential([keras.Input((7,)), keras.layers.Dense(5, name="dense")])
        >>> [(row.layer, row.arithmetic, row.parameters) for row in parameter_table(model)]
        [('dense', '7 × 5 + 5', 40), ('total', '', 40)]
    """
    if not model.built:
        raise CourseError(f"model {model.name!r} has no weights yet; build it or give it a keras.Input first")
    rows = list(_rows(model, "", set()))
    parameters, trainable = sum(row.parameters for row in rows), sum(row.trainable for row in rows)
    return [*rows, ParameterRow("total", "", None, "", parameters, trainable)]


def format_parameter_table(rows: Sequence[ParameterRow]) -> str:
    """Formats rows of parameters as a text table with aligned columns.

    Args:
        rows: Rows from ``parameter_table``; a rule separates the last one, the total.

    Returns:
        Lines of text without a newline at the end.

    Example:
        >>> model = keras.Sequential([keras.Input((7,)), keras.layers.Dense(5, name="dense")])
        >>> print(format_parameter_table(parameter_table(model)))
        layer  kind   output      arithmetic  parameters  trainable
        ───────────────────────────────────────────────────────────
        dense  Dense  (batch, 5)  7 × 5 + 5           40         40
        ───────────────────────────────────────────────────────────
        total                                         40         40
    """
    cells = [_COLUMNS] + [
        (row.layer, row.kind, _shape(row.output_shape), row.arithmetic, f"{row.parameters:,}", f"{row.trainable:,}")
        for row in rows
    ]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        "  ".join(f"{cell:{'>' if column > 3 else '<'}{widths[column]}}" for column, cell in enumerate(row))
        for row in cells
    ]
    rule = "─" * len(lines[0])
    return "\n".join([lines[0], rule, *lines[1:-1], rule, lines[-1]])


def _rows(layer: keras.layers.Layer, prefix: str, seen: set[int]) -> Iterator[ParameterRow]:
    """Yields the rows of the layers inside a layer, and a row for weights of the layer itself."""
    for inner in _layers_within(layer):
        if id(inner) in seen:
            continue
        seen.add(id(inner))
        name = f"{prefix}{inner.name}"
        if _layers_within(inner):
            yield from _rows(inner, f"{name}/", seen)
        else:
            yield _row(inner, name, inner.weights, seen)
    # a custom model or layer may have weights besides those of its layers
    own = [weight for weight in layer.weights if id(weight) not in seen]
    if own:
        yield _row(layer, prefix.rstrip("/") or layer.name, own, seen)


def _layers_within(layer: keras.layers.Layer) -> list[keras.layers.Layer]:
    if isinstance(layer, keras.layers.RNN):  # all weights are in its cell, which counts as a part of the layer
        return []
    within = keras_private.all_layers(layer, include_self=False, recursive=False)
    return [inner for inner in within if not isinstance(inner, keras.layers.InputLayer)]


def _row(layer: keras.layers.Layer, name: str, weights: Sequence[keras.Variable], seen: set[int]) -> ParameterRow:
    weights = [weight for weight in weights if id(weight) not in seen]  # a weight that two layers share counts once
    seen.update(map(id, weights))
    return ParameterRow(
        layer=name,
        kind=type(layer).__name__,
        output_shape=_output_shape(layer),
        arithmetic=_arithmetic([tuple(weight.shape) for weight in weights], _GATES.get(type(layer), 1)),
        parameters=sum(math.prod(weight.shape) for weight in weights),
        trainable=sum(math.prod(weight.shape) for weight in weights if weight.trainable),
    )


def _output_shape(layer: keras.layers.Layer) -> tuple[int | None, ...] | None:
    try:
        shape = layer.output.shape
    except (AttributeError, ValueError):  # not part of a graph, or with several outputs
        return None
    return tuple(shape)


def _arithmetic(shapes: Sequence[tuple[int, ...]], gates: int) -> str:
    """Formats the sum of the sizes of some arrays, with the factors of each size."""
    if gates > 1:
        terms = [_product((*shape[:-1], shape[-1] // gates)) for shape in shapes]
        return f"{gates} × ({' + '.join(terms)})"
    terms = [_product(shape) for shape in shapes]
    if len(terms) > 1 and len(set(terms)) == 1:  # such as the four vectors of batch normalization
        return f"{len(terms)} × {terms[0]}"
    return " + ".join(terms)


def _product(shape: tuple[int, ...]) -> str:
    return " × ".join(f"{size:,}" for size in shape) or "1"


def _shape(shape: tuple[int | None, ...] | None) -> str:
    if shape is None:
        return ""
    sizes: list[Any] = ["batch" if index == 0 and size is None else size for index, size in enumerate(shape)]
    return f"({', '.join('any' if size is None else str(size) for size in sizes)})"
