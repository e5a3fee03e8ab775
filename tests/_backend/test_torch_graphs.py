"""What is done to traced graphs: products by oneDNN, constants, and what follows a convolution."""

from collections import Counter
from unittest.mock import patch

import keras
import numpy as np
import pytest
import torch
from keras import layers
from torch.fx.experimental.proxy_tensor import make_fx

from keras_course._backend import torch as backend
from keras_course._backend.torch_graphs import finish, fold_constants, multiply_with_onednn, trace_frozen
from keras_course.errors import CourseError
from keras_course.models.transformer import TextEmbedding, TransformerBlock
from keras_course.randomness import initialize

aten = torch.ops.aten
fused_convolution = torch.ops.mkldnn._convolution_pointwise.default


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="PyTorch without oneDNN")
@pytest.mark.parametrize(
    "product",
    [
        lambda a, b: a @ b,
        lambda a, b: (b.t() @ a.t()).t(),
        lambda a, b: a @ b.t().contiguous().t(),
        lambda a, b: torch.addmm(torch.arange(5.0), a, b),
        lambda a, b: torch.addmm(torch.ones(7, 5), a, b),
        lambda a, b: torch.addmm(torch.arange(5.0), a, b, beta=0.5, alpha=2.0),
        lambda a, b: (a.double() @ b.double()).float(),
        lambda a, b: a @ b + torch.arange(5.0),
        lambda a, b: torch.arange(5.0) + a @ b,
        lambda a, b: a @ b + torch.ones(7, 5),
        lambda a, b: a @ b + torch.ones(1),
        lambda a, b: a @ b + 2.0,
        lambda a, b: torch.add(a @ b, torch.arange(5.0), alpha=3.0),
        lambda a, b: a @ b + torch.arange(5.0).double(),
        lambda a, b: (a @ b + torch.arange(5.0)) * (a @ b),
        lambda a, b: (product := a @ b) + torch.arange(5.0) - product,
        lambda a, b: (product := a @ b) + product,
    ],
)
def test_products_by_onednn_are_products(product):
    a, b = torch.randn(7, 3), torch.randn(3, 5)
    graph = make_fx(product)(a, b)
    multiply_with_onednn(graph)
    finish(graph)
    torch.testing.assert_close(graph(a, b), product(a, b), atol=1e-5, rtol=1e-5)


def test_onednn_takes_the_products_and_biases_of_a_dense_net():
    graph = make_fx(lambda a, b, bias: a @ b + bias)(torch.randn(2, 3), torch.randn(3, 4), torch.randn(4))
    multiply_with_onednn(graph)
    finish(graph)
    targets = [node.target for node in graph.graph.nodes if node.op == "call_function"]
    assert targets == [aten.t.default, torch.ops.mkldnn._linear_pointwise.default]


def folded(function, x):
    """The graph of a function whose constants have been computed, and what is left to do at each call."""
    graph = make_fx(function)(x)
    fold_constants(graph)
    finish(graph)
    return graph, [node.target for node in graph.graph.nodes if node.op == "call_function"]


def test_constants_are_computed_once_and_arguments_are_not():
    weights = torch.arange(3.0)

    def function(x):
        x.add_(weights * 2)
        return x + torch.arange(3) * 10

    graph, targets = folded(function, torch.zeros(3))
    assert targets == [aten.add_.Tensor, aten.add.Tensor]
    x = torch.zeros(3)
    torch.testing.assert_close(graph(x), torch.tensor([0.0, 12.0, 24.0]))
    torch.testing.assert_close(x, torch.tensor([0.0, 2.0, 4.0]))
    torch.testing.assert_close(graph(x), torch.tensor([0.0, 14.0, 28.0]))


def test_parts_of_a_constant_are_constants():
    def function(x):
        first, second = (torch.arange(4.0) * 2).split(2)
        return x * first + second

    graph, targets = folded(function, torch.zeros(2))
    assert targets == [aten.mul.Tensor, aten.add.Tensor]
    torch.testing.assert_close(graph(torch.tensor([3.0, 5.0])), torch.tensor([4.0, 16.0]))


def graph_of(model, x):
    """The graph that a frozen forward pass runs."""
    made = []

    def trace_and_keep(*arguments):
        made.append(trace_frozen(*arguments))
        return made[0]

    with patch.object(backend, "trace_frozen", trace_and_keep):
        backend.forward(model, frozen=True)(x)
    return made[0]


def targets_of(model, x):
    return Counter(node.target for node in graph_of(model, x).graph.nodes if node.op == "call_function")


def with_statistics(model, seed=0):
    """Gives every weight a value that leaving it out, or taking it in another order, would show."""
    random = np.random.default_rng(seed)
    for variable in model.variables:
        low, high = (0.5, 2.0) if "variance" in variable.path or "gamma" in variable.path else (-1.0, 1.0)
        variable.assign(random.uniform(low, high, variable.shape))
    return model


def net(*after, convolution=None):
    """A convolution, what comes after it, and two ends, so that shapes and layout are seen to be kept."""
    inputs = keras.Input((9, 8, 3))
    x = (convolution or layers.Conv2D(6, 3, use_bias=False))(inputs)
    for layer in after:
        x = layer(x)
    return with_statistics(keras.Model(inputs, layers.Flatten()(x)))


NETS = {
    "alone": lambda: net(),
    "bias": lambda: net(convolution=layers.Conv2D(6, 3, padding="same", strides=2)),
    "normalized": lambda: net(layers.BatchNormalization(), layers.ReLU()),
    "bias and normalized": lambda: net(layers.BatchNormalization(), layers.ReLU(6.0), convolution=layers.Conv2D(4, 1)),
    "depthwise": lambda: net(
        layers.BatchNormalization(),
        layers.ReLU(6.0),
        convolution=layers.DepthwiseConv2D(3, 2, padding="same", use_bias=False),
    ),
    "twice": lambda: net(layers.BatchNormalization(), layers.Rescaling(-2.0, 0.25), layers.ReLU()),
    "activation first": lambda: net(layers.ReLU(), layers.BatchNormalization()),
    "leaky": lambda: net(layers.BatchNormalization(), layers.LeakyReLU(0.3)),
    "grouped": lambda: net(layers.BatchNormalization(), convolution=layers.Conv2D(6, 3, groups=3)),
    "dilated": lambda: net(layers.ReLU(), convolution=layers.Conv2D(6, 3, dilation_rate=2)),
    "transposed": lambda: net(layers.BatchNormalization(), convolution=layers.Conv2DTranspose(5, 3, 2)),
    "pooled": lambda: net(layers.MaxPooling2D(), layers.BatchNormalization()),
    "a constant before it": lambda: net(layers.Lambda(lambda x: torch.mul(torch.arange(6.0), x)), layers.ReLU()),
    "a number": lambda: net(layers.Lambda(lambda x: torch.mul(x, 2.5)), layers.Lambda(lambda x: torch.sub(x, 0.5))),
    "itself": lambda: net(layers.Lambda(lambda x: torch.add(x, x))),
    "pictures beside": lambda: net(layers.Lambda(lambda x: x * keras.ops.mean(x, axis=-1, keepdims=True))),
    "rows beside": lambda: net(layers.Lambda(lambda x: x + keras.ops.reshape(keras.ops.arange(6.0), (1, 1, 6, 1)))),
}


@pytest.mark.parametrize("build", NETS.values(), ids=NETS)
def test_a_frozen_net_gives_what_keras_gives(build):
    model = build()
    x = np.random.default_rng(1).normal(size=(5, *model.input_shape[1:])).astype("float32")
    expected = model.predict(x, verbose=0)
    run = backend.forward(model, frozen=True)
    np.testing.assert_allclose(run(x), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(run(x[:2]), expected[:2], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(run(2 * x), model.predict(2 * x, verbose=0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(6,), (4, 6), (3, 4, 6)])
def test_the_bias_of_a_dense_layer_is_part_of_the_product(shape):
    model = keras.Sequential([keras.Input(shape), layers.Dense(8, activation="gelu"), layers.Dense(3, name="last")])
    for weight in model.weights:
        weight.assign(np.random.default_rng(len(weight.shape)).normal(size=weight.shape).astype("float32"))
    x = np.random.default_rng(1).normal(size=(2, *shape)).astype("float32")
    targets = targets_of(model, x)
    assert targets[aten.addmm.default] == 2
    assert not {aten.mm.default, aten.add.Tensor} & set(targets)
    found = backend.forward(model, frozen=True)(x)
    np.testing.assert_allclose(found, keras.ops.convert_to_numpy(model(x)), atol=1e-5)


@pytest.mark.parametrize(
    "build",
    [
        lambda x: layers.Dense(4, use_bias=False)(x) + layers.Dense(4, use_bias=False)(x),
        lambda x: layers.Dense(4, use_bias=False)(x) + 1.0,
        lambda x: layers.Dense(4, use_bias=False)(x) + np.arange(12, dtype="float32").reshape(3, 4),
        lambda x: layers.Add()([(y := layers.Dense(4, use_bias=False)(x)) + np.arange(4.0, dtype="float32"), y]),
        lambda x: layers.Reshape((12,))(layers.Dense(4, use_bias=False)(x)) + np.arange(12, dtype="float32"),
        lambda x: keras.ops.subtract(np.arange(4, dtype="float32"), layers.Dense(4, use_bias=False)(x)),
    ],
    ids=["two products", "a number", "a matrix", "two uses", "another shape", "a difference"],
)
def test_what_is_no_bias_stays(build):
    inputs = keras.Input((3, 5))
    model = keras.Model(inputs, build(inputs))
    x = np.random.default_rng(1).normal(size=(2, 3, 5)).astype("float32")
    found = backend.forward(model, frozen=True)(x)
    np.testing.assert_allclose(found, keras.ops.convert_to_numpy(model(x)), atol=1e-5)


def test_two_uses_of_a_convolution_both_get_what_it_gives():
    inputs = keras.Input((6, 6, 3))
    x = layers.Conv2D(4, 3)(inputs)
    model = with_statistics(keras.Model(inputs, layers.Add()([layers.BatchNormalization()(x), layers.ReLU()(x)])))
    x = np.random.default_rng(1).normal(size=(3, 6, 6, 3)).astype("float32")
    np.testing.assert_allclose(backend.forward(model, frozen=True)(x), model.predict(x, verbose=0), atol=1e-5)


def test_a_frozen_net_does_not_see_later_weights_and_another_does():
    model = net(layers.BatchNormalization())
    x = np.ones((1, 9, 8, 3), "float32")
    frozen, living = backend.forward(model, frozen=True), backend.forward(model)
    before = frozen(x)
    with_statistics(model, seed=5)
    np.testing.assert_array_equal(frozen(x), before)
    assert np.abs(living(x) - before).max() > 0.1


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="PyTorch without oneDNN")
def test_normalisation_and_activation_are_part_of_the_convolution():
    model = net(
        layers.BatchNormalization(), layers.ReLU(6.0), layers.Conv2D(4, 3), layers.BatchNormalization(), layers.ReLU()
    )
    targets = targets_of(model, np.ones((2, 9, 8, 3), "float32"))
    assert targets[fused_convolution] == 2
    assert not targets.keys() & {aten.convolution.default, aten.mul.Tensor, aten.sub.Tensor, aten.clone.default}


def text_model(change=lambda x: x):
    """A model of texts of any length, at most 16 tokens, with something done to their vectors."""
    tokens, mask = keras.Input((None,), dtype="int32", name="tokens"), keras.Input((None,), dtype="bool", name="mask")
    x = TextEmbedding(20, 16, 12, name="embedding")(tokens)
    x = TransformerBlock(3, 8, name="block")(layers.Lambda(change, output_shape=(None, 12))(x), padding_mask=mask)
    return initialize(keras.Model({"tokens": tokens, "mask": mask}, x), seed=1)


def batch_of(rows, length):
    draws = np.random.default_rng(rows * length)
    tokens = draws.integers(0, 20, (rows, length)).astype("int32")
    return {"tokens": tokens, "mask": np.arange(length) < draws.integers(1, length + 1, (rows, 1))}


@pytest.fixture
def traced_alone(monkeypatch):
    """The shapes of texts for which a model has been traced alone."""
    found, trace_alone = [], backend._trace_frozen

    def trace_and_note(model, x):
        found.append(tuple(x["tokens"].shape))
        return trace_alone(model, x)

    monkeypatch.setattr(backend, "_trace_frozen", trace_and_note)
    return found


def check_lengths(model, shapes):
    run = backend.forward(model, frozen=True)
    for rows, length in shapes:
        batch = batch_of(rows, length)
        np.testing.assert_allclose(run(batch), keras.ops.convert_to_numpy(model(batch)), atol=1e-5)


def test_texts_of_any_length_are_traced_once(traced_alone):
    check_lengths(text_model(), [(3, 5), (2, 9), (7, 2), (5, 5), (16, 16), (12, 12)])
    assert not traced_alone


def test_a_single_row_or_token_is_traced_alone(traced_alone):
    check_lengths(text_model(), [(1, 6), (1, 6), (4, 6), (3, 1)])
    assert traced_alone == [(1, 6), (3, 1)]


def test_a_text_without_a_position_is_refused():
    with pytest.raises(CourseError, match="a text has 17 tokens; cut it to 16"):
        backend.forward(text_model(), frozen=True)(batch_of(3, 17))


def test_code_that_depends_on_the_length_is_traced_for_its_lengths(traced_alone):
    check_lengths(text_model(lambda x: x if x.shape[1] < 8 else -x), [(3, 4), (3, 7), (3, 8), (3, 9)])
    assert traced_alone == [(3, 8), (3, 9)]


def test_code_that_needs_the_length_itself_is_traced_for_each(traced_alone):
    check_lengths(text_model(lambda x: x * [0.5, 2.0][int(x.shape[1]) % 2]), [(3, 4), (3, 5), (3, 7)])
    assert traced_alone in ([(3, 4), (3, 7)], [(3, 4), (3, 5), (3, 7)])
