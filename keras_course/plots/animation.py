"""An animation of a descent: the path on the loss surface, the line through the points, and the loss."""

import base64
import io
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from keras_course.errors import CourseError
from keras_course.files import replacing
from keras_course.plots import checks
from keras_course.plots.checks import Numbers
from keras_course.plots.fits import limits_near, widened
from keras_course.plots.landscape import START, draw_contours, within_reach
from keras_course.plots.style import (
    COLORS,
    LINE_STYLES,
    checked_target,
    count_in_whole_numbers,
    in_course_style,
    make_logarithmic,
    new_figure,
    spans_sizes,
)

_MOVING: dict[str, Any] = {"color": COLORS["validation"], "animated": True}
_HEAD: dict[str, Any] = {**_MOVING, "markersize": 11, "markeredgecolor": "white", "markeredgewidth": 1.5}
_COLORS_OF_GIF = 255  # and one for pixels that do not change
_LAST_FRAME_MS = 2000
_Draw = Callable[[int], list[Artist]]  # from a step to the artists that change


@dataclass(frozen=True)
class Animation:
    """An animation that a notebook shows and ``save_animation`` writes.

    Attributes:
        frames: RGB images of the same size.
        durations: The duration of each frame in milliseconds.

    Example:
        >>> film = Animation((Image.new("RGB", (4, 3)), Image.new("RGB", (4, 3), "white")), (100, 2000))
        >>> film.gif()[:6]
        b'GIF89a'
    """

    frames: tuple[Image.Image, ...]
    durations: tuple[int, ...]

    def gif(self) -> bytes:
        r"""Encodes the animation as GIF.

        Returns:
            A GIF file that repeats forever. All frames have the same 255 colors without dithering, so that the
            background does not flicker.

        Example:
            >>> Animation((Image.new("RGB", (4, 3)),), (2000,)).gif()[6:10]
            b'\x04\x00\x03\x00'
        """
        first, *rest = _with_one_palette(self.frames)
        buffer = io.BytesIO()
        timing: dict[str, Any] = {"duration": list(self.durations), "loop": 0}
        # `optimize` stores only what changes
        first.save(buffer, format="GIF", save_all=True, append_images=rest, optimize=True, **timing)
        return buffer.getvalue()

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        return {
            "image/gif": base64.b64encode(self.gif()).decode("ascii"),
            "text/plain": f"<an animation of {len(self.frames)} frames>",
        }


@in_course_style
def descent_animation(
    p: npt.ArrayLike,
    q: npt.ArrayLike,
    losses: npt.ArrayLike,
    path: npt.ArrayLike,
    path_losses: npt.ArrayLike,
    *,
    x: npt.ArrayLike | None = None,
    y: npt.ArrayLike | None = None,
    labels: tuple[str, str] = ("m", "b"),
    loss_label: str = "mean squared error",
    frames: int = 40,
    seconds: float = 6.0,
) -> Animation:
    """Animates a descent: the path on the loss surface, the line through the points, and the loss so far.

    It shows each of the first steps and fewer of the later ones, at equal ratios, because early steps are large and
    late ones small. A path that diverges is shown until it is a million times the size of the map away.

    Args:
        p: Values of the first parameter, shape ``(columns,)``, increasing; with points, the slope m.
        q: Values of the second parameter, shape ``(rows,)``, increasing; with points, the intercept b.
        losses: The loss of each pair, shape ``(rows, columns)``.
        path: The parameters after each step, shape ``(steps + 1, 2)``, with the start first.
        path_losses: The loss after each step, shape ``(steps + 1,)``.
        x: Inputs of the points to which the line ŷ = mx + b is fitted, shape ``(n,)``; without points there is no panel
            for the line.
        y: Targets of the points, shape ``(n,)``.
        labels: The names of ``p`` and ``q``.
        loss_label: The name of the loss, with its unit.
        frames: The largest number of frames.
        seconds: The duration; the last frame is shown for two more seconds.

    Returns:
        The animation. With the same versions of matplotlib and Pillow, the same arguments give the same bytes.

    Raises:
        CourseError: Shapes do not match, or ``frames`` or ``seconds`` is out of range.

    Example:
        >>> m, b = np.linspace(-1, 3, 5), np.linspace(0, 2, 3)
        >>> losses = (m - 1) ** 2 + (b[:, None] - 1) ** 2
        >>> film = descent_animation(m, b, losses, [[3, 2], [2, 1.5], [1, 1]], [5, 1.25, 0], seconds=1)
        >>> len(film.frames), film.durations
        (3, (500, 500, 2000))
    """
    p, q, losses = checks.landscape(p, q, losses)
    way = within_reach(checks.path("path", path), p, q)
    heights = checks.column("path_losses", path_losses, length=len(np.asarray(path)))[: len(way)]
    if not len(way):
        raise CourseError("path starts too far outside of p and q; give p and q with a larger range")
    if not isinstance(frames, Integral) or frames < 2:
        raise CourseError(f"frames is {frames!r}; give a whole number from 2 up")
    if not 0 < seconds <= 600:
        raise CourseError(f"seconds is {seconds}; give a time above 0, at most 600")
    if (x is None) != (y is None):
        raise CourseError(f"{'y' if y is None else 'x'} is missing; give x and y of the points, or neither")
    panels = 2 if x is None or y is None else 3
    figure = new_figure(3.9 * panels, 4.1, " ")  # room for a line with the step
    canvas = FigureCanvasAgg(figure)
    every_axes = figure.subplots(1, panels)
    drawings = [_draw_map(every_axes[0], p, q, losses, way, labels)]
    if x is not None and y is not None:
        drawings.append(_draw_line(every_axes[1], *checks.points("x and y", x, y), way))
    drawings.append(_draw_losses(every_axes[-1], heights, loss_label))
    heading = figure.text(0.012, 0.975, "", ha="left", va="top", fontsize=15, animated=True)
    canvas.draw()  # the layout and everything that does not change
    figure.set_layout_engine("none")
    ground = canvas.copy_from_bbox(figure.bbox)
    pictures = []
    steps = _shown_steps(len(way), frames)
    for step in steps:
        canvas.restore_region(ground)
        heading.set_text(
            f"step {step:,}:   {labels[0]} = {way[step, 0]:.4g}   {labels[1]} = {way[step, 1]:.4g}   "
            f"{loss_label} {heights[step]:.4g}".replace("-", "−")
        )
        for artist in [heading, *(artist for draw in drawings for artist in draw(step))]:
            artist.axes.draw_artist(artist) if artist.axes else figure.draw_artist(artist)
        pictures.append(Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy()))
    each = max(20, 10 * round(100 * seconds / max(1, len(steps) - 1)))  # GIF counts in hundredths of a second
    return Animation(tuple(pictures), (*[each] * (len(steps) - 1), _LAST_FRAME_MS))


def save_animation(animation: Animation, path: str | os.PathLike[str]) -> Animation:
    """Writes an animation as a GIF file and its last frame as a PNG file, for readers who prefer no motion.

    Args:
        animation: The animation.
        path: The path of the GIF file, ending in ``.gif``; missing folders are created. The PNG file has the same name.

    Returns:
        The animation; a notebook shows it where it is the last value of a cell.

    Raises:
        CourseError: The path does not end in ``.gif``.

    Example:
        >>> import tempfile
        >>> folder = tempfile.TemporaryDirectory()
        >>> film = Animation((Image.new("RGB", (4, 3)),), (2000,))
        >>> _ = save_animation(film, f"{folder.name}/descent.gif")
        >>> sorted(os.listdir(folder.name))
        ['descent.gif', 'descent.png']
        >>> folder.cleanup()
    """
    target = checked_target(path, ".gif")
    still = io.BytesIO()
    animation.frames[-1].save(still, format="PNG", optimize=True)
    for name, data in ((target.with_suffix(".png"), still.getvalue()), (target, animation.gif())):
        with replacing(name) as file:
            file.write(data)
    return animation


def _with_one_palette(frames: Sequence[Image.Image]) -> list[Image.Image]:
    """Reduces all frames to one palette, from the colors of the first, the middle and the last frame."""
    chosen = [np.asarray(frames[index]) for index in (0, len(frames) // 2, -1)]
    # Of Pillow's methods, only this one keeps white: the page behind the figures is white.
    palette = Image.fromarray(np.concatenate(chosen)).quantize(_COLORS_OF_GIF, Image.Quantize.MAXCOVERAGE)
    return [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]


def _shown_steps(count: int, frames: int) -> list[int]:
    """Returns at most ``frames`` of the steps from 0 to ``count`` - 1: all at first, then at equal ratios."""
    if count <= frames:
        return list(range(count))
    shown = np.array([0, count - 1])
    for wanted in range(frames, 10 * count):  # some round to the same step: increase until there are enough
        steps = np.unique(np.geomspace(1, count, wanted).round().astype(int)) - 1
        if len(steps) > frames:
            break
        shown = steps
    return shown.tolist()


def _draw_map(axes: Axes, p: Numbers, q: Numbers, losses: Numbers, way: Numbers, labels: tuple[str, str]) -> _Draw:
    draw_contours(axes, p, q, losses)
    axes.set(xlabel=labels[0], ylabel=labels[1], title="path of the descent")
    (start,) = axes.plot(*way[:1].T, **START, animated=True)
    (halo,) = axes.plot([], [], color="white", linewidth=4.4, animated=True)
    (line,) = axes.plot([], [], **_MOVING)
    (head,) = axes.plot([], [], "o", **_HEAD)

    def draw(step: int) -> list[Artist]:
        for artist in (halo, line):
            artist.set_data(*way[: step + 1].T)
        head.set_data(*way[step : step + 1].T)
        return [halo, line, start, head]

    return draw


def _draw_line(axes: Axes, x: Numbers, y: Numbers, way: Numbers) -> _Draw:
    ends = widened(x, 0.08)
    axes.plot(x, y, "o", color=COLORS["text"], markersize=9)
    start, last = (m * ends + b for m, b in (way[0], way[-1]))
    axes.plot(ends, start, color=COLORS["quiet"], linestyle=LINE_STYLES[1], linewidth=1.6)
    axes.set(xlim=ends, ylim=limits_near(y, np.append(start, last)), xlabel="x", ylabel="y")
    axes.set_title("line (dashed: at the start)")
    (line,) = axes.plot([], [], linewidth=3.2, **_MOVING)

    def draw(step: int) -> list[Artist]:
        line.set_data(ends, way[step, 0] * ends + way[step, 1])
        return [line]

    return draw


def _draw_losses(axes: Axes, heights: Numbers, loss_label: str) -> _Draw:
    finite = heights[np.isfinite(heights)]
    if spans_sizes(finite):
        make_logarithmic(axes.yaxis)
        axes.set_ylim(finite.min() / 1.3, finite.max() * 1.3)
    else:
        axes.set_ylim(*widened(finite, 0.05))
    axes.set_xlim(*widened(np.array([0.0, len(heights) - 1]), 0.04))
    count_in_whole_numbers(axes.xaxis, most=4)
    axes.set(xlabel="step", ylabel=loss_label, title="loss")
    (line,) = axes.plot([], [], **_MOVING)
    (head,) = axes.plot([], [], "o", **_HEAD)

    def draw(step: int) -> list[Artist]:
        line.set_data(np.arange(step + 1), heights[: step + 1])
        head.set_data([step], heights[step : step + 1])
        return [line, head]

    return draw
