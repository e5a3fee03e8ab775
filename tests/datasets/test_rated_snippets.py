"""Rated sentences: the archive of VADER's authors, the user's tables, damaged and hostile files, the download."""

import gzip
import io
import os
import tarfile
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from keras_course.datasets import rated_snippets
from keras_course.datasets.rated_snippets import Snippets, balanced, load_data, locate
from keras_course.errors import CourseError
from keras_course.files import sha256_of

MOVIES = (
    "1\t2.5\tA fine &amp; funny film.\r\n2\t-1.25\tDull.\r\n3\t0\tIt has actors.\r\n4\t-0.5\tA FINE, & funny film\r\n"
)
PRODUCTS = "1_1\t2.0\tWorks.\r\n1_2\t-3.0\tThen it broke.\r\n2_1\t1.5\tworks\r\n3_1\t-2\tNo.\r\n"


@pytest.fixture(autouse=True)
def no_data(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_COURSE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("KERAS_COURSE_DATA", raising=False)
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def tar_of(**members):
    """Returns a compressed archive; the names of members have two underscores for a slash."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, content in members.items():
            entry = tarfile.TarInfo(f"folder/{name.replace('__', '/')}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


def archive_of(movies=MOVIES, products=PRODUCTS):
    texts = {rated_snippets.KINDS["movies"]: movies, rated_snippets.KINDS["products"]: products}
    inner = tar_of(**{name: text if isinstance(text, bytes) else text.encode() for name, text in texts.items()})
    return tar_of(**{"additional_resources__hutto_ICWSM_2014.tar.gz": inner})


def write(tmp_path, content, name="own.tar.gz"):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


class TestArchive:
    def test_texts_ratings_and_groups(self, tmp_path):
        found = load_data(write(tmp_path, archive_of()))
        assert found.texts == ["A fine & funny film.", "Dull.", "A FINE, & funny film"]
        assert found.ratings.tolist() == [2.5, -1.25, -0.5]
        assert found.ratings.dtype == np.float32
        assert found.groups.tolist() == [0, 1, 0]  # the first and the last are equal but for case and marks

    def test_sentences_of_one_review_are_one_group_and_equal_sentences_join_reviews(self, tmp_path):
        found = load_data(write(tmp_path, archive_of()), kind="products")
        assert found.groups.tolist() == [0, 0, 0, 1]

    def test_ratings_near_0_are_left_out(self, tmp_path):
        assert load_data(write(tmp_path, archive_of()), least=1.0).texts == ["A fine & funny film.", "Dull."]

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"no archive", "cannot be read"),
            (gzip.compress(b"x" * 2000), "cannot be read|has no"),
            (archive_of()[:-200], "cannot be read"),
            (tar_of(README=b"hello"), r"has no additional_resources/hutto_ICWSM_2014.tar.gz; give the source archive"),
            (archive_of(movies="1\tgood\tA film.\n"), "line 1, has the rating 'good'; give a finite number"),
            (archive_of(movies="1\tinf\tA film.\n"), "line 1, has the rating 'inf'; give a finite number"),
            (archive_of(movies="1\t0\tA film.\n"), "has no texts with ratings"),
            (archive_of(movies=b"1\t1\tA \xff film.\n"), "line 1, is no UTF-8"),
            (archive_of(movies=b"1\t1\tA \0 film.\n"), "line 1, has a NUL byte"),
            (archive_of(movies="1\t1\t" + "a" * 2**20), "line 1, has more than 1,048,576 bytes"),
        ],
    )
    def test_bad_archives(self, tmp_path, content, message):
        with pytest.raises(CourseError, match=message):
            load_data(write(tmp_path, content))

    def test_an_archive_that_unpacks_to_gigabytes_is_not_unpacked(self, tmp_path):
        large = tarfile.TarInfo("folder/zeros")
        large.size = 2**40
        content = gzip.compress(large.tobuf() + bytes(10_000))
        with pytest.raises(CourseError, match="has no additional_resources"):
            load_data(write(tmp_path, content))


class TestTable:
    def test_columns_in_any_order(self, tmp_path):
        table = 'Rating,group,TEXT\n2,a,"Good, really"\n-1,a,Bad\n\n3,,good  really\n0,b,So so\n'
        found = load_data(write(tmp_path, table, "own.csv"))
        assert found.texts == ["Good, really", "Bad", "good really"]
        assert found.ratings.tolist() == [2, -1, 3]
        assert found.groups.tolist() == [0, 0, 0]

    def test_tabs_and_no_groups(self, tmp_path):
        found = load_data(write(tmp_path, "text\trating\nYes\t1\nNo\t-1\nyes!\t1\n", "own.tsv"))
        assert found.groups.tolist() == [0, 1, 0]

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ("text,stars\nGood,1\n", "has no column 'rating'; it has stars, text"),
            ("", "has no column 'text'; it has no columns"),
            ("text,rating\nGood,\n", "line 2, has the rating ''"),
            ('text,rating\n"two\nlines",1\n\nGood,x\n', "line 5, has the rating 'x'"),
            ("text,rating\n", "has no texts with ratings from 0.0 up"),
            ('text,rating\n"Good,1\n', "cannot be read as CSV"),
            ("text,rating\nGood,\x1b[31m\n", "has the rating"),
        ],
    )
    def test_bad_tables(self, tmp_path, content, message):
        with pytest.raises(CourseError, match=message) as error:
            load_data(write(tmp_path, content, "own.csv"))
        assert "\x1b" not in str(error.value)

    def test_too_many_texts(self, tmp_path, monkeypatch):
        monkeypatch.setattr(rated_snippets, "LARGEST_COUNT", 2)
        with pytest.raises(CourseError, match="has more than 2 texts"):
            load_data(write(tmp_path, "text,rating\na,1\nb,1\nc,1\n", "own.csv"))


class TestArguments:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"kind": "books"}, "kind is 'books'; give one of movies, products, editorials, tweets"),
            ({"least": -1}, "least is -1"),
            ({"least": float("nan")}, "least is nan"),
            ({"least": "1"}, "least is '1'"),
        ],
    )
    def test_bad_arguments(self, tmp_path, arguments, message):
        with pytest.raises(CourseError, match=message):
            load_data(tmp_path / "unread.csv", **arguments)

    def test_a_pipe_and_a_folder_do_not_block(self, tmp_path):
        os.mkfifo(tmp_path / "pipe.csv")
        (tmp_path / "folder.csv").mkdir()
        for name in ("pipe.csv", "folder.csv", "missing.csv"):
            with pytest.raises(CourseError, match="there is no file"):
                load_data(tmp_path / name)


class TestBalanced:
    SNIPPETS = Snippets(list("abcdefgh"), np.array([1, 2, -1, 3, 1, -2, -1, 2], "float32"), np.arange(8))

    def test_as_many_of_each_class_in_their_order(self):
        found = balanced(self.SNIPPETS, per_class=2)
        assert (found.ratings > 0).sum() == (found.ratings < 0).sum() == 2
        assert found.texts == sorted(found.texts)
        assert [found.texts[row] for row in range(4)] == [self.SNIPPETS.texts[group] for group in found.groups]

    def test_no_more_than_there_are(self):
        assert len(balanced(self.SNIPPETS, per_class=9).texts) == 6

    def test_the_seed_chooses(self):
        chosen = {tuple(balanced(self.SNIPPETS, per_class=2, seed=seed).texts) for seed in range(9)}
        assert len(chosen) > 3
        assert balanced(self.SNIPPETS, per_class=2, seed=4).texts == balanced(self.SNIPPETS, per_class=2, seed=4).texts

    def test_one_class_alone(self):
        with pytest.raises(CourseError, match="all texts are positive, or all are negative"):
            balanced(Snippets(["a"], np.ones(1, "float32"), np.zeros(1, "int64")), per_class=1)


class TestDownload:
    @pytest.fixture
    def site(self, tmp_path, monkeypatch):
        """The folder of a server on this machine; the archive in it is the right one."""
        folder = tmp_path / "site"
        folder.mkdir()
        content = archive_of()
        (folder / rated_snippets.FILE_NAME).write_bytes(content)
        quiet = type("Quiet", (SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
        with ThreadingHTTPServer(("127.0.0.1", 0), partial(quiet, directory=folder)) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            address = f"http://127.0.0.1:{server.server_port}/{rated_snippets.FILE_NAME}"
            monkeypatch.setattr(rated_snippets, "SOURCES", (address,))
            monkeypatch.setattr(rated_snippets, "SHA256", sha256_of(folder / rated_snippets.FILE_NAME))
            yield folder
            server.shutdown()

    def test_it_is_downloaded_once(self, site, tmp_path):
        assert len(load_data().texts) == 3
        (site / rated_snippets.FILE_NAME).unlink()
        assert locate() == tmp_path / "cache" / rated_snippets.FILE_NAME
        assert len(load_data("sample").texts) == 3

    def test_the_folder_of_data_goes_first(self, site, tmp_path, monkeypatch):
        (tmp_path / "data").mkdir()
        path = (site / rated_snippets.FILE_NAME).replace(tmp_path / "data" / rated_snippets.FILE_NAME)
        monkeypatch.setenv("KERAS_COURSE_DATA", str(tmp_path / "data"))
        assert locate() == path

    @pytest.mark.parametrize("change", ["missing", "wrong", "truncated"])
    def test_a_failed_download_says_what_to_give_instead(self, site, tmp_path, change):
        path = site / rated_snippets.FILE_NAME
        content = path.read_bytes()
        path.unlink()
        if change != "missing":
            path.write_bytes(content[:-9] if change == "truncated" else b"other content")
        with pytest.raises(CourseError, match=r"could not be downloaded.*give a table of texts and ratings"):
            load_data()
        assert not (tmp_path / "cache" / rated_snippets.FILE_NAME).exists()
