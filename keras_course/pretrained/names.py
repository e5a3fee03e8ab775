"""The names of the pre-trained models, for code that runs before Keras is imported: classifiers, and BERT."""

from typing import Final

NAMES: Final = (
    "efficientnet_lite0",
    "efficientnet_lite1",
    "efficientnet_lite2",
    "efficientnet_lite3",
    "efficientnet_lite4",
    "vgg16",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "mobilenet_v3_large",
    "resnet50_v2",
    "efficientnet_v2_b0",
    "convnext_tiny",
)
BERT_NAMES: Final = ("minilm", "bert-base-cased", "bert-large-uncased-whole-word-masking-finetuned-squad")
