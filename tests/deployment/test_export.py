"""Exports: equal logits in every format, cards, and no files lost after errors."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from types import ModuleType

import keras
import numpy as np
import pytest

from keras_course._backend import select
from keras_course.cards import ModelCard, read_card
from keras_course.deployment import export, formats
from keras_course.deployment.model_files import load_keras_model
from keras_course.deployment.runtimes import open_here, open_model
from keras_course.errors import CourseError, MissingPackageError
from keras_course.models import dense_classifier
from keras_course.preprocessing import PictureFormat
from keras_course.training import RunDirectory, predict_logits

ROOT = Path(__file__).parents[2]
BACKEND = keras.backend.backend()
# Only the last test exports in a separate process, which takes seconds to start.
export_model = partial(export.export_model, trust=True)


def can_write(kind):
    """Returns whether this backend writes the format and all packages for it are installed."""
    known = formats.FORMATS[kind]
    packages, _ = known.writers.get(BACKEND, ((BACKEND + " does not",), ""))
    return all(map(select.is_installed, (*packages, known.runtime)))


WRITABLE = [kind for kind in formats.FORMATS if can_write(kind)]
KINDS = pytest.mark.parametrize("kind", WRITABLE)
# What does not depend on the backend is tested once for the formats that all three backends write.
KINDS_ONCE = pytest.mark.parametrize(
    "kind",
    [
        pytest.param(kind, marks=pytest.mark.one_backend if len(formats.FORMATS[kind].writers) > 1 else ())
        for kind in WRITABLE
    ],
)


def pictures(card, count, seed=7):
    return np.random.default_rng(seed).integers(0, 256, (count, *card.picture_format.shape), dtype="uint8")


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="session")
def exported(make_run):
    """Returns a function for exports of two networks, written on the first call; tests must not change them."""
    run_of = cache(make_run)
    return cache(lambda net, kind: export_model(run_of(net), format=kind))


def test_each_backend_writes_its_formats():
    """In tox, the packages of all formats of each backend are installed; elsewhere some can be missing."""
    if "TOX_ENV_NAME" in os.environ:
        expected = {
            "torch": ["onnx", "torch", "openvino"],
            "tensorflow": ["onnx", "saved_model", "litert", "openvino"],
            "jax": ["onnx", "openvino"],
        }
        assert set(expected[BACKEND]) <= set(WRITABLE)
    assert WRITABLE, "no format can be written here"


@pytest.mark.parametrize("net", ["dense", "cnn"])
@KINDS
def test_an_export_has_the_logits_of_keras_for_any_batch_size(exported, net, kind):
    written = exported(net, kind)
    source = written.path.parents[1] / "model.keras"
    model, card = load_keras_model(source), read_card(source)
    runtime = open_model(written.path, trust=True)
    for count in (1, 2, 9, 3):
        x = pictures(card, count)
        np.testing.assert_allclose(runtime.logits(x), predict_logits(model, x), rtol=1e-4, atol=1e-4)
    floats = pictures(card, 2).astype("float32") + np.float32(0.25)
    np.testing.assert_allclose(runtime.logits(floats), predict_logits(model, floats), rtol=1e-4, atol=1e-4)
    assert runtime.logits(x).std() > 1e-3, "the logits must not be constant"


@KINDS_ONCE
def test_the_returned_description_of_an_export_is_true(exported, kind):
    written = exported("cnn", kind)
    files = [file for file in [written.path, *written.path.rglob("*")] if file.is_file()]
    assert written.size == sum(file.stat().st_size for file in files)
    assert written.path == written.path.parents[1] / "exports" / formats.FORMATS[kind].file_name
    assert (written.format, written.written_by) == (kind, BACKEND)
    assert 0 <= written.difference < 1e-4
    assert written.runtime == open_model(written.path, trust=True).name


@KINDS_ONCE
def test_an_export_contains_the_card(exported, kind):
    written = exported("cnn", kind)
    assert open_model(written.path, trust=True).card == read_card(written.path.parents[1] / "model.keras")


@pytest.mark.parametrize("net", ["dense", "cnn"])
@KINDS
def test_each_runtime_knows_input_and_output_shapes(exported, net, kind):
    """With them, the card of another model is detected before the first prediction."""
    path = exported(net, kind).path
    opened = formats.open_export(formats.find_model_file(path), trust=True)
    assert opened.takes == (None, *open_model(path, trust=True).card.picture_format.shape)
    assert opened.gives == (None, 5)


@pytest.mark.parametrize("kind", [kind for kind in WRITABLE if formats.FORMATS[kind].runtime != BACKEND])
def test_an_export_is_opened_without_keras(exported, kind):
    code = (
        "import sys, numpy as np\n"
        "from keras_course.deployment.runtimes import open_model\n"
        f"runtime = open_model({str(exported('dense', kind).path)!r}, trust=True)\n"
        "logits = runtime.logits(np.zeros((2, *runtime.card.picture_format.shape), 'uint8'))\n"
        f"print(logits.shape, [name for name in ('keras', {BACKEND!r}) if name in sys.modules])\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1:] == ["(2, 5) []"], done.stderr


def write_batch_size_model(path, side):
    """Writes a model that returns the mean of each picture and the size of the batch in which it is computed."""
    from onnx import TensorProto, helper, save

    nodes = [
        helper.make_node("ReduceMean", ["pictures"], ["mean"], axes=[1, 2, 3]),
        helper.make_node("Flatten", ["mean"], ["means"]),
        helper.make_node("Mul", ["means", "nothing"], ["zeros"]),
        helper.make_node("Shape", ["pictures"], ["shape"], start=0, end=1),
        helper.make_node("Cast", ["shape"], ["count"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["zeros", "count"], ["counts"]),
        helper.make_node("Concat", ["means", "counts"], ["answers"], axis=1),
    ]
    taken = helper.make_tensor_value_info("pictures", TensorProto.FLOAT, [side, 2, 2, 1])
    given = helper.make_tensor_value_info("answers", TensorProto.FLOAT, [side, 2])
    nothing = helper.make_tensor("nothing", TensorProto.FLOAT, [], [0.0])
    graph = helper.make_graph(nodes, "companions", [taken], [given], [nothing])
    save(helper.make_model(graph, ir_version=9, opset_imports=[helper.make_opsetid("", 17)]), path)


@pytest.mark.parametrize(
    ("side", "pictures", "parts"), [("n", 49, [17, 16, 16]), ("n", 48, [16, 16, 16]), ("n", 47, [47]), (49, 49, [49])]
)
def test_a_large_batch_is_computed_in_parallel_parts(tmp_path, monkeypatch, side, pictures, parts):
    """A batch stays whole if the model has a fixed batch size, or if parts would be too small for a thread."""
    monkeypatch.setattr(select, "processors", lambda: 3)
    write_batch_size_model(tmp_path / "companions.onnx", side)
    opened = formats.open_export(formats.find_model_file(tmp_path / "companions.onnx"))
    pixels = np.arange(pictures * 4).astype("uint8").reshape(pictures, 2, 2, 1)
    for _ in range(2):
        means, companions = opened.run(pixels).T
        np.testing.assert_allclose(means, pixels.mean(axis=(1, 2, 3)))
        assert companions.tolist() == [count for count in parts for _ in range(count)]


@KINDS_ONCE
def test_the_same_model_can_be_exported_again_and_elsewhere(make_run, tmp_path, kind):
    run = make_run("dense")
    known = formats.FORMATS[kind]
    elsewhere = tmp_path / "new folder" / f"digits{Path(known.file_name).suffix}"
    for _ in range(2):
        export_model(run, format=kind)
        assert export_model(run / "model.keras", format=kind, output=elsewhere).path == elsewhere
    assert [path.name for path in (run / "exports").iterdir()] == [known.file_name], "no temporary file is left"
    assert [path.name for path in elsewhere.parent.iterdir()] == [elsewhere.name]
    assert open_model(elsewhere, trust=True).card.class_names[0] == "ant"


def save(folder, model, shape):
    """Saves a network with five classes."""
    height, width, channels = shape
    picture_format = PictureFormat(height=height, width=width, channels=channels)
    with RunDirectory(folder) as run:
        run.save_model(
            model, ModelCard(title="A net", class_names=tuple("abcde"), picture_format=picture_format, data="nothing")
        )
    return folder


POOLINGS = [
    ("MaxPool", keras.layers.MaxPooling2D, 2, 2),
    ("MaxPool", keras.layers.MaxPooling2D, 3, 2),
    ("MaxPool", keras.layers.MaxPooling2D, (3, 2), (1, 2)),
    ("AveragePool", keras.layers.AveragePooling2D, 2, 2),
    ("AveragePool", keras.layers.AveragePooling2D, (2, 3), 1),
]


@pytest.mark.parametrize("padding", ["valid", "same"])
def test_pooling_is_one_operation_in_onnx(tmp_path, padding):
    """As many comparisons, which JAX would write, a network takes twice as long."""
    import onnx

    shape = 11, 14, 3
    inputs = keras.Input(shape)
    x = keras.layers.Rescaling(1 / 255)(inputs)
    pooled = [keras.layers.Flatten()(pooling(size, strides, padding)(x)) for _, pooling, size, strides in POOLINGS]
    model = keras.Model(inputs, keras.layers.Dense(5)(keras.layers.Concatenate()(pooled)))
    written = export_model(save(tmp_path / "run", model, shape), format="onnx")
    nodes = [node.op_type for node in onnx.load(written.path).graph.node]
    expected = [operation for operation, *_ in POOLINGS]
    assert sorted(node for node in nodes if node in expected) == sorted(expected)
    runtime = open_model(written.path)
    x = pictures(runtime.card, 3)
    np.testing.assert_allclose(runtime.logits(x), predict_logits(model, x), atol=1e-5)


@pytest.fixture(scope="session")
def half_precision_run(tmp_path_factory):
    """A network with layers that compute in bfloat16, as after training with ``--precision bfloat16``."""
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = dense_classifier(input_shape=(6, 5, 1), hidden=(8,), num_classes=5, seed=1)
    finally:
        keras.config.set_dtype_policy("float32")
    return save(tmp_path_factory.mktemp("half") / "run", model, (6, 5, 1))


@KINDS
def test_a_bfloat16_model_is_exported_in_float32(half_precision_run, tmp_path, kind):
    output = tmp_path / f"model{Path(formats.FORMATS[kind].file_name).suffix}"
    runtime = open_model(export_model(half_precision_run, format=kind, output=output).path, trust=True)
    model = load_keras_model(half_precision_run / "model.keras")
    (kernel, bias), (last_kernel, last_bias) = [
        layer.get_weights() for layer in model.layers if isinstance(layer, keras.layers.Dense)
    ]
    x = pictures(runtime.card, 3)
    hidden = np.maximum(x.reshape(3, -1) / 255 @ kernel + bias, 0)
    np.testing.assert_allclose(runtime.logits(x), hidden @ last_kernel + last_bias, atol=1e-5)
    assert "bfloat16" in [layer.compute_dtype for layer in model.layers], "this network does not test it"


# --- Errors ----------------------------------------------------------------------------------------------------


@KINDS_ONCE
def test_an_export_with_wrong_logits_is_refused_and_the_old_one_stays(make_run, monkeypatch, kind):
    run = make_run("dense")
    export_model(run, format=kind)
    before = contents(run)

    def slightly_wrong(model):
        name, forward = open_keras(model)
        return name, lambda x: forward(x) + 0.01

    open_keras = export.open_keras
    monkeypatch.setattr(export, "open_keras", slightly_wrong)
    with pytest.raises(CourseError, match=rf"{kind}.*other answers than Keras: logits differ by 0.01.*nothing"):
        export_model(run, format=kind)
    assert contents(run) == before


@KINDS_ONCE
def test_an_export_with_nan_logits_is_refused(make_run, monkeypatch, kind):
    run = make_run("dense")
    monkeypatch.setattr(export, "open_keras", lambda model: ("Keras", lambda x: np.full((len(x), 5), np.nan)))
    with pytest.raises(CourseError, match="logits differ by nan"):
        export_model(run, format=kind)
    assert not any((run / "exports").iterdir())


def test_an_error_of_the_converter_is_explained(make_run, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("operator 'Frobnicate'\nis not known")

    run = make_run("dense")
    monkeypatch.setattr("keras_course._backend.export", fail, raising=False)
    message = "cannot be written in the format 'onnx': operator 'Frobnicate' is not known; try it on "
    with pytest.raises(CourseError, match=message):
        export_model(run, format="onnx")
    assert not any((run / "exports").iterdir())


def test_an_export_that_cannot_be_opened_is_explained(make_run, monkeypatch):
    import onnx

    def write(model, path, kind, *, longest):
        ends = [
            onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", 28, 28, 1]) for name in ("x", "y")
        ]
        graph = onnx.helper.make_graph([onnx.helper.make_node("Frobnicate", ["x"], ["y"])], "net", ends[:1], ends[1:])
        onnx.save(onnx.helper.make_model(graph, ir_version=9), path)

    run = make_run("dense")
    monkeypatch.setattr("keras_course._backend.export", write, raising=False)
    with pytest.raises(CourseError, match=r"the export in the format 'onnx' does not run: .*Frobnicate.*; try it on"):
        export_model(run, format="onnx")
    assert not any((run / "exports").iterdir())


@pytest.mark.parametrize("kind", [kind for kind in WRITABLE if formats.FORMATS[kind].is_folder])
def test_the_old_folder_is_restored_if_it_cannot_be_replaced(make_run, monkeypatch, kind):
    run = make_run("dense")
    place = export_model(run, format=kind).path
    before = contents(run)
    replace = Path.replace

    def fail(self, target):
        if target == place and self.name != "old":
            raise OSError(28, "No space left on device")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="No space left"):
        export_model(run, format=kind)
    assert contents(run) == before


@pytest.mark.parametrize("kind", [kind for kind in WRITABLE if formats.FORMATS[kind].is_folder])
def test_an_export_folder_with_other_files_is_not_replaced(make_run, kind):
    run = make_run("dense")
    place = export_model(run, format=kind).path
    (place / "notes.txt").write_text("mine")
    before = contents(run)
    with pytest.raises(CourseError, match=r"a folder that also holds 'notes.txt'; give another name"):
        export_model(run, format=kind)
    assert contents(run) == before


def test_a_missing_package_is_named_before_anything_is_written(make_run, monkeypatch):
    run = make_run("dense")
    is_installed = select.is_installed
    monkeypatch.setattr(select, "is_installed", lambda name: name not in ("onnx", "onnxruntime") and is_installed(name))
    with pytest.raises(MissingPackageError, match=rf'format \'onnx\' needs onnx, .*"keras-course\[onnx-{BACKEND}\]"'):
        export_model(run, format="onnx")
    monkeypatch.setattr(select, "is_installed", lambda name: name != "onnxruntime" and is_installed(name))
    with pytest.raises(MissingPackageError, match=r'needs onnxruntime, .*run: pip install "keras-course\[onnx\]"'):
        export_model(run, format="onnx")
    assert not (run / "exports").exists()


OTHERS = {"jax": ("torch", "saved_model"), "torch": ("saved_model", "litert"), "tensorflow": ("torch",)}


@pytest.mark.parametrize("kind", OTHERS[BACKEND])
def test_a_format_of_a_missing_backend_says_what_to_install(dense_run, kind):
    (writer,) = formats.FORMATS[kind].writers
    if select.is_installed(writer):
        pytest.skip(f"{writer} is installed here, too; test_hand_over.py tests that")
    with pytest.raises(MissingPackageError, match=rf"needs {writer}, .*pip install \"keras-course\[{writer}\]\""):
        export_model(dense_run, format=kind)


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("model.bin", "give a name that ends in .onnx for the format 'onnx'"),
        ("exports", "give a name that ends in .onnx"),
        ("folder.onnx", "which is no onnx model"),
    ],
)
def test_a_wrong_output_is_explained(dense_run, tmp_path, output, message):
    (tmp_path / "folder.onnx").mkdir()
    with pytest.raises(CourseError, match=message):
        export_model(dense_run, format="onnx", output=tmp_path / output)
    assert contents(tmp_path) == {}


def test_a_folder_that_is_no_export_is_not_replaced(dense_run, tmp_path):
    (tmp_path / "thesis.txt").write_text("three years of work")
    with pytest.raises(CourseError, match="a folder with other files"):
        export_model(dense_run, format="saved_model", output=tmp_path)
    with pytest.raises(CourseError, match=r"thesis.txt is not a folder; give another name"):
        export_model(dense_run, format="onnx", output=tmp_path / "thesis.txt" / "new" / "model.onnx")
    assert contents(tmp_path) == {Path("thesis.txt"): b"three years of work"}


def test_wrong_format_and_missing_model_are_explained(dense_run, exported, tmp_path):
    with pytest.raises(CourseError, match="format is 'h5'; give one of onnx, saved_model, litert, torch, openvino"):
        export_model(dense_run, format="h5")
    with pytest.raises(CourseError, match="is an export already"):
        export_model(exported("dense", "onnx").path, format="onnx")
    with pytest.raises(CourseError, match=r"there is no .*nowhere"):
        export_model(tmp_path / "nowhere", format="onnx")


# --- Untrusted files -------------------------------------------------------------------------------------------


# a damaged LiteRT file can end this process: therefore it needs trust
@pytest.mark.parametrize("kind", [kind for kind in WRITABLE if kind != "litert"])
def test_a_damaged_export_is_not_opened(exported, tmp_path, kind):
    good = exported("dense", kind).path
    copy = tmp_path / good.name
    if good.is_dir():
        shutil.copytree(good, copy)
        file = copy / {"saved_model": "saved_model.pb", "openvino": "model.xml"}[kind]
    else:
        file = Path(shutil.copy(good, copy))
    whole = file.read_bytes()
    for damaged in (whole[: len(whole) // 3], b"", b"no model at all"):
        file.write_bytes(damaged)
        with pytest.raises(CourseError):
            open_model(copy, trust=True)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
@pytest.mark.parametrize("inside", ["model.bin", "card.json"])
def test_a_pipe_in_the_folder_of_a_model_is_refused_without_waiting(tmp_path, inside):
    (tmp_path / "model.xml").write_text("<net/>")
    os.mkfifo(tmp_path / inside)
    with pytest.raises(CourseError, match=rf"{inside} is not a regular file; remove it"):
        open_model(tmp_path)


def test_formats_that_can_run_code_need_trust():
    assert {name for name, known in formats.FORMATS.items() if not known.is_safe} == {"saved_model", "litert", "torch"}


@pytest.mark.parametrize("kind", [kind for kind in WRITABLE if not formats.FORMATS[kind].is_safe])
def test_an_unsafe_format_is_opened_only_with_trust(exported, monkeypatch, kind):
    path = exported("dense", kind).path
    never = replace(formats.FORMATS[kind], open=lambda *_: pytest.fail("it has been opened"))
    with monkeypatch.context() as patch:
        patch.setitem(formats.FORMATS, kind, never)
        with pytest.raises(CourseError, match="can run code or end the process; if you made it yourself, add --trust"):
            open_model(path)
    assert open_model(path, trust=True).format == kind


def test_an_onnx_file_without_a_card_is_explained(exported, tmp_path):
    import onnx

    model = onnx.load(exported("dense", "onnx").path)
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "bare.onnx")
    with pytest.raises(CourseError, match=r"bare.onnx has no card"):
        open_model(tmp_path / "bare.onnx")


def test_an_onnx_file_with_external_data_is_refused(exported, tmp_path):
    """With external data, a model could read any file of the user."""
    import onnx

    model = onnx.load(exported("dense", "onnx").path)
    weight = max(model.graph.initializer, key=lambda tensor: np.prod(tensor.dims))
    (tmp_path / "secret.bin").write_bytes(np.zeros(tuple(weight.dims), "float32").tobytes())
    onnx.external_data_helper.set_external_data(weight, location="secret.bin")
    weight.ClearField("raw_data")
    weight.ClearField("float_data")
    (tmp_path / "reaching.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(CourseError, match="it has a tensor in another file, which is not read"):
        open_model(tmp_path / "reaching.onnx")


def test_too_large_a_file_is_refused_before_it_is_read(exported, monkeypatch):
    monkeypatch.setattr(formats, "LARGEST_MODEL_BYTES", 1000)
    with pytest.raises(CourseError, match="has more than 1,000 bytes"):
        open_model(exported("dense", "onnx").path)


def test_a_model_whose_shape_differs_from_its_card_is_refused(exported, tmp_path):
    import onnx

    model = onnx.load(exported("dense", "onnx").path)
    card = json.loads(model.metadata_props[0].value)
    card["class_names"] = ["yes", "no"]
    onnx.helper.set_model_props(model, {"card.json": json.dumps(card)})
    onnx.save(model, tmp_path / "other.onnx")
    with pytest.raises(CourseError, match=r"other.onnx gives 5 numbers for a picture, and its card names 2 classes"):
        open_model(tmp_path / "other.onnx")
    with pytest.raises(CourseError, match=r"pictures have the shape \(2, 28, 27, 1\); give \(n, 28, 28, 1\)"):
        open_model(exported("dense", "onnx").path).logits(np.zeros((2, 28, 27, 1), "uint8"))
    card["picture_format"]["width"] = 27
    onnx.helper.set_model_props(model, {"card.json": json.dumps(card)})
    onnx.save(model, tmp_path / "narrow.onnx")
    with pytest.raises(CourseError, match=r"narrow.onnx takes pictures 28 × 28 × 1, and its card says 28 × 27 × 1"):
        open_model(tmp_path / "narrow.onnx")


@pytest.mark.parametrize("kind", [kind for kind in ("litert", "torch") if kind in WRITABLE])
def test_a_zip_program_can_read_the_card_of_a_single_file(exported, kind):
    with zipfile.ZipFile(exported("dense", kind).path) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith("card.json")]
        assert json.loads(archive.read(name))["class_names"][1] == "bee"


# --- The command -----------------------------------------------------------------------------------------------


def run_command(*arguments):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "KERAS_BACKEND": BACKEND}
    command = [sys.executable, "-m", "keras_course", "export", *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200, check=False)


@KINDS_ONCE
def test_the_export_command_prints_only_what_it_has_written(make_run, kind):
    run = make_run("cnn")
    done = run_command(run, "--format", kind)
    assert (done.returncode, done.stderr) == (0, "")
    written = run / "exports" / formats.FORMATS[kind].file_name
    size = sum(len(content) for content in contents(run / "exports").values())
    first, second = done.stdout.splitlines()
    assert first == f"{written}: {size:,} bytes, written by {BACKEND}"
    assert second.startswith(f"{open_model(written, trust=True).name}: largest difference from Keras' logits ")


@pytest.mark.one_backend
def test_the_export_command_prints_errors_as_one_line(dense_run):
    done = run_command(dense_run, "--format", "floppy")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[-1].startswith("error: format is 'floppy'; give one of onnx")


@pytest.mark.skipif("onnx" not in WRITABLE, reason="its converter is not installed")
def test_an_untrusted_model_is_exported_in_a_separate_process(dense_run, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "export_here", None)  # fails if it is called in this process
    written = export.export_model(dense_run, format="onnx", output=tmp_path / "new" / "net.onnx")
    assert (written.path, written.size) == (tmp_path / "new" / "net.onnx", written.path.stat().st_size)
    assert (written.written_by, written.format) == (BACKEND, "onnx")
    assert written.difference < 1e-5
    assert [path.name for path in written.path.parent.iterdir()] == ["net.onnx"]
    monkeypatch.setattr(export, "LIMITS", replace(export.LIMITS, memory=10 * 2**20))
    with pytest.raises(CourseError, match=r"model.keras took more than 10 MiB of memory"):
        export.export_model(dense_run, format="onnx", output=tmp_path / "net.onnx")
    assert not (tmp_path / "net.onnx").exists()


@pytest.mark.one_backend
def test_openvino_opens_an_export_of_anybody_with_one_thread(exported, monkeypatch):
    """Its files are read as bytes, and its telemetry stays as another program has set it."""
    telemetry = ModuleType("openvino_telemetry")
    monkeypatch.setitem(sys.modules, "openvino_telemetry", telemetry)
    written = exported("cnn", "openvino")
    source = written.path.parents[1] / "model.keras"
    runtime = open_here(formats.find_model_file(written.path), threads=1)
    x = pictures(runtime.card, 3)
    np.testing.assert_allclose(runtime.logits(x), predict_logits(load_keras_model(source), x), atol=1e-4)
    assert sys.modules["openvino_telemetry"] is telemetry


@pytest.mark.one_backend
@pytest.mark.parametrize(("name", "expected"), [("model.onnx", "file"), ("openvino", "folder")])
def test_a_folder_in_the_place_of_a_file_is_refused(tmp_path, name, expected):
    path = tmp_path / name
    if expected == "file":
        path.mkdir()
    else:
        path.touch()
    file = formats.ModelFile(path, name.partition(".")[2] or name)
    with pytest.raises(CourseError, match=rf"{name} is not a {expected}, as {file.format} models are"):
        formats.check_model_file(file)
