"""What arguments of Keras' own augmentation mean: the pictures that Keras makes, beside those that are made here."""

import inspect

import keras
import numpy as np
import pytest
from keras.src.legacy.preprocessing.image import ImageDataGenerator
from scipy import stats

from keras_course import augmentation
from keras_course.augmentation import Augmentation, Flip, Rotation, Shift, Zoom

pytestmark = [
    pytest.mark.one_backend,
    pytest.mark.filterwarnings("ignore:Please import `affine_transform`:DeprecationWarning"),  # in Keras
]

SIZE, DRAWS = 41, 300
SPOTS = np.array([[0.0, -8.0], [7.0, 4.0], [-7.0, 4.0]])  # x and y from the center, one spot in each channel
AXIS = np.arange(SIZE) - (SIZE - 1) / 2
GAUSSIANS = np.exp(
    -((AXIS[None, :, None] - SPOTS[:, 0]) ** 2 + (AXIS[:, None, None] - SPOTS[:, 1]) ** 2) / (2 * 1.5**2)
)
PICTURE = (200 * GAUSSIANS).astype("float32")  # (height, width, channels)


def maps_of(pictures):
    """Measures where the spots have gone, and returns the affine maps that do the same: (n, 6).

    x' = a·x + b·y + c and y' = d·x + e·y + f, from the center of a picture.
    """
    weights = np.asarray(pictures, "float64")
    total = weights.sum(axis=(1, 2))
    x = (weights * AXIS[None, None, :, None]).sum(axis=(1, 2)) / total
    y = (weights * AXIS[None, :, None, None]).sum(axis=(1, 2)) / total
    corners = np.column_stack([SPOTS, np.ones(3)])
    return np.concatenate([np.linalg.solve(corners, axis.T).T for axis in (x, y)], axis=1)


def by_keras(picture=PICTURE, draws=DRAWS, **arguments):
    np.random.seed(1)  # noqa: NPY002 - the generator that Keras draws from
    generator = ImageDataGenerator(fill_mode="constant", **arguments)
    return np.stack([generator.random_transform(picture) for _ in range(draws)])


def by_ours(augment, picture=PICTURE, draws=DRAWS):
    return augment.apply(np.broadcast_to(picture, (draws, *picture.shape)), step=0, xp=np)


def assert_alike(found, expected, *, scale):
    """Compares numbers (n, columns) that were drawn: each column's distribution, and how columns go together."""
    found, expected = found.round(3), expected.round(3)  # one of a few values is measured a little differently
    for column, (ours, theirs) in enumerate(zip(found.T, expected.T, strict=True)):
        if max(ours.std(), theirs.std()) < 0.01 * scale[column]:
            assert ours.mean() == pytest.approx(theirs.mean(), abs=0.02 * scale[column]), column
        else:
            assert stats.ks_2samp(ours, theirs).pvalue > 0.002, column
            assert np.ptp(ours) == pytest.approx(np.ptp(theirs), rel=0.06), column
    varying = [column for column in range(found.shape[1]) if expected[:, column].std() > 0.01 * scale[column]]
    if len(varying) > 1:
        together = [np.corrcoef(numbers[:, varying].T) for numbers in (found, expected)]
        np.testing.assert_allclose(*together, atol=0.25)


LINEAR_OR_WAY = (1, 1, 8, 1, 1, 8)
"""Of the six numbers of a map, four are factors and two are pixels, of which a tenth can be measured."""


@pytest.mark.parametrize(
    "arguments",
    [
        {"rotation_range": 25},
        {"rotation_range": np.float32(25)},
        {"shear_range": 20.0},
        {"zoom_range": 0.25},
        {"zoom_range": [0.7, 1.0]},
        {"zoom_range": (1.0, 1.4)},
        {"zoom_range": [0.7, 0.7]},
        {"zoom_range": (np.float64(0.8), np.float64(1.3))},
        {"horizontal_flip": True},
        {"horizontal_flip": 1},
        {"vertical_flip": np.True_},
        {"horizontal_flip": True, "vertical_flip": True},
        {"horizontal_flip": np.False_, "rotation_range": None, "shear_range": False, "zoom_range": np.float64(0)},
    ],
    ids=str,
)
def test_an_argument_of_image_data_generator_gives_the_pictures_of_keras(arguments):
    found = maps_of(by_ours(Augmentation.like_image_data_generator(**arguments, fill_mode="constant")))
    assert_alike(found, maps_of(by_keras(**arguments)), scale=LINEAR_OR_WAY)


WAYS = (
    0.1,
    np.float64(0.1),
    4.0,
    1.0,
    4,
    np.int64(3),
    1,
    [2, 5],
    (-3, 0.5, 4),
    [0.05, 0.12],
    [0.0],
    None,
    np.float32(0),
)


@pytest.mark.parametrize(
    ("axis", "value"),
    [*(("width", value) for value in WAYS), *(("height", value) for value in (0.1, 3, [2, 5]))],
    ids=repr,
)
def test_a_shift_of_image_data_generator_is_that_of_keras(axis, value):
    """Keras mixes up the two axes; see below."""
    found = maps_of(
        by_ours(Augmentation.like_image_data_generator(**{f"{axis}_shift_range": value, "fill_mode": "constant"}))
    )
    other = {"width": "height", "height": "width"}[axis]
    expected = maps_of(by_keras(**{f"{other}_shift_range": value}))
    assert_alike(found, expected, scale=LINEAR_OR_WAY)
    if not isinstance(value, float | np.floating):  # one of a few ways
        way = 5 if axis == "height" else 2
        ways = [{round(one, 1) + 0.0 for one in maps[:, way]} for maps in (found, expected)]
        assert ways[0] == ways[1]


def test_keras_moves_a_picture_down_by_the_width_and_misses_the_middle_of_an_oblong():
    """If this fails, Keras has been mended; then the description of like_image_data_generator is to be shortened."""
    moved = maps_of(by_keras(width_shift_range=[3], draws=20))
    assert np.abs(moved[:, 2]).max() < 0.01
    np.testing.assert_allclose(np.abs(moved[:, 5]), 3, atol=0.01)
    middle = np.zeros((9, 13, 1))
    middle[4, 6] = 255
    generator = ImageDataGenerator(fill_mode="constant")
    assert generator.apply_transform(middle, {"theta": 180})[4, 6, 0] < 1
    square = generator.apply_transform(middle[:, 2:11], {"theta": 180})
    assert square[4, 4, 0] > 254
    turned = augmentation.warp(middle[None].astype("float32"), Rotation((180, 180)).map([np.zeros(1)], 9, 13, np))
    assert turned[0, 4, 6, 0] > 254


@pytest.mark.parametrize("flips", [(False, False), (True, False), (False, True)], ids=["", "across", "down"])
@pytest.mark.parametrize("fill", ["nearest", "reflect", "constant"])
def test_all_geometry_is_composed_in_the_order_of_keras(fill, flips):
    """Every pixel, with the same angles, ways and factors on both sides; Keras' tx is the way across."""
    side = 15
    picture = np.random.default_rng(2).uniform(0, 255, (side, side, 3)).astype("float32")
    augment = Augmentation.like_image_data_generator(
        rotation_range=40, height_shift_range=4.0, width_shift_range=4.0, shear_range=20, zoom_range=(0.5, 1.5)
    )
    turned, moved, slanted, zoomed = augment.transforms
    numbers = {"theta": 23.0, "tx": 2.5, "ty": -1.25, "shear": -12.0, "zx": 0.75, "zy": 1.3}
    drawn = [
        (turned, [(23.0 + 40) / 80]),
        (moved, [(-2.5 + 4) / 8, (1.25 + 4) / 8]),  # there, tx and ty lead from the result to the picture
        (slanted, [(-12.0 + 20) / 40]),
        (zoomed, [0.75 - 0.5, 1.3 - 0.5]),
        (Flip(*map(float, flips)), [0.5, 0.5]),
    ]
    back = augmentation.IDENTITY
    for transform, u in drawn:
        back = augmentation.compose(back, transform.map([np.full(1, one, "float32") for one in u], side, side, np))
    found = augmentation.warp(picture[None], back, fill=fill, fill_value=77.0)[0]
    generator = ImageDataGenerator(fill_mode=fill, cval=77.0)
    flipped = {"flip_horizontal": flips[0], "flip_vertical": flips[1]}
    expected = generator.apply_transform(picture, {**numbers, **flipped})
    a, b, c, d, e, f = (float(np.ravel(one)[0]) for one in back)
    x, y = np.meshgrid(np.arange(side) - 7.0, np.arange(side) - 7.0)
    farthest = np.maximum(np.abs(a * x + b * y + c), np.abs(d * x + e * y + f)) - 7
    rim = (farthest > 0) & (farthest < 1) if fill == "constant" else np.zeros_like(x, bool)
    assert rim.mean() < 0.25
    assert np.abs(expected - picture).mean() > 20
    np.testing.assert_allclose(found[~rim], expected[~rim], atol=0.03)


@pytest.mark.parametrize("limits", [[0.4, 1.0], (1.0, 1.5), (0.8, 1.2), (np.float32(0.5), 2)], ids=str)
def test_brightness_is_that_of_keras(limits):
    gray = np.linspace(0, 120, 12 * 12 * 3).reshape(12, 12, 3).round().astype("float32")
    found = by_ours(Augmentation.like_image_data_generator(brightness_range=limits), gray)
    expected = by_keras(gray, brightness_range=limits)
    factors = [pictures.mean(axis=(1, 2, 3))[:, None] / gray.mean() for pictures in (found, expected)]
    assert_alike(*factors, scale=[1])
    generator, factor = ImageDataGenerator(), limits[0] + 0.25 * (limits[1] - limits[0])
    (ours,) = Augmentation.like_image_data_generator(brightness_range=limits).transforms
    gain, *_ = ours.line([np.full(1, 0.25)], np)
    bytes_of_keras = generator.apply_transform(gray, {"brightness": factor})
    np.testing.assert_allclose(np.clip(gray * gain, 0, 255), bytes_of_keras, atol=1)


def test_every_argument_of_image_data_generator_is_known_and_may_be_left_as_it_is():
    parameters = inspect.signature(ImageDataGenerator).parameters
    defaults = {name: one.default for name, one in parameters.items()}
    numpy_defaults = {
        name: np.asarray(value)[()] for name, value in defaults.items() if isinstance(value, bool | int | float)
    }
    for arguments in (defaults, numpy_defaults, *({name: value} for name, value in defaults.items())):
        augment = Augmentation.like_image_data_generator(**arguments)
        assert (augment.transforms, augment.fill) == ((), "nearest")


# --- Keras' layers: the table in README -----------------------------------------------------------------------------

LAYERS = {
    "flip": (lambda: keras.layers.RandomFlip("horizontal", seed=3), Flip(horizontal=True)),
    "rotation": (lambda: keras.layers.RandomRotation((-0.02, 0.1), "constant", seed=3), Rotation((-7.2, 36))),
    "translation": (lambda: keras.layers.RandomTranslation(0.1, 0.05, "constant", seed=3), Shift(0.1, 0.05)),
    "zoom": (
        lambda: keras.layers.RandomZoom((-0.2, 0.4), fill_mode="constant", seed=3),
        Zoom(1 / 1.4, 1 / 0.8, inverse=True),
    ),
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_of_keras_has_its_counterpart(name):
    make, transform = LAYERS[name]
    pictures = np.broadcast_to(PICTURE, (DRAWS, *PICTURE.shape))
    expected = maps_of(keras.ops.convert_to_numpy(make()(pictures, training=True)))
    assert_alike(maps_of(by_ours(Augmentation([transform]))), expected, scale=LINEAR_OR_WAY)
