"""Random layers of Keras, with the course's generator."""

from collections.abc import Sequence
from typing import Any

import keras

from keras_course import _backend
from keras_course.errors import check_fractions
from keras_course.randomness.generator import keep_mask, product_of, stream_key


@keras.saving.register_keras_serializable(package="keras_course")
class Dropout(keras.layers.Layer):
    """Sets a fraction of the inputs to zero during training: the same ones on every backend.

    The mask of training step ``t`` is a function of the seed, the layer's name, ``t`` and the position in the batch.
    ``t`` is a weight of the layer, so that it is saved, resumed and correct when several steps run in one call; Keras
    counts it as one non-trainable parameter.

    Args:
        rate: Fraction of the inputs to drop, from 0 up to but not including 1.
        noise_shape: Shape of the mask: 1 for an axis along which all values share one draw, None for the length of the
            inputs. ``(None, 1, 1, 1)`` drops whole pictures. By default each number has its own draw.
        seed: The seed of the model.
        name: The layer's name. Two layers with the same seed and name have the same masks.
        **kwargs: Arguments of a Keras layer.

    Raises:
        CourseError: The rate is out of range.

    Example:
        >>> layer = Dropout(0.5, seed=0, name="dropout")
        >>> kept = keras.ops.convert_to_numpy(layer(keras.ops.ones((1, 1000)), training=True))
        >>> sorted(set(kept.flatten().tolist()))
        [0.0, 2.0]

    Source: Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting", 2014.
    """

    def __init__(
        self,
        rate: float,
        *,
        noise_shape: Sequence[int | None] | None = None,
        seed: int = 0,
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(name=name, **kwargs)
        check_fractions(rate=rate)
        self.rate = rate
        self.noise_shape = None if noise_shape is None else tuple(noise_shape)
        self.seed = seed
        self.supports_masking = True
        self._key = stream_key(seed, self.name, "dropout")

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Adds the counter of training steps."""
        self.step = self.add_weight(
            name="step", shape=(), dtype="int32", initializer="zeros", trainable=False, aggregation="only_first_replica"
        )

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Drops inputs in training; at inference it is the identity."""
        if not training or self.rate == 0:
            return inputs
        shape = keras.ops.shape(inputs)
        if self.noise_shape is not None:
            shape = tuple(side if drawn is None else drawn for side, drawn in zip(shape, self.noise_shape, strict=True))
        rows = product_of(shape[:-1])
        mask = keep_mask(
            self._key, shape, self.rate, step=self.step.value, first_row=_backend.replica() * rows, xp=keras.ops
        )
        self.step.assign(self.step.value + 1)
        scale = keras.ops.cast(1 / (1 - self.rate), inputs.dtype)
        return keras.ops.where(mask, inputs * scale, keras.ops.zeros_like(inputs))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Returns the shape of the inputs."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments as they are saved."""
        return {**super().get_config(), "rate": self.rate, "noise_shape": self.noise_shape, "seed": self.seed}
