"""Compares the accuracies that the slow tests reached on the backends; needs no backend."""

import json
import os
from pathlib import Path
from statistics import mean

FOLDER = Path(os.environ.get("KERAS_COURSE_ACCURACIES", "accuracies"))

LARGEST_DIFFERENCES = {
    "04_mnist_dense": 0.003,
    "05_asl_dense": 0.05,
    "07_asl_augmentation, drawn hands": 0.1,
    "07_asl_augmentation, drawn hands and photos": 0.02,
    "18_digits_augmented": 0.002,
}
"""Of the means of three seeds, but for drawn hands, which have one; the dense net on hand signs, which over-fits, ends
each run at another place, and so does a net that has seen no photo."""


def test_backends_are_as_accurate_as_each_other():
    recorded = {name: json.loads((FOLDER / f"{name}.json").read_text()) for name in ("jax", "tensorflow", "torch")}
    lessons = set().union(*recorded.values())
    assert lessons
    for lesson in lessons:
        means = {name: mean(accuracies[lesson]) for name, accuracies in recorded.items()}
        assert max(means.values()) - min(means.values()) <= LARGEST_DIFFERENCES.get(lesson, 0.01), (lesson, means)
