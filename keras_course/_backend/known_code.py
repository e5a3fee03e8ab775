"""Decides whether Python code can be traced once and replayed, or has to be called in each step.

A traced step repeats the operations on tensors, not the Python code around them. The layers of Keras and of this course
consist of such operations only. Other code may count its calls, read a number that a callback changes, or draw from
NumPy; when traced, it would do so once for the whole training. On TensorFlow and JAX, Keras' trainer traces such code,
too; on PyTorch it calls the code in each step.
"""

import dis
import functools
import types
from collections.abc import Iterable
from typing import Any, Final

_KNOWN: Final = ("keras", "keras_course", "torch")
_NOT_REPEATABLE: Final = (
    # each call changes the kernel, which the optimizer changes afterward
    "SpectralNormalization",
    # on PyTorch it reads a momentum that it has just changed in place, on other backends the previous one
    "ScheduleFreeAdamW",
    # the parameters of its module would become constants of the graph
    "TorchModuleWrapper",
)
"""Classes of Keras that behave differently when they are traced."""
_HARMLESS: Final = (
    *("abs", "bool", "dict", "enumerate", "float", "int", "isinstance", "len", "list", "max", "min", "range"),
    *("reversed", "round", "set", "sorted", "str", "sum", "tuple", "zip"),
)
_WRITES: Final = ("STORE_GLOBAL", "DELETE_GLOBAL", "STORE_ATTR", "STORE_SUBSCR", "IMPORT_NAME", "STORE_DEREF")


def find_untraceable(objects: Iterable[Any]) -> str | None:
    """Returns the first function or class that may not be traced, such as ``"the function 'dumps'"``, or None."""
    seen: set[int] = set()
    waiting = list(objects)
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
        elif _is_called_in_steps(thing):
            kind = type(thing)
            if not comes_from(kind, *_KNOWN) or kind.__name__ in _NOT_REPEATABLE:
                return f"the class {kind.__name__!r}"
            waiting += vars(thing).values()
    return None


def _is_called_in_steps(thing: Any) -> bool:
    """Returns whether an object is called in a step: a layer, loss, metric, schedule, ... or an optimizer."""
    is_called = callable(thing) or hasattr(thing, "update_step")
    return is_called and not isinstance(thing, type) and hasattr(thing, "__dict__")


def comes_from(thing: Any, *packages: str) -> bool:
    """Returns whether a class, function or method is defined in one of the top-level packages."""
    return str(getattr(thing, "__module__", "")).partition(".")[0] in packages


def _reads_only_arguments(function: types.FunctionType) -> bool:
    """Returns whether a function depends only on its arguments, and calls only functions of which this is known."""
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
