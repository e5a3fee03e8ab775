"""``solve_head``: linear discriminant analysis, against the Gaussian density of each class for each picture."""

import keras
import numpy as np
import pytest

from keras_course.errors import CourseError
from keras_course.pretrained import transfer_classifier
from keras_course.training import evaluate, predict_logits, solve_head

SHAPE = (2, 2, 2)
CLASSES = 3


def classifier(**settings):
    """Returns a classifier whose features are the pixels, from 0 to 1."""
    pictures = keras.Input(SHAPE)
    backbone = keras.Model(pictures, keras.layers.Rescaling(1 / 255)(pictures))
    return transfer_classifier(backbone=backbone, num_classes=CLASSES, **{"pool": False} | settings)


def wide_classifier():
    """Returns a classifier with more features than photos: 16 sigmoids of each pixel."""
    pictures = keras.Input(SHAPE)
    x = keras.layers.Rescaling(1 / 255)(pictures)
    shades = [keras.layers.Rescaling(number, offset=-number / 2)(x) for number in range(1, 17)]
    curved = keras.layers.Activation("sigmoid")(keras.layers.Concatenate()(shades))
    return transfer_classifier(backbone=keras.Model(pictures, curved), num_classes=CLASSES, pool=False)


def clouds(count=90, seed=0, spread=35):
    """Draws three overlapping classes with one covariance, the first of them the largest."""
    draws = np.random.default_rng(seed)
    labels = np.sort(draws.choice(CLASSES, count, p=(0.5, 0.25, 0.25))).astype("int32")
    means = draws.uniform(90, 160, (CLASSES, 8))
    shape = draws.normal(size=(8, 8)) * spread / 8**0.5
    pixels = means[labels] + draws.normal(size=(count, 8)) @ shape
    order = draws.permutation(count)
    return np.clip(pixels, 0, 255).astype("uint8").reshape(-1, *SHAPE)[order], labels[order]


def shades(pixels):
    """Returns the features of the wide classifier."""
    scales = np.arange(1, 17)
    values = np.concatenate([scale * pixels / 255.0 - scale / 2 for scale in scales], axis=-1)
    return 1 / (1 + np.exp(-values))


def log_likelihoods(x, labels, asked, shrinkage, find=lambda pixels: pixels / 255.0):
    """Returns, for each picture and class, the log density of a Gaussian plus the log prior of the class."""
    x, asked = (find(pixels).reshape(len(pixels), -1) for pixels in (x, asked))
    members = [x[labels == number] for number in range(CLASSES)]
    within = sum((each - each.mean(0)).T @ (each - each.mean(0)) for each in members) / len(x)
    within = (1 - shrinkage) * within + shrinkage * np.trace(within) / len(within) * np.eye(len(within))
    inverse = np.linalg.inv(within)
    found = np.empty((len(asked), CLASSES))
    for row, picture in enumerate(asked):
        for number, each in enumerate(members):
            away = picture - each.mean(0)
            found[row, number] = np.log(len(each) / len(x)) - away @ inverse @ away / 2
    return found


def center_logits(logits):
    """Subtracts the mean over the classes, which changes no probability."""
    return logits - logits.mean(axis=1, keepdims=True)


def cross_entropy(logits, labels):
    likelihoods = np.exp(logits - logits.max(axis=1, keepdims=True))
    return -np.log(likelihoods[np.arange(len(labels)), labels] / likelihoods.sum(axis=1)).mean()


@pytest.mark.parametrize("shrinkage", [0.0, 0.3, 0.9])
def test_logits_are_scaled_log_densities_of_gaussians(tmp_path, shrinkage):
    x, labels = clouds()
    model = classifier()
    solve_head(model, (x, labels), shrinkage=shrinkage, cache=tmp_path)
    logits, expected = center_logits(predict_logits(model, x)), center_logits(log_likelihoods(x, labels, x, shrinkage))
    sharpness = (logits * expected).sum() / (expected**2).sum()
    assert 0.01 < sharpness <= 1 + 1e-4
    np.testing.assert_allclose(logits, sharpness * expected, atol=2e-4 * abs(expected).max())


def test_more_features_than_photos(tmp_path):
    x, labels = clouds()
    model = wide_classifier()
    assert model.get_layer("flatten").output.shape[-1] == 128 > len(x)
    solve_head(model, (x, labels), cache=tmp_path)
    logits, expected = (
        center_logits(found) for found in (predict_logits(model, x), log_likelihoods(x, labels, x, 0.3, shades))
    )
    sharpness = (logits * expected).sum() / (expected**2).sum()
    assert 0.001 < sharpness <= 1 + 1e-4
    np.testing.assert_allclose(logits, sharpness * expected, atol=5e-4 * abs(expected).max())
    with pytest.raises(CourseError, match=r"shrinkage is 0\.0, and the photos do not vary"):
        solve_head(model, (x, labels), shrinkage=0.0, cache=tmp_path)


def test_fold_metrics_use_heads_of_the_other_folds_and_the_best_scale(tmp_path):
    x, labels = clouds(count=50, spread=45)
    solved = solve_head(classifier(), (x, labels), folds=4, cache=tmp_path)
    answers, held_back = np.empty((len(x), CLASSES)), np.empty(len(x), "int64")
    for number in range(CLASSES):  # the photos of each class are assigned to folds in turn
        held_back[labels == number] = np.arange((labels == number).sum()) % 4
    for fold in range(4):
        known = held_back != fold
        answers[~known] = log_likelihoods(x[known], labels[known], x[~known], 0.3)
    assert solved["fold_accuracy"] == [pytest.approx((answers.argmax(1) == labels).mean())]
    assert 0.5 < solved["fold_accuracy"][0] < 1
    count = len(x)

    def smoothed_loss(sharpness):  # smoothed by one photo of unknown class
        anything = np.mean([cross_entropy(sharpness * answers, np.full(count, number)) for number in range(CLASSES)])
        return (count * cross_entropy(sharpness * answers, labels) + anything) / (count + 1)

    best = min(np.geomspace(1e-3, 1, 2000), key=smoothed_loss)
    assert best < 0.99
    assert solved["fold_loss"] == [pytest.approx(cross_entropy(best * answers, labels), abs=1e-4)]


def test_perfect_fold_accuracy_does_not_give_certain_probabilities(tmp_path):
    x, labels = clouds(spread=2)
    solved = solve_head(classifier(), (x, labels), cache=tmp_path)
    assert solved["fold_accuracy"] == [1.0]
    # 90 right answers and one unknown
    assert 0.001 < solved["fold_loss"][0] < 0.05


def test_returned_metrics_equal_those_of_the_model(tmp_path):
    train, valid = clouds(), clouds(seed=1)
    model = classifier()
    solved = solve_head(model, train, valid, cache=tmp_path)
    assert list(solved) == [
        *("epoch", "loss", "accuracy", "val_loss", "val_accuracy", "fold_loss", "fold_accuracy", "seconds")
    ]
    for data, prefix in ((train, ""), (valid, "val_")):
        for name, value in evaluate(model, data).items():
            assert solved[f"{prefix}{name}"] == [pytest.approx(value, abs=1e-5)]


def test_a_group_is_held_out_as_a_whole(tmp_path):
    draws = np.random.default_rng(0)
    photos = draws.integers(0, 256, (36, *SHAPE), "uint8")  # unrelated to their labels
    x, labels = np.repeat(photos, 10, axis=0), np.repeat(np.arange(36) % CLASSES, 10).astype("int32")
    alone = solve_head(classifier(), (x, labels), shrinkage=0.0, cache=tmp_path)
    series = solve_head(classifier(), (x, labels), shrinkage=0.0, groups=np.repeat(np.arange(36), 10), cache=tmp_path)
    assert alone["accuracy"] == series["accuracy"]
    assert alone["fold_accuracy"][0] > alone["accuracy"][0] - 0.1
    assert series["fold_accuracy"][0] < alone["fold_accuracy"][0] - 0.2


def test_the_only_photo_of_a_class_is_never_held_out(tmp_path):
    x, labels = clouds()
    kept = np.concatenate([np.flatnonzero(labels < 2), np.flatnonzero(labels == 2)[:1]])
    x, labels = x[kept], labels[kept]
    model = classifier()
    solved = solve_head(model, (x, labels), folds=2, cache=tmp_path)
    assert predict_logits(model, x[-1:]).argmax() == 2
    answers = np.empty((len(x) - 1, CLASSES))
    for fold in range(2):
        held_back = np.zeros(len(x), bool)
        for number in range(2):
            held_back[np.flatnonzero(labels == number)[fold::2]] = True
        answers[held_back[:-1]] = log_likelihoods(x[~held_back], labels[~held_back], x[held_back], 0.3)
    assert solved["fold_accuracy"] == [pytest.approx((answers.argmax(1) == labels[:-1]).mean())]


def test_pooled_feature_maps_are_supported(tmp_path):
    model = classifier(pool=True, dropout=0.5)
    solved = solve_head(model, clouds(), cache=tmp_path)
    assert [layer.name for layer in model.layers[1:]] == ["backbone", "pool", "dropout", "logits"]
    assert solved["accuracy"] == [pytest.approx(evaluate(model, clouds())["accuracy"])]
    assert not model.get_layer("backbone").model.trainable


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"shrinkage": 1.5}, "shrinkage is 1.5"),
        ({"shrinkage": float("nan")}, "shrinkage is nan"),
        ({"folds": 1}, "folds is 1; give a whole number from 2 up"),
        ({"groups": np.zeros(5)}, r"groups has the shape \(5,\); give one for each of the 90 photos"),
        ({"groups": clouds()[1]}, "no class has two groups of photos"),
    ],
)
def test_bad_settings_are_explained(tmp_path, settings, message):
    with pytest.raises(CourseError, match=message):
        solve_head(classifier(), clouds(), cache=tmp_path, **settings)


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ((clouds()[0], clouds()[1] + 1), "train has labels from 1 to 3"),
        ((clouds()[0], np.eye(CLASSES)[clouds()[1]]), r"train has labels of shape \(90, 3\)"),
        ((clouds()[0][:, :1], clouds()[1]), "train has samples of shape"),
        ((clouds()[0].astype("float32"), clouds()[1]), "pictures are float32; give uint8"),
        ((clouds()[0][:5], clouds()[1]), "train has 5 samples and 90 labels"),
        ((clouds()[0], clouds()[1] % 2), "class 2 has no photos"),
    ],
)
def test_bad_data_are_explained(tmp_path, train, message):
    with pytest.raises(CourseError, match=message):
        solve_head(classifier(), train, cache=tmp_path)


def test_an_unsolvable_head_is_explained(tmp_path):
    with pytest.raises(CourseError, match=r"has hidden layers \(hidden1\); only logits can be solved for"):
        solve_head(classifier(hidden=(4,)), clouds(), cache=tmp_path)
    x, labels = clouds()
    x[..., 0] = 7
    with pytest.raises(
        CourseError, match=r"shrinkage is 0\.0, and the photos do not vary within the classes in every feature"
    ):
        solve_head(classifier(), (x, labels), shrinkage=0.0, cache=tmp_path)
    solve_head(classifier(), (x, labels), cache=tmp_path)
