"""The generator against its authors' known answers, an independent implementation, and statistics."""

import math

import keras
import numpy as np
import pytest
from keras import ops
from scipy import stats

from keras_course import randomness
from keras_course.errors import CourseError
from keras_course.randomness import Dropout, draw_weights, initialize, stream_key

KEY = stream_key(0, "test")


def threefry_reference(key, counter):
    """Threefry-2x32-20 as its authors write it, on Python's unbounded integers."""

    def rotate(x, distance):
        return ((x << distance) | (x >> (32 - distance))) & 0xFFFFFFFF

    keys = [key[0], key[1], 0x1BD11BDA ^ key[0] ^ key[1]]
    x = [(counter[0] + keys[0]) & 0xFFFFFFFF, (counter[1] + keys[1]) & 0xFFFFFFFF]
    for round_number in range(20):
        x[0] = (x[0] + x[1]) & 0xFFFFFFFF
        x[1] = rotate(x[1], [13, 15, 26, 6, 17, 29, 16, 24][round_number % 8]) ^ x[0]
        if round_number % 4 == 3:
            injection = round_number // 4 + 1
            x[0] = (x[0] + keys[injection % 3]) & 0xFFFFFFFF
            x[1] = (x[1] + keys[(injection + 1) % 3] + injection) & 0xFFFFFFFF
    return x


# Random123's kat_vectors: threefry2x32 with 20 rounds
KNOWN_ANSWERS = [
    ((0x00000000, 0x00000000), (0x00000000, 0x00000000), (0x6B200159, 0x99BA4EFE)),
    ((0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), (0x1CB996FC, 0xBB002BE7)),
    ((0x13198A2E, 0x03707344), (0x243F6A88, 0x85A308D3), (0xC4923A9C, 0x483DF7A0)),
]


def jitted(function):
    """Runs a function of no tensor inside a compiled program of whatever backend is there, and returns NumPy."""

    class Program(keras.layers.Layer):
        def call(self, x):
            return function(x)

    layer = Program()

    class Model(keras.Model):
        def __init__(self):
            super().__init__()
            self.layer = layer

        def call(self, x):
            return self.layer(x)

    model = Model()
    model.compile(jit_compile=keras.backend.backend() != "torch")
    return model.predict(np.zeros((1, 1), "int32"), batch_size=1, verbose=0)


class TestThreefry:
    @pytest.mark.parametrize(("key", "counter", "expected"), KNOWN_ANSWERS)
    def test_known_answers(self, key, counter, expected):
        words = randomness.threefry_2x32(key, *np.array(counter, "uint32").view("int32").reshape(2, 1))
        assert tuple(int(word[0]) & 0xFFFFFFFF for word in words) == expected
        assert tuple(threefry_reference(key, counter)) == expected

    def test_against_plain_integers_on_the_device(self):
        counters = np.random.default_rng(0).integers(-(2**31), 2**31, (2, 50), dtype="int32")
        words = randomness.threefry_2x32(KEY, *map(ops.convert_to_tensor, counters), library=ops)
        words = np.stack([ops.convert_to_numpy(word) for word in words]).view("uint32")
        expected = [threefry_reference(KEY, [int(c) & 0xFFFFFFFF for c in counter]) for counter in counters.T]
        np.testing.assert_array_equal(words.T, expected)


DRAWS = {
    "random_bits": lambda library, **where: randomness.random_bits(KEY, (7, 33), library=library, **where),
    "uniform": lambda library, **where: randomness.uniform(KEY, (7, 33), library=library, **where),
    "integers": lambda library, **where: randomness.integers(KEY, (7, 33), 1000, library=library, **where),
    "keep_mask": lambda library, **where: randomness.keep_mask(KEY, (7, 33), 0.3, library=library, **where),
    "permutation": lambda library, **where: randomness.permutation(KEY, 1001, library=library, **where),
}


class TestTwins:
    @pytest.mark.parametrize("name", DRAWS)
    def test_device_draws_the_bits_of_the_host(self, name):
        on_host = DRAWS[name](np, step=3)
        on_device = ops.convert_to_numpy(DRAWS[name](ops, step=ops.convert_to_tensor(np.int32(3))))
        assert on_device.dtype == on_host.dtype
        np.testing.assert_array_equal(on_device, on_host)

    @pytest.mark.parametrize("name", DRAWS)
    def test_compiled_program_draws_the_bits_of_the_host(self, name):
        on_host = DRAWS[name](np, step=5)
        on_device = jitted(lambda x: ops.expand_dims(DRAWS[name](ops, step=ops.sum(x) + 5), 0))[0]
        np.testing.assert_array_equal(on_device, on_host)

    def test_normal_agrees_to_the_last_bits(self):
        on_host = randomness.normal(KEY, (100, 101))
        on_device = ops.convert_to_numpy(randomness.normal(KEY, (100, 101), library=ops))
        np.testing.assert_allclose(on_device, on_host, rtol=1e-5, atol=2e-6)

    @pytest.mark.parametrize("shape", [(), (1,), (5,), (4, 1), (2, 3, 5)])
    def test_any_shape(self, shape):
        assert randomness.uniform(KEY, shape).shape == shape
        assert randomness.normal(KEY, shape).shape == shape
        assert tuple(ops.shape(randomness.uniform(KEY, shape, library=ops))) == shape

    def test_a_shard_draws_its_part_of_the_whole(self):
        whole = randomness.uniform(KEY, (8, 5), step=2)
        parts = [randomness.uniform(KEY, (4, 5), step=2, first_row=row) for row in (0, 4)]
        np.testing.assert_array_equal(np.concatenate(parts), whole)


class TestStatistics:
    """Each test asks for a p-value that a good generator misses once in a million seeds; the seed is fixed."""

    N = 200_000

    def test_uniform_is_uniform(self):
        assert stats.kstest(randomness.uniform(KEY, (self.N,)), "uniform").pvalue > 1e-3

    def test_every_bit_is_fair(self):
        bits = np.unpackbits(randomness.random_bits(KEY, (self.N,)).view("uint8").reshape(-1, 4), axis=1)
        pvalues = [stats.binomtest(int(ones), self.N).pvalue for ones in bits.sum(axis=0)]
        assert min(pvalues) > 1e-4

    def test_normal_is_normal(self):
        draws = randomness.normal(KEY, (self.N,))
        assert stats.kstest(draws, "norm").pvalue > 1e-3
        assert abs(draws).max() > 4

    def test_integers_are_uniform(self):
        counts = np.bincount(randomness.integers(KEY, (self.N,), 7), minlength=7)
        assert stats.chisquare(counts).pvalue > 1e-3

    @pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
    def test_mask_keeps_the_right_share(self, rate):
        kept = randomness.keep_mask(KEY, (self.N,), rate).sum()
        assert stats.binomtest(int(kept), self.N, 1 - rate).pvalue > 1e-3

    @pytest.mark.parametrize(
        "other",
        [
            {"step": 1},
            {"first_row": 1},
            {"key": stream_key(1, "test")},
            {"key": stream_key(0, "tesu")},
            {"key": stream_key(0, "test", 0)},
        ],
        ids=["step", "row", "seed", "name", "path"],
    )
    def test_streams_are_independent(self, other):
        first = randomness.uniform(KEY, (1, self.N))[0]
        second = randomness.uniform(**{"key": KEY, "shape": (1, self.N), **other})[0]
        assert stats.pearsonr(first, second).pvalue > 1e-3
        cells = np.histogram2d(first, second, bins=16, range=[[0, 1], [0, 1]])[0]
        assert stats.chisquare(cells.ravel()).pvalue > 1e-3

    def test_neighbours_are_independent(self):
        draws = randomness.uniform(KEY, (self.N,))
        for lag in (1, 2, self.N // 2):
            assert stats.pearsonr(draws[:-lag], draws[lag:]).pvalue > 1e-3

    def test_every_permutation_is_as_likely(self):
        orders = [tuple(randomness.permutation(KEY, 4, step=step)) for step in range(4800)]
        counts = np.unique(orders, axis=0, return_counts=True)[1]
        assert len(counts) == 24
        assert stats.chisquare(counts).pvalue > 1e-3


GOLDEN = {
    "shuffle": (2888239196, 4014304589),
    "long": (124722234, 2732151901),
    "bits": [1727379851, 733356062, 986480700, 1484331423, 1816748234],
    "permutation": [5, 8, 2, 3, 7, 4, 9, 1, 0, 6],
    "uniform": [0.3813170790672302, 0.30692023038864136, 0.5727489590644836],
    "normal": [-0.879357099533081, -0.841028094291687, 0.20403993129730225],
}


class TestStability:
    """A change of any of these breaks every run that somebody wants to repeat."""

    def test_golden_values(self):
        assert stream_key(0, "shuffle") == GOLDEN["shuffle"]
        assert stream_key(2**63, "hidden1/kernel", 7) == GOLDEN["long"]
        assert randomness.random_bits(KEY, (5,), step=2).tolist() == GOLDEN["bits"]
        assert randomness.permutation(KEY, 10).tolist() == GOLDEN["permutation"]
        assert randomness.uniform(KEY, (3,)).tolist() == GOLDEN["uniform"]
        np.testing.assert_allclose(randomness.normal(KEY, (3,)), GOLDEN["normal"], rtol=1e-6)

    @pytest.mark.parametrize("seed", [-1, 2**64, 1.5, True, "0", None])
    def test_a_seed_that_is_none(self, seed):
        with pytest.raises(CourseError, match="seed is"):
            stream_key(seed, "x")

    def test_high_out_of_range(self):
        with pytest.raises(CourseError, match="high is 0"):
            randomness.integers(KEY, (2,), 0)


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


class TestDropout:
    def test_golden_mask(self):
        layer = Dropout(0.5, seed=0, name="golden")
        first = ops.convert_to_numpy(layer(np.ones((4, 6), "float32"), training=True))
        second = ops.convert_to_numpy(layer(np.ones((4, 6), "float32"), training=True))
        key = stream_key(0, "golden", "dropout")
        for step, dropped in enumerate([first, second]):
            np.testing.assert_array_equal(dropped, 2.0 * randomness.keep_mask(key, (4, 6), 0.5, step=step))
        assert not np.array_equal(first, second)

    def test_inference_changes_nothing_and_counts_nothing(self):
        layer = Dropout(0.5, name="d")
        x = np.ones((2, 3), "float32")
        np.testing.assert_array_equal(ops.convert_to_numpy(layer(x)), x)
        assert int(ops.convert_to_numpy(layer.step.value)) == 0

    def test_keeps_the_mean(self):
        dropped = ops.convert_to_numpy(Dropout(0.3, name="d")(np.ones((500, 200), "float32"), training=True))
        assert dropped.mean() == pytest.approx(1, abs=0.01)

    @pytest.mark.parametrize("rate", [-0.1, 1.0, 2])
    def test_rate_out_of_range(self, rate):
        with pytest.raises(CourseError, match="rate is"):
            Dropout(rate)

    def test_saves_and_loads_with_its_step(self, tmp_path):
        model = keras.Sequential([keras.Input((40,)), Dropout(0.5, seed=3, name="drop")])
        x = np.ones((2, 40), "float32")
        model(x, training=True)
        model.save(tmp_path / "model.keras")
        loaded = keras.saving.load_model(tmp_path / "model.keras", compile=False)
        assert loaded.get_layer("drop").get_config() == model.get_layer("drop").get_config()
        expected = ops.convert_to_numpy(model(x, training=True))
        np.testing.assert_array_equal(ops.convert_to_numpy(loaded(x, training=True)), expected)

    def test_mixed_precision(self):
        layer = Dropout(0.5, name="d", dtype="mixed_bfloat16")
        dropped = layer(ops.ones((2, 8), "bfloat16"), training=True)
        assert keras.backend.standardize_dtype(dropped.dtype) == "bfloat16"
        assert set(ops.convert_to_numpy(ops.cast(dropped, "float32")).ravel()) == {0.0, 2.0}

    def test_masks_of_keras_own_loop(self):
        """Keras' ``fit``, compiled, a step at a time or several in one call, drops what the host says."""
        steps = 6
        for steps_per_execution in (1, 3):
            layer = Dropout(0.5, seed=1, name="drop")
            model = keras.Sequential([keras.Input((8,)), layer, keras.layers.Dense(1, name="out", use_bias=False)])
            model.layers[-1].kernel.assign(np.ones((8, 1)))
            # with learning rate 1, loss = output and inputs of one, each weight falls by its mask
            model.compile(
                keras.optimizers.SGD(1.0),
                loss=lambda labels, outputs: ops.mean(outputs),
                steps_per_execution=1 if keras.backend.backend() == "torch" else steps_per_execution,
            )
            model.fit(np.ones((steps, 8)), np.ones((steps, 1)), batch_size=1, epochs=1, shuffle=False, verbose=0)
            key = stream_key(1, "drop", "dropout")
            masks = [2.0 * randomness.keep_mask(key, (1, 8), 0.5, step=step)[0] for step in range(steps)]
            kernel = ops.convert_to_numpy(model.layers[-1].kernel)[:, 0]
            np.testing.assert_allclose(kernel, 1 - np.sum(masks, axis=0), atol=1e-5)
