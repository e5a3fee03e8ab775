"""Reads texts of strangers, converts them to the tokens of a model, and classifies them or predicts what follows."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from keras_course.deployment.answers import Prediction, predictions_of
from keras_course.deployment.runtimes import Runtime
from keras_course.errors import CourseError, check_positive, reason_of
from keras_course.preprocessing.text import encode, split
from keras_course.preprocessing.text_format import TextFormat

__all__ = ["LONGEST_TEXT", "Encoded", "Text", "embed_texts", "encode_text", "find_texts", "marks_of", "predict_texts"]

LONGEST_TEXT: Final = 10_000
"""The largest number of characters of a text; most models take some hundred."""
MOST_TEXTS: Final = 1_000_000
MOST_BYTES: Final = 2**28
"""The largest size of all texts that are read from files."""

_LONGEST_LINE: Final = 4 * LONGEST_TEXT
_ENDING: Final = ".txt"
_STANDARD_INPUT: Final = "-"
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"


class Text(NamedTuple):
    """A text, or why it cannot be read; ``name`` says where it comes from, for errors."""

    name: str
    content: str
    error: str = ""


class Encoded(NamedTuple):
    """A text as the input of a model: int32 (sequence_length,), and what to know of it, else an empty text."""

    tokens: npt.NDArray[np.int32]
    note: str = ""


def find_texts(arguments: Iterable[str], standard_input: IO[bytes] | None = None) -> list[Text]:
    """Returns texts: the given ones, each line of the given ``.txt`` files, and of the standard input for ``-``.

    Lines that are blank are left out. One that is too long or no UTF-8 becomes a text with an error.

    Args:
        arguments: Texts, names of files that end in ``.txt``, or ``-``.
        standard_input: The standard input; by default that of this process.

    Returns:
        The texts, in their order.

    Raises:
        CourseError: A file cannot be read or has no text, or there are too many texts.

    Example:
        >>> find_texts(["to be or not to be"])
        [Text(name='text 1', content='to be or not to be', error='')]
        >>> find_texts(["no_such_file.txt"])
        Traceback (most recent call last):
        ...
        keras_course.errors.CourseError: no_such_file.txt cannot be read: No such file or directory; give a text file
    """
    found: list[Text] = []
    for number, argument in enumerate(arguments, 1):
        if argument == _STANDARD_INPUT:
            lines = _lines_of(standard_input or sys.stdin.buffer, "standard input")
        elif argument.endswith(_ENDING):
            lines = _lines_of_file(argument)
        else:
            lines = iter([Text(f"text {number}", argument)])
        before = len(found)
        for line in lines:
            found.append(line)
            if len(found) > MOST_TEXTS:
                raise CourseError(f"there are more than {MOST_TEXTS:,} texts; give fewer at a time")
        if len(found) == before:
            where = "the standard input" if argument == _STANDARD_INPUT else argument
            raise CourseError(f"{where} has no text; give one in each line")
    return found


def _lines_of_file(name: str) -> Iterator[Text]:
    try:
        path = Path(name)
        if path.exists() and not path.is_file():  # opening a pipe would wait for a writer
            raise CourseError(f"{name} is not a file; give a text file")
        with path.open("rb") as file:
            yield from _lines_of(file, name)
    except (OSError, ValueError) as error:
        if isinstance(error, CourseError):
            raise
        raise CourseError(f"{name} cannot be read: {reason_of(error)}; give a text file") from None


def _lines_of(file: IO[bytes], name: str) -> Iterator[Text]:
    """Yields the lines of a file that are not blank, and holds one of them in memory."""
    number = total = 0
    while line := file.readline(_LONGEST_LINE + 1):
        number += 1
        total += len(line)
        called = f"{name}, line {number}"
        if total > MOST_BYTES:
            raise CourseError(f"{name} has more than {MOST_BYTES:,} bytes of text; give less at a time")
        line = line.removeprefix(_BYTE_ORDER_MARK) if number == 1 else line
        shown = line[:_LONGEST_LINE].decode("utf-8", "replace").strip()
        if len(line) > _LONGEST_LINE:
            while line and not line.endswith(b"\n"):
                line = file.readline(2**20)
            yield Text(called, shown[:100], f"{called} has more than {_LONGEST_LINE:,} bytes; give shorter texts")
            continue
        try:
            text = line.decode("utf-8").strip()
        except UnicodeDecodeError as error:
            bad = f"{called} is not valid UTF-8 (byte {error.start + 1}); save the file as UTF-8"
            yield Text(called, shown, bad)
            continue
        if text:
            yield Text(called, text)


def encode_text(
    text: Any,
    text_format: TextFormat,
    *,
    name: str = "the text",
    cut: bool = False,
    how_to_cut: str = "give cut=True",
    longest: int = LONGEST_TEXT,
) -> Encoded:
    """Converts one text of a stranger to the input of a model, and notes what is unusual.

    Args:
        text: The text.
        text_format: The format of the model.
        name: The name of the text, for errors.
        cut: Whether to cut a text that is too long: the beginning if the format pads on the left, else the end.
        how_to_cut: What the user has to do to get ``cut``, for errors.
        longest: The largest number of characters that is read, even to be cut.

    Returns:
        The tokens, and a note if the text was cut or has nothing but unknown words.

    Raises:
        CourseError: The text is no text, is empty, is too long, has a NUL character or half a character.

    Example:
        >>> words = TextFormat(
        ...     unit="words", vocabulary=("[PAD]", "[UNK]", "[END]", "to", "be"), sequence_length=4, padding="left")
        >>> encode_text("To be", words)
        Encoded(tokens=array([0, 2, 3, 4], dtype=int32), note='')
        >>> encode_text("Quid novi?", words).note
        'the model knows none of its words'
    """
    _check_text(text, name, longest)
    note = ""
    try:
        tokens = encode([text], text_format, check=False)[0]
    except CourseError:
        count = len(split(text, text_format)) + _marks(text_format)
        if count <= text_format.sequence_length:
            raise
        if not cut:
            raise CourseError(
                f"{name} has {count:,} tokens, and the model takes {text_format.sequence_length:,}; shorten it, or "
                f"{how_to_cut}"
            ) from None
        tokens = encode([text], text_format, cut=True, check=False)[0]
        note = f"of its {count:,} tokens the model takes {text_format.sequence_length:,}"
    words = tokens[~np.isin(tokens, marks_of(text_format))]
    if not words.size:
        raise CourseError(f"{name} has no {text_format.unit}; give a text that has some")
    if (words == text_format.unknown).all():
        note = "; ".join(filter(None, (note, f"the model knows none of its {text_format.unit}")))
    return Encoded(tokens, note)


def _check_text(text: Any, name: str, longest: int) -> None:
    """Checks that a text can be read, before anything is computed from it."""
    if not isinstance(text, str):
        raise CourseError(f"{name} is a {type(text).__name__}; give a text")
    if len(text) > longest:
        raise CourseError(f"{name} has {len(text):,} characters; at most {longest:,} are read")
    if "\0" in text:
        raise CourseError(f"{name} has a NUL character at position {text.index(chr(0)) + 1}; give plain text")
    try:
        text.encode()
    except UnicodeEncodeError as error:  # a lone surrogate
        raise CourseError(
            f"{name} is not valid UTF-8: it has half a character at position {error.start + 1}; give plain text"
        ) from None
    if not text.strip():
        raise CourseError(f"{name} is empty; give a text")


def marks_of(text_format: TextFormat) -> list[int]:
    """Returns the numbers of the tokens that stand around a text: padding, and the marks of its ends."""
    if text_format.unit == "word pieces":
        return [text_format.pad, text_format.start, text_format.separator]
    return [text_format.pad, text_format.end]


def _marks(text_format: TextFormat) -> int:
    """Returns how many tokens stand around a text, besides the padding."""
    return len(marks_of(text_format)) - 1


def predict_texts(
    runtime: Runtime,
    texts: Sequence[str | Text],
    *,
    top: int = 3,
    batch_size: int = 32,
    cut: bool = False,
    how_to_cut: str = "give cut=True",
) -> Iterator[Prediction]:
    """Classifies texts in batches, or predicts their next tokens; one that cannot be read gets an error instead.

    Args:
        runtime: The model.
        texts: The texts.
        top: The number of classes for each text.
        batch_size: The number of texts in a batch.
        cut: Whether to cut texts that are too long.
        how_to_cut: What the user has to do to get ``cut``, for errors.

    Yields:
        The prediction for each text, in their order.

    Raises:
        CourseError: A number is not positive, the package for word pieces is not installed, or the model takes
            pictures: ``predict.predict`` is for those.
    """
    check_positive(top=top, batch_size=batch_size)
    text_format = runtime.card.required_text_format()
    split("", text_format)  # a package that is not installed is an error of the whole
    for start in range(0, len(texts), batch_size):
        found = [
            text if isinstance(text, Text) else Text(f"text {start + number}", text)
            for number, text in enumerate(texts[start : start + batch_size], 1)
        ]
        ready: dict[int, Encoded] = {}
        errors: dict[int, str] = {}
        for number, text in enumerate(found):
            try:
                if text.error:
                    raise CourseError(text.error)
                ready[number] = encode_text(text.content, text_format, name=text.name, cut=cut, how_to_cut=how_to_cut)
            except CourseError as error:
                errors[number] = str(error)
        answers = {}
        if ready:
            logits = runtime.logits(np.stack([encoded.tokens for encoded in ready.values()]))
            answers = dict(zip(ready, predictions_of(logits, runtime.card.class_names, top=top), strict=True))
        for number, text in enumerate(found):
            note = ready[number].note if number in ready else ""
            yield Prediction(text.content, answers.get(number, ()), errors.get(number, ""), note, "text")


def embed_texts(
    runtime: Runtime, texts: Sequence[str], *, batch_size: int = 32, cut: bool = False
) -> npt.NDArray[np.float32]:
    """Computes the vectors of texts by a model that gives embeddings, such as an exported sentence encoder.

    Texts of similar length are computed together. If the model takes texts of any length, each batch is as long as its
    longest text, which saves time.

    Args:
        runtime: The model.
        texts: The texts.
        batch_size: The number of texts in a batch.
        cut: Whether to cut texts that are too long.

    Returns:
        float32 (texts, size), in the order of the texts.

    Raises:
        CourseError: A text is invalid, ``batch_size`` is not positive, or the model gives classes.
    """
    check_positive(batch_size=batch_size)
    card = runtime.card
    text_format = card.required_text_format()
    if card.outputs != "embedding":
        raise CourseError(f"{runtime.path} gives classes, and no embeddings; use predict_texts")
    encoded = [
        encode_text(text, text_format, name=f"text {number}", cut=cut).tokens for number, text in enumerate(texts, 1)
    ]
    vectors = np.empty((len(encoded), card.numbers), "float32")
    if not encoded:
        return vectors
    tokens = np.stack(encoded)
    lengths = (tokens != text_format.pad).sum(axis=1)
    is_cut_off = runtime.any_length and text_format.padding == "right"
    order = np.argsort(-lengths, kind="stable")
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        longest = int(lengths[rows[0]]) if is_cut_off else tokens.shape[1]
        vectors[rows] = runtime.outputs(tokens[rows, :longest])
    return vectors
