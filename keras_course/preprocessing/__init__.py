"""Deterministic steps from a file to what a model takes: the same code in training and in serving."""

from typing import TYPE_CHECKING, Any

from keras_course.preprocessing.picture_format import PictureFormat

if TYPE_CHECKING:
    from keras_course.preprocessing.images import prepare, read_picture

__all__ = ["PictureFormat", "prepare", "read_picture"]


def __getattr__(name: str) -> Any:
    """Imports what needs Pillow when it is asked for: a process that runs a model needs only the format."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from keras_course.preprocessing import images

    return getattr(images, name)
