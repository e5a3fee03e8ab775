"""Deterministic steps from a file to what a model takes: the same code in training and in serving."""

from keras_course.preprocessing.images import PictureFormat, prepare, read_picture

__all__ = ["PictureFormat", "prepare", "read_picture"]
