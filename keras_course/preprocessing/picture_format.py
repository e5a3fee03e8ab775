"""The input format of a model: how a picture is converted to its input. Needs neither NumPy nor Pillow."""

from dataclasses import asdict, dataclass
from typing import Any, Final

from keras_course.errors import CourseError, check_positive

__all__ = ["PictureFormat"]

_RESIZE: Final = ("crop", "pad", "extend", "stretch")
_INTERPOLATION: Final = ("bicubic", "bilinear", "lanczos")
_LARGEST_SIDE: Final = 4096


@dataclass(frozen=True, kw_only=True)
class PictureFormat:
    """The input format of a model, which is saved in its card.

    Args:
        height: Height of the input in pixels.
        width: Width of the input in pixels.
        channels: 1 for gray, 3 for red, green and blue.
        resize: Conversion of a picture of another aspect ratio: ``crop`` keeps the middle; the others keep the whole
            picture: ``pad`` adds one gray value, ``extend`` repeats the outermost pixels, ``stretch`` distorts it.
        middle: Share of the sides that ``crop`` keeps: 0.875 for 224 pixels out of 256.
        interpolation: ``bicubic``, ``bilinear`` or ``lanczos``, with averaging when a picture becomes smaller.
        background: Gray value, 0 to 255, behind a transparent picture and beside a padded one.
        full_contrast: Whether to stretch gray values so that the darkest pixel is black and the brightest one white.
        drawing: Whether the pictures are strokes, as in MNIST: bright on black, of equal size, with their center of
            mass in the middle. Other drawings, such as dark strokes on paper, are converted to that form.

    Raises:
        CourseError: A value is invalid.

    Example:
        >>> PictureFormat(height=28, width=28, channels=1).shape
        (28, 28, 1)
    """

    height: int
    width: int
    channels: int
    resize: str = "crop"
    middle: float = 1.0
    interpolation: str = "bicubic"
    background: int = 255
    full_contrast: bool = False
    drawing: bool = False

    def __post_init__(self) -> None:
        check_positive(height=self.height, width=self.width, channels=self.channels)
        for name in ("height", "width", "channels"):
            object.__setattr__(self, name, int(getattr(self, name)))
        largest = max(self.height, self.width)
        _check(largest <= _LARGEST_SIDE, "height or width", largest, f"at most {_LARGEST_SIDE} pixels")
        _check(self.channels in (1, 3), "channels", self.channels, "1 or 3")
        _check(self.resize in _RESIZE, "resize", self.resize, f"one of {', '.join(_RESIZE)}")
        is_share = isinstance(self.middle, int | float) and not isinstance(self.middle, bool) and 0 < self.middle <= 1
        _check(is_share, "middle", self.middle, "a share above 0, up to 1")
        known = ", ".join(_INTERPOLATION)
        _check(self.interpolation in _INTERPOLATION, "interpolation", self.interpolation, f"one of {known}")
        is_gray_value = type(self.background) is int and 0 <= self.background <= 255
        _check(is_gray_value, "background", self.background, "a whole number from 0 to 255")
        for name in ("full_contrast", "drawing"):
            _check(isinstance(getattr(self, name), bool), name, getattr(self, name), "true or false")
        _check(not self.drawing or self.channels == 1, "channels", self.channels, "1 for a drawing")

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width and channels of one prepared picture."""
        return self.height, self.width, self.channels

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields as they are saved in a card."""
        return asdict(self)


def _check(condition: bool, name: str, value: Any, remedy: str) -> None:
    if not condition:
        raise CourseError(f"{name} is {value!r}; give {remedy}")
