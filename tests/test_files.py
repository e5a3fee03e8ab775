"""Atomic writing, locks and archives."""

import errno
import fcntl
import os
import stat
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from keras_course import files
from keras_course.errors import CourseError, DiskError
from keras_course.files import Lock, folder_beside, open_to_append, replacing, replacing_by_name

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


def test_missing_folders_are_created(tmp_path):
    with replacing(tmp_path / "a" / "b" / "file.txt") as file:
        file.write(b"new")
    assert (tmp_path / "a" / "b" / "file.txt").read_bytes() == b"new"


def test_a_path_can_be_a_string(tmp_path):
    with replacing(str(tmp_path / "file.txt")) as file:
        file.write(b"new")
    assert (tmp_path / "file.txt").read_bytes() == b"new"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_error_in_the_block_changes_nothing(path, error):
    def write():
        with replacing(path) as file:
            file.write(b"half of the n")
            raise error

    with pytest.raises(error):
        write()
    assert path.read_bytes() == b"old"
    assert names(path.parent) == ["file.txt"]


@pytest.mark.parametrize("failing", [(os, "fsync"), (Path, "replace"), (os, "fchmod")])
def test_an_error_of_the_disk_changes_nothing(path, monkeypatch, failing):
    def fail(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(*failing, fail)
    with pytest.raises(OSError, match="No space left"), replacing(path) as file:
        file.write(b"new")
    monkeypatch.undo()
    assert path.read_bytes() == b"old"
    assert names(path.parent) == ["file.txt"]


def test_a_folder_in_place_of_the_file_is_an_error(tmp_path):
    (tmp_path / "file.txt").mkdir()
    (tmp_path / "file.txt" / "inside").touch()
    with pytest.raises(OSError, match=r"file\.txt"), replacing(tmp_path / "file.txt") as file:
        file.write(b"new")
    assert names(tmp_path) == ["file.txt"]
    assert names(tmp_path / "file.txt") == ["inside"]


def test_the_content_is_on_the_disk_before_the_name(path, monkeypatch):
    """Without fsync, a power failure can leave an empty file with the new name."""
    order = []
    fsync, replace = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda number: order.append(os.fstat(number).st_size) or fsync(number))
    monkeypatch.setattr(Path, "replace", lambda *paths: order.append("replace") or replace(*paths))
    with replacing(path) as file:
        file.write(b"new content")
    assert order == [len(b"new content"), "replace"]


def test_errors_of_other_files_are_raised_unchanged(path):
    with pytest.raises(FileNotFoundError, match=r"other\.txt"), replacing(path):
        (path.parent / "other" / "other.txt").read_text()
    with pytest.raises(OSError, match="no disk at all") as error, replacing(path):
        raise OSError("no disk at all")
    assert isinstance(error.value, DiskError)  # an error while writing to an open file has no file name
    assert path.read_bytes() == b"old"


@pytest.mark.parametrize("name", ["file.txt/inside", "file.txt/two/inside"])
def test_a_file_in_place_of_the_folder_is_named(path, name):
    with pytest.raises(CourseError, match=r"cannot write .*file\.txt.* \(.*\); choose another folder"):
        replacing(path.parent / name).__enter__()


def noise(side):
    return np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)


WRITERS = {
    "bytes": lambda file: file.write(bytes(50_000)),
    "small pieces": lambda file: [file.write(b"12345") for _ in range(10_000)],
    "npy": lambda file: np.save(file, np.zeros(5000)),
    "npz": lambda file: np.savez(file, a=np.zeros(5000), b=np.zeros(5)),
    "npz, compressed": lambda file: np.savez_compressed(file, a=np.random.default_rng(0).random(5000)),
    **{kind: lambda file, kind=kind: Image.fromarray(noise(200)).save(file, kind) for kind in ("JPEG", "PNG", "GIF")},
}


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("largest", [0, 100, 9000])
def test_a_full_disk_is_detected_for_every_writer(path, small_disk, writer, largest):
    """Pillow writes JPEGs without Python's file object, and ignores a full disk."""
    with small_disk(largest), pytest.raises(CourseError) as error, replacing(path) as file:
        WRITERS[writer](file)
    assert str(error.value) == f"cannot write {path} (File too large); free some space, then start again"
    assert path.read_bytes() == b"old"
    assert names(path.parent) == ["file.txt"]


# --- Links, and files of others ----------------------------------------------------------------------------------


@pytest.mark.parametrize("write", [replacing, replacing_by_name, open_to_append])
@pytest.mark.parametrize("kind", ["symlink", "dangling", "hard link", "pipe"])
def test_links_are_replaced_and_not_followed(tmp_path, write, kind):
    victim, path = tmp_path / "victim", tmp_path / "inside" / "file.txt"
    path.parent.mkdir()
    victim.write_text("precious")
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "hard link":
        path.hardlink_to(victim)
    else:
        path.symlink_to(victim if kind == "symlink" else tmp_path / "made")
    with write(path) as file:
        (file.write_bytes if isinstance(file, Path) else file.write)(b"mine")
    assert path.read_text() == "mine"
    assert stat.S_ISREG(path.lstat().st_mode)
    assert victim.read_text() == "precious"
    assert not (tmp_path / "made").exists()
    assert names(path.parent) == ["file.txt"]


def test_open_to_append_continues_only_own_files(path, monkeypatch):
    with open_to_append(path) as file:
        assert (file.tell(), file.write(b" and new")) == (3, 8)
    assert path.read_bytes() == b"old and new"
    monkeypatch.setattr(os, "geteuid", lambda: path.stat().st_uid + 1)
    with open_to_append(path) as file:
        file.write(b"new")
    assert path.read_bytes() == b"new"


def test_a_folder_cannot_be_appended_to(tmp_path):
    (tmp_path / "folder" / "mine").mkdir(parents=True)
    with pytest.raises(DiskError, match=r"cannot write .*folder"):
        open_to_append(tmp_path / "folder")
    assert (tmp_path / "folder" / "mine").is_dir()


def test_a_replaced_temporary_file_does_not_change_the_mode_of_another(tmp_path):
    """Others with write access to the folder could replace the temporary file by a link."""
    victim = tmp_path / "victim"
    victim.write_text("precious")
    victim.chmod(0o600)
    with replacing(tmp_path / "file.txt") as file:
        (beside,) = tmp_path.glob(".file.txt.*")
        beside.unlink()
        beside.symlink_to(victim)
        file.write(b"mine")
    assert (victim.read_text(), stat.S_IMODE(victim.stat().st_mode)) == ("precious", 0o600)


# --- Temporary files of killed processes -------------------------------------------------------------------------


def leave_temporary_files(folder, name):
    """Starts to replace a file in a process that is then killed."""
    code = """
import os, signal, sys
from keras_course.files import replacing, replacing_by_name
begun = [replacing(sys.argv[1]), replacing_by_name(sys.argv[1])]
begun[0].__enter__().write(b"half")
begun[1].__enter__().mkdir()
os.kill(os.getpid(), signal.SIGKILL)
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code, str(folder / name)], env=environment, check=False)


@pytest.mark.parametrize("write", [replacing, replacing_by_name])
def test_only_unused_temporary_files_are_removed(path, write):
    leave_temporary_files(path.parent, "file.txt")
    leave_temporary_files(path.parent, "other.txt")
    assert len(names(path.parent)) == 5
    mine = [".file.txt.part", ".file.txt.mine.part", "file.txt.abcdefgh.part"]
    for name in mine:
        (path.parent / name).touch()
    with replacing(path) as first:
        with write(path) as second:
            (second.write_bytes if isinstance(second, Path) else second.write)(b"second")
        first.write(b"first")
    assert path.read_bytes() == b"first"
    left = set(names(path.parent)) - {"file.txt", *mine}
    assert [name[:11] for name in left] == [".other.txt."] * 2
    with write(path.parent / "other.txt") as file:
        (file.write_bytes if isinstance(file, Path) else file.write)(b"other")
    assert set(names(path.parent)) == {"file.txt", "other.txt", *mine}


def test_a_file_in_use_by_another_process_is_kept(path):
    code = """
import sys
from keras_course.files import replacing
with replacing(sys.argv[1]) as file:
    print(flush=True)
    input()
    file.write(b"first")
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code, str(path)]
    with subprocess.Popen(command, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        with replacing(path) as file:
            file.write(b"second")
        assert path.read_bytes() == b"second"
        other.communicate("\n")
    assert (path.read_bytes(), names(path.parent)) == (b"first", ["file.txt"])


def test_parallel_writers_do_not_disturb_each_other(path):
    """Each writer removes temporary files of ended processes, but not those of running ones."""
    errors = []

    def write(number):
        try:
            for _ in range(20):
                with replacing(path) as file:
                    file.write(b"%d" % number * 100)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert len(set(path.read_bytes())) == 1
    assert names(path.parent) == ["file.txt"]


def test_folder_beside_is_private(path):
    before = tempfile.gettempdir()
    with folder_beside(path) as folder:
        assert folder.parent == path.parent
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert tempfile.gettempdir() == before  # the default folder stays, since other threads use it
    assert names(path.parent) == ["file.txt"]


def test_a_file_that_was_not_written_is_an_error(path):
    with pytest.raises(DiskError, match=r"cannot write .*file\.txt \(No such file"), replacing_by_name(path):
        pass
    assert path.read_bytes() == b"old"


# --- Locks -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["symlink", "dangling", "hard link", "pipe"])
def test_a_lock_does_not_follow_links(tmp_path, kind):
    victim, lock = tmp_path / "victim", Lock(tmp_path / "a.lock")
    victim.write_text("precious")
    if kind == "pipe":
        os.mkfifo(lock.path)
    elif kind == "hard link":
        lock.path.hardlink_to(victim)
    else:
        lock.path.symlink_to(victim if kind == "symlink" else tmp_path / "made")
    assert lock.acquire()
    assert not Lock(lock.path).acquire()
    lock.release()
    assert victim.read_text() == "precious"
    assert names(tmp_path) == ["a.lock", "victim"]


def test_a_lock_has_the_permissions_of_the_umask(tmp_path):
    """Otherwise, members of a group that shares a cache could not open the lock file."""
    before = os.umask(0o002)
    try:
        lock = Lock(tmp_path / "a.lock")
        assert lock.acquire()
        lock.release()
    finally:
        os.umask(before)
    assert stat.S_IMODE(lock.path.stat().st_mode) == 0o664


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_causes_a_warning(tmp_path, monkeypatch, capsys, number):
    """This happens on some network drives, which must stay usable."""

    def no_locks(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    lock = Lock(tmp_path / "a.lock")
    assert lock.acquire()
    assert lock.is_held
    assert capsys.readouterr().err == f"{tmp_path} has no locks for files: let one process at a time use it\n"
    with replacing(tmp_path / "file.txt") as file:
        file.write(b"new")
    lock.release()
    assert not lock.is_held
    assert (tmp_path / "file.txt").read_bytes() == b"new"


def test_an_error_of_a_lock_names_the_file(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(fcntl, "flock", fail)
    with pytest.raises(DiskError, match=r"cannot write .*a\.lock \(Input/output error\)"):
        Lock(tmp_path / "a.lock").acquire()


def test_archives_are_recognized_by_their_content(tmp_path):
    for begin in (
        b"PK\3\4",
        b"\x1f\x8b\x08",
        b"7z\xbc\xaf",
        b"Rar!\x1a",
        b"BZh9",
        b"\xfd7zXZ\0",
        bytes(257) + b"ustar",
    ):
        (tmp_path / "photo.jpg").write_bytes(begin + bytes(300))
        assert files.is_archive(tmp_path / "photo.jpg"), begin
    for content in (b"", b"\xff\xd8\xff", b"\x89PNG", b"P", bytes(600)):
        (tmp_path / "photos.zip").write_bytes(content)
        assert not files.is_archive(tmp_path / "photos.zip"), content
    assert not files.is_archive(tmp_path)
    assert not files.is_archive(tmp_path / "none")


def test_two_writers_do_not_mix(path):
    with replacing(path) as first, replacing(path) as second:
        first.write(b"first")
        second.write(b"second")
    assert path.read_bytes() == b"first"  # its block ends last
    assert names(path.parent) == ["file.txt"]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no umask")
@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_replaced_files_have_the_permissions_of_the_umask(tmp_path, mask):
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


def test_the_hash_of_an_empty_file_is_the_known_one(path):
    path.write_bytes(b"")
    assert files.sha256_of(path) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_a_missing_folder_is_named_when_appending(tmp_path):
    with pytest.raises(DiskError, match=r"cannot write .*rows\.csv \(No such file or directory\)"):
        open_to_append(tmp_path / "gone" / "rows.csv")


@pytest.mark.parametrize("write", [replacing, replacing_by_name])
def test_a_temporary_file_that_another_process_is_removing_is_not_used(path, monkeypatch, write):
    """That process has locked it first; another temporary file is made."""
    native, calls = fcntl.flock, []

    def flock(*arguments):
        calls.append(arguments)
        if len(calls) == 1:
            raise BlockingIOError(errno.EWOULDBLOCK, "locked")
        native(*arguments)

    monkeypatch.setattr(fcntl, "flock", flock)
    with write(path) as file:
        (file.write_bytes if isinstance(file, Path) else file.write)(b"new")
    assert len(calls) == 2
    assert path.read_bytes() == b"new"


def test_temporary_files_of_another_user_stay(path, monkeypatch):
    leave_temporary_files(path.parent, path.name)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    before = set(names(path.parent))
    with replacing(path) as file:
        file.write(b"new")
    assert len(before) == 3
    assert set(names(path.parent)) == before
    assert path.read_bytes() == b"new"


def test_without_locks_of_the_system_files_are_replaced_and_temporary_ones_stay(path, monkeypatch):
    """As on Windows, where `fcntl` is missing."""
    leave_temporary_files(path.parent, path.name)
    monkeypatch.setattr(files, "fcntl", None)
    before = names(path.parent)
    for number, write in enumerate((replacing, replacing_by_name)):
        with write(path) as file:
            (file.write_bytes if isinstance(file, Path) else file.write)(b"%d" % number)
        assert path.read_bytes() == b"%d" % number
    assert names(path.parent) == before


def test_a_name_that_cannot_be_opened_is_no_archive():
    assert not files.is_archive("a" * 5000)


def test_an_error_of_the_disk_keeps_the_name_of_its_file(path):
    with (
        pytest.raises(DiskError, match=f"cannot write {path}/rows.csv ") as caught,
        replacing(path.with_name("other.txt")),
    ):
        open_to_append(path / "rows.csv")
    assert "other.txt" not in str(caught.value)
    assert names(path.parent) == ["file.txt"]
