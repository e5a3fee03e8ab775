"""`python tests/small_network.py LESSON ...` runs a lesson with a small EfficientNet-Lite0 instead of the real one.

It has one block in each stage, with the weights of these blocks in the real network, so that it still recognizes
photos; it compiles in half the time. Its weights are in the folder KERAS_COURSE_CACHE.
"""

import json
import runpy
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

from keras_course import files
from keras_course.datasets.arrays import cache_folder
from keras_course.models import efficientnet_lite
from keras_course.models.efficientnet_lite import SIZES, Size
from keras_course.pretrained import RECORDS, load_pretrained
from keras_course.pretrained.records import Package

NAME = "efficientnet_lite0"
SIDE = 128


def put_weights(build, source, folder):
    """Writes the weights into the cache like weights that were converted from a package."""
    folder.mkdir(parents=True, exist_ok=True)
    whole = load_pretrained(NAME, cache=folder / "whole").model
    known = {variable.path: variable.numpy() for variable in whole.variables}
    model = build()
    for variable in model.variables:
        if not variable.path.endswith("/step"):
            variable.assign(known[variable.path])
    path = folder / f"{NAME}.weights.h5"
    model.save_weights(path)
    note = {"source_sha256": source.sha256, "sha256": files.sha256_of(path)}
    (folder / f"{NAME}.json").write_text(json.dumps(note))


def main(lesson, *arguments):
    SIZES["small"] = Size(1.0, 0.25, SIDE, 0.2)
    build, source = partial(efficientnet_lite, "small"), Package("small", "0", "none", "the small one")
    folder = cache_folder() / "pretrained"
    if not (folder / f"{NAME}.json").exists():
        put_weights(build, source, folder)
    record = RECORDS[NAME]
    pictures = replace(record.picture_format, height=SIDE, width=SIDE)
    RECORDS[NAME] = replace(record, build=build, source=source, picture_format=pictures)
    sys.argv = [lesson, *arguments]
    sys.path[0] = str(Path(lesson).parent)
    runpy.run_path(lesson, run_name="__main__")


if __name__ == "__main__":
    main(*sys.argv[1:])
