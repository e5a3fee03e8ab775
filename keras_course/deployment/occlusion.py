"""Finds by occlusion which parts of a picture an answer depends on, for a model that gives no gradients.

Covers one part of the picture after the other, and computes how far the logit of the class falls. Grad-CAM would need
gradients, which an exported model does not give.

Source: M. D. Zeiler and R. Fergus, "Visualizing and understanding convolutional networks", 2014, section 4.2.
"""

from collections.abc import Iterable
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image

PLACES: Final = 12
"""The number of positions of the cover along each side. The cover is twice as wide as their distance."""


def covered(picture: npt.NDArray[np.uint8], numbers: Iterable[int], *, places: int = PLACES) -> npt.NDArray[np.uint8]:
    """Returns copies (n, height, width, channels) of a picture with one part covered in each.

    The positions count from 0, row by row; the number after the last position covers nothing.
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
    """Returns how far the logit falls where a pixel is covered, relative to the largest fall: (height, width), 0 to 1.

    There is a logit of the class for each position, row by row, and a last one for the picture itself.
    """
    values = np.asarray(logits, "float64")
    places = round(np.sqrt(len(values) - 1))
    fall = np.maximum(values[-1] - values[:-1], 0).reshape(places, places)
    fall /= fall.max() or 1.0
    heat = Image.fromarray(fall.astype("float32")).resize((width, height), Image.Resampling.BILINEAR)
    return np.clip(np.asarray(heat, "float64"), 0, 1)
