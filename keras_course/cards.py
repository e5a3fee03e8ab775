"""Model cards: the pictures or texts that a saved model takes, the meaning of its answers, training and accuracy.

The card is ``card.json`` inside the ``model.keras``, so that one file is enough to use a model. Exported models carry
it, too. It is read without Keras. A card is not trusted: it is small, and each field is checked.
"""

import json
import os
import re
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from numbers import Integral
from pathlib import Path, PurePosixPath
from typing import Any, Final

from keras_course.arguments import is_number
from keras_course.errors import CourseError
from keras_course.preprocessing.picture_format import PictureFormat
from keras_course.preprocessing.text_format import TextFormat

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

_LARGEST_BYTES: Final = 2**22
"""The largest card: the vocabulary of a text model is a part of it."""
_LARGEST_CLASSES: Final = 100_000
_LONGEST_TEXT: Final = 10_000
_DEEPEST: Final = 4
_VERSION: Final = 1
_INTEGERS: Final = ("int", "uint")
_LOGITS: Final = "logits"
_SIGMOID: Final = "sigmoid"
_EMBEDDING: Final = "embedding"
_OUTPUTS: Final = (_LOGITS, "softmax", _SIGMOID, _EMBEDDING)

Shape = Sequence[int | None]

_OLDER_NAMES: Final = {"pictures": "picture_format", "licence": "license"}
"""Names of fields in older cards."""

# control characters could change a terminal; surrogates cannot be encoded
_NOT_TEXT: Final = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """The card of a model that takes pictures or texts, and answers with classes.

    A language model predicts the next token of a text: its classes are the tokens of its vocabulary.

    Args:
        title: The purpose of the model, in a few words.
        class_names: The names of the classes, in the order of the logits; by default the vocabulary of the texts.
        picture_format: The preprocessing of pictures; pixels stay between 0 and 255. None for a text model.
        text_format: The preprocessing of texts, with the vocabulary. None for a picture model.
        data: The training data, in words.
        limits: The limits of the model, in words.
        license: The license of the weights.
        metrics: The metrics on held-out data.
        training: Facts on the training, such as seed, epochs, backend and versions; numbers and texts.
        outputs: The output of the model: ``logits``, or the probabilities of ``softmax`` or ``sigmoid``. A sigmoid
            gives one number, the probability of the second of two classes. ``embedding`` is for a model that gives a
            vector and no classes; ``class_names`` then has a name for each of its numbers.

    Raises:
        CourseError: A field is invalid, or there is not exactly one of ``picture_format`` and ``text_format``.

    Example:
        >>> card = ModelCard(title="Odd or even", class_names=("odd", "even"), picture_format=PictureFormat(
        ...     height=28, width=28, channels=1))
        >>> ModelCard.from_json(card.to_json()) == card
        True
        >>> words = TextFormat(
        ...     unit="words", vocabulary=("[PAD]", "[UNK]", "[END]", "to", "be"), sequence_length=4, padding="left")
        >>> ModelCard(title="Next word", text_format=words).is_language_model
        True

    Source: M. Mitchell and others, "Model cards for model reporting", 2019.
    """

    title: str
    class_names: Sequence[str] = ()
    picture_format: PictureFormat | None = None
    text_format: TextFormat | None = None
    data: str = ""
    limits: str = ""
    license: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    outputs: str = _LOGITS

    def __post_init__(self) -> None:
        for name in ("title", "data", "limits", "license"):
            _check_text(name, getattr(self, name))
        self._check_formats()
        if isinstance(self.class_names, (str, Mapping)) or not isinstance(self.class_names, Iterable):
            raise CourseError(f"class_names is {self.class_names!r:.40}; give a list of names")
        names = tuple(self.class_names)
        if self.text_format is not None and (not names or names == self.text_format.vocabulary):
            names = self.text_format.vocabulary  # held once
        object.__setattr__(self, "class_names", names)
        if not self.is_language_model:  # the format has checked its vocabulary
            self._check_class_names()
        if self.outputs not in _OUTPUTS:
            raise CourseError(f"outputs is {self.outputs!r:.40}; give one of {', '.join(_OUTPUTS)}")
        for name in ("metrics", "training"):
            values = getattr(self, name)
            if not isinstance(values, Mapping):
                raise CourseError(f"{name} is a {type(values).__name__}; give values by their names")
        for name, value in self.metrics.items():
            if not is_number(value):
                raise CourseError(f"metrics[{name!r}] is {value!r:.40}; give a number")
        for name in ("metrics", "training"):  # a copy of plain types, as it is read back from a file
            object.__setattr__(self, name, _plain(name, getattr(self, name), _DEEPEST))

    def _check_formats(self) -> None:
        for name, known in (("picture_format", PictureFormat), ("text_format", TextFormat)):
            value = getattr(self, name)
            if not isinstance(value, known | None):
                raise CourseError(f"{name} is a {type(value).__name__}; give a {known.__name__}")
        if (self.picture_format is None) == (self.text_format is None):
            both = "neither" if self.picture_format is None else "both"
            raise CourseError(f"the card has {both} of picture_format and text_format; give exactly one of them")

    def _check_class_names(self) -> None:
        if not 1 <= len(self.class_names) <= _LARGEST_CLASSES:
            raise CourseError(f"class_names has {len(self.class_names)} entries; give one for each logit")
        for number, class_name in enumerate(self.class_names):
            check_class_name(class_name, f"class_names[{number}]")
        if len(set(self.class_names)) < len(self.class_names):
            raise CourseError("class_names has a name twice; give each class its own")

    @property
    def numbers(self) -> int:
        """The number of outputs of the model for a picture or a text."""
        return 1 if self.outputs == _SIGMOID else len(self.class_names)

    @property
    def kind(self) -> str:
        """The kind of the inputs: ``picture`` or ``text``."""
        return "picture" if self.text_format is None else "text"

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one prepared input: (height, width, channels) of a picture, (sequence_length,) of a text."""
        return self.required_picture_format().shape if self.text_format is None else self.text_format.shape

    @property
    def is_language_model(self) -> bool:
        """True if the classes are the tokens of the vocabulary, of which the model predicts the next one."""
        return self.text_format is not None and self.class_names is self.text_format.vocabulary

    def with_activation(self, activation: str | None) -> "ModelCard":
        """Returns the card with the output that the last activation of the model gives; an embedding stays one."""
        return self if self.outputs == _EMBEDDING else replace(self, outputs=activation or _LOGITS)

    def required_picture_format(self) -> PictureFormat:
        """Returns the format of pictures, and raises a ``CourseError`` if the model takes texts."""
        if self.picture_format is None:
            raise CourseError(f"{self.title!r} takes texts, and pictures are given; give a model for pictures")
        return self.picture_format

    def required_text_format(self) -> TextFormat:
        """Returns the format of texts, and raises a ``CourseError`` if the model takes pictures."""
        if self.text_format is None:
            raise CourseError(f"{self.title!r} takes pictures, and texts are given; give a model for texts")
        return self.text_format

    def check_model(self, name: str, takes: Shape | None, gives: Shape | None, input_type: str | None = None) -> None:
        """Checks that a model takes the pictures or texts of the card, and gives a number for each of its classes.

        ``takes`` and ``gives`` are the shapes of an input and an output batch, with None for a side of any length;
        ``input_type`` is the type of the input's numbers, such as ``float32``, if it is known. A language model may
        give logits for each position of a text.
        """
        classes = len(self.class_names)
        if self.outputs == _SIGMOID and (classes != 2 or (gives is not None and not _fits(gives, (1,)))):
            shown = "numbers" if gives is None else f"{_in_words(gives[1:])} numbers"
            raise CourseError(
                f"{name} ends with sigmoid and gives {shown} for a {self.kind}, and its card names {classes} classes; "
                "one sigmoid tells two classes apart, more of them do not exclude each other: give one number and the "
                "names of two classes, or end the model with softmax"
            )
        inputs = "pictures" if self.text_format is None else "tokens"
        if takes is not None and not _fits(takes, self.shape):
            mistake = f"takes {inputs} {_in_words(takes[1:])}, and its card says {_in_words(self.shape)}"
        elif self.text_format is not None and input_type is not None and not input_type.startswith(_INTEGERS):
            raise CourseError(
                f"{name} takes {input_type}, and the tokens of texts are integers; build it with "
                "keras.Input(shape, dtype='int32')"
            )
        elif gives is not None and not self._gives(gives):
            mistake = f"gives {_in_words(gives[1:])} numbers for a {self.kind}, and its card names {classes} classes"
        else:
            return
        raise CourseError(f"{name} {mistake}; give it a card of its own")

    def _gives(self, shape: Shape) -> bool:
        """Returns True if the output of a model has the card's shape."""
        return _fits(shape, (self.numbers,)) or (self.is_language_model and _fits(shape, (*self.shape, self.numbers)))

    def to_json(self) -> str:
        """Returns the card as JSON, small enough to be read again; equal cards give equal texts."""
        formats = {"picture_format": self.picture_format, "text_format": self.text_format}
        fields: dict[str, Any] = {
            "title": self.title,
            "class_names": list(self.class_names),
            **{name: taken.to_dict() for name, taken in formats.items() if taken is not None},
            **{name: getattr(self, name) for name in ("data", "limits", "license", "metrics", "training", "outputs")},
            "version": _VERSION,
        }
        if self.is_language_model:
            del fields["class_names"]
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
            for name, known in (("picture_format", PictureFormat), ("text_format", TextFormat)):
                if fields.get(name) is not None:
                    fields[name] = known(**fields[name])
            if "class_names" not in fields and fields.get("text_format") is None:
                raise CourseError("it has no class_names")
            return cls(**fields)
        except (CourseError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise CourseError(f"the model's card cannot be read: {error}") from None


def check_class_name(class_name: str, name: str = "class name") -> None:
    """Checks that a card can hold the name of a class: it has one line, is not too long and can be printed."""
    _check_text(name, class_name)
    if "\n" in class_name:
        raise CourseError(f"{name} has a line break; give a text of one line")


def shapes_of(model: Any) -> tuple[tuple[int | None, ...] | None, tuple[int | None, ...] | None, str | None]:
    """Returns the input and output shape and the input type of a Keras model, each None if it is unknown.

    They are the arguments of ``ModelCard.check_model``.
    """

    def end(name: str) -> Any:
        ends: Any = getattr(model, name, None) or ()  # None for an unbuilt model
        if len(ends) > 1:
            raise CourseError(
                f"the model has {len(ends)} {name}, and a card is for models that take one picture or text and give "
                "one row of numbers; use it without a card, from Python"
            )
        return ends[0] if ends else None

    taken, given = end("inputs"), end("outputs")
    return (
        None if taken is None else tuple(taken.shape),
        None if given is None else tuple(given.shape),
        None if taken is None else str(taken.dtype),
    )


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


def _shapes_in(net: Any) -> tuple[Shape | None, Shape | None, str | None]:
    """Returns what ``shapes_of`` does from the description of a ``model.keras``, as far as it says so."""
    layers = net.get("config", {}).get("layers") or [{"class_name": "", "config": {}}]
    first = layers[0]["config"]
    # layers are in the order of computation, and most nets end with a dense one
    gives = (None, layers[-1]["config"]["units"]) if layers[-1]["class_name"] == "Dense" else None
    return first.get("batch_shape"), gives, first.get("dtype") if isinstance(first.get("dtype"), str) else None


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
