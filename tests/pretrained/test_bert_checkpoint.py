"""Files of checkpoints that may come from anybody: what is read, and what is refused, before a weight is created."""

import json
import struct
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from keras_course.errors import CourseError, MissingPackageError
from keras_course.pretrained.bert_checkpoint import (
    MOST_PARAMETERS,
    BertConfig,
    check_pooling,
    check_tensors,
    parameters_of,
    places,
    plain_names,
    read_class_names,
    read_config,
    read_text_settings,
)
from keras_course.pretrained.safetensor_files import LARGEST_FILE_BYTES, LARGEST_HEADER_BYTES, Tensors, read_json

CONFIG = {
    "model_type": "bert",
    "vocab_size": 24,
    "hidden_size": 12,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 20,
    "max_position_embeddings": 16,
}
SIZES = BertConfig(
    vocabulary_size=24,
    embedding_dim=12,
    num_layers=2,
    num_heads=3,
    intermediate_dim=20,
    max_positions=16,
    segments=2,
    dropout=0.1,
    activation="gelu",
    epsilon=1e-12,
)


def write(folder, name, content):
    path = Path(folder, name)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return path


def refused(function, *arguments):
    """The one line with which something is refused."""
    with pytest.raises(CourseError) as caught:
        function(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- config.json ----------------------------------------------------------------------------------------------------


def test_the_sizes_are_read(tmp_path):
    write(tmp_path, "config.json", CONFIG)
    assert read_config(tmp_path)[0] == SIZES
    write(tmp_path, "config.json", CONFIG | {"hidden_act": "swish", "layer_norm_eps": 1e-5, "hidden_dropout_prob": 0})
    config, facts = read_config(tmp_path)
    assert (config.activation, config.epsilon, config.dropout) == ("silu", 1e-5, 0.0)
    assert facts["vocab_size"] == 24


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"model_type": "roberta"},
            "model_type 'roberta', which counts positions from the number of the padding token",
        ),
        ({"model_type": "xlm-roberta"}, "model_type 'xlm-roberta', which counts positions"),
        ({"model_type": "camembert"}, "model_type 'camembert', which counts positions"),
        ({"model_type": "distilbert"}, "model_type 'distilbert', which has no segments"),
        ({"model_type": "gpt2"}, "model_type 'gpt2'; give a checkpoint of type 'bert'"),
        ({"model_type": None}, "model_type None; give"),
        ({"model_type": ["bert"]}, r"model_type \['bert'\]; give"),
        ({"model_type": "a\nb\x1b[2J"}, r"model_type 'a\\nb\\x1b\[2J'; give"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type 'relative_key', and its attention"),
        ({"is_decoder": True}, "is_decoder True, and only an encoder is read"),
        ({"is_decoder": 1}, "is_decoder 1"),
        ({"add_cross_attention": True}, "add_cross_attention True, and only an encoder"),
        ({"pruned_heads": {"1": [0]}}, "pruned_heads"),
        ({"quantization_config": {"bits": 4}}, "quantization_config"),
        ({"hidden_act": "gelu_new"}, "hidden_act 'gelu_new'; only these are known: gelu,"),
        ({"hidden_act": "eval('1')"}, "only these are known"),
        ({"hidden_act": None}, "hidden_act None"),
        ({"hidden_act": {}}, "hidden_act {}"),
        ({"num_attention_heads": 5}, "num_attention_heads 5, which does not divide hidden_size 12"),
        ({"hidden_size": 12.0}, "hidden_size 12.0; it has to be a whole number from 1 to 16,384"),
        ({"hidden_size": "12"}, "hidden_size '12'"),
        ({"hidden_size": True}, "hidden_size True"),
        ({"vocab_size": 0}, "vocab_size 0"),
        ({"vocab_size": -1}, "vocab_size -1"),
        ({"vocab_size": None}, "vocab_size None"),
        ({"vocab_size": 10**12}, "vocab_size 1000000000000"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers 1000000000"),
        ({"intermediate_size": 10**400}, "intermediate_size 1000"),
        ({"type_vocab_size": 10**6}, "type_vocab_size 1000000"),
        ({"layer_norm_eps": 0}, "layer_norm_eps 0"),
        ({"layer_norm_eps": "1e-12"}, "layer_norm_eps '1e-12'"),
        ({"hidden_dropout_prob": 1}, "hidden_dropout_prob 1"),
        ({"hidden_dropout_prob": float("nan")}, "hidden_dropout_prob nan"),
    ],
)
def test_what_is_no_bert_is_refused_by_name(tmp_path, change, message):
    write(tmp_path, "config.json", CONFIG | change)
    with pytest.raises(CourseError, match=message) as caught:
        read_config(tmp_path)
    assert "\n" not in str(caught.value)
    assert "config.json" in str(caught.value)
    assert len(str(caught.value)) < 400 + len(str(tmp_path))


def test_a_size_that_is_not_given_is_asked_for(tmp_path):
    for name in ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"):
        write(tmp_path, "config.json", {key: value for key, value in CONFIG.items() if key != name})
        assert f"{name} None" in refused(read_config, tmp_path)


def test_a_huge_model_is_refused_although_each_size_is_allowed(tmp_path):
    huge = {"hidden_size": 2**14, "intermediate_size": 2**16, "num_hidden_layers": 256, "num_attention_heads": 256}
    write(tmp_path, "config.json", CONFIG | huge)
    assert f"at most {MOST_PARAMETERS:,} are read" in refused(read_config, tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not JSON"),
        (b"{", "is not JSON"),
        (b"[]", "holds a list"),
        (b"3", "holds a int"),
        (b"\xff\xfe{", "is not JSON"),
        (b'{"a":' * 100_000, "is not JSON"),
        (b"<html>", "is not JSON"),
        (b'{"vocab_size": ' + b"9" * 5000 + b"}", "is not JSON"),
    ],
)
def test_a_damaged_config_is_refused(tmp_path, content, message):
    write(tmp_path, "config.json", content)
    assert message in refused(read_config, tmp_path)


def test_a_missing_or_large_config_is_refused(tmp_path):
    assert "cannot be read: No such file" in refused(read_config, tmp_path)
    assert "there is no folder" in refused(read_config, tmp_path / "nowhere")
    path = write(tmp_path, "config.json", b" " * 100)
    assert "has more than 50 bytes" in refused(lambda: read_json(path, largest=50))


# --- Tensors --------------------------------------------------------------------------------------------------------


def shapes_for(head=None, classes=0, config=SIZES):
    """The shapes of the tensors of a checkpoint, by their names."""
    found = places(config, head, classes)
    return {name: place.shape[::-1] if place.transposed else place.shape for name, place in found.items()}


def test_the_tensors_of_an_encoder_are_its_parameters():
    """As the authors count those of the base model, 109,482,240 with the pooler."""
    base = BertConfig(
        vocabulary_size=30_522,
        embedding_dim=768,
        num_layers=12,
        num_heads=12,
        intermediate_dim=3072,
        max_positions=512,
        segments=2,
        dropout=0.1,
        activation="gelu",
        epsilon=1e-12,
    )
    pooler = 768 * 768 + 768
    assert parameters_of(base) == 109_482_240 - pooler
    assert sum(int(np.prod(shape)) for shape in shapes_for("pooled", config=base).values()) == 109_482_240


def check(shapes, head=None, classes=0, config=SIZES):
    check_tensors(shapes, places(config, head, classes), config, head, "here")


def test_what_belongs_to_other_heads_is_not_surplus():
    shapes = shapes_for()
    for head in ("pooled", "masked_word", "question_answering", "classifier"):
        shapes |= shapes_for(head, 3)
    check(shapes | {"embeddings.position_ids": (1, 16), "cls.seq_relationship.weight": (2, 12)})


@pytest.mark.parametrize("name", shapes_for())
def test_a_missing_or_misshapen_tensor_is_named(name):
    shapes = shapes_for()
    shape = shapes.pop(name)
    assert f"has no tensor {name}" in refused(check, shapes)
    for wrong in ((), (5,), (*shape, 1), (shape[0] + 1, *shape[1:])):
        message = refused(check, shapes | {name: wrong})
        assert f"has the tensor {name} in the shape {wrong}; by its config.json it has to be {shape}" in message


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_layers": 3}, r"no tensor encoder\.layer\.2\..*; its config.json says 3 layers, and it has .* of 2"),
        ({"num_layers": 1}, r"has a tensor encoder\.layer\.1\..*, which this model lacks; its config.json says 1 lay"),
        ({"vocabulary_size": 25}, r"word_embeddings\.weight in the shape \(24, 12\); by its config.json .* \(25, 12\)"),
        ({"max_positions": 8}, "position_embeddings"),
        ({"embedding_dim": 24}, "word_embeddings"),
        ({"intermediate_dim": 21}, r"encoder\.layer\.0\.intermediate\.dense\.weight"),
    ],
)
def test_a_config_of_other_sizes_is_found(change, message):
    config = BertConfig(**{**SIZES.__dict__, **change})
    with pytest.raises(CourseError, match=message):
        check(shapes_for(), config=config)


@pytest.mark.parametrize(
    "name",
    [
        "lm_head.weight",
        "encoder.layer.0.crossattention.self.query.weight",
        "encoder.layer.0.attention.self.distance_embedding.weight",
        "embeddings.word_embeddings.weight.extra",
        "encoder.layer.99999999999999999999.output.dense.bias",
        "\x1b[2J" * 100,
    ],
)
def test_a_surplus_tensor_is_named(name):
    message = refused(check, shapes_for() | {name: (1,)})
    assert "has a tensor" in message
    assert message.isprintable()
    assert len(message) < 250


@pytest.mark.parametrize("head", ["pooled", "masked_word", "question_answering", "classifier"])
def test_a_head_without_weights_has_a_remedy(head):
    assert f"which head='{head}' needs; give head=None" in refused(check, shapes_for(), head, 2)


def test_names_with_prefix_and_of_old_checkpoints_are_the_same():
    names = [
        "bert.embeddings.LayerNorm.gamma",
        "bert.encoder.layer.0.output.LayerNorm.beta",
        "encoder.layer.1.output.LayerNorm.weight",
        "cls.predictions.bias",
    ]
    assert list(plain_names(names, "here")) == [
        "embeddings.LayerNorm.weight",
        "encoder.layer.0.output.LayerNorm.bias",
        "encoder.layer.1.output.LayerNorm.weight",
        "cls.predictions.bias",
    ]
    for twice in (["bert.a", "a"], ["LayerNorm.gamma", "LayerNorm.weight"]):
        assert "which are the same tensor" in refused(plain_names, twice, "here")


# --- safetensors ----------------------------------------------------------------------------------------------------

NUMBERS = {
    "a": np.arange(6, dtype="float32").reshape(2, 3),
    "b": np.linspace(-1, 1, 5),
    "c": np.array([0.5, -2.0, 65504.0], "float16"),
    "d": np.array(7),
}


def test_numbers_are_read_as_float32(tmp_path):
    save_file(NUMBERS, tmp_path / "model.safetensors")
    with Tensors(tmp_path) as tensors:
        assert tensors.shapes == {name: array.shape for name, array in NUMBERS.items()}
        for name, array in NUMBERS.items():
            found = tensors.read(name)
            assert found.dtype == np.float32
            np.testing.assert_array_equal(found, array.astype("float32"))


def header_file(path, header, data=bytes(64), length=None):
    """A file of safetensors with a header that no writer would write."""
    content = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(content) if length is None else length) + content + data)
    return path


def entry(shape, begin, end, dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def test_bfloat16_is_read(tmp_path):
    """It is the upper half of float32."""
    numbers = np.array([[1.0, -2.5], [3.140625, 1e30]], "float32")
    halves = (numbers.view("uint32") >> 16).astype("<u2").tobytes()
    header = {"x": entry([2], 0, 8), "y": entry([2, 2], 8, 16, "BF16")}
    header_file(tmp_path / "model.safetensors", header, np.array([4.0, 5.0], "float32").tobytes() + halves)
    with Tensors(tmp_path) as tensors:
        np.testing.assert_array_equal(tensors.read("x"), [4, 5])
        np.testing.assert_allclose(tensors.read("y"), numbers, rtol=1 / 128)
        np.testing.assert_array_equal(tensors.read("y")[0], numbers[0])


@pytest.mark.parametrize(
    ("header", "data", "length"),
    [
        pytest.param({"a": entry([4], 0, 16), "b": entry([12], 8, 56)}, 64, None, id="overlapping"),
        pytest.param({"a": entry([16], 0, 64), "b": entry([16], 0, 64)}, 64, None, id="the same place"),
        pytest.param({"a": entry([4], 0, 16), "b": entry([8], 32, 64)}, 64, None, id="a gap"),
        pytest.param({"a": entry([4], 0, 16)}, 64, None, id="data that nothing names"),
        pytest.param({"a": entry([16], 0, 64)}, 60, None, id="cut"),
        pytest.param({"a": entry([16], 0, 64)}, 0, None, id="no data"),
        pytest.param({"a": entry([15], 0, 64)}, 64, None, id="a wrong length"),
        pytest.param({"a": entry([16], 64, 0)}, 64, None, id="backward"),
        pytest.param({"a": entry([16], -64, 0)}, 64, None, id="before the data"),
        pytest.param({"a": entry([2**40], 0, 2**42)}, 64, None, id="huge"),
        pytest.param({"a": entry([2**63, 2], 0, 64)}, 64, None, id="huger than 64 bits"),
        pytest.param({"a": entry([-16], 0, 64)}, 64, None, id="a negative side"),
        pytest.param({"a": entry([16.5], 0, 64)}, 64, None, id="half a number"),
        pytest.param({"a": entry([16], 0, 64, "WEIRD")}, 64, None, id="an unknown type"),
        pytest.param({"a": entry([64], 0, 64, "F8_E4M3")}, 64, None, id="quantized"),
        pytest.param({"a": entry([64], 0, 64, "BOOL")}, 64, None, id="booleans"),
        pytest.param({"a": 3}, 64, None, id="no entry"),
        pytest.param({"a": entry([16], 0, 64)}, 64, 2**62, id="a header longer than the file"),
        pytest.param({"a": entry([16], 0, 64)}, 64, 2**64 - 1, id="the longest header"),
        pytest.param({"a": entry([16], 0, 64)}, 64, 3, id="a header cut"),
        pytest.param({"a": entry([16], 0, 64)}, 64, 0, id="no header"),
        pytest.param(b"[1]", 64, None, id="a list"),
        pytest.param(b"\xff" * 20, 64, None, id="no UTF-8"),
        pytest.param(b'{"a":' * 10_000, 64, None, id="nested"),
    ],
)
def test_a_hostile_header_is_refused(tmp_path, header, data, length):
    header_file(tmp_path / "model.safetensors", header, bytes(data), length)
    tracemalloc.start()
    message = refused(Tensors, tmp_path)
    assert tracemalloc.get_traced_memory()[1] < 2**24
    tracemalloc.stop()
    assert "model.safetensors" in message
    assert message.isprintable()


def test_a_long_header_or_file_is_refused_before_it_is_read(tmp_path):
    path = header_file(tmp_path / "model.safetensors", b"{}" + b" " * LARGEST_HEADER_BYTES)
    assert "has a header of" in refused(Tensors, tmp_path)
    with path.open("r+b") as file:
        file.truncate(LARGEST_FILE_BYTES + 1)
    assert f"at most {LARGEST_FILE_BYTES:,} are read" in refused(Tensors, tmp_path)


@pytest.mark.parametrize("content", [b"", b"\x00" * 7, b"\x80\x02}q\x00.", b"PK\x03\x04" + bytes(100)])
def test_another_format_under_the_name_is_refused(tmp_path, content):
    write(tmp_path, "model.safetensors", content)
    assert "model.safetensors" in refused(Tensors, tmp_path)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "tf_model.h5", "flax_model.msgpack"])
def test_weights_in_another_format_alone_are_refused_with_the_remedy(tmp_path, name):
    write(tmp_path, name, b"\x80\x02}q\x00.")
    message = refused(Tensors, tmp_path)
    assert name in message
    assert "save_pretrained()" in message


def test_a_folder_without_weights_is_refused(tmp_path):
    assert "has no model.safetensors" in refused(Tensors, tmp_path)
    assert "is not a folder" in refused(Tensors, tmp_path / "nowhere")


def test_without_the_library_the_error_says_what_to_install(tmp_path, monkeypatch):
    save_file(NUMBERS, tmp_path / "model.safetensors")
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(MissingPackageError, match=r'pip install "keras-course\[text\]"'):
        Tensors(tmp_path)


# --- Several files --------------------------------------------------------------------------------------------------

PLACES = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}


def shards(folder, places=None, **others):
    for name, file in PLACES.items():
        save_file({name: NUMBERS[name]}, folder / file)
    write(folder, "model.safetensors.index.json", {"weight_map": PLACES if places is None else places, **others})


def test_several_files_are_read_as_one(tmp_path):
    shards(tmp_path, metadata={"total_size": 44})
    with Tensors(tmp_path) as tensors:
        assert tensors.shapes == {"a": (2, 3), "b": (5,)}
        for name in PLACES:
            np.testing.assert_array_equal(tensors.read(name), NUMBERS[name].astype("float32"))


@pytest.mark.parametrize(
    ("places", "message"),
    [
        ({}, "has no weight_map"),
        ([], "has no weight_map"),
        ({"a": "../other.safetensors"}, "it has to be one beside it"),
        ({"a": "/etc/passwd"}, "it has to be one beside it"),
        ({"a": "folder/x.safetensors"}, "it has to be one beside it"),
        ({"a": "..safetensors"}, "it has to be one beside it"),
        ({"a": "pytorch_model.bin"}, "it has to be one beside it"),
        ({"a": 3}, "it has to be one beside it"),
        ({"a": "gone.safetensors"}, r"there is no .*gone\.safetensors"),
        ({**PLACES, "c": PLACES["b"]}, "has no tensor c, and model.safetensors.index.json names it"),
        ({"a": PLACES["a"], "b": PLACES["a"]}, "has no tensor b"),
        ({f"t{number}": f"f{number}.safetensors" for number in range(101)}, "names more than 100 files"),
    ],
)
def test_a_wrong_index_is_refused(tmp_path, places, message):
    shards(tmp_path, places)
    with pytest.raises(CourseError, match=message):
        Tensors(tmp_path)


def test_a_tensor_in_two_files_or_in_none_of_the_index_is_refused(tmp_path):
    shards(tmp_path)
    save_file({"b": NUMBERS["b"], "c": NUMBERS["c"]}, tmp_path / PLACES["b"])
    assert "has a tensor c, and model.safetensors.index.json does not name it" in refused(Tensors, tmp_path)
    shards(tmp_path)
    (tmp_path / PLACES["b"]).write_bytes((tmp_path / PLACES["a"]).read_bytes())
    assert "has a tensor a, and model.safetensors.index.json does not name it" in refused(Tensors, tmp_path)


# --- Text -----------------------------------------------------------------------------------------------------------


def test_how_a_text_is_split_is_read(tmp_path):
    assert "has neither tokenizer.json nor vocab.txt" in refused(read_text_settings, tmp_path, SIZES)
    write(tmp_path, "vocab.txt", b"[PAD]\n")
    assert read_text_settings(tmp_path, SIZES) == (tmp_path / "vocab.txt", True, None, 16)
    write(tmp_path, "tokenizer_config.json", {"do_lower_case": False, "model_max_length": 1e30})
    assert read_text_settings(tmp_path, SIZES) == (tmp_path / "vocab.txt", False, None, 16)
    write(tmp_path, "tokenizer_config.json", {"strip_accents": True, "model_max_length": 12})
    assert read_text_settings(tmp_path, SIZES) == (tmp_path / "vocab.txt", True, True, 12)
    write(tmp_path, "tokenizer.json", {})
    assert read_text_settings(tmp_path, SIZES) == (tmp_path / "tokenizer.json", None, True, 12)
    write(tmp_path, "sentence_bert_config.json", {"max_seq_length": 8})
    assert read_text_settings(tmp_path, SIZES).longest == 8
    for odd in (-5, "8", None, True, 1e400, [8]):
        write(tmp_path, "sentence_bert_config.json", {"max_seq_length": odd})
        assert read_text_settings(tmp_path, SIZES).longest == 12


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"do_lower_case": "yes"}, "do_lower_case 'yes'; it has to be true or false"),
        ({"strip_accents": 1}, "strip_accents 1"),
        ({"tokenize_chinese_chars": False}, "tokenize_chinese_chars False"),
    ],
)
def test_odd_settings_of_the_text_are_refused(tmp_path, settings, message):
    write(tmp_path, "vocab.txt", b"[PAD]\n")
    write(tmp_path, "tokenizer_config.json", settings)
    assert message in refused(read_text_settings, tmp_path, SIZES)


def test_vectors_of_sentences_that_are_no_means_are_refused(tmp_path):
    check_pooling(tmp_path)
    write(tmp_path, "1_Pooling/config.json", {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False})
    check_pooling(tmp_path)
    write(tmp_path, "1_Pooling/config.json", {"pooling_mode_mean_tokens": False, "pooling_mode_cls_token": True})
    assert "asks for pooling_mode_cls_token, and head='sentence' takes means" in refused(check_pooling, tmp_path)


def test_classes_have_the_names_of_the_config_or_numbers():
    assert read_class_names({"id2label": {"0": "bad", "1": "good"}}, 2) == ("bad", "good")
    for odd in (None, [], {"0": "a"}, {"0": "1"}, 5):
        assert len(set(read_class_names({"id2label": odd}, 3))) == 3
    assert read_class_names({"id2label": {"0": "a", "1": "a"}}, 2) == ("0", "1")
    assert read_class_names({}, 2) == ("0", "1")
