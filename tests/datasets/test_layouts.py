"""Which folders are parts and which are classes: the layouts of well-known collections, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from keras_course.assessment.exam import Exam
from keras_course.datasets.layouts import find_parts, part_of
from keras_course.datasets.photo_folder import load_data
from keras_course.errors import CourseError
from keras_course.preprocessing import PictureFormat

SIZE = PictureFormat(height=8, width=8, channels=3)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_COURSE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("KERAS_COURSE_DATA", raising=False)


def make(folder, *places, count=3):
    """Makes photos, each another one, in folders."""
    for place in places:
        for number in range(count):
            path = folder / place / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            seed = sum(map(ord, f"{place}{number}")) * 1009 + len(str(place)) * 101 + number
            Image.fromarray(np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(path)
    return folder


def classes_in(*parts):
    return [f"{part}/{name}" for part in parts for name in ("cats", "dogs")]


def parts_of(photos, folder):
    """The folders above the classes from which the photos of each side come."""
    return tuple(
        {path.relative_to(folder).parent.parent.as_posix() for path in part.paths}
        for part in (photos.train, photos.valid)
    )


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("train", ("train", "")),
        ("Training", ("train", "")),
        ("val", ("valid", "")),
        ("VALIDATION", ("valid", "")),
        ("eval", ("valid", "")),
        ("test", ("test", "")),
        ("training_set", ("train", "")),
        ("Test Set", ("test", "")),
        ("TestSet", ("test", "")),
        ("testset", ("test", "")),
        ("train_images", ("train", "")),
        ("val-imgs", ("valid", "")),
        ("train2017", ("train", "2017")),
        ("seg_train", ("train", "seg")),
        ("asl_alphabet_test", ("test", "asl alphabet")),
        ("train-00000-of-00001", ("train", "00000 of 00001")),
        ("cats", None),
        ("contest", None),
        ("trainer", None),
        ("strain", None),
        ("valley", None),
        ("train_test_split", None),
        ("", None),
        ("2017", None),
    ],
)
def test_words_of_parts(name, expected):
    assert part_of(name) == expected


@pytest.mark.parametrize(
    ("train", "valid"),
    [
        ("train", "valid"),
        ("train", "eval"),
        ("train_set", "val_set"),
        ("Training Set", "Validation Set"),
        ("train2017", "val2017"),
        ("fruit_train", "fruit_val"),
        ("TRAIN", "Val_Images"),
        ("seg_train/seg_train", "seg_val/seg_val"),
        ("train/train/training", "valid"),
    ],
)
def test_parts_are_found_by_their_words(tmp_path, train, valid):
    folder = make(tmp_path / "photos", *classes_in(train, valid))
    photos = load_data(folder, picture_format=SIZE)
    assert photos.class_names == ("cats", "dogs")
    assert parts_of(photos, folder) == ({train}, {valid})
    assert find_parts(folder) == {"train": folder / train, "valid": folder / valid}
    assert len(Exam(folder=folder).open().names) == 6


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("train", "test"),
        ("training_set", "test_set"),
        ("seg_train/seg_train", "seg_test/seg_test"),
        ("training_set/training_set", "test_set/test_set"),
        ("Training Set", "Test Set"),
        ("train_images", "test_images"),
    ],
)
def test_a_test_part_stays_unseen(tmp_path, capsys, train, test):
    folder = make(tmp_path / "photos", *classes_in(train, test), count=5)
    photos = load_data(folder, picture_format=SIZE)
    assert photos.class_names == ("cats", "dogs")
    assert parts_of(photos, folder) == ({train}, {train})
    assert [len(photos.train.paths), len(photos.valid.paths)] == [8, 2]
    exam = Exam(folder=folder, parts=["test"]).open()
    assert len(exam.names) == 10
    assert all(name.startswith(f"{test}/") for name in exam.names)
    assert f"{test} stays unseen" in capsys.readouterr().err
    for options in ({"valid_parts": ("test",)}, {"split": "given"}):
        assert parts_of(load_data(folder, picture_format=SIZE, **options), folder) == ({train}, {test})
    assert capsys.readouterr().err == ""


EXTRAS = ("__MACOSX/cats", "@eaDir", "notes", "pred", "more")


@pytest.mark.parametrize("extra", [*EXTRAS, "test"])
@pytest.mark.parametrize("has_photos", [False, True])
def test_what_is_beside_the_parts_changes_no_exam(tmp_path, extra, has_photos):
    """A further folder put the photos for training into the exam, and a model that had learned nothing passed."""
    folder = make(tmp_path / "photos", *classes_in("train", "valid"))
    (folder / extra).mkdir(parents=True)
    if has_photos:
        make(folder, extra)  # without classes
    assert [name.partition("/")[0] for name in Exam(folder=folder).open().names] == ["valid"] * 6
    photos = load_data(folder, picture_format=SIZE)
    assert photos.class_names == ("cats", "dogs")
    assert parts_of(photos, folder) == ({"train"}, {"valid"})
    named = {path.relative_to(folder).parts[0] for path, _ in photos.skipped}
    assert named == ({extra} if has_photos and extra in ("notes", "pred", "more", "test") else set())


def test_a_test_part_without_classes_is_named(tmp_path):
    folder = make(tmp_path / "photos", *classes_in("train"), "test")
    photos = load_data(folder, picture_format=SIZE)
    assert photos.class_names == ("cats", "dogs")
    assert parts_of(photos, folder) == ({"train"}, {"train"})
    assert {path.parent.name for path, _ in photos.skipped} == {"test"}
    with pytest.raises(CourseError, match="has no part test, whose photos are in no class folders"):
        Exam(folder=folder, parts=["test"]).open()
    with pytest.raises(CourseError, match="valid_parts has 'test', whose photos are in no class folders"):
        load_data(folder, picture_format=SIZE, valid_parts=["test"])


@pytest.mark.parametrize("name", ["seg_test", "test"])
def test_a_folder_in_a_folder_of_its_name_is_one(tmp_path, name):
    folder = make(tmp_path / name, *classes_in(name))
    assert load_data(folder, picture_format=SIZE).class_names == ("cats", "dogs")
    assert len(Exam(folder=folder).open().names) == 6


@pytest.mark.parametrize(
    "places",
    [
        ("train", "bus"),
        ("freight_train", "passenger_train"),
        ("blood_test", "steam_train"),
        ("train", "test tube", "bus"),
        ("val", "dorado"),
    ],
)
def test_a_train_can_be_a_class(tmp_path, places):
    folder = make(tmp_path / "photos", *places)
    assert load_data(folder, picture_format=SIZE).class_names == tuple(sorted(places))
    assert len(Exam(folder=folder).open().names) == 3 * len(places)
    assert find_parts(folder) == {}


@pytest.mark.parametrize(
    ("places", "reason"),
    [
        (("train", "valid"), "photos directly in train, valid; put photos into folders such as train/cat"),
        (
            ("cats_train", "cats_test", "dogs_train", "dogs_test"),
            "photos directly in cats_test, cats_train, dogs_test, dogs_train",
        ),
        (classes_in("train", "valid", "val"), "has val, valid, which mean the same; keep one of them"),
        (classes_in("train", "train_images", "test"), "has train, train_images, which mean the same"),
        (classes_in("a_train", "a_test", "b_train", "b_test"), "has the parts of several data sets: a_test, a_train"),
        (classes_in("train_1", "train_2"), "has train_1, train_2, which can be classes or parts; name them in classes"),
        ((*classes_in("valid", "test"), "birds"), "has the parts test, valid but no train, and beside them birds"),
        (classes_in("valid", "test"), "has test, valid but no train; put photos into folders such as train/cat"),
    ],
)
def test_what_can_be_read_in_two_ways_is_refused_by_name(tmp_path, places, reason):
    folder = make(tmp_path / "photos", *places, count=2)
    with pytest.raises(CourseError) as error:
        load_data(folder, picture_format=SIZE)
    assert str(error.value).startswith(f"{folder} {reason}" if reason.startswith("has") else f"{folder} has {reason}")


def test_names_that_somebody_gives_are_classes(tmp_path):
    folder = make(tmp_path / "photos", "cats_train", "cats_test", "dogs_train", "dogs_test")
    photos = load_data(folder, picture_format=SIZE, classes={"cats_*": "cats", "dogs_*": "dogs"})
    assert photos.class_names == ("cats", "dogs")
    assert len(photos.train.paths + photos.valid.paths) == 12


def test_class_folders_that_are_links_to_another_place(tmp_path):
    store = make(tmp_path / "store", "cats", "dogs")
    (tmp_path / "linked").mkdir()
    for name in ("cats", "dogs"):
        (tmp_path / "linked" / name).symlink_to(store / name)
    with pytest.raises(CourseError, match="cats, dogs are links that leave the folder: give the folder they lead to"):
        load_data(tmp_path / "linked", picture_format=SIZE)


def test_there_is_no_such_folder():
    with pytest.raises(CourseError, match="there is no folder nowhere; give the path of one"):
        find_parts(Path("nowhere"))
