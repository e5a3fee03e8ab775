"""Dropout: the masks of the generator, a new one each step, in any loop."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_course import randomness
from keras_course.errors import CourseError
from keras_course.randomness import Dropout, stream_key


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
