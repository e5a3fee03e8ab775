"""Whether the outputs of a model are probabilities is read from its graph, whatever has been put around them."""

import contextlib
import inspect

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_course import models
from keras_course._backend.activations import output_activations


def model_of(build, *shape, **settings):
    inputs = keras.Input(shape or (6,), **settings)
    return keras.Model(inputs, build(inputs))


def probabilities(inputs):
    return layers.Dense(3, activation="softmax")(inputs)


@keras.saving.register_keras_serializable("tests")
class Head(layers.Layer):
    """Ends with a function of Keras, after a layer of its own."""

    def __init__(self, function=ops.softmax, **settings):
        super().__init__(**settings)
        self.dense, self.function = layers.Dense(3), function

    def build(self, shape):
        self.dense.build(shape)

    def call(self, inputs):
        return self.function(self.dense(inputs))

    def compute_output_shape(self, shape):
        return (*shape[:-1], 3)


class Renamed(layers.Dense):
    """A dense layer with another name, and nothing else."""


class Scaled(layers.Dense):
    """A dense layer whose activation is not the end."""

    def call(self, inputs):
        return 5.0 * super().call(inputs)


class Subclassed(keras.Model):
    def __init__(self, activation):
        super().__init__()
        self.dropout, self.dense = layers.Dropout(0.5), layers.Dense(3, activation=activation)

    def call(self, inputs, training=None):
        return self.dense(self.dropout(inputs, training=training))


def twice(inputs):
    dense = layers.Dense(6, activation="softmax")
    return dense(dense(inputs))


def shared_model(inputs):
    shared = model_of(probabilities)
    return layers.Average()([shared(inputs), shared(inputs + 1.0)])


def long_chain(inputs):
    outputs = probabilities(inputs)
    for _ in range(300):
        outputs = ops.reshape(outputs, (-1, 3))
    return outputs


def doubled(inputs):
    outputs = ops.softmax(inputs)
    for _ in range(40):
        outputs = ops.stack([outputs, outputs], axis=1)[:, 0]
    return outputs


SOFTMAX = {
    "dense": probabilities,
    "activation": lambda x: layers.Activation("softmax")(layers.Dense(3)(x)),
    "activation in float32": lambda x: layers.Activation("softmax", dtype="float32")(layers.Dense(3)(x)),
    "layer": lambda x: layers.Softmax()(layers.Dense(3)(x)),
    "layer as activation": lambda x: layers.Dense(3, activation=layers.Softmax())(x),
    "layer of another axis": lambda x: layers.Softmax(axis=1)(layers.Reshape((3, 2))(x)),
    "operation": lambda x: ops.softmax(layers.Dense(3)(x)),
    "activation function": lambda x: keras.activations.softmax(layers.Dense(3)(x)),
    "function of somebody": lambda x: layers.Dense(3, activation=lambda z: ops.softmax(z / 2))(x),
    "function of more axes": lambda x: layers.Activation(lambda z: ops.softmax(z, axis=2))(
        layers.Reshape((3, 2, 1))(x)
    ),
    "Lambda": lambda x: layers.Lambda(ops.softmax)(layers.Dense(3)(x)),
    "sparsemax": lambda x: layers.Dense(3, activation="sparsemax")(x),
    "custom layer": lambda x: Head()(x),
    "subclass of Dense": lambda x: Renamed(3, activation="softmax")(x),
    "model": lambda x: keras.Sequential([keras.Input((6,)), layers.Dense(3), layers.Softmax()])(x),
    "model in a model": lambda x: model_of(lambda y: model_of(probabilities)(y))(x),
    "model that passes on": lambda x: model_of(lambda y: layers.Flatten()(y), 3)(probabilities(x)),
    "subclassed model": lambda x: Subclassed("softmax")(x),
    "shared layer": twice,
    "shared model": shared_model,
    "rows": lambda x: layers.TimeDistributed(layers.Dense(4, activation="softmax"))(layers.Reshape((3, 2))(x)),
    "rows of models": lambda x: layers.TimeDistributed(model_of(probabilities, 2))(layers.Reshape((3, 2))(x)),
    "rows of custom layers": lambda x: layers.TimeDistributed(Head())(layers.Reshape((3, 2))(x)),
    "spectral normalisation": lambda x: layers.SpectralNormalization(layers.Dense(3, activation="softmax"))(x),
    "reshaped": lambda x: layers.Reshape((1, 3))(layers.Permute((1,))(layers.Flatten()(probabilities(x)))),
    "dropped": lambda x: layers.Identity()(layers.Dropout(0.1)(layers.GaussianNoise(0.1)(probabilities(x)))),
    "linear": lambda x: layers.Activation("linear", dtype="float32")(probabilities(x)),
    "cast": lambda x: ops.cast(ops.transpose(ops.expand_dims(probabilities(x), 1), (0, 2, 1)), "float16"),
    "clipped": lambda x: ops.clip(probabilities(x), 1e-7, 1 - 1e-7),
    "part": lambda x: probabilities(x)[:, 1:],
    "pooled": lambda x: layers.GlobalAveragePooling1D()(probabilities(layers.Reshape((3, 2))(x))),
    "ensemble": lambda x: layers.Average()([probabilities(x), probabilities(x)]),
    "concatenated": lambda x: ops.concatenate([probabilities(x), probabilities(x)], axis=1),
    "recurrent": lambda x: layers.SimpleRNN(4, activation="softmax")(layers.Reshape((3, 2))(x)),
    "long chain": long_chain,
    "doubled": doubled,
}
SIGMOID = {
    "dense": lambda x: layers.Dense(1, activation="sigmoid")(x),
    "operation": lambda x: ops.sigmoid(layers.Dense(1)(x)),
    "nn": lambda x: ops.nn.sigmoid(layers.Dense(1)(x)),
    "picture": lambda x: layers.Conv1D(1, 1, activation=keras.activations.sigmoid)(layers.Reshape((3, 2))(x)),
    "hard": lambda x: layers.Dense(1, activation="hard_sigmoid")(x),
    "squeezed": lambda x: ops.squeeze(layers.Dense(1, activation="sigmoid")(x), axis=-1),
    "custom layer": lambda x: Head(ops.sigmoid)(x),
    "before softmax": lambda x: layers.Dense(1, activation="sigmoid")(ops.softmax(x)),
}
NEITHER = {
    "logits": lambda x: layers.Dense(3)(x),
    "relu": lambda x: layers.Dense(3, activation="relu")(x),
    "inputs": lambda x: layers.Identity()(x),
    "log softmax": lambda x: ops.log_softmax(x),
    "logarithm": lambda x: ops.log(probabilities(x)),
    "softmax before": lambda x: layers.Dense(3)(probabilities(x)),
    "linear dense": lambda x: layers.Dense(3, activation="linear")(probabilities(x)),
    "times": lambda x: probabilities(x) * 5.0,
    "scaled": lambda x: Scaled(3, activation="softmax")(x),
    "custom layer": lambda x: Head(ops.tanh)(x),
    "both": lambda x: layers.Concatenate()([probabilities(x), layers.Dense(1, activation="sigmoid")(x)]),
    "one of two": lambda x: layers.Concatenate()([probabilities(x), layers.Dense(1)(x)]),
    "sum": lambda x: layers.Add()([probabilities(x), probabilities(x)]),
    "attention": lambda x: layers.Attention()([layers.Reshape((3, 2))(x)] * 2),
    "LSTM": lambda x: layers.LSTM(3, activation="softmax")(layers.Reshape((3, 2))(x)),
}
CASES = [
    pytest.param(build, activation, id=f"{activation}-{name}")
    for activation, cases in (("softmax", SOFTMAX), ("sigmoid", SIGMOID), (None, NEITHER))
    for name, build in cases.items()
]


@pytest.mark.parametrize(("build", "activation"), CASES)
def test_what_makes_probabilities_is_found_in_the_graph(build, activation):
    assert output_activations(model_of(build)) == [activation]


def test_each_output_has_its_own():
    inputs = keras.Input((6,))
    inner = keras.Model(inputs, [probabilities(inputs), layers.Dense(1)(inputs)])
    first, second = inner(inputs)
    model = keras.Model(inputs, {"a": second, "b": layers.Dense(1, activation="sigmoid")(inputs), "c": first})
    assert output_activations(model) == [None, "sigmoid", "softmax"]
    parts = layers.Lambda(lambda x: [ops.sigmoid(x), x])(inputs)
    assert output_activations(keras.Model(inputs, parts)) == ["sigmoid", None]


def test_of_several_inputs_the_right_one_is_followed():
    one, two = keras.Input((3,)), keras.Input((3,))
    second = keras.Model([one, two], layers.Identity()(two))
    a, b = keras.Input((3,), name="a"), keras.Input((3,), name="b")
    named = keras.Model({"a": a, "b": b}, layers.Identity()(b))
    inputs = keras.Input((3,))
    logits, softmax = layers.Dense(3)(inputs), ops.softmax(inputs)
    for outputs in (second([logits, softmax]), named({"b": softmax, "a": logits})):
        assert output_activations(keras.Model(inputs, outputs)) == ["softmax"]
    for outputs in (second([softmax, logits]), named({"b": logits, "a": softmax})):
        assert output_activations(keras.Model(inputs, outputs)) == [None]


def test_a_subclassed_model_is_followed_through_what_it_takes():
    model = Subclassed("softmax")
    model(np.zeros((1, 6), "float32"))
    assert output_activations(model) == []
    assert output_activations(model, np.zeros((8, 6), "float32")) == ["softmax"]
    assert output_activations(model, keras.KerasTensor((None, 6))) == ["softmax"]
    assert output_activations(model, np.zeros((8, 6, 2))) == []  # which it does not take
    model = Subclassed(None)
    model(np.zeros((1, 6), "float32"))
    assert output_activations(model, np.zeros((1, 6), "float32")) == [None]


def test_a_sequential_model_without_an_input_is_known_once_it_is_built():
    model = keras.Sequential([layers.Dense(3, activation="softmax")])
    assert output_activations(model) == []
    model.build((None, 6))
    assert output_activations(model) == ["softmax"]


@pytest.mark.parametrize("model", [Subclassed("softmax"), model_of(lambda x: Subclassed("softmax")(x))], ids=["", "in"])
def test_nothing_is_changed(model):
    x = np.ones((2, 6), "float32")
    model(x)
    before = model.get_weights()
    everything = list(model._flatten_layers())
    nodes = [(len(layer._inbound_nodes), len(layer._outbound_nodes)) for layer in everything]
    assert output_activations(model, x) == ["softmax"]
    assert list(model._flatten_layers()) == everything
    assert [(len(layer._inbound_nodes), len(layer._outbound_nodes)) for layer in everything] == nodes
    for array, expected in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(array, expected)


def test_what_a_layer_of_keras_ends_with_is_as_it_computes():
    """Every layer with an activation, also of a later Keras: softmax is found where numbers sum to 1, only there."""
    tried = 0
    for name, kind in vars(keras.layers).items():
        if not isinstance(kind, type) or "activation" not in inspect.signature(kind.__init__).parameters:
            continue
        arguments = {"activation": "softmax"}
        required = {"filters": 3, "units": 3, "kernel_size": 1, "equation": "...a,ab->...b", "output_shape": 3}
        arguments |= {key: value for key, value in required.items() if key in inspect.signature(kind).parameters}
        for axes in (1, 2, 3, 4):
            layer = kind(**arguments)
            with contextlib.suppress(ValueError):
                model = model_of(layers.RNN(layer) if name.endswith("Cell") else layer, *(4,) * axes)
                break
        x = np.random.default_rng(0).normal(size=(2, *model.input_shape[1:])).astype("float32")
        sums = ops.convert_to_numpy(model(x)).sum(axis=-1)
        is_softmax = np.allclose(sums, 1, atol=1e-3)
        if name != "SimpleRNNCell":  # not followed: cells of others may do anything
            assert output_activations(model) == ["softmax" if is_softmax else None], name
        tried += 1
    assert tried >= 15


def test_the_models_of_the_course_give_logits():
    for build in (models.dense_classifier, models.cnn_classifier, models.dense_regressor):
        assert output_activations(build()) == [None]
