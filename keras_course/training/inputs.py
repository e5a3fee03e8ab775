"""What the training loops take: labelled samples, cut into batches, and a loss on logits."""

import inspect
from collections.abc import Callable, Iterator

import keras
import numpy as np

from keras_course import randomness
from keras_course.errors import CourseError

Data = tuple[np.ndarray, np.ndarray]

_STEPS_A_CALL = 64
_BYTES_A_CALL = 2 * 2**20
_SECONDS_A_CALL = 0.25
_LABELS_LIKE_OUTPUTS = (keras.losses.MeanSquaredError, keras.losses.MeanAbsoluteError, keras.losses.BinaryCrossentropy)


class Batches:
    """Cuts labelled samples into the batches of an epoch, and hands them over in groups that run in one call."""

    def __init__(self, x: np.ndarray, y: np.ndarray, *, batch_size: int, seed: int) -> None:
        self._x, self._y, self._batch_size = x, y, batch_size
        self._key = randomness.stream_key(seed, "shuffle")
        whole, rest = divmod(len(x), batch_size)
        self.sizes = np.array([batch_size] * whole + [rest] * bool(rest))
        self.steps = len(self.sizes)
        bytes_a_batch = max(1, x[:1].nbytes * batch_size)
        self._largest_group = max(1, min(_STEPS_A_CALL, _BYTES_A_CALL // bytes_a_batch, whole))

    def groups(self, epoch: int, speed: Callable[[], float]) -> Iterator[tuple[np.ndarray, np.ndarray, int]]:
        """Yields x (steps, batch, ...), y (steps, batch, ...) and how many of those steps to take.

        All groups of whole batches have one shape, so that one compiled program serves them; ``speed`` says how many
        steps a second to expect, so that a slow model reports often enough.
        """
        order = randomness.permutation(self._key, len(self._x), step=epoch)
        whole = len(order) // self._batch_size
        batches = order[: whole * self._batch_size].reshape(whole, self._batch_size)
        start = 0
        while start < whole:
            count = min(self._largest_group, whole - start, max(1, int(speed() * _SECONDS_A_CALL)))
            group = np.resize(batches[start : start + count], (self._largest_group, self._batch_size))
            yield self._x[group], self._y[group], count
            start += count
        rest = order[whole * self._batch_size :]
        if len(rest):
            yield self._x[None, rest], self._y[None, rest], 1


def on_logits(loss: keras.Loss | str) -> keras.Loss:
    """Finds a loss by its name, and makes it take logits.

    Args:
        loss: The name of a loss of Keras, or a loss, which is returned as it is.

    Returns:
        The loss.

    Raises:
        CourseError: There is none of that name.

    Example:
        >>> on_logits("sparse_categorical_crossentropy").get_config()["from_logits"]
        True
    """
    if not isinstance(loss, str):
        return loss
    kinds = {name.lower(): kind for name, kind in vars(keras.losses).items() if isinstance(kind, type)}
    kind = kinds.get(loss.replace("_", "").lower())
    if kind is None or kind is keras.Loss:
        raise CourseError(f"loss is {loss!r}; give the name of a loss of Keras, such as mean_squared_error")
    return kind(from_logits=True) if "from_logits" in inspect.signature(kind).parameters else kind()


def check_data(model: keras.Model, data: Data, loss: keras.Loss, name: str) -> None:
    """Checks that labelled samples fit a model and its loss.

    Args:
        model: A built model.
        data: Samples and labels.
        loss: The loss that compares labels with the model's outputs.
        name: What the person calls the data.

    Raises:
        CourseError: They do not fit; the message says where.
    """
    x, y = data
    check_samples(model, x, name)
    check_labels(x, y, name)
    outputs = model.output_shape[1:]
    if isinstance(loss, keras.losses.SparseCategoricalCrossentropy):
        classes = outputs[-1]
        if y.ndim != len(outputs):
            raise CourseError(f"{name} has labels of shape {y.shape}; give one class number for each output")
        if not np.issubdtype(y.dtype, np.integer) or y.min() < 0 or y.max() >= classes:
            raise CourseError(
                f"{name} has labels from {y.min()} to {y.max()} ({y.dtype}); "
                f"the model has {classes} classes, so give whole numbers from 0 to {classes - 1}"
            )
    elif isinstance(loss, _LABELS_LIKE_OUTPUTS) and y.shape[1:] != outputs:
        raise CourseError(f"{name} has labels of shape {y.shape}; the model gives {outputs} a sample, so give the same")


def check_samples(model: keras.Model, x: np.ndarray, name: str) -> None:
    """Checks that samples are there, are finite, and have the shape that a model takes.

    Args:
        model: A built model.
        x: Samples (n, ...).
        name: What the person calls them.

    Raises:
        CourseError: They do not fit.
    """
    if not len(x):
        raise CourseError(f"{name} has no samples; give at least one")
    expected = model.input_shape[1:]
    fits = len(expected) == x.ndim - 1 and all(e in (None, s) for e, s in zip(expected, x.shape[1:], strict=True))
    if not fits:
        raise CourseError(f"{name} has samples of shape {x.shape[1:]}; the model takes {expected}")
    _check_finite(x, f"{name} has a sample")


def check_pictures(x: np.ndarray, name: str) -> None:
    """Checks that samples are pictures, which can be augmented.

    Args:
        x: Samples (n, ...).
        name: What the person calls them.

    Raises:
        CourseError: They are none.

    Example:
        >>> check_pictures(np.zeros((2, 28, 28, 1)), "train")
    """
    if x.ndim != 4:
        raise CourseError(
            f"{name} has samples of shape {x.shape[1:]}; only pictures (height, width, channels) are changed"
        )


def check_labels(x: np.ndarray, y: np.ndarray, name: str) -> None:
    """Checks that there are as many labels as samples, and that they are finite.

    Args:
        x: Samples (n, ...).
        y: Labels (n, ...).
        name: What the person calls both.

    Raises:
        CourseError: They do not fit.

    Example:
        >>> check_labels(np.zeros(3), np.zeros(2), "train")
        Traceback (most recent call last):
        ...
        keras_course.errors.CourseError: train has 3 samples and 2 labels; give one label a sample
    """
    if len(x) != len(y):
        raise CourseError(f"{name} has {len(x)} samples and {len(y)} labels; give one label a sample")
    _check_finite(y, f"{name} has a label")


def _check_finite(array: np.ndarray, what: str) -> None:
    if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
        place = tuple(np.argwhere(~np.isfinite(array))[0].tolist())
        raise CourseError(f"{what} that is {array[place]}, number {place[0]}; give finite numbers, or leave it out")
