"""Deterministic preprocessing from a picture or a text to the input of a model: the same in training and in serving."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from keras_course.preprocessing.picture_format import PictureFormat
from keras_course.preprocessing.text_format import TextFormat

if TYPE_CHECKING:
    from keras_course.preprocessing.images import prepare, read_picture
    from keras_course.preprocessing.text import (
        EncodedPairs,
        MaskedWords,
        character_format,
        decode,
        encode,
        encode_pairs,
        mask_words,
        padding_mask,
        prefixes,
        sequences,
        word_format,
        word_piece_format,
    )

__all__ = [
    "EncodedPairs",
    "MaskedWords",
    "PictureFormat",
    "TextFormat",
    "character_format",
    "decode",
    "encode",
    "encode_pairs",
    "mask_words",
    "padding_mask",
    "prefixes",
    "prepare",
    "read_picture",
    "sequences",
    "word_format",
    "word_piece_format",
]


def __getattr__(name: str) -> Any:
    """Imports Pillow or NumPy at the first use of a name that needs it, since running a model needs only the format."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = "images" if name in ("prepare", "read_picture") else "text"
    return getattr(import_module(f"{__name__}.{module}"), name)
