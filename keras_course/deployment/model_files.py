"""Where a model's file is, of which format it is, and whether it may be opened: files of models are not trusted.

A ``.keras`` file is a zip archive with a description of the layers and their weights. It could ask for much memory, for
code to be run or for other files to be read. So it is looked through before Keras opens it, in safe mode: only layers
of Keras and of this course, nothing pickled, no code, weights of the size that the file has.
"""

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from keras_course.cards import FILE_NAME, ModelCard, read_card
from keras_course.errors import CourseError

if TYPE_CHECKING:
    import keras

__all__ = ["find_model", "load_keras_model", "read_card_or_fail"]

LARGEST_CONFIG_BYTES: Final = 2**26
LARGEST_WEIGHTS_BYTES: Final = 2**31

_CONFIG, _METADATA, _WEIGHTS = "config.json", "metadata.json", "model.weights.h5"
_PARTS: Final = (_CONFIG, _METADATA, _WEIGHTS, FILE_NAME)
_OF_THE_COURSE: Final = "keras_course>"
_NETS: Final = ("Functional", "Sequential")
_TENSOR: Final = "__keras_tensor__"
"""Not a class, but how Keras writes which layer's output another one takes."""
_NOT_LAYERS_ALONE: Final = (
    # code of their own
    *("Lambda", "Wrapper", "TorchModuleWrapper", "JaxLayer", "FlaxLayer", "TFSMLayer"),
    # files that they name
    *("TextVectorization", "StringLookup", "IntegerLookup"),
)


def find_model(path: str | Path) -> Path:
    """Finds the file of a model: that of a run, or the one that is named.

    Args:
        path: The folder of a run, or a model's file or folder in any format.

    Returns:
        Its path.

    Raises:
        CourseError: There is none.

    Example:
        >>> find_model("runs/no_such_lesson")
        Traceback (most recent call last):
        ...
        keras_course.errors.CourseError: there is no runs/no_such_lesson; give a run folder or the file of a model
    """
    found = Path(path).expanduser()
    if (found / "model.keras").is_file():
        return found / "model.keras"
    if not found.exists():
        raise CourseError(f"there is no {path}; give a run folder or the file of a model")
    if found.is_dir() and (found / "checkpoint.npz").exists():
        raise CourseError(f"{path} holds a run that has not ended, and no model yet; go on with it by --resume")
    return found


def read_card_or_fail(path: Path, text: str | None = None) -> ModelCard:
    """Reads the card of a model that is to be put to work.

    Args:
        path: A model, as for ``cards.read_card``.
        text: The card, where the format has a place of its own for it; empty if nothing is there.

    Returns:
        The card.

    Raises:
        CourseError: The model has none, or it cannot be read.
    """
    if text is None:
        card = read_card(path)
    else:
        card = ModelCard.from_json(text) if text else None
    if card is None:
        raise CourseError(
            f"{path} has no card, which says what its answers mean; save it by RunDirectory.save_results(card=...)"
        )
    return card


def load_keras_model(path: str | Path) -> "keras.Model":
    """Opens a ``.keras`` file that may come from anybody.

    Args:
        path: The file.

    Returns:
        The model, not compiled.

    Raises:
        CourseError: The file is damaged, too large, or holds anything but layers and weights.
    """
    path = Path(path)
    import keras

    import keras_course.augmentation
    import keras_course.randomness  # noqa: F401 - both register the layers of the course

    _check_archive(path)
    try:
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # a damaged file can make Keras raise nearly anything
        reason = " ".join(str(error).split())[:300]
        raise CourseError(f"{path} cannot be opened as a Keras model: {reason}") from error


def _check_archive(path: Path) -> None:
    """Looks through a ``.keras`` file without Keras."""
    if path.suffix == ".h5":
        raise CourseError(f"{path} is an .h5 file, which can hold code; give a .keras file")
    try:
        with zipfile.ZipFile(path) as archive:
            sizes = {info.filename: info.file_size for info in archive.infolist()}
            if len(sizes) < len(archive.infolist()):
                raise CourseError("it has a part twice")
            if unknown := [name for name in sizes if name not in _PARTS]:
                raise CourseError(f"it has a part {unknown[0]!r}, which models of this course do not have")
            for name, largest in ((_CONFIG, LARGEST_CONFIG_BYTES), (_WEIGHTS, LARGEST_WEIGHTS_BYTES)):
                if name not in sizes:
                    raise CourseError(f"it has no {name}")
                if sizes[name] > largest:
                    raise CourseError(f"its {name} claims {sizes[name]:,} bytes, more than the {largest:,} allowed")
            with archive.open(_CONFIG) as file:
                config = json.loads(file.read(LARGEST_CONFIG_BYTES))
            _check_config(config)
            with archive.open(_WEIGHTS) as file:
                _check_weights(file, sizes[_WEIGHTS])
    except CourseError as error:
        raise CourseError(f"{path} is not opened: {error}") from None
    except FileNotFoundError:
        raise CourseError(f"there is no {path}; give a run folder or the file of a model") from None
    except RecursionError:
        raise CourseError(f"{path} is no Keras model: its config.json is nested too deeply") from None
    except Exception as error:  # a damaged archive can make a decoder raise nearly anything
        raise CourseError(f"{path} is no Keras model: {' '.join(str(error).split())}") from None


def _check_config(config: Any) -> None:
    """Makes sure that a model is described in layers of Keras and of this course, and in nothing else.

    Keras in safe mode refuses lambdas, and would still look up any name in any of its own modules: functions that
    download, or that open other models. So what is not on the list of what layers are made of is refused.
    """
    if not isinstance(config, dict) or str(config.get("class_name")) not in _NETS:
        raise CourseError(f"its config.json describes no net; it has to be one of {' and '.join(_NETS)}")
    config = {name: value for name, value in config.items() if name != "compile_config"}  # which is not read
    known = _known_classes()
    for node in _nodes(config):
        if "class_name" not in node:
            continue
        name, module = node["class_name"], node.get("module")
        if name == _TENSOR and module is None:
            continue
        registered = node.get("registered_name")
        if isinstance(registered, str) and registered.startswith(_OF_THE_COURSE):
            import keras

            if keras.saving.get_registered_object(registered) is None:
                raise CourseError(f"it has a {registered!r}, which this version of the course does not have")
        elif not isinstance(name, str) or not isinstance(module, str) or name not in known.get(module, ()):
            raise CourseError(f"it has a {name!r} of {module!r}; only layers of Keras and of this course are opened")


def _known_classes() -> dict[str, set[str]]:
    """What a layer may be made of, by the module under which Keras writes it."""
    import keras

    def classes(module: Any) -> set[str]:
        return {name for name, value in vars(module).items() if isinstance(value, type)}

    parts: dict[str, set[str]] = {
        "keras.layers": classes(keras.layers) - set(_NOT_LAYERS_ALONE),
        "keras": {*_NETS, "DTypePolicy"},
        "keras.src.models.functional": {"Functional"},
        "keras.models": {"Sequential"},
    }
    for kind in ("initializers", "regularizers", "constraints", "dtype_policies"):
        parts[f"keras.{kind}"] = classes(getattr(keras, kind))
    return parts


def _nodes(config: Any) -> Iterator[dict[str, Any]]:
    waiting = [config]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            yield node
            waiting.extend(node.values())
        elif isinstance(node, list):
            waiting.extend(node)


def _check_weights(file: Any, size: int) -> None:
    """Makes sure that weights are in the file itself, and need no more memory than it has bytes."""
    import h5py

    total = 0
    with h5py.File(file, "r") as weights:
        groups = [weights]
        while groups:
            group = groups.pop()
            for name in group:
                if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                    raise CourseError(f"its weights {name!r} are in another place")
                item = group[name]
                if isinstance(item, h5py.Group):
                    groups.append(item)
                    continue
                if item.external or item.is_virtual:
                    raise CourseError(f"its weights {name!r} are in another file")
                total += item.nbytes
        if total > size:
            raise CourseError(f"its weights claim {total:,} bytes, and the file has {size:,}")
