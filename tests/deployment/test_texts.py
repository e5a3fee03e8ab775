"""Texts from arguments, files and the standard input: how they are read, checked, encoded and predicted."""

import io
import os
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from keras_course.cards import ModelCard
from keras_course.deployment import texts
from keras_course.deployment.runtimes import Runtime, answers_of
from keras_course.deployment.texts import Text, embed_texts, encode_text, find_texts, predict_texts
from keras_course.errors import CourseError
from keras_course.preprocessing import PictureFormat
from keras_course.preprocessing.text_format import TextFormat

VOCABULARY = ("[PAD]", "[UNK]", "[END]", "to", "be", "or", "not")
LEFT = TextFormat(unit="words", vocabulary=VOCABULARY, sequence_length=5, padding="left", keep_punctuation=False)
RIGHT = replace(LEFT, padding="right")
PIECES = TextFormat(
    unit="word pieces",
    vocabulary=("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "to", "be", "##ing"),
    sequence_length=5,
    padding="right",
)


# --- One text ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text_format", "text", "expected"),
    [
        (LEFT, "To be!", [0, 0, 2, 3, 4]),
        (RIGHT, "To be!", [2, 3, 4, 0, 0]),
        (LEFT, "  to\nbe\tor  not ", [2, 3, 4, 5, 6]),
        (RIGHT, "to whom", [2, 3, 1, 0, 0]),
        (PIECES, "Being", [2, 6, 7, 3, 0]),
    ],
)
def test_a_text_becomes_tokens(text_format, text, expected):
    encoded = encode_text(text, text_format)
    assert encoded.tokens.tolist() == expected
    assert encoded.tokens.dtype == np.int32
    assert encoded.note == ""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "text 7 is a NoneType; give a text"),
        (b"to", "text 7 is a bytes; give a text"),
        ("", "text 7 is empty; give a text"),
        (" \n\u3000\t", "text 7 is empty; give a text"),
        ("...!", "text 7 has no words; give a text that has some"),
        ("\u200b\u202e\x1b", "text 7 has no words; give a text that has some"),
        ("to\0be", "text 7 has a NUL character at position 3; give plain text"),
        ("to be \ud800", "text 7 is not valid UTF-8: it has half a character at position 7; give plain text"),
        ("\udcff", "text 7 is not valid UTF-8: it has half a character at position 1; give plain text"),
        ("to be or not to be", "text 7 has 7 tokens, and the model takes 5; shorten it, or add --cut"),
        ("a" * 10_001, "text 7 has 10,001 characters; at most 10,000 are read"),
    ],
)
@pytest.mark.parametrize("text_format", [LEFT, RIGHT])
def test_invalid_texts_are_explained_in_one_line(text_format, text, message):
    with pytest.raises(CourseError) as caught:
        encode_text(text, text_format, name="text 7", how_to_cut="add --cut")
    assert str(caught.value) == message


def test_special_tokens_alone_are_no_text():
    with pytest.raises(CourseError, match="the text has no word pieces; give a text that has some"):
        encode_text("[PAD] [SEP]", PIECES)


@pytest.mark.parametrize(
    ("text_format", "text", "expected", "count"),
    [
        (LEFT, "to be or not to be", [4, 5, 6, 3, 4], 7),
        (RIGHT, "to be or not to be", [2, 3, 4, 5, 6], 7),
        (PIECES, "to to to to be", [2, 5, 5, 5, 3], 7),
    ],
)
def test_a_long_text_is_cut_on_request_with_a_note(text_format, text, expected, count):
    encoded = encode_text(text, text_format, cut=True)
    assert encoded.tokens.tolist() == expected
    assert encoded.note == f"of its {count} tokens the model takes 5"
    assert encode_text("to be", text_format, cut=True).note == ""


@pytest.mark.parametrize(
    ("text_format", "unit", "expected"), [(LEFT, "words", [0, 0, 2, 1, 1]), (PIECES, "word pieces", [2, 1, 1, 3, 0])]
)
def test_a_text_of_unknown_words_gets_a_note(text_format, unit, expected):
    encoded = encode_text("quid novi", text_format)
    assert encoded.tokens.tolist() == expected
    assert encoded.note == f"the model knows none of its {unit}"
    both = encode_text("a b c d e f g", text_format, cut=True).note
    assert both == f"of its {8 if text_format is LEFT else 9} tokens the model takes 5; {encoded.note}"


def test_random_texts_are_encoded_or_refused_in_one_line():
    random = np.random.default_rng(0)
    signs = "to be\0\n\r\x1b\x7f\x85\u200d\u0301ﬁ手😀\ud83d\ue000\ufffe\U0010ffffß[]#'\"-"
    for _ in range(500):
        text = "".join(random.choice(list(signs), random.integers(0, 40)))
        for text_format in (LEFT, RIGHT, PIECES):
            explanation, tokens = "", np.zeros(5, "int32")
            try:
                tokens = encode_text(text, text_format, cut=True).tokens
            except CourseError as error:
                explanation = str(error)
            assert "\n" not in explanation
            assert tokens.shape == (5,)
            assert 0 <= tokens.min() <= tokens.max() < len(text_format.vocabulary)


# --- Files and lines -----------------------------------------------------------------------------------------------


def test_arguments_are_texts_files_and_the_standard_input(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfto be\r\n\n   \nor not")
    name = str(tmp_path / "a.txt")
    found = find_texts(["To be.", name, "-"], io.BytesIO(b"piped\n\nlines"))
    assert found == [
        Text("text 1", "To be."),
        Text(f"{name}, line 1", "to be"),
        Text(f"{name}, line 4", "or not"),
        Text("standard input, line 1", "piped"),
        Text("standard input, line 3", "lines"),
    ]


def test_a_line_that_is_no_utf_8_does_not_stop_the_others(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"to be\nto \xff be\nor not\n")
    good, bad, last = find_texts([str(tmp_path / "a.txt")])
    assert (good.content, last.content) == ("to be", "or not")
    assert bad.error == f"{tmp_path / 'a.txt'}, line 2 is not valid UTF-8 (byte 4); save the file as UTF-8"


def test_a_line_of_200_mib_needs_little_memory(tmp_path):
    path = tmp_path / "long.txt"
    with path.open("wb") as file:
        file.write(b"to be\n")
        file.truncate(200 * 2**20)  # a line of NUL characters
        file.seek(0, 2)
        file.write(b"\nor not\n")
    tracemalloc.start()
    first, long, last = find_texts([str(path)])
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (first.content, last.content) == ("to be", "or not")
    assert long.error == f"{path}, line 2 has more than 40,000 bytes; give shorter texts"
    assert most < 8 * 2**20


def test_too_much_text_is_refused(tmp_path, monkeypatch):
    (tmp_path / "a.txt").write_text("to be\n" * 20)
    monkeypatch.setattr(texts, "MOST_TEXTS", 20)
    assert len(find_texts([str(tmp_path / "a.txt")])) == 20
    with pytest.raises(CourseError, match="there are more than 20 texts; give fewer at a time"):
        find_texts([str(tmp_path / "a.txt"), "one more"])
    monkeypatch.setattr(texts, "MOST_BYTES", 119)
    with pytest.raises(CourseError, match=r"a.txt has more than 119 bytes of text; give less at a time"):
        find_texts([str(tmp_path / "a.txt")])


def test_unreadable_files_are_explained(tmp_path):
    (tmp_path / "folder.txt").mkdir()
    (tmp_path / "empty.txt").write_text("\n \n")
    for name, message in {
        "nowhere.txt": "nowhere.txt cannot be read: No such file or directory; give a text file",
        "folder.txt": "folder.txt is not a file; give a text file",
        "empty.txt": "empty.txt has no text; give one in each line",
        "a\0.txt": ".txt cannot be read: .*; give a text file",
        "n" * 5000 + ".txt": "cannot be read: File name too long; give a text file",
    }.items():
        with pytest.raises(CourseError, match=message):
            find_texts([str(tmp_path / name)])
    with pytest.raises(CourseError, match="the standard input has no text; give one in each line"):
        find_texts(["-"], io.BytesIO(b""))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes in folders here")
def test_a_pipe_is_refused_without_opening_it(tmp_path):
    os.mkfifo(tmp_path / "pipe.txt")
    with pytest.raises(CourseError, match=r"pipe.txt is not a file"):
        find_texts([str(tmp_path / "pipe.txt")])


# --- Predictions -------------------------------------------------------------------------------------------------


def counting(text_format, is_sequence=False):
    """A language model that says "to" after an odd token and "be" after an even one, or so at each position."""
    sizes = []

    def run(tokens):
        sizes.append(len(tokens))
        known = np.zeros((*tokens.shape, len(VOCABULARY)), "float32")
        known[..., 3], known[..., 4] = tokens % 2, 1 - tokens % 2
        if is_sequence:
            return known
        assert text_format.padding == "left"
        return known[:, -1]

    card = ModelCard(title="Counts", text_format=text_format)
    return Runtime(Path("model.onnx"), "onnx", "Nothing 1.0", card, run), sizes


@pytest.mark.parametrize(("text_format", "is_sequence"), [(LEFT, False), (LEFT, True), (RIGHT, True)])
def test_each_text_is_answered_by_what_follows_its_last_token(text_format, is_sequence):
    runtime, sizes = counting(text_format, is_sequence)
    given = ["to", "to be", "to be or", "to be or not", "", "not be", "to be or not to"]
    found = list(predict_texts(runtime, given, top=1, batch_size=3))
    expected = ["to", "be", "to", "be", None, "be", None]  # the last tokens are 3, 4, 5, 6, none, 4, none
    assert [prediction.answers and prediction.answers[0].class_name for prediction in found] == [
        name or () for name in expected
    ]
    assert [prediction.name for prediction in found] == given
    assert {prediction.kind for prediction in found} == {"text"}
    assert found[4].error == "text 5 is empty; give a text"
    assert found[6].error == "text 7 has 6 tokens, and the model takes 5; shorten it, or give cut=True"
    assert sizes == [3, 2]
    (cut,) = predict_texts(runtime, given[6:], top=1, cut=True)
    assert cut.answers[0].class_name == ("to" if text_format is LEFT else "be")
    assert cut.note == "of its 6 tokens the model takes 5"


def test_an_unreadable_line_is_a_prediction_with_an_error():
    runtime, _ = counting(LEFT)
    bad, good = predict_texts(runtime, [Text("a.txt, line 1", "to \ufffd", "a.txt, line 1 is bad"), Text("b", "to")])
    assert (bad.name, bad.error, bad.answers) == ("to \ufffd", "a.txt, line 1 is bad", ())
    assert good.answers


def test_invalid_arguments_and_picture_models_are_explained():
    runtime, _ = counting(LEFT)
    for changes in ({"top": 0}, {"batch_size": 0}):
        with pytest.raises(CourseError, match="is 0; give a whole number from 1 up"):
            list(predict_texts(runtime, ["to"], **changes))
    assert list(predict_texts(runtime, [])) == []
    pictures = ModelCard(
        title="Signs", class_names=tuple("abc"), picture_format=PictureFormat(height=8, width=8, channels=1)
    )
    with pytest.raises(CourseError, match="'Signs' takes pictures, and texts are given; give a model for texts"):
        list(predict_texts(replace(runtime, card=pictures), ["to"]))


def test_tokens_are_checked_before_the_model_runs():
    runtime, sizes = counting(LEFT)
    for tokens, message in [
        (np.zeros((2, 4), "int32"), r"tokens have the shape \(2, 4\); give \(n, 5\)"),
        (np.zeros((2, 5), "float32"), "tokens are float32; give integers"),
        (np.full((2, 5), 7), "tokens are from 7 to 7; give numbers from 0 to 6"),
        (np.full((2, 5), -1), "tokens are from -1 to -1; give numbers from 0 to 6"),
    ]:
        with pytest.raises(CourseError, match=message):
            runtime.logits(tokens)
    assert not sizes
    assert runtime.logits(np.zeros((2, 5), "int64")).shape == (2, 7)


def test_the_answer_is_taken_after_the_last_token_before_the_padding():
    logits = np.arange(2 * 5 * 7, dtype="float32").reshape(2, 5, 7)
    tokens = np.array([[2, 3, 0, 4, 0], [0, 0, 0, 0, 0]])
    right, left = (ModelCard(title="a", text_format=text_format) for text_format in (RIGHT, LEFT))
    np.testing.assert_array_equal(answers_of(logits, tokens, right), [logits[0, 3], logits[1, 0]])
    np.testing.assert_array_equal(answers_of(logits, tokens, left), logits[:, -1])
    classes = ModelCard(title="a", class_names=VOCABULARY[::-1], text_format=RIGHT)
    assert answers_of(logits, tokens, classes) is logits, "a model that tells classes apart gives no logits of tokens"


def test_logits_of_an_embedding_model_are_refused():
    card = ModelCard(title="Vectors", class_names=["0", "1"], text_format=LEFT, outputs="embedding")
    runtime = Runtime(Path("a.onnx"), "onnx", "Nothing", card, lambda tokens: np.ones((len(tokens), 2), "float32"))
    tokens = np.zeros((3, 5), "int32")
    assert runtime.outputs(tokens).shape == (3, 2)
    with pytest.raises(CourseError, match=r"a.onnx gives embeddings, and no classes; use Runtime.outputs"):
        runtime.logits(tokens)


def counting_embeddings(any_length):
    """A model whose vectors are the sum of the tokens and their number; it remembers the shapes of its batches."""
    shapes = []

    def run(tokens):
        shapes.append(tokens.shape)
        return np.stack([tokens.sum(axis=1), (tokens != 0).sum(axis=1)], axis=1).astype("float32")

    card = ModelCard(title="Vectors", class_names=["0", "1"], text_format=RIGHT, outputs="embedding")
    return Runtime(Path("a.onnx"), "onnx", "Nothing", card, run, any_length=any_length), shapes


@pytest.mark.parametrize(
    ("any_length", "expected"), [(True, [(2, 5), (2, 3), (1, 2)]), (False, [(2, 5), (2, 5), (1, 5)])]
)
def test_texts_of_similar_length_are_embedded_together(any_length, expected):
    runtime, shapes = counting_embeddings(any_length)
    vectors = embed_texts(runtime, ["to", "to be or not", "be or", "or not to be", "not be"], batch_size=2)
    assert vectors.tolist() == [[5, 2], [20, 5], [11, 3], [20, 5], [12, 3]]
    assert vectors.dtype == np.float32
    assert shapes == expected


def test_invalid_arguments_of_embed_texts_are_explained():
    runtime, _ = counting_embeddings(True)
    assert embed_texts(runtime, []).shape == (0, 2)
    with pytest.raises(CourseError, match="text 2 is empty; give a text"):
        embed_texts(runtime, ["to", ""])
    with pytest.raises(CourseError, match="text 1 has 7 tokens, and the model takes 5; shorten it, or give cut=True"):
        embed_texts(runtime, ["to be or not to be"])
    assert embed_texts(runtime, ["to be or not to be"], cut=True).tolist() == [[20, 5]]
    classes, _ = counting(LEFT)
    with pytest.raises(CourseError, match=r"model.onnx gives classes, and no embeddings; use predict_texts"):
        embed_texts(classes, ["to"])
