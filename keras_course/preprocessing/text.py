"""Texts to tokens and back: words and characters in NumPy, word pieces by ``tokenizers``; the same in serving."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from keras_course import randomness
from keras_course.errors import CourseError, MissingPackageError, check_positive
from keras_course.foreign_text import printable
from keras_course.preprocessing import piece_files
from keras_course.preprocessing.text_format import (
    CHARACTERS,
    END,
    PAD,
    SEPARATOR,
    SPECIAL,
    SPECIAL_PIECES,
    START,
    UNKNOWN,
    WORD_PIECES,
    WORDS,
    TextFormat,
)

__all__ = [
    "EncodedPairs",
    "MaskedWords",
    "character_format",
    "clean",
    "decode",
    "encode",
    "encode_pairs",
    "mask_words",
    "padding_mask",
    "prefixes",
    "sequences",
    "split",
    "word_format",
    "word_piece_format",
]

Tokens = npt.NDArray[np.int32]

_INSTALL: Final = 'pip install "keras-course[text]"'
_LONGEST_WORD: Final = 100
"""BERT replaces a longer word by ``[UNK]``."""

_TYPOGRAPHIC: Final = {
    **dict.fromkeys(map(ord, "“”„‟«»″"), '"'),
    **dict.fromkeys(map(ord, "‐‑‒–−"), "-"),
    **dict.fromkeys(map(ord, "—―"), " - "),
    ord("…"): "...",
    **dict.fromkeys(range(0xFE00, 0xFE10)),  # they choose between the forms of a sign and are not seen
}
_APOSTROPHE: Final = re.compile(r"(?<=\w)[’ʼ＇](?=\w)")
_HALF_A_SIGN: Final = re.compile(r"[\ud800-\udfff]")
# A word may contain apostrophes and hyphens, and begin or end with an apostrophe: 'tis, o'clock, i', well-known.
_WORD: Final = re.compile(r"'?[A-Za-z0-9]+(?:['-][A-Za-z0-9]+)*'?|\S")
_CLOSING: Final = frozenset(".,;:!?)]}%’")
_OPENING: Final = frozenset("([{$#‘")


class EncodedPairs(NamedTuple):
    """Questions with their paragraphs as the input of a model.

    Args:
        tokens: int32 ``(n, sequence_length)``: ``[CLS]``, the question, ``[SEP]``, the paragraph, ``[SEP]``.
        segment_ids: int32 of the same shape: 1 for the paragraph and its ``[SEP]``, else 0.
        offsets: int32 ``(n, sequence_length, 2)``: the first character of each token of the paragraph, and the one
            after its last; -1 for all other tokens.
    """

    tokens: Tokens
    segment_ids: Tokens
    offsets: Tokens


class MaskedWords(NamedTuple):
    """Texts in each of which one word is hidden.

    Args:
        tokens: int32 ``(n, tokens)``, in which ``[MASK]`` is in the place of the word.
        places: int64 ``(n,)``: the place of the word in each text.
        words: int32 ``(n,)``: the number of the word.
        rows: int64 ``(n,)``: which texts these are; one without a word that can be hidden is left out.
    """

    tokens: Tokens
    places: npt.NDArray[np.int64]
    words: Tokens
    rows: npt.NDArray[np.int64]


def clean(text: str, format: TextFormat) -> str:
    r"""Returns a text as the model reads it: in one line, without control characters, and as the format says.

    Typographic quotes and dashes of words and characters become those of ASCII. Word pieces are cleaned as BERT does.

    Args:
        text: Any text.
        format: The format of the model.

    Returns:
        The cleaned text; it is empty if nothing is left.

    Raises:
        CourseError: The text is no text, or holds a lone surrogate, which comes from invalid UTF-8.

    Example:
        >>> clean("The  Show’s\n“End”", word_format(["the end"]))
        "the show's end"
    """
    _check_texts([text])
    if format.unit == WORD_PIECES:
        return str(_tokenizer(format).normalizer.normalize_str(text))
    normalized = _normalized(text, format)
    return normalized if format.keep_punctuation else " ".join(_words(normalized, keep_punctuation=False))


def split(text: str, format: TextFormat) -> list[str]:
    """Splits a text into words, characters or word pieces, without special tokens at its ends.

    Args:
        text: Any text.
        format: The format of the model. Words and characters that are not in its vocabulary are not replaced.

    Returns:
        The tokens.

    Raises:
        CourseError: The text is no text, or holds a lone surrogate, which comes from invalid UTF-8.

    Example:
        >>> split("'Tis well-known, sir!", word_format(["to be"], keep_punctuation=True))
        ["'tis", 'well-known', ',', 'sir', '!']
    """
    _check_texts([text])
    return _split([text], format)[0]


def word_format(
    sentences: Iterable[str],
    *,
    sequence_length: int | None = None,
    largest: int | None = None,
    min_count: int = 1,
    lowercase: bool = True,
    keep_punctuation: bool = False,
    padding: str = "left",
) -> TextFormat:
    """Returns the format of words that has the words of some sentences in its vocabulary.

    Args:
        sentences: The training sentences.
        sequence_length: Number of tokens of an input; by default that of the longest sentence, with ``[END]``.
        largest: Largest size of the vocabulary, including the three special tokens; the rarest words are left out.
        min_count: How often a word must occur.
        lowercase: Whether to convert texts to lower case.
        keep_punctuation: Whether punctuation marks are tokens, or removed.
        padding: ``left`` for recurrent networks, ``right`` for Transformers.

    Returns:
        The format; the most frequent words come first, and equally frequent ones in alphabetical order.

    Raises:
        CourseError: There are no sentences, none of their words is in the vocabulary, or a size is not positive.

    Example:
        >>> word_format(["To be, or not to be?"]).vocabulary
        ('[PAD]', '[UNK]', '[END]', 'be', 'to', 'not', 'or')

    Source: NVIDIA Deep Learning Institute, "Fundamentals of Deep Learning", part 6.
    """
    format = TextFormat(
        unit=WORDS,
        vocabulary=SPECIAL,
        sequence_length=1,
        padding=padding,
        lowercase=lowercase,
        keep_punctuation=keep_punctuation,
    )
    return _with_vocabulary(format, sentences, sequence_length, largest, min_count)


def character_format(
    sentences: Iterable[str],
    *,
    sequence_length: int | None = None,
    largest: int | None = None,
    min_count: int = 1,
    lowercase: bool = False,
    padding: str = "left",
) -> TextFormat:
    """Returns the format of characters that has the characters of some sentences in its vocabulary.

    Args:
        sentences: The training sentences.
        sequence_length: Number of tokens of an input; by default that of the longest sentence, with ``[END]``.
        largest: Largest size of the vocabulary, including the three special tokens; the rarest ones are left out.
        min_count: How often a character must occur.
        lowercase: Whether to convert texts to lower case.
        padding: ``left`` for recurrent networks, ``right`` for Transformers.

    Returns:
        The format; the most frequent characters come first, and equally frequent ones in the order of Unicode.

    Raises:
        CourseError: There are no sentences, none of their characters is in the vocabulary, or a size is not positive.

    Example:
        >>> character_format(["to be"]).vocabulary[3:]
        (' ', 'b', 'e', 'o', 't')
    """
    format = TextFormat(unit=CHARACTERS, vocabulary=SPECIAL, sequence_length=1, padding=padding, lowercase=lowercase)
    return _with_vocabulary(format, sentences, sequence_length, largest, min_count)


def word_piece_format(
    vocabulary: Sequence[str] | str | Path,
    *,
    sequence_length: int,
    lowercase: bool | None = None,
    strip_accents: bool | None = None,
    vocabulary_size: int | None = None,
) -> TextFormat:
    """Returns the format of BERT's word pieces with a given vocabulary.

    A ``tokenizer.json`` is only read for its vocabulary and the settings of BERT; any other content is an error that
    names it, and nothing in it is run.

    Args:
        vocabulary: The word pieces in the order of their numbers, or the path of a ``vocab.txt`` or ``tokenizer.json``.
        sequence_length: Number of tokens of an input, including ``[CLS]`` and ``[SEP]``.
        lowercase: Whether texts are converted to lower case, as for an "uncased" model; by default as a
            ``tokenizer.json`` says.
        strip_accents: Whether accents are removed; by default as a ``tokenizer.json`` says, else in lower case only.
        vocabulary_size: Number of rows of the model's embedding, which must be that of the vocabulary.

    Returns:
        The format, padded on the right.

    Raises:
        CourseError: The file cannot be read, is too large, or has something that is not read here; the vocabulary has
            a gap, a token twice, no special tokens, or another size; ``lowercase`` is not known.

    Example:
        >>> pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "play", "##ing"]
        >>> format = word_piece_format(pieces, sequence_length=6, lowercase=True)
        >>> encode(["Playing"], format).tolist()
        [[2, 5, 6, 3, 0, 0]]

    Source: Y. Wu and others, "Google's neural machine translation system", 2016, section 4.1; J. Devlin and others,
    "BERT: Pre-training of deep bidirectional Transformers", 2019.
    """
    settings: dict[str, bool] = {}
    where = "vocabulary"
    if isinstance(vocabulary, str | Path):
        where = str(vocabulary)
        vocabulary, settings = piece_files.read(Path(vocabulary))
    lowercase = settings.get("lowercase") if lowercase is None else lowercase
    if lowercase is None:
        raise CourseError(f"lowercase is not given, and {where} does not say it; give True for an uncased model")
    strip_accents = settings.get("strip_accents", lowercase) if strip_accents is None else strip_accents
    if vocabulary_size is not None and len(vocabulary) != vocabulary_size:
        raise CourseError(
            f"{where} has {len(vocabulary):,} tokens and the model's embedding {vocabulary_size:,}; "
            "give the vocabulary that belongs to the model"
        )
    try:
        return TextFormat(
            unit=WORD_PIECES,
            vocabulary=tuple(vocabulary),
            sequence_length=sequence_length,
            padding="right",
            lowercase=lowercase,
            strip_accents=strip_accents,
        )
    except CourseError as error:
        raise CourseError(str(error) if where == "vocabulary" else f"{where}: {error}") from error


def encode(texts: Sequence[str], format: TextFormat, *, cut: bool = False, check: bool = True) -> Tokens:
    """Converts texts to the input of a model.

    Words and characters begin with ``[END]``, the boundary before the sentence, and end with the last token of the
    text, so that a language model predicts what follows. Word pieces stand between ``[CLS]`` and ``[SEP]``.

    Args:
        texts: One or more texts.
        format: The format of the model.
        cut: Whether to cut a text that is too long: at its beginning with padding on the left, else at its end.
        check: Whether to raise an error for a text that is empty, or has unknown tokens only.

    Returns:
        int32 ``(n, sequence_length)``.

    Raises:
        CourseError: A text is too long, is empty, has unknown tokens only, is no text, or holds a lone surrogate.

    Example:
        >>> format = word_format(["to be or not to be"], sequence_length=5)
        >>> encode(["To be!", "Not me."], format).tolist()
        [[0, 0, 2, 4, 3], [0, 0, 2, 5, 1]]
    """
    _check_texts(texts)
    rows = np.full((len(texts), format.sequence_length), format.pad, np.int32)
    is_pieces = format.unit == WORD_PIECES
    before, after = ([format.start], [format.separator]) if is_pieces else ([format.end], [])
    for number, tokens in enumerate(_numbers(texts, format)):
        if check:
            _check_known(tokens, texts[number], number, format)
        room = format.sequence_length - len(after)
        found = [*before, *tokens]
        if len(found) > room:
            if not cut:
                raise _too_long(texts[number], number, len(found) + len(after), format)
            found = found[-room:] if format.padding == "left" else found[:room]
        found = [*found, *after]
        if format.padding == "left":
            rows[number, -len(found) :] = found
        else:
            rows[number, : len(found)] = found
    return rows


def encode_pairs(
    questions: Sequence[str], paragraphs: Sequence[str], format: TextFormat, *, cut: bool = False
) -> EncodedPairs:
    """Converts questions, each with a paragraph, to the input of a model of word pieces.

    Args:
        questions: The first text of each pair.
        paragraphs: The second text of each pair.
        format: A format of word pieces.
        cut: Whether to cut the end of a paragraph that is too long.

    Returns:
        Tokens, segments, and the place of each token in its paragraph.

    Raises:
        CourseError: The format has no word pieces, the numbers of texts differ, a pair is too long, or a text is empty
            or no text.

    Example:
        >>> pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "who", "i", "am"]
        >>> pairs = encode_pairs(["Who?"], ["I am"], word_piece_format(pieces, sequence_length=8, lowercase=True))
        >>> pairs.tokens.tolist(), pairs.segment_ids.tolist()
        ([[2, 5, 1, 3, 6, 7, 3, 0]], [[0, 0, 0, 0, 1, 1, 1, 0]])
        >>> pairs.offsets[0, 4:6].tolist()
        [[0, 1], [2, 4]]
    """
    if format.unit != WORD_PIECES:
        raise CourseError(f"the format has {format.unit}; give one of word pieces for pairs of texts")
    _check_texts(questions, "questions")
    _check_texts(paragraphs, "paragraphs")
    if len(questions) != len(paragraphs):
        raise CourseError(
            f"questions has {len(questions)} texts and paragraphs {len(paragraphs)}; "
            "give one paragraph for each question"
        )
    length = format.sequence_length
    tokens = np.full((len(questions), length), format.pad, np.int32)
    segment_ids = np.zeros((len(questions), length), np.int32)
    offsets = np.full((len(questions), length, 2), -1, np.int32)
    tokenizer = _tokenizer(format)
    pairs = zip(_encoded(questions, tokenizer), _encoded(paragraphs, tokenizer), strict=True)
    for number, (question, paragraph) in enumerate(pairs):
        _check_known(question.ids, questions[number], number, format, "questions")
        _check_known(paragraph.ids, paragraphs[number], number, format, "paragraphs")
        begin = len(question.ids) + 2
        room = length - begin - 1
        if room < 1 or (len(paragraph.ids) > room and not cut):
            raise CourseError(
                f"questions[{number}] and paragraphs[{number}] have {begin + len(paragraph.ids) + 1} tokens, of which "
                f"{begin} are the question's; the model takes {length}: shorten them"
                + ("" if room < 1 else ", or cut the paragraph by cut=True")
            )
        pieces = paragraph.ids[:room]
        end = begin + len(pieces)
        tokens[number, : end + 1] = [format.start, *question.ids, format.separator, *pieces, format.separator]
        segment_ids[number, begin : end + 1] = 1
        offsets[number, begin:end] = paragraph.offsets[:room]
    return EncodedPairs(tokens, segment_ids, offsets)


def mask_words(tokens: npt.ArrayLike, format: TextFormat, *, seed: int = 0, step: int = 0) -> MaskedWords:
    """Hides one word of each text behind ``[MASK]``: the task by which BERT learns a language.

    A word that is divided into several pieces is never hidden, nor is a punctuation mark or an unknown word.

    Args:
        tokens: Encoded texts, integers ``(n, tokens)``.
        format: Their format, of word pieces.
        seed: Seed of the choice.
        step: Number of the choice; each hides other words.

    Returns:
        The texts, the places of the words, and their numbers.

    Raises:
        CourseError: The format has no word pieces or no ``[MASK]``, or the tokens have another shape.

    Example:
        >>> pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "to", "be", "##ing", "."]
        >>> format = word_piece_format(pieces, sequence_length=6, lowercase=True)
        >>> found = mask_words(encode(["To being."], format), format)
        >>> found.tokens.tolist(), found.words.tolist()
        ([[2, 4, 6, 7, 8, 3]], [5])

    Source: J. Devlin and others, "BERT: pre-training of deep bidirectional Transformers for language understanding",
    2019, which hides 15 % of the pieces.
    """
    if format.unit != WORD_PIECES:
        raise CourseError(f"the format has {format.unit}; give one of word pieces to hide words")
    numbers = checked_tokens(tokens, format)
    is_piece = np.array([token.startswith("##") for token in format.vocabulary])
    is_word = np.array([token not in SPECIAL_PIECES and token.isalnum() for token in format.vocabulary])
    is_divided = np.pad(is_piece[numbers[:, 1:]], ((0, 0), (0, 1)))  # the next token continues the word
    can_be_hidden = is_word[numbers] & ~is_divided
    counts = can_be_hidden.sum(axis=1)
    rows = np.flatnonzero(counts)
    draws = randomness.uniform(randomness.stream_key(seed, "masked words"), (len(numbers),), step=step)[rows]
    chosen = np.minimum((draws * counts[rows]).astype("int64"), counts[rows] - 1)
    places = (can_be_hidden[rows].cumsum(axis=1) == chosen[:, None] + 1).argmax(axis=1)
    masked = numbers[rows]
    words = masked[np.arange(len(rows)), places]
    masked[np.arange(len(rows)), places] = format.mask
    return MaskedWords(masked, places, words, rows)


def checked_tokens(tokens: npt.ArrayLike, format: TextFormat) -> Tokens:
    """Returns encoded texts as int32 ``(n, tokens)``; raises a CourseError if they are not tokens of the format."""
    numbers = np.asarray(tokens)
    if numbers.ndim != 2 or not np.issubdtype(numbers.dtype, np.integer):
        raise CourseError(f"tokens are {numbers.dtype} {numbers.shape}; give the integers (n, tokens) of encode")
    size = len(format.vocabulary)
    if numbers.size and not 0 <= int(numbers.min()) <= int(numbers.max()) < size:
        raise CourseError(f"tokens are from {numbers.min()} to {numbers.max()}; give numbers from 0 to {size - 1}")
    return numbers.astype(np.int32)


def padding_mask(tokens: npt.ArrayLike, format: TextFormat) -> npt.NDArray[np.bool_]:
    """Returns which tokens are not padding.

    Args:
        tokens: Integers of any shape.
        format: The format of the model.

    Returns:
        Booleans of the same shape, False for ``[PAD]``.

    Example:
        >>> padding_mask([[5, 0]], word_format(["to be"])).tolist()
        [[True, False]]
    """
    return np.asarray(tokens) != format.pad


def decode(tokens: npt.ArrayLike, format: TextFormat) -> str:
    """Converts the tokens of one text to a text that reads well.

    Args:
        tokens: Integers ``(n,)``.
        format: The format of the model.

    Returns:
        The text, without padding and the special tokens that mark its ends. Spaces are put as English puts them.

    Raises:
        CourseError: The tokens are no list of integers, or one is not in the vocabulary.

    Example:
        >>> format = word_format(["Who, I?"], keep_punctuation=True, sequence_length=8)
        >>> decode(encode(["Who, I?"], format)[0], format)
        'who, i?'
    """
    numbers = np.asarray(tokens)
    size = len(format.vocabulary)
    if numbers.ndim != 1 or not (numbers.size == 0 or np.issubdtype(numbers.dtype, np.integer)):
        raise CourseError(f"tokens are {numbers.dtype} {numbers.shape}; give the integers of one text")
    if outside := [int(number) for number in numbers if not 0 <= number < size]:
        raise CourseError(f"tokens have {outside[0]}; give numbers from 0 to {size - 1}")
    found = [format.vocabulary[number] for number in numbers]
    if format.unit == WORD_PIECES:
        found = [token for token in found if token not in (PAD, START, SEPARATOR)]
        return _spaced(_joined_pieces(found))
    found = [token for token in found if token not in (PAD, END)]
    return "".join(found) if format.unit == CHARACTERS else _spaced(found)


def prefixes(sentences: Sequence[str], format: TextFormat) -> tuple[Tokens, Tokens]:
    """Returns the beginnings of sentences, and the token that follows each: the data of a recurrent language model.

    A sentence of k tokens gives k + 1 rows: its first token follows ``[END]``, and ``[END]`` follows its last. Of a
    sentence that is longer than the input, each row has the last tokens before the one to predict.

    Args:
        sentences: Sentences; one without tokens gives no row.
        format: A format of words or characters that is padded on the left.

    Returns:
        Inputs, int32 ``(n, sequence_length)``, and targets, int32 ``(n,)``.

    Raises:
        CourseError: The format has word pieces or is padded on the right, or there are no tokens.

    Example:
        >>> format = word_format(["to be"], sequence_length=4)
        >>> x, y = prefixes(["to be"], format)
        >>> x.tolist(), y.tolist()
        ([[0, 0, 0, 2], [0, 0, 2, 4], [0, 2, 4, 3]], [4, 3, 2])
    """
    if format.padding != "left":
        raise CourseError("the format is padded on the right; give one with padding='left', or use sequences")
    tokens, starts = _flat(sentences, format)
    length = format.sequence_length
    lengths = np.diff(starts)
    is_input = np.ones(len(tokens), bool)
    is_input[starts[1:] - 1] = False  # the last [END] is only a target
    places = np.flatnonzero(is_input)
    begin = np.repeat(starts[:-1], lengths - 1)
    padded = np.concatenate([np.full(length - 1, format.pad, np.int32), tokens])
    x = np.lib.stride_tricks.sliding_window_view(padded, length)[places]  # (n, sequence_length)
    x[np.arange(length) < (length - 1 - places + begin)[:, None]] = format.pad  # tokens of the sentence before
    return x, tokens[places + 1]


def sequences(
    sentences: Sequence[str], format: TextFormat, *, cut: bool = False
) -> tuple[Tokens, Tokens, npt.NDArray[np.float32]]:
    """Returns sentences, the same shifted by one token, and weights: the data of a causal language model.

    Args:
        sentences: Sentences; one without tokens gives no row.
        format: A format of words or characters that is padded on the right.
        cut: Whether to cut the end of a sentence that is too long.

    Returns:
        Inputs that begin with ``[END]``, int32 ``(n, sequence_length)``; targets of the same shape, the token after
        each, ``[END]`` after the last; weights, float32 of the same shape, 1 for a target and 0 for padding.

    Raises:
        CourseError: The format has word pieces or is padded on the left, a sentence is too long, or there are no
            tokens.

    Example:
        >>> format = word_format(["to be"], sequence_length=4, padding="right")
        >>> x, y, weights = sequences(["to be"], format)
        >>> x.tolist(), y.tolist(), weights.tolist()
        ([[2, 4, 3, 0]], [[4, 3, 2, 0]], [[1.0, 1.0, 1.0, 0.0]])
    """
    if format.padding != "right":
        raise CourseError("the format is padded on the left; give one with padding='right', or use prefixes")
    tokens, starts = _flat(sentences, format)
    lengths = np.diff(starts) - 1
    length = format.sequence_length
    if lengths.max() > length and not cut:
        longest = int(lengths.argmax())
        text = decode(tokens[starts[longest] : starts[longest + 1]], format)
        raise _too_long(text, None, int(lengths[longest]), format)
    column = np.arange(length)
    is_token = column < lengths[:, None]
    place = np.minimum(starts[:-1, None] + column, len(tokens) - 2)
    x = np.where(is_token, tokens[place], np.int32(format.pad))
    y = np.where(is_token, tokens[place + 1], np.int32(format.pad))
    return x, y, is_token.astype(np.float32)


def _with_vocabulary(
    format: TextFormat, sentences: Iterable[str], sequence_length: int | None, largest: int | None, min_count: int
) -> TextFormat:
    """Returns a format with the vocabulary and the length of some sentences."""
    check_positive(min_count=min_count)
    if largest is not None:
        check_positive(largest=largest)
    if sequence_length is not None:
        check_positive(sequence_length=sequence_length)
    texts = list(sentences) if not isinstance(sentences, str) else sentences
    _check_texts(texts, "sentences")
    counts: Counter[str] = Counter()
    longest = 0
    for tokens in _split(texts, format):
        counts.update(tokens)
        longest = max(longest, len(tokens))
    ranked = sorted(counts, key=lambda token: (-counts[token], token))
    kept = [token for token in ranked if counts[token] >= min_count]
    kept = kept if largest is None else kept[: max(0, largest - len(SPECIAL))]
    if not kept:
        raise CourseError(
            f"of {len(texts):,} sentences with {len(counts):,} different {format.unit}, none is in the vocabulary; "
            "give more sentences, a smaller min_count or a larger largest"
        )
    return TextFormat(
        **{
            **format.to_dict(),
            "vocabulary": (*SPECIAL, *kept),
            "sequence_length": longest + 1 if sequence_length is None else sequence_length,
        }
    )


def _normalized(text: str, format: TextFormat) -> str:
    """Returns a text of words or characters in one line, with ASCII's quotes and dashes, and as the format says."""
    if not text.isascii():
        text = _APOSTROPHE.sub("'", unicodedata.normalize("NFC", text).translate(_TYPOGRAPHIC))
        if format.strip_accents:
            parts = unicodedata.normalize("NFD", text)
            text = "".join(sign for sign in parts if unicodedata.category(sign) != "Mn")
    text = text.lower() if format.lowercase else text
    if not text.isprintable():
        text = "".join(sign for sign in text if sign.isspace() or unicodedata.category(sign)[0] != "C")
    return " ".join(text.split())


def _words(text: str, *, keep_punctuation: bool) -> list[str]:
    """Splits a normalized text into words, and marks if they are kept."""
    kinds = text if text.isascii() else "".join(map(_kind, text))
    places = [place.span() for place in _WORD.finditer(kinds)]
    if not keep_punctuation:
        places = [(start, end) for start, end in places if end - start > 1 or kinds[start].isalnum()]
    return [text[start:end] for start, end in places]


@lru_cache(maxsize=4096)
def _kind(sign: str) -> str:
    """Returns "w" for a sign of a word in any script; ideographs, which have no spaces, are words by themselves."""
    if sign.isascii():
        return sign
    if unicodedata.category(sign)[0] not in "LNM":
        return " " if sign.isspace() else "."
    return "\u4e00" if "CJK" in unicodedata.name(sign, "") else "w"


def _split(texts: Sequence[str], format: TextFormat) -> list[list[str]]:
    if format.unit == WORD_PIECES:
        return [encoded.tokens for encoded in _encoded(texts, _tokenizer(format))]
    if format.unit == CHARACTERS:
        return [list(_normalized(text, format)) for text in texts]
    return [_words(_normalized(text, format), keep_punctuation=format.keep_punctuation) for text in texts]


def _numbers(texts: Sequence[str], format: TextFormat) -> Iterable[list[int]]:
    """Yields the numbers of the tokens of each text, without special tokens at the ends."""
    if format.unit == WORD_PIECES:
        yield from (encoded.ids for encoded in _encoded(texts, _tokenizer(format)))
        return
    for tokens in _split(texts, format):
        yield [format.numbers.get(token, format.unknown) for token in tokens]


def _flat(sentences: Sequence[str], format: TextFormat) -> tuple[Tokens, npt.NDArray[np.int64]]:
    """Returns all tokens, with ``[END]`` at both ends of each sentence, the first place of each, and the end of all."""
    if format.unit == WORD_PIECES:
        raise CourseError("the format has word pieces; give one of words or characters for a language model")
    _check_texts(sentences, "sentences")
    found = [[format.end, *tokens, format.end] for tokens in _numbers(sentences, format) if tokens]
    if not found:
        raise CourseError(f"{len(sentences)} sentences have no {format.unit}; give some that have")
    starts = np.cumsum([0, *map(len, found)])
    return np.concatenate([np.array(tokens, np.int32) for tokens in found]), starts


def _check_texts(texts: Any, name: str = "texts") -> None:
    """Raises an error if texts are no list of texts, or one has a lone surrogate, which comes from invalid UTF-8."""
    if isinstance(texts, str | bytes) or not isinstance(texts, Sequence):
        raise CourseError(f"{name} is a {type(texts).__name__}; give a list of texts")
    for number, text in enumerate(texts):
        if not isinstance(text, str):
            remedy = "decode it, as by .decode('utf-8')" if isinstance(text, bytes) else "give a text"
            raise CourseError(f"{name}[{number}] is a {type(text).__name__}; {remedy}")
        if not text.isascii() and (found := _HALF_A_SIGN.search(text)):
            raise CourseError(
                f"{name}[{number}] has the lone surrogate {found[0]!a} at position {found.start()}, which comes "
                "from invalid UTF-8; read the text with errors='replace'"
            )


def _check_known(tokens: list[int], text: str, number: int, format: TextFormat, name: str = "texts") -> None:
    if not tokens:
        raise CourseError(f"{name}[{number}] is {_shown(text)}, which has no {format.unit}; give a text that has some")
    if all(token == format.unknown for token in tokens):
        raise CourseError(
            f"{name}[{number}] is {_shown(text)}, of which the model knows none of the {format.unit}; use other ones"
        )


def _too_long(text: str, number: int | None, length: int, format: TextFormat) -> CourseError:
    which = "a sentence" if number is None else f"texts[{number}]"
    return CourseError(
        f"{which} has {length:,} tokens ({_shown(text)}), and the model takes {format.sequence_length:,}; "
        "shorten it, or cut it by cut=True"
    )


def _shown(text: str) -> str:
    shown = printable(text)
    return f"'{shown if len(shown) <= 40 else shown[:37] + '...'}'"


def _spaced(tokens: Iterable[str]) -> str:
    """Joins words and marks as English does: no space before a comma or after an opening bracket."""
    text, is_open, is_tight = "", False, True
    for token in tokens:
        closes = token in _CLOSING or (token == '"' and is_open)
        text += token if closes or is_tight else f" {token}"
        is_tight = token in _OPENING or (token == '"' and not is_open)
        is_open ^= token == '"'
    return text


def _joined_pieces(pieces: Iterable[str]) -> list[str]:
    words: list[str] = []
    for piece in pieces:
        if piece.startswith("##") and words:
            words[-1] += piece.removeprefix("##")
        else:
            words.append(piece)
    return words


def _encoded(texts: Sequence[str], tokenizer: Any) -> list[Any]:
    return list(tokenizer.encode_batch(list(texts), add_special_tokens=False))


@lru_cache(maxsize=4)
def _tokenizer(format: TextFormat) -> Any:
    """Builds BERT's tokenizer; special tokens in a text, such as ``[MASK]``, stay whole."""
    try:
        from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
    except ImportError as error:
        raise MissingPackageError("word pieces", "tokenizers", _INSTALL) from error
    tokenizer = Tokenizer(
        models.WordPiece(
            dict(format.numbers),
            unk_token=UNKNOWN,
            continuing_subword_prefix="##",
            max_input_chars_per_word=_LONGEST_WORD,
        )
    )
    tokenizer.normalizer = normalizers.BertNormalizer(
        clean_text=True, handle_chinese_chars=True, strip_accents=format.strip_accents, lowercase=format.lowercase
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.add_special_tokens([token for token in SPECIAL_PIECES if token in format.numbers])
    return tokenizer
