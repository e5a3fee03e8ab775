# %% [markdown]
# # 07 · Hand signs with augmentation
# In each epoch the network sees the same hand signs turned, moved, slanted, lit and blurred in another way. It can no
# longer learn pictures by heart.
#
# - needs: one backend
# - data: hand signs, 24 letters of 28×28 pixels (drawn ones where there are no real ones)
# - time: four to eight minutes on two cores
#
# Run it with `keras-course run 07_asl_augmentation`, with `python examples/07_asl_augmentation.py`, or cell by cell in
# JupyterLab.

# %%
from keras_course.lesson import parse_options

LESSON = "07_asl_augmentation"
options = parse_options("Reads hand signs that it has seen in ever new variants.", epochs=30, batch_size=64)

# %% The backend is chosen: now Keras may be imported.
import keras
import numpy as np

from keras_course import augmentation, evaluation, plots, report
from keras_course.datasets import asl
from keras_course.models import cnn_classifier, format_parameter_table, parameter_table
from keras_course.training import fit, open_run, predict_logits

# %% [markdown]
# ## 1. Data

# %%
source = asl.locate(options.data)
(x_train, y_train), (x_valid, y_valid) = asl.load_data(source)
print(f"{asl.describe(source)}: {len(x_train):,} pictures to train on, {len(x_valid):,} to validate with")

# %% [markdown]
# ## 2. Look at it
# A change is allowed if the label stays right. A hand that is turned by a few degrees, farther away, or in other light
# still signs the same letter, and so does the other hand, which is the first one in a mirror. Upside down nobody signs,
# and a 6 in a mirror is no digit: what helps depends on the data.
#
# Each transform draws its numbers for each picture from the seed and the step, the same ones on every backend.

# %%
run = open_run(LESSON, options)
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
plots.save(
    plots.sample_pictures(np.concatenate(changed), names, list(transforms), count=len(names), columns=len(copies)),
    run.figures / "transforms.png",
)

# %% [markdown]
# ### All together
# All changes of the geometry are composed into one, so that each picture is sampled once and stays as sharp as it can;
# so are all changes of the light. That happens to whole batches, inside the compiled step of training.

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
plots.save(plots.sample_pictures(variants, np.repeat(y_train[:5], 5), asl.CLASS_NAMES), run.figures / "variants.png")

# %% [markdown]
# ## 3. Model
# It is the convolutional network of lesson 06 with two convolutions in each block, one after the other. Before each
# pooling it now looks at 5×5 pixels in two steps, each with its own ReLU; and more of what each block finds is dropped.


# %%
def build():
    """Makes the network; both times with the same initial weights."""
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
# Once with augmentation and, for half as many epochs, without. Who never sees a picture twice has more to learn.


# %%
def train(network, epochs, **settings):
    """Trains one network, with a step size that rises for a moment and then falls along half a cosine."""
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

# %% [markdown]
# ## 5. Evaluate
# The training loss is now the larger one of the two: it is measured on changed pictures, which are harder, and with
# dropout. The validation pictures are as they were.

# %%
logits = predict_logits(model, x_valid)
without = evaluation.accuracy(predict_logits(plain, x_valid), y_valid)
print(f"new hand signs that are read: without {without:.2%}, with {evaluation.accuracy(logits, y_valid):.2%}")
plots.save(plots.training_curves(history), run.figures / "curves.png")

# %% [markdown]
# ### Asked more than once
# Who is not sure looks again, from a little nearer or with the head tilted. So can the network: it is shown variants of
# each new picture, changed as in training, and the mean of what it says of them counts. That takes no training, only
# time to answer.

# %%
VARIANTS = 16
several = evaluation.accuracy(predict_logits(model, x_valid, augmentation=augment, variants=VARIANTS), y_valid)
print(f"asked about {VARIANTS} variants of each: {several:.2%}")

# %%
both = {"without augmentation": plain_history, "with augmentation": history}
plots.save(
    plots.loss_curves(
        {name: (columns["epoch"], columns["loss"]) for name, columns in both.items()},
        validation={name: (columns["epoch"], columns["val_loss"]) for name, columns in both.items()},
        loss_label="cross entropy (nats)",
    ),
    run.figures / "with_and_without.png",
)

# %%
matrix = evaluation.confusion_matrix(y_valid, logits.argmax(axis=-1), num_classes=len(asl.CLASS_NAMES))
plots.save(plots.confusion_matrix(matrix, asl.CLASS_NAMES), run.figures / "confusion_matrix.png")

# %%
first = np.unique(asl.near_copies(x_valid, y_valid), return_index=True)[1]  # one picture of each series
plots.save(
    plots.most_wrong(x_valid[first], y_valid[first], logits[first], asl.CLASS_NAMES), run.figures / "most_wrong.png"
)

# %%
metrics = run.save_results(
    model,
    history,
    options,
    accuracy=evaluation.accuracy(logits, y_valid),
    loss=evaluation.cross_entropy(logits, y_valid),
    samples=len(x_train),
    card=asl.card("Hand signs, with augmentation", source),
    per_class=evaluation.per_class(matrix, asl.CLASS_NAMES),
    variants=VARIANTS,
    accuracy_of_variants=several,
)
page = report.write_report(
    run.path,
    title="Hand signs with augmentation",
    captions={
        "transforms": "One hand sign, changed by each transform alone.",
        "variants": "Hand signs as the network sees them in training: five variants of each.",
        "curves": "Loss and accuracy, an epoch at a time.",
        "with_and_without": "The same network with augmentation and without; validation is dashed.",
        "confusion_matrix": "Which letter is taken for which.",
        "most_wrong": "The mistakes that the network is surest of.",
    },
)
run.close()
print(f"accuracy {metrics['accuracy']:.2%} on {len(x_valid):,} hand signs; the report is {page}")

# %% [markdown]
# ## 6. What to try next
# - Twice as much of everything: `Rotation(40)`, `Zoom(0.6, 1.4)`. When does it become too much?
# - Add `augmentation.Flip(horizontal=True)`. All hands here are right ones; does it help, and whom would it help?
# - `augmentation.MixUp(0.2)` with `num_classes=24`: two pictures at once, and the label is both.
# - `--epochs 10`: is augmentation better from the start, or only in the end?
# - `VARIANTS = 4`, or 64. And half as much of every change for the variants than in training: what is best for them?
# - Put the layer into the model: `keras.Sequential([augment, build()])` trains with Keras' own `fit`, and augments
#   nothing when it predicts.
# - `convolutions=1` in section 3: the network of lesson 06. How much is the depth worth, and how much the augmentation?
# - Lesson 08 puts a model to work on photos that it has not been made for.
