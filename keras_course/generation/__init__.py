"""Samplers: words from a language model."""

from keras_course.generation.words import Step, Writer, write

__all__ = ["Step", "Writer", "write"]
