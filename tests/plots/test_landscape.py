"""Loss surfaces and maps: levels, paths, minima."""

from collections.abc import Callable

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex

from keras_course import plots
from keras_course.errors import CourseError
from keras_course.plots.landscape import contour_levels

M, B = np.linspace(-2, 5, 29), np.linspace(-3, 6, 19)
# The mean squared error of y = mx + b on (1, 3) and (2, 5).
LOSSES = ((M + B[:, None] - 3) ** 2 + (2 * M + B[:, None] - 5) ** 2) / 2
PATH = np.array([[-1.0, 5.0], [-0.7, 5.1], [0.5, 3.0]])
PATH_LOSSES = np.array([2.5, 1.825, 0.5])
DIVERGED = np.array([[-1.0, 5.0], [5.0, 7.0], [-3e4, -2e4], [1e200, 1e201], [np.inf, np.nan]])


def colored_paths(axes: Axes) -> list[np.ndarray]:
    return [line.get_xydata() for line in axes.lines if not line.get_label().startswith("_")]


def rings(axes: Axes) -> list[list[float]]:
    return [point for line in axes.lines if line.get_marker() == "o" for point in line.get_xydata().tolist()]


def test_loss_surface_shows_the_losses_and_the_path_at_its_losses() -> None:
    (axes,) = plots.loss_surface(M, B, LOSSES, path=PATH, path_losses=PATH_LOSSES, labels=("slope", "intercept")).axes
    assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_zlabel()) == ("slope", "intercept", "mean squared error")
    assert axes.get_zlim() == pytest.approx((LOSSES.min(), LOSSES.max()), rel=0.05)
    path, start, end = axes.lines
    np.testing.assert_allclose(np.transpose(path.get_data_3d()), np.column_stack([PATH, PATH_LOSSES]))
    np.testing.assert_allclose(np.ravel(start.get_data_3d()), [-1, 5, 2.5])
    np.testing.assert_allclose(np.ravel(end.get_data_3d()), [0.5, 3, 0.5])
    surface = axes.collections[0]
    assert not axes.computed_zorder  # otherwise matplotlib orders by distance, and the surface covers the path
    assert path.get_zorder() > surface.get_zorder()


def test_loss_surface_shows_only_the_part_of_a_path_that_is_on_it() -> None:
    losses = np.array([2.5, 40.0, 1e9, 1e300, np.inf])
    (axes,) = plots.loss_surface(M, B, LOSSES, path=DIVERGED, path_losses=losses).axes
    np.testing.assert_allclose(np.transpose(axes.lines[0].get_data_3d()), [[-1, 5, 2.5]])


def test_loss_surface_cuts_off_a_few_high_corners() -> None:
    losses = LOSSES.copy()
    losses[0, 0], losses[-1, -1] = 1e12, np.inf
    (axes,) = plots.loss_surface(M, B, losses).axes
    low, most = LOSSES.min(), np.quantile(LOSSES, 0.9)
    assert axes.get_zlim()[1] == pytest.approx(low + 5 * (most - low), rel=0.1)


@pytest.mark.parametrize("end", [(5, -3), (5, 6), (-2, -3), (-2, 6)])
def test_camera_is_on_the_side_toward_which_the_path_goes(end: tuple[float, float]) -> None:
    bowl = (M - 1.5) ** 2 + (B[:, None] - 1.5) ** 2  # the lowest point is in the middle
    start = 3 - np.array(end)  # the corner opposite to the end
    (axes,) = plots.loss_surface(M, B, bowl, path=[start], path_losses=[1.0]).axes
    camera = np.array([np.cos(np.radians(axes.azim)), np.sin(np.radians(axes.azim))])
    assert (np.sign(camera) == np.sign(np.array(end) - 1.5)).all()


def test_loss_contours_show_each_path_with_its_start_and_the_minima() -> None:
    figure = plots.loss_contours(M, B, LOSSES, paths={"slow": PATH, "fast": PATH[::2]}, minima=[(2, 1)])
    axes, bar = figure.axes
    slow, fast = colored_paths(axes)
    np.testing.assert_array_equal(slow, PATH)
    np.testing.assert_array_equal(fast, PATH[::2])
    assert rings(axes).count([-1.0, 5.0]) >= 2
    (cross,) = [line for line in axes.lines if line.get_marker() == "X"]
    assert cross.get_xydata().tolist() == [[2.0, 1.0]]
    assert to_hex(cross.get_markerfacecolor()) == "#ffffff"
    assert (axes.get_xlabel(), axes.get_ylabel(), bar.get_ylabel()) == ("m", "b", "mean squared error")
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["slow", "fast"]


def test_paths_differ_in_color_in_marker_and_in_line_style() -> None:
    names = ["SGD", "momentum", "Adagrad", "RMSprop"]
    (axes, _) = plots.loss_contours(M, B, LOSSES, paths=dict.fromkeys(names, PATH)).axes
    lines = [line for line in axes.lines if line.get_label() in names]
    for property_of in ("get_color", "get_marker"):
        assert len({getattr(line, property_of)() for line in lines}) == 4
    assert len({str(line._dash_pattern) for line in lines}) == 4


@pytest.mark.parametrize("panels", [False, True])
def test_a_path_that_leaves_the_map_does_not_change_the_axes(panels: bool) -> None:
    figure = plots.loss_contours(M, B, LOSSES, paths={"diverged": DIVERGED}, panels=panels)
    figure.canvas.draw()
    axes = figure.axes[0]
    assert axes.get_xlim() == (-2, 5)
    assert axes.get_ylim() == (-3, 6)
    np.testing.assert_array_equal(colored_paths(axes)[0], DIVERGED[:3])


def test_a_path_that_starts_far_outside_of_the_map_is_not_drawn() -> None:
    axes = plots.loss_contours(M, B, LOSSES, paths={"lost": [[1e30, 0.0], [1.0, 1.0]]}).axes[0]
    assert len(colored_paths(axes)[0]) == 0


def test_each_panel_shows_one_path_with_its_name() -> None:
    paths = {name: PATH + k for k, name in enumerate(["a", "b", "c", "d", "e"])}
    figure = plots.loss_contours(M, B, LOSSES, paths=paths, minima=[(2, 1)], panels=True)
    *panels, _ = figure.axes
    assert [axes.get_title() for axes in panels] == list(paths)
    for axes, path in zip(panels, paths.values(), strict=True):
        (shown,) = colored_paths(axes)
        np.testing.assert_array_equal(shown, path)
        assert [line.get_marker() for line in axes.lines].count("X") == 1
    assert not figure.legends


def test_every_step_of_a_short_path_and_some_of_a_long_one_are_marked() -> None:
    long = np.stack([np.linspace(-2, 5, 1001), np.full(1001, 1.0)], axis=1)
    axes = plots.loss_contours(M, B, LOSSES, paths={"short": PATH, "long": long}).axes[0]
    short_line, long_line = [line for line in axes.lines if line.get_label() in ("short", "long")]
    assert list(short_line.get_markevery()) == [0, 1, 2]
    # From left to right the panel is crossed once: a mark after each quarter, and at the end.
    np.testing.assert_allclose(long_line.get_markevery(), [251, 501, 751, 1000], atol=2)


def test_a_noisy_path_has_few_marks() -> None:
    jitter = 2 * np.random.default_rng(0).normal(size=(5000, 2))
    axes = plots.loss_contours(M, B, LOSSES, paths={"stochastic": jitter}).axes[0]
    (line,) = [line for line in axes.lines if line.get_label() == "stochastic"]
    assert 8 <= len(line.get_markevery()) <= 11


def test_levels_of_a_round_bowl_are_circles_at_equal_distances() -> None:
    x = np.linspace(-1, 1, 801)
    distance = np.hypot(x, x[:, None])
    levels = contour_levels(np.where(distance <= 1, distance**2, np.nan))
    radii = np.sqrt(levels)
    np.testing.assert_allclose(radii, np.linspace(0, 1, len(levels)), atol=0.02)


@pytest.mark.parametrize("offset", [0.0, 1e3, -5.0])
@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e8])
def test_levels_increase_and_cover_all_losses(offset: float, scale: float) -> None:
    losses = offset + scale * LOSSES
    levels = contour_levels(losses)
    assert levels[0] <= losses.min()
    assert levels[-1] >= losses.max()
    assert (np.diff(levels) > 0).all()
    assert len(levels) > 10


def test_the_lowest_band_is_a_small_part_of_the_map() -> None:
    levels = contour_levels(LOSSES)
    assert 0 < (levels[1] >= LOSSES).mean() < 0.02


def test_a_constant_loss_has_one_band() -> None:
    np.testing.assert_array_equal(contour_levels(np.full((3, 3), 4.0)), [2.0, 6.0])


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: plots.loss_surface(M, B, LOSSES.T), r"losses have shape \(29, 19\); give \(19, 29\)"),
        (lambda: plots.loss_contours(M[::-1], B, LOSSES), r"p is \[5, 4.75, 4.5, 4.25, ...\]; give two or more"),
        (lambda: plots.loss_contours(M, B[:1], LOSSES[:1]), r"q is \[-3\]; give two or more"),
        (lambda: plots.loss_contours(M, B * np.nan, LOSSES), "q has 19 values, 0 of them finite"),
        (lambda: plots.loss_contours(M, B, LOSSES * np.nan), "losses hold no finite number"),
        (lambda: plots.loss_contours(M, B, LOSSES, paths={"a": PATH.T}), r"paths\['a'\] has shape \(2, 3\); give"),
        (
            lambda: plots.loss_contours(M, B, LOSSES, paths={"a": DIVERGED[::-1]}),
            r"paths\['a'\] starts at \(inf, nan\)",
        ),
        (lambda: plots.loss_contours(M, B, LOSSES, minima=[(1, 2, 3)]), r"minima has shape \(3,\); give 2 numbers"),
        (lambda: plots.loss_contours(M, B, LOSSES, panels=True), "paths is empty; give at least one"),
        (lambda: plots.loss_surface(M, B, LOSSES, path=PATH), "path_losses is missing"),
        (lambda: plots.loss_surface(M, B, LOSSES, path=PATH, path_losses=[1]), r"path_losses has shape \(1,\); give 3"),
        (lambda: plots.loss_surface(M, B, LOSSES, path=PATH + 50, path_losses=[1, 1, 1]), "is never on the surface"),
    ],
)
def test_error_names_the_bad_input(draw: Callable[[], object], message: str) -> None:
    with pytest.raises(CourseError, match=message):
        draw()
