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
from importlib import metadata
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
    "packaged_photo",
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

    ``folders`` are the subfolders of all levels; ``skipped`` are other entries, each with the reason.
    """

    files: list[File]
    folders: list[str]
    skipped: list[tuple[str, str]]


def is_system(name: str) -> bool:
    """Returns whether a file or folder of this name belongs to a system or a program, and is ignored."""
    return name.lower() in _SYSTEM_NAMES or _SYSTEM.match(name) is not None


def list_files(folder: Path) -> Listing:
    """Lists all regular files of a folder and its subfolders without opening them.

    Links are followed if they stay in the folder. Raises a CourseError if there is no such folder, it cannot be read,
    or it has too many files.
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
                path = join(name, entry.name)
                if (inner := _visit(listing, entry, path, root, links)) is not None:
                    open_folders.append((path, inner))
    except CourseError:
        raise
    except (OSError, ValueError) as error:
        raise CourseError(f"{folder} cannot be read: {reason_of(error)}") from error
    return _sorted(listing)


def list_pictures(folder: Path) -> Listing:
    """Lists the pictures of a folder in ``files``, and all other files with the reason in ``skipped``.

    A picture is recognized by its ending, or by its first bytes if it has no ending of a picture. Raises the errors of
    ``list_files``.
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
    """Returns the reason why a file is not read as a picture, else ""; opens it if its ending does not tell."""
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
    """Prints one line on stderr about the skipped files of a folder, each with the reason, if there are any."""
    if not skipped:
        return
    in_order = sorted(skipped, key=lambda item: item[1] == NO_PICTURE)  # unexpected reasons first
    names = [f"{printable(name)} ({printable(reason)})" for name, reason in in_order[:_NAMES_SHOWN]]
    more = f", and {len(skipped) - _NAMES_SHOWN:,} more" if len(skipped) > _NAMES_SHOWN else ""
    print(f"{printable(str(folder))}: {len(skipped):,} skipped: {', '.join(names)}{more}", file=sys.stderr)


def names_of(names: Iterable[str]) -> str:
    """Joins up to five names, sorted, and the number of the others."""
    found = sorted(names)
    more = f" and {len(found) - 5:,} more" if len(found) > 5 else ""
    return ", ".join(map(printable, found[:5])) + more


def join(folder: str, name: str) -> str:
    """Joins a relative path and a name; the empty path is the folder itself."""
    return f"{folder}/{name}" if folder else name


def composed(name: str) -> str:
    """Normalizes a name to Unicode's form C: macOS decomposes letters with accents, and keyboards do not."""
    return unicodedata.normalize("NFC", name)


def in_order(name: str) -> tuple[list[str], str]:
    """Returns a key that sorts paths folder by folder, in the same way on every system."""
    return composed(name).split("/"), name


def _sorted(listing: Listing) -> Listing:
    listing.files.sort(key=lambda file: in_order(file.name))
    listing.folders.sort(key=in_order)
    listing.skipped.sort(key=lambda item: in_order(item[0]))
    return listing


def check_folder(folder: Path) -> None:
    """Raises a CourseError if there is no such folder or it is a file, and an OSError if that cannot be determined."""
    try:
        mode = folder.stat().st_mode
    except FileNotFoundError:
        raise CourseError(f"there is no folder {folder}; give the path of one") from None
    if not stat.S_ISDIR(mode):
        raise CourseError(f"{folder} is a file; give a folder{'; unpack it first' if is_archive(folder) else ''}")


def packaged_photo(name: str) -> Path | None:
    """Finds a photo of the package scikit-image without importing the package, which is slow."""
    try:
        path = Path(str(metadata.distribution("scikit-image").locate_file(f"skimage/data/{name}")))
    except metadata.PackageNotFoundError:
        return None
    return path if path.is_file() else None


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
