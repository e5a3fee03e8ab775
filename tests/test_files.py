"""Files are whole or as they were before, whatever happens in between."""

import errno
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from keras_course.files import replacing

ROOT = Path(__file__).parents[1]


@pytest.fixture
def path(tmp_path):
    """A file that holds the old content."""
    path = tmp_path / "file.txt"
    path.write_bytes(b"old")
    return path


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_new_content_appears_when_the_block_ends(path):
    with replacing(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert names(path.parent) == ["file.txt"]


def test_folders_are_made(tmp_path):
    with replacing(tmp_path / "a" / "b" / "file.txt") as file:
        file.write(b"new")
    assert (tmp_path / "a" / "b" / "file.txt").read_bytes() == b"new"


def test_a_path_may_be_text(tmp_path):
    with replacing(str(tmp_path / "file.txt")) as file:
        file.write(b"new")
    assert (tmp_path / "file.txt").read_bytes() == b"new"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_error_in_the_block_leaves_everything_as_it_was(path, error):
    def write():
        with replacing(path) as file:
            file.write(b"half of the n")
            raise error

    with pytest.raises(error):
        write()
    assert path.read_bytes() == b"old"
    assert names(path.parent) == ["file.txt"]


@pytest.mark.parametrize("failing", [(os, "fsync"), (Path, "replace"), (os, "fchmod")])
def test_an_error_of_the_disk_leaves_everything_as_it_was(path, monkeypatch, failing):
    def fail(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(*failing, fail)
    with pytest.raises(OSError, match="No space left"), replacing(path) as file:
        file.write(b"new")
    monkeypatch.undo()
    assert path.read_bytes() == b"old"
    assert names(path.parent) == ["file.txt"]


def test_a_folder_in_the_place_of_the_file_is_an_error_and_stays(tmp_path):
    (tmp_path / "file.txt").mkdir()
    (tmp_path / "file.txt" / "inside").touch()
    with pytest.raises(OSError, match=r"file\.txt"), replacing(tmp_path / "file.txt") as file:
        file.write(b"new")
    assert names(tmp_path) == ["file.txt"]
    assert names(tmp_path / "file.txt") == ["inside"]


def test_the_content_is_on_the_disk_before_the_name(path, monkeypatch):
    """Without fsync a power cut can leave the new name on an empty file."""
    order = []
    fsync, replace = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda number: order.append(os.fstat(number).st_size) or fsync(number))
    monkeypatch.setattr(Path, "replace", lambda *paths: order.append("replace") or replace(*paths))
    with replacing(path) as file:
        file.write(b"new content")
    assert order == [len(b"new content"), "replace"]


def test_two_writers_do_not_mix(path):
    with replacing(path) as first, replacing(path) as second:
        first.write(b"first")
        second.write(b"second")
    assert path.read_bytes() == b"first"  # whose block ends last
    assert names(path.parent) == ["file.txt"]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no umask")
@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_others_may_read_what_the_umask_lets_them(tmp_path, mask):
    code = (
        f"import os; os.umask({mask})\n"
        "from keras_course.files import replacing\n"
        "with replacing('replaced') as file: file.write(b'1')\n"
        "open('plain', 'w').close()\n"
        "assert os.umask(0) == " + str(mask)
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True)
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("replaced", "plain")]
    assert modes == [0o666 & ~mask] * 2
