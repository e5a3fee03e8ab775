"""Deterministic preprocessing from a file to the input of a model: the same code in training and in serving."""

from typing import TYPE_CHECKING, Any

from keras_course.preprocessing.picture_format import PictureFormat

if TYPE_CHECKING:
    from keras_course.preprocessing.images import prepare, read_picture

__all__ = ["PictureFormat", "prepare", "read_picture"]


def __getattr__(name: str) -> Any:
    """Imports Pillow at the first use of a name that needs it, since running a model needs only the format."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from keras_course.preprocessing import images

    return getattr(images, name)
