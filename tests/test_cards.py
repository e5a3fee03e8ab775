"""What a model says about itself: it comes back as it was written, and is not believed blindly."""

import json
import zipfile

import pytest

from keras_course.cards import ModelCard, put_card, read_card
from keras_course.errors import CourseError
from keras_course.preprocessing import PictureFormat

CARD = ModelCard(
    title="Fruit: 「fresh」 or rotten",
    class_names=["fresh", "rotten", "ß"],
    pictures=PictureFormat(height=20, width=30, channels=3, resize="pad", background=7),
    data="none",
    limits="none",
    licence="CC0",
    metrics={"accuracy": 0.75, "loss": 1},
    training={"seed": 3, "versions": {"keras": "3.15"}},
)
FIELDS = json.loads(CARD.to_json())


def test_a_card_comes_back_as_it_was_written(tmp_path):
    assert ModelCard.from_json(CARD.to_json()) == CARD
    assert ModelCard.from_json(CARD.to_json().encode()) == CARD
    assert CARD.class_names == ("fresh", "rotten", "ß")
    for number in range(2):
        with zipfile.ZipFile(tmp_path / f"{number}.zip", "w") as archive:
            archive.writestr(zipfile.ZipInfo("other.txt"), "something else")
        put_card(tmp_path / f"{number}.zip", CARD)
        assert read_card(tmp_path / f"{number}.zip") == CARD
    assert (tmp_path / "0.zip").read_bytes() == (tmp_path / "1.zip").read_bytes()


def test_a_card_may_be_behind_a_file_or_in_a_folder(tmp_path):
    (tmp_path / "model.bin").write_bytes(bytes(range(256)))
    put_card(tmp_path / "model.bin", CARD)
    assert (tmp_path / "model.bin").read_bytes()[:256] == bytes(range(256))
    assert read_card(tmp_path / "model.bin") == CARD
    (tmp_path / "folder").mkdir()
    put_card(tmp_path / "folder", CARD)
    assert read_card(tmp_path / "folder") == CARD


def test_without_a_card_there_is_none(tmp_path):
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
        ({"class_names": "ab"}, "class_names is no list"),
        ({"class_names": [str(number) for number in range(100_001)]}, "class_names has 100001 entries"),
        ({"metrics": {"accuracy": "high"}}, r"metrics\['accuracy'\] is 'high'; give a number"),
        ({"metrics": {"accuracy": float("nan")}}, "is nan; give a number"),
        ({"metrics": [1]}, "metrics"),
        ({"training": "long"}, "training is a str"),
        ({"pictures": None}, "cannot be read"),
        ({"pictures": {"height": 28}}, "cannot be read"),
        ({"pictures": {**FIELDS["pictures"], "height": "28"}}, "height is '28'"),
        ({"pictures": {**FIELDS["pictures"], "height": 10**6}}, "height or width is 1000000"),
        ({"pictures": {**FIELDS["pictures"], "program": "x"}}, "cannot be read"),
        ({"version": 2}, "is of version 2; install a newer keras-course"),
        ({"version": None}, "is of version None"),
        ({"surprise": 1}, "cannot be read"),
    ],
)
def test_a_wrong_field_is_explained(changes, message):
    with pytest.raises(CourseError, match=message):
        ModelCard.from_json(json.dumps({**FIELDS, **changes}))


@pytest.mark.parametrize("name", ["title", "class_names", "pictures", "version"])
def test_a_missing_field_is_explained(name):
    with pytest.raises(CourseError, match="the model's card cannot be read"):
        ModelCard.from_json(json.dumps({key: value for key, value in FIELDS.items() if key != name}))


@pytest.mark.parametrize("text", ["", "no JSON", "[]", "null", "[" * 100_000, b"\xff\xfe", "1"])
def test_what_is_no_card_is_explained(text):
    with pytest.raises(CourseError, match="the model's card cannot be read"):
        ModelCard.from_json(text)


def test_a_card_that_is_too_large_is_not_read(tmp_path):
    with pytest.raises(CourseError, match="bytes; at most 2,097,152 are read"):
        ModelCard.from_json(" " * (2**21 + 1))
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("card.json", " " * 2**28)
    with pytest.raises(CourseError, match="at most 2,097,152 are read"):
        read_card(tmp_path / "bomb.zip")
