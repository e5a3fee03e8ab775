"""Random changes of training pictures: batched, on the device, the same on every backend.

An ``Augmentation`` takes a list of transforms, such as ``Rotation(15)``, draws their numbers for every picture from
``randomness``, and applies them together:

- all geometry is one affine map from the pixels of the result back into the picture, composed of the maps of the
  transforms, and one bilinear resampling. A picture that is rotated, shifted and scaled is blurred once, not three
  times;
- all color changes are one line a·v + b for each picture, and light from one side a plane over it, in one pass.

The draws depend only on the seed, the step and the place in the batch. The same code runs in NumPy, for a pipeline on
the host, and in ``keras.ops``, inside a compiled step or on its own: then XLA compiles it on TensorFlow and JAX, and
PyTorch changes a few pictures at a time.

| file | contents |
|---|---|
| ``transforms`` | the transforms |
| ``geometry`` | affine maps and resampling |
| ``layer`` | ``Augmentation``, the Keras layer that applies them |
| ``other_libraries`` | arguments of Keras' ``ImageDataGenerator`` and of torchvision |
"""

from keras_course.augmentation.geometry import FILLS, IDENTITY, Map, compose, warp
from keras_course.augmentation.layer import Augmentation, check_augmentation
from keras_course.augmentation.transforms import (
    TRANSFORMS,
    Brightness,
    Color,
    Contrast,
    Crop,
    CutMix,
    Erasing,
    Flip,
    Geometry,
    Light,
    Line,
    MixUp,
    Noise,
    ResizedCrop,
    Rotation,
    Shear,
    Shift,
    Transform,
    Zoom,
)

__all__ = [
    "FILLS",
    "IDENTITY",
    "TRANSFORMS",
    "Augmentation",
    "Brightness",
    "Color",
    "Contrast",
    "Crop",
    "CutMix",
    "Erasing",
    "Flip",
    "Geometry",
    "Light",
    "Line",
    "Map",
    "MixUp",
    "Noise",
    "ResizedCrop",
    "Rotation",
    "Shear",
    "Shift",
    "Transform",
    "Zoom",
    "check_augmentation",
    "compose",
    "warp",
]
