"""Model cards: the pictures that a saved model takes, the meaning of its answers, its training and its accuracy.

The card is ``card.json`` inside the ``model.keras``, so that one file is enough to use a model. Exported models carry
it, too. It is read without Keras. A card is not trusted: it is small, and each field is checked.
"""

import json
import os
import re
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from numbers import Integral
from pathlib import Path, PurePosixPath
from typing import Any, Final

from keras_course.arguments import is_number
from keras_course.errors import CourseError
from keras_course.preprocessing import PictureFormat

__all__ = [
    "FILE_NAME",
    "NO_CARD",
    "ModelCard",
    "card_by_shapes",
    "check_class_name",
    "put_card",
    "read_card",
    "read_required_card",
    "shapes_of",
    "without_folders",
]

FILE_NAME: Final = "card.json"
NO_CARD: Final = "a model without a card"
"""The title of the cards of ``card_by_shapes``."""
_DESCRIPTION: Final = "config.json"

_LARGEST_BYTES: Final = 2**21
_LARGEST_CLASSES: Final = 100_000
_LONGEST_TEXT: Final = 10_000
_DEEPEST: Final = 4
_VERSION: Final = 1
_LOGITS: Final = "logits"
_SIGMOID: Final = "sigmoid"
_OUTPUTS: Final = (_LOGITS, "softmax", _SIGMOID)

Shape = Sequence[int | None]

_OLDER_NAMES: Final = {"pictures": "picture_format", "licence": "license"}
"""Names of fields in older cards."""

# control characters could change a terminal; surrogates cannot be encoded
_NOT_TEXT: Final = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """The card of an image classifier.

    Args:
        title: The purpose of the model, in a few words.
        class_names: The names of the classes, in the order of the logits.
        picture_format: The preprocessing of pictures; pixels stay between 0 and 255.
        data: The training data, in words.
        limits: The limits of the model, in words.
        license: The license of the weights.
        metrics: The metrics on held-out pictures.
        training: Facts on the training, such as seed, epochs, backend and versions; numbers and texts.
        outputs: The output of the model: ``logits``, or the probabilities of ``softmax`` or ``sigmoid``. A sigmoid
            gives one number, the probability of the second of two classes.

    Raises:
        CourseError: A field is invalid.

    Example:
        >>> card = ModelCard(title="Odd or even", class_names=("odd", "even"), picture_format=PictureFormat(
        ...     height=28, width=28, channels=1))
        >>> ModelCard.from_json(card.to_json()) == card
        True

    Source: M. Mitchell and others, "Model cards for model reporting", 2019.
    """

    title: str
    class_names: Sequence[str]
    picture_format: PictureFormat
    data: str = ""
    limits: str = ""
    license: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    outputs: str = _LOGITS

    def __post_init__(self) -> None:
        for name in ("title", "data", "limits", "license"):
            _check_text(name, getattr(self, name))
        if isinstance(self.class_names, (str, Mapping)) or not isinstance(self.class_names, Iterable):
            raise CourseError(f"class_names is {self.class_names!r:.40}; give a list of names")
        object.__setattr__(self, "class_names", tuple(self.class_names))
        if not 1 <= len(self.class_names) <= _LARGEST_CLASSES:
            raise CourseError(f"class_names has {len(self.class_names)} entries; give one for each logit")
        for number, class_name in enumerate(self.class_names):
            check_class_name(class_name, f"class_names[{number}]")
        if len(set(self.class_names)) < len(self.class_names):
            raise CourseError("class_names has a name twice; give each class its own")
        if self.outputs not in _OUTPUTS:
            raise CourseError(f"outputs is {self.outputs!r:.40}; give one of {', '.join(_OUTPUTS)}")
        if not isinstance(self.picture_format, PictureFormat):
            raise CourseError(f"picture_format is a {type(self.picture_format).__name__}; give a PictureFormat")
        for name in ("metrics", "training"):
            values = getattr(self, name)
            if not isinstance(values, Mapping):
                raise CourseError(f"{name} is a {type(values).__name__}; give values by their names")
        for name, value in self.metrics.items():
            if not is_number(value):
                raise CourseError(f"metrics[{name!r}] is {value!r:.40}; give a number")
        for name in ("metrics", "training"):  # a copy of plain types, as it is read back from a file
            object.__setattr__(self, name, _plain(name, getattr(self, name), _DEEPEST))

    @property
    def numbers(self) -> int:
        """The number of outputs of the model for a picture."""
        return 1 if self.outputs == _SIGMOID else len(self.class_names)

    def check_model(self, name: str, takes: Shape | None, gives: Shape | None) -> None:
        """Checks that a model takes the pictures of the card, and gives a number for each of its classes.

        ``takes`` and ``gives`` are the shapes of an input and an output batch, with None for a side of any length.
        """
        classes = len(self.class_names)
        if self.outputs == _SIGMOID and (classes != 2 or (gives is not None and not _fits(gives, (1,)))):
            shown = "numbers" if gives is None else f"{_in_words(gives[1:])} numbers"
            raise CourseError(
                f"{name} ends with sigmoid and gives {shown} for a picture, and its card names {classes} classes; one "
                "sigmoid tells two classes apart, more of them do not exclude each other: give one number and the "
                "names of two classes, or end the model with softmax"
            )
        if takes is not None and not _fits(takes, self.picture_format.shape):
            mistake = f"takes pictures {_in_words(takes[1:])}, and its card says {_in_words(self.picture_format.shape)}"
        elif gives is not None and not _fits(gives, (self.numbers,)):
            mistake = f"gives {_in_words(gives[1:])} numbers for a picture, and its card names {classes} classes"
        else:
            return
        raise CourseError(f"{name} {mistake}; give it a card of its own")

    def to_json(self) -> str:
        """Returns the card as JSON, small enough to be read again; equal cards give equal texts."""
        fields = {**asdict(self), "class_names": list(self.class_names), "version": _VERSION}
        if self.outputs == _LOGITS:  # the default, which older cards do not name
            del fields["outputs"]
        text = json.dumps(fields, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        _check_size(text)
        return text

    @classmethod
    def from_json(cls, text: str | bytes) -> "ModelCard":
        """Returns the card in a JSON text, after checking each field."""
        _check_size(text)
        try:
            fields = json.loads(text)
            version = fields.pop("version")
            if version != _VERSION:
                raise CourseError(f"the model's card is of version {version!r}; install a newer keras-course")
            for old, name in _OLDER_NAMES.items():
                if old in fields and name not in fields:
                    fields[name] = fields.pop(old)
            return cls(**{**fields, "picture_format": PictureFormat(**fields["picture_format"])})
        except (CourseError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise CourseError(f"the model's card cannot be read: {error}") from None


def check_class_name(class_name: str, name: str = "class name") -> None:
    """Checks that a card can hold the name of a class: it has one line, is not too long and can be printed."""
    _check_text(name, class_name)
    if "\n" in class_name:
        raise CourseError(f"{name} has a line break; give a text of one line")


def shapes_of(model: Any) -> tuple[tuple[int | None, ...] | None, tuple[int | None, ...] | None]:
    """Returns the input and output shape of a Keras model, for ``ModelCard.check_model``; None for an unknown one."""

    def shape(name: str) -> tuple[int | None, ...] | None:
        ends: Any = getattr(model, name, None) or ()  # None for an unbuilt model
        if len(ends) > 1:
            raise CourseError(
                f"the model has {len(ends)} {name}, and a card is for models that take one picture and give one row of "
                "numbers; use it without a card, from Python"
            )
        return tuple(ends[0].shape) if ends else None

    return shape("inputs"), shape("outputs")


def card_by_shapes(takes: Shape | None, gives: Shape | None) -> ModelCard:
    """Returns a card for an image classifier without one: pictures are stretched, and classes have numbers as names."""
    if takes is None or len(takes) != 4 or not all(takes[1:]) or takes[3] not in (1, 3):
        raise CourseError(
            f"the model takes {_shown(takes)}; a model without a card takes pictures (height, width, 1 or 3 channels)"
        )
    if gives is None or len(gives) != 2 or not gives[1]:
        raise CourseError(f"the model gives {_shown(gives)} for a picture; it has to give one number for each class")
    height, width, channels = (int(side or 0) for side in takes[1:])
    picture_format = PictureFormat(
        height=height, width=width, channels=channels, resize="stretch", interpolation="bilinear"
    )
    return ModelCard(
        title=NO_CARD, class_names=[str(number) for number in range(gives[1])], picture_format=picture_format
    )


def without_folders(words: str, source: str | os.PathLike[str]) -> str:
    """Returns a text with a path replaced by its file name, because the folders of a machine are private."""
    return words.replace(os.fspath(source), Path(source).name)


def put_card(archive: str | os.PathLike[str], card: ModelCard, *, folder: str = "") -> None:
    """Adds the card to a model: into its zip archive, as an archive at the end of another file, or into its folder.

    ``folder`` is a folder in the archive, ending in a slash. The shapes of a ``model.keras`` must fit the card.
    """
    if Path(archive).is_dir():
        Path(archive, FILE_NAME).write_text(card.to_json(), encoding="utf-8")
        return
    # with a fixed date, so that equal cards give equal bytes
    entry = zipfile.ZipInfo(folder + FILE_NAME, date_time=(1980, 1, 1, 0, 0, 0))
    with zipfile.ZipFile(archive, "a", zipfile.ZIP_DEFLATED) as file:
        if _DESCRIPTION in file.namelist():
            card.check_model("the model", *_shapes_in(json.loads(file.read(_DESCRIPTION))))
        file.writestr(entry, card.to_json(), zipfile.ZIP_DEFLATED)


def read_card(path: str | os.PathLike[str], text: str | None = None) -> ModelCard | None:
    """Returns the card of a model such as ``model.keras``.

    Args:
        path: A zip archive, a file with an archive at its end, or a folder that holds the card.
        text: The card, if the format has a field for it; empty if the field is empty.

    Returns:
        The card, or None if the model has none.

    Raises:
        CourseError: The file is no archive, or its card cannot be read.

    Example:
        >>> read_card("no_such_model.keras")
        Traceback (most recent call last):
        ...
        keras_course.errors.CourseError: there is no no_such_model.keras; give a run folder or the file of a model
    """
    if text is not None:
        return ModelCard.from_json(text) if text else None
    try:
        if Path(path).is_dir():
            with _checked(Path(path, FILE_NAME)).open("rb") as file:
                return ModelCard.from_json(file.read(_LARGEST_BYTES + 1))
        with zipfile.ZipFile(_checked(Path(path))) as file:
            name = next((name for name in file.namelist() if PurePosixPath(name).name == FILE_NAME), None)
            if name is None:
                return None
            if file.getinfo(name).compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                # Python decompresses other methods without a limit on their size
                raise CourseError(f"its {name} is compressed in an unusual way; save the model again")
            with file.open(name) as member:
                return ModelCard.from_json(member.read(_LARGEST_BYTES + 1))
    except FileNotFoundError:
        raise CourseError(f"there is no {path}; give a run folder or the file of a model") from None
    except CourseError as error:
        raise CourseError(f"{Path(path)}: {error}") from None
    except Exception as error:  # a damaged archive can make a decoder raise nearly anything
        raise CourseError(f"{path} is no model file: {error}") from None


def read_required_card(path: str | os.PathLike[str], text: str | None = None) -> ModelCard:
    """Returns the card of a model as ``read_card`` does, and raises a ``CourseError`` if there is none."""
    card = read_card(path, text)
    if card is None:
        raise CourseError(
            f"{path} has no card, which says what its answers mean; save it by RunDirectory.save_results(card=...)"
        )
    return card


def _shapes_in(net: Any) -> tuple[Shape | None, Shape | None]:
    """Returns the input and output shapes in the description of a ``model.keras``, if readable without Keras."""
    layers = net.get("config", {}).get("layers") or [{"class_name": "", "config": {}}]
    takes = layers[0]["config"].get("batch_shape")
    # layers are in the order of computation, and most nets end with a dense one
    gives = (None, layers[-1]["config"]["units"]) if layers[-1]["class_name"] == "Dense" else None
    return takes, gives


def _fits(shape: Shape, wanted: tuple[int, ...]) -> bool:
    """Returns True if all sides but that of the batch fit."""
    return len(shape) == len(wanted) + 1 and all(
        side in (None, right) for side, right in zip(shape[1:], wanted, strict=True)
    )


def _shown(shape: Shape | None) -> str:
    if shape is None:
        return "something else than one array"
    return f"({', '.join(str(side or 'any') for side in shape[1:])})"


def _in_words(sides: Shape) -> str:
    return " × ".join("any" if side is None else str(side) for side in sides) or "1"


def _checked(path: Path) -> Path:
    if path.exists() and not path.is_file():  # opening a pipe would wait for a writer
        raise CourseError(f"{path.name} is not a file")
    return path


def _check_size(text: str | bytes) -> None:
    size = len(text.encode("utf-8", "replace") if isinstance(text, str) else text)
    if size > _LARGEST_BYTES:
        raise CourseError(f"the model's card has {size:,} bytes; at most {_LARGEST_BYTES:,} are read")


def _check_text(name: str, value: Any) -> None:
    if not isinstance(value, str) or len(value) > _LONGEST_TEXT:
        raise CourseError(f"{name} is {str(value)[:40]!r}; give a text of at most {_LONGEST_TEXT:,} characters")
    if found := _NOT_TEXT.search(value):
        raise CourseError(f"{name} has the character {found[0]!r}; give a text that can be printed")


def _plain(name: str, value: Any, deepest: int) -> Any:
    """Returns a copy of numbers, texts, lists and mappings in types that JSON can hold."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        _check_text(name, value)
        return value
    if is_number(value):
        return int(value) if isinstance(value, Integral) else float(value)
    if isinstance(value, Mapping) and deepest and all(isinstance(key, str) for key in value):
        for key in value:
            _check_text(f"a name in {name}", key)
        return {key: _plain(f"{name}[{key!r}]", entry, deepest - 1) for key, entry in value.items()}
    if isinstance(value, (list, tuple)) and deepest:
        return [_plain(f"{name}[{number}]", entry, deepest - 1) for number, entry in enumerate(value)]
    raise CourseError(f"{name} is {value!r:.40}; give a number, a text, or a few of them by their names")
