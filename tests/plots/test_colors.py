"""The colors for normal sight and for red-green color blindness."""

from itertools import combinations

import matplotlib
import numpy as np
import pytest
from matplotlib.collections import QuadMesh
from matplotlib.colors import Colormap, to_rgb
from matplotlib.figure import Figure

from keras_course import plots
from keras_course.plots.style import COLORS, LANDSCAPE, MARKERS, SERIES, ramp

# G. Machado, M. Oliveira and L. Fernandes, "A Physiologically-based Model for Simulation of Color Vision Deficiency",
# IEEE TVCG 15(6), 2009: linear RGB, severity 1.
SEEN_WITH = {
    "normal sight": np.eye(3),
    "deuteranopia": np.array(
        [(0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.01182, 0.04294, 0.968881)]
    ),
    "protanopia": np.array(
        [(0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)]
    ),
}
XYZ = np.array([(0.4124, 0.3576, 0.1805), (0.2126, 0.7152, 0.0722), (0.0193, 0.1192, 0.9505)])


def lab(color: object, sight: str = "normal sight") -> np.ndarray:
    """Returns CIE L*a*b* (D65) of a color; a distance of 2 is just visible, one of 10 is obvious."""
    rgb = np.array(to_rgb(color))  # type: ignore[arg-type]
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    ratio = XYZ @ np.clip(SEEN_WITH[sight] @ linear, 0, 1) / (0.9505, 1, 1.089)
    x, y, z = np.where(ratio > 0.008856, np.cbrt(ratio), 7.787 * ratio + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def distance(one: object, other: object, sight: str) -> float:
    return float(np.linalg.norm(lab(one, sight) - lab(other, sight)))


@pytest.mark.parametrize("sight", SEEN_WITH)
def test_colors_of_series_are_distinguishable(sight: str) -> None:
    assert min(distance(*pair, sight) for pair in combinations(SERIES[:4], 2)) > 20
    assert min(distance(*pair, sight) for pair in combinations(SERIES, 2)) > 12
    assert distance(COLORS["training"], COLORS["validation"], sight) > 60


def test_there_is_a_marker_for_each_color() -> None:
    assert len(set(MARKERS)) == len(MARKERS) >= len(SERIES) == len(set(SERIES))


@pytest.mark.parametrize("sight", SEEN_WITH)
@pytest.mark.parametrize("count", [2, 3, 5, 7])
def test_ramp_colors_are_distinguishable_and_become_lighter(count: int, sight: str) -> None:
    colors = ramp(count)
    assert min(distance(*pair, sight) for pair in combinations(colors, 2)) > 10
    lightness = [lab(color, sight)[0] for color in colors]
    assert lightness == sorted(lightness)


@pytest.mark.parametrize("sight", SEEN_WITH)
def test_landscape_colors_become_lighter_with_height(sight: str) -> None:
    lightness = [lab(color[:3], sight)[0] for color in matplotlib.colormaps[LANDSCAPE](np.linspace(0, 1, 23))]
    assert lightness == sorted(lightness)


def colors_of_the_bar(figure: Figure) -> Colormap:
    """Returns the color map of the color bar at the right of a figure."""
    (band,) = [part for part in figure.axes[-1].collections if isinstance(part, QuadMesh)]
    assert band.cmap is not None
    return band.cmap


AROUND_ZERO = {
    "weights": lambda: plots.kernel_grid([[[[-1.0]], [[2.0]]]]),
    "weights that are all above 0": lambda: plots.kernel_grid([[[[1.0]], [[2.0]]]]),
    "weights that are all 0": lambda: plots.kernel_grid([[[[0.0]]]]),
    "vectors of words": lambda: plots.one_hot_and_embedding(["a"], [0], [[-1.0, 2.0]]),
    "similarities": lambda: plots.similarity_matrix([[1.0]], ["a"]),
    "contributions of tokens": lambda: plots.token_contributions([-1.0, 2.0], ["a", "b"]),
    "outputs before an activation": lambda: plots.feature_map_grid([[[-1.0, 2.0]]]),
}
FROM_ZERO_UP = {
    "outputs after an activation": lambda: plots.feature_map_grid([[[0.0, 2.0]]]),
    "heat": lambda: plots.heat_on_picture(np.zeros((1, 2, 2, 1), np.uint8), np.ones((1, 2, 2)), ["A"]),
}


@pytest.mark.parametrize("sight", SEEN_WITH)
@pytest.mark.parametrize("name", AROUND_ZERO)
def test_numbers_around_0_become_darker_away_from_white_with_distinguishable_signs(name: str, sight: str) -> None:
    colors = colors_of_the_bar(AROUND_ZERO[name]())
    assert distance(colors(0.5)[:3], "white", sight) < 5
    above, below = ([colors(0.5 + sign * size / 2)[:3] for size in np.linspace(0, 1, 11)] for sign in (1, -1))
    for side in (above, below):
        lightness = np.array([lab(color, sight)[0] for color in side])
        assert np.diff(lightness).max() < -2  # from each tenth of the largest number to the next
    assert min(distance(*pair, sight) for pair in zip(above[2:], below[2:], strict=True)) > 15


@pytest.mark.parametrize("sight", SEEN_WITH)
@pytest.mark.parametrize("name", FROM_ZERO_UP)
def test_numbers_from_0_up_become_lighter(name: str, sight: str) -> None:
    colors = colors_of_the_bar(FROM_ZERO_UP[name]())
    lightness = np.array([lab(color[:3], sight)[0] for color in colors(np.linspace(0, 1, 11))])
    assert np.diff(lightness).min() > 2


@pytest.mark.parametrize("sight", SEEN_WITH)
def test_probabilities_grow_darker_from_white(sight: str) -> None:
    colors = colors_of_the_bar(plots.attention_maps([[[1.0]]], ["a"]))
    assert distance(colors(0.0)[:3], "white", sight) < 5
    lightness = np.array([lab(color[:3], sight)[0] for color in colors(np.linspace(0, 1, 11))])
    assert np.diff(lightness).max() < -2


@pytest.mark.parametrize("color", [*SERIES, *ramp(7)])
def test_every_line_color_has_contrast_to_white(color: str) -> None:
    luminance = ((lab(color)[0] + 16) / 116) ** 3
    assert 1.05 / (luminance + 0.05) > 2
