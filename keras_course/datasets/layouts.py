"""The layout of a folder of photos: which subfolders are parts, such as train and test, and where the classes are.

The same rules hold for training, for the grader and for the lessons. An ambiguous layout is rejected.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

from keras_course.datasets.folders import Listing, join, list_pictures, names_of
from keras_course.errors import CourseError

__all__ = ["PARTS", "Layout", "Tree", "find_parts", "part_of", "read_layout"]

PARTS: Final = ("train", "valid", "test")

_WORDS: Final = (
    dict.fromkeys(("train", "training"), "train")
    | dict.fromkeys(("valid", "val", "validation", "validate", "eval", "evaluation"), "valid")
    | dict.fromkeys(("test", "testing"), "test")
)
_NEUTRAL_WORDS: Final = frozenset(
    {
        *("set", "sets", "subset", "split", "part", "data", "dataset", "datasets", "folder", "file", "files"),
        *("image", "images", "img", "imgs", "photo", "photos", "picture", "pictures", "pic", "pics", "samples"),
    }
)
"""Words in the name of a part that have no meaning."""
_JOINED: Final = re.compile(rf"({'|'.join(sorted(_WORDS, key=len, reverse=True))})(set|data|dataset|images?|imgs?)")
_WORD: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[^\W\d_A-Z]+|\d+")
"""A word of a name; capitals separate words, too, as in ``TrainingSet``."""


class Tree:
    """The tree of the folders of a listing, with the numbers of photos."""

    def __init__(self, listing: Listing) -> None:
        self.folders: dict[str, list[str]] = defaultdict(list)
        for folder in listing.folders:
            above, _, name = folder.rpartition("/")
            self.folders[above].append(name)
        self.direct: Counter[str] = Counter(file.name.rpartition("/")[0] for file in listing.files)
        self.below: Counter[str] = Counter()
        for folder, count in self.direct.items():
            while folder:
                self.below[folder] += count
                folder = folder.rpartition("/")[0]

    def filled(self, folder: str) -> list[str]:
        """Returns the direct subfolders that have photos at any depth."""
        return [name for name in self.folders[folder] if self.below[join(folder, name)]]


class Layout(NamedTuple):
    """The places of the class folders.

    Args:
        parts: The folder of each part whose photos are in class folders, by ``PARTS``, as a relative path such as
            ``{"train": "seg_train/seg_train"}``. Empty if the class folders are not below parts.
        unlabeled: The folder of each part whose photos are in no class folder.
        start: The folder above the class folders if there are no parts; "" for the folder itself.
    """

    parts: dict[str, str]
    unlabeled: dict[str, str]
    start: str = ""


def part_of(name: str) -> tuple[str, str] | None:
    """Reads the name of a folder or file as the name of a part.

    Returns one of ``PARTS`` and the other words in lower case; None if it names no part, or several.
    """
    words: list[str] = []
    for word in map(str.lower, _WORD.findall(name)):
        joined = _JOINED.fullmatch(word)
        words += [joined[1]] if joined else [word]
    parts = {_WORDS[word] for word in words if word in _WORDS}
    if len(parts) != 1:
        return None
    return parts.pop(), " ".join(word for word in words if word not in _WORDS and word not in _NEUTRAL_WORDS)


def find_parts(folder: str | Path) -> dict[str, Path]:
    """Finds the parts of a folder of photos.

    Args:
        folder: The folder.

    Returns:
        The folder above the class folders of each part, by ``PARTS``; empty if there are no parts.

    Raises:
        CourseError: The folder cannot be read, or its layout is ambiguous.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> for part in ("training_set/training_set", "test_set/test_set"):
        ...     (folder / part / "cat").mkdir(parents=True)
        ...     _ = (folder / part / "cat" / "1.jpg").write_bytes(b"...")
        >>> {part: path.relative_to(folder).as_posix() for part, path in find_parts(folder).items()}
        {'train': 'training_set/training_set', 'test': 'test_set/test_set'}
    """
    folder = Path(folder).expanduser()
    parts = read_layout(folder, Tree(list_pictures(folder))).parts
    return {part: folder / path for part, path in parts.items()}


def read_layout(folder: Path, tree: Tree, *, names_are_classes: bool = False) -> Layout:
    """Determines the layout of a folder; raises a CourseError if it is ambiguous.

    A folder ``train`` can also be a class, beside ``bus``. It is a part if its photos are in subfolders, and if there
    is another part, or nothing else. If the user has named the class folders (``names_are_classes``), names such as
    ``cats_train`` are read as classes if possible.
    """
    top = tree.filled("")
    if len(top) == 1 and not tree.direct[""] and _is_same_part(folder.name, top[0]):
        return Layout({}, {}, _innermost(tree, top[0]))  # the folder is seg_train with seg_train/seg_train in it
    labeled, unlabeled = _named_as_parts(folder, tree, names_are_classes)
    found = labeled.keys() | unlabeled.keys()
    tops = {path.partition("/")[0] for path in (*labeled.values(), *unlabeled.values())}
    if ("train" in labeled and (len(found) > 1 or len(top) == 1)) or (labeled and set(top) == tops):
        return Layout(_sorted(labeled), _sorted(unlabeled))
    parts = [path for path in labeled.values() if tree.below[path]]
    if len(parts) > 1 and not names_are_classes:
        others = [name for name in top if part_of(name) is None]
        raise CourseError(
            f"{folder} has the parts {names_of(parts)} but no train, and beside them {names_of(others)}; give a folder "
            "with parts alone, or with classes alone"
        )
    if not names_are_classes:
        _check_photos_in_parts(folder, tree, top)
    return Layout({}, {})


def _named_as_parts(folder: Path, tree: Tree, names_are_classes: bool) -> tuple[dict[str, str], dict[str, str]]:
    """Returns the folders that are named like parts: those with class folders in them, and those without."""
    by_words: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for name in tree.folders[""]:
        if reading := part_of(name):
            part, words = reading
            by_words[words][part].append(name)
    families = [parts for parts in by_words.values() if len(parts) > 1 and any(map(tree.filled, _all_names(parts)))]
    if len(families) > 1:
        names = names_of(name for parts in families for name in _all_names(parts))
        raise CourseError(f"{folder} has the parts of several data sets: {names}; move each into a folder of its own")
    # one family of names, such as seg_train and seg_test, else parts with unrelated names
    wanted = families[0] if families else defaultdict(list)
    if not families:
        for parts in by_words.values():
            for part, of_part in parts.items():
                wanted[part] += of_part
        if double := [of_part for of_part in wanted.values() if len(of_part) > 1]:
            if names_are_classes or not any(map(tree.filled, double[0])):
                return {}, {}  # freight_train and passenger_train
            raise CourseError(
                f"{folder} has {names_of(double[0])}, which can be classes or parts; name them in classes if they are "
                "classes, else keep one of them"
            )
    labeled: dict[str, str] = {}
    unlabeled: dict[str, str] = {}
    for part, of_part in wanted.items():
        with_classes = [name for name in of_part if tree.filled(name) or not tree.direct[name]]
        if len(with_classes) > 1:
            raise CourseError(f"{folder} has {names_of(with_classes)}, which mean the same; keep one of them")
        if with_classes:
            path = _innermost(tree, with_classes[0])
            (unlabeled if tree.direct[path] and not tree.filled(path) else labeled)[part] = path
        else:
            unlabeled[part] = of_part[0]
    return {part: path for part, path in labeled.items() if part != "train" or tree.below[path]}, unlabeled


def _innermost(tree: Tree, path: str) -> str:
    """Descends while a part has nothing but a folder of the same part: ``seg_train/seg_train``."""
    while len(inside := tree.filled(path)) == 1 and not tree.direct[path]:
        if not _is_same_part(path.rpartition("/")[2], inside[0]):
            break
        path = join(path, inside[0])
    return path


def _is_same_part(name: str, other: str) -> bool:
    one, two = part_of(name), part_of(other)
    return one is not None and two is not None and one[0] == two[0]


def _check_photos_in_parts(folder: Path, tree: Tree, top: list[str]) -> None:
    """Rejects parts that would be read as classes."""
    readings = {part_of(name) for name in top}
    words = {reading[1] for reading in readings if reading}
    if len(top) > 1 and None not in readings and len(words) < len(readings):  # such as cats_train and cats_test
        raise CourseError(
            f"{folder} has photos directly in {names_of(top)}; put photos into folders such as train/cat and "
            "valid/cat, or name the folders in classes if they are the classes"
        )


def _all_names(parts: dict[str, list[str]]) -> Iterable[str]:
    return (name for names in parts.values() for name in names)


def _sorted(parts: dict[str, str]) -> dict[str, str]:
    return {part: parts[part] for part in PARTS if part in parts}
