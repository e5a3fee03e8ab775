"""Class folders: which photos of a folder belong to which part and class.

The same rules hold for training and for the grader. What is ambiguous is rejected with an error that names it.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final, NamedTuple

from keras_course.cards import check_class_name
from keras_course.datasets.folders import LEAVES, File, Listing, composed, is_system, join, list_pictures, names_of
from keras_course.datasets.layouts import Layout, Tree, part_of, read_layout
from keras_course.errors import CourseError
from keras_course.foreign_text import printable
from keras_course.preprocessing import images

__all__ = ["LARGEST_CLASSES", "Found", "Photo", "check_filled", "find", "parts_to_load", "parts_to_show"]

LARGEST_CLASSES: Final = 1000
"""The number of classes of ImageNet; more folders are hardly classes."""

_LONGEST_NAME: Final = 255  # bytes, the limit of file systems


class Photo(NamedTuple):
    """A photo with its part, "" without parts, and its class folder, "" outside of those."""

    file: File
    part: str
    folder: str


class Found(NamedTuple):
    """The contents of a folder: layout, requested parts and classes, their photos, and the skipped files."""

    layout: Layout
    parts: dict[str, str]
    class_of: dict[str, str]
    class_names: tuple[str, ...]
    photos: list[Photo]
    skipped: list[tuple[str, str]]


def find(
    folder: Path,
    choose_parts: Callable[[Layout], dict[str, str]],
    classes: Sequence[str] | Mapping[str, str] | None,
    others: str | None,
    split: str,
) -> Found:
    """Finds the photos of the requested parts and classes."""
    listing = list_pictures(folder)
    tree = Tree(listing)
    layout = read_layout(folder, tree, names_are_classes=classes is not None)
    parts = choose_parts(layout)
    class_of = _classes(folder, listing, tree, list(parts.values()) or [layout.start], split, classes, others)
    class_names = tuple(sorted(set(class_of.values())))
    for name in class_names:
        _check_class_name(folder, name)
    return Found(layout, parts, class_of, class_names, *_choose(listing, layout, parts, class_of))


def parts_to_show(folder: Path, layout: Layout, wanted: Sequence[str]) -> dict[str, str]:
    """Returns the folders of the requested parts; {} if the classes are not below parts."""
    if layout.parts and (missing := [part for part in wanted if part not in layout.parts]):
        why = ", whose photos are in no class folders" if missing[0] in layout.unlabeled else ""
        raise CourseError(
            f"{folder} has no part {missing[0]}{why}, but {', '.join(sorted(layout.parts))}; ask for one that it "
            "has, or give the folder of a part"
        )
    return {part: path for part, path in layout.parts.items() if not wanted or part in wanted}


def parts_to_load(folder: Path, layout: Layout, split: str, valid_parts: Sequence[str] | None) -> dict[str, str]:
    """Returns the folders of the requested parts, ``train`` first; {} if the classes are not below parts."""
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
        why = "whose photos are in no class folders" if missing[0] in layout.unlabeled else f"which {folder} lacks"
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
) -> tuple[list[Photo], list[tuple[str, str]]]:
    """Returns the photos of the requested parts and classes, and the skipped files among them."""
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


def _place(file: File, layout: Layout, parts: dict[str, str]) -> Photo | None:
    """Finds the part and the class folder of a photo; None for a photo in a part that was not requested."""
    above = parts or {"": layout.start}
    for part, path in above.items():
        if not path or file.name.startswith(f"{path}/"):
            names = file.name.removeprefix(f"{path}/").split("/")
            return Photo(file, part, composed(names[0]) if len(names) > 1 else "")
    others = [path for part, path in layout.parts.items() if part not in parts]
    return None if any(file.name.startswith(f"{path}/") for path in others) else Photo(file, "", "")


def _classes(
    folder: Path,
    listing: Listing,
    tree: Tree,
    above: Sequence[str],
    split: str,
    classes: Sequence[str] | Mapping[str, str] | None,
    others: str | None,
) -> dict[str, str]:
    """Returns the class of each requested class folder; both names are composed (Unicode's form C)."""
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
    """Returns the class of each folder by the arguments ``classes`` and ``others``; all named folders must exist."""
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
    """Rejects subfolders that look like another level of classes."""
    inner = {name: {composed(deep) for path in paths for deep in tree.filled(path)} for name, paths in inside.items()}
    shared = Counter(deep for names in inner.values() for deep in names)
    for name, deeper in inner.items():
        # subfolders of the same names in several classes are years or cameras
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
    """Rejects parts below the classes, whose photos would be mixed."""
    for paths in inside.values():
        for path in paths:
            below = [name for name in tree.filled(path) if part_of(name)]
            if below and not tree.direct[path]:
                raise CourseError(
                    f"{folder / path} has {names_of(below)} in it; put the parts above the classes, as in "
                    f"{below[0]}/{printable(path)}, or give split='stratified' to join and split them again"
                )


def _check_class_name(folder: Path, name: str) -> None:
    """Rejects a name that a model card or a file system would reject after the training."""
    try:
        check_class_name(name)
    except CourseError as error:
        raise CourseError(f"{folder} has a class folder whose name cannot be kept: {error}; rename it") from None
    if "/" in name or "\\" in name or is_system(name) or len(name.encode()) > _LONGEST_NAME:
        raise CourseError(
            f"class {printable(name)[:80]!r} cannot be the name of a folder; give one of at most {_LONGEST_NAME} bytes "
            "that does not begin with a dot and has no slash"
        )


def check_filled(
    class_of: dict[str, str], photos: Sequence[Photo], skipped: Sequence[tuple[str, str]], is_given: bool
) -> None:
    """Raises an error if a class has no photos, or none in one of the given parts."""
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
