"""The metrics, against SciPy and numbers computed by hand."""

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.special

from keras_course import evaluation
from keras_course.errors import CourseError


@pytest.fixture
def logits() -> np.ndarray:
    return np.random.default_rng(7).normal(scale=4.0, size=(50, 6)).astype(np.float32)


@pytest.fixture
def labels() -> np.ndarray:
    return np.random.default_rng(8).integers(0, 6, size=50).astype(np.uint8)


def test_softmax_agrees_with_scipy(logits: np.ndarray) -> None:
    np.testing.assert_allclose(
        evaluation.softmax(logits), scipy.special.softmax(logits.astype(np.float64), axis=1), rtol=1e-12
    )


def test_softmax_of_huge_logits_does_not_overflow() -> None:
    probabilities = evaluation.softmax([[1e300, 1e300, -1e300], [-1e5, -1e5 + np.log(3), -2e5]])
    np.testing.assert_allclose(probabilities, [[0.5, 0.5, 0.0], [0.25, 0.75, 0.0]], rtol=1e-9)


def test_cross_entropy_agrees_with_scipy(logits: np.ndarray, labels: np.ndarray) -> None:
    log_probabilities = scipy.special.log_softmax(logits.astype(np.float64), axis=1)
    expected = -np.mean([log_probabilities[row, label] for row, label in enumerate(labels)])
    assert evaluation.cross_entropy(logits, labels) == pytest.approx(expected, rel=1e-12)


def test_cross_entropy_of_equal_logits_is_the_log_of_the_number_of_classes() -> None:
    assert evaluation.cross_entropy(np.zeros((3, 10)), [0, 4, 9]) == pytest.approx(2.302585092994046, rel=1e-15)


def test_cross_entropy_is_not_clipped() -> None:
    # log(1 + exp(-800)) is 0 in float64, so the loss is the gap of the logits itself; a clipped version stops at 16.
    assert evaluation.cross_entropy([[800.0, 0.0]], [1]) == 800.0
    assert evaluation.cross_entropy([[800.0, 0.0]], [0]) == 0.0


def test_accuracy_by_hand() -> None:
    assert evaluation.accuracy([[0, 1, 2], [2, 1, 0], [0, 3, 0]], [2, 1, 1]) == pytest.approx(2 / 3)


def test_the_first_of_equal_logits_is_the_prediction() -> None:
    assert evaluation.accuracy([[1.0, 1.0]], [0]) == 1.0
    assert evaluation.accuracy([[1.0, 1.0]], [1]) == 0.0


def test_confusion_matrix_rows_are_true_and_columns_predicted() -> None:
    matrix = evaluation.confusion_matrix(labels=[0, 0, 0, 2, 1], predictions=[0, 2, 2, 2, 0], num_classes=4)
    assert matrix.dtype == np.int64
    assert matrix.tolist() == [[1, 0, 2, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]]


def test_confusion_matrix_of_bytes_does_not_overflow() -> None:
    twenty_three = np.full(5, 23, dtype=np.uint8)  # 23 * 24 does not fit into a byte
    matrix = evaluation.confusion_matrix(twenty_three, twenty_three, 24)
    assert matrix[23, 23] == 5
    assert matrix.sum() == 5


def test_per_class_by_hand() -> None:
    scores = evaluation.per_class([[5, 1, 0], [3, 1, 0], [0, 2, 0]], ["a", "b", "c"])
    assert scores == [
        {"name": "a", "precision": 5 / 8, "recall": 5 / 6, "support": 6},
        {"name": "b", "precision": 1 / 4, "recall": 1 / 4, "support": 4},
        {"name": "c", "precision": 0.0, "recall": 0.0, "support": 2},  # never predicted
    ]


def test_per_class_is_zero_for_a_class_that_never_occurs() -> None:
    absent = evaluation.per_class(np.array([[2, 1], [0, 0]]), ["there", "absent"])[1]
    assert absent == {"name": "absent", "precision": 0.0, "recall": 0.0, "support": 0}


def test_per_class_can_be_written_as_json() -> None:
    scores = evaluation.per_class(np.eye(2, dtype=np.int64), ["a", "b"])
    assert json.loads(json.dumps(scores)) == scores


def test_most_wrong_lists_only_mistakes_the_most_confident_first() -> None:
    logits = [[4.0, 0.0], [0.0, 1.0], [2.0, 0.0], [0.0, 3.0], [9.0, 0.0]]
    labels = [1, 0, 1, 0, 0]  # the last row is right, with the highest confidence
    assert evaluation.most_wrong(logits, labels).tolist() == [0, 3, 2, 1]
    assert evaluation.most_wrong(logits, labels, count=2).tolist() == [0, 3]


def test_most_wrong_ranks_by_probability_and_not_by_logit() -> None:
    # Logits 10 and 9.9 have nearly equal probabilities; logits 3 and 0 do not.
    assert evaluation.most_wrong([[10.0, 9.9], [3.0, 0.0]], [1, 1]).tolist() == [1, 0]


def test_most_wrong_breaks_ties_by_index_whatever_the_class() -> None:
    row = np.array([5.0, 0.1, 0.2, 0.3, 0.7])
    logits = np.array([np.roll(row, shift) for shift in (3, 0, 4, 1, 2) * 100])
    logits[1::2, :] *= 2  # the odd rows have equal confidence, higher than that of the even ones
    labels = (logits.argmax(axis=1) + 1) % 5
    expected = [*range(1, 500, 2), *range(0, 500, 2)]
    assert evaluation.most_wrong(logits, labels, count=500).tolist() == expected


def test_most_wrong_ranks_probabilities_that_round_to_1() -> None:
    logits = [[50.0, 0.0], [60.0, 0.0], [40.0, 0.0]]
    assert (evaluation.softmax(logits)[:, 0] == 1.0).all()
    assert evaluation.most_wrong(logits, [1, 1, 1]).tolist() == [1, 0, 2]


def test_most_wrong_without_a_mistake_is_empty() -> None:
    found = evaluation.most_wrong([[1.0, 0.0]], [0])
    assert found.shape == (0,)
    assert found.dtype == np.int64


GOOD = [[1.0, 0.0], [0.0, 1.0]]


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        (GOOD, [0, 1, 1], r"logits has 2 entries and labels has 3; give the same number"),
        (GOOD, [0, 2], r"labels\[1\] is 2; give class numbers from 0 to 1"),
        (GOOD, [-1, 0], r"labels\[0\] is -1; give class numbers from 0 to 1"),
        (GOOD, [0.0, 1.0], r"labels are float64; give integers"),
        (GOOD, [True, False], r"labels are bool; give integers"),
        (GOOD, [[0], [1]], r"labels have shape \(2, 1\); give a list"),
        (GOOD, [], r"labels have shape \(0,\)"),
        ([[0.0, 1.0], [np.nan, 0.0]], [0, 1], r"NaN or infinity in 1 of 2 rows \(first: row 1\).*learning rate"),
        ([[np.inf, 0.0]], [0], r"logits hold NaN or infinity in 1 of 1 rows"),
        (np.empty((0, 10)), [], r"logits have shape \(0, 10\)"),
        ([1.0, 2.0], [0], r"logits have shape \(2,\); give one row"),
    ],
)
@pytest.mark.parametrize("metric", [evaluation.cross_entropy, evaluation.accuracy, evaluation.most_wrong])
def test_error_names_bad_logits_or_labels(
    metric: Callable[..., object], logits: Any, labels: Any, message: str
) -> None:
    with pytest.raises(CourseError, match=message):
        metric(logits, labels)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([0, 1], [0], 2), r"labels has 2 entries and predictions has 1"),
        (([0, 1], [0, 5], 2), r"predictions\[1\] is 5; give class numbers from 0 to 1"),
        (([], [], 2), r"labels have shape \(0,\)"),
        (([0], [0], 0), r"num_classes is 0; give a whole number from 1 up"),
    ],
)
def test_error_names_bad_arguments_of_confusion_matrix(arguments: Any, message: str) -> None:
    with pytest.raises(CourseError, match=message):
        evaluation.confusion_matrix(*arguments)


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        ([[1, 2]], r"shape \(1, 2\) beside 2 class_names"),
        ([[0.5, 0.5], [0.0, 1.0]], r"float64 values from 0.0; give counts"),
        ([[1, 0], [-1, 1]], r"values from -1; give counts"),
    ],
)
def test_error_names_a_bad_matrix(matrix: Any, message: str) -> None:
    with pytest.raises(CourseError, match=message):
        evaluation.per_class(matrix, ["a", "b"])


def test_most_wrong_needs_a_positive_count() -> None:
    with pytest.raises(CourseError, match="count is 0"):
        evaluation.most_wrong(GOOD, [0, 1], count=0)


def test_softmax_names_nan() -> None:
    with pytest.raises(CourseError, match="logits hold NaN"):
        evaluation.softmax([[np.nan, 0.0]])


@pytest.mark.parametrize("room", ["evaluation", "plots", "report"])
def test_evaluation_imports_neither_keras_nor_pyplot(room: str) -> None:
    code = (
        f"import sys, keras_course.{room}\n"
        "print([name for name in ('keras', 'torch', 'tensorflow', 'jax', 'matplotlib.pyplot') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


# --- Regression, and binary classification ----------------------------------------------------------------------


def test_the_mean_squared_error_of_the_course() -> None:
    """The slide: ŷ = 4, 3 beside y = 3, 5; squared errors 1 and 4; MSE 2.5, RMSE 1.58."""
    assert evaluation.mean_squared_error([4, 3], [3, 5]) == 2.5
    assert evaluation.root_mean_squared_error([4, 3], [3, 5]) == pytest.approx(1.5811388300841898, rel=1e-15)


def test_mean_squared_error_averages_over_all_axes() -> None:
    random = np.random.default_rng(1)
    predictions, targets = random.normal(size=(2, 5, 3)).astype("float32")
    expected = sum((float(p) - float(t)) ** 2 for p, t in zip(predictions.flat, targets.flat, strict=True)) / 15
    assert evaluation.mean_squared_error(predictions, targets) == pytest.approx(expected, rel=1e-12)
    assert evaluation.root_mean_squared_error(predictions, targets) == pytest.approx(expected**0.5, rel=1e-12)


def test_mean_squared_error_of_bytes_does_not_overflow() -> None:
    assert evaluation.mean_squared_error(np.array([1, 3], "uint8"), np.array([2, 255], "uint8")) == (1 + 252**2) / 2


def test_binary_cross_entropy_by_hand() -> None:
    # -(log 0.9 + log(1 - 0.2) + log 0.3) / 3
    expected = (0.10536051565782628 + 0.2231435513142097 + 1.2039728043259361) / 3
    assert evaluation.binary_cross_entropy([0.9, 0.2, 0.3], [1, 0, 1]) == pytest.approx(expected, rel=1e-14)
    assert evaluation.binary_cross_entropy([[0.5]], [[True]]) == pytest.approx(np.log(2), rel=1e-15)


def test_binary_cross_entropy_agrees_with_scipy_and_with_two_logits() -> None:
    random = np.random.default_rng(2)
    logits, labels = random.normal(scale=3, size=40), random.integers(0, 2, 40)
    expected = -np.mean(scipy.special.log_expit(np.where(labels == 1, logits, -logits)))
    assert evaluation.binary_cross_entropy(scipy.special.expit(logits), labels) == pytest.approx(expected, rel=1e-10)
    two = np.stack([np.zeros(40), logits], axis=1)
    assert evaluation.cross_entropy(two, labels) == pytest.approx(expected, rel=1e-10)


def test_binary_cross_entropy_of_a_certain_mistake_is_infinite() -> None:
    assert evaluation.binary_cross_entropy([0.0], [1]) == np.inf
    assert evaluation.binary_cross_entropy([0.5, 1.0], [1, 0]) == np.inf
    assert evaluation.binary_cross_entropy([5e-324], [1]) == pytest.approx(744.4400719213812)


def test_binary_cross_entropy_of_certain_right_predictions_is_0() -> None:
    loss = evaluation.binary_cross_entropy([0.0, 1.0], [0.0, 1.0])
    assert (loss, np.signbit(loss)) == (0.0, False)


def test_binary_cross_entropy_keeps_tiny_probabilities() -> None:
    assert evaluation.binary_cross_entropy([1e-20], [0]) == pytest.approx(1e-20, rel=1e-12)


REGRESSION = [evaluation.mean_squared_error, evaluation.root_mean_squared_error]


@pytest.mark.parametrize(
    ("predictions", "targets", "message"),
    [
        ([1.0, 2.0], [1.0], r"predictions have shape \(2,\) and targets \(1,\); give the same shape"),
        (np.zeros((3, 1)), np.zeros(3), r"shape \(3, 1\) and targets \(3,\)"),
        ([], [], r"predictions have shape \(0,\); give at least one"),
        ([1.0, np.nan], [1.0, 2.0], r"predictions\[1\] is nan; give finite"),
        ([[1.0, 2.0]], [[1.0, np.inf]], r"targets\[0, 1\] is inf"),
        (np.nan, 1.0, r"predictions is nan"),
    ],
)
@pytest.mark.parametrize("metric", REGRESSION)
def test_error_names_bad_predictions(
    metric: Callable[..., float], predictions: Any, targets: Any, message: str
) -> None:
    with pytest.raises(CourseError, match=message):
        metric(predictions, targets)


@pytest.mark.parametrize(
    ("probabilities", "labels", "message"),
    [
        ([0.5, 1.1], [0, 1], r"probabilities\[1\] is 1.1; give numbers from 0 to 1"),
        ([-0.1, 0.5], [0, 1], r"probabilities\[0\] is -0.1"),
        ([np.nan], [0], r"probabilities\[0\] is nan"),
        ([0.5, 0.5], [0, 2], r"labels\[1\] is 2.0; give 0 or 1"),
        ([0.5], [0.5], r"labels\[0\] is 0.5"),
        ([0.5, 0.5], [1], r"probabilities have shape \(2,\) and labels \(1,\)"),
        ([[0.5], [0.5]], [1, 0], r"shape \(2, 1\) and labels \(2,\)"),
        ([], [], r"probabilities have shape \(0,\)"),
    ],
)
def test_error_names_bad_probabilities(probabilities: Any, labels: Any, message: str) -> None:
    with pytest.raises(CourseError, match=message):
        evaluation.binary_cross_entropy(probabilities, labels)


class TestLanguageModels:
    def test_perplexity_by_hand(self) -> None:
        # the geometric mean of 1/2, 1/4 and 1/8 is 1/4
        assert evaluation.perplexity(np.log([0.5, 0.25, 0.125])) == pytest.approx(4.0, rel=1e-14)
        assert evaluation.perplexity(np.log([[0.5, 0.5], [0.5, 0.5]])) == pytest.approx(2.0, rel=1e-14)
        assert evaluation.perplexity([0.0, 0.0]) == 1.0

    def test_perplexity_of_an_even_guess_is_the_number_of_tokens(self) -> None:
        assert evaluation.perplexity(np.full(7, -np.log(11_753))) == pytest.approx(11_753, rel=1e-12)

    def test_perplexity_is_the_exponential_of_the_cross_entropy(self, logits: np.ndarray, labels: np.ndarray) -> None:
        found = scipy.special.log_softmax(logits.astype(np.float64), axis=1)[np.arange(len(labels)), labels]
        assert evaluation.perplexity(found) == pytest.approx(np.exp(evaluation.cross_entropy(logits, labels)))

    def test_float32_is_summed_in_float64(self) -> None:
        log_probabilities = np.full(1_000_000, -0.1, np.float32)
        assert evaluation.perplexity(log_probabilities) == pytest.approx(np.exp(float(np.float32(0.1))), rel=1e-12)

    def test_bits_per_character_by_hand(self) -> None:
        # 1 + 2 + 3 bits for 12 characters
        assert evaluation.bits_per_character(np.log([0.5, 0.25, 0.125]), 12) == pytest.approx(0.5, rel=1e-14)
        assert str(evaluation.bits_per_character([0.0], 3)) == "0.0"

    def test_bits_per_character_of_even_bytes_is_eight(self) -> None:
        assert evaluation.bits_per_character(np.full(5, -np.log(256)), 5) == pytest.approx(8.0, rel=1e-14)

    @pytest.mark.parametrize("surprise", [-np.inf, -1e300])
    def test_an_impossible_token_makes_the_perplexity_infinite_without_a_warning(self, surprise: float) -> None:
        assert evaluation.perplexity([surprise, -1.0]) == np.inf

    def test_an_impossible_token_needs_infinitely_many_bits(self) -> None:
        assert evaluation.bits_per_character([-np.inf, -1.0], 4) == np.inf

    @pytest.mark.parametrize(
        ("values", "message"),
        [
            ([], r"log_probabilities have shape \(0,\); give at least one number"),
            ([-1.0, 0.5], r"log_probabilities\[1\] is 0.5; give logarithms of probabilities"),
            ([[np.nan]], r"log_probabilities\[0, 0\] is nan; give logarithms"),
        ],
    )
    @pytest.mark.parametrize("metric", [evaluation.perplexity, lambda x: evaluation.bits_per_character(x, 4)])
    def test_what_are_no_logarithms_of_probabilities(self, metric: Callable, values: list[float], message: str) -> None:
        with pytest.raises(CourseError, match=message):
            metric(values)

    @pytest.mark.parametrize("characters", [0, -1, 1.5, True])
    def test_bits_of_no_characters(self, characters: Any) -> None:
        with pytest.raises(CourseError, match=f"characters is {characters}; give a whole number from 1 up"):
            evaluation.bits_per_character([-1.0], characters)


def test_top_accuracy_counts_labels_among_the_largest(logits: np.ndarray, labels: np.ndarray) -> None:
    for count in (1, 3, 6):
        hits = [
            label in sorted(range(6), key=lambda one: -row[one])[:count]
            for row, label in zip(logits, labels, strict=True)
        ]
        assert evaluation.top_accuracy(logits, labels, count) == pytest.approx(np.mean(hits))
    assert evaluation.top_accuracy(logits, labels, 1) == evaluation.accuracy(logits, labels)
    assert evaluation.top_accuracy(logits, labels, 100) == 1


def test_of_equal_logits_the_first_classes_count() -> None:
    assert evaluation.top_accuracy(np.zeros((4, 4)), [0, 1, 2, 3], 2) == 0.5


def test_top_accuracy_names_bad_arguments() -> None:
    with pytest.raises(CourseError, match="count is 0"):
        evaluation.top_accuracy([[1.0, 2.0]], [0], 0)
    with pytest.raises(CourseError):
        evaluation.top_accuracy([[1.0, 2.0]], [2])
