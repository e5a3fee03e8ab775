"""Predictions for pictures: in a program and on the command line."""

import importlib.util
import io
import json
import os
import re
import socket
import subprocess
import sys
import zipfile
from dataclasses import replace
from functools import partial
from pathlib import Path

import keras
import numpy as np
import pytest
import typer
from PIL import Image

from keras_course._backend import select
from keras_course.cards import ModelCard, put_card, read_card
from keras_course.cli import app
from keras_course.datasets import asl, mnist
from keras_course.deployment import formats, isolation
from keras_course.deployment import predict as predict_module
from keras_course.deployment.answers import most_probable
from keras_course.deployment.export import export_model
from keras_course.deployment.locate import find_model, is_pretrained
from keras_course.deployment.model_files import load_keras_model
from keras_course.deployment.predict import Answer, find_pictures, predict, predictions_of
from keras_course.deployment.runtimes import open_model
from keras_course.errors import CourseError
from keras_course.evaluation import softmax
from keras_course.models import cnn_classifier, dense_classifier
from keras_course.preprocessing import PictureFormat, prepare
from keras_course.training import RunDirectory, fit, predict_logits

ROOT = Path(__file__).parents[2]
BACKEND = keras.backend.backend()


def save_photo(path, seed, size=(50, 40)):
    """Saves a picture of random blocks and returns its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    blocks = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype="uint8")
    Image.fromarray(blocks).resize(size, Image.Resampling.NEAREST).save(path)
    return path


@pytest.fixture(scope="module")
def runtime(cnn_run):
    return open_model(cnn_run)


@pytest.fixture
def photos(tmp_path):
    return [save_photo(tmp_path / f"{seed}.png", seed) for seed in range(7)]


def best_class(model, card, photo):
    logits = predict_logits(model, prepare(photo, card.picture_format)[None])[0]
    return card.class_names[int(logits.argmax())]


def test_predictions_are_in_the_order_of_the_pictures(runtime, cnn_run, photos):
    model = load_keras_model(cnn_run / "model.keras")
    expected = [best_class(model, runtime.card, photo) for photo in photos]
    for batch_size in (1, 3, 7, 50):
        found = list(predict(runtime, photos, batch_size=batch_size, top=2))
        assert [prediction.name for prediction in found] == [str(photo) for photo in photos]
        assert [prediction.answers[0].class_name for prediction in found] == expected
        assert all(len(prediction.answers) == 2 for prediction in found)


def test_probabilities_are_the_softmax_of_the_logits():
    logits = np.log(np.array([[0.2, 0.5, 0.3], [0.1, 0.1, 0.8]])) + 700  # far from 0, as exp would overflow
    first, second = predictions_of(logits, "abc", top=3)
    assert [answer.class_name for answer in first] == ["b", "c", "a"]
    np.testing.assert_allclose([answer.probability for answer in first], [0.5, 0.3, 0.2], rtol=1e-9)
    assert second[0] == Answer("c", pytest.approx(0.8))
    assert [answer.class_name for answer in second[1:]] == ["a", "b"], "the first of equally probable classes"


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_logits_that_are_not_finite_are_refused(wrong):
    with pytest.raises(CourseError, match="the model gives logits that are no numbers"):
        predictions_of(np.array([[0.0, wrong]]), "ab")


def test_invalid_numbers_are_explained(runtime, photos):
    with pytest.raises(CourseError, match="top is 0; give a whole number from 1 up"):
        list(predict(runtime, photos, top=0))
    with pytest.raises(CourseError, match="batch_size is 0; give a whole number from 1 up"):
        list(predict(runtime, photos, batch_size=0))
    with pytest.raises(CourseError, match="names has 1 entries; give one for each of the 7 pictures"):
        list(predict(runtime, photos, names=["one"]))
    assert list(predict(runtime, [])) == []


def test_top_above_the_number_of_classes_gives_all_classes(runtime, photos):
    (prediction,) = predict(runtime, photos[:1], top=99)
    assert len(prediction.answers) == 5
    assert sum(answer.probability for answer in prediction.answers) == pytest.approx(1)


def test_an_unreadable_picture_does_not_stop_the_others(runtime, photos, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no picture")
    mixed = [tmp_path / "broken.png", photos[0], tmp_path / "broken.png", photos[0], photos[1]]
    found = list(predict(runtime, mixed, batch_size=2))
    assert [bool(prediction.error) for prediction in found] == [True, False, True, False, False]
    assert "broken.png cannot be read as a picture" in found[0].error
    assert found[1] == found[3]
    assert found[0].to_dict() == {"picture": str(mixed[0]), "error": found[0].error}


@pytest.mark.skipif(os.name == "nt", reason="needs named pipes")
def test_a_pipe_socket_or_device_as_picture_is_refused_without_waiting(runtime, photos, tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "device.png").symlink_to("/dev/full")
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(os.path.relpath(tmp_path / "socket.png"))
    names = [tmp_path / f"{kind}.png" for kind in ("pipe", "device", "socket")]
    *wrong, right = predict(runtime, [*names, photos[0]])
    assert [prediction.error for prediction in wrong] == [f"{name} cannot be read: it is not a file" for name in names]
    assert right.answers
    assert find_pictures([tmp_path]) == photos, "in a folder they are skipped"


def test_arrays_and_bytes_are_accepted_as_pictures(runtime, photos):
    array = np.asarray(Image.open(photos[2]))
    by_file, by_bytes, by_array = predict(runtime, [photos[2], photos[2].read_bytes(), array])
    assert by_file.answers == by_bytes.answers == by_array.answers
    assert (by_bytes.name, by_array.name) == ("picture 2", "picture 3")
    (named,) = predict(runtime, [array], names=["my hand"])
    assert named.name == "my hand"


def test_pictures_in_folders_are_sorted_by_name(tmp_path, capsys):
    for name in ("b/2.png", "b/10.PNG", "a/x.jpg", "a/deep/er/y.webp"):
        save_photo(tmp_path / name, 0)
    for hidden in ("a/._x.jpg", ".trash/z.png", "__MACOSX/x.jpg"):
        save_photo(tmp_path / hidden, 0)
    (tmp_path / "a" / "notes.txt").write_text("no picture")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "loop").symlink_to(tmp_path)
    names = [path.relative_to(tmp_path).as_posix() for path in find_pictures([tmp_path])]
    assert names == ["a/deep/er/y.webp", "a/x.jpg", "b/10.PNG", "b/2.png"]
    assert "2 skipped: loop (it is a link that leads back to" in capsys.readouterr().err
    assert find_pictures([tmp_path / "a" / "notes.txt"]) == [tmp_path / "a" / "notes.txt"], "a named file is used"
    named = tmp_path / "a" / "._x.jpg"
    assert find_pictures([named, named]) == [named, named]
    for wrong in ("n" * 5000 + ".png", tmp_path / "broken_link.png"):
        with pytest.raises(CourseError, match=r"there is no picture .*; give the path of one"):
            find_pictures([wrong])
    (tmp_path / "empty").mkdir()
    with pytest.raises(CourseError, match=r"empty holds no pictures; give a folder with files that end in \.jpg"):
        find_pictures([tmp_path / "empty"])


def test_every_file_of_a_folder_is_used_or_reported_as_skipped(tmp_path, capsys):
    for name in ("1.jpg", "3.tif", "4.gif", "holiday_of_others/6.png"):
        save_photo(tmp_path / ("" if "/" in name else "new") / name, 0)
    (tmp_path / "new" / "2.heic").write_bytes(b"1")
    (tmp_path / "new" / "5.png").symlink_to("nowhere.png")
    (tmp_path / "new" / "holiday").symlink_to(tmp_path / "holiday_of_others")
    names = [path.name for path in find_pictures([tmp_path / "new"])]
    assert names == ["1.jpg", "2.heic", "3.tif", "4.gif"]
    error = capsys.readouterr().err
    assert error.startswith(f"{tmp_path / 'new'}: 2 skipped: 5.png (No such file or directory), holiday (it is a link")


# --- Equal logits in training and serving ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def hands_run(tmp_path_factory):
    """A network with the card of the lessons on hand signs."""
    with RunDirectory(tmp_path_factory.mktemp("hands") / "run") as run:
        model = cnn_classifier(filters=(4, 8), dense=16, dropout=0.1, seed=2)
        run.save_model(model, asl.card("Hand signs", "my_photos"))
    return run.path


def assert_served_as_trained(run, folder):
    """Compares logits of pictures read for training by `asl.load_data` with those of the same files when served."""
    (x, _), (x_valid, _) = asl.load_data(folder)
    trained = predict_logits(load_keras_model(run / "model.keras"), np.concatenate([x, x_valid]))
    runtime = open_model(run)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    served = {
        tuple(np.round(logits, 3))
        for logits in (runtime.logits(prepare(file, runtime.card.picture_format)[None])[0] for file in files)
    }
    assert served == {tuple(np.round(logits, 3)) for logits in trained}
    assert len(served) > 1


def test_a_photo_gives_the_same_logits_in_training_and_in_serving(hands_run, tmp_path):
    for seed, (side, letter, ending, size) in enumerate(
        [
            ("train", "A", "png", (128, 194)),
            ("train", "B", "jpg", (640, 480)),
            ("train", "C", "bmp", (28, 28)),
            ("valid", "A", "webp", (60, 60)),
            ("valid", "B", "jpg", (1200, 1600)),
        ]
    ):
        save_photo(tmp_path / side / letter / f"{seed}.{ending}", seed, size)
    assert_served_as_trained(hands_run, tmp_path)


def test_real_photos_give_the_same_logits_in_training_and_in_serving(hands_run, tmp_path, course_data):
    for letter in "ab":
        content = (course_data / "photos" / f"asl_{letter}.jpg").read_bytes()
        for side in ("train", "valid"):
            file = tmp_path / side / letter.upper() / "1.jpg"
            file.parent.mkdir(parents=True)
            file.write_bytes(content)
    assert_served_as_trained(hands_run, tmp_path)


# --- Digits on paper -------------------------------------------------------------------------------------------

DIGITS = 100


@pytest.fixture(scope="module")
def accuracy_of():
    """Returns a function for the accuracy, on changed digits, of a network trained for one epoch on the sample."""
    train, (digits, labels) = mnist.load_data("sample")
    model = dense_classifier(hidden=(128,), seed=1)
    fit(model, train, epochs=1, progress=False)

    def accuracy_of(change=lambda digit, random: digit):
        random = np.random.default_rng(3)
        pictures = [prepare(change(digit, random), mnist.PICTURES) for digit in digits[:DIGITS, :, :, 0]]
        return float((predict_logits(model, np.stack(pictures)).argmax(1) == labels[:DIGITS]).mean())

    return accuracy_of


@pytest.fixture(scope="module")
def unchanged_accuracy(accuracy_of):
    return accuracy_of()


def large(digit, factor):
    return np.asarray(Image.fromarray(digit).resize((28 * factor,) * 2, Image.Resampling.BICUBIC), "float64") / 255


def on_photo(*, ink=40, paper=220, shade=0.0, noise=0.0, specks=0, factors=(3, 9)):
    """Returns a function that puts an enlarged digit on a photo of 300 × 400 pixels with shade, noise and dirt."""

    def change(digit, random):
        side = 28 * (factor := int(random.integers(*factors)))
        top, left = random.integers(0, 301 - side), random.integers(0, 401 - side)
        photo = np.full((300, 400), float(paper)) * (1 - shade * np.linspace(0, 1, 400))
        photo[top : top + side, left : left + side] += large(digit, factor) * (
            ink - photo[top : top + side, left : left + side]
        )
        photo += random.normal(0, noise, photo.shape)
        for row, column in random.integers(0, 296, (specks, 2)):
            photo[row : row + 3, column : column + 3] = ink
        return np.clip(np.rint(photo), 0, 255).astype("uint8")

    return change


def as_file(change, kind, **settings):
    def changed(digit, random):
        file = io.BytesIO()
        Image.fromarray(change(digit, random)).save(file, kind, **settings)
        return file.getvalue()

    return changed


def cut_out(digit, random):
    """Cuts out the digit, so that it touches all four sides."""
    rows, columns = (np.flatnonzero((digit > 60).any(axis=axis)) for axis in (1, 0))
    inside = digit[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    image = Image.fromarray(255 - inside).resize((8 * inside.shape[1], 8 * inside.shape[0]), Image.Resampling.BICUBIC)
    return np.asarray(image)


def transparent(digit, random):
    ink = np.zeros((300, 300), "uint8")
    ink[50:246, 20:216] = np.rint(255 * np.clip(large(digit, 7), 0, 1))
    return np.dstack([np.full((300, 300, 3), (200, 30, 30), "uint8"), ink])


CHANGES = {
    "inverted": lambda digit, random: 255 - digit,
    "large and elsewhere": on_photo(),
    "bright on black": on_photo(ink=240, paper=10),
    "on gray paper in dim light": on_photo(ink=30, paper=100),
    "chalk on a gray board": on_photo(ink=230, paper=140),
    "faint, with noise": on_photo(ink=170, paper=210, noise=5),
    "lit from one side": on_photo(shade=0.5),
    "in strong noise": on_photo(noise=15),
    "with all of it": on_photo(ink=70, shade=0.4, noise=6),
    "on dirty paper": on_photo(specks=20, factors=(5, 9)),
    "a poor JPEG": as_file(on_photo(ink=100, noise=4), "JPEG", quality=10),
    "cut out": cut_out,
    "red on nothing": transparent,
}


@pytest.mark.one_backend
@pytest.mark.parametrize("name", CHANGES)
def test_digits_on_paper_are_recognized_nearly_as_well_as_mnist(accuracy_of, unchanged_accuracy, name):
    """The measured accuracy was at most 0.03 lower, in strong noise."""
    assert unchanged_accuracy > 0.85
    assert accuracy_of(CHANGES[name]) > unchanged_accuracy - 0.05


# --- The command -----------------------------------------------------------------------------------------------


def run_command(*arguments):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "keras_course", "predict", *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200, check=False)


@pytest.mark.one_backend
def test_the_predict_command_prints_a_table_or_json(cnn_run, photos, runtime):
    done = run_command(cnn_run, *photos[:2], "--top", 2, "--json")
    assert done.returncode == 0, done.stderr
    printed = json.loads(done.stdout)
    assert (printed["format"], printed["runtime"]) == ("keras", runtime.name)
    expected = list(predict(runtime, photos[:2], top=2))
    for found, prediction in zip(printed["predictions"], expected, strict=True):
        assert found["picture"] == prediction.name
        assert [answer["class"] for answer in found["answers"]] == [answer.class_name for answer in prediction.answers]
        shares = [answer["probability"] for answer in found["answers"]]
        np.testing.assert_allclose(shares, [answer.probability for answer in prediction.answers], atol=1e-4)

    done = run_command(cnn_run, photos[0].parent)
    assert done.returncode == 0, done.stderr
    assert runtime.name in done.stdout
    assert "keras" in done.stdout
    for prediction in predict(runtime, photos):
        assert f"{prediction.answers[0].class_name} {prediction.answers[0].probability:.1%}" in done.stdout


@pytest.mark.one_backend
def test_the_predict_command_explains_errors(cnn_run, photos, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no picture")
    some = run_command(cnn_run, tmp_path / "broken.png", photos[0])
    assert some.returncode == 0
    assert "cannot be read" in " ".join(some.stdout.split())
    none = run_command(cnn_run, tmp_path / "broken.png")
    assert none.returncode == 2
    for arguments in (
        (tmp_path / "nowhere", photos[0]),
        (cnn_run, tmp_path / "nowhere.png"),
        (cnn_run, photos[0], "--top", 0),
    ):
        done = run_command(*arguments)
        assert (done.returncode, done.stdout) == (2, "")
        assert len(done.stderr.splitlines()) == 1
        assert done.stderr.startswith("error: ")


@pytest.mark.one_backend
def test_the_predict_command_opens_an_unsafe_format_only_with_trust(photos, tmp_path):
    (tmp_path / "model.tflite").write_bytes(b"no model")
    done = run_command(tmp_path / "model.tflite", photos[0])
    assert (done.returncode, done.stdout) == (2, "")
    assert "if you made it yourself, add --trust" in done.stderr
    trusted = run_command(tmp_path / "model.tflite", photos[0], "--trust")
    assert trusted.returncode == 2
    assert "--trust" not in trusted.stderr, "the next error is reported"


NOT_SAFE = [
    name
    for name, known in formats.FORMATS.items()
    if name != "saved_model" and not known.is_safe and BACKEND in known.writers and select.is_installed(known.runtime)
]


@pytest.mark.parametrize("kind", NOT_SAFE)
def test_the_predict_command_opens_an_unsafe_format_with_trust(cnn_run, photos, tmp_path, kind):
    written = export_model(
        cnn_run, format=kind, output=tmp_path / "new" / formats.FORMATS[kind].file_name, trust=True
    ).path
    done = run_command(written, photos[0], "--trust")
    assert (done.returncode, done.stderr) == (0, "")
    assert kind in done.stdout


def test_a_model_with_another_number_of_classes_than_its_card_is_explained(tmp_path, runtime):
    """It is found when it is saved, when it is opened, or at the first prediction."""
    card = ModelCard(title="wrong", class_names=("yes", "no"), picture_format=runtime.card.picture_format)
    model = cnn_classifier(input_shape=card.picture_format.shape, filters=(2,), dropout=0, num_classes=5)
    message = "gives 5 numbers for a picture, and its card names 2 classes; give it a card of its own"
    with RunDirectory(tmp_path / "run") as run, pytest.raises(CourseError, match=f"^the model {message}"):
        run.save_model(model, card)
    assert read_card(tmp_path / "run" / "model.keras") is None  # the model is saved nevertheless
    model.save(tmp_path / "model.keras")
    with zipfile.ZipFile(tmp_path / "model.keras", "a") as archive:
        archive.writestr("card.json", card.to_json())
    for use in (partial(open_model, trust=True), lambda path: export_model(path, format="onnx", trust=True)):
        with pytest.raises(CourseError, match=f"model.keras {message}"):
            use(tmp_path / "model.keras")
    with pytest.raises(CourseError, match=r"gives \(1, 5\) for 1 pictures, and its card names 2 classes"):
        list(predict(replace(runtime, card=card), [np.zeros((9, 9), "uint8")]))


# --- pre-trained models, by name ---------------------------------------------------------------------------------


@pytest.mark.one_backend
def test_a_pretrained_model_is_opened_by_its_name(course_data, tmp_path):
    environment = {**os.environ, "KERAS_COURSE_CACHE": str(tmp_path / "cache")}
    photos = [str(course_data / "photos" / name) for name in ("corgi.jpg", "brown_bear.jpg")]
    command = [sys.executable, "-m", "keras_course", "predict", "efficientnet_lite0", *photos, "--json", "--top", "1"]
    for _ in range(2):  # the second time it is read from the cache
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr
        answer = json.loads(done.stdout)
        assert answer["format"] == "keras"
        assert [each["answers"][0]["class"] for each in answer["predictions"]] == ["Pembroke", "brown bear"]
    assert (tmp_path / "cache" / "pretrained" / "efficientnet_lite0.keras").exists()


@pytest.mark.one_backend
def test_a_pretrained_model_without_weights_says_what_to_do(tmp_path):
    environment = {**os.environ, "KERAS_COURSE_CACHE": str(tmp_path / "cache")}
    command = [sys.executable, "-m", "keras_course", "predict", "efficientnet_lite4", str(tmp_path)]
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 2
    assert done.stderr.strip().endswith("give weights=FILE")
    assert "Traceback" not in done.stderr


def test_a_file_has_priority_over_a_pretrained_model_of_the_same_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("efficientnet_lite0").write_text("not a model")
    assert not is_pretrained("efficientnet_lite0")
    assert find_model("efficientnet_lite0") == Path("efficientnet_lite0")


# --- Models that give probabilities ----------------------------------------------------------------------------


def model_ending_with(activation, units):
    inputs = keras.Input((4, 4, 1))
    return keras.Model(inputs, keras.layers.Dense(units, activation=activation)(keras.layers.Flatten()(inputs / 99.0)))


def card_for(count):
    picture = PictureFormat(height=4, width=4, channels=1)
    return ModelCard(
        title="Probabilities", class_names=[f"class {number}" for number in range(count)], picture_format=picture
    )


@pytest.mark.parametrize(("activation", "units"), [("softmax", 3), ("sigmoid", 1), (None, 3)])
def test_probabilities_equal_those_of_the_model(tmp_path, activation, units):
    model = model_ending_with(activation, units)
    with RunDirectory(tmp_path / "run") as run:
        run.save_model(model, card_for(max(2, units)))
    pictures = np.random.default_rng(0).integers(0, 256, (5, 4, 4, 1), dtype=np.uint8)
    given = keras.ops.convert_to_numpy(model(pictures.astype("float32")))
    if activation == "sigmoid":
        given = np.concatenate([1 - given, given], axis=1)
    expected = softmax(given) if activation is None else given
    runtimes = [open_model(tmp_path / "run", trust=True)]
    if importlib.util.find_spec("onnxruntime"):
        runtimes.append(open_model(export_model(tmp_path / "run", format="onnx", trust=True).path))
    for runtime in runtimes:
        numbers, probabilities = most_probable(runtime.logits(pictures), top=len(expected[0]))
        assert runtime.card.outputs == (activation or "logits")
        np.testing.assert_allclose(probabilities, np.take_along_axis(expected, numbers, axis=1), atol=1e-5)


def test_outputs_of_a_file_with_an_old_card_are_read_from_its_graph(tmp_path):
    model = model_ending_with("softmax", 3)
    model.save(tmp_path / "model.keras")
    put_card(tmp_path / "model.keras", card_for(3))
    assert open_model(tmp_path / "model.keras", trust=True).card.outputs == "softmax"


def test_several_sigmoid_outputs_are_refused(tmp_path):
    with RunDirectory(tmp_path) as run, pytest.raises(CourseError, match="ends with sigmoid and gives 3 numbers"):
        run.save_model(model_ending_with("sigmoid", 3), card_for(3))
    assert (tmp_path / "model.keras").exists(), "the model is saved, without its card"


@pytest.mark.one_backend
def test_too_many_pictures_are_refused(photos, monkeypatch):
    monkeypatch.setattr(predict_module, "LARGEST_COUNT", 6)
    assert len(find_pictures(photos[:6])) == 6
    with pytest.raises(CourseError, match="there are more than 6 pictures; give fewer at a time"):
        find_pictures(photos)


@pytest.mark.one_backend
def test_a_backend_for_an_export_is_refused(onnx_file, photos):
    done = run_command(onnx_file, photos[0], "--backend", BACKEND)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(
        f"error: --backend is {BACKEND!r}, but {onnx_file} is an export, which no backend opens"
    )
    assert done.stderr.count("\n") == 1


@pytest.mark.one_backend
def test_a_trusted_model_is_opened_in_the_command_itself(cnn_run, photos, runtime, monkeypatch, capsys):
    monkeypatch.setattr(isolation, "start_model", None)
    command = typer.main.get_command(app).main
    command(["predict", str(cnn_run), str(photos[0]), "--trust", "--json"], standalone_mode=False)
    (found,) = json.loads(capsys.readouterr().out)["predictions"]
    (expected,) = predict(runtime, photos[:1])
    assert [answer["class"] for answer in found["answers"]] == [answer.class_name for answer in expected.answers]


@pytest.mark.one_backend
def test_a_trusted_model_is_exported_in_the_command_itself(dense_run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(isolation, "LimitedProcess", None)
    output = tmp_path / "a.onnx"
    command = typer.main.get_command(app).main
    arguments = ["export", str(dense_run), "--format", "onnx", "--output", str(output), "--trust"]
    command(arguments, standalone_mode=False)
    said = capsys.readouterr().out
    assert said.startswith(f"{output}: {output.stat().st_size:,} bytes, written by {BACKEND}\n")
    assert re.search(r"ONNX Runtime .*: largest difference from Keras' logits \d", said)
