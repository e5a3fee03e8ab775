"""Generation of text, with models whose distributions are known."""

import itertools

import keras
import numpy as np
import pytest
from keras import layers

from keras_course import _backend
from keras_course.errors import CourseError
from keras_course.generation import Step, Writer, write
from keras_course.generation.words import distribution
from keras_course.models import causal_language_model, recurrent_language_model
from keras_course.preprocessing.text_format import TextFormat
from keras_course.randomness import stream_key, uniform

PAD, UNKNOWN, END, A, B, C, DOT = range(7)
WORDS = ("[PAD]", "[UNK]", "[END]", "a", "b", "c", ".")
NEVER = -1e9


def format_of(sequence_length=4, *, padding="left", vocabulary=WORDS, unit="words"):
    return TextFormat(unit=unit, vocabulary=vocabulary, sequence_length=sequence_length, padding=padding)


def chain(logits, *, order=1, sequence_length=4):
    """A model whose next word depends on the last words only: ``logits`` is (words, ..., words)."""
    logits = np.asarray(logits, "float32")
    size = logits.shape[-1]
    tokens = keras.Input((sequence_length,), dtype="int32", name="tokens")
    state = tokens[:, -1]
    for back in range(2, order + 1):
        state = state + tokens[:, -back] * size ** (back - 1)
    model = keras.Model(tokens, layers.Embedding(size**order, size, name="table")(state), name="chain")
    model.set_weights([logits.reshape(-1, size)])
    return model


def log_of(probabilities):
    """Logits of a table {word: {next word: probability}}; other words never follow."""
    logits = np.full((len(WORDS), len(WORDS)), NEVER)
    logits[:, END] = 0
    for word, following in probabilities.items():
        logits[word] = NEVER
        for token, probability in following.items():
            logits[word, token] = np.log(probability)
    return logits


def random_tables(order, seed):
    return np.random.default_rng(seed).normal(0, 1.5, (len(WORDS),) * (order + 1))


def softmax(logits):
    """Of the words that may be written."""
    logits = np.array(logits, "float64")
    logits[..., [PAD, UNKNOWN]] = -np.inf
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def log_softmax(logits):
    with np.errstate(divide="ignore"):
        return np.log(softmax(logits))


def tokens_of(steps):
    return [step.token for step in steps]


def with_other_weights(model, scale=0.7):
    draw = np.random.default_rng(1)
    for weight in model.trainable_variables:
        weight.assign(draw.normal(0, scale, weight.shape))
    return model


def outputs_of(model, tokens):
    """Without compiling, which would take a while for each."""
    return keras.ops.convert_to_numpy(model(np.array(tokens, "int32"), training=False))


def recurrent(sequence_length=4):
    return with_other_weights(
        recurrent_language_model(vocabulary_size=7, sequence_length=sequence_length, embedding_dim=3, units=4)
    )


def transformer(sequence_length=5, *, ends=True):
    sizes = {"embedding_dim": 6, "num_heads": 2, "intermediate_dim": 5}
    model = with_other_weights(causal_language_model(vocabulary_size=7, sequence_length=sequence_length, **sizes))
    if not ends:  # the first number of each vector, which is about 10, lowers the logit of the end
        table, shift = model.get_layer("embedding").tables["tokens"], model.get_layer("norm").beta
        values, shifts = (keras.ops.convert_to_numpy(weight).copy() for weight in (table, shift))
        values[:, 0], values[END, 0], shifts[0] = 0, -3, 10
        table.assign(values)
        shift.assign(shifts)
    return model


# --- The words, by hand ------------------------------------------------------------------------------------------

EVEN = {
    END: {A: 0.6, B: 0.4},
    A: {A: 0.1, B: 0.2, C: 0.7},
    B: {END: 1.0},
    C: {DOT: 0.9, C: 0.1},
    DOT: {END: 0.6, A: 0.4},
}


def test_greedy_takes_the_most_probable_words_up_to_the_end():
    steps = list(write(chain(log_of(EVEN)), format_of(), strategy="greedy"))
    assert tokens_of(steps) == [A, C, DOT, END]
    assert [step.word for step in steps] == ["a", "c", ".", "[END]"]
    assert "".join(step.text for step in steps) == "a c."
    assert [step.probability for step in steps] == pytest.approx([0.6, 0.7, 0.9, 0.6], abs=1e-6)
    words, probabilities = zip(*steps[1].alternatives, strict=True)
    assert words == ("c", "b", "a")
    assert probabilities == pytest.approx((0.7, 0.2, 0.1), abs=1e-6)
    assert isinstance(steps[0], Step)


def test_a_prompt_is_continued():
    steps = list(write(chain(log_of(EVEN)), format_of(), "A c", strategy="greedy"))
    assert tokens_of(steps) == [DOT, END]
    assert [step.text for step in steps] == [".", ""]
    steps = list(write(chain(log_of(EVEN)), format_of(), "a", strategy="greedy", length=1))
    assert [step.text for step in steps] == [" c"]


def test_characters_are_joined_without_spaces():
    format = format_of(unit="characters", vocabulary=("[PAD]", "[UNK]", "[END]", "a", "b", "c", " "))
    steps = list(write(chain(log_of(EVEN)), format, "a", strategy="greedy"))
    assert [step.text for step in steps] == ["c", " ", ""]


@pytest.mark.parametrize("length", [1, 2, 3])
@pytest.mark.parametrize("strategy", ["greedy", "sample", "beam"])
def test_it_ends_after_as_many_words(length, strategy):
    following = {word: {A: 0.5, C: 0.5} for word in (END, A, C)}
    steps = list(write(chain(log_of(following)), format_of(), strategy=strategy, length=length))
    assert len(steps) == length


@pytest.mark.parametrize("strategy", ["greedy", "sample", "beam"])
def test_padding_and_unknown_words_are_never_written(strategy):
    logits = np.zeros((7, 7))
    logits[:, [PAD, UNKNOWN]] = 50
    writer = Writer(chain(logits), format_of())
    for seed in range(10):
        for step in writer.write(strategy=strategy, length=10, seed=seed):
            assert step.token not in (PAD, UNKNOWN)
            assert step.probability == pytest.approx(0.2)  # of the five others
            assert not {"[PAD]", "[UNK]"} & dict(step.alternatives).keys()


# --- Distributions -----------------------------------------------------------------------------------------------

FOUR = np.log([0.1, 0.5, 0.15, 0.25])


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, [0.1, 0.5, 0.15, 0.25]),
        ({"temperature": 0.5}, np.array([0.01, 0.25, 0.0225, 0.0625]) / 0.345),
        ({"temperature": 2.0}, np.sqrt([0.1, 0.5, 0.15, 0.25]) / np.sqrt([0.1, 0.5, 0.15, 0.25]).sum()),
        ({"top_k": 1}, [0, 1, 0, 0]),
        ({"top_k": 2}, [0, 2 / 3, 0, 1 / 3]),
        ({"top_k": 9}, [0.1, 0.5, 0.15, 0.25]),
        ({"top_p": 0.2}, [0, 1, 0, 0]),
        ({"top_p": 0.5}, [0, 1, 0, 0]),  # exactly the first
        ({"top_p": 0.51}, [0, 2 / 3, 0, 1 / 3]),
        ({"top_p": 0.75}, [0, 2 / 3, 0, 1 / 3]),
        ({"top_p": 0.8}, [0, 0.5 / 0.9, 0.15 / 0.9, 0.25 / 0.9]),
        ({"top_p": 1.0}, [0.1, 0.5, 0.15, 0.25]),
        ({"top_k": 2, "top_p": 0.6}, [0, 1, 0, 0]),  # 2/3 of the two that are left
        ({"top_k": 3, "top_p": 0.6}, [0, 2 / 3, 0, 1 / 3]),
        ({"temperature": 0.5, "top_p": 0.8}, [0, 0.25 / 0.3125, 0, 0.0625 / 0.3125]),
    ],
)
def test_the_probabilities_are_those_by_hand(settings, expected):
    np.testing.assert_allclose(distribution(FOUR, **settings), expected, atol=1e-9)


def test_words_of_equal_probability_are_kept_in_their_order():
    np.testing.assert_array_equal(distribution(np.zeros(4), top_k=2), [0.5, 0.5, 0, 0])


@pytest.mark.parametrize("settings", [{}, {"temperature": 2.0, "top_p": 0.8}], ids=str)
def test_the_frequencies_of_5_000_draws_are_the_probabilities(settings):
    """Each word is drawn from the same four, in one text of 5,000 words."""
    following = dict(zip((A, B, C, DOT), np.exp(FOUR), strict=True))
    writer = Writer(chain(log_of(dict.fromkeys((END, A, B, C, DOT), following))), format_of())
    drawn = tokens_of(writer.write(length=5000, seed=3, **settings))
    expected = distribution(FOUR, **settings)
    frequencies = np.bincount(drawn, minlength=7)[3:] / 5000
    assert len(drawn) == 5000
    deviations = np.sqrt(expected * (1 - expected) / 5000)
    assert (np.abs(frequencies - expected) <= 4 * deviations).all(), (frequencies, expected)
    pairs = np.histogram2d(drawn[:-1], drawn[1:], bins=[range(3, 8)] * 2)[0] / 4999
    np.testing.assert_allclose(pairs, np.outer(expected, expected), atol=0.03)  # one draw tells nothing of the next


def test_the_draws_are_those_of_the_generator():
    """So that one seed writes the same words on every backend."""
    table = random_tables(1, 5)
    table[:, END] = NEVER
    found = tokens_of(write(chain(table), format_of(), "a b", length=40, seed=11))
    token, expected = B, []
    for place in range(40):
        sums = np.cumsum(softmax(table[token]))
        token = int(np.searchsorted(sums, uniform(stream_key(11, "words"), (1,), step=place)[0], side="right"))
        expected.append(token)
    assert found == expected
    assert len(set(found)) == 4


def test_the_seed_decides_the_words():
    writer = Writer(chain(random_tables(1, 0)), format_of())
    texts = [tuple(tokens_of(writer.write(length=30, seed=seed))) for seed in (1, 1, 2, 3)]
    assert texts[0] == texts[1]
    assert len(set(texts)) == 3


def test_a_low_temperature_and_one_word_are_greedy():
    writer = Writer(chain(random_tables(1, 2)), format_of())
    greedy = tokens_of(writer.write(strategy="greedy", length=8))
    for settings in ({"temperature": 0.01}, {"top_k": 1}, {"top_p": 1e-6}):
        assert tokens_of(writer.write(length=8, **settings)) == greedy


# --- Beam search -------------------------------------------------------------------------------------------------


def score(logs, path, penalty):
    """Of a path after the start of a sentence; ``logs`` gives the log-probabilities after a tuple of words."""
    total = sum(logs(path[:place])[token] for place, token in enumerate(path))
    return total / len(path) ** penalty


def all_texts(length):
    """Every text of up to so many words: those that end, and those that have not ended after the last word."""
    for count in range(length):
        for words in itertools.product((A, B, C, DOT), repeat=count):
            yield (*words, END)
    yield from itertools.product((A, B, C, DOT), repeat=length)


@pytest.mark.parametrize("penalty", [0.0, 0.7, 1.0])
@pytest.mark.parametrize("seed", range(4))
def test_beam_search_finds_the_best_of_all_texts(seed, penalty):
    table = log_softmax(random_tables(2, seed))

    def logs(path):
        return table[(PAD, END, *path)[-2], (PAD, END, *path)[-1]]

    model = chain(np.maximum(table, NEVER), order=2)
    # with as many beams as there are texts of three words, nothing is lost
    found = write(model, format_of(), strategy="beam", beams=4**3 + 4**2 + 4 + 1, length=4, length_penalty=penalty)
    texts = list(all_texts(4))
    assert len(texts) == 1 + 4 + 16 + 64 + 256
    best = max(texts, key=lambda path: score(logs, path, penalty))
    steps = list(found)
    assert tuple(tokens_of(steps)) == best
    probabilities = [np.exp(logs(best[:place])[token]) for place, token in enumerate(best)]
    assert [step.probability for step in steps] == pytest.approx(probabilities, rel=1e-5)


def test_beam_search_finds_what_greedy_misses():
    following = {
        END: {A: 0.6, B: 0.4},
        A: {A: 0.4, B: 0.3, C: 0.3},
        B: {C: 1.0},
        C: {END: 1.0},
    }
    model = chain(log_of(following))
    assert tokens_of(write(model, format_of(), strategy="greedy", length=2)) == [A, A]  # 0.24
    assert tokens_of(write(model, format_of(), strategy="beam", beams=2, length=2)) == [B, C]  # 0.4
    assert tokens_of(write(model, format_of(), strategy="beam", beams=1, length=2)) == [A, A]


@pytest.mark.parametrize("seed", range(6))
def test_one_beam_is_greedy(seed):
    writer = Writer(chain(random_tables(2, seed), order=2), format_of())
    greedy, beam = (tokens_of(writer.write("c", strategy=name, beams=1, length=9)) for name in ("greedy", "beam"))
    assert beam == greedy


def test_the_length_penalty_decides_between_short_and_long_texts():
    following = {END: {A: 0.5, B: 0.5}, A: {END: 0.5, C: 0.5}, B: {C: 0.9, DOT: 0.1}, C: {C: 0.95, DOT: 0.05}}
    writer = Writer(chain(log_of(following)), format_of())
    settings = {"strategy": "beam", "beams": 3, "length": 6}
    # .5 · .5 against .5 · .9 · .95 · .95 · .95 · .95: the product, and its mean logarithm
    assert tokens_of(writer.write(length_penalty=0, **settings)) == [B, C, C, C, C, C]
    following[C] = {C: 0.8, DOT: 0.2}
    writer = Writer(chain(log_of(following)), format_of())
    assert tokens_of(writer.write(length_penalty=0, **settings)) == [A, END]
    assert tokens_of(writer.write(length_penalty=1, **settings)) == [B, C, C, C, C, C]


# --- What the model sees -----------------------------------------------------------------------------------------


def check_steps(writer, prompts, length, logits_after):
    """Checks the probabilities of each step against those of a function from lists of tokens so far to logits."""
    steps, contexts = [], []
    for prompt, strategy in itertools.product(prompts, ("greedy", "sample", "beam")):
        tokens = [END, *(WORDS.index(word) for word in prompt.split())]
        for step in writer.write(prompt, strategy=strategy, length=length, seed=1):
            steps.append(step)
            contexts.append(tokens)
            tokens = [*tokens, step.token]
    for step, expected in zip(steps, softmax(logits_after(contexts)), strict=True):
        assert step.probability == pytest.approx(expected[step.token], rel=1e-4)
        most = dict(step.alternatives)
        assert most == pytest.approx({WORDS[i]: expected[i] for i in np.argsort(-expected)[: len(most)]}, rel=1e-4)
    return len(steps)


def test_a_recurrent_net_sees_the_last_words_padded_on_the_left():
    model = recurrent()

    def logits_after(contexts):
        return outputs_of(model, [([PAD] * 4 + tokens)[-4:] for tokens in contexts])

    assert check_steps(Writer(model, format_of()), ["", "a", "a b c a", "c b a . c b a . b"], 7, logits_after) > 20


@pytest.mark.parametrize("size", [1, 2, 5])
def test_a_transformer_that_is_full_forgets_half_of_the_words(size):
    model = transformer(size, ends=False)

    def logits_after(contexts):
        seen = []
        for tokens in contexts:
            first = 0
            while len(tokens) - first > size:
                first += -(-size // 2)
            seen.append(tokens[first:])
        found = outputs_of(model, [tokens + [PAD] * (size - len(tokens)) for tokens in seen])
        return found[np.arange(len(seen)), [len(tokens) - 1 for tokens in seen]]

    prompts = ["", "a b", "a b c a", "a b c a c", "c b a . c b a . b c c a"]
    assert check_steps(Writer(model, format_of(size, padding="right")), prompts, 12, logits_after) == 5 * 3 * 12


@pytest.mark.parametrize("make", [recurrent, transformer])
def test_beam_search_of_real_models_finds_the_best_of_all_texts(make):
    model = make(5)
    padding = "left" if make is recurrent else "right"
    seen = {}

    def logs(path):
        if path not in seen:
            text, rest = [END, *path], [PAD] * (4 - len(path))
            found = outputs_of(model, [rest + text if make is recurrent else text + rest])[0]
            seen[path] = log_softmax(found if make is recurrent else found[len(path)])
        return seen[path]

    best = max(all_texts(3), key=lambda path: score(logs, path, 1))
    settings = {"strategy": "beam", "beams": 1 + 4 + 16, "length": 3}
    assert tuple(tokens_of(write(model, format_of(5, padding=padding), **settings))) == best


# --- Programs ----------------------------------------------------------------------------------------------------


@pytest.fixture
def counted(monkeypatch):
    """The shapes of the inputs of every call of a compiled model, and the number of models that were compiled."""
    calls, compiled = [], []
    forward = _backend.forward

    def counting(model, **settings):
        run = forward(model, **settings)
        compiled.append(model)

        def counted_run(x):
            calls.append([part.shape for part in (x if isinstance(x, list) else [x])])
            return run(x)

        return counted_run

    monkeypatch.setattr(_backend, "forward", counting)
    return calls, compiled


@pytest.mark.parametrize("make", [recurrent, transformer])
def test_the_step_is_compiled_once(make, counted):
    calls, compiled = counted
    model = make(5) if make is recurrent else make(5, ends=False)
    writer = Writer(model, format_of(5, padding="left" if make is recurrent else "right"))
    for seed, prompt in enumerate(["", "a", "a b c a b c", "b"]):
        list(writer.write(prompt, seed=seed, length=9))
        list(writer.write(prompt, strategy="greedy", length=9))
    assert len(compiled) == 1
    assert len(calls) > 40
    assert all(shapes == calls[0] for shapes in calls), "a program is compiled for each shape"
    count = len(calls)
    list(writer.write(strategy="beam", beams=3, length=9))
    assert {shapes[0][0] for shapes in calls[count:]} == {1, 3}
    assert len(compiled) == 1


def test_words_come_one_at_a_time(counted):
    calls, _ = counted
    model = transformer(ends=False)
    steps = write(model, format_of(5, padding="right"), "a b", length=3, strategy="greedy")
    assert not calls
    next(steps)
    assert len(calls) == 3  # the start, a and b
    next(steps)
    assert len(calls) == 4


def test_several_texts_at_the_same_time_do_not_disturb_each_other():
    writer = Writer(transformer(ends=False), format_of(5, padding="right"))
    alone = [tokens_of(writer.write(prompt, seed=1, length=9)) for prompt in ("a", "b c")]
    together = [writer.write(prompt, seed=1, length=9) for prompt in ("a", "b c")]
    found = [tokens_of(steps) for steps in zip(*together, strict=False)]
    for number, text in enumerate(alone):
        assert [pair[number] for pair in found] == text[: len(found)]


# --- Bad input ---------------------------------------------------------------------------------------------------


def test_words_that_the_model_does_not_know_are_named():
    message = r"prompt has words that the model does not know: \('zebra', 'yak'\); leave them out"
    with pytest.raises(CourseError, match=message):
        write(chain(np.zeros((7, 7))), format_of(), "a zebra b yak zebra")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"prompt": 3}, "prompt is 3; give a text"),
        ({"strategy": "best"}, "strategy is 'best'; give one of sample, greedy, beam"),
        ({"length": 0}, "length is 0; give a whole number from 1 up"),
        ({"length": 2.5}, "length is 2.5; give"),
        ({"temperature": 0}, "temperature is 0; give a number from 0.01 to 100, or strategy 'greedy'"),
        ({"temperature": -1}, "temperature is -1; give"),
        ({"temperature": float("nan")}, "temperature is nan; give"),
        ({"temperature": "hot"}, "temperature is 'hot'; give"),
        ({"top_k": 0}, "top_k is 0; give a whole number from 1 up, or None"),
        ({"top_k": 1.5}, "top_k is 1.5; give"),
        ({"top_p": 0}, "top_p is 0; give a number above 0, up to 1, or None"),
        ({"top_p": 1.1}, "top_p is 1.1; give"),
        ({"top_p": True}, "top_p is True; give"),
        ({"seed": -1}, "seed is -1; give"),
        ({"strategy": "beam", "beams": 0}, "beams is 0; give"),
        ({"strategy": "beam", "length_penalty": -1}, "length_penalty is -1; give a number from 0 to 10"),
        ({"strategy": "greedy", "temperature": 0.5}, "temperature is 0.5; leave it out, or give strategy 'sample'"),
        ({"strategy": "beam", "top_k": 3}, "top_k is 3; leave it out, or give strategy 'sample'"),
        ({"strategy": "greedy", "top_p": 0.9}, "top_p is 0.9; leave it out, or give strategy 'sample'"),
    ],
)
def test_bad_arguments_are_named_before_anything_is_computed(arguments, message):
    with pytest.raises(CourseError, match=message):
        write(chain(np.zeros((7, 7))), format_of(), **arguments)


def test_a_model_that_does_not_fit_the_format_is_refused():
    model = chain(np.zeros((7, 7)))
    with pytest.raises(CourseError, match=r"chain has outputs \(None, 7\), and the format 6 tokens; give the format"):
        Writer(model, format_of(vocabulary=WORDS[:6]))
    with pytest.raises(CourseError, match="chain takes 4 tokens, and the format has 5; give the format"):
        Writer(model, format_of(5))
    with pytest.raises(CourseError, match=r"format\.padding is 'right'; give 'left' for chain"):
        Writer(model, format_of(padding="right"))
    pieces = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b")
    with pytest.raises(CourseError, match=r"the vocabulary of word pieces has no \[END\]"):
        Writer(transformer(4), format_of(padding="right", vocabulary=pieces, unit="word pieces"))


def test_what_is_no_language_model_is_refused():
    pixels = keras.Input((4, 4, 1))
    picture_model = keras.Model(pixels, layers.Dense(7)(layers.Flatten()(pixels)), name="pictures")
    with pytest.raises(CourseError, match="pictures is no language model; give a model from tokens"):
        Writer(picture_model, format_of())
    tokens = keras.Input((4,), dtype="int32")
    tagger = keras.Model(tokens, layers.Embedding(7, 7)(tokens), name="tagger")
    with pytest.raises(CourseError, match="tagger is no causal language model; give one of causal_language_model"):
        Writer(tagger, format_of(padding="right"))


def test_a_model_that_has_diverged_is_named():
    with pytest.raises(CourseError, match="the model computes logits that are no numbers; train it"):
        next(write(chain(np.full((7, 7), np.nan)), format_of()))
