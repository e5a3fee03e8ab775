"""Whether Python code can be recorded once and replayed, or has to be called in each step.

A traced step repeats the operations on tensors, and not the Python around them. The layers of Keras and of this course
have nothing else. Code of somebody else may count its calls, read a number that a callback changes, or draw from NumPy:
recorded, it would do so once for the whole training. Where Keras compiles, on TensorFlow and JAX, the same happens in
its own trainer; on PyTorch Keras calls the code in each step.
"""

import dis
import functools
import types
from collections.abc import Iterable
from typing import Any, Final

_KNOWN: Final = ("keras", "keras_course", "torch")
_NOT_REPEATABLE: Final = (
    # its calls change their own kernel, which an optimizer then moves from where it is
    "SpectralNormalization",
    # on PyTorch it reads a momentum that it has just changed in place, and elsewhere the one of before
    "ScheduleFreeAdamW",
    # its module has parameters of its own, which a graph would take for constants
    "TorchModuleWrapper",
)
"""Classes of Keras that do something else step by step than in a graph."""
_HARMLESS: Final = (
    *("abs", "bool", "dict", "enumerate", "float", "int", "isinstance", "len", "list", "max", "min", "range"),
    *("reversed", "round", "set", "sorted", "str", "sum", "tuple", "zip"),
)
_WRITES: Final = ("STORE_GLOBAL", "DELETE_GLOBAL", "STORE_ATTR", "STORE_SUBSCR", "IMPORT_NAME", "STORE_DEREF")


def find_unknown(things: Iterable[Any]) -> str | None:
    """Looks for code that may not be recorded.

    Args:
        things: Layers, losses, metrics, optimizers, functions.

    Returns:
        What was found, in words; None if everything may be recorded.

    Example:
        >>> import keras
        >>> find_unknown([keras.layers.Dense(3, activation="relu"), keras.losses.MeanSquaredError()]) is None
        True
        >>> import json
        >>> find_unknown([json.dumps])
        "the function 'dumps'"
    """
    seen: set[int] = set()
    waiting = list(things)
    while waiting:
        thing = waiting.pop()
        if id(thing) in seen:
            continue
        seen.add(id(thing))
        if isinstance(thing, dict):
            waiting += thing.values()
        elif isinstance(thing, list | tuple | set):
            waiting += thing
        elif isinstance(thing, functools.partial):
            waiting += [thing.func, *thing.args, *thing.keywords.values()]
        elif isinstance(thing, types.MethodType):
            waiting += [thing.__func__, thing.__self__]
        elif isinstance(thing, types.FunctionType):
            if not comes_from(thing, *_KNOWN) and not _reads_only_arguments(thing):
                return f"the function {thing.__name__!r}"
        elif _holds_code(thing):
            kind = type(thing)
            if not comes_from(kind, *_KNOWN) or kind.__name__ in _NOT_REPEATABLE:
                return f"the class {kind.__name__!r}"
            waiting += vars(thing).values()
    return None


def _holds_code(thing: Any) -> bool:
    """Whether an object is called: a layer, loss, metric, schedule, ... or an optimizer, whose update is."""
    is_called = callable(thing) or hasattr(thing, "update_step")
    return is_called and not isinstance(thing, type) and hasattr(thing, "__dict__")


def comes_from(thing: Any, *packages: str) -> bool:
    """Says whether a class, a function or a method was written in one of some packages.

    Args:
        thing: The class, function or method.
        packages: Names of packages, without those inside of them.

    Example:
        >>> import keras
        >>> comes_from(keras.layers.Dense, "keras"), comes_from(dis.dis, "keras", "keras_course")
        (True, False)
    """
    return str(getattr(thing, "__module__", "")).partition(".")[0] in packages


def _reads_only_arguments(function: types.FunctionType) -> bool:
    """Whether a function depends on its arguments alone, and on functions of which that is known."""
    cells = [cell.cell_contents for cell in function.__closure__ or ()]
    names = function.__globals__
    defaults = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
    if not all(isinstance(value, int | float | str | bool | None) for value in defaults):
        return False
    codes = [function.__code__]
    for code in codes:
        codes += [value for value in code.co_consts if isinstance(value, types.CodeType)]
        for instruction in dis.get_instructions(code):
            name = instruction.argval
            if instruction.opname in _WRITES or (isinstance(name, str) and name.lstrip("_").startswith("rand")):
                return False
            if instruction.opname == "LOAD_GLOBAL":
                if name in names:
                    cells.append(names[name])
                elif name not in _HARMLESS:
                    return False
    return all(_is_constant(value, function) for value in cells)


def _is_constant(value: Any, user: types.FunctionType) -> bool:
    if isinstance(value, types.ModuleType):
        return value.__name__.partition(".")[0] in _KNOWN
    if isinstance(value, types.FunctionType):
        return value is user or comes_from(value, *_KNOWN) or _reads_only_arguments(value)
    return callable(value) and comes_from(value, *_KNOWN)
