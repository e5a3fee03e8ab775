"""Computes the features of a frozen backbone once for each photo or text, and keeps them in a cache on the disk.

A frozen backbone returns the same features for the same photo in every epoch. So each photo is processed once, and
training the head takes seconds. The key of the cache is a hash of the weights and the layers of the backbone and of the
photo itself, so that a change of any of them computes the features again.
"""

import hashlib
import json
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import keras
import numpy as np
import numpy.typing as npt

from keras_course import _backend
from keras_course._backend import keras_private
from keras_course.augmentation import Augmentation, check_augmentation
from keras_course.datasets.arrays import cache_folder
from keras_course.errors import CourseError, check_positive, reason_of
from keras_course.files import remove_left_behind, replacing
from keras_course.training.inputs import check_samples

Features = npt.NDArray[np.float32]

_VERSION: Final = 1
_PHOTOS_A_FILE: Final = 512
"""The features of at most so many photos are lost if the process is killed."""
_IGNORED: Final = ("trainable", "build_config", "compile_config")
"""Settings that do not change the features."""
_MOST_FILES: Final = 16
"""More files than this are merged."""


def extract_features(
    backbone: keras.Model,
    pictures: npt.NDArray[np.uint8],
    *,
    augmentation: Augmentation | None = None,
    views: int = 1,
    batch_size: int = 32,
    cache: str | Path | None = None,
    progress: Callable[[int], None] | None = None,
) -> Features:
    """Computes the features of pictures or texts by a frozen model, or reads them from the cache.

    Args:
        backbone: A model from pictures, or from tokens, to features, used in inference mode.
        pictures: uint8 (n, height, width, channels), in the format that the model takes; or the tokens of texts,
            integers (n, tokens).
        augmentation: Random transforms of the pictures, different in each view. The random numbers depend on the row in
            ``pictures``, so that another order gives other features. Transforms that mix pictures are refused, since
            they would change the labels.
        views: Number of views of each picture; more than one needs an augmentation.
        batch_size: Pictures in a batch.
        cache: The cache folder; the default is ``KERAS_COURSE_CACHE`` or the cache folder of the user.
        progress: Called with the number of pictures that have just been processed.

    Returns:
        float32 (views * n, ...): all pictures in the first view, then all in the second.

    Raises:
        CourseError: Pictures and model do not fit, or a number is out of range.

    Example:
        >>> import tempfile
        >>> backbone = keras.Sequential([keras.Input((4, 4, 3)), keras.layers.GlobalAveragePooling2D()])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     extract_features(backbone, np.full((2, 4, 4, 3), 7, "uint8"), cache=folder).tolist()
        [[7.0, 7.0, 7.0], [7.0, 7.0, 7.0]]
    """
    check_positive(views=views, batch_size=batch_size)
    check_augmentation(augmentation, mixing=False)
    check_samples(backbone, pictures, "pictures")
    if _backend.input_of(backbone)[0] == "tokens" and np.issubdtype(pictures.dtype, np.integer):
        pictures = pictures.astype("int32")  # tokens: the key of a text is the same for all types of integers
    elif pictures.dtype != np.uint8:
        raise CourseError(f"pictures are {pictures.dtype}; give uint8, from 0 to 255")
    if augmentation is None and views > 1:
        raise CourseError(f"views is {views}, and there is no augmentation; give one, or views=1")
    if augmentation is not None:
        augmentation.check(pictures, name="pictures")
    folder = cache_folder(cache) / "features" / _key(backbone)
    kept = _Kept(folder, backbone.output_shape[1:])
    run: list[Callable[[np.ndarray], np.ndarray]] = []  # compiled only if features are missing
    found: list[np.ndarray] = []
    for view in range(views):
        names = _names(pictures, augmentation, view)
        missing = [number for number, name in enumerate(names) if name not in kept]
        for start in range(0, len(missing), batch_size):
            rows = missing[start : start + batch_size]
            run = run or [_backend.forward(backbone, frozen=True)]
            batch = _view(pictures, rows, augmentation, view)
            filled = np.resize(batch, (batch_size, *batch.shape[1:]))  # all batches have one shape: one compilation
            kept.add([names[row] for row in rows], np.asarray(run[0](filled), "float32")[: len(rows)])
            if progress is not None:
                progress(len(rows))
        if progress is not None:
            progress(len(names) - len(missing))
        found.append(np.stack([kept[name] for name in names]))
    kept.close()
    return np.concatenate(found)


def _view(
    pictures: np.ndarray, rows: Sequence[int], augmentation: Augmentation | None, view: int
) -> npt.NDArray[np.uint8]:
    if augmentation is None:
        return pictures[list(rows)]
    # one at a time, so that a view does not depend on which other pictures are missing in the cache
    views = [augmentation.apply(pictures[row : row + 1], step=view, first_row=row, xp=np) for row in rows]
    return np.concatenate(views)


def _key(backbone: keras.Model) -> str:
    """Returns the hash of everything but the picture that determines its features."""
    graph = keras.saving.serialize_keras_object(backbone)
    names = [backbone.name, *(layer.name for layer in keras_private.all_layers(backbone, include_self=False))]
    places = {name: place for place, name in enumerate(names)}
    how = [_VERSION, keras.config.dtype_policy().name, graph_without_names(graph, places)]
    digest = hashlib.sha256(json.dumps(how, sort_keys=True, default=repr).encode())
    for weights in backbone.get_weights():
        digest.update(str((weights.dtype, weights.shape)).encode())
        digest.update(np.ascontiguousarray(weights).data)
    return digest.hexdigest()[:32]


def graph_without_names(node: Any, places: Mapping[str, int] | None = None) -> Any:
    """Replaces the names of layers, which may be generated, by their numbers in ``places``, or removes them without it.

    Settings that may differ between two runs are removed.
    """
    if isinstance(node, dict):
        ignored = _IGNORED if places is not None else (*_IGNORED, "name", "registered_name", "shared_object_id")
        return {name: graph_without_names(value, places) for name, value in node.items() if name not in ignored}
    if isinstance(node, list | tuple):
        return [graph_without_names(value, places) for value in node]
    return (places or {}).get(node, node) if isinstance(node, str) else node


def _names(pictures: np.ndarray, augmentation: Augmentation | None, view: int) -> list[bytes]:
    """Returns a hash of each picture, its augmentation and its view."""
    if augmentation is None:
        return [hashlib.sha256(picture.tobytes()).digest() for picture in pictures]
    how = json.dumps([augmentation.get_config(), view], sort_keys=True, default=repr)
    texts = (f"{how} {row}".encode() for row in range(len(pictures)))
    return [hashlib.sha256(picture.tobytes() + text).digest() for picture, text in zip(pictures, texts, strict=True)]


class _Kept:
    """The features of one backbone on the disk, in files of some hundred rows, each of which is written atomically.

    Two processes may compute the same features; each writes separate files, so that no lock is needed.
    """

    def __init__(self, folder: Path, shape: Sequence[int | None]) -> None:
        self._folder, self._shape = folder, shape
        self._rows: dict[bytes, np.ndarray] = {}
        self._new: list[bytes] = []
        self._can_write = True
        remove_left_behind(folder, "*.npz")
        self._files = sorted(file for file in folder.glob("*.npz") if file.is_file())
        for file in self._files:
            self._rows.update(self._read(file))

    def __contains__(self, name: bytes) -> bool:
        return name in self._rows

    def __getitem__(self, name: bytes) -> np.ndarray:
        return self._rows[name]

    def add(self, names: Sequence[bytes], features: np.ndarray) -> None:
        """Adds the features of some pictures, and writes a file when there are enough."""
        self._rows.update(zip(names, features, strict=True))
        self._new += names
        if len(self._new) >= _PHOTOS_A_FILE:
            self._write(self._new)
            self._new = []

    def close(self) -> None:
        """Writes the remaining features, and merges many small files."""
        if self._new:
            self._write(self._new)
            self._new = []
        if len(self._files) > _MOST_FILES and self._can_write:
            old = self._files
            self._files = []
            self._write(list(self._rows))
            for file in old if self._can_write else ():
                with suppress(OSError):
                    file.unlink()

    def _read(self, file: Path) -> Iterator[tuple[bytes, np.ndarray]]:
        try:
            with file.open("rb") as stream, np.load(stream, allow_pickle=False) as content:
                names, features = content["names"], content["features"]
            if names.dtype != np.uint8 or names.shape != (len(features), 32) or features.dtype != np.float32:
                raise ValueError("another layout")
            if len(features.shape) != 1 + len(self._shape) or any(
                side not in (None, found) for side, found in zip(self._shape, features.shape[1:], strict=True)
            ):
                raise ValueError("features of another backbone")
        except Exception:  # a damaged file can raise anything; its features are computed again
            with suppress(OSError):
                file.unlink()
            return
        yield from zip(map(bytes, names), features, strict=True)

    def _write(self, names: Sequence[bytes]) -> None:
        if not self._can_write:
            return
        file_name = self._folder / f"{uuid.uuid4().hex}.npz"
        try:
            with replacing(file_name) as file:
                table = np.frombuffer(b"".join(names), "uint8").reshape(-1, 32)
                np.savez(file, names=table, features=np.stack([self._rows[name] for name in names]))
            self._files.append(file_name)
        except OSError as error:
            self._can_write = False
            print(f"the features are not kept in {self._folder}: {reason_of(error)}", file=sys.stderr)
