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
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from keras_course.errors import CourseError
from keras_course.plots import checks
from keras_course.plots.checks import Numbers
from keras_course.plots.style import (
    COLORS,
    LANDSCAPE,
    LINE_STYLES,
    MARKERS,
    SERIES,
    in_course_style,
    legend_below,
    new_figure,
    plain_number,
)

_BANDS = 22
_PATH_COLOR = SERIES[1]
_HALO = (patheffects.Stroke(linewidth=4.6, foreground="white"), patheffects.Normal())
_FEW_STEPS = 30  # with more, the marks at the steps would overlap
_START: dict[str, Any] = {
    "marker": "o",
    "markersize": 10,
    "markerfacecolor": "white",
    "markeredgecolor": COLORS["text"],
    "markeredgewidth": 2,
    "linestyle": "",
}
_CROSS: dict[str, Any] = {
    "marker": "X",
    "markersize": 11,
    "markerfacecolor": "white",
    "markeredgecolor": COLORS["text"],
    "markeredgewidth": 1.2,
    "linestyle": "",
}


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
    axes.plot_surface(
        *np.meshgrid(p, q),
        shown,
        facecolors=_colors()(np.interp(losses, levels, np.linspace(0, 1, len(levels)))),
        rcount=120,
        ccount=120,
        antialiased=False,
        shade=False,
        zorder=1,
    )
    axes.contour(p, q, shown, levels[1:-1], colors=COLORS["text"], linewidths=0.5, alpha=0.25, zorder=2)
    toward = np.array([1.0, -1.0])  # the side of the camera
    if path is not None:
        inside, heights = _on_surface(p, q, top, path, path_losses)
        _draw_path_on_surface(axes, inside, heights)
        lowest = np.unravel_index(np.nanargmin(losses), losses.shape)
        toward = _unit(np.array([p[lowest[1]], q[lowest[0]]]) - inside[0], p, q)
    # one of the four diagonal views; along an axis there is no depth
    axes.view_init(elev=38, azim=(-55 if toward[1] < 0 else 55) if toward[0] >= 0 else (-125 if toward[1] < 0 else 125))
    axes.set(xlabel=labels[0], ylabel=labels[1], zlabel=loss_label)
    axes.set(xlim=(p[0], p[-1]), ylim=(q[0], q[-1]), zlim=(np.nanmin(shown), np.nanmax(shown)))
    axes.set_box_aspect((1, 1, 0.75), zoom=0.92)
    for axis in (axes.xaxis, axes.yaxis, axes.zaxis):
        axis.set_pane_color((0.97, 0.97, 0.97, 1))
        axis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10], prune="both"))
        axis.labelpad = 10
    axes.zaxis.set_major_formatter(FuncFormatter(lambda value, _: plain_number(value)))
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
    columns = (2 if len(ways) in (2, 4) else min(len(ways), 3)) if panels else 1
    rows = -(-len(ways) // columns) if panels else 1
    figure = new_figure(2.0 + (3.5 * columns if panels else 5.6), 3.4 * rows if panels else 5.2, title)
    every_axes = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).ravel()
    for axes in every_axes[len(ways) if panels else 1 :]:
        axes.remove()
    used = every_axes[: len(ways) if panels else 1]
    for number, axes in enumerate(used):
        bands = draw_contours(axes, p, q, losses)
        axes.plot(*crosses.T, **_CROSS, zorder=4)
        for position, (name, way) in enumerate(ways.items()):
            if not panels or position == number:
                draw_path(axes, way, name, look=position, dashed=not panels)
        below = number + columns >= len(ways) if panels else True
        axes.tick_params(labelbottom=below)
        axes.set(xlabel=labels[0] if below else "", ylabel=labels[1] if number % columns == 0 else "")
        if panels:
            axes.set_title(list(ways)[number])
    if len(ways) and not panels:
        legend_below(figure, *used)
    color_bar(figure, bands, list(used), loss_label)
    return figure


def contour_levels(losses: Numbers) -> Numbers:
    """Returns the bounds of the bands of a map: narrow where the loss is small.

    The bounds are quantiles of the losses at the squares of equal steps from 0 to 1. In a round bowl they are circles
    at equal distances. They are rounded as far as they stay different, so that the color bar has short numbers.

    Args:
        losses: The losses on a grid; NaN is ignored.

    Returns:
        Increasing bounds, shape ``(bands + 1,)``.

    Example:
        >>> levels = contour_levels(np.arange(10001.0))
        >>> levels[:4], levels[-1]
        (array([  0.,  20.,  80., 200.]), np.float64(10000.0))
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
    """Draws the contours of a loss.

    Args:
        axes: The panel. Its limits are fixed to those of the map.
        p: Values of the first parameter, shape ``(columns,)``.
        q: Values of the second parameter, shape ``(rows,)``.
        losses: The loss of each pair, shape ``(rows, columns)``; NaN stays empty.

    Returns:
        The bands, for ``color_bar``.

    Example:
        >>> axes = new_figure(4, 4).subplots()
        >>> bands = draw_contours(axes, np.arange(3.0), np.arange(2.0), np.arange(6.0).reshape(2, 3))
        >>> axes.get_autoscale_on()
        False
    """
    levels = contour_levels(losses)
    heights = np.ma.masked_invalid(losses)
    bands = axes.contourf(p, q, heights, levels, cmap=_colors(), norm=BoundaryNorm(levels, 256))
    axes.contour(p, q, heights, levels[1:-1], colors="white", linewidths=0.5, alpha=0.6)
    axes.set(xlim=(p[0], p[-1]), ylim=(q[0], q[-1]))
    axes.autoscale(enable=False)
    axes.grid(visible=False)
    axes.tick_params(pad=7)  # otherwise the first numbers of both axes would touch
    return bands


def color_bar(figure: Figure, bands: ContourSet, panels: list[Axes], loss_label: str) -> None:
    """Draws the color bar of a map.

    Args:
        figure: The figure of the map.
        bands: The return value of ``draw_contours``.
        panels: The panels beside which it is drawn.
        loss_label: The name of the loss, with its unit.

    Example:
        >>> figure = new_figure(4, 4)
        >>> axes = figure.subplots()
        >>> bands = draw_contours(axes, np.arange(3.0), np.arange(2.0), np.arange(6.0).reshape(2, 3))
        >>> color_bar(figure, bands, [axes], "mean squared error")
        >>> figure.axes[1].get_ylabel()
        'mean squared error'
    """
    levels = np.asarray(bands.levels)
    shown = levels[:: max(1, len(levels) // 7)]
    bar = figure.colorbar(bands, ax=panels, ticks=shown, spacing="uniform", aspect=26, pad=0.02)
    bar.set_ticklabels([plain_number(level) for level in shown])
    bar.minorticks_off()
    bar.ax.tick_params(length=0)
    bar.set_label(loss_label)
    bar.outline.set_visible(False)


def within_reach(way: Numbers, p: Numbers, q: Numbers) -> Numbers:
    """Cuts a path where it is a million times the size of the map away: huge numbers overflow in drawing.

    Args:
        way: Finite pairs of parameters, shape ``(steps + 1, 2)``.
        p: Values of the first parameter on the map, shape ``(columns,)``.
        q: Values of the second parameter on the map, shape ``(rows,)``.

    Returns:
        The pairs before the cut.

    Example:
        >>> within_reach(np.array([[0.0, 1.0], [1e300, 1.0], [0.0, 0.0]]), np.array([0.0, 1.0]), np.array([0.0, 1.0]))
        array([[0., 1.]])
    """
    far = (np.abs(way) > 1e6 * np.array([np.abs(p).max(), np.abs(q).max()])).any(axis=1)
    return way[: int(far.argmax())] if far.any() else way


def draw_path(axes: Axes, way: Numbers, name: str, *, look: int = 0, dashed: bool = False) -> Line2D:
    """Draws a path on a map: a mark at each of a few steps, and a white ring at the start.

    Args:
        axes: A panel with the contours.
        way: Finite pairs of parameters, shape ``(steps + 1, 2)``.
        name: The name in the legend.
        look: The number of its color, marker and line style, counted from 0.
        dashed: Whether the line style depends on ``look``, too.

    Returns:
        The line.

    Example:
        >>> axes = new_figure(4, 4).subplots()
        >>> draw_path(axes, np.array([[0.0, 1.0], [0.5, 1.0]]), "SGD").get_label()
        'SGD'
    """
    axes.plot(*way.T, color="white", linewidth=4.6)
    (line,) = axes.plot(
        *way.T,
        color=SERIES[look % len(SERIES)],
        linestyle=LINE_STYLES[look % len(LINE_STYLES)] if dashed else "-",
        marker=MARKERS[look % len(MARKERS)],
        linewidth=2.5,
        markersize=8,
        markevery=_marked_steps(way, axes),
        markeredgecolor="white",
        markeredgewidth=0.8,
        label=name,
    )
    draw_start(axes, way)
    return line


def draw_start(axes: Axes, way: Numbers) -> Line2D:
    """Draws the white ring at the start of a path.

    Args:
        axes: A panel with the contours.
        way: Pairs of parameters, shape ``(steps + 1, 2)``, or none.

    Returns:
        The ring.

    Example:
        >>> axes = new_figure(4, 4).subplots()
        >>> draw_start(axes, np.array([[0.0, 1.0], [0.5, 1.0]])).get_xydata().tolist()
        [[0.0, 1.0]]
    """
    (ring,) = axes.plot(*way[:1].T, **_START)
    return ring


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
    on_it = (
        (way >= (p[0], q[0])).all(axis=1)
        & (way <= (p[-1], q[-1])).all(axis=1)
        & np.isfinite(heights)
        & (heights <= top)
    )
    if not on_it.any():
        raise CourseError(
            f"path starts at {tuple(way[0].tolist())} and is never on the surface; give p and q with a larger range"
        )
    return way[on_it], heights[on_it]


def _draw_path_on_surface(axes: Any, way: Numbers, heights: Numbers) -> None:
    few = len(way) <= _FEW_STEPS
    axes.plot(
        *way.T,
        heights,
        color=_PATH_COLOR,
        marker="o" if few else "",
        markersize=5,
        markeredgecolor="white",
        markeredgewidth=0.7,
        path_effects=_HALO,
        zorder=4,
        label="path",
    )
    axes.plot(*way[:1].T, heights[:1], **_START, zorder=5, label="start")
    axes.plot(*way[-1:].T, heights[-1:], **_CROSS, zorder=6, label="end")
    axes.legend(loc="upper right")


def _sensible_top(losses: Numbers) -> float:
    """Returns the height at which the surface is cut off: its top, or below a few much higher corners."""
    low, most, high = np.nanquantile(losses, (0, 0.9, 1))
    return float(min(high, low + 5 * (most - low)) if most > low else high)


def _unit(vector: Numbers, p: Numbers, q: Numbers) -> Numbers:
    return vector / (p[-1] - p[0], q[-1] - q[0])
