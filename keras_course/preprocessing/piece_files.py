"""Readers of the vocabulary files of BERT models, which may come from anywhere: ``vocab.txt`` and ``tokenizer.json``.

A ``tokenizer.json`` describes a whole program: rules, replacements, regular expressions. None of it is run. The file
is read for its vocabulary and a few settings; everything else in it must be as BERT has it, and what is not is named.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from keras_course.errors import CourseError, reason_of
from keras_course.foreign_text import printable
from keras_course.preprocessing.text_format import SEPARATOR, SPECIAL_PIECES, START, UNKNOWN

__all__ = ["read"]

LARGEST_BYTES: Final = 32 * 2**20
"""A larger file is not read; the vocabulary of multilingual BERT has 1 MB."""

_ANY: Final = object()
_NORMALIZER: Final = {"clean_text": (True,), "handle_chinese_chars": (True,), "strip_accents": (True, False, None)}
_SECTIONS: Final[Mapping[str, Mapping[str, Mapping[str, Any]]]] = {
    "normalizer": {"BertNormalizer": {**_NORMALIZER, "lowercase": (True, False)}},
    "pre_tokenizer": {"BertPreTokenizer": {}},
    "post_processor": {
        "TemplateProcessing": {"single": _ANY, "pair": _ANY, "special_tokens": _ANY},
        "BertProcessing": {"sep": _ANY, "cls": _ANY},
        "none": {},
    },
    "decoder": {"WordPiece": {"prefix": ("##",), "cleanup": (True, False)}, "none": {}},
    "model": {
        "WordPiece": {
            "unk_token": (UNKNOWN,),
            "continuing_subword_prefix": ("##",),
            "max_input_chars_per_word": (100,),
            "vocab": _ANY,
        }
    },
}
"""The sections of a file: the types that are read, and the values of each setting."""
_UNUSED: Final = ("version", "truncation", "padding")
"""Sections that say how long a text may be, which the model's format says here."""
_ADDED: Final = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}


def read(path: Path) -> tuple[list[str], dict[str, bool]]:
    """Reads the tokens of a file in the order of their numbers, and the settings ``lowercase`` and ``strip_accents``.

    The ending ``.json`` is that of a ``tokenizer.json``; every other file has one token in each line.
    """
    try:
        if not path.is_file():  # opening a pipe would block
            raise CourseError("there is no such file; give the path of a vocab.txt or tokenizer.json")
        with path.open("rb") as file:
            content = file.read(LARGEST_BYTES + 1)
        if len(content) > LARGEST_BYTES:
            raise CourseError(f"it has more than {LARGEST_BYTES:,} bytes, which no vocabulary needs")
        return _from_json(content) if path.suffix.lower() == ".json" else (_from_lines(content), {})
    except (CourseError, OSError) as error:
        raise CourseError(f"{printable(str(path))}: {reason_of(error)}") from error


def _from_lines(content: bytes) -> list[str]:
    """Reads one token of each line; only a line feed ends a line, as other separators can be tokens."""
    lines = content.removesuffix(b"\n").split(b"\n")
    tokens = []
    for number, line in enumerate(lines, 1):
        try:
            tokens.append(line.removesuffix(b"\r").decode("utf-8"))
        except UnicodeDecodeError as error:
            raise CourseError(f"line {number} is no UTF-8 ({reason_of(error)}); save it as UTF-8") from error
    return tokens


def _from_json(content: bytes) -> tuple[list[str], dict[str, bool]]:
    try:
        found = json.loads(content, object_pairs_hook=_without_repeats)
    except (ValueError, RecursionError) as error:
        if isinstance(error, CourseError):
            raise
        raise CourseError(f"it is no JSON: {reason_of(error)}") from error
    if not isinstance(found, dict):
        raise CourseError("it is no tokenizer.json; give that of a BERT model")
    _check_names("", found, (*_SECTIONS, *_UNUSED, "added_tokens"))
    sections = {name: _section(name, found.get(name), types) for name, types in _SECTIONS.items()}
    tokens = _ordered(sections["model"].get("vocab"))
    _check_added(found.get("added_tokens"), tokens)
    _check_post_processor(sections["post_processor"], tokens)
    lowercase = sections["normalizer"]["lowercase"]
    strip_accents = sections["normalizer"]["strip_accents"]
    return tokens, {"lowercase": lowercase, "strip_accents": lowercase if strip_accents is None else strip_accents}


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        repeated = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise CourseError(f"it has {_shown(repeated)} twice in one place")
    return found


def _section(name: str, found: Any, types: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Checks a section against what is read here; an error names the setting that is not."""
    found = {"type": "none"} if found is None else found
    if not isinstance(found, dict):
        raise CourseError(f"{name} is {_shown(found)}; BERT's is an object")
    kind = found.get("type")
    if not isinstance(kind, str) or kind not in types:
        known = " or ".join(kind for kind in types if kind != "none")
        raise CourseError(f"{name} has the type {_shown(kind)}; only {known} is read")
    settings = types[kind]
    _check_names(name, found, ("type", *settings))
    for key, allowed in settings.items():
        value = found.setdefault(key, None)
        if allowed is _ANY:
            continue
        if not any(value is one or (type(value) is type(one) and value == one) for one in allowed):
            known = " or ".join(json.dumps(one) for one in allowed)
            raise CourseError(f"{name}.{key} is {_shown(value)}; only {known} is read")
    return found


def _check_names(section: str, found: Mapping[str, Any], known: tuple[str, ...]) -> None:
    for name in found:
        if name not in known:
            place = f"{section}.{name}" if section else name
            raise CourseError(f"{_shown(place)} is not read; give the tokenizer.json of a BERT model")


def _ordered(vocabulary: Any) -> list[str]:
    """Returns the tokens in the order of their numbers, each of which must be there once."""
    if not isinstance(vocabulary, dict) or not vocabulary:
        raise CourseError("model.vocab has no tokens; give the tokenizer.json of a BERT model")
    tokens: list[str | None] = [None] * len(vocabulary)
    for token, number in vocabulary.items():
        if type(number) is not int or not 0 <= number < len(tokens):
            raise CourseError(
                f"model.vocab gives {_shown(token)} the number {_shown(number)}; with {len(tokens):,} tokens, numbers "
                f"are 0 to {len(tokens) - 1:,}, without a gap"
            )
        if tokens[number] is not None:
            raise CourseError(
                f"model.vocab gives {_shown(tokens[number])} and {_shown(token)} the same number {number}"
            )
        tokens[number] = token
    return [token for token in tokens if token is not None]


def _check_added(found: Any, tokens: list[str]) -> None:
    """Checks that the tokens that are found first in a text are BERT's special ones."""
    if not isinstance(found, list | None):
        raise CourseError(f"added_tokens is {_shown(found)}; BERT's is a list")
    for token in found or []:
        if not isinstance(token, dict):
            raise CourseError(f"added_tokens has {_shown(token)}; BERT's are objects")
        content = token.get("content")
        if content not in SPECIAL_PIECES:
            raise CourseError(f"added_tokens has {_shown(content)}; only {', '.join(SPECIAL_PIECES)} are read")
        _check_names("added_tokens", token, ("id", "content", *_ADDED))
        for name, value in _ADDED.items():
            if token.get(name, value) is not value:
                raise CourseError(f"added_tokens has {content} with {name} {_shown(token[name])}, which is not read")
        number = token.get("id")
        if type(number) is not int or not 0 <= number < len(tokens) or tokens[number] != content:
            raise CourseError(f"added_tokens gives {content} the number {_shown(number)}, and model.vocab another one")


def _check_post_processor(found: Mapping[str, Any], tokens: list[str]) -> None:
    """Checks that a text stands between [CLS] and [SEP], and two texts have the segments 0 and 1."""

    def special(token: str, segment: int) -> Any:
        return {"SpecialToken": {"id": token, "type_id": segment}}

    def text(name: str, segment: int) -> Any:
        return {"Sequence": {"id": name, "type_id": segment}}

    first = [special(START, 0), text("A", 0), special(SEPARATOR, 0)]
    expected: dict[str, dict[str, Any]] = {
        "none": {},
        "TemplateProcessing": {"single": first, "pair": [*first, text("B", 1), special(SEPARATOR, 1)]},
        "BertProcessing": {
            key: [token, tokens.index(token) if token in tokens else None]
            for key, token in (("sep", SEPARATOR), ("cls", START))
        },
    }
    for name, value in expected[found["type"]].items():
        if found[name] != value:
            raise CourseError(f"post_processor.{name} is not BERT's, and is not read")
    special_tokens = found.get("special_tokens")
    if not isinstance(special_tokens, dict | None):
        raise CourseError(f"post_processor.special_tokens is {_shown(special_tokens)}; BERT's is an object")
    for token, described in (special_tokens or {}).items():
        ids = described.get("ids") if isinstance(described, dict) else None
        if token not in tokens or ids != [tokens.index(token)]:
            raise CourseError(f"post_processor.special_tokens has {_shown(token)}, which is not as in model.vocab")


def _shown(value: Any) -> str:
    """Formats a value from a file in at most 60 characters."""
    text = printable(value if isinstance(value, str) else json.dumps(value, default=str)[:200])
    return f"'{text if len(text) <= 60 else text[:57] + '...'}'"
