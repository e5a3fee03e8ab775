"""What arguments of torchvision's transforms mean: the pictures that torchvision makes, beside those made here."""

import inspect

import numpy as np
import pytest
import torch
from scipy import stats

from keras_course import augmentation
from keras_course.augmentation import (
    Augmentation,
    Brightness,
    Contrast,
    Erasing,
    Flip,
    ResizedCrop,
    Rotation,
    Shear,
    Shift,
    Zoom,
)

try:
    from torchvision.transforms import v2
except RuntimeError:  # its compiled operators, none of which a transform uses, load only beside PyTorch with CUDA
    OPERATORS = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):  # the import describes their shapes
        OPERATORS.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    from torchvision.transforms import v2

BILINEAR = v2.InterpolationMode.BILINEAR

HEIGHT, WIDTH, DRAWS = 24, 30, 300
NOISE = np.random.default_rng(5).uniform(0, 255, (HEIGHT, WIDTH, 3)).astype("float32")
LEFT_TO_RIGHT = np.broadcast_to(np.linspace(0, 1, WIDTH), (HEIGHT, WIDTH))
TOP_TO_BOTTOM = np.broadcast_to(np.linspace(0, 1, HEIGHT)[:, None], (HEIGHT, WIDTH))
RAMPS = np.stack([LEFT_TO_RIGHT, TOP_TO_BOTTOM, np.ones((HEIGHT, WIDTH))], axis=-1).astype("float32")


def as_torch(picture):
    return torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1)))


def as_numpy(picture):
    return picture.numpy().transpose(1, 2, 0)


def by_torchvision(transform, picture, draws=DRAWS):
    torch.manual_seed(0)
    return np.stack([as_numpy(transform(as_torch(picture))) for _ in range(draws)])


def by_ours(augment, picture, draws=DRAWS):
    return augment.apply(np.broadcast_to(picture, (draws, *picture.shape)), step=0, xp=np)


def only(transform, *u):
    """The map of one transform for given draws."""
    return transform.map([np.full(1, one, "float32") for one in u], HEIGHT, WIDTH, np)


def warped(picture, *maps, fill_value=0.0):
    back = augmentation.IDENTITY
    for one in maps:
        back = augmentation.compose(back, one)
    return augmentation.warp(picture[None], back, fill_value=fill_value)[0]


# --- One value: every pixel ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("numbers", "maps"),
    [
        ({"angle": 25.0}, [only(Rotation((-25, -25)), 0)]),
        ({"angle": -70.0}, [only(Rotation((70, 70)), 0)]),
        ({"translate": [4, -3]}, [only(Shift(3 / HEIGHT, 4 / WIDTH), 1, 0)]),
        ({"scale": 1.5}, [only(Zoom(1.5, 1.5), 0, 0)]),
        ({"scale": 0.6}, [only(Zoom(0.6, 0.6), 0, 0)]),
        ({"shear": [20.0, 0.0]}, [only(Shear((-20, -20)), 0)]),
        (
            {"angle": -30.0, "translate": [5, 2], "scale": 0.8, "shear": [-15.0, 0.0]},
            [
                only(Shear(15), 1),
                only(Zoom(0.8, 0.8), 0, 0),
                only(Rotation(30), 1),
                only(Shift(2 / HEIGHT, 5 / WIDTH), 1, 1),
            ],
        ),
    ],
    ids=lambda one: str(one)[:60] if isinstance(one, dict) else "",
)
def test_a_map_is_that_of_affine(numbers, maps):
    arguments = {"angle": 0.0, "translate": [0, 0], "scale": 1.0, "shear": [0.0, 0.0], **numbers}
    expected = as_numpy(v2.functional.affine(as_torch(NOISE), **arguments, interpolation=BILINEAR))
    assert np.abs(expected - NOISE).mean() > 20
    np.testing.assert_allclose(warped(NOISE, *maps), expected, atol=0.05)


def test_a_rotation_is_that_of_rotate():
    """Which turns the other way than affine."""
    expected = as_numpy(v2.functional.rotate(as_torch(NOISE), 35.0, interpolation=BILINEAR))
    np.testing.assert_allclose(warped(NOISE, only(Rotation((35, 35)), 0)), expected, atol=0.05)


@pytest.mark.parametrize("axis", ["horizontal", "vertical"])
def test_a_flip_is_that_of_torchvision(axis):
    expected = as_numpy(getattr(v2.functional, f"{axis}_flip")(as_torch(NOISE)))
    np.testing.assert_array_equal(warped(NOISE, only(Flip(**{axis: 1.0}), 0.5, 0.5)), expected)


def test_a_crop_is_that_of_resized_crop():
    """From the second pixel of the part on: before it, torchvision repeats the pixels at the edge of the part."""
    left, above, columns, rows = 7, 5, 15, 12
    share = columns * rows / (HEIGHT * WIDTH)
    crop = ResizedCrop((share, share), (columns / rows, columns / rows))
    place = [(left + 0.5) / (WIDTH - columns + 1), (above + 0.5) / (HEIGHT - rows + 1)]
    found = warped(NOISE, only(crop, *[0.5] * 20, *place))
    expected = v2.functional.resized_crop(as_torch(NOISE), above, left, rows, columns, [HEIGHT, WIDTH])
    np.testing.assert_allclose(found[1:-1, 1:-1], as_numpy(expected)[1:-1, 1:-1], atol=0.05)


@pytest.mark.parametrize("kind", ["float32", "uint8"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("factor", [0.0, 0.6, 1.4])
@pytest.mark.parametrize(("name", "transform"), [("brightness", Brightness), ("contrast", Contrast)])
def test_a_color_is_that_of_torchvision(name, transform, factor, channels, kind):
    """Of pictures that are mostly red, for the mean of which the channels count differently."""
    picture = (NOISE * [1.0, 0.3, 0.5]).astype(kind)[..., :channels]
    change = getattr(v2.functional, f"adjust_{name}")
    if kind == "uint8":
        expected = as_numpy(change(as_torch(picture), factor)).astype("float64")
    else:  # which torchvision has from 0 to 1
        expected = as_numpy(change(as_torch(picture / np.float32(255)), factor)) * 255
    gray = {"gray": True} if name == "contrast" else {}
    augment = Augmentation([transform((factor, factor), **gray)])
    found = augment.apply(picture[None], step=0, xp=np)[0]
    np.testing.assert_allclose(found.astype("float64"), expected, atol=1.5 if kind == "uint8" else 0.02)


# --- Many draws: how they are distributed ------------------------------------------------------------------------


def maps_of(pictures):
    """Measures the affine map back, x = a·x' + b·y' + c and y = d·x' + e·y' + f in pixels, from ramps: (n, 6)."""
    x, y = np.meshgrid(np.arange(WIDTH) - (WIDTH - 1) / 2, np.arange(HEIGHT) - (HEIGHT - 1) / 2)
    rows = []
    for picture in np.asarray(pictures, "float64"):
        inside = picture[..., 2] > 0.9999  # elsewhere the outside is mixed in
        places = np.column_stack([x[inside], y[inside], np.ones(inside.sum())])
        ramps = [(picture[..., 0] - 0.5) * (WIDTH - 1), (picture[..., 1] - 0.5) * (HEIGHT - 1)]
        rows.append(np.concatenate([np.linalg.lstsq(places, ramp[inside], rcond=None)[0] for ramp in ramps]))
    return np.stack(rows)


def assert_alike(found, expected, *, digits=3):
    """Compares numbers (n, columns) that were drawn: each column's distribution, and how columns go together."""
    found, expected = found.round(digits), expected.round(digits)
    varying = [column for column in range(found.shape[1]) if expected[:, column].std() > 0.005]
    for column, (ours, theirs) in enumerate(zip(found.T, expected.T, strict=True)):
        if column in varying:
            assert stats.ks_2samp(ours, theirs).pvalue > 0.002, column
            assert np.ptp(ours) == pytest.approx(np.ptp(theirs), rel=0.12), column
        else:
            np.testing.assert_allclose(ours, theirs.mean(), atol=0.01)
    if len(varying) > 1:
        together = [np.corrcoef(numbers[:, varying].T) for numbers in (found, expected)]
        np.testing.assert_allclose(*together, atol=0.25)


@pytest.mark.parametrize(
    "arguments",
    [
        {"degrees": 20},
        {"degrees": (-5, 40)},
        {"degrees": [np.float32(10), 30]},
        {"degrees": 0, "translate": (0.2, 0.1)},
        {"degrees": 0, "translate": [0.0, np.float64(0.25)]},
        {"degrees": 0, "scale": (0.6, 1.4)},
        {"degrees": 0, "shear": 15},
        {"degrees": 0, "shear": (5, 25)},
        {"degrees": 0, "shear": (-20, -5, 0, 0)},
        {"degrees": 10, "translate": (0.1, 0.1), "scale": (0.9, 1.2), "shear": (0, 10)},
    ],
    ids=str,
)
def test_an_argument_of_random_affine_gives_the_maps_of_torchvision(arguments):
    plain = {name: np.asarray(value).tolist() for name, value in arguments.items()}
    transform = v2.RandomAffine(**plain, interpolation=BILINEAR)
    found = by_ours(Augmentation.like_torchvision(**arguments, value_range=(0, 1)), RAMPS)
    assert_alike(maps_of(found), maps_of(by_torchvision(transform, RAMPS)))


@pytest.mark.parametrize(
    ("scale", "ratio"),
    [((0.08, 1.0), (3 / 4, 4 / 3)), ((0.8, 1.0), (3 / 4, 4 / 3)), ((0.3, 0.4), (0.2, 0.5)), ((1.0, 1.0), (2.0, 3.0))],
    ids=str,
)
def test_parts_are_those_of_random_resized_crop(scale, ratio):
    torch.manual_seed(0)
    picture = as_torch(NOISE)
    parts = (
        np.array([v2.RandomResizedCrop.get_params(picture, scale, ratio) for _ in range(4 * DRAWS)], "float64")
        if hasattr(v2.RandomResizedCrop, "get_params")
        else None
    )
    (crop,) = Augmentation.like_torchvision(crop_scale=scale, crop_ratio=ratio).transforms
    u = np.random.default_rng(1).random((22, 4 * DRAWS), "float32")
    across, _, right, _, down, below = (np.broadcast_to(one, 4 * DRAWS) for one in crop.map(list(u), HEIGHT, WIDTH, np))
    columns, rows = across * WIDTH, down * HEIGHT
    left, above = right + (WIDTH - columns) / 2, below + (HEIGHT - rows) / 2
    found = np.column_stack([above, left, rows, columns])
    np.testing.assert_allclose(found, found.round(), atol=1e-4)
    assert_alike(found.round(), parts)


@pytest.mark.parametrize("name", ["brightness", "contrast"])
@pytest.mark.parametrize("value", [0.4, (0.5, 1.0), [1.0, 1.8], 1.5, np.float64(1.0), (np.float32(0.25), 3)], ids=str)
def test_an_argument_of_color_jitter_gives_the_factors_of_torchvision(name, value):
    picture = (0.2 + 0.02 * NOISE / 255 + [0.1, 0.0, 0.05]).astype("float32")  # of a color, and nothing is cut off
    plain = np.asarray(value).tolist()
    expected = by_torchvision(v2.ColorJitter(**{name: plain}), picture)
    found = by_ours(Augmentation.like_torchvision(**{name: value}, value_range=(0, 1)), picture)
    numbers = [np.column_stack([one.std(axis=(1, 2, 3)), one.mean(axis=(1, 2, 3))]) for one in (found, expected)]
    assert_alike(*(one / [picture.std(), picture.mean()] for one in numbers), digits=2 if name == "brightness" else 4)


@pytest.mark.parametrize("axis", ["horizontal", "vertical"])
def test_the_probability_of_a_flip_is_that_of_torchvision(axis):
    transform = {"horizontal": v2.RandomHorizontalFlip, "vertical": v2.RandomVerticalFlip}[axis](p=0.3)
    found = by_ours(Augmentation.like_torchvision(**{f"{axis}_flip": 0.3}), RAMPS, 1000)
    shares = [
        np.mean(pictures[:, 0, 0] != RAMPS[0, 0], axis=0).max()
        for pictures in (found, by_torchvision(transform, RAMPS, 1000))
    ]
    assert shares[0] == pytest.approx(0.3, abs=0.05)
    assert shares[1] == pytest.approx(0.3, abs=0.05)


def test_the_ratio_of_erasing_is_the_inverse_of_that_of_torchvision():
    """There it is height over width. Of a square picture, since there it counts pixels."""
    white = np.ones((40, 40, 1), "float32")
    scale, (low, high) = (0.1, 0.2), (2.0, 3.0)
    augment = Augmentation([Erasing(1.0, scale, (1 / high, 1 / low))], value_range=(0, 1))
    boxes = []
    for pictures in (by_ours(augment, white), by_torchvision(v2.RandomErasing(1.0, scale, (low, high)), white)):
        erased = pictures[..., 0] == 0
        boxes.append(np.column_stack([erased.any(axis=2).sum(axis=1), erased.any(axis=1).sum(axis=1)]))
    means = [one.mean(axis=0) for one in boxes]
    np.testing.assert_allclose(*means, rtol=0.03)
    np.testing.assert_allclose(*(one.std(axis=0) for one in boxes), rtol=0.2)
    assert means[1][0] > 2 * means[1][1]


@pytest.mark.parametrize("alpha", [0.3, 1.0])
def test_the_share_of_mixup_is_that_of_torchvision(alpha):
    torch.manual_seed(0)
    mixup = v2.MixUp(alpha=alpha, num_classes=2)
    black_and_white = torch.stack([torch.zeros(1, 1, 1), torch.ones(1, 1, 1)])
    shares = [mixup(black_and_white, torch.tensor([0, 1]))[0][0].item() for _ in range(1000)]
    u = np.random.default_rng(2).random(1000, "float32")
    found = augmentation.MixUp(alpha).share([u], np)
    assert stats.ks_2samp(found, np.minimum(shares, 1 - np.array(shares))).pvalue > 0.002


def test_every_argument_of_these_transforms_is_known_and_may_be_left_as_it_is():
    """But for the nearest pixel, which RandomAffine takes by default and nothing here does."""
    transforms = (v2.RandomAffine, v2.RandomRotation, v2.ColorJitter, v2.RandomResizedCrop)
    for transform in transforms:
        parameters = inspect.signature(transform).parameters.values()
        defaults = {one.name: one.default for one in parameters if one.default is not inspect.Parameter.empty}
        if transform is v2.RandomResizedCrop:
            defaults["crop_scale"], defaults["crop_ratio"] = defaults.pop("scale"), defaults.pop("ratio")
        defaults["interpolation"] = BILINEAR
        augment = Augmentation.like_torchvision(**defaults)
        assert augment.transforms == ((ResizedCrop((0.08, 1.0)),) if transform is v2.RandomResizedCrop else ())
