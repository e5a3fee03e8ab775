"""Photos for a door that opens for one animal only: the course's own photos, yours, or a sample.

The course has 139 photos of one dog and of other dogs and cats, in ``presidential_doggy_door`` with folders ``bo`` and
``not_bo`` in ``train`` and in ``valid``. They need an account; set ``KERAS_COURSE_DATA`` to the folder that contains
them. Without them, photos of fresh and rotten fruit are used.

The sample consists of crops of seven photos of the package scikit-image: one cat, and other things. It only
demonstrates the lesson: each photo is in both parts, so the validation accuracy means nothing.
"""

from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

from keras_course import randomness
from keras_course.datasets import arrays, photo_folder
from keras_course.datasets.folders import packaged_photo
from keras_course.errors import MissingPackageError
from keras_course.files import replacing

__all__ = ["locate"]

FOLDERS: Final = ("presidential_doggy_door", "doggy_door", "fruit")
"""Folders to look for in ``KERAS_COURSE_DATA`` and in the cache, the preferred one first."""

SAMPLE: Final = "one_cat"
_CAT: Final = "chelsea.png"
_OTHERS: Final = ("astronaut.png", "coffee.png", "motorcycle_left.png", "rocket.jpg", "retina.jpg", "gravel.png")
_CUTS: Final = {"train": (16, 10), "valid": (6, 4)}
"""Number of crops of the cat, and of each other photo."""
_SIDE: Final = 240


def locate(source: str | Path = "auto", *, cache: str | Path | None = None) -> Path:
    """Finds a folder of photos that has a subfolder for each class.

    Args:
        source: ``"auto"`` for the course's photos, else the sample; ``"full"`` for the course's photos only;
            ``"sample"``; or the path of a folder.
        cache: The cache folder; by default ``KERAS_COURSE_CACHE`` or the user's cache folder.

    Returns:
        The folder, for ``photo_folder.load_data``.

    Raises:
        CourseError: There is no such folder.

    Example:
        >>> locate("no_such_folder")
        Traceback (most recent call last):
        ...
        keras_course.errors.CourseError: there is no folder no_such_folder; give the path of one
    """
    return photo_folder.locate(source, FOLDERS, lambda: _sample(arrays.cache_folder(cache) / "photos" / SAMPLE), cache)


def _sample(folder: Path) -> Path:
    """Makes the sample, the same on every machine, if it does not exist yet."""
    for part, (cats, others) in _CUTS.items():
        for name in (_CAT, *_OTHERS):
            count, kind = (cats, "cat") if name == _CAT else (others, "others")
            for number in range(count):
                target = folder / part / kind / f"{Path(name).stem}_{number:02}.jpg"
                if not target.exists():
                    with replacing(target) as file:
                        _cut(name, f"{part}{number}").save(file, "JPEG", quality=90)
    return folder


def _cut(name: str, which: str) -> Image.Image:
    """Crops a photo at random, and flips half of the crops."""
    path = packaged_photo(name)
    if path is None:
        install = 'pip install "keras-course[pretrained]"; or give --data FOLDER'
        raise MissingPackageError("the sample of photos", "scikit-image", install)
    draws = randomness.uniform(randomness.stream_key(0, "sample", name, which), (4,))
    with Image.open(path) as photo:
        side = round(min(photo.size) * (0.45 + 0.45 * float(draws[0])))
        left, top = (int((size - side + 1) * float(draw)) for size, draw in zip(photo.size, draws[1:3], strict=True))
        cut = photo.convert("RGB").crop((left, top, left + side, top + side)).resize((_SIDE, _SIDE))
    pixels = np.asarray(cut)
    return Image.fromarray(pixels[:, ::-1] if draws[3] < 0.5 else pixels)
