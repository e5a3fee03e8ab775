"""Where in a picture the reasons for an answer are, for a model that only answers."""

from collections.abc import Callable, Iterable
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image

PLACES: Final = 12
"""To how many places along each side the cover is put."""


def occlusion(
    run: Callable[[np.ndarray], np.ndarray], picture: npt.NDArray[np.uint8], label: int, *, places: int = PLACES
) -> npt.NDArray[np.float64]:
    """Covers one part of a picture after the other, and sees how much less it is then taken for the class.

    Grad-CAM needs gradients, which an exported model does not give. This takes one batch of answers in their place.

    Args:
        run: From pictures (n, height, width, channels) to logits (n, classes).
        picture: One picture (height, width, channels).
        label: The class.
        places: To how many places along each side the cover is put. It is twice as wide as they are apart.

    Returns:
        The heat of each pixel, (height, width), from 0 to 1: how far the logit falls when it is covered, divided by the
        furthest fall. It is 0 everywhere where no cover makes the class less likely.

    Example:
        >>> dot = np.zeros((24, 24, 1), "uint8")
        >>> dot[6, 18] = 255
        >>> def brightness(pictures):
        ...     return pictures.reshape(len(pictures), -1).sum(axis=1, dtype="float32")[:, None]
        >>> heat = occlusion(brightness, dot, 0)
        >>> [int(place) for place in np.unravel_index(heat.argmax(), heat.shape)]
        [5, 17]

    Source: M. D. Zeiler and R. Fergus, "Visualizing and understanding convolutional networks", 2014, section 4.2.
    """
    logits = run(covered(picture, range(places * places + 1), places=places))[:, label]
    return heat_of(logits, picture.shape[0], picture.shape[1])


def covered(picture: npt.NDArray[np.uint8], numbers: Iterable[int], *, places: int = PLACES) -> npt.NDArray[np.uint8]:
    """Makes some of the pictures in which one part is covered, so that not all of them need be there at once.

    Args:
        picture: One picture (height, width, channels).
        numbers: Which places to cover, from 0, row by row; the number after the last place covers nothing.
        places: As for ``occlusion``.

    Returns:
        One picture for each number, (n, height, width, channels).

    Example:
        >>> covered(np.array([[[0], [0], [9], [9]]], "uint8"), [0, 4], places=2)[:, 0, :, 0]
        array([[4, 4, 4, 9],
               [0, 0, 9, 9]], dtype=uint8)
    """
    height, width, _ = picture.shape
    ground = np.median(picture, axis=(0, 1)).astype("uint8")
    made = []
    for number in numbers:
        one = picture.copy()
        if number < places * places:
            row, column = divmod(number, places)
            top, bottom = (max(0, round((row + shift) * height / places)) for shift in (-0.5, 1.5))
            left, right = (max(0, round((column + shift) * width / places)) for shift in (-0.5, 1.5))
            one[top:bottom, left:right] = ground
        made.append(one)
    return np.stack(made)


def heat_of(logits: npt.ArrayLike, height: int, width: int) -> npt.NDArray[np.float64]:
    """Computes the heat of each pixel from the answers to covered pictures.

    Args:
        logits: The logit of the class for each place, row by row, and last that of the picture itself.
        height: Pixels of the picture.
        width: Pixels of the picture.

    Returns:
        As ``occlusion``.

    Example:
        >>> heat_of([5, 5, 5, 1, 5], 2, 2)
        array([[0., 0.],
               [0., 1.]])
    """
    values = np.asarray(logits, "float64")
    places = round(np.sqrt(len(values) - 1))
    fall = np.maximum(values[-1] - values[:-1], 0).reshape(places, places)
    fall /= fall.max() or 1.0
    heat = Image.fromarray(fall.astype("float32")).resize((width, height), Image.Resampling.BILINEAR)
    return np.clip(np.asarray(heat, "float64"), 0, 1)
