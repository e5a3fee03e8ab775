"""Photos of animals at a door: those of the course's data, a cat from scikit-image, or your own.

The course's data have a dog, a corgi, a brown bear and a sleepy cat (CC BY 3.0 and CC BY 4.0, from the Chinese edition
of NVIDIA's course, https://github.com/NVDLI/fundamentals-of-deep-learning-zh). The package scikit-image has the cat
Chelsea (public domain, by Stéfan van der Walt).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from keras_course.datasets import arrays
from keras_course.datasets.folders import list_pictures, packaged_photo, report
from keras_course.errors import CourseError
from keras_course.files import is_archive
from keras_course.preprocessing.images import PICTURE_ENDINGS

__all__ = ["BEARS", "CATS", "DOGS", "WHO_IS_IT", "kind_of", "locate"]

# The classes of ImageNet are sorted: 118 dogs, five domestic cats, four bears.
DOGS: Final = range(151, 269)
CATS: Final = range(281, 286)
BEARS: Final = range(294, 298)

WHO_IS_IT: Final = {
    "happy_dog": "dog",
    "corgi": "dog",
    "brown_bear": "bear",
    "sleepy_cat": "cat",
    "chelsea": "cat",
}
"""The animals in the known photos."""

LARGEST_COUNT: Final = 1000
HOW_TO_GET: Final = 'give --data with a photo or a folder of photos, or run: pip install "keras-course[pretrained]"'


def kind_of(class_number: int) -> str:
    """Returns the kind of animal of an ImageNet class.

    Args:
        class_number: The class, from 0 to 999.

    Returns:
        ``dog``, ``cat``, ``bear`` or ``something else``.

    Example:
        >>> [kind_of(number) for number in (151, 268, 269, 285, 294)]
        ['dog', 'dog', 'something else', 'cat', 'bear']
    """
    kinds = {"dog": DOGS, "cat": CATS, "bear": BEARS}
    return next((kind for kind, classes in kinds.items() if class_number in classes), "something else")


def locate(source: str | Path = "auto") -> Sequence[Path]:
    """Finds photos of animals.

    Args:
        source: ``"auto"``, ``"full"`` or ``"sample"`` for the photos of the course's data and of scikit-image that
            exist; or the path of a photo or of a folder of photos.

    Returns:
        The files; those of a folder are in the order of their names.

    Raises:
        CourseError: There are no photos, or they are in an archive.

    Example:
        >>> locate("no_such_folder")
        Traceback (most recent call last):
        ...
        keras_course.errors.CourseError: there is no no_such_folder; give a photo, or a folder of photos
    """
    if source in ("auto", "full", "sample"):
        names = [f"photos/{name}.jpg" for name in WHO_IS_IT]
        found = [path for name in names for path in arrays.places(name)[:-1] if path.is_file()]
        found += [path for path in [packaged_photo("chelsea.png")] if path is not None]
        if not found:
            raise CourseError(f"there are no photos of animals here; {HOW_TO_GET}")
        return found
    path = Path(source).expanduser()
    if path.is_file():
        if is_archive(path):
            raise CourseError(f"{source} is an archive; unpack it first, then give the folder of photos")
        return [path]
    if not path.is_dir():
        raise CourseError(f"there is no {source}; give a photo, or a folder of photos")
    listing = list_pictures(path)
    report(path, listing.skipped)
    if not listing.files:
        raise CourseError(
            f"{source} holds no photos; give a folder with files that end in {', '.join(PICTURE_ENDINGS[:7])}"
        )
    if len(listing.files) > LARGEST_COUNT:
        raise CourseError(f"{source} holds more than {LARGEST_COUNT:,} photos; give a folder with fewer")
    return [path / file.name for file in listing.files]
