"""The only room that may name torch, tensorflow or jax: one file each, with the same functions.

| function | what it does |
|---|---|
| ``describe_devices()`` | the devices that the framework sees: a list of ``{"name", "kind", "memory_bytes"}`` |
| ``set_precision(name)`` | sets the precision of float32 matrix products on a GPU: exact, or rounded to tf32 |
| ``replica()`` | the number of this copy of the model when the batch is split over several |
| ``training_loop(updates, state)`` | the ``loops.TrainingLoop`` of the backend: several compiled steps in one call |
| ``unproven(objects)`` | the first of some layers, losses, ... that may differ in the compiled loop, or None |
| ``forward(model, frozen=)`` | the compiled forward pass of a model, from NumPy arrays to NumPy arrays |
| ``compiles_each_shape()`` | whether ``forward`` compiles a program for each length of a text |
| ``export(model, path, kind, longest=)`` | writes the model in one of the formats that the framework can write |
| ``resample(images, columns, rows, fill)`` | pictures sampled at given positions, bilinearly |
| ``axis(size)`` | the coordinates of ``resample``: that of the first pixel, and the distance to the next |
| ``by_pictures(draw, apply)`` | a random transform of pictures: compiled, or in parts that fit in the cache |
| ``value_and_grad(function)`` | a function that computes the value and its gradient |
| ``vectorize(function)`` | the function with a new first axis in all arguments and results |

``by_pictures`` takes ``draw(shape, step, first_row, xp)``, which returns arrays (batch, ...), and
``apply(pictures, drawn, first_row, step, xp)``, in which no picture may depend on another. It returns a
``resampling.Run``.

``export`` keeps the length of texts open where a model takes any; ``longest`` is then the largest number of tokens.

``forward`` reads the weights each time it runs; with ``frozen`` it may keep those of its first run.

``value_and_grad`` takes a function from a list of tensors, and any other arguments, to a scalar and a list of auxiliary
tensors. The new function takes the same arguments and returns ``(scalar, auxiliary), gradients``.

``select`` chooses one of the three backends and imports none of them. ``keras_private`` has all uses of what Keras does
not make public.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any

from keras_course._backend import keras_private
from keras_course._backend.select import version_of
from keras_course.errors import CourseError

if TYPE_CHECKING:
    from keras_course._backend.loops import TrainingLoop, Update

__all__ = ["TrainingLoop", "Update"]

_FUNCTIONS = (
    "axis",
    "by_pictures",
    "compiles_each_shape",
    "describe_devices",
    "export",
    "forward",
    "replica",
    "resample",
    "set_precision",
    "training_loop",
    "unproven",
    "value_and_grad",
    "vectorize",
)


def __getattr__(name: str) -> Any:
    """Imports the file of the backend that Keras runs on, and returns the function from it."""
    if name in __all__:
        return getattr(import_module(f"{__name__}.loops"), name)
    if name not in _FUNCTIONS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import keras

    function = getattr(import_module(f"{__name__}.{keras.backend.backend()}"), name)
    globals()[name] = function  # later accesses find it here
    return function


def index_of(wanted: Any, variables: Sequence[Any]) -> int:
    """Returns the index of a variable, compared by identity: ``==`` of variables compares their values."""
    return next(index for index, variable in enumerate(variables) if variable is wanted)


def mode(model: Any, *, training: bool) -> dict[str, bool]:
    """Returns the argument ``training`` for the call of a model; nothing if its ``call`` does not take one."""
    return {"training": training} if keras_private.takes_training(model) else {}


def input_of(model: Any) -> tuple[str, tuple[int | None, ...], str]:
    """Returns the name, the shape without the batch, and the type of the input with which a model is exported.

    The shape of tokens is ``(None,)`` if a model takes texts of any length.
    """
    taken = model.inputs[0]
    is_tokens = len(taken.shape) == 2 and str(taken.dtype).startswith("int")
    return "tokens" if is_tokens else "pictures", tuple(taken.shape[1:]), "int32" if is_tokens else "float32"


def with_length(model: Any, length: int | None) -> Any:
    """Returns a model for texts of any length as one for texts of a fixed length; other models are returned as is."""
    import keras

    name, shape, number_type = input_of(model)
    if shape != (None,) or length is None:
        return model
    tokens = keras.Input((length,), dtype=number_type, name=name)
    return keras.Model(tokens, model(tokens), name=model.name)


@contextmanager
def quiet(name: str) -> Iterator[None]:
    """Silences a logger; a wrong export is found later, when it is opened and compared."""
    import logging

    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(level)


def check_device(device: str) -> None:
    """Raises a ``CourseError`` if a GPU (``gpu`` or ``gpu:N``) is requested and the backend sees none."""
    devices = __getattr__("describe_devices")()
    if device.startswith("gpu") and all(found["kind"] == "cpu" for found in devices):
        raise CourseError(f"--device is {device}, but no GPU is found; `keras-course doctor` says what to install")


def device_in_use() -> str:
    """Returns the name of the device on which models run: the first GPU if there is one, else the CPU."""
    devices = __getattr__("describe_devices")()
    return next((f"gpu: {found['name']}" for found in devices if found["kind"] != "cpu"), "cpu")


def configure(precision: str) -> None:
    """Sets the precision of layers.

    It is ``float32`` (exact), ``tf32`` (matrix products rounded on a GPU) or ``bfloat16`` (with weights of 32 bits).
    """
    import keras

    policies = {"float32": "float32", "tf32": "float32", "bfloat16": "mixed_bfloat16"}
    if precision not in policies:
        raise CourseError(f"precision is {precision!r}; give one of {', '.join(policies)}")
    __getattr__("set_precision")(precision)
    keras.config.set_dtype_policy(policies[precision])


def version() -> str:
    """Returns the version of the framework that Keras runs on."""
    import keras

    return version_of(keras.backend.backend())
