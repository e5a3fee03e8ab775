"""Makes `efficientnet_lite.npz`: logits of an independent implementation, PyPI's efficientnet-lite-pytorch, on photos.

    pip install torch efficientnet-lite-pytorch keras-course[pretrained]
    KERAS_COURSE_DATA=... python tests/data/make_efficientnet_lite.py

The photos are those of the course's data; they are not kept here, only a hash of the pixels that the network was given.
"""

import hashlib
import os
from importlib import metadata
from pathlib import Path

import numpy as np

PHOTOS = ("brown_bear", "corgi", "happy_dog", "sleepy_cat")
SIZES = ("lite0", "lite1", "lite2")


def pixels_of(size, folder):
    """The photos as the network of a size takes them, uint8 (4, height, width, 3), and their hash."""
    from keras_course.preprocessing import prepare
    from keras_course.pretrained import record_of

    pictures = record_of(f"efficientnet_{size}").picture_format
    pixels = np.stack([prepare(Path(folder, "photos", f"{photo}.jpg"), pictures) for photo in PHOTOS])
    return pixels, hashlib.sha256(pixels.tobytes()).hexdigest()


def independent_logits(size, pixels):
    """What the other implementation says of them."""
    import torch
    from efficientnet_lite_pytorch import EfficientNet

    from keras_course.pretrained import record_of

    package = record_of(f"efficientnet_{size}").source
    path = str(metadata.distribution(package.name).locate_file(package.file))
    network = EfficientNet.from_pretrained(f"efficientnet-{size}", weights_path=path).eval()
    scaled = (torch.tensor(pixels.astype("float32")).permute(0, 3, 1, 2) - 127) / 128
    with torch.no_grad():
        return network(scaled).numpy()


if __name__ == "__main__":
    made = {}
    for size in SIZES:
        pixels, sha256 = pixels_of(size, os.environ["KERAS_COURSE_DATA"])
        made |= {f"{size}_logits": independent_logits(size, pixels), f"{size}_sha256": np.array(sha256)}
    np.savez_compressed(Path(__file__).with_name("efficientnet_lite.npz"), **made)
