import zipfile

import pytest
from PIL import Image

from keras_course.datasets import animals
from keras_course.errors import CourseError


def photo(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4)).save(path)
    return path


def test_the_kinds_are_those_of_imagenet():
    names = [animals.kind_of(number) for number in range(1000)]
    assert [names.count(kind) for kind in ("dog", "cat", "bear")] == [118, 5, 4]
    assert names[150] == names[269] == names[280] == names[286] == names[293] == names[298] == "something else"


def test_known_photos_are_found(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_COURSE_DATA", str(tmp_path))
    dog = photo(tmp_path / "photos" / "happy_dog.jpg")
    photo(tmp_path / "photos" / "asl_a.jpg")
    found = animals.locate()
    assert found[0] == dog
    assert [path.name for path in found[1:]] == ["chelsea.png"]


def test_without_any_the_error_says_how_to_get_some(monkeypatch):
    monkeypatch.delenv("KERAS_COURSE_DATA", raising=False)
    monkeypatch.setattr(animals, "packaged_photo", lambda name: None)
    with pytest.raises(CourseError, match=r"give --data .* or run: pip install"):
        animals.locate()


def test_a_photo_or_a_folder_of_photos(tmp_path):
    files = [photo(tmp_path / name) for name in ("b.png", "a.jpg", "inside/c.webp")]
    photo(tmp_path / ".hidden.png")
    (tmp_path / "notes.txt").write_text("of dogs")
    assert animals.locate(files[0]) == [files[0]]
    assert animals.locate(tmp_path) == sorted(files)


def test_a_folder_without_photos_or_with_too_many(tmp_path, monkeypatch):
    with pytest.raises(CourseError, match="holds no photos"):
        animals.locate(tmp_path)
    monkeypatch.setattr(animals, "LARGEST_COUNT", 1)
    for name in ("a.png", "b.png"):
        photo(tmp_path / name)
    with pytest.raises(CourseError, match="more than 1 photos"):
        animals.locate(tmp_path)


@pytest.mark.parametrize("name", ["photos.zip", "photos", "dog.jpg"])
def test_an_archive_is_no_photo(tmp_path, name):
    with zipfile.ZipFile(tmp_path / name, "w") as archive:
        archive.writestr("dog.jpg", b"1")
    with pytest.raises(CourseError, match=rf"{name} is an archive; unpack it first"):
        animals.locate(tmp_path / name)
