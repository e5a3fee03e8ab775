"""What makes the figures of the course look alike: colours, sizes, figures that show themselves, and how to save one.

Sources of the colours: M. Okabe and K. Ito, "Color Universal Design", 2008, for what is told apart by name;
matplotlib's plasma (S. van der Walt and N. Smith, 2015) for what has an order; and YlGnBu (C. Brewer, colorbrewer2.org)
for heights.
"""

import functools
import io
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from keras_course.errors import CourseError
from keras_course.files import replacing

COLOURS = {
    "training": "#0072B2",  # blue
    "validation": "#D55E00",  # vermilion
    "highlight": "#009E73",  # bluish green
    "text": "#222222",
    "quiet": "#8A8A8A",
}
# What is told apart by name. The first four differ most where red and green look alike; a marker goes with each.
SERIES = ("#0072B2", "#D55E00", "#000000", "#CC79A7", "#E69F00", "#56B4E9", "#009E73")
MARKERS = ("o", "s", "^", "D", "v", "P", "<", ">", "p", "h")  # not the crosses, which mark minima and ends
LINE_STYLES: tuple[Any, ...] = ("-", (0, (6, 1.3)), (0, (2.4, 1)), (0, (7, 1.2, 1.6, 1.2)))
LANDSCAPE = "YlGnBu_r"
DOTS_PER_INCH = 120

# Sizes are chosen to be read at half size.
STYLE: dict[str, Any] = {
    "figure.dpi": DOTS_PER_INCH,
    "figure.facecolor": "white",
    "figure.titlesize": 15,
    "figure.constrained_layout.h_pad": 0.12,
    "figure.constrained_layout.w_pad": 0.12,
    "font.size": 13,
    "axes.titlesize": 13,
    "axes.labelsize": 13,
    "axes.edgecolor": COLOURS["quiet"],
    "axes.labelcolor": COLOURS["text"],
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.9,
    "xtick.color": COLOURS["quiet"],
    "ytick.color": COLOURS["quiet"],
    "xtick.labelcolor": COLOURS["text"],
    "ytick.labelcolor": COLOURS["text"],
    "lines.linewidth": 2.2,
    "lines.markersize": 7,
    "legend.frameon": False,
    "legend.fontsize": 12,
    "text.color": COLOURS["text"],
    "text.parse_math": False,  # a class called "$5 or $10" is a name, not a formula
}

_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")


class _NotebookFigure(Figure):
    """A figure that Jupyter can show without pyplot's inline backend."""

    def _repr_png_(self) -> bytes:
        return png_bytes(self)


@contextmanager
def _course_style() -> Iterator[None]:
    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # a personal matplotlibrc must not change the bytes of a figure
        matplotlib.rcParams.update(STYLE)
        yield


def in_course_style(draw: Callable[_Parameters, _Result]) -> Callable[_Parameters, _Result]:
    """Decorates what draws or renders a figure: the settings are the course's while it does, and then as before.

    Args:
        draw: The function.

    Returns:
        The same function in the style of the course.

    Example:
        >>> in_course_style(lambda: matplotlib.rcParams["figure.dpi"])()
        120.0
    """

    @functools.wraps(draw)
    def styled(*args: _Parameters.args, **kwargs: _Parameters.kwargs) -> _Result:
        with _course_style():
            return draw(*args, **kwargs)

    return styled


def new_figure(width: float, height: float, title: str | None = None) -> Figure:
    """Makes an empty figure that a notebook shows and that belongs to nobody.

    Args:
        width: In inches.
        height: In inches.
        title: A line above everything.

    Returns:
        The figure, whose layout leaves room for every label.

    Example:
        >>> new_figure(5, 4, "A line").get_suptitle()
        'A line'
    """
    figure = _NotebookFigure(figsize=(width, height), layout="constrained")
    if title:
        figure.suptitle(title)
    return figure


def tiled_axes(
    figure: Figure,
    count: int,
    columns: int,
    *,
    above: float = 0.0,
    gap: float = 0.1,
    right: float = 0.1,
    top: float = 0.0,
) -> list[Axes]:
    """Divides a figure into tiles of one size, without the layout that measures every text.

    That layout takes two seconds for sixty tiles, and it is not needed where one knows what stands around them.

    Args:
        figure: What is divided; it has no other axes but those at its right.
        count: How many tiles.
        columns: How many side by side.
        above: Inches over each tile, for its title.
        gap: Inches between two tiles, and around all.
        right: Inches at the right of all.
        top: Inches above all.

    Returns:
        The axes, row by row.

    Example:
        >>> figure = new_figure(4.3, 2)
        >>> [round(float(axes.bbox.width / figure.dpi), 3) for axes in tiled_axes(figure, 2, 2)]  # inches
        [2.0, 2.0]
    """
    figure.set_layout_engine("none")
    width, height = figure.get_size_inches()
    rows = -(-count // columns)
    tile_width = (width - gap * columns - right) / columns
    tile_height = (height - top - gap) / rows - gap - above
    if min(tile_width, tile_height) <= 0:
        raise ValueError(f"{count} tiles in {columns} columns find no room in {width:g} × {height:g} inches")
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
    """Writes a line above everything where no layout does it.

    Args:
        figure: One that ``tiled_axes`` divides.
        title: What to write, if anything.

    Returns:
        The inches that it takes.

    Example:
        >>> title_of_tiles(new_figure(4, 2), "Seven kernels")
        0.4
    """
    if not title:
        return 0.0
    figure.suptitle(title, y=1 - 0.1 / figure.get_size_inches()[1], va="top")
    return 0.4


def save(figure: Figure, path: str | os.PathLike[str]) -> Figure:
    """Writes a figure as a PNG file that is either complete or not there.

    The bytes go into a file beside it that is then renamed. They hold no date and no version, so on one installation
    of matplotlib the same figure gives the same bytes.

    Args:
        figure: What to write.
        path: Where to, ending in ``.png``; missing folders are made.

    Returns:
        The figure, so that a notebook shows it when ``save`` is the last thing in a cell.

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
    """Checks the name of a file to write.

    Args:
        path: Where to write.
        ending: What the name has to end in, with its dot, in any case.

    Returns:
        The path.

    Raises:
        CourseError: It has another ending.

    Example:
        >>> checked_target("curves.pdf", ".png")
        Traceback (most recent call last):
        ...
        keras_course.errors.CourseError: path is 'curves.pdf'; give a file name that ends in .png
    """
    target = Path(path)
    if target.suffix.lower() != ending:
        raise CourseError(f"path is {str(target)!r}; give a file name that ends in {ending}")
    return target


@in_course_style
def png_bytes(figure: Figure) -> bytes:
    """Renders a figure.

    Args:
        figure: What to render.

    Returns:
        A whole PNG file of 120 dots per inch.

    Example:
        >>> png_bytes(new_figure(2, 1))[1:4]
        b'PNG'
    """
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DOTS_PER_INCH, metadata={"Software": "keras_course"})
    figure.set_layout_engine("none")  # a second layout would start from the first one's result and shift it a little
    return buffer.getvalue()


# Lines, axes and legends.


def ramp(count: int) -> list[str]:
    """Chooses colours for what has an order, such as a learning rate: from dark blue by magenta to orange.

    Args:
        count: How many.

    Returns:
        Hexadecimal colours, each lighter than the one before.

    Example:
        >>> ramp(3)
        ['#0d0887', '#c03a83', '#f79143']
    """
    places = 0.74 * np.linspace(0, 1, count) ** 0.7  # the darkest ones would look alike at even distances
    return [to_hex(colour) for colour in matplotlib.colormaps["plasma"](places)]


def spans_sizes(values: npt.NDArray[np.float64]) -> bool:
    """Tells whether numbers are all above 0 and the largest is more than 20 times the smallest.

    Args:
        values: Finite numbers or NaN, of any shape.

    Returns:
        Whether a logarithmic axis shows them better.

    Example:
        >>> spans_sizes(np.array([2.3, 0.01])), spans_sizes(np.array([2.3, 1.0])), spans_sizes(np.array([2.3, 0.0]))
        (True, False, False)
    """
    return bool(0 < 20 * np.nanmin(values) < np.nanmax(values))


def make_logarithmic(axis: Axis) -> None:
    """Makes an axis logarithmic, with few and plain numbers.

    Args:
        axis: ``axes.xaxis`` or ``axes.yaxis``.

    Example:
        >>> axes = new_figure(3, 2).subplots()
        >>> make_logarithmic(axes.yaxis)
        >>> axes.set_ylim(0.005, 2)
        (0.005, 2)
        >>> [axes.yaxis.get_major_formatter()(tick, 0) for tick in axes.get_yticks() if 0.005 < tick < 2]
        ['0.01', '0.03', '0.1', '0.3', '1']
    """
    (axis.axes.set_xscale if axis is axis.axes.xaxis else axis.axes.set_yscale)("log")
    axis.set_major_locator(_FewLogTicks())
    axis.set_major_formatter(FuncFormatter(lambda value, _: plain_number(value)))
    axis.set_minor_locator(NullLocator())


def plain_number(value: float) -> str:
    """Writes a number beside an axis.

    Args:
        value: A finite number.

    Returns:
        At most six digits, with commas between thousands, and short powers of ten.

    Example:
        >>> [plain_number(value) for value in (0.25, 400000.0, 1e-7, 1e12)]
        ['0.25', '400,000', '1e-7', '1e12']
    """
    return f"{value:,g}".replace("e-0", "e-").replace("e+0", "e").replace("e+", "e")


class _FewLogTicks(LogLocator):
    """Ticks at 1, 3, 10, 30, ...; at powers of ten only, where there are many; as on a linear axis within a decade."""

    def tick_values(self, vmin: float, vmax: float) -> Sequence[float]:
        if vmax < 10 * vmin:
            return MaxNLocator(nbins=6, steps=[1, 2, 5, 10]).tick_values(vmin, vmax)
        self.set_params(subs=(1.0, 3.0) if vmax < 1e4 * vmin else (1.0,))
        return super().tick_values(max(vmin, 1e-250), min(vmax, 1e250))  # beyond, it overflows


def count_in_whole_numbers(axis: Axis, *, most: int = 8) -> None:
    """Puts the ticks of an axis that counts epochs, batches or steps at whole numbers.

    Args:
        axis: ``axes.xaxis`` or ``axes.yaxis``.
        most: Into how many parts they divide it at most.

    Example:
        >>> axes = new_figure(3, 2).subplots()
        >>> count_in_whole_numbers(axes.xaxis)
        >>> axes.xaxis.get_major_formatter()(12000, 0)
        '12,000'
    """
    axis.set_major_locator(MaxNLocator(nbins=most, integer=True, min_n_ticks=1))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))


def legend_below(figure: Figure, *panels: Axes) -> Legend:
    """Puts one legend for several panels below them, where it covers no curve.

    Args:
        figure: What the panels are in.
        *panels: Whose lines to name; what several of them have under one name is named once.

    Returns:
        The legend, in as many columns as fit into the figure.

    Example:
        >>> figure = new_figure(5, 4)
        >>> left, right = figure.subplots(1, 2)
        >>> _ = left.plot([1, 2], label="training"), right.plot([2, 1], label="training")
        >>> [text.get_text() for text in legend_below(figure, left, right).get_texts()]
        ['training']
    """
    entries = {
        str(label): handle for axes in panels for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    columns = _columns_within(list(entries), figure.get_figwidth())
    return figure.legend(entries.values(), entries.keys(), loc="outside lower center", ncols=columns, columnspacing=1.6)


def y_fraction(axes: Axes, value: float) -> float:
    """Tells how high in its panel a value lies.

    Args:
        axes: A panel whose limits are final.
        value: On its y axis, logarithmic or not.

    Returns:
        0 at the lower edge, 1 at the upper one.

    Example:
        >>> axes = new_figure(3, 2).subplots()
        >>> _ = axes.set_ylim(0, 8)
        >>> y_fraction(axes, 2.0)
        0.25
    """
    low, high, here = axes.yaxis.get_transform().transform(np.array([*axes.get_ylim(), value]))
    return float((here - low) / (high - low))


def _columns_within(names: Sequence[str], width: float) -> int:
    """Tells how many columns of a legend fit into a width in inches; it fills them from top to bottom, evenly."""
    letters = np.array([len(name) for name in names])
    for columns in range(len(names), 1, -1):
        longest = [column.max() for column in np.array_split(letters, columns)]
        if sum(0.8 + 0.095 * longest_name for longest_name in longest) <= width:  # what stands before it, its letters
            return columns
    return 1
