"""Photos in folders, made small here: layouts, classes, splits, files that are no pictures, and decoding."""

import hashlib
import io
import os
import pickle
import shutil
import struct
import sys
import time
import unicodedata
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from keras_course.datasets import class_folders, folders, photo_folder
from keras_course.datasets.photo_folder import load_data
from keras_course.datasets.splits import class_weights
from keras_course.errors import CourseError
from keras_course.preprocessing import PictureFormat, images

# Pictures of this size stay as they are, so that what is expected is what was drawn.
SIZE = PictureFormat(height=12, width=10, channels=3)


@pytest.fixture
def decoded(monkeypatch):
    """Counts the photos that are decoded."""
    contents = []
    prepare = images.prepare

    def counting(content, *arguments, **options):
        contents.append(content)
        return prepare(content, *arguments, **options)

    monkeypatch.setattr(images, "prepare", counting)
    return contents


def drawing(name):
    """A picture that is another one for each name."""
    seed = int.from_bytes(hashlib.md5(str(name).encode()).digest()[:4], "big")
    return np.random.default_rng(seed).integers(0, 256, (12, 10, 3), dtype=np.uint8)


def save(path, pixels=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(drawing(path.name) if pixels is None else np.asarray(pixels, np.uint8)).save(path)
    return path


def make(folder, **counts):
    """A folder of photos for each class; the names of the files say which ones they are: cat/cat_00.png."""
    for name, count in counts.items():
        for number in range(count):
            path = folder / name.replace("__", "/") / f"{name.split('__')[-1]}_{number:02}.png"
            save(path, drawing("/".join(path.parts[-3:])))  # another one in each part
        if not count:
            (folder / name.replace("__", "/")).mkdir(parents=True)
    return folder


def load(folder, **options):
    return load_data(folder, picture_format=SIZE, **options)


def names(part):
    return [path.name for path in part.paths]


def classes_of(photos, part):
    return [photos.class_names[label] for label in part.labels]


def assert_true(part):
    """Pictures, hashes and paths belong together, whatever they are."""
    assert part.pictures.dtype == np.uint8
    assert part.labels.dtype == np.int32
    assert part.pictures.shape == (len(part.paths), 12, 10, 3)
    assert part.labels.shape == (len(part.paths),)
    for pixels, path, sha256 in zip(part.pictures, part.paths, part.hashes, strict=True):
        np.testing.assert_array_equal(pixels, np.asarray(Image.open(path)))
        assert hashlib.sha256(path.read_bytes()).hexdigest() == sha256


def assert_refused(folder, *reasons, **options):
    with pytest.raises(CourseError) as error:
        load(folder, **options)
    message = str(error.value)
    assert "\n" not in message
    for reason in reasons:
        assert reason in message
    return message


# --- Layouts ---------------------------------------------------------------------------------------------------


def test_a_folder_for_each_class(tmp_path, capsys):
    folder = make(tmp_path / "photos", dog=10, cat=5)
    photos = load(folder, valid_share=0.2)
    assert photos.class_names == ("cat", "dog")
    assert photos.skipped == []
    assert_true(photos.train)
    assert_true(photos.valid)
    assert [len(photos.train.paths), len(photos.valid.paths)] == [12, 3]
    for part in (photos.train, photos.valid):
        assert classes_of(photos, part) == [path.parent.name for path in part.paths]
        assert list(part.paths) == sorted(part.paths)
    assert sorted(photos.train.paths + photos.valid.paths) == sorted(folder.rglob("*.png"))
    assert capsys.readouterr() == ("", "")  # no bar where nobody looks


def test_it_unpacks_as_the_other_data_sets_do(tmp_path):
    photos = load(make(tmp_path / "photos", cat=4, dog=4))
    (x_train, y_train), (x_valid, y_valid) = photos.parts
    assert x_train is photos.train.pictures
    assert y_train is photos.train.labels
    assert x_valid is photos.valid.pictures
    assert y_valid is photos.valid.labels


@pytest.mark.parametrize("train", ["train", "training", "Train"])
@pytest.mark.parametrize("valid", ["valid", "val", "validation", "test", "testing", "VAL"])
def test_parts_above_the_classes(tmp_path, train, valid):
    folder = tmp_path / "photos"
    make(folder / train, cat=3, dog=2)
    make(folder / valid, cat=1, dog=2)
    for options in ({"split": "given"}, {} if valid.startswith(("v", "V")) else {"valid_parts": ("test",)}):
        photos = load(folder, **options)
        assert [path.relative_to(folder).as_posix() for path in photos.valid.paths] == [
            f"{valid}/cat/cat_00.png",
            f"{valid}/dog/dog_00.png",
            f"{valid}/dog/dog_01.png",
        ]
        assert classes_of(photos, photos.train) == ["cat"] * 3 + ["dog"] * 2
        assert_true(photos.train)
        assert_true(photos.valid)


def test_valid_parts_are_chosen_and_the_test_part_stays_unseen(tmp_path):
    folder = tmp_path / "photos"
    for part, count in (("train", 4), ("val", 2), ("test", 3)):
        make(folder / part, cat=count, dog=count)

    def parts(**options):
        photos = load(folder, **options)
        assert_true(photos.valid)
        return {path.relative_to(folder).parts[0] for path in photos.valid.paths}, len(photos.train.paths)

    assert parts() == ({"val"}, 8)
    assert parts(valid_parts=("valid",)) == ({"val"}, 8)
    assert parts(valid_parts="validation") == ({"val"}, 8)
    assert parts(valid_parts=("test",)) == ({"test"}, 8)
    assert parts(valid_parts=("test", "valid")) == ({"val", "test"}, 8)


def test_parts_that_are_split_anew_are_put_together(tmp_path):
    folder = tmp_path / "photos"
    make(folder / "train", cat=6, dog=6)
    make(folder / "valid", cat=4, dog=4)
    make(folder / "test", cat=5, dog=5)
    photos = load(folder, split="stratified", valid_share=0.5)
    paths = photos.train.paths + photos.valid.paths
    assert len(paths) == 20
    assert {path.relative_to(folder).parts[0] for path in paths} == {"train", "valid"}
    assert len(load(folder, split="stratified", valid_parts=("valid", "test")).train.paths) == 24


def test_a_train_part_alone_is_split(tmp_path):
    make(tmp_path / "photos" / "train", cat=5, dog=5)
    photos = load(tmp_path / "photos")
    assert photos.class_names == ("cat", "dog")
    assert len(photos.valid.paths) == 2
    assert_refused(tmp_path / "photos", "split is 'given'", "only train", split="given")


def test_a_train_can_be_a_class(tmp_path):
    photos = load(make(tmp_path / "photos", train=4, bus=4))
    assert photos.class_names == ("bus", "train")


def test_folders_in_a_class_belong_to_it(tmp_path):
    folder = make(tmp_path / "photos", cat=2, cat__kittens__small=2, dog__2023=2, dog__2024=2, fox__2023=2, fox__2024=1)
    photos = load(folder)
    assert photos.class_names == ("cat", "dog", "fox")
    assert np.bincount(np.concatenate([photos.train.labels, photos.valid.labels])).tolist() == [4, 4, 3]


def test_what_systems_put_there_is_passed_over(tmp_path, capsys):
    """Windows, macOS, Linux, JupyterLab, Synology, QNAP, NetApp, and programs for photos."""
    folder = make(tmp_path / "photos", cat=3, dog=3)
    for name in (
        *(
            "$RECYCLE.BIN",
            "System Volume Information",
            "RECYCLER",
            "__MACOSX",
            ".Trashes",
            ".AppleDouble",
            "lost+found",
        ),
        *(".ipynb_checkpoints", "@eaDir", "#recycle", "#snapshot", "@Recycle", ".@__thumb", "~snapshot", ".thumbnails"),
        *("Network Trash Folder", ".Trash-1000", "FOUND.000", ".picasaoriginals", "lost+found"),
    ):
        save(folder / name / "cat" / "cat_00.png")
        save(folder / "cat" / name / "cat_01.jpg" / "SYNOPHOTO_THUMB_M.png")
    for name in ("Thumbs.db", "desktop.ini", "Icon\r", "._cat_00.png", ".hidden.jpg", "Picasa.ini", "~$cats.docx"):
        (folder / "cat" / name).write_bytes(b"?")
        (folder / name).write_bytes(b"?")
    photos = load(folder)
    assert photos.class_names == ("cat", "dog")
    assert len(photos.train.paths + photos.valid.paths) == 6
    assert photos.skipped == []
    assert capsys.readouterr().err == ""


def test_every_other_file_is_named(tmp_path, capsys):
    folder = make(tmp_path / "photos", cat=3, dog=3)
    for name in ("notes.txt", "labels.csv", "noending", "photo.CR2", "photo.jxl"):
        (folder / "cat" / name).write_text("?")
        (folder / name).write_text("?")
    photos = load(folder)
    assert photos.class_names == ("cat", "dog")
    assert len(photos.train.paths + photos.valid.paths) == 6
    reasons = {path.relative_to(folder).as_posix(): reason for path, reason in photos.skipped}
    assert set(reasons) == {
        f"{above}{name}"
        for name in ("notes.txt", "labels.csv", "noending", "photo.CR2", "photo.jxl")
        for above in ("", "cat/")
    }
    assert reasons["cat/photo.CR2"] == "the raw file of a camera is not read; save it as JPEG"
    assert reasons["cat/noending"] == "it is no picture"
    error = capsys.readouterr().err
    assert error.startswith(f"{folder}: 10 skipped: cat/photo.CR2 (the raw file")
    assert error.count("\n") == 1


def test_pictures_of_all_kinds_are_read_whatever_they_are_called(tmp_path, capsys):
    folder = make(tmp_path / "photos", dog=8)
    image = Image.fromarray(np.full((12, 10, 3), 9, "uint8"))
    names = {"a.ppm": "PPM", "b.tif": "TIFF", "c.gif": "GIF", "d": "JPEG", "e.jpg_large": "JPEG", "f.jpe": "JPEG"}
    names |= {"g.part": "PNG", "h.bin": "WEBP", "i.avif": "AVIF", "j.jfif": "JPEG", "k.TIFF": "TIFF", "l.jpg": "PNG"}
    (folder / "cat").mkdir()
    for number, (name, kind) in enumerate(names.items()):
        content = io.BytesIO()
        Image.fromarray(np.asarray(image) + np.uint8(15 * number)).save(content, kind)
        (folder / "cat" / name).write_bytes(content.getvalue())
    photos = load(folder)
    assert photos.skipped == []
    found = {
        path.name: pixels.mean()
        for part in (photos.train, photos.valid)
        for path, pixels in zip(part.paths, part.pictures, strict=True)
        if path.parent.name == "cat"
    }
    assert set(found) == set(names)
    np.testing.assert_allclose([found[name] for name in names], 9 + 15 * np.arange(len(names)), atol=2)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP"])
def test_every_kind_of_picture_is_prepared_as_in_serving(tmp_path, kind):
    ending = {"JPEG": ".JPG"}.get(kind, f".{kind.lower()}")
    for name in ("cat/1", "cat/2", "dog/1", "dog/2"):
        path = tmp_path / "photos" / f"{name}{ending}"
        path.parent.mkdir(parents=True, exist_ok=True)
        large = np.kron(drawing(name)[:, :, 0], np.ones((9, 13))).astype("uint8")
        Image.fromarray(large).save(path, kind)
    gray = PictureFormat(height=16, width=16, channels=1, resize="pad")
    photos = load_data(tmp_path / "photos", picture_format=gray)
    for part in (photos.train, photos.valid):
        assert part.pictures.shape == (2, 16, 16, 1)
        for pixels, path in zip(part.pictures, part.paths, strict=True):
            np.testing.assert_array_equal(pixels, images.prepare(path, gray))


def test_names_in_any_script_and_either_spelling_of_accents(tmp_path):
    decomposed = unicodedata.normalize("NFD", "Käse")
    folder = make(tmp_path / "photos", **{decomposed: 3, "猫": 3, "a b's": 3})
    assert load(folder).class_names == (unicodedata.normalize("NFC", "Käse"), "a b's", "猫")
    photos = load(folder, classes=(unicodedata.normalize("NFC", "Käse"), "猫"))
    assert photos.class_names == (unicodedata.normalize("NFC", "Käse"), "猫")
    assert len(photos.train.paths + photos.valid.paths) == 6


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="names are text there")
def test_names_that_are_no_text(tmp_path, capsys):
    folder = make(tmp_path / "photos", cat=3, dog=3)
    shutil.move(save(tmp_path / "another.png"), os.fsencode(folder / "cat") + b"/\xff\n\x1b[31m.png")
    Path(os.fsdecode(os.fsencode(folder / "dog") + b"/\xfe\n\x1b[31m.png")).write_bytes(b"?")
    for _ in range(2):
        photos = load(folder)
        assert_true(photos.train)
        assert len(photos.train.paths + photos.valid.paths) == 7
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert "\x1b" not in error


# --- Equal photos ----------------------------------------------------------------------------------------------


def copied(folder, *names):
    """Copies photos beside themselves, as a browser that downloads them twice."""
    for name in names:
        path = folder / name
        shutil.copy(path, path.with_name(f"{path.stem} (1){path.suffix}"))
    return folder


def on_both_sides(photos):
    return set(photos.train.hashes) & set(photos.valid.hashes)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_equal_photos_stay_on_one_side(tmp_path, capsys, share, seed):
    folder = make(tmp_path / "photos", cat=6, dog=6)
    copied(folder, *(f"{name}/{name}_{number:02}.png" for name in ("cat", "dog") for number in range(5)))
    photos = load(folder, valid_share=share, seed=seed)
    assert not on_both_sides(photos)
    assert len(photos.train.paths + photos.valid.paths) == 22
    # equal photos are drawn as one, so that the same ones are drawn as without copies
    originals = [name for name in names(photos.valid) if "(1)" not in name]
    assert originals == [
        f"{name}_{place:02}.png" for name in ("cat", "dog") for place in expected_places(6, share, seed, name)
    ]
    assert capsys.readouterr().err == f"{folder}: 10 of 22 photos are copies of others, and on the same side\n"


def test_equal_photos_in_two_classes_are_named(tmp_path, capsys):
    folder = make(tmp_path / "photos", cat=5)
    shutil.copytree(folder / "cat", folder / "dog")
    for split in ("stratified", "grouped"):
        photos = load(folder, split=split, valid_share=0.4)
        assert not on_both_sides(photos)
        assert set(photos.train.labels) == set(photos.valid.labels) == {0, 1}
        error = capsys.readouterr().err
        assert error.startswith(f"{folder}: 5 photos are in several classes, such as cat/cat_00.png and dog/cat_00.png")
        assert error.count("\n") == 1


def test_a_class_that_is_a_part_of_another_one_is_trained_on(tmp_path):
    for seed in range(8):
        folder = make(tmp_path / f"photos_{seed}", cat=3, dog=1)
        shutil.copy(folder / "cat" / "cat_00.png", folder / "dog" / "dog_00.png")
        photos = load(folder, valid_share=0.6, seed=seed)
        assert not on_both_sides(photos)
        assert set(photos.train.labels) == {0, 1}


def test_equal_photos_in_given_parts_are_not_trained_on(tmp_path, capsys):
    folder = tmp_path / "photos"
    make(folder / "train", cat=4, dog=4)
    for name, count in (("cat", 2), ("dog", 3)):
        (folder / "valid" / name).mkdir(parents=True)
        for number in range(count):
            shutil.copy(folder / "train" / name / f"{name}_{number:02}.png", folder / "valid" / name / f"{number}.png")
    save(folder / "valid" / "dog" / "new.png")
    photos = load(folder)
    assert not on_both_sides(photos)
    assert names(photos.train) == ["cat_02.png", "cat_03.png", "dog_03.png"]
    assert len(photos.valid.paths) == 6
    assert_true(photos.train)
    assert [reason for _, reason in photos.skipped] == ["the same photo is validated with"] * 5
    left_out = "5 photos of the training part are left out, since they are validated with"
    assert capsys.readouterr().err == f"{folder}: {left_out}\n"
    assert len(on_both_sides(load(folder, split="given"))) == 5
    assert "5 of 6 photos to validate with are trained on as well" in capsys.readouterr().err


def test_a_part_that_is_a_copy_of_the_other_is_said(tmp_path, capsys):
    folder = make(tmp_path / "photos", train__cat=4, train__dog=4)
    shutil.copytree(folder / "train", folder / "valid")
    photos = load(folder)
    assert len(on_both_sides(photos)) == len(photos.train.paths) == 8
    error = capsys.readouterr().err
    assert error.startswith(f"{folder}: 8 of 8 photos to validate with are trained on as well; split='stratified'")
    assert error.count("\n") == 1


# --- Classes ---------------------------------------------------------------------------------------------------

FRUIT = {"fresh_apple": 4, "fresh_kiwi": 3, "rotten_apple": 5, "rotten_kiwi": 2, "crate": 6}


@pytest.mark.parametrize(
    ("classes", "others", "expected"),
    [
        (None, None, FRUIT),
        (["crate", "fresh_kiwi"], None, {"crate": 6, "fresh_kiwi": 3}),
        ({"fresh_kiwi"}, "rest", {"fresh_kiwi": 3, "rest": 17}),
        ({"fresh_*": "fresh", "rotten_*": "rotten"}, None, {"fresh": 7, "rotten": 7}),
        ({"fresh_*": "fresh", "rotten_*": "rotten"}, "fresh", {"fresh": 13, "rotten": 7}),
        ({"*_apple": "apple", "fresh_*": "fresh"}, None, {"apple": 9, "fresh": 3}),
        ({"fresh_*": "fresh", "*_apple": "apple"}, None, {"fresh": 7, "apple": 5}),
        ({"[cf]*": "c or f", "*": "others"}, None, {"c or f": 13, "others": 7}),
        (("crate",), "no crate", {"crate": 6, "no crate": 14}),
    ],
)
def test_classes_are_chosen_and_regrouped(tmp_path, classes, others, expected):
    folder = make(tmp_path / "photos", **FRUIT)
    photos = load(folder, classes=classes, others=others)
    assert photos.class_names == tuple(sorted(expected))
    labels = np.concatenate([photos.train.labels, photos.valid.labels])
    assert dict(zip(photos.class_names, np.bincount(labels).tolist(), strict=True)) == expected
    assert_true(photos.train)
    assert_true(photos.valid)


def test_a_name_is_no_pattern(tmp_path):
    folder = make(tmp_path / "photos", **{"cat [old]": 3, "cat o": 3, "dog": 3})
    assert load(folder, classes=["cat [old]", "dog"]).class_names == ("cat [old]", "dog")
    assert load(folder, classes={"cat [old]": "old", "dog": "dog"}).class_names == ("dog", "old")
    assert_refused(folder, "'d*'", "cat [old], cat o, dog", classes=["d*", "dog"])


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("cat\nfish", "has a class folder whose name cannot be kept: class name has a line break"),
        ("cat\x1b[2J", "has a class folder whose name cannot be kept: class name has the character '\\x1b'"),
        ("cat\udcff", "has a class folder whose name cannot be kept: class name has the character '\\udcff'"),
    ],
)
@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="a folder cannot have such a name there")
def test_a_name_that_no_card_can_hold_is_refused_at_once(tmp_path, decoded, name, reason):
    folder = make(tmp_path / "photos", dog=3)
    save(Path(os.fsdecode(os.fsencode(folder) + b"/" + os.fsencode(name))) / "1.png")
    assert_refused(folder, reason, "rename it")
    assert not decoded
    assert load(folder, classes={"dog": "dog", "cat*": "cat"}).class_names == ("cat", "dog")


@pytest.mark.parametrize("name", ["cat/fish", "..", ".cat", "cat\\fish", "@eaDir", "c" * 256, "ç" * 128, "c" * 10_001])
def test_a_name_that_no_folder_can_have_is_refused_at_once(tmp_path, decoded, name):
    folder = make(tmp_path / "photos", cat=3, dog=3)
    assert_refused(folder, "class", classes={"cat": name, "dog": "dog"})
    assert not decoded


def test_classes_are_regrouped_within_given_parts(tmp_path):
    folder = tmp_path / "photos"
    make(folder / "train", fresh_apple=2, fresh_kiwi=1, rotten_apple=3)
    make(folder / "valid", fresh_apple=1, rotten_apple=1, rotten_kiwi=2)
    assert_refused(folder, "class 'fresh_kiwi' has photos for training only", "split='stratified'")
    photos = load(folder, classes={"fresh_*": "fresh", "rotten_*": "rotten"})
    assert photos.train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert photos.valid.labels.tolist() == [0, 1, 1, 1]


# --- Splits ----------------------------------------------------------------------------------------------------


def rotated(word, distance):
    return (word << np.uint32(distance)) | (word >> np.uint32(32 - distance))


def threefry(key, counter0, counter1):
    """Threefry-2x32 with 20 rounds, written from Salmon et al. (2011) in unsigned numbers."""
    with np.errstate(over="ignore"):
        keys = [np.uint32(key[0]), np.uint32(key[1]), np.uint32(key[0] ^ key[1] ^ 0x1BD11BDA)]
        x, y = counter0.astype("uint32") + keys[0], counter1.astype("uint32") + keys[1]
        for number in range(20):
            x = x + y
            y = rotated(y, (13, 15, 26, 6, 17, 29, 16, 24)[number % 8]) ^ x
            if number % 4 == 3:
                turn = number // 4 + 1
                x = x + keys[turn % 3]
                y = y + keys[(turn + 1) % 3] + np.uint32(turn)
    return x, y


def expected_places(count, share, seed, name):
    """Which of a class are validated with, calculated without the course's generator."""
    key = (seed & 0xFFFFFFFF, seed >> 32)
    for step in ("photo_folder", name):
        words = np.frombuffer(hashlib.blake2b(f"str:{step}".encode(), digest_size=8).digest(), "<u4")
        x, y = threefry(key, words[:1], words[1:])
        key = (int(x[0]), int(y[0]))
    lanes = np.arange((count + 1) // 2)
    words = np.concatenate(threefry(key, lanes, np.zeros_like(lanes)))[:count].astype("int32")
    order = sorted(range(count), key=lambda place: words[place])
    return sorted(order[: min(max(1, int(share * count + 0.5)), count - 1)])


def test_the_calculation_of_what_is_expected():
    x, y = threefry((0, 0), np.zeros(1), np.zeros(1))
    assert [hex(x[0]), hex(y[0])] == ["0x6b200159", "0x99ba4efe"]  # the authors' first known answer


@pytest.mark.parametrize("seed", [0, 7, 2**40 + 1])
@pytest.mark.parametrize("share", [0.2, 0.35, 0.5, 0.01, 0.99])
def test_stratified_draws_from_each_class_alike(tmp_path, seed, share):
    counts = {"cat": 17, "dog": 8, "fox": 2}
    folder = make(tmp_path / "photos", **counts)
    photos = load(folder, split="stratified", valid_share=share, seed=seed)
    expected = [
        f"{name}_{place:02}.png"
        for name, count in counts.items()
        for place in expected_places(count, share, seed, name)
    ]
    assert names(photos.valid) == expected
    assert not set(photos.train.paths) & set(photos.valid.paths)
    assert len(photos.train.paths + photos.valid.paths) == 27
    assert set(photos.train.labels) == set(photos.valid.labels) == {0, 1, 2}


def test_a_split_does_not_depend_on_the_order_in_the_file_system(tmp_path, monkeypatch):
    folder = make(tmp_path / "photos", cat=12, dog=9)
    expected = load(folder)
    scandir = os.scandir

    class Backwards:
        def __init__(self, path):
            with scandir(path) as entries:
                self.entries = sorted(entries, key=lambda entry: entry.name, reverse=True)

        def __enter__(self):
            return iter(self.entries)

        def __exit__(self, *error):
            return None

    monkeypatch.setattr(os, "scandir", Backwards)
    for part, again in zip((expected.train, expected.valid), (photos := load(folder)).parts, strict=True):
        np.testing.assert_array_equal(part.pictures, again[0])
    assert photos.valid.paths == expected.valid.paths
    assert names(load(folder, seed=1).valid) != names(expected.valid)


def test_one_class_does_not_change_what_is_drawn_of_another(tmp_path):
    folder = make(tmp_path / "photos", cat=12, dog=9)
    before = names(load(folder).valid)
    make(folder, bear=7)
    assert [name for name in names(load(folder).valid) if "bear" not in name] == before


def test_a_single_photo_is_trained_on(tmp_path):
    photos = load(make(tmp_path / "photos", cat=1, dog=2))
    assert names(photos.train)[0] == "cat_00.png"
    assert photos.valid.labels.tolist() == [1]
    assert_refused(make(tmp_path / "two", cat=1, dog=1), "none to validate with")


def test_grouped_keeps_near_copies_on_one_side(tmp_path):
    large = PictureFormat(height=64, width=96, channels=3)
    for name in ("cat", "dog"):
        for motif in range(8):
            blots = np.random.default_rng([motif, len(name), name == "cat"]).integers(40, 160, (4, 6, 3))
            for copy in range(4):  # brighter each time
                pixels = np.kron(blots, np.ones((20, 20, 1))) * (1 + copy / 8) + copy
                save(tmp_path / "photos" / name / f"{name}_{copy}_{motif}.png", pixels)
    photos = load_data(tmp_path / "photos", picture_format=large, split="grouped", valid_share=0.25)
    sides = [{path.stem[:3] + path.stem[-1] for path in part.paths} for part in (photos.train, photos.valid)]
    assert [len(side) for side in sides] == [12, 4]  # of 16 motifs
    assert not sides[0] & sides[1]
    assert np.bincount(photos.valid.labels).tolist() == [8, 8]
    # a random split parts nearly all series
    stratified = load_data(tmp_path / "photos", picture_format=large, split="stratified", valid_share=0.25)
    motifs = [{path.stem[:3] + path.stem[-1] for path in part.paths} for part in (stratified.train, stratified.valid)]
    assert len(motifs[0] & motifs[1]) > 4
    again = load_data(tmp_path / "photos", picture_format=large, split="grouped", valid_share=0.25)
    assert again.valid.paths == photos.valid.paths
    seeds = {
        load_data(tmp_path / "photos", picture_format=large, split="grouped", valid_share=0.25, seed=seed).valid.paths
        for seed in range(4)
    }
    assert len(seeds) > 1


def test_grouped_says_which_class_is_one_series(tmp_path):
    folder = make(tmp_path / "photos", dog=4)
    for number in range(3):
        save(folder / "cat" / f"{number}.png", drawing("one") // 2 + number)
    assert_refused(folder, "class cat is in a single group", split="grouped")


def test_the_pictures_of_one_color_are_no_near_copies(tmp_path):
    folder = make(tmp_path / "photos", dog=4)
    for number in range(4):
        save(folder / "cat" / f"{number}.png", np.full((12, 10, 3), 50 + number))
    assert np.bincount(load(folder, split="grouped", valid_share=0.5).valid.labels).tolist() == [2, 2]


# --- What is no picture ----------------------------------------------------------------------------------------


def png_claiming(width, height):
    """A PNG of a few bytes that claims any size."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def encoded(kind):
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 80, 3), dtype=np.uint8)).save(stream, kind)
    return stream.getvalue()


DAMAGED = {
    "empty.jpg": (b"", "none of JPEG"),
    "text.jpg": (b"I am no picture", "none of JPEG"),
    "page.png": (b"<!DOCTYPE html><html>404</html>", "none of JPEG"),
    "cut.jpg": (encoded("JPEG")[:2000], "truncated"),
    "cut.png": (encoded("PNG")[:2000], "it cannot be read as a picture"),
    "pickle.png": (pickle.dumps(print), "none of JPEG"),
    "huge.png": (png_claiming(10_000, 10_000), "10,000 × 10,000 pixels; give a picture of at most 64,000,000"),
    "bomb.png": (png_claiming(100_000, 100_000), "pixels; give a picture of at most 64,000,000"),
    "photo.heic": (b"\x00\x00\x00\x18ftypheic", "it cannot be read as a picture"),
    "cut.TIFF": (encoded("TIFF")[:2000], "it cannot be read as a picture"),
    "cut.gif": (encoded("GIF")[:2000], "it cannot be read as a picture"),
    "photo.dng": (encoded("TIFF"), "the raw file of a camera is not read; save it as JPEG"),
}


def test_what_is_no_picture_is_named_and_skipped(tmp_path, capsys, decoded):
    folder = make(tmp_path / "photos", cat=4, dog=4)
    for number, (name, (content, _)) in enumerate(DAMAGED.items()):
        (folder / ("cat", "dog")[number % 2] / name).write_bytes(content)
    save(folder / "stray.png")
    photos = load(folder)
    assert len(photos.train.paths + photos.valid.paths) == 8
    assert_true(photos.train)
    assert_true(photos.valid)
    reasons = {path.name: reason for path, reason in photos.skipped}
    assert set(reasons) == {*DAMAGED, "stray.png"}
    assert "no class folder" in reasons["stray.png"]
    for name, (_, reason) in DAMAGED.items():
        assert reason in reasons[name]
    assert all(path.is_file() for path, _ in photos.skipped)
    error = capsys.readouterr().err
    assert error.startswith(f"{folder}: {len(DAMAGED) + 1} skipped: cat/")
    assert error.endswith(f", and {len(DAMAGED) - 9} more\n")
    assert error.count("\n") == 1
    assert sum(name in error for name in reasons) == 10
    assert len(decoded) == 8 + len(DAMAGED) - 1  # all but the one whose ending is that of a raw file


def test_a_file_that_is_too_large_is_not_read(tmp_path, decoded):
    folder = make(tmp_path / "photos", cat=3, dog=3)
    with (folder / "cat" / "large.jpg").open("wb") as file:
        file.truncate(2**25 + 1)
    photos = load(folder)
    assert photos.skipped == [(folder / "cat" / "large.jpg", "it has 33,554,433 bytes; at most 33,554,432 are read")]
    assert len(decoded) == 6


def test_a_picture_that_can_only_be_prepared_into_nothing(tmp_path):
    """One pixel high and very wide: Pillow refuses to shrink it, with an error of its own."""
    folder = make(tmp_path / "photos", cat=3, dog=3)
    save(folder / "cat" / "line.png", np.zeros((1, 60_000, 3)))
    padded = PictureFormat(height=12, width=10, channels=3, resize="pad")
    photos = load_data(folder, picture_format=padded)
    assert len(photos.train.paths + photos.valid.paths) + len(photos.skipped) == 7


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes")
def test_pipes_and_folders_with_a_pictures_name(tmp_path):
    folder = make(tmp_path / "photos", cat=3, dog=3)
    os.mkfifo(folder / "cat" / "pipe.jpg")
    (folder / "cat" / "folder.jpg").mkdir()
    photos = load(folder)
    assert photos.skipped == [(folder / "cat" / "pipe.jpg", "it is not a file")]


def without_permission(monkeypatch, name):
    opened, scandir = Path.open, os.scandir

    def check(path):
        if Path(path).name == name:
            raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", lambda path, *rest, **more: (check(path), opened(path, *rest, **more))[1])
    monkeypatch.setattr(os, "scandir", lambda path: (check(path), scandir(path))[1])


def test_a_photo_that_may_not_be_read_is_tried_again_the_next_time(tmp_path, monkeypatch, decoded):
    folder = make(tmp_path / "photos", cat=4, dog=3)
    with monkeypatch.context() as context:
        without_permission(context, "cat_02.png")
        photos = load(folder)
        assert photos.skipped == [(folder / "cat" / "cat_02.png", "Permission denied")]
        assert len(decoded) == 6
    photos = load(folder)
    assert photos.skipped == []
    assert "cat_02.png" in names(photos.train) + names(photos.valid)
    assert_true(photos.train)


def test_folders_that_may_not_be_read(tmp_path, monkeypatch):
    folder = make(tmp_path / "photos", cat=4, cat__inner=2, dog=3)
    with monkeypatch.context() as context:
        without_permission(context, "inner")
        photos = load(folder)
        assert photos.skipped == [(folder / "cat" / "inner", "Permission denied")]
    with monkeypatch.context() as context:
        without_permission(context, "dog")
        assert_refused(folder, "class 'dog' has no photos (1 skipped, such as dog: Permission denied)")
    with monkeypatch.context() as context:
        without_permission(context, "photos")
        assert_refused(folder, f"{folder} cannot be read: Permission denied")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_permissions_of_a_real_file_system(tmp_path):
    folder = make(tmp_path / "photos", cat=4, dog=3)
    (folder / "cat" / "cat_01.png").chmod(0)
    assert load(folder).skipped == [(folder / "cat" / "cat_01.png", "Permission denied")]
    (folder / "dog").chmod(0)
    assert_refused(folder, "class 'dog' has no photos", "Permission denied")
    folder.chmod(0)
    assert_refused(folder, "cannot be read: Permission denied")
    folder.chmod(0o700)
    (folder / "dog").chmod(0o700)


def test_memory_that_runs_out_is_no_property_of_a_photo(tmp_path, monkeypatch):
    folder = make(tmp_path / "photos", cat=4, dog=3)
    content = (folder / "cat" / "cat_01.png").read_bytes()
    image_open = Image.open

    def hungry(stream, **options):
        if stream.getvalue() == content:
            raise MemoryError
        return image_open(stream, **options)

    with monkeypatch.context() as context:
        context.setattr(Image, "open", hungry)
        assert load(folder).skipped == [(folder / "cat" / "cat_01.png", "there is not enough memory")]
    assert load(folder).skipped == []


def test_links_are_followed_within_the_folder(tmp_path):
    folder = make(tmp_path / "photos", cat=3, dog=3)
    outside = save(tmp_path / "outside" / "secret.png")
    (folder / "cat" / "inner.png").symlink_to(folder / "dog" / "dog_00.png")
    (folder / "fox").symlink_to(folder / "dog")
    (folder / "cat" / "outer.png").symlink_to(outside)
    (folder / "cat" / "away").symlink_to(outside.parent)
    (folder / "cat" / "beside").symlink_to(tmp_path / "photos_of_others")
    (folder / "cat" / "up").symlink_to(folder)
    (folder / "cat" / "self").symlink_to(folder / "cat")
    (folder / "cat" / "broken.png").symlink_to(folder / "nothing.png")
    (folder / "cat" / "circle.png").symlink_to(folder / "cat" / "circle.png")
    make(tmp_path / "photos_of_others", cat=1)
    photos = load(folder)
    assert photos.class_names == ("cat", "dog", "fox")
    assert np.bincount(np.concatenate([photos.train.labels, photos.valid.labels])).tolist() == [4, 3, 3]
    reasons = {path.name: reason for path, reason in photos.skipped}
    assert reasons.pop("broken.png") == "No such file or directory"
    assert "symbolic links" in reasons.pop("circle.png")
    leaves, returns = "it is a link that leaves the folder", "it is a link that leads back to a folder around it"
    assert reasons == {"outer.png": leaves, "away": leaves, "beside": leaves, "up": returns, "self": returns}


def test_links_that_lead_to_each_other_come_to_an_end(tmp_path):
    folder = make(tmp_path / "photos", cat__one=2, dog__two=2)
    (folder / "cat" / "one" / "to_two").symlink_to(folder / "dog" / "two")
    (folder / "dog" / "two" / "to_one").symlink_to(folder / "cat" / "one")
    photos = load(folder)
    # cat: two of its own and two through the link, which leads back; dog likewise
    assert np.bincount(np.concatenate([photos.train.labels, photos.valid.labels])).tolist() == [4, 4]
    assert len(photos.skipped) == 2


def test_the_folder_itself_may_be_a_link(tmp_path):
    folder = make(tmp_path / "photos", cat=3, dog=3)
    (tmp_path / "link").symlink_to(folder)
    photos = load(tmp_path / "link")
    assert photos.train.paths[0].parent.parent == tmp_path / "link"
    assert_true(photos.train)


# --- Errors ----------------------------------------------------------------------------------------------------


def test_no_folder_and_files_in_its_place(tmp_path, monkeypatch):
    assert_refused(tmp_path / "nowhere", f"there is no folder {tmp_path / 'nowhere'}; give the path of one")
    archive = tmp_path / "photos.zip"
    archive.write_bytes(b"PK")
    assert_refused(archive, "photos.zip is a file; give a folder", "unpack it first")
    assert_refused(save(tmp_path / "cat.png"), "cat.png is a file; give a folder")
    assert_refused(tmp_path / "cat.png" / "inside", "cannot be read: Not a directory")
    assert_refused(tmp_path / "zero\0byte", "cannot be read")
    for wrong in (None, 5, "", b"photos"):
        assert_refused(wrong, f"folder is {wrong!r}; give the path")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert_refused("~/nowhere", f"there is no folder {tmp_path / 'nowhere'}")


def test_no_class_folders(tmp_path):
    folder = make(tmp_path / "photos")
    folder.mkdir()
    assert_refused(folder, "has no class folders and no photos; put photos into a folder for each class")
    save(folder / "1.png")
    assert_refused(folder, "has no class folders and photos directly in it")


def test_one_class(tmp_path):
    folder = make(tmp_path / "photos", cat=3)
    assert_refused(folder, "only the class 'cat'", "add a folder with another class")
    make(folder, dog=3)
    assert_refused(folder, "only the class 'pet'", "let classes or others name", classes={"*": "pet"})
    assert_refused(folder, "only the class 'dog'", classes=["dog"])
    assert_refused(folder, "only the class 'dog'", classes=["dog"], others="dog")


def test_an_empty_class(tmp_path):
    folder = make(tmp_path / "photos", cat=3, dog=3, fox=0)
    (folder / "fox" / "notes.txt").write_text("?")
    reason = "class 'fox' has no photos (1 skipped, such as fox/notes.txt: it is no picture); add .jpg"
    assert_refused(folder, reason, "to fox, remove it, or let classes name the others")
    assert load(folder, classes=["cat", "dog"]).class_names == ("cat", "dog")
    assert load(folder, classes={"cat": "cat"}, others="others").class_names == ("cat", "others")


def test_a_class_of_which_no_photo_can_be_read(tmp_path, capsys):
    folder = make(tmp_path / "photos", cat=3, dog=3, fox=0)
    for number in range(2):
        (folder / "fox" / f"{number}.jpg").write_bytes(b"?")
    assert_refused(folder, "class 'fox' has no photos (2 skipped, such as fox/0.jpg: it cannot be read as a picture")
    assert "fox/1.jpg" in capsys.readouterr().err


def test_a_class_on_one_side_only(tmp_path):
    folder = tmp_path / "photos"
    make(folder / "train", cat=3, dog=3)
    make(folder / "valid", cat=3, dog=0, fox=2)
    assert_refused(folder, "class 'dog' has photos for training only; add some for validation")
    (folder / "valid" / "dog" / "1.jpg").write_bytes(b"?")
    reason = "class 'dog' has photos for training only (1 skipped, such as valid/dog/1.jpg: it cannot be read as"
    assert_refused(folder, reason, classes=["cat", "dog"])
    save(folder / "valid" / "dog" / "2.png")
    assert_refused(folder, "class 'fox' has photos for validation only; add some for training")
    assert load(folder, classes=["cat", "dog"]).class_names == ("cat", "dog")
    assert load(folder, split="stratified").class_names == ("cat", "dog", "fox")


def test_parts_that_are_missing_or_twice(tmp_path):
    folder = make(tmp_path / "photos", cat=3, dog=3)
    assert_refused(folder, "split is 'given'", "no folders train and valid", split="given")
    assert_refused(folder, "valid_parts is ('test',)", "no folders train and valid", valid_parts=("test",))
    parts = tmp_path / "parts"
    for name in ("train", "valid"):
        make(parts / name, cat=3, dog=3)
    assert_refused(parts, "valid_parts has 'test'", "give of what it has: valid", valid_parts=("test",))
    for wrong in ((), ("train",), "training", ("dev",), 5, (None,)):
        assert_refused(parts, f"valid_parts is {wrong!r}; give some of", valid_parts=wrong)
    make(parts / "val", cat=1, dog=1)
    assert_refused(parts, "has val, valid, which mean the same")
    without_train = tmp_path / "without_train"
    for name in ("test", "valid"):
        make(without_train / name, cat=3, dog=3)
    assert_refused(without_train, "test, valid but no train")


def test_photos_directly_in_the_parts_are_no_classes(tmp_path):
    assert_refused(make(tmp_path / "photos", train=3, valid=3), "photos directly in train, valid; put photos into")


def test_photos_outside_of_class_folders_are_named(tmp_path):
    folder = tmp_path / "photos"
    for part in ("train", "valid"):
        make(folder / part, cat=2, dog=2)
    save(folder / "train" / "overview.png")
    save(folder / "unknown" / "1.png")
    photos = load(folder)
    assert [path.relative_to(folder).as_posix() for path, _ in photos.skipped] == [
        "train/overview.png",
        "unknown/1.png",
    ]
    assert len(photos.train.paths) == 4


def test_one_more_level_of_classes(tmp_path):
    folder = make(tmp_path / "photos", data__cat=3, data__dog=3)
    message = assert_refused(folder, "does not show which folders are the classes", "the folders cat, dog")
    assert message.endswith(f"if those are the classes, give {folder / 'data'}")
    assert load(folder / "data").class_names == ("cat", "dog")
    deep = make(tmp_path / "deep", pets__cat=3, pets__dog=3, wild__bear=3, wild__fox=3)
    assert_refused(
        deep, f"{deep / 'pets'} has no photos but the folders cat, dog", "if pets, wild are the classes, name"
    )
    assert load(deep, classes=("pets", "wild")).class_names == ("pets", "wild")
    mixed = make(tmp_path / "mixed", cat=3, others__bear=3, others__fox=3)
    assert_refused(mixed, f"{mixed / 'others'} has no photos but the folders bear, fox")


def test_parts_below_the_classes(tmp_path):
    folder = make(tmp_path / "photos", cat__train=3, cat__valid=2, dog__train=3, dog__valid=2)
    assert_refused(folder, f"{folder / 'cat'} has train, valid in it", "as in train/cat")
    assert_refused(folder, "as in train/cat", classes=["cat", "dog"])
    assert len(load(folder, split="stratified").train.paths) == 8


def test_too_many_classes_and_too_many_files(tmp_path, monkeypatch):
    folder = make(tmp_path / "photos", **{f"class_{number}": 1 for number in range(7)})
    monkeypatch.setattr(class_folders, "LARGEST_CLASSES", 6)
    assert_refused(folder, "7 class folders; give at most 6")
    assert load(make(folder, class_0=2), classes={"*[0-3]": "low", "*": "high"}).class_names == ("high", "low")
    monkeypatch.setattr(folders, "LARGEST_COUNT", 6)
    assert_refused(folder, "8 photos; give a folder of at most 6")
    monkeypatch.setattr(folders, "_LARGEST_ENTRIES", 5)
    assert_refused(folder, "more than 5 files")


def test_the_claim_is_checked_before_anything_is_decoded(tmp_path, decoded):
    folder = make(tmp_path / "photos", cat=5, dog=5)
    assert_refused(folder, "10 photos, which take 3,600 bytes", "largest_bytes is 3,599", largest_bytes=3599)
    assert_refused(folder, "largest_bytes is 0", largest_bytes=0)
    huge = PictureFormat(height=4096, width=4096, channels=3)
    make(folder, cat=50, dog=50)
    with pytest.raises(CourseError, match="100 photos, which take 5,033,164,800 bytes at 4096 × 4096 pixels"):
        load_data(folder, picture_format=huge)
    assert not decoded
    assert len(load(folder, classes=["cat"], others="dog", largest_bytes=36_000).train.paths) == 80


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"split": "random"}, "split is 'random'; give one of auto, given, stratified, grouped"),
        ({"split": None}, "split is None"),
        ({"valid_share": 0}, "valid_share is 0; give a number between 0 and 1"),
        ({"valid_share": 1.0}, "valid_share is 1.0"),
        ({"valid_share": float("nan")}, "valid_share is nan"),
        ({"valid_share": "0.2"}, "valid_share is '0.2'"),
        ({"seed": -1}, "seed is -1"),
        ({"seed": 0.5}, "seed is 0.5"),
        ({"workers": 0}, "workers is 0"),
        ({"workers": 1.5}, "workers is 1.5"),
        ({"others": "rest"}, "others is 'rest', but classes names none"),
        ({"classes": "cat"}, "classes is 'cat'"),
        ({"classes": ()}, "classes is ()"),
        ({"classes": {}}, "classes is {}"),
        ({"classes": 5}, "classes is 5"),
        ({"classes": ["cat", 5]}, "classes is ['cat', 5]"),
        ({"classes": {"cat": ""}}, "classes is {'cat': ''}"),
        ({"classes": ["cat"], "others": 3}, "others 3"),
        ({"classes": ["cat", "cow"]}, "classes has 'cow', which is none of the class folders"),
        ({"classes": {"c*": "cat", "x*": "other"}}, "classes has 'x*', which is none"),
        ({"classes": ["cat", "dog"], "others": "rest"}, "others is 'rest', but classes names every class folder"),
    ],
)
def test_arguments_that_make_no_sense(tmp_path, options, reason, decoded):
    assert_refused(make(tmp_path / "photos", cat=2, dog=2), reason, **options)
    assert not decoded


def test_pictures_must_be_a_format(tmp_path):
    for wrong in (224, (224, 224), None):
        with pytest.raises(CourseError, match="give a PictureFormat"):
            load_data(tmp_path, picture_format=wrong)


# --- Decoding --------------------------------------------------------------------------------------------------


def test_arrays_can_be_written_to(tmp_path):
    photos = load(make(tmp_path / "photos", train__cat=2, train__dog=2, valid__cat=2, valid__dog=2))
    for (pictures, labels), other in (photos.parts, photos.parts[::-1]):
        before = other[0].copy()
        pictures[...] = 0
        labels[...] = 0
        np.testing.assert_array_equal(other[0], before)


def test_parts_in_one_piece_are_not_copied(tmp_path):
    folder = make(tmp_path / "photos", train__cat=2, train__dog=2, valid__cat=2, valid__dog=2)
    photos = load(folder)
    assert photos.train.pictures.base is photos.valid.pictures.base is not None


def test_nothing_is_kept(tmp_path, decoded):
    folder = make(tmp_path / "photos", cat=2, dog=2)
    load(folder)
    changed = save(folder / "cat" / "cat_01.png", drawing("another one"))
    os.utime(changed, ns=(1, 1))
    photos = load(folder)
    assert len(decoded) == 8
    assert_true(photos.train)
    assert_true(photos.valid)
    assert list(tmp_path.iterdir()) == [folder]


def test_a_bar_for_a_person(tmp_path, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    folder = make(tmp_path / "photos", cat=3, dog=3)
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    load(folder)
    assert "6/6" in sys.stderr.getvalue()


def test_somebody_who_ends_it_does_not_wait(tmp_path, monkeypatch):
    folder = make(tmp_path / "photos", cat=100, dog=100)
    prepare = images.prepare
    count = []

    def slow(*arguments, **options):
        count.append(1)
        time.sleep(0.02)
        return prepare(*arguments, **options)

    def ended(steps, total, unit):
        next(iter(steps))
        raise KeyboardInterrupt

    monkeypatch.setattr(images, "prepare", slow)
    with monkeypatch.context() as context:
        context.setattr(photo_folder, "with_progress_bar", ended)
        with pytest.raises(KeyboardInterrupt):
            load(folder, workers=2)
    assert len(count) < 20
    assert len(load(folder, workers=64).train.paths) == 160


# --- Real photos -----------------------------------------------------------------------------------------------

AS_IN_IMAGENET = PictureFormat(height=224, width=224, channels=3, middle=0.875)


def test_fruit(course_data, capsys):
    folder = course_data / "fruit"
    photos = load_data(folder, picture_format=AS_IN_IMAGENET, valid_parts=("valid", "test"))
    assert photos.train.pictures.shape == (448, 224, 224, 3)
    assert photos.valid.pictures.shape == (128 + 64, 224, 224, 3)
    assert photos.skipped == []
    fruits = ("apple", "banana", "grape", "guava", "jujube", "orange", "pomegranate", "strawberry")
    assert photos.class_names == tuple(f"{state}_{fruit}" for state in ("fresh", "rotten") for fruit in fruits)
    for part in (photos.train, photos.valid):
        assert classes_of(photos, part) == [path.parent.name for path in part.paths]
        for place in (0, 17, 127):
            np.testing.assert_array_equal(part.pictures[place], images.prepare(part.paths[place], AS_IN_IMAGENET))
    for options, count in (({}, 128), ({"valid_parts": ("test",)}, 64), ({"split": "stratified"}, 115)):
        again = load_data(folder, picture_format=PictureFormat(height=16, width=16, channels=3), **options)
        assert abs(len(again.valid.paths) - count) <= 8  # a stratified share is rounded in each of 16 classes
    assert capsys.readouterr().err == ""


def test_fresh_or_rotten_fruit(course_data):
    small = PictureFormat(height=64, width=64, channels=3)
    options = {"picture_format": small, "classes": {"fresh_*": "fresh", "rotten_*": "rotten"}}
    photos = load_data(course_data / "fruit", **options)
    assert photos.class_names == ("fresh", "rotten")
    assert [len(photos.train.paths), len(photos.valid.paths)] == [448, 128]
    for part in (photos.train, photos.valid):
        assert classes_of(photos, part) == [path.parent.name.split("_")[0] for path in part.paths]
    grouped = load_data(course_data / "fruit", **options, split="grouped")
    assert len(grouped.train.paths) + len(grouped.valid.paths) == 576
    shares = np.bincount(grouped.valid.labels) / np.bincount(np.concatenate([photos.train.labels, photos.valid.labels]))
    np.testing.assert_allclose(shares, 0.2, atol=0.01)
    one = load_data(course_data / "fruit", **options | {"classes": ["fresh_apple"], "others": "others"})
    counts = np.bincount(one.train.labels)
    assert counts.tolist() == [30, 418]
    np.testing.assert_allclose(class_weights(one.train.labels, 2) * counts, [224, 224], rtol=1e-6)
