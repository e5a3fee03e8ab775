"""Writes checkpoints of small random BERTs in the layout of Hugging Face."""

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from keras_course.pretrained.bert_checkpoint import places, read_config

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
SIZES = {
    "hidden_size": 12,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 20,
    "max_position_embeddings": 48,
}


def write_checkpoint(folder: Path, words, *, heads=(), seed=0, classes=2, **sizes):
    """Writes a checkpoint for a vocabulary of words and pieces, with the weights of some heads."""
    folder.mkdir(parents=True)
    vocabulary = [*SPECIAL, *words]
    config = {"model_type": "bert", "vocab_size": len(vocabulary), "hidden_act": "gelu", **SIZES, **sizes}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": True}))
    wanted = {}
    for head in (None, *heads):
        wanted |= places(read_config(folder)[0], head, classes)
    draws = np.random.default_rng(seed)
    tensors = {}
    for name, place in sorted(wanted.items()):
        shape = place.shape[::-1] if place.transposed else place.shape
        mean = 1.0 if name.endswith("LayerNorm.weight") else 0.0
        prefix = "" if name.startswith(("cls.", "qa_outputs.", "classifier.")) else "bert."
        tensors[prefix + name] = (mean + 0.2 * draws.normal(size=shape)).astype("float32")
    save_file(tensors, folder / "model.safetensors")
    return folder
