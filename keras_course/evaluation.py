"""Metrics in NumPy, the same on every backend.

Functions for classifiers take logits (the scores before softmax) or class numbers, those for regression predictions and
targets, as arrays on the host; they return plain numbers or arrays. All arithmetic is in float64, so a metric does not
depend on the precision of the training.

Source: C. M. Bishop, "Pattern Recognition and Machine Learning", 2006, section 4.3 (softmax and cross entropy).
"""

import math
import sys
from collections.abc import Sequence
from typing import Any, TypedDict

import numpy as np
import numpy.typing as npt

from keras_course.errors import CourseError, check_positive

FloatArray = npt.NDArray[np.float64]
IntegerArray = npt.NDArray[np.int64]

_LARGEST_EXPONENT = math.log(sys.float_info.max)


class ClassScores(TypedDict):
    """The scores of one class; a plain dictionary, so that it can be written as JSON."""

    name: str
    precision: float
    recall: float
    support: int


def softmax(logits: npt.ArrayLike) -> FloatArray:
    """Converts each row of logits to probabilities that add up to 1.

    Args:
        logits: Scores of shape ``(n, classes)``, any real numbers.

    Returns:
        Probabilities of shape ``(n, classes)``, float64.

    Raises:
        CourseError: The logits are empty, not a table, or hold NaN or infinity.

    Example:
        >>> softmax([[0.0, 0.0], [1000.0, 0.0]]).tolist()
        [[0.5, 0.5], [1.0, 0.0]]
    """
    scores = _table_of_logits(logits)
    exponentials = np.exp(scores - scores.max(axis=1, keepdims=True))  # the largest is exp(0), so nothing overflows
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def cross_entropy(logits: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """Computes the mean cross entropy: the mean of ``-log(probability of the label)``.

    A classifier that guesses evenly among k classes scores ``log(k)``: 2.303 nats for ten digits.

    Args:
        logits: Scores of shape ``(n, classes)``.
        labels: True classes of shape ``(n,)``, integers from 0 to ``classes - 1``.

    Returns:
        The mean cross entropy in nats.

    Raises:
        CourseError: An argument is empty, malformed or out of range, or the lengths differ.

    Example:
        >>> round(cross_entropy([[0.0, 0.0], [0.0, 0.0]], [0, 1]), 6)
        0.693147
    """
    scores, truth = _logits_and_labels(logits, labels)
    shifted = scores - scores.max(axis=1, keepdims=True)
    log_of_sum = np.log(np.exp(shifted).sum(axis=1))
    return float(np.mean(log_of_sum - shifted[np.arange(len(truth)), truth]))


def accuracy(logits: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """Computes the share of rows whose largest logit is that of the true class.

    Args:
        logits: Scores of shape ``(n, classes)``. Of equal scores the first one counts as the prediction.
        labels: True classes of shape ``(n,)``, integers from 0 to ``classes - 1``.

    Returns:
        A fraction from 0 to 1.

    Raises:
        CourseError: An argument is empty, malformed or out of range, or the lengths differ.

    Example:
        >>> accuracy([[3.0, 1.0], [0.0, 2.0], [5.0, 4.0], [1.0, 0.0]], [0, 1, 1, 0])
        0.75
    """
    scores, truth = _logits_and_labels(logits, labels)
    return float(np.mean(scores.argmax(axis=1) == truth))


def top_accuracy(logits: npt.ArrayLike, labels: npt.ArrayLike, count: int = 5) -> float:
    """Computes the fraction of samples whose label is among the classes with the largest logits.

    Args:
        logits: Logits or probabilities (n, classes).
        labels: Class numbers (n,).
        count: Number of classes that count as an answer; of equal logits, the class with the smaller number comes
            first.

    Returns:
        The fraction, from 0 to 1.

    Raises:
        CourseError: The shapes do not fit, or a number is out of range.

    Example:
        >>> top_accuracy([[3.0, 2.0, 1.0], [3.0, 2.0, 1.0]], [1, 2], count=2)
        0.5
    """
    table, numbers = _logits_and_labels(logits, labels)
    check_positive(count=count)
    order = np.argsort(-table, axis=-1, kind="stable")[:, :count]
    return float((order == numbers[:, None]).any(axis=-1).mean())


def confusion_matrix(labels: npt.ArrayLike, predictions: npt.ArrayLike, num_classes: int) -> IntegerArray:
    """Counts how often each true class was predicted as each class.

    Args:
        labels: True classes of shape ``(n,)``, integers from 0 to ``num_classes - 1``.
        predictions: Predicted classes of shape ``(n,)``, in the same range.
        num_classes: Number of classes.

    Returns:
        Counts of shape ``(num_classes, num_classes)``, int64: rows are the true classes, columns the predicted ones.

    Raises:
        CourseError: An argument is empty, malformed or out of range, or the lengths differ.

    Example:
        >>> confusion_matrix(labels=[0, 0, 1], predictions=[0, 1, 1], num_classes=2).tolist()
        [[1, 1], [0, 1]]
    """
    check_positive(num_classes=num_classes)
    truth = _class_numbers("labels", labels, num_classes)
    predicted = _class_numbers("predictions", predictions, num_classes)
    _check_equal_lengths("labels", len(truth), "predictions", len(predicted))
    cells = truth * num_classes + predicted
    return np.bincount(cells, minlength=num_classes**2).reshape(num_classes, num_classes).astype(np.int64)


def per_class(matrix: npt.ArrayLike, class_names: Sequence[str]) -> list[ClassScores]:
    """Computes precision, recall and support of every class from a confusion matrix.

    Precision is the share of correct predictions among all predictions of this class; recall is the share of correct
    predictions among all examples of this class. A class that is never predicted has precision 0, and one that never
    occurs has recall 0.

    Args:
        matrix: Counts of shape ``(classes, classes)``, rows true and columns predicted.
        class_names: One name for each class, in the order of the rows.

    Returns:
        One record for each class, in the order of the rows; ``support`` is the number of examples of that class.

    Raises:
        CourseError: The matrix is not square, holds something other than counts, or does not match the names.

    Example:
        >>> for scores in per_class([[3, 1], [0, 4]], ["cat", "dog"]):
        ...     print(scores)
        {'name': 'cat', 'precision': 1.0, 'recall': 0.75, 'support': 4}
        {'name': 'dog', 'precision': 0.8, 'recall': 1.0, 'support': 4}
    """
    counts = checked_confusion_matrix(matrix, class_names)
    right = np.diagonal(counts)
    predicted, support = counts.sum(axis=0), counts.sum(axis=1)
    # where the denominator is 0, so is the numerator: dividing by 1 gives 0.0
    precision, recall = right / np.maximum(predicted, 1), right / np.maximum(support, 1)
    return [
        ClassScores(name=name, precision=float(p), recall=float(r), support=int(s))
        for name, p, r, s in zip(class_names, precision, recall, support, strict=True)
    ]


def most_wrong(logits: npt.ArrayLike, labels: npt.ArrayLike, count: int = 16) -> IntegerArray:
    """Finds the misclassified rows with the highest predicted probability.

    Args:
        logits: Scores of shape ``(n, classes)``.
        labels: True classes of shape ``(n,)``, integers from 0 to ``classes - 1``.
        count: The largest number of rows to return.

    Returns:
        Row numbers of misclassified rows, int64, the most confident mistake first and equally confident ones in
        their original order; fewer than ``count`` where there are fewer mistakes.

    Raises:
        CourseError: An argument is empty, malformed or out of range, or the lengths differ.

    Example:
        >>> most_wrong([[1.0, 0.0], [9.0, 0.0], [0.0, 5.0]], labels=[1, 1, 1]).tolist()
        [1, 0]
    """
    check_positive(count=count)
    scores, truth = _logits_and_labels(logits, labels)
    mistakes = np.flatnonzero(scores.argmax(axis=1) != truth)
    # The probability of the prediction is 1 / (1 + odds against it). The odds still differ where two probabilities both
    # round to 1; adding them up in sorted order makes equal rows equal whatever their class.
    ranked = np.sort(scores[mistakes], axis=1)
    odds_against = np.exp(ranked[:, :-1] - ranked[:, -1:]).sum(axis=1)
    return mistakes[np.argsort(odds_against, kind="stable")[:count]].astype(np.int64)


def mean_squared_error(predictions: npt.ArrayLike, targets: npt.ArrayLike) -> float:
    """Computes the mean squared error: MSE = (1/n) Σ (yᵢ - ŷᵢ)².

    Args:
        predictions: Predictions ŷ of any shape.
        targets: True values y of the same shape.

    Returns:
        The mean over all entries, in the unit of y squared.

    Raises:
        CourseError: An argument is empty or holds NaN or infinity, or the shapes differ.

    Example:
        >>> mean_squared_error([4.0, 3.0], [3.0, 5.0])  # the course's line at m = -1, b = 5
        2.5
    """
    predicted, true = _finite_numbers("predictions", predictions), _finite_numbers("targets", targets)
    _check_equal_shapes("predictions", predicted, "targets", true)
    return float(np.mean(np.square(true - predicted)))


def root_mean_squared_error(predictions: npt.ArrayLike, targets: npt.ArrayLike) -> float:
    """Computes the root mean squared error: RMSE = √MSE.

    Args:
        predictions: Predictions ŷ of any shape.
        targets: True values y of the same shape.

    Returns:
        The root of the mean squared error, in the unit of y.

    Raises:
        CourseError: An argument is empty or holds NaN or infinity, or the shapes differ.

    Example:
        >>> round(root_mean_squared_error([4.0, 3.0], [3.0, 5.0]), 2)
        1.58
    """
    return math.sqrt(mean_squared_error(predictions, targets))


def binary_cross_entropy(probabilities: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """Computes the binary cross entropy: BCE = -(1/n) Σ [yᵢ log(p̂ᵢ) + (1 - yᵢ) log(1 - p̂ᵢ)].

    One of the two terms is always 0; the other is the logarithm of the predicted probability of the true label. It is
    infinite for a probability of 0. (In Keras the limit is about 16, since it clips p̂ to 1e-7 from 0 and 1.)

    Args:
        probabilities: Predicted probabilities p̂ of label 1, from 0 to 1, of any shape.
        labels: True labels y, 0 or 1, of the same shape.

    Returns:
        The mean in nats, from 0 up; infinity is possible.

    Raises:
        CourseError: An argument is empty, a number is not a probability or not a label, or the shapes differ.

    Example:
        >>> round(binary_cross_entropy([0.5, 0.5], [0, 1]), 6)
        0.693147
        >>> binary_cross_entropy([1.0, 0.0], [1, 1])
        inf
    """
    predicted, truth = _finite_numbers("probabilities", probabilities), _finite_numbers("labels", labels)
    _check_equal_shapes("probabilities", predicted, "labels", truth)
    _check_numbers("probabilities", predicted, (predicted < 0) | (predicted > 1), "give numbers from 0 to 1")
    _check_numbers("labels", truth, (truth != 0) & (truth != 1), "give 0 or 1")
    with np.errstate(divide="ignore"):  # log(0) is the point
        surprise = -np.where(truth == 1, np.log(predicted), np.log1p(-predicted))
    return float(np.mean(surprise)) + 0.0  # + 0.0 turns the -0.0 of a perfect prediction into 0.0


def perplexity(log_probabilities: npt.ArrayLike) -> float:
    """Computes the perplexity of a language model: exp(-(1/n) Σ log p̂ᵢ).

    A model that guesses evenly among k tokens scores k.

    Args:
        log_probabilities: Natural logarithm of the predicted probability of each token that occurred, of any shape;
            -infinity is possible.

    Returns:
        A number from 1 up; infinity if a token had the probability 0.

    Raises:
        CourseError: There are no numbers, or one is NaN or above 0.

    Example:
        >>> round(perplexity(np.log([0.5, 0.125])), 6)
        4.0
    """
    mean = float(_logarithms(log_probabilities).mean())
    return math.exp(-mean) if mean > -_LARGEST_EXPONENT else math.inf


def bits_per_character(log_probabilities: npt.ArrayLike, characters: int) -> float:
    """Computes the bits that a language model needs for each character: -(Σ log₂ p̂ᵢ) / characters.

    It compares models of words, word pieces and characters, whose perplexities cannot be compared.

    Args:
        log_probabilities: Natural logarithm of the predicted probability of each token that occurred, of any shape;
            -infinity is possible.
        characters: Number of characters of the text, with one for each token that ends a sentence.

    Returns:
        A number from 0 up; infinity if a token had the probability 0.

    Raises:
        CourseError: There are no numbers, one is NaN or above 0, or the number of characters is not positive.

    Example:
        >>> round(bits_per_character(np.log([0.5, 0.125]), characters=8), 6)
        0.5
    """
    check_positive(characters=characters)
    return float(-_logarithms(log_probabilities).sum() / math.log(2) / characters) + 0.0


def checked_confusion_matrix(matrix: npt.ArrayLike, class_names: Sequence[str]) -> IntegerArray:
    """Returns a confusion matrix as int64, after checking that it has counts, and one row for each class name."""
    counts = np.asarray(matrix)
    classes = len(class_names)
    if counts.size == 0 or counts.shape != (classes, classes):
        raise CourseError(
            f"matrix has shape {counts.shape} beside {classes} class_names; give one row and one column for each name"
        )
    if not np.issubdtype(counts.dtype, np.integer) or counts.min() < 0:
        raise CourseError(f"matrix holds {counts.dtype} values from {counts.min()}; give counts: integers from 0 up")
    return counts.astype(np.int64)


def _table_of_logits(logits: npt.ArrayLike) -> FloatArray:
    scores = np.asarray(logits, dtype=np.float64)
    if scores.ndim != 2 or scores.size == 0:
        raise CourseError(f"logits have shape {scores.shape}; give one row of class scores for each picture")
    broken = np.flatnonzero(~np.isfinite(scores).all(axis=1))
    if broken.size:
        raise CourseError(
            f"logits hold NaN or infinity in {broken.size} of {len(scores)} rows (first: row {broken[0]}); "
            "the training diverged: train again with a smaller learning rate"
        )
    return scores


def _class_numbers(name: str, values: npt.ArrayLike, num_classes: int) -> IntegerArray:
    numbers: npt.NDArray[Any] = np.asarray(values)
    if numbers.ndim != 1 or numbers.size == 0:
        raise CourseError(f"{name} have shape {numbers.shape}; give a list of at least one class number")
    if not np.issubdtype(numbers.dtype, np.integer):
        raise CourseError(f"{name} are {numbers.dtype}; give integers from 0 to {num_classes - 1}")
    outside = np.flatnonzero((numbers < 0) | (numbers >= num_classes))
    if outside.size:
        raise CourseError(
            f"{name}[{outside[0]}] is {numbers[outside[0]]}; give class numbers from 0 to {num_classes - 1}"
        )
    return numbers.astype(np.int64)  # uint8 labels would overflow in products


def _check_equal_lengths(first: str, first_length: int, second: str, second_length: int) -> None:
    if first_length != second_length:
        raise CourseError(
            f"{first} has {first_length} entries and {second} has {second_length}; give the same number of both"
        )


def _logarithms(values: npt.ArrayLike) -> FloatArray:
    numbers = np.asarray(values, dtype=np.float64)
    if numbers.size == 0:
        raise CourseError(f"log_probabilities have shape {numbers.shape}; give at least one number")
    remedy = "give logarithms of probabilities, from -infinity to 0"
    _check_numbers("log_probabilities", numbers, ~(numbers <= 0), remedy)
    return numbers


def _finite_numbers(name: str, values: npt.ArrayLike) -> FloatArray:
    numbers = np.asarray(values, dtype=np.float64)
    if numbers.size == 0:
        raise CourseError(f"{name} have shape {numbers.shape}; give at least one number")
    _check_numbers(name, numbers, ~np.isfinite(numbers), "give finite numbers; a model that gives others has diverged")
    return numbers


def _check_numbers(name: str, numbers: FloatArray, wrong: npt.NDArray[np.bool_], remedy: str) -> None:
    """Raises an error that names the first wrong number, if there is one."""
    if wrong.any():
        index = np.unravel_index(int(wrong.argmax()), wrong.shape)
        place = f"[{', '.join(map(str, index))}]" if index else ""
        raise CourseError(f"{name}{place} is {numbers[index]}; {remedy}")


def _check_equal_shapes(first: str, first_values: FloatArray, second: str, second_values: FloatArray) -> None:
    if first_values.shape != second_values.shape:
        raise CourseError(
            f"{first} have shape {first_values.shape} and {second} {second_values.shape}; give the same shape, "
            "as (n,) beside (n, 1) would compare each with every other"
        )


def _logits_and_labels(logits: npt.ArrayLike, labels: npt.ArrayLike) -> tuple[FloatArray, IntegerArray]:
    scores = _table_of_logits(logits)
    truth = _class_numbers("labels", labels, scores.shape[1])
    _check_equal_lengths("logits", len(scores), "labels", len(truth))
    return scores, truth
