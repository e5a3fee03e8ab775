"""Initial weights: their distribution is that of Keras' initializers, and each weight has its own stream."""

import math

import keras
import numpy as np
import pytest
from keras import ops
from scipy import stats

from keras_course.errors import CourseError
from keras_course.randomness import draw_weights, initialize, stream_key

KEY = stream_key(0, "test")

INITIALIZERS = {
    "glorot_uniform": (keras.initializers.GlorotUniform(), math.sqrt(2 / (300 + 200))),
    "glorot_normal": (keras.initializers.GlorotNormal(), math.sqrt(2 / (300 + 200))),
    "he_uniform": (keras.initializers.HeUniform(), math.sqrt(2 / 300)),
    "he_normal": (keras.initializers.HeNormal(), math.sqrt(2 / 300)),
    "lecun_uniform": (keras.initializers.LecunUniform(), math.sqrt(1 / 300)),
    "lecun_normal": (keras.initializers.LecunNormal(), math.sqrt(1 / 300)),
    "fan_out": (keras.initializers.VarianceScaling(2.0, "fan_out", "untruncated_normal"), math.sqrt(2 / 200)),
    "random_uniform": (keras.initializers.RandomUniform(-0.3, 0.3), 0.3 / math.sqrt(3)),
    "random_normal": (keras.initializers.RandomNormal(stddev=0.2), 0.2),
    # the standard deviation of a normal distribution cut off at two of its own
    "truncated_normal": (keras.initializers.TruncatedNormal(stddev=0.2), 0.2 * stats.truncnorm.std(-2, 2)),
}


class TestInitialWeights:
    @pytest.mark.parametrize("name", INITIALIZERS)
    def test_mean_and_spread(self, name):
        initializer, deviation = INITIALIZERS[name]
        weights = draw_weights(initializer, (300, 200), KEY)
        assert weights.dtype == np.float32
        assert abs(weights.mean()) < 4 * deviation / math.sqrt(weights.size)
        assert weights.std() == pytest.approx(deviation, rel=0.02)

    def test_distribution_is_that_of_keras(self):
        """Keras draws other numbers, but from the same distribution (two-sample Kolmogorov-Smirnov)."""
        for name, (initializer, _) in INITIALIZERS.items():
            seeded = type(initializer).from_config({**initializer.get_config(), "seed": 5})
            by_keras = ops.convert_to_numpy(seeded((200, 150))).ravel()
            ours = draw_weights(initializer, (200, 150), stream_key(1, name)).ravel()
            assert stats.ks_2samp(by_keras, ours).pvalue > 1e-3, name

    def test_convolution_counts_its_window(self):
        weights = draw_weights(keras.initializers.HeNormal(), (3, 3, 16, 64), KEY)
        assert weights.std() == pytest.approx(math.sqrt(2 / (3 * 3 * 16)), rel=0.05)

    @pytest.mark.parametrize("shape", [(6, 4), (4, 6), (3, 3, 2, 8)])
    def test_orthogonal(self, shape):
        weights = draw_weights(keras.initializers.Orthogonal(gain=2.0), shape, KEY).reshape(-1, shape[-1])
        product = weights.T @ weights if len(weights) >= shape[-1] else weights @ weights.T
        np.testing.assert_allclose(product, 4 * np.eye(len(product)), atol=1e-5)

    def test_unknown_initializer(self):
        class Mine(keras.initializers.Initializer):
            def __call__(self, shape, dtype=None):
                return np.zeros(shape)

        with pytest.raises(CourseError, match="Mine"):
            draw_weights(Mine(), (2, 2), KEY)

    def test_each_weight_is_keyed_by_its_own_path(self):
        model = self.recurrent()
        weights = {variable.path: ops.convert_to_numpy(variable) for variable in model.trainable_variables}
        again = {variable.path: ops.convert_to_numpy(variable) for variable in self.recurrent().trainable_variables}
        other = {variable.path: ops.convert_to_numpy(variable) for variable in self.recurrent(1).trainable_variables}
        random = [path for path in weights if not path.endswith(("bias", "gamma", "beta"))]
        assert len(random) == 7
        assert len({weights[path].ravel()[0].item() for path in random}) == len(random)
        for path in weights:
            np.testing.assert_array_equal(weights[path], again[path])
            assert np.array_equal(weights[path], other[path]) == (path not in random), path

    @staticmethod
    def recurrent(seed=0):
        inputs = keras.Input((5,), dtype="int32")
        x = keras.layers.Embedding(11, 4, name="embedding")(inputs)
        x = keras.layers.MultiHeadAttention(1, 4, name="attention")(x, x)
        x = keras.layers.LSTM(4, name="lstm")(x)
        return initialize(keras.Model(inputs, x), seed=seed)

    def test_model_without_weights(self):
        with pytest.raises(CourseError, match="no weights yet"):
            initialize(keras.Sequential([keras.layers.Dense(2)]), seed=0)

    def test_a_weight_that_does_not_say_how_it_starts(self):
        class Token(keras.layers.Layer):
            def build(self, input_shape):
                self.token = self.add_weight(name="token", shape=(3,), initializer="random_normal")

            def call(self, x):
                return x + self.token

        with pytest.raises(CourseError, match="token_initializer"):
            initialize(keras.Sequential([keras.Input((3,)), Token(name="mine")]), seed=0)


def test_a_row_of_weights_has_as_many_inputs_as_outputs():
    """Keras counts the numbers of a row as both: the standard deviation is sqrt(2 / (n + n))."""
    row = draw_weights(keras.initializers.GlorotNormal(), (40_000,), KEY)
    assert row.std() == pytest.approx(math.sqrt(1 / 40_000), rel=0.02)


def test_two_weights_of_one_name_are_refused():
    class Twice(keras.Model):
        def __init__(self):
            super().__init__(name="twice")
            self.one, self.two = keras.layers.Dense(2, name="same"), keras.layers.Dense(2, name="same")

        def call(self, x):
            return self.two(self.one(x))

    model = Twice()
    model(np.zeros((1, 2), "float32"))
    with pytest.raises(CourseError, match="two weights of 'twice' are called 'twice/same/kernel'; give each layer"):
        initialize(model, seed=0)
