"""The head of a pre-trained network found in one step, without gradients: a linear discriminant of its features."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import keras
import numpy as np
import numpy.typing as npt

from keras_course import evaluation
from keras_course.errors import CourseError, check_fractions
from keras_course.pretrained.transfer import feature_extractor, freeze, head_of
from keras_course.training.features import extract_features
from keras_course.training.fit import Columns, evaluate
from keras_course.training.inputs import Data, check_data
from keras_course.training.objectives import on_logits

_Numbers = npt.NDArray[np.float64]

_BLUNTEST: Final = 1e-6
_HALVINGS: Final = 40


def solve_head(
    model: keras.Model,
    train: Data,
    valid: Data | None = None,
    *,
    shrinkage: float = 0.3,
    groups: npt.ArrayLike | None = None,
    folds: int = 5,
    cache: str | Path | None = None,
    on_features: Callable[[int], None] | None = None,
) -> Columns:
    """Finds the head of a transfer classifier in closed form: Fisher's linear discriminant of the features.

    It takes the features of each class for a cloud around the mean of the class, and all clouds for one of the same
    shape; which class a picture belongs to is then a linear question, and its answer needs the means and one system of
    equations, no steps and no seed. With many features and few photos it often knows better than a head that was
    trained on their labels, which looks at the photos near the border alone.

    Such an answer is far too sure of itself. So the data are cut into folds, each is answered by what is known of the
    others, and all logits are multiplied by the one number with which those answers would have been the likeliest. How
    many of those were right is the honest accuracy of the method on the data at hand, before anything is validated.

    Args:
        model: What ``transfer_classifier`` has built, without hidden layers. Its backbone is frozen.
        train: Photos uint8 (n, height, width, channels) and labels (n,).
        valid: Photos and labels on which the solved head is measured.
        shrinkage: From 0 up to 1: how much rounder the common cloud is made than it is. With few photos the thinnest
            directions of the cloud are there by chance.
        groups: A whole number (n,) for each photo; those with the same one stay in one fold, as ``asl.near_copies``
            finds series of pictures that are nearly the same. Without it each photo stands alone.
        folds: In how many parts the data are cut. The only group of a class is never held back.
        cache: The cache folder, as for ``train_head``.
        on_features: Called with the number of photos whose features have just been found.

    Returns:
        One row in the columns of ``fit``, and beside them ``fold_loss`` and ``fold_accuracy``: those of the answers to
        photos of which the answering head knew nothing.

    Raises:
        CourseError: The data do not fit, the model has no backbone or has hidden layers, a class has no photos, no
            class has two groups, or a number is out of range.

    Example:
        >>> import tempfile
        >>> from keras_course.pretrained import transfer_classifier
        >>> pictures = keras.Input((4, 4, 3))
        >>> colours = keras.Model(pictures, keras.layers.Rescaling(1 / 255)(pictures))
        >>> model = transfer_classifier(backbone=colours, num_classes=2)
        >>> draws = np.random.default_rng(0)
        >>> red, blue = (draws.integers(0, 99, (8, 4, 4, 3), "uint8") + [[99, 0, 0], [0, 0, 99]][i] for i in (0, 1))
        >>> photos, labels = np.concatenate([red, blue]).astype("uint8"), np.repeat([0, 1], 8)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     solved = solve_head(model, (photos, labels), cache=folder)
        >>> solved["fold_accuracy"], solved["accuracy"]
        ([1.0], [1.0])

    Source: R. A. Fisher, "The use of multiple measurements in taxonomic problems", 1936; J. H. Friedman, "Regularized
    discriminant analysis", 1989; C. Guo and others, "On calibration of modern neural networks", 2017.
    """
    started = time.perf_counter()
    check_fractions(shrinkage=shrinkage)
    if folds < 2:
        raise CourseError(f"folds is {folds}; give a whole number from 2 up")
    check_data(model, train, on_logits("sparse_categorical_crossentropy"), "train")
    head = head_of(model)
    if dense := [
        layer.name for layer in head.layers if isinstance(layer, keras.layers.Dense) and layer.name != "logits"
    ]:
        raise CourseError(f"model {model.name!r} has hidden layers ({', '.join(dense)}); only logits can be solved for")
    labels = np.asarray(train[1]).astype("int64")
    classes = head.output_shape[-1]
    part = _folds(labels, np.arange(len(labels)) if groups is None else groups, folds, classes)
    freeze(model)
    extractor = feature_extractor(model)
    features = extract_features(extractor, train[0], cache=cache, progress=on_features)
    origin, width = features.mean(axis=0), features.shape[1]
    x, axes = features - origin, None
    if len(x) < width:  # what photos can tell lies in as many directions as there are photos
        axes = np.linalg.qr(x.T)[0]
        x = x @ axes
    together = _clouds(x, labels, classes)
    logits, asked = np.zeros((len(labels), classes)), part >= 0
    for fold in np.unique(part[asked]):
        rows = part == fold
        kernel, bias = (together - _clouds(x[rows], labels[rows], classes)).discriminant(shrinkage, width)
        logits[rows] = x[rows] @ kernel + bias
    logits, answers = logits[asked], labels[asked]
    sharpness = _likeliest(logits, answers)
    kernel, bias = together.discriminant(shrinkage, width)
    if axes is not None:
        kernel = axes @ kernel
    model.get_layer("logits").set_weights([sharpness * kernel, sharpness * (bias - origin @ kernel)])

    row = evaluate(head, (features, train[1]))
    if valid is not None:
        measured = evaluate(head, (extract_features(extractor, valid[0], cache=cache, progress=on_features), valid[1]))
        row |= {f"val_{name}": value for name, value in measured.items()}
    row["fold_loss"] = evaluation.cross_entropy(sharpness * logits, answers)
    row["fold_accuracy"] = evaluation.accuracy(logits, answers)
    columns = {name: [value] for name, value in row.items()}
    return {"epoch": [1], **columns, "seconds": [time.perf_counter() - started]}


@dataclass(frozen=True)
class _Clouds:
    """What has to be known of features for a discriminant; what some of them add to it can be taken away again.

    Attributes:
        counts: How many there are of each class (classes,).
        sums: Their sum in each class (classes, features).
        products: The sum of the products of all pairs of features (features, features).
    """

    counts: _Numbers
    sums: _Numbers
    products: npt.NDArray[np.float32]

    def __sub__(self, other: "_Clouds") -> "_Clouds":
        return _Clouds(self.counts - other.counts, self.sums - other.sums, self.products - other.products)

    def discriminant(self, shrinkage: float, width: int) -> tuple[_Numbers, _Numbers]:
        """Gives the kernel (features, classes) and the bias (classes,) of the logits.

        The width is how many features there were, where these are fewer axes on which all of them lie.
        """
        means = self.sums / self.counts[:, None]
        within = np.asarray(self.products - self.sums.T @ means, "float64")
        within /= self.counts.sum()
        size = np.trace(within) / width  # the variance of a feature, in the mean
        within *= 1 - shrinkage
        within[np.diag_indices_from(within)] += shrinkage * size
        try:
            if shrinkage == 0 and self.counts.sum() - len(means) < width:
                raise np.linalg.LinAlgError
            kernel: _Numbers = np.linalg.solve(within, means.T)
        except np.linalg.LinAlgError:
            raise CourseError(
                f"shrinkage is {shrinkage}, and the photos do not vary within the classes in every feature; give more"
            ) from None
        return kernel, np.log(self.counts / self.counts.sum()) - (means.T * kernel).sum(axis=0) / 2


def _clouds(features: npt.NDArray[np.float32], labels: npt.NDArray[np.int64], classes: int) -> _Clouds:
    members = np.equal.outer(np.arange(classes), labels).astype("float32")
    return _Clouds(members.sum(axis=1, dtype="float64"), (members @ features).astype("float64"), features.T @ features)


def _folds(labels: npt.NDArray[np.int64], groups: npt.ArrayLike, folds: int, classes: int) -> npt.NDArray[np.int64]:
    """Deals the groups of each class to the folds, as one deals cards; -1 is for the only one of a class."""
    groups = np.asarray(groups)
    if groups.shape != labels.shape:
        raise CourseError(f"groups have the shape {groups.shape}; give one for each of the {len(labels):,} photos")
    firsts, group = np.unique(groups, return_index=True, return_inverse=True)[1:]
    order = np.argsort(firsts)  # in the order of their first photos
    fold = np.full(len(firsts), -1)
    for number in range(classes):
        members = order[labels[firsts[order]] == number]
        if not len(members):
            raise CourseError(f"class {number} has no photos; give each class at least one")
        if len(members) > 1:
            fold[members] = np.arange(len(members)) % folds
    if fold.max() < 0:
        raise CourseError("no class has two groups of photos, so that one could be held back; give more photos")
    return fold[group]


def _likeliest(logits: _Numbers, labels: npt.NDArray[np.int64]) -> float:
    """Finds the factor for logits, 1 at most, with which the labels are likeliest: the loss has one valley in it.

    Where all answers are right, the surest would be the likeliest. So one more answer is counted, which is any class.
    """
    count = len(logits)
    target = (logits[np.arange(count), labels].sum() + logits.mean()) / (count + 1)
    low, high = _BLUNTEST, 1.0
    for _ in range(_HALVINGS):
        middle = math.sqrt(low * high)
        probabilities = evaluation.softmax(middle * logits)
        low, high = (low, middle) if (probabilities * logits).sum(axis=-1).mean() > target else (middle, high)
    return high
