"""The file of small pictures: written whole and always alike, read without trust; and where it lies."""

import hashlib
import io
import os
import pickle
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

from keras_course.datasets import arrays
from keras_course.errors import CourseError

RANDOM = np.random.default_rng(0)
X_TRAIN = RANDOM.integers(0, 256, (60, 28, 28), dtype=np.uint8)
Y_TRAIN = np.arange(60, dtype=np.uint8) % 10
X_VALID = RANDOM.integers(0, 256, (20, 28, 28), dtype=np.uint8)
Y_VALID = np.arange(20, dtype=np.uint8) % 10
ARRAYS = {"x_train": X_TRAIN, "y_train": Y_TRAIN, "x_test": X_VALID, "y_test": Y_VALID}
PARTS = (
    (X_TRAIN[..., np.newaxis], Y_TRAIN.astype(np.int32)),
    (X_VALID[..., np.newaxis], Y_VALID.astype(np.int32)),
)


def write_npz(path: Path, **changes: np.ndarray | None) -> Path:
    np.savez_compressed(path, **{key: array for key, array in (ARRAYS | changes).items() if array is not None})
    return path


def read(path: Path, num_classes: int = 10) -> arrays.Parts:
    with zipfile.ZipFile(path) as archive:
        return arrays.read_npz(archive, num_classes=num_classes)


def assert_own(found: arrays.Parts) -> None:
    for (pictures, labels), (expected_pictures, expected_labels) in zip(found, PARTS, strict=True):
        assert (pictures.dtype, labels.dtype) == (np.uint8, np.int32)
        assert pictures.flags.writeable
        assert pictures.flags.c_contiguous
        assert labels.flags.writeable
        np.testing.assert_array_equal(pictures, expected_pictures)
        np.testing.assert_array_equal(labels, expected_labels)


class TestRead:
    def test_keras_keys(self, tmp_path: Path) -> None:
        assert_own(read(write_npz(tmp_path / "a.npz")))

    def test_our_keys_go_before_them(self, tmp_path: Path) -> None:
        ours = {"x_valid": X_VALID, "y_valid": Y_VALID}
        assert_own(read(write_npz(tmp_path / "a.npz", x_test=None, y_test=None, **ours)))
        assert_own(read(write_npz(tmp_path / "b.npz", x_test=255 - X_VALID, y_test=9 - Y_VALID, **ours)))

    def test_other_layouts_and_label_types(self, tmp_path: Path) -> None:
        path = write_npz(
            tmp_path / "a.npz",
            x_train=np.asfortranarray(X_TRAIN),
            y_train=Y_TRAIN.astype(">i8"),
            x_test=X_VALID[..., np.newaxis],
            y_test=Y_VALID.astype(np.uint16),
        )
        assert_own(read(path))

    def test_stored_without_compression(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "a.npz", **ARRAYS)
        assert_own(read(tmp_path / "a.npz"))

    @pytest.mark.parametrize(
        ("changes", "reason"),
        [
            ({"x_train": None}, "it has no x_train"),
            ({"y_test": None}, "it has no y_valid or y_test"),
            ({"x_train": X_TRAIN / 255}, r"x_train\.npy is float64 \(60, 28, 28\); wanted is uint8 \(n, 28, 28\)"),
            ({"x_train": X_TRAIN.view(np.int8)}, r"x_train\.npy is int8 \(60, 28, 28\)"),
            ({"x_train": X_TRAIN.reshape(60, 784)}, r"x_train\.npy is uint8 \(60, 784\)"),
            ({"x_train": X_TRAIN[:0], "y_train": Y_TRAIN[:0]}, r"x_train\.npy is uint8 \(0, 28, 28\)"),
            ({"x_train": np.uint8(3)}, r"x_train\.npy is uint8 \(\)"),
            ({"y_train": np.eye(10)[Y_TRAIN]}, r"y_train\.npy is float64 \(60, 10\); wanted is whole numbers \(n,\)"),
            ({"y_train": Y_TRAIN[:-1]}, "train has 60 pictures and 59 labels"),
            ({"y_test": Y_VALID + 1}, "valid has labels from 1 to 10; wanted is 0 to 9"),
            ({"y_test": Y_VALID.astype(int) - 1}, "valid has labels from -1 to 8"),
            ({"y_test": Y_VALID.astype(int) + 256}, "valid has labels from 256 to 265"),
        ],
    )
    def test_other_arrays_are_refused(self, tmp_path: Path, changes: dict[str, np.ndarray | None], reason: str) -> None:
        with pytest.raises(ValueError, match=reason):
            read(write_npz(tmp_path / "a.npz", **changes))

    def test_the_labels_are_those_of_the_classes(self, tmp_path: Path) -> None:
        assert_own(read(write_npz(tmp_path / "a.npz"), num_classes=10))
        with pytest.raises(ValueError, match="train has labels from 0 to 9; wanted is 0 to 8"):
            read(tmp_path / "a.npz", num_classes=9)

    def test_pickled_objects_are_not_opened(self, tmp_path: Path) -> None:
        class Trap:
            def __reduce__(self) -> tuple:
                return (os.mkdir, (str(tmp_path / "trapped"),))

        with pytest.raises(ValueError, match=r"y_train\.npy is object \(1,\); wanted"):
            read(write_npz(tmp_path / "a.npz", y_train=np.array([Trap()], dtype=object)))
        assert not (tmp_path / "trapped").exists()
        pickle.loads(pickle.dumps(Trap()))  # it is one
        assert (tmp_path / "trapped").exists()

    @pytest.mark.parametrize("count", [10**12, 400_000, 61, 59])
    def test_a_header_that_claims_another_count(self, tmp_path: Path, count: int) -> None:
        member = io.BytesIO()
        np.lib.format.write_array_header_1_0(member, {"descr": "|u1", "fortran_order": False, "shape": (count, 28, 28)})
        path = write_npz(tmp_path / "a.npz", x_train=None)
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr("x_train.npy", member.getvalue() + X_TRAIN.tobytes())
        tracemalloc.start()
        with pytest.raises(ValueError, match=rf"\({count}, 28, 28\)"):
            read(path)
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
        tracemalloc.stop()

    def test_another_version_of_the_format(self, tmp_path: Path) -> None:
        member = io.BytesIO()
        np.lib.format.write_array(member, X_TRAIN, version=(2, 0))
        with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
            archive.writestr("x_train.npy", member.getvalue())
        with pytest.raises(ValueError, match=r"x_train\.npy is not in version 1\.0 of numpy's format"):
            read(tmp_path / "a.npz")

    def test_a_compression_that_numpy_does_not_use(self, tmp_path: Path) -> None:
        with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_LZMA) as archive:
            archive.writestr("x_train.npy", b"")
        with pytest.raises(ValueError, match="compressed in a way"):
            read(tmp_path / "a.npz")


class TestSave:
    def test_what_is_saved_comes_back_and_has_keras_form(self, tmp_path: Path) -> None:
        arrays.save(tmp_path / "new" / "saved.npz", PARTS)
        assert_own(read(tmp_path / "new" / "saved.npz"))
        with np.load(tmp_path / "new" / "saved.npz") as file:
            assert set(file) == set(ARRAYS)
            for key, expected in ARRAYS.items():
                assert file[key].dtype == np.uint8
                np.testing.assert_array_equal(file[key], expected)

    def test_the_same_content_gives_the_same_bytes(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        arrays.save(tmp_path / "a.npz", PARTS)
        monkeypatch.setattr("time.time", lambda: 2e9)
        arrays.save(tmp_path / "b.npz", PARTS)
        assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()

    def test_a_failed_save_leaves_the_old_file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = write_npz(tmp_path / "a.npz")
        before = path.read_bytes()

        def no_space(file: io.BufferedWriter, **_: np.ndarray) -> None:
            file.write(b"half")
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(np, "savez_compressed", no_space)
        with pytest.raises(CourseError, match=r"cannot write .*a\.npz \(No space left on device\)"):
            arrays.save(path, PARTS)
        assert path.read_bytes() == before
        assert [file.name for file in tmp_path.iterdir()] == ["a.npz"]


def test_the_hash_is_of_the_content_and_of_nothing_else() -> None:
    expected = hashlib.sha256(b"".join(array.tobytes() for array in ARRAYS.values())).hexdigest()
    assert arrays.content_sha256(PARTS) == expected
    (x_train, y_train), valid = PARTS
    assert arrays.content_sha256(((np.asfortranarray(x_train), y_train.astype("int64")), valid)) == expected
    assert arrays.content_sha256(((x_train, y_train[::-1]), valid)) != expected


class TestPlaces:
    @pytest.fixture(autouse=True)
    def no_folders(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("KERAS_COURSE_CACHE", raising=False)
        monkeypatch.delenv("KERAS_COURSE_DATA", raising=False)
        monkeypatch.setattr("platformdirs.user_cache_dir", lambda name: f"/home/somebody/{name}")

    def test_the_argument_goes_before_the_environment_and_that_before_the_users_own(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert arrays.cache_folder() == Path("/home/somebody/keras_course")
        monkeypatch.setenv("KERAS_COURSE_CACHE", str(tmp_path))
        assert arrays.cache_folder() == tmp_path
        assert arrays.cache_folder(tmp_path / "other") == tmp_path / "other"
        assert arrays.cache_folder("~/other") == Path.home() / "other"

    def test_the_data_folder_goes_before_the_cache(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        assert arrays.places("a.npz", tmp_path) == [tmp_path / "a.npz"]
        monkeypatch.setenv("KERAS_COURSE_DATA", "~/data")
        assert arrays.places("a.npz", tmp_path) == [Path.home() / "data" / "a.npz", tmp_path / "a.npz"]
        assert arrays.places("a.npz")[1] == Path("/home/somebody/keras_course/a.npz")
