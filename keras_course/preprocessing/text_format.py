"""The input format of a text model: how a text is converted to tokens. Needs neither NumPy nor ``tokenizers``."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Final

from keras_course.errors import CourseError, check_positive
from keras_course.foreign_text import printable

__all__ = ["TextFormat"]

PAD: Final = "[PAD]"
UNKNOWN: Final = "[UNK]"
END: Final = "[END]"
START: Final = "[CLS]"
SEPARATOR: Final = "[SEP]"
MASK: Final = "[MASK]"

SPECIAL: Final = (PAD, UNKNOWN, END)
"""The first tokens of a vocabulary of words or characters."""
SPECIAL_PIECES: Final = (PAD, UNKNOWN, START, SEPARATOR, MASK)
"""BERT's special tokens; a vocabulary of word pieces may lack the last one."""

WORDS: Final = "words"
CHARACTERS: Final = "characters"
WORD_PIECES: Final = "word pieces"

_UNITS: Final = (WORDS, CHARACTERS, WORD_PIECES)
_PADDING: Final = ("left", "right")
_LARGEST_VOCABULARY: Final = 500_000
_LONGEST_TOKEN: Final = 500
_LONGEST_SEQUENCE: Final = 100_000
# surrogates cannot be encoded, and a line break would split a line of a vocabulary file
_BAD_SIGN: Final = re.compile(r"[\x00\n\r\ud800-\udfff]")


@dataclass(frozen=True, kw_only=True)
class TextFormat:
    """The input format of a text model, which is saved in its card.

    Args:
        unit: ``words``, ``characters`` or ``word pieces`` (those of BERT).
        vocabulary: The tokens; the number of a token is its place. Words and characters begin with ``[PAD]``,
            ``[UNK]`` and ``[END]``: padding, an unknown token, and the boundary of a sentence, which stands before its
            first token and after its last. Word pieces have BERT's ``[PAD]``, ``[UNK]``, ``[CLS]``, ``[SEP]`` and
            ``[MASK]`` in any place; a piece within a word begins with ``##``.
        sequence_length: Number of tokens of an input, including the special ones.
        padding: ``left``, without a mask, for recurrent networks; ``right`` for Transformers.
        lowercase: Whether to convert a text to lower case.
        strip_accents: Whether to remove accents, as BERT does in lower case.
        keep_punctuation: Whether punctuation marks are tokens, or removed; only for words.

    Raises:
        CourseError: A value is invalid, or the vocabulary lacks a special token or has a token twice.

    Example:
        >>> format = TextFormat(unit="words", vocabulary=("[PAD]", "[UNK]", "[END]", "to", "be"), sequence_length=8,
        ...     padding="left")
        >>> format.pad, format.unknown, format.end, format.shape
        (0, 1, 2, (8,))
    """

    unit: str
    vocabulary: tuple[str, ...]
    sequence_length: int
    padding: str
    lowercase: bool = True
    strip_accents: bool = False
    keep_punctuation: bool = True

    def __post_init__(self) -> None:
        _check(self.unit in _UNITS, "unit", self.unit, f"one of {', '.join(_UNITS)}")
        _check(self.padding in _PADDING, "padding", self.padding, f"one of {', '.join(_PADDING)}")
        check_positive(sequence_length=self.sequence_length)
        object.__setattr__(self, "sequence_length", int(self.sequence_length))
        is_short = self.sequence_length <= _LONGEST_SEQUENCE
        _check(is_short, "sequence_length", self.sequence_length, f"at most {_LONGEST_SEQUENCE:,} tokens")
        for name in ("lowercase", "strip_accents", "keep_punctuation"):
            _check(isinstance(getattr(self, name), bool), name, getattr(self, name), "true or false")
        is_word_pieces = self.unit == WORD_PIECES
        is_possible = self.keep_punctuation or self.unit == WORDS
        _check(is_possible, "keep_punctuation", self.keep_punctuation, f"true for {self.unit}")
        _check(not is_word_pieces or self.padding == "right", "padding", self.padding, "right for word pieces")
        least = 3 if is_word_pieces else 1
        is_long = self.sequence_length >= least
        _check(is_long, "sequence_length", self.sequence_length, f"at least {least}: {START}, a piece and {SEPARATOR}")
        object.__setattr__(self, "vocabulary", _checked_vocabulary(self.vocabulary, is_word_pieces))

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:  # of 30,000 tokens, and asked for with every text
        return hash(tuple(getattr(self, name) for name in self.__dataclass_fields__))

    @property
    def shape(self) -> tuple[int]:
        """Number of tokens of one encoded text."""
        return (self.sequence_length,)

    @cached_property
    def numbers(self) -> Mapping[str, int]:
        """The number of each token."""
        return {token: number for number, token in enumerate(self.vocabulary)}

    @property
    def pad(self) -> int:
        """Number of the padding token."""
        return self._number_of(PAD)

    @property
    def unknown(self) -> int:
        """Number of the token that replaces unknown ones."""
        return self._number_of(UNKNOWN)

    @property
    def end(self) -> int:
        """Number of ``[END]``, the boundary of a sentence of words or characters."""
        return self._number_of(END)

    @property
    def start(self) -> int:
        """Number of ``[CLS]``, the first word piece of an input."""
        return self._number_of(START)

    @property
    def separator(self) -> int:
        """Number of ``[SEP]``, the last word piece of a text."""
        return self._number_of(SEPARATOR)

    @property
    def mask(self) -> int:
        """Number of ``[MASK]``, which takes the place of a word piece that is to be predicted."""
        return self._number_of(MASK)

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields as they are saved in a card."""
        return {**asdict(self), "vocabulary": list(self.vocabulary)}

    def _number_of(self, token: str) -> int:
        if token not in self.numbers:
            raise CourseError(f"the vocabulary of {self.unit} has no {token}; give a format that has one")
        return self.numbers[token]


def _checked_vocabulary(vocabulary: Any, is_word_pieces: bool) -> tuple[str, ...]:
    """Returns a vocabulary as a tuple, after checking its size, its tokens and the special ones among them."""
    if isinstance(vocabulary, str | bytes | Mapping) or not isinstance(vocabulary, Iterable):
        raise CourseError(f"vocabulary is a {type(vocabulary).__name__}; give a list of tokens")
    tokens = tuple(vocabulary)
    if len(tokens) > _LARGEST_VOCABULARY:
        raise CourseError(f"vocabulary has {len(tokens):,} tokens; give at most {_LARGEST_VOCABULARY:,}")
    places: dict[str, int] = {}
    for number, token in enumerate(tokens):
        if not isinstance(token, str) or not token or len(token) > _LONGEST_TOKEN or _BAD_SIGN.search(token):
            shown = printable(repr(token))[:60]
            raise CourseError(
                f"vocabulary[{number}] is {shown}; give a text of 1 to {_LONGEST_TOKEN} characters in one line"
            )
        if (first := places.setdefault(token, number)) != number:
            raise CourseError(
                f"vocabulary has {printable(token)!r:.60} twice, in places {first} and {number}; give each token once"
            )
    if is_word_pieces:
        if missing := [token for token in SPECIAL_PIECES[:-1] if token not in places]:
            raise CourseError(f"vocabulary lacks {', '.join(missing)}; give that of a BERT model")
    elif tokens[: len(SPECIAL)] != SPECIAL:
        begin = ", ".join(map(printable, tokens[: len(SPECIAL)]))
        raise CourseError(f"vocabulary begins with {begin!r:.80}; let it begin with {', '.join(SPECIAL)}")
    return tokens


def _check(condition: bool, name: str, value: Any, remedy: str) -> None:
    if not condition:
        raise CourseError(f"{name} is {value!r:.80}; give {remedy}")
