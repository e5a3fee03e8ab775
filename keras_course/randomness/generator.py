"""The random generator; it needs Keras only to draw with ``xp=keras.ops``."""

import hashlib
import math
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np

from keras_course._backend.libraries import cast
from keras_course.errors import CourseError

Key = tuple[int, int]

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_KEY_PARITY = 0x1BD11BDA
_ROUNDS_OF_FOUR = 5
_MANTISSA_BITS = 24  # a float32 holds every whole number up to 2**24 exactly


def stream_key(seed: int, *path: str | int) -> Key:
    """Derives the key of an independent random stream from a seed and the name of the stream.

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
        counter = name_words(name)
        words = threefry_2x32(key, counter[:1], counter[1:])
        key = (int(words[0][0]) & 0xFFFFFFFF, int(words[1][0]) & 0xFFFFFFFF)
    return key


def threefry_2x32(key: Key, counter0: Any, counter1: Any, *, xp: ModuleType = np) -> tuple[Any, Any]:
    """Computes 64 random bits from a key and a counter, as two int32 arrays (Threefry-2x32, 20 rounds).

    Args:
        key: Two words from 0 to 2**32 - 1.
        counter0: An int32 array.
        counter1: An int32 array that broadcasts with ``counter0``.
        xp: ``numpy`` or ``keras.ops``.

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
            x1 = xp.bitwise_xor(_rotate_left(x1, distance, xp), x0)
        x0 = x0 + _signed(keys[(group + 1) % 3])
        x1 = x1 + _signed(keys[(group + 2) % 3] + group + 1)
    return x0, x1


def random_bits(key: Key, shape: Sequence[int], *, step: Any = 0, first_row: Any = 0, xp: ModuleType = np) -> Any:
    """Draws an int32 array of random bits, uniform over all 2**32 values.

    Args:
        key: The stream, from ``stream_key``.
        shape: Shape of the array. All axes but the last count as rows.
        step: The draw's number within the stream: a whole number or an int32 scalar tensor.
        first_row: The number of the first row. With ``first_row=r``, a shard that starts at row ``r`` of a batch draws
            the same numbers as the whole batch has there.
        xp: ``numpy`` or ``keras.ops``.

    Example:
        >>> random_bits(stream_key(0, "example"), (2, 3)).shape
        (2, 3)
    """
    *outer, columns = shape if len(shape) else (1,)
    lanes = (columns + 1) // 2  # each counter yields two words: the left and the right half of a row
    rows = product_of(outer)
    row = xp.arange(rows, dtype="int32") + first_row
    lane = xp.arange(lanes, dtype="int32")
    counter = xp.expand_dims(row * lanes, 1) + lane  # (rows, lanes)
    draw = xp.broadcast_to(xp.cast(step, "int32") if xp is not np else np.int32(step), (1, 1))
    left, right = threefry_2x32(key, counter, draw, xp=xp)
    words = xp.concatenate([left, right], axis=1)[:, :columns]
    return xp.reshape(words, tuple(shape))


def uniform(key: Key, shape: Sequence[int], *, step: Any = 0, first_row: Any = 0, xp: ModuleType = np) -> Any:
    """Draws float32 numbers, uniform over the 2**24 multiples of 2**-24 in [0, 1); bit-identical on all backends.

    The arguments are those of ``random_bits``.

    Example:
        >>> float(uniform(stream_key(0, "example"), (1000,)).mean().round(1))
        0.5
    """
    whole = _top_bits(random_bits(key, shape, step=step, first_row=first_row, xp=xp), xp)
    return cast(whole, "float32", xp) * np.float32(2.0**-_MANTISSA_BITS)


def normal(key: Key, shape: Sequence[int], *, step: Any = 0, first_row: Any = 0, xp: ModuleType = np) -> Any:
    """Draws float32 numbers from the standard normal distribution by the Box-Muller transform.

    The random bits are the same on all backends; the logarithm and the cosine differ between libraries in the last bits
    of a float32 (about 1e-6). The largest possible magnitude is 5.77. The arguments are those of ``random_bits``.

    Example:
        >>> draws = normal(stream_key(0, "example"), (10_000,))
        >>> bool(abs(draws.mean()) < 0.05 and abs(draws.std() - 1) < 0.05)
        True
    """
    *outer, columns = shape if len(shape) else (1,)
    pair = uniform(key, (*outer, 2 * columns), step=step, first_row=first_row, xp=xp)
    radius, angle = pair[..., :columns], pair[..., columns:]
    radius = xp.sqrt(-2.0 * xp.log(1.0 - radius))  # 1 - u lies in (0, 1], so the logarithm is finite
    return xp.reshape(radius * xp.cos(np.float32(2 * math.pi) * angle), tuple(shape))


def integers(
    key: Key, shape: Sequence[int], high: int, *, step: Any = 0, first_row: Any = 0, xp: ModuleType = np
) -> Any:
    """Draws int32 numbers, uniform over 0 .. high - 1 (to within high / 2**31).

    Args:
        key: The stream, from ``stream_key``.
        shape: Shape of the array.
        high: The largest number plus 1, from 1 to 2**31 - 1.
        step: The draw's number within the stream.
        first_row: The number of the first row, as in ``random_bits``.
        xp: ``numpy`` or ``keras.ops``.

    Raises:
        CourseError: ``high`` is out of range.

    Example:
        >>> sorted(set(integers(stream_key(0, "dice"), (100,), 6).tolist()))
        [0, 1, 2, 3, 4, 5]
    """
    if not 1 <= high < 2**31:
        raise CourseError(f"high is {high}; give a whole number from 1 to 2**31 - 1")
    words = random_bits(key, shape, step=step, first_row=first_row, xp=xp)
    return xp.mod(xp.bitwise_and(words, 0x7FFFFFFF), high)


def keep_mask(
    key: Key, shape: Sequence[int], rate: float, *, step: Any = 0, first_row: Any = 0, xp: ModuleType = np
) -> Any:
    """Draws a boolean mask in which each element is False with probability ``rate``.

    Args:
        key: The stream, from ``stream_key``.
        shape: Shape of the mask.
        rate: Probability of False, from 0 to 1; rounded to a multiple of 2**-24.
        step: The draw's number within the stream.
        first_row: The number of the first row, as in ``random_bits``.
        xp: ``numpy`` or ``keras.ops``.

    Example:
        >>> float(keep_mask(stream_key(0, "example"), (10_000,), 0.2).mean().round(1))
        0.8
    """
    whole = _top_bits(random_bits(key, shape, step=step, first_row=first_row, xp=xp), xp)
    return whole >= round(rate * 2**_MANTISSA_BITS)


def permutation(key: Key, size: int, *, step: Any = 0, xp: ModuleType = np) -> Any:
    """Draws a random order of the numbers 0 .. size - 1, as int32.

    The numbers are sorted by random 32-bit keys. Two equal keys keep their order; a data set of 60,000 has on average
    fewer than one such pair.

    Args:
        key: The stream, from ``stream_key``.
        size: Number of numbers.
        step: The draw's number within the stream, for example the epoch.
        xp: ``numpy`` or ``keras.ops``.

    Example:
        >>> sorted(permutation(stream_key(0, "shuffle"), 5).tolist())
        [0, 1, 2, 3, 4]
    """
    words = random_bits(key, (size,), step=step, xp=xp)
    if xp is np:
        return np.argsort(words, kind="stable").astype("int32")
    return xp.cast(xp.argsort(words), "int32")


def name_words(name: str | int) -> np.ndarray:
    """Returns the two int32 words of one part of a stream's name."""
    return np.frombuffer(hashlib.blake2b(f"{type(name).__name__}:{name}".encode(), digest_size=8).digest(), "<i4")


def _signed(word: int) -> int:
    """Returns the int32 with the lowest 32 bits of a whole number."""
    word &= 0xFFFFFFFF
    return word - 2**32 if word >= 2**31 else word


def _rotate_left(x: Any, distance: int, xp: ModuleType) -> Any:
    # >> on int32 copies the sign bit; the mask makes it a logical shift
    low = xp.bitwise_and(xp.right_shift(x, 32 - distance), (1 << distance) - 1)
    return xp.bitwise_or(xp.left_shift(x, distance), low)


def _top_bits(words: Any, xp: ModuleType) -> Any:
    """Returns the upper 24 of each 32 bits, as whole numbers from 0 to 2**24 - 1."""
    return xp.bitwise_and(xp.right_shift(words, 32 - _MANTISSA_BITS), (1 << _MANTISSA_BITS) - 1)


def product_of(sizes: Sequence[Any]) -> Any:
    """Returns the product of sizes, which may be tensors, like those of a batch of unknown size."""
    total: Any = 1
    for size in sizes:
        total = total * size
    return total
