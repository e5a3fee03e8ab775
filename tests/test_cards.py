"""Model cards: writing, reading, and checking."""

import json
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_course.cards import ModelCard, card_by_shapes, put_card, read_card
from keras_course.errors import CourseError
from keras_course.preprocessing import PictureFormat
from keras_course.preprocessing.text_format import TextFormat

CARD = ModelCard(
    title="Fruit: 「fresh」 or rotten",
    class_names=["fresh", "rotten", "ß"],
    picture_format=PictureFormat(height=20, width=30, channels=3, resize="pad", background=7),
    data="none",
    limits="none",
    license="CC0",
    metrics={"accuracy": 0.75, "loss": 1},
    training={"seed": 3, "versions": {"keras": "3.15"}},
)
FIELDS = json.loads(CARD.to_json())
WORD_FORMAT = TextFormat(
    unit="words",
    vocabulary=("[PAD]", "[UNK]", "[END]", "große", "「words」", '"'),
    sequence_length=8,
    padding="left",
    keep_punctuation=False,
)
TEXT_CARD = ModelCard(title="Cheerful or sad", class_names=("cheerful", "sad"), text_format=WORD_FORMAT)
LANGUAGE_CARD = ModelCard(title="Next word", text_format=WORD_FORMAT)
"""The card of a language model, whose classes are the tokens of its vocabulary."""


def test_a_card_is_read_as_it_was_written(tmp_path):
    assert ModelCard.from_json(CARD.to_json()) == CARD
    assert ModelCard.from_json(CARD.to_json().encode()) == CARD
    assert CARD.class_names == ("fresh", "rotten", "ß")
    for number in range(2):
        with zipfile.ZipFile(tmp_path / f"{number}.zip", "w") as archive:
            archive.writestr(zipfile.ZipInfo("other.txt"), "something else")
        put_card(tmp_path / f"{number}.zip", CARD)
        assert read_card(tmp_path / f"{number}.zip") == CARD
    assert (tmp_path / "0.zip").read_bytes() == (tmp_path / "1.zip").read_bytes()


def test_a_card_can_be_in_a_file_or_in_a_folder(tmp_path):
    (tmp_path / "model.bin").write_bytes(bytes(range(256)))
    put_card(tmp_path / "model.bin", CARD)
    assert (tmp_path / "model.bin").read_bytes()[:256] == bytes(range(256))
    assert read_card(tmp_path / "model.bin") == CARD
    (tmp_path / "folder").mkdir()
    put_card(tmp_path / "folder", CARD)
    assert read_card(tmp_path / "folder") == CARD


def test_numpy_values_and_mappings_are_stored_as_json_values():
    """NumPy numbers, tuples and other mappings are converted when the card is made, so JSON does not change it."""
    versions = {"keras": "3.15"}
    card = ModelCard(
        title="numbers",
        class_names=np.array(["a", "b"]),
        picture_format=PictureFormat(height=np.int64(20), width=30, channels=1),
        metrics={"accuracy": np.float32(0.5), "loss": np.float64(0.25), "right": np.int64(7)},
        training={"seed": np.int32(3), "sizes": (1, 2), "versions": versions, "best": None, "early": True},
    )
    versions["keras"] = "changed later"
    assert ModelCard.from_json(card.to_json()) == card
    fields = json.loads(card.to_json())
    assert fields["metrics"] == {"accuracy": 0.5, "loss": 0.25, "right": 7}
    expected = {"seed": 3, "sizes": [1, 2], "versions": {"keras": "3.15"}, "best": None, "early": True}
    assert fields["training"] == expected


WORDS = st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=20)


@settings(max_examples=50, deadline=None)
@given(
    title=WORDS,
    names=st.lists(WORDS, min_size=1, max_size=5, unique=True),
    metrics=st.dictionaries(WORDS, st.floats(-1e9, 1e9) | st.integers(-9, 9), max_size=3),
    training=st.dictionaries(WORDS, st.none() | st.booleans() | WORDS | st.lists(st.integers(0, 9), max_size=2)),
)
def test_any_card_is_equal_after_json(title, names, metrics, training):
    card = ModelCard(
        title=title,
        class_names=names,
        picture_format=CARD.picture_format,
        metrics=metrics,
        training=training,
        data="two\nlines",
    )
    assert ModelCard.from_json(card.to_json().encode()) == card


@pytest.mark.parametrize(
    ("takes", "gives"),
    [
        ((None, 20, 30, 3), (None, 3)),
        ((1, 20, 30, 3), (1, 3)),
        ((None, None, None, 3), (None, None)),
        (None, None),
        ([None, 20, 30, 3], None),
    ],
)
def test_a_card_is_accepted_for_a_model_of_its_shapes(takes, gives):
    CARD.check_model("the model", takes, gives)


@pytest.mark.parametrize(
    ("takes", "gives", "message"),
    [
        ((None, 20, 30, 1), (None, 3), "takes pictures 20 × 30 × 1, and its card says 20 × 30 × 3"),
        ((None, 30, 20, 3), None, "takes pictures 30 × 20 × 3, and"),
        ((None, None, None, 1), (None, 3), "takes pictures any × any × 1, and"),
        ((None, 1800), (None, 3), "takes pictures 1800, and"),
        ((None, 20, 30, 3), (None, 4), "gives 4 numbers for a picture, and its card names 3 classes"),
        (None, (None, 20, 3), "gives 20 × 3 numbers for a picture"),
        (None, (None,), "gives 1 numbers for a picture"),
    ],
)
def test_a_card_of_another_model_is_refused(takes, gives, message):
    with pytest.raises(CourseError, match=f"^its.onnx {message}.*; give it a card of its own$"):
        CARD.check_model("its.onnx", takes, gives)


def description(first, *layers):
    return json.dumps({"config": {"layers": [{"class_name": "InputLayer", "config": first}, *layers]}})


def dense(units):
    return {"class_name": "Dense", "config": {"units": units}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (description({"batch_shape": [None, 20, 30, 3]}, dense(7), dense(3)), None),
        (description({"batch_shape": [None, 20, 30, 3]}, dense(7), {"class_name": "Softmax", "config": {}}), None),
        (description({}), None),
        (json.dumps({"config": {"name": "a model of somebody's own"}}), None),
        (description({"batch_shape": [None, 28, 28, 1]}, dense(3)), "takes pictures 28 × 28 × 1"),
        (description({"batch_shape": [None, 20, 30, 3]}, dense(3), dense(4)), "gives 4 numbers"),
    ],
)
def test_put_card_refuses_a_model_of_other_shapes(tmp_path, text, message):
    with zipfile.ZipFile(tmp_path / "model.keras", "w") as archive:
        archive.writestr("config.json", text)
    if message is None:
        put_card(tmp_path / "model.keras", CARD)
        assert read_card(tmp_path / "model.keras") == CARD
    else:
        with pytest.raises(CourseError, match=f"^the model {message}"):
            put_card(tmp_path / "model.keras", CARD)
        assert read_card(tmp_path / "model.keras") is None


def test_read_card_returns_none_without_a_card(tmp_path):
    with zipfile.ZipFile(tmp_path / "bare.zip", "w") as archive:
        archive.writestr("config.json", "{}")
    assert read_card(tmp_path / "bare.zip") is None
    (tmp_path / "text").write_text("no archive")
    with pytest.raises(CourseError, match="text is no model file"):
        read_card(tmp_path / "text")
    with pytest.raises(CourseError, match=r"there is no .*; give a run folder or the file of a model"):
        read_card(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"title": 5}, "title is '5'; give a text"),
        ({"data": "x" * 10_001}, "data is 'x+'; give a text of at most 10,000"),
        ({"class_names": []}, "class_names has 0 entries"),
        ({"class_names": ["a", "a"]}, "class_names has a name twice"),
        ({"class_names": ["a", 1]}, r"class_names\[1\] is '1'"),
        ({"class_names": "ab"}, "class_names is 'ab'; give a list of names"),
        ({"class_names": [str(number) for number in range(100_001)]}, "class_names has 100001 entries"),
        ({"metrics": {"accuracy": "high"}}, r"metrics\['accuracy'\] is 'high'; give a number"),
        ({"metrics": {"accuracy": float("nan")}}, "is nan; give a number"),
        ({"class_names": {"a": 1, "b": 2}}, "class_names is {'a': 1, 'b': 2}; give a list of names"),
        ({"class_names": 3}, "class_names is 3; give a list of names"),
        ({"title": "\x1b[2J"}, r"title has the character '\\x1b'; give a text that can be printed"),
        ({"class_names": ["a", "b\rc"]}, r"class_names\[1\] has the character '\\r'"),
        ({"limits": "\ud800"}, r"limits has the character '\\ud800'"),
        ({"metrics": {"accuracy": float("inf")}}, r"metrics\['accuracy'\] is inf; give a number"),
        ({"metrics": {"accuracy": True}}, "is True; give a number"),
        ({"metrics": {"accuracy": 10**400}}, "is 10+; give a number"),
        ({"metrics": [1]}, "metrics is a list; give values by their names"),
        ({"training": "long"}, "training is a str"),
        ({"training": {"loss": float("nan")}}, r"training\['loss'\] is nan; give a number, a text"),
        ({"training": {"a": {"b": {"c": {"d": {}}}}}}, r"training\['a'\]\['b'\]\['c'\]\['d'\] is {}"),
        ({"training": {"\x07": 1}}, r"a name in training has the character '\\x07'"),
        ({"training": {"seconds": 10**400}}, r"training\['seconds'\] is 10+; give a number"),
        ({"picture_format": None}, "cannot be read"),
        ({"picture_format": {"height": 28}}, "cannot be read"),
        ({"picture_format": {**FIELDS["picture_format"], "height": "28"}}, "height is '28'"),
        ({"picture_format": {**FIELDS["picture_format"], "height": 10**6}}, "height or width is 1000000"),
        ({"picture_format": {**FIELDS["picture_format"], "program": "x"}}, "cannot be read"),
        ({"version": 2}, "is of version 2; install a newer keras-course"),
        ({"version": None}, "is of version None"),
        ({"surprise": 1}, "cannot be read"),
    ],
)
def test_a_wrong_field_is_explained(changes, message):
    with pytest.raises(CourseError, match=message):
        ModelCard.from_json(json.dumps({**FIELDS, **changes}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"training": {"optimizer": object()}}, r"training\['optimizer'\] is <object object at .*; give a number"),
        ({"training": {1: "one"}}, "training is {1: 'one'}; give a number, a text, or a few of them by their names"),
        ({"picture_format": {"height": 28}}, "picture_format is a dict; give a PictureFormat"),
        ({"class_names": [f"{number:09000}" for number in range(500)]}, "the model's card has 4,[0-9,]+ bytes"),
    ],
)
def test_an_unreadable_card_is_not_written(tmp_path, changes, message):
    settings = {"title": "a", "class_names": ["a"], "picture_format": CARD.picture_format, **changes}
    with pytest.raises(CourseError, match=message):
        put_card(tmp_path, ModelCard(**settings))
    assert not list(tmp_path.iterdir())


def test_old_field_names_are_accepted():
    fields = json.loads(CARD.to_json())
    old = {**fields, "pictures": fields["picture_format"], "licence": fields["license"]}
    del old["picture_format"], old["license"]
    assert ModelCard.from_json(json.dumps(old)) == CARD
    with pytest.raises(CourseError, match="cannot be read"):  # ambiguous: both fields are given
        ModelCard.from_json(json.dumps({**fields, "pictures": {**fields["picture_format"], "height": 7}}))
    with pytest.raises(CourseError, match="cannot be read"):
        ModelCard.from_json(json.dumps({**fields, "licence": "MIT"}))


@pytest.mark.parametrize("name", ["title", "class_names", "picture_format", "version"])
def test_a_missing_field_is_explained(name):
    with pytest.raises(CourseError, match="the model's card cannot be read"):
        ModelCard.from_json(json.dumps({key: value for key, value in FIELDS.items() if key != name}))


@pytest.mark.parametrize("text", ["", "no JSON", "[]", "null", "[" * 100_000, b"\xff\xfe", "1"])
def test_invalid_cards_are_explained(text):
    with pytest.raises(CourseError, match="the model's card cannot be read"):
        ModelCard.from_json(text)


def test_too_large_a_card_is_not_read(tmp_path):
    with pytest.raises(CourseError, match="bytes; at most 4,194,304 are read"):
        ModelCard.from_json(" " * (2**22 + 1))
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("card.json", " " * 2**28)
    with pytest.raises(CourseError, match="at most 4,194,304 are read"):
        read_card(tmp_path / "bomb.zip")


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_card_with_unusual_compression_is_not_read(tmp_path, method):
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", method) as archive:
        archive.writestr("card.json", CARD.to_json())
    with pytest.raises(CourseError, match=r"bomb\.zip: its card\.json is compressed in an unusual way"):
        read_card(tmp_path / "bomb.zip")


def test_a_damaged_archive_gives_the_card_or_an_error(tmp_path):
    with zipfile.ZipFile(tmp_path / "good.zip", "w") as archive:
        archive.writestr("config.json", "{}")
    put_card(tmp_path / "good.zip", CARD)
    good = (tmp_path / "good.zip").read_bytes()
    random, explained = np.random.default_rng(0), 0
    for _ in range(300):
        content = bytearray(good)
        for place in random.integers(0, len(good), 3):
            content[place] = random.integers(0, 256)
        (tmp_path / "bad.zip").write_bytes(content)
        try:
            assert read_card(tmp_path / "bad.zip") in (None, CARD)
        except CourseError:
            explained += 1
    assert explained > 100


def test_a_card_from_shapes_is_for_classifiers_of_pictures():
    card = card_by_shapes((None, 224, 224, 3), (None, 3))
    assert (card.picture_format.shape, card.class_names) == ((224, 224, 3), ("0", "1", "2"))
    for takes, gives in [((None, 10), (None, 3)), ((None, 8, 8, 3), None)]:
        with pytest.raises(CourseError, match=r"^the model (takes|gives) "):
            card_by_shapes(takes, gives)


# --- Texts -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("card", [TEXT_CARD, LANGUAGE_CARD])
def test_a_text_card_is_read_as_it_was_written(tmp_path, card):
    put_card(tmp_path, card)
    found = read_card(tmp_path)
    assert found == card
    assert found.text_format == WORD_FORMAT
    assert found.is_language_model == (card is LANGUAGE_CARD)
    assert (found.kind, found.shape, found.numbers) == ("text", (8,), len(card.class_names))
    assert "picture_format" not in json.loads(found.to_json())


def test_the_vocabulary_of_a_language_model_is_written_once():
    assert LANGUAGE_CARD.class_names == WORD_FORMAT.vocabulary
    named = ModelCard(title="Next word", class_names=list(WORD_FORMAT.vocabulary), text_format=WORD_FORMAT)
    assert named == LANGUAGE_CARD
    for card in (LANGUAGE_CARD, named):
        fields = json.loads(card.to_json())
        assert "class_names" not in fields
        assert fields["text_format"]["vocabulary"] == list(WORD_FORMAT.vocabulary)
    assert json.loads(TEXT_CARD.to_json())["class_names"] == ["cheerful", "sad"]


@pytest.mark.parametrize(("alphabet", "count"), [("abcdefghij", 100_000), ("абвгдежзий", 60_000)])
def test_a_large_vocabulary_fits(tmp_path, alphabet, count):
    """BERT's has 30,522 pieces; the words of a large text in an alphabet of two bytes a letter fit, too."""
    words = ["".join(alphabet[int(digit)] for digit in f"{number:09}") for number in range(count)]
    vocabulary = ("[PAD]", "[UNK]", "[END]", *words)
    large = TextFormat(unit="words", vocabulary=vocabulary, sequence_length=28, padding="left")
    card = ModelCard(title="Next word", text_format=large)
    put_card(tmp_path, card)
    assert read_card(tmp_path) == card


def test_too_large_a_vocabulary_is_refused():
    vocabulary = ("[PAD]", "[UNK]", "[END]", *(f"{number:0400}" for number in range(11_000)))
    large = TextFormat(unit="words", vocabulary=vocabulary, sequence_length=28, padding="left")
    with pytest.raises(CourseError, match=r"the model's card has 4,[0-9,]+ bytes; at most 4,194,304 are read"):
        ModelCard(title="Next word", text_format=large).to_json()


@pytest.mark.parametrize(
    ("formats", "message"),
    [
        ({}, "the card has neither of picture_format and text_format; give exactly one of them"),
        (
            {"picture_format": CARD.picture_format, "text_format": WORD_FORMAT},
            "the card has both of picture",
        ),
        ({"text_format": WORD_FORMAT.to_dict()}, "text_format is a dict; give a TextFormat"),
        ({"text_format": CARD.picture_format}, "text_format is a PictureFormat; give a TextFormat"),
    ],
)
def test_a_card_has_exactly_one_format(formats, message):
    with pytest.raises(CourseError, match=f"^{message}"):
        ModelCard(title="a", class_names=("a", "b"), **formats)


TEXT_FIELDS = json.loads(TEXT_CARD.to_json())
WITHOUT_FORMAT = {name: value for name, value in TEXT_FIELDS.items() if name != "text_format"}


@pytest.mark.parametrize(
    "fields",
    [
        WITHOUT_FORMAT,
        {**TEXT_FIELDS, "text_format": None},
        {**TEXT_FIELDS, "picture_format": FIELDS["picture_format"]},
        {**TEXT_FIELDS, "text_format": {**TEXT_FIELDS["text_format"], "sequence_length": 0}},
        {**TEXT_FIELDS, "text_format": {**TEXT_FIELDS["text_format"], "vocabulary": "[PAD]"}},
        {**TEXT_FIELDS, "text_format": {**TEXT_FIELDS["text_format"], "vocabulary": ["a", 1]}},
        {**TEXT_FIELDS, "text_format": {**TEXT_FIELDS["text_format"], "program": "rm"}},
        {**TEXT_FIELDS, "text_format": [1]},
    ],
)
def test_invalid_formats_are_explained(fields):
    with pytest.raises(CourseError, match=r"^the model's card cannot be read: "):
        ModelCard.from_json(json.dumps(fields))


def test_a_picture_card_has_the_same_fields_as_before():
    """Older versions of the course read it."""
    assert list(FIELDS) == [
        *("title", "class_names", "picture_format", "data", "limits", "license", "metrics", "training", "version")
    ]


def test_a_missing_format_is_explained():
    assert CARD.required_picture_format() is CARD.picture_format
    assert TEXT_CARD.required_text_format() is WORD_FORMAT
    with pytest.raises(CourseError, match=r"^'Cheerful or sad' takes texts, and pictures are given"):
        TEXT_CARD.required_picture_format()
    with pytest.raises(CourseError, match=r"^'Fruit: .* takes pictures, and texts are given"):
        CARD.required_text_format()


@pytest.mark.parametrize(
    ("card", "takes", "gives", "input_type"),
    [
        (TEXT_CARD, (None, 8), (None, 2), "int32"),
        (TEXT_CARD, (None, None), (None, 2), "int64"),
        (TEXT_CARD, None, None, None),
        (LANGUAGE_CARD, (None, 8), (None, 6), "int32"),
        (LANGUAGE_CARD, (None, 8), (None, 8, 6), "int32"),
        (LANGUAGE_CARD, (None, 8), (None, None, 6), None),
    ],
)
def test_a_text_card_is_accepted_for_a_model_of_its_shapes(card, takes, gives, input_type):
    card.check_model("the model", takes, gives, input_type)


@pytest.mark.parametrize(
    ("card", "takes", "gives", "input_type", "message"),
    [
        (TEXT_CARD, (None, 9), (None, 2), "int32", "takes tokens 9, and its card says 8"),
        (TEXT_CARD, (None, 28, 28, 1), (None, 2), "float32", "takes tokens 28 × 28 × 1, and its card says 8"),
        (TEXT_CARD, (None, 8), (None, 3), "int32", "gives 3 numbers for a text, and its card names 2 classes"),
        (TEXT_CARD, (None, 8), (None, 8, 2), "int32", "gives 8 × 2 numbers for a text, and its card names 2 classes"),
        (LANGUAGE_CARD, (None, 8), (None, 7), "int32", "gives 7 numbers for a text, and its card names 6 classes"),
        (TEXT_CARD, (None, 8), (None, 2), "float32", "takes float32, and the tokens of texts are integers; build it"),
        (CARD, (None, 8), (None, 3), "int32", "takes pictures 8, and its card says 20 × 30 × 3"),
    ],
)
def test_a_card_of_another_text_model_is_refused(card, takes, gives, input_type, message):
    with pytest.raises(CourseError, match=f"^its.onnx {message}"):
        card.check_model("its.onnx", takes, gives, input_type)


@pytest.mark.parametrize(("dtype", "message"), [("int32", None), ("float32", "takes float32, and the tokens")])
def test_put_card_refuses_a_text_model_that_takes_floats(tmp_path, dtype, message):
    with zipfile.ZipFile(tmp_path / "model.keras", "w") as archive:
        archive.writestr("config.json", description({"batch_shape": [None, 8], "dtype": dtype}, dense(2)))
    if message is None:
        put_card(tmp_path / "model.keras", TEXT_CARD)
        assert read_card(tmp_path / "model.keras") == TEXT_CARD
    else:
        with pytest.raises(CourseError, match=message):
            put_card(tmp_path / "model.keras", TEXT_CARD)


def test_with_activation_keeps_embeddings():
    card = ModelCard(title="Vectors", class_names=["0", "1"], text_format=WORD_FORMAT, outputs="embedding")
    assert ModelCard.from_json(card.to_json()) == card
    assert card.with_activation("softmax").outputs == card.with_activation(None).outputs == "embedding"
    assert TEXT_CARD.with_activation("softmax").outputs == "softmax"
    assert TEXT_CARD.with_activation(None).outputs == "logits"


def test_an_unknown_kind_of_output_is_refused():
    with pytest.raises(CourseError, match=r"outputs is 'odds'; give one of logits, softmax, sigmoid"):
        replace(CARD, outputs="odds")
