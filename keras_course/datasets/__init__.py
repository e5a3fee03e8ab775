"""The data sets of the course: one module each, with ``load_data()`` and a description of the data."""

__all__ = [
    "animals",
    "arrays",
    "asl",
    "doggy_door",
    "download",
    "exam",
    "hands",
    "lines",
    "mnist",
    "noisy_line",
    "noisy_points",
    "photo_folder",
    "rated_snippets",
    "sentences",
]
