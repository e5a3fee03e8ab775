"""Explanations of text: attention against NumPy; integrated gradients against integrals by hand, and completeness."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_course import explain_text
from keras_course.errors import CourseError
from keras_course.explain_text import attention_maps, integrated_gradients
from keras_course.models.transformer import TextEmbedding, TransformerBlock, causal_language_model

TOKENS = [3, 1, 0, 7, 3]
PLACES = len(TOKENS)
VOCABULARY = 9


def as_numpy(tensor):
    return ops.convert_to_numpy(tensor)


def drawn(model, scale=1.0, seed=0):
    """The model with weights so large that it is far from linear."""
    draw = np.random.default_rng(seed)
    model.set_weights([draw.normal(0, scale, weight.shape).astype("float32") for weight in model.get_weights()])
    return model


def flat(*after, dim=3):
    """Embedding, flat, some layers and three logits."""
    return drawn(
        keras.Sequential(
            [
                keras.Input((PLACES,), dtype="int32"),
                layers.Embedding(VOCABULARY, dim, name="embedding"),
                layers.Flatten(),
                *after,
                layers.Dense(3, name="logits"),
            ],
            name="flat",
        )
    )


def recurrent():
    """As a recurrent language model: padding on the left, no mask, logits over the words."""
    words = [keras.Input((PLACES,)), layers.Embedding(VOCABULARY, 4, name="embedding"), layers.LSTM(5)]
    return drawn(keras.Sequential([*words, layers.Dense(VOCABULARY)], name="recurrent"))


def masked():
    """A model that passes on a mask of the padding, inside two others."""
    inputs = keras.Input((PLACES,), dtype="int32")
    x = layers.GRU(4, return_sequences=True)(layers.Embedding(VOCABULARY, 4, mask_zero=True, name="embedding")(inputs))
    encoder = keras.Model(inputs, layers.GlobalAveragePooling1D()(x), name="encoder")
    middle = keras.Sequential([keras.Input((PLACES,), dtype="int32"), encoder], name="middle")
    return drawn(keras.Sequential([keras.Input((PLACES,), dtype="int32"), middle, layers.Dense(3)], name="masked"))


def encoder(**settings):
    """A small encoder in the manner of BERT, with three inputs and logits from the mean over the tokens."""
    inputs = {
        name: keras.Input((PLACES,), dtype="int32", name=name) for name in ("token_ids", "segment_ids", "padding_mask")
    }
    x = TextEmbedding(VOCABULARY, 8, 4, segments=2, name="embedding")(inputs["token_ids"], inputs["segment_ids"])
    x = layers.LayerNormalization(name="norm")(x)
    for number in (1, 2):
        x = TransformerBlock(2, 6, name=f"block{number}", **settings)(x, inputs["padding_mask"])
    body = keras.Model(inputs, x, name="body")
    outer = {name: keras.Input(tensor.shape[1:], dtype="int32", name=name) for name, tensor in inputs.items()}
    return drawn(
        keras.Model(outer, layers.Dense(3, name="logits")(ops.mean(body(outer), axis=1)), name="encoder"), 0.5, seed=4
    )


def pair(tokens=TOKENS, padding=1):
    segments = [0, 0, 1, 1, 1]
    mask = [1] * (PLACES - padding) + [0] * padding
    return {"token_ids": tokens, "segment_ids": segments, "padding_mask": mask}


def language_model(seed=1):
    model = causal_language_model(
        vocabulary_size=VOCABULARY,
        sequence_length=PLACES,
        embedding_dim=4,
        num_layers=1,
        num_heads=2,
        intermediate_dim=6,
    )
    return drawn(model, seed=seed)


# --- Attention ------------------------------------------------------------------------------------------------------


def normalized(x, scale, shift, epsilon):
    deviation = x - x.mean(-1, keepdims=True)
    return deviation / np.sqrt((deviation**2).mean(-1, keepdims=True) + epsilon) * scale + shift


def by_hand(block, x, allowed):
    """The probabilities of a block in NumPy."""
    if block.norm_first:
        x = normalized(x, *(as_numpy(weight) for weight in block.attention_norm.weights), block.epsilon)
    projected = [
        x @ as_numpy(layer.kernel).astype("float64") + as_numpy(layer.bias) for layer in (block.query, block.key)
    ]
    maps = []
    size = x.shape[-1] // block.num_heads
    for head in range(block.num_heads):
        query, key = (part[:, head * size : (head + 1) * size] for part in projected)
        scores = np.where(allowed, np.exp(query @ key.T / np.sqrt(size)), 0)
        maps.append(scores / scores.sum(axis=1, keepdims=True))
    return np.array(maps)


def test_attention_of_an_encoder_is_that_of_the_formulas_and_ignores_the_padding():
    model = encoder()
    found = attention_maps(model, pair(padding=2))
    assert list(found) == ["block1", "block2"]
    body = model.get_layer("body")
    tokens, positions, segments = (as_numpy(w).astype("float64") for w in body.get_layer("embedding").weights)
    x = tokens[TOKENS] + positions[:PLACES] + segments[pair()["segment_ids"]]
    norm = body.get_layer("norm")
    x = normalized(x, *(as_numpy(weight) for weight in norm.weights), norm.epsilon)
    expected = by_hand(body.get_layer("block1"), x, np.array([True, True, True, False, False]))
    assert (found["block1"].shape, found["block1"].dtype) == ((2, PLACES, PLACES), np.float32)
    np.testing.assert_allclose(found["block1"], expected, atol=1e-5)
    assert not found["block2"][:, :, 3:].any()
    assert np.ptp(found["block1"]) > 0.1


def test_attention_of_a_language_model_is_that_of_the_formulas_and_never_looks_ahead():
    model = language_model()
    found = attention_maps(model, TOKENS)
    tokens, positions = (as_numpy(w).astype("float64") for w in model.get_layer("embedding").weights)
    expected = by_hand(model.get_layer("block1"), tokens[TOKENS] + positions, np.tri(PLACES, dtype=bool))
    np.testing.assert_allclose(found["block1"], expected, atol=1e-5)
    for probabilities in found.values():
        assert not np.triu(probabilities, 1).any()
        np.testing.assert_allclose(probabilities.sum(axis=-1), 1, atol=1e-5)


def test_a_block_that_runs_twice_has_two_names():
    block = TransformerBlock(1, 4, name="block")
    inputs = keras.Input((PLACES,), dtype="int32")
    x = block(block(layers.Embedding(VOCABULARY, 2)(inputs)))
    assert list(attention_maps(keras.Model(inputs, x), TOKENS)) == ["block", "block_2"]


# --- Integrated gradients -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("baseline", [0, 2, [1, 1, 0, 2, 3]])
def test_contributions_to_a_linear_model_are_its_weights_times_the_difference_of_the_vectors(baseline):
    model = flat()
    table, kernel, bias = (weight.astype("float64") for weight in model.get_weights())
    other = table[np.broadcast_to(baseline, PLACES)]
    found = integrated_gradients(model, TOKENS, label=1, baseline=baseline, steps=3)
    expected = ((table[TOKENS] - other) * kernel[:, 1].reshape(PLACES, -1)).sum(axis=1)
    assert (found.values.shape, found.values.dtype) == ((PLACES,), np.float64)
    np.testing.assert_allclose(found.values, expected, atol=1e-5)
    np.testing.assert_allclose(found.logit, table[TOKENS].ravel() @ kernel[:, 1] + bias[1], atol=1e-5)
    np.testing.assert_allclose(found.baseline_logit, other.ravel() @ kernel[:, 1] + bias[1], atol=1e-5)


def test_contributions_to_a_square_of_a_sum():
    """With f = (Σ e)² and a baseline of 0, token i contributes e_i · Σ e."""
    inputs = keras.Input((PLACES,), dtype="int32")
    x = layers.Embedding(VOCABULARY, 1, name="embedding")(inputs)
    model = keras.Model(inputs, ops.square(ops.sum(x, axis=1)))
    vectors = np.arange(VOCABULARY) - 2.0
    vectors[0] = 0
    model.set_weights([vectors[:, None]])
    found = integrated_gradients(model, TOKENS, label=0, steps=2)
    np.testing.assert_allclose(found.values, vectors[TOKENS] * vectors[TOKENS].sum(), atol=1e-5)


def test_contributions_to_a_hidden_layer_are_a_sum_over_many_small_steps():
    model = flat(layers.Dense(4, activation="tanh"))
    table, first, first_bias, second, _ = (weight.astype("float64") for weight in model.get_weights())
    start, end = (table[tokens].ravel() for tokens in ([0] * PLACES, TOKENS))
    parts = (np.arange(20_000)[:, None] + 0.5) / 20_000
    hidden = np.tanh((start + parts * (end - start)) @ first + first_bias)
    gradient = ((1 - hidden**2) * second[:, 2]) @ first.T
    expected = ((end - start) * gradient.mean(axis=0)).reshape(PLACES, -1).sum(axis=1)
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(integrated_gradients(model, TOKENS, label=2).values, expected, atol=1e-4)


EVERY_MODEL = {
    "recurrent": (recurrent, TOKENS, 4),
    "masked": (masked, TOKENS, 1),
    "encoder": (encoder, pair(), 2),
    "language model": (language_model, TOKENS, (4, 6)),
}


@pytest.mark.parametrize("name", EVERY_MODEL)
def test_the_sum_of_the_contributions_is_the_difference_of_the_logits(name):
    build, tokens, label = EVERY_MODEL[name]
    found = integrated_gradients(build(), tokens, label=label)
    change = found.logit - found.baseline_logit
    assert abs(change) > 0.1
    assert abs(found.values.sum() - change) < 0.01 * abs(change)
    assert found.missing == pytest.approx(change - found.values.sum())
    assert found.values[2] == 0  # this token is that of the baseline
    assert np.ptp(found.values) > 0.05


def test_the_logits_are_those_of_the_model():
    model = language_model()
    found = integrated_gradients(model, TOKENS, label=(4, 2), steps=1)
    sentence, padding = (as_numpy(model(np.array([tokens])))[0, 4, 2] for tokens in (TOKENS, [0] * PLACES))
    np.testing.assert_allclose((found.logit, found.baseline_logit), (sentence, padding), atol=1e-5)


def test_a_language_model_is_not_explained_by_later_tokens():
    found = integrated_gradients(language_model(), TOKENS, label=(1, 5), steps=4)
    assert found.values[:2].all()
    assert not found.values[2:].any()


def test_the_predicted_class_is_explained_when_no_label_is_given():
    model = flat()
    answer = int(as_numpy(model(np.array([TOKENS])))[0].argmax())
    found = integrated_gradients(model, TOKENS)
    np.testing.assert_array_equal(found.values, integrated_gradients(model, TOKENS, label=answer).values)
    assert found.logit > integrated_gradients(model, TOKENS, label=(answer + 1) % 3).logit


def test_the_size_of_the_batches_on_the_path_changes_nothing(monkeypatch):
    model = flat(layers.Dense(4, activation="tanh"))
    together = integrated_gradients(model, TOKENS, label=0, steps=7).values
    monkeypatch.setattr(explain_text, "_TOKENS_TOGETHER", 3 * PLACES)
    np.testing.assert_allclose(integrated_gradients(model, TOKENS, label=0, steps=7).values, together, atol=1e-6)


def test_explaining_leaves_no_trace():
    model = encoder()
    sentence = {name: np.array([numbers]) for name, numbers in pair().items()}
    before = as_numpy(model(sentence))
    attention_maps(model, pair())
    integrated_gradients(model, pair(), label=0, steps=2)
    for wrong in ({"label": 3}, {"label": 0, "baseline": 99}):
        with pytest.raises(CourseError):
            integrated_gradients(model, pair(), **wrong)
    body = model.get_layer("body")
    assert not [layer.name for layer in body.layers if "call" in vars(layer)]
    np.testing.assert_array_equal(as_numpy(model(sentence)), before)


# --- Bad input ------------------------------------------------------------------------------------------------------


def two_embeddings():
    inputs = keras.Input((PLACES,), dtype="int32")
    x = [layers.Embedding(VOCABULARY, 2, name=name)(inputs) for name in ("words", "kinds")]
    return drawn(keras.Model(inputs, layers.Dense(2)(layers.Flatten()(x[0] + x[1]))))


def shared_embedding():
    embedding = layers.Embedding(VOCABULARY, 2, name="embedding")
    inputs = [keras.Input((PLACES,), dtype="int32", name=name) for name in "ab"]
    return keras.Model(inputs, layers.Flatten()(embedding(inputs[0]) + embedding(inputs[1])))


def two_outputs():
    inputs = keras.Input((PLACES,), dtype="int32")
    x = layers.Flatten()(layers.Embedding(VOCABULARY, 2)(inputs))
    return keras.Model(inputs, [layers.Dense(2)(x), layers.Dense(3)(x)], name="two")


def without_embedding():
    return keras.Sequential([keras.Input((PLACES,)), layers.Dense(2)], name="dense")


def test_one_of_two_embeddings_is_chosen_by_name():
    model = two_embeddings()
    words, kinds = (integrated_gradients(model, TOKENS, label=0, steps=1, layer=name) for name in ("words", "kinds"))
    table, _, kernel, _ = model.get_weights()
    expected = ((table[TOKENS] - table[0]) * kernel[:, 0].reshape(PLACES, 2)).sum(axis=1)
    np.testing.assert_allclose(words.values, expected, atol=1e-5)
    assert np.abs(words.values - kinds.values).max() > 0.01


@pytest.mark.parametrize(
    ("look", "message"),
    [
        (lambda: attention_maps(flat(), TOKENS), "model 'flat' has no TransformerBlock; give"),
        (lambda: attention_maps(language_model(), [TOKENS]), r"tokens are int64 of shape \(1, 5\); give"),
        (lambda: attention_maps(language_model(), np.array([TOKENS])), r"tokens are int64 of shape \(1, 5\); give"),
        (lambda: attention_maps(language_model(), "words"), r"tokens are <U5 of shape \(\); give the numbers"),
        (lambda: attention_maps(language_model(), []), r"tokens are float64 of shape \(0,\)"),
        (lambda: attention_maps(language_model(), TOKENS[:3]), r"tokens has samples of shape \(3,\); the model takes"),
        (
            lambda: attention_maps(language_model(), [0, 1, 2, 3, 9]),
            "tokens from 0 to 9; .* 'embedding' has 9, so",
        ),
        (lambda: attention_maps(language_model(), [0, 1, 2, -3, 8]), "tokens from -3 to 8"),
        (lambda: attention_maps(encoder(), {"token_ids": TOKENS}), "the input 'segment_ids' is missing"),
        (lambda: integrated_gradients(without_embedding(), TOKENS), "model 'dense' has no embedding of tokens"),
        (lambda: integrated_gradients(flat(), np.array(TOKENS) / 2), r"tokens are float64 of shape \(5,\); give"),
        (lambda: integrated_gradients(flat(), [1, 2, 3, 4, 9]), "tokens from 1 to 9; .* 0 to 8"),
        (lambda: integrated_gradients(flat(), TOKENS, label=3), "label is 3; give a class number, at most 2"),
        (lambda: integrated_gradients(flat(), TOKENS, label=-1), "label is -1; give"),
        (lambda: integrated_gradients(flat(), TOKENS, label=1.0), r"label is 1\.0; give"),
        (lambda: integrated_gradients(flat(), TOKENS, label=(0, 1)), r"label is \(0, 1\); give a class number"),
        (
            lambda: integrated_gradients(language_model(), TOKENS),
            r"label is None; give the place of a logit, at most \(4, 8\)",
        ),
        (lambda: integrated_gradients(language_model(), TOKENS, label=3), "label is 3; give the place of a logit"),
        (lambda: integrated_gradients(flat(), TOKENS, steps=0), "steps is 0; give"),
        (lambda: integrated_gradients(flat(), TOKENS, baseline=9), "baseline has tokens from 9 to 9"),
        (lambda: integrated_gradients(flat(), TOKENS, baseline=0.5), r"baseline is float64 of shape \(\); give the"),
        (lambda: integrated_gradients(flat(), TOKENS, baseline=[0, 1]), r"int64 of shape \(2,\); .* integers \(5,\)"),
        (lambda: integrated_gradients(two_embeddings(), TOKENS), "layer is None; give one of words, kinds"),
        (lambda: integrated_gradients(flat(), TOKENS, layer="logits"), "layer is 'logits'; give one of embedding"),
        (lambda: integrated_gradients(two_outputs(), TOKENS), "model 'two' has several outputs; give one that"),
        (
            lambda: integrated_gradients(shared_embedding(), [TOKENS, TOKENS]),
            "layer 'embedding' runs several times in the model",
        ),
    ],
)
def test_bad_input_is_named(look, message):
    with pytest.raises(CourseError, match=message):
        look()
