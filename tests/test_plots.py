"""All figures: legible texts and reproducible bytes; pictures, training curves, and saving.

The content of the other plots is tested in tests/plots.
"""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import matplotlib
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from keras_course import plots
from keras_course.errors import CourseError
from keras_course.plots import style

DIGITS = "0123456789"
LETTERS = "ABCDEFGHIKLMNOPQRSTUVWXY"  # 24: J and Z are movements
FRUIT = ["fresh apples", "fresh bananas", "fresh oranges", "rotten apples", "rotten bananas", "rotten oranges"]
HISTORY: dict[str, list[float]] = {
    "epoch": [1, 2, 3, 4],
    "loss": [0.9, 0.5, 0.3, 0.2],
    "accuracy": [0.7, 0.8, 0.9, 0.95],
    "val_loss": [0.8, 0.4, 0.45, 0.6],
    "val_accuracy": [0.75, 0.85, 0.86, 0.82],
    "seconds": [3.0, 2.0, 2.0, 2.0],
}


def saved_bytes(figure, path):
    plots.save(figure, path)
    return path.read_bytes()


def pictures(count: int, channels: int = 1, height: int = 28, width: int = 28) -> np.ndarray:
    shape = (count, height, width, channels)
    return np.random.default_rng(count).integers(0, 256, size=shape).astype(np.uint8)


def lines_by_label(axes: Axes) -> dict[str, Line2D]:
    return {str(line.get_label()): line for line in axes.lines}


def texts_and_boxes(figure: Figure) -> list[tuple[str, Bbox]]:
    """Draws the figure, and returns each visible text with its box in pixels."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    texts = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]
    hidden = [axes for axes in figure.axes if not axes.axison]  # their axis labels exist but are not drawn
    labels_of_hidden = {id(text) for axes in hidden for axis in (axes.xaxis, axes.yaxis) for text in axis.findobj(Text)}
    out_of_view = {
        id(tick_part)
        for axes in figure.axes
        for axis in (axes.xaxis, axes.yaxis, *([axes.zaxis] if axes.name == "3d" else []))
        for tick in axis.get_major_ticks() + axis.get_minor_ticks()
        if not min(axis.get_view_interval()) <= tick.get_loc() <= max(axis.get_view_interval())
        for tick_part in tick.findobj(Text)
    }
    return [
        # The extent of an annotation would include its arrow.
        (text.get_text(), Text.get_window_extent(text, renderer))
        for text in texts
        if id(text) not in labels_of_hidden | out_of_view
    ]


def matrix_of(classes: int, right: int, wrong: int) -> np.ndarray:
    return np.full((classes, classes), wrong) + (right - wrong) * np.eye(classes, dtype=np.int64)


M, B = np.linspace(-2, 5, 41), np.linspace(-3, 6, 31)
BOWL = (M - 2) ** 2 + (B[:, None] - 1) ** 2
DESCENT = np.stack([2 - 3 * 0.8 ** np.arange(60), 1 + 4 * 0.9 ** np.arange(60)], axis=1)  # from (-1, 5) toward (2, 1)
DESCENT_LOSSES = (DESCENT[:, 0] - 2) ** 2 + (DESCENT[:, 1] - 1) ** 2
EXPLOSION = np.array([(-1, 5), (20, -30), (-4e5, 3e5), (1e300, -1e300), (np.nan, np.inf)])
OPTIMIZERS = {
    "SGD": DESCENT,
    "momentum": DESCENT[::3],
    "Adagrad": DESCENT[:9],
    "RMSprop": EXPLOSION,
    "Adam": DESCENT[:1],
}
EPOCHS = np.arange(31)
BATCH_SIZES = {f"batch size {4**k}": 0.05 + 4 * np.exp(-EPOCHS / 2**k) for k in range(5)}
RATES = {
    **{f"learning rate {10.0**k:g}": 2.5 * np.exp(-EPOCHS * 10.0**k) for k in range(-4, 0)},
    "learning rate 0.5": 2.5 * 3.0 ** EPOCHS[:9],
    "learning rate 2": np.array([2.5, 30, 4e4, 1e9, np.inf]),
    "learning rate 3": np.array([2.5, np.nan, np.nan]),
}
INPUT = np.linspace(-5, 5, 101)
PROBABILITY = np.linspace(0, 1, 101)
NOISY = (np.linspace(0, 1, 12), np.sin(6 * np.linspace(0, 1, 12)))
WIDER = np.linspace(-0.4, 1.5, 200)
NORMAL = np.random.default_rng(1).normal(size=(64, 64))
SIGN = pictures(1)[0]
RAMP = np.add.outer(np.arange(28), np.arange(28)) / 54  # from 0 to 1
EDGES = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]])
BLUR = np.array([[1, 2, 1], [2, 4, 2], [1, 2, 1]]) / 16
STEPS: dict[str, tuple[np.ndarray | str, np.ndarray]] = {
    "vertical edges": (EDGES, NORMAL[:26, :26]),
    "horizontal edges, stride 2": (-EDGES.T, 1e4 * NORMAL[:13, :13]),
    "blur, padding same": (BLUR, 255 * RAMP),
    "pooling": ("largest of 2 × 2", 255 * RAMP[::2, ::2]),
}

WORDS = ["the", "of", "king", "river", *(f"{'word' * (number % 3)}{number}" for number in range(56))]
WRITTEN = [
    SimpleNamespace(
        word=word, probability=0.003, alternatives=list(zip(words, (0.31, 0.125, 0.1, 0.0004), strict=True))
    )
    for word, words in (
        ("the", ("the", "a", "how", "trump")),
        ("misunderstanding", ("best", "new", "end", "art")),
        ("of", ("of", "representatives", "misunderstanding", "in")),
        ("$5", ("a", "b", "c", "d")),
        ("[END]", ("[END]", "on", "at", "by")),
    )
]

EVERY_FIGURE: dict[str, Callable[[], Figure]] = {
    "sample_pictures": lambda: plots.sample_pictures(pictures(30), np.arange(30) % 10, DIGITS),
    "sample_pictures of fruit": lambda: plots.sample_pictures(pictures(7, 3, 24, 32), np.arange(7) % 6, FRUIT),
    "sample_pictures in rows": lambda: plots.sample_pictures(
        pictures(12), np.repeat(np.arange(3), 4), ["Rotation", "Brightness", "Erasing"], columns=4
    ),
    "training_curves": lambda: plots.training_curves(HISTORY, title="Digits"),
    "training_curves of one epoch": lambda: plots.training_curves({name: v[:1] for name, v in HISTORY.items()}),
    "training_curves of 100 epochs": lambda: plots.training_curves(
        {"epoch": range(1, 101), "loss": np.geomspace(2, 0.01, 100), "accuracy": np.linspace(0.1, 1, 100)}
    ),
    "step_curve": lambda: plots.step_curve(np.geomspace(2.3, 0.01, 2000)),
    "confusion_matrix of 10": lambda: plots.confusion_matrix(matrix_of(10, 1135, 12), DIGITS),
    "confusion_matrix of 24": lambda: plots.confusion_matrix(matrix_of(24, 1135, 130), LETTERS),
    "confusion_matrix of long names": lambda: plots.confusion_matrix(matrix_of(6, 20123, 10123), FRUIT),
    "confusion_matrix of millions": lambda: plots.confusion_matrix(matrix_of(5, 2_000_000, 1_000_000), LETTERS[:5]),
    "confusion_matrix of 2": lambda: plots.confusion_matrix([[9, 1], [0, 8]], ["Bo", "all other dogs"]),
    "most_wrong": lambda: plots.most_wrong(pictures(20), np.arange(20) % 10, np.eye(10)[np.arange(1, 21) % 10], DIGITS),
    "most_wrong of fruit": lambda: plots.most_wrong(
        pictures(9, 3, 24, 32), np.arange(9) % 6, 9 * np.eye(6)[np.arange(4, 13) % 6], FRUIT
    ),
    "most_wrong with one mistake": lambda: plots.most_wrong(pictures(1), [3], np.eye(10)[[5]], DIGITS),
    "loss_surface": lambda: plots.loss_surface(M, B, BOWL, path=DESCENT, path_losses=DESCENT_LOSSES, title="A bowl"),
    "loss_surface of thousands": lambda: plots.loss_surface(100 * M, 100 * B, 1e4 * BOWL, labels=("weight", "bias")),
    "loss_surface that explodes": lambda: plots.loss_surface(M, B, np.exp(np.minimum(BOWL, 300))),
    "loss_contours": lambda: plots.loss_contours(M, B, BOWL, paths=OPTIMIZERS, minima=[(2, 1)], title="Five ways"),
    "loss_contours in panels": lambda: plots.loss_contours(M, B, BOWL, paths=OPTIMIZERS, minima=[(2, 1)], panels=True),
    "loss_contours in one panel": lambda: plots.loss_contours(M, B, 1e4 * BOWL, paths={"SGD": DESCENT}, panels=True),
    "loss_contours with long names": lambda: plots.loss_contours(
        M, B, BOWL, paths={f"{name}, learning rate 0.0{k}": DESCENT for k, name in enumerate(OPTIMIZERS, start=1)}
    ),
    "loss_contours without a path": lambda: plots.loss_contours(M, B, 1e-4 * BOWL),
    "loss_contours of a plain": lambda: plots.loss_contours(M, B, np.full(BOWL.shape, 7.0)),
    "line_fit": lambda: plots.line_fit(
        [1, 2], [3, 5], {f"step {step}": (m, b) for step, (m, b) in enumerate(DESCENT[[0, 1, 5, 50]])}, title="A line"
    ),
    "loss_curves as a question": lambda: plots.loss_curves(
        BATCH_SIZES, ordered=True, legend=False, question="Which curve has the largest batch size?"
    ),
    "loss_curves with names": lambda: plots.loss_curves(BATCH_SIZES, ordered=True),
    "loss_curves that diverge": lambda: plots.loss_curves(RATES, ordered=True, x_label="step"),
    "loss_curves that all diverge": lambda: plots.loss_curves({name: RATES[name] for name in list(RATES)[-3:]}),
    "loss_curves with validation": lambda: plots.loss_curves(
        {"small": 1 / (1 + EPOCHS), "large": 1 / (1 + EPOCHS) ** 2}, validation={"large": 0.1 + 0.01 * EPOCHS}
    ),
    "loss_curves, twenty of them": lambda: plots.loss_curves({f"seed {k}": [1 + k / 50, 0.5] for k in range(20)}),
    "activations": lambda: plots.activations(
        INPUT,
        {
            "linear": (INPUT, np.ones_like(INPUT)),
            "ReLU": (np.maximum(INPUT, 0), INPUT > 0),
            "tanh": (np.tanh(INPUT), 1 - np.tanh(INPUT) ** 2),
        },
        points={"ReLU": (INPUT[::10], np.maximum(INPUT[::10], 0))},
    ),
    "curves": lambda: plots.curves(
        PROBABILITY,
        {"root mean squared error": 1 - PROBABILITY, "cross entropy": -np.log(np.maximum(PROBABILITY, 1e-300))},
        x_label="probability of what happened",
        y_label="loss",
        title="Two losses",
        vertical=0.5,
    ),
    "regression_fits": lambda: plots.regression_fits(
        NOISY,
        NOISY,
        {f"degree {k}": (WIDER, np.polynomial.Polynomial.fit(*NOISY, k)(WIDER)) for k in (1, 3, 5, 9)},
        truth=(WIDER, np.sin(6 * WIDER)),
        inside=(0, 1),
    ),
    "regression_fits of one": lambda: plots.regression_fits(NOISY, NOISY, {"a net": (WIDER, WIDER)}, inside=(0.9, 1)),
    "size_against_error": lambda: plots.size_against_error(
        np.arange(1, 11), 10.0 ** -np.arange(10), 10.0 ** np.abs(np.arange(-4, 6)), x_label="degree", loss_label="error"
    ),
    "size_against_error of parameters": lambda: plots.size_against_error(
        [4, 40, 400, 4000], [0.5, 0.2, 0.1, 0.1], [0.5, 0.4, 0.3, 0.2], x_label="parameters", loss_label="error"
    ),
    "points_with_probability": lambda: plots.points_with_probability(
        [1, 2, 3, 4],
        [0, 1, 0, 1],
        INPUT,
        {"trained on the cross entropy": (1 + np.tanh(INPUT)) / 2, "trained on the squared error": INPUT},
        x_label="hours of study",
    ),
    "kernel_grid": lambda: plots.kernel_grid(NORMAL[:15, :15].reshape(3, 3, 1, 25), title="Kernels of block1_conv"),
    "kernel_grid of one": lambda: plots.kernel_grid(1e-4 * NORMAL[:3, :3].reshape(3, 3, 1, 1)),
    "kernel_grid of one with a long title": lambda: plots.kernel_grid(
        NORMAL[:3, :3].reshape(3, 3, 1, 1), title="The kernel of a layer with a single filter: its weights"
    ),
    "kernel_grid of zeros": lambda: plots.kernel_grid(np.zeros((5, 5, 3, 8)), channel=2),
    "feature_map_grid": lambda: plots.feature_map_grid(
        np.maximum(NORMAL[:49, :56].reshape(7, 7, 56), 0), image=SIGN, title="What block2_conv makes of a B"
    ),
    "feature_map_grid of one": lambda: plots.feature_map_grid(np.abs(NORMAL[..., None])),
    "feature_map_grid of one and a picture": lambda: plots.feature_map_grid(RAMP[..., None], image=SIGN),
    "feature_map_grid of zeros": lambda: plots.feature_map_grid(np.zeros((4, 6, 3))),
    "feature_map_grid before an activation": lambda: plots.feature_map_grid(
        1e4 * NORMAL.reshape(8, 16, 32) - 1e3, image=pictures(1, 3, 8, 16)[0], title="Outputs"
    ),
    "feature_map_grid of very large numbers": lambda: plots.feature_map_grid(1e7 * NORMAL.reshape(16, 16, 16)),
    "answers": lambda: plots.answers(
        [pictures(1, 3, 60, 40)[0], pictures(1, 1, 20, 50)[0]],
        pictures(2),
        [[("B", 0.9), ("F", 0.06), ("W", 0.04)], [("A", 1.0), ("E", 0.0), ("S", 0.0)]],
        ["asl_b.jpg", "a_photo_with_quite_a_long_name.jpg"],
    ),
    "answers for one": lambda: plots.answers([SIGN], SIGN[None], [[("rotten pomegranates", 0.501)]], ["p"]),
    "heat_on_picture": lambda: plots.heat_on_picture(
        pictures(6), np.stack([RAMP] * 6), [f"{letter}, said {letter} (98 %)" for letter in "ABCDEF"], title="Why"
    ),
    "heat_on_picture of one": lambda: plots.heat_on_picture(
        pictures(1), RAMP[None], ["A"], title="Which places of the picture speak for the letter A"
    ),
    "heat_on_picture of wide fruit": lambda: plots.heat_on_picture(
        pictures(4, 3, 12, 28),
        np.stack([RAMP[:12]] * 4),
        ["true rotten bananas, said fresh apples (100 %)"] * 4,
        columns=2,
        title="Four pictures that look like another fruit",
    ),
    "heat_on_picture, high ones": lambda: plots.heat_on_picture(
        pictures(2, 1, 28, 9), np.stack([RAMP[:, :9]] * 2), "AB"
    ),
    "convolution_steps": lambda: plots.convolution_steps(SIGN, STEPS, title="Four steps"),
    "convolution_steps in two columns": lambda: plots.convolution_steps(SIGN, STEPS, columns=2),
    "convolution_steps of one": lambda: plots.convolution_steps(
        SIGN, {"blur": STEPS["blur, padding same"]}, columns=1, title="What a blur makes of a picture"
    ),
    "convolution_steps with long names": lambda: plots.convolution_steps(
        SIGN, {f"{name}, and then the largest of 2 × 2": step for name, step in STEPS.items()}, columns=3
    ),
    "convolution_steps with large kernels": lambda: plots.convolution_steps(
        RAMP[:12],
        {
            "seven": (1000 * NORMAL[:7, :7], NORMAL[:6, :22]),
            "eleven": (NORMAL[:11, :11], NORMAL[:2, :18]),
            "a row": (NORMAL[:1, :5], NORMAL[:12, :24]),
            "a column": (NORMAL[:5, :1], NORMAL[:8, :28]),
        },
        title="Kernels of other sizes",
    ),
    "one_window": lambda: plots.one_window(SIGN, EDGES, NORMAL[:26, :26], row=20, column=7),
    "one_window in the corner": lambda: plots.one_window(
        1000.5 * RAMP, -1000.5 * EDGES, 1e6 * NORMAL[:13, :13], row=12, column=12, stride=2
    ),
    "one_window of all": lambda: plots.one_window(EDGES + 2, EDGES, [[12]], row=0, column=0),
    "one_window of many numbers": lambda: plots.one_window(
        RAMP[:20], NORMAL[:7, :7] - 1, NORMAL[:14, :22], row=13, column=0
    ),
    "one_hot_and_embedding": lambda: plots.one_hot_and_embedding(
        ["the", "a surprisingly long word"],
        [0, 11752],
        np.resize(NORMAL, (11753, 10)),
        title="Two",
    ),
    "one_hot_and_embedding of many": lambda: plots.one_hot_and_embedding(WORDS[:20], range(20), NORMAL, title="Twenty"),
    "one_hot_and_embedding of one": lambda: plots.one_hot_and_embedding(["a"], [1], [[0, 0], [1000.25, -1]]),
    "embedding_map": lambda: plots.embedding_map(WORDS[:30], NORMAL[:30], word="river", title="Thirty words"),
    "embedding_map of 60 long words": lambda: plots.embedding_map([f"extraordinary {w}" for w in WORDS], NORMAL[:60]),
    "embedding_map of one place": lambda: plots.embedding_map(WORDS[:12], np.ones((12, 3)), word="of", nearest=11),
    "next_words": lambda: plots.next_words(WRITTEN, title="The text begins with: what is"),
    "next_words of one": lambda: plots.next_words(WRITTEN[1:2]),
    "next_words of two with ten each": lambda: plots.next_words(
        [SimpleNamespace(word="river", probability=1.0, alternatives=[(word, 0.1) for word in WORDS[:10]])] * 2
    ),
    "attention_maps": lambda: plots.attention_maps(
        np.tril(np.ones((12, 16, 16))) / 16, [*WORDS[:14], "##prising", "[SEP]"], title="Block 1"
    ),
    "attention_maps of one": lambda: plots.attention_maps([[[1.0, 0.0], [0.4, 0.6]]], ["[CLS]", "representations"]),
    "attention_maps of 60 tokens": lambda: plots.attention_maps(np.full((1, 60, 60), 1 / 60), WORDS),
    "attention_maps of 5 heads": lambda: plots.attention_maps(np.full((5, 9, 9), 1 / 9), WORDS[:9]),
    "similarity_matrix": lambda: plots.similarity_matrix(
        np.clip(NORMAL[:5, :5], -1, 1), ["A man is eating a piece of bread in the park.", *WORDS[:4]], title="Five"
    ),
    "similarity_matrix of 20": lambda: plots.similarity_matrix(-np.eye(20), [f"{w} " * 12 for w in WORDS[:20]]),
    "similarity_matrix of one": lambda: plots.similarity_matrix([[1]], ["a"]),
    "token_contributions": lambda: plots.token_contributions(NORMAL[0, :60], WORDS, title="positive (94 %)"),
    "token_contributions of large numbers": lambda: plots.token_contributions([123456.0, -1.5e5, 0.0], ["a", ",", "b"]),
    "token_contributions of one": lambda: plots.token_contributions(
        [1e-7],
        ["x"],
        title="the word that is expected next: representation",
        label="contribution to the log probability",
    ),
    "perplexities": lambda: plots.perplexities(
        {"uniform": 11753, "3-gram, interpolated Kneser-Ney": (310.2, 301, 320), "LSTM": (205, 199, 213)},
        title="Held out",
    ),
    "perplexities of two": lambda: plots.perplexities(
        {"LSTM": 2.21, "GRU": (2.3, 2.2, 9.4)}, label="bits per character"
    ),
    "perplexities of one": lambda: plots.perplexities({"n-gram": (1e7, 1e3, 1e9)}),
    "most_wrong without a mistake": lambda: plots.most_wrong(pictures(1), [3], np.eye(10)[[3]], DIGITS),
}


@pytest.mark.parametrize("name", EVERY_FIGURE)
def test_every_text_is_inside_the_figure_and_none_overlap(name: str) -> None:
    figure = EVERY_FIGURE[name]()
    found = texts_and_boxes(figure)
    assert found
    for text, box in found:
        assert box.x0 >= 0, f"{text!r} is cut off on the left"
        assert box.y0 >= 0, f"{text!r} is cut off below"
        assert box.x1 <= figure.bbox.x1, f"{text!r} is cut off on the right"
        assert box.y1 <= figure.bbox.y1, f"{text!r} is cut off above"
    corners = np.array([(box.x0, box.y0, box.x1, box.y1) for _, box in found])
    for index, (text, _) in enumerate(found):
        left, low, right, high = corners[index] + (1, 1, -1, -1)  # a pixel of contact is no overlap
        rest = corners[index + 1 :]
        meets = (rest[:, 0] < right) & (rest[:, 2] > left) & (rest[:, 1] < high) & (rest[:, 3] > low)
        others = [found[index + 1 + i][0] for i in np.flatnonzero(meets)]
        assert not others, f"{text!r} overlaps {others}"


@pytest.mark.parametrize("name", EVERY_FIGURE)
def test_the_same_figure_gives_the_same_bytes(name: str, tmp_path: Path) -> None:
    figure = EVERY_FIGURE[name]()
    first = saved_bytes(figure, tmp_path / "first.png")
    assert saved_bytes(figure, tmp_path / "again.png") == first
    assert saved_bytes(EVERY_FIGURE[name](), tmp_path / "redrawn.png") == first


def test_sample_pictures_shows_the_pictures_themselves() -> None:
    images = pictures(4)
    figure = plots.sample_pictures(images, np.array([3, 1, 4, 1], dtype=np.uint8), DIGITS, count=3)
    assert [axes.get_title() for axes in figure.axes] == ["3", "1", "4"]
    for axes, image in zip(figure.axes, images, strict=False):
        shown = axes.images[0]
        np.testing.assert_array_equal(shown.get_array(), image[..., 0])
        assert shown.get_clim() == (0, 255)  # a dark picture must stay dark
        assert not axes.axison  # no frame


def test_sample_pictures_has_the_requested_number_of_columns() -> None:
    figure = plots.sample_pictures(pictures(7), np.zeros(7, "int64"), DIGITS, columns=3)
    edges = [round(axes.get_position().x0, 3) for axes in figure.axes]
    assert edges[0] < edges[1] < edges[2]
    assert edges[3:] == [*edges[:3], edges[0]]
    with pytest.raises(CourseError, match="columns is 0"):
        plots.sample_pictures(pictures(7), np.zeros(7, "int64"), DIGITS, columns=0)


def test_sample_pictures_shows_colors() -> None:
    images = pictures(2, channels=3)
    figure = plots.sample_pictures(images, [0, 5], FRUIT)
    np.testing.assert_array_equal(figure.axes[1].images[0].get_array(), images[1])
    assert figure.axes[1].get_title() == "rotten oranges"


def test_a_grid_has_no_empty_column() -> None:
    for count, columns in ((1, 1), (2, 2), (25, 7), (75, 11)):
        *tiles, _ = plots.kernel_grid(np.ones((3, 3, 1, count))).axes
        assert len(tiles) == count
        assert len({axes.get_position().x0 for axes in tiles}) == columns
        assert len({np.round(axes.get_position().size, 6).tobytes() for axes in tiles}) == 1


def test_training_curves_show_the_history_in_nats_and_percent() -> None:
    loss, accuracy = plots.training_curves(HISTORY).axes
    assert (loss.get_xlabel(), loss.get_ylabel()) == ("epoch", "cross entropy (nats)")
    assert (accuracy.get_xlabel(), accuracy.get_ylabel()) == ("epoch", "accuracy (%)")
    np.testing.assert_array_equal(lines_by_label(loss)["training"].get_ydata(), HISTORY["loss"])
    np.testing.assert_array_equal(lines_by_label(loss)["validation"].get_ydata(), HISTORY["val_loss"])
    np.testing.assert_allclose(lines_by_label(accuracy)["training"].get_ydata(), [70, 80, 90, 95])
    np.testing.assert_allclose(lines_by_label(accuracy)["validation"].get_ydata(), [75, 85, 86, 82])
    np.testing.assert_array_equal(lines_by_label(accuracy)["validation"].get_xdata(), [1, 2, 3, 4])


def test_training_curves_ring_the_best_validation_epoch_of_each_panel() -> None:
    loss, accuracy = plots.training_curves(HISTORY).axes
    ring = lines_by_label(loss)["best: 0.4000 in epoch 2"]
    assert ring.get_xydata().tolist() == [[2, 0.4]]
    ring = lines_by_label(accuracy)["best: 86.00 % in epoch 3"]
    assert ring.get_xydata().tolist() == [[3, 86.0]]


def test_the_first_of_equally_good_epochs_is_marked() -> None:
    (axes,) = plots.training_curves({"epoch": [1, 2, 3], "loss": [0.5, 0.25, 0.25]}).axes
    assert "best: 0.2500 in epoch 2" in lines_by_label(axes)


def test_training_curves_without_validation_mark_the_best_training_epoch() -> None:
    history = {name: HISTORY[name] for name in ("epoch", "loss", "accuracy")}
    loss, accuracy = plots.training_curves(history).axes
    assert list(lines_by_label(loss)) == ["training", "best: 0.2000 in epoch 4"]
    assert list(lines_by_label(accuracy)) == ["training", "best: 95.00 % in epoch 4"]


def test_training_curves_without_accuracy_have_one_panel() -> None:
    figure = plots.training_curves(
        {"epoch": [1, 2], "loss": [2.5, 1.0]}, loss_label="mean squared error", title="A line"
    )
    assert [axes.get_ylabel() for axes in figure.axes] == ["mean squared error"]
    assert figure.get_suptitle() == "A line"


def test_one_epoch_is_a_visible_point_on_a_whole_number() -> None:
    figure = plots.training_curves({name: values[:1] for name, values in HISTORY.items()})
    for axes in figure.axes:
        low, high = axes.get_xlim()
        assert [tick for tick in axes.get_xticks() if low <= tick <= high] == [1]
        assert all(line.get_marker() in ("o", "s") for line in axes.lines)


def test_training_and_validation_differ_in_color_and_in_marker() -> None:
    lines = lines_by_label(plots.training_curves(HISTORY).axes[0])
    assert lines["training"].get_color() != lines["validation"].get_color()
    assert lines["training"].get_marker() != lines["validation"].get_marker()


def test_a_diverged_epoch_is_a_gap_and_never_the_best() -> None:
    (axes,) = plots.training_curves({"epoch": [1, 2, 3], "loss": [2.0, 1.5, np.nan]}).axes
    assert "best: 1.5000 in epoch 2" in lines_by_label(axes)
    (axes,) = plots.training_curves({"epoch": [1], "loss": [np.nan]}).axes
    assert list(lines_by_label(axes)) == ["training"]


def test_step_curve_shows_every_loss_and_the_median() -> None:
    losses = [5.0, 1.0, 4.0, 2.0, 9.0]
    (axes,) = plots.step_curve(losses).axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("batch", "cross entropy (nats)")
    lines = lines_by_label(axes)
    assert lines["one batch"].get_xydata().tolist() == [[1, 5], [2, 1], [3, 4], [4, 2], [5, 9]]
    # At the ends the window is cut: the medians of (5, 1), (5, 1, 4), (1, 4, 2), (4, 2, 9), (2, 9).
    assert lines["median of 3 batches"].get_ydata().tolist() == [3.0, 4.0, 2.0, 4.0, 5.5]


def test_the_median_ignores_outliers_and_has_at_most_400_points() -> None:
    losses = np.full(4000, 0.5)
    losses[::7] = 100.0
    (axes,) = plots.step_curve(losses).axes
    median = lines_by_label(axes)["median of 201 batches"]
    assert set(median.get_ydata()) == {0.5}
    assert len(median.get_xdata()) == 400
    assert (median.get_xdata()[0], median.get_xdata()[-1]) == (1, 4000)
    assert axes.xaxis.get_major_formatter()(4000, 0) == "4,000"


@pytest.mark.parametrize(
    ("losses", "scale"), [([2.3, 0.01], "log"), ([2.3, 1.0], "linear"), ([2.3, 0.0], "linear"), ([-1.0, 5.0], "linear")]
)
def test_step_curve_is_logarithmic_only_for_a_wide_range_above_0(losses: list[float], scale: str) -> None:
    assert plots.step_curve(losses).axes[0].get_yscale() == scale


def test_a_diverged_batch_is_a_gap() -> None:
    (axes,) = plots.step_curve([2.0, np.nan, np.inf, np.nan, 4.0]).axes
    median = lines_by_label(axes)["median of 3 batches"].get_ydata()
    np.testing.assert_array_equal(median, [2.0, 2.0, np.nan, 4.0, 4.0])


def test_confusion_matrix_writes_the_counts_by_row_and_leaves_zeros_empty() -> None:
    figure = plots.confusion_matrix([[90, 10, 0], [0, 50, 0], [3, 0, 0]], ["a", "b", "c"])
    axes = figure.axes[0]
    assert {(text.get_position(), text.get_text()) for text in axes.texts} == {
        ((0, 0), "90"),
        ((1, 0), "10"),  # x is the predicted column, y the true row
        ((1, 1), "50"),
        ((0, 2), "3"),
    }
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted class", "true class")
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b", "c"]
    assert axes.get_title() == "140 of 153 right"
    assert figure.axes[1].get_ylabel() == "share of the true class (%)"


def test_confusion_matrix_colors_by_the_share_of_the_true_class() -> None:
    image = plots.confusion_matrix([[90, 10, 0], [0, 5000, 0], [0, 0, 0]], ["a", "b", "c"]).axes[0].images[0]
    np.testing.assert_allclose(image.get_array(), [[90, 10, 0], [0, 100, 0], [0, 0, 0]])


def test_a_rare_mistake_is_visible_beside_a_dominant_diagonal() -> None:
    image = plots.confusion_matrix([[99, 1], [0, 100]], ["a", "b"]).axes[0].images[0]
    one_percent, nothing = image.cmap(image.norm(1.0)), image.cmap(image.norm(0.0))
    assert np.abs(np.subtract(one_percent, nothing)).max() > 0.1  # a linear scale differs by 0.008


def test_counts_are_light_on_dark_and_dark_on_light() -> None:
    axes = plots.confusion_matrix([[99, 1], [0, 100]], ["a", "b"]).axes[0]
    colors = {text.get_text(): text.get_color() for text in axes.texts}
    assert colors["99"] == "white"
    assert colors["1"] == plots.COLORS["text"]


@pytest.mark.parametrize("classes", [10, 24])
def test_counts_are_readable_at_half_size(classes: int) -> None:
    axes = plots.confusion_matrix(matrix_of(classes, 1135, 12), LETTERS[:classes]).axes[0]
    assert min(text.get_fontsize() for text in axes.texts) / 72 * plots.DOTS_PER_INCH / 2 >= 8  # pixels


def test_most_wrong_titles_have_true_class_prediction_and_probability() -> None:
    images = pictures(4)
    # Probabilities by hand: logits log(p) of p = 0.98 and so on; the second picture is right.
    probabilities = np.full((4, 10), 0.02 / 9)
    probabilities[0] = [0.6, 0.4, *[1e-9] * 8]
    probabilities[1, 7] = 0.98
    probabilities[2, 9] = 0.98
    probabilities[3] = [0.25, 0.75, *[1e-9] * 8]
    figure = plots.most_wrong(images, [1, 7, 4, 0], np.log(probabilities) + 3, DIGITS)
    assert [axes.get_title() for axes in figure.axes] == [
        "true 4, predicted 9 (98 %)",
        "true 0, predicted 1 (75 %)",
        "true 1, predicted 0 (60 %)",
    ]
    np.testing.assert_array_equal(figure.axes[0].images[0].get_array(), images[2, ..., 0])
    assert figure.get_suptitle() == "3 of 4 wrong"


def test_most_wrong_shows_at_most_count_mistakes_and_states_their_number() -> None:
    figure = plots.most_wrong(pictures(6), [0] * 6, np.eye(10)[[1] * 6], DIGITS, count=4)
    assert len(figure.axes) == 4
    assert figure.get_suptitle() == "6 of 6 wrong; the 4 most confident"


def test_most_wrong_breaks_long_names_into_two_lines() -> None:
    figure = plots.most_wrong(pictures(1, 3), [4], 9 * np.eye(6)[[0]], FRUIT)
    assert figure.axes[0].get_title() == "true rotten bananas,\npredicted fresh apples (100 %)"


def test_most_wrong_shows_a_text_if_there_is_no_mistake() -> None:
    figure = plots.most_wrong(pictures(3), [1, 2, 3], np.eye(10)[[1, 2, 3]], DIGITS)
    assert [text.get_text() for text in figure.texts] == ["No mistake: 3 of 3 right"]
    assert not figure.axes


def test_a_class_name_with_dollars_is_not_drawn_as_a_formula() -> None:
    figure = plots.sample_pictures(pictures(1), [0], ["$5 or $10"])
    assert figure.axes[0].get_title() == "$5 or $10"
    assert not figure.axes[0].title.get_parse_math()


def test_plots_neither_change_nor_use_the_global_settings(tmp_path: Path) -> None:
    expected = saved_bytes(plots.training_curves(HISTORY), tmp_path / "expected.png")
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red", "savefig.dpi": 40, "savefig.bbox": "tight"}):
        before = dict(matplotlib.rcParams)
        changed = saved_bytes(plots.training_curves(HISTORY), tmp_path / "changed.png")
        assert dict(matplotlib.rcParams) == before
    assert changed == expected


def test_save_writes_a_png_of_120_dots_per_inch_and_creates_the_folder(tmp_path: Path) -> None:
    figure = plots.training_curves(HISTORY)
    path = tmp_path / "runs" / "one" / "curves.png"
    assert plots.save(figure, path) is figure
    assert path == tmp_path / "runs" / "one" / "curves.png"
    data = path.read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    assert b"IEND" in data[-12:]
    width, height = figure.get_size_inches()
    assert int.from_bytes(data[16:20], "big") == pytest.approx(width * 120, abs=1)
    assert int.from_bytes(data[20:24], "big") == pytest.approx(height * 120, abs=1)
    assert matplotlib.__version__.encode() not in data
    assert [file.name for file in path.parent.iterdir()] == ["curves.png"]


def test_a_failed_save_leaves_the_old_picture_and_no_temporary_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "curves.png"
    path.write_bytes(b"the old picture")
    written = []

    def full_disk(self: Path, target: Path) -> Path:
        written.append(self)
        assert self.parent == target.parent  # a rename across disks would not be atomic
        assert path.read_bytes() == b"the old picture"
        raise OSError("no space left on device")

    monkeypatch.setattr(Path, "replace", full_disk)
    with pytest.raises(OSError, match="no space left"):
        plots.save(plots.step_curve([1.0]), path)
    assert written
    assert [file.name for file in tmp_path.iterdir()] == ["curves.png"]
    assert path.read_bytes() == b"the old picture"


def test_a_notebook_shows_the_saved_picture(tmp_path: Path) -> None:
    figure = plots.step_curve([2.0, 1.0])
    assert figure._repr_png_() == saved_bytes(figure, tmp_path / "steps.png")


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: plots.sample_pictures(pictures(2).astype(np.float32), [0, 1], DIGITS), "images are float32 of shape"),
        (lambda: plots.sample_pictures(pictures(2)[..., 0], [0, 1], DIGITS), r"shape \(2, 28, 28\); give uint8"),
        (lambda: plots.sample_pictures(pictures(2, 4), [0, 1], DIGITS), r"1 or 3"),
        (lambda: plots.sample_pictures(pictures(2)[:0], [], DIGITS), r"shape \(0, 28, 28, 1\)"),
        (lambda: plots.sample_pictures(pictures(2), [0], DIGITS), "one integer for each of 2 images"),
        (lambda: plots.sample_pictures(pictures(2), [0, 10], DIGITS), "from 0 to 10 beside 10 class_names"),
        (lambda: plots.sample_pictures(pictures(2), [-1, 1], DIGITS), "give class numbers from 0 to 9"),
        (lambda: plots.sample_pictures(pictures(2), [0, 1], DIGITS, count=0), "count is 0; give"),
        (lambda: plots.training_curves({"epoch": [1]}), "history has no column 'loss'"),
        (lambda: plots.training_curves({"epoch": [], "loss": []}), "columns of lengths"),
        (lambda: plots.training_curves({"epoch": [1, 2], "loss": [1.0]}), "{'epoch': 2, 'loss': 1}"),
        (lambda: plots.step_curve([]), r"losses have shape \(0,\)"),
        (lambda: plots.step_curve([np.nan]), "0 finite values"),
        (lambda: plots.step_curve([[1.0]]), r"losses have shape \(1, 1\)"),
        (lambda: plots.confusion_matrix([[1, 2], [3, 4]], ["a"]), "matrix has shape"),
        (lambda: plots.most_wrong(pictures(2), [0, 1], np.eye(10)[:1], DIGITS), r"logits have shape \(1, 10\); give"),
        (lambda: plots.most_wrong(pictures(2), [0, 1], np.eye(9)[:2], DIGITS), r"logits have shape \(2, 9\); give"),
        (lambda: plots.most_wrong(pictures(1), [0], [[np.nan] * 10], DIGITS), "logits hold NaN"),
        (lambda: plots.save(plots.step_curve([1.0]), "curves.pdf"), "path is 'curves.pdf'; give .* ends in .png"),
    ],
)
def test_error_names_the_bad_input(draw: Callable[[], object], message: str) -> None:
    with pytest.raises(CourseError, match=message):
        draw()


def test_more_tiles_than_fit_into_a_figure_are_refused() -> None:
    with pytest.raises(ValueError, match="400 tiles in 20 columns do not fit into 1 × 1 inches"):
        style.tiled_axes(style.new_figure(1, 1), 400, 20)
