"""Your own photos: loads a folder for each class as arrays for training.

The folders are the classes, ``folder/cat/*.jpg``, or are below parts, ``folder/train/cat/*.jpg`` and
``folder/valid/cat/*.jpg``; ``layouts.py`` reads which. Files are not trusted: those that are damaged, too large or no
picture are reported and skipped.

Photos are decoded at each start, in as many threads as there are cores: 640 of 256 by 256 pixels take one second on two
cores, and 1,000 of half a megapixel nine.
"""

import hashlib
import math
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from keras_course import randomness
from keras_course._backend import select
from keras_course.datasets import arrays
from keras_course.datasets.class_folders import check_filled, find, parts_to_load, parts_to_show
from keras_course.datasets.folders import File, check_folder, in_order, names_of, report
from keras_course.datasets.splits import Mask, Places, class_weights, near_copies, split_by_group, stratified
from keras_course.errors import CourseError, check_positive, reason_of
from keras_course.foreign_text import printable
from keras_course.preprocessing import images
from keras_course.preprocessing.images import PictureFormat
from keras_course.progress import with_progress_bar

__all__ = [
    "LARGEST_BYTES",
    "PhotoFolder",
    "PhotoPart",
    "class_weights",
    "decode",
    "find_photos",
    "load_data",
    "locate",
]

LARGEST_BYTES: Final = 2**32
"""Default limit for the memory of decoded pictures: 28,532 of 224 by 224 pixels in color."""

SPLITS: Final = ("auto", "given", "stratified", "grouped")
_SIDE: Final = 32  # pixels to which pictures are shrunk to find near-copies: of 640 fruits, 9 pairs above 0.95

Pictures = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int32]


class PhotoPart(NamedTuple):
    """The photos of the training or validation part, in the order of their paths.

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
        train: Training photos.
        valid: Validation photos.
        class_names: Names of the classes, sorted; labels are places in it.
        skipped: The files that were not loaded, each with the reason.
    """

    train: PhotoPart
    valid: PhotoPart
    class_names: tuple[str, ...]
    skipped: list[tuple[Path, str]]

    @property
    def parts(self) -> arrays.Parts:
        """``(x_train, y_train), (x_valid, y_valid)``, as other data sets return them."""
        return (self.train.pictures, self.train.labels), (self.valid.pictures, self.valid.labels)


def locate(
    source: str | Path, names: Sequence[str], sample: Callable[[], Path], cache: str | Path | None = None
) -> Path:
    """Returns the folder that a lesson's ``--data`` stands for; raises a CourseError if there is none.

    The source is ``"auto"`` for the first folder of one of the names in ``KERAS_COURSE_DATA`` or the cache, else the
    sample; ``"full"`` for such a folder only; ``"sample"``; or the path of a folder. ``sample`` makes the sample if it
    does not exist yet, and returns its folder.
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
    workers: int | None = None,
    largest_bytes: int = LARGEST_BYTES,
) -> PhotoFolder:
    """Loads photos from a folder that has a subfolder for each class.

    Folders in a class folder belong to the class. Links are followed if they stay in the folder. Each file that is not
    loaded is in ``skipped``, and one line on stderr names the first ten; only system files are ignored, such as hidden
    files and thumbnails. Equal files stay in one part: if the folder's own parts have them in both, the training copy
    is left out, as long as the class has other photos. One line on stderr reports that.

    Args:
        folder: The folder above the class folders, or above ``train`` and ``valid`` or ``test`` with class folders
            in each. Parts may have other names, such as ``training_set`` and ``seg_train``; see ``layouts.part_of``.
        picture_format: Input format of the model; ``preprocessing.prepare`` converts each photo to it.
        classes: Class folders to load. None loads all, each as a class of its name; a sequence of names loads some; a
            mapping of names or patterns to classes joins folders, as in ``{"fresh_*": "fresh", "rotten_*": "rotten"}``.
            The first pattern that matches counts.
        others: Name of one class for all folders that ``classes`` does not name. By default they are not loaded.
        split: ``"given"`` keeps the folder's own parts. ``"stratified"`` draws the same share of each class for
            validation: at least one photo and never all. A class with one photo is trained on. ``"grouped"`` keeps
            series of near-copies in one part, see ``splits.near_copies``. ``"auto"`` is ``"given"`` if the folder has
            ``train`` and ``valid``, else ``"stratified"``. Parts are joined before they are split again.
        valid_parts: Parts of the folder to validate with, out of ``"valid"`` and ``"test"``. The default is ``valid``,
            so that ``test`` stays unseen until the end. Without a ``valid`` part, ``"given"`` validates with ``test``,
            and ``"auto"`` with a share of ``train``.
        valid_share: Validation share of each class, between 0 and 1; ``"given"`` ignores it.
        seed: Random seed of the split, which depends only on the order of the file names.
        workers: Number of decoding threads; by default the number of cores of this process.
        largest_bytes: Limit for the memory of the decoded pictures.

    Returns:
        The photos, in the order of their paths.

    Raises:
        CourseError: The folder does not exist, is no folder, cannot be read or has no class folders; there is only one
            class, or one is empty, in one part only, or has a name that a model card or a file system cannot hold; the
            classes or parts are ambiguous; there are too many classes or photos; or an argument is invalid.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for number in range(10):
        ...         photo = Path(folder, "photos", ("cat", "dog")[number % 2], f"{number}.png")
        ...         photo.parent.mkdir(parents=True, exist_ok=True)
        ...         Image.new("RGB", (60, 40), (20 * number, 0, 0)).save(photo)
        ...     size = PictureFormat(height=8, width=8, channels=3)
        ...     photos = load_data(Path(folder, "photos"), picture_format=size)
        ...     (x_train, y_train), (x_valid, y_valid) = photos.parts
        >>> x_train.shape, y_valid.tolist(), photos.class_names
        ((8, 8, 8, 3), [0, 1], ('cat', 'dog'))
    """
    _check_arguments(folder, picture_format, split, valid_share, workers, largest_bytes)
    randomness.stream_key(seed)  # rejects an invalid seed before the work
    folder = Path(folder).expanduser()
    found = find(folder, lambda layout: parts_to_load(folder, layout, split, valid_parts), classes, others, split)
    chosen, class_of, parts, class_names = found.photos, found.class_of, found.parts, found.class_names
    skipped = found.skipped
    is_given = len(parts) > 1 and split in ("auto", "given")
    check_filled(class_of, chosen, skipped, is_given)
    claim = len(chosen) * math.prod(picture_format.shape)
    if claim > largest_bytes:
        raise CourseError(
            f"{folder} has {len(chosen):,} photos, which take {claim:,} bytes at {picture_format.width} × "
            f"{picture_format.height} pixels; largest_bytes is {largest_bytes:,}: raise it, or give fewer "
            "classes or smaller pictures"
        )
    pictures, results = _decode_all(folder, [photo.file for photo in chosen], picture_format, workers)
    skipped += [(photo.file.name, reason) for photo, (_, reason) in zip(chosen, results, strict=True) if reason]
    rows = [row for row, (_, reason) in enumerate(results) if not reason]
    kept = [chosen[row] for row in rows]
    hashes = [results[row][0] for row in rows]
    report(folder, sorted(skipped, key=lambda item: in_order(item[0])))
    check_filled(class_of, kept, skipped, is_given)

    label_of = {name: label for label, name in enumerate(class_names)}
    labels = np.array([label_of[class_of[photo.folder]] for photo in kept], "int32")
    # equal files have the same number
    contents = np.unique(np.array(hashes), return_inverse=True)[1]
    is_used = np.ones(len(kept), bool)
    if is_given:
        is_valid = np.array([photo.part != "train" for photo in kept])
        if split == "auto":
            is_used = ~_is_copy_of_validation(labels, contents, is_valid)
    elif split == "grouped":
        is_valid = _grouped(pictures, rows, np.take(class_names, labels), contents, valid_share, seed)
    else:
        is_valid = stratified(labels, contents, class_names, valid_share=valid_share, seed=seed)
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
        part = _take(pictures, [rows[place] for place in places])
        sides.append(PhotoPart(part, labels[places], paths, tuple(hashes[place] for place in places)))
    return PhotoFolder(sides[0], sides[1], class_names, [(folder / name, reason) for name, reason in skipped])


def find_photos(
    folder: str | Path,
    *,
    classes: Sequence[str] | Mapping[str, str] | None = None,
    parts: Sequence[str] = (),
) -> tuple[list[tuple[Path, str]], tuple[str, ...], list[tuple[Path, str]]]:
    """Finds the photos of a folder without opening them; ``classes`` is that of ``load_data``.

    Returns the photos in the order of their paths, each with its class; the names of the classes, sorted; and the
    skipped files, each with the reason. ``parts`` are parts to find, such as ``"valid"``: all by default, and all
    photos of a folder without parts. Raises a CourseError also if the parts do not have the same classes.
    """
    folder = Path(folder).expanduser()
    found = find(folder, lambda layout: parts_to_show(folder, layout, parts), classes, None, "stratified")
    check_filled(found.class_of, found.photos, found.skipped, is_given=False)
    for part in found.parts:
        present = {found.class_of[photo.folder] for photo in found.photos if photo.part == part}
        if lacking := set(found.class_names) - present:
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
    """Decodes one photo: returns its pixels, the SHA-256 of its file, and "".

    If that fails, the pixels are None and the last item is the reason; the hash is "" if the file cannot be read.
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


def _check_arguments(
    folder: Any, picture_format: Any, split: str, valid_share: float, workers: int | None, largest_bytes: int
) -> None:
    if not isinstance(folder, (str, os.PathLike)) or str(folder) == "":
        raise CourseError(f"folder is {folder!r}; give the path of a folder of photos")
    if not isinstance(picture_format, PictureFormat):
        raise CourseError(f"picture_format is {picture_format!r}; give a PictureFormat, the input format of the model")
    if split not in SPLITS:
        raise CourseError(f"split is {split!r}; give one of {', '.join(SPLITS)}")
    if not isinstance(valid_share, Real) or not 0 < valid_share < 1:
        raise CourseError(f"valid_share is {valid_share!r}; give a number between 0 and 1")
    check_positive(largest_bytes=largest_bytes, **({} if workers is None else {"workers": workers}))


# --- Decoding --------------------------------------------------------------------------------------------------


def _decode_all(
    folder: Path, files: Sequence[File], picture_format: PictureFormat, workers: int | None
) -> tuple[Pictures, list[tuple[str, str]]]:
    """Decodes photos in several threads, since Pillow releases the interpreter's lock.

    Returns the pixels (n, height, width, channels), and for each photo the SHA-256 and the reason of ``decode``.
    """
    pixels = np.zeros((len(files), *picture_format.shape), "uint8")

    def decode_one(file: File, row: Pictures) -> tuple[str, str]:
        picture, sha256, reason = decode(folder / file.name, picture_format)
        if picture is not None:
            row[...] = picture
        return sha256, reason

    with ThreadPoolExecutor(min(workers or select.processors(), len(files))) as pool:
        try:
            return pixels, with_progress_bar(pool.map(decode_one, files, pixels), len(files), "photos")
        except BaseException:  # Ctrl-C does not wait for the rest
            pool.shutdown(wait=False, cancel_futures=True)
            raise


# --- Splits ----------------------------------------------------------------------------------------------------


def _grouped(
    pictures: Pictures, rows: Sequence[int], names: npt.NDArray[Any], contents: Places, share: float, seed: int
) -> Mask:
    """Draws series of near-copies for validation; ``names`` has the class name of each photo, for an error message."""
    small = np.stack([_shrunk(pictures[row]) for row in rows])
    classes = np.unique(names, return_inverse=True)[1]
    series = near_copies(small, classes)
    for content in np.flatnonzero(np.bincount(contents) > 1):  # equal files in two classes are one series
        series[np.isin(series, series[contents == content])] = series[contents == content].min()
    _, valid_places = split_by_group(series, names, valid_share=share, seed=seed)
    is_valid = np.zeros(len(rows), bool)
    is_valid[valid_places] = True
    return is_valid


def _is_copy_of_validation(labels: Labels, contents: Places, is_valid: Mask) -> Mask:
    """Finds training photos that are also validation photos, except in classes that have no other training photos."""
    found = ~is_valid & np.isin(contents, contents[is_valid])
    for label in np.unique(labels):
        if found[~is_valid & (labels == label)].all():
            found &= labels != label
    return found


def _report_copies(
    folder: Path, labels: Labels, contents: Places, is_valid: Mask, is_used: Mask, names: Sequence[str]
) -> None:
    """Prints one line about equal files in two classes, in both parts, or at all."""
    first = np.unique(contents, return_index=True)[1][contents]  # the first place of the same content
    notes = []
    in_two = np.flatnonzero(labels != labels[first])
    if len(in_two):
        pair = printable(f"{names[first[in_two[0]]]} and {names[in_two[0]]}")
        notes.append(f"{len(in_two):,} photos are in several classes, such as {pair}")
    on_both = np.isin(contents[is_valid], contents[~is_valid & is_used]).sum()
    copies = len(contents) - len(np.unique(contents))
    if not is_used.all():
        notes.append(f"{(~is_used).sum():,} photos of the training part are left out, since they are validated with")
    if on_both:
        notes.append(
            f"{on_both:,} of {is_valid.sum():,} photos to validate with are trained on as well; split='stratified' "
            "keeps equal files on one side"
        )
    elif copies and is_used.all():
        notes.append(f"{copies:,} of {len(contents):,} photos are copies of others, and on the same side")
    if notes:
        print(f"{printable(str(folder))}: {'; '.join(notes)}", file=sys.stderr)


def _shrunk(picture: Pictures) -> Pictures:
    """Shrinks a picture, so that comparing many of them takes seconds."""
    height, width, channels = picture.shape
    image = Image.fromarray(picture[:, :, 0] if channels == 1 else picture)
    return np.asarray(image.resize((min(width, _SIDE), min(height, _SIDE)), Image.Resampling.BOX))


def _take(pictures: Pictures, rows: Sequence[int]) -> Pictures:
    """Returns some rows: a view if they are contiguous, else a copy."""
    if list(rows) == list(range(rows[0], rows[0] + len(rows))):
        return pictures[rows[0] : rows[0] + len(rows)]
    return pictures[list(rows)]
