"""The loss over two parameters as a surface and as contours, with the paths of descents."""

from collections.abc import Iterable, Mapping
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm, Colormap, ListedColormap
from matplotlib.contour import ContourSet
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from keras_course.errors import CourseError
from keras_course.plots import checks
from keras_course.plots.checks import Numbers
from keras_course.plots.style import (
    COLORS,
    LANDSCAPE,
    MARKERS,
    SERIES,
    grid_shape,
    in_course_style,
    legend_below,
    new_figure,
    plain_number,
    series_look,
    shared_panels,
)

_BANDS = 22
_HALO = (patheffects.Stroke(linewidth=4.6, foreground="white"), patheffects.Normal())
_FEW_STEPS = 30  # with more, the marks at the steps would overlap
_WHITE: dict[str, Any] = {"markerfacecolor": "white", "markeredgecolor": COLORS["text"], "linestyle": ""}
START: dict[str, Any] = {**_WHITE, "marker": "o", "markersize": 10, "markeredgewidth": 2}  # of a path
_CROSS: dict[str, Any] = {**_WHITE, "marker": "X", "markersize": 11, "markeredgewidth": 1.2}


@in_course_style
def loss_surface(
    p: npt.ArrayLike,
    q: npt.ArrayLike,
    losses: npt.ArrayLike,
    *,
    path: npt.ArrayLike | None = None,
    path_losses: npt.ArrayLike | None = None,
    labels: tuple[str, str] = ("m", "b"),
    loss_label: str = "mean squared error",
    title: str | None = None,
) -> Figure:
    """Draws the loss over two parameters as a surface, with the path of a descent on it.

    Colors and contour lines are densest where the loss is small, as in ``loss_contours``, so that a long flat valley
    is visible even between high walls. If a few corners are much higher than all the rest, they are cut off. The
    surface is seen from the side toward which the path goes.

    Args:
        p: The first parameter, shape ``(columns,)``, increasing.
        q: The second one, shape ``(rows,)``, increasing.
        losses: The loss of each pair, shape ``(rows, columns)``, in the unit of ``loss_label``.
        path: The parameters after each step, shape ``(steps + 1, 2)``, with the start first. Steps outside of the
            surface, or not finite, are not drawn.
        path_losses: The loss after each step, shape ``(steps + 1,)``.
        labels: The names of ``p`` and ``q``.
        loss_label: The name of the loss, with its unit.
        title: A title.

    Returns:
        A figure with one panel in three dimensions.

    Raises:
        CourseError: The arguments do not fit each other.

    Example:
        >>> m, b = np.linspace(-1, 3, 5), np.linspace(0, 2, 3)
        >>> figure = loss_surface(m, b, (m - 1) ** 2 + (b[:, None] - 1) ** 2)
        >>> figure.axes[0].get_zlabel()
        'mean squared error'
    """
    p, q, losses = checks.landscape(p, q, losses)
    top = _sensible_top(losses)
    figure = new_figure(7.4, 6.2, title)
    axes = figure.add_subplot(projection="3d", computed_zorder=False)  # otherwise the surface can cover the path
    levels = contour_levels(losses)
    shown = np.minimum(losses, top)
    colors = _colors()(np.interp(losses, levels, np.linspace(0, 1, len(levels))))
    axes.plot_surface(
        *np.meshgrid(p, q), shown, facecolors=colors, rcount=120, ccount=120, antialiased=False, shade=False, zorder=1
    )
    axes.contour(p, q, shown, levels[1:-1], colors=COLORS["text"], linewidths=0.5, alpha=0.25, zorder=2)
    toward = np.array([1.0, -1.0])  # the side of the camera
    if path is not None:
        inside, heights = _on_surface(p, q, top, path, path_losses)
        _draw_path_on_surface(axes, inside, heights)
        lowest = np.unravel_index(np.nanargmin(losses), losses.shape)
        toward = np.array([p[lowest[1]], q[lowest[0]]]) - inside[0]
    # one of the four diagonal views; along an axis there is no depth
    axes.view_init(elev=38, azim=(55 if toward[0] >= 0 else 125) * (-1 if toward[1] < 0 else 1))
    axes.set(xlabel=labels[0], ylabel=labels[1], zlabel=loss_label)
    axes.set(xlim=(p[0], p[-1]), ylim=(q[0], q[-1]), zlim=(np.nanmin(shown), np.nanmax(shown)))
    axes.set_box_aspect((1, 1, 0.75), zoom=0.92)
    for axis in (axes.xaxis, axes.yaxis, axes.zaxis):
        axis.set_pane_color((0.97, 0.97, 0.97, 1))
        axis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10], prune="both"))
        axis.labelpad = 10
    axes.zaxis.set_major_formatter(lambda value, _: plain_number(value))
    longest = len(plain_number(float(f"{np.nanmax(shown):.1g}")))
    # the numbers are centered beside the axis: long ones would cover the surface, and the label would cover them
    axes.zaxis.set_tick_params(pad=2 + 1.6 * longest)
    axes.zaxis.labelpad = 4 + 3.2 * longest
    axes.tick_params(labelsize=12)
    return figure


@in_course_style
def loss_contours(
    p: npt.ArrayLike,
    q: npt.ArrayLike,
    losses: npt.ArrayLike,
    *,
    paths: Mapping[str, npt.ArrayLike] | None = None,
    minima: Iterable[tuple[float, float]] = (),
    labels: tuple[str, str] = ("m", "b"),
    loss_label: str = "mean squared error",
    title: str | None = None,
    panels: bool = False,
) -> Figure:
    """Draws the loss over two parameters as contours, with the paths of descents.

    The bands are narrow where the loss is small: the lowest one covers about a five-hundredth of the map, each further
    one covers more.

    Args:
        p: The first parameter, shape ``(columns,)``, increasing.
        q: The second one, shape ``(rows,)``, increasing.
        losses: The loss of each pair, shape ``(rows, columns)``, in the unit of ``loss_label``.
        paths: The parameters after each step for each name, shape ``(steps + 1, 2)``, with the start first. Steps
            outside of the map, or not finite, are not drawn.
        minima: Pairs of parameters to mark with a white cross.
        labels: The names of ``p`` and ``q``.
        loss_label: The name of the loss, with its unit.
        title: A title.
        panels: Whether each path gets its own map, with its name as title.

    Returns:
        A figure with one map, or one for each path, and a color bar.

    Raises:
        CourseError: The arguments do not fit each other.

    Example:
        >>> m, b = np.linspace(-1, 3, 5), np.linspace(0, 2, 3)
        >>> losses = (m - 1) ** 2 + (b[:, None] - 1) ** 2
        >>> figure = loss_contours(m, b, losses, paths={"SGD": [[3, 2], [2, 1.5]], "Adam": [[3, 2]]}, panels=True)
        >>> [axes.get_title() for axes in figure.axes]
        ['SGD', 'Adam', '']
    """
    p, q, losses = checks.landscape(p, q, losses)
    ways = {name: within_reach(checks.path(f"paths[{name!r}]", way), p, q) for name, way in (paths or {}).items()}
    crosses = np.array([checks.column("minima", pair, length=2, finite=True) for pair in minima]).reshape(-1, 2)
    if panels and not ways:
        raise CourseError("paths is empty; give at least one path, or panels=False")
    maps = [[name] for name in ways] if panels else [list(ways)]
    rows, columns = grid_shape(len(maps))
    figure = new_figure(*((2.0 + 3.5 * columns, 3.4 * rows) if panels else (7.6, 5.2)), title)
    every_axes = shared_panels(figure, len(maps), labels)
    for axes, names in zip(every_axes, maps, strict=True):
        bands = draw_contours(axes, p, q, losses)
        axes.plot(*crosses.T, **_CROSS, zorder=4)
        for name in names:
            _draw_path(axes, ways[name], name, position=list(ways).index(name), dashed=not panels)
        if panels:
            axes.set_title(names[0])
    if len(ways) and not panels:
        legend_below(figure, *every_axes)
    _color_bar(figure, bands, every_axes, loss_label)
    return figure


def contour_levels(losses: Numbers) -> Numbers:
    """Returns increasing bounds of the bands of a map: narrow where the loss is small; NaN is ignored.

    The bounds are quantiles of the losses at the squares of equal steps from 0 to 1: in a round bowl, circles at equal
    distances. They are rounded as far as they stay different, so that the color bar has short numbers.
    """
    quantiles = np.unique(np.nanquantile(losses, np.linspace(0, 1, _BANDS + 1) ** 2))
    if len(quantiles) == 1:  # flat: one band around the only value
        return quantiles[0] + np.array([-0.5, 0.5]) * max(1.0, abs(quantiles[0]))
    gaps = np.diff(quantiles)
    units = 10 ** np.floor(np.log10(np.minimum(np.append(gaps, gaps[-1]), np.insert(gaps, 0, gaps[0]))))
    rounded = np.round(quantiles / units)
    rounded[[0, -1]] = np.floor(quantiles[0] / units[0]), np.ceil(quantiles[-1] / units[-1])
    return np.unique(rounded * units)


def draw_contours(axes: Axes, p: Numbers, q: Numbers, losses: Numbers) -> ContourSet:
    """Draws the contours of a loss, fixes the limits of the axes, and returns the bands for a color bar."""
    levels = contour_levels(losses)
    heights = np.ma.masked_invalid(losses)
    bands = axes.contourf(p, q, heights, levels, cmap=_colors(), norm=BoundaryNorm(levels, 256))
    axes.contour(p, q, heights, levels[1:-1], colors="white", linewidths=0.5, alpha=0.6)
    axes.set(xlim=(p[0], p[-1]), ylim=(q[0], q[-1]))
    axes.autoscale(enable=False)
    axes.grid(visible=False)
    axes.tick_params(pad=7)  # otherwise the first numbers of both axes would touch
    return bands


def _color_bar(figure: Figure, bands: ContourSet, panels: list[Axes], loss_label: str) -> None:
    levels = np.asarray(bands.levels)
    shown = levels[:: max(1, len(levels) // 7)]
    bar = figure.colorbar(bands, ax=panels, ticks=shown, spacing="uniform", aspect=26, pad=0.02)
    bar.set_ticklabels([plain_number(level) for level in shown])
    bar.minorticks_off()
    bar.ax.tick_params(length=0)
    bar.set_label(loss_label)
    bar.outline.set_visible(False)


def within_reach(way: Numbers, p: Numbers, q: Numbers) -> Numbers:
    """Cuts a path where it is a million times the size of the map away: huge numbers overflow in drawing."""
    far = (np.abs(way) > 1e6 * np.array([np.abs(p).max(), np.abs(q).max()])).any(axis=1)
    return way[: int(far.argmax())] if far.any() else way


def _draw_path(axes: Axes, way: Numbers, name: str, *, position: int, dashed: bool) -> None:
    """Draws a path on a map: a mark at each of a few steps, and a white ring at the start."""
    look = series_look(position) | {"marker": MARKERS[position % len(MARKERS)], "markevery": _marked_steps(way, axes)}
    if not dashed:
        look["linestyle"] = "-"
    axes.plot(*way.T, color="white", linewidth=4.6)
    axes.plot(*way.T, **look, linewidth=2.5, markersize=8, markeredgecolor="white", markeredgewidth=0.8, label=name)
    axes.plot(*way[:1].T, **START)


def _marked_steps(way: Numbers, axes: Axes) -> list[int]:
    """Returns the steps that get a mark: all if there are few; else one per quarter of the panel, at most eleven."""
    if len(way) <= _FEW_STEPS:
        return list(range(len(way)))
    size = np.ptp(np.array([axes.get_xlim(), axes.get_ylim()]), axis=1)
    walked = np.cumsum(np.linalg.norm(np.diff(way, axis=0, prepend=way[:1]) / size, axis=1))
    apart = max(0.25, walked[-1] / 10)  # a noisy path is long
    marked = np.flatnonzero(np.diff(walked // apart) > 0) + 1
    return sorted({*marked.tolist(), len(way) - 1})


def _colors() -> Colormap:
    """Returns the colors of heights, blue for low and pale for high, on which every path is visible."""
    full = matplotlib.colormaps[LANDSCAPE](np.linspace(0.12, 0.97, 256))
    return ListedColormap(full + (1 - full) * 0.15)


def _on_surface(
    p: Numbers, q: Numbers, top: float, path: npt.ArrayLike, path_losses: npt.ArrayLike | None
) -> tuple[Numbers, Numbers]:
    """Checks a path with its losses, and returns the steps on the part of the surface that is drawn."""
    way = checks.path("path", path)
    if path_losses is None:
        raise CourseError("path_losses is missing; give the loss of each pair in path")
    heights = checks.column("path_losses", path_losses, length=len(np.asarray(path)))[: len(way)]
    on_map = ((way >= (p[0], q[0])) & (way <= (p[-1], q[-1]))).all(axis=1)
    on_it = on_map & np.isfinite(heights) & (heights <= top)
    if not on_it.any():
        raise CourseError(
            f"path starts at {tuple(way[0].tolist())} and is never on the surface; give p and q with a larger range"
        )
    return way[on_it], heights[on_it]


def _draw_path_on_surface(axes: Any, way: Numbers, heights: Numbers) -> None:
    marker = "o" if len(way) <= _FEW_STEPS else ""
    mark = {"marker": marker, "markersize": 5, "markeredgecolor": "white", "markeredgewidth": 0.7}
    axes.plot(*way.T, heights, color=SERIES[1], **mark, path_effects=_HALO, zorder=4, label="path")
    axes.plot(*way[:1].T, heights[:1], **START, zorder=5, label="start")
    axes.plot(*way[-1:].T, heights[-1:], **_CROSS, zorder=6, label="end")
    axes.legend(loc="upper right")


def _sensible_top(losses: Numbers) -> float:
    """Returns the height at which the surface is cut off: its top, or below a few much higher corners."""
    low, most, high = np.nanquantile(losses, (0, 0.9, 1))
    return float(min(high, low + 5 * (most - low)) if most > low else high)
