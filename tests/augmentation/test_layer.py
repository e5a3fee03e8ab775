"""Augmentation: what is drawn, what is applied, each against NumPy and SciPy, and the same on every backend."""

import json
import zipfile

import keras
import numpy as np
import pytest
from scipy import ndimage, stats

from keras_course import augmentation, randomness
from keras_course.augmentation import (
    Augmentation,
    Brightness,
    Contrast,
    Crop,
    CutMix,
    Erasing,
    Flip,
    Light,
    MixUp,
    Noise,
    ResizedCrop,
    Rotation,
    Shear,
    Shift,
    Zoom,
)
from keras_course.errors import CourseError
from keras_course.models import dense_classifier
from keras_course.training import RunDirectory, fit

DRAWS = np.random.default_rng(0)
PICTURES = DRAWS.integers(0, 256, (6, 12, 9, 3)).astype("uint8")
HALF = [np.full(6, 0.5, "float32")]
EVERYTHING = [
    Rotation(20),
    Shift(0.1, 0.2),
    Zoom(0.8, 1.2),
    Shear(10),
    Flip(horizontal=True),
    Crop(scale=(0.7, 1.0)),
    Brightness(0.2),
    Contrast(0.3),
    Light(0.5),
    Noise(0.05),
    Erasing(0.5),
]
OTHER_FORMS = [
    *(
        ResizedCrop(scale=(0.5, 1.0)),
        Rotation((5, 30)),
        Shift((1, 2.5), 1.5, unit="pixels"),
        Shift(0.2, (0.1, 0.3), whole=True),
    ),
    *(Zoom(0.8, 1.2, keep_ratio=False, inverse=True), Shear((5, 20), keep_height=False)),
    *(Contrast(0.5, gray=True), Brightness((0.5, 0.9)), Contrast((0.5, 0.9))),
]
LIBRARIES = [np, keras.ops]


def to_numpy(array):
    return array if isinstance(array, np.ndarray) else keras.ops.convert_to_numpy(array)


def matrix(back):
    a, b, c, d, e, f = (float(np.ravel(value)[0]) for value in back)
    return np.array([[a, b, c], [d, e, f], [0, 0, 1]])


def by_scipy(picture, back, mode, cval=0.0):
    """Warps one picture: SciPy counts rows first, and from the corner."""
    height, width, _ = picture.shape
    rows, columns = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
    places = np.stack([columns - (width - 1) / 2, rows - (height - 1) / 2, np.ones((height, width))])
    x, y, _ = np.einsum("ij,jhw->ihw", matrix(back), places)
    places = [y + (height - 1) / 2, x + (width - 1) / 2]
    channels = [
        ndimage.map_coordinates(picture[..., channel].astype("float64"), places, order=1, mode=mode, cval=cval)
        for channel in range(picture.shape[-1])
    ]
    return np.stack(channels, axis=-1)


# --- Geometry --------------------------------------------------------------------------------------------------

MAPS = [
    (1.0, 0.0, 0.0, 0.0, 1.0, 0.0),
    (0.9, -0.3, 1.7, 0.4, 1.1, -2.3),
    (-1.0, 0.0, 0.25, 0.0, 1.0, 40.0),
    (3.0, 0.5, 0.0, 0.0, 2.5, -0.5),
    (0.2, 0.0, 4.0, 0.0, 0.2, 5.0),
]


@pytest.mark.parametrize("xp", LIBRARIES)
@pytest.mark.parametrize("fill", ["constant", "nearest", "reflect"])
@pytest.mark.parametrize("size", [(12, 9), (1, 9), (12, 1), (1, 1), (2, 2)], ids=str)
def test_a_warp_is_that_of_scipy(size, fill, xp):
    """Also for a picture of one row or one column, whose pixels have no neighbors there."""
    height, width = size
    back = [np.array(values, "float32") for values in zip(*MAPS, strict=True)]
    pictures = np.ascontiguousarray(PICTURES[: len(MAPS), :height, :width], "float32")
    arguments = (pictures, tuple(back))
    if xp is keras.ops:
        arguments = keras.tree.map_structure(keras.ops.convert_to_tensor, arguments)
    found = to_numpy(augmentation.warp(*arguments, fill=fill, fill_value=77.0, xp=xp))
    mode = "grid-constant" if fill == "constant" else fill
    for picture, values, warped in zip(pictures, MAPS, found, strict=True):
        np.testing.assert_allclose(warped, by_scipy(picture, values, mode, 77.0), atol=0.02)


def only(transform, u):
    """What one transform alone makes of the pictures with given draws, in NumPy."""
    back = transform.map([np.full(6, value, "float32") for value in u], 12, 9, np)
    return augmentation.warp(PICTURES.astype("float32"), back)


def test_a_rotation_by_a_right_angle_turns_to_the_left():
    square = PICTURES[:, :9].astype("float32")
    back = Rotation(90).map([np.ones(6, "float32")], 9, 9, np)
    np.testing.assert_allclose(augmentation.warp(square, back), np.rot90(square, axes=(1, 2)), atol=0.01)


def test_a_shift_moves_to_the_right_and_down():
    moved = only(Shift(height=2 / 12, width=3 / 9), [1.0, 1.0])
    expected = np.zeros_like(moved)
    expected[:, 2:, 3:] = PICTURES[:, :-2, :-3]
    np.testing.assert_allclose(moved, expected, atol=0.01)


def test_a_zoom_to_the_double_shows_the_middle():
    back = Zoom(2.0, 2.0).map([HALF[0], HALF[0]], 12, 9, np)
    assert matrix(back).tolist() == [[0.5, 0, 0], [0, 0.5, 0], [0, 0, 1]]


def test_a_zoom_may_have_two_factors():
    back = Zoom(0.5, 1.5, keep_ratio=False).map([np.zeros(6), np.ones(6)], 12, 9, np)
    np.testing.assert_allclose(np.diag(matrix(back)), [2, 1 / 1.5, 1])


def test_a_shear_leaves_rows_in_their_height():
    back = matrix(Shear(45).map([np.ones(6, "float32")], 12, 9, np))
    np.testing.assert_allclose(back, [[1, -1, 0], [0, 1, 0], [0, 0, 1]], atol=1e-6)


@pytest.mark.parametrize(
    ("u", "axes"), [((0.6, 0.6), ()), ((0.4, 0.6), (2,)), ((0.6, 0.4), (1,)), ((0.4, 0.4), (1, 2))]
)
def test_a_flip_is_that_of_numpy(u, axes):
    found = only(Flip(horizontal=True, vertical=True), u)
    np.testing.assert_array_equal(found, np.flip(PICTURES, axes) if axes else PICTURES)


def test_a_crop_shows_a_part():
    back = matrix(Crop(scale=(0.25, 0.25), ratio=(1.0, 1.0)).map([HALF[0]] * 4, 12, 9, np))
    np.testing.assert_allclose(back, [[0.5, 0, 0], [0, 0.5, 0], [0, 0, 1]], atol=1e-6)
    corner = matrix(Crop(scale=(0.25, 0.25), ratio=(1.0, 1.0)).map([HALF[0], HALF[0], *[np.zeros(6)] * 2], 12, 9, np))
    # the left upper quarter: its center is a quarter of the size to the left and above
    np.testing.assert_allclose(corner[:2, 2], [-9 / 4, -12 / 4])


def test_all_geometry_is_one_resampling_of_composed_maps():
    """Turned, then moved: SciPy, with the product of matrices, gives the same in one go."""
    augment = Augmentation([Rotation(30), Shift(0.2, 0.2), Shear(15), Zoom(0.7, 1.3)], fill="nearest", seed=4)
    float_pictures = PICTURES.astype("float32")
    found = augment.apply(float_pictures, step=3, xp=np)
    drawn = augment._numbers_of(augment._draw(PICTURES.shape, 3, 0, np)[0])
    for number, picture in enumerate(float_pictures):
        back = np.eye(3)
        for transform, u in drawn:
            back = back @ matrix(transform.map([value[number : number + 1] for value in u], 12, 9, np))
        np.testing.assert_allclose(found[number], by_scipy(picture, back[:2].ravel(), "nearest"), atol=0.02)


@pytest.mark.parametrize(
    ("transform", "number", "limits"),
    [
        (Rotation(20), lambda back: np.degrees(np.arctan2(back[1, 0], back[0, 0])), (-20, 20)),
        (Shift(0.25, 0.0), lambda back: -back[1, 2] / 12, (-0.25, 0.25)),
        (Shift(0.0, 0.5), lambda back: -back[0, 2] / 9, (-0.5, 0.5)),
        (Zoom(0.5, 1.5), lambda back: 1 / back[0, 0], (0.5, 1.5)),
        (Crop(scale=(0.3, 0.6), ratio=(1.0, 1.0)), lambda back: back[0, 0] * back[1, 1], (0.3, 0.6)),
    ],
    ids=["rotation", "shift_down", "shift_right", "zoom", "crop"],
)
def test_what_is_drawn_is_uniform_within_its_limits(transform, number, limits):
    augment = Augmentation([transform])
    ((_, u),) = augment._numbers_of(augment._draw((2000, *PICTURES.shape[1:]), 0, 0, np)[0])
    numbers = [number(matrix(transform.map([v[i : i + 1] for v in u], 12, 9, np))) for i in range(2000)]
    assert min(numbers) >= limits[0] - 1e-4
    assert max(numbers) <= limits[1] + 1e-4
    assert stats.kstest(numbers, stats.uniform(limits[0], limits[1] - limits[0]).cdf).pvalue > 0.001


# --- Color, noise, erasing ------------------------------------------------------------------------------------


@pytest.mark.parametrize("gray", [(False, False), (True, False), (False, True), (True, True)], ids=str)
def test_color_is_applied_in_the_order_of_the_list(gray):
    transforms = [Contrast(0.5, gray=gray[0]), Brightness(0.5), Contrast(0.2, gray=gray[1])]
    augment = Augmentation(transforms, value_range=(-1e6, 1e6), seed=2)
    pictures = PICTURES.astype("float32")
    found = augment.apply(pictures, step=0, xp=np)
    (_, (first,)), (_, (second,)), (_, (third,)) = augment._numbers_of(augment._draw(PICTURES.shape, 0, 0, np)[0])
    for number, picture in enumerate(pictures.astype("float64")):
        expected = picture
        for factor, is_gray in (
            (0.5 + first[number], gray[0]),
            (0.5 + second[number], None),
            (0.8 + 0.4 * third[number], gray[1]),
        ):
            mean = (expected @ [0.2989, 0.587, 0.114] if is_gray else expected).mean()
            expected = expected * factor + (0 if is_gray is None else mean * (1 - factor))
        np.testing.assert_allclose(found[number], expected, atol=1e-3)


@pytest.mark.parametrize("xp", LIBRARIES)
def test_light_comes_from_one_side_and_follows_color(xp):
    augment = Augmentation([Light(0.8), Brightness(0.5)], value_range=(-100, 1e6), seed=4)
    pictures = PICTURES.astype("float32")
    found = to_numpy(augment.apply(pictures, step=0, xp=xp))
    (_, (direction, slope)), (_, (factor,)) = augment._numbers_of(augment._draw(PICTURES.shape, 0, 0, np)[0])
    for number, picture in enumerate(pictures.astype("float64")):
        for row, column in [(0, 0), (0, 8), (11, 0), (11, 8), (3, 5)]:
            right, below = 2 * column / 8 - 1, 2 * row / 11 - 1
            angle = 2 * np.pi * direction[number]
            light = 1 + 0.8 * slope[number] * (np.cos(angle) * right + np.sin(angle) * below)
            expected = (picture[row, column] * (0.5 + factor[number]) + 100) * light - 100
            np.testing.assert_allclose(found[number, row, column], expected, atol=1e-2)


def test_light_leaves_the_middle_and_a_black_picture_as_they_are():
    pictures = np.full((40, 5, 7, 1), 100, "uint8")
    lit = Augmentation([Light(1.0)], seed=1).apply(pictures, step=0, xp=np)
    assert set(lit[:, 2, 3, 0].tolist()) == {100}
    assert lit.min() == 0, "two edges away from the light nothing is left"
    assert lit.max() > 200
    black = np.zeros_like(pictures)
    np.testing.assert_array_equal(Augmentation([Light(1.0)]).apply(black, step=0, xp=np), black)


def test_values_stay_within_their_range():
    found = Augmentation([Brightness(1.0), Noise(0.5)]).apply(PICTURES, step=0, xp=np)
    assert found.dtype == np.uint8
    bright = Augmentation([Brightness(1.0)], value_range=(0, 1)).apply(PICTURES / np.float32(255), step=1, xp=np)
    assert bright.dtype == np.float32
    assert bright.min() >= 0
    assert bright.max() <= 1


def test_noise_has_its_deviation():
    gray = np.full((64, 20, 20, 1), 128, "float32")
    noise = Augmentation([Noise(0.1)]).apply(gray, step=0, xp=np) - 128
    assert noise.std() == pytest.approx(25.5, rel=0.02)
    assert abs(noise.mean()) < 0.5
    other = Augmentation([Noise(0.1)]).apply(gray, step=1, xp=np) - 128
    assert abs(np.corrcoef(noise.ravel(), other.ravel())[0, 1]) < 0.02


def test_erasing_paints_one_rectangle_of_the_drawn_area():
    white = np.full((400, 40, 50, 1), 255, "uint8")
    augment = Augmentation([Erasing(0.5, scale=(0.1, 0.3), value=9)])
    erased = augment.apply(white, step=0, xp=np)[..., 0] == 9
    share = erased.mean(axis=(1, 2))
    assert np.mean(share > 0) == pytest.approx(0.5, abs=0.08)
    assert share[share > 0].min() > 0.08
    assert share.max() < 0.33
    for picture in erased[share > 0]:
        rows, columns = picture.any(axis=1), picture.any(axis=0)
        np.testing.assert_array_equal(picture, rows[:, None] & columns[None, :])


# --- Mixing ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [0.2, 0.5, 1.0, 4.0])
def test_the_share_of_the_neighbor_is_the_smaller_of_a_beta(alpha):
    u = (np.arange(4000, dtype="float32") + 0.5) / 4000
    shares = MixUp(alpha).share([u], np)
    assert shares.min() >= 0
    assert shares.max() <= 0.5
    expected = stats.beta(alpha, alpha).cdf(np.sort(shares)) * 2  # folded at one half
    np.testing.assert_allclose(expected, u, atol=0.004)


@pytest.mark.parametrize("xp", LIBRARIES)
def test_mixup_mixes_pictures_and_labels_alike(xp):
    augment = Augmentation([MixUp(1.0)], num_classes=4, seed=1)
    pictures, labels = PICTURES.astype("float32"), np.array([0, 1, 2, 3, 0, 1])
    mixed, probabilities = map(to_numpy, augment.apply(pictures, labels, step=0, xp=xp))
    share = 1 - probabilities[np.arange(6), labels]
    assert share.min() > 0
    assert share.max() <= 0.5
    np.testing.assert_allclose(probabilities[np.arange(6), np.roll(labels, -1)], share, atol=1e-6)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-6)
    share = share[:, None, None, None]
    np.testing.assert_allclose(mixed, (1 - share) * pictures + share * np.roll(pictures, -1, axis=0), atol=1e-3)


@pytest.mark.parametrize("xp", LIBRARIES)
def test_cutmix_mixes_labels_by_area(xp):
    augment = Augmentation([CutMix(1.0)], num_classes=4, seed=1)
    pictures = np.broadcast_to(np.arange(6, dtype="float32")[:, None, None, None], (6, 12, 9, 1)).copy()
    labels = np.eye(4)[[0, 1, 2, 3, 0, 1]]
    mixed, probabilities = map(to_numpy, augment.apply(pictures, labels, step=2, xp=xp))
    changed = (mixed != pictures)[..., 0]
    assert set(np.unique(mixed - pictures)) <= {0.0, 1.0, -5.0}
    for picture in changed:
        np.testing.assert_array_equal(picture, picture.any(axis=1)[:, None] & picture.any(axis=0)[None, :])
    share = changed.mean(axis=(1, 2))
    assert share.max() > 0.05
    np.testing.assert_allclose(
        probabilities, (1 - share[:, None]) * labels + share[:, None] * np.roll(labels, -1, axis=0), atol=1e-6
    )


# --- All together ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fill", "transforms"),
    [("constant", EVERYTHING), ("nearest", EVERYTHING), ("reflect", EVERYTHING), ("nearest", OTHER_FORMS)],
    ids=["constant", "nearest", "reflect", "other_forms"],
)
def test_a_backend_draws_and_applies_what_numpy_does(fill, transforms):
    augment = Augmentation(transforms, fill=fill, fill_value=30, seed=7)
    expected = augment.apply(PICTURES.astype("float32"), step=5, xp=np)
    found = to_numpy(augment.apply(keras.ops.convert_to_tensor(PICTURES.astype("float32")), step=5))
    np.testing.assert_allclose(found, expected, atol=0.255)
    assert np.abs(expected - PICTURES).mean() > 20
    whole = to_numpy(augment.apply(keras.ops.convert_to_tensor(PICTURES), step=5))
    assert whole.dtype == np.uint8
    np.testing.assert_allclose(whole, np.round(expected), atol=1)


def test_what_is_drawn_depends_on_seed_step_name_and_place():
    def changed(step=0, seed=0, name="a", first=0, count=6):
        augment = Augmentation([*EVERYTHING], seed=seed, name=name)
        return augment.apply(PICTURES[first : first + count], step=step, first_row=first, xp=np)

    assert np.array_equal(changed(), changed())
    for other in (changed(step=1), changed(seed=1), changed(name="b")):
        assert not np.array_equal(changed(), other)
    np.testing.assert_array_equal(changed()[2:5], changed(first=2, count=3))


def test_a_large_batch_is_changed_as_its_pictures_are_one_by_one():
    pictures = np.random.default_rng(1).integers(0, 256, (7, 240, 250, 3)).astype("uint8")
    augment = Augmentation(EVERYTHING, seed=2)
    alone = [augment.apply(pictures[row : row + 1], step=4, first_row=row, xp=np) for row in range(7)]
    np.testing.assert_array_equal(augment.apply(pictures, step=4, xp=np), np.concatenate(alone))
    found = to_numpy(augment.apply(keras.ops.convert_to_tensor(pictures), step=4))
    assert np.abs(found.astype(int) - np.concatenate(alone)).mean() < 0.01  # of 255: few places are a rounding apart


@pytest.mark.parametrize("kind", ["uint8", "float32"])
def test_the_number_of_a_step_may_be_a_tensor(kind):
    augment = Augmentation(EVERYTHING, seed=2)
    pictures = keras.ops.convert_to_tensor(PICTURES.astype(kind))
    expected = to_numpy(augment.apply(pictures, step=9, first_row=3))
    step, row = (keras.ops.convert_to_tensor(number, "int32") for number in (9, 3))
    np.testing.assert_allclose(to_numpy(augment.apply(pictures, step=step, first_row=row)), expected, atol=0.255)
    assert not np.allclose(to_numpy(augment.apply(pictures, step=8, first_row=3)), expected, atol=1)


def test_no_pictures_are_no_pictures():
    for xp in LIBRARIES:
        none = PICTURES[:0] if xp is np else keras.ops.convert_to_tensor(PICTURES[:0])
        assert to_numpy(Augmentation(EVERYTHING).apply(none, step=0, xp=xp)).shape == (0, 12, 9, 3)


@pytest.mark.parametrize("with_keras", [False, True], ids=["fit", "keras.Model.fit"])
def test_as_a_layer_it_changes_each_batch_that_a_model_is_trained_on(with_keras):
    x, y = np.resize(PICTURES, (28, 12, 9, 3)).astype("float32"), np.arange(28) % 3
    inputs = keras.Input((12, 9, 3))
    layer = Augmentation([Rotation(20), Shift(0.1, 0.1), Contrast(0.3)], seed=5)
    head = dense_classifier(input_shape=(12, 9, 3), hidden=(), num_classes=3)
    model = keras.Model(inputs, head(layer(inputs)))
    head.set_weights([np.zeros_like(weight) for weight in head.get_weights()])
    losses = numpy_curve(x, y, layer, batch_size=8, learning_rate=0.01, epochs=2)
    expected = [np.average(losses[4 * epoch : 4 * epoch + 4], weights=[8, 8, 8, 4]) for epoch in range(2)]
    order = [randomness.permutation(randomness.stream_key(0, "shuffle"), 28, step=epoch) for epoch in range(2)]
    if with_keras:
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(optimizer=keras.optimizers.SGD(0.01), loss=loss)
        found = [
            model.fit(x[rows], y[rows], batch_size=8, shuffle=False, verbose=0).history["loss"][0] for rows in order
        ]
    else:
        settings = {"optimizer": keras.optimizers.SGD(0.01), "epochs": 2, "batch_size": 8, "progress": False}
        found = fit(model, (x, y), **settings)["loss"]
    np.testing.assert_allclose(found, expected, rtol=2e-4)
    assert int(layer.step.value) == 8


def test_in_a_model_it_changes_pictures_in_training_only():
    inputs = keras.Input((12, 9, 3))
    layer = Augmentation([Rotation(40)], name="augment")
    model = keras.Model(inputs, layer(inputs))
    pictures = PICTURES.astype("float32")
    np.testing.assert_array_equal(to_numpy(model(pictures, training=False)), pictures)
    first, second = (to_numpy(model(pictures, training=True)) for _ in range(2))
    np.testing.assert_allclose(first, layer.apply(pictures, step=0, xp=np), atol=0.255)
    np.testing.assert_allclose(second, layer.apply(pictures, step=1, xp=np), atol=0.255)


def test_a_model_with_it_is_saved_and_loaded(tmp_path):
    inputs = keras.Input((12, 9, 3))
    layer = Augmentation(EVERYTHING, fill="reflect", seed=3, name="augment")
    keras.Model(inputs, layer(inputs)).save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True).get_layer("augment")
    assert loaded.transforms == layer.transforms
    np.testing.assert_array_equal(loaded.apply(PICTURES, step=1, xp=np), layer.apply(PICTURES, step=1, xp=np))


def test_a_model_of_before_the_package_opens(tmp_path):
    """It names the module ``keras_course.augmentation``, in which the layer was defined."""
    layer = Augmentation([Rotation(20), Light(0.5)], seed=3, name="augment")
    keras.Sequential([keras.Input((12, 9, 3)), layer]).save(tmp_path / "model.keras")
    with zipfile.ZipFile(tmp_path / "model.keras") as new, zipfile.ZipFile(tmp_path / "old.keras", "w") as old:
        for name in new.namelist():
            content = new.read(name)
            old.writestr(name, content.replace(type(layer).__module__.encode(), b"keras_course.augmentation"))
    loaded = keras.saving.load_model(tmp_path / "old.keras").get_layer("augment")
    np.testing.assert_array_equal(loaded.apply(PICTURES, step=1, xp=np), layer.apply(PICTURES, step=1, xp=np))


def numpy_curve(x, y, augment, *, batch_size, learning_rate, epochs):
    """A linear classifier in NumPy, from weights of 0, on the batches that `fit` shows and the pictures it makes."""
    weights, bias, losses = np.zeros((12 * 9 * 3, 3)), np.zeros(3), []
    key = randomness.stream_key(0, "shuffle")
    for epoch in range(epochs):
        order = randomness.permutation(key, len(x), step=epoch)
        for first in range(0, len(x), batch_size):
            rows = order[first : first + batch_size]
            pictures, labels = augment.apply(x[rows], y[rows], step=len(losses), xp=np)
            targets = labels if labels.ndim == 2 else np.eye(3)[labels]
            flat = pictures.reshape(len(rows), -1) / 255.0
            logits = flat @ weights + bias
            p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
            losses.append(-np.mean((targets * np.log(p)).sum(axis=1)))
            slope = (p - targets) / len(rows)
            weights, bias = weights - learning_rate * flat.T @ slope, bias - learning_rate * slope.sum(axis=0)
    return losses


@pytest.mark.parametrize("mixing", [[], [MixUp(1.0)], [CutMix(1.0)]], ids=repr)
def test_fit_changes_each_batch_inside_its_step(mixing):
    x = np.resize(PICTURES, (28, 12, 9, 3)).astype("float32")
    y = np.arange(28) % 3
    augment = Augmentation([Rotation(20), Shift(0.1, 0.1), Contrast(0.3), *mixing], num_classes=3, seed=5)
    model = dense_classifier(input_shape=(12, 9, 3), hidden=(), num_classes=3)
    model.set_weights([np.zeros_like(weight) for weight in model.get_weights()])
    optimizer = keras.optimizers.SGD(0.01)
    settings = {"epochs": 3, "batch_size": 8, "augmentation": augment, "progress": False}
    history = fit(model, (x, y), (x, y), optimizer=optimizer, **settings)
    losses = numpy_curve(x, y, augment, batch_size=8, learning_rate=0.01, epochs=3)
    expected = [np.average(losses[4 * epoch : 4 * epoch + 4], weights=[8, 8, 8, 4]) for epoch in range(3)]
    np.testing.assert_allclose(history["loss"], expected, rtol=2e-4)


def test_an_augmented_run_is_not_gone_on_with_without(tmp_path):
    x, y = PICTURES, np.arange(6) % 3

    def train(augment, *, epochs, resume=False):
        with RunDirectory(tmp_path / "run", resume=resume) as run:
            model = dense_classifier(input_shape=(12, 9, 3), hidden=(), num_classes=3)
            return fit(model, (x, y), epochs=epochs, augmentation=augment, run=run, progress=False)

    first = train(Augmentation([Rotation(10)]), epochs=1)
    with pytest.raises(CourseError, match="the run to resume has augmentation"):
        train(None, epochs=2, resume=True)
    with pytest.raises(CourseError, match="the run to resume has augmentation"):
        train(Augmentation([Rotation(20)]), epochs=2, resume=True)
    assert train(Augmentation([Rotation(10)]), epochs=2, resume=True)["loss"][0] == first["loss"][0]


def test_numbers_of_numpy_are_those_of_python(tmp_path):
    """Also in what a saved model, or a checkpoint, holds."""
    numpy = [
        *(
            Rotation(np.float64(20)),
            Rotation(np.array([-5, 10])),
            Shift(np.float32(0.5), [np.int64(1), 0]),
            Zoom(np.int32(1), 2),
        ),
        *(Shear(np.array(10)), Flip(np.True_, np.False_), Crop([np.float64(0.5), 1], np.array([1.0, 2.0]))),
        *(Brightness(np.float64(0.25)), Contrast(np.array([0.5, 1.5])), Light(np.float64(0.5)), Noise(np.float64(0.5))),
        *(Erasing(np.float64(0.5), np.array([0.25, 0.5]), value=np.uint8(7)), MixUp(np.float64(0.5))),
    ]
    python = [
        *(Rotation(20.0), Rotation((-5, 10)), Shift(0.5, (1, 0)), Zoom(1, 2)),
        *(Shear(10), Flip(0.5, 0.0), Crop((0.5, 1), (1.0, 2.0))),
        *(Brightness(0.25), Contrast((0.5, 1.5)), Light(0.5), Noise(0.5)),
        *(Erasing(0.5, (0.25, 0.5), value=7), MixUp(0.5)),
    ]
    settings = {"num_classes": 3, "seed": 5, "fill_value": 4.0, "value_range": (0.0, 8.0)}
    of_numpy = {name: np.array(value)[()] for name, value in settings.items()}
    configs = [Augmentation(numpy, **of_numpy).get_config(), Augmentation(python, **settings).get_config()]
    assert json.dumps(configs[0]) == json.dumps(configs[1])
    again = Augmentation.from_config(json.loads(json.dumps(configs[0])))
    assert again.transforms == tuple(python)


def test_what_a_later_version_knows_is_not_described_where_it_is_not_used():
    """So a run of an earlier version is resumed, and features that it has kept are found."""
    config = Augmentation([Shift(0.1), Zoom(0.5, 1), Shear(5), Contrast(0.5)]).get_config()["transforms"]
    assert config == [
        {"kind": "Shift", "height": 0.1, "width": 0.0},
        {"kind": "Zoom", "low": 0.5, "high": 1, "keep_ratio": True},
        {"kind": "Shear", "degrees": 5},
        {"kind": "Contrast", "change": 0.5},
    ]
    assert Shift(0.1, unit="pixels").describe() == {"kind": "Shift", "height": 0.1, "width": 0.0, "unit": "pixels"}


def test_the_gray_mean_of_contrast_keeps_its_saved_name():
    layer = Augmentation([Contrast(0.5, gray=True)])
    config = layer.get_config()
    assert config["transforms"] == [{"kind": "Contrast", "change": 0.5, "grey": True}]
    assert Augmentation.from_config(json.loads(json.dumps(config))).transforms == layer.transforms


def test_nothing_to_do_changes_nothing():
    np.testing.assert_array_equal(Augmentation([]).apply(PICTURES, step=0, xp=np), PICTURES)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Rotation(-1), "degrees is -1; give a number from 0 to 360"),
        (lambda: Shift(height=2), "height is 2; give a fraction"),
        (lambda: Zoom(1.2, 0.8), r"low is 1.2; give a factor above 0 and up to high, 0.8"),
        (lambda: Shear(90), "degrees is 90"),
        (lambda: Crop(scale=(0.9, 0.5)), r"scale is \(0.9, 0.5\)"),
        (lambda: Brightness(2), "change is 2"),
        (lambda: Light(-0.1), "change is -0.1; give a fraction from 0 to 1"),
        (lambda: Erasing(1.5), "probability is 1.5"),
        (lambda: MixUp(0), "alpha is 0"),
        (lambda: Rotation("15"), "degrees is '15'; give a number"),
        (lambda: Rotation(True), "degrees is True; give a number"),
        (lambda: Rotation(float("nan")), "degrees is nan; give a number"),
        (lambda: Rotation((20, 10)), r"degrees is \(20, 10\); give .* two rising numbers"),
        (lambda: Rotation((1, 2, 3)), r"degrees is \(1, 2, 3\); give"),
        (lambda: Shear([-100, 0]), r"degrees is \(-100, 0\); give"),
        (lambda: Shear(10, keep_height="no"), "keep_height is 'no'; give True or False"),
        (lambda: Shift(width=None), "width is None; give a fraction"),
        (lambda: Shift(width=(0.1, 2.0)), r"width is \(0.1, 2.0\); give a fraction"),
        (lambda: Shift(width=()), r"width is \(\); give"),
        (lambda: Shift(height=-3, unit="pixels"), "height is -3; give a number from 0 up"),
        (lambda: Shift(height=3, unit="meters"), "unit is 'meters'; give 'fraction' or 'pixels'"),
        (lambda: Zoom(0.8, float("inf")), "high is inf; give a factor above 0"),
        (lambda: Zoom(float("nan"), 1), "low is nan; give a factor above 0 and up to high, 1"),
        (lambda: Zoom((0.8, 1.2), 1), r"low is \(0.8, 1.2\); give a factor"),
        (lambda: Flip(horizontal=np.float32(2)), "horizontal is 2.0; give a probability"),
        (lambda: Flip("horizontal"), "horizontal is 'horizontal'; give a probability"),
        (lambda: Crop(scale=0.5), "scale is 0.5; give two rising fractions"),
        (lambda: Crop(ratio=np.array([2.0, 1.0])), r"ratio is \(2.0, 1.0\); give two rising numbers"),
        (lambda: ResizedCrop(scale=(0.5, float("nan"))), r"scale is \(0.5, nan\)"),
        (lambda: Brightness((1.2, 0.8)), r"change is \(1.2, 0.8\); give .* two rising factors"),
        (lambda: Contrast((-1, 1)), r"change is \(-1, 1\); give"),
        (lambda: Contrast(0.5, gray=None), "gray is None; give True or False"),
        (lambda: Noise("0.1"), "deviation is '0.1'; give a fraction"),
        (lambda: Erasing(value="red"), "value is 'red'; give a number"),
        (lambda: MixUp("0.2"), "alpha is '0.2'; give a number above 0"),
        (lambda: Augmentation(Rotation(5)), r"transforms is Rotation\(degrees=5\); give a list of transforms"),
        (lambda: Augmentation(5), "transforms is 5; give a list of transforms"),
        (lambda: Augmentation([Rotation]), "transforms has <class .*Rotation'>; give some of Rotation, "),
        (lambda: Augmentation([], fill=None), "fill is None; give one of constant"),
        (lambda: Augmentation([], value_range=5), "value_range is 5; give two rising numbers"),
        (
            lambda: Augmentation([], value_range=(0, float("inf"))),
            r"value_range is \(0, inf\); give two rising numbers",
        ),
        (lambda: Augmentation([], value_range=(1, 1)), r"value_range is \(1, 1\); give two rising numbers"),
        (lambda: Augmentation([], fill_value="black", fill="nearest"), "fill_value is 'black'; give a number"),
        (lambda: Augmentation([], num_classes=2.5), "num_classes is 2.5; give a whole number from 1 up"),
        (lambda: Augmentation([], num_classes=0), "num_classes is 0; give a whole number from 1 up"),
        (lambda: Augmentation([], num_classes=True), "num_classes is True; give a whole number from 1 up"),
        (lambda: Augmentation([], num_classes="3"), "num_classes is '3'; give a whole number from 1 up"),
        (lambda: Augmentation([], seed=1.5), "seed is 1.5; give a whole number"),
        (lambda: Augmentation([], fill_mode="nearest"), "fill_mode is no argument of Augmentation; do you mean fill?"),
        (lambda: Augmentation(["rotate"]), "transforms has 'rotate'; give some of Rotation, Shift"),
        (lambda: Augmentation([], fill="mirror"), "fill is 'mirror'; give one of constant, nearest, reflect"),
        (lambda: Augmentation([], value_range=(1, 0)), r"value_range is \(1, 0\)"),
        (
            lambda: Augmentation([Rotation(5)], fill_value=300),
            r"fill_value is 300; give .* value_range, \(0.0, 255.0\)",
        ),
        (
            lambda: Augmentation([Rotation(5)], fill_value=float("nan")),
            "fill_value is nan; give a number within value_range",
        ),
        (lambda: Augmentation([Erasing(value=-1)]), r"value=-1\) is -1; give a number within value_range"),
        (lambda: Augmentation([Erasing(value=2)], value_range=(0, 1)), r"is 2; give .* value_range, \(0, 1\)"),
        (lambda: Augmentation([MixUp()]).apply(PICTURES, step=0, xp=np), "labels are missing"),
        (
            lambda: Augmentation([MixUp()]).apply(PICTURES, np.zeros(6, int), step=0, xp=np),
            "num_classes is missing",
        ),
    ],
)
def test_bad_input_is_explained(make, message):
    with pytest.raises(CourseError, match=message):
        make()


@pytest.mark.parametrize("xp", LIBRARIES)
@pytest.mark.parametrize("limits", [(0, 300), (-1, 1)], ids=str)
def test_a_range_that_bytes_do_not_have_is_refused_for_them(limits, xp):
    """What a byte makes of 300, or of -1, differs from backend to backend."""
    augment = Augmentation([Brightness(0.5)], value_range=limits)
    with pytest.raises(CourseError, match=r"value_range is \(.*\) and images are uint8; give a range from 0 to 255"):
        augment.apply(PICTURES, step=0, xp=xp)
    augment.apply(PICTURES.astype("float32"), step=0, xp=xp)


def test_a_range_without_zero_needs_a_value_for_outside_only_where_something_is_moved():
    pictures = np.full((2, 3, 3, 1), 1.5, "float32")
    brighter = Augmentation([Brightness(0.1)], value_range=(1, 2)).apply(pictures, step=0, xp=np)
    assert np.all(brighter != pictures)
    with pytest.raises(CourseError, match=r"fill_value is 0\.0; give a number within value_range"):
        Augmentation([Shift(0.1)], value_range=(1, 2))
    assert Augmentation.like_torchvision(brightness=0.1, value_range=(1, 2)).transforms == (Brightness(0.1),)
    with pytest.raises(CourseError, match=r"fill is 0\.0; give a number within value_range"):
        Augmentation.like_torchvision(degrees=5, value_range=(1, 2))


# --- The two older ways of saying it ---------------------------------------------------------------------------
# That they mean what they say is tested in test_as_keras.py and _backend/test_torchvision.py.


def test_the_arguments_of_image_data_generator():
    augment = Augmentation.like_image_data_generator(
        rotation_range=20,
        width_shift_range=0.1,
        height_shift_range=[2, 3],
        shear_range=5,
        zoom_range=(0.8, 1.25),
        brightness_range=(0.7, 1.2),
        horizontal_flip=np.True_,
        fill_mode="constant",
        cval=np.float32(0.5),
        value_range=(0, 1),
        rescale=None,
        featurewise_center=np.False_,
        seed=4,
    )
    assert augment.transforms == (
        Rotation(20),
        Shift(width=0.1),
        Shift(height=(2, 3), unit="pixels"),
        Shear(5, keep_height=False),
        Zoom(0.8, 1.25, keep_ratio=False, inverse=True),
        Flip(0.5, 0.0),
        Brightness((0.7, 1.2)),
    )
    assert (augment.fill, augment.fill_value, augment.seed) == ("constant", 0.5, 4)
    assert Augmentation.like_image_data_generator().transforms == ()


def test_the_arguments_of_torchvision():
    augment = Augmentation.like_torchvision(
        degrees=(10, 20),
        translate=(0.1, 0.2),
        scale=(0.8, 1.2),
        shear=5,
        crop_scale=(0.5, 1.0),
        horizontal_flip=0.3,
        brightness=0.2,
        contrast=(0.4, 1.0),
        fill=(7, 7, 7),
        interpolation="bilinear",
    )
    assert augment.transforms == (
        *(ResizedCrop((0.5, 1.0)), Flip(0.3), Shear(5), Zoom(0.8, 1.2), Rotation((-20, -10))),
        *(Shift(0.2, 0.1, whole=True), Brightness(0.2), Contrast((0.4, 1.0), gray=True)),
    )
    assert (augment.fill, augment.fill_value) == ("constant", 7)
    assert Augmentation.like_torchvision().transforms == ()


NOT_OF_KERAS = [
    ({"brightness_range": 0.5}, "brightness_range is 0.5; give two rising factors"),
    ({"brightness_range": (1.0, 0.5)}, r"brightness_range is \(1.0, 0.5\); give two rising factors"),
    ({"brightness_range": (-0.5, 0.5)}, r"brightness_range is \(-0.5, 0.5\)"),
    ({"fill_mode": "wrap"}, "fill_mode is 'wrap'; give one of constant, nearest, reflect"),
    ({"fill_mode": None}, "fill_mode is None; give one of"),
    ({"fill_mode": "constant", "cval": -1, "rotation_range": 5}, "cval is -1; give a number within value_range"),
    ({"fill_mode": "constant", "cval": "black"}, "cval is 'black'; give a number"),
    ({"fill_mode": "constant", "cval": 2, "value_range": (0, 1), "zoom_range": 0.1}, r"cval is 2; give .* \(0, 1\)"),
    ({"rotation_range": -20}, "rotation_range is -20; give a number from 0 to 360"),
    ({"rotation_range": "20"}, "rotation_range is '20'; give"),
    ({"rotation_range": (10, 20)}, r"rotation_range is \(10, 20\); give"),
    ({"rotation_range": True}, "rotation_range is True; give"),
    ({"rotation_range": float("nan")}, "rotation_range is nan; give"),
    ({"shear_range": 90}, "shear_range is 90; give a number from 0 to 89"),
    ({"width_shift_range": -0.1}, "width_shift_range is -0.1; give a fraction"),
    ({"height_shift_range": np.nan}, "height_shift_range is nan; give"),
    ({"width_shift_range": np.True_}, "width_shift_range is True; give"),
    ({"width_shift_range": ["a"]}, r"width_shift_range is \('a',\); give"),
    ({"width_shift_range": [-5, -3]}, r"width_shift_range is \(-5, -3\); give pixels without a sign"),
    ({"zoom_range": 1}, "zoom_range is 1; give a fraction from 0 to below 1"),
    ({"zoom_range": [1.2, 0.8]}, r"zoom_range is \(1.2, 0.8\); give .*two rising"),
    ({"zoom_range": [0, 1]}, r"zoom_range is \(0, 1\); give"),
    ({"zoom_range": [0.5, float("nan")]}, r"zoom_range is \(0.5, nan\); give"),
    ({"zoom_range": [0.5]}, r"zoom_range is \(0.5,\); give"),
    ({"zoom_range": None}, "zoom_range is None; give"),
    ({"horizontal_flip": 0.3}, "horizontal_flip is 0.3; give True or False"),
    ({"vertical_flip": "yes"}, "vertical_flip is 'yes'; give True or False"),
    ({"channel_shift_range": 10.0}, "channel_shift_range is 10.0, which has no counterpart here; leave it out"),
    ({"rescale": 1 / 255}, "rescale is 0.0039.*, which has no counterpart here; leave it out.*keras.layers.Rescaling"),
    ({"featurewise_center": np.True_}, "featurewise_center is True, .*Normalization"),
    ({"samplewise_std_normalization": True}, "samplewise_std_normalization is True"),
    ({"zca_whitening": 1}, "zca_whitening is 1"),
    ({"preprocessing_function": np.sqrt}, "preprocessing_function is <ufunc 'sqrt'>, .* call it on the pictures"),
    ({"data_format": "channels_first"}, "data_format is 'channels_first'"),
    ({"validation_split": 0.2}, "validation_split is 0.2, .* give it to fit"),
    ({"interpolation_order": 0}, "interpolation_order is 0, .* bilinearly"),
    ({"dtype": "float16"}, "dtype is 'float16'"),
    ({"zoom": 0.1}, "zoom is no argument of like_image_data_generator; do you mean zoom_range?"),
    ({"rotation": 0.1}, "do you mean rotation_range?"),
    ({"fill": "nearest"}, "fill is no argument of like_image_data_generator; do you mean fill_mode?"),
    ({"seeds": 1}, "do you mean seed?"),
    ({"xyzzy": 1}, "xyzzy is no argument of like_image_data_generator; give some of rotation_range, "),
]
NOT_OF_TORCHVISION = [
    ({"degrees": -5}, "degrees is -5; give a number from 0 to 360"),
    ({"degrees": (30, -30)}, r"degrees is \(30, -30\); give .* two rising numbers"),
    ({"translate": 0.1}, "translate is 0.1; give two fractions from 0 to 1"),
    ({"translate": (0.1, 2)}, r"translate is \(0.1, 2\); give two fractions"),
    ({"scale": 0.5}, "scale is 0.5; give two rising factors above 0"),
    ({"scale": (1.2, 0.8)}, r"scale is \(1.2, 0.8\); give two rising"),
    ({"scale": (float("nan"), 1)}, r"scale is \(nan, 1\); give two rising"),
    ({"shear": (0, 5, 0, 5)}, r"shear is \(0, 5, 0, 5\); give two angles: columns are not moved here"),
    ({"shear": (1, 2, 3)}, r"shear is \(1, 2, 3\); give"),
    ({"crop_scale": 0.5}, "crop_scale is 0.5; give two rising fractions"),
    ({"crop_scale": (0.5, 1.5)}, r"crop_scale is \(0.5, 1.5\); give two rising fractions"),
    ({"crop_scale": (0.5, 1), "crop_ratio": (2, 1)}, r"crop_ratio is \(2, 1\); give two rising numbers"),
    ({"horizontal_flip": True}, "horizontal_flip is True; give a probability, such as 0.5"),
    ({"vertical_flip": 1.5}, "vertical_flip is 1.5; give a probability"),
    ({"brightness": -0.1}, "brightness is -0.1; give a number from 0 up"),
    ({"contrast": (1.2, 0.8)}, r"contrast is \(1.2, 0.8\); give .* two rising"),
    ({"brightness": "strong"}, "brightness is 'strong'; give"),
    ({"fill": 300, "degrees": 5}, "fill is 300; give a number within value_range"),
    ({"fill": (1, 2, 3)}, r"fill is \(1, 2, 3\); give a number"),
    ({"saturation": 0.2}, "saturation is 0.2, which has no counterpart here"),
    ({"hue": (-0.1, 0.1)}, r"hue is \(-0.1, 0.1\), which has no counterpart here"),
    ({"interpolation": "nearest"}, "interpolation is 'nearest', .* bilinearly"),
    ({"expand": True}, "expand is True, .* keep their size"),
    ({"size": 224}, "size is 224, .* resize them before"),
    ({"brightnes": 0.2}, "brightnes is no argument of like_torchvision; do you mean brightness?"),
]


@pytest.mark.one_backend
@pytest.mark.parametrize(("arguments", "message"), NOT_OF_KERAS, ids=lambda one: str(one)[:60])
def test_what_has_no_counterpart_in_image_data_generator_is_explained(arguments, message):
    with pytest.raises(CourseError, match=message) as caught:
        Augmentation.like_image_data_generator(**arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.one_backend
@pytest.mark.parametrize(("arguments", "message"), NOT_OF_TORCHVISION, ids=lambda one: str(one)[:60])
def test_what_has_no_counterpart_in_torchvision_is_explained(arguments, message):
    with pytest.raises(CourseError, match=message) as caught:
        Augmentation.like_torchvision(**arguments)
    assert "\n" not in str(caught.value)


def test_flips_have_their_probability():
    rows = np.broadcast_to(np.arange(4, dtype="float32")[None, None, :, None], (2000, 1, 4, 1))
    flipped = Augmentation([Flip(horizontal=0.3)]).apply(rows, step=0, xp=np)[:, 0, 0, 0] == 3
    assert flipped.mean() == pytest.approx(0.3, abs=0.04)


def test_a_saved_transform_of_an_unknown_kind_is_refused():
    config = Augmentation([Flip(horizontal=True)]).get_config()
    config["transforms"][0]["kind"] = "Wrap"
    with pytest.raises(CourseError, match=r"transforms has {'kind': 'Wrap'.*}; its kind is none of .*Flip"):
        Augmentation.from_config(config)
