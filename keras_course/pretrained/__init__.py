"""Models that others have trained, with what is known about them; each takes raw pixels and gives logits."""

from keras_course.pretrained.records import RECORDS, Record, imagenet_class_names, record_of
from keras_course.pretrained.weights import IMAGENET, Pretrained, load_backbone, load_pretrained

__all__ = [
    "IMAGENET",
    "RECORDS",
    "Pretrained",
    "Record",
    "imagenet_class_names",
    "load_backbone",
    "load_pretrained",
    "record_of",
]
