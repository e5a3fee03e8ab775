"""Drawn fruit: the same everywhere, and such that fresh and rotten can be told apart."""

import gzip
import shutil
import tarfile
import zipfile

import numpy as np
import pytest

from keras_course.datasets import doggy_door, fruit, photo_folder
from keras_course.errors import CourseError
from keras_course.preprocessing import PictureFormat


def test_a_fruit_is_the_same_each_time_and_no_two_are_equal():
    drawn = [fruit.draw(name, number, side=48) for name in fruit.CLASS_NAMES for number in range(3)]
    assert {(picture.shape, picture.dtype) for picture in drawn} == {((48, 48, 3), np.dtype("uint8"))}
    assert len({picture.tobytes() for picture in drawn}) == len(drawn)
    assert np.array_equal(drawn[4], fruit.draw("freshbanana", 1, side=48))
    assert not np.array_equal(drawn[4], fruit.draw("freshbanana", 1, seed=1, side=48))


def test_what_is_rotten_has_less_color():
    """The middle of a ball is fruit, wherever it lies."""

    def color(name):
        middles = np.stack([fruit.draw(name, number, side=64)[26:38, 26:38] for number in range(12)]).astype(int)
        return np.ptp(middles, axis=-1).mean()

    for kind in ("apples", "oranges"):
        assert color(f"fresh{kind}") > 1.5 * color(f"rotten{kind}")


@pytest.mark.parametrize(("name", "side"), [("apple", 8), ("freshapples", 15), ("freshapples", 20.5)])
def test_a_fruit_that_nobody_can_draw(name, side):
    with pytest.raises(CourseError):
        fruit.draw(name, 0, side=side)


def test_the_sample_is_drawn_once(tmp_path, monkeypatch):
    monkeypatch.setattr(fruit, "_DRAWN", {"train": 3, "valid": 2})
    folder = fruit.locate("sample", cache=tmp_path)
    photos = photo_folder.load_data(folder, picture_format=PictureFormat(height=8, width=8, channels=3))
    assert photos.class_names == fruit.CLASS_NAMES
    assert (len(photos.train.labels), len(photos.valid.labels)) == (18, 12)
    assert not set(photos.train.hashes) & set(photos.valid.hashes)
    monkeypatch.setattr(fruit, "draw", None)
    assert fruit.locate("sample", cache=tmp_path) == folder


def test_real_fruit_goes_before_drawn_fruit(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_COURSE_DATA", str(tmp_path))
    (tmp_path / "fruit").mkdir()
    assert fruit.locate("full", cache=tmp_path / "cache") == tmp_path / "fruit"
    (tmp_path / "fruits").mkdir()
    assert fruit.locate("auto", cache=tmp_path / "cache") == tmp_path / "fruits"
    assert fruit.locate(tmp_path / "fruit") == tmp_path / "fruit"


@pytest.mark.parametrize("locate", [fruit.locate, doggy_door.locate])
def test_no_photos_at_all(tmp_path, monkeypatch, locate):
    monkeypatch.setenv("KERAS_COURSE_DATA", str(tmp_path))
    with pytest.raises(CourseError, match="KERAS_COURSE_DATA"):
        locate("full", cache=tmp_path / "cache")
    with pytest.raises(CourseError, match="there is no folder"):
        locate(tmp_path / "nowhere")


@pytest.mark.parametrize("locate", [fruit.locate, doggy_door.locate])
def test_a_file_in_place_of_the_folder(tmp_path, locate):
    """What it is, its content says: browsers unpack archives and keep the ending, and people rename them."""
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        archive.writestr("cat/1.png", b"1")
    shutil.copy(tmp_path / "photos.zip", tmp_path / "photos")
    with tarfile.open(tmp_path / "photos.tar", "w") as archive:
        archive.add(tmp_path / "photos.zip", "1.png")
    (tmp_path / "photos.tgz").write_bytes(gzip.compress(b"1"))
    for name in ("photos.zip", "photos", "photos.tar", "photos.tgz"):
        with pytest.raises(CourseError, match=rf"{name} is a file; give a folder; unpack it first"):
            locate(tmp_path / name)
    (tmp_path / "photo.zip").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(CourseError, match=r"photo\.zip is a file; give a folder$"):
        locate(tmp_path / "photo.zip")
    with pytest.raises(CourseError, match=r"photos\.zip/train cannot be read: Not a directory"):
        locate(tmp_path / "photos.zip" / "train")
