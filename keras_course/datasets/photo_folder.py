"""Photos of one's own: a folder for each class becomes arrays for training, decoded once and then kept.

The folders are the classes, ``folder/cat/*.jpg``, or stand below parts, ``folder/train/cat/*.jpg`` and
``folder/valid/cat/*.jpg``; ``layouts.py`` reads which. Nothing in them is trusted: what is damaged, too large or no
picture is named and skipped.

Decoded pictures are kept in the cache folder as one file of plain bytes, which the next start maps into memory instead
of reading it. A photo counts as unchanged while its name, its size and its time of change are the same; the kept bytes
are checked for their number and not for their content.
"""

import hashlib
import json
import math
import os
import struct
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
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
from keras_course.cards import check_class_name
from keras_course.datasets import arrays, asl
from keras_course.datasets.download import Patience, locked
from keras_course.datasets.folders import (
    LEAVES,
    File,
    Listing,
    check_folder,
    composed,
    in_order,
    is_system,
    join,
    list_pictures,
    names_of,
    report,
)
from keras_course.datasets.layouts import Layout, Tree, part_of, read_layout
from keras_course.errors import CourseError, check_positive, reason_of
from keras_course.files import replacing
from keras_course.foreign_text import printable
from keras_course.preprocessing import images
from keras_course.preprocessing.images import PictureFormat
from keras_course.progress import with_progress_bar

__all__ = [
    "LARGEST_BYTES",
    "LARGEST_CLASSES",
    "PhotoFolder",
    "PhotoPart",
    "class_weights",
    "decode",
    "find_photos",
    "load_data",
    "locate",
]

LARGEST_BYTES: Final = 2**32
"""What decoded pictures may take by default: 28,532 of 224 by 224 pixels in colour."""
LARGEST_CLASSES: Final = 1000
"""As many as ImageNet has; more folders than that are hardly classes."""

SPLITS: Final = ("auto", "given", "stratified", "grouped")
_SIDE: Final = 32  # pixels to which pictures are shrunk to find near-copies: of 640 fruits, 9 pairs above 0.95
_LONGEST_NAME: Final = 255  # bytes: what file systems take
_VERSION: Final = 2  # of what is kept; another number makes it anew
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


class _Chosen(NamedTuple):
    """A photo with the part that it is in, "" without parts, and its class folder, "" outside of those."""

    file: File
    part: str
    folder: str


class _Found(NamedTuple):
    """What there is in a folder: the parts, classes and photos that are asked for, and what is skipped of those."""

    listing: Listing
    layout: Layout
    parts: dict[str, str]
    class_of: dict[str, str]
    class_names: tuple[str, ...]
    photos: list[_Chosen]
    skipped: list[tuple[str, str]]


class _Known(NamedTuple):
    """What is kept of a file besides its pixels, which are zero where there is a reason not to have any."""

    file: File
    sha256: str
    reason: str


class _Decoded(NamedTuple):
    """Decoded pictures: the row of a photo in ``pictures``, by its name, and what is known of it."""

    pictures: Pictures
    known: dict[str, tuple[int, _Known]]

    def row(self, file: File) -> int | None:
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
        check_folder(folder)
    except OSError as error:
        raise CourseError(f"{source} cannot be read: {reason_of(error)}") from None
    return folder


def load_data(
    folder: str | Path,
    *,
    picture_format: PictureFormat,
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

    Folders in a class folder belong to it. Links are followed where they stay in the folder. Every file that is not
    loaded is in ``skipped``, and one line on stderr names the first of them; only what systems and programs put there
    for themselves is passed over, such as hidden files and thumbnails. Equal files stay on one side: where the parts of
    the folder have them on both, those to train on are left out, as long as the class has others. One line says so.

    Args:
        folder: The folder above the class folders, or above ``train`` and ``valid`` or ``test`` with class folders
            in each. Other names of parts are understood as well, such as ``training_set`` and ``seg_train``; see
            ``layouts.part_of``.
        picture_format: What the model takes; each photo becomes that by ``preprocessing.prepare``.
        classes: Which class folders to take: None for all, each a class by its name; a sequence of names for some; a
            mapping of names or patterns, as in ``{"fresh_*": "fresh", "rotten_*": "rotten"}``, to classes. The first
            pattern that fits counts.
        others: One class for all folders that ``classes`` does not name, which are left out without it.
        split: ``"given"`` takes the folder's own parts as they are. ``"stratified"`` draws the same share of each class
            to validate with, at least one photo and never all; of a class with one photo, it is trained on.
            ``"grouped"`` keeps series of near-copies on one side, see ``asl.near_copies``. ``"auto"`` is given where
            the folder has ``train`` and ``valid``, else stratified. Parts that are split anew are put together first.
        valid_parts: The folder's parts to validate with, of ``"valid"`` and ``"test"``. Without it ``valid``, so that
            ``test`` stays unseen until the end. Where there is no ``valid``, a share of ``train`` is validated with, or
            ``test`` with ``"given"``.
        valid_share: Share of each class to validate with, between 0 and 1; not for ``"given"``.
        seed: Decides which photos these are, by the order of their names, on every machine alike.
        cache: The cache folder; without it ``KERAS_COURSE_CACHE`` or the user's own cache folder.
        workers: Threads that decode; without it, as many as there are cores for this process.
        largest_bytes: What the decoded pictures may take.

    Returns:
        The photos, in the order of their paths. The arrays can be written to, and a change does not reach the cache.

    Raises:
        CourseError: The folder is not there, is no folder, cannot be read or has no class folders; a class is empty,
            single, or on one side only, or has a name that a model's card or a file system cannot hold; it is unclear
            which folders are the classes or parts; there are too many of them or too many photos, or an argument makes
            no sense.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for number in range(10):
        ...         photo = Path(folder, "photos", ("cat", "dog")[number % 2], f"{number}.png")
        ...         photo.parent.mkdir(parents=True, exist_ok=True)
        ...         Image.new("RGB", (60, 40), (20 * number, 0, 0)).save(photo)
        ...     size = PictureFormat(height=8, width=8, channels=3)
        ...     photos = load_data(Path(folder, "photos"), picture_format=size, cache=Path(folder, "cache"))
        ...     (x_train, y_train), (x_valid, y_valid) = photos.parts
        >>> x_train.shape, y_valid.tolist(), photos.class_names
        ((8, 8, 8, 3), [0, 1], ('cat', 'dog'))
    """
    _check_arguments(folder, picture_format, split, valid_share, workers, largest_bytes)
    randomness.stream_key(seed)  # refuses a wrong one before the work and not after it
    folder = Path(folder).expanduser()
    found = _find(folder, lambda layout: _parts(folder, layout, split, valid_parts), classes, others, split)
    chosen, skipped, class_of, parts = found.photos, found.skipped, found.class_of, found.parts
    class_names = found.class_names
    is_given = len(parts) > 1 and split in ("auto", "given")
    _check_filled(class_of, chosen, skipped, is_given)
    claim = len(chosen) * math.prod(picture_format.shape)
    if claim > largest_bytes:
        raise CourseError(
            f"{folder} has {len(chosen):,} photos, which take {claim:,} bytes at {picture_format.width} × "
            f"{picture_format.height} pixels; largest_bytes is {largest_bytes:,}: raise it, or give fewer "
            "classes or smaller pictures"
        )
    decoded, unread = _decode_or_reuse(
        folder,
        [photo.file for photo in chosen],
        found.listing.files,
        picture_format,
        arrays.cache_folder(cache),
        workers,
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
    report(folder, sorted(skipped, key=lambda item: in_order(item[0])))
    _check_filled(class_of, kept, skipped, is_given)

    label_of = {name: label for label, name in enumerate(class_names)}
    labels = np.array([label_of[class_of[photo.folder]] for photo in kept], "int32")
    # equal files have one number, whatever they are called
    contents = np.unique(np.array(hashes), return_inverse=True)[1]
    is_used = np.ones(len(kept), bool)
    if is_given:
        is_valid = np.array([photo.part != "train" for photo in kept])
        if split == "auto":
            is_used = ~_trained_on_in_vain(labels, contents, is_valid)
    elif split == "grouped":
        is_valid = _grouped(decoded.pictures, rows, np.take(class_names, labels), contents, valid_share, seed)
    else:
        is_valid = _stratified(labels, contents, class_names, valid_share, seed)
    names = [photo.file.name for photo in kept]
    _report_copies(folder, labels, contents, is_valid, is_used, names)
    skipped += [(names[place], "the same photo is validated with") for place in np.flatnonzero(~is_used)]
    skipped.sort(key=lambda item: in_order(item[0]))
    if "test" in found.layout.parts and parts and split == "auto" and not is_given:
        print(
            f"{printable(str(folder))}: {found.layout.parts['test']} stays unseen, and {valid_share:.0%} of "
            f"{parts['train']} are validated with; valid_parts=('test',) validates with it",
            file=sys.stderr,
        )
    sides = []
    for places in (np.flatnonzero(~is_valid & is_used), np.flatnonzero(is_valid)):
        paths = tuple(folder / kept[place].file.name for place in places)
        photos = _take(decoded.pictures, [rows[place] for place in places])
        sides.append(PhotoPart(photos, labels[places], paths, tuple(hashes[place] for place in places)))
    return PhotoFolder(sides[0], sides[1], class_names, [(folder / name, reason) for name, reason in skipped])


def find_photos(
    folder: str | Path,
    *,
    classes: Sequence[str] | Mapping[str, str] | None = None,
    parts: Sequence[str] = (),
) -> tuple[list[tuple[Path, str]], tuple[str, ...], list[tuple[Path, str]]]:
    """Finds the photos of a folder, and opens none of them.

    Args:
        folder: The folder above the class folders, or above parts with class folders in each.
        classes: As for ``load_data``.
        parts: Of a folder that has parts, which ones, such as ``"valid"``; without it, all of them. A folder without
            parts is taken as a whole.

    Returns:
        The photos in the order of their paths, each with its class; the names of the classes, sorted; and the files
        that are not among the photos, each with the reason.

    Raises:
        CourseError: As for ``load_data``, or parts do not have the same classes.

    Example:
        >>> find_photos("no_such_folder")
        Traceback (most recent call last):
        ...
        keras_course.errors.CourseError: there is no folder no_such_folder; give the path of one
    """
    folder = Path(folder).expanduser()
    found = _find(folder, lambda layout: _parts_to_show(folder, layout, parts), classes, None, "stratified")
    _check_filled(found.class_of, found.photos, found.skipped, is_given=False)
    for part in found.parts:
        there = {found.class_of[photo.folder] for photo in found.photos if photo.part == part}
        if lacking := set(found.class_names) - there:
            raise CourseError(
                f"{folder} has different classes in {' and '.join(found.parts)}: {part} lacks {names_of(lacking)}; "
                "give one of the parts, or add these photos"
            )
    return (
        [(folder / photo.file.name, found.class_of[photo.folder]) for photo in found.photos],
        found.class_names,
        [(folder / name, reason) for name, reason in found.skipped],
    )


def decode(path: Path, picture_format: PictureFormat) -> tuple[npt.NDArray[np.uint8] | None, str, str]:
    """Decodes one photo.

    Args:
        path: Its file.
        picture_format: What it becomes.

    Returns:
        Its pixels, or None where it cannot be read; the SHA-256 of the file, "" where not even that could be read; and
        the reason, "" where there is none.
    """
    try:
        with path.open("rb") as stream:
            content = stream.read(images.LARGEST_FILE_BYTES + 1)
        sha256 = hashlib.sha256(content).hexdigest()
        return images.prepare(content, picture_format, name="it"), sha256, ""
    except OSError as error:
        return None, "", reason_of(error)
    except Exception as error:  # a damaged file can make a decoder raise nearly anything
        if isinstance(error.__cause__ or error, MemoryError):
            return None, "", "there is not enough memory"
        return None, sha256, reason_of(error)


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
    folder: Any, picture_format: Any, split: str, valid_share: float, workers: int | None, largest_bytes: int
) -> None:
    if not isinstance(folder, (str, os.PathLike)) or str(folder) == "":
        raise CourseError(f"folder is {folder!r}; give the path of a folder of photos")
    if not isinstance(picture_format, PictureFormat):
        raise CourseError(
            f"picture_format is {picture_format!r}; give a PictureFormat, which says what the model takes"
        )
    if split not in SPLITS:
        raise CourseError(f"split is {split!r}; give one of {', '.join(SPLITS)}")
    if not isinstance(valid_share, Real) or not 0 < valid_share < 1:
        raise CourseError(f"valid_share is {valid_share!r}; give a number between 0 and 1")
    check_positive(largest_bytes=largest_bytes, **({} if workers is None else {"workers": workers}))


def _find(
    folder: Path,
    choose_parts: Callable[[Layout], dict[str, str]],
    classes: Sequence[str] | Mapping[str, str] | None,
    others: str | None,
    split: str,
) -> _Found:
    """Finds the photos of the parts and classes that are asked for."""
    listing = list_pictures(folder)
    tree = Tree(listing)
    layout = read_layout(folder, tree, names_are_classes=classes is not None)
    parts = choose_parts(layout)
    class_of = _classes(folder, listing, tree, list(parts.values()) or [layout.start], split, classes, others)
    class_names = tuple(sorted(set(class_of.values())))
    for name in class_names:
        _check_class_name(folder, name)
    return _Found(listing, layout, parts, class_of, class_names, *_choose(listing, layout, parts, class_of))


def _parts_to_show(folder: Path, layout: Layout, wanted: Sequence[str]) -> dict[str, str]:
    """Gives the folders of the parts that are asked for; {} where classes are not below parts."""
    if layout.parts and (missing := [part for part in wanted if part not in layout.parts]):
        why = ", whose photos are in no class folders" if missing[0] in layout.unlabelled else ""
        raise CourseError(
            f"{folder} has no part {missing[0]}{why}, but {', '.join(sorted(layout.parts))}; ask for one that it "
            "has, or give the folder of one"
        )
    return {part: path for part, path in layout.parts.items() if not wanted or part in wanted}


def _parts(folder: Path, layout: Layout, split: str, valid_parts: Sequence[str] | None) -> dict[str, str]:
    """Gives the folders of the parts that are asked for, ``train`` first; {} where classes are not below parts."""
    wanted = _part_names(valid_parts)
    if not layout.parts:
        if split == "given" or wanted:
            name = "split is 'given'" if split == "given" else f"valid_parts is {valid_parts!r}"
            raise CourseError(
                f"{name}, but {folder} has no folders train and valid (or test) with class folders in them; "
                "give split='stratified' or 'grouped', and no valid_parts"
            )
        return {}
    if "train" not in layout.parts:
        raise CourseError(
            f"{folder} has {names_of(layout.parts.values())} but no train; put photos into folders such as train/cat "
            "and valid/cat"
        )
    if missing := [part for part in wanted if part not in layout.parts]:
        there = names_of([part for part in layout.parts if part != "train"]) or "none"
        why = "whose photos are in no class folders" if missing[0] in layout.unlabelled else f"which {folder} lacks"
        raise CourseError(f"valid_parts has {missing[0]!r}, {why}; give of what it has: {there}")
    if not wanted and "valid" in layout.parts:
        wanted = ["valid"]
    if split == "given" and not wanted:
        wanted = [part for part in layout.parts if part == "test"]
        if not wanted:
            raise CourseError(
                f"split is 'given', but {folder} has only {layout.parts['train']} with class folders; add valid, or "
                "give split='stratified'"
            )
    return {part: layout.parts[part] for part in ("train", *wanted)}


def _part_names(valid_parts: Sequence[str] | None) -> list[str]:
    if valid_parts is None:
        return []
    names = [valid_parts] if isinstance(valid_parts, str) else valid_parts
    try:
        readings = [part_of(name) for name in names]
    except TypeError:
        readings = []
    parts = [reading[0] for reading in readings if reading]
    if not parts or len(parts) < len(readings) or "train" in parts:
        raise CourseError(f"valid_parts is {valid_parts!r}; give some of ('valid', 'test')")
    return list(dict.fromkeys(parts))


def _choose(
    listing: Listing, layout: Layout, parts: dict[str, str], class_of: dict[str, str]
) -> tuple[list[_Chosen], list[tuple[str, str]]]:
    """Picks the photos of the parts and classes that are asked for, and what is skipped of those."""
    chosen, skipped = [], []
    for file in listing.files:
        photo = _place(file, layout, parts)
        if photo is not None and photo.folder in class_of:
            chosen.append(photo)
        elif photo is not None and not photo.folder:
            skipped.append((file.name, "it is in no class folder"))
    for name, reason in listing.skipped:
        photo = _place(File(name, 0, 0), layout, parts)
        if photo is not None and (not photo.folder or photo.folder in class_of):
            skipped.append((name, reason))
    return chosen, skipped


def _place(file: File, layout: Layout, parts: dict[str, str]) -> _Chosen | None:
    """Finds the part and the class folder of a photo; None for one in a part that is not asked for."""
    above = parts or {"": layout.start}
    for part, path in above.items():
        if not path or file.name.startswith(f"{path}/"):
            names = file.name.removeprefix(f"{path}/").split("/")
            return _Chosen(file, part, composed(names[0]) if len(names) > 1 else "")
    others = [path for part, path in layout.parts.items() if part not in parts]
    return None if any(file.name.startswith(f"{path}/") for path in others) else _Chosen(file, "", "")


def _classes(
    folder: Path,
    listing: Listing,
    tree: Tree,
    above: Sequence[str],
    split: str,
    classes: Sequence[str] | Mapping[str, str] | None,
    others: str | None,
) -> dict[str, str]:
    """Gives the class of each class folder that is taken, both by composed names."""
    inside: dict[str, list[str]] = defaultdict(list)  # all folders of a class, by its name
    for start in above:
        for name in tree.folders[start]:
            inside[composed(name)].append(join(start, name))
    if not inside:
        found = "photos directly in it" if any(map(tree.direct.get, above)) else "no photos"
        remedy = "put photos into a folder for each class"
        if links := [name for name, reason in listing.skipped if reason == LEAVES]:
            remedy = f"{names_of(links)} are links that leave the folder: give the folder they lead to, or copy it"
        raise CourseError(f"{folder} has no class folders and {found}; {remedy}")
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
        only = printable(next(iter(names)))
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
        pattern = composed(pattern)
        fitting = [found for found in names if found == pattern or (is_pattern and fnmatchcase(found, pattern))]
        if not fitting:
            raise CourseError(
                f"classes has {pattern!r}, which is none of the class folders of {folder}: {names_of(names)}; "
                "give one of these"
            )
        for found in fitting:
            class_of.setdefault(found, composed(name))
    if others is not None:
        rest = [name for name in names if name not in class_of]
        if not rest:
            raise CourseError(f"others is {others!r}, but classes names every class folder of {folder}; leave it out")
        class_of |= dict.fromkeys(rest, composed(others))
    return class_of


def _check_level(folder: Path, tree: Tree, inside: dict[str, list[str]]) -> None:
    """Refuses folders in folders that look like one more level of classes."""
    inner = {name: {composed(deep) for path in paths for deep in tree.filled(path)} for name, paths in inside.items()}
    shared = Counter(deep for names in inner.values() for deep in names)
    for name, deeper in inner.items():
        # folders of the same names in several classes are years or cameras
        is_level = len(deeper) > 1 and not any(tree.direct[path] for path in inside[name])
        if is_level and all(shared[deep] == 1 for deep in deeper):
            path = folder / inside[name][0]
            if len(inside) == 1:
                remedy = f"if those are the classes, give {path}"
            else:
                remedy = f"if {names_of(inside)} are the classes, name them in classes; else move all to one level"
            raise CourseError(
                f"{folder} does not show which folders are the classes: {path} has no photos but the folders "
                f"{names_of(deeper)}; {remedy}"
            )


def _check_order(folder: Path, tree: Tree, inside: dict[str, list[str]]) -> None:
    """Refuses parts below the classes, which would be mixed."""
    for paths in inside.values():
        for path in paths:
            below = [name for name in tree.filled(path) if part_of(name)]
            if below and not tree.direct[path]:
                raise CourseError(
                    f"{folder / path} has {names_of(below)} in it; put the parts above the classes, as in "
                    f"{below[0]}/{printable(path)}, or give split='stratified' to put them together and split them anew"
                )


def _check_class_name(folder: Path, name: str) -> None:
    """Refuses now what a model's card or a file system would refuse when the training is over."""
    try:
        check_class_name(name)
    except CourseError as error:
        raise CourseError(f"{folder} has a class folder whose name cannot be kept: {error}; rename it") from None
    if "/" in name or "\\" in name or is_system(name) or len(name.encode()) > _LONGEST_NAME:
        raise CourseError(
            f"class {printable(name)[:80]!r} cannot be the name of a folder; give one of at most {_LONGEST_NAME} bytes "
            "that does not begin with a dot and has no slash"
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
        mine = [item for item in skipped if not folders.isdisjoint(map(composed, item[0].split("/")))]
        why = f" ({len(mine):,} skipped, such as {printable(mine[0][0])}: {printable(mine[0][1])})" if mine else ""
        if not in_train + in_valid:
            raise CourseError(
                f"class {printable(name)!r} has no photos{why}; add {', '.join(images.PICTURE_ENDINGS[:7])} to "
                f"{names_of(folders)}, remove it, or let classes name the others"
            )
        has, lacks = ("training", "validation") if in_train else ("validation", "training")
        raise CourseError(
            f"class {printable(name)!r} has photos for {has} only{why}; add some for {lacks}, let classes name the "
            "other classes, or give split='stratified'"
        )


# --- Decoding and keeping --------------------------------------------------------------------------------------


def _decode_or_reuse(
    folder: Path,
    files: Sequence[File],
    there: Sequence[File],
    picture_format: PictureFormat,
    cache: Path,
    workers: int | None,
) -> tuple[_Decoded, dict[str, str]]:
    """Gives decoded pictures, from the cache as far as they are there, and reasons where files cannot be read."""
    made_from = {
        "version": _VERSION,
        "pillow": PIL.__version__,  # another one may decode to other pixels
        "heic": select.is_installed("pillow_heif"),  # what it needs for more formats
        "folder": os.path.realpath(folder),
        "picture_format": picture_format.to_dict(),
    }
    place = cache / "photos"
    key = _digest([made_from["folder"], made_from["picture_format"]])
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
        fresh, unread = _decode(folder, missing, picture_format, workers) if missing else (_NOTHING, {})
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
                problem = f"{place} cannot be written: {reason_of(error)}"
    print(f"the decoded photos are not kept for the next time: {problem}", file=sys.stderr)
    if len(fresh.known) == len(files):
        return fresh, unread
    names = {file.name for file in files}
    wanted = [(known, pixels) for known, pixels in sources if known.file.name in names]
    rows = {known.file.name: (row, known) for row, (known, _) in enumerate(wanted)}
    return _Decoded(np.stack([pixels for _, pixels in wanted]), rows), unread


def _missing(files: Sequence[File], kept: _Decoded) -> list[File]:
    return [file for file in files if kept.row(file) is None]


def _decode(
    folder: Path, files: Sequence[File], picture_format: PictureFormat, workers: int | None
) -> tuple[_Decoded, dict[str, str]]:
    """Decodes photos in several threads: Pillow lets others work meanwhile."""
    pixels = np.zeros((len(files), *picture_format.shape), "uint8")
    steps = partial(_decode_one, folder, picture_format)
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


def _decode_one(folder: Path, picture_format: PictureFormat, file: File, row: Pictures) -> tuple[str, str]:
    """Decodes a photo into a row; returns the hash of the file, "" if it was not read, and the reason if it failed."""
    pixels, sha256, reason = decode(folder / file.name, picture_format)
    if pixels is not None:
        row[...] = pixels
    return sha256, reason


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
                print(f"{path} is damaged and is made anew: {reason_of(error)}", file=sys.stderr)
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
    known = [_Known(File(*row[:3]), *row[3:]) for row in content["files"]]
    pixels = np.load(path, mmap_mode="c", allow_pickle=False)
    wanted = (len(known), made_from["picture_format"]["height"], made_from["picture_format"]["width"])
    if not isinstance(pixels, np.memmap) or pixels.dtype != np.uint8 or pixels.shape[:3] != wanted:
        raise ValueError("its array is not the one that was written")
    if pixels.offset + pixels.nbytes + length + _END.size != size:
        raise ValueError(f"it has {size:,} bytes, and should have others")
    return _Decoded(np.asarray(pixels), {file.file.name: (row, file) for row, file in enumerate(known)})


# --- Splits ----------------------------------------------------------------------------------------------------


def _stratified(
    labels: Labels, contents: Places, class_names: Sequence[str], share: float, seed: int
) -> npt.NDArray[np.bool_]:
    """Draws photos of each class to validate with; a class does not change what is drawn of another one.

    Equal files are drawn as one; those in several classes are on the side that the first of these draws.
    """
    side_of: dict[int, bool] = {}  # by content: whether it is validated with
    for label, name in enumerate(class_names):
        members = np.unique(contents[labels == label], return_index=True)
        found = contents[labels == label][np.sort(members[1])]  # in the order of the paths
        if len(found) > 1:
            count = min(max(1, math.floor(share * len(found) + 0.5)), len(found) - 1)
            order = randomness.permutation(randomness.stream_key(seed, "photo_folder", name), len(found))
            chosen = set(found[order[:count]].tolist())
        else:
            chosen = set()
        for content in found.tolist():
            side_of.setdefault(content, content in chosen)
    is_valid = np.array([side_of[content] for content in contents.tolist()], bool)
    for label in range(len(class_names)):
        if is_valid[labels == label].all():  # another class has drawn all of it
            is_valid[np.isin(contents, contents[labels == label])] = False
    if not is_valid.any():
        raise CourseError("there is one photo of each class, and none to validate with; add more photos")
    return is_valid


def _grouped(
    pictures: Pictures,
    rows: Sequence[int],
    names: npt.NDArray[Any],
    contents: Places,
    share: float,
    seed: int,
) -> npt.NDArray[np.bool_]:
    """Draws series of near-copies to validate with; names are those of the classes, for an error that has one."""
    small = np.stack([_shrunk(pictures[row]) for row in rows])
    classes = np.unique(names, return_inverse=True)[1]
    series = asl.near_copies(small, classes)
    for content in np.flatnonzero(np.bincount(contents) > 1):  # equal files in two classes are one series
        series[np.isin(series, series[contents == content])] = series[contents == content].min()
    _, valid_places = asl.split_by_group(series, names, valid_share=share, seed=seed)
    is_valid = np.zeros(len(rows), bool)
    is_valid[valid_places] = True
    return is_valid


def _trained_on_in_vain(labels: Labels, contents: Places, is_valid: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Finds photos to train on that are validated with as well; of a class that would have no others, none."""
    found = ~is_valid & np.isin(contents, contents[is_valid])
    for label in np.unique(labels):
        if found[~is_valid & (labels == label)].all():
            found &= labels != label
    return found


def _report_copies(
    folder: Path,
    labels: Labels,
    contents: Places,
    is_valid: npt.NDArray[np.bool_],
    is_used: npt.NDArray[np.bool_],
    names: Sequence[str],
) -> None:
    """Says in one line which equal files there are in two classes, on both sides, or at all."""
    first = np.unique(contents, return_index=True)[1][contents]  # the first place of the same content
    said = []
    in_two = np.flatnonzero(labels != labels[first])
    if len(in_two):
        pair = printable(f"{names[first[in_two[0]]]} and {names[in_two[0]]}")
        said.append(f"{len(in_two):,} photos are in several classes, such as {pair}")
    on_both = np.isin(contents[is_valid], contents[~is_valid & is_used]).sum()
    copies = len(contents) - len(np.unique(contents))
    if not is_used.all():
        said.append(f"{(~is_used).sum():,} photos of the training part are left out, since they are validated with")
    if on_both:
        said.append(
            f"{on_both:,} of {is_valid.sum():,} photos to validate with are trained on as well; split='stratified' "
            "keeps equal files on one side"
        )
    elif copies and is_used.all():
        said.append(f"{copies:,} of {len(contents):,} photos are copies of others, and on the same side")
    if said:
        print(f"{printable(str(folder))}: {'; '.join(said)}", file=sys.stderr)


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


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content).encode("ascii")).hexdigest()[:16]
