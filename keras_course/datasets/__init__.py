"""The data sets of the course: one module each, with ``load_data()``, ``CLASS_NAMES`` and ``INPUT_SHAPE``."""

__all__ = ["download", "mnist"]
