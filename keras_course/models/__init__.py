"""One architecture family per file; each builder is a plain function that returns a ``keras.Model``."""

from keras_course.models.dense import dense_classifier

__all__ = ["dense_classifier"]
