"""BERT beside PyPI's transformers, in one process: small random models that it saves itself, and all-MiniLM-L6-v2.

The other backends are compared with what tests/data/make_bert.py has recorded of it.
"""

import importlib.util
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_course.preprocessing.text import encode
from keras_course.pretrained import embed, load_bert

DATA = Path(__file__).parent.parent / "data"
SPEC = importlib.util.spec_from_file_location("make_bert", DATA / "make_bert.py")
make_bert = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(make_bert)

SENTENCES = (
    *make_bert.SENTENCES,
    "Attention is all you need.",
    "日本語 and 中文 in one line 🙂",
    "unbelievable tokenization of uncommonly long wordpieces",
)


def outputs_of(model, tokens, segments, mask):
    inputs = {"token_ids": tokens, "segment_ids": segments, "padding_mask": mask}
    return keras.ops.convert_to_numpy(model(inputs if isinstance(model.input, dict) else tokens, training=False))


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize(
    ("case", "head"),
    [
        ("pooled", None),
        ("pooled", "pooled"),
        ("pooled", "sentence"),
        ("masked_word", "masked_word"),
        ("question_answering", "question_answering"),
        ("classifier", "classifier"),
    ],
)
def test_a_random_model_computes_the_same(tmp_path, case, head, seed):
    theirs = make_bert.make_checkpoint(case, tmp_path, seed)
    ours = load_bert(tmp_path, head=head)
    tokens, segments, mask = make_bert.inputs(seed, length=7 + seed)
    if head in ("sentence", "classifier"):
        segments = np.zeros_like(segments)
    outputs = make_bert.run(theirs, tokens, segments, mask)
    if head is None:
        expected = outputs.last_hidden_state.numpy()
    elif head == "pooled":
        expected = outputs.pooler_output.numpy()
    elif head == "sentence":
        expected = make_bert.sentence_vectors(outputs.last_hidden_state.numpy(), mask)
    elif head == "question_answering":
        expected = np.stack([outputs.start_logits.numpy(), outputs.end_logits.numpy()], axis=-1)
    else:
        expected = outputs.logits.numpy()
    assert expected.std() > 0.1
    np.testing.assert_allclose(outputs_of(ours.model, tokens, segments, mask), expected, atol=1e-4)


def test_minilm_computes_the_same():
    theirs = make_bert.transformers().BertModel.from_pretrained(make_bert.minilm_folder()).eval()
    ours = load_bert("minilm", sequence_length=32)
    tokens = encode(SENTENCES, ours.format)
    mask, segments = tokens != 0, np.zeros_like(tokens)
    segments[:, 5:] = 1
    segments[~mask] = 0
    expected = make_bert.run(theirs, tokens, segments, mask).last_hidden_state.numpy()
    np.testing.assert_allclose(outputs_of(ours.model, tokens, segments, mask), expected, atol=1e-4)
    alone = make_bert.run(theirs, tokens, np.zeros_like(tokens), mask).last_hidden_state.numpy()
    np.testing.assert_allclose(embed(ours, SENTENCES), make_bert.sentence_vectors(alone, mask), atol=1e-5)


@pytest.mark.parametrize("case", make_bert.CASES)
def test_what_is_recorded_is_what_transformers_computes(tmp_path, case):
    """Of the weights that are recorded, too: PyTorch draws the same ones again."""
    theirs = make_bert.make_checkpoint(case, tmp_path)
    with np.load(DATA / "bert.npz") as made:
        assert made[f"{case}/model.safetensors"].tobytes() == (tmp_path / "model.safetensors").read_bytes()
        for name, expected in make_bert.expected_of(case, theirs).items():
            np.testing.assert_allclose(made[f"{case}/expected/{name}"], expected, atol=1e-5)
