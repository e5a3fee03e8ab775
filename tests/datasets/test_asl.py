"""Hand signs from files of every kind, made small here; series of near-copies; and the script that prepares them."""

import importlib.util
import io
import os
import pickle
import re
import struct
import sys
import tracemalloc
import zipfile
import zlib
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from keras_course.datasets import asl, hands, splits
from keras_course.errors import CourseError
from keras_course.preprocessing import prepare

SCRIPT = Path(__file__).parents[2] / "data_scripts" / "prepare_asl.py"
HEADER = "label," + ",".join(f"pixel{number}" for number in range(1, 785))
RANDOM = np.random.default_rng(0)
X_TRAIN = RANDOM.integers(0, 256, (48, 28, 28), dtype=np.uint8)
Y_TRAIN = np.arange(48) % 24
X_VALID = RANDOM.integers(0, 256, (24, 28, 28), dtype=np.uint8)
Y_VALID = np.arange(24)[::-1].copy()
ARRAYS = {"x_train": X_TRAIN, "y_train": Y_TRAIN, "x_valid": X_VALID, "y_valid": Y_VALID}
# Kaggle's labels by hand: A..I are 0..8, K..Y are 10..24
KAGGLE = np.array([0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24])


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_COURSE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("KERAS_COURSE_DATA", raising=False)
    return tmp_path / "cache"


@pytest.fixture
def drawn(monkeypatch):
    """Stands in for the hands that are drawn, of which there are thousands."""
    signs = (
        (np.zeros((3, 28, 28, 1), np.uint8), np.zeros(3, "int32")),
        (np.ones((2, 28, 28, 1), np.uint8), np.zeros(2, "int32")),
    )
    monkeypatch.setattr(hands, "load_data", lambda: signs)
    return signs


def write_npz(path, **changes):
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **{key: array for key, array in (ARRAYS | changes).items() if array is not None})
    return path


def csv_text(pictures, labels, header=HEADER):
    rows = [",".join(map(str, [label, *picture.flatten()])) for picture, label in zip(pictures, labels, strict=True)]
    return "\n".join([header, *rows, ""])


def write_csvs(folder, train=None, valid=None, valid_name="sign_mnist_test.csv"):
    """Two CSV files with Kaggle's labels, or with other contents."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sign_mnist_train.csv").write_text(train or csv_text(X_TRAIN, KAGGLE[Y_TRAIN]))
    (folder / valid_name).write_text(valid or csv_text(X_VALID, KAGGLE[Y_VALID]))
    return folder


def zip_folder(folder, path, rename=lambda name: name):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                archive.write(file, rename(file.relative_to(folder).as_posix()))
    return path


def write_photo(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(pixels, np.uint8)).save(path)
    return path


def photo_bytes(pixels, kind="PNG"):
    stream = io.BytesIO()
    Image.fromarray(np.asarray(pixels, np.uint8)).save(stream, kind)
    return stream.getvalue()


def texture(number, size=60):
    """A picture of large blots, which are not the same for two numbers."""
    blots = np.random.default_rng(number).integers(0, 200, (6, 6), dtype=np.uint8)
    return np.kron(blots, np.ones((size // 6, size // 6), np.uint8))


def assert_own_signs(signs):
    (x_train, y_train), (x_valid, y_valid) = signs
    for found, expected in ((x_train, X_TRAIN), (x_valid, X_VALID)):
        assert found.dtype == np.uint8
        assert found.flags.writeable
        np.testing.assert_array_equal(found, expected[..., np.newaxis])
    for found, expected in ((y_train, Y_TRAIN), (y_valid, Y_VALID)):
        assert found.dtype == np.int32
        np.testing.assert_array_equal(found, expected)


def assert_refused(path, reason):
    with pytest.raises(CourseError, match=reason) as error:
        asl.load_data(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_the_letters_are_a_to_y_without_j():
    assert "".join(asl.CLASS_NAMES) == "ABCDEFGHIKLMNOPQRSTUVWXY"
    assert asl.INPUT_SHAPE == (28, 28, 1)


class TestNpz:
    def test_our_keys_and_a_path_as_text(self, tmp_path):
        path = write_npz(tmp_path / "signs.npz")
        assert_own_signs(asl.load_data(str(path)))
        assert asl.locate(str(path)) == path

    def test_keras_keys(self, tmp_path):
        path = write_npz(tmp_path / "signs.npz", x_valid=None, y_valid=None, x_test=X_VALID, y_test=Y_VALID)
        assert_own_signs(asl.load_data(path))

    def test_in_a_folder_with_other_things(self, tmp_path):
        write_npz(tmp_path / "data" / "sign_mnist.npz")
        write_photo(tmp_path / "data" / "fruit" / "train" / "fresh_apple" / "001.png", texture(0))
        assert_own_signs(asl.load_data(tmp_path / "data"))

    @pytest.mark.parametrize(
        ("changes", "reason"),
        [
            ({"y_valid": None}, "it has no y_valid or y_test"),
            ({"x_train": X_TRAIN / 255}, r"x_train\.npy is float64 \(48, 28, 28\); wanted is uint8"),
            ({"y_valid": Y_VALID + 1}, "valid has labels from 1 to 24; wanted is 0 to 23"),
        ],
    )
    def test_arrays_that_are_no_signs(self, tmp_path, changes, reason):
        assert_refused(write_npz(tmp_path / "signs.npz", **changes), reason)

    def test_pickled_objects_are_not_opened(self, tmp_path):
        class Trap:
            def __reduce__(self):
                return (os.mkdir, (str(tmp_path / "trapped"),))

        (tmp_path / "pickle.npz").write_bytes(pickle.dumps(Trap()))
        assert_refused(tmp_path / "pickle.npz", "neither a folder nor a zip")
        assert not (tmp_path / "trapped").exists()

    def test_any_damage_ends_in_one_clear_line(self, tmp_path):
        sound = write_npz(tmp_path / "sound.npz", x_train=X_TRAIN[:3], y_train=Y_TRAIN[:3]).read_bytes()
        messages = []
        for seed in range(60):
            random = np.random.default_rng(seed)
            content = bytearray(sound)
            for place in random.integers(len(sound) - 600 if seed % 2 else 0, len(sound), 3):
                content[place] = random.integers(256)
            (tmp_path / "signs.npz").write_bytes(
                content[: len(sound) if seed % 3 else int(random.integers(len(sound)))]
            )
            try:
                asl.load_data(tmp_path / "signs.npz")
            except CourseError as error:
                messages.append(str(error))
        assert len(messages) > 30
        assert not any("\n" in message for message in messages)


class TestCsv:
    def test_kaggles_labels_leave_out_j(self, tmp_path):
        assert_own_signs(asl.load_data(write_csvs(tmp_path / "kaggle")))

    def test_the_courses_labels_do_not(self, tmp_path):
        folder = write_csvs(
            tmp_path / "course", csv_text(X_TRAIN, Y_TRAIN), csv_text(X_VALID, Y_VALID), "sign_mnist_valid.csv"
        )
        assert_own_signs(asl.load_data(folder))

    def test_one_file_with_the_telling_label_is_enough_for_both(self, tmp_path):
        few = Y_VALID > 13  # Y_VALID has 23..0; 14..23 are 15..24 for Kaggle
        folder = write_csvs(tmp_path / "kaggle", valid=csv_text(X_VALID[few][1:], KAGGLE[Y_VALID[few]][1:]))
        _, (_, y_valid) = asl.load_data(folder)
        assert y_valid.tolist() == [22, 21, 20, 19, 18, 17, 16, 15, 14]

    def test_labels_that_mean_the_same_everywhere_need_no_telling_one(self, tmp_path):
        few = Y_TRAIN < 9
        text = csv_text(X_TRAIN[few], Y_TRAIN[few])
        (_, y_train), _ = asl.load_data(write_csvs(tmp_path / "few", text, text))
        assert y_train.tolist() == [*range(9), *range(9)]

    def test_kaggles_zip_has_each_file_twice_and_macos_adds_more(self, tmp_path):
        folder = write_csvs(tmp_path / "kaggle")
        for name in ("sign_mnist_train", "sign_mnist_test"):
            (folder / name).mkdir()
            (folder / name / f"{name}.csv").write_text("another copy")
        (folder / "__MACOSX").mkdir()
        (folder / "__MACOSX" / "sign_mnist_train.csv").write_text("macOS")
        (folder / "._sign_mnist_train.csv").write_text("macOS")
        assert_own_signs(asl.load_data(folder))
        path = zip_folder(folder, tmp_path / "archive.zip")
        assert_own_signs(asl.load_data(path))
        assert_own_signs(asl.load_data(zip_folder(folder, path, lambda name: f"in\\windows\\{name}")))

    def test_line_ends_of_windows_a_mark_and_no_last_line_end(self, tmp_path):
        train = "\ufeff" + csv_text(X_TRAIN, KAGGLE[Y_TRAIN]).replace("\n", "\r\n").rstrip()
        folder = write_csvs(tmp_path / "kaggle")
        (folder / "sign_mnist_train.csv").write_bytes(train.encode())
        assert_own_signs(asl.load_data(folder))

    @pytest.mark.parametrize(
        ("labels", "reason"),
        [
            (np.arange(24) + 2, "it has the label 25; wanted is 0 to 24, because 25 is Z, a movement"),
            (np.arange(24) + 1, "it has the labels 9 and 24"),
            (
                np.where((np.arange(24) == 9) | (np.arange(24) == 23), 10, np.arange(24)),
                "do not say which letters they are: 22 is X where 9 is K, W where 9 is left out",
            ),
        ],
    )
    def test_labels_that_cannot_be_understood(self, tmp_path, labels, reason):
        assert_refused(write_csvs(tmp_path / "odd", csv_text(X_VALID, labels), csv_text(X_VALID, labels)), reason)

    GOOD = csv_text(X_VALID[:2], [0, 24])

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            (csv_text(X_VALID[:1], [0], HEADER.replace("pixel1", "pixel0")), "begins with 'label,pixel0"),
            (GOOD.partition("\n")[2], "begins with '0,"),
            (HEADER, r"sign_mnist_train\.csv has no rows"),
            (f"{HEADER}\n\n", r"sign_mnist_train\.csv has no rows"),
            (GOOD[:-200], r"sign_mnist_train\.csv: the number of columns changed from 785"),
            (f"{HEADER}\n0,1,2\n", r"sign_mnist_train\.csv has rows of 3 numbers; wanted are 785"),
            (f"{HEADER}\n{','.join(['0'] * 784)},256\n", "could not convert string '256'"),
            (f"{HEADER}\n-1,{','.join(['0'] * 784)}\n", "could not convert string '-1'"),
            (f"{HEADER}\n0.5,{','.join(['0'] * 784)}\n", "could not convert string '0.5'"),
            (f"{HEADER}\n{','.join(['0'] * 784)},\n", "could not convert string ''"),
        ],
        ids=["header", "no header", "only header", "empty", "cut", "columns", "large", "negative", "fraction", "gap"],
    )
    def test_tables_that_are_wrong(self, tmp_path, text, reason):
        assert_refused(write_csvs(tmp_path / "wrong", train=text), reason)

    def test_files_that_are_missing_or_too_many(self, tmp_path):
        folder = write_csvs(tmp_path / "kaggle")
        assert_refused(folder / "sign_mnist_train.csv", "give the folder with both CSV files")
        (folder / "sign_mnist_valid.csv").write_text("x")
        assert_refused(folder, r"it has sign_mnist_test\.csv and sign_mnist_valid\.csv; keep one")
        (folder / "sign_mnist_valid.csv").unlink()
        (folder / "sign_mnist_test.csv").unlink()
        assert_refused(folder, r"it has sign_mnist_train\.csv but no sign_mnist_test\.csv or sign_mnist_valid\.csv")
        (folder / "a").mkdir()
        (folder / "b").mkdir()
        (folder / "sign_mnist_train.csv").rename(folder / "a" / "sign_mnist_train.csv")
        (folder / "a" / "sign_mnist_test.csv").write_text("x")
        (folder / "b" / "sign_mnist_train.csv").write_text("x")
        assert_refused(folder, r"it has a/sign_mnist_train\.csv and b/sign_mnist_train\.csv; keep one")
        (folder / "a" / "sign_mnist_train.csv").unlink()
        (folder / "b" / "sign_mnist_train.csv").unlink()
        assert_refused(folder, r"it has a/sign_mnist_test\.csv but no sign_mnist_train\.csv")


class TestZip:
    @pytest.mark.parametrize("name", ["../sign_mnist_train.csv", "/tmp/sign_mnist_train.csv", "a\\..\\..\\b.csv"])
    def test_names_that_lead_out_of_the_archive(self, tmp_path, name):
        path = zip_folder(write_csvs(tmp_path / "kaggle"), tmp_path / "archive.zip")
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr(name, "evil")
        before = {file for file in tmp_path.parent.rglob("*") if file.name == "sign_mnist_train.csv"}
        assert_refused(path, "leads out of the archive")
        assert {file for file in tmp_path.parent.rglob("*") if file.name == "sign_mnist_train.csv"} == before

    def test_a_file_that_claims_a_huge_size(self, tmp_path):
        path = tmp_path / "archive.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("sign_mnist_test.csv", HEADER)
            with archive.open("sign_mnist_train.csv", "w") as member:
                for _ in range(300):
                    member.write(bytes(2**20))
        assert path.stat().st_size < 2**20
        tracemalloc.start()
        assert_refused(path, r"sign_mnist_train\.csv claims 314,572,800 bytes, more than the 268,435,456")
        assert tracemalloc.get_traced_memory()[1] < 4_000_000
        tracemalloc.stop()

    def test_a_file_that_holds_more_than_it_claims(self, tmp_path):
        """The table of contents says 100 bytes for what unfolds to a megabyte."""
        path = tmp_path / "archive.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("sign_mnist_train.csv", bytes(2**20))
            archive.writestr("sign_mnist_test.csv", HEADER)
        content = path.read_bytes()
        assert content.count(struct.pack("<I", 2**20)) == 2
        path.write_bytes(content.replace(struct.pack("<I", 2**20), struct.pack("<I", 100)))
        assert_refused(path, "does not hold hand signs")

    def test_other_compression_other_content_and_damage(self, tmp_path):
        path = tmp_path / "archive.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
            archive.writestr("sign_mnist_train.csv", HEADER)
        assert_refused(path, r"sign_mnist_train\.csv is compressed in a way")
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("ASL_Raw_Images.zip", b"PK")
        assert_refused(path, r"it has no sign_mnist\.npz, no sign_mnist_train\.csv, no parquet files and no folders")
        whole = zip_folder(write_csvs(tmp_path / "kaggle"), path).read_bytes()
        path.write_bytes(whole[:-100])
        assert_refused(path, "not a zip file")
        path.write_bytes(whole[:2000] + bytes(20) + whole[2020:])
        assert_refused(path, "sign_mnist_t|invalid|CRC")


class TestPhotos:
    def test_train_and_valid_of_any_size_and_kind(self, tmp_path):
        """All of a photo, averaged, its edges repeated, from black to white where there is more than one gray; that is
        0.299 R + 0.587 G + 0.114 B, by hand: 76 for pure red."""
        tall = np.zeros((84, 28), np.uint8)
        tall[28:56] = 200  # a third of 28 rows from black to white, over the whole width
        write_photo(tmp_path / "asl_alphabet_train" / "A" / "1.png", tall)
        write_photo(tmp_path / "asl_alphabet_train" / "y" / "1.jpg", np.full((300, 500), 70))
        write_photo(tmp_path / "Validation" / "a" / "test_1.bmp", np.full((30, 30, 3), (255, 0, 0)))
        halves = np.repeat([[0, 255]], 14, axis=1)
        write_photo(tmp_path / "Validation" / "K" / "2.webp", np.repeat(np.repeat(halves, 28, axis=0), 2, axis=0))
        (tmp_path / "Validation" / "K" / "notes.txt").write_text("no picture")
        (x_train, y_train), (x_valid, y_valid) = asl.load_data(tmp_path)
        assert y_train.tolist() == [0, 23]
        assert y_valid.tolist() == [9, 0] if y_valid[0] else [0, 9]
        assert x_train[0, 11:17].min() > 240  # at an edge, bicubic interpolation goes a little beyond
        assert np.all(x_train[0, :8] == 0)
        assert np.all(x_train[0] == x_train[0, :, :1]), "what is beside the photo continues it"
        assert abs(int(x_train[1].mean()) - 70) <= 1
        assert np.all(x_valid[y_valid == 0] == 76)
        assert x_valid[y_valid == 9][0, :, :13].max() < 20
        assert x_valid[y_valid == 9][0, :, 15:].min() > 235

    def test_shrinking_averages(self, tmp_path):
        """Stripes of one pixel, 0 and 200, are gray from afar; taking every tenth pixel would keep them."""
        stripes = np.tile(np.array([[0], [200]]), (140, 280))
        for side in ("train", "valid"):
            write_photo(tmp_path / side / "B" / "1.png", stripes)
        (x_train, _), _ = asl.load_data(tmp_path)
        np.testing.assert_allclose(x_train[0, 2:-2, :, 0].astype(float), 100, atol=2)

    def test_a_phone_held_sideways(self, tmp_path):
        """Orientation 6: the camera was turned, and the picture is to be turned by 90° clockwise when shown."""
        pixels = np.zeros((280, 280), np.uint8)
        pixels[:140] = 255
        image = Image.fromarray(pixels)
        exif = image.getexif()
        exif[274] = 6
        for side in ("train", "valid"):
            (tmp_path / side / "B").mkdir(parents=True)
            image.save(tmp_path / side / "B" / "1.jpg", exif=exif)
        (x_train, _), _ = asl.load_data(tmp_path)
        assert x_train[0, :, :12].max() < 30
        assert x_train[0, :, 16:].min() > 225

    def test_folders_that_are_no_letters(self, tmp_path):
        for folder in ("J", "z", "0", "B"):
            write_photo(tmp_path / "train" / folder / "1.png", texture(1))
            write_photo(tmp_path / "test" / folder / "1.png", texture(2))
        (_, y_train), (_, y_valid) = asl.load_data(tmp_path)
        assert (y_train.tolist(), y_valid.tolist()) == ([1], [1])
        write_photo(tmp_path / "train" / "Hello" / "1.png", texture(1))
        assert_refused(
            tmp_path, r"train/Hello/1\.png is in the folder or class 'Hello'; wanted is a letter from A to Y"
        )

    def test_pictures_without_a_folder_and_none_at_all(self, tmp_path):
        assert_refused(tmp_path, "no folders of pictures named by their letters")
        write_photo(tmp_path / "7" / "1.png", texture(1))
        assert_refused(tmp_path, "it has no pictures of letters")
        write_photo(tmp_path / "hand.png", texture(1))
        assert_refused(tmp_path, r"hand\.png is in the folder or class ''")

    def test_some_on_a_side_and_some_not(self, tmp_path):
        write_photo(tmp_path / "train" / "A" / "1.png", texture(1))
        write_photo(tmp_path / "A" / "1.png", texture(1))
        assert_refused(tmp_path, "some of its pictures are in a folder for training or validation and others are not")

    def test_without_sides_a_series_stays_together(self, tmp_path):
        """Three photos of each letter, in four versions each that differ in brightness."""
        for letter in "AB":
            for photo in range(3):
                for version in range(4):
                    pixels = texture(100 * ord(letter) + photo) * (1 - 0.1 * version) + 10 * version
                    write_photo(tmp_path / letter / f"{photo}{version}.png", pixels)
        (x_train, y_train), (x_valid, y_valid) = asl.load_data(tmp_path)
        assert (y_train.tolist(), y_valid.tolist()) == ([0] * 8 + [1] * 8, [0] * 4 + [1] * 4)
        for picture in x_valid:
            correlations = [np.corrcoef(picture.flatten(), other.flatten())[0, 1] for other in x_train]
            assert max(correlations) < 0.9

    def test_without_sides_a_person_stays_together(self, tmp_path):
        """ASL-HG's names say who signs. All photos differ, so that the names alone can hold a person together."""
        for letter in range(2):
            for person in (1, 2, 10):
                for photo in range(3):
                    file = tmp_path / "AB"[letter] / f"P{person}_{'AB'[letter]}_{photo}.jpg"
                    write_photo(file, np.full((30, 30), 20 * person + photo + 3 * letter))
        (x_train, _), (x_valid, _) = asl.load_data(tmp_path)
        train, valid = ({int(value) // 20 for value in x.mean(axis=(1, 2, 3)).round()} for x in (x_train, x_valid))
        assert train | valid == {1, 2, 10}
        assert len(valid) == 1
        assert not train & valid

    def test_grouped_parts_anew_what_is_already_parted(self, tmp_path):
        for person in range(8):
            for photo in range(4):
                side = "train" if photo else "test"
                write_photo(tmp_path / side / "A" / f"P{person}_A_{photo}.png", np.full((28, 28), 20 * person + photo))
        given = asl.load_data(tmp_path)
        assert sorted(given[1][0][:, 0, 0, 0].tolist()) == [20 * person for person in range(8)]
        (x_train, _), (x_valid, _) = asl.load_data(tmp_path, split="grouped")
        assert len(x_valid) == 8  # two of eight people
        assert not {value // 20 for value in x_train[:, 0, 0, 0]} & {value // 20 for value in x_valid[:, 0, 0, 0]}

    def test_one_series_of_a_letter_cannot_be_parted(self, tmp_path):
        write_photo(tmp_path / "A" / "1.png", texture(1))
        write_photo(tmp_path / "A" / "2.png", texture(1))
        with pytest.raises(CourseError, match="class A is in a single group, which cannot be on both sides"):
            asl.load_data(tmp_path)

    def test_a_zip_of_photos(self, tmp_path):
        for side in ("train", "valid"):
            write_photo(tmp_path / "photos" / side / "L" / "1.png", np.full((40, 40), 60))
        (x_train, y_train), _ = asl.load_data(zip_folder(tmp_path / "photos", tmp_path / "photos.zip"))
        assert y_train.tolist() == [10]
        assert np.all(x_train == 60)

    def huge_png(self):
        """A PNG that claims 20,000 × 20,000 pixels in a few bytes."""

        def chunk(kind, content):
            body = kind + content
            return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

        header = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 0, 0, 0, 0)
        data = zlib.compress(bytes(1000))
        return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")

    @pytest.mark.parametrize("damage", ["huge", "cut", "text", "empty", "vector"])
    def test_pictures_that_cannot_be_read(self, tmp_path, capsys, damage):
        whole = photo_bytes(np.random.default_rng(0).integers(0, 256, (100, 100)), "JPEG")
        content = {
            "huge": self.huge_png(),
            "cut": whole[: len(whole) // 2],
            "text": b"no picture",
            "empty": b"",
            "vector": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        }[damage]
        for side in ("train", "valid"):
            write_photo(tmp_path / side / "A" / "1.png", texture(1))
        (tmp_path / "train" / "A" / "2.jpg").write_bytes(content)
        reason = "it has too many pixels" if damage == "huge" else "it cannot be read as a picture"
        tracemalloc.start()
        (_, y_train), (_, y_valid) = asl.load_data(tmp_path)
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
        tracemalloc.stop()
        assert (y_train.tolist(), y_valid.tolist()) == ([0], [0])
        error = capsys.readouterr().err
        assert error.startswith(f"{tmp_path}: 1 skipped: train/A/2.jpg ({reason}")
        assert error.count("\n") == 1
        for side in ("train", "valid"):
            (tmp_path / side / "A" / "1.png").unlink()
        assert_refused(tmp_path, rf"it has no pictures of letters: train/A/2\.jpg: {reason}")

    def test_a_file_too_large_for_a_picture(self, tmp_path):
        (tmp_path / "A").mkdir()
        with (tmp_path / "A" / "1.jpg").open("wb") as file:
            file.truncate(2**25 + 1)
        assert_refused(tmp_path, r"A/1\.jpg: it has 33,554,433 bytes; at most 33,554,432 are read")

    def test_every_file_is_read_or_named(self, tmp_path, capsys):
        for side in ("train", "valid"):
            for letter in "AB":
                write_photo(tmp_path / side / letter / "1.png", texture(1))
        write_photo(tmp_path / "train" / "A" / "scan.tif", texture(2))
        write_photo(tmp_path / "train" / "A" / "moving.gif", texture(2))
        write_photo(tmp_path / "train" / "J" / "1.png", texture(2))
        (tmp_path / "train" / "A" / "IMG_1.HEIC").write_bytes(b"1")
        (tmp_path / "train" / "B" / "IMG_2.CR2").write_bytes(b"1")
        (tmp_path / "notes.txt").write_text("...")
        write_photo(tmp_path / "train" / "B" / "@eaDir" / "1.png" / "SYNOPHOTO_THUMB_M.png", texture(2))
        (_, y_train), _ = asl.load_data(tmp_path)
        assert y_train.tolist() == [0, 0, 0, 1]
        error = capsys.readouterr().err
        assert error.startswith(f"{tmp_path}: 4 skipped: ")
        for name in (
            "train/A/IMG_1.HEIC (",
            "train/B/IMG_2.CR2 (",
            "notes.txt (",
            "train/J/1.png (J is no letter that",
        ):
            assert name in error

    def test_kaggles_asl_alphabet(self, tmp_path, capsys):
        """Folders in folders of their names, ``del``, ``nothing`` and ``space``, and a test part without classes."""
        train, test = (tmp_path / f"asl_alphabet_{part}" / f"asl_alphabet_{part}" for part in ("train", "test"))
        for letter in "AB":
            for number in range(3):
                write_photo(train / letter / f"{letter}{number}.png", texture(ord(letter) + 100 * number))
            write_photo(test / f"{letter}_test.png", texture(7))
        for name in ("del", "nothing", "space", "J", "Z"):
            write_photo(train / name / "1.png", texture(7))
        (_, y_train), (_, y_valid) = asl.load_data(tmp_path)
        assert sorted([*y_train.tolist(), *y_valid.tolist()]) == [0] * 3 + [1] * 3
        error = capsys.readouterr().err
        assert error.startswith(f"{tmp_path}: 7 skipped: ")
        assert "asl_alphabet_test/asl_alphabet_test/A_test.png (it is in no folder of a letter)" in error

    def test_a_test_part_beside_a_valid_one_stays_unseen(self, tmp_path, capsys):
        for number, part in enumerate(("train", "valid", "test")):
            write_photo(tmp_path / part / "A" / "1.png", np.full((28, 28), 10 * number))
        (x_train, _), (x_valid, _) = asl.load_data(tmp_path)
        assert (x_train.mean(), x_valid.mean()) == (0, 10)
        assert "1 skipped: test/A/1.png (the test part stays unseen" in capsys.readouterr().err

    def test_valid_and_test_without_train_are_refused(self, tmp_path):
        for part in ("valid", "test"):
            write_photo(tmp_path / part / "A" / "1.png", np.zeros((28, 28)))
        assert_refused(tmp_path, "it has the parts valid and test but no train; add train, or give one of them")

    def test_too_many_pictures_are_refused(self, tmp_path, monkeypatch):
        monkeypatch.setattr(asl, "LARGEST_COUNT", 2)
        for number in range(3):
            write_photo(tmp_path / "A" / f"{number}.png", np.zeros((28, 28)))
        assert_refused(tmp_path, "it has more than 2 pictures")


class TestParquet:
    def write(self, path, labels, pixels, *, names=None, columns=("image", "label")):
        """What the datasets library of Hugging Face writes for a folder of pictures."""
        pyarrow = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        images = [
            {"bytes": photo_bytes(np.full((40, 40), value)), "path": f"P{value}_X_{place}.jpg"}
            for place, value in enumerate(pixels)
        ]
        table = pyarrow.table(dict(zip(columns, (images, labels), strict=True)))
        if names is not None:
            features = {"label": {"names": names, "_type": "ClassLabel"}}
            table = table.replace_schema_metadata(
                {"huggingface": str({"info": {"features": features}}).replace("'", '"')}
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        parquet.write_table(table, path)
        return path

    NAMES = (*"0123456789", *"ABCDEFGHIJKLMNOPQRSTUVWXYZ")

    def test_asl_hg(self, tmp_path):
        """Classes 0 to 9 are digits; 10 is A, 19 is J, 20 is K, 34 is Y and 35 is Z."""
        self.write(tmp_path / "train-00000-of-00001.parquet", [0, 10, 19, 20], [1, 2, 3, 4], names=list(self.NAMES))
        self.write(tmp_path / "test-00000-of-00001.parquet", [35, 34, 20], [5, 6, 7], names=list(self.NAMES))
        (x_train, y_train), (x_valid, y_valid) = asl.load_data(tmp_path)
        assert (y_train.tolist(), y_valid.tolist()) == ([0, 9], [23, 9])
        assert x_train[:, 5, 5, 0].tolist() == [2, 4]
        assert x_valid[:, 5, 5, 0].tolist() == [6, 7]

    def test_a_single_file_is_parted_by_person(self, tmp_path):
        people = [1, 1, 2, 2, 3, 3, 4, 4]
        path = self.write(tmp_path / "all.parquet", ["A", "b"] * 4, people)
        (x_train, y_train), (x_valid, y_valid) = asl.load_data(path)
        assert (len(y_train), sorted(y_valid.tolist())) == (6, [0, 1])
        assert len({*x_valid[:, 0, 0, 0]}) == 1
        assert not {*x_train[:, 0, 0, 0]} & {*x_valid[:, 0, 0, 0]}

    def test_numbers_without_names_other_columns_and_damage(self, tmp_path):
        path = self.write(tmp_path / "all.parquet", [10, 11], [1, 2])
        assert_refused(path, "is in the folder or class '10'; wanted is a letter")
        path = self.write(tmp_path / "all.parquet", ["A", "B"], [1, 2], columns=("image", "answer"))
        assert_refused(path, r"all\.parquet has no column label, or another of .*; it has image, answer")
        path.write_bytes(path.read_bytes()[:-50])
        assert_refused(path, "does not hold hand signs")

    @pytest.mark.parametrize("number", [26, 2**40, -2])
    def test_a_number_that_is_no_class_is_refused(self, tmp_path, number):
        names = list("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
        path = self.write(tmp_path / "all.parquet", [0, number], [1, 2], names=names)
        assert_refused(path, rf"has the label {number}; wanted is 0 to 25")

    def test_rows_without_a_label_or_a_picture_are_named(self, tmp_path, capsys):
        """Hugging Face writes -1 where a label is not known; as an index it is the last class."""
        names = list("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
        path = self.write(tmp_path / "all.parquet", [0, -1, 1, None, 0, 1], [1, 2, 3, 4, 5, 6], names=names)
        (_, y_train), (_, y_valid) = asl.load_data(path)
        assert sorted([*y_train.tolist(), *y_valid.tolist()]) == [0, 0, 1, 1]
        error = capsys.readouterr().err
        assert error.startswith(f"{path}: 2 skipped: all.parquet/P2_X_1.jpg (it has no label), all.parquet/P4_X_3.jpg")

    @pytest.mark.parametrize(
        "columns", [("img", "label"), ("image", "labels"), ("picture", "letter"), ("jpg", "class")]
    )
    @pytest.mark.parametrize("is_binary", [False, True])
    def test_other_columns_and_bytes_alone(self, tmp_path, capsys, columns, is_binary):
        pyarrow = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        contents = [photo_bytes(np.full((40, 40), 20 * number)) for number in range(4)] + [None]
        pictures = contents if is_binary else [{"bytes": content, "path": None} for content in contents]
        table = pyarrow.table({columns[0]: pictures, "id": list(range(5)), columns[1]: ["A", "A", "B", "B", "A"]})
        path = tmp_path / "all.parquet"
        parquet.write_table(table, path)
        (x_train, y_train), (x_valid, y_valid) = asl.load_data(path)
        found = dict(
            zip([*x_train[:, 0, 0, 0].tolist(), *x_valid[:, 0, 0, 0].tolist()], [*y_train, *y_valid], strict=True)
        )
        assert found == {0: 0, 20: 0, 40: 1, 60: 1}
        assert capsys.readouterr().err == f"{path}: 1 skipped: all.parquet/row 5 (it has no picture)\n"

    def test_texts_as_labels_beside_names_of_classes(self, tmp_path):
        path = self.write(tmp_path / "all.parquet", ["A", "A", "B", "B"], [1, 2, 3, 4], names=["A", "B"])
        (x_train, y_train), (x_valid, y_valid) = asl.load_data(path)
        pixels = [*x_train[:, 0, 0, 0].tolist(), *x_valid[:, 0, 0, 0].tolist()]
        assert dict(zip(pixels, [*y_train, *y_valid], strict=True)) == {1: 0, 2: 0, 3: 1, 4: 1}

    @pytest.mark.parametrize("names", ["AB", [1, 2]])
    def test_names_of_classes_that_are_no_texts_are_refused(self, tmp_path, names):
        path = self.write(tmp_path / "all.parquet", [0, 1], [1, 2], names=names)
        assert_refused(path, rf"the names of the classes are {re.escape(repr(names))}; wanted is a list of texts")

    def test_a_column_of_pixels_is_refused(self, tmp_path):
        pyarrow = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        path = tmp_path / "all.parquet"
        parquet.write_table(pyarrow.table({"image": [[1, 2], [3, 4]], "label": ["A", "B"]}), path)
        assert_refused(path, r"all\.parquet has no files of pictures in its column image")

    def test_too_much_is_not_unfolded(self, tmp_path, monkeypatch):
        monkeypatch.setattr(asl, "LARGEST_PARQUET_BYTES", 100)
        path = self.write(tmp_path / "all.parquet", ["A", "B"], [1, 2])
        assert_refused(path, r"all\.parquet claims [\d,]+ bytes, more than the 100 that are read")

    def test_without_pyarrow_the_error_says_what_to_install(self, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "pyarrow", None)
        monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
        (tmp_path / "all.parquet").write_bytes(b"PAR1PAR1")
        for path in (tmp_path, tmp_path / "all.parquet"):
            with pytest.raises(
                CourseError, match=r"all\.parquet needs pyarrow to be read; install it: pip install pyarrow"
            ):
                asl.load_data(path)


class TestPlaces:
    @pytest.mark.parametrize("source", ["", None, 7])
    def test_what_is_no_source(self, source):
        with pytest.raises(CourseError, match='give "auto", "full", "sample" or a path'):
            asl.load_data(source)

    def test_what_is_no_split(self, tmp_path):
        for function in (asl.load_data, asl.read):
            with pytest.raises(CourseError, match="split is 'random'; give one of given, grouped"):
                function(tmp_path, split="random")

    def test_a_path_that_does_not_exist(self, tmp_path):
        assert_refused(tmp_path / "nowhere.npz", "there is no")
        with pytest.raises(CourseError, match="does not hold"):
            asl.load_data("a\0b")

    def test_the_cache_file(self, tmp_path, own_cache):
        assert asl.cache_file() == own_cache / "sign_mnist.npz"
        assert asl.cache_file(tmp_path) == tmp_path / "sign_mnist.npz"

    @pytest.mark.parametrize("source", ["auto", "full"])
    def test_the_cache_is_enough(self, own_cache, source, capsys):
        write_npz(own_cache / "sign_mnist.npz")
        assert_own_signs(asl.load_data(source))
        assert asl.locate(source) == own_cache / "sign_mnist.npz"
        assert capsys.readouterr() == ("", "")

    def test_the_argument_goes_before_the_environment(self, tmp_path, own_cache):
        write_npz(own_cache / "sign_mnist.npz")
        other = write_npz(tmp_path / "other" / "sign_mnist.npz")
        assert asl.locate("full", cache=tmp_path / "other") == other

    def test_the_data_folder_goes_before_the_cache_unless_it_is_damaged(self, tmp_path, own_cache, monkeypatch, capsys):
        write_npz(own_cache / "sign_mnist.npz")
        path = write_npz(tmp_path / "data" / "sign_mnist.npz")
        monkeypatch.setenv("KERAS_COURSE_DATA", str(tmp_path / "data"))
        assert asl.locate("auto") == path
        path.write_bytes(b"damaged")
        assert asl.locate("auto") == own_cache / "sign_mnist.npz"
        assert capsys.readouterr().err == f"{path} is damaged and is ignored\n"

    def test_without_real_hands_auto_takes_drawn_ones_and_says_so(self, drawn, own_cache, capsys):
        assert asl.load_data("auto") is drawn
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("", 1)
        assert f"using drawn hands, because there is no sign_mnist.npz in KERAS_COURSE_DATA or {own_cache}" in err
        assert "prepare_asl.py" in err
        assert asl.locate("auto") == "sample"

    def test_full_demands_real_hands(self):
        with pytest.raises(CourseError, match=r"there is no sign_mnist\.npz .*prepare_asl\.py .* or take \"sample\""):
            asl.load_data("full")

    def test_sample_takes_drawn_hands_even_where_there_are_real_ones(self, drawn, own_cache, capsys):
        write_npz(own_cache / "sign_mnist.npz")
        assert asl.load_data("sample") is drawn
        assert asl.load_data("sample", split="grouped") is drawn
        assert capsys.readouterr() == ("", "")
        assert asl.describe(asl.locate("sample")) == "drawn hands"


@pytest.fixture(scope="module")
def signs(course_data):
    return asl.load_data(course_data / "sign_mnist.npz")


class TestRealSigns:
    """Kaggle's 7,172 test pictures."""

    def test_counts(self, signs):
        (x_train, y_train), (x_valid, y_valid) = signs
        assert (x_train.shape, x_valid.shape) == ((5465, 28, 28, 1), (1707, 28, 28, 1))
        assert set(y_train.tolist()) == set(y_valid.tolist()) == set(range(24))

    def test_auto_finds_them(self, course_data, monkeypatch):
        monkeypatch.setenv("KERAS_COURSE_DATA", str(course_data))
        assert asl.locate("auto") == course_data / "sign_mnist.npz"

    def test_a_random_split_leaks_and_a_grouped_one_does_not(self, signs):
        """The most similar training picture has the right letter: always, or for about half of them."""
        pictures, labels = (np.concatenate([part[place] for part in signs]) for place in (0, 1))
        groups = splits.near_copies(pictures, labels)
        assert 320 < groups.max() + 1 < 350
        assert np.bincount(groups).max() < 50
        vectors = pictures.reshape(len(pictures), -1).astype("float32")
        vectors = (vectors - vectors.mean(1, keepdims=True)) / vectors.std(1, keepdims=True) / 28

        def nearest_neighbor(train, valid):
            correlations = vectors[valid] @ vectors[train].T
            return (labels[train][correlations.argmax(1)] == labels[valid]).mean(), correlations

        order = np.random.default_rng(0).permutation(len(labels))
        random_accuracy, _ = nearest_neighbor(order[1707:], order[:1707])
        train, valid = splits.split_by_group(groups, labels)
        accuracy, correlations = nearest_neighbor(train, valid)
        assert random_accuracy > 0.999
        assert 0.4 < accuracy < 0.65
        assert correlations[labels[valid][:, None] == labels[train]].max() <= splits.NEAR_COPY + 1e-5
        shares = np.bincount(labels[valid]) / np.bincount(labels)
        assert 0.19 < shares.min() < shares.max() < 0.31


def load_script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("prepare_asl", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class TestScript:
    @pytest.fixture
    def script(self, monkeypatch):
        """The script, made to take 48 + 24 pictures for all of a collection."""
        module = load_script()
        monkeypatch.setattr(module, "COLLECTIONS", {"Small Signs": (48, 24)})
        return module

    def test_the_true_counts(self):
        assert load_script().COLLECTIONS == {"Sign Language MNIST": (27_455, 7_172), "ASL-HG": (19_200, 4_800)}

    def test_kaggles_files_to_the_cache(self, script, tmp_path, own_cache, capsys):
        assert script.main([str(write_csvs(tmp_path / "kaggle"))]) == 0
        assert_own_signs(asl.load_data("full"))
        assert asl.locate("full") == own_cache / "sign_mnist.npz"
        out = capsys.readouterr().out
        assert "train: 48 pictures; A 2, B 2, C 2" in out
        assert "valid: 24 pictures; A 1, B 1, C 1" in out
        assert "these are the pictures of Small Signs\n" in out

    def test_parted_by_group_to_another_place(self, script, tmp_path, own_cache, capsys):
        arguments = [
            str(write_npz(tmp_path / "signs.npz")),
            "--split",
            "grouped",
            "--output",
            str(tmp_path / "out.npz"),
        ]
        assert script.main(arguments) == 0
        assert "these are the pictures of Small Signs\n" in capsys.readouterr().out
        (_, y_train), (_, y_valid) = asl.load_data(tmp_path / "out.npz")
        assert (np.bincount(y_train).tolist(), np.bincount(y_valid).tolist()) == ([2] * 24, [1] * 24)
        assert not own_cache.exists()

    def test_other_parts_of_a_collection_must_be_asked_for(self, script, tmp_path, capsys):
        """One picture of A has changed sides: not the parts that are known, but a way to part them by group."""
        x_valid, y_valid = np.concatenate([X_VALID, X_TRAIN[:1]]), np.append(Y_VALID, 0)
        path = write_npz(
            tmp_path / "signs.npz", x_train=X_TRAIN[1:], y_train=Y_TRAIN[1:], x_valid=x_valid, y_valid=y_valid
        )
        assert script.main([str(path)]) == 2
        assert "there are 47 + 25 pictures; wanted are 48 + 24 of Small Signs" in capsys.readouterr().err
        assert script.main([str(path), "--split", "grouped"]) == 0

    def test_other_counts_are_not_written_unless_they_are_ones_own(self, script, tmp_path, own_cache, capsys):
        path = str(write_npz(tmp_path / "signs.npz", x_train=X_TRAIN[:47], y_train=Y_TRAIN[:47]))
        assert script.main([path]) == 2
        err = capsys.readouterr().err
        assert "there are 47 + 24 pictures; wanted are 48 + 24 of Small Signs; add --split grouped" in err
        assert "or --own for your own pictures" in err
        assert not own_cache.exists()
        assert script.main([path, "--own"]) == 0
        assert len(asl.load_data("full")[0][1]) == 47

    def test_a_missing_letter_is_not_written(self, script, tmp_path, own_cache, capsys):
        path = write_npz(tmp_path / "signs.npz", y_valid=np.where(Y_VALID == 9, 8, Y_VALID))
        assert script.main([str(path), "--own"]) == 2
        assert "valid has no picture of K; add some" in capsys.readouterr().err
        assert not own_cache.exists()

    def test_what_is_no_collection(self, script, tmp_path, capsys):
        assert script.main([str(tmp_path / "nowhere.zip")]) == 2
        assert "there is no" in capsys.readouterr().err


# --- What a model of these signs says about itself -------------------------------------------------------------


def test_the_card_says_what_the_model_takes_and_answers():
    card = asl.card("Hand signs", "sample")
    assert card.class_names == tuple("ABCDEFGHIKLMNOPQRSTUVWXY")
    assert card.picture_format == asl.PICTURES == hands.PICTURES
    assert card.picture_format.shape == asl.INPUT_SHAPE == (28, 28, 1)
    assert card.data == "drawn hands"
    assert "J and Z" in card.limits


def test_the_card_does_not_tell_which_folders_a_machine_has(tmp_path):
    card = asl.card("Hand signs", tmp_path / "my_signs.npz")
    assert card.data == "my_signs.npz"
    assert str(tmp_path) not in card.to_json()


def test_a_photo_to_train_on_is_what_a_model_is_served(tmp_path):
    """The same pixels, whichever way a photo comes in."""
    random = np.random.default_rng(5)
    photos = {}
    for side, letter, size in (("train", "A", (90, 60)), ("train", "B", (700, 500)), ("valid", "A", (28, 28))):
        folder = tmp_path / side / letter
        folder.mkdir(parents=True)
        blocks = Image.fromarray(random.integers(0, 256, (5, 5, 3), dtype="uint8"))
        blocks.resize(size, Image.Resampling.NEAREST).save(folder / "photo.jpg")
        photos[side, letter] = prepare(folder / "photo.jpg", asl.PICTURES)
    (x, y), (x_valid, _) = asl.load_data(tmp_path)
    assert sorted(y.tolist()) == [0, 1]
    for label, letter in enumerate("AB"):
        np.testing.assert_array_equal(x[y == label][0], photos["train", letter])
    np.testing.assert_array_equal(x_valid[0], photos["valid", "A"])


def test_without_photos_the_examples_are_drawn_hands(tmp_path):
    examples = asl.example_photos(tmp_path / "new")
    assert [(photo.name, label) for photo, label in examples.items()] == [("asl_a.png", 0), ("asl_b.png", 1)]
    for photo, label in examples.items():
        drawn = hands.draw([label], size=256)[0, :, :, 0]
        np.testing.assert_array_equal(np.asarray(Image.open(photo)), drawn)
        assert len(np.unique(drawn)) > 2
