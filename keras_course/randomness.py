"""One counter-based generator, so that one seed means the same numbers on every backend.

The generator is Threefry-2x32 with 20 rounds (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011): a
function from a key and a counter to 64 random bits that uses nothing but 32-bit additions, rotations and exclusive
ors. It has no state, so what it draws depends on *where* a number is needed and on nothing else: not on the backend,
not on the device, not on how the work is cut into batches or shards.

Each function below is written once, in the operations that NumPy and ``keras.ops`` share. ``library=numpy`` (the
default) draws on the host; ``library=keras.ops`` draws the same bits on the device, inside a compiled step.
"""

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType
from typing import Any

import keras
import numpy as np

from keras_course import _backend
from keras_course._backend.libraries import cast
from keras_course.errors import CourseError, check_fractions

Key = tuple[int, int]

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_KEY_PARITY = 0x1BD11BDA
_ROUNDS_OF_FOUR = 5
_MANTISSA_BITS = 24  # a float32 holds every whole number up to 2**24 exactly

_CONSTANT_INITIALIZERS = (
    keras.initializers.Zeros,
    keras.initializers.Ones,
    keras.initializers.Constant,
    keras.initializers.Identity,
)
# Keras calls the initialiser of a weight w `w_initializer`, but for these:
_INITIALIZER_ATTRIBUTES = {
    "recurrent_kernel": "recurrent_initializer",
    "depthwise_kernel": "depthwise_initializer",
    "pointwise_kernel": "pointwise_initializer",
}


def stream_key(seed: int, *path: str | int) -> Key:
    """Derives the key of an independent stream of random numbers from a seed and the stream's name.

    Args:
        seed: A whole number from 0 to 2**64 - 1.
        *path: The name of the stream, for example ``"hidden1", "dropout"`` or ``"shuffle", 3``.

    Returns:
        Two 32-bit words, each a whole number from 0 to 2**32 - 1.

    Raises:
        CourseError: The seed is not a whole number in range.

    Example:
        >>> stream_key(0, "shuffle") == stream_key(0, "shuffle")
        True
        >>> stream_key(0, "shuffle") == stream_key(1, "shuffle")
        False
    """
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or not 0 <= seed < 2**64:
        raise CourseError(f"seed is {seed!r}; give a whole number from 0 to 2**64 - 1")
    key = (int(seed) & 0xFFFFFFFF, int(seed) >> 32)
    for name in path:
        digest = hashlib.blake2b(f"{type(name).__name__}:{name}".encode(), digest_size=8).digest()
        counter = np.frombuffer(digest, "<i4")
        words = threefry_2x32(key, counter[:1], counter[1:])
        key = (int(words[0][0]) & 0xFFFFFFFF, int(words[1][0]) & 0xFFFFFFFF)
    return key


def threefry_2x32(key: Key, counter0: Any, counter1: Any, *, library: ModuleType = np) -> tuple[Any, Any]:
    """Mixes a key and a counter into 64 random bits (Threefry-2x32, 20 rounds).

    Args:
        key: Two words from 0 to 2**32 - 1.
        counter0: An int32 array.
        counter1: An int32 array that broadcasts with ``counter0``.
        library: ``numpy`` or ``keras.ops``.

    Returns:
        Two int32 arrays of random bits.

    Example:
        >>> word0, word1 = threefry_2x32((0, 0), np.zeros(1, "int32"), np.zeros(1, "int32"))
        >>> [hex(int(word[0]) & 0xFFFFFFFF) for word in (word0, word1)]  # the authors' first known answer
        ['0x6b200159', '0x99ba4efe']
    """
    keys = (key[0], key[1], key[0] ^ key[1] ^ _KEY_PARITY)
    x0, x1 = counter0 + _signed(keys[0]), counter1 + _signed(keys[1])
    for group in range(_ROUNDS_OF_FOUR):
        for distance in _ROTATIONS[group % 2]:
            x0 = x0 + x1
            x1 = library.bitwise_xor(_rotate_left(x1, distance, library), x0)
        x0 = x0 + _signed(keys[(group + 1) % 3])
        x1 = x1 + _signed(keys[(group + 2) % 3] + group + 1)
    return x0, x1


def random_bits(key: Key, shape: Sequence[int], *, step: Any = 0, first_row: Any = 0, library: ModuleType = np) -> Any:
    """Draws an int32 array of random bits.

    Args:
        key: The stream, from ``stream_key``.
        shape: Shape of the array. All axes but the last count as rows.
        step: The draw's number within the stream: a whole number or an int32 scalar tensor.
        first_row: The number of the first row. A shard that starts at row ``r`` of a batch draws, with
            ``first_row=r``, what the whole batch would have drawn there.
        library: ``numpy`` or ``keras.ops``.

    Returns:
        An int32 array of that shape, uniform over all 2**32 values.

    Example:
        >>> random_bits(stream_key(0, "example"), (2, 3)).shape
        (2, 3)
    """
    *outer, columns = shape if len(shape) else (1,)
    lanes = (columns + 1) // 2  # each counter yields two words: the left and the right half of a row
    rows = _product(outer)
    row = library.arange(rows, dtype="int32") + first_row
    lane = library.arange(lanes, dtype="int32")
    counter = library.expand_dims(row * lanes, 1) + lane  # (rows, lanes)
    draw = library.broadcast_to(library.cast(step, "int32") if library is not np else np.int32(step), (1, 1))
    left, right = threefry_2x32(key, counter, draw, library=library)
    words = library.concatenate([left, right], axis=1)[:, :columns]
    return library.reshape(words, tuple(shape))


def uniform(key: Key, shape: Sequence[int], *, step: Any = 0, first_row: Any = 0, library: ModuleType = np) -> Any:
    """Draws float32 numbers, uniform over the 2**24 multiples of 2**-24 in [0, 1); the same bits everywhere.

    Args:
        key: The stream, from ``stream_key``.
        shape: Shape of the array.
        step: The draw's number within the stream.
        first_row: The number of the first row, as in ``random_bits``.
        library: ``numpy`` or ``keras.ops``.

    Returns:
        A float32 array.

    Example:
        >>> float(uniform(stream_key(0, "example"), (1000,)).mean().round(1))
        0.5
    """
    whole = _top_bits(random_bits(key, shape, step=step, first_row=first_row, library=library), library)
    return cast(whole, "float32", library) * np.float32(2.0**-_MANTISSA_BITS)


def normal(key: Key, shape: Sequence[int], *, step: Any = 0, first_row: Any = 0, library: ModuleType = np) -> Any:
    """Draws float32 numbers from the standard normal distribution by the Box-Muller transform.

    The bits behind them are the same everywhere; the logarithm and the cosine differ between libraries in the last bits
    of a float32 (about 1e-6).

    Args:
        key: The stream, from ``stream_key``.
        shape: Shape of the array.
        step: The draw's number within the stream.
        first_row: The number of the first row, as in ``random_bits``.
        library: ``numpy`` or ``keras.ops``.

    Returns:
        A float32 array. The largest possible magnitude is 5.77.

    Example:
        >>> draws = normal(stream_key(0, "example"), (10_000,))
        >>> bool(abs(draws.mean()) < 0.05 and abs(draws.std() - 1) < 0.05)
        True
    """
    *outer, columns = shape if len(shape) else (1,)
    pair = uniform(key, (*outer, 2 * columns), step=step, first_row=first_row, library=library)
    radius, angle = pair[..., :columns], pair[..., columns:]
    radius = library.sqrt(-2.0 * library.log(1.0 - radius))  # 1 - u lies in (0, 1], so the logarithm is finite
    return library.reshape(radius * library.cos(np.float32(2 * math.pi) * angle), tuple(shape))


def integers(
    key: Key, shape: Sequence[int], high: int, *, step: Any = 0, first_row: Any = 0, library: ModuleType = np
) -> Any:
    """Draws int32 numbers, uniform over 0 .. high - 1 (to within high / 2**31).

    Args:
        key: The stream, from ``stream_key``.
        shape: Shape of the array.
        high: One more than the largest number, from 1 to 2**31 - 1.
        step: The draw's number within the stream.
        first_row: The number of the first row, as in ``random_bits``.
        library: ``numpy`` or ``keras.ops``.

    Returns:
        An int32 array.

    Raises:
        CourseError: ``high`` is out of range.

    Example:
        >>> sorted(set(integers(stream_key(0, "dice"), (100,), 6).tolist()))
        [0, 1, 2, 3, 4, 5]
    """
    if not 1 <= high < 2**31:
        raise CourseError(f"high is {high}; give a whole number from 1 to 2**31 - 1")
    words = random_bits(key, shape, step=step, first_row=first_row, library=library)
    return library.mod(library.bitwise_and(words, 0x7FFFFFFF), high)


def keep_mask(
    key: Key, shape: Sequence[int], rate: float, *, step: Any = 0, first_row: Any = 0, library: ModuleType = np
) -> Any:
    """Draws a boolean mask in which each element is False with probability ``rate``.

    Args:
        key: The stream, from ``stream_key``.
        shape: Shape of the mask.
        rate: Probability of False, from 0 to 1; rounded to a multiple of 2**-24.
        step: The draw's number within the stream.
        first_row: The number of the first row, as in ``random_bits``.
        library: ``numpy`` or ``keras.ops``.

    Returns:
        A boolean array.

    Example:
        >>> float(keep_mask(stream_key(0, "example"), (10_000,), 0.2).mean().round(1))
        0.8
    """
    whole = _top_bits(random_bits(key, shape, step=step, first_row=first_row, library=library), library)
    return whole >= round(rate * 2**_MANTISSA_BITS)


def permutation(key: Key, size: int, *, step: Any = 0, library: ModuleType = np) -> Any:
    """Draws a random order of the numbers 0 .. size - 1.

    The numbers are sorted by random 32-bit keys. Two equal keys keep their order, which happens to fewer than one pair
    in a data set of 60,000.

    Args:
        key: The stream, from ``stream_key``.
        size: How many numbers.
        step: The draw's number within the stream, for example the epoch.
        library: ``numpy`` or ``keras.ops``.

    Returns:
        An int32 array of shape (size,).

    Example:
        >>> sorted(permutation(stream_key(0, "shuffle"), 5).tolist())
        [0, 1, 2, 3, 4]
    """
    words = random_bits(key, (size,), step=step, library=library)
    if library is np:
        return np.argsort(words, kind="stable").astype("int32")
    return library.cast(library.argsort(words), "int32")


@keras.saving.register_keras_serializable(package="keras_course")
class Dropout(keras.layers.Layer):
    """Sets a fraction of its inputs to zero during training: the same ones on every backend.

    The mask of training step ``t`` is a function of the seed, the layer's name, ``t`` and the position in the batch.
    ``t`` is a weight of the layer, so that it is saved, resumed and right when several steps run in one call; Keras
    counts it as one non-trainable parameter.

    Args:
        rate: Fraction of the inputs to drop, from 0 up to but not including 1.
        noise_shape: Shape of what is drawn, with 1 for an axis along which all is dropped or kept together, and None
            for one that is as long as that of the inputs: ``(None, 1, 1, 1)`` drops whole pictures. Without it, each
            number is dropped by itself.
        seed: The seed of the model.
        name: The layer's name. Two layers of one model with the same name would drop alike.
        **kwargs: As for any Keras layer.

    Raises:
        CourseError: The rate is out of range.

    Example:
        >>> layer = Dropout(0.5, seed=0, name="dropout")
        >>> kept = keras.ops.convert_to_numpy(layer(np.ones((1, 1000), "float32"), training=True))
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
        """Makes the counter of training steps."""
        self.step = self.add_weight(
            name="step", shape=(), dtype="int32", initializer="zeros", trainable=False, aggregation="only_first_replica"
        )

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Drops inputs in training, and passes them on as they are otherwise."""
        if not training or self.rate == 0:
            return inputs
        shape = keras.ops.shape(inputs)
        if self.noise_shape is not None:
            shape = tuple(side if drawn is None else drawn for side, drawn in zip(shape, self.noise_shape, strict=True))
        rows = _product(shape[:-1])
        mask = keep_mask(
            self._key,
            shape,
            self.rate,
            step=self.step.value,
            first_row=_backend.replica() * rows,
            library=keras.ops,
        )
        self.step.assign(self.step.value + 1)
        scale = keras.ops.cast(1 / (1 - self.rate), inputs.dtype)
        return keras.ops.where(mask, inputs * scale, keras.ops.zeros_like(inputs))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Returns the shape of the inputs."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """Returns what is needed to make the layer again."""
        return {**super().get_config(), "rate": self.rate, "noise_shape": self.noise_shape, "seed": self.seed}


def initialize(model: keras.Model, *, seed: int) -> keras.Model:
    """Draws the initial weights of a model on the host, keyed by the seed and the path of each weight.

    Each layer keeps the initialiser that it was made with; only the source of the random numbers is replaced. Layers
    need fixed names: the automatic ones (``dense_7``) depend on what the process has built before.

    Args:
        model: A built Keras model.
        seed: A whole number from 0 to 2**64 - 1.

    Returns:
        The same model, with new weights.

    Raises:
        CourseError: The model is not built, or a weight has an initialiser that cannot be drawn here.

    Example:
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="logits")])
        >>> weights = initialize(model, seed=0).get_weights()[0]
        >>> weights.shape, bool(abs(weights).max() <= (6 / (4 + 3)) ** 0.5)
        ((4, 3), True)
    """
    if not model.built:
        raise CourseError(f"model {model.name!r} has no weights yet; build it or give it a keras.Input first")
    drawn: set[str] = set()
    for variable, initializer in _random_weights(model):
        if variable.path in drawn:
            raise CourseError(
                f"two weights of {model.name!r} are called {variable.path!r}; give each layer its own name"
            )
        drawn.add(variable.path)
        weights = draw_weights(initializer, tuple(variable.shape), stream_key(seed, variable.path))
        if variable._value is None:  # in a StatelessScope, at whose end Keras gives each weight its first value
            variable._initializer = _returning(weights)
        else:
            variable.assign(weights)
    return model


def draw_weights(initializer: keras.initializers.Initializer, shape: tuple[int, ...], key: Key) -> np.ndarray:
    """Draws one weight from the distribution of a Keras initialiser, with the course's generator.

    Args:
        initializer: Any of Keras' random initialisers.
        shape: Shape of the weight; the last two axes are inputs and outputs, as in Dense and convolution kernels.
        key: The stream, from ``stream_key``.

    Returns:
        A float32 array.

    Raises:
        CourseError: The initialiser is of a kind not known here.

    Example:
        >>> draw_weights(keras.initializers.RandomUniform(-1, 1), (2, 3), stream_key(0, "kernel")).shape
        (2, 3)

    Source: Glorot & Bengio 2010; He et al. 2015; Saxe et al. 2014 (orthogonal).
    """
    match initializer:
        case keras.initializers.VarianceScaling(scale=scale, mode=mode, distribution=distribution):
            fan_in, fan_out = _fans(shape)
            variance = scale / max(1.0, {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}[mode])
            if distribution == "uniform":
                weights = _symmetric_uniform(key, shape) * math.sqrt(3 * variance)
            elif distribution == "truncated_normal":
                # 0.8796... is the standard deviation of a standard normal cut off at two
                weights = _truncated_normal(key, shape) * (math.sqrt(variance) / 0.87962566103423978)
            else:
                weights = normal(key, shape).astype("float64") * math.sqrt(variance)
        case keras.initializers.RandomUniform(minval=low, maxval=high):
            weights = low + (high - low) * uniform(key, shape).astype("float64")
        case keras.initializers.RandomNormal(mean=mean, stddev=deviation):
            weights = mean + deviation * normal(key, shape).astype("float64")
        case keras.initializers.TruncatedNormal(mean=mean, stddev=deviation):
            weights = mean + deviation * _truncated_normal(key, shape)
        case keras.initializers.OrthogonalInitializer(gain=gain):
            weights = gain * _orthogonal(key, shape)
        case _:
            kind = type(initializer).__name__
            raise CourseError(f"initialiser {kind} is not known to keras_course; use one of Keras' random initialisers")
    return np.asarray(weights, "float32")


def _signed(word: int) -> int:
    """The int32 with the same bits as the lowest 32 of a whole number."""
    word &= 0xFFFFFFFF
    return word - 2**32 if word >= 2**31 else word


def _rotate_left(x: Any, distance: int, library: ModuleType) -> Any:
    # >> on int32 copies the sign bit; the mask makes it a logical shift
    low = library.bitwise_and(library.right_shift(x, 32 - distance), (1 << distance) - 1)
    return library.bitwise_or(library.left_shift(x, distance), low)


def _top_bits(words: Any, library: ModuleType) -> Any:
    """The upper 24 of each 32 bits, as whole numbers from 0 to 2**24 - 1."""
    return library.bitwise_and(library.right_shift(words, 32 - _MANTISSA_BITS), (1 << _MANTISSA_BITS) - 1)


def _product(sizes: Sequence[Any]) -> Any:
    """The product of sizes that may be tensors, as those of a batch of unknown size are."""
    total: Any = 1
    for size in sizes:
        total = total * size
    return total


def _returning(weights: np.ndarray) -> Callable[..., Any]:
    return lambda shape, dtype=None: keras.ops.convert_to_tensor(weights, dtype)


def _random_weights(model: keras.Model) -> Iterator[tuple[keras.Variable, keras.initializers.Initializer]]:
    """Yields each weight that has a random initialiser, with that initialiser."""
    for layer in model._flatten_layers(include_self=False):
        for variable in layer._trainable_variables + layer._non_trainable_variables:
            attribute = _INITIALIZER_ATTRIBUTES.get(variable.name, f"{variable.name}_initializer")
            if variable.name == "kernel" and not hasattr(layer, attribute):
                attribute = "depthwise_initializer"
            # a weight that has no value yet knows its own, too
            initializer = getattr(layer, attribute, None) or getattr(variable, "_initializer", None)
            if initializer is None and variable.trainable:
                raise CourseError(
                    f"layer {layer.name!r} does not say how its weight {variable.name!r} starts; "
                    f"keep the initialiser as the layer's attribute {attribute!r}"
                )
            if initializer is not None and not isinstance(initializer, _CONSTANT_INITIALIZERS):
                yield variable, initializer


def _fans(shape: tuple[int, ...]) -> tuple[float, float]:
    """The numbers of inputs and of outputs of one unit, as Keras counts them."""
    if len(shape) < 2:
        size = float(math.prod(shape))
        return size, size
    receptive_field = math.prod(shape[:-2])
    return float(receptive_field * shape[-2]), float(receptive_field * shape[-1])


def _symmetric_uniform(key: Key, shape: tuple[int, ...]) -> np.ndarray:
    return 2 * uniform(key, shape).astype("float64") - 1


def _truncated_normal(key: Key, shape: tuple[int, ...]) -> np.ndarray:
    """Standard normal draws, each drawn again until it lies within two standard deviations."""
    draws = normal(key, shape)
    attempt = 0
    while (outside := np.abs(draws) > 2).any():
        attempt += 1
        draws = np.where(outside, normal(key, shape, step=attempt), draws)
    return draws.astype("float64")


def _orthogonal(key: Key, shape: tuple[int, ...]) -> np.ndarray:
    rows, columns = math.prod(shape[:-1]), shape[-1]
    draws = normal(key, (max(rows, columns), min(rows, columns))).astype("float64")
    basis, triangle = np.linalg.qr(draws)
    basis = basis * np.sign(np.diag(triangle))  # QR is unique only up to these signs
    return (basis if rows >= columns else basis.T).reshape(shape)
