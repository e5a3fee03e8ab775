# %% [markdown]
# # 08 · Deployment
# A trained network goes to work: a photo goes in and a letter comes out, in a terminal, in a program without Keras, on
# a page in the browser.
#
# - needs: one backend; for another runtime and for the page what sections 5 and 6 name, if it is not there
# - data: the last run of lesson 07 or 04 if there is one, else hand signs; two photos
# - time: one minute with a run, three to five without
#
# Run it with `keras-course run 08_deployment`, with `python examples/08_deployment.py`, or cell by cell in JupyterLab.
# `--model runs/04_mnist_dense` takes another run, and `--model new` trains a network in any case.

# %%
from keras_course.lesson import parse_options

LESSON = "08_deployment"
options = parse_options("Puts a trained network to work.", epochs=10, batch_size=64, model="auto")

# %% The backend is chosen: now Keras may be imported.
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
from keras_course.training import find_run, fit, open_run, predict_logits

# %% [markdown]
# ## 1. Data
# What a network was trained on decides what it can be given. A saved model of this course says so itself: its *card* is
# part of the file `model.keras`.

# %%
run = open_run(LESSON, options)
taken = find_run(options.model, ("07_asl_augmentation", "04_mnist_dense"))
card = cards.read_card(taken / "model.keras") if taken else None
dataset = mnist if card is not None and card.picture_format.drawing else asl
source = dataset.locate(options.data)
card = card or dataset.card("Hand signs, put to work", source)
(x_train, y_train), (x_valid, y_valid) = dataset.load_data(source)
print(f"the network: {f'that of {taken}' if taken else 'a new one'}, {len(card.class_names)} classes")
print(f"trained on: {card.data}")
print(f"made for: {card.limits}")

# %% [markdown]
# ## 2. Look at it
# A photo has colours, any size and any proportions. The network takes a small grey picture. Whoever makes the one of
# the other in another way than in training gets wrong answers and no error. So that happens in one place,
# `preprocessing.prepare`, which reads from the card what to do: for training, for each command below, and for the page.

# %%
photos = dataset.example_photos(run.path / "photos")
originals = [np.asarray(read_picture(photo).convert("RGB")) for photo in photos]
prepared = np.stack([prepare(photo, card.picture_format) for photo in photos])
for photo, original in zip(photos, originals, strict=True):
    print(f"{photo.name}: {original.shape} becomes {card.picture_format.shape}")

# %% [markdown]
# ## 3. Model
# Without a run to take, this is the convolutional network of lesson 06.

# %%
model = load_keras_model(taken / "model.keras") if taken else cnn_classifier(seed=options.seed)
print(f"{model.count_params():,} parameters")

# %% [markdown]
# ## 4. Train
# Shorter than in lesson 07, but with its kind of augmentation: photos are never quite like the pictures that were
# trained on.

# %%
if taken:
    history = report.read_history(taken / "history.csv")
    run.write_history(history)
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
logits = predict_logits(model, x_valid)
matrix = evaluation.confusion_matrix(y_valid, logits.argmax(axis=-1), num_classes=len(card.class_names))
measured = {
    "accuracy": evaluation.accuracy(logits, y_valid),
    "loss": evaluation.cross_entropy(logits, y_valid),
    "per_class": evaluation.per_class(matrix, card.class_names),
}
plots.save(plots.training_curves(history), run.figures / "curves.png")
if taken:
    run.save_model(model, card)
    metrics = {**report.read_metrics(taken / "metrics.json"), **measured}
    run.write_json("metrics.json", metrics)
else:
    metrics = run.save_results(model, history, options, samples=len(x_train), card=card, **measured)

# %% [markdown]
# ## 5. Evaluate
# ### In a terminal
# This is what `keras-course predict runs/08_deployment PHOTO` does: it opens the file, and trusts it no further than
# it must, prepares each photo and names the most probable classes.

# %%
runtime = open_model(run.path, trust=True)  # our own; what others send is opened in a process with limits
print(f"{runtime.path} is opened by {runtime.name}")
predictions = list(predict(runtime, list(photos)))
for prediction in predictions:
    print(prediction.name, *(f"{answer.class_name} {answer.probability:.1%}" for answer in prediction.answers))
plots.save(
    plots.answers(
        originals,
        prepared,
        [[(answer.class_name, answer.probability) for answer in prediction.answers] for prediction in predictions],
        [photo.name for photo in photos],
    ),
    run.figures / "photos.png",
)

# %% [markdown]
# ### In another runtime
# Training needs a framework; answering does not. The export is a file of a few megabytes that runs in programs, on
# phones and in browsers. It is worth something only if it gives the same answers, so `export_model` opens what it has
# written, compares the logits, and hands out nothing that differs.
#
# Where a package is missing, the lesson says which, and goes on.

# %%
exported = None
try:
    exported = export_model(run.path, format="onnx", trust=True)
except MissingPackageError as missing:
    print(missing)
if exported:
    print(f"{exported.path}: {exported.size:,} bytes; its logits are those of Keras to {exported.difference:.0e}")
    in_another_runtime = open_model(exported.path)
    for opened in (runtime, in_another_runtime):
        opened.logits(prepared[:1])  # the first time some compile
        started = time.perf_counter()
        for _ in range(100):
            opened.logits(prepared[:1])
        print(f"{opened.name}: {10 * (time.perf_counter() - started):.2f} ms for one picture")

# %% [markdown]
# ### Without Keras
# The proof is a new process that answers the same photos and never imports Keras.

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
# ### On a page
# `keras-course serve runs/08_deployment` opens a page for drawing, photos and the camera, and answers programs at
# `/predict`. Here it is started, asked once, as a program would ask it, and stopped.


# %%
def ask_a_service(model, photo):
    """Starts a service on a free port of this machine, sends it a photo and returns what it answers."""
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
    print(f"the service says of {photo.name}:", ask_a_service(exported.path if exported else run.path, photo))
except MissingPackageError as missing:
    print(missing)

# %%
page = report.write_report(
    run.path,
    title=card.title,
    captions={
        "curves": "Loss and accuracy, an epoch at a time.",
        "photos": "Photos, what reaches the network of them, and what it answers.",
    },
)
run.close()
print(f"accuracy {metrics['accuracy']:.2%} on {len(x_valid):,} pictures; the report is {page}")

# %% [markdown]
# ## 6. What to try next
# - `keras-course predict runs/08_deployment PHOTO` with a photo of your own hand. Which letters work, which do not, and
#   what is different about your photos?
# - `keras-course serve runs/08_deployment --open`, and the camera. It needs `pip install "keras-course[serve]"`.
# - `keras-course export runs/08_deployment --format openvino`, or `litert` for a phone. Which is fastest here?
# - Give it a photo of your lunch. Why is it so sure?
# - Change `resize` in the card to `crop`. What happens to the photos, and would you have noticed?
# - Lesson 09 takes a network that somebody else has trained, for a thousand classes.
