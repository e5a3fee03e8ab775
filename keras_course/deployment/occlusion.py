"""Where in a picture the reasons for an answer are, for a model that only answers."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from PIL import Image


def occlusion(
    run: Callable[[np.ndarray], np.ndarray], picture: npt.NDArray[np.uint8], label: int, *, places: int = 12
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
    height, width, _ = picture.shape
    ground = np.median(picture, axis=(0, 1)).astype("uint8")
    covered = np.repeat(picture[None], places * places + 1, axis=0)
    for number in range(places * places):
        row, column = divmod(number, places)
        top, bottom = (max(0, round((row + shift) * height / places)) for shift in (-0.5, 1.5))
        left, right = (max(0, round((column + shift) * width / places)) for shift in (-0.5, 1.5))
        covered[number, top:bottom, left:right] = ground
    logits = run(covered)[:, label].astype("float64")
    fall = np.maximum(logits[-1] - logits[:-1], 0).reshape(places, places)
    fall /= fall.max() or 1.0
    heat = Image.fromarray(fall.astype("float32")).resize((width, height), Image.Resampling.BILINEAR)
    return np.clip(np.asarray(heat, "float64"), 0, 1)
