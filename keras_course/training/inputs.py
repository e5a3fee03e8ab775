"""Checks samples, labels and weights of any kind, and cuts them into batches for the training loops."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

import keras
import numpy as np

from keras_course import randomness
from keras_course._backend import keras_private
from keras_course._backend.loops import leaves
from keras_course.errors import CourseError

Data = Any
"""(x, y) or (x, y, sample_weight), in which x and y may be nests of arrays; or a collection of batches of that form."""
Batch = dict[str, Any]
"""``x`` and, where they are given, ``y`` and ``sample_weight``: nests of arrays (batch, ...)."""

_STEPS_A_CALL = 64
_BYTES_A_CALL = 2 * 2**20
_SECONDS_A_CALL = 0.25
_VALUES_CHECKED_TOGETHER: Final = 2**22
_PARTS: Final = ("x", "y", "sample_weight")
_LABELS_LIKE_OUTPUTS: Final = (
    *(keras.losses.MeanSquaredError, keras.losses.MeanAbsoluteError, keras.losses.MeanAbsolutePercentageError),
    *(keras.losses.MeanSquaredLogarithmicError, keras.losses.Huber, keras.losses.LogCosh, keras.losses.Poisson),
    *(keras.losses.BinaryCrossentropy, keras.losses.BinaryFocalCrossentropy, keras.losses.CategoricalCrossentropy),
    *(keras.losses.CategoricalFocalCrossentropy, keras.losses.KLDivergence, keras.losses.Hinge),
    *(keras.losses.SquaredHinge, keras.losses.CategoricalHinge, keras.losses.CosineSimilarity),
)
LOSSES_OF_SAMPLES: Final = (*_LABELS_LIKE_OUTPUTS, keras.losses.SparseCategoricalCrossentropy)
"""Losses of Keras whose value for a sample does not depend on the other samples in the batch."""


class Batches:
    """Cuts nests of arrays (n, ...) into the batches of an epoch, in groups that one compiled call processes.

    The last batch of an epoch may be smaller. A ``seed`` of None keeps the order of the arrays.
    """

    def __init__(
        self, x: Any, y: Any = None, sample_weight: Any = None, *, batch_size: int, seed: int | None = 0
    ) -> None:
        parts = zip(_PARTS, (x, y, sample_weight), strict=True)
        self.arrays: Batch = {name: part for name, part in parts if part is not None}
        self.batch_size = batch_size
        self._key = None if seed is None else randomness.stream_key(seed, "shuffle")
        self.samples = len(next(leaves(self.arrays)))
        whole, rest = divmod(self.samples, batch_size)
        self.steps = whole + bool(rest)
        bytes_a_batch = sum(_native(leaf[:1]).nbytes for leaf in leaves(x)) * batch_size
        self._largest_group = max(1, min(_STEPS_A_CALL, _BYTES_A_CALL // max(1, bytes_a_batch), whole))

    def first(self) -> Batch:
        """Returns the first samples as a batch, without shuffling."""
        return self._take(slice(self.batch_size))

    def groups(self, epoch: int, speed: Callable[[], float], *, alone: bool = False) -> Iterator[tuple[Batch, int]]:
        """Yields groups of batches with the axes (steps, batch, ...), and the number of steps to take in each.

        All groups of whole batches have the same shape, so that they need one compiled program. A group has fewer steps
        if the model is slow, by ``speed`` in steps per second, and only one if ``alone`` is set.
        """
        order = np.arange(self.samples)
        if self._key is not None:
            order = randomness.permutation(self._key, self.samples, step=epoch)
        whole = self.samples // self.batch_size
        batches = order[: whole * self.batch_size].reshape(whole, self.batch_size)
        start, largest = 0, 1 if alone else self._largest_group
        while start < whole:
            count = min(largest, whole - start, max(1, int(speed() * _SECONDS_A_CALL)))
            yield self._take(np.resize(batches[start : start + count], (largest, self.batch_size))), count
            start += count
        rest = order[whole * self.batch_size :]
        if len(rest):
            yield self._take(rest[None]), 1

    def fingerprint(self) -> str:
        """Returns a text that changes with any value of the data."""
        return f"{self.samples} samples, {_digest(self.arrays)}"

    def _take(self, rows: Any) -> Batch:
        return keras.tree.map_structure(lambda array: _native(array[rows]), self.arrays)


class BatchStream:
    """Reads the batches of a collection that can be iterated in each epoch, in groups that one compiled call processes.

    Each batch is x, (x, y) or (x, y, sample_weight). Error messages contain ``name``.
    """

    samples = None

    def __init__(self, source: Any, name: str) -> None:
        self._source, self._name = source, name
        try:
            self.steps: int | None = len(source)
        except TypeError:
            self.steps = None
        self._first: Batch | None = None

    def first(self) -> Batch:
        """Returns the first batch."""
        if self._first is None:
            self._first = next(self._batches(), None)
        if self._first is None:
            raise CourseError(f"{self._name} has no batches; give at least one")
        return self._first

    def groups(self, epoch: int, speed: Callable[[], float], *, alone: bool = False) -> Iterator[tuple[Batch, int]]:
        """Yields groups of batches in the order of the collection; see ``Batches.groups``."""
        waiting: list[Batch] = []
        kind: Any = None
        largest = 1
        for batch in self._batches():
            shape = [(leaf.shape, leaf.dtype) for leaf in leaves(batch)]
            if waiting and (shape != kind or len(waiting) >= min(largest, max(1, speed() * _SECONDS_A_CALL))):
                yield _stacked(waiting, largest), len(waiting)
                waiting = []
            if not waiting:
                kind = shape
                size = max(1, sum(leaf.nbytes for leaf in leaves(batch)))
                largest = 1 if alone else max(1, min(_STEPS_A_CALL, _BYTES_A_CALL // size, self.steps or _STEPS_A_CALL))
            waiting.append(batch)
        if waiting:
            yield _stacked(waiting, largest), len(waiting)
        if hasattr(self._source, "on_epoch_end"):
            self._source.on_epoch_end()

    def fingerprint(self) -> str:
        """Returns a text that changes with the type and number of batches and with the first batch."""
        return f"{type(self._source).__name__} of {self.steps or 'unknown'} batches, {_digest(self.first())}"

    def _batches(self) -> Iterator[Batch]:
        source = self._source
        count = self.steps if hasattr(source, "__getitem__") and not hasattr(source, "__iter__") else None
        for item in source if count is None else (source[number] for number in range(count)):
            batch = as_batch(item, f"a batch of {self._name}")
            for leaf in leaves(batch):
                _check_finite(leaf, f"{self._name} has a value")
            yield keras.tree.map_structure(_native, batch)


def as_batches(data: Data, *, batch_size: int, seed: int | None, name: str) -> Batches | BatchStream:
    """Returns the batches of arrays; or those of a collection, for which batch size and seed are not used.

    Raises a CourseError if the data are neither, or can be iterated only once.
    """
    if _is_labeled_arrays(data):
        batch = as_batch(data, name)
        _check_lengths(batch, name)
        for part, what in (("x", "a sample"), ("y", "a label"), ("sample_weight", "a weight")):
            for leaf in leaves(batch.get(part, ())):
                _check_finite(leaf, f"{name} has {what}")
        return Batches(*(batch.get(part) for part in _PARTS), batch_size=batch_size, seed=seed)
    if isinstance(data, Iterator):
        raise CourseError(
            f"{name} is a {type(data).__name__}, which can be iterated only once, not in every epoch; "
            "give a list of batches, or a keras.utils.PyDataset"
        )
    if isinstance(data, Iterable) or (hasattr(data, "__getitem__") and hasattr(data, "__len__")):
        return BatchStream(data, name)
    raise CourseError(
        f"{name} is a {type(data).__name__}; give (x, y), (x, y, sample_weight) or a collection of batches"
    )


def as_batch(item: Any, name: str) -> Batch:
    """Converts x, (x, y) or (x, y, sample_weight) to arrays by name; parts that are None are left out."""
    parts = item if isinstance(item, tuple | list) else (item,)
    if not 1 <= len(parts) <= 3:
        raise CourseError(f"{name} has {len(parts)} parts; give (x, y) or (x, y, sample_weight)")
    named = zip(_PARTS, parts, strict=False)
    return {part: _as_arrays(value, f"{name}'s {part}") for part, value in named if value is not None}


def as_samples(x: Any, name: str) -> Any:
    """Converts samples, or a nest of them, to arrays of a data type that every backend has."""
    arrays = _as_arrays(x, name)
    _check_lengths({"x": arrays}, name)
    return keras.tree.map_structure(_native, arrays)


def split_off(data: Data, share: float, name: str) -> tuple[Data, Data]:
    """Splits off the last samples, like ``validation_split`` of Keras; returns the first and the last part of the data.

    Raises a CourseError if the data are a collection of batches, or one of the parts would be empty.
    """
    if not 0 < share < 1:
        raise CourseError(f"validation_split is {share}; give a fraction above 0 and below 1")
    if not _is_labeled_arrays(data):
        raise CourseError(f"validation_split needs arrays, and {name} is a {type(data).__name__}; give valid instead")
    batch = as_batch(data, name)
    _check_lengths(batch, name)
    samples = len(next(leaves(batch)))
    middle = int(samples * (1.0 - share))
    if middle in (0, samples):
        raise CourseError(
            f"validation_split is {share}, which leaves one part of {samples} samples empty; give another"
        )

    def take(rows: slice) -> Data:
        return tuple(keras.tree.map_structure(lambda array: array[rows], part) for part in batch.values())

    return take(slice(middle)), take(slice(middle, None))


def class_weights_of(y: np.ndarray, class_weight: Any, num_classes: int | None = None) -> np.ndarray:
    """Returns a weight (n,) for each label by its class; y is (n,) or (n, 1), or holds probabilities (n, classes).

    ``class_weight`` is a mapping from class numbers to weights, with the weight 1 for classes that are left out; or
    ``"balanced"``, for the same total in each class.
    """
    labels = y.argmax(axis=-1) if y.ndim > 1 and y.shape[-1] > 1 else y.reshape(len(y), -1)[:, 0]
    if y.ndim > 2 or (y.ndim == 2 and y.size != len(y) and y.shape[-1] == 1):
        raise CourseError(f"class_weight needs one class for each sample, and the labels have the shape {y.shape}")
    with np.errstate(invalid="ignore"):  # a label that is not finite is refused later
        labels = np.round(labels).astype("int64")
    if isinstance(class_weight, str):
        if class_weight != "balanced":
            raise CourseError(f"class_weight is {class_weight!r}; give a mapping of class numbers or 'balanced'")
        found, places, counts = np.unique(labels, return_inverse=True, return_counts=True)
        return (len(labels) / (len(found) * counts)).astype("float32")[places.reshape(-1)]
    if not isinstance(class_weight, Mapping):
        raise CourseError(
            f"class_weight is a {type(class_weight).__name__}; give a mapping of class numbers or 'balanced'"
        )
    weights = np.ones(len(labels), "float32")
    for number, weight in class_weight.items():
        if num_classes is not None and not (isinstance(number, int | np.integer) and 0 <= number < num_classes):
            raise CourseError(f"class_weight has a class {number!r}; the model has the classes 0 to {num_classes - 1}")
        if not (isinstance(weight, int | float | np.number) and np.isfinite(weight) and float(weight) >= 0):
            raise CourseError(f"class_weight of class {number} is {weight!r}; give a finite number from 0 up")
        weights[labels == number] = weight
    return weights


def check_data(model: keras.Model, data: Data, loss: Any, name: str) -> None:
    """Raises a CourseError if samples and labels do not fit a model and its loss, as far as both are known."""
    x, y = data[:2]
    check_samples(model, x, name)
    if not isinstance(x, np.ndarray) or not isinstance(y, np.ndarray):
        return
    check_labels(x, y, name)
    shape = getattr(model, "output_shape", None) if model.built else None
    if not isinstance(shape, tuple) or not all(side is None or isinstance(side, int) for side in shape):
        return
    outputs = shape[1:]
    if isinstance(loss, keras.losses.SparseCategoricalCrossentropy):
        _check_class_numbers(y, outputs, loss, name)
    elif isinstance(loss, _LABELS_LIKE_OUTPUTS) and not _fits(outputs, y.shape[1:]):
        raise CourseError(f"{name} has labels of shape {y.shape}; the model gives {outputs} a sample; give that shape")


def check_samples(model: keras.Model, x: Any, name: str) -> None:
    """Raises a CourseError if there are no samples, or one is not finite, or they do not fit the inputs of a model."""
    arrays = list(leaves(x))
    if not arrays or not len(arrays[0]):
        raise CourseError(f"{name} has no samples; give at least one")
    expected = _expected_inputs(model, x)
    if expected is not None and len(expected) != len(arrays):
        names = ", ".join(tensor.name for tensor in expected)
        raise CourseError(f"{name} has {len(arrays)} arrays of samples; the model takes {len(expected)}: {names}")
    for tensor, array in zip(expected or (), arrays, strict=False):
        if not _fits(tensor.shape[1:], array.shape[1:]):
            raise CourseError(f"{name} has samples of shape {array.shape[1:]}; the model takes {tensor.shape[1:]}")
        _check_tokens(model, tensor, array, name)
    for array in arrays:
        _check_finite(array, f"{name} has a sample")


def fixed_batch_size(model: keras.Model) -> int | None:
    """Returns the only batch size that a model accepts, None if it accepts any."""
    inputs = model.inputs if isinstance(getattr(model, "inputs", None), list | tuple) else ()
    return next((tensor.shape[0] for tensor in inputs if tensor.shape and tensor.shape[0] is not None), None)


def check_stateless(model: keras.Model) -> None:
    """Raises a CourseError if a layer carries state from one batch to the next, like a stateful LSTM."""
    for layer in keras_private.all_layers(model):
        if getattr(layer, "stateful", False):  # on JAX the state is lost after a batch; on PyTorch the gradients fail
            raise CourseError(
                f"the layer {layer.name!r} is stateful, which Keras does not support alike on its backends; "
                "create it with stateful=False and give longer sequences"
            )


def check_batch_size(model: keras.Model, batch_size: int) -> None:
    """Raises a CourseError if a model does not accept batches of this size."""
    size = fixed_batch_size(model)
    if size not in (None, batch_size):
        raise CourseError(f"batch_size is {batch_size}; the model takes batches of {size} and no others, so give that")


def check_batches(model: keras.Model, source: Batches | BatchStream, name: str) -> None:
    """Raises a CourseError if a model accepts only batches of one size, and arrays are cut into others."""
    size = fixed_batch_size(model)
    if size is None or not isinstance(source, Batches):
        return
    check_batch_size(model, source.batch_size)
    if rest := source.samples % size:
        raise CourseError(
            f"{name} has {source.samples} samples; the model takes batches of {size}, so leave {rest} of them out"
        )


def check_pictures(x: Any, name: str) -> None:
    """Raises a CourseError if samples are not pictures, which can be augmented."""
    if not isinstance(x, np.ndarray):
        raise CourseError(f"{name} has several inputs; only one input of pictures (height, width, channels) is changed")
    if x.ndim != 4:
        raise CourseError(
            f"{name} has samples of shape {x.shape[1:]}; only pictures (height, width, channels) are changed"
        )


def check_labels(x: np.ndarray, y: np.ndarray, name: str) -> None:
    """Raises a CourseError if there are not as many labels as samples, or one is not finite."""
    if len(x) != len(y):
        raise CourseError(f"{name} has {len(x)} samples and {len(y)} labels; give one label a sample")
    _check_finite(y, f"{name} has a label")


def _is_labeled_arrays(data: Any) -> bool:
    """Returns whether data are (x, y), (x, y, sample_weight) or x, not a collection of batches."""
    if isinstance(data, tuple):
        return True
    if isinstance(data, list):  # either batches, or x and y
        return not data or not all(isinstance(item, tuple) for item in data)
    return isinstance(data, np.ndarray | Mapping) or keras.ops.is_tensor(data) or hasattr(data, "to_numpy")


def _as_arrays(value: Any, name: str) -> Any:
    """Converts lists, data frames and tensors to arrays; a list or tuple of arrays becomes a list of arrays."""
    if isinstance(value, Mapping):
        return {key: _as_arrays(part, f"{name}[{key!r}]") for key, part in value.items()}
    if isinstance(value, tuple | list) and value and all(hasattr(part, "shape") and part.shape for part in value):
        return [_as_arrays(part, f"{name}[{number}]") for number, part in enumerate(value)]
    if isinstance(value, np.ndarray):
        array = value
    elif hasattr(value, "to_numpy"):  # a data frame
        array = value.to_numpy()
    elif hasattr(value, "detach"):  # a tensor of PyTorch, also if Keras runs on another backend
        array = value.detach().cpu().numpy()
    elif hasattr(value, "numpy"):
        array = value.numpy()
    else:
        try:
            array = np.asarray(value)
        except ValueError as error:
            raise CourseError(f"{name} is not an array: {error}; give rows of equal length") from None
    if not (np.issubdtype(array.dtype, np.number) or array.dtype == bool or array.dtype.kind == "V"):
        raise CourseError(f"{name} holds {array.dtype} and not numbers; convert texts and dates to numbers first")
    if not array.ndim:
        raise CourseError(f"{name} is one number; give an array with a row for each sample")
    return array


def _native(array: np.ndarray) -> np.ndarray:
    """Converts an array to a data type that every backend has: floating-point numbers to Keras' ``floatx``."""
    kind = array.dtype
    if np.issubdtype(kind, np.complexfloating):
        return array
    if np.issubdtype(kind, np.floating) or kind.kind == "V":  # V: bfloat16, which is not a type of NumPy itself
        return array.astype(keras.config.floatx(), copy=False)
    if kind in (np.uint16, np.uint32, np.uint64):
        return array.astype("int32" if kind.itemsize == 2 else "int64")
    return array if kind.isnative else array.astype(kind.newbyteorder("="))


def _stacked(batches: list[Batch], length: int) -> Batch:
    """Stacks batches to a group, filled with copies so that all groups have the same shape."""
    filled = [batches[number % len(batches)] for number in range(length)]
    return keras.tree.map_structure(lambda *arrays: np.stack(arrays), *filled)


def _check_lengths(batch: Batch, name: str) -> None:
    words = {"x": ("rows in another input", "row"), "y": ("labels", "label"), "sample_weight": ("weights", "weight")}
    samples = next((len(leaf) for leaf in leaves(batch.get("x", ()))), 0)
    for part, (several, one) in words.items():
        for leaf in leaves(batch.get(part, ())):
            if len(leaf) != samples:
                raise CourseError(f"{name} has {samples} samples and {len(leaf)} {several}; give one {one} a sample")


def _expected_inputs(model: keras.Model, x: Any) -> list[Any] | None:
    """Returns the inputs of the model in the order of the leaves of x, None if they are not known."""
    inputs = getattr(model, "inputs", None)
    if not inputs or not all(hasattr(tensor, "shape") for tensor in inputs):
        return None
    if isinstance(x, dict):
        struct = keras_private.input_structure(model)
        named = struct if isinstance(struct, dict) else {tensor.name: tensor for tensor in inputs}
        if unknown := [name for name in x if name not in named]:
            raise CourseError(f"there is no input {unknown[0]!r}; the model takes {', '.join(map(str, named))}")
        if missing := [name for name in named if name not in x]:
            raise CourseError(f"the input {missing[0]!r} is missing; the model takes {', '.join(map(str, named))}")
        return [named[name] for name in sorted(x)]
    return list(inputs)


def _fits(expected: tuple[Any, ...], shape: tuple[int, ...]) -> bool:
    """Returns whether Keras accepts an array for a shape; it adds or drops a last axis of length 1."""

    def equal(sides: tuple[int, ...]) -> bool:
        return len(expected) == len(sides) and all(e in (None, s) for e, s in zip(expected, sides, strict=True))

    return equal(shape) or equal((*shape, 1)) or (shape[-1:] == (1,) and equal(shape[:-1]))


def _check_tokens(model: keras.Model, tensor: Any, array: np.ndarray, name: str) -> None:
    """Checks that every token has an embedding; the backends handle missing ones in different ways."""
    for layer in model.layers:
        is_embedding = isinstance(layer, keras.layers.Embedding) and len(keras_private.calls_of(layer)) == 1
        if is_embedding and layer.input is tensor:
            lowest, highest = _range(array)
            if lowest < 0 or highest >= layer.input_dim:
                raise CourseError(
                    f"{name} has tokens from {lowest} to {highest}; the layer {layer.name!r} has {layer.input_dim}, "
                    f"so give whole numbers from 0 to {layer.input_dim - 1}"
                )


def _check_class_numbers(y: np.ndarray, outputs: tuple[Any, ...], loss: Any, name: str) -> None:
    classes = outputs[-1]
    if not _fits(outputs[:-1], y.shape[1:]):
        raise CourseError(f"{name} has labels of shape {y.shape}; give one class number for each output")
    lowest, highest = _range(y, ignored=loss.get_config().get("ignore_class"))
    is_whole = np.issubdtype(y.dtype, np.integer) or all((part == np.round(part)).all() for part in _chunks(y))
    if not is_whole or lowest < 0 or (classes is not None and highest >= classes):
        raise CourseError(
            f"{name} has labels from {lowest} to {highest} ({y.dtype}); "
            f"the model has {classes} classes, so give whole numbers from 0 to {classes - 1}"
        )


def _digest(arrays: Batch) -> str:
    """Returns a text that changes with any value of the arrays."""
    digest = hashlib.blake2b(digest_size=8)
    for leaf in leaves(arrays):
        for part in _chunks(leaf):
            digest.update(np.ascontiguousarray(part).data)
    return digest.hexdigest()


def _chunks(array: np.ndarray) -> Iterator[np.ndarray]:
    """Yields parts of an array that fit in memory, since the array may be mapped to a large file."""
    rows = max(1, _VALUES_CHECKED_TOGETHER // max(1, array[:1].size))
    for start in range(0, len(array), rows):
        yield array[start : start + rows]


def _range(array: np.ndarray, ignored: Any = None) -> tuple[Any, Any]:
    """Returns the lowest and the highest value; values that the loss ignores do not count."""
    parts = ((part if ignored is None else part[part != ignored]) for part in _chunks(array))
    ends = [(part.min(), part.max()) for part in parts if part.size]
    return (min(low for low, _ in ends), max(high for _, high in ends)) if ends else (0, 0)


def _check_finite(array: np.ndarray, what: str) -> None:
    if not np.issubdtype(array.dtype, np.floating):
        return
    first = 0
    for part in _chunks(array):
        if not np.isfinite(part).all():
            place = tuple(np.argwhere(~np.isfinite(part))[0].tolist())
            number = first + place[0]
            raise CourseError(f"{what} that is {part[place]}, number {number}; give finite numbers, or leave it out")
        first += len(part)
