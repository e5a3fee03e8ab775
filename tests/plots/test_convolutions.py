"""Kernels, feature maps, heat maps on pictures, and convolutions step by step."""

from collections.abc import Callable

import numpy as np
import pytest
from matplotlib.patches import Rectangle
from scipy.signal import correlate2d

from keras_course import plots
from keras_course.errors import CourseError

DRAW = np.random.default_rng(0)
PICTURE = DRAW.integers(0, 256, (12, 10, 1), dtype=np.uint8)
KERNELS = DRAW.normal(size=(3, 3, 2, 7))
MAPS = DRAW.uniform(0, 1, (6, 5, 9))
EDGES = np.array([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]])
BLUR = np.array([[1, 2, 1], [2, 4, 2], [1, 2, 1]]) / 16


def convolved(kernel: np.ndarray, stride: int = 1) -> np.ndarray:
    return correlate2d(PICTURE[..., 0].astype(float), kernel, mode="valid")[::stride, ::stride]


def test_kernel_grid_has_a_tile_for_each_filter_on_one_scale_around_0() -> None:
    figure = plots.kernel_grid(KERNELS, channel=1, title="Seven")
    *tiles, bar = figure.axes
    assert (len(tiles), bar.get_ylabel(), figure.get_suptitle()) == (7, "weight", "Seven")
    largest = np.abs(KERNELS[:, :, 1]).max()
    for number, axes in enumerate(tiles):
        np.testing.assert_array_equal(axes.images[0].get_array(), KERNELS[:, :, 1, number])
        assert axes.images[0].get_clim() == (-largest, largest)
    red, white, blue = (np.array(tiles[0].images[0].cmap(place)[:3]) for place in (1.0, 0.5, 0.0))
    assert white.min() > 0.95
    assert red[0] > red[2]
    assert blue[2] > blue[0]


def test_feature_maps_from_0_up_start_at_black_and_follow_the_picture() -> None:
    figure = plots.feature_map_grid(MAPS, image=PICTURE)
    picture, *tiles, bar = figure.axes
    assert (picture.get_title(), len(tiles), bar.get_ylabel()) == ("picture", 9, "output")
    np.testing.assert_allclose(picture.images[0].get_array()[..., 0], PICTURE[..., 0] / 255)
    np.testing.assert_array_equal(tiles[4].images[0].get_array(), MAPS[..., 4])
    assert {axes.images[0].get_clim() for axes in tiles} == {(0, np.quantile(MAPS, 0.995))}
    assert max(tiles[0].images[0].cmap(0.0)[:3]) < 0.02


def test_feature_maps_with_negative_numbers_have_a_scale_around_0() -> None:
    low, high = plots.feature_map_grid(MAPS - 0.7).axes[0].images[0].get_clim()
    assert (low, high) == pytest.approx((-high, np.quantile(np.abs(MAPS - 0.7), 0.995)))


def test_one_bright_pixel_in_a_thousand_does_not_darken_the_rest() -> None:
    maps = np.full((32, 32, 1), 0.5)
    maps[0, 0] = 100
    figure = plots.feature_map_grid(maps)
    assert figure.axes[0].images[0].get_clim() == (0, 0.5)
    assert figure.axes[0].images[0].colorbar is None  # the bar is of all tiles
    assert len(figure.axes[1].patches) == 1  # the arrow at its end


@pytest.mark.parametrize(("maps", "tiles"), [(np.zeros((4, 4, 100)), 64), (np.zeros((4, 4, 3)), 3)])
def test_feature_map_grid_shows_at_most_count_maps(maps: np.ndarray, tiles: int) -> None:
    assert len(plots.feature_map_grid(maps).axes) == tiles + 1
    assert len(plots.feature_map_grid(maps, count=2).axes) == 3


@pytest.mark.parametrize("channels", [1, 3])
def test_heat_on_picture_shows_each_picture_plain_and_with_its_heat(channels: int) -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, 16, 16, channels), dtype=np.uint8)
    heats = np.zeros((5, 16, 16))
    heats[2, 3, 4] = 1
    figure = plots.heat_on_picture(images, heats, list("ABCDE"), columns=2, title="Why")
    *panels, bar = figure.axes
    assert [axes.get_title() for axes in panels] == ["A", "B", "C", "D", "E", ""]
    assert (bar.get_ylabel(), figure.get_suptitle()) == ("support for the class", "Why")
    shown = np.asarray(panels[2].images[0].get_array())
    assert shown.shape == (16, 33, 3)  # the picture, a gap, and the picture again
    np.testing.assert_allclose(shown[:, :16], np.broadcast_to(images[2] / 255, (16, 16, 3)))
    gray = np.broadcast_to(images[2] / 255, (16, 16, 3)) @ (0.299, 0.587, 0.114)
    changed = np.abs(shown[:, 17:] - gray[..., None]).max(axis=-1) > 1e-9
    assert np.argwhere(changed).tolist() == [[3, 4]]  # cold pixels stay gray
    yellow = np.array([0.940015, 0.975158, 0.131326])  # the upper end of matplotlib's plasma
    np.testing.assert_allclose(shown[3, 21], 0.75 * yellow + 0.25 * gray[3, 4], atol=1e-5)


STEPS = {
    "edges": (EDGES, convolved(EDGES)),
    "blur, stride 2": (BLUR, convolved(BLUR, stride=2)),
    "pooling": ("largest of 2 × 2", PICTURE[..., 0].reshape(6, 2, 5, 2).max(axis=(1, 3))),
}


def test_all_results_have_the_same_pixel_size_and_state_their_shape() -> None:
    figure = plots.convolution_steps(PICTURE, STEPS, columns=3)
    results = [axes for axes in figure.axes if axes.get_title()]
    assert [axes.get_title() for axes in results] == [
        "picture\n12 × 10",
        "edges\n10 × 8",
        "blur, stride 2\n5 × 4",
        "pooling\n6 × 5",
    ]
    for axes in results:
        assert np.ptp(axes.get_xlim()) == 10
        assert np.ptp(axes.get_ylim()) == 12
        rows, columns = axes.images[0].get_array().shape
        assert (np.mean(axes.get_xlim()), np.mean(axes.get_ylim())) == ((columns - 1) / 2, (rows - 1) / 2)
    np.testing.assert_array_equal(results[1].images[0].get_array(), STEPS["edges"][1])


def test_detectors_have_a_scale_around_0_and_pictures_keep_theirs() -> None:
    figure = plots.convolution_steps(PICTURE, STEPS)
    limits = [axes.images[0].get_clim() for axes in figure.axes if axes.get_title()]
    largest = np.abs(STEPS["edges"][1]).max()
    assert limits == [(0, PICTURE.max()), (-largest, largest), (0, PICTURE.max()), (0, PICTURE.max())]


def test_kernels_show_their_numbers_and_pooling_shows_its_text() -> None:
    figure = plots.convolution_steps(PICTURE, STEPS)
    texts = [[text.get_text() for text in axes.texts] for axes in figure.axes if axes.texts]
    blur = ["0.06", "0.12", "0.06", "0.12", "0.25", "0.12", "0.06", "0.12", "0.06"]
    assert texts == [["-1", "0", "1", "-2", "0", "2", "-1", "0", "1"], blur, ["largest of 2 × 2"]]


def test_a_kernel_with_many_numbers_is_only_colored() -> None:
    kernel = np.random.default_rng(0).normal(size=(11, 11))
    figure = plots.convolution_steps(PICTURE, {"large": (kernel, np.ones((2, 2)))})
    assert not [axes for axes in figure.axes if axes.texts]
    assert [axes for axes in figure.axes if axes.images and axes.images[0].get_array().shape == (11, 11)]


@pytest.mark.parametrize("stride", [1, 2])
def test_one_window_shows_the_products_and_their_sum(stride: int) -> None:
    result = convolved(EDGES, stride)
    figure = plots.one_window(PICTURE, EDGES, result, row=2, column=1, stride=stride)
    picture, window, kernel, products, made = figure.axes
    top, left = 2 * stride, stride
    cut = PICTURE[top : top + 3, left : left + 3, 0].astype(float)
    np.testing.assert_array_equal(window.images[0].get_array(), cut)
    np.testing.assert_array_equal(kernel.images[0].get_array(), EDGES)
    np.testing.assert_array_equal(products.images[0].get_array(), cut * EDGES)
    assert [text.get_text() for text in window.texts] == [f"{number:.0f}" for number in cut.ravel()]
    total = (cut * EDGES).sum()
    assert made.get_title() == f"sum: {total:,.0f}"
    assert made.images[0].get_array()[2, 1] == total
    for axes, place, size in ((picture, (left, top), 3), (made, (1, 2), 1)):
        frames = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
        assert {(patch.get_x() + 0.5, patch.get_y() + 0.5) for patch in frames} == {place}
        assert {(patch.get_width(), patch.get_height()) for patch in frames} == {(size, size)}


HEATS = np.zeros((1, 12, 10))


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: plots.kernel_grid(KERNELS[..., 0]), r"kernels have shape \(3, 3, 2\); give"),
        (lambda: plots.kernel_grid(KERNELS * np.nan), "give finite numbers"),
        (lambda: plots.kernel_grid(KERNELS, channel=2), "channel is 2; give a number from 0 to 1"),
        (lambda: plots.feature_map_grid(MAPS[..., 0]), r"maps have shape \(6, 5\); give"),
        (lambda: plots.feature_map_grid(MAPS, count=0), "count is 0; give"),
        (lambda: plots.feature_map_grid(MAPS, image=PICTURE / 255), "images are float64 of shape"),
        (lambda: plots.heat_on_picture(PICTURE[None], HEATS[0], ["A"]), r"heats \(12, 10\), and there are 1 titles"),
        (lambda: plots.heat_on_picture(PICTURE[None], HEATS, ["A", "B"]), "and there are 2 titles; give one"),
        (lambda: plots.heat_on_picture(PICTURE[None], HEATS + 2, ["A"]), "heats run from 2 to 2; give numbers from 0"),
        (lambda: plots.heat_on_picture(PICTURE[None], HEATS * np.nan, ["A"]), "heats run from nan to nan"),
        (lambda: plots.heat_on_picture(PICTURE[None] / 255, HEATS, ["A"]), "images are float64"),
        (lambda: plots.convolution_steps(PICTURE, {}), "steps is {}; give at least one"),
        (lambda: plots.convolution_steps(np.ones((4, 4, 3)), STEPS), r"image has shape \(4, 4, 3\); give"),
        (lambda: plots.convolution_steps(PICTURE, {"a": (BLUR[0], MAPS[0])}), r"the kernel in steps\['a'\] has shape"),
        (lambda: plots.convolution_steps(PICTURE, {"a": (BLUR, MAPS)}), r"the result in steps\['a'\] has shape"),
        (
            lambda: plots.one_window(PICTURE, BLUR, np.ones((3, 3)), row=0, column=0),
            r"kernel and stride make \(10, 8\)",
        ),
        (
            lambda: plots.one_window(PICTURE, BLUR, np.ones((10, 8)), row=10, column=0),
            r"row and column are 10 and 0; give a pixel of the result, \(10, 8\)",
        ),
    ],
)
def test_error_names_the_bad_input(draw: Callable[[], object], message: str) -> None:
    with pytest.raises(CourseError, match=message):
        draw()
