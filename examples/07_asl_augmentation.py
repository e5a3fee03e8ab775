# %% [markdown]
# # 07 · Hand signs with augmentation
# Data augmentation against over-fitting: in each epoch the training pictures are rotated, shifted, sheared, lit and
# covered with noise in another way, so the network cannot learn them by heart.
#
# - needs: one backend
# - data: hand signs, 24 letters of 28×28 pixels (drawn ones if there are no real ones)
# - time: four to eight minutes on two cores
# - result: a picture of ten transforms, and the held-out accuracy with and without augmentation
#
# Run it with `keras-course run 07_asl_augmentation`, with `python examples/07_asl_augmentation.py`, or cell by cell in
# JupyterLab.

# %%
from keras_course.lesson import open_run, parse_options

options = parse_options("Classifies hand signs with data augmentation.", epochs=30, batch_size=64)

# %% The backend is selected: now Keras can be imported.
import keras
import numpy as np

from keras_course import augmentation, evaluation, plots
from keras_course.datasets import asl
from keras_course.models import cnn_classifier, format_parameter_table, parameter_table
from keras_course.training import fit, predict_logits

# %% [markdown]
# ## 1. Data

# %%
source = asl.locate(options.data)
(x_train, y_train), (x_valid, y_valid) = asl.load_data(source)
print(f"{asl.describe(source)}: {len(x_train):,} pictures for training, {len(x_valid):,} for validation")

# %% [markdown]
# ## 2. Look at it
# A transform is allowed if the label stays correct. A hand that is rotated by a few degrees, farther away, or in other
# light still signs the same letter, and so does its mirror image, the other hand. Nobody signs upside down, and a
# mirrored 6 is not a digit: which transforms help depends on the data.
#
# Each transform draws its parameters for each picture from the seed and the step, the same ones on every backend.

# %%
run = open_run("07_asl_augmentation", options)
transforms = {
    "Flip": augmentation.Flip(horizontal=True),
    "Rotation": augmentation.Rotation(25),
    "Zoom": augmentation.Zoom(0.75, 1.25),
    "Shift": augmentation.Shift(0.2, 0.2),
    "Shear": augmentation.Shear(20),
    "Brightness": augmentation.Brightness(0.3),
    "Contrast": augmentation.Contrast(0.5),
    "Light": augmentation.Light(0.9),
    "Noise": augmentation.Noise(0.1),
    "Erasing": augmentation.Erasing(),
}
copies = np.repeat(x_train[:1], 6, axis=0)
changed = []
for transform in transforms.values():
    one = augmentation.Augmentation([transform], fill="nearest", seed=options.seed)
    changed.append(one.apply(copies, step=0, xp=np))
names = np.repeat(np.arange(len(transforms)), len(copies))
rows = plots.sample_pictures(np.concatenate(changed), names, list(transforms), count=len(names), columns=len(copies))
run.add_figure("transforms", rows, "One hand sign, changed by each transform alone.")

# %% [markdown]
# ### All together
# All geometric transforms are combined into one, so that each picture is resampled only once and stays sharp; the
# changes of brightness are combined, too. This happens to whole batches, inside the compiled training step.

# %%
augment = augmentation.Augmentation(
    [
        augmentation.Rotation(20),
        augmentation.Zoom(0.8, 1.2, keep_ratio=False),
        augmentation.Shear(15),
        augmentation.Shift(0.15, 0.15),
        augmentation.Brightness(0.2),
        augmentation.Contrast(0.5),
        augmentation.Light(0.6),
        augmentation.Noise(0.05),
    ],
    fill="nearest",
    seed=options.seed,
)
variants = augment.apply(np.repeat(x_train[:5], 5, axis=0), step=0, xp=np)
in_training = plots.sample_pictures(variants, np.repeat(y_train[:5], 5), asl.CLASS_NAMES)
run.add_figure("variants", in_training, "Hand signs as the network sees them in training: five variants of each.")

# %% [markdown]
# ## 3. Model
# It is the convolutional network of lesson 06 with two convolutions in each block. Before each pooling it now covers
# 5×5 pixels in two steps, each with its own ReLU. Dropout increases from block to block.


# %%
def build():
    """Builds the network, each time with the same initial weights."""
    return cnn_classifier(
        input_shape=asl.INPUT_SHAPE,
        convolutions=2,
        num_classes=len(asl.CLASS_NAMES),
        dropout=(0.1, 0.2, 0.3),
        dense_dropout=0.5,
        seed=options.seed,
    )


model, plain = build(), build()
if not options.quiet:
    print(format_parameter_table(parameter_table(model)))

# %% [markdown]
# ## 4. Train
# Once with augmentation and once without, for half as many epochs: with augmentation there is more to learn.


# %%
def train(network, epochs, **settings):
    """Trains one network; the learning rate warms up and then decreases along half a cosine."""
    steps = epochs * -(-len(x_train) // options.batch_size)
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0, decay_steps=steps - steps // 20, warmup_target=0.002, warmup_steps=steps // 20
    )
    return fit(
        network,
        (x_train, y_train),
        (x_valid, y_valid),
        optimizer=keras.optimizers.Adam(schedule),
        epochs=epochs,
        batch_size=options.batch_size,
        seed=options.seed,
        **settings,
    )


history = train(
    model,
    options.epochs,
    augmentation=augment,
    run=run,
    log_steps=options.log_steps,
    progress=not options.quiet,
)
with run.inside("without_augmentation") as beside:
    plain_history = train(plain, -(-options.epochs // 2), run=beside, progress=False)

# %%
run.add_figure("curves", plots.training_curves(history), "Loss and accuracy after each epoch.")

# %% [markdown]
# ## 5. Evaluate
# Now the training loss is higher than the validation loss: it is measured on augmented pictures, which are harder, and
# with dropout. The validation pictures are not augmented.

# %%
logits = predict_logits(model, x_valid)
accuracy = evaluation.accuracy(logits, y_valid)
without = evaluation.accuracy(predict_logits(plain, x_valid), y_valid)
print(f"held-out accuracy: without augmentation {without:.2%}, with augmentation {accuracy:.2%}")

# %%
both = {"without augmentation": plain_history, "with augmentation": history}
compared = plots.loss_curves(
    {name: (columns["epoch"], columns["loss"]) for name, columns in both.items()},
    validation={name: (columns["epoch"], columns["val_loss"]) for name, columns in both.items()},
    loss_label="cross entropy (nats)",
)
run.add_figure("with_and_without", compared, "The same network with and without augmentation; validation is dashed.")

# %% [markdown]
# ### Test-time augmentation
# The network predicts several augmented views of each new picture, and the mean of the predictions counts. No further
# training is needed; inference time grows linearly with the number of views.

# %%
VIEWS = 16
augmented = evaluation.accuracy(predict_logits(model, x_valid, augmentation=augment, variants=VIEWS), y_valid)
print(f"with test-time augmentation of {VIEWS} views: {augmented:.2%}")

# %%
matrix = evaluation.confusion_matrix(y_valid, logits.argmax(axis=-1), num_classes=len(asl.CLASS_NAMES))
confusion = plots.confusion_matrix(matrix, asl.CLASS_NAMES)
run.add_figure("confusion_matrix", confusion, "Each letter, and what it was classified as.")

# %%
first = np.unique(asl.near_copies(x_valid, y_valid), return_index=True)[1]  # one picture of each series
mistakes = plots.most_wrong(x_valid[first], y_valid[first], logits[first], asl.CLASS_NAMES)
run.add_figure("most_wrong", mistakes, "The mistakes with the highest confidence.")

# %%
print(f"accuracy {accuracy:.2%} on {len(x_valid):,} held-out hand signs")
run.finish(
    model,
    history,
    title="Hand signs with augmentation",
    metrics={
        "accuracy": accuracy,
        "loss": evaluation.cross_entropy(logits, y_valid),
        "per_class": evaluation.per_class(matrix, asl.CLASS_NAMES),
        "variants": VIEWS,
        "accuracy_of_variants": augmented,
    },
    samples=len(x_train),
    card=asl.card("Hand signs, with augmentation", source),
)

# %% [markdown]
# ## 6. What to try next
# - Twice as much of everything: `Rotation(40)`, `Zoom(0.6, 1.4)`. When is it too much?
# - Add `augmentation.Flip(horizontal=True)`. All hands here are right hands; does it help, and for whose photos would
#   it help?
# - `augmentation.MixUp(0.2)` with `num_classes=24`: a mixture of two pictures, and both labels.
# - `--epochs 10`: does augmentation help from the start, or only later?
# - `VIEWS = 4`, or 64. Or half of each transform for the views only: what works best?
# - Put the layer into the model: `keras.Sequential([augment, build()])` trains with Keras' own `fit`, and does not
#   augment when it predicts.
# - `convolutions=1` in section 3: the network of lesson 06. How much does the depth contribute, how much augmentation?
# - Lesson 08 deploys a model and tries it on photos that it was not made for.
