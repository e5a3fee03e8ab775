"""Compares the accuracies that the slow tests reached on the backends; needs no backend."""

import json
import os
from pathlib import Path
from statistics import mean

FOLDER = Path(os.environ.get("KERAS_COURSE_ACCURACIES", "accuracies"))


def test_backends_are_as_accurate_as_each_other():
    recorded = {name: json.loads((FOLDER / f"{name}.json").read_text()) for name in ("jax", "tensorflow", "torch")}
    lessons = set().union(*recorded.values())
    assert lessons
    for lesson in lessons:
        means = {name: mean(accuracies[lesson]) for name, accuracies in recorded.items()}
        assert max(means.values()) - min(means.values()) <= 0.003, (lesson, means)
