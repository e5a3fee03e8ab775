# %% [markdown]
# # 08 · Deployment
# A trained network is put to use: it classifies photos in a terminal, in a program without Keras, and on a web page.
#
# - needs: one backend; ONNX Runtime and FastAPI for some parts, which are skipped without them
# - data: the latest run of lesson 07 or 04 if there is one, else hand signs; two photos
# - time: one minute with a run, three to five without
# - result: predictions for photos, an exported file with the same logits, and inference times
#
# Run it with `keras-course run 08_deployment`, with `python examples/08_deployment.py`, or cell by cell in JupyterLab.
# `--model runs/04_mnist_dense` takes another run, and `--model new` always trains a network.

# %%
from keras_course.lesson import open_run, parse_options

options = parse_options("Deploys a trained network.", epochs=10, batch_size=64, model="auto")

# %% The backend is selected: now Keras can be imported.
import json
import subprocess
import sys
import time
import urllib.request

import numpy as np

from keras_course import augmentation, cards, evaluation, plots, report
from keras_course.datasets import asl, mnist
from keras_course.deployment.export import export_model
from keras_course.deployment.model_files import load_keras_model
from keras_course.deployment.predict import predict
from keras_course.deployment.runtimes import open_model
from keras_course.deployment.serve import check_installed
from keras_course.errors import MissingPackageError
from keras_course.models import cnn_classifier
from keras_course.preprocessing import prepare, read_picture
from keras_course.training import find_run, fit, predict_logits

# %% [markdown]
# ## 1. Data
# The input of a network has to be like its training data. A saved model of this course describes it: the *card* of the
# model is part of the file `model.keras`.

# %%
run = open_run("08_deployment", options)
taken = find_run(options.model, ("07_asl_augmentation", "04_mnist_dense"))
card = cards.read_card(taken / "model.keras") if taken else None
dataset = mnist if card is not None and card.required_picture_format().drawing else asl
source = dataset.locate(options.data)
card = card or dataset.card("Hand signs, put to work", source)
(x_train, y_train), (x_valid, y_valid) = dataset.load_data(source)
print(f"the network: {f'from {taken}' if taken else 'a new one'}, {len(card.class_names)} classes")
print(f"training data: {card.data}")
print(f"limits: {card.limits}")

# %% [markdown]
# ## 2. Look at it
# A photo has colors and any size and proportions; the network takes a small gray picture. If the conversion is not the
# same as in training, the predictions are wrong, and there is no error message. So there is only one function for it,
# `preprocessing.prepare`, which reads the picture format from the card: for training, for all commands below, and for
# the web page.

# %%
photos = dataset.example_photos(run.path / "photos")
originals = [np.asarray(read_picture(photo).convert("RGB")) for photo in photos]
prepared = np.stack([prepare(photo, card.picture_format) for photo in photos])
for photo, original in zip(photos, originals, strict=True):
    print(f"{photo.name}: shape {original.shape} becomes {card.picture_format.shape}")

# %% [markdown]
# ## 3. Model
# Without a run, this is the convolutional network of lesson 06.

# %%
model = load_keras_model(taken / "model.keras") if taken else cnn_classifier(seed=options.seed)
print(f"{model.count_params():,} parameters")

# %% [markdown]
# ## 4. Train
# Training is shorter than in lesson 07 and also uses augmentation, because photos differ from the training pictures.

# %%
if taken:
    history = report.read_history(taken / "history.csv")
else:
    history = fit(
        model,
        (x_train, y_train),
        (x_valid, y_valid),
        epochs=options.epochs,
        batch_size=options.batch_size,
        seed=options.seed,
        augmentation=augmentation.Augmentation(
            [
                augmentation.Rotation(15),
                augmentation.Zoom(0.8, 1.2, keep_ratio=False),
                augmentation.Shift(0.1, 0.1),
                augmentation.Brightness(0.2),
                augmentation.Contrast(0.5),
            ],
            fill="nearest",
            seed=options.seed,
        ),
        run=run,
        log_steps=options.log_steps,
        progress=not options.quiet,
    )
run.add_figure("curves", plots.training_curves(history), "Loss and accuracy after each epoch.")

# %%
logits = predict_logits(model, x_valid)
matrix = evaluation.confusion_matrix(y_valid, logits.argmax(axis=-1), num_classes=len(card.class_names))
measured = {
    "accuracy": evaluation.accuracy(logits, y_valid),
    "loss": evaluation.cross_entropy(logits, y_valid),
    "per_class": evaluation.per_class(matrix, card.class_names),
}
if taken:
    run.save_model(model, card)
    run.write_json("metrics.json", {**report.read_metrics(taken / "metrics.json"), **measured})
else:
    run.record(model, history, metrics=measured, samples=len(x_train), card=card)

# %% [markdown]
# ## 5. Evaluate
# ### In a terminal
# This is what `keras-course predict runs/08_deployment PHOTO` does: it opens the model file, prepares each photo and
# prints the most probable classes.

# %%
runtime = open_model(run.path, trust=True)  # our own file; files of others are opened in a process with limits
print(f"{runtime.path} is opened by {runtime.name}")
predictions = list(predict(runtime, list(photos)))
for prediction in predictions:
    print(prediction.name, *(f"{answer.class_name} {answer.probability:.1%}" for answer in prediction.answers))
predicted = plots.answers(
    originals,
    prepared,
    [[(answer.class_name, answer.probability) for answer in prediction.answers] for prediction in predictions],
    [photo.name for photo in photos],
)
run.add_figure("photos", predicted, "Photos, the input of the network, and its predictions.")

# %% [markdown]
# ### In another runtime
# Training needs a framework; inference does not. The exported file has a few megabytes and runs in other programs, on
# phones and in browsers. It must give the same answers: `export_model` opens the file that it has written, compares the
# logits, and raises an error if they differ.
#
# If a package is missing, the lesson names it and continues.

# %%
exported = None
try:
    exported = export_model(run.path, format="onnx", trust=True)
except MissingPackageError as missing:
    print(missing)
if exported:
    print(f"{exported.path}: {exported.size:,} bytes")
    print(f"largest difference from Keras' logits: {exported.difference:.0e}")
    in_another_runtime = open_model(exported.path)
    for opened in (runtime, in_another_runtime):
        opened.logits(prepared[:1])  # some runtimes compile in the first call
        started = time.perf_counter()
        for _ in range(100):
            opened.logits(prepared[:1])
        print(f"{opened.name}: {10 * (time.perf_counter() - started):.2f} ms for one picture")

# %% [markdown]
# ### Without Keras
# A new process classifies the same photos and does not import Keras.

# %%
WITHOUT_KERAS = """
import sys
from keras_course.deployment.predict import predict
from keras_course.deployment.runtimes import open_model
for prediction in predict(open_model(sys.argv[1]), sys.argv[2:], top=1):
    print(prediction.answers[0].class_name, end=" ")
print("| Keras is", "imported" if "keras" in sys.modules else "not imported")
"""
if exported:
    command = [sys.executable, "-c", WITHOUT_KERAS, str(exported.path), *map(str, photos)]
    print(subprocess.run(command, capture_output=True, text=True, check=True).stdout, end="")

# %% [markdown]
# ### On a web page
# `keras-course serve runs/08_deployment` starts a web page for drawings, photos and the camera, with an HTTP interface
# for programs at `/predict`. Here a program starts it, sends one request, and stops it.


# %%
def ask_a_service(model, photo):
    """Starts the service on a free port, sends a photo and returns the answer."""
    command = [sys.executable, "-m", "keras_course", "serve", str(model), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as service:
        try:
            address = service.stdout.readline().partition(" on ")[2].split()[0]
            kind = {"Content-Type": "application/octet-stream"}
            request = urllib.request.Request(f"{address}/predict?top=1", photo.read_bytes(), kind)
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.loads(answer.read())
        finally:
            service.terminate()


try:
    check_installed()
    photo = next(iter(photos))
    print(f"the answer of the service for {photo.name}:", ask_a_service(exported.path if exported else run.path, photo))
except MissingPackageError as missing:
    print(missing)

# %%
print(f"accuracy {measured['accuracy']:.2%} on {len(x_valid):,} held-out pictures")
run.finish(history=history, title=card.title)

# %% [markdown]
# ## 6. What to try next
# - `keras-course predict runs/08_deployment PHOTO` with a photo of your own hand. Which letters work, which do not, and
#   how do your photos differ?
# - `keras-course serve runs/08_deployment --open`, and the camera. It needs `pip install "keras-course[serve]"`.
# - `keras-course export runs/08_deployment --format openvino`, or `litert` for a phone. Which is the fastest here?
# - Classify a photo of your lunch. Why is the network so confident?
# - Change `resize` in the card to `crop`. How do the prepared photos change, and would you have noticed it?
# - Lesson 09 uses a pre-trained network with a thousand classes.
