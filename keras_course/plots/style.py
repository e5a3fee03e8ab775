"""The common style of the figures: colors, sizes, axes and legends; and saving.

Sources of the colors: M. Okabe and K. Ito, "Color Universal Design", 2008, for categories; matplotlib's plasma
(S. van der Walt and N. Smith, 2015) for ordered values; YlGnBu (C. Brewer, colorbrewer2.org) for heights.
"""

import io
import os
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, fontManager, get_font
from matplotlib.legend import Legend
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from keras_course.errors import CourseError
from keras_course.files import replacing
from keras_course.foreign_text import printable

COLORS = {
    "training": "#0072B2",  # blue
    "validation": "#D55E00",  # vermilion
    "highlight": "#009E73",  # bluish green
    "text": "#222222",
    "quiet": "#8A8A8A",
}
# Categories. The first four differ most for people who do not see red and green; each also has a marker.
SERIES = ("#0072B2", "#D55E00", "#000000", "#CC79A7", "#E69F00", "#56B4E9", "#009E73")
MARKERS = ("o", "s", "^", "D", "v", "P", "<", ">", "p", "h")  # without crosses, which mark minima and ends
LINE_STYLES: tuple[Any, ...] = ("-", (0, (6, 1.3)), (0, (2.4, 1)), (0, (7, 1.2, 1.6, 1.2)))
LANDSCAPE = "YlGnBu_r"
LUMA = np.array([0.299, 0.587, 0.114])  # the weights of red, green and blue in the brightness of a color
DOTS_PER_INCH = 120

# For scripts that matplotlib's own font lacks; the fonts of Linux, macOS and Windows.
_OTHER_FONTS = (
    *("Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans SC", "Noto Sans JP", "Noto Sans KR", "Source Han Sans SC"),
    *("WenQuanYi Micro Hei", "WenQuanYi Zen Hei", "Droid Sans Fallback", "Hiragino Sans GB", "Arial Unicode MS"),
    *("Microsoft YaHei", "Yu Gothic", "Malgun Gothic", "Nirmala UI", "Segoe UI Emoji", "Noto Emoji", "Symbola"),
)
_INSTALLED = {font.name for font in fontManager.ttflist}
_OWN_FONT = "DejaVu Sans"
_WITHOUT_GLYPH = "□"

# Figures are readable at half size.
STYLE: dict[str, Any] = {
    "figure.dpi": DOTS_PER_INCH,
    "figure.facecolor": "white",
    "figure.titlesize": 15,
    "figure.constrained_layout.h_pad": 0.12,
    "figure.constrained_layout.w_pad": 0.12,
    "font.family": [_OWN_FONT, *(name for name in _OTHER_FONTS if name in _INSTALLED)],
    "font.size": 13,
    "axes.titlesize": 13,
    "axes.labelsize": 13,
    "axes.edgecolor": COLORS["quiet"],
    "axes.labelcolor": COLORS["text"],
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.9,
    "xtick.color": COLORS["quiet"],
    "ytick.color": COLORS["quiet"],
    "xtick.labelcolor": COLORS["text"],
    "ytick.labelcolor": COLORS["text"],
    "lines.linewidth": 2.2,
    "lines.markersize": 7,
    "legend.frameon": False,
    "legend.fontsize": 12,
    "text.color": COLORS["text"],
    "text.parse_math": False,  # otherwise a class called "$5 or $10" would be a formula
}


class _NotebookFigure(Figure):
    """A figure that Jupyter shows without pyplot's inline backend."""

    def _repr_png_(self) -> bytes:
        return png_bytes(self)


@contextmanager
def _course_style() -> Iterator[None]:
    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # a matplotlibrc of the user must not change a figure
        matplotlib.rcParams.update(STYLE)
        yield


in_course_style = _course_style()  # as a decorator: the settings hold during each call, and are then restored


def new_figure(width: float, height: float, title: str | None = None) -> Figure:
    """Makes an empty figure, in inches, with constrained layout and without pyplot, which a notebook can show."""
    figure = _NotebookFigure(figsize=(width, height), layout="constrained")
    if title:
        figure.suptitle(title)
    return figure


def tiled_axes(
    figure: Figure, count: int, columns: int, *, above: float = 0.0, right: float = 0.1, top: float = 0.0
) -> list[Axes]:
    """Divides a figure into ``count`` tiles of one size, row by row, without constrained layout.

    That layout measures every text and takes two seconds for sixty tiles. ``above`` is the space for the title of each
    tile, ``right`` and ``top`` the space beside and above all of them, in inches.
    """
    figure.set_layout_engine("none")
    gap = 0.1  # between two tiles, and around all of them
    width, height = figure.get_size_inches()
    rows = -(-count // columns)
    tile_width = (width - gap * columns - right) / columns
    tile_height = (height - top - gap) / rows - gap - above
    if min(tile_width, tile_height) <= 0:
        raise ValueError(f"{count} tiles in {columns} columns do not fit into {width:g} × {height:g} inches")
    grid = figure.add_gridspec(
        rows,
        columns,
        left=gap / width,
        right=1 - right / width,
        bottom=gap / height,
        top=1 - (top + gap + above) / height,
        wspace=gap / tile_width,
        hspace=(gap + above) / tile_height,
    )
    return [figure.add_subplot(grid[divmod(index, columns)]) for index in range(count)]


def title_of_tiles(figure: Figure, title: str | None) -> float:
    """Writes the title, if any, of a figure that is divided by ``tiled_axes``, and returns its height in inches."""
    if not title:
        return 0.0
    figure.suptitle(title, y=1 - 0.1 / figure.get_size_inches()[1], va="top")
    return 0.4


def save(figure: Figure, path: str | os.PathLike[str]) -> Figure:
    """Writes a figure as a PNG file.

    It is written under a temporary name and renamed, so there is never an incomplete file. It holds no date and no
    version: with the same version of matplotlib the same figure gives the same bytes.

    Args:
        figure: The figure.
        path: The path of the file, ending in ``.png``; missing folders are created.

    Returns:
        The figure; a notebook shows it where it is the last value of a cell.

    Raises:
        CourseError: The path does not end in ``.png``.

    Example:
        >>> import tempfile
        >>> folder = tempfile.TemporaryDirectory()
        >>> path = Path(folder.name) / "figures" / "empty.png"
        >>> save(new_figure(2, 1), path), path.exists()
        (<...Figure size ...>, True)
        >>> folder.cleanup()
    """
    target = checked_target(path, ".png")
    with replacing(target) as file:
        file.write(png_bytes(figure))
    return figure


def checked_target(path: str | os.PathLike[str], ending: str) -> Path:
    """Returns the path of a file to write if it ends in ``ending``, such as ".png", in upper or lower case."""
    target = Path(path)
    if target.suffix.lower() != ending:
        raise CourseError(f"path is {str(target)!r}; give a file name that ends in {ending}")
    return target


@in_course_style
def png_bytes(figure: Figure) -> bytes:
    """Renders a figure as PNG with 120 dots per inch."""
    buffer = io.BytesIO()
    figure.set_dpi(DOTS_PER_INCH)
    # `savefig` would draw the figure twice
    FigureCanvasAgg(figure).print_png(buffer, metadata={"Software": "keras_course"})
    figure.set_layout_engine("none")  # a second layout would shift the result a little
    return buffer.getvalue()


# Texts from outside.


def drawable(text: str, *, longest: int | None = None) -> str:
    r"""Returns a text from outside in a form that can be drawn: one line of characters that the fonts have.

    Args:
        text: Any text.
        longest: The largest number of characters; a longer text ends in "…".

    Returns:
        The text, with escapes for control characters, "□" for characters that no font has, and "␣" for each space of a
        text of spaces.

    Example:
        >>> drawable("a very long name", longest=7), drawable(" "), drawable("two\nlines")
        ('a very…', '␣', 'two\\nlines')
    """
    plain = printable(text if longest is None else text[: longest + 1])
    if longest is not None and len(plain) > longest:
        plain = plain[: longest - 1].rstrip() + "…"
    if not plain.strip():
        return "␣" * len(plain)
    return "".join(sign if _has_glyph(sign) else _WITHOUT_GLYPH for sign in plain)


def columns_of(text: str) -> int:
    """Returns the width of a text in letters; those of Chinese, Japanese and Korean are as wide as two.

    Args:
        text: A text in one line.

    Example:
        >>> columns_of("word"), columns_of("单词")
        (4, 4)
    """
    return sum(1 + (unicodedata.east_asian_width(sign) in "WF") for sign in text)


@cache
def _has_glyph(sign: str) -> bool:
    fonts = (findfont(FontProperties(family=name)) for name in STYLE["font.family"])
    return any(get_font(font).get_char_index(ord(sign)) for font in fonts)


# Lines, axes and legends.


def series_look(position: int) -> dict[str, Any]:
    """Returns color and line style of one of several lines, counted from 0."""
    return {"color": SERIES[position % len(SERIES)], "linestyle": LINE_STYLES[position % len(LINE_STYLES)]}


def ring_best(axes: Axes, x: float, y: float, label: str) -> None:
    """Draws a ring around the best value of a curve, with an entry in the legend."""
    ring: dict[str, Any] = {"markerfacecolor": "none", "markeredgecolor": COLORS["highlight"], "markeredgewidth": 2.2}
    axes.plot([x], [y], "o", markersize=14, **ring, label=label)


def write_in_cells(axes: Axes, texts: Mapping[tuple[int, int], str], colors: npt.ArrayLike, size: float) -> None:
    """Writes texts into cells (row, column), light or dark by the color of each cell; colors (rows, columns, RGBA)."""
    light = np.asarray(colors)[..., :3] @ LUMA < 0.5
    for (row, column), text in texts.items():
        color = "white" if light[row, column] else COLORS["text"]
        written = axes.text(column, row, text, ha="center", va="center", fontsize=size, color=color)
        written.set_in_layout(False)  # it is inside its cell: the layout does not have to measure it


def grid_shape(count: int) -> tuple[int, int]:
    """Returns rows and columns for large panels: at most three side by side."""
    columns = 2 if count in (2, 4) else min(count, 3)
    return -(-count // columns), columns


def shared_panels(figure: Figure, count: int, labels: tuple[str, str]) -> list[Axes]:
    """Returns panels with the same axes, row by row; the outer ones have numbers and the labels of x and y."""
    rows, columns = grid_shape(count)
    panels = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).ravel()
    for number, axes in enumerate(panels):
        below = number + columns >= count
        axes.tick_params(labelbottom=below)
        axes.set(xlabel=labels[0] if below else "", ylabel=labels[1] if number % columns == 0 else "")
    for axes in panels[count:]:
        axes.remove()
    return list(panels[:count])


def ramp(count: int) -> list[str]:
    """Returns colors for ordered values, such as learning rates: from dark blue to magenta to orange."""
    places = 0.74 * np.linspace(0, 1, count) ** 0.7  # at equal distances the darkest ones would look alike
    return [to_hex(color) for color in matplotlib.colormaps["plasma"](places)]


def spans_sizes(values: npt.NDArray[np.float64]) -> bool:
    """Returns whether all numbers are above 0 and the largest is more than 20 times the smallest; NaN is ignored."""
    return bool(0 < 20 * np.nanmin(values) < np.nanmax(values))


def make_logarithmic(axis: Axis) -> None:
    """Makes an axis logarithmic, with a few numbers in decimal notation."""
    (axis.axes.set_xscale if axis is axis.axes.xaxis else axis.axes.set_yscale)("log")
    axis.set_major_locator(_FewLogTicks())
    axis.set_major_formatter(lambda value, _: plain_number(value))
    axis.set_minor_locator(NullLocator())


def plain_number(value: float) -> str:
    """Formats a number with at most six digits, commas between thousands, and short powers of ten.

    Example:
        >>> [plain_number(value) for value in (0.25, 400000.0, 1e-7, 1e12)]
        ['0.25', '400,000', '1e-7', '1e12']
    """
    return f"{value:,g}".replace("e-0", "e-").replace("e+0", "e").replace("e+", "e")


class _FewLogTicks(LogLocator):
    """Ticks at 1, 3, 10, 30, ...; at powers of ten only, if there are many; within one decade as on a linear axis."""

    def tick_values(self, vmin: float, vmax: float) -> Sequence[float]:
        if vmax < 10 * vmin:
            return MaxNLocator(nbins=6, steps=[1, 2, 5, 10]).tick_values(vmin, vmax)
        self.set_params(subs=(1.0, 3.0) if vmax < 1e4 * vmin else (1.0,))
        return super().tick_values(max(vmin, 1e-250), min(vmax, 1e250))  # beyond, it overflows


def count_in_whole_numbers(axis: Axis, *, most: int = 8) -> None:
    """Sets the ticks of an axis to whole numbers, with at most ``most`` intervals."""
    axis.set_major_locator(MaxNLocator(nbins=most, integer=True, min_n_ticks=1))
    axis.set_major_formatter(lambda value, _: f"{value:,.0f}")


def legend_below(figure: Figure, *panels: Axes) -> Legend:
    """Draws one legend for several panels below them, in as many columns as fit; equal names have one entry."""
    entries = {
        str(label): handle for axes in panels for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    columns = _columns_within(list(entries), figure.get_figwidth())
    return figure.legend(entries.values(), entries.keys(), loc="outside lower center", ncols=columns, columnspacing=1.6)


def y_fraction(axes: Axes, value: float) -> float:
    """Returns the height of a value in a panel with final limits: 0 at the lower edge, 1 at the upper one."""
    low, high, here = axes.yaxis.get_transform().transform(np.array([*axes.get_ylim(), value]))
    return float((here - low) / (high - low))


def _columns_within(names: Sequence[str], width: float) -> int:
    """Returns how many columns of a legend fit into a width in inches; columns are filled from top to bottom."""
    letters = np.array([len(name) for name in names])
    for columns in range(len(names), 1, -1):
        # 0.8 inches for the line before the names, and the letters of the longest name
        if sum(0.8 + 0.095 * column.max() for column in np.array_split(letters, columns)) <= width:
            return columns
    return 1
