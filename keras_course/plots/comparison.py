"""Several methods side by side: their quality and their cost."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from keras_course.errors import CourseError
from keras_course.plots import checks
from keras_course.plots.style import COLORS, in_course_style, new_figure, plain_number


@in_course_style
def comparison(
    ways: Mapping[str, tuple[float, float]],
    *,
    spreads: Mapping[str, float] | None = None,
    quality: str = "accuracy (%)",
    cost: str = "seconds",
) -> Figure:
    """Shows the quality of each method, and its cost on a logarithmic axis.

    Args:
        ways: The quality, from 0 to 100, and the cost, above 0, of each method.
        spreads: How much the quality of each method varies, such as its standard deviation over several seeds: half of
            the length of a line through its point.
        quality: The label of the quality, with its unit.
        cost: The label of the cost, with its unit.

    Returns:
        A figure with two panels, one row for each method.

    Raises:
        CourseError: ``ways`` is empty, a number is out of range, or ``spreads`` are not of the same methods.

    Example:
        >>> figure = comparison({"head": (95.0, 2.0), "all": (97.0, 200.0)})
        >>> [axes.get_xlabel() for axes in figure.axes]
        ['accuracy (%)', 'seconds']
    """
    if not ways:
        raise CourseError("ways is empty; give at least one")
    names = list(ways)
    good, costs = (
        checks.as_numbers(name, [way[place] for way in ways.values()]) for place, name in ((0, quality), (1, cost))
    )
    if not ((good >= 0) & (good <= 100)).all() or not (costs > 0).all():
        raise CourseError(f"ways are {dict(ways)}; give a quality from 0 to 100 and a cost above 0 for each")
    half = np.zeros(len(names))
    if spreads is not None:
        if set(spreads) != set(names):
            raise CourseError(f"spreads are of {', '.join(spreads)}; give those of {', '.join(names)}")
        half = checks.as_numbers("spreads", [spreads[name] for name in names])
        if not ((half >= 0) & (half <= 100)).all():
            raise CourseError(f"spreads are {dict(spreads)}; give numbers from 0 to 100")
    figure = new_figure(9.6, 1.1 + 0.55 * len(names))
    left, right = figure.subplots(1, 2, sharey=True)
    places = list(range(len(names)))
    lowest, highest = float((good - half).min()), float((good + half).max())
    room = max(1.0, highest - lowest)
    with_spread = "{:.2f} ± {:.2f}" if spreads else "{:.2f}"
    texts_of_good = [with_spread.format(*pair) for pair in zip(good, half, strict=True)]
    if spreads:
        left.hlines(places, good - half, good + half, color=COLORS["highlight"], linewidth=3)
    for axes, values, color, texts in (
        (left, good, COLORS["highlight"], texts_of_good),
        (right, costs, COLORS["training"], [plain_number(value) for value in costs.round(1)]),
    ):
        # points instead of bars, because the axes do not start at 0
        axes.plot(values, places, "o", color=color, markersize=11)
        for place, value, text in zip(places, values, texts, strict=True):
            above = 13 if spreads and axes is left else 0  # beside its line
            axes.annotate(text, (value, place), (11, above), textcoords="offset points", va="center", fontsize=12)
    left.set(xlabel=quality, xlim=(lowest - 0.15 * room, highest + (0.6 if spreads else 0.35) * room))
    left.set(yticks=places, yticklabels=names, ylim=(len(names) - 0.5, -0.5))
    right.set(xlabel=cost, xscale="log", xlim=(costs.min() / 2, costs.max() * 5))
    right.xaxis.set_major_formatter(FuncFormatter(lambda value, _: plain_number(value)))
    right.xaxis.set_minor_locator(NullLocator())
    return figure
