"""The generator against its authors' known answers, an independent implementation, and statistics; without Keras."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from keras_course import randomness
from keras_course.errors import CourseError
from keras_course.randomness import stream_key

ROOT = Path(__file__).parents[2]
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


class TestThreefry:
    @pytest.mark.parametrize(("key", "counter", "expected"), KNOWN_ANSWERS)
    def test_known_answers(self, key, counter, expected):
        words = randomness.threefry_2x32(key, *np.array(counter, "uint32").view("int32").reshape(2, 1))
        assert tuple(int(word[0]) & 0xFFFFFFFF for word in words) == expected
        assert tuple(threefry_reference(key, counter)) == expected

    def test_against_plain_integers(self):
        counters = np.random.default_rng(0).integers(-(2**31), 2**31, (2, 50), dtype="int32")
        words = np.stack(randomness.threefry_2x32(KEY, *counters)).view("uint32")
        expected = [threefry_reference(KEY, [int(c) & 0xFFFFFFFF for c in counter]) for counter in counters.T]
        np.testing.assert_array_equal(words.T, expected)


class TestShapes:
    @pytest.mark.parametrize("shape", [(), (1,), (5,), (4, 1), (2, 3, 5)])
    def test_any_shape(self, shape):
        assert randomness.uniform(KEY, shape).shape == shape
        assert randomness.normal(KEY, shape).shape == shape

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

    def test_neighbors_are_independent(self):
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


class TestWithoutKeras:
    """Data and pictures are drawn, read and prepared where no backend is, and faster where one is."""

    def test_the_generator_imports_no_keras(self):
        code = "import sys, keras_course.randomness, keras_course.datasets.photo_folder; print('keras' in sys.modules)"
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        assert done.stdout == "False\n"

    def test_a_name_that_it_does_not_have(self):
        with pytest.raises(AttributeError, match="shuffle"):
            randomness.shuffle  # noqa: B018
