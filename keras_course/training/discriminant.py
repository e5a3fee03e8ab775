"""Solves for the head of a pre-trained network in closed form: a linear discriminant of its features."""

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
from keras_course.training.objectives import find_loss

_Numbers = npt.NDArray[np.float64]

_SMALLEST_FACTOR: Final = 1e-6
_BISECTIONS: Final = 40


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
    """Computes the head of a transfer classifier in closed form: Fisher's linear discriminant of the features.

    The method models the features of each class by a normal distribution around the mean of the class, with one
    covariance matrix for all classes. The most likely class is then a linear function of the features, found from the
    means and one system of equations, without steps or a seed. With many features and few photos its accuracy is often
    higher than that of a head trained by gradient descent.

    The probabilities of such a head are over-confident. They are calibrated by cross-validation: the data are split
    into folds, each fold is predicted by a head solved on the others, and all logits are multiplied by the factor that
    maximizes the likelihood of these predictions. Their accuracy estimates that of the method, without validation data.

    Args:
        model: A model from ``transfer_classifier`` or ``text_classifier``, without hidden layers. Its backbone is
            frozen.
        train: Photos uint8 (n, height, width, channels), or tokens of texts int32 (n, tokens), and labels (n,).
        valid: Validation photos or tokens and labels, on which the solved head is evaluated.
        shrinkage: From 0 up to 1: how far the covariance matrix is shrunk toward a multiple of the identity. With few
            photos its smallest eigenvalues are estimated badly.
        groups: A whole number (n,) for each photo; photos with the same number stay in one fold, such as the series of
            nearly equal pictures that ``asl.near_copies`` finds. The default is one group for each photo.
        folds: Number of folds. The only group of a class is never held out.
        cache: The cache folder; see ``train_head``.
        on_features: Called with the number of photos whose features have just been computed.

    Returns:
        One row with the columns of ``fit``, and ``fold_loss`` and ``fold_accuracy``, those of the cross-validation.

    Raises:
        CourseError: The data do not fit, the model has no backbone or has hidden layers, a class has no photos, no
            class has two groups, or a number is out of range.

    Example:
        >>> import tempfile
        >>> from keras_course.pretrained import transfer_classifier
        >>> pictures = keras.Input((4, 4, 3))
        >>> colors = keras.Model(pictures, keras.layers.Rescaling(1 / 255)(pictures))
        >>> model = transfer_classifier(backbone=colors, num_classes=2)
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
    check_data(model, train, find_loss("sparse_categorical_crossentropy"), "train")
    head = head_of(model)
    hidden = [layer.name for layer in head.layers if isinstance(layer, keras.layers.Dense) and layer.name != "logits"]
    if hidden:
        raise CourseError(
            f"model {model.name!r} has hidden layers ({', '.join(hidden)}); only logits can be solved for"
        )
    labels = np.asarray(train[1]).astype("int64")
    classes = head.output_shape[-1]
    part = _folds(labels, np.arange(len(labels)) if groups is None else groups, folds, classes)
    freeze(model)
    extractor = feature_extractor(model)
    features = extract_features(extractor, train[0], cache=cache, progress=on_features)
    origin, width = features.mean(axis=0), features.shape[1]
    x, axes = features - origin, None
    if len(x) < width:  # n centered photos span at most n directions
        axes = np.linalg.qr(x.T)[0]
        x = x @ axes
    total = _moments_of(x, labels, classes)
    logits, is_held_out = np.zeros((len(labels), classes)), part >= 0
    for fold in np.unique(part[is_held_out]):
        rows = part == fold
        kernel, bias = (total - _moments_of(x[rows], labels[rows], classes)).discriminant(shrinkage, width)
        logits[rows] = x[rows] @ kernel + bias
    logits, held_out_labels = logits[is_held_out], labels[is_held_out]
    factor = _calibration(logits, held_out_labels)
    kernel, bias = total.discriminant(shrinkage, width)
    if axes is not None:
        kernel = axes @ kernel
    model.get_layer("logits").set_weights([factor * kernel, factor * (bias - origin @ kernel)])

    row = evaluate(head, (features, train[1]))
    if valid is not None:
        measured = evaluate(head, (extract_features(extractor, valid[0], cache=cache, progress=on_features), valid[1]))
        row |= {f"val_{name}": value for name, value in measured.items()}
    row["fold_loss"] = evaluation.cross_entropy(factor * logits, held_out_labels)
    row["fold_accuracy"] = evaluation.accuracy(logits, held_out_labels)
    columns = {name: [value] for name, value in row.items()}
    return {"epoch": [1], **columns, "seconds": [time.perf_counter() - started]}


@dataclass(frozen=True)
class _Moments:
    """The sums over samples that a discriminant needs; those of a fold can be subtracted from the total."""

    counts: _Numbers  # samples of each class (classes,)
    sums: _Numbers  # of the features of each class (classes, features)
    products: npt.NDArray[np.float32]  # summed, of all pairs of features (features, features)

    def __sub__(self, other: "_Moments") -> "_Moments":
        return _Moments(self.counts - other.counts, self.sums - other.sums, self.products - other.products)

    def discriminant(self, shrinkage: float, width: int) -> tuple[_Numbers, _Numbers]:
        """Returns the kernel (features, classes) and the bias (classes,) of the logits.

        The width is the original number of features, which may have been projected to fewer.
        """
        means = self.sums / self.counts[:, None]
        within = np.asarray(self.products - self.sums.T @ means, "float64")
        within /= self.counts.sum()
        variance = np.trace(within) / width  # mean variance of a feature
        within *= 1 - shrinkage
        within[np.diag_indices_from(within)] += shrinkage * variance
        try:
            if shrinkage == 0 and self.counts.sum() - len(means) < width:
                raise np.linalg.LinAlgError
            kernel: _Numbers = np.linalg.solve(within, means.T)
        except np.linalg.LinAlgError:
            raise CourseError(
                f"shrinkage is {shrinkage}, and the photos do not vary within the classes in every feature; give more"
            ) from None
        return kernel, np.log(self.counts / self.counts.sum()) - (means.T * kernel).sum(axis=0) / 2


def _moments_of(features: npt.NDArray[np.float32], labels: npt.NDArray[np.int64], classes: int) -> _Moments:
    members = np.equal.outer(np.arange(classes), labels).astype("float32")
    return _Moments(members.sum(axis=1, dtype="float64"), (members @ features).astype("float64"), features.T @ features)


def _folds(labels: npt.NDArray[np.int64], groups: npt.ArrayLike, folds: int, classes: int) -> npt.NDArray[np.int64]:
    """Returns the fold of each sample: the groups of a class take turns; the only group of a class gets -1."""
    groups = np.asarray(groups)
    if groups.shape != labels.shape:
        raise CourseError(f"groups has the shape {groups.shape}; give one for each of the {len(labels):,} photos")
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
        raise CourseError("no class has two groups of photos, so none can be held out; give more photos")
    return fold[group]


def _calibration(logits: _Numbers, labels: npt.NDArray[np.int64]) -> float:
    """Returns the factor for the logits, at most 1, that maximizes the likelihood of the labels, by bisection."""
    count = len(logits)
    # if all predictions are right, the likelihood grows with the factor: one sample is added that is of every class
    target = (logits[np.arange(count), labels].sum() + logits.mean()) / (count + 1)
    low, high = _SMALLEST_FACTOR, 1.0
    for _ in range(_BISECTIONS):
        middle = math.sqrt(low * high)
        probabilities = evaluation.softmax(middle * logits)
        low, high = (low, middle) if (probabilities * logits).sum(axis=-1).mean() > target else (middle, high)
    return high
