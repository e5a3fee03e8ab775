"""The only room that may name torch, tensorflow or jax: one file each, the same few functions in each.

| function | what it does |
|---|---|
| ``describe_devices()`` | the devices that the framework sees: a list of ``{"name", "kind", "memory_bytes"}`` |
| ``set_precision(name)`` | what a float32 matrix product may be on a GPU: exact, or rounded to tf32 |
| ``replica()`` | the number of this copy of the model when the batch is split over several |
| ``training_loop(updates, state)`` | the compiled loop of ``loops.TrainingLoop``: several steps in one call |
| ``unproven(things)`` | which of some layers, losses, ... may differ in the compiled loop; None if none |
| ``forward(model, frozen=)`` | the compiled forward pass of a model: NumPy batches in, NumPy outputs out |
| ``export(model, path, kind)`` | the model in one of the ``formats`` that the framework can write |
| ``resample(images, columns, rows, fill)`` | pictures read at other places, bilinearly |
| ``axis(size)`` | how ``resample`` counts: where the first pixel of an axis lies, and how far off the next one |
| ``by_pictures(draw, change)`` | random changes of pictures: compiled, or in parts that fit in the cache |
| ``value_and_grad(function)`` | the function that also differentiates |
| ``vectorise(function)`` | the function over a new first axis of all its arguments and results |

``by_pictures`` takes ``draw(shape, step, first_row, xp)``, which gives arrays (batch, ...), and
``change(pictures, drawn, first_row, step, xp)``, in which no picture may depend on another. It returns the
function from pictures, the step and the first row to the changed pictures and what was drawn.

``forward`` takes the weights as they are when it runs; if they are ``frozen``, it may keep those of its first run.

``value_and_grad`` takes a function from a list of tensors, and any other arguments, to a scalar and a list of tensors
beside it. The new function takes the same and returns ``(scalar, beside), gradients``.

``select`` says which of the three is used, and imports none of them.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any

from keras_course._backend.select import version_of
from keras_course.errors import CourseError

if TYPE_CHECKING:
    from keras_course._backend.loops import TrainingLoop, Update

__all__ = ["TrainingLoop", "Update"]

_FUNCTIONS = (
    "axis",
    "by_pictures",
    "describe_devices",
    "export",
    "forward",
    "replica",
    "resample",
    "set_precision",
    "training_loop",
    "unproven",
    "value_and_grad",
    "vectorise",
)


def __getattr__(name: str) -> Any:
    """Hands each function over from the file of the backend that Keras runs on, which is imported only then."""
    if name in __all__:
        return getattr(import_module(f"{__name__}.loops"), name)
    if name not in _FUNCTIONS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import keras

    function = getattr(import_module(f"{__name__}.{keras.backend.backend()}"), name)
    globals()[name] = function  # the next time it is at hand
    return function


def index_of(wanted: Any, things: Sequence[Any]) -> int:
    """Returns the place of one thing itself, not of an equal one: variables have an == of their own."""
    return next(index for index, thing in enumerate(things) if thing is wanted)


def mode(model: Any, *, training: bool) -> dict[str, bool]:
    """Returns the argument that tells a model whether it is being trained, if its ``call`` takes one."""
    return {"training": training} if model._call_has_training_arg else {}


@contextmanager
def quiet(name: str) -> Iterator[None]:
    """Lets a logger say nothing: an export that has become wrong is found when it is opened and compared."""
    import logging

    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(level)


def check_device(device: str) -> None:
    """Makes sure that a GPU is there when one is asked for.

    Args:
        device: ``auto``, ``cpu``, ``gpu`` or ``gpu:N``.

    Raises:
        CourseError: The backend sees no GPU.
    """
    devices = __getattr__("describe_devices")()
    if device.startswith("gpu") and all(found["kind"] == "cpu" for found in devices):
        raise CourseError(f"--device is {device}, but no GPU is seen; `keras-course doctor` says what to install")


def device_in_use() -> str:
    """Names the device that a model is put on: the first GPU where there is one, else the processor."""
    devices = __getattr__("describe_devices")()
    return next((f"gpu: {found['name']}" for found in devices if found["kind"] != "cpu"), "cpu")


def configure(precision: str) -> None:
    """Chooses the numbers that layers compute with.

    Args:
        precision: ``float32`` (exact on every device), ``tf32`` (matrix products rounded on a GPU) or ``bfloat16``
            (16-bit layers, 32-bit weights).

    Raises:
        CourseError: The precision is none of these.
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
