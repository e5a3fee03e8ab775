"""Pre-trained models and their records: classifiers of pictures, from raw pixels to logits, and BERT for texts."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from keras_course.pretrained.names import NAMES

if TYPE_CHECKING:
    from keras_course.pretrained.bert import BERTS, Bert, BertRecord, load_bert
    from keras_course.pretrained.bert_tasks import Answer, embed, fill_mask, find_answer, token_vectors
    from keras_course.pretrained.records import RECORDS, Record, imagenet_class_names, record_of
    from keras_course.pretrained.transfer import (
        backbone_of,
        feature_extractor,
        freeze,
        head_of,
        transfer_classifier,
        unfreeze,
    )
    from keras_course.pretrained.weights import IMAGENET, Pretrained, load_backbone, load_pretrained, model_file
    from keras_course.pretrained.word_vectors import WordVectors, average_vectors, load_word_vectors

__all__ = [
    "BERTS",
    "IMAGENET",
    "NAMES",
    "RECORDS",
    "Answer",
    "Bert",
    "BertRecord",
    "Pretrained",
    "Record",
    "WordVectors",
    "average_vectors",
    "backbone_of",
    "embed",
    "feature_extractor",
    "fill_mask",
    "find_answer",
    "freeze",
    "head_of",
    "imagenet_class_names",
    "load_backbone",
    "load_bert",
    "load_pretrained",
    "load_word_vectors",
    "model_file",
    "record_of",
    "token_vectors",
    "transfer_classifier",
    "unfreeze",
]


def __getattr__(name: str) -> Any:
    """Imports Keras with the first name that needs it; ``NAMES`` does not."""
    if name in __all__:
        for part in ("records", "weights", "transfer", "bert", "bert_tasks", "word_vectors"):
            module = import_module(f"{__name__}.{part}")
            if hasattr(module, name):
                return getattr(module, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
