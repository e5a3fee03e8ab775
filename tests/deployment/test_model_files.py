"""Untrusted model files: they are checked before Keras opens them."""

import io
import json
import os
import pickle
import socket
import zipfile

import h5py
import keras
import numpy as np
import pytest

from keras_course import augmentation, models
from keras_course.cards import read_card, read_required_card
from keras_course.deployment import formats, model_files
from keras_course.deployment.locate import find_model
from keras_course.deployment.model_files import load_keras_model
from keras_course.deployment.runtimes import open_model
from keras_course.errors import CourseError
from keras_course.pretrained.transfer import Backbone
from keras_course.training import predict_logits


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


def recurrent_model():
    """Returns a model with a layer inside a layer, and with a layer that is used twice."""
    inputs = keras.Input((28, 28, 1))
    rows = keras.layers.Reshape((28, 28))(inputs)
    dense = keras.layers.TimeDistributed(keras.layers.Dense(28, activation=keras.layers.LeakyReLU()))
    rows = dense(dense(rows))
    return keras.Model(inputs, keras.layers.Bidirectional(keras.layers.LSTM(3))(rows))


GOOD = {
    "dense": models.dense_classifier,
    "cnn": models.cnn_classifier,
    "augmented": augmented_model,
    "sequential": sequential_model,
    "float16": lambda: models.dense_classifier(hidden=(4,)),
    "bfloat16": lambda: models.dense_classifier(hidden=(4,)),
    "line": models.line_model,
    "regressor": models.dense_regressor,
    "chain": models.linear_chain,
    "recurrent": recurrent_model,
}
POLICIES = {"float16": "mixed_bfloat16", "bfloat16": "bfloat16"}


@pytest.mark.parametrize("name", GOOD)
def test_models_of_the_course_and_keras_are_opened(tmp_path, name):
    keras.config.set_dtype_policy(POLICIES.get(name, "float32"))
    try:
        model = GOOD[name]()
    finally:
        keras.config.set_dtype_policy("float32")
    model.save(tmp_path / "model.keras")
    opened = load_keras_model(tmp_path / "model.keras")
    samples = np.random.default_rng(0).normal(size=(3, *model.input_shape[1:])).astype("float32")
    np.testing.assert_array_equal(predict_logits(opened, samples), predict_logits(model, samples))
    assert not opened.compiled


def test_a_compiled_model_is_opened_without_optimizer_and_loss(tmp_path):
    model = models.dense_classifier(hidden=())
    model.compile(optimizer="adam", loss="mse")
    model.save(tmp_path / "model.keras")
    assert not load_keras_model(tmp_path / "model.keras").compiled


def test_initializers_do_not_run_for_weights_in_the_file(tmp_path, monkeypatch):
    model = recurrent_model()  # its initializers are Glorot uniform and orthogonal
    model.save(tmp_path / "model.keras")
    for kind in (keras.initializers.VarianceScaling, keras.initializers.Orthogonal):
        monkeypatch.setattr(kind, "__call__", None)
    opened = load_keras_model(tmp_path / "model.keras")
    for weight, expected in zip(opened.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(weight, expected)


def test_dropout_of_keras_keeps_its_seed(tmp_path):
    seed = 7
    layers = [keras.Input((4,)), keras.layers.Dense(3), keras.layers.Dropout(0.5, seed=seed, name="dropout")]
    keras.Sequential(layers).save(tmp_path / "model.keras")
    state = load_keras_model(tmp_path / "model.keras").get_layer("dropout").seed_generator.state
    assert keras.ops.convert_to_numpy(state).tolist() == [seed, 0]


def test_a_model_that_is_not_built_is_opened(tmp_path):
    with pytest.warns(UserWarning, match="not yet been built"):
        keras.Sequential([keras.layers.Dense(3)]).save(tmp_path / "model.keras")
    opened = load_keras_model(tmp_path / "model.keras")
    assert not opened.built
    assert opened(np.ones((2, 4), "float32")).shape == (2, 3)


# --- config.json -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """The files in a valid archive, by their names."""
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
    "a switch to unsafe mode": lambda c: layer_of(c)["config"].update(
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
    "a function of Keras behind a name of the course": lambda c: layer_of(c)["config"].update(
        kernel_initializer={
            **as_class("keras.saving", "function"),
            "config": "load_model",
            "registered_name": "keras_course>Dropout",
        }
    ),
    "a lambda behind a name of the course": lambda c: layer_of(c)["config"].update(
        activation={**as_class(None, "__lambda__"), "registered_name": "keras_course>Dropout"}
    ),
    "a layer of Keras that another package replaces": lambda c: layer_of(c).update(registered_name="evil>Dense"),
    "a loss inside": lambda c: layer_of(c).update(
        compile_config={"loss": as_class("keras.losses", "function", config="mse")}
    ),
    "a table of any size": lambda c: layer_of(c).update(as_class("keras.layers", "MelSpectrogram")),
    "a PyTorch module": lambda c: layer_of(c).update(as_class("keras.layers", "TorchModuleWrapper")),
    "a class of the user": lambda c: c.update(as_class("builtins", "MyModel")),
    "a function in place of a net": lambda c: c.update(as_class("keras", "Model")),
}


@pytest.mark.parametrize("name", EVIL)
def test_anything_but_layers_is_refused_before_keras_opens_it(parts, tmp_path, monkeypatch, name):
    path = write(tmp_path / "evil.keras", with_config(parts, EVIL[name]))
    monkeypatch.setattr(keras.saving, "load_model", lambda *_, **__: pytest.fail("Keras has opened it"))
    with pytest.raises(CourseError, match=r"evil.keras is not opened"):
        load_keras_model(path)


def test_a_function_anywhere_in_the_config_is_refused(parts, tmp_path):
    """The same function at sixty places of the config."""
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


def assert_too_large(path, parts, message, **layers):
    """Checks that a file with changed settings of layers, by their class, is refused with little memory."""

    def change(config):
        for kind, settings in layers.items():
            layer_of(config, kind)["config"].update(settings)

    resource = pytest.importorskip("resource", reason="measures memory by getrusage")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(CourseError, match=message):
        load_keras_model(write(path, with_config(parts, change)))
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert used * 1024 < 100e6, "with the layers, it would be gigabytes"


def test_layers_with_more_weights_than_the_file_are_refused(tmp_path):
    """A short config could allocate any amount of memory before the weights are compared."""
    models.dense_classifier(hidden=()).save(tmp_path / "greedy.keras")
    with zipfile.ZipFile(tmp_path / "greedy.keras") as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    message = r"greedy.keras is not opened: its layers ask for 785,000,000,000 weights, and it has 7,850"
    assert_too_large(tmp_path / "greedy.keras", parts, message, Dense={"units": 10**9})
    # no such variable is left to be created later
    with keras.StatelessScope():
        pass
    assert load_keras_model(write(tmp_path / "greedy.keras", parts)).count_params() == 7850


def test_weights_of_unused_layers_are_counted(tmp_path):
    """Keras builds such a layer with the others and drops it because the outputs do not depend on it."""
    inputs = keras.Input((4,))
    model = keras.Model(inputs, [keras.layers.Dense(1, name="one")(inputs), keras.layers.Dense(2, name="two")(inputs)])
    model.save(tmp_path / "two.keras")
    with zipfile.ZipFile(tmp_path / "two.keras") as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(parts["config.json"])
    assert [name for name, *_ in config["config"]["output_layers"]] == ["one", "two"]
    config["config"]["output_layers"] = ["one", 0, 0]
    idle = next(layer for layer in config["config"]["layers"] if layer["config"]["name"] == "two")
    idle["config"]["units"] = 10**10
    resource = pytest.importorskip("resource", reason="measures memory by getrusage")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(CourseError, match=r"its layers ask for 50,000,000,005 weights, and it has 15"):
        load_keras_model(write(tmp_path / "two.keras", {**parts, "config.json": json.dumps(config)}))
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < 100e6


def test_a_layer_with_a_giant_output_is_refused(tmp_path):
    model = keras.Sequential([keras.Input((28, 28, 1)), keras.layers.ZeroPadding2D(1), keras.layers.Flatten()])
    keras.Sequential([model, keras.layers.Dense(1)]).save(tmp_path / "small.keras")
    assert load_keras_model(tmp_path / "small.keras").count_params() == 901
    keras.Sequential([keras.Input((28, 28, 1)), keras.layers.UpSampling2D(1)]).save(tmp_path / "large.keras")
    with zipfile.ZipFile(tmp_path / "large.keras") as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    assert load_keras_model(tmp_path / "large.keras").output_shape == (None, 28, 28, 1)
    message = r"its layer 'up_sampling2d\w*' makes 7,840,000,000 numbers for one sample; 134,217,728 are allowed"
    assert_too_large(tmp_path / "large.keras", parts, message, UpSampling2D={"size": [1000, 10_000]})


def enlarged(picture):
    """Returns the mean of a picture of 8×8 numbers that is enlarged to 2**28 numbers."""
    layers = keras.layers
    return layers.GlobalAveragePooling2D()(layers.UpSampling2D((2**14, 2**14 // 64), name="enlarged")(picture))


def inside(*shape):
    picture = keras.Input(shape)
    return keras.Model(picture, enlarged(picture), name="inside")


def twice(picture):
    layer = keras.layers.UpSampling2D((2**14, 2**14 // 64), name="enlarged")
    return keras.layers.GlobalAveragePooling2D()(keras.layers.maximum([layer(picture), layer(picture)]))


def in_each_row(picture):
    rows = keras.layers.Reshape((1, 8, 8, 1))(picture)
    return keras.layers.Flatten()(keras.layers.TimeDistributed(inside(8, 8, 1))(rows))


def product(picture):
    numbers = keras.layers.Flatten()(keras.layers.UpSampling2D((16, 16))(picture))  # 2**14
    row, column = keras.layers.Reshape((1, 2**14))(numbers), keras.layers.Reshape((2**14, 1))(numbers)
    return keras.layers.GlobalAveragePooling1D()(row * column)


@pytest.mark.parametrize(
    "hide",
    [enlarged, inside(8, 8, 1), Backbone(inside(8, 8, 1)), inside(None, None, 1), twice, in_each_row, product],
    ids=["itself", "net", "backbone", "any size", "twice", "rows", "product"],
)
def test_a_giant_output_is_refused_anywhere_in_the_model(tmp_path, hide):
    picture = keras.Input((8, 8, 1))
    keras.Model(picture, keras.layers.Dense(1)(hide(picture))).save(tmp_path / "large.keras")
    resource = pytest.importorskip("resource", reason="measures memory by getrusage")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(
        CourseError, match=r"its layer '(enlarged|multiply\w*)' makes 268,435,456 numbers for one sample"
    ):
        load_keras_model(tmp_path / "large.keras")
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < 500e6  # float32 needs 4 * 2**28


@pytest.mark.parametrize("text", ["", "no JSON", "null", "[]", "{}", '{"class_name": "Sequential"}', "[" * 200_000])
def test_an_invalid_config_is_explained(parts, tmp_path, text):
    with pytest.raises(CourseError, match=r"broken\.keras"):
        load_keras_model(write(tmp_path / "broken.keras", {**parts, "config.json": text}))


# --- The archive -----------------------------------------------------------------------------------------------


class Evil:
    def __reduce__(self):
        return pytest.fail, ("a pickle was opened",)


@pytest.mark.parametrize("name", ["../outside.py", "/etc/cron.d/evil", "assets/vocabulary.txt", "data.pkl", "model.h5"])
def test_an_unknown_file_in_the_archive_is_refused(parts, tmp_path, name):
    path = write(tmp_path / "evil.keras", {**parts, name: pickle.dumps(Evil())})
    with pytest.raises(CourseError, match="which models of this course do not have"):
        load_keras_model(path)


@pytest.mark.parametrize("name", ["config.json", "model.weights.h5"])
def test_a_missing_file_in_the_archive_is_explained(parts, tmp_path, name):
    path = write(tmp_path / "half.keras", {key: value for key, value in parts.items() if key != name})
    with pytest.raises(CourseError, match=rf"half.keras is not opened: it has no {name}"):
        load_keras_model(path)


def test_a_duplicate_file_in_the_archive_is_refused(parts, tmp_path):
    path = write(tmp_path / "twice.keras", parts)
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("config.json", "{}")
    with pytest.raises(CourseError, match="it has a part twice"):
        load_keras_model(path)


def test_a_zip_bomb_is_refused(parts, tmp_path, monkeypatch):
    monkeypatch.setattr(model_files, "LARGEST_CONFIG_BYTES", 10_000)
    bomb = write(tmp_path / "bomb.keras", {**parts, "config.json": " " * 10**7}, compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(CourseError, match=r"its config.json claims 10,000,000 bytes, more than the 10,000 allowed"):
        load_keras_model(bomb)
    monkeypatch.setattr(model_files, "LARGEST_WEIGHTS_BYTES", 1000)
    with pytest.raises(CourseError, match=r"its model.weights.h5 claims"):
        load_keras_model(write(tmp_path / "heavy.keras", parts))


def test_a_file_that_is_no_archive_is_explained(parts, tmp_path):
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


def test_compression_without_a_size_limit_is_refused(parts, tmp_path):
    for number, method in enumerate((zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)):
        path = write(tmp_path / f"{number}.keras", parts, compression=method)
        with pytest.raises(CourseError, match=r"its \S+ is compressed in a way that Keras does not use"):
            load_keras_model(path)
    opened = load_keras_model(write(tmp_path / "packed.keras", parts, compression=zipfile.ZIP_DEFLATED))
    assert opened.count_params() == 3190


def test_weights_that_compress_too_well_are_refused(parts, tmp_path):
    bloated = {**parts, "model.weights.h5": parts["model.weights.h5"] + bytes(2**25)}
    path = write(tmp_path / "bloated.keras", bloated, compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(
        CourseError, match=r"its model.weights.h5 claims 33,\d{3},\d{3} bytes, of which it has \d+,\d+$"
    ):
        load_keras_model(path)


def test_an_encrypted_archive_is_explained(parts, tmp_path):
    content = bytearray(write(tmp_path / "secret.keras", parts).read_bytes())
    for mark, place in ((b"PK\x01\x02", 8), (b"PK\x03\x04", 6)):
        start = content.find(mark)
        while start >= 0:
            content[start + place] |= 1
            start = content.find(mark, start + 1)
    (tmp_path / "secret.keras").write_bytes(content)
    with pytest.raises(CourseError, match=r"secret.keras is no Keras model: .*password"):
        load_keras_model(tmp_path / "secret.keras")


# --- Known attacks ---------------------------------------------------------------------------------------------


def test_the_code_of_a_lambda_layer_does_not_run(tmp_path):
    """CVE-2024-3660: the file is as Keras writes it, and without safe mode its code runs."""
    code = f"lambda x: (__import__('pathlib').Path({str(tmp_path / 'hacked')!r}).touch(), x)[1]"
    model = keras.Sequential([keras.Input((2,)), keras.layers.Lambda(eval(code), output_shape=(2,))])
    model.save(tmp_path / "evil.keras")
    (tmp_path / "hacked").unlink(missing_ok=True)
    for _ in range(2):
        with pytest.raises(CourseError, match=r"evil.keras is not opened: it has a 'Lambda' of 'keras.layers'"):
            load_keras_model(tmp_path / "evil.keras")
        assert not (tmp_path / "hacked").exists()
        # CVE-2025-9905: for the older format, Keras ignored safe mode
        (tmp_path / "evil.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
        with pytest.raises(CourseError, match="which can hold code"):
            load_keras_model(tmp_path / "evil.h5")
    opened = keras.saving.load_model(tmp_path / "evil.keras", compile=False, safe_mode=False)
    predict_logits(opened, np.zeros((1, 2), "float32"))
    assert (tmp_path / "hacked").exists(), "otherwise this test could not fail"


def test_attacks_neither_write_nor_read_nor_download_files(parts, tmp_path):
    """CVE-2025-1550, CVE-2025-8747 and CVE-2025-12058: functions and vocabularies in the config."""
    (tmp_path / "words.txt").write_text("secret")
    target = str(tmp_path / "hacked")
    attacks = [
        as_class("keras.utils", "get_file", fname=target, origin=f"file://{tmp_path}/words.txt"),
        as_class("keras.saving", "save_model", filepath=target),
        as_class("keras.layers", "StringLookup", vocabulary=str(tmp_path / "words.txt")),
        as_class("keras.src.saving.saving_lib", "load_model", filepath=target),
        as_class("subprocess", "run", args=["touch", target]),
        as_class("builtins", "exec", source=f"open({target!r}, 'w')"),
        {**as_class("os", "function"), "config": "mkdir", "registered_name": "mkdir"},
    ]
    for attack in attacks:
        for place in ("kernel_initializer", "activation", "kernel_constraint", "dtype", "name"):
            config = with_config(parts, lambda c, a=attack, p=place: layer_of(c)["config"].update({p: a}))
            with pytest.raises(CourseError, match="is not opened: it has a"):
                load_keras_model(write(tmp_path / "evil.keras", config))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["evil.keras", "words.txt"]


@pytest.mark.parametrize("part", ["config.json", "model.weights.h5", None])
def test_a_damaged_file_is_opened_or_explained(parts, tmp_path, part):
    """Changes bytes in a file of the archive, with a valid checksum, or in the archive itself."""
    random, explained = np.random.default_rng(0), 0
    path = write(tmp_path / "model.keras", parts)
    good = parts[part] if part else path.read_bytes()
    for _ in range(40):
        content = bytearray(good)
        for place in random.integers(0, len(good) if part else 4000, 4):
            content[place] = random.integers(0, 256)
        if part:
            write(path, {**parts, part: bytes(content)})
        else:
            path.write_bytes(content)
        try:
            assert isinstance(load_keras_model(path), keras.Model)
        except CourseError:
            explained += 1
    assert explained


# --- The weights -----------------------------------------------------------------------------------------------


def with_weights(parts, change):
    file = io.BytesIO(parts["model.weights.h5"])
    with h5py.File(file, "r+") as weights:
        change(weights)
    return {**parts, "model.weights.h5": file.getvalue()}


def first_weights(weights):
    """Returns the group of a layer and the name of its first array."""
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
        replaced(lambda group, name, shape: group.create_dataset(name, (10**6, 10**6), "float32")),
        "its weights claim 4,000,000,",
    ),
    "compressed numbers, which may be more than they claim": (
        replaced(lambda group, name, shape: group.create_dataset(name, shape, "float32", compression="gzip")),
        "are compressed, which Keras does not do",
    ),
    "texts": (
        replaced(lambda group, name, shape: group.create_dataset(name, shape, h5py.string_dtype())),
        "are no numbers but object",
    ),
    "records": (
        replaced(lambda group, name, shape: group.create_dataset(name, shape, [("a", "i1"), ("b", "i1")])),
        "are no numbers but",
    ),
    "a circle of groups": (
        lambda weights: first_weights(weights)[0].__setitem__("circle", weights["layers"]),
        "'circle' are in two places",
    ),
    "the same numbers in many places": (
        replaced(lambda group, name, shape: [group.__setitem__(f"{name}{i}", group["1"]) for i in range(3)]),
        "are in two places",
    ),
}


@pytest.mark.parametrize("name", EVIL_WEIGHTS)
def test_weights_that_are_not_in_the_file_are_refused(parts, tmp_path, monkeypatch, name):
    change, message = EVIL_WEIGHTS[name]
    path = write(tmp_path / "evil.keras", with_weights(parts, change))
    monkeypatch.setattr(keras.saving, "load_model", lambda *_, **__: pytest.fail("Keras has opened it"))
    with pytest.raises(CourseError, match=message):
        load_keras_model(path)


def test_weights_that_do_not_fit_the_layers_are_explained(parts, tmp_path):
    change = replaced(lambda group, name, shape: group.create_dataset(name, (1, *shape), "float32"))
    with pytest.raises(CourseError, match="cannot be opened as a Keras model"):
        load_keras_model(write(tmp_path / "odd.keras", with_weights(parts, change)))


# --- Finding models --------------------------------------------------------------------------------------------


def test_find_model_takes_a_run_folder_or_a_file(dense_run):
    assert find_model(dense_run) == dense_run / "model.keras"
    assert find_model(str(dense_run / "model.keras")) == dense_run / "model.keras"
    assert read_required_card(dense_run / "model.keras").title == "A dense net"


@pytest.mark.parametrize("trust", [True, False])
def test_open_model_looks_up_path_and_format_once(dense_run, monkeypatch, trust):
    calls = []
    for name in ("find_model", "format_of"):
        original = getattr(formats, name)
        monkeypatch.setattr(formats, name, lambda path, name=name, call=original: calls.append(name) or call(path))
    open_model(dense_run, trust=trust).close()
    assert calls == ["find_model", "format_of"]


def test_an_unfinished_run_is_explained(tmp_path):
    (tmp_path / "checkpoint.npz").touch()
    with pytest.raises(CourseError, match="a run that has not ended, and no model yet; go on with it by --resume"):
        find_model(tmp_path)


def make_pipe(path):
    os.mkfifo(path)


def make_socket(path):
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(os.path.relpath(path))  # the path of a socket can have at most about 100 characters


def make_device(path):
    path.symlink_to("/dev/full")  # only root can create a device; this one always exists


NO_FILES = pytest.mark.parametrize("make", [make_pipe, make_socket, make_device])


@pytest.mark.skipif(os.name == "nt", reason="needs named pipes")
@pytest.mark.parametrize("name", ["model.keras", "model.onnx", "model.tflite", "model"])
@NO_FILES
def test_a_pipe_socket_or_device_as_model_is_refused_without_waiting(tmp_path, make, name):
    make(tmp_path / name)
    for opens in (find_model, open_model):
        with pytest.raises(CourseError, match=rf"{name} is not a file; give a run folder or the file of a model"):
            opens(tmp_path / name)
    for opens in (load_keras_model, read_card):
        with pytest.raises(CourseError, match=r"is not a file$"):
            opens(tmp_path / name)


@pytest.mark.skipif(os.name == "nt", reason="needs named pipes")
@NO_FILES
def test_a_pipe_socket_or_device_as_card_is_refused(tmp_path, make):
    make(tmp_path / "card.json")
    with pytest.raises(CourseError, match=r"card.json is not a file"):
        read_card(tmp_path)


def test_a_model_without_a_card_is_explained(parts, tmp_path):
    with pytest.raises(CourseError, match=r"bare.keras has no card, which says what its answers mean"):
        read_required_card(write(tmp_path / "bare.keras", parts))


# --- Operations between layers ---------------------------------------------------------------------------------


def operation(config, kind):
    return next(step for step in config["config"]["layers"] if step["class_name"] == kind)


BOMBS = {
    "Repeat": (lambda x: keras.ops.repeat(x, 2, axis=1), lambda step: step["config"].update(repeats=10**9)),
    "Tile": (lambda x: keras.ops.tile(x, (1, 2)), lambda step: step["config"].update(repeats=[1, 10**9])),
    "Pad": (
        lambda x: keras.ops.pad(x, ((0, 0), (1, 1))),
        lambda step: step["config"].update(pad_width=[[0, 0], [10**9, 0]]),
    ),
    "BroadcastTo": (
        lambda x: keras.ops.broadcast_to(keras.ops.mean(x), (1, 4)),
        lambda step: step["config"].update(shape=[10**5, 10**5]),
    ),
    "Full": (
        lambda x: keras.src.ops.numpy.Full((1, 4))(keras.ops.mean(x)),
        lambda step: step["config"].update(shape=[10**6, 10**6]),
    ),
    "OneHot": (
        lambda x: keras.ops.one_hot(keras.ops.cast(x, "int32"), 3),
        lambda step: step["config"].update(num_classes=10**9),
    ),
    "Linspace": (
        lambda x: keras.ops.linspace(x, x, num=3),
        lambda step: step["config"].update(num=10**9),
    ),
}


@pytest.mark.parametrize("kind", BOMBS)
def test_an_operation_with_a_giant_output_is_refused_before_it_runs(tmp_path, kind):
    build, change = BOMBS[kind]
    inputs = keras.Input((4,))
    keras.Model(inputs, keras.ops.mean(build(inputs))).save(tmp_path / "bomb.keras")
    load_keras_model(tmp_path / "bomb.keras")
    with zipfile.ZipFile(tmp_path / "bomb.keras") as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    resource = pytest.importorskip("resource", reason="measures memory by getrusage")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    changed = with_config(parts, lambda config: change(operation(config, kind)))
    with pytest.raises(
        CourseError,
        match=r"bomb\.keras is not opened: its layer '\w+' makes [\d,]+,\d{3},\d{3},\d{3} numbers for one sample",
    ):
        load_keras_model(write(tmp_path / "bomb.keras", changed))
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < 100e6


def test_a_chain_of_doublings_is_refused(tmp_path):
    inputs = outputs = keras.Input((16,))
    for _ in range(40):
        outputs = keras.ops.concatenate([outputs, outputs], axis=1)
    keras.Model(inputs, keras.ops.mean(outputs)).save(tmp_path / "chain.keras")
    with pytest.raises(CourseError, match=r"chain.keras is not opened: its layer .* makes 268,435,456 numbers"):
        load_keras_model(tmp_path / "chain.keras")


def test_a_chain_of_squarings_is_refused_before_it_fills_the_memory(tmp_path):
    inputs = keras.Input((16,), batch_size=1)
    keras.Model(inputs, keras.ops.outer(inputs, inputs)).save(tmp_path / "chain.keras")
    with zipfile.ZipFile(tmp_path / "chain.keras") as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}

    def change(config):
        """Appends steps, each of which takes the flattened output of the previous one."""
        steps = config["config"]["layers"]
        first = operation(config, "Outer")
        last = first["name"]
        for number in range(40):
            for kind, settings in (("Ravel", {}), ("Outer", {})):
                step = json.loads(json.dumps(first))
                name = f"{kind}{number}".lower()
                step.update(class_name=kind, registered_name=kind, config={"name": name, **settings}, name=name)
                tensor = step["inbound_nodes"][0]["args"][0]
                tensor["config"]["keras_history"] = [last, 0, 0]
                step["inbound_nodes"] = [{"args": [tensor] * (1 if kind == "Ravel" else 2), "kwargs": {}}]
                steps.append(step)
                last = name
        config["config"]["output_layers"] = [last, 0, 0]

    with pytest.raises(CourseError, match=r"chain.keras cannot be opened .* a side of more than"):
        load_keras_model(write(tmp_path / "chain.keras", with_config(parts, change)))


def subtraction_model():
    inputs = keras.Input((4,))
    return keras.Model(inputs, keras.layers.Dense(2)(inputs - np.ones(4, "float32")))


OPERATION_ATTACKS = {
    "numbers alone, computed at once": (
        lambda step: step.update(inbound_nodes=[{"args": [1.0, 2.0], "kwargs": {}}]),
        "takes no layer's output",
    ),
    "a call without arguments": (lambda step: step.update(inbound_nodes=[[]]), "takes no layer's output"),
    "an output that is only in the settings of a layer": (
        lambda step: step.update(
            inbound_nodes=[
                {
                    "args": [1.0],
                    "kwargs": {"x2": as_class("keras.layers", "Dense", units=step["inbound_nodes"][0]["args"][0])},
                }
            ]
        ),
        "takes no layer's output",
    ),
    "an array of a kind that is large": (
        lambda step: step["inbound_nodes"][0]["args"][1]["config"].update(dtype="(1000000000,)f4"),
        "an array whose numbers are of no known kind",
    ),
    "an array of objects": (
        lambda step: step["inbound_nodes"][0]["args"][1]["config"].update(value=[{"class_name": "x"}]),
        "an array that is not made of numbers",
    ),
    "an array of texts": (
        lambda step: step["inbound_nodes"][0]["args"][1]["config"].update(value=["/etc/passwd"]),
        "an array that is not made of numbers",
    ),
    "an array of rows of different lengths": (
        lambda step: step["inbound_nodes"][0]["args"][1]["config"].update(value=[[1.0], [1.0, 2.0]]),
        "an array that is not made of numbers",
    ),
    "an operation with code": (lambda step: step.update(as_class("keras.src.ops.core", "Map")), "contains code"),
    "an operation from elsewhere": (
        lambda step: step.update(as_class("keras.src.ops.operation_utils", "Subtract")),
        "only layers of Keras",
    ),
}


@pytest.mark.parametrize("name", OPERATION_ATTACKS)
def test_the_arguments_of_an_operation_are_checked(tmp_path, monkeypatch, name):
    change, message = OPERATION_ATTACKS[name]
    subtraction_model().save(tmp_path / "evil.keras")
    with zipfile.ZipFile(tmp_path / "evil.keras") as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    load_keras_model(tmp_path / "evil.keras")
    monkeypatch.setattr(keras.saving, "deserialize_keras_object", lambda *_, **__: pytest.fail("Keras has opened it"))
    changed = with_config(parts, lambda config: change(operation(config, "Subtract")))
    with pytest.raises(CourseError, match=rf"evil.keras is not opened: .*{message}"):
        load_keras_model(write(tmp_path / "evil.keras", changed))


def test_an_operation_in_the_settings_of_a_layer_is_refused(parts, tmp_path):
    evil = as_class("keras.src.ops.numpy", "Repeat", repeats=10**9)
    changed = with_config(parts, lambda config: layer_of(config)["config"].update(activation=evil))
    with pytest.raises(CourseError, match=r"it has a 'Repeat' of 'keras\.src\.ops\.numpy'"):
        load_keras_model(write(tmp_path / "evil.keras", changed))


def test_a_constant_initializer_is_not_broadcast_with_its_weight(tmp_path):
    """A column of numbers for a row of weights would be broadcast to a matrix."""
    start = keras.initializers.Constant(np.ones((1000, 1)))
    layer = keras.layers.Embedding(1000, 3, embeddings_initializer=start)
    keras.Sequential([keras.Input((2,)), layer]).save(tmp_path / "start.keras")
    with zipfile.ZipFile(tmp_path / "start.keras") as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}

    def change(config):
        value = layer_of(config, "Embedding")["config"]["embeddings_initializer"]["config"]["value"]["config"]
        value["value"] = [[[0]]] * 20_000

    resource = pytest.importorskip("resource", reason="measures memory by getrusage")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    opened = load_keras_model(write(tmp_path / "start.keras", with_config(parts, change)))
    np.testing.assert_array_equal(opened.get_weights()[0], np.ones((1000, 3)))
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < 400e6


@pytest.mark.parametrize("heads", [{"num_heads": 1, "key_dim": 1}])
def test_attention_between_too_many_positions_is_refused(tmp_path, heads):
    inputs = keras.Input((20_000, 1))
    outputs = keras.layers.MultiHeadAttention(**heads, name="attention")(inputs, inputs)
    keras.Model(inputs, keras.layers.GlobalAveragePooling1D()(outputs)).save(tmp_path / "wide.keras")
    with pytest.raises(CourseError, match=r"its layer 'attention' makes 400,000,000 numbers"):
        load_keras_model(tmp_path / "wide.keras")
