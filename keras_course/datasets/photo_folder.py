"""Photos of one's own: a folder for each class becomes arrays for training, decoded once and then kept.

The folders are the classes, ``folder/cat/*.jpg``, or stand below parts, ``folder/train/cat/*.jpg`` and
``folder/valid/cat/*.jpg``. Nothing in them is trusted: what is damaged, too large or no picture is named and skipped.

Decoded pictures are kept in the cache folder as one file of plain bytes, which the next start maps into memory instead
of reading it. A photo counts as unchanged while its name, its size and its time of change are the same; the kept bytes
are checked for their number and not for their content.
"""

import hashlib
import json
import math
import os
import stat
import struct
import sys
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from numbers import Real
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import PIL
from PIL import Image

from keras_course import randomness
from keras_course._backend import select
from keras_course.datasets import arrays, asl
from keras_course.datasets.download import Patience, locked
from keras_course.errors import CourseError, check_positive
from keras_course.files import is_archive, replacing
from keras_course.preprocessing import images
from keras_course.preprocessing.images import PictureFormat
from keras_course.progress import with_progress_bar

__all__ = [
    "LARGEST_BYTES",
    "LARGEST_CLASSES",
    "PART_NAMES",
    "PhotoFolder",
    "PhotoPart",
    "class_weights",
    "load_data",
    "locate",
]

LARGEST_BYTES: Final = 2**32
"""What decoded pictures may take by default: 28,532 of 224 by 224 pixels in colour."""
LARGEST_CLASSES: Final = 1000
"""As many as ImageNet has; more folders than that are hardly classes."""

SPLITS: Final = ("auto", "given", "stratified", "grouped")
PART_NAMES: Final = (
    dict.fromkeys(("train", "training"), "train")
    | dict.fromkeys(("valid", "val", "validation"), "valid")
    | dict.fromkeys(("test", "testing"), "test")
)
UNREAD_ENDINGS: Final = (".heic", ".heif", ".avif", ".gif", ".tif", ".tiff", ".jfif")
"""Pictures of kinds that are not read. They are named, so that nobody misses them unawares."""

# Links within a folder can make more paths of few files than anybody can wait for.
_LARGEST_ENTRIES: Final = 2 * arrays.LARGEST_COUNT
_SIDE: Final = 32  # pixels to which pictures are shrunk to find near-copies: of 640 fruits, 9 pairs above 0.95
_NAMES_SHOWN: Final = 10
_VERSION: Final = 1  # of what is kept; another number makes it anew
_WAITING: Final = 600.0  # seconds for which another process may decode before this one does it as well
_END: Final = struct.Struct("<32sQ")  # of a kept file: the SHA-256 and the length of the JSON before it

Pictures = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int32]
Places = npt.NDArray[np.int64]
T = TypeVar("T")


class PhotoPart(NamedTuple):
    """The photos to train on, or those to validate with, in the order of their paths.

    Args:
        pictures: uint8 (n, height, width, channels).
        labels: int32 (n,), places in ``PhotoFolder.class_names``.
        paths: The n files.
        hashes: The SHA-256 of each file, 64 hexadecimal digits.
    """

    pictures: Pictures
    labels: Labels
    paths: tuple[Path, ...]
    hashes: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class PhotoFolder:
    """Photos of several classes.

    Args:
        train: Those to train on.
        valid: Those to validate with.
        class_names: What the labels mean, sorted.
        skipped: The files that are not among them although they look like pictures, each with the reason.

    Example:
        >>> part = PhotoPart(np.zeros((1, 2, 2, 3), "uint8"), np.array([0], "int32"), (Path("cat/1.jpg"),), ("ab",))
        >>> (x_train, y_train), (x_valid, y_valid) = PhotoFolder(part, part, ("cat", "dog"), []).parts
        >>> x_train.shape, y_valid
        ((1, 2, 2, 3), array([0], dtype=int32))
    """

    train: PhotoPart
    valid: PhotoPart
    class_names: tuple[str, ...]
    skipped: list[tuple[Path, str]]

    @property
    def parts(self) -> arrays.Parts:
        """``(x_train, y_train), (x_valid, y_valid)``, as the other data sets have them."""
        return (self.train.pictures, self.train.labels), (self.valid.pictures, self.valid.labels)


class _File(NamedTuple):
    """A photo in the folder: its path below it, bytes, and time of the last change in nanoseconds."""

    name: str
    size: int
    changed: int


class _Listing(NamedTuple):
    """What is in a folder, by paths below it; sorted."""

    files: list[_File]
    folders: list[str]
    skipped: list[tuple[str, str]]


class _Tree:
    """Which folders of a listing are in which, and where the photos are."""

    def __init__(self, listing: _Listing) -> None:
        self.folders: dict[str, list[str]] = defaultdict(list)
        for folder in listing.folders:
            above, _, name = folder.rpartition("/")
            self.folders[above].append(name)
        self.direct: Counter[str] = Counter(_above(file.name) for file in listing.files)
        self.below: Counter[str] = Counter()
        for folder, count in self.direct.items():
            while folder:
                self.below[folder] += count
                folder = _above(folder)

    def filled(self, folder: str) -> list[str]:
        """Names the folders directly in a folder that have photos, at whatever depth."""
        return [name for name in self.folders[folder] if self.below[_join(folder, name)]]


class _Chosen(NamedTuple):
    """A photo with the part that it is in, "" without parts, and its class folder, "" outside of those."""

    file: _File
    part: str
    folder: str


class _Known(NamedTuple):
    """What is kept of a file besides its pixels, which are zero where there is a reason not to have any."""

    file: _File
    sha256: str
    reason: str


class _Decoded(NamedTuple):
    """Decoded pictures: the row of a photo in ``pictures``, by its name, and what is known of it."""

    pictures: Pictures
    known: dict[str, tuple[int, _Known]]

    def row(self, file: _File) -> int | None:
        """Gives the row of a photo that has not changed since."""
        row, known = self.known.get(file.name, (None, None))
        return row if known is not None and known.file == file else None


_NOTHING: Final = _Decoded(np.zeros((0, 1, 1, 1), "uint8"), {})


def locate(
    source: str | Path, names: Sequence[str], sample: Callable[[], Path], cache: str | Path | None = None
) -> Path:
    """Finds the folder that a lesson's ``--data`` means.

    Args:
        source: ``"auto"`` for the first folder of one of the names or, where there is none, the sample; ``"full"`` for
            such a folder alone; ``"sample"``; or the path of a folder.
        names: Names of folders in ``KERAS_COURSE_DATA`` or the cache, in the order in which they are looked for.
        sample: Makes the sample if it is not there yet, and gives its folder.
        cache: The cache folder; without it ``KERAS_COURSE_CACHE`` or the user's own cache folder.

    Returns:
        The folder.

    Raises:
        CourseError: There is none.

    Example:
        >>> locate("full", ["no_such_folder"], Path)
        Traceback (most recent call last):
        ...
        keras_course.errors.CourseError: there is none of the folders no_such_folder in KERAS_COURSE_DATA; give ...
    """
    if source in ("auto", "full"):
        for name in names:
            for folder in arrays.places(name, cache):
                if folder.is_dir():
                    return folder
        if source == "full":
            raise CourseError(
                f"there is none of the folders {', '.join(names)} in KERAS_COURSE_DATA; give --data FOLDER"
            )
    if source in ("auto", "sample"):
        return sample()
    folder = Path(source).expanduser()
    try:
        _check_folder(folder)
    except OSError as error:
        raise CourseError(f"{source} cannot be read: {_words(error)}") from None
    return folder


def load_data(
    folder: str | Path,
    *,
    pictures: PictureFormat,
    classes: Sequence[str] | Mapping[str, str] | None = None,
    others: str | None = None,
    split: Literal["auto", "given", "stratified", "grouped"] = "auto",
    valid_parts: Sequence[str] | None = None,
    valid_share: float = 0.2,
    seed: int = 0,
    cache: str | Path | None = None,
    workers: int | None = None,
    largest_bytes: int = LARGEST_BYTES,
) -> PhotoFolder:
    """Loads photos that lie in a folder for each class.

    Folders in a class folder belong to it. Hidden files and those without a picture's ending are passed over; links
    are followed where they stay in the folder. Photos that cannot be read are in ``skipped``, and one line on stderr
    names the first of them.

    Args:
        folder: The folder above the class folders, or above ``train`` and ``valid`` or ``test`` with class folders
            in each. ``val``, ``validation``, ``training`` and ``testing`` are understood as well.
        pictures: What the model takes; each photo becomes that by ``preprocessing.prepare``.
        classes: Which class folders to take: None for all, each a class by its name; a sequence of names for some; a
            mapping of names or patterns, as in ``{"fresh_*": "fresh", "rotten_*": "rotten"}``, to classes. The first
            pattern that fits counts.
        others: One class for all folders that ``classes`` does not name, which are left out without it.
        split: ``"given"`` takes the folder's own parts. ``"stratified"`` draws the same share of each class to
            validate with, at least one photo and never all; of a class with one photo, it is trained on. ``"grouped"``
            keeps series of near-copies on one side, see ``asl.near_copies``. ``"auto"`` is given where the folder has
            parts, else stratified. Parts that are split anew are put together first.
        valid_parts: The folder's parts to validate with, of ``"valid"`` and ``"test"``. Without it ``valid``, so that
            ``test`` stays unseen until the end, or else ``test`` where there is no ``valid``.
        valid_share: Share of each class to validate with, between 0 and 1; not for ``"given"``.
        seed: Decides which photos these are, by the order of their names, on every machine alike.
        cache: The cache folder; without it ``KERAS_COURSE_CACHE`` or the user's own cache folder.
        workers: Threads that decode; without it, as many as there are cores for this process.
        largest_bytes: What the decoded pictures may take.

    Returns:
        The photos, in the order of their paths. The arrays can be written to, and a change does not reach the cache.

    Raises:
        CourseError: The folder is not there, is no folder, cannot be read or has no class folders; a class is empty,
            single, or on one side only; it is unclear which folders are the classes; there are too many of them or too
            many photos, or an argument makes no sense.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for number in range(10):
        ...         photo = Path(folder, "photos", ("cat", "dog")[number % 2], f"{number}.png")
        ...         photo.parent.mkdir(parents=True, exist_ok=True)
        ...         Image.new("RGB", (60, 40), (20 * number, 0, 0)).save(photo)
        ...     size = PictureFormat(height=8, width=8, channels=3)
        ...     photos = load_data(Path(folder, "photos"), pictures=size, cache=Path(folder, "cache"))
        ...     (x_train, y_train), (x_valid, y_valid) = photos.parts
        >>> x_train.shape, y_valid.tolist(), photos.class_names
        ((8, 8, 8, 3), [0, 1], ('cat', 'dog'))
    """
    _check_arguments(folder, pictures, split, valid_share, workers, largest_bytes)
    randomness.stream_key(seed)  # refuses a wrong one before the work and not after it
    folder = Path(folder).expanduser()
    listing = _list(folder)
    tree = _Tree(listing)
    parts = _parts(folder, tree, split, valid_parts)
    class_of = _classes(folder, tree, parts, split, classes, others)
    class_names = tuple(sorted(set(class_of.values())))
    is_given = bool(parts) and split in ("auto", "given") and len(parts) > 1

    chosen, skipped = _choose(listing, parts, class_of)
    _check_filled(class_of, chosen, skipped, is_given)
    claim = len(chosen) * math.prod(pictures.shape)
    if claim > largest_bytes:
        raise CourseError(
            f"{folder} has {len(chosen):,} photos, which take {claim:,} bytes at {pictures.width} × {pictures.height} "
            f"pixels; largest_bytes is {largest_bytes:,}: raise it, or give fewer classes or smaller pictures"
        )
    decoded, unread = _decode_or_reuse(
        folder, [photo.file for photo in chosen], listing.files, pictures, arrays.cache_folder(cache), workers
    )
    rows, kept, hashes = [], [], []
    for photo in chosen:
        name = photo.file.name
        if name in unread:
            skipped.append((name, unread[name]))
            continue
        row, known = decoded.known[name]
        if known.reason:
            skipped.append((name, known.reason))
            continue
        rows.append(row)
        kept.append(photo)
        hashes.append(known.sha256)
    skipped.sort(key=lambda item: _in_order(item[0]))
    _report(folder, skipped)
    _check_filled(class_of, kept, skipped, is_given)

    label_of = {name: label for label, name in enumerate(class_names)}
    labels = np.array([label_of[class_of[photo.folder]] for photo in kept], "int32")
    if is_given:
        is_valid = np.array([photo.part != "train" for photo in kept])
    elif split == "grouped":
        is_valid = _grouped(decoded.pictures, rows, np.take(class_names, labels), valid_share, seed)
    else:
        is_valid = _stratified(labels, class_names, valid_share, seed)
    sides = []
    for places in (np.flatnonzero(~is_valid), np.flatnonzero(is_valid)):
        paths = tuple(folder / kept[place].file.name for place in places)
        photos = _take(decoded.pictures, [rows[place] for place in places])
        sides.append(PhotoPart(photos, labels[places], paths, tuple(hashes[place] for place in places)))
    return PhotoFolder(sides[0], sides[1], class_names, [(folder / name, reason) for name, reason in skipped])


def class_weights(labels: npt.ArrayLike, num_classes: int) -> npt.NDArray[np.float32]:
    """Gives each class a weight with which all classes count alike, however many photos they have.

    Where 10 photos show one dog and 990 others, a model that always says "another" is right in 99 of 100 cases. With
    these weights it is no better than a guess.

    Args:
        labels: Whole numbers (n,), 0 to ``num_classes`` - 1.
        num_classes: Number of classes.

    Returns:
        float32 (num_classes,): n / (classes × photos of the class). The average over all photos is 1.

    Raises:
        CourseError: A class has no photo, or a label is out of range.

    Example:
        >>> class_weights([0, 1, 1, 1], 2)
        array([2.       , 0.6666667], dtype=float32)
    """
    check_positive(num_classes=num_classes)
    numbers = np.asarray(labels)
    if numbers.ndim != 1 or numbers.dtype.kind not in "iu" or not numbers.size:
        raise CourseError(f"labels are {numbers.dtype} {numbers.shape}; give whole numbers (n,), n from 1 up")
    if numbers.min() < 0 or numbers.max() >= num_classes:
        raise CourseError(f"labels go from {numbers.min()} to {numbers.max()}; give 0 to {num_classes - 1}")
    counts = np.bincount(numbers.astype("int64"), minlength=num_classes)
    if not counts.all():
        raise CourseError(f"labels have none of class {counts.argmin()}; give at least one of each class")
    return (len(numbers) / (num_classes * counts)).astype("float32")


# --- What is in the folder -------------------------------------------------------------------------------------


def _check_arguments(
    folder: Any, pictures: Any, split: str, valid_share: float, workers: int | None, largest_bytes: int
) -> None:
    if not isinstance(folder, (str, os.PathLike)) or str(folder) == "":
        raise CourseError(f"folder is {folder!r}; give the path of a folder of photos")
    if not isinstance(pictures, PictureFormat):
        raise CourseError(f"pictures is {pictures!r}; give a PictureFormat, which says what the model takes")
    if split not in SPLITS:
        raise CourseError(f"split is {split!r}; give one of {', '.join(SPLITS)}")
    if not isinstance(valid_share, Real) or not 0 < valid_share < 1:
        raise CourseError(f"valid_share is {valid_share!r}; give a number between 0 and 1")
    check_positive(largest_bytes=largest_bytes, **({} if workers is None else {"workers": workers}))


def _list(folder: Path) -> _Listing:
    """Goes through a folder and those in it, without opening a file."""
    listing = _Listing([], [], [])
    try:
        root = os.path.realpath(folder)
        _check_folder(folder)
        open_folders: list[tuple[str, tuple[str, ...]]] = [("", ())]
        count = 0
        while open_folders:
            name, links = open_folders.pop()
            try:
                with os.scandir(folder / name) as entries:
                    found = list(entries)
            except OSError as error:
                if not name:
                    raise
                listing.skipped.append((name, _words(error)))
                continue
            count += len(found)
            if count > _LARGEST_ENTRIES:
                raise CourseError(f"{folder} has more than {_LARGEST_ENTRIES:,} files; give a smaller folder")
            for entry in found:
                # macOS adds hidden twins of all files to its zip archives
                if not entry.name.startswith((".", "__MACOSX")):
                    inner = _visit(listing, entry, _join(name, entry.name), root, links)
                    if inner is not None:
                        open_folders.append((_join(name, entry.name), inner))
    except (OSError, ValueError) as error:
        if isinstance(error, CourseError):
            raise
        raise CourseError(f"{folder} cannot be read: {_words(error)}") from error
    if len(listing.files) > arrays.LARGEST_COUNT:
        raise CourseError(
            f"{folder} has {len(listing.files):,} photos; give a folder of at most {arrays.LARGEST_COUNT:,}"
        )
    listing.files.sort(key=lambda file: _in_order(file.name))
    listing.folders.sort(key=_in_order)
    listing.skipped.sort(key=lambda item: _in_order(item[0]))
    return listing


def _check_folder(folder: Path) -> None:
    """Refuses what is no folder; anything else that hinders is raised as it is."""
    try:
        mode = folder.stat().st_mode
    except FileNotFoundError:
        raise CourseError(f"there is no folder {folder}; give one with a folder of photos for each class") from None
    if not stat.S_ISDIR(mode):
        hint = "; unpack it first" if is_archive(folder) else ""
        raise CourseError(f"{folder} is a file; give a folder with a folder of photos for each class{hint}")


def _visit(
    listing: _Listing, entry: os.DirEntry[str], name: str, root: str, links: tuple[str, ...]
) -> tuple[str, ...] | None:
    """Notes one file, or gives for a folder the real paths that were left by links on the way into it."""
    _, dot, ending = entry.name.rpartition(".")
    ending = dot + ending.lower()
    is_picture = ending in images.PICTURE_ENDINGS
    try:
        if entry.is_symlink():
            here, target = os.path.realpath(Path(entry.path).parent), os.path.realpath(entry.path)
            is_folder = Path(target).is_dir()
            if not _is_in(target, root):
                if is_picture or is_folder:
                    listing.skipped.append((name, "it is a link that leaves the folder"))
                return None
            if is_folder:
                links = (*links, here)
                if any(_is_in(link, target) for link in links):
                    listing.skipped.append((name, "it is a link that leads back to a folder around it"))
                    return None
        if entry.is_dir():
            listing.folders.append(name)
            return links
        if not is_picture and ending not in UNREAD_ENDINGS:
            return None
        status = entry.stat()
    except OSError as error:
        if is_picture:
            listing.skipped.append((name, _words(error)))
        return None
    if not stat.S_ISREG(status.st_mode):  # to open a pipe is to wait for somebody who writes into it
        listing.skipped.append((name, "it is not a file"))
    elif not is_picture:
        listing.skipped.append((name, f"{ending} is not read; save it as JPEG or PNG"))
    elif status.st_size > images.LARGEST_FILE_BYTES:
        reason = f"it has {status.st_size:,} bytes; at most {images.LARGEST_FILE_BYTES:,} are read"
        listing.skipped.append((name, reason))
    else:
        listing.files.append(_File(name, status.st_size, status.st_mtime_ns))
    return None


def _parts(folder: Path, tree: _Tree, split: str, valid_parts: Sequence[str] | None) -> dict[str, str]:
    """Finds the folders of the parts that are asked for, ``train`` first; {} where classes are not below parts.

    A folder ``train`` can also be a class, beside ``bus``. It is a part if the photos are in folders in it, and if all
    other folders are parts, or another one is.
    """
    top = tree.filled("")
    wanted = _part_names(valid_parts)
    folders: dict[str, list[str]] = defaultdict(list)
    for name in tree.folders[""]:
        part = PART_NAMES.get(name.lower())
        if part and (tree.filled(name) or not tree.direct[name]):
            folders[part].append(name)
    if not any(map(tree.below.get, folders["train"])) or (len(folders) == 1 and top != folders["train"]):
        if len(top) > 1 and all(name.lower() in PART_NAMES for name in top):
            direct = [name for name in top if tree.direct[name]]
            problem = f"photos directly in {_listed(direct)}" if direct else f"{_listed(top)} but no train"
            raise CourseError(f"{folder} has {problem}; put photos into folders such as train/cat and valid/cat")
        if split == "given" or wanted:
            name = "split is 'given'" if split == "given" else f"valid_parts is {valid_parts!r}"
            raise CourseError(
                f"{name}, but {folder} has no folders train and valid (or test) with class folders in them; "
                "give split='stratified' or 'grouped', and no valid_parts"
            )
        return {}
    if double := [names for names in folders.values() if len(names) > 1]:
        raise CourseError(f"{folder} has {_listed(double[0])}, which mean the same; keep one of them")
    found = {part: names[0] for part, names in folders.items()}
    if missing := [part for part in wanted if part not in found]:
        there = _listed([part for part in found if part != "train"]) or "none"
        raise CourseError(f"valid_parts has {missing[0]!r}, which {folder} does not have; give of what it has: {there}")
    if not wanted:
        wanted = [part for part in found if part == "valid"] or [part for part in found if part == "test"]
    if split == "given" and not wanted:
        raise CourseError(
            f"split is 'given', but {folder} has only {found['train']}; add valid, or give split='stratified'"
        )
    return {part: found[part] for part in ("train", *wanted)}


def _part_names(valid_parts: Sequence[str] | None) -> list[str]:
    if valid_parts is None:
        return []
    names = [valid_parts] if isinstance(valid_parts, str) else valid_parts
    try:
        parts = [PART_NAMES[name.lower()] for name in names]
    except (AttributeError, KeyError, TypeError):
        parts = []
    if not parts or "train" in parts:
        raise CourseError(f"valid_parts is {valid_parts!r}; give some of ('valid', 'test')")
    return list(dict.fromkeys(parts))


def _choose(
    listing: _Listing, parts: dict[str, str], class_of: dict[str, str]
) -> tuple[list[_Chosen], list[tuple[str, str]]]:
    """Picks the photos of the parts and classes that are asked for, and what is skipped of those."""
    chosen, skipped = [], []
    for file in listing.files:
        photo = _place(file, parts)
        if photo is not None and photo.folder in class_of:
            chosen.append(photo)
        elif photo is not None and not photo.folder:
            skipped.append((file.name, "it is in no class folder"))
    for name, reason in listing.skipped:
        photo = _place(_File(name, 0, 0), parts)
        if photo is not None and (not photo.folder or photo.folder in class_of):
            skipped.append((name, reason))
    return chosen, skipped


def _place(file: _File, parts: dict[str, str]) -> _Chosen | None:
    """Finds the part and the class folder of a photo; None for one in a part that is not asked for."""
    names = file.name.split("/")
    part = ""
    if parts:
        part = next((part for part, name in parts.items() if name == names[0]), "")
        if not part:
            return None if names[0].lower() in PART_NAMES else _Chosen(file, "", "")
        names = names[1:]
    return _Chosen(file, part, _composed(names[0]) if len(names) > 1 else "")


def _classes(
    folder: Path,
    tree: _Tree,
    parts: dict[str, str],
    split: str,
    classes: Sequence[str] | Mapping[str, str] | None,
    others: str | None,
) -> dict[str, str]:
    """Gives the class of each class folder that is taken, both by composed names."""
    above = list(parts.values()) or [""]
    inside: dict[str, list[str]] = defaultdict(list)  # all folders of a class, by its name
    for start in above:
        for name in tree.folders[start]:
            inside[_composed(name)].append(_join(start, name))
    if not inside:
        found = "photos directly in it" if any(map(tree.direct.get, above)) else "no photos"
        raise CourseError(f"{folder} has no class folders and {found}; put photos into a folder for each class")
    if classes is None and others is not None:
        raise CourseError(f"others is {others!r}, but classes names none; give classes, such as ('dog',)")
    class_of = {name: name for name in inside} if classes is None else _regrouped(folder, list(inside), classes, others)
    if classes is None:
        _check_level(folder, tree, inside)
    if split in ("auto", "given"):
        _check_order(folder, tree, {name: inside[name] for name in class_of})
    names = set(class_of.values())
    if len(names) > LARGEST_CLASSES:
        raise CourseError(
            f"{folder} has {len(names):,} class folders; give at most {LARGEST_CLASSES:,}, or join them with classes"
        )
    if len(names) < 2:
        only = _shown(next(iter(names)))
        remedy = "add a folder with another class" if classes is None else "let classes or others name a second one"
        raise CourseError(f"{folder} has only the class {only!r}, which leaves nothing to tell apart; {remedy}")
    return class_of


def _regrouped(
    folder: Path, names: list[str], classes: Sequence[str] | Mapping[str, str], others: str | None
) -> dict[str, str]:
    """Gives the class of each folder by what the person wants, which must all be there."""
    is_pattern = isinstance(classes, Mapping)
    wanted: list[tuple[Any, Any]] = []
    if isinstance(classes, Mapping):
        wanted = list(classes.items())
    elif isinstance(classes, Collection) and not isinstance(classes, (str, bytes)):
        wanted = [(name, name) for name in classes]
    texts = [text for pair in wanted for text in pair] + ([] if others is None else [others])
    if not wanted or not all(isinstance(text, str) and text for text in texts):
        raise CourseError(
            f"classes is {classes!r} and others {others!r}; give names of class folders, such as ('cat', 'dog'), or a "
            "mapping of patterns, such as {'fresh_*': 'fresh'}; others is the name of a class"
        )
    class_of: dict[str, str] = {}
    for pattern, name in wanted:
        pattern = _composed(pattern)
        fitting = [found for found in names if found == pattern or (is_pattern and fnmatchcase(found, pattern))]
        if not fitting:
            raise CourseError(
                f"classes has {pattern!r}, which is none of the class folders of {folder}: {_listed(names)}; "
                "give one of these"
            )
        for found in fitting:
            class_of.setdefault(found, _composed(name))
    if others is not None:
        rest = [name for name in names if name not in class_of]
        if not rest:
            raise CourseError(f"others is {others!r}, but classes names every class folder of {folder}; leave it out")
        class_of |= dict.fromkeys(rest, _composed(others))
    return class_of


def _check_level(folder: Path, tree: _Tree, inside: dict[str, list[str]]) -> None:
    """Refuses folders in folders that look like one more level of classes."""
    inner = {name: {_composed(deep) for path in paths for deep in tree.filled(path)} for name, paths in inside.items()}
    shared = Counter(deep for names in inner.values() for deep in names)
    for name, deeper in inner.items():
        # folders of the same names in several classes are years or cameras
        is_level = len(deeper) > 1 and not any(tree.direct[path] for path in inside[name])
        if is_level and all(shared[deep] == 1 for deep in deeper):
            path = folder / inside[name][0]
            if len(inside) == 1:
                remedy = f"if those are the classes, give {path}"
            else:
                remedy = f"if {_listed(inside)} are the classes, name them in classes; else move all to one level"
            raise CourseError(
                f"{folder} does not show which folders are the classes: {path} has no photos but the folders "
                f"{_listed(deeper)}; {remedy}"
            )


def _check_order(folder: Path, tree: _Tree, inside: dict[str, list[str]]) -> None:
    """Refuses parts below the classes, which would be mixed."""
    for paths in inside.values():
        for path in paths:
            below = [name for name in tree.filled(path) if name.lower() in PART_NAMES]
            if below and not tree.direct[path]:
                raise CourseError(
                    f"{folder / path} has {_listed(below)} in it; put the parts above the classes, as in "
                    f"{below[0]}/{_shown(path)}, or give split='stratified' to put them together and split them anew"
                )


def _check_filled(
    class_of: dict[str, str], photos: Sequence[_Chosen], skipped: Sequence[tuple[str, str]], is_given: bool
) -> None:
    """Makes sure that each class has photos, on both sides where these are given."""
    counts = Counter((class_of[photo.folder], photo.part == "train") for photo in photos)
    for name in sorted(set(class_of.values())):
        in_train, in_valid = counts[name, True], counts[name, False]
        if (in_train and in_valid) if is_given else (in_train or in_valid):
            continue
        folders = {folder for folder, found in class_of.items() if found == name}
        mine = [item for item in skipped if not folders.isdisjoint(map(_composed, item[0].split("/")[:2]))]
        why = f" ({len(mine):,} skipped, such as {_shown(mine[0][0])}: {_shown(mine[0][1])})" if mine else ""
        if not in_train + in_valid:
            raise CourseError(
                f"class {_shown(name)!r} has no photos{why}; add {', '.join(images.PICTURE_ENDINGS)} to "
                f"{_listed(folders)}, remove it, or let classes name the others"
            )
        has, lacks = ("training", "validation") if in_train else ("validation", "training")
        raise CourseError(
            f"class {_shown(name)!r} has photos for {has} only{why}; add some for {lacks}, let classes name the "
            "other classes, or give split='stratified'"
        )


def _report(folder: Path, skipped: Sequence[tuple[str, str]]) -> None:
    """Says in one line what is left out."""
    if skipped:
        names = [f"{_shown(name)} ({_shown(reason)})" for name, reason in skipped[:_NAMES_SHOWN]]
        more = f", and {len(skipped) - _NAMES_SHOWN:,} more" if len(skipped) > _NAMES_SHOWN else ""
        print(f"{folder}: {len(skipped):,} skipped: {', '.join(names)}{more}", file=sys.stderr)


# --- Decoding and keeping --------------------------------------------------------------------------------------


def _decode_or_reuse(
    folder: Path,
    files: Sequence[_File],
    there: Sequence[_File],
    pictures: PictureFormat,
    cache: Path,
    workers: int | None,
) -> tuple[_Decoded, dict[str, str]]:
    """Gives decoded pictures, from the cache as far as they are there, and reasons where files cannot be read."""
    made_from = {
        "version": _VERSION,
        "pillow": PIL.__version__,  # another one may decode to other pixels
        "folder": os.path.realpath(folder),
        "pictures": pictures.to_dict(),
    }
    place = cache / "photos"
    key = _digest([made_from["folder"], made_from["pictures"]])
    kept = _open_kept(place, key, made_from)
    if not _missing(files, kept):
        return kept, {}
    problem = ""
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(place / f"{key}.lock", Patience(total=_WAITING)))
        except CourseError as error:
            problem = str(error)
        else:  # another process may have decoded them while this one waited
            kept = _open_kept(place, key, made_from, is_last_look=True)
        missing = _missing(files, kept)
        fresh, unread = _decode(folder, missing, pictures, workers) if missing else (_NOTHING, {})
        if not fresh.known:
            return kept, unread
        # what is kept of other parts and classes stays, as long as the photos do
        sources = [
            (source.known[file.name][1], source.pictures[row])
            for file in there
            for source in (fresh, kept)
            if (row := source.row(file)) is not None
        ]
        if not problem:
            try:
                return _open_written(_write(place, key, made_from, sources), made_from), unread
            except (OSError, ValueError) as error:
                problem = f"{place} cannot be written: {_words(error)}"
    print(f"the decoded photos are not kept for the next time: {problem}", file=sys.stderr)
    if len(fresh.known) == len(files):
        return fresh, unread
    names = {file.name for file in files}
    wanted = [(known, pixels) for known, pixels in sources if known.file.name in names]
    rows = {known.file.name: (row, known) for row, (known, _) in enumerate(wanted)}
    return _Decoded(np.stack([pixels for _, pixels in wanted]), rows), unread


def _missing(files: Sequence[_File], kept: _Decoded) -> list[_File]:
    return [file for file in files if kept.row(file) is None]


def _decode(
    folder: Path, files: Sequence[_File], pictures: PictureFormat, workers: int | None
) -> tuple[_Decoded, dict[str, str]]:
    """Decodes photos in several threads: Pillow lets others work meanwhile."""
    pixels = np.zeros((len(files), *pictures.shape), "uint8")
    steps = partial(_decode_one, folder, pictures)
    with ThreadPoolExecutor(min(workers or select.processors(), len(files))) as pool:
        try:
            results = with_progress_bar(pool.map(steps, files, pixels), len(files), "photos")
        except BaseException:  # somebody who ends the program does not want to wait for the rest
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    known, unread = {}, {}
    for row, (file, (sha256, reason)) in enumerate(zip(files, results, strict=True)):
        if sha256:
            known[file.name] = row, _Known(file, sha256, reason)
        else:
            unread[file.name] = reason
    return _Decoded(pixels, known), unread


def _decode_one(folder: Path, pictures: PictureFormat, file: _File, row: Pictures) -> tuple[str, str]:
    """Decodes a photo into a row; returns the hash of the file, "" if it was not read, and the reason if it failed."""
    try:
        with (folder / file.name).open("rb") as stream:
            content = stream.read(images.LARGEST_FILE_BYTES + 1)
        sha256 = hashlib.sha256(content).hexdigest()
        row[...] = images.prepare(content, pictures, name="it")
    except OSError as error:
        return "", _words(error)
    except Exception as error:  # a damaged file can make a decoder raise nearly anything
        if isinstance(error.__cause__ or error, MemoryError):
            return "", "there is not enough memory"
        return sha256, _words(error)
    return sha256, ""


def _write(place: Path, key: str, made_from: dict[str, Any], sources: Sequence[tuple[_Known, Pictures]]) -> Path:
    """Writes pixels as an array of NumPy's, with what is known of them behind it, and removes what it replaces.

    The lock is held. What a process that was killed has left behind is removed as well.
    """
    for stale in place.glob(f".{key}-*.part"):
        with suppress(OSError):
            stale.unlink()
    files = [[*known.file, known.sha256, known.reason] for known, _ in sources]
    about = json.dumps({"made_from": made_from, "files": files}).encode("ascii")
    path = place / f"{key}-{_digest(files)}.npy"
    header = {"descr": "|u1", "fortran_order": False, "shape": (len(sources), *sources[0][1].shape)}
    with replacing(path) as file:
        np.lib.format.write_array_header_1_0(file, header)
        for _, pixels in sources:
            file.write(pixels.data)
        file.write(about)
        file.write(_END.pack(hashlib.sha256(about).digest(), len(about)))
    for old in place.glob(f"{key}-*.npy"):
        if old != path:
            with suppress(OSError):  # Windows removes no file that somebody has open
                old.unlink()
    return path


def _open_kept(place: Path, key: str, made_from: dict[str, Any], *, is_last_look: bool = False) -> _Decoded:
    """Opens the newest file that was kept, if it is whole and of this version."""
    found = []
    with suppress(OSError):
        kept = [path for path in place.glob(f"{key}-*.npy") if path.is_file()]
        found = sorted(kept, key=lambda path: path.stat().st_mtime_ns, reverse=True)
    for path in found:
        try:
            return _open_written(path, made_from)
        except FileNotFoundError:  # another process has just replaced it
            continue
        except Exception as error:  # a damaged file can make NumPy and JSON raise nearly anything
            if is_last_look:
                print(f"{path} is damaged and is made anew: {_words(error)}", file=sys.stderr)
    return _NOTHING


def _open_written(path: Path, made_from: dict[str, Any]) -> _Decoded:
    """Maps a kept file into memory. Its pages are read when they are used, and changes to them stay in memory."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - _END.size))
        sha256, length = _END.unpack(file.read(_END.size))
        if length > size - _END.size:
            raise ValueError(f"it has {size:,} bytes, fewer than it should")
        file.seek(size - _END.size - length)
        about = file.read(length)
    if hashlib.sha256(about).digest() != sha256:
        raise ValueError("what is known of its photos is not what was written")
    content = json.loads(about)
    if content["made_from"] != made_from:  # another version of the course or of Pillow
        return _NOTHING
    known = [_Known(_File(*row[:3]), *row[3:]) for row in content["files"]]
    pixels = np.load(path, mmap_mode="c", allow_pickle=False)
    wanted = (len(known), made_from["pictures"]["height"], made_from["pictures"]["width"])
    if not isinstance(pixels, np.memmap) or pixels.dtype != np.uint8 or pixels.shape[:3] != wanted:
        raise ValueError("its array is not the one that was written")
    if pixels.offset + pixels.nbytes + length + _END.size != size:
        raise ValueError(f"it has {size:,} bytes, and should have others")
    return _Decoded(np.asarray(pixels), {file.file.name: (row, file) for row, file in enumerate(known)})


# --- Splits ----------------------------------------------------------------------------------------------------


def _stratified(labels: Labels, class_names: Sequence[str], share: float, seed: int) -> npt.NDArray[np.bool_]:
    """Draws photos of each class to validate with; a class does not change what is drawn of another one."""
    is_valid = np.zeros(len(labels), bool)
    for label, name in enumerate(class_names):
        members = np.flatnonzero(labels == label)
        if len(members) > 1:
            count = min(max(1, math.floor(share * len(members) + 0.5)), len(members) - 1)
            order = randomness.permutation(randomness.stream_key(seed, "photo_folder", name), len(members))
            is_valid[members[order[:count]]] = True
    if not is_valid.any():
        raise CourseError("there is one photo of each class, and none to validate with; add more photos")
    return is_valid


def _grouped(
    pictures: Pictures, rows: Sequence[int], names: npt.NDArray[Any], share: float, seed: int
) -> npt.NDArray[np.bool_]:
    """Draws series of near-copies to validate with; names are those of the classes, for an error that has one."""
    small = np.stack([_shrunk(pictures[row]) for row in rows])
    classes = np.unique(names, return_inverse=True)[1]
    _, valid_places = asl.split_by_group(asl.near_copies(small, classes), names, valid_share=share, seed=seed)
    is_valid = np.zeros(len(rows), bool)
    is_valid[valid_places] = True
    return is_valid


def _shrunk(picture: Pictures) -> Pictures:
    """Makes a picture so small that comparing many of them takes seconds."""
    height, width, channels = picture.shape
    image = Image.fromarray(picture[:, :, 0] if channels == 1 else picture)
    return np.asarray(image.resize((min(width, _SIDE), min(height, _SIDE)), Image.Resampling.BOX))


def _take(pictures: Pictures, rows: Sequence[int]) -> Pictures:
    """Gives some rows: a view, which costs nothing, where they are in one piece."""
    if list(rows) == list(range(rows[0], rows[0] + len(rows))):
        return pictures[rows[0] : rows[0] + len(rows)]
    return pictures[list(rows)]


# --- Names -----------------------------------------------------------------------------------------------------


def _above(name: str) -> str:
    return name.rpartition("/")[0]


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def _is_in(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)


def _composed(name: str) -> str:
    """Writes letters with accents in one way; macOS has another one than a keyboard."""
    return unicodedata.normalize("NFC", name)


def _in_order(name: str) -> tuple[list[str], str]:
    """Sorts paths folder by folder, on every system alike."""
    return _composed(name).split("/"), name


def _shown(name: str) -> str:
    """Gives a name that anybody may have written in one line, and without what a terminal would obey."""
    return "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in name)


def _listed(names: Iterable[str]) -> str:
    """Names some in their order, and says how many more there are."""
    found = sorted(names)
    more = f" and {len(found) - 5:,} more" if len(found) > 5 else ""
    return ", ".join(map(_shown, found[:5])) + more


def _words(error: Exception) -> str:
    """The reason of an error in one line."""
    words = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(words.split()) or type(error).__name__


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content).encode("ascii")).hexdigest()[:16]
