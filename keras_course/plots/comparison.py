"""Several methods side by side: their quality and their cost."""

from collections.abc import Mapping

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from keras_course.errors import CourseError
from keras_course.plots import checks
from keras_course.plots.style import COLORS, in_course_style, new_figure, plain_number


@in_course_style
def comparison(
    ways: Mapping[str, tuple[float, float]], *, quality: str = "accuracy (%)", cost: str = "seconds"
) -> Figure:
    """Shows the quality of each method, and its cost on a logarithmic axis.

    Args:
        ways: The quality, from 0 to 100, and the cost, above 0, of each method.
        quality: The label of the quality, with its unit.
        cost: The label of the cost, with its unit.

    Returns:
        A figure with two panels, one row for each method.

    Raises:
        CourseError: ``ways`` is empty, or a number is out of range.

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
    figure = new_figure(9.6, 1.1 + 0.55 * len(names))
    left, right = figure.subplots(1, 2, sharey=True)
    places = list(range(len(names)))
    spread = max(1.0, float(good.max() - good.min()))
    for axes, values, color, texts in (
        (left, good, COLORS["highlight"], [f"{value:.2f}" for value in good]),
        (right, costs, COLORS["training"], [plain_number(value) for value in costs.round(1)]),
    ):
        # points instead of bars, because the axes do not start at 0
        axes.plot(values, places, "o", color=color, markersize=11)
        for place, value, text in zip(places, values, texts, strict=True):
            axes.annotate(text, (value, place), (11, 0), textcoords="offset points", va="center", fontsize=12)
    left.set(xlabel=quality, xlim=(good.min() - 0.15 * spread, good.max() + 0.35 * spread))
    left.set(yticks=places, yticklabels=names, ylim=(len(names) - 0.5, -0.5))
    right.set(xlabel=cost, xscale="log", xlim=(costs.min() / 2, costs.max() * 5))
    right.xaxis.set_major_formatter(FuncFormatter(lambda value, _: plain_number(value)))
    right.xaxis.set_minor_locator(NullLocator())
    return figure
