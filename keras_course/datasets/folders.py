"""The files of a user's folder: every file is listed, or skipped with a reason.

System files are ignored: hidden files, thumbnails, recycle bins. No link is followed out of the folder.
"""

import os
import re
import stat
import sys
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, Final, NamedTuple

from keras_course.datasets.arrays import LARGEST_COUNT
from keras_course.errors import CourseError, reason_of
from keras_course.files import is_archive
from keras_course.foreign_text import printable
from keras_course.preprocessing import images

__all__ = [
    "LEAVES",
    "NO_PICTURE",
    "File",
    "Listing",
    "check_folder",
    "composed",
    "in_order",
    "is_system",
    "join",
    "list_files",
    "list_pictures",
    "names_of",
    "reason_against",
    "report",
]

NO_PICTURE: Final = "it is no picture"
LEAVES: Final = "it is a link that leaves the folder"
RETURNS: Final = "it is a link that leads back to a folder around it"

# Links within a folder can turn a few files into a huge number of paths.
_LARGEST_ENTRIES: Final = 2 * LARGEST_COUNT
_NAMES_SHOWN: Final = 10
_BEGINNING: Final = 64  # bytes by which a picture is recognized

# Names are compared in lower case. Names that begin with a dot are ignored as well: .DS_Store, .Trashes,
# .ipynb_checkpoints, .thumbnails, .@__thumb (QNAP), .AppleDouble, .Spotlight-V100, ._photo.jpg.
_SYSTEM_NAMES: Final = frozenset(
    {
        # Windows
        *("$recycle.bin", "recycler", "recycled", "system volume information", "msocache", "dfsrprivate"),
        *("thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini"),
        # macOS and its file sharing
        *("icon\r", "network trash folder", "temporary items", "thevolumesettingsfolder"),
        # Linux and Python
        *("lost+found", "__pycache__"),
        # network drives: Synology, QNAP, NetApp
        *("@eadir", "#recycle", "#snapshot", "@tmp", "@sharebin", "@recycle", "@recently-snapshot", "~snapshot"),
        # programs for photos
        *("picasa.ini", "pspbrwse.jbf", "zbthumbnail.info"),
    }
)
_SYSTEM: Final = re.compile(r"\.|__macosx|~\$|syno(photo|file|index|video|audio)_|found\.\d{3}$", re.IGNORECASE)

_OTHER_PICTURES: Final = {
    **dict.fromkeys(
        (".dng", ".cr2", ".cr3", ".crw", ".nef", ".nrw", ".arw", ".srf", ".sr2", ".orf", ".rw2", ".raf", ".pef"),
        "the raw file of a camera is not read; save it as JPEG",
    ),
    **dict.fromkeys(
        (".jp2", ".j2k", ".jpx", ".jxl", ".svg", ".psd", ".ai", ".eps", ".tga", ".exr", ".hdr", ".ico", ".pcx", ".dds"),
        "pictures of this kind are not read; save it as PNG",
    ),
}


class File(NamedTuple):
    """A file in a folder: its path below it, its bytes, and the time of its last change in nanoseconds."""

    name: str
    size: int
    changed: int


class Listing(NamedTuple):
    """The contents of a folder, as paths relative to it, sorted folder by folder.

    Args:
        files: The files.
        folders: The subfolders of all levels.
        skipped: Other entries, each with the reason.
    """

    files: list[File]
    folders: list[str]
    skipped: list[tuple[str, str]]


def is_system(name: str) -> bool:
    """Returns whether a file or folder of this name is a system file, which is ignored.

    Args:
        name: The name, without the folders above.

    Returns:
        Whether it belongs to an operating system or a program.

    Example:
        >>> [name for name in ("@eaDir", "$RECYCLE.BIN", "Thumbs.db", "._cat.jpg", "cat.jpg") if not is_system(name)]
        ['cat.jpg']
    """
    return name.lower() in _SYSTEM_NAMES or _SYSTEM.match(name) is not None


def list_files(folder: Path) -> Listing:
    """Lists all regular files of a folder and its subfolders without opening them.

    Links are followed if they stay in the folder.

    Args:
        folder: The folder.

    Returns:
        The files and folders.

    Raises:
        CourseError: There is no such folder, it cannot be read, or it has too many files.

    Example:
        >>> list_files(Path("no_such_folder"))
        Traceback (most recent call last):
        ...
        keras_course.errors.CourseError: there is no folder no_such_folder; give the path of one
    """
    listing = Listing([], [], [])
    try:
        root = os.path.realpath(folder)
        check_folder(folder)
        open_folders: list[tuple[str, tuple[str, ...]]] = [("", ())]
        count = 0
        while open_folders:
            name, links = open_folders.pop()
            try:
                with os.scandir(folder / name) as entries:
                    found = [entry for entry in entries if not is_system(entry.name)]
            except OSError as error:
                if not name:
                    raise
                listing.skipped.append((name, reason_of(error)))
                continue
            count += len(found)
            if count > _LARGEST_ENTRIES:
                raise CourseError(f"{folder} has more than {_LARGEST_ENTRIES:,} files; give a smaller folder")
            for entry in found:
                inner = _visit(listing, entry, join(name, entry.name), root, links)
                if inner is not None:
                    open_folders.append((join(name, entry.name), inner))
    except (OSError, ValueError) as error:
        if isinstance(error, CourseError):
            raise
        raise CourseError(f"{folder} cannot be read: {reason_of(error)}") from error
    return _sorted(listing)


def list_pictures(folder: Path) -> Listing:
    """Lists the pictures of a folder and its subfolders.

    A picture is recognized by its ending, or by its first bytes if it has no ending of a picture.

    Args:
        folder: The folder.

    Returns:
        The pictures in ``files``, and all other files with the reason in ``skipped``.

    Raises:
        CourseError: There is no such folder, it cannot be read, or it has too many files or pictures.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> for name in ("cat.jpg", "raw.cr2", "notes.txt"):
        ...     _ = (folder / name).write_text("...")
        >>> listing = list_pictures(folder)
        >>> [file.name for file in listing.files], [name for name, _ in listing.skipped]
        (['cat.jpg'], ['notes.txt', 'raw.cr2'])
    """
    found = list_files(folder)
    listing = Listing([], found.folders, found.skipped)
    for file in found.files:
        if reason := reason_against(file.name, file.size, partial((folder / file.name).open, "rb")):
            listing.skipped.append((file.name, reason))
        else:
            listing.files.append(file)
    if len(listing.files) > LARGEST_COUNT:
        raise CourseError(f"{folder} has {len(listing.files):,} photos; give a folder of at most {LARGEST_COUNT:,}")
    return _sorted(listing)


def reason_against(name: str, size: int, open_file: Callable[[], Any]) -> str:
    """Returns the reason why a file is not read as a picture.

    Args:
        name: The file name.
        size: The file size in bytes.
        open_file: Opens the file; its first bytes decide if the name has no ending of a picture.

    Returns:
        The reason, or "" for a picture.

    Example:
        >>> import io
        >>> reason_against("notes.txt", 5, lambda: io.BytesIO(b"notes"))
        'it is no picture'
    """
    ending = PurePosixPath(name).suffix.lower()
    if ending in _OTHER_PICTURES:
        return _OTHER_PICTURES[ending]
    if ending not in images.PICTURE_ENDINGS:
        try:
            with open_file() as file:
                # these formats begin with two or three letters, as a text may
                if images.format_of(file.read(_BEGINNING)) in (None, "BMP", "PPM", "TIFF"):
                    return NO_PICTURE
        except OSError as error:
            return reason_of(error)
    if size > images.LARGEST_FILE_BYTES:
        return f"it has {size:,} bytes; at most {images.LARGEST_FILE_BYTES:,} are read"
    return ""


def report(folder: str | Path, skipped: Sequence[tuple[str, str]]) -> None:
    """Prints one line on stderr about the skipped files of a folder, or nothing if there are none.

    Args:
        folder: The folder.
        skipped: Paths relative to it, each with the reason.

    Example:
        >>> import contextlib
        >>> with contextlib.redirect_stderr(sys.stdout):
        ...     report("photos", [("a.txt", NO_PICTURE), ("b.cr2", "the raw file of a camera is not read")])
        photos: 2 skipped: b.cr2 (the raw file of a camera is not read), a.txt (it is no picture)
    """
    if not skipped:
        return
    in_order = sorted(skipped, key=lambda item: item[1] == NO_PICTURE)  # unexpected reasons first
    names = [f"{printable(name)} ({printable(reason)})" for name, reason in in_order[:_NAMES_SHOWN]]
    more = f", and {len(skipped) - _NAMES_SHOWN:,} more" if len(skipped) > _NAMES_SHOWN else ""
    print(f"{printable(str(folder))}: {len(skipped):,} skipped: {', '.join(names)}{more}", file=sys.stderr)


def names_of(names: Iterable[str]) -> str:
    """Joins up to five names, sorted, and the number of the others.

    Args:
        names: The names.

    Returns:
        One line.

    Example:
        >>> names_of("gfedcba")
        'a, b, c, d, e and 2 more'
    """
    found = sorted(names)
    more = f" and {len(found) - 5:,} more" if len(found) > 5 else ""
    return ", ".join(map(printable, found[:5])) + more


def join(folder: str, name: str) -> str:
    """Joins a relative path and a name; the empty path is the folder itself.

    Args:
        folder: A relative path.
        name: The name of an entry in it.

    Returns:
        The relative path of the entry.

    Example:
        >>> join("train", "cat"), join("", "train")
        ('train/cat', 'train')
    """
    return f"{folder}/{name}" if folder else name


def composed(name: str) -> str:
    r"""Normalizes letters with accents, which macOS decomposes and keyboards do not.

    Args:
        name: A name.

    Returns:
        The name in Unicode's normal form C.

    Example:
        >>> len("a\u0308"), len(composed("a\u0308"))
        (2, 1)
    """
    return unicodedata.normalize("NFC", name)


def in_order(name: str) -> tuple[list[str], str]:
    """Returns a key that sorts paths folder by folder, in the same way on every system.

    Args:
        name: A relative path.

    Returns:
        The key.

    Example:
        >>> sorted(["a-b/1", "a/2"], key=in_order)
        ['a/2', 'a-b/1']
    """
    return composed(name).split("/"), name


def _sorted(listing: Listing) -> Listing:
    listing.files.sort(key=lambda file: in_order(file.name))
    listing.folders.sort(key=in_order)
    listing.skipped.sort(key=lambda item: in_order(item[0]))
    return listing


def check_folder(folder: Path) -> None:
    """Raises an error if a folder does not exist.

    Args:
        folder: The folder.

    Raises:
        CourseError: There is no such folder, or it is a file.
        OSError: It cannot be determined.

    Example:
        >>> check_folder(Path("no_such_folder"))
        Traceback (most recent call last):
        ...
        keras_course.errors.CourseError: there is no folder no_such_folder; give the path of one
    """
    try:
        mode = folder.stat().st_mode
    except FileNotFoundError:
        raise CourseError(f"there is no folder {folder}; give the path of one") from None
    if not stat.S_ISDIR(mode):
        raise CourseError(f"{folder} is a file; give a folder{'; unpack it first' if is_archive(folder) else ''}")


def _visit(
    listing: Listing, entry: os.DirEntry[str], name: str, root: str, links: tuple[str, ...]
) -> tuple[str, ...] | None:
    """Adds a file to the listing; for a folder, returns the real paths of the links that lead to it."""
    try:
        if entry.is_symlink():
            here, target = os.path.realpath(Path(entry.path).parent), os.path.realpath(entry.path)
            if not _is_in(target, root):
                listing.skipped.append((name, LEAVES))
                return None
            if Path(target).is_dir():
                links = (*links, here)
                if any(_is_in(link, target) for link in links):
                    listing.skipped.append((name, RETURNS))
                    return None
        if entry.is_dir():
            listing.folders.append(name)
            return links
        status = entry.stat()
    except OSError as error:
        listing.skipped.append((name, reason_of(error)))
        return None
    if stat.S_ISREG(status.st_mode):
        listing.files.append(File(name, status.st_size, status.st_mtime_ns))
    else:  # opening a pipe would block
        listing.skipped.append((name, "it is not a file"))
    return None


def _is_in(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)
