"""The table of parameters: each number against its arithmetic, and the total against Keras."""

import math

import keras
import numpy as np
import pytest
from keras import layers

from keras_course import randomness
from keras_course.errors import CourseError
from keras_course.models import dense_classifier, dense_regressor, format_parameter_table, parameter_table


def sequential(*parts, shape):
    return keras.Sequential([keras.Input(shape), *parts])


def nested_model():
    """Returns a model with a nested model, a shared layer, and frozen layers."""
    encoder = sequential(
        layers.Conv2D(75, 3, name="conv"),
        layers.BatchNormalization(name="bn"),
        layers.MaxPooling2D(name="pool"),
        layers.Flatten(name="flatten"),
        layers.Dense(8, name="code"),
        shape=(10, 10, 1),
    )
    encoder.name = "encoder"
    encoder.get_layer("conv").trainable = False
    shared = layers.Dense(4, name="shared")
    left, right = keras.Input((10, 10, 1)), keras.Input((10, 10, 1))
    both = layers.Concatenate(name="both")([shared(encoder(left)), shared(encoder(right))])
    return keras.Model([left, right], layers.Dense(3, name="outputs")(both))


def text():
    inputs = keras.Input((None,), dtype="int32")
    x = layers.Embedding(20_000, 64, name="embedding")(inputs)
    x = layers.LSTM(5, return_sequences=True, name="lstm")(x)
    x = layers.GRU(6, return_sequences=True, name="gru")(x)
    x = layers.GRU(6, return_sequences=True, reset_after=False, name="old_gru")(x)
    x = layers.SimpleRNN(4, return_sequences=True, name="simple")(x)
    x = layers.Bidirectional(layers.LSTM(3, return_sequences=True, name="lstm"), name="both_ways")(x)
    x = layers.MultiHeadAttention(2, 4, name="attention")(x, x)
    x = layers.TimeDistributed(layers.Dense(3, name="inner"), name="each")(x)
    return keras.Model(inputs, randomness.Dropout(0.1, name="dropout")(x))


@keras.saving.register_keras_serializable(package="test_parameters")
class Mine(keras.Model):
    """A subclassed model with a list of layers and its own weight."""

    def __init__(self):
        super().__init__(name="mine")
        self.first = layers.Dense(3, name="first")
        self.others = [layers.Dense(2, name="second"), layers.Dense(2, name="third")]
        self.gain = self.add_weight(shape=(2,), name="gain")

    def call(self, x):
        for layer in (self.first, *self.others):
            x = layer(x)
        return x * self.gain


def subclassed_model():
    model = Mine()
    model(np.zeros((1, 4), "float32"))
    return model


def various_layers():
    normalization = layers.Normalization(name="normalization")
    normalization.adapt(np.random.default_rng(0).normal(size=(9, 4)))
    return sequential(
        normalization,
        layers.LayerNormalization(name="layer_normalization"),
        layers.PReLU(name="prelu"),
        layers.Dense(2, use_bias=False, name="dense"),
        layers.Reshape((2, 1), name="reshape"),
        layers.SeparableConv1D(4, 1, name="separable"),
        layers.RNN([layers.LSTMCell(3), layers.GRUCell(2)], name="cells"),
        shape=(4,),
    )


MODELS = [
    dense_classifier,
    lambda: dense_classifier(hidden=(8, 4), dropout=0.2),
    dense_regressor,
    nested_model,
    text,
    subclassed_model,
    various_layers,
    lambda: sequential(layers.Flatten(), shape=(2, 2)),
]


@pytest.mark.parametrize("build", MODELS)
def test_the_total_equals_keras(build):
    model = build()
    *rows, total = parameter_table(model)
    assert total.layer == "total"
    assert total.parameters == sum(row.parameters for row in rows) == model.count_params()
    trainable = sum(math.prod(weight.shape) for weight in model.trainable_weights)
    assert total.trainable == sum(row.trainable for row in rows) == trainable


@pytest.mark.parametrize("build", MODELS)
def test_the_arithmetic_of_each_row_gives_its_parameters(build):
    for row in parameter_table(build())[:-1]:
        formula = row.arithmetic.replace("×", "*").replace(",", "")
        assert eval(formula or "0") == row.parameters, row


def arithmetic(model):
    return {row.layer: row.arithmetic for row in parameter_table(model)}


def test_a_dense_layer_of_5_units_on_7_inputs_has_40_parameters():
    (row, total) = parameter_table(sequential(layers.Dense(5, name="dense"), shape=(7,)))
    assert (row.layer, row.kind, row.output_shape) == ("dense", "Dense", (None, 5))
    assert (row.arithmetic, row.parameters, row.trainable) == ("7 × 5 + 5", 40, 40)
    assert (total.parameters, total.output_shape, total.arithmetic) == (40, None, "")


def test_the_network_of_lesson_04():
    table = arithmetic(dense_classifier(hidden=(512, 512)))
    assert table == {
        "pixels": "",
        "flatten": "",
        "hidden1": "784 × 512 + 512",
        "hidden2": "512 × 512 + 512",
        "logits": "512 × 10 + 10",
        "total": "",
    }


def test_nested_models_are_listed_and_shared_layers_counted_once():
    rows = {row.layer: row for row in parameter_table(nested_model())}
    assert list(rows) == [
        *(f"encoder/{name}" for name in ("conv", "bn", "pool", "flatten", "code")),
        *("shared", "both", "outputs", "total"),
    ]
    assert rows["encoder/conv"].arithmetic == "3 × 3 × 1 × 75 + 75"
    assert (rows["encoder/conv"].parameters, rows["encoder/conv"].trainable) == (750, 0)
    assert rows["encoder/conv"].output_shape == (None, 8, 8, 75)
    assert (rows["encoder/bn"].arithmetic, rows["encoder/bn"].trainable) == ("4 × 75", 150)
    assert (rows["shared"].parameters, rows["outputs"].parameters) == (8 * 4 + 4, 8 * 3 + 3)


def test_layers_for_text():
    table = arithmetic(text())
    assert table["embedding"] == "20,000 × 64"
    assert table["lstm"] == "4 × (64 × 5 + 5 × 5 + 5)"
    assert table["gru"] == "3 × (5 × 6 + 6 × 6 + 2 × 6)"
    assert table["old_gru"] == "3 × (6 × 6 + 6 × 6 + 6)"
    assert table["simple"] == "6 × 4 + 4 × 4 + 4"
    assert table["both_ways/forward_lstm"] == table["both_ways/backward_lstm"] == "4 × (4 × 3 + 3 × 3 + 3)"
    assert table["attention/query"] == "6 × 2 × 4 + 2 × 4"
    assert table["each/inner"] == "6 × 3 + 3"
    assert table["dropout"] == "1"


def test_dropout_has_one_parameter_that_is_not_trained():
    rows = {row.layer: row for row in parameter_table(dense_classifier(hidden=(4,), dropout=0.5))}
    assert (rows["dropout1"].parameters, rows["dropout1"].trainable) == (1, 0)


def test_a_weight_of_the_model_itself_has_a_row():
    rows = {row.layer: row for row in parameter_table(subclassed_model())}
    assert list(rows) == ["first", "second", "third", "mine", "total"]
    assert (rows["mine"].kind, rows["mine"].parameters) == ("Mine", 2)


class Tied(layers.Layer):
    """Applies the transposed kernel of a dense layer."""

    def __init__(self, dense):
        super().__init__(name="tied")
        self.kernel = dense.kernel

    def call(self, x):
        return keras.ops.matmul(x, keras.ops.transpose(self.kernel))


def test_a_shared_weight_counts_once():
    dense = layers.Dense(2, name="dense")
    inputs = keras.Input((3,))
    code = dense(inputs)
    model = keras.Model(inputs, Tied(dense)(code))
    rows = {row.layer: row for row in parameter_table(model)}
    assert (rows["dense"].parameters, rows["tied"].parameters, rows["tied"].arithmetic) == (8, 0, "")
    assert rows["total"].parameters == model.count_params() == 8


def test_a_layer_in_two_models_is_listed_once():
    shared = keras.layers.Dense(3, name="shared")
    first = keras.Sequential([keras.Input((3,)), shared], name="first")
    second = keras.Sequential([keras.Input((3,)), shared, keras.layers.Dense(2, name="last")], name="second")
    inputs = keras.Input((3,))
    rows = parameter_table(keras.Model(inputs, second(first(inputs))))
    found = {row.layer: row.parameters for row in rows if row.parameters}
    assert found == {"first/shared": 3 * 3 + 3, "second/last": 3 * 2 + 2, "total": 20}


def test_a_model_without_weights_is_refused():
    with pytest.raises(CourseError, match="'later' has no weights yet"):
        parameter_table(keras.Sequential([layers.Dense(1)], name="later"))


# --- As text ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("build", MODELS)
def test_the_columns_of_the_text_are_aligned(build):
    rows = parameter_table(build())
    lines = format_parameter_table(rows).splitlines()
    assert len(lines) == len(rows) + 3
    assert len({len(line) for line in lines}) == 1
    assert set(lines[1]) == set(lines[-2]) == {"─"}
    for line, row in zip([*lines[2:-2], lines[-1]], rows, strict=True):
        cells = [cell.strip() for cell in line.split("  ") if cell.strip()]
        assert cells[0] == row.layer
        assert cells[-2:] == [f"{row.parameters:,}", f"{row.trainable:,}"]
        assert row.arithmetic in line


def test_the_text_shows_the_batch_and_unknown_sizes():
    lines = format_parameter_table(parameter_table(text())).splitlines()
    assert lines[0].split() == ["layer", "kind", "output", "arithmetic", "parameters", "trainable"]
    assert "(batch, any, 64)" in lines[2]
