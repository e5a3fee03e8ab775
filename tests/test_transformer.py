"""The Transformer's layers and the causal language model, against NumPy."""

import keras
import numpy as np
import pytest
from keras import ops
from scipy.special import erf

from keras_course.allow_list import LARGEST_OUTPUT, check_can_be_opened
from keras_course.deployment.model_files import load_keras_model
from keras_course.errors import CourseError
from keras_course.models import (
    TextEmbedding,
    TransformerBlock,
    cached_language_model,
    causal_language_model,
    parameter_table,
)
from keras_course.randomness import initialize, keep_mask, stream_key
from keras_course.training import fit, predict_logits

WIDTH, HEADS, TOKENS = 6, 2, 5
TINY = {
    "vocabulary_size": 11,
    "sequence_length": TOKENS,
    "embedding_dim": WIDTH,
    "num_heads": HEADS,
    "intermediate_dim": 7,
}


def with_other_weights(model):
    """Weights of the order of 1, with which attention is far from even."""
    draw = np.random.default_rng(1)
    for weight in model.trainable_variables:
        weight.assign(draw.normal(0, 0.7, weight.shape))
    return model


def weights_of(layer):
    """The weights in float64, by what comes after the name of the layer."""
    found = {weight.path: ops.convert_to_numpy(weight).astype("float64") for weight in layer.weights}
    return {path.partition("/")[2] if isinstance(layer, TransformerBlock) else path: w for path, w in found.items()}


def vectors(*shape):
    return np.random.default_rng(2).normal(size=shape).astype("float32")


def tokens(count, vocabulary_size=11):
    return np.random.default_rng(3).integers(0, vocabulary_size, (count, TOKENS)).astype("int32")


# --- The formulas ------------------------------------------------------------------------------------------------


def dense(x, w, name):
    return x @ w[f"{name}/kernel"] + w[f"{name}/bias"]


def norm(x, w, name, epsilon=1e-5):
    mean, variance = x.mean(axis=-1, keepdims=True), x.var(axis=-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + epsilon) * w[f"{name}/gamma"] + w[f"{name}/beta"]


def gelu(x):
    return x * (1 + erf(x / np.sqrt(2))) / 2


def attention(x, w, *, causal=False, mask=None, heads=HEADS):
    """The probabilities, sentence by sentence, head by head and token by token."""
    query, key = dense(x, w, "query"), dense(x, w, "key")
    size = x.shape[2] // heads
    found = np.zeros((len(x), heads, x.shape[1], x.shape[1]))
    for row, head, token in np.ndindex(found.shape[:3]):
        columns = slice(head * size, (head + 1) * size)
        seen = np.ones(x.shape[1], bool) if mask is None else mask[row].astype(bool)
        seen &= (np.arange(x.shape[1]) <= token) | (not causal)
        scores = key[row, :, columns] @ query[row, token, columns] / np.sqrt(size)
        powers = np.where(seen, np.exp(scores - scores[seen].max()), 0)
        found[row, head, token] = powers / powers.sum()
    return found


def block_of(x, w, *, norm_first=False, dropped=(1, 1, 1), **settings):
    """The whole block; ``dropped`` has the factors of dropout for probabilities, attention and output."""
    inputs = norm(x, w, "attention_norm") if norm_first else x
    probabilities = attention(inputs, w, **settings) * dropped[0]
    value = dense(inputs, w, "value").reshape(*x.shape[:2], HEADS, -1)
    mixed = np.stack([probabilities[:, head] @ value[:, :, head] for head in range(HEADS)], axis=2)
    x = x + dense(mixed.reshape(x.shape), w, "attention_output") * dropped[1]
    x = x if norm_first else norm(x, w, "attention_norm")
    inner = gelu(dense(norm(x, w, "output_norm") if norm_first else x, w, "intermediate"))
    x = x + dense(inner, w, "output_dense") * dropped[2]
    return x if norm_first else norm(x, w, "output_norm")


def logits_of(w, x, *, layers=2):
    table = w["embedding/tokens"]
    hidden = table[x] + w["embedding/positions"][: x.shape[1]]
    for number in range(1, layers + 1):
        inside = {path.partition("/")[2]: value for path, value in w.items() if path.startswith(f"block{number}/")}
        hidden = block_of(hidden, inside, causal=True, norm_first=True)
    return norm(hidden, w, "norm") @ table.T


# --- The block ---------------------------------------------------------------------------------------------------

PADDING = np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1], [1, 0, 0, 0, 0]])


def built(**settings):
    block = TransformerBlock(HEADS, 7, name="block", **settings)
    block(vectors(1, TOKENS, WIDTH))
    return with_other_weights(block)


@pytest.mark.parametrize("mask", [None, PADDING], ids=["all tokens", "padding"])
@pytest.mark.parametrize("causal", [False, True], ids=["both ways", "causal"])
@pytest.mark.parametrize("norm_first", [False, True], ids=["BERT", "GPT-2"])
def test_a_block_is_that_of_numpy(norm_first, causal, mask):
    block, x = built(norm_first=norm_first, causal=causal), vectors(3, TOKENS, WIDTH)
    found = ops.convert_to_numpy(block(x, padding_mask=mask))
    expected = block_of(x.astype("float64"), weights_of(block), norm_first=norm_first, causal=causal, mask=mask)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["bool", "int32", "float32"])
def test_a_padding_mask_of_any_kind(kind):
    block, x = built(), vectors(3, TOKENS, WIDTH)
    expected = block_of(x.astype("float64"), weights_of(block), mask=PADDING)
    found = ops.convert_to_numpy(block(x, padding_mask=ops.convert_to_tensor(PADDING.astype(kind))))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("causal", [False, True])
def test_attention_is_a_distribution_over_tokens_that_may_be_seen(causal, norm_first):
    block, x = built(causal=causal, norm_first=norm_first), vectors(3, TOKENS, WIDTH)
    found = ops.convert_to_numpy(block.attention(x, padding_mask=PADDING))
    assert found.shape == (3, HEADS, TOKENS, TOKENS)
    np.testing.assert_allclose(found.sum(axis=-1), 1, atol=1e-6)
    later = np.triu(np.ones((TOKENS, TOKENS), bool), 1) & causal
    hidden = later[None, None] | (PADDING == 0)[:, None, None, :]
    assert not found[np.broadcast_to(hidden, found.shape)].any()
    assert (found[np.broadcast_to(~hidden, found.shape)] > 0).all()
    w, inputs = weights_of(block), x.astype("float64")
    inputs = norm(inputs, w, "attention_norm") if norm_first else inputs
    np.testing.assert_allclose(found, attention(inputs, w, causal=causal, mask=PADDING), atol=1e-5)
    assert found.max() > 0.9, "attention that is nearly even would hide a wrong factor"


def test_padding_and_later_tokens_change_nothing():
    block, x = built(causal=True), vectors(3, TOKENS, WIDTH)
    other = x.copy()
    other[:, 3:] = 9
    before, after = (ops.convert_to_numpy(block(inputs)) for inputs in (x, other))
    np.testing.assert_allclose(before[:, :3], after[:, :3], atol=1e-6)
    assert np.abs(before[:, 3:] - after[:, 3:]).max() > 0.1
    block = built()
    other = np.where(PADDING[:, :, None] == 1, x, 9).astype("float32")
    before, after = (ops.convert_to_numpy(block(inputs, padding_mask=PADDING)) for inputs in (x, other))
    np.testing.assert_allclose(before[PADDING == 1], after[PADDING == 1], atol=1e-6)


@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (4, 9)])
def test_one_block_for_sentences_of_any_length(shape):
    block, x = built(causal=True), vectors(*shape, WIDTH)
    expected = block_of(x.astype("float64"), weights_of(block), causal=True)
    np.testing.assert_allclose(ops.convert_to_numpy(block(x)), expected, rtol=1e-4, atol=1e-5)


def test_dropout_has_the_masks_of_its_seed_and_names():
    """The same numbers on each backend, as the masks are those that the generator draws on the host."""
    block, x = built(dropout=0.3, seed=4), vectors(3, TOKENS, WIDTH)
    shapes = {
        "probabilities": (3, HEADS, TOKENS, TOKENS),
        "attention": (3, TOKENS, WIDTH),
        "output": (3, TOKENS, WIDTH),
    }
    for step in range(2):
        found = ops.convert_to_numpy(block(x, padding_mask=PADDING, training=True))
        dropped = [
            keep_mask(stream_key(4, f"block_{name}_dropout", "dropout"), shape, 0.3, step=step) / 0.7
            for name, shape in shapes.items()
        ]
        expected = block_of(x.astype("float64"), weights_of(block), mask=PADDING, dropped=dropped)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    inference = ops.convert_to_numpy(block(x))
    np.testing.assert_allclose(inference, block_of(x.astype("float64"), weights_of(block)), rtol=1e-4, atol=1e-5)


def test_the_settings_of_a_block_are_saved():
    settings = {
        **{"num_heads": 3, "intermediate_dim": 5, "causal": True, "norm_first": True, "dropout": 0.2},
        **{"activation": "relu", "epsilon": 1e-3, "seed": 8},
    }
    block = TransformerBlock.from_config(TransformerBlock(**settings, name="block").get_config())
    assert settings.items() <= block.get_config().items()
    x = vectors(2, 3, WIDTH)
    block(x)
    assert block.attention_norm.epsilon == 1e-3
    assert block.intermediate.activation is keras.activations.relu


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_heads": 0}, "num_heads is 0; give"),
        ({"intermediate_dim": 1.5}, "intermediate_dim is 1.5; give"),
        ({"dropout": 1}, "dropout is 1; give"),
        ({"num_heads": 4}, "num_heads is 4; give a divisor of the size of the vectors, 6"),
    ],
)
def test_bad_settings_of_a_block_are_named(settings, message):
    with pytest.raises(CourseError, match=message):
        TransformerBlock(**{"num_heads": 2, "intermediate_dim": 3} | settings)(vectors(1, 2, WIDTH))


# --- The embedding -----------------------------------------------------------------------------------------------


def test_the_embedding_is_a_sum_of_three_tables():
    embed = TextEmbedding(11, TOKENS, WIDTH, segments=2, name="embedding")
    x, segments = tokens(3), PADDING.astype("int32")
    embed(x, segment_ids=segments)
    w = weights_of(with_other_weights(embed))
    places = np.array([[4, 3, 2, 1, 0]] * 3, "int32")
    of_tokens, of_places = w["embedding/tokens"], w["embedding/positions"]
    for found, expected in [
        (embed(x), of_tokens[x] + of_places),
        (embed(x[:, :2]), of_tokens[x[:, :2]] + of_places[:2]),
        (embed(x, positions=places), of_tokens[x] + of_places[places]),
        (embed(x, segment_ids=segments), of_tokens[x] + of_places + w["embedding/segments"][segments]),
        (embed(vectors(3, 2, WIDTH), reverse=True), vectors(3, 2, WIDTH) @ of_tokens.T),
    ]:
        np.testing.assert_allclose(ops.convert_to_numpy(found), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"vocabulary_size": 0}, "vocabulary_size is 0; give"),
        ({"sequence_length": -3}, "sequence_length is -3; give"),
        ({"embedding_dim": None}, "embedding_dim is None; give"),
        ({"segments": -1}, "segments is -1; give"),
    ],
)
def test_bad_settings_of_an_embedding_are_named(settings, message):
    with pytest.raises(CourseError, match=message):
        TextEmbedding(**{"vocabulary_size": 2, "sequence_length": 3, "embedding_dim": 4} | settings)


# --- The causal language model -----------------------------------------------------------------------------------


def test_the_logits_of_the_language_model_are_those_of_numpy():
    model, x = with_other_weights(causal_language_model(**TINY)), tokens(4)
    found = predict_logits(model, x)
    assert (found.shape, found.dtype) == ((4, TOKENS, 11), np.float32)
    np.testing.assert_allclose(found, logits_of(weights_of(model), x), rtol=1e-4, atol=1e-4)


def test_its_parameters_and_names():
    model = causal_language_model(vocabulary_size=2000, sequence_length=32)
    of_block = 4 * (64 * 64 + 64) + (64 + 1) * 256 + (256 + 1) * 64 + 4 * 64
    assert parameter_table(model)[-1].trainable == 2000 * 64 + 32 * 64 + 2 * of_block + 2 * 64
    assert (model.input_shape, model.output_shape) == ((None, 32), (None, 32, 2000))
    names = [layer.name for layer in causal_language_model(num_layers=3, **TINY).layers]
    assert names == ["tokens", "embedding", "dropout", "block1", "block2", "block3", "norm"]
    names = [layer.name for layer in causal_language_model(num_layers=1, dropout=0.0, name="mine", **TINY).layers]
    assert names == ["tokens", "embedding", "block1", "norm"]
    assert causal_language_model(**TINY).name == "causal_language_model"


def test_its_initial_weights_depend_on_seed_and_name_only():
    first, again, other = (weights_of(causal_language_model(seed=seed, **TINY)) for seed in (1, 1, 2))
    for path, weight in first.items():
        np.testing.assert_array_equal(weight, again[path])
        if weight.ndim == 2:
            assert not np.isclose(weight, other[path]).any(), path
            assert weight.std() == pytest.approx(0.02, rel=0.5), path
        else:
            np.testing.assert_array_equal(weight, float(path.endswith("gamma")))
    assert not np.isclose(first["block1/query/kernel"], first["block2/query/kernel"]).any()


@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_every_weight_gets_a_gradient(dropout):
    model = with_other_weights(causal_language_model(dropout=dropout, **TINY))
    before = weights_of(model)
    data = (tokens(32), np.roll(tokens(32), -1, axis=1))
    history = fit(model, data, optimizer=keras.optimizers.SGD(0.1), epochs=1, batch_size=32, progress=False)
    assert history.way == "compiled", history.reason
    for path, weight in weights_of(model).items():
        change = np.abs(weight - before[path])
        if path.endswith("key/bias"):  # it adds the same number to all scores of a token
            assert change.max() < 1e-6
        elif not path.endswith("step"):
            assert change.reshape(len(change), -1).max(axis=1).min() > 0, path  # each token, position and unit


def test_it_learns_a_sentence_by_heart():
    sentence = np.array([[2, 4, 1, 9, 3, 7]], "int32")
    model = causal_language_model(dropout=0.0, **TINY)
    data = (np.tile(sentence[:, :-1], (160, 1)), np.tile(sentence[:, 1:], (160, 1)))
    fit(model, data, optimizer=keras.optimizers.Adam(0.03), epochs=2, batch_size=8, progress=False)
    assert predict_logits(model, sentence[:, :-1]).argmax(axis=2).tolist() == sentence[:, 1:].tolist()


def test_the_cached_model_equals_the_whole_one():
    model, x = with_other_weights(causal_language_model(num_layers=3, **TINY)), tokens(4)
    expected = predict_logits(model, x)
    cached = cached_language_model(model)
    # what no token has written yet has to be ignored
    cache = [np.full((4, *part.shape[1:]), 7.0, "float32") for part in cached.inputs[2:]]
    assert len(cache) == 2 * 3
    for position in range(TOKENS):
        inputs = [x[:, position : position + 1], np.full((4, 1), position, "int32"), *cache]
        logits, *cache = (ops.convert_to_numpy(output) for output in cached(inputs))
        np.testing.assert_allclose(logits[:, 0], expected[:, position], rtol=1e-4, atol=1e-4)


def test_the_cached_model_shares_its_weights():
    model, x = with_other_weights(causal_language_model(**TINY)), tokens(1)
    cached = cached_language_model(model)
    inputs = [x[:, :1], np.zeros((1, 1), "int32"), *(np.zeros((1, *part.shape[1:])) for part in cached.inputs[2:])]
    model.set_weights([2 * weight for weight in model.get_weights()])
    found = ops.convert_to_numpy(cached(inputs)[0])[:, 0]
    np.testing.assert_allclose(found, predict_logits(model, x)[:, 0], rtol=1e-4, atol=1e-4)


def test_what_is_no_causal_language_model_has_no_cache():
    inputs = keras.Input((4, WIDTH))
    encoder = keras.Model(inputs, TransformerBlock(2, 3, name="block")(inputs), name="encoder")
    with pytest.raises(CourseError, match="encoder is no causal language model; give one of causal_language_model"):
        cached_language_model(encoder)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"vocabulary_size": 0}, "vocabulary_size is 0; give"),
        ({"sequence_length": 0}, "sequence_length is 0; give"),
        ({"sequence_length": None}, "sequence_length is None; give"),
        ({"num_layers": 0}, "num_layers is 0; give"),
        ({"num_heads": 4}, "num_heads is 4; give a divisor of the size of the vectors, 6"),
        ({"dropout": -0.1}, "dropout is -0.1; give"),
        ({"seed": -1}, "seed is -1; give"),
    ],
)
def test_bad_arguments_are_named(settings, message):
    with pytest.raises(CourseError, match=message):
        causal_language_model(**TINY | settings)


# --- Files and 16 bits -------------------------------------------------------------------------------------------


def encoder(name="encoder"):
    """A small BERT: three inputs, and layers that are called with names."""
    inputs = {
        name: keras.Input((TOKENS,), dtype="int32", name=name) for name in ("token_ids", "segment_ids", "padding_mask")
    }
    x = TextEmbedding(11, TOKENS, WIDTH, segments=2, name="embedding")(inputs["token_ids"], inputs["segment_ids"])
    for number in (1, 2):
        block = TransformerBlock(HEADS, 7, dropout=0.1, name=f"block{number}")
        x = block(x, padding_mask=inputs["padding_mask"])
    return initialize(keras.Model(inputs, x, name=name), seed=0)


@pytest.mark.parametrize("cached", [False, True])
def test_the_language_model_is_saved_and_opened(cached, tmp_path):
    model, x = with_other_weights(causal_language_model(**TINY)), tokens(4)
    if cached:  # adds calls to its layers
        cached_language_model(model)
    check_can_be_opened(model)
    model.save(tmp_path / "model.keras")
    opened = load_keras_model(tmp_path / "model.keras")
    np.testing.assert_allclose(predict_logits(opened, x), predict_logits(model, x), atol=1e-6)
    assert [layer.name for layer in opened.layers] == [layer.name for layer in model.layers]
    logits = cached_language_model(opened).outputs[0]
    assert tuple(logits.shape) == (None, 1, 11)


def test_an_encoder_is_saved_and_opened(tmp_path):
    model = with_other_weights(encoder())
    inputs = {
        "token_ids": tokens(3),
        "segment_ids": np.array([[0, 0, 1, 1, 1]] * 3, "int32"),
        "padding_mask": PADDING.astype("int32"),
    }
    check_can_be_opened(model)
    model.save(tmp_path / "model.keras")
    opened = load_keras_model(tmp_path / "model.keras")
    np.testing.assert_allclose(predict_logits(opened, inputs), predict_logits(model, inputs), atol=1e-6)


@pytest.mark.parametrize("sequence_length", [64, 512])
def test_a_large_vocabulary_can_be_opened(sequence_length):
    model = causal_language_model(
        vocabulary_size=30_000, sequence_length=sequence_length, embedding_dim=8, intermediate_dim=8
    )
    assert sequence_length * 30_000 < LARGEST_OUTPUT
    check_can_be_opened(model)


@pytest.mark.parametrize(
    ("vocabulary_size", "sequence_length", "message"),
    [
        (30_000, 4500, "its layer 'embedding' makes 135,000,000 numbers for one sample"),
        (3, 12_000, "its layer 'block1' makes 144,000,000 numbers for one sample"),  # attention of a long text
    ],
)
def test_what_needs_too_much_memory_is_refused(vocabulary_size, sequence_length, message):
    sizes = {"vocabulary_size": vocabulary_size, "sequence_length": sequence_length, "embedding_dim": 2}
    model = causal_language_model(**sizes, num_layers=1, num_heads=1, intermediate_dim=4, dropout=0.0)
    with pytest.raises(CourseError, match=message):
        check_can_be_opened(model)


@pytest.fixture
def half_precision():
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    yield
    keras.config.set_dtype_policy(policy)


def test_in_half_precision_weights_and_logits_stay_float32(half_precision, tmp_path):
    model = causal_language_model(**TINY)
    assert keras.backend.standardize_dtype(model.get_layer("block1").compute_dtype) == "bfloat16"
    assert {weight.dtype for weight in model.get_weights()} == {np.dtype("float32"), np.dtype("int32")}
    data = (tokens(64), tokens(64))
    history = fit(model, data, optimizer=keras.optimizers.Adam(0.01), epochs=3, batch_size=16, progress=False)
    assert history["loss"][-1] < history["loss"][0] - 0.1
    logits = predict_logits(model, tokens(4))
    np.testing.assert_allclose(logits, logits_of(weights_of(model), tokens(4)), atol=0.1)
    assert not (logits.view("uint32") & 0xFFFF == 0).all(), "the logits have been through bfloat16"
    probabilities = model.get_layer("block1").attention(ops.cast(vectors(1, TOKENS, WIDTH), "bfloat16"))
    np.testing.assert_allclose(ops.convert_to_numpy(ops.sum(probabilities, axis=-1)), 1, atol=1e-6)
    model.save(tmp_path / "model.keras")
    opened = load_keras_model(tmp_path / "model.keras")
    np.testing.assert_allclose(predict_logits(opened, tokens(4)), logits, atol=1e-6)
