"""Figures of words: numbers against NumPy, labels that can be read, and texts from outside."""

from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.text import Text

from keras_course import plots
from keras_course.errors import CourseError
from keras_course.plots import style
from keras_course.plots.style import COLORS, columns_of, drawable, png_bytes

DRAW = np.random.default_rng(0)
VECTORS = DRAW.normal(size=(12, 5))
WORDS = [f"word{number}" for number in range(12)]


def step(word="dog", probability=0.25, alternatives=(("cat", 0.5), ("dog", 0.25), ("cow", 0.0004))):
    return SimpleNamespace(word=word, probability=probability, alternatives=alternatives)


def texts(labels):
    return [label.get_text() for label in labels]


# --- Vectors ------------------------------------------------------------------------------------------------------


def test_a_word_has_its_place_in_the_vocabulary_and_its_row_of_the_table():
    table = DRAW.normal(size=(50, 4))
    left, right, bar = plots.one_hot_and_embedding(["cat", "dog", "cow"], [3, 49, 20], table).axes
    markers = [line for line in left.lines if line.get_marker() == "s"]
    assert [(line.get_xdata()[0], line.get_ydata()[0]) for line in markers] == [(3, 0), (49, 1), (20, 2)]
    assert texts(left.texts) == ["1 at 3", "1 at 49", "1 at 20"]
    assert texts(left.get_yticklabels()) == ["cat", "dog", "cow"]
    np.testing.assert_array_equal(right.images[0].get_array(), table[[3, 49, 20]])
    assert texts(right.texts) == [f"{value:.2f}" for value in table[[3, 49, 20]].ravel()]
    low, high = right.images[0].get_clim()
    assert -low == high == np.abs(table[[3, 49, 20]]).max()
    assert bar.get_ylabel() == "weight"


def test_many_dimensions_have_no_numbers_in_their_cells():
    _, right, _ = plots.one_hot_and_embedding(["cat"], [1], np.ones((3, 100))).axes
    assert not right.texts


def test_points_are_the_first_two_principal_components():
    axes = plots.embedding_map(WORDS, VECTORS).axes[0]
    drawn = np.concatenate([np.stack(line.get_data(), axis=1) for line in axes.lines if line.get_marker() == "o"])
    centered = VECTORS - VECTORS.mean(axis=0)
    variances, directions = np.linalg.eigh(centered.T @ centered)
    expected = centered @ directions[:, [-1, -2]]
    np.testing.assert_allclose(np.abs(drawn), np.abs(expected), atol=1e-9)
    shares = 100 * variances[[-1, -2]] / variances.sum()
    assert axes.get_xlabel() == f"first principal component ({shares[0]:.0f} % of the variance)"
    assert axes.get_ylabel() == f"second principal component ({shares[1]:.0f} % of the variance)"
    assert texts(axes.texts) == WORDS


def test_the_sign_of_a_component_does_not_depend_on_the_library():
    axes = plots.embedding_map(WORDS, VECTORS).axes[0]
    mirrored = plots.embedding_map(WORDS, VECTORS @ np.linalg.qr(DRAW.normal(size=(5, 5)))[0]).axes[0]
    for dots in (axes.lines[0], mirrored.lines[0]):
        assert len(dots.get_xdata()) == 12
    largest = np.abs(np.linalg.svd(VECTORS - VECTORS.mean(axis=0))[2][0]).argmax()
    assert np.corrcoef(axes.lines[0].get_xdata(), VECTORS[:, largest])[0, 1] > 0


def test_the_nearest_words_are_those_of_the_whole_vectors():
    figure = plots.embedding_map(WORDS, VECTORS, word="word4", nearest=3)
    lengths = np.linalg.norm(VECTORS, axis=1)
    cosines = VECTORS @ VECTORS[4] / lengths / lengths[4]
    near = [number for number in np.argsort(-cosines) if number != 4][:3]
    labels = texts(figure.axes[0].texts)
    for number in range(12):
        assert labels[number] == (f"word{number} {cosines[number]:.2f}" if number in near else f"word{number}")
    bold = [label.get_text().split()[0] for label in figure.axes[0].texts if label.get_fontweight() == "bold"]
    assert sorted(bold) == sorted(f"word{number}" for number in [4, *near])


@pytest.mark.parametrize("vectors", [np.ones((12, 3)), np.zeros((12, 2)), np.arange(12.0)[:, None]])
def test_vectors_that_span_no_plane_are_drawn(vectors):
    axes = plots.embedding_map(WORDS, vectors, word="word3").axes[0]
    assert "nan" not in axes.get_xlabel() + axes.get_ylabel() + "".join(texts(axes.texts))


def test_sixty_words_at_two_places_have_labels_that_do_not_overlap():
    names = [f"a word {number}" for number in range(60)]
    figure = plots.embedding_map(names, np.arange(60)[:, None] // 30 * np.ones(3))
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    boxes = [Text.get_window_extent(text, canvas.get_renderer()) for text in figure.axes[0].texts]
    frame = figure.axes[0].bbox
    for index, box in enumerate(boxes):
        assert frame.x0 <= box.x0 <= box.x1 <= frame.x1
        assert frame.y0 <= box.y0 <= box.y1 <= frame.y1
        assert not any(box.overlaps(other) for other in boxes[index + 1 :])


def test_a_line_leads_from_a_label_that_is_far_from_its_point():
    figure = plots.embedding_map(["one", "two", *WORDS], np.concatenate([np.zeros((13, 2)), np.ones((1, 2))]))
    axes = figure.axes[0]
    lines = [line for line in axes.lines if line.get_marker() in ("None", "")]
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    boxes = [Text.get_window_extent(text, canvas.get_renderer()).padded(3) for text in axes.texts]
    assert lines
    for line in lines:
        ends = axes.transData.transform(np.stack(line.get_data(), axis=1))
        assert any(box.contains(*ends[1]) for box in boxes)
    low, high = min(axes.lines[0].get_xdata()), max(axes.lines[0].get_xdata())
    margin = 0.08 * (high - low)
    np.testing.assert_allclose(axes.get_xlim(), (low - margin, high + margin))  # the lines do not change the axes


# --- Next words -----------------------------------------------------------------------------------------------------


def test_the_written_word_is_marked_among_the_most_probable_ones():
    axes = plots.next_words([step()]).axes[0]
    assert axes.get_title() == "1. dog"
    assert texts(axes.get_yticklabels()) == ["cat", "▸ dog", "cow"]
    np.testing.assert_allclose([bar.get_width() for bar in axes.patches], [50, 25, 0.04])
    colors = [to_rgb(bar.get_facecolor()) for bar in axes.patches]
    written, other = to_rgb(COLORS["validation"]), to_rgb(COLORS["training"])
    assert colors == [other, written, other]
    assert texts(axes.texts) == ["50.0", "25.0", "0.04"]
    low, high = axes.get_ylim()
    assert low > high  # the most probable word is at the top


def test_a_written_word_that_is_not_among_the_most_probable_ones_is_below_them():
    axes = plots.next_words([step("ox", 0.001)]).axes[0]
    assert texts(axes.get_yticklabels()) == ["cat", "dog", "cow", "▸ ox"]
    assert axes.patches[-1].get_width() == pytest.approx(0.1)
    assert axes.patches[-1].get_y() - axes.patches[-2].get_y() > axes.patches[1].get_y() - axes.patches[0].get_y()


def test_all_steps_have_one_scale_and_the_lowest_panel_of_each_column_has_the_axis():
    figure = plots.next_words([step(), step(probability=0.9, word="pig"), step(), step(), step()], title="a")
    panels = figure.axes
    assert [axes.get_title() for axes in panels] == ["1. dog", "2. pig", "3. dog", "4. dog", "5. dog"]
    assert len({axes.get_xlim() for axes in panels}) == len({axes.get_ylim() for axes in panels}) == 1
    assert [axes.get_xlabel() for axes in panels] == ["", *["probability (%)"] * 4]
    widths = {(round(axes.bbox.width, 3), round(axes.bbox.height, 3)) for axes in panels}
    assert len(widths) == 1


# --- Attention ------------------------------------------------------------------------------------------------------


def test_each_head_has_a_tile_and_the_edges_have_the_tokens():
    maps = DRAW.dirichlet(np.ones(3), size=(6, 3))
    *tiles, bar = plots.attention_maps(maps, ["a", "small", "dog"]).axes
    assert [axes.get_title() for axes in tiles] == [f"head {number}" for number in range(1, 7)]
    for axes, expected in zip(tiles, maps, strict=True):
        np.testing.assert_array_equal(axes.images[0].get_array(), expected)
        assert axes.images[0].get_clim() == (0, 1)
    columns = len({round(axes.get_position().x0, 4) for axes in tiles})
    for number, axes in enumerate(tiles):
        assert texts(axes.get_yticklabels()) == (["a", "small", "dog"] if number % columns == 0 else [""] * 3)
        assert texts(axes.get_xticklabels()) == (["a", "small", "dog"] if number + columns >= 6 else [""] * 3)
    assert bar.get_ylabel() == "probability"


@pytest.mark.parametrize(("heads", "tokens", "columns"), [(12, 16, 4), (7, 16, 4), (4, 60, 2), (5, 20, 4), (2, 60, 2)])
def test_a_grid_has_complete_rows_where_they_fit(heads, tokens, columns):
    *tiles, _ = plots.attention_maps(np.ones((heads, tokens, tokens)) / tokens, ["t"] * tokens).axes
    assert len({round(axes.get_position().x0, 4) for axes in tiles}) == columns


# --- Similarity -----------------------------------------------------------------------------------------------------


def test_similarities_stand_in_their_cells_and_sentences_beside_their_rows():
    values = np.array([[1, 0.126, -0.001], [0.126, 1, -0.8], [-0.001, -0.8, 1]])
    long = "Two men pushed carts through the woods in the rain of a late evening in October"
    axes = plots.similarity_matrix(values, ["A dog.", long, "A cat."]).axes[0]
    assert texts(axes.texts) == ["1.00", "0.13", "0.00", "0.13", "1.00", "-0.80", "0.00", "-0.80", "1.00"]
    assert axes.images[0].get_clim() == (-1, 1)
    first, second, third = texts(axes.get_yticklabels())
    assert (first, third) == ("1  A dog.", "3  A cat.")
    assert second.startswith("2  Two men pushed")
    assert second.count("\n") == 1
    assert second.endswith("…")
    assert texts(axes.get_xticklabels()) == ["1", "2", "3"]


# --- Contributions --------------------------------------------------------------------------------------------------


def test_tokens_are_red_where_they_raise_the_logit_and_blue_where_they_lower_it():
    figure = plots.token_contributions([0.5, -2.0, 0.0, 1.0], ["a", "bad", "but", "good"])
    axes, bar = figure.axes
    assert texts(axes.texts) == ["a", "+0.50", "bad", "-2.00", "but", "0.00", "good", "+1.00"]
    red, _, blue, _ = np.array([patch.get_facecolor() for patch in axes.patches]).T
    assert np.sign((red - blue).round(2)).tolist() == [1, -1, 0, 1]
    assert red[3] - blue[3] > red[0] - blue[0]
    assert figure.texts[-1].get_text() == "contribution to the logit\nsum -0.50"
    assert texts(bar.get_xticklabels()) == ["-2.00", "0", "+2.00"]


def test_tokens_stand_in_their_order_in_lines_and_never_on_each_other():
    axes = plots.token_contributions(np.ones(60), ["token"] * 60).axes[0]
    places = [(patch.get_y(), patch.get_x()) for patch in axes.patches]
    assert places == sorted(places)
    assert len({y for y, _ in places}) > 3
    for (y, x), (next_y, next_x), patch in zip(places, places[1:], axes.patches, strict=False):
        assert next_y > y or next_x > x + patch.get_width()


@pytest.mark.parametrize(
    ("values", "numbers"),
    [
        ([123456.0, -1.0], ["+123456", "-1"]),
        ([12.5, -0.04], ["+12.5", "0.0"]),
        ([0.0123, -0.0004], ["+0.012", "0.000"]),
        ([1.5e-7, 0.0], ["+1.5e-07", "0.0e+00"]),
        ([0.0, 0.0], ["0.00", "0.00"]),
    ],
)
def test_numbers_have_as_many_digits_as_the_largest_needs(values, numbers):
    axes = plots.token_contributions(values, ["a", "b"]).axes[0]
    assert [text.get_text() for text in axes.texts][1::2] == numbers


# --- Word pieces ----------------------------------------------------------------------------------------------------


def test_each_piece_has_its_number_and_the_color_of_its_segment():
    figure = plots.word_pieces(["[CLS]", "play", "##s", "[SEP]"], [101, 7, 30521, 102], [0, 0, 1, 1], title="A title")
    axes = figure.axes[0]
    assert texts(axes.texts) == ["[CLS]", "101", "play", "7", "##s", "30521", "[SEP]", "102"]
    first, second, third, fourth = (patch.get_facecolor() for patch in axes.patches)
    assert first == second != third == fourth
    assert texts(figure.legends[0].get_texts()) == ["segment 0", "segment 1"]
    assert texts(plots.word_pieces(["a"], [1]).legends[0].get_texts()) == ["segment 0"]


@pytest.mark.parametrize(
    ("tokens", "numbers", "segments", "message"),
    [
        ([], [], None, "there are 0 tokens"),
        (["a"], [1, 2], None, "numbers has shape"),
        (["a"], [1], [0, 1], "segment_ids has shape"),
        (["a"], [1], [4], "segment_ids are from 4 to 4; give 0 to 3"),
        (["a"], [1], [-1], "segment_ids are from -1"),
    ],
)
def test_pieces_that_do_not_fit_are_refused(tokens, numbers, segments, message):
    with pytest.raises(CourseError, match=message):
        plots.word_pieces(tokens, numbers, segments)


# --- Perplexities ---------------------------------------------------------------------------------------------------


def test_bars_begin_at_0_and_intervals_are_lines():
    axes = plots.perplexities({"n-gram": 310.25, "LSTM": (205, 199.5, 213)}).axes[0]
    assert [(bar.get_x(), bar.get_width()) for bar in axes.patches] == [(0, 310.25), (0, 205)]
    assert texts(axes.texts) == ["310.2", "205 (199.5 to 213)"]
    assert texts(axes.get_yticklabels()) == ["n-gram", "LSTM"]
    assert [line.get_xdata().tolist() for line in axes.lines] == [[199.5, 213]]
    assert axes.get_xscale() == "linear"


def test_very_different_perplexities_have_a_logarithmic_axis_from_1():
    axes = plots.perplexities({"uniform": 11753, "LSTM": (205, 199, 213)}).axes[0]
    assert axes.get_xscale() == "log"
    assert axes.get_xlim()[0] == 1
    np.testing.assert_allclose([bar.get_x() + bar.get_width() for bar in axes.patches], [11753, 205])
    assert texts(axes.texts)[0] == "11,753"


# --- Texts from outside ---------------------------------------------------------------------------------------------

NASTY = [
    "$x^2$ or $5",
    r"\alpha_{10}^2 $\frac{1}{0}$",
    "two\nlines\x00\x1b[31m",
    "你好，世界",
    "\U0001f642 smile\u200d\ufe0f",
    "\u202eright to left",
    "\ud800 half a pair",
    "مرحبا",
    "",
    " ",
    "x" * 10_000,
    "a" + "\u0301" * 300,
    "_hidden",
]
COUNT = len(NASTY)

EVERY_FUNCTION = {
    "one_hot_and_embedding": lambda: plots.one_hot_and_embedding(NASTY, range(COUNT), np.eye(COUNT), title=NASTY[0]),
    "embedding_map": lambda: plots.embedding_map(NASTY, DRAW.normal(size=(COUNT, 3)), word=NASTY[3], title=NASTY[1]),
    "next_words": lambda: plots.next_words(
        [step(NASTY[number], 0.1, [(text, 0.1) for text in NASTY[number : number + 3]]) for number in range(COUNT)],
        title=NASTY[2],
    ),
    "attention_maps": lambda: plots.attention_maps(np.full((2, COUNT, COUNT), 0.1), NASTY, title=NASTY[3]),
    "similarity_matrix": lambda: plots.similarity_matrix(np.eye(COUNT), NASTY, title=NASTY[4], label=NASTY[0]),
    "token_contributions": lambda: plots.token_contributions(np.ones(COUNT), NASTY, title=NASTY[5], label=NASTY[0]),
    "word_pieces": lambda: plots.word_pieces(NASTY, range(COUNT), title=NASTY[0]),
    "perplexities": lambda: plots.perplexities(dict.fromkeys(NASTY, 2.5), title=NASTY[6], label=NASTY[0]),
}


@pytest.mark.parametrize("name", EVERY_FUNCTION)
def test_texts_from_outside_are_drawn_and_never_as_a_formula(name):
    figure = EVERY_FUNCTION[name]()
    assert png_bytes(figure).startswith(b"\x89PNG")
    drawn = [text for text in figure.findobj(Text) if text.get_text()]
    assert any("$x^2$ or $5" in text.get_text() for text in drawn)
    assert any("x" * 10 in text.get_text() for text in drawn)
    for text in drawn:
        assert not text.get_parse_math()
        assert text.get_text().replace("\n", "").isprintable()
        assert len(text.get_text()) < 100


def test_a_text_is_drawn_in_one_line_of_known_characters():
    assert drawable("two\nlines\x1b") == r"two\nlines\x1b"
    assert drawable("\ud800") == r"\ud800"
    assert drawable("Grüße ∑ مر") == "Grüße ∑ مر"
    assert drawable("a\ue000b") == r"a\ue000b"
    assert drawable("  ") == "␣␣"
    assert drawable(" a ") == " a "
    assert drawable("abcdef", longest=6) == "abcdef"
    assert drawable("abcdefg", longest=6) == "abcde…"
    assert len(drawable("\n" * 100, longest=6)) == 6


def test_a_character_that_no_font_has_is_a_box_and_another_font_is_used_where_it_has_it(monkeypatch):
    rare = "\U0001d6a4"  # a mathematical letter of STIX, which matplotlib brings along
    monkeypatch.setitem(style.STYLE, "font.family", ["DejaVu Sans"])
    style._has_glyph.cache_clear()
    alone = drawable("\u4f60" + rare)
    monkeypatch.setitem(style.STYLE, "font.family", ["DejaVu Sans", "STIXGeneral"])
    style._has_glyph.cache_clear()
    assert alone[0] == "□"
    assert (alone[1], drawable(rare)) == ("□", rare)
    png_bytes(plots.token_contributions([1.0], [rare]))  # without a warning of matplotlib
    style._has_glyph.cache_clear()


def test_a_chinese_letter_is_as_wide_as_two():
    assert [columns_of(text) for text in ("", "abc", "单词a", "ﾊﾝ", "Ａ")] == [0, 3, 5, 2, 2]


# --- Bad input ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: plots.one_hot_and_embedding([], [], np.eye(2)), "there are 0 words; give from 1 to 20"),
        (lambda: plots.one_hot_and_embedding(["a"] * 21, range(21), np.eye(21)), "there are 21 words"),
        (lambda: plots.one_hot_and_embedding("cat", [0, 1, 2], np.eye(3)), "words are 'cat'; give a list of texts"),
        (lambda: plots.one_hot_and_embedding(["a", 5], [0, 1], np.eye(3)), r"words are \['a', 5\]; give a list"),
        (lambda: plots.one_hot_and_embedding(["a"], [0, 1], np.eye(3)), r"numbers have shape \(2,\); give one whole"),
        (lambda: plots.one_hot_and_embedding(["a"], [0.5], np.eye(3)), "give one whole number for each of 1 words"),
        (lambda: plots.one_hot_and_embedding(["a"], [3], np.eye(3)), "numbers run from 3 to 3; .* from 0 to 2"),
        (lambda: plots.one_hot_and_embedding(["a"], [-1], np.eye(3)), "numbers run from -1"),
        (lambda: plots.one_hot_and_embedding(["a"], [0], np.ones(3)), r"table have shape \(3,\); .*\(vocabulary_size"),
        (lambda: plots.embedding_map(["a"], [[1, 2]]), "there are 1 words; give from 2 to 60"),
        (lambda: plots.embedding_map(["a"] * 61, np.ones((61, 2))), "there are 61 words"),
        (lambda: plots.embedding_map(WORDS, VECTORS[:5]), r"embeddings have shape \(5, 5\); .* \(12, embedding_dim\)"),
        (lambda: plots.embedding_map(WORDS, VECTORS * np.nan), "give finite numbers"),
        (lambda: plots.embedding_map(WORDS, VECTORS, word="cat"), "word is 'cat', which is not among the words; give"),
        (lambda: plots.embedding_map(WORDS, VECTORS, nearest=0), "nearest is 0; give"),
        (lambda: plots.next_words([]), "there are 0 steps; give from 1 to 24"),
        (lambda: plots.next_words([step()] * 25), "there are 25 steps"),
        (lambda: plots.next_words([step(alternatives=())]), "step 1 has 0 alternatives; give from 1 to 10"),
        (lambda: plots.next_words([step(), step(alternatives=[("a", 0.1)] * 11)]), "step 2 has 11 alternatives"),
        (lambda: plots.next_words([step(alternatives=[("a", 1.5)])]), "the probability of 'a' in step 1 is 1.5; give"),
        (lambda: plots.next_words([step(probability=-0.5, word="b")]), "the probability of 'b' in step 1 is -0.5"),
        (lambda: plots.attention_maps(np.ones((2, 3, 3)), ["a", "b"]), r"maps have shape \(2, 3, 3\); .* for 2 tokens"),
        (lambda: plots.attention_maps(np.ones((2, 2)), ["a", "b"]), r"maps have shape \(2, 2\)"),
        (lambda: plots.attention_maps(np.ones((17, 1, 1)), ["a"]), "at most 16 heads"),
        (lambda: plots.attention_maps(2 * np.ones((1, 1, 1)), ["a"]), "maps run from 2 to 2; give probabilities"),
        (lambda: plots.attention_maps(np.nan * np.ones((1, 1, 1)), ["a"]), "maps run from nan"),
        (lambda: plots.attention_maps(np.ones((1, 61, 61)), ["a"] * 61), "there are 61 tokens; give from 1 to 60"),
        (lambda: plots.similarity_matrix(np.eye(2), ["a"]), r"similarities have shape \(2, 2\); .* \(1, 1\)"),
        (lambda: plots.similarity_matrix(2 * np.eye(2), ["a", "b"]), "similarities run from 0 to 2; give numbers from"),
        (lambda: plots.similarity_matrix(np.eye(21), ["a"] * 21), "there are 21 sentences; give from 1 to 20"),
        (lambda: plots.token_contributions([1.0], ["a", "b"]), r"contributions has shape \(1,\); give 2 numbers"),
        (lambda: plots.token_contributions([np.inf], ["a"]), "contributions has 1 values, 0 of them finite"),
        (lambda: plots.token_contributions([], []), "there are 0 tokens; give from 1 to 60"),
        (lambda: plots.perplexities({}), "models is {}; give at least one"),
        (lambda: plots.perplexities({"a": 0.0}), r"models\['a'\] is 0.0; give a perplexity above 0, or"),
        (lambda: plots.perplexities({"a": (5, 6, 7)}), r"models\['a'\] is \(5, 6, 7\); give"),
        (lambda: plots.perplexities({"a": (5, 4)}), r"models\['a'\] is \(5, 4\)"),
        (lambda: plots.perplexities({"a": np.inf}), r"models\['a'\] is inf"),
        (
            lambda: plots.perplexities({str(number): 2.0 for number in range(21)}),
            "there are 21 models; give at most 20",
        ),
    ],
)
def test_bad_input_is_named(draw, message):
    with pytest.raises(CourseError, match=message):
        draw()
