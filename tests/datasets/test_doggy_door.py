from importlib import metadata

import pytest
from PIL import Image

from keras_course.datasets import doggy_door
from keras_course.errors import CourseError, MissingPackageError


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.jpg")}


def test_the_sample_is_cut_out_once_and_is_the_same_everywhere(tmp_path, monkeypatch):
    folder = doggy_door.locate("sample", cache=tmp_path / "a")
    first = contents(folder)
    counts = {
        (part, kind): len(list((folder / part / kind).iterdir()))
        for part in ("train", "valid")
        for kind in ("cat", "others")
    }
    assert counts == {("train", "cat"): 16, ("train", "others"): 60, ("valid", "cat"): 6, ("valid", "others"): 24}
    assert len(set(first.values())) == len(first)
    with Image.open(folder / "train" / "cat" / "chelsea_00.jpg") as photo:
        assert photo.size == (240, 240)
    assert contents(doggy_door.locate("sample", cache=tmp_path / "b")) == first
    monkeypatch.setattr(doggy_door, "_cut", None)
    assert doggy_door.locate("sample", cache=tmp_path / "a") == folder


def test_the_photos_of_the_course_go_first(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_COURSE_DATA", str(tmp_path))
    (tmp_path / "fruit").mkdir()
    assert doggy_door.locate() == tmp_path / "fruit"
    (tmp_path / "presidential_doggy_door").mkdir()
    assert doggy_door.locate("full") == tmp_path / "presidential_doggy_door"


def test_without_them_there_is_the_sample_or_a_clear_word(tmp_path, monkeypatch):
    monkeypatch.delenv("KERAS_COURSE_DATA", raising=False)
    assert doggy_door.locate(cache=tmp_path).name == "one_cat"
    with pytest.raises(CourseError, match="give --data FOLDER"):
        doggy_door.locate("full", cache=tmp_path)


def test_without_its_package_the_sample_says_what_to_install(tmp_path, monkeypatch):
    def missing(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", missing)
    with pytest.raises(MissingPackageError, match=r"keras-course\[pretrained\]"):
        doggy_door.locate("sample", cache=tmp_path)


def test_a_folder_of_ones_own(tmp_path):
    assert doggy_door.locate(tmp_path) == tmp_path
    with pytest.raises(CourseError, match=r"there is no folder .*none; give the path of one"):
        doggy_door.locate(tmp_path / "none")
