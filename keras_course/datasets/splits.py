"""Splits of a collection of pictures into training and validation parts: near-copies, groups, strata, class weights."""

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from keras_course import randomness
from keras_course.errors import CourseError, check_positive

__all__ = ["NEAR_COPY", "class_weights", "has_near_copy", "near_copies", "split_by_group", "stratified"]

NEAR_COPY: Final = 0.95
"""Correlation above which two pictures of one class count as near-copies."""

_ROWS_AT_A_TIME: Final = 512

Places = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


def near_copies(images: npt.ArrayLike, labels: npt.ArrayLike | None = None, *, threshold: float = NEAR_COPY) -> Places:
    """Finds the series of near-copies in a collection of pictures.

    Training pictures often come in series: frames of one film, or one photo rotated, sharpened and brightened twenty
    times. A random split then puts a copy of nearly every validation picture into the training part, and a model that
    only memorizes pictures gets a high validation accuracy. Kaggle's 7,172 test pictures, for example, are about 340
    photos in 17 to 21 versions each. After a random split, the most similar training picture has the right letter for
    every validation picture; after a split by series, for about half of them.

    Two pictures are near-copies if the correlation of their pixels is above the threshold. Brightness and contrast do
    not change it. Pictures that are connected through near-copies form one series, so the first and the last frame of
    a film belong together.

    Args:
        images: Pictures ``(n, ...)`` of equal shape, uint8 or float. A picture of one single color has no copies.
        labels: Whole numbers ``(n,)``. With labels, only pictures of the same class are compared, which divides the
            time by about the number of classes.
        threshold: Correlation between 0 and 1. With 0.94 to 0.98, Kaggle's test pictures fall into 331 to 344 series;
            no two pictures of different letters are correlated by more than 0.93.

    Returns:
        int64 numbers ``(n,)``, one for each series, from 0 up in the order of their first pictures.

    Raises:
        CourseError: The shapes do not match, or the threshold is out of range.

    Example:
        >>> stripes, dots = np.array([[0, 9], [0, 9]]), np.array([[9, 0], [0, 9]])
        >>> near_copies([stripes, dots, stripes * 2 + 5]).tolist()
        [0, 1, 0]
    """
    pictures = np.asarray(images)
    count = len(pictures) if pictures.ndim else 0
    if pictures.ndim < 2 or pictures.size == 0:
        raise CourseError(f"images have the shape {pictures.shape}; give pictures (n, ...), n from 1 up")
    if not 0 < threshold < 1:
        raise CourseError(f"threshold is {threshold}; give a correlation between 0 and 1")
    classes = np.zeros(count, "int64") if labels is None else np.asarray(labels)
    if classes.shape != (count,):
        raise CourseError(f"labels have the shape {classes.shape}; give one for each of the {count:,} images")
    # Each picture points to the first one of its series that is known so far.
    first = np.arange(count)
    for label in np.unique(classes):
        members = np.flatnonzero(classes == label)
        directions = _directions(pictures[members])
        for start in range(0, len(members), _ROWS_AT_A_TIME):
            correlations = directions[start : start + _ROWS_AT_A_TIME] @ directions[start:].T
            rows, columns = np.nonzero(correlations > threshold)
            _join(first, members[start + rows], members[start + columns])
    return np.unique(first, return_inverse=True)[1]


def has_near_copy(
    valid: tuple[npt.ArrayLike, npt.ArrayLike],
    train: tuple[npt.ArrayLike, npt.ArrayLike],
    *,
    threshold: float = NEAR_COPY,
) -> Mask:
    """Tells for each validation picture whether a picture of its series is in the training part; see ``near_copies``.

    Args:
        valid: Validation pictures ``(n, ...)`` and labels ``(n,)``.
        train: Training pictures and labels.
        threshold: Correlation between 0 and 1 above which two pictures are near-copies.

    Returns:
        Booleans ``(n,)``.

    Raises:
        CourseError: The shapes do not match, or the threshold is out of range.

    Example:
        >>> stripes, dots = np.array([[0, 9], [0, 9]]), np.array([[9, 0], [0, 9]])
        >>> has_near_copy(([stripes, dots], [0, 0]), ([stripes + 1], [0])).tolist()
        [True, False]
    """
    pictures, labels = (np.concatenate([valid[part], train[part]]) for part in (0, 1))
    series = near_copies(pictures, labels, threshold=threshold)
    count = len(np.asarray(valid[0]))
    return np.isin(series[:count], series[count:])


def split_by_group(
    groups: npt.ArrayLike, labels: npt.ArrayLike, *, valid_share: float = 0.25, seed: int = 0
) -> tuple[Places, Places]:
    """Splits a collection into training and validation parts without dividing a group.

    A group is a series of near-copies, or all pictures of one person. If a group is in both parts, the validation
    accuracy measures how well the model recognizes that group, and not how well it does with a new photo or person.

    The groups are visited in random order. A group goes to validation if that brings the shares of its classes closer
    to ``valid_share``; then single groups change sides as long as that helps.

    Returns the places of the training and of the validation examples, in increasing order. Every class is in both
    parts. Raises a CourseError if the shapes do not match, the share or the seed is out of range, or a class is in a
    single group.
    """
    names, group = np.unique(np.asarray(groups), return_inverse=True)
    classes, label = np.unique(np.asarray(labels), return_inverse=True)
    if np.ndim(groups) != 1 or np.shape(groups) != np.shape(labels) or not len(names):
        raise CourseError(
            f"groups have the shape {np.shape(groups)} and labels {np.shape(labels)}; give one of each for n examples"
        )
    if not 0 < valid_share < 1:
        raise CourseError(f"valid_share is {valid_share}; give a number between 0 and 1")
    counts = np.zeros((len(names), len(classes)), "int64")  # examples by group and class
    np.add.at(counts, (group, label), 1)
    in_one_group = np.flatnonzero((counts > 0).sum(axis=0) < 2)
    if len(in_one_group):
        raise CourseError(
            f"class {classes[in_one_group[0]]} is in a single group, which cannot be on both sides; "
            "add examples of another series or person, or give the two parts yourself"
        )
    is_valid = _choose_groups(counts, valid_share, seed)[group]
    return np.flatnonzero(~is_valid), np.flatnonzero(is_valid)


def stratified(
    labels: npt.NDArray[np.int32], contents: Places, class_names: Sequence[str], *, valid_share: float, seed: int
) -> Mask:
    """Draws the same share of each class for validation; adding a class does not change the draw of another one.

    ``contents`` has a number for each file, the same for equal files, which are drawn together. Those that are in
    several classes follow the draw of the first of these. Of each class at least one file is drawn, and never all; a
    class with one file is trained on. Raises a CourseError if every class has a single file.
    """
    side_of: dict[int, bool] = {}  # by content: whether it is validated with
    for label, name in enumerate(class_names):
        members = np.unique(contents[labels == label], return_index=True)
        found = contents[labels == label][np.sort(members[1])]  # in the order of the files
        chosen: set[int] = set()
        if len(found) > 1:
            count = min(max(1, math.floor(valid_share * len(found) + 0.5)), len(found) - 1)
            order = randomness.permutation(randomness.stream_key(seed, "photo_folder", name), len(found))
            chosen = set(found[order[:count]].tolist())
        for content in found.tolist():
            side_of.setdefault(content, content in chosen)
    is_valid = np.array([side_of[content] for content in contents.tolist()], bool)
    for label in range(len(class_names)):
        if is_valid[labels == label].all():  # another class has drawn all of it
            is_valid[np.isin(contents, contents[labels == label])] = False
    if not is_valid.any():
        raise CourseError("there is one photo of each class, and none to validate with; add more photos")
    return is_valid


def class_weights(labels: npt.ArrayLike, num_classes: int) -> npt.NDArray[np.float32]:
    """Computes class weights that give all classes the same influence on the loss, whatever their sizes.

    If 10 photos show one dog and 990 photos other dogs, a model that always answers "other" is right in 99 % of the
    cases. With these weights its loss is no better than that of a guess.

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


def _directions(pictures: np.ndarray) -> npt.NDArray[np.float32]:
    """Scales each picture to a vector of mean 0 and length 1, so that dot products are correlations."""
    vectors = pictures.reshape(len(pictures), -1).astype("float32")
    vectors -= vectors.mean(axis=1, keepdims=True)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 1e-3)


def _join(first: Places, ones: Places, others: Places) -> None:
    """Joins pairs, in place: afterward the pictures of a series all point to its first."""
    while True:
        one, other = first[ones], first[others]
        apart = one != other
        if not apart.any():
            return
        ones, others, one, other = ones[apart], others[apart], one[apart], other[apart]
        # of several values for one place NumPy keeps the last; the next round joins the others
        first[np.maximum(one, other)] = np.minimum(one, other)
        while not np.array_equal(first, above := first[first]):
            first[:] = above


def _choose_groups(counts: Places, share: float, seed: int) -> Mask:
    """Chooses the validation groups from their numbers of examples in each class (groups, classes)."""
    order = randomness.permutation(randomness.stream_key(seed, "split_by_group"), len(counts))
    counts = counts[order]
    totals = counts.sum(axis=0)

    def distance(held: np.ndarray) -> Any:
        """Computes the squared error of the shares, rounded so that every machine sees the same ties."""
        return np.round(((held / totals - share) ** 2).sum(axis=-1), 9)

    def cost(held: np.ndarray) -> Any:
        """Adds a penalty for each class that is missing on a side, which outweighs the distance."""
        return distance(held) + len(totals) * ((held <= 0) | (held >= totals)).sum(axis=-1)

    chosen = np.zeros(len(counts), bool)
    held = np.zeros_like(totals)
    for number, count in enumerate(counts):
        if distance(held + count) < distance(held):
            chosen[number] = True
            held = held + count
    while True:
        moves = np.where(chosen, -1, 1)[:, np.newaxis] * counts
        costs = cost(held + moves)
        best = int(costs.argmin())
        if costs[best] >= cost(held):
            break
        held = held + moves[best]
        chosen[best] = not chosen[best]
    if (held <= 0).any() or (held >= totals).any():
        raise CourseError(
            f"no split with valid_share {share} has every class on both sides; give another seed or share, "
            "or add examples of more series or people"
        )
    is_valid = np.empty_like(chosen)
    is_valid[order] = chosen
    return is_valid
