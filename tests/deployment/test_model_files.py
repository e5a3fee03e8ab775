"""Model files of strangers: what is in them is looked at before Keras opens them."""

import io
import json
import pickle
import zipfile

import h5py
import keras
import numpy as np
import pytest

from keras_course import augmentation, models
from keras_course.deployment import model_files
from keras_course.deployment.model_files import find_model, load_keras_model, read_card_or_fail
from keras_course.errors import CourseError
from keras_course.training import predict_logits

FLOATS = np.random.default_rng(0).normal(size=(3, 28, 28, 1)).astype("float32")


def augmented_model():
    inputs = keras.Input((28, 28, 1))
    layer = augmentation.Augmentation([augmentation.Rotation(10), augmentation.Light(0.2)])
    return keras.Model(inputs, models.cnn_classifier(filters=(4,), dropout=0.1)(layer(inputs)))


def sequential_model():
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(2, 3, kernel_regularizer="l2", kernel_constraint=keras.constraints.MaxNorm(2)),
            layers.BatchNormalization(),
            layers.Activation("relu"),
            layers.RandomFlip(),
            layers.GlobalAveragePooling2D(),
            layers.Dense(5, activation="softmax", kernel_initializer=keras.initializers.HeNormal()),
        ]
    )


GOOD = {
    "dense": models.dense_classifier,
    "cnn": models.cnn_classifier,
    "augmented": augmented_model,
    "sequential": sequential_model,
    "float16": lambda: models.dense_classifier(hidden=(4,)),
}


@pytest.mark.parametrize("name", GOOD)
def test_models_of_the_course_and_of_keras_are_opened(tmp_path, name):
    if name == "float16":
        keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = GOOD[name]()
    finally:
        keras.config.set_dtype_policy("float32")
    model.save(tmp_path / "model.keras")
    opened = load_keras_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(predict_logits(opened, FLOATS), predict_logits(model, FLOATS))
    assert not opened.compiled


def test_a_compiled_model_is_opened_without_what_it_was_compiled_with(tmp_path):
    model = models.dense_classifier(hidden=())
    model.compile(optimizer="adam", loss="mse")
    model.save(tmp_path / "model.keras")
    assert not load_keras_model(tmp_path / "model.keras").compiled


# --- What is in config.json ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """The parts of a good file."""
    path = tmp_path_factory.mktemp("good") / "model.keras"
    models.dense_classifier(hidden=(4,)).save(path)
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write(path, parts, **settings):
    with zipfile.ZipFile(path, "w", **settings) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return path


def with_config(parts, change):
    config = json.loads(parts["config.json"])
    change(config)
    return {**parts, "config.json": json.dumps(config)}


def layer_of(config, kind="Dense"):
    return next(layer for layer in config["config"]["layers"] if layer["class_name"] == kind)


def as_class(module, name, **config):
    return {"module": module, "class_name": name, "config": config, "registered_name": None}


EVIL = {
    "a Lambda": lambda c: layer_of(c).update(as_class("keras.layers", "Lambda", function="...")),
    "a Lambda inside a wrapper": lambda c: layer_of(c).update(
        as_class("keras.layers", "TimeDistributed", layer=as_class("keras.layers", "Lambda"))
    ),
    "a pickled lambda": lambda c: layer_of(c)["config"].update(
        activation={"class_name": "__lambda__", "config": {"value": ["4wEAAAA="]}}
    ),
    "a function of Python": lambda c: layer_of(c)["config"].update(
        activation={"module": "os", "class_name": "function", "config": "system", "registered_name": "function"}
    ),
    "a builtin": lambda c: layer_of(c)["config"].update(
        activation={"module": "builtins", "class_name": "function", "config": "exec", "registered_name": "function"}
    ),
    "a function of Keras that downloads": lambda c: layer_of(c)["config"].update(
        kernel_initializer=as_class("keras.utils", "get_file", fname="x", origin="http://127.0.0.1:9/x")
    ),
    "a function of Keras that opens models": lambda c: layer_of(c)["config"].update(
        kernel_initializer=as_class("keras.saving", "load_model", filepath="evil.keras", safe_mode=False)
    ),
    "a door to unsafe mode": lambda c: layer_of(c)["config"].update(
        kernel_initializer=as_class("keras.config", "enable_unsafe_deserialization")
    ),
    "a class from inside Keras": lambda c: layer_of(c).update(as_class("keras.src.utils.file_utils", "File")),
    "another package": lambda c: layer_of(c).update(as_class("subprocess", "Popen", args=["true"])),
    "another registered package": lambda c: layer_of(c).update(
        {**as_class("evil", "Layer"), "registered_name": "evil>Layer"}
    ),
    "a layer that the course does not have": lambda c: layer_of(c).update(
        {**as_class(None, "Nothing"), "registered_name": "keras_course>Nothing"}
    ),
    "a vocabulary in a file": lambda c: layer_of(c).update(
        as_class("keras.layers", "StringLookup", vocabulary="/etc/passwd")
    ),
    "a text layer": lambda c: layer_of(c).update(
        as_class("keras.layers", "TextVectorization", vocabulary="/etc/passwd")
    ),
    "a SavedModel as a layer": lambda c: layer_of(c).update(as_class("keras.layers", "TFSMLayer", filepath="/tmp")),
    "a layer without a module": lambda c: layer_of(c).pop("module"),
    "a class that is no name": lambda c: layer_of(c).update(class_name=["Dense"]),
    "a class of the user": lambda c: c.update(as_class("builtins", "MyModel")),
    "a function in place of a net": lambda c: c.update(as_class("keras", "Model")),
}


@pytest.mark.parametrize("name", EVIL)
def test_what_is_more_than_layers_is_refused_before_keras_sees_it(parts, tmp_path, monkeypatch, name):
    path = write(tmp_path / "evil.keras", with_config(parts, EVIL[name]))
    monkeypatch.setattr(keras.saving, "load_model", lambda *_, **__: pytest.fail("Keras has seen it"))
    with pytest.raises(CourseError, match=r"evil.keras is not opened"):
        load_keras_model(path)


def test_a_program_in_any_corner_is_found(parts, tmp_path):
    """The same evil thing at every place of the description where a dictionary may stand."""
    evil = as_class("os", "system", command="true")

    def places(node, path=()):
        for key, value in list(node.items() if isinstance(node, dict) else enumerate(node)):
            yield (*path, key)
            if isinstance(value, (dict, list)) and value:
                yield from places(value, (*path, key))

    config = json.loads(parts["config.json"])
    found = list(places(config))
    assert len(found) > 100
    for path in found[:: len(found) // 60]:
        changed = json.loads(parts["config.json"])
        node = changed
        for key in path[:-1]:
            node = node[key]
        node[path[-1]] = evil
        with pytest.raises(CourseError, match="is not opened"):
            load_keras_model(write(tmp_path / "evil.keras", {**parts, "config.json": json.dumps(changed)}))


@pytest.mark.parametrize("text", ["", "no JSON", "null", "[]", "{}", '{"class_name": "Sequential"}', "[" * 200_000])
def test_a_config_that_is_none_is_explained(parts, tmp_path, text):
    with pytest.raises(CourseError, match=r"broken\.keras"):
        load_keras_model(write(tmp_path / "broken.keras", {**parts, "config.json": text}))


# --- What else is in the archive -------------------------------------------------------------------------------


class Evil:
    def __reduce__(self):
        return pytest.fail, ("a pickle was opened",)


@pytest.mark.parametrize("name", ["../outside.py", "/etc/cron.d/evil", "assets/vocabulary.txt", "data.pkl", "model.h5"])
def test_a_part_that_models_do_not_have_is_refused(parts, tmp_path, name):
    path = write(tmp_path / "evil.keras", {**parts, name: pickle.dumps(Evil())})
    with pytest.raises(CourseError, match="which models of this course do not have"):
        load_keras_model(path)


@pytest.mark.parametrize("name", ["config.json", "model.weights.h5"])
def test_a_missing_part_is_explained(parts, tmp_path, name):
    path = write(tmp_path / "half.keras", {key: value for key, value in parts.items() if key != name})
    with pytest.raises(CourseError, match=rf"half.keras is not opened: it has no {name}"):
        load_keras_model(path)


def test_a_part_that_is_there_twice_is_refused(parts, tmp_path):
    path = write(tmp_path / "twice.keras", parts)
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("config.json", "{}")
    with pytest.raises(CourseError, match="it has a part twice"):
        load_keras_model(path)


def test_a_bomb_is_refused(parts, tmp_path, monkeypatch):
    monkeypatch.setattr(model_files, "LARGEST_CONFIG_BYTES", 10_000)
    bomb = write(tmp_path / "bomb.keras", {**parts, "config.json": " " * 10**7}, compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(CourseError, match=r"its config.json claims 10,000,000 bytes, more than the 10,000 allowed"):
        load_keras_model(bomb)
    monkeypatch.setattr(model_files, "LARGEST_WEIGHTS_BYTES", 1000)
    with pytest.raises(CourseError, match=r"its model.weights.h5 claims"):
        load_keras_model(write(tmp_path / "heavy.keras", parts))


def test_what_is_no_archive_is_explained(parts, tmp_path):
    whole = write(tmp_path / "model.keras", parts).read_bytes()
    for content in (b"", b"no model", whole[: len(whole) // 2], pickle.dumps(Evil())):
        (tmp_path / "model.keras").write_bytes(content)
        with pytest.raises(CourseError, match=r"model.keras is no Keras model"):
            load_keras_model(tmp_path / "model.keras")
    with pytest.raises(CourseError, match=r"there is no .*nowhere\.keras"):
        load_keras_model(tmp_path / "nowhere.keras")
    (tmp_path / "old.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
    with pytest.raises(CourseError, match=r"old.h5 is an .h5 file, which can hold code; give a .keras file"):
        load_keras_model(tmp_path / "old.h5")


# --- What is in the weights ------------------------------------------------------------------------------------


def with_weights(parts, change):
    file = io.BytesIO(parts["model.weights.h5"])
    with h5py.File(file, "r+") as weights:
        change(weights)
    return {**parts, "model.weights.h5": file.getvalue()}


def first_weights(weights):
    """The group of some layer and the name of its first array."""
    found = []
    weights.visititems(lambda name, item: found.append(item) if isinstance(item, h5py.Dataset) else None)
    return found[0].parent, found[0].name.rpartition("/")[2]


def replaced(make):
    def change(weights):
        group, name = first_weights(weights)
        shape = group[name].shape
        del group[name]
        make(group, name, shape)

    return change


EVIL_WEIGHTS = {
    "another file, by a link": (
        replaced(lambda group, name, shape: group.__setitem__(name, h5py.ExternalLink("/etc/secret.h5", "/x"))),
        "are in another place",
    ),
    "another place, by a soft link": (
        replaced(lambda group, name, shape: group.__setitem__(name, h5py.SoftLink("/x"))),
        "are in another place",
    ),
    "another file, as the place of the numbers": (
        replaced(
            lambda group, name, shape: group.create_dataset(
                name, shape, "float32", external=[("/etc/passwd", 0, h5py.h5f.UNLIMITED)]
            )
        ),
        "are in another file",
    ),
    "other files put together": (
        replaced(
            lambda group, name, shape: group.create_virtual_dataset(name, h5py.VirtualLayout(shape=(4,), dtype="f4"))
        ),
        "are in another file",
    ),
    "far more numbers than bytes": (
        replaced(lambda group, name, shape: group.create_dataset(name, (10**6, 10**6), "float32", chunks=(100, 100))),
        "its weights claim 4,000,000,",
    ),
}


@pytest.mark.parametrize("name", EVIL_WEIGHTS)
def test_weights_that_are_not_in_the_file_are_refused(parts, tmp_path, monkeypatch, name):
    change, message = EVIL_WEIGHTS[name]
    path = write(tmp_path / "evil.keras", with_weights(parts, change))
    monkeypatch.setattr(keras.saving, "load_model", lambda *_, **__: pytest.fail("Keras has seen it"))
    with pytest.raises(CourseError, match=message):
        load_keras_model(path)


def test_weights_that_do_not_fit_the_layers_are_explained(parts, tmp_path):
    change = replaced(lambda group, name, shape: group.create_dataset(name, (2, 2), "float32"))
    with pytest.raises(CourseError, match="cannot be opened as a Keras model"):
        load_keras_model(write(tmp_path / "odd.keras", with_weights(parts, change)))


# --- Where models are ------------------------------------------------------------------------------------------


def test_a_run_folder_and_a_file_are_found(dense_run):
    assert find_model(dense_run) == dense_run / "model.keras"
    assert find_model(str(dense_run / "model.keras")) == dense_run / "model.keras"
    assert read_card_or_fail(dense_run / "model.keras").title == "A dense net"


def test_a_run_that_has_not_ended_is_explained(tmp_path):
    (tmp_path / "checkpoint.npz").touch()
    with pytest.raises(CourseError, match="a run that has not ended, and no model yet; go on with it by --resume"):
        find_model(tmp_path)


def test_a_model_without_a_card_is_explained(parts, tmp_path):
    with pytest.raises(CourseError, match=r"bare.keras has no card, which says what its answers mean"):
        read_card_or_fail(write(tmp_path / "bare.keras", parts))
