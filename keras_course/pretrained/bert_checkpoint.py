"""Checkpoints of BERT in the layout of Hugging Face: what their files say, checked before any weight is created.

The files are ``config.json``, ``vocab.txt`` or ``tokenizer.json``, and ``model.safetensors`` or its parts. Nothing here
needs Keras.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

from keras_course.arguments import is_number
from keras_course.errors import CourseError
from keras_course.pretrained.safetensor_files import read_json, shown

MOST_PARAMETERS: Final = 2**29
"""The largest model that is built, 2 GiB in float32; BERT's large model has 335 million parameters."""

HEADS: Final = (None, "pooled", "masked_word", "question_answering", "sentence", "classifier")

_CONFIG: Final = "config.json"
_VOCABULARY: Final = "vocab.txt"
_TOKENIZER: Final = "tokenizer.json"
_TOKENIZER_CONFIG: Final = "tokenizer_config.json"
_SENTENCE_CONFIG: Final = "sentence_bert_config.json"
_POOLING_CONFIG: Final = "1_Pooling/config.json"

_ACTIVATIONS: Final = {
    "gelu": "gelu",
    "gelu_python": "gelu",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
    "tanh": "tanh",
}
"""Keras' names of the activations, by those of Hugging Face."""
_ROBERTA: Final = "counts positions from the number of the padding token, and has no segments"
_OTHER_TYPES: Final = {
    **dict.fromkeys(("roberta", "xlm-roberta", "camembert", "roberta-prelayernorm", "xlm-roberta-xl"), _ROBERTA),
    "mpnet": "has relative positions",
    "distilbert": "has no segments, and other names of tensors",
    "albert": "shares its blocks, and has smaller vectors of tokens",
    "electra": "has smaller vectors of tokens",
    "modernbert": "has rotary positions",
}
_LIMITS: Final = {
    "vocab_size": 2**21,
    "hidden_size": 2**14,
    "num_hidden_layers": 256,
    "num_attention_heads": 256,
    "intermediate_size": 2**16,
    "max_position_embeddings": 2**17,
    "type_vocab_size": 256,
}
_OPTIONAL: Final = {"max_position_embeddings": 512, "type_vocab_size": 2}


@dataclass(frozen=True, kw_only=True)
class BertConfig:
    """The sizes of a BERT, as its ``config.json`` says them in other words.

    Args:
        vocabulary_size: Number of tokens.
        embedding_dim: Size of the vectors.
        num_layers: Number of blocks.
        num_heads: Attention heads of each block.
        intermediate_dim: Units of the first dense layer of each block.
        max_positions: Largest number of tokens of a text.
        segments: Number of segments.
        dropout: Fraction of the outputs of each part to drop in training.
        activation: Activation of the first dense layer of each block, by Keras' name.
        epsilon: The number that layer normalization adds to the variance.
    """

    vocabulary_size: int
    embedding_dim: int
    num_layers: int
    num_heads: int
    intermediate_dim: int
    max_positions: int
    segments: int
    dropout: float
    activation: str
    epsilon: float


class Place(NamedTuple):
    """Where a tensor of a checkpoint goes: the path of the weight, its shape there, and whether it is transposed."""

    path: str
    shape: tuple[int, ...]
    transposed: bool = False


class TextSettings(NamedTuple):
    """How a checkpoint splits a text: the file of its vocabulary, changes before, None as that file says, its limit."""

    file: Path
    lowercase: bool | None
    strip_accents: bool | None
    longest: int


def read_config(folder: Path) -> tuple[BertConfig, Mapping[str, Any]]:
    """Reads ``config.json``: the sizes, checked, and all that it says.

    Raises a ``CourseError`` if it does not describe an encoder of BERT, or one that is too large.
    """
    path = folder / _CONFIG
    if not folder.is_dir():
        raise CourseError(f"there is no folder {folder}; give one with {_CONFIG} and model.safetensors")
    facts = read_json(path)
    kind = facts.get("model_type")
    if kind != "bert":
        reason = f", which {_OTHER_TYPES[kind]}" if isinstance(kind, str) and kind in _OTHER_TYPES else ""
        raise CourseError(f"{path} says model_type {shown(repr(kind))}{reason}; give a checkpoint of type 'bert'")
    _check(path, facts, "position_embedding_type", ("absolute", None), "its attention needs other positions")
    _check(path, facts, "is_decoder", (False, None), "only an encoder is read")
    _check(path, facts, "add_cross_attention", (False, None), "only an encoder is read")
    _check(path, facts, "pruned_heads", ({}, None), "all blocks need the same number of heads")
    _check(path, facts, "quantization_config", (None,), "only weights in floating point are read")
    sizes = {name: _size(path, facts, name, limit) for name, limit in _LIMITS.items()}
    if sizes["hidden_size"] % sizes["num_attention_heads"]:
        raise CourseError(
            f"{path} says num_attention_heads {sizes['num_attention_heads']}, which does not divide hidden_size "
            f"{sizes['hidden_size']}"
        )
    activation = facts.get("hidden_act", "gelu")
    if not isinstance(activation, str) or activation not in _ACTIVATIONS:
        known = ", ".join(_ACTIVATIONS)
        raise CourseError(f"{path} says hidden_act {shown(repr(activation))}; only these are known: {known}")
    config = BertConfig(
        vocabulary_size=sizes["vocab_size"],
        embedding_dim=sizes["hidden_size"],
        num_layers=sizes["num_hidden_layers"],
        num_heads=sizes["num_attention_heads"],
        intermediate_dim=sizes["intermediate_size"],
        max_positions=sizes["max_position_embeddings"],
        segments=sizes["type_vocab_size"],
        dropout=_fraction(path, facts, "hidden_dropout_prob", 0.1, 0.0),
        activation=_ACTIVATIONS[activation],
        epsilon=_fraction(path, facts, "layer_norm_eps", 1e-12, 1e-30),
    )
    if (count := parameters_of(config)) > MOST_PARAMETERS:
        raise CourseError(f"{path} describes a model of {count:,} parameters; at most {MOST_PARAMETERS:,} are read")
    return config, facts


def parameters_of(config: BertConfig) -> int:
    """Returns the number of parameters of an encoder, without a head."""
    size, inner = config.embedding_dim, config.intermediate_dim
    rows = config.vocabulary_size + config.max_positions + config.segments
    block = 4 * (size * size + size) + (size * inner + inner) + (inner * size + size) + 4 * size
    return rows * size + 2 * size + config.num_layers * block


def _check(path: Path, facts: Mapping[str, Any], name: str, allowed: Sequence[Any], reason: str) -> None:
    value = facts.get(name)
    if not any(type(value) is type(known) and value == known for known in allowed):
        raise CourseError(f"{path} says {name} {shown(repr(value))}, and {reason}")


def _size(path: Path, facts: Mapping[str, Any], name: str, limit: int) -> int:
    value = facts.get(name, _OPTIONAL.get(name))
    if type(value) is not int or not 1 <= value <= limit:
        raise CourseError(f"{path} says {name} {shown(repr(value))}; it has to be a whole number from 1 to {limit:,}")
    return value


def _fraction(path: Path, facts: Mapping[str, Any], name: str, default: float, least: float) -> float:
    value = facts.get(name, default)
    if not is_number(value) or not least <= value < 1:
        raise CourseError(f"{path} says {name} {shown(repr(value))}; it has to be a number from {least} up to 1")
    return float(value)


# --- tensors ---------------------------------------------------------------------------------------------------


def places(config: BertConfig, head: str | None, classes: int = 0) -> dict[str, Place]:
    """Returns where each tensor of a checkpoint goes, by its name without the prefix ``bert.``."""
    found: dict[str, Place] = {}
    size, inner = config.embedding_dim, config.intermediate_dim

    def dense(tensor: str, layer: str, inputs: int, units: int) -> None:
        found[f"{tensor}.weight"] = Place(f"{layer}/kernel", (inputs, units), transposed=True)
        found[f"{tensor}.bias"] = Place(f"{layer}/bias", (units,))

    def norm(tensor: str, layer: str) -> None:
        found[f"{tensor}.weight"] = Place(f"{layer}/gamma", (size,))
        found[f"{tensor}.bias"] = Place(f"{layer}/beta", (size,))

    rows = {"tokens": config.vocabulary_size, "positions": config.max_positions, "segments": config.segments}
    for (table, count), tensor in zip(rows.items(), ("word", "position", "token_type"), strict=True):
        found[f"embeddings.{tensor}_embeddings.weight"] = Place(f"embedding/{table}", (count, size))
    norm("embeddings.LayerNorm", "embedding_norm")
    for number in range(config.num_layers):
        tensor, block = f"encoder.layer.{number}", f"block{number + 1}"
        for name in ("query", "key", "value"):
            dense(f"{tensor}.attention.self.{name}", f"{block}/{name}", size, size)
        dense(f"{tensor}.attention.output.dense", f"{block}/attention_output", size, size)
        norm(f"{tensor}.attention.output.LayerNorm", f"{block}/attention_norm")
        dense(f"{tensor}.intermediate.dense", f"{block}/intermediate", size, inner)
        dense(f"{tensor}.output.dense", f"{block}/output_dense", inner, size)
        norm(f"{tensor}.output.LayerNorm", f"{block}/output_norm")
    if head in ("pooled", "classifier"):
        dense("pooler.dense", "pooler", size, size)
    if head == "masked_word":
        dense("cls.predictions.transform.dense", "transform", size, size)
        norm("cls.predictions.transform.LayerNorm", "transform_norm")
        found["cls.predictions.bias"] = Place("logits_bias/bias", (config.vocabulary_size,))
    if head == "question_answering":
        dense("qa_outputs", "logits", size, 2)
    if head == "classifier":
        dense("classifier", "logits", size, classes)
    return found


_UNUSED: Final = re.compile(
    r"embeddings\.(position_ids|token_type_ids)|pooler\.dense\.(weight|bias)|cls\.seq_relationship\.(weight|bias)"
    r"|cls\.predictions\.(bias|decoder\.(weight|bias)|transform\.(dense|LayerNorm)\.(weight|bias))"
    r"|(qa_outputs|classifier)\.(weight|bias)"
)
"""Tensors of heads, and of what is no weight, that a checkpoint may have and a model may not need."""


def plain_names(names: Sequence[str], where: str) -> dict[str, str]:
    """Returns the names of tensors by those that ``places`` uses: without ``bert.``, with ``weight`` for ``gamma``."""
    found: dict[str, str] = {}
    for name in names:
        plain = name.removeprefix("bert.")
        plain = re.sub(r"LayerNorm\.gamma$", "LayerNorm.weight", re.sub(r"LayerNorm\.beta$", "LayerNorm.bias", plain))
        if plain in found:
            raise CourseError(f"{where} has both {shown(found[plain])} and {shown(name)}, which are the same tensor")
        found[plain] = name
    return found


def check_tensors(
    shapes: Mapping[str, tuple[int, ...]], wanted: Mapping[str, Place], config: BertConfig, head: str | None, where: str
) -> None:
    """Checks that a checkpoint has the tensors of a model, in their shapes, and none that belongs to another model.

    ``shapes`` is by the names of ``plain_names``. The error names the first tensor that is wrong.
    """
    for name, place in wanted.items():
        if name not in shapes:
            raise CourseError(f"{where} has no tensor {name}{_reason(name, shapes, config, head)}")
        expected = place.shape[::-1] if place.transposed else place.shape
        if shapes[name] != expected:
            raise CourseError(
                f"{where} has the tensor {name} in the shape {shapes[name]}; by its {_CONFIG} it has to be {expected}"
            )
    for name in shapes:
        if name not in wanted and not _UNUSED.fullmatch(name):
            raise CourseError(f"{where} has a tensor {shown(name)}, which this model lacks{_surplus(name, config)}")


def _reason(name: str, shapes: Mapping[str, Any], config: BertConfig, head: str | None) -> str:
    """Explains why a tensor is missing, where that can be said."""
    if layer := re.match(r"encoder\.layer\.(\d+)\.", name):
        blocks = {int(found[1]) for key in shapes if (found := re.match(r"encoder\.layer\.(\d{1,6})\.", key))}
        if int(layer[1]) not in blocks:
            return f"; its {_CONFIG} says {config.num_layers} layers, and it has the weights of {len(blocks)}"
    if name.startswith(("pooler.", "cls.", "qa_outputs.", "classifier.")):
        return f", which head={head!r} needs; give head=None, and train a new head"
    return ""


def _surplus(name: str, config: BertConfig) -> str:
    is_block = re.match(r"encoder\.layer\.(\d{1,6})\.", name)
    if is_block and int(is_block[1]) >= config.num_layers:
        return f"; its {_CONFIG} says {config.num_layers} layers"
    return ""


# --- text ------------------------------------------------------------------------------------------------------


def read_text_settings(folder: Path, config: BertConfig) -> TextSettings:
    """Reads how a checkpoint splits a text, but for the vocabulary. Raises a ``CourseError`` if it has none."""
    file = folder / _TOKENIZER
    facts: Mapping[str, Any] = {}
    if not file.is_file():
        file = folder / _VOCABULARY
        facts = {"do_lower_case": True}  # where nothing else is said
    if not file.is_file():
        raise CourseError(f"{folder} has neither {_TOKENIZER} nor {_VOCABULARY}; its vocabulary is needed")
    longest = config.max_positions
    settings = folder / _TOKENIZER_CONFIG
    if settings.is_file():
        facts = {**facts, **read_json(settings)}
        _check(settings, facts, "tokenize_chinese_chars", (True, None), "only the word pieces of BERT are read")
        longest = _length(facts.get("model_max_length"), longest)
    if (folder / _SENTENCE_CONFIG).is_file():
        longest = _length(read_json(folder / _SENTENCE_CONFIG).get("max_seq_length"), longest)
    lowercase, strip_accents = (_switch(settings, facts, name) for name in ("do_lower_case", "strip_accents"))
    return TextSettings(file, lowercase, strip_accents, longest)


def check_pooling(folder: Path) -> None:
    """Checks that the vectors of sentences are means over tokens, if the checkpoint says how they are made."""
    path = folder / _POOLING_CONFIG
    if not path.is_file():
        return
    facts = read_json(path)
    if facts.get("pooling_mode_mean_tokens") is not True:
        modes = [shown(name) for name, value in facts.items() if value is True and str(name).startswith("pooling_mode")]
        raise CourseError(
            f"{path} asks for {' and '.join(modes) or 'no mean'}, and head='sentence' takes means over tokens; give "
            "head='pooled', or head=None and the hidden states that you need"
        )


def read_class_names(facts: Mapping[str, Any], count: int) -> tuple[str, ...]:
    """Returns the names of the classes, in the order of the logits; numbers where ``config.json`` names none."""
    names = facts.get("id2label")
    names = names if isinstance(names, dict) else {}
    found = tuple(shown(names.get(str(number), number)) for number in range(count))
    return found if len(set(found)) == count else tuple(map(str, range(count)))


def _switch(file: Path, facts: Mapping[str, Any], name: str) -> bool | None:
    value = facts.get(name)
    if value is not None and not isinstance(value, bool):
        raise CourseError(f"{file} says {name} {shown(repr(value))}; it has to be true or false")
    return value


def _length(value: Any, default: int) -> int:
    """Returns the smaller limit of tokens; a huge number stands for none."""
    return int(value) if is_number(value) and 2 < value < default else default
