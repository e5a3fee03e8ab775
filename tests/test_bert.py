"""The encoder of BERT and its heads; tests/pretrained/test_bert.py compares what they compute with transformers."""

import keras
import numpy as np
import pytest

from keras_course import _backend
from keras_course.allow_list import check_can_be_opened
from keras_course.deployment.model_files import load_keras_model
from keras_course.errors import CourseError
from keras_course.models.bert import (
    bert_encoder,
    masked_word_model,
    pooled_encoder,
    question_answering_model,
    sentence_encoder,
    text_classifier,
)
from keras_course.training import fit

SIZES = {"embedding_dim": 12, "num_layers": 2, "num_heads": 3, "intermediate_dim": 20, "max_positions": 16}
SMALL = {"vocabulary_size": 30, **SIZES}
PAD = 0
HEADS = {
    "masked_word_model": (masked_word_model, {}, (None, None, 30)),
    "question_answering_model": (question_answering_model, {}, (None, None, 2)),
    "pooled_encoder": (pooled_encoder, {}, (None, 12)),
    "sentence_encoder": (sentence_encoder, {}, (None, 12)),
    "text_classifier, mean": (text_classifier, {"num_classes": 3}, (None, 3)),
    "text_classifier, first": (text_classifier, {"num_classes": 3, "pooling": "first"}, (None, 3)),
}


def texts(lengths=(9, 4, 2), length=9, seed=0):
    """Tokens of texts of some lengths, padded on the right."""
    tokens = np.random.default_rng(seed).integers(1, 30, (len(lengths), length)).astype("int32")
    tokens[np.arange(length) >= np.array(lengths)[:, None]] = PAD
    return tokens


def inputs_of(model, tokens, segments=None):
    if not isinstance(model.input, dict):
        return tokens
    segments = np.zeros_like(tokens) if segments is None else segments
    return {"token_ids": tokens, "segment_ids": segments, "padding_mask": tokens != PAD}


def outputs_of(model, tokens, segments=None):
    return keras.ops.convert_to_numpy(model(inputs_of(model, tokens, segments), training=False))


def weights_of(model):
    return {weight.path: keras.ops.convert_to_numpy(weight).copy() for weight in model.variables}


@pytest.fixture(scope="module")
def encoder():
    return bert_encoder(seed=3, **SMALL)


def build(name, encoder, **settings):
    function, others, _ = HEADS[name]
    return function(encoder, **others, **settings)


# --- Sizes ----------------------------------------------------------------------------------------------------------


@pytest.mark.one_backend
def test_the_base_model_has_the_parameters_of_the_authors():
    """110 million, without the pooler, which has 590,592 of them; no weights are drawn."""
    model = bert_encoder(seed=None)
    assert sum(int(np.prod(weight.shape)) for weight in model.trainable_variables) == 109_482_240 - 590_592
    assert model.output_shape == (None, None, 768)
    assert [layer.name for layer in model.layers if layer.name.startswith("block")][-1] == "block12"


@pytest.mark.one_backend
@pytest.mark.parametrize("name", HEADS)
def test_each_head_has_its_shape(encoder, name):
    model = build(name, encoder)
    assert model.output_shape == HEADS[name][2]
    assert outputs_of(model, texts()).dtype == np.float32


@pytest.mark.one_backend
def test_a_fixed_length_is_that_of_all_inputs():
    model = bert_encoder(sequence_length=7, **SMALL)
    assert {name: part.shape for name, part in model.input.items()} == dict.fromkeys(model.input, (None, 7))
    assert sentence_encoder(model).input_shape == (None, 7)


# --- What it computes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", HEADS)
def test_padding_does_not_matter(encoder, name):
    model, tokens = build(name, encoder), texts()
    together = outputs_of(model, tokens)
    for row, length in enumerate((9, 4, 2)):
        alone = outputs_of(model, tokens[row : row + 1, :length])[0]
        compared = together[row, :length] if together.ndim == 3 else together[row]
        np.testing.assert_allclose(compared, alone, atol=1e-5, err_msg=str(length))


def test_vectors_of_sentences_are_means_over_tokens_of_length_1(encoder):
    tokens = texts()
    hidden, mask = outputs_of(encoder, tokens), (tokens != PAD)[..., None]
    means = (hidden * mask).sum(axis=1) / mask.sum(axis=1)
    expected = means / np.linalg.norm(means, axis=-1, keepdims=True)
    np.testing.assert_allclose(outputs_of(sentence_encoder(encoder), tokens), expected, atol=1e-6)


@pytest.mark.one_backend
def test_a_text_of_padding_alone_has_finite_numbers(encoder):
    tokens = np.zeros((2, 5), "int32")
    for name in HEADS:
        assert np.isfinite(outputs_of(build(name, encoder), tokens)).all(), name


@pytest.mark.one_backend
def test_segments_and_order_matter(encoder):
    tokens = texts((9,))
    plain = outputs_of(encoder, tokens)
    assert abs(outputs_of(encoder, tokens, np.ones_like(tokens)) - plain).max() > 1e-2
    assert abs(outputs_of(encoder, tokens[:, ::-1].copy())[:, ::-1] - plain).max() > 1e-2


@pytest.mark.one_backend
def test_another_number_can_stand_for_padding(encoder):
    tokens = texts()
    swapped = np.where(tokens == PAD, 29, np.where(tokens == 29, PAD, tokens)).astype("int32")
    model = sentence_encoder(encoder, pad=29)
    np.testing.assert_allclose(outputs_of(model, swapped)[1:], outputs_of(model, swapped[1:, :4])[:, :], atol=1e-5)


# --- Weights --------------------------------------------------------------------------------------------------------


@pytest.mark.one_backend
@pytest.mark.parametrize("name", HEADS)
def test_a_head_leaves_the_encoder_as_it_is_and_shares_it(encoder, name):
    before = weights_of(encoder)
    model = build(name, encoder, **({} if name == "sentence_encoder" else {"seed": 5}))
    for path, weight in weights_of(encoder).items():
        np.testing.assert_array_equal(weight, before[path], err_msg=path)
    shared = {id(weight) for weight in encoder.variables}
    assert shared <= {id(weight) for weight in model.variables}


@pytest.mark.one_backend
@pytest.mark.parametrize("name", ["encoder", *(name for name in HEADS if name != "sentence_encoder")])
def test_the_seed_decides_the_weights(encoder, name):
    def drawn(seed):
        model = bert_encoder(seed=seed, **SMALL) if name == "encoder" else build(name, encoder, seed=seed)
        old = set() if name == "encoder" else {weight.path for weight in encoder.variables}
        return {path: weight for path, weight in weights_of(model).items() if path not in old and weight.ndim == 2}

    first, again, other, none = map(drawn, (1, 1, 2, None))
    assert first
    for path, weight in first.items():
        np.testing.assert_array_equal(weight, again[path])
        assert not np.isclose(weight, other[path]).any(), path
        assert not none[path].any(), path
        assert weight.std() == pytest.approx(0.02, rel=0.35) or path == "logits/kernel"


def test_every_weight_gets_a_gradient_but_those_that_cannot(encoder):
    """A softmax does not change when the same number is added to all scores, as the bias of the keys does."""
    model = text_classifier(bert_encoder(**SMALL), num_classes=3)
    before = weights_of(model)
    tokens, labels = texts((9, 8, 7, 6) * 4, seed=1), np.arange(16, dtype="int32") % 3
    fit(model, (tokens, labels), optimizer=keras.optimizers.SGD(1.0), epochs=1, batch_size=16, progress=False)
    trainable = {weight.path for weight in model.trainable_variables}
    still = {path for path, weight in weights_of(model).items() if abs(weight - before[path]).max() < 1e-7}
    assert still & trainable == {"block1/key/bias", "block2/key/bias"}


def test_a_classifier_learns(encoder):
    """Whether the token 7 is in a text."""
    tokens = texts((9,) * 256, seed=2)
    labels = (tokens == 7).any(axis=1).astype("int32")
    model = text_classifier(bert_encoder(**SMALL), num_classes=2)
    settings = {"optimizer": keras.optimizers.Adam(3e-3), "batch_size": 32, "progress": False}
    history = fit(model, (tokens, labels), epochs=8, **settings)
    assert history["loss"][-1] < 0.5 * history["loss"][0]


# --- Files and precision --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["encoder", *HEADS])
def test_it_is_saved_and_opened_again(encoder, name, tmp_path):
    model = encoder if name == "encoder" else build(name, encoder)
    check_can_be_opened(model)
    model.save(tmp_path / "model.keras")
    opened = load_keras_model(tmp_path / "model.keras")
    np.testing.assert_allclose(outputs_of(opened, texts()), outputs_of(model, texts()), atol=1e-6)
    if name == "encoder":  # it takes a head as before
        vectors = [outputs_of(sentence_encoder(one), texts()) for one in (opened, model)]
        np.testing.assert_allclose(*vectors, atol=1e-6)


@pytest.mark.parametrize("name", ["encoder", "sentence_encoder"])
def test_it_is_compiled(encoder, name):
    model = encoder if name == "encoder" else build(name, encoder)
    run = _backend.forward(model, frozen=True)
    for lengths, length in (((9, 4, 2), 9), ((3, 2), 4)):
        tokens = texts(lengths, length)
        np.testing.assert_allclose(run(inputs_of(model, tokens)), outputs_of(model, tokens), atol=1e-5)


@pytest.fixture
def half_precision():
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    yield
    keras.config.set_dtype_policy(policy)


@pytest.mark.parametrize("name", HEADS)
def test_in_half_precision_weights_and_outputs_stay_float32(half_precision, name):
    model = build(name, bert_encoder(**SMALL))
    assert {weight.dtype for weight in map(keras.ops.convert_to_numpy, model.trainable_variables)} == {
        np.dtype("float32")
    }
    assert keras.backend.standardize_dtype(model.get_layer("block1").compute_dtype) == "bfloat16"
    if name != "pooled_encoder":  # features, not logits
        assert keras.backend.standardize_dtype(model.output.dtype) == "float32"


# --- Bad arguments --------------------------------------------------------------------------------------------------


@pytest.mark.one_backend
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"vocabulary_size": 0}, "vocabulary_size is 0"),
        ({"num_layers": 0}, "num_layers is 0"),
        ({"num_heads": 5}, "num_heads is 5; give a divisor"),
        ({"num_heads": 0}, "num_heads is 0"),
        ({"intermediate_dim": 0}, "intermediate_dim is 0"),
        ({"max_positions": 0}, "max_positions is 0"),
        ({"segments": 0}, "segments is 0"),
        ({"sequence_length": 17}, "sequence_length is 17; give at most max_positions, 16"),
        ({"sequence_length": 0}, "sequence_length is 0"),
        ({"dropout": 1.0}, "dropout is 1.0"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(CourseError, match=message):
        bert_encoder(**SMALL | arguments)


@pytest.mark.one_backend
@pytest.mark.parametrize("name", HEADS)
def test_a_head_needs_an_encoder(encoder, name):
    from keras_course.models import dense_classifier

    for model in (dense_classifier(hidden=(4,)), build(name, encoder)):
        with pytest.raises(CourseError, match="is no encoder; give one of bert_encoder"):
            build(name, model)


@pytest.mark.one_backend
def test_a_text_longer_than_the_positions_is_refused(encoder):
    assert outputs_of(sentence_encoder(encoder), texts((16,), 16)).shape == (1, 12)
    for model in (encoder, sentence_encoder(encoder)):
        with pytest.raises(CourseError, match="a text has 17 tokens; cut it to 16"):
            outputs_of(model, texts((17,), 17))


@pytest.mark.one_backend
def test_bad_arguments_of_a_classifier_are_named(encoder):
    for arguments, message in (
        ({"num_classes": 0}, "num_classes is 0"),
        ({"num_classes": 2, "pooling": "max"}, "pooling is 'max'; give one of mean, first"),
        ({"num_classes": 2, "dropout": 1.0}, "dropout is 1.0"),
    ):
        with pytest.raises(CourseError, match=message):
            text_classifier(encoder, **arguments)
