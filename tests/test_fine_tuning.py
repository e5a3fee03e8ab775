"""Transfer learning: heads, fine-tuning, and the cache of features."""

import os
import signal
import subprocess
import sys
import textwrap
import time

import keras
import numpy as np
import pytest
from keras import layers

from keras_course import randomness
from keras_course.augmentation import Augmentation, Brightness, Contrast, Flip, MixUp, Rotation, Shift, Zoom
from keras_course.datasets import photo_folder
from keras_course.errors import CourseError
from keras_course.evaluation import accuracy
from keras_course.models import bert_encoder, text_classifier
from keras_course.pretrained import record_of
from keras_course.pretrained.transfer import (
    backbone_of,
    feature_extractor,
    freeze,
    head_of,
    transfer_classifier,
    unfreeze,
)
from keras_course.training import features as features_module
from keras_course.training import fine_tuning, fit, predict_logits, solve_head
from keras_course.training.features import extract_features
from keras_course.training.fine_tuning import WeightedCrossEntropy, fine_tune, train_head

SHAPE = (12, 12, 3)


def small_backbone(seed=0):
    """Returns two convolutions with batch normalization, and dropout between them."""
    inputs = keras.Input(SHAPE, name="pictures")
    x = layers.Rescaling(1 / 255, name="pixels")(inputs)
    x = layers.Conv2D(6, 3, padding="same", name="first")(x)
    x = layers.BatchNormalization(momentum=0.5, name="first_normalisation")(x)
    x = layers.ReLU(name="first_relu")(x)
    x = randomness.Dropout(0.5, seed=seed, name="drop")(x)
    x = layers.Conv2D(8, 3, padding="same", name="second")(x)
    x = layers.BatchNormalization(momentum=0.5, name="second_normalisation")(x)
    return randomness.initialize(keras.Model(inputs, layers.ReLU(name="second_relu")(x), name="small"), seed=seed)


def photos(count=40, seed=0):
    """Returns bright and dark photos with noise, and their labels."""
    draws = np.random.default_rng(seed)
    labels = np.arange(count, dtype="int32") % 2
    gray = 70 + 90 * labels[:, None, None, None] + draws.normal(0, 20, (count, *SHAPE))
    return np.clip(gray, 0, 255).astype("uint8"), labels


def classifier(**settings):
    return transfer_classifier(backbone=small_backbone(), num_classes=2, **settings)


# --- the model -------------------------------------------------------------------------------------------------


def test_logits_equal_numpy():
    backbone = small_backbone()
    model = transfer_classifier(backbone=backbone, num_classes=3, hidden=(5,), dropout=0.5, seed=4)
    maps = predict_logits(backbone, photos()[0])
    x = maps.mean(axis=(1, 2))
    kernels = {layer.name: layer.get_weights() for layer in model.layers if layer.name in ("hidden1", "logits")}
    x = np.maximum(x @ kernels["hidden1"][0] + kernels["hidden1"][1], 0)
    expected = x @ kernels["logits"][0] + kernels["logits"][1]
    np.testing.assert_allclose(predict_logits(model, photos()[0]), expected, atol=1e-5)
    assert expected.std() > 0.001


def test_the_backbone_keeps_its_weights_and_the_seed_sets_the_head():
    weights = small_backbone().get_weights()
    model, same, other = (
        transfer_classifier(backbone=small_backbone(), num_classes=2, seed=seed) for seed in (1, 1, 2)
    )
    for ours, theirs in zip(backbone_of(model).get_weights(), weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    kernels = [each.get_layer("logits").get_weights()[0] for each in (model, same, other)]
    np.testing.assert_array_equal(kernels[0], kernels[1])
    assert (kernels[0] != kernels[2]).any()


def sequential_backbone():
    return randomness.initialize(keras.Sequential([keras.Input(SHAPE), layers.Conv2D(4, 3, name="only")]), seed=1)


@pytest.mark.parametrize("backbone", [small_backbone, sequential_backbone])
@pytest.mark.parametrize("pool", [True, False])
def test_feature_extractor_and_head_together_equal_the_model(backbone, pool):
    model = transfer_classifier(backbone=backbone(), num_classes=2, hidden=(4,), pool=pool)
    rows, columns, channels = backbone().output_shape[1:]
    assert feature_extractor(model).output_shape == (None, channels if pool else channels * rows * columns)
    x = photos()[0]
    apart = predict_logits(head_of(model), predict_logits(feature_extractor(model), x))
    np.testing.assert_allclose(apart, predict_logits(model, x), atol=1e-6)


@pytest.mark.parametrize("pool", [True, False])
def test_a_saved_model_gives_the_same_logits(tmp_path, pool):
    model = classifier(pool=pool)
    model.save(tmp_path / "model.keras")
    opened = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(predict_logits(opened, photos()[0]), predict_logits(model, photos()[0]), atol=1e-6)
    assert backbone_of(opened).name == "small"
    assert unfreeze(opened) == 6 * 27 + 6 + 12 + 8 * 54 + 8 + 16


@pytest.mark.parametrize(
    ("last", "expected"),
    [(1, {"second_normalisation"}), (2, {"second", "second_normalisation"}), (None, None)],
)
def test_unfreeze_returns_the_number_of_trainable_weights(last, expected):
    model = classifier()
    assert not backbone_of(model).trainable_weights
    counted = unfreeze(model, last=last)
    assert counted == sum(int(np.prod(weight.shape)) for weight in backbone_of(model).trainable_weights)
    names = {layer.name for layer in backbone_of(model).layers if layer.trainable_weights}
    assert names == (expected or {"first", "first_normalisation", "second", "second_normalisation"})
    freeze(model)
    assert not backbone_of(model).trainable_weights
    assert len(model.trainable_weights) == 2


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: classifier(hidden=(0,)), r"hidden\[0\] is 0"),
        (lambda: classifier(dropout=1.0), "dropout is 1.0"),
        (lambda: transfer_classifier(backbone=small_backbone(), num_classes=0), "num_classes is 0"),
        (lambda: transfer_classifier(backbone="resnet", num_classes=2), "there is no pre-trained model 'resnet'"),
        (
            lambda: transfer_classifier(backbone=feature_extractor(classifier()), num_classes=2),
            "ends with feature maps",
        ),
        (lambda: unfreeze(classifier(), last=9), "last is 9, and the backbone has 4 layers with weights"),
        (lambda: unfreeze(classifier(), last=0), "last is 0"),
        (lambda: freeze(small_backbone()), "model 'small' has no backbone"),
    ],
)
def test_error_names_the_bad_argument(make, message):
    with pytest.raises(CourseError, match=message):
        make()


# --- training --------------------------------------------------------------------------------------------------


def test_train_head_equals_fit_with_a_frozen_backbone(tmp_path):
    """Features computed once give the same weights as features computed in each step."""
    data = photos()
    fast, slow = classifier(dropout=0.0, seed=3), classifier(dropout=0.0, seed=3)
    quick = train_head(fast, data, data, epochs=5, batch_size=8, cache=tmp_path, progress=False)
    optimizer = keras.optimizers.AdamW(keras.optimizers.schedules.CosineDecay(0.003, decay_steps=25), weight_decay=0.01)
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    usual = fit(slow, data, data, optimizer=optimizer, epochs=5, batch_size=8, progress=False)
    np.testing.assert_allclose(quick["loss"], usual["loss"], atol=1e-5)
    np.testing.assert_allclose(quick["val_loss"], usual["val_loss"], atol=1e-5)
    np.testing.assert_allclose(predict_logits(fast, data[0]), predict_logits(slow, data[0]), atol=1e-4)


def test_train_head_does_not_change_the_backbone(tmp_path):
    model, data = classifier(), photos()
    before = backbone_of(model).get_weights()
    history = train_head(model, data, photos(seed=1), epochs=60, learning_rate=0.05, cache=tmp_path, progress=False)
    assert history["val_accuracy"][-1] == 1
    assert (predict_logits(model, photos(seed=2)[0]).argmax(axis=-1) == photos(seed=2)[1]).all()
    for ours, theirs in zip(backbone_of(model).get_weights(), before, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("last", [1, None])
def test_fine_tuning_changes_weights_but_no_moving_statistics(last):
    model, data = classifier(), photos()
    before = {weight.path: keras.ops.convert_to_numpy(weight) for weight in backbone_of(model).weights}
    history = fine_tune(model, data, last=last, epochs=2, batch_size=8, learning_rate=0.01, progress=False)
    assert len(history["loss"]) == 2
    changed = {
        weight.path
        for weight in backbone_of(model).weights
        if (keras.ops.convert_to_numpy(weight) != before[weight.path]).any()
    }
    names = {"second_normalisation"} if last else {"first", "first_normalisation", "second", "second_normalisation"}
    # only gamma, beta, kernel and bias change, not the moving statistics and the step counter of dropout
    assert {path.split("/")[-2] for path in changed} == names
    assert {path.split("/")[-1] for path in changed} <= {"kernel", "bias", "gamma", "beta"}


def test_fine_tuning_with_augmentation(tmp_path):
    model, data = classifier(), photos()
    train_head(model, data, epochs=10, learning_rate=0.05, cache=tmp_path, progress=False)
    augment = Augmentation([Flip(horizontal=True), Rotation(20)], seed=1)
    history = fine_tune(model, data, data, epochs=5, augmentation=augment, learning_rate=0.003, progress=False)
    assert history["val_loss"][-1] < history["val_loss"][0]


def test_class_weights_scale_the_loss():
    logits = np.array([[2.0, 0.0, -1.0], [0.5, 0.5, 0.0]], "float32")
    labels = np.array([1, 2])
    shifted = np.exp(logits.astype("float64"))
    losses = -np.log(shifted[[0, 1], labels] / shifted.sum(axis=1))
    loss = WeightedCrossEntropy([1.0, 2.0, 0.5])
    np.testing.assert_allclose(float(loss(labels, logits)), (2 * losses[0] + 0.5 * losses[1]) / 2, rtol=1e-5)
    probabilities = np.eye(3, dtype="float32")[labels]
    np.testing.assert_allclose(float(loss(probabilities, logits)), float(loss(labels, logits)), rtol=1e-6)
    smooth = WeightedCrossEntropy([1.0, 1.0, 1.0], label_smoothing=0.3)
    expected = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.3)(probabilities, logits)
    np.testing.assert_allclose(float(smooth(labels, logits)), float(expected), rtol=1e-5)
    again = WeightedCrossEntropy.from_config(smooth.get_config())
    assert (again.class_weights, again.label_smoothing) == ([1.0, 1.0, 1.0], 0.3)


def test_class_weights_increase_the_recall_of_a_rare_class(tmp_path):
    bright, dark = photos(20)[0][1::2], photos(200, seed=1)[0][::2]  # ten bright and a hundred dark photos
    alike = (0.35 * bright + 0.65 * dark[:10]).astype("uint8")
    x, labels = np.concatenate([dark, alike]), np.repeat(np.array([0, 1], "int32"), (100, 10))

    def recall(class_weights):
        model = classifier(dropout=0.0)
        settings = {"epochs": 20, "learning_rate": 0.03, "cache": tmp_path, "progress": False}
        train_head(model, (x, labels), class_weights=class_weights, **settings)
        return (predict_logits(model, alike).argmax(axis=-1) == 1).mean()

    assert recall([0.55, 5.5]) > recall(None)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"views": 2}, "views is 2, and there is no augmentation"),
        ({"views": 0}, "views is 0"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0"),
        ({"class_weights": [1.0]}, "give a weight from 0 up for each of 2 classes"),
        ({"class_weights": [1.0, -1.0]}, "give a weight from 0 up"),
        ({"class_weights": [0.0, 0.0]}, "give a weight from 0 up"),
        ({"epochs": 0}, "epochs is 0"),
    ],
)
def test_error_names_the_bad_setting(tmp_path, settings, message):
    with pytest.raises(CourseError, match=message):
        train_head(classifier(), photos(), cache=tmp_path, progress=False, **settings)


def test_wrong_labels_are_refused_before_features_are_computed(tmp_path):
    x, labels = photos()
    with pytest.raises(CourseError, match="train has 40 samples and 39 labels"):
        train_head(classifier(), (x, labels[1:]), cache=tmp_path)
    assert not list(tmp_path.iterdir())


# --- the cache of features ---------------------------------------------------------------------------------------


def mean_model():
    return keras.Sequential([keras.Input(SHAPE), layers.GlobalAveragePooling2D()], name="means")


class Counter:
    """Counts the batches that a model computes."""

    def __init__(self, monkeypatch):
        self.count = 0
        real = features_module._backend.forward

        def forward(model, **settings):
            run = real(model, **settings)

            def counted(batch):
                self.count += 1
                return run(batch)

            return counted

        monkeypatch.setattr(features_module._backend, "forward", forward, raising=False)


def test_features_are_computed_once(tmp_path, monkeypatch):
    x, _ = photos()
    counter = Counter(monkeypatch)
    for _ in range(2):
        found = extract_features(mean_model(), x, batch_size=8, cache=tmp_path)
        np.testing.assert_allclose(found, x.mean(axis=(1, 2)), rtol=1e-5)
        assert counter.count == 5


def test_only_new_features_are_computed(tmp_path, monkeypatch):
    x, _ = photos()
    extract_features(mean_model(), x[:20], batch_size=1, cache=tmp_path)
    counter = Counter(monkeypatch)
    order = np.random.default_rng(1).permutation(40)
    found = extract_features(mean_model(), x[order], batch_size=1, cache=tmp_path)
    np.testing.assert_allclose(found, x[order].mean(axis=(1, 2)), rtol=1e-5)
    assert counter.count == 20


def test_a_changed_picture_has_other_features(tmp_path):
    x, _ = photos()
    extract_features(mean_model(), x, cache=tmp_path)
    changed = x.copy()
    changed[7] = 255 - changed[7]
    found = extract_features(mean_model(), changed, cache=tmp_path)
    np.testing.assert_allclose(found, changed.mean(axis=(1, 2)), rtol=1e-5)


def test_another_backbone_has_other_features(tmp_path):
    x, _ = photos()
    first = extract_features(feature_extractor(classifier()), x, cache=tmp_path)
    other = transfer_classifier(backbone=small_backbone(seed=1), num_classes=2)
    expected = predict_logits(feature_extractor(other), x)
    np.testing.assert_allclose(extract_features(feature_extractor(other), x, cache=tmp_path), expected, atol=1e-6)
    assert np.abs(first - expected).max() > 0.01
    scaled = keras.Sequential([keras.Input(SHAPE), layers.Rescaling(2.0), layers.GlobalAveragePooling2D()])
    extract_features(mean_model(), x, cache=tmp_path)
    doubled = extract_features(scaled, x, cache=tmp_path)  # it has no weights but another scale
    np.testing.assert_allclose(doubled, 2 * x.mean(axis=(1, 2)), rtol=1e-5)


def test_views_are_computed_from_augmented_pictures(tmp_path, monkeypatch):
    x, _ = photos(6)
    augment = Augmentation([Rotation(90)], seed=5)
    found = extract_features(mean_model(), x, augmentation=augment, views=3, cache=tmp_path)
    expected = [augment.apply(x, step=view, xp=np).mean(axis=(1, 2)) for view in range(3)]
    np.testing.assert_allclose(found, np.concatenate(expected), rtol=1e-5)
    assert np.abs(expected[0] - expected[1]).max() > 0.5
    counter = Counter(monkeypatch)
    extract_features(mean_model(), x, augmentation=augment, views=3, cache=tmp_path)
    assert counter.count == 0
    extract_features(mean_model(), x, augmentation=Augmentation([Rotation(90)], seed=6), cache=tmp_path)
    assert counter.count == 1


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 not an archive", None])
def test_features_of_a_damaged_file_are_computed_again(tmp_path, damage):
    x, _ = photos()
    extract_features(mean_model(), x, cache=tmp_path)
    (file,) = (tmp_path / "features").rglob("*.npz")
    if damage is None:
        np.savez(file, names=np.zeros((2, 32), "uint8"), features=np.array(["a", "b"]))
    else:
        file.write_bytes(damage)
    found = extract_features(mean_model(), x, cache=tmp_path)
    np.testing.assert_allclose(found, x.mean(axis=(1, 2)), rtol=1e-5)


@pytest.mark.parametrize("shape", [(2,), (5,), (3, 1), ()])
def test_features_of_another_shape_are_computed_again(tmp_path, shape):
    x, _ = photos()
    extract_features(mean_model(), x, cache=tmp_path)
    (file,) = (tmp_path / "features").rglob("*.npz")
    with np.load(file) as kept:
        names = kept["names"]
    np.savez(file, names=names, features=np.zeros((len(names), *shape), "float32"))
    np.testing.assert_allclose(extract_features(mean_model(), x, cache=tmp_path), x.mean(axis=(1, 2)), rtol=1e-5)


def test_temporary_files_are_removed_and_pipes_are_ignored(tmp_path):
    x, _ = photos()
    extract_features(mean_model(), x, cache=tmp_path)
    (file,) = (tmp_path / "features").rglob("*.npz")
    left, mine = file.with_name(f".{'0' * 32}.npz.abcdefgh.part"), file.with_name(".mine.part")
    for path in (left, mine):
        path.write_bytes(b"half")
    os.mkfifo(file.with_name("pipe.npz"))
    extract_features(mean_model(), x, cache=tmp_path)
    assert (left.exists(), mine.exists()) == (False, True)


def test_a_cached_pickle_is_not_opened(tmp_path):
    x, _ = photos()
    extract_features(mean_model(), x, cache=tmp_path)
    (file,) = (tmp_path / "features").rglob("*.npz")

    class Trap:
        def __reduce__(self):
            return open, (str(tmp_path / "ran"), "w")

    np.savez(file, names=np.array([Trap()], dtype=object), features=np.zeros((1, 3), "float32"), allow_pickle=True)
    extract_features(mean_model(), x, cache=tmp_path)
    assert not (tmp_path / "ran").exists()


def test_many_cache_files_are_merged(tmp_path):
    x, _ = photos()
    for row in range(20):
        extract_features(mean_model(), x[row : row + 1], cache=tmp_path)
    assert len(list((tmp_path / "features").rglob("*.npz"))) <= 4
    np.testing.assert_allclose(
        extract_features(mean_model(), x[:20], cache=tmp_path), x[:20].mean(axis=(1, 2)), rtol=1e-5
    )


def test_an_unwritable_cache_causes_only_a_warning(tmp_path, capsys):
    (tmp_path / "features").write_text("a file where the folder should be")
    x, _ = photos()
    found = extract_features(mean_model(), x, cache=tmp_path)
    np.testing.assert_allclose(found, x.mean(axis=(1, 2)), rtol=1e-5)
    assert capsys.readouterr().err.count("the features are not kept") == 1


PROCESS = """
    import sys, time
    import numpy as np
    import keras_course
    import keras
    from keras_course.training import features
    features._PHOTOS_A_FILE = 4
    x = np.arange(40 * 4 * 4 * 3).reshape(40, 4, 4, 3).astype("uint8")
    x[:, 0, 0, 0] = np.arange(40)
    model = keras.Sequential([keras.Input((4, 4, 3)), keras.layers.GlobalAveragePooling2D()])
    def step(count):
        print("done", count, flush=True)
        time.sleep({pause})
    found = features.extract_features(model, x, batch_size=4, cache=sys.argv[1], progress=step)
    assert np.allclose(found, x.mean(axis=(1, 2)), rtol=1e-5)
"""


def start(folder, *, pause=0.0):
    code = textwrap.dedent(PROCESS.format(pause=pause))
    environment = {**os.environ, "KERAS_BACKEND": keras.backend.backend()}
    return subprocess.Popen(
        [sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    )


@pytest.mark.one_backend
def test_a_killed_process_leaves_its_computed_features(tmp_path):
    process = start(tmp_path, pause=0.5)
    for _ in range(3):
        assert process.stdout.readline().startswith(b"done")
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    kept = list((tmp_path / "features").rglob("*.npz"))
    assert len(kept) >= 2
    printed, errors = start(tmp_path).communicate(timeout=300)
    assert not errors or b"Error" not in errors
    computed = printed.split(b"\n")[:-2]  # the last line is for all features
    assert len(computed) <= 10 - len(kept)


@pytest.mark.one_backend
def test_two_parallel_processes_share_a_cache(tmp_path):
    both = [start(tmp_path, pause=0.01) for _ in range(2)]
    for process in both:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
    started = time.monotonic()
    third = start(tmp_path)
    printed, errors = third.communicate(timeout=300)
    assert third.returncode == 0, errors
    assert printed.split() == [b"done", b"40"], time.monotonic() - started


@pytest.mark.parametrize(
    ("pictures", "settings", "message"),
    [
        (np.zeros((2, 5, 5, 3), "uint8"), {}, "pictures has samples of shape"),
        (np.zeros((2, *SHAPE), "float32"), {}, "give uint8"),
        (np.zeros((0, *SHAPE), "uint8"), {}, "has no samples"),
        (np.zeros((2, *SHAPE), "uint8"), {"views": 2}, "there is no augmentation"),
        (np.zeros((2, *SHAPE), "uint8"), {"batch_size": 0}, "batch_size is 0"),
        (np.zeros((2, *SHAPE), "uint8"), {"augmentation": Augmentation([MixUp()])}, "leave out MixUp and CutMix"),
    ],
)
def test_error_names_the_bad_pictures(tmp_path, pictures, settings, message):
    with pytest.raises(CourseError, match=message):
        extract_features(mean_model(), pictures, cache=tmp_path, **settings)


# --- the accuracies in the README ------------------------------------------------------------------------------

FRESH_OR_ROTTEN = {"fresh_*": "fresh", "rotten_*": "rotten"}


def fruit_of(folder, classes):
    """Returns all photos of the shared fruit: the training part, and validation and test parts together."""
    pictures = record_of("efficientnet_lite0").picture_format
    photos = photo_folder.load_data(
        folder / "fruit", picture_format=pictures, classes=classes, valid_parts=("valid", "test")
    )
    assert [len(part[0]) for part in photos.parts] == [448, 192]
    return photos


@pytest.mark.slow
@pytest.mark.parametrize(("name", "classes", "least"), [("16 fruits", None, 0.95), ("fresh", FRESH_OR_ROTTEN, 0.96)])
def test_fruit_accuracy_by_fine_tuning_is_as_claimed(course_data, record_accuracies, tmp_path, name, classes, least):
    """As in lesson 10, by fine-tuning all layers; the mean of three seeds."""
    photos = fruit_of(course_data, classes)
    train, valid = photos.parts
    changes = [Flip(horizontal=True), Rotation(20), Zoom(0.8, 1.25), Shift(0.1, 0.1), Brightness(0.1), Contrast(0.2)]
    accuracies = []
    for seed in range(3):
        model = transfer_classifier(num_classes=len(photos.class_names), seed=seed)
        train_head(model, train, epochs=60, seed=seed, cache=tmp_path, progress=False)
        augment = Augmentation(changes, fill="nearest", seed=seed)
        settings = {"epochs": 6, "learning_rate": 0.0003, "augmentation": augment, "seed": seed}
        fine_tune(model, train, progress=False, **settings)
        accuracies.append(accuracy(predict_logits(model, valid[0], batch_size=32), valid[1]))
    assert np.mean(accuracies) >= least, accuracies
    record_accuracies(name, accuracies)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "classes"), [("16 fruits", None), ("fresh", FRESH_OR_ROTTEN)])
def test_fruit_accuracy_of_a_solved_head_is_as_claimed(course_data, record_accuracies, tmp_path, name, classes):
    photos = fruit_of(course_data, classes)
    solved = solve_head(transfer_classifier(num_classes=len(photos.class_names)), *photos.parts, cache=tmp_path)
    assert solved["val_accuracy"][0] >= 0.96
    record_accuracies(f"{name}, solved", solved["val_accuracy"])


@pytest.mark.one_backend
def test_smoothed_labels_without_class_weights():
    """By hand: each label is 1 - 0.3 + 0.1 for its class, and 0.1 for the two others."""
    probabilities = np.array([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6]])
    labels = np.array([[0.8, 0.1, 0.1], [0.1, 0.1, 0.8]])
    model = keras.Sequential([keras.Input((3,)), layers.Activation("linear")])
    loss = fine_tuning._loss(model, None, 0.3)
    found = float(loss(np.array([0, 2]), np.log(probabilities).astype("float32")))
    assert found == pytest.approx(-(labels * np.log(probabilities)).sum(axis=1).mean(), abs=1e-5)


def test_all_layers_are_unfrozen_after_only_some_were():
    model = classifier()
    some, everything = unfreeze(model, last=1), unfreeze(model)
    assert some < everything == sum(int(np.prod(weight.shape)) for weight in backbone_of(model).trainable_weights)
    backbone_of(model).layers[2].trainable = False
    assert unfreeze(model) == everything
    backbone_of(model).trainable = False
    backbone_of(model).layers[2].trainable = True
    freeze(model)
    assert not backbone_of(model).trainable_weights


# --- texts -----------------------------------------------------------------------------------------------------


def small_texts(count=48, seed=0):
    """Returns tokens with padding, and whether they have more of the tokens above 9 than of those below."""
    draws = np.random.default_rng(seed)
    labels = np.arange(count, dtype="int32") % 2
    tokens = draws.integers(2, 9, (count, 8)) + 8 * labels[:, None] * (draws.random((count, 8)) < 0.8)
    tokens[np.arange(8) >= draws.integers(4, 9, count)[:, None]] = 0
    return tokens.astype("int32"), labels


def small_text_classifier(pooling="mean", seed=0, **settings):
    encoder = bert_encoder(
        vocabulary_size=20, embedding_dim=8, num_layers=2, num_heads=2, intermediate_dim=12, max_positions=12, seed=1
    )
    return text_classifier(encoder, num_classes=2, pooling=pooling, seed=seed, **settings)


@pytest.mark.parametrize("pooling", ["mean", "first"])
def test_a_text_classifier_is_its_features_and_its_head(pooling):
    model, (tokens, _) = small_text_classifier(pooling), small_texts()
    features = predict_logits(feature_extractor(model), tokens)
    assert features.shape == (48, 8)
    assert [layer.name for layer in head_of(model).layers[1:]] == [
        *["pooler"][: pooling == "first"],
        "dropout",
        "logits",
    ]
    expected = predict_logits(model, tokens)
    np.testing.assert_allclose(predict_logits(head_of(model), features), expected, atol=1e-5)
    assert expected.std() > 0.01


def test_features_of_texts_are_those_of_the_model_and_come_from_the_cache(tmp_path):
    model, (tokens, _) = small_text_classifier(), small_texts()
    extractor, computed = feature_extractor(model), []
    found = extract_features(extractor, tokens, cache=tmp_path, progress=computed.append)
    np.testing.assert_allclose(found, predict_logits(extractor, tokens), atol=1e-5)
    again = extract_features(extractor, tokens[::-1].astype("int64"), cache=tmp_path)
    assert (again == found[::-1]).all()
    assert sum(computed) == 48


def test_the_head_of_a_text_classifier_is_trained_and_solved_for_without_its_encoder(tmp_path):
    train, valid = small_texts(), small_texts(seed=1)
    for how in (
        lambda model: train_head(model, train, valid, epochs=30, learning_rate=0.02, cache=tmp_path, progress=False),
        lambda model: solve_head(model, train, valid, cache=tmp_path),
    ):
        model = small_text_classifier()
        before = backbone_of(model).get_weights()
        history = how(model)
        assert all((old == new).all() for old, new in zip(before, backbone_of(model).get_weights(), strict=True))
        assert history["val_accuracy"][-1] == pytest.approx(accuracy(predict_logits(model, valid[0]), valid[1]))
        assert history["val_accuracy"][-1] > 0.8


def test_the_last_block_or_all_of_an_encoder_is_fine_tuned():
    train = small_texts()
    for last, expected in ((1, {"block2"}), (None, {"embedding", "embedding_norm", "block1", "block2"})):
        model = small_text_classifier()
        before = model.get_weights()
        history = fine_tune(model, train, last=last, epochs=6, learning_rate=0.01, progress=False)
        changed = {
            weight.path.split("/")[0]
            for weight, old, new in zip(model.weights, before, model.get_weights(), strict=True)
            if "int" not in weight.dtype and (old != new).any()  # dropout counts its steps
        }
        assert changed == {*expected, "logits"}
        assert history["loss"][-1] < history["loss"][0]
    freeze(model)
    assert {weight.path for weight in model.trainable_weights} == {"logits/kernel", "logits/bias"}
    assert unfreeze(model, last=2) < unfreeze(model)


@pytest.mark.one_backend
def test_a_saved_text_classifier_is_fine_tuned_further(tmp_path):
    model, train = small_text_classifier(), small_texts()
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    expected = predict_logits(model, train[0])
    np.testing.assert_allclose(predict_logits(loaded, train[0]), expected, atol=1e-6)
    assert len(fine_tune(loaded, train, epochs=1, progress=False)["loss"]) == 1
