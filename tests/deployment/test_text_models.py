"""Nets for texts: opened, asked and exported as those for pictures are, with the same answers everywhere."""

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_course._backend import select
from keras_course.cards import ModelCard, read_card
from keras_course.deployment import export, formats
from keras_course.deployment.answers import predictions_of
from keras_course.deployment.export import export_model
from keras_course.deployment.model_files import load_keras_model
from keras_course.deployment.quantization import measure_change
from keras_course.deployment.runtimes import open_model
from keras_course.deployment.texts import encode_text, predict_texts
from keras_course.errors import CourseError, MissingPackageError
from keras_course.preprocessing.text_format import TextFormat
from keras_course.training import RunDirectory
from tests.deployment.conftest import LENGTH, VOCABULARY, make_text_model, text_card, words

ROOT = Path(__file__).parents[2]
BACKEND = keras.backend.backend()
NETS = ("lstm", "gru", "causal", "classifier", "sentences")
TEXTS = ["To be", "or not to be, that is the question", "whether 'tis nobler in the mind"[:20], "quid"]


def can_be_written(kind):
    known = formats.FORMATS[kind]
    packages, _ = known.writers.get(BACKEND, ((BACKEND + " does not",), ""))
    return all(map(select.is_installed, (*packages, known.runtime)))


REFUSED = {("gru", "openvino", "tensorflow")}
"""What a converter cannot write; the error says on which backends it can be tried."""
WRITTEN = [
    (net, kind)
    for net in NETS
    for kind in formats.FORMATS
    if can_be_written(kind) and (net, kind, BACKEND) not in REFUSED
]


def tokens_of(net, count=9, seed=3):
    """Random tokens, padded as texts of all lengths are; the first text has none to spare."""
    text_format = text_card(net).text_format
    tokens = np.random.default_rng(seed).integers(1, len(VOCABULARY), (count, LENGTH), dtype="int32")
    for number, row in enumerate(tokens):
        padding = number % LENGTH
        row[slice(0, padding) if text_format.padding == "left" else slice(LENGTH - padding, None)] = 0
    return tokens


def expected_logits(net, run, tokens):
    """What Keras gives, called directly: of the causal net after the last token that is no padding."""
    model = load_keras_model(run / "model.keras")
    logits = keras.ops.convert_to_numpy(model(tokens, training=False))
    if net == "causal":
        last = [max(np.flatnonzero(row)) for row in tokens]
        logits = logits[range(len(tokens)), last]
    return logits


@pytest.mark.parametrize("net", NETS)
def test_the_model_process_gives_the_logits_of_keras(text_run, net):
    run = text_run(net)
    tokens = tokens_of(net)
    runtime = open_model(run)
    assert runtime.card.is_language_model == (net in ("lstm", "gru", "causal"))
    expected = expected_logits(net, run, tokens)
    for count in (1, 3, 9):
        np.testing.assert_allclose(runtime.outputs(tokens[:count]), expected[:count], atol=1e-5)
    assert runtime.heat(tokens[0], 0) is None
    runtime.close()
    assert expected.std() > 0.1, "a constant would agree with a constant"


def test_the_classifier_depends_on_its_mask(text_run):
    """Without this, the test above would not find a lost mask."""
    model = load_keras_model(text_run("classifier") / "model.keras")
    long, short = tokens_of("classifier", 1)[0], tokens_of("classifier", 1)[0]
    short[4:] = 0
    without_mask = short.copy()
    without_mask[4:] = 1
    full, cut, unknown = keras.ops.convert_to_numpy(model(np.stack([long, short, without_mask])))
    assert abs(full - cut).max() > 1e-3
    assert abs(unknown - cut).max() > 1e-3


@pytest.mark.parametrize("net", ["lstm", "causal", "classifier"])
def test_predict_texts_uses_the_logits_of_keras(text_run, net):
    run = text_run(net)
    runtime = open_model(run, trust=True)
    card = runtime.card
    found = list(predict_texts(runtime, TEXTS, top=2, cut=True))
    tokens = np.stack([encode_text(text, card.text_format, cut=True).tokens for text in TEXTS])
    expected = predictions_of(expected_logits(net, run, tokens), card.class_names, top=2)
    for prediction, answers in zip(found, expected, strict=True):
        assert [answer.class_name for answer in prediction.answers] == [answer.class_name for answer in answers]
        shares = [answer.probability for answer in prediction.answers]
        np.testing.assert_allclose(shares, [answer.probability for answer in answers], atol=1e-5)
    assert [bool(prediction.note) for prediction in found] == [False, True, False, True]


def test_a_model_is_not_saved_with_the_card_of_another(tmp_path):
    card = text_card("lstm")
    inputs = keras.Input((LENGTH,))
    floats = keras.Model(inputs, keras.layers.Dense(len(VOCABULARY))(inputs))
    with RunDirectory(tmp_path / "a") as run, pytest.raises(CourseError, match="takes float32, and the tokens"):
        run.save_model(floats, card)
    short = TextFormat(**{**words("left").to_dict(), "sequence_length": 7})
    for number, (wrong, message) in enumerate(
        [
            (ModelCard(title="a", text_format=short), "takes tokens 8, and its card says 7"),
            (ModelCard(title="a", class_names=("a", "b"), text_format=words("left")), "gives 16 numbers for a text"),
        ]
    ):
        with RunDirectory(tmp_path / str(number)) as run, pytest.raises(CourseError, match=message):
            run.save_model(make_text_model("lstm"), wrong)


# --- export ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def exported(text_run, tmp_path_factory):
    """The exports of the nets, each written when a test first asks for it; no test may change them."""
    folder = tmp_path_factory.mktemp("exports")

    @cache
    def exported(net, kind):
        output = folder / f"{net}_{kind}" / formats.FORMATS[kind].file_name
        return export_model(text_run(net), format=kind, output=output, trust=True)

    return exported


@pytest.mark.parametrize(("net", "kind"), WRITTEN)
def test_an_export_gives_the_logits_of_keras_for_a_batch_of_any_size(text_run, exported, net, kind):
    written = exported(net, kind)
    assert written.difference < 1e-4
    runtime = open_model(written.path, trust=True)
    tokens = tokens_of(net)
    expected = expected_logits(net, text_run(net), tokens)
    for count in (1, 2, 9):
        np.testing.assert_allclose(runtime.outputs(tokens[:count]), expected[:count], atol=1e-4)
    assert runtime.card == read_card(text_run(net) / "model.keras")
    opened = formats.open_export(formats.find_model_file(written.path), trust=True)
    assert opened.takes == (None, None if is_any_length(net, kind) else LENGTH)
    assert opened.input_type == "int32"
    assert runtime.card.check_model("it", opened.takes, opened.gives, opened.input_type) is None


def is_any_length(net, kind):
    """Whether an export takes texts of any length: LiteRT fixes it."""
    return net == "sentences" and kind != "litert"


@pytest.mark.parametrize("kind", [kind for net, kind in WRITTEN if is_any_length(net, kind)])
def test_an_export_takes_shorter_texts_if_the_model_takes_any_length(text_run, exported, kind):
    """Less padding takes less time."""
    runtime = open_model(exported("sentences", kind).path, trust=True)
    assert runtime.any_length
    model = load_keras_model(text_run("sentences") / "model.keras")
    tokens = np.random.default_rng(4).integers(1, len(VOCABULARY), (5, LENGTH), dtype="int32")
    tokens[1:, 3:] = 0
    for count, length in ((5, LENGTH), (5, 3), (1, 1), (2, 5)):
        some = tokens[-count:, :length]
        expected = keras.ops.convert_to_numpy(model(some))
        np.testing.assert_allclose(runtime.outputs(some), expected, atol=1e-5)
    for wrong in (np.ones((2, LENGTH + 1), "int32"), np.ones((2, 0), "int32")):
        with pytest.raises(CourseError, match=rf"tokens have the shape .*; give \(n, {LENGTH}\)"):
            runtime.outputs(wrong)


def test_a_model_of_fixed_length_takes_no_shorter_texts(text_run):
    runtime = open_model(text_run("classifier"))
    assert not runtime.any_length
    with pytest.raises(CourseError, match=rf"tokens have the shape \(2, 3\); give \(n, {LENGTH}\)"):
        runtime.logits(np.ones((2, 3), "int32"))
    runtime.close()


@pytest.mark.one_backend
def test_a_model_of_any_length_tells_so_from_its_process(text_run):
    runtime = open_model(text_run("sentences"))
    assert runtime.any_length
    assert runtime.outputs(np.ones((2, 3), "int32")).shape == (2, 16)
    runtime.close()


@pytest.mark.skipif(BACKEND != "tensorflow", reason="the other backends write all of it")
def test_a_model_that_cannot_be_written_is_refused_with_a_remedy(text_run, tmp_path):
    with pytest.raises(CourseError, match=r"the format 'openvino': .*; try it on (jax or torch|torch or jax)$"):
        export_model(text_run("gru"), format="openvino", output=tmp_path / "openvino", trust=True)
    assert not list(tmp_path.iterdir())


def test_export_does_not_unroll_the_model_itself(text_run, exported):
    """LiteRT gets a net without loops; the net itself keeps them."""
    if "litert" in dict(map(reversed, WRITTEN)):
        exported("lstm", "litert")
    model = load_keras_model(text_run("lstm") / "model.keras")
    assert not model.get_layer("lstm").unroll


@pytest.mark.parametrize("net", ["lstm", "causal"])
def test_short_texts_are_compared_too(text_run, tmp_path, monkeypatch, net):
    """An export that is wrong only for padded texts is refused."""
    seen = []
    compare = export._compare

    def keep(path, kind, inputs, expected):
        seen.append((inputs, expected))
        return compare(path, kind, inputs, expected + 0.01 * (inputs == 0).any(axis=1, keepdims=True))

    monkeypatch.setattr(export, "_compare", keep)
    with pytest.raises(CourseError, match=r"gives other answers than Keras: logits differ by 0\.01"):
        export_model(text_run(net), format="onnx", output=tmp_path / "a" / "model.onnx", trust=True)
    ((tokens, expected),) = seen
    lengths = sorted((tokens != 0).sum(axis=1).tolist())
    assert lengths[0] <= 1
    assert lengths[-1] >= 6
    assert expected.shape == (5, len(VOCABULARY))
    assert tokens.max() < len(VOCABULARY)


# --- Weights of 8 bits -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("net", ["lstm", "causal", "classifier", "sentences"])
def test_the_card_of_a_quantized_export_has_the_measured_difference(text_run, tmp_path, net):
    output = tmp_path / "new" / "small.onnx"
    written = export_model(text_run(net), format="onnx", output=output, quantize="int8", trust=True)
    runtime, card = open_model(written.path), read_card(text_run(net) / "model.keras")
    measured = dict(runtime.card.metrics)
    assert set(measured) == {"int8_largest_difference", "int8_smallest_cosine", "int8_agreement"}
    assert (measured["int8_largest_difference"], measured["int8_smallest_cosine"]) == (
        written.difference,
        written.cosine,
    )
    assert runtime.card.class_names == card.class_names
    tokens = tokens_of(net, 32, seed=8)
    change = measure_change(expected_logits(net, text_run(net), tokens), runtime.outputs(tokens))
    assert 1e-5 < change.difference < 5 * written.difference, "it computes with 8 bits, and what was measured holds"
    assert change.cosine > 0.95
    assert written.cosine > 0.97
    assert [path.name for path in output.parent.iterdir()] == ["small.onnx"]


def test_quantized_weights_have_8_bits(text_run, exported, tmp_path):
    import onnx

    written = export_model(text_run("causal"), format="onnx", output=tmp_path / "a.onnx", quantize="int8", trust=True)

    def bytes_of_weights(path):
        weights = onnx.load(path).graph.initializer
        return [(tensor.data_type, int(np.prod(tensor.dims))) for tensor in weights if np.prod(tensor.dims) > 200]

    before = bytes_of_weights(exported("causal", "onnx").path)
    after = bytes_of_weights(written.path)
    assert {kind for kind, _ in before} == {onnx.TensorProto.FLOAT}
    small = sum(count for kind, count in after if kind == onnx.TensorProto.UINT8)
    assert small > 0.8 * sum(count for _, count in before)


def test_a_picture_model_can_be_quantized(dense_run, tmp_path):
    written = export_model(dense_run, format="onnx", output=tmp_path / "a.onnx", quantize="int8", trust=True)
    assert written.cosine > 0.99
    assert 0 < written.difference < 0.2
    assert set(open_model(written.path).card.metrics) > {"int8_agreement"}


def test_a_quantized_export_with_other_answers_is_not_written(text_run, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "SMALLEST_COSINE", 1.1)
    with pytest.raises(CourseError, match=r"weights of 8 bits the model gives other answers: a cosine of .*export it"):
        export_model(text_run("lstm"), format="onnx", output=tmp_path / "a.onnx", quantize="int8", trust=True)
    assert not list(tmp_path.iterdir())


def test_an_error_of_the_quantization_is_explained(text_run, tmp_path, monkeypatch):
    def fail(*_):
        raise RuntimeError("operator 'Frobnicate'\nis not known")

    monkeypatch.setattr(export, "write_int8", fail)
    with pytest.raises(CourseError, match="cannot be quantized: operator 'Frobnicate' is not known; export it without"):
        export_model(text_run("lstm"), format="onnx", output=tmp_path / "a.onnx", quantize="int8", trust=True)
    assert not list(tmp_path.iterdir())


def test_wrong_quantize_arguments_are_explained_before_the_export(text_run, monkeypatch):
    for settings, message in [
        ({"format": "onnx", "quantize": "int4"}, "quantize is 'int4'; give int8, or leave it out"),
        ({"format": "torch", "quantize": "int8"}, "the format is 'torch'; only onnx can be quantized"),
    ]:
        with pytest.raises(CourseError, match=message):
            export_model(text_run("lstm"), **settings)
    monkeypatch.setattr(select, "is_installed", lambda name: name != "onnx")
    with pytest.raises(MissingPackageError, match="quantize='int8' needs onnx, which is not installed"):
        export_model(text_run("lstm"), format="onnx", quantize="int8")


def test_measure_change_equals_a_hand_calculation():
    change = measure_change([[1.0, 0.0], [0.0, 2.0], [0.0, 0.0]], [[0.6, 0.8], [0.0, 1.5], [0.1, 0.0]])
    assert change.difference == pytest.approx(0.8)
    assert change.cosine == pytest.approx(0.6)
    assert change.agreement == pytest.approx(2 / 3)


# --- The commands ------------------------------------------------------------------------------------------------


def run_command(*arguments, **settings):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-m", "keras_course", *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, timeout=200, check=False, **settings)


@pytest.fixture(scope="session")
def onnx_model(exported):
    """The language model as ONNX, which opens faster than in Keras."""
    return exported("lstm", "onnx").path


@pytest.mark.one_backend
def test_predict_answers_arguments_files_and_the_standard_input(text_run, onnx_model, tmp_path):
    (tmp_path / "lines.txt").write_text("or not\n\nto be or not to be that is\n", "utf-8")
    arguments = ["To be", tmp_path / "lines.txt", "-", "quid", "", "--top", 2]
    done = run_command("predict", onnx_model, *arguments, "--json", input=b"the question\n\xff\n")
    assert done.returncode == 0, done.stderr
    printed = json.loads(done.stdout)
    assert (printed["format"], printed["model"]) == ("onnx", str(onnx_model))
    predictions = printed["predictions"]
    assert [found["text"] for found in predictions] == [
        *("To be", "or not", "to be or not to be that is", "the question", "\ufffd", "quid", "")
    ]
    good = [0, 1, 3, 5]
    texts = [predictions[number]["text"] for number in good]
    expected = list(predict_texts(open_model(text_run("lstm"), trust=True), texts, top=2))
    for number, prediction in zip(good, expected, strict=True):
        found = predictions[number]["answers"]
        assert [answer["class"] for answer in found] == [answer.class_name for answer in prediction.answers]
        shares = [answer["probability"] for answer in found]
        np.testing.assert_allclose(shares, [answer.probability for answer in prediction.answers], atol=1e-4)
    assert predictions[2]["error"].endswith("line 3 has 9 tokens, and the model takes 8; shorten it, or add --cut")
    assert predictions[4]["error"] == "standard input, line 2 is not valid UTF-8 (byte 1); save the file as UTF-8"
    assert predictions[5]["note"] == "the model knows none of its words"
    assert predictions[6]["error"] == "text 5 is empty; give a text"


@pytest.mark.one_backend
def test_predict_shows_a_table_of_texts(text_run, tmp_path):
    done = run_command("predict", text_run("lstm"), "To be " * 8, "--cut", "quid \x1b[2J " * 3)
    shown = " ".join(done.stdout.decode().split())
    assert done.returncode == 0, done.stderr
    assert "of its 17 tokens the model takes 8" in shown
    assert "the model knows none of its words" in shown
    assert "The next word (lstm)" in shown
    assert "\x1b" not in shown
    alone = run_command("predict", text_run("lstm"), "To be " * 8)
    assert alone.returncode == 2
    assert "shorten it, or add --cut" in " ".join(alone.stdout.decode().split())


@pytest.mark.one_backend
@pytest.mark.parametrize(
    ("model", "arguments", "message"),
    [
        ("texts", ["nowhere.txt"], "nowhere.txt cannot be read: No such file or directory; give a text file"),
        ("texts", ["-"], "the standard input has no text; give one in each line"),
        ("texts", ["to", "--top", 0], "top is 0; give a whole number from 1 up"),
        ("pictures", ["to be"], "there is no picture to be; give the path of one"),
        ("pictures", [ROOT / "nothing.png", "--cut"], "--cut is for texts, and the model takes pictures; leave it out"),
    ],
)
def test_predict_explains_a_mistake_in_one_line(text_run, dense_run, model, arguments, message):
    run = text_run("lstm") if model == "texts" else dense_run
    done = run_command("predict", run, *arguments, input=b"")
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.decode().splitlines()[-1] == f"error: {message}"
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.one_backend
def test_arguments_with_invalid_utf_8_are_explained(onnx_model):
    done = run_command("predict", onnx_model, b"to \xff".decode("utf-8", "surrogateescape"), "--json")
    (prediction,) = json.loads(done.stdout)["predictions"]
    assert prediction["error"] == "text 1 is not valid UTF-8: it has half a character at position 4; give plain text"
    assert done.returncode == 2


@pytest.mark.one_backend
def test_the_export_command_quantizes(text_run):
    done = run_command("export", text_run("lstm"), "--format", "onnx", "--quantize", "int8")
    assert (done.returncode, done.stderr) == (0, b"")
    first, second = done.stdout.decode().splitlines()
    written = text_run("lstm") / "exports" / "model.int8.onnx"
    assert first == f"{written}: {written.stat().st_size:,} bytes, written by {BACKEND}"
    cosine = open_model(written).card.metrics["int8_smallest_cosine"]
    assert second.endswith(f", smallest cosine {cosine:.4f}")


@pytest.mark.one_backend
def test_the_grader_refuses_text_models(text_run, tmp_path):
    from keras_course.assessment.exam import Exam
    from keras_course.assessment.grader import grade
    from tests.assessment.conftest import write_photos

    photos = write_photos(tmp_path / "photos", dict.fromkeys(("blue", "green"), 6))
    graded = grade(text_run("lstm"), Exam(folder=photos))
    assert (graded.verdict, graded.reason) == ("not graded", "it takes texts, and the exam has photos")
