"""Words: vectors, next words, attention, similarity, contributions, and perplexities of language models.

All texts may come from outside: they are drawn in one line, shortened, and never as a formula.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, PowerNorm, to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FuncFormatter, MaxNLocator
from matplotlib.transforms import Bbox

from keras_course.errors import CourseError, check_positive
from keras_course.plots import checks
from keras_course.plots.checks import Numbers
from keras_course.plots.style import (
    COLORS,
    columns_of,
    count_in_whole_numbers,
    drawable,
    in_course_style,
    legend_below,
    make_logarithmic,
    new_figure,
    plain_number,
    spans_sizes,
    title_of_tiles,
)

_BELOW_AND_ABOVE_ZERO = "RdBu_r"
_FROM_ZERO_UP = "Blues"
_SEGMENTS = ("#DCE9F5", "#FCE3C9", "#DDEFD9", "#EADCF0")
_LETTER = 0.1  # inches, about the width of a letter
_MOST_TOKENS = 60
_MOST_STEPS = 24
_MOST_HEADS = 16
_MOST_SENTENCES = 20
_CELLS_WITH_NUMBERS = 16


class WrittenWord(Protocol):
    """A word that a language model has written, as ``generation.write`` yields it."""

    @property
    def word(self) -> str:
        """The word."""

    @property
    def probability(self) -> float:
        """Its probability, from 0 to 1."""

    @property
    def alternatives(self) -> Sequence[tuple[str, float]]:
        """The most probable words and their probabilities, the largest first."""


@in_course_style
def one_hot_and_embedding(
    words: Sequence[str], numbers: Sequence[int], table: npt.ArrayLike, *, title: str | None = None
) -> Figure:
    """Shows words as one-hot vectors and as rows of an embedding.

    Args:
        words: At most 20 words.
        numbers: The number of each word in the vocabulary, from 0.
        table: The weights of the embedding, shape ``(vocabulary_size, embedding_dim)``.
        title: A title.

    Returns:
        A figure with a row for each word: on the left its place in the vocabulary, on the right its vector, on a color
        scale on which white is 0, red is positive and blue is negative.

    Raises:
        CourseError: There are no words or too many, or a number has no row in the table.

    Example:
        >>> figure = one_hot_and_embedding(["cat", "dog"], [3, 1], np.eye(5, 2))
        >>> [axes.get_title() for axes in figure.axes[:2]]
        ['one-hot: 5 numbers', 'embedding: 2 numbers']
    """
    names = _texts("words", words, most=20)
    weights = _matrix("table", table, "(vocabulary_size, embedding_dim)")
    size, dim = weights.shape
    places = np.asarray(numbers)
    if places.shape != (len(names),) or not np.issubdtype(places.dtype, np.integer):
        raise CourseError(f"numbers have shape {places.shape}; give one whole number for each of {len(names)} words")
    if places.min() < 0 or places.max() >= size:
        raise CourseError(f"numbers run from {places.min()} to {places.max()}; the table has rows from 0 to {size - 1}")
    rows = weights[places]
    longest = max(map(columns_of, names))
    cell = 0.55 if dim <= _CELLS_WITH_NUMBERS else 5.0 / dim  # inches
    width = max(3.2, dim * cell)
    figure = new_figure(4.6 + _LETTER * longest + width + 1.1, 0.42 * len(names) + 1.5, _title(title))
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=[4.6, width])
    for row, place in enumerate(places.tolist()):
        left.hlines(row, -0.5, size - 0.5, color="#DDDDDD", linewidth=11)
        left.plot(place, row, "s", color=COLORS["training"], markersize=9)
        beside = (9, "left") if place < 0.6 * size else (-9, "right")
        left.annotate(
            f"1 at {place:,}", (place, row), (beside[0], 0), textcoords="offset points", ha=beside[1], va="center"
        )
    margin = 0.03 * size + 0.5
    left.set(xlabel="number in the vocabulary", xlim=(-margin, size - 1 + margin), title=f"one-hot: {size:,} numbers")
    left.set(yticks=range(len(names)), yticklabels=names, ylim=(len(names) - 0.5, -0.5))
    count_in_whole_numbers(left.xaxis, most=5)
    norm = _balanced(rows)
    right.imshow(rows, cmap=_BELOW_AND_ABOVE_ZERO, norm=norm, interpolation="nearest", aspect="auto")
    right.set(xlabel="dimension", title=f"embedding: {dim:,} numbers")
    count_in_whole_numbers(right.xaxis)
    for axes in (left, right):
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
    right.tick_params(labelleft=False)
    if dim <= _CELLS_WITH_NUMBERS:
        right.set_xticks(range(dim))
        _write_in_cells(right, rows, norm, _BELOW_AND_ABOVE_ZERO, cell=cell)
    _color_bar(figure, [right], norm, _BELOW_AND_ABOVE_ZERO, "weight")
    return figure


@in_course_style
def embedding_map(
    words: Sequence[str],
    embeddings: npt.ArrayLike,
    *,
    word: str | None = None,
    nearest: int = 5,
    title: str | None = None,
) -> Figure:
    """Shows vectors of words in the plane of their first two principal components.

    Args:
        words: From 2 to 60 words.
        embeddings: A vector for each word, shape ``(words, embedding_dim)``.
        word: One of the words, whose nearest words are marked.
        nearest: The number of nearest words, by the cosine similarity of the vectors themselves: two words that are
            far apart in the plane are not similar, but near ones may differ in other dimensions.
        title: A title.

    Returns:
        A figure; the labels of the axes have the share of the variance that each component explains.

    Raises:
        CourseError: The vectors do not fit the words, or ``word`` is not among them.

    Example:
        >>> figure = embedding_map(["cat", "dog", "car"], [[1, 0, 0], [0.9, 0.1, 0], [-1, 0, 0]], word="cat", nearest=1)
        >>> figure.axes[0].get_xlabel()
        'first principal component (100 % of the variance)'
        >>> [text.get_text() for text in figure.axes[0].texts]
        ['cat', 'dog 0.99', 'car']

    Source: K. Pearson, "On lines and planes of closest fit to systems of points in space", 1901.
    """
    names = _texts("words", words, least=2)
    vectors = _matrix("embeddings", embeddings, "(words, embedding_dim)", rows=len(names))
    check_positive(nearest=nearest)
    if word is not None and word not in list(words):
        raise CourseError(f"word is {word!r:.60}, which is not among the words; give one of them")
    points, shares = _principal_components(vectors)
    center = [] if word is None else [list(words).index(word)]
    similarity = _cosine_similarities(vectors, center[0]) if center else np.zeros(len(names))
    others = [place for place in np.argsort(-similarity, kind="stable").tolist() if place not in center]
    near = others[:nearest] if center else []
    rest = [place for place in range(len(names)) if place not in center + near]
    labels = [f"{name} {similarity[place]:.2f}" if place in near else name for place, name in enumerate(names)]
    covered = 0.016 * sum(map(columns_of, labels))  # square inches
    size = float(np.clip(np.sqrt(covered / 10), 1, 1.5))
    figure = new_figure(9.6 * size, 7.4 * size, _title(title))
    axes = figure.subplots()
    groups = [(rest, COLORS["quiet"], "o", 6, "other words" if center else None)]
    groups += [(near, COLORS["training"], "D", 8, "nearest words, with their cosine similarity")]
    groups += [(center, COLORS["validation"], "s", 10, "the word")]
    for places, color, marker, size, label in groups:
        if places:
            axes.plot(*points[places].T, marker, color=color, markersize=size, label=label)
    for place in near:
        axes.plot(*points[[*center, place]].T, color=COLORS["training"], linewidth=0.8, alpha=0.5, zorder=1)
    for axis, name, share in ((axes.xaxis, "first", shares[0]), (axes.yaxis, "second", shares[1])):
        axis.set_label_text(f"{name} principal component ({100 * share:.0f} % of the variance)")
        axis.set_major_locator(MaxNLocator(nbins=6))
    axes.margins(0.08)
    if center:
        legend_below(figure, axes)
    _label_points(figure, axes, points, labels, bold=[*center, *near])
    return figure


@in_course_style
def next_words(steps: Sequence[WrittenWord], *, title: str | None = None) -> Figure:
    """Shows the most probable words at each step of a generated text, and the word that was written.

    Args:
        steps: At most 24 steps, as ``generation.write`` yields them: each has ``word``, its ``probability``, and
            ``alternatives``, from 1 to 10 pairs of a word and its probability.
        title: A title, such as the prompt.

    Returns:
        A figure with a panel for each step. The written word is orange and has an arrow; if it is not among the most
        probable words, it is below them.

    Raises:
        CourseError: There are no steps or too many, or a probability is not between 0 and 1.

    Example:
        >>> from types import SimpleNamespace
        >>> step = SimpleNamespace(word="dog", probability=0.25, alternatives=[("cat", 0.5), ("dog", 0.25)])
        >>> axes = next_words([step]).axes[0]
        >>> axes.get_title(), [label.get_text() for label in axes.get_yticklabels()]
        ('1. dog', ['cat', '▸ dog'])
    """
    if not 1 <= len(steps) <= _MOST_STEPS:
        raise CourseError(f"there are {len(steps)} steps; give from 1 to {_MOST_STEPS}")
    panels = [_bars_of_step(number, step) for number, step in enumerate(steps, start=1)]
    most = max(len(bars) for _, bars, _ in panels)
    highest = max(100 * probability for _, bars, _ in panels for _, probability, _ in bars)
    across = min(4, len(panels))
    down = -(-len(panels) // across)
    figure = new_figure(1.0, 1.0)
    beside = max(_widths(figure, [f"▸ {name}" for _, bars, _ in panels for name, _, _ in bars], bold=True)) + 0.15
    above, below = 0.4 if title else 0.0, 1.05
    width = max(across * (beside + 2.55) + 0.05, 4.6, 0.13 * columns_of(title or "") + 0.4)
    height = above + down * (0.28 * most + 0.42) + below
    figure.set_size_inches(width, height)
    title_of_tiles(figure, _title(title))
    tiles = _tiles(figure, len(panels), across, (2.3, 0.28 * most), (beside, below), (beside + 0.25, 0.42))
    for number, (axes, (heading, bars, is_beyond)) in enumerate(zip(tiles, panels, strict=True)):
        places = np.arange(len(bars), dtype="float64")
        places[-1] += 0.4 * is_beyond
        colors = [COLORS["validation" if is_written else "training"] for _, _, is_written in bars]
        drawn = axes.barh(places, [100 * probability for _, probability, _ in bars], color=colors, height=0.7)
        axes.bar_label(drawn, [_percent(probability) for _, probability, _ in bars], padding=3, fontsize=11)
        axes.set_yticks(places, [f"▸ {name}" if is_written else name for name, _, is_written in bars])
        for label, (_, _, is_written) in zip(axes.get_yticklabels(), bars, strict=True):
            label.set_fontweight("bold" if is_written else "normal")
        axes.set(ylim=(most - 0.1, -0.6), xlim=(0, 1.4 * highest))
        axes.set_title(heading, pad=4, y=1.0)
        axes.grid(visible=False, axis="y")
        axes.tick_params(length=0)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=3))
        if number + across >= len(panels):  # the lowest of its column
            axes.set_xlabel("probability (%)")
        else:
            axes.tick_params(labelbottom=False)
    entries = [
        Patch(color=COLORS["validation"], label="▸ written word"),
        Patch(color=COLORS["training"], label="other words"),
    ]
    figure.legend(handles=entries, loc="lower left", bbox_to_anchor=(0.0, 0.0), ncols=2)
    return figure


@in_course_style
def attention_maps(maps: npt.ArrayLike, tokens: Sequence[str], *, title: str | None = None) -> Figure:
    """Shows the attention probabilities of each head of a Transformer block for one sentence.

    Args:
        maps: Probabilities, shape ``(heads, tokens, tokens)``, as ``explain_text.attention_maps`` returns them for a
            block; at most 16 heads.
        tokens: The text of each token; at most 60.
        title: A title.

    Returns:
        A figure with a tile for each head: the token of a row attends to the tokens of the columns. The color scale is
        not linear (power 0.5), so that small probabilities are visible.

    Raises:
        CourseError: The maps do not fit the tokens, or are not probabilities.

    Example:
        >>> figure = attention_maps(np.full((2, 3, 3), 1 / 3), ["a", "small", "dog"])
        >>> [axes.get_title() for axes in figure.axes[:2]]
        ['head 1', 'head 2']
    """
    names = _texts("tokens", tokens, longest=16)
    shares = checks.as_numbers("maps", maps)
    count = len(names)
    if shares.ndim != 3 or shares.shape[1:] != (count, count) or not 1 <= len(shares) <= _MOST_HEADS:
        raise CourseError(
            f"maps have shape {shares.shape}; give (heads, {count}, {count}) for {count} tokens, at most "
            f"{_MOST_HEADS} heads"
        )
    if not (shares.min() >= 0 and shares.max() <= 1 + 1e-5):
        raise CourseError(f"maps run from {shares.min():g} to {shares.max():g}; give probabilities from 0 to 1")
    cell = float(np.clip(3.0 / count, 0.14, 0.6))  # inches
    size = min(11.0, 72 * cell * 0.85)
    tile = max(count * cell, 1.6)
    across = _columns_of_grid(len(shares), max(int(14 / (tile + 0.3)), int(np.ceil(np.sqrt(len(shares))))))
    down = -(-len(shares) // across)
    figure = new_figure(1.0, 1.0)
    beside = max(_widths(figure, names, size)) + 0.1
    left, below, above = 0.45 + beside, 0.45 + beside, 0.4 if title else 0.0
    width = max(left + across * (tile + 0.25) + 1.0, 0.13 * len(title or "") + 0.4, below + 2.5)
    height = below + down * (tile + 0.42) + above
    figure.set_size_inches(width, height)
    title_of_tiles(figure, _title(title))
    norm = PowerNorm(0.5, vmin=0, vmax=1)
    tiles = _tiles(figure, len(shares), across, (tile, tile), (left, below), (0.25, 0.42))
    for number, (axes, probabilities) in enumerate(zip(tiles, shares, strict=True)):
        axes.imshow(probabilities, cmap=_FROM_ZERO_UP, norm=norm, interpolation="nearest")
        axes.set_title(f"head {number + 1}", pad=4, y=1.0)
        axes.set_xticks(range(count), names if number + across >= len(shares) else [""] * count, rotation=90)
        axes.set_yticks(range(count), names if number % across == 0 else [""] * count)
        axes.tick_params(length=0, labelsize=size)
        axes.grid(visible=False)
        axes.spines[:].set_visible(True)
    figure.text(left / width, 0.1 / height, "columns: attended tokens", va="bottom", fontsize=12)
    middle = 0.5 * (below + height - above - 0.3) / height
    figure.text(0.1 / width, middle, "rows: attending tokens", va="center", rotation=90, fontsize=12)
    bar_high = min(2.4, tile)
    place = ((left + across * (tile + 0.25)) / width, (height - above - 0.37 - bar_high) / height)
    bar = figure.colorbar(
        ScalarMappable(norm, _FROM_ZERO_UP),
        cax=figure.add_axes((*place, 0.17 / width, bar_high / height)),
        ticks=[0, 0.05, 0.2, 0.5, 1],
    )
    bar.formatter = FuncFormatter(lambda value, _: plain_number(value))
    bar.set_label("probability")
    bar.outline.set_visible(False)
    return figure


@in_course_style
def similarity_matrix(
    similarities: npt.ArrayLike, sentences: Sequence[str], *, title: str | None = None, label: str = "cosine similarity"
) -> Figure:
    """Shows how similar each sentence is to each other one.

    Args:
        similarities: Cosine similarities from -1 to 1, shape ``(sentences, sentences)``.
        sentences: At most 20 sentences.
        title: A title.
        label: The label of the color scale.

    Returns:
        A figure with the numbers in the cells. The sentences stand beside the rows; the columns have their numbers.

    Raises:
        CourseError: The similarities do not fit the sentences, or are out of range.

    Example:
        >>> figure = similarity_matrix([[1, 0.5], [0.5, 1]], ["A dog runs.", "A cat runs."])
        >>> [text.get_text() for text in figure.axes[0].texts]
        ['1.00', '0.50', '0.50', '1.00']
    """
    names = _texts("sentences", sentences, most=_MOST_SENTENCES, longest=64)
    count = len(names)
    values = _matrix("similarities", similarities, f"({count}, {count})", rows=count, columns=count)
    if np.abs(values).max() > 1 + 1e-4:
        raise CourseError(f"similarities run from {values.min():g} to {values.max():g}; give numbers from -1 to 1")
    lines = [_in_two_lines(f"{number}  {name}", 34) for number, name in enumerate(names, start=1)]
    cell = 0.56  # inches
    width = count * cell + max(_widths(new_figure(1.0, 1.0), lines, 12)) + 1.7
    figure = new_figure(
        max(width, 0.13 * len(title or "") + 0.4),
        max(count * cell, 1.6) + 0.5 + (0.4 if title else 0),
        _title(title),
    )
    axes = figure.subplots()
    norm = Normalize(-1, 1)
    axes.imshow(values, cmap=_BELOW_AND_ABOVE_ZERO, norm=norm, interpolation="nearest")
    _write_in_cells(axes, values, norm, _BELOW_AND_ABOVE_ZERO, cell=cell)
    axes.set_xticks(range(count), [str(number + 1) for number in range(count)])
    axes.set_yticks(range(count), lines)
    axes.tick_params(length=0)
    axes.tick_params(axis="y", labelsize=12)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    _color_bar(figure, [axes], norm, _BELOW_AND_ABOVE_ZERO, label, ticks=[-1, -0.5, 0, 0.5, 1])
    return figure


@in_course_style
def token_contributions(
    contributions: npt.ArrayLike,
    tokens: Sequence[str],
    *,
    title: str | None = None,
    label: str = "contribution to the logit",
) -> Figure:
    """Shows a sentence in which the color of each token is its contribution to a prediction.

    Args:
        contributions: A number for each token, as ``explain_text.integrated_gradients`` returns them.
        tokens: The text of each token; at most 60.
        title: A title, such as the predicted class.
        label: The label of the color scale.

    Returns:
        A figure with the tokens in lines, each above its number: red tokens raise the logit, blue ones lower it.

    Raises:
        CourseError: There is not one finite number for each token.

    Example:
        >>> figure = token_contributions([0.1, 1.5, -0.25], ["a", "good", "film"])
        >>> [text.get_text() for text in figure.axes[0].texts]
        ['a', '+0.10', 'good', '+1.50', 'film', '-0.25']
    """
    names = _texts("tokens", tokens)
    values = checks.column("contributions", contributions, length=len(names), finite=True)
    numbers = _signed(values)
    norm = _balanced(values)
    colors = matplotlib.colormaps[_BELOW_AND_ABOVE_ZERO](norm(values))
    figure = _in_boxes(names, numbers, colors, title=title, below=0.95)
    wide, high = figure.get_size_inches()
    bar_axes = figure.add_axes((0.6 / wide, 0.56 / high, 2.6 / wide, 0.14 / high))
    bar = figure.colorbar(ScalarMappable(norm, _BELOW_AND_ABOVE_ZERO), cax=bar_axes, orientation="horizontal")
    ends = np.array([-1, 1]) * (np.abs(values).max() or 1.0)
    bar.set_ticks([ends[0], 0, ends[1]], labels=[_signed(ends)[0], "0", _signed(ends)[1]])
    bar.outline.set_visible(False)
    bar_axes.tick_params(labelsize=11)
    figure.text(
        3.75 / wide,
        0.63 / high,
        f"{drawable(label)}\nsum {_signed(np.array([values.sum()]), like=values)[0]}",
        va="center",
        fontsize=12,
        linespacing=1.3,
    )
    return figure


@in_course_style
def word_pieces(
    tokens: Sequence[str], numbers: Sequence[int], segment_ids: Sequence[int] | None = None, *, title: str | None = None
) -> Figure:
    """Shows the tokens of a text in boxes, with their numbers in the vocabulary and the segments they belong to.

    Args:
        tokens: The text of each token; at most 60.
        numbers: The number of each token.
        segment_ids: The segment of each token, from 0 to 3; the default is 0 for all.
        title: A title, such as the text.

    Returns:
        A figure with the tokens in lines, each above its number. The color of a box is that of its segment.

    Raises:
        CourseError: There is not one number and one segment for each token.

    Example:
        >>> figure = word_pieces(["[CLS]", "token", "##s", "[SEP]"], [101, 19204, 2015, 102])
        >>> [text.get_text() for text in figure.axes[0].texts]
        ['[CLS]', '101', 'token', '19204', '##s', '2015', '[SEP]', '102']
    """
    names = _texts("tokens", tokens)
    places = checks.column("numbers", numbers, length=len(names), finite=True).astype(int)
    segments = np.zeros(len(names), int)
    if segment_ids is not None:
        segments = checks.column("segment_ids", segment_ids, length=len(names), finite=True).astype(int)
    if segments.min() < 0 or segments.max() >= len(_SEGMENTS):
        raise CourseError(f"segment_ids are from {segments.min()} to {segments.max()}; give 0 to {len(_SEGMENTS) - 1}")
    colors = [to_rgba(_SEGMENTS[segment]) for segment in segments]
    figure = _in_boxes(names, [str(place) for place in places], colors, title=title, below=0.55)
    handles = [Patch(facecolor=_SEGMENTS[one], edgecolor="#BBBBBB", label=f"segment {one}") for one in set(segments)]
    figure.legend(handles=handles, loc="lower left", ncols=len(handles), frameon=False, fontsize=12)
    return figure


@in_course_style
def perplexities(
    models: Mapping[str, float | tuple[float, float, float]],
    *,
    label: str = "perplexity on held-out sentences (lower is better)",
    title: str | None = None,
) -> Figure:
    """Shows the perplexities of several models as bars, with their intervals.

    Args:
        models: For the name of each model its perplexity, above 0; or a triple of the perplexity and the ends of its
            interval.
        label: The label of the axis: another measure, such as bits per character, can be shown, too.
        title: A title.

    Returns:
        A figure with a bar for each model, and an interval as a thin line. The axis begins at 0, or is logarithmic if
        the largest perplexity is more than 20 times the smallest.

    Raises:
        CourseError: ``models`` is empty, a number is not above 0, or an interval does not hold its perplexity.

    Example:
        >>> axes = perplexities({"n-gram": 210.0, "LSTM": (165.0, 160.5, 171.0)}).axes[0]
        >>> [text.get_text() for text in axes.texts]
        ['210', '165 (160.5 to 171)']
    """
    given = checks.named("models", models)
    if len(given) > _MOST_SENTENCES:
        raise CourseError(f"there are {len(given)} models; give at most {_MOST_SENTENCES}")
    names = [drawable(name, longest=40) for name in given]
    triples = [_interval(name, value) for name, value in given.items()]
    values = np.array(triples)
    longest = max(map(columns_of, names))
    figure = new_figure(8.2 + _LETTER * min(longest, 40), 1.2 + 0.5 * len(names), _title(title))
    axes = figure.subplots()
    places = np.arange(len(names))
    is_wide = spans_sizes(values)
    start = 0.0 if not is_wide else 1.0 if values.min() >= 1 else 0.5 * float(values.min())
    axes.barh(places, values[:, 0] - start, left=start, color=COLORS["training"], height=0.62)
    for place, (value, low, high) in enumerate(triples):
        text = _short(value)
        if low < high:
            axes.hlines(place, low, high, color="white", linewidth=4.4)
            axes.hlines(place, low, high, color=COLORS["text"], linewidth=1.8)
            axes.plot([low, high], [place, place], "|", color=COLORS["text"], markersize=9, markeredgewidth=1.8)
            text = f"{text} ({_short(low)} to {_short(high)})"
        beside = axes.annotate(text, (high, place), (8, 0), textcoords="offset points", va="center", fontsize=12)
        beside.set_path_effects([withStroke(linewidth=3, foreground="white")])
    axes.set_yticks(places, names)
    if is_wide:
        make_logarithmic(axes.xaxis)
    ends = np.log(values[:, 2] / start) if is_wide else values[:, 2]
    room = 1 - (0.09 * np.array([len(text.get_text()) for text in axes.texts]) + 0.3) / 7.0  # beside the text of each
    end = float((ends / room).max())
    axes.set(
        xlabel=drawable(label), ylim=(len(names) - 0.5, -0.5), xlim=(start, start * np.exp(end) if is_wide else end)
    )
    if not is_wide:
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: plain_number(value)))
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    return figure


# Arguments.


def _title(title: str | None) -> str | None:
    return drawable(title) if title else None


def _texts(
    name: str, values: Sequence[str], *, least: int = 1, most: int = _MOST_TOKENS, longest: int = 24
) -> list[str]:
    """Returns texts that can be drawn; raises a CourseError if there are too few or too many."""
    if isinstance(values, str) or not all(isinstance(value, str) for value in values):
        raise CourseError(f"{name} are {values!r:.60}; give a list of texts")
    if not least <= len(values) <= most:
        raise CourseError(f"there are {len(values)} {name}; give from {least} to {most}")
    return [drawable(value, longest=longest) for value in values]


def _matrix(
    name: str, values: npt.ArrayLike, shape: str, *, rows: int | None = None, columns: int | None = None
) -> Numbers:
    numbers = checks.as_numbers(name, values)
    fits = numbers.ndim == 2 and rows in (None, len(numbers)) and columns in (None, numbers.shape[1])
    if not fits or not numbers.size or not np.isfinite(numbers).all():
        wanted = shape if rows is None or columns is not None else shape.replace("words", str(rows))
        raise CourseError(f"{name} have shape {numbers.shape}; give finite numbers of shape {wanted}")
    return numbers


def _bars_of_step(number: int, step: WrittenWord) -> tuple[str, list[tuple[str, float, bool]], bool]:
    """Returns the title of a step, its bars (name, probability, whether it was written), and whether one was added."""
    alternatives = [(str(word), float(probability)) for word, probability in step.alternatives]
    if not 1 <= len(alternatives) <= 10:
        raise CourseError(f"step {number} has {len(alternatives)} alternatives; give from 1 to 10")
    bars = [(word, probability, word == step.word) for word, probability in alternatives]
    is_beyond = not any(is_written for _, _, is_written in bars)
    if is_beyond:
        bars.append((step.word, float(step.probability), True))
    for word, probability, _ in bars:
        if not 0 <= probability <= 1 + 1e-5:
            raise CourseError(
                f"the probability of {word!r:.40} in step {number} is {probability}; give one from 0 to 1"
            )
    short = [(drawable(word, longest=16), probability, is_written) for word, probability, is_written in bars]
    return f"{number}. {drawable(step.word, longest=16)}", short, is_beyond


def _interval(name: str, value: float | tuple[float, float, float]) -> tuple[float, float, float]:
    numbers = checks.as_numbers(f"models[{name!r:.40}]", value).ravel()
    triple = np.repeat(numbers, 3) if numbers.size == 1 else numbers
    if triple.shape != (3,) or not np.isfinite(triple).all() or not 0 < triple[1] <= triple[0] <= triple[2]:
        raise CourseError(
            f"models[{name!r:.40}] is {value!r:.60}; give a perplexity above 0, or it and the two ends of its interval"
        )
    return float(triple[0]), float(triple[1]), float(triple[2])


# Numbers.


def _principal_components(vectors: Numbers) -> tuple[Numbers, Numbers]:
    """Returns the first two principal components (n, 2), and the share of the variance that each explains."""
    centered = vectors - vectors.mean(axis=0)
    axes, sizes, directions = np.linalg.svd(centered, full_matrices=False)
    sizes = np.append(sizes, 0.0)
    points = np.zeros((len(vectors), 2))
    for place in range(min(2, len(directions))):
        # the sign of a component is arbitrary: its largest weight is above 0 here
        sign = np.sign(directions[place][np.abs(directions[place]).argmax()]) or 1.0
        points[:, place] = axes[:, place] * sizes[place] * sign
    total = (sizes**2).sum()
    return points, sizes[:2] ** 2 / (total if total > 0 else 1.0)


def _cosine_similarities(vectors: Numbers, place: int) -> Numbers:
    lengths = np.linalg.norm(vectors, axis=1)
    directions = vectors / np.where(lengths > 0, lengths, 1.0)[:, None]
    return directions @ directions[place]


def _balanced(values: Numbers) -> Normalize:
    largest = float(np.abs(values).max()) or 1.0
    return Normalize(-largest, largest)


def _signed(values: Numbers, *, like: Numbers | None = None) -> list[str]:
    """Returns numbers with their sign and about three digits of the largest."""
    largest = float(np.abs(values if like is None else like).max()) or 1.0
    digits = int(np.clip(1 - np.floor(np.log10(largest)) + (largest >= 1), 0, 4))
    pattern = f"+.{digits}f" if 1e-3 <= largest < 1e6 else "+.1e"
    texts = [format(value, pattern) for value in values]
    return [text if float(text) else text[1:] for text in texts]  # without the sign of 0


def _short(value: float) -> str:
    """Returns a number with four digits, whole from 1,000 up."""
    return f"{value:,.0f}" if value >= 1000 else plain_number(float(f"{value:.4g}"))


def _percent(probability: float) -> str:
    percent = 100 * probability
    return f"{percent:.1f}" if percent >= 0.1 or percent == 0 else f"{percent:.2g}"


# Places.


def _in_boxes(
    names: Sequence[str], notes: Sequence[str], colors: Sequence[Any] | Numbers, *, title: str | None, below: float
) -> Figure:
    """Returns a figure with texts in colored boxes, in lines, each above its note, and free space below, in inches."""
    figure = new_figure(9.6, 2.0)
    both = zip(_widths(figure, names, 14), _widths(figure, notes, 10.5), strict=True)
    widths = [max(name, note) + 0.22 for name, note in both]
    lines = _in_lines(widths, 9.6 - 0.4, gap=0.07)
    row = 0.78
    top = 0.5 if title else 0.15
    wide, high = 9.6, top + row * (1 + max(line for line, _ in lines)) + below
    if max(line for line, _ in lines) == 0:
        wide = max(sum(widths) + 0.07 * len(widths) + 0.4, 0.135 * columns_of(title or "") + 0.4, 6.2)
    figure.set_size_inches(wide, high)
    if title:
        figure.suptitle(drawable(title), y=1 - 0.12 / high, va="top")
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, wide), ylim=(high, 0))
    axes.set_axis_off()
    for name, note, width, (line, left), color in zip(names, notes, widths, lines, colors, strict=True):
        x, y = 0.2 + left, top + line * row
        axes.add_patch(Rectangle((x, y), width, 0.4, facecolor=color, edgecolor="#BBBBBB", linewidth=0.6))
        middle = x + width / 2
        axes.text(middle, y + 0.2, name, ha="center", va="center", fontsize=14, color=_on_color(color))
        axes.text(middle, y + 0.52, note, ha="center", va="center", fontsize=10.5)
    return figure


def _columns_of_grid(count: int, most: int) -> int:
    """Returns the number of columns of a grid, at most so many, in which no row is incomplete if possible."""
    if count <= most:
        return count
    full = [columns for columns in range(2, most + 1) if count % columns == 0]
    return full[-1] if full else most


def _in_lines(widths: Sequence[float], line_width: float, *, gap: float) -> list[tuple[int, float]]:
    """Returns the line and the left edge of each box of a text that is broken into lines."""
    places = []
    line, x = 0, 0.0
    for width in widths:
        if x > 0 and x + width > line_width:
            line, x = line + 1, 0.0
        places.append((line, x))
        x += width + gap
    return places


def _in_two_lines(text: str, width: int) -> str:
    """Breaks a text near its middle if it is wider than so many letters."""
    if columns_of(text) <= width:
        return text
    spaces = [place for place, sign in enumerate(text) if sign == " "] or [len(text) // 2]
    middle = min(spaces, key=lambda place: abs(place - len(text) / 2))
    return f"{text[:middle].rstrip()}\n{text[middle:].lstrip()}"


def _widths(figure: Figure, texts: Sequence[str], size: float = 13.0, *, bold: bool = False) -> list[float]:
    """Returns the widths of texts in inches; the figure has no layout engine afterward."""
    figure.set_layout_engine("none")
    renderer = FigureCanvasAgg(figure).get_renderer()
    drawn = figure.text(0, 0, "", fontsize=size, fontweight="bold" if bold else "normal")
    widths = {}
    for text in texts:
        drawn.set_text(text)
        widths[text] = float(drawn.get_window_extent(renderer).width / figure.dpi)
    drawn.remove()
    return [widths[text] for text in texts]


def _tiles(
    figure: Figure,
    count: int,
    across: int,
    size: tuple[float, float],
    corner: tuple[float, float],
    gaps: tuple[float, float],
) -> list[Axes]:
    """Returns axes row by row, in inches: their size, the lower left corner of all, and the gaps between two."""
    width, height = figure.get_size_inches()
    down = -(-count // across)
    found = []
    for number in range(count):
        row, column = divmod(number, across)
        x = corner[0] + column * (size[0] + gaps[0])
        y = corner[1] + (down - 1 - row) * (size[1] + gaps[1])
        found.append(figure.add_axes((x / width, y / height, size[0] / width, size[1] / height)))
    return found


def _label_points(figure: Figure, axes: Axes, points: Numbers, labels: Sequence[str], *, bold: Sequence[int]) -> None:
    """Writes a label beside each point where it covers no other label and no point; a thin line leads to a far one."""
    canvas = FigureCanvasAgg(figure)
    axes.set(xlim=axes.get_xlim(), ylim=axes.get_ylim())  # what follows must not move them
    figure.draw_without_rendering()  # lays it out
    figure.set_layout_engine("none")
    renderer = canvas.get_renderer()
    at = axes.transData.transform(points)
    unit = figure.dpi / 72  # pixels in a point
    marks = np.concatenate([at - 5 * unit, at + 5 * unit], axis=1)
    taken = marks
    # crowded points first: the others have more room
    distances = np.linalg.norm(at[:, None] - at[None], axis=2)
    crowded = np.argsort(np.sort(distances, axis=1)[:, : min(6, len(at))].sum(axis=1), kind="stable").tolist()
    order = [*bold, *(place for place in crowded if place not in bold)]
    texts = {}
    for place in range(len(labels)):
        texts[place] = axes.annotate(
            labels[place],
            points[place],
            (0, 0),
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=11.5,
            fontweight="bold" if place in bold else "normal",
            path_effects=[withStroke(linewidth=2.5, foreground="white")],
            zorder=4,
        )
    frame = axes.bbox
    for place in order:
        text = texts[place]
        box = text.get_window_extent(renderer)
        half = np.array([box.width, box.height]) / 2 + unit
        offset, distance = _free_offset(at[place], half, taken, frame, unit)
        text.set_position(tuple(offset / unit))
        low, high = at[place] + offset - half, at[place] + offset + half
        taken = np.concatenate([taken, [[*low, *high]]])
        if distance > 12 * unit:
            end = np.clip(at[place], low, high)
            line = axes.transData.inverted().transform(np.array([at[place], end]))
            axes.plot(*line.T, color=COLORS["quiet"], linewidth=0.7, zorder=2)


def _free_offset(point: Numbers, half: Numbers, taken: Numbers, frame: Bbox, unit: float) -> tuple[Numbers, float]:
    """Returns how far the middle of a label is from its point, in pixels, and the distance of its edge."""
    best: tuple[float, Numbers, float] | None = None
    for distance in unit * np.array([6.0, 9, 14, 20, 28, 38, 50, 64, 80, 100, 125, 155, 190, 230, 280, 340]):
        for angle in np.deg2rad([0, 180, 90, 270, 30, 150, 330, 210, 60, 120, 300, 240]):
            direction = np.array([np.cos(angle), np.sin(angle)])
            # the edge of the label, and not its middle, is on a circle around the point
            offset = direction * distance + np.sign(direction.round(9)) * half * np.minimum(1, np.abs(direction) * 1.5)
            low, high = point + offset - half, point + offset + half
            outside = np.maximum([frame.x0, frame.y0] - low, 0).sum() + np.maximum(high - [frame.x1, frame.y1], 0).sum()
            widths = np.minimum(high, taken[:, 2:]) - np.maximum(low, taken[:, :2])
            covered = float(np.maximum(widths, 0).prod(axis=1).sum()) + 1e4 * float(outside)
            if covered == 0:
                return offset, float(distance)
            if best is None or covered < best[0]:
                best = covered, offset, float(distance)
    assert best is not None
    return best[1], best[2]


# Drawing.


def _write_in_cells(axes: Axes, values: Numbers, norm: Normalize, colors: str, *, cell: float) -> None:
    """Writes each number into its cell, in a size in which the longest one fits."""
    texts = [f"{value:.2f}".replace("-0.00", "0.00") for value in values.flat]
    size = min(12.0, 72 * cell / (0.7 * max(map(len, texts))))
    shades = matplotlib.colormaps[colors](norm(values))
    for (row, column), text in zip(np.ndindex(values.shape), texts, strict=True):
        color = _on_color(shades[row, column])
        axes.text(column, row, text, ha="center", va="center", fontsize=size, color=color).set_in_layout(False)


def _on_color(color: npt.ArrayLike) -> str:
    """Returns the color of a text on a color."""
    brightness = float(np.asarray(color)[:3] @ np.array([0.299, 0.587, 0.114]))
    return "white" if brightness < 0.5 else COLORS["text"]


def _color_bar(
    figure: Figure, where: list[Axes], norm: Normalize, colors: str, label: str, *, ticks: Sequence[float] | None = None
) -> None:
    aspect = max(8.0, 6 * figure.get_figheight())  # about 0.15 inches wide
    bar = figure.colorbar(ScalarMappable(norm, colors), ax=where, aspect=aspect, pad=0.02, ticks=ticks)
    bar.formatter = FuncFormatter(lambda value, _: plain_number(value))
    bar.set_label(drawable(label))
    bar.outline.set_visible(False)
