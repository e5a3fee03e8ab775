"""Hand signs: 24 letters of the American Sign Language alphabet, 28 by 28 gray pixels each.

The letters are A to Y without J, in that order, with the labels 0 to 23. J and Z are movements and have no picture.
Nothing is downloaded, since the collections are large or need an account. A collection is recognized by its content:

- **Sign Language MNIST**, ``sign_mnist_train.csv`` (27,455 pictures) and ``sign_mnist_test.csv`` (7,172), in a folder
  or in Kaggle's zip: https://www.kaggle.com/datasets/datamunge/sign-language-mnist, CC0 as its page states. Its labels
  are the places in the whole alphabet: 9 (J) is missing and 24 is Y. The course's own edition,
  ``sign_mnist_train.csv`` and ``sign_mnist_valid.csv``, counts from 0 to 23, where 9 is K.
- **ASL-HG**, 1,000 photos of each letter and digit by ten people, from M. F. I. Pranto and others, CC BY 4.0,
  https://doi.org/10.17632/j4y5w2c8w9.1: its folders of pictures, or the parquet files of
  https://huggingface.co/datasets/juanjodurillo/asl-hg. File names begin with the person, as in ``P7_A_12.jpg``; its
  training and test parts have pictures of all ten people.
- an ``.npz`` with ``x_train``, ``y_train``, ``x_valid`` and ``y_valid``, as ``data_scripts/prepare_asl.py`` writes it;
- **your own photos**: a folder with a folder for each letter, or with ``train`` and ``valid`` above those.

If none of them is found, ``hands.py`` draws hands.
"""

import io
import json
import os
import re
import sys
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path, PurePosixPath
from typing import Any, Final, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from keras_course.cards import ModelCard, without_folders
from keras_course.datasets import arrays, hands
from keras_course.datasets.arrays import LARGEST_COUNT
from keras_course.datasets.folders import NO_PICTURE, is_system, list_files, reason_against, report
from keras_course.datasets.hands import CLASS_NAMES, INPUT_SHAPE, PICTURES
from keras_course.datasets.layouts import part_of
from keras_course.datasets.splits import has_near_copy, near_copies, split_by_group
from keras_course.errors import CourseError, reason_of
from keras_course.files import replacing
from keras_course.foreign_text import printable
from keras_course.preprocessing import images

__all__ = [
    "CLASS_NAMES",
    "INPUT_SHAPE",
    "PICTURES",
    "Signs",
    "cache_file",
    "card",
    "describe",
    "example_photos",
    "has_near_copy",
    "load_data",
    "locate",
    "near_copies",
    "read",
    "split_by_group",
]

Signs = arrays.Parts

FILE_NAME: Final = "sign_mnist.npz"
SPLITS: Final = ("given", "grouped")
DRAWN: Final = "sample"
HOW_TO_GET: Final = "python data_scripts/prepare_asl.py makes it from Kaggle's files, ASL-HG or photos of your own"

CSV_HEADER: Final = ",".join(["label", *(f"pixel{number + 1}" for number in range(784))])
CSV_TRAIN: Final = "sign_mnist_train.csv"
CSV_VALID: Final = ("sign_mnist_test.csv", "sign_mnist_valid.csv")
NOT_SIGNS: Final = (*"0123456789", "J", "Z", "DEL", "DELETE", "NOTHING", "SPACE")
"""Folders of ASL-HG and of Kaggle's ASL Alphabet that are not letters, or letters that are movements."""
PICTURE_COLUMNS: Final = ("image", "img", "picture", "photo", "pixel_values", "jpg", "png")
LABEL_COLUMNS: Final = ("label", "labels", "letter", "class", "target", "fine_label")
"""Names of columns in collections on Hugging Face; the first one that is found counts."""

# Larger files are rejected before memory is allocated. The largest known ones: a CSV file of 83 MB, ASL-HG's 36,000
# pictures of a few kB to some MB, its parquet file of 300 MB.
LARGEST_CSV_BYTES: Final = 2**28
LARGEST_PARQUET_BYTES: Final = 2**32


class _Entry(NamedTuple):
    """A file in a folder or in a zip archive. Archives are never unpacked to the disk."""

    name: str
    size: int
    open: Callable[[], Any]


class _Photo(NamedTuple):
    """An encoded picture of a letter, with its part, or None without parts."""

    name: str
    part: str | None
    label: int
    content: bytes


class _Part(NamedTuple):
    """Pictures uint8 (n, 28, 28, 1), labels int32 (n,), and the people (n,) if the file names have them."""

    pictures: np.ndarray
    labels: np.ndarray
    people: np.ndarray | None


_Found = tuple[_Part, _Part | None]
"""The training and the validation part; all pictures and None if the source has no parts."""
_Skipped = list[tuple[str, str]]
"""Skipped files, each with the reason."""


def load_data(
    source: str | Path = "auto", *, split: Literal["given", "grouped"] = "given", cache: str | Path | None = None
) -> Signs:
    """Loads hand signs: real ones if they are found, else drawn ones, or those of your own file.

    Args:
        source: One of

            - ``"auto"``: ``sign_mnist.npz`` in the folder ``KERAS_COURSE_DATA`` or in the cache, else drawn hands, with
              one line on stderr that says so;
            - ``"full"``: the same, but an error in place of drawn hands;
            - ``"sample"``: drawn hands, without network or cache;
            - a path: a file, folder or zip archive of one of the collections above. If it has several, the first one
              counts of ``sign_mnist.npz``, CSV, parquet and pictures.
        split: ``"given"`` keeps the source's own training and validation parts. ``"grouped"`` splits again, so that no
            person is in both parts or, if the file names have no people, no series of near-copies; see
            ``split_by_group``. A source without parts is always grouped; drawn hands, which have no copies, never.
        cache: The cache folder; by default ``KERAS_COURSE_CACHE`` or the user's cache folder.

    Returns:
        ``(x_train, y_train), (x_valid, y_valid)``: uint8 pictures ``(n, 28, 28, 1)``, 0 is black and 255 is white, and
        int32 labels ``(n,)``, 0..23.

    Raises:
        CourseError: The path is wrong or has no hand signs, or ``"full"`` is not found.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for letter, gray in (("A", 90), ("B", 180)):
        ...         for part in ("train", "valid"):
        ...             photo = Path(folder, part, letter, "photo.png")
        ...             photo.parent.mkdir(parents=True)
        ...             Image.new("RGB", (300, 200), (gray, gray, gray)).save(photo)
        ...     (x_train, y_train), _ = load_data(folder)
        >>> x_train.shape, x_train[:, 0, 0, 0].tolist(), [CLASS_NAMES[label] for label in y_train]
        ((2, 28, 28, 1), [90, 180], ['A', 'B'])

    Source: https://www.kaggle.com/datasets/datamunge/sign-language-mnist and https://doi.org/10.17632/j4y5w2c8w9.1
    """
    _check_split(split)
    found = _resolve(source, cache)[1]
    return hands.load_data() if found is None else _split(found, split)


def locate(source: str | Path = "auto", *, cache: str | Path | None = None) -> str | Path:
    """Returns the source that ``load_data`` loads.

    Args:
        source: ``"auto"``, ``"full"``, ``"sample"`` or a path, see ``load_data``; the pictures are checked.
        cache: The cache folder; by default ``KERAS_COURSE_CACHE`` or the user's cache folder.

    Returns:
        The path of the file or folder, or ``"sample"`` for drawn hands. ``load_data`` takes it as its ``source``.

    Raises:
        CourseError: The path is wrong or has no hand signs, or ``"full"`` is not found.

    Example:
        >>> locate("sample")
        'sample'
    """
    return _resolve(source, cache)[0]


def card(title: str, source: str | Path) -> ModelCard:
    """Returns the card of a model that is trained on hand signs.

    Args:
        title: Title of the model.
        source: The result of ``locate``.

    Returns:
        The card; ``RunDirectory.save_results`` adds what was measured.

    Example:
        >>> card("Hand signs", DRAWN).class_names[:3]
        ('A', 'B', 'C')
    """
    return ModelCard(
        title=title,
        class_names=CLASS_NAMES,
        picture_format=PICTURES,
        data=without_folders(describe(source), source),
        limits="For one hand that fills the picture. The letters J and Z are movements and not among the classes. "
        "For any other picture, the answer is still one of the 24 letters.",
    )


def example_photos(folder: str | Path) -> dict[Path, int]:
    """Finds two photos of hands to try a model on, or draws them.

    Args:
        folder: The folder for drawn ones.

    Returns:
        The label of each file.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     [CLASS_NAMES[label] for label in example_photos(folder).values()]
        ['A', 'B']

    Source: ASL-HG by M. F. I. Pranto and others, CC BY 4.0, https://doi.org/10.17632/j4y5w2c8w9.1
    """
    found: dict[Path, int] = {}
    for label, name in enumerate(("asl_a", "asl_b")):
        photo = next((path for path in arrays.places(f"photos/{name}.jpg") if path.exists()), None)
        if photo is None:
            photo = Path(folder) / f"{name}.png"
            hand = Image.fromarray(hands.draw([label], size=256)[0, :, :, 0])
            with replacing(photo) as file:
                hand.save(file, "PNG")
        found[photo] = label
    return found


def describe(path: str | Path) -> str:
    """Describes in a few words the hand signs that ``locate`` found.

    Args:
        path: The result of ``locate``.

    Returns:
        "drawn hands", or the path.

    Example:
        >>> describe("sample"), describe("my_signs.npz")
        ('drawn hands', 'my_signs.npz')
    """
    return "drawn hands" if path == DRAWN else str(path)


def cache_file(cache: str | Path | None = None) -> Path:
    """Returns the path of real hand signs in the cache, whether the file exists or not; see ``arrays.cache_folder``."""
    return arrays.cache_folder(cache) / FILE_NAME


def read(path: str | Path, *, split: Literal["given", "grouped"] = "given") -> Signs:
    """Reads hand signs from a file, a folder or a zip archive, which may come from anywhere.

    Args:
        path: The file or folder.
        split: ``"given"`` or ``"grouped"``, see ``load_data``.

    Returns:
        Pictures and labels as ``load_data`` returns them.

    Raises:
        CourseError: The path does not exist, or its content is damaged, has no hand signs, does not tell which letters
            they are, or claims a wrong size. Sizes are checked before memory is allocated; nothing is unpickled or
            unpacked to the disk.

    Example:
        >>> read("nowhere")
        Traceback (most recent call last):
        ...
        keras_course.errors.CourseError: there is no nowhere; give a file, a folder or a zip archive of hand signs
    """
    _check_split(split)
    return _split(_read(Path(path)), split)


def _check_split(split: str) -> None:
    if split not in SPLITS:
        raise CourseError(f"split is {split!r}; give one of {', '.join(SPLITS)}")


def _resolve(source: str | Path, cache: str | Path | None) -> tuple[str | Path, _Found | None]:
    """Finds and reads the pictures, since only reading checks them; returns None for drawn ones."""
    if not isinstance(source, (str, os.PathLike)) or source == "":
        raise CourseError(f'source is {source!r}; give "auto", "full", "sample" or a path')
    if source == DRAWN:
        return DRAWN, None
    if source not in ("auto", "full"):
        path = Path(source).expanduser()
        return path, _read(path)
    for file in arrays.places(FILE_NAME, cache):
        if file.exists():
            try:
                return file, _read(file)
            except CourseError:
                print(f"{file} is damaged and is ignored", file=sys.stderr)
    missing = f"there is no {FILE_NAME} in KERAS_COURSE_DATA or {cache_file(cache).parent}"
    if source == "full":
        raise CourseError(f'{missing}; {HOW_TO_GET}, or give the path of a copy, or take "sample"')
    print(f"hand signs: using {describe(DRAWN)}, because {missing}; {HOW_TO_GET}", file=sys.stderr)
    return DRAWN, None


def _split(found: _Found, split: str) -> Signs:
    """Returns the given parts, or joins them and splits them by person or by series."""
    train, valid = found
    if valid is not None and split == "given":
        return (train.pictures, train.labels), (valid.pictures, valid.labels)
    parts = [train] if valid is None else [train, valid]
    pictures = np.concatenate([part.pictures for part in parts])
    labels = np.concatenate([part.labels for part in parts])
    people = [part.people for part in parts if part.people is not None]
    named = len(people) == len(parts) and len(np.unique(np.concatenate(people))) > 1
    groups = np.concatenate(people) if named else near_copies(pictures, labels)
    train_index, valid_index = split_by_group(groups, np.take(CLASS_NAMES, labels))  # names, for an error message
    return (pictures[train_index], labels[train_index]), (pictures[valid_index], labels[valid_index])


def _read(path: Path) -> _Found:
    """Reads a file or folder of any kind, and reports the skipped files in one line."""
    skipped: _Skipped = []
    try:
        found = _read_source(path, skipped)
    except CourseError:
        raise
    except FileNotFoundError as error:
        missing = error.filename or path
        raise CourseError(f"there is no {missing}; give a file, a folder or a zip archive of hand signs") from error
    except Exception as error:  # a damaged file can make a decoder raise nearly anything
        raise CourseError(f"{path} does not hold hand signs: {printable(reason_of(error))}") from error
    report(path, skipped)
    return found


def _read_source(path: Path, skipped: _Skipped) -> _Found:
    if path.is_dir():
        listing = list_files(path)
        skipped += listing.skipped
        files = [_Entry(file.name, file.size, partial((path / file.name).open, "rb")) for file in listing.files]
        return _read_entries(files, skipped)
    with path.open("rb") as file:
        beginning = file.read(4)
    if beginning == b"PK\x03\x04":
        with zipfile.ZipFile(path) as archive:
            return _read_zip(archive, skipped)
    if beginning == b"PAR1":
        return _read_parquet([_Entry(path.name, path.stat().st_size, partial(path.open, "rb"))], skipped)
    hint = "; give the folder with both CSV files" if path.suffix.lower() == ".csv" else ""
    raise ValueError(f"it is neither a folder nor a zip, .npz or parquet file{hint}")


def _read_zip(archive: zipfile.ZipFile, skipped: _Skipped) -> _Found:
    """Reads an ``.npz``, or a zip archive of what could also lie in a folder."""
    if "x_train.npy" in archive.namelist():
        return _read_npz(archive)
    entries = []
    for info in archive.infolist():
        name = info.filename.replace("\\", "/")
        if name.startswith("/") or ".." in PurePosixPath(name).parts:
            raise ValueError(f"{info.filename!r} leads out of the archive")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError(f"{name} is compressed in a way that is not read here")
        if not info.is_dir() and not any(map(is_system, _parts(name))):
            entries.append(_Entry(name, info.file_size, partial(archive.open, info)))
    return _read_entries(entries, skipped)


def _read_entries(entries: Sequence[_Entry], skipped: _Skipped) -> _Found:
    """Recognizes the collection in a folder or zip archive by the names and endings of the files."""
    if archive := _nearest(entries, FILE_NAME):
        with archive.open() as file, zipfile.ZipFile(file) as members:
            return _read_npz(members)
    if any(_parts(entry.name)[-1].lower() in (CSV_TRAIN, *CSV_VALID) for entry in entries):
        return _read_csv_pair(entries)
    if parquet := [entry for entry in entries if entry.name.lower().endswith(".parquet")]:
        return _read_parquet(parquet, skipped)
    pictures = []
    for entry in entries:
        if reason := reason_against(entry.name, entry.size, entry.open):
            skipped.append((entry.name, reason))
        else:
            pictures.append(entry)
    if pictures:
        return _decode(_photos(pictures, skipped), skipped)
    lost = next((f"; {name}: {reason}" for name, reason in skipped if reason != NO_PICTURE), "")
    raise ValueError(
        f"it has no {FILE_NAME}, no {CSV_TRAIN}, no parquet files and no folders of pictures named by their letters"
        f"{lost}"
    )


def _parts(name: str) -> tuple[str, ...]:
    return PurePosixPath(name).parts


def _nearest(entries: Sequence[_Entry], file_name: str) -> _Entry | None:
    """Finds the file of this name in the uppermost folder, since Kaggle's zip has each file twice."""
    named = [entry for entry in entries if _parts(entry.name)[-1].lower() == file_name]
    found = sorted((len(_parts(entry.name)), entry.name, entry) for entry in named)
    if len(found) > 1 and found[0][0] == found[1][0]:
        raise ValueError(f"it has {found[0][1]} and {found[1][1]}; keep one of them")
    return found[0][2] if found else None


def _read_npz(archive: zipfile.ZipFile) -> _Found:
    train, valid = arrays.read_npz(archive, num_classes=len(CLASS_NAMES))
    return _Part(*train, None), _Part(*valid, None)


def _read_csv_pair(entries: Sequence[_Entry]) -> _Found:
    """Reads the two CSV files, and infers from both together which letters the labels stand for."""
    train, *valid = (_nearest(entries, name) for name in (CSV_TRAIN, *CSV_VALID))
    others = [entry for entry in valid if entry is not None]
    if train is None or not others:
        raise ValueError(f"it has {(train or others[0]).name} but no {' or '.join(CSV_VALID) if train else CSV_TRAIN}")
    if len(others) > 1:
        raise ValueError(f"it has {others[0].name} and {others[1].name}; keep one of them")
    tables = _read_csv(train), _read_csv(others[0])
    numbers = [table[:, 0].astype("int32") for table in tables]
    has_gap = _skips_j(np.concatenate(numbers))
    x_train, x_valid = (table[:, 1:].reshape(-1, *INPUT_SHAPE) for table in tables)
    y_train, y_valid = (labels - (labels > 9) if has_gap else labels for labels in numbers)
    return _checked(x_train, y_train, "train"), _checked(x_valid, y_valid, "valid")


def _read_csv(entry: _Entry) -> npt.NDArray[np.uint8]:
    """Reads a table of whole numbers from 0 to 255, (n, 785)."""
    header, _, rows = _content(entry, LARGEST_CSV_BYTES).partition(b"\n")
    if header.decode("utf-8-sig", "replace").strip() != CSV_HEADER:
        beginning = header[:40].decode("ascii", "replace")
        raise ValueError(f"{entry.name} begins with {beginning!r}, not with {CSV_HEADER[:20]}")
    if not rows.strip():
        raise ValueError(f"{entry.name} has no rows")
    try:
        table = np.loadtxt(io.BytesIO(rows), np.uint8, delimiter=",", comments=None, ndmin=2)
    except ValueError as error:
        raise ValueError(f"{entry.name}: {error}") from error
    if table.shape[1] != 785:
        raise ValueError(f"{entry.name} has rows of {table.shape[1]} numbers; wanted are 785")
    return table


def _skips_j(numbers: npt.NDArray[np.int32]) -> bool:
    """Returns whether labels are places in the whole alphabet without J (9), and not numbers of the 24 letters."""
    labels = set(numbers.tolist())
    if max(labels) > 24:
        raise ValueError(f"it has the label {max(labels)}; wanted is 0 to 24, because 25 is Z, a movement")
    if {9, 24} <= labels:
        raise ValueError("it has the labels 9 and 24: 9 is K where labels end with 23, and J, a movement, where not")
    if 24 not in labels and 9 not in labels and max(labels) > 9:
        raise ValueError(
            f"its labels do not say which letters they are: {max(labels)} is {CLASS_NAMES[max(labels)]} where 9 is K, "
            f"{CLASS_NAMES[max(labels) - 1]} where 9 is left out; give files in which 9 or 24 tells which it is"
        )
    return 24 in labels


def _content(entry: _Entry, largest: int) -> bytes:
    if entry.size > largest:
        raise ValueError(f"{entry.name} claims {entry.size:,} bytes, more than the {largest:,} that are read")
    with entry.open() as file:
        return file.read(entry.size)


def _photos(entries: Iterable[_Entry], skipped: _Skipped) -> Iterator[_Photo]:
    """Reads the letter of a picture from the name of its folder, and its part from the folders above."""
    for entry in entries:
        *folders, _ = _parts(entry.name)
        letter = folders[-1] if folders else ""
        if part_of(letter) and letter.upper() not in CLASS_NAMES:
            skipped.append((entry.name, "it is in no folder of a letter"))
            continue
        if (label := _label(letter, entry.name, skipped)) is not None:
            yield _Photo(entry.name, _part_in(folders), label, _content(entry, images.LARGEST_FILE_BYTES))


def _label(letter: str, name: str, skipped: _Skipped) -> int | None:
    """Returns the label of a letter; None, and a reason in ``skipped``, for what no picture can show."""
    if letter.upper() in CLASS_NAMES:
        return CLASS_NAMES.index(letter.upper())
    if letter.upper() not in NOT_SIGNS:
        raise ValueError(f"{name} is in the folder or class {letter!r}; wanted is a letter from A to Y")
    skipped.append((name, f"{letter} is no letter that a picture can show"))
    return None


def _part_in(names: Sequence[str]) -> str | None:
    """Reads the part from the names of folders or files; the innermost name of a part counts."""
    return next((reading[0] for name in reversed(names) if (reading := part_of(name))), None)


def _read_parquet(entries: Sequence[_Entry], skipped: _Skipped) -> _Found:
    try:
        parquet = import_module("pyarrow.parquet")
    except ImportError as error:
        raise CourseError(f"{entries[0].name} needs pyarrow to be read; install it: pip install pyarrow") from error
    return _decode((photo for entry in entries for photo in _parquet_photos(entry, parquet, skipped)), skipped)


def _parquet_photos(entry: _Entry, parquet: Any, skipped: _Skipped) -> Iterator[_Photo]:
    """Reads a column of pictures and one of labels, as Hugging Face and others write them.

    A picture is ``{"bytes": ..., "path": ...}`` or the bytes alone; a label is a letter, or a number with a name in the
    file's metadata. Rows without a picture or a label are skipped and reported.
    """
    with entry.open() as stream, parquet.ParquetFile(stream) as file:
        groups = [file.metadata.row_group(number) for number in range(file.metadata.num_row_groups)]
        claim = sum(group.total_byte_size for group in groups)
        if claim > LARGEST_PARQUET_BYTES:
            raise ValueError(
                f"{entry.name} claims {claim:,} bytes, more than the {LARGEST_PARQUET_BYTES:,} that are read"
            )
        schema = file.schema_arrow
        picture_column = _column(entry.name, schema.names, PICTURE_COLUMNS)
        label_column = _column(entry.name, schema.names, LABEL_COLUMNS)
        names = _class_names(schema.metadata or {}, label_column)
        number = 0
        for batch in file.iter_batches(batch_size=128, columns=[picture_column, label_column]):
            for row in batch.to_pylist():
                number += 1
                picture, answer = row[picture_column], row[label_column]
                path = picture.get("path") if isinstance(picture, dict) else None
                name = f"{entry.name}/{path or f'row {number}'}"
                content = picture.get("bytes") if isinstance(picture, dict) else picture
                if content is None or answer is None or (names and answer == -1):
                    skipped.append((name, "it has no picture" if content is None else "it has no label"))
                    continue
                if not isinstance(content, bytes):
                    raise ValueError(f"{entry.name} has no files of pictures in its column {picture_column}")
                if (label := _label(_name_of(answer, names, name), name, skipped)) is not None:
                    yield _Photo(name, _part_in([entry.name]), label, content)


def _column(file_name: str, columns: Sequence[str], wanted: Sequence[str]) -> str:
    found = next((name for name in wanted if name in columns), None)
    if found is None:
        others = ", ".join(wanted[1:])
        raise ValueError(f"{file_name} has no column {wanted[0]}, or another of {others}; it has {', '.join(columns)}")
    return found


def _name_of(answer: Any, names: Sequence[str], file_name: str) -> str:
    """Returns the name of the class of a label, and rejects numbers that are out of range."""
    if not names:
        return str(answer)
    if isinstance(answer, str):
        return answer
    if isinstance(answer, bool) or not isinstance(answer, int) or not 0 <= answer < len(names):
        raise ValueError(f"{file_name} has the label {answer!r}; wanted is 0 to {len(names) - 1}")
    return names[answer]


def _class_names(metadata: dict[bytes, bytes], column: str) -> Sequence[str]:
    """Reads the names of a column's class numbers from the metadata; without names the labels must be letters."""
    features = json.loads(metadata.get(b"huggingface", b"{}")).get("info", {}).get("features", {})
    names = features.get(column, {}).get("names", [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"the names of the classes are {names!r:.60}; wanted is a list of texts")
    return names


def _decode(photos: Iterable[_Photo], skipped: _Skipped) -> _Found:
    """Decodes pictures of any size to 28 by 28 gray pixels, and sorts them into their parts."""
    parts: dict[str | None, list[tuple[np.ndarray, int, str | None, str]]] = {}
    first_reason = ""
    for number, photo in enumerate(photos):
        if number == LARGEST_COUNT:
            raise ValueError(f"it has more than {LARGEST_COUNT:,} pictures")
        try:
            picture = images.prepare(photo.content, PICTURES, name="it")[:, :, 0]  # the same as in serving
        except CourseError as error:
            skipped.append((photo.name, str(error)))
            first_reason = first_reason or f": {photo.name}: {error}"
            continue
        person = re.match(r"P\d+_", _parts(photo.name)[-1])
        parts.setdefault(photo.part, []).append((picture, photo.label, person and person[0], photo.name))
    if not parts:
        raise ValueError(f"it has no pictures of letters{first_reason}")
    if None in parts and len(parts) > 1:
        raise ValueError(
            "some of its pictures are in a folder for training or validation and others are not; give one folder"
        )
    if len(parts) == 3:
        reason = "the test part stays unseen where there is one to validate with"
        skipped += [(name, reason) for *_, name in parts.pop("test")]
    found = {}
    for part, rows in parts.items():
        pictures, labels, people, _ = zip(*rows, strict=True)
        of_people = np.array(people) if all(people) else None
        found[part] = _checked(np.stack(pictures), np.array(labels), part or "it", of_people)
    if len(found) == 1:
        return next(iter(found.values())), None
    if "train" not in found:
        raise ValueError("it has the parts valid and test but no train; add train, or give one of them")
    return found.pop("train"), found.popitem()[1]


def _checked(pictures: np.ndarray, labels: np.ndarray, name: str, people: np.ndarray | None = None) -> _Part:
    return _Part(*arrays.checked_part(pictures, labels, name, num_classes=len(CLASS_NAMES)), people)
